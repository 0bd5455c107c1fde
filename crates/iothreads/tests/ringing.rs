//! When a worker wakes a sleeping main thread: once it has nothing else to do, and before main has
//! slept on many answers, or for long.
#![cfg(not(loom))]

mod support;

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flintlock_iothreads::{Bell, Context, Handler, Manual, Options, Outcome, Panic, Pool, Scaling};
use flintlock_queues::Compact;
use support::{DEADLINE, Gate, until};

/// A job stops at the gate if it is the first, and takes `step`.
#[derive(Debug)]
struct Steps {
    gate: Arc<Gate>,
    /// The fourth job stops at this one.
    late_gate: Option<Arc<Gate>>,
    clock: Arc<Manual>,
    step: Duration,
    /// Jobs from this one on ask whether they may go on, as long ones do.
    asking: usize,
    /// These jobs owe no answer.
    silent: Range<usize>,
    done: Arc<AtomicUsize>,
}

impl Handler for Steps {
    type Job = usize;
    type Answer = usize;
    type Layout = Compact;
    type Owner = ();
    type Local = ();

    fn local(&self, _worker: usize) {}

    fn owner(&self, _job: &usize) {}

    fn run(&self, job: usize, context: &mut Context<'_, ()>) -> Outcome<usize, usize> {
        if job == 0 {
            self.gate.stand();
        }
        if let (3, Some(gate)) = (job, &self.late_gate) {
            gate.stand();
        }
        self.clock.advance(self.step);
        if job >= self.asking {
            context.may_go_on(0);
        }
        self.done.fetch_add(1, Ordering::SeqCst);
        if self.silent.contains(&job) { Outcome::Nothing } else { Outcome::Done(job) }
    }

    fn panicked(&self, (): (), panic: &Panic) -> Option<usize> {
        panic!("{panic:?}")
    }
}

/// What one worker is given to do while main does something else.
struct Case {
    jobs: usize,
    step: Duration,
    asking: usize,
    silent: Range<usize>,
    claim_max: usize,
    late_gate: Option<Arc<Gate>>,
}

/// So many jobs of which each takes so long.
fn jobs(jobs: usize, step: Duration) -> Case {
    Case { jobs, step, asking: usize::MAX, silent: 0..0, claim_max: 8, late_gate: None }
}

impl Case {
    /// A pool of one worker that stands at the gate with the first job.
    fn start(self, bell: impl Fn(usize) + Send + Sync + 'static) -> (Pool<Steps>, Arc<Gate>) {
        let gate = Gate::new();
        let done = Arc::new(AtomicUsize::new(0));
        let clock = Arc::new(Manual::new());
        let bell = Bell::new({
            let done = Arc::clone(&done);
            move || bell(done.load(Ordering::SeqCst))
        });
        let handler = Steps {
            gate: Arc::clone(&gate),
            late_gate: self.late_gate,
            clock: Arc::clone(&clock) as _,
            step: self.step,
            asking: self.asking,
            silent: self.silent,
            done,
        };
        let (scaling, claim_max) = (Scaling::Fixed(1), self.claim_max);
        let options = Options { scaling, claim_max, clock, ..Options::adaptive(1) };
        let mut pool = Pool::new(handler, bell, options).expect("threads can be started");
        pool.submit(0).expect("a credit");
        pool.commit();
        gate.wait_reached();
        for job in 1..self.jobs {
            pool.submit(job).expect("a credit");
        }
        (pool, gate)
    }

    /// How many jobs were done when main was woken.
    fn done_when_rung(self) -> usize {
        self.done_when_rung_after(|_| ())
    }

    /// The same, with something that main does before it falls asleep.
    fn done_when_rung_after(self, before_sleep: impl FnOnce(&mut Pool<Steps>)) -> usize {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hear = Arc::clone(&heard);
        let (mut pool, gate) =
            self.start(move |done| hear.lock().expect("no holder panics").push(done));
        before_sleep(&mut pool);
        assert!(pool.before_sleep(), "the worker stands at the gate");
        gate.open();
        until("a wake-up", || !heard.lock().expect("no holder panics").is_empty());
        pool.after_sleep();
        pool.quiesce(Some(DEADLINE), |_| ()).expect("in time");
        let heard = heard.lock().expect("no holder panics");
        assert_eq!(heard.len(), 1, "once for a sleep");
        heard[0]
    }
}

#[test]
fn a_worker_with_more_to_do_lets_main_sleep_until_it_has_run_dry() {
    assert_eq!(jobs(1, Duration::ZERO).done_when_rung(), 1);
    assert_eq!(jobs(24, Duration::ZERO).done_when_rung(), 24);
}

#[test]
fn main_does_not_sleep_on_many_answers() {
    let done = jobs(200, Duration::ZERO).done_when_rung();
    assert!((32..=48).contains(&done), "{done}");
}

/// The first answer comes with the first pass, and the next pass, of eight jobs, is too long.
#[test]
fn main_does_not_sleep_on_an_answer_for_long() {
    assert_eq!(jobs(24, Duration::from_micros(20)).done_when_rung(), 9);
}

/// Jobs that ask for the time tell it, so no pass has to end: 60 us are over before the fifth job.
#[test]
fn main_does_not_sleep_on_an_answer_for_a_pass_of_long_jobs() {
    let case = Case { asking: 1, ..jobs(24, Duration::from_micros(20)) };
    assert_eq!(case.done_when_rung(), 4);
}

/// One that is awake gets answers one job after they were made, whatever was claimed with it.
#[test]
fn main_does_not_wait_for_a_pass_of_long_jobs() {
    let late_gate = Gate::new();
    let case = Case {
        asking: 1,
        late_gate: Some(Arc::clone(&late_gate)),
        ..jobs(5, Duration::from_micros(200))
    };
    let (mut pool, gate) = case.start(|_| ());
    pool.commit();
    gate.open();
    late_gate.wait_reached();
    assert_eq!(pool.drain(100, |_| ()), 3, "all that was done when the fourth began");
    late_gate.open();
    pool.quiesce(Some(DEADLINE), |_| ()).expect("in time");
}

/// Jobs that owe nothing may follow for ever.
#[test]
fn main_does_not_sleep_on_an_answer_because_of_jobs_without() {
    let done = Case { silent: 1..200, ..jobs(200, Duration::from_micros(20)) }.done_when_rung();
    assert_eq!(done, 9);
}

/// The next job may take seconds.
#[test]
fn a_worker_of_long_jobs_rings_for_each() {
    assert_eq!(Case { claim_max: 1, ..jobs(24, Duration::ZERO) }.done_when_rung(), 1);
}

/// Its closed inbox looks like more to do, until it is gone.
#[test]
fn a_worker_that_is_told_to_go_wakes_main_for_its_last_answers() {
    let dismiss = |pool: &mut Pool<Steps>| {
        (1..5).for_each(|job| pool.submit_to(0, job).expect("room"));
        pool.resize(0).expect("nothing is started");
    };
    assert_eq!(jobs(1, Duration::ZERO).done_when_rung_after(dismiss), 5);
}
