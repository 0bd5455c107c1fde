//! Bytes of one record and of the store's own record, with their checksums. Pure; any thread.
//!
//! A record's checksum covers its key too, so a record that an engine returns for another key is
//! noticed. It is computed when a batch is committed and checked at every read: end to end,
//! whatever lies between. The tables are in docs/format.md.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::journal::record::crc;
use crate::key::{KEY_PREFIX_LEN, KeyBuf, KeyRef, Seq, Space};
use crate::storage::{ErrorKind, Meta, Record, StoreError};

/// Version in the high bits of a record's fifth byte.
const VERSION: u8 = 1 << 4;
const EXPIRING: u8 = 1;
const LONG_KEY: u8 = 2;

/// Engine keys are at most this long before the checksum of a long key's rest (lsm-tree allows
/// 65,535 bytes).
pub const ENGINE_KEY_MAX: usize = 60_000;
/// Largest payload: what is logged can be stored.
pub const PAYLOAD_MAX: usize = crate::journal::BODY_MAX;

/// The key as the engine stores it. A long key is cut, and its rest stands in the record: the
/// keyed hash in front keeps two keys with the same beginning apart, and a checksum of the rest
/// keeps a cut key apart from a short one.
#[must_use]
pub fn engine_key(disk: &[u8]) -> Cow<'_, [u8]> {
    let Some((head, rest)) = disk.split_at_checked(ENGINE_KEY_MAX).filter(|(_, r)| !r.is_empty())
    else {
        return disk.into();
    };
    let mut out = Vec::with_capacity(ENGINE_KEY_MAX + 4);
    out.extend_from_slice(head);
    out.extend_from_slice(&crc(&[rest]).to_be_bytes());
    out.into()
}

/// Where a scan from `disk` begins in the engine: at or before the key. Long keys with the same
/// beginning, hash included, are in no particular order; with a keyed hash there are none.
#[must_use]
pub fn scan_start(disk: &[u8]) -> &[u8] {
    &disk[..disk.len().min(ENGINE_KEY_MAX)]
}

fn rest_of(disk: &[u8]) -> &[u8] {
    disk.get(ENGINE_KEY_MAX..).unwrap_or_default()
}

/// Appends the bytes of a record of the key `disk` (on-disk form).
///
/// # Errors
/// [`ErrorKind::TooLarge`]; `out` is as before.
pub fn encode(disk: &[u8], record: &Record, out: &mut Vec<u8>) -> Result<(), StoreError> {
    let rest = rest_of(disk);
    let (Ok(rest_len), true) = (u32::try_from(rest.len()), record.payload.len() <= PAYLOAD_MAX)
    else {
        return Err(StoreError::new(ErrorKind::TooLarge, "encoding a record"));
    };
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    let expiring = record.expires_at_ms.map_or(0, |_| EXPIRING);
    let long = if rest.is_empty() { 0 } else { LONG_KEY };
    out.push(VERSION | expiring | long);
    out.extend_from_slice(&record.seq.0.to_le_bytes());
    if let Some(at) = record.expires_at_ms {
        out.extend_from_slice(&at.to_le_bytes());
    }
    if long != 0 {
        out.extend_from_slice(&rest_len.to_le_bytes());
        out.extend_from_slice(rest);
    }
    out.extend_from_slice(&record.payload);
    let sum = crc(&[disk, &out[start + 4..]]);
    out[start..start + 4].copy_from_slice(&sum.to_le_bytes());
    Ok(())
}

/// The expiry of a stored record, in milliseconds since the Unix epoch, unchecked: [`decode`] tells
/// whether the record is whole.
#[must_use]
pub fn expires_at_ms(bytes: &[u8]) -> Option<u64> {
    let (flags, tail) = bytes.get(4..)?.split_first()?;
    let at = tail.get(8..)?.first_chunk::<8>()?;
    (flags & EXPIRING != 0).then(|| u64::from_le_bytes(*at))
}

/// Reads a record that was stored under `engine_key`, with its whole key.
///
/// # Errors
/// [`ErrorKind::Corrupt`].
pub fn decode(engine_key: &[u8], bytes: &[u8]) -> Result<(KeyBuf, Record), StoreError> {
    let whole = decode_parts(engine_key, bytes);
    let owned = whole.and_then(|(disk, record)| Some((KeyBuf::from_disk(&disk)?, record)));
    owned.ok_or_else(|| StoreError::corrupt("checking a record"))
}

/// The whole key on disk, and its record.
fn decode_parts<'a>(engine_key: &'a [u8], bytes: &[u8]) -> Option<(Cow<'a, [u8]>, Record)> {
    let (sum, body) = bytes.split_first_chunk::<4>()?;
    let (flags, tail) = body.split_first()?;
    if flags & !(EXPIRING | LONG_KEY) != VERSION {
        return None;
    }
    let (seq, mut tail) = tail.split_first_chunk::<8>()?;
    let mut expires_at_ms = None;
    if flags & EXPIRING != 0 {
        let (at, rest) = tail.split_first_chunk::<8>()?;
        expires_at_ms = Some(u64::from_le_bytes(*at));
        tail = rest;
    }
    let mut disk = Cow::Borrowed(engine_key);
    if flags & LONG_KEY != 0 {
        let (len, rest) = tail.split_first_chunk::<4>()?;
        let (key_rest, rest) =
            rest.split_at_checked(usize::try_from(u32::from_le_bytes(*len)).ok()?)?;
        disk = [engine_key.get(..ENGINE_KEY_MAX)?, key_rest].concat().into();
        tail = rest;
    }
    if u32::from_le_bytes(*sum) != crc(&[&disk, body]) {
        return None;
    }
    let record =
        Record { seq: Seq(u64::from_le_bytes(*seq)), expires_at_ms, payload: Arc::from(tail) };
    Some((disk, record))
}

/// Reads the record of `disk`, which was stored under its engine key.
///
/// # Errors
/// [`ErrorKind::Corrupt`], also when it is the record of another key.
pub fn decode_of(disk: &[u8], bytes: &[u8]) -> Result<Record, StoreError> {
    let stored_under = engine_key(disk);
    let (key, record) = decode_parts(&stored_under, bytes)
        .ok_or_else(|| StoreError::corrupt("checking a record"))?;
    if *key != *disk {
        return Err(StoreError::corrupt("telling two long keys apart"));
    }
    Ok(record)
}

/// On-disk key of the store's own record.
#[must_use]
pub fn meta_key() -> KeyBuf {
    KeyRef { space: Space::META, hash: 0, key: b"meta" }.to_buf()
}

/// The payload of the store's own record; `commit` numbers the batches.
///
/// # Panics
/// If there are 4 Gi databases or more.
#[must_use]
pub fn encode_meta(meta: &Meta, commit: u64) -> Record {
    let count = |n: usize| u32::try_from(n).expect("fewer than 4 Gi entries").to_le_bytes();
    let mut out = Vec::new();
    out.extend_from_slice(&commit.to_le_bytes());
    out.extend_from_slice(&meta.watermark.0.to_le_bytes());
    out.extend_from_slice(&meta.highest.0.to_le_bytes());
    out.extend_from_slice(&meta.next_space.to_le_bytes());
    for list in [&meta.spaces, &meta.dead] {
        out.extend_from_slice(&count(list.len()));
        list.iter().for_each(|space| out.extend_from_slice(&space.0.to_le_bytes()));
    }
    out.extend_from_slice(&count(meta.counts.len()));
    for (space, records) in &meta.counts {
        out.extend_from_slice(&space.0.to_le_bytes());
        out.extend_from_slice(&records.to_le_bytes());
    }
    Record { seq: meta.highest, expires_at_ms: None, payload: out.into() }
}

/// Reads what [`encode_meta`] wrote.
///
/// # Errors
/// [`ErrorKind::Corrupt`].
pub fn decode_meta(record: &Record) -> Result<(Meta, u64), StoreError> {
    let mut bytes = &record.payload[..];
    let parsed = meta_parts(&mut bytes).filter(|_| bytes.is_empty());
    parsed.ok_or_else(|| StoreError::corrupt("reading the store's own record"))
}

fn meta_parts(bytes: &mut &[u8]) -> Option<(Meta, u64)> {
    fn u64_of(bytes: &mut &[u8]) -> Option<u64> {
        let (head, rest) = bytes.split_first_chunk::<8>()?;
        *bytes = rest;
        Some(u64::from_le_bytes(*head))
    }
    fn u32_of(bytes: &mut &[u8]) -> Option<u32> {
        let (head, rest) = bytes.split_first_chunk::<4>()?;
        *bytes = rest;
        Some(u32::from_le_bytes(*head))
    }
    let commit = u64_of(bytes)?;
    let mut meta = Meta { watermark: Seq(u64_of(bytes)?), ..Meta::default() };
    meta.highest = Seq(u64_of(bytes)?);
    meta.next_space = u32_of(bytes)?;
    for list in [&mut meta.spaces, &mut meta.dead] {
        for _ in 0..u32_of(bytes)? {
            list.push(Space(u32_of(bytes)?));
        }
    }
    let mut counts = BTreeMap::new();
    for _ in 0..u32_of(bytes)? {
        counts.insert(Space(u32_of(bytes)?), u64_of(bytes)?);
    }
    meta.counts = counts;
    Some((meta, commit))
}

/// The end of a space in engine order: the first key that is behind all of its keys.
#[must_use]
pub fn space_end(space: Space) -> Option<[u8; 4]> {
    space.0.checked_add(1).map(u32::to_be_bytes)
}

/// The space of an engine key; `None` for a key that is not ours.
#[must_use]
pub fn space_of(engine_key: &[u8]) -> Option<Space> {
    let prefix = engine_key.first_chunk::<KEY_PREFIX_LEN>()?.first_chunk::<4>()?;
    Some(Space(u32::from_be_bytes(*prefix)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(len: usize) -> KeyBuf {
        KeyRef { space: Space(3), hash: 0x0102_0304_0506_0708, key: &vec![b'k'; len] }.to_buf()
    }

    fn record(expires_at_ms: Option<u64>) -> Record {
        Record { seq: Seq(9), expires_at_ms, payload: Arc::from(&b"value"[..]) }
    }

    #[test]
    fn the_bytes_are_those_of_the_format_document() {
        let (key, mut out) = (key(1), Vec::new());
        encode(key.as_disk(), &record(Some(7)), &mut out).unwrap();
        assert_eq!(out[4..], *b"\x11\x09\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0value");
        let sum = crc(&[b"\0\0\0\x03\x01\x02\x03\x04\x05\x06\x07\x08k", &out[4..]]);
        assert_eq!(out[..4], sum.to_le_bytes());
    }

    #[test]
    fn records_round_trip_for_keys_of_every_kind() {
        for len in [0, 1, ENGINE_KEY_MAX - 12, ENGINE_KEY_MAX - 11, 70_000, 200_000] {
            for record in [record(None), record(Some(u64::MAX))] {
                let (key, mut out) = (key(len), Vec::new());
                encode(key.as_disk(), &record, &mut out).unwrap();
                let stored = engine_key(key.as_disk());
                assert!(stored.len() <= ENGINE_KEY_MAX + 4);
                assert_eq!(decode(&stored, &out).unwrap(), (key.clone(), record.clone()));
                assert_eq!(decode_of(key.as_disk(), &out).unwrap(), record);
            }
        }
    }

    #[test]
    fn a_cut_key_is_no_short_key_and_another_rest_is_noticed() {
        let (long, other) = (key(70_000), key(70_001));
        assert_ne!(engine_key(long.as_disk()), engine_key(other.as_disk()));
        let mut out = Vec::new();
        encode(long.as_disk(), &record(None), &mut out).unwrap();
        let error = decode_of(other.as_disk(), &out).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Corrupt);
    }

    #[test]
    fn any_flipped_bit_of_record_or_key_is_noticed() {
        let (key, mut out) = (key(3), Vec::new());
        encode(key.as_disk(), &record(Some(7)), &mut out).unwrap();
        for bit in 0..out.len() * 8 {
            let mut bad = out.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(key.as_disk(), &bad).is_err(), "bit {bit}");
        }
        for bit in 0..key.as_disk().len() * 8 {
            let mut bad = key.as_disk().to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&bad, &out).is_err(), "bit {bit} of the key");
        }
        for len in 0..out.len() {
            assert!(decode(key.as_disk(), &out[..len]).is_err());
        }
    }

    #[test]
    fn the_stores_own_record_round_trips() {
        let meta = Meta {
            watermark: Seq(5),
            highest: Seq(8),
            spaces: vec![Space(1), Space(4)],
            next_space: 5,
            dead: vec![Space(2)],
            counts: BTreeMap::from([(Space(1), 10), (Space(2), 3)]),
        };
        let record = encode_meta(&meta, 77);
        assert_eq!(decode_meta(&record).unwrap(), (meta, 77));
        let cut = Record { payload: Arc::from(&record.payload[..20]), ..record };
        assert_eq!(decode_meta(&cut).unwrap_err().kind, ErrorKind::Corrupt);
    }
}
