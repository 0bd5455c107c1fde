//! Merging, giving space back after deletes, and purging dead spaces, one step at a time.
//!
//! Worker. A step is one merge or move that levelled compaction picks, usually of a few tables, so
//! a budget is exceeded by at most one step.
//!
//! What the bytes of new batches make due is not enough. Tombstones are small, and yet each may
//! keep a large record on disk; and in a store of a few hundred MiB the batches that wait for their
//! merge are as much as all that lives, while that merge, of everything at once, needs as much
//! again for what it writes. So when tombstones or superseded records are many, everything is
//! pushed towards the last level, where they end ("squeezing"): the first level becomes one sorted
//! run, which overlaps nothing, and that goes down in small parts. It costs a write more of what is
//! new, and merges a smaller share of it at a time. Under steady overwriting the disk held at most
//! 1.6 to 2.0 times the live records for it, the merge under way included, instead of up to 2.6;
//! beside that the journal, and 2.5 once, when the batches of the first load are merged.
//!
//! The sooner it begins, the more it writes: 250,000 records overwritten in batches of 12,500 cost
//! 7.9 bytes written for each byte of a batch when it began at a quarter and the first level was
//! merged at 24 MiB, with at most 1.49 times the live records on disk. At a third, and the first
//! level a quarter of the tree, it was 6.2 bytes and 1.62 times; without squeezing 6.2 and 1.60,
//! and beside a first level that is large already 3.0 and 2.58 instead of 5.6 and 1.68.
//!
//! It begins at a quarter, and a batch waits at a third: the disk, journal included, then held 1.72
//! times the live bytes in the middle of 330 looks at seven stores that were overwritten without a
//! break, and 1.90 at most. At a third and at a half it was 1.78, and above 2.00 in one look of
//! thirty; the writing took a sixth less time. A server whose clients wait for each answer writes
//! as fast either way, with pipelines of 16 it has 0.96 of the rate.

use std::collections::BTreeSet;
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::key::Space;
use crate::storage::codec::space_end;
use crate::storage::fjall::FjallStore;
use crate::storage::fjall::tree::{Figures, Levels, RUNS_END, RUNS_MAX, Shared, Tree};
use crate::storage::{ErrorKind, StoreError};

/// Tombstones are squeezed out when they are this many, and this share (one in n) of the live
/// records: that much is rewritten for what is gained.
const SQUEEZE_MIN: u64 = 1_000;
const SQUEEZE_SHARE: u64 = 5;
/// Superseded records are squeezed out when they are this share of the live ones, and more bytes
/// than a table; a batch waits for that when they are the other share.
const STALE_SHARE: u64 = 4;
const BLOATED_SHARE: u64 = 3;
/// The first level is merged when it is this share of the tree, unless its runs become too many:
/// each merge rewrites most of a small tree, however little it brings.
const MERGE_SHARE: u64 = 4;
/// When the first level is to be merged anyway and is more than this share of the tree, so that its
/// merge would rewrite much of it at once, this share of superseded records is enough.
const FIRST_LEVEL_SHARE: u64 = 8;
const STALE_SHARE_AT_MERGE: u64 = 16;
/// Tables of a tree that is squeezed, about, unless they came out tiny or larger than others.
const SQUEEZED_TABLES: u64 = 32;
const SQUEEZED_TABLE_MIN: u64 = 1 << 20;
/// Records of a dead space that are deleted in one step.
const PURGE_MAX: usize = 10_000;
/// Dead spaces looked at in one step.
const PURGE_LOOKS_MAX: usize = 64;
/// Pauses between steps that fail.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Bytes of memory of an open table beside its pinned blocks: its structures and file handle.
const TABLE_BYTES: u64 = 2 << 10;

/// What maintenance remembers between steps.
#[derive(Debug, Default)]
pub(super) struct Maintainer {
    /// Dead spaces whose own tables were dropped; what is left shares tables with others.
    dropped: BTreeSet<Space>,
    /// The version in which nothing more can be squeezed out.
    squeezed: Option<u64>,
    trouble: Option<Trouble>,
}

/// The last step failed.
#[derive(Debug)]
struct Trouble {
    kind: ErrorKind,
    /// No step is tried before. A merge may read for seconds before it meets a damaged block.
    until: Instant,
    pause: Duration,
}

impl Trouble {
    fn after(last: Option<Self>, kind: ErrorKind) -> Self {
        let pause = last.map_or(PAUSE_MIN, |last| (last.pause * 2).min(PAUSE_MAX));
        Self { kind, until: Instant::now() + pause, pause }
    }
}

impl Shared {
    pub(super) fn memory_bytes(&self, figures: &Figures) -> u64 {
        let tables_bytes = figures.pinned_bytes + figures.tables * TABLE_BYTES;
        self.cached_bytes() + tables_bytes + self.rules.expired.memory_bytes()
    }
}

impl FjallStore {
    pub(super) fn maintainer(&self) -> MutexGuard<'_, Maintainer> {
        // A panic in a merge leaves nothing behind in here that matters.
        self.maintainer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn maintain_for(&self, budget: Duration) -> Result<bool, StoreError> {
        let start = Instant::now();
        if self.suspect() || self.shared.is_cache_outsized() {
            self.reopen(&mut self.committer())?;
        }
        while self.filter_one()? || self.step()? {
            if start.elapsed() >= budget {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The filter of one batch in the first level that has none since the tree was opened. Before
    /// merges, which take longer, and each read looks into every such batch meanwhile.
    pub(super) fn filter_one(&self) -> Result<bool, StoreError> {
        // While this is held, the tree is not opened anew.
        let _maintainer = self.maintainer();
        let tree = self.tree();
        let is_made = tree.filter_one(|| self.shared.rules.stopped())?;
        if is_made {
            // Only space is at stake, and the next step tries again.
            let _ = tree.collect();
        }
        Ok(is_made)
    }

    /// Merges what must be merged before another batch is taken: runs of the first level above
    /// [`RUNS_MAX`], and superseded records that take too much of the disk. A failure holds up no
    /// batch, and is tried again after a pause, until there are [`RUNS_END`] runs.
    ///
    /// # Errors
    /// What the last merge failed with, when there are that many: reads would look into more and
    /// more of them, and the tree can count few more.
    pub(super) fn make_way(&self) -> Result<(), StoreError> {
        let runs = || self.tree().first_level().0;
        let merge = |_: &mut Maintainer, tree: &Tree| tree.compact(self.levels(tree));
        if runs() >= RUNS_END
            && let Some(trouble) = &mut self.maintainer().trouble
        {
            // The batch itself comes after a pause.
            trouble.until = Instant::now();
        }
        while runs() >= RUNS_MAX && self.step_with(merge).unwrap_or(false) {}
        while self.is_bloated() && self.step_with(|m, t| self.squeeze(m, t)).unwrap_or(false) {}
        if runs() < RUNS_END {
            return Ok(());
        }
        let kind = self.maintainer().trouble.as_ref().map_or(ErrorKind::Io, |last| last.kind);
        Err(StoreError::new(kind, "merging the engine's tables, of which there are too many"))
    }

    /// Whether superseded records take so much of the disk that no batch may add to them.
    fn is_bloated(&self) -> bool {
        let bytes_min = self.shared.options.table_bytes;
        self.is_stale(&self.tree().figures(), BLOATED_SHARE, bytes_min)
    }

    fn is_stale(&self, figures: &Figures, share: u64, bytes_min: u64) -> bool {
        let records = self.ledger().records;
        let stale = figures.items.saturating_sub(figures.tombstones + records);
        let mean = figures.disk_bytes / figures.items.max(1);
        stale * share > records && stale * mean > bytes_min
    }

    fn step(&self) -> Result<bool, StoreError> {
        self.step_with(|maintainer, tree| {
            Ok(self.purge(maintainer, tree)?
                || self.squeeze(maintainer, tree)?
                || tree.compact(self.levels(tree))?)
        })
    }

    fn step_with(
        &self,
        step: impl FnOnce(&mut Maintainer, &Tree) -> Result<bool, StoreError>,
    ) -> Result<bool, StoreError> {
        let mut maintainer = self.maintainer();
        let is_paused = |last: &Trouble| Instant::now() < last.until;
        if self.shared.rules.stopped() || maintainer.trouble.as_ref().is_some_and(is_paused) {
            return Ok(false);
        }
        let tree = self.tree();
        let done = step(&mut maintainer, &tree);
        self.note_written(&tree);
        let done = done.and_then(|more| tree.collect().map(|()| more));
        let Err(error) = &done else {
            maintainer.trouble = None;
            return done;
        };
        // Tables may be orphaned, or the version on disk another one than in memory.
        self.set_suspect();
        if self.shared.rules.stopped() {
            return Ok(false);
        }
        self.ledger().merge_failures += 1;
        maintainer.trouble = Some(Trouble::after(maintainer.trouble.take(), error.kind));
        done
    }

    /// Batches that make a merge due: each merge rewrites the level below, so small batches wait
    /// for more of their kind, and all of them until they are much beside what is there.
    fn levels(&self, tree: &Tree) -> Levels {
        let options = &self.shared.options;
        let (runs, bytes) = tree.first_level();
        let each = (bytes / (runs.max(1) as u64)).max(1);
        let bytes_due = options.merge_bytes.max(tree.figures().disk_bytes / MERGE_SHARE);
        let due = (bytes_due / each).clamp(4, 20);
        let runs_due = u8::try_from(due).expect("at most 20");
        Levels { runs_due, table_bytes: options.table_bytes }
    }

    /// Moves everything towards the last level, where tombstones and superseded records end.
    fn squeeze(&self, maintainer: &mut Maintainer, tree: &Tree) -> Result<bool, StoreError> {
        let (live, figures) = (self.ledger().live, tree.figures());
        let marked = figures.tombstones;
        let is_marked = marked > SQUEEZE_MIN && marked * SQUEEZE_SHARE > live;
        let (runs, bytes) = tree.first_level();
        let is_large = bytes * FIRST_LEVEL_SHARE > figures.disk_bytes;
        let is_large_and_due = is_large && runs >= usize::from(self.levels(tree).runs_due);
        let is_stale = if is_large_and_due {
            self.is_stale(&figures, STALE_SHARE_AT_MERGE, 0)
        } else {
            self.is_stale(&figures, STALE_SHARE, self.shared.options.table_bytes)
        };
        let worth = is_marked || is_stale;
        if !worth || maintainer.squeezed == Some(tree.version()) {
            return Ok(false);
        }
        let part = (figures.disk_bytes / SQUEEZED_TABLES).max(SQUEEZED_TABLE_MIN);
        let table_bytes = part.min(self.shared.options.table_bytes);
        if tree.compact(Levels { runs_due: 0, table_bytes })? {
            return Ok(true);
        }
        if is_marked {
            // Levelled compaction gives up on a table that spans more than 50 tables below it.
            tree.compact_all(table_bytes)?;
        }
        maintainer.squeezed = Some(tree.version());
        Ok(is_marked)
    }

    /// Empties dead spaces: drops the tables that hold nothing else, once, then deletes what is
    /// left in tables shared with others. Merges leave the records of dead spaces out meanwhile.
    ///
    /// A space that holds nothing is passed over: dropping tables writes a version, so a FLUSHALL
    /// of thousands of databases, of which few were used, would take milliseconds for each.
    fn purge(&self, maintainer: &mut Maintainer, tree: &Tree) -> Result<bool, StoreError> {
        let dead = self.shared.rules.dead();
        maintainer.dropped.retain(|space| dead.contains(space));
        let mut looks = 0;
        for &space in dead.iter() {
            if self.purged().contains(&space) {
                continue;
            }
            if looks == PURGE_LOOKS_MAX {
                return Ok(true);
            }
            looks += 1;
            let mut left = tree.range(&space.0.to_be_bytes(), space_end(space)).peekable();
            if left.peek().is_none() {
                self.purged().insert(space);
                continue;
            }
            if maintainer.dropped.insert(space) {
                drop(left);
                tree.drop_space(space)?;
                return Ok(true);
            }
            let left = left.take(PURGE_MAX).map(|item| Ok(item?.0));
            let keys: Vec<_> = left.collect::<Result<_, StoreError>>()?;
            tree.ingest(keys.iter().map(|key| Ok((&**key, None))))?;
            return Ok(true);
        }
        Ok(false)
    }
}
