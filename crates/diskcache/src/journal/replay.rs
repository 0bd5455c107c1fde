//! Acting on the verdict: the repair, and the operations to apply.
//!
//! Worker. Memory: the largest group.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use crate::journal::StoreId;
use crate::journal::files::{Dir, File, copy_file, read_full_at};
use crate::journal::group::Group;
use crate::journal::record::{FrameHeader, Op, take_op};
use crate::journal::scan::{Report, Segment};
use crate::journal::search::{Frames, Step};
use crate::key::Seq;
use crate::storage::{ErrorKind, StoreError};

/// A journal that may be used: whole, or cut with the operator's consent.
#[derive(Clone, Debug)]
pub struct Accepted {
    report: Report,
    /// Whether acknowledged operations are cut off, so that what is cut is kept aside.
    keep: bool,
}

impl Accepted {
    pub(super) const fn new(report: Report, keep: bool) -> Self {
        Self { report, keep }
    }

    /// What the scan found.
    #[must_use]
    pub const fn report(&self) -> &Report {
        &self.report
    }

    /// The operations behind the engine's watermark, up to the end of what is whole, as they are
    /// before [`Writer::open`](super::Writer::open) touches the files; for looking only. What is
    /// applied and then written to the engine must come from the writer, which has made it
    /// durable first.
    #[must_use]
    pub fn replay(&self, dir: Arc<dyn Dir>, store: StoreId) -> Replay {
        self.replay_from(dir, store, self.report.engine.watermark)
    }

    /// The groups that hold operations behind `from`, up to the end of what is whole.
    pub(super) fn replay_from(&self, dir: Arc<dyn Dir>, store: StoreId, from: Seq) -> Replay {
        let upto = self.report.end;
        let part = |s: &Segment| Part::new(&s.name, s.needed_from, s.valid_bytes, upto);
        let parts = self.report.segments.iter().map(part).collect();
        Replay { dir, store, parts, open: None, from, upto }
    }

    /// The segments that are left after [`Accepted::repair`].
    pub(super) fn kept(&self) -> impl Iterator<Item = &Segment> {
        let cut = self.report.damage.as_ref().map(|d| d.segment.as_str());
        let at = self.report.segments.iter().position(|s| Some(s.name.as_str()) == cut);
        let all = &self.report.segments[..];
        let upto = at.map_or(all.len(), |at| at + usize::from(all[at].frames > 0));
        all[..upto].iter()
    }

    /// Bytes of a kept segment after [`Accepted::repair`].
    pub(super) fn len_after(&self, segment: &Segment) -> u64 {
        match &self.report.damage {
            Some(damage) if damage.segment == segment.name => segment.valid_bytes,
            _ => segment.len_bytes,
        }
    }

    /// Cuts the journal to what is whole. What was acknowledged and is cut off stays under another
    /// name.
    ///
    /// # Errors
    /// A failed operation; calling again goes on.
    pub fn repair(&self, dir: &dyn Dir) -> io::Result<()> {
        let Some(damage) = &self.report.damage else { return Ok(()) };
        let behind = self.report.segments.iter().skip_while(|s| s.name != damage.segment);
        for segment in behind {
            if self.keep {
                copy_file(dir, &segment.name, dir, &aside_of(dir, &segment.name)?, u64::MAX)?;
            }
            if segment.frames > 0 && segment.name == damage.segment {
                let file = dir.open(&segment.name)?;
                file.set_len(segment.valid_bytes)?;
                file.sync()?;
            } else {
                dir.remove(&segment.name)?;
            }
        }
        dir.sync()
    }
}

/// The name under which what is cut off a segment stays: a free one, or that of a copy of the same
/// bytes that was cut short. What an earlier repair kept of this segment stays, too.
fn aside_of(dir: &dyn Dir, segment: &str) -> io::Result<String> {
    let names = dir.list()?;
    let mut aside = format!("lost-{segment}");
    let mut number = 1;
    while names.contains(&aside) && !begins_with(&*dir.open(segment)?, &*dir.open(&aside)?)? {
        number += 1;
        aside = format!("lost-{segment}.{number}");
    }
    Ok(aside)
}

/// Whether the bytes of `part` are the first ones of `whole`.
fn begins_with(whole: &dyn File, part: &dyn File) -> io::Result<bool> {
    let (mut buf, mut of_part) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let mut at = 0;
    loop {
        let len = read_full_at(part, at, &mut of_part)?;
        if len == 0 {
            return Ok(true);
        }
        let got = read_full_at(whole, at, &mut buf[..len])?;
        if buf[..got] != of_part[..len] {
            return Ok(false);
        }
        at += len as u64;
    }
}

/// A stretch of one file.
#[derive(Clone, Debug)]
pub(super) struct Part {
    name: String,
    start: u64,
    end: u64,
    /// Frames behind this are superseded by the next part.
    limit: Seq,
}

impl Part {
    pub(super) fn new(name: &str, start: u64, end: u64, limit: Seq) -> Self {
        Self { name: name.to_owned(), start, end, limit }
    }
}

/// Yields the groups to apply, in order. Memory: the largest group.
#[derive(Debug)]
pub struct Replay {
    dir: Arc<dyn Dir>,
    store: StoreId,
    /// What is still to be read.
    parts: VecDeque<Part>,
    open: Option<(Frames, Part)>,
    from: Seq,
    upto: Seq,
}

impl Replay {
    pub(super) fn new(
        dir: Arc<dyn Dir>,
        store: StoreId,
        parts: VecDeque<Part>,
        from: Seq,
        upto: Seq,
    ) -> Self {
        Self { dir, store, parts, open: None, from, upto }
    }

    /// The next group that holds something to apply; `None` at the end.
    ///
    /// # Errors
    /// A failed read, or a frame that is no longer as the scan saw it.
    ///
    /// # Panics
    /// If the file has grown since the scan: somebody else writes to the store.
    pub fn next_group(&mut self) -> Result<Option<Ops<'_>>, StoreError> {
        let Some(header) = self.next_header()? else { return Ok(None) };
        let (frames, _) = self.open.as_ref().expect("a frame was just read from it");
        Ok(Some(Ops { from: self.from, next: header.first, header, body: frames.body(&header) }))
    }

    /// The next group as it was written, whole.
    pub(super) fn next_raw(&mut self) -> Result<Option<Group>, StoreError> {
        let Some(header) = self.next_header()? else { return Ok(None) };
        let (frames, _) = self.open.as_ref().expect("a frame was just read from it");
        Ok(Some(Group::from_body(header.first, header.count, frames.body(&header))))
    }

    fn next_header(&mut self) -> Result<Option<FrameHeader>, StoreError> {
        let what = "replaying the journal";
        let failed = |e| StoreError::from_io(what, e);
        loop {
            let Some((frames, part)) = &mut self.open else {
                let Some(part) = self.parts.pop_front() else { return Ok(None) };
                if part.start < part.end {
                    let file = self.dir.open(&part.name).map_err(failed)?;
                    let frames = Frames::new(file, self.store, part.start).map_err(failed)?;
                    self.open = Some((frames, part));
                }
                continue;
            };
            if frames.offset() >= part.end {
                self.open = None;
                continue;
            }
            match frames.step().map_err(failed)? {
                Step::Good(header) if header.last() <= self.from => {}
                Step::Good(header) if header.first > part.limit => self.open = None,
                Step::Good(header) => {
                    assert!(header.last() <= self.upto, "the scan saw where the journal ends");
                    return Ok(Some(header));
                }
                Step::Bad | Step::End => {
                    return Err(StoreError { kind: ErrorKind::Corrupt, what, source: None });
                }
            }
        }
    }

    /// The last operation there is to apply.
    #[must_use]
    pub const fn upto(&self) -> Seq {
        self.upto
    }
}

/// The operations of one group, without those that the engine has.
#[derive(Debug)]
pub struct Ops<'a> {
    from: Seq,
    next: Seq,
    header: FrameHeader,
    body: &'a [u8],
}

impl<'a> Ops<'a> {
    /// All operations of a frame.
    pub(super) fn of(header: FrameHeader, body: &'a [u8]) -> Self {
        Self { from: Seq(0), next: header.first, header, body }
    }

    /// Position of the group's last operation.
    #[must_use]
    pub const fn last(&self) -> Seq {
        self.header.last()
    }
}

impl<'a> Iterator for Ops<'a> {
    type Item = Result<Op<'a>, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.next <= self.header.last() {
            let seq = self.next;
            // Bytes left over behind the last operation are as wrong as a missing operation.
            let op = take_op(&mut self.body, seq)
                .filter(|_| seq < self.header.last() || self.body.is_empty());
            self.next = if op.is_some() { seq.next() } else { self.header.last().next() };
            match op {
                Some(_) if seq <= self.from => {}
                Some(op) => return Some(Ok(op)),
                None => {
                    let what = "decoding a journal frame";
                    return Some(Err(StoreError { kind: ErrorKind::Corrupt, what, source: None }));
                }
            }
        }
        None
    }
}
