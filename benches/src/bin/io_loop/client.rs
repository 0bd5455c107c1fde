//! A closed-loop load: each client has `pipeline` requests in flight and sends the next ones when
//! all are answered. One thread, one poller.

use std::io::{self, ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

/// What the clients send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) clients: usize,
    pub(crate) pipeline: usize,
    pub(crate) set: bool,
    pub(crate) value_bytes: usize,
}

/// What came back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Done {
    pub(crate) requests: u64,
    pub(crate) time: Duration,
}

const KEYS: u64 = 10_000;

/// Sets every key, so that GET finds a value whatever key it asks for.
pub(crate) fn fill(port: u16, value_bytes: usize) -> io::Result<()> {
    const BATCH: u64 = 100;
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port))?;
    let mut request = Vec::new();
    let mut answers = [0; b"+OK\r\n".len() * BATCH as usize];
    for key in 0..KEYS {
        put_set(&mut request, key, value_bytes);
        if (key + 1) % BATCH == 0 {
            stream.write_all(&request)?;
            stream.read_exact(&mut answers)?;
            request.clear();
        }
    }
    Ok(())
}

fn put_set(request: &mut Vec<u8>, key: u64, value_bytes: usize) {
    let head = format!("*3\r\n$3\r\nSET\r\n$9\r\nkey:{key:05}\r\n${value_bytes}\r\n");
    request.extend(head.as_bytes());
    request.resize(request.len() + value_bytes, b'x');
    request.extend(b"\r\n");
}

struct Client {
    stream: TcpStream,
    /// Answer bytes still to come.
    awaited: usize,
    request: Vec<u8>,
}

/// Puts the load on the server at `port` for so long.
pub(crate) fn load(port: u16, shape: Shape, time: Duration) -> io::Result<Done> {
    let mut poll = Poll::new()?;
    let mut clients = Vec::new();
    for index in 0..shape.clients {
        let mut stream = TcpStream::connect(([127, 0, 0, 1], port).into())?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut stream, Token(index), interest)?;
        clients.push(Client { stream, awaited: 0, request: Vec::new() });
    }
    let answer_bytes = if shape.set {
        b"+OK\r\n".len()
    } else {
        format!("${}\r\n\r\n", shape.value_bytes).len() + shape.value_bytes
    };
    let batch_bytes = answer_bytes * shape.pipeline;
    let mut dice = 0x9E37_79B9_7F4A_7C15_u64;
    let mut events = Events::with_capacity(256);
    let mut buffer = vec![0; 256 * 1024];
    let mut requests = 0;
    let from = Instant::now();
    while from.elapsed() < time {
        poll.poll(&mut events, Some(Duration::from_millis(100)))?;
        for event in &events {
            let client = &mut clients[event.token().0];
            if client.awaited == 0 && client.request.is_empty() {
                client.send(shape, batch_bytes, &mut dice)?; // Connected.
            }
            while client.receive(&mut buffer)? {
                requests += shape.pipeline as u64;
                client.send(shape, batch_bytes, &mut dice)?;
            }
        }
    }
    Ok(Done { requests, time: from.elapsed() })
}

impl Client {
    fn send(&mut self, shape: Shape, batch_bytes: usize, dice: &mut u64) -> io::Result<()> {
        self.request.clear();
        for _ in 0..shape.pipeline {
            *dice ^= *dice << 13;
            *dice ^= *dice >> 7;
            *dice ^= *dice << 17;
            let key = *dice % KEYS;
            if shape.set {
                put_set(&mut self.request, key, shape.value_bytes);
            } else {
                write!(self.request, "*2\r\n$3\r\nGET\r\n$9\r\nkey:{key:05}\r\n")?;
            }
        }
        self.awaited = batch_bytes;
        match self.stream.write(&self.request) {
            Ok(count) if count == self.request.len() => Ok(()),
            Ok(_) => Err(io::Error::other("a batch should fit the socket")),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                Err(io::Error::other("an empty socket should take a batch"))
            }
            Err(error) => Err(error),
        }
    }

    /// Reads what is there; whether all answers have come.
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        match self.stream.read(buffer) {
            Ok(0) => Err(io::Error::other("the server closed")),
            Ok(count) => {
                self.awaited = self.awaited.checked_sub(count).expect("no answer unasked");
                Ok(self.awaited == 0)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }
}
