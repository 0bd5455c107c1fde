//! Who stands before the lock of a `DiskCache`: the driver lets one of them in between two turns.
//! Any thread; blocks only where it says so.
//!
//! A thread that sleeps before a mutex needs some ten microseconds to wake up when it is freed. The
//! driver gives the lock up between two slices of a batch, takes it again at once, and comes first:
//! readers of what is in memory seem to have waited for many slices (longest hit of a run whose
//! engine hangs: 5 to 16 ms before, 1 to 4 ms with this). So those who find the lock taken are
//! counted, and so are those whom the driver has woken and who need it to go on. Whoever finds it
//! free pays nothing.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A thread that is let in and gets no CPU for so long must not hold saving up.
const PATIENCE: Duration = Duration::from_millis(1);

/// Counts; orders nothing: what the lock guards is ordered by the lock.
#[derive(Debug, Default)]
pub(super) struct Turnstile {
    before: AtomicU32,
    /// How many have come in, wrapping.
    passed: AtomicU32,
}

impl Turnstile {
    /// This thread, or one that was woken, needs the lock and does not have it.
    pub(super) fn come(&self) {
        self.before.fetch_add(1, Ordering::Relaxed);
    }

    /// Whoever came has it now.
    pub(super) fn pass(&self) {
        self.passed.fetch_add(1, Ordering::Relaxed);
        self.before.fetch_sub(1, Ordering::Relaxed);
    }

    /// Blocks until somebody has come in, if anybody stands there; for a millisecond at most.
    /// Not to be called with the lock.
    pub(super) fn let_in(&self) {
        let passed = self.passed.load(Ordering::Relaxed);
        if self.before.load(Ordering::Relaxed) == 0 {
            return;
        }
        let start = Instant::now();
        while self.passed.load(Ordering::Relaxed) == passed && start.elapsed() < PATIENCE {
            std::thread::yield_now();
        }
    }

    /// How many stand there.
    #[cfg(test)]
    pub(super) fn standing(&self) -> u32 {
        self.before.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_waits_for_one_who_came_and_for_nobody_else() {
        let turnstile = Turnstile::default();
        let start = Instant::now();
        (0..1000).for_each(|_| turnstile.let_in());
        assert!(start.elapsed() < 1000 * PATIENCE, "nobody was there");
        let start = Instant::now();
        turnstile.come();
        turnstile.let_in();
        assert!(start.elapsed() >= PATIENCE, "nobody came in");
        turnstile.pass();
        assert_eq!(turnstile.standing(), 0);
    }
}
