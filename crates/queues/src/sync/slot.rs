//! The two slot layouts and the buffer they stand in.
//!
//! Owns the memory of a ring's slots; any thread. It knows nothing of heads, tails or roles: which
//! thread may use which slot, and when, is the business of the queue, and each unsafe function
//! here says what the queue must prove.
//!
//! # Problem
//! A consumer must learn that a slot is filled *for this lap of the ring*. The textbook answer is
//! a sequence number beside the payload. It works for any payload, and costs a word a slot, or a
//! whole cache line when the cells are padded so that two threads never share one.
//!
//! # The word layout
//! The head of a ring is a counter of full width that only grows, and a slot is written for index
//! `i + capacity` only after the head has passed `i`. So a slot seen with a head of `h` holds the
//! item of `h` or the one of `h - capacity`: all that is left of the sequence number to tell is
//! the parity of the lap. One bit does that, and a pointer with alignment has bits to spare. The
//! slot is eight bytes, nothing but the producer ever writes it, and one line carries eight jobs.
//!
//! | edge | release site | acquire site | publishes |
//! |---|---|---|---|
//! | L1 | [`LapSlot`] `publish`: slot store | `take`, `peek`, `is_filled`: slot load | the word and all it points at |
//! | C1 | [`Cell`] `publish`: sequence store | `take`, `peek`, `is_filled`: sequence load | the payload in the cell |
//! | C2 | [`Cell`] `finish`: sequence store | `is_vacant`: sequence load | that the payload was moved out |
#![expect(unsafe_code, reason = "payloads move in and out of memory that two threads can reach")]

use alloc::boxed::Box;
use core::fmt;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ptr::{self, NonNull};
use core::slice;

use crossbeam_utils::CachePadded;

use super::{AtomicPtr, AtomicUsize, Edge, UnsafeCell, Window, window};
use crate::tagged::Word;

/// Publication of a word slot.
const L1: Edge = Edge::new("L1");
/// Publication of a sequenced cell.
const C1: Edge = Edge::new("C1");
/// Freeing of a sequenced cell by one of several consumers.
const C2: Edge = Edge::new("C2");

/// An index with what its slot needs to know about it.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The index.
    pub index: usize,
    /// Number of slots.
    capacity: usize,
    /// The index turned so that the lowest bit that counts laps stands at the slot's lap bit.
    lap: usize,
}

impl Place {
    fn new(index: usize, mask: usize, turn: u32) -> Self {
        Self { index, capacity: mask + 1, lap: index.rotate_right(turn) }
    }

    /// The place after this one, if both are in the same segment.
    #[inline(always)]
    #[must_use]
    pub fn next(self) -> Self {
        Self { index: self.index.wrapping_add(1), ..self }
    }
}

/// What a queue asks of a slot. `Place` names the index the slot is used for.
///
/// A slot is *vacant* for an index, then *written* (payload there, nobody told), then *published*,
/// then *taken*; taken for `i` is vacant for `i + capacity`.
pub trait Slot<T>: Sized {
    /// What publishing needs besides the slot: the word itself, or nothing.
    type Held: Copy;
    /// What a consumer that shares the ring copies out before it owns the slot.
    type Peek: Copy;
    /// Which bit of a word the lap is kept in; 0 where there is none.
    const LAP_BIT: u32;
    /// Whether consumers that share the ring mark each slot when they are done with it. If not,
    /// the head alone tells the producer what is vacant.
    const MARKED: bool;

    /// A slot that was never used and is vacant for `place`.
    fn vacant(place: Place) -> Self;

    /// Whether an item is published here for `place`.
    fn is_filled(&self, place: Place) -> bool;

    /// Whether the consumer of the lap before has marked the slot; only where [`Slot::MARKED`].
    fn is_vacant(&self, place: Place) -> bool;

    /// Moves `item` in without telling anybody.
    ///
    /// # Safety
    /// The slot is vacant for `place` and this thread alone may write it.
    unsafe fn write(&self, place: Place, item: T) -> Self::Held;

    /// Publishes what [`Slot::write`] put there.
    ///
    /// # Safety
    /// `held` is what `write` gave for this very slot and place, and is published once.
    unsafe fn publish(&self, place: Place, held: Self::Held);

    /// [`Slot::write`] and [`Slot::publish`].
    ///
    /// # Safety
    /// As [`Slot::write`].
    #[inline(always)]
    unsafe fn fill(&self, place: Place, item: T) {
        // SAFETY: [slot-forward] the duty of `write` is passed on unchanged.
        let held = unsafe { self.write(place, item) };
        window(Window::Unstamped);
        // SAFETY: [slot-forward] just written for this place, and published once.
        unsafe { self.publish(place, held) };
    }

    /// Moves the item out, if one is published for `place`. For rings with a single consumer.
    ///
    /// # Safety
    /// This thread is the only one that takes from the ring and has not taken `place` before.
    unsafe fn take(&self, place: Place) -> Option<T>;

    /// Looks whether an item is published for `place`, copying what [`Slot::finish`] will need.
    fn peek(&self, place: Place) -> Option<Self::Peek>;

    /// Moves out the item that `peek` saw, and marks the slot where [`Slot::MARKED`].
    ///
    /// # Safety
    /// Since `peek` this thread has become the owner of `place`: nobody else takes it.
    unsafe fn finish(&self, place: Place, peek: Self::Peek) -> T;
}

/// A word slot: eight bytes, the lap in a spare bit of the word.
///
/// Invariants. `[lap-word]` Bits other than the lap bit are the last published word, or null. The
/// word is owned by whoever takes it for its index; a stale copy left in the slot owns nothing.
pub struct LapSlot<T> {
    word: AtomicPtr<()>,
    _owns: PhantomData<T>,
}

impl<T: Word> LapSlot<T> {
    const LAP: usize = {
        assert!(
            T::SPARE != 0,
            "the word has no spare bit for the lap: give the pointee a larger alignment, or use \
             fewer kinds"
        );
        1 << T::SPARE.trailing_zeros()
    };

    /// The lap bit of a word filled for `place`: set in even laps, so null is vacant at first.
    #[inline(always)]
    fn stamp(place: Place) -> usize {
        !place.lap & Self::LAP
    }

    /// The word without the lap bit, if it was filled for `place`.
    #[inline(always)]
    fn filled(&self, place: Place) -> Option<*mut ()> {
        // ORDERING: L1
        let word = self.word.load(L1.acquire());
        // A stamp is the lap bit turned over, so the two differ where the slot is filled.
        let is_filled = (word.addr() ^ place.lap) & Self::LAP != 0;
        is_filled.then(|| word.map_addr(|addr| addr & !Self::LAP))
    }
}

impl<T: Word> Slot<T> for LapSlot<T> {
    type Held = *mut ();
    type Peek = *mut ();
    const LAP_BIT: u32 = Self::LAP.trailing_zeros();
    const MARKED: bool = false;

    fn vacant(place: Place) -> Self {
        let stale = ptr::without_provenance_mut(Self::stamp(place) ^ Self::LAP);
        Self { word: AtomicPtr::new(stale), _owns: PhantomData }
    }

    #[inline(always)]
    fn is_filled(&self, place: Place) -> bool {
        self.filled(place).is_some()
    }

    #[inline(always)]
    fn is_vacant(&self, place: Place) -> bool {
        !self.is_filled(place)
    }

    #[inline(always)]
    unsafe fn write(&self, place: Place, item: T) -> *mut () {
        item.into_word().map_addr(|addr| addr | Self::stamp(place))
    }

    #[inline(always)]
    unsafe fn publish(&self, _place: Place, held: *mut ()) {
        // ORDERING: L1
        self.word.store(held, L1.release());
    }

    #[inline(always)]
    unsafe fn take(&self, place: Place) -> Option<T> {
        // SAFETY: [lap-word] the lap says the word was published for this place, and the caller
        // takes each place once.
        self.filled(place).map(|word| unsafe { T::from_word(word) })
    }

    #[inline(always)]
    fn peek(&self, place: Place) -> Option<*mut ()> {
        self.filled(place)
    }

    #[inline(always)]
    unsafe fn finish(&self, _place: Place, peek: *mut ()) -> T {
        // SAFETY: [lap-word] the caller became the owner of the place after the word was read
        // from it, so the word is the one published for that place and nobody else has taken it.
        unsafe { T::from_word(peek) }
    }
}

impl<T> fmt::Debug for LapSlot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LapSlot")
    }
}

/// A sequenced cell for any payload.
///
/// Invariants. `[cell-sequence]` `sequence == i + 1` means: the payload of index `i` is
/// initialised. Any other value means it is not, or that it belongs to whoever took it.
/// `[cell-free]` Where several consumers share the ring, `sequence == i` means: vacant for `i`.
pub struct Cell<T> {
    sequence: AtomicUsize,
    payload: UnsafeCell<MaybeUninit<T>>,
}

impl<T> Slot<T> for Cell<T> {
    type Held = ();
    type Peek = ();
    const LAP_BIT: u32 = 0;
    const MARKED: bool = true;

    fn vacant(place: Place) -> Self {
        Self {
            sequence: AtomicUsize::new(place.index),
            payload: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }

    #[inline(always)]
    fn is_filled(&self, place: Place) -> bool {
        // ORDERING: C1
        self.sequence.load(C1.acquire()) == place.index.wrapping_add(1)
    }

    #[inline(always)]
    fn is_vacant(&self, place: Place) -> bool {
        // ORDERING: C2
        self.sequence.load(C2.acquire()) == place.index
    }

    #[inline(always)]
    unsafe fn write(&self, _place: Place, item: T) {
        self.payload.with_mut(|payload| {
            // SAFETY: [cell-free] the slot is vacant and only the caller writes it, so nobody
            // reads the payload now.
            unsafe { (*payload).write(item) };
        });
    }

    #[inline(always)]
    unsafe fn publish(&self, place: Place, (): ()) {
        // ORDERING: C1
        self.sequence.store(place.index.wrapping_add(1), C1.release());
    }

    #[inline(always)]
    unsafe fn take(&self, place: Place) -> Option<T> {
        self.is_filled(place).then(|| {
            self.payload.with(|payload| {
                // SAFETY: [cell-sequence] the sequence says the payload is there; the caller
                // takes each place once, so it is moved out once.
                unsafe { (*payload).assume_init_read() }
            })
        })
    }

    #[inline(always)]
    fn peek(&self, place: Place) -> Option<()> {
        self.is_filled(place).then_some(())
    }

    #[inline(always)]
    unsafe fn finish(&self, place: Place, (): ()) -> T {
        let item = self.payload.with(|payload| {
            // SAFETY: [cell-sequence] `peek` saw the sequence of this place, and the caller owns
            // the place, so nobody else moves the payload out or overwrites it.
            unsafe { (*payload).assume_init_read() }
        });
        // ORDERING: C2
        self.sequence.store(place.index.wrapping_add(place.capacity), C2.release());
        item
    }
}

impl<T> fmt::Debug for Cell<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cell")
    }
}

/// A padded slot is the slot on lines of its own.
impl<T, S: Slot<T>> Slot<T> for CachePadded<S> {
    type Held = S::Held;
    type Peek = S::Peek;
    const LAP_BIT: u32 = S::LAP_BIT;
    const MARKED: bool = S::MARKED;

    fn vacant(place: Place) -> Self {
        Self::new(S::vacant(place))
    }

    #[inline(always)]
    fn is_filled(&self, place: Place) -> bool {
        (**self).is_filled(place)
    }

    #[inline(always)]
    fn is_vacant(&self, place: Place) -> bool {
        (**self).is_vacant(place)
    }

    #[inline(always)]
    unsafe fn write(&self, place: Place, item: T) -> S::Held {
        // SAFETY: [slot-forward] the duty of `write` is passed on unchanged.
        unsafe { (**self).write(place, item) }
    }

    #[inline(always)]
    unsafe fn publish(&self, place: Place, held: S::Held) {
        // SAFETY: [slot-forward] the duty of `publish` is passed on unchanged.
        unsafe { (**self).publish(place, held) }
    }

    #[inline(always)]
    unsafe fn take(&self, place: Place) -> Option<T> {
        // SAFETY: [slot-forward] the duty of `take` is passed on unchanged.
        unsafe { (**self).take(place) }
    }

    #[inline(always)]
    fn peek(&self, place: Place) -> Option<S::Peek> {
        (**self).peek(place)
    }

    #[inline(always)]
    unsafe fn finish(&self, place: Place, peek: S::Peek) -> T {
        // SAFETY: [slot-forward] the duty of `finish` is passed on unchanged.
        unsafe { (**self).finish(place, peek) }
    }
}

/// The slots of a ring, on the heap.
///
/// Invariants. `[buffer-owned]` `view.slots` points at `mask + 1` initialised slots that this
/// value allocated as one boxed slice; they do not move and are freed by its drop only.
pub struct Buffer<T, S: Slot<T>> {
    view: Slots<S>,
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
        let slots: Box<[S]> = (0..capacity)
            .map(|position| {
                let index = first.wrapping_add(position.wrapping_sub(first) & mask);
                S::vacant(Place::new(index, mask, turn))
            })
            .collect();
        let slots = NonNull::from(Box::leak(slots)).cast();
        Self { view: Slots { slots, mask, turn }, _owns: PhantomData }
    }

    /// A view for the handles of the ring, which keep the buffer alive.
    pub fn view(&self) -> Slots<S> {
        self.view
    }
}

impl<T, S: Slot<T>> Drop for Buffer<T, S> {
    fn drop(&mut self) {
        let slots = NonNull::slice_from_raw_parts(self.view.slots, self.view.capacity());
        // SAFETY: [buffer-owned] the slice is the leaked box, and this is its only drop.
        drop(unsafe { Box::from_raw(slots.as_ptr()) });
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
        // SAFETY: [buffer-owned] the masked index is below the capacity, and the caller keeps the
        // buffer alive.
        let slot = unsafe { self.slots.add(index & self.mask).as_ref() };
        (slot, Place::new(index, self.mask, self.turn))
    }

    /// The slots from the one of `index` on that lie in a row, at most `count`, with the place of
    /// the first: a *segment* does not go round, so one lap holds for all of it.
    ///
    /// # Safety
    /// As [`Slots::at`].
    #[inline(always)]
    pub unsafe fn segment<'a>(&self, index: usize, count: usize) -> (&'a [S], Place) {
        let position = index & self.mask;
        let count = count.min(self.capacity() - position);
        // SAFETY: [buffer-owned] position + count is at most the capacity, and the caller keeps
        // the buffer alive.
        let slots = unsafe { slice::from_raw_parts(self.slots.add(position).as_ptr(), count) };
        (slots, Place::new(index, self.mask, self.turn))
    }

    /// How many items are published in a row from `index` on, at most the capacity. A hint: it
    /// counts published items behind the first gap too when it happens to probe them.
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
