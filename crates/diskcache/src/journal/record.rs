//! Bytes of segment headers, frames and operations. Pure; any thread.
//!
//! All numbers are little-endian. docs/format.md has the same tables with the upgrade rule; the
//! test at the bottom holds the two together by spelling the bytes out.
//!
//! ```text
//! segment  SegmentHeader (64) | frame | frame | ...
//! frame    header (40) | body: operations back to back
//! ```

use crate::journal::StoreId;
use crate::key::{KeyRef, Seq, Space};

/// Version of the journal's files; a newer one is refused, never guessed at.
pub const FORMAT_VERSION: u32 = 1;
/// Bytes of a segment's header.
pub const SEGMENT_HEADER_LEN: usize = 64;
/// Bytes of a frame's header.
pub const FRAME_HEADER_LEN: usize = 40;
/// First bytes of a segment.
pub const SEGMENT_MAGIC: [u8; 8] = *b"FLINTJNL";
/// First bytes of a frame.
pub const FRAME_MAGIC: [u8; 4] = *b"FLJ1";

const PUT: u8 = 1;
const PUT_EXPIRING: u8 = 2;
const DELTA: u8 = 3;
const DELETE: u8 = 4;
const META: u8 = 5;

/// Bytes before the key of an operation with a body: kind, space, hash, two lengths.
const KEYED_LEN: usize = 1 + 4 + 8 + 4 + 4;
/// Bytes before the key of a delete: kind, space, hash, one length.
const DELETE_LEN: usize = 1 + 4 + 8 + 4;

/// Which space each database maps to; logged whole on every change of it.
#[derive(Clone, Eq, PartialEq, Debug, Default)]
pub struct SpaceMap {
    /// Space of each database, by database number.
    pub spaces: Vec<Space>,
    /// The next space number to hand out.
    pub next_space: u32,
    /// Spaces that no database maps to and whose keys may still be on disk.
    pub dead: Vec<Space>,
}

/// One logged operation.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Op<'a> {
    /// Its position.
    pub seq: Seq,
    /// What it does.
    pub kind: OpKind<'a>,
}

/// What an operation does.
#[derive(Clone, Eq, PartialEq, Debug)]
pub enum OpKind<'a> {
    /// The complete state of a key.
    Put {
        /// The key.
        key: KeyRef<'a>,
        /// Expiry in milliseconds since the Unix epoch.
        expires_at_ms: Option<u64>,
        /// The value as its owner encoded it.
        payload: &'a [u8],
    },
    /// A change on top of the key's state before it; opaque here.
    Delta {
        /// The key.
        key: KeyRef<'a>,
        /// The change as its owner encoded it.
        bytes: &'a [u8],
    },
    /// The key is gone.
    Delete {
        /// The key.
        key: KeyRef<'a>,
    },
    /// Databases map to other spaces than before.
    Meta(SpaceMap),
}

impl<'a> OpKind<'a> {
    /// The key it is about; `None` for [`OpKind::Meta`].
    #[must_use]
    pub fn key(&self) -> Option<KeyRef<'a>> {
        match self {
            Self::Put { key, .. } | Self::Delta { key, .. } | Self::Delete { key } => Some(*key),
            Self::Meta(_) => None,
        }
    }
}

/// Which of the operations with a body.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) enum Keyed {
    Put,
    PutExpiring(u64),
    Delta,
}

/// Writes the fixed part of an operation with a body, and the key. The length of the body is not
/// known yet; the place to patch it with [`set_body_len`] is returned.
#[inline]
pub(super) fn begin_keyed(out: &mut Vec<u8>, kind: Keyed, key: KeyRef<'_>, key_len: u32) -> usize {
    let mut head = [0; KEYED_LEN + 8];
    let (tag, len) = match kind {
        Keyed::Put => (PUT, KEYED_LEN),
        Keyed::PutExpiring(at) => {
            head[KEYED_LEN..].copy_from_slice(&at.to_le_bytes());
            (PUT_EXPIRING, KEYED_LEN + 8)
        }
        Keyed::Delta => (DELTA, KEYED_LEN),
    };
    head[0] = tag;
    head[1..5].copy_from_slice(&key.space.0.to_le_bytes());
    head[5..13].copy_from_slice(&key.hash.to_le_bytes());
    head[13..17].copy_from_slice(&key_len.to_le_bytes());
    let at = out.len() + KEYED_LEN - 4;
    out.extend_from_slice(&head[..len]);
    out.extend_from_slice(key.key);
    at
}

#[inline]
pub(super) fn set_body_len(out: &mut [u8], at: usize, len: u32) {
    out[at..at + 4].copy_from_slice(&len.to_le_bytes());
}

pub(super) fn push_delete(out: &mut Vec<u8>, key: KeyRef<'_>, key_len: u32) {
    let mut head = [0; DELETE_LEN];
    head[0] = DELETE;
    head[1..5].copy_from_slice(&key.space.0.to_le_bytes());
    head[5..13].copy_from_slice(&key.hash.to_le_bytes());
    head[13..17].copy_from_slice(&key_len.to_le_bytes());
    out.extend_from_slice(&head);
    out.extend_from_slice(key.key);
}

/// Writes a change of the space map; `None` when it has more entries than the format can count,
/// and nothing is written.
pub(super) fn push_meta(out: &mut Vec<u8>, map: &SpaceMap) -> Option<()> {
    let live = u32::try_from(map.spaces.len()).ok()?;
    let dead = u32::try_from(map.dead.len()).ok()?;
    out.push(META);
    for n in [map.next_space, live, dead] {
        out.extend_from_slice(&n.to_le_bytes());
    }
    for space in map.spaces.iter().chain(&map.dead) {
        out.extend_from_slice(&space.0.to_le_bytes());
    }
    Some(())
}

/// Takes one operation off the front of `body`; `None` when it is none.
#[must_use]
pub fn take_op<'a>(body: &mut &'a [u8], seq: Seq) -> Option<Op<'a>> {
    let mut rest = *body;
    let kind = match take::<1>(&mut rest)?[0] {
        tag @ (PUT | PUT_EXPIRING | DELTA) => {
            let (space, hash) = take_place(&mut rest)?;
            let key_len = take_len(&mut rest)?;
            let body_len = take_len(&mut rest)?;
            let expires_at_ms = match tag {
                PUT_EXPIRING => Some(u64::from_le_bytes(take(&mut rest)?)),
                _ => None,
            };
            let key = KeyRef { space, hash, key: take_slice(&mut rest, key_len)? };
            let bytes = take_slice(&mut rest, body_len)?;
            match tag {
                DELTA => OpKind::Delta { key, bytes },
                _ => OpKind::Put { key, expires_at_ms, payload: bytes },
            }
        }
        DELETE => {
            let (space, hash) = take_place(&mut rest)?;
            let key_len = take_len(&mut rest)?;
            OpKind::Delete { key: KeyRef { space, hash, key: take_slice(&mut rest, key_len)? } }
        }
        META => {
            let next_space = u32::from_le_bytes(take(&mut rest)?);
            let live = take_len(&mut rest)?;
            let dead = take_len(&mut rest)?;
            let spaces = take_spaces(&mut rest, live)?;
            let dead = take_spaces(&mut rest, dead)?;
            OpKind::Meta(SpaceMap { spaces, next_space, dead })
        }
        _ => return None,
    };
    *body = rest;
    Some(Op { seq, kind })
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*head)
}

fn take_len(bytes: &mut &[u8]) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(take(bytes)?)).ok()
}

fn take_slice<'a>(bytes: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (head, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(head)
}

fn take_place(bytes: &mut &[u8]) -> Option<(Space, u64)> {
    let space = Space(u32::from_le_bytes(take(bytes)?));
    Some((space, u64::from_le_bytes(take(bytes)?)))
}

fn take_spaces(bytes: &mut &[u8], count: usize) -> Option<Vec<Space>> {
    // The slice is taken first, so a forged count cannot make us allocate more than was read.
    let raw = take_slice(bytes, count.checked_mul(4)?)?;
    Some(raw.as_chunks::<4>().0.iter().map(|n| Space(u32::from_le_bytes(*n))).collect())
}

/// What stands before the operations of one group.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct FrameHeader {
    /// Position of the first operation.
    pub first: Seq,
    /// Operations, at least one.
    pub count: u32,
    /// The journal was known to be synced up to here when the frame was written. A later frame
    /// thus proves that an earlier one was acknowledged, even if the watermark file is lost.
    pub durable: Seq,
    /// Bytes of the operations.
    pub body_len: u64,
    /// CRC-32 of the operations.
    pub body_crc: u32,
}

impl FrameHeader {
    /// Position of the last operation.
    #[must_use]
    pub const fn last(&self) -> Seq {
        Seq(self.first.0 + self.count as u64 - 1)
    }

    /// The header of a frame whose operations are `body`.
    ///
    /// # Panics
    /// If there is no operation, or if what it holds is durable already.
    #[must_use]
    pub fn of(body: &[u8], first: Seq, count: u32, durable: Seq) -> Self {
        assert!(count > 0 && first > durable, "a frame holds something that is not yet durable");
        Self { first, count, durable, body_len: body.len() as u64, body_crc: crc(&[body]) }
    }

    /// The bytes; bound to the store by its id.
    #[must_use]
    pub fn encode(&self, store: &StoreId) -> [u8; FRAME_HEADER_LEN] {
        let mut out = [0; FRAME_HEADER_LEN];
        out[0..4].copy_from_slice(&FRAME_MAGIC);
        out[4..8].copy_from_slice(&self.count.to_le_bytes());
        out[8..16].copy_from_slice(&self.first.0.to_le_bytes());
        out[16..24].copy_from_slice(&self.durable.0.to_le_bytes());
        out[24..32].copy_from_slice(&self.body_len.to_le_bytes());
        out[32..36].copy_from_slice(&self.body_crc.to_le_bytes());
        let sum = crc(&[&store.0, &out[..36]]);
        out[36..40].copy_from_slice(&sum.to_le_bytes());
        out
    }

    /// Reads a header; `None` when it is none of this store.
    #[must_use]
    pub fn decode(bytes: &[u8; FRAME_HEADER_LEN], store: &StoreId) -> Option<Self> {
        let mut rest = &bytes[4..];
        let header = Self {
            count: u32::from_le_bytes(take(&mut rest)?),
            first: Seq(u64::from_le_bytes(take(&mut rest)?)),
            durable: Seq(u64::from_le_bytes(take(&mut rest)?)),
            body_len: u64::from_le_bytes(take(&mut rest)?),
            body_crc: u32::from_le_bytes(take(&mut rest)?),
        };
        let sum = u32::from_le_bytes(take(&mut rest)?);
        let good = bytes[..4] == FRAME_MAGIC
            && sum == crc(&[&store.0, &bytes[..36]])
            && header.count > 0
            && header.first > header.durable
            && header.first.0.checked_add(u64::from(header.count)).is_some();
        good.then_some(header)
    }
}

/// What stands at the start of a segment.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct SegmentHeader {
    /// The store it belongs to.
    pub store: StoreId,
    /// Position of its first operation; also in its name.
    pub first: Seq,
    /// The last operation before it that counts. `first` follows at once, except behind a loss
    /// that was accepted: positions are never reused. Everything up to here was durable when the
    /// segment was created.
    pub follows: Seq,
}

/// Why a segment's header was not accepted.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum BadHeader {
    /// Too short, or the checksum does not match.
    Damaged,
    /// Written by a newer version.
    Newer(u32),
    /// Of another store.
    Foreign,
}

impl SegmentHeader {
    /// The bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; SEGMENT_HEADER_LEN] {
        let mut out = [0; SEGMENT_HEADER_LEN];
        out[0..8].copy_from_slice(&SEGMENT_MAGIC);
        out[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        out[16..32].copy_from_slice(&self.store.0);
        out[32..40].copy_from_slice(&self.first.0.to_le_bytes());
        out[40..48].copy_from_slice(&self.follows.0.to_le_bytes());
        let sum = crc(&[&out[..60]]);
        out[60..64].copy_from_slice(&sum.to_le_bytes());
        out
    }

    /// Reads a header.
    ///
    /// # Errors
    /// Why it was not accepted. Magic, version and checksum keep their places in every version,
    /// so that a newer file is told from a damaged one.
    pub fn decode(bytes: &[u8], store: &StoreId) -> Result<Self, BadHeader> {
        let bytes: &[u8; SEGMENT_HEADER_LEN] = bytes.first_chunk().ok_or(BadHeader::Damaged)?;
        let fields = || {
            let mut rest = &bytes[8..];
            let version = u32::from_le_bytes(take(&mut rest)?);
            take::<4>(&mut rest)?;
            let id = StoreId(take(&mut rest)?);
            let first = Seq(u64::from_le_bytes(take(&mut rest)?));
            let follows = Seq(u64::from_le_bytes(take(&mut rest)?));
            take::<12>(&mut rest)?;
            Some((
                version,
                u32::from_le_bytes(take(&mut rest)?),
                Self { store: id, first, follows },
            ))
        };
        let (version, sum, header) = fields().ok_or(BadHeader::Damaged)?;
        if bytes[..8] != SEGMENT_MAGIC || sum != crc(&[&bytes[..60]]) {
            return Err(BadHeader::Damaged);
        }
        if version != FORMAT_VERSION {
            return Err(BadHeader::Newer(version));
        }
        if header.store != *store {
            return Err(BadHeader::Foreign);
        }
        if header.first <= header.follows {
            return Err(BadHeader::Damaged);
        }
        Ok(header)
    }
}

/// Name of the segment whose first operation is `first`; names sort as segments do.
#[must_use]
pub fn segment_name(first: Seq) -> String {
    format!("journal-{:020}.log", first.0)
}

/// The first operation of the segment called `name`; `None` when it is no segment's name.
#[must_use]
pub fn parse_segment_name(name: &str) -> Option<Seq> {
    let digits = name.strip_prefix("journal-")?.strip_suffix(".log")?;
    let plain = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| digits.parse().ok().map(Seq)).flatten()
}

/// CRC-32 (IEEE) over the parts in turn.
#[must_use]
pub(crate) fn crc(parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORE: StoreId = StoreId([7; 16]);

    #[test]
    fn the_bytes_are_those_of_the_format_document() {
        let key = KeyRef { space: Space(2), hash: 3, key: b"k" };
        let mut body = Vec::new();
        let at = begin_keyed(&mut body, Keyed::PutExpiring(9), key, 1);
        body.extend_from_slice(b"vv");
        set_body_len(&mut body, at, 2);
        assert_eq!(
            body,
            b"\x02\x02\0\0\0\x03\0\0\0\0\0\0\0\x01\0\0\0\x02\0\0\0\x09\0\0\0\0\0\0\0kvv"
        );
        let mut one = Vec::new();
        push_delete(&mut one, key, 1);
        assert_eq!(one, b"\x04\x02\0\0\0\x03\0\0\0\0\0\0\0\x01\0\0\0k");
        one.clear();
        let map = SpaceMap { spaces: vec![Space(1)], next_space: 3, dead: vec![Space(2)] };
        push_meta(&mut one, &map).expect("two entries");
        assert_eq!(one, b"\x05\x03\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\0\0\x02\0\0\0");

        let header = FrameHeader::of(b"123456789", Seq(5), 2, Seq(4));
        // 0xcbf43926 is the check value of CRC-32/ISO-HDLC.
        assert_eq!(header.body_crc, 0xcbf4_3926);
        let bytes = header.encode(&STORE);
        assert_eq!(bytes[..16], *b"FLJ1\x02\0\0\0\x05\0\0\0\0\0\0\0");
        assert_eq!(bytes[16..36], *b"\x04\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\x26\x39\xf4\xcb");
        assert_eq!(FrameHeader::decode(&bytes, &STORE), Some(header));
        assert_eq!(header.last(), Seq(6));

        let segment = SegmentHeader { store: STORE, first: Seq(9), follows: Seq(8) };
        let bytes = segment.encode();
        assert_eq!(bytes[..16], *b"FLINTJNL\x01\0\0\0\0\0\0\0");
        assert_eq!(bytes[32..48], *b"\x09\0\0\0\0\0\0\0\x08\0\0\0\0\0\0\0");
        assert_eq!(SegmentHeader::decode(&bytes, &STORE), Ok(segment));
    }

    #[test]
    fn any_flipped_bit_of_a_header_is_noticed() {
        let frame = FrameHeader::of(b"body", Seq(5), 2, Seq(4)).encode(&STORE);
        for bit in 0..frame.len() * 8 {
            let mut bad = frame;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(FrameHeader::decode(&bad, &STORE), None, "bit {bit}");
        }
        assert_eq!(FrameHeader::decode(&frame, &StoreId([8; 16])), None);

        let segment = SegmentHeader { store: STORE, first: Seq(9), follows: Seq(8) }.encode();
        for bit in 0..segment.len() * 8 {
            let mut bad = segment;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::decode(&bad, &STORE), Err(BadHeader::Damaged), "bit {bit}");
        }
        assert_eq!(SegmentHeader::decode(&segment, &StoreId([8; 16])), Err(BadHeader::Foreign));
        assert_eq!(SegmentHeader::decode(&segment[..63], &STORE), Err(BadHeader::Damaged));
    }

    #[test]
    fn a_newer_segment_is_told_from_a_damaged_one() {
        let mut bytes = SegmentHeader { store: STORE, first: Seq(9), follows: Seq(8) }.encode();
        bytes[8] = 2;
        let sum = crc(&[&bytes[..60]]);
        bytes[60..64].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&bytes, &STORE), Err(BadHeader::Newer(2)));
    }

    #[test]
    fn a_cut_operation_is_none_and_takes_nothing() {
        let key = KeyRef { space: Space(2), hash: 3, key: b"key" };
        let map = SpaceMap { spaces: vec![Space(1)], next_space: 3, dead: vec![Space(2)] };
        let mut ops = [Vec::new(), Vec::new(), Vec::new(), Vec::new()];
        for (out, kind) in ops.iter_mut().zip([Keyed::PutExpiring(1), Keyed::Delta]) {
            let at = begin_keyed(out, kind, key, 3);
            out.extend_from_slice(b"body");
            set_body_len(out, at, 4);
        }
        push_delete(&mut ops[2], key, 3);
        push_meta(&mut ops[3], &map).expect("two entries");
        for op in &ops {
            for len in 0..op.len() {
                let mut rest = &op[..len];
                assert_eq!(take_op(&mut rest, Seq(1)), None);
                assert_eq!(rest.len(), len);
            }
            let mut rest = op.as_slice();
            assert!(take_op(&mut rest, Seq(1)).is_some() && rest.is_empty());
        }
    }

    #[test]
    fn segment_names_round_trip_and_sort() {
        assert_eq!(parse_segment_name(&segment_name(Seq(u64::MAX))), Some(Seq(u64::MAX)));
        assert!(segment_name(Seq(9)) < segment_name(Seq(10)));
        for name in [
            "journal-1.log",
            "journal-00000000000000000001.tmp",
            "x",
            "journal-+0000000000000000001.log",
        ] {
            assert_eq!(parse_segment_name(name), None, "{name}");
        }
    }
}
