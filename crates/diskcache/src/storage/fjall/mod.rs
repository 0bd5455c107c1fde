//! The engine: fjall's LSM tree, fed with sorted batches.
//!
//! Worker threads. One batch is one ingestion: sorted, with the store's own record first, so that
//! counts and watermark are exactly as old as the records beside them. There is no log, memtable
//! or thread of the engine's own: our journal is the log, and merging is a job
//! ([`Storage::maintain`]).
//!
//! Locks, in this order: `committer` (one batch at a time), `maintainer` (one merge at a time; a
//! batch and a merge may run together), `tree` (held only to take or swap the handle).
//!
//! After a failed write the tree is opened anew, which tells whether the batch is in: its number
//! is in the store's own record. If it is, something failed after it took effect, perhaps a sync;
//! one more ingestion then writes new version files, and only when that succeeds does the batch
//! count. If the tree cannot be opened, the outcome is [`ErrorKind::Unclear`] and the next commit
//! opens it before anything else.
//!
//! A block that cannot be read is the loss of its keys, and of nothing else: keys of it are written
//! and deleted like any other, and a merge that meets it is given up while batches go on, in a
//! first level that grows. That cannot go on for ever: see `FjallStore::make_way`.

mod backup;
mod expired;
mod maintain;
mod recent;
mod tree;
mod verify;
mod view;

pub(crate) use verify::Remains;
pub use verify::{Stretch, Verified};

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use std::time::Duration;

use crate::key::{KeyBuf, Space};
use crate::storage::codec;
use crate::storage::space::LastLook;
use crate::storage::{
    BackupProgress, Batch, Before, ErrorKind, Meta, Record, Scanned, Storage, StoreError,
    StoreStats, Write,
};

use tree::{Shared, Tree};

/// Sizes of the engine. Memory is about `cache_bytes` and 4 KiB for each open table.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct FjallOptions {
    /// Bytes of the block cache, which also holds index and filter blocks.
    pub cache_bytes: u64,
    /// Bytes of one data block: what a cold read fetches.
    pub block_bytes: u32,
    /// Bytes of one table; a merge works on a few tables at a time.
    pub table_bytes: u64,
    /// Bytes of new batches that make a merge with the level below due, if they are a quarter of
    /// the tree; at least 4 batches, at most 20 however small they are.
    pub merge_bytes: u64,
    /// Table files held open.
    pub open_files: usize,
}

impl Default for FjallOptions {
    fn default() -> Self {
        Self {
            cache_bytes: 16 << 20,
            block_bytes: 4 << 10,
            table_bytes: 16 << 20,
            merge_bytes: 96 << 20,
            open_files: 256,
        }
    }
}

/// The default engine.
pub struct FjallStore {
    path: PathBuf,
    shared: Shared,
    tree: RwLock<Arc<Tree>>,
    committer: Mutex<Committer>,
    maintainer: Mutex<maintain::Maintainer>,
    ledger: Mutex<Ledger>,
    /// A write failed since the tree was opened: it must be opened anew before the next.
    suspect: AtomicBool,
    /// Dead spaces of which nothing is left; the next commit forgets them.
    purged: Mutex<BTreeSet<Space>>,
    last_look: LastLook,
}

/// The state committed last, and what is in doubt about it.
#[derive(Debug)]
struct Committer {
    meta: Meta,
    /// Number of the last batch.
    commit: u64,
    /// A batch took effect although its caller was told that this is unclear: what callers know
    /// about a key's state before may be wrong from then on.
    distrust: bool,
}

/// Figures that are kept rather than counted when asked for.
#[derive(Copy, Clone, Debug, Default)]
struct Ledger {
    newest_table: u64,
    written_bytes: u64,
    /// Records in spaces that are not dead.
    live: u64,
    /// Those of dead spaces too, until nothing is left of the space.
    records: u64,
    merge_failures: u64,
    unread_overwrites: u64,
}

impl Ledger {
    fn count(&mut self, meta: &Meta) {
        let live = meta.counts.iter().filter(|(space, _)| !meta.dead.contains(space));
        self.live = live.map(|(_, records)| records).sum();
        self.records = meta.counts.values().sum();
    }
}

impl FjallStore {
    /// Opens or creates the engine in the directory `path`.
    ///
    /// # Errors
    /// A failed read or write, or a damaged engine; nothing is changed then.
    pub fn open(path: &Path, options: FjallOptions) -> Result<Self, StoreError> {
        let shared = Shared::new(options);
        let tree = Tree::open(path, &shared)?;
        let (meta, commit) = read_meta(&tree)?;
        if commit == 0 {
            tree.fence()?;
        }
        shared.rules.set_dead(meta.dead.clone());
        let mut ledger = Ledger { newest_table: tree.written(0).0, ..Ledger::default() };
        ledger.count(&meta);
        Ok(Self {
            path: path.to_owned(),
            shared,
            tree: RwLock::new(Arc::new(tree)),
            committer: Mutex::new(Committer { meta, commit, distrust: false }),
            suspect: AtomicBool::new(false),
            purged: Mutex::default(),
            maintainer: Mutex::default(),
            ledger: Mutex::new(ledger),
            last_look: LastLook::default(),
        })
    }

    /// Whether an engine has been created in `path`.
    #[must_use]
    pub fn exists(path: &Path) -> bool {
        path.join("current").is_file()
    }

    fn stored_meta(&self) -> Result<Meta, StoreError> {
        self.reading(|tree| read_meta(tree).map(|(meta, _)| meta))
    }

    /// Replaces the counts that the next commit starts from.
    fn set_counts(&self, counts: BTreeMap<Space, u64>) {
        self.committer().meta.counts = counts;
    }

    fn tree(&self) -> Arc<Tree> {
        Arc::clone(&self.tree.read().expect("nothing panics while it holds the lock"))
    }

    fn committer(&self) -> MutexGuard<'_, Committer> {
        self.committer.lock().unwrap_or_else(|poisoned| {
            // A panic in the middle of a commit: as after a failed write.
            self.set_suspect();
            poisoned.into_inner()
        })
    }

    fn suspect(&self) -> bool {
        self.suspect.load(Ordering::Relaxed)
    }

    fn set_suspect(&self) {
        self.suspect.store(true, Ordering::Relaxed);
    }

    /// Runs `read` on the tree; anew if the tree was opened anew meanwhile, which takes files away
    /// from readers of the old one.
    fn reading<T>(
        &self,
        mut read: impl FnMut(&Tree) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        loop {
            let tree = self.tree();
            let result = read(&tree);
            if result.is_ok() || Arc::ptr_eq(&tree, &self.tree()) {
                return result;
            }
        }
    }

    fn purged(&self) -> MutexGuard<'_, BTreeSet<Space>> {
        self.purged.lock().expect("nothing panics while it holds the lock")
    }

    /// Opens the tree anew. No merge runs meanwhile: two openings must not write.
    fn reopen(&self, committer: &mut Committer) -> Result<(), StoreError> {
        self.shared.rules.pause(true);
        let maintainer = self.maintainer();
        self.shared.rules.pause(false);
        self.set_suspect();
        let tree = Tree::open(&self.path, &self.shared)?;
        let (meta, commit) = read_meta(&tree)?;
        *self.tree.write().expect("nothing panics while it holds the lock") = Arc::new(tree);
        drop(maintainer);
        if commit != committer.commit {
            committer.distrust = true;
        }
        committer.meta = meta;
        committer.commit = commit;
        self.suspect.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Finds out whether batch number `commit` is in, after `error` in writing it.
    fn resolve(
        &self,
        committer: &mut Committer,
        commit: u64,
        error: StoreError,
    ) -> Result<(), StoreError> {
        let unclear = |source| StoreError {
            kind: ErrorKind::Unclear,
            what: "finding out whether a batch was written",
            source: Some(Box::new(source)),
        };
        let distrusted = committer.distrust;
        self.reopen(committer).map_err(unclear)?;
        committer.distrust = distrusted;
        if committer.commit != commit {
            return Err(error);
        }
        let meta = committer.meta.clone();
        let affirmed = self.ingest(&meta, commit, &[]);
        if affirmed.is_err() {
            self.set_suspect();
            // The caller will be told that it is unclear although the batch is in.
            committer.distrust = true;
        }
        affirmed.map_err(unclear)
    }

    /// Sorts the batch, looks up what its author does not know, and returns the new counts, with
    /// how many writes they are a guess for.
    ///
    /// A record that cannot be read is replaced or deleted all the same: its key is lost if it is
    /// not written, and every other key of the batch with it. Whether it was there counts towards
    /// the higher number: a count of zero is taken to mean that there is nothing to look for, and
    /// one that is too low would turn keys into misses.
    fn prepare(
        &self,
        committer: &Committer,
        purged: &BTreeSet<Space>,
        batch: &mut Batch,
    ) -> (Meta, u64) {
        let mut meta = std::mem::take(&mut batch.meta);
        meta.dead.retain(|space| !purged.contains(space));
        meta.counts = committer.meta.counts.clone();
        meta.counts.retain(|space, _| !purged.contains(space));
        batch.writes.retain(|w| !meta.dead.contains(&w.key.as_ref().space));
        batch.writes.sort_by(|a, b| a.key.cmp(&b.key));
        let tree = self.tree();
        let mut unread = 0;
        batch.writes.retain(|write| {
            let present = match write.before {
                Before::Present if !committer.distrust => Some(true),
                Before::Absent if !committer.distrust => Some(false),
                _ => lookup(&tree, &write.key).ok().map(|record| record.is_some()),
            };
            unread += u64::from(present.is_none());
            let count = meta.counts.entry(write.key.as_ref().space).or_default();
            match (present, write.record.is_some()) {
                (Some(false) | None, true) => *count += 1,
                (Some(true), false) => *count = count.saturating_sub(1),
                // Nothing is there, so nothing needs to be deleted.
                (Some(false), false) => return false,
                (Some(true), true) | (None, false) => {}
            }
            true
        });
        (meta, unread)
    }

    fn ingest(&self, meta: &Meta, commit: u64, writes: &[Write]) -> Result<(), StoreError> {
        let tree = self.tree();
        let meta_key = codec::meta_key();
        let mut buf = Vec::new();
        codec::encode(meta_key.as_disk(), &codec::encode_meta(meta, commit), &mut buf)?;
        let first = (meta_key.as_disk(), Some(buf.as_slice().into()));
        let keys: Vec<_> = writes.iter().map(|w| codec::engine_key(w.key.as_disk())).collect();
        let rest = writes.iter().zip(&keys).map(|(write, key)| {
            let Some(record) = &write.record else { return Ok((&**key, None)) };
            buf.clear();
            codec::encode(write.key.as_disk(), record, &mut buf)?;
            Ok((&**key, Some(buf.as_slice().into())))
        });
        tree.ingest(std::iter::once(Ok(first)).chain(rest))?;
        self.note_written(&tree);
        // Only space is at stake, and the next batch tries again.
        let _ = tree.collect();
        Ok(())
    }

    fn note_written(&self, tree: &Tree) {
        loop {
            // Not under the lock, which whoever asks for figures takes: this may wait for the disk.
            let known = self.ledger().newest_table;
            let (newest, bytes) = tree.written(known);
            let mut ledger = self.ledger();
            if ledger.newest_table == known {
                ledger.newest_table = newest;
                ledger.written_bytes += bytes;
                return;
            }
        }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().expect("nothing panics while it holds the lock")
    }
}

fn lookup(tree: &Tree, key: &KeyBuf) -> Result<Option<Record>, StoreError> {
    let bytes = tree.get(&codec::engine_key(key.as_disk()))?;
    bytes.map(|bytes| codec::decode_of(key.as_disk(), &bytes)).transpose()
}

fn read_meta(tree: &Tree) -> Result<(Meta, u64), StoreError> {
    match lookup(tree, &codec::meta_key())? {
        Some(record) => codec::decode_meta(&record),
        None => Ok((Meta::default(), 0)),
    }
}

impl fmt::Debug for FjallStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FjallStore").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Storage for FjallStore {
    fn get_many(&self, keys: &[KeyBuf], out: &mut Vec<Option<Record>>) -> Result<(), StoreError> {
        let before = out.len();
        self.reading(|tree| {
            out.truncate(before);
            for key in keys {
                out.push(lookup(tree, key)?);
            }
            Ok(())
        })
        .inspect_err(|_| out.truncate(before))
    }

    fn commit(&self, mut batch: Batch) -> Result<BTreeMap<Space, u64>, StoreError> {
        let committer = &mut *self.committer();
        if self.suspect() {
            self.reopen(committer)?;
        }
        assert!(batch.meta.highest >= batch.meta.watermark, "the highest is at least all");
        assert!(batch.meta.watermark >= committer.meta.watermark, "the watermark only rises");
        self.make_way()?;
        if self.suspect() {
            // A merge failed.
            self.reopen(committer)?;
        }
        let purged = self.purged().clone();
        let (meta, unread) = self.prepare(committer, &purged, &mut batch);
        debug_assert!(
            batch.writes.windows(2).all(|w| w[0].key < w[1].key),
            "each key once in a batch"
        );
        let commit = committer.commit + 1;
        if let Err(error) = self.ingest(&meta, commit, &batch.writes) {
            self.resolve(committer, commit, error)?;
        }
        self.shared.rules.set_dead(meta.dead.clone());
        self.purged().retain(|space| !purged.contains(space));
        let mut ledger = self.ledger();
        ledger.count(&meta);
        ledger.unread_overwrites += unread;
        drop(ledger);
        committer.commit = commit;
        committer.meta = meta;
        Ok(committer.meta.counts.clone())
    }

    fn scan(
        &self,
        from: &KeyBuf,
        limit: usize,
        limit_bytes: usize,
        out: &mut Vec<Scanned>,
    ) -> Result<bool, StoreError> {
        let before = out.len();
        let end = codec::space_end(from.as_ref().space);
        let first = codec::scan_start(from.as_disk());
        self.reading(|tree| {
            out.truncate(before);
            let mut left = limit_bytes;
            for item in tree.range(first, end) {
                let (key, value) = item?;
                let (key, record) = codec::decode(&key, &value)?;
                if key < *from {
                    continue;
                }
                if out.len() - before == limit {
                    return Ok(true);
                }
                let bytes = key.as_disk().len() + record.payload.len();
                if bytes > left && out.len() > before {
                    return Ok(true);
                }
                left = left.saturating_sub(bytes);
                out.push(Scanned { key, record });
            }
            Ok(false)
        })
        .inspect_err(|_| out.truncate(before))
    }

    fn meta(&self) -> Result<Meta, StoreError> {
        if self.suspect() {
            // Only a tree opened anew shows whether the batch before is in.
            let committer = &mut *self.committer();
            if self.suspect() {
                self.reopen(committer)?;
            }
            return Ok(committer.meta.clone());
        }
        self.stored_meta()
    }

    fn maintain(&self, budget: Duration) -> Result<bool, StoreError> {
        self.maintain_for(budget)
    }

    fn take_expired(&self, max: usize) -> Vec<KeyBuf> {
        self.shared.rules.expired.take(max)
    }

    fn backup(&self, dir: &Path, progress: &dyn Fn(BackupProgress)) -> Result<(), StoreError> {
        self.backup_to(dir, progress)
    }

    fn set_cache_bytes(&self, bytes: u64) {
        self.shared.set_cache_bytes(bytes);
    }

    fn interrupt(&self) {
        self.shared.rules.close();
    }

    fn stats(&self) -> StoreStats {
        let (figures, ledger) = (self.tree().figures(), *self.ledger());
        StoreStats {
            disk_bytes: figures.disk_bytes,
            memory_bytes: self.shared.memory_bytes(&figures),
            runs: figures.runs,
            written_bytes: ledger.written_bytes,
            merge_failures: ledger.merge_failures,
            unread_overwrites: ledger.unread_overwrites,
            space: self.last_look.space(&self.path),
        }
    }
}
