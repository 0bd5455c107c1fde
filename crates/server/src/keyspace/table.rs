//! Extendible hashing: a directory over small segments that split one at a time.
//!
//! Main thread. Owns every entry of one database and the counts over them. Growth never stalls:
//! an insert rebuilds at most one segment (about a thousand entries) and, once in a doubling of
//! the whole, copies the directory, four bytes a segment. The directory is indexed by the leading
//! bits of the hash, so segments, and buckets inside them, lie in hash order; a scan position is a
//! hash. Knows nothing of time, expiry rules or commands.
//!
//! Source: Fagin et al., Extendible Hashing, 1979.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::entry::{Entry, EntryRef, NewValue, Slot};
use super::segment::{Bucket, Place, Segment, prefix_of};
use super::{Hasher, Key};
use crate::types::Object;

/// Segments are kept in pages of this many, so that adding one never moves the others.
const PAGE: usize = 512;
/// Bits of a hash that the directory may use; 2^32 segments are out of reach of any memory.
const DEPTH_MAX: u8 = 32;

/// Where an entry lies. Valid until the next insert or removal in the table.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) struct Loc {
    segment: u32,
    place: Place,
}

/// Counts over all entries of a table.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub(crate) struct Counts {
    /// Entries with a value.
    pub values: usize,
    /// Entries known to be absent.
    pub absent: usize,
    /// Entries with an expiry.
    pub volatile: usize,
    /// Bytes of all entries, values included.
    pub bytes: usize,
}

/// See the module doc.
#[derive(Debug)]
pub(crate) struct Table {
    /// Segment number of each prefix of `depth` bits.
    directory: Vec<u32>,
    depth: u8,
    pages: Vec<Vec<Segment>>,
    /// Numbers of segments emptied by merges, to be used again.
    free: Vec<u32>,
    counts: Counts,
    structure_bytes: usize,
    hasher: Hasher,
}

impl Table {
    /// An empty table.
    pub(crate) fn new(hasher: Hasher) -> Self {
        let mut table = Self {
            directory: vec![0],
            depth: 0,
            pages: Vec::new(),
            free: Vec::new(),
            counts: Counts::default(),
            structure_bytes: 0,
            hasher,
        };
        table.add_segment(Segment::new(0, 0));
        table
    }

    /// Counts over all entries.
    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// Bytes of entries, segments and directory.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.counts.bytes + self.structure_bytes + self.directory.capacity() * size_of::<u32>()
    }

    fn add_segment(&mut self, segment: Segment) -> u32 {
        self.structure_bytes += segment.structure_bytes();
        if let Some(number) = self.free.pop() {
            let place = std::mem::replace(self.segment_mut(number), segment);
            self.structure_bytes -= place.structure_bytes();
            return number;
        }
        if self.pages.last().is_none_or(|page| page.len() == PAGE) {
            self.pages.push(Vec::with_capacity(PAGE));
        }
        let page = self.pages.len() - 1;
        self.pages[page].push(segment);
        u32::try_from(page * PAGE + self.pages[page].len() - 1).expect("segments fit 32 bits")
    }

    fn segment(&self, number: u32) -> &Segment {
        &self.pages[number as usize / PAGE][number as usize % PAGE]
    }

    fn segment_mut(&mut self, number: u32) -> &mut Segment {
        &mut self.pages[number as usize / PAGE][number as usize % PAGE]
    }

    fn directory_index(&self, hash: u64) -> usize {
        // A shift by 64 is not defined, hence the two steps.
        ((hash >> 1) >> (63 - self.depth)) as usize
    }

    fn segment_of(&self, hash: u64) -> u32 {
        self.directory[self.directory_index(hash)]
    }

    /// Finds the entry of `key`, value or absent.
    pub(crate) fn find(&self, key: Key<'_>) -> Option<Loc> {
        self.find_entry(key).map(|(loc, _)| loc)
    }

    /// As [`Table::find`], with the entry, which was looked at anyway.
    #[inline(always)]
    pub(crate) fn find_entry(&self, key: Key<'_>) -> Option<(Loc, EntryRef<'_>)> {
        let segment = self.segment_of(key.hash);
        let (place, entry) = self.segment(segment).find(key.hash, key.bytes)?;
        Some((Loc { segment, place }, entry))
    }

    /// The first entry behind `after` whose hash is `hash`, whatever its key.
    pub(crate) fn next_of_hash(&self, hash: u64, after: Option<Loc>) -> Option<Loc> {
        let segment = self.segment_of(hash);
        let (hasher, after) = (self.hasher, after.map(|loc| loc.place));
        let place = self.segment(segment).next_of_hash(hash, after, |key| hasher.hash(key))?;
        Some(Loc { segment, place })
    }

    /// All entries whose hash is `hash`, whatever their keys.
    pub(crate) fn of_hash(&self, hash: u64) -> impl Iterator<Item = Loc> {
        let first = self.next_of_hash(hash, None);
        std::iter::successors(first, move |last| self.next_of_hash(hash, Some(*last)))
    }

    /// The entry at `loc`.
    pub(crate) fn entry(&self, loc: Loc) -> EntryRef<'_> {
        let slot = self.segment(loc.segment).slot(loc.place);
        slot.entry().expect("a location names an entry until the table changes")
    }

    /// Adds an entry for a key that is not there.
    pub(crate) fn insert(
        &mut self,
        key: Key<'_>,
        value: NewValue<'_>,
        expires_at_ms: Option<u64>,
    ) -> Loc {
        debug_assert!(self.find(key).is_none(), "insert is for keys that are not there");
        self.make_room(key.hash);
        let entry = Entry::new(key.bytes, value, expires_at_ms);
        self.count(entry.get(), true);
        let segment = self.segment_of(key.hash);
        let before = self.segment(segment).structure_bytes();
        let place = self.segment_mut(segment).insert(key.hash, entry);
        self.structure_bytes += self.segment(segment).structure_bytes() - before;
        Loc { segment, place }
    }

    /// Changes the entry at `loc` in any way that keeps its key; counts follow.
    pub(crate) fn update<R>(&mut self, loc: Loc, f: impl FnOnce(&mut Entry) -> R) -> R {
        let old = Counted::of(self.entry(loc));
        let slot = self.segment_mut(loc.segment).slot_mut(loc.place);
        let result = slot.update(f).expect("a location names an entry until the table changes");
        let new = Counted::of(self.entry(loc));
        old.count(&mut self.counts, false);
        new.count(&mut self.counts, true);
        result
    }

    /// Changes words of the entry at `loc` that no count depends on: access, IO bits, before.
    pub(crate) fn touch<R>(&mut self, loc: Loc, f: impl FnOnce(&mut Entry) -> R) -> R {
        let slot = self.segment_mut(loc.segment).slot_mut(loc.place);
        slot.update(f).expect("a location names an entry until the table changes")
    }

    /// Takes the entry at `loc` out.
    pub(crate) fn remove(&mut self, loc: Loc) -> Entry {
        let entry = self.segment_mut(loc.segment).remove(loc.place);
        self.count(entry.get(), false);
        if self.segment(loc.segment).is_sparse() {
            self.shrink(self.hasher.hash(entry.get().key()));
        }
        entry
    }

    fn count(&mut self, entry: EntryRef<'_>, add: bool) {
        Counted::of(entry).count(&mut self.counts, add);
    }

    /// Grows or splits the segment of `hash` while it is crowded.
    fn make_room(&mut self, hash: u64) {
        loop {
            let number = self.segment_of(hash);
            let segment = self.segment(number);
            if !segment.is_crowded() {
                return;
            }
            if !segment.is_full_size() {
                self.resize(number, true);
            } else if segment.depth() < DEPTH_MAX {
                self.split(number, hash);
            } else {
                // The stash takes what comes: slower, still right.
                return;
            }
        }
    }

    fn resize(&mut self, number: u32, grow: bool) {
        let hasher = self.hasher;
        let before = self.segment(number).structure_bytes();
        self.segment_mut(number).resize(grow, |key| hasher.hash(key));
        self.structure_bytes += self.segment(number).structure_bytes();
        self.structure_bytes -= before;
    }

    fn split(&mut self, number: u32, hash: u64) {
        let hasher = self.hasher;
        if self.segment(number).depth() == self.depth {
            let doubled = self.directory.iter().flat_map(|&n| [n, n]).collect();
            self.directory = doubled;
            self.depth += 1;
        }
        let before = self.segment(number).structure_bytes();
        let (low, high) = self.segment_mut(number).split(|key| hasher.hash(key));
        self.structure_bytes += low.structure_bytes();
        self.structure_bytes -= before;
        let depth = low.depth();
        *self.segment_mut(number) = low;
        let high = self.add_segment(high);
        let high_hash = prefix_of(hash, depth - 1) | 1 << (64 - depth);
        self.point(high_hash, depth, high);
    }

    /// Makes every directory slot of a prefix name segment `number`.
    fn point(&mut self, hash: u64, depth: u8, number: u32) {
        let first = self.directory_index(prefix_of(hash, depth));
        let count = 1 << (self.depth - depth);
        self.directory[first..first + count].fill(number);
    }

    /// Makes the segment of `hash` smaller, or one with its neighbour, if few entries are left.
    fn shrink(&mut self, hash: u64) {
        let number = self.segment_of(hash);
        let depth = self.segment(number).depth();
        if depth > 0 {
            let buddy_hash = prefix_of(hash, depth) ^ 1 << (64 - depth);
            let buddy = self.segment_of(buddy_hash);
            let both = self.segment(number).len() + self.segment(buddy).len();
            // A merged segment must be far from splitting again.
            if self.segment(buddy).depth() == depth && both < super::segment::MERGE_BELOW {
                self.merge(number, buddy, hash);
                return;
            }
        }
        self.resize(number, false);
    }

    fn merge(&mut self, number: u32, buddy: u32, hash: u64) {
        let hasher = self.hasher;
        let empty = || Segment::new(0, 0);
        let a = std::mem::replace(self.segment_mut(number), empty());
        let b = std::mem::replace(self.segment_mut(buddy), empty());
        self.structure_bytes -= a.structure_bytes() + b.structure_bytes();
        let depth = a.depth() - 1;
        let both = Segment::merge(a, b, |key| hasher.hash(key));
        // What stays in the free place counts as well: it is freed like any other segment.
        self.structure_bytes += both.structure_bytes() + self.segment(buddy).structure_bytes();
        *self.segment_mut(number) = both;
        self.free.push(buddy);
        self.point(hash, depth, number);
    }

    /// Visits entries in hash order from the bucket of `from`, whole buckets at a time, until at
    /// least `limit` were visited. Returns the hash to go on from, `None` at the end.
    pub(crate) fn scan(
        &self,
        from: u64,
        limit: usize,
        mut f: impl FnMut(EntryRef<'_>),
    ) -> Option<u64> {
        let mut position = from;
        let mut seen = 0;
        loop {
            let segment = self.segment(self.segment_of(position));
            for index in segment.bucket_of(position)..segment.bucket_count() {
                // Entries lie wherever there was room: their misses are waited for together.
                segment.bucket_slots(index).for_each(Slot::prefetch);
                for slot in segment.bucket_slots(index) {
                    slot.entry().into_iter().for_each(&mut f);
                    seen += 1;
                }
                if seen >= limit && index + 1 < segment.bucket_count() {
                    return Some(segment.bucket_start(position, index + 1));
                }
            }
            let (depth, prefix) = (segment.depth(), prefix_of(position, segment.depth()));
            if depth == 0 {
                return None;
            }
            position = prefix.checked_add(1 << (64 - depth))?;
            if seen >= limit {
                return Some(position);
            }
        }
    }

    /// Visits up to `limit` entries around a random hash, until `f` breaks off.
    pub(crate) fn sample(
        &self,
        random: u64,
        limit: usize,
        mut f: impl FnMut(EntryRef<'_>) -> ControlFlow<()>,
    ) {
        let mut left = limit.min(self.counts.values + self.counts.absent);
        let mut from = random;
        while left > 0 {
            let next = self.scan(from, 1, |entry| {
                if left > 0 {
                    left = if f(entry).is_continue() { left - 1 } else { 0 };
                }
            });
            from = next.unwrap_or(0);
        }
    }

    /// Frees one segment of a table that is not used any more; collections go to `f`. Returns
    /// whether anything is left.
    pub(crate) fn drop_slice(&mut self, mut f: impl FnMut(Arc<Object>)) -> bool {
        self.directory = Vec::new();
        while self.pages.last().is_some_and(Vec::is_empty) {
            self.pages.pop();
        }
        let Some(mut segment) = self.pages.last_mut().and_then(Vec::pop) else { return false };
        self.structure_bytes -= segment.structure_bytes();
        segment.drain(|mut entry| {
            self.counts.bytes -= entry.get().memory_bytes();
            entry.take_object().into_iter().for_each(&mut f);
        });
        true
    }

    /// The bucket of a hash.
    #[inline]
    pub(super) fn bucket(&self, hash: u64) -> &Bucket {
        self.segment(self.segment_of(hash)).bucket(hash)
    }
}

/// What one entry adds to the counts.
struct Counted {
    absent: bool,
    volatile: bool,
    bytes: usize,
}

impl Counted {
    fn of(entry: EntryRef<'_>) -> Self {
        Self {
            absent: entry.is_absent(),
            volatile: entry.expires_at_ms().is_some(),
            bytes: entry.memory_bytes(),
        }
    }

    fn count(&self, counts: &mut Counts, add: bool) {
        let one = |field: &mut usize, by: usize| {
            if add {
                *field += by;
            } else {
                *field -= by;
            }
        };
        one(if self.absent { &mut counts.absent } else { &mut counts.values }, 1);
        one(&mut counts.volatile, usize::from(self.volatile));
        one(&mut counts.bytes, self.bytes);
    }
}

#[cfg(test)]
mod tests;
