//! Every queue in every layout against a `VecDeque`, over random lists of operations.
#![cfg(not(any(loom, shuttle)))]

mod ops;

use std::cell::RefCell;

use flintlock_queues::mpsc::{rings, shared};
use flintlock_queues::{Compact, Layout, Padded, Words};
use flintlock_queues::{Index, spmc, spsc};
use ops::{Op, all_ops};
use proptest::prelude::*;
use proptest::test_runner::{FileFailurePersistence, RngSeed};

/// Cases of each property from a fixed seed; `PROPTEST_CASES` asks for as many random ones.
const CASES: u32 = 1000;

fn config() -> ProptestConfig {
    let regressions = FileFailurePersistence::WithSource("regressions");
    let config = ProptestConfig {
        failure_persistence: Some(Box::new(regressions)),
        ..ProptestConfig::default()
    };
    if std::env::var_os("PROPTEST_CASES").is_some() {
        return config;
    }
    ProptestConfig { cases: CASES, rng_seed: RngSeed::Fixed(0x0f11_47e5), ..config }
}

fn op() -> impl Strategy<Value = Op> {
    (any::<u8>(), any::<u8>()).prop_map(|(kind, argument)| Op::decode(kind, argument))
}

/// Copies slices in and out of `push` and `pop` beside a twin; sizes as given.
fn slices(
    sizes: &[(usize, usize)],
    mut push: impl FnMut(&[Index]) -> usize,
    mut pop: impl FnMut(&mut [Index]) -> usize,
    capacity: usize,
) {
    let (mut next, mut first) = (0, 0);
    for (give, take) in sizes {
        let items: Vec<Index> = (next..next + give).map(Index::new).collect();
        let pushed = push(&items);
        assert_eq!(pushed, (*give).min(capacity - (next - first)), "as many as fit");
        next += pushed;
        let mut items = vec![Index::MAX; *take];
        let popped = pop(&mut items);
        assert_eq!(popped, (*take).min(next - first), "as many as there are");
        let expected = (first..first + popped).map(Index::new);
        assert!(items[..popped].iter().copied().eq(expected), "in order");
        assert!(items[popped..].iter().all(|item| *item == Index::MAX), "nothing else is touched");
        first += popped;
    }
}

/// A shared ring takes what the ring does not from the list; the list is moved on by commits.
fn slices_of_shared<L: Layout<Index>>(capacity: usize, first: usize, sizes: &[(usize, usize)]) {
    let (producer, mut consumer) = shared::ring_at::<Index, L>(capacity, first);
    let producer = RefCell::new(producer);
    let ring_and_list = 2 * consumer.capacity();
    let pop = |items: &mut [Index]| {
        let mut count = 0;
        loop {
            let popped = consumer.pop_slice(&mut items[count..]);
            count += popped;
            producer.borrow_mut().commit();
            if popped == 0 {
                return count;
            }
        }
    };
    slices(sizes, |items| producer.borrow_mut().push_slice(items), pop, ring_and_list);
}

fn slices_of_all<L: Layout<Index>>(capacity: usize, first: usize, sizes: &[(usize, usize)]) {
    let (mut producer, mut consumer) = spsc::ring_at::<Index, L>(capacity, first);
    let rounded = producer.capacity();
    slices(sizes, |i| producer.push_slice(i), |i| consumer.pop_slice(i), rounded);
    let (mut producer, mut consumer) = spmc::ring_at::<Index, L>(capacity, first);
    slices(sizes, |i| producer.push_slice(i), |i| consumer.pop_slice(i), rounded);
    let mut consumer = rings::ring_at::<Index, L>(capacity, first);
    let mut producer = consumer.add_producer();
    slices(sizes, |i| producer.push_slice(i), |i| consumer.pop_slice(i), rounded);
    slices_of_shared::<L>(capacity, first, sizes);
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn queues_behave_like_their_twins(
        capacity in 2_usize..17,
        first in any::<u8>().prop_map(|near| usize::from(near).wrapping_sub(128)),
        ops in prop::collection::vec(op(), 0..200),
    ) {
        all_ops(capacity, first, &ops);
    }

    #[test]
    fn slices_cross_whole_and_in_order(
        capacity in 2_usize..33,
        first in any::<u8>().prop_map(|near| usize::from(near).wrapping_sub(128)),
        sizes in prop::collection::vec((0_usize..40, 0_usize..33), 0..40),
    ) {
        slices_of_all::<Words>(capacity, first, &sizes);
        slices_of_all::<Compact>(capacity, first, &sizes);
        slices_of_all::<Padded>(capacity, first, &sizes);
    }
}

/// The decoding that the fuzz target uses reaches every operation.
#[test]
fn bytes_stand_for_every_operation() {
    let bytes: Vec<u8> = (0..=255_u8).flat_map(|kind| [kind, kind.wrapping_mul(7)]).collect();
    let (capacity, first, ops) = Op::decode_all(&bytes);
    assert_eq!(ops.len(), 255);
    all_ops(capacity, first, &ops);
    let kinds: std::collections::HashSet<_> = ops.iter().map(std::mem::discriminant).collect();
    assert_eq!(kinds.len(), 9);
}
