//! Submitting, publishing and waking: everything on the way to the workers.
//!
//! Main thread. Never blocks; costs a push a job, a fence a commit, and a system call for each
//! worker that has to be woken. Refuses by giving the job back; the pool is then as before.
//!
//! Source: deferred commit and roll-back on a full queue, as in pull request 2909 of Valkey.

use std::time::Duration;

use super::{Full, Pool};
use crate::clock::nanos;
use crate::handler::Handler;
use crate::stats::{Lane, Refusal};
use crate::sync::Ordering;

/// Jobs published together while main goes on submitting.
const PUBLISH_BATCH: usize = 16;
/// Time between two jobs whose waiting is measured.
const PROBE_PERIOD: Duration = Duration::from_millis(1);

impl<H: Handler> Pool<H> {
    /// Hands `job` to whichever active worker is free first. Visible to workers after the next
    /// [`Pool::commit`] at the latest.
    ///
    /// # Errors
    /// [`Full`] with the job if it should be done inline: no worker is active or takes what waits,
    /// too few jobs came together this turn (see [`Pool::tick`]), or all credits are out.
    #[inline]
    pub fn submit(&mut self, job: H::Job) -> Result<(), Full<H::Job>> {
        self.submit_lane(Lane::Shared, job)
    }

    /// Hands `job` to the next active worker, ahead of the shared lane: it waits for one job at
    /// most.
    ///
    /// # Errors
    /// As [`Pool::submit`], except that few jobs in a turn are no reason.
    pub fn submit_high(&mut self, job: H::Job) -> Result<(), Full<H::Job>> {
        self.submit_lane(Lane::High, job)
    }

    /// Hands over a job that frees about `bytes` of memory and owes no answer; the handler tells
    /// [`Context::freed`](crate::Context::freed) when it has. Until then
    /// [`Pool::pending_free_bytes`] counts them.
    ///
    /// # Errors
    /// As [`Pool::submit`].
    #[inline]
    pub fn submit_free(&mut self, job: H::Job, bytes: u64) -> Result<(), Full<H::Job>> {
        self.submit(job)?;
        self.tally.submitted_bytes += bytes;
        Ok(())
    }

    /// Hands `job` to worker number `worker` and no other, behind everything it got this way
    /// before: for work that belongs where its memory lives, or that must keep its order. The
    /// worker need not be active, but it must have a thread.
    ///
    /// # Errors
    /// [`Full`] with the job if there is no such worker, its inbox is full, or all credits are out.
    pub fn submit_to(&mut self, worker: usize, job: H::Job) -> Result<(), Full<H::Job>> {
        if worker >= self.crew.len() {
            return self.refuse(job, Refusal::Inactive);
        }
        if !self.take_credit() {
            return self.refuse(job, Refusal::NoCredit);
        }
        let hand = &mut self.crew.hands[worker];
        match hand.inbox.push_deferred(job) {
            Ok(()) => {
                hand.uncommitted = true;
                self.inboxes_deferred = true;
                self.tally.submitted[Lane::Private as usize] += 1;
                Ok(())
            }
            Err(refused) => self.refuse_full(refused.into_inner()),
        }
    }

    /// Hands over a job that polls for readiness, so that it starts promptly: through the private
    /// inboxes in turn if many workers are active, else through the shared lane; visible at once.
    /// At most one should be in flight, and only while other answers are owed: with none, the
    /// event loop polls sooner by itself. Then [`Pool::wait`] for the first answer.
    ///
    /// # Errors
    /// As [`Pool::submit`]: poll inline.
    pub fn submit_poll(&mut self, job: H::Job) -> Result<(), Full<H::Job>> {
        if self.active > self.options.poll_inbox_above {
            self.poll_next = (self.poll_next + 1) % self.active;
            self.submit_to(self.poll_next, job)?;
        } else {
            self.submit_lane(Lane::Shared, job)?;
        }
        self.commit();
        Ok(())
    }

    #[inline(always)]
    fn submit_lane(&mut self, lane: Lane, job: H::Job) -> Result<(), Full<H::Job>> {
        match (self.refusing, lane) {
            (None, _) | (Some(Refusal::FewJobs), Lane::High) => {}
            (Some(reason), _) => return self.refuse(job, reason),
        }
        if !self.take_credit() {
            return self.refuse(job, Refusal::NoCredit);
        }
        let ring = if lane == Lane::High { &mut self.high } else { &mut self.lane };
        if let Err(refused) = ring.push_deferred(job) {
            return self.refuse_full(refused.into_inner());
        }
        self.tally.submitted[lane as usize] += 1;
        self.deferred += 1;
        if self.deferred >= PUBLISH_BATCH {
            self.publish();
        }
        Ok(())
    }

    #[cold]
    fn refuse(&mut self, job: H::Job, reason: Refusal) -> Result<(), Full<H::Job>> {
        self.tally.refused.note(reason, 1);
        Err(Full { job, reason })
    }

    /// Refuses a job that holds a credit, which is free again.
    #[cold]
    fn refuse_full(&mut self, job: H::Job) -> Result<(), Full<H::Job>> {
        self.spare += 1;
        self.refuse(job, Refusal::Full)
    }

    /// Counts jobs that were not offered because [`Pool::is_accepting`] said so, under the reason
    /// for that, for [`PoolStats::refused`](crate::PoolStats::refused). Nothing, if it says yes.
    pub fn note_skipped(&mut self, jobs: u64) {
        if let Some(reason) = self.refusing {
            self.tally.refused.note(reason, jobs);
        }
    }

    /// Counts a job that was done inline without being offered, since no worker could do it, for
    /// [`PoolStats::refused`](crate::PoolStats::refused).
    pub fn note_ineligible(&mut self) {
        self.tally.refused.ineligible += 1;
    }

    /// Takes a credit for a job, if there is one.
    #[inline]
    fn take_credit(&mut self) -> bool {
        if self.spare == 0 {
            self.count_credits();
        }
        let has_one = self.spare > 0;
        self.spare -= u64::from(has_one);
        has_one
    }

    #[cold]
    fn count_credits(&mut self) {
        let credits = self.answers.capacity() as u64;
        if self.owed() >= credits {
            self.silent_seen = self.crew.silent();
        }
        self.spare = credits.saturating_sub(self.owed());
    }

    /// Jobs in flight as far as main knows: never too few.
    pub(super) fn owed(&self) -> u64 {
        let tally = &self.tally;
        let submitted: u64 = tally.submitted.iter().sum();
        submitted - tally.answered - tally.stranded_silent - self.silent_seen
    }

    /// Makes everything submitted visible and wakes the workers that are needed: each one that has
    /// something in its inbox, and at most one for the shared lanes, which wakes the next if need
    /// be. Once per loop turn. Costs one fence a lane, and a system call for each worker woken.
    pub fn commit(&mut self) {
        self.publish();
        if self.inboxes_deferred {
            self.inboxes_deferred = false;
            for index in 0..self.crew.len() {
                if self.crew.hands[index].commit() && self.shared.sleepers.wake(index) {
                    self.tally.wakes += 1;
                }
            }
        }
        if self.waiting {
            self.wake_for_lanes();
        }
    }

    /// Puts unfinished jobs into the lane, as far as there is room.
    pub(super) fn resubmit(&mut self) {
        while let Some(job) = self.unfinished.pop_front() {
            if let Err(refused) = self.lane.push_deferred(job) {
                self.unfinished.push_front(refused.into_inner());
                return;
            }
            self.deferred += 1;
        }
    }

    /// Makes the jobs in the lanes visible.
    pub(super) fn publish(&mut self) {
        if !self.unfinished.is_empty() {
            self.resubmit();
        }
        if self.deferred == 0 {
            return;
        }
        if self.options.claim_max == 1 {
            // Jobs are long, so this costs nothing, and nobody may ever tick.
            self.now = self.shared.clock.now();
        }
        self.probe();
        self.tally.published += self.deferred as u64;
        self.deferred = 0;
        self.waiting = true;
        self.governor.publish(self.tally.published, self.now);
        self.lane.commit();
        self.high.commit();
    }

    /// Sends a probe along if nothing else waits: how soon will a worker have this job?
    fn probe(&mut self) {
        if self.waiting || self.now.saturating_sub(self.probed_at) < PROBE_PERIOD {
            return;
        }
        self.probed_at = self.now;
        let now_ns = nanos(self.shared.clock.now()).max(1);
        self.shared.probe_ns.store(now_ns, Ordering::Relaxed);
    }

    pub(super) fn depth(&self) -> usize {
        self.lane.len() + self.high.len()
    }

    /// Wakes a worker if more jobs wait than workers look for some.
    pub(super) fn wake_for_lanes(&mut self) {
        let depth = self.depth();
        self.waiting = depth > 0;
        if depth == 0 {
            return;
        }
        // The first worker serves the lanes even when none is active any more.
        let serving = self.active.max(1);
        let claim = (depth / serving).clamp(1, self.options.claim_max);
        let orders = &self.shared.orders;
        if orders.claim.load(Ordering::Relaxed) != claim {
            orders.claim.store(claim, Ordering::Relaxed);
        }
        let sleepers = &self.shared.sleepers;
        if depth > sleepers.searching(serving) && sleepers.wake_one(serving) {
            self.tally.wakes += 1;
        }
    }
}
