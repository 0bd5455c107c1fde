//! Figures: counters that only rise, gauges of the moment, and histograms of IO times. Pure; main.
//!
//! Source: the figures of Dragonfly's tiering and of Redis's INFO.

use super::job::{Failure, JobKind, JournalOutcome};
use crate::journal::JournalStats;
use crate::key::Space;
use crate::storage::{DiskSpace, ErrorKind, StoreStats};

/// Counts of durations by power of two of microseconds.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    buckets: [u64; 32],
    sum_us: u64,
    max_us: u64,
}

impl Histogram {
    /// Adds one duration.
    pub fn record(&mut self, micros: u64) {
        let bucket = (u64::BITS - micros.leading_zeros()).min(31) as usize;
        self.buckets[bucket] += 1;
        self.sum_us += micros;
        self.max_us = self.max_us.max(micros);
    }

    /// Durations added.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Sum of all durations, in microseconds.
    #[must_use]
    pub const fn sum_us(&self) -> u64 {
        self.sum_us
    }

    /// The longest, in microseconds.
    #[must_use]
    pub const fn max_us(&self) -> u64 {
        self.max_us
    }

    /// Upper bound of the bucket that holds the `permille`th thousandth, in microseconds.
    #[must_use]
    pub fn quantile_us(&self, permille: u64) -> u64 {
        let want = (self.count() * permille).div_ceil(1000);
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= want && *count > 0 {
                return ((1_u64 << bucket) - 1).min(self.max_us);
            }
        }
        0
    }

    /// `(upper bound in microseconds, count)` of every bucket.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.buckets.iter().enumerate().map(|(bucket, count)| ((1_u64 << bucket) - 1, *count))
    }
}

/// Why a batch was begun.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Reason {
    /// The oldest dirty key was due.
    Age,
    /// The journal was longer than it may be.
    Journal,
    /// Dirty keys took more than their share of the memory.
    Share,
    /// Nothing clean was left to evict.
    Pressure,
    /// Somebody asked for a drain.
    Drain,
}

/// An eviction, for those who ask why.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Eviction {
    /// The space of the key.
    pub space: Space,
    /// The hash of the key.
    pub hash: u64,
    /// When, on the clock of intervals.
    pub at_ms: u64,
    /// For how long it had not been used.
    pub idle_ms: u64,
    /// Its use counter then.
    pub frequency: u8,
    /// Bytes in use above the limit then, reserves included.
    pub excess_bytes: u64,
}

/// Counters since the start.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Lookups answered by a resident value; noted by the owner of the lookups.
    pub hits: u64,
    /// Lookups answered by an absent entry, or by a space that is empty on disk.
    pub negative_hits: u64,
    /// Keys that had to be read.
    pub misses: u64,
    /// Waits that joined a read under way instead of starting one.
    pub loads_joined: u64,
    /// Reads asked for ahead of need.
    pub loads_ahead: u64,
    /// Reads that found a record.
    pub loads_found: u64,
    /// Reads that found nothing.
    pub loads_absent: u64,
    /// Reads whose result was dropped: written meanwhile, or the space died.
    pub loads_discarded: u64,
    /// Reads that nobody wanted any more before they began, or that were ahead of need and found
    /// no room.
    pub loads_dropped: u64,
    /// Records found expired, and deleted.
    pub loads_expired: u64,
    /// Keys that could not be read.
    pub read_failures: u64,
    /// Writes to keys that were dirty already.
    pub coalesced: u64,
    /// Keys written to the engine, deletes included.
    pub saves: u64,
    /// Keys of batches that failed and are dirty again.
    pub saves_failed: u64,
    /// Dirty keys that needed no write, having lived and died between batches.
    pub saves_spared: u64,
    /// Batches committed.
    pub batches: u64,
    /// Batches that failed.
    pub batch_failures: u64,
    /// Batches begun, by [`Reason`].
    pub begun: [u64; 5],
    /// Entries forgotten.
    pub evictions: u64,
    /// Bytes given back by them.
    pub evicted_bytes: u64,
    /// Times when nothing clean could be found.
    pub evictions_stuck: u64,
    /// Writes that had to wait for room.
    pub throttled: u64,
    /// Journal syncs done.
    pub syncs: u64,
    /// Journal appends, syncs and trims that failed.
    pub journal_failures: u64,
    /// Maintenance jobs that failed.
    pub maintain_failures: u64,
    /// Failures of jobs, by the order of [`ErrorKind::ALL`].
    pub errors: [u64; ErrorKind::ALL.len()],
    /// Figures of the journal's writer, as of the last job.
    pub journal: JournalStats,
    /// Run time of jobs, by [`JobKind`].
    pub jobs: [Histogram; JobKind::ALL.len()],
    /// Figures of the engine, as of the last job.
    pub engine: StoreStats,
}

impl Stats {
    pub(super) fn job_done(&mut self, kind: JobKind, micros: u64) {
        self.jobs[kind as usize].record(micros);
    }

    pub(super) fn failed(&mut self, failure: &Failure) {
        if let Some(at) = ErrorKind::ALL.iter().position(|(kind, _)| *kind == failure.kind) {
            self.errors[at] += 1;
        }
    }

    pub(super) fn journal_done(&mut self, outcome: &JournalOutcome) {
        let trim_failed = matches!(outcome.trim, Some(Err(_)));
        self.journal_failures += u64::from(outcome.result.is_err()) + u64::from(trim_failed);
        self.journal = outcome.writer.stats();
        self.syncs = self.journal.syncs;
    }

    /// Counters by name, for INFO and metric exporters.
    pub fn counters(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let begun = |reason: Reason| self.begun[reason as usize];
        [
            ("hits", self.hits),
            ("negative_hits", self.negative_hits),
            ("misses", self.misses),
            ("loads_joined", self.loads_joined),
            ("loads_found", self.loads_found),
            ("loads_absent", self.loads_absent),
            ("loads_discarded", self.loads_discarded),
            ("loads_ahead", self.loads_ahead),
            ("loads_dropped", self.loads_dropped),
            ("loads_expired", self.loads_expired),
            ("read_failures", self.read_failures),
            ("coalesced", self.coalesced),
            ("saves", self.saves),
            ("saves_failed", self.saves_failed),
            ("saves_spared", self.saves_spared),
            ("batches", self.batches),
            ("batch_failures", self.batch_failures),
            ("batches_for_age", begun(Reason::Age)),
            ("batches_for_journal", begun(Reason::Journal)),
            ("batches_for_share", begun(Reason::Share)),
            ("batches_for_pressure", begun(Reason::Pressure)),
            ("batches_for_drain", begun(Reason::Drain)),
            ("evictions", self.evictions),
            ("evicted_bytes", self.evicted_bytes),
            ("evictions_stuck", self.evictions_stuck),
            ("throttled", self.throttled),
            ("syncs", self.syncs),
            ("journal_failures", self.journal_failures),
            ("maintain_failures", self.maintain_failures),
            ("journal_written_bytes", self.journal.written_bytes),
            ("engine_written_bytes", self.engine.written_bytes),
            ("engine_merge_failures", self.engine.merge_failures),
            ("engine_unread_overwrites", self.engine.unread_overwrites),
        ]
        .into_iter()
        .chain(ErrorKind::ALL.iter().zip(self.errors).map(|((_, name), count)| (*name, count)))
    }
}

/// Figures of the moment.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct Gauges {
    /// Keys wanted and not handed to a worker.
    pub loads_queued: u64,
    /// Keys being read.
    pub loads_in_flight: u64,
    /// Dirty keys.
    pub saves_queued: u64,
    /// Keys in the batches under way.
    pub saves_in_flight: u64,
    /// Operations begun and not finished.
    pub waiting: u64,
    /// Bytes of dirty keys, by the mean over all entries.
    pub dirty_bytes: u64,
    /// Age of the oldest dirty key.
    pub oldest_dirty_ms: u64,
    /// Age of the oldest operation that would not survive a crash.
    pub durable_lag_ms: u64,
    /// Operations that would not survive a crash.
    pub durable_lag_ops: u64,
    /// Bytes logged and not written.
    pub unwritten_bytes: u64,
    /// Bytes of the journal on disk.
    pub journal_bytes: u64,
    /// The last operation logged.
    pub last_seq: u64,
    /// The last operation that survives a crash.
    pub durable_seq: u64,
    /// The last operation that is in the engine with all before it.
    pub watermark_seq: u64,
    /// Up to where the checkpoint under way saves; `watermark_seq` is on its way there.
    pub checkpoint_seq: u64,
    /// Entries in memory, absent ones included, as of the last turn or write.
    pub entries: u64,
    /// Those known to be absent, if the home counts them.
    pub absent_entries: Option<u64>,
    /// Tokens dropped without being completed; a fault of the caller.
    pub tokens_leaked: u64,
    /// Bytes of the engine on disk, as of the last job.
    pub engine_disk_bytes: u64,
    /// Sorted runs that a read of the engine may have to look into.
    pub engine_runs: u64,
    /// The disk of the engine, as of the last job, if it is known.
    pub disk: Option<DiskSpace>,
}

impl Gauges {
    /// The gauges by name.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
        [
            ("loads_queued", self.loads_queued),
            ("loads_in_flight", self.loads_in_flight),
            ("saves_queued", self.saves_queued),
            ("saves_in_flight", self.saves_in_flight),
            ("waiting", self.waiting),
            ("dirty_bytes", self.dirty_bytes),
            ("oldest_dirty_ms", self.oldest_dirty_ms),
            ("durable_lag_ms", self.durable_lag_ms),
            ("durable_lag_ops", self.durable_lag_ops),
            ("unwritten_bytes", self.unwritten_bytes),
            ("journal_disk_bytes", self.journal_bytes),
            ("last_seq", self.last_seq),
            ("durable_seq", self.durable_seq),
            ("watermark_seq", self.watermark_seq),
            ("checkpoint_seq", self.checkpoint_seq),
            ("entries", self.entries),
            ("tokens_leaked", self.tokens_leaked),
            ("engine_disk_bytes", self.engine_disk_bytes),
            ("engine_runs", self.engine_runs),
        ]
        .into_iter()
        .chain(self.absent_entries.map(|count| ("absent_entries", count)))
        .chain(self.disk.map(|disk| ("disk_free_bytes", disk.free)))
        .chain(self.disk.map(|disk| ("disk_total_bytes", disk.total)))
    }
}

/// Takes figures to wherever they are shown.
pub trait Metrics {
    /// A counter that only rises.
    fn counter(&mut self, name: &'static str, value: u64);
    /// A figure of the moment.
    fn gauge(&mut self, name: &'static str, value: u64);
    /// Times of one kind of job.
    fn times(&mut self, name: &'static str, histogram: &Histogram);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_come_from_the_right_bucket() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile_us(500), 0);
        for micros in 1..=1000 {
            histogram.record(micros);
        }
        assert_eq!((histogram.count(), histogram.sum_us()), (1000, 500_500));
        assert!((500..=1000).contains(&histogram.quantile_us(500)));
        assert_eq!(histogram.quantile_us(1000), 1000);
        histogram.record(u64::MAX / 2);
        assert_eq!(histogram.max_us(), u64::MAX / 2);
        assert_eq!(histogram.buckets().map(|(_, n)| n).sum::<u64>(), 1001);
    }

    #[test]
    fn counters_have_one_name_each() {
        let stats = Stats::default();
        let mut names: Vec<_> = stats.counters().map(|(name, _)| name).collect();
        names.extend(Gauges::default().named().map(|(name, _)| name));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
