//! Rings with many producers: order is promised for the items of one producer only.
//!
//! Owns the twins of `mpsc::rings` and `mpsc::shared`. One thread.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use flintlock_queues::mpsc::{rings, shared};
use flintlock_queues::{Layout, PopError};

use super::{Item, Op, Tx, choose};

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
pub(super) fn rings_ops<T: Item, L: Layout<T>>(capacity: usize, first: usize, ops: &[Op]) {
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
pub(super) fn shared_ops<T: Item, L: Layout<T>>(capacity: usize, first: usize, ops: &[Op]) {
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
