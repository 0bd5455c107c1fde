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
    clock: Arc<Manual>,
    step: Duration,
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

    fn run(&self, job: usize, _: &mut Context<'_, ()>) -> Outcome<usize, usize> {
        if job == 0 {
            self.gate.stand();
        }
        self.clock.advance(self.step);
        self.done.fetch_add(1, Ordering::SeqCst);
        if self.silent.contains(&job) { Outcome::Nothing } else { Outcome::Done(job) }
    }

    fn panicked(&self, (): (), panic: &Panic) -> Option<usize> {
        panic!("{panic:?}")
    }
}

/// Has one worker run `jobs` jobs of `step` each while main sleeps; how many were done when it was
/// woken.
fn done_when_rung(jobs: usize, step: Duration, silent: Range<usize>, claim_max: usize) -> usize {
    done_when_rung_after(|_| (), jobs, step, silent, claim_max)
}

/// The same, with something that main does before it falls asleep.
fn done_when_rung_after(
    before_sleep: impl FnOnce(&mut Pool<Steps>),
    jobs: usize,
    step: Duration,
    silent: Range<usize>,
    claim_max: usize,
) -> usize {
    let gate = Gate::new();
    let done = Arc::new(AtomicUsize::new(0));
    let clock = Arc::new(Manual::new());
    let heard = Arc::new(Mutex::new(Vec::new()));
    let bell = Bell::new({
        let (done, heard) = (Arc::clone(&done), Arc::clone(&heard));
        move || heard.lock().expect("no holder panics").push(done.load(Ordering::SeqCst))
    });
    let handler =
        Steps { gate: Arc::clone(&gate), clock: Arc::clone(&clock) as _, step, silent, done };
    let scaling = Scaling::Fixed(1);
    let options = Options { scaling, claim_max, clock, ..Options::adaptive(1) };
    let mut pool = Pool::new(handler, bell, options).expect("threads can be started");
    pool.submit(0).expect("a credit");
    pool.commit();
    gate.wait_reached();
    for job in 1..jobs {
        pool.submit(job).expect("a credit");
    }
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

#[test]
fn a_worker_with_more_to_do_lets_main_sleep_until_it_has_run_dry() {
    assert_eq!(done_when_rung(1, Duration::ZERO, 0..0, 8), 1);
    assert_eq!(done_when_rung(24, Duration::ZERO, 0..0, 8), 24);
}

#[test]
fn main_does_not_sleep_on_many_answers() {
    let done = done_when_rung(200, Duration::ZERO, 0..0, 8);
    assert!((32..=48).contains(&done), "{done}");
}

#[test]
fn main_does_not_sleep_on_an_answer_for_long() {
    let done = done_when_rung(24, Duration::from_micros(20), 0..0, 8);
    assert!((2..24).contains(&done), "{done}");
}

/// Jobs that owe nothing may follow for ever.
#[test]
fn main_does_not_sleep_on_an_answer_because_of_jobs_without() {
    let done = done_when_rung(200, Duration::from_micros(20), 1..200, 8);
    assert!((2..24).contains(&done), "{done}");
}

/// The next job may take seconds.
#[test]
fn a_worker_of_long_jobs_rings_for_each() {
    assert_eq!(done_when_rung(24, Duration::ZERO, 0..0, 1), 1);
}

/// Its closed inbox looks like more to do, until it is gone.
#[test]
fn a_worker_that_is_told_to_go_wakes_main_for_its_last_answers() {
    let dismiss = |pool: &mut Pool<Steps>| pool.resize(0).expect("nothing is started");
    assert_eq!(done_when_rung_after(dismiss, 5, Duration::ZERO, 0..0, 8), 5);
}
