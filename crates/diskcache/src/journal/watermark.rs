//! The two slots that say how far the journal was synced.
//!
//! One worker. The file has two slots of 512 bytes, written in turn, so that a torn write spoils
//! at most the older statement. A slot is written after each sync of the journal and made durable
//! when a segment ends, at a trim and at the end: in between, the `durable` field of later frames
//! says the same. What a slot claims was durable before it was claimed, so a slot that survives
//! never claims too much.

use std::io;

use crate::journal::StoreId;
use crate::journal::files::{Dir, File, read_full_at, write_all_at};
use crate::journal::record::{FORMAT_VERSION, crc};
use crate::key::Seq;

/// Name of the file.
pub const WATERMARK_NAME: &str = "watermark";
/// Bytes of one slot.
pub const SLOT_LEN: usize = 512;
const MAGIC: [u8; 8] = *b"FLINTWMK";
const USED: usize = 64;

/// What a slot states.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct Mark {
    /// Counts the writes; the higher slot counts.
    pub turn: u64,
    /// Every operation up to here was durable.
    pub durable: Seq,
    /// First operation of the segment that held `durable`.
    pub segment: Seq,
    /// End of the frame that ended with `durable`, in bytes from the segment's start.
    pub offset: u64,
}

impl Mark {
    fn encode(&self, store: &StoreId) -> [u8; SLOT_LEN] {
        let mut out = [0; SLOT_LEN];
        out[0..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        out[16..32].copy_from_slice(&store.0);
        let numbers = [self.turn, self.durable.0, self.segment.0, self.offset];
        for (room, n) in out[32..USED].chunks_exact_mut(8).zip(numbers) {
            room.copy_from_slice(&n.to_le_bytes());
        }
        let sum = crc(&[&out[..SLOT_LEN - 4]]);
        out[SLOT_LEN - 4..].copy_from_slice(&sum.to_le_bytes());
        out
    }

    fn decode(slot: &[u8; SLOT_LEN], store: &StoreId) -> Option<Self> {
        let sum = u32::from_le_bytes(*slot.last_chunk()?);
        let mut version = [0; 4];
        version.copy_from_slice(&slot[8..12]);
        let good = slot[..8] == MAGIC
            && sum == crc(&[&slot[..SLOT_LEN - 4]])
            && u32::from_le_bytes(version) == FORMAT_VERSION
            && slot[16..32] == store.0;
        let number = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&slot[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        good.then(|| Self {
            turn: number(32),
            durable: Seq(number(40)),
            segment: Seq(number(48)),
            offset: number(56),
        })
    }
}

/// What was found in the file.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Found {
    /// There is no file.
    Absent,
    /// There is a file, but neither slot is good.
    Unreadable,
    /// The newer good slot, and whether the other one is good too.
    Mark(Mark, bool),
}

/// Reads the newer good slot.
///
/// # Errors
/// A failed read.
pub fn read(dir: &dyn Dir, store: &StoreId) -> io::Result<Found> {
    let file = match dir.open(WATERMARK_NAME) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Found::Absent),
        Err(e) => return Err(e),
    };
    let mut bytes = [0; 2 * SLOT_LEN];
    read_full_at(&*file, 0, &mut bytes)?;
    let slots = bytes.as_chunks::<SLOT_LEN>().0;
    let mut marks = slots.iter().filter_map(|slot| Mark::decode(slot, store));
    Ok(match (marks.next(), marks.next()) {
        (Some(a), Some(b)) => Found::Mark(if a.turn > b.turn { a } else { b }, true),
        (Some(one), None) => Found::Mark(one, false),
        (None, _) => Found::Unreadable,
    })
}

/// The open file.
#[derive(Debug)]
pub(super) struct WatermarkFile {
    file: Box<dyn File>,
    mark: Mark,
}

impl WatermarkFile {
    /// Creates the file anew with `mark` in both slots, durably, in place of any old one.
    pub(super) fn create(dir: &dyn Dir, store: &StoreId, mark: Mark) -> io::Result<Self> {
        const NEW: &str = "watermark.tmp";
        let file = dir.create(NEW)?;
        let older = Mark { turn: mark.turn, ..mark };
        let mark = Mark { turn: mark.turn + 1, ..mark };
        for m in [older, mark] {
            write_all_at(&*file, slot_offset(m.turn), &m.encode(store))?;
        }
        file.sync()?;
        dir.rename(NEW, WATERMARK_NAME)?;
        dir.sync()?;
        Ok(Self { file, mark })
    }

    /// Writes the next slot; not durable yet.
    pub(super) fn write(&mut self, store: &StoreId, mark: Mark) -> io::Result<()> {
        assert!(mark.durable >= self.mark.durable, "the watermark only rises");
        let mark = Mark { turn: self.mark.turn + 1, ..mark };
        write_all_at(&*self.file, slot_offset(mark.turn), &mark.encode(store))?;
        self.mark = mark;
        Ok(())
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    pub(super) const fn mark(&self) -> Mark {
        self.mark
    }
}

const fn slot_offset(turn: u64) -> u64 {
    (turn % 2) * SLOT_LEN as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::sim::SimDir;

    const STORE: StoreId = StoreId([9; 16]);

    fn mark(durable: u64) -> Mark {
        Mark { turn: 0, durable: Seq(durable), segment: Seq(1), offset: 64 }
    }

    fn durable(found: Found) -> Option<u64> {
        match found {
            Found::Mark(mark, _) => Some(mark.durable.0),
            Found::Absent | Found::Unreadable => None,
        }
    }

    #[test]
    fn the_newer_good_slot_counts_whichever_is_torn() {
        let dir = SimDir::new();
        assert_eq!(read(&dir, &STORE).unwrap(), Found::Absent);
        let mut file = WatermarkFile::create(&dir, &STORE, mark(5)).unwrap();
        assert_eq!(durable(read(&dir, &STORE).unwrap()), Some(5));
        file.write(&STORE, mark(6)).unwrap();
        file.write(&STORE, mark(7)).unwrap();
        assert_eq!(durable(read(&dir, &STORE).unwrap()), Some(7));

        let open = dir.open(WATERMARK_NAME).unwrap();
        let newer = slot_offset(file.mark().turn);
        for byte in 0..SLOT_LEN as u64 {
            let mut one = [0];
            open.read_at(newer + byte, &mut one).unwrap();
            open.write_at(newer + byte, &[one[0] ^ 0x10]).unwrap();
            assert_eq!(durable(read(&dir, &STORE).unwrap()), Some(6), "byte {byte}");
            open.write_at(newer + byte, &one).unwrap();
        }
        assert_eq!(read(&dir, &StoreId([1; 16])).unwrap(), Found::Unreadable);
        open.set_len(100).unwrap();
        assert_eq!(read(&dir, &STORE).unwrap(), Found::Unreadable);
    }
}
