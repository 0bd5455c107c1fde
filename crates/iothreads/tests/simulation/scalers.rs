//! The contenders: our policy driven exactly as the pool drives it, the published policy of Valkey
//! restated from its description, and no workers at all.

use std::time::Duration;

use flintlock_iothreads::policy::{Counters, Limits, Policy, Sampler, Tuning, Verdict};

use crate::engine::{Scaler, View};

/// No worker ever: the single-threaded server.
#[derive(Debug)]
pub(crate) struct Single;

impl Scaler for Single {
    fn turn(&mut self, _view: &View) -> usize {
        0
    }

    fn spin(&self) -> Option<Duration> {
        Some(Duration::ZERO)
    }

    fn jobs_that_pay(&self) -> usize {
        0
    }

    fn wake_by(&self) -> Option<Duration> {
        None
    }
}

/// Ours.
#[derive(Debug)]
pub(crate) struct Ours {
    policy: Policy,
    sampler: Sampler,
    limits: Limits,
    next_sample: Duration,
    wake_by: Option<Duration>,
    spin: Duration,
    told: Told,
}

/// What the system tells.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Told {
    /// No CPU time of any kind: ignition counts the jobs of a turn.
    Nothing,
    /// CPU time of the main thread.
    Main,
    /// Also how long that waited for a CPU, and what the CPUs had idle.
    All,
}

impl Ours {
    pub(crate) fn new(workers_max: usize, usable_cpus: usize, told: Told) -> Self {
        Self {
            policy: Policy::new(Tuning::default()),
            sampler: Sampler::new(counters(None, told)),
            limits: Limits { workers_max, usable_cpus, ..Limits::default() },
            next_sample: Duration::ZERO,
            wake_by: None,
            spin: Duration::ZERO,
            told,
        }
    }
}

fn counters(view: Option<&View>, told: Told) -> Counters {
    let zero = Duration::ZERO;
    Counters {
        now: view.map_or(zero, |v| v.now),
        main_cpu: (told >= Told::Main).then(|| view.map_or(zero, |v| v.main_busy)),
        main_waited: (told == Told::All).then(|| view.map_or(zero, |v| v.main_waited)),
        idle: (told == Told::All).then(|| view.map_or(zero, |v| v.idle)),
        workers_busy: view.map_or(zero, |v| v.workers_busy),
        workers_jobs: view.map_or(0, |v| v.workers_jobs),
        workers_spun: view.map_or(zero, |v| v.workers_spun),
        completed: view.map_or(0, |v| v.completed),
        ..Counters::default()
    }
}

impl Scaler for Ours {
    fn turn(&mut self, view: &View) -> usize {
        self.sampler.look(view.depth, view.oldest_age, view.jobs);
        if view.now < self.next_sample {
            return view.active;
        }
        let sample =
            self.sampler.sample(&counters(Some(view), self.told), &self.limits, view.active);
        let decision = self.policy.decide(&sample);
        self.next_sample = decision.next_sample;
        self.wake_by = decision.wake_by;
        self.spin = decision.spin;
        match decision.verdict {
            Verdict::Grow(to) | Verdict::Shrink(to) => {
                self.sampler.changed(view.active, to);
                to
            }
            Verdict::Hold => view.active,
        }
    }

    fn spin(&self) -> Option<Duration> {
        Some(self.spin)
    }

    fn jobs_that_pay(&self) -> usize {
        usize::try_from(self.sampler.jobs_that_pay()).expect("small")
    }

    fn wake_by(&self) -> Option<Duration> {
        self.wake_by
    }
}

/// The published policy of Valkey: ignition when the mean of sixteen 50 ms samples of main-thread
/// time passes 30 %, one worker more or less by the mean of sixteen depths at least 10 ms apart,
/// idle workers that never sleep by themselves.
#[derive(Debug)]
pub(crate) struct Published {
    workers_max: usize,
    busy: [u128; 16],
    busy_next: usize,
    busy_last: (Duration, Duration),
    depth_sum: usize,
    depth_count: usize,
    depth_last: Duration,
    grown_at: Duration,
    now: Duration,
}

impl Published {
    pub(crate) fn new(workers_max: usize) -> Self {
        Self {
            workers_max,
            busy: [0; 16],
            busy_next: 0,
            busy_last: (Duration::ZERO, Duration::ZERO),
            depth_sum: 0,
            depth_count: 0,
            depth_last: Duration::ZERO,
            grown_at: Duration::ZERO,
            now: Duration::ZERO,
        }
    }

    fn scale(&mut self, view: &View) -> usize {
        if view.now - self.depth_last < Duration::from_millis(10) {
            return view.active;
        }
        self.depth_last = view.now;
        self.depth_sum += view.depth;
        self.depth_count += 1;
        if self.depth_count < 16 {
            return view.active;
        }
        let mean = self.depth_sum / self.depth_count;
        (self.depth_sum, self.depth_count) = (0, 0);
        if mean > 1 && view.active < self.workers_max {
            self.grown_at = view.now;
            view.active + 1
        } else if mean == 0 && view.now - self.grown_at > Duration::from_secs(1) {
            view.active - 1
        } else {
            view.active
        }
    }
}

impl Scaler for Published {
    fn turn(&mut self, view: &View) -> usize {
        self.now = view.now;
        let (at, busy) = self.busy_last;
        let active_time = view.main_busy + view.main_waited;
        if view.now - at >= Duration::from_millis(50) {
            let span = (view.now - at).as_nanos();
            self.busy[self.busy_next % 16] = (active_time - busy).as_nanos() * 1000 / span;
            self.busy_next += 1;
            self.busy_last = (view.now, active_time);
        }
        if view.active > 0 {
            return self.scale(view);
        }
        if self.busy.iter().sum::<u128>() / 16 > 300 && self.workers_max > 0 {
            self.grown_at = view.now;
            (self.depth_sum, self.depth_count) = (0, 0);
            return 1;
        }
        0
    }

    fn spin(&self) -> Option<Duration> {
        None
    }

    fn jobs_that_pay(&self) -> usize {
        0
    }

    fn wake_by(&self) -> Option<Duration> {
        Some(self.now + Duration::from_millis(100))
    }
}
