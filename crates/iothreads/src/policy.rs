//! How many workers should be active: a pure function of samples, with the time passed in.
//!
//! Owned by the pool, on the main thread. Does no IO, reads no clock, takes no lock and knows no
//! thread, so the same code runs in the product, in unit tests and in the discrete-event
//! simulation in `tests/simulation`.
//!
//! The problem: a worker pays only if it takes more work off the main thread than the hand-over
//! adds, which depends on the number of free cores, on the kind of load and on where the clients
//! run. No constant knows that. So the policy ignites on main-thread load as Valkey does, but then
//! treats each burst of growth as a *trial* that must show its worth:
//!
//! ```text
//!            busy > 30 %, jobs in batches, a CPU to spare, no back-off
//!   inactive ------------------------------------------------------------> trial (from 0)
//!      ^  ^                                                                  |  | saturated: x2
//!      |  +---- regret: undo to `from`, no growth for 3 s, 12 s, 48 s, 60 s -+<-+
//!      |                                                                     |
//!      +------- under 20 % of one core for 1 s ------- steady <--------------+ worth it: kept
//!                                                       | ^ |
//!                   saturated: trial (from active) <----+ | +--> starved, idle: fewer
//! ```
//!
//! What was rejected. Queue depth sampled once a loop turn (Valkey 9): it depends on the rate of
//! the loop and sees a drained queue at low load; here depth counts only together with the workers
//! being busy or with the age of the oldest job. A ring of old samples: it re-ignited a parked pool
//! 53 times a minute from samples taken before the change; here every window starts anew at each
//! change. One worker per 160 ms: 1.3 s to eight workers; here growth doubles every 5 ms.
//! Judging by rate alone: a load that is not the machine's limit has the same rate with and
//! without workers, so a fall of main-thread CPU per unit of work counts as a gain too.
//!
//! Source: Valkey 9 (30 %, 50 ms, scaling by depth); the figures are from a simulation of it.

use std::fmt;
use std::time::Duration;

use crate::window::Window;

pub use crate::sampler::{Counters, Limits, Sampler};
pub use crate::tuning::Tuning;

/// Each back-off is so many times the one before: at most three trials in the first minute of a
/// load for which no growth pays.
const BACK_OFF_FACTOR: u32 = 4;

/// What happened since the sample before, and where things stand.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct Sample {
    /// Time of the sample on any clock that never goes back.
    pub now: Duration,
    /// CPU time of the main thread, which never spins, in thousandths of the time since the last
    /// sample; `None` where the system does not tell.
    pub main_busy_permille: Option<u32>,
    /// Time the main thread was runnable without a CPU, likewise; 0 if unknown.
    pub main_waited_permille: u32,
    /// Mean number of jobs offered in the loop turns that had any.
    pub jobs_per_turn: u32,
    /// Jobs that must come together in one turn for handing them over to pay (see
    /// [`Sampler::jobs_that_pay`]).
    pub jobs_that_pay: u32,
    /// CPU time left idle or spun away by our own workers, in thousandths of one CPU; `None` if
    /// unknown.
    pub spare_permille: Option<u32>,
    /// Useful time of all workers together, in thousandths of one CPU.
    pub workers_busy_permille: u32,
    /// Jobs waiting in the shared lanes, averaged over the looks since the last sample.
    pub depth: u32,
    /// Greatest age of a waiting job seen since the last sample.
    pub oldest_job_age: Duration,
    /// Units of work that the event loop has completed since the start, however they were done.
    pub completed: u64,
    /// Workers active now.
    pub active: usize,
    /// Most workers the configuration allows.
    pub workers_max: usize,
    /// CPUs this process may use (see `UsableCpus::count`).
    pub usable_cpus: usize,
    /// CPUs that something else of this process needs now, such as a background save.
    pub reserved_cpus: usize,
}

impl Sample {
    /// Most workers that can run beside the main thread.
    #[must_use]
    pub fn cap(&self) -> usize {
        self.workers_max.min(self.usable_cpus.saturating_sub(1 + self.reserved_cpus))
    }
}

/// Why a decision was taken.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
#[non_exhaustive]
pub enum Reason {
    /// Grow: the main thread is busy and no worker was active.
    Ignition,
    /// Grow: the active workers are busy and jobs wait.
    Depth,
    /// Grow: the oldest job waited too long.
    Age,
    /// Grow: the test option `io-threads-always-active`, or a fixed pool.
    AlwaysActive,
    /// Shrink: fewer workers suffice.
    Idle,
    /// Shrink: the last growth did not raise the completed work.
    Regret,
    /// Shrink: the main thread waits for a CPU.
    Starved,
    /// Shrink: fewer CPUs or fewer configured workers than before.
    Cap,
    /// Hold: no CPU is left for a worker.
    NoCpu,
    /// Hold: the main thread is not busy enough.
    BelowIgnition,
    /// Hold: too few jobs come together for a hand-over to pay.
    TooFewJobs,
    /// Hold: all CPUs are busy already.
    NoSpareCpu,
    /// Hold: an earlier growth was regretted not long ago.
    BackOff,
    /// Hold: a growth is being judged.
    Trial,
    /// Hold: the number fits the load.
    Fits,
    /// Hold: the most workers allowed are active.
    AtCap,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ignition => "ignition",
            Self::Depth => "depth",
            Self::Age => "age",
            Self::AlwaysActive => "always-active",
            Self::Idle => "idle",
            Self::Regret => "regret",
            Self::Starved => "starved",
            Self::Cap => "cap",
            Self::NoCpu => "no-cpu",
            Self::BelowIgnition => "below-ignition",
            Self::TooFewJobs => "too-few-jobs",
            Self::NoSpareCpu => "no-spare-cpu",
            Self::BackOff => "back-off",
            Self::Trial => "trial",
            Self::Fits => "fits",
            Self::AtCap => "at-cap",
        })
    }
}

/// What to do with the number of active workers.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Verdict {
    /// Make so many active, more than now.
    Grow(usize),
    /// Make so many active, fewer than now.
    Shrink(usize),
    /// Leave it.
    Hold,
}

/// The answer to one sample.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Decision {
    /// What to do.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// How long a worker without work may spin from now on before it parks.
    pub spin: Duration,
    /// When the next sample is due, if the event loop is awake then.
    pub next_sample: Duration,
    /// When to take a sample even if the event loop sleeps; `None` if nothing is left to decide,
    /// so that an idle process has no timer.
    pub wake_by: Option<Duration>,
}

/// A growth that has to prove itself.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
struct Trial {
    /// Workers active before it.
    from: usize,
    /// What was done then.
    base: Window,
}

/// What a trial has shown so far.
enum Outcome {
    Open,
    Kept,
    Regretted,
}

/// The state between two samples. Main thread; never blocks, allocates nothing.
///
/// ```
/// use flintlock_iothreads::policy::{Policy, Reason, Sample, Tuning, Verdict};
/// use std::time::Duration;
///
/// let mut policy = Policy::new(Tuning::default());
/// let mut sample = Sample {
///     now: Duration::from_millis(50),
///     main_busy_permille: Some(100),
///     jobs_per_turn: 20,
///     workers_max: 3,
///     usable_cpus: 4,
///     ..Sample::default()
/// };
/// assert_eq!(policy.decide(&sample).reason, Reason::BelowIgnition);
/// sample.now += Duration::from_millis(50);
/// sample.main_busy_permille = Some(310);
/// assert_eq!(policy.decide(&sample).verdict, Verdict::Grow(1));
/// ```
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Policy {
    tuning: Tuning,
    /// Time and completed work of the last sample.
    last: (Duration, u64),
    /// Workers that the last decision wanted active, if there was one.
    asked: Option<usize>,
    /// Since the last change of the number of workers.
    window: Window,
    /// The stretch over which idleness is judged; started anew when it was not idle.
    idle_window: Window,
    /// The stretch over which starvation is judged.
    recent: Window,
    trial: Option<Trial>,
    /// No growth above `barrier_level` before `barrier_until`.
    barrier_level: usize,
    barrier_until: Duration,
    back_off: Duration,
    /// Saturated samples in a row.
    saturated_run: u32,
    patience: Duration,
    /// When workers were last taken away for idleness.
    shrunk_at: Option<Duration>,
}

impl Policy {
    /// A policy that has seen nothing yet; the time before its first sample starts at zero, unless
    /// [`Policy::begin`] is called.
    #[must_use]
    pub fn new(tuning: Tuning) -> Self {
        Self {
            last: (Duration::ZERO, 0),
            asked: None,
            window: Window::new(),
            idle_window: Window::new(),
            recent: Window::new(),
            trial: None,
            barrier_level: usize::MAX,
            barrier_until: Duration::ZERO,
            back_off: tuning.back_off_min,
            saturated_run: 0,
            patience: tuning.patience_min,
            shrunk_at: None,
            tuning,
        }
    }

    /// Starts the time before the first sample at `now`, and its work at `completed`.
    pub fn begin(&mut self, now: Duration, completed: u64) {
        self.last = (now, completed);
    }

    /// Judges one sample. `sample.active` must be what the last decision asked for, unless the
    /// caller could not follow it, which counts as a change from outside: windows start anew, and a
    /// growth for which there were not enough threads backs off as one that did not pay.
    #[must_use]
    pub fn decide(&mut self, sample: &Sample) -> Decision {
        let span = sample.now.saturating_sub(self.last.0);
        let completed = sample.completed.checked_sub(self.last.1);
        self.last = (sample.now, sample.completed);
        let followed = self.follow(sample);
        let saturated = self.saturation(sample);
        self.saturated_run = if saturated.is_some() { self.saturated_run + 1 } else { 0 };
        match completed {
            Some(completed) if followed => {
                for window in [&mut self.window, &mut self.idle_window, &mut self.recent] {
                    window.add(span, completed, sample, saturated.is_some());
                }
            }
            // The count or the number of workers is another: this stretch compares with nothing.
            _ => self.start_anew(),
        }

        let (verdict, reason) = if sample.active > sample.cap() {
            self.trial = None;
            (Verdict::Shrink(sample.cap()), Reason::Cap)
        } else if sample.active == 0 {
            self.decide_inactive(sample)
        } else {
            self.decide_active(sample, saturated)
        };
        if verdict != Verdict::Hold {
            self.start_anew();
        }
        self.decision(sample, verdict, reason)
    }

    /// Whether as many workers are active as the last decision asked for.
    fn follow(&mut self, sample: &Sample) -> bool {
        let asked = self.asked.unwrap_or(sample.active);
        if sample.active < asked && self.trial.is_some() {
            // The threads could not be started. Trying again and again would cost main more than
            // they could save.
            self.forbid_growth(sample, sample.active);
        }
        // What came about of a growth is still on trial; any other change is none of its making.
        self.trial = self.trial.filter(|t| t.from < sample.active && sample.active <= asked);
        sample.active == asked
    }

    /// Forgets what was measured, for a change from outside (configuration, CPUs): the next
    /// samples must not be compared with those before it. Back-offs end too, since what they
    /// learned may no longer hold.
    pub fn reset(&mut self) {
        self.start_anew();
        self.asked = None;
        self.trial = None;
        self.barrier_level = usize::MAX;
        self.back_off = self.tuning.back_off_min;
    }

    fn start_anew(&mut self) {
        self.window = Window::new();
        self.idle_window = Window::new();
        self.recent = Window::new();
        self.saturated_run = 0;
    }

    /// Whether the active workers have more than they can do, and how that shows.
    fn saturation(&self, sample: &Sample) -> Option<Reason> {
        let active = u32::try_from(sample.active).unwrap_or(u32::MAX);
        let busy =
            sample.workers_busy_permille >= self.tuning.saturated_permille.saturating_mul(active);
        if active == 0 || sample.depth == 0 {
            None
        } else if busy {
            Some(Reason::Depth)
        } else if sample.oldest_job_age >= self.tuning.saturated_age && sample.depth > active {
            Some(Reason::Age)
        } else {
            None
        }
    }

    fn decide_inactive(&mut self, sample: &Sample) -> (Verdict, Reason) {
        let tuning = &self.tuning;
        let busy = match sample.main_busy_permille {
            Some(permille) => permille > tuning.ignite_permille,
            None => sample.jobs_per_turn >= tuning.ignite_jobs_per_turn,
        };
        // Only the last sample counts: what came before it says nothing about now.
        let base = std::mem::replace(&mut self.window, Window::new());
        if sample.cap() == 0 {
            (Verdict::Hold, Reason::NoCpu)
        } else if !busy {
            (Verdict::Hold, Reason::BelowIgnition)
        } else if sample.jobs_per_turn < sample.jobs_that_pay {
            (Verdict::Hold, Reason::TooFewJobs)
        } else if let Some(refusal) = self.refusal(sample) {
            (Verdict::Hold, refusal)
        } else {
            self.grow(sample, base, 1, Reason::Ignition)
        }
    }

    fn decide_active(&mut self, sample: &Sample, saturated: Option<Reason>) -> (Verdict, Reason) {
        if let Some(trial) = self.trial {
            match self.judge(&trial) {
                Outcome::Regretted => return self.regret(sample, trial.from, Reason::Regret),
                Outcome::Kept => {
                    self.trial = None;
                    self.back_off = self.tuning.back_off_min;
                }
                Outcome::Open => {}
            }
        } else if self.starved() {
            return self.regret(sample, sample.active / 2, Reason::Starved);
        }
        if let Some(reason) = saturated {
            return self.decide_saturated(sample, reason);
        }
        if self.trial.is_some() {
            return (Verdict::Hold, Reason::Trial);
        }
        self.decide_idle(sample)
    }

    /// More is wanted; is it possible, and is it time?
    fn decide_saturated(&mut self, sample: &Sample, reason: Reason) -> (Verdict, Reason) {
        // Idleness is over, so its window starts behind this sample.
        self.idle_window = Window::new();
        let ramp = self.trial.is_some();
        if sample.active >= sample.cap() {
            return (Verdict::Hold, Reason::AtCap);
        }
        if let Some(refusal) = self.refusal(sample) {
            return (Verdict::Hold, refusal);
        }
        if !ramp && self.saturated_run < self.tuning.saturated_samples {
            return (Verdict::Hold, Reason::Fits);
        }
        let spare = sample.spare_permille.map_or(usize::MAX, |permille| {
            usize::try_from(permille.div_ceil(1000)).unwrap_or(usize::MAX)
        });
        let step = sample.active.min(spare).max(1);
        let base = self.window;
        self.grow(sample, base, (sample.active + step).min(sample.cap()), reason)
    }

    fn grow(
        &mut self,
        sample: &Sample,
        base: Window,
        to: usize,
        reason: Reason,
    ) -> (Verdict, Reason) {
        // A growth inside a trial belongs to it: the whole burst is judged against its start.
        self.trial.get_or_insert(Trial { from: sample.active, base });
        if let Some(shrunk_at) = self.shrunk_at.take() {
            // So soon after shrinking, that was a mistake; later, it was none.
            let mistake = sample.now.saturating_sub(shrunk_at) < self.patience * 10;
            let patience = if mistake { self.patience * 2 } else { self.patience / 2 };
            self.patience = patience.clamp(self.tuning.patience_min, self.tuning.patience_max);
        }
        (Verdict::Grow(to), reason)
    }

    /// What forbids growing now.
    fn refusal(&self, sample: &Sample) -> Option<Reason> {
        if sample.active >= self.barrier_level && sample.now < self.barrier_until {
            Some(Reason::BackOff)
        } else if sample.spare_permille.is_some_and(|spare| spare < self.tuning.spare_permille_min)
        {
            Some(Reason::NoSpareCpu)
        } else {
            None
        }
    }

    fn judge(&self, trial: &Trial) -> Outcome {
        let (now, base) = (&self.window, &trial.base);
        if now.span < self.tuning.cut_after {
            return Outcome::Open;
        }
        let due = now.span >= self.tuning.judge_after;
        let Some(rate) = now.rate_permille_of(base) else {
            // Nothing to compare with: idleness will tell.
            return if due { Outcome::Kept } else { Outcome::Open };
        };
        if now.load_permille() < 50 {
            // The load has gone, which is no fault of the workers.
            return if due { Outcome::Kept } else { Outcome::Open };
        }
        let loss = now.noise_permille(base).max(u128::from(self.tuning.loss_permille));
        let floor = 1000_u128.saturating_sub(loss);
        let waited = now.permille(now.main_waited);
        let limit = u128::from(self.tuning.starved_permille);
        if !due {
            let plainly = rate * 10 < floor * 9 || waited >= 2 * limit;
            return if plainly { Outcome::Regretted } else { Outcome::Open };
        }
        let more = rate >= 1000 + u128::from(self.tuning.gain_permille);
        let cheaper = now
            .cost_permille_of(base)
            .is_some_and(|cost| cost <= u128::from(self.tuning.cost_permille));
        let relieved = base.saturated && !now.saturated;
        let starved = waited >= limit;
        if !starved && (more || (rate >= floor && (cheaper || relieved))) {
            Outcome::Kept
        } else {
            Outcome::Regretted
        }
    }

    /// Undoes a growth, and forbids the next one for longer each time.
    fn regret(&mut self, sample: &Sample, to: usize, reason: Reason) -> (Verdict, Reason) {
        self.trial = None;
        self.forbid_growth(sample, to);
        (Verdict::Shrink(to), reason)
    }

    /// No growth above `level` for a while.
    fn forbid_growth(&mut self, sample: &Sample, level: usize) {
        self.barrier_level = level;
        self.barrier_until = sample.now + self.back_off;
        self.back_off = (self.back_off * BACK_OFF_FACTOR).min(self.tuning.back_off_max);
    }

    /// Whether the main thread went without a CPU lately; looks once per
    /// [`Tuning::judge_after`], so that one lost time slice does not count.
    fn starved(&mut self) -> bool {
        if self.recent.span < self.tuning.judge_after {
            return false;
        }
        let recent = std::mem::replace(&mut self.recent, Window::new());
        recent.permille(recent.main_waited) >= u128::from(self.tuning.starved_permille)
    }

    /// Fewer workers, if the load has fitted fewer for long enough.
    fn decide_idle(&mut self, sample: &Sample) -> (Verdict, Reason) {
        if self.idle_window.span < self.patience {
            return (Verdict::Hold, Reason::Fits);
        }
        let window = std::mem::replace(&mut self.idle_window, Window::new());
        let busy = window.permille(window.workers_busy);
        let quench = u128::from(self.tuning.quench_permille);
        // Without the main thread's share, half of the threshold stands for the workers' share.
        let quench = if window.main_busy.is_some() { quench } else { quench / 2 };
        let needed = if window.load_permille() <= quench {
            0
        } else {
            let needed = busy.div_ceil(u128::from(self.tuning.load_permille).max(1));
            usize::try_from(needed).unwrap_or(usize::MAX).max(1)
        };
        if needed >= sample.active {
            return (Verdict::Hold, Reason::Fits);
        }
        self.shrunk_at = Some(sample.now);
        (Verdict::Shrink(needed), Reason::Idle)
    }

    fn decision(&mut self, sample: &Sample, verdict: Verdict, reason: Reason) -> Decision {
        let active = match verdict {
            Verdict::Grow(to) | Verdict::Shrink(to) => to,
            Verdict::Hold => sample.active,
        };
        self.asked = Some(active);
        let tuning = &self.tuning;
        // The main thread's CPU is never free, and a spinning worker must not cost anybody a slice.
        let room = active > 0
            && active < sample.usable_cpus
            && sample.main_waited_permille * 5 < tuning.starved_permille
            && sample.spare_permille.is_none_or(|spare| spare >= tuning.spare_permille_min);
        let period = if active == 0 {
            tuning.period_inactive
        } else if self.trial.is_some() {
            tuning.period_trial
        } else {
            tuning.period_active
        };
        let wait = self.patience.saturating_sub(self.idle_window.span).max(tuning.period_active);
        Decision {
            verdict,
            reason,
            spin: if room { tuning.spin } else { Duration::ZERO },
            next_sample: sample.now + period,
            wake_by: (active > 0).then_some(sample.now + wait),
        }
    }
}

#[cfg(test)]
mod tests;
