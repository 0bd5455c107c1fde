//! SHUTDOWN, SIGTERM and what comes in between: an end that cannot save is no end, and one that is
//! pending can be taken back.

#[expect(dead_code, reason = "each test binary uses its own part of the harness")]
mod common;

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use common::client::Client;
use common::server::{Kind, Server};
use common::words;

const DEADLINE: Duration = Duration::from_secs(60);
const FAILED: &[u8] = b"-ERR Errors trying to SHUTDOWN. Check logs.\r\n";
/// One network worker, which is none: requests that are ready together run in one turn, in order.
const IN_ORDER: [&str; 2] = ["--io-threads", "1"];

/// A server of ours; these tests are about what redis-server does not have.
fn ours(args: &[&str]) -> Option<Server> {
    let all = [&["--enable-debug-command", "yes"], args].concat();
    (Kind::subject() == Kind::Flintlock).then(|| Server::start(Kind::Flintlock, &all))
}

/// Limits the size of any file the running server writes; what it has stays.
fn limit_file_size(server: &Server, limit: &str) {
    let pid = server.pid().to_string();
    let limit = format!("--fsize={limit}:unlimited");
    let done = Command::new("prlimit").args(["--pid", &pid, &limit]).status();
    assert!(done.expect("prlimit can be run").success(), "prlimit {limit}");
}

fn send(client: &mut Client, line: &str) {
    client.send(&words::encode(&words::split(line).expect("well quoted")));
}

/// Sends each line on its connection while the server is stopped, so that one turn runs all of
/// them, in the order in which they became readable.
fn in_one_turn(server: &Server, lines: &mut [(&mut Client, &str)]) {
    server.signal("STOP");
    let until = Instant::now() + DEADLINE;
    let is_stopped = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", server.pid())).expect("it is there");
        stat.rsplit(") ").next().is_some_and(|fields| fields.starts_with('T'))
    };
    while !is_stopped() {
        assert!(Instant::now() < until, "it does not stop");
    }
    lines.iter_mut().for_each(|(client, line)| send(client, line));
    server.signal("CONT");
}

/// A server whose journal cannot be written, with a change in it that is not durable.
fn failing() -> Option<Server> {
    let server = ours(&["--appendfsync", "everysec"])?;
    let mut client = server.connect();
    client.ok("SET durable yes");
    client.wait_until_durable();
    limit_file_size(&server, "1");
    client.ok("SET late yes");
    Some(server)
}

#[test]
fn an_end_that_cannot_save_is_refused_and_the_server_goes_on() {
    let Some(mut server) = failing() else { return };
    for line in ["SHUTDOWN", "SHUTDOWN SAVE", "SHUTDOWN NOW", "shutdown save now"] {
        // One attempt is enough: the time for it is an hour.
        assert_eq!(server.connect().run(line).raw, FAILED, "{line}");
        assert_eq!(server.connect().ok("GET late").text(), Ok(&b"yes"[..]), "{line}");
    }
    server.wait_for_line("Errors trying to shut down the server");
    for signal in ["TERM", "INT", "INT"] {
        server.signal(signal);
        server.wait_for_line(&format!("Received SIG{signal}"));
        server.wait_for_line("the journal");
        server.wait_for_line("Errors trying to shut down the server");
        server.connect().ok("PING");
    }
    // With room, the same server ends as it should, and nothing was lost.
    limit_file_size(&server, "unlimited");
    send(&mut server.connect(), "SHUTDOWN");
    assert_eq!(server.wait().code(), Some(0));
    server.restart();
    assert_eq!(server.connect().ok("MGET durable late").leaves().len(), 2);
    assert_eq!(server.connect().ok("GET late").text(), Ok(&b"yes"[..]));
}

#[test]
fn force_and_nosave_end_in_spite_of_errors() {
    for line in ["SHUTDOWN FORCE", "SHUTDOWN NOSAVE", "SHUTDOWN NOW FORCE SAVE"] {
        let Some(mut server) = failing() else { return };
        let mut client = server.connect();
        send(&mut client, line);
        server.wait_for_line("Exit anyway");
        let (rest, closed) = client.read_to_close(Instant::now() + DEADLINE);
        assert!(closed && rest.is_empty(), "{line}: {}", words::show(&rest));
        assert_eq!(server.wait().code(), Some(0), "{line}");
        server.restart();
        assert_eq!(server.connect().ok("GET durable").text(), Ok(&b"yes"[..]), "{line}");
    }
}

/// SIGTERM ends a server that cannot save when it is told to; SIGINT still asks in vain.
#[test]
fn a_signal_ends_the_server_as_its_directive_says() {
    for words in ["force now", "nosave"] {
        let Some(mut server) = failing() else { return };
        server.connect().ok(&format!("CONFIG SET shutdown-on-sigterm \"{words}\""));
        server.signal("INT");
        server.wait_for_line("Errors trying to shut down the server");
        server.signal("TERM");
        server.wait_for_line("Exit anyway");
        assert_eq!(server.wait().code(), Some(0));
        server.restart();
        assert_eq!(server.connect().ok("GET durable").text(), Ok(&b"yes"[..]));
    }
}

/// redis-server whose folder is gone says the same.
#[test]
fn the_refusal_is_in_the_words_of_redis() {
    let server = Server::oracle(&["--save", "100 100"]);
    fs::remove_dir_all(server.dir()).expect("its folder can be removed");
    for line in ["SHUTDOWN", "SHUTDOWN SAVE", "SHUTDOWN NOW"] {
        assert_eq!(server.connect().run(line).raw, FAILED, "{line}");
    }
    server.wait_for_line("Errors trying to shut down the server");
}

#[test]
fn an_end_that_is_taken_back_leaves_nothing_behind() {
    let Some(mut server) = ours(&IN_ORDER) else { return };
    server.connect().ok("SET k before");
    let [mut first, mut second, mut reader, mut writer, mut transaction, mut aborter] =
        std::array::from_fn(|_| server.connect());
    for line in ["MULTI", "GET k", "SET k transaction"] {
        transaction.ok(line);
    }
    let lines = &mut [
        (&mut first, "SHUTDOWN"),
        (&mut second, "SHUTDOWN NOW FORCE"),
        (&mut reader, "GET k"),
        (&mut writer, "SET k after"),
        (&mut transaction, "EXEC"),
        (&mut aborter, "SHUTDOWN ABORT"),
    ];
    in_one_turn(&server, lines);
    let next = |client: &mut Client| client.read_reply().expect("a reply").raw;
    assert_eq!(next(&mut reader), b"$6\r\nbefore\r\n", "reads are served meanwhile");
    assert_eq!(next(&mut aborter), b"+OK\r\n");
    assert_eq!(next(&mut first), FAILED);
    assert_eq!(next(&mut second), FAILED);
    assert_eq!(next(&mut writer), b"+OK\r\n", "writes wait, and go on");
    let exec = next(&mut transaction);
    assert!(exec.starts_with(b"*2\r\n") && exec.ends_with(b"+OK\r\n"), "{}", words::show(&exec));
    server.wait_for_line("Shutdown manually aborted.");
    let none = b"-ERR No shutdown in progress.\r\n";
    assert_eq!(server.connect().run("SHUTDOWN ABORT").raw, none);
    assert!(!text(&server.connect().ok("INFO server").raw).contains("shutdown_in"));
    // The same connection may ask again, and is heard.
    send(&mut first, "SHUTDOWN");
    assert_eq!(server.wait().code(), Some(0));
    server.restart();
    assert_ne!(server.connect().ok("GET k").text(), Ok(&b"before"[..]));
}

/// An abort and the next SHUTDOWN in one turn: the second is not called off with the first.
#[test]
fn an_end_asked_for_after_an_abort_is_another_one() {
    let Some(mut server) = ours(&IN_ORDER) else { return };
    server.connect().ok("SET k v");
    let [mut first, mut aborter, mut second] = std::array::from_fn(|_| server.connect());
    let lines = &mut [
        (&mut first, "SHUTDOWN"),
        (&mut aborter, "SHUTDOWN ABORT"),
        (&mut second, "SHUTDOWN"),
    ];
    in_one_turn(&server, lines);
    assert_eq!(first.read_reply().expect("its end was called off").raw, FAILED);
    let (rest, closed) = second.read_to_close(Instant::now() + DEADLINE);
    assert!(closed && rest.is_empty(), "{}", words::show(&rest));
    assert_eq!(server.wait().code(), Some(0));
}

/// Waits until the store is being flushed; `false` if the server was quicker and is gone.
fn has_begun_to_end(client: &mut Client) -> bool {
    let until = Instant::now() + DEADLINE;
    while Instant::now() < until {
        let Ok(info) = client.try_command(&["INFO", "server"]) else { return false };
        if text(&info.raw).contains("shutdown_in_milliseconds:") {
            return true;
        }
    }
    panic!("SHUTDOWN was not heard");
}

fn text(raw: &[u8]) -> String {
    String::from_utf8_lossy(raw).into_owned()
}

/// A flush that takes a while: everybody is served until the process exits.
#[test]
fn clients_are_served_while_the_flush_runs() {
    let mut keys = 20_000;
    // How long the flush takes is the machine's business; more keys take longer.
    for _ in 0..5 {
        let Some(server) = ours(&["--flush-delay-ms", "3600000"]) else { return };
        let mut client = server.connect();
        let value = vec![b'v'; 1_000];
        let sets: Vec<Vec<Vec<u8>>> = (0..keys)
            .map(|n| vec![b"SET".to_vec(), format!("key:{n}").into_bytes(), value.clone()])
            .collect();
        for chunk in sets.chunks(500) {
            assert!(client.pipeline(chunk).iter().all(Result::is_ok));
        }
        let (mut ender, mut writer) = (server.connect(), server.connect());
        send(&mut ender, "SHUTDOWN SAVE");
        let is_pending = has_begun_to_end(&mut client);
        send(&mut writer, "SET new value");
        if !is_pending || client.try_command(&["SHUTDOWN", "ABORT"]).is_err() {
            keys *= 2;
            continue;
        }
        assert_eq!(ender.read_reply().expect("called off").raw, FAILED);
        assert_eq!(writer.read_reply().expect("it waited").raw, b"+OK\r\n");
        assert_eq!(client.ok("GET new").text(), Ok(&b"value"[..]));
        return;
    }
    panic!("{keys} keys were saved before the next request was read");
}
