//! The model: a map that is durable by definition.
//!
//! Any thread. Clones share the map, so that dropping one handle and taking another is a crash and
//! a reopening. A backup is one file of records, in key order.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::key::{KeyBuf, Space};
use crate::storage::codec;
use crate::storage::{
    BackupProgress, Batch, Meta, Record, Scanned, Storage, StoreError, StoreStats,
};

const DUMP: &str = "memory.dump";

/// An in-memory engine.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    records: BTreeMap<KeyBuf, Record>,
    meta: Meta,
    commits: u64,
    bytes: u64,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A store filled from a backup.
    ///
    /// # Errors
    /// A failed read or a damaged backup.
    pub fn restore(dir: &Path) -> Result<Self, StoreError> {
        let bytes = fs::read(dir.join(DUMP));
        let bytes = bytes.map_err(|e| StoreError::from_io("reading a backup", e))?;
        let mut state = State::default();
        let mut rest = &bytes[..];
        while let Some((key, value, tail)) = take_pair(rest) {
            let record = codec::decode_of(key, value)?;
            let key = KeyBuf::from_disk(key).ok_or(StoreError::corrupt("reading a backup"))?;
            if key == codec::meta_key() {
                (state.meta, state.commits) = codec::decode_meta(&record)?;
            } else {
                state.records.insert(key, record);
            }
            rest = tail;
        }
        if !rest.is_empty() {
            return Err(StoreError::corrupt("reading a backup"));
        }
        Ok(Self(Arc::new(Mutex::new(state))))
    }

    /// Commits so far.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.lock().commits
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nothing panics while it holds the lock")
    }
}

impl Storage for MemoryStore {
    fn get_many(&self, keys: &[KeyBuf], out: &mut Vec<Option<Record>>) -> Result<(), StoreError> {
        let state = self.lock();
        out.extend(keys.iter().map(|key| state.records.get(key).cloned()));
        Ok(())
    }

    fn commit(&self, batch: Batch) -> Result<BTreeMap<Space, u64>, StoreError> {
        let mut state = self.lock();
        let mut meta = batch.meta;
        for write in batch.writes {
            match write.record {
                Some(record) => {
                    state.bytes += record.payload.len() as u64;
                    state.records.insert(write.key, record);
                }
                None => {
                    state.records.remove(&write.key);
                }
            }
        }
        state.records.retain(|key, _| !meta.dead.contains(&key.as_ref().space));
        meta.dead.clear();
        meta.counts = BTreeMap::new();
        for key in state.records.keys() {
            *meta.counts.entry(key.as_ref().space).or_default() += 1;
        }
        state.commits += 1;
        state.meta = meta;
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
        let before = out.len();
        let mut left = limit_bytes;
        let behind = state.records.range(from..).take_while(|(k, _)| k.as_ref().space == space);
        for (key, record) in behind {
            let bytes = key.as_disk().len() + record.payload.len();
            let count = out.len() - before;
            if count == limit || bytes > left && count > 0 {
                return Ok(true);
            }
            left = left.saturating_sub(bytes);
            out.push(Scanned { key: key.clone(), record: record.clone() });
        }
        Ok(false)
    }

    fn meta(&self) -> Result<Meta, StoreError> {
        Ok(self.lock().meta.clone())
    }

    fn maintain(&self, _: Duration) -> Result<bool, StoreError> {
        Ok(false)
    }

    fn backup(&self, dir: &Path, progress: &dyn Fn(BackupProgress)) -> Result<(), StoreError> {
        let state = self.lock();
        let total_keys = state.records.len() as u64;
        let mut out = Vec::new();
        let (meta_key, meta) = (codec::meta_key(), codec::encode_meta(&state.meta, state.commits));
        for (key, record) in std::iter::once((&meta_key, &meta)).chain(&state.records) {
            push_pair(key, record, &mut out)?;
        }
        drop(state);
        let mut done = BackupProgress {
            total_keys,
            total_bytes: out.len() as u64,
            ..BackupProgress::default()
        };
        progress(done);
        let failed = |e| StoreError::from_io("writing a backup", e);
        fs::write(dir.join(DUMP), out).map_err(failed)?;
        fs::File::open(dir.join(DUMP)).and_then(|f| f.sync_all()).map_err(failed)?;
        fs::File::open(dir).and_then(|d| d.sync_all()).map_err(failed)?;
        (done.keys, done.bytes) = (done.total_keys, done.total_bytes);
        progress(done);
        Ok(())
    }

    fn stats(&self) -> StoreStats {
        let state = self.lock();
        let bytes = |(k, r): (&KeyBuf, &Record)| (k.as_disk().len() + r.payload.len()) as u64;
        let held = state.records.iter().map(bytes).sum();
        StoreStats {
            memory_bytes: held,
            runs: 1,
            written_bytes: state.bytes,
            ..StoreStats::default()
        }
    }
}

fn push_pair(key: &KeyBuf, record: &Record, out: &mut Vec<u8>) -> Result<(), StoreError> {
    let mut value = Vec::new();
    codec::encode(key.as_disk(), record, &mut value)?;
    for part in [key.as_disk(), &value] {
        out.extend_from_slice(&(part.len() as u64).to_le_bytes());
        out.extend_from_slice(part);
    }
    Ok(())
}

/// Key, value and what is behind them.
type Pair<'a> = (&'a [u8], &'a [u8], &'a [u8]);

fn take_pair(bytes: &[u8]) -> Option<Pair<'_>> {
    let (key, rest) = take_part(bytes)?;
    let (value, rest) = take_part(rest)?;
    Some((key, value, rest))
}

fn take_part(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<8>()?;
    rest.split_at_checked(usize::try_from(u64::from_le_bytes(*len)).ok()?)
}
