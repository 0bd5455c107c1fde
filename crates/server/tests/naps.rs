//! Naps before a look: taken under a crowd of clients that wait for each reply, never with
//! `nap-max-us 0`, and never for a few clients.

#[expect(dead_code, reason = "each test binary uses its own part of the harness")]
mod common;

use std::time::{Duration, Instant};

use common::client::Client;
use common::server::{Kind, Server};

const DEADLINE: Duration = Duration::from_secs(60);
/// A quarter of them is the most that a look may find before a nap.
const CROWD: usize = 48;
/// Clients that ask at once: a look that finds more than one of them is what a nap follows on.
const AT_ONCE: usize = 4;
/// Rounds in which a crowd sees many naps.
const ROUNDS: usize = 200;

fn start(args: &[&str], clients: usize) -> (Server, Vec<Client>) {
    let server = Server::start(Kind::Flintlock, &[&["--store", "memory"], args].concat());
    let clients = (0..clients).map(|_| server.connect()).collect();
    (server, clients)
}

/// Each client asks once and waits for its reply; a few of them at a time, so that they come
/// neither alone nor all together.
fn round(clients: &mut [Client]) {
    for few in clients.chunks_mut(AT_ONCE) {
        few.iter_mut().for_each(|client| client.send(b"PING\r\n"));
        for client in few {
            let reply = client.read_reply().unwrap_or_else(|why| panic!("{why}"));
            assert_eq!(reply.raw, b"+PONG\r\n");
        }
    }
}

#[test]
fn a_crowd_lets_the_loop_nap_until_naps_are_switched_off() {
    let (_server, mut clients) = start(&["--io-threads", "1"], CROWD);
    let until = Instant::now() + DEADLINE;
    while clients[0].info_number("stats", "eventloop_naps") < 20 {
        assert!(
            Instant::now() < until,
            "{} naps within {DEADLINE:?}",
            clients[0].info_number("stats", "eventloop_naps")
        );
        round(&mut clients);
    }
    clients[0].ok("CONFIG SET nap-max-us 0");
    let before = clients[0].info_number("stats", "eventloop_naps");
    (0..ROUNDS).for_each(|_| round(&mut clients));
    assert_eq!(clients[0].info_number("stats", "eventloop_naps"), before, "switched off");
    clients[0].ok("CONFIG SET nap-max-us 100");
    while clients[0].info_number("stats", "eventloop_naps") == before {
        assert!(Instant::now() < until, "no naps after they were switched on again");
        round(&mut clients);
    }
}

#[test]
fn few_clients_that_wait_for_the_loop_are_not_kept_waiting() {
    let (_server, mut clients) = start(&["--io-threads", "1"], AT_ONCE);
    (0..ROUNDS * CROWD / AT_ONCE).for_each(|_| round(&mut clients));
    assert_eq!(clients[0].info_number("stats", "eventloop_naps"), 0);
}
