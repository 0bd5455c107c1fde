//! Looking a closed store over, and repairing what can be repaired: `flintlock-check`.
//!
//! Blocks on the disk. Looking changes nothing but the lock file, except that opening the engine
//! removes files that an interrupted merge left behind. A repair does what opening the store would
//! do, and says so; it never makes up data.

use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use crate::journal::watermark::Found;
use crate::journal::{
    Depth, Dir, DiskDir, EngineAt, Replay, Report, StoreId, Verdict, Writer, WriterOptions,
};
use crate::key::{Seq, Space};
use crate::layout::StoreDir;
use crate::recovery::{OpenError, inspect};
use crate::storage::fjall::{FjallOptions, FjallStore};
use crate::storage::{Meta, StoreError};

/// What to do beside looking.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct CheckOptions {
    /// Cut torn tails off, make the watermark file anew, count anew.
    pub repair: bool,
    /// Repair although acknowledged operations are cut off; they are kept aside.
    pub accept_loss: bool,
}

/// How it went.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Debug)]
pub enum Outcome {
    /// Nothing is wrong, or nothing but a torn tail that opening will cut off.
    Good,
    /// Something was wrong and is repaired.
    Repaired,
    /// Something is wrong that was not repaired.
    Damaged,
}

/// Why the check came to no end.
#[derive(Debug)]
#[non_exhaustive]
pub enum CheckError {
    /// The store cannot be looked at.
    Store(OpenError),
    /// The findings cannot be written.
    Output(io::Error),
}

impl fmt::Display for CheckError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(e) => e.fmt(f),
            Self::Output(e) => write!(f, "writing the findings: {e}"),
        }
    }
}

impl std::error::Error for CheckError {}

impl<E: Into<OpenError>> From<E> for CheckError {
    fn from(e: E) -> Self {
        Self::Store(e.into())
    }
}

/// Checks the store in `root` and writes what it finds to `out`.
///
/// # Errors
/// The store is in use, is none, or a part of it cannot be read at all.
pub fn check(
    root: &Path,
    options: CheckOptions,
    out: &mut dyn Write,
) -> Result<Outcome, CheckError> {
    let dir = StoreDir::open(root)?;
    let identity = *dir.identity();
    let state = if identity.complete { "complete" } else { "never used" };
    let id: String = identity.store.0.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut say = Say(out);
    say.line(format_args!("store {id}, {state}"))?;
    let journal: Arc<dyn Dir> = Arc::new(DiskDir::new(&dir.journal_dir()));
    let outcome = match open_engine(&dir, &mut say)? {
        Some(engine) => {
            let (meta, engine_is) = check_engine(&engine, options, &mut say)?;
            let at = EngineAt { watermark: meta.watermark, highest: meta.highest };
            let report = inspect(&*journal, &identity.store, at, identity.complete, Depth::Full)?;
            show(&report, &mut say)?;
            let journal_is = repair_journal(report, &journal, identity.store, options, &mut say)?;
            engine_is.max(journal_is)
        }
        None if identity.complete => {
            check_journal_alone(&journal, &identity.store, &mut say)?;
            Outcome::Damaged
        }
        None => Outcome::Good,
    };
    say.line(format_args!(
        "result: {}",
        match outcome {
            Outcome::Good => "good",
            Outcome::Repaired => "repaired",
            Outcome::Damaged => "damaged",
        }
    ))?;
    Ok(outcome)
}

/// The engine; `None` when there is none, or it cannot be opened.
fn open_engine(dir: &StoreDir, say: &mut Say<'_>) -> Result<Option<FjallStore>, CheckError> {
    if !FjallStore::exists(&dir.engine_dir()) {
        say.line(format_args!("engine: there is none"))?;
        return Ok(None);
    }
    let opened = FjallStore::open(&dir.engine_dir(), FjallOptions::default());
    if let Err(error) = &opened {
        say.line(format_args!("engine: cannot be opened: {error}"))?;
    }
    Ok(opened.ok())
}

/// What journal and watermark say by themselves: how much of the journal the engine has is not
/// known, so it is taken to have what is before the first segment. Nothing is repaired.
fn check_journal_alone(
    journal: &Arc<dyn Dir>,
    store: &StoreId,
    say: &mut Say<'_>,
) -> Result<(), CheckError> {
    let segments = inspect(&**journal, store, EngineAt::default(), true, Depth::Needed)?.segments;
    let first = segments.first().map_or(Seq(1), |segment| segment.first);
    let before = Seq(first.0.saturating_sub(1));
    let at = EngineAt { watermark: before, highest: before };
    let report = inspect(&**journal, store, at, true, Depth::Full)?;
    show(&report, say)?;
    let nothing = CheckOptions::default();
    repair_journal(report, journal, *store, nothing, say).map(drop)
}

/// Where findings are written.
pub(crate) struct Say<'a>(pub(crate) &'a mut dyn Write);

impl Say<'_> {
    pub(crate) fn line(&mut self, text: fmt::Arguments<'_>) -> Result<(), CheckError> {
        writeln!(self.0, "{text}").map_err(CheckError::Output)
    }
}

fn check_engine(
    engine: &FjallStore,
    options: CheckOptions,
    say: &mut Say<'_>,
) -> Result<(Meta, Outcome), CheckError> {
    let meta = crate::storage::Storage::meta(engine)?;
    let found = engine.verify()?;
    let records: u64 = found.records.values().sum();
    say.line(format_args!(
        "engine: {records} records, {} bytes, watermark {}, highest {}",
        found.bytes, meta.watermark.0, meta.highest.0
    ))?;
    let mut outcome = Outcome::Good;
    for stretch in &found.damaged {
        say.line(format_args!("engine: cannot read records {stretch}"))?;
        outcome = Outcome::Damaged;
    }
    if found.ahead > 0 {
        say.line(format_args!("engine: {} records are ahead of its own position", found.ahead))?;
        outcome = Outcome::Damaged;
    }
    // Those of a dead space disappear in merges that nobody counts.
    let lives = |(space, n): &(&Space, &u64)| **n > 0 && !meta.dead.contains(space);
    let stored = meta.counts.iter().filter(lives);
    if outcome == Outcome::Good && !stored.eq(found.records.iter().filter(lives)) {
        say.line(format_args!("engine: counts are {:?}, not {:?}", found.records, meta.counts))?;
        outcome = Outcome::Damaged;
        if options.repair {
            engine.recount()?;
            say.line(format_args!("engine: counted anew"))?;
            outcome = Outcome::Repaired;
        }
    }
    if outcome == Outcome::Damaged {
        say.line(format_args!("engine: damaged records come back only from a backup"))?;
    }
    Ok((meta, outcome))
}

fn show(report: &Report, say: &mut Say<'_>) -> Result<(), CheckError> {
    match report.mark {
        Found::Mark(mark, both) => {
            let slots = if both { "both slots good" } else { "one slot damaged" };
            say.line(format_args!("watermark: durable up to {}, {slots}", mark.durable.0))?;
        }
        Found::Absent => say.line(format_args!("watermark: no file"))?,
        Found::Unreadable => say.line(format_args!("watermark: both slots damaged"))?,
    }
    for segment in &report.segments {
        let header = if segment.header.is_some() { "" } else { ", header damaged" };
        say.line(format_args!(
            "journal: {} from {}, {} groups, {} of {} bytes{header}",
            segment.name, segment.first.0, segment.frames, segment.valid_bytes, segment.len_bytes
        ))?;
    }
    if let Some(damage) = &report.damage {
        say.line(format_args!(
            "journal: {} at byte {}: {:?}, {} good groups behind it",
            damage.segment, damage.offset, damage.what, damage.later.frames
        ))?;
    }
    say.line(format_args!(
        "journal: whole up to {}, proven durable up to {}",
        report.end.0, report.proof.0
    ))
}

fn repair_journal(
    report: Report,
    journal: &Arc<dyn Dir>,
    store: StoreId,
    options: CheckOptions,
    say: &mut Say<'_>,
) -> Result<Outcome, CheckError> {
    let verdict = report.verdict.clone();
    match &verdict {
        Verdict::Clean => say.line(format_args!("journal: clean"))?,
        Verdict::TornTail { bytes, frames } => say.line(format_args!(
            "journal: a torn tail of {bytes} bytes and {frames} groups, none of it acknowledged"
        ))?,
        Verdict::Refused(refusal) => say.line(format_args!("journal: REFUSED: {refusal}"))?,
    }
    let accepted = match report.accept(options.repair && options.accept_loss) {
        Ok(accepted) => accepted,
        Err(refusal) => {
            let how = if refusal.acceptable() { " without --repair --accept-loss" } else { "" };
            say.line(format_args!("journal: not repaired{how}"))?;
            return Ok(Outcome::Damaged);
        }
    };
    let ops = count_ops(accepted.replay(Arc::clone(journal), store))?;
    say.line(format_args!("journal: {ops} operations that the engine does not have"))?;
    if !options.repair || verdict == Verdict::Clean {
        return Ok(Outcome::Good);
    }
    // What opening the store would do.
    let (mut writer, _) =
        Writer::open(Arc::clone(journal), store, WriterOptions::default(), &accepted)?;
    writer.close()?;
    match verdict {
        Verdict::Refused(_) => say.line(format_args!(
            "journal: cut; what was cut off is kept in files called lost-journal-*"
        ))?,
        _ => say.line(format_args!("journal: torn tail cut off"))?,
    }
    Ok(Outcome::Repaired)
}

/// Decodes every operation.
fn count_ops(mut replay: Replay) -> Result<u64, StoreError> {
    let mut count = 0;
    while let Some(group) = replay.next_group()? {
        for op in group {
            op?;
            count += 1;
        }
    }
    Ok(count)
}
