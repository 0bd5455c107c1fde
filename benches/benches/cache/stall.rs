//! Hits while the engine hangs.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flintlock_diskcache::storage::fault::{Call, Fault, FaultStore};
use flintlock_diskcache::storage::fjall::{FjallOptions, FjallStore};

use super::hits::Plain;
use super::measure::{
    Draw, Scale, Scratch, Subject, described, line, options, quantile, title, value,
};

const STALL: Duration = Duration::from_secs(5);

/// Hits between two pauses.
const BATCH: usize = 100;
/// Waking up takes a thread some microseconds; taking its CPU away takes more.
const DISTURBANCE_NS: u64 = 50_000;

/// Nanoseconds for which the thread of `folder` was ready to run and had no CPU.
fn waited_of(folder: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(folder.join("schedstat")).ok()?;
    text.split(' ').nth(1)?.parse().ok()
}

/// The same of this thread.
fn waited() -> u64 {
    waited_of(Path::new("/proc/thread-self")).expect("proc is mounted")
}

/// The same of all threads of the process: one of them may have held the lock.
fn all_waited() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").expect("proc is mounted");
    tasks.filter_map(|task| waited_of(&task.ok()?.path())).sum()
}

/// What hits took, in nanoseconds.
#[derive(Default)]
struct Times {
    /// All of them. What other processes took away is left out of the longest of each batch.
    each: Vec<u64>,
    /// The longest of all in batches during which no thread of the process waited for a CPU.
    undisturbed_max: u64,
    undisturbed_batches: usize,
}

impl Times {
    fn batch(&mut self, draw: &mut Draw, keys: u64, get: impl Fn(u64) -> Option<u8>) {
        let first = self.each.len();
        let (stolen_of_all, stolen) = (all_waited(), waited());
        for _ in 0..BATCH {
            let key = draw.below(keys);
            let at = Instant::now();
            assert!(get(key).is_some());
            self.each.push(u64::try_from(at.elapsed().as_nanos()).unwrap_or(u64::MAX));
        }
        let stolen = waited() - stolen;
        if let Some(longest) = self.each[first..].iter_mut().max() {
            *longest = longest.saturating_sub(stolen);
            if all_waited() - stolen_of_all < DISTURBANCE_NS {
                self.undisturbed_max = self.undisturbed_max.max(*longest);
                self.undisturbed_batches += 1;
            }
        }
    }

    fn max_ms(&self) -> f64 {
        self.each.iter().max().copied().unwrap_or(0) as f64 / 1e6
    }
}

/// What hits take, and in turns with them those of `plain`, which knows no engine, driver or other
/// thread: what its longest take is what the machine does to anybody.
fn hits(cache: &Subject, plain: &Plain, keys: u64) -> (Times, Times) {
    let mut draw = Draw(5);
    let (mut ours, mut theirs) = (Times::default(), Times::default());
    let begin = Instant::now();
    while begin.elapsed() < STALL - Duration::from_millis(500) {
        ours.batch(&mut draw, keys, |key| {
            cache.get_with(&key, |value| value[7]).expect("a good disk")
        });
        theirs.batch(&mut draw, keys, |key| plain.get(key));
        // Not a busy loop, which the scheduler would punish with pauses of its own.
        std::thread::sleep(Duration::from_micros(200));
    }
    (ours, theirs)
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
    let plain = Plain::new(keys);
    let (mut calm, _) = hits(&cache, &plain, keys);
    faults.rate(Call::Get, Fault::Delay(STALL), 1);
    faults.rate(Call::Commit, Fault::Delay(STALL), 1);
    let (mut stalled, control) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let begin = Instant::now();
            assert!(cache.get(&cold).expect("a good disk").is_some());
            begin.elapsed()
        });
        let saver = scope.spawn(|| cache.save().expect("a good disk"));
        let times = hits(&cache, &plain, keys);
        assert!(!reader.is_finished() && !saver.is_finished(), "the engine hung all the while");
        assert!(reader.join().expect("no panic") >= STALL);
        saver.join().expect("no panic");
        times
    });
    let set_up = format!("reads and commits take {STALL:?}; {}; one thread", described(&options));
    title("stall", &set_up);
    let (calm_max, stalled_max, control_max) = (calm.max_ms(), stalled.max_ms(), control.max_ms());
    let counts = (stalled.each.len(), calm.each.len());
    let (tail, calm_tail) = (quantile(&mut stalled.each, 999), quantile(&mut calm.each, 999));
    line(
        "longest hit while the engine hangs, less the waiting for a CPU",
        &format!(
            "{stalled_max:.2} ms of {} ({calm_max:.2} of {} before; a plain table in turns with \
             it: {control_max:.2})",
            counts.0, counts.1
        ),
        "< 1 ms",
        Some(stalled_max < 1.0),
    );
    let batches = (stalled.undisturbed_batches, counts.0 / BATCH);
    let undisturbed = stalled.undisturbed_max as f64 / 1e6;
    let control = control.undisturbed_max as f64 / 1e6;
    line(
        "the same, while no thread of the process waited for a CPU (one may hold the lock)",
        &format!(
            "{undisturbed:.2} ms in {} of {} batches of {BATCH} (the plain table: {control:.2})",
            batches.0, batches.1
        ),
        "< 1 ms",
        Some(undisturbed < 1.0),
    );
    let measured = format!("{tail} ns ({calm_tail} ns before)");
    line("p99.9 of a hit while the engine hangs", &measured, "", None);
}
