//! A job that is refused leaves the pool as it was, but for the count of its reason.

use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::super::*;
use crate::handler::{Context, Outcome, Panic};

/// Holds every job until it is let go, so that nothing moves while the pool is looked at.
struct Still(PlainArc<AtomicBool>);

impl Handler for Still {
    type Job = u64;
    type Answer = u64;
    type Layout = flintlock_queues::Compact;
    type Owner = ();
    type Local = ();

    fn local(&self, _worker: usize) {}

    fn owner(&self, _job: &u64) {}

    fn run(&self, job: u64, _context: &mut Context<'_, ()>) -> Outcome<u64, u64> {
        while !self.0.load(Ordering::Relaxed) {
            std::thread::yield_now();
        }
        Outcome::Done(job)
    }

    fn panicked(&self, (): (), panic: &Panic) -> Option<u64> {
        panic!("{panic:?}")
    }
}

/// Lets the jobs go, also when a check fails: the pool is dropped after it, and joins its threads.
struct LetGo(PlainArc<AtomicBool>);

impl Drop for LetGo {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Everything that main knows of its pool, and sees of the queues.
#[derive(Clone, Debug, PartialEq)]
struct Visible {
    tally: Tally,
    stall: Stall,
    active: usize,
    refusing: Option<Refusal>,
    spare: u64,
    deferred: usize,
    inboxes_deferred: bool,
    waiting: bool,
    silent_seen: u64,
    unfinished: usize,
    lanes: [usize; 2],
    inboxes: Vec<(usize, bool)>,
    owed: u64,
    timers: (Option<Duration>, Duration),
}

fn visible(pool: &Pool<Still>) -> Visible {
    Visible {
        tally: pool.tally.clone(),
        stall: pool.stall.clone(),
        active: pool.active,
        refusing: pool.refusing,
        spare: pool.spare,
        deferred: pool.deferred,
        inboxes_deferred: pool.inboxes_deferred,
        waiting: pool.waiting,
        silent_seen: pool.silent_seen,
        unfinished: pool.unfinished.len(),
        lanes: [pool.lane.len(), pool.high.len()],
        inboxes: pool.crew.hands.iter().map(|hand| (hand.inbox.len(), hand.uncommitted)).collect(),
        owed: pool.owed(),
        timers: (pool.governor.wake_by(), pool.now),
    }
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Shared,
    High,
    Private(usize),
    Poll,
    Free,
    Commit,
    /// What a turn may find.
    Refusing(Option<Refusal>),
}

const TURNS: [Option<Refusal>; 4] = [None, None, Some(Refusal::FewJobs), Some(Refusal::Stalled)];

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => Just(Op::Shared),
        2 => Just(Op::High),
        6 => (0..4_usize).prop_map(Op::Private),
        1 => Just(Op::Poll),
        1 => Just(Op::Free),
        1 => Just(Op::Commit),
        2 => prop::sample::select(&TURNS[..]).prop_map(Op::Refusing),
    ]
}

/// A pool of two workers that both hold a job of their inboxes.
fn still() -> (Pool<Still>, LetGo) {
    let let_go = PlainArc::new(AtomicBool::new(false));
    let options = Options { credits: 8, inbox: 2, ..Options::blocking(2) };
    let handler = Still(PlainArc::clone(&let_go));
    let mut pool = Pool::new(handler, Bell::new(|| ()), options).expect("threads");
    for worker in 0..2 {
        pool.submit_to(worker, 0).expect("credit");
    }
    pool.commit();
    super::until("both hold one", || pool.crew.hands.iter().all(|hand| hand.inbox.is_empty()));
    (pool, LetGo(let_go))
}

const CASES: u32 = 64;

proptest! {
    #![proptest_config(ProptestConfig {
        cases: CASES,
        rng_seed: RngSeed::Fixed(0x5265_6675_7365),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_refused_job_leaves_no_trace(ops in prop::collection::vec(op(), 1..60)) {
        let (mut pool, let_go) = still();
        let mut refusals = 0;
        for (job, op) in (1..).zip(ops) {
            let before = visible(&pool);
            let result = match op {
                Op::Shared => pool.submit(job),
                Op::High => pool.submit_high(job),
                Op::Private(worker) => pool.submit_to(worker, job),
                Op::Poll => pool.submit_poll(job),
                Op::Free => pool.submit_free(job, 100),
                Op::Commit => {
                    pool.commit();
                    Ok(())
                }
                Op::Refusing(reason) => {
                    pool.refusing = reason;
                    Ok(())
                }
            };
            if let Err(Full { job: back, reason }) = result {
                prop_assert_eq!(back, job);
                let mut want = before;
                want.tally.refused.note(reason, 1);
                prop_assert_eq!(visible(&pool), want);
                refusals += 1;
            }
        }
        let taken: u64 = pool.tally.submitted.iter().sum();
        let refused = &pool.tally.refused;
        let told = refused.inactive + refused.few_jobs + refused.full + refused.no_credit;
        prop_assert_eq!(told + refused.stalled, refusals);
        drop(let_go);
        let mut answers = 0;
        pool.quiesce(None, |_| answers += 1).expect("no limit");
        prop_assert_eq!(answers, taken);
    }
}
