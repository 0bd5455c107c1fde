//! Which segment covers which range of hashes (extendible hashing). Pure; any thread.
//!
//! The directory has one entry for each prefix of `depth` bits; a segment of a smaller depth owns
//! a run of entries. A full segment splits in two by its next bit while all others stay, so growth
//! costs one segment's worth of work however large the table is; the directory itself doubles at
//! 4 bytes a segment. Entries are in hash order, which is what scans follow.

use crate::types::memory::heap_bytes;

/// Longest prefix. A segment that is full holds 31 elements or more, and a keyed hash does not
/// give 31 elements the same 32 bits.
pub(in crate::types) const DEPTH_MAX: u8 = 32;

/// See the module documentation.
#[derive(Clone, Debug)]
pub(in crate::types) struct Directory {
    ids: Vec<u32>,
    depth: u8,
    /// Segments whose depth is the directory's: at zero it can be halved.
    deepest: u32,
}

/// The hash position of the first element that a segment of this depth covering `hash` may hold.
pub(in crate::types) const fn segment_start(hash: u64, depth: u8) -> u64 {
    if depth == 0 { 0 } else { hash >> (64 - depth) << (64 - depth) }
}

/// The hash position after the segment; `None` after the last one.
pub(in crate::types) const fn segment_end(hash: u64, depth: u8) -> Option<u64> {
    if depth == 0 { None } else { segment_start(hash, depth).checked_add(1 << (64 - depth)) }
}

impl Directory {
    /// A directory of one segment.
    pub(in crate::types) fn new(id: u32) -> Self {
        Self { ids: vec![id], depth: 0, deepest: 1 }
    }

    #[inline]
    fn index(&self, hash: u64) -> usize {
        // Two shifts, because a shift by 64 is not defined.
        (hash >> 1 >> (63 - self.depth)) as usize
    }

    /// The segment that covers `hash`.
    #[inline]
    pub(in crate::types) fn find(&self, hash: u64) -> u32 {
        self.ids[self.index(hash)]
    }

    /// Number of entries; a segment of depth d owns entries / 2^d of them.
    pub(in crate::types) const fn entries(&self) -> usize {
        self.ids.len()
    }

    /// The segment of an entry.
    pub(in crate::types) fn entry(&self, index: usize) -> u32 {
        self.ids[index]
    }

    /// Entries that a segment of `depth` owns; its first is a multiple of that.
    pub(in crate::types) const fn run(&self, depth: u8) -> usize {
        1 << (self.depth - depth)
    }

    pub(in crate::types) fn heap_bytes(&self) -> usize {
        heap_bytes(self.ids.capacity() * size_of::<u32>())
    }

    /// The segment of `depth` that covers `hash` has split by its next bit: the upper half is
    /// `upper` now. Both halves have depth + 1.
    pub(in crate::types) fn split(&mut self, hash: u64, depth: u8, upper: u32) {
        if depth == self.depth {
            assert!(depth < DEPTH_MAX, "a keyed hash spreads its elements");
            self.ids = self.ids.iter().flat_map(|&id| [id, id]).collect();
            self.depth += 1;
            self.deepest = 0;
        }
        let run = self.run(depth);
        let start = self.index(segment_start(hash, depth));
        self.ids[start + run / 2..start + run].fill(upper);
        if depth + 1 == self.depth {
            self.deepest += 2;
        }
    }

    /// The buddy of the segment of `depth` that covers `hash`: the one it would merge with.
    pub(in crate::types) fn buddy(&self, hash: u64, depth: u8) -> Option<u32> {
        (depth > 0).then(|| self.find(hash ^ (1 << (64 - depth))))
    }

    /// Two buddies of `depth`, one of which covers `hash`, are the one segment `merged` now.
    pub(in crate::types) fn merge(&mut self, hash: u64, depth: u8, merged: u32) {
        let start = self.index(segment_start(hash, depth - 1));
        let run = self.run(depth - 1);
        self.ids[start..start + run].fill(merged);
        if depth == self.depth {
            self.deepest -= 2;
        }
        if self.deepest == 0 && self.depth > 0 {
            self.halve();
        }
    }

    /// Drops the last bit of the prefix; the number of now deepest segments is counted anew.
    fn halve(&mut self) {
        self.ids = self.ids.iter().copied().step_by(2).collect();
        self.depth -= 1;
        // A segment owns one entry if and only if its neighbours differ from it.
        let ids = &self.ids;
        let alone = |i: usize| {
            (i == 0 || ids[i - 1] != ids[i]) && ids.get(i + 1).is_none_or(|next| *next != ids[i])
        };
        self.deepest = (0..ids.len()).filter(|&i| alone(i)).count() as u32;
    }
}
