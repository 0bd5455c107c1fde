//! Stores whose process is killed, runs out of disk, or is told by the kernel that a call failed.
//!
//! The other process is this test again, with its part in the environment. It writes the fixed
//! stream of groups of `driver` and says on standard output how far it has been acknowledged.

mod child;
mod driver;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use child::{IGNORING_XFSZ, command, limit_file_size};
use driver::{Driver, groups_to, mix};
use flintlock_diskcache::journal::WriterOptions;
use flintlock_diskcache::recovery::OpenOptions;
use flintlock_diskcache::storage::fjall::FjallOptions;
use flintlock_diskcache::storage::{ErrorKind, StoreError};

fn small() -> OpenOptions {
    OpenOptions {
        engine: FjallOptions {
            cache_bytes: 256 << 10,
            table_bytes: 64 << 10,
            merge_bytes: 256 << 10,
            ..FjallOptions::default()
        },
        journal: WriterOptions { segment_bytes: 60_000, unsynced_bytes_max: 200_000 },
        accept_loss: false,
    }
}

/// The other process; returns at once when this is none.
#[test]
fn other_process() {
    let Some((part, root, seed)) = child::part() else { return };
    match part.as_str() {
        "endless" => endless(&root, seed),
        "stubborn" => stubborn(&root, seed),
        "full" => full_disk(&root),
        other => panic!("no part {other}"),
    }
}

/// The last group that the other process was acknowledged.
fn acked(output: &str) -> u64 {
    let mut lines = output.lines().rev().filter_map(|line| line.split("acked ").nth(1));
    lines.next().map_or(0, |n| n.parse().expect("a number"))
}

fn say(driver: &Driver) {
    println!("acked {}", groups_to(driver.store.writer.durable()));
}

/// Writes until it is killed.
fn endless(root: &Path, seed: u64) {
    let mut driver = Driver::open(root, &small()).expect("a store that is only killed opens");
    driver.check();
    for g in driver.groups.. {
        let done = match mix(seed ^ g) % 24 {
            0 => driver.checkpoint(0),
            1 => driver.checkpoint(seed ^ g),
            2 => driver.maintain().map(|_| ()),
            3..=9 => driver.store.writer.sync().map(|_| ()),
            _ => driver.write(),
        };
        done.expect("a good disk");
        say(&driver);
        if g % 16 == 0 {
            driver.write().expect("a good disk");
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_to_kill_9() {
    let rounds = child::kill_rounds();
    let scratch = tempfile::tempdir().unwrap();
    let mut promised = 0;
    for round in 0..rounds {
        let mut child = command("endless", scratch.path(), round, &[]).spawn().unwrap();
        // Often within the opening or a checkpoint, sometimes after many of them.
        std::thread::sleep(Duration::from_micros(mix(round) % 400_000));
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(
            output.status.code(),
            None,
            "it failed before it was killed: {text}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        promised = acked(&text).max(promised);
        // Now and then the next one must recover what the last one left half recovered.
        if round % 3 != 2 {
            let driver = Driver::open(scratch.path(), &small()).unwrap();
            assert!(driver.groups >= promised, "{promised} acknowledged, {} there", driver.groups);
            driver.check();
        }
    }
    let driver = Driver::open(scratch.path(), &small()).unwrap();
    assert!(driver.groups >= promised);
    driver.check();
    println!("{rounds} rounds, {promised} groups");
}

/// Runs into a limit on file sizes, which the kernel reports much like a full disk, and goes on
/// when it is lifted.
fn full_disk(root: &Path) {
    let mut driver = Driver::open(root, &small()).expect("a fresh store");
    for g in 0..120 {
        driver.write().expect("a good disk");
        if g % 30 == 29 {
            driver.checkpoint(0).expect("a good disk");
        }
    }
    driver.store.writer.sync().expect("a good disk");
    let durable = driver.store.writer.durable();
    let no_space = |e: StoreError| assert_eq!(e.kind, ErrorKind::NoSpace, "{e}");

    // The engine first: its journal is synced already.
    for g in 0..30 {
        driver.write().expect("a good disk");
        if g == 29 {
            driver.store.writer.sync().expect("a good disk");
        }
    }
    limit_file_size(Some(32));
    no_space(driver.checkpoint(0).expect_err("there is no room for a table"));
    no_space(driver.checkpoint(0).expect_err("there still is no room"));
    driver.check();
    // Then the journal.
    no_space(driver.write().expect_err("there is no room for a frame"));
    assert!(driver.store.writer.sync().is_err() && driver.store.writer.durable() > durable);
    driver.check();

    limit_file_size(None);
    driver.store.writer.sync().expect("room again");
    driver.checkpoint(0).expect("room again");
    while driver.maintain().expect("room again") {}
    driver.check();
    for _ in 0..50 {
        driver.write().expect("a good disk");
    }
    driver.store.writer.close().expect("a good disk");
    say(&driver);
}

#[test]
fn a_full_disk_is_survived_without_a_restart() {
    let scratch = tempfile::tempdir().unwrap();
    let output = command("full", scratch.path(), 0, &IGNORING_XFSZ).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let driver = Driver::open(scratch.path(), &small()).unwrap();
    assert!(driver.groups == acked(&text) && driver.groups > 200);
    driver.check();
}

/// Writes a fixed amount, trying again what fails.
fn stubborn(root: &Path, seed: u64) {
    let mut driver = loop {
        match Driver::open(root, &small()) {
            Ok(driver) => break driver,
            Err(e) => println!("opening: {e}"),
        }
    };
    driver.check();
    let mut failed = 0;
    for g in 0..60 {
        // A group is with the writer even when this fails.
        failed += u32::from(driver.write().is_err());
        let done = match mix(seed ^ g) % 8 {
            0 => driver.checkpoint(0),
            1 => driver.checkpoint(seed ^ g),
            2 => driver.maintain().map(|_| ()),
            3 | 4 => driver.store.writer.sync().map(|_| ()),
            _ => Ok(()),
        };
        if let Err(e) = done {
            println!("group {g}: {e}");
            failed += 1;
        }
        say(&driver);
    }
    for attempt in 0.. {
        match driver.checkpoint(0).and_then(|()| driver.store.writer.close()) {
            Ok(_) => break,
            Err(e) if attempt < 3 => println!("closing: {e}"),
            Err(e) => panic!("{e}"),
        }
    }
    driver.check();
    say(&driver);
    println!("failed {failed}");
}

/// Lets one system call of a kind fail, each time another one, and looks at what is left.
#[test]
fn any_failing_system_call_is_survived() {
    if Command::new("strace").arg("-V").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "strace is not there: .ci/setup installs it");
        println!("skipped: strace is not there");
        return;
    }
    let stride = if std::env::var("FLINTLOCK_KILL_ROUNDS").is_ok() { 1 } else { 29 };
    let mut struck = 0;
    for (call, error, calls) in [
        ("fsync", "EIO", 120),
        ("fdatasync", "EIO", 40),
        ("rename", "EIO", 40),
        ("pwrite64", "ENOSPC", 120),
        ("write", "ENOSPC", 200),
        ("openat", "EMFILE", 200),
        ("unlink", "EIO", 40),
    ] {
        for nth in (1..calls).step_by(stride) {
            let scratch = tempfile::tempdir().unwrap();
            // Opening shared objects and printing are not what is tried out here.
            let at = nth + if call == "openat" { 20 } else { 0 };
            let inject = format!("inject={call}:error={error}:when={at}");
            let trace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", &inject];
            let output = command("stubborn", scratch.path(), nth, &trace).output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            let errors = String::from_utf8_lossy(&output.stderr);
            // The test's own output also goes through write(2).
            let own = ["failed printing to stdout", "io error when"];
            if call == "write" && own.iter().any(|text| errors.contains(text)) {
                continue;
            }
            assert!(output.status.success(), "{inject}: {text}\n{errors}");
            struck += u32::from(text.contains("group") || text.contains("opening"));
            let driver = Driver::open(scratch.path(), &small()).unwrap();
            assert_eq!(driver.groups, acked(&text), "{inject}");
            driver.check();
        }
    }
    println!("{struck} calls were noticed to fail");
    assert!(struck > 5, "only {struck} of the calls were noticed to fail");
}
