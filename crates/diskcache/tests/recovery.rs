//! Whole stores: written, closed, reopened, backed up, restored, refused.

mod driver;

use std::fs;
use std::path::Path;

use driver::{Driver, mix};
use flintlock_diskcache::backup;
use flintlock_diskcache::journal::{DiskDir, ProvenBy, Refusal, Verdict, WriterOptions};
use flintlock_diskcache::key::Seq;
use flintlock_diskcache::layout::LayoutError;
use flintlock_diskcache::recovery::{OpenError, OpenOptions, OpenStore, open};
use flintlock_diskcache::storage::fjall::FjallOptions;
use flintlock_diskcache::storage::{Storage, StoreError};

fn small() -> OpenOptions {
    OpenOptions {
        engine: FjallOptions {
            cache_bytes: 256 << 10,
            table_bytes: 64 << 10,
            merge_bytes: 256 << 10,
            ..FjallOptions::default()
        },
        journal: WriterOptions { segment_bytes: 100_000, unsynced_bytes_max: 200_000 },
        accept_loss: false,
    }
}

fn work(driver: &mut Driver, groups: u64, seed: u64) {
    for g in 0..groups {
        driver.write().expect("a good disk");
        match mix(seed ^ g) % 40 {
            0 => driver.checkpoint(0).expect("a good disk"),
            1 => driver.checkpoint(seed ^ g).expect("a good disk"),
            2 => {
                driver.maintain().expect("a good disk");
            }
            3..=8 => {
                driver.store.writer.sync().expect("a good disk");
            }
            _ => {}
        }
    }
}

#[test]
fn a_store_is_as_it_was_after_each_reopening() {
    let scratch = tempfile::tempdir().unwrap();
    for life in 0..8 {
        let mut driver = Driver::open(scratch.path(), &small()).unwrap();
        assert_eq!(driver.store.report.verdict, Verdict::Clean);
        driver.check();
        work(&mut driver, 150, life);
        driver.check();
        match life % 3 {
            0 => {
                driver.checkpoint(0).unwrap();
                assert!(driver.dirty.is_empty());
                driver.store.writer.close().unwrap();
            }
            1 => {
                driver.store.writer.close().unwrap();
            }
            // Nothing: as if the process had been killed.
            _ => {}
        }
    }
}

/// The steps of a backup, in turn.
fn back_up(store: &mut OpenStore, target: &Path) -> Result<Seq, StoreError> {
    backup::prepare(target).expect("an empty target");
    let (journal, engine) = (target.join("journal"), target.join("engine"));
    store.writer.hold();
    store.engine.backup(&engine, &|_| {})?;
    let export = store.writer.export()?;
    export.copy(&DiskDir::new(&store.dir.journal_dir()), &DiskDir::new(&journal), &|_| {})?;
    store.writer.release();
    backup::seal(target, store.dir.identity()).expect("a good disk");
    Ok(export.cut())
}

#[test]
fn a_backup_is_the_store_at_one_moment() {
    let scratch = tempfile::tempdir().unwrap();
    let live = scratch.path().join("live");
    let mut driver = Driver::open(&live, &small()).unwrap();
    for round in 0..4u64 {
        work(&mut driver, 120, round);
        let target = scratch.path().join(format!("backup-{round}"));
        let cut = back_up(&mut driver.store, &target).unwrap();
        assert_eq!(driver::groups_to(cut), driver.groups);
        let at_backup = driver.groups;
        work(&mut driver, 60, round ^ 99);
        driver.check();

        // Restored into a store of its own, and then opened where it is.
        let restored = scratch.path().join(format!("restored-{round}"));
        backup::restore(&target, &restored).unwrap();
        for dir in [&restored, &target] {
            let mut copy = Driver::open(dir, &small()).unwrap();
            assert_eq!(copy.groups, at_backup);
            copy.check();
            work(&mut copy, 50, round ^ 7);
            copy.checkpoint(0).unwrap();
            while copy.maintain().unwrap() {}
            copy.check();
        }
    }
    // What the copies did to files they shared with it did not reach the store.
    driver.check();
}

#[test]
fn a_backup_without_its_seal_is_no_store_and_full_targets_are_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let (live, target) = (scratch.path().join("live"), scratch.path().join("target"));
    let mut driver = Driver::open(&live, &small()).unwrap();
    work(&mut driver, 30, 1);
    backup::prepare(&target).unwrap();
    let refused = backup::restore(&target, &scratch.path().join("x")).unwrap_err();
    assert!(matches!(refused, OpenError::Layout(LayoutError::Absent { .. })));
    assert!(matches!(
        open(&target, &small()),
        Err(OpenError::Layout(LayoutError::NoIdentity { .. }))
    ));
    let again = backup::prepare(&target);
    assert!(matches!(again, Err(LayoutError::Io { .. })));
    let used = backup::restore(&live, &scratch.path().join("y")).unwrap_err();
    assert!(matches!(used, OpenError::Layout(LayoutError::Locked { .. })));
}

/// A store with everything synced and nothing checkpointed after the first groups.
fn synced(root: &Path) -> (u64, Seq) {
    let mut driver = Driver::open(root, &small()).expect("a good disk");
    work(&mut driver, 100, 5);
    driver.checkpoint(0).expect("a good disk");
    for _ in 0..100 {
        driver.write().expect("a good disk");
        driver.store.writer.sync().expect("a good disk");
    }
    (driver.groups, driver.store.writer.close().expect("a good disk"))
}

fn refusal(root: &Path) -> Refusal {
    match open(root, &small()) {
        Err(OpenError::Refused(refusal)) => refusal,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

fn accept(root: &Path) -> Driver {
    Driver::open(root, &OpenOptions { accept_loss: true, ..small() }).expect("the loss is accepted")
}

/// The names of the journal's segments, in order.
fn segments(root: &Path) -> Vec<std::path::PathBuf> {
    let mut names: Vec<_> = (fs::read_dir(root.join("journal")).expect("a listing"))
        .map(|e| e.expect("a listing").path())
        .filter(|p| p.file_name().expect("a listing").to_string_lossy().starts_with("journal-"))
        .collect();
    names.sort();
    names
}

#[test]
fn a_lost_segment_is_refused_and_says_what_is_gone() {
    let scratch = tempfile::tempdir().unwrap();
    let (groups, durable) = synced(scratch.path());
    let last = segments(scratch.path()).pop().unwrap();
    fs::remove_file(last).unwrap();
    let Refusal::Lost { first, last, by } = refusal(scratch.path()) else { panic!("lost") };
    assert_eq!((last, by), (durable, ProvenBy::Watermark));
    // A refusal changes nothing: it is refused again, and in the same words.
    assert_eq!(refusal(scratch.path()), Refusal::Lost { first, last, by });
    let driver = accept(scratch.path());
    assert!(driver.groups < groups && driver::expected(driver.groups).2.next() == first);
    driver.check();
    assert!(driver.store.writer.next_seq() > durable, "positions are not given out twice");
}

/// The second cut replaced what the first had kept.
#[test]
fn what_is_cut_off_a_segment_twice_is_kept_twice() {
    let scratch = tempfile::tempdir().unwrap();
    synced(scratch.path());
    let segment = segments(scratch.path()).pop().unwrap();
    let name = segment.file_name().unwrap().to_str().unwrap();
    let (first, second) = (format!("lost-{name}"), format!("lost-{name}.2"));
    let aside = |name: &str| fs::read(segment.with_file_name(name)).ok();
    let mut kept = Vec::new();
    for part in [3, 2] {
        let mut bytes = fs::read(&segment).unwrap();
        let at = bytes.len() * part / 4;
        bytes[at] ^= 1;
        fs::write(&segment, &bytes).unwrap();
        assert!(matches!(refusal(scratch.path()), Refusal::Lost { .. }));
        kept.push(bytes);
        if part == 3 {
            // A copy that a crash has cut short is replaced.
            fs::write(segment.with_file_name(&first), &kept[0][..kept[0].len() / 3]).unwrap();
        }
        drop(accept(scratch.path()));
    }
    assert!(aside(&first).as_ref() == Some(&kept[0]), "what the first cut kept");
    assert!(aside(&second).as_ref() == Some(&kept[1]), "what the second kept");
}

#[test]
fn a_lost_or_damaged_watermark_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let (groups, _) = synced(scratch.path());
    let path = scratch.path().join("journal/watermark");
    let good = fs::read(&path).unwrap();
    fs::write(&path, vec![0; good.len()]).unwrap();
    assert_eq!(refusal(scratch.path()), Refusal::NoWatermark);
    fs::remove_file(&path).unwrap();
    assert_eq!(refusal(scratch.path()), Refusal::NoWatermark);
    let driver = accept(scratch.path());
    assert_eq!(driver.groups, groups, "nothing was missing after all");
    driver.check();
}

#[test]
fn a_lost_engine_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    synced(scratch.path());
    let engine = scratch.path().join("engine");
    fs::remove_dir_all(&engine).unwrap();
    let missing = |e| matches!(e, OpenError::Layout(LayoutError::PartMissing { .. }));
    assert!(missing(open(scratch.path(), &small()).unwrap_err()));
    fs::create_dir(&engine).unwrap();
    assert!(missing(open(scratch.path(), &small()).unwrap_err()));
    // An older engine, whose next operations have been trimmed from the journal.
    let other = tempfile::tempdir().unwrap();
    drop(open(other.path(), &small()).unwrap());
    fs::remove_dir(&engine).unwrap();
    fs::rename(other.path().join("engine"), &engine).unwrap();
    assert!(matches!(refusal(scratch.path()), Refusal::LostStart { need: Seq(1), .. }));
}

#[test]
fn files_of_another_store_are_refused_even_if_a_loss_is_accepted() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    synced(one.path());
    synced(two.path());
    let foreign = segments(two.path()).pop().unwrap();
    fs::copy(&foreign, one.path().join("journal").join(foreign.file_name().unwrap())).unwrap();
    assert!(matches!(refusal(one.path()), Refusal::Foreign { .. }));
    let options = OpenOptions { accept_loss: true, ..small() };
    assert!(matches!(open(one.path(), &options), Err(OpenError::Refused(Refusal::Foreign { .. }))));
}
