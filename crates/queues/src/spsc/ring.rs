//! What the two ends of a single-producer ring share, and what becomes of the items left in it.
//!
//! Owns the buffer and the line of the consuming end; any thread. It must not decide who may use
//! which slot: `Writer` and the consumers do.
#![expect(unsafe_code, reason = "the last handle moves out what is left in the slots")]

use crossbeam_utils::CachePadded;

#[cfg(not(any(loom, shuttle)))]
use crate::Index;
use crate::sync::buffer::{Buffer, Slots};
#[cfg(not(any(loom, shuttle)))]
use crate::sync::slot::LapSlot;
use crate::sync::slot::Slot;
use crate::sync::{AtomicBool, AtomicUsize, Ordering};

/// The consuming end's line. The producer reads it only when it runs out of known room.
#[derive(Debug)]
pub(crate) struct Ends {
    /// First index not taken yet; only grows (wrapping).
    pub(crate) head: AtomicUsize,
    /// Set once, when the producer is gone and has published everything.
    pub(crate) producer_gone: AtomicBool,
    /// Live consumers. At zero nobody will take an item any more.
    pub(crate) consumers: AtomicUsize,
}

/// The shared part of a ring with one producer.
#[derive(Debug)]
pub(crate) struct Ring<T, S: Slot<T>> {
    pub(crate) ends: CachePadded<Ends>,
    buffer: Buffer<T, S>,
}

// The consuming end's words share no line with anything that is written, and 4096 jobs take the
// 32 KiB of their slots and little more.
#[cfg(not(any(loom, shuttle)))]
const _: () = {
    assert!(align_of::<CachePadded<Ends>>() >= 64);
    assert!(size_of::<LapSlot<Index>>() == size_of::<usize>());
    assert!(size_of::<Ring<Index, LapSlot<Index>>>() <= 4 * 64 + size_of::<CachePadded<Ends>>());
};

impl<T, S: Slot<T>> Ring<T, S> {
    /// An empty ring with one consumer whose first item has the index `first`.
    pub(crate) fn new(capacity: usize, first: usize) -> Self {
        let ends = Ends {
            head: AtomicUsize::new(first),
            producer_gone: AtomicBool::new(false),
            consumers: AtomicUsize::new(1),
        };
        Self { ends: CachePadded::new(ends), buffer: Buffer::new(capacity, first) }
    }

    /// Where the slots are, for as long as the ring lives.
    pub(crate) fn slots(&self) -> Slots<S> {
        self.buffer.view()
    }
}

impl<T, S: Slot<T>> Drop for Ring<T, S> {
    fn drop(&mut self) {
        let head = self.ends.head.load(Ordering::Relaxed);
        // SAFETY: [ring-last] both ends are gone, and the head says what was not taken.
        unsafe { self.buffer.drop_items(head) };
    }
}
