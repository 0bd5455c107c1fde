//! Warm hits and known absences, beside the same table behind a lock and nothing else.

use std::hash::{BuildHasher, RandomState};
use std::hint::black_box;
use std::sync::Mutex;
use std::time::Instant;

use flintlock_diskcache::cache::flags::KeyState;
use flintlock_diskcache::cache::map::{MapHome, Probe};
use flintlock_diskcache::key::{KeyRef, Space};

use super::measure::{
    Draw, LIVE_LEN, Scale, Scratch, Subject, described, figure, line, median, options, quantile,
    thread_ns, title, value,
};

const GETS: u64 = 200_000;

/// The cache's table behind a lock: what a server without a disk would do for a hit.
pub(crate) struct Plain {
    table: Mutex<MapHome<Vec<u8>>>,
    hasher: RandomState,
}

impl Plain {
    pub(crate) fn new(keys: u64) -> Self {
        let plain = Self { table: Mutex::default(), hasher: RandomState::new() };
        for key in 0..keys {
            plain.with(key, |table, key, n| {
                table.set(key, Some(value(n, 1)), None, KeyState::default());
            });
        }
        plain
    }

    fn with<R>(&self, n: u64, run: impl FnOnce(&mut MapHome<Vec<u8>>, KeyRef<'_>, u64) -> R) -> R {
        let key = n.to_be_bytes();
        let hash = self.hasher.hash_one(key);
        let key = KeyRef { space: Space(1), hash, key: &key };
        run(&mut self.table.lock().expect("nobody panics"), key, n)
    }

    pub(crate) fn get(&self, n: u64) -> Option<u8> {
        self.with(n, |table, key, _| match table.probe(key) {
            Probe::Value(value, _) => Some(value[7]),
            Probe::Absent | Probe::Unknown => None,
        })
    }
}

/// Nanoseconds of CPU for one get of a random key from `first` on.
fn cost(keys: u64, first: u64, seed: u64, mut get: impl FnMut(u64) -> Option<u8>) -> f64 {
    let mut draw = Draw(seed);
    let wanted = first < keys;
    let run = || {
        for _ in 0..GETS {
            assert_eq!(black_box(get(first + draw.below(keys))).is_some(), wanted);
        }
    };
    thread_ns(run) / GETS as f64
}

/// The 99th percentile of a get in nanoseconds, by the clock.
fn p99(keys: u64, mut get: impl FnMut(u64) -> Option<u8>) -> f64 {
    let mut draw = Draw(9);
    let mut times = Vec::with_capacity(GETS as usize);
    for _ in 0..GETS {
        let key = draw.below(keys);
        let begin = Instant::now();
        black_box(get(key));
        times.push(u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
    quantile(&mut times, 990) as f64
}

pub(crate) fn run(scale: &Scale) {
    let keys = scale.warm_keys;
    let options = options((keys * LIVE_LEN * 2).max(32 << 20));
    let scratch = Scratch::new("hits");
    let cache = Subject::open(scratch.path("store"), &options).expect("a fresh store");
    for key in 0..keys {
        cache.insert(&key, value(key, 1)).expect("a good disk");
    }
    cache.save().expect("a good disk");
    let get = |key: u64| cache.get_with(&key, |value| value[7]).expect("a good disk");
    let plain = Plain::new(keys);

    assert!((0..keys).all(|key| get(key) == plain.get(key)), "both have every key");
    let before = figure(&cache, "misses");

    // Both tables have the same entries: absences come after the comparison.
    let (mut hit, mut table) = (Vec::new(), Vec::new());
    let (mut tail, mut tail_ratio) = (Vec::new(), Vec::new());
    for round in 0..scale.rounds as u64 {
        let mut ours = || hit.push(cost(keys, 0, round, get));
        let mut theirs = || table.push(cost(keys, 0, round, |key| plain.get(key)));
        if round % 2 == 0 {
            (ours(), theirs())
        } else {
            (theirs(), ours())
        };
        let slow = p99(keys, get);
        tail.push(slow);
        tail_ratio.push(slow / p99(keys, |key| plain.get(key)));
    }
    assert_eq!(figure(&cache, "misses"), before, "all were hits");

    // Each absent key is asked for once by the disk, at most.
    let before = figure(&cache, "loads_absent");
    assert!((keys..2 * keys).all(|key| get(key).is_none()));
    let first = (figure(&cache, "loads_absent") - before) as f64 / keys as f64;
    let before = figure(&cache, "misses");
    let (mut absent, mut present) = (Vec::new(), Vec::new());
    for round in 0..scale.rounds as u64 {
        absent.push(cost(keys, keys, round, get));
        present.push(cost(keys, 0, round, get));
    }
    assert_eq!(figure(&cache, "misses"), before, "all were hits, of a value or of an absence");
    let ratio = |over: &[f64], under: &[f64]| {
        median(&mut over.iter().zip(under).map(|(a, b)| a / b).collect::<Vec<_>>())
    };
    let (speed, known) = (ratio(&table, &hit), ratio(&present, &absent));
    let tails = median(&mut tail_ratio);
    title("hits", &format!("{keys} keys, all in memory; {}; one thread", described(&options)));
    let each = format!("{:.0} ns against {:.0} ns of CPU", median(&mut hit), median(&mut table));
    line(
        "speed of a hit, over that of the plain table behind a lock",
        &format!("{speed:.2} ({each})"),
        ">= 0.90",
        Some(speed >= 0.90),
    );
    let p99 = median(&mut tail);
    let reached = Some(tails <= 1.2);
    let what = "p99 of a hit, over that of the plain table";
    line(what, &format!("{tails:.2} ({p99:.0} ns with the clock)"), "<= 1.20", reached);
    line(
        "disk reads for an absent key's first get",
        &format!("{first:.3}"),
        "<= 1",
        Some(first <= 1.0),
    );
    line(
        "speed of an absent key's later gets, over that of a hit",
        &format!("{known:.2}"),
        ">= 0.90",
        Some(known >= 0.90),
    );
}
