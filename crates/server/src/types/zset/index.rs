//! From a member's hash to the leaf that holds it. Pure; any thread.
//!
//! The members are in the tree already; a slot here is 8 bytes, the hash and the number of the
//! leaf, where the entry is found by a fingerprint. A dictionary with a copy of each member and
//! its score would answer ZSCORE a little faster and cost 20 bytes a member more. It is segmented
//! like any table, by the same directory, so it grows a segment at a time and a scan follows the
//! hash.

use crate::types::slab::Slab;
use crate::types::table::{Directory, Probe, Slot, segment_end, segment_start};

/// Slots at which a segment splits.
const SLOTS_MAX: usize = 1024;
/// Longest prefix: a thousand million members. Segments grow beyond.
const DEPTH_MAX: u8 = 20;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::types) struct Link {
    hash: u32,
    leaf: u32,
}

impl Slot for Link {
    // No leaf has the number that means none.
    const EMPTY: Self = Self { hash: u32::MAX, leaf: u32::MAX };

    #[inline]
    fn tag(self, depth: u8) -> u32 {
        self.hash << depth
    }
}

/// See the module documentation.
#[derive(Clone, Debug)]
pub(super) struct Index {
    directory: Directory,
    segments: Slab<Probe<Link>>,
    /// Bytes that the segments own.
    owned_bytes: usize,
}

/// Where a hash of 32 bits stands in the order of 64.
const fn position(hash: u32) -> u64 {
    (hash as u64) << 32
}

impl Index {
    pub(super) fn new(expected: usize) -> Self {
        let segment = Probe::new(expected.min(SLOTS_MAX), 0);
        let owned_bytes = segment.heap_bytes();
        let mut segments = Slab::new();
        let id = segments.insert(segment);
        Self { directory: Directory::new(id), segments, owned_bytes }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.directory.heap_bytes() + self.segments.heap_bytes() + self.owned_bytes
    }

    /// What `try_leaf` gives for the first leaf that has the hash and for which it gives anything.
    #[inline]
    pub(super) fn find<R>(&self, hash: u32, try_leaf: impl Fn(u32) -> Option<R>) -> Option<R> {
        let segment = self.segments.get(self.directory.find(position(hash)));
        let mut found = None;
        segment.find(hash << segment.depth(), |link| {
            found = try_leaf(link.leaf);
            found.is_some()
        });
        found
    }

    pub(super) fn insert(&mut self, hash: u32, leaf: u32) {
        let mut id = self.directory.find(position(hash));
        loop {
            let segment = self.segments.get(id);
            if segment.count() < SLOTS_MAX || segment.depth() >= DEPTH_MAX {
                break;
            }
            self.split(hash, id);
            id = self.directory.find(position(hash));
        }
        self.edit(id, |segment| segment.insert(Link { hash, leaf }));
    }

    pub(super) fn remove(&mut self, hash: u32, leaf: u32) {
        let id = self.directory.find(position(hash));
        let place = self.place(id, Link { hash, leaf });
        self.edit(id, |segment| segment.remove(place));
        if self.segments.get(id).count() < SLOTS_MAX / 8 {
            self.merge(hash);
        }
    }

    /// An entry with this hash has moved from one leaf to another.
    pub(super) fn relocate(&mut self, hash: u32, from: u32, to: u32) {
        let id = self.directory.find(position(hash));
        let place = self.place(id, Link { hash, leaf: from });
        self.segments.get_mut(id).set(place, Link { hash, leaf: to });
    }

    fn place(&self, id: u32, link: Link) -> usize {
        let segment = self.segments.get(id);
        let found = segment.find(link.tag(segment.depth()), |other| other == link);
        found.expect("each entry of the tree has its link")
    }

    fn edit<R>(&mut self, id: u32, change: impl FnOnce(&mut Probe<Link>) -> R) -> R {
        let segment = self.segments.get_mut(id);
        let before = segment.heap_bytes();
        let result = change(segment);
        self.owned_bytes = self.owned_bytes - before + segment.heap_bytes();
        result
    }

    #[cold]
    fn split(&mut self, hash: u32, id: u32) {
        let segment = self.segments.get_mut(id);
        let depth = segment.depth();
        let is_upper = |link: &Link| link.hash << depth >> 31 == 1;
        let upper_count = segment.iter().filter(is_upper).count();
        let mut lower = Probe::new(segment.count() - upper_count, depth + 1);
        let mut upper = Probe::new(upper_count, depth + 1);
        lower.fill(segment.iter().filter(|link| !is_upper(link)));
        upper.fill(segment.iter().filter(is_upper));
        self.owned_bytes -= segment.heap_bytes();
        self.owned_bytes += lower.heap_bytes() + upper.heap_bytes();
        *segment = lower;
        let upper = self.segments.insert(upper);
        self.directory.split(position(hash), depth, upper);
    }

    /// Joins the segment of `hash` with its buddies while the result is at most a quarter full.
    fn merge(&mut self, hash: u32) {
        loop {
            let id = self.directory.find(position(hash));
            let segment = self.segments.get(id);
            let depth = segment.depth();
            let Some(buddy) = self.directory.buddy(position(hash), depth) else { return };
            let other = self.segments.get(buddy);
            if other.depth() != depth || segment.count() + other.count() > SLOTS_MAX / 4 {
                return;
            }
            let is_upper = hash >> (32 - u32::from(depth)) & 1 == 1;
            let (lower, upper) = if is_upper { (buddy, id) } else { (id, buddy) };
            let upper = self.segments.remove(upper);
            let lower_segment = self.segments.get_mut(lower);
            let mut both = Probe::new(lower_segment.count() + upper.count(), depth - 1);
            both.fill(lower_segment.iter().chain(upper.iter()));
            self.owned_bytes -= lower_segment.heap_bytes() + upper.heap_bytes();
            self.owned_bytes += both.heap_bytes();
            *lower_segment = both;
            self.directory.merge(position(hash), depth, lower);
            if self.directory.entries() == 1 {
                // The pages that many segments needed are given back.
                let segment = self.segments.remove(lower);
                self.directory = Directory::new(self.segments.insert(segment));
            }
        }
    }

    /// Shows hash and leaf of at least `count` links from `cursor` on, each pair once in a row;
    /// returns the next cursor, 0 after the end.
    pub(super) fn scan(
        &self,
        cursor: u64,
        count: usize,
        mut visit: impl FnMut(u32, u32) -> usize,
    ) -> u64 {
        let mut at = u64::from(cursor as u32) << 32;
        let mut shown = 0;
        loop {
            let segment = self.segments.get(self.directory.find(at));
            let depth = segment.depth();
            let mut last: Option<Link> = None;
            let from = (at >> 32) as u32;
            for place in segment.first_place_of(from << depth)..segment.places() {
                let Some(link) = segment.get(place) else { continue };
                if shown >= count.max(1) && last.is_none_or(|last| last.hash != link.hash) {
                    return u64::from(link.hash);
                }
                if last != Some(link) {
                    shown += visit(link.hash, link.leaf);
                }
                last = Some(link);
            }
            let Some(next) = segment_end(segment_start(at, depth), depth) else { return 0 };
            at = next;
        }
    }

    pub(super) fn into_segments(self) -> Slab<Probe<Link>> {
        self.segments
    }
}

#[cfg(test)]
impl Index {
    /// Hash and leaf of every link.
    pub(super) fn links(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.segments.iter().flat_map(Probe::iter).map(|link| (link.hash, link.leaf))
    }

    pub(super) fn check(&self) {
        let owned: usize = self.segments.iter().map(Probe::heap_bytes).sum();
        assert_eq!(owned, self.owned_bytes);
    }
}
