//! A block that cannot be read costs its keys and nothing else: the store is written on, and a key
//! of it is an error until it is written or deleted, never a miss.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use flintlock_diskcache::key::{KeyBuf, KeyRef, Seq, Space};
use flintlock_diskcache::storage::fjall::{FjallOptions, FjallStore};
use flintlock_diskcache::storage::{Batch, Before, ErrorKind, Meta, Record, Storage, Write};
use flintlock_diskcache::{DiskCache, Options};

const KEYS: u64 = 2_000;
const SPACE: Space = Space(1);

/// One damaged byte, in the middle of the largest file below a directory.
struct Damage {
    file: File,
    at: u64,
    was: [u8; 1],
}

impl Damage {
    fn new(dir: &Path) -> Self {
        let mut files = Vec::new();
        collect(dir, &mut files);
        let largest = files.into_iter().max_by_key(|(_, len)| *len);
        let (path, len) = largest.expect("there are files");
        let file = File::options().read(true).write(true).open(path).expect("a table");
        let (at, mut was) = (len / 2, [0]);
        file.read_exact_at(&mut was, at).expect("a table");
        file.write_all_at(&[!was[0]], at).expect("a table");
        Self { file, at, was }
    }

    fn undo(&self) {
        self.file.write_all_at(&self.was, self.at).expect("a table");
    }
}

fn collect(dir: &Path, out: &mut Vec<(PathBuf, u64)>) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, out);
        } else {
            let len = fs::metadata(&path).expect("it was listed").len();
            out.push((path, len));
        }
    }
}

fn key(n: u64) -> KeyBuf {
    KeyRef { space: SPACE, hash: n << 50, key: &n.to_be_bytes() }.to_buf()
}

/// An engine, and what it should hold.
struct Subject {
    store: FjallStore,
    model: BTreeMap<u64, u64>,
    seq: u64,
}

impl Subject {
    fn open(dir: &Path, model: BTreeMap<u64, u64>) -> Self {
        let store = FjallStore::open(dir, FjallOptions::default()).expect("it opens");
        let seq = store.meta().expect("its own record").highest.0;
        Self { store, model, seq }
    }

    /// Writes `keys`, or deletes them, without a word about what was there.
    fn commit(
        &mut self,
        keys: impl Iterator<Item = u64>,
        lives: bool,
    ) -> Result<u64, flintlock_diskcache::storage::StoreError> {
        let keys: Vec<u64> = keys.collect();
        let count = self.batch(keys.iter().copied().map(key), Before::Unknown, lives)?;
        for n in keys {
            if lives {
                self.model.insert(n, self.seq)
            } else {
                self.model.remove(&n)
            };
        }
        Ok(count)
    }

    /// The same for any keys, with a word about what was there.
    fn batch(
        &mut self,
        keys: impl Iterator<Item = KeyBuf>,
        before: Before,
        lives: bool,
    ) -> Result<u64, flintlock_diskcache::storage::StoreError> {
        let seq = self.seq + 1;
        let mut payload = seq.to_le_bytes().to_vec();
        payload.resize(400, 7);
        let record = Record { seq: Seq(seq), expires_at_ms: None, payload: Arc::from(payload) };
        let write = |key| Write { key, record: lives.then(|| record.clone()), before };
        let meta = Meta { watermark: Seq(seq), highest: Seq(seq), ..Meta::default() };
        let batch = Batch { writes: keys.map(write).collect(), meta };
        let counts = self.store.commit(batch)?;
        self.seq = seq;
        Ok(counts[&SPACE])
    }

    /// The keys that cannot be read; all others are as they should be.
    fn unreadable(&self) -> BTreeSet<u64> {
        let mut bad = BTreeSet::new();
        for n in 0..KEYS + 100 {
            let mut out = Vec::new();
            match self.store.get_many(&[key(n)], &mut out) {
                Ok(()) => {
                    let seq = out.pop().flatten().map(|record| record.seq.0);
                    assert_eq!(seq, self.model.get(&n).copied(), "key {n}");
                }
                Err(error) => {
                    assert_eq!(error.kind, ErrorKind::Corrupt, "key {n}: {error}");
                    bad.insert(n);
                }
            }
        }
        bad
    }
}

/// An engine with a damaged block in its last level, and the keys in that block.
fn damaged(dir: &Path) -> (Subject, Vec<u64>, Damage) {
    let mut subject = Subject::open(dir, BTreeMap::new());
    assert_eq!(subject.commit(0..KEYS, true).expect("a good disk"), KEYS);
    while subject.store.maintain(Duration::from_secs(9)).expect("a good disk") {}
    let model = std::mem::take(&mut subject.model);
    drop(subject);
    let damage = Damage::new(dir);
    let subject = Subject::open(dir, model);
    let bad: Vec<u64> = subject.unreadable().into_iter().collect();
    assert!((4..KEYS as usize / 10).contains(&bad.len()), "a block: {} keys", bad.len());
    (subject, bad, damage)
}

#[test]
fn keys_of_a_damaged_block_are_written_and_deleted_like_any_other() {
    let dir = tempfile::tempdir().unwrap();
    let (mut subject, bad, _damage) = damaged(dir.path());
    // Together with good ones and a new one, of which nothing is known either.
    let written = [bad[0], 1, KEYS - 2, KEYS + 1];
    // What cannot be looked up counts for new, and one that is deleted so stays counted.
    assert_eq!(subject.commit(written.into_iter(), true).unwrap(), KEYS + 2);
    assert_eq!(subject.commit([bad[1], 2].into_iter(), false).unwrap(), KEYS + 1);
    assert_eq!(subject.store.stats().unread_overwrites, 2);
    let left: BTreeSet<u64> = bad[2..].iter().copied().collect();
    assert_eq!(subject.unreadable(), left, "the others of the block are errors still");
    let model = std::mem::take(&mut subject.model);
    drop(subject);
    let subject = Subject::open(dir.path(), model);
    assert_eq!(subject.unreadable(), left);
}

/// A space whose count is zero is taken for empty, so that its keys are not looked for.
#[test]
fn no_count_is_too_low_for_keys_that_could_not_be_looked_up() {
    let dir = tempfile::tempdir().unwrap();
    let (mut subject, bad, _damage) = damaged(dir.path());
    // Keys that never were, in the middle of the block, of which the filter is not sure.
    let absent = |i: u64| {
        let name = format!("never {i}");
        KeyRef { space: SPACE, hash: bad[1] << 50, key: name.as_bytes() }.to_buf()
    };
    let fails =
        |key: &KeyBuf| subject.store.get_many(std::slice::from_ref(key), &mut Vec::new()).is_err();
    let names: Vec<KeyBuf> = (0..100_000).map(absent).filter(fails).take(20).collect();
    let (deleted, added) = names.split_at(names.len() / 2);
    assert_eq!(added.len(), 10);
    let count = subject.batch(deleted.iter().cloned(), Before::Unknown, false).unwrap();
    assert_eq!(count, KEYS, "none of them was there");
    let count = subject.batch(added.iter().cloned(), Before::Unknown, true).unwrap();
    assert_eq!(count, KEYS + 10);
    let count = subject.batch(added.iter().cloned(), Before::Present, false).unwrap();
    assert_eq!(count, KEYS);
}

#[test]
fn merges_that_meet_a_damaged_block_hold_up_no_batch_until_there_are_too_many() {
    let dir = tempfile::tempdir().unwrap();
    let (mut subject, bad, damage) = damaged(dir.path());
    let bad: BTreeSet<u64> = bad.into_iter().collect();
    let mut good = (0..).filter(|n| !bad.contains(&(n % KEYS)));
    let mut batch = || [good.next().unwrap_or(0) % KEYS].into_iter();
    // Below 48 none is needed; from there on each fails.
    let mut taken = 0;
    let refused = loop {
        match subject.commit(batch(), true) {
            Ok(count) => assert_eq!(count, KEYS),
            Err(error) => break error,
        }
        taken += 1;
        assert!(taken < 250, "the engine can count no more than 255 runs");
        if taken == 60 {
            assert!(subject.store.stats().merge_failures > 0, "merges were due and failed");
            assert_eq!(subject.unreadable(), bad);
        }
    };
    assert!(taken > 150, "{taken} batches");
    assert_eq!(refused.kind, ErrorKind::Corrupt, "{refused}");
    assert_eq!(subject.unreadable(), bad, "what was taken is there");
    damage.undo();
    subject.commit(batch(), true).expect("nothing is wrong any more");
    while subject.store.maintain(Duration::from_secs(9)).expect("nothing is wrong any more") {}
    assert!(subject.unreadable().is_empty());
    assert!(subject.store.stats().runs < 48);
}

#[test]
fn a_cache_saves_on_beside_a_damaged_block() {
    let dir = tempfile::tempdir().unwrap();
    let open = || DiskCache::<u64, String>::open(dir.path(), &Options::default()).unwrap();
    let value = |n: u64| format!("{n:>400}");
    let cache = open();
    (0..KEYS).for_each(|n| cache.insert(&n, value(n)).unwrap());
    assert_eq!(cache.close(Duration::from_secs(30)).unwrap().unsaved_keys, 0);
    let _damage = Damage::new(&dir.path().join("engine"));

    let cache = open();
    let bad: Vec<u64> = (0..KEYS).filter(|n| cache.get(n).is_err()).collect();
    assert!((4..KEYS as usize / 10).contains(&bad.len()), "a block: {} keys", bad.len());
    cache.insert(&bad[0], "new".to_owned()).unwrap();
    cache.remove(&bad[1]).unwrap();
    (0..50).filter(|n| !bad.contains(n)).for_each(|n| cache.insert(&n, value(n + 1)).unwrap());
    let closed = cache.close(Duration::from_secs(30)).unwrap();
    assert_eq!(closed.unsaved_keys, 0, "one block stops no saving");

    let cache = open();
    for n in 0..KEYS {
        match cache.get(&n) {
            Err(_) => assert!(bad[2..].contains(&n), "key {n}"),
            Ok(got) if n == bad[0] => assert_eq!(got.as_deref(), Some("new")),
            Ok(got) if n == bad[1] => assert_eq!(got, None),
            Ok(got) => assert_eq!(got, Some(value(n + u64::from(n < 50))), "key {n}"),
        }
    }
}
