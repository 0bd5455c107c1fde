//! `client-output-buffer-limit`: who is closed for the replies it does not read, and who is not.

#[expect(dead_code, reason = "each test binary uses its own part of the harness")]
mod common;

use std::time::{Duration, Instant};

use common::client::Client;
use common::server::Server;
use common::words;

const MIB: usize = 1024 * 1024;
const INLINE: [&str; 4] = ["--store", "memory", "--io-threads", "1"];
const WORKERS: [&str; 6] =
    ["--store", "memory", "--io-threads", "3", "--io-threads-always-active", "yes"];
const DEADLINE: Duration = Duration::from_secs(30);

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

#[test]
fn who_does_not_read_goes_when_the_soft_limit_was_exceeded_for_its_time() {
    with_each("normal 0 256kb 2", |server| {
        let mut other = server.connect();
        // More than what the system takes for a client that does not read.
        set(&mut other, "value", 24 * MIB);
        let mut deaf = server.connect();
        let begin = Instant::now();
        deaf.send(&words::encode(&["GET", "value"]));
        let listed = |client: &mut Client| {
            let list = client.ok("CLIENT LIST");
            String::from_utf8_lossy(list.text().expect("a text")).lines().count()
        };
        while listed(&mut other) == 2 {
            assert!(begin.elapsed() < DEADLINE, "it is still there");
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(begin.elapsed() >= Duration::from_secs(2), "it had its time");
        let (is_closed, bytes) = closed(&mut deaf, DEADLINE);
        assert!(is_closed && bytes < 24 * MIB, "{is_closed}, {bytes} bytes came");
        other.ok("PING");
    });
}
