//! Damage of every kind at many places: whatever is acknowledged is there or its loss is stated,
//! and a torn tail that nobody was promised is never a reason to refuse.

#[expect(dead_code, reason = "this test writes and reads whole stores only")]
mod driver;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use driver::{Driver, expected, mix};
use flintlock_diskcache::journal::sim::{Kept, SimDir};
use flintlock_diskcache::journal::{
    Depth, Dir, EngineAt, Group, Report, StoreId, Verdict, Writer, WriterOptions, scan,
};
use flintlock_diskcache::key::{KeyRef, Seq, Space};
use flintlock_diskcache::recovery::{OpenError, OpenOptions};
use flintlock_diskcache::storage::ErrorKind;
use flintlock_diskcache::storage::fjall::FjallOptions;

const STORE: StoreId = StoreId([5; 16]);
const PAGE: usize = 4096;
const SEGMENT: &str = "journal-00000000000000000001.log";

/// A journal of 40 synced groups and one that is not, with values of `len` bytes; where its last
/// synced byte and its last byte are.
fn journal(len: usize) -> (SimDir, usize, usize) {
    let dir = SimDir::new();
    let report = look(&dir);
    let accepted = report.accept(false).expect("an empty journal");
    let shared: Arc<dyn Dir> = Arc::new(dir.clone());
    let (mut writer, _) =
        Writer::open(shared, STORE, WriterOptions::default(), &accepted).expect("a good disk");
    let append = |writer: &mut Writer| {
        let mut group = Group::new(writer.next_seq());
        for n in 0..3u64 {
            let key = KeyRef { space: Space(1), hash: n, key: b"key" };
            let byte = mix(group.next_seq().0).to_le_bytes()[0];
            group.push_put(key, None, |out| out.resize(out.len() + len, byte)).expect("small");
        }
        writer.append(group).expect("a good disk");
    };
    for _ in 0..40 {
        append(&mut writer);
        writer.sync().expect("a good disk");
    }
    let synced = dir.bytes(SEGMENT).expect("one segment").len();
    append(&mut writer);
    let end = dir.bytes(SEGMENT).expect("one segment").len();
    (dir, synced, end)
}

fn look(dir: &SimDir) -> Report {
    scan(dir, &STORE, EngineAt::default(), Depth::Needed).expect("a readable disk")
}

/// What the scan says of a copy of `dir` that `damage` was done to.
fn after(dir: &SimDir, damage: impl FnOnce(&SimDir)) -> Report {
    let copy = dir.crash(Kept::All);
    damage(&copy);
    look(&copy)
}

#[test]
fn torn_tails_are_never_refused() {
    for len in [100, 2_000, 16_000] {
        let (dir, synced, end) = journal(len);
        let mut opened = 0;
        let step = (end - synced).div_ceil(400);
        for cut in (synced..=end).step_by(step) {
            let report = after(&dir, |d| d.cut(SEGMENT, cut));
            assert!(!matches!(report.verdict, Verdict::Refused(_)), "cut at {cut}, {len}");
            assert!(report.end >= Seq(120), "what was synced is there");
            opened += 1;
        }
        // Any page of the tail may be missing while what is behind it was written.
        for at in (synced..end).step_by(step) {
            let report = after(&dir, |d| d.zero(SEGMENT, at, PAGE));
            assert!(!matches!(report.verdict, Verdict::Refused(_)), "hole at {at}, {len}");
            assert!(report.end >= Seq(120));
            opened += 1;
        }
        for bit in (synced * 8..end * 8).step_by(step * 8 + 1) {
            let report = after(&dir, |d| d.flip(SEGMENT, bit / 8, 1 << (bit % 8)));
            assert!(matches!(report.verdict, Verdict::TornTail { .. }), "bit {bit}, {len}");
            opened += 1;
        }
        assert!(opened > 500, "{opened} torn tails were tried");
    }
}

#[test]
fn damage_in_what_was_synced_is_never_silent() {
    let mut tried = 0;
    for len in [100, 2_000, 16_000] {
        let (dir, synced, _) = journal(len);
        let refused = |what: &str, at: usize, report: &Report| {
            assert!(matches!(report.verdict, Verdict::Refused(_)), "{what} at {at}, {len}");
        };
        for at in (0..synced).step_by(synced.div_ceil(300)) {
            let mask = 1 << (mix(at as u64) % 8);
            refused("bit", at, &after(&dir, |d| d.flip(SEGMENT, at, mask)));
            // The frames behind the damage prove it even without the watermark file.
            let report = after(&dir, |d| {
                d.flip(SEGMENT, at, mask);
                d.remove("watermark").expect("it was there");
            });
            refused("bit without watermark", at, &report);
            refused("cut", at, &after(&dir, |d| d.cut(SEGMENT, at)));
            tried += 3;
        }
        for at in (0..synced).step_by(PAGE) {
            refused("page", at, &after(&dir, |d| d.zero(SEGMENT, at, PAGE)));
            tried += 1;
        }
        // One slot of the watermark file may be lost; with both, nobody knows.
        for slot in [0, 512] {
            let report = after(&dir, |d| d.zero("watermark", slot, 512));
            assert!(!matches!(report.verdict, Verdict::Refused(_)) && report.end == Seq(123));
        }
        refused("watermark", 0, &after(&dir, |d| d.zero("watermark", 0, 1024)));
    }
    assert!(tried > 2_000, "{tried} places were tried");
}

fn small() -> OpenOptions {
    OpenOptions {
        engine: FjallOptions {
            cache_bytes: 64 << 10,
            table_bytes: 64 << 10,
            merge_bytes: 256 << 10,
            ..FjallOptions::default()
        },
        journal: WriterOptions { segment_bytes: 100_000, unsynced_bytes_max: 200_000 },
        accept_loss: false,
    }
}

/// Every file of a store, but the lock.
fn files(root: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(root).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(&path, out);
        } else if path.file_name().is_some_and(|name| name != "lock") {
            out.push(path);
        }
    }
    out.sort();
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let (path, name) = entry.map(|e| (e.path(), e.file_name())).expect("an entry");
        if path.is_dir() {
            copy_tree(&path, &to.join(name));
        } else {
            fs::copy(&path, to.join(name)).expect("a copy");
        }
    }
}

#[derive(Debug, Default)]
struct Tally {
    /// Not opened.
    refused: u32,
    /// Opened, and a read says that something is damaged.
    reported: u32,
    /// Opened and whole: the damage hit what nobody needs.
    whole: u32,
}

/// Opens a damaged copy and reads all of it: the right state, or an error, but no other state.
fn try_out(root: &Path, groups: u64, what: &str, tally: &mut Tally) {
    let driver = match Driver::open(root, &small()) {
        Ok(driver) => driver,
        Err(OpenError::Store(e)) if e.kind != ErrorKind::Corrupt && e.kind != ErrorKind::Io => {
            panic!("{what}: {e}")
        }
        Err(_) => {
            tally.refused += 1;
            return;
        }
    };
    assert_eq!(driver.groups, groups, "{what}: silently lost");
    match driver.state() {
        Ok(state) => {
            assert!(state == expected(groups).0, "{what}: another state");
            tally.whole += 1;
        }
        Err(_) => tally.reported += 1,
    }
}

#[test]
fn damage_anywhere_in_a_store_is_stated_or_harmless() {
    let scratch = tempfile::tempdir().unwrap();
    let good = scratch.path().join("good");
    let mut driver = Driver::open(&good, &small()).unwrap();
    for g in 0..500 {
        driver.write().unwrap();
        if g % 60 == 59 {
            driver.checkpoint(0).unwrap();
            driver.maintain().unwrap();
        }
    }
    driver.store.writer.close().unwrap();
    let groups = driver.groups;
    drop(driver);

    let mut names = Vec::new();
    files(&good, &mut names);
    let mut tally = Tally::default();
    let tries = if cfg!(debug_assertions) { 4 } else { 40 };
    for (n, name) in names.iter().enumerate() {
        let bytes = fs::read(name).unwrap();
        let inner = name.strip_prefix(&good).unwrap();
        for i in 0..tries {
            let draw = mix(n as u64 * 1_000 + i);
            let at = usize::try_from(draw % bytes.len().max(1) as u64).unwrap();
            let mut bad = bytes.clone();
            let kind = ["bit", "page", "cut", "gone"][usize::try_from(i % 4).unwrap()];
            match kind {
                "bit" if !bad.is_empty() => bad[at] ^= 1 << (draw >> 40 & 7),
                "page" => {
                    let start = at / PAGE * PAGE;
                    let end = (start + PAGE).min(bad.len());
                    bad[start..end].fill(0);
                }
                "cut" => bad.truncate(at),
                _ => {}
            }
            let copy = scratch.path().join("copy");
            copy_tree(&good, &copy);
            if kind == "gone" {
                fs::remove_file(copy.join(inner)).unwrap();
            } else {
                fs::write(copy.join(inner), bad).unwrap();
            }
            let what = format!("{kind} at {at} of {}", inner.display());
            try_out(&copy, groups, &what, &mut tally);
            fs::remove_dir_all(&copy).unwrap();
        }
    }
    println!("{} files, {tally:?}", names.len());
    assert!(tally.refused > 20 && tally.reported > 0 && tally.whole > 0, "{tally:?}");
}
