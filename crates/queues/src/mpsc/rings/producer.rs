//! The producing end: a ring of its own, and the bell that tells the consumer of it.
//!
//! Owns nothing but these two; one thread at a time; never blocks. It must not touch the table.

use core::fmt;
use core::panic::{RefUnwindSafe, UnwindSafe};

use super::ReadyBits;
use crate::sync::{Arc, Ordering, Window, window};
use crate::{Compact, Layout, PushError, spsc};

/// A producer's place in the ready bits; rings once more when the producer is gone.
pub(super) struct Bell {
    pub(super) ready: Arc<ReadyBits>,
    pub(super) bit: usize,
}

impl Bell {
    /// Sets the ready bit unless it is set.
    #[inline]
    fn ring(&self) {
        if self.ready.load(Ordering::Relaxed) & self.bit == 0 {
            window(Window::Unannounced);
            self.ready.fetch_or(self.bit, Ordering::Relaxed);
        }
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        // The ring was closed just before; the consumer comes to take the rest and remove it.
        self.ring();
    }
}

/// One producer, with a ring of its own. Made by
/// [`Consumer::add_producer`](super::Consumer::add_producer), not cloned.
///
/// ```
/// let mut main = flintlock_queues::mpsc::rings::ring::<u8>(2);
/// let producer = main.add_producer();
/// let second = main.add_producer();
/// ```
/// ```compile_fail,E0599
/// let mut main = flintlock_queues::mpsc::rings::ring::<u8>(2);
/// let producer = main.add_producer();
/// let second = producer.clone();
/// ```
///
/// One thread at a time; nothing blocks. Dropping it publishes what was deferred, closes its ring
/// and executes a `SeqCst` fence as a commit does; the consumer still takes what is in it. Look
/// afterwards whether it sleeps.
pub struct Producer<T, L: Layout<T> = Compact> {
    // Dropped first: the bell rings after the ring is closed.
    pub(super) ring: spsc::Producer<T, L>,
    pub(super) bell: Bell,
}

impl<T, L: Layout<T>> Producer<T, L> {
    /// Appends `item` and makes it visible, with everything deferred before it.
    ///
    /// Whoever counts the items it has pushed and not seen answered, and keeps the count at or
    /// below [`Producer::capacity`], is never refused. An item is answered when the call that took
    /// it has returned: a batch gives back its room at the end, not while `each` runs.
    ///
    /// # Errors
    /// [`PushError::Full`] if this producer's ring is full, after committing what was deferred;
    /// [`PushError::Closed`] if there is no room known and the consumer is gone. The item comes
    /// back and the ring is as before.
    #[inline]
    pub fn push(&mut self, item: T) -> Result<(), PushError<T>> {
        self.ring.push(item).inspect_err(|_| self.bell.ring())
    }

    /// Appends `item` without making it visible: [`Producer::commit`], any [`Producer::push`], a
    /// full ring and the drop of the producer do that for the whole run.
    ///
    /// # Errors
    /// As [`Producer::push`]. On a full ring everything deferred is committed.
    #[inline]
    pub fn push_deferred(&mut self, item: T) -> Result<(), PushError<T>> {
        self.ring.push_deferred(item).inspect_err(|_| self.bell.ring())
    }

    /// Makes deferred items visible, executes the one `SeqCst` fence of the batch and sets the
    /// ready bit of this ring unless it is set.
    ///
    /// After it, look whether the consumer has announced that it sleeps: either it sees the items
    /// or you see the announcement. Without anything pushed since the last commit it does nothing.
    #[inline]
    pub fn commit(&mut self) {
        if self.ring.commit_fenced() {
            self.bell.ring();
        }
    }

    /// Appends from `items` while there is room, and makes everything visible; returns how many.
    /// What is left stays in the iterator. 0 means that no item was there, or that the ring is full
    /// or closed; [`Producer::is_closed`] tells which.
    /// As long as consumers make room it goes on: what has no end is to be bounded by `take`.
    #[inline]
    #[must_use = "what was not taken is not in the ring"]
    pub fn push_batch(&mut self, items: &mut impl Iterator<Item = T>) -> usize {
        let count = self.ring.push_batch(items);
        self.ring_if_committed();
        count
    }

    /// Copies from the front of `items` while there is room, and makes everything visible; returns
    /// how many.
    #[inline]
    #[must_use = "what was not taken is not in the ring"]
    pub fn push_slice(&mut self, items: &[T]) -> usize
    where
        T: Copy,
    {
        let count = self.ring.push_slice(items);
        self.ring_if_committed();
        count
    }

    /// A batch that ends at a full ring has been committed, and the next commit finds nothing new:
    /// the bit is set here, or the fullest ring of all would have none.
    #[inline]
    fn ring_if_committed(&self) {
        if self.ring.is_committed() {
            self.bell.ring();
        }
    }

    /// Number of items that fit in this producer's ring, a power of two.
    #[inline]
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.ring.capacity()
    }

    /// Items in this producer's ring, deferred ones included; an upper bound.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.ring.len()
    }

    /// Whether [`Producer::len`] is 0: everything was taken, which does not mean processed.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// Items for which there is room in this producer's ring now; the consumer may be making more.
    #[inline]
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.ring.remaining()
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
        self.ring.is_closed()
    }
}

// A panic in an iterator, a closure or a destructor ends the call as if it had asked for no more.
impl<T, L: Layout<T>> UnwindSafe for Producer<T, L> {}
impl<T, L: Layout<T>> RefUnwindSafe for Producer<T, L> {}

impl<T, L: Layout<T>> fmt::Debug for Producer<T, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ring.fmt(f)
    }
}
