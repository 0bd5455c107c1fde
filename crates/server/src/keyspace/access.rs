//! When a key was used last, or how often: 24 bits in its entry.
//!
//! Main thread; pure: the time comes in. LRU keeps seconds (they wrap after 194 days, as ages are
//! differences); LFU keeps a logarithmic counter of 8 bits and 16 bits of minutes for its decay.
//!
//! Source: Redis's evict.c, head comment; `lfu-log-factor` 10 and `lfu-decay-time` 1 as there.

use super::table::{Loc, Table};

const MASK: u32 = 0xff_ffff;
const LFU_INITIAL: u32 = 5;
const LFU_LOG_FACTOR: u32 = 10;

/// The clock and the rule by which uses are noted.
#[derive(Debug)]
pub(crate) struct Access {
    /// LRU: seconds; what a key used now is given.
    seconds: u32,
    minutes: u32,
    lfu: bool,
    /// State of a small random generator: counters grow by chance.
    random: u64,
}

impl Access {
    /// A clock at `now_ms`.
    pub(crate) fn new(now_ms: u64, seed: u64) -> Self {
        let mut access = Self { seconds: 0, minutes: 0, lfu: false, random: seed | 1 };
        access.set_now(now_ms);
        access
    }

    /// Moves the clock.
    pub(crate) fn set_now(&mut self, now_ms: u64) {
        self.seconds = (now_ms / 1000) as u32 & MASK;
        self.minutes = (now_ms / 60_000) as u32 & 0xffff;
    }

    /// Whether frequency counts instead of recency.
    pub(crate) fn set_lfu(&mut self, lfu: bool) {
        self.lfu = lfu;
    }

    /// Notes a use of the entry at `loc`.
    pub(crate) fn touch(&mut self, table: &mut Table, loc: Loc) {
        let old = table.entry(loc).access();
        let new = if self.lfu { self.counted(old) } else { self.seconds };
        // Most uses of a hot key fall into one second: reading is cheaper than writing the line.
        if new != old {
            table.touch(loc, |entry| entry.set_access(new));
        }
    }

    /// Notes the creation of the entry at `loc`.
    pub(crate) fn touch_new(&mut self, table: &mut Table, loc: Loc) {
        let fresh = if self.lfu { self.minutes << 8 | LFU_INITIAL } else { self.seconds };
        if table.entry(loc).access() != fresh {
            table.touch(loc, |entry| entry.set_access(fresh));
        }
    }

    /// Seconds since the last use; LRU only.
    pub(crate) fn idle_seconds(&self, access: u32) -> u32 {
        self.seconds.wrapping_sub(access) & MASK
    }

    /// Counter after decay; LFU only.
    pub(crate) fn frequency(&self, access: u32) -> u32 {
        let elapsed = self.minutes.wrapping_sub(access >> 8) & 0xffff;
        (access & 0xff).saturating_sub(elapsed)
    }

    /// How ready an entry is to be evicted: higher goes first.
    pub(crate) fn coldness(&self, access: u32) -> u64 {
        if self.lfu {
            u64::from(255 - self.frequency(access))
        } else {
            u64::from(self.idle_seconds(access))
        }
    }

    fn counted(&mut self, access: u32) -> u32 {
        let mut counter = self.frequency(access);
        if counter < 255 {
            let base = counter.saturating_sub(LFU_INITIAL);
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            // One chance in base * factor + 1.
            if ((self.random >> 32) * u64::from(base * LFU_LOG_FACTOR + 1)) >> 32 == 0 {
                counter += 1;
            }
        }
        self.minutes << 8 | counter
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_wrap() {
        let access = Access::new(0, 1);
        assert_eq!(access.idle_seconds(MASK), 1);
        assert_eq!(access.idle_seconds(0), 0);
    }

    #[test]
    fn frequencies_grow_slowly_and_decay() {
        let mut access = Access::new(600_000, 1);
        access.set_lfu(true);
        let mut word = 10 << 8 | LFU_INITIAL;
        for _ in 0..100_000 {
            word = access.counted(word);
        }
        let hot = access.frequency(word);
        assert!((100..=255).contains(&hot), "100k uses are about 140 in Redis: {hot}");
        access.set_now(600_000 + 50 * 60_000);
        assert_eq!(access.frequency(word), hot - 50);
        access.set_now(600_000 + 5000 * 60_000);
        assert_eq!(access.frequency(word), 0);
        assert_eq!(access.coldness(word), 255);
    }
}
