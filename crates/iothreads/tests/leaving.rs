//! Workers that go: for a smaller pool, or with all of it. Nothing is lost, and nothing done twice.
#![cfg(not(loom))]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use flintlock_iothreads::policy::Reason;
use flintlock_iothreads::{Options, Scaling, WORKERS_MAX};
use support::{Answer, Counted, DEADLINE, Gate, Job, all, fixed, numbers, with};

#[test]
fn resizing_under_load_loses_nothing() {
    let mut pool = fixed(1);
    let mut next = 0;
    let mut answers = Vec::new();
    for size in [8, 1, 3].into_iter().cycle().take(150) {
        for _ in 0..40 {
            pool.submit(Job::Carry(Box::new(next))).expect("credit");
            next += 1;
        }
        pool.commit();
        pool.resize(size).expect("threads can be started");
        assert_eq!((pool.threads(), pool.active()), (size, size));
        pool.drain(1000, |answer| answers.push(answer));
        if next % 400 == 0 {
            answers.extend(all(&mut pool));
        }
    }
    answers.extend(all(&mut pool));
    assert_eq!(numbers(&answers), (0..next).collect::<Vec<_>>());
}

#[test]
fn jobs_of_workers_that_left_are_finished_by_main() {
    let mut pool = fixed(1);
    let gate = Gate::new();
    pool.submit(Job::Stop(Arc::clone(&gate), 0)).expect("credit");
    pool.commit();
    gate.wait_reached();
    for job in 1..=10 {
        pool.submit(Job::Steps(2, job)).expect("credit");
    }
    pool.submit_high(Job::Echo(11)).expect("credit");
    pool.submit_to(0, Job::Echo(12)).expect("room");
    pool.submit(Job::Silent(Arc::default())).expect("credit");
    pool.commit();
    pool.resize(0).expect("nothing to start");
    gate.open();
    let answers = all(&mut pool);
    assert_eq!(numbers(&answers), (0..=12).collect::<Vec<_>>());
    assert_eq!(pool.threads(), 0);
    assert_eq!(pool.in_flight(), 0);
}

/// An event loop may have room for so many answers and no more, and keep what belongs to a worker
/// under its number.
#[test]
fn jobs_without_a_worker_come_as_asked_for_and_under_no_workers_number() {
    let mut pool = fixed(1);
    let gate = Gate::new();
    pool.submit(Job::Stop(Arc::clone(&gate), 0)).expect("credit");
    pool.commit();
    gate.wait_reached();
    for _ in 0..10 {
        pool.submit(Job::WhoAmI).expect("credit");
    }
    pool.resize(0).expect("nothing to start");
    let mut left = 10;
    while left > 0 {
        assert!(!pool.before_sleep(), "nobody would wake main for them");
        pool.after_sleep();
        assert!(pool.wait(Some(DEADLINE)), "nor end this");
        let count = pool.drain(3, |answer| match answer {
            Answer::Worker(number) => assert_eq!(number, WORKERS_MAX),
            other => panic!("{other:?}"),
        });
        assert_eq!(count, left.min(3));
        left -= count;
    }
    gate.open();
    assert_eq!(numbers(&all(&mut pool)), [0]);
}

#[test]
fn dropping_a_pool_drops_each_job_once() {
    let alive = Arc::new(AtomicUsize::new(0));
    let gate = Gate::new();
    let mut pool = fixed(2);
    pool.submit_to(0, Job::Stop(Arc::clone(&gate), 0)).expect("room");
    pool.commit();
    for job in 0..100 {
        let held = || Counted::new(&alive);
        pool.submit(Job::Hold(held(), job)).expect("credit");
        pool.submit_high(Job::Hold(held(), job)).expect("credit");
        pool.submit_to(0, Job::Hold(held(), job)).expect("room");
        if job == 50 {
            pool.commit();
        }
    }
    gate.wait_reached();
    gate.open();
    drop(pool);
    assert_eq!(alive.load(Ordering::SeqCst), 0);
}

#[test]
fn shutdown_finishes_everything_and_joins() {
    let alive = Arc::new(AtomicUsize::new(0));
    let mut pool = fixed(2);
    for job in 0..200 {
        pool.submit(Job::Hold(Counted::new(&alive), job)).expect("credit");
    }
    let mut answers = Vec::new();
    pool.shutdown(|answer| answers.push(answer));
    assert_eq!(numbers(&answers), (0..200).collect::<Vec<_>>());
    drop(answers);
    assert_eq!(alive.load(Ordering::SeqCst), 0);
}

#[test]
fn a_resize_to_fewer_lowers_an_adaptive_pool() {
    let mut pool = with(Options { scaling: Scaling::Fixed(3), ..Options::adaptive(3) });
    pool.rescale(Scaling::Adaptive(3)).expect("nothing to start");
    assert_eq!(pool.active(), 3);
    pool.resize(1).expect("nothing to start");
    assert_eq!((pool.active(), pool.threads()), (1, 1));
    assert_eq!(pool.decisions().next_back().map(|change| change.reason), Some(Reason::Cap));
}
