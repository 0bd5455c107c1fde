//! Setting up, measuring and saying what came out. Any thread; panics when something is wrong.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use flintlock_diskcache::cache::Durability;
use flintlock_diskcache::cache::stats::{Histogram, Metrics};
use flintlock_diskcache::key::{KeyBuf, KeyRef, Seq, Space};
use flintlock_diskcache::storage::{Batch, Before, Meta, Record, Storage, Write};
use flintlock_diskcache::{Codec, DiskCache, Options};

/// Bytes of a value, everywhere.
pub(crate) const VALUE_LEN: usize = 512;
/// Bytes of a key and its value: what the user has stored.
pub(crate) const LIVE_LEN: u64 = VALUE_LEN as u64 + 8;

/// The cache that is measured.
pub(crate) type Subject = DiskCache<u64, Vec<u8>>;

/// How much of everything.
#[derive(Debug)]
pub(crate) struct Scale {
    /// Limit of the cache where data must be larger than memory.
    pub(crate) memory_bytes: u64,
    /// Rounds in which contenders take turns.
    pub(crate) rounds: usize,
    /// Keys that fit into memory.
    pub(crate) warm_keys: u64,
}

impl Scale {
    /// For figures.
    pub(crate) const FULL: Self = Self { memory_bytes: 16 << 20, rounds: 7, warm_keys: 20_000 };
    /// For trying out whether it runs.
    pub(crate) const SMALL: Self = Self { memory_bytes: 4 << 20, rounds: 3, warm_keys: 4_000 };

    /// Keys whose values are ten times the limit.
    pub(crate) const fn cold_keys(&self) -> u64 {
        10 * self.memory_bytes / VALUE_LEN as u64
    }
}

/// Says where and how the figures were taken.
pub(crate) fn machine(scale: &Scale) {
    let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let info = text("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name\t: ")).unwrap_or("?");
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let load = text("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or("?");
    println!("{model}, {cpus} CPUs, load {load} at the start; {scale:?}; values of {VALUE_LEN} B");
}

/// Heads the lines of one part.
pub(crate) fn title(name: &str, set_up: &str) {
    println!("\n{name}: {set_up}\n");
    println!("| what | measured | wanted | |");
    println!("|---|---|---|---|");
}

/// One line of the report.
pub(crate) fn line(what: &str, measured: &str, wanted: &str, is_reached: Option<bool>) {
    let verdict = match is_reached {
        Some(true) => "reached",
        Some(false) => "not reached",
        None => "",
    };
    println!("| {what} | {measured} | {wanted} | {verdict} |");
}

/// Where the files of this run lie; removed when dropped.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("cache-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a writable directory");
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).expect("our own directory");
    }
}

/// A cheap and repeatable source of numbers (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Draw(pub(crate) u64);

impl Draw {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// The numbers below `count` in a fixed random order.
pub(crate) fn shuffled(count: u64) -> Vec<u64> {
    let mut draw = Draw(count);
    let mut order: Vec<u64> = (0..count).collect();
    for i in (1..order.len()).rev() {
        order.swap(i, index(draw.below(i as u64 + 1)));
    }
    order
}

pub(crate) fn index(n: u64) -> usize {
    usize::try_from(n).expect("an index")
}

/// A value that does not compress and that names its key.
pub(crate) fn value(key: u64, seed: u64) -> Vec<u8> {
    let mut draw = Draw(seed ^ key);
    let mut out = Vec::with_capacity(VALUE_LEN);
    out.extend_from_slice(&key.to_be_bytes());
    while out.len() < VALUE_LEN {
        out.extend_from_slice(&draw.next().to_le_bytes());
    }
    out
}

pub(crate) fn options(memory_bytes: u64) -> Options {
    let durability = Durability::EveryMs(1000);
    Options { memory_bytes, durability, journal_bytes: 32 << 20, ..Options::default() }
}

/// How it reads in a heading.
pub(crate) fn described(options: &Options) -> String {
    let Options { memory_bytes, durability, flush_delay, journal_bytes, .. } = options;
    format!(
        "limit {} MiB, {durability:?}, flush delay {flush_delay:?}, journal {} MiB",
        memory_bytes >> 20,
        journal_bytes >> 20
    )
}

#[derive(Default)]
struct Figures(BTreeMap<&'static str, u64>);

impl Metrics for Figures {
    fn counter(&mut self, name: &'static str, value: u64) {
        self.0.insert(name, value);
    }
    fn gauge(&mut self, name: &'static str, value: u64) {
        self.0.insert(name, value);
    }
    fn times(&mut self, name: &'static str, histogram: &Histogram) {
        self.0.insert(name, histogram.count());
    }
}

/// A counter or gauge of the cache.
pub(crate) fn figure<K: Codec, V: Codec>(cache: &DiskCache<K, V>, name: &str) -> u64 {
    let mut figures = Figures::default();
    cache.report(&mut figures).expect("a good cache");
    figures.0[name]
}

// ---- The engine alone -------------------------------------------------------------------

/// The form of `key` that the engine sees, spread like the cache's.
pub(crate) fn disk_key(key: u64) -> KeyBuf {
    KeyRef { space: Space(1), hash: Draw(key).next(), key: &key.to_be_bytes() }.to_buf()
}

/// Writes `keys` as one durable batch and merges what is due, as the cache would.
pub(crate) fn commit(store: &impl Storage, keys: &[u64], seed: u64, number: u64) {
    let seq = Seq(number);
    let write = |&key: &u64| {
        let payload = value(key, seed).into();
        let record = Some(Record { seq, expires_at_ms: None, payload });
        Write { key: disk_key(key), record, before: Before::Absent }
    };
    let writes = keys.iter().map(write).collect();
    let meta = Meta { watermark: seq, highest: seq, ..Meta::default() };
    store.commit(Batch { writes, meta }).expect("a good disk");
    while store.maintain(Duration::from_millis(20)).expect("a good disk") {}
}

// ---- Times ------------------------------------------------------------------------------

pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The value below which `permille` thousandths of the samples lie.
pub(crate) fn quantile(samples: &mut [u64], permille: usize) -> u64 {
    samples.sort_unstable();
    samples[(samples.len() * permille / 1000).min(samples.len() - 1)]
}

pub(crate) fn seconds(run: impl FnOnce()) -> f64 {
    let begin = Instant::now();
    run();
    begin.elapsed().as_secs_f64()
}

/// Nanoseconds of CPU that this thread takes for `run`.
pub(crate) fn thread_ns(run: impl FnOnce()) -> f64 {
    let cpu = || flintlock_iothreads::thread_cpu_time().expect("this system counts CPU time");
    let begin = cpu();
    run();
    (cpu() - begin).as_secs_f64() * 1e9
}

/// CPU seconds of all threads of this process, the finished ones too.
pub(crate) fn process_cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("proc is mounted");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |i: usize| fields[i].parse::<f64>().expect("a number");
    (ticks(11) + ticks(12)) / 100.0
}

// ---- Disks ------------------------------------------------------------------------------

fn files(dir: &Path, each: &mut impl FnMut(&Path)) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        if path.is_dir() { files(&path, each) } else { each(&path) }
    }
}

/// Bytes that the files below `dir` take on disk; files may go while it looks.
pub(crate) fn disk_bytes(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    files(dir, &mut |path| bytes += path.metadata().map_or(0, |meta| meta.blocks() * 512));
    bytes
}

/// Asks the kernel to forget what it caches of the files below `dir`.
pub(crate) fn drop_pages(dir: &Path) {
    files(dir, &mut |path| {
        let Ok(file) = std::fs::File::open(path) else { return };
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("a file");
    });
}
