//! Reading every record of the engine, to find damage and to count anew.
//!
//! Worker. A damaged block makes the records in it unreadable, and those of other tables between
//! them, but not those behind it: the walk leaps over the damage in growing steps of the hash,
//! comes back in halves to the first place that can be read, and says between which keys it lies.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::ControlFlow;
use std::path::Path;

use crate::key::{KEY_PREFIX_LEN, KeyBuf, Space};
use crate::storage::codec::{self, space_of};
use crate::storage::fjall::tree::{FENCES, Shared, Tree};
use crate::storage::fjall::{FjallOptions, FjallStore, lookup, read_meta};
use crate::storage::{Batch, Meta, Record, StoreError};

/// What a walk over all records found.
#[derive(Debug, Default)]
pub struct Verified {
    /// Good records of each space.
    pub records: BTreeMap<Space, u64>,
    /// Bytes of good records.
    pub bytes: u64,
    /// Records that include operations behind the highest one of the store's own record.
    pub ahead: u64,
    /// Stretches in which records cannot be read.
    pub damaged: Vec<Stretch>,
}

/// A stretch of keys, between a space and hash that could be read and one behind it.
#[derive(Debug)]
pub struct Stretch {
    /// The last that could be read before it.
    pub from: (Space, u64),
    /// Where reading goes on; `None` when nothing behind it can be read.
    pub to: Option<(Space, u64)>,
    /// Why.
    pub error: StoreError,
}

impl fmt::Display for Stretch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "between {}/{:016x} and ", self.from.0.0, self.from.1)?;
        match self.to {
            Some((space, hash)) => write!(f, "{}/{hash:016x}: {}", space.0, self.error),
            None => write!(f, "the end: {}", self.error),
        }
    }
}

/// An engine that may be damaged in any part, to be read and not written.
pub(crate) struct Remains(Tree);

impl Remains {
    /// Opens the engine in `path`.
    ///
    /// # Errors
    /// There is none, or the list of its tables or one of them cannot be opened.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        if !FjallStore::exists(path) {
            return Err(StoreError::corrupt("looking for the engine"));
        }
        Tree::open(path, &Shared::new(FjallOptions::default())).map(Self)
    }

    /// The store's own record.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn meta(&self) -> Result<Meta, StoreError> {
        read_meta(&self.0).map(|(meta, _)| meta)
    }

    /// The record of a key.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn get(&self, key: &KeyBuf) -> Result<Option<Record>, StoreError> {
        lookup(&self.0, key)
    }

    /// Shows `each` every good record, until it breaks; returns where there may be others.
    pub(crate) fn records(
        &self,
        each: &mut dyn FnMut(KeyBuf, Record) -> ControlFlow<()>,
    ) -> Vec<Stretch> {
        read_all(&self.0, &mut |key, record, _| each(key, record))
    }
}

impl FjallStore {
    /// Reads every record and checks it.
    ///
    /// # Errors
    /// The store's own record cannot be read. Other damage is part of what is found.
    pub fn verify(&self) -> Result<Verified, StoreError> {
        let highest = self.stored_meta()?.highest;
        let mut out = Verified::default();
        out.damaged = read_all(&self.tree(), &mut |key, record, len_bytes| {
            *out.records.entry(key.as_ref().space).or_default() += 1;
            out.bytes += len_bytes as u64;
            out.ahead += u64::from(record.seq > highest);
            ControlFlow::Continue(())
        });
        Ok(out)
    }

    /// Counts the records anew and stores the counts; for a store that is otherwise whole.
    ///
    /// # Errors
    /// A read or write failed, or a record is damaged; the counts are as before.
    pub fn recount(&self) -> Result<(), StoreError> {
        let found = self.verify()?;
        if let Some(stretch) = found.damaged.into_iter().next() {
            return Err(stretch.error);
        }
        self.set_counts(found.records);
        let meta = self.stored_meta()?;
        let batch = Batch { writes: Vec::new(), meta };
        crate::storage::Storage::commit(self, batch).map(|_| ())
    }
}

/// What is shown of a record: its key, itself, and the bytes that both take.
type Each<'a> = dyn FnMut(KeyBuf, Record, usize) -> ControlFlow<()> + 'a;

fn read_all(tree: &Tree, each: &mut Each<'_>) -> Vec<Stretch> {
    let mut damaged = Vec::new();
    let mut from = Some([0; KEY_PREFIX_LEN]);
    while let Some(mut last) = from {
        let Err(error) = read_from(tree, &mut last, each) else { break };
        from = next_readable(tree, &last);
        damaged.push(Stretch { from: place(&last), to: from.as_ref().map(place), error });
    }
    damaged
}

/// Reads from `last` on, which follows the records, up to the first that cannot be read.
fn read_from(
    tree: &Tree,
    last: &mut [u8; KEY_PREFIX_LEN],
    each: &mut Each<'_>,
) -> Result<(), StoreError> {
    for item in tree.range(&last.clone(), None) {
        let (key, value) = item?;
        let fence = FENCES.iter().any(|fence| key[..] == fence[..]);
        let good = if fence { None } else { Some(codec::decode(&key, &value)?) };
        if let Some(prefix) = key.first_chunk() {
            *last = *prefix;
        }
        let Some((whole_key, record)) = good else { continue };
        let space = space_of(&key).ok_or(StoreError::corrupt("reading a key"))?;
        if space != Space::META
            && each(whole_key, record, key.len() + value.len()) == ControlFlow::Break(())
        {
            break;
        }
    }
    Ok(())
}

/// The first place behind `last` from which the next record can be read.
fn next_readable(tree: &Tree, last: &[u8; KEY_PREFIX_LEN]) -> Option<[u8; KEY_PREFIX_LEN]> {
    let is_good = |at: &[u8; KEY_PREFIX_LEN]| match tree.range(at, None).next() {
        Some(Ok((key, value))) => {
            FENCES.iter().any(|fence| key[..] == fence[..]) || codec::decode(&key, &value).is_ok()
        }
        Some(Err(_)) => false,
        None => true,
    };
    let (mut bad, mut leap) = (u128_of(last), 1);
    let mut good = loop {
        let at = bad + leap;
        if is_good(&prefix_of(at)?) {
            break at;
        }
        (bad, leap) = (at, leap * 2);
    };
    while good - bad > 1 {
        let middle = bad + (good - bad) / 2;
        if is_good(&prefix_of(middle)?) {
            good = middle;
        } else {
            bad = middle;
        }
    }
    prefix_of(good)
}

fn u128_of(prefix: &[u8; KEY_PREFIX_LEN]) -> u128 {
    prefix.iter().fold(0, |n, byte| n << 8 | u128::from(*byte))
}

fn prefix_of(n: u128) -> Option<[u8; KEY_PREFIX_LEN]> {
    let bytes = n.to_be_bytes();
    let (over, prefix) = bytes.split_at(bytes.len() - KEY_PREFIX_LEN);
    over.iter().all(|b| *b == 0).then(|| prefix.try_into().ok()).flatten()
}

fn place(prefix: &[u8; KEY_PREFIX_LEN]) -> (Space, u64) {
    let n = u128_of(prefix);
    let space = u32::try_from(n >> 64).expect("a prefix has 96 bits");
    let hash = u64::try_from(n & u128::from(u64::MAX)).expect("the low 64 bits");
    (Space(space), hash)
}
