//! How a pool is set up. Plain values; any thread.
//!
//! Source: issue 3400 of Valkey (count from the machine).

use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;
use std::time::Duration;

use crate::clock::{Clock, Monotonic};
use crate::cpu::{CpuList, UsableCpus};
use crate::handler::Budget;
use crate::policy::Tuning;
use crate::sync::PlainArc;

/// Most workers of a pool; with the main thread that makes 256 threads.
pub const WORKERS_MAX: usize = if cfg!(loom) { 2 } else { 255 };
/// What a worker that runs needs for a handful of jobs, many times over; and in half a millisecond
/// nobody misses anything.
const STALL_AFTER: Duration = Duration::from_micros(500);

/// How many workers are active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scaling {
    /// As many as the policy finds useful: none at first, at most this many, never more than there
    /// are CPUs beside the main thread's. Threads are started when first needed.
    Adaptive(usize),
    /// Always this many, whatever the load and the machine. For workers that block, and for tests
    /// (Valkey's `io-threads-always-active`).
    Fixed(usize),
}

impl Scaling {
    /// The most workers this allows.
    #[must_use]
    pub fn workers_max(self) -> usize {
        match self {
            Self::Adaptive(count) | Self::Fixed(count) => count,
        }
    }

    /// The same kind with another number.
    #[must_use]
    pub fn with(self, count: usize) -> Self {
        match self {
            Self::Adaptive(_) => Self::Adaptive(count),
            Self::Fixed(_) => Self::Fixed(count),
        }
    }
}

/// The directive `io-threads`: `auto`, or the number of threads including the main one.
///
/// ```
/// use flintlock_iothreads::{IoThreads, UsableCpus};
///
/// let cpus = UsableCpus { online: 8, allowed: 4, quota_permille: None };
/// let auto: IoThreads = "auto".parse().expect("a word");
/// assert_eq!(auto.workers(&cpus), 3);
/// let none: IoThreads = "1".parse().expect("a number");
/// assert_eq!(none.workers(&cpus), 0);
/// assert!("6".parse::<IoThreads>().expect("a number").oversubscribes(&cpus));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoThreads {
    /// One thread for each usable CPU.
    Auto,
    /// So many threads, the main one included.
    Count(NonZeroUsize),
}

impl IoThreads {
    /// Workers beside the main thread.
    #[must_use]
    pub fn workers(self, cpus: &UsableCpus) -> usize {
        let threads = match self {
            Self::Auto => cpus.count(),
            Self::Count(count) => count.get(),
        };
        (threads - 1).min(WORKERS_MAX)
    }

    /// Whether more threads are asked for than CPUs are usable. An adaptive pool never activates
    /// the surplus; say so to the operator.
    #[must_use]
    pub fn oversubscribes(self, cpus: &UsableCpus) -> bool {
        self.workers(cpus) >= cpus.count()
    }
}

/// A text that is no [`IoThreads`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadIoThreads;

impl fmt::Display for BadIoThreads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "neither auto nor a number from 1 to {}", WORKERS_MAX + 1)
    }
}

impl std::error::Error for BadIoThreads {}

impl FromStr for IoThreads {
    type Err = BadIoThreads;

    fn from_str(text: &str) -> Result<Self, BadIoThreads> {
        if text.eq_ignore_ascii_case("auto") {
            return Ok(Self::Auto);
        }
        match text.parse::<NonZeroUsize>() {
            Ok(count) if count.get() <= WORKERS_MAX + 1 => Ok(Self::Count(count)),
            _ => Err(BadIoThreads),
        }
    }
}

impl fmt::Display for IoThreads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Count(count) => write!(f, "{count}"),
        }
    }
}

/// The set-up of a pool. Start from [`Options::adaptive`] or [`Options::blocking`].
#[derive(Clone, Debug)]
pub struct Options {
    /// How many workers.
    pub scaling: Scaling,
    /// Most jobs in flight; as much room for answers is kept with each worker, 16 bytes a job for
    /// one-word types. At least 2; rounded up to a power of two.
    pub credits: usize,
    /// Places in the inbox of each worker; at least 2, rounded up to a power of two.
    pub inbox: usize,
    /// What one job may take before it has to return unfinished.
    pub budget: Budget,
    /// Most jobs a worker claims at once, from 1 to 32. 1 is for jobs that take long or block: each
    /// answer is then published alone, and a worker is woken for each job while some sleep.
    pub claim_max: usize,
    /// How long idle workers of a fixed pool spin before they park; an adaptive pool decides by
    /// itself ([`Tuning::spin`]).
    pub spin: Duration,
    /// When jobs wait in the shared lanes and no worker takes any for so long, main does them, and
    /// refuses more with [`Refusal::Stalled`](crate::Refusal::Stalled), until a worker answers or
    /// some milliseconds have gone by: a worker that the system does not run holds up what it has
    /// claimed and nothing else. `None` where jobs may take long, and must not run on main.
    pub stall_after: Option<Duration>,
    /// Jobs that poll go to private inboxes when more workers than this are active, so that they
    /// do not wait behind other jobs. Valkey: 9.
    pub poll_inbox_above: usize,
    /// Threads are called this, a dash and their number; the system shows 15 characters.
    pub thread_name: &'static str,
    /// Worker `i` is pinned to the `i`-th CPU of the list, round and round; an adaptive pool
    /// activates no more workers than the list has CPUs. Without a list the workers may use what
    /// the thread that makes the pool may use at that time.
    pub worker_cpus: Option<CpuList>,
    /// Constants of the policy.
    pub tuning: Tuning,
    /// The clock.
    pub clock: PlainArc<dyn Clock>,
}

impl Options {
    /// For short jobs of an event loop, such as reading, parsing and writing sockets.
    #[must_use]
    pub fn adaptive(workers_max: usize) -> Self {
        Self {
            scaling: Scaling::Adaptive(workers_max),
            credits: 1024,
            inbox: 256,
            budget: Budget::default(),
            claim_max: 8,
            spin: Duration::ZERO,
            stall_after: Some(STALL_AFTER),
            poll_inbox_above: 9,
            thread_name: "io",
            worker_cpus: None,
            tuning: Tuning::default(),
            clock: PlainArc::new(Monotonic::new()),
        }
    }

    /// For jobs that block, such as storage: `workers` threads that park at once and answer each
    /// job by itself.
    #[must_use]
    pub fn blocking(workers: usize) -> Self {
        let scaling = Scaling::Fixed(workers);
        let more = Self::adaptive(workers);
        Self { scaling, claim_max: 1, stall_after: None, thread_name: "block", ..more }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn cpus(count: usize) -> UsableCpus {
        UsableCpus { online: count, allowed: count, quota_permille: None }
    }

    #[test]
    fn io_threads_parse_print_and_refuse() {
        for text in ["auto", "1", "2", "256"] {
            let threads: IoThreads = text.parse().expect(text);
            assert_eq!(threads.to_string(), text);
        }
        assert_eq!("AUTO".parse(), Ok(IoThreads::Auto));
        for text in ["", "0", "-1", "257", "two", "1.5", "99999999999999999999"] {
            assert_eq!(text.parse::<IoThreads>(), Err(BadIoThreads), "{text}");
        }
    }

    #[test]
    fn auto_leaves_one_cpu_to_the_main_thread() {
        assert_eq!(IoThreads::Auto.workers(&cpus(1)), 0);
        assert_eq!(IoThreads::Auto.workers(&cpus(2)), 1);
        assert_eq!(IoThreads::Auto.workers(&cpus(64)), 63);
        assert_eq!(IoThreads::Auto.workers(&cpus(1000)), WORKERS_MAX);
        assert!(!IoThreads::Auto.oversubscribes(&cpus(2)));
    }

    #[test]
    fn a_count_is_taken_as_it_is() {
        let eight: IoThreads = "8".parse().expect("a number");
        assert_eq!(eight.workers(&cpus(2)), 7);
        assert!(eight.oversubscribes(&cpus(2)));
        assert!(!eight.oversubscribes(&cpus(8)));
    }

    #[test]
    fn a_scaling_keeps_its_kind() {
        assert_eq!(Scaling::Fixed(1).with(3), Scaling::Fixed(3));
        assert_eq!(Scaling::Adaptive(1).with(3).workers_max(), 3);
    }
}
