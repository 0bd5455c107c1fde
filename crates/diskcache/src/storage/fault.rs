//! Another engine with errors and delays, by seed or by plan.
//!
//! For tests. Any thread. Each call has a number, from 0; the plan says what happens at it, and the
//! rates say what may happen at any other. Print the seed when a test fails.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use crate::journal::sim::Draw;
use crate::key::{KeyBuf, Space};
use crate::storage::{
    BackupProgress, Batch, DiskSpace, ErrorKind, Meta, Record, Scanned, Storage, StoreError,
    StoreStats,
};

/// What goes wrong at a call.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Fault {
    /// The call fails with this kind and does nothing.
    Fail(ErrorKind),
    /// The call is made and then reported as [`ErrorKind::Unclear`]: a write took effect although
    /// nobody was told.
    Unclear,
    /// The call is made after a delay.
    Delay(Duration),
    /// The call is made once the faults have ended ([`FaultStore::mend`]).
    Hang,
    /// The call is made, and its answer comes once the faults have ended.
    HangAfter,
}

/// Which calls a rate applies to.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Debug)]
pub enum Call {
    /// [`Storage::get_many`].
    Get,
    /// [`Storage::commit`].
    Commit,
    /// [`Storage::scan`].
    Scan,
    /// [`Storage::meta`].
    Meta,
    /// [`Storage::maintain`].
    Maintain,
    /// [`Storage::backup`].
    Backup,
}

/// An engine in front of another one.
#[derive(Debug)]
pub struct FaultStore {
    inner: Arc<dyn Storage>,
    plan: Mutex<Plan>,
    mended: Condvar,
}

#[derive(Debug)]
struct Plan {
    calls: u64,
    at: BTreeMap<u64, Fault>,
    rates: Vec<(Call, Fault, u64)>,
    draw: Draw,
    failed: u64,
    mends: u64,
    hanging: u64,
    space: Option<DiskSpace>,
}

impl FaultStore {
    /// A store without faults; `seed` drives the rates set later.
    #[must_use]
    pub fn new(inner: Arc<dyn Storage>, seed: u64) -> Self {
        let plan = Plan {
            calls: 0,
            at: BTreeMap::new(),
            rates: Vec::new(),
            draw: Draw(seed),
            failed: 0,
            mends: 0,
            hanging: 0,
            space: None,
        };
        Self { inner, plan: Mutex::new(plan), mended: Condvar::new() }
    }

    /// Plans `fault` for call number `call`, counted from 0 over all kinds of calls.
    pub fn plan(&self, call: u64, fault: Fault) {
        self.lock().at.insert(call, fault);
    }

    /// Lets `fault` happen at one in `one_in` of the calls of this kind.
    ///
    /// # Panics
    /// If `one_in` is 0.
    pub fn rate(&self, call: Call, fault: Fault, one_in: u64) {
        assert!(one_in > 0, "a rate is one in so many");
        self.lock().rates.push((call, fault, one_in));
    }

    /// Says that the disk is as full as that, until the faults end.
    pub fn set_space(&self, space: DiskSpace) {
        self.lock().space = Some(space);
    }

    /// Ends all faults; calls that hang are made now.
    pub fn mend(&self) {
        let mut plan = self.lock();
        plan.at.clear();
        plan.rates.clear();
        plan.mends += 1;
        plan.space = None;
        self.mended.notify_all();
    }

    /// Blocks until the faults have ended more than `mends` times.
    fn hang(&self, mends: u64) {
        let mut plan = self.lock();
        plan.hanging += 1;
        let woken = self.mended.wait_while(plan, |plan| plan.mends == mends);
        woken.expect("nothing panics while it holds the lock").hanging -= 1;
    }

    /// Calls that hang now.
    #[must_use]
    pub fn hanging(&self) -> u64 {
        self.lock().hanging
    }

    /// Calls so far.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// Calls that were made to fail so far.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.lock().failed
    }

    fn lock(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().expect("nothing panics while it holds the lock")
    }

    fn call<T>(
        &self,
        call: Call,
        make: impl FnOnce(&dyn Storage) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        const WHAT: &str = "acting out a planned fault";
        let (fault, mends) = {
            let mut plan = self.lock();
            (plan.next(call), plan.mends)
        };
        match fault {
            None => make(&*self.inner),
            Some(Fault::Fail(kind)) => Err(StoreError::new(kind, WHAT)),
            Some(Fault::Unclear) => {
                make(&*self.inner)?;
                Err(StoreError::new(ErrorKind::Unclear, WHAT))
            }
            Some(Fault::Delay(delay)) => {
                std::thread::sleep(delay);
                make(&*self.inner)
            }
            Some(Fault::Hang) => {
                self.hang(mends);
                make(&*self.inner)
            }
            Some(Fault::HangAfter) => {
                let made = make(&*self.inner);
                self.hang(mends);
                made
            }
        }
    }
}

impl Plan {
    fn next(&mut self, call: Call) -> Option<Fault> {
        let planned = self.at.remove(&self.calls);
        self.calls += 1;
        let drawn = || {
            let mut rates = self.rates.iter().filter(|(kind, ..)| *kind == call);
            rates.find(|(.., one_in)| self.draw.next().is_multiple_of(*one_in)).map(|r| r.1)
        };
        let fault = planned.or_else(drawn);
        self.failed += u64::from(matches!(fault, Some(Fault::Fail(_) | Fault::Unclear)));
        fault
    }
}

impl Storage for FaultStore {
    fn get_many(&self, keys: &[KeyBuf], out: &mut Vec<Option<Record>>) -> Result<(), StoreError> {
        let before = out.len();
        self.call(Call::Get, |inner| inner.get_many(keys, out))
            .inspect_err(|_| out.truncate(before))
    }

    fn commit(&self, batch: Batch) -> Result<BTreeMap<Space, u64>, StoreError> {
        self.call(Call::Commit, |inner| inner.commit(batch))
    }

    fn scan(
        &self,
        from: &KeyBuf,
        limit: usize,
        limit_bytes: usize,
        out: &mut Vec<Scanned>,
    ) -> Result<bool, StoreError> {
        let before = out.len();
        self.call(Call::Scan, |inner| inner.scan(from, limit, limit_bytes, out))
            .inspect_err(|_| out.truncate(before))
    }

    fn meta(&self) -> Result<Meta, StoreError> {
        self.call(Call::Meta, |inner| inner.meta())
    }

    fn maintain(&self, budget: Duration) -> Result<bool, StoreError> {
        self.call(Call::Maintain, |inner| inner.maintain(budget))
    }

    fn take_expired(&self, max: usize) -> Vec<KeyBuf> {
        self.inner.take_expired(max)
    }

    fn backup(&self, dir: &Path, progress: &dyn Fn(BackupProgress)) -> Result<(), StoreError> {
        self.call(Call::Backup, |inner| inner.backup(dir, progress))
    }

    fn set_cache_bytes(&self, bytes: u64) {
        self.inner.set_cache_bytes(bytes);
    }

    fn interrupt(&self) {
        self.inner.interrupt();
    }

    fn stats(&self) -> StoreStats {
        let (stats, space) = (self.inner.stats(), self.lock().space);
        StoreStats { space: space.or(stats.space), ..stats }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{KeyRef, Seq};
    use crate::storage::memory::MemoryStore;
    use crate::storage::{Before, Write};

    fn put(seq: u64) -> Batch {
        let key = KeyRef { space: Space(1), hash: 1, key: b"k" }.to_buf();
        let record = Record { seq: Seq(seq), expires_at_ms: None, payload: Arc::from(&b"v"[..]) };
        let write = Write { key, record: Some(record), before: Before::Unknown };
        Batch { writes: vec![write], meta: Meta { highest: Seq(seq), ..Meta::default() } }
    }

    #[test]
    fn planned_faults_strike_once_and_say_what_they_are() {
        let inner = MemoryStore::new();
        let store = FaultStore::new(Arc::new(inner.clone()), 1);
        store.plan(0, Fault::Fail(ErrorKind::NoSpace));
        store.plan(1, Fault::Unclear);
        assert_eq!(store.commit(put(1)).unwrap_err().kind, ErrorKind::NoSpace);
        assert_eq!(inner.commits(), 0);
        assert_eq!(store.commit(put(2)).unwrap_err().kind, ErrorKind::Unclear);
        assert_eq!(inner.commits(), 1);
        assert!(store.commit(put(3)).is_ok() && store.failed() == 2 && store.calls() == 3);
    }

    #[test]
    fn rates_strike_by_seed_and_only_at_their_calls() {
        let run = |seed| {
            let store = FaultStore::new(Arc::new(MemoryStore::new()), seed);
            store.rate(Call::Get, Fault::Fail(ErrorKind::Io), 3);
            let key = [codec_key()];
            let mut out = Vec::new();
            let struck: Vec<bool> =
                (0..100).map(|_| store.get_many(&key, &mut out).is_err()).collect();
            assert!(
                store.meta().is_ok() && out.len() == 100 - struck.iter().filter(|s| **s).count()
            );
            struck
        };
        assert_eq!(run(5), run(5));
        assert_ne!(run(5), run(6));
        assert!((15..60).contains(&run(7).iter().filter(|s| **s).count()));
    }

    fn codec_key() -> KeyBuf {
        KeyRef { space: Space(1), hash: 0, key: b"" }.to_buf()
    }
}
