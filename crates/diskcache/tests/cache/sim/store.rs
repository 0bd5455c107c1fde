//! An engine in memory with planned faults, that survives a crash as it was committed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use flintlock_diskcache::cache::rng::Rng;
use flintlock_diskcache::key::{KeyBuf, Space};
use flintlock_diskcache::storage::{
    BackupProgress, Batch, Before, DiskSpace, ErrorKind, Meta, Record, Scanned, Storage,
    StoreError, StoreStats,
};

/// What may go wrong, in thousandths.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) read: u64,
    pub(crate) commit: u64,
    /// Of the failed commits, those of which it is not known whether they took effect.
    pub(crate) unclear: u64,
}

#[derive(Debug)]
pub(crate) struct SimStore(Mutex<State>);

#[derive(Debug)]
struct State {
    records: BTreeMap<KeyBuf, Record>,
    meta: Meta,
    faults: Faults,
    rng: Rng,
    is_low: bool,
    damaged: BTreeSet<KeyBuf>,
    reads: u64,
    writes: u64,
}

fn failed(kind: ErrorKind) -> StoreError {
    StoreError { kind, what: "a planned fault", source: None }
}

impl SimStore {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Mutex::new(State {
            records: BTreeMap::new(),
            meta: Meta { next_space: 1, ..Meta::default() },
            faults: Faults::default(),
            rng: Rng::new(seed),
            is_low: false,
            damaged: BTreeSet::new(),
            reads: 0,
            writes: 0,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test thread panicked with it")
    }

    pub(crate) fn set_faults(&self, faults: Faults) {
        self.lock().faults = faults;
    }

    /// Lets little be free on the disk, or enough.
    pub(crate) fn set_low(&self, is_low: bool) {
        self.lock().is_low = is_low;
    }

    /// From now on these keys, and no others, cannot be read.
    pub(crate) fn damage(&self, keys: impl IntoIterator<Item = KeyBuf>) {
        self.lock().damaged = keys.into_iter().collect();
    }

    /// Keys read so far.
    pub(crate) fn reads(&self) -> u64 {
        self.lock().reads
    }

    /// Keys written so far.
    pub(crate) fn writes(&self) -> u64 {
        self.lock().writes
    }

    pub(crate) fn record(&self, key: flintlock_diskcache::key::KeyRef<'_>) -> Option<Record> {
        self.lock().records.get(&key.to_buf()).cloned()
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().records.len()
    }
}

impl State {
    fn apply(&mut self, batch: Batch) {
        for write in batch.writes {
            let space = write.key.as_ref().space;
            let held = match &write.record {
                Some(record) => self.records.insert(write.key.clone(), record.clone()),
                None => self.records.remove(&write.key),
            };
            match write.before {
                Before::Absent => assert!(held.is_none(), "{:?} was not absent", write.key),
                Before::Present => assert!(held.is_some(), "{:?} was not there", write.key),
                Before::Unknown => {}
            }
            let count = self.meta.counts.entry(space).or_default();
            *count = *count + u64::from(write.record.is_some()) - u64::from(held.is_some());
            self.writes += 1;
        }
        let counts = std::mem::take(&mut self.meta.counts);
        assert!(batch.meta.watermark >= self.meta.watermark, "the watermark never goes back");
        assert!(batch.meta.highest >= self.meta.highest);
        self.meta = Meta { counts, ..batch.meta };
    }
}

impl Storage for SimStore {
    fn get_many(&self, keys: &[KeyBuf], out: &mut Vec<Option<Record>>) -> Result<(), StoreError> {
        let mut state = self.lock();
        if state.rng.below(1000) < state.faults.read {
            return Err(failed(ErrorKind::Io));
        }
        if keys.iter().any(|key| state.damaged.contains(key)) {
            return Err(failed(ErrorKind::Corrupt));
        }
        state.reads += keys.len() as u64;
        out.extend(keys.iter().map(|key| state.records.get(key).cloned()));
        Ok(())
    }

    fn commit(&self, batch: Batch) -> Result<BTreeMap<Space, u64>, StoreError> {
        let mut state = self.lock();
        if state.rng.below(1000) < state.faults.commit {
            if state.rng.below(1000) >= state.faults.unclear {
                return Err(failed(ErrorKind::NoSpace));
            }
            if state.rng.below(2) == 0 {
                state.apply(batch);
            }
            return Err(failed(ErrorKind::Unclear));
        }
        state.apply(batch);
        Ok(state.meta.counts.clone())
    }

    fn scan(
        &self,
        from: &KeyBuf,
        limit: usize,
        limit_bytes: usize,
        out: &mut Vec<Scanned>,
    ) -> Result<bool, StoreError> {
        let state = self.lock();
        let space = from.as_ref().space;
        let mut bytes = 0;
        for (key, record) in state.records.range(from..) {
            if key.as_ref().space != space {
                break;
            }
            if out.len() >= limit || bytes >= limit_bytes && !out.is_empty() {
                return Ok(true);
            }
            bytes += record.payload.len();
            out.push(Scanned { key: key.clone(), record: record.clone() });
        }
        Ok(false)
    }

    fn meta(&self) -> Result<Meta, StoreError> {
        let mut state = self.lock();
        if state.rng.below(1000) < state.faults.read {
            return Err(failed(ErrorKind::Io));
        }
        Ok(state.meta.clone())
    }

    /// Purges one dead space a call.
    fn maintain(&self, _: Duration) -> Result<bool, StoreError> {
        let mut state = self.lock();
        let dead = state.meta.dead.clone();
        let full = |s: &&Space| state.meta.counts.get(s).is_some_and(|n| *n > 0);
        let Some(space) = dead.iter().find(full).copied() else { return Ok(false) };
        state.records.retain(|key, _| key.as_ref().space != space);
        state.meta.counts.remove(&space);
        Ok(true)
    }

    /// Names some keys that have expired or will; at times none, or it would go on for ever.
    fn take_expired(&self, max: usize) -> Vec<KeyBuf> {
        let mut state = self.lock();
        let count = state.rng.below(8) as usize;
        let expiring = state.records.iter().filter(|(_, record)| record.expires_at_ms.is_some());
        expiring.map(|(key, _)| key.clone()).take(max.min(count)).collect()
    }

    fn backup(&self, _: &Path, progress: &dyn Fn(BackupProgress)) -> Result<(), StoreError> {
        progress(BackupProgress { keys: self.len() as u64, ..BackupProgress::default() });
        Ok(())
    }

    fn stats(&self) -> StoreStats {
        let free = if self.lock().is_low { 1000 } else { 1 << 40 };
        let space = Some(DiskSpace { free, total: 1 << 41 });
        StoreStats { memory_bytes: 1000, runs: 1, space, ..StoreStats::default() }
    }
}
