//! The disk tier: the cache's state machine, the pool that runs its jobs, and how requests meet
//! them.
//!
//! Main thread. `home` shows the keyspace to the cache; `delta` is how changes are journalled;
//! `prepare` makes a request wait for what it needs before it runs, so that a command always runs
//! at once and whole; `backup` is SAVE and BGSAVE; `walk` reads stretches of keys from memory and
//! disk together; `open` is the way from the store's directory to a served keyspace. Commands know
//! none of this: they see keys that are there or absent.

pub(crate) mod backup;
mod delta;
pub(crate) mod home;
mod names;
pub(crate) mod open;
pub(crate) mod prepare;
pub(crate) mod walk;

use std::sync::Arc;

use flintlock_diskcache::Token;
use flintlock_diskcache::cache::home::Known;
use flintlock_diskcache::cache::{Cache, Completion, Now, Refusal, Turn};
use flintlock_diskcache::exec::JobPool;
use flintlock_diskcache::journal::{BODY_MAX, TooLarge};
use flintlock_diskcache::key::{KeyRef, Seq};
use flintlock_diskcache::layout::StoreDir;
use flintlock_diskcache::op;

use crate::command::Request;
use crate::keyspace::entry::{EntryRef, ValueRef};
use crate::keyspace::table::Loc;
use crate::keyspace::{Key, Keyspace};
use crate::types::codec;

use home::{Resident, ServerDecode, state_of, stored};

/// How a change goes into the journal.
#[derive(Copy, Clone, Debug)]
pub(crate) enum Effect<'a> {
    /// The whole value of the key, as it is now.
    Put,
    /// The key is gone.
    Delete,
    /// Only the expiry changed.
    Expiry(Option<u64>),
    /// The request itself: it changes this key alone and does not depend on time or chance.
    Request(&'a Request<'a>),
    /// Another command that has the same effect, for one that does depend on them.
    Words(&'a [&'a [u8]]),
}

/// Answers taken from the pool in one turn: the rest come in the next, so that a burst of loads
/// does not hold up clients whose keys are in memory.
const ANSWERS_MAX: usize = 256;
/// Between two lines of the log on whether the store can be written.
const TROUBLE_EACH_MS: u64 = 1000;

/// Most bytes that a value may take, in memory or in its record, if it is to be stored: journal and
/// engine count a record in 32 bits. What is left of those is for its key.
pub(crate) const VALUE_BYTES_MAX: usize = 3 << 30;

/// Collections from this size on are encoded by the worker that writes the journal.
const ENCODE_LATER_MIN: usize = 256 << 10;
/// By how much an element may be longer in a record than in memory, where a number takes few bytes:
/// two lengths and two numbers.
const ELEMENT_MORE_MAX: usize = 64;

/// See the module doc.
#[derive(Debug)]
pub(crate) struct Tier {
    /// The state machine.
    pub cache: Cache,
    jobs: JobPool<ServerDecode>,
    completions: Vec<Completion>,
    /// Background work that nobody waits for: the last syncs, the last drain.
    syncs: Vec<Token<op::Sync>>,
    last_drain: Option<Token<op::Drain>>,
    /// What the log said last of the store's health, and when.
    told: (Option<Refusal>, Option<u64>),
    /// Holds the store's lock for as long as the store is served.
    dir: StoreDir,
}

impl Tier {
    fn new(cache: Cache, jobs: JobPool<ServerDecode>, dir: StoreDir) -> Self {
        let (completions, syncs, last_drain) = (Vec::new(), Vec::new(), None);
        Self { cache, jobs, completions, syncs, last_drain, told: (None, None), dir }
    }

    /// Journals a change of `key` that has been made, and queues the key to be saved.
    pub(crate) fn log(
        &mut self,
        keyspace: &mut Keyspace,
        db: usize,
        key: Key<'_>,
        was: Known,
        loc: Loc,
        effect: Effect<'_>,
    ) {
        let db = &mut keyspace.dbs[db];
        let at = KeyRef { space: db.space, hash: key.hash, key: key.bytes };
        let entry = db.table.entry(loc);
        let exists = !entry.is_absent();
        // A change needs a state to stand on; what creates a key is that state.
        let creates = exists && was != Known::Value;
        let seq = match if creates { Effect::Put } else { effect } {
            Effect::Put => self.log_value(at, entry),
            Effect::Delete => self.cache.delete(at),
            Effect::Expiry(expiry) => self.cache.delta(at, |out| delta::push_expiry(out, expiry)),
            Effect::Request(request) => {
                self.cache.delta(at, |out| delta::push_words(out, request.from(0)))
            }
            Effect::Words(words) => {
                self.cache.delta(at, |out| delta::push_words(out, words.iter().copied()))
            }
        };
        let seq = seq.expect("requests are below `INPUT_MAX`, values below `VALUE_BYTES_MAX`");
        let mut state =
            if was == Known::Unknown { self.cache.fresh_state(at.space) } else { state_of(entry) };
        if state.is_save() && exists && was == Known::Value {
            return;
        }
        self.cache.changed(at, seq, was, exists, &mut state);
        db.table.touch(loc, |entry| entry.set_state(state.to_bits()));
    }

    /// Journals a whole value. A large collection is shared with the worker that will encode it: a
    /// RENAME would stall the loop for as long as that takes, 3 ms a megabyte.
    fn log_value(&mut self, at: KeyRef<'_>, entry: EntryRef<'_>) -> Result<Seq, TooLarge> {
        let expires_at_ms = entry.expires_at_ms();
        if let ValueRef::Object(object) = entry.value()
            && object.memory_bytes() >= ENCODE_LATER_MIN
            && object.memory_bytes() + object.len() * ELEMENT_MORE_MAX <= BODY_MAX
        {
            let (object, len_bytes) = (Arc::clone(object), object.memory_bytes());
            let encode = move |out: &mut Vec<u8>| {
                codec::encode_into(codec::Value::Object(&object), out);
            };
            return self.cache.put_later(at, expires_at_ms, len_bytes, Box::new(encode));
        }
        let value = stored(entry.value()).expect("what was put exists");
        self.cache.put(at, expires_at_ms, |out| codec::encode_into(value, out))
    }

    /// One turn of the cache, and its jobs to the workers.
    pub(crate) fn turn(&mut self, home: &mut Resident<'_>, now: Now) -> Turn {
        let turn = self.cache.turn(home, now);
        while let Some(job) = self.cache.next_job() {
            self.jobs.push(job);
        }
        self.jobs.commit();
        turn
    }

    /// Takes finished jobs back.
    pub(crate) fn drain(&mut self, home: &mut Resident<'_>, now: Now) {
        let cache = &mut self.cache;
        self.jobs.drain(ANSWERS_MAX, |done| cache.complete_job(done, home, now));
    }

    /// The clients whose waits are over, as tags.
    pub(crate) fn completions(&mut self) -> Vec<Completion> {
        let mut completions = std::mem::take(&mut self.completions);
        completions.clear();
        self.cache.poll_completions(&mut completions);
        completions
    }

    /// Gives the buffer of [`Tier::completions`] back.
    pub(crate) fn reuse(&mut self, completions: Vec<Completion>) {
        self.completions = completions;
    }

    /// Announces that the loop will sleep; `false` if answers are there.
    pub(crate) fn before_sleep(&mut self) -> bool {
        self.jobs.before_sleep()
    }

    /// The loop woke up.
    pub(crate) fn after_sleep(&mut self) {
        self.jobs.after_sleep();
    }

    /// Begins the end: everything logged is made durable and, with `drain`, all dirty keys are
    /// saved in the engine, which makes the next start fast. See [`Tier::is_at_rest`].
    pub(crate) fn begin_end(&mut self, drain: bool) {
        let token = self.cache.begin_end(BACKGROUND);
        self.syncs.push(token);
        if drain {
            self.last_drain = Some(self.cache.begin_drain(BACKGROUND));
        }
    }

    /// Whether all background work is done.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.syncs.is_empty() && self.last_drain.is_none()
    }

    /// Whether everything acknowledged survives the end of the process.
    pub(crate) fn is_durable(&self) -> bool {
        self.cache.durable() >= self.cache.last_seq()
    }

    /// Takes a background completion back. A failure shows in the cache's state; a drain goes on.
    pub(crate) fn background_done(&mut self, completion: Completion) {
        if let Some(i) = self.syncs.iter().position(|token| token.id() == completion.token) {
            let token = self.syncs.swap_remove(i);
            let _ = self.cache.complete(token);
        } else if let Some(token) = self.last_drain.take_if(|t| t.id() == completion.token)
            && self.cache.complete(token).is_err()
        {
            self.last_drain = Some(self.cache.begin_drain(BACKGROUND));
        }
    }

    /// Gives up what nobody waits for any more; before the tier is dropped.
    pub(crate) fn release(&mut self) {
        self.syncs.drain(..).for_each(|token| self.cache.abandon(token));
        if let Some(token) = self.last_drain.take() {
            self.cache.abandon(token);
        }
    }

    /// What is to be logged of the store's health: what keeps it from being written, or that
    /// nothing does any more. One that comes and goes is told of once in `TROUBLE_EACH_MS`.
    pub(crate) fn news_of_trouble(&mut self, now_ms: u64) -> Option<Option<Refusal>> {
        let ((told, at_ms), now) = (self.told, self.cache.trouble().or_else(|| self.refusing()));
        if now == told || at_ms.is_some_and(|at_ms| now_ms < at_ms + TROUBLE_EACH_MS) {
            return None;
        }
        self.told = (now, Some(now_ms));
        Some(now)
    }

    /// Why writes are refused now, if they are.
    pub(crate) fn refusing(&self) -> Option<Refusal> {
        self.cache.refusing()
    }
}

/// Tag of operations that no client waits for; no client's key is this word.
pub(crate) const BACKGROUND: u64 = u64::MAX;
