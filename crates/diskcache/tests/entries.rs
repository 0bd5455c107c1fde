//! Going through all keys of a `DiskCache`, also while they change.

#![expect(clippy::unwrap_used, reason = "a failure is the test's failure")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use flintlock_diskcache::storage::ErrorKind;
use flintlock_diskcache::storage::fault::{Call, Fault, FaultStore};
use flintlock_diskcache::storage::fjall::{FjallOptions, FjallStore};
use flintlock_diskcache::{DiskCache, Error, Options};

type Cache = DiskCache<u64, Vec<u8>>;

/// Few and large: while a read hangs, what the engine keeps for it may leave room for one key, and
/// each change then costs a batch with its syncs.
const KEYS: u64 = 600;

/// Less memory than the keys take; what need not be saved for that is not.
fn small() -> Options {
    let (memory_bytes, flush_delay) = (2 << 20, Duration::from_secs(60));
    Options { memory_bytes, flush_delay, ..Options::default() }
}

fn value(n: u64, version: u64) -> Vec<u8> {
    [n, version].map(u64::to_le_bytes).concat().repeat(300)
}

fn filled(dir: &Path) -> Cache {
    let cache = Cache::open(dir, &small()).unwrap();
    (0..KEYS).for_each(|n| cache.insert(&n, value(n, 0)).unwrap());
    cache
}

fn faulty(dir: &Path) -> (Cache, Arc<FaultStore>) {
    filled(dir).close(Duration::from_secs(60)).unwrap();
    let mut store = None;
    let cache = Cache::open_with(dir, &small(), |dir, _| {
        let engine = FjallStore::open(dir, FjallOptions::default())?;
        let faults = Arc::new(FaultStore::new(Arc::new(engine), 1));
        store = Some(Arc::clone(&faults));
        Ok(faults)
    });
    (cache.unwrap(), store.unwrap())
}

fn all(cache: &Cache) -> BTreeMap<u64, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in cache.entries().unwrap() {
        let (key, value) = entry.unwrap();
        assert!(all.insert(key, value).is_none(), "key {key} comes once");
    }
    all
}

#[test]
fn every_key_comes_once_wherever_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let cache = filled(dir.path());
    let mut want: BTreeMap<u64, Vec<u8>> = (0..KEYS).map(|n| (n, value(n, 0))).collect();
    assert!(all(&cache) == want, "on disk and in memory");
    for n in (0..KEYS).step_by(3) {
        cache.remove(&n).unwrap();
        want.remove(&n);
    }
    for n in (1..KEYS).step_by(3) {
        cache.insert(&n, value(n, 1)).unwrap();
        want.insert(n, value(n, 1));
    }
    cache.insert_for(&7_777, value(7, 7), Duration::from_millis(1)).unwrap();
    std::thread::sleep(Duration::from_millis(2));
    assert!(all(&cache) == want, "what was removed or has expired is gone");
    cache.clear().unwrap();
    assert!(all(&cache).is_empty());
}

/// Sets its flag when it goes, after a failure too: a scope waits for its threads.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn what_changes_meanwhile_is_not_older_than_the_beginning_and_what_stays_comes() {
    let dir = tempfile::tempdir().unwrap();
    let cache = filled(dir.path());
    let (version, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let now = version.load(Ordering::Relaxed) + 1;
                for n in 0..KEYS {
                    if n % 2 == 0 {
                        cache.insert(&n, value(n, now)).unwrap();
                    } else if n % 9 == 0 {
                        cache.remove(&n).unwrap();
                        cache.insert(&(KEYS + n), value(n, now)).unwrap();
                    }
                }
                version.store(now, Ordering::Relaxed);
            }
        });
        let _ends = Ends(&is_over);
        for _ in 0..2 {
            let before = version.load(Ordering::Relaxed);
            let found = all(&cache);
            for n in (0..KEYS).filter(|n| n % 2 == 0 || n % 9 != 0) {
                let value = found.get(&n).unwrap_or_else(|| panic!("key {n} was there"));
                let at = u64::from_le_bytes(value[8..16].try_into().unwrap());
                assert!(n % 2 == 1 || at >= before, "key {n}: {at} instead of {before}");
            }
        }
    });
}

/// Memory knows what the engine did not have when a stretch was read, until it has forgotten it.
#[test]
fn a_value_that_was_saved_and_forgotten_while_its_stretch_was_read_is_not_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, faults) = faulty(dir.path());
    faults.rate(Call::Scan, Fault::HangAfter, 1);
    let found = std::thread::scope(|scope| {
        let reading = scope.spawn(|| all(&cache));
        while faults.hanging() == 0 {
            std::thread::yield_now();
        }
        for n in 0..KEYS {
            cache.insert(&n, value(n, 1)).unwrap();
        }
        cache.save().unwrap();
        assert!(!reading.is_finished(), "its stretch has been read and does not come");
        faults.mend();
        reading.join().unwrap()
    });
    for n in 0..KEYS {
        assert!(found[&n] == value(n, 1), "key {n}");
    }
}

#[test]
fn an_error_ends_it_and_trouble_with_writing_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, faults) = faulty(dir.path());
    let mut entries = cache.entries().unwrap();
    faults.rate(Call::Commit, Fault::Fail(ErrorKind::NoSpace), 1);
    faults.rate(Call::Scan, Fault::Delay(Duration::from_millis(300)), 1);
    cache.insert(&1, value(1, 1)).unwrap();
    while !matches!(cache.save(), Err(Error::Refused(_))) {}
    assert!(entries.next().unwrap().is_ok(), "a slow read, while nothing can be saved");
    faults.mend();
    faults.rate(Call::Scan, Fault::Fail(ErrorKind::Io), 1);
    let mut rest = entries.skip_while(Result::is_ok);
    match rest.next() {
        Some(Err(Error::Store(failure))) => assert_eq!(failure.kind, ErrorKind::Io),
        other => panic!("{other:?}"),
    }
    assert!(rest.next().is_none());
}

#[test]
fn a_value_that_does_not_decode_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path(), &small()).unwrap();
    (0..20).for_each(|n| cache.insert(&n, vec![0; if n % 2 == 0 { 8 } else { 3 }]).unwrap());
    cache.close(Duration::from_secs(60)).unwrap();
    let cache = DiskCache::<u64, u64>::open(dir.path(), &small()).unwrap();
    let mut rest = cache.entries().unwrap().skip_while(Result::is_ok);
    match rest.next() {
        Some(Err(Error::Store(failure))) => assert_eq!(failure.kind, ErrorKind::Corrupt),
        other => panic!("{other:?}"),
    }
    assert!(rest.next().is_none());
}
