//! A raw client: bytes out, whole replies in, every wait with a deadline.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use super::reply::{self, Reply};
use super::words;

/// How long a reply may take before the test calls it missing. Generous: with twenty stores on one
/// disk a single fdatasync was seen to take 20 s, and writers without room wait for it.
pub(crate) const REPLY_DEADLINE: Duration = Duration::from_secs(60);

/// Why no reply came.
#[derive(Debug)]
pub(crate) enum Missing {
    /// The server closed the connection; the bytes that came before, if not a whole reply.
    Closed(Vec<u8>),
    /// Nothing, or a part of a reply, within the deadline.
    Late(Vec<u8>),
    /// Bytes that no RESP server sends.
    Garbled(String),
}

impl std::fmt::Display for Missing {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Closed(rest) => write!(out, "<closed after {:?}>", words::show(rest)),
            Self::Late(rest) => {
                write!(out, "<no whole reply in time, only {:?}>", words::show(rest))
            }
            Self::Garbled(why) => write!(out, "<garbled: {why}>"),
        }
    }
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
    /// Received bytes; those before `taken` have been given out.
    pending: Vec<u8>,
    taken: usize,
    deadline: Duration,
}

impl Client {
    /// Connects to 127.0.0.1.
    pub(crate) fn connect(port: u16) -> std::io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, pending: Vec::new(), taken: 0, deadline: REPLY_DEADLINE })
    }

    /// Changes how long [`read_reply`](Self::read_reply) waits.
    pub(crate) fn set_deadline(&mut self, deadline: Duration) {
        self.deadline = deadline;
    }

    /// The socket, for tests that mistreat it.
    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends `bytes` in one go. A server that has closed already is no error here: the next read
    /// tells.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        match self.stream.write_all(bytes) {
            Ok(()) => {}
            Err(error)
                if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {}
            Err(error) => panic!("cannot send: {error}"),
        }
    }

    /// Sends `bytes` one by one, each in a segment of its own.
    pub(crate) fn send_bytewise(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.send(std::slice::from_ref(byte));
        }
    }

    /// Sends the commands in one write and reads all replies.
    pub(crate) fn pipeline<W: AsRef<[u8]>>(
        &mut self,
        commands: &[Vec<W>],
    ) -> Vec<Result<Reply, Missing>> {
        let bytes: Vec<u8> = commands.iter().flat_map(|command| words::encode(command)).collect();
        self.send(&bytes);
        commands.iter().map(|_| self.read_reply()).collect()
    }

    /// Sends `bytes` in the given pieces from another thread while `count` replies are read here:
    /// neither side can make the other wait for ever.
    pub(crate) fn stream_pieces(
        &mut self,
        pieces: &[&[u8]],
        count: usize,
    ) -> Vec<Result<Reply, Missing>> {
        let mut writer = self.stream.try_clone().expect("a socket can be shared");
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for piece in pieces {
                    if writer.write_all(piece).is_err() {
                        return;
                    }
                }
            });
            let mut replies = Vec::with_capacity(count);
            while replies.len() < count && !matches!(replies.last(), Some(Err(_))) {
                replies.push(self.read_reply());
            }
            if replies.len() < count || matches!(replies.last(), Some(Err(_))) {
                // Frees the writer, whose bytes nobody takes any more.
                let _ = self.stream.shutdown(Shutdown::Both);
            }
            replies
        })
    }

    /// One command, one reply.
    pub(crate) fn try_command<W: AsRef<[u8]>>(&mut self, command: &[W]) -> Result<Reply, Missing> {
        self.send(&words::encode(command));
        self.read_reply()
    }

    /// One command given as a line with redis-cli's quoting; a missing reply fails the test.
    pub(crate) fn run(&mut self, line: &str) -> Reply {
        let command = words::split(line).expect("the test's own line is well quoted");
        self.try_command(&command).unwrap_or_else(|missing| panic!("{line}: {missing}"))
    }

    /// As [`run`](Self::run), and the reply is no error.
    pub(crate) fn ok(&mut self, line: &str) -> Reply {
        let reply = self.run(line);
        assert!(!reply.is_error(), "{line}: {}", words::show(&reply.raw));
        reply
    }

    /// A field of a section of INFO; the test fails without it.
    pub(crate) fn info(&mut self, section: &str, name: &str) -> String {
        let reply = self.ok(&format!("INFO {section}"));
        let text = String::from_utf8_lossy(reply.text().expect("INFO is a text"));
        let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        found.unwrap_or_else(|| panic!("{name} in {text}")).trim().to_owned()
    }

    /// As [`info`](Self::info), of a field that is a whole number.
    pub(crate) fn info_number(&mut self, section: &str, name: &str) -> u64 {
        let value = self.info(section, name);
        value.parse().unwrap_or_else(|_| panic!("{name} is {value}"))
    }

    /// Waits until what was written is durable, for as long as the disk takes.
    pub(crate) fn wait_until_durable(&mut self) {
        let until = Instant::now() + self.deadline;
        while self.info_number("store", "store_durable_lag_ops") > 0 {
            assert!(Instant::now() < until, "nothing is synced");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The next whole reply.
    ///
    /// # Errors
    /// The connection ended, the deadline passed, or the bytes are no reply.
    pub(crate) fn read_reply(&mut self) -> Result<Reply, Missing> {
        let until = Instant::now() + self.deadline;
        loop {
            let unread = &self.pending[self.taken..];
            match reply::parse(unread) {
                Err(why) => return Err(Missing::Garbled(why)),
                Ok(Some((value, used))) => {
                    let raw = unread[..used].to_vec();
                    self.taken += used;
                    return Ok(Reply { raw, value });
                }
                Ok(None) => {}
            }
            match self.fill(until) {
                Fill::More => {}
                Fill::Closed => return Err(Missing::Closed(self.take_pending())),
                Fill::Late => return Err(Missing::Late(self.pending.clone())),
            }
        }
    }

    /// Everything the server sends until it closes, or until `until`; true when it closed.
    pub(crate) fn read_to_close(&mut self, until: Instant) -> (Vec<u8>, bool) {
        loop {
            match self.fill(until) {
                Fill::More => {}
                Fill::Closed => return (self.take_pending(), true),
                Fill::Late => return (self.take_pending(), false),
            }
        }
    }

    /// Reads what is there until `count` bytes are pending, the server closes, or `until`; true
    /// when it closed.
    pub(crate) fn read_at_least(&mut self, count: usize, until: Instant) -> (Vec<u8>, bool) {
        let mut closed = false;
        while !closed && self.pending.len() - self.taken < count {
            match self.fill(until) {
                Fill::More => {}
                Fill::Closed => closed = true,
                Fill::Late => break,
            }
        }
        (self.take_pending(), closed)
    }

    /// No more requests from us; replies may still come.
    pub(crate) fn finish_sending(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    fn take_pending(&mut self) -> Vec<u8> {
        self.drop_taken();
        std::mem::take(&mut self.pending)
    }

    fn drop_taken(&mut self) {
        self.pending.drain(..self.taken);
        self.taken = 0;
    }

    fn fill(&mut self, until: Instant) -> Fill {
        // Once a read, not once a reply: a pipeline of many replies is not moved for each of them.
        self.drop_taken();
        let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        self.stream.set_read_timeout(Some(left)).expect("a time-out above zero is accepted");
        let mut chunk = [0; 65536];
        match self.stream.read(&mut chunk) {
            Ok(0) => Fill::Closed,
            Ok(count) => {
                self.pending.extend_from_slice(&chunk[..count]);
                Fill::More
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => Fill::Late,
                ErrorKind::Interrupted => Fill::More,
                // A reset is how a close looks when our bytes were still unread there.
                ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Fill::Closed,
                _ => panic!("cannot read: {error}"),
            },
        }
    }
}

enum Fill {
    More,
    Closed,
    Late,
}
