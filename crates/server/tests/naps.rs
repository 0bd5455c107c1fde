//! Naps before a look: taken under a crowd of clients that wait for each reply, never with
//! `nap-max-us 0`, and never for a few clients.

#[expect(dead_code, reason = "each test binary uses its own part of the harness")]
mod common;

use std::time::{Duration, Instant};

use common::client::Client;
use common::server::{Kind, Server};

const DEADLINE: Duration = Duration::from_secs(60);
const CROWD: usize = 48;
const FEW: usize = 4;
/// Rounds in which a crowd sees many naps.
const ROUNDS: usize = 200;

fn start(args: &[&str], clients: usize) -> (Server, Vec<Client>) {
    let all = ["--store", "memory", "--enable-debug-command", "local"];
    let server = Server::start(Kind::Flintlock, &[&all, args].concat());
    let clients = (0..clients).map(|_| server.connect()).collect();
    (server, clients)
}

/// Each client asks once and waits for its reply; `at_once` of them at a time, so that they come
/// neither alone nor all together, which is what a nap follows on. `keeper` keeps the server from
/// looking until they have asked: however quick it is, it finds them at once.
fn round(keeper: &mut Client, clients: &mut [Client], at_once: usize) {
    for few in clients.chunks_mut(at_once) {
        keeper.send(b"DEBUG SLEEP 0.001\r\n");
        few.iter_mut().for_each(|client| client.send(b"PING\r\n"));
        for client in few {
            let reply = client.read_reply().unwrap_or_else(|why| panic!("{why}"));
            assert_eq!(reply.raw, b"+PONG\r\n");
        }
        assert_eq!(keeper.read_reply().expect("it has slept").raw, b"+OK\r\n");
    }
}

fn naps(keeper: &mut Client) -> u64 {
    keeper.info_number("stats", "eventloop_naps")
}

/// Clients come until there were more naps than `naps_before`.
fn come_until_naps(keeper: &mut Client, clients: &mut [Client], naps_before: u64) {
    let until = Instant::now() + DEADLINE;
    while naps(keeper) <= naps_before {
        assert!(Instant::now() < until, "{} naps within {DEADLINE:?}", naps(keeper));
        round(keeper, clients, 4);
    }
}

#[test]
fn a_crowd_lets_the_loop_nap_until_naps_are_switched_off() {
    let (server, mut clients) = start(&["--io-threads", "1"], CROWD);
    let keeper = &mut server.connect();
    come_until_naps(keeper, &mut clients, 20);
    keeper.ok("CONFIG SET nap-max-us 0");
    let before = naps(keeper);
    (0..ROUNDS).for_each(|_| round(keeper, &mut clients, 4));
    assert_eq!(naps(keeper), before, "switched off");
    keeper.ok("CONFIG SET nap-max-us 100");
    come_until_naps(keeper, &mut clients, before);
}

#[test]
fn few_clients_that_wait_for_the_loop_are_not_kept_waiting() {
    let (server, mut clients) = start(&["--io-threads", "1"], FEW);
    let keeper = &mut server.connect();
    (0..ROUNDS * CROWD / FEW).for_each(|_| round(keeper, &mut clients, FEW / 2));
    assert_eq!(naps(keeper), 0);
}
