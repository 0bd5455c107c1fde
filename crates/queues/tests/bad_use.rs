//! What the documentation refuses is refused. Misuse that the type system refuses stands as
//! `compile_fail` examples beside the items: a second producer or consumer, a credit used twice,
//! too little alignment (`Tagged`, `tagged!`, `Words`), too many kinds.
#![cfg(not(any(loom, shuttle)))]

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use flintlock_queues::mpsc::{rings, shared};
use flintlock_queues::{Compact, Index, Padded, PopError, PushError, Tagged, Words, spmc, spsc};

/// The message of the panic that `work` ends with.
fn panic_of<R>(work: impl FnOnce() -> R) -> String {
    let result = catch_unwind(AssertUnwindSafe(work));
    let payload = result.err().expect("a refusal by panic");
    let text = payload.downcast_ref::<String>().cloned();
    text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .expect("a panic with a message")
}

#[test]
fn capacities_below_two_are_refused() {
    type Make = fn(usize);
    let makers: [Make; 9] = [
        |capacity| drop(spsc::ring::<u8>(capacity)),
        |capacity| drop(spsc::ring_in::<Index, Words>(capacity)),
        |capacity| drop(spmc::ring::<u8>(capacity)),
        |capacity| drop(spmc::ring_in::<u8, Padded>(capacity)),
        |capacity| drop(rings::ring::<u8>(capacity)),
        |capacity| drop(rings::ring_in::<Index, Words>(capacity)),
        |capacity| drop(shared::ring::<u8>(capacity)),
        |capacity| drop(shared::credited::<u8>(capacity)),
        |capacity| drop(shared::credited_in::<Index, Words>(capacity)),
    ];
    for make in makers {
        for capacity in [0, 1] {
            let message = panic_of(|| make(capacity));
            assert_eq!(message, format!("the capacity of a ring is at least 2, not {capacity}"));
        }
        assert_eq!(panic_of(|| make(usize::MAX)), "capacity overflow");
        make(2);
    }
}

#[test]
fn capacities_are_rounded_up_to_powers_of_two() {
    for (asked, given) in [(2, 2), (3, 4), (4, 4), (5, 8), (1000, 1024), (1025, 2048)] {
        assert_eq!(spsc::ring::<u8>(asked).0.capacity(), given);
        assert_eq!(spmc::ring_in::<Index, Words>(asked).1.capacity(), given);
        assert_eq!(rings::ring::<u8>(asked).capacity(), given);
        assert_eq!(shared::ring_in::<u8, Padded>(asked).0.capacity(), given);
    }
}

#[test]
fn popping_after_close_is_an_error_of_its_own() {
    let (mut producer, mut consumer) = spsc::ring::<u8>(2);
    assert_eq!(consumer.pop(), Err(PopError::Empty));
    producer.push_deferred(1).expect("room");
    drop(producer);
    assert_eq!(consumer.pop(), Ok(1), "what was deferred is published on the way out");
    for _ in 0..3 {
        assert_eq!(consumer.pop(), Err(PopError::Closed));
        assert_eq!(consumer.pop_batch(4, drop), 0);
    }

    let (producer, mut consumer) = spmc::ring_in::<Index, Words>(2);
    drop(producer);
    assert_eq!(consumer.pop(), Err(PopError::Closed));
    assert_eq!(consumer.clone().pop(), Err(PopError::Closed));

    let mut consumer = rings::ring::<u8>(2);
    assert_eq!(consumer.pop(), Err(PopError::Closed), "no producer yet");
    let producer = consumer.add_producer();
    assert_eq!(consumer.pop(), Err(PopError::Empty));
    drop(producer);
    assert_eq!(consumer.pop(), Err(PopError::Closed));

    let (producer, mut consumer) = shared::ring::<u8>(2);
    let other = producer.clone();
    drop(producer);
    assert_eq!(consumer.pop(), Err(PopError::Empty));
    drop(other);
    assert_eq!(consumer.pop(), Err(PopError::Closed));
}

#[test]
fn pushing_without_a_consumer_ends_in_closed() {
    let (mut producer, consumer) = spsc::ring::<u32>(4);
    drop(consumer);
    assert!(producer.is_closed(), "told at any time");
    let refused = (0..10).find_map(|item| producer.push(item).err()).expect("room ends");
    assert_eq!(refused, PushError::Closed(4), "by the end of the room that was known");
    assert!(refused.is_closed() && !refused.is_full());

    let (mut producer, consumer) = spmc::ring::<u32>(4);
    let other = consumer.clone();
    drop(consumer);
    assert!(!producer.is_closed());
    drop(other);
    assert!(producer.is_closed());
    let refused = (0..10).find_map(|item| producer.push(item).err()).expect("room ends");
    assert!(refused.is_closed());

    let mut consumer = rings::ring::<u32>(4);
    let mut producer = consumer.add_producer();
    drop(consumer);
    let refused = (0..10).find_map(|item| producer.push(item).err()).expect("room ends");
    assert!(refused.is_closed());

    let (mut producer, consumer) = shared::ring::<u32>(4);
    drop(consumer);
    let refused = (0..10).find_map(|item| producer.push(item).err()).expect("room ends");
    assert!(refused.is_closed());
    let refused = (0..10).find_map(|item| producer.push_deferred(item).err());
    assert!(refused.is_none_or(|refused| refused.is_closed()));
}

/// A batch has no way to say `Closed`, but it takes nothing that nobody will ever take.
#[test]
fn batches_to_a_closed_shared_ring_take_nothing() {
    let (mut producer, consumer) = shared::ring::<u32>(4);
    drop(consumer);
    assert_eq!(producer.push_slice(&[1, 2]), 0);
    let mut items = 1..3;
    assert_eq!(producer.push_batch(&mut items), 0);
    assert_eq!(items, 1..3, "and nothing out of the iterator");
    assert!(producer.is_closed() && producer.is_empty());
}

#[test]
fn a_full_list_refuses_and_changes_nothing() {
    let (mut producer, mut consumer) = shared::ring::<u32>(2);
    for item in 0..4 {
        producer.push(item).expect("two in the ring, two in the list");
    }
    assert_eq!(producer.push(4), Err(PushError::Full(4)));
    assert_eq!(producer.push_deferred(4), Err(PushError::Full(4)));
    assert_eq!(producer.push_slice(&[4, 5]), 0);
    assert_eq!(producer.push_batch(&mut [4, 5].into_iter()), 0);
    assert_eq!((producer.len(), producer.pending()), (4, 2));
    let mut got = Vec::new();
    for _ in 0..4 {
        got.extend(consumer.pop());
        producer.commit();
    }
    assert_eq!(got, [0, 1, 2, 3]);
}

/// Who counts its items has room when the call that took them is over, not while it hands them on.
#[test]
fn room_of_a_batch_comes_back_at_its_end() {
    let mut consumer = rings::ring::<u32>(2);
    let mut producer = consumer.add_producer();
    assert_eq!(producer.push_slice(&[0, 1]), 2);
    let taken = consumer.pop_batch(2, |_| {
        assert_eq!(producer.push(2), Err(PushError::Full(2)));
    });
    assert_eq!(taken, 2);
    assert_eq!(producer.push_slice(&[2, 3]), 2);
}

#[test]
fn rings_too_large_are_refused_when_they_are_allocated() {
    let mut consumer = rings::ring::<u32>(1 << (usize::BITS - 1));
    assert!(panic_of(|| consumer.add_producer()).starts_with("capacity overflow"));
    assert_eq!((consumer.producers(), consumer.pop()), (0, Err(PopError::Closed)));
}

#[test]
fn credits_are_for_their_own_ring() {
    let (mut worker, mut main) = shared::credited::<u32>(2);
    let (mut stranger, mut other_main) = shared::credited::<u32>(2);
    let credit = main.credit().expect("an empty ring gives credit");
    let message = panic_of(|| stranger.push(credit, 1));
    assert!(message.contains("the credit is for another ring"), "{message}");
    let credit = main.credit().expect("the second one");
    let message = panic_of(|| other_main.refund(credit));
    assert!(message.contains("the credit is for another ring"), "{message}");
    assert!(main.credit().is_none(), "both credits are gone with the panics");
    assert_eq!(main.pop(), Err(PopError::Empty), "and nothing was reserved");

    let credit = other_main.credit().expect("nothing was taken from this one");
    other_main.refund(credit);
    assert_eq!(other_main.given(), 0);
    worker.commit();
}

#[test]
fn batches_of_credits_are_for_their_own_ring() {
    let (mut worker, mut main) = shared::credited::<u32>(4);
    let (mut stranger, mut other_main) = shared::credited::<u32>(4);
    let (mut credits, mut items) = (main.credits(3), 1..4);
    let panics = [
        panic_of(|| stranger.push_batch(&mut credits, &mut items)),
        panic_of(|| stranger.push_slice(&mut credits, &[1, 2])),
        panic_of(|| credits.add(other_main.credit().expect("an empty ring gives credit"))),
    ];
    for message in panics {
        assert!(message.contains("the credit is for another ring"), "{message}");
    }
    assert_eq!((credits.len(), items.clone()), (3, 1..4), "nothing was taken from either");
    assert_eq!(other_main.pop(), Err(PopError::Empty), "and nothing was reserved");
    assert_eq!(worker.push_batch(&mut credits, &mut items), 3);
    assert!(credits.take().is_none());
    // Empty ones are for any ring.
    assert_eq!(stranger.push_batch(&mut credits, &mut (1..4)), 0);
    credits.add(other_main.credit().expect("three are left"));
    assert_eq!(stranger.push_slice(&mut credits, &[1, 2]), 1);
    main.refund(shared::Credits::default());
    assert_eq!((main.given(), other_main.pop()), (3, Ok(1)));
}

#[test]
fn kinds_and_indices_have_limits() {
    assert!(panic_of(|| Tagged::<Index, 4>::new(4, Index::new(0))).contains("kind 4"));
    assert!(Tagged::<Index, 4>::new(3, Index::MAX).into_parts() == (3, Index::MAX));
    let message = panic_of(|| Index::new(Index::MAX.value() + 1));
    assert!(message.contains("does not fit"), "{message}");
}

/// An iterator that panics in the middle of a batch: what came before is in the ring, in order,
/// and the ring goes on.
#[test]
fn a_panic_in_a_batch_loses_nothing_that_was_pushed() {
    let (mut producer, mut consumer) = spsc::ring_in::<Box<u32>, Compact>(8);
    let mut items = (0..8).map(|item| if item == 3 { panic!("three") } else { Box::new(item) });
    assert_eq!(panic_of(|| producer.push_batch(&mut items)), "three");
    producer.push(Box::new(100)).expect("room");
    let mut got = Vec::new();
    let panicked = panic_of(|| {
        consumer.pop_batch(8, |item| {
            got.push(*item);
            assert_ne!(*item, 1, "one");
        });
    });
    assert!(panicked.contains("one"));
    assert_eq!(consumer.pop_batch(8, |item| got.push(*item)), 2);
    assert_eq!(got, [0, 1, 2, 100]);
    assert_eq!(producer.push_batch(&mut (0..9).map(Box::new)), 8, "all room was given back");

    // Claimed by several consumers: the rest of a claim is dropped with the panic.
    let (mut producer, mut consumer) = spmc::ring_in::<Box<u32>, Words>(8);
    assert_eq!(producer.push_batch(&mut (0..6).map(Box::new)), 6);
    let panicked = panic_of(|| consumer.pop_batch(4, |_| panic!("first")));
    assert_eq!(panicked, "first");
    assert_eq!(consumer.pop(), Ok(Box::new(4)));
    assert_eq!(producer.len(), 1);
}

/// A ring that is dropped drops all that is in it, also behind a destructor that panics.
#[test]
fn a_panic_in_a_destructor_leaks_nothing() {
    struct Counted(Rc<Cell<u32>>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
            assert_ne!(self.0.get(), 2, "the second");
        }
    }
    type Make = fn(&mut dyn Iterator<Item = Counted>);
    // The producer goes last, so that the items are left for the ring's own drop.
    let rings: [Make; 3] = [
        |mut items| {
            let (mut producer, consumer) = spsc::ring::<Counted>(4);
            drop(consumer);
            assert_eq!(producer.push_batch(&mut items), 4);
        },
        |mut items| {
            let (mut producer, consumer) = spmc::ring::<Counted>(4);
            drop(consumer);
            assert_eq!(producer.push_batch(&mut items), 4);
        },
        |items| {
            let (mut producer, consumer) = shared::ring::<Counted>(4);
            drop(consumer);
            items.for_each(|item| producer.push(item).expect("room that was known"));
        },
    ];
    for ring in rings {
        let dropped = Rc::default();
        let mut items = (0..4).map(|_| Counted(Rc::clone(&dropped)));
        let message = panic_of(|| ring(&mut items));
        assert!(message.contains("the second"), "{message}");
        assert_eq!(dropped.get(), 4, "those behind it too");
    }
}
