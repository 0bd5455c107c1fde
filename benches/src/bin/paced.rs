//! An open-loop load: requests are sent at fixed times, whether replies come or not, and latencies
//! are counted from those times, so that a server that stalls is not asked less meanwhile.
//!
//! ```text
//! paced PORT [--rate N] [--seconds S] [--clients N] [--command get|set] [--value-bytes N]
//!            [--keys N] [--beside reply|pipeline]
//! ```
//! Every key is there, with a value of so many bytes. With `--beside` another client makes trouble
//! again and again: it fetches a megabyte, or sends ten thousand commands at once. Prints one line
//! of JSON with what was done and the percentiles of the latencies, and of how late the requests
//! were sent, which is the client's fault and in the latencies, too.
//!
//! One thread for the load, asleep between the times of requests: it leaves the CPUs to the server.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

/// The load.
struct Shape {
    port: u16,
    /// Requests a second.
    rate: u64,
    seconds: f64,
    clients: usize,
    set: bool,
    value_bytes: usize,
    keys: u64,
    beside: Option<Beside>,
}

/// What the other client does.
#[derive(Clone, Copy)]
enum Beside {
    Reply,
    Pipeline,
}

/// Requests are sent at multiples of this, or of the time between two of them if that is longer.
const TICK: Duration = Duration::from_micros(100);
const TIMER: Token = Token(usize::MAX);
/// How long the last replies may take.
const END_MAX: Duration = Duration::from_secs(30);
const REPLY_BYTES: usize = 1 << 20;
const PIPELINE: usize = 10_000;
/// Between the end of one disturbance and the next.
const PAUSE: Duration = Duration::from_millis(10);

fn main() -> io::Result<()> {
    let Some(shape) = Shape::of_args(std::env::args().skip(1)) else {
        eprintln!("usage: see the head of benches/src/bin/paced.rs");
        std::process::exit(2);
    };
    let (over, disturbances) = (AtomicBool::new(false), AtomicU64::new(0));
    let done = std::thread::scope(|scope| {
        let other = shape.beside.map(|beside| {
            let (over, disturbances) = (&over, &disturbances);
            scope.spawn(move || disturb(shape.port, beside, over, disturbances))
        });
        let done = load(&shape);
        over.store(true, Ordering::Relaxed);
        other.map_or(Ok(()), |other| other.join().expect("no panic")).and(done)
    })?;
    done.print(disturbances.into_inner());
    Ok(())
}

impl Shape {
    fn of_args(mut args: impl Iterator<Item = String>) -> Option<Self> {
        let mut shape = Self {
            port: args.next()?.parse().ok()?,
            rate: 10_000,
            seconds: 1.0,
            clients: 50,
            set: false,
            value_bytes: 512,
            keys: 100_000,
            beside: None,
        };
        while let Some(name) = args.next() {
            let value = args.next()?;
            match name.as_str() {
                "--rate" => shape.rate = value.parse().ok().filter(|rate| *rate > 0)?,
                "--seconds" => shape.seconds = value.parse().ok()?,
                "--clients" => shape.clients = value.parse().ok().filter(|count| *count > 0)?,
                "--command" => shape.set = value == "set",
                "--value-bytes" => shape.value_bytes = value.parse().ok()?,
                "--keys" => shape.keys = value.parse().ok().filter(|count| *count > 0)?,
                "--beside" if value == "reply" => shape.beside = Some(Beside::Reply),
                "--beside" if value == "pipeline" => shape.beside = Some(Beside::Pipeline),
                _ => return None,
            }
        }
        Some(shape)
    }

    fn tick(&self) -> Duration {
        TICK.max(Duration::from_secs(1) / u32::try_from(self.rate).unwrap_or(u32::MAX))
    }

    fn reply_bytes(&self) -> usize {
        if self.set {
            return b"+OK\r\n".len();
        }
        format!("${}\r\n\r\n", self.value_bytes).len() + self.value_bytes
    }

    fn put_request(&self, out: &mut Vec<u8>, key: u64) {
        if self.set {
            out.extend(
                format!("*3\r\n$3\r\nSET\r\n$16\r\nkey:{key:012}\r\n${}\r\n", self.value_bytes)
                    .bytes(),
            );
            out.resize(out.len() + self.value_bytes, b'x');
            out.extend(b"\r\n");
        } else {
            out.extend(format!("*2\r\n$3\r\nGET\r\n$16\r\nkey:{key:012}\r\n").bytes());
        }
    }
}

/// What came of a run, in nanoseconds.
struct Done {
    took: Duration,
    latencies: Vec<u64>,
    late: Vec<u64>,
}

impl Done {
    fn print(mut self, disturbances: u64) {
        self.latencies.sort_unstable();
        self.late.sort_unstable();
        let ms = |sorted: &[u64], part: f64| {
            let place = (sorted.len() as f64 * part) as usize;
            sorted.get(place.min(sorted.len().saturating_sub(1))).map_or(0.0, |ns| *ns as f64 / 1e6)
        };
        println!(
            "{{\"requests\": {}, \"per_second\": {:.1}, \"p50_ms\": {:.4}, \"p99_ms\": {:.4}, \
             \"p999_ms\": {:.4}, \"max_ms\": {:.4}, \"late_p50_ms\": {:.4}, \
             \"late_p999_ms\": {:.4}, \"disturbances\": {disturbances}}}",
            self.latencies.len(),
            self.latencies.len() as f64 / self.took.as_secs_f64(),
            ms(&self.latencies, 0.5),
            ms(&self.latencies, 0.99),
            ms(&self.latencies, 0.999),
            ms(&self.latencies, 1.0),
            ms(&self.late, 0.5),
            ms(&self.late, 0.999),
        );
    }
}

struct Client {
    stream: TcpStream,
    /// When each request that is not answered was due.
    due: VecDeque<Instant>,
    /// Bytes of the first of these replies that have come.
    received: usize,
    /// What the socket did not take.
    unsent: Vec<u8>,
}

fn load(shape: &Shape) -> io::Result<Done> {
    let mut poll = Poll::new()?;
    let mut clients = Vec::new();
    for index in 0..shape.clients {
        // Connected when this returns, so that nothing of it is in the run.
        let stream = std::net::TcpStream::connect(("127.0.0.1", shape.port))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut stream, Token(index), interest)?;
        clients.push(Client { stream, due: VecDeque::new(), received: 0, unsent: Vec::new() });
    }
    let tick = shape.tick();
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK)?;
    poll.registry().register(&mut SourceFd(&timer.as_raw_fd()), TIMER, Interest::READABLE)?;
    let period = Timespec { tv_sec: 0, tv_nsec: tick.subsec_nanos().into() };
    let times = Itimerspec { it_interval: period, it_value: period };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &times)?;
    let total = (shape.rate as f64 * shape.seconds) as u64;
    let mut done = Done { took: Duration::ZERO, latencies: Vec::new(), late: Vec::new() };
    let mut events = Events::with_capacity(1024);
    let mut buffer = vec![0; 256 * 1024];
    let (mut sent, mut dice) = (0, 0x9E37_79B9_7F4A_7C15_u64);
    let from = Instant::now();
    let end = from + Duration::from_secs_f64(shape.seconds) + END_MAX;
    while (done.latencies.len() as u64) < total {
        if Instant::now() > end {
            return Err(io::Error::other("replies are missing"));
        }
        poll.poll(&mut events, Some(Duration::from_millis(100)))?;
        for event in &events {
            if event.token() == TIMER {
                // Not before it is read does it go on.
                let _ = rustix::io::read(&timer, &mut [0; 8]);
            } else if let Some(client) = clients.get_mut(event.token().0) {
                client.send_rest()?;
                client.receive(&mut buffer, shape.reply_bytes(), &mut done.latencies)?;
            }
        }
        while sent < total {
            let exact = Duration::from_nanos(sent * 1_000_000_000 / shape.rate);
            let ticks = exact.as_nanos().div_ceil(tick.as_nanos());
            let due = from + tick * u32::try_from(ticks).expect("a run of less than days");
            let now = Instant::now();
            if due > now {
                break;
            }
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            done.late.push(as_nanos(now - due));
            clients[sent as usize % shape.clients].send(shape, dice % shape.keys, due)?;
            sent += 1;
        }
    }
    done.took = from.elapsed();
    Ok(done)
}

fn as_nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Client {
    fn send(&mut self, shape: &Shape, key: u64, due: Instant) -> io::Result<()> {
        shape.put_request(&mut self.unsent, key);
        self.due.push_back(due);
        self.send_rest()
    }

    fn send_rest(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads what is there.
    fn receive(
        &mut self,
        buffer: &mut [u8],
        reply_bytes: usize,
        latencies: &mut Vec<u64>,
    ) -> io::Result<()> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return Err(io::Error::other("the server closed")),
                Ok(count) => self.received += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        let now = Instant::now();
        while self.received >= reply_bytes {
            self.received -= reply_bytes;
            let due = self.due.pop_front().ok_or_else(|| io::Error::other("not asked for"))?;
            latencies.push(as_nanos(now - due));
        }
        Ok(())
    }
}

/// The other client.
fn disturb(port: u16, beside: Beside, over: &AtomicBool, count: &AtomicU64) -> io::Result<()> {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    let mut large = Vec::new();
    let request = match beside {
        Beside::Reply => {
            let value = "x".repeat(REPLY_BYTES);
            let set = format!("*3\r\n$3\r\nSET\r\n$5\r\nlarge\r\n${REPLY_BYTES}\r\n{value}\r\n");
            stream.write_all(set.as_bytes())?;
            stream.read_exact(&mut [0; b"+OK\r\n".len()])?;
            b"*2\r\n$3\r\nGET\r\n$5\r\nlarge\r\n".to_vec()
        }
        Beside::Pipeline => b"*2\r\n$4\r\nINCR\r\n$5\r\ncount\r\n".repeat(PIPELINE),
    };
    let mut buffer = vec![0; 256 * 1024];
    while !over.load(Ordering::Relaxed) {
        stream.write_all(&request)?;
        match beside {
            Beside::Reply => {
                large.resize(format!("${REPLY_BYTES}\r\n\r\n").len() + REPLY_BYTES, 0);
                stream.read_exact(&mut large)?;
            }
            Beside::Pipeline => {
                let mut lines = 0;
                while lines < PIPELINE {
                    let got = stream.read(&mut buffer)?;
                    if got == 0 {
                        return Err(io::Error::other("the server closed"));
                    }
                    lines += buffer[..got].iter().filter(|byte| **byte == b'\n').count();
                }
            }
        }
        count.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(PAUSE);
    }
    Ok(())
}
