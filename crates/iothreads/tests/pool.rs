//! The pool with real threads: what comes in comes out, in the order promised, whatever happens.
#![cfg(not(loom))]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use flintlock_iothreads::policy::{Reason, Tuning};
use flintlock_iothreads::{
    Bell, CpuList, Manual, Options, Pool, Refusal, Scaling, StillBusy, Turn, UsableCpus,
};
use support::{Answer, DEADLINE, Deeds, Gate, Job, all, fixed, numbers, until, until_parked, with};

#[test]
fn every_job_is_answered_once() {
    for workers in [1, 2, 4] {
        let mut pool = fixed(workers);
        let mut answers = Vec::new();
        for turn in 0..100 {
            for job in 0..50 {
                pool.submit(Job::Echo(turn * 50 + job)).expect("credits for all");
            }
            pool.commit();
            pool.drain(1000, |answer| answers.push(answer));
            answers.extend(all(&mut pool));
        }
        assert_eq!(numbers(&answers), (0..5000).collect::<Vec<_>>());
        assert_eq!(pool.in_flight(), 0);
        let stats = pool.stats();
        assert_eq!((stats.answered, stats.submitted), (5000, [5000, 0, 0]));
    }
}

/// Dating every batch of answers would cost more than handing it over.
#[test]
fn few_answers_are_timed() {
    let mut pool = fixed(2);
    for _ in 0..65 * 10 {
        pool.submit(Job::Echo(1)).expect("a credit");
        assert_eq!(all(&mut pool).len(), 1);
    }
    assert_eq!(pool.stats().answer_latency_ns.count(), 10);
}

/// A pool of long jobs needs no ticks, but its jobs are dated all the same.
#[test]
fn the_start_of_jobs_is_timed_without_ticks() {
    const JOBS: u32 = 10;
    let clock = Arc::new(Manual::new());
    let mut pool = with(Options { clock: Arc::clone(&clock) as _, ..Options::blocking(1) });
    for _ in 0..JOBS {
        clock.advance(Duration::from_millis(1));
        pool.submit(Job::Echo(1)).expect("a credit");
        assert_eq!(all(&mut pool).len(), 1);
    }
    assert_eq!(pool.stats().start_latency_ns.count(), u64::from(JOBS));
}

#[test]
fn without_workers_every_job_comes_back() {
    for scaling in [Scaling::Fixed(0), Scaling::Adaptive(0), Scaling::Adaptive(4)] {
        let mut pool = with(Options { scaling, ..Options::adaptive(0) });
        assert_eq!(pool.threads(), 0, "{scaling:?}");
        assert!(!pool.is_accepting());
        let refused = pool.submit(Job::Echo(7)).expect_err("nobody is there");
        assert_eq!(refused.reason, Refusal::Inactive);
        assert!(matches!(refused.job, Job::Echo(7)));
        assert!(pool.submit_high(Job::Echo(8)).is_err());
        assert!(pool.submit_to(0, Job::Echo(9)).is_err());
        let stats = pool.stats();
        assert_eq!((stats.in_flight, stats.refused.inactive), (0, 3));
        assert!(pool.before_sleep(), "nothing is there");
        assert_eq!(pool.timeout(), None, "no timer in an idle process");
        pool.after_sleep();
    }
}

#[test]
fn a_refused_job_leaves_the_pool_as_it_was() {
    let mut pool = with(Options { credits: 4, inbox: 2, ..Options::blocking(1) });
    let gate = Gate::new();
    pool.submit_to(0, Job::Stop(Arc::clone(&gate), 0)).expect("room");
    pool.commit();
    gate.wait_reached();
    pool.submit_to(0, Job::Echo(1)).expect("room");
    pool.submit_to(0, Job::Echo(2)).expect("room");
    for _ in 0..3 {
        let before = pool.stats();
        let refused = pool.submit_to(0, Job::Echo(3)).expect_err("the inbox holds two");
        assert_eq!(refused.reason, Refusal::Full);
        assert!(matches!(refused.job, Job::Echo(3)));
        let after = pool.stats();
        assert_eq!((before.submitted, before.in_flight), (after.submitted, after.in_flight));
    }
    pool.submit(Job::Echo(4)).expect("a credit is left");
    let refused = pool.submit(Job::Echo(5)).expect_err("four are in flight");
    assert_eq!(refused.reason, Refusal::NoCredit);
    gate.open();
    assert_eq!(numbers(&all(&mut pool)), [0, 1, 2, 4]);
    let refused = pool.stats().refused;
    assert_eq!((refused.full, refused.no_credit), (3, 1));
}

#[test]
fn a_private_inbox_keeps_its_order() {
    let mut pool = fixed(3);
    let mut seen = Vec::new();
    for turn in 0..200_u64 {
        // Unfinished jobs must not be overtaken by their successors.
        pool.submit_to(1, Job::Steps(u32::try_from(turn % 3).expect("small"), turn)).expect("room");
        if turn % 7 == 0 {
            pool.commit();
        }
        pool.drain(100, |answer| seen.push(answer.number()));
    }
    seen.extend(all(&mut pool).iter().map(Answer::number));
    assert_eq!(seen, (0..200).collect::<Vec<_>>());
}

#[test]
fn a_private_job_runs_on_its_worker() {
    let mut pool = fixed(3);
    for worker in [2, 0, 1] {
        pool.submit_to(worker, Job::WhoAmI).expect("room");
        let answers = all(&mut pool);
        assert!(matches!(answers[..], [Answer::Worker(index)] if index == worker));
    }
}

#[test]
fn deferred_jobs_are_invisible_until_the_commit() {
    let mut pool = fixed(1);
    pool.submit(Job::Echo(1)).expect("credit");
    pool.submit_to(0, Job::Echo(2)).expect("credit");
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(pool.drain(10, |_| ()), 0);
    pool.commit();
    assert_eq!(numbers(&all(&mut pool)), [1, 2]);
}

#[test]
fn the_high_lane_overtakes_everything_that_waits() {
    let mut pool = fixed(1);
    let gate = Gate::new();
    pool.submit_to(0, Job::Stop(Arc::clone(&gate), 0)).expect("room");
    pool.commit();
    gate.wait_reached();
    for job in 1..=100 {
        pool.submit_to(0, Job::Echo(job)).expect("room");
        pool.submit(Job::Echo(1000 + job)).expect("credit");
    }
    pool.submit_high(Job::Echo(7)).expect("credit");
    pool.commit();
    gate.open();
    let order: Vec<u64> = all(&mut pool).iter().map(Answer::number).collect();
    let place = order.iter().position(|&number| number == 7).expect("answered");
    assert!(place <= 2, "the high job came {place}th: {:?}", &order[..5]);
}

#[test]
fn a_flood_of_private_jobs_does_not_hold_up_the_shared_lane() {
    let mut pool = fixed(1);
    let gate = Gate::new();
    pool.submit_to(0, Job::Stop(Arc::clone(&gate), 0)).expect("room");
    pool.commit();
    gate.wait_reached();
    for job in 1..=200 {
        pool.submit_to(0, Job::Echo(job)).expect("room");
    }
    pool.submit(Job::Echo(7000)).expect("credit");
    pool.commit();
    gate.open();
    let order: Vec<u64> = all(&mut pool).iter().map(Answer::number).collect();
    let place = order.iter().position(|&number| number == 7000).expect("answered");
    assert!(place <= 17, "one pass takes at most 16 private jobs, but it came {place}th");
}

#[test]
fn a_job_beyond_its_budget_goes_behind_the_others() {
    let mut pool = fixed(1);
    let gate = Gate::new();
    pool.submit(Job::Stop(Arc::clone(&gate), 0)).expect("credit");
    pool.commit();
    gate.wait_reached();
    pool.submit(Job::Steps(5, 99)).expect("credit");
    for job in 1..=20 {
        pool.submit(Job::Echo(job)).expect("credit");
    }
    pool.commit();
    gate.open();
    let order: Vec<u64> = all(&mut pool).iter().map(Answer::number).collect();
    assert_eq!(order.last(), Some(&99), "{order:?}");
    assert!(pool.stats().workers[0].again >= 5);
}

#[test]
fn an_unfinished_job_nobody_waits_behind_goes_on_at_once() {
    let mut pool = fixed(1);
    pool.submit(Job::Steps(1000, 5)).expect("credit");
    pool.commit();
    let answers = all(&mut pool);
    assert_eq!(numbers(&answers), [5]);
    // It came back to main not even once, which would have been published again.
    assert_eq!(pool.stats().workers[0].again, 1000);
}

#[test]
fn unfinished_high_jobs_are_finished_too() {
    let mut pool = fixed(2);
    for job in 0..20 {
        pool.submit_high(Job::Steps(3, job)).expect("credit");
        pool.submit(Job::Steps(3, 100 + job)).expect("credit");
    }
    let answers = all(&mut pool);
    assert_eq!(answers.len(), 40);
}

#[test]
fn silent_jobs_owe_no_answer_and_give_their_credits_back() {
    let mut pool = with(Options { credits: 4, ..Options::blocking(2) });
    let count = Arc::new(AtomicUsize::new(0));
    let mut submitted = 0;
    until("a hundred silent jobs", || {
        if submitted < 100 && pool.submit(Job::Silent(Arc::clone(&count))).is_ok() {
            submitted += 1;
        }
        pool.commit();
        submitted == 100
    });
    assert!(all(&mut pool).is_empty());
    assert_eq!(count.load(Ordering::SeqCst), 100, "what a finished job did is visible");
    assert_eq!(pool.stats().silent, 100);
}

#[test]
fn bytes_pending_free_fall_when_they_are_free() {
    let mut pool = fixed(1);
    let gate = Gate::new();
    pool.submit(Job::Stop(Arc::clone(&gate), 0)).expect("credit");
    pool.submit_free(Job::Free(1000), 1000).expect("credit");
    pool.submit_free(Job::Free(500), 500).expect("credit");
    pool.commit();
    gate.wait_reached();
    assert_eq!(pool.pending_free_bytes(), 1500);
    gate.open();
    all(&mut pool);
    assert_eq!(pool.pending_free_bytes(), 0);
}

#[test]
fn quiesce_never_refuses_and_empties_everything() {
    let mut pool = with(Options { credits: 4, ..Options::blocking(3) });
    let mut answers = Vec::new();
    for job in 0..1000 {
        while let Err(full) = pool.submit(Job::Echo(job)) {
            assert_eq!(full.reason, Refusal::NoCredit);
            answers.extend(all(&mut pool));
        }
    }
    answers.extend(all(&mut pool));
    assert_eq!(numbers(&answers), (0..1000).collect::<Vec<_>>());
    assert_eq!(pool.in_flight(), 0);
}

#[test]
fn quiesce_gives_up_at_its_deadline_and_can_go_on() {
    let mut pool = fixed(2);
    let gate = Gate::new();
    pool.submit(Job::Stop(Arc::clone(&gate), 1)).expect("credit");
    pool.submit(Job::Echo(2)).expect("credit");
    assert!(pool.wait(Some(DEADLINE)), "the second is done");
    let mut seen = Vec::new();
    let busy = pool.quiesce(Some(Duration::from_millis(100)), |answer| seen.push(answer.number()));
    assert_eq!(busy, Err(StillBusy { in_flight: 1, drained: 1 }));
    gate.open();
    pool.quiesce(Some(DEADLINE), |answer| seen.push(answer.number())).expect("in time");
    assert_eq!(seen, [2, 1]);
}

#[test]
fn a_panic_is_told_to_its_owner_and_the_worker_goes_on() {
    let mut pool = fixed(1);
    for round in 0..20 {
        pool.submit(Job::Panic(round)).expect("credit");
        pool.submit_to(0, Job::SilentPanic).expect("credit");
        pool.submit(Job::Echo(round)).expect("credit");
        let answers = all(&mut pool);
        assert_eq!(answers.len(), 2, "{answers:?}");
        assert!(answers.iter().any(|a| matches!(a, Answer::Panicked(number) if *number == round)));
        assert_eq!(pool.in_flight(), 0, "the counters return to zero");
    }
    let stats = pool.stats();
    assert_eq!((stats.threads, stats.workers[0].panics), (1, 40));
}

#[test]
fn a_stopped_worker_holds_up_nobody_else() {
    let mut pool = fixed(2);
    let gate = Gate::new();
    pool.submit_to(0, Job::Stop(Arc::clone(&gate), 0)).expect("room");
    pool.commit();
    gate.wait_reached();
    for job in 1..=500 {
        pool.submit(Job::Echo(job)).expect("credit");
        pool.commit();
        until("the other worker", || {
            pool.drain(10, |answer| assert_eq!(answer.number(), job)) == 1
        });
    }
    gate.open();
    assert_eq!(numbers(&all(&mut pool)), [0]);
}

#[test]
fn a_sleeping_main_thread_is_woken_once() {
    let wakes = Arc::new(AtomicUsize::new(0));
    let heard = Arc::clone(&wakes);
    let bell = Bell::new(move || {
        heard.fetch_add(1, Ordering::SeqCst);
    });
    let mut pool = Pool::new(Deeds, Arc::clone(&bell), Options::blocking(2)).expect("threads");
    let mut announced = 0;
    for round in 1..=50 {
        for job in 0..20 {
            pool.submit(Job::Echo(job)).expect("credit");
        }
        let gate = Gate::new();
        pool.submit_to(0, Job::Stop(Arc::clone(&gate), 20)).expect("credit");
        // Answers may be there already; then the sleep is refused, but a worker may have seen it
        // announced and rung.
        announced += 1;
        while !pool.before_sleep() {
            pool.drain(100, |_| ());
            announced += 1;
        }
        gate.open();
        until("a wake-up", || wakes.load(Ordering::SeqCst) >= round);
        until("all answers", || {
            // Deliberately still "asleep": further answers must not ring again.
            pool.drain(100, |_| ());
            pool.in_flight() == 0
        });
        assert!(wakes.load(Ordering::SeqCst) <= announced, "once for each time announced");
        pool.after_sleep();
    }
    assert!((50..=announced as u64).contains(&bell.wakes()), "{} of {announced}", bell.wakes());
}

#[test]
fn waiting_parks_until_an_answer_or_the_limit() {
    let mut pool = fixed(1);
    assert!(!pool.wait(Some(Duration::from_millis(5))), "nothing comes");
    pool.submit(Job::Sleep(Duration::from_millis(20), 1)).expect("credit");
    assert!(pool.wait(Some(DEADLINE)));
    assert_eq!(pool.drain(10, |_| ()), 1);
}

/// No clock shows the end of the longest limit there is.
#[test]
fn the_longest_limit_is_none() {
    let mut pool = fixed(1);
    for limit in [None, Some(Duration::MAX)] {
        assert!(!pool.wait(limit), "nothing is in flight, so nothing would end it");
        pool.submit(Job::Echo(1)).expect("credit");
        assert!(pool.wait(limit));
        assert_eq!(pool.quiesce(limit, |answer| assert_eq!(answer.number(), 1)), Ok(1));
    }
}

/// A worker may spin for its next job; the main thread would take the CPU from whoever sends it.
#[test]
#[cfg(target_os = "linux")]
fn waiting_does_not_spin() {
    let cpu_time = || rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let mut pool = with(Options { spin: DEADLINE, ..Options::blocking(1) });
    pool.submit(Job::Sleep(Duration::from_millis(200), 1)).expect("credit");
    let (from, cpu_from) = (Instant::now(), cpu_time());
    assert!(pool.wait(Some(DEADLINE)));
    let cpu = Duration::try_from(cpu_time() - cpu_from).expect("time goes on");
    assert!(cpu * 20 < from.elapsed(), "{cpu:?} of CPU in {:?}", from.elapsed());
    assert_eq!(pool.drain(10, |_| ()), 1);
}

#[test]
fn two_pools_share_one_bell() {
    let bell = Bell::new(|| ());
    let new = || Pool::new(Deeds, Arc::clone(&bell), Options::blocking(1)).expect("threads");
    let (mut one, mut other) = (new(), new());
    // One answer after the other, for seconds: the first may come before this thread sleeps.
    for job in 0..200 {
        other.submit(Job::Sleep(Duration::from_millis(20), job)).expect("credit");
    }
    other.commit();
    let from = Instant::now();
    // An answer of the other pool ends the wait of this one.
    assert!(!one.wait(Some(DEADLINE)));
    assert!(from.elapsed() < DEADLINE);
    assert!(other.drain(200, |_| ()) > 0);
}

#[test]
fn poll_jobs_go_to_private_inboxes_when_many_workers_are_active() {
    for (above, lane) in [(9, 0), (1, 2)] {
        let options = Options { poll_inbox_above: above, ..Options::blocking(2) };
        let mut pool = with(options);
        for _ in 0..4 {
            pool.submit_poll(Job::WhoAmI).expect("credit");
            assert!(pool.wait(Some(DEADLINE)), "visible at once");
            all(&mut pool);
        }
        let mut submitted = [0; 3];
        submitted[lane] = 4;
        assert_eq!(pool.stats().submitted, submitted);
    }
}

#[test]
fn blocked_workers_do_not_keep_jobs_from_sleeping_ones() {
    // With long jobs each one that waits must find a sleeper, not a busy worker.
    let mut pool = with(Options::blocking(4));
    let gates: Vec<_> = (0..4).map(|_| Gate::new()).collect();
    for (number, gate) in (0..).zip(&gates) {
        pool.submit(Job::Stop(Arc::clone(gate), number)).expect("credit");
    }
    pool.commit();
    gates.iter().for_each(|gate| gate.wait_reached());
    gates.iter().for_each(|gate| gate.open());
    assert_eq!(numbers(&all(&mut pool)), [0, 1, 2, 3]);
}

#[test]
fn times_add_up_and_idle_workers_park() {
    let mut pool = fixed(2);
    for job in 0..50 {
        pool.submit(Job::Burn(Duration::from_micros(500), job)).expect("credit");
    }
    all(&mut pool);
    until_parked(&pool);
    let before = pool.stats();
    std::thread::sleep(Duration::from_millis(200));
    let after = pool.stats();
    assert!(before.times.useful >= Duration::from_millis(25));
    assert_eq!(after.times.useful, before.times.useful);
    assert_eq!(after.times.spun, before.times.spun);
    assert!(after.times.parked >= before.times.parked + Duration::from_millis(390));
    for (before, after) in before.workers.iter().zip(&after.workers) {
        assert_eq!(before.parks, after.parks, "zero wake-ups while idle");
    }
}

#[test]
fn workers_are_pinned_to_their_list_or_keep_what_main_had() {
    let allowed = CpuList::allowed();
    let list: CpuList =
        allowed.as_ref().map_or(0, |list| list.cpu_for(0)).to_string().parse().expect("a CPU");
    let pinned = with(Options { worker_cpus: Some(list), ..Options::blocking(1) });
    until("the thread has started", || pinned.stats().workers[0].parks > 0);
    assert_eq!(pinned.stats().pin_failures, 0);
    let nowhere = "1023".parse().expect("a CPU");
    let lost = with(Options { worker_cpus: Some(nowhere), ..Options::blocking(1) });
    until("the failure is counted", || lost.stats().pin_failures == 1);
}

#[test]
fn an_adaptive_pool_ignites_and_a_decision_is_logged() {
    if UsableCpus::read().count() < 2 {
        return;
    }
    // Other tests keep all CPUs busy, which is a reason not to ignite, and leave this thread as
    // little of them as they like.
    let tuning = Tuning { ignite_permille: 1, spare_permille_min: 0, ..Tuning::default() };
    let mut pool = with(Options { tuning, ..Options::adaptive(1) });
    let mut turn = Turn { jobs: 50, ..Turn::default() };
    let deadline = Instant::now() + DEADLINE;
    let change = loop {
        assert!(Instant::now() < deadline, "a busy main thread never ignites: {:?}", pool.reason());
        turn.completed += 50;
        if let Some(change) = pool.tick(&turn) {
            break change;
        }
    };
    assert_eq!((change.from, change.to, change.reason), (0, 1, Reason::Ignition));
    assert_eq!(pool.decisions().next_back(), Some(&change));
    assert!(pool.is_accepting());
    assert!(pool.timeout().is_some(), "there is something to decide");
    pool.submit(Job::Echo(1)).expect("active");
    assert_eq!(numbers(&all(&mut pool)), [1]);
    // Without load it goes to zero, at the times the pool asks for.
    let deadline = Instant::now() + DEADLINE;
    while let Some(time) = pool.timeout() {
        assert!(Instant::now() < deadline, "{:?}", pool.reason());
        std::thread::sleep(time);
        pool.tick(&Turn { jobs: 0, ..turn });
    }
    assert_eq!(pool.active(), 0);
    assert_eq!(pool.submit(Job::Echo(2)).expect_err("inactive").reason, Refusal::Inactive);
}
