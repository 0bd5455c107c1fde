//! Which clean entry to forget next: sampling with a pool of the best seen. Pure; main thread.
//!
//! Exact LRU needs a list through all entries, two pointers each, and a write at each read. Five
//! samples and a pool of 16 that survives between calls come within a few per cent of it
//! (measured in the test below), as Redis found. With a disk tier, evicting means forgetting: the
//! key stays in the engine, so every policy, `noeviction` and `volatile-*` included, says only
//! who goes *first*. Without one ([`Removal::Delete`]) eviction deletes, and the policy also
//! says who may go at all.
//!
//! Source: Redis's evict.c and its maxmemory-policy values.

use super::home::Candidate;

/// How many candidates a pool keeps.
pub const POOL: usize = 16;

/// Which entry goes first; the values of Redis's `maxmemory-policy`.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub enum Policy {
    /// Nothing may be deleted; with a disk tier, least recently used first.
    #[default]
    NoEviction,
    /// Least recently used first.
    AllKeysLru,
    /// Least often used first.
    AllKeysLfu,
    /// Any.
    AllKeysRandom,
    /// Keys with an expiry, least recently used first.
    VolatileLru,
    /// Keys with an expiry, least often used first.
    VolatileLfu,
    /// Keys with an expiry, any.
    VolatileRandom,
    /// Keys with an expiry, the nearest first.
    VolatileTtl,
}

impl Policy {
    /// All of them, with their names.
    pub const ALL: [(Self, &'static str); 8] = [
        (Self::NoEviction, "noeviction"),
        (Self::AllKeysLru, "allkeys-lru"),
        (Self::AllKeysLfu, "allkeys-lfu"),
        (Self::AllKeysRandom, "allkeys-random"),
        (Self::VolatileLru, "volatile-lru"),
        (Self::VolatileLfu, "volatile-lfu"),
        (Self::VolatileRandom, "volatile-random"),
        (Self::VolatileTtl, "volatile-ttl"),
    ];

    /// The policy with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, n)| *n == name).map(|(policy, _)| *policy)
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(policy, _)| *policy == self).map_or("", |(_, name)| name)
    }

    /// Whether keys without an expiry come last, or never.
    #[must_use]
    pub fn is_volatile(self) -> bool {
        matches!(
            self,
            Self::VolatileLru | Self::VolatileLfu | Self::VolatileRandom | Self::VolatileTtl
        )
    }
}

/// What evicting does.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Removal {
    /// There is an engine behind it: the policy is an order over all entries.
    Forget,
    /// There is none: the policy also excludes.
    Delete,
}

/// How good it is to evict `candidate`: higher goes first; `None` may not go at all.
///
/// `random` decides for the random policies. `unix_ms` is the wall clock, for the expiry.
#[must_use]
pub fn score(
    policy: Policy,
    removal: Removal,
    candidate: &Candidate,
    unix_ms: u64,
    random: u64,
) -> Option<u64> {
    // The top bit is the class (an expiry where the policy asks for one), the rest the order.
    const CLASS: u64 = 1 << 63;
    let order = match policy {
        Policy::NoEviction if removal == Removal::Delete => return None,
        Policy::NoEviction | Policy::AllKeysLru | Policy::VolatileLru => candidate.idle_ms,
        // Equal counters are common; among them the longest idle goes.
        Policy::AllKeysLfu | Policy::VolatileLfu => {
            (u64::from(u8::MAX - candidate.frequency) << 48) | candidate.idle_ms.min((1 << 48) - 1)
        }
        Policy::AllKeysRandom | Policy::VolatileRandom => random >> 1,
        Policy::VolatileTtl => match candidate.expires_at_ms {
            Some(at) => (CLASS - 1).saturating_sub(at.saturating_sub(unix_ms)),
            None => candidate.idle_ms,
        },
    }
    .min(CLASS - 1);
    match (policy.is_volatile(), candidate.expires_at_ms, removal) {
        (true, None, Removal::Delete) => None,
        (true, Some(_), _) => Some(order | CLASS),
        _ => Some(order),
    }
}

/// The best candidates seen so far, kept between calls.
#[derive(Debug, Default)]
pub struct Pool {
    /// Ascending by score.
    best: Vec<(u64, Candidate)>,
}

impl Pool {
    /// An empty pool.
    #[must_use]
    pub fn new() -> Self {
        Self { best: Vec::with_capacity(POOL) }
    }

    /// Keeps `candidate` if it is among the best [`POOL`]; a second offer replaces the first.
    pub fn offer(&mut self, score: u64, candidate: Candidate) {
        self.best.retain(|(_, c)| (c.space, c.hash) != (candidate.space, candidate.hash));
        if self.best.len() == POOL {
            if self.best[0].0 >= score {
                return;
            }
            self.best.remove(0);
        }
        let at = self.best.partition_point(|(s, _)| *s < score);
        self.best.insert(at, (score, candidate));
    }

    /// Takes the best candidate. It may have changed since it was sampled: the caller checks.
    pub fn take(&mut self) -> Option<Candidate> {
        self.best.pop().map(|(_, candidate)| candidate)
    }

    /// Forgets all candidates, when the policy changes.
    pub fn clear(&mut self) {
        self.best.clear();
    }
}

/// Counter of a new entry, so that it survives its first sampling.
pub const LFU_START: u8 = 5;

/// The counter after one more use; rises ever more slowly, full after about a million uses.
///
/// `random` is uniform; `log_factor` is Redis's `lfu-log-factor`, 10 by default.
#[must_use]
#[inline]
pub fn lfu_touch(counter: u8, random: u32, log_factor: u32) -> u8 {
    let base = u64::from(counter.saturating_sub(LFU_START));
    // Rises with probability 1 / (base * factor + 1), without floating point.
    let odds = base * u64::from(log_factor) + 1;
    let rises = u64::from(random) * odds < (1 << 32);
    counter.saturating_add(u8::from(rises))
}

/// The counter after `minutes` without use; loses one per `decay_minutes`, 0 for never.
#[must_use]
#[inline]
pub fn lfu_decay(counter: u8, minutes: u32, decay_minutes: u32) -> u8 {
    let periods = minutes.checked_div(decay_minutes).unwrap_or(0);
    counter.saturating_sub(u8::try_from(periods).unwrap_or(u8::MAX))
}

mod saved;

pub(super) use saved::Saved;

#[cfg(test)]
mod tests;
