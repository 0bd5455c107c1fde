//! What became of a batch, and what that means for its keys. Main thread; no IO.

use std::collections::BTreeMap;

use super::{Build, Out};
use crate::cache::Cache;
use crate::cache::dirty::{AHEAD, Node, prefetch};
use crate::cache::flags::KeyState;
use crate::cache::home::{Entry, Home};
use crate::cache::job::{Failure, Job, Work};
use crate::cache::spaces::Expected;
use crate::key::{Seq, Space};
use crate::storage::{ErrorKind, Meta};

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

/// What stays here of a batch that is on its way.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) number: u64,
    /// Bytes that it held when it was sent.
    pub(super) bytes: u64,
    pub(super) nodes: Vec<Node>,
    pub(super) writes: usize,
    pub(super) expected: BTreeMap<Space, Expected>,
    pub(super) highest: Seq,
    pub(super) watermark: Seq,
}

impl Sent {
    /// Keys in it.
    pub(super) fn len(&self) -> usize {
        self.writes
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        self.bytes
    }
}

/// Keys of a batch whose fate is known.
#[derive(Debug)]
struct Fated {
    nodes: Vec<Node>,
    fate: Fate,
}

/// Batches whose keys are being told what became of them.
#[derive(Debug)]
pub(super) struct Settling {
    /// The youngest last: their nodes go back to the front of the queue, so it comes first. One,
    /// or two when the batch being built goes back with the one before.
    batches: Vec<Fated>,
    /// Keys of the last that are done.
    at: usize,
}

impl Settling {
    /// Keys left.
    pub(super) fn len(&self) -> usize {
        self.batches.iter().map(|batch| batch.nodes.len()).sum::<usize>() - self.at
    }

    /// Of those, the ones that are not saved.
    pub(super) fn unsaved(&self) -> usize {
        let is_saved = self.batches.iter().all(|batch| batch.fate == Fate::Saved);
        if is_saved { 0 } else { self.len() }
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        let nodes: usize = self.batches.iter().map(|batch| batch.nodes.capacity()).sum();
        (nodes * size_of::<Node>()) as u64
    }
}

impl Cache {
    pub(in crate::cache) fn commit_done(&mut self, result: Result<BTreeMap<Space, u64>, Failure>) {
        let Out::Committing(sent) = std::mem::replace(&mut self.checkpoint.out, Out::Idle) else {
            unreachable!("a commit comes back while one is out");
        };
        match result {
            Ok(counts) => self.batch_saved(sent, &counts),
            Err(failure) if failure.kind == ErrorKind::Unclear => {
                self.note_failure(failure);
                self.checkpoint.out = Out::Unclear(sent);
            }
            Err(failure) => self.batch_failed(sent, failure, Fate::Failed),
        }
    }

    /// Asks the engine what it holds, after a commit of which that is not known; after a pause when
    /// it could not say that either.
    pub(super) fn examine(&mut self) {
        if !self.checkpoint.backoff.is_over(self.now.mono_ms) {
            return;
        }
        self.checkpoint.out = match std::mem::replace(&mut self.checkpoint.out, Out::Idle) {
            Out::Unclear(sent) => {
                self.outbox.push_back(Job(Work::Examine));
                Out::Examining(sent)
            }
            out => out,
        };
    }

    pub(in crate::cache) fn examine_done(&mut self, result: Result<Meta, Failure>) {
        let Out::Examining(sent) = std::mem::replace(&mut self.checkpoint.out, Out::Idle) else {
            unreachable!("an answer comes while one is awaited");
        };
        match result {
            Ok(meta) => {
                // Batches with a write share both numbers only where the engine has shown all of
                // them before: each takes nodes off the queue.
                let is_shown = (meta.highest, meta.watermark) == (sent.highest, sent.watermark);
                self.checkpoint.engine_at = self.checkpoint.engine_at.max(meta.watermark);
                self.checkpoint.highest = self.checkpoint.highest.max(meta.highest);
                if is_shown {
                    self.spaces.settle(sent.number, &sent.expected, &meta.counts);
                }
                let failure = self.checkpoint.failure.unwrap_or(Failure::CLOSED);
                self.batch_failed(sent, failure, if is_shown { Fate::Shown } else { Fate::Failed });
            }
            Err(failure) => {
                self.stats.batch_failures += 1;
                self.note_failure(failure);
                self.checkpoint.backoff.failed(self.now.mono_ms);
                self.checkpoint.out = Out::Unclear(sent);
            }
        }
    }

    fn batch_saved(&mut self, sent: Sent, counts: &BTreeMap<Space, u64>) {
        self.stats.batches += 1;
        self.stats.saves += sent.writes as u64;
        self.checkpoint.failure = None;
        self.checkpoint.backoff.succeeded();
        self.checkpoint.watermark = self.checkpoint.watermark.max(sent.watermark);
        self.checkpoint.engine_at = self.checkpoint.engine_at.max(sent.watermark);
        self.checkpoint.highest = self.checkpoint.highest.max(sent.highest);
        self.lane.trim(sent.watermark);
        // Before any key becomes clean and could be evicted: an evicted key must not find its
        // space still taken for empty.
        self.spaces.settle(sent.number, &sent.expected, counts);
        self.maintenance.wanted = true;
        self.evictor.saved.begin_batch(sent.nodes.len());
        self.start_settling(vec![Fated { nodes: sent.nodes, fate: Fate::Saved }]);
    }

    /// Whoever waits for a drain waits through one failure, not for as long as a disk is full.
    pub(in crate::cache) fn note_failure(&mut self, failure: Failure) {
        if self.checkpoint.failure.replace(failure).is_some() {
            self.waiters.refuse_drains(failure);
        }
    }

    fn batch_failed(&mut self, sent: Sent, failure: Failure, fate: Fate) {
        self.stats.batch_failures += 1;
        self.stats.saves_failed += sent.writes as u64;
        self.note_failure(failure);
        self.checkpoint.backoff.failed(self.now.mono_ms);
        // The map went with the batch.
        self.spaces.is_changed = true;
        self.checkpoint.note_spaces(self.now.mono_ms);
        let mut batches = vec![Fated { nodes: sent.nodes, fate }];
        // Its watermark counts on this one.
        let build = self.checkpoint.build.take().map(Build::into_nodes);
        batches.extend(build.map(|nodes| Fated { nodes, fate: Fate::Failed }));
        self.start_settling(batches);
    }

    fn start_settling(&mut self, batches: Vec<Fated>) {
        self.checkpoint.out = Out::Settling(Settling { batches, at: 0 });
        self.note_batch_bytes();
    }

    /// Tells a slice of keys what became of their batch.
    pub(super) fn settle_slice<H: Home>(&mut self, home: &mut H) {
        let Out::Settling(settling) = &mut self.checkpoint.out else { return };
        let Some(Fated { nodes, fate }) = settling.batches.last() else { return self.settled() };
        let slice = &nodes[settling.at..];
        let slice = &slice[..slice.len().min(self.options.slice_keys)];
        self.evictor.look_again();
        for group in slice.chunks(AHEAD) {
            prefetch(home, group);
            for node in group {
                home.visit(node.space, node.hash, &mut |entry| settle(entry, *fate));
            }
        }
        if *fate == Fate::Saved {
            self.evictor.saved.add(slice);
        }
        settling.at += slice.len();
        if settling.at == nodes.len() {
            settling.at = 0;
            let done = settling.batches.pop();
            let back = done.filter(|batch| batch.fate != Fate::Saved);
            back.into_iter().for_each(|batch| self.dirty.put_back(batch.nodes));
            if settling.batches.is_empty() {
                self.settled();
            }
        }
        self.note_batch_bytes();
    }

    fn settled(&mut self) {
        self.checkpoint.out = Out::Idle;
        self.evictor.memory_changed();
        if let Some(build) = &mut self.checkpoint.build {
            build.go_on();
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
