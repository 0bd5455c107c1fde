//! The buffer that the slots of a ring stand in, and the views of it.
//!
//! Owns the memory of a ring's slots; any thread. It knows nothing of heads, tails or roles: which
//! thread may use which slot, and when, is the business of the queue, and each unsafe function
//! here says what the queue must prove.
#![expect(unsafe_code, reason = "slots are reached by pointer from several handles")]

use alloc::alloc::{alloc, dealloc, handle_alloc_error};
use core::alloc::Layout;
use core::fmt;
use core::marker::PhantomData;
use core::ptr::NonNull;
use core::slice;

use super::slot::{Place, Slot};

/// Bytes of a cache line, to the extent that a look ahead should stay inside one.
const LINE: usize = 64;

/// The slots of a ring, on the heap; the first one begins a cache line.
///
/// Invariants. `[buffer-owned]` `view.slots` points at `mask + 1` initialised slots in memory that
/// this value allocated with `layout`; they do not move and are freed by its drop only.
pub struct Buffer<T, S: Slot<T>> {
    view: Slots<S>,
    layout: Layout,
    _owns: PhantomData<(T, S)>,
}

impl<T, S: Slot<T>> Buffer<T, S> {
    /// Allocates `capacity` slots, rounded up to a power of two, vacant for the indices from
    /// `first` on.
    ///
    /// # Panics
    /// If `capacity` is below 2 (with one slot "just filled" and "free again" are the same
    /// number), or so large that the rounding or the allocation overflows.
    pub fn new(capacity: usize, first: usize) -> Self {
        assert!(capacity >= 2, "the capacity of a ring is at least 2, not {capacity}");
        let capacity = capacity.checked_next_power_of_two().expect("capacity overflow");
        let mask = capacity - 1;
        let turn = capacity.trailing_zeros().wrapping_sub(S::LAP_BIT);
        let layout = Layout::array::<S>(capacity).and_then(|layout| layout.align_to(LINE));
        let layout = layout.expect("capacity overflow");
        // SAFETY: [buffer-owned] a slot has a size, and there are at least two.
        let memory = unsafe { alloc(layout) }.cast::<S>();
        let Some(slots) = NonNull::new(memory) else { handle_alloc_error(layout) };
        for position in 0..capacity {
            let index = first.wrapping_add(position.wrapping_sub(first) & mask);
            // SAFETY: [buffer-owned] below the capacity that was allocated.
            unsafe { slots.add(position).write(S::vacant(Place::new(index, mask, turn))) };
        }
        Self { view: Slots { slots, mask, turn }, layout, _owns: PhantomData }
    }

    /// A view for the handles of the ring, which keep the buffer alive.
    pub fn view(&self) -> Slots<S> {
        self.view
    }

    /// Drops what the slots hold from the index `head` on, gaps or not, and what is behind an item
    /// whose destructor panics too; should another one panic then, the program ends.
    ///
    /// # Safety
    /// No thread has a handle of the ring any more, and `head` is the first index not taken.
    pub unsafe fn drop_items(&mut self, head: usize) {
        // SAFETY: [buffer-owned] the caller is the last one, and the head is what it says.
        let mut left = unsafe { Left::new(self.view, head) };
        // If this panics, the drop of `left` goes on.
        left.by_ref().for_each(drop);
    }
}

impl<T, S: Slot<T>> Drop for Buffer<T, S> {
    fn drop(&mut self) {
        let slots = NonNull::slice_from_raw_parts(self.view.slots, self.view.capacity());
        // SAFETY: [buffer-owned] all of them are initialised, and this is their only drop.
        unsafe { slots.drop_in_place() };
        // SAFETY: [buffer-owned] allocated with this layout, and nobody has a view any more.
        unsafe { dealloc(self.view.slots.as_ptr().cast(), self.layout) };
    }
}

impl<T, S: Slot<T>> fmt::Debug for Buffer<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").field("capacity", &self.view.capacity()).finish()
    }
}

// SAFETY: [buffer-owned] the buffer owns slots through which items of `T` move between threads;
// the queue sees to it that one thread at a time uses an item.
unsafe impl<T: Send, S: Slot<T>> Send for Buffer<T, S> {}
// SAFETY: [buffer-owned] a shared buffer gives out nothing but a view, whose use is unsafe.
unsafe impl<T: Send, S: Slot<T>> Sync for Buffer<T, S> {}

/// The items that a ring is left with, one lap of slots.
struct Left<T, S: Slot<T>> {
    slots: Slots<S>,
    head: usize,
    count: usize,
    _owns: PhantomData<T>,
}

impl<T, S: Slot<T>> Left<T, S> {
    /// # Safety
    /// As [`Buffer::drop_items`], for as long as the value is used.
    unsafe fn new(slots: Slots<S>, head: usize) -> Self {
        Self { slots, head, count: slots.capacity(), _owns: PhantomData }
    }
}

impl<T, S: Slot<T>> Iterator for Left<T, S> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        while self.count > 0 {
            // SAFETY: [buffer-owned] the buffer is alive while this is used.
            let (slot, place) = unsafe { self.slots.at(self.head) };
            self.head = place.next().index;
            self.count -= 1;
            // SAFETY: [ring-last] this thread is the only one that takes, and the head says what
            // was not taken before.
            if let Some(item) = unsafe { slot.take(place) } {
                return Some(item);
            }
        }
        None
    }
}

impl<T, S: Slot<T>> Drop for Left<T, S> {
    fn drop(&mut self) {
        self.for_each(drop);
    }
}

/// Where the slots of a buffer are; a copy in each handle saves a hop through the shared part.
#[derive(Debug)]
pub struct Slots<S> {
    slots: NonNull<S>,
    mask: usize,
    turn: u32,
}

impl<S> Clone for Slots<S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for Slots<S> {}

impl<S> Slots<S> {
    /// Number of slots, a power of two.
    #[inline(always)]
    pub fn capacity(&self) -> usize {
        self.mask + 1
    }

    /// The slot of `index`, and its place.
    ///
    /// # Safety
    /// The buffer this view comes from lives as long as the reference is used.
    #[inline(always)]
    pub unsafe fn at<'a>(&self, index: usize) -> (&'a S, Place) {
        // SAFETY: [buffer-owned] the caller keeps the buffer alive.
        (unsafe { self.slot(index) }, self.place(index))
    }

    /// The slot of `index`.
    ///
    /// # Safety
    /// As [`Slots::at`].
    #[inline(always)]
    pub unsafe fn slot<'a>(&self, index: usize) -> &'a S {
        // SAFETY: [buffer-owned] the masked index is below the capacity, and the caller keeps the
        // buffer alive.
        unsafe { self.slots.add(index & self.mask).as_ref() }
    }

    /// The place of `index`.
    #[inline(always)]
    pub fn place(&self, index: usize) -> Place {
        Place::new(index, self.mask, self.turn)
    }

    /// The slots from the one of `index` on that lie in a row, at most `count`: a *segment* does
    /// not go round, so one lap holds for all of it.
    ///
    /// # Safety
    /// As [`Slots::slot`].
    #[inline(always)]
    pub unsafe fn segment<'a>(&self, index: usize, count: usize) -> &'a [S] {
        let count = count.min(self.rest_of_row(index));
        // SAFETY: [buffer-owned] position + count is at most the capacity, and the caller keeps
        // the buffer alive.
        unsafe { slice::from_raw_parts(self.slots.add(index & self.mask).as_ptr(), count) }
    }

    /// The front part of [`Slots::segment`] whose slots hold items.
    ///
    /// In a ring whose producer publishes in order, a published slot says that all before it are,
    /// so of each cache line only the last slot is looked at while all is there. Each look
    /// acquires: what was put into the slots before is visible as well. A look further ahead than
    /// the line of the next item would take lines from the producer that it is about to write.
    ///
    /// # Safety
    /// As [`Slots::slot`].
    #[inline(always)]
    pub unsafe fn published<'a, T>(&self, index: usize, count: usize) -> &'a [S]
    where
        S: Slot<T> + 'a,
    {
        // SAFETY: [buffer-owned] the caller keeps the buffer alive.
        let segment = unsafe { self.segment(index, count) };
        let first = self.place(index);
        let mut known = 0;
        let mut end = self.rest_of_line(index);
        while known < segment.len() {
            end = end.min(segment.len());
            if !segment[end - 1].is_filled(first.at(index.wrapping_add(end - 1))) {
                return Self::filled_front(&segment[..end - 1], known, first);
            }
            known = end;
            end += Self::PER_LINE;
        }
        segment
    }

    /// The slots at the front of `row`, whose first is of `first`, that hold items: `known` and
    /// more.
    fn filled_front<T>(row: &[S], known: usize, first: Place) -> &[S]
    where
        S: Slot<T>,
    {
        let mut count = known;
        while count < row.len() && row[count].is_filled(first.at(first.index.wrapping_add(count))) {
            count += 1;
        }
        &row[..count]
    }

    /// Slots of a cache line. The slots of the models are larger than real ones; there two make a
    /// line, so that one speaks for another and lines are taken in rings of two.
    const PER_LINE: usize = match LINE / size_of::<S>() {
        _ if cfg!(any(loom, shuttle)) => 2,
        0 => 1,
        slots => slots,
    };

    /// Slots from the one of `index` on that share its cache line, itself included.
    #[inline(always)]
    pub fn rest_of_line(&self, index: usize) -> usize {
        Self::PER_LINE - index % Self::PER_LINE
    }

    /// Slots from the one of `index` on to the end of the buffer, itself included.
    #[inline(always)]
    pub fn rest_of_row(&self, index: usize) -> usize {
        self.capacity() - (index & self.mask)
    }

    /// Brings the cache lines of the slots of [`Slots::segment`] to this core, which will write
    /// them soon: whole lines, counted from the first slot. Slots of which a line holds only a few
    /// go without, since that would be dozens of lines at a time.
    ///
    /// By stores, since `prefetchw` leaves a line where it is that both cores have a copy of.
    ///
    /// # Safety
    /// As [`Slots::segment`], and all of the slots are vacant, for this thread alone to write.
    #[inline(always)]
    pub unsafe fn take_lines<T>(&self, index: usize, count: usize)
    where
        S: Slot<T>,
    {
        if size_of::<S>() > LINE / 4 && !cfg!(any(loom, shuttle)) {
            return;
        }
        // SAFETY: [buffer-owned] the caller keeps the buffer alive.
        let segment: &[S] = unsafe { self.segment(index, count) };
        let mut place = self.place(index);
        for line in segment.chunks_exact(Self::PER_LINE) {
            // SAFETY: [slot-forward] one of the slots that the caller may write.
            unsafe { line[0].touch(place) };
            place = place.at(place.index.wrapping_add(Self::PER_LINE));
        }
    }

    /// How many items are published in a row from `index` on, at most the capacity. A hint where
    /// producers publish out of order: it counts items behind the first gap too when it happens
    /// to probe them.
    ///
    /// Filled slots form one run in a ring, so this gallops and then halves: about two loads for
    /// each doubling of the answer, and no counter that producer and consumer would have to share.
    ///
    /// # Safety
    /// As [`Slots::at`].
    pub unsafe fn run_length<T>(&self, index: usize) -> usize
    where
        S: Slot<T>,
    {
        let filled = |offset: usize| {
            // SAFETY: [buffer-owned] the caller keeps the buffer alive.
            let (slot, place) = unsafe { self.at(index.wrapping_add(offset)) };
            slot.is_filled(place)
        };
        if !filled(0) {
            return 0;
        }
        let (mut inside, mut outside) = (0, 1);
        while outside < self.capacity() && filled(outside) {
            inside = outside;
            outside *= 2;
        }
        while outside - inside > 1 {
            let middle = inside + (outside - inside) / 2;
            if filled(middle) {
                inside = middle;
            } else {
                outside = middle;
            }
        }
        inside + 1
    }
}
