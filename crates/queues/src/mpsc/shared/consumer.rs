//! The consuming end: takes in index order, and takes over what producers left behind.
//!
//! Owns the head and the orphans it has adopted; one thread at a time; never blocks.
#![expect(unsafe_code, reason = "items are moved out of slots that another thread writes")]

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::fmt;
use core::iter;
use core::panic::{RefUnwindSafe, UnwindSafe};
use core::ptr;

use super::orphan::Orphan;
use super::{R1, R2, SharedRing};
use crate::sync::Ordering;
use crate::sync::buffer::Slots;
use crate::sync::slot::Slot;
use crate::{Compact, Layout, PopError};

/// The consuming end of a ring; there is one, which may move but not be cloned.
///
/// ```
/// let (producer, consumer) = flintlock_queues::mpsc::shared::ring::<u8>(2);
/// let (another, second) = (producer.clone(), consumer);
/// ```
/// ```compile_fail,E0599
/// let (producer, consumer) = flintlock_queues::mpsc::shared::ring::<u8>(2);
/// let (another, second) = (producer.clone(), consumer.clone());
/// ```
///
/// One thread at a time; nothing blocks or allocates, except for taking over what producers left
/// behind. Dropping it drops the items it can see and those left behind; producers learn of it by
/// [`Producer::is_closed`](super::Producer::is_closed).
///
/// Invariants. `[shared-owner]` There is one consumer, and `head` is the first index it has not
/// taken. `[shared-alive]` `slots` is the view of the buffer of `ring`, which is kept alive.
/// `[orphan-ticket]` The ticket of an orphan is the reservation of a producer that is gone, so only
/// whoever has the orphan fills its slots.
pub struct Consumer<T, L: Layout<T> = Compact> {
    slots: Slots<L::Slot>,
    head: usize,
    /// The head at which the slow path looks for orphans: the next lap, or now.
    watch: usize,
    /// Items of orphans without a slot, whose turn has come.
    due: VecDeque<T>,
    /// Orphans whose turn has not come.
    adopted: Vec<Orphan<T>>,
    ring: SharedRing<T, L>,
}

impl<T, L: Layout<T>> Consumer<T, L> {
    pub(super) fn new(ring: SharedRing<T, L>, first: usize) -> Self {
        let slots = ring.slots();
        let watch = first.wrapping_add(slots.capacity());
        Self { slots, head: first, watch, due: VecDeque::new(), adopted: Vec::new(), ring }
    }

    /// Takes the oldest item.
    ///
    /// # Errors
    /// [`PopError::Empty`] if nothing can be taken now: the ring is empty, or the producer of the
    /// oldest reservation has not filled its slot, and hides what is behind it.
    /// [`PopError::Closed`] if every producer is gone and everything was taken.
    #[inline]
    pub fn pop(&mut self) -> Result<T, PopError> {
        if self.head != self.watch
            && let Some(item) = self.take()
        {
            self.give_back_room();
            return Ok(item);
        }
        self.pop_slow()
    }

    /// Takes up to `max` items in order and hands each to `each`; returns how many. Room is given
    /// back at the end of the buffer and of the batch, also if `each` panics. 0 means empty or
    /// closed; [`Consumer::pop`] tells which.
    #[inline]
    pub fn pop_batch(&mut self, max: usize, mut each: impl FnMut(T)) -> usize {
        let mut taken = 0;
        while taken < max {
            taken += self.take_row(max - taken, &mut each);
            if taken < max {
                let Ok(item) = self.pop_slow() else { break };
                taken += 1;
                each(item);
            }
        }
        taken
    }

    /// Takes item after item until none is visible. That may never be while producers keep up:
    /// `take` of the iterator sets a bound.
    ///
    /// # Examples
    /// ```
    /// let (mut producer, mut consumer) = flintlock_queues::mpsc::shared::ring::<u8>(4);
    /// assert_eq!(producer.push_slice(&[1, 2, 3]), 3);
    /// assert_eq!(consumer.drain().collect::<Vec<u8>>(), [1, 2, 3]);
    /// ```
    pub fn drain(&mut self) -> impl Iterator<Item = T> + '_ {
        iter::from_fn(|| self.pop().ok())
    }

    /// Fills the front of `items`; returns how many.
    #[inline]
    #[must_use = "only so many are items of the ring"]
    pub fn pop_slice(&mut self, items: &mut [T]) -> usize
    where
        T: Copy,
    {
        let mut places = items.iter_mut();
        self.pop_batch(places.len(), |item| {
            if let Some(place) = places.next() {
                *place = item;
            }
        })
    }

    /// Number of items that fit, a power of two.
    #[inline]
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.slots.capacity()
    }

    /// Items that can be taken now, a hint: others may follow meanwhile. Costs about two loads for
    /// each doubling of the answer.
    #[must_use]
    pub fn len(&self) -> usize {
        // SAFETY: [shared-alive] the ring is alive.
        self.due.len() + unsafe { self.slots.run_length(self.head) }
    }

    /// Whether nothing can be taken now. After announcing that it sleeps and a `SeqCst` fence, a
    /// consumer that sees `true` here and is not closed will be seen by the next commit of each
    /// producer, or after its drop.
    ///
    /// False also if a producer left something behind, since that takes a pop to find out more.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        // SAFETY: [shared-alive] the ring is alive.
        let (slot, place) = unsafe { self.slots.at(self.head) };
        !slot.is_filled(place)
            && self.due.is_empty()
            && !self.adopted.iter().any(|orphan| has_turn(orphan, self.head))
            && self.ring.rare.orphans.is_empty()
    }

    /// Whether every producer is gone; items may be left.
    #[inline]
    #[must_use]
    pub fn is_closed(&self) -> bool {
        // ORDERING: R2
        self.ring.rare.producers.load(R2.acquire()) == 0
    }

    /// Tells rings apart.
    #[inline]
    pub(super) fn ring_id(&self) -> usize {
        ptr::from_ref(&*self.ring).addr()
    }

    /// Moves the next item out of its slot, if it is filled, without giving back the room.
    #[inline(always)]
    fn take(&mut self) -> Option<T> {
        // SAFETY: [shared-alive] the ring is alive.
        let (slot, place) = unsafe { self.slots.at(self.head) };
        // SAFETY: [shared-owner] the only consumer, and the head moves on with each item.
        let item = unsafe { slot.take(place) };
        if item.is_some() {
            self.head = place.next().index;
        }
        item
    }

    /// Hands over what is filled in a row from the head on, at most `max` and not past the watch;
    /// how many. The room is given back at the end.
    #[inline(always)]
    fn take_row(&mut self, max: usize, each: &mut impl FnMut(T)) -> usize {
        let batch = Batch(self);
        let first = batch.0.head;
        let count = max.min(batch.0.watch.wrapping_sub(first));
        // SAFETY: [shared-alive] the ring is alive.
        let segment = unsafe { batch.0.slots.segment(first, count) };
        let mut place = batch.0.slots.place(first);
        for slot in segment {
            // SAFETY: [shared-owner] the only consumer, and the head moves on with each item.
            let Some(item) = (unsafe { slot.take(place) }) else { break };
            place = place.next();
            batch.0.head = place.index;
            each(item);
        }
        batch.0.head.wrapping_sub(first)
    }

    #[inline(always)]
    fn give_back_room(&self) {
        // ORDERING: R1
        self.ring.reader.head.store(self.head, R1.release());
    }

    /// Nothing in the slot, or time to look for orphans.
    #[cold]
    fn pop_slow(&mut self) -> Result<T, PopError> {
        // Whether all producers are gone is asked before the last look, not after it.
        for was_closed in [false, true] {
            if was_closed && !self.is_closed() {
                return Err(PopError::Empty);
            }
            self.adopt();
            if let Some(item) = self.due.pop_front().or_else(|| self.take()) {
                self.give_back_room();
                return Ok(item);
            }
        }
        Err(PopError::Closed)
    }

    /// Takes over what producers left, as far as it is its turn, and sets when to look again.
    fn adopt(&mut self) {
        if !self.ring.rare.orphans.is_empty() {
            self.adopted.extend(self.ring.rare.orphans.take_all());
        }
        let (head, capacity) = (self.head, self.capacity());
        for orphan in &mut self.adopted {
            // The slots of a ticket are filled on behalf of the producer. They must not be skipped:
            // a word left in a slot for two laps would look new.
            while !orphan.ticket.is_used_up()
                && orphan.ticket.next.wrapping_sub(head) < capacity
                && let Some(item) = orphan.items.pop_front()
            {
                // SAFETY: [shared-alive] the ring is alive.
                let (slot, place) = unsafe { self.slots.at(orphan.ticket.next) };
                // SAFETY: [orphan-ticket] reserved by the producer that left it, and vacant since
                // it is less than the capacity ahead of the head.
                unsafe { slot.fill(place, item) };
                orphan.ticket.next = place.next().index;
            }
            // What has no slot goes ahead of the ring when its turn has come: a ring that is never
            // empty would keep it waiting for ever.
            if orphan.ticket.is_used_up() && has_turn(orphan, head) {
                self.due.append(&mut orphan.items);
            }
        }
        self.adopted.retain(|orphan| !orphan.items.is_empty());
        let lap = capacity - (head & (capacity - 1));
        self.watch = if self.due.is_empty() { head.wrapping_add(lap) } else { head };
    }
}

/// Whether the next item of `orphan` may be delivered when `head` is next.
fn has_turn<T>(orphan: &Orphan<T>, head: usize) -> bool {
    if orphan.ticket.is_used_up() {
        // At or past `after`; the counters wrap, and are never half the range apart.
        head.wrapping_sub(orphan.after) <= usize::MAX / 2
    } else {
        orphan.ticket.next == head
    }
}

/// Gives back the room of a batch, also when the caller's closure panics.
struct Batch<'a, T, L: Layout<T>>(&'a mut Consumer<T, L>);

impl<T, L: Layout<T>> Drop for Batch<'_, T, L> {
    #[inline(always)]
    fn drop(&mut self) {
        self.0.give_back_room();
    }
}

impl<T, L: Layout<T>> Drop for Consumer<T, L> {
    fn drop(&mut self) {
        self.ring.reader.gone.store(true, Ordering::Relaxed);
        // Items may own handles of this very ring, which would then never be dropped. What comes in
        // meanwhile is dropped with it.
        let capacity = self.capacity();
        self.pop_batch(capacity, drop);
        self.ring.rare.orphans.take_all().for_each(drop);
    }
}

// SAFETY: [shared-owner] the consumer is one end of the ring and may move with its items.
unsafe impl<T: Send, L: Layout<T>> Send for Consumer<T, L> {}
// SAFETY: [shared-owner] a shared consumer only looks at counters and stamps.
unsafe impl<T: Send, L: Layout<T>> Sync for Consumer<T, L> {}

// A panic in an iterator, a closure or a destructor ends the call as if it had asked for no more.
impl<T, L: Layout<T>> UnwindSafe for Consumer<T, L> {}
impl<T, L: Layout<T>> RefUnwindSafe for Consumer<T, L> {}

impl<T, L: Layout<T>> fmt::Debug for Consumer<T, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("capacity", &self.capacity())
            .field("len", &self.len())
            .field("is_closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}
