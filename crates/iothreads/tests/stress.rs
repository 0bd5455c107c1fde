//! Storms: long runs with real threads. `make stress`, or
//! `cargo test -p flintlock-iothreads --test stress -- --ignored --test-threads=1`.
#![cfg(not(loom))]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use flintlock_iothreads::{
    Arrival, Bell, Berth, Context, Direction, Handler, Options, Outcome, Panic, Pool,
};
use flintlock_queues::Words;
use support::{Answer, Counted, DEADLINE, Gate, Job, all, fixed, numbers, until, with};

/// Numbers in boxes, one word each; every hundredth job panics, every tenth takes a few steps.
struct Storm;

#[repr(align(16))]
struct Load {
    number: u64,
    steps: u32,
}

impl Handler for Storm {
    type Job = Box<Load>;
    type Answer = Box<Load>;
    type Layout = Words;
    type Owner = u64;
    type Local = u64;

    fn local(&self, _worker: usize) -> u64 {
        0
    }

    fn owner(&self, job: &Box<Load>) -> u64 {
        job.number
    }

    fn run(
        &self,
        mut job: Box<Load>,
        context: &mut Context<'_, u64>,
    ) -> Outcome<Box<Load>, Box<Load>> {
        *context.local() += 1;
        if job.number % 100 == 99 && job.steps == 0 {
            std::panic::resume_unwind(Box::new("storm"));
        }
        if job.steps > 0 {
            job.steps -= 1;
            return Outcome::Again(job);
        }
        Outcome::Done(job)
    }

    fn panicked(&self, number: u64, _panic: &Panic) -> Option<Box<Load>> {
        Some(Box::new(Load { number, steps: 0 }))
    }
}

#[test]
#[ignore = "long"]
fn stress_panics_steps_and_resizes_lose_nothing() {
    const JOBS: u64 = 2_000_000;
    /// Answers between two resizes.
    const STRETCH: u64 = 20_000;
    let mut sizes = [8, 3, 0, 5, 1].into_iter().cycle();
    let options = Options {
        credits: 256,
        inbox: 64,
        claim_max: 8,
        spin: Duration::from_micros(20),
        ..Options::blocking(4)
    };
    let mut pool = Pool::new(Storm, Bell::new(|| ()), options).expect("threads");
    let (mut next, mut answered, mut sum, mut turn) = (0_u64, 0_u64, 0_u64, 0_usize);
    let mut inline = 0;
    let mut resize_at = STRETCH;
    while answered < JOBS {
        turn += 1;
        let before = (next, answered);
        let end = JOBS.min(next + 64);
        while next < end {
            let job = Box::new(Load { number: next, steps: u32::from(next % 10 == 0) * 3 });
            let taken = match next % 16 {
                0 => pool.submit_high(job),
                1 => pool.submit_to(turn % 7, job),
                _ => pool.submit(job),
            };
            match taken {
                Ok(()) => next += 1,
                Err(full) if pool.in_flight() == 0 => {
                    // Nobody is there: inline, as a server would.
                    answered += 1;
                    inline += 1;
                    sum += full.job.number;
                    next += 1;
                }
                Err(_) => break,
            }
        }
        pool.commit();
        answered += pool.drain(64, |answer| sum += answer.number) as u64;
        if answered >= resize_at {
            // By what is done and not by turns, of which there are more the slower workers are.
            resize_at = answered + STRETCH;
            pool.resize(sizes.next().expect("it has no end")).expect("threads");
        }
        if (next, answered) == before {
            std::thread::yield_now();
        }
    }
    assert_eq!((answered, sum), (JOBS, JOBS * (JOBS - 1) / 2));
    assert_eq!(pool.in_flight(), 0);
    assert!(inline < JOBS / 2, "{inline} jobs were done inline");
}

/// A job of the last worker, of those that leave too, ends only when the resize is over.
#[test]
#[ignore = "long"]
fn stress_a_thousand_resizes_under_load_wait_for_no_job() {
    let mut pool = fixed(1);
    let (mut next, mut answers, mut last) = (0, Vec::new(), 0);
    for size in [8, 1, 3].into_iter().cycle().take(1000) {
        for _ in 0..100 {
            pool.submit(Job::Echo(next)).expect("credit");
            next += 1;
        }
        let gate = Gate::new();
        pool.submit_to(last, Job::Stop(Arc::clone(&gate), next)).expect("room");
        next += 1;
        pool.commit();
        gate.wait_reached();
        pool.resize(size).expect("threads");
        gate.open();
        answers.extend(all(&mut pool));
        last = size - 1;
    }
    assert_eq!(numbers(&answers), (0..next).collect::<Vec<_>>());
}

#[test]
#[ignore = "long"]
fn stress_stopped_workers_never_stop_the_others() {
    let mut pool = with(Options { claim_max: 8, ..Options::blocking(4) });
    let mut next = 0;
    for round in 0..200 {
        let gate = Gate::new();
        let stopped = round % 4;
        pool.submit_to(stopped, Job::Stop(Arc::clone(&gate), u64::MAX)).expect("room");
        pool.commit();
        gate.wait_reached();
        let mut seen = 0;
        for _ in 0..500 {
            pool.submit(Job::Steps(u32::from(next % 9 == 0), next)).expect("credit");
            next += 1;
        }
        pool.commit();
        until("the other three", || {
            seen += pool.drain(100, |answer| assert_ne!(answer.number(), u64::MAX));
            pool.commit();
            seen == 500
        });
        gate.open();
        assert_eq!(numbers(&all(&mut pool)), [u64::MAX]);
    }
}

#[test]
#[ignore = "long"]
fn stress_close_storm() {
    let alive = Arc::new(AtomicUsize::new(0));
    let mut pool = with(Options { claim_max: 8, ..Options::blocking(3) });
    let mut berths: Vec<Option<Berth<Counted>>> = Vec::new();
    berths.resize_with(400, || None);
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut dice = move |sides: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).expect("31 bits") % sides
    };
    for _ in 0..300_000 {
        let place = dice(400);
        let berth = berths[place].get_or_insert_with(|| Berth::new(Counted::new(&alive)));
        match dice(10) {
            0 => drop(berth.close()),
            1..5 => berth.want(Direction::Read),
            _ => berth.want(Direction::Write),
        }
        if let Some((direction, half)) = berth.depart()
            && let Err(full) = pool.submit(Job::Hold(half, place as u64))
        {
            let Job::Hold(half, _) = full.job else { panic!("another job") };
            berth.cancel(direction, half);
        }
        if dice(16) == 0 {
            pool.commit();
        }
        pool.drain(4, |answer| {
            let Answer::Held(half, place) = answer else { panic!("{answer:?}") };
            let place = usize::try_from(place).expect("small");
            let berth = berths[place].as_mut().expect("kept until it is back");
            drop(berth.arrive(half));
        });
        // A closed connection whose half is back makes room for a new one.
        if berths[place].as_ref().is_some_and(|b| b.is_closing()) && pool.in_flight() == 0 {
            berths[place] = None;
        }
    }
    pool.quiesce(Some(DEADLINE), |answer| {
        let Answer::Held(half, place) = answer else { panic!("{answer:?}") };
        let berth = berths[usize::try_from(place).expect("small")].as_mut().expect("kept");
        if let Arrival::Closed(half) = berth.arrive(half) {
            drop(half);
        }
    })
    .expect("in time");
    let open = berths.iter().flatten().filter(|berth| !berth.is_closing()).count();
    assert_eq!(alive.load(Ordering::SeqCst), open);
    drop(berths);
    drop(pool);
    assert_eq!(alive.load(Ordering::SeqCst), 0);
}
