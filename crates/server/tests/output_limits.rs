//! `client-output-buffer-limit`: who is closed for the replies it does not read, and who is not.

#[expect(dead_code, reason = "each test binary uses its own part of the harness")]
mod common;

use std::time::{Duration, Instant};

use common::client::Client;
use common::server::{Kind, Server};
use common::words;

const MIB: usize = 1024 * 1024;
const INLINE: [&str; 4] = ["--store", "memory", "--io-threads", "1"];
const WORKERS: [&str; 6] =
    ["--store", "memory", "--io-threads", "3", "--io-threads-always-active", "yes"];
const DEADLINE: Duration = Duration::from_secs(60);

/// Runs `test` on our server without and with workers that have the halves of clients, or on
/// redis-server.
fn with_each(limit: &str, test: impl Fn(&Server)) {
    let limit = ["--client-output-buffer-limit", limit];
    for ours in [&INLINE[..], &WORKERS] {
        test(&Server::subject_or(&[ours, &limit].concat(), &limit));
    }
}

fn set(client: &mut Client, key: &str, bytes: usize) {
    let value = vec![b'x'; bytes];
    client.try_command(&[b"SET", key.as_bytes(), &value]).expect("a reply");
}

fn listed(client: &mut Client) -> usize {
    let list = client.ok("CLIENT LIST");
    String::from_utf8_lossy(list.text().expect("a text")).lines().count()
}

/// A client that asks for more than the system takes for one that does not read, and does not.
fn deaf(server: &Server, other: &mut Client) -> Client {
    set(other, "value", 24 * MIB);
    let mut deaf = server.connect();
    deaf.ok("PING");
    deaf.send(&words::encode(&["GET", "value"]));
    deaf
}

/// Waits until the server has closed `deaf`.
fn until_gone(mut deaf: Client, other: &mut Client) {
    let begin = Instant::now();
    while listed(other) == 2 {
        assert!(begin.elapsed() < DEADLINE, "it is still there");
        std::thread::sleep(Duration::from_millis(10));
    }
    let (is_closed, bytes) = closed(&mut deaf, DEADLINE);
    assert!(is_closed && bytes < 24 * MIB, "{is_closed}, {bytes} bytes came");
}

/// Whether `client` is closed, and how many bytes came before that.
fn closed(client: &mut Client, within: Duration) -> (bool, usize) {
    let (bytes, is_closed) = client.read_to_close(Instant::now() + within);
    (is_closed, bytes.len())
}

#[test]
fn a_reply_over_the_hard_limit_ends_the_connection_and_no_other() {
    with_each("normal 3mb 0 0", |server| {
        let mut other = server.connect();
        set(&mut other, "small", MIB);
        set(&mut other, "large", 4 * MIB);
        let mut client = server.connect();
        assert!(client.run("GET small").text().is_ok_and(|text| text.len() == MIB));
        client.send(&words::encode(&["GET", "large"]));
        let (is_closed, bytes) = closed(&mut client, DEADLINE);
        assert!(is_closed && bytes < 4 * MIB, "{is_closed}, {bytes} bytes came");
        other.ok("PING");
        // Of one transaction, the replies together.
        let mut client = server.connect();
        client.ok("MULTI");
        for _ in 0..4 {
            client.run("GET small");
        }
        client.send(&words::encode(&["EXEC"]));
        assert!(closed(&mut client, DEADLINE).0, "four megabytes of replies");
        // From now on there is no limit.
        other.ok("CONFIG SET client-output-buffer-limit 'normal 0 0 0'");
        let mut client = server.connect();
        assert!(client.run("GET large").text().is_ok_and(|text| text.len() == 4 * MIB));
        other.ok("CONFIG SET client-output-buffer-limit 'normal 1 0 0'");
        assert!(client.run("PING").text().is_ok(), "small replies are never too many");
    });
}

/// Of a reply that nobody will get no more is made than the limit.
#[test]
fn a_reply_over_a_limit_is_not_built() {
    let limits =
        [("client-output-buffer-limit", "\"normal 3mb 0 0\""), ("maxmemory-clients", "3mb")];
    for (directive, limit) in limits {
        // redis-server evicts a client only when its reply is whole.
        if directive == "maxmemory-clients" && Kind::subject() == Kind::Redis {
            continue;
        }
        with_each("normal 0 0 0", |server| {
            let mut other = server.connect();
            let element = vec![b'x'; 4 << 10];
            let push = [&[&b"RPUSH"[..], b"list"][..], &vec![&element[..]; 500]].concat();
            other.try_command(&push).expect("a reply");
            other.ok(&format!("CONFIG SET {directive} {limit}"));
            other.ok("CLIENT NO-EVICT on");
            let mut client = server.connect();
            assert_eq!(client.run("LRANGE list 0 -1").value.items().len(), 500, "2 MiB");
            let before = server.peak_bytes();
            client.ok("MULTI");
            client.ok("SET first 1");
            (0..100).for_each(|_| drop(client.ok("LRANGE list 0 -1")));
            client.ok("SET last 1");
            client.send(&words::encode(&["EXEC"]));
            let (is_closed, _) = closed(&mut client, DEADLINE);
            assert!(is_closed, "200 MiB are too much");
            let grown = server.peak_bytes().saturating_sub(before) as usize / MIB;
            assert!(grown < 40, "{directive}: the reply took {grown} MiB");
            assert_eq!(other.ok("EXISTS first last").raw, b":2\r\n", "it ran whole");
        });
    }
}

#[test]
fn who_does_not_read_goes_when_the_soft_limit_was_exceeded_for_its_time() {
    with_each("normal 0 256kb 2", |server| {
        let mut other = server.connect();
        let begin = Instant::now();
        let deaf = deaf(server, &mut other);
        until_gone(deaf, &mut other);
        assert!(begin.elapsed() >= Duration::from_secs(2), "it had its time");
        other.ok("PING");
    });
}

#[test]
fn a_hard_limit_that_is_set_later_is_for_what_waits_already() {
    with_each("normal 0 0 0", |server| {
        let mut other = server.connect();
        let deaf = deaf(server, &mut other);
        other.ok("CONFIG SET client-output-buffer-limit 'normal 1mb 0 0'");
        until_gone(deaf, &mut other);
    });
}

#[test]
fn who_reads_large_replies_all_the_time_stays() {
    // redis-server goes by the last moment at which a reply was added, and closes such a client.
    for ours in [&INLINE[..], &WORKERS] {
        let limit = ["--client-output-buffer-limit", "normal 0 256kb 3"];
        let server = Server::start(Kind::Flintlock, &[ours, &limit].concat());
        let mut client = server.connect();
        set(&mut client, "value", 2 * MIB);
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(8) {
            assert!(client.run("GET value").text().is_ok_and(|text| text.len() == 2 * MIB));
        }
    }
}

/// Until a change is durable the server itself keeps its reply back, and all behind it.
#[test]
fn replies_that_wait_for_the_journal_are_not_the_clients_fault() {
    let limit = ["--client-output-buffer-limit", "normal 64kb 0 0"];
    for ours in [&INLINE[2..], &WORKERS[2..]] {
        let durable = ["--appendfsync", "always"];
        let server = Server::start(Kind::Flintlock, &[ours, &durable, &limit].concat());
        let mut client = server.connect();
        set(&mut client, "value", 8 << 10);
        let mut requests = words::encode(&["SET", "key", "value"]);
        requests.extend(words::encode(&["GET", "value"]).repeat(20));
        for _ in 0..20 {
            client.send(&requests);
            for _ in 0..21 {
                client.read_reply().expect("it is not closed");
            }
        }
    }
}
