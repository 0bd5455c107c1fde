//! Reading frames in order, and looking for good frames behind a damaged one.
//!
//! Worker. Memory is bounded by the largest frame that is really in the file: a length that goes
//! beyond the file's end is never believed.

use std::io;

use crate::journal::StoreId;
use crate::journal::files::{File, read_full_at};
use crate::journal::record::{FRAME_HEADER_LEN, FRAME_MAGIC, FrameHeader, crc};
use crate::key::Seq;

/// Bytes read ahead.
const WINDOW: usize = 1 << 20;

/// Reads a segment's frames from front to back.
#[derive(Debug)]
pub(super) struct Frames {
    file: Box<dyn File>,
    store: StoreId,
    len: u64,
    /// Where the next frame starts.
    offset: u64,
    window: Vec<u8>,
    /// Where the window starts in the file.
    window_at: u64,
}

/// What was found at the place of the next frame.
#[derive(Debug)]
pub(super) enum Step {
    /// A good frame; its body is [`Frames::body`].
    Good(FrameHeader),
    /// The file ends here.
    End,
    /// Something else.
    Bad,
}

impl Frames {
    pub(super) fn new(file: Box<dyn File>, store: StoreId, offset: u64) -> io::Result<Self> {
        let len = file.len_bytes()?;
        Ok(Self { file, store, len, offset, window: Vec::new(), window_at: offset })
    }

    /// Where the next frame starts, or the damage.
    pub(super) const fn offset(&self) -> u64 {
        self.offset
    }

    /// Checks the frame at the offset and, if it is good, goes past it.
    pub(super) fn step(&mut self) -> io::Result<Step> {
        if self.offset >= self.len {
            return Ok(Step::End);
        }
        let Some(header) = self.peek_header()? else { return Ok(Step::Bad) };
        let Some(body) = self.view(self.offset + FRAME_HEADER_LEN as u64, header.body_len)? else {
            return Ok(Step::Bad);
        };
        if crc(&[body]) != header.body_crc {
            return Ok(Step::Bad);
        }
        self.offset += FRAME_HEADER_LEN as u64 + header.body_len;
        Ok(Step::Good(header))
    }

    /// The operations of the frame that [`Frames::step`] has just passed.
    pub(super) fn body(&self, header: &FrameHeader) -> &[u8] {
        let start = self.offset - header.body_len - self.window_at;
        let start = usize::try_from(start).expect("the body lies in the window");
        let len = usize::try_from(header.body_len).expect("the body lies in the window");
        &self.window[start..start + len]
    }

    fn peek_header(&mut self) -> io::Result<Option<FrameHeader>> {
        let store = self.store;
        let bytes = self.view(self.offset, FRAME_HEADER_LEN as u64)?;
        Ok(bytes.and_then(|b| FrameHeader::decode(b.first_chunk()?, &store)))
    }

    /// The bytes at `from`, read if need be; `None` when the file ends before `len` bytes.
    fn view(&mut self, from: u64, len: u64) -> io::Result<Option<&[u8]>> {
        let end = match from.checked_add(len) {
            Some(end) if end <= self.len => end,
            _ => return Ok(None),
        };
        if from < self.window_at || end > self.window_at + self.window.len() as u64 {
            // The current frame's header stays in view together with its body.
            let at = self.offset.min(from);
            let want = (end - at).max(WINDOW as u64).min(self.len - at);
            let want = usize::try_from(want).map_err(io::Error::other)?;
            self.window.clear();
            self.window.resize(want, 0);
            self.window_at = at;
            let got = read_full_at(&*self.file, at, &mut self.window)?;
            self.window.truncate(got);
            if got < want {
                return Ok(None);
            }
        }
        let start = usize::try_from(from - self.window_at).map_err(io::Error::other)?;
        let len = usize::try_from(len).map_err(io::Error::other)?;
        Ok(self.window.get(start..start + len))
    }

    /// Counts the good frames from the offset on, wherever they are.
    pub(super) fn search(&mut self, found: &mut Later) -> io::Result<()> {
        while let Some(header) = self.find()? {
            found.add(&header);
            self.step()?;
        }
        Ok(())
    }

    /// Moves the offset to the next good frame; `None` when there is none.
    pub(super) fn find(&mut self) -> io::Result<Option<FrameHeader>> {
        while self.seek_magic()? {
            let at = self.offset;
            if let Step::Good(header) = self.step()? {
                self.offset = at;
                return Ok(Some(header));
            }
            self.offset += 1;
        }
        Ok(None)
    }

    /// Leaves the frame that [`Frames::find`] found.
    pub(super) const fn skip_magic(&mut self) {
        self.offset += 1;
    }

    /// Moves the offset to the next place that looks like a frame; false when there is none.
    fn seek_magic(&mut self) -> io::Result<bool> {
        loop {
            let left = self.len - self.offset.min(self.len);
            if left < FRAME_HEADER_LEN as u64 {
                return Ok(false);
            }
            // What the window still holds is searched first: a value full of magic numbers must
            // not cost a read for each of them.
            let held = (self.window_at + self.window.len() as u64).saturating_sub(self.offset);
            let enough = self.offset >= self.window_at && held >= FRAME_HEADER_LEN as u64;
            let len = if enough { held } else { left.min(WINDOW as u64) };
            let Some(bytes) = self.view(self.offset, len)? else { return Ok(false) };
            let hit = bytes.windows(FRAME_MAGIC.len()).position(|w| w == FRAME_MAGIC);
            // Without a hit the last three bytes may still begin one.
            let skip = hit.unwrap_or(bytes.len() - FRAME_MAGIC.len() + 1);
            self.offset += skip as u64;
            if hit.is_some() {
                return Ok(true);
            }
        }
    }
}

/// Good frames found behind a damage.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct Later {
    /// How many.
    pub frames: u64,
    /// First operation of the first.
    pub first: Seq,
    /// Last operation of the last.
    pub last: Seq,
    /// The highest position that any of them states as durable.
    pub durable: Seq,
}

impl Later {
    fn add(&mut self, header: &FrameHeader) {
        if self.frames == 0 || header.first < self.first {
            self.first = header.first;
        }
        self.frames += 1;
        self.last = self.last.max(header.last());
        self.durable = self.durable.max(header.durable);
    }
}
