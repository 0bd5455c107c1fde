//! The keys saved last: what is clean when little else is. Main thread; no IO.
//!
//! While new keys come in faster than the engine takes them, nearly all of memory waits to be
//! saved, and a sample reads dozens of dirty entries for each clean one. Nearly all clean ones are
//! then those of the last batch, whose keys are known: going through them, oldest first, costs one
//! look-up each, which forgetting the key needs anyway. Every eighth look is a sample all the same:
//! it finds the clean keys that have not been used for longer, and tells when clean keys are
//! plentiful again.

use std::collections::VecDeque;

use crate::cache::dirty::{AHEAD, Node, prefetch};
use crate::cache::home::{Candidate, Home};

/// Looks between two samples.
const LOOKS: usize = 7;

/// Keys that one look may pass over: changed since, forgotten or gone with their space.
const PASSED_MAX: usize = 8;

/// See the module.
#[derive(Debug, Default)]
pub(in crate::cache) struct Saved {
    nodes: VecDeque<Node>,
    /// How many of the first were asked for ahead.
    ahead: usize,
    /// Clean entries were scarce since the last batch began to settle.
    was_scarce: bool,
    /// Whether the batch that settles is kept.
    keeps: bool,
    /// Looks left before the next sample.
    looks: usize,
}

impl Saved {
    /// A batch of so many keys was saved and begins to settle. Its keys are kept if clean entries
    /// were scarce lately; what is left of the one before is not.
    pub(in crate::cache) fn begin_batch(&mut self, count: usize) {
        self.keeps = std::mem::take(&mut self.was_scarce);
        self.ahead = 0;
        if self.keeps {
            self.nodes.clear();
            self.nodes.reserve(count);
        } else {
            self.nodes = VecDeque::new();
        }
    }

    /// These keys of the batch were saved.
    pub(in crate::cache) fn add(&mut self, nodes: &[Node]) {
        if self.keeps {
            self.nodes.extend(nodes);
        }
    }

    /// A sample found `found` of `wanted` clean entries.
    pub(in crate::cache) fn note_sample(&mut self, found: usize, wanted: usize) {
        let is_scarce = found < wanted;
        self.was_scarce |= is_scarce;
        self.looks = if is_scarce { LOOKS } else { 0 };
    }

    /// The next key of the batch that is still clean; `None` when a sample is due.
    pub(in crate::cache) fn look<H: Home>(&mut self, home: &mut H) -> Option<Candidate> {
        self.looks = self.looks.checked_sub(1)?;
        for _ in 0..PASSED_MAX {
            if self.ahead == 0 {
                prefetch(home, self.nodes.iter().take(AHEAD));
                self.ahead = AHEAD.min(self.nodes.len());
            }
            let node = self.nodes.pop_front()?;
            self.ahead -= 1;
            let candidate = home.candidate(node.space, node.hash);
            if candidate.is_some() {
                return candidate;
            }
        }
        None
    }

    /// Bytes held.
    pub(in crate::cache) fn memory_bytes(&self) -> u64 {
        (self.nodes.capacity() * size_of::<Node>()) as u64
    }
}
