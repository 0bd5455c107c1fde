//! The two-phase storage seam: what an engine must offer. Worker threads only.
//!
//! Every method may block for as long as the disk does, so none is called on the event loop: the
//! cache wraps each call into a token (see [`crate::Token`]) and runs it on the storage pool.
//! [`conformance`] holds any engine to this contract.
//!
//! | file | what it is |
//! |---|---|
//! | [`fjall`] | the default engine: fjall's LSM tree, fed with sorted batches |
//! | [`memory`] | the model: a map; for tests and for the simulator |
//! | [`fault`] | another engine with errors and delays, by seed or by plan |
//! | [`codec`] | bytes of a record on disk, with its checksum |
//! | `space` | how much is free on the disk |
//!
//! An engine keeps the last committed state only; the journal in front of it is the log, so an
//! engine needs no write-ahead log of its own. An error is never an absent key.
//!
//! Source: KeyDB's two-phase storage calls (async FLASH).

pub mod codec;
pub mod conformance;
pub mod fault;
pub mod fjall;
pub mod memory;
mod space;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::key::{KeyBuf, Seq, Space};

pub use space::DiskSpace;

/// What one key holds on disk. Immutable; shared between threads by reference count.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Record {
    /// The journal position that the payload includes: replay skips older operations on this key.
    pub seq: Seq,
    /// Expiry in milliseconds since the Unix epoch; kept with the value, never in an index.
    pub expires_at_ms: Option<u64>,
    /// The value as its owner encoded it.
    pub payload: Arc<[u8]>,
}

/// Whether the engine held a key before a write, as far as the writer knows.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Before {
    /// The key is known to be absent from the engine.
    Absent,
    /// The key is known to be in the engine.
    Present,
    /// Written blindly: the engine looks it up so that the counts stay exact.
    Unknown,
}

/// One write: a record, or `None` for a delete.
#[derive(Clone, Debug)]
pub struct Write {
    /// The key.
    pub key: KeyBuf,
    /// The new state; `None` deletes.
    pub record: Option<Record>,
    /// What the engine holds now.
    pub before: Before,
}

/// State of the store as a whole, committed together with each batch.
#[derive(Clone, Eq, PartialEq, Debug, Default)]
pub struct Meta {
    /// Every operation up to and including this position is in the engine.
    pub watermark: Seq,
    /// The highest operation any record in the engine includes; at least `watermark`.
    pub highest: Seq,
    /// Space of each database, by database number.
    pub spaces: Vec<Space>,
    /// The next space number to hand out.
    pub next_space: u32,
    /// Spaces that no database maps to and whose keys may still be on disk.
    pub dead: Vec<Space>,
    /// Live records of each space.
    pub counts: BTreeMap<Space, u64>,
}

/// Writes that become durable together or not at all.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// In any order, each key once; the engine sorts them.
    pub writes: Vec<Write>,
    /// The new state of the store, without counts: the engine computes those.
    pub meta: Meta,
}

/// What a scan returns of one key.
#[derive(Clone, Debug)]
pub struct Scanned {
    /// The key.
    pub key: KeyBuf,
    /// Its record.
    pub record: Record,
}

/// Figures of an engine; each in bytes unless said.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct StoreStats {
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// Bytes of memory held for caches and tables.
    pub memory_bytes: u64,
    /// Sorted runs a point read may have to look into.
    pub runs: u64,
    /// Bytes written since opening, merges included.
    pub written_bytes: u64,
    /// Merges that failed since opening.
    pub merge_failures: u64,
    /// Records since opening that were replaced or deleted although they could not be read: the
    /// counts of [`Meta`] are too high by at most this, until they are made anew.
    pub unread_overwrites: u64,
    /// The disk that it is on, as of a second ago at most; `None` when that is not known.
    pub space: Option<DiskSpace>,
}

/// A blocking key-value engine. Any thread; many at once.
pub trait Storage: Send + Sync + fmt::Debug + 'static {
    /// Reads `keys`, pushing one answer for each onto `out`, in order.
    ///
    /// # Errors
    /// The first failure; `out` is then as before.
    fn get_many(&self, keys: &[KeyBuf], out: &mut Vec<Option<Record>>) -> Result<(), StoreError>;

    /// Applies `batch` atomically; durable when it returns. One caller at a time.
    ///
    /// Returns the counts after the batch.
    ///
    /// # Errors
    /// Nothing of the batch is visible, then or after reopening, unless the kind is
    /// [`ErrorKind::Unclear`], after which only reopening tells.
    fn commit(&self, batch: Batch) -> Result<BTreeMap<Space, u64>, StoreError>;

    /// Pushes up to `limit` live records onto `out` in key order, from the first key at or after
    /// `from` (on-disk form) and below the end of its space. At most `limit_bytes` of records,
    /// but at least one. Returns whether there are more records in the space.
    ///
    /// # Errors
    /// The first failure; `out` is then as before.
    fn scan(
        &self,
        from: &KeyBuf,
        limit: usize,
        limit_bytes: usize,
        out: &mut Vec<Scanned>,
    ) -> Result<bool, StoreError>;

    /// The state committed last. After a commit of [`ErrorKind::Unclear`] outcome: the state that
    /// the next commit builds on and, if it succeeds, makes durable.
    ///
    /// # Errors
    /// A failed or corrupt read; that state is still unknown.
    fn meta(&self) -> Result<Meta, StoreError>;

    /// Merges and reclaims for about `budget`; returns whether more is worth doing now. May run
    /// beside a commit. A step that has begun is finished, whatever the budget.
    ///
    /// # Errors
    /// A failed read or write; the data is as before.
    fn maintain(&self, budget: Duration) -> Result<bool, StoreError>;

    /// Up to `max` keys whose records merges came across and found expired by the system's clock.
    /// Hints, each given once: the record may be an old one, and the key may have changed since. An
    /// engine that does not look returns none.
    fn take_expired(&self, max: usize) -> Vec<KeyBuf> {
        let _ = max;
        Vec::new()
    }

    /// Writes a consistent copy of the committed state into the empty directory `dir`.
    ///
    /// # Errors
    /// The copy is incomplete and must be removed; the store is as before.
    fn backup(&self, dir: &Path, progress: &dyn Fn(BackupProgress)) -> Result<(), StoreError>;

    /// Limits what the engine caches to about `bytes`, by the end of the next
    /// [`Storage::maintain`]. Does not block. An engine without caches has nothing to do.
    fn set_cache_bytes(&self, bytes: u64) {
        let _ = bytes;
    }

    /// Makes a running and every later [`Storage::maintain`] return at once, before the store is
    /// closed; nothing else is affected.
    fn interrupt(&self) {}

    /// Figures for INFO; cheap.
    fn stats(&self) -> StoreStats;
}

/// An engine that several share.
impl<S: Storage + ?Sized> Storage for Arc<S> {
    fn get_many(&self, keys: &[KeyBuf], out: &mut Vec<Option<Record>>) -> Result<(), StoreError> {
        (**self).get_many(keys, out)
    }

    fn commit(&self, batch: Batch) -> Result<BTreeMap<Space, u64>, StoreError> {
        (**self).commit(batch)
    }

    fn scan(
        &self,
        from: &KeyBuf,
        limit: usize,
        limit_bytes: usize,
        out: &mut Vec<Scanned>,
    ) -> Result<bool, StoreError> {
        (**self).scan(from, limit, limit_bytes, out)
    }

    fn meta(&self) -> Result<Meta, StoreError> {
        (**self).meta()
    }

    fn maintain(&self, budget: Duration) -> Result<bool, StoreError> {
        (**self).maintain(budget)
    }

    fn take_expired(&self, max: usize) -> Vec<KeyBuf> {
        (**self).take_expired(max)
    }

    fn backup(&self, dir: &Path, progress: &dyn Fn(BackupProgress)) -> Result<(), StoreError> {
        (**self).backup(dir, progress)
    }

    fn set_cache_bytes(&self, bytes: u64) {
        (**self).set_cache_bytes(bytes);
    }

    fn interrupt(&self) {
        (**self).interrupt();
    }

    fn stats(&self) -> StoreStats {
        (**self).stats()
    }
}

/// How far a backup has come.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct BackupProgress {
    /// Records copied so far. An engine that copies files counts each in it, also those that a
    /// later one replaces and no merge has dropped yet, but not the marks of deletions.
    pub keys: u64,
    /// Records to copy in all, as far as known.
    pub total_keys: u64,
    /// Bytes copied so far.
    pub bytes: u64,
    /// Bytes to copy in all, as far as known.
    pub total_bytes: u64,
}

/// Why a storage call failed.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The disk refused a read or a write.
    Io,
    /// No room on the disk.
    NoSpace,
    /// What was read is not what was written.
    Corrupt,
    /// The store is closed or being closed.
    Closed,
    /// The call was cancelled before it ran.
    Cancelled,
    /// It is not known whether the write took effect: reopen before going on.
    Unclear,
    /// The record is larger than the engine can hold; trying again cannot help.
    TooLarge,
}

impl ErrorKind {
    /// All of them, with the names that metrics show.
    pub const ALL: [(Self, &'static str); 7] = [
        (Self::Io, "errors_io"),
        (Self::NoSpace, "errors_no_space"),
        (Self::Corrupt, "errors_corrupt"),
        (Self::Closed, "errors_closed"),
        (Self::Cancelled, "errors_cancelled"),
        (Self::Unclear, "errors_unclear"),
        (Self::TooLarge, "errors_too_large"),
    ];
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Io => "the disk refused it",
            Self::NoSpace => "no space left on the disk",
            Self::Corrupt => "the data is damaged",
            Self::Closed => "the store is closed",
            Self::Cancelled => "cancelled",
            Self::Unclear => "it is not known whether it took effect",
            Self::TooLarge => "too large",
        })
    }
}

/// A failed storage call: the kind to act on, the source to show.
#[derive(Debug)]
pub struct StoreError {
    /// The class that the caller acts on.
    pub kind: ErrorKind,
    /// What was being done, for the log.
    pub what: &'static str,
    /// The cause, if another error caused it.
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl StoreError {
    /// An error without another one behind it.
    #[must_use]
    pub const fn new(kind: ErrorKind, what: &'static str) -> Self {
        Self { kind, what, source: None }
    }

    /// What was read is not what was written.
    #[must_use]
    pub const fn corrupt(what: &'static str) -> Self {
        Self::new(ErrorKind::Corrupt, what)
    }

    /// The error of a system call, classified: a full disk, quota or file limit is
    /// [`ErrorKind::NoSpace`].
    #[must_use]
    pub fn from_io(what: &'static str, source: std::io::Error) -> Self {
        use std::io::ErrorKind as Os;
        let kind = match source.kind() {
            Os::StorageFull | Os::QuotaExceeded | Os::FileTooLarge => ErrorKind::NoSpace,
            _ => ErrorKind::Io,
        };
        Self { kind, what, source: Some(Box::new(source)) }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.what)?;
        match &self.source {
            Some(source) => write!(f, "{source}"),
            None => write!(f, "{}", self.kind),
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|s| s as _)
    }
}
