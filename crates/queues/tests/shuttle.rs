//! Random schedules for what loom cannot exhaust: more threads, more items, whole histories.
//!
//! Shuttle is sequentially consistent: it finds errors of logic, not of ordering. Loom is for
//! those. `SHUTTLE_SCHEDULES` asks for more schedules than the default.
#![cfg(shuttle)]

#[path = "linear/mod.rs"]
mod linear;
#[path = "linear/queues.rs"]
mod linear_queues;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use flintlock_queues::mpsc::{rings, shared};
use flintlock_queues::{Compact, Index, Padded, PopError, Words, spmc};
use linear::{Recorder, Spec, assert_checker_works};
use linear_queues::{Part, rings_history, shared_history, spmc_history};
use shuttle::thread;

fn explore(model: impl Fn() + Send + Sync + 'static) {
    let wanted = std::env::var("SHUTTLE_SCHEDULES").ok().and_then(|text| text.parse().ok());
    let schedules = wanted.unwrap_or(3000);
    let model = Arc::new(model);
    let again = Arc::clone(&model);
    // Uniform schedules, and such that few priority changes explain.
    shuttle::check_random(move || model(), schedules);
    shuttle::check_pct(move || again(), schedules, 3);
}

#[test]
fn the_checker_tells_right_from_wrong() {
    assert_checker_works();
}

fn check_history(make: fn() -> (Vec<Part>, Recorder, Spec)) {
    explore(move || {
        let (parts, recorder, spec) = make();
        let threads: Vec<_> = parts.into_iter().map(|part| thread::spawn(part)).collect();
        let ends: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
        assert!(ends.iter().all(Result::is_ok), "no thread panics");
        recorder.assert_accepted_by(spec);
    });
}

#[test]
fn shuttle_spmc_histories_are_linearizable() {
    check_history(|| spmc_history::<Words>(true));
    check_history(|| spmc_history::<Compact>(false));
    check_history(|| spmc_history::<Padded>(false));
}

#[test]
fn shuttle_rings_histories_are_linearizable() {
    check_history(rings_history::<Words>);
    check_history(rings_history::<Compact>);
}

#[test]
fn shuttle_shared_histories_are_linearizable() {
    check_history(shared_history::<Words>);
    check_history(shared_history::<Compact>);
}

/// Main hands jobs to three workers by one ring and takes answers from their three; workers leave
/// when there are no more jobs, and everything is answered once.
#[test]
fn shuttle_jobs_go_round() {
    explore(|| {
        const JOBS: usize = 12;
        let (mut jobs, job_end) = spmc::ring_in::<Index, Words>(2);
        let mut answers = rings::ring_in::<Index, Words>(2);
        let workers: Vec<_> = (0..3)
            .map(|_| {
                let (mut job_end, mut answer) = (job_end.clone(), answers.add_producer());
                thread::spawn(move || {
                    loop {
                        match job_end.pop() {
                            Ok(job) => {
                                while answer.push(job).is_err() {
                                    thread::yield_now();
                                }
                                answer.commit();
                            }
                            Err(PopError::Empty) => thread::yield_now(),
                            Err(PopError::Closed) => return,
                        }
                    }
                })
            })
            .collect();
        drop(job_end);
        let (mut answered, mut next) = (vec![0; JOBS], 0);
        while next < JOBS {
            if jobs.push(Index::new(next)).is_ok() {
                next += 1;
            } else {
                thread::yield_now();
            }
            answers.pop_batch(2, |answer| answered[answer.value()] += 1);
        }
        drop(jobs);
        loop {
            match answers.pop() {
                Ok(answer) => answered[answer.value()] += 1,
                Err(PopError::Empty) => thread::yield_now(),
                Err(PopError::Closed) => break,
            }
        }
        workers.into_iter().for_each(|worker| worker.join().expect("no panic"));
        assert!(answered.iter().all(|count| *count == 1), "{answered:?}");
    });
}

/// Three producers feed three consumers through a ring each way of sharing, with one thread between
/// that passes on what fits: everything arrives once, and closing reaches the end of the chain.
#[test]
fn shuttle_three_feed_three() {
    explore(|| {
        const EACH: usize = 4;
        let (producer, mut answers) = shared::ring_in::<Index, Words>(2);
        let (mut jobs, job_end) = spmc::ring_in::<Index, Words>(2);
        let givers: Vec<_> = (0..3)
            .map(|number| {
                let mut producer = producer.clone();
                thread::spawn(move || {
                    let mut items = (0..EACH).map(|item| Index::new(EACH * number + item));
                    while items.len() > 0 || producer.pending() > 0 {
                        let _ = producer.push_batch(&mut items);
                        producer.commit();
                        thread::yield_now();
                    }
                })
            })
            .collect();
        drop(producer);
        let takers: Vec<_> = (0..3)
            .map(|_| {
                let mut job_end = job_end.clone();
                thread::spawn(move || {
                    let mut got = Vec::new();
                    loop {
                        job_end.pop_batch(2, |job| got.push(job.value()));
                        match job_end.pop() {
                            Ok(job) => got.push(job.value()),
                            Err(PopError::Empty) => thread::yield_now(),
                            Err(PopError::Closed) => return got,
                        }
                    }
                })
            })
            .collect();
        drop(job_end);
        loop {
            match answers.pop() {
                Ok(mut item) => {
                    while let Err(refused) = jobs.push(item) {
                        item = refused.into_inner();
                        thread::yield_now();
                    }
                }
                Err(PopError::Empty) => thread::yield_now(),
                Err(PopError::Closed) => break,
            }
        }
        drop(jobs);
        givers.into_iter().for_each(|giver| giver.join().expect("no panic"));
        let taken = takers.into_iter().map(|taker| taker.join().expect("no panic"));
        let mut all: Vec<_> = taken.flatten().collect();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..3 * EACH), "each item once");
    });
}

/// Three producers fill a small shared ring beyond its room, leave with what is pending, and the
/// consumer gets all of it in the order of each.
#[test]
fn shuttle_shared_overflows_and_orphans() {
    explore(|| {
        const EACH: usize = 5;
        let (first, mut consumer) = shared::ring_in::<Index, Words>(2);
        let producers = [first.clone(), first.clone(), first];
        let threads: Vec<_> = producers
            .into_iter()
            .enumerate()
            .map(|(number, mut producer)| {
                thread::spawn(move || {
                    let items = (0..EACH).map(|item| Index::new(10 * number + item));
                    for (position, mut item) in items.enumerate() {
                        let push = if position % 2 == 0 {
                            shared::Producer::push
                        } else {
                            shared::Producer::push_deferred
                        };
                        while let Err(refused) = push(&mut producer, item) {
                            item = refused.into_inner();
                            thread::yield_now();
                        }
                    }
                    if number == 0 {
                        producer.commit();
                    }
                })
            })
            .collect();
        let mut got: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        loop {
            match consumer.pop() {
                Ok(item) => got.entry(item.value() / 10).or_default().push(item.value() % 10),
                Err(PopError::Empty) => thread::yield_now(),
                Err(PopError::Closed) => break,
            }
        }
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        assert_eq!(got.len(), 3);
        assert!(got.values().all(|items| items.iter().copied().eq(0..EACH)), "{got:?}");
    });
}

/// A sleeping consumer is woken: announce, fence, look, sleep against push, commit, look. Under
/// shuttle the whole protocol with sleeping runs, with three producers, many times over.
#[test]
fn shuttle_three_producers_wake_a_sleeper() {
    explore(|| {
        const EACH: usize = 4;
        let mut consumer = rings::ring_in::<Index, Words>(4);
        let sleeps = Arc::new(flintlock_queues::sync::AtomicBool::new(false));
        let main = Arc::new(Mutex::new(Some(thread::current())));
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let (mut producer, sleeps) = (consumer.add_producer(), sleeps.clone());
                let main = Arc::clone(&main);
                thread::spawn(move || {
                    for number in 0..EACH {
                        producer.push(Index::new(number)).expect("room for all");
                        producer.commit();
                        if sleeps.swap(false, std::sync::atomic::Ordering::Relaxed) {
                            let main = main.lock().expect("no holder panics").clone();
                            main.expect("main is known").unpark();
                        }
                    }
                    producer
                })
            })
            .collect();
        let mut got = 0;
        while got < 3 * EACH {
            got += consumer.pop_batch(3, |_| ());
            if got < 3 * EACH {
                sleeps.store(true, std::sync::atomic::Ordering::Relaxed);
                flintlock_queues::sync::fence(std::sync::atomic::Ordering::SeqCst);
                if consumer.is_empty() {
                    thread::park();
                }
                sleeps.store(false, std::sync::atomic::Ordering::Relaxed);
            }
        }
        threads.into_iter().for_each(|thread| drop(thread.join().expect("no panic")));
    });
}
