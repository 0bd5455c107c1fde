//! The queues against their twins, on operations that the input stands for.

// The very body that proptest drives in the crate's own tests.
#[path = "../../crates/queues/tests/ops/mod.rs"]
mod ops;

use ops::{Op, all_ops};

/// Operations of one input: more only repeat what these do.
const OPS_MAX: usize = 400;

/// Whatever the operations and whoever leaves when: each queue in each layout behaves as its twin
/// does, and every item is dropped once.
///
/// # Panics
/// When one of these is not so.
pub fn queue_ops(data: &[u8]) {
    let (capacity, first, mut ops) = Op::decode_all(data);
    ops.truncate(OPS_MAX);
    all_ops(capacity, first, &ops);
}
