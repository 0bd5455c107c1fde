//! Bytes of the store to values, checked. Pure; any thread.

use super::{SCORE, VERSION, kind, unzigzag};
use crate::types::list::End;
use crate::types::{Hash, List, Object, Rules, Score, Set, ZSet};
use std::error::Error;
use std::fmt;

/// A decoded value. Strings point into the input.
#[derive(Debug)]
pub enum Decoded<'a> {
    /// A string.
    String(&'a [u8]),
    /// A string that is kept as the integer it spells.
    Integer(i64),
    /// A collection.
    Object(Object),
}

/// Why bytes are no value. Offsets are from the start of the input.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum DecodeError {
    /// The version byte is one that this program does not know.
    Version(u8),
    /// The kind byte is one that this program does not know.
    Kind(u8),
    /// The input ends where more was announced.
    Truncated {
        /// Where the missing bytes should be.
        at: usize,
    },
    /// A varint has more bytes than its number needs, or more than 64 bits.
    Varint {
        /// Where it starts.
        at: usize,
    },
    /// A length or count exceeds what is left of the input.
    Length {
        /// Where it starts.
        at: usize,
    },
    /// The same field or member comes twice.
    Duplicate {
        /// Where the second one ends, or the last element if it is not known which it is.
        at: usize,
    },
    /// Elements are not in their order.
    Order {
        /// Where the one that is out of order ends.
        at: usize,
    },
    /// A score is not a number.
    Score {
        /// Where it starts.
        at: usize,
    },
    /// The width of a set of integers is none of 2, 4 and 8, or does not divide its length.
    Width(u8),
    /// Bytes follow the value.
    Trailing {
        /// Where they start.
        at: usize,
    },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => write!(f, "unknown version {version} of a stored value"),
            Self::Kind(kind) => write!(f, "unknown kind {kind} of a stored value"),
            Self::Truncated { at } => write!(f, "a stored value ends early, at byte {at}"),
            Self::Varint { at } => write!(f, "malformed number in a stored value at byte {at}"),
            Self::Length { at } => write!(f, "impossible length in a stored value at byte {at}"),
            Self::Duplicate { at } => write!(f, "repeated element in a stored value at byte {at}"),
            Self::Order { at } => write!(f, "unsorted element in a stored value at byte {at}"),
            Self::Score { at } => write!(f, "a stored score is not a number, at byte {at}"),
            Self::Width(width) => write!(f, "impossible integer width {width} in a stored set"),
            Self::Trailing { at } => write!(f, "a stored value should have ended at byte {at}"),
        }
    }
}

impl Error for DecodeError {}

/// Reads what [`super::encode`] wrote. Limits in `rules` that have been lowered since turn a small
/// form into the next one; raised limits change nothing.
///
/// # Errors
/// Any input that `encode` cannot have written; nothing of it is returned then. Never panics and
/// allocates no more than a small multiple of the input's length.
pub fn decode<'a>(bytes: &'a [u8], rules: &Rules) -> Result<Decoded<'a>, DecodeError> {
    let mut input = Reader { bytes, at: 0 };
    match input.byte()? {
        VERSION => {}
        version => return Err(DecodeError::Version(version)),
    }
    let object = match input.byte()? {
        kind::STRING => return Ok(Decoded::String(&bytes[input.at..])),
        kind::INTEGER => {
            let number = unzigzag(input.varint()?);
            input.finish()?;
            return Ok(Decoded::Integer(number));
        }
        kind::LIST => list(&mut input, rules)?.into(),
        kind::HASH_SMALL => hash_small(&mut input, rules)?.into(),
        kind::HASH_TABLE => hash_table(&mut input, rules)?.into(),
        kind::SET_INTS => set_ints(&mut input, rules)?.into(),
        kind::SET_SMALL => set_small(&mut input, rules)?.into(),
        kind::SET_TABLE => set_table(&mut input, rules)?.into(),
        kind::ZSET_SMALL => zset(&mut input, rules, true)?.into(),
        kind::ZSET_BIG => zset(&mut input, rules, false)?.into(),
        kind => return Err(DecodeError::Kind(kind)),
    };
    input.finish()?;
    Ok(Decoded::Object(object))
}

fn list(input: &mut Reader<'_>, rules: &Rules) -> Result<List, DecodeError> {
    let count = input.count(1)?;
    let mut list = List::new();
    for _ in 0..count {
        list.push(End::Back, input.string()?, rules);
    }
    Ok(list)
}

fn hash_small(input: &mut Reader<'_>, rules: &Rules) -> Result<Hash, DecodeError> {
    let count = input.count(2)?;
    let mut names = Vec::with_capacity(count);
    let mut hash = Hash::new();
    for _ in 0..count {
        let (field, value) = (input.string()?, input.string()?);
        names.push(field);
        hash.append(field, value, rules);
    }
    // Small hashes are appended without a look-up, which a later `set` would not survive.
    input.distinct(names)?;
    Ok(hash)
}

fn hash_table(input: &mut Reader<'_>, rules: &Rules) -> Result<Hash, DecodeError> {
    let count = input.count(2)?;
    let mut hash = Hash::new_table(rules, count);
    for _ in 0..count {
        let (field, value) = (input.string()?, input.string()?);
        if !hash.set(field, value, rules) {
            return Err(DecodeError::Duplicate { at: input.at });
        }
    }
    Ok(hash)
}

fn set_ints(input: &mut Reader<'_>, rules: &Rules) -> Result<Set, DecodeError> {
    let at = input.at;
    let bytes = input.rest();
    let Some((width, numbers)) = bytes.split_first() else { return Ok(Set::new()) };
    if !matches!(width, 2 | 4 | 8) || numbers.is_empty() || numbers.len() % usize::from(*width) != 0
    {
        return Err(DecodeError::Width(*width));
    }
    Set::from_int_bytes(bytes, rules).ok_or(DecodeError::Order { at })
}

fn set_small(input: &mut Reader<'_>, rules: &Rules) -> Result<Set, DecodeError> {
    let count = input.count(1)?;
    let mut names = Vec::with_capacity(count);
    let mut set = Set::new_small();
    for _ in 0..count {
        let member = input.string()?;
        names.push(member);
        set.append(member, rules);
    }
    input.distinct(names)?;
    Ok(set)
}

fn set_table(input: &mut Reader<'_>, rules: &Rules) -> Result<Set, DecodeError> {
    let count = input.count(1)?;
    let mut set = Set::new_table(rules, count);
    for _ in 0..count {
        if !set.add(input.string()?, rules) {
            return Err(DecodeError::Duplicate { at: input.at });
        }
    }
    Ok(set)
}

fn zset(input: &mut Reader<'_>, rules: &Rules, small: bool) -> Result<ZSet, DecodeError> {
    let count = input.count(1 + SCORE)?;
    let mut names = Vec::with_capacity(if small { count } else { 0 });
    let mut zset = if small { ZSet::new() } else { ZSet::new_big(rules, count) };
    let mut last: Option<(Score, &[u8])> = None;
    for _ in 0..count {
        let member = input.string()?;
        let at = input.at;
        let bytes: [u8; SCORE] = input.array()?;
        let score = Score::new(f64::from_le_bytes(bytes)).ok_or(DecodeError::Score { at })?;
        if last.is_some_and(|last| last >= (score, member)) {
            return Err(DecodeError::Order { at: input.at });
        }
        last = Some((score, member));
        if small {
            names.push(member);
            zset.append(member, score, rules);
        } else if !zset.insert(member, score, rules).is_added() {
            return Err(DecodeError::Duplicate { at: input.at });
        }
    }
    input.distinct(names)?;
    Ok(zset)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Result<u8, DecodeError> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let bytes = self.bytes[self.at..].first_chunk();
        let array = bytes.ok_or(DecodeError::Truncated { at: self.bytes.len() })?;
        self.at += N;
        Ok(*array)
    }

    /// All that is left.
    fn rest(&mut self) -> &'a [u8] {
        let rest = &self.bytes[self.at..];
        self.at = self.bytes.len();
        rest
    }

    fn varint(&mut self) -> Result<u64, DecodeError> {
        let start = self.at;
        let malformed = DecodeError::Varint { at: start };
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7F);
            if bits << shift >> shift != bits {
                return Err(malformed);
            }
            value |= bits << shift;
            if byte < 0x80 {
                // One way to write each number: no zeros at the end.
                return if byte == 0 && shift > 0 { Err(malformed) } else { Ok(value) };
            }
        }
        Err(malformed)
    }

    /// A number of elements of at least `element_min` bytes each, which must still be there.
    fn count(&mut self, element_min: usize) -> Result<usize, DecodeError> {
        let at = self.at;
        let count = self.varint()?;
        let most = (self.bytes.len() - self.at) / element_min;
        usize::try_from(count).ok().filter(|n| *n <= most).ok_or(DecodeError::Length { at })
    }

    fn string(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.count(1)?;
        let string = &self.bytes[self.at..self.at + len];
        self.at += len;
        Ok(string)
    }

    /// Fails unless no two of `names`, read up to here, are equal.
    fn distinct(&self, mut names: Vec<&[u8]>) -> Result<(), DecodeError> {
        names.sort_unstable();
        if names.is_sorted_by(|a, b| a != b) {
            Ok(())
        } else {
            Err(DecodeError::Duplicate { at: self.at })
        }
    }

    fn finish(&self) -> Result<(), DecodeError> {
        if self.at == self.bytes.len() {
            Ok(())
        } else {
            Err(DecodeError::Trailing { at: self.at })
        }
    }
}
