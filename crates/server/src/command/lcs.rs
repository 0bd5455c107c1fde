//! LCS: the longest common subsequence of two strings.
//!
//! Redis keeps a number of 32 bits for each pair of bytes, and refuses what would be too many of
//! them. The same is refused here, while two rows of the numbers are kept, and one bit for each
//! pair: it says where a walk back from the end turns.
//!
//! Source: behaviour of redis-server 7.0.15.

use std::ops::Range;

use crate::keyspace::table::Loc;
use crate::resp::encode::Reply;
use crate::types::number::parse_i64;

use super::{Command, Ctx, Error, Flags, Keys, Request};

/// The rows of this family.
pub(super) fn commands() -> Vec<Command> {
    vec![Command::new("lcs", lcs, -3, &[Flags::READONLY], Keys::TWO)]
}

/// What is asked for.
#[derive(Default)]
struct Asked {
    len: bool,
    ranges: bool,
    with_lengths: bool,
    /// Ranges that are shorter are left out.
    len_min: usize,
}

impl Asked {
    fn parse(request: &Request<'_>) -> Result<Self, Error> {
        let mut asked = Self::default();
        let mut rest = request.from(3);
        while let Some(word) = rest.next() {
            match word.to_ascii_lowercase().as_slice() {
                b"idx" => asked.ranges = true,
                b"len" => asked.len = true,
                b"withmatchlen" => asked.with_lengths = true,
                b"minmatchlen" => {
                    let len = parse_i64(rest.next().ok_or(Error::SYNTAX)?);
                    asked.len_min = usize::try_from(len.ok_or(Error::NOT_INTEGER)?).unwrap_or(0);
                }
                _ => return Err(Error::SYNTAX),
            }
        }
        if asked.ranges && asked.len {
            return Err(Error::fixed(
                "ERR If you want both the length and indexes, please just use IDX.",
            ));
        }
        Ok(asked)
    }
}

/// Two strings compared.
struct Compared<'a> {
    a: &'a [u8],
    b: &'a [u8],
    /// Length of what they have in common.
    len: u32,
    /// For each pair of bytes, by `a` and then by `b`: whether what is common lies in front of the
    /// byte of `a` rather than of that of `b`, where the two differ.
    turns: Vec<u64>,
}

impl<'a> Compared<'a> {
    /// Compares them; without `turns` only the length is found.
    fn new(a: &'a [u8], b: &'a [u8], turns: bool) -> Self {
        let mut compared = Self { a, b, len: 0, turns: Vec::new() };
        if turns {
            compared.turns = vec![0; (a.len() * b.len()).div_ceil(64)];
        }
        // Of the prefixes of `b` with `a` as far as it was gone through; the empty one in front.
        let mut row = vec![0_u32; b.len() + 1];
        for (i, byte) in a.iter().enumerate() {
            // What the row had one place before.
            let mut corner = 0;
            for (j, other) in b.iter().enumerate() {
                let (above, left) = (row[j + 1], row[j]);
                if byte == other {
                    row[j + 1] = corner + 1;
                } else if above > left {
                    if turns {
                        let at = i * b.len() + j;
                        compared.turns[at / 64] |= 1 << (at % 64);
                    }
                } else {
                    row[j + 1] = left;
                }
                corner = above;
            }
        }
        compared.len = row[b.len()];
        compared
    }

    /// What both have, as ranges of equal length, the last first.
    fn ranges(&self) -> Vec<(Range<usize>, Range<usize>)> {
        let (mut i, mut j) = (self.a.len(), self.b.len());
        let mut ranges = Vec::new();
        while i > 0 && j > 0 {
            let (end_a, end_b) = (i, j);
            while i > 0 && j > 0 && self.a[i - 1] == self.b[j - 1] {
                (i, j) = (i - 1, j - 1);
            }
            if i < end_a {
                ranges.push((i..end_a, j..end_b));
            } else {
                let at = (i - 1) * self.b.len() + j - 1;
                let is_in_front = self.turns[at / 64] >> (at % 64) & 1 == 1;
                (i, j) = if is_in_front { (i - 1, j) } else { (i, j - 1) };
            }
        }
        ranges
    }
}

/// A copy of the string at `loc`, nothing if there is none.
fn string_of(ctx: &Ctx<'_>, found: Option<Loc>) -> Result<Vec<u8>, Error> {
    const NOT_STRINGS: Error = Error::fixed("ERR The specified keys must contain string values");
    let Some(loc) = found else { return Ok(Vec::new()) };
    let digits = &mut itoa::Buffer::new();
    ctx.string(loc, digits).map(<[u8]>::to_vec).map_err(|_| NOT_STRINGS)
}

fn lcs(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let found = ctx.read(ctx.key(request, 1));
    let a = string_of(ctx, found)?;
    let found = ctx.read(ctx.key(request, 2));
    let b = string_of(ctx, found)?;
    let asked = Asked::parse(request)?;
    if a.len().max(b.len()) >= u32::MAX as usize - 1 {
        return Err(Error::fixed("ERR String too long for LCS"));
    }
    let table_bytes = (a.len() as u64 + 1) * (b.len() as u64 + 1);
    if table_bytes.saturating_mul(4) > ctx.server.config.proto_max_bulk_len_bytes {
        return Err(Error::fixed(
            "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len",
        ));
    }
    let compared = Compared::new(&a, &b, !asked.len);
    if asked.len {
        reply.int(compared.len.into());
        return Ok(());
    }
    let ranges = compared.ranges();
    if !asked.ranges {
        let common: Vec<u8> =
            ranges.iter().rev().flat_map(|(of_a, _)| &a[of_a.clone()]).copied().collect();
        reply.bulk(&common);
        return Ok(());
    }
    let shown = || ranges.iter().filter(|(of_a, _)| of_a.len() >= asked.len_min);
    reply.map(2);
    reply.bulk(b"matches");
    reply.array(shown().count());
    for (of_a, of_b) in shown() {
        reply.array(if asked.with_lengths { 3 } else { 2 });
        for range in [of_a, of_b] {
            reply.array(2);
            reply.count(range.start);
            reply.count(range.end - 1);
        }
        if asked.with_lengths {
            reply.count(of_a.len());
        }
    }
    reply.bulk(b"len");
    reply.int(compared.len.into());
    Ok(())
}
