//! SAVE, BGSAVE and `--restore`: what they answer, what is in the backup, what is left when they
//! fail or are killed, and which backups are refused.

#[expect(dead_code, reason = "each test binary uses its own part of the harness")]
mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::client::Client;
use common::server::{Kind, Scratch, Server, run_to_end};
use common::words;

const DEADLINE: Duration = Duration::from_secs(60);
const STORE: &str = "flintlock-data";
const BACKUP: &str = "flintlock-backup";
const UNFINISHED: &str = "flintlock-backup.tmp";

/// These tests are about our own files; redis-server has none of them.
fn ours(args: &[&str]) -> Option<Server> {
    (Kind::subject() == Kind::Flintlock).then(|| Server::start(Kind::Flintlock, args))
}

/// Waits for the end of the backup under way; what INFO says of it.
fn finish(client: &mut Client) -> String {
    let until = Instant::now() + DEADLINE;
    while client.info("persistence", "rdb_bgsave_in_progress") != "0" {
        assert!(Instant::now() < until, "the backup comes to an end");
        std::thread::sleep(Duration::from_millis(5));
    }
    client.info("persistence", "rdb_last_bgsave_status")
}

fn write(client: &mut Client, count: usize) {
    let set = |n| vec!["SET".to_owned(), format!("key:{n}"), format!("{n}.").repeat(99)];
    let sets: Vec<_> = (0..count).map(set).collect();
    for reply in client.pipeline(&sets) {
        let reply = reply.unwrap_or_else(|missing| panic!("{missing:?}"));
        assert!(!reply.is_error(), "{}", words::show(&reply.raw));
    }
}

/// A server that was started from the backup in `from`.
fn restored(from: &Path) -> Server {
    Server::start(Kind::Flintlock, &["--restore", &from.to_string_lossy()])
}

#[test]
fn replies_are_those_of_redis() {
    let (oracle, subject) = (Server::oracle(&[]), Server::subject(&[]));
    let lines = |text: &str| -> Vec<u8> {
        let words = |line: &str| words::split(line).expect("balanced");
        text.lines().flat_map(|line| words::encode(&words(line))).collect()
    };
    for text in [
        "SAVE x\nBGSAVE x\nBGSAVE SCHEDULE x\nLASTSAVE x",
        "SAVE\nSAVE\nPING",
        "BGSAVE\nBGSAVE\nBGSAVE SCHEDULE\nSAVE\nPING",
        "MULTI\nSAVE\nEXEC",
    ] {
        let replies = [&oracle, &subject].map(|server| {
            let mut client = server.connect();
            client.send(&lines(text));
            let replies = text.lines().map(|_| client.read_reply().expect("a reply").raw);
            let replies = replies.collect::<Vec<_>>().concat();
            finish(&mut client);
            words::show(&replies)
        });
        assert_eq!(replies[0], replies[1], "{text}");
    }
    for server in [&oracle, &subject] {
        let mut client = server.connect();
        client.ok("MULTI");
        client.ok("SET in multi");
        client.ok("BGSAVE");
        client.ok("BGSAVE SCHEDULE");
        let leaves = client.ok("EXEC").leaves();
        let scheduled = b"Background saving scheduled".to_vec();
        assert_eq!(leaves, [b"OK".to_vec(), scheduled.clone(), scheduled]);
        let until = Instant::now() + DEADLINE;
        while client.info("persistence", "rdb_changes_since_last_save") != "0" {
            assert!(Instant::now() < until, "what was scheduled comes");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn without_a_store_nothing_is_said_to_be_saved() {
    let Some(server) = ours(&["--store", "memory"]) else { return };
    let mut client = server.connect();
    for line in ["SAVE", "BGSAVE", "BGSAVE SCHEDULE"] {
        let reply = client.run(line);
        assert!(reply.raw.starts_with(b"-ERR Nothing can be saved"), "{}", words::show(&reply.raw));
    }
    assert_eq!(client.info("persistence", "rdb_saves"), "0");
    assert!(!server.dir().join(BACKUP).exists());
}

#[test]
fn a_backup_is_a_store_and_the_figures_tell_of_it() {
    let Some(server) = ours(&[]) else { return };
    let mut client = server.connect();
    let started = client.ok("LASTSAVE").integer().expect("a time");
    assert_eq!(client.info("persistence", "rdb_last_bgsave_time_sec"), "-1");
    write(&mut client, 1_000);
    assert_eq!(client.info("persistence", "rdb_changes_since_last_save"), "1000");
    client.ok("SAVE");
    assert_eq!(client.info("persistence", "rdb_changes_since_last_save"), "0");
    assert_eq!(client.info("persistence", "rdb_saves"), "1");
    assert_ne!(client.info("persistence", "rdb_last_bgsave_time_sec"), "-1");
    assert_eq!(client.info("persistence", "rdb_current_bgsave_time_sec"), "-1");
    assert!(client.ok("LASTSAVE").integer().expect("a time") >= started);
    let first = restored(&server.dir().join(BACKUP));

    client.ok("DEL key:0");
    client.ok("SET second yes");
    client.ok("BGSAVE");
    assert_eq!(finish(&mut client), "ok");
    let second = restored(&server.dir().join(BACKUP));
    assert!(!server.dir().join(UNFINISHED).exists(), "the one before is gone");

    let (mut first, mut second) = (first.connect(), second.connect());
    assert_eq!(first.ok("DBSIZE").integer(), Ok(1_000));
    assert_eq!(second.ok("DBSIZE").integer(), Ok(1_000));
    assert!(second.ok("GET key:0").is_null() && first.ok("GET second").is_null());
    for number in 1..1_000 {
        let value = format!("{number}.").repeat(99);
        for client in [&mut first, &mut second] {
            assert_eq!(client.ok(&format!("GET key:{number}")).text(), Ok(value.as_bytes()));
        }
    }
}

#[test]
fn save_stops_nobody_else_and_survives_its_client() {
    let Some(server) = ours(&[]) else { return };
    let mut client = server.connect();
    write(&mut client, 2_000);
    for _ in 0..5 {
        let mut saver = server.connect();
        saver.send(&words::encode(&["SAVE"]));
        client.ok("PING");
        drop(saver);
        assert_eq!(finish(&mut client), "ok");
    }
    client.ok("SAVE");
    assert_eq!(restored(&server.dir().join(BACKUP)).connect().ok("DBSIZE").integer(), Ok(2_000));
}

/// Limits the size of any file the running server writes; what it has stays.
fn limit_file_size(server: &Server, limit: &str) {
    let pid = server.pid().to_string();
    let limit = format!("--fsize={limit}:unlimited");
    let done = Command::new("prlimit").args(["--pid", &pid, &limit]).status();
    assert!(done.expect("prlimit can be run").success(), "prlimit {limit}");
}

fn names(dir: &Path) -> Vec<PathBuf> {
    let mut names: Vec<_> =
        fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    names.sort();
    names
}

#[test]
fn a_full_disk_fails_the_backup_and_keeps_the_one_before() {
    let Some(server) = ours(&[]) else { return };
    let mut client = server.connect();
    write(&mut client, 1_000);
    client.ok("SAVE");
    let before = names(&server.dir().join(BACKUP));
    let saved = client.ok("LASTSAVE").raw;
    // The journal's segment is above the limit by now: a copy of it fails.
    limit_file_size(&server, "65536");
    let reply = client.run("SAVE");
    assert!(reply.raw.starts_with(b"-ERR the backup could not be written"), "{reply:?}");
    client.ok("BGSAVE");
    assert_eq!(finish(&mut client), "err");
    assert_eq!(client.ok("LASTSAVE").raw, saved);
    assert_eq!(client.info("persistence", "rdb_saves"), "1");
    assert!(!server.dir().join(UNFINISHED).exists(), "a full disk is not left fuller");
    assert_eq!(names(&server.dir().join(BACKUP)), before);
    assert_eq!(client.ok("GET key:7").text(), Ok("7.".repeat(99).as_bytes()), "reads go on");
    limit_file_size(&server, "unlimited");
    let until = Instant::now() + DEADLINE;
    while client.run("SET after room").is_error() || client.run("SAVE").is_error() {
        assert!(Instant::now() < until, "it works again when there is room, without a restart");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(finish(&mut client), "ok");
    let copy = restored(&server.dir().join(BACKUP));
    assert_eq!(copy.connect().ok("DBSIZE").integer(), Ok(1_001));
}

#[test]
fn writes_go_on_and_a_backup_is_one_moment() {
    let Some(server) = ours(&["--flush-delay-ms", "20"]) else { return };
    let mut client = server.connect();
    write(&mut client, 500);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = || {
            let mut client = server.connect();
            let lines = ["MULTI", "INCR left", "RPUSH log x", "INCR right", "EXEC"];
            let words = lines.map(|line| line.split(' ').map(str::to_owned).collect::<Vec<_>>());
            while !stop.load(Ordering::Relaxed) {
                for reply in client.pipeline(&words) {
                    assert!(!reply.unwrap_or_else(|missing| panic!("{missing:?}")).is_error());
                }
            }
        };
        scope.spawn(writer);
        let number = |client: &mut Client, key: &str| -> i64 {
            let reply = client.ok(&format!("INCRBY {key} 0"));
            reply.integer().expect("a number")
        };
        for _ in 0..4 {
            let before = number(&mut client, "left");
            client.ok("BGSAVE");
            assert_eq!(finish(&mut client), "ok");
            let after = number(&mut client, "left");
            let copy = restored(&server.dir().join(BACKUP));
            let mut copy = copy.connect();
            let left = number(&mut copy, "left");
            assert!((before..=after).contains(&left), "{before} {left} {after}");
            assert_eq!(number(&mut copy, "right"), left, "a transaction is there whole or not");
            assert_eq!(copy.ok("LLEN log").integer(), Ok(left));
            assert_eq!(copy.ok("GET key:499").text(), Ok("499.".repeat(99).as_bytes()));
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn kill_9_leaves_a_whole_backup() {
    const ROUNDS: u64 = 8;
    let Some(mut server) = ours(&["--flush-delay-ms", "20"]) else { return };
    let mut client = server.connect();
    write(&mut client, 500);
    client.ok("SET round 0");
    client.ok("SAVE");
    let (mut low, mut cut_short) = (0, 0);
    for round in 1..=ROUNDS {
        let mut client = server.connect();
        write(&mut client, 200);
        client.ok(&format!("SET round {round}"));
        client.ok("BGSAVE");
        std::thread::sleep(Duration::from_micros(round * 700));
        server.kill_9();
        cut_short += usize::from(server.dir().join(UNFINISHED).exists());
        let copy = restored(&server.dir().join(BACKUP));
        let mut copy = copy.connect();
        let text = copy.ok("GET round");
        let text = String::from_utf8_lossy(text.text().expect("a text")).into_owned();
        let found: u64 = text.parse().expect("a number");
        assert!((low..=round).contains(&found), "{low} {found} {round}");
        assert_eq!(copy.ok("DBSIZE").integer(), Ok(501));
        low = found;
        server.restart();
        assert!(!server.dir().join(UNFINISHED).exists(), "the next start clears it away");
    }
    eprintln!("{cut_short} of {ROUNDS} backups were cut short, the last whole one is {low}");
}

/// Every file of a backup, with its path.
fn files(dir: &Path) -> Vec<PathBuf> {
    let all = names(dir).into_iter();
    all.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// A server with something in its engine and something in its journal, and a backup of it.
fn saved() -> Option<Server> {
    let mut server = ours(&[])?;
    write(&mut server.connect(), 500);
    // The end moves everything to the engine.
    assert!(server.terminate().success());
    server.restart();
    let mut client = server.connect();
    client.ok("SET behind the-engine");
    client.ok("SAVE");
    Some(server)
}

/// Runs our binary in `dir` with a restore of `backup`, which it refuses; what it said.
fn refusal(dir: &Path, backup: &Path, more: &[&str]) -> String {
    let (dir, backup) = (dir.to_string_lossy(), backup.to_string_lossy());
    let args = ["--port", "0", "--bind", "127.0.0.1", "--dir", &dir, "--restore", &backup];
    let done = run_to_end(&[&args[..], more].concat());
    let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    said
}

fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    let copied = Command::new("cp").arg("-r").args([from, to]).status();
    assert!(copied.expect("cp can be run").success());
}

/// Damages the file or folder `path` in one of three ways.
fn damage(path: &Path, how: &str) {
    if how == "gone" {
        let is_dir = path.is_dir();
        let gone = if is_dir { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        return gone.expect("our own copy");
    }
    let mut bytes = fs::read(path).expect("our own copy");
    let middle = bytes.len() / 2;
    if how == "half" {
        bytes.truncate(middle);
    } else {
        bytes[middle] ^= 0x10;
    }
    fs::write(path, bytes).expect("our own copy");
}

/// Whether nothing is lost by the damage: the watermark has two slots, the engine's pointer a
/// checksum behind the number, and the oldest segment only what the engine has as well.
fn is_harmless(name: &str, how: &str, oldest: &str) -> bool {
    let spare = ["journal/watermark", "engine/current"];
    name == oldest || spare.contains(&name) && how != "gone"
}

#[test]
fn every_torn_backup_is_refused() {
    let Some(server) = saved() else { return };
    let whole = server.dir().join(BACKUP);
    let scratch = Scratch::new();
    let torn = scratch.path().join("torn");
    let found = files(&whole);
    let name = |path: &PathBuf| {
        path.strip_prefix(&whole).expect("it is in there").to_string_lossy().into_owned()
    };
    let names_found: Vec<String> = found.iter().map(name).collect();
    let oldest = names_found.iter().find(|name| name.ends_with(".log")).expect("a segment").clone();
    let folders = ["engine", "engine/tables", "journal", ""].map(|name| (name.to_owned(), "gone"));
    let hows = |name: &String| ["gone", "half", "flipped"].map(|how| (name.clone(), how));
    let cases = names_found.iter().flat_map(hows).chain(folders);
    let (mut refused, mut harmless) = (0, 0);
    for (name, how) in cases {
        copy(&whole, &torn);
        damage(&torn.join(&name), how);
        if is_harmless(&name, how, &oldest) {
            let served = restored(&torn);
            let mut client = served.connect();
            assert_eq!(client.ok("DBSIZE").integer(), Ok(501), "{name} {how}");
            for number in 0..500 {
                let value = client.ok(&format!("GET key:{number}"));
                assert_eq!(value.text(), Ok(format!("{number}.").repeat(99).as_bytes()));
            }
            harmless += 1;
            continue;
        }
        let said = refusal(scratch.path(), &torn, &[]);
        assert!(said.contains("torn"), "{name} {how}: the backup is named: {said}");
        let left = usize::from(torn.exists());
        assert_eq!(names(scratch.path()).len(), left, "{name} {how}: nothing is left: {said}");
        refused += 1;
    }
    assert!(refused >= 16 && harmless <= 7, "{refused} refused, {harmless} did no harm");
    assert_eq!(restored(&whole).connect().ok("DBSIZE").integer(), Ok(501));
}

#[test]
fn a_restore_needs_an_empty_place_on_disk() {
    let Some(server) = saved() else { return };
    let backup = server.dir().join(BACKUP);
    let mut other = Server::start(Kind::Flintlock, &[]);
    other.connect().ok("SET mine yes");
    assert!(other.terminate().success());
    let said = refusal(other.dir(), &backup, &[]);
    assert!(said.contains("is not empty") && said.contains(STORE), "{said}");
    other.restart();
    assert_eq!(other.connect().ok("GET mine").text(), Ok(&b"yes"[..]));

    let scratch = Scratch::new();
    let said = refusal(scratch.path(), &backup, &["--store", "memory"]);
    assert!(said.contains("--restore needs a store on disk"), "{said}");
    let said = refusal(scratch.path(), &scratch.path().join("nowhere"), &[]);
    assert!(said.contains("nowhere"), "{said}");
    assert!(names(scratch.path()).is_empty());
    // The store that was saved is no backup while it is served.
    let said = refusal(scratch.path(), &server.dir().join(STORE), &[]);
    assert!(said.contains("in use"), "{said}");
}

#[test]
fn a_restore_that_was_killed_is_repeated() {
    let Some(server) = saved() else { return };
    let backup = server.dir().join(BACKUP).to_string_lossy().into_owned();
    for round in 0..6u64 {
        let scratch = Scratch::new();
        let dir = scratch.path().to_string_lossy().into_owned();
        let args = ["--port", "0", "--bind", "127.0.0.1", "--dir", &dir];
        let mut child = Command::new(env!("CARGO_BIN_EXE_flintlock"))
            .args(args)
            .args(["--restore", &backup])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("our binary can be started");
        std::thread::sleep(Duration::from_millis(round * 4));
        child.kill().expect("our own child");
        child.wait().expect("our own child");
        let (store, half) =
            (scratch.path().join(STORE), scratch.path().join("flintlock-data.restoring"));
        assert!(!(store.exists() && half.exists()));
        if !store.exists() {
            // Also where the kill came before or after: what it would have left.
            fs::create_dir_all(half.join("journal")).expect("a scratch folder");
            let done = run_to_end(&args);
            let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
            assert_eq!(done.status.code(), Some(1), "{said}");
            assert!(said.contains("was cut short: restore again"), "{said}");
            let _ = fs::remove_dir_all(&store);
        }
        let again = ["--restore", &backup, "--dir", &dir];
        let again = if store.exists() { &again[2..] } else { &again[..] };
        let copy = Server::start(Kind::Flintlock, again);
        let mut client = copy.connect();
        assert_eq!(client.ok("DBSIZE").integer(), Ok(501), "round {round}");
        assert_eq!(client.ok("GET behind").text(), Ok(&b"the-engine"[..]));
        assert!(store.exists() && !half.exists());
    }
}
