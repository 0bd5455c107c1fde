//! What can be asked of a pool. Main thread; wakes nobody, locks and activates nothing.
//!
//! Source: issue 3509 of Valkey (reading INFO woke the threads).

use std::time::Duration;

use super::Pool;
use crate::clock::nanos;
use crate::cpu::UsableCpus;
use crate::governor::Change;
use crate::handler::Handler;
use crate::policy::Reason;
use crate::stats::{PoolStats, Times};
use crate::sync::Ordering;

impl<H: Handler> Pool<H> {
    /// Jobs submitted whose answers were not drained, or which owe none and are not finished.
    pub fn in_flight(&mut self) -> usize {
        self.silent_seen = self.crew.silent();
        usize::try_from(self.owed()).unwrap_or(usize::MAX)
    }

    /// Workers that take jobs from the shared lanes.
    #[must_use]
    pub fn active(&self) -> usize {
        self.active
    }

    /// Workers with a thread.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.crew.len()
    }

    /// Whether this turn hands jobs over; if not, submitting fails and callers may skip preparing.
    #[must_use]
    pub fn is_accepting(&self) -> bool {
        self.refusing.is_none()
    }

    /// Bytes announced with [`Pool::submit_free`] and not free yet: memory that a limit should
    /// count as gone already.
    #[must_use]
    pub fn pending_free_bytes(&self) -> u64 {
        let done = self.crew.done(nanos(self.now));
        let freed = done.freed_bytes + self.tally.stranded_bytes;
        self.tally.submitted_bytes.saturating_sub(freed)
    }

    /// The limits of the machine as last read.
    #[must_use]
    pub fn usable_cpus(&self) -> &UsableCpus {
        self.governor.usable_cpus()
    }

    /// The last 128 changes of the number of active workers, oldest first.
    #[must_use = "the changes are only listed"]
    pub fn decisions(&self) -> impl ExactSizeIterator<Item = &Change> + DoubleEndedIterator {
        self.governor.log()
    }

    /// The reason of the last decision, also if that was to change nothing.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.governor.reason()
    }

    /// The clock of the pool.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.shared.clock.now()
    }

    /// All figures. Wakes nobody, activates nothing.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        let now_ns = nanos(self.shared.clock.now());
        let done = self.crew.done(now_ns);
        let tally = &self.tally;
        let silent = done.silent + tally.stranded_silent;
        let owed = tally.submitted.iter().sum::<u64>() - tally.answered - silent;
        let freed = done.freed_bytes + tally.stranded_bytes;
        PoolStats {
            threads: self.crew.len(),
            active: self.active,
            workers_max: self.options.scaling.workers_max(),
            submitted: tally.submitted,
            answered: tally.answered,
            silent,
            stranded: tally.stranded,
            stalls: self.stall.count(),
            in_flight: usize::try_from(owed).unwrap_or(usize::MAX),
            refused: tally.refused,
            pending_free_bytes: tally.submitted_bytes.saturating_sub(freed),
            depth: tally.depth,
            start_latency_ns: done.start_latency,
            answer_latency_ns: tally.answer_latency,
            wakes: tally.wakes,
            changes: self.governor.changes(),
            spawn_failures: tally.spawn_failures,
            pin_failures: self.shared.pin_failures.load(Ordering::Relaxed),
            times: Times { useful: done.totals.busy, spun: done.totals.spun, parked: done.parked },
            workers: self.crew.workers(self.active, now_ns),
        }
    }
}
