//! What the engine does beside reads and batches: maintenance, and a look at its disk when nothing
//! else brings one. Main thread; no IO.
//!
//! Every job brings the engine's figures, and with them how much is free on the disk. Below
//! [`Options::free_bytes_min`](super::Options::free_bytes_min) writes are refused before the disk
//! is full, so that what is in memory can be saved, deletes logged and merges made, which give
//! space back. Nobody may write then, so the disk is looked at once a second for its own sake.

use std::time::Duration;

use super::Cache;
use super::job::{Job, Work};
use crate::storage::StoreStats;

/// Between two looks at a disk that is low.
const LOOK_EACH_MS: u64 = 1000;

#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) struct Maintenance {
    /// The store was opened, a batch was committed, or the last job said that there is more.
    pub(super) wanted: bool,
    /// A job is out; one at a time.
    pub(super) running: bool,
}

/// What is known of the disk.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub(super) struct Disk {
    /// Less is free than is to be kept free.
    pub(super) is_low: bool,
    /// When a job came back last.
    looked_ms: u64,
    /// A job is out that does nothing else.
    pub(super) is_looking: bool,
}

impl Cache {
    pub(super) fn maintain_turn(&mut self) {
        if self.closed {
            return;
        }
        if self.look_ms().is_some_and(|at| at <= self.now.mono_ms) {
            self.disk.is_looking = true;
            self.outbox.push_back(Job(Work::Look));
        }
        if self.maintenance.wanted && !self.maintenance.running {
            self.maintenance = Maintenance { wanted: false, running: true };
            let budget = Duration::from_millis(self.options.maintain_ms);
            let cache_bytes = self.options.engine_cache_bytes;
            let expired_max = self.expired.room();
            self.outbox.push_back(Job(Work::Maintain { budget, cache_bytes, expired_max }));
        }
    }

    /// When the disk is to be looked at, if it is.
    pub(super) fn look_ms(&self) -> Option<u64> {
        let is_due = self.disk.is_low && !self.disk.is_looking && !self.closed;
        is_due.then_some(self.disk.looked_ms + LOOK_EACH_MS)
    }

    /// A job brought figures.
    pub(super) fn note_engine(&mut self, stats: StoreStats) {
        self.stats.engine = stats;
        self.disk.looked_ms = self.now.mono_ms;
        self.judge_disk();
    }

    /// Finds out whether the disk is low.
    pub(super) fn judge_disk(&mut self) {
        let min = self.options.free_bytes_min;
        self.disk.is_low = self.stats.engine.space.is_some_and(|disk| disk.is_low(min));
    }
}
