//! Making room without a disk: with `store memory` a key that is evicted is gone.
//!
//! Main thread. With a disk tier the cache forgets clean keys instead, and nothing here runs. As in
//! Redis, keys are evicted before a command runs, whatever the command, and one that needs memory
//! is refused only if that was not enough. Who goes is decided by the disk cache's sampling, told
//! that there is no disk; an eviction is a deletion, so it breaks WATCH.
//!
//! What waits to be freed is not counted here: evicting more would not free it sooner. It is freed
//! by slices of each command's time instead, so that a command pays for a millisecond at most.
//!
//! Source: behaviour of redis-server 7.0.15.

use std::time::{Duration, Instant};

use flintlock_diskcache::cache::evict::{Policy, Pool, Removal, score};
use flintlock_diskcache::cache::home::{Candidate, Home};
use flintlock_diskcache::key::Space;

use crate::client::ClientKey;
use crate::command::Ctx;
use crate::config::EvictionPolicy;
use crate::keyspace::Key;
use crate::server::Server;
use crate::tier::home::{Resident, candidate_of};

/// Keys evicted before one command: what a large write pushed out is a matter of several.
const EVICTIONS_MAX: usize = 64;
/// Samples drawn for one eviction: with `volatile-*` most keys may not go.
const DRAWS_MAX: usize = 64;
/// Entries looked at one after the other when drawing found nobody, before the command is refused;
/// the next one goes on from there.
const SEARCH_MAX: usize = 16 << 10;
/// Of them, those between two looks at what was found.
const SEARCH_STEP: usize = 64;
/// Time given to freeing before one command.
const SLICE: Duration = Duration::from_millis(1);

/// The best candidates seen so far.
#[derive(Debug, Default)]
pub(crate) struct Evictor {
    pool: Pool,
    drawn: Vec<Candidate>,
    /// How far the search for the few that may go has come: database and hash.
    searched: (usize, u64),
}

/// The policy as the disk cache names it.
pub(crate) fn policy_of(policy: EvictionPolicy) -> Policy {
    Policy::from_name(policy.name()).expect("both have the names of Redis")
}

impl Server {
    /// Whether keys and values take more than `maxmemory`.
    pub(crate) fn is_full(&self) -> bool {
        let limit = self.config.maxmemory_bytes;
        limit > 0 && self.keyspace.memory_bytes() as u64 > limit
    }

    /// Evicts keys until the limit holds, nobody may go, or this command has paid enough.
    pub(crate) fn evict(&mut self) {
        if self.tier.is_some() || self.config.maxmemory_bytes == 0 || self.is_paused() {
            return;
        }
        for _ in 0..EVICTIONS_MAX {
            if !self.is_full() || !self.evict_one() {
                break;
            }
        }
        self.free_above_limit();
    }

    /// Frees a slice of what waits for it, if keys and that together are above the limit.
    pub(crate) fn free_above_limit(&mut self) {
        let limit = self.config.maxmemory_bytes;
        if limit > 0 && self.garbage.len() > 0 && self.used_memory() as u64 > limit {
            self.garbage.step(Instant::now() + SLICE);
        }
    }

    /// What was drawn under another policy is no candidate.
    pub(crate) fn forget_candidates(&mut self) {
        self.evictor.pool.clear();
    }

    fn evict_one(&mut self) -> bool {
        let policy = policy_of(self.config.maxmemory_policy);
        let volatile = self.keyspace.dbs.used().any(|db| db.table.counts().volatile > 0);
        if policy == Policy::NoEviction || policy.is_volatile() && !volatile {
            return false;
        }
        for _ in 0..DRAWS_MAX {
            self.draw(policy);
            while let Some(candidate) = self.evictor.pool.take() {
                if self.delete_candidate(policy, candidate.space, candidate.hash) {
                    self.stats.evicted_keys += 1;
                    return true;
                }
            }
        }
        policy.is_volatile() && self.search(policy)
    }

    /// Evicts the next key with an expiry, in the order of the hashes: chance did not find one
    /// because there are few.
    fn search(&mut self, policy: Policy) -> bool {
        let hasher = self.keyspace.hasher();
        let mut left = SEARCH_MAX;
        while left > 0 {
            let (number, from) = self.evictor.searched;
            let db = &self.keyspace.dbs[number];
            let mut found = None;
            let mut seen = 0;
            let next = db.table.scan(from, SEARCH_STEP, |entry| {
                seen += 1;
                if found.is_none() && entry.expires_at_ms().is_some() {
                    found = Some(hasher.hash(entry.key()));
                }
            });
            let space = db.space;
            // Buckets are visited whole, so the rest of one may hold others: it is looked at again.
            self.evictor.searched = match (found, next) {
                (Some(_), _) => (number, from),
                (None, Some(next)) => (number, next),
                (None, None) => ((number + 1) % self.keyspace.dbs.len(), 0),
            };
            if found.is_some_and(|hash| self.delete_candidate(policy, space, hash)) {
                self.stats.evicted_keys += 1;
                return true;
            }
            left = left.saturating_sub(seen.max(SEARCH_STEP));
        }
        false
    }

    /// Adds a few keys to the candidates.
    fn draw(&mut self, policy: Policy) {
        let random = self.random();
        let samples = self.config.maxmemory_samples as usize;
        let mut home = Resident { keyspace: &mut self.keyspace, access: &self.access };
        home.sample(random, samples, &mut self.evictor.drawn);
        for candidate in self.evictor.drawn.drain(..) {
            let order = random ^ candidate.hash;
            if let Some(score) = score(policy, Removal::Delete, &candidate, self.now_ms, order) {
                self.evictor.pool.offer(score, candidate);
            }
        }
    }

    /// Deletes a key that was seen some time ago, if it is still there and may still go. Of several
    /// with one hash it is the best: the one that was seen may be any of them.
    fn delete_candidate(&mut self, policy: Policy, space: Space, hash: u64) -> bool {
        let Some(db) = self.keyspace.db_of(space) else { return false };
        let table = &self.keyspace.dbs[db].table;
        let best = table.of_hash(hash).filter_map(|loc| {
            let candidate = candidate_of(&self.access, space, hash, table.entry(loc));
            Some((score(policy, Removal::Delete, &candidate, self.now_ms, hash)?, loc))
        });
        let Some((_, loc)) = best.max_by_key(|(score, _)| *score) else { return false };
        let bytes: Box<[u8]> = table.entry(loc).key().into();
        let mut ctx = Ctx::new(self, ClientKey::INTERNAL);
        ctx.db = db;
        ctx.delete(Key { bytes: &bytes, hash }, loc);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use flintlock_diskcache::cache::Now;
    use flintlock_iothreads::Bell;

    use super::*;
    use crate::config::{Config, StoreKind, Threads};
    use crate::keyspace::Hasher;
    use crate::keyspace::entry::NewValue;
    use crate::log::{Level, Log};
    use crate::offload::Offload;
    use crate::types::{HashKey, Object, Rules, Set};

    const KEYS: usize = 12;

    /// A server without keys.
    fn empty(io_threads: u16) -> Server {
        let mut config = Config::default();
        config.store = StoreKind::Memory;
        config.maxmemory_policy = EvictionPolicy::AllkeysLru;
        config.io_threads = Threads::Fixed(NonZeroU16::new(io_threads).expect("not zero"));
        config.io_threads_always_active = true;
        let offload = Offload::new(&config, Bell::new(|| {})).expect("threads");
        let log = Log::new(Level::Warning, None);
        let now = Now { mono_ms: 0, unix_ms: 1 };
        let mut server = Server::new(config, log, Hasher::new(&[7; 16]), now, [7; 16]);
        server.offload = Some(offload);
        server
    }

    /// As many keys, each with a set that is large enough to be freed in slices.
    fn full(io_threads: u16) -> Server {
        let mut server = empty(io_threads);
        let rules = Rules::new(HashKey::new([1; 16]));
        for name in 0..KEYS {
            let mut set = Set::new();
            (0..5_000_u32).for_each(|n| _ = set.add(format!("member:{n}").as_bytes(), &rules));
            let mut ctx = Ctx::new(&mut server, ClientKey::INTERNAL);
            let bytes = [b'a' + name as u8];
            let key = Key { bytes: &bytes, hash: ctx.hasher().hash(&bytes) };
            ctx.set(key, NewValue::Object(std::sync::Arc::new(Object::from(set))), None);
        }
        server
    }

    /// Valkey 3544: what was on its way out counted against the limit, so more and more went.
    /// Here a worker frees it, or slices of later commands do, and as few keys go as must.
    #[test]
    fn what_is_being_freed_costs_no_further_key() {
        for io_threads in [1, 2] {
            let mut server = full(io_threads);
            let each = server.keyspace.memory_bytes() / KEYS;
            server.config.maxmemory_bytes = (server.keyspace.memory_bytes() - each * 5 / 2) as u64;
            for _ in 0..3 {
                server.evict();
                assert_eq!(server.stats.evicted_keys, 3, "{io_threads} threads");
            }
            if io_threads > 1 {
                let freeing = server.offload.as_ref().map_or(0, Offload::freeing_bytes);
                assert!(freeing > 2 * each, "{freeing}: it counts as used until it is gone");
                assert!(server.used_memory() as u64 > server.config.maxmemory_bytes);
            }
        }
    }

    /// Two keys with one hash under the secret of [`empty`].
    const TWINS: [[u8; 8]; 2] =
        [0xcec8_fb46_680c_f1b0_u64.to_le_bytes(), 0xf783_268f_ce4c_311a_u64.to_le_bytes()];

    /// The one that may not go hid the other one from every eviction, so writes were refused.
    #[test]
    fn of_two_keys_with_one_hash_the_one_that_may_go_goes() {
        let policies = [EvictionPolicy::VolatileLru, EvictionPolicy::VolatileTtl];
        for (policy, volatile) in policies.into_iter().zip([0, 1]) {
            let mut server = empty(1);
            server.config.maxmemory_policy = policy;
            let mut ctx = Ctx::new(&mut server, ClientKey::INTERNAL);
            assert_eq!(ctx.hasher().hash(&TWINS[0]), ctx.hasher().hash(&TWINS[1]));
            for (number, name) in TWINS.iter().enumerate() {
                let expires_at_ms = (number == volatile).then_some(u64::MAX);
                let key = ctx.hasher().key(name);
                ctx.set(key, NewValue::Str(b"value"), expires_at_ms);
            }
            server.config.maxmemory_bytes = 1;
            server.evict();
            let left = |name: &[u8]| {
                let key = server.keyspace.hasher().key(name);
                server.keyspace.dbs[0].table.find(key).is_some()
            };
            assert_eq!(TWINS.map(|name| left(&name)), [volatile != 0, volatile != 1]);
            assert_eq!(server.stats.evicted_keys, 1);
        }
    }

    #[test]
    fn every_policy_has_its_counterpart() {
        for policy in EvictionPolicy::ALL {
            assert_eq!(policy_of(*policy).name(), policy.name());
        }
    }
}
