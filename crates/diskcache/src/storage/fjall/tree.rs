//! The LSM tree, driven from outside: the only file that names `lsm_tree`.
//!
//! Worker threads. The tree is the one under fjall, used without fjall's journal, memtables and
//! threads: each batch becomes sorted tables by [`Tree::ingest`], and merges are jobs that our
//! storage pool runs by [`Tree::compact`]. What was found in the source of lsm-tree 3.1.10 and
//! matters here:
//!
//! - An ingestion is durable when it returns: table files and their directory are synced, then the
//!   new version file and its directory, then `current` is replaced by rename and synced twice.
//! - It is atomic: nothing is visible before the version is persisted. When persisting fails half
//!   way, memory and disk may disagree about the version, and the next version would overwrite the
//!   file that `current` may name. So after any failed write the tree is opened anew before it is
//!   written again ([`super::FjallStore`] sees to that); opening also removes orphaned tables.
//! - The version file counts the runs of a level in 8 bits. [`RUNS_END`] keeps away from it.
//! - Old versions, and with them old tables, are kept until [`Tree::collect`].
//! - A tombstone is dropped only in a merge into the last level.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};

use lsm_tree::compaction::filter::Context;
use lsm_tree::compaction::{CompactionFilter, Factory, ItemAccessor, Leveled, MoveDown, Verdict};
use lsm_tree::config::{BlockSizePolicy, CompressionPolicy, PinningPolicy};
use lsm_tree::{
    AbstractTree, AnyTree, Cache, CompressionType, Config, DescriptorTable, SequenceNumberCounter,
    Slice,
};

use crate::key::{KEY_PREFIX_LEN, Space};
use crate::storage::codec::{space_end, space_of};
use crate::storage::fjall::FjallOptions;
use crate::storage::fjall::expired::{Expired, Look};
use crate::storage::fjall::recent::{self, Filter};
use crate::storage::fjall::view::{self, Filters, View};
use crate::storage::{ErrorKind, StoreError};

/// More sorted runs than this in the first level are merged before another batch is taken.
pub(super) const RUNS_MAX: usize = 48;
/// With this many, merges having failed, no batch is taken.
pub(super) const RUNS_END: usize = 192;
/// Keys of the first and the last record of a tree; see [`Tree::fence`].
pub(super) const FENCES: [&[u8; KEY_PREFIX_LEN]; 2] =
    [&[0; KEY_PREFIX_LEN], &[u8::MAX; KEY_PREFIX_LEN]];
/// Levels of a tree, the first included.
const LEVELS: usize = 7;
/// Sees everything that was committed.
pub(super) const LATEST: u64 = i64::MAX as u64;

/// What outlives one opening of the tree.
pub(super) struct Shared {
    pub(super) options: FjallOptions,
    /// Its size is fixed by what it was made with, so another size is another cache, and the tree
    /// must be opened anew to use that.
    blocks: Mutex<Arc<Cache>>,
    /// The size that the cache should have.
    cache_bytes: AtomicU64,
    files: Arc<DescriptorTable>,
    pub(super) rules: Arc<Rules>,
}

impl Shared {
    pub(super) fn new(options: FjallOptions) -> Self {
        Self {
            blocks: Mutex::new(Arc::new(Cache::with_capacity_bytes(options.cache_bytes))),
            cache_bytes: AtomicU64::new(options.cache_bytes),
            files: Arc::new(DescriptorTable::new(options.open_files)),
            rules: Arc::new(Rules::default()),
            options,
        }
    }

    /// Bytes in the block cache.
    pub(super) fn cached_bytes(&self) -> u64 {
        self.blocks().size()
    }

    /// Sets the size of the block cache of the next opening.
    pub(super) fn set_cache_bytes(&self, bytes: u64) {
        self.cache_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Whether another size was asked for than the block cache has.
    pub(super) fn is_cache_outsized(&self) -> bool {
        self.blocks().capacity() != self.cache_bytes.load(Ordering::Relaxed)
    }

    fn blocks(&self) -> MutexGuard<'_, Arc<Cache>> {
        self.blocks.lock().expect("nothing panics while it holds the lock")
    }

    /// The block cache for an opening.
    fn sized_blocks(&self) -> Arc<Cache> {
        if self.is_cache_outsized() {
            let cache = Cache::with_capacity_bytes(self.cache_bytes.load(Ordering::Relaxed));
            *self.blocks() = Arc::new(cache);
        }
        Arc::clone(&self.blocks())
    }
}

/// What a merge leaves out and what it looks for, and whether it should give up.
#[derive(Debug, Default)]
pub(super) struct Rules {
    dead: Mutex<Arc<[Space]>>,
    pub(super) expired: Expired,
    /// Set while the tree is opened anew.
    paused: AtomicBool,
    /// Set for good when the store is to be closed.
    closing: AtomicBool,
}

impl Rules {
    pub(super) fn dead(&self) -> Arc<[Space]> {
        Arc::clone(&self.dead.lock().expect("nothing panics while it holds the lock"))
    }

    pub(super) fn set_dead(&self, mut dead: Vec<Space>) {
        dead.sort();
        *self.dead.lock().expect("nothing panics while it holds the lock") = dead.into();
    }

    /// Ends a running merge at its next record; it is as if it had never begun.
    pub(super) fn pause(&self, on: bool) {
        self.paused.store(on, Ordering::Relaxed);
    }

    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    pub(super) fn stopped(&self) -> bool {
        self.paused.load(Ordering::Relaxed) || self.closing.load(Ordering::Relaxed)
    }
}

struct Purge(Arc<Rules>);

impl Factory for Purge {
    fn name(&self) -> &str {
        "dead spaces and expired records"
    }

    fn make_filter(&self, _: &Context) -> Box<dyn CompactionFilter> {
        Box::new(PurgeOne { rules: Arc::clone(&self.0), dead: self.0.dead(), look: Look::new() })
    }
}

struct PurgeOne {
    rules: Arc<Rules>,
    dead: Arc<[Space]>,
    look: Look,
}

impl CompactionFilter for PurgeOne {
    fn filter_item(&mut self, item: ItemAccessor<'_>, _: &Context) -> lsm_tree::Result<Verdict> {
        if self.rules.stopped() {
            return Err(lsm_tree::Error::Io(io::ErrorKind::Interrupted.into()));
        }
        // No tombstone is needed: nobody reads a dead space, and what an older level still holds
        // of it is left out when its turn comes.
        let dead =
            space_of(item.key()).is_some_and(|space| self.dead.binary_search(&space).is_ok());
        if dead {
            return Ok(Verdict::Destroy);
        }
        self.look.note(item.key(), &item.value()?);
        Ok(Verdict::Keep)
    }

    fn finish(self: Box<Self>) {
        let Self { rules, look, .. } = *self;
        rules.expired.add(look.into_found());
    }
}

/// The tree, opened once.
pub(super) struct Tree {
    tree: AnyTree,
    /// What reads see; replaced by everything that makes a version.
    view: RwLock<Arc<View>>,
    /// Views that readers may still use. Whoever lets the last one of a view go deletes its tables,
    /// which takes long: that must not be a reader.
    retired: Mutex<Vec<Arc<View>>>,
    /// Filters of the first level's runs. Held over the end of an ingestion.
    filters: Mutex<Filters>,
    seqno: SequenceNumberCounter,
    path: PathBuf,
}

/// When levelled compaction finds a merge due.
#[derive(Copy, Clone, Debug)]
pub(super) struct Levels {
    /// Sorted runs in the first level that make its merge due. The next level is full at this many
    /// tables, so with 0 every level above the last is over its size.
    pub(super) runs_due: u8,
    pub(super) table_bytes: u64,
}

/// A table as a file.
pub(super) struct TableFile {
    pub(super) path: PathBuf,
    pub(super) len_bytes: u64,
    /// Without the marks of deletions.
    pub(super) records: u64,
}

/// The files of one version.
pub(super) struct Files {
    pub(super) tables: Vec<TableFile>,
    /// The other files, by name, with their content.
    pub(super) small: Vec<(String, Vec<u8>)>,
}

/// What the tree consists of.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct Figures {
    pub(super) disk_bytes: u64,
    /// Records, superseded ones and tombstones included.
    pub(super) items: u64,
    pub(super) tombstones: u64,
    pub(super) tables: u64,
    pub(super) runs: u64,
    pub(super) pinned_bytes: u64,
}

impl Tree {
    pub(super) fn open(path: &Path, shared: &Shared) -> Result<Self, StoreError> {
        guarded("opening the engine", || {
            let seqno = SequenceNumberCounter::default();
            let visible = SequenceNumberCounter::default();
            let tree = Config::new(path, seqno.clone(), visible.clone())
                .use_cache(shared.sized_blocks())
                .use_descriptor_table(Some(Arc::clone(&shared.files)))
                // Said outright: the default depends on which features others switch on.
                .data_block_compression_policy(CompressionPolicy::all(CompressionType::None))
                .data_block_size_policy(BlockSizePolicy::all(shared.options.block_bytes))
                // Index and filter are read in pieces through the cache, so that memory stays at
                // what the cache was given, however large the store.
                .index_block_partitioning_policy(PinningPolicy::all(true))
                .filter_block_partitioning_policy(PinningPolicy::all(true))
                .index_block_pinning_policy(PinningPolicy::all(false))
                .filter_block_pinning_policy(PinningPolicy::all(false))
                .with_compaction_filter_factory(Some(Arc::new(Purge(Arc::clone(&shared.rules)))))
                .open()?;
            let next = tree.get_highest_persisted_seqno().map_or(0, |highest| highest + 1);
            seqno.fetch_max(next);
            visible.fetch_max(next);
            Ok(Self {
                view: RwLock::new(Arc::new(View::of(&tree, &Filters::new()))),
                tree,
                retired: Mutex::default(),
                filters: Mutex::default(),
                seqno,
                path: path.to_owned(),
            })
        })
    }

    pub(super) fn get(&self, engine_key: &[u8]) -> Result<Option<Slice>, StoreError> {
        let view = self.view();
        guarded("reading the engine", || view.get(engine_key))
    }

    fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.read().expect("nothing panics while it holds the lock"))
    }

    /// Lets reads see the newest version.
    fn renew(&self) -> Result<(), StoreError> {
        self.renew_with(&mut self.filters())
    }

    fn renew_with(&self, filters: &mut Filters) -> Result<(), StoreError> {
        let recent = self.recent_seqnos();
        filters.retain(|seqno, _| recent.contains(seqno));
        let view =
            guarded("taking up a new version", || Ok(Arc::new(View::of(&self.tree, filters))))?;
        let mut current = self.view.write().expect("nothing panics while it holds the lock");
        let old = std::mem::replace(&mut *current, view);
        drop(current);
        self.retired().push(old);
        Ok(())
    }

    /// The numbers of the ingestions whose tables are in the first level.
    fn recent_seqnos(&self) -> BTreeSet<u64> {
        let version = self.tree.current_version();
        let runs = version.level(0).into_iter().flat_map(|level| level.iter());
        runs.flat_map(|run| run.iter()).map(|table| table.global_seqno()).collect()
    }

    fn filters(&self) -> MutexGuard<'_, Filters> {
        self.filters.lock().unwrap_or_else(|poisoned| {
            // A panic in the tree: every filter in there is still that of its number.
            poisoned.into_inner()
        })
    }

    fn retired(&self) -> MutexGuard<'_, Vec<Arc<View>>> {
        self.retired.lock().expect("nothing panics while it holds the lock")
    }

    /// Writes `items` (ascending, `None` deletes) as tables; durable when it returns. After an
    /// error the tree must be opened anew before anything else is written.
    pub(super) fn ingest<'a>(
        &self,
        items: impl Iterator<Item = Result<(&'a [u8], Option<Slice>), StoreError>>,
    ) -> Result<(), StoreError> {
        const WHAT: &str = "writing a batch to the engine";
        let mut ingestion = guarded(WHAT, || self.tree.ingestion())?;
        let mut hashes = Vec::new();
        for item in items {
            let (key, value) = item?;
            hashes.push(recent::hash_of(key));
            guarded(WHAT, || match value {
                Some(value) => ingestion.write(key, value),
                None => ingestion.write_tombstone(key),
            })?;
        }
        let filter = Arc::new(Filter::of(&hashes));
        drop(hashes);
        // Nothing else is ingested while this is held, and nothing else gives numbers to tables:
        // tables with a number from here on are this ingestion's. If a merge has taken them away
        // by the time of the look, nobody needs the filter.
        let mut filters = self.filters();
        let next = self.seqno.get();
        guarded(WHAT, || ingestion.finish())?;
        // Number 0 is that of every table a merge has written, and of a new tree's first ingestion.
        let own = self.recent_seqnos().range(next.max(1)..).next_back().copied();
        filters.extend(own.map(|seqno| (seqno, filter)));
        self.renew_with(&mut filters)
    }

    /// Makes the filter of one ingestion in the first level that has none, because its tables were
    /// there when the tree was opened. False when all have one, or when `is_stopped` says so.
    ///
    /// Of a table that cannot be read nothing is kept out, so whoever looks for a key in it meets
    /// the error, as the next merge of it does; it is not read for its filter again.
    ///
    /// # Errors
    /// The new version cannot be taken up.
    pub(super) fn filter_one(&self, is_stopped: impl Fn() -> bool) -> Result<bool, StoreError> {
        // An ingestion holds the lock until its filter is in.
        let filters = self.filters();
        let version = self.tree.current_version();
        let recent = || version.level(0).into_iter().flat_map(|level| level.iter());
        let mut seqnos = recent().filter_map(|run| view::seqno_of(run));
        let Some(seqno) = seqnos.find(|seqno| !filters.contains_key(seqno)) else {
            return Ok(false);
        };
        drop(filters);
        let mut hashes = Vec::new();
        let read = guarded("reading the keys of a table", || {
            for table in recent().flat_map(|run| run.iter()) {
                if table.global_seqno() == seqno {
                    for item in table.scan()? {
                        hashes.push(recent::hash_of(&item?.key.user_key));
                    }
                }
                if is_stopped() {
                    return Ok(false);
                }
            }
            Ok(true)
        });
        let filter = match read {
            Ok(true) => Filter::of(&hashes),
            Ok(false) => return Ok(false),
            Err(_) => Filter::of_all(),
        };
        let mut filters = self.filters();
        filters.insert(seqno, Arc::new(filter));
        self.renew_with(&mut filters)?;
        Ok(true)
    }

    /// Puts a first and a last record into the last level of a new tree. Levelled compaction pushes
    /// a table down only into tables whose keys enclose its own: between these two, all are.
    pub(super) fn fence(&self) -> Result<(), StoreError> {
        self.ingest(FENCES.iter().map(|end| Ok((&end[..], Some(Slice::empty())))))?;
        self.compact_all(u64::MAX)
    }

    /// The records from `from` on and below `end`, in order.
    pub(super) fn range(
        &self,
        from: &[u8],
        end: Option<[u8; 4]>,
    ) -> impl Iterator<Item = Result<(Slice, Slice), StoreError>> + use<> {
        let end = end.map_or(Bound::Unbounded, |end| Bound::Excluded(Slice::from(end)));
        let bounds = (Bound::Included(Slice::from(from)), end);
        let mut iter = self.view().range(&bounds);
        std::iter::from_fn(move || {
            guarded("scanning the engine", || iter.next().transpose()).transpose()
        })
    }

    /// Runs one merge or move that levelled compaction finds due; false when there is none.
    pub(super) fn compact(&self, levels: Levels) -> Result<bool, StoreError> {
        let before = self.version();
        self.close_gaps()?;
        let strategy = Leveled::default()
            .with_l0_threshold(levels.runs_due)
            .with_table_target_size(levels.table_bytes);
        guarded("merging the engine's tables", || {
            self.tree.compact(Arc::new(strategy), self.seqno.get())
        })?;
        self.renew()?;
        Ok(self.version() != before)
    }

    /// Moves levels down over empty ones below them, which levelled compaction in 3.1.10 takes for
    /// overlapping (a debug assertion only). Dropping tables leaves such gaps.
    fn close_gaps(&self) -> Result<(), StoreError> {
        let empty = |level| self.tree.level_table_count(level) == Some(0);
        for to in (2..LEVELS).rev() {
            let Some(from) = (1..to).rev().find(|&from| !empty(from)).filter(|_| empty(to)) else {
                continue;
            };
            let level = |n: usize| u8::try_from(n).expect("seven levels");
            let down = Arc::new(MoveDown(level(from), level(to)));
            guarded("closing a gap between levels", || self.tree.compact(down, self.seqno.get()))?;
        }
        Ok(())
    }

    /// Merges everything into the last level.
    pub(super) fn compact_all(&self, table_bytes: u64) -> Result<(), StoreError> {
        guarded("merging all of the engine's tables", || {
            self.tree.major_compact(table_bytes, self.seqno.get())
        })?;
        self.renew()
    }

    /// Drops the tables that hold nothing but keys of `space`.
    pub(super) fn drop_space(&self, space: Space) -> Result<(), StoreError> {
        let from = Bound::Included(Slice::from(space.0.to_be_bytes()));
        let end = space_end(space).map_or(Bound::Unbounded, |e| Bound::Excluded(Slice::from(e)));
        guarded("dropping a dead space", || self.tree.drop_range::<Slice, _>((from, end)))?;
        self.renew()
    }

    /// Forgets old versions and the tables that only they hold.
    pub(super) fn collect(&self) -> Result<(), StoreError> {
        // Nobody can get hold of a retired view any more: one that is ours alone stays ours.
        self.retired().retain(|view| Arc::strong_count(view) > 1);
        guarded("dropping old versions", || {
            self.tree.get_version_history_lock().maintenance(&self.path, self.seqno.get())
        })
    }

    /// Sorted runs in the first level, and their bytes.
    pub(super) fn first_level(&self) -> (usize, u64) {
        let version = self.tree.current_version();
        version.level(0).map_or((0, 0), |level| (level.run_count(), level.size()))
    }

    /// What the view that reads see consists of; waits for nothing.
    pub(super) fn figures(&self) -> Figures {
        self.view().figures
    }

    /// The newest table, and the bytes of all that are newer than `newer_than`.
    pub(super) fn written(&self, newer_than: u64) -> (u64, u64) {
        let version = self.tree.current_version();
        let new = version.iter_tables().filter(|table| table.metadata.id > newer_than);
        new.fold((newer_than, 0), |(newest, bytes), table| {
            (newest.max(table.metadata.id), bytes + table.metadata.file_size)
        })
    }

    pub(super) fn version(&self) -> u64 {
        self.tree.current_version().id()
    }

    /// Calls `each` with the files of the current version, which stay until it returns.
    pub(super) fn with_files<T>(
        &self,
        each: impl FnOnce(&Files) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        const CURRENT: &str = "current";
        loop {
            let version = self.tree.current_version();
            let name = format!("v{}", version.id());
            let read = |name: &str| fs::read(self.path.join(name));
            let (current, list) = match (read(CURRENT), read(&name)) {
                (Ok(current), Ok(list)) => (current, list),
                // Another version was persisted meanwhile, and this one collected.
                (_, Err(e)) if e.kind() == io::ErrorKind::NotFound => continue,
                (Err(e), _) | (_, Err(e)) => {
                    return Err(StoreError::from_io("reading the engine's version", e));
                }
            };
            if current.first_chunk() != Some(&version.id().to_le_bytes()) {
                continue;
            }
            let tables = version.iter_tables();
            let tables = tables.map(|table| {
                let meta = &table.metadata;
                let marks = meta.tombstone_count + meta.weak_tombstone_count;
                let records = meta.item_count.saturating_sub(marks);
                TableFile { path: table.path.to_path_buf(), len_bytes: meta.file_size, records }
            });
            let tables = tables.collect();
            let small = vec![(name, list), (CURRENT.to_owned(), current)];
            return each(&Files { tables, small });
        }
    }
}

/// Runs one call into the tree. A panic in there is an error out here; the tree's locks may then
/// be poisoned, so that every later call fails until it is opened anew.
fn guarded<T>(
    what: &'static str,
    call: impl FnOnce() -> lsm_tree::Result<T>,
) -> Result<T, StoreError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(lsm_tree::Error::Io(e))) => Err(StoreError::from_io(what, e)),
        Ok(Err(e)) => Err(StoreError { kind: ErrorKind::Corrupt, what, source: Some(Box::new(e)) }),
        Err(_) => Err(StoreError::corrupt(what)),
    }
}
