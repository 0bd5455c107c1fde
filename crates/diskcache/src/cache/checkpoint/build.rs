//! Which keys a batch takes, and its numbers. Main thread; no IO.

use std::collections::BTreeMap;

use super::{Out, Sent, age_ms};
use crate::cache::dirty::{AHEAD, Node, prefetch};
use crate::cache::flags::HandOver;
use crate::cache::home::{Entry, Home, Payload};
use crate::cache::job::{CommitJob, Outgoing, OutgoingRecord};
use crate::cache::spaces::Expected;
use crate::cache::{Cache, Now, Options};
use crate::key::{KEY_PREFIX_LEN, KeyRef, Seq, Space};
use crate::storage::{Before, Meta};

/// Which keys a batch takes, oldest first, beside those that somebody asked for.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) enum Due {
    /// None.
    Wanted,
    /// Those dirty for as long as the flush delay.
    Aged,
    /// As many as one batch holds. Memory is made with one batch as well as with all that is dirty,
    /// and a key that is left may change a few times more before it is written.
    Oldest,
}

/// A batch that was not sent yet.
#[derive(Debug)]
pub(super) struct Build {
    number: u64,
    due: Due,
    writes: Vec<Outgoing>,
    nodes: Vec<Node>,
    bytes: u64,
    expected: BTreeMap<Space, Expected>,
    /// Where the journal stood at the beginning. What was dirtied later waits for the next batch:
    /// it may be a key of this one.
    limit: Seq,
    /// The next key waits until the batch before is settled.
    is_held: bool,
    /// As of the end of gathering: a flush after it must not take effect before its own time.
    meta: Option<Meta>,
}

/// How a slice ended.
enum Slice {
    /// Nothing more is due, or nothing more fits.
    Gathered,
    /// There is more.
    Over,
    /// The next key waits until the batch before is settled.
    Held,
}

impl Build {
    pub(super) fn new(number: u64, due: Due, limit: Seq) -> Self {
        Self {
            number,
            due,
            writes: Vec::new(),
            nodes: Vec::new(),
            bytes: 0,
            expected: BTreeMap::new(),
            limit,
            is_held: false,
            meta: None,
        }
    }

    /// Keys in it.
    pub(super) fn len(&self) -> usize {
        self.writes.len()
    }

    pub(super) fn has_keys_of(&self, space: Space) -> bool {
        self.expected.contains_key(&space)
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        let tables = self.writes.capacity() * size_of::<Outgoing>()
            + self.nodes.capacity() * size_of::<Node>();
        self.bytes + tables as u64
    }

    /// Whether it has all its keys, and the journal is `durable` as far as they go.
    pub(super) fn is_gathered(&self, durable: Seq) -> bool {
        self.meta.as_ref().is_some_and(|meta| durable >= meta.highest)
    }

    /// The batch before is settled.
    pub(super) fn go_on(&mut self) {
        self.is_held = false;
    }

    /// What the engine gets, and what stays here.
    ///
    /// # Panics
    /// Before it is gathered.
    pub(super) fn send(self) -> (Sent, CommitJob) {
        let bytes = self.memory_bytes();
        let meta = self.meta.expect("only what is gathered is sent");
        let sent = Sent {
            number: self.number,
            bytes,
            nodes: self.nodes,
            writes: self.writes.len(),
            expected: self.expected,
            highest: meta.highest,
            watermark: meta.watermark,
        };
        (sent, CommitJob { writes: self.writes, meta })
    }

    /// The nodes of its keys; all else is dropped.
    pub(super) fn into_nodes(self) -> Vec<Node> {
        self.nodes
    }

    fn is_due(&self, node: &Node, upto: Seq, options: &Options, now: Now) -> bool {
        let is_due = match self.due {
            Due::Wanted => false,
            Due::Aged => age_ms(node, now) >= options.flush_delay_ms,
            Due::Oldest => true,
        };
        node.first_seq <= self.limit && (is_due || node.first_seq <= upto)
    }

    fn is_full(&self, options: &Options) -> bool {
        self.nodes.len() >= options.batch_keys_max || self.bytes >= options.batch_bytes()
    }

    fn hand_over(&mut self, entry: &mut dyn Entry, space: Space, hash: u64, seq: Seq) {
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
        let expected = self.expected.entry(space).or_default();
        expected.change += i64::from(record.is_some()) - i64::from(before == Before::Present);
        expected.unknown += u64::from(before == Before::Unknown);
        let payload = record.as_ref().map_or(0, |r| Payload::len_bytes(&r.payload));
        self.bytes += (key.as_disk().len() + KEY_PREFIX_LEN + payload) as u64;
        self.writes.push(Outgoing { key, before, record });
    }
}

impl Cache {
    /// Hands over due keys to the batch being built, up to the bounds of a slice; true when there
    /// is more to do at once.
    pub(super) fn build_slice<H: Home>(&mut self, home: &mut H) -> bool {
        let is_open = |build: &mut Build| build.meta.is_none() && !build.is_held;
        let Some(mut build) = self.checkpoint.build.take_if(is_open) else { return false };
        let slice = self.gather(&mut build, home);
        build.is_held = matches!(slice, Slice::Held);
        self.checkpoint.build = match slice {
            Slice::Gathered => self.gathered(build),
            Slice::Over | Slice::Held => Some(build),
        };
        self.note_batch_bytes();
        !matches!(slice, Slice::Held)
    }

    fn gather<H: Home>(&mut self, build: &mut Build, home: &mut H) -> Slice {
        let seq = self.position();
        let bytes_before = build.bytes;
        let is_alone = matches!(self.checkpoint.out, Out::Idle);
        let upto = self.checkpoint.upto;
        for looked_at in 0.. {
            let due = self.dirty.front().copied();
            let due = due.filter(|node| build.is_due(node, upto, &self.options, self.now));
            let Some(node) = due.filter(|_| !build.is_full(&self.options)) else { break };
            let bytes = build.bytes - bytes_before;
            if looked_at >= self.options.slice_keys || bytes >= self.options.slice_bytes {
                return Slice::Over;
            }
            if looked_at % AHEAD == 0 {
                prefetch(home, self.dirty.iter().take(AHEAD));
            }
            if !is_alone && is_saving(home, &node) {
                return Slice::Held;
            }
            self.dirty.pop();
            if !self.spaces.is_alive(node.space) {
                continue;
            }
            let before = build.writes.len();
            home.visit(node.space, node.hash, &mut |entry| {
                build.hand_over(entry, node.space, node.hash, seq);
            });
            if build.writes.len() > before {
                build.nodes.push(node);
            } else {
                self.stats.saves_spared += 1;
                self.evictor.look_again();
            }
        }
        Slice::Gathered
    }

    /// The batch has all its keys: fixes its numbers, and asks for the journal. `None` when there
    /// is nothing to send.
    fn gathered(&mut self, mut build: Build) -> Option<Build> {
        let last = self.position();
        // In replay, records in the engine may be ahead of the place it has come to.
        let highest = last.max(self.checkpoint.highest);
        let watermark = self.dirty.front().map_or(last, |node| Seq(node.first_seq.0 - 1));
        let watermark = watermark.max(self.checkpoint.engine_at);
        self.checkpoint.spaces_since_ms = None;
        // Whoever waits for all up to there waits for the watermark, if younger keys are queued.
        let is_awaited = self.checkpoint.upto > self.checkpoint.watermark && self.dirty.len() > 0;
        let is_short = !matches!(self.checkpoint.out, Out::Idle)
            || self.unsaved_journal_bytes() < self.options.journal_bytes_max / 4;
        if build.nodes.is_empty() && !self.spaces.is_changed && !is_awaited && is_short {
            // Nothing was left to write; the next batch moves the watermark.
            return None;
        }
        build.meta = Some(self.spaces.to_meta(watermark, highest));
        self.spaces.is_changed = false;
        self.lane.want(last);
        Some(build)
    }
}

/// Whether a key with this hash is in a batch. Any key: settling a batch settles all that have one
/// of its hashes, so they must not be in two.
fn is_saving<H: Home>(home: &mut H, node: &Node) -> bool {
    let mut is_saving = false;
    home.visit(node.space, node.hash, &mut |entry| is_saving |= entry.state().is_saving());
    is_saving
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::flags::KeyState;

    /// A large value, to be encoded elsewhere.
    struct Large(KeyState);

    impl Entry for Large {
        fn key(&self) -> &[u8] {
            b"large"
        }

        fn state(&self) -> KeyState {
            self.0
        }

        fn set_state(&mut self, state: KeyState) {
            self.0 = state;
        }

        fn exists(&self) -> bool {
            true
        }

        fn expires_at_ms(&self) -> Option<u64> {
            None
        }

        fn encode(&self) -> Payload {
            Payload::Later { len_bytes: 1 << 20, encode: Box::new(|| [].into()) }
        }
    }

    #[test]
    fn values_that_are_encoded_on_the_worker_count_before_they_are() {
        let mut build = Build::new(1, Due::Oldest, Seq(9));
        let options = Options { batch_bytes_max: 2 << 20, ..Options::default() };
        for number in 0..2 {
            assert!(!build.is_full(&options), "{number} of them");
            let mut state = KeyState::default();
            state.mark_dirty();
            build.hand_over(&mut Large(state), Space(1), number, Seq(9));
        }
        assert!(build.is_full(&options));
        assert!(build.memory_bytes() >= 2 << 20);
    }
}
