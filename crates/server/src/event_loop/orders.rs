//! Tests: a connection has one job at a time, whatever concerns it comes in whatever order.
//!
//! The loop is turned by hand, with sockets and workers, while peers ask, read, cut requests in two
//! and hang up, and others kill them; what a job came to may wait for any number of turns. After
//! each step the flags of all clients agree with where their halves are, and in the end everybody
//! has each reply that is due, in order, or is gone.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::num::NonZeroU16;
use std::time::{Duration, Instant};

use mio::net::TcpListener;
use proptest::prelude::*;

use super::{EventLoop, now_since, poll_and_bell};
use crate::client::{ClientKey, Closing};
use crate::config::{Config, StoreKind, Threads};
use crate::keyspace::Hasher;
use crate::log::{Level, Log};
use crate::offload::Offload;
use crate::server::Server;
use crate::signals::Signals;

const PEERS: usize = 3;
const DEADLINE: Duration = Duration::from_secs(60);
/// So many of them in one turn are more than a job may write.
const LARGE: usize = 30_000;

#[derive(Clone, Debug)]
enum Step {
    /// Peer, requests, bytes of each reply, bytes of the last request that follow later.
    Ask(usize, usize, usize, usize),
    /// A peer takes what has come.
    Take(usize),
    /// The loop turns.
    Turn,
    /// Jobs get the time to end: what they came to waits for the next turn.
    Wait,
    /// Somebody else kills the client.
    Kill(usize),
    /// A peer sends no more.
    HangUp(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let peer = 0..PEERS;
    let bytes = prop_oneof![3 => Just(10_usize), 1 => Just(LARGE)];
    let cut = prop_oneof![2 => Just(0_usize), 1 => 1..20_usize];
    let ask = (peer.clone(), 1..8_usize, bytes, cut);
    let step = prop_oneof![
        8 => ask.prop_map(|(peer, count, bytes, cut)| Step::Ask(peer, count, bytes, cut)),
        3 => peer.clone().prop_map(Step::Take),
        10 => Just(Step::Turn),
        3 => Just(Step::Wait),
        1 => peer.clone().prop_map(Step::Kill),
        1 => peer.prop_map(Step::HangUp),
    ];
    prop::collection::vec(step, 1..80)
}

/// The other end of a client.
struct Peer {
    stream: TcpStream,
    key: ClientKey,
    /// What it is still to send of what it has begun.
    unsent: Vec<u8>,
    due: Vec<u8>,
    got: usize,
    killed: bool,
    hung_up: bool,
}

impl Peer {
    fn send(&mut self, bytes: &[u8]) {
        self.unsent.extend(bytes);
        // Whoever was killed cannot be written to.
        while !self.unsent.is_empty() && !self.killed {
            match self.stream.write(&self.unsent) {
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn ask(&mut self, count: usize, bytes: usize, cut: usize) {
        if self.hung_up {
            return;
        }
        let text = "x".repeat(bytes);
        let request = format!("*2\r\n$4\r\nECHO\r\n${bytes}\r\n{text}\r\n");
        let all = request.repeat(count);
        let now = all.len() - cut.min(request.len() - 1);
        self.send(&all.as_bytes()[..now]);
        self.unsent.extend(&all.as_bytes()[now..]);
        self.due.extend(format!("${bytes}\r\n{text}\r\n").repeat(count).as_bytes());
    }

    fn take(&mut self) {
        let mut room = [0; 1 << 16];
        loop {
            match self.stream.read(&mut room) {
                Ok(0) => return,
                Ok(count) => {
                    let due = self.due.get(self.got..self.got + count);
                    assert!(due == Some(&room[..count]), "a reply that is not due");
                    self.got += count;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // Reset for what it had sent.
                Err(_) if self.killed || self.hung_up => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn hang_up(&mut self) {
        self.send(&[]);
        if self.unsent.is_empty() && !self.killed && !self.hung_up {
            self.hung_up = true;
            self.stream.shutdown(Shutdown::Write).expect("connected");
        }
    }
}

struct Stage {
    event_loop: EventLoop,
    peers: Vec<Peer>,
}

impl Stage {
    fn new() -> Self {
        let mut config = Config::default();
        config.store = StoreKind::Memory;
        config.io_threads = Threads::Fixed(NonZeroU16::new(3).expect("not zero"));
        config.io_threads_always_active = true;
        let (poll, bell) = poll_and_bell().expect("a poll");
        let offload = Offload::new(&config, bell).expect("threads");
        let begun = Instant::now();
        let log = Log::new(Level::Warning, None);
        let mut server = Server::new(config, log, Hasher::new(&[7; 16]), now_since(begun), [3; 16]);
        server.offload = Some(offload);
        let any = "127.0.0.1:0".parse().expect("an address");
        let listener = TcpListener::bind(any).expect("a free port");
        let address = listener.local_addr().expect("bound");
        let signals = Signals::install().expect("handlers");
        let event_loop = EventLoop::new(poll, server, begun, vec![listener], signals);
        let mut stage = Self { event_loop: event_loop.expect("a loop"), peers: Vec::new() };
        for _ in 0..PEERS {
            stage.connect(address);
        }
        stage
    }

    fn connect(&mut self, address: SocketAddr) {
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_nonblocking(true).expect("a socket");
        let own = stream.local_addr().expect("connected").to_string();
        let until = Instant::now() + DEADLINE;
        let key = loop {
            assert!(Instant::now() < until, "accepted");
            self.turn();
            let mut clients = self.event_loop.server.clients.iter();
            if let Some((key, _)) = clients.find(|(_, client)| client.session.addr == own) {
                break key;
            }
        };
        let (unsent, due) = (Vec::new(), Vec::new());
        let (killed, hung_up) = (false, false);
        self.peers.push(Peer { stream, key, unsent, due, got: 0, killed, hung_up });
    }

    /// One turn of the loop, which does not sleep in it.
    fn turn(&mut self) {
        let own = &mut self.event_loop;
        own.before_sleep();
        let poller = own.poller.take().and_then(|poller| own.lend_poller(poller));
        let offload = own.server.offload.as_mut().expect("there are workers");
        let _ = offload.before_sleep();
        if let Some(mut poller) = poller {
            poller.look(Duration::ZERO);
            own.poller = Some(poller);
        }
        own.server.offload.as_mut().expect("there are workers").after_sleep();
        own.server.set_now(now_since(own.started));
        own.collect().expect("no error");
        own.steer_network();
        own.finish_network().expect("no error");
        own.serve_ready();
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Ask(peer, count, bytes, cut) => self.peers[peer].ask(count, bytes, cut),
            Step::Take(peer) => self.peers[peer].take(),
            Step::Turn => self.turn(),
            Step::Wait => std::thread::sleep(Duration::from_micros(200)),
            Step::HangUp(peer) => self.peers[peer].hang_up(),
            Step::Kill(peer) => {
                let peer = &mut self.peers[peer];
                peer.killed = true;
                self.event_loop.server.close_client(peer.key, Closing::Now);
            }
        }
        self.check();
    }

    /// What is noted of each client is so.
    fn check(&self) {
        let own = &self.event_loop;
        for (key, client) in own.server.clients.iter() {
            assert_eq!(client.away, client.io.is_none(), "away is who has no half here");
            let served = own.ready.iter().filter(|ready| **ready == key).count();
            assert_eq!(served, usize::from(client.in_ready), "once in the list, or not");
            let sent = own.server.writes.iter().filter(|writes| **writes == key).count();
            assert_eq!(sent, usize::from(client.in_writes), "once in the list, or not");
        }
    }

    /// Whether everybody has what is due, or is gone.
    fn is_over(&self) -> bool {
        self.peers.iter().all(|peer| {
            let there = self.event_loop.server.clients.get(peer.key).is_some();
            let served = peer.unsent.is_empty() && peer.got == peer.due.len();
            // As in Redis, what was not sent when the end of a peer is seen is dropped.
            if peer.killed || peer.hung_up { !there } else { there && served }
        })
    }

    /// Goes on until then.
    fn finish(&mut self) {
        let until = Instant::now() + DEADLINE;
        while !self.is_over() {
            if Instant::now() > until {
                let clients: Vec<_> = self.event_loop.server.clients.iter().collect();
                panic!("{clients:?}");
            }
            for peer in &mut self.peers {
                peer.send(&[]);
                peer.take();
            }
            self.turn();
            self.check();
        }
        let left = self.peers.iter().filter(|peer| !peer.killed && !peer.hung_up).count();
        assert_eq!(self.event_loop.server.clients.len(), left);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn a_connection_has_one_job_at_a_time_and_nothing_is_lost(steps in steps()) {
        let mut stage = Stage::new();
        for step in &steps {
            stage.step(step);
        }
        stage.finish();
    }
}
