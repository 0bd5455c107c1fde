//! Where values live, as the cache sees it. Main thread.
//!
//! The cache owns no value. Whoever uses it (a server's keyspace, `DiskCache`) keeps the
//! values in a structure of its own choice and shows it to the cache as a [`Home`]: one probe of
//! the home answers *value*, *known absent* or *unknown*, and the save bits of a key live in its
//! entry ([`KeyState`]). That makes a key cost one look-up instead of three (value, side table,
//! negative cache), and no table of the cache's own has to grow with the number of dirty keys.
//!
//! The contract, checked by [`super::conformance`]:
//! 1. An entry leaves the home only through [`Home::forget`] or with its whole space. Deleting a
//!    key turns its entry into an *absent* one; overwriting keeps the [`KeyState`].
//! 2. `forget` drops clean entries only. It is not a delete: the key lives on in the engine, so
//!    nobody is told, no watch fires and no negative entry is left.
//! 3. Entries are found by space and hash; `visit` reaches every entry with that hash.
//! 4. `memory_bytes` counts everything that an entry costs, absent ones included.
//!
//! Source: the `io_queued` and `io_negcache` tables of Redis's diskstore cache (dscache.c,
//! 2010 to 2011), folded together.

use std::fmt;
use std::sync::Arc;

use super::flags::KeyState;
use crate::key::{KeyRef, Space};

/// What a home knows of a key.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Known {
    /// It holds the value.
    Value,
    /// It holds an absent entry: the key does not exist, and no read is needed to say so.
    Absent,
    /// It holds nothing: the engine may have the key.
    Unknown,
}

/// A value's bytes on their way to the engine.
pub enum Payload {
    /// Encoded already.
    Ready(Arc<[u8]>),
    /// To be encoded on the worker: for values so big that encoding would stall the loop. Holds
    /// an immutable snapshot; the entry may change at once.
    Later {
        /// About how many bytes that will be: they count against the limit while the batch is on
        /// its way.
        len_bytes: usize,
        /// Makes them.
        encode: Box<dyn FnOnce() -> Arc<[u8]> + Send>,
    },
}

impl Payload {
    /// The bytes; runs the encoder if that was put off. Worker; takes as long as encoding does.
    #[must_use]
    pub fn into_bytes(self) -> Arc<[u8]> {
        match self {
            Self::Ready(bytes) => bytes,
            Self::Later { encode, .. } => encode(),
        }
    }

    /// Bytes that it is or will be; about, for a snapshot.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        match self {
            Self::Ready(bytes) => bytes.len(),
            Self::Later { len_bytes, .. } => *len_bytes,
        }
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready(bytes) => write!(f, "Ready({} bytes)", bytes.len()),
            Self::Later { len_bytes, .. } => write!(f, "Later(about {len_bytes} bytes)"),
        }
    }
}

/// One resident entry during [`Home::visit`].
pub trait Entry {
    /// The user's key.
    fn key(&self) -> &[u8];

    /// Its save bits.
    fn state(&self) -> KeyState;

    /// Replaces its save bits.
    fn set_state(&mut self, state: KeyState);

    /// Whether it holds a value; an absent entry does not.
    fn exists(&self) -> bool;

    /// Expiry in milliseconds since the Unix epoch.
    fn expires_at_ms(&self) -> Option<u64>;

    /// The value as it is now, for the engine; called only while [`Entry::exists`].
    fn encode(&self) -> Payload;
}

/// A clean entry that could be forgotten.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Candidate {
    /// The space of the key.
    pub space: Space,
    /// The hash of the key.
    pub hash: u64,
    /// Milliseconds since the last use.
    pub idle_ms: u64,
    /// Logarithmic use counter, decayed to now; see [`super::evict::lfu_touch`].
    pub frequency: u8,
    /// Expiry in milliseconds since the Unix epoch.
    pub expires_at_ms: Option<u64>,
}

/// What [`Home::forget`] dropped.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct Forgot {
    /// Entries dropped; 0 when none with that hash was clean.
    pub entries: u32,
    /// Bytes given back.
    pub bytes: u64,
}

/// A loaded value with its expiry.
#[derive(Debug)]
pub struct Loaded<V> {
    /// The value, decoded on a worker.
    pub value: V,
    /// Expiry in milliseconds since the Unix epoch.
    pub expires_at_ms: Option<u64>,
}

/// Where values live. Main thread; no call may block.
pub trait Home {
    /// What [`Decode`](super::job::Decode) makes of a record on a worker, and [`Home::insert`]
    /// puts in.
    type Value: Send + 'static;

    /// What is known of `key`. Does not count as a use.
    fn known(&self, key: KeyRef<'_>) -> Known;

    /// Asks for what [`Home::visit`] will look at for each of these keys, a few dozen at most, so
    /// that the misses of one are waited for together with those of the others. Changes nothing.
    fn prefetch(&self, keys: &[(Space, u64)]) {
        let _ = keys;
    }

    /// Calls `each` on every entry of `space` with this hash; none when the space is gone.
    fn visit(&mut self, space: Space, hash: u64, each: &mut dyn FnMut(&mut dyn Entry));

    /// Puts in a key that was unknown: with its value, or as an absent entry.
    fn insert(&mut self, key: KeyRef<'_>, loaded: Option<Loaded<Self::Value>>, state: KeyState);

    /// Drops every clean entry of `space` with this hash.
    fn forget(&mut self, space: Space, hash: u64) -> Forgot;

    /// Pushes up to `want` clean entries onto `out`, from a place that `random` picks.
    ///
    /// Looks at a bounded number of entries; pushes fewer, or none, when most are dirty.
    fn sample(&mut self, random: u64, want: usize, out: &mut Vec<Candidate>);

    /// The clean entry of `space` with this hash, as [`Home::sample`] would show it; of several,
    /// one.
    fn candidate(&mut self, space: Space, hash: u64) -> Option<Candidate>;

    /// Bytes of all entries, keys and values and the structure itself; O(1).
    fn memory_bytes(&self) -> u64;

    /// Entries, absent ones included; O(1).
    fn entry_count(&self) -> u64;

    /// Absent entries, if they are counted; O(1).
    fn absent_count(&self) -> Option<u64> {
        None
    }
}

/// What a home holds, in figures.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub(super) struct Resident {
    pub(super) bytes: u64,
    pub(super) entries: u64,
    pub(super) absent: Option<u64>,
}

impl Resident {
    pub(super) fn of<H: Home>(home: &H) -> Self {
        let (bytes, entries) = (home.memory_bytes(), home.entry_count());
        Self { bytes, entries, absent: home.absent_count() }
    }
}
