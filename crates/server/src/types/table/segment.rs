//! One segment of a table: an ordered probe array over entries packed in an arena.
//! Pure; any thread.
//!
//! A slot is one word: 16 bits of tag, 16 bits of offset into the arena. An entry is a key and,
//! in a table of pairs, a value; each is a length code and its bytes, or, when longer than
//! [`INLINE_MAX`], a mark and the number of a block of its own, so that no operation ever moves
//! more than an arena of 32 KiB. Removing or outgrowing an entry leaves dead bytes, which are
//! squeezed out when the arena would have to grow. Against one allocation per entry this saves
//! the allocator's header and rounding twice over: a member of 16 bytes costs about 25 in all.

use super::probe::{Probe, Slot};
use crate::types::length;
use crate::types::memory::{copy_of, heap_bytes, reserve};
use crate::types::slab::Slab;

/// Longest string kept inside the arena.
pub(super) const INLINE_MAX: usize = 512;
/// Longest arena; a segment that needs more splits. Offsets have 16 bits.
pub(super) const ARENA_MAX: usize = 32 * 1024;
/// Most entries of a segment: bounds the time of a split to some 50 us.
pub(super) const ENTRIES_MAX: usize = 1024;
/// Lead byte of a string in a block of its own; its number follows in two bytes.
const OUTSIDE: u8 = 0xFF;
/// Bytes of such a reference.
const OUTSIDE_SIZE: usize = 3;

/// Tag in the upper half, offset in the lower.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
struct Place(u32);

impl Place {
    fn new(tag: u32, at: usize) -> Self {
        debug_assert!(at < ARENA_MAX);
        Self((tag & 0xFFFF_0000) | at as u32)
    }

    const fn at(self) -> usize {
        (self.0 & 0xFFFF) as usize
    }
}

impl Slot for Place {
    // No arena reaches offset 0xFFFF.
    const EMPTY: Self = Self(u32::MAX);

    /// Already relative to the segment's prefix, because 16 bits would run out otherwise.
    #[inline]
    fn tag(self, _depth: u8) -> u32 {
        self.0 & 0xFFFF_0000
    }
}

/// The tag of `hash` in a segment of `depth`.
#[inline]
pub(super) const fn tag_of(hash: u64, depth: u8) -> u32 {
    ((hash << depth) >> 32) as u32 & 0xFFFF_0000
}

/// The segment has no room for the entry and must split.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Full;

/// See the module documentation. `PAIRS`: entries have values.
#[derive(Debug)]
pub(in crate::types) struct Segment<const PAIRS: bool> {
    probe: Probe<Place>,
    arena: Vec<u8>,
    /// Strings longer than [`INLINE_MAX`].
    outside: Slab<Box<[u8]>>,
    outside_bytes: usize,
    /// Bytes of the arena that no slot leads to.
    dead: usize,
}

impl<const PAIRS: bool> Clone for Segment<PAIRS> {
    fn clone(&self) -> Self {
        let (probe, outside) = (self.probe.clone(), self.outside.clone());
        Self { probe, arena: copy_of(&self.arena), outside, ..*self }
    }
}

impl<const PAIRS: bool> Segment<PAIRS> {
    pub(super) fn new(expected: usize, depth: u8) -> Self {
        Self {
            probe: Probe::new(expected, depth),
            arena: Vec::new(),
            outside: Slab::new(),
            outside_bytes: 0,
            dead: 0,
        }
    }

    pub(in crate::types) const fn count(&self) -> usize {
        self.probe.count()
    }

    pub(super) const fn depth(&self) -> u8 {
        self.probe.depth()
    }

    pub(super) const fn places(&self) -> usize {
        self.probe.places()
    }

    /// Bytes of live entries in the arena.
    pub(super) const fn live_bytes(&self) -> usize {
        self.arena.len() - self.dead
    }

    pub(in crate::types) fn heap_bytes(&self) -> usize {
        self.probe.heap_bytes()
            + heap_bytes(self.arena.capacity())
            + self.outside.heap_bytes()
            + self.outside_bytes
    }

    /// The string at `at` and the bytes it takes in the arena.
    #[inline]
    fn string(&self, at: usize) -> (&[u8], usize) {
        if self.arena[at] == OUTSIDE {
            let id = u16::from_le_bytes([self.arena[at + 1], self.arena[at + 2]]);
            return (self.outside.get(u32::from(id)), OUTSIDE_SIZE);
        }
        let (len, code) = length::read(&self.arena[at..]);
        (&self.arena[at + code..at + code + len], code + len)
    }

    fn entry(&self, at: usize) -> (&[u8], &[u8]) {
        let (key, size) = self.string(at);
        (key, if PAIRS { self.string(at + size).0 } else { &[] })
    }

    /// Bytes of the whole entry in the arena.
    fn entry_size(&self, at: usize) -> usize {
        let key = self.string(at).1;
        if PAIRS { key + self.string(at + key).1 } else { key }
    }

    /// The place of `key`.
    #[inline]
    pub(super) fn find(&self, tag: u32, key: &[u8]) -> Option<usize> {
        self.probe.find(tag, |slot| self.string(slot.at()).0 == key)
    }

    /// The entry at a place, if there is one.
    #[inline]
    pub(super) fn get(&self, place: usize) -> Option<(&[u8], &[u8])> {
        self.probe.get(place).map(|slot| self.entry(slot.at()))
    }

    /// The tag at a place, if it is taken.
    pub(super) fn tag_at(&self, place: usize) -> Option<u32> {
        self.probe.get(place).map(|slot| slot.tag(0))
    }

    pub(super) fn first_place_of(&self, tag: u32) -> usize {
        self.probe.first_place_of(tag)
    }

    /// Adds a key that is not there. When full, nothing has changed.
    pub(super) fn insert(&mut self, tag: u32, key: &[u8], value: &[u8]) -> Result<(), Full> {
        if self.count() >= ENTRIES_MAX {
            return Err(Full);
        }
        self.make_room(packed_size(key) + if PAIRS { packed_size(value) } else { 0 })?;
        let at = self.arena.len();
        self.append(key);
        if PAIRS {
            self.append(value);
        }
        self.probe.insert(Place::new(tag, at));
        Ok(())
    }

    /// Replaces the value at a place. When full, nothing has changed.
    pub(super) fn set_value(&mut self, place: usize, value: &[u8]) -> Result<(), Full> {
        debug_assert!(PAIRS);
        let slot = self.probe.get(place).expect("the caller found the key here");
        let at = slot.at();
        let value_at = at + self.string(at).1;
        let old_size = self.string(value_at).1;
        let new_size = packed_size(value);
        if new_size <= old_size {
            self.free_outside(value_at);
            self.write(value_at, value);
            self.dead += old_size - new_size;
            return Ok(());
        }
        let key_size = value_at - at;
        let grown = self.arena.len() + new_size - old_size;
        let at = if value_at + old_size == self.arena.len() && grown <= ARENA_MAX {
            // The entry is the last one and can grow where it is.
            reserve(&mut self.arena, new_size - old_size, ARENA_MAX);
            self.free_outside(value_at);
            self.arena.truncate(value_at);
            at
        } else {
            self.make_room(key_size + new_size)?;
            // Making room may have squeezed the arena.
            let from = self.probe.get(place).expect("squeezing keeps places").at();
            self.free_outside(from + key_size);
            self.dead += key_size + old_size;
            let to = self.arena.len();
            self.arena.extend_from_within(from..from + key_size);
            to
        };
        self.append(value);
        self.probe.set(place, Place::new(slot.tag(0), at));
        Ok(())
    }

    /// Removes the entry at a place.
    pub(super) fn remove(&mut self, place: usize) {
        let at = self.probe.get(place).expect("the caller found the key here").at();
        let size = self.entry_size(at);
        let key_size = self.string(at).1;
        self.free_outside(at);
        if PAIRS {
            self.free_outside(at + key_size);
        }
        self.probe.remove(place);
        if at + size == self.arena.len() {
            self.arena.truncate(at);
        } else {
            self.dead += size;
        }
        if self.arena.capacity() > 256 && self.live_bytes() * 4 < self.arena.capacity() {
            self.squeeze(self.live_bytes() / 4);
        }
    }

    /// Makes room for `size` more bytes at the end of the arena, squeezing it first if that helps.
    fn make_room(&mut self, size: usize) -> Result<(), Full> {
        if self.arena.len() + size <= self.arena.capacity().min(ARENA_MAX) {
            return Ok(());
        }
        if self.live_bytes() + size > ARENA_MAX {
            return Err(Full);
        }
        if self.dead * 8 > self.arena.len() || self.arena.len() + size > ARENA_MAX {
            self.squeeze(size);
        }
        reserve(&mut self.arena, size, ARENA_MAX);
        Ok(())
    }

    /// Copies the live entries to a fresh arena with room for `extra` bytes.
    fn squeeze(&mut self, extra: usize) {
        let mut fresh = Vec::new();
        reserve(&mut fresh, self.live_bytes() + extra, ARENA_MAX);
        for place in 0..self.probe.places() {
            let Some(slot) = self.probe.get(place) else { continue };
            let at = slot.at();
            let size = self.entry_size(at);
            self.probe.set(place, Place::new(slot.tag(0), fresh.len()));
            fresh.extend_from_slice(&self.arena[at..at + size]);
        }
        self.arena = fresh;
        self.dead = 0;
    }

    /// Appends a string; the caller has made room.
    fn append(&mut self, string: &[u8]) {
        if string.len() > INLINE_MAX {
            let id = self.keep_outside(string.into());
            self.arena.extend_from_slice(&id);
        } else {
            length::push(&mut self.arena, string.len());
            self.arena.extend_from_slice(string);
        }
    }

    /// Writes a string over an old one of at least its size.
    fn write(&mut self, at: usize, string: &[u8]) {
        if string.len() > INLINE_MAX {
            let id = self.keep_outside(string.into());
            self.arena[at..at + OUTSIDE_SIZE].copy_from_slice(&id);
        } else {
            let code = length::write(&mut self.arena[at..], string.len());
            self.arena[at + code..at + code + string.len()].copy_from_slice(string);
        }
    }

    fn keep_outside(&mut self, string: Box<[u8]>) -> [u8; OUTSIDE_SIZE] {
        self.outside_bytes += heap_bytes(string.len());
        let id = self.outside.insert(string);
        let id = u16::try_from(id).expect("at most two blocks an entry").to_le_bytes();
        [OUTSIDE, id[0], id[1]]
    }

    /// Takes the block out if the string at `at` has one.
    fn take_outside(&mut self, at: usize) -> Option<Box<[u8]>> {
        if self.arena[at] != OUTSIDE {
            return None;
        }
        let id = u16::from_le_bytes([self.arena[at + 1], self.arena[at + 2]]);
        let block = self.outside.remove(u32::from(id));
        self.outside_bytes -= heap_bytes(block.len());
        Some(block)
    }

    fn free_outside(&mut self, at: usize) {
        drop(self.take_outside(at));
    }

    /// Moves the entry at `at` of `from` to the end of this arena; its offset here.
    #[inline]
    fn take_entry(&mut self, from: &mut Self, at: usize) -> usize {
        let to = self.arena.len();
        if from.outside.count() == 0 {
            self.arena.extend_from_slice(&from.arena[at..at + from.entry_size(at)]);
            return to;
        }
        let mut part = at;
        for _ in 0..if PAIRS { 2 } else { 1 } {
            let size = from.string(part).1;
            if let Some(block) = from.take_outside(part) {
                let id = self.keep_outside(block);
                self.arena.extend_from_slice(&id);
            } else {
                self.arena.extend_from_slice(&from.arena[part..part + size]);
            }
            part += size;
        }
        to
    }

    /// Splits by the next bit of the hash: this one keeps the lower half, the upper is returned.
    pub(super) fn split(&mut self, hash: impl Fn(&[u8]) -> u64) -> Self {
        let depth = self.depth() + 1;
        let slots: Vec<Place> = self.probe.iter().collect();
        let (lower, upper) = slots.split_at(slots.partition_point(|slot| slot.tag(0) >> 31 == 0));
        let halves = [lower, upper].map(|slots| {
            let mut half = Self::new(slots.len(), depth);
            let share = self.live_bytes() * slots.len() / self.count().max(1);
            reserve(&mut half.arena, share, ARENA_MAX);
            let mut moved = Vec::with_capacity(slots.len());
            for slot in slots {
                // The tag holds 16 bits and one is used up, so the last comes from the key again.
                let full = hash(self.string(slot.at()).0);
                let at = half.take_entry(self, slot.at());
                moved.push(Place::new(tag_of(full, depth), at));
            }
            // In order already but for entries that had the same tag.
            moved.sort_by_key(|slot| slot.tag(0));
            half.probe.fill(moved.into_iter());
            half
        });
        let [lower, upper] = halves;
        *self = lower;
        upper
    }

    /// The segment that this one and its upper buddy make together.
    pub(super) fn merge(&mut self, mut upper: Self) {
        let mut both = Self::new(self.count() + upper.count(), self.depth() - 1);
        reserve(&mut both.arena, self.live_bytes() + upper.live_bytes(), ARENA_MAX);
        let mut moved = Vec::with_capacity(self.count() + upper.count());
        for (from, bit) in [(self as &mut Self, 0), (&mut upper, 1 << 31)] {
            let slots: Vec<Place> = from.probe.iter().collect();
            for slot in slots {
                let at = both.take_entry(from, slot.at());
                moved.push(Place::new(bit | (slot.tag(0) >> 1), at));
            }
        }
        both.probe.fill(moved.into_iter());
        *self = both;
    }
}

/// Bytes that a string takes in an arena.
fn packed_size(string: &[u8]) -> usize {
    if string.len() > INLINE_MAX { OUTSIDE_SIZE } else { length::size(string.len()) + string.len() }
}
