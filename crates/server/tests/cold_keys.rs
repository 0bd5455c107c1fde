//! Requests whose keys are on disk only see them all the same, whatever stands around them.
//!
//! A server that was ended and started again has every key on disk and none in memory, so nothing
//! here waits for an eviction.

#[expect(dead_code, reason = "each test binary uses its own part of the harness")]
mod common;

use std::time::{Duration, Instant};

use common::client::Client;
use common::server::Server;
use common::words;

/// What must happen has happened by then on any machine.
const DEADLINE: Duration = Duration::from_secs(120);

/// A server that holds what `lines` made of it, all of it on disk only.
fn cold(lines: &[&str]) -> (Server, Client) {
    let mut server = Server::subject_or(&[], &["--appendonly", "yes"]);
    let mut client = server.connect();
    for line in lines {
        client.ok(line);
    }
    assert!(server.terminate().success());
    server.restart();
    let client = server.connect();
    (server, client)
}

fn transaction(client: &mut Client, lines: &[&str]) -> String {
    client.ok("MULTI");
    for line in lines {
        client.ok(line);
    }
    String::from_utf8_lossy(&client.ok("EXEC").raw).into_owned()
}

/// The commands behind a SELECT that fails run in the database before it: their keys must be
/// looked for there, and counting and walking must not go astray.
#[test]
fn a_select_that_fails_in_a_transaction_changes_nothing() {
    let (_server, mut client) = cold(&["SET k 5", "SET other x", "SELECT 1", "SET k 7"]);
    let lines = ["SELECT 99", "INCR k", "DBSIZE", "KEYS ot*", "SELECT 1", "SELECT -1", "INCR k"];
    let refused = "-ERR DB index is out of range\r\n";
    let want = format!("*7\r\n{refused}:6\r\n:2\r\n*1\r\n$5\r\nother\r\n+OK\r\n{refused}:8\r\n");
    assert_eq!(transaction(&mut client, &lines), want);
    assert_eq!(client.ok("GET k").text(), Ok(&b"8"[..]));
}

/// Each command that walks gets a walk of its own.
#[test]
fn a_transaction_may_walk_several_times() {
    let (_server, mut client) = cold(&["SET k 5", "SET other x", "SELECT 1", "SET one 1"]);
    let lines = [
        "DBSIZE",
        "KEYS k",
        "SCAN 0 COUNT 100 MATCH o*",
        "RANDOMKEY",
        "SELECT 1",
        "RANDOMKEY",
        "DBSIZE",
        "KEYS *",
    ];
    client.ok("DEL k");
    let want = "*8\r\n:1\r\n*0\r\n*2\r\n$1\r\n0\r\n*1\r\n$5\r\nother\r\n$5\r\nother\r\n\
                +OK\r\n$3\r\none\r\n:1\r\n*1\r\n$3\r\none\r\n";
    assert_eq!(transaction(&mut client, &lines), want);
}

/// A key whose time is over is deleted when it is met, also by a command that then asks for more.
#[test]
fn a_key_that_expires_meanwhile_is_no_change() {
    let (_server, mut client) = cold(&[
        "RPUSH list 1 2",
        "SET weight_1 1",
        "SET weight_2 2",
        "SET shown_1 one",
        "SET shown_2 two",
    ]);
    client.ok("MGET list weight_2");
    client.ok("SET weight_1 3 PX 1");
    std::thread::sleep(Duration::from_millis(5));
    let sorted = client.ok("SORT list BY weight_* GET shown_*");
    assert_eq!(sorted.leaves(), [b"one", b"two"]);
}

/// A transaction that has its keys still waits for its walks when others flush the database, write
/// the keys anew and have them crowded out: it must look for them once more.
#[test]
fn keys_written_after_a_flush_are_found_by_who_waited_before_it() {
    const FILL: usize = 10_000;
    let server = Server::subject(&["--maxmemory", "2mb", "--flush-delay-ms", "1"]);
    let (mut waiting, mut other) = (server.connect(), server.connect());
    let fill = |client: &mut Client, size: usize| {
        for first in (0..FILL).step_by(500) {
            let set = |i: usize| ["SET".into(), format!("fill:{i}"), "x".repeat(size)].to_vec();
            let sets: Vec<_> = (first..first + 500).map(set).collect();
            assert!(client.pipeline(&sets).iter().all(|reply| reply.is_ok()));
        }
    };
    for _ in 0..3 {
        other.ok("SET k 100");
        fill(&mut other, 150);
        let lines = [&["MULTI", "INCR k"][..], &["KEYS none*"; 10], &["EXEC"]].concat();
        let requests: Vec<_> = lines.iter().map(|line| line.split(' ').collect()).collect();
        let bytes: Vec<u8> = requests.iter().flat_map(|r: &Vec<&str>| words::encode(r)).collect();
        waiting.send(&bytes);
        std::thread::sleep(Duration::from_millis(20));
        other.ok("FLUSHALL");
        other.ok("SET k 5");
        fill(&mut other, 300);
        let replies: Vec<_> = lines.iter().map(|_| waiting.read_reply()).collect();
        let exec = replies.last().expect("as many as requests").as_ref().expect("a reply");
        let sum = exec.leaves()[0].clone();
        // Before the flush, or after what was written behind it.
        let k = other.ok("GET k").text().map(<[u8]>::to_vec);
        let pair = (sum.as_slice(), k.as_deref());
        assert!(matches!(pair, (b"101" | b"1", Ok(b"5")) | (b"6", Ok(b"6"))), "{pair:?}");
    }
}

/// A limit that is set while the server runs holds for the engine's cache too. It kept what it had
/// got, and below that much there was room for one read at a time.
#[test]
fn a_lower_limit_lowers_what_the_engine_caches() {
    const KEYS: usize = 8_000;
    let mut server = Server::subject(&[]);
    let mut client = server.connect();
    let sets: Vec<_> =
        (0..KEYS).map(|i| ["SET".into(), format!("k{i}"), "x".repeat(500)].to_vec()).collect();
    for reply in client.pipeline(&sets) {
        assert_eq!(reply.expect("a reply").raw, b"+OK\r\n");
    }
    assert!(server.terminate().success());
    server.restart();
    let mut client = server.connect();
    let gets: Vec<_> = (0..KEYS).map(|i| ["GET".into(), format!("k{i}")].to_vec()).collect();
    let cached_after_reading = |client: &mut Client| {
        for reply in client.pipeline(&gets) {
            assert_eq!(reply.expect("a reply").text().map(<[u8]>::len), Ok(500));
        }
        client.info_number("memory", "mem_engine")
    };
    let before = cached_after_reading(&mut client);
    assert!(before > 2 << 20, "{before} bytes");
    client.ok("CONFIG SET maxmemory 2mb");
    let until = Instant::now() + DEADLINE;
    while cached_after_reading(&mut client) > 1 << 19 {
        assert!(
            Instant::now() < until,
            "the engine holds {}",
            client.info_number("memory", "mem_engine")
        );
    }
    client.ok("CONFIG SET store-cache-size 64kb");
    while cached_after_reading(&mut client) > 1 << 17 {
        assert!(
            Instant::now() < until,
            "the engine holds {}",
            client.info_number("memory", "mem_engine")
        );
    }
}

/// Nobody asks for them again, so that no read finds out; merges do.
#[test]
fn keys_that_expire_on_disk_are_deleted_there() {
    const EXPIRING: usize = 12_000;
    const STAYING: usize = 1_000;
    let server = Server::subject(&["--maxmemory", "4mb", "--databases", "1"]);
    let mut client = server.connect();
    let value = "v".repeat(1_000);
    let set = |client: &mut Client, keys: std::ops::Range<usize>, options: &[&str]| {
        for n in keys {
            let name = format!("{}:{n}", options.len());
            let words: Vec<&str> =
                ["SET", &name, &value].into_iter().chain(options.iter().copied()).collect();
            assert_eq!(client.try_command(&words).expect("a reply").raw, b"+OK\r\n");
        }
    };
    set(&mut client, 0..EXPIRING, &["PX", "2000"]);
    let until = Instant::now() + DEADLINE;
    let mut left = usize::MAX;
    while left > STAYING + EXPIRING / 10 {
        assert!(Instant::now() < until, "{left} keys are left");
        set(&mut client, 0..STAYING, &[]);
        left = usize::try_from(client.ok("DBSIZE").integer().expect("a number")).expect("a count");
    }
    for n in [0, STAYING - 1] {
        assert_eq!(client.ok(&format!("STRLEN 0:{n}")).integer(), Ok(1_000));
    }
}

/// DEBUG declares no keys, and sees one that is on disk only all the same.
#[test]
fn debug_object_waits_for_its_key() {
    let (_server, mut client) = cold(&["SET k value"]);
    client.ok("DEBUG OBJECT k");
    assert_eq!(client.run("DEBUG OBJECT none").raw, b"-ERR no such key\r\n");
}

/// Each is the first request for its keys.
#[test]
fn the_first_request_for_a_key_finds_it() {
    let (_server, mut client) = cold(&[
        "MSET bit abc count abc pos abc one abc two abd field abc read abc a ohmytext b mynewtext",
        "MSET encoding abc refcount 77 range abc old abc",
        "RPUSH list 1 2 3",
        "ZADD zset 1 one 2 two",
    ]);
    for (request, reply) in [
        ("SETBIT bit 6 1", ":0"),
        ("BITCOUNT count", ":10"),
        ("BITPOS pos 1", ":1"),
        ("BITOP XOR old one two", ":3"),
        ("BITFIELD field INCRBY u8 0 1", "*1 :98"),
        ("BITFIELD_RO read GET u8 0", "*1 :97"),
        ("LCS a b LEN", ":6"),
        ("LMPOP 2 none list RIGHT COUNT 2", "*2 $4 list *2 $1 3 $1 2"),
        ("ZMPOP 2 none zset MIN", "*2 $4 zset *1 *2 $3 one $1 1"),
        ("OBJECT ENCODING encoding", "$6 embstr"),
        ("OBJECT REFCOUNT refcount", ":2147483647"),
        ("SETRANGE range 1 x", ":3"),
        ("MGET bit field range", "*3 $3 cbc $3 bbc $3 axc"),
        ("GET old", "$3 \0\0\u{7}"),
        ("LRANGE list 0 -1", "*1 $1 1"),
    ] {
        let got = client.ok(request).raw;
        let got = String::from_utf8_lossy(&got).trim_end().replace("\r\n", " ");
        assert_eq!(got, reply, "{request}");
    }
}
