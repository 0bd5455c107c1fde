//! Sampling, activating, resizing: how many workers there are and how many take part.
//!
//! Main thread. What is decided comes from the governor; this file carries it out. Blocks only
//! where [`Pool::resize`] says so.
//!
//! Source: the ignition and scaling of the IO threads of Valkey 9.

use std::io;
use std::time::Duration;

use flintlock_queues::spsc;

use super::{Pool, SpawnError};
use crate::clock::nanos;
use crate::cpu::CpuList;
use crate::governor::{Change, Turn, wanted};
use crate::handler::Handler;
use crate::options::{Scaling, WORKERS_MAX};
use crate::policy::{Reason, Sample};
use crate::stats::Refusal;
use crate::sync::{Ordering, PlainArc};
use crate::worker::Ends;

impl<H: Handler> Pool<H> {
    /// The start of a loop turn: takes a sample if one is due, lets the policy decide, and settles
    /// whether this turn hands jobs over. Call it at least every few milliseconds while busy, and
    /// after [`Pool::timeout`] while asleep. Reads the clock; the rest happens once per period.
    ///
    /// Returns the change, if there was one.
    pub fn tick(&mut self, turn: &Turn) -> Option<Change> {
        self.now = self.shared.clock.now();
        if self.active > 0 {
            let depths = [self.lane.len(), self.high.len()];
            for (histogram, depth) in self.tally.depth.iter_mut().zip(depths) {
                histogram.note(depth as u64);
            }
            self.look(depths.into_iter().sum(), turn.jobs);
        } else if self.waiting {
            self.look(self.depth(), turn.jobs);
        } else {
            self.governor.look(0, 0, turn.jobs, self.now);
        }
        let change = if self.governor.is_due(self.now) { self.decide(turn) } else { None };
        self.settle(turn.jobs);
        change
    }

    /// Looks at the lanes, in which `depth` jobs wait.
    fn look(&mut self, depth: usize, jobs: usize) {
        let published = self.tally.published;
        self.governor.look(published, depth, jobs, self.now);
        self.stall.look(published.saturating_sub(depth as u64), depth, self.now);
    }

    /// Takes a sample, and does what the policy makes of it; in a pool for which there is nothing
    /// to decide, only reads how many CPUs there are.
    fn decide(&mut self, turn: &Turn) -> Option<Change> {
        // Two workers on one CPU of the list would only take it from each other.
        let listed = self.options.worker_cpus.as_ref().map_or(usize::MAX, CpuList::len);
        let workers_max = match self.options.scaling {
            Scaling::Adaptive(count) if count > 0 => count.min(listed),
            _ => {
                self.governor.read_cpus(self.now);
                return None;
            }
        };
        let clock = PlainArc::clone(&self.shared.clock);
        let done = self.crew.done(nanos(self.now));
        // Jobs without an answer that count as under way would make each turn look worth it.
        self.silent_seen = done.silent;
        let (decision, sample) =
            self.governor.decide(&*clock, turn, &done.totals, self.active, workers_max)?;
        self.shared.orders.spin_ns.store(nanos(decision.spin), Ordering::Relaxed);
        let change =
            wanted(decision.verdict).and_then(|to| self.activate(to, decision.reason, sample));
        self.crew.reap(nanos(self.now), |_| false);
        change
    }

    /// Settles whether the jobs of a turn are taken.
    pub(super) fn settle(&mut self, jobs: usize) {
        let fixed = matches!(self.options.scaling, Scaling::Fixed(_));
        let owed = usize::try_from(self.owed()).unwrap_or(usize::MAX);
        self.refusing = if self.active == 0 {
            Some(Refusal::Inactive)
        } else if self.stall.is_on() {
            Some(Refusal::Stalled)
        } else if !fixed && jobs.saturating_add(owed) < self.governor.jobs_that_pay() {
            Some(Refusal::FewJobs)
        } else {
            None
        };
    }

    /// Makes `to` workers active, or as many as can be started.
    pub(super) fn activate(&mut self, to: usize, reason: Reason, sample: Sample) -> Option<Change> {
        // A turn waits for nobody who leaves, since that takes as long as a job. What could not be
        // started is counted; the policy sees how many there are, and backs off.
        while self.crew.len() < to
            && self.crew.is_next_free(nanos(self.now))
            && self.start_one().is_ok()
        {}
        let (from, to) = (self.active, to.min(self.crew.len()));
        if from == to {
            return None;
        }
        self.active = to;
        self.shared.orders.active.store(to, Ordering::Relaxed);
        // Jobs that wait were announced to other workers: to fewer, or to some that now leave them.
        self.shared.sleepers.order();
        if self.waiting {
            self.wake_for_lanes();
        }
        let change = Change { at: self.now, from, to, reason, sample };
        self.governor.changed(change);
        Some(change)
    }

    fn start_up_to(&mut self, count: usize) -> Result<(), SpawnError> {
        while self.crew.len() < count {
            self.start_one().map_err(|source| SpawnError {
                wanted: count,
                running: self.crew.len(),
                source,
            })?;
        }
        Ok(())
    }

    /// Starts the next worker, once the last one of its number has ended.
    fn start_one(&mut self) -> io::Result<()> {
        let (inbox, inbox_end) = spsc::ring_in(self.options.inbox);
        let ends = Ends {
            inbox: inbox_end,
            high: self.high_end.clone(),
            lane: self.lane_end.clone(),
            answers: self.answers.add_producer(),
            again: self.again.add_producer(),
        };
        let started = self.crew.start(inbox, ends, nanos(self.shared.clock.now()));
        self.tally.spawn_failures += u64::from(started.is_err());
        started
    }

    /// Changes the most workers, or of a fixed pool the number of workers, while jobs run. Nothing
    /// in flight is lost and nothing is refused: workers too many finish what they hold and end by
    /// themselves; they are joined later. A fixed pool that grows again right away waits for the
    /// jobs of those still leaving; an adaptive one does without new workers until they are gone.
    ///
    /// # Errors
    /// [`SpawnError`] if a fixed pool could not start all threads; those that run are kept.
    ///
    /// # Panics
    /// If more than [`WORKERS_MAX`] workers are asked for.
    pub fn resize(&mut self, workers_max: usize) -> Result<(), SpawnError> {
        self.rescale(self.options.scaling.with(workers_max))
    }

    /// As [`Pool::resize`], also from fixed to adaptive or back.
    ///
    /// # Errors
    /// As [`Pool::resize`].
    ///
    /// # Panics
    /// As [`Pool::resize`].
    pub fn rescale(&mut self, scaling: Scaling) -> Result<(), SpawnError> {
        let count = scaling.workers_max();
        assert!(count <= WORKERS_MAX, "at most {WORKERS_MAX} workers");
        self.options.scaling = scaling;
        self.now = self.shared.clock.now();
        // What the leaving ones should still do must be visible to them before they leave.
        self.commit();
        self.crew.close_from(count);
        self.crew.reap(nanos(self.now), |_| false);
        self.governor.reset(self.now);
        let started = match scaling {
            Scaling::Adaptive(_) => {
                self.activate(self.active.min(count), Reason::Cap, Sample::default());
                Ok(())
            }
            Scaling::Fixed(_) => {
                self.shared.orders.spin_ns.store(nanos(self.options.spin), Ordering::Relaxed);
                let started = self.start_up_to(count);
                self.activate(count.min(self.crew.len()), Reason::AlwaysActive, Sample::default());
                started
            }
        };
        self.settle(usize::MAX);
        started
    }

    /// How long the event loop may sleep before the policy wants a [`Pool::tick`], or before a
    /// look whether anybody has taken the jobs that wait; `None` for as long as it likes: with no
    /// worker active and no job waiting there is no timer at all.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        let wake_by = self.governor.wake_by().filter(|_| self.active > 0);
        let sample = wake_by.map(|at| at.saturating_sub(self.shared.clock.now()));
        let may_wait = self.deferred > 0 || (self.waiting && self.depth() > 0);
        let look = self.stall.look_within().filter(|_| may_wait);
        [sample, look].into_iter().flatten().min()
    }
}
