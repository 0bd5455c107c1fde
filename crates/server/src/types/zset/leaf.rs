//! A leaf of the tree: up to [`ENTRIES_MAX`] entries in order. Pure; any thread.
//!
//! An entry is 16 bytes: score, hash, and where its member is. Members lie in one buffer in the
//! order they came, so an insertion moves entries of 16 bytes and never members; what removals
//! leave is squeezed out when it exceeds what lives. Members over [`INLINE_MAX`] have their own
//! blocks. Both vectors grow by small steps instead of doubling: leaves are two thirds full on
//! average, and room kept for the rest would be a third of the whole set's memory.

use super::score::Score;
use crate::types::memory::{heap_bytes, round_up};
use crate::types::slab::NONE;

/// Most entries of a leaf.
pub(super) const ENTRIES_MAX: usize = 64;
/// Longest member in the shared buffer.
const INLINE_MAX: usize = 512;
/// The length that marks a member outside; its offset is then the block's index.
const OUTSIDE: u16 = u16::MAX;
/// Entries by which a leaf grows.
const GROWTH: usize = 8;
/// Bytes by which a buffer that is full grows beyond what is needed.
const SLACK: usize = 96;
/// Bytes of the buffer at which dead ones are squeezed out in any case: offsets have 16 bits.
const BUFFER_MAX: usize = 48 * 1024;

#[derive(Clone, Copy, Debug)]
struct Entry {
    score: Score,
    hash: u32,
    at: u16,
    len: u16,
}

const _: () = assert!(size_of::<Entry>() == 16);

/// See the module documentation.
#[derive(Clone, Debug)]
pub(in crate::types) struct Leaf {
    entries: Vec<Entry>,
    bytes: Vec<u8>,
    outside: Vec<Box<[u8]>>,
    outside_bytes: usize,
    /// Bytes of the buffer that belong to no entry.
    dead: u32,
    pub(super) previous: u32,
    pub(super) next: u32,
}

impl Leaf {
    pub(super) const fn new() -> Self {
        Self {
            entries: Vec::new(),
            bytes: Vec::new(),
            outside: Vec::new(),
            outside_bytes: 0,
            dead: 0,
            previous: NONE,
            next: NONE,
        }
    }

    #[inline]
    pub(super) const fn count(&self) -> usize {
        self.entries.len()
    }

    pub(in crate::types) fn heap_bytes(&self) -> usize {
        heap_bytes(self.entries.capacity() * size_of::<Entry>())
            + heap_bytes(self.bytes.capacity())
            + heap_bytes(self.outside.capacity() * size_of::<Box<[u8]>>())
            + self.outside_bytes
    }

    #[inline]
    pub(super) fn score(&self, slot: usize) -> Score {
        self.entries[slot].score
    }

    #[inline]
    pub(super) fn hash(&self, slot: usize) -> u32 {
        self.entries[slot].hash
    }

    #[inline]
    pub(super) fn member(&self, slot: usize) -> &[u8] {
        self.member_of(&self.entries[slot])
    }

    #[inline]
    fn member_of(&self, entry: &Entry) -> &[u8] {
        let at = usize::from(entry.at);
        if entry.len == OUTSIDE {
            &self.outside[at]
        } else {
            &self.bytes[at..at + usize::from(entry.len)]
        }
    }

    /// Number of leading entries for which `before` holds; it holds for a prefix of them.
    #[inline]
    pub(super) fn partition(&self, before: impl Fn(Score, &[u8]) -> bool) -> usize {
        self.entries.partition_point(|entry| before(entry.score, self.member_of(entry)))
    }

    /// The slot of a member, by hash.
    #[inline]
    pub(super) fn find(&self, hash: u32, member: &[u8]) -> Option<usize> {
        self.entries.iter().position(|e| e.hash == hash && self.member_of(e) == member)
    }

    /// Slots whose hash this is.
    pub(super) fn slots_of(&self, hash: u32) -> impl Iterator<Item = usize> + '_ {
        (0..self.count()).filter(move |slot| self.entries[*slot].hash == hash)
    }

    /// Gives the entry another score, which must keep its place.
    pub(super) fn set_score(&mut self, slot: usize, score: Score) {
        self.entries[slot].score = score;
    }

    /// Puts an entry before the one at `slot`.
    pub(super) fn insert(&mut self, slot: usize, score: Score, hash: u32, member: &[u8]) {
        debug_assert!(self.count() < ENTRIES_MAX);
        let (at, len) = if member.len() > INLINE_MAX {
            self.keep_outside(member.into())
        } else {
            self.append(member)
        };
        self.reserve_entries(1);
        self.entries.insert(slot, Entry { score, hash, at, len });
    }

    fn reserve_entries(&mut self, extra: usize) {
        let needed = self.count() + extra;
        if needed > self.entries.capacity() {
            let wanted = needed.next_multiple_of(GROWTH).min(ENTRIES_MAX).max(needed);
            self.entries.reserve_exact(wanted - self.count());
        }
    }

    fn keep_outside(&mut self, block: Box<[u8]>) -> (u16, u16) {
        self.outside_bytes += heap_bytes(block.len());
        self.outside.reserve_exact(1);
        self.outside.push(block);
        ((self.outside.len() - 1) as u16, OUTSIDE)
    }

    /// Appends a member to the buffer, which is squeezed first if most of it is dead.
    fn append(&mut self, member: &[u8]) -> (u16, u16) {
        let grows = self.bytes.len() + member.len() > self.bytes.capacity();
        let dead = self.dead as usize;
        if dead > 0 && (grows && dead * 2 > self.bytes.len() || self.bytes.len() > BUFFER_MAX) {
            self.squeeze(member.len());
        }
        let at = self.bytes.len() as u16;
        if self.bytes.len() + member.len() > self.bytes.capacity() {
            let wanted = round_up(self.bytes.len() + member.len() + SLACK);
            self.bytes.reserve_exact(wanted - self.bytes.len());
        }
        self.bytes.extend_from_slice(member);
        (at, member.len() as u16)
    }

    fn squeeze(&mut self, extra: usize) {
        let live = self.bytes.len() - self.dead as usize;
        let mut fresh = Vec::with_capacity(round_up(live + extra));
        for entry in self.entries.iter_mut().filter(|entry| entry.len != OUTSIDE) {
            let at = usize::from(entry.at);
            entry.at = fresh.len() as u16;
            fresh.extend_from_slice(&self.bytes[at..at + usize::from(entry.len)]);
        }
        self.bytes = fresh;
        self.dead = 0;
    }

    /// Removes the entry at a slot.
    pub(super) fn remove(&mut self, slot: usize) {
        let entry = self.entries.remove(slot);
        if entry.len == OUTSIDE {
            self.drop_outside(entry.at);
        } else {
            self.dead += u32::from(entry.len);
        }
        if self.entries.capacity() > 2 * self.count() + GROWTH {
            self.entries.shrink_to(self.count().next_multiple_of(GROWTH));
            self.squeeze(0);
        }
    }

    /// Drops a block; the last one moves into its place.
    fn drop_outside(&mut self, index: u16) {
        let block = self.outside.swap_remove(usize::from(index));
        self.outside_bytes -= heap_bytes(block.len());
        let last = self.outside.len() as u16;
        let moved = self.entries.iter_mut().find(|e| e.len == OUTSIDE && e.at == last);
        if let Some(entry) = moved {
            entry.at = index;
        }
    }

    /// Cuts off the entries from `slot` on. The links are the caller's to set.
    pub(super) fn split_off(&mut self, slot: usize) -> Self {
        let mut upper = Self::new();
        upper.reserve_entries(self.count() - slot);
        for entry in self.entries.split_off(slot) {
            self.move_entry(&mut upper, entry);
        }
        self.entries.shrink_to(self.count().next_multiple_of(GROWTH));
        self.squeeze(0);
        self.close_gaps();
        upper
    }

    /// Drops the empty blocks that [`Leaf::move_entry`] left.
    fn close_gaps(&mut self) {
        let mut blocks = Vec::new();
        for entry in self.entries.iter_mut().filter(|entry| entry.len == OUTSIDE) {
            blocks.push(std::mem::take(&mut self.outside[usize::from(entry.at)]));
            entry.at = (blocks.len() - 1) as u16;
        }
        self.outside = blocks;
    }

    /// Takes over the entries of the leaf that follows.
    pub(super) fn join(&mut self, mut next: Self) {
        self.reserve_entries(next.count());
        for entry in std::mem::take(&mut next.entries) {
            next.move_entry(self, entry);
        }
    }

    /// Moves what `entry`, no longer in this leaf, leads to, and the entry to the end of `to`. An
    /// empty block stays behind, so that the indices of others still hold.
    fn move_entry(&mut self, to: &mut Self, entry: Entry) {
        let (at, len) = if entry.len == OUTSIDE {
            let block = std::mem::take(&mut self.outside[usize::from(entry.at)]);
            self.outside_bytes -= heap_bytes(block.len());
            to.keep_outside(block)
        } else {
            self.dead += u32::from(entry.len);
            to.append(self.member_of(&entry))
        };
        to.entries.push(Entry { at, len, ..entry });
    }
}
