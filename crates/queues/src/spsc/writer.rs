//! The producing end of every ring with a single producer: `spsc`, `spmc`, `mpsc::rings`.
//!
//! Owns the tail, which no other thread ever reads: publication is in the slots. Runs on the one
//! thread that has the producer; never blocks. It must not read the consumers' line while it knows
//! of room.
//!
//! # Deferred items
//! A deferred item is written to its slot and not published; the commit publishes the run from its
//! first item to its last. So items become visible in the order of their places, always, and a
//! published slot says of all before it that they are published too. A claim of several relies on
//! that (`Slots::published`).
//!
//! Rejected: publishing each item of a run as it comes but the first, and that one last, so that a
//! single store shows the whole run. It saves the commit three instructions an item, but claims
//! must then look at each slot: they are a third slower.
//!
//! | edge | release site | acquire site | publishes |
//! |---|---|---|---|
//! | S1 | `spsc::Consumer`, `spmc::Consumer`: head moved past the slots | `Writer::make_room`: head load | that the slots were read and may be written again |
//! | S2 | `Writer` drop: `producer_gone` | consumers, when they find nothing | every publication before it |
//! | F1 | `Writer::commit` and drop: fence after publication, and after the close | the parker's fence before its last look | either the consumer sees the items, or the close, or the producer sees it announced |
#![expect(unsafe_code, reason = "items are moved into slots that another thread reads")]

use core::fmt;

use super::ring::Ring;
use crate::PushError;
use crate::sync::buffer::Slots;
use crate::sync::slot::{Place, Slot};
use crate::sync::{Arc, Edge, Ordering, Window, pause, window};

/// Room given back by consumers.
pub(crate) const S1: Edge = Edge::new("S1");
/// The producer is gone.
pub(crate) const S2: Edge = Edge::new("S2");
/// The one `SeqCst` fence of a batch.
const F1: Edge = Edge::new("F1");

/// Longest pause of a refused push: 32 pauses are about a microsecond. A producer that reads the
/// head in a tight loop takes the line away from the consumers that must move it.
const PAUSES_MAX: u32 = 32;

/// Slots from one multiple of which to the next is a stretch of single items: eight lines of words.
/// Of 32, 64 and 128, this was the fastest between far cores, and between near ones as good.
const STRETCH: usize = 64;

/// The same for batches and deferred items, of which several lines are under way in any case: of 32
/// and 64, this was faster by a quarter for batches of 16 between far cores. In the models, two of
/// their lines.
const RUN_STRETCH: usize = if cfg!(any(loom, shuttle)) { 4 } else { 32 };

/// Why there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Full,
    Closed,
}

impl Refusal {
    /// The refusal with the item in it.
    pub(crate) fn with<T>(self, item: T) -> PushError<T> {
        match self {
            Self::Full => PushError::Full(item),
            Self::Closed => PushError::Closed(item),
        }
    }
}

/// The producing end. `MANY` says that several consumers share the ring.
///
/// Invariants. `[writer-owner]` There is one writer for a ring, so only this value writes slots
/// that are vacant. `[writer-room]` The slots of the indices from `tail` up to `room_end` are
/// vacant; where consumers mark slots, a slot is vacant if it says so. `[writer-alive]` `slots` is
/// the view of the buffer of `ring`, which is kept alive. `[writer-stretch]` The *stretch*, from
/// `tail` to `limit`, is within that room, does not go round and is of the lap of `lap`; it is
/// empty while anything is deferred.
pub(crate) struct Writer<T, S: Slot<T>, const MANY: bool> {
    slots: Slots<S>,
    /// Next index to write.
    tail: usize,
    /// End of the stretch that may be written without asking for anything.
    limit: usize,
    /// A place of the lap of the stretch.
    lap: Place,
    /// First index not known to be vacant; without a meaning where consumers mark slots.
    room_end: usize,
    /// The tail at the last fence; a commit with nothing new needs no other one.
    fenced: usize,
    /// Slots before the tail that are written and not published.
    deferred: usize,
    /// Pauses of the next refusal, doubling while refusals follow each other.
    pauses: u32,
    ring: Arc<Ring<T, S>>,
}

impl<T, S: Slot<T>, const MANY: bool> Writer<T, S, MANY> {
    /// Whether vacancy is read from the slot, not from the head.
    const BY_MARK: bool = MANY && S::MARKED;

    /// The only writer of `ring`, whose first index is `first`.
    pub(crate) fn new(ring: Arc<Ring<T, S>>, first: usize) -> Self {
        let slots = ring.slots();
        let room_end = first.wrapping_add(slots.capacity());
        let (tail, limit, fenced, lap) = (first, first, first, slots.place(first));
        Self { slots, tail, limit, lap, room_end, fenced, deferred: 0, pauses: 1, ring }
    }

    /// Appends and publishes, with everything deferred before.
    #[inline(always)]
    pub(crate) fn push(&mut self, item: T) -> Result<(), PushError<T>> {
        if !self.is_ready()
            && let Err(refusal) = self.make_ready()
        {
            return Err(refusal.with(item));
        }
        let place = self.lap.at(self.tail);
        // SAFETY: [writer-alive] the ring is alive.
        let slot = unsafe { self.slots.slot(self.tail) };
        self.tail = place.next().index;
        // SAFETY: [writer-room] [writer-stretch] inside the stretch, and not marked as taken.
        unsafe { slot.fill(place, item) };
        Ok(())
    }

    /// Appends without publishing; on a full ring everything deferred is committed instead.
    #[inline(always)]
    pub(crate) fn push_deferred(&mut self, item: T) -> Result<(), PushError<T>> {
        if !self.has_room()
            && let Err(refusal) = self.make_room()
        {
            return Err(refusal.with(item));
        }
        // SAFETY: [writer-room] there is room at the tail.
        unsafe { self.append_deferred(item) };
        Ok(())
    }

    /// Appends from `items` while there is room, publishing item by item; how many.
    ///
    /// Showing the whole batch at its end was measured: the consumer then waits for all of it,
    /// which costs a quarter of the rate between far cores.
    #[inline]
    pub(crate) fn push_batch(&mut self, items: &mut impl Iterator<Item = T>) -> usize {
        self.publish();
        let first = self.tail;
        while items.size_hint().1 != Some(0) && (self.has_room() || self.make_room().is_ok()) {
            let start = self.tail;
            let goes_on = self.fill_segment(items);
            self.take_rest_of_stretch(start);
            if !goes_on {
                break;
            }
        }
        self.tail.wrapping_sub(first)
    }

    /// Fills slots from `items` until room, row or items end; false if it was the items.
    #[inline(always)]
    fn fill_segment(&mut self, items: &mut impl Iterator<Item = T>) -> bool {
        // SAFETY: [writer-alive] the ring is alive.
        let segment = unsafe { self.slots.segment(self.tail, self.room()) };
        let mut end = End { place: self.slots.place(self.tail), writer: self };
        for slot in segment {
            if Self::BY_MARK && !slot.is_vacant(end.place) {
                return true;
            }
            let Some(item) = items.next() else { return false };
            // SAFETY: [writer-room] within the room, and not marked as taken.
            unsafe { slot.fill(end.place, item) };
            end.place = end.place.next();
        }
        true
    }

    /// As `push_batch`, from a slice: the count is known, which leaves the inner loop next to
    /// nothing to do.
    #[inline]
    pub(crate) fn push_slice(&mut self, items: &[T]) -> usize
    where
        T: Copy,
    {
        self.publish();
        let mut rest = items;
        while !rest.is_empty() && (self.has_room() || self.make_room().is_ok()) {
            let start = self.tail;
            rest = &rest[self.copy_segment(rest)..];
            self.take_rest_of_stretch(start);
        }
        items.len() - rest.len()
    }

    /// Fills slots from the front of `items` until room, row or items end; how many.
    #[inline(always)]
    fn copy_segment(&mut self, items: &[T]) -> usize
    where
        T: Copy,
    {
        // SAFETY: [writer-alive] the ring is alive.
        let segment = unsafe { self.slots.segment(self.tail, self.room().min(items.len())) };
        let first = self.tail;
        let mut place = self.slots.place(first);
        for (slot, item) in segment.iter().zip(items) {
            if Self::BY_MARK && !slot.is_vacant(place) {
                break;
            }
            // SAFETY: [writer-room] within the room, and not marked as taken.
            unsafe { slot.fill(place, *item) };
            place = place.next();
        }
        self.move_tail(place.index);
        place.index.wrapping_sub(first)
    }

    /// Publishes what is deferred, and orders it before whatever this thread loads next; false if
    /// nothing was pushed since the last time.
    #[inline]
    pub(crate) fn commit(&mut self) -> bool {
        self.publish();
        let is_new = !self.is_committed();
        if is_new {
            self.fenced = self.tail;
            // ORDERING: F1
            F1.fence("commit");
        }
        is_new
    }

    /// Whether nothing was pushed since the last fence.
    #[inline]
    pub(crate) fn is_committed(&self) -> bool {
        self.fenced == self.tail
    }

    /// Items in the ring, deferred ones included; consumers may be taking some now.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.tail.wrapping_sub(self.ring.ends.head.load(Ordering::Relaxed))
    }

    #[inline]
    pub(crate) fn capacity(&self) -> usize {
        self.slots.capacity()
    }

    /// Consumers there are.
    #[inline]
    pub(crate) fn consumers(&self) -> usize {
        // Nothing is read on the strength of this, so nothing has to be published by it.
        self.ring.ends.consumers.load(Ordering::Relaxed)
    }

    /// Whether every consumer is gone.
    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        self.consumers() == 0
    }

    /// Whether an item fits at the tail as far as is known without asking.
    #[inline(always)]
    fn has_room(&self) -> bool {
        self.room() > 0 && self.marked_vacant()
    }

    /// Whether an item may be written and published at the tail; opens a stretch if one is known.
    #[inline(always)]
    fn is_ready(&mut self) -> bool {
        (self.tail != self.limit || self.open_stretch()) && self.marked_vacant()
    }

    /// `is_ready` behind deferred items, or without known room.
    #[cold]
    fn make_ready(&mut self) -> Result<(), Refusal> {
        self.publish();
        if !self.is_ready() {
            self.make_room()?;
            self.open_stretch();
        }
        Ok(())
    }

    /// Opens the stretch from the tail to the next multiple of [`STRETCH`], or the end of the row
    /// or the room, and takes its lines; false if there is no room or something is deferred.
    #[inline(always)]
    fn open_stretch(&mut self) -> bool {
        let room = self.room();
        if room == 0 || self.deferred > 0 {
            return false;
        }
        let stretch = STRETCH - self.tail % STRETCH;
        let row = self.slots.rest_of_row(self.tail);
        let count = stretch.min(row).min(room);
        self.limit = self.tail.wrapping_add(count);
        self.lap = self.slots.place(self.tail);
        self.take_lines(self.tail, count);
        true
    }

    /// Takes the lines that are left of the tail's stretch, if what was written from `start` on has
    /// entered it; for runs, whose stretches are [`RUN_STRETCH`] long.
    #[inline(always)]
    fn take_rest_of_stretch(&self, start: usize) {
        let last = self.tail.wrapping_sub(1);
        let entered = (start.wrapping_sub(1) ^ last) >= RUN_STRETCH;
        if entered {
            let count = (RUN_STRETCH - 1 - last % RUN_STRETCH).min(self.room());
            // The line that was just written to is here.
            let here = self.slots.rest_of_line(last) - 1;
            self.take_lines(self.tail.wrapping_add(here), count.saturating_sub(here));
        }
    }

    /// Takes the lines of the `count` slots from `index` on, within the room.
    ///
    /// A consumer's core has a copy of each, which it must give up before a slot is written. The
    /// processor has several such lines under way while the stores that wait for them follow each
    /// other, but that of each item is followed by that of the tail, and so the lines come one by
    /// one. Asked for by stores in a row they come together: a lone producer was four times as
    /// fast between far cores, streams one and a half to three and a half times. A fence, too,
    /// waits for lines once in a stretch, and not in each batch.
    ///
    /// The first item of a stretch waits for all of its lines, which takes somewhat longer than
    /// its own alone; the others do not wait.
    #[inline(always)]
    fn take_lines(&self, index: usize, count: usize) {
        if !Self::BY_MARK {
            // SAFETY: [writer-alive] [writer-owner] [writer-room] vacant, and nobody else writes.
            unsafe { self.slots.take_lines(index, count) };
        }
    }

    /// Moves the tail, with no stretch open.
    #[inline(always)]
    fn move_tail(&mut self, tail: usize) {
        self.tail = tail;
        self.limit = tail;
    }

    /// Places from the tail on that are known to be vacant, unless marks are to be asked.
    #[inline(always)]
    fn room(&self) -> usize {
        if Self::BY_MARK { usize::MAX } else { self.room_end.wrapping_sub(self.tail) }
    }

    /// False if consumers mark slots and the one at the tail is not marked yet.
    #[inline(always)]
    fn marked_vacant(&self) -> bool {
        if !Self::BY_MARK {
            return true;
        }
        // SAFETY: [writer-alive] the ring is alive.
        let (slot, place) = unsafe { self.slots.at(self.tail) };
        slot.is_vacant(place)
    }

    /// Writes at the tail, and moves it.
    ///
    /// # Safety
    /// There is room at the tail.
    #[inline(always)]
    unsafe fn append_deferred(&mut self, item: T) {
        // SAFETY: [writer-alive] the ring is alive.
        let (slot, place) = unsafe { self.slots.at(self.tail) };
        // SAFETY: [writer-owner] [writer-room] vacant, and nobody else writes.
        unsafe { slot.write(place, item) };
        self.move_tail(place.next().index);
        self.take_rest_of_stretch(place.index);
        self.deferred += 1;
    }

    /// Publishes what is deferred.
    #[inline(always)]
    fn publish(&mut self) {
        if self.deferred > 0 {
            self.publish_run();
        }
    }

    /// Publishes the slots of the deferred run, in order.
    fn publish_run(&mut self) {
        while self.deferred > 0 {
            let first = self.tail.wrapping_sub(self.deferred);
            // SAFETY: [writer-alive] the ring is alive.
            let segment = unsafe { self.slots.segment(first, self.deferred) };
            let mut place = self.slots.place(first);
            for slot in segment {
                window(Window::Unstamped);
                // SAFETY: [writer-owner] written for this place, and counted as deferred until now.
                unsafe { slot.publish(place) };
                place = place.next();
            }
            self.deferred -= segment.len();
        }
    }

    /// Asks the consumers' side for room. On refusal everything deferred is committed, so that
    /// the consumers can make some, and the caller is slowed down.
    #[cold]
    fn make_room(&mut self) -> Result<(), Refusal> {
        if self.is_closed() {
            self.publish();
            return Err(Refusal::Closed);
        }
        let has_room = if Self::BY_MARK {
            self.marked_vacant()
        } else {
            // ORDERING: S1
            let head = self.ring.ends.head.load(S1.acquire());
            self.room_end = head.wrapping_add(self.capacity());
            self.tail != self.room_end
        };
        if has_room {
            self.pauses = 1;
            return Ok(());
        }
        self.commit();
        if MANY {
            pause(self.pauses);
            self.pauses = (self.pauses * 2).min(PAUSES_MAX);
        }
        Err(Refusal::Full)
    }
}

/// Stores how far a segment was filled, also when the iterator panics.
struct End<'a, T, S: Slot<T>, const MANY: bool> {
    place: Place,
    writer: &'a mut Writer<T, S, MANY>,
}

impl<T, S: Slot<T>, const MANY: bool> Drop for End<'_, T, S, MANY> {
    #[inline(always)]
    fn drop(&mut self) {
        self.writer.move_tail(self.place.index);
    }
}

impl<T, S: Slot<T>, const MANY: bool> Drop for Writer<T, S, MANY> {
    fn drop(&mut self) {
        self.publish();
        window(Window::Leaving);
        // ORDERING: S2
        self.ring.ends.producer_gone.store(true, S2.release());
        // ORDERING: F1
        F1.fence("drop");
    }
}

// SAFETY: [writer-owner] the writer is one end of the ring; it may move to another thread with
// the items it has deferred, if the items may.
unsafe impl<T: Send, S: Slot<T>, const MANY: bool> Send for Writer<T, S, MANY> {}
// SAFETY: [writer-owner] a shared writer only reads counters.
unsafe impl<T: Send, S: Slot<T>, const MANY: bool> Sync for Writer<T, S, MANY> {}

impl<T, S: Slot<T>, const MANY: bool> fmt::Debug for Writer<T, S, MANY> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("capacity", &self.capacity())
            .field("len", &self.len())
            .field("is_closed", &self.is_closed())
            .finish()
    }
}
