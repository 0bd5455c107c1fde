//! Histories of real threads are linearizable, thousands of small ones.
#![cfg(not(any(loom, shuttle)))]

#[path = "linear/mod.rs"]
mod linear;
#[path = "linear/queues.rs"]
mod linear_queues;

use std::sync::Barrier;
use std::thread;

use flintlock_queues::{Compact, Padded, Words};
use linear::{Recorder, Spec, assert_checker_works};
use linear_queues::{Part, rings_history, shared_history, spmc_history};

/// Histories of each kind; the stress test takes many more.
const ROUNDS: usize = 200;
const STRESS_ROUNDS: usize = 20_000;

/// Runs the parts on threads that start together, and checks the history.
fn check(history: (Vec<Part>, Recorder, Spec)) {
    let (parts, recorder, spec) = history;
    let barrier = Barrier::new(parts.len());
    thread::scope(|scope| {
        let start = |part: Part| {
            let barrier = &barrier;
            scope.spawn(move || {
                barrier.wait();
                part()
            })
        };
        let threads: Vec<_> = parts.into_iter().map(start).collect();
        let ends: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
        assert!(ends.iter().all(Result::is_ok), "no thread panics");
    });
    recorder.assert_accepted_by(spec);
}

fn check_all(rounds: usize) {
    for _ in 0..rounds {
        check(spmc_history::<Words>(true));
        check(spmc_history::<Compact>(false));
        check(rings_history::<Words>());
        check(rings_history::<Padded>());
        check(shared_history::<Words>());
        check(shared_history::<Compact>());
    }
}

#[test]
fn the_checker_tells_right_from_wrong() {
    assert_checker_works();
}

#[test]
fn histories_are_linearizable() {
    check_all(ROUNDS);
}

#[test]
#[ignore = "minutes of real threads"]
fn stress_histories_are_linearizable() {
    check_all(STRESS_ROUNDS);
}
