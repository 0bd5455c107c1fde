//! Time as an argument: [`Clock`], the monotonic one that ships, and one that tests set by hand.
//!
//! Any thread. The only file that calls `Instant::now`; everything else of the crate gets a
//! [`Duration`] since the origin of the clock, so the policy can be tested and simulated without
//! waiting. Must not be read in an empty pass of a worker: a read costs more than the pass.
//!
//! Source: the 50 ms and 10 ms windows of Valkey 9; a policy is tested by its clock.

use std::fmt;
use std::time::{Duration, Instant};

use crate::sync::{AtomicU64, Ordering};

/// A clock that never goes back. Any thread; never blocks.
pub trait Clock: Send + Sync + fmt::Debug + 'static {
    /// Time since the origin of this clock.
    fn now(&self) -> Duration;
}

/// The monotonic clock of the system, counted from its creation.
#[derive(Copy, Clone, Debug)]
pub struct Monotonic {
    origin: Instant,
}

impl Monotonic {
    /// A clock that starts at zero now.
    #[must_use]
    pub fn new() -> Self {
        Self { origin: Instant::now() }
    }
}

impl Default for Monotonic {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for Monotonic {
    fn now(&self) -> Duration {
        self.origin.elapsed()
    }
}

/// A clock that stands still until somebody moves it, for tests.
///
/// ```
/// use flintlock_iothreads::{Clock, Manual};
/// use std::time::Duration;
///
/// let clock = Manual::new();
/// clock.advance(Duration::from_millis(50));
/// assert_eq!(clock.now(), Duration::from_millis(50));
/// ```
#[derive(Debug)]
pub struct Manual {
    now_ns: AtomicU64,
}

impl Manual {
    /// A clock that shows zero.
    #[must_use]
    pub fn new() -> Self {
        Self { now_ns: AtomicU64::new(0) }
    }

    /// Moves the clock forward; times over 584 years wrap.
    pub fn advance(&self, by: Duration) {
        self.now_ns.fetch_add(nanos(by), Ordering::Relaxed);
    }
}

impl Default for Manual {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for Manual {
    fn now(&self) -> Duration {
        Duration::from_nanos(self.now_ns.load(Ordering::Relaxed))
    }
}

/// Nanoseconds as one word; saturates after 584 years, which no process reaches.
pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monotonic_starts_near_zero_and_never_goes_back() {
        let before = Instant::now();
        let clock = Monotonic::new();
        let first = clock.now();
        assert!(first <= before.elapsed());
        assert!(first <= clock.now());
    }

    #[test]
    fn nanos_saturate_instead_of_wrapping() {
        assert_eq!(nanos(Duration::from_micros(3)), 3_000);
        assert_eq!(nanos(Duration::MAX), u64::MAX);
    }
}
