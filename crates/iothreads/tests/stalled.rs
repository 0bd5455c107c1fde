//! A worker that the system does not run: what it has claimed waits for it, and nothing else.
#![cfg(not(loom))]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use flintlock_iothreads::{Options, Pool, Refusal, Turn};
use support::{Answer, Deeds, Gate, Job, all, numbers, until, with};

const STALL_AFTER: Option<Duration> = Some(Duration::from_millis(1));

/// What comes within one turn of a loop.
fn turn(pool: &mut Pool<Deeds>, answers: &mut Vec<Answer>) {
    pool.tick(&Turn::default());
    pool.drain(usize::MAX, |answer| answers.push(answer));
}

/// A pool of one worker, which stands at the gate with job 0.
fn stopped(gate: &Arc<Gate>) -> Pool<Deeds> {
    let mut pool = with(Options { stall_after: STALL_AFTER, ..Options::blocking(1) });
    pool.submit(Job::Stop(Arc::clone(gate), 0)).expect("credit");
    pool.commit();
    gate.wait_reached();
    pool
}

#[test]
fn main_does_what_a_stopped_worker_has_not_claimed() {
    let gate = Gate::new();
    let mut pool = stopped(&gate);
    let silent = Arc::new(AtomicUsize::new(0));
    for number in 1..=10 {
        pool.submit(Job::Echo(number)).expect("credit");
    }
    pool.submit(Job::Steps(3, 11)).expect("credit");
    pool.submit_high(Job::Echo(12)).expect("credit");
    pool.submit(Job::Silent(Arc::clone(&silent))).expect("credit");
    pool.commit();
    assert!(pool.timeout().is_some(), "a loop that sleeps on would not notice");
    until("main notices", || {
        pool.tick(&Turn::default());
        pool.stats().stalls > 0
    });
    assert!(!pool.before_sleep(), "there is something to do");
    let mut answers = Vec::new();
    until("main does them", || {
        turn(&mut pool, &mut answers);
        answers.len() == 12
    });
    assert_eq!(numbers(&answers), Vec::from_iter(1..=12));
    assert_eq!(silent.load(Ordering::SeqCst), 1);
    assert_eq!(pool.in_flight(), 1, "the one at the gate");
    let stats = pool.stats();
    assert_eq!((stats.stranded, stats.workers[0].jobs), (13, [0; 3]));
    assert!(stats.stalls >= 1);

    gate.open();
    until("the worker is back", || {
        turn(&mut pool, &mut answers);
        pool.in_flight() == 0
    });
    assert_eq!(numbers(&answers), Vec::from_iter(0..=12));
    pool.tick(&Turn::default());
    pool.submit(Job::Echo(13)).expect("workers take jobs again, at once");
    assert_eq!(numbers(&all(&mut pool)), [13]);
}

#[test]
fn nothing_is_let_in_meanwhile_and_the_caller_is_told_why() {
    let gate = Gate::new();
    let mut pool = stopped(&gate);
    pool.submit(Job::Echo(1)).expect("credit");
    pool.commit();
    let mut answers = Vec::new();
    until("main does it", || {
        turn(&mut pool, &mut answers);
        !answers.is_empty()
    });
    assert!(!pool.is_accepting());
    for refused in [pool.submit(Job::Echo(2)), pool.submit_high(Job::Echo(2))] {
        let full = refused.expect_err("it would wait for the stopped worker");
        assert_eq!(full.reason, Refusal::Stalled);
    }
    assert_eq!(pool.stats().refused.stalled, 2);
    gate.open();
}

/// Jobs that may take long must not run on main.
#[test]
fn a_pool_of_blocking_jobs_waits_for_its_workers() {
    let gate = Gate::new();
    let mut pool = with(Options::blocking(1));
    pool.submit(Job::Stop(Arc::clone(&gate), 0)).expect("credit");
    pool.commit();
    gate.wait_reached();
    pool.submit(Job::Echo(1)).expect("credit");
    pool.commit();
    assert_eq!(pool.timeout(), None);
    let mut answers = Vec::new();
    for _ in 0..3 {
        turn(&mut pool, &mut answers);
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(answers.is_empty());
    gate.open();
    assert_eq!(numbers(&all(&mut pool)), [0, 1]);
}
