//! One version of the tree, held so that it can be read without the tree's lock.
//!
//! The tree persists each new version, with five syncs, while it holds the lock that every read of
//! its own takes, so reads wait for the disk. Measured with syncs of 20 ms and a batch or merge
//! every 50 ms: 115 to 140 ms at the 99.99th percentile through the tree, 5 to 7 ms through a view,
//! which holds one version and is replaced after each batch and each merge. Its tables stay until
//! it is gone.
//!
//! The types of a version have no public names in lsm-tree 3.1, so a view holds closures.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use lsm_tree::table::filter::standard_bloom::Builder;
use lsm_tree::{AbstractTree, AnyTree, Slice, Table};

use crate::storage::fjall::recent::{self, Filter};
use crate::storage::fjall::tree::{Figures, LATEST};

/// Filters of what was ingested, by the sequence number that all tables of one ingestion carry.
pub(super) type Filters = BTreeMap<u64, Arc<Filter>>;
pub(super) type Bounds = (Bound<Slice>, Bound<Slice>);
pub(super) type Pairs = Box<dyn Iterator<Item = lsm_tree::Result<(Slice, Slice)>> + Send>;
type Get = dyn Fn(&[u8]) -> lsm_tree::Result<Option<Slice>> + Send + Sync;
type Range = dyn Fn(&Bounds) -> Pairs + Send + Sync;

/// What can be read of one version.
pub(super) struct View {
    get: Box<Get>,
    range: Box<Range>,
    /// Counted once: asking the tree waits while a version is being persisted.
    pub(super) figures: Figures,
}

/// The number of the ingestion that a run is. Runs that do not overlap become one, with tables of
/// several ingestions: it is none of them, and needs no filter, because its tables exclude each
/// other by their keys. All that merges write has the number 0, and so no filter either.
pub(super) fn seqno_of(run: &[Table]) -> Option<u64> {
    let seqno = run.first()?.global_seqno();
    let is_one = run.iter().all(|table| table.global_seqno() == seqno);
    Some(seqno).filter(|&seqno| is_one && seqno > 0)
}

impl View {
    /// The newest version, with `filters` of ingestions by their sequence numbers. Waits while a
    /// version is being persisted.
    pub(super) fn of(tree: &AnyTree, filters: &Filters) -> Self {
        let version = tree.current_version();
        let pinned_bytes = filters.values().map(|filter| filter.len_bytes()).sum();
        let mut figures = Figures { pinned_bytes, ..Figures::default() };
        figures.runs = version.iter_levels().map(|level| level.run_count() as u64).sum();
        for table in version.iter_tables() {
            let meta = &table.metadata;
            figures.disk_bytes += meta.file_size;
            figures.items += meta.item_count;
            figures.tombstones += meta.tombstone_count;
            figures.tables += 1;
            figures.pinned_bytes +=
                (table.pinned_block_index_size() + table.pinned_filter_size()) as u64;
        }
        // One for each run, newest first; the runs of deeper levels come behind and have none.
        let newest = version.iter_levels().next().into_iter().flat_map(|level| level.iter());
        let filters: Vec<Option<Arc<Filter>>> =
            newest.map(|run| filters.get(&seqno_of(run)?).cloned()).collect();
        let get = move |key: &[u8]| {
            // Newer levels first, and in a level newer runs first: the first hit counts. The
            // memtables, where the tree itself would look before, are never used here.
            let (hash, recent_hash) = (Builder::get_hash(key), recent::hash_of(key));
            let runs = version.iter_levels().flat_map(|level| level.iter());
            let mut filters = filters.iter();
            for run in runs {
                let filter = filters.next().and_then(Option::as_ref);
                if filter.is_some_and(|filter| !filter.may_hold(recent_hash)) {
                    continue;
                }
                let Some(table) = run.get_for_key(key) else { continue };
                if let Some(item) = table.get(key, LATEST, hash)? {
                    return Ok((!item.is_tombstone()).then_some(item.value));
                }
            }
            Ok(None)
        };
        let whole = tree.get_version_history_lock().latest_version();
        let range = move |bounds: &Bounds| -> Pairs {
            let items = lsm_tree::Tree::create_internal_range(whole.clone(), bounds, LATEST, None);
            Box::new(items.map(|item| item.map(|item| (item.key.user_key, item.value))))
        };
        Self { get: Box::new(get), range: Box::new(range), figures }
    }

    pub(super) fn get(&self, key: &[u8]) -> lsm_tree::Result<Option<Slice>> {
        (self.get)(key)
    }

    pub(super) fn range(&self, bounds: &Bounds) -> Pairs {
        (self.range)(bounds)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use lsm_tree::Slice;
    use tempfile::TempDir;

    use crate::key::{KeyBuf, KeyRef, Seq, Space};
    use crate::storage::codec::engine_key;
    use crate::storage::fjall::{FjallOptions, FjallStore};
    use crate::storage::{Batch, Before, Meta, Record, Storage, Write};

    fn key(hash: u64) -> KeyBuf {
        KeyRef { space: Space(1), hash, key: b"key" }.to_buf()
    }

    /// Writes or deletes `keys` blindly; returns how many keys there are then.
    fn commit(store: &FjallStore, seq: u64, keys: impl Iterator<Item = u64>, lives: bool) -> u64 {
        let payload: Arc<[u8]> = Arc::from(&seq.to_le_bytes()[..]);
        let record = Record { seq: Seq(seq), expires_at_ms: None, payload };
        let write = |hash| Write {
            key: key(hash),
            record: lives.then(|| record.clone()),
            before: Before::Unknown,
        };
        let meta = Meta { watermark: Seq(seq), highest: Seq(seq), ..Meta::default() };
        let counts = store.commit(Batch { writes: keys.map(write).collect(), meta }).unwrap();
        counts[&Space(1)]
    }

    fn found(store: &FjallStore, hash: u64) -> Option<u64> {
        let mut out = Vec::new();
        store.get_many(&[key(hash)], &mut out).unwrap();
        out.pop().unwrap().map(|record| record.seq.0)
    }

    fn open(dir: &TempDir) -> FjallStore {
        FjallStore::open(dir.path(), FjallOptions::default()).unwrap()
    }

    /// Checks `store` as it is, and opened anew, without filters and with them.
    fn check_each_way(dir: &TempDir, store: FjallStore, check: impl Fn(&FjallStore)) -> FjallStore {
        check(&store);
        drop(store);
        let store = open(dir);
        check(&store);
        while store.filter_one().unwrap() {}
        check(&store);
        store
    }

    #[test]
    fn filters_deny_no_key_of_batches_that_overlap() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir);
        let spread = |n: u64| n << 50;
        assert_eq!(commit(&store, 1, (0..100).map(spread), true), 100);
        assert_eq!(commit(&store, 2, (200..300).map(spread), true), 200);
        assert_eq!(commit(&store, 3, (100..200).map(spread), true), 300);
        // Across all of them, half of it new; then deletes.
        assert_eq!(commit(&store, 4, (50..350).step_by(2).map(spread), true), 325);
        assert_eq!(commit(&store, 5, (0..400).step_by(5).map(spread), false), 260);
        let expected = |n: u64| match n {
            n if n < 400 && n.is_multiple_of(5) => None,
            50..350 if n.is_multiple_of(2) => Some(4),
            0..100 => Some(1),
            100..200 => Some(3),
            200..300 => Some(2),
            _ => None,
        };
        let check = |store: &FjallStore| {
            for n in 0..500 {
                assert_eq!(found(store, spread(n)), expected(n), "key {n}");
            }
        };
        let store = check_each_way(&dir, store, check);
        store.tree().compact_all(u64::MAX).unwrap();
        check_each_way(&dir, store, check);
    }

    /// Batches of the store begin with its own record, so they always overlap; what a dead space
    /// leaves behind is deleted by ingestions that need not.
    #[test]
    fn a_run_of_several_ingestions_has_the_filter_of_none() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir);
        commit(&store, 1, (1000..1001).map(|n| n << 50), true);
        let name = |n: u64| engine_key(key(n << 50).as_disk()).into_owned();
        let ingest = |store: &FjallStore, keys: std::ops::Range<u64>| {
            let names: Vec<_> = keys.map(name).collect();
            let items = names.iter().map(|name| Ok((&**name, Some(Slice::from(&b"value"[..])))));
            store.tree().ingest(items).unwrap();
        };
        let runs_before = store.tree().first_level().0;
        for from in [0, 200, 100] {
            ingest(&store, from..from + 100);
        }
        assert_eq!(store.tree().first_level().0, runs_before + 1, "side by side in one run");
        ingest(&store, 50..60);
        let check = |store: &FjallStore| {
            let tree = store.tree();
            for n in 0..400 {
                assert_eq!(tree.get(&name(n)).unwrap().is_some(), n < 300, "key {n}");
            }
        };
        check_each_way(&dir, store, check);
    }

    #[test]
    fn batches_get_their_filters_back_when_the_store_was_opened() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir);
        // Each batch overlaps the others, so each is a run of its own.
        for seq in 1..4 {
            commit(&store, seq, (0..1000).map(|n| (n << 50) + seq), true);
        }
        let pinned = |store: &FjallStore| store.tree().figures().pinned_bytes;
        let with_filters = pinned(&store);
        drop(store);
        let store = open(&dir);
        let bare = pinned(&store);
        assert!(bare + 3 * 1000 < with_filters, "filters are counted: {bare}, {with_filters}");
        assert!(!store.maintain(Duration::from_secs(60)).unwrap(), "no more is to be done");
        assert_eq!(pinned(&store), with_filters);
        for seq in 1..5 {
            let expected = (seq < 4).then_some(seq);
            assert!((0..1000).all(|n| found(&store, (n << 50) + seq) == expected));
        }
        assert!(!store.filter_one().unwrap(), "each is made once");
    }

    /// A filter made of the part that can be read would say of the rest that it is not there.
    #[test]
    fn a_batch_that_cannot_be_read_whole_keeps_nothing_from_being_looked_for() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir);
        commit(&store, 1, (0..1000).map(|n| n << 50), true);
        let newest = store.tree().with_files(|files| {
            let tables = files.tables.iter().filter(|table| table.records >= 1000);
            Ok(tables.map(|table| table.path.clone()).next().expect("the batch"))
        });
        drop(store);
        let newest = newest.unwrap();
        let mut bytes = std::fs::read(&newest).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&newest, bytes).unwrap();
        let store = open(&dir);
        assert!(store.filter_one().unwrap(), "damage is for those who read");
        assert!(!store.filter_one().unwrap(), "it is not read again and again");
        let mut out = Vec::new();
        let answers = (0..1000).map(|n| store.get_many(&[key(n << 50)], &mut out).is_ok());
        let good = answers.filter(|&is_ok| is_ok).count();
        assert!((1..1000).contains(&good), "{good} of 1000 can be read");
        assert_eq!((out.len(), out.iter().flatten().count()), (good, good), "none is missed");
    }
}
