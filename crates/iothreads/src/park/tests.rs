//! The sleep and wake protocol under loom, with the rings that it goes with in the product.
//!
//! Whoever is lost sleeps for ever, which loom reports as a deadlock. The mutation gate at the end
//! runs each model again with one fence left out, which leaves release and acquire only: loom must
//! find the loss.

use std::time::Duration;

use flintlock_queues::mpsc::rings;
use flintlock_queues::{Words, spmc, spsc};
use loom::thread;

use super::*;
use crate::explore::{both, explore, fails_without};
use crate::sync::AtomicUsize;

type Item = Box<u64>;

/// A clock that stands: loom knows no time.
#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn now(&self) -> Duration {
        Duration::ZERO
    }
}

/// A worker that has found nothing goes to sleep while main hands it a job.
fn sleeping_worker(swapped: bool) {
    let sleepers = Arc::new(Sleepers::new(1));
    let (mut inbox, mut inbox_end) = spsc::ring_in::<Item, Words>(2);
    let table = Arc::clone(&sleepers);
    let worker = move || {
        sleepers.enter(0);
        sleepers.sleep(0, || !inbox_end.is_empty());
        sleepers.work(0);
        assert_eq!(inbox_end.pop().as_deref(), Ok(&7));
        sleepers.leave(0);
    };
    let main = move || {
        inbox.push_deferred(Box::new(7)).expect("room");
        inbox.commit();
        table.wake(0);
        inbox
    };
    both(swapped, worker, main);
}

#[test]
fn loom_a_sleeping_worker_is_woken_for_a_job() {
    for swapped in [false, true] {
        explore("sleeping worker", move || sleeping_worker(swapped));
    }
}

/// A worker goes to sleep while main closes its inbox.
fn closed_worker(swapped: bool) {
    let sleepers = Arc::new(Sleepers::new(1));
    let (inbox, mut inbox_end) = spsc::ring_in::<Item, Words>(2);
    let table = Arc::clone(&sleepers);
    let worker = move || {
        sleepers.enter(0);
        sleepers.sleep(0, || inbox_end.is_closed());
        assert!(inbox_end.pop().is_err());
        sleepers.leave(0);
    };
    let main = move || {
        drop(inbox);
        table.wake(0);
    };
    both(swapped, worker, main);
}

#[test]
fn loom_a_sleeping_worker_is_woken_to_leave() {
    for swapped in [false, true] {
        explore("closed worker", move || closed_worker(swapped));
    }
}

/// Two workers, one of which may be searching; main publishes two jobs at once and wakes as few as
/// it may. Each worker takes one job: if the chain breaks, one job stays.
fn chain(searching: bool) {
    let sleepers = Arc::new(Sleepers::new(2));
    let (mut lane, lane_end) = spmc::ring_in::<Item, Words>(2);
    let worker = |index: usize, searching: bool| {
        let (sleepers, mut lane) = (Arc::clone(&sleepers), lane_end.clone());
        move || {
            sleepers.enter(index);
            let mut is_searching = searching;
            if is_searching {
                sleepers.search(index);
            }
            // A run is published item by item: what a worker saw may have been the first item
            // only, and the other worker's. Then it goes back to sleep.
            let job = loop {
                if !is_searching || lane.is_empty() {
                    sleepers.sleep(index, || !lane.is_empty());
                }
                sleepers.work(index);
                match lane.pop() {
                    Ok(job) => break job,
                    Err(_) => is_searching = false,
                }
            };
            if !lane.is_empty() {
                sleepers.relieve(2);
            }
            drop(job);
        }
    };
    let one = thread::spawn(worker(0, searching));
    let other = thread::spawn(worker(1, false));
    lane.push_deferred(Box::new(1)).expect("room");
    lane.push_deferred(Box::new(2)).expect("room");
    lane.commit();
    if lane.len() > sleepers.searching(2) {
        sleepers.wake_one(2);
    }
    one.join().expect("no panic");
    other.join().expect("no panic");
}

#[test]
fn loom_a_worker_that_leaves_jobs_behind_wakes_the_next() {
    for searching in [false, true] {
        explore("chain", move || chain(searching));
    }
}

/// Main publishes a job in the inbox of a searching worker and one in the lane, and counts on that
/// worker for the latter; but it takes the former, which takes for ever.
fn counted_on() {
    let sleepers = Arc::new(Sleepers::new(2));
    let (mut inbox, mut inbox_end) = spsc::ring_in::<Item, Words>(2);
    let (mut lane, lane_end) = spmc::ring_in::<Item, Words>(2);
    let (table, lane_hint) = (Arc::clone(&sleepers), lane_end.clone());
    let searching = thread::spawn(move || {
        table.enter(0);
        table.search(0);
        if inbox_end.is_empty() {
            table.sleep(0, || !inbox_end.is_empty());
        }
        table.work(0);
        assert!(inbox_end.pop().is_ok());
        if !lane_hint.is_empty() {
            table.relieve(2);
        }
    });
    let (table, mut lane_end) = (Arc::clone(&sleepers), lane_end);
    let sleeping = thread::spawn(move || {
        table.enter(1);
        table.sleep(1, || !lane_end.is_empty());
        table.work(1);
        assert!(lane_end.pop().is_ok(), "nobody else takes it");
    });
    inbox.push_deferred(Box::new(1)).expect("room");
    inbox.commit();
    lane.push_deferred(Box::new(2)).expect("room");
    lane.commit();
    sleepers.wake(0);
    if lane.len() > sleepers.searching(2) {
        sleepers.wake_one(2);
    }
    searching.join().expect("no panic");
    sleeping.join().expect("no panic");
}

#[test]
fn loom_a_worker_that_is_counted_on_passes_the_job_on() {
    explore("counted on", counted_on);
}

/// A worker with nothing to do goes to sleep while main makes it active, for a job that waits.
fn made_active(swapped: bool) {
    let sleepers = Arc::new(Sleepers::new(1));
    let active = Arc::new(AtomicUsize::new(0));
    let (table, told) = (Arc::clone(&sleepers), Arc::clone(&active));
    let worker = move || {
        sleepers.enter(0);
        sleepers.sleep(0, || active.load(Ordering::Relaxed) == 1);
        sleepers.work(0);
        assert_eq!(active.load(Ordering::Relaxed), 1, "it was woken for that");
        sleepers.leave(0);
    };
    let main = move || {
        told.store(1, Ordering::Relaxed);
        table.order();
        table.wake_one(1);
    };
    both(swapped, worker, main);
}

#[test]
fn loom_a_worker_that_is_made_active_sees_the_jobs_that_wait() {
    for swapped in [false, true] {
        explore("made active", move || made_active(swapped));
    }
}

/// What a poller is here: a place to sleep until woken, once for each wake.
struct Poller {
    woken: Mutex<usize>,
    main: Thread,
}

impl Wake for std::sync::Arc<Poller> {
    fn wake(&self) {
        *lock(&self.woken) += 1;
        self.main.unpark();
    }
}

/// Main goes to sleep in its poller while `workers` workers finish a job each.
fn sleeping_main(workers: u64) {
    let poller = std::sync::Arc::new(Poller { woken: Mutex::new(0), main: current() });
    let bell = Bell::new(std::sync::Arc::clone(&poller));
    let mut answers = rings::ring_in::<Item, Words>(2);
    let threads: Vec<_> = (0..workers)
        .map(|number| {
            let (bell, mut answers) = (Arc::clone(&bell), answers.add_producer());
            thread::spawn(move || {
                answers.push_deferred(Box::new(number)).expect("a credit");
                answers.commit();
                bell.ring();
                answers
            })
        })
        .collect();
    let mut sleeps = 0;
    let mut drained = 0;
    while drained < workers {
        bell.announce();
        if answers.is_empty() {
            sleeps += 1;
            while *lock(&poller.woken) < sleeps {
                park();
            }
        }
        bell.rise();
        drained += answers.pop_batch(2, |_| ()) as u64;
        // A wake-up that came after main rose by itself ends the next sleep early.
        let woken = *lock(&poller.woken);
        sleeps = sleeps.max(woken);
    }
    for thread in threads {
        thread.join().expect("no panic");
    }
    assert!(*lock(&poller.woken) <= sleeps + 1, "one wake for a sleep, one too many at the end");
}

#[test]
fn loom_main_asleep_in_its_poller_is_woken() {
    explore("main asleep", || sleeping_main(1));
}

#[test]
fn loom_main_asleep_is_woken_by_one_of_two() {
    explore("main asleep, two workers", || sleeping_main(2));
}

/// Main parks until an answer comes, or until a job is finished that owes none.
fn parked_main(swapped: bool, silent: bool) {
    let bell = Bell::new(|| panic!("the poller is not in use"));
    let mut answers = rings::ring_in::<Item, Words>(2);
    let mut sender = answers.add_producer();
    let done = Arc::new(AtomicU64::new(0));
    let (rung, count) = (Arc::clone(&bell), Arc::clone(&done));
    let worker = move || {
        if silent {
            count.store(1, Ordering::Release);
            rung.ring_for_silent();
        } else {
            sender.push_deferred(Box::new(1)).expect("a credit");
            sender.commit();
            rung.ring();
        }
        sender
    };
    let main = move || {
        let mut finished = false;
        while !finished {
            bell.park(None, &Still, || !answers.is_empty() || done.load(Ordering::Acquire) == 1);
            finished = answers.pop().is_ok() || done.load(Ordering::Acquire) == 1;
        }
        answers
    };
    both(swapped, worker, main);
}

#[test]
fn loom_a_parked_main_hears_of_answers() {
    for swapped in [false, true] {
        explore("parked main", move || parked_main(swapped, false));
    }
}

#[test]
fn loom_a_parked_main_hears_of_silent_jobs() {
    for swapped in [false, true] {
        explore("parked main, silent job", move || parked_main(swapped, true));
    }
}

/// Each fence of the protocol, and the model that must fail without it.
const MUTATIONS: [(&str, &str); 8] = [
    ("P1.sleeper", "loom_a_sleeping_worker_is_woken_for_a_job"),
    ("F1.drop", "loom_a_sleeping_worker_is_woken_to_leave"),
    ("P1.finder", "loom_a_worker_that_is_counted_on_passes_the_job_on"),
    ("P1.orders", "loom_a_worker_that_is_made_active_sees_the_jobs_that_wait"),
    ("F1.commit", "loom_a_sleeping_worker_is_woken_for_a_job"),
    ("F1.commit", "loom_main_asleep_in_its_poller_is_woken"),
    ("P2.main", "loom_main_asleep_in_its_poller_is_woken"),
    ("P2.silent", "loom_a_parked_main_hears_of_silent_jobs"),
];

#[test]
fn loom_release_and_acquire_alone_lose_wake_ups() {
    for (fence, model) in MUTATIONS {
        fails_without(fence, &format!("park::tests::{model}"), "deadlock");
    }
}
