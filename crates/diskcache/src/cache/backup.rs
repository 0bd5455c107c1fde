//! A copy of the store while it is used: the steps, in order. Main thread; no IO.
//!
//! The copy is the engine as some batch left it and the journal behind that batch, so opening it
//! arrives at one moment of the original although nobody stops: writes, checkpoints and loads go
//! on throughout. Whatever was logged before the last step began is in it.
//!
//! ```text
//! journal lane  hold     no segment is dropped from here on
//! any worker    engine   directories; copies or links of the engine's files
//! journal lane  export   appends and syncs what is logged; names the bytes that hold it
//! any worker    journal  copies them; the identity last, which makes it a store
//! journal lane  release
//! ```
//!
//! Source: the steps of [`crate::backup`]; Redis's diskstore stopped everything instead.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Cache;
use super::job::{Errand, Failure, Job, Work, guard};
use super::op::{self, Output};
use crate::backup;
use crate::journal::{DiskDir, Export};
use crate::layout::{self, Identity, LayoutError, StoreDir};
use crate::storage::{BackupProgress, ErrorKind, Storage, StoreError};
use crate::token::{Token, TokenId};

/// From where to where.
#[derive(Clone, Debug)]
pub struct BackupPlan {
    journal: PathBuf,
    /// Where the copy is made.
    target: PathBuf,
    /// What it takes the place of when it is whole.
    replaces: Option<PathBuf>,
    identity: Identity,
}

impl BackupPlan {
    /// A copy of the store in `dir` into `target`, which is missing or empty.
    #[must_use]
    pub fn new(dir: &StoreDir, target: &Path) -> Self {
        let (journal, identity) = (dir.journal_dir(), *dir.identity());
        Self { journal, target: target.to_owned(), replaces: None, identity }
    }

    /// A copy of the store in `dir` that takes the place of the backup in `target`, if there is
    /// one, when it is whole. Until then it is made beside it, in [`backup::unfinished`]; a copy
    /// that fails is removed, and one that a crash left there is removed first.
    #[must_use]
    pub fn replacing(dir: &StoreDir, target: &Path) -> Self {
        let made_in = backup::unfinished(target);
        Self { replaces: Some(target.to_owned()), ..Self::new(dir, &made_in) }
    }

    pub(super) fn copy_engine(
        &self,
        engine: &dyn Storage,
        progress: &Progress,
    ) -> Result<(), Failure> {
        self.step(|| {
            if self.replaces.is_some() {
                backup::remove(&self.target).map_err(layout_error)?;
            }
            backup::prepare(&self.target).map_err(layout_error)?;
            let (_, to) = layout::part_dirs(&self.target);
            engine.backup(&to, &|now| progress.set(now))
        })
    }

    pub(super) fn copy_journal(&self, export: &Export, progress: &Progress) -> Result<(), Failure> {
        self.step(|| {
            let (to, _) = layout::part_dirs(&self.target);
            progress.journal_total_bytes.store(export.len_bytes(), Ordering::Relaxed);
            export.copy(&DiskDir::new(&self.journal), &DiskDir::new(&to), &|bytes| {
                progress.journal_bytes.fetch_add(bytes, Ordering::Relaxed);
            })?;
            backup::seal(&self.target, &self.identity).map_err(layout_error)?;
            match &self.replaces {
                Some(old) => backup::publish(&self.target, old).map_err(layout_error),
                None => Ok(()),
            }
        })
    }

    /// A copy that failed and has a place of our choosing is not left on a disk that may be full.
    fn step(&self, step: impl FnOnce() -> Result<(), StoreError>) -> Result<(), Failure> {
        let result = guard(step);
        if result.is_err() && self.replaces.is_some() {
            // What cannot be removed now is removed by the next backup, which says so if it cannot.
            drop(backup::remove(&self.target));
        }
        result
    }
}

fn layout_error(error: LayoutError) -> StoreError {
    match error {
        LayoutError::Io { what, source, .. } => StoreError::from_io(what, source),
        other => {
            let what = "writing the backup";
            StoreError { kind: ErrorKind::Io, what, source: Some(Box::new(other)) }
        }
    }
}

/// How far a backup has come; a worker writes it, the main thread reads it.
#[derive(Debug, Default)]
pub(super) struct Progress {
    keys: AtomicU64,
    total_keys: AtomicU64,
    bytes: AtomicU64,
    total_bytes: AtomicU64,
    journal_bytes: AtomicU64,
    /// The length of the journal at the beginning, then what is copied of it.
    journal_total_bytes: AtomicU64,
}

impl Progress {
    // Figures for people: each is right by itself, and that is all they need to be.
    fn set(&self, now: BackupProgress) {
        self.keys.store(now.keys, Ordering::Relaxed);
        self.total_keys.store(now.total_keys, Ordering::Relaxed);
        self.bytes.store(now.bytes, Ordering::Relaxed);
        self.total_bytes.store(now.total_bytes, Ordering::Relaxed);
    }

    fn get(&self) -> BackupProgress {
        BackupProgress {
            keys: self.keys.load(Ordering::Relaxed),
            total_keys: self.total_keys.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed) + self.journal_bytes.load(Ordering::Relaxed),
            total_bytes: self.total_bytes.load(Ordering::Relaxed)
                + self.journal_total_bytes.load(Ordering::Relaxed),
        }
    }
}

/// The backup under way.
#[derive(Debug)]
pub(super) struct BackupRun {
    token: TokenId,
    plan: BackupPlan,
    progress: Arc<Progress>,
    /// What to report once the segments are released.
    result: Result<(), Failure>,
}

impl Cache {
    /// Copies the store as `plan` says, as of some moment between the call and the completion;
    /// `None` while another backup is under way. An incomplete copy is no store; remove it.
    pub fn begin_backup(&mut self, plan: BackupPlan, tag: u64) -> Option<Token<op::Backup>> {
        if self.backup.is_some() {
            return None;
        }
        let token = self.begin(tag);
        if self.closed {
            return Some(self.waiters.token(token));
        }
        let journal_total_bytes = self.lane.stats().disk_bytes.into();
        let progress = Arc::new(Progress { journal_total_bytes, ..Progress::default() });
        self.backup = Some(BackupRun { token, plan, progress, result: Ok(()) });
        self.lane.send(Errand::Hold);
        Some(self.waiters.token(token))
    }

    /// How far the backup under way has come.
    #[must_use]
    pub fn backup_progress(&self) -> Option<BackupProgress> {
        self.backup.as_ref().map(|run| run.progress.get())
    }

    fn backup_run(&mut self) -> &mut BackupRun {
        self.backup.as_mut().expect("a step of a backup comes back while one is under way")
    }

    pub(super) fn errand_done(&mut self, errand: Errand, result: Result<Option<Export>, Failure>) {
        let run = self.backup_run();
        match (errand, result) {
            (Errand::Hold, _) => {
                let job = Work::BackupEngine(run.plan.clone(), Arc::clone(&run.progress));
                self.outbox.push_back(Job(job));
            }
            (Errand::Export, Ok(Some(export))) => {
                let progress = Arc::clone(&run.progress);
                let job = Work::BackupJournal(run.plan.clone(), export, progress);
                self.outbox.push_back(Job(job));
            }
            (Errand::Export, Ok(None)) => unreachable!("an export without one is an error"),
            (Errand::Export, Err(failure)) => self.release(Err(failure)),
            (Errand::Release, _) => {
                if let Some(run) = self.backup.take() {
                    let output = Output::Backup(run.progress.get());
                    self.waiters.finish(run.token, run.result.map(|()| output));
                }
            }
        }
    }

    pub(super) fn backup_engine_done(&mut self, result: Result<(), Failure>) {
        match result {
            Ok(()) => self.lane.send(Errand::Export),
            Err(failure) => self.release(Err(failure)),
        }
    }

    pub(super) fn backup_journal_done(&mut self, result: Result<(), Failure>) {
        self.release(result);
    }

    fn release(&mut self, result: Result<(), Failure>) {
        self.backup_run().result = result;
        self.lane.send(Errand::Release);
    }
}
