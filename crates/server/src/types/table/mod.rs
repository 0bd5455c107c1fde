//! The table of byte strings under big hashes and sets: keys, with values or without.
//! Pure; any thread.
//!
//! Extendible hashing over small segments ([`directory`], [`segment`]): growth splits one segment
//! of at most 1,024 entries at a time, so the slowest insertion into a table of any size is the
//! split of 32 KiB. The order of everything is the order of the keyed hash, and a cursor is a
//! position in that order: an element that stays keeps its position, whatever splits, merges or
//! reloads happen between two calls, so SCAN's guarantee holds by construction.

mod directory;
mod probe;
mod segment;
#[cfg(test)]
mod tests;

pub(super) use directory::{Directory, segment_end, segment_start};
pub(super) use probe::{Probe, Slot};
pub(super) use segment::Segment;

use super::hashing::HashKey;
use super::memory::heap_bytes;
use super::rng::Rng;
use super::slab::Slab;
use segment::{ARENA_MAX, ENTRIES_MAX, tag_of};
use std::collections::BTreeSet;

/// Cursors are the upper 48 bits of a hash: below 2^53, because some clients read them as doubles.
const CURSOR_BITS: u32 = 48;
/// Random picks of an entry before falling back to counting.
const PICKS_MAX: usize = 100;

/// See the module documentation. `PAIRS`: keys have values.
#[derive(Clone, Debug)]
pub(super) struct Table<const PAIRS: bool> {
    directory: Directory,
    segments: Slab<Segment<PAIRS>>,
    key: HashKey,
    count: usize,
    /// Bytes that the segments own.
    owned_bytes: usize,
    /// No segment has more places than this; what random picks aim at.
    places_max: usize,
}

impl<const PAIRS: bool> Table<PAIRS> {
    /// An empty table with room for about `expected` entries in its first segment.
    pub(super) fn new(key: HashKey, expected: usize) -> Self {
        let segment = Segment::new(expected.min(ENTRIES_MAX), 0);
        let mut table = Self {
            owned_bytes: segment.heap_bytes(),
            places_max: segment.places(),
            directory: Directory::new(0),
            segments: Slab::new(),
            key,
            count: 0,
        };
        let id = table.segments.insert(segment);
        debug_assert_eq!(id, 0);
        table
    }

    pub(super) const fn count(&self) -> usize {
        self.count
    }

    /// Bytes of the box around this and of all it owns.
    pub(super) fn heap_bytes(&self) -> usize {
        heap_bytes(size_of::<Self>())
            + self.directory.heap_bytes()
            + self.segments.heap_bytes()
            + self.owned_bytes
    }

    /// The value of `key`; empty in a table without values.
    #[inline]
    pub(super) fn get(&self, key: &[u8]) -> Option<&[u8]> {
        let hash = self.key.hash(key);
        let segment = self.segments.get(self.directory.find(hash));
        let place = segment.find(tag_of(hash, segment.depth()), key)?;
        segment.get(place).map(|(_, value)| value)
    }

    /// Sets the value of `key`; true when the key is new.
    pub(super) fn set(&mut self, key: &[u8], value: &[u8]) -> bool {
        let hash = self.key.hash(key);
        loop {
            let id = self.directory.find(hash);
            let segment = self.segments.get_mut(id);
            let before = segment.heap_bytes();
            let tag = tag_of(hash, segment.depth());
            let (new, done) = match segment.find(tag, key) {
                Some(place) if PAIRS => (false, segment.set_value(place, value)),
                Some(_) => (false, Ok(())),
                None => (true, segment.insert(tag, key, value)),
            };
            self.owned_bytes = self.owned_bytes - before + segment.heap_bytes();
            if done.is_ok() {
                self.places_max = self.places_max.max(segment.places());
                self.count += usize::from(new);
                return new;
            }
            self.split(hash, id);
        }
    }

    /// Removes `key`; true when it was there.
    pub(super) fn remove(&mut self, key: &[u8]) -> bool {
        let hash = self.key.hash(key);
        let id = self.directory.find(hash);
        let segment = self.segments.get_mut(id);
        let Some(place) = segment.find(tag_of(hash, segment.depth()), key) else { return false };
        let before = segment.heap_bytes();
        segment.remove(place);
        self.owned_bytes = self.owned_bytes - before + segment.heap_bytes();
        self.count -= 1;
        if segment.count() < ENTRIES_MAX / 8 && segment.live_bytes() < ARENA_MAX / 8 {
            self.merge(hash);
        }
        true
    }

    #[cold]
    fn split(&mut self, hash: u64, id: u32) {
        let segment = self.segments.get_mut(id);
        let depth = segment.depth();
        let before = segment.heap_bytes();
        let key = self.key;
        let upper = segment.split(|bytes| key.hash(bytes));
        self.owned_bytes = self.owned_bytes - before + segment.heap_bytes() + upper.heap_bytes();
        let upper = self.segments.insert(upper);
        self.directory.split(hash, depth, upper);
    }

    /// Joins the segment of `hash` with its buddies while the result is at most a quarter full.
    fn merge(&mut self, hash: u64) {
        loop {
            let id = self.directory.find(hash);
            let segment = self.segments.get(id);
            let depth = segment.depth();
            let Some(buddy) = self.directory.buddy(hash, depth) else { return };
            let other = self.segments.get(buddy);
            if other.depth() != depth
                || segment.count() + other.count() > ENTRIES_MAX / 4
                || segment.live_bytes() + other.live_bytes() > ARENA_MAX / 4
            {
                return;
            }
            let before = segment.heap_bytes() + other.heap_bytes();
            let is_upper = hash >> (64 - depth) & 1 == 1;
            let (lower, upper) = if is_upper { (buddy, id) } else { (id, buddy) };
            let upper = self.segments.remove(upper);
            let merged = self.segments.get_mut(lower);
            merged.merge(upper);
            self.owned_bytes = self.owned_bytes - before + merged.heap_bytes();
            self.places_max = self.places_max.max(merged.places());
            self.directory.merge(hash, depth, lower);
            if self.directory.entries() == 1 {
                self.start_over(lower);
            }
        }
    }

    /// One segment is left: the pages and the directory that many needed are given back.
    fn start_over(&mut self, last: u32) {
        let segment = self.segments.remove(last);
        self.places_max = segment.places();
        self.directory = Directory::new(self.segments.insert(segment));
    }

    /// All entries in hash order.
    pub(super) const fn iter(&self) -> Iter<'_, PAIRS> {
        Iter { table: self, entry: 0, place: 0 }
    }

    /// Shows at least `count` entries from `cursor` on, unless the end comes first; returns the
    /// cursor to go on from, 0 after the end. Entries that stay in the table from the first call
    /// to the last are shown; those of one hash position are never parted.
    pub(super) fn scan<'a>(
        &'a self,
        cursor: u64,
        count: usize,
        mut visit: impl FnMut(&'a [u8], &'a [u8]),
    ) -> u64 {
        let mut position = (cursor & ((1 << CURSOR_BITS) - 1)) << (64 - CURSOR_BITS);
        let mut shown = 0;
        loop {
            let segment = self.segments.get(self.directory.find(position));
            let depth = segment.depth();
            let mut last = tag_of(position, depth);
            let first = segment.first_place_of(last);
            for place in first..segment.places() {
                let Some(tag) = segment.tag_at(place) else { continue };
                if shown >= count && tag != last {
                    let start = segment_start(position, depth);
                    let next = start | (u64::from(tag) << 32 >> depth);
                    return next >> (64 - CURSOR_BITS);
                }
                last = tag;
                if let Some((key, value)) = segment.get(place) {
                    visit(key, value);
                    shown += 1;
                }
            }
            let Some(next) = segment_end(position, depth) else { return 0 };
            position = next;
            if shown >= count {
                return position >> (64 - CURSOR_BITS);
            }
        }
    }

    /// A uniformly chosen entry.
    pub(super) fn random(&self, rng: &mut impl Rng) -> Option<(&[u8], &[u8])> {
        if self.count == 0 {
            return None;
        }
        let place = self.random_place(rng);
        self.at(place)
    }

    /// `count` distinct entries, uniformly chosen; all of them when there are no more.
    pub(super) fn sample(&self, count: usize, rng: &mut impl Rng) -> Vec<(&[u8], &[u8])> {
        if count.saturating_mul(4) >= self.count {
            return super::sample::from_iter(self.iter(), self.count, count, rng);
        }
        let mut places = BTreeSet::new();
        while places.len() < count {
            places.insert(self.random_place(rng));
        }
        places.into_iter().filter_map(|place| self.at(place)).collect()
    }

    fn at(&self, (id, place): (u32, usize)) -> Option<(&[u8], &[u8])> {
        self.segments.get(id).get(place)
    }

    /// Aims at a directory entry and a place. Every place has the same chance: a segment that owns
    /// several entries is hit through its first one only, and a place beyond its array is a miss.
    fn random_place(&self, rng: &mut impl Rng) -> (u32, usize) {
        for _ in 0..PICKS_MAX {
            let entry = rng.below(self.directory.entries());
            let place = rng.below(self.places_max);
            let id = self.directory.entry(entry);
            let segment = self.segments.get(id);
            if entry & (self.directory.run(segment.depth()) - 1) == 0
                && segment.tag_at(place).is_some()
            {
                return (id, place);
            }
        }
        self.random_place_slow(rng)
    }

    /// Counts its way to a random entry: linear in the number of segments, needed only after a
    /// client has removed almost everything in hash order.
    #[cold]
    fn random_place_slow(&self, rng: &mut impl Rng) -> (u32, usize) {
        let mut left = rng.below(self.count);
        let mut entry = 0;
        loop {
            let id = self.directory.entry(entry);
            let segment = self.segments.get(id);
            if left < segment.count() {
                let mut taken = (0..segment.places()).filter(|p| segment.tag_at(*p).is_some());
                let place = taken.nth(left).expect("the segment counts its entries");
                return (id, place);
            }
            left -= segment.count();
            entry += self.directory.run(segment.depth());
        }
    }

    /// The segments, to be freed one by one.
    pub(super) fn into_segments(self) -> Slab<Segment<PAIRS>> {
        self.segments
    }
}

/// Iterator over a table in hash order.
#[derive(Clone, Debug)]
pub(super) struct Iter<'a, const PAIRS: bool> {
    table: &'a Table<PAIRS>,
    /// Directory entry of the segment the iterator is in.
    entry: usize,
    place: usize,
}

impl<'a, const PAIRS: bool> Iterator for Iter<'a, PAIRS> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        while self.entry < self.table.directory.entries() {
            let segment = self.table.segments.get(self.table.directory.entry(self.entry));
            while self.place < segment.places() {
                self.place += 1;
                if let Some(item) = segment.get(self.place - 1) {
                    return Some(item);
                }
            }
            self.entry += self.table.directory.run(segment.depth());
            self.place = 0;
        }
        None
    }
}
