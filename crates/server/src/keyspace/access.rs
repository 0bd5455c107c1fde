//! When a key was used last, or how often: 24 bits in its entry.
//!
//! Main thread; pure: the time comes in. LRU keeps seconds (they wrap after 194 days, as ages are
//! differences); LFU keeps a logarithmic counter of 8 bits and 16 bits of minutes for its decay.
//!
//! Source: Redis's evict.c, head comment; the counter's arithmetic is the disk cache's.

use flintlock_diskcache::cache::evict::{LFU_START, lfu_decay, lfu_touch};

use crate::types::{Rng, SplitMix64};

const MASK: u32 = 0xff_ffff;
const COUNTER: u32 = 0xff;

/// By what uses are counted; the directives `maxmemory-policy` and `lfu-*`.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) struct Counting {
    /// Frequency instead of recency.
    pub lfu: bool,
    /// The larger, the more uses a step of the counter takes.
    pub log_factor: u32,
    /// Minutes without use that cost one step; 0 for never.
    pub decay_min: u32,
}

/// The clock and the rule by which uses are noted.
#[derive(Debug)]
pub(crate) struct Access {
    /// LRU: what a key used now is given.
    seconds: u32,
    minutes: u32,
    counting: Counting,
    rng: SplitMix64,
}

impl Access {
    /// A clock at `now_ms`.
    pub(crate) fn new(now_ms: u64, seed: u64) -> Self {
        let counting = Counting { lfu: false, log_factor: 10, decay_min: 1 };
        let mut access = Self { seconds: 0, minutes: 0, counting, rng: SplitMix64::new(seed) };
        access.set_now(now_ms);
        access
    }

    /// Moves the clock.
    pub(crate) fn set_now(&mut self, now_ms: u64) {
        self.seconds = (now_ms / 1000) as u32 & MASK;
        self.minutes = (now_ms / 60_000) as u32 & 0xffff;
    }

    /// Changes the rule.
    pub(crate) fn set_counting(&mut self, counting: Counting) {
        self.counting = counting;
    }

    /// What an entry that says `old` is to say when it is used, if that is something else: most
    /// uses of a hot key fall into one second, and reading is cheaper than writing the line.
    pub(crate) fn renewed(&mut self, old: u32) -> Option<u32> {
        let new = if self.counting.lfu { self.counted(old) } else { self.seconds };
        (new != old).then_some(new)
    }

    /// What a new entry starts with.
    pub(crate) fn fresh(&self) -> u32 {
        if self.counting.lfu { self.minutes << 8 | u32::from(LFU_START) } else { self.seconds }
    }

    /// Milliseconds since the last use, to the second; 0 while frequency counts.
    pub(crate) fn idle_ms(&self, access: u32) -> u64 {
        if self.counting.lfu {
            return 0;
        }
        u64::from(self.seconds.wrapping_sub(access) & MASK) * 1000
    }

    /// The counter after decay; 0 while recency counts.
    pub(crate) fn frequency(&self, access: u32) -> u8 {
        if !self.counting.lfu {
            return 0;
        }
        let elapsed = self.minutes.wrapping_sub(access >> 8) & 0xffff;
        lfu_decay((access & COUNTER) as u8, elapsed, self.counting.decay_min)
    }

    fn counted(&mut self, access: u32) -> u32 {
        let random = (self.rng.next_u64() >> 32) as u32;
        let counter = lfu_touch(self.frequency(access), random, self.counting.log_factor);
        self.minutes << 8 | u32::from(counter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_wrap() {
        let access = Access::new(0, 1);
        assert_eq!(access.idle_ms(MASK), 1000);
        assert_eq!(access.idle_ms(0), 0);
    }

    #[test]
    fn frequencies_grow_slowly_and_decay() {
        let mut access = Access::new(600_000, 1);
        access.set_counting(Counting { lfu: true, log_factor: 10, decay_min: 1 });
        let mut word = access.fresh();
        for _ in 0..100_000 {
            word = access.counted(word);
        }
        let hot = access.frequency(word);
        assert!((100..=255).contains(&hot), "100k uses are about 140 in Redis: {hot}");
        access.set_now(600_000 + 50 * 60_000);
        assert_eq!(access.frequency(word), hot - 50);
        access.set_now(600_000 + 5000 * 60_000);
        assert_eq!(access.frequency(word), 0);
    }
}
