//! What the lock of a `DiskCache` guards: the cache, the values, and who waits. Any thread, under
//! the lock; never blocks while it holds it.
//!
//! The state machine is the same that an event loop drives on one thread. Here threads take turns
//! under a lock, so tokens, which never cross threads, are kept by name.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::Error;
use super::turnstile::Turnstile;
use crate::cache::home::{Home, Known};
use crate::cache::job::{Done, Failure, Job, JobKind};
use crate::cache::map::{Codec, MapHome, Probe};
use crate::cache::recover::Replayed;
use crate::cache::{Cache, Completion, Now, Refusal, Room, Turn};
use crate::key::{KeyRef, Seq, Space};
use crate::op;
use crate::token::TokenId;

/// Bytes that an entry costs beside its key and value, about.
const ENTRY_BYTES: u64 = 128;
/// Reads between two looks at the clock; recency needs no more.
const READS_PER_CLOCK: u32 = 32;

/// What a callback gets.
pub(super) type Answer<V> = Result<Option<V>, Error>;

/// Called once a key is known.
pub(super) type Callback<V> = Box<dyn FnOnce(Answer<V>) + Send>;

/// Who waits for a completion.
enum Waiting<V> {
    /// A thread that runs has no `sleeper`, and needs no call to wake it.
    Thread {
        sleeper: Option<Arc<Condvar>>,
        is_done: bool,
    },
    Callback {
        key: Box<[u8]>,
        hash: u64,
        take: fn(&V) -> V,
        call: Callback<V>,
    },
}

/// A callback that is due.
pub(super) struct Due<V> {
    call: Callback<V>,
    answer: Answer<V>,
}

impl<V> Due<V> {
    /// Calls it. Not under the lock: it may use the cache.
    pub(super) fn run(self) {
        (self.call)(self.answer);
    }
}

/// A new state for a key.
pub(super) struct Change<'a, V> {
    pub(super) value: V,
    pub(super) body: &'a [u8],
    pub(super) expires_at_ms: Option<u64>,
}

impl<V: Codec> Change<'_, V> {
    /// What it adds to memory, but for the key.
    pub(super) fn len_bytes(&self) -> u64 {
        (self.body.len() + self.value.heap_bytes()) as u64 + ENTRY_BYTES
    }
}

pub(super) struct Inner<V> {
    pub(super) cache: Cache,
    pub(super) home: MapHome<V>,
    /// By tag. Mostly few: a tree costs less than a keyed hash.
    waiting: BTreeMap<u64, Waiting<V>>,
    /// Threads that were woken and do not have the lock yet stand there too.
    turnstile: Arc<Turnstile>,
    next_tag: u64,
    /// Callbacks for the driver to run.
    due: Vec<Due<V>>,
    /// Jobs that the cache gave out and nobody has taken.
    jobs: VecDeque<Job>,
    start: Instant,
    now: Now,
    reads: u32,
    /// The driver sleeps until then; 0 while it runs.
    pub(super) sleeps_until_ms: u64,
    /// Something was done that the driver may have to be woken for. Reads of what is in memory are
    /// most of what there is, and do nothing of the kind.
    is_stirred: bool,
    /// An operation began that no turn has looked at. One that waits for memory has no job and no
    /// time at which it is due, so nothing else would say that the driver must see to it.
    pub(super) is_turn_wanted: bool,
    /// The handle is gone: finish and end.
    pub(super) is_ending: bool,
}

impl<V: Codec> Inner<V> {
    pub(super) fn new(
        cache: Cache,
        home: MapHome<V>,
        start: Instant,
        turnstile: Arc<Turnstile>,
    ) -> Self {
        let mut inner = Self {
            cache,
            home,
            waiting: BTreeMap::new(),
            turnstile,
            next_tag: 0,
            due: Vec::new(),
            jobs: VecDeque::new(),
            start,
            now: Now::default(),
            reads: 0,
            sleeps_until_ms: 0,
            is_stirred: false,
            is_turn_wanted: false,
            is_ending: false,
        };
        inner.look_at_clock();
        inner
    }

    /// The space of the only database; [`Cache::flush`] changes it.
    #[inline]
    pub(super) fn space(&self) -> Space {
        self.cache.space(0).expect("a cache is opened with one database")
    }

    pub(super) fn look_at_clock(&mut self) -> Now {
        self.now = now_since(self.start);
        self.cache.set_now(self.now);
        self.home.set_now(self.now);
        self.now
    }

    #[inline]
    fn look_at_clock_at_times(&mut self) {
        self.reads = self.reads.wrapping_add(1);
        if self.reads.is_multiple_of(READS_PER_CLOCK) {
            self.look_at_clock();
        }
    }

    // ---- Keys ---------------------------------------------------------------------------

    /// Shows `read` what is known of `key`; `None` when the disk has to be asked. An expired value
    /// is deleted on the way, like any other key.
    #[inline]
    pub(super) fn look<R>(
        &mut self,
        key: KeyRef<'_>,
        read: impl FnOnce(Option<&V>, Option<u64>) -> R,
    ) -> Result<Option<R>, Error> {
        self.look_at_clock_at_times();
        let may_expire = match self.home.probe(key) {
            Probe::Value(value, None) => {
                self.cache.note_lookup(Known::Value);
                return Ok(Some(read(Some(value), None)));
            }
            Probe::Value(_, Some(_)) => true,
            Probe::Absent | Probe::Unknown => false,
        };
        self.look_closer(key, may_expire, read)
    }

    /// The rest of `look`. Apart, so that a hit does not pay for it.
    #[inline(never)]
    fn look_closer<R>(
        &mut self,
        key: KeyRef<'_>,
        may_expire: bool,
        read: impl FnOnce(Option<&V>, Option<u64>) -> R,
    ) -> Result<Option<R>, Error> {
        if may_expire {
            self.look_at_clock();
        }
        let expiry = || self.home.peek(key).and_then(|(_, at)| at);
        if may_expire && expiry().is_some_and(|at| at <= self.now.unix_ms) {
            // Also while writes are refused: nobody asked for one.
            self.apply(key, None)?;
        }
        let known = self.cache.known(&self.home, key);
        self.cache.note_lookup(known);
        Ok(match known {
            Known::Value => {
                let (value, at) = self.home.peek(key).map_or((None, None), |(v, at)| (Some(v), at));
                Some(read(value, at))
            }
            Known::Absent => Some(read(None, None)),
            Known::Unknown => None,
        })
    }

    /// Whether what has this expiry is there still.
    pub(super) fn lives(&self, expires_at_ms: Option<u64>) -> bool {
        expires_at_ms.is_none_or(|at| at > self.now.unix_ms)
    }

    /// Whether a write may run now, as far as memory goes.
    pub(super) fn room(&mut self, key: KeyRef<'_>, change: Option<&Change<'_, V>>) -> Room {
        let bytes = change.map_or(ENTRY_BYTES, Change::len_bytes);
        self.cache.room(&mut self.home, key.key.len() as u64 + bytes)
    }

    /// Logs a change of `key`, `None` to delete it, and makes it. Returns its operation and the
    /// old value, to be dropped without the lock.
    pub(super) fn write(
        &mut self,
        key: KeyRef<'_>,
        change: Option<Change<'_, V>>,
    ) -> Result<(Seq, Option<V>), Error> {
        let refusal = self.cache.refusing();
        if let Some(refusal) = refusal.filter(|r| *r != Refusal::Space || change.is_some()) {
            return Err(Error::Refused(refusal));
        }
        self.apply(key, change)
    }

    /// As `write`, whether writes are refused or not.
    fn apply(
        &mut self,
        key: KeyRef<'_>,
        change: Option<Change<'_, V>>,
    ) -> Result<(Seq, Option<V>), Error> {
        self.is_stirred = true;
        let was = self.home.known(key);
        let (seq, value, expires_at_ms) = match change {
            Some(Change { value, body, expires_at_ms }) => {
                let seq = self.cache.put(key, expires_at_ms, |out| out.extend_from_slice(body));
                (seq, Some(value), expires_at_ms)
            }
            None if self.cache.known(&self.home, key) == Known::Absent => {
                return Ok((self.cache.last_seq(), None));
            }
            None => (self.cache.delete(key), None, None),
        };
        let seq = seq.map_err(|_| Error::TooLarge)?;
        let exists = value.is_some();
        let fresh = self.cache.fresh_state(key.space);
        let (old, state) = self.home.set(key, value, expires_at_ms, fresh);
        self.cache.changed(key, seq, was, exists, state);
        if was == Known::Unknown {
            // Whoever waits for its read need not.
            self.wake();
        }
        Ok((seq, old))
    }

    /// Drops every key.
    pub(super) fn clear(&mut self) -> Result<Seq, Error> {
        if let Some(refusal) = self.cache.refusing().filter(|r| *r != Refusal::Space) {
            return Err(Error::Refused(refusal));
        }
        self.is_stirred = true;
        self.look_at_clock();
        if let Some(old) = self.cache.flush(0) {
            self.home.drop_space(old);
        }
        Ok(self.cache.last_seq())
    }

    // ---- Waiting ------------------------------------------------------------------------

    /// The name of an operation that begins.
    pub(super) fn next_tag(&mut self) -> u64 {
        self.is_stirred = true;
        self.next_tag += 1;
        self.next_tag
    }

    /// A turn of the cache, and whoever it lets go on.
    pub(super) fn turn(&mut self, now: Now) -> Turn {
        self.is_turn_wanted = false;
        let turn = self.cache.turn(&mut self.home, now);
        self.wake();
        turn
    }

    /// Notes that this thread waits for the operation with `tag`, just begun.
    pub(super) fn begin_wait(&mut self, tag: u64) {
        self.waiting.insert(tag, Waiting::Thread { sleeper: None, is_done: false });
        // It may have been over at once.
        self.wake();
    }

    /// As `begin_wait`, for an operation that only a turn of the cache may let go on.
    pub(super) fn begin_wait_for_turn(&mut self, tag: u64) {
        self.is_turn_wanted = true;
        self.begin_wait(tag);
    }

    /// What this thread is to sleep on until the operation with `tag` is done.
    pub(super) fn sleeper(&mut self, tag: u64) -> Arc<Condvar> {
        match self.waiting.get_mut(&tag) {
            Some(Waiting::Thread { sleeper, .. }) => Arc::clone(sleeper.get_or_insert_default()),
            _ => Arc::default(),
        }
    }

    /// Whether the operation is done; it is forgotten then.
    pub(super) fn is_done(&mut self, tag: u64) -> bool {
        let is_done = matches!(self.waiting.get(&tag), Some(Waiting::Thread { is_done: true, .. }));
        if is_done {
            self.leave(tag);
        }
        is_done
    }

    /// Nobody waits for it any more.
    pub(super) fn leave(&mut self, tag: u64) {
        self.is_stirred = true;
        let waited = self.waiting.remove(&tag);
        if let Some(Waiting::Thread { sleeper: Some(_), is_done: true }) = waited {
            self.turnstile.pass();
        }
    }

    /// Reads `key`, which is unknown, for a callback.
    pub(super) fn load_for(&mut self, key: KeyRef<'_>, take: fn(&V) -> V, call: Callback<V>) {
        let tag = self.next_tag();
        let token = self.cache.begin_load(&self.home, [key], tag);
        let token = token.expect("the caller looked: the key is unknown");
        // Its completion names it.
        let _: TokenId = token.into_id();
        let waiting = Waiting::Callback { key: key.key.into(), hash: key.hash, take, call };
        self.waiting.insert(tag, waiting);
    }

    /// Wakes everybody whose operation is done.
    pub(super) fn wake(&mut self) {
        let mut completions = Vec::new();
        self.cache.poll_completions(&mut completions);
        for Completion { tag, token } in completions {
            match self.waiting.get_mut(&tag) {
                Some(Waiting::Thread { sleeper, is_done }) => {
                    *is_done = true;
                    if let Some(sleeper) = sleeper {
                        self.turnstile.come();
                        sleeper.notify_one();
                    }
                }
                Some(Waiting::Callback { .. }) => self.answer(tag, token),
                None => {}
            }
        }
    }

    fn answer(&mut self, tag: u64, token: TokenId) {
        let Some(Waiting::Callback { key, hash, take, call }) = self.waiting.remove(&tag) else {
            return;
        };
        let token = self.cache.retake::<op::Load>(token);
        let answer = match self.cache.complete_load(token) {
            Err(failure) => Err(Error::Store(failure)),
            Ok(pinned) => {
                let key = KeyRef { space: self.space(), hash, key: &key };
                let seen = self.look(key, |value, _| value.map(take));
                self.cache.unpin(pinned);
                // Unknown only after a flush, and then there is nothing.
                seen.map(Option::flatten)
            }
        };
        self.due.push(Due { call, answer });
    }

    /// Lets keys be evicted again that a load has brought.
    pub(super) fn unpin(&mut self, pinned: Option<TokenId>) {
        if let Some(id) = pinned {
            self.is_stirred = true;
            let pinned = self.cache.retake(id);
            self.cache.unpin(pinned);
        }
    }

    /// Ends every wait; for the end of the cache.
    pub(super) fn close(&mut self) {
        self.cache.close();
        self.wake();
    }

    /// Ends every wait without asking the cache, which a panic may have left half changed.
    pub(super) fn give_up(&mut self) {
        for waiting in std::mem::take(&mut self.waiting).into_values() {
            match waiting {
                Waiting::Thread { sleeper, .. } => {
                    sleeper.iter().for_each(|sleeper| sleeper.notify_one());
                }
                Waiting::Callback { call, .. } => {
                    self.due.push(Due { call, answer: Err(Error::Poisoned) });
                }
            }
        }
    }

    /// Callbacks that are due, to be run without the lock.
    pub(super) fn take_due(&mut self) -> Vec<Due<V>> {
        std::mem::take(&mut self.due)
    }

    pub(super) fn has_due(&self) -> bool {
        !self.due.is_empty()
    }

    // ---- Jobs ---------------------------------------------------------------------------

    /// A read of keys for a thread that has to wait for one anyway.
    pub(super) fn take_read(&mut self) -> Option<Job> {
        self.is_stirred = true;
        self.cache.turn_loads(&mut self.home);
        self.collect_jobs();
        let at = self.jobs.iter().position(|job| job.kind() == JobKind::Load)?;
        self.jobs.remove(at)
    }

    /// Every job, oldest first.
    pub(super) fn take_jobs(&mut self) -> VecDeque<Job> {
        self.collect_jobs();
        std::mem::take(&mut self.jobs)
    }

    fn collect_jobs(&mut self) {
        while let Some(job) = self.cache.next_job() {
            self.jobs.push_back(job);
        }
    }

    pub(super) fn job_done(&mut self, done: Done<V>) {
        self.is_stirred = true;
        let now = self.look_at_clock();
        self.cache.complete_job(done, &mut self.home, now);
        self.wake();
    }

    /// Whether the driver must not sleep on. Says so once.
    #[inline]
    pub(super) fn must_ring(&mut self) -> bool {
        // A driver that runs looks at everything before it sleeps.
        std::mem::take(&mut self.is_stirred) && self.sleeps_until_ms != 0 && self.is_due()
    }

    fn is_due(&mut self) -> bool {
        self.collect_jobs();
        let is_due = !self.jobs.is_empty()
            || self.is_turn_wanted
            || self.has_due()
            || self.cache.has_queued_loads()
            || self.cache.wake_ms().is_some_and(|at| at < self.sleeps_until_ms);
        if is_due {
            self.sleeps_until_ms = 0;
        }
        is_due
    }
}

/// Both clocks; the one for intervals starts with the cache.
pub(super) fn now_since(start: Instant) -> Now {
    let millis = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now { mono_ms: millis(start.elapsed()), unix_ms: millis(unix) }
}

/// A failure that no storage call made.
pub(super) const fn refused(what: &'static str) -> Error {
    Error::Store(Failure { kind: crate::storage::ErrorKind::Closed, what })
}
