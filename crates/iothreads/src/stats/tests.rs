//! What a reader of a worker's counters may rely on, under loom, with a mutation gate at the end.

use super::*;
use crate::explore::{both, explore, fails_without};
use crate::sync::Arc;

/// A worker that has been useful since 1000 begins its next pass at 1100, while somebody reads.
fn next_pass(swapped: bool) {
    let block = Arc::new(Block::new());
    block.store_start(0);
    block.store_times(0, 0, Mode::Useful, 1_000);
    let read = Arc::clone(&block);
    let worker = move || block.store_times(100, 0, Mode::Useful, 1_100);
    let reader = move || {
        let useful = read.times(1_150).useful.as_nanos();
        assert!([50, 150].contains(&useful), "{useful}: a stretch was counted twice");
    };
    both(swapped, worker, reader);
}

#[test]
fn loom_no_stretch_of_time_is_counted_twice() {
    for swapped in [false, true] {
        explore("times", move || next_pass(swapped));
    }
}

/// A job that owes no answer is done, and main sees its count.
fn silent_job(swapped: bool) {
    let block = Arc::new(Block::new());
    let freed = Arc::new(AtomicU64::new(0));
    let (seen, what) = (Arc::clone(&block), Arc::clone(&freed));
    let worker = move || {
        freed.store(1, Ordering::Relaxed);
        block.store_silent(1);
    };
    let main = move || {
        if seen.silent() == 1 {
            assert_eq!(what.load(Ordering::Relaxed), 1, "it is not visible");
        }
    };
    both(swapped, worker, main);
}

#[test]
fn loom_what_a_silent_job_did_is_visible_with_its_count() {
    for swapped in [false, true] {
        explore("silent job", move || silent_job(swapped));
    }
}

#[test]
fn loom_relaxed_counters_are_found_out() {
    let times = "stats::tests::loom_no_stretch_of_time_is_counted_twice";
    let silent = "stats::tests::loom_what_a_silent_job_did_is_visible_with_its_count";
    fails_without("T1.release", times, "counted twice");
    fails_without("T1.acquire", times, "counted twice");
    fails_without("T2.release", silent, "not visible");
    fails_without("T2.acquire", silent, "not visible");
}
