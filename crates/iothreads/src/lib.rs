//! A thread pool for event loops.
#![doc = include_str!("../README.md")]
//!
//! # Files
//! `pool` is what the owner uses, `worker` the other side, `park` how both sleep; `governor` feeds
//! `policy` through `sampler`; `crew` has the threads, `stats` their figures; `berth` keeps one job
//! to a connection.

mod berth;
mod clock;
mod cpu;
mod crew;
#[cfg(all(test, loom))]
#[path = "../tests/explore/mod.rs"]
mod explore;
mod governor;
mod handler;
mod options;
mod park;
pub mod policy;
mod pool;
mod sampler;
mod stats;
mod sync;
mod tuning;
mod window;
mod worker;

/// How the queues keep jobs and answers, for [`Handler::Layout`].
pub use flintlock_queues::{Compact, Layout, Padded, Words};

pub use berth::{Arrival, Berth, Direction};
pub use clock::{Clock, Manual, Monotonic};
pub use cpu::{BadCpuList, CpuList, Meter, Reading, UsableCpus, thread_cpu_time};
pub use governor::{Change, LOG_MAX, Turn};
pub use handler::{Budget, Context, Handler, Outcome, Panic};
pub use options::{BadIoThreads, IoThreads, Options, Scaling, WORKERS_MAX};
pub use park::{Bell, Wake};
pub use pool::{Full, Pool, SpawnError, StillBusy};
pub use stats::{Histogram, Lane, PoolStats, Refusal, Refused, Times, WorkerStats};
