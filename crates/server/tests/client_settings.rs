//! Settings that bind clients, those that are connected already too: the password, limits on what
//! they send, how long they may be idle.

#[expect(dead_code, reason = "each test binary uses its own part of the harness")]
mod common;

use std::time::{Duration, Instant};

use common::client::{Client, Missing};
use common::server::{Kind, Server, run_to_end};
use common::words;
use socket2::SockRef;

const INLINE: [&str; 4] = ["--store", "memory", "--io-threads", "1"];
const WORKERS: [&str; 6] =
    ["--store", "memory", "--io-threads", "3", "--io-threads-always-active", "yes"];
const MIB: usize = 1024 * 1024;

/// Runs `test` on our server without and with workers that parse, or on redis-server.
fn with_each(args: &[&str], test: impl Fn(&Server)) {
    for ours in [&INLINE[..], &WORKERS] {
        test(&Server::subject_or(&[ours, args].concat(), args));
    }
}

fn set(bytes: usize) -> Vec<u8> {
    let value = vec![b'x'; bytes];
    words::encode(&[b"SET".as_slice(), b"key", &value])
}

/// Whether a SET of so many bytes is refused, and the connection closed.
fn is_refused(client: &mut Client, bytes: usize) -> bool {
    client.send(&set(bytes));
    match client.read_reply() {
        Ok(reply) if reply.is_error() => matches!(client.read_reply(), Err(Missing::Closed(_))),
        Ok(_) => false,
        Err(missing) => matches!(missing, Missing::Closed(_)),
    }
}

/// Clients that never answered for themselves may send little; those that have are held to other
/// limits at once, whatever came in the same packet.
#[test]
fn what_is_sent_behind_a_password_is_held_to_no_limits_of_strangers() {
    with_each(&[], |server| {
        server.connect().ok("CONFIG SET requirepass tulip");
        let many: Vec<String> = (0..20).map(|number| format!("word{number}")).collect();
        let many = [vec!["MSET".to_owned()], many].concat();
        for greeting in ["AUTH tulip", "HELLO 3 AUTH default tulip", "HELLO 2 AUTH default tulip"] {
            let mut client = server.connect();
            let hello = words::encode(&words::split(greeting).expect("well quoted"));
            let all = [hello, words::encode(&many).repeat(100), set(20_000)].concat();
            client.send(&all);
            for number in 0..102 {
                let reply = client.read_reply();
                let reply =
                    reply.unwrap_or_else(|missing| panic!("{greeting}, {number}: {missing}"));
                assert!(!reply.is_error(), "{greeting}, {number}: {}", words::show(&reply.raw));
            }
        }
        assert!(is_refused(&mut server.connect(), 20_000), "a stranger sends little");
    });
}

/// Nobody is asked for a password that there is not any more.
#[test]
fn a_password_that_is_taken_away_is_asked_of_nobody() {
    with_each(&[], |server| {
        let mut admin = server.connect();
        admin.ok("CONFIG SET requirepass tulip");
        let mut early = server.connect();
        assert!(early.run("PING").is_error());
        admin.ok("CONFIG SET requirepass ''");
        early.ok("PING");
        assert!(!is_refused(&mut early, 20_000), "it is no stranger any more");
    });
}

/// A limit that is lowered binds those who are connected, the one that lowers it among them.
#[test]
fn limits_of_requests_bind_who_is_connected() {
    with_each(&[], |server| {
        let (mut other, mut admin) = (server.connect(), server.connect());
        assert!(!is_refused(&mut other, 2 * MIB) && !is_refused(&mut admin, 2 * MIB));
        admin.ok("CONFIG SET proto-max-bulk-len 1mb");
        assert!(is_refused(&mut other, 2 * MIB), "who was connected");
        assert!(is_refused(&mut admin, 2 * MIB), "who has set it");
    });
}

/// The kernel takes no such time, and a client that is not probed is better than none.
#[test]
fn a_keep_alive_beyond_the_kernels_locks_nobody_out() {
    with_each(&[], |server| {
        server.connect().ok("CONFIG SET tcp-keepalive 100000");
        server.connect().ok("PING");
    });
}

/// Who sends a request, or takes a reply, bit by bit for longer than `timeout` is not idle.
#[test]
fn a_slow_client_is_not_an_idle_one() {
    // A machine may stop for long without a step that takes the time of an idle client.
    const STEP: Duration = Duration::from_millis(400);
    with_each(&["--timeout", "8"], |server| {
        let (mut idle, mut sender, mut reader) =
            (server.connect(), server.connect(), server.connect());
        idle.ok("PING");
        // The system of a reader that takes what it likes hides how slow its process is.
        let socket = SockRef::from(reader.stream());
        socket.set_recv_buffer_size(MIB / 4).expect("a socket");
        reader.send(&set(32 * MIB));
        assert_eq!(reader.read_reply().expect("a reply").raw, b"+OK\r\n");
        let request = set(20);
        sender.send(&request[..1]);
        reader.send(&words::encode(&["GET", "key"]));
        let (mut sent, mut came) = (1, 0);
        for _ in 0..25 {
            std::thread::sleep(STEP);
            sender.send(&request[sent..=sent]);
            sent += 1;
            let (bytes, closed) = reader.read_at_least(MIB, Instant::now() + STEP);
            came += bytes.len();
            assert!(!closed, "the reader is closed after {came} bytes");
        }
        sender.send(&request[sent..]);
        assert_eq!(sender.read_reply().expect("the sender is still there").raw, b"+OK\r\n");
        assert!(matches!(idle.read_reply(), Err(Missing::Closed(_))), "who is idle goes");
    });
}

/// Bytes that the client counts for, as CLIENT INFO shows them.
fn memory_bytes(client: &mut Client) -> usize {
    let info = client.ok("CLIENT INFO");
    let text = String::from_utf8_lossy(info.text().expect("a text")).into_owned();
    let word = text.split(' ').find_map(|word| word.strip_prefix("tot-mem="));
    word.expect("a size").parse().expect("a number")
}

/// What a client makes the server keep counts as its own, names of keys and of libraries too.
#[test]
fn what_a_client_is_called_and_watches_is_its_memory() {
    let server = Server::start(Kind::Flintlock, &INLINE);
    let mut client = server.connect();
    let name = "n".repeat(MIB);
    let mut before = memory_bytes(&mut client);
    for line in ["CLIENT SETINFO lib-name", "CLIENT SETINFO lib-ver", "WATCH"] {
        client.ok(&format!("{line} {name}"));
        // Its input has room for so much, too, which comes and goes.
        client.ok("PING");
        let after = memory_bytes(&mut client);
        assert!(after >= before + MIB, "{line}: {before} bytes, then {after}");
        before = after;
    }
    client.ok("UNWATCH");
    assert!(memory_bytes(&mut client) < before - MIB, "what is not watched counts no more");
}

/// Each key that is watched costs what the first did.
#[test]
fn many_keys_can_be_watched() {
    const KEYS: usize = 20_000;
    let server = Server::start(Kind::Flintlock, &INLINE);
    let mut client = server.connect();
    let names: Vec<String> = (0..KEYS).map(|number| format!("key:{number}")).collect();
    let times = |client: &mut Client, command: &str| {
        let words = [vec![command.to_owned()], names.clone()].concat();
        let begun = Instant::now();
        let reply = client.try_command(&words).expect("a reply");
        assert!(!reply.is_error(), "{}", words::show(&reply.raw));
        begun.elapsed()
    };
    let looked = times(&mut client, "EXISTS").max(times(&mut client, "EXISTS"));
    // The best of some: each may have had to wait for a CPU.
    let watched = (0..5).map(|_| {
        client.ok("UNWATCH");
        times(&mut client, "WATCH")
    });
    let watched = watched.min().expect("some");
    assert!(watched < looked * 20, "WATCH took {watched:?}, where EXISTS took {looked:?}");
}

/// A second server that cannot have the port leaves the first one's file alone.
#[test]
fn the_pid_file_is_its_writers() {
    let mut server = Server::start(Kind::Flintlock, &["--store", "memory", "--pidfile", "pid"]);
    let path = server.dir().join("pid");
    let read = || std::fs::read_to_string(&path).map(|text| text.trim().to_owned());
    assert_eq!(read().expect("a pid file"), server.pid().to_string());
    let (port, dir) = (server.port().to_string(), server.dir().display().to_string());
    let args = ["--store", "memory", "--port", &port, "--dir", &dir, "--pidfile", "pid"];
    assert!(!run_to_end(&args).status.success(), "the port is in use");
    assert_eq!(read().expect("it is still there"), server.pid().to_string());
    assert!(server.terminate().success());
    assert!(read().is_err(), "it goes with its writer");
}

/// A server that cannot say its number serves all the same.
#[test]
fn a_pid_file_that_cannot_be_written_stops_nobody() {
    let args = ["--store", "memory", "--pidfile", "/nonexistent/pid"];
    Server::start(Kind::Flintlock, &args).connect().ok("PING");
}
