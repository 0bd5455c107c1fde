//! Reading every record of the engine, to find damage and to count anew.
//!
//! Worker. A damaged block makes the records in it unreadable, but not those behind it: the walk
//! leaps over the damage in growing steps of the hash and says between which keys it lies.

use std::collections::BTreeMap;

use crate::key::{KEY_PREFIX_LEN, Seq, Space};
use crate::storage::codec::{self, space_of};
use crate::storage::fjall::FjallStore;
use crate::storage::fjall::tree::FENCES;
use crate::storage::{Batch, StoreError};

/// First leap over a damage: a 2^24th of all hashes; each further one is twice as long.
const LEAP: u128 = 1 << 40;

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

impl FjallStore {
    /// Reads every record and checks it.
    ///
    /// # Errors
    /// The store's own record cannot be read. Other damage is part of what is found.
    pub fn verify(&self) -> Result<Verified, StoreError> {
        let highest = self.stored_meta()?.highest;
        let mut out = Verified::default();
        let mut at = Some([0; KEY_PREFIX_LEN]);
        let mut leap = LEAP;
        while let Some(from) = at {
            let mut last = from;
            match self.walk(&from, &mut last, highest, &mut out) {
                Ok(()) => break,
                Err(error) => {
                    leap = if last == from { leap * 2 } else { LEAP };
                    at = u128_of(&last).checked_add(leap).and_then(prefix_of);
                    let (from, to) = (place(&last), at.as_ref().map(place));
                    match out.damaged.last_mut().filter(|d| d.to == Some(from)) {
                        Some(longer) => longer.to = to,
                        None => out.damaged.push(Stretch { from, to, error }),
                    }
                }
            }
        }
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

    fn walk(
        &self,
        from: &[u8; KEY_PREFIX_LEN],
        last: &mut [u8; KEY_PREFIX_LEN],
        highest: Seq,
        out: &mut Verified,
    ) -> Result<(), StoreError> {
        for item in self.tree().range(from, None) {
            let (key, value) = item?;
            let fence = FENCES.iter().any(|fence| key[..] == fence[..]);
            let good = if fence { Ok(None) } else { codec::decode(&key, &value).map(Some) };
            if let (Some(prefix), true) = (key.first_chunk(), good.is_ok()) {
                *last = *prefix;
            }
            let Some((_, record)) = good? else { continue };
            let space = space_of(&key).ok_or(StoreError::corrupt("reading a key"))?;
            if space == Space::META {
                continue;
            }
            *out.records.entry(space).or_default() += 1;
            out.bytes += (key.len() + value.len()) as u64;
            out.ahead += u64::from(record.seq > highest);
        }
        Ok(())
    }
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
