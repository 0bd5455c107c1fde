//! What a worker that finds nothing does, and what handing jobs over takes, counted by callgrind.
//!
//! Usage: `pool_instructions LOAD STEPS` runs a load; `--check` counts and compares with
//! pool_instructions.txt, `--bless` writes that file.
//!
//! A worker without work looks again and again, sixteen times between two readings of the clock,
//! until it has spun for as long as it may. The clock here moves on by a microsecond each time it
//! is read, so the number of looks is exact. One step is sixteen looks and a reading. It must not
//! be atomic anywhere: that would be a lock, or a line that others use; and the few writes are
//! those of calls, to the stack.
//!
//! An event loop asks its pools in every turn, whether they have anything or not: that is the
//! second load, a turn of the loop with eight workers that have nothing to do. In the third one of
//! them has a job that does not end.
//!
//! The fourth is sixteen jobs there and back: main submits them, sleeps until they are done and
//! takes the answers. Both threads count, the calls into the system do not. How fast that is
//! depends on where the host puts the two cores, so the clock could hide a hand-over that takes
//! twice the steps or moves lines by twice the atomics.
//!
//! Source: Valkey pull request 4110, where lock, clock and cancellation point of empty passes took
//! 15 % of the workers' time.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::Thread;
use std::time::Duration;
use std::{env, fs, thread};

use flintlock_benches::instructions::{
    Event, bounds_path, bounds_text, check, count, has_valgrind,
};
use flintlock_benches::queues::machine::compiler;
use flintlock_iothreads::{Bell, Clock, Context, Handler, Options, Outcome, Panic, Pool};
use flintlock_queues::Words;

/// Whose bounds are kept.
const PROGRAM: &str = "pool_instructions";
const EMPTY: &str = "16 empty passes";
const QUIET_TURN: &str = "a turn without jobs";
const BUSY_TURN: &str = "a turn with a job in flight";
const HAND_OVER: &str = "16 jobs there and back";
/// Two threads take turns in that load as the scheduler likes: sixteen jobs took 24 atomics on a
/// loaded machine and 46 on an idle one, where main rises for the first answers. Its bounds are set
/// by the most of so many counts,
const TURNS: usize = 5;
/// and so far above them.
const TURNS_MARGIN: f64 = 1.25;
/// Jobs of a batch.
const BATCH: usize = 16;

/// Shows a microsecond more at each reading. Not atomic: the threads of a load take turns.
#[derive(Debug)]
struct Steps {
    shown: AtomicU64,
    /// The reading at which main is woken.
    last: u64,
    main: Thread,
}

impl Steps {
    fn new() -> Arc<Self> {
        Self::up_to(u64::MAX)
    }

    /// To be made by the thread that waits for the reading `last`.
    fn up_to(last: u64) -> Arc<Self> {
        Arc::new(Self { shown: AtomicU64::new(0), last, main: thread::current() })
    }

    /// The last reading. Its caller calls nothing else, so that other readings need no stack.
    #[cold]
    #[inline(never)]
    fn wake(&self, now: u64) -> Duration {
        self.main.unpark();
        Duration::from_micros(now)
    }

    /// Sleeps until the last reading. To look now and then would count, the more often the longer
    /// the machine takes.
    fn wait(&self) {
        while self.shown.load(Ordering::Relaxed) <= self.last {
            thread::park();
        }
    }
}

impl Clock for Steps {
    fn now(&self) -> Duration {
        let now = self.shown.load(Ordering::Relaxed);
        self.shown.store(now + 1, Ordering::Relaxed);
        if now == self.last {
            return self.wake(now);
        }
        Duration::from_micros(now)
    }
}

/// A job that does not end until it is let go.
const LONG: u64 = u64::MAX;
/// Whether a worker has taken it up.
static TAKEN: AtomicBool = AtomicBool::new(false);
/// What such a job waits for.
static LET_GO: Mutex<()> = Mutex::new(());

/// Gives jobs back as they are.
struct Idle;

impl Handler for Idle {
    type Job = Box<u64>;
    type Answer = Box<u64>;
    type Layout = Words;
    type Owner = ();
    type Local = ();

    fn local(&self, _worker: usize) {}

    fn owner(&self, _job: &Box<u64>) {}

    fn run(&self, job: Box<u64>, _: &mut Context<'_, ()>) -> Outcome<Box<u64>, Box<u64>> {
        if *job == LONG {
            TAKEN.store(true, Ordering::Relaxed);
            drop(LET_GO.lock());
        }
        Outcome::Done(job)
    }

    fn panicked(&self, (): (), _panic: &Panic) -> Option<Box<u64>> {
        None
    }
}

/// Has a worker spin for so many readings of its clock. Main does nothing meanwhile, and sends the
/// worker home within the few steps in which it would park.
fn spin(steps: u64) {
    let clock = Steps::up_to(steps);
    let options = Options {
        clock: Arc::<Steps>::clone(&clock),
        spin: Duration::from_micros(steps),
        ..Options::blocking(1)
    };
    let _pool = Pool::new(Idle, Bell::new(|| ()), options).expect("threads can be started");
    clock.wait();
}

/// Gives a worker a job that does not end, and waits until it has begun: or the looks of the worker
/// that rises for it count in one run and not in the next.
#[inline(never)]
fn keep_busy(pool: &mut Pool<Idle>) {
    pool.submit(Box::new(LONG)).expect("credits for one");
    pool.commit();
    while !TAKEN.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(100));
    }
}

/// Asks a pool so many times whether it has anything, as a loop does that serves something else.
fn turn(steps: u64, in_flight: bool) {
    const WORKERS: usize = 8;
    let options = Options { clock: Steps::new(), ..Options::blocking(WORKERS) };
    let mut pool = Pool::new(Idle, Bell::new(|| ()), options).expect("threads can be started");
    while pool.stats().workers.iter().any(|worker| worker.parks == 0) {
        thread::sleep(Duration::from_millis(100));
    }
    let held = LET_GO.lock().expect("nobody panics with it");
    if in_flight {
        keep_busy(&mut pool);
    }
    for _ in 0..steps {
        assert_eq!(pool.drain(BATCH, drop), 0, "nothing is done");
        assert!(pool.before_sleep(), "nothing forbids it");
        pool.after_sleep();
    }
    drop(held);
}

/// Hands so many batches over, and sleeps until each is back.
fn hand_over(steps: u64) {
    let options = Options { clock: Steps::new(), claim_max: 8, ..Options::blocking(1) };
    let mut pool = Pool::new(Idle, Bell::new(|| ()), options).expect("threads can be started");
    let mut jobs: Vec<_> = (0..BATCH as u64).map(Box::new).collect();
    for _ in 0..steps {
        for job in jobs.drain(..) {
            pool.submit(job).expect("credits for all");
        }
        while jobs.len() < BATCH {
            pool.wait(None);
            pool.drain(BATCH, |job| jobs.push(job));
        }
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let [load @ (EMPTY | QUIET_TURN | BUSY_TURN | HAND_OVER), steps] = arguments.as_slice() {
        let steps = steps.parse().expect("a number of steps");
        match *load {
            EMPTY => spin(steps),
            QUIET_TURN => turn(steps, false),
            BUSY_TURN => turn(steps, true),
            _ => hand_over(steps),
        }
        return ExitCode::SUCCESS;
    }
    if !has_valgrind() {
        println!("skipped: instructions are counted by valgrind, which is not here");
        return ExitCode::SUCCESS;
    }
    let events = [Event::Instructions, Event::Writes, Event::Atomics];
    let loads = [EMPTY, QUIET_TURN, BUSY_TURN, HAND_OVER].map(str::to_owned).to_vec();
    let mut counts = count(loads, &events).expect("callgrind counts");
    match arguments.as_slice() {
        ["--check"] => return ExitCode::from(u8::from(!check(PROGRAM, &counts))),
        ["--bless"] => {
            for _ in 0..TURNS {
                let again = count(vec![HAND_OVER.to_owned()], &events).expect("callgrind counts");
                for (name, value) in again {
                    let most = counts.entry(name).or_default();
                    *most = most.max(value);
                }
            }
            let taking_turns = counts.iter_mut().filter(|count| count.0.starts_with(HAND_OVER));
            taking_turns.for_each(|count| *count.1 *= TURNS_MARGIN);
            let text = bounds_text(
                "16 looks and a reading of the clock, a turn, or 16 jobs",
                &compiler(),
                &counts,
            );
            fs::write(bounds_path(PROGRAM), text).expect("the bounds can be written");
        }
        _ => panic!("usage: pool_instructions LOAD STEPS | --check | --bless"),
    }
    ExitCode::SUCCESS
}
