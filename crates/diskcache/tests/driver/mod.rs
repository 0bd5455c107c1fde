//! A small stand-in for the cache: writes a fixed stream of groups to a store, checkpoints parts of
//! it, and knows what the state must be after any number of groups.
//!
//! Group number `g` is a function of `g` alone, so a process that is killed and one that looks on
//! agree about what was written.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use flintlock_diskcache::journal::{Group, OpKind, SpaceMap};
use flintlock_diskcache::key::{KeyBuf, KeyRef, Seq, Space};
use flintlock_diskcache::recovery::{OpenError, OpenOptions, OpenStore, open};
use flintlock_diskcache::storage::{Batch, Before, Meta, Record, Storage, StoreError, Write};

const KEYS: u64 = 400;

/// State of a key: the last operation on it and the value, if it is there.
pub(crate) type State = BTreeMap<KeyBuf, (Seq, Option<Vec<u8>>)>;

#[derive(Clone, Debug)]
enum Step {
    Put(u64, Vec<u8>),
    Append(u64, Vec<u8>),
    Delete(u64),
    /// The only database maps to a fresh space: all keys are gone.
    Flush,
}

pub(crate) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The steps of group `g`. Each but a flush writes two keys of a pair with one value, which no
/// crash may tear apart.
fn steps(g: u64) -> Vec<Step> {
    let draw = |i: u64| mix(g.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(i));
    if g.is_multiple_of(151) {
        return vec![Step::Flush];
    }
    let (a, b) = (draw(0) % KEYS, KEYS + draw(0) % KEYS);
    let len = usize::try_from(draw(1) % 3_000).expect("small");
    let value = vec![draw(2).to_le_bytes()[0]; len];
    match draw(3) % 8 {
        0 => vec![Step::Delete(a), Step::Delete(b)],
        1 | 2 => {
            vec![Step::Append(a, g.to_le_bytes().into()), Step::Append(b, g.to_le_bytes().into())]
        }
        _ => vec![Step::Put(a, value.clone()), Step::Put(b, value)],
    }
}

/// Operations in group `g`.
fn ops(g: u64) -> u64 {
    steps(g).len() as u64
}

fn key(space: Space, n: u64) -> KeyBuf {
    KeyRef { space, hash: mix(n), key: &n.to_be_bytes() }.to_buf()
}

/// The state after groups 1 to `groups`, the space then in use, and the last position.
pub(crate) fn expected(groups: u64) -> (State, Space, Seq) {
    let (mut state, mut space, mut seq) = (State::new(), Space(1), Seq(0));
    for g in 1..=groups {
        for step in steps(g) {
            seq = seq.next();
            match step {
                Step::Flush => {
                    space = Space(space.0 + 1);
                    state.clear();
                }
                Step::Put(n, value) => {
                    state.insert(key(space, n), (seq, Some(value)));
                }
                Step::Append(n, bytes) => {
                    let entry = state.entry(key(space, n)).or_insert((seq, None));
                    entry.0 = seq;
                    entry.1.get_or_insert_default().extend_from_slice(&bytes);
                }
                Step::Delete(n) => {
                    state.insert(key(space, n), (seq, None));
                }
            }
        }
    }
    state.retain(|_, (_, value)| value.is_some());
    (state, space, seq)
}

/// How many groups end at or before `seq`, which is the end of one.
pub(crate) fn groups_to(seq: Seq) -> u64 {
    let (mut g, mut at) = (0, 0);
    while at < seq.0 {
        g += 1;
        at += ops(g);
    }
    assert_eq!(at, seq.0, "a group was taken in part");
    g
}

/// A store in use.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) store: OpenStore,
    /// Keys that the engine does not have as they are now.
    pub(crate) dirty: State,
    pub(crate) space: Space,
    dead: Vec<Space>,
    /// Groups handed to the journal.
    pub(crate) groups: u64,
    meta: Meta,
}

impl Driver {
    pub(crate) fn open(root: &Path, options: &OpenOptions) -> Result<Self, OpenError> {
        let store = open(root, options)?;
        let (groups, meta) = (groups_to(store.report.end), store.meta.clone());
        let mut driver = Self {
            space: meta.spaces.first().copied().unwrap_or(Space(1)),
            dead: meta.dead.clone(),
            store,
            dirty: State::new(),
            groups,
            meta,
        };
        driver.replay()?;
        Ok(driver)
    }

    /// The replay rule: a change on top of a key's state needs that state first, and what the
    /// state includes already is left out.
    fn replay(&mut self) -> Result<(), OpenError> {
        while let Some(group) = self.store.replay.next_group()? {
            for op in group {
                let op = op?;
                if let OpKind::Meta(map) = &op.kind {
                    self.space = map.spaces[0];
                    self.dead = map.dead.clone();
                    self.dirty.clear();
                    continue;
                }
                let key = op.kind.key().expect("not a map").to_buf();
                if !self.dirty.contains_key(&key) {
                    let mut found = Vec::new();
                    self.store.engine.get_many(std::slice::from_ref(&key), &mut found)?;
                    if let Some(Some(record)) = found.pop() {
                        self.dirty.insert(key.clone(), (record.seq, Some(record.payload.to_vec())));
                    }
                }
                let entry = self.dirty.entry(key).or_insert((Seq(0), None));
                if op.seq <= entry.0 {
                    continue;
                }
                entry.0 = op.seq;
                match op.kind {
                    OpKind::Put { payload, .. } => entry.1 = Some(payload.to_vec()),
                    OpKind::Delta { bytes, .. } => {
                        entry.1.get_or_insert_default().extend_from_slice(bytes);
                    }
                    OpKind::Delete { .. } => entry.1 = None,
                    OpKind::Meta(_) => unreachable!("handled above"),
                }
            }
        }
        Ok(())
    }

    /// The whole state: the engine's, and what is dirty on top of it.
    pub(crate) fn state(&self) -> Result<State, StoreError> {
        let mut state = State::new();
        let mut from = KeyRef { space: self.space, hash: 0, key: b"" }.to_buf();
        loop {
            let mut part = Vec::new();
            self.store.engine.scan(&from, 100, 1 << 20, &mut part)?;
            let Some(last) = part.last() else { break };
            let next = last.key.as_ref();
            let longer = [next.key, b"\0"].concat();
            from = KeyRef { key: &longer, ..next }.to_buf();
            for item in part {
                let record = item.record;
                state.insert(item.key, (record.seq, Some(record.payload.to_vec())));
            }
        }
        state.extend(self.dirty.iter().map(|(k, v)| (k.clone(), v.clone())));
        state.retain(|_, (_, value)| value.is_some());
        Ok(state)
    }

    /// Panics unless the state is that after the groups that are there.
    pub(crate) fn check(&self) {
        let (want, space, seq) = expected(self.groups);
        assert_eq!(space, self.space, "the space after {} groups", self.groups);
        let mut tries = (0..3).map(|_| self.state());
        let state = tries.find_map(Result::ok).expect("a store that can be read in the end");
        let keys: BTreeSet<&KeyBuf> = state.keys().chain(want.keys()).collect();
        for key in keys {
            let (got, want) = (state.get(key), want.get(key));
            let groups = self.groups;
            let brief = |s: Option<&(Seq, Option<Vec<u8>>)>| {
                let (seq, value) = s?;
                Some((seq.0, value.as_ref().map(|v| (v.len(), v.first().copied()))))
            };
            let (brief_got, brief_want) = (brief(got), brief(want));
            assert!(
                got == want,
                "{key:?} after {groups} groups ({seq:?}): {brief_got:?}, not {brief_want:?}"
            );
        }
    }

    /// Hands the next group to the journal, which has it even when this fails. What has to be read
    /// first is read again until it can be.
    pub(crate) fn write(&mut self) -> Result<(), StoreError> {
        self.groups += 1;
        let mut group = Group::new(self.store.writer.next_seq());
        for step in steps(self.groups) {
            let seq = group.next_seq();
            let pushed = match &step {
                Step::Flush => self.flush(&mut group),
                Step::Put(n, value) => {
                    let key = key(self.space, *n);
                    self.dirty.insert(key.clone(), (seq, Some(value.clone())));
                    group.push_put(key.as_ref(), None, |out| out.extend_from_slice(value))
                }
                Step::Append(n, bytes) => {
                    let key = key(self.space, *n);
                    let mut tries = (0..5).map(|_| self.value(&key));
                    let value = tries.find_map(Result::ok).expect("a disk that answers in the end");
                    let mut value = value.unwrap_or_default();
                    value.extend_from_slice(bytes);
                    self.dirty.insert(key.clone(), (seq, Some(value)));
                    group.push_delta(key.as_ref(), |out| out.extend_from_slice(bytes))
                }
                Step::Delete(n) => {
                    let key = key(self.space, *n);
                    self.dirty.insert(key.clone(), (seq, None));
                    group.push_delete(key.as_ref())
                }
            };
            assert_eq!(pushed, Ok(seq));
        }
        self.store.writer.append(group)
    }

    fn flush(&mut self, group: &mut Group) -> Result<Seq, flintlock_diskcache::journal::TooLarge> {
        self.dead.push(self.space);
        self.space = Space(self.space.0 + 1);
        self.dirty.clear();
        let next_space = self.space.0 + 1;
        group.push_meta(&SpaceMap { spaces: vec![self.space], next_space, dead: self.dead.clone() })
    }

    fn value(&self, key: &KeyBuf) -> Result<Option<Vec<u8>>, StoreError> {
        if let Some((_, value)) = self.dirty.get(key) {
            return Ok(value.clone());
        }
        let mut found = Vec::new();
        self.store.engine.get_many(std::slice::from_ref(key), &mut found)?;
        Ok(found.pop().flatten().map(|record| record.payload.to_vec()))
    }

    /// Commits the dirty keys that `pick` draws, or all, once the journal is synced, and trims.
    pub(crate) fn checkpoint(&mut self, pick: u64) -> Result<(), StoreError> {
        let highest = self.store.writer.sync()?;
        let mut batch = Batch::default();
        let mut left = highest;
        for (key, (seq, value)) in &self.dirty {
            if pick != 0 && mix(pick ^ seq.0).is_multiple_of(3) {
                left = left.min(Seq(seq.0 - 1));
                continue;
            }
            let record = value.as_ref().map(|value| Record {
                seq: *seq,
                expires_at_ms: None,
                payload: value.as_slice().into(),
            });
            batch.writes.push(Write { key: key.clone(), record, before: Before::Unknown });
        }
        // What stays dirty may include operations from before its last one: the watermark may not
        // pass the first. This driver does not keep it, so anything left holds it where it was.
        let all = left == highest;
        self.meta.watermark = if all { highest } else { self.meta.watermark };
        self.meta.highest = highest;
        self.meta.spaces = vec![self.space];
        self.meta.next_space = self.space.0 + 1;
        self.meta.dead = self.dead.clone();
        batch.meta = self.meta.clone();
        let written: Vec<KeyBuf> = batch.writes.iter().map(|w| w.key.clone()).collect();
        let counts = self.store.engine.commit(batch)?;
        self.dead.retain(|space| counts.contains_key(space));
        if all {
            written.iter().for_each(|key| {
                self.dirty.remove(key);
            });
        }
        self.store.writer.trim(self.meta.watermark)?;
        Ok(())
    }

    pub(crate) fn maintain(&self) -> Result<bool, StoreError> {
        self.store.engine.maintain(Duration::ZERO)
    }
}
