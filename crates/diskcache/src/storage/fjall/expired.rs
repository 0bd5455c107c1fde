//! Keys of records that merges found to be expired, kept until somebody asks for them.
//!
//! Any thread. A merge reads every record it moves, so looking at their expiry costs next to
//! nothing. It must not leave such a record out, though: the key may live on in memory and in the
//! journal, as changes to just this record. And it may be an old version of it that was seen. So
//! the keys are only named, and whoever owns them looks and deletes (see `cache::expired`).

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::key::KeyBuf;
use crate::storage::codec;

/// Bytes of keys that are kept; what merges find above that is found by a later merge.
const BYTES_MAX: usize = 4 << 20;
/// Bytes of a key beside those on disk: its handle and its allocation's head.
const KEY_BYTES: usize = 32;

/// What was found and not taken.
#[derive(Debug, Default)]
pub(super) struct Expired(Mutex<Found>);

#[derive(Debug, Default)]
pub(super) struct Found {
    keys: Vec<KeyBuf>,
    bytes: usize,
}

impl Found {
    fn push(&mut self, key: KeyBuf) {
        let bytes = key.as_disk().len() + KEY_BYTES;
        if self.bytes + bytes <= BYTES_MAX {
            self.bytes += bytes;
            self.keys.push(key);
        }
    }
}

impl Expired {
    fn found(&self) -> MutexGuard<'_, Found> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes held.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.found().bytes as u64
    }

    /// Adds what a merge found, as far as there is room.
    pub(super) fn add(&self, more: Found) {
        let mut found = self.found();
        more.keys.into_iter().for_each(|key| found.push(key));
    }

    /// Hands out up to `max` keys.
    pub(super) fn take(&self, max: usize) -> Vec<KeyBuf> {
        let mut found = self.found();
        let rest = found.keys.len().saturating_sub(max);
        let taken = found.keys.split_off(rest);
        if found.keys.is_empty() {
            *found = Found::default();
        } else {
            found.bytes -= taken.iter().map(|key| key.as_disk().len() + KEY_BYTES).sum::<usize>();
        }
        taken
    }
}

/// One merge's look at the records that pass.
#[derive(Debug)]
pub(super) struct Look {
    now_ms: u64,
    found: Found,
}

impl Look {
    pub(super) fn new() -> Self {
        // A clock before the epoch finds nothing expired.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        Self { now_ms, found: Found::default() }
    }

    /// Notes the record stored under `engine_key` if it is expired, and whole.
    pub(super) fn note(&mut self, engine_key: &[u8], bytes: &[u8]) {
        if codec::expires_at_ms(bytes).is_some_and(|at| at <= self.now_ms)
            && let Ok((key, _)) = codec::decode(engine_key, bytes)
        {
            self.found.push(key);
        }
    }

    /// What it found.
    pub(super) fn into_found(self) -> Found {
        self.found
    }
}
