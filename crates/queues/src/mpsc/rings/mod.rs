//! One ring for each producer, drained fairly by the one consumer.
//!
//! Owns the table of rings (consumer) and the ready bits (shared); the producing end is `producer`.
//! The consumer belongs to one thread at a time, and so does each producer. Nothing here blocks.
//!
//! # Problem
//! In one shared ring a producer reserves a slot and then fills it; if it is descheduled in
//! between, every later answer of every producer waits behind the hole. On a busy machine that is
//! a time slice, and it happens all the time.
//!
//! # Design
//! Producers share no slot, so a producer stopped anywhere hides nothing but its own items. Each
//! has a ring of `spsc`; the consumer keeps them in a table that it alone changes, so producers are
//! added and leave while everything runs. Rejected: a registry that producers enter themselves
//! (needs a lock or a list that both sides walk).
//!
//! To find the rings that hold something among many, each ring has a *ready bit*. A commit sets it
//! unless it is set; the consumer clears it when it finds the ring empty, and looks once more. A
//! bit is set all the while a ring is busy, so in steady state nobody writes the word. A plain
//! push sets no bit and costs no more than in `spsc`; such items are found by looking: at every
//! ring when no bit is set, and at one more ring in turn with each change of ring, so a producer
//! that never commits is served, at the latest after as many changes as there are rings.
//!
//! Fairness: at most [`BURST`] items in a row from one ring while others have some.
//!
//! Order: the items of one producer arrive in the order they were pushed; nothing is said between
//! producers.
//!
//! The bits carry no data and no promise: items are published in their slots (edges L1 and C1), and
//! a bit that is lost between a commit and a clearing costs a look, not an item.

mod producer;

use alloc::vec::Vec;
use core::fmt;
use core::iter;
use core::mem;
use core::panic::{RefUnwindSafe, UnwindSafe};

use crossbeam_utils::CachePadded;

pub use producer::Producer;

use self::producer::Bell;
use crate::sync::{Arc, AtomicUsize, Ordering, Window, window};
use crate::{Compact, Layout, PopError, spsc};

/// Most items taken from one ring in a row while other rings hold some.
pub const BURST: usize = 64;

/// Rings whose ready bits share a word.
const GROUP: usize = usize::BITS as usize;

/// Makes a consumer without producers yet, whose rings have the [`Compact`] layout.
///
/// Each ring holds `capacity` items, rounded up to a power of two.
///
/// # Panics
/// If `capacity` is 0 or 1, or the next power of two is no `usize`. The rings are allocated by
/// [`Consumer::add_producer`].
///
/// # Examples
/// ```
/// use flintlock_queues::{PopError, mpsc::rings};
///
/// let mut main = rings::ring::<u32>(16);
/// let mut worker = main.add_producer();
/// worker.push(7).expect("a new ring has room");
/// worker.commit();
/// assert_eq!(main.pop(), Ok(7));
/// drop(worker);
/// assert_eq!(main.pop(), Err(PopError::Closed));
/// ```
#[must_use]
pub fn ring<T>(capacity: usize) -> Consumer<T> {
    ring_in(capacity)
}

/// Makes a consumer without producers yet, whose rings have the layout `L`.
///
/// Each ring holds `capacity` items, rounded up to a power of two.
///
/// # Panics
/// If `capacity` is 0 or 1, or the next power of two is no `usize`. The rings are allocated by
/// [`Consumer::add_producer`].
///
/// # Examples
/// ```
/// use flintlock_queues::{Words, mpsc::rings};
///
/// let mut main = rings::ring_in::<Box<u32>, Words>(16);
/// let mut worker = main.add_producer();
/// worker.push(Box::new(7)).expect("a new ring has room");
/// assert_eq!(main.pop(), Ok(Box::new(7)));
/// ```
#[must_use]
pub fn ring_in<T, L: Layout<T>>(capacity: usize) -> Consumer<T, L> {
    ring_at(capacity, 0)
}

/// As [`ring_in`], with the index of the first item chosen: tests start near the wrap.
#[doc(hidden)]
#[must_use]
pub fn ring_at<T, L: Layout<T>>(capacity: usize, first: usize) -> Consumer<T, L> {
    assert!(capacity >= 2, "the capacity of a ring is at least 2, not {capacity}");
    Consumer {
        groups: Vec::new(),
        live: 0,
        served: None,
        current: 0,
        burst_end: 0,
        sweep: 0,
        capacity: capacity.checked_next_power_of_two().expect("capacity overflow"),
        first,
    }
}

/// The ready bits of a group of rings.
type ReadyBits = CachePadded<AtomicUsize>;

/// An entry of the table.
enum Entry<T, L: Layout<T>> {
    /// For the next producer that is added.
    Free,
    /// A ring that waits for its turn.
    Waiting(spsc::Consumer<T, L>),
    /// The ring is in [`Consumer::served`].
    Served,
}

/// Rings whose ready bits share a word.
struct Group<T, L: Layout<T>> {
    ready: Arc<ReadyBits>,
    entries: Vec<Entry<T, L>>,
}

/// The consuming end, and the only one who adds producers.
///
/// One thread at a time; nothing blocks. Adding a producer allocates its ring; nothing else does.
/// Dropping it drops the items it can see; producers learn of it by [`Producer::is_closed`].
pub struct Consumer<T, L: Layout<T> = Compact> {
    groups: Vec<Group<T, L>>,
    /// Rings in the table.
    live: usize,
    /// The ring served now, out of the table so that a pop does not search for it: that costs as
    /// much as the pop itself. While it is here, its entry says so.
    served: Option<spsc::Consumer<T, L>>,
    /// The index of the ring served now, or last.
    current: usize,
    /// The head at which the served ring's burst is over. A count of what is left would be one
    /// more word in memory that each pop must wait for.
    burst_end: usize,
    /// The ring looked at next regardless of its bit.
    sweep: usize,
    capacity: usize,
    first: usize,
}

impl<T, L: Layout<T>> Consumer<T, L> {
    /// Adds a producer with an empty ring; at any time.
    ///
    /// # Panics
    /// If a ring of this capacity is too large to allocate.
    ///
    /// # Examples
    /// ```
    /// let mut main = flintlock_queues::mpsc::rings::ring::<u32>(4);
    /// let (mut one, mut two) = (main.add_producer(), main.add_producer());
    /// one.push(1).expect("a new ring has room");
    /// two.push(2).expect("a new ring has room");
    /// assert_eq!(main.pop_batch(4, |_| ()), 2);
    /// ```
    #[must_use]
    pub fn add_producer(&mut self) -> Producer<T, L> {
        let index = self.free_index();
        let group = &mut self.groups[index / GROUP];
        let (producer, consumer) = spsc::ring_at(self.capacity, self.first);
        group.entries[index % GROUP] = Entry::Waiting(consumer);
        self.live += 1;
        let bell = Bell { ready: Arc::clone(&group.ready), bit: 1 << (index % GROUP) };
        Producer { ring: producer, bell }
    }

    /// Takes one item; from the same ring as before while its burst lasts.
    ///
    /// # Errors
    /// [`PopError::Empty`] if nothing is visible now; [`PopError::Closed`] if every producer is
    /// gone and everything was taken, until a producer is added.
    #[inline]
    pub fn pop(&mut self) -> Result<T, PopError> {
        loop {
            if let Some(ring) = &mut self.served
                && ring.head() != self.burst_end
                && let Some(item) = ring.take()
            {
                return Ok(item);
            }
            if !self.advance() {
                return Err(if self.live == 0 { PopError::Closed } else { PopError::Empty });
            }
        }
    }

    /// Takes up to `max` items and hands each to `each`; returns how many. Room is given back ring
    /// by ring. 0 means empty or closed; [`Consumer::pop`] tells which.
    #[inline]
    pub fn pop_batch(&mut self, max: usize, mut each: impl FnMut(T)) -> usize {
        self.serve(max, |ring, wanted| ring.pop_batch(wanted, &mut each))
    }

    /// Takes item after item until none is visible. That may never be while producers keep up:
    /// `take` of the iterator sets a bound.
    ///
    /// # Examples
    /// ```
    /// let mut consumer = flintlock_queues::mpsc::rings::ring::<u8>(4);
    /// assert_eq!(consumer.add_producer().push_slice(&[1, 2, 3]), 3);
    /// assert_eq!(consumer.drain().collect::<Vec<u8>>(), [1, 2, 3]);
    /// ```
    pub fn drain(&mut self) -> impl Iterator<Item = T> + '_ {
        iter::from_fn(|| self.pop().ok())
    }

    /// Fills the front of `items`, ring by ring; returns how many.
    #[inline]
    #[must_use = "only so many are items of the ring"]
    pub fn pop_slice(&mut self, items: &mut [T]) -> usize
    where
        T: Copy,
    {
        let mut filled = 0;
        self.serve(items.len(), |ring, wanted| {
            let got = ring.pop_slice(&mut items[filled..filled + wanted]);
            filled += got;
            got
        })
    }

    /// Number of items that fit in each ring, a power of two.
    #[inline]
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Producers whose rings are in the table: those alive, and those gone whose items are not
    /// all taken yet.
    #[inline]
    #[must_use]
    pub fn producers(&self) -> usize {
        self.live
    }

    /// Items visible now, a hint. Looks at every ring.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rings().map(spsc::Consumer::len).sum()
    }

    /// Whether no item is visible now in any ring. After announcing that it sleeps and a `SeqCst`
    /// fence, a consumer that sees `true` here and is not closed will be seen by the next commit of
    /// each producer, or after its drop.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rings().all(spsc::Consumer::is_empty)
    }

    /// Whether every producer is gone; items may be left.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.rings().all(spsc::Consumer::is_closed)
    }

    fn rings(&self) -> impl Iterator<Item = &spsc::Consumer<T, L>> {
        let entries = self.groups.iter().flat_map(|group| &group.entries);
        let waiting = entries.filter_map(|entry| match entry {
            Entry::Waiting(ring) => Some(ring),
            Entry::Free | Entry::Served => None,
        });
        waiting.chain(&self.served)
    }

    /// Number of table entries, used or free.
    fn table_len(&self) -> usize {
        self.groups.last().map_or(0, |last| (self.groups.len() - 1) * GROUP + last.entries.len())
    }

    /// An entry for a new ring: a free one, or one more.
    fn free_index(&mut self) -> usize {
        for (number, group) in self.groups.iter_mut().enumerate() {
            let mut entries = group.entries.iter();
            if let Some(position) = entries.position(|entry| matches!(entry, Entry::Free)) {
                return number * GROUP + position;
            }
            if group.entries.len() < GROUP {
                group.entries.push(Entry::Free);
                return number * GROUP + group.entries.len() - 1;
            }
        }
        let ready = Arc::new(CachePadded::new(AtomicUsize::new(0)));
        self.groups.push(Group { ready, entries: Vec::from([const { Entry::Free }]) });
        (self.groups.len() - 1) * GROUP
    }

    /// Lets `take` take up to `max` items in all, in bursts from ring after ring.
    #[inline(always)]
    fn serve(
        &mut self,
        max: usize,
        mut take: impl FnMut(&mut spsc::Consumer<T, L>, usize) -> usize,
    ) -> usize {
        let mut taken = 0;
        while taken < max {
            let mut goes_on = false;
            if let Some(ring) = &mut self.served {
                let burst = self.burst_end.wrapping_sub(ring.head());
                let wanted = burst.min(max - taken);
                let got = take(ring, wanted);
                taken += got;
                goes_on = got == wanted && got < burst;
            }
            if !goes_on && (taken == max || !self.advance()) {
                break;
            }
        }
        taken
    }

    /// Turns to the next ring that holds something, with a full burst; false if none does. It may
    /// be the same again, which stays where it is.
    #[cold]
    fn advance(&mut self) -> bool {
        if self.live == 1
            && let Some(ring) = &self.served
            && !ring.is_empty()
        {
            // Nobody else has a turn.
            self.burst_end = ring.head().wrapping_add(BURST);
            return true;
        }
        let next = self.next_with_items();
        if let Some(index) = next {
            self.turn_to(index);
        }
        next.is_some()
    }

    fn next_with_items(&mut self) -> Option<usize> {
        if self.is_quiet() {
            return None;
        }
        let count = self.table_len();
        // One ring in turn regardless of its bit, so that plain pushes are found while other
        // rings are always ready.
        self.sweep = if self.sweep + 1 < count { self.sweep + 1 } else { 0 };
        if self.sweep != self.current && self.ring(self.sweep).is_some_and(|r| !r.is_empty()) {
            return Some(self.sweep);
        }
        let mut from = self.current + 1;
        while let Some(index) = self.next_ready(from, count) {
            if self.settle(index) {
                return Some(index);
            }
            from = index + 1;
        }
        // Something was there, and no bit that led to it: look at every ring.
        (self.current + 1..count).chain(0..=self.current).find(|index| self.settle(*index))
    }

    /// Whether no bit is set, no ring holds anything and none was left by its producer. This is
    /// what a look that finds nothing consists of, so it minds no order.
    fn is_quiet(&self) -> bool {
        let has_bit = |group: &Group<T, L>| group.ready.load(Ordering::Relaxed) != 0;
        !self.groups.iter().any(has_bit)
            && self.rings().all(|ring| ring.is_empty() && !ring.is_closed())
    }

    /// Takes the ring at `index` out of the table, to be served; the one before goes back.
    fn turn_to(&mut self, index: usize) {
        if index != self.current || self.served.is_none() {
            let current = mem::replace(&mut self.current, index);
            let next = mem::replace(self.entry(index), Entry::Served);
            let Entry::Waiting(next) = next else { unreachable!("a ring in the table") };
            if let Some(last) = self.served.replace(next) {
                *self.entry(current) = Entry::Waiting(last);
            }
        }
        self.burst_end = self.served.as_ref().map_or(0, |ring| ring.head().wrapping_add(BURST));
    }

    fn entry(&mut self, index: usize) -> &mut Entry<T, L> {
        &mut self.groups[index / GROUP].entries[index % GROUP]
    }

    /// The ring at `index`, wherever it is.
    fn ring(&self, index: usize) -> Option<&spsc::Consumer<T, L>> {
        match &self.groups[index / GROUP].entries[index % GROUP] {
            Entry::Free => None,
            Entry::Waiting(ring) => Some(ring),
            Entry::Served => self.served.as_ref(),
        }
    }

    /// The first index with a ready bit, going round once from `from`, at most `count`; the bits
    /// are read afresh.
    fn next_ready(&self, from: usize, count: usize) -> Option<usize> {
        let from = if from < count { from } else { from - count };
        let (group, position) = (from / GROUP, from % GROUP);
        let groups = self.groups.len();
        for step in 0..=groups {
            let number = group + step;
            let number = if number < groups { number } else { number - groups };
            let bits = self.groups[number].ready.load(Ordering::Relaxed);
            // The first group counts from the position on, and again in full at the very end.
            let bits = if step == 0 { bits & (usize::MAX << position) } else { bits };
            if bits != 0 {
                return Some(number * GROUP + bits.trailing_zeros() as usize);
            }
        }
        None
    }

    /// Brings table and bit in line with the ring at `index`, and tells whether it has items: an
    /// empty ring loses its bit, and its entry too if its producer is gone.
    fn settle(&mut self, index: usize) -> bool {
        let group = &self.groups[index / GROUP];
        let bit = 1 << (index % GROUP);
        let is_ready = || group.ready.load(Ordering::Relaxed) & bit != 0;
        let Some(ring) = self.ring(index) else {
            // A producer that left may ring its bell after its ring was removed.
            if is_ready() {
                group.ready.fetch_and(!bit, Ordering::Relaxed);
            }
            return false;
        };
        if !ring.is_empty() {
            return true;
        }
        if is_ready() {
            group.ready.fetch_and(!bit, Ordering::Relaxed);
            window(Window::Settling);
            // A commit between look and clearing saw the bit set.
            if !ring.is_empty() {
                group.ready.fetch_or(bit, Ordering::Relaxed);
                return true;
            }
        }
        if ring.is_closed() && ring.is_empty() {
            self.remove(index);
        }
        false
    }

    fn remove(&mut self, index: usize) {
        if let Entry::Served = mem::replace(self.entry(index), Entry::Free) {
            self.served = None;
        }
        self.live -= 1;
    }
}

// A panic in an iterator, a closure or a destructor ends the call as if it had asked for no more.
impl<T, L: Layout<T>> UnwindSafe for Consumer<T, L> {}
impl<T, L: Layout<T>> RefUnwindSafe for Consumer<T, L> {}

impl<T, L: Layout<T>> fmt::Debug for Consumer<T, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("capacity", &self.capacity)
            .field("producers", &self.live)
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
