//! Every queue in every layout against a `VecDeque`, over random lists of operations.
#![cfg(not(any(loom, shuttle)))]

mod ops;

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

proptest! {
    #![proptest_config(config())]

    #[test]
    fn queues_behave_like_their_twins(
        capacity in 2_usize..65,
        first in any::<u8>().prop_map(|near| usize::from(near).wrapping_sub(128)),
        ops in prop::collection::vec(op(), 0..200),
    ) {
        all_ops(capacity, first, &ops);
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
    assert_eq!(kinds.len(), 11);
}
