//! From the journal to the state before the stop. Before the event loop runs; may block.
//!
//! The engine holds everything up to its watermark, and of some keys a later state: each record
//! carries the number of the last operation it includes. Replay walks the operations behind the
//! watermark in order:
//!
//! - A put or a delete stands for itself, whatever the engine holds.
//! - A delta needs its base. The first delta of a key that replay has not seen reads the record.
//!   One that includes the delta already is newer than this point of the journal: the record is
//!   taken, and operations up to its number are skipped for that key.
//! - A delta whose base is missing belongs to a key that was deleted in the engine already, or
//!   whose space died: the put, the delete or the flush follows. If none does, the store is
//!   corrupt, and it is not opened.
//! - A delta whose base cannot be read waits for a put, a delete or a flush in the same way. Until
//!   one comes nothing is committed, since that would free the part of the journal that has it. If
//!   none does, the store is not opened, or, if its owner accepts that, without the changes.
//!
//! Every key that an operation touched becomes dirty as if it had just been written, so memory
//! is bounded as always: above the limit, batches are committed between two groups of the
//! journal, with the numbers of the place replay has come to. A stop in the midst of all this is
//! followed by the same again.
//!
//! The bytes are in docs/format.md.

use std::collections::BTreeMap;
use std::fmt;

use super::flags::KeyState;
use super::home::{Home, Known};
use super::job::{Decode, DecodeError, Failure, Worker};
use super::{Cache, Now, Options};
use crate::journal::replay::Ops;
use crate::journal::{OpKind, Replay, Writer};
use crate::key::{KeyBuf, KeyRef, Seq, Space};
use crate::storage::{Before, Meta, StoreError};

/// What one operation does to a key.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Change<'a> {
    /// Its complete state.
    Put {
        /// Expiry in milliseconds since the Unix epoch.
        expires_at_ms: Option<u64>,
        /// The value as [`super::home::Entry::encode`] gave it.
        payload: &'a [u8],
    },
    /// A change as its owner encoded it.
    Delta(&'a [u8]),
    /// It is gone.
    Delete,
}

/// A home that can be rebuilt from the journal.
pub trait Replayed: Home {
    /// Makes `change` to `key`, and gives its entry `state`. The entry stays even if the change
    /// leaves nothing of the key: as an absent one.
    ///
    /// # Errors
    /// The operation does not decode, or does not fit the value; the store is then not opened.
    fn replay(
        &mut self,
        key: KeyRef<'_>,
        change: Change<'_>,
        state: KeyState,
    ) -> Result<(), DecodeError>;

    /// Drops every entry of a space.
    fn drop_space(&mut self, space: Space);
}

/// Why a store cannot be opened; nothing of it was changed but by good batches.
#[derive(Debug)]
#[non_exhaustive]
pub enum RecoverError {
    /// Reading the journal failed.
    Journal(StoreError),
    /// Reading or writing the engine failed.
    Engine(Failure),
    /// An operation or a record does not decode.
    Decode {
        /// The key.
        key: KeyBuf,
        /// The operation, or the last one that the record includes.
        seq: Seq,
        /// What is wrong with it.
        error: DecodeError,
    },
    /// A change refers to a state that is nowhere.
    BaseMissing {
        /// The key.
        key: KeyBuf,
        /// The change.
        seq: Seq,
    },
    /// A change refers to a state that cannot be read.
    BaseUnreadable {
        /// The key.
        key: KeyBuf,
        /// The first change of it that is not in the engine.
        seq: Seq,
        /// Why.
        failure: Failure,
    },
}

impl fmt::Display for RecoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Journal(error) => write!(f, "replay: {error}"),
            Self::Engine(failure) => write!(f, "replay: {failure}"),
            Self::Decode { key, seq, error } => {
                write!(f, "operation {} on {key:?} does not decode: {error}", seq.0)
            }
            Self::BaseMissing { key, seq } => {
                write!(f, "operation {} changes {key:?}, whose state is missing", seq.0)
            }
            Self::BaseUnreadable { key, seq, failure } => write!(
                f,
                "operation {} changes {key:?} (space/hash/name), whose state cannot be read \
                 ({failure}). Try again if the disk may recover; flintlock-check names what is \
                 damaged. If a loss is accepted, such keys lose what was not saved of them, and \
                 all others are served",
                seq.0
            ),
        }
    }
}

impl std::error::Error for RecoverError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Journal(error) => Some(error),
            Self::Engine(failure) | Self::BaseUnreadable { failure, .. } => Some(failure),
            Self::Decode { error, .. } => Some(error),
            Self::BaseMissing { .. } => None,
        }
    }
}

/// What replay did.
#[derive(Clone, Eq, PartialEq, Debug, Default)]
pub struct Recovered {
    /// Operations read.
    pub operations: u64,
    /// Operations that a record included already.
    pub skipped: u64,
    /// Records read as bases of changes.
    pub bases: u64,
    /// Batches committed to stay within the memory limit.
    pub batches: u64,
    /// Keys that lost changes with [`Options::accept_loss`]: they are as the engine has them, which
    /// could not be read.
    pub given_up: Vec<KeyBuf>,
}

/// Keys that are not simply where the replay stands.
#[derive(Debug, Default)]
struct Apart {
    /// The record taken as base includes operations up to here.
    ahead: BTreeMap<KeyBuf, Seq>,
    /// Changes without a base, to be made good by a put, a delete or a flush.
    orphans: BTreeMap<KeyBuf, Seq>,
    /// The same, where the base could not be read.
    unreadable: BTreeMap<KeyBuf, (Seq, Failure)>,
}

impl Apart {
    fn is_empty(&self) -> bool {
        self.ahead.is_empty() && self.orphans.is_empty() && self.unreadable.is_empty()
    }

    /// `key` got a state of its own.
    fn made_good(&mut self, key: &KeyBuf) {
        self.ahead.remove(key);
        self.orphans.remove(key);
        self.unreadable.remove(key);
    }

    /// The first change whose base cannot be read.
    fn unreadable(&mut self) -> Option<RecoverError> {
        let (key, (seq, failure)) = self.unreadable.pop_first()?;
        Some(RecoverError::BaseUnreadable { key, seq, failure })
    }
}

/// So many keys are no damaged block but a disk that does not answer.
const UNREADABLE_MAX: usize = 1000;

impl Cache {
    /// Opens a cache over a store: replays what the engine lacks into `home`, which is empty.
    /// Blocks for as long as that takes; run it before the event loop.
    ///
    /// `meta` is the engine's last commit; `writer` and `replay` come from
    /// [`Writer::open`]. Jobs run on this thread.
    ///
    /// # Errors
    /// [`RecoverError`]; the store can be opened again once the cause is gone.
    pub fn open<H, D>(
        options: Options,
        meta: &Meta,
        (writer, mut replay): (Writer, Replay),
        home: &mut H,
        worker: &Worker<D>,
        now: Now,
    ) -> Result<(Self, Recovered), RecoverError>
    where
        H: Replayed,
        D: Decode<Value = H::Value>,
    {
        let mut cache = Self::new(options, meta, writer, now);
        let mut recovered = Recovered::default();
        let mut apart = Apart::default();
        cache.replaying_at = Some(meta.watermark);
        while let Some(ops) = replay.next_group().map_err(RecoverError::Journal)? {
            // By path: as a method, `Iterator::last` would be taken.
            let last = Ops::last(&ops);
            for op in ops {
                let op = op.map_err(RecoverError::Journal)?;
                recovered.operations += 1;
                cache.replay_op(op.seq, op.kind, home, worker, &mut apart, &mut recovered)?;
            }
            cache.replaying_at = Some(last);
            apart.ahead.retain(|_, seq| *seq > last);
            if apart.unreadable.is_empty() || cache.options.accept_loss {
                cache.make_room(home, worker, &mut recovered)?;
                continue;
            }
            apart.unreadable.retain(|key, _| cache.spaces.is_alive(key.as_ref().space));
            cache.refresh_ledger(home);
            let is_over = cache.ledger_excess() > 0 || apart.unreadable.len() > UNREADABLE_MAX;
            if is_over && let Some(error) = apart.unreadable() {
                return Err(error);
            }
        }
        cache.replaying_at = None;
        apart.orphans.retain(|key, _| cache.spaces.is_alive(key.as_ref().space));
        if let Some((key, seq)) = apart.orphans.pop_first() {
            return Err(RecoverError::BaseMissing { key, seq });
        }
        apart.unreadable.retain(|key, _| cache.spaces.is_alive(key.as_ref().space));
        if cache.options.accept_loss {
            recovered.given_up.extend(std::mem::take(&mut apart.unreadable).into_keys());
        }
        if let Some(error) = apart.unreadable() {
            return Err(error);
        }
        if cache.spaces.extend(cache.options.databases) {
            cache.log_spaces();
        }
        Ok((cache, recovered))
    }

    fn replay_op<H, D>(
        &mut self,
        seq: Seq,
        kind: OpKind<'_>,
        home: &mut H,
        worker: &Worker<D>,
        apart: &mut Apart,
        recovered: &mut Recovered,
    ) -> Result<(), RecoverError>
    where
        H: Replayed,
        D: Decode<Value = H::Value>,
    {
        let (key, change) = match kind {
            OpKind::Put { key, expires_at_ms, payload } => {
                (key, Change::Put { expires_at_ms, payload })
            }
            OpKind::Delta { key, bytes } => (key, Change::Delta(bytes)),
            OpKind::Delete { key } => (key, Change::Delete),
            OpKind::Meta(map) => {
                for space in self.spaces.adopt(&map) {
                    home.drop_space(space);
                }
                self.checkpoint.note_spaces(self.now.mono_ms);
                return Ok(());
            }
        };
        if !self.spaces.is_alive(key.space) {
            // The engine's map is newer than this operation: the space was flushed later on.
            recovered.skipped += 1;
            return Ok(());
        }
        if matches!(change, Change::Delta(_)) {
            if !self.has_base(seq, key, home, worker, apart, recovered)? {
                recovered.skipped += 1;
                return Ok(());
            }
        } else if !apart.is_empty() {
            apart.made_good(&key.to_buf());
        }
        self.replay_change(seq, key, change, home)
    }

    fn replay_change<H: Replayed>(
        &mut self,
        seq: Seq,
        key: KeyRef<'_>,
        change: Change<'_>,
        home: &mut H,
    ) -> Result<(), RecoverError> {
        let was = home.known(key);
        let mut state = state_of(home, key).unwrap_or_else(|| self.fresh_state(key.space));
        home.replay(key, change, state).map_err(|error| RecoverError::Decode {
            key: key.to_buf(),
            seq,
            error,
        })?;
        let exists = home.known(key) == Known::Value;
        self.changed(key, seq, was, exists, &mut state);
        home.visit(key.space, key.hash, &mut |entry| {
            if entry.key() == key.key {
                entry.set_state(state);
            }
        });
        Ok(())
    }

    /// Whether the home holds the state that a change at `seq` was made on; reads it if it must.
    fn has_base<H, D>(
        &mut self,
        seq: Seq,
        key: KeyRef<'_>,
        home: &mut H,
        worker: &Worker<D>,
        apart: &mut Apart,
        recovered: &mut Recovered,
    ) -> Result<bool, RecoverError>
    where
        H: Replayed,
        D: Decode<Value = H::Value>,
    {
        match home.known(key) {
            Known::Value => {
                let is_ahead = !apart.ahead.is_empty()
                    && apart.ahead.get(&key.to_buf()).is_some_and(|to| *to >= seq);
                return Ok(!is_ahead);
            }
            // Deleted before: the owner logs a put when it creates a key.
            Known::Absent => {
                apart.orphans.entry(key.to_buf()).or_insert(seq);
                return Ok(false);
            }
            Known::Unknown => {}
        }
        let buf = key.to_buf();
        if apart.unreadable.contains_key(&buf) {
            // A read that works now would miss the changes before this one.
            return Ok(false);
        }
        let read = match worker.read(&buf) {
            Ok(read) => read,
            Err(failure) => {
                apart.unreadable.insert(buf, (seq, failure));
                return Ok(false);
            }
        };
        let Some((to, loaded)) = read else {
            apart.orphans.entry(buf).or_insert(seq);
            return Ok(false);
        };
        recovered.bases += 1;
        let loaded =
            loaded.map_err(|error| RecoverError::Decode { key: buf.clone(), seq: to, error })?;
        home.insert(key, Some(loaded), KeyState::new(Before::Present));
        if to >= seq {
            apart.ahead.insert(buf, to);
            return Ok(false);
        }
        Ok(true)
    }

    /// Between two groups: commits and evicts until the home is within the limit.
    fn make_room<H, D>(
        &mut self,
        home: &mut H,
        worker: &Worker<D>,
        recovered: &mut Recovered,
    ) -> Result<(), RecoverError>
    where
        H: Replayed,
        D: Decode<Value = H::Value>,
    {
        let batches = self.stats.batches;
        loop {
            let evicted = self.stats.evictions;
            let turn = self.turn(home, self.now);
            while let Some(job) = self.next_job() {
                self.complete_job(worker.run(job), home, self.now);
            }
            if let Some(failure) = self.checkpoint.failure() {
                return Err(RecoverError::Engine(failure));
            }
            let progress =
                turn.more || self.stats.evictions > evicted || self.checkpoint.is_under_way();
            if self.ledger_excess() == 0 || !progress {
                break;
            }
        }
        recovered.batches += self.stats.batches - batches;
        Ok(())
    }
}

fn state_of<H: Home>(home: &mut H, key: KeyRef<'_>) -> Option<KeyState> {
    let mut state = None;
    home.visit(key.space, key.hash, &mut |entry| {
        if entry.key() == key.key {
            state = Some(entry.state());
        }
    });
    state
}
