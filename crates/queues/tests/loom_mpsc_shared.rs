//! Loom models of the ring that producers share: reservation, ticket, pending list, orphans;
//! credits in a file of their own.
#![cfg(loom)]
#![expect(unsafe_code, reason = "loom's cells are read through raw pointers")]

#[path = "loom_shared/credits.rs"]
mod credits;
mod loom_support;
#[path = "loom_support/park.rs"]
mod park;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use flintlock_queues::mpsc::shared;
use flintlock_queues::sync::Edge;
use flintlock_queues::{Index, Layout, Padded, PopError};
use loom::thread;
use loom_support::{
    Cells, Item, Laps, Ledger, Roles, assert_mutants_caught, explore, pop_within, push_within,
};
use park::park;

const NEAR_WRAP: usize = usize::MAX - 2;

/// Takes everything that is left, and checks that the items of each producer (tens: 0 and 10) came
/// in order and completely.
fn assert_all_arrived<L: Layout<Item>>(
    mut got: Vec<usize>,
    consumer: &mut shared::Consumer<Item, L>,
    counts: [usize; 2],
) {
    let closed = loop {
        match consumer.pop() {
            Ok(item) => got.push(item.read()),
            Err(reason) => break reason,
        }
    };
    assert_eq!(closed, PopError::Closed, "both producers are gone; got {got:?}");
    for (producer, count) in counts.into_iter().enumerate() {
        let of_producer = got.iter().copied().filter(|number| number / 10 == producer);
        assert!(of_producer.eq((0..count).map(|n| 10 * producer + n)), "{counts:?}: {got:?}");
    }
}

/// Two producers go round the ring; what finds no room waits, and is left behind at the end.
fn stream<L: Layout<Item>>(name: &str, items: usize) {
    for roles in Roles::BOTH {
        explore(&format!("{name} {roles:?}"), move || {
            let ledger = Ledger::default();
            let (mut one, mut consumer) = shared::ring_at::<Item, L>(2, NEAR_WRAP);
            let mut two = one.clone();
            let (source, other_source) = (ledger.clone(), ledger.clone());
            let second = thread::spawn(move || {
                drop(push_within(1, other_source.payload(10), |item| two.push(item)));
            });
            let ((), (got, mut consumer)) = roles.run(
                move || {
                    for number in 0..items {
                        let pushed = push_within(1, source.payload(number), |i| one.push(i));
                        pushed.expect("the list takes what the ring does not");
                    }
                },
                move || (pop_within(2, || consumer.pop()), consumer),
            );
            second.join().expect("no panic");
            assert_all_arrived(got, &mut consumer, [items, 1]);
            drop(consumer);
            ledger.assert_settled();
        });
    }
}

#[test]
fn loom_shared_stream_laps() {
    stream::<Laps>("stream laps", 2);
}

#[test]
fn loom_shared_stream_cells() {
    stream::<Cells>("stream cells", 2);
}

/// Cells on lines of their own differ in their addresses only, and are built here once.
#[test]
fn loom_shared_stream_padded() {
    stream::<Padded>("stream padded", 2);
}

/// One thread has both producers and both fill the ring; the consumer makes room for the tickets
/// over two laps.
fn laps_of_one_thread<L: Layout<Item>>(name: &str) {
    for roles in Roles::BOTH {
        explore(&format!("{name} {roles:?}"), move || {
            let ledger = Ledger::default();
            let (mut one, mut consumer) = shared::ring_at::<Item, L>(2, NEAR_WRAP);
            let mut two = one.clone();
            let source = ledger.clone();
            let ((), (got, mut consumer)) = roles.run(
                move || {
                    for number in 0..2 {
                        one.push(source.payload(number)).expect("ring or list");
                        two.push(source.payload(10 + number)).expect("ring or list");
                    }
                    one.commit();
                    two.commit();
                },
                move || (pop_within(3, || consumer.pop()), consumer),
            );
            assert_all_arrived(got, &mut consumer, [2, 2]);
            drop(consumer);
            ledger.assert_settled();
        });
    }
}

#[test]
fn loom_shared_laps_of_one_thread_laps() {
    laps_of_one_thread::<Laps>("one thread laps");
}

#[test]
fn loom_shared_laps_of_one_thread_cells() {
    laps_of_one_thread::<Cells>("one thread cells");
}

/// Two producers race for the last slot: one gets a ticket, and goes with it. Its slot is used by
/// the consumer in its name, and by others in the next lap.
fn ticket_left_behind<L: Layout<Item>>(name: &str) {
    for roles in Roles::BOTH {
        explore(&format!("{name} {roles:?}"), move || {
            let ledger = Ledger::default();
            let (mut one, mut consumer) = shared::ring_at::<Item, L>(2, NEAR_WRAP);
            let mut two = one.clone();
            one.push(ledger.payload(0)).expect("room");
            let (item, other) = (ledger.payload(1), ledger.payload(10));
            // Not a moment of room is made meanwhile.
            roles.run(
                move || one.push(item).expect("ring or list"),
                move || two.push(other).expect("ring or list"),
            );
            assert_eq!(pop_within(1, || consumer.pop()), [0]);
            let mut rest = pop_within(2, || consumer.pop());
            rest.sort_unstable();
            assert_eq!(rest, [1, 10]);
            assert_eq!(consumer.pop().map(drop), Err(PopError::Closed));
            drop(consumer);
            ledger.assert_settled();
        });
    }
}

#[test]
fn loom_shared_ticket_left_behind_laps() {
    ticket_left_behind::<Laps>("ticket laps");
}

#[test]
fn loom_shared_ticket_left_behind_cells() {
    ticket_left_behind::<Cells>("ticket cells");
}

/// A producer leaves a full list behind while the consumer takes; whoever is told `Closed` has
/// everything.
fn leave_with_pending<L: Layout<Item>>(name: &str) {
    for roles in Roles::BOTH {
        explore(&format!("{name} {roles:?}"), move || {
            let ledger = Ledger::default();
            let (mut producer, mut consumer) = shared::ring_at::<Item, L>(2, NEAR_WRAP);
            let source = ledger.clone();
            roles.run(
                move || {
                    let mut items = (0..2).map(|number| source.payload(number));
                    assert_eq!(producer.push_batch(&mut items), 2, "both fit");
                    // Loom counts what was written since an operation to that operation. Behind a
                    // load, the third payload is published by nothing but what carries it.
                    if !producer.is_closed() {
                        drop(producer.push(source.payload(2)));
                    }
                },
                move || {
                    let mut got = Vec::new();
                    for _ in 0..5 {
                        match consumer.pop() {
                            Ok(item) => got.push(item.read()),
                            Err(PopError::Empty) => thread::yield_now(),
                            Err(PopError::Closed) => {
                                assert_eq!(got, [0, 1, 2], "closed only when all is taken");
                                return;
                            }
                        }
                    }
                },
            );
            ledger.assert_settled();
        });
    }
}

#[test]
fn loom_shared_leave_with_pending_laps() {
    leave_with_pending::<Laps>("leave laps");
}

#[test]
fn loom_shared_leave_with_pending_cells() {
    leave_with_pending::<Cells>("leave cells");
}

/// The consumer goes first, with the ring full and more pending.
fn consumer_leaves<L: Layout<Item>>(name: &str) {
    for roles in Roles::BOTH {
        explore(&format!("{name} {roles:?}"), move || {
            let ledger = Ledger::default();
            let (mut producer, mut consumer) = shared::ring_at::<Item, L>(2, NEAR_WRAP);
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
fn loom_shared_consumer_leaves_laps() {
    consumer_leaves::<Laps>("consumer leaves laps");
}

#[test]
fn loom_shared_consumer_leaves_cells() {
    consumer_leaves::<Cells>("consumer leaves cells");
}

/// Two producers each copy as much as the ring holds; what one of them does not get in waits, and
/// all arrives, in order of its producer.
fn slices<L: Layout<Index>>(name: &str) {
    for roles in Roles::BOTH {
        explore(&format!("{name} {roles:?}"), move || {
            let (mut one, mut consumer) = shared::ring_at::<Index, L>(2, NEAR_WRAP);
            let mut two = one.clone();
            let items = |first: usize| [Index::new(first), Index::new(first + 1)];
            let second = thread::spawn(move || assert_eq!(two.push_slice(&items(10)), 2));
            let ((), (mut got, mut consumer)) = roles.run(
                move || assert_eq!(one.push_slice(&items(0)), 2),
                move || {
                    let mut got = [Index::MAX; 2];
                    let count = consumer.pop_slice(&mut got);
                    (got[..count].to_vec(), consumer)
                },
            );
            second.join().expect("no panic");
            got.extend(consumer.drain());
            assert_eq!(consumer.pop(), Err(PopError::Closed));
            for first in [0, 10] {
                let of_producer = got.iter().filter(|item| item.value() / 10 == first / 10);
                assert!(of_producer.eq(&items(first)), "{got:?}");
            }
        });
    }
}

#[test]
fn loom_shared_slices_laps() {
    slices::<Laps>("slices laps");
}

#[test]
fn loom_shared_slices_cells() {
    slices::<Cells>("slices cells");
}

const R4: Edge = Edge::new("R4");

/// A sleeping consumer and a committing producer: no wake-up is lost.
fn park_on_commit<L: Layout<Item>>(name: &str) {
    let act = |mut producer: shared::Producer<Item, L>| {
        producer.push(Ledger::default().payload(0)).expect("room");
        producer.commit();
        Some(producer)
    };
    let may_sleep = |consumer: &shared::Consumer<Item, L>| consumer.is_empty();
    park(name, R4, || shared::ring_at(2, 0), act, may_sleep);
}

#[test]
fn loom_shared_park_laps() {
    park_on_commit::<Laps>("park laps");
}

#[test]
fn loom_shared_park_cells() {
    park_on_commit::<Cells>("park cells");
}

/// A sleeping consumer and a producer that goes: the close is not lost either.
fn park_on_close<L: Layout<Item>>(name: &str) {
    let act = |producer: shared::Producer<Item, L>| {
        drop(producer);
        None
    };
    let may_sleep = |end: &shared::Consumer<Item, L>| end.is_empty() && !end.is_closed();
    park(name, R4, || shared::ring_at(2, 0), act, may_sleep);
}

#[test]
fn loom_shared_park_on_close_laps() {
    park_on_close::<Laps>("park on close laps");
}

#[test]
fn loom_shared_park_on_close_cells() {
    park_on_close::<Cells>("park on close cells");
}

/// One item, and a panic.
fn breaks_off() -> impl Iterator<Item = Item> {
    (0..2).map(|number| match number {
        0 => Ledger::default().payload(0),
        _ => resume_unwind(Box::new("no more")),
    })
}

/// A batch whose iterator panics has accepted what came before, and the commit behind it publishes
/// that; its fence is due as for any other.
#[test]
fn loom_shared_park_on_broken_batch() {
    let act = |mut producer: shared::Producer<Item, Laps>| {
        let broken = catch_unwind(AssertUnwindSafe(|| producer.push_batch(&mut breaks_off())));
        assert!(broken.is_err() && producer.pending() == 1);
        producer.commit();
        Some(producer)
    };
    let may_sleep = |consumer: &shared::Consumer<Item, Laps>| consumer.is_empty();
    park("park on broken batch", R4, || shared::ring_at(2, 0), act, may_sleep);
}

#[test]
fn loom_shared_mutants_are_caught() {
    assert_mutants_caught(&[
        ("L1.release", "loom_shared_stream_laps"),
        ("L1.acquire", "loom_shared_stream_laps"),
        ("C1.release", "loom_shared_stream_cells"),
        ("C1.acquire", "loom_shared_stream_cells"),
        ("R1.release", "loom_shared_laps_of_one_thread_cells"),
        ("R1.acquire", "loom_shared_laps_of_one_thread_cells"),
        ("R2.release", "loom_shared_leave_with_pending_laps"),
        ("R2.acquire", "loom_shared_leave_with_pending_laps"),
        ("R3.release", "loom_shared_leave_with_pending_laps"),
        ("R3.acquire", "loom_shared_leave_with_pending_laps"),
        ("R4.commit", "loom_shared_park_laps"),
        ("R4.park", "loom_shared_park_laps"),
        ("R4.drop", "loom_shared_park_on_close_laps"),
        ("R4.park", "loom_shared_park_on_close_laps"),
    ]);
}
