//! Decides for one pool: feeds the policy with what the system and the pool tell, keeps the age of
//! the oldest job, and logs every change with its reason.
//!
//! Owned by the pool, main thread. Reads the system at most once per sampling period. Does not
//! touch threads or queues: the pool carries out what it decides.
//!
//! Source: the ignition and scaling of the IO threads of Valkey 9.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Clock;
use crate::cpu::{CpuList, Meter, UsableCpus};
use crate::policy::{Counters, Decision, Limits, Policy, Reason, Sample, Sampler, Tuning, Verdict};

/// Decisions kept.
pub const LOG_MAX: usize = 128;
/// Publishing times kept to know the age of the oldest job.
const MARKS_MAX: usize = 64;
/// How often the limits of the machine are read again.
const CPUS_PERIOD: Duration = Duration::from_secs(10);
/// The idle time is read so rarely that it costs at most this fraction of the main thread.
const IDLE_COST_FRACTION: u32 = 500;

/// What the event loop tells at the start of a turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Jobs that this turn may submit, as far as known: ready connections, say.
    pub jobs: usize,
    /// Units of work that the event loop has completed since its start, inline ones included:
    /// commands, say. The policy compares their rate with and without workers; if the count falls,
    /// it starts measuring anew.
    pub completed: u64,
    /// CPUs that something else of the process needs now, such as a background save.
    pub reserved_cpus: usize,
}

/// One change of the number of active workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// When, on the clock of the pool.
    pub at: Duration,
    /// Workers active before.
    pub from: usize,
    /// Workers active after.
    pub to: usize,
    /// Why.
    pub reason: Reason,
    /// What was known.
    pub sample: Sample,
}

/// When which jobs were published: the age of the oldest one waiting.
#[derive(Debug)]
struct Marks {
    /// Jobs published before, and when; oldest first.
    marks: VecDeque<(u64, Duration)>,
}

impl Marks {
    fn new() -> Self {
        Self { marks: VecDeque::with_capacity(MARKS_MAX) }
    }

    /// Jobs up to number `published` were published at `now`. Without room the jobs count as
    /// younger than they are until older ones have gone.
    fn publish(&mut self, published: u64, now: Duration) {
        if self.marks.len() < MARKS_MAX {
            self.marks.push_back((published, now));
        }
    }

    /// The age of the oldest job if so many were taken.
    fn oldest(&mut self, taken: u64, now: Duration) -> Duration {
        while self.marks.front().is_some_and(|mark| mark.0 <= taken) {
            self.marks.pop_front();
        }
        self.marks.front().map_or(Duration::ZERO, |mark| now.saturating_sub(mark.1))
    }
}

/// Times and counts that the pool keeps.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    /// Useful and spinning time of all workers since the start.
    pub(crate) busy: Duration,
    pub(crate) spun: Duration,
    /// Jobs they have run.
    pub(crate) jobs: u64,
}

#[derive(Debug)]
pub(crate) struct Governor {
    policy: Policy,
    sampler: Sampler,
    /// Opened by the first look, on the thread that it is to measure.
    meter: Option<Meter>,
    /// Whose idle time is there for workers, however the main thread is pinned since.
    idle_cpus: Option<CpuList>,
    cpus: UsableCpus,
    cpus_read_at: Duration,
    /// Between two samples while no worker is active.
    period: Duration,
    next_sample: Duration,
    idle_read_from: Duration,
    wake_by: Option<Duration>,
    marks: Marks,
    log: VecDeque<Change>,
    changes: u64,
    reason: Reason,
}

impl Governor {
    /// For workers that may use the CPUs of `worker_cpus`, or those of the calling thread.
    pub(crate) fn new(tuning: Tuning, clock: &dyn Clock, worker_cpus: Option<&CpuList>) -> Self {
        let now = clock.now();
        Self {
            policy: Policy::new(tuning),
            sampler: Sampler::new(Counters::default()),
            meter: None,
            idle_cpus: worker_cpus.cloned().or_else(CpuList::allowed),
            cpus: UsableCpus::read(),
            cpus_read_at: now,
            period: tuning.period_inactive,
            next_sample: now,
            idle_read_from: now,
            wake_by: None,
            marks: Marks::new(),
            log: VecDeque::with_capacity(LOG_MAX),
            changes: 0,
            reason: Reason::BelowIgnition,
        }
    }

    /// Jobs up to number `published` are in the shared lanes since `now`.
    pub(crate) fn publish(&mut self, published: u64, now: Duration) {
        self.marks.publish(published, now);
    }

    /// One look at the lanes, once per turn: `published` of all jobs so far, `depth` wait.
    pub(crate) fn look(&mut self, published: u64, depth: usize, jobs: usize, now: Duration) {
        let age = self.marks.oldest(published.saturating_sub(depth as u64), now);
        self.sampler.look(depth, age, jobs);
    }

    pub(crate) fn is_due(&self, now: Duration) -> bool {
        now >= self.next_sample
    }

    /// Reads the limits of the machine again, if that is some time ago. For a pool in which nothing
    /// is decided, each time that it [is due](Governor::is_due).
    pub(crate) fn read_cpus(&mut self, now: Duration) {
        if now.saturating_sub(self.cpus_read_at) >= CPUS_PERIOD {
            self.cpus = self.cpus.refreshed();
            self.cpus_read_at = now;
        }
        self.next_sample = self.cpus_read_at + CPUS_PERIOD;
    }

    /// See [`Sampler::jobs_that_pay`].
    pub(crate) fn jobs_that_pay(&self) -> usize {
        usize::try_from(self.sampler.jobs_that_pay()).unwrap_or(usize::MAX)
    }

    /// Takes a sample and decides; `None` for the first sample, with which measuring begins. What
    /// is decided must be told with [`Governor::changed`] once it is carried out.
    pub(crate) fn decide(
        &mut self,
        clock: &dyn Clock,
        turn: &Turn,
        totals: &Totals,
        active: usize,
        workers_max: usize,
    ) -> Option<(Decision, Sample)> {
        let now = clock.now();
        let Some(meter) = &mut self.meter else {
            let mut meter = Meter::with_idle_of(self.idle_cpus.clone());
            self.sampler = Sampler::new(counters(now, &mut meter, true, turn, totals));
            self.meter = Some(meter);
            self.policy.begin(now, turn.completed);
            self.next_sample = now + self.period;
            return None;
        };
        let with_idle = self.sampler.wants_idle(now) && now >= self.idle_read_from;
        let counters = counters(now, meter, with_idle, turn, totals);
        if with_idle {
            // Reading it takes long where there are many CPUs.
            let cost = clock.now().saturating_sub(now);
            self.idle_read_from = now + cost * IDLE_COST_FRACTION;
        }
        self.read_cpus(now);
        let limits = Limits {
            workers_max,
            usable_cpus: self.cpus.count(),
            quota_permille: self.cpus.quota_permille,
            reserved_cpus: turn.reserved_cpus,
        };
        let sample = self.sampler.sample(&counters, &limits, active);
        let decision = self.policy.decide(&sample);
        self.next_sample = decision.next_sample;
        self.wake_by = decision.wake_by;
        self.reason = decision.reason;
        Some((decision, sample))
    }

    /// The number of active workers changed, by decision or from outside.
    pub(crate) fn changed(&mut self, change: Change) {
        self.sampler.changed(change.from, change.to);
        self.reason = change.reason;
        self.changes += 1;
        if self.log.len() == LOG_MAX {
            self.log.pop_front();
        }
        self.log.push_back(change);
    }

    /// The configuration changed: what was learned before no longer holds, and a pool that decides
    /// nothing may have to from now on.
    pub(crate) fn reset(&mut self, now: Duration) {
        self.policy.reset();
        self.next_sample = self.next_sample.min(now + self.period);
    }

    pub(crate) fn wake_by(&self) -> Option<Duration> {
        self.wake_by
    }

    /// The reason of the last decision, a change or not.
    pub(crate) fn reason(&self) -> Reason {
        self.reason
    }

    pub(crate) fn usable_cpus(&self) -> &UsableCpus {
        &self.cpus
    }

    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    pub(crate) fn log(&self) -> impl ExactSizeIterator<Item = &Change> + DoubleEndedIterator {
        self.log.iter()
    }
}

fn counters(
    now: Duration,
    meter: &mut Meter,
    with_idle: bool,
    turn: &Turn,
    totals: &Totals,
) -> Counters {
    let reading = meter.read(with_idle);
    Counters {
        now,
        main_cpu: reading.cpu_time,
        main_waited: reading.run_delay,
        idle: reading.idle,
        process_cpu: reading.process_cpu_time,
        workers_busy: totals.busy,
        workers_spun: totals.spun,
        workers_jobs: totals.jobs,
        completed: turn.completed,
    }
}

/// The number wanted by a verdict.
pub(crate) fn wanted(verdict: Verdict) -> Option<usize> {
    match verdict {
        Verdict::Grow(to) | Verdict::Shrink(to) => Some(to),
        Verdict::Hold => None,
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::clock::Manual;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_oldest_job_is_the_first_mark_not_taken() {
        let mut marks = Marks::new();
        assert_eq!(marks.oldest(0, 9 * MS), Duration::ZERO);
        marks.publish(3, MS);
        marks.publish(5, 4 * MS);
        assert_eq!(marks.oldest(0, 9 * MS), 8 * MS);
        assert_eq!(marks.oldest(2, 9 * MS), 8 * MS, "job 3 is left");
        assert_eq!(marks.oldest(3, 9 * MS), 5 * MS);
        assert_eq!(marks.oldest(5, 9 * MS), Duration::ZERO);
    }

    #[test]
    fn marks_never_grow() {
        let mut marks = Marks::new();
        for job in 0..1000 {
            marks.publish(job + 1, MS);
        }
        assert_eq!(marks.marks.len(), MARKS_MAX);
        assert_eq!(marks.oldest(63, 3 * MS), 2 * MS);
        assert_eq!(marks.oldest(64, 3 * MS), Duration::ZERO);
    }

    #[test]
    fn the_log_keeps_the_last_decisions() {
        let mut governor = Governor::new(Tuning::default(), &Manual::new(), None);
        for to in 0..200 {
            let sample = Sample::default();
            let (at, reason) = (MS, Reason::Ignition);
            governor.changed(Change { at, from: 0, to, reason, sample });
        }
        assert_eq!(governor.changes(), 200);
        assert_eq!(governor.log().len(), LOG_MAX);
        assert_eq!(governor.log().next_back().map(|change| change.to), Some(199));
        assert_eq!(governor.log().next().map(|change| change.to), Some(72));
    }

    #[test]
    fn samples_come_at_their_period_whatever_the_rate_of_turns() {
        let clock = Manual::new();
        let mut governor = Governor::new(Tuning::default(), &clock, None);
        let mut samples = 0;
        for _ in 0..10_000 {
            governor.look(0, 0, 3, clock.now());
            if governor.is_due(clock.now())
                && let Some((decision, sample)) = decide(&mut governor, &clock)
            {
                assert_eq!(sample.jobs_per_turn, 3);
                assert_eq!(decision.reason, Reason::NoCpu);
                samples += 1;
            }
            clock.advance(MS / 10);
        }
        assert_eq!(samples, 19, "one each 50 ms, once measuring has begun");
    }

    fn decide(governor: &mut Governor, clock: &Manual) -> Option<(Decision, Sample)> {
        governor.decide(clock, &Turn::default(), &Totals::default(), 0, 0)
    }

    /// A file of the thread that made the pool tells nothing any more when that has ended, and
    /// before that it tells of the wrong one.
    #[test]
    fn the_thread_that_ticks_is_measured_and_not_the_one_that_made_the_pool() {
        let clock = Manual::new();
        let make = || Governor::new(Tuning::default(), &clock, None);
        let mut governor = std::thread::scope(|scope| scope.spawn(make).join().expect("no panic"));
        assert_eq!(decide(&mut governor, &clock), None, "measuring begins");
        let meter = governor.meter.as_mut().expect("it has begun");
        assert_eq!(
            meter.read(false).run_delay.is_some(),
            Meter::new().read(false).run_delay.is_some()
        );
        clock.advance(50 * MS);
        let (_, sample) = decide(&mut governor, &clock).expect("a sample");
        assert!(sample.main_busy_permille.is_some());
    }

    #[test]
    fn the_reason_is_that_of_the_last_change_whoever_made_it() {
        let clock = Manual::new();
        let mut governor = Governor::new(Tuning::default(), &clock, None);
        assert_eq!(governor.reason(), Reason::BelowIgnition);
        let (at, sample) = (MS, Sample::default());
        governor.changed(Change { at, from: 3, to: 1, reason: Reason::Cap, sample });
        assert_eq!(governor.reason(), Reason::Cap);
    }

    #[test]
    fn the_limits_of_the_machine_are_read_each_ten_seconds() {
        let clock = Manual::new();
        let mut governor = Governor::new(Tuning::default(), &clock, None);
        governor.cpus.online = 4000;
        for (at_ms, due) in [(0, true), (9_999, false), (10_000, true), (10_001, false)] {
            clock.advance(MS * at_ms - clock.now());
            assert_eq!(governor.is_due(clock.now()), due, "{at_ms}");
            if due {
                governor.read_cpus(clock.now());
            }
            assert_eq!(governor.usable_cpus().online == 4000, at_ms < 10_000, "{at_ms}");
        }
    }
}
