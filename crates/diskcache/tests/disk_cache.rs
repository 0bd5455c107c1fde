//! The library type, from outside: what its documentation promises.

#![expect(clippy::unwrap_used, reason = "a failure is the test's failure")]

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use flintlock_diskcache::cache::stats::{Histogram, Metrics};
use flintlock_diskcache::cache::{Durability, KeyCount, Refusal};
use flintlock_diskcache::journal;
use flintlock_diskcache::storage::fault::{Call, Fault, FaultStore};
use flintlock_diskcache::storage::fjall::FjallStore;
use flintlock_diskcache::storage::{DiskSpace, ErrorKind};
use flintlock_diskcache::{DiskCache, Error, Options};

type Cache = DiskCache<String, Vec<u8>>;

/// What must happen has happened by then on any machine.
const DEADLINE: Duration = Duration::from_secs(60);

fn small() -> Options {
    Options { memory_bytes: 4 << 20, flush_delay: Duration::from_millis(200), ..Options::default() }
}

fn name(n: u64) -> String {
    format!("key:{n}")
}

fn value(n: u64, len: usize) -> Vec<u8> {
    n.to_le_bytes().into_iter().cycle().take(len).collect()
}

/// A cache over an engine that can be made to fail.
fn faulty(dir: &Path, options: &Options) -> (Cache, Arc<FaultStore>) {
    let mut store = None;
    let cache = Cache::open_with(dir, options, |dir, _| {
        let engine =
            FjallStore::open(dir, flintlock_diskcache::storage::fjall::FjallOptions::default())?;
        let faults = Arc::new(FaultStore::new(Arc::new(engine), 1));
        store = Some(Arc::clone(&faults));
        Ok(faults)
    });
    (cache.unwrap(), store.unwrap())
}

/// A faulty cache in which keys 0..`cold` are on disk only.
fn cold(dir: &Path, options: &Options, cold: u64) -> (Cache, Arc<FaultStore>) {
    let cache = Cache::open(dir, options).unwrap();
    for n in 0..cold {
        cache.insert(&name(n), value(n, 100)).unwrap();
    }
    cache.close(DEADLINE).unwrap();
    faulty(dir, options)
}

#[derive(Default)]
struct Figures(std::collections::BTreeMap<&'static str, u64>);

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

fn all<K: flintlock_diskcache::Codec, V: flintlock_diskcache::Codec>(
    cache: &DiskCache<K, V>,
) -> std::collections::BTreeMap<&'static str, u64> {
    let mut figures = Figures::default();
    cache.report(&mut figures).unwrap();
    figures.0
}

fn figure<K: flintlock_diskcache::Codec, V: flintlock_diskcache::Codec>(
    cache: &DiskCache<K, V>,
    name: &str,
) -> u64 {
    all(cache)[name]
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !done() {
        assert!(Instant::now() < deadline, "{what}: not in time");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn more_data_than_memory_is_kept_and_survives() {
    const KEYS: u64 = 12_000;
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path(), &small()).unwrap();
    for n in 0..KEYS {
        cache.insert(&name(n), value(n, 1000)).unwrap();
    }
    for n in (0..KEYS).step_by(7) {
        assert_eq!(cache.get(&name(n)).unwrap(), Some(value(n, 1000)), "key {n}");
    }
    assert_eq!(cache.get(&"nobody".to_owned()).unwrap(), None);
    let limit = small().memory_bytes;
    let peak = figure(&cache, "memory_bytes_peak");
    assert!(peak <= limit + (256 << 10), "{peak} bytes of {limit}: {:?}", all(&cache));
    assert!(figure(&cache, "evictions") > 0, "12 MB went through 4 MiB");
    cache.save().unwrap();
    assert_eq!(cache.len().unwrap(), KeyCount::Exact(KEYS));
    // No clean end: the last changes are in the journal only.
    cache.insert(&name(1), b"new".to_vec()).unwrap();
    cache.remove(&name(2)).unwrap();
    drop(cache);
    let cache = Cache::open(dir.path(), &small()).unwrap();
    assert_eq!(cache.get(&name(1)).unwrap(), Some(b"new".to_vec()));
    assert_eq!(cache.get(&name(2)).unwrap(), None);
    assert_eq!(cache.get(&name(3)).unwrap(), Some(value(3, 1000)));
    let closed = cache.close(DEADLINE).unwrap();
    assert_eq!(closed.unsaved_keys, 0);
    let cache = Cache::open(dir.path(), &small()).unwrap();
    assert_eq!(cache.len().unwrap(), KeyCount::Exact(KEYS - 1));
}

#[test]
fn the_journal_stays_about_as_short_as_asked_for() {
    let options = Options { journal_bytes: 1 << 20, ..small() };
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path(), &options).unwrap();
    for n in 0..8_000 {
        cache.insert(&name(n % 100), value(n, 1000)).unwrap();
    }
    cache.save().unwrap();
    cache.remove(&name(0)).unwrap();
    cache.save().unwrap();
    let deadline = Instant::now() + DEADLINE;
    let left = || figure(&cache, "journal_disk_bytes");
    while left() > options.journal_bytes / 4 {
        assert!(Instant::now() < deadline, "{} bytes of journal, all saved", left());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn sixty_four_threads_on_one_cold_key_make_one_read() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, store) = cold(dir.path(), &small(), 1);
    store.rate(Call::Get, Fault::Hang, 1);
    std::thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| assert_eq!(cache.get(&name(0)).unwrap(), Some(value(0, 100))));
        }
        until("all of them miss it", || figure(&cache, "misses") == 64);
        store.mend();
    });
    assert_eq!(figure(&cache, "loads_found"), 1, "one read");
    assert_eq!((figure(&cache, "misses"), figure(&cache, "entries")), (64, 1));
    assert_eq!(figure(&cache, "load"), 1, "one job");
}

#[test]
fn a_slow_read_holds_nobody_else_up() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, store) = cold(dir.path(), &small(), 2);
    cache.insert(&name(9), value(9, 100)).unwrap();
    store.rate(Call::Get, Fault::Hang, 1);
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| cache.get(&name(0)).unwrap());
        until("it is being read", || store.hanging() == 1);
        // Whoever is held up does not get past this.
        for _ in 0..1000 {
            assert!(cache.get(&name(9)).unwrap().is_some());
            cache.insert(&name(9), value(9, 100)).unwrap();
        }
        assert!(!slow.is_finished());
        store.mend();
        assert_eq!(slow.join().unwrap(), Some(value(0, 100)));
    });
}

#[test]
fn a_failed_read_is_an_error_and_never_a_miss() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, store) = cold(dir.path(), &small(), 3);
    store.rate(Call::Get, Fault::Fail(ErrorKind::Io), 1);
    let failed = |result: Result<Option<Vec<u8>>, Error>| match result {
        Err(Error::Store(failure)) => assert_eq!(failure.kind, ErrorKind::Io),
        other => panic!("{other:?}"),
    };
    failed(cache.get(&name(0)));
    failed(cache.get_many(&[name(0), name(1)]).map(|_| None));
    failed(cache.update(&name(0), |_| Some(b"lost".to_vec())).map(|()| None));
    let (sender, receiver) = mpsc::channel();
    cache.get_then(&name(1), move |result| sender.send(result).unwrap()).unwrap();
    failed(receiver.recv_timeout(DEADLINE).unwrap());
    store.mend();
    let all: Vec<_> = (0..3).map(|n| Some(value(n, 100))).collect();
    assert_eq!(cache.get_many(&[name(0), name(1), name(2)]).unwrap(), all);
}

#[test]
fn a_full_disk_refuses_writes_loses_nothing_and_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, store) = cold(dir.path(), &small(), 10);
    store.rate(Call::Commit, Fault::Fail(ErrorKind::NoSpace), 1);
    let mut taken = 0;
    let refused = loop {
        assert!(taken < 100_000, "memory is bounded, so somebody must refuse");
        match cache.insert(&name(100 + taken), value(taken, 1000)) {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, Error::Refused(_)), "{refused}");
    assert!(figure(&cache, "memory_bytes_peak") <= small().memory_bytes + (256 << 10));
    let figures = all(&cache);
    assert_eq!(figures["errors_no_space"], figures["batch_failures"]);
    assert_eq!(figures["entries"] - figures["absent_entries"], taken);
    assert!(figures["dirty_bytes"] > 0);
    assert_eq!(cache.get(&name(3)).unwrap(), Some(value(3, 100)), "reads go on");
    store.mend();
    let deadline = Instant::now() + DEADLINE;
    while cache.insert(&name(0), b"again".to_vec()).is_err() {
        assert!(Instant::now() < deadline, "it recovers without being opened anew");
        std::thread::sleep(Duration::from_millis(10));
    }
    for n in 0..taken {
        assert_eq!(cache.get(&name(100 + n)).unwrap(), Some(value(n, 1000)), "key {n}");
    }
}

/// To delete it would be a write, and those are refused; but nobody asked for one.
#[test]
fn a_key_that_expires_while_writes_are_refused_is_absent_and_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, store) = cold(dir.path(), &small(), 1);
    // Before there is anything to save.
    store.rate(Call::Commit, Fault::Fail(ErrorKind::NoSpace), 1);
    cache.insert_for(&name(5), value(5, 100), Duration::from_millis(1)).unwrap();
    std::thread::sleep(Duration::from_millis(2));
    let mut taken = 0;
    // A write that was refused leaves room for a smaller one, until that is refused, too.
    while cache.remove(&name(7)).is_ok() {
        while cache.insert(&name(100 + taken), value(taken, 1000)).is_ok() {
            taken += 1;
            assert!(taken < 100_000, "memory is bounded, so somebody must refuse");
        }
    }
    assert_eq!(cache.get(&name(5)), Ok(None));
    store.mend();
    // Until the disk has taken a batch, which takes as long as it takes, there is trouble still.
    until("it is mended", || cache.save().is_ok());
    assert_eq!(cache.len().unwrap(), KeyCount::Exact(1 + taken));
}

#[test]
fn a_disk_that_is_low_takes_removals_only() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, store) = cold(dir.path(), &small(), 10);
    store.set_space(DiskSpace { free: 100 << 20, total: 1 << 40 });
    let deadline = Instant::now() + DEADLINE;
    while cache.insert(&name(100), value(100, 100)).is_ok() {
        assert!(Instant::now() < deadline, "a job tells of it");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(cache.insert(&name(1), value(0, 9)), Err(Error::Refused(Refusal::Space)));
    cache.remove(&name(1)).unwrap();
    assert_eq!(cache.get(&name(1)).unwrap(), None);
    assert_eq!(cache.get(&name(2)).unwrap(), Some(value(2, 100)));
    cache.save().unwrap();
    store.mend();
    while cache.insert(&name(1), value(1, 9)).is_err() {
        assert!(Instant::now() < deadline, "it recovers by itself");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn updates_are_one_step_and_keep_the_expiry() {
    let dir = tempfile::tempdir().unwrap();
    let cache: DiskCache<u32, u64> = DiskCache::open(dir.path(), &small()).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..1000 {
                    cache.update(&7, |n| Some(n.copied().unwrap_or(0) + 1)).unwrap();
                }
            });
        }
    });
    assert_eq!(cache.get(&7).unwrap(), Some(4000));
    cache.update(&7, |_| None).unwrap();
    assert!(!cache.contains(&7).unwrap());
    // A longer life for a machine on which these calls take as long.
    let mut life = Duration::from_millis(300);
    loop {
        let begun = Instant::now();
        cache.insert_for(&8, 1, life).unwrap();
        cache.update(&8, |n| n.map(|n| n + 1)).unwrap();
        let found = cache.get(&8).unwrap();
        if begun.elapsed() < life / 2 {
            assert_eq!(found, Some(2));
            break;
        }
        life *= 4;
    }
    cache.save().unwrap();
    let deadline = Instant::now() + DEADLINE;
    while cache.get(&8).unwrap().is_some() {
        assert!(Instant::now() < deadline, "it expires");
        std::thread::sleep(Duration::from_millis(10));
    }
    cache.save().unwrap();
    assert_eq!(cache.len().unwrap(), KeyCount::Exact(0));
}

#[test]
fn clearing_drops_everything_also_what_is_being_read() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, store) = cold(dir.path(), &small(), 50);
    store.rate(Call::Get, Fault::Hang, 1);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| cache.get(&name(0)).unwrap());
        until("it is being read", || store.hanging() == 1);
        cache.clear().unwrap();
        store.mend();
        assert_eq!(reader.join().unwrap(), None, "it was read before, and answered after");
    });
    cache.insert(&name(1), b"after".to_vec()).unwrap();
    cache.save().unwrap();
    assert_eq!(cache.len().unwrap(), KeyCount::Exact(1));
    drop(cache);
    let cache = Cache::open(dir.path(), &small()).unwrap();
    assert_eq!(cache.get(&name(1)).unwrap(), Some(b"after".to_vec()));
    assert_eq!(cache.get(&name(2)).unwrap(), None);
}

#[test]
fn callbacks_come_exactly_once_also_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, store) = cold(dir.path(), &small(), 100);
    let calls = Arc::new(AtomicU64::new(0));
    let call = |n: u64, may_fail: bool| {
        let calls = Arc::clone(&calls);
        let answer = move |result: Result<Option<Vec<u8>>, Error>| {
            calls.fetch_add(1, Ordering::Relaxed);
            match result {
                Ok(found) => assert_eq!(found, (n < 100).then(|| value(n, 100))),
                Err(error) => assert!(may_fail, "{error}"),
            }
        };
        cache.get_then(&name(n), answer).unwrap();
    };
    for n in 0..120 {
        call(n, false);
    }
    let deadline = Instant::now() + DEADLINE;
    while calls.load(Ordering::Relaxed) < 120 {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
    store.rate(Call::Get, Fault::Delay(Duration::from_millis(50)), 1);
    cache.clear().unwrap();
    for n in 0..20 {
        cache.insert(&name(n), value(n, 100)).unwrap();
    }
    cache.save().unwrap();
    for n in 1000..1020 {
        call(n, true);
    }
    drop(cache);
    assert_eq!(calls.load(Ordering::Relaxed), 140);
}

#[test]
fn an_end_while_the_engine_hangs_tells_callers_waits_for_the_call_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, faults) = cold(dir.path(), &small(), 10);
    for call in [Call::Get, Call::Commit] {
        faults.rate(call, Fault::Hang, 1);
    }
    cache.insert(&name(3), value(33, 100)).unwrap();
    cache.insert(&name(11), value(11, 100)).unwrap();
    let (sender, answers) = mpsc::channel();
    cache.get_then(&name(4), move |answer| sender.send(answer).unwrap()).unwrap();

    let closing = std::thread::spawn(move || cache.close(Duration::from_millis(100)));
    let answer = answers.recv_timeout(DEADLINE).expect("told while it hangs");
    assert!(matches!(answer, Err(Error::Store(f)) if f.kind == ErrorKind::Closed), "{answer:?}");
    assert!(Cache::open(dir.path(), &small()).is_err(), "the directory stays locked");
    assert!(!closing.is_finished(), "the engine's calls are under way");

    faults.mend();
    assert_eq!(closing.join().unwrap().unwrap().unsaved_keys, 2);
    assert!(answers.recv().is_err(), "told once");
    let cache = Cache::open(dir.path(), &small()).unwrap();
    for (key, content) in [(3, 33), (4, 4), (11, 11)] {
        assert_eq!(cache.get(&name(key)).unwrap(), Some(value(content, 100)), "key {key}");
    }
}

#[test]
fn panics_of_callers_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path(), &small()).unwrap();
    cache.insert(&name(0), value(0, 10)).unwrap();
    let panics = |run: &dyn Fn()| {
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err());
    };
    panics(&|| assert!(cache.get_with(&name(0), |_| -> () { panic!("a reader") }).is_err()));
    panics(&|| assert!(cache.update(&name(0), |_| panic!("a writer")).is_err()));
    assert_eq!(cache.get(&name(0)).unwrap(), Some(value(0, 10)));
}

#[test]
fn a_backup_is_a_cache_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path().join("a"), &small()).unwrap();
    for n in 0..2000 {
        cache.insert(&name(n), value(n, 100)).unwrap();
    }
    let done = cache.backup(dir.path().join("b")).unwrap();
    let copied = ["b/journal", "b/engine/tables"].map(|part| {
        let entries = std::fs::read_dir(dir.path().join(part)).unwrap().map(Result::unwrap);
        let parts = entries.filter(|entry| entry.file_name() != "watermark");
        parts.map(|entry| entry.metadata().unwrap().len()).sum::<u64>()
    });
    // The engine does not count the last bytes of each table.
    let uncounted = copied.iter().sum::<u64>() - done.bytes;
    assert!(copied[0] > 10_000 && uncounted < 10_000, "{done:?}, {copied:?}");
    assert_eq!(done.bytes, done.total_bytes);
    cache.insert(&name(0), b"later".to_vec()).unwrap();
    let copy = Cache::open(dir.path().join("b"), &small()).unwrap();
    for n in 0..2000 {
        assert_eq!(copy.get(&name(n)).unwrap(), Some(value(n, 100)));
    }
}

#[test]
fn a_delay_may_be_for_ever() {
    let (durability, flush_delay) = (Durability::EveryMs(u64::MAX), Duration::MAX);
    let options = Options { durability, flush_delay, ..small() };
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path(), &options).unwrap();
    cache.insert(&name(0), value(0, 100)).unwrap();
    cache.save().unwrap();
    let done = || (figure(&cache, "batches"), figure(&cache, "syncs"));
    let before = done();
    // No sum may be too large, at whatever time.
    std::thread::sleep(Duration::from_millis(5));
    cache.clear().unwrap();
    cache.insert(&name(1), value(1, 100)).unwrap();
    let deadline = Instant::now() + DEADLINE;
    while figure(&cache, "unwritten_bytes") > 0 {
        assert!(Instant::now() < deadline, "the system gets it all the same");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(done(), before, "nobody asked");
    assert_eq!(cache.get(&name(1)).unwrap(), Some(value(1, 100)));
}

/// It was kept until the next batch, however much of it there was.
#[test]
fn the_journal_that_a_backup_has_held_is_let_go_behind_it() {
    let options = Options { journal_bytes: 1 << 20, ..small() };
    let dir = tempfile::tempdir().unwrap();
    let (cache, store) = cold(&dir.path().join("a"), &options, 1);
    store.rate(Call::Backup, Fault::Hang, 1);
    std::thread::scope(|scope| {
        let copying = scope.spawn(|| cache.backup(dir.path().join("b")).unwrap());
        until("it is being copied", || store.hanging() == 1);
        for n in 0..3_000 {
            cache.insert(&name(n % 100), value(n, 1000)).unwrap();
        }
        cache.save().unwrap();
        assert!(figure(&cache, "journal_disk_bytes") > 2 << 20, "the backup needs it");
        store.mend();
        copying.join().unwrap();
    });
    let deadline = Instant::now() + DEADLINE;
    while figure(&cache, "journal_disk_bytes") > 1 << 19 {
        assert!(Instant::now() < deadline, "{} bytes", figure(&cache, "journal_disk_bytes"));
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn always_durable_writers_share_syncs() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { durability: Durability::Always, ..small() };
    let cache = Cache::open(dir.path(), &options).unwrap();
    cache.insert(&name(0), value(0, 10)).unwrap();
    for round in 0..25 {
        let coming = AtomicU64::new(0);
        let write = &|n| {
            coming.fetch_add(1, Ordering::Relaxed);
            cache.insert(&name(n), value(n, 10)).unwrap();
        };
        std::thread::scope(|scope| {
            // Nobody gets in before this reader leaves, and by then all of them stand there: how
            // soon threads get a CPU, and how long a sync takes, do not matter.
            let hold = |_: &Vec<u8>| {
                let all = round * 16 + 1..round * 16 + 17;
                all.for_each(|n| drop(scope.spawn(move || write(n))));
                until("all come", || coming.load(Ordering::Relaxed) == 16);
            };
            cache.get_with(&name(0), hold).unwrap();
        });
    }
    let figures = all(&cache);
    assert_eq!((figures["durable_seq"] >= 400, figures["durable_lag_ops"]), (true, 0));
    assert!(figures["syncs"] < 300, "{} syncs for 400 writes", figures["syncs"]);
}

#[test]
fn what_is_open_or_no_store_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path(), &small()).unwrap();
    assert!(Cache::open(dir.path(), &small()).is_err(), "in use");
    drop(cache);
    drop(Cache::open(dir.path(), &small()).unwrap());
    let other = tempfile::tempdir().unwrap();
    std::fs::write(other.path().join("mine"), b"not a store").unwrap();
    assert!(Cache::open(other.path(), &small()).is_err());
}

#[test]
fn a_loss_that_is_accepted_is_told() {
    let dir = tempfile::tempdir().unwrap();
    // Nothing but the journal has the values.
    let options = Options { flush_delay: Duration::from_secs(3600), ..small() };
    let cache = Cache::open(dir.path(), &options).unwrap();
    assert_eq!(cache.accepted_loss(), None);
    for n in 0..100 {
        cache.insert(&name(n), value(n, 1000)).unwrap();
        cache.sync().unwrap();
    }
    drop(cache);
    let journal = dir.path().join("journal");
    let files = std::fs::read_dir(journal).unwrap().map(|entry| entry.unwrap().path());
    let segment = files.max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let bytes = std::fs::read(&segment).unwrap();
    std::fs::write(&segment, &bytes[..bytes.len() / 2]).unwrap();
    assert!(Cache::open(dir.path(), &options).is_err());
    let accepting = Options { accept_loss: true, ..options };
    let cache = Cache::open(dir.path(), &accepting).unwrap();
    assert!(matches!(cache.accepted_loss(), Some(journal::Refusal::Lost { .. })));
    assert!(cache.get(&name(0)).unwrap().is_some() && cache.get(&name(99)).unwrap().is_none());
    drop(cache);
    let cache = Cache::open(dir.path(), &accepting).unwrap();
    assert_eq!(cache.accepted_loss(), None, "of this opening");
}

#[test]
fn memory_full_of_log_is_made_by_a_sync_and_not_by_saving_hot_keys() {
    // Once every filling of the memory saved all hot keys, which gave next to nothing back: twice
    // within a flush delay of 100 ms.
    let dir = tempfile::tempdir().unwrap();
    let hour = Duration::from_secs(3600);
    let durability = Durability::EveryMs(3_600_000);
    let options = Options {
        memory_bytes: 16 << 20,
        journal_bytes: 1 << 30,
        flush_delay: hour,
        durability,
        ..Options::default()
    };
    let cache = Cache::open(dir.path(), &options).unwrap();
    for n in 0..8_000 {
        cache.insert(&name(n % 10), value(n, 10_000)).unwrap();
    }
    assert_eq!(figure(&cache, "saves"), 0, "none has been dirty for a flush delay");
    let syncs = figure(&cache, "syncs");
    assert!((3..200).contains(&syncs), "{syncs} syncs of 80 MB of log in memory of 16 MiB");
    assert!(figure(&cache, "memory_bytes_peak") <= 16 << 20);
}
