//! Reading stretches of keys from memory and disk together: SCAN, KEYS, RANDOMKEY, DBSIZE.
//!
//! Main thread; pure: records come in, keys go out. Memory and disk are both in hash order, so a
//! stretch of one is merged with the same stretch of the other. What memory knows overrides what
//! the disk says, of a key's type and expiry too. What memory knows is noted *before* the disk is
//! asked, of keys that are there and of keys that are not: a key that is saved and evicted in
//! between would be in neither otherwise, and one whose delete is saved and forgotten in between
//! would be there again, by a record read before. What memory forgets until the walk ends is noted
//! too, see `keyspace::forgotten`.
//!
//! Without a disk tier the same walk runs over memory alone.

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;

use flintlock_diskcache::key::{KeyBuf, KeyRef, Space};
use flintlock_diskcache::op;

use crate::command::{Request, WalkPlan};
use crate::keyspace::entry::EntryRef;
use crate::keyspace::forgotten::{Fact, Notes};
use crate::keyspace::{Hasher, Key, Keyspace};
use crate::types::codec;
use crate::types::heap_bytes;
use crate::util::glob;

use super::names::Names;

/// Bytes of records that one read of a stretch may fetch.
const STRETCH_BYTES: usize = 1 << 20;
/// Keys of one stretch where the caller names no number.
const STRETCH_KEYS: usize = 1000;
/// Keys looked at to choose one at random.
const RANDOM_KEYS: usize = 16;
/// Positions end in this many zero bits: a cursor of 48 bits holds them, see SCAN.
pub(crate) const POSITION_BITS: u32 = 16;

/// How far a walk goes.
#[derive(Clone, Eq, PartialEq, Debug)]
pub(crate) enum Goal {
    /// One stretch of about so many keys.
    Stretch(usize),
    /// The whole database.
    All,
    /// Until there is a key, around the end if need be.
    Any,
    /// Nowhere: only the number of keys is asked for.
    Count,
}

/// A walk over one database.
#[derive(Debug)]
pub(crate) struct Walk {
    db: usize,
    space: Space,
    goal: Goal,
    pattern: Option<Vec<u8>>,
    type_name: Option<Vec<u8>>,
    now_ms: u64,
    /// Where the next stretch begins; `None` at the end.
    position: Option<u64>,
    /// Where the walk began, for [`Goal::Any`].
    start: u64,
    /// Keys in memory of the stretch being read, with their hashes.
    resident: Vec<(u64, Box<[u8]>)>,
    /// Keys that memory knew to be absent, out of time or of another type when it was read.
    refused: HashSet<Box<[u8]>>,
    /// Where the stretch in memory ends.
    resident_end: Option<u64>,
    limit: usize,
    /// Where to read on in the same stretch.
    resume: Option<KeyBuf>,
    /// The one stretch that was wanted is read.
    is_read: bool,
    found: Names,
    /// Keys that memory knew and forgot since the walk began.
    forgotten: Option<Rc<RefCell<Notes>>>,
}

/// What to ask the disk for.
#[derive(Debug)]
pub(crate) struct Stretch {
    /// The first key in disk order.
    pub from: KeyBuf,
    /// Most records.
    pub limit: usize,
    /// Most bytes of records.
    pub limit_bytes: usize,
}

impl Walk {
    /// The walk that a request wants, if it wants one and is well formed.
    pub(crate) fn plan(
        keyspace: &Keyspace,
        db: usize,
        request: &Request<'_>,
        now_ms: u64,
        random: u64,
    ) -> Option<Self> {
        let plan = WalkPlan::of(request, random)?;
        Some(Self::new(keyspace, db, plan, now_ms))
    }

    /// A walk as planned.
    pub(crate) fn new(keyspace: &Keyspace, db: usize, plan: WalkPlan, now_ms: u64) -> Self {
        Self {
            db,
            space: keyspace.dbs[db].space,
            limit: match plan.goal {
                Goal::Stretch(count) => count,
                Goal::All | Goal::Count => STRETCH_KEYS,
                Goal::Any => RANDOM_KEYS,
            },
            goal: plan.goal,
            pattern: plan.pattern,
            type_name: plan.type_name,
            now_ms,
            position: Some(plan.position),
            start: plan.position,
            resident: Vec::new(),
            refused: HashSet::new(),
            resident_end: None,
            resume: None,
            is_read: false,
            found: Names::default(),
            forgotten: None,
        }
    }

    /// The walk, told from now on which keys memory forgets.
    pub(crate) fn following(mut self, keyspace: &Keyspace) -> Self {
        if !self.is_count() {
            let followers = &keyspace.followers;
            self.forgotten = Some(followers.follow(self.space, self.pattern.as_deref()));
        }
        self
    }

    /// The database.
    pub(crate) fn db(&self) -> usize {
        self.db
    }

    /// Whether only the number of keys is wanted.
    pub(crate) fn is_count(&self) -> bool {
        self.goal == Goal::Count
    }

    /// The keys found, and where to go on (`None` at the end).
    pub(crate) fn into_found(self) -> (HashSet<Box<[u8]>>, Option<u64>) {
        (self.found.into_set(), self.position)
    }

    /// Bytes of memory that the walk has gathered: its client counts for them.
    pub(crate) fn memory_bytes(&self) -> usize {
        let forgotten = self.forgotten.as_ref().map_or(0, |notes| notes.borrow().memory_bytes());
        let resident: usize = self.resident.iter().map(|(_, name)| heap_bytes(name.len())).sum();
        self.found.memory_bytes() + forgotten + resident
    }

    /// Whether the database has another number by now.
    pub(crate) fn is_elsewhere(&self, keyspace: &Keyspace) -> bool {
        keyspace.db_of(self.space).is_some_and(|db| db != self.db)
    }

    /// Brings what was found up to date with memory, just before the command runs in `db`:
    /// commands of the same transaction may have come in between.
    pub(crate) fn catch_up(&mut self, keyspace: &Keyspace, db: usize) {
        self.db = db;
        let db = &keyspace.dbs[db];
        if db.space != self.space {
            // Flushed: nothing that was found is there any more.
            self.found.clear();
            self.forgotten = None;
        }
        self.catch_up_with_forgotten(keyspace.hasher());
        let hasher = keyspace.hasher();
        let mut found = std::mem::take(&mut self.found);
        found.retain(|key| self.memory_admits(keyspace, hasher.key(key)).unwrap_or(true));
        self.found = found;
        let (mut at, end) = (Some(self.start), self.position);
        while let Some(from) = at.filter(|at| end.is_none_or(|end| *at < end)) {
            let mut fresh: Vec<Box<[u8]>> = Vec::new();
            at = db.table.scan(from, STRETCH_KEYS, |entry| {
                let hash = hasher.hash(entry.key());
                let inside = hash >= self.start && end.is_none_or(|end| hash < end);
                if inside && self.admits_entry(entry) {
                    fresh.push(entry.key().into());
                }
            });
            self.found.extend(fresh);
        }
    }

    /// What memory knew when it forgot a key is newer than what was read before. If memory knows
    /// the key again it is newer still, and looked at afterwards.
    fn catch_up_with_forgotten(&mut self, hasher: Hasher) {
        let Some(notes) = self.forgotten.take() else { return };
        for (key, fact) in notes.borrow().facts() {
            let hash = hasher.hash(key);
            if hash < self.start || self.position.is_some_and(|end| hash >= end) {
                continue;
            }
            if self.admits_fact(key, fact) {
                self.found.insert(key.into());
            } else {
                self.found.remove(key);
            }
        }
    }

    fn admits_fact(&self, key: &[u8], fact: Fact) -> bool {
        fact.type_name.is_some_and(|type_name| self.admits(key, fact.expires_at_ms, type_name))
    }

    fn admits_entry(&self, entry: EntryRef<'_>) -> bool {
        let type_name = crate::command::type_name(entry.value());
        !entry.is_absent() && self.admits(entry.key(), entry.expires_at_ms(), type_name)
    }

    /// Whether the walk finds `key`, if memory knows the key.
    fn memory_admits(&self, keyspace: &Keyspace, key: Key<'_>) -> Option<bool> {
        let db = &keyspace.dbs[self.db];
        // After a flush memory knows another database, and nothing here will be found.
        let loc = db.table.find(key).filter(|_| db.space == self.space)?;
        Some(self.admits_entry(db.table.entry(loc)))
    }

    /// As [`Self::memory_admits`], if memory knows the key or did when it forgot it.
    fn memory_admitted(&self, keyspace: &Keyspace, key: Key<'_>) -> Option<bool> {
        self.memory_admits(keyspace, key).or_else(|| {
            let fact = self.forgotten.as_ref()?.borrow().of(key.bytes)?;
            Some(self.admits_fact(key.bytes, fact))
        })
    }

    fn admits(&self, key: &[u8], expires_at_ms: Option<u64>, type_name: &str) -> bool {
        expires_at_ms.is_none_or(|at| at > self.now_ms)
            && self.type_name.as_ref().is_none_or(|t| t == type_name.as_bytes())
            && self.pattern_admits(key)
    }

    fn pattern_admits(&self, key: &[u8]) -> bool {
        self.pattern.as_ref().is_none_or(|p| glob::matches(p, key))
    }

    /// Notes the keys in memory of the next stretch; returns what to ask the disk for, or `None`
    /// when the walk is over.
    pub(crate) fn begin(&mut self, keyspace: &Keyspace) -> Option<Stretch> {
        let from = match self.resume.take() {
            Some(from) => from,
            None => {
                let from = self.next_position()?;
                self.note_resident(keyspace, from);
                KeyRef { space: self.space, hash: from, key: b"" }.to_buf()
            }
        };
        Some(Stretch { from, limit: self.limit, limit_bytes: STRETCH_BYTES })
    }

    /// Walks to the goal over memory alone.
    pub(crate) fn run_in_memory(&mut self, keyspace: &Keyspace) {
        while let Some(from) = self.next_position() {
            self.note_resident(keyspace, from);
            self.close(self.resident_end);
        }
    }

    /// Where the next stretch begins, unless the goal is reached.
    fn next_position(&mut self) -> Option<u64> {
        match self.goal {
            Goal::Count => None,
            Goal::Stretch(_) if self.is_read => None,
            Goal::Any if !self.found.is_empty() => None,
            Goal::Any if self.position.is_none() && self.start > 0 => {
                // Around the end, once.
                self.start = 0;
                self.position = Some(0);
                self.position
            }
            _ => self.position,
        }
    }

    fn note_resident(&mut self, keyspace: &Keyspace, from: u64) {
        let mut resident = std::mem::take(&mut self.resident);
        let mut refused = std::mem::take(&mut self.refused);
        resident.clear();
        refused.clear();
        let hasher = keyspace.hasher();
        let table = &keyspace.dbs[self.db].table;
        self.resident_end = table.scan(from, self.limit, |entry: EntryRef<'_>| {
            let hash = hasher.hash(entry.key());
            if hash < from {
                // Of a bucket that the disk has cut in two: the stretch before had it.
            } else if self.admits_entry(entry) {
                resident.push((hash, entry.key().into()));
            } else if self.pattern_admits(entry.key()) {
                refused.insert(entry.key().into());
            }
        });
        (self.resident, self.refused) = (resident, refused);
    }

    /// Merges what the disk has of the stretch with what memory knows now and knew before.
    ///
    /// What memory knows is looked at again in [`Self::catch_up`], but this look decides whether
    /// the walk has found anything and may end, and by then memory may have forgotten it.
    pub(crate) fn merge(&mut self, read: &op::Stretch, keyspace: &Keyspace) {
        let records = &read.records;
        // Keys with one position belong together: of the last, more may follow.
        let last = records.last().filter(|_| read.more).map(|last| last.key.as_ref());
        let disk_end = last.map(|key| key.hash >> POSITION_BITS << POSITION_BITS);
        let end = match (self.resident_end, disk_end) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (one, other) => one.or(other),
        };
        // Not a step further: the read was cut short among keys with one position, by a big value.
        let stays = end.is_some_and(|end| Some(end) <= self.position);
        for record in records {
            let key = record.key.as_ref();
            let inside = end.is_none_or(|end| key.hash < end);
            let type_name = codec::type_name(&record.record.payload);
            let memory = self.memory_admitted(keyspace, Key { bytes: key.key, hash: key.hash });
            let disk = || {
                !self.refused.contains(key.key)
                    && self.admits(key.key, record.record.expires_at_ms, type_name)
            };
            if (inside || stays) && memory.unwrap_or_else(disk) {
                self.found.insert(key.key.into());
            }
        }
        let mut resident = std::mem::take(&mut self.resident);
        resident.retain(|(hash, bytes)| {
            self.memory_admitted(keyspace, Key { bytes, hash: *hash }).unwrap_or(true)
        });
        self.resident = resident;
        match last.filter(|_| stays) {
            // On behind the last key: the smallest that is larger.
            Some(last) => {
                let behind = [last.key, b"\0"].concat();
                self.resume = Some(KeyRef { key: &behind, ..last }.to_buf());
            }
            None => self.close(end),
        }
    }

    /// Ends a stretch: what memory had of it is found too.
    fn close(&mut self, end: Option<u64>) {
        let inside = |hash: u64| end.is_none_or(|end| hash < end);
        let resident = self.resident.drain(..).filter(|(hash, _)| inside(*hash));
        self.found.extend(resident.map(|(_, key)| key));
        self.position = end;
        self.is_read = true;
    }
}

#[cfg(test)]
mod tests;
