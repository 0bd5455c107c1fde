//! A leaf of the tree: up to [`ENTRIES_MAX`] entries in order. Pure; any thread.
//!
//! An entry is a score, the place of its member (4 bytes) and a fingerprint of it (1 byte), each
//! in an array of its own, so that a search by score reads scores only and a search by member one
//! cache line of fingerprints. Members lie in one buffer in the order they came, so an insertion
//! moves 13 bytes an entry and never members; what removals leave is squeezed out when it exceeds
//! what lives. Members over [`INLINE_MAX`] have their own blocks. All arrays grow by small steps
//! instead of doubling: leaves are two thirds full on average, and room kept for the rest would be
//! a third of the whole set's memory.

use super::score::Score;
use super::search::partition;
use crate::types::memory::{copy_of, heap_bytes, round_up};
use crate::types::slab::NONE;

/// Most entries of a leaf.
pub(super) const ENTRIES_MAX: usize = 64;
/// Longest member in the shared buffer.
const INLINE_MAX: usize = 512;
/// The length that marks a member outside; its offset is then the block's index.
const OUTSIDE: u16 = u16::MAX;
/// Entries by which a leaf grows.
const GROWTH: usize = 16;
/// Bytes by which a buffer that is full grows beyond what is needed.
const SLACK: usize = 128;
/// Bytes of the buffer at which dead ones are squeezed out in any case: offsets have 16 bits.
const BUFFER_MAX: usize = 48 * 1024;

/// Where a member is: offset and length in the buffer, or the index of its block and [`OUTSIDE`].
#[derive(Clone, Copy, Debug)]
struct Place {
    at: u16,
    len: u16,
}

const _: () = assert!(size_of::<Place>() == 4 && size_of::<Score>() == 8);

/// The fingerprint of a member with this hash: bits that do not choose its place in the index.
#[inline]
const fn print_of(hash: u32) -> u8 {
    hash as u8
}

/// See the module documentation.
#[derive(Debug)]
pub(in crate::types) struct Leaf {
    /// In ascending order, equal ones in the order of their members.
    scores: Vec<Score>,
    /// One for each score.
    places: Vec<Place>,
    /// One for each score; the rest is unused.
    prints: [u8; ENTRIES_MAX],
    bytes: Vec<u8>,
    outside: Vec<Box<[u8]>>,
    outside_bytes: usize,
    /// Bytes of the buffer that belong to no entry.
    dead: u32,
    pub(super) previous: u32,
    pub(super) next: u32,
}

impl Clone for Leaf {
    fn clone(&self) -> Self {
        Self {
            scores: copy_of(&self.scores),
            places: copy_of(&self.places),
            bytes: copy_of(&self.bytes),
            outside: copy_of(&self.outside),
            ..*self
        }
    }
}

impl Leaf {
    pub(super) const fn new() -> Self {
        Self {
            scores: Vec::new(),
            places: Vec::new(),
            prints: [0; ENTRIES_MAX],
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
        self.scores.len()
    }

    pub(in crate::types) fn heap_bytes(&self) -> usize {
        heap_bytes(self.scores.capacity() * size_of::<Score>())
            + heap_bytes(self.places.capacity() * size_of::<Place>())
            + heap_bytes(self.bytes.capacity())
            + heap_bytes(self.outside.capacity() * size_of::<Box<[u8]>>())
            + self.outside_bytes
    }

    #[inline]
    pub(super) fn score(&self, slot: usize) -> Score {
        self.scores[slot]
    }

    #[inline]
    pub(super) fn member(&self, slot: usize) -> &[u8] {
        self.member_at(self.places[slot])
    }

    #[inline]
    fn member_at(&self, place: Place) -> &[u8] {
        let at = usize::from(place.at);
        if place.len == OUTSIDE {
            &self.outside[at]
        } else {
            &self.bytes[at..at + usize::from(place.len)]
        }
    }

    /// Number of leading entries not after `(score, member)`. Scores alone decide for most, so the
    /// binary search compares nothing else until it meets an equal one.
    #[inline]
    pub(super) fn locate(&self, score: Score, member: &[u8]) -> usize {
        let below = partition(0..self.count(), |slot| self.scores[slot] < score);
        if self.scores.get(below).is_none_or(|there| *there > score) {
            return below;
        }
        if self.scores.get(below + 1).is_none_or(|there| *there > score) {
            return below + usize::from(self.member(below) <= member);
        }
        let not_after = |slot: usize| self.scores[slot] <= score && self.member(slot) <= member;
        partition(below..self.count(), not_after)
    }

    /// The slot of a member with this hash.
    #[inline]
    pub(super) fn find(&self, hash: u32, member: &[u8]) -> Option<usize> {
        self.candidates(hash).find(|slot| self.member(*slot) == member)
    }

    /// Slots whose members may have this hash: all that do, and few others.
    #[inline]
    pub(super) fn candidates(&self, hash: u32) -> impl Iterator<Item = usize> + '_ {
        const LOW: u64 = 0x0101_0101_0101_0101;
        const HIGH: u64 = 0x8080_8080_8080_8080;
        let wanted = LOW * u64::from(print_of(hash));
        let words = self.prints.chunks_exact(8).take(self.count().div_ceil(8)).enumerate();
        let in_word = move |(word, prints): (usize, &[u8])| {
            let prints = u64::from_le_bytes(*prints.first_chunk().expect("chunks of eight"));
            // A byte of zero becomes its high bit; a borrow may set a few more, never fewer.
            let zeros = prints ^ wanted;
            let mut hits = zeros.wrapping_sub(LOW) & !zeros & HIGH;
            std::iter::from_fn(move || {
                let bit = (hits != 0).then(|| hits.trailing_zeros())?;
                hits &= hits - 1;
                Some(word * 8 + bit as usize / 8)
            })
        };
        words.flat_map(in_word).take_while(|slot| *slot < self.count())
    }

    /// Gives the entry another score, which may change its slot in this leaf.
    pub(super) fn set_score(&mut self, slot: usize, score: Score) {
        // The entries not after the new one, itself with its old score among them or not.
        let reached = self.locate(score, self.member(slot));
        self.scores[slot] = score;
        if reached > slot {
            self.scores[slot..reached].rotate_left(1);
            self.places[slot..reached].rotate_left(1);
            self.prints[slot..reached].rotate_left(1);
        } else {
            self.scores[reached..=slot].rotate_right(1);
            self.places[reached..=slot].rotate_right(1);
            self.prints[reached..=slot].rotate_right(1);
        }
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
        self.scores.insert(slot, score);
        self.places.insert(slot, Place { at, len });
        self.prints.copy_within(slot..self.scores.len() - 1, slot + 1);
        self.prints[slot] = print_of(hash);
    }

    fn reserve_entries(&mut self, extra: usize) {
        let needed = self.count() + extra;
        if needed > self.scores.capacity() {
            let wanted = capacity_for(needed).max(needed);
            self.scores.reserve_exact(wanted - self.count());
            self.places.reserve_exact(wanted - self.count());
        }
    }

    fn shrink_entries(&mut self) {
        self.scores.shrink_to(capacity_for(self.count()));
        self.places.shrink_to(capacity_for(self.count()));
        self.squeeze(0);
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
        for place in self.places.iter_mut().filter(|place| place.len != OUTSIDE) {
            let at = usize::from(place.at);
            place.at = fresh.len() as u16;
            fresh.extend_from_slice(&self.bytes[at..at + usize::from(place.len)]);
        }
        self.bytes = fresh;
        self.dead = 0;
    }

    /// Removes the entry at a slot.
    pub(super) fn remove(&mut self, slot: usize) {
        self.scores.remove(slot);
        self.prints.copy_within(slot + 1.., slot);
        let place = self.places.remove(slot);
        if place.len == OUTSIDE {
            self.drop_outside(place.at);
        } else {
            self.dead += u32::from(place.len);
        }
        if self.scores.capacity() > 2 * self.count() + GROWTH {
            self.shrink_entries();
        }
    }

    /// Drops a block; the last one moves into its place.
    fn drop_outside(&mut self, index: u16) {
        let block = self.outside.swap_remove(usize::from(index));
        self.outside_bytes -= heap_bytes(block.len());
        let last = self.outside.len() as u16;
        let moved = self.places.iter_mut().find(|p| p.len == OUTSIDE && p.at == last);
        if let Some(place) = moved {
            place.at = index;
        }
    }

    /// Cuts off the entries from `slot` on. The links are the caller's to set.
    pub(super) fn split_off(&mut self, slot: usize) -> Self {
        let mut upper = Self::new();
        upper.reserve_entries(self.count() - slot);
        upper.prints[..self.count() - slot].copy_from_slice(&self.prints[slot..self.count()]);
        upper.scores.extend(self.scores.drain(slot..));
        for place in self.places.split_off(slot) {
            self.move_member(&mut upper, place);
        }
        self.close_gaps();
        self.shrink_entries();
        upper
    }

    /// Drops the empty blocks that [`Leaf::move_member`] left.
    fn close_gaps(&mut self) {
        let mut blocks = Vec::new();
        for place in self.places.iter_mut().filter(|place| place.len == OUTSIDE) {
            blocks.push(std::mem::take(&mut self.outside[usize::from(place.at)]));
            place.at = (blocks.len() - 1) as u16;
        }
        self.outside = blocks;
    }

    /// Takes over the entries of the leaf that follows.
    pub(super) fn join(&mut self, mut next: Self) {
        self.reserve_entries(next.count());
        let count = self.count();
        self.prints[count..count + next.count()].copy_from_slice(&next.prints[..next.count()]);
        self.scores.extend_from_slice(&next.scores);
        for place in std::mem::take(&mut next.places) {
            next.move_member(self, place);
        }
    }

    /// Moves the member at `place`, which is no longer among this leaf's places, to the end of
    /// `to`. An empty block stays behind, so that the indices of others still hold.
    fn move_member(&mut self, to: &mut Self, place: Place) {
        let (at, len) = if place.len == OUTSIDE {
            let block = std::mem::take(&mut self.outside[usize::from(place.at)]);
            self.outside_bytes -= heap_bytes(block.len());
            to.keep_outside(block)
        } else {
            self.dead += u32::from(place.len);
            to.append(self.member_at(place))
        };
        to.places.push(Place { at, len });
    }
}

/// Capacity for so many entries.
fn capacity_for(count: usize) -> usize {
    count.next_multiple_of(GROWTH).min(ENTRIES_MAX)
}
