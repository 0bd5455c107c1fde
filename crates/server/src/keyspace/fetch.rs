//! Fetching what a batch of keys will be looked up in: the buckets, then the entries, then the
//! values, so that the misses of one key overlap with those of the others.
//!
//! Main thread. Changes nothing but times: an entry is told by its tag alone, and may be that of
//! another key. Where a hash lies is worked out once, for its bucket; the later steps go on from
//! what the one before has found.

use std::sync::Arc;

use super::entry::{EntryRef, Slot, ValueRef, prefetch};
use super::segment::Bucket;
use super::table::Table;
use crate::util::prefetch::prefetch_value;

/// Keys fetched together: more than a core has misses under way.
pub(crate) const KEYS_MAX: usize = 32;

/// Keys of a batch that will be looked up.
#[derive(Debug)]
pub(crate) struct Fetch<'t> {
    /// The first `count` are set.
    sought: [Option<(&'t Bucket, u64)>; KEYS_MAX],
    count: usize,
}

impl<'t> Fetch<'t> {
    /// No key yet.
    pub(crate) fn new() -> Self {
        Self { sought: [None; KEYS_MAX], count: 0 }
    }

    /// Adds a key by its hash, and asks for its bucket. If there are [`KEYS_MAX`] already, the
    /// rest of those is asked for first.
    #[inline]
    pub(crate) fn add(&mut self, table: &'t Table, hash: u64) {
        if self.count == KEYS_MAX {
            self.values();
        }
        let bucket = table.bucket(hash);
        bucket.prefetch();
        self.sought[self.count] = Some((bucket, hash));
        self.count += 1;
    }

    /// Asks for the entries of the keys, and has none any more.
    pub(crate) fn entries(&mut self) {
        self.ask_entries();
    }

    /// Asks for the entries of the keys, then for their values, and has none any more.
    pub(crate) fn values(&mut self) {
        let (slots, count) = self.ask_entries();
        slots[..count].iter().flatten().for_each(|slot| ask_value(slot));
    }

    #[inline]
    fn ask_entries(&mut self) -> ([Option<&'t Slot>; KEYS_MAX], usize) {
        let count = std::mem::take(&mut self.count);
        let mut slots = [None; KEYS_MAX];
        for (slot, sought) in slots.iter_mut().zip(&self.sought[..count]) {
            *slot = sought.and_then(|(bucket, hash)| bucket.likely(hash));
            if let Some(slot) = slot {
                slot.prefetch();
            }
        }
        (slots, count)
    }
}

fn ask_value(slot: &Slot) {
    match slot.entry().map(EntryRef::value) {
        Some(ValueRef::Str(string)) => prefetch_value(string),
        Some(ValueRef::Big(string)) => prefetch(Arc::as_ptr(string)),
        Some(ValueRef::Object(object)) => prefetch(Arc::as_ptr(object)),
        Some(ValueRef::Int(_) | ValueRef::Absent) | None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::Hasher;
    use crate::keyspace::entry::NewValue;

    #[test]
    fn what_is_asked_for_is_what_will_be_found() {
        let hasher = Hasher::new(&[7; 16]);
        let mut table = Table::new(hasher);
        let names: Vec<_> = (0..10_000).map(|n| format!("key:{n}")).collect();
        for name in &names {
            table.insert(hasher.key(name.as_bytes()), NewValue::Int(1), None);
        }
        let mut hits = 0;
        for batch in names.chunks(KEYS_MAX) {
            let mut fetch = Fetch::new();
            batch.iter().for_each(|name| fetch.add(&table, hasher.hash(name.as_bytes())));
            let (slots, count) = fetch.ask_entries();
            assert_eq!((count, fetch.count), (batch.len(), 0));
            let asked = slots.map(|slot| slot.and_then(Slot::entry).map(EntryRef::key));
            hits +=
                asked.iter().zip(batch).filter(|(a, name)| **a == Some(name.as_bytes())).count();
        }
        assert!(hits > names.len() * 9 / 10, "{hits}: the stash and like tags are rare");
    }
}
