//! A redis-server started for one test, to compare our behaviour with. Tests only.
//!
//! It listens on a unix socket in a fresh directory, so tests running side by side cannot meet.
//! Where the package is not installed the test says so and ends; the project's own test run
//! installs it, so there a difference always fails.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running redis-server and one connection to it; killed when dropped.
#[derive(Debug)]
pub(crate) struct Oracle {
    server: Child,
    stream: BufReader<UnixStream>,
    _dir: tempfile::TempDir,
}

/// A RESP2 answer.
#[derive(Clone, Eq, PartialEq, Debug)]
pub(crate) enum Answer {
    /// A status, without its `+`.
    Status(String),
    /// An error, without its `-`.
    Error(String),
    /// An integer.
    Integer(i64),
    /// A bulk string or nil.
    Bulk(Option<Vec<u8>>),
    /// An array of bulk strings.
    Array(Vec<Vec<u8>>),
}

impl Answer {
    /// The elements of an array.
    pub(crate) fn into_array(self) -> Vec<Vec<u8>> {
        match self {
            Self::Array(items) => items,
            other => panic!("expected an array, got {other:?}"),
        }
    }
}

impl Oracle {
    /// Starts redis-server with `args` added; None (and a note) if it is not installed.
    pub(crate) fn start(args: &[&str]) -> Option<Self> {
        let dir = tempfile::tempdir().expect("temporary directory");
        let socket = dir.path().join("redis.sock");
        let spawned = Command::new("redis-server")
            .args(args.first().filter(|first| !first.starts_with('-')))
            .args(["--port", "0", "--save", "", "--unixsocket"])
            .arg(&socket)
            .args(args.iter().skip_while(|arg| !arg.starts_with('-')))
            .current_dir(dir.path())
            .stdout(Stdio::null())
            .spawn();
        let Ok(mut server) = spawned else {
            eprintln!("skipped: redis-server is not installed");
            return None;
        };
        let deadline = Instant::now() + Duration::from_secs(20);
        let stream = loop {
            match UnixStream::connect(&socket) {
                Ok(stream) => break stream,
                Err(error) if Instant::now() > deadline => panic!("redis-server: {error}"),
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
            if let Some(status) = server.try_wait().expect("waiting for redis-server") {
                panic!("redis-server ended with {status}");
            }
        };
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("read timeout");
        Some(Self { server, stream: BufReader::new(stream), _dir: dir })
    }

    /// Sends one command and reads its answer.
    pub(crate) fn command(&mut self, words: &[&[u8]]) -> Answer {
        let mut request = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            request.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            request.extend_from_slice(word);
            request.extend_from_slice(b"\r\n");
        }
        self.stream.get_mut().write_all(&request).expect("write to redis-server");
        self.answer()
    }

    fn answer(&mut self) -> Answer {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("read from redis-server");
        let (kind, rest) = line.trim_end().split_at(1);
        match kind {
            "+" => Answer::Status(rest.to_owned()),
            "-" => Answer::Error(rest.to_owned()),
            ":" => Answer::Integer(rest.parse().expect("an integer")),
            "$" => Answer::Bulk(self.bulk(rest)),
            "*" => {
                let count: usize = rest.parse().expect("a count");
                Answer::Array((0..count).map(|_| self.element()).collect())
            }
            _ => panic!("unexpected answer {line:?}"),
        }
    }

    fn element(&mut self) -> Vec<u8> {
        match self.answer() {
            Answer::Bulk(Some(bytes)) => bytes,
            other => panic!("expected a bulk string, got {other:?}"),
        }
    }

    fn bulk(&mut self, length: &str) -> Option<Vec<u8>> {
        let length: i64 = length.parse().expect("a length");
        let mut bytes = vec![0; usize::try_from(length).ok()? + 2];
        self.stream.read_exact(&mut bytes).expect("read from redis-server");
        bytes.truncate(bytes.len() - 2);
        Some(bytes)
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        // It keeps nothing worth a shutdown; an error here means that it has ended already.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Starts redis-server with arguments that it refuses: its exit status (None if it had to be
/// killed, because it takes them) and what it wrote to standard error; None if it is not
/// installed.
pub(crate) fn refusal(args: &[&str]) -> Option<(Option<i32>, String)> {
    let dir = tempfile::tempdir().expect("temporary directory");
    let spawned = Command::new("redis-server")
        .args(args)
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut server) = spawned else {
        eprintln!("skipped: redis-server is not installed");
        return None;
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    let status = loop {
        match server.try_wait().expect("waiting for redis-server") {
            Some(status) => break status.code(),
            None if Instant::now() > deadline => {
                let _ = server.kill();
                let _ = server.wait();
                break None;
            }
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    let mut text = String::new();
    server.stderr.take().expect("piped").read_to_string(&mut text).expect("text");
    Some((status, text))
}
