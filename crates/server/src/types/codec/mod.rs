//! Values as bytes for the disk store, and back. Pure; any thread.
//!
//! A record is a version byte, a kind byte and the kind's payload:
//! | kind | value | payload |
//! |---|---|---|
//! | 0 | string | the bytes |
//! | 1 | integer | zigzag varint |
//! | 2 | list | count, then that many strings from front to back |
//! | 3, 4 | hash, small or a table | count, then field and value of each |
//! | 5 | set of integers | width (2, 4, 8), then ascending integers, little-endian |
//! | 6, 7 | set, small or a table | count, then the members |
//! | 8, 9 | sorted set, small or big | count, then member and score (8 bytes, little-endian) in order |
//!
//! Counts and lengths are LEB128 varints; a string is its length and its bytes. The kind tells
//! the form apart because OBJECT ENCODING must not change when a value has been away. The format
//! does not follow the layout in memory, so that can change without a new version.
//!
//! Encoding needs 16 KiB whatever the size of the value: pieces go to a sink as they come, and
//! [`encoded_len`] tells the sum beforehand. Decoding trusts nothing: it checks every length,
//! count and order, refuses what our own encoder would not have written, and never allocates
//! before it has seen the bytes that ask for it.

mod decode;
#[cfg(test)]
mod tests;

pub use decode::{DecodeError, Decoded, decode};

use super::set::SetForm;
use super::{Hash, List, Object, Set, ZSet};
use std::convert::Infallible;

/// The version that is written; older ones, if there were any, could still be read.
const VERSION: u8 = 1;
/// Bytes gathered before they go to the sink.
const BUFFER: usize = 16 * 1024;
/// Bytes of a score.
const SCORE: usize = 8;

/// Kind bytes; see the module documentation.
mod kind {
    pub(super) const STRING: u8 = 0;
    pub(super) const INTEGER: u8 = 1;
    pub(super) const LIST: u8 = 2;
    pub(super) const HASH_SMALL: u8 = 3;
    pub(super) const HASH_TABLE: u8 = 4;
    pub(super) const SET_INTS: u8 = 5;
    pub(super) const SET_SMALL: u8 = 6;
    pub(super) const SET_TABLE: u8 = 7;
    pub(super) const ZSET_SMALL: u8 = 8;
    pub(super) const ZSET_BIG: u8 = 9;
}

/// A value to be encoded.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// A string.
    String(&'a [u8]),
    /// A string that is kept as the integer it spells.
    Integer(i64),
    /// A collection.
    Object(&'a Object),
}

/// The exact length that [`encode`] will write. Linear in the number of elements, which are not
/// copied.
#[must_use]
pub fn encoded_len(value: Value<'_>) -> usize {
    2 + match value {
        Value::String(bytes) => bytes.len(),
        Value::Integer(number) => varint_len(zigzag(number)),
        Value::Object(object) => {
            // A set of integers knows its length; everything else begins with its count.
            let count = varint_len(object.len() as u64);
            match object {
                Object::List(list) => count + list.iter().map(string_len).sum::<usize>(),
                Object::Hash(hash) => {
                    count + hash.iter().map(|(f, v)| string_len(f) + string_len(v)).sum::<usize>()
                }
                Object::Set(set) => match set.form() {
                    SetForm::Ints(bytes) => bytes.len(),
                    SetForm::Small | SetForm::Table => {
                        let member = |m: super::Member<'_>| m.with_bytes(string_len);
                        count + set.iter().map(member).sum::<usize>()
                    }
                },
                Object::ZSet(zset) => {
                    count + zset.iter().map(|(m, _)| string_len(m) + SCORE).sum::<usize>()
                }
            }
        }
    }
}

/// Writes `value` to `sink` in pieces: of up to 16 KiB, or longer ones that are parts of the value
/// itself.
///
/// # Errors
/// The first error of the sink, after which nothing more is written.
///
/// # Examples
/// ```
/// use flintlock_server::types::codec::{Decoded, Value, decode, encode, encoded_len};
/// use flintlock_server::types::{HashKey, Rules};
/// let value = Value::String(b"flint");
/// let mut bytes = Vec::with_capacity(encoded_len(value));
/// encode(value, |piece| Ok::<(), ()>(bytes.extend_from_slice(piece))).unwrap();
/// let rules = Rules::new(HashKey::new([7; 16]));
/// assert!(matches!(decode(&bytes, &rules), Ok(Decoded::String(b"flint"))));
/// ```
pub fn encode<E>(value: Value<'_>, mut sink: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
    if let Value::String(bytes) = value {
        // What nearly every write logs: no buffer in between.
        sink(&[VERSION, kind::STRING])?;
        return sink(bytes);
    }
    let mut out = Writer { buffer: Vec::with_capacity(64), sink };
    match value {
        Value::String(_) => {}
        Value::Integer(number) => {
            out.put(&[VERSION, kind::INTEGER])?;
            out.varint(zigzag(number))?;
        }
        Value::Object(Object::List(list)) => encode_list(list, &mut out)?,
        Value::Object(Object::Hash(hash)) => encode_hash(hash, &mut out)?,
        Value::Object(Object::Set(set)) => encode_set(set, &mut out)?,
        Value::Object(Object::ZSet(zset)) => encode_zset(zset, &mut out)?,
    }
    out.flush()
}

/// What TYPE prints of an encoded value, from its first bytes; "none" for what is no value.
#[must_use]
pub const fn type_name(bytes: &[u8]) -> &'static str {
    match bytes {
        [VERSION, kind::STRING | kind::INTEGER, ..] => "string",
        [VERSION, kind::LIST, ..] => "list",
        [VERSION, kind::HASH_SMALL | kind::HASH_TABLE, ..] => "hash",
        [VERSION, kind::SET_INTS | kind::SET_SMALL | kind::SET_TABLE, ..] => "set",
        [VERSION, kind::ZSET_SMALL | kind::ZSET_BIG, ..] => "zset",
        _ => "none",
    }
}

/// Appends the encoded value.
pub fn encode_into(value: Value<'_>, out: &mut Vec<u8>) {
    let Ok(()) = encode(value, |piece| {
        out.extend_from_slice(piece);
        Ok::<(), Infallible>(())
    });
}

/// The encoded value in one buffer of exactly its length.
#[must_use]
pub fn encode_to_vec(value: Value<'_>) -> Vec<u8> {
    let len = encoded_len(value);
    let mut bytes = Vec::with_capacity(len);
    encode_into(value, &mut bytes);
    debug_assert_eq!(bytes.len(), len);
    bytes
}

fn encode_list<E, S: FnMut(&[u8]) -> Result<(), E>>(
    list: &List,
    out: &mut Writer<S>,
) -> Result<(), E> {
    out.head(kind::LIST, list.len())?;
    list.iter().try_for_each(|item| out.string(item))
}

fn encode_hash<E, S: FnMut(&[u8]) -> Result<(), E>>(
    hash: &Hash,
    out: &mut Writer<S>,
) -> Result<(), E> {
    let kind = if hash.is_small() { kind::HASH_SMALL } else { kind::HASH_TABLE };
    out.head(kind, hash.len())?;
    hash.iter().try_for_each(|(field, value)| {
        out.string(field)?;
        out.string(value)
    })
}

fn encode_set<E, S: FnMut(&[u8]) -> Result<(), E>>(
    set: &Set,
    out: &mut Writer<S>,
) -> Result<(), E> {
    let kind = match set.form() {
        SetForm::Ints(bytes) => {
            out.put(&[VERSION, kind::SET_INTS])?;
            return out.put(bytes);
        }
        SetForm::Small => kind::SET_SMALL,
        SetForm::Table => kind::SET_TABLE,
    };
    out.head(kind, set.len())?;
    set.iter().try_for_each(|member| member.with_bytes(|bytes| out.string(bytes)))
}

fn encode_zset<E, S: FnMut(&[u8]) -> Result<(), E>>(
    zset: &ZSet,
    out: &mut Writer<S>,
) -> Result<(), E> {
    let kind = if zset.is_small() { kind::ZSET_SMALL } else { kind::ZSET_BIG };
    out.head(kind, zset.len())?;
    zset.iter().try_for_each(|(member, score)| {
        out.string(member)?;
        out.put(&score.get().to_le_bytes())
    })
}

/// Gathers small writes for the sink.
struct Writer<S> {
    buffer: Vec<u8>,
    sink: S,
}

impl<E, S: FnMut(&[u8]) -> Result<(), E>> Writer<S> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), E> {
        if self.buffer.len() + bytes.len() > BUFFER {
            self.flush()?;
        }
        if bytes.len() > BUFFER {
            return (self.sink)(bytes);
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    fn varint(&mut self, mut value: u64) -> Result<(), E> {
        let mut bytes = [0; 10];
        let mut len = 0;
        while value >= 0x80 {
            bytes[len] = value as u8 | 0x80;
            value >>= 7;
            len += 1;
        }
        bytes[len] = value as u8;
        self.put(&bytes[..=len])
    }

    fn string(&mut self, bytes: &[u8]) -> Result<(), E> {
        self.varint(bytes.len() as u64)?;
        self.put(bytes)
    }

    fn head(&mut self, kind: u8, count: usize) -> Result<(), E> {
        self.put(&[VERSION, kind])?;
        self.varint(count as u64)
    }

    fn flush(&mut self) -> Result<(), E> {
        if !self.buffer.is_empty() {
            (self.sink)(&self.buffer)?;
            self.buffer.clear();
        }
        Ok(())
    }
}

/// Maps integers of small magnitude to small numbers.
const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// The inverse of [`zigzag`].
const fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

const fn varint_len(value: u64) -> usize {
    // Seven bits a byte, and at least one byte.
    (70 - (value | 1).leading_zeros() as usize) / 7
}

const fn string_len(bytes: &[u8]) -> usize {
    varint_len(bytes.len() as u64) + bytes.len()
}
