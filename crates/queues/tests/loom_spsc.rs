//! Loom models of the single-producer single-consumer ring.
#![cfg(loom)]
#![expect(unsafe_code, reason = "loom's cells are read through raw pointers")]

mod loom_support;
#[path = "loom_support/park.rs"]
mod park;

use flintlock_queues::sync::{AtomicBool, Edge, Ordering};
use flintlock_queues::{Layout, Padded, PopError, spsc};
use loom::sync::Arc;
use loom_support::{
    Cells, Item, Laps, Ledger, Roles, assert_mutants_caught, explore, pop_within, push_within,
};
use park::park;

/// Every index in the model lies around the wrap of the counters.
const NEAR_WRAP: usize = usize::MAX - 2;

/// Items cross one by one. `warm` items go through before the threads part, so that the ring has
/// been round and the counters wrap within the concurrent part.
fn stream<L: Layout<Item>>(name: &str, first: usize, warm: usize, items: usize) {
    stream_of::<L>(name, 2, first, warm, items);
}

/// As [`stream`], in a ring of `capacity`.
fn stream_of<L: Layout<Item>>(
    name: &str,
    capacity: usize,
    first: usize,
    warm: usize,
    items: usize,
) {
    for roles in Roles::BOTH {
        explore(&format!("{name} {roles:?}"), move || {
            let ledger = Ledger::default();
            let (mut producer, mut consumer) = spsc::ring_at::<Item, L>(capacity, first);
            for number in 0..warm {
                producer.push(ledger.payload(number)).expect("room");
                assert_eq!(consumer.pop().expect("an item").read(), number);
            }
            let source = ledger.clone();
            let (pushed, (mut got, mut consumer)) = roles.run(
                move || {
                    let mut pushed = warm;
                    for number in warm..warm + items {
                        let item = source.payload(number);
                        if push_within(2, item, |item| producer.push(item)).is_err() {
                            break;
                        }
                        pushed += 1;
                    }
                    pushed
                },
                move || (pop_within(items, || consumer.pop()), consumer),
            );
            got.extend(pop_within(capacity, || consumer.pop()));
            assert!(got.iter().copied().eq(warm..pushed), "all, once, in order: {got:?}");
            assert_eq!(consumer.pop().map(drop), Err(PopError::Closed));
            drop(consumer);
            // What did not fit was dropped by the producer.
            ledger.assert_settled();
        });
    }
}

#[test]
fn loom_spsc_stream_laps() {
    stream::<Laps>("stream laps", 0, 0, 5);
}

#[test]
fn loom_spsc_stream_cells() {
    stream::<Cells>("stream cells", 0, 0, 5);
}

#[test]
fn loom_spsc_stream_wraps_twice_laps() {
    stream::<Laps>("wrap laps", NEAR_WRAP, 1, 5);
}

#[test]
fn loom_spsc_stream_wraps_twice_cells() {
    stream::<Cells>("wrap cells", NEAR_WRAP, 1, 5);
}

/// A ring of four: nothing in the other models hangs on there being two slots.
#[test]
fn loom_spsc_stream_of_four() {
    stream_of::<Laps>("four laps", 4, NEAR_WRAP, 3, 5);
    stream_of::<Cells>("four cells", 4, NEAR_WRAP, 3, 5);
}

/// Cells on lines of their own differ in their addresses only, and are built here once.
#[test]
fn loom_spsc_stream_padded() {
    stream::<Padded>("padded", NEAR_WRAP, 1, 4);
}

/// Two deferred items appear after the commit began, and in order.
fn deferred<L: Layout<Item>>(name: &str) {
    for roles in Roles::BOTH {
        explore(&format!("{name} {roles:?}"), move || {
            let ledger = Ledger::default();
            let (mut producer, mut consumer) = spsc::ring_at::<Item, L>(2, NEAR_WRAP);
            let source = ledger.clone();
            let committed = Arc::new(AtomicBool::new(false));
            let about_to = Arc::clone(&committed);
            let ((), mut got) = roles.run(
                move || {
                    producer.push_deferred(source.payload(0)).expect("room");
                    producer.push_deferred(source.payload(1)).expect("room");
                    about_to.store(true, Ordering::Release);
                    producer.commit();
                },
                move || {
                    let early = pop_within(1, || consumer.pop());
                    assert!(
                        early.is_empty() || committed.load(Ordering::Acquire),
                        "nothing shows before the commit"
                    );
                    let rest = pop_within(3, || consumer.pop());
                    [early, rest].concat()
                },
            );
            got.dedup();
            assert!([0, 1].starts_with(&got), "in order: {got:?}");
            ledger.assert_settled();
        });
    }
}

#[test]
fn loom_spsc_deferred_laps() {
    deferred::<Laps>("deferred laps");
}

#[test]
fn loom_spsc_deferred_cells() {
    deferred::<Cells>("deferred cells");
}

/// A batch larger than the ring against batches of two; the rest stays with the producer.
fn batches<L: Layout<Item>>(name: &str) {
    for roles in Roles::BOTH {
        explore(&format!("{name} {roles:?}"), move || {
            let ledger = Ledger::default();
            let (mut producer, mut consumer) = spsc::ring_at::<Item, L>(2, NEAR_WRAP);
            let source = ledger.clone();
            let (pushed, got) = roles.run(
                move || {
                    let mut items = (0..4).map(|number| source.payload(number));
                    producer.push_batch(&mut items) + producer.push_batch(&mut items)
                },
                move || {
                    let mut got = Vec::new();
                    for _ in 0..2 {
                        consumer.pop_batch(2, |item| got.push(item.read()));
                    }
                    while let Ok(item) = consumer.pop() {
                        got.push(item.read());
                    }
                    got
                },
            );
            assert!(pushed >= 2 && (0..pushed).collect::<Vec<_>>().starts_with(&got), "{got:?}");
            ledger.assert_settled();
        });
    }
}

#[test]
fn loom_spsc_batches_laps() {
    batches::<Laps>("batches laps");
}

#[test]
fn loom_spsc_batches_cells() {
    batches::<Cells>("batches cells");
}

/// A batch takes lines ahead of it, in a ring from which the consumer takes: none that holds items.
fn batch_takes_lines<L: Layout<Item>>(name: &str) {
    for roles in Roles::BOTH {
        explore(&format!("{name} {roles:?}"), move || {
            let ledger = Ledger::default();
            let (mut producer, mut consumer) = spsc::ring_at::<Item, L>(4, usize::MAX - 3);
            for number in 0..4 {
                producer.push(ledger.payload(number)).expect("room");
            }
            let source = ledger.clone();
            let (pushed, (mut got, mut consumer)) = roles.run(
                move || {
                    let mut items = (4..6).map(|number| source.payload(number));
                    producer.push_batch(&mut items) + producer.push_batch(&mut items)
                },
                move || (pop_within(4, || consumer.pop()), consumer),
            );
            got.extend(pop_within(3, || consumer.pop()));
            assert!(got.iter().copied().eq(0..4 + pushed), "all, once, in order: {got:?}");
            ledger.assert_settled();
        });
    }
}

#[test]
fn loom_spsc_batch_takes_lines_laps() {
    batch_takes_lines::<Laps>("lines laps");
}

#[test]
fn loom_spsc_batch_takes_lines_cells() {
    batch_takes_lines::<Cells>("lines cells");
}

/// Whoever is told `Closed` has everything; nobody is told too early.
fn close<L: Layout<Item>>(name: &str) {
    for roles in Roles::BOTH {
        explore(&format!("{name} {roles:?}"), move || {
            let ledger = Ledger::default();
            let (mut producer, mut consumer) = spsc::ring_at::<Item, L>(2, NEAR_WRAP);
            let source = ledger.clone();
            roles.run(
                move || {
                    // The second one is published by the drop.
                    producer.push(source.payload(0)).expect("room");
                    producer.push_deferred(source.payload(1)).expect("room");
                },
                move || {
                    let mut got = Vec::new();
                    for _ in 0..4 {
                        match consumer.pop() {
                            Ok(item) => got.push(item.read()),
                            Err(PopError::Empty) => loom::thread::yield_now(),
                            Err(PopError::Closed) => {
                                assert_eq!(got, [0, 1], "closed only when all is taken");
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
fn loom_spsc_close_laps() {
    close::<Laps>("close laps");
}

#[test]
fn loom_spsc_close_cells() {
    close::<Cells>("close cells");
}

/// Either side goes while the ring is full; each item is dropped once.
fn leave_while_full<L: Layout<Item>>(name: &str) {
    for roles in Roles::BOTH {
        explore(&format!("{name} {roles:?}"), move || {
            let ledger = Ledger::default();
            let (mut producer, mut consumer) = spsc::ring_at::<Item, L>(2, NEAR_WRAP);
            producer.push(ledger.payload(0)).expect("room");
            producer.push(ledger.payload(1)).expect("room");
            let source = ledger.clone();
            roles.run(
                move || match producer.push(source.payload(2)) {
                    Ok(()) => {}
                    Err(refused) => assert_eq!(refused.into_inner().read(), 2),
                },
                move || assert_eq!(pop_within(1, || consumer.pop()), [0]),
            );
            ledger.assert_settled();
        });
    }
}

#[test]
fn loom_spsc_leave_while_full_laps() {
    leave_while_full::<Laps>("leave laps");
}

#[test]
fn loom_spsc_leave_while_full_cells() {
    leave_while_full::<Cells>("leave cells");
}

/// The sleeping consumer's fence, as a parker has it.
const F1: Edge = Edge::new("F1");

/// A sleeping consumer and a committing producer: no wake-up is lost.
fn park_on_commit<L: Layout<Item>>(name: &str) {
    let act = |mut producer: spsc::Producer<Item, L>| {
        producer.push(Ledger::default().payload(0)).expect("room");
        producer.commit();
        Some(producer)
    };
    let may_sleep = |consumer: &spsc::Consumer<Item, L>| consumer.is_empty();
    park(name, F1, || spsc::ring_at(2, 0), act, may_sleep);
}

#[test]
fn loom_spsc_park_laps() {
    park_on_commit::<Laps>("park laps");
}

#[test]
fn loom_spsc_park_cells() {
    park_on_commit::<Cells>("park cells");
}

/// A sleeping consumer and a producer that goes: the close is not lost either.
fn park_on_close<L: Layout<Item>>(name: &str) {
    let act = |producer: spsc::Producer<Item, L>| {
        drop(producer);
        None
    };
    let may_sleep = |end: &spsc::Consumer<Item, L>| end.is_empty() && !end.is_closed();
    park(name, F1, || spsc::ring_at(2, 0), act, may_sleep);
}

#[test]
fn loom_spsc_park_on_close_laps() {
    park_on_close::<Laps>("park on close laps");
}

#[test]
fn loom_spsc_park_on_close_cells() {
    park_on_close::<Cells>("park on close cells");
}

#[test]
fn loom_spsc_mutants_are_caught() {
    assert_mutants_caught(&[
        ("L1.release", "loom_spsc_stream_laps"),
        ("L1.acquire", "loom_spsc_stream_laps"),
        ("L1.release", "loom_spsc_deferred_laps"),
        ("C1.release", "loom_spsc_stream_cells"),
        ("C1.acquire", "loom_spsc_stream_cells"),
        ("S1.release", "loom_spsc_stream_cells"),
        ("S1.acquire", "loom_spsc_stream_cells"),
        ("S2.release", "loom_spsc_close_laps"),
        ("S2.acquire", "loom_spsc_close_laps"),
        ("S2.release", "loom_spsc_close_cells"),
        ("S2.acquire", "loom_spsc_close_cells"),
        ("F1.commit", "loom_spsc_park_laps"),
        ("F1.park", "loom_spsc_park_laps"),
        ("F1.commit", "loom_spsc_park_cells"),
        ("F1.park", "loom_spsc_park_cells"),
        ("F1.drop", "loom_spsc_park_on_close_laps"),
        ("F1.park", "loom_spsc_park_on_close_laps"),
    ]);
}
