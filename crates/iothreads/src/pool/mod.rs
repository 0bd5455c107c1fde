//! The pool as its owner sees it: submit, commit, drain, sleep, tick, resize, join.
//!
//! Belongs to one thread, called main here, which owns the producing ends of all inboxes and the
//! consuming end of the outbox. Nothing blocks but [`Pool::quiesce`], [`Pool::wait`] and joining.
//! Jobs are opaque; a job is never copied, shared or lost: it comes back in the error, or as an
//! answer, or is dropped with the pool.
//!
//! Credits. A job in flight holds one credit until its answer is drained or, if it owes none, until
//! it is finished. The outbox rings of each worker have as many places as there are credits:
//! pushing an answer and sending an unfinished job back cannot fail. No worker keeps an overflow
//! list or waits for main, so draining cannot deadlock. The shared lanes have as many places too,
//! so with the `Words` layout a job for which there is a credit is always taken; with the other
//! layouts a worker stopped in the act of taking a job can make the lane look full, and the job is
//! refused.
//!
//! Source: the shared inbox, private inboxes and outbox of Valkey 9, pull request 2909.

mod answers;
mod error;
mod report;
mod scale;
mod stall;
mod submit;

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use crossbeam_utils::CachePadded;
use flintlock_queues::mpsc::rings;
use flintlock_queues::spmc;

use crate::clock::nanos;
use crate::crew::Crew;
use crate::governor::Governor;
use crate::handler::Handler;
use crate::options::{Options, WORKERS_MAX};
use crate::park::{Bell, Sleepers};
use crate::stats::{AnswerProbe, Histogram, Refusal, Refused};
use crate::sync::{Arc, AtomicU8, AtomicU64, AtomicUsize, PlainArc};
use crate::worker::{Orders, Shared};

pub use error::{Full, SpawnError, StillBusy};

use stall::Stall;

/// What main counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Tally {
    submitted: [u64; 3],
    /// Jobs published in the shared lanes; those that came back are counted again.
    published: u64,
    answered: u64,
    /// Jobs that main finished since no worker was left or took them, and those of them without an
    /// answer.
    stranded: u64,
    stranded_silent: u64,
    refused: Refused,
    submitted_bytes: u64,
    stranded_bytes: u64,
    depth: [Histogram; 2],
    answer_latency: Histogram,
    wakes: u64,
    spawn_failures: u64,
}

/// A pool of workers for one main thread. See the crate documentation for a whole example.
pub struct Pool<H: Handler> {
    /// First, so that it is dropped first: it joins the threads, and the queues follow.
    crew: Crew<H>,
    shared: Arc<Shared<H>>,
    options: Options,
    lane: spmc::Producer<H::Job, H::Layout>,
    high: spmc::Producer<H::Job, H::Layout>,
    /// Kept to be cloned for new workers, and to finish jobs when no worker is left.
    lane_end: spmc::Consumer<H::Job, H::Layout>,
    high_end: spmc::Consumer<H::Job, H::Layout>,
    answers: rings::Consumer<H::Answer, H::Layout>,
    /// Jobs that used up their budget.
    again: rings::Consumer<H::Job, H::Layout>,
    /// Jobs from there for which the lane had no room: only layouts whose places a stopped consumer
    /// can hold make this happen. At most one for each credit.
    unfinished: VecDeque<H::Job>,
    governor: Governor,
    /// State of main as a worker, made when first needed.
    local: Option<H::Local>,
    active: usize,
    /// Why this turn hands no jobs over, if it does not.
    refusing: Option<Refusal>,
    /// Credits that are free for sure: as many as were when they were last counted, without those
    /// taken since.
    spare: u64,
    /// Jobs pushed to the lanes since the last commit.
    deferred: usize,
    /// Inboxes have jobs that are not committed.
    inboxes_deferred: bool,
    /// The lanes may hold jobs.
    waiting: bool,
    /// The last time read, good enough to date jobs.
    now: Duration,
    probed_at: Duration,
    /// An answer is to be dated, and was not seen yet.
    answer_asked: bool,
    /// Drains that brought something while none was.
    drains: u64,
    stall: Stall,
    /// Silent jobs known to be finished; behind the truth.
    silent_seen: u64,
    poll_next: usize,
    tally: Tally,
}

impl<H: Handler> Pool<H> {
    /// A pool that runs jobs with `handler` and rings `bell` for answers. It belongs to the calling
    /// thread, or to the one it is moved to before its first use.
    ///
    /// An adaptive pool starts no thread yet; a fixed one starts all.
    ///
    /// # Errors
    /// [`SpawnError`] if a fixed pool could not start all its threads; none is left running.
    ///
    /// # Panics
    /// If more than [`WORKERS_MAX`] workers are asked for, `credits` or `inbox` is below 2, or
    /// `claim_max` is not from 1 to 32.
    pub fn new(handler: H, bell: Arc<Bell>, options: Options) -> Result<Self, SpawnError> {
        assert!(options.scaling.workers_max() <= WORKERS_MAX, "at most {WORKERS_MAX} workers");
        assert!((1..=spmc::CLAIM_MAX).contains(&options.claim_max), "claims of 1 to 32 jobs");
        let credits = options.credits;
        let (lane, lane_end) = spmc::ring_in(credits);
        let (high, high_end) = spmc::ring_in(credits);
        let shared = Arc::new(Shared {
            handler,
            sleepers: Sleepers::new(WORKERS_MAX),
            bell,
            clock: PlainArc::clone(&options.clock),
            budget: options.budget,
            claim_max: options.claim_max,
            orders: CachePadded::new(Orders {
                active: AtomicUsize::new(0),
                claim: AtomicUsize::new(1),
                spin_ns: AtomicU64::new(nanos(options.spin)),
                quit: AtomicU8::new(0),
            }),
            pin_failures: AtomicU64::new(0),
            probe_ns: CachePadded::new(AtomicU64::new(0)),
            answer_probe: AnswerProbe::new(),
        });
        let pin_to = options.worker_cpus.clone();
        let mut pool = Self {
            crew: Crew::new(Arc::clone(&shared), options.thread_name, pin_to),
            shared,
            lane,
            high,
            lane_end,
            high_end,
            answers: rings::ring_in(credits),
            again: rings::ring_in(credits),
            unfinished: VecDeque::new(),
            governor: Governor::new(options.tuning, &*options.clock, options.worker_cpus.as_ref()),
            local: None,
            active: 0,
            refusing: Some(Refusal::Inactive),
            spare: 0,
            deferred: 0,
            inboxes_deferred: false,
            waiting: false,
            now: options.clock.now(),
            probed_at: Duration::ZERO,
            answer_asked: false,
            drains: 0,
            stall: Stall::new(options.stall_after),
            silent_seen: 0,
            poll_next: 0,
            tally: Tally::default(),
            options,
        };
        pool.resize(pool.options.scaling.workers_max())?;
        Ok(pool)
    }
}

impl<H: Handler> fmt::Debug for Pool<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("scaling", &self.options.scaling)
            .field("active", &self.active)
            .field("threads", &self.crew.len())
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
