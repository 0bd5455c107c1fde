//! Exploring a model with loom, for the models of the pool and those of the sleep protocol.

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
