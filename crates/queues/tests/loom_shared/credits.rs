//! Models of pushes that cannot fail: single ones and batches, with credits old and new.

use std::panic::{AssertUnwindSafe, catch_unwind};

use flintlock_queues::mpsc::shared::{self, Credits};
use flintlock_queues::{Index, Layout};
use loom::thread;

use crate::loom_support::{
    Cells, Item, Laps, Ledger, Roles, assert_mutants_caught, explore, pop_within,
};
use crate::park::park;
use crate::{NEAR_WRAP, R4, breaks_off};

/// Credits move with jobs; no push ever waits, over two laps.
fn credits_prove_room<L: Layout<Item>>(name: &str) {
    for roles in Roles::BOTH {
        explore(&format!("{name} {roles:?}"), move || {
            let ledger = Ledger::default();
            let (mut producer, mut main) = shared::credited_at::<Item, L>(2, NEAR_WRAP);
            // Two laps before the threads part.
            for number in 0..3 {
                let credit = main.credit().expect("one at a time");
                producer.push(credit, ledger.payload(number));
                assert_eq!(main.pop().map(|item| item.read()), Ok(number));
            }
            let mut other = producer.clone();
            let mut credit = || main.credit().expect("two slots");
            let (credit, other_credit) = (credit(), credit());
            let (item, other_item) = (ledger.payload(10), ledger.payload(11));
            let second = thread::spawn(move || other.push(other_credit, other_item));
            let ((), (mut got, mut main)) = roles.run(
                move || producer.push(credit, item),
                move || (pop_within(2, || main.pop()), main),
            );
            second.join().expect("no panic");
            got.extend(pop_within(2, || main.pop()));
            got.sort_unstable();
            assert_eq!(got, [10, 11]);
            assert_eq!(main.given(), 0);
            drop(main);
            ledger.assert_settled();
        });
    }
}

#[test]
fn loom_prove_room_laps() {
    credits_prove_room::<Laps>("credits laps");
}

#[test]
fn loom_prove_room_cells() {
    credits_prove_room::<Cells>("credits cells");
}

/// A producer holds its credit from the beginning, while the ring goes round by others; its slot
/// is vacant, and it must see that.
fn old_credit<L: Layout<Item>>(name: &str) {
    explore(name, move || {
        let ledger = Ledger::default();
        let (mut producer, mut main) = shared::credited_at::<Item, L>(2, NEAR_WRAP);
        let mut late = producer.clone();
        let old = main.credit().expect("two slots");
        let item = ledger.payload(10);
        let second = thread::spawn(move || late.push(old, item));
        let (mut got, mut expected) = (Vec::new(), Vec::new());
        for number in 0..3 {
            // None while the other one has reserved a slot and not filled it.
            if let Some(credit) = main.credit() {
                producer.push(credit, ledger.payload(number));
                expected.push(number);
            }
            got.extend(pop_within(1, || main.pop()));
        }
        second.join().expect("a credit proves room");
        got.extend(pop_within(2, || main.pop()));
        got.sort_unstable();
        expected.push(10);
        assert_eq!(got, expected);
        drop(main);
        drop(producer);
        ledger.assert_settled();
    });
}

#[test]
fn loom_old_credit_laps() {
    old_credit::<Laps>("old credit laps");
}

#[test]
fn loom_old_credit_cells() {
    old_credit::<Cells>("old credit cells");
}

/// As above with two old credits and batches, each one increment, in a ring of four slots.
fn old_credits<T: 'static, L: Layout<T>>(
    name: &str,
    make: fn(usize) -> T,
    number: fn(&T) -> usize,
    push: fn(&mut shared::CreditProducer<T, L>, &mut Credits, [T; 2]) -> usize,
) {
    for roles in Roles::BOTH {
        explore(&format!("{name} {roles:?}"), move || {
            let (mut producer, mut main) = shared::credited_at::<T, L>(4, NEAR_WRAP);
            let mut late = producer.clone();
            let mut old = main.credits(2);
            let (pushed, (mut got, mut main)) = roles.run(
                move || push(&mut late, &mut old, [make(10), make(11)]),
                move || {
                    let mut got = Vec::new();
                    for first in [0, 2] {
                        let items = [make(first), make(first + 1)];
                        if main.given() <= 2 {
                            push(&mut producer, &mut main.credits(2), items);
                        }
                        main.pop_batch(2, |item| got.push(number(&item)));
                    }
                    (got, main)
                },
            );
            assert_eq!(pushed, 2);
            while main.pop_batch(4, |item| got.push(number(&item))) > 0 {}
            assert_eq!(main.given(), 0);
            let at = got.iter().position(|number| *number == 10).expect("the old one arrives");
            assert_eq!(got[at + 1], 11, "a batch stands in a row: {got:?}");
            got.drain(at..at + 2);
            assert!(got.iter().copied().eq(0..got.len()), "{got:?}");
        });
    }
}

fn old_credits_by_batch<L: Layout<Item>>(name: &str) {
    let make = |number| Ledger::default().payload(number);
    old_credits::<Item, L>(
        name,
        make,
        |item| item.read(),
        |producer, credits, items| producer.push_batch(credits, &mut items.into_iter()),
    );
}

#[test]
fn loom_old_credits_laps() {
    old_credits_by_batch::<Laps>("old credits laps");
}

#[test]
fn loom_old_credits_cells() {
    old_credits_by_batch::<Cells>("old credits cells");
}

#[test]
fn loom_old_credits_slice() {
    let name = "old credits slice";
    old_credits::<Index, Cells>(
        name,
        Index::new,
        |item| item.value(),
        |end, credits, items| end.push_slice(credits, &items),
    );
}

/// A batch that is the whole ring goes over its end, while the consumer gives each credit that
/// comes back to another producer: the ring goes round three times.
fn credit_batches<L: Layout<Item>>(name: &str) {
    for roles in Roles::BOTH {
        explore(&format!("{name} {roles:?}"), move || {
            let ledger = Ledger::default();
            let (mut producer, mut main) = shared::credited_at::<Item, L>(2, NEAR_WRAP);
            let batch = |first: usize| [ledger.payload(first), ledger.payload(first + 1)];
            let mut other = producer.clone();
            assert_eq!(other.push_batch(&mut main.credits(2), &mut batch(20).into_iter()), 2);
            assert_eq!(pop_within(2, || main.pop()), [20, 21]);
            let (mut credits, items, more) = (main.credits(9), batch(10), batch(0));
            let (pushed, (mut got, mut main)) = roles.run(
                move || producer.push_batch(&mut credits, &mut items.into_iter()),
                move || {
                    let (mut got, mut more) = (Vec::new(), more.into_iter());
                    for _ in 0..2 {
                        got.extend(pop_within(1, || main.pop()));
                        let _ = other.push_batch(&mut main.credits(2), &mut more);
                    }
                    (got, main)
                },
            );
            assert_eq!(pushed, 2);
            got.extend(pop_within(3, || main.pop()));
            assert!(got.iter().eq([10, 11, 0, 1][..got.len()].iter()), "{got:?}");
            assert_eq!((main.given(), got.len() >= 2), (0, true));
            drop(main);
            ledger.assert_settled();
        });
    }
}

#[test]
fn loom_credit_batches_laps() {
    credit_batches::<Laps>("credit batches laps");
}

#[test]
fn loom_credit_batches_cells() {
    credit_batches::<Cells>("credit batches cells");
}

/// Two threads each push a batch, with the credits of a whole ring between them.
fn credit_batches_race<L: Layout<Item>>(name: &str) {
    for roles in Roles::BOTH {
        explore(&format!("{name} {roles:?}"), move || {
            let ledger = Ledger::default();
            let (mut one, mut main) = shared::credited_at::<Item, L>(4, NEAR_WRAP);
            let mut two = one.clone();
            let batch = |first: usize| [ledger.payload(first), ledger.payload(first + 1)];
            let (items, other_items) = (batch(0), batch(10));
            let (mut credits, mut other_credits) = (main.credits(2), main.credits(2));
            let second = thread::spawn(move || {
                assert_eq!(two.push_batch(&mut other_credits, &mut other_items.into_iter()), 2);
            });
            let (pushed, (mut got, mut main)) = roles.run(
                move || one.push_batch(&mut credits, &mut items.into_iter()),
                move || (pop_within(2, || main.pop()), main),
            );
            second.join().expect("no panic");
            assert_eq!(pushed, 2);
            got.extend(pop_within(4, || main.pop()));
            assert!(got == [0, 1, 10, 11] || got == [10, 11, 0, 1], "each in a row: {got:?}");
            drop(main);
            ledger.assert_settled();
        });
    }
}

#[test]
fn loom_credit_batches_race_laps() {
    credit_batches_race::<Laps>("credit race laps");
}

#[test]
fn loom_credit_batches_race_cells() {
    credit_batches_race::<Cells>("credit race cells");
}

/// A batch whose iterator panics has pushed what came before, and its fence is due.
#[test]
fn loom_park_on_broken_batch() {
    type Ends = (shared::CreditProducer<Item, Laps>, Credits);
    let ring = || {
        let (producer, mut main) = shared::credited_at::<Item, Laps>(2, 0);
        let credits = main.credits(2);
        ((producer, credits), main)
    };
    let act = |(mut producer, mut credits): Ends| {
        let push = || producer.push_batch(&mut credits, &mut breaks_off());
        assert!(catch_unwind(AssertUnwindSafe(push)).is_err() && credits.len() == 1);
        producer.commit();
        Some((producer, credits))
    };
    let may_sleep = |main: &shared::CreditConsumer<Item, Laps>| main.is_empty();
    park("park on broken credit batch", R4, ring, act, may_sleep);
}

#[test]
fn loom_credits_mutants_are_caught() {
    assert_mutants_caught(&[
        ("R5.release", "credits::loom_old_credit_laps"),
        ("R5.acquire", "credits::loom_old_credit_laps"),
        ("R5.release", "credits::loom_old_credit_cells"),
        ("R5.acquire", "credits::loom_old_credit_cells"),
        ("R5.release", "credits::loom_old_credits_laps"),
        ("R5.acquire", "credits::loom_old_credits_laps"),
        ("R5.release", "credits::loom_old_credits_slice"),
        ("R5.acquire", "credits::loom_old_credits_slice"),
    ]);
}
