//! Rings with many producers: order is promised for the items of one producer only.
//!
//! Owns the twins of `mpsc::rings` and `mpsc::shared`. One thread.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use flintlock_queues::mpsc::{rings, shared};
use flintlock_queues::{Layout, PopError};

use super::{Item, MaySlice, Op, Rx, Tx, choose};

/// A producer and what it pushed that was not popped.
struct Side<P> {
    handle: Option<P>,
    /// Number of its next item.
    next: usize,
    visible: VecDeque<usize>,
    deferred: VecDeque<usize>,
}

/// Several producers, one consumer; the twin keeps what each producer pushed.
struct Many<P, C, T> {
    producers: Vec<Side<P>>,
    /// Whether what is deferred stays invisible, which it does in rings of their own.
    defers: bool,
    live: Rc<Cell<usize>>,
    slices: MaySlice<P, C, T>,
}

/// Item numbers are `producer * STRIDE + n`.
const STRIDE: usize = 1 << 16;

impl<P: Tx<T>, C: Rx<T>, T: Item> Many<P, C, T> {
    fn new(first: P, defers: bool, slices: MaySlice<P, C, T>) -> Self {
        let mut many = Self { producers: Vec::new(), defers, live: Rc::default(), slices };
        many.add(first);
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

    /// Pushes; what was accepted is deferred or visible. `room` tells what fits beside so many
    /// items of the producer, where that is known.
    fn push(&mut self, who: u8, op: Op, room: impl Fn(&P, usize) -> Option<usize>) {
        let live = Rc::clone(&self.live);
        let Some(side) = choose(&mut self.producers, who) else { return };
        let Side { handle: Some(handle), next, visible, deferred } = side else { return };
        let room = room(handle, visible.len() + deferred.len());
        let first = *next;
        let make = |offset: usize| T::make(first + offset, &live);
        let (wanted, accepted) = match op {
            Op::Push { .. } => (1, usize::from(handle.push(make(0)).is_ok())),
            Op::PushDeferred { .. } => (1, usize::from(handle.push_deferred(make(0)).is_ok())),
            Op::PushBatch { count, .. } | Op::PushSlice { count, .. } => {
                let mut items = (0..usize::from(count)).map(make);
                let pushed = match &self.slices {
                    Some(slices) if matches!(op, Op::PushSlice { .. }) => {
                        slices.push(handle, items)
                    }
                    _ => handle.push_batch(&mut items),
                };
                (usize::from(count), pushed)
            }
            _ => {
                handle.commit();
                (0, 0)
            }
        };
        if let Some(room) = room {
            assert_eq!(accepted, wanted.min(room), "as many as fit");
        }
        deferred.extend(first..first + accepted);
        *next += accepted;
        let stays = self.defers && accepted == wanted && matches!(op, Op::PushDeferred { .. });
        if !stays {
            visible.append(deferred);
        }
    }

    /// Pops up to `max` items, as a slice or not; how many.
    fn pop_batch(&mut self, consumer: &mut C, max: usize, is_slice: bool) -> usize {
        match &self.slices {
            Some(slices) if is_slice => {
                let items = slices.pop(consumer, max);
                items.iter().for_each(|item| self.popped(item));
                items.len()
            }
            _ => consumer.pop_batch(max, &mut |item| self.popped(&item)),
        }
    }

    /// Notes that `item` was popped: the oldest visible one of its producer.
    fn popped(&mut self, item: &T) {
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
pub(super) fn rings_ops<T: Item, L: Layout<T>>(
    capacity: usize,
    first: usize,
    ops: &[Op],
    slices: MaySlice<rings::Producer<T, L>, rings::Consumer<T, L>, T>,
) {
    let mut consumer = rings::ring_at::<T, L>(capacity, first);
    let capacity = consumer.capacity();
    let mut many = Many::new(consumer.add_producer(), true, slices);
    for op in ops {
        match *op {
            Op::Push { who }
            | Op::PushDeferred { who }
            | Op::Commit { who }
            | Op::PushBatch { who, .. }
            | Op::PushSlice { who, .. } => many.push(who, *op, |_, len| Some(capacity - len)),
            Op::Pop { .. } => match consumer.pop() {
                Ok(item) => many.popped(&item),
                Err(reason) => {
                    assert_eq!(many.visible(), 0, "empty only when empty");
                    assert_eq!(reason == PopError::Closed, many.is_closed());
                }
            },
            Op::PopBatch { count, .. } | Op::PopSlice { count, .. } => {
                let max = usize::from(count);
                let expected = max.min(many.visible());
                let is_slice = matches!(op, Op::PopSlice { .. });
                let popped = many.pop_batch(&mut consumer, max, is_slice);
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
pub(super) fn shared_ops<T: Item, L: Layout<T>>(
    capacity: usize,
    first: usize,
    ops: &[Op],
    slices: MaySlice<shared::Producer<T, L>, shared::Consumer<T, L>, T>,
) {
    let (producer, mut consumer) = shared::ring_at::<T, L>(capacity, first);
    let ring_and_list = 2 * consumer.capacity();
    let mut many = Many::new(producer, false, slices);
    // Pending items of live producers; what is not pending must be there to be popped.
    let pending = |many: &Many<shared::Producer<T, L>, _, T>| -> usize {
        many.producers.iter().flat_map(|side| &side.handle).map(|p| p.pending()).sum()
    };
    for op in ops {
        match *op {
            Op::Push { who }
            | Op::PushDeferred { who }
            | Op::Commit { who }
            | Op::PushBatch { who, .. }
            | Op::PushSlice { who, .. } => {
                // What others have taken of the ring is not known.
                let is_alone = many.producers.len() == 1;
                many.push(who, *op, |_, len| is_alone.then(|| ring_and_list - len));
            }
            Op::Pop { .. } | Op::PopBatch { .. } | Op::PopSlice { .. } => {
                let (outside, is_closed) = (pending(&many), many.is_closed());
                match consumer.pop() {
                    Ok(item) => many.popped(&item),
                    Err(reason) => {
                        assert!(outside > 0 || many.visible() == 0, "empty only when empty");
                        assert_eq!(reason == PopError::Closed, is_closed);
                    }
                }
                if let Op::PopBatch { count, .. } | Op::PopSlice { count, .. } = *op {
                    let is_slice = matches!(op, Op::PopSlice { .. });
                    many.pop_batch(&mut consumer, usize::from(count), is_slice);
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
