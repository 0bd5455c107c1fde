//! Crashes, and what must hold: always, at rest, and after a crash.

use std::collections::BTreeMap;

use flintlock_diskcache::cache::KeyCount;
use flintlock_diskcache::cache::flags::KeyState;
use flintlock_diskcache::cache::memory::Account;
use flintlock_diskcache::cache::rng::Rng;
use flintlock_diskcache::journal::sim::Kept;
use flintlock_diskcache::key::Seq;

use super::actions::EXPIRY_MAX_MS;
use super::store::Faults;
use super::{Action, Command, DBS, KEYS, Waiting, World, open};

impl World {
    pub(super) fn crash(&mut self, seed: u64) {
        let mut rng = Rng::new(seed);
        // The workers got somewhere with what they had, and nobody heard of it.
        for _ in 0..rng.below(4) {
            self.run_one(rng.next_u64());
        }
        self.crashes += 1;
        self.past = self.counters();
        let acknowledged = self.cache.durable();
        self.drop_everything();
        let kept = match rng.below(4) {
            0 => Kept::Nothing,
            1 => Kept::All,
            _ => Kept::Some(rng.next_u64()),
        };
        self.dir = self.dir.crash(kept);
        self.dir.set_capacity(None);
        self.store.set_faults(Faults::default());
        self.store.set_low(false);
        let (cache, home, worker, end) = open(&self.options, &self.dir, &self.store, self.now);
        assert!(end >= acknowledged, "acknowledged up to {acknowledged:?}, recovered to {end:?}");
        self.cache = cache;
        self.home = home;
        self.worker = worker;
        self.model.crash(end);
    }

    /// Counters over all lives.
    pub(crate) fn counters(&self) -> BTreeMap<&'static str, u64> {
        let mut all = self.past.clone();
        for (name, count) in self.cache.stats().counters() {
            *all.entry(name).or_default() += count;
        }
        all
    }

    pub(super) fn drop_everything(&mut self) {
        self.queued.clear();
        self.finished.clear();
        for client in &mut self.clients {
            match std::mem::replace(client, Waiting::Idle) {
                Waiting::Idle => {}
                Waiting::Load(token, _) => self.cache.abandon(token),
                Waiting::Room(token, _) => self.cache.abandon(token),
            }
        }
        for (token, _) in self.drains.drain(..) {
            self.cache.abandon(token);
        }
        for (token, _) in self.syncs.drain(..) {
            self.cache.abandon(token);
        }
        for (token, ..) in self.scans.drain(..) {
            self.cache.abandon(token);
        }
    }

    pub(super) fn check(&mut self) {
        let gauges = self.cache.gauges();
        assert_eq!(gauges.tokens_leaked, 0);
        assert!(gauges.watermark_seq <= gauges.durable_seq, "the engine is never ahead");
        assert!(gauges.durable_seq <= gauges.last_seq);
        let waiting = self.clients.iter().filter(|c| !matches!(c, Waiting::Idle)).count();
        let service = self.drains.len() + self.syncs.len() + self.scans.len();
        assert_eq!(gauges.waiting as usize, waiting + service);
        let states = self.states();
        let is_any = |is: fn(&KeyState) -> bool| states.iter().any(is);
        let is_under_way = gauges.saves_in_flight > 0;
        let is_queued = gauges.saves_queued > 0;
        assert!(is_queued || is_under_way || !is_any(|s| s.is_save()), "a key without a node");
        assert!(is_under_way || !is_any(|s| s.is_saving()), "a key without a batch");
        self.model.durable(Seq(gauges.durable_seq));
    }

    /// Lets everything come to rest, without faults; then memory and engine agree with the model.
    pub(crate) fn settle(&mut self) {
        self.dir.mend();
        self.dir.set_capacity(None);
        self.store.set_faults(Faults::default());
        self.store.set_low(false);
        self.act(Action::Drain);
        for round in 0.. {
            assert!(round < 100_000, "comes to rest: {:?}", self.cache.gauges());
            self.act(Action::Wait(1 + round / 10));
            self.act(Action::Turn);
            if self.drains.is_empty() && self.cache.unsaved_keys() > 0 {
                // Failures from before ended the first.
                self.act(Action::Drain);
            }
            while !self.queued.is_empty() {
                self.act(Action::Run(round));
            }
            while !self.finished.is_empty() {
                self.act(Action::Deliver(round));
            }
            let at_rest = self.drains.is_empty() && self.cache.is_idle() && !self.loop_more;
            if at_rest && self.clients.iter().all(|c| matches!(c, Waiting::Idle)) {
                break;
            }
        }
    }

    /// At rest: every key reads as the model says, counts are exact, and nothing is left over.
    pub(crate) fn verify(&mut self) {
        self.settle();
        // Whatever has an expiry outlives it now, and reading everything deletes it.
        self.act(Action::Wait(EXPIRY_MAX_MS));
        for db in 0..DBS {
            let keys: Vec<u8> = (0..KEYS).collect();
            self.act(Action::Send(0, Command::MGet(db, keys)));
            self.settle();
        }
        self.settle();
        self.model.expire(self.now.unix_ms);
        let mut in_engine = 0;
        for db in 0..DBS {
            let want = self.model.dbs[db].len() as u64;
            assert_eq!(self.cache.key_count(db), KeyCount::Exact(want), "count of {db}");
            in_engine += want;
        }
        assert!(self.all_clean(), "at rest nothing is dirty");
        assert_eq!(self.store.len() as u64, in_engine, "the engine has these and no others");
        let gauges = self.cache.gauges();
        let idle = [gauges.loads_queued, gauges.loads_in_flight, gauges.saves_in_flight];
        assert_eq!(idle, [0; 3]);
        assert_eq!((gauges.saves_queued, gauges.waiting), (0, 0));
        assert_eq!(self.cache.ledger().get(Account::Batch), 0);
    }
}
