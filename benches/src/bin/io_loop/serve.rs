//! The server: one loop over a poller and a pool.
//!
//! The half of a connection travels in jobs: a worker reads, parses and makes the values; main only
//! looks up and moves pointers; a worker encodes, writes, and drops what was replaced. So main
//! touches no byte of a value. What the pool does not take is done inline by the same code.

use std::collections::HashMap;
use std::hint::black_box;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use flintlock_iothreads::{
    Arrival, Bell, Berth, Context, Direction, Handler, Options, Outcome, Panic, Pool, Scaling, Turn,
};
use flintlock_queues::Words;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};

const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);
const READ_BYTES: usize = 16 * 1024;
const EVENTS: usize = 1024;
/// Least time between two turns, where asked for.
const PACE: Duration = Duration::from_millis(10);

/// What travels: a connection, or the poller.
#[repr(align(16))]
pub(crate) struct Task {
    kind: Kind,
    client: usize,
    stream: Option<TcpStream>,
    input: Vec<u8>,
    /// Bytes of the input that are in requests.
    parsed: usize,
    requests: Vec<Request>,
    /// Answers to encode, in order.
    replies: Vec<Reply>,
    /// Values that were replaced.
    garbage: Vec<Arc<[u8]>>,
    output: Vec<u8>,
    closed: bool,
    poller: Option<(Poll, Events)>,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Read,
    Write,
    Poll,
}

/// One parsed command. The key is in it: in the input it would be on another line, which the main
/// thread would have to fetch from the core of the worker.
struct Request {
    key: Key,
    /// `None` for GET.
    value: Option<Arc<[u8]>>,
}

/// A key of up to 15 bytes; the load sends no others.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key([u8; 16]);

impl Key {
    fn new(bytes: &[u8]) -> Self {
        let mut key = [0; 16];
        key[..bytes.len()].copy_from_slice(bytes);
        key[15] = u8::try_from(bytes.len()).expect("a short key");
        Self(key)
    }
}

enum Reply {
    Done,
    Value(Arc<[u8]>),
}

struct Io;

impl Handler for Io {
    type Job = Box<Task>;
    type Answer = Box<Task>;
    type Layout = Words;
    type Owner = ();
    type Local = ();

    fn local(&self, _worker: usize) {}

    fn owner(&self, _task: &Box<Task>) {}

    fn run(&self, mut task: Box<Task>, _: &mut Context<'_, ()>) -> Outcome<Box<Task>, Box<Task>> {
        task.run();
        Outcome::Done(task)
    }

    fn panicked(&self, (): (), panic: &Panic) -> Option<Box<Task>> {
        eprintln!("{panic:?}");
        std::process::abort();
    }
}

impl Task {
    fn new(stream: Option<TcpStream>, poller: Option<(Poll, Events)>) -> Box<Self> {
        Box::new(Self {
            kind: Kind::Poll,
            client: 0,
            stream,
            input: Vec::with_capacity(READ_BYTES),
            parsed: 0,
            requests: Vec::new(),
            replies: Vec::new(),
            garbage: Vec::new(),
            output: Vec::with_capacity(READ_BYTES),
            closed: false,
            poller,
        })
    }

    fn run(&mut self) {
        match self.kind {
            Kind::Read => self.read(),
            Kind::Write => self.write(),
            Kind::Poll => {
                let (poll, events) = self.poller.as_mut().expect("a poll job has the poller");
                poll.poll(events, Some(Duration::ZERO)).expect("epoll works");
            }
        }
    }

    fn read(&mut self) {
        // What was parsed last time has been executed.
        self.input.drain(..self.parsed);
        self.parsed = 0;
        let stream = self.stream.as_mut().expect("a connection has a socket");
        loop {
            let old = self.input.len();
            self.input.resize(old + READ_BYTES, 0);
            let got = stream.read(&mut self.input[old..]);
            self.input.truncate(old + *got.as_ref().unwrap_or(&0));
            match got {
                Ok(0) => self.closed = true,
                Ok(READ_BYTES) => continue,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => self.closed = true,
            }
            break;
        }
        while let Some((request, end)) = parse(&self.input, self.parsed) {
            self.requests.push(request);
            self.parsed = end;
        }
    }

    fn write(&mut self) {
        self.garbage.clear();
        for reply in self.replies.drain(..) {
            match reply {
                Reply::Done => self.output.extend(b"+OK\r\n"),
                Reply::Value(value) => {
                    let _ = write!(self.output, "${}\r\n", value.len());
                    self.output.extend(&*value);
                    self.output.extend(b"\r\n");
                }
            }
        }
        let stream = self.stream.as_mut().expect("a connection has a socket");
        match stream.write(&self.output) {
            Ok(count) => drop(self.output.drain(..count)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => self.closed = true,
        }
    }
}

/// The command at `at` and where it ends, if it is complete.
fn parse(input: &[u8], at: usize) -> Option<(Request, usize)> {
    let (count, mut at) = number(input, at, b'*')?;
    let mut arguments = [0..0, 0..0, 0..0];
    for argument in arguments.iter_mut().take(count.min(3)) {
        let (bytes, from) = number(input, at, b'$')?;
        *argument = from..from + bytes;
        at = from + bytes + 2;
    }
    let [_, key, value] = arguments;
    (at <= input.len()).then(|| {
        let value = (count == 3).then(|| Arc::from(&input[value]));
        (Request { key: Key::new(&input[key]), value }, at)
    })
}

/// The number behind `mark`, and where the next line begins.
fn number(input: &[u8], at: usize, mark: u8) -> Option<(usize, usize)> {
    let line = input.get(at..)?;
    let (&first, rest) = line.split_first()?;
    assert!(first == mark, "the load speaks RESP");
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (rest.len() >= digits + 2).then(|| {
        let value =
            rest[..digits].iter().fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'));
        (value, at + 1 + digits + 2)
    })
}

struct Server {
    pool: Pool<Io>,
    listener: TcpListener,
    clients: Vec<Option<Berth<Box<Task>>>>,
    free: Vec<usize>,
    /// Clients that want something and are at home.
    ready: Vec<usize>,
    #[expect(clippy::vec_box, reason = "answers come as boxes and leave as boxes")]
    answers: Vec<Box<Task>>,
    values: HashMap<Key, Arc<[u8]>>,
    absent: Arc<[u8]>,
    completed: u64,
}

/// Serves for ever.
pub(crate) fn serve(mode: &str) -> io::Result<()> {
    let paced = mode.ends_with('+');
    let mode = mode.trim_end_matches('+');
    let poll = Poll::new()?;
    let waker = Waker::new(poll.registry(), WAKER)?;
    let bell = Bell::new(move || waker.wake().expect("a loop that cannot be woken is lost"));
    let mut listener = TcpListener::bind(([127, 0, 0, 1], 0).into())?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    println!("{}", listener.local_addr()?.port());
    let options = match mode {
        "1" => Options::adaptive(0),
        "always" | "poll" => Options {
            scaling: Scaling::Fixed(1),
            spin: Duration::from_micros(20),
            ..Options::adaptive(1)
        },
        _ => Options::adaptive(255),
    };
    let mut server = Server {
        pool: Pool::new(Io, bell, options).map_err(io::Error::other)?,
        listener,
        clients: Vec::new(),
        free: Vec::new(),
        ready: Vec::new(),
        answers: Vec::new(),
        values: HashMap::new(),
        absent: Arc::from([b'x'; 512]),
        completed: 0,
    };
    let mut home = Some(Task::new(None, Some((poll, Events::with_capacity(EVENTS)))));
    let mut turn_at = Instant::now();
    loop {
        if paced {
            std::thread::sleep(PACE.saturating_sub(turn_at.elapsed()));
            turn_at = Instant::now();
        }
        home = server.wait(home, mode == "poll");
        home = server.serve_answers().or(home);
        if let Some(task) = &mut home {
            // Before the next poll, which would overwrite them.
            server.take_events(task)?;
        }
        let jobs = server.ready.len();
        server.pool.tick(&Turn { jobs, completed: server.completed, reserved_cpus: 0 });
        server.serve_ready();
    }
}

impl Server {
    /// Sleeps until there is something to do; returns the poller unless it went to a worker.
    fn wait(&mut self, home: Option<Box<Task>>, offload: bool) -> Option<Box<Task>> {
        let Some(mut task) = home else {
            self.pool.wait(Some(Duration::from_millis(100)));
            return None;
        };
        if offload && self.pool.in_flight() > 0 {
            task.kind = Kind::Poll;
            match self.pool.submit_poll(task) {
                Ok(()) => {
                    self.pool.wait(Some(Duration::from_millis(100)));
                    return None;
                }
                Err(full) => task = full.job,
            }
        }
        let limit =
            if self.pool.before_sleep() { self.pool.timeout() } else { Some(Duration::ZERO) };
        let (poll, events) = task.poller.as_mut().expect("a poll task has the poller");
        if let Err(error) = poll.poll(events, limit) {
            assert_eq!(error.kind(), ErrorKind::Interrupted);
        }
        self.pool.after_sleep();
        Some(task)
    }

    fn take_events(&mut self, task: &mut Task) -> io::Result<()> {
        let (poll, events) = task.poller.as_mut().expect("a poll task has the poller");
        for event in &*events {
            match event.token() {
                LISTENER => self.accept(poll)?,
                WAKER => {}
                Token(client) => {
                    if let Some(berth) = self.clients.get_mut(client).and_then(Option::as_mut) {
                        berth.want(Direction::Read);
                        self.ready.push(client);
                    }
                }
            }
        }
        events.clear();
        Ok(())
    }

    fn accept(&mut self, poll: &Poll) -> io::Result<()> {
        while let Ok((mut stream, _)) = self.listener.accept() {
            stream.set_nodelay(true)?;
            let client = self.free.pop().unwrap_or(self.clients.len());
            poll.registry().register(&mut stream, Token(client), Interest::READABLE)?;
            let mut task = Task::new(Some(stream), None);
            task.client = client;
            self.clients.resize_with(self.clients.len().max(client + 1), || None);
            self.clients[client] = Some(Berth::new(task));
        }
        Ok(())
    }

    fn serve_ready(&mut self) {
        let mut ready = std::mem::take(&mut self.ready);
        for client in ready.drain(..) {
            self.depart(client);
        }
        self.ready = ready;
    }

    /// Starts what `client` wants, on a worker or here, until nothing is wanted or it travels.
    fn depart(&mut self, client: usize) {
        while let Some((direction, mut task)) =
            self.clients[client].as_mut().and_then(Berth::depart)
        {
            task.kind = if direction == Direction::Read { Kind::Read } else { Kind::Write };
            match self.pool.submit(task) {
                Ok(()) => return,
                Err(full) => {
                    let mut task = full.job;
                    task.run();
                    self.arrive(task);
                }
            }
        }
    }

    fn serve_answers(&mut self) -> Option<Box<Task>> {
        let mut poller = None;
        while self.pool.drain(16, |task| self.answers.push(task)) > 0 {
            let mut answers = std::mem::take(&mut self.answers);
            // All lines of a batch are fetched at the same time, not one after the other.
            black_box(answers.iter().map(|task| task.client + task.requests.len()).sum::<usize>());
            black_box(answers.iter().filter_map(|task| task.requests.first()).count());
            for task in answers.drain(..) {
                if task.kind == Kind::Poll {
                    poller = Some(task);
                    continue;
                }
                let client = task.client;
                self.arrive(task);
                self.depart(client);
            }
            self.answers = answers;
        }
        poller
    }

    /// A job has come back: runs what was read, and says what is wanted next.
    fn arrive(&mut self, mut task: Box<Task>) {
        let client = task.client;
        if task.kind == Kind::Read && !task.requests.is_empty() {
            self.execute(&mut task);
        }
        let berth = self.clients[client].as_mut().expect("kept while it travels");
        if task.closed {
            berth.close();
        } else if !task.replies.is_empty() || !task.output.is_empty() {
            // Short writes only happen to those who do not read; no load here does that.
            berth.want(Direction::Write);
        }
        if let Arrival::Closed(_) = berth.arrive(task) {
            self.clients[client] = None;
            self.free.push(client);
        }
    }

    fn execute(&mut self, task: &mut Task) {
        for request in task.requests.drain(..) {
            let key = &request.key;
            task.replies.push(match request.value {
                Some(value) => {
                    match self.values.get_mut(key) {
                        Some(place) => task.garbage.push(std::mem::replace(place, value)),
                        None => drop(self.values.insert(*key, value)),
                    }
                    Reply::Done
                }
                // Never an absent key, so that all answers are of one size.
                None => Reply::Value(Arc::clone(self.values.get(key).unwrap_or(&self.absent))),
            });
            self.completed += 1;
        }
    }
}
