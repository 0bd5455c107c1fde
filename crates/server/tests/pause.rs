//! CLIENT PAUSE: whose requests wait, for how long, what others see of them, and in which order
//! they run afterwards. All of it is what redis-server 7.0.15 does.

#[expect(dead_code, reason = "each test binary uses its own part of the harness")]
mod common;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::client::{Client, REPLY_DEADLINE};
use common::server::{Kind, Server};
use common::words;

fn servers() -> impl Iterator<Item = Server> {
    let on_disk = || Server::subject_or(&[], &["--appendonly", "yes"]);
    let in_memory = || Server::subject(&["--store", "memory"]);
    [on_disk, in_memory as fn() -> Server].into_iter().map(|start| start())
}

fn send(client: &mut Client, line: &str) {
    client.send(&words::encode(&words::split(line).expect("plain")));
}

fn wait_for_blocked(client: &mut Client, count: u64) {
    let until = Instant::now() + REPLY_DEADLINE;
    while client.info_number("clients", "blocked_clients") != count {
        assert!(Instant::now() < until, "{count} clients wait in the end");
    }
}

fn next(client: &mut Client) -> String {
    words::show(&client.read_reply().expect("a reply").raw)
}

#[test]
fn writers_wait_and_run_in_the_order_in_which_they_came() {
    for server in servers() {
        let mut admin = server.connect();
        admin.ok("RPUSH log first");
        let mut writers: Vec<Client> = (0..6).map(|_| server.connect()).collect();
        admin.ok("CLIENT PAUSE 1000000 WRITE");
        for (count, at) in [3, 0, 5, 1, 4, 2].into_iter().enumerate() {
            send(&mut writers[at], &format!("RPUSH log {at}"));
            wait_for_blocked(&mut admin, count as u64 + 1);
        }
        let list = admin.ok("CLIENT LIST");
        let text = String::from_utf8_lossy(list.text().expect("a text"));
        assert_eq!(text.matches(" flags=b ").count(), 6, "{text}");
        assert_eq!(admin.ok("LRANGE log 0 -1").leaves(), [b"first"]);
        admin.ok("CLIENT UNPAUSE");
        assert_eq!(
            [3, 0, 5, 1, 4, 2].map(|at: usize| next(&mut writers[at])).join(" "),
            (2..8)
                .map(|length| words::show(format!(":{length}\r\n").as_bytes()))
                .collect::<Vec<_>>()
                .join(" ")
        );
        wait_for_blocked(&mut admin, 0);
        let log = admin.ok("LRANGE log 0 -1").leaves();
        assert_eq!(log.concat(), b"first305142");
    }
}

/// A transaction waits as a whole, a queued write before it is queued; what reads goes on.
#[test]
fn transactions_wait_if_they_write() {
    for server in servers() {
        let (mut admin, mut reader, mut writer) =
            (server.connect(), server.connect(), server.connect());
        let mut queueing = server.connect();
        for line in ["MULTI", "GET k", "SET k 1"] {
            writer.ok(line);
        }
        admin.ok("CLIENT PAUSE 1000000 WRITE");
        send(&mut writer, "EXEC");
        wait_for_blocked(&mut admin, 1);
        for (line, want) in
            [("MULTI", "+OK"), ("GET k", "+QUEUED"), ("PING", "+QUEUED"), ("EXEC", "*2")]
        {
            assert!(reader.ok(line).raw.starts_with(want.as_bytes()), "{line}");
        }
        queueing.ok("MULTI");
        send(&mut queueing, "INCR k");
        wait_for_blocked(&mut admin, 2);
        // Errors are found before, and told at once.
        assert!(reader.run("SET k").is_error() && reader.run("NOSUCH").is_error());
        admin.ok("CLIENT UNPAUSE");
        assert_eq!(next(&mut writer), words::show(b"*2\r\n$-1\r\n+OK\r\n"));
        assert_eq!(next(&mut queueing), words::show(b"+QUEUED\r\n"));
        assert_eq!(queueing.ok("EXEC").raw, b"*1\r\n:2\r\n");
    }
}

/// With ALL everybody waits, the one that asked for it and UNPAUSE too, until the time is over.
#[test]
fn everybody_waits_for_the_time_that_was_named() {
    const PAUSE: Duration = Duration::from_millis(700);
    for server in servers() {
        let (mut admin, mut other) = (server.connect(), server.connect());
        let begun = Instant::now();
        admin.ok("CLIENT PAUSE 700");
        // Shorter and less strict: neither is taken back.
        let lines: Vec<Vec<Vec<u8>>> = ["PING", "CLIENT UNPAUSE", "SET k v", "QUIT"]
            .iter()
            .map(|line| words::split(line).expect("plain"))
            .collect();
        other.send(&words::encode(&words::split("CLIENT UNPAUSE").expect("plain")));
        let replies = admin.pipeline(&lines);
        let texts: Vec<_> = replies.into_iter().map(|r| r.expect("a reply").raw).collect();
        assert_eq!(texts, [&b"+PONG\r\n"[..], b"+OK\r\n", b"+OK\r\n", b"+OK\r\n"]);
        assert!(begun.elapsed() >= PAUSE, "after {:?}", begun.elapsed());
        assert_eq!(next(&mut other), words::show(b"+OK\r\n"));
    }
}

#[test]
fn a_pause_grows_and_does_not_shrink() {
    let server = Server::subject(&[]);
    let (mut admin, mut writer) = (server.connect(), server.connect());
    admin.ok("CLIENT PAUSE 1000000 WRITE");
    admin.ok("CLIENT PAUSE 1 WRITE");
    std::thread::sleep(Duration::from_millis(150));
    send(&mut writer, "SET k v");
    wait_for_blocked(&mut admin, 1);
    admin.ok("CLIENT UNPAUSE");
    assert_eq!(next(&mut writer), words::show(b"+OK\r\n"));
    // The end of one is not the end of the next.
    admin.ok("CLIENT PAUSE 1000000 WRITE");
    send(&mut writer, "SET k w");
    wait_for_blocked(&mut admin, 1);
    let both = ["CLIENT UNPAUSE", "CLIENT PAUSE 1000000 WRITE", "GET k"];
    let both: Vec<_> = both.iter().map(|line| words::split(line).expect("plain")).collect();
    let replies: Vec<_> =
        admin.pipeline(&both).into_iter().map(|reply| reply.expect("a reply").raw).collect();
    assert_eq!(replies[2], b"$1\r\nv\r\n");
    wait_for_blocked(&mut admin, 1);
    admin.ok("CLIENT UNPAUSE");
    assert_eq!(next(&mut writer), words::show(b"+OK\r\n"));
}

/// Keys stay as they are: none expires, none is evicted.
#[test]
fn nothing_expires_and_nothing_is_evicted_meanwhile() {
    for server in servers() {
        let mut admin = server.connect();
        // Longer if it took as long until the pause began.
        let mut life = Duration::from_millis(200);
        loop {
            let begun = Instant::now();
            for i in 0..20 {
                admin.ok(&format!("SET k{i} v PX {}", life.as_millis()));
            }
            admin.ok("CLIENT PAUSE 1000000 WRITE");
            if begun.elapsed() < life / 2 {
                break;
            }
            admin.ok("CLIENT UNPAUSE");
            admin.ok("FLUSHALL");
            admin.ok("CONFIG RESETSTAT");
            life *= 4;
        }
        std::thread::sleep(life * 2);
        assert_eq!(admin.ok("GET k1").raw, b"$-1\r\n");
        assert_eq!(admin.ok("DBSIZE").integer(), Ok(20));
        assert_eq!(admin.info_number("stats", "expired_keys"), 0);
        admin.ok("CLIENT UNPAUSE");
        let until = Instant::now() + REPLY_DEADLINE;
        while admin.info_number("stats", "expired_keys") < 20 {
            assert!(Instant::now() < until, "they expire in the end");
        }
        assert_eq!(admin.ok("DBSIZE").integer(), Ok(0));
    }
    let server = Server::subject(&["--store", "memory"]);
    let mut admin = server.connect();
    for i in 0..300 {
        admin.ok(&format!("SET k{i} {}", "x".repeat(1000)));
    }
    admin.ok("CLIENT PAUSE 1000000 WRITE");
    admin.ok("CONFIG SET maxmemory-policy allkeys-lru maxmemory 1000000");
    admin.ok("CONFIG SET maxmemory 1kb");
    admin.ok("GET k1");
    assert_eq!(admin.ok("DBSIZE").integer(), Ok(300));
    let mut writer = server.connect();
    send(&mut writer, "SET k1 v");
    wait_for_blocked(&mut admin, 1);
    admin.ok("CONFIG SET maxmemory 0");
    admin.ok("CLIENT UNPAUSE");
    assert_eq!(next(&mut writer), words::show(b"+OK\r\n"));
}

#[test]
fn who_waits_can_be_killed_and_may_leave() {
    for server in servers() {
        let mut admin = server.connect();
        let (mut killed, leaving) = (server.connect(), server.connect());
        let mut leaving = leaving;
        let id = killed.ok("CLIENT ID").integer().expect("a number");
        admin.ok("CLIENT PAUSE 1000000 WRITE");
        send(&mut killed, "SET k v");
        wait_for_blocked(&mut admin, 1);
        send(&mut leaving, "SET k v");
        wait_for_blocked(&mut admin, 2);
        admin.ok(&format!("CLIENT KILL ID {id}"));
        let (rest, closed) = killed.read_to_close(Instant::now() + REPLY_DEADLINE);
        assert!(closed && rest.is_empty());
        drop(leaving);
        wait_for_blocked(&mut admin, 0);
        admin.ok("CLIENT UNPAUSE");
        assert_eq!(admin.ok("EXISTS k").raw, b":0\r\n");
    }
}

/// A write that waited for its key to be read waits once more, for the end of the pause.
#[test]
fn a_cold_key_of_a_paused_write_is_still_there_afterwards() {
    let mut server = Server::subject_or(&[], &["--appendonly", "yes"]);
    let mut client = server.connect();
    client.ok("SET n 5");
    client.ok("RPUSH list a b");
    assert!(server.terminate().success());
    server.restart();
    let (mut admin, mut writer) = (server.connect(), server.connect());
    let lines = ["INCR n", "RPUSH list c", "GET n"];
    let bytes: Vec<u8> =
        lines.iter().flat_map(|line| words::encode(&words::split(line).expect("plain"))).collect();
    admin.ok("CLIENT PAUSE 1000000 WRITE");
    writer.send(&bytes);
    wait_for_blocked(&mut admin, 1);
    assert_eq!(admin.ok("GET n").raw, b"$1\r\n5\r\n");
    admin.ok("CLIENT UNPAUSE");
    let replies = lines.map(|_| next(&mut writer));
    assert_eq!(replies, [&b":6\r\n"[..], b":3\r\n", b"$1\r\n6\r\n"].map(words::show));
}

/// A key whose time ended during the pause stays, wherever it is; one that is on disk only is
/// deleted in the end too.
#[test]
fn a_cold_key_does_not_expire_meanwhile() {
    let unix_ms = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
    // Longer if it took the server as long to start.
    for life_ms in [1_000, 4_000, 16_000, 64_000] {
        let mut server = Server::subject_or(&[], &["--appendonly", "yes"]);
        let until = unix_ms() + life_ms;
        server.connect().ok(&format!("SET k v PXAT {until}"));
        server.connect().ok("SET other v");
        assert!(server.terminate().success());
        server.restart();
        let mut admin = server.connect();
        admin.ok("CLIENT PAUSE 1000000 WRITE");
        if unix_ms() >= until {
            continue;
        }
        std::thread::sleep(Duration::from_millis((until + 1 - unix_ms()) as u64));
        assert_eq!(admin.ok("GET k").raw, b"$-1\r\n");
        assert_eq!(admin.ok("EXISTS k").raw, b":0\r\n");
        assert_eq!(admin.ok("DBSIZE").integer(), Ok(2));
        assert_eq!(admin.info_number("stats", "expired_keys"), 0);
        admin.ok("CLIENT UNPAUSE");
        let deadline = Instant::now() + REPLY_DEADLINE;
        while admin.ok("DBSIZE").integer() != Ok(1) {
            assert!(Instant::now() < deadline, "it expires in the end");
        }
        return;
    }
    panic!("it takes the server a minute to start");
}

/// The end of the server does not wait for a pause.
#[test]
fn a_paused_server_ends() {
    if Kind::subject() == Kind::Redis {
        return;
    }
    for mut server in servers() {
        let (mut admin, mut writer) = (server.connect(), server.connect());
        admin.ok("CLIENT PAUSE 1000000 ALL");
        send(&mut writer, "SET k v");
        std::thread::sleep(Duration::from_millis(50));
        assert!(server.terminate().success());
    }
}
