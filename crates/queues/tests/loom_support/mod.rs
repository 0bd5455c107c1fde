//! What all loom models share: running to exhaustion, role assignment, payloads that tell on a
//! missing edge, and the mutation gate.
//!
//! Each model keeps to the shapes that finish: capacity 2, at most three threads, every retry
//! bounded. See "Adding a model" in the README.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use flintlock_queues::{Compact, PopError, PushError, Words};
use loom::cell::UnsafeCell;
use loom::thread;

/// The layouts every model runs on. `Padded` is `Compact` with other addresses.
pub(crate) type Cells = Compact;
pub(crate) type Laps = Words;

/// Most time a model may take; one that is cut off proves nothing and fails.
const CAP: Duration = Duration::from_secs(300);

/// Explores `model` to the end, within `LOOM_MAX_PREEMPTIONS` (2 if unset) preemptions.
pub(crate) fn explore(name: &str, model: impl Fn() + Sync + Send + 'static) {
    // With one of these loom ends early, or begins where another run was, and all looks green.
    for variable in ["LOOM_MAX_PERMUTATIONS", "LOOM_CHECKPOINT_FILE"] {
        assert!(std::env::var_os(variable).is_none(), "{variable} cuts models short");
    }
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(2));
    builder.max_branches = 20_000;
    builder.max_duration = Some(CAP);
    let executions = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&executions);
    let start = Instant::now();
    builder.check(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        model();
    });
    let (took, count) = (start.elapsed(), executions.load(Ordering::Relaxed));
    println!("{name}: {count} executions in {took:.2?}, bound {:?}", builder.preemption_bound);
    // Loom returns silently when the time is up.
    assert!(took < CAP, "{name} was not exhausted");
}

/// Which side of a model runs on a spawned thread; loom 0.7.2 misses faults when the producer is
/// the root thread, so every model runs both ways.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Roles {
    ProducerSpawned,
    ConsumerSpawned,
}

impl Roles {
    pub(crate) const BOTH: [Self; 2] = [Self::ProducerSpawned, Self::ConsumerSpawned];

    /// Runs both sides at once and returns what they return.
    pub(crate) fn run<P: 'static, C: 'static>(
        self,
        producer: impl FnOnce() -> P + 'static,
        consumer: impl FnOnce() -> C + 'static,
    ) -> (P, C) {
        match self {
            Self::ProducerSpawned => {
                let spawned = thread::spawn(producer);
                let consumed = consumer();
                (spawned.join().expect("the producer does not panic"), consumed)
            }
            Self::ConsumerSpawned => {
                let spawned = thread::spawn(consumer);
                let produced = producer();
                (produced, spawned.join().expect("the consumer does not panic"))
            }
        }
    }
}

/// Counts what becomes of payloads; plain atomics, which loom does not see.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger(Arc<Mutex<(usize, BTreeSet<usize>)>>);

impl Ledger {
    /// A payload with the number `number`; loom watches every access to it.
    pub(crate) fn payload(&self, number: usize) -> Item {
        self.0.lock().expect("no holder panics").0 += 1;
        Box::new(Payload { number: UnsafeCell::new(number), ledger: self.clone() })
    }

    /// All payloads were dropped, each once.
    pub(crate) fn assert_settled(&self) {
        let ledger = self.0.lock().expect("no holder panics");
        assert_eq!(ledger.0, ledger.1.len(), "each item is dropped exactly once");
    }
}

/// A value written before it is pushed and read after it is popped, without synchronisation of its
/// own: a missing edge is a data race, which loom reports.
#[derive(Debug)]
#[repr(align(16))]
pub(crate) struct Payload {
    number: UnsafeCell<usize>,
    ledger: Ledger,
}

/// What goes through the queues.
pub(crate) type Item = Box<Payload>;

impl Payload {
    pub(crate) fn read(&self) -> usize {
        // SAFETY: [model-payload] owned by the reader; loom checks that it is.
        self.number.with(|number| unsafe { *number })
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        let number = self.read();
        let fresh = self.ledger.0.lock().expect("no holder panics").1.insert(number);
        assert!(fresh, "item {number} is dropped once");
    }
}

/// Tries `push` at most `attempts` times; the item if it never fits.
pub(crate) fn push_within<T>(
    attempts: usize,
    item: T,
    mut push: impl FnMut(T) -> Result<(), PushError<T>>,
) -> Result<(), T> {
    let mut item = item;
    for _ in 0..attempts {
        match push(item) {
            Ok(()) => return Ok(()),
            Err(refused) => item = refused.into_inner(),
        }
        thread::yield_now();
    }
    Err(item)
}

/// Calls `pop` `attempts` times and reads what comes, at once.
pub(crate) fn pop_within(
    attempts: usize,
    mut pop: impl FnMut() -> Result<Item, PopError>,
) -> Vec<usize> {
    let mut numbers = Vec::new();
    for _ in 0..attempts {
        match pop() {
            Ok(item) => numbers.push(item.read()),
            Err(PopError::Empty) => thread::yield_now(),
            Err(PopError::Closed) => break,
        }
    }
    numbers
}

/// Runs the models again, each with one end of one edge weakened to `Relaxed`, and wants each to
/// fail. A mutant that survives is an ordering nobody proved to be needed.
pub(crate) fn assert_mutants_caught(mutants: &[(&str, &str)]) {
    let this = std::env::current_exe().expect("the test knows its own path");
    for (end, model) in mutants {
        let start = Instant::now();
        let output = Command::new(&this)
            .args([model, "--exact", "--nocapture", "--test-threads=1"])
            .env("FLINTLOCK_WEAKEN", end)
            .output()
            .expect("the test binary runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert!(text.contains("running 1 test"), "{model} is a test of this file:\n{text}");
        assert!(!output.status.success(), "{model} passes with {end} weakened to Relaxed");
        let why = text.lines().skip_while(|line| !line.contains("panicked at")).nth(1);
        let why = why.expect("a mutant fails by a check, not by breaking the checker").trim();
        println!("{end}: caught by {model} in {:.1?}: {why}", start.elapsed());
    }
}
