//! Pages of equal slots addressed by number: list chunks, table segments and tree nodes live in
//! one each. Pure; any thread.
//!
//! A `Vec` would move every element when it grows, which at a few million chunks is a stall of
//! milliseconds; here growth allocates one more page and moves at most the list of pages. Numbers
//! of freed slots are reused first, so a queue that turns over stays in the same few pages.
//!
//! A copy shares its pages with the original until either changes something in one, and then that
//! page alone is copied: while a save or a COPY holds a collection of any size, a command that
//! changes it pays for what it touches. Cost: one locked instruction for each change.

use std::sync::Arc;

use super::memory::{copy_of, heap_bytes};

/// Slots of a full page. The first page grows up to it, so a small value pays for what it holds; a
/// page that is shared is copied for one change in it, 1 MB at most.
const PAGE: usize = 32;
/// The number that names no slot.
pub(super) const NONE: u32 = u32::MAX;
/// What an `Arc` counts with, in front of a page.
const COUNTS_BYTES: usize = 2 * size_of::<usize>();

#[derive(Clone, Debug)]
enum Slot<T> {
    Full(T),
    /// Free; holds the next free number or [`NONE`].
    Free(u32),
}

impl<T> Slot<T> {
    fn full(&self) -> Option<&T> {
        match self {
            Self::Full(value) => Some(value),
            Self::Free(_) => None,
        }
    }

    /// Takes the element out; `next` is the next free number.
    fn take(&mut self, next: u32) -> Option<T> {
        match std::mem::replace(self, Self::Free(next)) {
            Self::Full(value) => Some(value),
            Self::Free(_) => None,
        }
    }
}

/// See the module documentation. An element's clone must own as many bytes as the element does:
/// owners count them, and are not told when a page is copied.
#[derive(Debug)]
pub(super) struct Slab<T> {
    pages: Vec<Arc<[Slot<T>]>>,
    free: u32,
    count: u32,
}

impl<T> Clone for Slab<T> {
    fn clone(&self) -> Self {
        Self { pages: copy_of(&self.pages), ..*self }
    }
}

impl<T> Slab<T> {
    pub(super) const fn new() -> Self {
        Self { pages: Vec::new(), free: NONE, count: 0 }
    }

    /// Elements held.
    pub(super) const fn count(&self) -> usize {
        self.count as usize
    }

    /// Whether one element keeps the pages of many: putting it in anew gives them back.
    pub(super) const fn is_sparse(&self) -> bool {
        self.count == 1 && self.pages.len() > 1
    }

    #[inline]
    pub(super) fn get(&self, id: u32) -> &T {
        let slot = &self.pages[id as usize / PAGE][id as usize % PAGE];
        slot.full().expect("a number that is held names a full slot")
    }

    /// Bytes of the pages themselves, without what the elements own.
    pub(super) fn heap_bytes(&self) -> usize {
        let page = |slots: usize| heap_bytes(COUNTS_BYTES + slots * size_of::<Slot<T>>());
        // Every page but the first is full.
        let first = self.pages.first().map_or(0, |first| page(first.len()));
        heap_bytes(self.pages.capacity() * size_of::<Arc<[Slot<T>]>>())
            + first
            + self.pages.len().saturating_sub(1) * page(PAGE)
    }

    /// All elements, in no particular order.
    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.pages.iter().flat_map(|page| page.iter()).filter_map(Slot::full)
    }

    /// Takes out some element, last page first, until none is left: how a value is dismantled.
    /// What a copy has too is left to the copy.
    pub(super) fn pop(&mut self) -> Option<T> {
        while let Some(page) = self.pages.last_mut() {
            let slots = Arc::get_mut(page).unwrap_or_default();
            if let Some(slot) = slots.iter_mut().rfind(|slot| slot.full().is_some()) {
                return slot.take(NONE);
            }
            self.pages.pop();
        }
        *self = Self::new();
        None
    }
}

impl<T: Clone> Slab<T> {
    /// Stores `value`; returns its number.
    pub(super) fn insert(&mut self, value: T) -> u32 {
        if self.free == NONE {
            self.grow();
        }
        let id = self.free;
        let slot = self.slot_mut(id);
        let Slot::Free(next) = *slot else { unreachable!("the free list names free slots") };
        *slot = Slot::Full(value);
        self.free = next;
        self.count += 1;
        id
    }

    /// Takes the element out and frees its number.
    pub(super) fn remove(&mut self, id: u32) -> T {
        let next = self.free;
        let value = self.slot_mut(id).take(next).expect("a number is freed once");
        self.free = id;
        self.count -= 1;
        if self.count == 0 {
            *self = Self::new();
        }
        value
    }

    #[inline]
    pub(super) fn get_mut(&mut self, id: u32) -> &mut T {
        match self.slot_mut(id) {
            Slot::Full(value) => value,
            Slot::Free(_) => unreachable!("a number that is held names a full slot"),
        }
    }

    #[inline]
    fn slot_mut(&mut self, id: u32) -> &mut Slot<T> {
        &mut Arc::make_mut(&mut self.pages[id as usize / PAGE])[id as usize % PAGE]
    }

    /// Adds free slots: the first page doubles, others are allocated full.
    fn grow(&mut self) {
        let (kept, slots) = match &mut self.pages[..] {
            [] => (Vec::new(), 1),
            [first] if first.len() < PAGE => {
                let taken = Arc::make_mut(first).iter_mut();
                let kept = taken.map(|slot| std::mem::replace(slot, Slot::Free(NONE))).collect();
                let slots = first.len();
                self.pages.clear();
                (kept, slots)
            }
            _ => (Vec::new(), PAGE),
        };
        let start = self.pages.len() * PAGE + kept.len();
        let end = u32::try_from(start + slots).expect("fewer than 2^32 slots");
        let free = (start as u32 + 1..end).chain([NONE]).map(Slot::Free);
        self.pages.push(kept.into_iter().chain(free).collect());
        self.free = start as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_valid_and_are_reused() {
        let mut slab = Slab::new();
        let ids: Vec<u32> = (0..200_u32).map(|n| slab.insert(n)).collect();
        assert!(ids.iter().all(|&id| *slab.get(id) == id));
        assert_eq!(slab.remove(70), 70);
        assert_eq!(slab.remove(3), 3);
        assert_eq!((slab.insert(1000), slab.insert(1001), slab.insert(1002)), (3, 70, 200));
        *slab.get_mut(70) += 1;
        assert_eq!((*slab.get(3), *slab.get(70), slab.count()), (1000, 1002, 201));
    }

    #[test]
    fn the_last_removal_gives_the_pages_back() {
        let mut slab = Slab::new();
        let ids: Vec<u32> = (0..200_u64).map(|n| slab.insert(n)).collect();
        assert!(slab.heap_bytes() > 200 * 8);
        ids.into_iter().for_each(|id| _ = slab.remove(id));
        assert_eq!((slab.heap_bytes(), slab.count()), (0, 0));
        assert_eq!(slab.insert(5), 0);
    }

    #[test]
    fn a_small_slab_pays_for_what_it_holds() {
        let mut slab = Slab::new();
        slab.insert([0_u64; 8]);
        assert!(slab.heap_bytes() <= 80 + 112, "{}", slab.heap_bytes());
    }

    #[test]
    fn popping_yields_every_element_once() {
        let mut slab = Slab::new();
        (0..150).for_each(|n| _ = slab.insert(n));
        slab.remove(10);
        slab.remove(149);
        let mut all: Vec<i32> = std::iter::from_fn(|| slab.pop()).collect();
        all.sort_unstable();
        assert_eq!(all, (0..149).filter(|&n| n != 10).collect::<Vec<_>>());
        assert_eq!(slab.heap_bytes(), 0);
    }

    #[test]
    fn a_copy_shares_what_neither_has_changed() {
        let mut slab = Slab::new();
        (0..100).for_each(|n| _ = slab.insert(n));
        let copy = slab.clone();
        assert_eq!(slab.heap_bytes(), copy.heap_bytes());
        *slab.get_mut(40) = 1000;
        slab.remove(99);
        assert_eq!(slab.insert(2000), 99);
        assert_eq!(slab.insert(3000), 100);
        assert_eq!((*slab.get(40), *slab.get(99), *slab.get(100)), (1000, 2000, 3000));
        assert!(copy.iter().copied().eq(0..100), "the copy is as it was");
        let is_shared = |page: usize| Arc::ptr_eq(&slab.pages[page], &copy.pages[page]);
        assert_eq!([0, 1, 2, 3].map(is_shared), [true, false, true, false]);
    }

    #[test]
    fn what_a_copy_has_too_is_left_to_it() {
        let mut slab = Slab::new();
        (0..100).for_each(|n| _ = slab.insert(n));
        let copy = slab.clone();
        *slab.get_mut(40) = 1000;
        let popped: Vec<i32> = std::iter::from_fn(|| slab.pop()).collect();
        assert_eq!((popped.len(), popped.contains(&1000)), (32, true));
        assert!(copy.iter().copied().eq(0..100), "the copy is as it was");
    }
}
