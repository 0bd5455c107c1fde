//! Opening a store as a whole: directory, engine, journal, and whether they belong together.
//!
//! Any thread; blocks on the disk. Nothing is applied or changed before it is known that nothing
//! acknowledged is missing, or the operator has accepted the loss.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::journal::{
    Depth, Dir, DiskDir, EngineAt, Refusal, Replay, Report, StoreId, Writer, WriterOptions, scan,
};
use crate::layout::{Identity, LayoutError, StoreDir};
use crate::storage::fjall::{FjallOptions, FjallStore};
use crate::storage::{Meta, Storage, StoreError};

/// How to open a store.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct OpenOptions {
    /// Sizes of the engine.
    pub engine: FjallOptions,
    /// Sizes of the journal.
    pub journal: WriterOptions,
    /// Open although acknowledged operations are missing; what is cut off is kept aside.
    pub accept_loss: bool,
}

/// Why a store was not opened.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// The directory.
    Layout(LayoutError),
    /// Something that was acknowledged is missing.
    Refused(Refusal),
    /// The disk or the engine.
    Store(StoreError),
    /// A backup is damaged, and is not restored.
    Unsound {
        /// The backup.
        path: PathBuf,
        /// What the check of it said, in lines.
        findings: String,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Layout(e) => e.fmt(f),
            Self::Refused(e) => e.fmt(f),
            Self::Store(e) => e.fmt(f),
            Self::Unsound { path, findings } => {
                let findings = findings.trim_end().replace('\n', "; ");
                write!(f, "the backup in {} is damaged: {findings}", path.display())
            }
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Layout(e) => e.source(),
            Self::Refused(_) | Self::Unsound { .. } => None,
            Self::Store(e) => e.source(),
        }
    }
}

impl From<LayoutError> for OpenError {
    fn from(e: LayoutError) -> Self {
        Self::Layout(e)
    }
}

impl From<Refusal> for OpenError {
    fn from(e: Refusal) -> Self {
        Self::Refused(e)
    }
}

impl From<StoreError> for OpenError {
    fn from(e: StoreError) -> Self {
        Self::Store(e)
    }
}

/// A store, open and locked. What the journal has beyond the engine is still to be applied.
#[derive(Debug)]
pub struct OpenStore<S = FjallStore> {
    /// The directory, held until it is dropped.
    pub dir: StoreDir,
    /// The engine.
    pub engine: Arc<S>,
    /// The state the engine committed last.
    pub meta: Meta,
    /// The journal, ready to be written behind what is replayed.
    pub writer: Writer,
    /// The operations that the engine does not have.
    pub replay: Replay,
    /// What the scan of the journal found.
    pub report: Report,
}

/// Opens the store in `root`, creating one if `root` is missing or empty.
///
/// # Errors
/// Why not. Without `accept_loss` nothing is changed by a refusal.
pub fn open(root: &Path, options: &OpenOptions) -> Result<OpenStore, OpenError> {
    open_with(root, options, |dir, complete| {
        if complete && !FjallStore::exists(dir) {
            return Err(LayoutError::PartMissing { path: dir.to_owned() }.into());
        }
        Ok(FjallStore::open(dir, options.engine)?)
    })
}

/// As [`open`], with another engine: `engine` opens it in its directory, or creates it there if the
/// store is not `complete` yet; of a complete store it must be there.
///
/// # Errors
/// As [`open`].
pub fn open_with<S: Storage>(
    root: &Path,
    options: &OpenOptions,
    engine: impl FnOnce(&Path, bool) -> Result<S, OpenError>,
) -> Result<OpenStore<S>, OpenError> {
    let mut dir = StoreDir::open_or_create(root)?;
    let Identity { store, complete, .. } = *dir.identity();
    let engine = engine(&dir.engine_dir(), complete)?;
    let meta = engine.meta()?;
    let journal: Arc<dyn Dir> = Arc::new(DiskDir::new(&dir.journal_dir()));
    let at = EngineAt { watermark: meta.watermark, highest: meta.highest };
    let report = inspect(&*journal, &store, at, complete, Depth::Needed)?;
    let accepted = report.clone().accept(options.accept_loss)?;
    let (writer, replay) = Writer::open(journal, store, options.journal, &accepted)?;
    dir.complete()?;
    Ok(OpenStore { dir, engine: Arc::new(engine), meta, writer, replay, report })
}

/// Scans the journal of a store. Of a complete one, the watermark file must be there.
///
/// # Errors
/// A failed read.
pub fn inspect(
    journal: &dyn Dir,
    store: &StoreId,
    engine: EngineAt,
    complete: bool,
    depth: Depth,
) -> Result<Report, StoreError> {
    let mut report = scan(journal, store, engine, depth)?;
    if complete {
        report.require_watermark();
    }
    Ok(report)
}
