//! Pages of equal slots addressed by number: list chunks, table segments and tree nodes live in
//! one each. Pure; any thread.
//!
//! A `Vec` would move every element when it grows, which at a few million chunks is a stall of
//! milliseconds; here growth allocates one more page and moves at most the list of pages. Numbers
//! of freed slots are reused first, so a queue that turns over stays in the same few pages.

use super::memory::heap_bytes;

/// Slots of a full page. The first page grows up to it, so a small value pays for what it holds.
const PAGE: usize = 64;
/// The number that names no slot.
pub(super) const NONE: u32 = u32::MAX;

#[derive(Clone, Debug)]
enum Slot<T> {
    Full(T),
    /// Free; holds the next free number or [`NONE`].
    Free(u32),
}

/// See the module documentation.
#[derive(Debug)]
pub(super) struct Slab<T> {
    pages: Vec<Vec<Slot<T>>>,
    free: u32,
    count: u32,
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

    /// Stores `value`; returns its number.
    pub(super) fn insert(&mut self, value: T) -> u32 {
        self.count += 1;
        if self.free != NONE {
            let id = self.free;
            let slot = &mut self.pages[id as usize / PAGE][id as usize % PAGE];
            let Slot::Free(next) = *slot else { unreachable!("the free list names free slots") };
            self.free = next;
            *slot = Slot::Full(value);
            return id;
        }
        if self.pages.last().is_none_or(|page| page.len() == PAGE) {
            // Only the first page starts small.
            let slots = if self.pages.is_empty() { 1 } else { PAGE };
            self.pages.push(Vec::with_capacity(slots));
        }
        let index = self.pages.len() - 1;
        let page = &mut self.pages[index];
        if page.len() == page.capacity() {
            page.reserve_exact(page.len().min(PAGE - page.len()));
        }
        page.push(Slot::Full(value));
        let id = u32::try_from(index * PAGE + page.len() - 1).expect("fewer than 2^32 slots");
        assert!(id != NONE, "fewer than 2^32 - 1 slots");
        id
    }

    /// Takes the element out and frees its number.
    pub(super) fn remove(&mut self, id: u32) -> T {
        let slot = &mut self.pages[id as usize / PAGE][id as usize % PAGE];
        let Slot::Full(value) = std::mem::replace(slot, Slot::Free(self.free)) else {
            unreachable!("a number is freed once")
        };
        self.free = id;
        self.count -= 1;
        if self.count == 0 {
            self.pages = Vec::new();
            self.free = NONE;
        }
        value
    }

    #[inline]
    pub(super) fn get(&self, id: u32) -> &T {
        match &self.pages[id as usize / PAGE][id as usize % PAGE] {
            Slot::Full(value) => value,
            Slot::Free(_) => unreachable!("a number that is held names a full slot"),
        }
    }

    #[inline]
    pub(super) fn get_mut(&mut self, id: u32) -> &mut T {
        match &mut self.pages[id as usize / PAGE][id as usize % PAGE] {
            Slot::Full(value) => value,
            Slot::Free(_) => unreachable!("a number that is held names a full slot"),
        }
    }

    /// Bytes of the pages themselves, without what the elements own.
    pub(super) fn heap_bytes(&self) -> usize {
        if self.pages.capacity() == 0 {
            return 0;
        }
        // Every page but the first is allocated full.
        let first = self.pages.first().map_or(0, |page| heap_bytes(Self::page_bytes(page)));
        let full = heap_bytes(PAGE * size_of::<Slot<T>>());
        heap_bytes(self.pages.capacity() * size_of::<Vec<Slot<T>>>())
            + first
            + self.pages.len().saturating_sub(1) * full
    }

    const fn page_bytes(page: &Vec<Slot<T>>) -> usize {
        page.capacity() * size_of::<Slot<T>>()
    }

    /// All elements, in no particular order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.pages.iter().flatten().filter_map(|slot| match slot {
            Slot::Full(value) => Some(value),
            Slot::Free(_) => None,
        })
    }

    /// Takes out some element, last page first, until none is left: how a value is dismantled.
    pub(super) fn pop(&mut self) -> Option<T> {
        while let Some(page) = self.pages.last_mut() {
            match page.pop() {
                Some(Slot::Full(value)) => {
                    self.count -= 1;
                    // A popped slot may be on the free list, which must not be used any more.
                    self.free = NONE;
                    return Some(value);
                }
                Some(Slot::Free(_)) => {}
                None => drop(self.pages.pop()),
            }
        }
        None
    }
}

impl<T: Clone> Clone for Slab<T> {
    /// Keeps the capacity of pages, on which growth and accounting rely.
    fn clone(&self) -> Self {
        let copy = |page: &Vec<Slot<T>>| {
            let mut fresh = Vec::with_capacity(page.capacity());
            fresh.extend(page.iter().cloned());
            fresh
        };
        let mut pages = Vec::with_capacity(self.pages.capacity());
        pages.extend(self.pages.iter().map(copy));
        Self { pages, free: self.free, count: self.count }
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
        assert!(slab.heap_bytes() <= 96 + 112, "{}", slab.heap_bytes());
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
        assert_eq!(slab.heap_bytes(), heap_bytes(slab.pages.capacity() * 24));
    }
}
