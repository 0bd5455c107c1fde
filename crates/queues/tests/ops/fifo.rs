//! Rings with one producer: items come out in the order they went in.
//!
//! Owns the twin of `spsc` and `spmc`, which is exact. One thread.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use flintlock_queues::{Layout, PopError, PushError, spmc, spsc};

use super::{Item, MaySlice, Op, Rx, Tx, choose};

/// One producer, one or more consumers, and a twin that is exact.
struct Fifo<T, P, C> {
    producer: Option<P>,
    consumers: Vec<C>,
    capacity: usize,
    visible: VecDeque<usize>,
    deferred: VecDeque<usize>,
    /// Pushed after the last consumer left: in the ring until the end.
    stranded: usize,
    next: usize,
    /// Most items that one batch takes.
    claim_max: usize,
    live: Rc<Cell<usize>>,
    slices: MaySlice<P, C, T>,
}

impl<T: Item, P: Tx<T>, C: Rx<T>> Fifo<T, P, C> {
    fn run(&mut self, ops: &[Op], add: impl Fn(&C) -> Option<C>) {
        for op in ops {
            match *op {
                Op::Push { .. } => self.push(false),
                Op::PushDeferred { .. } => self.push(true),
                Op::Commit { .. } => self.commit(),
                Op::PushBatch { count, .. } => self.push_batch(usize::from(count)),
                Op::PushSlice { count, .. } => self.push_slice(usize::from(count)),
                Op::Pop { who } => self.pop(who),
                Op::PopBatch { who, count } => self.pop_batch(who, usize::from(count), false),
                Op::PopSlice { who, count } => self.pop_batch(who, usize::from(count), true),
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

    fn push(&mut self, defer: bool) {
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

    fn commit(&mut self) {
        if let Some(producer) = &mut self.producer {
            producer.commit();
            self.show_deferred();
        }
    }

    fn push_batch(&mut self, count: usize) {
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
        self.note_pushed(pushed, count.min(room));
    }

    fn push_slice(&mut self, count: usize) {
        let Some(slices) = &self.slices else { return self.push_batch(count) };
        let Some(producer) = &mut self.producer else { return };
        let room = self.capacity - self.visible.len() - self.deferred.len();
        let numbers = self.next..self.next + count;
        let pushed = slices.push(producer, numbers.map(|number| T::make(number, &self.live)));
        self.note_pushed(pushed, count.min(room));
    }

    fn note_pushed(&mut self, pushed: usize, expected: usize) {
        if !self.consumers.is_empty() {
            assert_eq!(pushed, expected, "as many as fit");
        }
        self.deferred.extend(self.next..self.next + pushed);
        self.next += pushed;
        self.show_deferred();
    }

    fn pop(&mut self, who: u8) {
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

    fn pop_batch(&mut self, who: u8, max: usize, is_slice: bool) {
        let Some(consumer) = choose(&mut self.consumers, who) else { return };
        let (visible, live) = (&mut self.visible, &self.live);
        let expected = max.min(visible.len()).min(self.claim_max);
        let mut each = |item: T| {
            let number = visible.pop_front().expect("no more than there is");
            assert_eq!(item.number(), T::make(number, live).number());
        };
        let count = match &self.slices {
            Some(slices) if is_slice => {
                let items = slices.pop(consumer, max);
                let count = items.len();
                items.into_iter().for_each(each);
                count
            }
            _ => consumer.pop_batch(max, &mut each),
        };
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

    fn check(&self) {
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

fn fifo<T, P, C>(
    producer: P,
    consumer: C,
    capacity: usize,
    slices: MaySlice<P, C, T>,
) -> Fifo<T, P, C> {
    Fifo {
        producer: Some(producer),
        consumers: vec![consumer],
        capacity: capacity.next_power_of_two(),
        visible: VecDeque::new(),
        deferred: VecDeque::new(),
        stranded: 0,
        next: 0,
        claim_max: usize::MAX,
        live: Rc::default(),
        slices,
    }
}

/// `spsc` of one layout against its twin.
pub(super) fn spsc_ops<T: Item, L: Layout<T>>(
    capacity: usize,
    first: usize,
    ops: &[Op],
    slices: MaySlice<spsc::Producer<T, L>, spsc::Consumer<T, L>, T>,
) {
    let (producer, consumer) = spsc::ring_at::<T, L>(capacity, first);
    fifo(producer, consumer, capacity, slices).run(ops, |_| None);
}

/// `spmc` of one layout against its twin.
pub(super) fn spmc_ops<T: Item, L: Layout<T>>(
    capacity: usize,
    first: usize,
    ops: &[Op],
    slices: MaySlice<spmc::Producer<T, L>, spmc::Consumer<T, L>, T>,
) {
    let (producer, consumer) = spmc::ring_at::<T, L>(capacity, first);
    let mut fifo = fifo(producer, consumer, capacity, slices);
    fifo.claim_max = spmc::CLAIM_MAX;
    fifo.run(ops, |consumer| Some(consumer.clone()));
}
