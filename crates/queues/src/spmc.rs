//! One producer, any number of consumers: the shared inbox, from which idle workers help
//! themselves.
//!
//! Owns the claiming of items by competing consumers; the producing end is `spsc::writer`. Each
//! handle belongs to one thread at a time. Nothing here blocks.
//!
//! # Problem
//! Consumers compete for the head. The textbook claim moves the head first and reads the slot
//! afterwards; a consumer that is descheduled between the two holds a slot that the producer runs
//! into one lap later, and the ring is full although it is nearly empty.
//!
//! # Design
//! [`Words`](crate::Words): a consumer *reads the words first* and then moves the head over them by
//! one compare-and-swap. If that succeeds, nobody had taken them and the producer had not written
//! over them, since it writes only below head + capacity; if it fails, what was read is forgotten.
//! Reading a word takes no ownership, so a consumer stopped anywhere holds up nobody and at most
//! keeps what it has already claimed. One swap can claim several jobs, which pays more than
//! anything else: the head is the one line that all consumers write. Since the producer publishes
//! in order, a claim looks for the stamp in one slot of each cache line, the last.
//!
//! Sequenced cells ([`Compact`], [`Padded`](crate::Padded)): a payload of any type cannot be copied
//! before it is owned, so the swap comes first, each cell is marked when it was read, and the
//! producer asks the cell. **The bound**: a consumer stopped between claim and mark keeps nothing
//! that is in the ring from another consumer, but the producer gets `Full` when it comes round to
//! that cell, after at most capacity minus claimed further pushes. From then on nobody gets
//! anything until the consumer runs again.
//!
//! The lap argument. A consumer that sees the lap of `h` in the slot of `h`, and then moves the
//! head from `h`, has the word of `h`. A younger word, of `h + 2 * capacity` or one of
//! `h + capacity` that is not yet published, cannot be there while the head is `h`. An older one,
//! of `h - 2 * capacity`, cannot be seen: whoever moved the head to `h` had read, or follows in the
//! order of the head one who had read, the word of `h - capacity` from that slot (edge M1), so a
//! load after seeing `h` does not go back behind that word.
//!
//! Indices wrap, so a consumer that is stopped between reading and swapping while exactly as many
//! items pass as a `usize` counts would take one that is gone. With 64 bits that is centuries; with
//! 32 it is 2^32 items, a minute at the fastest, during one stop of one thread, to the very item.
//!
//! A full producer is paused a little longer with each refusal (at most about a microsecond): if
//! it read the head in a tight loop, it would take the line from consumers that must write it.
//!
//! | edge | release site | acquire site | publishes |
//! |---|---|---|---|
//! | M1 | consumer: swap of the head | consumers: load of the head | that slots below the head were read, with what those reads saw |
//!
//! The swap is also the release site of S1 (table in `spsc::writer`).
//!
//! Source: Valkey pull request 3324, src/io_queues.h, for the shared inbox and its sequenced cells;
//! claims of several items and reading before claiming are not in it.
#![expect(unsafe_code, reason = "items are moved out of slots that another thread writes")]

use core::fmt;
use core::iter;
use core::mem::MaybeUninit;
use core::panic::{RefUnwindSafe, UnwindSafe};

use crate::spsc::{Ring, S2, Writer};
use crate::sync::buffer::Slots;
use crate::sync::slot::Slot;
use crate::sync::{Arc, Edge, Ordering, Window, pause, window};
use crate::{Compact, Layout, PopError, PushError};

/// The consumers' hand-over of the head among themselves, and S1 to the producer.
const M1: Edge = Edge::new("M1");

/// Most items that one claim takes, however many are asked for: it bounds what a stopped consumer
/// can hold and the room on its stack.
pub const CLAIM_MAX: usize = 32;

/// Makes a ring of the [`Compact`] layout, which takes any type.
///
/// `capacity` is rounded up to a power of two. For jobs that are one word take [`ring_in`] with
/// [`Words`](crate::Words): that ring is lock-free, this one has the bound told in the module text.
///
/// # Panics
/// If `capacity` is 0 or 1, or too large to allocate.
///
/// # Examples
/// ```
/// use flintlock_queues::{PopError, spmc};
///
/// let (mut producer, mut consumer) = spmc::ring::<String>(8);
/// let mut other = consumer.clone();
/// producer.push("job".to_owned()).expect("an empty ring has room");
/// assert_eq!(other.pop().as_deref(), Ok("job"));
/// assert_eq!(consumer.pop(), Err(PopError::Empty));
/// ```
#[must_use]
pub fn ring<T>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    ring_in(capacity)
}

/// Makes a ring of the layout `L`.
///
/// `capacity` is rounded up to a power of two.
///
/// # Panics
/// If `capacity` is 0 or 1, or too large to allocate.
///
/// # Examples
/// ```
/// use flintlock_queues::{Words, spmc};
///
/// let (mut producer, mut worker) = spmc::ring_in::<Box<u32>, Words>(64);
/// let mut other = worker.clone();
/// assert_eq!(producer.push_batch(&mut (0..10).map(Box::new)), 10);
/// let mut sum = 0;
/// assert_eq!(worker.pop_batch(8, |job| sum += *job), 8);
/// assert_eq!(other.pop_batch(8, |job| sum += *job), 2);
/// assert_eq!(sum, 45);
/// ```
#[must_use]
pub fn ring_in<T, L: Layout<T>>(capacity: usize) -> (Producer<T, L>, Consumer<T, L>) {
    ring_at(capacity, 0)
}

/// As [`ring_in`], with the index of the first item chosen: tests start near the wrap.
#[doc(hidden)]
#[must_use]
pub fn ring_at<T, L: Layout<T>>(capacity: usize, first: usize) -> (Producer<T, L>, Consumer<T, L>) {
    let ring = Arc::new(Ring::new(capacity, first));
    let slots = ring.slots();
    let writer = Writer::new(Arc::clone(&ring), first);
    (Producer { writer }, Consumer { slots, ring })
}

/// The producing end; there is one, and it cannot be cloned.
///
/// One thread at a time; nothing blocks, a refused push pauses for a microsecond at most. Dropping
/// it publishes what was deferred, closes the ring and executes a `SeqCst` fence as a commit does;
/// look afterwards whether consumers sleep.
///
/// ```compile_fail,E0599
/// let (producer, _consumer) = flintlock_queues::spmc::ring::<u8>(2);
/// let second = producer.clone();
/// ```
pub struct Producer<T, L: Layout<T> = Compact> {
    writer: Writer<T, L::Slot, true>,
}

impl<T, L: Layout<T>> Producer<T, L> {
    /// Appends `item` and makes it visible, with everything deferred before it.
    ///
    /// # Errors
    /// [`PushError::Full`] if there is no room, after committing what was deferred and after a
    /// pause that doubles with each refusal in a row up to 32 processor pauses (about a
    /// microsecond); [`PushError::Closed`] if there is no room known and every consumer is gone.
    /// The item comes back and the ring is as before.
    #[inline]
    pub fn push(&mut self, item: T) -> Result<(), PushError<T>> {
        self.writer.push(item)
    }

    /// Appends `item` without making it visible: [`Producer::commit`], any [`Producer::push`], a
    /// full ring and the drop of the producer do that for the whole run.
    ///
    /// # Errors
    /// As [`Producer::push`]. On a full ring everything deferred is committed.
    #[inline]
    pub fn push_deferred(&mut self, item: T) -> Result<(), PushError<T>> {
        self.writer.push_deferred(item)
    }

    /// Makes deferred items visible and executes the one `SeqCst` fence of the batch.
    ///
    /// After it, look whether consumers have announced that they sleep: either they see the items
    /// or you see the announcement. Without anything pushed since the last commit it does nothing.
    #[inline]
    pub fn commit(&mut self) {
        self.writer.commit();
    }

    /// Appends from `items` while there is room, and makes everything visible; returns how many.
    /// What is left stays in the iterator.
    /// As long as consumers make room it goes on: what has no end is to be bounded by `take`.
    #[inline]
    #[must_use = "what was not taken is not in the ring"]
    pub fn push_batch(&mut self, items: &mut impl Iterator<Item = T>) -> usize {
        self.writer.push_batch(items)
    }

    /// Copies from the front of `items` while there is room, and makes everything visible; returns
    /// how many.
    #[inline]
    #[must_use = "what was not taken is not in the ring"]
    pub fn push_slice(&mut self, items: &[T]) -> usize
    where
        T: Copy,
    {
        self.writer.push_slice(items)
    }

    /// Number of items that fit, a power of two.
    #[inline]
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.writer.capacity()
    }

    /// Items in the ring, deferred ones included: the depth a pool scales by. Consumers may be
    /// taking some meanwhile, so this is an upper bound.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.writer.len()
    }

    /// Whether [`Producer::len`] is 0: everything was taken, which does not mean processed.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Items for which there is room now; consumers may be making more. In rings of cells some of
    /// it is not free before the consumer that has claimed it goes on (see the module text).
    #[inline]
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.capacity().saturating_sub(self.len())
    }

    /// Whether [`Producer::remaining`] is 0.
    #[inline]
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.remaining() == 0
    }

    /// Consumers there are, a hint while they come and go.
    #[inline]
    #[must_use]
    pub fn consumers(&self) -> usize {
        self.writer.consumers()
    }

    /// Whether every consumer is gone.
    #[inline]
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.writer.is_closed()
    }
}

// A panic in an iterator, a closure or a destructor ends the call as if it had asked for no more.
impl<T, L: Layout<T>> UnwindSafe for Producer<T, L> {}
impl<T, L: Layout<T>> RefUnwindSafe for Producer<T, L> {}

impl<T, L: Layout<T>> fmt::Debug for Producer<T, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.writer.fmt(f)
    }
}

/// A consuming end; clone it for each consumer.
///
/// One thread at a time; nothing blocks. The last one to be dropped drops the items it can see and
/// the producer learns of it.
///
/// Invariants. `[claim-owner]` Whoever moves the head from `h` to `h + n` owns the places `h` to
/// `h + n - 1`. `[claim-alive]` `slots` is the view of the buffer of `ring`, which is kept alive.
pub struct Consumer<T, L: Layout<T> = Compact> {
    slots: Slots<L::Slot>,
    ring: Arc<Ring<T, L::Slot>>,
}

/// Places that were claimed, and what `peek` saw in each.
///
/// A borrow of the caller's room: a claim that owned it was copied whole on its way out of `claim`,
/// 32 words for each claim of 8, which halved the rate.
struct Claim<'a, P> {
    head: usize,
    peeks: &'a [MaybeUninit<P>],
}

impl<T, L: Layout<T>> Consumer<T, L> {
    /// Takes the oldest item nobody has claimed.
    ///
    /// # Errors
    /// [`PopError::Empty`] if nothing is visible now, [`PopError::Closed`] if nothing ever will
    /// be: the producer is gone and everything it published was claimed.
    #[inline]
    pub fn pop(&mut self) -> Result<T, PopError> {
        let mut room = [MaybeUninit::uninit(); 1];
        let claim = self.claim(&mut room)?;
        // SAFETY: [claim-owner] one place was claimed, the first.
        Ok(unsafe { self.finish(claim.head, claim.peeks[0]) })
    }

    /// Claims up to `max` items, at most [`CLAIM_MAX`], by one compare-and-swap and hands each to
    /// `each` in order; returns how many. 0 means empty or closed; [`Consumer::pop`] tells which.
    ///
    /// A large claim is cheap but unfair: while this consumer works it off, the others go without.
    /// A pool takes `min(8, len / consumers)`, and at least 1.
    ///
    /// All items leave the ring before the first is handed over, so the room is free while `each`
    /// runs; if it panics, the remaining ones are dropped.
    #[inline]
    pub fn pop_batch(&mut self, max: usize, mut each: impl FnMut(T)) -> usize {
        let mut room = [MaybeUninit::uninit(); CLAIM_MAX];
        let Ok(claim) = self.claim(&mut room[..max.min(CLAIM_MAX)]) else { return 0 };
        let mut rest = Rest { consumer: self, claim: &claim, next: 0 };
        while let Some(item) = rest.next() {
            each(item);
        }
        claim.peeks.len()
    }

    /// Takes item after item until none is visible. That may never be while producers keep up:
    /// `take` of the iterator sets a bound.
    ///
    /// # Examples
    /// ```
    /// let (mut producer, mut consumer) = flintlock_queues::spmc::ring::<u8>(4);
    /// assert_eq!(producer.push_slice(&[1, 2, 3]), 3);
    /// assert_eq!(consumer.drain().collect::<Vec<u8>>(), [1, 2, 3]);
    /// ```
    pub fn drain(&mut self) -> impl Iterator<Item = T> + '_ {
        iter::from_fn(|| self.pop().ok())
    }

    /// Fills the front of `items`, by one claim; returns how many, at most [`CLAIM_MAX`].
    #[inline]
    #[must_use = "only so many are items of the ring"]
    pub fn pop_slice(&mut self, items: &mut [T]) -> usize
    where
        T: Copy,
    {
        let mut room = [MaybeUninit::uninit(); CLAIM_MAX];
        let Ok(claim) = self.claim(&mut room[..items.len().min(CLAIM_MAX)]) else { return 0 };
        let mut index = claim.head;
        for (peek, item) in claim.peeks.iter().zip(items) {
            // SAFETY: [claim-owner] each peek once, with the index it was taken from.
            *item = unsafe { self.finish(index, *peek) };
            index = index.wrapping_add(1);
        }
        claim.peeks.len()
    }

    /// Number of items that fit, a power of two.
    #[inline]
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.slots.capacity()
    }

    /// Items visible now, a hint: others come and go meanwhile. Costs about two loads for each
    /// doubling of the answer.
    #[must_use]
    pub fn len(&self) -> usize {
        // SAFETY: [claim-alive] the ring is alive.
        unsafe { self.slots.run_length(self.head()) }
    }

    /// Whether no item is visible now. After announcing that it sleeps and a `SeqCst` fence, a
    /// consumer that sees `true` here and is not closed will be seen by the producer's next commit,
    /// or after its drop.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        loop {
            let head = self.head();
            // SAFETY: [claim-alive] the ring is alive.
            let (slot, place) = unsafe { self.slots.at(head) };
            if slot.is_filled(place) {
                return false;
            }
            if self.head() == head {
                return true;
            }
        }
    }

    /// Consumers there are, this one included; a hint while others come and go.
    ///
    /// # Examples
    /// ```
    /// let (mut producer, mut consumer) = flintlock_queues::spmc::ring::<u8>(8);
    /// let other = consumer.clone();
    /// assert_eq!(producer.push_slice(&[1, 2, 3, 4]), 4);
    /// // A share that leaves something for the other one.
    /// let share = (consumer.len() / consumer.consumers()).clamp(1, 8);
    /// assert_eq!(consumer.pop_batch(share, |_| ()), 2);
    /// assert_eq!(other.len(), 2);
    /// ```
    #[inline]
    #[must_use]
    pub fn consumers(&self) -> usize {
        self.ring.ends.consumers.load(Ordering::Relaxed)
    }

    /// Whether the producer is gone; items may be left.
    #[inline]
    #[must_use]
    pub fn is_closed(&self) -> bool {
        // ORDERING: S2
        self.ring.ends.producer_gone.load(S2.acquire())
    }

    #[inline(always)]
    fn head(&self) -> usize {
        // ORDERING: M1
        self.ring.ends.head.load(M1.acquire())
    }

    /// Claims as many places as `room` has, or fewer; at least one unless refused.
    ///
    /// Repeats only when another consumer has moved the head meanwhile: somebody makes progress.
    #[inline(always)]
    fn claim<'a>(
        &self,
        room: &'a mut [MaybeUninit<<L::Slot as Slot<T>>::Peek>],
    ) -> Result<Claim<'a, <L::Slot as Slot<T>>::Peek>, PopError> {
        let mut pauses = 1;
        let mut was_closed = false;
        loop {
            let head = self.head();
            let count = self.peek(head, room);
            window(Window::Peeked);
            if count == 0 {
                // Nothing in the slot of `head`; that means an empty ring only if the head is
                // still there, since the producer may have been round meanwhile.
                if room.is_empty() {
                    return Err(PopError::Empty);
                }
                if self.head() != head {
                    continue;
                }
                if was_closed {
                    return Err(PopError::Closed);
                }
                if !self.is_closed() {
                    return Err(PopError::Empty);
                }
                // What the producer published before it went is visible from here on.
                was_closed = true;
                continue;
            }
            if self.swap_head(head, count) {
                window(Window::Claimed);
                return Ok(Claim { head, peeks: &room[..count] });
            }
            pause(pauses);
            pauses = (pauses * 2).min(8);
        }
    }

    /// Looks at consecutive slots from `head` on until one is not filled; how many are.
    #[inline(always)]
    fn peek(&self, head: usize, peeks: &mut [MaybeUninit<<L::Slot as Slot<T>>::Peek>]) -> usize {
        if let [seen] = peeks {
            // A single slot needs no segment; `pop` is compiled to this.
            // SAFETY: [claim-alive] the ring is alive.
            let (slot, place) = unsafe { self.slots.at(head) };
            let Some(peek) = slot.look(place) else { return 0 };
            seen.write(peek);
            return 1;
        }
        let row = peeks.len().min(self.slots.rest_of_row(head));
        let count = self.peek_row(head, &mut peeks[..row]);
        if count < row || row == peeks.len() {
            return count;
        }
        // The row ended with the buffer, and goes on at its start.
        count + self.peek_row(head.wrapping_add(count), &mut peeks[row..])
    }

    /// As [`Consumer::peek`], within one row.
    #[inline(always)]
    fn peek_row(
        &self,
        head: usize,
        peeks: &mut [MaybeUninit<<L::Slot as Slot<T>>::Peek>],
    ) -> usize {
        // SAFETY: [claim-alive] the ring is alive.
        let run = unsafe { self.slots.published(head, peeks.len()) };
        let mut place = self.slots.place(head);
        for (slot, seen) in run.iter().zip(peeks) {
            seen.write(slot.peek(place));
            place = place.next();
        }
        run.len()
    }

    /// Moves the head over `count` places if it still is `head`: claims them.
    #[inline(always)]
    fn swap_head(&self, head: usize, count: usize) -> bool {
        let next = head.wrapping_add(count);
        // ORDERING: M1 (and S1 towards the producer). A failure says nothing that is relied on.
        let swapped =
            self.ring.ends.head.compare_exchange(head, next, M1.release(), Ordering::Relaxed);
        swapped.is_ok()
    }

    /// Moves out the item of `index`.
    ///
    /// # Safety
    /// `index` is claimed, `peek` was taken from its slot, and it is finished once.
    #[inline(always)]
    unsafe fn finish(&self, index: usize, peek: MaybeUninit<<L::Slot as Slot<T>>::Peek>) -> T {
        // SAFETY: [claim-alive] the ring is alive.
        let (slot, place) = unsafe { self.slots.at(index) };
        // SAFETY: [claim-owner] the claim succeeded after the peek and the caller finishes once.
        unsafe { slot.finish(place, peek.assume_init()) }
    }
}

/// What of a claim was not handed over yet; dropped with it.
struct Rest<'a, T, L: Layout<T>> {
    consumer: &'a Consumer<T, L>,
    claim: &'a Claim<'a, <L::Slot as Slot<T>>::Peek>,
    next: usize,
}

impl<T, L: Layout<T>> Rest<'_, T, L> {
    #[inline(always)]
    fn next(&mut self) -> Option<T> {
        let peek = *self.claim.peeks.get(self.next)?;
        let index = self.claim.head.wrapping_add(self.next);
        self.next += 1;
        // SAFETY: [claim-owner] the peek at this position, and `next` has moved past it.
        Some(unsafe { self.consumer.finish(index, peek) })
    }
}

impl<T, L: Layout<T>> Drop for Rest<'_, T, L> {
    #[inline(always)]
    fn drop(&mut self) {
        while let Some(item) = self.next() {
            drop(item);
        }
    }
}

impl<T, L: Layout<T>> Clone for Consumer<T, L> {
    fn clone(&self) -> Self {
        self.ring.ends.consumers.fetch_add(1, Ordering::Relaxed);
        Self { slots: self.slots, ring: Arc::clone(&self.ring) }
    }
}

impl<T, L: Layout<T>> Drop for Consumer<T, L> {
    fn drop(&mut self) {
        if self.ring.ends.consumers.fetch_sub(1, Ordering::Relaxed) == 1 {
            // Items may own handles of this very ring. Bounded by the capacity; what comes in
            // meanwhile is dropped with the ring.
            let mut left = self.capacity();
            while left > 0 {
                let taken = self.pop_batch(left, drop);
                if taken == 0 {
                    return;
                }
                left -= taken;
            }
        }
    }
}

// A panic in an iterator, a closure or a destructor ends the call as if it had asked for no more.
impl<T, L: Layout<T>> UnwindSafe for Consumer<T, L> {}
impl<T, L: Layout<T>> RefUnwindSafe for Consumer<T, L> {}

impl<T, L: Layout<T>> fmt::Debug for Consumer<T, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("capacity", &self.capacity())
            .field("len", &self.len())
            .field("is_closed", &self.is_closed())
            .finish()
    }
}

// SAFETY: [claim-owner] a consumer takes what it has claimed, on whatever thread it is.
unsafe impl<T: Send, L: Layout<T>> Send for Consumer<T, L> {}
// SAFETY: [claim-owner] a shared consumer looks at counters and stamps, and can be cloned.
unsafe impl<T: Send, L: Layout<T>> Sync for Consumer<T, L> {}
