//! A handler whose jobs do what a test asks for, and waits with a deadline.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use flintlock_iothreads::{Bell, Context, Handler, Options, Outcome, Panic, Pool};
use flintlock_queues::Compact;

/// Nothing here takes longer unless it hangs.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// What a worker is to do.
#[derive(Debug)]
pub(crate) enum Job {
    /// Answer with the number.
    Echo(u64),
    /// Answer with the number of the worker.
    WhoAmI,
    /// Sleep, then answer.
    Sleep(Duration, u64),
    /// Compute for so long, then answer.
    Burn(Duration, u64),
    /// Return unfinished so often, then answer.
    Steps(u32, u64),
    /// Stop until the gate is opened, then answer.
    Stop(Arc<Gate>, u64),
    /// Count and owe no answer.
    Silent(Arc<AtomicUsize>),
    /// Free so many bytes and owe no answer.
    Free(u64),
    /// Panic; the owner is told the number.
    Panic(u64),
    /// Panic and owe no answer.
    SilentPanic,
    /// Hold something that counts its drops, and answer.
    Hold(Counted, u64),
    /// Move the payload there and back.
    Carry(Box<u64>),
}

/// What comes back.
#[derive(Debug)]
pub(crate) enum Answer {
    Number(u64),
    Worker(usize),
    Panicked(u64),
    Held(Counted, u64),
    Carried(Box<u64>),
}

impl Answer {
    /// The number in an answer that has one.
    pub(crate) fn number(&self) -> u64 {
        match self {
            Self::Number(number) | Self::Held(_, number) => *number,
            Self::Carried(number) => **number,
            other => panic!("no number in {other:?}"),
        }
    }
}

/// Runs [`Job`]s.
#[derive(Debug)]
pub(crate) struct Deeds;

impl Handler for Deeds {
    type Job = Job;
    type Answer = Answer;
    type Layout = Compact;
    type Owner = Option<u64>;
    type Local = u64;

    fn local(&self, _worker: usize) -> u64 {
        0
    }

    fn owner(&self, job: &Job) -> Option<u64> {
        match job {
            Job::Panic(number) => Some(*number),
            _ => None,
        }
    }

    fn run(&self, job: Job, context: &mut Context<'_, u64>) -> Outcome<Job, Answer> {
        *context.local() += 1;
        match job {
            Job::Echo(number) => Outcome::Done(Answer::Number(number)),
            Job::WhoAmI => Outcome::Done(Answer::Worker(context.worker())),
            Job::Sleep(time, number) => {
                std::thread::sleep(time);
                Outcome::Done(Answer::Number(number))
            }
            Job::Burn(time, number) => {
                let until = Instant::now() + time;
                while Instant::now() < until {
                    std::hint::spin_loop();
                }
                Outcome::Done(Answer::Number(number))
            }
            Job::Steps(0, number) => Outcome::Done(Answer::Number(number)),
            Job::Steps(left, number) => Outcome::Again(Job::Steps(left - 1, number)),
            Job::Stop(gate, number) => {
                gate.stand();
                Outcome::Done(Answer::Number(number))
            }
            Job::Silent(count) => {
                count.fetch_add(1, Ordering::SeqCst);
                Outcome::Nothing
            }
            Job::Free(bytes) => {
                context.freed(bytes);
                Outcome::Nothing
            }
            Job::Panic(number) => panic!("job {number} panics on purpose"),
            Job::SilentPanic => panic!("a silent job panics on purpose"),
            Job::Hold(held, number) => Outcome::Done(Answer::Held(held, number)),
            Job::Carry(payload) => Outcome::Done(Answer::Carried(payload)),
        }
    }

    fn panicked(&self, owner: Option<u64>, panic: &Panic) -> Option<Answer> {
        assert!(panic.message().is_some_and(|text| text.ends_with("on purpose")));
        owner.map(Answer::Panicked)
    }
}

/// Where a worker stops until a test lets it go.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    state: Mutex<(bool, bool)>,
    changed: Condvar,
}

impl Gate {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(crate) fn stand(&self) {
        let mut state = self.state.lock().expect("no holder panics");
        state.0 = true;
        self.changed.notify_all();
        let (_state, wait) = self
            .changed
            .wait_timeout_while(state, DEADLINE, |state| !state.1)
            .expect("no holder panics");
        assert!(!wait.timed_out(), "the gate was never opened");
    }

    /// Waits until somebody stands at the gate.
    pub(crate) fn wait_reached(&self) {
        let state = self.state.lock().expect("no holder panics");
        let (_state, wait) = self
            .changed
            .wait_timeout_while(state, DEADLINE, |state| !state.0)
            .expect("no holder panics");
        assert!(!wait.timed_out(), "nobody came to the gate");
    }

    pub(crate) fn open(&self) {
        self.state.lock().expect("no holder panics").1 = true;
        self.changed.notify_all();
    }
}

/// Counts its drops.
#[derive(Debug)]
pub(crate) struct Counted(Arc<AtomicUsize>);

impl Counted {
    pub(crate) fn new(alive: &Arc<AtomicUsize>) -> Self {
        alive.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(alive))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A fixed pool of short jobs that does not spin.
pub(crate) fn fixed(workers: usize) -> Pool<Deeds> {
    with(Options { claim_max: 8, ..Options::blocking(workers) })
}

/// A pool whose bell nobody hears.
pub(crate) fn with(options: Options) -> Pool<Deeds> {
    Pool::new(Deeds, Bell::new(|| ()), options).expect("threads can be started")
}

/// Drains everything in flight; fails if that takes too long.
pub(crate) fn all(pool: &mut Pool<Deeds>) -> Vec<Answer> {
    let mut answers = Vec::new();
    pool.quiesce(Some(DEADLINE), |answer| answers.push(answer)).expect("in time");
    answers
}

/// Waits until `done`.
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !done() {
        assert!(Instant::now() < deadline, "{what}: not in time");
        std::thread::yield_now();
    }
}

/// Waits until every worker is parked: only then is no time useful or spun.
pub(crate) fn until_parked(pool: &Pool<Deeds>) {
    let awake = || {
        let times = pool.stats().times;
        times.useful + times.spun
    };
    until("everybody parks", || {
        let before = awake();
        std::thread::sleep(Duration::from_millis(20));
        awake() == before
    });
}

/// Numbers of the answers, sorted.
pub(crate) fn numbers(answers: &[Answer]) -> Vec<u64> {
    let mut numbers: Vec<u64> = answers.iter().map(Answer::number).collect();
    numbers.sort_unstable();
    numbers
}
