//! `maxmemory` without a disk: who goes, who stays, and what is refused, as in redis-server.
//!
//! Which key goes is chance in both servers, so each test checks what holds for every choice.

#[expect(dead_code, reason = "each test binary uses its own part of the harness")]
mod common;

use std::time::{Duration, Instant};

use common::client::Client;
use common::server::{Kind, Server};

const MEMORY_BYTES: u64 = 8 << 20;
const VALUE_BYTES: usize = 1000;
/// Twice the memory.
const KEYS: usize = 2 * MEMORY_BYTES as usize / VALUE_BYTES;

fn server(policy: &str) -> Server {
    // What redis-server takes for itself counts there.
    let theirs = ["--maxmemory", "10mb", "--save", "", "--maxmemory-policy", policy];
    let ours = ["--store", "memory", "--maxmemory", "8mb", "--maxmemory-policy", policy];
    Server::subject_or(&ours, &theirs)
}

/// Sets a key; returns whether it was refused for lack of memory.
fn set(client: &mut Client, name: &str, options: &[&str]) -> bool {
    let value = "v".repeat(VALUE_BYTES);
    let words: Vec<&str> =
        ["SET", name, &value].into_iter().chain(options.iter().copied()).collect();
    let reply = client.try_command(&words).expect("a reply");
    assert!(reply.raw == b"+OK\r\n" || reply.raw.starts_with(b"-OOM "), "{:?}", reply.raw);
    reply.raw != b"+OK\r\n"
}

fn counted(client: &mut Client, pattern: &str) -> usize {
    client.ok(&format!("KEYS {pattern}")).leaves().len()
}

#[test]
fn any_key_may_go_and_writes_go_on() {
    for policy in ["allkeys-lru", "allkeys-lfu", "allkeys-random"] {
        let server = server(policy);
        let mut client = server.connect();
        for n in 0..KEYS {
            assert!(!set(&mut client, &format!("key:{n}"), &[]), "{policy}: refused");
        }
        let evicted = client.info_number("stats", "evicted_keys");
        let left = client.ok("DBSIZE").integer().expect("a number").unsigned_abs();
        assert!(evicted > KEYS as u64 / 4, "{policy}: {evicted}");
        assert_eq!(evicted + left, KEYS as u64, "{policy}");
        let used = client.info_number("memory", "used_memory");
        assert!(used < MEMORY_BYTES * 13 / 10, "{policy}: {used}");
    }
}

#[test]
fn keys_in_use_stay() {
    let server = server("allkeys-lfu");
    let mut client = server.connect();
    set(&mut client, "hot", &[]);
    for n in 0..KEYS {
        set(&mut client, &format!("key:{n}"), &[]);
        client.ok("GET hot");
    }
    assert_eq!(client.ok("EXISTS hot").integer(), Ok(1));
}

#[test]
fn keys_without_expiry_stay_where_the_policy_says_so() {
    for policy in ["volatile-lru", "volatile-ttl", "volatile-random", "volatile-lfu"] {
        let server = server(policy);
        let mut client = server.connect();
        for n in 0..KEYS / 4 {
            assert!(!set(&mut client, &format!("kept:{n}"), &[]), "{policy}: refused");
        }
        for n in 0..KEYS {
            assert!(!set(&mut client, &format!("key:{n}"), &["EX", "1000"]), "{policy}: refused");
        }
        assert_eq!(counted(&mut client, "kept:*"), KEYS / 4, "{policy}");
        assert!(counted(&mut client, "key:*") < KEYS, "{policy}");
    }
}

#[test]
fn the_few_that_may_go_are_found_before_a_write_is_refused() {
    let server = server("volatile-lru");
    let mut client = server.connect();
    for n in 0..3 {
        set(&mut client, &format!("may-go:{n}"), &["EX", "1000"]);
    }
    let refused = (0..KEYS).find(|n| set(&mut client, &format!("kept:{n}"), &[]));
    assert!(refused.is_some(), "there is no room for all");
    assert_eq!(client.info_number("stats", "evicted_keys"), 3);
    assert_eq!(counted(&mut client, "may-go:*"), 0);
}

#[test]
fn without_victims_writes_are_refused_and_reads_are_not() {
    for (policy, options) in [("noeviction", &["EX", "1000"][..]), ("volatile-lru", &[])] {
        let server = server(policy);
        let mut client = server.connect();
        let refused = (0..KEYS).find(|n| set(&mut client, &format!("key:{n}"), options));
        assert!(refused.is_some_and(|n| n > KEYS / 4), "{policy}: {refused:?}");
        assert_eq!(client.info_number("stats", "evicted_keys"), 0, "{policy}");
        client.ok("GET key:1");
        // What frees memory is allowed, and lets writes go on.
        for n in 0..500 {
            client.ok(&format!("DEL key:{n}"));
        }
        assert!(!set(&mut client, "again", &[]), "{policy}");
        client.ok("CONFIG SET maxmemory-policy allkeys-random");
        assert!((0..KEYS).all(|n| !set(&mut client, &format!("more:{n}"), &[])), "{policy}");
    }
}

#[test]
fn an_evicted_key_breaks_the_watch_on_it() {
    let server = server("allkeys-random");
    let (mut client, mut watcher) = (server.connect(), server.connect());
    set(&mut client, "watched", &[]);
    watcher.ok("WATCH watched");
    let mut n = 0;
    while client.ok("EXISTS watched").integer() == Ok(1) {
        set(&mut client, &format!("key:{n}"), &[]);
        n += 1;
        assert!(n < 100 * KEYS, "it is never chosen");
    }
    watcher.ok("MULTI");
    watcher.ok("SET done 1");
    assert!(watcher.ok("EXEC").is_null());
}

/// Deletes join segments of the table; a flush then frees it with the places they left.
#[test]
fn a_flush_after_many_deletes_gives_all_memory_back() {
    let server = Server::subject(&["--store", "memory"]);
    let mut client = server.connect();
    let used = client.info_number("memory", "used_memory");
    let each = |client: &mut Client, name: &str, more: &[&str]| {
        let command = |n: usize| {
            let mut words = vec![name.to_owned(), format!("key:{n}")];
            words.extend(more.iter().map(|&word| word.to_owned()));
            words
        };
        let commands: Vec<_> = (0..20_000).map(command).collect();
        let replies = client.pipeline(&commands);
        assert!(replies.iter().all(Result::is_ok), "{name}");
    };
    for _ in 0..2 {
        each(&mut client, "SET", &["value"]);
        each(&mut client, "DEL", &[]);
        client.ok("SET last value");
        client.ok("FLUSHALL");
        let until = Instant::now() + Duration::from_secs(60);
        while client.info_number("memory", "used_memory") > used + 64 * 1024 {
            assert!(Instant::now() < until, "{}", client.info_number("memory", "used_memory"));
        }
    }
}

#[test]
fn a_reset_of_the_counters_forgets_evictions() {
    let on_disk = Server::subject_or(
        &["--maxmemory", "4mb", "--appendfsync", "no"],
        &["--maxmemory", "10mb", "--maxmemory-policy", "allkeys-lru"],
    );
    for server in [server("allkeys-lru"), on_disk] {
        let mut client = server.connect();
        for n in 0..KEYS {
            assert!(!set(&mut client, &format!("key:{n}"), &[]), "refused");
        }
        for n in 0..50 {
            client.ok(&format!("GET key:{n}"));
        }
        assert!(client.info_number("stats", "evicted_keys") > 0);
        let lines: [&[&str]; 2] = [&["CONFIG", "RESETSTAT"], &["INFO", "stats"]];
        let replies = client.pipeline(&lines.map(<[&str]>::to_vec));
        let stats = replies[1].as_ref().expect("a reply").text().expect("a text").to_vec();
        let stats = String::from_utf8_lossy(&stats).into_owned();
        let mut names = vec!["evicted_keys"];
        if server.kind() == Kind::Flintlock {
            names.extend(["storage_provider_read_hits", "storage_provider_read_misses"]);
        }
        for name in names {
            assert!(stats.contains(&format!("\r\n{name}:0\r\n")), "{name}: {stats}");
        }
    }
}

/// A transaction that was begun in time runs if it needs no memory; none grows meanwhile.
#[test]
fn transactions_are_refused_while_memory_is_full() {
    let server = server("noeviction");
    let (mut client, mut other) = (server.connect(), server.connect());
    client.ok("SET k v");
    let full = "-OOM command not allowed when used memory > 'maxmemory'.";
    let aborted = "-EXECABORT Transaction discarded because of: \
                   OOM command not allowed when used memory > 'maxmemory'.";
    let discarded = "-EXECABORT Transaction discarded because of previous errors.";
    let cases: &[(&[&str], &[&str], &[&str])] = &[
        (&["GET k", "DEL none"], &["EXEC"], &["*2\r\n$1\r\nv\r\n:0"]),
        (&["GET k", "SET new 1"], &["EXEC", "EXISTS new"], &[aborted, ":0"]),
        (&["SET new 1"], &["DISCARD", "EXISTS new"], &["+OK", ":0"]),
        (&["DEL k"], &["GET k", "EXEC", "GET k"], &[full, discarded, "$1\r\nv"]),
        (&[], &["WATCH k", "PING", "MULTI", "DEL k", "EXEC"], &[full, full, full, full, discarded]),
        (&[], &["SET k v", "RESET", "SET k v", "PING"], &[full, "+RESET", full, "+PONG"]),
    ];
    for (before, then, replies) in cases {
        client.ok("MULTI");
        before.iter().for_each(|line| drop(client.ok(line)));
        other.ok("CONFIG SET maxmemory 1");
        for (line, reply) in then.iter().zip(*replies) {
            let got = client.run(line);
            assert_eq!(
                String::from_utf8_lossy(&got.raw),
                format!("{reply}\r\n"),
                "{then:?} {line}"
            );
        }
        other.ok("CONFIG SET maxmemory 0");
    }
}
