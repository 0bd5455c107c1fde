//! Strings as arrays of bits, the highest bit of a byte first; `bitfield` has numbers in them.
//!
//! Source: behaviour of redis-server 7.0.15.

use std::ops::Range;

use crate::resp::encode::Reply;
use crate::types::number::parse_i64;

use super::string::{patch, set_string};
use super::{Command, Ctx, Error, Flags, Keys, Request};

const WRITE: Flags = Flags::WRITE.or(Flags::DENYOOM);
const READ: Flags = Flags::READONLY;

/// The rows of this family.
pub(super) fn commands() -> Vec<Command> {
    vec![
        Command::new("setbit", setbit, 4, &[WRITE], Keys::ONE).growing(|request, len| {
            let end = offset_of(request.arg(2), 1).map_or(0, end_of_bit);
            end.saturating_sub(len(1))
        }),
        Command::new("getbit", getbit, 3, &[READ, Flags::FAST], Keys::ONE),
        Command::new("bitcount", bitcount, -2, &[READ], Keys::ONE),
        Command::new("bitpos", bitpos, -3, &[READ], Keys::ONE),
        Command::new("bitop", bitop, -4, &[WRITE], Keys::BEHIND_FIRST)
            .growing(|request, len| (3..request.len()).map(len).max().unwrap_or(0)),
    ]
}

/// The number of a bit, in units of so many; as in Redis one beyond 64 bits wraps around.
pub(super) fn offset_of(text: &[u8], unit: i64) -> Option<u64> {
    u64::try_from(parse_i64(text)?.wrapping_mul(unit)).ok()
}

/// As [`offset_of`], of a string that may be so long.
///
/// # Errors
/// One for a number that is none, and for one that is too large.
pub(super) fn checked_offset(ctx: &Ctx<'_>, text: &[u8], unit: i64) -> Result<u64, Error> {
    const NOT_OFFSET: Error = Error::fixed("ERR bit offset is not an integer or out of range");
    let offset = offset_of(text, unit).ok_or(NOT_OFFSET)?;
    let fits = offset / 8 < ctx.server.config.proto_max_bulk_len_bytes || ctx.is_replay();
    if fits { Ok(offset) } else { Err(NOT_OFFSET) }
}

/// How long a string is that ends with the byte of this bit.
pub(super) fn end_of_bit(offset: u64) -> usize {
    usize::try_from(offset / 8).unwrap_or(usize::MAX).saturating_add(1)
}

/// The byte that a bit is in, and the bit alone in a byte.
fn place(offset: u64) -> (usize, u8) {
    (end_of_bit(offset) - 1, 0x80 >> (offset % 8))
}

fn bit_of(string: &[u8], offset: u64) -> bool {
    let (at, bit) = place(offset);
    string.get(at).is_some_and(|byte| byte & bit != 0)
}

fn setbit(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let offset = checked_offset(ctx, request.arg(2), 1)?;
    let is_set = match parse_i64(request.arg(3)) {
        Some(0) => false,
        Some(1) => true,
        _ => return Err(Error::fixed("ERR bit is not an integer or out of range")),
    };
    let key = ctx.key(request, 1);
    let found = ctx.find(key);
    let digits = &mut itoa::Buffer::new();
    let string = found.map_or(Ok(&b""[..]), |loc| ctx.string(loc, digits))?;
    let (was_set, len) = (bit_of(string, offset), end_of_bit(offset));
    if found.is_none() || string.len() < len || was_set != is_set {
        patch(ctx, key, found, request, len, |string| {
            let (at, bit) = place(offset);
            string[at] = if is_set { string[at] | bit } else { string[at] & !bit };
            true
        })?;
    }
    reply.int(was_set.into());
    Ok(())
}

fn getbit(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let offset = checked_offset(ctx, request.arg(2), 1)?;
    let Some(loc) = ctx.read(ctx.key(request, 1)) else {
        reply.int(0);
        return Ok(());
    };
    reply.int(bit_of(ctx.string(loc, &mut itoa::Buffer::new())?, offset).into());
    Ok(())
}

/// What the ends of a range count; without a word it is bytes.
#[derive(Copy, Clone, Eq, PartialEq)]
enum Unit {
    Byte,
    Bit,
}

impl Unit {
    fn parse(word: Option<&[u8]>) -> Result<Self, Error> {
        match word.map(<[u8]>::to_ascii_lowercase).as_deref() {
            None | Some(b"byte") => Ok(Self::Byte),
            Some(b"bit") => Ok(Self::Bit),
            Some(_) => Err(Error::SYNTAX),
        }
    }

    /// The bits from `start` to `end` of a string of `len` bytes; both are part of it, and negative
    /// ones count from the end. One in front of the first is the first.
    fn range(self, start: i64, end: i64, len: usize) -> Range<u64> {
        let bits = if self == Self::Byte { 8 } else { 1 };
        // Strings are far shorter than 2^60 bytes.
        let total = len as i64 * 8 / bits;
        let place = |at: i64| if at < 0 { (at + total).max(0) } else { at };
        let (start, end) = (place(start), place(end).min(total - 1));
        if start > end { 0..0 } else { (start * bits) as u64..((end + 1) * bits) as u64 }
    }
}

/// Of the bytes that bits lie in: the range, and how many bits of the first and the last are not
/// among them, in front and behind. The range of bits is not empty.
fn bytes_of(bits: &Range<u64>) -> (Range<usize>, u32, u32) {
    let bytes = end_of_bit(bits.start) - 1..end_of_bit(bits.end - 1);
    (bytes, (bits.start % 8) as u32, 7 - ((bits.end - 1) % 8) as u32)
}

/// How many of these bits are set.
fn count(string: &[u8], bits: Range<u64>) -> u64 {
    if bits.is_empty() {
        return 0;
    }
    let (bytes, before, behind) = bytes_of(&bits);
    let part = &string[bytes];
    let (words, rest) = part.as_chunks::<8>();
    let words = words.iter().map(|word| u64::from(u64::from_ne_bytes(*word).count_ones()));
    let rest = rest.iter().map(|byte| u64::from(byte.count_ones()));
    let outside = (u32::from(part[0]) >> (8 - before)).count_ones()
        + (u32::from(part[part.len() - 1]) & ((1 << behind) - 1)).count_ones();
    words.sum::<u64>() + rest.sum::<u64>() - u64::from(outside)
}

/// The first of these bits that is set, or clear.
fn position(string: &[u8], bits: Range<u64>, is_set: bool) -> Option<u64> {
    if bits.is_empty() {
        return None;
    }
    let (bytes, before, behind) = bytes_of(&bits);
    let skipped = if is_set { 0x00 } else { 0xff };
    let (first, last) = (bytes.start, bytes.end - 1);
    let within = |at: usize| {
        let before = if at == first { 0xff >> before } else { 0xff };
        let behind = if at == last { 0xff << behind } else { 0xff };
        let sought = (string[at] ^ skipped) & before & behind;
        (sought != 0).then(|| at as u64 * 8 + u64::from(sought.leading_zeros()))
    };
    let between = || Some(first + 1 + first_other(string.get(first + 1..last)?, skipped)?);
    within(first).or_else(|| between().and_then(within)).or_else(|| within(last))
}

/// Where the first byte is that differs from `byte`.
fn first_other(bytes: &[u8], byte: u8) -> Option<usize> {
    let same = [byte; 64];
    let chunk = bytes.chunks(same.len()).position(|chunk| *chunk != same[..chunk.len()])?;
    let from = chunk * same.len();
    bytes[from..].iter().position(|b| *b != byte).map(|at| from + at)
}

fn bitcount(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let Some(loc) = ctx.read(ctx.key(request, 1)) else {
        reply.int(0);
        return Ok(());
    };
    let digits = &mut itoa::Buffer::new();
    let string = ctx.string(loc, digits)?;
    let bits = match request.len() {
        2 => Unit::Byte.range(0, -1, string.len()),
        4 | 5 => {
            let start = parse_i64(request.arg(2)).ok_or(Error::NOT_INTEGER)?;
            let end = parse_i64(request.arg(3)).ok_or(Error::NOT_INTEGER)?;
            // Before the word is looked at.
            if end < start && start < 0 {
                reply.int(0);
                return Ok(());
            }
            Unit::parse(request.get(4))?.range(start, end, string.len())
        }
        _ => return Err(Error::SYNTAX),
    };
    reply.int(count(string, bits).cast_signed());
    Ok(())
}

fn bitpos(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let is_set = match parse_i64(request.arg(2)).ok_or(Error::NOT_INTEGER)? {
        0 => false,
        1 => true,
        _ => return Err(Error::fixed("ERR The bit argument must be 1 or 0.")),
    };
    let Some(loc) = ctx.read(ctx.key(request, 1)) else {
        reply.int(if is_set { -1 } else { 0 });
        return Ok(());
    };
    let digits = &mut itoa::Buffer::new();
    let string = ctx.string(loc, digits)?;
    if request.len() > 6 {
        return Err(Error::SYNTAX);
    }
    let number = |at| request.get(at).map(|text| parse_i64(text).ok_or(Error::NOT_INTEGER));
    let start = number(3).transpose()?;
    let unit = Unit::parse(request.get(5))?;
    let end = number(4).transpose()?;
    let bits = unit.range(start.unwrap_or(0), end.unwrap_or(-1), string.len());
    // Where no end was given, zeros follow the string.
    let behind = (!is_set && end.is_none() && !bits.is_empty()).then_some(bits.end);
    let found = position(string, bits, is_set).or(behind);
    reply.int(found.map_or(-1, u64::cast_signed));
    Ok(())
}

/// What BITOP makes of several strings; short ones count as ending in zeros.
#[derive(Copy, Clone, Eq, PartialEq)]
enum Operation {
    And,
    Or,
    Xor,
    Not,
}

impl Operation {
    fn parse(word: &[u8]) -> Result<Self, Error> {
        match word.to_ascii_lowercase().as_slice() {
            b"and" => Ok(Self::And),
            b"or" => Ok(Self::Or),
            b"xor" => Ok(Self::Xor),
            b"not" => Ok(Self::Not),
            _ => Err(Error::SYNTAX),
        }
    }

    /// Puts the next string to the result of those before it.
    fn add(self, result: &mut Vec<u8>, string: &[u8]) {
        if result.len() < string.len() {
            result.resize(string.len(), 0);
        }
        let (common, rest) = result.split_at_mut(string.len());
        let pairs = common.iter_mut().zip(string);
        match self {
            Self::And => {
                pairs.for_each(|(byte, other)| *byte &= other);
                rest.fill(0);
            }
            Self::Or => pairs.for_each(|(byte, other)| *byte |= other),
            Self::Xor => pairs.for_each(|(byte, other)| *byte ^= other),
            Self::Not => unreachable!("it has one string"),
        }
    }
}

fn bitop(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let operation = Operation::parse(request.arg(1))?;
    if operation == Operation::Not && request.len() != 4 {
        return Err(Error::fixed("ERR BITOP NOT must be called with a single source key."));
    }
    let mut result = Vec::new();
    for index in 3..request.len() {
        let found = ctx.read(ctx.key(request, index));
        let digits = &mut itoa::Buffer::new();
        let string = found.map_or(Ok(&b""[..]), |loc| ctx.string(loc, digits))?;
        if index == 3 {
            result = string.to_vec();
        } else {
            operation.add(&mut result, string);
        }
    }
    if operation == Operation::Not {
        result.iter_mut().for_each(|byte| *byte = !*byte);
    }
    let (key, len) = (ctx.key(request, 2), result.len());
    ctx.check_size(len)?;
    if len == 0 {
        ctx.delete_key(key);
    } else {
        set_string(ctx, key, result, None);
    }
    reply.count(len);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bit by bit.
    fn bits_of(string: &[u8]) -> Vec<bool> {
        (0..string.len() as u64 * 8).map(|at| bit_of(string, at)).collect()
    }

    #[test]
    fn counts_and_positions_are_those_of_the_single_bits() {
        let mut strings: Vec<Vec<u8>> =
            vec![vec![], vec![0x00], vec![0xff], vec![0x81, 0x00, 0x42]];
        for (len, fill) in [(9, 0xff), (17, 0x00), (200, 0xff), (200, 0x00)] {
            let mut string = vec![fill; len];
            strings.push(string.clone());
            string[len - 2] ^= 0x10;
            strings.push(string);
        }
        for string in &strings {
            let bits = bits_of(string);
            let ends = [0, 1, 7, 8, 9, 63, 64, 71, 137, 1591, 1592, 1600];
            let ends = ends.into_iter().filter(|end| *end <= bits.len());
            for (start, end) in ends.clone().flat_map(|a| ends.clone().map(move |b| (a, b))) {
                if start > end {
                    continue;
                }
                let (range, part) = (start as u64..end as u64, &bits[start..end]);
                let set = part.iter().filter(|bit| **bit).count() as u64;
                assert_eq!(count(string, range.clone()), set, "{range:?} of {string:?}");
                for sought in [true, false] {
                    let first = part.iter().position(|bit| *bit == sought);
                    let first = first.map(|at| (start + at) as u64);
                    let found = position(string, range.clone(), sought);
                    assert_eq!(found, first, "{sought} in {range:?} of {string:?}");
                }
            }
        }
    }

    #[test]
    fn ranges_of_bits() {
        let cases = [
            (Unit::Byte, (0, -1, 3), 0..24),
            (Unit::Byte, (-2, 100, 3), 8..24),
            (Unit::Byte, (-9, -8, 3), 0..8),
            (Unit::Byte, (2, 1, 3), 0..0),
            (Unit::Byte, (0, -1, 0), 0..0),
            (Unit::Bit, (5, 5, 3), 5..6),
            (Unit::Bit, (-3, -1, 3), 21..24),
            (Unit::Bit, (i64::MIN, i64::MAX, 3), 0..24),
        ];
        for (unit, (start, end, len), bits) in cases {
            assert_eq!(unit.range(start, end, len), bits, "{start} {end} of {len}");
        }
    }
}
