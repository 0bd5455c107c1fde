//! Holds any engine to the contract of [`Storage`], against a map.
//!
//! For tests, also of engines outside of this crate: implement [`Subject`] and call [`check`] with
//! as many seeds as there is time for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::journal::sim::Draw;
use crate::key::{KeyBuf, KeyRef, Seq, Space};
use crate::storage::codec::ENGINE_KEY_MAX;
use crate::storage::{Batch, Before, Meta, Record, Scanned, Storage, Write};

/// Gives the suite stores to try.
pub trait Subject {
    /// The store in the state it was left in; empty at first. The last one given out is dropped.
    fn open(&mut self) -> Box<dyn Storage>;

    /// An empty directory for a backup.
    fn backup_dir(&mut self) -> PathBuf;

    /// The store in a backup.
    fn restored(&mut self, backup: &Path) -> Box<dyn Storage>;
}

/// Runs `steps` drawn from `seed`: batches, reads, scans, maintenance, reopening, dead spaces and
/// backups, and compares everything with a map.
///
/// # Panics
/// At the first difference, saying what it is.
pub fn check(subject: &mut dyn Subject, seed: u64, steps: usize) {
    let store = subject.open();
    let mut run = Run { draw: Draw(seed), store, model: Model::default(), seq: 0 };
    run.empty();
    for step in 0..steps {
        match run.draw.next() % 16 {
            0..=7 => run.batch(),
            8 | 9 => run.reads(),
            10 => run.scans(),
            11 | 12 => {
                run.store.maintain(Duration::ZERO).expect("maintenance of a good store");
            }
            13 => run.settle(),
            14 => {
                run.store = Box::new(crate::storage::memory::MemoryStore::new());
                run.store = subject.open();
            }
            _ => run.backup(subject),
        }
        if step % 8 == 0 {
            run.kill_a_space();
        }
        run.meta();
    }
    run.settle();
    run.reads();
    run.scans();
}

#[derive(Debug, Default)]
struct Model {
    records: BTreeMap<KeyBuf, Record>,
    meta: Meta,
}

struct Run {
    draw: Draw,
    store: Box<dyn Storage>,
    model: Model,
    seq: u64,
}

impl Run {
    fn empty(&mut self) {
        assert_eq!(self.store.meta().expect("an empty store"), Meta::default());
        self.model.meta.spaces = (1..4).map(Space).collect();
        self.model.meta.next_space = 4;
        self.reads();
        self.scans();
    }

    /// A key out of a small set with the awkward ones: empty, long, equal hashes, extreme hashes.
    fn key(&mut self) -> KeyBuf {
        let live = &self.model.meta.spaces;
        let space = live[usize::try_from(self.draw.next()).unwrap_or(0) % live.len()];
        let n = self.draw.next() % 300;
        let hash = match n % 5 {
            0 => 0,
            1 => u64::MAX,
            _ => n.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        };
        let key = match n {
            0 => Vec::new(),
            1 => vec![b'x'; ENGINE_KEY_MAX],
            2 => vec![b'x'; ENGINE_KEY_MAX + 1],
            3 => vec![b'y'; 3 * ENGINE_KEY_MAX],
            _ => n.to_be_bytes().to_vec(),
        };
        KeyRef { space, hash, key: &key }.to_buf()
    }

    fn record(&mut self) -> Record {
        self.seq += 1;
        let len = match self.draw.next() % 64 {
            0 => 0,
            1 => 300_000,
            n => n * 20,
        };
        let byte = self.draw.next().to_le_bytes()[0];
        let payload: Vec<u8> = (0..len).map(|i| byte ^ i.to_le_bytes()[0]).collect();
        let expiring = self.draw.next().is_multiple_of(4);
        let expires_at_ms = expiring.then(|| self.draw.next());
        Record { seq: Seq(self.seq), expires_at_ms, payload: payload.into() }
    }

    fn batch(&mut self) {
        let mut writes: BTreeMap<KeyBuf, Write> = BTreeMap::new();
        for _ in 0..self.draw.next() % 200 {
            let key = self.key();
            let delete = self.draw.next().is_multiple_of(3);
            let record = if delete { None } else { Some(self.record()) };
            let before = match (self.draw.next() % 2, self.model.records.contains_key(&key)) {
                (0, _) => Before::Unknown,
                (_, true) => Before::Present,
                (_, false) => Before::Absent,
            };
            writes.insert(key.clone(), Write { key, record, before });
        }
        // Any order: the engine sorts.
        let mut writes: Vec<Write> = writes.into_values().collect();
        if self.draw.next().is_multiple_of(2) {
            writes.reverse();
        }
        self.commit(writes);
    }

    fn commit(&mut self, writes: Vec<Write>) {
        self.seq += 1;
        let meta = &mut self.model.meta;
        meta.watermark = Seq(self.seq.midpoint(meta.watermark.0));
        meta.highest = Seq(self.seq);
        for write in &writes {
            match write.record.clone() {
                Some(record) => self.model.records.insert(write.key.clone(), record),
                None => self.model.records.remove(&write.key),
            };
        }
        let dead = meta.dead.clone();
        self.model.records.retain(|key, _| !dead.contains(&key.as_ref().space));
        let batch = Batch { writes, meta: meta.clone() };
        let counts = self.store.commit(batch).expect("a good store takes a batch");
        let mut expected: BTreeMap<Space, u64> = BTreeMap::new();
        for key in self.model.records.keys() {
            *expected.entry(key.as_ref().space).or_default() += 1;
        }
        for space in &meta.spaces {
            let (got, want) = (counts.get(space), expected.get(space));
            assert_eq!(got.copied().unwrap_or(0), want.copied().unwrap_or(0), "count of {space:?}");
        }
        // A dead space is reported until nothing of it is left; the author then forgets it.
        meta.dead.retain(|space| counts.contains_key(space));
        meta.counts = counts;
    }

    /// Like FLUSHDB: one database maps to a fresh space from now on.
    fn kill_a_space(&mut self) {
        let meta = &mut self.model.meta;
        let at = usize::try_from(self.draw.next()).unwrap_or(0) % meta.spaces.len();
        let fresh = Space(meta.next_space);
        meta.next_space += 1;
        let old = std::mem::replace(&mut meta.spaces[at], fresh);
        meta.dead.push(old);
        self.commit(Vec::new());
    }

    fn reads(&mut self) {
        let keys: Vec<KeyBuf> = (0..self.draw.next() % 40).map(|_| self.key()).collect();
        let mut out = vec![None];
        self.store.get_many(&keys, &mut out).expect("a good store answers");
        assert_eq!(out.len(), keys.len() + 1, "one answer for each key, behind what was there");
        for (key, got) in keys.iter().zip(&out[1..]) {
            assert_eq!(got.as_ref(), self.model.records.get(key), "record of {key:?}");
        }
    }

    fn scans(&mut self) {
        let limit = usize::try_from(1 + self.draw.next() % 50).unwrap_or(1);
        let limit_bytes = usize::try_from(self.draw.next() % 100_000).unwrap_or(1);
        for &space in &self.model.meta.spaces {
            let got = scan_all(&*self.store, space, limit, limit_bytes);
            let model = self.model.records.iter().filter(|(k, _)| k.as_ref().space == space);
            let mut count = 0;
            for (item, (key, record)) in got.iter().zip(model.clone()) {
                assert_eq!((&item.key, &item.record), (key, record), "scan of {space:?}");
                count += 1;
            }
            assert_eq!((got.len(), model.count()), (count, count), "records in {space:?}");
        }
    }

    /// What was committed, but for dead spaces, which the engine may have forgotten already.
    fn meta(&self) {
        if self.model.meta.highest == Seq(0) {
            return;
        }
        let got = self.store.meta().expect("a good store");
        let want = &self.model.meta;
        assert_eq!((got.watermark, got.highest), (want.watermark, want.highest));
        assert_eq!((&got.spaces, got.next_space), (&want.spaces, want.next_space));
        assert_eq!(got.counts, want.counts, "the counts are stored");
    }

    fn settle(&mut self) {
        for _ in 0..10_000 {
            if !self.store.maintain(Duration::from_millis(50)).expect("a good store") {
                self.commit(Vec::new());
                assert!(self.model.meta.dead.is_empty(), "dead spaces are purged in the end");
                return;
            }
        }
        panic!("maintenance must come to an end");
    }

    fn backup(&mut self, subject: &mut dyn Subject) {
        let dir = subject.backup_dir();
        let seen = std::cell::Cell::new(None);
        self.store.backup(&dir, &|p| seen.set(Some(p))).expect("a good disk");
        let last = seen.get().expect("progress is reported");
        assert_eq!(last.bytes, last.total_bytes, "in the end all is copied");
        assert_eq!(last.keys, last.total_keys, "and every record of it");
        assert!(last.keys >= self.model.records.len() as u64, "{last:?}");
        // What is written after the backup is not part of it.
        let before = std::mem::take(&mut self.model);
        self.model = Model { records: before.records.clone(), meta: before.meta.clone() };
        self.batch();
        let after = std::mem::replace(&mut self.model, before);
        let live = std::mem::replace(&mut self.store, subject.restored(&dir));
        self.meta();
        self.reads();
        self.scans();
        self.model = after;
        self.store = live;
    }
}

fn scan_all(store: &dyn Storage, space: Space, limit: usize, limit_bytes: usize) -> Vec<Scanned> {
    let mut out: Vec<Scanned> = Vec::new();
    let mut from = KeyRef { space, hash: 0, key: b"" }.to_buf();
    loop {
        let mut part = Vec::new();
        let more = store.scan(&from, limit, limit_bytes, &mut part).expect("a good store scans");
        assert!(part.len() <= limit, "no more records than asked for");
        let bytes = part.iter().map(|s| s.key.as_disk().len() + s.record.payload.len());
        let bytes: usize = bytes.sum();
        assert!(bytes <= limit_bytes || part.len() == 1, "no more bytes than asked for");
        let Some(last) = part.last() else {
            assert!(!more, "more records than none");
            return out;
        };
        // The smallest key behind the last one.
        let next = last.key.as_ref();
        let mut longer = next.key.to_vec();
        longer.push(0);
        from = KeyRef { key: &longer, ..next }.to_buf();
        out.append(&mut part);
        if !more {
            // Nothing is behind what was the last.
            store.scan(&from, 1, usize::MAX, &mut part).expect("a good store scans");
            assert!(part.is_empty(), "records behind the last");
            return out;
        }
    }
}

/// Hands a record from one thread to readers while others commit and the caches change their size:
/// what a reader sees of a key never goes back, and is never torn.
///
/// # Panics
/// At the first record that is older than one seen before, or not as it was written.
pub fn check_readers(store: &Arc<dyn Storage>, rounds: u64) {
    let keys: Vec<KeyBuf> =
        (0..64u64).map(|n| KeyRef { space: Space(1), hash: n << 58, key: b"" }.to_buf()).collect();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut seen = vec![Seq(0); keys.len()];
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let mut out = Vec::new();
                    store.get_many(&keys, &mut out).expect("a good store answers");
                    for (seen, record) in seen.iter_mut().zip(out.into_iter().flatten()) {
                        assert!(record.seq >= *seen, "a key went back in time");
                        assert_eq!(*record.payload, record.seq.0.to_le_bytes());
                        *seen = record.seq;
                    }
                }
            });
        }
        for round in 1..=rounds {
            let seq = Seq(round);
            let payload: Arc<[u8]> = Arc::from(&round.to_le_bytes()[..]);
            let record = Record { seq, expires_at_ms: None, payload };
            let write = |key: &KeyBuf| Write {
                key: key.clone(),
                record: Some(record.clone()),
                before: Before::Unknown,
            };
            let meta = Meta { watermark: seq, highest: seq, ..Meta::default() };
            let batch = Batch { writes: keys.iter().map(write).collect(), meta };
            store.commit(batch).expect("a good store takes a batch");
            store.set_cache_bytes((4 + round / 8 % 2) << 10);
            store.maintain(Duration::ZERO).expect("a good store");
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}
