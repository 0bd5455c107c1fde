//! Loom models of the many-producer queues.
#![cfg(loom)]
#![expect(unsafe_code, reason = "loom's cells are read through raw pointers")]

mod loom_support;
#[path = "loom_support/park.rs"]
mod park;

use flintlock_queues::sync::{AtomicBool, Edge, Ordering};
use flintlock_queues::{Layout, Padded, PopError, mpsc::rings};
use loom::sync::Arc;
use loom::thread;
use loom_support::{
    Cells, Item, Laps, Ledger, Roles, assert_mutants_caught, explore, pop_within, push_within,
};
use park::park;

const NEAR_WRAP: usize = usize::MAX - 2;

/// The items of the producer with even numbers and those of the one with odd numbers are each in
/// order, and together they are `evens` and `odds` many.
fn assert_both_in_order(all: &[usize], evens: usize, odds: usize) {
    let of = |parity| all.iter().copied().filter(move |number| number % 2 == parity);
    assert!(of(0).eq((0..evens).map(|n| 2 * n)), "evens of {all:?}");
    assert!(of(1).eq((0..odds).map(|n| 2 * n + 1)), "odds of {all:?}");
}

/// Two rings, one filled beyond its capacity, against a popping consumer. One thread has both
/// producers: what they do to each other is the same, and the model finishes.
fn rings_stream<L: Layout<Item>>(name: &str) {
    for roles in Roles::BOTH {
        explore(&format!("{name} {roles:?}"), move || {
            let ledger = Ledger::default();
            let mut consumer = rings::ring_at::<Item, L>(2, NEAR_WRAP - 3);
            let (mut even, mut odd) = (consumer.add_producer(), consumer.add_producer());
            // More than a lap before the threads part, so that these go round for the second time.
            for number in 100..103 {
                even.push(ledger.payload(number)).expect("room");
                assert_eq!(consumer.pop().map(|item| item.read()), Ok(number));
            }
            let source = ledger.clone();
            let (evens, (mut all, mut consumer)) = roles.run(
                move || {
                    let mut pushed = 0;
                    for number in 0..3 {
                        let item = source.payload(2 * number);
                        if push_within(1, item, |item| even.push(item)).is_err() {
                            break;
                        }
                        pushed += 1;
                        if number == 1 {
                            odd.push(source.payload(1)).expect("room");
                        }
                    }
                    pushed
                },
                move || (pop_within(2, || consumer.pop()), consumer),
            );
            while let Ok(item) = consumer.pop() {
                all.push(item.read());
            }
            assert_eq!(consumer.pop().map(drop), Err(PopError::Closed));
            assert_both_in_order(&all, evens, usize::from(evens >= 2));
            ledger.assert_settled();
        });
    }
}

/// Two producers on threads of their own and a consumer that takes batches.
fn rings_two_threads<L: Layout<Item>>(name: &str) {
    for roles in Roles::BOTH {
        explore(&format!("{name} {roles:?}"), move || {
            let ledger = Ledger::default();
            let mut consumer = rings::ring_at::<Item, L>(2, NEAR_WRAP);
            let (mut even, mut odd) = (consumer.add_producer(), consumer.add_producer());
            let (item, other) = (ledger.payload(0), ledger.payload(1));
            let second = thread::spawn(move || {
                odd.push(other).expect("room");
                odd
            });
            let (_even, (mut all, mut consumer)) = roles.run(
                move || {
                    even.push(item).expect("room");
                    even
                },
                move || {
                    let mut all = Vec::new();
                    consumer.pop_batch(2, |item| all.push(item.read()));
                    (all, consumer)
                },
            );
            let _odd = second.join().expect("no panic");
            consumer.pop_batch(2, |item| all.push(item.read()));
            assert_both_in_order(&all, 1, 1);
            ledger.assert_settled();
        });
    }
}

#[test]
fn loom_mpsc_rings_two_threads_laps() {
    rings_two_threads::<Laps>("two threads laps");
}

#[test]
fn loom_mpsc_rings_two_threads_cells() {
    rings_two_threads::<Cells>("two threads cells");
}

/// Cells on lines of their own differ in their addresses only, and are built here once.
#[test]
fn loom_mpsc_rings_two_threads_padded() {
    rings_two_threads::<Padded>("two threads padded");
}

#[test]
fn loom_mpsc_rings_stream_laps() {
    rings_stream::<Laps>("rings laps");
}

#[test]
fn loom_mpsc_rings_stream_cells() {
    rings_stream::<Cells>("rings cells");
}

/// Ready bits are set and cleared around the same item; whatever they say, it arrives.
fn rings_announced<L: Layout<Item>>(name: &str) {
    for roles in Roles::BOTH {
        explore(&format!("{name} {roles:?}"), move || {
            let ledger = Ledger::default();
            let mut consumer = rings::ring_at::<Item, L>(2, NEAR_WRAP);
            let (mut producer, _idle) = (consumer.add_producer(), consumer.add_producer());
            let source = ledger.clone();
            let (_producer, (mut all, mut consumer)) = roles.run(
                move || {
                    for number in 0..2 {
                        producer.push(source.payload(2 * number)).expect("room");
                        producer.commit();
                    }
                    producer
                },
                move || (pop_within(2, || consumer.pop()), consumer),
            );
            while let Ok(item) = consumer.pop() {
                all.push(item.read());
            }
            assert_both_in_order(&all, 2, 0);
            ledger.assert_settled();
        });
    }
}

#[test]
fn loom_mpsc_rings_announced_laps() {
    rings_announced::<Laps>("announced laps");
}

#[test]
fn loom_mpsc_rings_announced_cells() {
    rings_announced::<Cells>("announced cells");
}

/// A producer leaves with items in its ring while another is added; nothing is lost, and the
/// entry of the one that left is used again.
fn rings_come_and_go<L: Layout<Item>>(name: &str) {
    for roles in Roles::BOTH {
        explore(&format!("{name} {roles:?}"), move || {
            let ledger = Ledger::default();
            let mut consumer = rings::ring_at::<Item, L>(2, NEAR_WRAP);
            let mut leaver = consumer.add_producer();
            let source = ledger.clone();
            let ((), (mut all, mut consumer, newcomer)) = roles.run(
                move || {
                    leaver.push(source.payload(0)).expect("room");
                    leaver.push_deferred(source.payload(2)).expect("room");
                },
                move || {
                    let mut all = pop_within(1, || consumer.pop());
                    let newcomer = consumer.add_producer();
                    all.extend(pop_within(1, || consumer.pop()));
                    (all, consumer, newcomer)
                },
            );
            let mut newcomer = newcomer;
            newcomer.push(ledger.payload(1)).expect("room");
            all.extend(pop_within(4, || consumer.pop()));
            assert_both_in_order(&all, 2, 1);
            assert_eq!(consumer.producers(), 1, "the ring of the one that left is gone");
            drop(newcomer);
            assert_eq!(consumer.pop().map(drop), Err(PopError::Closed));
            ledger.assert_settled();
        });
    }
}

#[test]
fn loom_mpsc_rings_come_and_go_laps() {
    rings_come_and_go::<Laps>("come and go laps");
}

#[test]
fn loom_mpsc_rings_come_and_go_cells() {
    rings_come_and_go::<Cells>("come and go cells");
}

/// The consumer leaves with full rings behind it; each item is dropped once.
fn rings_leave_while_full<L: Layout<Item>>(name: &str) {
    for roles in Roles::BOTH {
        explore(&format!("{name} {roles:?}"), move || {
            let ledger = Ledger::default();
            let mut consumer = rings::ring_at::<Item, L>(2, NEAR_WRAP);
            let mut producer = consumer.add_producer();
            producer.push(ledger.payload(0)).expect("room");
            producer.push(ledger.payload(1)).expect("room");
            let source = ledger.clone();
            roles.run(
                move || drop(producer.push(source.payload(2))),
                move || assert_eq!(pop_within(1, || consumer.pop()), [0]),
            );
            ledger.assert_settled();
        });
    }
}

#[test]
fn loom_mpsc_rings_leave_while_full_laps() {
    rings_leave_while_full::<Laps>("leave laps");
}

#[test]
fn loom_mpsc_rings_leave_while_full_cells() {
    rings_leave_while_full::<Cells>("leave cells");
}

const F1: Edge = Edge::new("F1");

/// A sleeping consumer and two committing producers: no wake-up is lost.
fn rings_park<L: Layout<Item>>(name: &str) {
    for roles in Roles::BOTH {
        explore(&format!("{name} {roles:?}"), move || {
            let ledger = Ledger::default();
            let mut consumer = rings::ring_at::<Item, L>(2, 0);
            let (mut one, mut two) = (consumer.add_producer(), consumer.add_producer());
            let sleeps = Arc::new(AtomicBool::new(false));
            let (seen, seen_too) = (Arc::clone(&sleeps), Arc::clone(&sleeps));
            let (item, other) = (ledger.payload(0), ledger.payload(1));
            let second = thread::spawn(move || {
                two.push(other).expect("room");
                two.commit();
                (seen_too.load(Ordering::Relaxed), two)
            });
            let ((woken, _one), (asleep, consumer)) = roles.run(
                move || {
                    one.push(item).expect("room");
                    one.commit();
                    (seen.load(Ordering::Relaxed), one)
                },
                move || {
                    sleeps.store(true, Ordering::Relaxed);
                    F1.fence("park");
                    (consumer.is_empty(), consumer)
                },
            );
            let (woken_too, _two) = second.join().expect("no panic");
            assert!(!asleep || (woken && woken_too), "asleep on an item and nobody wakes it");
            drop(consumer);
        });
    }
}

#[test]
fn loom_mpsc_rings_park_laps() {
    rings_park::<Laps>("rings park laps");
}

#[test]
fn loom_mpsc_rings_park_cells() {
    rings_park::<Cells>("rings park cells");
}

/// A sleeping consumer and a producer that goes: the close is not lost either.
fn rings_park_on_close<L: Layout<Item>>(name: &str) {
    let ring = || {
        let mut consumer = rings::ring_at::<Item, L>(2, 0);
        (consumer.add_producer(), consumer)
    };
    let act = |producer| {
        drop(producer);
        None
    };
    let may_sleep = |end: &rings::Consumer<Item, L>| end.is_empty() && !end.is_closed();
    park(name, F1, ring, act, may_sleep);
}

#[test]
fn loom_mpsc_rings_park_on_close_laps() {
    rings_park_on_close::<Laps>("rings park on close laps");
}

#[test]
fn loom_mpsc_rings_park_on_close_cells() {
    rings_park_on_close::<Cells>("rings park on close cells");
}

#[test]
fn loom_mpsc_mutants_are_caught() {
    assert_mutants_caught(&[
        ("L1.release", "loom_mpsc_rings_stream_laps"),
        ("L1.acquire", "loom_mpsc_rings_stream_laps"),
        ("C1.release", "loom_mpsc_rings_stream_cells"),
        ("C1.acquire", "loom_mpsc_rings_stream_cells"),
        ("S1.release", "loom_mpsc_rings_stream_cells"),
        ("S1.acquire", "loom_mpsc_rings_stream_cells"),
        ("S2.release", "loom_mpsc_rings_come_and_go_laps"),
        ("S2.acquire", "loom_mpsc_rings_come_and_go_laps"),
        ("F1.commit", "loom_mpsc_rings_park_laps"),
        ("F1.commit", "loom_mpsc_rings_park_cells"),
        ("F1.park", "loom_mpsc_rings_park_laps"),
        ("F1.park", "loom_mpsc_rings_park_cells"),
        ("F1.drop", "loom_mpsc_rings_park_on_close_laps"),
        ("F1.drop", "loom_mpsc_rings_park_on_close_cells"),
        ("F1.park", "loom_mpsc_rings_park_on_close_laps"),
        ("F1.park", "loom_mpsc_rings_park_on_close_cells"),
    ]);
}
