//! The decoders of what the engine stores: records and the store's own record.

use std::sync::Arc;

use flintlock_diskcache::key::{KeyRef, Seq, Space};
use flintlock_diskcache::storage::Record;
use flintlock_diskcache::storage::codec::{decode, decode_meta, decode_of, encode, engine_key};

/// Whatever the bytes: no panic, no allocation beyond the input, one form for each record, and no
/// record that differs from what was written.
///
/// # Panics
/// When one of these is not so.
pub fn record_decode(data: &[u8]) {
    let (split, data) = data.split_first().map_or((0, data), |(n, rest)| (usize::from(*n), rest));
    let (key, value) = data.split_at(split.min(data.len()));
    forged(key, value);
    damaged(key, value);
}

/// Bytes from anywhere under a key from anywhere.
fn forged(key: &[u8], value: &[u8]) {
    if let Ok((whole, record)) = decode(key, value) {
        let mut again = Vec::new();
        encode(whole.as_disk(), &record, &mut again).expect("it was no larger before");
        assert_eq!(again, value, "a record has one form");
        assert_eq!(&*engine_key(whole.as_disk()), key, "under one key");
    }
    let record = Record { seq: Seq(1), expires_at_ms: None, payload: Arc::from(value) };
    if let Ok((meta, _)) = decode_meta(&record) {
        let held = meta.spaces.len() + meta.dead.len() + meta.counts.len();
        assert!(held * 4 <= value.len(), "no more than the input can say");
    }
}

/// What was written, with one byte changed: noticed, always.
fn damaged(key: &[u8], value: &[u8]) {
    let hash = value.iter().fold(0u64, |h, b| h.rotate_left(5) ^ u64::from(*b));
    let key = KeyRef { space: Space(3), hash, key }.to_buf();
    let expires_at_ms = hash.is_multiple_of(2).then_some(hash);
    let record = Record { seq: Seq(hash >> 8), expires_at_ms, payload: Arc::from(value) };
    let mut bytes = Vec::new();
    encode(key.as_disk(), &record, &mut bytes).expect("a small record");
    assert_eq!(decode_of(key.as_disk(), &bytes).ok().as_ref(), Some(&record));
    let at = usize::try_from(hash % bytes.len() as u64).expect("an index");
    bytes[at] ^= 1 << (hash >> 61);
    assert!(decode_of(key.as_disk(), &bytes).is_err(), "byte {at} was changed");
}
