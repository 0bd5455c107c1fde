//! One ring for any number of producers, which can be cloned.
//!
//! Owns what both sides share; `producer`, `consumer`, `orphan` and `credit` own the rest. Each
//! handle belongs to one thread at a time. Nothing here blocks.
//!
//! # Problem
//! Producers must not write the same slot, and whoever reserves one by an atomic increment cannot
//! give it back: if the ring turns out to be full, the reservation stands. Valkey keeps it: the
//! producer holds a *ticket* for the slot and a private list of what is *pending*, and fills the
//! slot when there is room.
//!
//! # Design
//! - A producer that knows of no room does not reserve at all: it appends to its pending list. So
//!   a ticket arises only if several producers see the last room at the same time, where the
//!   original is inside a reservation all the while it waits.
//! - The pending list keeps the order of the producer and is flushed before anything new. It is
//!   bounded by the capacity; beyond that a push is refused and gives the item back.
//! - A batch reserves several slots by one increment.
//! - Whoever holds a [`Credit`] (`credited`) has proof of room, and needs neither ticket nor list;
//!   whoever holds [`Credits`] can reserve for a batch by one increment.
//! - A producer that is dropped with something pending hands it to the consumer, ticket and all
//!   (an *orphan*), so no slot stays reserved for ever. The original must flush before it may go.
//!
//! # What it cannot do
//! **Between reserving and filling a slot a producer hides everything behind it**, however short
//! that is in instructions: on a busy machine it can be a time slice. The answers of an IO pool
//! therefore go through [`rings`](super::rings), which have no such window; the README has the
//! figures. Rejected here: reserving by compare-and-swap against the head, which leaves that
//! window open all the same and makes producers repeat each other's work.
//!
//! | edge | release site | acquire site | publishes |
//! |---|---|---|---|
//! | R1 | consumer: head moved past the slots | producers: head load | that the slots were read and may be written again |
//! | R2 | producer drop: count of producers | consumer, when it finds nothing | every publication before it |
//! | R3 | producer drop: orphan list | consumer: orphan list | the orphan's items |
//! | R4 | `Producer::commit` and drop: fence after publication, and after the close | the parker's fence before its last look | either the consumer sees the items, or the close, or the producer sees it announced |
//! | R5 | push or batch with credits: increment of the tail | the next such increments | the heads that the credits of earlier indices were given for |
//!
//! Source: Valkey pull request 3324, src/io_queues.h: a slot is reserved by incrementing the tail,
//! and what finds the ring full waits in a list of its producer.
#![expect(unsafe_code, reason = "the last handle moves out what is left in the slots")]

mod consumer;
mod credit;
mod orphan;
mod producer;

pub use consumer::Consumer;
pub use credit::{
    Credit, CreditConsumer, CreditProducer, Credits, credited, credited_at, credited_in,
};
pub use producer::Producer;

use core::fmt;

use crossbeam_utils::CachePadded;

use self::orphan::Orphans;
use crate::Layout;
use crate::sync::buffer::{Buffer, Slots};
use crate::sync::slot::Slot;
use crate::sync::{Arc, AtomicBool, AtomicUsize, Edge, Ordering};

/// Room given back by the consumer.
const R1: Edge = Edge::new("R1");
/// A producer is gone.
const R2: Edge = Edge::new("R2");
/// From credit to credit.
const R5: Edge = Edge::new("R5");

/// The consumer's line; producers read it when they run out of known room.
#[derive(Debug)]
struct Reader {
    /// First index not taken yet; only grows (wrapping).
    head: AtomicUsize,
    gone: AtomicBool,
}

/// What changes only when producers come and go.
struct Rare<T> {
    producers: AtomicUsize,
    orphans: Orphans<T>,
}

/// The shared part of a ring.
struct Ring<T, S: Slot<T>> {
    /// First index not reserved yet; only grows (wrapping), and may run ahead of head + capacity
    /// by what tickets hold.
    tail: CachePadded<AtomicUsize>,
    reader: CachePadded<Reader>,
    rare: CachePadded<Rare<T>>,
    buffer: Buffer<T, S>,
}

impl<T, S: Slot<T>> Ring<T, S> {
    fn new(capacity: usize, first: usize) -> Self {
        let reader = Reader { head: AtomicUsize::new(first), gone: AtomicBool::new(false) };
        let rare = Rare { producers: AtomicUsize::new(1), orphans: Orphans::new() };
        Self {
            tail: CachePadded::new(AtomicUsize::new(first)),
            reader: CachePadded::new(reader),
            rare: CachePadded::new(rare),
            buffer: Buffer::new(capacity, first),
        }
    }

    fn slots(&self) -> Slots<S> {
        self.buffer.view()
    }
}

impl<T, S: Slot<T>> Drop for Ring<T, S> {
    fn drop(&mut self) {
        let head = self.reader.head.load(Ordering::Relaxed);
        // Slots that an orphan had reserved are gaps; the orphan's items are dropped with it.
        // Reservations may go beyond the capacity, items cannot.
        // SAFETY: [ring-last] all ends are gone, and the head says what was not taken.
        unsafe { self.buffer.drop_items(head) };
    }
}

impl<T, S: Slot<T>> fmt::Debug for Ring<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").field("buffer", &self.buffer).finish_non_exhaustive()
    }
}

/// Makes a ring of the [`Compact`](crate::Compact) layout, which takes any type.
///
/// `capacity` is rounded up to a power of two.
///
/// # Panics
/// If `capacity` is 0 or 1, or too large to allocate.
///
/// # Examples
/// ```
/// use flintlock_queues::mpsc::shared;
///
/// let (mut producer, mut consumer) = shared::ring::<u32>(4);
/// let mut other = producer.clone();
/// producer.push(1).expect("room");
/// other.push(2).expect("room");
/// assert_eq!((consumer.pop(), consumer.pop()), (Ok(1), Ok(2)));
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
/// use flintlock_queues::{Words, mpsc::shared};
///
/// let (mut producer, mut consumer) = shared::ring_in::<Box<u32>, Words>(4);
/// producer.push(Box::new(1)).expect("room");
/// assert_eq!(consumer.pop(), Ok(Box::new(1)));
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
    (Producer::new(Arc::clone(&ring), first), Consumer::new(ring, first))
}

type SharedRing<T, L> = Arc<Ring<T, <L as Layout<T>>::Slot>>;
