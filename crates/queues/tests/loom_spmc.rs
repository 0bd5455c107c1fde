//! Loom models of the single-producer ring with several consumers.
#![cfg(loom)]
#![expect(unsafe_code, reason = "loom's cells are read through raw pointers")]

mod loom_support;
#[path = "loom_support/park.rs"]
mod park;

use flintlock_queues::sync::Edge;
use flintlock_queues::{Index, Layout, Padded, PopError, spmc};
use loom::thread;
use loom_support::{
    Cells, Item, Laps, Ledger, Roles, assert_mutants_caught, explore, pop_within, push_within,
};
use park::park;

const NEAR_WRAP: usize = usize::MAX - 2;

/// Takes what is left and checks that `taken` and the rest are what was pushed, each once.
fn assert_all_arrived<L: Layout<Item>>(
    consumer: &mut spmc::Consumer<Item, L>,
    taken: &[Vec<usize>],
    pushed: usize,
) {
    let mut all = taken.concat();
    for part in taken {
        assert!(part.is_sorted(), "one consumer sees items in order: {part:?}");
    }
    loop {
        match consumer.pop() {
            Ok(item) => all.push(item.read()),
            Err(reason) => {
                assert_eq!(reason, PopError::Closed, "the producer is gone");
                break;
            }
        }
    }
    all.sort_unstable();
    assert!(all.iter().copied().eq(0..pushed), "all, each once: {all:?} of {pushed}");
}

/// Two consumers help themselves one by one while the producer goes round.
fn compete<L: Layout<Item>>(name: &str, items: usize) {
    for roles in Roles::BOTH {
        explore(&format!("{name} {roles:?}"), move || {
            let ledger = Ledger::default();
            let (mut producer, mut consumer) = spmc::ring_at::<Item, L>(2, NEAR_WRAP);
            let mut other = consumer.clone();
            let source = ledger.clone();
            let second = thread::spawn(move || pop_within(2, || other.pop()));
            let (pushed, (first, mut consumer)) = roles.run(
                move || {
                    let mut pushed = 0;
                    for number in 0..items {
                        let item = source.payload(number);
                        if push_within(2, item, |item| producer.push(item)).is_err() {
                            break;
                        }
                        pushed += 1;
                    }
                    pushed
                },
                move || (pop_within(2, || consumer.pop()), consumer),
            );
            let second = second.join().expect("no panic");
            assert_all_arrived(&mut consumer, &[first, second], pushed);
            drop(consumer);
            ledger.assert_settled();
        });
    }
}

#[test]
fn loom_spmc_compete_laps() {
    compete::<Laps>("compete laps", 3);
}

#[test]
fn loom_spmc_compete_cells() {
    compete::<Cells>("compete cells", 3);
}

/// Cells on lines of their own differ in their addresses only, and are built here once.
#[test]
fn loom_spmc_compete_padded() {
    compete::<Padded>("compete padded", 3);
}

/// One thread is producer and consumer and goes round the ring several times; the other consumer
/// may have looked at a slot laps ago. `T` is what travels, `read` how it is read.
fn lapped<T: 'static, L: Layout<T>>(
    name: &str,
    items: usize,
    make: fn(&Ledger, usize) -> T,
    read: fn(T) -> usize,
) {
    for roles in Roles::BOTH {
        explore(&format!("{name} {roles:?}"), move || {
            let ledger = Ledger::default();
            let (mut producer, mut consumer) = spmc::ring_at::<T, L>(2, NEAR_WRAP);
            let mut other = consumer.clone();
            let source = ledger.clone();
            let ((pushed, mut all), second) = roles.run(
                move || {
                    let (mut pushed, mut all) = (0, Vec::new());
                    for number in 0..items {
                        // Only a cell that the other one has claimed and not freed refuses.
                        if producer.push(make(&source, number)).is_err() {
                            break;
                        }
                        pushed += 1;
                        all.extend(consumer.pop().ok().map(read));
                    }
                    all.extend(std::iter::from_fn(|| consumer.pop().ok()).map(read));
                    (pushed, all)
                },
                move || other.pop().ok().map(read),
            );
            assert!(all.is_sorted(), "one consumer sees items in order: {all:?}");
            all.extend(second);
            all.sort_unstable();
            assert!(all.iter().copied().eq(0..pushed), "all, each once: {all:?} of {pushed}");
            ledger.assert_settled();
        });
    }
}

#[test]
fn loom_spmc_lapped_laps() {
    lapped::<Item, Laps>("lapped laps", 5, Ledger::payload, |item| item.read());
}

/// Plain numbers: whatever a broken claim hands out twice can be looked at safely.
#[test]
fn loom_spmc_lapped_indices() {
    lapped::<Index, Laps>("lapped", 5, |_, number| Index::new(number), Index::value);
}

#[test]
fn loom_spmc_lapped_cells() {
    lapped::<Item, Cells>("lapped cells", 4, Ledger::payload, |item| item.read());
}

/// Claims of two against a producer that publishes a deferred run.
fn claims<L: Layout<Item>>(name: &str) {
    for roles in Roles::BOTH {
        explore(&format!("{name} {roles:?}"), move || {
            let ledger = Ledger::default();
            let (mut producer, mut consumer) = spmc::ring_at::<Item, L>(2, NEAR_WRAP);
            let mut other = consumer.clone();
            let source = ledger.clone();
            let second = thread::spawn(move || {
                let mut got = Vec::new();
                other.pop_batch(2, |item| got.push(item.read()));
                got
            });
            let (pushed, (first, mut consumer)) = roles.run(
                move || {
                    producer.push_deferred(source.payload(0)).expect("room");
                    producer.push_deferred(source.payload(1)).expect("room");
                    producer.commit();
                    2 + usize::from(producer.push(source.payload(2)).is_ok())
                },
                move || {
                    let mut got = Vec::new();
                    consumer.pop_batch(2, |item| got.push(item.read()));
                    (got, consumer)
                },
            );
            let second = second.join().expect("no panic");
            assert_all_arrived(&mut consumer, &[first, second], pushed);
            drop(consumer);
            ledger.assert_settled();
        });
    }
}

#[test]
fn loom_spmc_claims_laps() {
    claims::<Laps>("claims laps");
}

#[test]
fn loom_spmc_claims_cells() {
    claims::<Cells>("claims cells");
}

/// `Closed` is told only when all is claimed; what is left when everybody goes is dropped once.
fn close<L: Layout<Item>>(name: &str) {
    for roles in Roles::BOTH {
        explore(&format!("{name} {roles:?}"), move || {
            let ledger = Ledger::default();
            let (mut producer, mut consumer) = spmc::ring_at::<Item, L>(2, NEAR_WRAP);
            let mut other = consumer.clone();
            let source = ledger.clone();
            let second = thread::spawn(move || pop_within(1, || other.pop()));
            let ((), first) = roles.run(
                move || {
                    producer.push(source.payload(0)).expect("room");
                    producer.push_deferred(source.payload(1)).expect("room");
                },
                move || {
                    let mut got = Vec::new();
                    for _ in 0..3 {
                        match consumer.pop() {
                            Ok(item) => got.push(item.read()),
                            Err(PopError::Empty) => thread::yield_now(),
                            Err(PopError::Closed) => return Some(got),
                        }
                    }
                    None
                },
            );
            let second = second.join().expect("no panic");
            if let Some(mut got) = first {
                got.extend(second);
                got.sort_unstable();
                assert_eq!(got, [0, 1], "closed only when all is claimed");
            }
            ledger.assert_settled();
        });
    }
}

#[test]
fn loom_spmc_close_laps() {
    close::<Laps>("close laps");
}

#[test]
fn loom_spmc_close_cells() {
    close::<Cells>("close cells");
}

/// The last consumer goes while the ring is full and the producer pushes.
fn leave_while_full<L: Layout<Item>>(name: &str) {
    for roles in Roles::BOTH {
        explore(&format!("{name} {roles:?}"), move || {
            let ledger = Ledger::default();
            let (mut producer, mut consumer) = spmc::ring_at::<Item, L>(2, NEAR_WRAP);
            producer.push(ledger.payload(0)).expect("room");
            producer.push(ledger.payload(1)).expect("room");
            let other = consumer.clone();
            let source = ledger.clone();
            let leaver = thread::spawn(move || drop(other));
            roles.run(
                move || drop(producer.push(source.payload(2))),
                move || assert_eq!(pop_within(1, || consumer.pop()), [0]),
            );
            leaver.join().expect("no panic");
            ledger.assert_settled();
        });
    }
}

#[test]
fn loom_spmc_leave_while_full_laps() {
    leave_while_full::<Laps>("leave laps");
}

#[test]
fn loom_spmc_leave_while_full_cells() {
    leave_while_full::<Cells>("leave cells");
}

/// An empty answer is true: between two looks at the head nobody had anything.
fn empty_is_true<L: Layout<Item>>(name: &str) {
    for roles in Roles::BOTH {
        explore(&format!("{name} {roles:?}"), move || {
            let ledger = Ledger::default();
            let (mut producer, mut consumer) = spmc::ring_at::<Item, L>(2, NEAR_WRAP);
            producer.push(ledger.payload(0)).expect("room");
            producer.push(ledger.payload(1)).expect("room");
            let mut other = consumer.clone();
            let source = ledger.clone();
            // The ring never holds less than one item while both run.
            let (_, (first, consumer)) = roles.run(
                move || {
                    other.pop().expect("two were there").read();
                    (producer.push(source.payload(2)), producer)
                },
                move || (consumer.pop().map(|item| item.read()), consumer),
            );
            assert!(first.is_ok(), "an item was there all the time");
            drop(consumer);
        });
    }
}

#[test]
fn loom_spmc_empty_is_true_laps() {
    empty_is_true::<Laps>("empty laps");
}

#[test]
fn loom_spmc_empty_is_true_cells() {
    empty_is_true::<Cells>("empty cells");
}

const F1: Edge = Edge::new("F1");

/// A sleeping consumer and a committing producer: no wake-up is lost.
fn park_on_commit<L: Layout<Item>>(name: &str) {
    let act = |mut producer: spmc::Producer<Item, L>| {
        producer.push(Ledger::default().payload(0)).expect("room");
        producer.commit();
        Some(producer)
    };
    let may_sleep = |consumer: &spmc::Consumer<Item, L>| consumer.is_empty();
    park(name, F1, || spmc::ring_at(2, 0), act, may_sleep);
}

#[test]
fn loom_spmc_park_laps() {
    park_on_commit::<Laps>("park laps");
}

#[test]
fn loom_spmc_park_cells() {
    park_on_commit::<Cells>("park cells");
}

/// A sleeping consumer and a producer that goes: the close is not lost either.
fn park_on_close<L: Layout<Item>>(name: &str) {
    let act = |producer: spmc::Producer<Item, L>| {
        drop(producer);
        None
    };
    let may_sleep = |end: &spmc::Consumer<Item, L>| end.is_empty() && !end.is_closed();
    park(name, F1, || spmc::ring_at(2, 0), act, may_sleep);
}

#[test]
fn loom_spmc_park_on_close_laps() {
    park_on_close::<Laps>("park on close laps");
}

#[test]
fn loom_spmc_park_on_close_cells() {
    park_on_close::<Cells>("park on close cells");
}

#[test]
fn loom_spmc_mutants_are_caught() {
    assert_mutants_caught(&[
        ("L1.release", "loom_spmc_compete_laps"),
        ("L1.acquire", "loom_spmc_compete_laps"),
        ("L1.release", "loom_spmc_claims_laps"),
        ("L1.acquire", "loom_spmc_claims_laps"),
        ("M1.release", "loom_spmc_lapped_indices"),
        ("M1.acquire", "loom_spmc_lapped_indices"),
        ("C1.release", "loom_spmc_compete_cells"),
        ("C1.acquire", "loom_spmc_compete_cells"),
        ("C1.release", "loom_spmc_claims_cells"),
        ("C1.acquire", "loom_spmc_claims_cells"),
        ("C2.release", "loom_spmc_compete_cells"),
        ("C2.acquire", "loom_spmc_compete_cells"),
        ("S2.release", "loom_spmc_close_laps"),
        ("S2.acquire", "loom_spmc_close_laps"),
        ("S2.acquire", "loom_spmc_close_cells"),
        ("F1.commit", "loom_spmc_park_laps"),
        ("F1.park", "loom_spmc_park_cells"),
        ("F1.drop", "loom_spmc_park_on_close_laps"),
        ("F1.park", "loom_spmc_park_on_close_laps"),
    ]);
}
