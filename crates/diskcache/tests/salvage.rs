//! What is read out of a store that a start refuses: all that is whole, nothing that never was.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use flintlock_diskcache::backup::restore;
use flintlock_diskcache::check::{CheckError, Outcome};
use flintlock_diskcache::journal::{Group, OpKind, SpaceMap, WriterOptions};
use flintlock_diskcache::key::{KeyBuf, KeyRef, Space};
use flintlock_diskcache::recovery::{OpenOptions, OpenStore, open};
use flintlock_diskcache::salvage::salvage;
use flintlock_diskcache::storage::{Batch, Before, Meta, Record, Storage, Write};

const OLD: u64 = 2_000;
const CHANGED: u64 = 200;
const NEW: u64 = 100;

type State = BTreeMap<KeyBuf, Vec<u8>>;

fn options() -> OpenOptions {
    let journal = WriterOptions { segment_bytes: 5_000, unsynced_bytes_max: 200_000 };
    OpenOptions { journal, ..OpenOptions::default() }
}

fn key_in(space: u32, n: u64) -> KeyBuf {
    let hash = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    KeyRef { space: Space(space), hash, key: &n.to_be_bytes() }.to_buf()
}

fn key(n: u64) -> KeyBuf {
    key_in(1, n)
}

fn value(n: u64) -> Vec<u8> {
    n.to_le_bytes().repeat(20)
}

fn log(store: &mut OpenStore, fill: impl FnOnce(&mut Group)) {
    let mut group = Group::new(store.writer.next_seq());
    fill(&mut group);
    store.writer.append(group).expect("a good disk");
    store.writer.sync().expect("a good disk");
}

fn put(store: &mut OpenStore, key: &KeyBuf, value: &[u8]) {
    log(store, |group| {
        group.push_put(key.as_ref(), None, |out| out.extend_from_slice(value)).expect("small");
    });
}

/// Keys in the engine, then changes on top of some of them and new keys in turns.
fn store(root: &Path) -> State {
    let mut store = open(root, &options()).expect("a fresh store");
    (0..OLD).for_each(|n| put(&mut store, &key(n), &value(n)));
    let at = store.writer.durable();
    let writes = (0..OLD).map(|n| {
        let record = Record { seq: at, expires_at_ms: None, payload: value(n).into() };
        Write { key: key(n), record: Some(record), before: Before::Absent }
    });
    let meta = Meta {
        watermark: at,
        highest: at,
        spaces: vec![Space(1)],
        next_space: 2,
        ..Meta::default()
    };
    store.engine.commit(Batch { writes: writes.collect(), meta }).expect("a good disk");
    store.writer.trim(at).expect("a good disk");
    for n in 0..CHANGED {
        log(&mut store, |group| {
            group.push_delta(key(n).as_ref(), |out| out.push(b'+')).expect("small");
        });
        if n % 2 == 0 {
            put(&mut store, &key(OLD + n / 2), &value(n));
        }
    }
    store.writer.close().expect("a good disk");
    drop(store);
    let state = state(root);
    assert_eq!(state.len() as u64, OLD + NEW);
    state
}

/// What a start would serve of the first database.
fn state(root: &Path) -> State {
    let mut store = open(root, &options()).expect("a whole store");
    let mut space = store.meta.spaces[0];
    let mut found = Vec::new();
    let first = KeyRef { space, hash: 0, key: b"" }.to_buf();
    store.engine.scan(&first, usize::MAX, usize::MAX, &mut found).expect("whole");
    let mut state: State =
        found.into_iter().map(|item| (item.key, item.record.payload.to_vec())).collect();
    while let Some(group) = store.replay.next_group().expect("whole") {
        for op in group {
            match op.expect("whole").kind {
                OpKind::Put { key, payload, .. } => {
                    state.insert(key.to_buf(), payload.to_vec());
                }
                OpKind::Delta { key, bytes } => {
                    state.get_mut(&key.to_buf()).expect("a base").extend_from_slice(bytes);
                }
                OpKind::Delete { key } => drop(state.remove(&key.to_buf())),
                OpKind::Meta(map) => space = map.spaces[0],
            }
        }
    }
    state.retain(|key, _| key.as_ref().space == space);
    state
}

fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            let bytes = fs::read(&path).expect("a file");
            found.insert(path, bytes);
        }
    }
    found
}

/// The outcome, and what was said; the store in `root` is left as it is.
fn run(root: &Path, target: &Path) -> (Result<Outcome, CheckError>, String) {
    let (before, mut out) = (files(root), Vec::new());
    let done = salvage(root, target, &mut out);
    assert!(files(root) == before, "the damaged store was written to");
    (done, String::from_utf8(out).expect("text"))
}

struct Scratch {
    dir: tempfile::TempDir,
    state: State,
}

impl Scratch {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let state = store(&dir.path().join("store"));
        Self { dir, state }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The segments that have operations, in order.
    fn segments(&self) -> Vec<PathBuf> {
        let journal = self.path("store/journal");
        let is_filled = |path: &PathBuf| {
            path.extension().is_some_and(|e| e == "log")
                && fs::metadata(path).is_ok_and(|m| m.len() > 200)
        };
        files(&journal).into_keys().filter(is_filled).collect()
    }

    /// Salvages and opens what was saved, as it is and as a backup.
    fn salvaged(&self, outcome: Outcome) -> (String, State) {
        let (store, target) = (self.path("store"), self.path("saved"));
        let (is, out) = run(&store, &target);
        assert_eq!(is.expect("it comes to an end"), outcome, "{out}");
        let restored = self.path("restored");
        restore(&target, &restored).expect("it is as good as a backup");
        let saved = state(&target);
        assert!(state(&restored) == saved);
        assert!(!self.path("saved.salvaging").exists());
        (out, saved)
    }

    /// No key has a value that it never had.
    fn check_history(&self, saved: &State) {
        for (key, value) in saved {
            let last = &self.state[key];
            let before = last.strip_suffix(b"+").unwrap_or(last);
            assert!(value == last || value == before, "{key:?}");
        }
    }
}

#[test]
fn a_whole_store_is_saved_whole() {
    let scratch = Scratch::new();
    let (out, saved) = scratch.salvaged(Outcome::Good);
    assert!(saved == scratch.state);
    assert!(out.contains("saved: 2000 records, and 300 operations after them\n"), "{out}");
    assert!(out.ends_with("result: everything was saved\n") && !out.contains("given up"), "{out}");
}

#[test]
fn without_a_watermark_file_nothing_is_lost() {
    let scratch = Scratch::new();
    let journal = files(&scratch.path("store/journal"));
    for path in journal.into_keys().filter(|path| path.extension().is_none_or(|e| e != "log")) {
        fs::remove_file(path).expect("a file");
    }
    assert!(open(&scratch.path("store"), &options()).is_err(), "a start refuses it");
    assert!(scratch.salvaged(Outcome::Good).1 == scratch.state);
}

#[test]
fn a_damaged_block_costs_its_own_keys() {
    let scratch = Scratch::new();
    let tables = files(&scratch.path("store/engine/tables"));
    let (path, mut bytes) =
        tables.into_iter().max_by_key(|(_, bytes)| bytes.len()).expect("a table");
    let middle = bytes.len() / 3;
    bytes[middle] ^= 4;
    fs::write(path, bytes).expect("a file");
    let (out, saved) = scratch.salvaged(Outcome::Damaged);
    let missing: Vec<&KeyBuf> =
        scratch.state.keys().filter(|key| !saved.contains_key(*key)).collect();
    assert!((1..60).contains(&missing.len()), "{} keys in one block", missing.len());
    assert!(out.contains("given up: records between 1/"), "{out}");
    for (key, value) in &saved {
        assert!(value == &scratch.state[key], "{key:?}");
    }
    // Those of which changes are in the journal are known by name.
    for n in 0..CHANGED {
        let line = format!("given up: changes of {:?} from operation ", key(n));
        assert_eq!(out.contains(&line), missing.contains(&&key(n)), "{line} in {out}");
    }
}

#[test]
fn behind_a_hole_in_the_journal_whole_states_are_saved_and_changes_are_not() {
    for remove in [false, true] {
        let scratch = Scratch::new();
        let segments = scratch.segments();
        let path = &segments[segments.len() / 2];
        if remove {
            fs::remove_file(path).expect("a file");
        } else {
            let mut bytes = fs::read(path).expect("a file");
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(path, bytes).expect("a file");
        }
        assert!(open(&scratch.path("store"), &options()).is_err(), "a start refuses it");
        let (out, saved) = scratch.salvaged(Outcome::Damaged);
        scratch.check_history(&saved);
        assert_eq!(out.contains(": bytes "), !remove, "{out}");
        assert!(out.contains("given up: operations "), "{out}");
        let has = |n: u64| saved.contains_key(&key(OLD + n));
        assert!(has(0) && has(NEW - 1), "new keys on both sides of the hole");
        let lost = (0..NEW).filter(|n| !has(*n)).count();
        assert!(lost < 40 && (!remove || lost > 0), "{lost} new keys");
        let is_whole = |n: u64| saved[&key(n)] == scratch.state[&key(n)];
        assert!(is_whole(0) && !is_whole(CHANGED - 1));
        assert!(
            out.contains(&format!("changes of {:?} from operation", key(CHANGED - 1))),
            "{out}"
        );
    }
}

#[test]
fn a_hole_at_the_end_is_told_and_a_torn_tail_is_no_loss() {
    let scratch = Scratch::new();
    let path = scratch.segments().pop().expect("a segment");
    let whole = fs::read(&path).expect("a file");
    fs::write(&path, [&whole[..], &[7; 500]].concat()).expect("a file");
    assert!(scratch.salvaged(Outcome::Good).1 == scratch.state);
    for name in ["saved", "restored"] {
        fs::remove_dir_all(scratch.path(name)).expect("a directory");
    }
    fs::write(&path, &whole[..whole.len() - 1]).expect("a file");
    let (out, saved) = scratch.salvaged(Outcome::Damaged);
    scratch.check_history(&saved);
    assert!(out.contains("given up: operations 2300 to 2300\n"), "{out}");
}

#[test]
fn without_an_engine_the_journal_is_saved() {
    let scratch = Scratch::new();
    fs::remove_file(scratch.path("store/engine/current")).expect("a file");
    let (out, saved) = scratch.salvaged(Outcome::Damaged);
    assert!(out.contains("given up: the whole engine: "), "{out}");
    scratch.check_history(&saved);
    assert!((0..NEW).all(|n| saved.contains_key(&key(OLD + n))));
    // Changes on top of what the engine had are worth nothing.
    assert!(!(0..CHANGED).any(|n| saved.contains_key(&key(n))));
}

#[test]
fn a_flushed_database_stays_flushed() {
    let scratch = Scratch::new();
    let mut store = open(&scratch.path("store"), &options()).expect("a whole store");
    let map = SpaceMap { spaces: vec![Space(2)], next_space: 3, dead: vec![Space(1)] };
    log(&mut store, |group| _ = group.push_meta(&map).expect("small"));
    put(&mut store, &key_in(2, 1), b"after");
    store.writer.close().expect("a good disk");
    drop(store);
    let (out, saved) = scratch.salvaged(Outcome::Good);
    assert_eq!(saved, State::from([(key_in(2, 1), b"after".to_vec())]), "{out}");
}

/// The engine's map is newer than the last one that can be read of the journal, and says so by
/// nothing but its position.
#[test]
fn a_swap_in_a_hole_that_the_engine_knows_of_is_not_undone() {
    for is_last in [false, true] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (root, target) = (dir.path().join("store"), dir.path().join("saved"));
        let mut store = open(&root, &OpenOptions::default()).expect("a fresh store");
        let map = |spaces: [u32; 2]| SpaceMap {
            spaces: spaces.map(Space).to_vec(),
            next_space: 3,
            dead: Vec::new(),
        };
        let len = || {
            let segments = files(&root.join("journal")).into_iter();
            let named = |(path, bytes): (PathBuf, Vec<u8>)| {
                path.extension().is_some_and(|e| e == "log").then_some((path, bytes.len()))
            };
            segments.filter_map(named).next_back().expect("a segment")
        };
        log(&mut store, |group| _ = group.push_meta(&map([1, 2])).expect("small"));
        put(&mut store, &key_in(1, 1), b"one");
        put(&mut store, &key_in(2, 2), b"two");
        log(&mut store, |group| _ = group.push_meta(&map([2, 1])).expect("small"));
        let (path, from) = len();
        log(&mut store, |group| _ = group.push_meta(&map([1, 2])).expect("small"));
        if !is_last {
            put(&mut store, &key_in(1, 3), b"three");
        }
        let at = store.writer.durable();
        let SpaceMap { spaces, next_space, dead } = map([1, 2]);
        let meta = Meta { watermark: at, highest: at, spaces, next_space, dead, ..Meta::default() };
        let record = |value: &[u8]| {
            Some(Record { seq: at, expires_at_ms: None, payload: value.to_vec().into() })
        };
        let writes = [(key_in(1, 1), record(b"one")), (key_in(2, 2), record(b"two"))];
        let writes = writes.map(|(key, record)| Write { key, record, before: Before::Absent });
        store.engine.commit(Batch { writes: writes.to_vec(), meta }).expect("a good disk");
        store.writer.close().expect("a good disk");
        drop(store);
        let mut bytes = fs::read(&path).expect("a segment");
        bytes[from + 50] ^= 1;
        fs::write(&path, bytes).expect("a segment");
        let (done, out) = run(&root, &target);
        done.expect("it comes to an end");
        assert!(state(&target).contains_key(&key_in(1, 1)), "{out}");
    }
}

#[test]
fn what_is_in_use_or_in_the_way_is_left_alone() {
    let scratch = Scratch::new();
    let (root, target) = (scratch.path("store"), scratch.path("saved"));
    fs::create_dir(&target).expect("a directory");
    fs::write(target.join("mine"), "mine").expect("a file");
    let refused = |root: &Path, target: &Path, why: &str| {
        let error = run(root, target).0.expect_err("a refusal").to_string();
        assert!(error.contains(why), "{error}");
    };
    refused(&root, &target, "is not empty");
    assert_eq!(files(&target).len(), 1);
    refused(&target, &scratch.path("other"), "holds parts of a store");
    let held = open(&root, &options()).expect("a whole store");
    refused(&root, &scratch.path("other"), "is in use by process");
    drop(held);
    assert!(!scratch.path("other").exists());
}
