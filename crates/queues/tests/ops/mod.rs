//! Lists of operations on a queue and on its twin, a `VecDeque`, on one thread.
//!
//! The bodies are plain functions that panic when queue and twin differ: `model.rs` drives them
//! with proptest, and the fuzz workspace includes this file and drives them with bytes.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use flintlock_queues::mpsc::{rings, shared};
use flintlock_queues::{
    Compact, Index, Layout, Padded, PopError, PushError, Tagged, Words, spmc, spsc,
};

/// One operation; `who` chooses among several handles, counted round.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    Push {
        who: u8,
    },
    PushDeferred {
        who: u8,
    },
    Commit {
        who: u8,
    },
    PushBatch {
        who: u8,
        count: u8,
    },
    Pop {
        who: u8,
    },
    PopBatch {
        who: u8,
        count: u8,
    },
    /// Another consumer (spmc) or producer (mpsc); nothing else has a second one.
    Add,
    DropProducer {
        who: u8,
    },
    DropConsumer {
        who: u8,
    },
}

impl Op {
    /// The operation that two bytes stand for; pushing and popping are likelier than leaving.
    pub(crate) fn decode(kind: u8, argument: u8) -> Self {
        let (who, count) = (argument & 3, argument >> 2);
        match kind % 32 {
            0..=7 => Self::Push { who },
            8..=12 => Self::PushDeferred { who },
            13..=15 => Self::Commit { who },
            16..=18 => Self::PushBatch { who, count: count % 12 },
            19..=24 => Self::Pop { who },
            25..=27 => Self::PopBatch { who, count: count % 40 },
            28..=29 => Self::Add,
            30 => Self::DropProducer { who },
            _ => Self::DropConsumer { who },
        }
    }

    /// A capacity, a first index and the operations that `bytes` stand for.
    pub(crate) fn decode_all(bytes: &[u8]) -> (usize, usize, Vec<Self>) {
        let (head, rest) = bytes.split_at(bytes.len().min(2));
        let capacity = 2 + usize::from(head.first().copied().unwrap_or(0) % 15);
        // Around 0 and around the wrap.
        let first = usize::from(head.get(1).copied().unwrap_or(0)).wrapping_sub(128);
        let ops = rest.chunks_exact(2).map(|pair| Self::decode(pair[0], pair[1]));
        (capacity, first, ops.collect())
    }
}

/// What travels: a number that can be told from others, counted while it lives.
pub(crate) trait Item: Sized {
    fn make(number: usize, live: &Rc<Cell<usize>>) -> Self;
    fn number(&self) -> usize;
    /// Whether items of this type are counted.
    const COUNTED: bool;
}

#[repr(align(32))]
#[derive(Debug)]
pub(crate) struct Tracked {
    number: usize,
    live: Rc<Cell<usize>>,
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.live.set(self.live.get().checked_sub(1).expect("no more drops than items"));
    }
}

impl Item for Box<Tracked> {
    const COUNTED: bool = true;

    fn make(number: usize, live: &Rc<Cell<usize>>) -> Self {
        live.set(live.get() + 1);
        Self::new(Tracked { number, live: Rc::clone(live) })
    }

    fn number(&self) -> usize {
        self.number
    }
}

impl Item for Tagged<Box<Tracked>> {
    const COUNTED: bool = true;

    fn make(number: usize, live: &Rc<Cell<usize>>) -> Self {
        Self::new((number % 16) as u8, Item::make(number, live))
    }

    fn number(&self) -> usize {
        usize::from(self.kind())
    }
}

impl Item for Index {
    const COUNTED: bool = false;

    fn make(number: usize, _live: &Rc<Cell<usize>>) -> Self {
        Self::new(number)
    }

    fn number(&self) -> usize {
        self.value()
    }
}

/// The producing ends' common vocabulary.
trait Tx<T> {
    fn push(&mut self, item: T) -> Result<(), PushError<T>>;
    fn push_deferred(&mut self, item: T) -> Result<(), PushError<T>>;
    fn commit(&mut self);
    fn push_batch(&mut self, items: &mut dyn Iterator<Item = T>) -> usize;
    fn len(&self) -> usize;
    fn is_closed(&self) -> bool;
}

/// The consuming ends' common vocabulary.
trait Rx<T> {
    fn pop(&mut self) -> Result<T, PopError>;
    fn pop_batch(&mut self, max: usize, each: &mut dyn FnMut(T)) -> usize;
    fn len(&self) -> usize;
    fn is_empty(&self) -> bool;
    fn is_closed(&self) -> bool;
}

macro_rules! vocabulary {
    ($($module:ident),+) => {$(
        impl<T, L: Layout<T>> Tx<T> for $module::Producer<T, L> {
            fn push(&mut self, item: T) -> Result<(), PushError<T>> {
                self.push(item)
            }
            fn push_deferred(&mut self, item: T) -> Result<(), PushError<T>> {
                self.push_deferred(item)
            }
            fn commit(&mut self) {
                self.commit();
            }
            fn push_batch(&mut self, mut items: &mut dyn Iterator<Item = T>) -> usize {
                self.push_batch(&mut items)
            }
            fn len(&self) -> usize {
                self.len()
            }
            fn is_closed(&self) -> bool {
                self.is_closed()
            }
        }
        impl<T, L: Layout<T>> Rx<T> for $module::Consumer<T, L> {
            fn pop(&mut self) -> Result<T, PopError> {
                self.pop()
            }
            fn pop_batch(&mut self, max: usize, each: &mut dyn FnMut(T)) -> usize {
                self.pop_batch(max, each)
            }
            fn len(&self) -> usize {
                self.len()
            }
            fn is_empty(&self) -> bool {
                self.is_empty()
            }
            fn is_closed(&self) -> bool {
                self.is_closed()
            }
        }
    )+};
}

vocabulary!(spsc, spmc, rings, shared);

/// The handle that `who` means.
fn choose<T>(handles: &mut [T], who: u8) -> Option<&mut T> {
    let count = handles.len();
    (count > 0).then(|| &mut handles[usize::from(who) % count])
}

/// One producer, one or more consumers, and a twin that is exact.
struct Fifo<P, C> {
    producer: Option<P>,
    consumers: Vec<C>,
    capacity: usize,
    visible: VecDeque<usize>,
    deferred: VecDeque<usize>,
    /// Pushed after the last consumer left: in the ring until the end.
    stranded: usize,
    next: usize,
    live: Rc<Cell<usize>>,
}

impl<P, C> Fifo<P, C> {
    fn run<T: Item>(&mut self, ops: &[Op], add: impl Fn(&C) -> Option<C>)
    where
        P: Tx<T>,
        C: Rx<T>,
    {
        for op in ops {
            match *op {
                Op::Push { .. } => self.push(false),
                Op::PushDeferred { .. } => self.push(true),
                Op::Commit { .. } => self.commit(),
                Op::PushBatch { count, .. } => self.push_batch(usize::from(count)),
                Op::Pop { who } => self.pop(who),
                Op::PopBatch { who, count } => self.pop_batch(who, usize::from(count)),
                Op::Add if self.consumers.len() < 4 => {
                    let more = self.consumers.first().and_then(&add);
                    self.consumers.extend(more);
                }
                Op::Add => {}
                Op::DropProducer { .. } => {
                    self.producer = None;
                    self.show_deferred();
                }
                Op::DropConsumer { who } => self.drop_consumer(who),
            }
            self.check();
        }
        self.producer = None;
        self.consumers.clear();
        assert_eq!(self.live.get(), 0, "every item is dropped in the end");
    }

    fn show_deferred(&mut self) {
        self.visible.append(&mut self.deferred);
        if self.consumers.is_empty() {
            self.stranded += self.visible.len();
            self.visible.clear();
        }
    }

    fn push<T: Item>(&mut self, defer: bool)
    where
        P: Tx<T>,
    {
        let Some(producer) = &mut self.producer else { return };
        let (number, is_full) =
            (self.next, self.visible.len() + self.deferred.len() == self.capacity);
        let item = T::make(number, &self.live);
        let result = if defer { producer.push_deferred(item) } else { producer.push(item) };
        match result {
            Ok(()) => {
                assert!(!is_full || self.consumers.is_empty(), "a full ring takes nothing");
                self.next += 1;
                self.deferred.push_back(number);
                if !defer {
                    self.show_deferred();
                }
            }
            Err(refused) => {
                match &refused {
                    PushError::Full(_) => assert!(is_full, "full only when full"),
                    PushError::Closed(_) => assert!(self.consumers.is_empty()),
                }
                // Full and closed rings show everything; and the item came back unharmed.
                self.show_deferred();
                assert_eq!(refused.into_inner().number(), T::make(number, &self.live).number());
            }
        }
    }

    fn commit<T: Item>(&mut self)
    where
        P: Tx<T>,
    {
        if let Some(producer) = &mut self.producer {
            producer.commit();
            self.show_deferred();
        }
    }

    fn push_batch<T: Item>(&mut self, count: usize)
    where
        P: Tx<T>,
    {
        let Some(producer) = &mut self.producer else { return };
        let room = self.capacity - self.visible.len() - self.deferred.len();
        let (first, live) = (self.next, Rc::clone(&self.live));
        let mut taken = 0;
        let mut items = (first..first + count).map(|number| {
            taken += 1;
            T::make(number, &live)
        });
        let pushed = producer.push_batch(&mut items);
        assert_eq!(pushed, taken, "no item is taken that cannot be pushed");
        if !self.consumers.is_empty() {
            assert_eq!(pushed, count.min(room), "as many as fit");
        }
        self.next += pushed;
        self.deferred.extend(first..self.next);
        self.show_deferred();
    }

    fn pop<T: Item>(&mut self, who: u8)
    where
        C: Rx<T>,
    {
        let Some(consumer) = choose(&mut self.consumers, who) else { return };
        let is_closed = self.producer.is_none();
        match (consumer.pop(), self.visible.pop_front()) {
            (Ok(item), Some(number)) => {
                assert_eq!(item.number(), T::make(number, &self.live).number());
            }
            (Err(PopError::Empty), None) => assert!(!is_closed),
            (Err(PopError::Closed), None) => assert!(is_closed),
            (popped, twin) => panic!("{:?} but the twin has {twin:?}", popped.map(|i| i.number())),
        }
    }

    fn pop_batch<T: Item>(&mut self, who: u8, max: usize)
    where
        C: Rx<T>,
    {
        let Some(consumer) = choose(&mut self.consumers, who) else { return };
        let (visible, live) = (&mut self.visible, &self.live);
        let expected = max.min(visible.len());
        let count = consumer.pop_batch(max, &mut |item| {
            let number = visible.pop_front().expect("no more than there is");
            assert_eq!(item.number(), T::make(number, live).number());
        });
        assert_eq!(count, expected);
    }

    fn drop_consumer(&mut self, who: u8) {
        if !self.consumers.is_empty() {
            let index = usize::from(who) % self.consumers.len();
            drop(self.consumers.remove(index));
            if self.consumers.is_empty() {
                self.visible.clear();
            }
        }
    }

    fn check<T: Item>(&self)
    where
        P: Tx<T>,
        C: Rx<T>,
    {
        let (visible, all) = (self.visible.len(), self.visible.len() + self.deferred.len());
        if let Some(producer) = &self.producer {
            assert_eq!(producer.is_closed(), self.consumers.is_empty());
            if !self.consumers.is_empty() {
                assert_eq!(producer.len(), all);
            }
        }
        for consumer in &self.consumers {
            assert_eq!(consumer.is_empty(), visible == 0);
            assert_eq!(consumer.is_closed(), self.producer.is_none());
            let len = consumer.len();
            assert!(len >= visible && len <= all && (visible > 0 || len == 0), "{len}");
        }
        if T::COUNTED {
            let has_ring = self.producer.is_some() || !self.consumers.is_empty();
            let in_ring = if has_ring { all + self.stranded } else { 0 };
            assert_eq!(self.live.get(), in_ring, "no item is lost or kept");
        }
    }
}

fn fifo<P, C>(producer: P, consumer: C, capacity: usize) -> Fifo<P, C> {
    Fifo {
        producer: Some(producer),
        consumers: vec![consumer],
        capacity: capacity.next_power_of_two(),
        visible: VecDeque::new(),
        deferred: VecDeque::new(),
        stranded: 0,
        next: 0,
        live: Rc::default(),
    }
}

/// `spsc` of one layout against its twin.
pub(crate) fn spsc_ops<T: Item, L: Layout<T>>(capacity: usize, first: usize, ops: &[Op]) {
    let (producer, consumer) = spsc::ring_at::<T, L>(capacity, first);
    fifo(producer, consumer, capacity).run::<T>(ops, |_| None);
}

/// `spmc` of one layout against its twin; `CLAIM_MAX` is above every capacity here.
pub(crate) fn spmc_ops<T: Item, L: Layout<T>>(capacity: usize, first: usize, ops: &[Op]) {
    let (producer, consumer) = spmc::ring_at::<T, L>(capacity, first);
    fifo(producer, consumer, capacity).run::<T>(ops, |consumer| Some(consumer.clone()));
}

/// A producer and what it pushed that was not popped.
struct Side<P> {
    handle: Option<P>,
    /// Number of its next item.
    next: usize,
    visible: VecDeque<usize>,
    deferred: VecDeque<usize>,
}

/// Several producers, one consumer; the twin keeps what each producer pushed.
struct Many<P> {
    producers: Vec<Side<P>>,
    live: Rc<Cell<usize>>,
}

/// Item numbers are `producer * STRIDE + n`.
const STRIDE: usize = 1 << 16;

impl<P> Many<P> {
    fn new(first: Vec<P>) -> Self {
        let mut many = Self { producers: Vec::new(), live: Rc::default() };
        first.into_iter().for_each(|producer| many.add(producer));
        many
    }

    fn add(&mut self, producer: P) {
        self.producers.push(Side {
            handle: Some(producer),
            next: self.producers.len() * STRIDE,
            visible: VecDeque::new(),
            deferred: VecDeque::new(),
        });
    }

    fn is_closed(&self) -> bool {
        self.producers.iter().all(|side| side.handle.is_none())
    }

    /// Pushes `count` items; what of them was accepted is deferred or visible.
    fn push<T: Item>(&mut self, who: u8, op: Op, is_full: impl Fn(&P, usize) -> Option<bool>)
    where
        P: Tx<T>,
    {
        let live = Rc::clone(&self.live);
        let Some(side) = choose(&mut self.producers, who) else { return };
        let Side { handle: Some(handle), next, visible, deferred } = side else { return };
        let expected_full = is_full(handle, visible.len() + deferred.len());
        let mut number = *next;
        let mut make = || {
            number += 1;
            T::make(number - 1, &live)
        };
        let accepted = match op {
            Op::Push { .. } => handle.push(make()).is_ok(),
            Op::PushDeferred { .. } => handle.push_deferred(make()).is_ok(),
            Op::PushBatch { count, .. } => {
                let mut items = (0..count).map(|_| make());
                let pushed = handle.push_batch(&mut items);
                deferred.extend(*next..*next + pushed);
                *next += pushed;
                visible.append(deferred);
                return;
            }
            _ => {
                handle.commit();
                visible.append(deferred);
                return;
            }
        };
        if let Some(is_full) = expected_full {
            assert_eq!(accepted, !is_full, "refused if and only if full");
        }
        if accepted {
            deferred.push_back(*next);
            *next += 1;
        }
        // Without a capacity of its own the order is all that is known.
        if !accepted || matches!(op, Op::Push { .. }) || expected_full.is_none() {
            visible.append(deferred);
        }
    }

    /// Notes that `item` was popped: the oldest visible one of its producer.
    fn popped<T: Item>(&mut self, item: &T) {
        let number = item.number();
        let visible = &mut self.producers[number / STRIDE].visible;
        assert_eq!(visible.pop_front(), Some(number), "in order of its producer");
    }

    fn visible(&self) -> usize {
        self.producers.iter().map(|side| side.visible.len()).sum()
    }

    fn drop_producer(&mut self, who: u8) {
        if let Some(side) = choose(&mut self.producers, who) {
            side.handle = None;
            side.visible.append(&mut side.deferred);
        }
    }
}

/// `mpsc::rings` of one layout: the twin of each producer is exact, the order between is free.
pub(crate) fn rings_ops<T: Item, L: Layout<T>>(capacity: usize, first: usize, ops: &[Op]) {
    let mut consumer = rings::ring_at::<T, L>(capacity, first);
    let capacity = consumer.capacity();
    let mut many = Many::new(vec![consumer.add_producer()]);
    for op in ops {
        match *op {
            Op::Push { who }
            | Op::PushDeferred { who }
            | Op::Commit { who }
            | Op::PushBatch { who, .. } => {
                many.push::<T>(who, *op, |_, len| Some(len == capacity));
            }
            Op::Pop { .. } => match consumer.pop() {
                Ok(item) => many.popped(&item),
                Err(reason) => {
                    assert_eq!(many.visible(), 0, "empty only when empty");
                    assert_eq!(reason == PopError::Closed, many.is_closed());
                }
            },
            Op::PopBatch { count, .. } => {
                let expected = usize::from(count).min(many.visible());
                let popped = consumer.pop_batch(usize::from(count), |item| many.popped(&item));
                assert_eq!(popped, expected, "as many as there are");
            }
            Op::Add if many.producers.len() < 80 => many.add(consumer.add_producer()),
            Op::DropProducer { who } => many.drop_producer(who),
            Op::Add | Op::DropConsumer { .. } => {}
        }
        assert_eq!(consumer.is_empty(), many.visible() == 0);
        assert_eq!(consumer.is_closed(), many.is_closed());
    }
    many.producers.clear();
    while let Ok(item) = consumer.pop() {
        drop(item);
    }
    assert_eq!(consumer.producers(), 0, "rings of producers that left are removed");
    drop(consumer);
    assert_eq!(many.live.get(), 0, "every item is dropped in the end");
}

/// `mpsc::shared` of one layout: each producer's items in order, nothing lost, and an empty answer
/// only if nothing can be had.
pub(crate) fn shared_ops<T: Item, L: Layout<T>>(capacity: usize, first: usize, ops: &[Op]) {
    let (producer, mut consumer) = shared::ring_at::<T, L>(capacity, first);
    let mut many = Many::new(vec![producer]);
    // Pending items of live producers; what is not pending must be there to be popped.
    let pending = |many: &Many<shared::Producer<T, L>>| -> usize {
        many.producers.iter().flat_map(|side| &side.handle).map(|p| p.pending()).sum()
    };
    for op in ops {
        match *op {
            Op::Push { who }
            | Op::PushDeferred { who }
            | Op::Commit { who }
            | Op::PushBatch { who, .. } => many.push::<T>(who, *op, |_, _| None),
            Op::Pop { .. } | Op::PopBatch { .. } => {
                let (outside, is_closed) = (pending(&many), many.is_closed());
                match consumer.pop() {
                    Ok(item) => many.popped(&item),
                    Err(reason) => {
                        assert!(outside > 0 || many.visible() == 0, "empty only when empty");
                        assert_eq!(reason == PopError::Closed, is_closed);
                    }
                }
                if let Op::PopBatch { count, .. } = *op {
                    consumer.pop_batch(usize::from(count), |item| many.popped(&item));
                }
            }
            Op::Add if many.producers.len() < 6 => {
                let live = many.producers.iter().find_map(|side| side.handle.clone());
                live.into_iter().for_each(|producer| many.add(producer));
            }
            Op::DropProducer { who } => many.drop_producer(who),
            Op::Add | Op::DropConsumer { .. } => {}
        }
        assert_eq!(consumer.is_closed(), many.is_closed());
    }
    for who in 0..many.producers.len() {
        many.drop_producer(who as u8);
    }
    while let Ok(item) = consumer.pop() {
        many.popped(&item);
    }
    assert_eq!(many.visible(), 0, "everything arrives, left behind or not");
    assert_eq!(many.live.get(), 0, "every item is dropped in the end");
}

/// All queues in all layouts on the same operations.
pub(crate) fn all_ops(capacity: usize, first: usize, ops: &[Op]) {
    type Boxed = Box<Tracked>;
    spsc_ops::<Boxed, Words>(capacity, first, ops);
    spsc_ops::<Tagged<Boxed>, Words>(capacity, first, ops);
    spsc_ops::<Index, Words>(capacity, first, ops);
    spsc_ops::<Boxed, Compact>(capacity, first, ops);
    spsc_ops::<Boxed, Padded>(capacity, first, ops);
    spmc_ops::<Boxed, Words>(capacity, first, ops);
    spmc_ops::<Tagged<Boxed>, Words>(capacity, first, ops);
    spmc_ops::<Boxed, Compact>(capacity, first, ops);
    spmc_ops::<Boxed, Padded>(capacity, first, ops);
    rings_ops::<Boxed, Words>(capacity, first, ops);
    rings_ops::<Boxed, Compact>(capacity, first, ops);
    shared_ops::<Boxed, Words>(capacity, first, ops);
    shared_ops::<Boxed, Compact>(capacity, first, ops);
    shared_ops::<Boxed, Padded>(capacity, first, ops);
}
