//! The keyspace: every key of every database in memory.
//!
//! Main thread. Holds what the rooms below share; the rooms are: `entry` (bytes of one key),
//! `segment` (a small table in hash order), `table` (the directory over segments), `expire` (the
//! budgeted walk over keys that ran out of time). Rules of commands (lazy expiry, watching,
//! journalling) live in `command::ctx`, the disk tier's view in `tier`.

pub(crate) mod access;
pub(crate) mod entry;
pub(crate) mod expire;
mod segment;
pub(crate) mod table;

use siphasher::sip::SipHasher13;

use table::Table;

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

/// One database.
#[derive(Debug)]
pub(crate) struct Db {
    /// The keys.
    pub table: Table,
    /// Where the expiry walk goes on.
    pub expire_position: u64,
}

/// All databases.
#[derive(Debug)]
pub(crate) struct Keyspace {
    /// By database number.
    pub dbs: Vec<Db>,
    hasher: Hasher,
}

impl Keyspace {
    /// `count` empty databases.
    pub(crate) fn new(count: usize, hasher: Hasher) -> Self {
        let db = || Db { table: Table::new(hasher), expire_position: 0 };
        Self { dbs: (0..count).map(|_| db()).collect(), hasher }
    }

    /// The store's hash.
    pub(crate) fn hasher(&self) -> Hasher {
        self.hasher
    }

    /// Bytes of all keys and tables.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.dbs.iter().map(|db| db.table.memory_bytes()).sum()
    }

    /// Takes every key of a database out; the caller drops the table where it may take its time.
    pub(crate) fn take_db(&mut self, index: usize) -> Table {
        let db = &mut self.dbs[index];
        db.expire_position = 0;
        std::mem::replace(&mut db.table, Table::new(self.hasher))
    }
}
