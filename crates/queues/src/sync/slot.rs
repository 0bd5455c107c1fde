//! The two slot layouts.
//!
//! Owns what is in a slot; any thread. It knows nothing of heads, tails or roles: which thread may
//! use which slot, and when, is the business of the queue, and each unsafe function here says what
//! the queue must prove.
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
//! A word that is written but not yet published bears the stamp of the lap before, whose place
//! nobody can take any more.
//!
//! | edge | release site | acquire site | publishes |
//! |---|---|---|---|
//! | L1 | [`LapSlot`] `fill`, `publish`: slot store | `look`: slot load | the word, all it points at, and all slots before |
//! | C1 | [`Cell`] `publish`: sequence store | `look`: sequence load | the payload in the cell, and all cells before |
//! | C2 | [`Cell`] `finish`: sequence store | `is_vacant`: sequence load | that the payload was moved out |
#![expect(unsafe_code, reason = "payloads move in and out of memory that two threads can reach")]

use core::fmt;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ptr;

use crossbeam_utils::CachePadded;

use super::{AtomicPtr, AtomicUsize, Edge, Ordering, UnsafeCell, Window, window};
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
    /// The index turned so that the lowest bit that counts laps stands at the slot's lap bit, and
    /// turned over: the bit is set in even laps.
    stamps: usize,
}

impl Place {
    /// The place of `index` in a ring of `mask + 1` slots; `turn` is log2 of that less
    /// [`Slot::LAP_BIT`].
    #[inline(always)]
    #[must_use]
    pub fn new(index: usize, mask: usize, turn: u32) -> Self {
        Self { index, capacity: mask + 1, stamps: !index.rotate_right(turn) }
    }

    /// The place of `index`, in the same lap as this one.
    #[inline(always)]
    #[must_use]
    pub fn at(self, index: usize) -> Self {
        Self { index, ..self }
    }

    /// The place after this one, if both are in the same segment.
    #[inline(always)]
    #[must_use]
    pub fn next(self) -> Self {
        self.at(self.index.wrapping_add(1))
    }
}

/// What a queue asks of a slot. `Place` names the index the slot is used for.
///
/// A slot is *vacant* for an index, then *written* (payload there, nobody told), then *published*,
/// then *taken*; taken for `i` is vacant for `i + capacity`.
///
/// Sealed: a buffer relies on its slots having a size, and goes to any thread that its items may
/// go to.
/// ```compile_fail,E0277
/// use flintlock_queues::sync::slot::{Place, Slot};
/// struct Mine;
/// impl Slot<u8> for Mine {
///     type Peek = ();
///     const LAP_BIT: u32 = 0;
///     const MARKED: bool = false;
///     fn vacant(_: Place) -> Self { Self }
///     fn look(&self, _: Place) -> Option<()> { None }
///     fn is_vacant(&self, _: Place) -> bool { true }
///     fn peek(&self, _: Place) {}
///     unsafe fn touch(&self, _: Place) {}
///     unsafe fn write(&self, _: Place, _: u8) {}
///     unsafe fn publish(&self, _: Place) {}
///     unsafe fn fill(&self, _: Place, _: u8) {}
///     unsafe fn read(&self, _: Place, _: ()) -> u8 { 0 }
///     unsafe fn finish(&self, _: Place, _: ()) -> u8 { 0 }
/// }
/// ```
pub trait Slot<T>: Sized + sealed::Sealed {
    /// What a consumer copies out of a slot that others may be about to take from as well.
    type Peek: Copy;
    /// Which bit of a word the lap is kept in; 0 where there is none.
    const LAP_BIT: u32;
    /// Whether consumers that share the ring mark each slot when they are done with it. If not,
    /// the head alone tells the producer what is vacant.
    const MARKED: bool;

    /// A slot that was never used and is vacant for `place`.
    fn vacant(place: Place) -> Self;

    /// What [`Slot::peek`] gives, if an item is published here for `place`.
    fn look(&self, place: Place) -> Option<Self::Peek>;

    /// Whether an item is published here for `place`.
    #[inline(always)]
    fn is_filled(&self, place: Place) -> bool {
        self.look(place).is_some()
    }

    /// Whether the consumer of the lap before has marked the slot; only where [`Slot::MARKED`].
    fn is_vacant(&self, place: Place) -> bool;

    /// Writes what the slot says while it is vacant for `place`: nothing but time changes, since
    /// the slot's cache line comes to this core.
    ///
    /// # Safety
    /// As [`Slot::write`].
    unsafe fn touch(&self, place: Place);

    /// Moves `item` in without telling anybody.
    ///
    /// # Safety
    /// The slot is vacant for `place` and this thread alone may write it.
    unsafe fn write(&self, place: Place, item: T);

    /// Publishes what [`Slot::write`] put there.
    ///
    /// # Safety
    /// This thread wrote the slot for this very place, and publishes it once.
    unsafe fn publish(&self, place: Place);

    /// [`Slot::write`] and [`Slot::publish`].
    ///
    /// # Safety
    /// As [`Slot::write`].
    unsafe fn fill(&self, place: Place, item: T);

    /// What [`Slot::read`] and [`Slot::finish`] need of a slot that is known to be published,
    /// because one that was published after it was seen to be. Of another it is good for nothing.
    fn peek(&self, place: Place) -> Self::Peek;

    /// Moves out the item that `peek` saw. For rings with a single consumer, whose head says what
    /// was taken.
    ///
    /// # Safety
    /// An item is published for `place`, this thread is the only one that takes it, and takes it
    /// once.
    unsafe fn read(&self, place: Place, peek: Self::Peek) -> T;

    /// As [`Slot::read`], and marks the slot where [`Slot::MARKED`].
    ///
    /// # Safety
    /// As [`Slot::read`]: since `peek` this thread has become the owner of `place`.
    unsafe fn finish(&self, place: Place, peek: Self::Peek) -> T;

    /// Moves the item out, if one is published for `place`. For rings with a single consumer.
    ///
    /// # Safety
    /// This thread is the only one that takes from the ring and has not taken `place` before.
    #[inline(always)]
    unsafe fn take(&self, place: Place) -> Option<T> {
        // SAFETY: [slot-forward] seen to be published; the rest is the caller's duty, passed on.
        self.look(place).map(|peek| unsafe { self.read(place, peek) })
    }
}

/// A word slot: eight bytes, the lap in a spare bit of the word.
///
/// Invariants. `[lap-word]` Bits other than the lap bit are the last written word, or null. The
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
        place.stamps & Self::LAP
    }

    /// The word without the lap bit.
    #[inline(always)]
    fn unstamped(word: *mut ()) -> *mut () {
        word.map_addr(|addr| addr & !Self::LAP)
    }
}

impl<T: Word> Slot<T> for LapSlot<T> {
    type Peek = *mut ();
    const LAP_BIT: u32 = Self::LAP.trailing_zeros();
    const MARKED: bool = false;

    fn vacant(place: Place) -> Self {
        let stale = ptr::without_provenance_mut(Self::stamp(place) ^ Self::LAP);
        Self { word: AtomicPtr::new(stale), _owns: PhantomData }
    }

    #[inline(always)]
    fn look(&self, place: Place) -> Option<*mut ()> {
        // ORDERING: L1
        let word = self.word.load(L1.acquire());
        let is_filled = (word.addr() ^ place.stamps) & Self::LAP == 0;
        is_filled.then(|| Self::unstamped(word))
    }

    #[inline(always)]
    fn is_vacant(&self, place: Place) -> bool {
        !self.is_filled(place)
    }

    #[inline(always)]
    unsafe fn touch(&self, place: Place) {
        let stale = ptr::without_provenance_mut(Self::stamp(place) ^ Self::LAP);
        self.word.store(stale, Ordering::Relaxed);
    }

    #[inline(always)]
    unsafe fn write(&self, place: Place, item: T) {
        let stale = Self::stamp(place) ^ Self::LAP;
        let word = item.into_word().map_addr(|addr| addr | stale);
        self.word.store(word, Ordering::Relaxed);
    }

    #[inline(always)]
    unsafe fn publish(&self, _place: Place) {
        let word = self.word.load(Ordering::Relaxed);
        // ORDERING: L1
        self.word.store(word.map_addr(|addr| addr ^ Self::LAP), L1.release());
    }

    #[inline(always)]
    unsafe fn fill(&self, place: Place, item: T) {
        let word = item.into_word().map_addr(|addr| addr | Self::stamp(place));
        window(Window::Unstamped);
        // ORDERING: L1
        self.word.store(word, L1.release());
    }

    #[inline(always)]
    fn peek(&self, _place: Place) -> *mut () {
        Self::unstamped(self.word.load(Ordering::Relaxed))
    }

    #[inline(always)]
    unsafe fn read(&self, _place: Place, peek: *mut ()) -> T {
        // SAFETY: [lap-word] the caller knows that an item is published for the place and that
        // nobody else takes it, so the word is that item's and is made an item once.
        unsafe { T::from_word(peek) }
    }

    #[inline(always)]
    unsafe fn finish(&self, place: Place, peek: *mut ()) -> T {
        // SAFETY: [slot-forward] the duty of `read` is passed on unchanged; there is no mark.
        unsafe { self.read(place, peek) }
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
    fn look(&self, place: Place) -> Option<()> {
        // ORDERING: C1
        (self.sequence.load(C1.acquire()) == place.index.wrapping_add(1)).then_some(())
    }

    #[inline(always)]
    fn is_vacant(&self, place: Place) -> bool {
        // ORDERING: C2
        self.sequence.load(C2.acquire()) == place.index
    }

    #[inline(always)]
    unsafe fn touch(&self, place: Place) {
        self.sequence.store(place.index, Ordering::Relaxed);
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
    unsafe fn publish(&self, place: Place) {
        // ORDERING: C1
        self.sequence.store(place.index.wrapping_add(1), C1.release());
    }

    #[inline(always)]
    unsafe fn fill(&self, place: Place, item: T) {
        // SAFETY: [slot-forward] the duty of `write` is passed on unchanged.
        unsafe { self.write(place, item) };
        window(Window::Unstamped);
        // SAFETY: [slot-forward] just written for this place, and published once.
        unsafe { self.publish(place) };
    }

    #[inline(always)]
    fn peek(&self, _place: Place) {}

    #[inline(always)]
    unsafe fn read(&self, _place: Place, (): ()) -> T {
        self.payload.with(|payload| {
            // SAFETY: [cell-sequence] the caller knows that the payload is there, that nobody else
            // moves it out or overwrites it, and moves it out once.
            unsafe { (*payload).assume_init_read() }
        })
    }

    #[inline(always)]
    unsafe fn finish(&self, place: Place, (): ()) -> T {
        // SAFETY: [slot-forward] the duty of `read` is passed on unchanged.
        let item = unsafe { self.read(place, ()) };
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
    type Peek = S::Peek;
    const LAP_BIT: u32 = S::LAP_BIT;
    const MARKED: bool = S::MARKED;

    fn vacant(place: Place) -> Self {
        Self::new(S::vacant(place))
    }

    #[inline(always)]
    fn look(&self, place: Place) -> Option<S::Peek> {
        (**self).look(place)
    }

    #[inline(always)]
    fn is_vacant(&self, place: Place) -> bool {
        (**self).is_vacant(place)
    }

    #[inline(always)]
    unsafe fn touch(&self, place: Place) {
        // SAFETY: [slot-forward] the duty of `touch` is passed on unchanged.
        unsafe { (**self).touch(place) }
    }

    #[inline(always)]
    unsafe fn write(&self, place: Place, item: T) {
        // SAFETY: [slot-forward] the duty of `write` is passed on unchanged.
        unsafe { (**self).write(place, item) }
    }

    #[inline(always)]
    unsafe fn publish(&self, place: Place) {
        // SAFETY: [slot-forward] the duty of `publish` is passed on unchanged.
        unsafe { (**self).publish(place) }
    }

    #[inline(always)]
    unsafe fn fill(&self, place: Place, item: T) {
        // SAFETY: [slot-forward] the duty of `fill` is passed on unchanged.
        unsafe { (**self).fill(place, item) }
    }

    #[inline(always)]
    fn peek(&self, place: Place) -> S::Peek {
        (**self).peek(place)
    }

    #[inline(always)]
    unsafe fn read(&self, place: Place, peek: S::Peek) -> T {
        // SAFETY: [slot-forward] the duty of `read` is passed on unchanged.
        unsafe { (**self).read(place, peek) }
    }

    #[inline(always)]
    unsafe fn finish(&self, place: Place, peek: S::Peek) -> T {
        // SAFETY: [slot-forward] the duty of `finish` is passed on unchanged.
        unsafe { (**self).finish(place, peek) }
    }
}

mod sealed {
    use crossbeam_utils::CachePadded;

    #[expect(unnameable_types, reason = "slots of others could break what buffers rely on")]
    pub trait Sealed {}
    impl<T> Sealed for super::LapSlot<T> {}
    impl<T> Sealed for super::Cell<T> {}
    impl<S: Sealed> Sealed for CachePadded<S> {}
}
