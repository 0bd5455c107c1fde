//! What the caller of a `DiskCache` decides, and why its operations fail. Pure.

use std::fmt;
use std::time::Duration;

use flintlock_iothreads::SpawnError;

use crate::cache::evict::Policy;
use crate::cache::job::Failure;
use crate::cache::recover::RecoverError;
use crate::cache::{self, Durability, Refusal};
use crate::journal::WriterOptions;
use crate::recovery;
use crate::storage::fjall::FjallOptions;

/// How a [`DiskCache`](super::DiskCache) behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Limit of the memory that the cache uses for keys, values, buffers and the engine; 0 for
    /// none.
    pub memory_bytes: u64,
    /// When a write is durable.
    pub durability: Durability,
    /// Which keys stay in memory.
    pub policy: Policy,
    /// How long a changed key may wait to be saved; all changes until then cost one write.
    pub flush_delay: Duration,
    /// The journal is kept about this short; it bounds how long opening takes. An eighth of it may
    /// be left on disk when everything is saved: the segment that is being written.
    pub journal_bytes: u64,
    /// Threads that read for callbacks. Threads that wait for a key read themselves.
    pub readers: usize,
    /// Values are refused while less is free on the disk, or, of a small disk, less than a
    /// twentieth; 0 for no such bound. Reads and removals go on.
    pub free_bytes_min: u64,
    /// Open the store although something that was durable is missing. What it was, says
    /// [`DiskCache::accepted_loss`](super::DiskCache::accepted_loss).
    pub accept_loss: bool,
}

impl Default for Options {
    fn default() -> Self {
        let cache = cache::Options::default();
        Self {
            memory_bytes: cache.limit_bytes,
            durability: cache.durability,
            policy: cache.policy,
            flush_delay: Duration::from_millis(cache.flush_delay_ms),
            journal_bytes: cache.journal_bytes_max,
            readers: 2,
            free_bytes_min: cache.free_bytes_min,
            accept_loss: false,
        }
    }
}

/// The engine's share of the memory: an eighth, within reason.
const ENGINE_PART: u64 = 8;
const ENGINE_BYTES: std::ops::RangeInclusive<u64> = 256 << 10..=256 << 20;

/// Keys and bytes of a batch that the driver hands over or settles while it holds the lock. With
/// the 256 keys of an event loop, slices took up to 0.6 ms of CPU, and a hit may wait for one.
const SLICE_KEYS: usize = 128;
const SLICE_BYTES: u64 = 64 << 10;

impl Options {
    pub(super) fn for_cache(&self) -> cache::Options {
        cache::Options {
            limit_bytes: self.memory_bytes,
            engine_bytes: self.engine_cache_bytes(),
            durability: self.durability,
            policy: self.policy,
            flush_delay_ms: u64::try_from(self.flush_delay.as_millis()).unwrap_or(u64::MAX),
            journal_bytes_max: self.journal_bytes,
            load_workers: self.readers,
            free_bytes_min: self.free_bytes_min,
            databases: 1,
            slice_keys: SLICE_KEYS,
            slice_bytes: SLICE_BYTES,
            ..cache::Options::default()
        }
    }

    fn engine_cache_bytes(&self) -> u64 {
        (self.memory_bytes / ENGINE_PART).clamp(*ENGINE_BYTES.start(), *ENGINE_BYTES.end())
    }

    pub(super) fn for_store(&self) -> recovery::OpenOptions {
        let cache_bytes = self.engine_cache_bytes();
        recovery::OpenOptions {
            engine: FjallOptions { cache_bytes, ..FjallOptions::default() },
            journal: WriterOptions::for_journal(self.journal_bytes),
            accept_loss: self.accept_loss,
        }
    }
}

/// What [`DiskCache::close`](super::DiskCache::close) left.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Closed {
    /// Keys whose last changes are in the journal only.
    pub unsaved_keys: u64,
}

/// Why an operation failed. An absent key is no failure.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
#[non_exhaustive]
pub enum Error {
    /// Reading or writing the store.
    Store(Failure),
    /// Writes are refused until the disk takes them again; reads go on.
    Refused(Refusal),
    /// The key or the value does not fit the format.
    TooLarge,
    /// The time given was over.
    TimedOut,
    /// A codec panicked in the midst of a change: open the store again.
    Poisoned,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(failure) => failure.fmt(f),
            Self::Refused(Refusal::Journal(failure)) => {
                write!(f, "the journal cannot be written ({failure})")
            }
            Self::Refused(Refusal::Engine(failure)) => {
                write!(f, "memory is full of keys that cannot be saved ({failure})")
            }
            Self::Refused(Refusal::Space) => f.write_str("little is free on the disk"),
            Self::TooLarge => f.write_str("the key or the value is too large"),
            Self::TimedOut => f.write_str("the time given was over"),
            Self::Poisoned => f.write_str("a codec panicked in the midst of a change"),
        }
    }
}

impl std::error::Error for Error {}

/// Why a cache was not opened.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// The directory, the journal or the engine.
    Store(recovery::OpenError),
    /// The operations that were not saved.
    Recover(RecoverError),
    /// A thread of the pool.
    Pool(SpawnError),
    /// The thread of the cache.
    Thread(std::io::Error),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(e) => e.fmt(f),
            Self::Recover(e) => e.fmt(f),
            Self::Pool(e) => e.fmt(f),
            Self::Thread(e) => write!(f, "starting a thread: {e}"),
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Store(e) => Some(e),
            Self::Recover(e) => Some(e),
            Self::Pool(e) => Some(e),
            Self::Thread(e) => Some(e),
        }
    }
}

impl From<recovery::OpenError> for OpenError {
    fn from(e: recovery::OpenError) -> Self {
        Self::Store(e)
    }
}

impl From<RecoverError> for OpenError {
    fn from(e: RecoverError) -> Self {
        Self::Recover(e)
    }
}

impl From<SpawnError> for OpenError {
    fn from(e: SpawnError) -> Self {
        Self::Pool(e)
    }
}
