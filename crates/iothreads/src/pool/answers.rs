//! Draining and waiting: everything on the way back from the workers.
//!
//! Main thread. Only [`Pool::wait`], [`Pool::quiesce`] and [`Pool::shutdown`] block, and only until
//! a worker rings: no worker ever waits for main, so none of them can deadlock.
//!
//! Source: the review of pull request 3438 of Valkey (main waits for workers, workers for main).

use std::time::Duration;

use super::{Pool, StillBusy};
use crate::clock::nanos;
use crate::handler::{Context, Handler, Outcome, run_caught};
use crate::options::WORKERS_MAX;
use crate::sync::Arc;

/// Drains that bring something between two answers whose way back is timed.
const DRAINS_PER_PROBE: u64 = 64;
/// How long to wait for a worker that stopped while it took a job out of a lane whose places it
/// must mark (layouts other than `Words`).
const LANE_RETRY: Duration = Duration::from_micros(50);

impl<H: Handler> Pool<H> {
    /// Hands up to `max` answers to `each`, fairly from all workers; returns how many. Afterwards
    /// their credits are free again.
    pub fn drain(&mut self, max: usize, mut each: impl FnMut(H::Answer)) -> usize {
        if self.owed() == 0 {
            // Looking into the rings of all workers is the dearest part of a turn without answers.
            return 0;
        }
        let answered = &mut self.tally.answered;
        let mut count = self.answers.pop_batch(max, |answer| {
            *answered += 1;
            each(answer);
        });
        if count > 0 {
            self.stall.end();
            self.probe_answers();
        }
        self.take_back();
        if self.is_left_alone() && self.owed() > 0 {
            count += self.finish_stranded(max - count, &mut each);
        }
        count
    }

    /// How soon does main have an answer? Asks now and then, and looks at what was noted.
    fn probe_answers(&mut self) {
        let probe = &self.shared.answer_probe;
        if self.answer_asked {
            if let Some(noted_ns) = probe.take() {
                self.answer_asked = false;
                let now_ns = nanos(self.shared.clock.now());
                self.tally.answer_latency.note(now_ns.saturating_sub(noted_ns));
            }
            return;
        }
        // Counted, since not every event loop tells the time by ticks.
        self.drains += 1;
        if self.drains.is_multiple_of(DRAINS_PER_PROBE) {
            self.answer_asked = true;
            probe.ask();
        }
    }

    /// Puts jobs that used up their budget behind the others.
    fn take_back(&mut self) {
        // A look at each ring; an attempt to take costs several times as much.
        if !self.again.is_empty() {
            while let Ok(job) = self.again.pop() {
                self.unfinished.push_back(job);
            }
        }
        if !self.unfinished.is_empty() {
            self.resubmit();
        }
    }

    /// Whether main does the jobs of the lanes: the workers they were for have ended, or take none.
    fn is_left_alone(&self) -> bool {
        self.crew.len() == 0 || self.stall.is_on()
    }

    /// Does the jobs of the lanes on this thread, up to `max` answers. Each has one budget; what it
    /// leaves unfinished is for the next drain, since main has others to serve.
    #[cold]
    fn finish_stranded(&mut self, max: usize, each: &mut impl FnMut(H::Answer)) -> usize {
        self.publish();
        let mut count = 0;
        for _ in 0..self.depth() + self.unfinished.len() {
            if count == max {
                break;
            }
            let Some(job) = self.stranded() else { break };
            match self.run_here(job) {
                Outcome::Again(job) => {
                    self.unfinished.push_back(job);
                    continue;
                }
                Outcome::Nothing => self.tally.stranded_silent += 1,
                Outcome::Done(answer) => {
                    self.tally.answered += 1;
                    count += 1;
                    each(answer);
                }
            }
            self.tally.stranded += 1;
        }
        count
    }

    fn stranded(&mut self) -> Option<H::Job> {
        let published = self.high_end.pop().or_else(|_| self.lane_end.pop()).ok();
        published.or_else(|| self.unfinished.pop_front())
    }

    /// Runs `job` once on this thread, as a worker would.
    fn run_here(&mut self, job: H::Job) -> Outcome<H::Job, H::Answer> {
        let handler = &self.shared.handler;
        // Workers that are leaving may still run jobs, so none of their numbers will do.
        let worker = WORKERS_MAX;
        let local = self.local.get_or_insert_with(|| handler.local(worker));
        let clock = &*self.shared.clock;
        let freed = &mut self.tally.stranded_bytes;
        let now_ns = nanos(clock.now());
        let mut context = Context::new(worker, local, freed, self.shared.budget, clock, now_ns);
        let ran = run_caught(handler, job, &mut context);
        if ran.panicked {
            self.local = None;
        }
        ran.outcome
    }

    /// Whether draining would do anything: jobs that no worker is left for are its to finish.
    pub(super) fn has_answers(&self) -> bool {
        !self.answers.is_empty()
            || !self.again.is_empty()
            || !self.unfinished.is_empty()
            || (self.is_left_alone() && self.depth() > 0)
    }

    /// The end of a wait of at most `limit`; `None` if it has none that a clock could show.
    fn until(&self, limit: Option<Duration>) -> Option<Duration> {
        self.shared.clock.now().checked_add(limit?)
    }

    /// Commits, and announces that the event loop is about to sleep in its poller. Returns whether
    /// it may: `false` means that answers are there, which must be drained first.
    ///
    /// With several pools on one bell, ask each; any `false` forbids the sleep.
    #[must_use]
    pub fn before_sleep(&mut self) -> bool {
        self.commit();
        if self.owed() == 0 {
            // Nobody would ring.
            return true;
        }
        self.shared.bell.announce();
        if self.has_answers() {
            self.shared.bell.rise();
            return false;
        }
        true
    }

    /// The event loop has left its poller. With several pools on one bell, tell one of them.
    pub fn after_sleep(&mut self) {
        self.shared.bell.rise();
    }

    /// Waits for an answer, for at most `limit`; returns whether there is one. For an event loop
    /// that cannot sleep in its poller because the poller is in a job ([`Pool::submit_poll`]).
    /// Parks at once: time that the main thread spins is no answer's and a neighbour's. Jobs that
    /// owe no answer may end the wait too, and other pools on the same bell; then it is `false`
    /// before its time. So it is without a limit if nothing is in flight: nobody would end it.
    pub fn wait(&mut self, limit: Option<Duration>) -> bool {
        self.commit();
        if self.has_answers() {
            return true;
        }
        let until = self.until(limit);
        if until.is_none() && self.in_flight() == 0 {
            return false;
        }
        let shared = Arc::clone(&self.shared);
        // Without a limit nobody ends the sleep if the last job is done by then and owes no answer.
        let silent = until.is_none().then_some(self.silent_seen);
        shared.bell.park(until, &*shared.clock, || {
            silent.map_or_else(|| self.has_answers(), |silent| self.has_news(silent))
        });
        self.has_answers()
    }

    /// Whether draining would do anything, or other than `silent` jobs without an answer are done.
    fn has_news(&self, silent: u64) -> bool {
        self.has_answers() || self.crew.silent() != silent
    }

    /// Drains until nothing is in flight, for at most `limit`; returns how many answers came.
    /// Parks meanwhile. Never refuses and cannot deadlock: workers wait for nothing.
    ///
    /// # Errors
    /// [`StillBusy`] if jobs were in flight when the time was over; those answers that came were
    /// handed over.
    pub fn quiesce(
        &mut self,
        limit: Option<Duration>,
        mut each: impl FnMut(H::Answer),
    ) -> Result<usize, StillBusy> {
        let shared = Arc::clone(&self.shared);
        let until = self.until(limit);
        let mut drained = 0;
        loop {
            drained += self.drain(usize::MAX, &mut each);
            self.commit();
            let in_flight = self.in_flight();
            if in_flight == 0 {
                return Ok(drained);
            }
            if until.is_some_and(|until| shared.clock.now() >= until) {
                return Err(StillBusy { in_flight, drained });
            }
            if self.unfinished.is_empty() || self.crew.len() == 0 {
                let silent = self.silent_seen;
                shared
                    .bell
                    .park(until, &*shared.clock, || self.has_news(silent) || self.crew.len() == 0);
            } else {
                let soon = shared.clock.now() + LANE_RETRY;
                shared.bell.park(Some(soon), &*shared.clock, || false);
            }
        }
    }

    /// Finishes everything in flight, handing the answers to `each`, and joins all threads.
    /// Blocks for as long as the jobs take. Dropping a pool instead ends its workers after the jobs
    /// they run, and drops the other jobs.
    pub fn shutdown(mut self, each: impl FnMut(H::Answer)) {
        let quiet = self.quiesce(None, each);
        debug_assert!(quiet.is_ok(), "without a limit it waits until nothing is in flight");
    }
}
