//! When writes are refused, and why. Pure; main thread.

use std::fmt;

use super::Cache;
use super::job::Failure;
use crate::storage::ErrorKind;

/// When the unsaved journal is this many times
/// [`Options::journal_bytes_max`](super::Options::journal_bytes_max), writes wait for a batch;
/// while batches fail they are refused.
pub const JOURNAL_MULTIPLE_MAX: u64 = 4;

/// Why writes should be refused for now.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Refusal {
    /// The journal cannot be written: what is logged may not become durable.
    Journal(Failure),
    /// The engine cannot take batches, and dirty keys have used up their share of the memory, or
    /// the journal has grown to [`JOURNAL_MULTIPLE_MAX`] times its size.
    Engine(Failure),
    /// Less is free on the disk than is to be kept free. Nothing has failed, and deletes may go on:
    /// they give space back.
    Space,
}

impl Refusal {
    /// What failed, or would.
    #[must_use]
    pub const fn failure(self) -> Failure {
        match self {
            Self::Journal(failure) | Self::Engine(failure) => failure,
            Self::Space => Failure { kind: ErrorKind::NoSpace, what: "looking at the disk" },
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Journal(failure) => write!(f, "the journal: {failure}"),
            Self::Engine(failure) => write!(f, "the engine: {failure}"),
            Self::Space => f.write_str("the disk: less is free than is to be kept free"),
        }
    }
}

impl Cache {
    /// Why writes should be refused now, if they should.
    #[must_use]
    pub fn refusing(&self) -> Option<Refusal> {
        if let Some(failure) = self.lane.failure() {
            return Some(Refusal::Journal(failure));
        }
        if let Some(failure) = self.checkpoint.failure()
            && (self.evictor.is_stuck() || self.is_journal_full())
        {
            return Some(Refusal::Engine(failure));
        }
        self.disk.is_low.then_some(Refusal::Space)
    }

    /// Whether the unsaved journal has reached its end.
    pub(super) fn is_journal_full(&self) -> bool {
        let end = self.options.journal_bytes_max.saturating_mul(JOURNAL_MULTIPLE_MAX);
        self.unsaved_journal_bytes() > end
    }

    /// What keeps operations from becoming durable, or keys from being saved, at the moment.
    #[must_use]
    pub fn trouble(&self) -> Option<Refusal> {
        let journal = self.lane.failure().map(Refusal::Journal);
        journal.or_else(|| self.checkpoint.failure().map(Refusal::Engine))
    }
}
