//! The load path: from a key that the home does not know to a woken client. Main thread; no IO.
//!
//! A client that needs keys begins one load for all of them; each key unknown to the home joins
//! the load of that key or starts one. Loads are handed out in order, in jobs of up to 64 keys
//! spread over the workers, while the caps on keys and bytes in flight allow and the memory has
//! room. Without room, only the client first in line gets reads, so that it can run, let go of its
//! keys and make room for the next.
//!
//! Keys that will be needed soon can be asked for ahead of that. Such a read begins only while
//! there is room and no read is queued that somebody waits for; nothing but the read itself pins
//! its key, and a client that needs the key meanwhile joins it.
//!
//! A failed read wakes its clients with the error. It leaves no entry: an error is never an absent
//! key.
//!
//! Source: Redis's diskstore cache (dscache.c, 2010 to 2011); KeyDB's two-phase storage calls
//! (async FLASH).

use super::Cache;
use super::flags::KeyState;
use super::home::{Home, Known, Loaded};
use super::job::{Failure, Job, LoadJob, LoadOutcome, Work};
use super::loads::LoadPhase;
use super::memory::Account;
use super::op::{Load, Pinned};
use crate::key::{KeyRef, Space};
use crate::storage::Before;
use crate::token::{NONE, Token, TokenId};

/// Keys in one job.
const JOB_KEYS: usize = 64;
/// Entries forgotten for one that came in.
const LOAD_EVICTIONS: usize = 2;

impl Cache {
    /// What is known of `key` without a read: the home's answer, or absent when the space is
    /// empty on disk.
    #[must_use]
    pub fn known<H: Home>(&self, home: &H, key: KeyRef<'_>) -> Known {
        match home.known(key) {
            Known::Unknown if self.spaces.is_empty_on_disk(key.space) => Known::Absent,
            known => known,
        }
    }

    /// Counts a lookup by what it found.
    #[inline]
    pub fn note_lookup(&mut self, known: Known) {
        match known {
            Known::Value => self.stats.hits += 1,
            Known::Absent => self.stats.negative_hits += 1,
            Known::Unknown => self.stats.misses += 1,
        }
    }

    /// Brings `keys` into memory for one command. `None` when nothing has to be read: run it now.
    ///
    /// Otherwise a completion with `tag` follows, and all the keys, those in memory already
    /// included, stay there until [`Cache::unpin`] or until the token is abandoned.
    pub fn begin_load<'k, H: Home>(
        &mut self,
        home: &H,
        keys: impl IntoIterator<Item = KeyRef<'k>> + Clone,
        tag: u64,
    ) -> Option<Token<Load>> {
        let missing = keys.clone().into_iter().any(|k| self.known(home, k) == Known::Unknown);
        if !missing {
            return None;
        }
        let id = self.waiters.begin_keys(tag);
        for key in keys {
            if self.known(home, key) == Known::Unknown {
                let (load, is_new) = self.loads.join(key, self.now.mono_ms);
                self.stats.loads_joined += u64::from(!is_new);
                self.waiters.need(id, key, Some((&mut self.loads, load)));
            } else {
                self.waiters.need(id, key, None);
            }
        }
        if self.closed {
            self.waiters.finish(id, Err(Failure::CLOSED));
        }
        Some(self.waiters.token(id))
    }

    /// Reads `key` ahead of need, if it is unknown and memory allows; nobody is told of the end.
    ///
    /// A hint: it may be dropped, the key may be evicted before it is used, and a failed read is
    /// counted and left to whoever needs the key.
    pub fn preload<H: Home>(&mut self, home: &H, key: KeyRef<'_>) {
        let is_full = self.closed || self.loads.wishes() >= self.options.loads_max;
        if is_full || self.known(home, key) != Known::Unknown {
            return;
        }
        self.stats.loads_ahead += u64::from(self.loads.wish(key, self.now.mono_ms));
    }

    /// Takes a completed load back; the keys stay pinned until [`Cache::unpin`].
    ///
    /// # Errors
    /// Why a key could not be read. The pins are undone.
    ///
    /// # Panics
    /// When the completion has not come yet.
    pub fn complete_load(&mut self, token: Token<Load>) -> Result<Token<Pinned>, Failure> {
        let id = token.into_id();
        self.waiters.complete(id, true)?;
        Ok(self.waiters.token(id))
    }

    /// The command has run: its keys may be evicted again.
    pub fn unpin(&mut self, pinned: Token<Pinned>) {
        self.waiters.leave(pinned.into_id());
        self.evictor.look_again();
    }

    /// Whether a load or a command needs entries with this hash to stay.
    pub(super) fn is_pinned(&self, space: Space, hash: u64) -> bool {
        self.waiters.pins(space, hash) || self.loads.pins(space, hash)
    }

    /// Hands queued loads out.
    pub(super) fn load_turn<H: Home>(&mut self, home: &mut H) {
        if self.loads.queued() == 0 {
            return;
        }
        let mut job = LoadJob::default();
        while let Some(id) = self.next_load() {
            if self.drop_needless(id, home) {
                continue;
            }
            if !self.may_start(id) {
                if !self.is_waited_for(id) {
                    self.drop_load(id);
                    continue;
                }
                self.loads.push_front(id);
                self.start_oldest(&mut job, home);
                break;
            }
            self.start_load(id, &mut job);
        }
        self.send_loads(job);
        self.set_load_account();
    }

    fn next_load(&mut self) -> Option<TokenId> {
        let is_free = self.loads.loading() < self.options.loads_max;
        if is_free { self.loads.pop() } else { None }
    }

    /// Whether caps and memory allow one more read.
    fn may_start(&self, id: TokenId) -> bool {
        let links = self.loads.get(id).map_or(NONE, |load| load.links);
        if self.waiters.wanted_by_oldest(links) {
            return true;
        }
        let in_flight = (self.loads.loading() + 1) as u64 * self.evictor.mean_load_bytes();
        self.ledger_excess() == 0 && in_flight <= self.options.load_bytes()
    }

    /// Under pressure: the reads of the client first in line, wherever they stand.
    fn start_oldest<H: Home>(&mut self, job: &mut LoadJob, home: &mut H) {
        for id in self.waiters.oldest_loads() {
            let queued = self.loads.get(id).is_some_and(|l| l.phase == LoadPhase::Queued);
            let free = self.loads.loading() < self.options.loads_max;
            let taken = queued && free && self.loads.unqueue(id);
            if taken && !self.drop_needless(id, home) {
                self.start_load(id, job);
            }
        }
    }

    /// Ends a load off the queue that needs no read: its key was written meanwhile or flushed, or
    /// everybody left. True if it was one.
    fn drop_needless<H: Home>(&mut self, id: TokenId, home: &H) -> bool {
        let Some(load) = self.loads.get(id) else { return true };
        let settled = load.stale || self.known(home, load.key.as_ref()) != Known::Unknown;
        if !settled && (load.ahead || self.is_waited_for(id)) {
            return false;
        }
        self.drop_load(id);
        true
    }

    fn is_waited_for(&self, id: TokenId) -> bool {
        self.loads.get(id).is_some_and(|load| self.waiters.wanted(load.links))
    }

    fn drop_load(&mut self, id: TokenId) {
        self.stats.loads_dropped += 1;
        if let Some(load) = self.loads.finish(id) {
            self.waiters.load_came(load.links, None);
        }
    }

    fn start_load(&mut self, id: TokenId, job: &mut LoadJob) {
        if let Some(key) = self.loads.start(id) {
            job.loads.push(id);
            job.keys.push(key);
        }
    }

    fn send_loads(&mut self, mut job: LoadJob) {
        let count = job.keys.len();
        if count == 0 {
            return;
        }
        let each = count.div_ceil(self.options.load_workers.max(1)).clamp(1, JOB_KEYS);
        while job.keys.len() > each {
            let at = job.keys.len() - each;
            let (loads, keys) = (job.loads.split_off(at), job.keys.split_off(at));
            self.outbox.push_back(Job(Work::Load(LoadJob { loads, keys })));
        }
        self.outbox.push_back(Job(Work::Load(job)));
    }

    pub(super) fn load_done<H: Home>(&mut self, results: Vec<LoadOutcome<H::Value>>, home: &mut H) {
        for result in results {
            let Some(load) = self.loads.finish(result.load) else { continue };
            let key = load.key.as_ref();
            let failure = match result.result {
                Err(failure) => {
                    self.stats.read_failures += 1;
                    Some(failure)
                }
                Ok(_) if load.stale || home.known(key) != Known::Unknown => {
                    self.stats.loads_discarded += 1;
                    None
                }
                Ok(loaded) => {
                    self.evictor.note_load(result.payload_bytes);
                    self.insert(key, loaded, home);
                    None
                }
            };
            self.waiters.load_came(load.links, failure);
            self.evictor.look_again();
            self.evict_for_load(home, LOAD_EVICTIONS);
        }
    }

    fn insert<H: Home>(&mut self, key: KeyRef<'_>, loaded: Option<Loaded<H::Value>>, home: &mut H) {
        let is_expired =
            |l: &Loaded<H::Value>| l.expires_at_ms.is_some_and(|at| at <= self.now.unix_ms);
        match loaded {
            None => {
                self.stats.loads_absent += 1;
                home.insert(key, None, KeyState::new(Before::Absent));
            }
            Some(loaded) if is_expired(&loaded) && !self.expired.is_held => {
                self.insert_expired(key, home)
            }
            Some(loaded) => {
                self.stats.loads_found += 1;
                home.insert(key, Some(loaded), KeyState::new(Before::Present));
            }
        }
    }

    /// A record that outlived its time is deleted through the queue like any other key, never by
    /// whoever read it.
    fn insert_expired<H: Home>(&mut self, key: KeyRef<'_>, home: &mut H) {
        self.stats.loads_expired += 1;
        let seq = self.delete(key).expect("a key that was read fits the journal");
        let mut state = KeyState::new(Before::Present);
        self.changed(key, seq, Known::Value, false, &mut state);
        home.insert(key, None, state);
    }

    /// `key` was written, and whoever waits for it need not wait for its read, which may hang. The
    /// load itself goes on, and keeps the key from being forgotten until it is back.
    #[cold]
    pub(super) fn wake_readers(&mut self, key: KeyRef<'_>) {
        let load = self.loads.find(key).and_then(|id| self.loads.get_mut(id));
        let links = load.map_or(NONE, |load| std::mem::replace(&mut load.links, NONE));
        self.waiters.load_came(links, None);
    }

    pub(super) fn set_load_account(&mut self) {
        let in_flight = self.loads.loading() as u64 * self.evictor.mean_load_bytes();
        let expired = self.expired.memory_bytes();
        let scans = self.scan_memory_bytes();
        self.ledger.set(Account::Loads, self.loads.memory_bytes() + expired + in_flight + scans);
        self.ledger.set(Account::Waiters, self.waiters.memory_bytes());
    }
}

#[cfg(test)]
mod tests;
