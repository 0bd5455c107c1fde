//! Exploring a model with loom, for the models of the pool, of the sleep protocol and of the
//! counters; and the mutation gate of the last two.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

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
    builder.max_branches = 50_000;
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

/// Runs `one` on a spawned thread and `other` on this one; loom 0.7.2 misses faults for one of the
/// two assignments, so every model runs both ways.
pub(crate) fn both<A: 'static, B: 'static>(
    swapped: bool,
    one: impl FnOnce() -> A + 'static,
    other: impl FnOnce() -> B + 'static,
) {
    if swapped {
        let spawned = loom::thread::spawn(other);
        one();
        spawned.join().expect("no panic");
    } else {
        let spawned = loom::thread::spawn(one);
        other();
        spawned.join().expect("no panic");
    }
}

/// Runs the test `model` of this binary again with the fence or the end of an edge `weakened`, and
/// wants it to fail for the reason `why`: one that is cut off fails too, and has found nothing.
pub(crate) fn fails_without(weakened: &str, model: &str, why: &str) {
    if std::env::var_os("FLINTLOCK_WEAKEN").is_some() {
        return;
    }
    let run = Command::new(std::env::current_exe().expect("the test binary"))
        .args([model, "--exact", "--nocapture"])
        .env("FLINTLOCK_WEAKEN", weakened)
        .output()
        .expect("the test binary runs");
    let text = String::from_utf8_lossy(&run.stdout);
    assert!(text.contains("running 1 test"), "{model} is a model");
    assert!(!run.status.success(), "without {weakened}, {model} finds nothing");
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(said.contains(why), "without {weakened}, {model}: {said}");
}
