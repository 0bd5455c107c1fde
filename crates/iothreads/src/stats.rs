//! Counters that INFO reads: one block per worker, written by that worker alone, and what a reader
//! makes of them.
//!
//! A worker stores its counters with plain stores into lines that nobody else writes, at most once
//! per pass that found work; readers load them and disturb nobody: reading wakes, locks and
//! activates nothing.
//!
//! Times. A worker keeps the time at which its present mode began, and totals of the modes before.
//! It stores the beginning first and the totals after it; a reader loads the totals first. So a
//! reader may miss one pass, which the next reading has, but never counts a stretch twice. Parked
//! time is what is left of the wall time, so the three always add up.
//!
//! | edge | release site | acquire site | publishes |
//! |---|---|---|---|
//! | T1 | `Block::store_times`: totals and mode | `Block::times` | the beginning of the present mode |
//! | T2 | `Block::store_silent` | `Block::silent` | what jobs without an answer did |
//!
//! Source: issue 3509 of Valkey (reading INFO woke the threads).

use std::time::Duration;

use crossbeam_utils::CachePadded;

use crate::sync::{AtomicU64, Edge, Ordering};

/// Times of a worker.
const T1: Edge = Edge::new("T1");
/// Jobs done that owed no answer.
const T2: Edge = Edge::new("T2");

/// Buckets of a [`Histogram`]. Loom is given few: it keeps books on each of them.
const BUCKETS: usize = if cfg!(loom) { 2 } else { 40 };

/// What a worker spends its time on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Useful,
    Spinning,
    Parked,
}

/// Counts of one worker since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Jobs finished, by [`Lane`].
    pub(crate) jobs: [u64; 3],
    pub(crate) again: u64,
    pub(crate) panics: u64,
    pub(crate) parks: u64,
    pub(crate) wakes: u64,
    pub(crate) freed_bytes: u64,
}

/// Which way a job went to a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// The inbox that all workers share.
    Shared = 0,
    /// The shared inbox that goes first.
    High = 1,
    /// The inbox of one worker.
    Private = 2,
}

/// The public counters of one worker. Written by its thread, read by any.
#[derive(Debug)]
pub(crate) struct Block {
    started_ns: AtomicU64,
    since_ns: AtomicU64,
    mode: AtomicU64,
    useful_ns: AtomicU64,
    spun_ns: AtomicU64,
    silent: AtomicU64,
    jobs: [AtomicU64; 3],
    again: AtomicU64,
    panics: AtomicU64,
    parks: AtomicU64,
    wakes: AtomicU64,
    freed_bytes: AtomicU64,
    start_latency: [AtomicU64; BUCKETS],
}

impl Block {
    pub(crate) fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            started_ns: zero(),
            since_ns: zero(),
            mode: AtomicU64::new(Mode::Parked as u64),
            useful_ns: zero(),
            spun_ns: zero(),
            silent: zero(),
            jobs: std::array::from_fn(|_| zero()),
            again: zero(),
            panics: zero(),
            parks: zero(),
            wakes: zero(),
            freed_bytes: zero(),
            start_latency: std::array::from_fn(|_| zero()),
        }
    }

    /// Main, before the thread starts: a worker exists from `now_ns` on.
    pub(crate) fn store_start(&self, now_ns: u64) {
        self.started_ns.store(now_ns, Ordering::Relaxed);
        self.since_ns.store(now_ns, Ordering::Relaxed);
    }

    /// Worker: totals of the time before `since_ns`, and what it does from then on.
    pub(crate) fn store_times(&self, useful_ns: u64, spun_ns: u64, mode: Mode, since_ns: u64) {
        self.since_ns.store(since_ns, Ordering::Relaxed);
        // ORDERING: T1
        self.useful_ns.store(useful_ns, T1.release());
        self.spun_ns.store(spun_ns, T1.release());
        self.mode.store(mode as u64, T1.release());
    }

    /// Times up to `now_ns`, the present stretch included.
    pub(crate) fn times(&self, now_ns: u64) -> Times {
        // ORDERING: T1
        let mut useful = self.useful_ns.load(T1.acquire());
        let mut spun = self.spun_ns.load(T1.acquire());
        let mode = self.mode.load(T1.acquire());
        let now_in_mode = now_ns.saturating_sub(self.since_ns.load(Ordering::Relaxed));
        if mode == Mode::Useful as u64 {
            useful += now_in_mode;
        } else if mode == Mode::Spinning as u64 {
            spun += now_in_mode;
        }
        let wall = now_ns.saturating_sub(self.started_ns.load(Ordering::Relaxed));
        let useful = useful.min(wall);
        let spun = spun.min(wall - useful);
        Times {
            useful: Duration::from_nanos(useful),
            spun: Duration::from_nanos(spun),
            parked: Duration::from_nanos(wall - useful - spun),
        }
    }

    /// Worker: jobs finished so far that owed no answer.
    pub(crate) fn store_silent(&self, count: u64) {
        // ORDERING: T2
        self.silent.store(count, T2.release());
    }

    /// Jobs finished that owed no answer; what they did is visible.
    pub(crate) fn silent(&self) -> u64 {
        // ORDERING: T2
        self.silent.load(T2.acquire())
    }

    pub(crate) fn store_counts(&self, counts: &Counts) {
        for (shown, count) in self.jobs.iter().zip(counts.jobs) {
            shown.store(count, Ordering::Relaxed);
        }
        self.again.store(counts.again, Ordering::Relaxed);
        self.panics.store(counts.panics, Ordering::Relaxed);
        self.parks.store(counts.parks, Ordering::Relaxed);
        self.wakes.store(counts.wakes, Ordering::Relaxed);
        self.freed_bytes.store(counts.freed_bytes, Ordering::Relaxed);
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts {
            jobs: std::array::from_fn(|lane| self.jobs[lane].load(Ordering::Relaxed)),
            again: self.again.load(Ordering::Relaxed),
            panics: self.panics.load(Ordering::Relaxed),
            parks: self.parks.load(Ordering::Relaxed),
            wakes: self.wakes.load(Ordering::Relaxed),
            freed_bytes: self.freed_bytes.load(Ordering::Relaxed),
        }
    }

    /// Worker: a job started so long after it was published.
    pub(crate) fn note_start(&self, latency_ns: u64) {
        let bucket = &self.start_latency[bucket_of(latency_ns)];
        bucket.store(bucket.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    pub(crate) fn start_latency(&self) -> Histogram {
        Histogram { counts: std::array::from_fn(|i| self.start_latency[i].load(Ordering::Relaxed)) }
    }
}

/// One answer at a time whose way back is timed: main asks, the worker that commits answers next
/// dates them, and main looks when it drains.
///
/// Asked for seldom, since each question moves the line twice from core to core. Dating every
/// commit cost main a seventh of what a hand-over in batches of 16 costs it: the line went to and
/// fro for each batch, and main read the clock as often.
#[derive(Debug)]
pub(crate) struct AnswerProbe {
    /// 0, [`ASKED`], or when the answers were committed. Shared by all workers, which only read it
    /// unless main has asked.
    at_ns: CachePadded<AtomicU64>,
}

/// Main wants the next commit to be dated.
const ASKED: u64 = 1;

impl AnswerProbe {
    pub(crate) fn new() -> Self {
        Self { at_ns: CachePadded::new(AtomicU64::new(0)) }
    }

    /// Main, which has not asked or has taken what was asked for: the next commit is to be dated.
    pub(crate) fn ask(&self) {
        self.at_ns.store(ASKED, Ordering::Relaxed);
    }

    /// Worker: answers are about to be committed, at `now_ns`.
    pub(crate) fn note(&self, now_ns: u64) {
        if self.at_ns.load(Ordering::Relaxed) == ASKED {
            let now_ns = now_ns.max(ASKED + 1);
            // Another worker may have been first, and then its time counts.
            let _ =
                self.at_ns.compare_exchange(ASKED, now_ns, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Main, having asked and drained: when answers were committed, once it was noted.
    pub(crate) fn take(&self) -> Option<u64> {
        let noted = self.at_ns.load(Ordering::Relaxed);
        if noted <= ASKED {
            return None;
        }
        self.at_ns.store(0, Ordering::Relaxed);
        Some(noted)
    }
}

/// How a worker spent the time since its start; the three add up to that time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// Running jobs.
    pub useful: Duration,
    /// Looking for jobs.
    pub spun: Duration,
    /// Asleep.
    pub parked: Duration,
}

/// Counts by powers of two: bucket `i` holds values from 2^(i-1) up to 2^i, the last one all above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Histogram {
    counts: [u64; BUCKETS],
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: [0; BUCKETS] }
    }
}

impl Histogram {
    pub(crate) fn note(&mut self, value: u64) {
        self.counts[bucket_of(value)] += 1;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
    }

    /// Values noted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// A bound that so many thousandths of the values are below: exact to a factor of two. 0
    /// without values.
    ///
    /// # Examples
    /// ```
    /// let none = flintlock_iothreads::Histogram::default();
    /// assert_eq!(none.permille(500), 0);
    /// ```
    #[must_use]
    pub fn permille(&self, permille: u64) -> u64 {
        let wanted = (self.count() * permille.min(1000)).div_ceil(1000);
        let mut seen = 0;
        for (bucket, count) in (0_u32..).zip(self.counts) {
            seen += count;
            if seen >= wanted && count > 0 {
                return (1_u64 << bucket) - u64::from(bucket == 0);
            }
        }
        0
    }

    /// The largest value noted, rounded up to a power of two.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.permille(1000)
    }

    /// Count of each bucket.
    #[must_use]
    pub fn buckets(&self) -> &[u64] {
        &self.counts
    }
}

/// 0 for 0, else one more than the place of the highest bit.
fn bucket_of(value: u64) -> usize {
    let bits = usize::try_from(u64::BITS - value.leading_zeros()).unwrap_or(BUCKETS);
    bits.min(BUCKETS - 1)
}

/// Figures of one worker since its thread started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerStats {
    /// Its number, from 0.
    pub index: usize,
    /// Whether it takes jobs from the shared lanes.
    pub active: bool,
    /// How it spent its time.
    pub times: Times,
    /// Jobs waiting in its own inbox, noted each time that some were put there.
    pub inbox_depth: Histogram,
    /// Jobs finished from the shared lane, the high lane and its own inbox.
    pub jobs: [u64; 3],
    /// Jobs that used up their budget and returned unfinished, each time counted.
    pub again: u64,
    /// Jobs that panicked.
    pub panics: u64,
    /// How often it parked.
    pub parks: u64,
    /// Other workers it woke, each a system call.
    pub wakes: u64,
}

/// Why a job was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// No worker is active, or the worker asked for does not exist.
    Inactive,
    /// Too few jobs came together this turn for a hand-over to pay.
    FewJobs,
    /// The lane is full.
    Full,
    /// As many jobs are in flight as there is room for answers.
    NoCredit,
    /// Jobs wait and no worker takes any (see `Options::stall_after`).
    Stalled,
}

/// Jobs not taken, by reason: each was done inline by the caller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// See [`Refusal::Inactive`].
    pub inactive: u64,
    /// See [`Refusal::FewJobs`].
    pub few_jobs: u64,
    /// See [`Refusal::Full`].
    pub full: u64,
    /// See [`Refusal::NoCredit`].
    pub no_credit: u64,
    /// See [`Refusal::Stalled`].
    pub stalled: u64,
    /// Work that the caller did not even offer, as it told with `Pool::note_ineligible`.
    pub ineligible: u64,
}

impl Refused {
    pub(crate) fn note(&mut self, refusal: Refusal, jobs: u64) {
        *match refusal {
            Refusal::Inactive => &mut self.inactive,
            Refusal::FewJobs => &mut self.few_jobs,
            Refusal::Full => &mut self.full,
            Refusal::NoCredit => &mut self.no_credit,
            Refusal::Stalled => &mut self.stalled,
        } += jobs;
    }
}

/// Figures of a pool since it was made. Reading them wakes, locks and activates nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolStats {
    /// Workers with a thread, active or not.
    pub threads: usize,
    /// Workers that take jobs from the shared lanes.
    pub active: usize,
    /// Most workers the configuration allows.
    pub workers_max: usize,
    /// Jobs taken, by lane: shared, high, private.
    pub submitted: [u64; 3],
    /// Answers drained.
    pub answered: u64,
    /// Jobs finished that owed no answer.
    pub silent: u64,
    /// Jobs done by the main thread because no worker was left for them, or none took them.
    pub stranded: u64,
    /// How often no worker took any job while some waited (see `Options::stall_after`).
    pub stalls: u64,
    /// Jobs taken and not finished, or finished and not drained.
    pub in_flight: usize,
    /// Jobs not taken, by reason.
    pub refused: Refused,
    /// Bytes announced with `Pool::submit_free` that are not free yet.
    pub pending_free_bytes: u64,
    /// Jobs waiting in the shared and in the high lane, noted once a loop turn while workers are
    /// active.
    pub depth: [Histogram; 2],
    /// Nanoseconds from publishing a job in an empty lane until a worker has it; sampled.
    pub start_latency_ns: Histogram,
    /// Nanoseconds from committing an answer until the main thread has it; sampled.
    pub answer_latency_ns: Histogram,
    /// Workers that the main thread woke, each a system call.
    pub wakes: u64,
    /// Activation changes since the start.
    pub changes: u64,
    /// Threads that the system refused to start.
    pub spawn_failures: u64,
    /// Workers that could not be pinned to their CPU.
    pub pin_failures: u64,
    /// Useful, spinning and parked time of all workers, those that have left included.
    pub times: Times,
    /// Each worker with a thread.
    pub workers: Vec<WorkerStats>,
}

#[cfg(all(test, loom))]
mod tests;

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn times_add_up_to_the_wall_time() {
        let block = Block::new();
        block.store_start(1_000);
        block.store_times(300, 200, Mode::Spinning, 2_000);
        let times = block.times(2_500);
        assert_eq!(times.useful, Duration::from_nanos(300));
        assert_eq!(times.spun, Duration::from_nanos(700));
        assert_eq!(times.parked, Duration::from_nanos(500));
        block.store_times(300, 700, Mode::Useful, 2_500);
        assert_eq!(block.times(3_500).useful, Duration::from_nanos(1_300));
    }

    #[test]
    fn a_reading_older_than_the_start_is_zero() {
        let block = Block::new();
        block.store_start(1_000);
        block.store_times(300, 200, Mode::Useful, 2_000);
        assert_eq!(block.times(500), Times::default());
    }

    #[test]
    fn histograms_tell_quantiles_to_a_factor_of_two() {
        let mut histogram = Histogram::default();
        for value in [0, 1, 2, 3, 1000, 1_000_000] {
            histogram.note(value);
        }
        assert_eq!(histogram.count(), 6);
        assert_eq!(histogram.permille(1), 0);
        assert_eq!(histogram.permille(500), 4);
        assert_eq!(histogram.permille(800), 1024);
        assert_eq!(histogram.max(), 1 << 20);
        let mut sum = Histogram::default();
        sum.add(&histogram);
        assert_eq!(sum, histogram);
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn an_answer_is_dated_once_for_each_question() {
        let probe = AnswerProbe::new();
        probe.note(50);
        assert_eq!(probe.take(), None, "nobody has asked");
        probe.ask();
        assert_eq!(probe.take(), None, "nobody has answered");
        probe.note(0);
        probe.note(60);
        assert_eq!(probe.take(), Some(2), "the first; time zero is not nothing");
        probe.note(70);
        assert_eq!(probe.take(), None);
        probe.ask();
        probe.note(80);
        assert_eq!(probe.take(), Some(80));
    }

    #[test]
    fn every_refusal_is_counted_apart() {
        let mut refused = Refused::default();
        let reasons = [
            (Refusal::Inactive, 1),
            (Refusal::FewJobs, 2),
            (Refusal::Full, 3),
            (Refusal::NoCredit, 4),
            (Refusal::Stalled, 5),
        ];
        for (refusal, jobs) in reasons {
            refused.note(refusal, jobs);
        }
        let (full, no_credit, stalled) = (3, 4, 5);
        let want =
            Refused { inactive: 1, few_jobs: 2, full, no_credit, stalled, ..Refused::default() };
        assert_eq!(refused, want);
    }
}
