//! Figures of the cache and what it knows of one key. Main thread; changes nothing but options.
//!
//! Source: Redis's DEBUG OBJECT and INFO.

use super::dirty::Node;
use super::flags::KeyState;
use super::home::{Home, Known};
use super::job::JobKind;
use super::loads::LoadPhase;
use super::memory::{Account, Ledger};
use super::options::wrapped_ms;
use super::stats::{self, Metrics, Stats};
use super::{Cache, Options};
use crate::key::KeyRef;

/// Where a key stands, for `FLINT.EXPLAIN`.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Explained {
    /// What is known of it without a read.
    pub known: Known,
    /// Its save bits, when resident.
    pub state: Option<KeyState>,
    /// Its load, if one is under way: the phase and for how many milliseconds.
    pub load: Option<(LoadPhase, u64)>,
    /// A waiting or woken command keeps it in memory.
    pub is_pinned: bool,
    /// The last eviction of a key with its hash, if it is among the latest.
    pub evicted: Option<stats::Eviction>,
}

impl Cache {
    /// Counters and histograms.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Bytes by account, as of the last turn or write.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// What is behind now; with [`Cache::stats`] all of what INFO shows.
    #[must_use]
    pub fn gauges(&self) -> stats::Gauges {
        let oldest = self.dirty.front().map(|node| self.age_ms(node));
        let (last, durable) = (self.lane.last_seq().0, self.lane.durable().0);
        let lag_ms = self.lane.oldest_ms().map(|at| self.now.mono_ms.saturating_sub(at));
        stats::Gauges {
            loads_queued: self.loads.queued() as u64,
            loads_in_flight: self.loads.loading() as u64,
            saves_queued: self.dirty.len() as u64,
            saves_in_flight: self.checkpoint.in_flight() as u64,
            waiting: self.waiters.blocked() as u64,
            dirty_bytes: self.dirty_bytes(self.resident),
            oldest_dirty_ms: oldest.unwrap_or(0),
            durable_lag_ms: lag_ms.unwrap_or(0),
            durable_lag_ops: last.saturating_sub(durable),
            unwritten_bytes: self.lane.unwritten_bytes(),
            journal_bytes: self.lane.stats().disk_bytes,
            last_seq: last,
            durable_seq: durable,
            watermark_seq: self.checkpoint.watermark().0,
            checkpoint_seq: self.checkpoint.target().0,
            entries: self.resident.entries,
            absent_entries: self.resident.absent,
            tokens_leaked: self.waiters.leaks(),
            engine_disk_bytes: self.stats.engine.disk_bytes,
            engine_runs: self.stats.engine.runs,
            disk: self.stats.engine.space,
        }
    }

    /// Changed keys that are in the journal only.
    #[must_use]
    pub fn unsaved_keys(&self) -> u64 {
        (self.dirty.len() + self.checkpoint.unsaved()) as u64
    }

    /// Takes every figure to `metrics`: counters, gauges, bytes by account, times of jobs.
    pub fn report(&self, metrics: &mut dyn Metrics) {
        for (name, value) in self.stats.counters() {
            metrics.counter(name, value);
        }
        for (name, value) in self.gauges().named() {
            metrics.gauge(name, value);
        }
        for (account, name) in Account::ALL {
            metrics.gauge(name, self.ledger.get(account));
        }
        metrics.gauge("memory_bytes", self.ledger.used());
        metrics.gauge("memory_bytes_peak", self.ledger.peak());
        metrics.gauge("memory_bytes_max", self.ledger.limit());
        for (kind, name) in JobKind::ALL {
            metrics.times(name, &self.stats.jobs[kind as usize]);
        }
    }

    fn age_ms(&self, node: &Node) -> u64 {
        u64::from(wrapped_ms(self.now).wrapping_sub(node.since_ms))
    }

    /// Everything known about a key.
    pub fn explain<H: Home>(&self, home: &mut H, key: KeyRef<'_>) -> Explained {
        let mut state = None;
        home.visit(key.space, key.hash, &mut |entry| {
            if entry.key() == key.key {
                state = Some(entry.state());
            }
        });
        let load = self.loads.find(key).and_then(|id| self.loads.get(id));
        Explained {
            known: self.known(home, key),
            state,
            load: load.map(|l| (l.phase, self.now.mono_ms.saturating_sub(l.queued_ms))),
            is_pinned: self.is_pinned(key.space, key.hash),
            evicted: self.evictor.last_eviction(key.space, key.hash),
        }
    }

    /// Changes limits, policy and delays while running; databases and seed stay.
    pub fn set_options(&mut self, options: Options) {
        let (databases, seed) = (self.options.databases, self.options.seed);
        self.maintenance.wanted |= options.engine_cache_bytes != self.options.engine_cache_bytes;
        self.options = Options { databases, seed, ..options };
        self.ledger.set_limit(self.options.limit_bytes);
        self.judge_disk();
        self.lane.mode = self.options.durability;
        self.lane.hand_over_bytes = self.options.hand_over_bytes();
        self.evictor.forget_candidates();
        self.evictor.look_again();
    }

    /// The options in force.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }
}
