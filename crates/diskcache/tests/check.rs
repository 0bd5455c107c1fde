//! The program `flintlock-check`: what it finds, repairs and says, and its exit codes.

#[expect(dead_code, reason = "this test writes stores only")]
mod driver;

use std::fs;
use std::path::Path;
use std::process::Command;

use driver::Driver;
use flintlock_diskcache::journal::WriterOptions;
use flintlock_diskcache::key::Seq;
use flintlock_diskcache::recovery::OpenOptions;
use flintlock_diskcache::storage::{Batch, Before, Record, Storage, Write};

fn options() -> OpenOptions {
    OpenOptions {
        journal: WriterOptions { segment_bytes: 100_000, unsynced_bytes_max: 200_000 },
        ..OpenOptions::default()
    }
}

/// Exit code, standard output and standard error.
fn run(root: &Path, args: &[&str]) -> (i32, String, String) {
    let program = env!("CARGO_BIN_EXE_flintlock-check");
    let output = Command::new(program).args(args).arg(root).output().expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.code().expect("it ends"), text(output.stdout), text(output.stderr))
}

fn store(root: &Path) -> u64 {
    let mut driver = Driver::open(root, &options()).expect("a fresh store");
    for g in 0..140 {
        driver.write().expect("a good disk");
        if g == 60 {
            driver.checkpoint(0).expect("a good disk");
        }
    }
    driver.store.writer.close().expect("a good disk");
    driver.groups
}

/// The last file of the journal that holds something.
fn last_segment(root: &Path) -> std::path::PathBuf {
    let names = fs::read_dir(root.join("journal")).expect("a listing");
    let paths = names.map(|e| e.expect("an entry").path());
    let name = |p: &Path| p.file_name().map(|n| n.to_string_lossy().into_owned());
    let segments = paths.filter(|p| name(p).is_some_and(|n| n.starts_with("journal-")));
    let filled = segments.filter(|p| fs::metadata(p).is_ok_and(|m| m.len() > 100));
    filled.max().expect("a segment")
}

#[test]
fn a_good_store_is_good() {
    let scratch = tempfile::tempdir().unwrap();
    store(scratch.path());
    let (code, out, _) = run(scratch.path(), &[]);
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("journal: clean") && out.ends_with("result: good\n"), "{out}");
}

#[test]
fn a_torn_tail_is_named_and_cut_on_demand() {
    let scratch = tempfile::tempdir().unwrap();
    let groups = store(scratch.path());
    let path = last_segment(scratch.path());
    let mut bytes = fs::read(&path).unwrap();
    bytes.extend_from_slice(&[7; 1000]);
    fs::write(&path, &bytes).unwrap();
    let (code, out, _) = run(scratch.path(), &[]);
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("a torn tail of 1000 bytes and 0 groups, none of it acknowledged"));
    assert_eq!(fs::read(&path).unwrap(), bytes, "looking changes nothing");
    let (code, out, _) = run(scratch.path(), &["--repair"]);
    assert!(code == 3 && out.contains("torn tail cut off"), "{out}");
    let (code, out, _) = run(scratch.path(), &["--repair"]);
    assert!(code == 0 && out.contains("journal: clean"), "{out}");
    let driver = Driver::open(scratch.path(), &options()).unwrap();
    assert_eq!(driver.groups, groups);
    driver.check();
}

#[test]
fn a_loss_is_repaired_only_when_it_is_accepted() {
    let scratch = tempfile::tempdir().unwrap();
    let groups = store(scratch.path());
    let path = last_segment(scratch.path());
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, &bytes).unwrap();
    for args in [&[][..], &["--repair"]] {
        let (code, out, _) = run(scratch.path(), args);
        assert_eq!(code, 1, "{out}");
        assert!(out.contains("journal: REFUSED: acknowledged operations"), "{out}");
    }
    let (code, out, _) = run(scratch.path(), &["--repair", "--accept-loss"]);
    assert!(code == 3 && out.contains("kept in files called lost-journal-*"), "{out}");
    let aside = format!("lost-{}", path.file_name().unwrap().to_str().unwrap());
    assert_eq!(fs::read(path.with_file_name(aside)).unwrap(), bytes);
    assert_eq!(run(scratch.path(), &[]).0, 0);
    let driver = Driver::open(scratch.path(), &options()).unwrap();
    assert!(driver.groups < groups);
    driver.check();
}

#[test]
fn damaged_records_are_found_and_where() {
    let scratch = tempfile::tempdir().unwrap();
    store(scratch.path());
    let tables = fs::read_dir(scratch.path().join("engine/tables")).unwrap();
    let largest = tables.map(|e| e.unwrap().path()).max_by_key(|p| fs::metadata(p).unwrap().len());
    let path = largest.unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 3;
    bytes[middle] ^= 4;
    fs::write(&path, bytes).unwrap();
    let (code, out, _) = run(scratch.path(), &["--repair"]);
    assert_eq!(code, 1, "{out}");
    assert!(out.contains("engine: cannot read records between 1/"), "{out}");
    let good: u64 =
        out.split("engine: ").nth(1).and_then(|s| s.split(' ').next()).unwrap().parse().unwrap();
    assert!(good > 40, "those before and behind the damage are read: {out}");
}

#[test]
fn wrong_counts_are_counted_anew() {
    let scratch = tempfile::tempdir().unwrap();
    store(scratch.path());
    let driver = Driver::open(scratch.path(), &options()).unwrap();
    let engine = &driver.store.engine;
    let meta = engine.meta().unwrap();
    let mut found = Vec::new();
    let first =
        flintlock_diskcache::key::KeyRef { space: driver.space, hash: 0, key: b"" }.to_buf();
    engine.scan(&first, 1, 1 << 20, &mut found).unwrap();
    let item = found.pop().unwrap();
    let record = Record { seq: Seq(1), ..item.record };
    // Its author says that the key is not there, and it is.
    let write = Write { key: item.key, record: Some(record), before: Before::Absent };
    engine.commit(Batch { writes: vec![write], meta }).unwrap();
    drop(driver);
    let (code, out, _) = run(scratch.path(), &[]);
    assert!(code == 1 && out.contains("engine: counts are"), "{out}");
    let (code, out, _) = run(scratch.path(), &["--repair"]);
    assert!(code == 3 && out.contains("engine: counted anew"), "{out}");
    assert_eq!(run(scratch.path(), &[]).0, 0);
}

#[test]
fn what_can_be_read_is_saved_into_a_store_of_its_own() {
    let scratch = tempfile::tempdir().unwrap();
    let (root, saved) = (scratch.path().join("store"), scratch.path().join("saved"));
    store(&root);
    let salvage = ["--salvage", saved.to_str().unwrap()];
    let path = last_segment(&root);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let (code, out, _) = run(&root, &salvage);
    assert!(code == 1 && out.contains("given up: operations "), "{out}");
    assert_eq!(run(&saved, &[]).0, 0, "a good store");
    let (code, _, err) = run(&root, &salvage);
    assert!(code == 4 && err.contains("is not empty"), "{err}");
    let (code, _, err) = run(&root, &["--repair", "--salvage", "other"]);
    assert!(code == 2 && err.contains("usage:"), "{err}");
}

#[test]
fn what_is_in_use_or_no_store_is_left_alone() {
    let scratch = tempfile::tempdir().unwrap();
    let (code, _, err) = run(scratch.path(), &[]);
    assert!(code == 4 && err.contains("holds no store"), "{err}");
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
    let driver = Driver::open(scratch.path(), &options()).unwrap();
    let (code, _, err) = run(scratch.path(), &[]);
    assert!(code == 4 && err.contains("is in use by process"), "{err}");
    drop(driver);
    for args in [&["--accept-loss"][..], &["--frobnicate"], &["one"]] {
        let (code, _, err) = run(scratch.path(), args);
        assert!(code == 2 && err.contains("usage:"), "{err}");
    }
}

#[test]
fn the_journal_is_looked_at_although_the_engine_cannot_be() {
    let scratch = tempfile::tempdir().unwrap();
    store(scratch.path());
    let current = scratch.path().join("engine/current");
    let good = fs::read(&current).unwrap();
    for bytes in [None, Some("garbage")] {
        match bytes {
            None => fs::remove_file(&current).unwrap(),
            Some(bytes) => fs::write(&current, bytes).unwrap(),
        }
        let (code, out, _) = run(scratch.path(), &["--repair"]);
        assert_eq!(code, 1, "{out}");
        for line in ["engine: ", "watermark: durable up to ", "journal: clean", "result: damaged"] {
            assert!(out.contains(line), "{line} in {out}");
        }
    }
    fs::write(&current, good).unwrap();
    assert_eq!(run(scratch.path(), &[]).0, 0, "nothing was changed");
}
