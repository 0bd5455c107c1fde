//! What the caller decides: clocks, limits, delays. Pure; any thread.
//!
//! Source: Redis's diskstore cache (dscache.c, 2010 to 2011), which counted its delay in seconds.

use super::evict::Policy;
use super::lane::Durability;

/// The two clocks, both in milliseconds.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct Now {
    /// A clock that never goes back, for intervals.
    pub mono_ms: u64,
    /// Since the Unix epoch, for expiries.
    pub unix_ms: u64,
}

/// How a cache behaves. Times in milliseconds, sizes in bytes.
#[derive(Clone, Debug)]
pub struct Options {
    /// Limit over all accounts of [`Ledger`](super::memory::Ledger); 0 for none.
    pub limit_bytes: u64,
    /// What the engine comes to hold of that, set aside from the start.
    pub engine_bytes: u64,
    /// What the engine may cache; `None` for what it was opened with.
    pub engine_cache_bytes: Option<u64>,
    /// When an operation is durable.
    pub durability: Durability,
    /// Who is forgotten first.
    pub policy: Policy,
    /// Entries looked at for each eviction.
    pub samples: usize,
    /// A key is saved when it has been dirty for this long.
    pub flush_delay_ms: u64,
    /// A checkpoint starts when the operations it would free take more than this.
    pub journal_bytes_max: u64,
    /// A checkpoint starts when dirty keys take more than this share of the limit.
    pub dirty_permille_max: u64,
    /// Keys in one batch.
    pub batch_keys_max: usize,
    /// Bytes in one batch; never above a tenth of the limit. There may be two at once.
    pub batch_bytes_max: u64,
    /// Keys being read at once.
    pub loads_max: usize,
    /// Bytes being read at once, by the running average; never above a twentieth of the limit.
    pub load_bytes_max: u64,
    /// Workers that reads are spread over.
    pub load_workers: usize,
    /// Bytes logged and not written before writes have to wait; never above a tenth of the limit.
    pub unwritten_bytes_max: u64,
    /// Writes are refused while less is free on the engine's disk, or, of a small disk, less than a
    /// twentieth; 0 for no such bound.
    pub free_bytes_min: u64,
    /// Keys handed over or settled in one turn: bounds the time a turn takes.
    pub slice_keys: usize,
    /// Bytes encoded in one turn.
    pub slice_bytes: u64,
    /// Keys forgotten in one turn.
    pub evictions_max: usize,
    /// How long one maintenance job may hold the engine.
    pub maintain_ms: u64,
    /// Opens a store although changes of some keys are lost with what they were made on.
    pub accept_loss: bool,
    /// Databases.
    pub databases: usize,
    /// Seed of the sampling.
    pub seed: u64,
}

/// Log is handed over in portions of this size: a system call for each is not felt.
const HAND_OVER_BYTES: u64 = 256 << 10;

impl Default for Options {
    fn default() -> Self {
        Self {
            limit_bytes: 64 << 20,
            engine_bytes: 0,
            engine_cache_bytes: None,
            durability: Durability::EveryMs(1000),
            policy: Policy::AllKeysLru,
            samples: 5,
            flush_delay_ms: 10_000,
            journal_bytes_max: 256 << 20,
            dirty_permille_max: 300,
            batch_keys_max: 50_000,
            batch_bytes_max: 32 << 20,
            loads_max: 256,
            load_bytes_max: 4 << 20,
            load_workers: 4,
            unwritten_bytes_max: 32 << 20,
            free_bytes_min: 1 << 30,
            slice_keys: 256,
            slice_bytes: 256 << 10,
            evictions_max: 16,
            maintain_ms: 20,
            accept_loss: false,
            databases: 16,
            seed: 0x5eed,
        }
    }
}

impl Options {
    pub(super) fn batch_bytes(&self) -> u64 {
        // Under the smallest limit too a batch takes a key, or nothing would ever be saved.
        cap(self.batch_bytes_max, self.limit_bytes, 10).max(1)
    }

    pub(super) fn load_bytes(&self) -> u64 {
        cap(self.load_bytes_max, self.limit_bytes, 20)
    }

    pub(super) fn unwritten_bytes(&self) -> u64 {
        cap(self.unwritten_bytes_max, self.limit_bytes, 10)
    }

    /// How much log is handed over at once: half of what may be unwritten at most, so that nobody
    /// has to wait for it while the disk keeps up.
    pub(super) fn hand_over_bytes(&self) -> u64 {
        HAND_OVER_BYTES.min(self.unwritten_bytes() / 2)
    }
}

/// `bytes`, but at most one `part`th of a limit.
fn cap(bytes: u64, limit: u64, part: u64) -> u64 {
    if limit == 0 { bytes } else { bytes.min(limit / part) }
}

/// The clock of intervals in 32 bits: ages are far below the 49 days after which it wraps.
#[inline]
pub(super) fn wrapped_ms(now: Now) -> u32 {
    (now.mono_ms & u64::from(u32::MAX)) as u32
}
