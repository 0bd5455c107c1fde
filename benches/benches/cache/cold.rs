//! Keys that are on disk only, ten times as much as the limit, beside the engine alone.

use std::path::Path;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use flintlock_diskcache::key::{KeyRef, Space};
use flintlock_diskcache::layout::StoreDir;
use flintlock_diskcache::recovery::{self, OpenOptions};
use flintlock_diskcache::storage::Storage;
use flintlock_diskcache::storage::fjall::{FjallOptions, FjallStore};
use flintlock_diskcache::{Codec, Options};
use siphasher::sip::SipHasher13;

use super::measure::{
    Scale, Scratch, Subject, described, drop_pages, figure, index, line, median, options, seconds,
    shuffled, title, value,
};

/// One thing that answers gets from any thread.
type Get<'a> = &'a (dyn Fn(u64) -> Option<u64> + Sync);

/// Gets a second when `threads` threads share `keys`.
fn speed(threads: usize, keys: &[u64], get: Get<'_>) -> f64 {
    let barrier = Barrier::new(threads + 1);
    std::thread::scope(|scope| {
        for part in keys.chunks(keys.len().div_ceil(threads)) {
            let barrier = &barrier;
            scope.spawn(move || {
                barrier.wait();
                for &key in part {
                    assert_eq!(get(key), Some(key), "each key has its own value");
                }
                barrier.wait();
            });
        }
        barrier.wait();
        keys.len() as f64
            / seconds(|| {
                barrier.wait();
            })
    })
}

fn named(value: &[u8]) -> u64 {
    u64::from_be_bytes(value[..8].try_into().expect("a value begins with its key"))
}

/// The engine of a copy of the store, alone: the same tables in the same levels.
struct Raw {
    engine: Arc<FjallStore>,
    hasher: SipHasher13,
    space: Space,
    /// Keeps the directory locked.
    _dir: StoreDir,
}

impl Raw {
    fn open(dir: &Path, cache_bytes: u64) -> Self {
        let engine = FjallOptions { cache_bytes, ..FjallOptions::default() };
        let options = OpenOptions { engine, ..OpenOptions::default() };
        let store = recovery::open(dir, &options).expect("a good copy");
        let hasher = SipHasher13::new_with_key(&store.dir.identity().hash_key);
        // As the cache's own threads do for its store.
        while store.engine.maintain(Duration::from_secs(1)).expect("a good disk") {}
        Self { engine: store.engine, hasher, space: store.meta.spaces[0], _dir: store.dir }
    }

    fn get(&self, n: u64) -> Option<u64> {
        let mut key = Vec::with_capacity(8);
        n.encode(&mut key);
        let key = KeyRef { space: self.space, hash: self.hasher.hash(&key), key: &key }.to_buf();
        let mut out = Vec::with_capacity(1);
        self.engine.get_many(&[key], &mut out).expect("a good disk");
        out.pop().flatten().map(|record| named(&record.payload))
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a writable directory");
    for entry in std::fs::read_dir(from).expect("our own directory") {
        let entry = entry.expect("our own directory");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).expect("room on the disk");
            let file = std::fs::File::open(&target).expect("just written");
            // What is not on disk yet cannot be dropped from the page cache.
            file.sync_all().expect("a good disk");
        }
    }
}

fn fill(dir: &Path, options: &Options, order: &[u64]) {
    let cache = Subject::open(dir, options).expect("a fresh store");
    for &key in order {
        cache.insert(&key, value(key, 1)).expect("a good disk");
    }
    cache.close(Duration::from_secs(600)).expect("a good disk");
}

pub(crate) fn run(scale: &Scale) {
    let scratch = Scratch::new("cold");
    let order = shuffled(scale.cold_keys());
    let options = options(scale.memory_bytes);
    fill(&scratch.path("store"), &options, &order);
    copy(&scratch.path("store"), &scratch.path("copy"));
    // What `Options` gives the engine of its limit: an eighth.
    let engine = Raw::open(&scratch.path("copy"), scale.memory_bytes / 8);
    let cache = Subject::open(scratch.path("store"), &options).expect("a good store");
    let raw = |key: u64| engine.get(key);
    let ours = |key: u64| cache.get_with(&key, |value| named(value)).expect("a good disk");

    // Every key is asked for once: by the time it would come again it is long forgotten.
    let each = order.len() / (4 * scale.rounds);
    let mut parts = order.chunks(each);
    let runs: [(usize, Get<'_>); 4] = [(8, &raw), (8, &ours), (1, &raw), (1, &ours)];
    let mut speeds = [const { Vec::new() }; 4];
    for round in 0..scale.rounds {
        for turn in 0..4 {
            // Neither of a pair is always first.
            let at = turn ^ (round & 1);
            drop_pages(&scratch.path("copy"));
            drop_pages(&scratch.path("store"));
            let (threads, get) = runs[at];
            speeds[at].push(speed(threads, parts.next().expect("a part for each turn"), get));
        }
    }
    let asked = 2 * scale.rounds * each;
    let (found, misses) = (figure(&cache, "loads_found"), figure(&cache, "misses"));
    assert_eq!((index(found), index(misses)), (asked, asked), "every get of ours was cold");

    let ratio = |over: usize, under: usize| {
        let pairs = speeds[over].iter().zip(&speeds[under]);
        median(&mut pairs.map(|(a, b)| a / b).collect::<Vec<_>>())
    };
    let (to_raw, to_one, raw_to_one) = (ratio(1, 0), ratio(1, 3), ratio(0, 2));
    let to_raw_one = ratio(3, 2);
    let rates = speeds.clone().map(|mut speeds| median(&mut speeds) / 1000.0);
    let set_up = format!(
        "{} keys, ten times the limit; {}; page cache dropped before each turn; {} gets a turn",
        order.len(),
        described(&options),
        each
    );
    title("cold", &set_up);
    line(
        "8 threads, over the engine alone with 8",
        &format!("{to_raw:.2} ({:.1} against {:.1} k/s)", rates[1], rates[0]),
        ">= 0.80",
        Some(to_raw >= 0.80),
    );
    let measured = format!("{to_one:.2} (the engine alone: {raw_to_one:.2})");
    line("8 threads, over 1 thread", &measured, ">= 3.00", Some(to_one >= 3.0));
    let measured = format!("{to_raw_one:.2} ({:.1} against {:.1} k/s)", rates[3], rates[2]);
    line("1 thread, over the engine alone with 1", &measured, "", None);
}
