//! Concurrent clients of one `DiskCache` against a checker: each key behaves as if every operation
//! took place at one moment between its call and its return.
//!
//! The engine is slow at random, memory is far too small, and everything is saved at once, so keys
//! are evicted, loaded, saved and written in every overlap.
//!
//! Source: Wing and Gong, "Testing and verifying concurrent objects" (1993), with the memory of
//! Lowe's version.

#![expect(clippy::unwrap_used, reason = "a failure is the test's failure")]

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flintlock_diskcache::cache::rng::Rng;
use flintlock_diskcache::storage::fault::{Call, Fault, FaultStore};
use flintlock_diskcache::storage::fjall::{FjallOptions, FjallStore};
use flintlock_diskcache::{DiskCache, Options};

/// What one call did: it found `read`, if it looks, and left `write`, if it writes.
#[derive(Copy, Clone, Debug)]
struct Step {
    call: u64,
    back: u64,
    read: Option<Option<u64>>,
    write: Option<Option<u64>>,
}

/// Whether some order that respects time explains `steps`, from `start` on; at most 128 of them.
fn explained(steps: &[Step], start: Option<u64>) -> bool {
    fn search(
        steps: &[Step],
        done: u128,
        value: Option<u64>,
        seen: &mut HashSet<(u128, Option<u64>)>,
    ) -> bool {
        if done.count_ones() as usize == steps.len() {
            return true;
        }
        if !seen.insert((done, value)) {
            return false;
        }
        let open = |at: &usize| done & (1 << at) == 0;
        // Nothing can come before something that had returned when it was called.
        let first_back = (0..steps.len()).filter(open).map(|at| steps[at].back).min();
        (0..steps.len()).filter(open).any(|at| {
            let step = &steps[at];
            first_back.is_some_and(|back| step.call <= back)
                && step.read.is_none_or(|read| read == value)
                && search(steps, done | 1 << at, step.write.unwrap_or(value), seen)
        })
    }
    assert!(steps.len() <= 128, "a round is short");
    search(steps, 0, start, &mut HashSet::new())
}

#[test]
fn the_checker_knows_good_from_bad() {
    let step = |call, back, read, write| Step { call, back, read, write };
    let write = step(0, 10, None, Some(Some(1)));
    let saw = |call, back, what| step(call, back, Some(what), None);
    assert!(explained(&[write, saw(5, 6, None), saw(7, 8, Some(1))], None), "in between");
    assert!(!explained(&[write, saw(5, 6, Some(1)), saw(7, 8, None)], None), "back in time");
    assert!(!explained(&[write, saw(11, 12, None)], None), "lost");
    assert!(!explained(&[write, saw(11, 12, Some(2))], None), "made up");
    let swap = |call, back, old, new| step(call, back, Some(old), Some(Some(new)));
    assert!(!explained(&[swap(0, 9, None, 1), swap(0, 9, None, 2)], None), "both first");
    assert!(explained(&[swap(0, 9, None, 1), swap(0, 9, Some(1), 2)], None), "one first");
}

const KEYS: u64 = 4;
const THREADS: u64 = 5;
const ROUNDS: u64 = 12;
const STEPS: u64 = 20;
const VALUE_LEN: usize = 4 << 10;

struct Bench {
    cache: DiskCache<u64, Vec<u8>>,
    clock: AtomicU64,
    ids: AtomicU64,
    /// By key.
    steps: [Mutex<Vec<Step>>; KEYS as usize],
}

fn value(id: u64) -> Vec<u8> {
    id.to_le_bytes().into_iter().cycle().take(VALUE_LEN).collect()
}

fn id_of(value: &[u8]) -> u64 {
    u64::from_le_bytes(value[..8].try_into().unwrap())
}

impl Bench {
    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    fn note(&self, key: u64, step: Step) {
        self.steps[usize::try_from(key).unwrap()].lock().unwrap().push(step);
    }

    /// One operation of one client.
    fn act(&self, rng: &mut Rng) {
        let key = rng.below(KEYS);
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let call = self.tick();
        let (read, write) = match rng.below(40) {
            0..16 => (Some(self.cache.get_with(&key, |v| id_of(v)).unwrap()), None),
            16..24 => {
                self.cache.insert(&key, value(id)).unwrap();
                (None, Some(Some(id)))
            }
            24..28 => {
                self.cache.remove(&key).unwrap();
                (None, Some(None))
            }
            28..39 => {
                let mut old = None;
                let swap = |v: Option<&Vec<u8>>| {
                    old = v.map(|v| id_of(v));
                    Some(value(id))
                };
                self.cache.update(&key, swap).unwrap();
                (Some(old), Some(Some(id)))
            }
            _ if rng.below(20) > 0 => return,
            _ => {
                self.cache.clear().unwrap();
                let back = self.tick();
                let step = Step { call, back, read: None, write: Some(None) };
                return (0..KEYS).for_each(|key| self.note(key, step));
            }
        };
        let back = self.tick();
        self.note(key, Step { call, back, read, write });
    }

    fn round(&self, seed: u64) {
        let before: Vec<_> =
            (0..KEYS).map(|key| self.cache.get_with(&key, |v| id_of(v)).unwrap()).collect();
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let mut rng = Rng::new(seed * THREADS + thread);
                scope.spawn(move || (0..STEPS).for_each(|_| self.act(&mut rng)));
            }
        });
        for (steps, before) in self.steps.iter().zip(before) {
            let mut steps = std::mem::take(&mut *steps.lock().unwrap());
            steps.sort_by_key(|step| step.call);
            assert!(explained(&steps, before), "seed {seed}, from {before:?}: {steps:#?}");
        }
    }
}

#[test]
fn every_key_is_linearizable_under_delays_and_evictions() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        memory_bytes: 1 << 20,
        flush_delay: Duration::from_millis(1),
        ..Options::default()
    };
    let mut store = None;
    let cache = DiskCache::open_with(dir.path(), &options, |dir, _| {
        let engine: FjallStore = FjallStore::open(dir, FjallOptions::default())?;
        let faults = Arc::new(FaultStore::new(Arc::new(engine), 7));
        store = Some(Arc::clone(&faults));
        Ok(faults)
    });
    let store = store.unwrap();
    store.rate(Call::Get, Fault::Delay(Duration::from_micros(300)), 3);
    store.rate(Call::Commit, Fault::Delay(Duration::from_millis(2)), 2);
    let bench = Bench {
        cache: cache.unwrap(),
        clock: AtomicU64::new(0),
        ids: AtomicU64::new(1),
        steps: Default::default(),
    };
    let others = KEYS..KEYS + 400;
    others.clone().for_each(|other| bench.cache.insert(&other, value(0)).unwrap());
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Drives the keys above out of memory.
        scope.spawn(|| {
            for (look, other) in others.cycle().enumerate() {
                // Cleared with the rest, they are put back.
                if bench.cache.get_with(&other, |_| ()).unwrap().is_none() {
                    bench.cache.insert(&other, value(0)).unwrap();
                }
                // However little of the CPU this thread got until then.
                if look > 1000 && is_over.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        for round in 0..ROUNDS {
            bench.round(round);
        }
        is_over.store(true, Ordering::Relaxed);
    });
    let gauges = |name| figure(&bench.cache, name);
    assert!(gauges("loads_found") > 10, "{} loads: keys were evicted", gauges("loads_found"));
    assert!(gauges("saves") > 100, "keys were saved");
}

fn figure(cache: &DiskCache<u64, Vec<u8>>, name: &'static str) -> u64 {
    use flintlock_diskcache::cache::stats::{Histogram, Metrics};
    struct One(&'static str, u64);
    impl Metrics for One {
        fn counter(&mut self, name: &'static str, value: u64) {
            if name == self.0 {
                self.1 = value;
            }
        }
        fn gauge(&mut self, _: &'static str, _: u64) {}
        fn times(&mut self, _: &'static str, _: &Histogram) {}
    }
    let mut one = One(name, 0);
    cache.report(&mut one).unwrap();
    one.1
}
