//! The producing ends: reservation, ticket and pending list.
//!
//! Owns what one producer knows and has not delivered; one thread at a time; never blocks. It must
//! not reserve a slot for which it has no item in hand.
#![expect(unsafe_code, reason = "items are moved into slots that another thread reads")]

use alloc::collections::VecDeque;
use core::fmt;
use core::mem;
use core::panic::{RefUnwindSafe, UnwindSafe};
use core::ptr;

use super::orphan::{Orphan, Ticket};
use super::{R1, R2, R5, SharedRing};
use crate::sync::buffer::Slots;
use crate::sync::slot::Slot;
use crate::sync::{Arc, Edge, Ordering, Window, window};
use crate::{Compact, Layout, PushError};

/// The one `SeqCst` fence of a batch.
const R4: Edge = Edge::new("R4");

/// Most items that an iterator's batch collects before reserving for them.
const BATCH_MAX: usize = 64;

/// A producing end; clone it for each producer.
///
/// One thread at a time; nothing blocks. What a push accepts may wait in this producer's pending
/// list (see the module text; it allocates as it grows), where only this producer moves it on: call
/// [`Producer::commit`] at the end of a batch, and again while [`Producer::pending`] is not 0.
/// Dropping the producer hands the rest to the consumer and executes a `SeqCst` fence as a commit
/// does; look afterwards whether the consumer sleeps.
///
/// Invariants. `[reserve-owner]` Whoever got index `i` from the increment of the tail is the only
/// one to fill the slot for `i`. `[reserve-vacant]` The slot of `i` is vacant for `i` once the head
/// is above `i - capacity`. `[producer-alive]` `slots` is the view of the buffer of `ring`, which
/// is kept alive. `[ticket-items]` There are at least as many pending items as indices in the
/// ticket, and the first ones belong to it.
pub struct Producer<T, L: Layout<T> = Compact> {
    slots: Slots<L::Slot>,
    /// The head as last seen; it only grows, so what was vacant is vacant.
    head_seen: usize,
    ticket: Ticket,
    /// Items accepted and not in the ring, in order.
    pending: VecDeque<T>,
    /// Something may have been published since the last fence.
    is_unfenced: bool,
    ring: SharedRing<T, L>,
}

impl<T, L: Layout<T>> Producer<T, L> {
    pub(super) fn new(ring: SharedRing<T, L>, head_seen: usize) -> Self {
        Self {
            slots: ring.slots(),
            head_seen,
            ticket: Ticket::NONE,
            pending: VecDeque::new(),
            is_unfenced: false,
            ring,
        }
    }

    /// Appends `item` and makes it visible, with everything pending before it, as far as there is
    /// room; what does not fit waits in the pending list, in order. While [`Producer::pending`] is
    /// not 0 afterwards, this producer may hold a reservation that hides what others push: commit
    /// again soon, and do not sleep.
    ///
    /// # Errors
    /// [`PushError::Full`] if the pending list holds [`Producer::capacity`] items and none could
    /// be moved on; [`PushError::Closed`] if the consumer is gone and no room is known. The item
    /// comes back and nothing is changed.
    #[inline]
    pub fn push(&mut self, item: T) -> Result<(), PushError<T>> {
        self.is_unfenced = true;
        if !self.pending.is_empty() || !self.expects_room() {
            return self.push_slow(item);
        }
        self.reserve_and_fill(item, Ordering::Relaxed);
        Ok(())
    }

    /// Appends `item` to the pending list without making it visible; [`Producer::commit`], any
    /// [`Producer::push`], a full list and the drop of the producer move the list on, by one
    /// reservation for all that fits.
    ///
    /// # Errors
    /// As [`Producer::push`].
    pub fn push_deferred(&mut self, item: T) -> Result<(), PushError<T>> {
        if self.pending.len() >= self.capacity() {
            return self.push_slow(item);
        }
        self.pending.push_back(item);
        Ok(())
    }

    /// Makes what is pending visible, as far as there is room, and executes the one `SeqCst` fence
    /// of the batch.
    ///
    /// After it, look whether the consumer has announced that it sleeps: either it sees the items
    /// or you see the announcement. Without anything pushed since the last commit there is no
    /// fence. What found no room stays pending, for a commit to come: while
    /// [`Producer::pending`] is not 0, this producer may hold up all others, and must not sleep.
    ///
    /// # Examples
    /// ```
    /// let (mut producer, mut consumer) = flintlock_queues::mpsc::shared::ring::<u8>(2);
    /// assert_eq!(producer.push_slice(&[1, 2, 3]), 3);
    /// assert_eq!(producer.pending(), 1, "two fit");
    /// assert_eq!((consumer.pop(), consumer.pop()), (Ok(1), Ok(2)));
    /// producer.commit();
    /// assert_eq!((producer.pending(), consumer.pop()), (0, Ok(3)));
    /// ```
    #[inline]
    pub fn commit(&mut self) {
        self.flush();
        if mem::replace(&mut self.is_unfenced, false) {
            // ORDERING: R4
            R4.fence("commit");
        }
    }

    /// Appends from `items` while they are accepted (visible or pending); returns how many. What
    /// is left stays in the iterator. 0 means that no item was there, that ring and list are full,
    /// or that the ring is closed; [`Producer::is_closed`] tells which.
    /// As long as consumers make room it goes on: what has no end is to be bounded by `take`.
    #[must_use = "what was not taken is not in the ring"]
    pub fn push_batch(&mut self, items: &mut impl Iterator<Item = T>) -> usize {
        let mut count = 0;
        self.flush();
        if self.is_closed() {
            return 0;
        }
        while items.size_hint().1 != Some(0) {
            // Items first, reservation afterwards: an iterator may end earlier than it says.
            let (before, room) = (self.pending.len(), self.remaining());
            self.pending.extend(items.take(room.min(BATCH_MAX)));
            let more = self.pending.len() - before;
            if more == 0 {
                break;
            }
            self.flush();
            count += more;
        }
        count
    }

    /// Copies from the front of `items` while they are accepted (visible or pending), reserving
    /// once for all that fits; returns how many. 0 as for [`Producer::push_batch`].
    #[inline]
    #[must_use = "what was not taken is not in the ring"]
    pub fn push_slice(&mut self, items: &[T]) -> usize
    where
        T: Copy,
    {
        self.is_unfenced |= !items.is_empty();
        self.flush();
        if self.is_closed() {
            return 0;
        }
        let mut direct = 0;
        if self.pending.is_empty() {
            direct = self.room(items.len());
            self.reserve_and_copy(&items[..direct], Ordering::Relaxed);
        }
        let rest = &items[direct..];
        let accepted = rest.len().min(self.capacity().saturating_sub(self.pending.len()));
        self.pending.extend(&rest[..accepted]);
        direct + accepted
    }

    /// Number of items that fit in the ring, a power of two, and in the pending list.
    #[inline]
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.slots.capacity()
    }

    /// Items this producer has accepted that are not in the ring yet.
    #[inline]
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Items and reservations of all producers in the ring, and what of this one is pending; a
    /// hint.
    #[must_use]
    pub fn len(&self) -> usize {
        // ORDERING: R1: the tail is not one from before that head.
        let head = self.ring.reader.head.load(R1.acquire());
        let reserved = self.ring.tail.load(Ordering::Relaxed).wrapping_sub(head);
        // What has a ticket is among both.
        let in_ring = reserved.saturating_sub(self.ticket.len()).min(self.capacity());
        in_ring + self.pending.len()
    }

    /// Whether [`Producer::len`] is 0: all that this producer has accepted was taken, which does
    /// not mean processed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Items that are accepted now in any case, since the pending list has room for them; what
    /// finds room in the ring comes on top.
    #[inline]
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.capacity().saturating_sub(self.pending.len())
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
        // Nothing is read on the strength of this, so nothing has to be published by it.
        self.ring.reader.gone.load(Ordering::Relaxed)
    }

    /// Appends where a credit proves room. Should it prove nothing, the item waits with a ticket.
    ///
    /// The increments of all who push with credits are one chain (R5), by which this producer sees
    /// every head that a credit of an earlier index was given for. Without it the holder of an old
    /// credit could read a head from before the laps that later credits allowed.
    #[inline]
    pub(super) fn push_credited(&mut self, item: T) {
        self.is_unfenced = true;
        self.flush();
        if self.pending.is_empty() {
            // ORDERING: R5
            self.reserve_and_fill(item, R5.acquire_release());
        } else {
            self.pending.push_back(item);
        }
    }

    /// Appends up to `credits` items by one increment, and takes off `credits` what they used.
    ///
    /// Nothing is reserved before the iterator is done, so whatever it does while it runs costs no
    /// slot, and what it gave before it panics is pushed all the same.
    pub(super) fn push_batch_credited(
        &mut self,
        credits: &mut usize,
        items: &mut impl Iterator<Item = T>,
    ) {
        self.flush();
        let (before, max) = (self.pending.len(), *credits);
        let batch = Credited { before, credits, producer: self };
        batch.producer.pending.extend(items.take(max));
    }

    /// Copies `items`, for each of which there is a credit, by one increment.
    pub(super) fn push_slice_credited(&mut self, items: &[T])
    where
        T: Copy,
    {
        self.is_unfenced |= !items.is_empty();
        self.flush();
        if self.pending.is_empty() {
            // ORDERING: R5
            self.reserve_and_copy(items, R5.acquire_release());
        } else {
            self.pending.extend(items);
        }
    }

    /// Tells rings apart.
    #[inline]
    pub(super) fn ring_id(&self) -> usize {
        ptr::from_ref(&*self.ring).addr()
    }

    /// Reserves the next `count` indices; the first of them.
    #[inline(always)]
    fn reserve(&self, count: usize, ordering: Ordering) -> usize {
        let index = self.ring.tail.fetch_add(count, ordering);
        window(Window::Reserved);
        index
    }

    /// Reserves the next index for `item`. With no room after all, it waits with the ticket.
    #[inline(always)]
    fn reserve_and_fill(&mut self, item: T, ordering: Ordering) {
        let index = self.reserve(1, ordering);
        if self.is_vacant(index) {
            // SAFETY: [reserve-owner] [reserve-vacant] just reserved, and vacant.
            unsafe { self.fill(index, item) };
        } else {
            self.keep_ticket(index, index.wrapping_add(1));
            self.pending.push_back(item);
        }
    }

    /// Reserves for all of `items` at once. What finds no room after all waits with the ticket.
    #[inline(always)]
    fn reserve_and_copy(&mut self, items: &[T], ordering: Ordering)
    where
        T: Copy,
    {
        if items.is_empty() {
            return;
        }
        let mut index = self.reserve(items.len(), ordering);
        let end = index.wrapping_add(items.len());
        let (mut now, later) = items.split_at(self.vacant(index, items.len()));
        while !now.is_empty() {
            // SAFETY: [producer-alive] the ring is alive.
            let segment = unsafe { self.slots.segment(index, now.len()) };
            let mut place = self.slots.place(index);
            for (slot, item) in segment.iter().zip(now) {
                // SAFETY: [reserve-owner] [reserve-vacant] just reserved, and vacant.
                unsafe { slot.fill(place, *item) };
                place = place.next();
            }
            index = place.index;
            now = &now[segment.len()..];
        }
        if !later.is_empty() {
            self.keep_ticket(index, end);
            self.pending.extend(later);
        }
    }

    /// Keeps what was reserved and is not vacant yet. A ticket that is replaced would leave slots
    /// that nobody fills, and the consumer before them for ever.
    fn keep_ticket(&mut self, next: usize, end: usize) {
        debug_assert!(self.ticket.is_used_up(), "one ticket at a time");
        self.ticket = Ticket { next, end };
    }

    /// Behind pending items, or without known room.
    #[cold]
    fn push_slow(&mut self, item: T) -> Result<(), PushError<T>> {
        if self.is_closed() {
            return Err(PushError::Closed(item));
        }
        self.flush();
        if self.pending.is_empty() && self.room(1) > 0 {
            self.reserve_and_fill(item, Ordering::Relaxed);
        } else if self.pending.len() < self.capacity() {
            self.pending.push_back(item);
        } else {
            return Err(PushError::Full(item));
        }
        Ok(())
    }

    /// Moves on what is pending: first into the slots of the ticket, then by new reservations.
    #[inline]
    fn flush(&mut self) {
        if !self.pending.is_empty() {
            self.flush_slow();
        }
    }

    #[cold]
    fn flush_slow(&mut self) {
        self.is_unfenced = true;
        while self.fill_ticket() && !self.pending.is_empty() {
            let count = self.room(self.pending.len());
            if count == 0 {
                return;
            }
            self.reserve_for_pending(count, Ordering::Relaxed);
        }
    }

    /// Reserves for the first `count` pending items, in whose ticket nothing is left.
    #[inline(always)]
    fn reserve_for_pending(&mut self, count: usize, ordering: Ordering) {
        let next = self.reserve(count, ordering);
        self.keep_ticket(next, next.wrapping_add(count));
    }

    /// Moves pending items into the slots of the ticket; false if one of these is not vacant yet.
    #[inline(always)]
    fn fill_ticket(&mut self) -> bool {
        if self.ticket.is_used_up() {
            return true;
        }
        let mut index = self.ticket.next;
        let count = self.vacant(index, self.ticket.len());
        let mut items = self.pending.drain(..count);
        while items.len() > 0 {
            // SAFETY: [producer-alive] the ring is alive.
            let segment = unsafe { self.slots.segment(index, items.len()) };
            let mut place = self.slots.place(index);
            for (slot, item) in segment.iter().zip(&mut items) {
                // SAFETY: [reserve-owner] [reserve-vacant] reserved by the ticket, and vacant.
                unsafe { slot.fill(place, item) };
                place = place.next();
            }
            index = place.index;
        }
        drop(items);
        self.ticket.next = index;
        self.ticket.is_used_up()
    }

    /// Whether there is room now, unless others reserve it first. The consumer's line is left alone
    /// while by the head last seen the ring is less than half full.
    ///
    /// The tail is the real one, of the line that the reservation takes anyway. By the tail that
    /// this producer saw last, it would reserve in a ring that others have filled meanwhile, and
    /// with that ticket hide their items for as long as it then does nothing.
    #[inline]
    fn expects_room(&mut self) -> bool {
        let tail = self.ring.tail.load(Ordering::Relaxed);
        tail.wrapping_sub(self.head_seen) < self.capacity() / 2 || self.room(1) > 0
    }

    /// How many of `wanted` items have room now, by the shared counters; others may reserve it
    /// first.
    fn room(&mut self, wanted: usize) -> usize {
        self.look_at_head();
        let tail = self.ring.tail.load(Ordering::Relaxed);
        let used = tail.wrapping_sub(self.head_seen);
        wanted.min(self.capacity().saturating_sub(used))
    }

    #[inline(always)]
    fn is_vacant(&mut self, index: usize) -> bool {
        self.vacant(index, 1) == 1
    }

    /// How many of `wanted` reserved slots are vacant, from the one of `index` on.
    #[inline(always)]
    fn vacant(&mut self, index: usize, wanted: usize) -> usize {
        let known =
            |head: usize, capacity: usize| capacity.saturating_sub(index.wrapping_sub(head));
        if known(self.head_seen, self.capacity()) < wanted {
            self.look_at_head();
        }
        known(self.head_seen, self.capacity()).min(wanted)
    }

    fn look_at_head(&mut self) {
        // ORDERING: R1
        self.head_seen = self.ring.reader.head.load(R1.acquire());
    }

    /// Writes and publishes the slot of `index`.
    ///
    /// # Safety
    /// `index` is reserved by this producer, not filled yet, and vacant.
    #[inline(always)]
    unsafe fn fill(&self, index: usize, item: T) {
        // SAFETY: [producer-alive] the ring is alive.
        let (slot, place) = unsafe { self.slots.at(index) };
        // SAFETY: [reserve-owner] [reserve-vacant] the caller's duty, passed on.
        unsafe { slot.fill(place, item) };
    }
}

/// A batch with credits while its items are collected: at the end, also when the iterator panics,
/// those at hand are reserved for and pushed, and their credits are used.
struct Credited<'a, T, L: Layout<T>> {
    /// What was pending before: nothing, unless a credit proved nothing.
    before: usize,
    credits: &'a mut usize,
    producer: &'a mut Producer<T, L>,
}

impl<T, L: Layout<T>> Drop for Credited<'_, T, L> {
    fn drop(&mut self) {
        let count = self.producer.pending.len() - self.before;
        if count == 0 {
            return;
        }
        *self.credits -= count;
        self.producer.is_unfenced = true;
        if self.before == 0 {
            // ORDERING: R5
            self.producer.reserve_for_pending(count, R5.acquire_release());
            self.producer.fill_ticket();
        }
    }
}

impl<T, L: Layout<T>> Clone for Producer<T, L> {
    /// Another producer, with nothing pending.
    fn clone(&self) -> Self {
        self.ring.rare.producers.fetch_add(1, Ordering::Relaxed);
        Self::new(Arc::clone(&self.ring), self.head_seen)
    }
}

impl<T, L: Layout<T>> Drop for Producer<T, L> {
    fn drop(&mut self) {
        self.flush();
        if !self.pending.is_empty() {
            let items = mem::take(&mut self.pending);
            let after = self.ring.tail.load(Ordering::Relaxed);
            let orphan = Orphan { ticket: self.ticket, after, items };
            self.ring.rare.orphans.append(orphan);
        }
        window(Window::Leaving);
        // ORDERING: R2
        self.ring.rare.producers.fetch_sub(1, R2.release());
        // ORDERING: R4
        R4.fence("drop");
    }
}

// SAFETY: [reserve-owner] a producer owns what it reserved and what is pending, on any thread.
unsafe impl<T: Send, L: Layout<T>> Send for Producer<T, L> {}
// SAFETY: [reserve-owner] a shared producer only reads counters, and can be cloned.
unsafe impl<T: Send, L: Layout<T>> Sync for Producer<T, L> {}

// A panic in an iterator, a closure or a destructor ends the call as if it had asked for no more.
impl<T, L: Layout<T>> UnwindSafe for Producer<T, L> {}
impl<T, L: Layout<T>> RefUnwindSafe for Producer<T, L> {}

impl<T, L: Layout<T>> fmt::Debug for Producer<T, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("capacity", &self.capacity())
            .field("len", &self.len())
            .field("pending", &self.pending())
            .field("is_closed", &self.is_closed())
            .finish()
    }
}
