//! The real pool under loom: drain and resize against a worker, smallest shapes only.
//!
//! Everything here is the code that ships: rings, park protocol, worker loop, credits. The models
//! are tiny since the state space is that of all of it together; the park protocol alone is
//! explored further in `src/park/tests.rs`.
#![cfg(loom)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use flintlock_iothreads::{Bell, Budget, Clock, Context, Handler, Options, Outcome, Panic, Pool};
use flintlock_queues::Words;
use loom::cell::Cell;

const CAP: Duration = Duration::from_secs(300);

fn explore(name: &str, preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 50_000;
    builder.max_duration = Some(CAP);
    let executions = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&executions);
    let start = Instant::now();
    builder.check(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        model();
    });
    let (took, count) = (start.elapsed(), executions.load(Ordering::Relaxed));
    println!("{name}: {count} executions in {took:.2?}");
    assert!(took < CAP, "{name} was not exhausted");
}

#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn now(&self) -> Duration {
        Duration::ZERO
    }
}

/// Loom watches every access: what main wrote must be visible to the worker, and back.
#[repr(align(16))]
struct Payload {
    number: Cell<u64>,
    dropped: Arc<Mutex<usize>>,
}

impl Payload {
    fn new(dropped: &Arc<Mutex<usize>>) -> Box<Self> {
        Box::new(Self { number: Cell::new(1), dropped: Arc::clone(dropped) })
    }

    fn add(&self) -> u64 {
        self.number.set(self.number.get() + 1);
        self.number.get()
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        self.add();
        *self.dropped.lock().expect("no holder panics") += 1;
    }
}

struct Adding;

impl Handler for Adding {
    type Job = Box<Payload>;
    type Answer = Box<Payload>;
    type Layout = Words;
    type Owner = ();
    type Local = ();

    fn local(&self, _worker: usize) {}

    fn owner(&self, _job: &Box<Payload>) {}

    fn run(
        &self,
        job: Box<Payload>,
        _context: &mut Context<'_, ()>,
    ) -> Outcome<Box<Payload>, Box<Payload>> {
        job.add();
        Outcome::Done(job)
    }

    fn panicked(&self, _owner: (), _panic: &Panic) -> Option<Box<Payload>> {
        None
    }
}

fn pool() -> Pool<Adding> {
    let options = Options {
        credits: 2,
        inbox: 2,
        budget: Budget::default(),
        clock: Arc::new(Still),
        ..Options::blocking(1)
    };
    Pool::new(Adding, Bell::new(|| ()), options).expect("loom starts threads")
}

/// Main submits a job and drains until nothing is in flight.
fn drain(private: bool) {
    let dropped = Arc::default();
    let mut pool = pool();
    let job = Payload::new(&dropped);
    if private {
        assert!(pool.submit_to(0, job).is_ok());
    } else {
        assert!(pool.submit(job).is_ok());
    }
    let mut seen = 0;
    let drained = pool.quiesce(None, |answer| seen += answer.add());
    assert_eq!((drained, seen), (Ok(1), 3));
    assert_eq!(pool.in_flight(), 0);
    drop(pool);
    assert_eq!(*dropped.lock().expect("no holder panics"), 1);
}

#[test]
fn loom_draining_the_shared_lane() {
    explore("drain shared", 2, || drain(false));
}

#[test]
fn loom_draining_a_private_inbox() {
    explore("drain private", 2, || drain(true));
}

/// The only worker is taken away while it may hold, have or not yet have seen the job.
fn resize() {
    let dropped = Arc::default();
    let mut pool = pool();
    assert!(pool.submit(Payload::new(&dropped)).is_ok());
    pool.commit();
    pool.resize(0).expect("nothing to start");
    let mut seen = 0;
    assert_eq!(pool.quiesce(None, |answer| seen += answer.add()), Ok(1));
    assert_eq!(seen, 3);
}

#[test]
fn loom_resizing_while_a_job_is_in_flight() {
    explore("resize", 2, resize);
}

/// The pool is dropped while a job is on its way: it is dropped once, wherever it is.
fn drop_in_flight() {
    let dropped = Arc::default();
    let mut pool = pool();
    assert!(pool.submit(Payload::new(&dropped)).is_ok());
    pool.commit();
    drop(pool);
    assert_eq!(*dropped.lock().expect("no holder panics"), 1);
}

#[test]
fn loom_dropping_the_pool_while_a_job_is_in_flight() {
    explore("drop", 2, drop_in_flight);
}
