//! SAVE and BGSAVE: what they answer, what is in the backup, what is left when they fail.

#[expect(dead_code, reason = "each test binary uses its own part of the harness")]
mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use common::client::Client;
use common::server::{Kind, Server};
use common::words;

const DEADLINE: Duration = Duration::from_secs(60);
const STORE: &str = "flintlock-data";
const BACKUP: &str = "flintlock-backup";
const UNFINISHED: &str = "flintlock-backup.tmp";

/// These tests are about our own files; redis-server has none of them.
fn ours(args: &[&str]) -> Option<Server> {
    (Kind::subject() == Kind::Flintlock).then(|| Server::start(Kind::Flintlock, args))
}

/// A field of INFO persistence.
fn field(client: &mut Client, name: &str) -> String {
    let info = client.ok("INFO persistence");
    let text = String::from_utf8_lossy(info.text().expect("a text")).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("{name} is missing in {text}")).to_owned()
}

/// Waits for the end of the backup under way; what INFO says of it.
fn finish(client: &mut Client) -> String {
    let until = Instant::now() + DEADLINE;
    while field(client, "rdb_bgsave_in_progress") != "0" {
        assert!(Instant::now() < until, "the backup comes to an end");
        std::thread::sleep(Duration::from_millis(5));
    }
    field(client, "rdb_last_bgsave_status")
}

fn write(client: &mut Client, count: usize) {
    let set = |n| vec!["SET".to_owned(), format!("key:{n}"), format!("{n}.").repeat(99)];
    let sets: Vec<_> = (0..count).map(set).collect();
    for reply in client.pipeline(&sets) {
        let reply = reply.unwrap_or_else(|missing| panic!("{missing:?}"));
        assert!(!reply.is_error(), "{}", words::show(&reply.raw));
    }
}

/// A server whose store is a copy of the backup `from`: a backup is a store.
fn serve_copy(from: &Path) -> Server {
    let mut server = Server::start(Kind::Flintlock, &[]);
    assert!(server.terminate().success());
    let store = server.dir().join(STORE);
    fs::remove_dir_all(&store).expect("the server is gone");
    let copied = Command::new("cp").arg("-r").args([from, store.as_path()]).status();
    assert!(copied.expect("cp can be run").success());
    server.restart();
    server
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
        while field(&mut client, "rdb_changes_since_last_save") != "0" {
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
    assert_eq!(field(&mut client, "rdb_saves"), "0");
    assert!(!server.dir().join(BACKUP).exists());
}

#[test]
fn a_backup_is_a_store_and_the_figures_tell_of_it() {
    let Some(server) = ours(&[]) else { return };
    let mut client = server.connect();
    let started = client.ok("LASTSAVE").integer().expect("a time");
    assert_eq!(field(&mut client, "rdb_last_bgsave_time_sec"), "-1");
    write(&mut client, 1_000);
    assert_eq!(field(&mut client, "rdb_changes_since_last_save"), "1000");
    client.ok("SAVE");
    assert_eq!(field(&mut client, "rdb_changes_since_last_save"), "0");
    assert_eq!(field(&mut client, "rdb_saves"), "1");
    assert_ne!(field(&mut client, "rdb_last_bgsave_time_sec"), "-1");
    assert_eq!(field(&mut client, "rdb_current_bgsave_time_sec"), "-1");
    assert!(client.ok("LASTSAVE").integer().expect("a time") >= started);
    let first = serve_copy(&server.dir().join(BACKUP));

    client.ok("DEL key:0");
    client.ok("SET second yes");
    client.ok("BGSAVE");
    assert_eq!(finish(&mut client), "ok");
    let second = serve_copy(&server.dir().join(BACKUP));
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
    assert_eq!(serve_copy(&server.dir().join(BACKUP)).connect().ok("DBSIZE").integer(), Ok(2_000));
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
    assert_eq!(field(&mut client, "rdb_saves"), "1");
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
    let copy = serve_copy(&server.dir().join(BACKUP));
    assert_eq!(copy.connect().ok("DBSIZE").integer(), Ok(1_001));
}
