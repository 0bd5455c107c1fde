//! Reading out what is left of a store that a start refuses: `flintlock-check --salvage`.
//!
//! Blocks on the disk. The damaged store is only read, and what it holds makes a store of its own:
//!
//! ```text
//! engine   every record that can be read          -> the engine of the new store
//! journal  every good group behind the watermark  -> its journal, numbered anew
//! ```
//!
//! A put or a delete stands for itself, so it is taken wherever it is found. A change on top of a
//! key's state is taken only if that state is known: not if it cannot be read, and not if journal
//! is missing between the two, for that may have held another change. The key then stays as it was
//! before, and so until something in the journal gives it a whole new state. Nothing is made up.
//!
//! What lies in a stretch of the journal that is missing is not known. A delete in it leaves the
//! key as it was; a flush leaves all of a database. Keys that were written into a database whose
//! place was lost appear in one of their own.
//!
//! Memory: a few dozen bytes for each key that the journal has, and its name.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use crate::backup;
use crate::check::{CheckError, CheckOptions, Outcome, Say, check};
use crate::journal::remains::{Piece, read};
use crate::journal::{
    Depth, Dir, DiskDir, EngineAt, Group, Op, OpKind, Ops, SpaceMap, StoreId, Writer,
    WriterOptions, scan,
};
use crate::key::{KeyBuf, Seq, Space};
use crate::layout::{self, Identity, LayoutError};
use crate::recovery::{OpenError, inspect};
use crate::storage::fjall::{FjallOptions, FjallStore, Remains};
use crate::storage::{Batch, Before, ErrorKind, Meta, Record, Storage, StoreError, Write as Save};

/// Keys and bytes of one batch for the new engine.
const BATCH: (usize, usize) = (50_000, 32 << 20);
/// Journal is synced after this many bytes.
const SYNC_BYTES: usize = 32 << 20;
/// What all records of the new engine include: the journal begins behind it.
const START: Seq = Seq(1);

/// Makes `target`, which is missing or empty, a store with all that can be read of the store in
/// `root`, and writes what was saved and what was given up to `out`. Nothing is written to `root`.
///
/// [`Outcome::Good`] says that nothing was given up, [`Outcome::Damaged`] that something was.
///
/// # Errors
/// `root` is in use or holds no store whose identity can be read, `target` is not empty, or the
/// disk refuses; `target` is no store then.
pub fn salvage(root: &Path, target: &Path, out: &mut dyn Write) -> Result<Outcome, CheckError> {
    let _hold = layout::hold(root)?;
    let identity = layout::read_identity(root)?
        .ok_or_else(|| LayoutError::NoIdentity { path: root.to_owned() })?;
    if !layout::is_empty(target)? {
        return Err(LayoutError::NotEmpty { path: target.to_owned() }.into());
    }
    let copy = backup::beside(target, ".salvaging");
    backup::remove(&copy)?;
    let done = Salvage::begin(root, &copy, target, &identity, Say(out)).and_then(Salvage::run);
    // What is left of either would only be in the way.
    drop(backup::remove(&copy));
    done.inspect_err(|_| drop(backup::remove(target)))
}

/// How a key stands in the new store.
struct Known {
    /// The operations that the engine's record includes.
    included: Seq,
    /// Its state is right up to here.
    sound: Seq,
    /// Whether there is a state that a change could be made to.
    has_base: bool,
    /// The first change that was given up since its state was last whole.
    lost: Option<Seq>,
}

struct Salvage<'a> {
    say: Say<'a>,
    source: StoreId,
    journal: Arc<dyn Dir>,
    old: Option<Remains>,
    old_meta: Option<Meta>,
    target: &'a Path,
    identity: Identity,
    new: FjallStore,
    has_losses: bool,
}

impl<'a> Salvage<'a> {
    /// Opens a copy of the engine, since opening one may write, and begins the new store.
    fn begin(
        root: &Path,
        copy: &Path,
        target: &'a Path,
        identity: &Identity,
        mut say: Say<'a>,
    ) -> Result<Self, CheckError> {
        let (journal, engine) = layout::part_dirs(root);
        let mut has_losses = false;
        let opened = fs::create_dir(copy)
            .and_then(|()| backup::copy_tree(&engine, copy, &backup::link_or_copy))
            .map_err(|e| StoreError::from_io("copying the engine", e))
            .and_then(|()| Remains::open(copy));
        let old = match opened {
            Ok(old) => Some(old),
            Err(error) => {
                say.line(format_args!("given up: the whole engine: {error}"))?;
                has_losses = true;
                None
            }
        };
        let old_meta = match old.as_ref().map(Remains::meta).transpose() {
            Ok(meta) => meta,
            Err(error) => {
                say.line(format_args!("given up: the engine's record of itself: {error}"))?;
                has_losses = true;
                None
            }
        };
        backup::prepare(target)?;
        let new = FjallStore::open(&layout::part_dirs(target).1, FjallOptions::default())?;
        let journal = Arc::new(DiskDir::new(&journal));
        // Keys keep their hashes, and files of the two stores cannot be mixed up.
        let fresh = Identity::fresh().map_err(LayoutError::Random)?;
        let own = Identity { hash_key: identity.hash_key, ..fresh };
        let source = identity.store;
        Ok(Self { say, source, journal, old, old_meta, target, identity: own, new, has_losses })
    }

    fn run(mut self) -> Result<Outcome, CheckError> {
        let map = self.map()?;
        let saved = self.save_engine(&map)?;
        let logged = self.save_journal(&map)?;
        self.say
            .line(format_args!("saved: {saved} records, and {logged} operations after them"))?;
        let Self { mut say, target, identity, new, has_losses, .. } = self;
        drop(new);
        backup::seal(target, &identity)?;
        let mut findings = Vec::new();
        if check(target, CheckOptions::default(), &mut findings)? != Outcome::Good {
            let findings = String::from_utf8_lossy(&findings).into_owned();
            return Err(OpenError::Unsound { path: target.to_owned(), findings }.into());
        }
        let outcome = if has_losses { Outcome::Damaged } else { Outcome::Good };
        let all = if has_losses { "what could be read was saved" } else { "everything was saved" };
        say.line(format_args!("result: {all}"))?;
        Ok(outcome)
    }

    fn give_up(&mut self, what: std::fmt::Arguments<'_>) -> Result<(), CheckError> {
        self.has_losses = true;
        self.say.line(format_args!("given up: {what}"))
    }

    /// The databases: the newest map that there is, with a database for each space that a lost map
    /// must have had.
    fn map(&mut self) -> Result<SpaceMap, CheckError> {
        let of_engine = self.old_meta.as_ref().map(|meta| SpaceMap {
            spaces: meta.spaces.clone(),
            next_space: meta.next_space,
            dead: meta.dead.clone(),
        });
        let of_engine = of_engine.unwrap_or_default();
        let engine_at = self.old_meta.as_ref().map_or(Seq(0), |meta| meta.highest);
        // What is missing from `next` on may have been a map that the engine knew of.
        let behind_hole = |newest: SpaceMap, next: Seq| {
            let is_older = next <= engine_at && newest.next_space <= of_engine.next_space;
            if is_older { of_engine.clone() } else { newest }
        };
        let (mut newest, mut next, mut used) = (of_engine.clone(), Seq(0), BTreeSet::new());
        read(&*self.journal, &self.source, &mut |piece| {
            let Piece::Group { first, ops } = piece else { return Ok(()) };
            if first > next {
                newest = behind_hole(std::mem::take(&mut newest), next);
            }
            next = Ops::last(&ops).next();
            for op in ops {
                match op?.kind {
                    // A swap leaves the next number as it is, so the later one counts.
                    OpKind::Meta(map) if map.next_space >= newest.next_space => newest = map,
                    kind => used.extend(kind.key().map(|key| key.space)),
                }
            }
            Ok(())
        })?;
        newest = behind_hole(newest, next);
        let mut map = newest;
        let is_guess = map.spaces.is_empty();
        if is_guess && let Some(old) = &self.old {
            old.records(&mut |key, _| {
                used.insert(key.as_ref().space);
                ControlFlow::Continue(())
            });
        }
        let last = used.last().map_or(0, |space| space.0);
        if is_guess {
            // As they are numbered in a store that was never flushed.
            map.spaces = (1..=last).map(Space).collect();
            if self.old_meta.is_none() && last > 0 {
                self.give_up(format_args!(
                    "which database is which: 0 has space 1 now, and so on"
                ))?;
            }
        } else {
            for space in used.range(Space(map.next_space)..) {
                let db = map.spaces.len();
                map.spaces.push(*space);
                self.give_up(format_args!("which database had space {}: it is {db} now", space.0))?;
            }
        }
        map.next_space = map.next_space.max(last + 1);
        Ok(map)
    }

    /// Copies every record that can be read.
    fn save_engine(&mut self, map: &SpaceMap) -> Result<u64, CheckError> {
        let meta = Meta {
            watermark: START,
            highest: START,
            spaces: map.spaces.clone(),
            next_space: map.next_space,
            ..Meta::default()
        };
        let (mut saved, mut bytes, mut writes, mut failed) = (0, 0, Vec::new(), None);
        let new = &self.new;
        let commit = |writes: &mut Vec<Save>| {
            let writes = std::mem::take(writes);
            new.commit(Batch { writes, meta: meta.clone() })?;
            while new.maintain(std::time::Duration::from_secs(1))? {}
            Ok::<_, StoreError>(())
        };
        let damaged = self.old.as_ref().map_or_else(Vec::new, |old| {
            old.records(&mut |key, record| {
                if !map.spaces.contains(&key.as_ref().space) {
                    return ControlFlow::Continue(());
                }
                saved += 1;
                bytes += key.as_disk().len() + record.payload.len();
                let record = Some(Record { seq: START, ..record });
                writes.push(Save { key, record, before: Before::Absent });
                if writes.len() >= BATCH.0 || bytes >= BATCH.1 {
                    bytes = 0;
                    failed = commit(&mut writes).err();
                }
                if failed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
        });
        failed.map_or(Ok(()), Err)?;
        commit(&mut writes)?;
        for stretch in damaged {
            self.give_up(format_args!("records {stretch}"))?;
        }
        Ok(saved)
    }

    /// Copies what the journal has beyond them.
    fn save_journal(&mut self, map: &SpaceMap) -> Result<u64, CheckError> {
        let begun = self.old_meta.as_ref().map(|meta| meta.watermark);
        let new: Arc<dyn Dir> = Arc::new(DiskDir::new(&layout::part_dirs(self.target).0));
        let at = EngineAt { watermark: START, highest: START };
        // It has no watermark file yet, which is nobody's loss.
        let accepted = scan(&*new, &self.identity.store, at, Depth::Needed)?.accept(true)?;
        let (writer, _) =
            Writer::open(new, self.identity.store, WriterOptions::default(), &accepted)?;
        let mut copy = Copy {
            spaces: &map.spaces,
            old: self.old.as_ref(),
            engine_at: begun.unwrap_or_default(),
            next: begun.map(Seq::next),
            gap: None,
            keys: HashMap::new(),
            writer,
            unsynced_bytes: 0,
            logged: 0,
            unreadable: Vec::new(),
            lost: Vec::new(),
        };
        let (journal, store) = (Arc::clone(&self.journal), self.source);
        read(&*journal, &store, &mut |piece| copy.take(piece))?;
        copy.writer.close()?;
        let (logged, mut lost) = (copy.logged, copy.lost);
        let end = copy.next.map_or(Seq(0), |next| Seq(next.0 - 1));
        let mut keys: Vec<_> =
            copy.keys.into_iter().filter_map(|(key, known)| Some((key, known.lost?))).collect();
        keys.sort();
        let at = EngineAt { watermark: begun.unwrap_or(end), highest: end };
        let report = inspect(&*self.journal, &self.source, at, false, Depth::Needed)?;
        // What follows the last good group is a torn tail that nobody was promised, unless there is
        // proof of more.
        if report.proof > end {
            lost.extend(copy.unreadable);
            lost.push(format!("operations {} to {}", end.next().0, report.proof.0));
        }
        for what in lost {
            self.give_up(format_args!("{what}"))?;
        }
        for (key, seq) in keys {
            self.give_up(format_args!("changes of {key:?} from operation {} on", seq.0))?;
        }
        Ok(logged)
    }
}

/// The journal on its way into the new store.
struct Copy<'a> {
    spaces: &'a [Space],
    old: Option<&'a Remains>,
    /// Up to here the engine has everything.
    engine_at: Seq,
    /// The operation that comes next, once that is known.
    next: Option<Seq>,
    /// The last operation of what is missing.
    gap: Option<Seq>,
    keys: HashMap<KeyBuf, Known>,
    writer: Writer,
    unsynced_bytes: usize,
    logged: u64,
    /// Bytes that could not be read since the last group; others may say the same.
    unreadable: Vec<String>,
    lost: Vec<String>,
}

impl Copy<'_> {
    fn take(&mut self, piece: Piece<'_>) -> Result<(), StoreError> {
        match piece {
            Piece::Segment(header) => {
                // Numbers that an accepted loss left out are nobody's.
                if self.next.is_none_or(|next| next > header.follows && next < header.first) {
                    self.next = Some(header.first);
                }
                Ok(())
            }
            Piece::Unreadable { segment, from, to } => {
                self.unreadable.push(format!("{segment}: bytes {from} to {to}"));
                Ok(())
            }
            Piece::Group { first, ops } => {
                let next = self.next.unwrap_or(first);
                if first > next {
                    self.lost.append(&mut self.unreadable);
                    self.lost.push(format!("operations {} to {}", next.0, first.0 - 1));
                    self.gap = Some(Seq(first.0 - 1));
                }
                self.unreadable.clear();
                self.next = Some(next.max(Ops::last(&ops).next()));
                let mut group = Group::new(self.writer.next_seq());
                for op in ops {
                    let op = op?;
                    if op.seq >= next && self.is_sound(&op) {
                        push(&mut group, &op.kind)?;
                    }
                }
                self.append(group)
            }
        }
    }

    fn append(&mut self, group: Group) -> Result<(), StoreError> {
        if group.is_empty() {
            return Ok(());
        }
        self.logged += u64::from(group.count());
        self.unsynced_bytes += group.len_bytes();
        self.writer.append(group)?;
        if self.unsynced_bytes >= SYNC_BYTES {
            self.unsynced_bytes = 0;
            self.writer.sync()?;
        }
        Ok(())
    }

    /// Whether the operation makes a state that was.
    fn is_sound(&mut self, op: &Op<'_>) -> bool {
        let Some(key) = op.kind.key().filter(|key| self.spaces.contains(&key.space)) else {
            return false;
        };
        let (old, at) = (self.old, self.engine_at);
        let known = self.keys.entry(key.to_buf()).or_insert_with_key(|key| look(old, key, at));
        if op.seq <= known.included {
            return false;
        }
        let is_whole = !matches!(op.kind, OpKind::Delta { .. });
        if is_whole {
            (known.has_base, known.lost) = (true, None);
        } else if known.lost.is_some()
            || !known.has_base
            || self.gap.is_some_and(|gap| known.sound < gap)
        {
            known.lost.get_or_insert(op.seq);
            return false;
        }
        known.sound = op.seq;
        true
    }
}

/// How a key stands in the engine, which has everything up to `at`.
fn look(old: Option<&Remains>, key: &KeyBuf, at: Seq) -> Known {
    let record = old.and_then(|old| old.get(key).ok().flatten());
    let included = record.as_ref().map_or(Seq(0), |record| record.seq);
    Known { included, sound: included.max(at), has_base: record.is_some(), lost: None }
}

fn push(group: &mut Group, kind: &OpKind<'_>) -> Result<(), StoreError> {
    let pushed = match kind {
        OpKind::Put { key, expires_at_ms, payload } => {
            group.push_put(*key, *expires_at_ms, |out| out.extend_from_slice(payload))
        }
        OpKind::Delta { key, bytes } => group.push_delta(*key, |out| out.extend_from_slice(bytes)),
        OpKind::Delete { key } => group.push_delete(*key),
        OpKind::Meta(map) => group.push_meta(map),
    };
    pushed.map(drop).map_err(|_| StoreError::new(ErrorKind::TooLarge, "logging an operation"))
}
