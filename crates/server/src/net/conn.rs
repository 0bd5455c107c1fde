//! The connection half: socket, input with its parser, output.
//!
//! Runs on the thread that holds it, main or a worker, and moves between them as one box; nothing
//! in it is shared. Never blocks. Knows no keyspace: it finds the command's row and hashes the
//! first key, so that the main thread only has to run what came.
//!
//! Every size here is bounded: input by `client-query-buffer-limit`, parsed requests by
//! `REQUESTS_MAX`, output by the server running no further command while `OUTPUT_HIGH` is passed.

use std::io::{self, IoSlice, Read, Write};
use std::mem::offset_of;
use std::os::fd::AsRawFd;

use mio::Token;
use mio::net::TcpStream;

use crate::command::{Command, Request, lookup_request};
use crate::config::Config;
use crate::keyspace::Hasher;
use crate::resp::encode::Output;
use crate::resp::parse::{Arg, INPUT_MAX, Limits, Parser, ProtocolError};
use crate::util::prefetch::{prefetch_first, prefetch_lines};

/// Bytes offered to one read: one request or pipeline of ordinary size, read in one call.
const READ_CHUNK: usize = 16 * 1024;
/// Most bytes of one read, however large the argument that is being received.
const READ_MAX: usize = 64 * 1024;
/// Requests parsed ahead of their execution. Of a client that has to authenticate one: what is
/// behind it is held to other limits once it has.
const REQUESTS_MAX: usize = 64;
/// While more than this is waiting to be sent, no further request of the client is run.
pub(crate) const OUTPUT_HIGH: usize = 1024 * 1024;
/// Input memory that an idle connection may keep.
const IDLE_KEEP: usize = READ_CHUNK;

/// What a read came to.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum Received {
    /// All that was there.
    Drained,
    /// As much as there was room for: there may be more, and no new readiness will tell.
    More,
    /// The peer sends no more.
    Eof,
    /// The connection is broken.
    Broken,
    /// More unprocessed input than `client-query-buffer-limit` allows.
    TooMuch,
}

/// What a write came to.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum Sent {
    /// Everything.
    All,
    /// As much as one job may: the socket may take more.
    Part,
    /// The socket is full: wait for writable readiness.
    Blocked,
    /// The connection is broken.
    Broken,
}

/// What the input of one client is held to.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) struct InputLimits {
    /// Each request.
    pub request: Limits,
    /// Most unprocessed input, in bytes.
    pub bytes_max: usize,
}

impl InputLimits {
    /// As `config` has them for a client that has authenticated (or need not), or has not.
    pub(crate) fn new(config: &Config, authenticated: bool) -> Self {
        let bulk_max = config.proto_max_bulk_len_bytes.min(INPUT_MAX) as i64;
        let bytes_max = config.client_query_buffer_limit_bytes.min(INPUT_MAX) as usize;
        Self { request: Limits { bulk_max, authenticated }, bytes_max }
    }
}

/// One parsed request: its row, and its arguments as a range of `Input::args`.
#[derive(Copy, Clone, Debug)]
struct Parsed {
    first: u32,
    len: u32,
    command: Option<&'static Command>,
    hash: u64,
}

/// Bytes received and what was made of them.
#[derive(Debug)]
#[repr(C)]
struct Input {
    /// Those from `taken` on wait. Emptied when none does.
    requests: Vec<Parsed>,
    taken: usize,
    /// Always initialised; the first `filled` bytes are input.
    buf: Vec<u8>,
    filled: usize,
    /// Arguments of `requests`, then those of the request half received.
    args: Vec<Arg>,
    /// Arguments in front that belong to requests already taken.
    args_used: usize,
    parser: Parser,
}

/// See the module doc. Laid out as written: the first line is all that the main thread looks at
/// when a half comes back from a write, and each further line would be a miss, since a worker had
/// it last; settings are behind what changes.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct ConnIo {
    /// Whose half this is: the token that its readiness comes with.
    pub owner: Token,
    /// What the last job came to.
    pub received: Received,
    pub sent: Sent,
    /// Bytes received and sent since they were last asked for.
    received_bytes: u64,
    sent_bytes: u64,
    input: Input,
    /// Replies to be sent.
    pub out: Output,
    /// Set when the input made no sense; no further request follows.
    error: Option<ProtocolError>,
    /// What its input is held to.
    pub limits: InputLimits,
    hasher: Hasher,
    stream: TcpStream,
}

/// Lines of a half in front of its settings.
const CHANGING_LINES: usize = offset_of!(ConnIo, limits).div_ceil(64);

const _: () = assert!(offset_of!(ConnIo, input) + offset_of!(Input, buf) <= 64);

/// A request taken from the input, or a name that no command has.
#[derive(Debug)]
pub(crate) enum Next<'a> {
    /// A request of a known command.
    Known(Request<'a>),
    /// The arguments of an unknown one, the name first.
    Unknown(&'a [u8], &'a [Arg]),
}

impl ConnIo {
    /// A connection over a socket that is non-blocking.
    pub(crate) fn new(stream: TcpStream, hasher: Hasher, limits: InputLimits) -> Self {
        Self {
            owner: Token(0),
            received: Received::Drained,
            sent: Sent::All,
            stream,
            input: Input {
                buf: Vec::new(),
                filled: 0,
                parser: Parser::default(),
                args: Vec::new(),
                requests: Vec::new(),
                taken: 0,
                args_used: 0,
            },
            out: Output::default(),
            limits,
            hasher,
            error: None,
            received_bytes: 0,
            sent_bytes: 0,
        }
    }

    /// The descriptor's number.
    pub(crate) fn fd(&self) -> i32 {
        self.stream.as_raw_fd()
    }

    /// The socket, for registering it.
    pub(crate) fn stream_mut(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Memory held, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        let input = &self.input;
        size_of::<Self>()
            + input.buf.capacity()
            + input.args.capacity() * size_of::<Arg>()
            + input.requests.capacity() * size_of::<Parsed>()
            + self.out.memory_bytes()
    }

    /// Bytes of input not yet parsed and free bytes of its buffer, as CLIENT LIST shows them.
    pub(crate) fn input_state(&self) -> (usize, usize) {
        (self.input.filled - self.input.parser.position(), self.input.buf.len() - self.input.filled)
    }

    /// Bytes received and sent since the last call.
    pub(crate) fn take_traffic(&mut self) -> (u64, u64) {
        (std::mem::take(&mut self.received_bytes), std::mem::take(&mut self.sent_bytes))
    }

    /// Reads once. A read that leaves room proves the socket drained, so a request costs one call.
    pub(crate) fn receive(&mut self) -> Received {
        self.receive_up_to(READ_MAX)
    }

    fn receive_up_to(&mut self, bytes_max: usize) -> Received {
        self.input.make_room();
        if self.input.filled > self.limits.bytes_max {
            return Received::TooMuch;
        }
        let Input { buf, filled, .. } = &mut self.input;
        let end = buf.len().min(filled.saturating_add(bytes_max));
        loop {
            match self.stream.read(&mut buf[*filled..end]) {
                Ok(0) => return Received::Eof,
                Ok(count) => {
                    *filled += count;
                    self.received_bytes += count as u64;
                    return if *filled == end { Received::More } else { Received::Drained };
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Received::Drained;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Received::Broken,
            }
        }
    }

    /// As a job: reads until there is a request, nothing more to read, or the `budget` is used up.
    pub(crate) fn receive_job(&mut self, budget: &mut impl Budgeted) {
        loop {
            let before = self.received_bytes;
            self.received = self.receive_up_to(budget.bytes_left());
            let done = self.parse() || self.error.is_some() || self.received != Received::More;
            if done || !budget.may_go_on((self.received_bytes - before) as usize) {
                return;
            }
        }
    }

    /// Parses what was received, up to `REQUESTS_MAX` requests ahead. Returns whether there are
    /// requests to run.
    pub(crate) fn parse(&mut self) -> bool {
        if self.input.is_parsed() {
            return !self.input.requests.is_empty();
        }
        let Input { buf, filled, parser, args, requests, taken, .. } = &mut self.input;
        requests.drain(..std::mem::take(taken));
        let requests_max = if self.limits.request.authenticated { REQUESTS_MAX } else { 1 };
        while requests.len() < requests_max && self.error.is_none() {
            let first = requests.last().map_or(0, |r| (r.first + r.len) as usize);
            match parser.next(&mut buf[..*filled], self.limits.request, args) {
                Ok(true) => {
                    let words = &args[first..];
                    let command = lookup_request(words[0].of(buf), words.get(1).map(|w| w.of(buf)));
                    let hash = command
                        .and_then(|c| {
                            words.get(usize::from(c.keys.first)).filter(|_| c.keys.first > 0)
                        })
                        .map_or(0, |key| self.hasher.hash(key.of(buf)));
                    let (first, len) = (first as u32, words.len() as u32);
                    requests.push(Parsed { first, len, command, hash });
                }
                Ok(false) => break,
                Err(error) => self.error = Some(error),
            }
        }
        !requests.is_empty()
    }

    /// The next request, which stays until [`ConnIo::pop`]; and where replies go.
    pub(crate) fn front(&mut self) -> Option<(Next<'_>, &mut Output)> {
        let Input { buf, args, requests, taken, .. } = &self.input;
        let parsed = requests.get(*taken)?;
        let args = &args[parsed.first as usize..][..parsed.len as usize];
        let next = match parsed.command {
            Some(command) => Next::Known(Request::new(buf, args, command, parsed.hash)),
            None => Next::Unknown(buf, args),
        };
        Some((next, &mut self.out))
    }

    /// The requests behind the next one, as far as they are parsed and their commands known.
    pub(crate) fn behind(&self) -> impl Iterator<Item = Request<'_>> {
        let Input { buf, args, .. } = &self.input;
        self.input.waiting().iter().skip(1).filter_map(move |parsed| {
            let args = &args[parsed.first as usize..][..parsed.len as usize];
            Some(Request::new(buf, args, parsed.command?, parsed.hash))
        })
    }

    /// Drops the next request: it was run.
    pub(crate) fn pop(&mut self) {
        debug_assert!(self.waiting() > 0, "one was run");
        let input = &mut self.input;
        input.taken += 1;
        if input.taken == input.requests.len() {
            input.forget_requests();
        }
    }

    /// Whether nothing is left of the input: no request, and no byte that one might be made of.
    pub(crate) fn is_spent(&self) -> bool {
        self.waiting() == 0 && self.input.is_parsed()
    }

    /// Asks for what a half that comes back is looked at for: after a write for what it came to,
    /// after a read for the requests and the room for replies too.
    pub(crate) fn prefetch_back(&self, from_read: bool) {
        prefetch_lines(self, if from_read { CHANGING_LINES } else { 1 });
    }

    /// Asks for all of a half that is to be read from here.
    pub(crate) fn prefetch_all(&self) {
        prefetch_lines(self, usize::MAX / 64);
    }

    /// Asks for what running the first request will look at, once the half itself is near.
    pub(crate) fn prefetch_request(&self) {
        let input = &self.input;
        prefetch_first(&input.requests);
        prefetch_first(&input.args);
        prefetch_first(&input.buf);
        self.out.prefetch();
    }

    /// Parsed requests that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.input.requests.len() - self.input.taken
    }

    /// Hashes of the first keys of up to `limit` waiting requests.
    pub(crate) fn first_hashes(&self, limit: usize) -> impl Iterator<Item = u64> {
        let waiting = self.input.waiting().iter().take(limit);
        waiting.filter(|r| r.command.is_some_and(|c| c.keys.first > 0)).map(|r| r.hash)
    }

    /// Why the input ended, once every request in front of the fault was taken.
    pub(crate) fn fault(&self) -> Option<ProtocolError> {
        self.error.filter(|_| self.input.requests.is_empty())
    }

    /// Sends what the socket takes.
    pub(crate) fn send(&mut self) -> Sent {
        self.send_within(&mut Unlimited)
    }

    /// As a job: sends what the socket takes, until the `budget` is used up.
    pub(crate) fn send_job(&mut self, budget: &mut impl Budgeted) {
        self.sent = self.send_within(budget);
    }

    fn send_within(&mut self, budget: &mut impl Budgeted) -> Sent {
        while !self.out.is_empty() {
            let bytes_max = budget.bytes_left();
            let sent = match self.out.plain() {
                Some(bytes) => self.stream.write(&bytes[..bytes.len().min(bytes_max)]),
                None => {
                    let mut slices = [IoSlice::new(&[]); 64];
                    let count = self.out.gather(bytes_max, &mut slices);
                    self.stream.write_vectored(&slices[..count])
                }
            };
            match sent {
                Ok(0) => return Sent::Broken,
                Ok(count) => {
                    self.out.consume(count);
                    self.sent_bytes += count as u64;
                    if !self.out.is_empty() && !budget.may_go_on(count) {
                        return Sent::Part;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Sent::Blocked,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Sent::Broken,
            }
        }
        Sent::All
    }

    /// Gives back what a burst took; for connections that were idle for a while.
    pub(crate) fn shrink(&mut self) {
        self.out.shrink(READ_CHUNK);
        let input = &mut self.input;
        if input.filled == 0 && input.requests.is_empty() {
            input.buf = Vec::new();
            input.args = Vec::new();
            input.requests = Vec::new();
        }
    }
}

/// How much a job may do before others have their turn. While it may go on, bytes are left.
pub(crate) trait Budgeted {
    /// Bytes that the next step may do at most.
    fn bytes_left(&self) -> usize;

    /// Tells what the last step did; whether there may be another.
    fn may_go_on(&mut self, bytes: usize) -> bool;
}

/// No job: the main thread does what it finds.
struct Unlimited;

impl Budgeted for Unlimited {
    fn bytes_left(&self) -> usize {
        usize::MAX
    }

    fn may_go_on(&mut self, _: usize) -> bool {
        true
    }
}

impl Input {
    /// Parsed requests that were not taken.
    fn waiting(&self) -> &[Parsed] {
        &self.requests[self.taken..]
    }

    /// The last parsed request was taken.
    fn forget_requests(&mut self) {
        self.args_used = self.requests.last().map_or(0, |last| (last.first + last.len) as usize);
        self.requests.clear();
        self.taken = 0;
        self.compact();
    }

    /// Makes room for a read. The buffer doubles with the bytes that came, never with the sizes
    /// that a peer merely names, and only as far as the argument being received needs.
    fn make_room(&mut self) {
        if self.requests.is_empty() {
            self.compact();
        }
        let free = self.buf.len() - self.filled;
        let wanted = self.parser.wanted(&self.buf[..self.filled]);
        if free < READ_CHUNK.min(wanted.max(READ_CHUNK / 4)) {
            let more = wanted.min(self.filled).max(READ_CHUNK);
            self.buf.resize(self.filled + more, 0);
        }
    }

    /// Whether no byte is left to parse.
    fn is_parsed(&self) -> bool {
        self.parser.position() == self.filled
    }

    /// Drops what was parsed and taken.
    #[inline(always)]
    fn compact(&mut self) {
        debug_assert!(self.requests.is_empty(), "requests are ranges of the buffer");
        let args_used = std::mem::take(&mut self.args_used);
        if self.is_parsed() && args_used == self.args.len() {
            // Whole requests came, as nearly always.
            self.args.clear();
            self.parser.shift(self.filled);
            self.filled = 0;
        } else {
            self.keep_half_received(args_used);
        }
        if self.filled == 0 && self.buf.len() > 4 * IDLE_KEEP {
            self.buf = Vec::new();
        }
    }

    /// Moves the request half received to the front, with its arguments: those behind `args_used`.
    #[cold]
    fn keep_half_received(&mut self, args_used: usize) {
        self.args.drain(..args_used);
        let cut = self.args.first().map_or(self.parser.position(), |arg| arg.start as usize);
        if cut > 0 {
            self.buf.copy_within(cut..self.filled, 0);
            self.filled -= cut;
            self.parser.shift(cut);
            for arg in &mut self.args {
                arg.start -= cut as u32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offload::tests::pair;

    /// A client whose requests run one in a turn, while more are parsed in each.
    #[test]
    fn requests_that_were_taken_are_not_kept() {
        const COUNT: usize = 5 * REQUESTS_MAX;
        let (mut io, mut peer) = pair(1);
        peer.write_all(&b"GET a\r\n".repeat(COUNT)).expect("a socket");
        for taken in 0..COUNT {
            while !io.parse() {
                io.receive();
            }
            assert!(io.input.requests.len() <= REQUESTS_MAX, "{taken} were taken");
            assert!(!io.is_spent());
            io.pop();
        }
        assert!(io.is_spent());
    }
}
