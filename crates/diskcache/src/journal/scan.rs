//! The scan at opening and its verdict.
//!
//! Worker. The scan walks the segments from the engine's watermark on and finds how far the
//! journal is whole. Against that stands the *proof*: the highest position known to have been
//! durable, from the watermark slots, from the `durable` field of any good frame or segment
//! header, also behind a damage, and from the engine, which never gets ahead of a synced journal.
//!
//! | whole up to | verdict |
//! |---|---|
//! | the end, and the proof | clean |
//! | a damage at or after the proof | a torn tail that nobody was promised: cut off, and said so |
//! | less than the proof | refused: acknowledged operations are missing, and which |
//!
//! Nothing is applied before the verdict. A loss that the operator accepts cuts the journal at the
//! damage: what follows is not applied, since a change on top of a lost state would make a value
//! that never was; the damaged segments are kept under another name.
//!
//! A segment that could not be written to the end (a failed write or sync) is followed by one that
//! repeats what was not durable. The frames behind the later one's `follows` are then superseded.
//!
//! Source: measurements of embedded engines: none both opened after every torn tail and noticed
//! every loss of what was acknowledged.

use std::fmt;
use std::io;

use crate::journal::StoreId;
use crate::journal::files::{Dir, read_full_at};
use crate::journal::record::{BadHeader, SEGMENT_HEADER_LEN, SegmentHeader, parse_segment_name};
use crate::journal::replay::Accepted;
use crate::journal::search::{Frames, Later, Step};
use crate::journal::watermark::{self, Found, Mark};
use crate::key::Seq;
use crate::storage::StoreError;

/// How far the engine is, from its [`Meta`](crate::storage::Meta).
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct EngineAt {
    /// Everything up to here is in the engine.
    pub watermark: Seq,
    /// The highest operation that any record includes.
    pub highest: Seq,
}

/// How thorough a scan is.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Depth {
    /// Segments that the engine has taken over are not read.
    Needed,
    /// Every frame of every segment is checked.
    Full,
}

/// One segment as the scan found it.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Segment {
    /// File name.
    pub name: String,
    /// First operation, by its name.
    pub first: Seq,
    /// The header; `None` when it is damaged.
    pub header: Option<SegmentHeader>,
    /// Frames that count.
    pub frames: u64,
    /// Where the operations begin that the engine does not have.
    pub needed_from: u64,
    /// Bytes up to the end of the last frame that counts.
    pub valid_bytes: u64,
    /// Bytes of the file.
    pub len_bytes: u64,
}

/// Where the journal stops being whole.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Damage {
    /// File name of the segment.
    pub segment: String,
    /// Bytes from its start.
    pub offset: u64,
    /// What was found there.
    pub what: What,
    /// Good frames behind it.
    pub later: Later,
}

/// Kinds of damage.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
#[non_exhaustive]
pub enum What {
    /// A frame that is cut or whose checksum does not match.
    BadFrame,
    /// A good frame with other operations than those that come next.
    OutOfOrder,
    /// The segment's header is damaged.
    BadHeader,
    /// The segment ends, and the next one begins later.
    Gap,
}

/// What stated the proof.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
#[non_exhaustive]
pub enum ProvenBy {
    /// The watermark file.
    Watermark,
    /// A later frame or segment of the journal.
    Journal,
    /// The engine.
    Engine,
}

/// Why a store is not opened.
#[derive(Clone, Eq, PartialEq, Debug)]
#[non_exhaustive]
pub enum Refusal {
    /// Acknowledged operations are missing.
    Lost {
        /// The first that is missing.
        first: Seq,
        /// The last that is known to have been durable; there may have been more.
        last: Seq,
        /// What proves it.
        by: ProvenBy,
    },
    /// The journal begins behind the operation that the engine needs next.
    LostStart {
        /// The operation needed next.
        need: Seq,
        /// The first operation there is.
        first: Seq,
    },
    /// Neither slot of the watermark file is good, so nobody can tell whether the end is missing.
    NoWatermark,
    /// Written by a newer version. Cannot be accepted.
    Newer {
        /// File name of the segment.
        segment: String,
        /// Its format version.
        version: u32,
    },
    /// A segment of another store. Cannot be accepted.
    Foreign {
        /// File name of the segment.
        segment: String,
    },
}

impl Refusal {
    /// Whether the operator may accept the loss and open what is left.
    #[must_use]
    pub const fn acceptable(&self) -> bool {
        !matches!(self, Self::Newer { .. } | Self::Foreign { .. })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost { first, last, by } => {
                let by = match by {
                    ProvenBy::Watermark => "the watermark file",
                    ProvenBy::Journal => "a later part of the journal",
                    ProvenBy::Engine => "the engine",
                };
                write!(
                    f,
                    "acknowledged operations {} to {} are missing from the journal ({by} says they \
                     were durable)",
                    first.0, last.0
                )
            }
            Self::LostStart { need, first } => write!(
                f,
                "the journal begins with operation {} but the engine needs operation {} next",
                first.0, need.0
            ),
            Self::NoWatermark => f.write_str(
                "the watermark file is missing or damaged, so a loss at the journal's end could \
                 not be noticed",
            ),
            Self::Newer { segment, version } => {
                write!(
                    f,
                    "{segment} has format version {version}, which is newer than this program"
                )
            }
            Self::Foreign { segment } => write!(f, "{segment} belongs to another store"),
        }
    }
}

impl std::error::Error for Refusal {}

/// What the scan decided.
#[derive(Clone, Eq, PartialEq, Debug)]
pub enum Verdict {
    /// Whole.
    Clean,
    /// The end is torn, and nothing of it was acknowledged.
    TornTail {
        /// Bytes that are cut off.
        bytes: u64,
        /// Good frames among them, which nobody was promised either.
        frames: u64,
    },
    /// Not opened unless the operator accepts the loss.
    Refused(Refusal),
}

/// All that the scan found.
#[derive(Clone, Debug)]
pub struct Report {
    /// The segments, in order.
    pub segments: Vec<Segment>,
    /// The watermark file.
    pub mark: Found,
    /// The engine's position that the scan was given.
    pub engine: EngineAt,
    /// The journal and the engine together are whole up to here.
    pub end: Seq,
    /// The highest position known to have been durable.
    pub proof: Seq,
    /// Where the journal stops being whole, if not at its end.
    pub damage: Option<Damage>,
    /// The decision.
    pub verdict: Verdict,
    /// Highest position seen anywhere: positions up to it are never given out again.
    seen: Seq,
}

/// Scans the journal in `dir`; changes nothing.
///
/// # Errors
/// A failed read. That a file is damaged is no error but a verdict.
pub fn scan(
    dir: &dyn Dir,
    store: &StoreId,
    engine: EngineAt,
    depth: Depth,
) -> Result<Report, StoreError> {
    let failed = |e| StoreError::from_io("scanning the journal", e);
    let mark = watermark::read(dir, store).map_err(failed)?;
    let mut walk = Walk {
        dir,
        store,
        engine,
        end: engine.watermark,
        proof: (engine.highest, ProvenBy::Engine),
        seen: engine.highest,
        damage: None,
        refusal: None,
    };
    if let Found::Mark(mark, _) = mark {
        walk.prove(mark.durable, ProvenBy::Watermark);
    }
    let mut segments = walk.headers().map_err(failed)?;
    if walk.refusal.is_none() {
        walk.frames(&mut segments, depth).map_err(failed)?;
    }
    let verdict = walk.verdict(&segments, mark);
    let Walk { end, proof: (proof, _), seen, damage, .. } = walk;
    Ok(Report { segments, mark, engine, end, proof, damage, verdict, seen })
}

struct Walk<'a> {
    dir: &'a dyn Dir,
    store: &'a StoreId,
    engine: EngineAt,
    end: Seq,
    proof: (Seq, ProvenBy),
    seen: Seq,
    damage: Option<Damage>,
    refusal: Option<Refusal>,
}

impl Walk<'_> {
    fn prove(&mut self, durable: Seq, by: ProvenBy) {
        if durable > self.proof.0 {
            self.proof = (durable, by);
        }
        self.seen = self.seen.max(durable);
    }

    fn headers(&mut self) -> io::Result<Vec<Segment>> {
        let mut named: Vec<(Seq, String)> = (self.dir.list()?.into_iter())
            .filter_map(|name| Some((parse_segment_name(&name)?, name)))
            .collect();
        named.sort();
        let mut segments = Vec::with_capacity(named.len());
        for (first, name) in named {
            let file = self.dir.open(&name)?;
            let mut bytes = [0; SEGMENT_HEADER_LEN];
            let got = read_full_at(&*file, 0, &mut bytes)?;
            let header = match SegmentHeader::decode(&bytes[..got], self.store) {
                Ok(header) if header.first == first => Some(header),
                Ok(_) | Err(BadHeader::Damaged) => None,
                Err(BadHeader::Newer(version)) => {
                    self.refusal = Some(Refusal::Newer { segment: name.clone(), version });
                    None
                }
                Err(BadHeader::Foreign) => {
                    self.refusal = Some(Refusal::Foreign { segment: name.clone() });
                    None
                }
            };
            if let Some(header) = header {
                self.prove(header.follows, ProvenBy::Journal);
            }
            let len_bytes = file.len_bytes()?;
            segments.push(Segment {
                name,
                first,
                header,
                frames: 0,
                needed_from: SEGMENT_HEADER_LEN as u64,
                valid_bytes: 0,
                len_bytes,
            });
        }
        Ok(segments)
    }

    /// Walks the frames in order until the end or the first damage that matters.
    fn frames(&mut self, segments: &mut [Segment], depth: Depth) -> io::Result<()> {
        // A segment is needed unless a later one begins at or below the engine's watermark.
        let taken = |s: &Segment| s.header.is_some_and(|h| h.follows <= self.engine.watermark);
        let needed = segments.iter().rposition(taken).unwrap_or(0);
        let start = if depth == Depth::Full { 0 } else { needed };
        let mut at: Option<Seq> = None;
        for i in start..segments.len() {
            let follows_next = segments[i + 1..].iter().find_map(|s| s.header).map(|h| h.follows);
            let limit = follows_next.unwrap_or(Seq(u64::MAX));
            let damage = self.segment(&mut segments[i], &mut at, limit)?;
            let Some(mut damage) = damage else { continue };
            // Damage in what the engine has taken over harms nothing; the next segment starts anew.
            if i < needed {
                at = None;
                continue;
            }
            self.search(segments, i, &mut damage)?;
            self.damage = Some(damage);
            break;
        }
        if let Some(at) = at {
            self.end = self.end.max(at);
        }
        self.seen = self.seen.max(self.end);
        Ok(())
    }

    /// Walks one segment; `at` is the last operation that counts so far.
    fn segment(
        &mut self,
        segment: &mut Segment,
        at: &mut Option<Seq>,
        limit: Seq,
    ) -> io::Result<Option<Damage>> {
        let damage = |offset, what| {
            let segment = segment.name.clone();
            Ok(Some(Damage { segment, offset, what, later: Later::default() }))
        };
        let Some(header) = segment.header else { return damage(0, What::BadHeader) };
        match *at {
            None if header.follows > self.engine.watermark => {
                self.refusal = Some(Refusal::LostStart {
                    need: self.engine.watermark.next(),
                    first: header.first,
                });
                return damage(0, What::Gap);
            }
            Some(end) if end < header.follows => return damage(0, What::Gap),
            _ => {}
        }
        *at = Some(header.follows);
        let mut next = header.first;
        segment.valid_bytes = SEGMENT_HEADER_LEN as u64;
        let file = self.dir.open(&segment.name)?;
        let mut frames = Frames::new(file, *self.store, segment.valid_bytes)?;
        loop {
            let what = match frames.step()? {
                Step::Good(frame) if frame.first == next && frame.last() <= limit => {
                    self.prove(frame.durable, ProvenBy::Journal);
                    *at = Some(frame.last());
                    next = frame.last().next();
                    segment.frames += 1;
                    segment.valid_bytes = frames.offset();
                    if frame.last() <= self.engine.watermark {
                        segment.needed_from = frames.offset();
                    }
                    continue;
                }
                Step::Good(frame) => {
                    self.prove(frame.durable, ProvenBy::Journal);
                    What::OutOfOrder
                }
                Step::Bad => What::BadFrame,
                Step::End => What::Gap,
            };
            // The next segment goes on from here: what is left over here is superseded, or this
            // is simply the end.
            if *at == Some(limit) || (what == What::Gap && limit == Seq(u64::MAX)) {
                return Ok(None);
            }
            match self.skip_taken_over(&mut frames, next)? {
                Some(first) => {
                    next = first;
                    segment.needed_from = frames.offset();
                }
                None => return damage(segment.valid_bytes, what),
            }
        }
    }

    /// Goes past a damage in what the engine has taken over, if a good frame behind it begins at
    /// or before the operation that the engine needs next. Returns that frame's first operation.
    fn skip_taken_over(&self, frames: &mut Frames, next: Seq) -> io::Result<Option<Seq>> {
        let need = self.engine.watermark.next();
        while next < need
            && let Some(header) = frames.find()?
        {
            if header.first >= next && header.first <= need {
                return Ok(Some(header.first));
            }
            frames.skip_magic();
        }
        Ok(None)
    }

    /// Looks for good frames behind the damage: in the rest of its segment and in later ones.
    fn search(&mut self, segments: &[Segment], i: usize, damage: &mut Damage) -> io::Result<()> {
        for (k, segment) in segments.iter().enumerate().skip(i) {
            let from = if k == i { damage.offset } else { SEGMENT_HEADER_LEN as u64 };
            let file = self.dir.open(&segment.name)?;
            Frames::new(file, *self.store, from)?.search(&mut damage.later)?;
        }
        self.prove(damage.later.durable, ProvenBy::Journal);
        self.seen = self.seen.max(damage.later.last);
        Ok(())
    }

    fn verdict(&mut self, segments: &[Segment], mark: Found) -> Verdict {
        if let Some(refusal) = self.refusal.take() {
            return Verdict::Refused(refusal);
        }
        let (proof, by) = self.proof;
        if self.end < proof {
            return Verdict::Refused(Refusal::Lost { first: self.end.next(), last: proof, by });
        }
        let untouched = segments.is_empty() && self.engine == EngineAt::default();
        match mark {
            Found::Mark(..) => {}
            Found::Absent if untouched => {}
            Found::Absent | Found::Unreadable => return Verdict::Refused(Refusal::NoWatermark),
        }
        match &self.damage {
            None => Verdict::Clean,
            Some(damage) => {
                let behind = segments.iter().skip_while(|s| s.name != damage.segment);
                let bytes = behind.map(|s| s.len_bytes - s.valid_bytes.min(s.len_bytes)).sum();
                Verdict::TornTail { bytes, frames: damage.later.frames }
            }
        }
    }
}

impl Report {
    /// Passes the verdict: what may be replayed and written to.
    ///
    /// # Errors
    /// The refusal, unless it can be and is accepted.
    pub fn accept(self, accept_loss: bool) -> Result<Accepted, Refusal> {
        match &self.verdict {
            Verdict::Refused(refusal) if !(accept_loss && refusal.acceptable()) => {
                Err(refusal.clone())
            }
            Verdict::Refused(_) => Ok(Accepted::new(self, true)),
            Verdict::Clean | Verdict::TornTail { .. } => Ok(Accepted::new(self, false)),
        }
    }

    /// Refuses a journal without a watermark file. (Without this, a journal that has never been
    /// written passes, as that of a store that is being created.)
    pub(crate) fn require_watermark(&mut self) {
        if self.mark == Found::Absent && !matches!(self.verdict, Verdict::Refused(_)) {
            self.verdict = Verdict::Refused(Refusal::NoWatermark);
        }
    }

    /// The position to give out next: behind everything that was ever given out.
    #[must_use]
    pub fn next(&self) -> Seq {
        self.end.max(self.seen).next()
    }

    /// Turn of the watermark file.
    pub(super) const fn turn(&self) -> u64 {
        match self.mark {
            Found::Mark(Mark { turn, .. }, _) => turn,
            Found::Absent | Found::Unreadable => 0,
        }
    }
}
