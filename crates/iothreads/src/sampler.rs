//! Turns counters that only ever rise into [`Sample`]s of the time between two looks.
//!
//! Owned by the pool, on the main thread; the simulation uses the same code. Pure: whoever calls
//! it reads the clock and the system. Decides nothing.
//!
//! All CPU time of the main thread counts as useful, since it never spins: one that did would
//! ignite workers for its own waiting.
//!
//! Source: the depth that Valkey 9 samples once per turn, right after its sleep, when the queue is
//! drained; and its CPU share, in which spinning counts as work.

use std::time::Duration;

use crate::policy::Sample;

/// Idle time is told in hundredths of a second, so that shorter stretches say nothing.
const IDLE_SPAN_MIN: Duration = Duration::from_millis(50);
/// Work that must come together for a hand-over to pay: a wake-up costs the main thread 7 us and
/// the job 15 to 18 us of delay, so less work than this is done sooner inline.
const WORK_THAT_PAYS: Duration = Duration::from_micros(20);
/// More jobs than this in one turn pay in any case.
const JOBS_THAT_PAY_MAX: u32 = 16;

/// Totals since some origin. `None` where the system does not tell.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct Counters {
    /// Time of the reading.
    pub now: Duration,
    /// CPU time of the main thread.
    pub main_cpu: Option<Duration>,
    /// Time the main thread was runnable without a CPU.
    pub main_waited: Option<Duration>,
    /// Idle time summed over the CPUs this process may use; `None` also when not read this time.
    pub idle: Option<Duration>,
    /// CPU time of the whole process.
    pub process_cpu: Option<Duration>,
    /// Useful time summed over the workers, those that have left included.
    pub workers_busy: Duration,
    /// Time the workers spent spinning, likewise.
    pub workers_spun: Duration,
    /// Jobs that the workers have run, likewise.
    pub workers_jobs: u64,
    /// Units of work that the event loop completed.
    pub completed: u64,
}

/// What the pool is allowed now; copied into each sample.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct Limits {
    /// Most workers the configuration allows.
    pub workers_max: usize,
    /// CPUs this process may use.
    pub usable_cpus: usize,
    /// The quota of the process, in thousandths of one CPU.
    pub quota_permille: Option<u64>,
    /// CPUs that something else of this process needs now.
    pub reserved_cpus: usize,
}

/// Sums looks and readings up to the next sample. Main thread; allocates nothing.
///
/// ```
/// use flintlock_iothreads::policy::{Counters, Limits, Sampler};
/// use std::time::Duration;
///
/// let start = Counters { main_cpu: Some(Duration::ZERO), ..Counters::default() };
/// let mut sampler = Sampler::new(start);
/// sampler.look(12, Duration::from_micros(300), 8);
/// let now = Counters {
///     now: Duration::from_millis(50),
///     main_cpu: Some(Duration::from_millis(20)),
///     ..Counters::default()
/// };
/// let sample = sampler.sample(&now, &Limits::default(), 0);
/// assert_eq!(sample.main_busy_permille, Some(400));
/// assert_eq!((sample.depth, sample.jobs_per_turn), (12, 8));
/// ```
#[derive(Clone, Debug)]
pub struct Sampler {
    last: Counters,
    /// Last reading that had the idle time.
    last_idle: Counters,
    spare_permille: Option<u32>,
    /// Time one job takes, as far as known.
    job_time: Option<Duration>,
    looks: u64,
    depth_sum: u64,
    age_max: Duration,
    turns: u64,
    jobs: u64,
}

impl Sampler {
    /// A sampler whose first sample starts at `origin`.
    #[must_use]
    pub fn new(origin: Counters) -> Self {
        Self {
            last: origin,
            last_idle: origin,
            spare_permille: None,
            job_time: None,
            looks: 0,
            depth_sum: 0,
            age_max: Duration::ZERO,
            turns: 0,
            jobs: 0,
        }
    }

    /// Notes one loop turn: jobs waiting, age of the oldest of them, jobs the turn offers.
    pub fn look(&mut self, depth: usize, oldest_job_age: Duration, jobs: usize) {
        self.looks += 1;
        self.depth_sum += depth as u64;
        self.age_max = self.age_max.max(oldest_job_age);
        if jobs > 0 {
            self.turns += 1;
            self.jobs += jobs as u64;
        }
    }

    /// Whether a reading at `now` should include the idle time.
    #[must_use]
    pub fn wants_idle(&self, now: Duration) -> bool {
        now.saturating_sub(self.last_idle.now) >= IDLE_SPAN_MIN
    }

    /// Tells that the number of active workers changed: until the next reading of the idle time,
    /// each worker is assumed to take or leave one CPU.
    pub fn changed(&mut self, from: usize, to: usize) {
        let cpus = |count: usize| u32::try_from(count).unwrap_or(u32::MAX).saturating_mul(1000);
        self.spare_permille = self.spare_permille.map(|spare| {
            spare
                .saturating_add(cpus(from.saturating_sub(to)))
                .saturating_sub(cpus(to.saturating_sub(from)))
        });
    }

    /// How many jobs must come together in one loop turn for handing them over to pay: the time a
    /// job takes was measured in the workers or, while none is active, on the main thread.
    #[must_use]
    pub fn jobs_that_pay(&self) -> u32 {
        let Some(time) = self.job_time else { return JOBS_THAT_PAY_MAX };
        let jobs = WORK_THAT_PAYS.as_nanos().div_ceil(time.as_nanos().max(1));
        u32::try_from(jobs).unwrap_or(u32::MAX).min(JOBS_THAT_PAY_MAX)
    }

    /// The sample of the time since the last one; starts the next.
    #[must_use]
    pub fn sample(&mut self, counters: &Counters, limits: &Limits, active: usize) -> Sample {
        let last = std::mem::replace(&mut self.last, *counters);
        let span = counters.now.saturating_sub(last.now);
        if let Some(spare) = self.spare(counters, limits) {
            self.spare_permille = Some(spare);
        }
        let main_busy = gain(counters.main_cpu, last.main_cpu);
        let workers_busy = counters.workers_busy.saturating_sub(last.workers_busy);
        let workers_jobs = counters.workers_jobs.saturating_sub(last.workers_jobs);
        if let Some(time) = per(workers_busy, workers_jobs) {
            self.job_time = Some(time);
        } else if let Some(time) = main_busy.and_then(|busy| per(busy, self.jobs)) {
            self.job_time = Some(time);
        }
        let sample = Sample {
            now: counters.now,
            main_busy_permille: main_busy.map(|busy| permille(busy, span)),
            main_waited_permille: gain(counters.main_waited, last.main_waited)
                .map_or(0, |waited| permille(waited, span)),
            jobs_per_turn: mean(self.jobs + self.turns / 2, self.turns),
            jobs_that_pay: self.jobs_that_pay(),
            spare_permille: self.spare_permille,
            workers_busy_permille: permille(workers_busy, span),
            // Rounded up: a mean of 0.2 waiting jobs is not "nothing waits".
            depth: mean(self.depth_sum + self.looks.saturating_sub(1), self.looks),
            oldest_job_age: self.age_max,
            completed: counters.completed,
            active,
            workers_max: limits.workers_max,
            usable_cpus: limits.usable_cpus,
            reserved_cpus: limits.reserved_cpus,
        };
        (self.looks, self.depth_sum, self.age_max) = (0, 0, Duration::ZERO);
        (self.turns, self.jobs) = (0, 0);
        sample
    }

    /// CPU time to spare since the last reading of it, if this one has it and is late enough.
    fn spare(&mut self, counters: &Counters, limits: &Limits) -> Option<u32> {
        if !self.wants_idle(counters.now) || counters.idle.is_none() {
            return None;
        }
        let last = std::mem::replace(&mut self.last_idle, *counters);
        let span = counters.now.saturating_sub(last.now);
        let idle = permille(gain(counters.idle, last.idle)?, span);
        // What our own workers spin away is theirs to use; it is idle time in all but name.
        let spun = permille(counters.workers_spun.saturating_sub(last.workers_spun), span);
        let unused = match (limits.quota_permille, gain(counters.process_cpu, last.process_cpu)) {
            (Some(quota), Some(used)) => {
                u32::try_from(quota).unwrap_or(u32::MAX).saturating_sub(permille(used, span))
            }
            _ => u32::MAX,
        };
        Some(idle.min(unused).saturating_add(spun))
    }
}

fn gain(now: Option<Duration>, last: Option<Duration>) -> Option<Duration> {
    Some(now?.saturating_sub(last?))
}

fn permille(part: Duration, span: Duration) -> u32 {
    let permille = (part.as_nanos() * 1000).checked_div(span.as_nanos()).unwrap_or(0);
    u32::try_from(permille).unwrap_or(u32::MAX)
}

fn mean(sum: u64, count: u64) -> u32 {
    u32::try_from(sum.checked_div(count).unwrap_or(0)).unwrap_or(u32::MAX)
}

/// Time of one of `count` jobs.
fn per(time: Duration, count: u64) -> Option<Duration> {
    let nanos = time.as_nanos().checked_div(u128::from(count))?;
    u64::try_from(nanos).ok().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn at(now_ms: u32) -> Counters {
        Counters { now: MS * now_ms, ..Counters::default() }
    }

    #[test]
    fn what_the_system_does_not_tell_stays_unknown() {
        let mut sampler = Sampler::new(at(0));
        let sample = sampler.sample(&at(50), &Limits::default(), 1);
        assert_eq!((sample.main_busy_permille, sample.spare_permille), (None, None));
        assert_eq!((sample.main_waited_permille, sample.jobs_per_turn), (0, 0));
    }

    #[test]
    fn idle_time_needs_a_long_stretch_and_counts_own_spinning() {
        let limits = Limits::default();
        let mut sampler = Sampler::new(Counters { idle: Some(MS), ..at(0) });
        let short = Counters { idle: Some(11 * MS), ..at(10) };
        assert_eq!(sampler.sample(&short, &limits, 1).spare_permille, None);
        let long = Counters { idle: Some(51 * MS), workers_spun: 10 * MS, ..at(100) };
        assert_eq!(sampler.sample(&long, &limits, 1).spare_permille, Some(600));
        // Between two readings the last one goes on counting, less the workers since.
        sampler.changed(1, 2);
        assert_eq!(sampler.sample(&at(110), &limits, 2).spare_permille, Some(0));
        sampler.changed(2, 1);
        assert_eq!(sampler.sample(&at(120), &limits, 1).spare_permille, Some(1000));
    }

    #[test]
    fn a_quota_bounds_what_is_to_spare() {
        let limits = Limits { quota_permille: Some(2000), ..Limits::default() };
        let mut sampler = Sampler::new(Counters {
            idle: Some(Duration::ZERO),
            process_cpu: Some(Duration::ZERO),
            ..at(0)
        });
        let now = Counters { idle: Some(6000 * MS), process_cpu: Some(190 * MS), ..at(100) };
        assert_eq!(sampler.sample(&now, &limits, 1).spare_permille, Some(100));
    }

    #[test]
    fn looks_are_averaged_and_start_anew() {
        let mut sampler = Sampler::new(at(0));
        sampler.look(3, 5 * MS, 4);
        sampler.look(0, MS, 0);
        sampler.look(0, MS, 9);
        let sample = sampler.sample(&at(10), &Limits::default(), 1);
        assert_eq!((sample.depth, sample.jobs_per_turn), (1, 7));
        assert_eq!(sample.oldest_job_age, 5 * MS);
        let next = sampler.sample(&at(20), &Limits::default(), 1);
        assert_eq!((next.depth, next.jobs_per_turn, next.oldest_job_age), (0, 0, Duration::ZERO));
    }

    #[test]
    fn the_jobs_that_pay_follow_the_time_of_a_job() {
        let mut sampler = Sampler::new(Counters { main_cpu: Some(Duration::ZERO), ..at(0) });
        assert_eq!(sampler.jobs_that_pay(), 16, "nothing known");
        sampler.look(0, Duration::ZERO, 1000);
        let inline = Counters { main_cpu: Some(Duration::from_micros(7500)), ..at(50) };
        assert_eq!(sampler.sample(&inline, &Limits::default(), 0).jobs_that_pay, 3);
        let quick =
            Counters { workers_jobs: 1000, workers_busy: Duration::from_micros(500), ..at(60) };
        assert_eq!(sampler.sample(&quick, &Limits::default(), 1).jobs_that_pay, 16);
        let slow =
            Counters { workers_jobs: 1010, workers_busy: Duration::from_micros(10_500), ..at(70) };
        assert_eq!(sampler.sample(&slow, &Limits::default(), 1).jobs_that_pay, 1);
        assert_eq!(sampler.sample(&slow, &Limits::default(), 1).jobs_that_pay, 1, "kept");
    }

    #[test]
    fn two_readings_at_the_same_time_divide_by_nothing() {
        let mut sampler = Sampler::new(Counters { main_cpu: Some(MS), ..at(0) });
        let sample =
            sampler.sample(&Counters { main_cpu: Some(2 * MS), ..at(0) }, &Limits::default(), 0);
        assert_eq!(sample.main_busy_permille, Some(0));
    }
}
