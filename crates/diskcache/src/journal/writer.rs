//! Segments being written, and the groups that are not yet durable.
//!
//! One worker; every call may block for as long as the disk does. A group handed over stays in
//! memory until a sync has made it durable. When a write or a sync fails, the file is not trusted
//! again: a fresh segment is begun with the first operation that is not known to be durable, and
//! everything from there on is written once more. So a failure loses nothing and needs no
//! help: the next call tries again, and `durable` has not moved. In the same way a group waits, and
//! those behind it, while a value in it cannot be encoded; what lies before it becomes durable.
//!
//! A segment gets its name only when its header is durable, and the directory is synced before
//! anything is written behind the header.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::journal::StoreId;
use crate::journal::files::{Dir, File, copy_file, write_all_at};
use crate::journal::group::Group;
use crate::journal::record::{FrameHeader, SEGMENT_HEADER_LEN, SegmentHeader, segment_name};
use crate::journal::replay::{Accepted, Part, Replay};
use crate::journal::watermark::{Mark, WatermarkFile};
use crate::key::Seq;
use crate::storage::{ErrorKind, StoreError};

/// Empty groups kept for reuse.
const SPARE_MAX: usize = 1;
const NEW_SEGMENT: &str = "journal.tmp";
/// A value in memory is not what its type promises.
pub(crate) const ENCODER_PANICKED: &str = "encoding a value, whose encoder panicked";

/// Sizes of a journal.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct WriterOptions {
    /// A segment that has reached this many bytes is followed by a new one.
    pub segment_bytes: u64,
    /// More bytes than this are not left unsynced, whatever the mode: they are held in memory.
    pub unsynced_bytes_max: usize,
}

impl Default for WriterOptions {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20, unsynced_bytes_max: 32 << 20 }
    }
}

/// A segment's share of a journal: only whole segments are given back.
const SEGMENT_PART: u64 = 8;
const SEGMENT_BYTES: std::ops::RangeInclusive<u64> = 64 << 10..=64 << 20;

impl WriterOptions {
    /// For a journal that is kept about `bytes` long: its segments are an eighth of that, within
    /// reason, so that what is left of it when everything is saved is little.
    #[must_use]
    pub fn for_journal(bytes: u64) -> Self {
        let segment_bytes =
            (bytes / SEGMENT_PART).clamp(*SEGMENT_BYTES.start(), *SEGMENT_BYTES.end());
        Self { segment_bytes, ..Self::default() }
    }
}

/// Figures of the journal.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct JournalStats {
    /// Segments on disk.
    pub segments: u64,
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// Bytes in groups that are not yet durable.
    pub unsynced_bytes: usize,
    /// Bytes of memory in groups, also those kept for reuse.
    pub memory_bytes: usize,
    /// Bytes written since opening, repeated ones included.
    pub written_bytes: u64,
    /// Good syncs since opening.
    pub syncs: u64,
    /// Writes and syncs that failed since opening.
    pub failures: u64,
    /// Times the watermark could not be written; the journal itself was durable.
    pub watermark_failures: u64,
}

/// Appends groups, makes them durable, and drops what the engine has taken over.
#[derive(Debug)]
pub struct Writer {
    dir: Arc<dyn Dir>,
    store: StoreId,
    options: WriterOptions,
    /// Segments that are no longer written, oldest first.
    closed: VecDeque<Closed>,
    active: Option<Active>,
    /// Groups that are not durable, oldest first; the first `written` are in the active segment.
    unsynced: VecDeque<Group>,
    written: usize,
    unsynced_bytes: usize,
    spare: Vec<Group>,
    durable: Seq,
    next: Seq,
    mark: Option<WatermarkFile>,
    turn: u64,
    /// Backups under way that need the segments there are.
    holds: usize,
    stats: JournalStats,
}

#[derive(Debug)]
struct Closed {
    name: String,
    follows: Seq,
    len: u64,
}

#[derive(Debug)]
struct Active {
    file: Box<dyn File>,
    first: Seq,
    follows: Seq,
    len: u64,
    synced_len: u64,
}

impl Writer {
    /// Opens the journal for writing: cuts off what the scan found torn, writes what is whole but
    /// not proven durable once more, and begins a segment. (After a crash, frames can be readable
    /// that no sync has covered, even one that failed; reading them back proves nothing.)
    ///
    /// Returns with it the operations that the engine does not have, now all of them durable.
    ///
    /// # Errors
    /// A failed operation; what was durable still is, and opening again goes on.
    pub fn open(
        dir: Arc<dyn Dir>,
        store: StoreId,
        options: WriterOptions,
        accepted: &Accepted,
    ) -> Result<(Self, Replay), StoreError> {
        let failed = |e| StoreError::from_io("opening the journal", e);
        let report = accepted.report();
        accepted.repair(&*dir).map_err(failed)?;
        let mut unproven = accepted.replay_from(Arc::clone(&dir), store, report.proof);
        let group = unproven.next_raw()?;
        // Between the proof and the first group behind it there may be positions that were skipped
        // at an earlier opening: nothing is there, so nothing of it can be claimed to be durable.
        let before = |g: &Group| report.proof.min(Seq(g.first_seq().0 - 1));
        let durable = group.as_ref().map_or(report.end, before);
        let mut writer = Self {
            dir,
            store,
            options,
            closed: VecDeque::new(),
            active: None,
            unsynced: VecDeque::new(),
            written: 0,
            unsynced_bytes: 0,
            spare: Vec::new(),
            durable,
            next: report.next(),
            mark: None,
            turn: report.turn(),
            holds: 0,
            stats: JournalStats::default(),
        };
        for segment in accepted.kept() {
            let follows = segment.header.map_or(Seq(0), |h| h.follows);
            let len = accepted.len_after(segment);
            writer.closed.push_back(Closed { name: segment.name.clone(), follows, len });
        }
        // Before the first segment: one without a watermark file beside it is not believed.
        writer.write_mark().map_err(failed)?;
        if let Some(group) = group {
            writer.repeat(group, &mut unproven)?;
        }
        let replay = writer.replay_of(accepted, durable);
        if writer.durable.next() != writer.next || writer.active.is_none() {
            writer.close_active();
            writer.begin_segment(writer.next, |_, _| Ok(())).map_err(failed)?;
        }
        Ok((writer, replay))
    }

    /// What the scan found up to `durable`, then what was repeated behind it.
    fn replay_of(&self, accepted: &Accepted, durable: Seq) -> Replay {
        let report = accepted.report();
        let repeated = self.active.as_ref().map(|a| (segment_name(a.first), a.len));
        let mut parts: VecDeque<Part> = (accepted.kept())
            .filter(|s| repeated.as_ref().is_none_or(|(name, _)| *name != s.name))
            .map(|s| Part::new(&s.name, s.needed_from, s.valid_bytes, durable))
            .collect();
        if let Some((name, len)) = &repeated {
            parts.push_back(Part::new(name, SEGMENT_HEADER_LEN as u64, *len, report.end));
        }
        let (dir, from) = (Arc::clone(&self.dir), report.engine.watermark);
        Replay::new(dir, self.store, parts, from, report.end)
    }

    /// Writes groups that were read back to a segment that replaces or supersedes theirs. It gets
    /// its name when all of it is durable: they may have been acknowledged, and a crash in between
    /// must find them where they were.
    fn repeat(&mut self, group: Group, rest: &mut Replay) -> Result<(), StoreError> {
        let (store, durable) = (self.store, self.durable);
        let mut read = Ok(());
        let mut last = group.last_seq();
        let first = group.first_seq();
        let done = self.begin_segment(first, |file, len| {
            let mut next = Some(group);
            while let Some(mut group) = next {
                write_frame(file, len, &mut group, durable, &store)?;
                last = group.last_seq();
                next = rest.next_raw().unwrap_or_else(|e| {
                    read = Err(e);
                    None
                });
            }
            // A segment with only a part must not get its name.
            if read.is_err() { Err(io::ErrorKind::Other.into()) } else { Ok(()) }
        });
        read?;
        done.map_err(|e| StoreError::from_io("repeating what was not durable", e))?;
        self.durable = last;
        self.write_mark().map_err(|e| StoreError::from_io("writing the watermark", e))
    }

    /// Position the next group must begin with.
    #[must_use]
    pub const fn next_seq(&self) -> Seq {
        self.next
    }

    /// Every operation up to here survives a crash.
    #[must_use]
    pub const fn durable(&self) -> Seq {
        self.durable
    }

    /// Takes a group over and writes it; not durable yet, unless more is unsynced than allowed.
    ///
    /// # Errors
    /// The group is kept all the same and written again by the next call. `durable` says what is
    /// safe.
    ///
    /// # Panics
    /// If the group is empty or does not begin with [`Writer::next_seq`].
    pub fn append(&mut self, group: Group) -> Result<(), StoreError> {
        assert!(!group.is_empty(), "an empty group says nothing");
        assert_eq!(group.first_seq(), self.next, "positions follow one another");
        self.next = group.next_seq();
        self.unsynced_bytes += group.len_bytes();
        self.unsynced.push_back(group);
        self.write_pending()?;
        if self.unsynced_bytes > self.options.unsynced_bytes_max {
            self.sync()?;
        }
        Ok(())
    }

    /// Makes every group handed over durable and returns [`Writer::durable`].
    ///
    /// # Errors
    /// `durable` has not moved; the groups are kept, and the next call writes them to a fresh
    /// segment.
    pub fn sync(&mut self) -> Result<Seq, StoreError> {
        let written = self.write_pending();
        // What lies before a group that cannot be encoded is made durable all the same.
        self.sync_written()?;
        written.map(|()| self.durable)
    }

    /// Drops the segments in which every operation is at or below `upto`, which the engine has
    /// made durable. Returns the bytes freed: none while a backup holds the segments.
    ///
    /// # Errors
    /// Segments that are still there are dropped by the next call.
    ///
    /// # Panics
    /// If `upto` is not durable yet.
    pub fn trim(&mut self, upto: Seq) -> Result<u64, StoreError> {
        assert!(upto <= self.durable, "the engine never gets ahead of a synced journal");
        let mut freed = 0;
        while let Some(oldest) = self.closed.front().filter(|_| self.holds == 0) {
            let next = self.closed.get(1).map(|s| s.follows);
            let follows = next.or(self.active.as_ref().map(|a| a.follows)).unwrap_or(self.durable);
            if follows > upto {
                break;
            }
            let gone = |e| StoreError::from_io("dropping a journal segment", e);
            match self.dir.remove(&oldest.name) {
                Ok(()) => {}
                // Replaced by one of the same name, or dropped by a call that failed later on.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(gone(e)),
            }
            freed += oldest.len;
            self.closed.pop_front();
        }
        if freed > 0 {
            self.dir.sync().map_err(|e| StoreError::from_io("syncing the journal directory", e))?;
            self.sync_mark();
        }
        Ok(freed)
    }

    /// Keeps the segments there are until [`Writer::release`]; see [`crate::backup`].
    pub fn hold(&mut self) {
        self.holds += 1;
    }

    /// Takes one [`Writer::hold`] back.
    ///
    /// # Panics
    /// Without one.
    pub fn release(&mut self) {
        self.holds = self.holds.checked_sub(1).expect("each release takes a hold back");
    }

    /// Makes everything durable and says which bytes hold it; they do not change any more. Call it
    /// between [`Writer::hold`] and [`Writer::release`].
    ///
    /// # Errors
    /// As [`Writer::sync`].
    ///
    /// # Panics
    /// Without a hold, under which the segments may be dropped at any time.
    pub fn export(&mut self) -> Result<Export, StoreError> {
        assert!(self.holds > 0, "an export is of segments that are held");
        let cut = self.sync()?;
        let closed = self.closed.iter().map(|s| (s.name.clone(), s.len));
        let active = self.active.as_ref().map(|a| (segment_name(a.first), a.synced_len));
        let segments = closed.chain(active).collect();
        Ok(Export { store: self.store, segments, mark: self.mark_now(), cut })
    }

    /// Makes everything durable, the watermark included; for a clean end. The writer stays usable.
    /// A watermark that cannot be written is counted, and costs nothing but its statement.
    ///
    /// # Errors
    /// As [`Writer::sync`].
    pub fn close(&mut self) -> Result<Seq, StoreError> {
        let durable = self.sync()?;
        if self.mark.is_none() {
            self.note_mark();
        }
        self.sync_mark();
        Ok(durable)
    }

    /// An empty group to fill next, if one is left over; its positions must be set by
    /// [`Group::reset`].
    pub fn take_spare(&mut self) -> Option<Group> {
        self.spare.pop()
    }

    /// Figures for INFO; cheap.
    #[must_use]
    pub fn stats(&self) -> JournalStats {
        let active = self.active.as_ref().map_or(0, |a| a.len);
        let groups = self.unsynced.iter().chain(&self.spare);
        JournalStats {
            segments: (self.closed.len() + usize::from(self.active.is_some())) as u64,
            disk_bytes: self.closed.iter().map(|s| s.len).sum::<u64>() + active,
            unsynced_bytes: self.unsynced_bytes,
            memory_bytes: groups.map(Group::memory_bytes).sum(),
            ..self.stats
        }
    }

    /// Writes what is not in the active segment yet.
    fn write_pending(&mut self) -> Result<(), StoreError> {
        while self.written < self.unsynced.len() {
            self.encode_next()?;
            if self.active.as_ref().is_some_and(|a| a.len >= self.options.segment_bytes) {
                // What follows in the next segment must not become durable before what is here.
                self.sync_written()?;
                self.sync_mark();
                self.close_active();
            }
            if let Err(e) = self.write_one() {
                self.abandon();
                return Err(StoreError::from_io("writing the journal", e));
            }
        }
        Ok(())
    }

    /// Encodes what was left for later in the group that is written next.
    fn encode_next(&mut self) -> Result<(), StoreError> {
        let group = &mut self.unsynced[self.written];
        self.unsynced_bytes -= group.len_bytes();
        let encoded = catch_unwind(AssertUnwindSafe(|| group.encode_later()));
        self.unsynced_bytes += group.len_bytes();
        encoded.map_err(|_| StoreError::new(ErrorKind::Corrupt, ENCODER_PANICKED))
    }

    fn write_one(&mut self) -> io::Result<()> {
        if self.active.is_none() {
            assert_eq!(self.written, 0, "a fresh segment begins with what is not durable");
            self.begin_segment(self.unsynced[0].first_seq(), |_, _| Ok(()))?;
        }
        let active = self.active.as_mut().expect("a segment was just begun");
        let group = &mut self.unsynced[self.written];
        let before = active.len;
        write_frame(&*active.file, &mut active.len, group, self.durable, &self.store)?;
        self.stats.written_bytes += active.len - before;
        self.written += 1;
        Ok(())
    }

    /// Syncs the active segment; everything written is then durable.
    fn sync_written(&mut self) -> Result<(), StoreError> {
        if self.written == 0 {
            return Ok(());
        }
        let active = self.active.as_mut().expect("what is written is in a segment");
        if let Err(e) = active.file.sync() {
            self.abandon();
            return Err(StoreError::from_io("syncing the journal", e));
        }
        active.synced_len = active.len;
        self.stats.syncs += 1;
        self.durable = self.unsynced[self.written - 1].last_seq();
        for mut group in self.unsynced.drain(..self.written) {
            self.unsynced_bytes -= group.len_bytes();
            if self.spare.len() < SPARE_MAX {
                group.reset(Seq(1));
                self.spare.push(group);
            }
        }
        self.written = 0;
        self.note_mark();
        Ok(())
    }

    /// Begins a segment; `fill` writes what must be durable before the segment gets its name.
    fn begin_segment(
        &mut self,
        first: Seq,
        fill: impl FnOnce(&dyn File, &mut u64) -> io::Result<()>,
    ) -> io::Result<()> {
        let follows = self.durable;
        let header = SegmentHeader { store: self.store, first, follows };
        let file = self.dir.create(NEW_SEGMENT)?;
        write_all_at(&*file, 0, &header.encode())?;
        let mut len = SEGMENT_HEADER_LEN as u64;
        fill(&*file, &mut len)?;
        file.sync()?;
        let name = segment_name(first);
        self.dir.rename(NEW_SEGMENT, &name)?;
        self.dir.sync()?;
        // One of that name held nothing but what the new one has, and was replaced.
        self.closed.retain(|s| s.name != name);
        self.active = Some(Active { file, first, follows, len, synced_len: len });
        Ok(())
    }

    fn close_active(&mut self) {
        if let Some(active) = self.active.take() {
            let (name, follows) = (segment_name(active.first), active.follows);
            self.closed.push_back(Closed { name, follows, len: active.len });
        }
    }

    /// Gives the active segment up: what is not durable will be written to a fresh one.
    fn abandon(&mut self) {
        self.stats.failures += 1;
        self.written = 0;
        if let Some(active) = &mut self.active {
            // Only to give room back on a full disk: what is left there is superseded anyway.
            if active.file.set_len(active.synced_len).is_ok() {
                active.len = active.synced_len;
            }
        }
        self.close_active();
    }

    fn mark_now(&self) -> Mark {
        let (segment, offset) = match &self.active {
            Some(active) => (active.first, active.synced_len),
            None => (Seq(0), 0),
        };
        Mark { turn: self.turn, durable: self.durable, segment, offset }
    }

    /// States the durable position in the next slot.
    fn write_mark(&mut self) -> io::Result<()> {
        let mark = self.mark_now();
        let file = match self.mark.take() {
            Some(mut file) => {
                file.write(&self.store, mark)?;
                file
            }
            None => WatermarkFile::create(&*self.dir, &self.store, mark)?,
        };
        self.turn = file.mark().turn;
        self.mark = Some(file);
        Ok(())
    }

    /// As [`Writer::write_mark`], where a failure costs only the statement, which later frames
    /// repeat: it is counted, and the file is made anew with the next one.
    fn note_mark(&mut self) {
        if self.write_mark().is_err() {
            self.stats.watermark_failures += 1;
        }
    }

    fn sync_mark(&mut self) {
        if let Some(file) = self.mark.take() {
            match file.sync() {
                Ok(()) => self.mark = Some(file),
                Err(_) => self.stats.watermark_failures += 1,
            }
        }
    }
}

/// Which bytes of which segments make up the journal at one position.
#[derive(Debug)]
pub struct Export {
    store: StoreId,
    segments: Vec<(String, u64)>,
    mark: Mark,
    cut: Seq,
}

impl Export {
    /// The position: everything up to here is in it, and nothing behind.
    #[must_use]
    pub const fn cut(&self) -> Seq {
        self.cut
    }

    /// Bytes to copy.
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        self.segments.iter().map(|(_, len)| len).sum()
    }

    /// Copies the journal into the empty directory `to`, durably; any worker. Tells `copied` the
    /// bytes of each segment.
    ///
    /// # Errors
    /// The copy is incomplete.
    pub fn copy(
        &self,
        from: &dyn Dir,
        to: &dyn Dir,
        copied: &dyn Fn(u64),
    ) -> Result<(), StoreError> {
        let copy = || {
            for (name, len) in &self.segments {
                copy_file(from, name, to, name, *len)?;
                copied(*len);
            }
            WatermarkFile::create(to, &self.store, self.mark).map(|_| ())
        };
        copy().map_err(|e| StoreError::from_io("copying the journal", e))
    }
}

fn write_frame(
    file: &dyn File,
    len: &mut u64,
    group: &mut Group,
    durable: Seq,
    store: &StoreId,
) -> io::Result<()> {
    let header = FrameHeader::of(group.body(), group.first_seq(), group.count(), durable);
    let frame = group.seal(&header.encode(store));
    write_all_at(file, *len, frame)?;
    *len += frame.len() as u64;
    Ok(())
}
