//! An adaptive thread pool for event loops (see README.md).

mod berth;
mod clock;
mod cpu;
pub mod policy;
mod sampler;
mod sync;
mod window;

pub use berth::{Arrival, Berth, Direction};
pub use clock::{Clock, Manual, Monotonic};
pub use cpu::{BadCpuList, CpuList, Meter, Reading, UsableCpus, thread_cpu_time};
