//! Clients that stop reading, send one byte at a time, promise what they never send, or vanish:
//! they cost bounded memory, and nobody else notices.

#[expect(dead_code, reason = "each test binary uses its own part of the harness")]
mod common;

use std::time::{Duration, Instant};

use common::client::Client;
use common::server::{Kind, Server};
use common::words;

const MIB: u64 = 1024 * 1024;
const DEADLINE: Duration = Duration::from_secs(60);

/// redis-server bounds its replies only when it is told to.
fn server() -> Server {
    let theirs = ["--client-output-buffer-limit", "normal 64mb 32mb 5"];
    Server::subject_or(&["--store", "memory"], &theirs)
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + DEADLINE;
    while !done() {
        assert!(Instant::now() < until, "{what}: not within {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn assert_memory(server: &Server, before: u64, most: u64, what: &str) {
    let now = server.resident_bytes();
    let grown = now.saturating_sub(before);
    assert!(grown <= most, "{what}: resident memory grew by {} MiB", grown / MIB);
}

#[test]
fn a_client_that_does_not_read_is_bounded() {
    const VALUE_BYTES: usize = 1024 * 1024;
    const REQUESTS: usize = 1_000;
    let server = server();
    let mut good = server.connect();
    let value = vec![b'x'; VALUE_BYTES];
    good.try_command(&[b"SET".as_slice(), b"big", &value]).expect("a reply");
    let before = server.resident_bytes();
    // A gigabyte of replies is asked for by few bytes, and none of it is read.
    let mut deaf = server.connect();
    deaf.send(&words::encode(&["GET", "big"]).repeat(REQUESTS));
    for _ in 0..50 {
        good.ok("PING");
        assert_memory(&server, before, 200 * MIB, "replies that nobody reads");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(good.ok("STRLEN big").integer(), Ok(1024 * 1024));
    drop(deaf);
    wait_until("the deaf client is gone", || good.info_number("clients", "connected_clients") == 1);
}

#[test]
fn a_client_that_reads_late_gets_everything() {
    const VALUE_BYTES: usize = 100_000;
    const REQUESTS: usize = 200;
    let server = server();
    let mut late = server.connect();
    let value = vec![b'y'; VALUE_BYTES];
    late.try_command(&[b"SET".as_slice(), b"big", &value]).expect("a reply");
    late.send(&words::encode(&["GET", "big"]).repeat(REQUESTS));
    std::thread::sleep(Duration::from_millis(300));
    for number in 0..REQUESTS {
        let reply = late.read_reply().unwrap_or_else(|missing| panic!("reply {number}: {missing}"));
        assert_eq!(reply.text().map(<[u8]>::len), Ok(VALUE_BYTES), "reply {number}");
    }
    late.ok("PING");
}

#[test]
fn slow_bytes_disturb_nobody() {
    let server = server();
    let mut good = server.connect();
    let frame = words::encode(&["SET", "slow", "value"]);
    let mut slow: Vec<Client> = (0..20).map(|_| server.connect()).collect();
    for byte in frame.chunks(1) {
        for client in &mut slow {
            client.send(byte);
        }
        // Whoever waits for one of them is held up until this thread goes on, and it does not.
        good.ok("PING");
    }
    for client in &mut slow {
        assert_eq!(client.read_reply().expect("a reply").raw, b"+OK\r\n");
    }
}

#[test]
fn promises_of_size_reserve_nothing() {
    let server = server();
    let mut good = server.connect();
    good.ok("PING");
    let before = server.resident_bytes();
    let promises: &[&[u8]] = &[
        b"*1\r\n$536870912\r\n",
        b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870912\r\nxxxxx",
        b"*1048576\r\n",
        b"*1048576\r\n$1\r\na\r\n",
        b"*3\r\n$536870912\r\n",
    ];
    let mut open = Vec::new();
    for promise in promises.iter().cycle().take(100) {
        let mut client = server.connect();
        client.send(promise);
        open.push(client);
    }
    for _ in 0..20 {
        good.ok("PING");
        assert_memory(&server, before, 64 * MIB, "sizes that were only announced");
        std::thread::sleep(Duration::from_millis(5));
    }
    wait_until("each of them may still keep its promise", || {
        good.info_number("clients", "connected_clients") == 101
    });
    drop(open);
    wait_until("they are gone", || good.info_number("clients", "connected_clients") == 1);
    assert_eq!(good.ok("DBSIZE").integer(), Ok(0));
}

#[test]
fn clients_that_vanish_leave_nothing() {
    const ROUNDS: usize = 400;
    let server = server();
    let mut good = server.connect();
    good.ok("SET k v");
    let before = server.resident_bytes();
    let last_words: &[&[u8]] = &[
        b"",
        b"*",
        b"*2\r\n$3\r\nGET\r\n$1",
        b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n",
        b"*1\r\n$5\r\nMULTI\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nw\r\n",
        b"*2\r\n$5\r\nWATCH\r\n$1\r\nk\r\n",
        b"PING\r\nPING\r\nPING",
        b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100000\r\nhalf",
        b"*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n",
        b"*a\r\n",
        b"QUIT\r\n",
    ];
    for round in 0..ROUNDS {
        let mut client = server.connect();
        client.send(last_words[round % last_words.len()]);
        if round % 3 == 0 {
            client.finish_sending();
        }
        if round % 5 == 0 {
            good.ok("PING");
        }
    }
    wait_until("they are gone", || good.info_number("clients", "connected_clients") == 1);
    assert_eq!(good.ok("GET k").text(), Ok(&b"v"[..]), "nothing half sent took effect");
    assert_memory(&server, before, 32 * MIB, "clients that are gone");
}

/// Sends `requests`, then the end, and reads late: what comes until the server closes, too.
fn half_closed(server: &Server, requests: &[u8]) -> Vec<u8> {
    let mut client = server.connect();
    client.send(requests);
    client.finish_sending();
    let mut other = server.connect();
    // It has been served as far as its socket takes replies.
    (0..50).for_each(|_| drop(other.ok("PING")));
    let (bytes, closed) = client.read_to_close(Instant::now() + DEADLINE);
    assert!(closed, "the end is answered by the end");
    bytes
}

/// Of redis-server nothing is asked but whole replies: it closes when it reads the end, whatever
/// of its replies the socket has not taken, and loses what it had not read before.
#[test]
fn a_half_closed_client_gets_its_replies() {
    const LARGE: usize = 12 << 20;
    let kind = Kind::subject();
    let servers: &[&[&str]] = match kind {
        Kind::Flintlock => &[
            &["--store", "memory", "--io-threads", "1"],
            &["--store", "memory", "--io-threads", "3", "--io-threads-always-active", "yes"],
            &["--appendfsync", "always"],
        ],
        Kind::Redis => &[&[]],
    };
    for args in servers {
        let server = Server::start(kind, args);
        let mut other = server.connect();
        let large = vec![b'x'; LARGE];
        other.try_command(&[&b"SET"[..], b"large", &large]).expect("a reply");
        other.ok("SET small value");
        // More requests than are parsed ahead or run in one turn; more replies than may wait.
        let many = [b"GET small\r\n".repeat(5000), b"SET small value\r\n".repeat(3)].concat();
        let replies = [b"$5\r\nvalue\r\n".repeat(5000), b"+OK\r\n".repeat(3)].concat();
        let larger = [format!("${LARGE}\r\n").as_bytes(), &large, b"\r\n"].concat();
        let cases = [
            (b"PING\r\nECHO last\r\n".to_vec(), b"+PONG\r\n$4\r\nlast\r\n".to_vec()),
            (b"PING\r\nECHO half".to_vec(), b"+PONG\r\n".to_vec()),
            (many, replies),
            (b"GET large\r\n".repeat(3), larger.repeat(3)),
        ];
        for (requests, replies) in cases {
            let got = half_closed(&server, &requests);
            assert!(
                replies.starts_with(&got),
                "{args:?}: {}",
                words::show(&got[..got.len().min(80)])
            );
            if kind == Kind::Flintlock {
                assert_eq!(got.len(), replies.len(), "{args:?}: bytes that came");
            }
        }
        wait_until("they are gone", || other.info_number("clients", "connected_clients") == 1);
    }
}

#[test]
fn many_connections_come_and_go() {
    const MANY: usize = 500;
    let server = server();
    let mut good = server.connect();
    for _ in 0..3 {
        let mut crowd: Vec<Client> = (0..MANY).map(|_| server.connect()).collect();
        for client in &mut crowd {
            client.send(&words::encode(&["PING"]));
        }
        for client in &mut crowd {
            assert_eq!(client.read_reply().expect("a reply").raw, b"+PONG\r\n");
        }
        assert_eq!(good.info_number("clients", "connected_clients"), MANY as u64 + 1);
        drop(crowd);
        wait_until("the crowd is gone", || good.info_number("clients", "connected_clients") == 1);
    }
}

/// A few bytes ask for more elements than there are bytes of memory.
#[test]
fn elements_drawn_without_end_are_refused() {
    let server = Server::start(Kind::Flintlock, &["--store", "memory"]);
    let mut client = server.connect();
    client.ok("HSET h f v");
    client.ok("SADD s m");
    client.ok("ZADD z 1 m");
    let before = server.resident_bytes();
    for command in ["HRANDFIELD h", "SRANDMEMBER s", "ZRANDMEMBER z"] {
        for count in ["-9223372036854775807", "-1000000000", "-20000000"] {
            let reply = client.run(&format!("{command} {count}"));
            assert_eq!(reply.raw, b"-ERR value is out of range\r\n", "{command} {count}");
        }
        let drawn = client.ok(&format!("{command} -1000000"));
        assert_eq!(drawn.value.items().len(), 1_000_000, "{command}");
    }
    assert_memory(&server, before, 200 * MIB, "draws");
    client.ok("PING");
}
