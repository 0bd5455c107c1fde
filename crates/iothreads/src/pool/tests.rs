//! What needs a look inside of the pool: threads that the system refuses, jobs that nobody was
//! woken for, and what a turn is thought to be worth.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::*;
use crate::clock::{Clock, Manual};
use crate::cpu::{CpuList, UsableCpus};
use crate::governor::{Change, Turn};
use crate::handler::{Context, Outcome, Panic};
use crate::options::Scaling;
use crate::policy::{Reason, Sample, Tuning};

mod rollback;

const MS: Duration = Duration::from_millis(1);
/// Nothing here takes longer unless it hangs.
const DEADLINE: Duration = Duration::from_secs(60);
/// The job that owes no answer.
const SILENT: u64 = u64::MAX;
/// The job that waits until it is let go, but not for ever.
const HELD: u64 = SILENT - 1;
static TAKEN: AtomicBool = AtomicBool::new(false);
static LET_GO: AtomicBool = AtomicBool::new(false);

struct Echo;

impl Handler for Echo {
    type Job = u64;
    type Answer = u64;
    type Layout = flintlock_queues::Compact;
    type Owner = ();
    type Local = ();

    fn local(&self, _worker: usize) {}

    fn owner(&self, _job: &u64) {}

    fn run(&self, job: u64, _context: &mut Context<'_, ()>) -> Outcome<u64, u64> {
        if job == HELD {
            TAKEN.store(true, Ordering::Relaxed);
            let begun = Instant::now();
            while !LET_GO.load(Ordering::Relaxed) && begun.elapsed() < DEADLINE / 4 {
                std::thread::yield_now();
            }
        }
        if job == SILENT { Outcome::Nothing } else { Outcome::Done(job) }
    }

    fn panicked(&self, (): (), panic: &Panic) -> Option<u64> {
        panic!("{panic:?}")
    }
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < DEADLINE, "{what}");
        std::thread::yield_now();
    }
}

/// A pool that any load ignites, whatever other tests leave of the CPUs; and a turn of such load.
fn eager(workers_max: usize) -> (Pool<Echo>, impl FnMut(&mut Pool<Echo>) -> Option<Change>) {
    let clock = PlainArc::new(Manual::new());
    let tuning = Tuning { ignite_permille: 0, spare_permille_min: 0, ..Tuning::default() };
    let options = Options {
        tuning,
        clock: PlainArc::clone(&clock) as PlainArc<dyn Clock>,
        // One CPU, so one worker.
        worker_cpus: CpuList::allowed()
            .map(|list| list.cpu_for(0).to_string().parse().expect("a CPU")),
        ..Options::adaptive(workers_max)
    };
    let pool = Pool::new(Echo, Bell::new(|| ()), options).expect("nothing is started");
    let mut turn = Turn { jobs: 50, ..Turn::default() };
    let tick = move |pool: &mut Pool<Echo>| {
        let begun = Instant::now();
        while begun.elapsed() < MS / 10 {}
        clock.advance(5 * MS);
        turn.completed += 50;
        pool.tick(&turn)
    };
    (pool, tick)
}

/// A worker that main counted on may be told to rest before it looks; nobody may ever commit again,
/// since a pool without active workers is left alone.
#[test]
fn jobs_that_wait_are_not_left_behind_when_fewer_workers_are_active() {
    let mut pool = Pool::new(Echo, Bell::new(|| ()), Options::blocking(1)).expect("a thread");
    until("the worker sleeps", || pool.stats().workers[0].parks == 1);
    pool.submit(7).expect("credit");
    pool.publish();
    pool.activate(0, Reason::Idle, Sample::default()).expect("a change");
    until("the job is done", || pool.has_answers());
}

/// Main hears of jobs without an answer by looking only; what it does not know of counts as under
/// way, and with enough under way each turn looks worth a hand-over.
#[test]
fn jobs_without_an_answer_do_not_make_a_turn_without_jobs_worth_it() {
    if UsableCpus::read().count() < 2 {
        return;
    }
    let (mut pool, mut tick) = eager(1);
    until("a worker is active", || tick(&mut pool).is_some());
    for _ in 0..100 {
        pool.submit(SILENT).expect("credit");
    }
    pool.commit();
    until("all are done", || pool.crew.silent() == 100);
    tick(&mut pool);
    assert_eq!(pool.owed(), 0, "as of this sample");
    // One job might be worth it, if the worker was slow with those.
    pool.settle(0);
    assert_eq!((pool.active(), pool.refusing), (1, Some(Refusal::FewJobs)));
}

/// Each refusal costs main what a thread costs, so it asks as rarely as for one that did not pay;
/// and once the system has threads again, the pool has its worker.
#[test]
fn a_thread_that_is_refused_is_asked_for_again_after_a_back_off() {
    if UsableCpus::read().count() < 2 {
        return;
    }
    let (mut pool, mut tick) = eager(3);
    pool.crew.refuses = true;
    let mut failed_at = Vec::new();
    while pool.now() < Duration::from_secs(20) {
        assert_eq!(tick(&mut pool), None);
        if pool.stats().spawn_failures > failed_at.len() as u64 {
            failed_at.push(pool.now().as_secs());
        }
    }
    assert!(failed_at == [0, 3, 15], "{} tries", failed_at.len());
    assert_eq!((pool.active(), pool.threads()), (0, 0));
    pool.crew.refuses = false;
    while pool.active() == 0 {
        assert!(pool.now() < Duration::from_secs(70), "{:?}", pool.reason());
        let change = tick(&mut pool);
        assert!(change.is_none_or(|change| change.sample.workers_max == 1), "{change:?}");
    }
    assert_eq!(pool.threads(), 1);
}

/// A turn that grows the pool would take as long as the job of a worker that leaves.
#[test]
fn a_turn_does_not_wait_for_a_worker_that_leaves() {
    let mut pool = Pool::new(Echo, Bell::new(|| ()), Options::blocking(1)).expect("a thread");
    pool.submit(HELD).expect("credit");
    pool.commit();
    until("the job is taken", || TAKEN.load(Ordering::Relaxed));
    for workers in [0, 1] {
        pool.rescale(Scaling::Adaptive(workers)).expect("nothing to start");
    }
    let grow = |pool: &mut Pool<Echo>| pool.activate(1, Reason::Ignition, Sample::default());
    assert_eq!(grow(&mut pool), None, "its number is not free");
    assert_eq!((pool.threads(), pool.stats().spawn_failures), (0, 0));
    LET_GO.store(true, Ordering::Relaxed);
    until("it has left", || grow(&mut pool).is_some());
    assert_eq!((pool.threads(), pool.active()), (1, 1));
    assert_eq!(pool.quiesce(Some(DEADLINE), |_| ()), Ok(1));
}
