//! The shared ring for those who count: every push has its room proven beforehand.
//!
//! Owns the count of credits, on the consumer's thread; never blocks. There is no other way to
//! push to such a ring, so the count is complete.
//!
//! # Why a credit is proof
//! The consumer gives out at most as many credits as there are slots, and gets one back with each
//! item it takes, after the head has moved past it. So when the last given one of the credits that
//! are used for the indices up to `i` was given, the head was above `i - capacity`, and the slot of
//! `i` is vacant.
//!
//! The producer must see that too. That last credit reached whoever pushed with it by some
//! hand-over, and with it that head; but that may have been another producer, at an earlier index,
//! while this one has held its own credit since long before. Therefore the increments of the tail
//! acquire and release (edge R5, table in the module above): each takes over what all earlier ones
//! knew. A batch is the same with several indices in one increment: it has a credit for each of
//! them at hand, and what is true of its last index is true of all.

use core::fmt;
use core::iter;
use core::panic::{RefUnwindSafe, UnwindSafe};

use super::{Consumer, Producer};
use crate::{Compact, Layout, PopError};

/// Leave to push one item. Moves with the job that will be answered.
///
/// Any thread. A credit that is dropped is room that nobody can use any more: give it back by
/// [`CreditConsumer::refund`] if the push is not going to happen.
///
/// It is good for one push:
/// ```
/// let (mut worker, mut main) = flintlock_queues::mpsc::shared::credited::<u8>(2);
/// let credit = main.credit().expect("an empty ring gives credit");
/// worker.push(credit, 1);
/// ```
/// ```compile_fail,E0382
/// let (mut worker, mut main) = flintlock_queues::mpsc::shared::credited::<u8>(2);
/// let credit = main.credit().expect("an empty ring gives credit");
/// worker.push(credit, 1);
/// worker.push(credit, 2);
/// ```
#[derive(Debug)]
#[must_use = "a dropped credit is room lost for good"]
pub struct Credit {
    /// Which ring it is for: the address of the shared part, which lives as long as any handle.
    ring: usize,
}

/// Leave to push as many items as it counts: credits of one ring kept together, for batches.
///
/// Any thread. A worker puts the credits of its jobs here one by one; who hands out jobs in batches
/// gets it from [`CreditConsumer::credits`]. The default holds none, and is for any ring.
///
/// What is left in it when it is dropped is room that nobody can use any more: give it back by
/// [`CreditConsumer::refund`].
///
/// # Examples
/// ```
/// use flintlock_queues::mpsc::shared::{self, Credits};
///
/// let (mut worker, mut main) = shared::credited::<u32>(4);
/// let mut credits = Credits::default();
/// let mut answers = Vec::new();
/// for job in 1..=3 {
///     credits.add(main.credit().expect("four slots, four credits"));
///     answers.push(job * job);
/// }
/// assert_eq!(worker.push_batch(&mut credits, &mut answers.into_iter()), 3);
/// worker.commit();
/// assert!(credits.is_empty(), "one was used for each answer");
/// assert_eq!((main.pop(), main.pop(), main.pop()), (Ok(1), Ok(4), Ok(9)));
/// ```
#[derive(Debug, Default)]
#[must_use = "dropped credits are room lost for good"]
pub struct Credits {
    /// As in [`Credit`]; without a meaning while there are none.
    ring: usize,
    count: usize,
}

impl Credits {
    /// Puts `credit` to the others.
    ///
    /// # Panics
    /// If the others are for another ring; the credit is dropped.
    #[inline]
    pub fn add(&mut self, credit: Credit) {
        if self.count == 0 {
            self.ring = credit.ring;
        }
        assert_eq!(credit.ring, self.ring, "{ANOTHER_RING}");
        self.count += 1;
    }

    /// Takes one out, for a single push; none if there are none.
    #[inline]
    #[must_use]
    pub fn take(&mut self) -> Option<Credit> {
        self.count = self.count.checked_sub(1)?;
        Some(Credit { ring: self.ring })
    }

    /// How many items can be pushed with them.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Insists on being for the ring with this id.
    #[inline]
    fn assert_for(&self, ring: usize) {
        assert!(self.count == 0 || self.ring == ring, "{ANOTHER_RING}");
    }
}

impl From<Credit> for Credits {
    fn from(credit: Credit) -> Self {
        Self { ring: credit.ring, count: 1 }
    }
}

const ANOTHER_RING: &str = "the credit is for another ring";

/// Makes a ring of the [`Compact`] layout in which each push takes a [`Credit`] and cannot fail.
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
/// let (mut worker, mut main) = shared::credited::<u32>(2);
/// let first = main.credit().expect("two slots, two credits");
/// let second = main.credit().expect("two slots, two credits");
/// assert!(main.credit().is_none(), "no third job is given out");
/// worker.push(first, 10);
/// worker.push(second, 20);
/// assert_eq!(main.pop(), Ok(10));
/// assert!(main.credit().is_some());
/// ```
#[must_use]
pub fn credited<T>(capacity: usize) -> (CreditProducer<T>, CreditConsumer<T>) {
    credited_in(capacity)
}

/// As [`credited`], in the layout `L`.
///
/// # Panics
/// If `capacity` is 0 or 1, or too large to allocate.
///
/// # Examples
/// ```
/// use flintlock_queues::{Index, Words, mpsc::shared};
///
/// let (mut worker, mut main) = shared::credited_in::<Index, Words>(2);
/// let credit = main.credit().expect("an empty ring gives credit");
/// worker.push(credit, Index::new(7));
/// assert_eq!(main.pop(), Ok(Index::new(7)));
/// ```
#[must_use]
pub fn credited_in<T, L: Layout<T>>(
    capacity: usize,
) -> (CreditProducer<T, L>, CreditConsumer<T, L>) {
    credited_at(capacity, 0)
}

/// As [`credited_in`], with the index of the first item chosen: tests start near the wrap.
#[doc(hidden)]
#[must_use]
pub fn credited_at<T, L: Layout<T>>(
    capacity: usize,
    first: usize,
) -> (CreditProducer<T, L>, CreditConsumer<T, L>) {
    let (producer, consumer) = super::ring_at(capacity, first);
    (CreditProducer { producer }, CreditConsumer { consumer, given: 0 })
}

/// A producing end whose pushes cannot fail; clone it for each producer.
///
/// One thread at a time; nothing blocks. With credits of this very ring nothing allocates, except
/// that [`CreditProducer::push_batch`] keeps room for the largest batch it was given.
pub struct CreditProducer<T, L: Layout<T> = Compact> {
    producer: Producer<T, L>,
}

impl<T, L: Layout<T>> CreditProducer<T, L> {
    /// Appends `item` and makes it visible.
    ///
    /// # Panics
    /// If the credit is for another ring; item and credit are dropped, nothing is reserved.
    #[inline]
    pub fn push(&mut self, credit: Credit, item: T) {
        assert_eq!(credit.ring, self.producer.ring_id(), "{ANOTHER_RING}");
        self.producer.push_credited(item);
        debug_assert_eq!(self.producer.pending(), 0, "a credit proves room");
    }

    /// Appends from `items` while there are credits, and makes them visible; returns how many. Each
    /// uses up one of `credits`; what is left of these and of `items` stays where it is.
    ///
    /// The items are collected, reserved for by one increment, and so stand in a row in the ring.
    /// If the iterator panics, what it gave before is pushed.
    ///
    /// # Panics
    /// If the credits are for another ring; nothing is taken from either.
    ///
    /// # Examples
    /// ```
    /// let (mut worker, mut main) = flintlock_queues::mpsc::shared::credited::<u8>(4);
    /// let mut credits = main.credits(3);
    /// let mut items = 1..=9;
    /// assert_eq!(worker.push_batch(&mut credits, &mut items), 3);
    /// assert_eq!(items.next(), Some(4));
    /// # main.pop_batch(3, drop);
    /// ```
    #[must_use = "what was not taken is not in the ring"]
    pub fn push_batch(
        &mut self,
        credits: &mut Credits,
        items: &mut impl Iterator<Item = T>,
    ) -> usize {
        credits.assert_for(self.producer.ring_id());
        let before = credits.count;
        self.producer.push_batch_credited(&mut credits.count, items);
        debug_assert_eq!(self.producer.pending(), 0, "a credit proves room");
        before - credits.count
    }

    /// Copies from the front of `items` while there are credits, reserving by one increment, and
    /// makes them visible; returns how many, each of which uses up one of `credits`.
    ///
    /// # Panics
    /// As [`CreditProducer::push_batch`].
    ///
    /// # Examples
    /// ```
    /// let (mut worker, mut main) = flintlock_queues::mpsc::shared::credited::<u8>(4);
    /// let mut credits = main.credits(4);
    /// assert_eq!(worker.push_slice(&mut credits, &[1, 2, 3]), 3);
    /// main.refund(credits);
    /// assert_eq!(main.given(), 3);
    /// ```
    #[must_use = "what was not taken is not in the ring"]
    pub fn push_slice(&mut self, credits: &mut Credits, items: &[T]) -> usize
    where
        T: Copy,
    {
        credits.assert_for(self.producer.ring_id());
        let count = items.len().min(credits.count);
        self.producer.push_slice_credited(&items[..count]);
        credits.count -= count;
        debug_assert_eq!(self.producer.pending(), 0, "a credit proves room");
        count
    }

    /// Executes the one `SeqCst` fence of a batch of pushes.
    ///
    /// After it, look whether the consumer has announced that it sleeps: either it sees the items
    /// or you see the announcement. Without anything pushed since the last commit it does nothing.
    #[inline]
    pub fn commit(&mut self) {
        self.producer.commit();
    }

    /// Number of items that fit, a power of two.
    #[inline]
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.producer.capacity()
    }

    /// Whether the consumer is gone.
    #[inline]
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.producer.is_closed()
    }
}

impl<T, L: Layout<T>> Clone for CreditProducer<T, L> {
    fn clone(&self) -> Self {
        Self { producer: self.producer.clone() }
    }
}

// A panic in an iterator, a closure or a destructor ends the call as if it had asked for no more.
impl<T, L: Layout<T>> UnwindSafe for CreditProducer<T, L> {}
impl<T, L: Layout<T>> RefUnwindSafe for CreditProducer<T, L> {}

impl<T, L: Layout<T>> fmt::Debug for CreditProducer<T, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreditProducer").field("producer", &self.producer).finish()
    }
}

/// The consuming end, which gives out the credits.
///
/// One thread at a time; nothing blocks or allocates.
pub struct CreditConsumer<T, L: Layout<T> = Compact> {
    consumer: Consumer<T, L>,
    /// Credits given out and not come back, with an item or by a refund.
    given: usize,
}

impl<T, L: Layout<T>> CreditConsumer<T, L> {
    /// Leave for one push; none if as many are out as there are slots.
    #[inline]
    #[must_use]
    pub fn credit(&mut self) -> Option<Credit> {
        if self.given == self.consumer.capacity() {
            return None;
        }
        self.given += 1;
        Some(Credit { ring: self.consumer.ring_id() })
    }

    /// Leave for up to `max` pushes: for as many as there are slots less the credits that are out.
    #[inline]
    pub fn credits(&mut self, max: usize) -> Credits {
        let count = max.min(self.consumer.capacity() - self.given);
        self.given += count;
        Credits { ring: self.consumer.ring_id(), count }
    }

    /// Takes back a [`Credit`] or [`Credits`] that were not used.
    ///
    /// # Panics
    /// If they are for another ring.
    ///
    /// # Examples
    /// ```
    /// let (_worker, mut main) = flintlock_queues::mpsc::shared::credited::<u8>(2);
    /// let unused = main.credit().expect("an empty ring gives credit");
    /// main.refund(unused);
    /// assert_eq!(main.given(), 0);
    /// ```
    pub fn refund(&mut self, unused: impl Into<Credits>) {
        let unused = unused.into();
        unused.assert_for(self.consumer.ring_id());
        self.came_back(unused.count);
    }

    /// Credits that are out: items not taken, and pushes to come.
    #[inline]
    #[must_use]
    pub fn given(&self) -> usize {
        self.given
    }

    /// Takes the oldest item, and with it its credit.
    ///
    /// # Errors
    /// As [`Consumer::pop`].
    #[inline]
    pub fn pop(&mut self) -> Result<T, PopError> {
        let item = self.consumer.pop()?;
        self.came_back(1);
        Ok(item)
    }

    /// Takes up to `max` items in order, with their credits, and hands each to `each`; returns how
    /// many. 0 means empty or closed; [`CreditConsumer::pop`] tells which.
    #[inline]
    pub fn pop_batch(&mut self, max: usize, mut each: impl FnMut(T)) -> usize {
        let mut batch = Batch { consumer: self, taken: 0 };
        let Batch { consumer, taken } = &mut batch;
        consumer.consumer.pop_batch(max, |item| {
            *taken += 1;
            each(item);
        })
    }

    /// As [`Consumer::drain`]; each item comes with its credit.
    pub fn drain(&mut self) -> impl Iterator<Item = T> + '_ {
        iter::from_fn(|| self.pop().ok())
    }

    /// Fills the front of `items`; returns how many, which is how many credits came back.
    ///
    /// # Examples
    /// ```
    /// let (mut worker, mut main) = flintlock_queues::mpsc::shared::credited::<u8>(4);
    /// assert_eq!(worker.push_slice(&mut main.credits(3), &[1, 2, 3]), 3);
    /// let mut items = [0; 2];
    /// assert_eq!((main.pop_slice(&mut items), items), (2, [1, 2]));
    /// assert!(main.drain().eq([3]));
    /// ```
    #[inline]
    #[must_use = "only so many are items of the ring"]
    pub fn pop_slice(&mut self, items: &mut [T]) -> usize
    where
        T: Copy,
    {
        let count = self.consumer.pop_slice(items);
        self.came_back(count);
        count
    }

    fn came_back(&mut self, count: usize) {
        // A credit that outlived its ring may be taken for one of this ring's, if that lies at the
        // same address; then more come back than were given.
        self.given = self.given.saturating_sub(count);
    }

    /// Number of items that fit, a power of two.
    #[inline]
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.consumer.capacity()
    }

    /// Items that can be taken now, a hint.
    #[must_use]
    pub fn len(&self) -> usize {
        self.consumer.len()
    }

    /// Whether nothing can be taken now; for parking as [`Consumer::is_empty`].
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.consumer.is_empty()
    }

    /// Whether every producer is gone; items may be left.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.consumer.is_closed()
    }
}

/// Counts the credits of a batch after its room was given back, also if the closure panics.
struct Batch<'a, T, L: Layout<T>> {
    consumer: &'a mut CreditConsumer<T, L>,
    taken: usize,
}

impl<T, L: Layout<T>> Drop for Batch<'_, T, L> {
    fn drop(&mut self) {
        self.consumer.came_back(self.taken);
    }
}

// A panic in an iterator, a closure or a destructor ends the call as if it had asked for no more.
impl<T, L: Layout<T>> UnwindSafe for CreditConsumer<T, L> {}
impl<T, L: Layout<T>> RefUnwindSafe for CreditConsumer<T, L> {}

impl<T, L: Layout<T>> fmt::Debug for CreditConsumer<T, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreditConsumer")
            .field("consumer", &self.consumer)
            .field("given", &self.given)
            .finish()
    }
}
