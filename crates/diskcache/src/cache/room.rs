//! Eviction and back-pressure: how the accounted bytes stay under the limit. Main thread; no IO.
//!
//! The limit is held by three means, in this order. A turn forgets a few clean keys while the
//! ledger is above the limit, never many at once (KeyDB #814 hangs for seconds evicting 5 %).
//! Before a write, [`Cache::room`] does the same for that write. When sampling finds nothing
//! clean, a checkpoint begins at once and the *client* waits ([`Cache::begin_room`]): memory is
//! made by saving, so a write is delayed, never refused with an out-of-memory error. Only when
//! saving fails too, the waiting writes are refused, with that failure.
//!
//! The bytes that two batches, the reads in flight and the engine's own caches may take are set
//! aside in advance, so building the very batch that relieves the pressure does not break the
//! limit.
//!
//! **The bound.** Accounted bytes exceed the limit by no more than (a) what the commands of one
//! turn add, one command's own working set when each asked for room, (b) the keys that the client
//! first in line has pinned, (c) the difference between the largest and the mean record for the
//! reads in flight, and (d) by how much a record is larger than a batch.
//!
//! Source: Redis's diskstore cache (dscache.c, 2010 to 2011); KeyDB issue 814.

use std::collections::VecDeque;

use super::evict::{self, Pool, Removal, Saved};
use super::home::{Candidate, Home, Resident};
use super::memory::Account;
use super::op;
use super::rng::Rng;
use super::stats::Eviction;
use super::{Cache, Refusal};
use crate::key::Space;
use crate::token::Token;

/// Evictions remembered for those who ask.
const HISTORY: usize = 1024;

/// Rounds of sampling without a clean entry before the memory counts as all dirty.
const DRY_ROUNDS: usize = 4;

/// Whether a write may run now.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
#[must_use]
pub enum Room {
    /// It may.
    Now,
    /// Not before a checkpoint has made keys clean: wait with [`Cache::begin_room`].
    Wait,
}

/// What sampling has found so far.
#[derive(Debug)]
pub(super) struct Evictor {
    rng: Rng,
    pool: Pool,
    sampled: Vec<Candidate>,
    pub(super) saved: Saved,
    /// Nothing clean was found last time; cleared when a batch settles, or the journal is synced.
    stuck: bool,
    /// When nothing clean was found. It is not looked for again in the same millisecond, unless
    /// something may have become clean: each look reads hundreds of entries, and there may be one
    /// for each writer that comes and each turn.
    stuck_ms: Option<u64>,
    history: VecDeque<Eviction>,
    mean_load_bytes: u64,
}

impl Evictor {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            rng: Rng::new(seed),
            pool: Pool::new(),
            sampled: Vec::new(),
            saved: Saved::default(),
            stuck: false,
            stuck_ms: None,
            history: VecDeque::with_capacity(HISTORY),
            mean_load_bytes: 1024,
        }
    }

    pub(super) fn is_stuck(&self) -> bool {
        self.stuck
    }

    /// Keys became clean, or log durable: whether anything can be evicted is to be seen anew.
    pub(super) fn memory_changed(&mut self) {
        self.stuck = false;
        self.look_again();
    }

    /// Something may have become clean.
    pub(super) fn look_again(&mut self) {
        self.stuck_ms = None;
    }

    pub(super) fn forget_candidates(&mut self) {
        self.pool.clear();
    }

    /// Running mean over the last few dozen records, with what a key and its record cost.
    pub(super) fn note_load(&mut self, payload_bytes: usize) {
        let bytes = payload_bytes as u64 + 128;
        self.mean_load_bytes = (self.mean_load_bytes * 31 + bytes) / 32;
    }

    pub(super) fn mean_load_bytes(&self) -> u64 {
        self.mean_load_bytes
    }

    pub(super) fn last_eviction(&self, space: Space, hash: u64) -> Option<Eviction> {
        self.history.iter().rev().find(|e| (e.space, e.hash) == (space, hash)).copied()
    }

    fn remember(&mut self, eviction: Eviction) {
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(eviction);
    }
}

impl Cache {
    /// Whether a write that adds about `need_bytes` may run now. Evicts a few keys if it must.
    ///
    /// A write that adds none, and any write without a limit, waits for nothing but the log; see
    /// [`Cache::is_log_full`].
    pub fn room<H: Home>(&mut self, home: &mut H, need_bytes: u64) -> Room {
        if self.is_log_full() {
            return Room::Wait;
        }
        if need_bytes == 0 || self.ledger.limit() == 0 {
            return Room::Now;
        }
        self.refresh_ledger(home);
        if self.fits(need_bytes) {
            return Room::Now;
        }
        self.evict(home, self.options.evictions_max, need_bytes);
        if self.fits(need_bytes) { Room::Now } else { Room::Wait }
    }

    /// Whether so much is logged and not written, or written and not saved, that no more should be
    /// until some is: a disk that hangs, or an engine that does, must not make the log grow without
    /// bound. Where the engine fails instead, [`Cache::refusing`] says so at the same length.
    #[must_use]
    pub fn is_log_full(&self) -> bool {
        self.lane.unwritten_bytes() > self.options.unwritten_bytes() || self.is_journal_full()
    }

    /// Waits for room for `need_bytes`; first come, first served.
    pub fn begin_room(&mut self, need_bytes: u64, tag: u64) -> Token<op::Room> {
        self.stats.throttled += 1;
        let id = self.begin(tag);
        self.waiters.wait_room(id, need_bytes);
        self.waiters.token(id)
    }

    fn fits(&self, need_bytes: u64) -> bool {
        // A write that can never fit may run alone: it is its own working set.
        let need = need_bytes + self.lane.growth_bytes(need_bytes);
        let need = need.min(self.ledger.limit() / 8);
        self.reserved().saturating_add(need) <= self.ledger.limit() || self.ledger.limit() == 0
    }

    /// Bytes in use, with what batches, loads and the engine may come to take.
    fn reserved(&self) -> u64 {
        let ledger = &self.ledger;
        // One is built while one is committed.
        let batch = (2 * self.options.batch_bytes()).saturating_sub(ledger.get(Account::Batch));
        let loads = self.options.load_bytes().saturating_sub(ledger.get(Account::Loads));
        let engine = self.options.engine_bytes.saturating_sub(ledger.get(Account::Engine));
        ledger.used() + batch + loads + engine
    }

    /// Bytes above the limit, reserves included.
    pub(super) fn ledger_excess(&self) -> u64 {
        match self.ledger.limit() {
            0 => 0,
            limit => self.reserved().saturating_sub(limit),
        }
    }

    pub(super) fn refresh_ledger<H: Home>(&mut self, home: &H) {
        self.resident = Resident::of(home);
        self.ledger.set(Account::Home, self.resident.bytes);
        let nodes = self.dirty.memory_bytes() + self.evictor.saved.memory_bytes();
        self.ledger.set(Account::DirtyQueue, nodes);
        self.ledger.set(Account::Journal, self.lane.memory_bytes());
        self.set_load_account();
        self.ledger.note_peak();
    }

    /// Forgets keys while above the limit, and wakes writers that found no room. Returns whether
    /// the next turn has more to forget: nothing else would wake the loop for it.
    pub(super) fn evict_turn<H: Home>(&mut self, home: &mut H) -> bool {
        self.refresh_ledger(home);
        let mut more = false;
        if self.ledger_excess() > 0 {
            more = self.evict(home, self.options.evictions_max, 0);
        } else if self.waiters.first_for_room().is_none() {
            self.evictor.stuck = false;
        }
        self.refuse_room();
        if self.is_log_full() {
            return more;
        }
        let mut granted = 0;
        while let Some(need) = self.waiters.first_for_room() {
            if need > 0 && !self.fits(granted + need) {
                if granted > 0 {
                    // Its turn to have keys forgotten for it comes next.
                    more = true;
                    break;
                }
                more |= self.evict(home, self.options.evictions_max, need);
                if !self.fits(need) && !self.is_exhausted() {
                    self.refuse_room();
                    break;
                }
            }
            granted += need;
            self.waiters.grant_room();
        }
        more
    }

    /// Waiting is for as long as saving takes, not for as long as the disk is full.
    fn refuse_room(&mut self) {
        // A disk that is low refuses them when they come again, and takes what is to be saved.
        if let Some(Refusal::Engine(failure) | Refusal::Journal(failure)) = self.refusing() {
            self.waiters.refuse_room(failure);
        }
    }

    /// Nothing is left to evict or to save: what is in use is in use. One writer may run, else
    /// nobody ever would under a limit below what the structures themselves take.
    fn is_exhausted(&self) -> bool {
        self.evictor.stuck && self.dirty.len() == 0 && !self.checkpoint.is_under_way()
    }

    /// Before a read begins, or after its value went in: makes up for what that takes.
    pub(super) fn evict_for_load<H: Home>(&mut self, home: &mut H, count: usize) {
        self.refresh_ledger(home);
        if self.ledger_excess() > 0 {
            self.evict(home, count, 0);
        }
    }

    /// Forgets up to `count` entries while `need_bytes` do not fit. Returns whether more
    /// of the same may help.
    fn evict<H: Home>(&mut self, home: &mut H, count: usize, need_bytes: u64) -> bool {
        if self.evictor.stuck_ms == Some(self.now.mono_ms) {
            return false;
        }
        let mut evicted = 0;
        let mut dry = 0;
        while evicted < count && dry < DRY_ROUNDS && !self.fits(need_bytes) {
            self.sample(home);
            let Some(candidate) = self.evictor.pool.take() else {
                dry += 1;
                continue;
            };
            if self.forget(candidate, home) {
                evicted += 1;
                dry = 0;
            } else {
                // Used, dirtied or pinned since it was sampled.
                dry += 1;
            }
        }
        let stuck = evicted == 0 && dry == DRY_ROUNDS;
        self.stats.evictions_stuck += u64::from(stuck && !self.evictor.stuck);
        self.evictor.stuck = stuck;
        self.evictor.stuck_ms = stuck.then_some(self.now.mono_ms);
        evicted > 0 && !self.fits(need_bytes)
    }

    /// Offers the pool what a look at the keys saved last finds, or a sample of all.
    fn sample<H: Home>(&mut self, home: &mut H) {
        let mut sampled = std::mem::take(&mut self.evictor.sampled);
        sampled.clear();
        let saved = self.evictor.saved.look(home);
        // Whoever waits for a few keys of a batch pins them: that is no sign of nothing clean.
        sampled.extend(saved.filter(|c| !self.is_pinned(c.space, c.hash)));
        if sampled.is_empty() {
            let wanted = self.options.samples;
            home.sample(self.evictor.rng.next_u64(), wanted, &mut sampled);
            self.evictor.saved.note_sample(sampled.len(), wanted);
        }
        for candidate in &sampled {
            if self.is_pinned(candidate.space, candidate.hash) {
                continue;
            }
            let evictor = &mut self.evictor;
            let random = evictor.rng.next_u64();
            let (policy, unix_ms) = (self.options.policy, self.now.unix_ms);
            let score = evict::score(policy, Removal::Forget, candidate, unix_ms, random);
            if let Some(score) = score {
                evictor.pool.offer(score, *candidate);
            }
        }
        self.evictor.sampled = sampled;
    }

    pub(super) fn forget<H: Home>(&mut self, candidate: Candidate, home: &mut H) -> bool {
        let Candidate { space, hash, idle_ms, frequency, .. } = candidate;
        if self.is_pinned(space, hash) {
            return false;
        }
        let forgot = home.forget(space, hash);
        if forgot.entries == 0 {
            return false;
        }
        self.stats.evictions += u64::from(forgot.entries);
        self.stats.evicted_bytes += forgot.bytes;
        let excess_bytes = self.ledger_excess();
        let at_ms = self.now.mono_ms;
        self.evictor.remember(Eviction { space, hash, at_ms, idle_ms, frequency, excess_bytes });
        self.ledger.set(Account::Home, home.memory_bytes());
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::cache::dirty::Node;
    use crate::cache::flags::KeyState;
    use crate::cache::home::{Entry, Forgot, Known, Loaded};
    use crate::cache::job::Failure;
    use crate::cache::map::MapHome;
    use crate::cache::{Now, Options};
    use crate::journal::sim::SimDir;
    use crate::journal::{Depth, EngineAt, StoreId, Writer, WriterOptions, scan};
    use crate::key::{KeyRef, Seq};
    use crate::storage::{Before, ErrorKind, Meta};

    /// Counts how often it is sampled.
    #[derive(Default)]
    struct Counting {
        map: MapHome<Vec<u8>>,
        samples: usize,
    }

    impl Home for Counting {
        type Value = Vec<u8>;

        fn known(&self, key: KeyRef<'_>) -> Known {
            self.map.known(key)
        }

        fn visit(&mut self, space: Space, hash: u64, each: &mut dyn FnMut(&mut dyn Entry)) {
            self.map.visit(space, hash, each);
        }

        fn insert(&mut self, key: KeyRef<'_>, loaded: Option<Loaded<Vec<u8>>>, state: KeyState) {
            self.map.insert(key, loaded, state);
        }

        fn forget(&mut self, space: Space, hash: u64) -> Forgot {
            self.map.forget(space, hash)
        }

        fn sample(&mut self, random: u64, want: usize, out: &mut Vec<Candidate>) {
            self.samples += 1;
            self.map.sample(random, want, out);
        }

        fn candidate(&mut self, space: Space, hash: u64) -> Option<Candidate> {
            self.map.candidate(space, hash)
        }

        fn memory_bytes(&self) -> u64 {
            self.map.memory_bytes()
        }

        fn entry_count(&self) -> u64 {
            self.map.entry_count()
        }
    }

    fn cache() -> Cache {
        let (dir, store) = (SimDir::new(), StoreId([7; 16]));
        let report = scan(&dir, &store, EngineAt::default(), Depth::Needed).unwrap();
        let accepted = report.accept(false).unwrap();
        let opened = Writer::open(Arc::new(dir), store, WriterOptions::default(), &accepted);
        let spaces = vec![Space(1)];
        let counts = [(Space(1), 1)].into();
        let meta = Meta { spaces, next_space: 2, counts, ..Meta::default() };
        let options = Options { limit_bytes: 100_000, databases: 1, ..Options::default() };
        Cache::new(options, &meta, opened.unwrap().0, Now::default())
    }

    /// `count` entries of a thousand bytes, of which every tenth is clean; those clean ones.
    fn mostly_dirty(home: &mut Counting, count: u64) -> Vec<Node> {
        let mut clean = Vec::new();
        let mut rng = Rng::new(1);
        for n in 0..count {
            let hash = rng.next_u64();
            let key = KeyRef { space: Space(1), hash, key: b"key" };
            let (_, state) =
                home.map.set(key, Some(vec![0; 1000]), None, KeyState::new(Before::Absent));
            if n % 10 == 0 {
                clean.push(Node { hash, first_seq: Seq(n), space: Space(1), since_ms: 0 });
            } else {
                assert!(state.mark_dirty());
            }
        }
        clean
    }

    #[test]
    fn where_few_are_clean_the_last_batch_is_gone_through() {
        let (mut cache, mut home) = (cache(), Counting::default());
        let clean = mostly_dirty(&mut home, 4_000);
        let find = |cache: &mut Cache, home: &mut Counting| {
            let before = (home.samples, home.entry_count());
            for _ in 0..10 {
                let _ = cache.room(home, 1000);
            }
            (home.samples - before.0, before.1 - home.entry_count())
        };
        let (samples, evicted) = find(&mut cache, &mut home);
        assert!(evicted == 160 && samples >= 150, "{samples} samples for {evicted}");
        cache.evictor.saved.begin_batch(clean.len());
        cache.evictor.saved.add(&clean);
        let (samples, evicted) = find(&mut cache, &mut home);
        assert!(evicted == 160 && samples <= 30, "{samples} samples for {evicted}");
        let (_, evicted) = find(&mut cache, &mut home);
        assert!(evicted >= 60, "{evicted}: what the batch does not name is sampled");
        cache.evictor.saved.begin_batch(0);
        assert_ne!(cache.evictor.saved.memory_bytes(), 0, "and may be needed again");
        cache.evictor.saved.begin_batch(0);
        assert_eq!(cache.evictor.saved.memory_bytes(), 0, "given back when they were not scarce");
    }

    #[test]
    fn clean_keys_that_no_batch_names_are_found_beside_it() {
        let (mut cache, mut home) = (cache(), Counting::default());
        let clean = mostly_dirty(&mut home, 4_000);
        let (old, saved) = clean.split_at(100);
        home.map.set_now(Now { mono_ms: 5_000, unix_ms: 5_000 });
        for node in saved {
            let key = KeyRef { space: Space(1), hash: node.hash, key: b"key" };
            assert!(home.map.value(key).is_some());
        }
        cache.evictor.saved.note_sample(0, 5);
        cache.evictor.saved.begin_batch(saved.len());
        cache.evictor.saved.add(saved);
        for _ in 0..15 {
            let _ = cache.room(&mut home, 1000);
        }
        let evicted = 4_000 - home.entry_count();
        let is_gone = |node: &&Node| home.map.candidate(Space(1), node.hash).is_none();
        let old_gone = old.iter().filter(is_gone).count();
        // A quarter of what is clean, so of what some thirty samples find; they go first.
        assert!(evicted == 240 && old_gone >= 8, "{old_gone} of {evicted}");
    }

    #[test]
    fn keys_of_the_batch_that_somebody_waits_for_do_not_hide_the_others() {
        let (mut cache, mut home) = (cache(), Counting::default());
        let clean = mostly_dirty(&mut home, 4_000);
        let waited_for = clean.iter().take(2 * DRY_ROUNDS).map(|node| node.hash);
        let keys = waited_for.chain([7]).map(|hash| KeyRef { space: Space(1), hash, key: b"key" });
        let waiting = cache.begin_load(&home, keys, 1).expect("one of them is not in memory");
        cache.evictor.saved.note_sample(0, 5);
        cache.evictor.saved.begin_batch(clean.len());
        cache.evictor.saved.add(&clean);
        let _ = cache.room(&mut home, 1000);
        assert_eq!(4_000 - home.entry_count(), 16, "as many as in any turn");
        cache.abandon(waiting);
    }

    #[test]
    fn where_many_are_clean_no_batch_is_kept() {
        let (mut cache, mut home) = (cache(), Counting::default());
        let nodes = mostly_dirty(&mut home, 4_000);
        let mut rng = Rng::new(1);
        for _ in 0..4_000 {
            let clean = KeyState::new(Before::Present);
            home.visit(Space(1), rng.next_u64(), &mut |entry| entry.set_state(clean));
        }
        assert_eq!(cache.room(&mut home, 1000), Room::Wait);
        cache.evictor.saved.begin_batch(nodes.len());
        cache.evictor.saved.add(&nodes);
        assert_eq!(cache.evictor.saved.memory_bytes(), 0);
        let before = home.samples;
        assert_eq!(cache.room(&mut home, 1000), Room::Wait);
        assert!(home.samples - before >= 16, "each is chosen from a sample");
        cache.evictor.saved.note_sample(0, 5);
        cache.evictor.saved.begin_batch(nodes.len());
        cache.evictor.saved.add(&nodes);
        let before = home.samples;
        for _ in 0..4 {
            assert_eq!(cache.room(&mut home, 1000), Room::Wait);
        }
        let samples = home.samples - before;
        assert!(samples >= 56, "{samples} for 64: the first sample tells, and a kept batch waits");
    }

    fn all_dirty() -> Counting {
        let mut home = Counting::default();
        for hash in 0..100 {
            let key = KeyRef { space: Space(1), hash, key: b"key" };
            let state = KeyState::new(Before::Absent);
            let (_, state) = home.map.set(key, Some(vec![0; 1000]), None, state);
            assert!(state.mark_dirty());
        }
        home
    }

    #[test]
    fn who_no_longer_fits_is_told_while_the_engine_fails() {
        // It waited for the next attempts, tens of seconds, as long as the limit was not exceeded.
        let (mut cache, mut home) = (cache(), all_dirty());
        cache.dirty.push(Node { hash: 0, first_seq: Seq(1), space: Space(1), since_ms: 0 });
        cache.refresh_ledger(&home);
        cache.ledger.set_limit(cache.reserved() + 500);
        let failure = Failure { kind: ErrorKind::NoSpace, what: "a test" };
        cache.note_failure(failure);
        let waiting = cache.begin_room(1000, 1);
        cache.evict_turn(&mut home);
        let mut told = Vec::new();
        cache.poll_completions(&mut told);
        assert_eq!(told.len(), 1);
        assert_eq!(cache.complete(waiting), Err(failure));
    }

    #[test]
    fn what_is_not_there_is_looked_for_once_a_millisecond() {
        // Each writer and each turn searched a memory full of dirty keys.
        let (mut cache, mut home) = (cache(), all_dirty());
        for _ in 0..100 {
            assert_eq!(cache.room(&mut home, 1000), Room::Wait);
        }
        assert_eq!(home.samples, DRY_ROUNDS);
        cache.set_now(Now { mono_ms: 1, unix_ms: 1 });
        assert_eq!(cache.room(&mut home, 1000), Room::Wait);
        assert_eq!(home.samples, 2 * DRY_ROUNDS);
        for hash in 0..100 {
            let clean = KeyState::new(Before::Present);
            home.visit(Space(1), hash, &mut |entry| entry.set_state(clean));
        }
        cache.evictor.look_again();
        assert_eq!(cache.room(&mut home, 1000), Room::Wait, "a few for each call");
        let forgotten = 100 - home.entry_count();
        assert!(forgotten >= 10, "{forgotten}: looked for at once when something changed");
    }
}
