//! The journal as the main thread sees it: the group being filled, what is written, what durable.
//!
//! Main thread; no IO. Logging an operation is a copy into the group. The group is handed over
//! only between commands ([`Lane::next_job`] is called from the cache's turn), so whatever one
//! command or EXEC logged sits in one group and is atomic on disk. At most one job is in
//! flight, so order needs no further care; while it is, the next group fills.
//!
//! | mode | hand over | sync |
//! |---|---|---|
//! | Always | whenever the lane is free (group commit) | with every hand-over |
//! | EveryMs(n) | 256 KiB (less under a small limit), or after 100 ms | when an operation is n ms old |
//! | Never | as EveryMs | only when a checkpoint, a sync or a drain asks |
//!
//! A failed append or sync loses nothing: the writer keeps every group that is not durable and
//! writes it to a fresh segment at the next call, which comes after a back-off of 10 ms to 5 s.
//! Until one succeeds, [`Lane::failure`] tells why writes should be refused.
//!
//! Source: Rebello et al., "Can applications recover from fsync failures?" (2020).

use super::job::{Errand, Failure, JournalJob, JournalOutcome};
use crate::journal::{Group, JournalStats, Writer};
use crate::key::Seq;

/// When an operation becomes durable.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Durability {
    /// Before its reply is sent: hold replies until [`super::Cache::durable`] has passed them.
    Always,
    /// Within this many milliseconds, plus the time of one sync.
    EveryMs(u64),
    /// When the operating system likes, and before each checkpoint.
    Never,
}

const HAND_OVER_MS: u64 = 100;

/// Back-off after failures: 10 ms doubling to 5 s.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub(super) struct Backoff {
    next_ms: u64,
    until_ms: u64,
}

impl Backoff {
    pub(super) fn failed(&mut self, now_ms: u64) {
        self.next_ms = (self.next_ms * 2).clamp(10, 5_000);
        self.until_ms = now_ms + self.next_ms;
    }

    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }

    pub(super) fn is_over(&self, now_ms: u64) -> bool {
        now_ms >= self.until_ms
    }

    pub(super) fn until_ms(&self) -> u64 {
        self.until_ms
    }
}

/// State of the journal.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) mode: Durability,
    /// A group of so many bytes is handed over at once.
    pub(super) hand_over_bytes: u64,
    group: Group,
    /// When the oldest operation in `group` was logged.
    group_since_ms: u64,
    spare: Option<Group>,
    /// Absent while a job has it.
    writer: Option<Box<Writer>>,
    /// Of the group that the job in flight writes: its bytes in the journal and in memory.
    in_flight: (u64, u64),
    /// Bytes of the groups handed over so far.
    handed_bytes: u64,
    durable: Seq,
    /// Somebody needs this to be durable.
    wanted: Seq,
    /// When the oldest operation that was handed over and is not durable was logged.
    unsynced_since_ms: Option<u64>,
    trim_to: Seq,
    trimmed: Seq,
    /// What the job in flight trims.
    trimming: Seq,
    /// Goes with the next job.
    errand: Option<Errand>,
    /// Nothing is trimmed: a backup needs the segments.
    is_held: bool,
    /// The watermark file is to be synced once everything is durable.
    wants_mark: bool,
    /// What it says durably, as far as it was asked for.
    marked: Seq,
    stats: JournalStats,
    backoff: Backoff,
    /// Of trims alone: a segment that cannot be dropped makes nothing less durable.
    trim_backoff: Backoff,
    failure: Option<Failure>,
}

impl Lane {
    /// A lane that continues where `writer` ends.
    pub(super) fn new(mode: Durability, hand_over_bytes: u64, writer: Box<Writer>) -> Self {
        Self {
            mode,
            hand_over_bytes,
            group: Group::new(writer.next_seq()),
            group_since_ms: 0,
            spare: None,
            stats: writer.stats(),
            durable: writer.durable(),
            writer: Some(writer),
            in_flight: (0, 0),
            handed_bytes: 0,
            wanted: Seq(0),
            unsynced_since_ms: None,
            trim_to: Seq(0),
            trimmed: Seq(0),
            trimming: Seq(0),
            errand: None,
            is_held: false,
            wants_mark: false,
            marked: Seq(0),
            backoff: Backoff::default(),
            trim_backoff: Backoff::default(),
            failure: None,
        }
    }

    /// The group to push into; `now_ms` is noted when it is empty.
    #[inline]
    pub(super) fn group(&mut self, now_ms: u64) -> &mut Group {
        if self.group.is_empty() {
            self.group_since_ms = now_ms;
        }
        &mut self.group
    }

    /// The last operation logged.
    #[inline]
    pub(super) fn last_seq(&self) -> Seq {
        self.group.last_seq()
    }

    /// Everything up to here survives a crash.
    pub(super) fn durable(&self) -> Seq {
        self.durable
    }

    /// Asks for everything up to `seq` to become durable soon.
    pub(super) fn want(&mut self, seq: Seq) {
        self.wanted = self.wanted.max(seq);
    }

    /// Asks for everything logged to become durable, and for the watermark file to say so durably.
    pub(super) fn want_mark(&mut self) {
        self.want(self.last_seq());
        self.wants_mark = self.marked < self.last_seq();
    }

    /// What the watermark file says durably, as far as it was asked for.
    pub(super) fn marked(&self) -> Seq {
        self.marked
    }

    /// Everything up to `upto` is in the engine.
    pub(super) fn trim(&mut self, upto: Seq) {
        self.trim_to = self.trim_to.max(upto);
    }

    /// Sends `errand` with the next job.
    pub(super) fn send(&mut self, errand: Errand) {
        assert_eq!(self.errand, None, "one errand at a time");
        match errand {
            Errand::Hold => self.is_held = true,
            Errand::Export => {}
            Errand::Release => self.is_held = false,
        }
        self.errand = Some(errand);
    }

    /// The next thing to do, if the lane is free and anything is due.
    pub(super) fn next_job(&mut self, now_ms: u64) -> Option<JournalJob> {
        let errand = self.errand;
        if self.writer.is_none() || !(errand.is_some() || self.backoff.is_over(now_ms)) {
            return None;
        }
        // An export is of everything logged before it.
        let sync = self.is_sync_due(now_ms) || errand == Some(Errand::Export);
        let append = !self.group.is_empty() && (sync || self.is_append_due(now_ms));
        let trim = self.is_trim_due(now_ms).then_some(self.trim_to);
        let mark = self.wants_mark;
        if !append && !sync && !mark && trim.is_none() && errand.is_none() {
            return None;
        }
        self.errand = None;
        let group = append.then(|| self.swap_group());
        self.trimming = self.trim_to;
        let bytes = |group: &Group| (group.len_bytes() as u64, group.memory_bytes() as u64);
        self.in_flight = group.as_ref().map_or((0, 0), bytes);
        Some(JournalJob { writer: self.writer.take()?, group, sync, mark, trim, errand })
    }

    fn wants_trim(&self) -> bool {
        self.trim_to > self.trimmed && !self.is_held
    }

    fn is_trim_due(&self, now_ms: u64) -> bool {
        self.wants_trim() && self.trim_backoff.is_over(now_ms)
    }

    fn is_append_due(&self, now_ms: u64) -> bool {
        self.mode == Durability::Always
            || self.is_group_full()
            || now_ms >= self.group_since_ms + HAND_OVER_MS
    }

    fn is_group_full(&self) -> bool {
        self.group.len_bytes() as u64 >= self.hand_over_bytes
    }

    fn is_sync_due(&self, now_ms: u64) -> bool {
        if self.last_seq() <= self.durable {
            return false;
        }
        // A job that failed is repeated by a sync, whatever the mode.
        self.wanted > self.durable
            || self.failure.is_some()
            || match self.mode {
                Durability::Always => true,
                Durability::EveryMs(n) => {
                    self.oldest_ms().is_some_and(|at| now_ms >= at.saturating_add(n))
                }
                Durability::Never => false,
            }
    }

    /// When the oldest operation that is not durable was logged.
    pub(super) fn oldest_ms(&self) -> Option<u64> {
        let filling = (!self.group.is_empty()).then_some(self.group_since_ms);
        self.unsynced_since_ms.or(filling)
    }

    fn swap_group(&mut self) -> Group {
        let next = self.group.next_seq();
        let mut empty = self.spare.take().unwrap_or_else(|| Group::new(next));
        empty.reset(next);
        self.unsynced_since_ms.get_or_insert(self.group_since_ms);
        self.handed_bytes += self.group.len_bytes() as u64;
        std::mem::replace(&mut self.group, empty)
    }

    /// A job came back; true when more is durable than before.
    pub(super) fn complete(&mut self, outcome: JournalOutcome, now_ms: u64) -> bool {
        let JournalOutcome { writer, spare, result, mark, trim, errand: _ } = outcome;
        self.in_flight = (0, 0);
        self.spare = self.spare.take().or(spare);
        let before = self.durable;
        self.durable = writer.durable();
        self.stats = writer.stats();
        self.writer = Some(writer);
        if self.durable.next() >= self.group.first_seq() {
            // All that was handed over; what is in the group has its own time.
            self.unsynced_since_ms = None;
        }
        // A failed trim leaves a journal that is too long: try again later, refuse nothing.
        match trim {
            Some(Ok(())) => {
                self.trimmed = self.trimming;
                self.trim_backoff.succeeded();
            }
            Some(Err(_)) => self.trim_backoff.failed(now_ms),
            None => {}
        }
        match result {
            Ok(()) => self.backoff.succeeded(),
            Err(_) => self.backoff.failed(now_ms),
        }
        if mark && result.is_ok() {
            self.marked = self.durable;
            self.wants_mark = self.marked < self.wanted;
        }
        self.failure = result.err();
        self.durable > before
    }

    /// Ends the pauses after failures.
    pub(super) fn retry_now(&mut self) {
        self.backoff.succeeded();
        self.trim_backoff.succeeded();
    }

    /// Why the last job failed; `None` once one succeeded.
    pub(super) fn failure(&self) -> Option<Failure> {
        self.failure
    }

    /// Whether a job is in flight.
    pub(super) fn is_busy(&self) -> bool {
        self.writer.is_none()
    }

    /// Bytes logged since the start.
    pub(super) fn logged_bytes(&self) -> u64 {
        self.handed_bytes + self.group.len_bytes() as u64
    }

    /// Bytes of operations that are not written yet.
    pub(super) fn unwritten_bytes(&self) -> u64 {
        // A group has a head before it has an operation.
        let filling = if self.group.is_empty() { 0 } else { self.group.len_bytes() };
        filling as u64 + self.in_flight.0
    }

    /// Bytes of operations that a sync would make durable and give back; none while it fails.
    pub(super) fn undurable_bytes(&self) -> u64 {
        if self.failure.is_some() || self.last_seq() <= self.durable {
            return 0;
        }
        self.unwritten_bytes() + self.stats.unsynced_bytes as u64
    }

    /// Bytes held, those that the writer keeps until they are durable included.
    pub(super) fn memory_bytes(&self) -> u64 {
        let spare = self.spare.as_ref().map_or(0, Group::memory_bytes);
        let held = self.group.memory_bytes() + spare + self.stats.memory_bytes;
        held as u64 + self.in_flight.1
    }

    /// Bytes that logging another `more` would allocate.
    pub(super) fn growth_bytes(&self, more: u64) -> u64 {
        self.group.growth_bytes(usize::try_from(more).unwrap_or(usize::MAX)) as u64
    }

    /// Figures of the writer, as of the last job.
    pub(super) fn stats(&self) -> &JournalStats {
        &self.stats
    }

    /// When [`Lane::next_job`] may have something without anything else happening.
    pub(super) fn wake_ms(&self) -> Option<u64> {
        if self.is_busy() {
            return None;
        }
        if self.errand.is_some() {
            return Some(0);
        }
        let is_full = !self.group.is_empty() && self.is_group_full();
        let at_once = is_full || self.wants_mark || self.is_sync_due(0);
        let trim = self.wants_trim().then(|| self.trim_backoff.until_ms());
        let filling = (!self.group.is_empty()).then_some(self.group_since_ms + HAND_OVER_MS);
        let due = match self.mode {
            _ if at_once => Some(0),
            Durability::Always | Durability::Never => filling,
            Durability::EveryMs(n) => {
                let sync = self.oldest_ms().map(|at| at.saturating_add(n));
                filling.into_iter().chain(sync).min()
            }
        };
        due.into_iter().chain(trim).min().map(|at| at.max(self.backoff.until_ms()))
    }
}
