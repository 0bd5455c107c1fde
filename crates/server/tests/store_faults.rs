//! A store that cannot be used, is used already, was damaged, or runs out of space: a clear message
//! and an exit code, or recovery; never a silent empty start, never a lost acknowledged write.

#[expect(dead_code, reason = "each test binary uses its own part of the harness")]
mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use common::client::{Client, Missing};
use common::server::{Kind, Scratch, Server, run_to_end};
use common::words;

/// The store's folder below `--dir`.
const STORE: &str = "flintlock-data";
const DEADLINE: Duration = Duration::from_secs(60);
const KEYS: usize = 500;

/// These tests are about our own files; redis-server has none of them.
fn ours() -> Option<Server> {
    let always = ["--appendfsync", "always"];
    (Kind::subject() == Kind::Flintlock).then(|| Server::start(Kind::Flintlock, &always))
}

fn value(number: usize) -> String {
    format!("{number}.").repeat(60)
}

fn write(client: &mut Client, numbers: std::ops::Range<usize>) {
    for number in numbers {
        client.ok(&format!("SET key:{number} {}", value(number)));
    }
}

/// How many of the first `KEYS` keys are there, from the first on; what is there must be right.
fn survivors(client: &mut Client) -> usize {
    let mut there = Vec::new();
    for number in 0..KEYS {
        let reply = client.ok(&format!("GET key:{number}"));
        if !reply.is_null() {
            assert_eq!(reply.text(), Ok(value(number).as_bytes()), "key:{number}");
        }
        there.push(!reply.is_null());
    }
    let first_gone = there.iter().position(|there| !there).unwrap_or(KEYS);
    assert!(!there[first_gone..].contains(&true), "what is gone is the end, not the middle");
    first_gone
}

/// Journal segments, oldest first.
fn segments(server: &Server) -> Vec<PathBuf> {
    let mut found = Vec::new();
    collect(&server.dir().join(STORE), &mut found);
    found.sort();
    assert!(!found.is_empty(), "the store has a journal");
    found
}

fn collect(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if path.is_dir() {
            collect(&path, found);
        } else if name.starts_with("journal-") && name.ends_with(".log") {
            found.push(path);
        }
    }
}

/// The segment that holds most: the one the writes went to.
fn busiest(server: &Server) -> PathBuf {
    let length = |path: &PathBuf| fs::metadata(path).expect("it was listed").len();
    segments(server).into_iter().max_by_key(length).expect("there is one")
}

/// Starts on the same folder; what it printed and its exit code if it refuses, `None` if it serves.
fn refusal(server: &mut Server) -> Option<(i32, String)> {
    match server.try_restart() {
        Ok(()) => None,
        Err(said) => {
            let dir = server.dir().to_string_lossy().into_owned();
            let done = run_to_end(&["--port", "0", "--dir", &dir, "--appendfsync", "always"]);
            let code = done.status.code().unwrap_or_else(|| panic!("killed by a signal: {said}"));
            Some((code, said))
        }
    }
}

fn assert_refused(server: &mut Server, words: &[&str]) {
    let (code, said) = refusal(server).expect("it must not start on this store");
    assert_eq!(code, 3, "{said}");
    let hint = format!("flintlock-check {}", server.dir().join("flintlock-data").display());
    assert!(said.contains(&hint), "what the operator can do: {said}");
    let said = said.to_lowercase();
    assert!(!said.contains("panicked"), "{said}");
    assert!(words.iter().any(|word| said.contains(word)), "none of {words:?} in:\n{said}");
}

#[test]
fn a_store_that_is_no_folder_is_named() {
    if ours().is_none() {
        return;
    }
    let scratch = Scratch::new();
    fs::write(scratch.path().join(STORE), "not a store").expect("a scratch folder");
    let dir = scratch.path().to_string_lossy().into_owned();
    let done = run_to_end(&["--port", "0", "--dir", &dir]);
    let said = [done.stdout, done.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(said.contains(STORE) && !said.contains("panicked"), "{said}");
    let kept = fs::read(scratch.path().join(STORE)).expect("still there");
    assert_eq!(kept, b"not a store", "a foreign file is left alone");
}

#[test]
fn a_store_in_use_is_refused() {
    let Some(server) = ours() else { return };
    server.connect().ok("SET k v");
    let dir = server.dir().to_string_lossy().into_owned();
    let done = run_to_end(&["--port", "0", "--dir", &dir]);
    let said = [done.stdout, done.stderr].concat();
    let said = String::from_utf8_lossy(&said).to_lowercase();
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(said.contains("lock") || said.contains("in use"), "{said}");
    assert_eq!(server.connect().ok("GET k").text(), Ok(&b"v"[..]), "the first goes on");
}

#[test]
fn bytes_behind_the_end_of_the_journal_are_cut_off() {
    for garbage in [&b"garbage that no sync covers"[..], &[0; 5_000]] {
        let Some(mut server) = ours() else { return };
        write(&mut server.connect(), 0..KEYS);
        server.kill_9();
        let path = busiest(&server);
        let whole = [fs::read(&path).expect("a journal"), garbage.to_vec()].concat();
        fs::write(&path, whole).expect("a journal");
        server.restart();
        assert_eq!(survivors(&mut server.connect()), KEYS, "all of it had been acknowledged");
    }
}

#[test]
fn a_journal_that_lost_acknowledged_data_is_refused() {
    let Some(mut server) = ours() else { return };
    write(&mut server.connect(), 0..KEYS);
    server.kill_9();
    let path = busiest(&server);
    let whole = fs::read(&path).expect("a journal");
    fs::write(&path, &whole[..whole.len() / 2]).expect("a journal");
    assert_refused(&mut server, &["journal", "missing", "lost"]);
    fs::write(&path, &whole).expect("a journal");
    server.restart();
    assert_eq!(survivors(&mut server.connect()), KEYS, "the refusal changed nothing");
}

#[test]
fn a_journal_with_a_damaged_middle_is_refused() {
    let Some(mut server) = ours() else { return };
    write(&mut server.connect(), 0..KEYS);
    server.kill_9();
    let path = busiest(&server);
    let whole = fs::read(&path).expect("a journal");
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 0xff;
    fs::write(&path, &damaged).expect("a journal");
    assert_refused(&mut server, &["journal", "corrupt", "damaged"]);
    fs::write(&path, &whole).expect("a journal");
    server.restart();
    assert_eq!(survivors(&mut server.connect()), KEYS, "the refusal changed nothing");
}

#[test]
fn a_journal_that_is_gone_is_no_empty_start() {
    let Some(mut server) = ours() else { return };
    write(&mut server.connect(), 0..KEYS);
    server.kill_9();
    for path in segments(&server) {
        fs::remove_file(path).expect("a journal");
    }
    match server.try_restart() {
        // Everything had reached the engine, so nothing is missing.
        Ok(()) => assert_eq!(survivors(&mut server.connect()), KEYS),
        Err(said) => assert!(said.to_lowercase().contains("journal"), "{said}"),
    }
}

/// Damages one byte in the middle of the engine's largest table.
fn damage_a_block(server: &Server) {
    let tables = fs::read_dir(server.dir().join(STORE).join("engine/tables")).expect("tables");
    let paths = tables.map(|entry| entry.expect("a readable entry").path());
    let length = |path: &PathBuf| fs::metadata(path).expect("it was listed").len();
    let path = paths.max_by_key(length).expect("there is one");
    let mut bytes = fs::read(&path).expect("a table");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    fs::write(&path, bytes).expect("a table");
}

#[test]
fn keys_of_a_damaged_block_can_be_written_and_deleted() {
    let Some(mut server) = ours() else { return };
    write(&mut server.connect(), 0..KEYS);
    assert!(server.terminate().success());
    damage_a_block(&server);
    server.restart();
    let mut client = server.connect();
    let all = 0..KEYS;
    let bad: Vec<usize> = all.filter(|n| client.run(&format!("GET key:{n}")).is_error()).collect();
    assert!(bad.len() >= 4 && bad.len() < KEYS / 4, "{} keys in a block", bad.len());
    // Taken to be there; of what can be read it is known.
    let gone = format!("DEL key:{} none key:{} none:2", bad[0], bad[1]);
    assert_eq!(client.ok(&gone).integer(), Ok(2));
    client.ok(&format!("SET key:{} new", bad[2]));
    server.terminate();
    server.restart();
    let mut client = server.connect();
    for n in [bad[0], bad[1]] {
        assert!(client.ok(&format!("GET key:{n}")).is_null(), "key:{n} was deleted");
    }
    assert_eq!(client.ok(&format!("GET key:{}", bad[2])).text(), Ok(&b"new"[..]));
    for n in &bad[3..] {
        assert!(client.run(&format!("GET key:{n}")).is_error(), "key:{n} is no miss");
    }
}

/// A service that starts it again and again cannot help; an operator can.
#[test]
fn changes_of_keys_in_a_damaged_block_are_given_up_only_when_that_is_accepted() {
    let Some(mut server) = ours() else { return };
    write(&mut server.connect(), 0..KEYS);
    assert!(server.terminate().success());
    server.restart();
    let mut client = server.connect();
    (0..KEYS).for_each(|n| _ = client.ok(&format!("EXPIRE key:{n} 100000")));
    server.kill_9();
    damage_a_block(&server);
    assert_refused(&mut server, &["whose state cannot be read"]);
    assert_refused(&mut server, &["flintlock-check names"]);

    server.restart_with(&["--store-accept-loss", "yes"]);
    let mut client = server.connect();
    let mut bad = Vec::new();
    for n in 0..KEYS {
        let reply = client.run(&format!("GET key:{n}"));
        if reply.is_error() {
            bad.push(n);
        } else {
            assert_eq!(reply.text(), Ok(value(n).as_bytes()), "key:{n}");
        }
    }
    assert!(bad.len() >= 4 && bad.len() < KEYS / 4, "{} keys in a block", bad.len());
    client.ok(&format!("SET key:{} new", bad[0]));
    assert!(server.terminate().success());
    // Nothing of the journal is left to be accepted.
    server.restart();
    let mut client = server.connect();
    assert_eq!(client.ok(&format!("GET key:{}", bad[0])).text(), Ok(&b"new"[..]));
    assert!(client.run(&format!("GET key:{}", bad[1])).is_error(), "no miss");
}

/// Limits the size of any file the running server writes; what it has stays.
fn limit_file_size(server: &Server, limit: &str) {
    let pid = server.pid().to_string();
    let limit = format!("--fsize={limit}:unlimited");
    let done = Command::new("prlimit").args(["--pid", &pid, &limit]).status();
    assert!(done.expect("prlimit can be run").success(), "prlimit {limit}");
}

#[test]
fn a_full_disk_is_an_error_and_no_end() {
    let Some(mut server) = ours() else { return };
    let mut client = server.connect();
    write(&mut client, 0..KEYS);
    limit_file_size(&server, "1");
    // Some writes may still find room; before long each is refused, and none of them kills.
    let until = Instant::now() + DEADLINE;
    let mut accepted = 0;
    let refused = loop {
        assert!(Instant::now() < until, "a write that cannot be made durable is refused");
        let reply = client
            .try_command(&["SET".to_owned(), format!("late:{accepted}"), value(accepted)])
            .unwrap_or_else(|missing| panic!("late:{accepted}: {missing}"));
        if reply.is_error() {
            break reply;
        }
        accepted += 1;
    };
    assert!(refused.raw.ends_with(b"\r\n"), "{}", words::show(&refused.raw));
    server.wait_for_line("Errors writing to the store: the journal");
    for field in ["rdb_last_bgsave_status", "aof_last_write_status"] {
        assert_eq!(client.info("persistence", field), "err", "{field}");
    }
    assert_eq!(survivors(&mut client), KEYS, "reads go on");
    client.ok("PING");
    limit_file_size(&server, "unlimited");
    let until = Instant::now() + DEADLINE;
    while client.run("SET after room").is_error() {
        assert!(Instant::now() < until, "writes go on once there is room, without a restart");
        std::thread::sleep(Duration::from_millis(50));
    }
    server.wait_for_line("The store is written again");
    for field in ["rdb_last_bgsave_status", "aof_last_write_status"] {
        assert_eq!(client.info("persistence", field), "ok", "{field}");
    }
    server.kill_9();
    server.restart();
    let mut client = server.connect();
    assert_eq!(survivors(&mut client), KEYS, "nothing acknowledged was lost");
    assert_eq!(client.ok("GET after").text(), Ok(&b"room"[..]));
    for number in 0..accepted {
        let reply = client.ok(&format!("GET late:{number}"));
        assert_eq!(reply.text(), Ok(value(number).as_bytes()), "late:{number} was acknowledged");
    }
}

/// Errors take the place of replies that wait in vain for the journal, but among those of a
/// subscriber are messages: it is closed rather than told the wrong thing.
#[test]
fn a_subscriber_whose_writes_are_not_durable_is_closed() {
    let Some(server) = ours() else { return };
    let mut publisher = server.connect();
    write(&mut publisher, 0..KEYS);
    limit_file_size(&server, "1");
    let until = Instant::now() + DEADLINE;
    for number in 0.. {
        assert!(Instant::now() < until, "a write that cannot be made durable is refused");
        let mut client = server.connect();
        client.ok("HELLO 3");
        client.ok("SUBSCRIBE c");
        let set = ["SET".to_owned(), format!("late:{number}"), value(number)];
        client.send(&words::encode(&set));
        client.send(&words::encode(&["PUBLISH", "c", "text"]));
        match client.read_reply() {
            Ok(reply) if reply.is_error() => {
                // Refused beforehand: the fault was known, and nothing waited.
                panic!("{} came after all writes before it", words::show(&reply.raw));
            }
            Ok(_) => assert!(client.read_reply().expect("the message").raw.ends_with(b"text\r\n")),
            Err(why) => {
                assert!(matches!(why, Missing::Closed(_)), "{why}");
                break;
            }
        }
    }
    limit_file_size(&server, "unlimited");
    publisher.ok("PING");
    while publisher.info_number("stats", "pubsub_channels") > 0 {
        assert!(Instant::now() < until, "those before it go too");
    }
}

#[test]
fn keys_are_counted_while_the_disk_is_full() {
    let Some(mut server) = ours() else { return };
    write(&mut server.connect(), 0..10);
    assert!(server.terminate().success());
    server.restart();
    let mut client = server.connect();
    // Of this it is not known whether it is new before the engine was asked.
    client.ok("SET key:3 other");
    limit_file_size(&server, "1");
    let count = client.ok("DBSIZE").integer().expect("a number");
    assert!((10..=11).contains(&count), "{count}");
    limit_file_size(&server, "unlimited");
    let until = Instant::now() + DEADLINE;
    while client.ok("DBSIZE").integer() != Ok(10) {
        assert!(Instant::now() < until, "the count is right again when there is room");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Commands that need no memory are served on a full disk so that room can be made, but what they
/// log waits in memory: no more of it than so much.
#[test]
fn a_full_disk_bounds_what_waits_to_be_logged() {
    const LIMIT_BYTES: u64 = 4 << 20;
    if Kind::subject() == Kind::Redis {
        return;
    }
    let limit = LIMIT_BYTES.to_string();
    let server = Server::start(Kind::Flintlock, &["--maxmemory", &limit]);
    let mut client = server.connect();
    write(&mut client, 0..KEYS);
    limit_file_size(&server, "1");
    let until = Instant::now() + DEADLINE;
    while !client.run("SET k v").is_error() {
        assert!(Instant::now() < until, "the disk is full");
    }
    let expires: Vec<_> = (0..KEYS)
        .map(|n| vec!["EXPIRE".to_owned(), format!("key:{n}"), "1000".to_owned()])
        .collect();
    let mut logged = 0;
    let refused = loop {
        let replies = client.pipeline(&expires);
        let replies = replies.into_iter().map(|reply| reply.expect("a reply"));
        if let Some(refused) = replies.into_iter().find(|reply| reply.is_error()) {
            break refused;
        }
        logged += expires.len() as u64;
        assert!(logged * 10 < LIMIT_BYTES, "{logged} changes are logged in memory");
    };
    assert!(refused.raw.starts_with(b"-DISKFULL "), "{}", words::show(&refused.raw));
    let waiting = client.info_number("persistence", "aof_buffer_length");
    assert!(waiting < LIMIT_BYTES / 5, "{waiting} bytes wait");
    assert_eq!(client.ok("DEL key:1 key:2").integer(), Ok(2), "room can still be made");
    limit_file_size(&server, "unlimited");
    let until = Instant::now() + DEADLINE;
    while client.run("EXPIRE key:3 1000").is_error() {
        assert!(Instant::now() < until, "goes on once there is room");
        std::thread::sleep(Duration::from_millis(50));
    }
}
