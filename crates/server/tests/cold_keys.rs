//! Requests whose keys are on disk only see them all the same, whatever stands around them.
//!
//! A server that was ended and started again has every key on disk and none in memory, so nothing
//! here waits for an eviction.

#[expect(dead_code, reason = "each test binary uses its own part of the harness")]
mod common;

use common::client::Client;
use common::server::Server;

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
