//! Batches of dirty keys: when one begins, how it is built, sent and settled.
//!
//! Main thread; no IO. The engine takes few large sorted batches far cheaper than many small
//! ones, so dirty keys are gathered:
//!
//! ```text
//! the batch being built:   none -> gathering -> gathered -> none
//!                                   slices      waits for the journal and the batch before
//!
//! the batch that is out:   idle -> committing -> settling -> idle
//!                                   one job   |   slices
//!                                             +-> unclear <-> examining -> settling
//!                                                             the engine says if it took effect
//! ```
//!
//! | file | what it is |
//! |---|---|
//! | `checkpoint` | when a batch begins, and when it is sent |
//! | [`build`] | which keys a batch takes, and its numbers |
//! | [`settle`] | what became of a batch, and what that means for its keys |
//!
//! A batch is built while the one before is committed, so the engine waits for little but its
//! journal. A key that is in the batch before and was changed since holds the gathering up until
//! that batch is settled: no key is ever in two.
//!
//! A key is encoded as it is when its node comes up, between commands, with the last sequence
//! number as its own: the record includes every operation up to it. The batch may be committed
//! only once the journal is durable up to the batch's highest number; otherwise a crash could
//! keep one key of an EXEC in the engine and lose the other with the journal's tail. Its
//! watermark is one less than the first number that any key left in the queue still needs, and
//! the journal is trimmed to it when the batch is durable. It counts on the batch before, so it
//! is sent only when that one is saved.
//!
//! If a batch fails, SAVE comes back to its keys, their nodes go to the front of the queue with
//! their old numbers, and the next attempt waits 10 ms to 5 s; nothing is dropped and nothing
//! was trimmed. The batch being built meanwhile is taken apart in the same way, before it.
//!
//! Source: Redis's diskstore cache (dscache.c, 2010 to 2011); fjall's bulk ingestion.

mod build;
mod settle;

use std::collections::VecDeque;

use build::{Build, Due};
use settle::{Sent, Settling};

use super::dirty::Node;
use super::home::{Home, Resident};
use super::job::{Failure, Job, Work};
use super::lane::Backoff;
use super::memory::Account;
use super::stats::Reason;
use super::{Cache, Now, Options};
use crate::key::{Seq, Space};
use crate::storage::Meta;

/// State of the batches.
#[derive(Debug)]
pub(super) struct Checkpoint {
    /// The batch being built.
    build: Option<Build>,
    /// The batch that was sent.
    out: Out,
    /// Batches begun.
    begun: u64,
    watermark: Seq,
    /// The watermark that the engine shows; ahead of `watermark` after a batch of which it could
    /// not say that it is durable. The next batch that succeeds makes both durable.
    engine_at: Seq,
    /// The highest number that any record in the engine has.
    highest: Seq,
    /// Every key first dirtied at or below this is due.
    upto: Seq,
    last_aged_ms: Option<u64>,
    spaces_since_ms: Option<u64>,
    /// Bytes logged up to some positions, to know how much journal a watermark frees.
    marks: VecDeque<(Seq, u64)>,
    backoff: Backoff,
    failure: Option<Failure>,
}

/// Where the batch is that was sent.
#[derive(Debug)]
enum Out {
    Idle,
    Committing(Sent),
    /// It is not known whether it took effect, and the engine is to be asked.
    Unclear(Sent),
    Examining(Sent),
    Settling(Settling),
}

impl Checkpoint {
    pub(super) fn new(meta: &Meta) -> Self {
        Self {
            build: None,
            out: Out::Idle,
            begun: 0,
            watermark: meta.watermark,
            engine_at: meta.watermark,
            highest: meta.highest,
            upto: Seq(0),
            last_aged_ms: None,
            spaces_since_ms: None,
            marks: VecDeque::new(),
            backoff: Backoff::default(),
            failure: None,
        }
    }

    pub(super) fn watermark(&self) -> Seq {
        self.watermark
    }

    /// Everything dirtied up to `seq` should be saved soon.
    pub(super) fn want(&mut self, seq: Seq) {
        self.upto = self.upto.max(seq);
    }

    /// Ends the pause after a failure.
    pub(super) fn retry_now(&mut self) {
        self.backoff.succeeded();
    }

    pub(super) fn failure(&self) -> Option<Failure> {
        self.failure
    }

    /// The number of the first batch whose keys are all chosen after now.
    pub(super) fn next_batch(&self) -> u64 {
        self.begun + 1
    }

    /// Whether a batch that may still reach the engine has keys of `space`.
    pub(super) fn has_keys_of(&self, space: Space) -> bool {
        let out = match &self.out {
            Out::Idle | Out::Settling(_) => None,
            Out::Committing(sent) | Out::Unclear(sent) | Out::Examining(sent) => Some(sent),
        };
        self.build.as_ref().is_some_and(|build| build.has_keys_of(space))
            || out.is_some_and(|sent| sent.expected.contains_key(&space))
    }

    pub(super) fn note_spaces(&mut self, now_ms: u64) {
        self.spaces_since_ms.get_or_insert(now_ms);
    }

    /// Whether what becomes of a batch depends on a job, out or to come.
    pub(super) fn is_committing(&self) -> bool {
        matches!(self.out, Out::Committing(_) | Out::Unclear(_) | Out::Examining(_))
    }

    /// Whether a batch is anywhere between begun and settled.
    pub(super) fn is_under_way(&self) -> bool {
        self.build.is_some() || !matches!(self.out, Out::Idle)
    }

    /// Keys in the batches under way.
    pub(super) fn in_flight(&self) -> usize {
        self.keys(Settling::len)
    }

    /// Of those, the ones that are not in the engine, as far as is known.
    pub(super) fn unsaved(&self) -> usize {
        self.keys(Settling::unsaved)
    }

    fn keys(&self, of_settling: impl FnOnce(&Settling) -> usize) -> usize {
        let out = match &self.out {
            Out::Idle => 0,
            Out::Committing(sent) | Out::Unclear(sent) | Out::Examining(sent) => sent.len(),
            Out::Settling(settling) => of_settling(settling),
        };
        self.build.as_ref().map_or(0, Build::len) + out
    }

    /// Bytes that the batches under way hold.
    fn memory_bytes(&self) -> u64 {
        let out = match &self.out {
            Out::Idle => 0,
            Out::Committing(sent) | Out::Unclear(sent) | Out::Examining(sent) => {
                sent.memory_bytes()
            }
            Out::Settling(settling) => settling.memory_bytes(),
        };
        self.build.as_ref().map_or(0, Build::memory_bytes) + out
    }

    /// Whether somebody waits for something that a batch would save.
    fn is_draining(&self, front: Option<&Node>) -> bool {
        front.is_some_and(|node| node.first_seq <= self.upto)
            || (self.spaces_since_ms.is_some() && self.upto > self.watermark)
    }

    /// When the oldest of what is unsaved is to be saved for its age.
    fn age_due_ms(&self, front: Option<&Node>, options: &Options, now: Now) -> Option<u64> {
        let delay = options.flush_delay_ms;
        let left = |node: &Node| delay.saturating_sub(age_ms(node, now));
        // Any delay is allowed: one for ever, too.
        let keys = front.map(|node| now.mono_ms.saturating_add(left(node)));
        let spaces = self.spaces_since_ms.map(|at| at.saturating_add(delay));
        // Keys that become due one after the other are gathered for a quarter of the delay.
        let spaced = self.last_aged_ms.map_or(0, |at| at.saturating_add(delay / 4));
        keys.into_iter().chain(spaces).min().map(|at| at.max(spaced))
    }

    /// Whether and why a batch should begin.
    fn reason(&self, front: Option<&Node>, options: &Options, now: Now) -> Option<Reason> {
        if self.is_draining(front) {
            return Some(Reason::Drain);
        }
        let is_due = self.age_due_ms(front, options, now).is_some_and(|at| now.mono_ms >= at);
        is_due.then_some(Reason::Age)
    }

    /// Up to where keys are to be saved; the watermark when nothing is under way.
    pub(super) fn target(&self) -> Seq {
        self.upto.max(self.watermark)
    }

    /// When a batch may begin without anything else happening.
    pub(super) fn wake_ms(&self, front: Option<&Node>, options: &Options, now: Now) -> Option<u64> {
        if matches!(self.out, Out::Unclear(_)) {
            return Some(self.backoff.until_ms());
        }
        if self.is_under_way() {
            return None;
        }
        let now_ms = self.is_draining(front).then_some(now.mono_ms);
        let at = now_ms.or_else(|| self.age_due_ms(front, options, now));
        at.map(|at| at.max(self.backoff.until_ms()))
    }
}

fn age_ms(node: &Node, now: Now) -> u64 {
    u64::from(super::options::wrapped_ms(now).wrapping_sub(node.since_ms))
}

impl Cache {
    /// One slice of the batches under way; true when there is more to do at once.
    pub(super) fn checkpoint_turn<H: Home>(&mut self, home: &mut H) -> bool {
        self.mark_journal();
        match &self.checkpoint.out {
            Out::Settling(_) => {
                self.settle_slice(home);
                return true;
            }
            Out::Unclear(_) => {
                self.examine();
                return false;
            }
            Out::Examining(_) => return false,
            Out::Idle | Out::Committing(_) => {}
        }
        if self.checkpoint.build.is_none() {
            self.begin_batch(home);
        }
        let more = self.build_slice(home);
        self.send_when_ready() || more
    }

    /// Bytes of journal that no watermark has freed yet.
    pub(super) fn unsaved_journal_bytes(&self) -> u64 {
        let freed = self.checkpoint.marks.front().map_or(self.logged_bytes(), |(_, bytes)| *bytes);
        self.logged_bytes() - freed
    }

    fn logged_bytes(&self) -> u64 {
        self.lane.logged_bytes()
    }

    /// Notes how many bytes were logged up to here, at steps of a sixteenth of the bound.
    fn mark_journal(&mut self) {
        let step = self.options.journal_bytes_max.div_ceil(16);
        let logged = self.logged_bytes();
        let last = self.lane.last_seq();
        let marks = &mut self.checkpoint.marks;
        if last <= self.checkpoint.watermark {
            marks.clear();
        }
        if marks.back().is_none_or(|(_, bytes)| logged >= bytes + step) {
            marks.push_back((last, logged));
        }
        // The front mark is the last one at or below the watermark.
        while marks.get(1).is_some_and(|(seq, _)| *seq <= self.checkpoint.watermark) {
            marks.pop_front();
        }
    }

    fn begin_batch<H: Home>(&mut self, home: &H) {
        if !self.checkpoint.backoff.is_over(self.now.mono_ms) {
            return;
        }
        let last = self.position();
        let Some(reason) = self.reason_to_save(Resident::of(home)) else { return };
        let due = match reason {
            Reason::Age => {
                self.checkpoint.last_aged_ms = Some(self.now.mono_ms);
                Due::Aged
            }
            Reason::Share | Reason::Pressure => Due::Oldest,
            // All of it goes: a key that changes all the time is saved once for each length of the
            // journal then, and more often if only the oldest segment were to be freed.
            Reason::Journal => {
                self.checkpoint.want(last);
                Due::Wanted
            }
            Reason::Drain => Due::Wanted,
        };
        self.stats.begun[reason as usize] += 1;
        self.checkpoint.begun += 1;
        self.checkpoint.build = Some(Build::new(self.checkpoint.begun, due, last));
    }

    fn reason_to_save(&mut self, resident: Resident) -> Option<Reason> {
        let front = self.dirty.front().copied();
        let dirty_bytes = self.dirty_bytes(resident);
        if front.is_some() && self.evictor.is_stuck() {
            if self.lane.undurable_bytes() <= dirty_bytes {
                return Some(Reason::Pressure);
            }
            // What fills the memory is log that waits for its sync: saving keys would write them
            // again and again and give back next to nothing.
            self.lane.want(self.lane.last_seq());
        }
        if front.is_some() && dirty_bytes > self.dirty_bytes_max() {
            Some(Reason::Share)
        } else if !self.checkpoint.is_under_way()
            && self.unsaved_journal_bytes() > self.options.journal_bytes_max
        {
            // Of a batch that is out it is not known yet how much it frees.
            Some(Reason::Journal)
        } else {
            self.checkpoint.reason(front.as_ref(), &self.options, self.now)
        }
    }

    /// By the mean over all entries.
    pub(super) fn dirty_bytes(&self, resident: Resident) -> u64 {
        let mean = resident.bytes / resident.entries.max(1);
        mean * self.dirty.len() as u64
    }

    fn dirty_bytes_max(&self) -> u64 {
        self.ledger.share(self.options.dirty_permille_max)
    }

    /// Sends the batch that is gathered, once the one before is settled and the journal durable.
    fn send_when_ready(&mut self) -> bool {
        let is_free = matches!(self.checkpoint.out, Out::Idle);
        let durable = self.lane.durable();
        let is_ready = |build: &mut Build| is_free && build.is_gathered(durable);
        let Some(build) = self.checkpoint.build.take_if(is_ready) else { return false };
        let (sent, job) = build.send();
        self.outbox.push_back(Job(Work::Commit(job)));
        self.checkpoint.out = Out::Committing(sent);
        true
    }

    /// Everything dirtied up to here is in the engine.
    pub(super) fn drained(&self) -> Seq {
        let is_idle = !self.checkpoint.is_under_way();
        if is_idle && self.dirty.len() == 0 && !self.spaces.is_changed {
            self.position()
        } else {
            self.checkpoint.watermark
        }
    }

    fn note_batch_bytes(&mut self) {
        self.ledger.set(Account::Batch, self.checkpoint.memory_bytes());
    }
}
