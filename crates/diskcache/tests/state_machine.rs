//! Any sequence of calls against a map in memory, over real files, with an engine that fails now
//! and then, and shrunk to the few calls that matter when they disagree.
//!
//! The simulation (`tests/cache`) owns every interleaving of the state machine; here is the whole
//! library as its users see it, threads and engine included: what a call returns is what the map
//! says, an error has changed nothing, and what was acknowledged outlives the handle.

#![expect(clippy::unwrap_used, reason = "a failure is the test's failure")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use flintlock_diskcache::cache::stats::{Histogram, Metrics};
use flintlock_diskcache::cache::{Durability, KeyCount};
use flintlock_diskcache::storage::ErrorKind;
use flintlock_diskcache::storage::fault::{Call, Fault, FaultStore};
use flintlock_diskcache::storage::fjall::{FjallOptions, FjallStore};
use flintlock_diskcache::{DiskCache, Error, Options};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest};

type Cache = DiskCache<u8, Vec<u8>>;

/// Keys are numbers below this; with values of some kilobytes they are more than fits.
const KEYS: u8 = 160;
/// How long a call may be refused once nothing fails any more: the longest back-off, and more.
const MENDED_MAX: Duration = Duration::from_secs(60);

fn options() -> Options {
    Options {
        memory_bytes: 600 << 10,
        durability: Durability::EveryMs(20),
        flush_delay: Duration::from_millis(20),
        journal_bytes: 256 << 10,
        ..Options::default()
    }
}

/// A value: so many times this byte. Printed, it stays short.
#[derive(Copy, Clone, Debug)]
struct Run(u8, u16);

impl Run {
    fn bytes(self) -> Vec<u8> {
        vec![self.0; usize::from(self.1)]
    }
}

/// What happens next.
#[derive(Clone, Debug)]
enum Step {
    Insert(u8, Run),
    /// For an hour, or for no time at all.
    InsertFor(u8, Run, bool),
    /// From one key on, so many.
    Fill(u8, u8, Run),
    Remove(u8),
    Append(u8, Run),
    Clear,
    Get(u8),
    GetMany(Vec<u8>),
    Contains(u8),
    Sync,
    /// Everything goes to the engine; then the count is exact.
    Save,
    /// The handle goes; the next one replays the journal.
    Drop,
    /// As `Drop`, but what is under way is waited for.
    Close,
    /// A copy is opened and compared.
    Backup,
    /// One in so many reads and commits fails from now on.
    Fail(u64, u64),
    Mend,
}

fn filled(first: u8, count: u8) -> impl Iterator<Item = u8> {
    (first..first.saturating_add(count)).filter(|key| *key < KEYS)
}

/// What there should be.
#[derive(Clone, Debug, Default)]
struct Model {
    map: BTreeMap<u8, Vec<u8>>,
    /// Keys whose life is over: gone for all who ask, and counted until somebody finds them.
    over: BTreeSet<u8>,
}

impl ReferenceStateMachine for Model {
    type State = Self;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Self::State> {
        Just(Self::default()).boxed()
    }

    fn transitions(_: &Self::State) -> BoxedStrategy<Step> {
        let key = 0..KEYS;
        let run = (any::<u8>(), 0_u16..9_000).prop_map(|(byte, len)| Run(byte, len));
        let short = (any::<u8>(), 0_u16..300).prop_map(|(byte, len)| Run(byte, len));
        prop_oneof![
            8 => (key.clone(), run.clone()).prop_map(|(key, run)| Step::Insert(key, run)),
            2 => (key.clone(), short.clone(), any::<bool>())
                .prop_map(|(key, run, stays)| Step::InsertFor(key, run, stays)),
            4 => (key.clone(), 1..KEYS, run).prop_map(|(key, n, run)| Step::Fill(key, n, run)),
            4 => key.clone().prop_map(Step::Remove),
            6 => (key.clone(), short).prop_map(|(key, run)| Step::Append(key, run)),
            1 => Just(Step::Clear),
            12 => key.clone().prop_map(Step::Get),
            3 => vec(key.clone(), 0..20).prop_map(Step::GetMany),
            3 => key.prop_map(Step::Contains),
            1 => Just(Step::Sync),
            2 => Just(Step::Save),
            1 => Just(Step::Drop),
            1 => Just(Step::Close),
            1 => Just(Step::Backup),
            2 => (1_u64..5, 2_u64..5).prop_map(|(gets, commits)| Step::Fail(gets, commits)),
            2 => Just(Step::Mend),
        ]
        .boxed()
    }

    fn apply(mut model: Self, step: &Step) -> Self {
        match step {
            Step::Insert(key, run) | Step::InsertFor(key, run, true) => {
                model.map.insert(*key, run.bytes());
            }
            Step::Fill(first, count, run) => {
                model.map.extend(filled(*first, *count).map(|key| (key, run.bytes())));
            }
            Step::Remove(key) => {
                model.map.remove(key);
                model.over.remove(key);
            }
            Step::InsertFor(key, _, false) => {
                model.map.remove(key);
                model.over.insert(*key);
            }
            Step::Append(key, run) => model.map.entry(*key).or_default().extend(run.bytes()),
            Step::Clear => model = Self::default(),
            _ => {}
        }
        model.over.retain(|key| !model.map.contains_key(key));
        model
    }
}

/// The cache under test.
struct Subject {
    dir: tempfile::TempDir,
    cache: Option<Cache>,
    faults: Arc<FaultStore>,
}

fn open(dir: &Path) -> (Cache, Arc<FaultStore>) {
    let mut faults = None;
    let cache = Cache::open_with(dir, &options(), |dir, _| {
        let engine = Arc::new(FjallStore::open(dir, FjallOptions::default())?);
        Ok(Arc::clone(faults.insert(Arc::new(FaultStore::new(engine, 3)))))
    });
    (cache.unwrap(), faults.unwrap())
}

impl Subject {
    fn cache(&self) -> &Cache {
        self.cache.as_ref().unwrap()
    }

    /// What a call comes to, if nothing else goes wrong. A failure has changed nothing, so it can
    /// be called again; and it is the engine's, so it ends when the engine is mended.
    fn ask<T>(&self, mut call: impl FnMut(&Cache) -> Result<T, Error>) -> T {
        let mut until = None;
        loop {
            match call(self.cache()) {
                Ok(result) => return result,
                Err(error) => {
                    assert!(self.faults.failed() > 0, "nothing failed: {error}");
                    FAILURES.fetch_add(1, Ordering::Relaxed);
                    self.faults.mend();
                    let until = *until.get_or_insert_with(|| Instant::now() + MENDED_MAX);
                    assert!(Instant::now() < until, "still refused: {error}");
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        }
    }

    fn expect(&self, key: u8, Model { map, .. }: &Model) {
        assert_eq!(self.ask(|cache| cache.get(&key)).as_ref(), map.get(&key), "key {key}");
    }

    /// Lets the handle go, and takes the next one.
    fn reopen(&mut self, end: impl FnOnce(Cache)) {
        let cache = self.cache.take().unwrap();
        cache.report(&mut Totals).unwrap();
        // What fails for good would be waited for.
        self.faults.mend();
        end(cache);
        let (cache, faults) = open(self.dir.path());
        self.cache = Some(cache);
        self.faults = faults;
    }

    fn compare_backup(&self, Model { map, .. }: &Model) {
        let parent = tempfile::tempdir().unwrap();
        let mut number = 0;
        let copy = self.ask(|cache| {
            number += 1;
            let target = parent.path().join(number.to_string());
            cache.backup(&target).map(|_| target)
        });
        let copy = Cache::open(copy, &options()).unwrap();
        let keys: Vec<u8> = (0..KEYS).collect();
        let want: Vec<_> = keys.iter().map(|key| map.get(key).cloned()).collect();
        assert!(copy.get_many(&keys).unwrap() == want, "the copy is the store");
    }
}

static FAILURES: AtomicU64 = AtomicU64::new(0);
static EVICTIONS: AtomicU64 = AtomicU64::new(0);
static LOADS: AtomicU64 = AtomicU64::new(0);

/// Adds up what all subjects did.
struct Totals;

impl Metrics for Totals {
    fn counter(&mut self, name: &'static str, value: u64) {
        match name {
            "evictions" => &EVICTIONS,
            "loads_found" => &LOADS,
            _ => return,
        }
        .fetch_add(value, Ordering::Relaxed);
    }
    fn gauge(&mut self, _: &'static str, _: u64) {}
    fn times(&mut self, _: &'static str, _: &Histogram) {}
}

impl StateMachineTest for Subject {
    type SystemUnderTest = Self;
    type Reference = Model;

    fn init_test(_: &Model) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (cache, faults) = open(dir.path());
        Self { dir, cache: Some(cache), faults }
    }

    fn apply(mut subject: Self, model: &Model, step: Step) -> Self {
        match step {
            Step::Insert(key, run) => subject.ask(|cache| cache.insert(&key, run.bytes())),
            Step::InsertFor(key, run, stays) => {
                let life = if stays { Duration::from_secs(3600) } else { Duration::ZERO };
                subject.ask(|cache| cache.insert_for(&key, run.bytes(), life));
            }
            Step::Fill(first, count, run) => {
                filled(first, count)
                    .for_each(|key| subject.ask(|cache| cache.insert(&key, run.bytes())));
            }
            Step::Remove(key) => subject.ask(|cache| cache.remove(&key)),
            Step::Append(key, run) => subject.ask(|cache| {
                cache.update(&key, |old| {
                    Some([old.map_or(&[][..], Vec::as_slice), &run.bytes()].concat())
                })
            }),
            Step::Clear => subject.ask(Cache::clear),
            Step::Get(key) => subject.expect(key, model),
            Step::GetMany(keys) => {
                let want: Vec<_> = keys.iter().map(|key| model.map.get(key).cloned()).collect();
                assert!(subject.ask(|cache| cache.get_many(&keys)) == want, "keys {keys:?}");
            }
            Step::Contains(key) => {
                assert_eq!(subject.ask(|cache| cache.contains(&key)), model.map.contains_key(&key));
            }
            Step::Sync => subject.ask(Cache::sync),
            Step::Save => {
                subject.ask(Cache::save);
                let KeyCount::Exact(count) = subject.ask(Cache::len) else {
                    panic!("all is known")
                };
                let surplus = count.checked_sub(model.map.len() as u64);
                assert!(
                    surplus.is_some_and(|keys| keys <= model.over.len() as u64),
                    "{count} keys"
                );
            }
            Step::Drop => subject.reopen(drop),
            Step::Close => subject.reopen(|cache| {
                cache.close(MENDED_MAX).unwrap();
            }),
            Step::Backup => subject.compare_backup(model),
            Step::Fail(gets, commits) => {
                subject.faults.rate(Call::Get, Fault::Fail(ErrorKind::Io), gets);
                subject.faults.rate(Call::Commit, Fault::Fail(ErrorKind::Io), commits);
                subject.faults.rate(Call::Commit, Fault::Unclear, 2 * commits);
            }
            Step::Mend => subject.faults.mend(),
        }
        subject
    }

    /// Whatever the calls were, the next handle finds what they left.
    fn teardown(mut subject: Self, model: Model) {
        subject.reopen(drop);
        (0..KEYS).for_each(|key| subject.expect(key, &model));
    }
}

#[test]
fn any_calls_agree_with_a_map() {
    let config = Config {
        cases: 32,
        rng_seed: RngSeed::Fixed(7),
        failure_persistence: None,
        ..Config::default()
    };
    let steps = Model::sequential_strategy(1..100);
    TestRunner::new(config.clone())
        .run(&steps, |(model, steps, seen)| {
            Subject::test_sequential(config.clone(), model, steps, seen);
            Ok(())
        })
        .unwrap();
    for (name, total) in [("failures", &FAILURES), ("evictions", &EVICTIONS), ("loads", &LOADS)] {
        let total = total.load(Ordering::Relaxed);
        assert!(total > 100, "{total} {name} in all runs");
    }
}
