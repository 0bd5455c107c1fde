//! Random operations against a model: jobs are conserved whatever happens, and a connection has at
//! most one job in flight.
#![cfg(not(loom))]

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use flintlock_iothreads::{Arrival, Berth, Direction, Options, Refusal, Turn};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use support::{Job, all, with};

/// The same cases every time; a failure prints its operations, to be made a test of its own.
fn config(cases: u32) -> ProptestConfig {
    let rng_seed = RngSeed::Fixed(0x466C_696E_746C_6F63);
    ProptestConfig { cases, rng_seed, failure_persistence: None, ..ProptestConfig::default() }
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Shared(u32),
    High(u32),
    Private(usize),
    Commit,
    Drain(usize),
    Sleep,
    Resize(usize),
    Tick,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..3_u32).prop_map(Op::Shared),
        2 => (0..3_u32).prop_map(Op::High),
        3 => (0..4_usize).prop_map(Op::Private),
        3 => Just(Op::Commit),
        4 => (0..6_usize).prop_map(Op::Drain),
        1 => Just(Op::Sleep),
        1 => (0..4_usize).prop_map(Op::Resize),
        4 => Just(Op::Tick),
    ]
}

proptest! {
    #![proptest_config(config(48))]

    /// With four credits: whatever is taken is answered once, whatever is refused comes back, and
    /// no worker ever finds the outbox full (it would panic). Main takes each job that two ticks
    /// find waiting for a stall, and does it.
    #[test]
    fn jobs_are_conserved(ops in prop::collection::vec(op(), 1..300)) {
        let stall_after = Some(Duration::from_nanos(1));
        let options = Options { credits: 4, inbox: 2, stall_after, ..Options::blocking(2) };
        let mut pool = with(options);
        let mut next = 0;
        let mut taken = BTreeSet::new();
        let mut answered = BTreeSet::new();
        for op in ops {
            let before = pool.stats();
            let result = match op {
                Op::Shared(steps) => Some(pool.submit(Job::Steps(steps, next))),
                Op::High(steps) => Some(pool.submit_high(Job::Steps(steps, next))),
                Op::Private(worker) => Some(pool.submit_to(worker, Job::Echo(next))),
                _ => None,
            };
            match &result {
                Some(Ok(())) => {
                    taken.insert(next);
                }
                Some(Err(full)) => {
                    let (Job::Steps(_, number) | Job::Echo(number)) = &full.job else {
                        panic!("another job came back: {:?}", full.job)
                    };
                    prop_assert_eq!(*number, next);
                    prop_assert_eq!(before.submitted, pool.stats().submitted);
                    if pool.threads() == 0 {
                        prop_assert_eq!(full.reason, Refusal::Inactive);
                    }
                }
                None => {}
            }
            next += u64::from(result.is_some());
            match op {
                Op::Commit => pool.commit(),
                Op::Tick => {
                    pool.tick(&Turn::default());
                }
                Op::Sleep => {
                    let _ = pool.before_sleep();
                    pool.after_sleep();
                }
                Op::Resize(count) => pool.resize(count).expect("threads can be started"),
                Op::Drain(max) => {
                    pool.drain(max, |answer| assert!(answered.insert(answer.number())));
                }
                _ => {}
            }
            prop_assert!(pool.in_flight() <= 4);
        }
        for answer in all(&mut pool) {
            prop_assert!(answered.insert(answer.number()), "answered twice");
        }
        prop_assert_eq!(taken, answered);
        prop_assert_eq!(pool.in_flight(), 0);
    }
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Readable,
    Reply,
    Submit { refused: bool },
    Finish,
    Close,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        5 => Just(Event::Readable),
        5 => Just(Event::Reply),
        6 => any::<bool>().prop_map(|refused| Event::Submit { refused }),
        6 => Just(Event::Finish),
        1 => Just(Event::Close),
    ]
}

proptest! {
    #![proptest_config(config(500))]

    /// One job per connection, both directions; latched wishes are served, in turns; a closed
    /// value comes out exactly once.
    #[test]
    fn a_connection_has_one_job_in_flight(events in prop::collection::vec(event(), 1..400)) {
        let mut berth = Berth::new(());
        let mut travelling: Option<Direction> = None;
        let (mut wants_read, mut wants_write) = (false, false);
        let mut out = 0;
        let mut passed_over = [0; 2];
        for event in events {
            match event {
                Event::Readable => {
                    berth.want(Direction::Read);
                    wants_read |= !berth.is_closing();
                }
                Event::Reply => {
                    berth.want(Direction::Write);
                    wants_write |= !berth.is_closing();
                }
                Event::Submit { refused } => {
                    let before = berth.clone();
                    match berth.depart() {
                        Some((direction, half)) if refused => {
                            berth.cancel(direction, half);
                            for direction in [Direction::Read, Direction::Write] {
                                let wanted = before.wants(direction);
                                prop_assert_eq!(berth.wants(direction), wanted);
                            }
                            prop_assert_eq!(berth.half(), before.half());
                        }
                        Some((direction, ())) => {
                            prop_assert_eq!(travelling, None, "two jobs in flight");
                            travelling = Some(direction);
                            let wanted = match direction {
                                Direction::Read => &mut wants_read,
                                Direction::Write => &mut wants_write,
                            };
                            prop_assert!(std::mem::take(wanted), "nobody wanted that");
                            let (served, other) = match direction {
                                Direction::Read => (0, 1),
                                Direction::Write => (1, 0),
                            };
                            passed_over[served] = 0;
                            if wants_read || wants_write {
                                passed_over[other] += 1;
                            }
                            prop_assert!(passed_over[other] <= 1, "one direction starves");
                        }
                        None => {
                            let nothing = !wants_read && !wants_write;
                            prop_assert!(nothing || travelling.is_some() || berth.is_closing());
                        }
                    }
                }
                Event::Finish => {
                    if travelling.take().is_some() {
                        out += usize::from(berth.arrive(()) == Arrival::Closed(()));
                    }
                }
                Event::Close => {
                    out += usize::from(berth.close().is_some());
                    (wants_read, wants_write) = (false, false);
                }
            }
            prop_assert_eq!(berth.half().is_some(), travelling.is_none() && out == 0);
            prop_assert_eq!(berth.wants(Direction::Read), wants_read);
        }
        if travelling.is_some() && matches!(berth.arrive(()), Arrival::Closed(())) {
            out += 1;
        }
        prop_assert_eq!(out, usize::from(berth.is_closing()));
    }
}
