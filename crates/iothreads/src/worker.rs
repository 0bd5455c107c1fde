//! One worker: its own inbox, then the shared lanes, then sleep.
//!
//! [`Worker`] owns everything it touches except [`Shared`], runs on its own thread, and ends when
//! its inbox is closed and empty. It must not take a lock, read the clock or write a shared line in
//! a pass that finds nothing; it must not keep an answer back longer than one pass, nor let main
//! sleep on answers while it sleeps or looks for work itself.
//!
//! When to ring. Waking main costs a system call here and a sleep there, and a main that is woken
//! for each pass of a worker hands out as little at a time as it got. So a worker that has more to
//! do lets a sleeping main sleep on, until it runs dry, [`RING_ANSWERS`] wait or [`RING_NS`] are
//! over: a busy lane says that main is not who everybody waits for. Answers are published at the
//! end of a pass; where a job was long enough to ask for the time, before the next one too, so
//! that nobody waits for a whole claim of such jobs.
//!
//! Order of a pass: up to 16 jobs of the own inbox, then one claim from the shared lane; between
//! any two jobs one job of the high lane. So a flood in one inbox delays neither lane by more than
//! 16 budgets, and the high lane waits for one job at most.
//!
//! Unfinished jobs. One from the shared lane goes back behind the others, through main, since only
//! main can push there; if nobody waits it simply goes on. One from the high lane or the own inbox
//! stays with the worker and gets its next turn in the next gap, before its successors, so the
//! order of an inbox is kept.
//!
//! Panics are caught at the job: the owner gets an answer, the worker's local state is made anew,
//! and the worker goes on. A panic of the handler's `owner` or `panicked` leaves nobody to tell and
//! aborts.
//!
//! Source: the IO threads of Valkey 9; its pull request 4110 (lock, clock and cancellation point in
//! each empty pass).

use std::collections::VecDeque;

use crossbeam_utils::CachePadded;
use flintlock_queues::mpsc::rings;
use flintlock_queues::{PopError, spmc, spsc};

use crate::clock::{Clock, nanos};
use crate::handler::{Budget, Context, Handler, Outcome, run_caught};
use crate::park::{Bell, Sleepers};
use crate::stats::{AnswerProbe, Block, Counts, Lane, Mode};
use crate::sync::{Arc, AtomicU8, AtomicU64, AtomicUsize, Ordering, PlainArc, pause, wait_step};

/// Jobs of the own inbox in one pass.
const INBOX_PASS_MAX: usize = 16;
/// Answers kept back for one commit.
const ANSWERS_MAX: usize = 16;
/// Answers that a sleeping main is woken for at once.
const RING_ANSWERS: usize = 32;
/// How long main may sleep on fewer while their worker has more to do.
const RING_NS: u64 = 50_000;
/// Work claimed ahead: what a job may wait for those claimed together with it.
const CLAIM_NS_MAX: u64 = 100_000;
/// Workers that spin at the same time.
const SEARCHERS_MAX: usize = 2;
/// Looks between two readings of the clock while spinning.
const LOOKS_PER_CLOCK: u32 = 16;
/// Pauses of the processor between two looks, about 100 ns.
const PAUSES_PER_LOOK: u32 = 4;

/// What main tells all workers. Written by main rarely, read by workers in every pass.
#[derive(Debug)]
pub(crate) struct Orders {
    /// Workers below this index take from the shared lanes.
    pub(crate) active: AtomicUsize,
    /// Jobs to claim at once.
    pub(crate) claim: AtomicUsize,
    /// How long to spin before parking.
    pub(crate) spin_ns: AtomicU64,
    /// Not 0: leave at once, jobs left are dropped.
    pub(crate) quit: AtomicU8,
}

/// What all workers of a pool share with main.
#[derive(Debug)]
pub(crate) struct Shared<H> {
    pub(crate) handler: H,
    pub(crate) sleepers: Sleepers,
    pub(crate) bell: Arc<Bell>,
    pub(crate) clock: PlainArc<dyn Clock>,
    pub(crate) budget: Budget,
    /// Most jobs claimed at once; 1 says that jobs are long, so that each answer is published
    /// alone.
    pub(crate) claim_max: usize,
    pub(crate) orders: CachePadded<Orders>,
    /// Workers that the system would not put on their CPUs.
    pub(crate) pin_failures: AtomicU64,
    /// When main published a job into an empty lane, for one job at a time; 0 once it was started.
    pub(crate) probe_ns: CachePadded<AtomicU64>,
    /// How long answers wait for main, for one of them at a time.
    pub(crate) answer_probe: AnswerProbe,
}

/// The ends of the queues that one worker holds.
pub(crate) struct Ends<H: Handler> {
    pub(crate) inbox: spsc::Consumer<H::Job, H::Layout>,
    pub(crate) high: spmc::Consumer<H::Job, H::Layout>,
    pub(crate) lane: spmc::Consumer<H::Job, H::Layout>,
    pub(crate) answers: rings::Producer<H::Answer, H::Layout>,
    pub(crate) again: rings::Producer<H::Job, H::Layout>,
}

/// A worker on its thread.
pub(crate) struct Worker<H: Handler> {
    index: usize,
    shared: Arc<Shared<H>>,
    ends: Ends<H>,
    block: Arc<CachePadded<Block>>,
    local: H::Local,
    /// Jobs claimed from the shared lane and not run yet.
    claimed: VecDeque<H::Job>,
    private_left: Option<H::Job>,
    high_left: Option<H::Job>,
    /// The inbox is closed and empty.
    closed: bool,
    /// What the state byte says may be `SEARCHING`.
    searching: bool,
    /// Main may have counted on this worker for a job that it will not take next.
    counted_on: bool,
    /// The last time read, and the end of what is booked.
    now_ns: u64,
    /// When the next job starts, as far as known without asking the clock for each.
    job_start_ns: u64,
    useful_ns: u64,
    spun_ns: u64,
    counts: Counts,
    silent: u64,
    silent_shown: u64,
    /// Answers and unfinished jobs pushed since the last commit.
    uncommitted: usize,
    /// How many were committed since main fell asleep: it is to be woken.
    unrung: usize,
    /// The age of the oldest of both, as far as known.
    untold_since_ns: u64,
    /// How many main is woken for at once: any, if jobs are long.
    ring_min: usize,
    /// Running mean of the time of a job.
    job_ns: u64,
}

impl<H: Handler> Worker<H> {
    /// Prepares worker `index`; to be called on its own thread, where its local state is to live.
    pub(crate) fn new(
        index: usize,
        shared: Arc<Shared<H>>,
        ends: Ends<H>,
        block: Arc<CachePadded<Block>>,
    ) -> Self {
        let local = shared.handler.local(index);
        let now_ns = nanos(shared.clock.now());
        let claimed = VecDeque::with_capacity(shared.claim_max);
        let ring_min = if shared.claim_max == 1 { 1 } else { RING_ANSWERS };
        Self {
            index,
            shared,
            ends,
            block,
            local,
            claimed,
            private_left: None,
            high_left: None,
            closed: false,
            searching: false,
            counted_on: false,
            now_ns,
            job_start_ns: now_ns,
            useful_ns: 0,
            spun_ns: 0,
            counts: Counts::default(),
            silent: 0,
            silent_shown: 0,
            uncommitted: 0,
            unrung: 0,
            untold_since_ns: 0,
            ring_min,
            job_ns: 0,
        }
    }

    /// Works until the inbox is closed and empty, or until told to quit.
    pub(crate) fn run(mut self) {
        self.shared.sleepers.enter(self.index);
        while !self.quitting() {
            if !self.pass() && (self.closed || !self.idle()) {
                break;
            }
        }
        self.publish();
        self.ring();
        self.shared.sleepers.leave(self.index);
        let bell = Arc::clone(&self.shared.bell);
        // Dropping the producers closes the rings; main may be waiting for that.
        drop(self);
        bell.ring_for_silent();
    }

    fn quitting(&self) -> bool {
        self.shared.orders.quit.load(Ordering::Relaxed) != 0
    }

    /// Whether this worker takes from the shared lanes. The first one always does, so that jobs
    /// taken before the last deactivation are finished.
    fn eligible(&self) -> bool {
        self.index == 0 || self.index < self.shared.orders.active.load(Ordering::Relaxed)
    }

    /// One round over all sources of jobs; whether it ran any.
    fn pass(&mut self) -> bool {
        if self.searching {
            self.searching = false;
            self.counted_on = true;
            self.shared.sleepers.work(self.index);
            let now_ns = nanos(self.shared.clock.now());
            self.spun_ns += now_ns.saturating_sub(self.now_ns);
            self.now_ns = now_ns;
            self.block.store_times(self.useful_ns, self.spun_ns, Mode::Useful, now_ns);
        }
        let eligible = self.eligible();
        let before = self.runs();
        self.run_inbox(eligible);
        if eligible || self.high_left.is_some() {
            self.run_high();
        }
        if eligible {
            self.run_claim();
        }
        let runs = self.runs() - before;
        if runs > 0 {
            self.book(runs);
            self.publish();
            if self.unrung > 0 && !self.work_is_there(eligible) {
                self.ring();
            }
        }
        runs > 0
    }

    /// Runs so far, unfinished ones included.
    fn runs(&self) -> u64 {
        self.counts.jobs.iter().sum::<u64>() + self.counts.again
    }

    fn run_inbox(&mut self, eligible: bool) {
        for _ in 0..INBOX_PASS_MAX {
            let job = match self.private_left.take().map_or_else(|| self.ends.inbox.pop(), Ok) {
                Ok(job) => job,
                Err(PopError::Empty) => return,
                Err(PopError::Closed) => {
                    self.closed = true;
                    return;
                }
            };
            self.private_left = self.run_job(Lane::Private, job);
            if eligible {
                self.run_high();
            }
            if self.private_left.is_some() || self.quitting() {
                return;
            }
        }
    }

    /// One job of the high lane, if there is one; first what was left of the last one.
    fn run_high(&mut self) {
        let job = self.high_left.take().or_else(|| self.ends.high.pop().ok());
        if let Some(job) = job {
            self.high_left = self.run_job(Lane::High, job);
        }
    }

    /// One claim from the shared lane.
    fn run_claim(&mut self) {
        let wanted = self.shared.orders.claim.load(Ordering::Relaxed);
        let affordable = CLAIM_NS_MAX.checked_div(self.job_ns).unwrap_or(1);
        let affordable = usize::try_from(affordable).unwrap_or(usize::MAX);
        let count = wanted.min(affordable).clamp(1, self.shared.claim_max);
        let claimed = &mut self.claimed;
        if self.ends.lane.pop_batch(count, |job| claimed.push_back(job)) == 0 {
            return;
        }
        self.note_start();
        while let Some(job) = self.claimed.pop_front() {
            self.run_shared(job);
            self.run_high();
            if self.quitting() {
                return;
            }
        }
    }

    /// Tells the probe, if one is out, how long its job has waited.
    fn note_start(&mut self) {
        let probe = &self.shared.probe_ns;
        let published_ns = probe.load(Ordering::Relaxed);
        if published_ns != 0
            && probe.compare_exchange(published_ns, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            let now_ns = nanos(self.shared.clock.now());
            self.block.note_start(now_ns.saturating_sub(published_ns));
        }
    }

    /// Wakes the next worker if jobs are left behind and nobody looks for them. Once after each
    /// search, before the first job, which may take long: jobs published later find this worker
    /// busy, and main wakes somebody else.
    fn pass_on(&mut self) {
        self.counted_on = false;
        if self.ends.lane.is_empty() && self.ends.high.is_empty() {
            return;
        }
        let active = self.shared.orders.active.load(Ordering::Relaxed);
        if self.shared.sleepers.relieve(active) {
            self.counts.wakes += 1;
        }
    }

    /// Runs a job of the shared lane; unfinished, it goes back behind those who wait, or on.
    fn run_shared(&mut self, job: H::Job) {
        let mut left = self.run_job(Lane::Shared, job);
        while let Some(job) = left.take() {
            let waited_for = self.work_is_there(true) || !self.claimed.is_empty();
            if waited_for && !self.quitting() {
                let pushed = self.ends.again.push_deferred(job);
                assert!(pushed.is_ok() || self.quitting(), "each job has a place to come back to");
                self.uncommitted += 1;
                return;
            }
            if self.quitting() {
                return;
            }
            left = self.run_job(Lane::Shared, job);
        }
    }

    /// Runs `job` once; gives it back if it is unfinished.
    fn run_job(&mut self, lane: Lane, job: H::Job) -> Option<H::Job> {
        if self.counted_on {
            self.pass_on();
        }
        let start_ns = self.known_ns();
        let shared = &*self.shared;
        let mut context = Context::new(
            self.index,
            &mut self.local,
            &mut self.counts.freed_bytes,
            shared.budget,
            &*shared.clock,
            start_ns,
        );
        let ran = run_caught(&shared.handler, job, &mut context);
        self.job_start_ns = context.now_ns();
        let claim_max = shared.claim_max;
        if ran.panicked {
            self.counts.panics += 1;
            self.local = shared.handler.local(self.index);
        }
        let left = match ran.outcome {
            Outcome::Again(job) => {
                self.counts.again += 1;
                Some(job)
            }
            Outcome::Done(answer) => {
                let pushed = self.ends.answers.push_deferred(answer);
                assert!(pushed.is_ok() || self.quitting(), "each job has room for its answer");
                if self.uncommitted + self.unrung == 0 {
                    self.untold_since_ns = self.job_start_ns;
                }
                self.uncommitted += 1;
                None
            }
            Outcome::Nothing => {
                self.silent += 1;
                None
            }
        };
        self.counts.jobs[lane as usize] += u64::from(left.is_none());
        // Only a job that asked for the time can have been long, as far as known.
        let late = self.job_start_ns != start_ns && self.untold_ns() >= RING_NS;
        if late || self.uncommitted >= ANSWERS_MAX || claim_max == 1 {
            self.publish();
        }
        if late {
            self.ring();
        }
        left
    }

    /// Books the time since the last booking as useful, for so many runs.
    fn book(&mut self, runs: u64) {
        let now_ns = nanos(self.shared.clock.now());
        let took_ns = now_ns.saturating_sub(self.now_ns);
        self.useful_ns += took_ns;
        self.now_ns = now_ns;
        // A mean over the last eight passes or so.
        self.job_ns = (self.job_ns * 7 + took_ns / runs) / 8;
        self.block.store_times(self.useful_ns, self.spun_ns, Mode::Useful, now_ns);
        self.block.store_counts(&self.counts);
    }

    /// Makes all that was finished visible, and tells main.
    fn publish(&mut self) {
        let answered = std::mem::take(&mut self.uncommitted);
        if answered > 0 {
            // First, so that main sees the date with the answers it is for.
            self.shared.answer_probe.note(self.known_ns());
            self.ends.answers.commit();
            self.ends.again.commit();
        }
        if self.silent != self.silent_shown {
            self.silent_shown = self.silent;
            self.block.store_silent(self.silent);
            self.shared.bell.ring_for_silent();
        }
        if answered > 0 {
            self.owe_ring(answered);
        }
        if self.unrung >= self.ring_min || self.untold_ns() >= RING_NS {
            self.ring();
        }
    }

    /// The time, without asking the clock.
    fn known_ns(&self) -> u64 {
        self.job_start_ns.max(self.now_ns)
    }

    /// How long answers have been kept back or have waited for main, if there are any.
    fn untold_ns(&self) -> u64 {
        self.known_ns().saturating_sub(self.untold_since_ns)
    }

    /// After a commit of `answered` answers: notes that main is to be woken for them, if it sleeps.
    fn owe_ring(&mut self, answered: usize) {
        if !self.shared.bell.is_asleep() {
            // Awake since the commit, it finds them by itself, and those before them.
            self.unrung = 0;
            return;
        }
        if self.unrung == 0 {
            self.untold_since_ns = self.known_ns();
        }
        self.unrung += answered;
    }

    /// Wakes main if it sleeps on answers of this worker.
    fn ring(&mut self) {
        if std::mem::take(&mut self.unrung) > 0 {
            self.shared.bell.ring();
        }
    }

    /// Waits for work: spins for a while if that is allowed, then parks. Returns whether to go on.
    fn idle(&mut self) -> bool {
        self.ring();
        if self.spin() {
            return true;
        }
        let now_ns = nanos(self.shared.clock.now());
        self.spun_ns += now_ns.saturating_sub(self.now_ns);
        self.counts.parks += 1;
        self.block.store_counts(&self.counts);
        self.block.store_times(self.useful_ns, self.spun_ns, Mode::Parked, now_ns);
        let slept = self
            .shared
            .sleepers
            .sleep(self.index, || self.work_is_there(self.eligible()) || self.quitting());
        if !slept {
            self.counts.parks -= 1;
        }
        self.now_ns = nanos(self.shared.clock.now());
        self.block.store_times(self.useful_ns, self.spun_ns, Mode::Useful, self.now_ns);
        self.searching = true;
        true
    }

    /// Looks for work again and again for the time that main allows; whether it found some.
    fn spin(&mut self) -> bool {
        let orders = &self.shared.orders;
        let spin_ns = orders.spin_ns.load(Ordering::Relaxed);
        let active = orders.active.load(Ordering::Relaxed);
        if spin_ns == 0 || self.shared.sleepers.searching(active) >= SEARCHERS_MAX {
            return false;
        }
        self.shared.sleepers.search(self.index);
        self.searching = true;
        self.block.store_times(self.useful_ns, self.spun_ns, Mode::Spinning, self.now_ns);
        loop {
            for _ in 0..LOOKS_PER_CLOCK {
                if self.work_is_there(self.eligible()) {
                    return true;
                }
                pause(PAUSES_PER_LOOK);
                wait_step();
            }
            let now_ns = nanos(self.shared.clock.now());
            if now_ns.saturating_sub(self.now_ns) >= spin_ns || self.quitting() {
                return false;
            }
        }
    }

    /// Whether a pass would find anything: loads only.
    fn work_is_there(&self, eligible: bool) -> bool {
        let ends = &self.ends;
        self.private_left.is_some()
            || self.high_left.is_some()
            || !ends.inbox.is_empty()
            || ends.inbox.is_closed()
            || (eligible && (!ends.lane.is_empty() || !ends.high.is_empty()))
    }
}
