//! The keyspace as the disk cache sees it: one probe of an entry answers value, known absent or
//! unknown, and the entry keeps the save bits.
//!
//! Main thread, but for [`ServerDecode`], which the storage workers run. Must not journal: the
//! cache calls in here while it settles what was journalled long ago.

use std::ops::ControlFlow;
use std::sync::Arc;

use flintlock_diskcache::cache::flags::KeyState;
use flintlock_diskcache::cache::home::{self, Candidate, Forgot, Home, Known, Loaded, Payload};
use flintlock_diskcache::cache::job::{Decode, DecodeError};
use flintlock_diskcache::key::{KeyRef, Space};
use flintlock_diskcache::storage::Record;

use crate::garbage::Garbage;
use crate::keyspace::access::Access;
use crate::keyspace::entry::{Entry, EntryRef, NewValue, Value, ValueRef};
use crate::keyspace::fetch::{Fetch, KEYS_MAX};
use crate::keyspace::forgotten::Fact;
use crate::keyspace::table::Table;
use crate::keyspace::{Key, Keyspace};
use crate::types::Rules;
use crate::types::codec::{self, Decoded};

/// Values that take more bytes than this are encoded on a worker, from a shared snapshot.
const ENCODE_HERE_MAX: usize = 16 * 1024;

/// The save bits of an entry.
pub(super) fn state_of(entry: EntryRef<'_>) -> KeyState {
    KeyState::from_bits(entry.state()).expect("only the cache's own states are stored")
}

/// The value in the form that the store keeps.
pub(super) fn stored(value: ValueRef<'_>) -> Option<codec::Value<'_>> {
    match value {
        ValueRef::Absent => None,
        ValueRef::Int(n) => Some(codec::Value::Integer(n)),
        ValueRef::Str(s) => Some(codec::Value::String(s)),
        ValueRef::Big(s) => Some(codec::Value::String(s)),
        ValueRef::Object(object) => Some(codec::Value::Object(object)),
    }
}

/// What a walk wants to know of an entry.
fn fact_of(entry: EntryRef<'_>) -> Fact {
    let type_name = (!entry.is_absent()).then(|| crate::command::type_name(entry.value()));
    Fact { type_name, expires_at_ms: entry.expires_at_ms() }
}

/// An entry under `Home::visit`.
struct Visited<'a>(&'a mut Entry);

impl home::Entry for Visited<'_> {
    fn key(&self) -> &[u8] {
        self.0.get().key()
    }

    fn state(&self) -> KeyState {
        state_of(self.0.get())
    }

    fn set_state(&mut self, state: KeyState) {
        self.0.set_state(state.to_bits());
    }

    fn exists(&self) -> bool {
        !self.0.get().is_absent()
    }

    fn expires_at_ms(&self) -> Option<u64> {
        self.0.get().expires_at_ms()
    }

    fn encode(&self) -> Payload {
        match self.0.get().value() {
            ValueRef::Big(string) => {
                let string = Arc::clone(string);
                later(string.len(), move || codec::encode_to_vec(codec::Value::String(&string)))
            }
            ValueRef::Object(object) if object.memory_bytes() > ENCODE_HERE_MAX => {
                let object = Arc::clone(object);
                later(object.memory_bytes(), move || {
                    codec::encode_to_vec(codec::Value::Object(&object))
                })
            }
            value => {
                let value = stored(value).expect("asked only of entries that exist");
                Payload::Ready(codec::encode_to_vec(value).into())
            }
        }
    }
}

fn later(len_bytes: usize, encode: impl FnOnce() -> Vec<u8> + Send + 'static) -> Payload {
    Payload::Later { len_bytes, encode: Box::new(move || encode().into()) }
}

/// Ages and frequencies of entries, which the clock of the server's keyspace decides.
pub(crate) struct Resident<'a> {
    /// The keys.
    pub keyspace: &'a mut Keyspace,
    /// The clock of uses.
    pub access: &'a Access,
}

impl Resident<'_> {
    fn table_mut(&mut self, space: Space) -> Option<&mut Table> {
        let index = self.keyspace.db_of(space)?;
        Some(&mut self.keyspace.dbs[index].table)
    }
}

/// An entry as somebody who may be evicted.
pub(crate) fn candidate_of(
    access: &Access,
    space: Space,
    hash: u64,
    entry: EntryRef<'_>,
) -> Candidate {
    let used = entry.access();
    Candidate {
        space,
        hash,
        idle_ms: access.idle_ms(used),
        frequency: access.frequency(used),
        expires_at_ms: entry.expires_at_ms(),
    }
}

/// What the keyspace knows of a key.
pub(super) fn known(keyspace: &Keyspace, key: KeyRef<'_>) -> Known {
    let Some(db) = keyspace.db_of(key.space) else { return Known::Unknown };
    let table = &keyspace.dbs[db].table;
    match table.find(Key { bytes: key.key, hash: key.hash }) {
        None => Known::Unknown,
        Some(loc) if table.entry(loc).is_absent() => Known::Absent,
        Some(_) => Known::Value,
    }
}

/// Asks for the buckets of all of these keys, then for their entries.
pub(super) fn prefetch(keyspace: &Keyspace, keys: &[(Space, u64)]) {
    for batch in keys.chunks(KEYS_MAX) {
        let mut fetch = Fetch::new();
        for &(space, hash) in batch {
            if let Some(db) = keyspace.db_of(space) {
                fetch.add(&keyspace.dbs[db].table, hash);
            }
        }
        fetch.entries();
    }
}

/// Databases looked at in one sampling, and entries in each.
const SAMPLE_TRIES: usize = 16;

impl Home for Resident<'_> {
    type Value = Value;

    fn known(&self, key: KeyRef<'_>) -> Known {
        known(self.keyspace, key)
    }

    fn prefetch(&self, keys: &[(Space, u64)]) {
        prefetch(self.keyspace, keys);
    }

    fn visit(&mut self, space: Space, hash: u64, each: &mut dyn FnMut(&mut dyn home::Entry)) {
        let Some(table) = self.table_mut(space) else { return };
        let mut last = None;
        while let Some(loc) = table.next_of_hash(hash, last) {
            table.touch(loc, |entry| each(&mut Visited(entry)));
            last = Some(loc);
        }
    }

    fn insert(&mut self, key: KeyRef<'_>, loaded: Option<Loaded<Value>>, state: KeyState) {
        let fresh = self.access.fresh();
        let Some(table) = self.table_mut(key.space) else { return };
        let at = Key { bytes: key.key, hash: key.hash };
        let loc = match loaded {
            None => table.insert(at, NewValue::Absent, None),
            Some(mut loaded) => table.insert(at, loaded.value.lend(), loaded.expires_at_ms),
        };
        table.touch(loc, |entry| {
            entry.set_state(state.to_bits());
            entry.set_access(fresh);
        });
    }

    fn forget(&mut self, space: Space, hash: u64) -> Forgot {
        let mut forgot = Forgot::default();
        let Some(index) = self.keyspace.db_of(space) else { return forgot };
        let Keyspace { dbs, followers, evicted, .. } = &mut *self.keyspace;
        let table = &mut dbs[index].table;
        let mut kept = None;
        while let Some(loc) = table.next_of_hash(hash, kept) {
            if !state_of(table.entry(loc)).is_clean() {
                kept = Some(loc);
                continue;
            }
            // Places hold until an entry is removed.
            kept = None;
            let before = table.memory_bytes();
            let mut entry = table.remove(loc);
            let (key, fact) = (entry.get().key(), fact_of(entry.get()));
            followers.tell(space, key, fact);
            evicted.extend(entry.take_object().and_then(Garbage::take_apart));
            forgot.entries += 1;
            forgot.bytes += (before - table.memory_bytes().min(before)) as u64;
        }
        forgot
    }

    fn sample(&mut self, random: u64, want: usize, out: &mut Vec<Candidate>) {
        let dbs = &self.keyspace.dbs;
        let total: usize = self.keyspace.entry_count();
        if total == 0 {
            return;
        }
        // A database is as likely as it is large; the hash inside it is drawn apart from that.
        let mut pick = (random >> 32) as usize % total;
        let count = |table: &Table| table.counts().values + table.counts().absent;
        let db = dbs.used().find(|db| {
            let here = count(&db.table);
            let found = pick < here;
            pick = pick.saturating_sub(here);
            found
        });
        let Some(db) = db else { return };
        let hash = random.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut left = want;
        db.table.sample(hash, want * SAMPLE_TRIES, |entry| {
            if state_of(entry).is_clean() {
                left -= 1;
                let hash = self.keyspace.hasher().hash(entry.key());
                out.push(candidate_of(self.access, db.space, hash, entry));
            }
            if left > 0 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
    }

    fn candidate(&mut self, space: Space, hash: u64) -> Option<Candidate> {
        let table = &self.keyspace.dbs[self.keyspace.db_of(space)?].table;
        let mut entries = table.of_hash(hash).map(|loc| table.entry(loc));
        let entry = entries.find(|entry| state_of(*entry).is_clean())?;
        Some(candidate_of(self.access, space, hash, entry))
    }

    fn memory_bytes(&self) -> u64 {
        self.keyspace.memory_bytes() as u64
    }

    fn entry_count(&self) -> u64 {
        self.keyspace.entry_count() as u64
    }

    fn absent_count(&self) -> Option<u64> {
        Some(self.keyspace.absent_count() as u64)
    }
}

/// Makes values of records, on the workers, so that the main thread only links them in.
#[derive(Clone, Debug)]
pub(crate) struct ServerDecode {
    /// Limits and secret for the collections.
    pub rules: Rules,
}

impl Decode for ServerDecode {
    type Value = Value;

    fn decode(&self, _: KeyRef<'_>, record: &Record) -> Result<Value, DecodeError> {
        value_of(&record.payload, &self.rules)
    }
}

/// The value of a payload.
///
/// # Errors
/// The payload was not written by us.
pub(super) fn value_of(payload: &[u8], rules: &Rules) -> Result<Value, DecodeError> {
    match codec::decode(payload, rules) {
        Ok(Decoded::Integer(number)) => Ok(Value::Int(number)),
        Ok(Decoded::String(bytes)) => Ok(Value::Str(bytes.to_vec())),
        Ok(Decoded::Object(object)) => Ok(Value::Object(Arc::new(object))),
        Err(_) => Err(DecodeError("the value does not decode")),
    }
}

#[cfg(test)]
mod tests {
    use flintlock_diskcache::storage::Before;

    use super::*;
    use crate::keyspace::Hasher;
    use crate::types::list::End;
    use crate::types::{HashKey, List, Parts};

    /// Freeing a large value takes long, and the bytes are as good as free at once.
    #[test]
    fn a_large_value_that_is_forgotten_is_freed_by_others() {
        let (mut keyspace, access) = (Keyspace::new(1, Hasher::new(&[1; 16])), Access::new(0, 1));
        let rules = Rules::new(HashKey::new([2; 16]));
        let state = KeyState::new(Before::Present).to_bits();
        let (space, hasher) = (keyspace.dbs[0].space, keyspace.hasher());
        for (name, items, is_late) in [("small", 10_u32, false), ("large", 10_000, true)] {
            let key = hasher.key(name.as_bytes());
            let mut list = List::new();
            for item in 0..items {
                list.push(End::Back, &item.to_le_bytes(), &rules);
            }
            let bytes = list.memory_bytes();
            let table = &mut keyspace.dbs[0].table;
            let loc = table.insert(key, NewValue::Object(Arc::new(list.into())), None);
            table.touch(loc, |entry| entry.set_state(state));
            let before = keyspace.memory_bytes();
            let mut home = Resident { keyspace: &mut keyspace, access: &access };
            let forgot = home.forget(space, key.hash);
            assert_eq!(forgot.entries, 1);
            assert!(forgot.bytes as usize >= bytes && bytes > 0);
            assert!(keyspace.memory_bytes() <= before - bytes, "it no longer counts as a key's");
            let waiting: usize =
                keyspace.evicted.drain(..).map(|parts| Parts::memory_bytes(&parts)).sum();
            assert_eq!(waiting > 0, is_late, "{name}: {waiting} of {bytes}");
        }
    }
}
