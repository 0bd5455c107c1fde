//! What a worker that finds nothing does, counted by callgrind.
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
//! Source: Valkey pull request 4110, where lock, clock and cancellation point of empty passes took
//! 15 % of the workers' time.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
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
/// The one load.
const EMPTY: &str = "16 empty passes";

/// Shows a microsecond more at each reading. Not atomic: one thread reads while steps count.
#[derive(Debug, Default)]
struct Steps(AtomicU64);

impl Clock for Steps {
    fn now(&self) -> Duration {
        let now = self.0.load(Ordering::Relaxed);
        self.0.store(now + 1, Ordering::Relaxed);
        Duration::from_micros(now)
    }
}

/// Does nothing, and is never asked to.
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
        Outcome::Done(job)
    }

    fn panicked(&self, (): (), _panic: &Panic) -> Option<Box<u64>> {
        None
    }
}

/// Has a worker spin for so many readings of its clock, until it parks.
fn spin(steps: u64) {
    let options = Options {
        clock: Arc::new(Steps::default()),
        spin: Duration::from_micros(steps),
        ..Options::blocking(1)
    };
    let pool = Pool::new(Idle, Bell::new(|| ()), options).expect("threads can be started");
    while pool.stats().workers[0].parks == 0 {
        thread::sleep(Duration::from_millis(5));
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let [EMPTY, steps] = arguments.as_slice() {
        spin(steps.parse().expect("a number of steps"));
        return ExitCode::SUCCESS;
    }
    if !has_valgrind() {
        println!("skipped: instructions are counted by valgrind, which is not here");
        return ExitCode::SUCCESS;
    }
    let events = [Event::Instructions, Event::Writes, Event::Atomics];
    let counts = count(vec![EMPTY.to_owned()], &events).expect("callgrind counts");
    match arguments.as_slice() {
        ["--check"] => return ExitCode::from(u8::from(!check(PROGRAM, &counts))),
        ["--bless"] => {
            let text = bounds_text("16 looks and a reading of the clock", &compiler(), &counts);
            fs::write(bounds_path(PROGRAM), text).expect("the bounds can be written");
        }
        _ => panic!("usage: pool_instructions LOAD STEPS | --check | --bless"),
    }
    ExitCode::SUCCESS
}
