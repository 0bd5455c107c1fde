//! Records on disk whose time is over and that nobody reads. Main thread; no IO.
//!
//! Whoever reads a key finds out that it has expired, and has it deleted ([`super::reading`]). A
//! key that nobody reads again would stay on disk for ever, and be counted. So the engine names
//! what its merges find expired, which is a hint: the key may be in memory with a longer life, or
//! the record be an old one that a merge has yet to drop. Such a key is read ahead of need, when
//! nobody waits for a read and memory has room; if its time is over, the read deletes it, through
//! the journal and the queue like any other.
//!
//! Source: Redis expires resident keys by sampling them; here most keys are not resident.

use std::collections::VecDeque;

use super::Cache;
use super::home::{Home, Known};
use crate::key::KeyBuf;

/// Keys taken from the engine at a time.
const KEYS_MAX: usize = 1024;
/// Reads of such keys that wait or run, as a share (one in n) of all reads that may.
const READS_SHARE: usize = 4;

/// Keys that the engine has named and that were not looked at yet.
#[derive(Debug, Default)]
pub(super) struct ExpiredKeys {
    keys: VecDeque<KeyBuf>,
    bytes: u64,
    /// See [`Cache::hold_expired`].
    pub(super) is_held: bool,
}

impl ExpiredKeys {
    /// How many more it takes.
    pub(super) fn room(&self) -> usize {
        KEYS_MAX.saturating_sub(self.keys.len())
    }

    pub(super) fn add(&mut self, keys: Vec<KeyBuf>) {
        self.bytes += keys.iter().map(bytes_of).sum::<u64>();
        self.keys.extend(keys);
    }

    fn pop(&mut self) -> Option<KeyBuf> {
        let key = self.keys.pop_front()?;
        self.bytes -= bytes_of(&key);
        Some(key)
    }

    /// Bytes held.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.bytes
    }
}

fn bytes_of(key: &KeyBuf) -> u64 {
    (key.as_disk().len() + size_of::<KeyBuf>()) as u64
}

impl Cache {
    /// Whether keys are to stay although their time is over, until told otherwise. A record that is
    /// read meanwhile goes into the home as it is: whoever looks there sees its expiry.
    pub fn hold_expired(&mut self, is_held: bool) {
        self.expired.is_held = is_held;
    }

    /// Asks for some of these keys, if there is room for a read that nobody waits for.
    pub(super) fn expire_turn<H: Home>(&mut self, home: &H) {
        // A delete that replay makes would stand behind operations that are still to be replayed.
        let is_replaying = self.replaying_at.is_some();
        let is_held = self.expired.is_held || self.closed || is_replaying;
        if self.expired.keys.is_empty() || is_held || self.ledger_excess() > 0 {
            return;
        }
        let reads_max = self.options.loads_max.div_ceil(READS_SHARE);
        while self.loads.wishes() < reads_max
            && let Some(key) = self.expired.pop()
        {
            let key = key.as_ref();
            if self.spaces.is_alive(key.space) && self.known(home, key) == Known::Unknown {
                self.loads.wish(key, self.now.mono_ms);
            }
        }
        // There may be more where these came from.
        self.maintenance.wanted |= self.expired.keys.is_empty();
    }
}
