//! Loom models of tagged words crossing threads: kind, pointer and lap travel in one store.
#![cfg(loom)]
#![expect(unsafe_code, reason = "loom's cells are read through raw pointers")]

mod loom_support;

use flintlock_queues::sync::PlainArc;
use flintlock_queues::{Layout, Tagged, spmc, spsc, tagged};
use loom::thread;
use loom_support::{
    Cells, Item, Laps, Ledger, Payload, Roles, assert_mutants_caught, explore, pop_within,
    push_within,
};

type Job = Tagged<Item, 8>;

tagged! {
    /// Jobs of two types.
    enum Mixed {
        /// Owned alone.
        Owned(Box<Payload>),
        /// Owned together.
        Shared(PlainArc<Payload>),
    }
}

/// Kinds arrive with the pointers they were packed with, over three laps of the ring.
#[test]
fn loom_tagged_kinds_cross() {
    for roles in Roles::BOTH {
        explore(&format!("kinds {roles:?}"), move || {
            let ledger = Ledger::default();
            let (mut producer, mut consumer) = spsc::ring_at::<Job, Laps>(2, usize::MAX - 2);
            let source = ledger.clone();
            roles.run(
                move || {
                    for number in 0..5_u8 {
                        let job = Job::new(7 - number, source.payload(usize::from(number)));
                        drop(push_within(1, job, |job| producer.push(job)));
                    }
                },
                move || {
                    let unpack = |job: Job| {
                        let (kind, payload) = job.into_parts();
                        assert_eq!(usize::from(7 - kind), payload.read());
                        payload
                    };
                    pop_within(5, || consumer.pop().map(unpack))
                },
            );
            ledger.assert_settled();
        });
    }
}

/// An enum of different pointers, taken by two competing consumers.
fn enum_crosses<L: Layout<Mixed>>(name: &str) {
    for roles in Roles::BOTH {
        explore(&format!("{name} {roles:?}"), move || {
            let ledger = Ledger::default();
            let (mut producer, mut consumer) = spmc::ring_at::<Mixed, L>(2, 0);
            let mut other = consumer.clone();
            let source = ledger.clone();
            let check = |job| match job {
                Mixed::Owned(payload) => assert_eq!(payload.read(), 0),
                Mixed::Shared(payload) => assert_eq!(payload.read(), 1),
            };
            let second = thread::spawn(move || other.pop().map(check).is_ok());
            roles.run(
                move || {
                    drop(producer.push(Mixed::Owned(source.payload(0))));
                    drop(producer.push(Mixed::Shared(PlainArc::from(source.payload(1)))));
                },
                move || consumer.pop().map(check).is_ok(),
            );
            second.join().expect("no panic");
            ledger.assert_settled();
        });
    }
}

#[test]
fn loom_tagged_enum_crosses() {
    enum_crosses::<Laps>("enum laps");
    enum_crosses::<Cells>("enum cells");
}

#[test]
fn loom_tagged_mutants_are_caught() {
    assert_mutants_caught(&[
        ("L1.release", "loom_tagged_kinds_cross"),
        ("L1.acquire", "loom_tagged_kinds_cross"),
        ("L1.release", "loom_tagged_enum_crosses"),
        ("L1.acquire", "loom_tagged_enum_crosses"),
    ]);
}
