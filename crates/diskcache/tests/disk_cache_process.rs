//! A `DiskCache` whose process is killed, runs out of disk, or holds ten times its memory for long.
//!
//! The other process is this test again. Several threads write, each to keys of its own: step `s`
//! of a thread is a function of the thread and `s` alone, so whoever opens the store next can tell
//! after how many steps of each thread it stands, and that nothing else is in it.

#![expect(clippy::unwrap_used, reason = "a failure is the test's failure")]

mod child;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use child::{IGNORING_XFSZ, command, limit_file_size};
use flintlock_diskcache::cache::rng::Rng;
use flintlock_diskcache::cache::stats::{Histogram, Metrics};
use flintlock_diskcache::cache::{Durability, Refusal};
use flintlock_diskcache::storage::ErrorKind;
use flintlock_diskcache::{DiskCache, Error, Options};

type Cache = DiskCache<u64, Vec<u8>>;

/// What must happen has happened by then on any machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// The other process; returns at once when this is none.
#[test]
fn other_process() {
    let Some((part, root, seed)) = child::part() else { return };
    match part.as_str() {
        "endless" => endless(&root, seed),
        "full" => full_disk(&root),
        "soak" => soak(&root, Duration::from_secs(seed)),
        other => panic!("no part {other}"),
    }
}

// ---- What the threads write -------------------------------------------------------------

const THREADS: u64 = 3;
/// Keys of one thread; its values are together about as large as the memory limit.
const KEYS: u64 = 500;

/// Step `s` of a thread: which of its keys it changes, and what it leaves there.
fn step(thread: u64, s: u64) -> (u64, Option<Vec<u8>>) {
    let mut rng = Rng::new(s << 8 | thread);
    let key = rng.below(KEYS) * THREADS + thread;
    if rng.below(8) == 0 {
        return (key, None);
    }
    let mut value = s.to_le_bytes().to_vec();
    value.resize(8 + rng.below(2500) as usize, rng.below(256) as u8);
    (key, Some(value))
}

/// After how many steps of `thread` the cache stands, at least `least`; panics if it is not the
/// state after any number of steps.
fn stands_at(cache: &Cache, thread: u64, least: u64) -> u64 {
    let mut found = BTreeMap::new();
    for key in (0..KEYS).map(|n| n * THREADS + thread) {
        if let Some(value) = cache.get(&key).unwrap() {
            found.insert(key, value);
        }
    }
    let number = |value: &Vec<u8>| u64::from_le_bytes(value[..8].try_into().unwrap());
    let newest = found.values().map(number).max().unwrap_or(0);
    let mut model = BTreeMap::new();
    for s in 1.. {
        if s > newest.max(least) && model == found {
            return s - 1;
        }
        assert!(s <= newest.max(least) + 64, "thread {thread}: no state after {least} or more");
        match step(thread, s) {
            (key, Some(value)) => model.insert(key, value),
            (key, None) => model.remove(&key),
        };
    }
    unreachable!("the loop has no other end")
}

fn options(seed: u64) -> Options {
    Options {
        memory_bytes: 2 << 20,
        durability: match seed % 3 {
            0 => Durability::Always,
            1 => Durability::EveryMs(20),
            _ => Durability::Never,
        },
        flush_delay: Duration::from_millis(30),
        journal_bytes: 400_000,
        ..Options::default()
    }
}

fn ack_file(root: &Path, thread: u64) -> std::path::PathBuf {
    root.join(format!("acked-{thread}"))
}

/// The last step of `thread` that was acknowledged as durable. What a process has written to a
/// file is there, however it ends.
fn acked(root: &Path, thread: u64) -> u64 {
    let bytes = std::fs::read(ack_file(root, thread)).unwrap_or_default();
    bytes.try_into().map_or(0, u64::from_le_bytes)
}

// ---- Killed -----------------------------------------------------------------------------

/// Goes on where the store stands, until it is killed.
fn endless(root: &Path, seed: u64) {
    let options = options(seed);
    let cache = Cache::open(root.join("store"), &options).expect("what was only killed opens");
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (cache, options) = (&cache, &options);
            scope.spawn(move || {
                let begin = stands_at(cache, thread, acked(root, thread));
                let mut open = File::options();
                open.create(true).truncate(false).write(true);
                let file = open.open(ack_file(root, thread)).unwrap();
                for s in begin + 1.. {
                    match step(thread, s) {
                        (key, Some(value)) if s % 3 == 0 => {
                            cache.update(&key, |_| Some(value.clone())).unwrap();
                        }
                        (key, Some(value)) => cache.insert(&key, value).unwrap(),
                        (key, None) => cache.remove(&key).unwrap(),
                    }
                    let asks = s % 61 == thread;
                    if asks {
                        cache.sync().unwrap();
                    }
                    if asks || options.durability == Durability::Always {
                        file.write_all_at(&s.to_le_bytes(), 0).unwrap();
                    }
                }
            });
        }
    });
}

#[test]
fn what_a_cache_acknowledged_survives_kill_9() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path();
    let rounds = child::kill_rounds();
    let all_acked = || -> Vec<u64> { (0..THREADS).map(|thread| acked(root, thread)).collect() };
    for round in 0..rounds {
        let before = all_acked();
        let mut child = command("endless", root, round, &[]).spawn().unwrap();
        // On a slow machine too some of them come to write.
        let until = Instant::now() + DEADLINE;
        while round % 4 == 2 && all_acked() == before && child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < until, "round {round}: nothing is acknowledged");
            std::thread::sleep(Duration::from_millis(1));
        }
        // Often within the opening or a checkpoint, sometimes after many of them.
        let alive = Rng::new(round).below(400_000);
        std::thread::sleep(Duration::from_micros(alive));
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), None, "round {round}: not killed but failed: {errors}");
        // Now and then the next one must recover what the last one left half recovered.
        if round % 4 == 3 {
            check(root);
        }
    }
    let steps = check(root);
    assert!(steps.iter().sum::<u64>() >= rounds / 4, "the rounds did something: {steps:?}");
    println!("{rounds} rounds, {steps:?} steps");
}

/// Opens the store and checks that it is as after some number of steps of each thread.
fn check(root: &Path) -> Vec<u64> {
    let cache = Cache::open(root.join("store"), &options(0)).unwrap();
    (0..THREADS).map(|thread| stands_at(&cache, thread, acked(root, thread))).collect()
}

// ---- Out of disk ------------------------------------------------------------------------

/// Runs into a limit on file sizes and goes on when it is lifted.
fn full_disk(root: &Path) {
    let durability = Durability::EveryMs(20);
    let options = Options { durability, ..options(0) };
    let cache = Cache::open(root.join("store"), &options).expect("a fresh store");
    let write = |s: u64| match step(0, s) {
        (key, Some(value)) => cache.insert(&key, value),
        (key, None) => cache.remove(&key),
    };
    let mut s = 0;
    while s < 2000 {
        s += 1;
        write(s).expect("a good disk");
    }
    cache.save().expect("a good disk");

    limit_file_size(Some(64));
    let refused = loop {
        match write(s + 1) {
            Ok(()) => s += 1,
            Err(error) => break error,
        }
        assert!(s < 100_000, "memory is bounded, so somebody must refuse");
    };
    let no_space = |refusal: Refusal| refusal.failure().kind == ErrorKind::NoSpace;
    assert!(matches!(refused, Error::Refused(r) if no_space(r)), "{refused}");
    assert_eq!(stands_at(&cache, 0, s), s, "reads go on, of memory and disk");

    limit_file_size(None);
    // Room for one write may be there before the engine is tried again; a save tells that it was.
    let begin = Instant::now();
    while write(s + 1).is_err() || cache.save().is_err() {
        assert!(begin.elapsed() < DEADLINE, "it recovers without a restart");
        std::thread::sleep(Duration::from_millis(10));
    }
    s += 1;
    println!("writes go on after {:?}", begin.elapsed());
    for _ in 0..1000 {
        s += 1;
        write(s).expect("a good disk");
    }
    assert_eq!(stands_at(&cache, 0, s), s);
    cache.sync().expect("a good disk");
    std::fs::write(ack_file(root, 0), s.to_le_bytes()).unwrap();
}

#[test]
fn a_cache_survives_a_full_disk_without_a_restart() {
    let scratch = tempfile::tempdir().unwrap();
    let output = command("full", scratch.path(), 0, &IGNORING_XFSZ).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(check(scratch.path())[0], acked(scratch.path(), 0));
}

// ---- Ten times its memory ---------------------------------------------------------------

const SOAK_VALUE: usize = 1000;
/// What one command and the largest record of a read may add to the limit.
const SOAK_SLACK: u64 = 256 << 10;
/// What a process needs beside the cache: code, stacks, and what the allocator keeps. The last
/// grows with the cache, since glibc keeps an arena for each thread and values are freed by other
/// threads than those that made them: under a limit of 64 MiB 135 MiB, and 72 MiB with
/// `MALLOC_ARENA_MAX=1`.
fn process_bytes_max(limit: u64) -> u64 {
    limit + limit / 4 + (64 << 20).min((16 << 20) + limit)
}

fn from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |n| n.parse().expect("a number"))
}

/// What the operating system gave this process for itself: no file pages.
fn anon_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() << 10
}

struct Gauge(&'static str, u64);

impl Metrics for Gauge {
    fn counter(&mut self, name: &'static str, value: u64) {
        self.gauge(name, value);
    }
    fn gauge(&mut self, name: &'static str, value: u64) {
        if name == self.0 {
            self.1 = value;
        }
    }
    fn times(&mut self, _: &'static str, _: &Histogram) {}
}

fn gauge(cache: &Cache, name: &'static str) -> u64 {
    let mut gauge = Gauge(name, u64::MAX);
    cache.report(&mut gauge).unwrap();
    assert_ne!(gauge.1, u64::MAX, "no figure {name}");
    gauge.1
}

/// Fills a cache with ten times its limit, then reads and writes at random from two threads; a
/// third samples the memory of the process each second from the start.
fn soak(root: &Path, time: Duration) {
    let limit = from_env("FLINTLOCK_SOAK_MIB", 4) << 20;
    let keys = 10 * limit / SOAK_VALUE as u64;
    let options = Options {
        memory_bytes: limit,
        durability: Durability::EveryMs(100),
        journal_bytes: 16 << 20,
        ..Options::default()
    };
    let cache = Cache::open(root.join("store"), &options).unwrap();
    let (is_over, done) = (AtomicBool::new(false), &AtomicU64::new(0));
    let value = |key: u64, s: u64| {
        let bytes = [key.to_le_bytes(), s.to_le_bytes()].concat();
        bytes.into_iter().cycle().take(SOAK_VALUE).collect::<Vec<u8>>()
    };
    let act = &|rng: &mut Rng| {
        let key = rng.below(keys);
        if rng.below(4) == 0 {
            cache.insert(&key, value(key, rng.next_u64())).unwrap();
        } else {
            let found = cache.get(&key).unwrap().expect("nothing is ever dropped");
            assert_eq!((&found[..8], found.len()), (&key.to_le_bytes()[..], SOAK_VALUE));
        }
        done.fetch_add(1, Ordering::Relaxed);
    };
    let peak = std::thread::scope(|scope| {
        let sampler = scope.spawn(|| sample(&is_over));
        for key in 0..keys {
            cache.insert(&key, value(key, 0)).unwrap();
        }
        let begin = Instant::now();
        let workers = [1, 2].map(|seed| {
            scope.spawn(move || {
                let mut rng = Rng::new(seed);
                // On a slow disk until it did something.
                while begin.elapsed() < time || done.load(Ordering::Relaxed) <= 1000 {
                    act(&mut rng);
                }
            })
        });
        let results = workers.map(|worker| worker.join());
        is_over.store(true, Ordering::Relaxed);
        assert!(results.iter().all(Result::is_ok), "a worker failed");
        sampler.join().unwrap()
    });
    let (accounted, done) = (gauge(&cache, "memory_bytes_peak"), done.load(Ordering::Relaxed));
    println!(
        "soak: {keys} keys, {done} operations, {} evictions; limit {} KiB, accounted at most {} \
         KiB, process at most {} KiB",
        gauge(&cache, "evictions"),
        limit >> 10,
        accounted >> 10,
        peak >> 10
    );
    assert!(done > 1000, "it did something");
    assert!(accounted <= limit + SOAK_SLACK, "the accounts keep the limit");
    assert!(peak <= process_bytes_max(limit), "so does the process, about");
}

/// The most memory that the process had in any second until `is_over`.
fn sample(is_over: &AtomicBool) -> u64 {
    let mut peak = 0;
    for second in 0.. {
        let bytes = anon_bytes();
        peak = peak.max(bytes);
        if second % 10 == 0 {
            println!("{second} s: {} KiB of memory", bytes >> 10);
        }
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    peak
}

/// `FLINTLOCK_SOAK_SECONDS` and `FLINTLOCK_SOAK_MIB` say how long and how large; see `make soak`.
#[test]
fn ten_times_its_memory_stays_within_its_memory() {
    let scratch = tempfile::tempdir().unwrap();
    let seconds = from_env("FLINTLOCK_SOAK_SECONDS", 4);
    let output = command("soak", scratch.path(), seconds, &[]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    println!("{text}");
}
