//! The keyspace: every key of every database in memory.
//!
//! Main thread. Holds what the rooms below share; the rooms are: `entry` (bytes of one key),
//! `segment` (a small table in hash order), `table` (the directory over segments), `databases` (the
//! tables by number, and what they hold together), `expire` (the budgeted walk over keys that ran
//! out of time), `fetch` (what a batch of look-ups will miss). Rules of commands (lazy expiry,
//! watching, journalling) live in `command::ctx`, the disk tier's view in `tier`.

pub(crate) mod access;
mod databases;
pub(crate) mod entry;
pub(crate) mod expire;
pub(crate) mod fetch;
pub(crate) mod forgotten;
mod segment;
pub(crate) mod table;

use std::collections::BTreeMap;

use flintlock_diskcache::key::Space;
use siphasher::sip::SipHasher13;

use crate::types::Parts;
use databases::Databases;
use forgotten::Followers;
use table::Table;

pub(crate) use databases::Db;

/// A key with its hash, so that nobody hashes it twice.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Key<'a> {
    /// The user's bytes.
    pub bytes: &'a [u8],
    /// `Hasher::hash` of the bytes.
    pub hash: u64,
}

/// The keyed hash of the store: the same for the life of a store, unknown to clients, so that
/// nobody can fill one segment on purpose. SipHash-1-3, as the order of keys on disk.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Hasher(SipHasher13);

impl Hasher {
    /// A hasher from the store's 16 secret bytes.
    pub(crate) fn new(secret: &[u8; 16]) -> Self {
        Self(SipHasher13::new_with_key(secret))
    }

    /// Hashes a key.
    pub(crate) fn hash(&self, key: &[u8]) -> u64 {
        self.0.hash(key)
    }

    /// Pairs a key with its hash.
    pub(crate) fn key<'a>(&self, bytes: &'a [u8]) -> Key<'a> {
        Key { bytes, hash: self.hash(bytes) }
    }
}

/// All databases.
#[derive(Debug)]
pub(crate) struct Keyspace {
    /// By database number.
    pub dbs: Databases,
    /// Database of each space.
    by_space: BTreeMap<Space, usize>,
    hasher: Hasher,
    /// Who is told which keys memory forgets.
    pub followers: Followers,
    /// Large values that memory forgot, waiting to be freed by whoever runs the turn.
    pub evicted: Vec<Parts>,
}

impl Keyspace {
    /// `count` empty databases, in spaces of their own.
    pub(crate) fn new(count: usize, hasher: Hasher) -> Self {
        let dbs = Databases::new(count, hasher);
        let mut keyspace = Self {
            dbs,
            by_space: BTreeMap::new(),
            hasher,
            followers: Followers::default(),
            evicted: Vec::new(),
        };
        keyspace.index_spaces();
        keyspace
    }

    /// For replay, where spaces come up before it is known which database each belongs to: the
    /// place of a space, an unused one if it is new. Unused places have the space of no database.
    pub(crate) fn place_of(&mut self, space: Space) -> usize {
        if let Some(index) = self.db_of(space) {
            return index;
        }
        let unused = self.dbs.iter().position(|db| db.space == Space::META);
        let index = unused.unwrap_or_else(|| self.dbs.push(Space::META));
        self.dbs.set_space(index, space);
        self.index_spaces();
        index
    }

    /// For replay: no place is used yet.
    pub(crate) fn clear_places(&mut self) {
        self.dbs.spaces_mut().for_each(|space| *space = Space::META);
        self.by_space.clear();
    }

    /// For replay: drops the keys of a space, whose place is unused then.
    pub(crate) fn clear_place(&mut self, space: Space) {
        if let Some(index) = self.db_of(space) {
            drop(self.take_db(index));
            self.dbs.set_space(index, Space::META);
            self.index_spaces();
        }
    }

    /// For the end of replay: puts `count` databases in order, each with the keys of its space.
    pub(crate) fn order_places(&mut self, count: usize, space_of: impl Fn(usize) -> Option<Space>) {
        self.dbs.order((0..count).map(|index| space_of(index).unwrap_or(Space::META)));
        self.index_spaces();
    }

    fn index_spaces(&mut self) {
        self.by_space = self.dbs.iter().enumerate().map(|(i, db)| (db.space, i)).collect();
    }

    /// Gives databases the spaces that the store has for them.
    pub(crate) fn set_spaces(&mut self, space_of: impl Fn(usize) -> Option<Space>) {
        for (index, space) in self.dbs.spaces_mut().enumerate() {
            *space = space_of(index).unwrap_or(*space);
        }
        self.index_spaces();
    }

    /// The database of a space; `None` if it was flushed since.
    pub(crate) fn db_of(&self, space: Space) -> Option<usize> {
        self.by_space.get(&space).copied()
    }

    /// The store's hash.
    pub(crate) fn hasher(&self) -> Hasher {
        self.hasher
    }

    /// Entries, absent ones included.
    pub(crate) fn entry_count(&self) -> usize {
        self.dbs.used().map(|db| db.table.counts()).map(|c| c.values + c.absent).sum()
    }

    /// Entries that say that their key does not exist.
    pub(crate) fn absent_count(&self) -> usize {
        self.dbs.used().map(|db| db.table.counts().absent).sum()
    }

    /// Bytes of all keys and tables.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.dbs.memory_bytes()
    }

    /// Exchanges two databases, with their spaces.
    pub(crate) fn swap_dbs(&mut self, a: usize, b: usize) {
        self.dbs.swap(a, b);
        for index in [a, b] {
            self.by_space.insert(self.dbs[index].space, index);
        }
    }

    /// Takes every key of a database out; the caller drops the table where it may take its time.
    pub(crate) fn take_db(&mut self, index: usize) -> Table {
        self.dbs.take(index)
    }
}
