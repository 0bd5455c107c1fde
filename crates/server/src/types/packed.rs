//! A short sequence of records in one buffer: the small form of hashes, sets and sorted sets.
//! Pure; any thread.
//!
//! Layout: the number of records (u16, little-endian), then the records without gaps. What a
//! record is made of is the owner's business; strings in it are a [`length`] code and bytes.
//! Records stay where they were put, so a hash keeps insertion order as a Redis listpack does.
//! Look-ups walk the buffer: at the default limits it is one to a few KiB, and a walk over it costs
//! less than the cache misses of a table.

use super::length;
use super::memory::{heap_bytes, reserve, round_up};

/// Bytes before the first record.
const HEADER: usize = 2;
/// Records that the header can count; the owners turn into a table before.
pub(super) const RECORDS_MAX: usize = u16::MAX as usize;

/// See the module documentation. An empty one owns no memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Packed {
    buffer: Vec<u8>,
}

impl Packed {
    pub(super) const fn new() -> Self {
        Self { buffer: Vec::new() }
    }

    /// Number of records.
    #[inline]
    pub(super) fn count(&self) -> usize {
        self.buffer.first_chunk().map_or(0, |header| usize::from(u16::from_le_bytes(*header)))
    }

    /// The records; offsets taken by the other functions are into this slice.
    #[inline]
    pub(super) fn records(&self) -> &[u8] {
        self.buffer.get(HEADER..).unwrap_or(&[])
    }

    /// Heap bytes owned.
    pub(super) fn heap_bytes(&self) -> usize {
        heap_bytes(self.buffer.capacity())
    }

    /// Replaces `removed` bytes at `at` by the concatenation of `parts`; the number of records
    /// changes by `delta`.
    pub(super) fn splice(&mut self, at: usize, removed: usize, parts: &[&[u8]], delta: i32) {
        if self.buffer.is_empty() {
            self.buffer = Vec::with_capacity(round_up(HEADER + parts_len(parts)));
            self.buffer.extend_from_slice(&[0; HEADER]);
        }
        let added = parts_len(parts);
        let at = HEADER + at;
        let len_old = self.buffer.len();
        let tail = at + removed;
        if added > removed {
            reserve(&mut self.buffer, added - removed, usize::MAX);
            self.buffer.resize(len_old + added - removed, 0);
        }
        if added != removed {
            self.buffer.copy_within(tail..len_old, at + added);
        }
        self.buffer.truncate(len_old + added - removed);
        let mut to = at;
        for part in parts {
            self.buffer[to..to + part.len()].copy_from_slice(part);
            to += part.len();
        }
        let count = i64::try_from(self.count()).expect("16 bits") + i64::from(delta);
        let count = u16::try_from(count).expect("owners convert before the count overflows");
        self.buffer[..HEADER].copy_from_slice(&count.to_le_bytes());
        self.give_back_slack();
    }

    /// Appends one record.
    pub(super) fn push(&mut self, parts: &[&[u8]]) {
        let end = self.records().len();
        self.splice(end, 0, parts, 1);
    }

    /// After removals: no more than half of the buffer stays unused.
    fn give_back_slack(&mut self) {
        if self.buffer.len() == HEADER {
            self.buffer = Vec::new();
        } else if self.buffer.capacity() > 2 * self.buffer.len() + 64 {
            self.buffer.shrink_to(round_up(self.buffer.len()));
        }
    }
}

fn parts_len(parts: &[&[u8]]) -> usize {
    parts.iter().map(|part| part.len()).sum()
}

/// Reads one string at the start of `bytes`: the string and the bytes it takes with its code.
#[inline]
pub(super) fn read_string(bytes: &[u8]) -> (&[u8], usize) {
    let (len, code) = length::read(bytes);
    (&bytes[code..code + len], code + len)
}

/// The code of a string's length, to stand before the string among the parts of a record.
#[derive(Clone, Copy)]
pub(super) struct Code([u8; 5], usize);

impl Code {
    pub(super) fn of(string: &[u8]) -> Self {
        let (code, size) = length::encode(string.len());
        Self(code, size)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0[..self.1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(packed: &Packed) -> Vec<Vec<u8>> {
        let mut rest = packed.records();
        let mut out = Vec::new();
        while !rest.is_empty() {
            let (string, size) = read_string(rest);
            out.push(string.to_vec());
            rest = &rest[size..];
        }
        out
    }

    #[test]
    fn records_are_spliced_in_place() {
        let mut packed = Packed::new();
        assert_eq!((packed.count(), packed.heap_bytes()), (0, 0));
        for string in [&b"one"[..], b"three", b""] {
            packed.push(&[Code::of(string).bytes(), string]);
        }
        packed.splice(4, 0, &[Code::of(b"two").bytes(), b"two"], 1);
        assert_eq!(strings(&packed), [&b"one"[..], b"two", b"three", b""]);
        packed.splice(0, 4, &[Code::of(b"eleven").bytes(), b"eleven"], 0);
        packed.splice(7, 4, &[], -1);
        assert_eq!(strings(&packed), [&b"eleven"[..], b"three", b""]);
        assert_eq!(packed.count(), 3);
    }

    #[test]
    fn the_last_record_gives_the_buffer_back() {
        let mut packed = Packed::new();
        packed.push(&[&[3], b"abc"]);
        assert!(packed.heap_bytes() > 0);
        packed.splice(0, 4, &[], -1);
        assert_eq!((packed.count(), packed.heap_bytes(), packed.records()), (0, 0, &b""[..]));
    }

    #[test]
    fn removals_give_slack_back() {
        let mut packed = Packed::new();
        (0..100_u8).for_each(|n| packed.push(&[&[1, n]]));
        packed.splice(0, 180, &[], -90);
        assert_eq!(packed.count(), 10);
        assert!(packed.heap_bytes() <= heap_bytes(2 + 20), "{}", packed.heap_bytes());
    }
}
