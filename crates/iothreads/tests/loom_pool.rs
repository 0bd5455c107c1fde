//! The real pool under loom: drain and resize against a worker, smallest shapes only.
//!
//! Everything here is the code that ships: rings, park protocol, worker loop, credits. The models
//! are tiny since the state space is that of all of it together; the park protocol alone is
//! explored further in `src/park/tests.rs`.
#![cfg(loom)]

#[expect(dead_code, reason = "the mutation gate is for models of one protocol at a time")]
mod explore;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use explore::explore;
use flintlock_iothreads::{
    Bell, Budget, Clock, Context, Handler, Options, Outcome, Panic, Pool, Words,
};
use loom::cell::Cell;

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
    /// How often it comes back unfinished.
    turns: Cell<u64>,
    /// It owes no answer.
    silent: bool,
    dropped: Arc<Mutex<usize>>,
}

impl Payload {
    fn new(dropped: &Arc<Mutex<usize>>) -> Box<Self> {
        Self::long(dropped, 0)
    }

    fn long(dropped: &Arc<Mutex<usize>>, turns: u64) -> Box<Self> {
        let (number, turns) = (Cell::new(1), Cell::new(turns));
        Box::new(Self { number, turns, silent: false, dropped: Arc::clone(dropped) })
    }

    fn silent(dropped: &Arc<Mutex<usize>>) -> Box<Self> {
        let mut payload = Self::new(dropped);
        payload.silent = true;
        payload
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
        let left = job.turns.get();
        if left > 0 {
            job.turns.set(left - 1);
            return Outcome::Again(job);
        }
        job.add();
        if job.silent { Outcome::Nothing } else { Outcome::Done(job) }
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
    explore("drain shared", || drain(false));
}

#[test]
fn loom_draining_a_private_inbox() {
    explore("drain private", || drain(true));
}

/// Main waits while the only job, which owes no answer, is not done, being done, or done already.
fn wait_for_silent() {
    let dropped = Arc::default();
    let mut pool = pool();
    assert!(pool.submit(Payload::silent(&dropped)).is_ok());
    assert!(!pool.wait(None), "there is no answer");
}

#[test]
fn loom_waiting_without_a_limit_ends_with_the_last_job() {
    explore("wait, silent job", wait_for_silent);
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
    explore("resize", resize);
}

/// The same with a job that is not finished at once: a worker goes on with it, or main does.
fn resize_unfinished() {
    let dropped = Arc::default();
    let mut pool = pool();
    assert!(pool.submit(Payload::long(&dropped, 1)).is_ok());
    pool.commit();
    pool.resize(0).expect("nothing to start");
    let mut seen = 0;
    assert_eq!(pool.quiesce(None, |answer| seen += answer.add()), Ok(1));
    assert_eq!(seen, 3);
}

#[test]
fn loom_resizing_while_an_unfinished_job_is_in_flight() {
    explore("resize, unfinished", resize_unfinished);
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
    explore("drop", drop_in_flight);
}
