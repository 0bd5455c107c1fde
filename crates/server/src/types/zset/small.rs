//! The small form of a sorted set: packed records in order. Pure; any thread.
//!
//! A record is the member, a string with its code, and eight bytes of score. Minus zero becomes
//! zero here and only here, because a Redis listpack keeps whole scores as integers.

use super::score::Score;
use crate::types::packed::{Code, Packed, read_string};

/// Bytes of a score.
const SCORE: usize = 8;

/// A record among the others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    pub(super) member: &'a [u8],
    pub(super) score: Score,
    /// Bytes of the whole record.
    size: usize,
}

/// The record that starts `records`.
#[inline]
fn first(records: &[u8]) -> Record<'_> {
    let (member, size) = read_string(records);
    let score = records[size..].first_chunk().map(|bytes| f64::from_le_bytes(*bytes));
    let score = score.and_then(Score::new).expect("only scores are written");
    Record { member, score, size: size + SCORE }
}

/// The bytes of a score, that of minus zero being zero's.
fn bytes_of(score: Score) -> [u8; SCORE] {
    (score.get() + 0.0).to_le_bytes()
}

/// The records from front to back.
#[derive(Clone, Debug)]
pub(super) struct Records<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        if self.0.is_empty() {
            return None;
        }
        let record = first(self.0);
        self.0 = &self.0[record.size..];
        Some(record)
    }
}

/// A packed sorted set.
#[derive(Clone, Debug)]
pub(super) struct Small {
    pub(super) packed: Packed,
}

impl Small {
    pub(super) const fn new() -> Self {
        Self { packed: Packed::new() }
    }

    pub(super) fn count(&self) -> usize {
        self.packed.count()
    }

    pub(super) fn records(&self) -> Records<'_> {
        Records(self.packed.records())
    }

    /// Rank, offset and record of a member.
    pub(super) fn find(&self, member: &[u8]) -> Option<(usize, usize, Record<'_>)> {
        let mut at = 0;
        for (rank, record) in self.records().enumerate() {
            if record.member == member {
                return Some((rank, at, record));
            }
            at += record.size;
        }
        None
    }

    /// Adds a member that is not there at its place in the order.
    pub(super) fn insert(&mut self, member: &[u8], score: Score) {
        let before = |record: &Record<'_>| (record.score, record.member) < (score, member);
        let at = self.records().take_while(before).map(|record| record.size).sum();
        let code = Code::of(member);
        self.packed.splice(at, 0, &[code.bytes(), member, &bytes_of(score)], 1);
    }

    /// Adds a member that comes after all others.
    pub(super) fn append(&mut self, member: &[u8], score: Score) {
        self.packed.push(&[Code::of(member).bytes(), member, &bytes_of(score)]);
    }

    pub(super) fn remove(&mut self, member: &[u8]) -> Option<Score> {
        let (_, at, Record { score, size, .. }) = self.find(member)?;
        self.packed.splice(at, size, &[], -1);
        Some(score)
    }

    /// Gives a member that is there another score.
    pub(super) fn rescore(&mut self, member: &[u8], score: Score) {
        self.remove(member);
        self.insert(member, score);
    }

    /// Removes the records of these ranks.
    pub(super) fn remove_ranks(&mut self, start: usize, count: usize) {
        let size = |records: Records<'_>, n| records.take(n).map(|r| r.size).sum::<usize>();
        let at = size(self.records(), start);
        let removed = size(Records(&self.packed.records()[at..]), count);
        self.packed.splice(at, removed, &[], -i32::try_from(count).expect("a count of 16 bits"));
    }
}
