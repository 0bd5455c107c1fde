//! A home for typed values: a hash table that grows one small segment at a time. Main thread.
//!
//! The values of `DiskCache` and of the tests live here. One big table would copy
//! millions of entries at once when it doubles; here the table is many small ones, and growth
//! splits one of them (linear hashing: segment `p` into `p` and `p + 2^level`), so no call ever
//! moves more than about a thousand entries.
//!
//! Source: Litwin, "Linear hashing" (1980).

use std::hint::black_box;
use std::sync::Arc;

use hashbrown::HashTable;

use super::Now;
use super::evict;
use super::flags::KeyState;
use super::home::{Candidate, Entry, Forgot, Home, Known, Loaded, Payload};
use super::job::DecodeError;
use super::recover::{Change, Replayed};
use super::rng::Rng;
use crate::key::{KeyRef, Space};

pub use super::codec::{Codec, CodecDecode};

/// Mean entries of a segment above which one is split.
const SEGMENT: usize = 512;

/// Redis's default: a counter of 255 after about a million uses.
const LFU_LOG_FACTOR: u32 = 10;

/// How deltas are applied to a value in replay; `None` deletes the key.
pub type ApplyDelta<V> = fn(value: V, delta: &[u8]) -> Result<Option<V>, DecodeError>;

#[derive(Debug)]
struct Slot<V> {
    key: Box<[u8]>,
    hash: u64,
    /// Expiry since the Unix epoch, 0 for none.
    expires_at_ms: u64,
    value: Option<V>,
    space: Space,
    /// Last use, in milliseconds of the clock of intervals, wrapping after 49 days.
    used_ms: u32,
    state: KeyState,
    frequency: u8,
}

/// What [`MapHome::probe`] finds.
#[derive(Debug)]
pub enum Probe<'a, V> {
    /// The value, and its expiry in milliseconds since the Unix epoch.
    Value(&'a V, Option<u64>),
    /// The key does not exist.
    Absent,
    /// The engine may have the key.
    Unknown,
}

/// The table.
#[derive(Debug)]
pub struct MapHome<V> {
    segments: Vec<HashTable<Slot<V>>>,
    /// Segments `0..split` of this level have been split already.
    split: usize,
    level: u32,
    entries: usize,
    /// Those without a value.
    absent: usize,
    /// Heap bytes of keys and values.
    heap_bytes: u64,
    /// Bytes of the segments' tables.
    table_bytes: u64,
    now: Now,
    rng: Rng,
    apply: ApplyDelta<V>,
}

fn no_deltas<V>(_: V, _: &[u8]) -> Result<Option<V>, DecodeError> {
    Err(DecodeError("this store has no changes by delta"))
}

impl<V: Codec> Default for MapHome<V> {
    fn default() -> Self {
        Self::new(no_deltas)
    }
}

impl<V: Codec> MapHome<V> {
    /// An empty table whose values change as `apply` says.
    #[must_use]
    pub fn new(apply: ApplyDelta<V>) -> Self {
        Self {
            segments: vec![HashTable::new()],
            split: 0,
            level: 0,
            entries: 0,
            absent: 0,
            heap_bytes: 0,
            table_bytes: 0,
            now: Now::default(),
            rng: Rng::new(1),
            apply,
        }
    }

    /// Sets the clocks for recency.
    pub fn set_now(&mut self, now: Now) {
        self.now = now;
    }

    fn segment(&self, hash: u64) -> usize {
        // The table inside a segment uses the low bits and the top seven.
        let bits = hash >> 20;
        let low = (bits & ((1 << self.level) - 1)) as usize;
        if low < self.split { (bits & ((2 << self.level) - 1)) as usize } else { low }
    }

    fn find(&self, key: KeyRef<'_>) -> Option<&Slot<V>> {
        self.segments[self.segment(key.hash)].find(key.hash, |slot| is(slot, key))
    }

    fn find_mut(&mut self, key: KeyRef<'_>) -> Option<&mut Slot<V>> {
        let at = self.segment(key.hash);
        self.segments[at].find_mut(key.hash, |slot| is(slot, key))
    }

    /// The value of `key`; counts as a use.
    pub fn value(&mut self, key: KeyRef<'_>) -> Option<&V> {
        match self.probe(key) {
            Probe::Value(value, _) => Some(value),
            Probe::Absent | Probe::Unknown => None,
        }
    }

    /// What is known of `key`, with its value; counts as a use.
    pub fn probe(&mut self, key: KeyRef<'_>) -> Probe<'_, V> {
        let used_ms = super::options::wrapped_ms(self.now);
        let random = (self.rng.next_u64() >> 32) as u32;
        let Some(slot) = self.find_mut(key) else { return Probe::Unknown };
        let minutes = used_ms.wrapping_sub(slot.used_ms) / 60_000;
        let decayed = evict::lfu_decay(slot.frequency, minutes, 1);
        slot.frequency = evict::lfu_touch(decayed, random, LFU_LOG_FACTOR);
        slot.used_ms = used_ms;
        let expires_at_ms = expiry(slot);
        slot.value.as_ref().map_or(Probe::Absent, |value| Probe::Value(value, expires_at_ms))
    }

    /// The value and expiry of `key`, without counting as a use.
    #[must_use]
    pub fn peek(&self, key: KeyRef<'_>) -> Option<(&V, Option<u64>)> {
        let slot = self.find(key)?;
        slot.value.as_ref().map(|value| (value, expiry(slot)))
    }

    /// Puts `value` in, or `None` for an absent entry; `state` is for a new entry only. Returns
    /// what was there and the entry's state, to be changed by [`super::Cache::changed`].
    ///
    /// # Panics
    /// Never: the entry is there or was just added.
    pub fn set(
        &mut self,
        key: KeyRef<'_>,
        value: Option<V>,
        expires_at_ms: Option<u64>,
        state: KeyState,
    ) -> (Option<V>, &mut KeyState) {
        let added = value.as_ref().map_or(0, Codec::heap_bytes) as u64;
        let used_ms = super::options::wrapped_ms(self.now);
        let expires_at_ms = expires_at_ms.unwrap_or(0);
        let at = self.segment(key.hash);
        let known = self.segments[at].find_bucket_index(key.hash, |slot| is(slot, key));
        let slot = if let Some(bucket) = known {
            self.segments[at].get_bucket_mut(bucket)
        } else {
            let slot = Slot {
                key: key.key.into(),
                hash: key.hash,
                space: key.space,
                expires_at_ms,
                value: None,
                used_ms,
                state,
                frequency: evict::LFU_START,
            };
            self.heap_bytes += key.key.len() as u64;
            self.absent += 1;
            self.add(slot);
            // Its segment may have been split.
            let at = self.segment(key.hash);
            self.segments[at].find_mut(key.hash, |slot| is(slot, key))
        };
        let slot = slot.expect("there or just added");
        slot.expires_at_ms = expires_at_ms;
        slot.used_ms = used_ms;
        let old = std::mem::replace(&mut slot.value, value);
        let freed = old.as_ref().map_or(0, Codec::heap_bytes) as u64;
        self.heap_bytes = self.heap_bytes + added - freed;
        self.absent = self.absent + usize::from(slot.value.is_none()) - usize::from(old.is_none());
        (old, &mut slot.state)
    }

    fn add(&mut self, slot: Slot<V>) {
        let at = self.segment(slot.hash);
        let table = &mut self.segments[at];
        let before = table.allocation_size();
        table.insert_unique(slot.hash, slot, |slot| slot.hash);
        self.table_bytes += (table.allocation_size() - before) as u64;
        self.entries += 1;
        if self.entries > self.segments.len() * SEGMENT {
            self.split_one();
        }
    }

    fn split_one(&mut self) {
        let from = self.split;
        let old = std::mem::replace(&mut self.segments[from], HashTable::new());
        self.table_bytes -= old.allocation_size() as u64;
        self.segments.push(HashTable::new());
        self.split += 1;
        if self.split == 1 << self.level {
            self.split = 0;
            self.level += 1;
        }
        let to = self.segments.len() - 1;
        for slot in old {
            let at = self.segment(slot.hash);
            debug_assert!(at == from || at == to);
            self.segments[at].insert_unique(slot.hash, slot, |slot| slot.hash);
        }
        let sizes = [from, to].map(|at| self.segments[at].allocation_size() as u64);
        self.table_bytes += sizes[0] + sizes[1];
    }

    fn freed(slot: &Slot<V>) -> u64 {
        (slot.key.len() + slot.value.as_ref().map_or(0, Codec::heap_bytes)) as u64
    }

    fn remove_where(&mut self, at: usize, mut remove: impl FnMut(&Slot<V>) -> bool) -> Forgot {
        let (mut forgot, mut absent) = (Forgot::default(), 0);
        self.segments[at].retain(|slot| {
            let goes = remove(slot);
            if goes {
                forgot.entries += 1;
                forgot.bytes += Self::freed(slot);
                absent += usize::from(slot.value.is_none());
            }
            !goes
        });
        self.absent -= absent;
        self.entries -= forgot.entries as usize;
        self.heap_bytes -= forgot.bytes;
        forgot
    }
}

fn is<V>(slot: &Slot<V>, key: KeyRef<'_>) -> bool {
    slot.hash == key.hash && slot.space == key.space && *slot.key == *key.key
}

fn is_clean<V>(slot: &Slot<V>, space: Space, hash: u64) -> bool {
    slot.hash == hash && slot.space == space && slot.state.is_clean()
}

fn candidate<V>(slot: &Slot<V>, now_ms: u32) -> Candidate {
    let idle = now_ms.wrapping_sub(slot.used_ms);
    Candidate {
        space: slot.space,
        hash: slot.hash,
        idle_ms: u64::from(idle),
        frequency: evict::lfu_decay(slot.frequency, idle / 60_000, 1),
        expires_at_ms: expiry(slot),
    }
}

fn expiry<V>(slot: &Slot<V>) -> Option<u64> {
    (slot.expires_at_ms != 0).then_some(slot.expires_at_ms)
}

impl<V: Codec> Entry for Slot<V> {
    fn key(&self) -> &[u8] {
        &self.key
    }

    fn state(&self) -> KeyState {
        self.state
    }

    fn set_state(&mut self, state: KeyState) {
        self.state = state;
    }

    fn exists(&self) -> bool {
        self.value.is_some()
    }

    fn expires_at_ms(&self) -> Option<u64> {
        expiry(self)
    }

    fn encode(&self) -> Payload {
        let value = self.value.as_ref().expect("asked only of entries that exist");
        value.encoded(|bytes| Payload::Ready(Arc::from(bytes)))
    }
}

impl<V: Codec> Home for MapHome<V> {
    type Value = V;

    fn known(&self, key: KeyRef<'_>) -> Known {
        match self.find(key) {
            None => Known::Unknown,
            Some(Slot { value: None, .. }) => Known::Absent,
            Some(_) => Known::Value,
        }
    }

    fn prefetch(&self, keys: &[(Space, u64)]) {
        let first = |&(_, hash): &(Space, u64)| {
            self.segments[self.segment(hash)].iter_hash(hash).next().map_or(0, |slot| slot.hash)
        };
        // Reads that do not depend on each other are under way at the same time.
        black_box(keys.iter().map(first).fold(0, |all, hash| all ^ hash));
    }

    fn visit(&mut self, space: Space, hash: u64, each: &mut dyn FnMut(&mut dyn Entry)) {
        let at = self.segment(hash);
        for slot in self.segments[at].iter_hash_mut(hash) {
            if slot.hash == hash && slot.space == space {
                each(slot);
            }
        }
    }

    fn insert(&mut self, key: KeyRef<'_>, loaded: Option<Loaded<V>>, state: KeyState) {
        let expires_at_ms = loaded.as_ref().and_then(|l| l.expires_at_ms);
        self.set(key, loaded.map(|l| l.value), expires_at_ms, state);
    }

    fn forget(&mut self, space: Space, hash: u64) -> Forgot {
        let at = self.segment(hash);
        let mut forgot = Forgot::default();
        while let Ok(entry) = self.segments[at].find_entry(hash, |slot| is_clean(slot, space, hash))
        {
            let (slot, _) = entry.remove();
            forgot.entries += 1;
            forgot.bytes += Self::freed(&slot);
            self.absent -= usize::from(slot.value.is_none());
        }
        self.entries -= forgot.entries as usize;
        self.heap_bytes -= forgot.bytes;
        forgot
    }

    fn sample(&mut self, random: u64, want: usize, out: &mut Vec<Candidate>) {
        let mut rng = Rng::new(random);
        let now_ms = super::options::wrapped_ms(self.now);
        // A few dozen buckets of one segment. Of another only when nothing in them may go: where
        // little may, there is no choice to be made, and looking for more of it costs a miss of the
        // processor's caches for each bucket.
        for _ in 0..4 {
            let table = &self.segments[rng.below(self.segments.len() as u64) as usize];
            let buckets = table.num_buckets();
            let start = rng.below(buckets as u64) as usize;
            let around = (start..buckets).chain(0..start);
            for slot in around.take(8 * want).filter_map(|bucket| table.get_bucket(bucket)) {
                if out.len() >= want {
                    return;
                }
                if slot.state.is_clean() {
                    out.push(candidate(slot, now_ms));
                }
            }
            if !out.is_empty() {
                return;
            }
        }
    }

    fn candidate(&mut self, space: Space, hash: u64) -> Option<Candidate> {
        let table = &self.segments[self.segment(hash)];
        let slot = table.find(hash, |slot| is_clean(slot, space, hash))?;
        Some(candidate(slot, super::options::wrapped_ms(self.now)))
    }

    fn memory_bytes(&self) -> u64 {
        let directory = self.segments.capacity() * size_of::<HashTable<Slot<V>>>();
        self.heap_bytes + self.table_bytes + directory as u64
    }

    fn entry_count(&self) -> u64 {
        self.entries as u64
    }

    fn absent_count(&self) -> Option<u64> {
        Some(self.absent as u64)
    }
}

impl<V: Codec> Replayed for MapHome<V> {
    fn replay(
        &mut self,
        key: KeyRef<'_>,
        change: Change<'_>,
        state: KeyState,
    ) -> Result<(), DecodeError> {
        let (value, expires_at_ms) = match change {
            Change::Put { expires_at_ms, payload } => (Some(V::decode(payload)?), expires_at_ms),
            Change::Delete => (None, None),
            Change::Delta(delta) => {
                let expires_at_ms = self.find(key).and_then(expiry);
                let old = self.find_mut(key).and_then(|slot| slot.value.take());
                let old = old.ok_or(DecodeError("a change of nothing"))?;
                self.heap_bytes -= old.heap_bytes() as u64;
                self.absent += 1;
                ((self.apply)(old, delta)?, expires_at_ms)
            }
        };
        let expires_at_ms = expires_at_ms.filter(|_| value.is_some());
        let (_, now) = self.set(key, value, expires_at_ms, state);
        *now = state;
        Ok(())
    }

    fn drop_space(&mut self, space: Space) {
        for at in 0..self.segments.len() {
            self.remove_where(at, |slot| slot.space == space);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::conformance;
    use crate::storage::Before;

    #[test]
    fn the_map_is_a_home() {
        let payload = |n: u64| vec![b'x'; usize::try_from(n).expect("small")];
        conformance::check(MapHome::<Vec<u8>>::default, payload, &CodecDecode::default(), None);
    }

    #[test]
    fn growth_moves_a_segment_at_a_time_and_loses_nothing() {
        let mut home: MapHome<u64> = MapHome::default();
        let mut rng = Rng::new(3);
        let hashes: Vec<u64> = (0..40_000).map(|_| rng.next_u64()).collect();
        for (n, hash) in hashes.iter().enumerate() {
            let key = KeyRef { space: Space(1), hash: *hash, key: b"k" };
            home.set(key, Some(n as u64), None, KeyState::new(Before::Absent));
        }
        let largest = home.segments.iter().map(HashTable::len).max().unwrap_or(0);
        assert!(largest < 4 * SEGMENT, "a split moves at most {largest} entries");
        for (n, hash) in hashes.iter().enumerate() {
            let key = KeyRef { space: Space(1), hash: *hash, key: b"k" };
            assert_eq!(home.value(key), Some(&(n as u64)));
        }
        assert_eq!(home.absent_count(), Some(0));
        let tables: u64 = home.segments.iter().map(|t| t.allocation_size() as u64).sum();
        assert_eq!(home.table_bytes, tables);
        assert_eq!(home.heap_bytes, 40_000);
    }

    #[test]
    fn where_few_entries_are_clean_sampling_is_content_with_few() {
        let mut home: MapHome<u64> = MapHome::default();
        let mut rng = Rng::new(5);
        for n in 0..20_000 {
            let key = KeyRef { space: Space(1), hash: rng.next_u64(), key: b"k" };
            let (_, state) = home.set(key, Some(n), None, KeyState::new(Before::Absent));
            if n % 20 != 0 {
                state.mark_dirty();
            }
        }
        let mut out = Vec::new();
        let mut found = 0;
        for round in 0..1_000 {
            out.clear();
            home.sample(round, 5, &mut out);
            found += out.len();
        }
        assert!(found >= 900, "{found}: one at least, nearly always");
        assert!(found <= 3_000, "{found}: three dozen buckets in twenty hold one or two");
    }
}
