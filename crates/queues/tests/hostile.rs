//! Programs without unsafe code that do their worst: items that own ends of their own ring,
//! iterators that lie, break off, or pop and close the ring they are pushed to, handles that are
//! forgotten. Items may leak with a forgotten handle; none is dropped twice or read when gone.
#![cfg(not(any(loom, shuttle)))]

use std::cell::{Cell, RefCell};
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

use flintlock_queues::mpsc::{rings, shared};
use flintlock_queues::{Padded, spmc, spsc};

/// An item larger than a line, aligned to more than one, that knows when it is broken.
#[repr(align(128))]
struct Item {
    number: usize,
    live: Rc<Cell<usize>>,
    rest: [usize; 20],
}

impl Item {
    fn new(number: usize, live: &Rc<Cell<usize>>) -> Self {
        live.set(live.get() + 1);
        Self { number, live: Rc::clone(live), rest: [number; 20] }
    }
}

impl Drop for Item {
    fn drop(&mut self) {
        assert!(std::ptr::from_ref(self).addr().is_multiple_of(128));
        assert_eq!(self.rest, [self.number; 20], "whole");
        self.live.set(self.live.get().checked_sub(1).expect("no more drops than items"));
    }
}

/// Has `size_hint` say anything.
struct Liar<I>(I, (usize, Option<usize>));

impl<I: Iterator> Iterator for Liar<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        self.0.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.1
    }
}

const LIES: [(usize, Option<usize>); 4] =
    [(0, Some(0)), (usize::MAX, None), (usize::MAX, Some(1)), (9, Some(2))];

/// Runs `call`, which may break off.
fn may_break<R>(call: impl FnOnce() -> R) {
    let _ = catch_unwind(AssertUnwindSafe(call));
}

fn break_off() {
    resume_unwind(Box::new("broken off"));
}

/// Batches to a ring whose consumer the iterator has: it pops, breaks off at one item, and in the
/// last round drops the consumer.
macro_rules! iterators {
    ($ring:expr) => {{
        let live = Rc::default();
        for breaks_at in 0..9 {
            let (mut producer, consumer) = $ring;
            let consumer = RefCell::new(Some(consumer));
            for round in 0..5 {
                let mut items = (0..8).map(|number| {
                    if number == breaks_at {
                        break_off();
                    }
                    if number % 3 == round % 3 {
                        consumer.borrow_mut().as_mut().map(|consumer| consumer.pop().map(drop));
                    }
                    if (round, number) == (4, 2) {
                        drop(consumer.borrow_mut().take());
                    }
                    Item::new(number, &live)
                });
                may_break(|| producer.push_batch(&mut items));
                if let Some(consumer) = consumer.borrow_mut().as_mut() {
                    let each = |item: Item| {
                        if item.number == breaks_at {
                            break_off()
                        }
                    };
                    may_break(|| consumer.pop_batch(3, each));
                }
                producer.commit();
            }
        }
        for lie in LIES {
            let (mut producer, mut consumer) = $ring;
            for _ in 0..2 {
                let items = (0..20).map(|number| Item::new(number, &live));
                let _ = producer.push_batch(&mut Liar(items, lie));
                while consumer.pop_batch(usize::MAX, drop) > 0 {}
            }
        }
        assert_eq!(live.get(), 0, "each item is dropped once");

        let (mut producer, mut consumer) = $ring;
        for number in 0..4 {
            assert!(producer.push_deferred(Item::new(number, &live)).is_ok());
        }
        mem::forget(producer);
        mem::forget(consumer.drain());
        drop(consumer);
        assert_eq!(live.get(), 4, "what was never shown is leaked with the producer");
    }};
}

#[test]
fn iterators_and_closures_break_nothing() {
    iterators!(spsc::ring::<Item>(4));
    iterators!(spsc::ring_in::<Item, Padded>(4));
    iterators!(spmc::ring::<Item>(4));
    iterators!(spmc::ring_in::<Item, Padded>(4));
    iterators!({
        let mut consumer = rings::ring::<Item>(4);
        (consumer.add_producer(), consumer)
    });
    iterators!(shared::ring::<Item>(4));
    iterators!(shared::ring_in::<Item, Padded>(4));
}

/// Pushes to its own ring when it is dropped, if there is anybody there.
struct Pushes(Option<shared::Producer<Self>>, Rc<Cell<usize>>);

impl Drop for Pushes {
    fn drop(&mut self) {
        self.1.set(self.1.get() + 1);
        if let Some(mut producer) = self.0.take() {
            for _ in 0..9 {
                may_break(|| producer.push(Self(None, Rc::clone(&self.1))).is_ok());
            }
        }
    }
}

/// Empties its own ring when it is dropped.
struct Pops(Option<spmc::Consumer<Self>>, Rc<Cell<usize>>);

impl Drop for Pops {
    fn drop(&mut self) {
        self.1.set(self.1.get() + 1);
        if let Some(mut consumer) = self.0.take() {
            while consumer.pop().is_ok() {}
        }
    }
}

#[test]
fn items_may_own_ends_of_their_own_ring() {
    let dropped = Rc::default();
    let (mut producer, consumer) = shared::ring::<Pushes>(2);
    for _ in 0..4 {
        let own = producer.clone();
        assert!(producer.push(Pushes(Some(own), Rc::clone(&dropped))).is_ok());
    }
    drop(producer);
    drop(consumer);
    assert_eq!(dropped.get(), 4 + 4 * 9, "what a destructor pushes is dropped too");

    let dropped = Rc::default();
    let (mut producer, consumer) = spmc::ring::<Pops>(4);
    for _ in 0..4 {
        let own = consumer.clone();
        assert!(producer.push(Pops(Some(own), Rc::clone(&dropped))).is_ok());
    }
    drop(consumer);
    let mut last = producer.push(Pops(None, Rc::clone(&dropped))).err().map(|e| e.into_inner());
    assert_eq!(dropped.get(), 0, "the ring keeps itself alive: full, with four consumers");
    last.take();
    drop(producer);
    assert_eq!(dropped.get(), 1);
}

/// A credit that outlives its ring may be taken for one of a ring at the same address. It proves
/// nothing there, and whatever is refused or put off, no item is lost or doubled.
#[test]
fn credits_of_a_ring_that_is_gone_do_no_harm() {
    for _ in 0..50 {
        let mut old = shared::credited::<Box<usize>>(2).1.credits(2);
        let (mut worker, mut main) = shared::credited::<Box<usize>>(2);
        let mut credits = main.credits(2);
        assert_eq!(worker.push_batch(&mut credits, &mut (0..2).map(Box::new)), 2);
        // Another ring by its address, or by luck this one.
        may_break(|| worker.push_batch(&mut old, &mut (2..4).map(Box::new)));
        let mut got = Vec::new();
        for _ in 0..4 {
            main.pop_batch(4, |item| got.push(*item));
            worker.commit();
        }
        assert!(got == [0, 1] || got == [0, 1, 2, 3], "{got:?}");
    }
}
