//! What was written is there: read back from disk, after SIGTERM, after kill -9, after SHUTDOWN.

#[expect(dead_code, reason = "each test binary uses its own part of the harness")]
mod common;

use std::time::{Duration, Instant};

use common::client::{Client, REPLY_DEADLINE};
use common::dump::dump;
use common::server::{Kind, Server};
use common::words;

const PIPELINE: usize = 500;

/// A durable server: every acknowledged write survives any crash.
fn durable(more: &[&str]) -> Server {
    let ours: Vec<&str> = ["--appendfsync", "always"].iter().chain(more).copied().collect();
    Server::subject_or(&ours, &["--appendonly", "yes", "--appendfsync", "always"])
}

fn all_ok(client: &mut Client, commands: &[Vec<Vec<u8>>]) {
    for chunk in commands.chunks(PIPELINE) {
        for (command, reply) in chunk.iter().zip(client.pipeline(chunk)) {
            let reply = reply.unwrap_or_else(|missing| panic!("{missing}"));
            if reply.is_error() {
                panic!("{}: {}", words::show_all(command), words::show(&reply.raw));
            }
        }
    }
}

fn command(line: &str) -> Vec<Vec<u8>> {
    words::split(line).expect("the test's own line is well quoted")
}

/// `count` strings of 512 bytes, each different.
struct Strings {
    count: usize,
}

impl Strings {
    fn value(number: usize) -> Vec<u8> {
        format!("{number:08}").into_bytes().repeat(64)
    }

    fn write(&self, client: &mut Client) {
        for first in (0..self.count).step_by(PIPELINE) {
            let numbers = first..(first + PIPELINE).min(self.count);
            let sets: Vec<_> = numbers
                .map(|number| {
                    let key = format!("string:{number}").into_bytes();
                    vec![b"SET".to_vec(), key, Self::value(number)]
                })
                .collect();
            all_ok(client, &sets);
        }
    }

    fn check(&self, client: &mut Client, place: &str) {
        for first in (0..self.count).step_by(PIPELINE) {
            let numbers = first..(first + PIPELINE).min(self.count);
            let gets: Vec<_> =
                numbers.clone().map(|number| command(&format!("GET string:{number}"))).collect();
            for (number, reply) in numbers.zip(client.pipeline(&gets)) {
                let reply = reply.unwrap_or_else(|missing| panic!("{place}: {missing}"));
                let same = reply.text() == Ok(Self::value(number).as_slice());
                assert!(same, "{place}: string:{number}: {}", words::show(&reply.raw));
            }
        }
    }
}

/// Some of every type, in two databases, with times to live, big ones and emptied ones among them.
fn write_every_type(client: &mut Client) {
    let mut commands = Vec::new();
    for number in 0..200 {
        for line in [
            format!("RPUSH list:{number} a b c {number}"),
            format!("HSET hash:{number} f {number} g {{}} \"\" empty"),
            format!("SADD set:{number} a b {number}"),
            format!("ZADD zset:{number} 1.5 a -inf b {number} c"),
            format!("SET counter:{number} {number}"),
            format!("INCRBY counter:{number} 5"),
            format!("SET ttl:{number} v EX 100000"),
            format!("SET gone:{number} v"),
            format!("DEL gone:{number}"),
            format!("SET old:{number} v"),
            format!("RENAME old:{number} new:{number}"),
            format!("SADD emptied:{number} x"),
            format!("SREM emptied:{number} x"),
        ] {
            commands.push(command(&line));
        }
    }
    for number in 0..2_000 {
        commands.push(command(&format!("RPUSH big:list item:{number}")));
        commands.push(command(&format!("HSET big:hash field:{number} {number}")));
        commands.push(command(&format!("SADD big:set member:{number}")));
        commands.push(command(&format!("ZADD big:zset {number} member:{number}")));
    }
    commands.push(command("SET \"\\x00binary\\r\\n\" \"\\xff\\x00\""));
    commands.push(command("SET \"\" \"value of the empty key\""));
    commands.push(vec![b"SET".to_vec(), b"huge".to_vec(), vec![b'h'; 3_000_000]]);
    commands.push(command("SELECT 7"));
    commands.push(command("SET in-seven yes"));
    commands.push(command("SELECT 9"));
    commands.push(command("SET flushed yes"));
    commands.push(command("FLUSHDB"));
    commands.push(command("SELECT 0"));
    all_ok(client, &commands);
}

#[test]
fn every_type_survives_sigterm_and_kill_9() {
    let mut server = durable(&[]);
    let mut client = server.connect();
    write_every_type(&mut client);
    let want = dump(&mut client, 16);
    drop(client);
    let status = server.terminate();
    assert_eq!(status.code(), Some(0), "SIGTERM");
    server.restart();
    assert!(want == dump(&mut server.connect(), 16), "after SIGTERM");
    server.kill_9();
    server.restart();
    assert!(want == dump(&mut server.connect(), 16), "after kill -9 without a write");
    let mut client = server.connect();
    client.ok("SET last words");
    client.ok("DEL huge");
    let want = dump(&mut client, 16);
    server.kill_9();
    server.restart();
    assert!(want == dump(&mut server.connect(), 16), "after kill -9 right after a write");
}

/// Large collections of each type: what they are filled with, and a command that changes them.
const LARGE: [(&str, &str, &str); 4] = [
    ("hash", "HSET {key} field:{i} value:{i}", "HSET {key} field:7 changed more added"),
    ("list", "RPUSH {key} a:longer:element:{i}", "RPUSH {key} added"),
    ("set", "SADD {key} a:longer:member:{i}", "SREM {key} a:longer:member:7"),
    ("zset", "ZADD {key} {i} a:longer:member:{i}", "ZADD {key} -1 a:longer:member:7"),
];

fn fill(client: &mut Client, line: &str, key: &str, count: usize) {
    let line = |i: usize| line.replace("{key}", key).replace("{i}", &i.to_string());
    let commands: Vec<_> = (0..count).map(|i| command(&line(i))).collect();
    all_ok(client, &commands);
}

/// A large value is journalled by a worker that shares it; what is done to it meanwhile comes
/// after.
#[test]
fn large_collections_with_new_names_survive_kill_9() {
    let mut server = durable(&[]);
    let mut client = server.connect();
    let mut commands = Vec::new();
    for (name, add, change) in LARGE {
        fill(&mut client, add, name, 20_000);
        let change = |key: &str| command(&change.replace("{key}", key));
        // In one go, so that nothing is written in between.
        commands.extend([
            command(&format!("RENAME {name} {name}:2")),
            change(&format!("{name}:2")),
            command(&format!("COPY {name}:2 {name}:3")),
            command("MULTI"),
            change(&format!("{name}:3")),
            command(&format!("RENAME {name}:2 {name}:4")),
            command(&format!("MOVE {name}:4 1")),
            change(&format!("{name}:3")),
            command("EXEC"),
            command(&format!("COPY {name}:3 {name}:5")),
            command(&format!("DEL {name}:5")),
        ]);
    }
    commands.push(command("SORT list:3 ALPHA STORE list:6"));
    commands.push(command("LPOP list:6"));
    all_ok(&mut client, &commands);
    let want = dump(&mut client, 2);
    server.kill_9();
    server.restart();
    assert!(want == dump(&mut server.connect(), 2), "after kill -9");
}

/// The loop does not encode what a worker can.
#[cfg(target_os = "linux")]
#[test]
fn a_large_collection_takes_no_more_of_the_loop_for_a_new_name_than_a_small_one() {
    let server = Server::subject_or(&[], &[]);
    let mut client = server.connect();
    let (_, add, _) = LARGE[0];
    let sizes = [("small", 10), ("large", 200_000)];
    for (name, count) in sizes {
        fill(&mut client, add, name, count);
    }
    let mut took = [Vec::new(), Vec::new()];
    for round in 0..15 {
        for (took, (name, _)) in took.iter_mut().zip(sizes) {
            let (from, to) = if round % 2 == 0 { ("", ":2") } else { (":2", "") };
            let before = server.main_cpu_time();
            client.ok(&format!("RENAME {name}{from} {name}{to}"));
            took.push(server.main_cpu_time() - before);
        }
    }
    let [small, large] = took.map(|mut took| {
        took.sort();
        took[took.len() / 2]
    });
    assert!(large < 20 * small, "{large:?} instead of {small:?}");
}

#[test]
fn five_times_the_memory_is_written_and_read_back() {
    const MEMORY_BYTES: usize = 16 * 1024 * 1024;
    let strings = Strings { count: 5 * MEMORY_BYTES / 512 };
    let ours = ["--maxmemory", "16mb", "--appendfsync", "everysec"];
    let mut server = Server::subject_or(&ours, &["--appendonly", "yes"]);
    let mut client = server.connect();
    strings.write(&mut client);
    strings.check(&mut client, "just written");
    if server.kind() == Kind::Flintlock {
        // Most were read while the one in front was waited for, not one after the other.
        let ahead = client.info_number("store", "store_loads_ahead");
        assert!(ahead > strings.count as u64 / 2, "{ahead} of {} were read ahead", strings.count);
    }
    let count = i64::try_from(strings.count).expect("small");
    assert_eq!(client.ok("DBSIZE").integer(), Ok(count));
    if server.kind() == Kind::Flintlock {
        // The limit holds for what is accounted; the rest is the program, its stacks and slack.
        let resident = server.resident_bytes();
        let most = (MEMORY_BYTES as u64) * 5 / 4 + 64 * 1024 * 1024;
        assert!(resident <= most, "{resident} bytes are resident, {most} are allowed");
    }
    match server.kind() {
        Kind::Flintlock => client.wait_until_durable(),
        // Longer than the window of everysec.
        Kind::Redis => std::thread::sleep(Duration::from_millis(2_500)),
    }
    drop(client);
    server.kill_9();
    server.restart();
    let mut client = server.connect();
    assert_eq!(client.ok("DBSIZE").integer(), Ok(count), "after kill -9");
    strings.check(&mut client, "after kill -9");
    drop(client);
    assert_eq!(server.terminate().code(), Some(0), "SIGTERM");
    server.restart();
    strings.check(&mut server.connect(), "after SIGTERM");
}

#[test]
fn time_passes_while_the_server_is_down() {
    let mut server = durable(&[]);
    let mut client = server.connect();
    client.ok("SET short v PX 300");
    client.ok("SET long v EX 100000");
    client.ok("RPUSH list a");
    client.ok("PEXPIRE list 300");
    let expired = Instant::now() + Duration::from_millis(400);
    server.kill_9();
    while Instant::now() < expired {
        std::thread::sleep(Duration::from_millis(10));
    }
    server.restart();
    let mut client = server.connect();
    assert!(client.ok("GET short").is_null());
    assert_eq!(client.ok("LLEN list").integer(), Ok(0));
    let left = client.ok("TTL long").integer().expect("a number");
    assert!((99_000..=100_000).contains(&left), "{left}");
}

#[test]
fn shutdown_ends_without_a_reply_and_keeps_the_data() {
    for line in ["SHUTDOWN", "SHUTDOWN SAVE", "SHUTDOWN NOSAVE"] {
        let mut server = durable(&[]);
        let mut client = server.connect();
        client.ok("SET k v");
        client.send(&words::encode(&command(line)));
        let (rest, closed) = client.read_to_close(Instant::now() + REPLY_DEADLINE);
        assert!(closed && rest.is_empty(), "{line}: {}", words::show(&rest));
        assert_eq!(server.wait().code(), Some(0), "{line}");
        server.restart();
        assert_eq!(server.connect().ok("GET k").text(), Ok(&b"v"[..]), "{line}");
    }
}

#[test]
fn sigint_flushes_and_exits_with_0() {
    let mut server = durable(&[]);
    server.connect().ok("SET k v");
    server.signal("INT");
    assert_eq!(server.wait().code(), Some(0));
    server.restart();
    assert_eq!(server.connect().ok("GET k").text(), Ok(&b"v"[..]));
}

#[test]
fn a_transaction_is_there_whole_or_not_at_all() {
    const ROUNDS: usize = 5;
    let mut server = durable(&[]);
    for round in 0..ROUNDS {
        let mut client = server.connect();
        // One write of many transactions; the kill falls somewhere among them.
        let mut bytes = Vec::new();
        for number in 0..2_000 {
            let value = format!("{round}.{number}");
            bytes.extend(words::encode(&["MULTI"]));
            for key in ["left", "middle", "right"] {
                bytes.extend(words::encode(&["SET", key, &value]));
            }
            bytes.extend(words::encode(&["EXEC"]));
        }
        client.send(&bytes);
        for _ in 0..50 * (round + 1) {
            client.read_reply().expect("a reply");
        }
        server.kill_9();
        server.restart();
        let values = server.connect().ok("MGET left middle right").leaves();
        assert_eq!(values.len(), 3, "round {round}: ten transactions were acknowledged");
        assert!(values.windows(2).all(|pair| pair[0] == pair[1]), "round {round}: {values:?}");
    }
}

/// What was accepted under one limit is replayed under a lower one.
#[test]
fn a_lower_limit_does_not_keep_the_store_shut() {
    let mut server = durable(&["--proto-max-bulk-len", "1mb"]);
    let mut client = server.connect();
    client.ok("CONFIG SET proto-max-bulk-len 8mb");
    let piece = "x".repeat(900_000);
    for _ in 0..4 {
        client.ok(&format!("APPEND long {piece}"));
    }
    server.kill_9();
    server.restart();
    let mut client = server.connect();
    assert_eq!(client.ok("STRLEN long").integer(), Ok(3_600_000));
    assert!(client.run("APPEND long x").is_error(), "the lower limit holds from now on");
}
