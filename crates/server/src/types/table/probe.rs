//! Linear probing that keeps its slots in hash order: the array inside every segment.
//! Pure; any thread.
//!
//! A slot carries a *tag*, the next bits of its element's hash below the segment's prefix. Its
//! home is the tag scaled to the array, so homes grow with tags, and insertion keeps the slots
//! sorted by tag (a run is shifted by one place, a memmove of a few dozen bytes). That buys: a
//! miss ends at the first larger tag; the array may have any length, so it is two thirds full on
//! average; growing it needs no hashing; and a scan in hash order is a walk. Removal shifts back
//! and leaves no tombstones.
//!
//! Rejected: hashbrown's table, which is faster on a miss but has no order, grows by doubling and
//! needs a hash of every element to do so.

use crate::types::memory::heap_bytes;

/// An element's place in the array: a small copyable word that knows its tag.
pub(in crate::types) trait Slot: Copy + Eq + std::fmt::Debug {
    /// The word that means "no element"; never a real one.
    const EMPTY: Self;
    /// The tag in a segment whose prefix is `depth` bits long.
    fn tag(self, depth: u8) -> u32;
}

/// Places that are kept free at the end, for elements whose home is near it.
const TAIL: usize = 4;

/// See the module documentation.
#[derive(Clone, Debug)]
pub(in crate::types) struct Probe<S> {
    /// Homes, then the tail. Between an element's home and its place there is no empty slot.
    slots: Vec<S>,
    homes: u32,
    count: u32,
    /// Length of the segment's hash prefix in bits.
    depth: u8,
}

impl<S: Slot> Probe<S> {
    /// An empty array for about `expected` elements of a segment of the given depth.
    pub(in crate::types) fn new(expected: usize, depth: u8) -> Self {
        let homes = homes_for(expected);
        Self { slots: vec![S::EMPTY; homes + TAIL], homes: homes as u32, count: 0, depth }
    }

    pub(in crate::types) const fn count(&self) -> usize {
        self.count as usize
    }

    /// Places, empty ones included: the range of [`Probe::get`].
    pub(in crate::types) const fn places(&self) -> usize {
        self.slots.len()
    }

    pub(in crate::types) const fn depth(&self) -> u8 {
        self.depth
    }

    pub(in crate::types) fn heap_bytes(&self) -> usize {
        heap_bytes(self.slots.capacity() * size_of::<S>())
    }

    #[inline]
    fn home(&self, tag: u32) -> usize {
        ((u64::from(tag) * u64::from(self.homes)) >> 32) as usize
    }

    /// The slot at a place; `None` when it is empty or there is no such place.
    #[inline]
    pub(in crate::types) fn get(&self, place: usize) -> Option<S> {
        self.slots.get(place).copied().filter(|slot| *slot != S::EMPTY)
    }

    /// Replaces a slot by one with the same tag.
    #[inline]
    pub(in crate::types) fn set(&mut self, place: usize, slot: S) {
        debug_assert_eq!(self.slots[place].tag(self.depth), slot.tag(self.depth));
        self.slots[place] = slot;
    }

    /// The first place whose slot has exactly `tag` and satisfies `matches`.
    #[inline]
    pub(in crate::types) fn find(
        &self,
        tag: u32,
        mut matches: impl FnMut(S) -> bool,
    ) -> Option<usize> {
        let home = self.home(tag);
        for (step, slot) in self.slots[home..].iter().enumerate() {
            let found = slot.tag(self.depth);
            if found > tag || *slot == S::EMPTY {
                return None;
            }
            if found == tag && matches(*slot) {
                return Some(home + step);
            }
        }
        None
    }

    /// The first place from `from` on whose slot is empty or has a tag for which `stop` holds.
    #[inline]
    fn walk(&self, from: usize, stop: impl Fn(u32) -> bool) -> usize {
        let rest = self.slots.get(from..).unwrap_or(&[]);
        let ends = |slot: &S| *slot == S::EMPTY || stop(slot.tag(self.depth));
        from + rest.iter().position(ends).unwrap_or(rest.len())
    }

    /// Adds a slot; returns its place. Places of other elements may change.
    pub(in crate::types) fn insert(&mut self, slot: S) -> usize {
        // At four fifths a run has about five slots and an insertion shifts a dozen.
        if (self.count() + 1) * 5 > self.homes as usize * 4 {
            self.rebuild(self.count() + 1);
        }
        let tag = slot.tag(self.depth);
        let place = self.walk(self.home(tag), |other| other > tag);
        let free = self.walk(place, |_| false);
        self.reach(free);
        if free > place {
            self.slots.copy_within(place..free, place + 1);
        }
        self.slots[place] = slot;
        self.count += 1;
        place
    }

    /// Makes the array long enough for `place`.
    #[inline]
    fn reach(&mut self, place: usize) {
        if place >= self.slots.len() {
            self.slots.reserve_exact(place + TAIL - self.slots.len());
            self.slots.resize(place + TAIL, S::EMPTY);
        }
    }

    /// Empties a place; places of other elements may change.
    pub(in crate::types) fn remove(&mut self, place: usize) {
        debug_assert!(self.get(place).is_some());
        let mut end = place + 1;
        while self.get(end).is_some_and(|slot| self.home(slot.tag(self.depth)) < end) {
            end += 1;
        }
        self.slots.copy_within(place + 1..end, place);
        self.slots[end - 1] = S::EMPTY;
        self.count -= 1;
        if self.count() * 4 < self.homes as usize && self.slots.len() > homes_for(0) + TAIL {
            self.rebuild(self.count());
        }
    }

    /// The slots in hash order.
    pub(in crate::types) fn iter(&self) -> impl Iterator<Item = S> + '_ {
        self.slots.iter().copied().filter(|slot| *slot != S::EMPTY)
    }

    /// The first place at or after which every element with a tag of at least `tag` lies.
    pub(in crate::types) fn first_place_of(&self, tag: u32) -> usize {
        self.walk(self.home(tag), |other| other >= tag)
    }

    /// Moves the slots to an array of the right size for `expected`.
    fn rebuild(&mut self, expected: usize) {
        let mut fresh = Self::new(expected, self.depth);
        fresh.fill(self.iter());
        *self = fresh;
    }

    /// Fills an empty array with slots that come sorted by tag: each goes to its home or the place
    /// after its predecessor.
    pub(in crate::types) fn fill(&mut self, slots: impl Iterator<Item = S>) {
        debug_assert_eq!(self.count, 0);
        let mut next = 0;
        for slot in slots {
            let place = self.home(slot.tag(self.depth)).max(next);
            self.reach(place);
            self.slots[place] = slot;
            self.count += 1;
            next = place + 1;
        }
    }
}

/// Homes for a fill of two thirds.
fn homes_for(expected: usize) -> usize {
    (expected + expected / 2).max(6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::rng::{Rng, SplitMix64};

    #[derive(Copy, Clone, Eq, PartialEq, Debug)]
    struct Word(u32, u32);

    impl Slot for Word {
        const EMPTY: Self = Self(u32::MAX, u32::MAX);
        fn tag(self, depth: u8) -> u32 {
            self.0 << depth
        }
    }

    fn check(probe: &Probe<Word>, depth: u8) {
        let tags: Vec<u32> = probe.iter().map(|w| w.tag(depth)).collect();
        assert!(tags.is_sorted(), "slots are in hash order");
        assert_eq!(tags.len(), probe.count());
        for (place, word) in probe.slots.iter().enumerate().filter(|(_, w)| **w != Word::EMPTY) {
            let home = probe.home(word.tag(depth));
            assert!(home <= place, "no element before its home");
            assert!((home..place).all(|p| probe.get(p).is_some()), "no gap after its home");
        }
    }

    #[test]
    fn random_insertions_and_removals_keep_the_invariants() {
        for depth in [0, 5] {
            let mut rng = SplitMix64::new(9);
            let mut probe = Probe::new(0, depth);
            let mut model: Vec<Word> = Vec::new();
            for step in 0..6_000_u32 {
                let grow = step < 3_000 || step % 3 == 0;
                if grow || model.is_empty() {
                    // Few distinct tags: long runs and equal tags are the hard case.
                    let word = Word((rng.next_u64() as u32) & 0x0FFF_0000, step);
                    probe.insert(word);
                    model.push(word);
                } else {
                    let word = model.swap_remove(rng.below(model.len()));
                    let place = probe.find(word.tag(depth), |w| w == word).unwrap();
                    probe.remove(place);
                    assert_eq!(probe.find(word.tag(depth), |w| w == word), None);
                }
                if step % 97 == 0 {
                    check(&probe, depth);
                }
            }
            check(&probe, depth);
            assert!(model.iter().all(|&m| probe.find(m.tag(depth), |w| w == m).is_some()));
            assert_eq!(model.len(), probe.count());
        }
    }

    #[test]
    fn one_tag_for_all_degrades_but_stays_right() {
        let mut probe = Probe::new(0, 0);
        (0..300).for_each(|n| _ = probe.insert(Word(u32::MAX, n)));
        check(&probe, 0);
        assert!((0..300).all(|n| probe.find(u32::MAX, |w| w.1 == n).is_some()));
        for n in 0..300 {
            let place = probe.find(u32::MAX, |w| w.1 == n).unwrap();
            probe.remove(place);
        }
        assert_eq!(probe.count(), 0);
        assert!(probe.places() <= 10, "an emptied array shrinks");
    }

    #[test]
    fn a_tag_finds_its_first_place() {
        let mut probe = Probe::new(0, 0);
        (0..100_u32).for_each(|n| _ = probe.insert(Word(n << 24, n)));
        for n in 0..100_u32 {
            let place = probe.first_place_of((n << 24) - u32::from(n > 0));
            let first = (place..probe.places()).find_map(|p| probe.get(p)).unwrap();
            assert_eq!(first.1, n);
        }
    }
}
