//! SAVE and BGSAVE: one backup at a time, and what came of the last one.
//!
//! Main thread; does no IO. The steps of a backup are jobs of the storage workers, between which
//! everybody is served, so also SAVE stops only the client that sent it: nobody forks and nobody
//! waits. Durability does not rest on this; a backup is for the day on which the store is gone.
//!
//! Source: replies, INFO fields and LASTSAVE of redis-server 7.0.15.

use flintlock_diskcache::cache::Completion;
use flintlock_diskcache::cache::backup::BackupPlan;
use flintlock_diskcache::cache::job::Failure;
use flintlock_diskcache::{Token, op};

use crate::blocked::Blocked;
use crate::client::ClientKey;
use crate::command::Error;
use crate::server::Server;

use super::BACKGROUND;

/// See the module doc.
#[derive(Debug)]
pub(crate) struct Saves {
    running: Option<Running>,
    /// A BGSAVE came inside a transaction, which is still running.
    is_scheduled: bool,
    /// Why the last one failed, if it did.
    failure: Option<Failure>,
    /// Unix time of the last one that is whole, in seconds; of the start if there is none.
    pub last_s: u64,
    /// How long the last one took, if there was one.
    pub last_took_s: Option<u64>,
    /// How many were whole since the start.
    pub done: u64,
}

#[derive(Debug)]
struct Running {
    token: Token<op::Backup>,
    /// On the clock that never goes back.
    began_ms: u64,
    /// Changes when it began.
    changes: u64,
    /// Who waits for it.
    client: Option<ClientKey>,
}

/// What INFO says of the backup under way.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Progress {
    /// Since when, in seconds.
    pub seconds: u64,
    /// Of `bytes_total`.
    pub percent: f64,
    /// Bytes copied or linked.
    pub bytes: u64,
    /// All of them; 0 until it is known.
    pub bytes_total: u64,
    /// Records of the engine in them.
    pub keys: u64,
    /// All of them, those included that a later one replaces and no merge has dropped yet; 0 until
    /// it is known. What is in the journal alone is no record yet.
    pub keys_total: u64,
}

impl Saves {
    pub(crate) fn new(now_s: u64) -> Self {
        Self {
            running: None,
            is_scheduled: false,
            failure: None,
            last_s: now_s,
            last_took_s: None,
            done: 0,
        }
    }

    /// The backup under way, when nobody will take its completion any more.
    pub(crate) fn take_token(&mut self) -> Option<Token<op::Backup>> {
        self.running.take().map(|running| running.token)
    }

    /// Whether a backup is under way.
    pub(crate) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Whether the last one failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    /// What SAVE's client is told: of the backup that it waited for, which was the last one.
    pub(super) fn result(&self) -> Result<(), Error> {
        match &self.failure {
            Some(failure) => {
                Err(Error::text(format!("ERR the backup could not be written: {failure}")))
            }
            None => Ok(()),
        }
    }
}

/// A backup is under way.
const IN_PROGRESS: Error = Error::fixed("ERR Background save already in progress");
/// There is nothing that a backup could be made of.
const NOTHING_TO_SAVE: Error =
    Error::fixed("ERR Nothing can be saved: with 'store memory' the server has no disk store");

impl Server {
    /// Begins a backup.
    ///
    /// # Errors
    /// One is under way, or there is no store; nothing has begun.
    pub(crate) fn begin_backup(&mut self) -> Result<(), Error> {
        self.may_save()?;
        let tier = self.tier.as_mut().expect("it may be saved");
        let plan = BackupPlan::replacing(&tier.dir, &self.config.backup_path());
        let token = tier.cache.begin_backup(plan, BACKGROUND).ok_or(IN_PROGRESS)?;
        let (began_ms, changes) = (self.mono_ms, self.stats.changes);
        self.saves.running = Some(Running { token, began_ms, changes, client: None });
        self.log.notice(format_args!("Background saving started"));
        Ok(())
    }

    /// Begins a backup when the transaction that runs is over: it is in it whole or not at all.
    ///
    /// # Errors
    /// As [`Server::begin_backup`].
    pub(crate) fn schedule_backup(&mut self) -> Result<(), Error> {
        self.may_save()?;
        self.saves.is_scheduled = true;
        Ok(())
    }

    /// Begins what was scheduled.
    pub(crate) fn begin_scheduled_backup(&mut self) {
        // A SAVE may have been quicker: its backup has the transaction too.
        if std::mem::take(&mut self.saves.is_scheduled) {
            drop(self.begin_backup());
        }
    }

    fn may_save(&self) -> Result<(), Error> {
        self.has_store()?;
        if self.saves.is_running() { Err(IN_PROGRESS) } else { Ok(()) }
    }

    /// Whether there is anything that can be saved.
    ///
    /// # Errors
    /// There is not: `store memory`.
    pub(crate) fn has_store(&self) -> Result<(), Error> {
        self.tier.as_ref().map(drop).ok_or(NOTHING_TO_SAVE)
    }

    /// SAVE: its client waits for the backup.
    ///
    /// # Errors
    /// As [`Server::begin_backup`].
    pub(super) fn prepare_save(&mut self, key: ClientKey) -> Result<Option<Blocked>, Error> {
        if self.clients.session(key).prepared.as_ref().is_some_and(|prepared| prepared.is_saved) {
            return Ok(None);
        }
        self.begin_backup()?;
        Ok(self.saves.running.as_mut().map(|running| {
            running.client = Some(key);
            Blocked::Save(running.token.id())
        }))
    }

    /// Takes a completion that no client is named in. Returns the client that waited all the same.
    pub(crate) fn background_done(&mut self, completion: Completion) -> Option<ClientKey> {
        let tier = self.tier.as_mut()?;
        let is_backup = |running: &mut Running| running.token.id() == completion.token;
        let Some(running) = self.saves.running.take_if(is_backup) else {
            tier.background_done(completion);
            return None;
        };
        self.saves.last_took_s = Some(self.mono_ms.saturating_sub(running.began_ms) / 1000);
        match tier.cache.complete(running.token) {
            Ok(_) => {
                self.saves.failure = None;
                self.saves.last_s = self.now_ms / 1000;
                self.saves.done += 1;
                self.stats.changes_saved = running.changes;
                self.log.notice(format_args!("Background saving terminated with success"));
            }
            Err(failure) => {
                self.log.warning(format_args!("Background saving error: {failure}"));
                self.saves.failure = Some(failure);
            }
        }
        running.client
    }

    /// How far the backup under way has come.
    pub(crate) fn save_progress(&self) -> Option<Progress> {
        let running = self.saves.running.as_ref()?;
        let now = self.tier.as_ref()?.cache.backup_progress()?;
        let part =
            if now.total_bytes == 0 { 0.0 } else { now.bytes as f64 / now.total_bytes as f64 };
        Some(Progress {
            seconds: self.mono_ms.saturating_sub(running.began_ms) / 1000,
            percent: part * 100.0,
            bytes: now.bytes,
            bytes_total: now.total_bytes,
            keys: now.keys,
            keys_total: now.total_keys,
        })
    }
}
