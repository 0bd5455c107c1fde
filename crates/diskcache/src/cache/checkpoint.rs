//! Batches of dirty keys: when one begins, how it is built, sent and settled.
//!
//! Main thread; no IO. The engine takes few large sorted batches far cheaper than many small
//! ones, so dirty keys are gathered:
//!
//! ```text
//! Idle -> Building -> Waiting -> Committing -> Settling -> Idle
//!          slices      for the     one job        slices
//!                      journal       |  unclear
//!                                    v
//!                                 Examining: the engine says whether the batch took effect
//! ```
//!
//! A key is encoded as it is when its node comes up, between commands, with the last sequence
//! number as its own: the record includes every operation up to it. The batch may be committed
//! only once the journal is durable up to the batch's highest number; otherwise a crash could
//! keep one key of an EXEC in the engine and lose the other with the journal's tail. Its
//! watermark is one less than the first number that any key left in the queue still needs, and
//! the journal is trimmed to it when the batch is durable.
//!
//! There is one batch at a time, so no key is ever in two. If it fails, SAVE comes back to
//! its keys, their nodes go to the front of the queue with their old numbers, and the next
//! attempt waits 10 ms to 5 s; nothing is dropped and nothing was trimmed.
//!
//! Source: Redis's diskstore cache (dscache.c, 2010 to 2011); fjall's bulk ingestion.

use std::collections::{BTreeMap, VecDeque};

use super::dirty::{AHEAD, Node, prefetch};
use super::flags::{HandOver, KeyState};
use super::home::{Entry, Home, Payload, Resident};
use super::job::{CommitJob, Failure, Job, Outgoing, OutgoingRecord, Work};
use super::lane::Backoff;
use super::memory::Account;
use super::spaces::Expected;
use super::stats::Reason;
use super::{Cache, Now, Options};
use crate::key::{KEY_PREFIX_LEN, KeyRef, Seq, Space};
use crate::storage::{Before, ErrorKind, Meta};

/// State of the batches.
#[derive(Debug)]
pub(super) struct Checkpoint {
    phase: Phase,
    /// Number of the batch being built, or of the next.
    number: u64,
    watermark: Seq,
    /// The watermark that the engine shows; ahead of `watermark` after a batch of which it could
    /// not say that it is durable. The next batch that succeeds makes both durable.
    engine_at: Seq,
    /// The highest number that any record in the engine has.
    highest: Seq,
    /// Every key first dirtied at or below this is due.
    upto: Seq,
    /// Whose turn it is beside those: the keys that the batch being built is for.
    due: Due,
    last_aged_ms: Option<u64>,
    spaces_since_ms: Option<u64>,
    /// Bytes logged up to some positions, to know how much journal a watermark frees.
    marks: VecDeque<(Seq, u64)>,
    backoff: Backoff,
    failure: Option<Failure>,
}

#[derive(Debug)]
enum Phase {
    Idle,
    Building(Build),
    Waiting(Build),
    Committing(Sent),
    Examining(Sent),
    Settling { sent: Sent, at: usize, fate: Fate },
}

/// Which keys a batch takes, oldest first, that nobody has asked for.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
enum Due {
    /// None.
    None,
    /// Those dirty for as long as the flush delay.
    Aged,
    /// As many as one batch holds. Memory is made with one batch as well as with all that is dirty,
    /// and a key that is left may change a few times more before it is written.
    Oldest,
}

/// What became of a batch.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
enum Fate {
    /// Durable.
    Saved,
    /// It had no effect.
    Failed,
    /// The engine shows it, but could not say that it is durable: written once more.
    Shown,
}

#[derive(Debug, Default)]
struct Build {
    writes: Vec<Outgoing>,
    nodes: Vec<Node>,
    bytes: u64,
    expected: BTreeMap<Space, Expected>,
    /// Where the journal stood at the beginning. What was dirtied later waits for the next batch:
    /// it may be a key of this one.
    limit: Seq,
    /// As of the end of building: a flush after it must not take effect before its own time.
    meta: Meta,
}

/// What stays here of a batch that is on its way.
#[derive(Debug)]
struct Sent {
    nodes: Vec<Node>,
    writes: u64,
    expected: BTreeMap<Space, Expected>,
    highest: Seq,
    watermark: Seq,
}

impl Checkpoint {
    pub(super) fn new(meta: &Meta) -> Self {
        Self {
            phase: Phase::Idle,
            number: 1,
            watermark: meta.watermark,
            engine_at: meta.watermark,
            highest: meta.highest,
            upto: Seq(0),
            due: Due::None,
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

    /// The first batch whose keys are all chosen after now.
    pub(super) fn next_batch(&self) -> u64 {
        self.number + u64::from(!matches!(self.phase, Phase::Idle))
    }

    pub(super) fn note_spaces(&mut self, now_ms: u64) {
        self.spaces_since_ms.get_or_insert(now_ms);
    }

    /// Whether a job of a batch is out.
    pub(super) fn is_committing(&self) -> bool {
        matches!(self.phase, Phase::Committing(_) | Phase::Examining(_))
    }

    /// Whether a batch is anywhere between begun and settled.
    pub(super) fn is_under_way(&self) -> bool {
        !matches!(self.phase, Phase::Idle)
    }

    /// Keys in the batch under way.
    pub(super) fn in_flight(&self) -> usize {
        match &self.phase {
            Phase::Idle => 0,
            Phase::Building(build) | Phase::Waiting(build) => build.writes.len(),
            Phase::Committing(sent) | Phase::Examining(sent) => sent.nodes.len(),
            Phase::Settling { sent, at, .. } => sent.nodes.len() - at,
        }
    }

    fn is_due(&self, node: &Node, options: &Options, now: Now) -> bool {
        node.first_seq <= self.upto
            || match self.due {
                Due::None => false,
                Due::Aged => age_ms(node, now) >= options.flush_delay_ms,
                Due::Oldest => true,
            }
    }

    /// Whether and why a batch should begin.
    fn reason(&mut self, front: Option<&Node>, options: &Options, now: Now) -> Option<Reason> {
        let spaces_due =
            self.spaces_since_ms.is_some_and(|at| now.mono_ms >= at + options.flush_delay_ms);
        if front.is_some_and(|node| node.first_seq <= self.upto)
            || (self.spaces_since_ms.is_some() && self.upto > self.watermark)
        {
            return Some(Reason::Drain);
        }
        let old = front.is_some_and(|node| age_ms(node, now) >= options.flush_delay_ms);
        // Keys that become due one after the other are gathered for a quarter of the delay.
        let spaced =
            self.last_aged_ms.is_none_or(|at| now.mono_ms >= at + options.flush_delay_ms / 4);
        (spaced && (old || spaces_due)).then_some(Reason::Age)
    }

    /// Up to where keys are to be saved; the watermark when nothing is under way.
    pub(super) fn target(&self) -> Seq {
        self.upto.max(self.watermark)
    }

    /// When a batch may begin without anything else happening.
    pub(super) fn wake_ms(&self, front: Option<&Node>, options: &Options, now: Now) -> Option<u64> {
        if !matches!(self.phase, Phase::Idle) {
            return None;
        }
        let due = front.map(|node| {
            if node.first_seq <= self.upto {
                return now.mono_ms;
            }
            let left = options.flush_delay_ms.saturating_sub(age_ms(node, now));
            let spaced = self.last_aged_ms.map_or(0, |at| at + options.flush_delay_ms / 4);
            (now.mono_ms + left).max(spaced)
        });
        let spaces = self.spaces_since_ms.map(|at| at + options.flush_delay_ms);
        due.into_iter().chain(spaces).min().map(|at| at.max(self.backoff.until_ms()))
    }
}

fn age_ms(node: &Node, now: Now) -> u64 {
    u64::from(super::options::wrapped_ms(now).wrapping_sub(node.since_ms))
}

impl Cache {
    /// One slice of the batch under way; true when there is more to do at once.
    pub(super) fn checkpoint_turn<H: Home>(&mut self, home: &mut H) -> bool {
        self.mark_journal();
        if matches!(self.checkpoint.phase, Phase::Idle) {
            self.begin_batch(home);
        }
        match std::mem::replace(&mut self.checkpoint.phase, Phase::Idle) {
            Phase::Building(build) => self.build_slice(build, home),
            Phase::Waiting(build) => self.send_when_durable(build),
            Phase::Settling { sent, at, fate } => self.settle_slice(sent, at, fate, home),
            other => {
                self.checkpoint.phase = other;
                false
            }
        }
    }

    /// Bytes of journal that no watermark has freed yet.
    fn unsaved_journal_bytes(&self) -> u64 {
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
        match reason {
            Reason::Age => {
                self.checkpoint.due = Due::Aged;
                self.checkpoint.last_aged_ms = Some(self.now.mono_ms);
            }
            Reason::Share | Reason::Pressure => self.checkpoint.due = Due::Oldest,
            // All of it goes: a key that changes all the time is saved once for each length of the
            // journal then, and more often if only the oldest segment were to be freed.
            Reason::Journal => self.checkpoint.want(last),
            Reason::Drain => {}
        }
        self.stats.begun[reason as usize] += 1;
        self.checkpoint.phase = Phase::Building(Build { limit: last, ..Build::default() });
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
        } else if self.unsaved_journal_bytes() > self.options.journal_bytes_max {
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

    /// Hands over due keys, up to the bounds of a slice and of a batch.
    fn build_slice<H: Home>(&mut self, mut build: Build, home: &mut H) -> bool {
        let seq = self.position();
        let bytes_before = build.bytes;
        let mut looked_at = 0;
        let full = loop {
            let is_full = build.nodes.len() >= self.options.batch_keys_max
                || build.bytes >= self.options.batch_bytes();
            let due = self.dirty.front().copied();
            let due = due.filter(|n| {
                n.first_seq <= build.limit && self.checkpoint.is_due(n, &self.options, self.now)
            });
            let (false, Some(node)) = (is_full, due) else { break true };
            let slice_over = looked_at >= self.options.slice_keys
                || build.bytes - bytes_before >= self.options.slice_bytes;
            if slice_over {
                break false;
            }
            if looked_at % AHEAD == 0 {
                prefetch(home, self.dirty.iter().take(AHEAD));
            }
            looked_at += 1;
            self.dirty.pop();
            if !self.spaces.is_alive(node.space) {
                continue;
            }
            let before = build.writes.len();
            home.visit(node.space, node.hash, &mut |entry| {
                hand_over(entry, node.space, node.hash, seq, &mut build);
            });
            if build.writes.len() > before {
                build.nodes.push(node);
            } else {
                self.stats.saves_spared += 1;
                self.evictor.look_again();
            }
        };
        self.ledger.set(Account::Batch, build.memory_bytes());
        if !full {
            self.checkpoint.phase = Phase::Building(build);
            return true;
        }
        self.close_batch(build);
        matches!(self.checkpoint.phase, Phase::Idle | Phase::Committing(_))
    }

    /// The batch has all its keys: fix its numbers, and wait for the journal.
    fn close_batch(&mut self, mut build: Build) {
        self.checkpoint.due = Due::None;
        let last = self.position();
        // In replay, records in the engine may be ahead of the place it has come to.
        let highest = last.max(self.checkpoint.highest);
        let watermark = self.dirty.front().map_or(last, |node| Seq(node.first_seq.0 - 1));
        let watermark = watermark.max(self.checkpoint.engine_at);
        let useless = build.nodes.is_empty()
            && !self.spaces.is_changed
            && self.unsaved_journal_bytes() < self.options.journal_bytes_max / 4;
        if useless {
            // Nothing was left to write; the next batch moves the watermark.
            self.checkpoint.spaces_since_ms = None;
            return;
        }
        build.meta = self.spaces.to_meta(watermark, highest);
        self.spaces.is_changed = false;
        self.checkpoint.spaces_since_ms = None;
        self.lane.want(last);
        self.send_when_durable(build);
    }

    fn send_when_durable(&mut self, build: Build) -> bool {
        if self.lane.durable() < build.meta.highest {
            self.checkpoint.phase = Phase::Waiting(build);
            return false;
        }
        let sent = Sent {
            nodes: build.nodes,
            writes: build.writes.len() as u64,
            expected: build.expected,
            highest: build.meta.highest,
            watermark: build.meta.watermark,
        };
        let job = CommitJob { writes: build.writes, meta: build.meta };
        self.outbox.push_back(Job(Work::Commit(job)));
        self.checkpoint.phase = Phase::Committing(sent);
        false
    }

    pub(super) fn commit_done(&mut self, result: Result<BTreeMap<Space, u64>, Failure>) {
        let Phase::Committing(sent) = std::mem::replace(&mut self.checkpoint.phase, Phase::Idle)
        else {
            unreachable!("a commit comes back while one is out");
        };
        match result {
            Ok(counts) => self.batch_saved(sent, &counts),
            Err(failure) if failure.kind == ErrorKind::Unclear => {
                self.checkpoint.failure = Some(failure);
                self.examine(sent);
            }
            Err(failure) => self.batch_failed(sent, failure, Fate::Failed),
        }
    }

    /// Asks the engine what it holds, after a commit of which that is not known.
    fn examine(&mut self, sent: Sent) {
        self.outbox.push_back(Job(Work::Examine));
        self.checkpoint.phase = Phase::Examining(sent);
    }

    pub(super) fn examine_done(&mut self, result: Result<Meta, Failure>) {
        let Phase::Examining(sent) = std::mem::replace(&mut self.checkpoint.phase, Phase::Idle)
        else {
            unreachable!("an answer comes while one is awaited");
        };
        match result {
            Ok(meta) => {
                // No two batches with a write share both numbers: each takes nodes off the queue.
                let is_shown = (meta.highest, meta.watermark) == (sent.highest, sent.watermark);
                self.checkpoint.engine_at = self.checkpoint.engine_at.max(meta.watermark);
                self.checkpoint.highest = self.checkpoint.highest.max(meta.highest);
                if is_shown {
                    self.spaces.settle(self.checkpoint.number, &sent.expected, &meta.counts);
                }
                let failure = self.checkpoint.failure.unwrap_or(Failure::CLOSED);
                self.batch_failed(sent, failure, if is_shown { Fate::Shown } else { Fate::Failed });
            }
            Err(failure) => {
                self.stats.batch_failures += 1;
                self.checkpoint.failure = Some(failure);
                self.checkpoint.backoff.failed(self.now.mono_ms);
                self.examine(sent);
            }
        }
    }

    fn batch_saved(&mut self, sent: Sent, counts: &BTreeMap<Space, u64>) {
        self.stats.batches += 1;
        self.stats.saves += sent.writes;
        self.checkpoint.failure = None;
        self.checkpoint.backoff.succeeded();
        self.checkpoint.watermark = self.checkpoint.watermark.max(sent.watermark);
        self.checkpoint.engine_at = self.checkpoint.engine_at.max(sent.watermark);
        self.checkpoint.highest = self.checkpoint.highest.max(sent.highest);
        self.lane.trim(sent.watermark);
        // Before any key becomes clean and could be evicted: an evicted key must not find its
        // space still taken for empty.
        self.spaces.settle(self.checkpoint.number, &sent.expected, counts);
        self.maintenance.wanted = true;
        self.evictor.saved.begin_batch(sent.nodes.len());
        self.start_settling(sent, Fate::Saved);
    }

    fn batch_failed(&mut self, sent: Sent, failure: Failure, fate: Fate) {
        self.stats.batch_failures += 1;
        self.stats.saves_failed += sent.writes;
        self.checkpoint.failure = Some(failure);
        self.checkpoint.backoff.failed(self.now.mono_ms);
        // The map went with the batch.
        self.spaces.is_changed = true;
        self.checkpoint.note_spaces(self.now.mono_ms);
        self.start_settling(sent, fate);
    }

    fn start_settling(&mut self, sent: Sent, fate: Fate) {
        let nodes = (sent.nodes.capacity() * size_of::<Node>()) as u64;
        self.ledger.set(Account::Batch, nodes);
        self.checkpoint.phase = Phase::Settling { sent, at: 0, fate };
    }

    fn settle_slice<H: Home>(&mut self, sent: Sent, at: usize, fate: Fate, home: &mut H) -> bool {
        let end = sent.nodes.len().min(at + self.options.slice_keys);
        self.evictor.look_again();
        for group in sent.nodes[at..end].chunks(AHEAD) {
            prefetch(home, group);
            for node in group {
                home.visit(node.space, node.hash, &mut |entry| settle(entry, fate));
            }
        }
        if fate == Fate::Saved {
            self.evictor.saved.add(&sent.nodes[at..end]);
        }
        if end < sent.nodes.len() {
            self.checkpoint.phase = Phase::Settling { sent, at: end, fate };
            return true;
        }
        self.ledger.set(Account::Batch, 0);
        self.checkpoint.number += 1;
        self.evictor.memory_changed();
        if fate != Fate::Saved {
            self.dirty.put_back(sent.nodes);
        }
        true
    }

    /// Everything dirtied up to here is in the engine.
    pub(super) fn drained(&self) -> Seq {
        let idle = matches!(self.checkpoint.phase, Phase::Idle);
        if idle && self.dirty.len() == 0 && !self.spaces.is_changed {
            self.position()
        } else {
            self.checkpoint.watermark
        }
    }
}

/// Notes in an entry what became of the batch.
fn settle(entry: &mut dyn Entry, fate: Fate) {
    let mut state: KeyState = entry.state();
    if state.is_saving() {
        state.settle(fate != Fate::Failed);
        if fate == Fate::Shown {
            state.mark_dirty();
        }
        entry.set_state(state);
    }
}

fn hand_over(entry: &mut dyn Entry, space: Space, hash: u64, seq: Seq, build: &mut Build) {
    let mut state = entry.state();
    if !state.is_save() || state.is_saving() {
        // Saved already, or another key with this hash that has a later node of its own.
        return;
    }
    let handed = state.hand_over(entry.exists());
    entry.set_state(state);
    let HandOver::Write(before) = handed else { return };
    let key = KeyRef { space, hash, key: entry.key() }.to_buf();
    let record = entry.exists().then(|| OutgoingRecord {
        seq,
        expires_at_ms: entry.expires_at_ms(),
        payload: entry.encode(),
    });
    let expected = build.expected.entry(space).or_default();
    expected.change += i64::from(record.is_some()) - i64::from(before == Before::Present);
    expected.unknown += u64::from(before == Before::Unknown);
    let payload = record.as_ref().map_or(0, |r| Payload::len_bytes(&r.payload));
    build.bytes += (key.as_disk().len() + KEY_PREFIX_LEN + payload) as u64;
    build.writes.push(Outgoing { key, before, record });
}

impl Build {
    fn memory_bytes(&self) -> u64 {
        let tables = self.writes.capacity() * size_of::<Outgoing>()
            + self.nodes.capacity() * size_of::<Node>();
        self.bytes + tables as u64
    }
}
