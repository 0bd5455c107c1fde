//! What needs a look inside of the pool: threads that the system refuses.

use std::time::Instant;

use super::*;
use crate::clock::{Clock, Manual};
use crate::cpu::{CpuList, UsableCpus};
use crate::governor::Turn;
use crate::handler::{Context, Outcome, Panic};
use crate::policy::Tuning;

const MS: Duration = Duration::from_millis(1);

struct Echo;

impl Handler for Echo {
    type Job = u64;
    type Answer = u64;
    type Layout = flintlock_queues::Compact;
    type Owner = ();
    type Local = ();

    fn local(&self, _worker: usize) {}

    fn owner(&self, _job: &u64) {}

    fn run(&self, job: u64, _context: &mut Context<'_, ()>) -> Outcome<u64, u64> {
        Outcome::Done(job)
    }

    fn panicked(&self, (): (), panic: &Panic) -> Option<u64> {
        panic!("{panic:?}")
    }
}

/// Each refusal costs main what a thread costs, so it asks as rarely as for one that did not pay;
/// and once the system has threads again, the pool has its worker.
#[test]
fn a_thread_that_is_refused_is_asked_for_again_after_a_back_off() {
    if UsableCpus::read().count() < 2 {
        return;
    }
    let clock = PlainArc::new(Manual::new());
    // Any load ignites, whatever other tests leave of the CPUs.
    let tuning = Tuning { ignite_permille: 0, spare_permille_min: 0, ..Tuning::default() };
    let options = Options {
        tuning,
        clock: PlainArc::clone(&clock) as PlainArc<dyn Clock>,
        // One CPU, so one worker.
        worker_cpus: CpuList::allowed()
            .map(|list| list.cpu_for(0).to_string().parse().expect("a CPU")),
        ..Options::adaptive(3)
    };
    let mut pool = Pool::new(Echo, Bell::new(|| ()), options).expect("nothing is started");
    pool.crew.refuses = true;
    let mut turn = Turn { jobs: 50, ..Turn::default() };
    let mut tick = |pool: &mut Pool<Echo>| {
        let begun = Instant::now();
        while begun.elapsed() < MS / 10 {}
        clock.advance(5 * MS);
        turn.completed += 50;
        pool.tick(&turn)
    };
    let mut failed_at = Vec::new();
    while pool.now() < Duration::from_secs(20) {
        assert_eq!(tick(&mut pool), None);
        if pool.stats().spawn_failures > failed_at.len() as u64 {
            failed_at.push(pool.now().as_secs());
        }
    }
    assert!(failed_at == [0, 3, 15], "{} tries", failed_at.len());
    assert_eq!((pool.active(), pool.threads()), (0, 0));
    pool.crew.refuses = false;
    while pool.active() == 0 {
        assert!(pool.now() < Duration::from_secs(70), "{:?}", pool.reason());
        let change = tick(&mut pool);
        assert!(change.is_none_or(|change| change.sample.workers_max == 1), "{change:?}");
    }
    assert_eq!(pool.threads(), 1);
}
