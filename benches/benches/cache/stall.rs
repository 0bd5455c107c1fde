//! Hits while the engine hangs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use flintlock_diskcache::storage::fault::{Call, Fault, FaultStore};
use flintlock_diskcache::storage::fjall::{FjallOptions, FjallStore};

use super::measure::{
    Draw, Scale, Scratch, Subject, described, line, options, quantile, title, value,
};

const STALL: Duration = Duration::from_secs(5);

/// Hits between two pauses.
const BATCH: usize = 100;

/// Nanoseconds for which this thread was ready to run and had no CPU.
fn waited() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("proc is mounted");
    text.split(' ').nth(1).and_then(|n| n.parse().ok()).expect("a number")
}

/// Latencies of hits in nanoseconds. What other processes took away is left out of the longest of
/// each batch.
fn hits(cache: &Subject, keys: u64) -> Vec<u64> {
    let mut draw = Draw(5);
    let mut times = Vec::new();
    let begin = Instant::now();
    while begin.elapsed() < STALL - Duration::from_millis(500) {
        let (first, stolen) = (times.len(), waited());
        for _ in 0..BATCH {
            let key = draw.below(keys);
            let at = Instant::now();
            assert!(cache.get_with(&key, |value| value[7]).expect("a good disk").is_some());
            times.push(u64::try_from(at.elapsed().as_nanos()).unwrap_or(u64::MAX));
        }
        let stolen = waited() - stolen;
        if let Some(longest) = times[first..].iter_mut().max() {
            *longest = longest.saturating_sub(stolen);
        }
        // Not a busy loop, which the scheduler would punish with pauses of its own.
        std::thread::sleep(Duration::from_micros(200));
    }
    times
}

pub(crate) fn run(scale: &Scale) {
    let scratch = Scratch::new("stall");
    let keys = scale.warm_keys;
    let options = options(64 << 20);
    let cold = 2 * keys;
    let cache = Subject::open(scratch.path("store"), &options).expect("a fresh store");
    cache.insert(&cold, value(cold, 1)).expect("a good disk");
    cache.close(STALL).expect("a good disk");

    let mut faults = None;
    let cache = Subject::open_with(scratch.path("store"), &options, |dir, _| {
        let engine = FjallStore::open(dir, FjallOptions::default())?;
        let store = Arc::new(FaultStore::new(Arc::new(engine), 1));
        faults = Some(Arc::clone(&store));
        Ok(store)
    });
    let (cache, faults) = (cache.expect("a good store"), faults.expect("the engine was opened"));
    for key in 0..keys {
        cache.insert(&key, value(key, 1)).expect("a good disk");
    }
    let mut calm = hits(&cache, keys);
    faults.rate(Call::Get, Fault::Delay(STALL), 1);
    faults.rate(Call::Commit, Fault::Delay(STALL), 1);
    let mut stalled = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let begin = Instant::now();
            assert!(cache.get(&cold).expect("a good disk").is_some());
            begin.elapsed()
        });
        let saver = scope.spawn(|| cache.save().expect("a good disk"));
        let times = hits(&cache, keys);
        assert!(!reader.is_finished() && !saver.is_finished(), "the engine hung all the while");
        assert!(reader.join().expect("no panic") >= STALL);
        saver.join().expect("no panic");
        times
    });
    let set_up = format!("reads and commits take {STALL:?}; {}; one thread", described(&options));
    title("stall", &set_up);
    let max = |times: &[u64]| times.iter().max().copied().unwrap_or(0) as f64 / 1e6;
    let (calm_max, stalled_max) = (max(&calm), max(&stalled));
    let counts = (stalled.len(), calm.len());
    let (tail, calm_tail) = (quantile(&mut stalled, 999), quantile(&mut calm, 999));
    line(
        "longest hit while the engine hangs, less the waiting for a CPU",
        &format!("{stalled_max:.2} ms of {} ({calm_max:.2} of {} before)", counts.0, counts.1),
        "< 1 ms",
        Some(stalled_max < 1.0),
    );
    let measured = format!("{tail} ns ({calm_tail} ns before)");
    line("p99.9 of a hit while the engine hangs", &measured, "", None);
}
