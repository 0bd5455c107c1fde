//! Three ways to use the LSM tree under fjall, and what each costs: which one the product takes.
//!
//! | way | what it is |
//! |---|---|
//! | driven | the tree alone: sorted ingestion of each batch, merges as jobs (`FjallStore`) |
//! | ingestion | fjall: sorted ingestion of each batch, merges on its own threads |
//! | batches | fjall: plain batches of 100 through journal and memtable, a sync for each batch |
//!
//! Each way runs in a process of its own, one after another, round by round. Only CPU time and
//! bytes are compared, which a loaded machine distorts little; wall times are not printed.
//!
//! `cargo bench -p flintlock-benches --bench engine_ways -- [keys [batch [rounds]]]`

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flintlock_diskcache::key::{KeyBuf, KeyRef, Seq, Space};
use flintlock_diskcache::storage::fjall::{FjallOptions, FjallStore};
use flintlock_diskcache::storage::{Batch, Before, Meta, Record, Storage, Write};

const VALUE_LEN: usize = 512;
const CACHE_BYTES: u64 = 64 << 20;
const GETS: u64 = 200_000;

fn main() {
    let args: Vec<String> = std::env::args().filter(|a| a != "--bench").collect();
    if let [_, flag, way, keys, batch] = &args[..]
        && flag == "--one"
    {
        return one(way, parse(keys), parse(batch));
    }
    let number = |at: usize, default| args.get(at).map_or(default, |a| parse(a));
    let (keys, batch, rounds) = (number(1, 1_000_000), number(2, 50_000), number(3, 1));
    println!("{keys} keys of 8 bytes, values of {VALUE_LEN}, batches of {batch}; CPU in us");
    println!("way        phase       CPU/key  MiB written  MiB on disk  anon MiB");
    for _ in 0..rounds {
        for way in ["driven", "ingestion", "batches"] {
            let exe = std::env::current_exe().expect("the bench runs from a file");
            let mut one = Command::new(exe);
            one.args(["--one", way, &keys.to_string(), &batch.to_string()]);
            assert!(one.status().expect("a child").success(), "{way} failed");
        }
    }
}

fn parse(arg: &str) -> u64 {
    arg.parse().expect("a number")
}

/// One way to keep records: ascending puts and deletes in, point reads out.
trait Way {
    fn write(&mut self, batch: Vec<(u64, Option<Arc<[u8]>>)>);
    fn get(&self, key: u64) -> bool;
    fn settle(&mut self);
}

fn one(way: &str, keys: u64, batch: u64) {
    let dir = std::env::temp_dir().join(format!("engine-ways-{}-{way}", std::process::id()));
    let mut store: Box<dyn Way> = match way {
        "driven" => Box::new(Driven::new(&dir)),
        other => Box::new(Fjall::new(&dir, other == "ingestion")),
    };
    let mut report = Report { way, dir: &dir, cpu: cpu_us(), written: written_mib() };
    for phase in ["load", "overwrite"] {
        for_batches(keys, batch, keys, |part, draw| {
            store.write(part.iter().map(|&k| (k, Some(value(k, draw)))).collect());
        });
        report.line(phase, keys);
        store.settle();
        report.line("  settled", keys);
    }
    let mut draw = Draw(9);
    let hits = (0..GETS).filter(|_| store.get(draw.next() % keys)).count();
    assert_eq!(hits as u64, GETS, "every key is there");
    report.line("get", GETS);
    let hits = (0..GETS).filter(|_| store.get(keys + draw.next() % keys)).count();
    assert_eq!(hits, 0, "no other key is there");
    report.line("miss", GETS);
    for_batches(keys, batch, keys / 2, |part, _| {
        store.write(part.iter().map(|&k| (k, None)).collect());
    });
    report.line("delete half", keys / 2);
    store.settle();
    report.line("  settled", keys / 2);
    drop(store);
    std::fs::remove_dir_all(&dir).expect("our own directory");
}

/// Calls `each` with batches of the first `take` keys of a fixed random order, each sorted.
fn for_batches(keys: u64, batch: u64, take: u64, mut each: impl FnMut(&[u64], &mut Draw)) {
    let mut draw = Draw(keys);
    let mut order: Vec<u64> = (0..keys).collect();
    for i in (1..order.len()).rev() {
        let j = usize::try_from(draw.next() % (i as u64 + 1)).expect("an index");
        order.swap(i, j);
    }
    order.truncate(usize::try_from(take).expect("fits"));
    for part in order.chunks_mut(usize::try_from(batch).expect("fits")) {
        part.sort_unstable();
        each(part, &mut draw);
    }
}

fn value(key: u64, draw: &mut Draw) -> Arc<[u8]> {
    let mut out = Vec::with_capacity(VALUE_LEN);
    out.extend_from_slice(&key.to_be_bytes());
    while out.len() < VALUE_LEN {
        out.extend_from_slice(&draw.next().to_le_bytes());
    }
    out.into()
}

struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

struct Driven {
    store: FjallStore,
    seq: Seq,
}

impl Driven {
    fn new(dir: &Path) -> Self {
        let options = FjallOptions { cache_bytes: CACHE_BYTES, ..FjallOptions::default() };
        Self { store: FjallStore::open(dir, options).expect("a fresh store"), seq: Seq(0) }
    }
}

fn disk_key(key: u64) -> KeyBuf {
    KeyRef { space: Space(1), hash: key, key: &[] }.to_buf()
}

impl Way for Driven {
    fn write(&mut self, batch: Vec<(u64, Option<Arc<[u8]>>)>) {
        let first = self.seq == Seq(0);
        self.seq = self.seq.next();
        let write = |(key, payload): (u64, Option<Arc<[u8]>>)| Write {
            key: disk_key(key),
            record: payload.map(|payload| Record { seq: self.seq, expires_at_ms: None, payload }),
            before: if first { Before::Absent } else { Before::Unknown },
        };
        let writes = batch.into_iter().map(write).collect();
        let meta = Meta { watermark: self.seq, highest: self.seq, ..Meta::default() };
        self.store.commit(Batch { writes, meta }).expect("a good disk");
        self.store.maintain(Duration::ZERO).expect("a good disk");
    }

    fn get(&self, key: u64) -> bool {
        let mut out = Vec::new();
        self.store.get_many(&[disk_key(key)], &mut out).expect("a good disk");
        out[0].is_some()
    }

    fn settle(&mut self) {
        while self.store.maintain(Duration::from_secs(1)).expect("a good disk") {}
    }
}

struct Fjall {
    db: fjall::Database,
    keyspace: fjall::Keyspace,
    sorted: bool,
}

impl Fjall {
    fn new(dir: &Path, sorted: bool) -> Self {
        let db = fjall::Database::builder(dir).cache_size(CACHE_BYTES).worker_threads(1).open();
        let db = db.expect("a fresh store");
        let options = || fjall::KeyspaceCreateOptions::default().max_memtable_size(16 << 20);
        let keyspace = db.keyspace("data", options).expect("a keyspace");
        Self { db, keyspace, sorted }
    }
}

impl Way for Fjall {
    fn write(&mut self, batch: Vec<(u64, Option<Arc<[u8]>>)>) {
        if self.sorted {
            let mut ingestion = self.keyspace.start_ingestion().expect("a good disk");
            for (key, payload) in &batch {
                let key = key.to_be_bytes();
                match payload {
                    Some(payload) => ingestion.write(key, &**payload),
                    None => ingestion.write_tombstone(key),
                }
                .expect("a good disk");
            }
            return ingestion.finish().expect("a good disk");
        }
        for part in batch.chunks(100) {
            let mut out = self.db.batch();
            for (key, payload) in part {
                let key = key.to_be_bytes();
                match payload {
                    Some(payload) => out.insert(&self.keyspace, key, &**payload),
                    None => out.remove(&self.keyspace, key),
                }
            }
            out.commit().expect("a good disk");
        }
        self.db.persist(fjall::PersistMode::SyncAll).expect("a good disk");
    }

    fn get(&self, key: u64) -> bool {
        self.keyspace.get(key.to_be_bytes()).expect("a good disk").is_some()
    }

    /// Waits until its threads have written nothing for a while.
    fn settle(&mut self) {
        let (mut quiet, mut last) = (Instant::now(), cpu_us());
        while quiet.elapsed() < Duration::from_secs(2) {
            std::thread::sleep(Duration::from_millis(100));
            let now = cpu_us();
            if now - last > 20_000 {
                quiet = Instant::now();
            }
            last = now;
        }
    }
}

struct Report<'a> {
    way: &'a str,
    dir: &'a Path,
    cpu: u64,
    written: u64,
}

impl Report<'_> {
    fn line(&mut self, phase: &str, keys: u64) {
        let (cpu, written) = (cpu_us(), written_mib());
        println!(
            "{:<10} {phase:<11} {:>7.2} {:>12} {:>12} {:>9}",
            self.way,
            (cpu - self.cpu) as f64 / keys as f64,
            written - self.written,
            disk_mib(self.dir),
            anon_mib(),
        );
        (self.cpu, self.written) = (cpu_us(), written);
    }
}

fn proc_field(file: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(file).expect("proc is mounted");
    let line = text.lines().find(|l| l.starts_with(name)).expect("the field is there");
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number")
}

fn written_mib() -> u64 {
    proc_field("/proc/self/io", "write_bytes") >> 20
}

fn anon_mib() -> u64 {
    proc_field("/proc/self/status", "RssAnon") >> 10
}

/// CPU of all threads, the finished ones too.
fn cpu_us() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("proc is mounted");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |i: usize| fields[i].parse::<u64>().expect("a number");
    (ticks(11) + ticks(12)) * 10_000
}

fn disk_mib(dir: &Path) -> u64 {
    fn bytes(dir: &Path) -> u64 {
        let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
        let of = |e: std::io::Result<std::fs::DirEntry>| {
            let e = e.ok()?;
            let meta = e.metadata().ok()?;
            Some(if meta.is_dir() { bytes(&e.path()) } else { meta.len() })
        };
        entries.filter_map(of).sum()
    }
    bytes(dir) >> 20
}
