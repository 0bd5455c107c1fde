//! The pool in an event loop of mio, whose readiness is edge-triggered.
#![cfg(not(loom))]

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream as Client;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use flintlock_iothreads::{
    Arrival, Bell, Berth, Context, Direction, Handler, Options, Outcome, Panic, Pool,
};
use flintlock_queues::Compact;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use support::{DEADLINE, Gate};

const WAKER: Token = Token(0);
const SOCKET: Token = Token(1);

/// The half of a connection that travels.
struct Half {
    stream: TcpStream,
    got: Vec<u8>,
}

enum Job {
    /// Read what is there, then stand at the gate if there is one.
    Read(Half, Option<Arc<Gate>>),
    /// Poll for at most the given time.
    Poll(Box<(Poll, Events)>, Duration),
}

enum Answer {
    Read(Half),
    Polled(Box<(Poll, Events)>),
}

struct Io;

impl Handler for Io {
    type Job = Job;
    type Answer = Answer;
    type Layout = Compact;
    type Owner = ();
    type Local = ();

    fn local(&self, _worker: usize) {}

    fn owner(&self, _job: &Job) {}

    fn run(&self, job: Job, _context: &mut Context<'_, ()>) -> Outcome<Job, Answer> {
        match job {
            Job::Read(mut half, gate) => {
                let mut buffer = [0; 64];
                match half.stream.read(&mut buffer) {
                    // Shorter than the buffer: the socket is drained, and the next edge will tell.
                    Ok(count) => half.got.extend(&buffer[..count]),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                }
                if let Some(gate) = gate {
                    gate.stand();
                }
                Outcome::Done(Answer::Read(half))
            }
            Job::Poll(mut poller, limit) => {
                let (poll, events) = &mut *poller;
                poll.poll(events, Some(limit)).expect("epoll works");
                Outcome::Done(Answer::Polled(poller))
            }
        }
    }

    fn panicked(&self, (): (), panic: &Panic) -> Option<Answer> {
        panic!("{:?}", panic.message());
    }
}

/// A loop with one connection from `client`.
struct Loop {
    poller: Box<(Poll, Events)>,
    bell: Arc<Bell>,
    pool: Pool<Io>,
    berth: Berth<Half>,
    client: Client,
}

impl Loop {
    fn new() -> Self {
        let poll = Poll::new().expect("epoll works");
        let waker = Waker::new(poll.registry(), WAKER).expect("epoll works");
        let bell = Bell::new(move || waker.wake().expect("the poller can be woken"));
        let pool = Pool::new(Io, Arc::clone(&bell), Options::blocking(2)).expect("threads");
        let address = "127.0.0.1:0".parse().expect("an address");
        let listener = TcpListener::bind(address).expect("a free port");
        let client = Client::connect(listener.local_addr().expect("bound")).expect("listening");
        client.set_nodelay(true).expect("a socket");
        let mut stream = loop {
            match listener.accept() {
                Ok((stream, _)) => break stream,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        };
        poll.registry().register(&mut stream, SOCKET, Interest::READABLE).expect("epoll works");
        let berth = Berth::new(Half { stream, got: Vec::new() });
        let poller = Box::new((poll, Events::with_capacity(64)));
        Self { poller, bell, pool, berth, client }
    }

    fn latch(poller: &(Poll, Events), berth: &mut Berth<Half>) {
        for event in &poller.1 {
            if event.token() == SOCKET {
                berth.want(Direction::Read);
            }
        }
    }

    /// Sleeps until something happens, unless answers are there.
    fn sleep(&mut self) {
        if self.pool.before_sleep() {
            let (poll, events) = &mut *self.poller;
            poll.poll(events, Some(DEADLINE)).expect("epoll works");
            Self::latch(&self.poller, &mut self.berth);
            self.poller.1.clear();
        }
        self.pool.after_sleep();
    }

    fn submit(&mut self, gate: Option<Arc<Gate>>) {
        if let Some((_, half)) = self.berth.depart() {
            assert!(self.pool.submit(Job::Read(half, gate)).is_ok());
        }
    }

    fn drain(&mut self) -> Option<Box<(Poll, Events)>> {
        let mut polled = None;
        let berth = &mut self.berth;
        self.pool.drain(16, |answer| match answer {
            Answer::Read(half) => assert!(matches!(berth.arrive(half), Arrival::Home)),
            Answer::Polled(poller) => polled = Some(poller),
        });
        polled
    }

    fn got(&self) -> Option<&[u8]> {
        self.berth.half().map(|half| &half.got[..])
    }
}

#[test]
fn readiness_declined_while_a_job_is_in_flight_is_replayed() {
    let mut server = Loop::new();
    server.client.write_all(b"1").expect("connected");
    while !server.berth.wants(Direction::Read) {
        server.sleep();
    }
    let gate = Gate::new();
    server.submit(Some(Arc::clone(&gate)));
    server.pool.commit();
    gate.wait_reached();
    // The worker has drained the socket. The client sends once more and then only waits.
    server.client.write_all(b"2").expect("connected");
    while !server.berth.wants(Direction::Read) {
        server.sleep();
    }
    assert!(server.berth.depart().is_none(), "the half is away");
    gate.open();
    while server.got() != Some(b"12") {
        server.sleep();
        server.drain();
        server.submit(None);
    }
}

#[test]
fn main_asleep_in_its_poller_is_woken_once_for_each_sleep() {
    let mut server = Loop::new();
    for round in 1..=100_usize {
        server.client.write_all(b"x").expect("connected");
        while server.got().is_none_or(|got| got.len() < round) {
            server.sleep();
            server.drain();
            server.submit(None);
        }
    }
    // One sleep for the client's byte, at most one for the answer.
    assert!(server.bell.wakes() <= 100, "{} wake-ups for 100 answers", server.bell.wakes());
}

#[test]
fn the_poller_moves_to_a_worker_while_answers_are_owed() {
    let mut server = Loop::new();
    let gate = Gate::new();
    server.client.write_all(b"1").expect("connected");
    while !server.berth.wants(Direction::Read) {
        server.sleep();
    }
    server.submit(Some(Arc::clone(&gate)));
    server.pool.commit();
    gate.wait_reached();

    // An answer is owed, so the poller goes to a worker, and main waits for whatever comes first.
    let Loop { poller, bell, mut pool, berth, client } = server;
    let woken = AtomicBool::new(false);
    assert!(pool.submit_poll(Job::Poll(poller, DEADLINE)).is_ok());
    let (from, before) = (Instant::now(), flintlock_iothreads::thread_cpu_time());
    let (poller, polled_with) = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(100));
            woken.store(true, Ordering::SeqCst);
            (&client).write_all(b"2").expect("connected");
        });
        let mut polled = None;
        while polled.is_none() {
            assert!(pool.wait(Some(DEADLINE)));
            pool.drain(16, |answer| match answer {
                Answer::Polled(poller) => polled = Some(poller),
                Answer::Read(_) => panic!("the gate is shut"),
            });
        }
        (polled.expect("the loop ends with it"), woken.load(Ordering::SeqCst))
    });
    if let (Some(before), Some(after)) = (before, flintlock_iothreads::thread_cpu_time()) {
        let (cpu, took) = (after - before, from.elapsed());
        assert!(cpu * 4 < took, "main spun for {cpu:?} of {took:?}");
    }
    assert!(polled_with, "the byte ended the poll");
    assert_eq!(bell.wakes(), 0, "nobody was in the poller to be woken");
    let mut server = Loop { poller, bell, pool, berth, client };
    Loop::latch(&server.poller, &mut server.berth);
    server.poller.1.clear();
    assert!(server.berth.wants(Direction::Read), "its events came back with it");
    gate.open();
    while server.got() != Some(b"12") {
        server.sleep();
        server.drain();
        server.submit(None);
    }
}
