//! The cache: a state machine that does no IO and knows no threads. Main thread.
//!
//! It stands between a [`Home`] (where values live, in memory) and a [`Storage`] (where all of
//! them are, on disk), and decides what is read, written and forgotten, and when. Methods take
//! the home and the time and leave [`Job`]s in an outbox; whoever drives the cache runs them on
//! workers ([`Worker`](job::Worker)) and hands each [`Done`] back. The same code therefore runs
//! under a seeded simulator in the tests and on the storage pool in the product.
//!
//! ```text
//! write   put/delta/delete   the operation is copied into the journal's group
//!         changed            first write since the last save: SAVE, one node in the dirty queue
//!           turn: group -> journal job -> durable            (lane: group commit, three modes)
//!           turn: due nodes -> batch, in slices: SAVE -> SAVING, encoded as the key is now
//!                 batch waits until the journal is durable up to it -> commit job
//!           done: SAVING cleared in slices, counts corrected, watermark moved, journal trimmed
//! read    known              the home answers: value, absent, or unknown
//!         begin_load         unknown keys are queued once each, the client gets a token
//!           turn: queued keys -> load jobs, as far as caps and memory allow
//!           done: inserted, unless the key was written meanwhile or its space died
//!         poll_completions   names the token; complete_load; run with the keys pinned; unpin
//! memory  room               before a write: evict, or wait until a checkpoint made keys clean
//!           turn: above the limit, forget clean keys, a few at a time
//! ```
//!
//! | file | owns |
//! |---|---|
//! | `mod` | the door: writes, spaces, operations, one turn |
//! | `options`, `inspect` | what the caller decides; figures, and what is known of one key |
//! | [`flags`] | the save bits of a key and their moves |
//! | [`home`] | the contract with whoever holds the values; [`conformance`] checks it |
//! | `dirty`, `checkpoint` | the queue of dirty keys; building, sending and settling batches |
//! | `lane` | the journal: group being filled, written, durable |
//! | [`map`], `codec` | a home for typed values; their stored form |
//! | `loads`, `reading` | keys being read; the load path |
//! | `scans` | stretches of keys being read |
//! | `expired` | records on disk whose time is over and that nobody reads |
//! | `waiters`, [`op`] | who waits for what; pins; kinds of tokens |
//! | [`memory`], [`evict`], `room` | the byte ledger; the choice; eviction and back-pressure |
//! | `spaces` | databases, flushes, key counts |
//! | `refusal` | when writes are refused |
//! | `upkeep` | maintenance of the engine; what is free on its disk |
//! | [`recover`] | from the journal to the state before the stop |
//! | [`backup`] | the steps of a copy while the store is used |
//! | [`job`] | work for other threads, as values |
//! | [`stats`] | figures |
//!
//! It must not block, read a clock, spawn, lock, or hold a value. Lookups of resident keys do not
//! come here at all.
//!
//! Source: Redis's diskstore cache (dscache.c, 2010 to 2011) and
//! KeyDB's two-phase storage calls (async FLASH).
//!
//! [`Storage`]: crate::storage::Storage

pub mod backup;
mod checkpoint;
pub(crate) mod codec;
pub mod conformance;
mod dirty;
pub mod evict;
mod expired;
pub mod flags;
pub mod home;
mod inspect;
pub mod job;
mod lane;
mod loads;
pub mod map;
pub mod memory;
pub mod op;
mod options;
mod reading;
pub mod recover;
mod refusal;
pub mod rng;
mod room;
mod scans;
mod spaces;
pub mod stats;
mod upkeep;
mod waiters;

use std::collections::VecDeque;
use std::ops::Range;

use backup::BackupRun;
use checkpoint::Checkpoint;
use dirty::{DirtyQueue, Node};
use expired::ExpiredKeys;
use flags::KeyState;
use home::{Home, Known, Resident};
use job::{Done, Failure, Job, JournalOutcome, Outcome, Work};
use lane::Lane;
use loads::Loads;
use memory::{Account, Ledger};
use op::Kind;
use room::Evictor;
use scans::Scans;
use spaces::Spaces;
use stats::Stats;
use upkeep::{Disk, Maintenance};
use waiters::Waiters;

use crate::journal::{Encode, TooLarge, Writer};
use crate::key::{KeyRef, Seq, Space};
use crate::storage::{Before, Meta};
use crate::token::{Token, TokenId};

pub use inspect::Explained;
pub use lane::Durability;
pub use loads::LoadPhase;
pub use options::{Now, Options};
pub use refusal::{JOURNAL_MULTIPLE_MAX, Refusal};
pub use room::Room;
pub use spaces::KeyCount;
pub use waiters::Completion;

/// What a turn leaves to do.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Turn {
    /// There is more to do at once: do not sleep.
    pub more: bool,
    /// The latest time to take the next turn, if nothing happens before.
    pub wake_ms: Option<u64>,
}

/// The cache. See the module's head for the flow.
#[derive(Debug)]
pub struct Cache {
    options: Options,
    now: Now,
    lane: Lane,
    dirty: DirtyQueue,
    checkpoint: Checkpoint,
    spaces: Spaces,
    loads: Loads,
    scans: Scans,
    waiters: Waiters,
    ledger: Ledger,
    evictor: Evictor,
    /// The home's figures, as of the last turn or write.
    resident: Resident,
    stats: Stats,
    outbox: VecDeque<Job>,
    maintenance: Maintenance,
    disk: Disk,
    expired: ExpiredKeys,
    backup: Option<BackupRun>,
    /// During replay: the last operation of the group replayed last.
    replaying_at: Option<Seq>,
    closed: bool,
}

impl Cache {
    /// A cache before replay; see [`Cache::open`].
    fn new(options: Options, meta: &Meta, writer: Writer, now: Now) -> Self {
        Self {
            now,
            lane: Lane::new(options.durability, options.hand_over_bytes(), Box::new(writer)),
            dirty: DirtyQueue::default(),
            checkpoint: Checkpoint::new(meta),
            spaces: Spaces::new(meta),
            loads: Loads::default(),
            scans: Scans::default(),
            waiters: Waiters::default(),
            ledger: Ledger::new(options.limit_bytes),
            evictor: Evictor::new(options.seed),
            resident: Resident::default(),
            stats: Stats::default(),
            outbox: VecDeque::new(),
            maintenance: Maintenance { wanted: true, running: false },
            disk: Disk::default(),
            expired: ExpiredKeys::default(),
            backup: None,
            replaying_at: None,
            closed: false,
            options,
        }
    }

    // ---- Writes -------------------------------------------------------------------------

    /// Logs the complete state of `key`; `body` appends the encoded value. Call it before the
    /// value changes in the home, and [`Cache::changed`] after. Allocates only as the group grows.
    ///
    /// # Errors
    /// [`TooLarge`]: nothing was logged, and the write must be refused.
    #[inline]
    pub fn put(
        &mut self,
        key: KeyRef<'_>,
        expires_at_ms: Option<u64>,
        body: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Seq, TooLarge> {
        self.lane.group(self.now.mono_ms).push_put(key, expires_at_ms, body)
    }

    /// As [`Cache::put`], of a large value that does not change any more: `encode` appends it when
    /// a worker writes the journal, about `len_bytes` of it. It must be no longer than
    /// [`BODY_MAX`](crate::journal::BODY_MAX).
    ///
    /// # Errors
    /// [`TooLarge`]: nothing was logged, and the write must be refused.
    pub fn put_later(
        &mut self,
        key: KeyRef<'_>,
        expires_at_ms: Option<u64>,
        len_bytes: usize,
        encode: Encode,
    ) -> Result<Seq, TooLarge> {
        let group = self.lane.group(self.now.mono_ms);
        group.push_put_later(key, expires_at_ms, len_bytes, encode)
    }

    /// Logs a change on top of the state of `key`, in the owner's own encoding.
    ///
    /// The key must exist, or have been created by operations that are logged: replay starts
    /// from the last record. An expired key is deleted with [`Cache::delete`] first.
    ///
    /// # Errors
    /// [`TooLarge`]: nothing was logged, and the write must be refused.
    #[inline]
    pub fn delta(
        &mut self,
        key: KeyRef<'_>,
        body: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Seq, TooLarge> {
        self.lane.group(self.now.mono_ms).push_delta(key, body)
    }

    /// Logs that `key` is gone; its entry becomes an absent one.
    ///
    /// # Errors
    /// [`TooLarge`]: nothing was logged, and the write must be refused.
    #[inline]
    pub fn delete(&mut self, key: KeyRef<'_>) -> Result<Seq, TooLarge> {
        self.lane.group(self.now.mono_ms).push_delete(key)
    }

    /// Notes that the entry of `key` changed by operation `seq`: what the home knew before, and
    /// whether it `exists` now. `state` is the entry's.
    ///
    /// Not needed for an entry that has SAVE set already and exists as before. A new entry starts
    /// with [`Cache::fresh_state`].
    #[inline]
    pub fn changed(
        &mut self,
        key: KeyRef<'_>,
        seq: Seq,
        was: Known,
        exists: bool,
        state: &mut KeyState,
    ) {
        if (was == Known::Value) != exists || was == Known::Unknown {
            self.recount(key.space, was, exists, *state);
        }
        if was == Known::Unknown && !self.loads.is_empty() {
            self.wake_readers(key);
        }
        if state.mark_dirty() {
            let since_ms = options::wrapped_ms(self.now);
            let node = Node { space: key.space, hash: key.hash, first_seq: seq, since_ms };
            self.dirty.push(node);
        } else {
            self.stats.coalesced += 1;
        }
    }

    #[cold]
    fn recount(&mut self, space: Space, was: Known, exists: bool, state: KeyState) {
        match was {
            Known::Unknown if state.before() == Before::Unknown => {
                self.spaces.count_blind(space, exists);
            }
            Known::Value => self.spaces.count(space, -i64::from(!exists)),
            Known::Unknown | Known::Absent => self.spaces.count(space, i64::from(exists)),
        }
    }

    /// The state of an entry for a key that the home did not know, before it is changed.
    #[must_use]
    pub fn fresh_state(&self, space: Space) -> KeyState {
        let is_new = self.spaces.is_empty_on_disk(space);
        KeyState::new(if is_new { Before::Absent } else { Before::Unknown })
    }

    /// The position that the state in memory includes: the end of the journal, but in replay.
    fn position(&self) -> Seq {
        self.replaying_at.unwrap_or_else(|| self.lane.last_seq())
    }

    /// The last operation logged.
    #[must_use]
    pub fn last_seq(&self) -> Seq {
        self.lane.last_seq()
    }

    /// Operations up to here survive a crash: with [`Durability::Always`], hold a reply until
    /// this has reached the last operation of its command.
    #[must_use]
    pub fn durable(&self) -> Seq {
        self.lane.durable()
    }

    /// Operations up to here are in the engine.
    #[must_use]
    pub fn watermark(&self) -> Seq {
        self.checkpoint.watermark()
    }

    // ---- Spaces -------------------------------------------------------------------------

    /// The space of database `db`; `None` when there is no such database.
    #[inline]
    #[must_use]
    pub fn space(&self, db: usize) -> Option<Space> {
        self.spaces.of_db(db)
    }

    /// Databases.
    #[must_use]
    pub fn databases(&self) -> usize {
        self.spaces.len()
    }

    /// Whether a database has this space.
    #[must_use]
    pub fn is_alive(&self, space: Space) -> bool {
        self.spaces.is_alive(space)
    }

    /// Gives `db` a fresh, empty space; returns the old one, whose entries the home drops in its
    /// own time. `None` when there is no such database.
    ///
    /// # Panics
    /// When the store was flushed 2^32 times.
    pub fn flush(&mut self, db: usize) -> Option<Space> {
        let old = self.spaces.of_db(db)?;
        self.flush_all(db..db + 1);
        Some(old)
    }

    /// The same for each database of `dbs` that there is, as one operation. One that nothing was
    /// ever written to keeps its space: there is nothing to drop.
    ///
    /// # Panics
    /// As [`Cache::flush`].
    pub fn flush_all(&mut self, dbs: Range<usize>) {
        let (loads, waiters) = (&mut self.loads, &mut self.waiters);
        // Whoever waits for a key of theirs knows now that it is gone.
        let mut each = |links| waiters.load_came(links, None);
        let checkpoint = &self.checkpoint;
        let is_any = self.spaces.flush_all(
            dbs,
            checkpoint.next_batch(),
            |space| checkpoint.has_keys_of(space),
            |old| loads.outdate(old, &mut each),
        );
        if is_any {
            self.evictor.look_again();
            self.log_spaces();
        }
    }

    /// Exchanges two databases; `None` when there is no such database.
    pub fn swap(&mut self, a: usize, b: usize) -> Option<()> {
        self.spaces.swap(a, b)?;
        self.log_spaces();
        Some(())
    }

    fn log_spaces(&mut self) {
        let map = self.spaces.to_map();
        let pushed = self.lane.group(self.now.mono_ms).push_meta(&map);
        pushed.expect("a map of some databases fits");
        self.checkpoint.note_spaces(self.now.mono_ms);
    }

    /// Keys of database `db`, in O(1).
    #[must_use]
    pub fn key_count(&self, db: usize) -> KeyCount {
        self.spaces.of_db(db).map_or(KeyCount::Exact(0), |space| self.spaces.key_count(space))
    }

    // ---- Operations in two phases -------------------------------------------------------

    /// Asks for everything logged so far to become durable. Completes at once or soon.
    pub fn begin_sync(&mut self, tag: u64) -> Token<op::Sync> {
        let upto = self.lane.last_seq();
        let id = self.begin(tag);
        self.lane.want(upto);
        self.waiters.wait_sync(id, upto);
        self.waiters.wake_sync(self.lane.durable());
        self.waiters.token(id)
    }

    /// As [`Cache::begin_sync`], and the watermark file is synced with it, before a clean end: the
    /// next opening then knows of every operation that it was durable.
    pub fn begin_end(&mut self, tag: u64) -> Token<op::Sync> {
        let upto = self.lane.last_seq();
        let id = self.begin(tag);
        self.lane.want_mark();
        self.waiters.wait_mark(id, upto);
        self.waiters.wake_mark(self.lane.marked());
        self.waiters.token(id)
    }

    /// Whether everything logged is durable, and the watermark file says so durably.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.lane.marked() >= self.lane.last_seq()
    }

    /// Asks for everything dirty now to be saved in the engine; writes go on meanwhile. Fails when
    /// the engine or the journal fails twice in a row meanwhile; what is dirty is tried again.
    pub fn begin_drain(&mut self, tag: u64) -> Token<op::Drain> {
        let upto = self.lane.last_seq();
        let id = self.begin(tag);
        self.waiters.wait_drain(id, upto);
        self.checkpoint.want(upto);
        self.waiters.token(id)
    }

    /// An operation that is not about keys; it is over at once when the cache is closed.
    fn begin(&mut self, tag: u64) -> TokenId {
        let id = self.waiters.begin(tag);
        if self.closed {
            self.waiters.finish(id, Err(Failure::CLOSED));
        }
        id
    }

    /// Moves the completions that came since the last call to `out`, oldest first.
    pub fn poll_completions(&mut self, out: &mut Vec<Completion>) {
        self.waiters.poll(out);
    }

    /// Takes a completed token back.
    ///
    /// # Errors
    /// Why the operation failed; never because something is absent.
    ///
    /// # Panics
    /// When the completion has not come yet.
    pub fn complete<K: Kind>(&mut self, token: Token<K>) -> Result<K::Output, Failure> {
        let output = self.waiters.complete(token.into_id(), false);
        self.start_scans();
        output.map(K::unpack)
    }

    /// Cancels an operation: it completes with [`crate::storage::ErrorKind::Cancelled`], unless
    /// it has completed already. The token stays due.
    pub fn cancel<K>(&mut self, token: &Token<K>) {
        self.waiters.cancel(token.id());
    }

    /// Cancels and completes in one: for an owner that is gone. No completion follows.
    pub fn abandon<K>(&mut self, token: Token<K>) {
        self.waiters.leave(token.into_id());
        self.start_scans();
    }

    /// Asks for a clean end as [`Cache::begin_end`] does; nobody waits for it.
    pub(crate) fn want_end(&mut self) {
        self.lane.want_mark();
    }

    /// Ends the pauses that follow failures of the journal and of the engine: somebody wants to
    /// know now whether they can be written. The next failure is followed by the shortest pause.
    pub fn retry_now(&mut self) {
        self.lane.retry_now();
        self.checkpoint.retry_now();
    }

    /// Whether there is something to evict for.
    pub(crate) fn is_above_limit(&self) -> bool {
        self.ledger_excess() > 0
    }

    /// The token of an operation whose name alone was kept; see [`Token::into_id`].
    pub(crate) fn retake<K>(&self, id: TokenId) -> Token<K> {
        self.waiters.token(id)
    }

    // ---- Driving ------------------------------------------------------------------------

    /// Sets the clocks for what is called until the next turn.
    #[inline]
    pub fn set_now(&mut self, now: Now) {
        self.now = now;
    }

    /// One turn of the event loop, between commands. Bounded: a slice of each kind of work.
    ///
    /// Call [`Cache::next_job`] afterwards until it is empty.
    pub fn turn<H: Home>(&mut self, home: &mut H, now: Now) -> Turn {
        self.now = now;
        let saving = self.checkpoint_turn(home);
        self.waiters.wake_drain(self.drained());
        if let Some(job) = self.lane.next_job(now.mono_ms) {
            self.outbox.push_back(Job(Work::Journal(job)));
        }
        let evicting = self.evict_turn(home);
        self.expire_turn(home);
        self.load_turn(home);
        self.maintain_turn();
        let more = saving || evicting || self.waiters.has_posted();
        Turn { more, wake_ms: self.wake_ms() }
    }

    /// Hands queued loads out, and does nothing else of a turn: for a thread that waits for one.
    pub(crate) fn turn_loads<H: Home>(&mut self, home: &mut H) {
        // At the limit, what the caller's own wait takes is the last straw: without this, every
        // other read had to wait for a turn of somebody else.
        self.evict_for_load(home, self.options.evictions_max);
        self.load_turn(home);
    }

    /// Whether keys wait to be read.
    pub(crate) fn has_queued_loads(&self) -> bool {
        self.loads.queued() > 0
    }

    /// When the next turn is due; changes with every write.
    pub(crate) fn wake_ms(&self) -> Option<u64> {
        let checkpoint = self.checkpoint.wake_ms(self.dirty.front(), &self.options, self.now);
        self.lane.wake_ms().into_iter().chain(checkpoint).chain(self.look_ms()).min()
    }

    /// The next job for a worker.
    pub fn next_job(&mut self) -> Option<Job> {
        self.outbox.pop_front()
    }

    /// Takes a job's outcome back.
    pub fn complete_job<H: Home>(&mut self, done: Done<H::Value>, home: &mut H, now: Now) {
        self.now = now;
        self.stats.job_done(done.kind, done.took_us);
        done.each_failure(|failure| self.stats.failed(failure));
        if let Some(stats) = done.stats {
            self.ledger.set(Account::Engine, stats.memory_bytes);
            self.note_engine(stats);
        }
        match done.outcome {
            Outcome::Load(results) => self.load_done(results, home),
            Outcome::Commit(result) => self.commit_done(result),
            Outcome::Examine(result) => self.examine_done(result),
            Outcome::Look => self.disk.is_looking = false,
            Outcome::Journal(outcome) => self.journal_done(outcome),
            Outcome::Maintain { result, expired } => {
                self.stats.maintain_failures += u64::from(result.is_err());
                self.maintenance.running = false;
                self.maintenance.wanted |= matches!(result, Ok(true));
                self.expired.add(expired);
            }
            Outcome::Scan { token, result } => self.scan_done(token, result),
            Outcome::BackupEngine(result) => self.backup_engine_done(result),
            Outcome::BackupJournal(result) => self.backup_journal_done(result),
        }
    }

    fn journal_done(&mut self, mut outcome: JournalOutcome) {
        self.stats.journal_done(&outcome);
        if let Some((errand, result)) = outcome.errand.take() {
            self.errand_done(errand, result);
        }
        let before = self.lane.failure();
        if self.lane.complete(outcome, self.now.mono_ms) {
            self.evictor.memory_changed();
            self.waiters.wake_sync(self.lane.durable());
        }
        self.waiters.wake_mark(self.lane.marked());
        if let (Some(_), Some(failure)) = (before, self.lane.failure()) {
            self.waiters.refuse_drains(failure);
        }
    }

    /// Jobs that have not come back, the outbox included.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.outbox.is_empty()
            && !self.lane.is_busy()
            && !self.checkpoint.is_committing()
            && self.loads.loading() == 0
            && self.scans.reading == 0
            && !self.maintenance.running
            && !self.disk.is_looking
    }

    /// Ends every operation that waits with [`crate::storage::ErrorKind::Closed`], and takes no
    /// new ones. Jobs in flight still come back; nothing that was logged is dropped.
    pub fn close(&mut self) {
        self.closed = true;
        self.waiters.fail_all(Failure::CLOSED);
    }
}
