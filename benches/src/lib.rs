//! Shared helpers of the benchmarks.

pub mod instructions;
pub mod queues;
