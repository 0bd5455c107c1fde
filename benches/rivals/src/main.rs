//! `DiskCache` beside foyer, moka and quick_cache: what each costs, keeps and loses.
//!
//! `make bench-rivals`. Every figure comes from a process of its own, contender after contender,
//! round after round; the table shows medians. The tests:
//!
//! | test | what |
//! |---|---|
//! | hit | 20,000 keys of 8 bytes with values of 512, all in memory; gets of random keys |
//! | small | 200,000 values of 64 bytes without a limit that matters: memory of the process |
//! | large | ten times the limit put in by one thread, then random gets: found, speed, memory |
//! | kill | 20,000 values put in, told to make them durable where that can be told, kill -9 |
//!
//! moka and quick_cache hold data in memory only; their `kill` is 0 without being run.

mod contenders;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use contenders::{Contender, NAMES, open};

/// Limit of a cache that is too small for its data, and of one that is not.
const SMALL_LIMIT: u64 = 16 << 20;
const LARGE_LIMIT: u64 = 256 << 20;
const VALUE_LEN: usize = 512;
const HIT_KEYS: u64 = 20_000;
const HITS: u64 = 1_000_000;
const SMALL_KEYS: u64 = 200_000;
const LARGE_KEYS: u64 = 10 * SMALL_LIMIT / VALUE_LEN as u64;
const LARGE_GETS: u64 = 50_000;
const ROUNDS: usize = 3;

const TESTS: [(&str, &[&str]); 4] = [
    ("hit", &["ns CPU a hit", "M hits/s, 1 thread", "M hits/s, 2 threads"]),
    ("small", &["bytes beside key and value, an entry"]),
    ("large", &["k puts/s", "% found", "k gets/s", "MiB of memory for a limit of 16"]),
    ("kill", &["% found after kill -9"]),
];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, name, test, dir] = &args[..]
        && flag == "--one"
    {
        return one(name, test, Path::new(dir));
    }
    println!("medians of {ROUNDS} rounds; DiskCache with EveryMs(100)\n");
    println!("| | {} |", NAMES.join(" | "));
    println!("|---|{}", "---:|".repeat(NAMES.len()));
    for (test, figures) in TESTS {
        let mut results = vec![vec![Vec::new(); figures.len()]; NAMES.len()];
        for _ in 0..ROUNDS {
            for (name, results) in NAMES.iter().zip(&mut results) {
                for (result, figure) in results.iter_mut().zip(run(name, test)) {
                    result.push(figure);
                }
            }
        }
        for (at, figure) in figures.iter().enumerate() {
            let cells = results.iter_mut().map(|result| shown(median(&mut result[at])));
            println!("| {figure} | {} |", cells.collect::<Vec<_>>().join(" | "));
        }
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn shown(value: f64) -> String {
    if value < 10.0 { format!("{value:.2}") } else { format!("{value:.0}") }
}

/// Runs one test of one contender in a process of its own; its figures.
fn run(name: &str, test: &str) -> Vec<f64> {
    if test == "kill" && !contenders::is_on_disk(name) {
        return vec![0.0];
    }
    let dir = tempfile::tempdir().expect("a writable directory");
    if test == "kill" {
        let mut child = spawn(name, "fill", dir.path());
        let mut line = String::new();
        let output = child.stdout.take().expect("it was asked for");
        BufReader::new(output).read_line(&mut line).expect("it says when it is done");
        child.kill().expect("our own child");
        child.wait().expect("our own child");
    }
    let child = spawn(name, test, dir.path()).wait_with_output().expect("our own child");
    assert!(child.status.success(), "{name} failed at {test}");
    let text = String::from_utf8(child.stdout).expect("it prints numbers");
    text.split_whitespace().map(|figure| figure.parse().expect("a number")).collect()
}

fn spawn(name: &str, test: &str, dir: &Path) -> std::process::Child {
    let exe = std::env::current_exe().expect("it runs from a file");
    let mut command = Command::new(exe);
    command.args(["--one", name, test]).arg(dir).stdin(Stdio::null()).stdout(Stdio::piped());
    command.spawn().expect("a process")
}

fn one(name: &str, test: &str, dir: &Path) {
    match test {
        "hit" => hit(&*open(name, dir, LARGE_LIMIT)),
        "small" => small(name, dir),
        "large" => large(&*open(name, dir, SMALL_LIMIT)),
        "fill" => fill(&*open(name, dir, LARGE_LIMIT)),
        "kill" => println!("{}", found(&*open(name, dir, LARGE_LIMIT), HIT_KEYS, HIT_KEYS, None)),
        other => panic!("no test {other}"),
    }
}

/// splitmix64.
fn mix(n: u64) -> u64 {
    let z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A value that begins with its key and does not compress.
fn value(key: u64, len: usize) -> Vec<u8> {
    let words = (1..).map(|n| if n == 1 { key } else { mix(key ^ n << 40) });
    words.flat_map(u64::to_le_bytes).take(len).collect()
}

fn hit(cache: &dyn Contender) {
    (0..HIT_KEYS).for_each(|key| cache.put(key, value(key, VALUE_LEN)));
    let gets = |seed: u64, count: u64| {
        let hits = (0..count).filter(|n| cache.hit(mix(n ^ seed << 32) % HIT_KEYS));
        assert_eq!(hits.count() as u64, count, "all keys are in memory");
    };
    gets(9, HITS / 10);
    let (begin, cpu) = (Instant::now(), cpu_ns());
    gets(1, HITS);
    let (one, cpu) = (begin.elapsed(), cpu_ns() - cpu);
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for seed in 2..4 {
            scope.spawn(move || gets(seed, HITS));
        }
    });
    let two = begin.elapsed();
    let rate = |hits: u64, time: Duration| hits as f64 / time.as_secs_f64() / 1e6;
    println!("{} {} {}", cpu as f64 / HITS as f64, rate(HITS, one), rate(2 * HITS, two));
}

fn small(name: &str, dir: &Path) {
    const LEN: usize = 64;
    let before = anon_bytes();
    let cache = open(name, dir, LARGE_LIMIT);
    (0..SMALL_KEYS).for_each(|key| cache.put(key, value(key, LEN)));
    cache.settle();
    let bytes = (anon_bytes() - before) as f64 / SMALL_KEYS as f64;
    assert!((0..SMALL_KEYS).all(|key| cache.hit(key)), "all keys are in memory");
    println!("{}", bytes - (LEN + 8) as f64);
}

fn large(cache: &dyn Contender) {
    let begin = Instant::now();
    (0..LARGE_KEYS).for_each(|key| cache.put(key, value(key, VALUE_LEN)));
    let put = LARGE_KEYS as f64 / begin.elapsed().as_secs_f64() / 1e3;
    cache.settle();
    let begin = Instant::now();
    let found = found(cache, LARGE_GETS, LARGE_KEYS, Some(1));
    let got = LARGE_GETS as f64 / begin.elapsed().as_secs_f64() / 1e3;
    println!("{put} {found} {got} {}", anon_bytes() as f64 / f64::from(1 << 20));
}

fn fill(cache: &dyn Contender) {
    (0..HIT_KEYS).for_each(|key| cache.put(key, value(key, VALUE_LEN)));
    cache.settle();
    println!("done");
    std::thread::sleep(Duration::from_secs(60));
}

/// Per cent of `gets` gets that found the right value: of random keys, or of each in turn.
fn found(cache: &dyn Contender, gets: u64, keys: u64, seed: Option<u64>) -> f64 {
    let key = |n: u64| seed.map_or(n, |seed| mix(n ^ seed << 32) % keys);
    let found = (0..gets).filter(|n| {
        let found = cache.get(key(*n));
        assert!(found.as_ref().is_none_or(|found| found[..8] == key(*n).to_le_bytes()));
        found.is_some()
    });
    found.count() as f64 * 100.0 / gets as f64
}

fn field(path: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(path).expect("proc is mounted");
    let line = text.lines().find(|line| line.starts_with(name)).expect("the field is there");
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number")
}

/// What the operating system gave this process for itself: no file pages.
fn anon_bytes() -> u64 {
    field("/proc/self/status", "RssAnon") << 10
}

/// CPU of this thread.
fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("proc is mounted");
    text.split(' ').next().and_then(|n| n.parse().ok()).expect("a number")
}
