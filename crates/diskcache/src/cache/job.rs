//! Work for other threads, as values: what goes out, what comes back, and how to run one.
//!
//! The cache does no IO. It leaves [`Job`]s in its outbox; whoever drives it runs each with
//! [`Worker::run`] on any thread that may block and hands the [`Done`] back. A job owns all it
//! needs: keys, encoded values, the journal's writer itself, so nothing is shared with the main
//! thread and no lock is needed. Every job yields exactly one `Done`, on an error and on a panic
//! in the engine too.
//!
//! Source: KeyDB's two-phase storage calls (async FLASH), which dropped errors on the way back.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::backup::{BackupPlan, Progress};
use super::home::{Loaded, Payload};
use super::op::Stretch;
use crate::journal::{ENCODER_PANICKED, Export, Group, Writer};
use crate::key::{KeyBuf, KeyRef, Seq, Space};
use crate::storage::{
    Batch, Before, ErrorKind, Meta, Record, Storage, StoreError, StoreStats, Write,
};
use crate::token::TokenId;

/// Why an operation failed, small enough to tell every waiter.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Failure {
    /// The class to act on.
    pub kind: ErrorKind,
    /// What was being done.
    pub what: &'static str,
}

impl Failure {
    pub(super) const CANCELLED: Self = Self { kind: ErrorKind::Cancelled, what: "cancelled" };
    pub(super) const CLOSED: Self = Self { kind: ErrorKind::Closed, what: "the cache is closed" };
}

impl From<&StoreError> for Failure {
    fn from(error: &StoreError) -> Self {
        Self { kind: error.kind, what: error.what }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.kind)
    }
}

impl std::error::Error for Failure {}

/// Makes values of records, on the workers.
pub trait Decode: Send + Sync + 'static {
    /// What [`super::Home::insert`] takes.
    type Value: Send + 'static;

    /// Decodes the payload of `record`.
    ///
    /// # Errors
    /// What the payload lacks; the read then fails as corrupt, and is never taken for a miss.
    fn decode(&self, key: KeyRef<'_>, record: &Record) -> Result<Self::Value, DecodeError>;
}

/// A payload that does not decode.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct DecodeError(pub &'static str);

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for DecodeError {}

/// Where a job may run.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub enum Lane {
    /// Any worker, several at once.
    Any,
    /// In the order of the outbox, one at a time: the journal.
    Journal,
    /// In the order of the outbox, one at a time: writes of the engine.
    Engine,
    /// Merges and backups, in any order, for up to seconds: where neither the journal nor a commit
    /// waits behind them.
    Background,
}

/// Work that blocks.
#[derive(Debug)]
pub struct Job(pub(super) Work);

#[derive(Debug)]
pub(super) enum Work {
    Load(LoadJob),
    Commit(CommitJob),
    /// Asks the engine what it committed last, after a commit of unclear outcome.
    Examine,
    Journal(JournalJob),
    /// Brings the engine's figures, as every job does.
    Look,
    Maintain {
        budget: Duration,
        /// What the engine may cache.
        cache_bytes: Option<u64>,
        /// Expired keys to bring back, at most.
        expired_max: usize,
    },
    Scan {
        token: TokenId,
        from: KeyBuf,
        limit: usize,
        limit_bytes: usize,
    },
    /// Makes the directories of a backup and copies the engine.
    BackupEngine(BackupPlan, Arc<Progress>),
    /// Copies the journal and makes the copy a store.
    BackupJournal(BackupPlan, Export, Arc<Progress>),
}

/// Keys to be read, and whose each is.
#[derive(Debug, Default)]
pub(super) struct LoadJob {
    pub(super) loads: Vec<TokenId>,
    pub(super) keys: Vec<KeyBuf>,
}

/// A batch with values that may still have to be encoded.
#[derive(Debug)]
pub(super) struct CommitJob {
    pub(super) writes: Vec<Outgoing>,
    pub(super) meta: Meta,
}

/// One key on its way to the engine.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) key: KeyBuf,
    pub(super) before: Before,
    pub(super) record: Option<OutgoingRecord>,
}

#[derive(Debug)]
pub(super) struct OutgoingRecord {
    pub(super) seq: Seq,
    pub(super) expires_at_ms: Option<u64>,
    pub(super) payload: Payload,
}

impl Outgoing {
    /// Encodes what was put off.
    fn into_write(self) -> Write {
        let record = self.record.map(|r| Record {
            seq: r.seq,
            expires_at_ms: r.expires_at_ms,
            payload: r.payload.into_bytes(),
        });
        Write { key: self.key, record, before: self.before }
    }
}

/// Something for the journal; the writer travels with it.
#[derive(Debug)]
pub(super) struct JournalJob {
    pub(super) writer: Box<Writer>,
    pub(super) group: Option<Group>,
    pub(super) sync: bool,
    /// The watermark file is synced too, and before it everything logged.
    pub(super) mark: bool,
    pub(super) trim: Option<Seq>,
    pub(super) errand: Option<Errand>,
}

/// Something else for the journal's writer.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) enum Errand {
    /// Keeps the segments.
    Hold,
    /// Says which bytes of them hold everything.
    Export,
    /// Segments may go again.
    Release,
}

impl Job {
    /// Where it may run.
    #[must_use]
    pub fn lane(&self) -> Lane {
        match self.0 {
            Work::Load(_) | Work::Scan { .. } | Work::Look => Lane::Any,
            Work::Maintain { .. } | Work::BackupEngine(..) | Work::BackupJournal(..) => {
                Lane::Background
            }
            Work::Journal(_) => Lane::Journal,
            Work::Commit(_) | Work::Examine => Lane::Engine,
        }
    }

    /// What kind of work it is.
    #[must_use]
    pub fn kind(&self) -> JobKind {
        match self.0 {
            Work::Load(_) => JobKind::Load,
            Work::Commit(_) | Work::Examine => JobKind::Commit,
            Work::Journal(_) => JobKind::Journal,
            Work::Maintain { .. } => JobKind::Maintain,
            Work::Look => JobKind::Look,
            Work::Scan { .. } => JobKind::Scan,
            Work::BackupEngine(..) | Work::BackupJournal(..) => JobKind::Backup,
        }
    }
}

/// Kinds of work, for figures.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub enum JobKind {
    /// Reading keys.
    Load,
    /// Committing a batch.
    Commit,
    /// Appending to the journal, syncing or trimming it.
    Journal,
    /// Merging and reclaiming.
    Maintain,
    /// Reading a stretch of keys.
    Scan,
    /// Copying the store.
    Backup,
    /// Looking at the disk.
    Look,
}

impl JobKind {
    /// All of them, with the names that metrics show.
    pub const ALL: [(Self, &'static str); 7] = [
        (Self::Load, "load"),
        (Self::Commit, "commit"),
        (Self::Journal, "journal"),
        (Self::Maintain, "maintain"),
        (Self::Scan, "scan"),
        (Self::Backup, "backup"),
        (Self::Look, "look"),
    ];
}

/// What became of a job.
#[derive(Debug)]
pub struct Done<V> {
    pub(super) outcome: Outcome<V>,
    pub(super) kind: JobKind,
    pub(super) took_us: u64,
    /// The engine's figures; of reads, now and then.
    pub(super) stats: Option<StoreStats>,
}

impl<V> Done<V> {
    /// Notes how long the job ran.
    #[must_use]
    pub fn took(mut self, micros: u64) -> Self {
        self.took_us = micros;
        self
    }

    /// What kind of work it was.
    #[must_use]
    pub fn kind(&self) -> JobKind {
        self.kind
    }

    /// Calls `each` with every failure in it.
    pub(super) fn each_failure(&self, mut each: impl FnMut(&Failure)) {
        match &self.outcome {
            Outcome::Load(results) => {
                results.iter().filter_map(|one| one.result.as_ref().err()).for_each(each);
            }
            Outcome::Commit(Err(failure))
            | Outcome::Examine(Err(failure))
            | Outcome::Maintain { result: Err(failure), .. }
            | Outcome::Scan { result: Err(failure), .. }
            | Outcome::BackupEngine(Err(failure))
            | Outcome::BackupJournal(Err(failure)) => each(failure),
            Outcome::Journal(outcome) => {
                let errand = outcome.errand.iter().filter_map(|(_, result)| result.as_ref().err());
                let trim = outcome.trim.iter().filter_map(|result| result.as_ref().err());
                outcome.result.as_ref().err().into_iter().chain(trim).chain(errand).for_each(each);
            }
            _ => {}
        }
    }
}

#[derive(Debug)]
pub(super) enum Outcome<V> {
    Load(Vec<LoadOutcome<V>>),
    Commit(Result<BTreeMap<Space, u64>, Failure>),
    Examine(Result<Meta, Failure>),
    Look,
    Journal(JournalOutcome),
    Maintain { result: Result<bool, Failure>, expired: Vec<KeyBuf> },
    Scan { token: TokenId, result: Result<Stretch, Failure> },
    BackupEngine(Result<(), Failure>),
    BackupJournal(Result<(), Failure>),
}

#[derive(Debug)]
pub(super) struct LoadOutcome<V> {
    pub(super) load: TokenId,
    pub(super) result: Result<Option<Loaded<V>>, Failure>,
    pub(super) payload_bytes: usize,
}

#[derive(Debug)]
pub(super) struct JournalOutcome {
    pub(super) writer: Box<Writer>,
    /// A group to fill next.
    pub(super) spare: Option<Group>,
    /// The append and the sync.
    pub(super) result: Result<(), Failure>,
    /// It included the watermark file.
    pub(super) mark: bool,
    pub(super) trim: Option<Result<(), Failure>>,
    pub(super) errand: Option<(Errand, Result<Option<Export>, Failure>)>,
}

/// Runs jobs against one engine. Any thread; blocks.
pub struct Worker<D> {
    storage: Arc<dyn Storage>,
    decode: D,
    /// Keys read so far; only ever counted.
    reads: AtomicU64,
}

/// Keys read between two looks at the engine's figures: each look takes half a dozen locks, which
/// all readers share. What the engine caches for so many is little.
const READS_PER_LOOK: u64 = 32;

impl<D> fmt::Debug for Worker<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Worker({:?})", self.storage)
    }
}

const PANICKED: Failure = Failure { kind: ErrorKind::Io, what: "the storage engine panicked" };

impl<D: Decode> Worker<D> {
    /// A worker for `storage`.
    pub fn new(storage: Arc<dyn Storage>, decode: D) -> Self {
        Self { storage, decode, reads: AtomicU64::new(0) }
    }

    /// Runs `job`. Blocks for as long as the disk does; a panic in the engine is an error.
    ///
    /// # Panics
    /// On an event loop, see [`forbid_jobs_here`](crate::exec::forbid_jobs_here), in builds with
    /// debug assertions.
    pub fn run(&self, job: Job) -> Done<D::Value> {
        debug_assert!(crate::exec::may_run_jobs(), "the engine is not called on an event loop");
        let kind = job.kind();
        let looks = self.looks(&job);
        let outcome = match job.0 {
            Work::Load(job) => Outcome::Load(self.load(job)),
            Work::Commit(job) => Outcome::Commit(self.commit(job)),
            Work::Examine => Outcome::Examine(guard(|| self.storage.meta())),
            Work::Look => Outcome::Look,
            Work::Journal(job) => Outcome::Journal(journal(job)),
            Work::Maintain { budget, cache_bytes, expired_max } => Outcome::Maintain {
                result: guard(|| {
                    cache_bytes.into_iter().for_each(|bytes| self.storage.set_cache_bytes(bytes));
                    self.storage.maintain(budget)
                }),
                expired: guard(|| Ok(self.storage.take_expired(expired_max))).unwrap_or_default(),
            },
            Work::Scan { token, from, limit, limit_bytes } => {
                let result = guard(|| {
                    let mut records = Vec::new();
                    let more = self.storage.scan(&from, limit, limit_bytes, &mut records)?;
                    Ok(Stretch { records, more })
                });
                Outcome::Scan { token, result }
            }
            Work::BackupEngine(plan, progress) => {
                Outcome::BackupEngine(plan.copy_engine(&*self.storage, &progress))
            }
            Work::BackupJournal(plan, export, progress) => {
                Outcome::BackupJournal(plan.copy_journal(&export, &progress))
            }
        };
        Done { outcome, kind, took_us: 0, stats: looks.then(|| self.storage.stats()) }
    }

    /// Whether the engine's figures are to come with this job.
    fn looks(&self, job: &Job) -> bool {
        let Work::Load(LoadJob { keys, .. }) = &job.0 else { return true };
        let before = self.reads.fetch_add(keys.len() as u64, Ordering::Relaxed);
        before / READS_PER_LOOK != (before + keys.len() as u64) / READS_PER_LOOK
    }

    /// Reads one key with the last operation that its record includes; for replay.
    #[expect(clippy::type_complexity, reason = "used once, in replay")]
    pub(super) fn read(
        &self,
        key: &KeyBuf,
    ) -> Result<Option<(Seq, Result<Loaded<D::Value>, DecodeError>)>, Failure> {
        let record = guard(|| {
            let mut out = Vec::with_capacity(1);
            self.storage.get_many(std::slice::from_ref(key), &mut out)?;
            Ok(out.pop().flatten())
        })?;
        Ok(record.map(|record| {
            let value = self.decode.decode(key.as_ref(), &record);
            let expires_at_ms = record.expires_at_ms;
            (record.seq, value.map(|value| Loaded { value, expires_at_ms }))
        }))
    }

    fn commit(&self, job: CommitJob) -> Result<BTreeMap<Space, u64>, Failure> {
        let CommitJob { writes, meta } = job;
        // Before the engine has any of it: what cannot be encoded leaves nothing in doubt.
        let encode = || writes.into_iter().map(Outgoing::into_write).collect();
        let writes = catch_unwind(AssertUnwindSafe(encode))
            .map_err(|_| Failure { kind: ErrorKind::Corrupt, what: ENCODER_PANICKED })?;
        guard(|| self.storage.commit(Batch { writes, meta })).map_err(|failure| {
            // A commit cut short by a panic may have taken effect or not.
            let is_unclear = failure == PANICKED;
            Failure { kind: if is_unclear { ErrorKind::Unclear } else { failure.kind }, ..failure }
        })
    }

    fn load(&self, job: LoadJob) -> Vec<LoadOutcome<D::Value>> {
        let LoadJob { loads, keys } = job;
        let read = |keys: &[KeyBuf]| {
            guard(|| {
                let mut records = Vec::with_capacity(keys.len());
                self.storage.get_many(keys, &mut records)?;
                assert_eq!(records.len(), keys.len(), "an engine answers every key");
                Ok(records)
            })
        };
        let each = loads.into_iter().zip(&keys);
        match read(&keys) {
            Ok(records) => {
                each.zip(records).map(|((id, key), one)| self.decode(id, key, Ok(one))).collect()
            }
            Err(failure) if keys.len() == 1 => {
                each.map(|(id, key)| self.decode(id, key, Err(failure))).collect()
            }
            // One bad record must not fail its neighbours.
            Err(_) => each
                .map(|(id, key)| {
                    let one = read(std::slice::from_ref(key));
                    self.decode(id, key, one.map(|mut one| one.pop().flatten()))
                })
                .collect(),
        }
    }

    fn decode(
        &self,
        load: TokenId,
        key: &KeyBuf,
        result: Result<Option<Record>, Failure>,
    ) -> LoadOutcome<D::Value> {
        let mut payload_bytes = 0;
        let result = result.and_then(|record| {
            let Some(record) = record else { return Ok(None) };
            payload_bytes = record.payload.len();
            let value =
                catch_unwind(AssertUnwindSafe(|| self.decode.decode(key.as_ref(), &record)))
                    .unwrap_or(Err(DecodeError("the decoder panicked")))
                    .map_err(|e| Failure { kind: ErrorKind::Corrupt, what: e.0 })?;
            Ok(Some(Loaded { value, expires_at_ms: record.expires_at_ms }))
        });
        LoadOutcome { load, result, payload_bytes }
    }
}

pub(super) fn guard<T>(run: impl FnOnce() -> Result<T, StoreError>) -> Result<T, Failure> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => result.map_err(|e| Failure::from(&e)),
        Err(_) => Err(PANICKED),
    }
}

fn journal(job: JournalJob) -> JournalOutcome {
    let JournalJob { mut writer, group, sync, mark, trim, errand } = job;
    let result = guard(|| {
        if let Some(group) = group {
            writer.append(group)?;
        }
        match (mark, sync) {
            (true, _) => writer.close().map(drop),
            (false, true) => writer.sync().map(drop),
            (false, false) => Ok(()),
        }
    });
    let errand = errand.map(|errand| {
        let done = match errand {
            Errand::Hold => {
                writer.hold();
                Ok(None)
            }
            Errand::Export => guard(|| writer.export().map(Some)),
            Errand::Release => {
                writer.release();
                Ok(None)
            }
        };
        (errand, done)
    });
    // Behind a release: what is free to go now goes.
    let trim = trim.map(|upto| guard(|| writer.trim(upto).map(drop)));
    let spare = writer.take_spare();
    JournalOutcome { writer, spare, result, mark, trim, errand }
}

#[cfg(test)]
mod tests;
