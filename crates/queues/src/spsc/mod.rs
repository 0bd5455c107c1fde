//! One producer, one consumer: the private inbox of a worker.
//!
//! Owns the consuming end; the producing end is `writer`, shared with the other rings. Each handle
//! belongs to one thread at a time. Nothing here blocks; how to sleep is the caller's business,
//! and the crate documentation tells which hooks it has for that.
//!
//! # Design
//! Whether a slot holds an item is written in the slot (a sequence number, or one lap bit of a
//! word), so an item crosses between cores in one cache line, where a ring of two indices moves a
//! line for the tail and another for the data. The tail is private to the producer. The head is
//! stored by the consumer and read by the producer only when the room it knows of is used up,
//! about once a lap.
//!
//! Rejected: a shared tail (one more line for each hand-off), a slot that the consumer clears (it
//! takes the line away from the producer), publishing the head only now and then (a push could be
//! refused although there is room, and whoever counts on the room would be wrong).
//!
//! Edges S1, S2 and F1 are in the table of `writer`, L1, C1 and C2 in that of `sync::slot`.
//!
//! Source: Valkey pull request 3324, src/io_queues.h, for the private inbox, the cached head and
//! the deferred commit.
#![expect(unsafe_code, reason = "items are moved out of slots that another thread writes")]

mod ring;
mod writer;

use core::fmt;
use core::iter;
use core::panic::{RefUnwindSafe, UnwindSafe};

pub(crate) use ring::Ring;
pub(crate) use writer::{S1, S2, Writer};

use crate::sync::buffer::Slots;
use crate::sync::slot::Slot;
use crate::sync::{Arc, Ordering, Window, window};
use crate::{Compact, Layout, PopError, PushError};

/// Makes a ring of the [`Compact`] layout, which takes any type.
///
/// `capacity` is rounded up to a power of two. See [`ring_in`] for the other layouts.
///
/// # Panics
/// If `capacity` is 0 or 1, or too large to allocate.
///
/// # Examples
/// ```
/// use flintlock_queues::{PopError, spsc};
///
/// let (mut producer, mut consumer) = spsc::ring::<String>(8);
/// producer.push("job".to_owned()).expect("an empty ring has room");
/// assert_eq!(consumer.pop().as_deref(), Ok("job"));
/// drop(producer);
/// assert_eq!(consumer.pop(), Err(PopError::Closed));
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
/// use flintlock_queues::{Words, spsc};
///
/// let (mut producer, mut consumer) = spsc::ring_in::<Box<u64>, Words>(3);
/// assert_eq!(producer.capacity(), 4);
/// producer.push(Box::new(5)).expect("an empty ring has room");
/// assert_eq!(consumer.pop(), Ok(Box::new(5)));
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
    (Producer { writer }, Consumer { slots, head: first, ring })
}

/// The producing end of a ring; there is one, and it cannot be cloned.
///
/// One thread at a time; nothing blocks. Dropping it publishes what was deferred, closes the ring
/// and executes a `SeqCst` fence as a commit does: the consumer gets the rest and then
/// [`PopError::Closed`]. Look afterwards whether it sleeps.
///
/// ```compile_fail,E0599
/// let (producer, _consumer) = flintlock_queues::spsc::ring::<u8>(2);
/// let second = producer.clone();
/// ```
///
/// Source: Valkey pull request 3324, src/io_queues.h, for the deferred commit.
pub struct Producer<T, L: Layout<T> = Compact> {
    writer: Writer<T, L::Slot, false>,
}

impl<T, L: Layout<T>> Producer<T, L> {
    /// Appends `item` and makes it visible, with everything deferred before it.
    ///
    /// # Errors
    /// [`PushError::Full`] if there is no room, after committing what was deferred;
    /// [`PushError::Closed`] if there is no room known and the consumer is gone. The item comes
    /// back and the ring is as before. While known room lasts, a push to a ring without consumer
    /// succeeds and the item is dropped with the ring; [`Producer::is_closed`] tells at any time.
    #[inline]
    pub fn push(&mut self, item: T) -> Result<(), PushError<T>> {
        self.writer.push(item)
    }

    /// Appends `item` without making it visible: [`Producer::commit`], any [`Producer::push`], a
    /// full ring and the drop of the producer do that for the whole run.
    ///
    /// # Errors
    /// As [`Producer::push`]. On a full ring everything deferred is committed, so that the
    /// consumer can make room.
    ///
    /// # Examples
    /// ```
    /// use flintlock_queues::{PopError, spsc};
    ///
    /// let (mut producer, mut consumer) = spsc::ring::<u8>(4);
    /// producer.push_deferred(1).expect("room");
    /// assert_eq!(consumer.pop(), Err(PopError::Empty));
    /// producer.commit();
    /// assert_eq!(consumer.pop(), Ok(1));
    /// ```
    #[inline]
    pub fn push_deferred(&mut self, item: T) -> Result<(), PushError<T>> {
        self.writer.push_deferred(item)
    }

    /// Makes deferred items visible and executes the one `SeqCst` fence of the batch.
    ///
    /// After it, look whether the consumer has announced that it sleeps: either it sees the items
    /// or you see the announcement. Without anything pushed since the last commit it does nothing.
    #[inline]
    pub fn commit(&mut self) {
        self.writer.commit();
    }

    /// [`Producer::commit`]; tells whether there was anything to fence.
    #[inline]
    pub(crate) fn commit_fenced(&mut self) -> bool {
        self.writer.commit()
    }

    /// Whether nothing was pushed since the last fence.
    #[inline]
    pub(crate) fn is_committed(&self) -> bool {
        self.writer.is_committed()
    }

    /// Appends from `items` while there is room, and makes everything visible; returns how many.
    /// What is left stays in the iterator: no item is taken out that cannot be appended.
    /// As long as consumers make room it goes on: what has no end is to be bounded by `take`.
    ///
    /// # Examples
    /// ```
    /// let (mut producer, _consumer) = flintlock_queues::spsc::ring::<u8>(4);
    /// let mut items = 0..10;
    /// assert_eq!(producer.push_batch(&mut items), 4);
    /// assert_eq!(items.next(), Some(4));
    /// ```
    #[inline]
    #[must_use = "what was not taken is not in the ring"]
    pub fn push_batch(&mut self, items: &mut impl Iterator<Item = T>) -> usize {
        self.writer.push_batch(items)
    }

    /// Copies from the front of `items` while there is room, and makes everything visible; returns
    /// how many. The fastest way in, for batches of 16 or more.
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

    /// Items in the ring, deferred ones included. The consumer may be taking some meanwhile, so
    /// this is an upper bound.
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

    /// Items for which there is room now; the consumer may be making more.
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

    /// Whether the consumer is gone.
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

/// The consuming end of a ring; there is one, which may move but not be cloned.
///
/// ```
/// let (_producer, consumer) = flintlock_queues::spsc::ring::<u8>(2);
/// let second = consumer;
/// ```
/// ```compile_fail,E0599
/// let (_producer, consumer) = flintlock_queues::spsc::ring::<u8>(2);
/// let second = consumer.clone();
/// ```
///
/// One thread at a time; nothing blocks. Dropping it drops the items it can see; the producer
/// learns of it by [`Producer::is_closed`] and [`PushError::Closed`].
///
/// Invariants. `[consumer-owner]` There is one consumer, and `head` is the first index it has not
/// taken. `[consumer-alive]` `slots` is the view of the buffer of `ring`, which is kept alive.
pub struct Consumer<T, L: Layout<T> = Compact> {
    slots: Slots<L::Slot>,
    head: usize,
    ring: Arc<Ring<T, L::Slot>>,
}

impl<T, L: Layout<T>> Consumer<T, L> {
    /// Takes the oldest item.
    ///
    /// # Errors
    /// [`PopError::Empty`] if nothing is visible now, [`PopError::Closed`] if nothing ever will
    /// be: the producer is gone and everything it published was taken.
    #[inline]
    pub fn pop(&mut self) -> Result<T, PopError> {
        self.take().map_or_else(|| self.pop_slow(), Ok)
    }

    /// Takes up to `max` items in order and hands each to `each`; returns how many. The room is
    /// given back once, at the end, also if `each` panics (the items not yet handed over stay in
    /// the ring). 0 means empty or closed; [`Consumer::pop`] tells which.
    ///
    /// # Examples
    /// ```
    /// let (mut producer, mut consumer) = flintlock_queues::spsc::ring::<u8>(4);
    /// assert_eq!(producer.push_batch(&mut (1..=4)), 4);
    /// let mut taken = Vec::new();
    /// assert_eq!(consumer.pop_batch(3, |item| taken.push(item)), 3);
    /// assert_eq!(taken, [1, 2, 3]);
    /// ```
    #[inline]
    pub fn pop_batch(&mut self, max: usize, mut each: impl FnMut(T)) -> usize {
        let mut batch = Batch { head: self.head, consumer: self };
        let first = batch.head;
        loop {
            let taken = batch.head.wrapping_sub(first);
            // SAFETY: [consumer-alive] the ring is alive.
            let segment = unsafe { batch.consumer.slots.segment(batch.head, max - taken) };
            let mut place = batch.consumer.slots.place(batch.head);
            for slot in segment {
                // SAFETY: [consumer-owner] the only consumer, and the head moves on with it.
                let Some(item) = (unsafe { slot.take(place) }) else {
                    return batch.head.wrapping_sub(first);
                };
                place = place.next();
                batch.head = place.index;
                each(item);
            }
            // The row ended with the buffer, and goes on at its start.
            if batch.head.wrapping_sub(first) == max {
                return max;
            }
        }
    }

    /// Takes item after item until none is visible. That may never be while producers keep up:
    /// `take` of the iterator sets a bound.
    ///
    /// # Examples
    /// ```
    /// let (mut producer, mut consumer) = flintlock_queues::spsc::ring::<u8>(4);
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
        let mut count = 0;
        while count < items.len() {
            // SAFETY: [consumer-alive] the ring is alive.
            let segment = unsafe { self.slots.segment(self.head, items.len() - count) };
            let mut place = self.slots.place(self.head);
            let first = count;
            for (slot, room) in segment.iter().zip(&mut items[first..]) {
                // SAFETY: [consumer-owner] the only consumer, and the head moves on below.
                let Some(item) = (unsafe { slot.take(place) }) else { break };
                *room = item;
                place = place.next();
                count += 1;
            }
            self.give_back_room(place.index);
            if count - first < segment.len() {
                break;
            }
        }
        count
    }

    /// Number of items that fit, a power of two.
    #[inline]
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.slots.capacity()
    }

    /// Items visible now, a hint: the producer may be adding more. Costs about two loads for each
    /// doubling of the answer.
    #[must_use]
    pub fn len(&self) -> usize {
        // SAFETY: [consumer-alive] the ring is alive.
        unsafe { self.slots.run_length(self.head) }
    }

    /// Whether no item is visible now. After announcing that it sleeps and a `SeqCst` fence, a
    /// consumer that sees `true` here and is not closed will be seen by the producer's next commit,
    /// or after its drop.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        // SAFETY: [consumer-alive] the ring is alive.
        let (slot, place) = unsafe { self.slots.at(self.head) };
        !slot.is_filled(place)
    }

    /// Whether the producer is gone; items may be left.
    #[inline]
    #[must_use]
    pub fn is_closed(&self) -> bool {
        // ORDERING: S2
        self.ring.ends.producer_gone.load(S2.acquire())
    }

    /// The first index not taken yet.
    #[inline(always)]
    pub(crate) fn head(&self) -> usize {
        self.head
    }

    /// Moves the next item out of its slot, if there is one, and gives back the room.
    #[inline(always)]
    pub(crate) fn take(&mut self) -> Option<T> {
        // SAFETY: [consumer-alive] the ring is alive.
        let (slot, place) = unsafe { self.slots.at(self.head) };
        // SAFETY: [consumer-owner] the only consumer, and the head moves on with each item.
        let item = unsafe { slot.take(place) };
        if item.is_some() {
            window(Window::Taken);
            self.give_back_room(place.next().index);
        }
        item
    }

    /// Moves the head to `head`, for the producer to see.
    #[inline(always)]
    fn give_back_room(&mut self, head: usize) {
        self.head = head;
        // ORDERING: S1
        self.ring.ends.head.store(head, S1.release());
    }

    #[cold]
    fn pop_slow(&mut self) -> Result<T, PopError> {
        if !self.is_closed() {
            return Err(PopError::Empty);
        }
        // Closed was seen after the slot: what the producer published in between is visible now.
        self.take().ok_or(PopError::Closed)
    }
}

/// The head of a batch; its room is given back at the end, also when the caller's closure panics.
struct Batch<'a, T, L: Layout<T>> {
    head: usize,
    consumer: &'a mut Consumer<T, L>,
}

impl<T, L: Layout<T>> Drop for Batch<'_, T, L> {
    #[inline(always)]
    fn drop(&mut self) {
        self.consumer.give_back_room(self.head);
    }
}

impl<T, L: Layout<T>> Drop for Consumer<T, L> {
    fn drop(&mut self) {
        self.ring.ends.consumers.store(0, Ordering::Relaxed);
        // Items may own handles of this very ring; waiting for the last handle would then be for
        // ever. What comes in meanwhile is dropped with the ring.
        let capacity = self.capacity();
        self.pop_batch(capacity, drop);
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

// SAFETY: [consumer-owner] the consumer is one end of the ring and may move with its items.
unsafe impl<T: Send, L: Layout<T>> Send for Consumer<T, L> {}
// SAFETY: [consumer-owner] a shared consumer only looks at counters and stamps.
unsafe impl<T: Send, L: Layout<T>> Sync for Consumer<T, L> {}
