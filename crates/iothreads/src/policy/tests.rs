//! The policy, one sample at a time. What it does over minutes is in `tests/simulation`.

use super::*;

const MS: Duration = Duration::from_millis(1);

/// Feeds samples to a policy as the pool would, and follows its decisions.
struct Bench {
    policy: Policy,
    sample: Sample,
    /// Work per second that the loop completes.
    rate: u64,
    changes: Vec<(Duration, usize, Reason)>,
}

impl Bench {
    /// A busy main thread on a machine with CPUs to spare.
    fn busy(workers_max: usize) -> Self {
        let sample = Sample {
            main_busy_permille: Some(900),
            jobs_per_turn: 20,
            jobs_that_pay: 3,
            workers_max,
            usable_cpus: workers_max + 1,
            ..Sample::default()
        };
        Self { policy: Policy::new(Tuning::default()), sample, rate: 100_000, changes: Vec::new() }
    }

    fn step(&mut self, by: Duration) -> Decision {
        self.sample.now += by;
        self.sample.completed +=
            u64::try_from(by.as_nanos()).expect("short") * self.rate / 1_000_000_000;
        let decision = self.policy.decide(&self.sample);
        if let Verdict::Grow(to) | Verdict::Shrink(to) = decision.verdict {
            self.sample.active = to;
            self.changes.push((self.sample.now, to, decision.reason));
        }
        assert!(self.sample.active <= self.sample.workers_max);
        decision
    }

    /// Steps as the policy asks for, for so long; returns the last decision.
    fn run(&mut self, time: Duration) -> Decision {
        let end = self.sample.now + time;
        let mut decision = self.step(MS);
        while self.sample.now < end {
            decision = self.step(decision.next_sample - self.sample.now);
        }
        decision
    }

    fn ignited(workers_max: usize) -> Self {
        let mut bench = Self::busy(workers_max);
        let decision = bench.step(50 * MS);
        assert_eq!((decision.verdict, decision.reason), (Verdict::Grow(1), Reason::Ignition));
        bench
    }

    fn saturate(&mut self) {
        self.sample.depth = 50;
        self.sample.workers_busy_permille = 1000 * u32::try_from(self.sample.active).expect("few");
    }

    /// A worker that took most of the load off the main thread.
    fn relieve(&mut self) {
        self.sample.main_busy_permille = Some(200);
        self.sample.workers_busy_permille = 700;
        self.sample.depth = 0;
    }
}

#[test]
fn ignition_needs_every_condition() {
    type Change = fn(&mut Sample);
    let cases: [(&str, Change, Verdict, Reason); 10] = [
        ("all met", |_| (), Verdict::Grow(1), Reason::Ignition),
        ("31 %", |s| s.main_busy_permille = Some(310), Verdict::Grow(1), Reason::Ignition),
        ("30 %", |s| s.main_busy_permille = Some(300), Verdict::Hold, Reason::BelowIgnition),
        ("two jobs a turn", |s| s.jobs_per_turn = 2, Verdict::Hold, Reason::TooFewJobs),
        ("one CPU", |s| s.usable_cpus = 1, Verdict::Hold, Reason::NoCpu),
        ("none configured", |s| s.workers_max = 0, Verdict::Hold, Reason::NoCpu),
        ("save running", |s| s.reserved_cpus = 3, Verdict::Hold, Reason::NoCpu),
        ("no idle CPU", |s| s.spare_permille = Some(100), Verdict::Hold, Reason::NoSpareCpu),
        ("idle CPU", |s| s.spare_permille = Some(900), Verdict::Grow(1), Reason::Ignition),
        ("no CPU time told", |s| s.main_busy_permille = None, Verdict::Grow(1), Reason::Ignition),
    ];
    for (name, change, verdict, reason) in cases {
        let mut bench = Bench::busy(3);
        change(&mut bench.sample);
        let decision = bench.step(50 * MS);
        assert_eq!((decision.verdict, decision.reason), (verdict, reason), "{name}");
    }
}

#[test]
fn without_cpu_time_the_number_of_jobs_ignites() {
    let mut bench = Bench::busy(3);
    bench.sample.main_busy_permille = None;
    bench.sample.jobs_per_turn = 3;
    assert_eq!(bench.step(50 * MS).reason, Reason::BelowIgnition);
    bench.sample.jobs_per_turn = 4;
    assert_eq!(bench.step(50 * MS).reason, Reason::Ignition);
}

#[test]
fn a_saturated_ramp_doubles_every_five_milliseconds() {
    let mut bench = Bench::ignited(8);
    let mut steps = Vec::new();
    for _ in 0..3 {
        bench.saturate();
        bench.step(5 * MS);
        steps.push(bench.sample.active);
    }
    assert_eq!(steps, [2, 4, 8]);
    assert_eq!(bench.sample.now, 65 * MS);
    bench.saturate();
    assert_eq!(bench.step(5 * MS).reason, Reason::AtCap);
}

#[test]
fn growth_is_no_larger_than_the_idle_cpus() {
    let mut bench = Bench::ignited(16);
    for (spare, active) in [(8000, 2), (8000, 4), (1500, 6), (900, 7), (100, 7)] {
        bench.saturate();
        bench.sample.spare_permille = Some(spare);
        bench.step(5 * MS);
        assert_eq!(bench.sample.active, active, "{spare} to spare");
    }
}

#[test]
fn a_trial_that_raises_the_rate_or_saves_main_time_is_kept() {
    let mut faster = Bench::ignited(1);
    faster.rate = 150_000;
    faster.run(300 * MS);
    assert_eq!(faster.sample.active, 1, "{:?}", faster.changes);

    let mut cheaper = Bench::ignited(1);
    cheaper.relieve();
    cheaper.run(300 * MS);
    assert_eq!(cheaper.sample.active, 1, "{:?}", cheaper.changes);
}

#[test]
fn a_trial_without_gain_is_undone_after_sixty_milliseconds() {
    let mut bench = Bench::ignited(1);
    bench.sample.workers_busy_permille = 500;
    bench.run(200 * MS);
    assert_eq!(bench.changes[1..], [(111 * MS, 0, Reason::Regret)]);
}

#[test]
fn a_trial_that_plainly_loses_is_cut_after_twenty_milliseconds() {
    for harm in [(|b: &mut Bench| b.rate = 50_000) as fn(&mut Bench), |b| {
        b.sample.main_waited_permille = 400
    }] {
        let mut bench = Bench::ignited(1);
        harm(&mut bench);
        bench.run(100 * MS);
        let (at, to, reason) = bench.changes[1];
        assert_eq!((to, reason), (0, Reason::Regret));
        assert!(at <= 75 * MS, "only undone at {at:?}");
    }
}

#[test]
fn regret_backs_off_four_times_as_long_each_time_up_to_a_minute() {
    let mut bench = Bench::ignited(1);
    bench.sample.workers_busy_permille = 500;
    bench.run(Duration::from_secs(300));
    let starts: Vec<u64> = bench
        .changes
        .iter()
        .filter(|change| change.2 == Reason::Ignition)
        .map(|change| change.0.as_secs())
        .collect();
    assert_eq!(starts, [0, 3, 15, 63, 123, 183, 243]);
    assert_eq!(bench.sample.active, 0, "never left running: {:?}", bench.changes);
}

#[test]
fn a_kept_trial_ends_the_back_off() {
    let mut bench = Bench::ignited(1);
    bench.sample.workers_busy_permille = 500;
    bench.run(Duration::from_secs(4));
    bench.relieve();
    bench.run(Duration::from_millis(11_900));
    assert_eq!(bench.sample.active, 0, "backing off");
    bench.sample.main_busy_permille = Some(900);
    while bench.sample.active == 0 {
        bench.step(50 * MS);
    }
    bench.relieve();
    bench.run(Duration::from_secs(1));
    assert_eq!(bench.sample.active, 1);
    assert_eq!(bench.policy.back_off, bench.policy.tuning.back_off_min);
}

#[test]
fn a_load_that_ends_in_a_trial_is_no_regret() {
    let mut bench = Bench::ignited(3);
    bench.rate = 10;
    bench.sample.main_busy_permille = Some(1);
    bench.run(Duration::from_secs(2));
    assert_eq!(bench.changes.len(), 2, "{:?}", bench.changes);
    assert_eq!(bench.changes[1].2, Reason::Idle);
}

#[test]
fn small_counts_do_not_look_like_a_loss() {
    // 25 units in the base, 24 in the trial: that is chance.
    let mut bench = Bench::busy(1);
    bench.rate = 500;
    bench.step(50 * MS);
    bench.relieve();
    bench.rate = 400;
    bench.run(200 * MS);
    assert_eq!(bench.sample.active, 1, "{:?}", bench.changes);
}

#[test]
fn a_constant_load_between_the_thresholds_never_changes() {
    let mut bench = Bench::ignited(3);
    bench.relieve();
    // Half a core in all: more than what quenches, though the main thread alone is below ignition.
    bench.sample.main_busy_permille = Some(100);
    bench.sample.workers_busy_permille = 400;
    bench.run(Duration::from_secs(60));
    assert_eq!(bench.changes.len(), 1, "{:?}", bench.changes);
}

#[test]
fn idle_workers_go_in_one_step_to_what_the_load_needs() {
    for (main, workers, active) in [(300, 1000, 2), (100, 90, 0), (150, 200, 1), (500, 4000, 6)] {
        let mut bench = Bench::busy(8);
        bench.sample.active = 8;
        bench.sample.main_busy_permille = Some(main);
        bench.sample.workers_busy_permille = workers;
        bench.run(1500 * MS);
        assert_eq!(bench.sample.active, active, "{main} + {workers}: {:?}", bench.changes);
        assert_eq!(bench.changes.len(), 1);
    }
}

#[test]
fn one_late_sample_after_a_sleep_ends_all_workers() {
    let mut bench = Bench::busy(8);
    bench.step(50 * MS);
    bench.relieve();
    let decision = bench.run(500 * MS);
    bench.rate = 0;
    bench.sample.main_busy_permille = Some(0);
    bench.sample.workers_busy_permille = 0;
    let wake_by = decision.wake_by.expect("workers are active");
    assert!(wake_by <= bench.sample.now + Duration::from_secs(1));
    let mut decision = bench.step(wake_by - bench.sample.now);
    while let Some(wake_by) = decision.wake_by {
        assert!(bench.sample.now < Duration::from_secs(4), "{:?}", bench.changes);
        decision = bench.step(wake_by - bench.sample.now);
    }
    assert_eq!(bench.sample.active, 0);
    assert!(bench.changes.len() == 2, "{:?}", bench.changes);
}

#[test]
fn shrinking_too_early_doubles_the_patience() {
    let mut bench = Bench::busy(2);
    for round in 0..4 {
        bench.sample.active = 2;
        bench.sample.depth = 0;
        bench.sample.main_busy_permille = Some(500);
        bench.sample.workers_busy_permille = 600;
        let from = bench.sample.now;
        while bench.sample.active == 2 {
            bench.step(10 * MS);
        }
        let after = bench.sample.now - from;
        let want = Duration::from_secs(1 << round);
        assert!(after >= want && after < want + 200 * MS, "round {round}: {after:?}");
        bench.saturate();
        while bench.sample.active == 1 {
            bench.step(10 * MS);
        }
        bench.policy.trial = None;
    }
}

#[test]
fn a_starved_main_thread_takes_workers_away() {
    let mut bench = Bench::busy(8);
    bench.sample.active = 8;
    bench.sample.workers_busy_permille = 7000;
    bench.sample.main_waited_permille = 120;
    let decision = bench.run(100 * MS);
    assert_eq!(bench.changes[0].1, 4);
    assert_eq!(bench.changes[0].2, Reason::Starved);
    assert_eq!(decision.spin, Duration::ZERO);
}

#[test]
fn the_cap_falls_and_the_workers_follow() {
    let mut bench = Bench::busy(8);
    bench.sample.active = 8;
    bench.sample.workers_busy_permille = 7000;
    bench.step(10 * MS);
    for change in [
        (|s: &mut Sample| s.usable_cpus = 4) as fn(&mut Sample),
        |s| s.reserved_cpus = 1,
        |s| s.workers_max = 1,
        |s| s.usable_cpus = 1,
    ] {
        change(&mut bench.sample);
        bench.step(10 * MS);
    }
    let steps: Vec<usize> = bench.changes.iter().map(|change| change.1).collect();
    assert_eq!(steps, [3, 2, 1, 0]);
    assert!(bench.changes.iter().all(|change| change.2 == Reason::Cap));
}

#[test]
fn spinning_needs_a_free_cpu() {
    let mut bench = Bench::ignited(3);
    bench.relieve();
    assert_eq!(bench.step(10 * MS).spin, bench.policy.tuning.spin);
    for change in [
        (|s: &mut Sample| s.spare_permille = Some(100)) as fn(&mut Sample),
        |s| (s.spare_permille, s.main_waited_permille) = (None, 30),
        |s| (s.main_waited_permille, s.usable_cpus) = (0, 1),
    ] {
        change(&mut bench.sample);
        assert_eq!(bench.step(10 * MS).spin, Duration::ZERO, "{:?}", bench.sample);
    }
}

/// The count of an event loop may start again, as INFO's does when it is reset.
#[test]
fn a_count_that_falls_undoes_no_good_growth() {
    let mut bench = Bench::ignited(1);
    bench.relieve();
    bench.run(40 * MS);
    bench.sample.completed = 0;
    bench.step(10 * MS);
    bench.run(Duration::from_secs(2));
    assert_eq!(bench.sample.active, 1, "{:?}", bench.changes);
    assert_eq!(bench.changes.len(), 1, "{:?}", bench.changes);
}

/// A thread that cannot be started is asked for again as often as a growth that did not pay.
#[test]
fn a_growth_that_cannot_be_followed_backs_off() {
    let mut bench = Bench::busy(1);
    let mut tries = Vec::new();
    while bench.sample.now < Duration::from_secs(130) {
        let decision = bench.step(5 * MS);
        if let Verdict::Grow(to) = decision.verdict {
            assert_eq!(to, 1);
            tries.push(bench.sample.now.as_secs());
            bench.sample.active = 0;
        }
    }
    assert!(tries == [0, 3, 15, 63, 123], "{} tries", tries.len());
}

/// Some threads were started, and those are judged as if no more had been asked for.
#[test]
fn what_came_about_of_a_growth_is_judged() {
    for (rate, active) in [(100_000, 0), (150_000, 2)] {
        let mut bench = Bench::ignited(8);
        bench.saturate();
        bench.step(5 * MS);
        bench.saturate();
        bench.step(5 * MS);
        assert_eq!(bench.sample.active, 4);
        bench.sample.active = 2;
        bench.sample.workers_busy_permille = 1900;
        bench.rate = rate;
        assert_eq!(bench.step(5 * MS).reason, Reason::BackOff, "no more for now");
        bench.run(200 * MS);
        assert_eq!(bench.sample.active, active, "{:?}", bench.changes);
        assert_eq!(bench.sample.now.as_millis() / 100, 2, "long before the next try");
    }
}

/// A change that nobody asked for says nothing about the growth that was on trial.
#[test]
fn a_change_from_outside_ends_the_trial() {
    for active in [0, 3] {
        let mut bench = Bench::ignited(3);
        bench.sample.active = active;
        bench.step(5 * MS);
        assert_eq!(bench.policy.trial, None, "{active}");
        assert_eq!(bench.policy.window.span, Duration::ZERO, "{active}");
    }
}

#[test]
fn a_reset_forgets_trials_and_back_offs() {
    let mut bench = Bench::ignited(1);
    bench.sample.workers_busy_permille = 500;
    bench.run(Duration::from_secs(1));
    assert_eq!(bench.step(50 * MS).reason, Reason::BackOff);
    bench.policy.reset();
    assert_eq!(bench.step(50 * MS).reason, Reason::Ignition);
}

#[test]
fn reasons_print_as_one_word() {
    for reason in [Reason::Ignition, Reason::NoSpareCpu, Reason::AlwaysActive] {
        assert!(reason.to_string().bytes().all(|b| b.is_ascii_lowercase() || b == b'-'));
    }
}
