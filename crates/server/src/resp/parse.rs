//! Incremental request parser: any split of the bytes gives the same commands.
//!
//! Pure; runs on the main thread or on a worker, wherever the connection half is. The caller owns
//! the buffer and appends to it; the parser remembers how far it came and yields arguments as
//! ranges of that buffer, so that nothing is copied (inline words are unescaped in place). Sizes
//! that a peer names are checked before anything is reserved for them, and nothing is reserved
//! here: the buffer grows with the bytes that arrive.
//!
//! Source: the RESP specification; limits and texts as redis-server 7.0.15 answers
//! them, but that it takes more than [`ARGS_MAX`] arguments.

use std::fmt;

use crate::util::quote::split_args;

/// Longest inline command and longest length line, in bytes.
pub const INLINE_MAX: usize = 64 * 1024;
/// Most arguments of one command.
pub const ARGS_MAX: i64 = 1024 * 1024;
/// Most arguments of a command before AUTH.
const ARGS_MAX_UNAUTHENTICATED: i64 = 10;
/// Longest argument before AUTH, in bytes.
const BULK_MAX_UNAUTHENTICATED: i64 = 16 * 1024;

/// One argument: a range of the buffer that was parsed.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Arg {
    /// Offset of the first byte.
    pub start: u32,
    /// Length in bytes.
    pub len: u32,
}

/// Most bytes of unparsed requests that a connection may hold, whatever the configuration says: an
/// [`Arg`] has 32 bits, and so has a request in the journal.
pub const INPUT_MAX: u64 = 3 << 30;

impl Arg {
    /// The bytes, given the buffer.
    #[must_use]
    pub fn of(self, buf: &[u8]) -> &[u8] {
        &buf[self.start as usize..][..self.len as usize]
    }
}

/// Why the connection must be closed.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
#[non_exhaustive]
pub enum ProtocolError {
    /// An inline command longer than [`INLINE_MAX`].
    InlineTooLong,
    /// An inline command with a quote that does not end.
    UnbalancedQuotes,
    /// A `*` line longer than [`INLINE_MAX`].
    ArrayLineTooLong,
    /// A `*` line that is no number or above [`ARGS_MAX`].
    ArrayLength,
    /// More arguments than a client may send before AUTH.
    ArrayLengthUnauthenticated,
    /// A `$` line longer than [`INLINE_MAX`].
    BulkLineTooLong,
    /// Something else where a `$` must be.
    ExpectedBulk(u8),
    /// A `$` line that is no number, negative or above the limit.
    BulkLength,
    /// A longer argument than a client may send before AUTH.
    BulkLengthUnauthenticated,
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Protocol error: ")?;
        f.write_str(match self {
            Self::InlineTooLong => "too big inline request",
            Self::UnbalancedQuotes => "unbalanced quotes in request",
            Self::ArrayLineTooLong => "too big mbulk count string",
            Self::ArrayLength => "invalid multibulk length",
            Self::ArrayLengthUnauthenticated => "unauthenticated multibulk length",
            Self::BulkLineTooLong => "too big bulk count string",
            Self::ExpectedBulk(byte) => {
                return write!(f, "expected '$', got '{}'", char::from(*byte));
            }
            Self::BulkLength => "invalid bulk length",
            Self::BulkLengthUnauthenticated => "unauthenticated bulk length",
        })
    }
}

impl std::error::Error for ProtocolError {}

/// Limits that depend on configuration and on the client.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Limits {
    /// Longest argument, in bytes (`proto-max-bulk-len`).
    pub bulk_max: i64,
    /// Whether the client has authenticated, or need not.
    pub authenticated: bool,
}

/// Progress inside the command that is being received.
#[derive(Debug, Default)]
pub struct Parser {
    /// Offset of the first byte not yet consumed.
    pos: usize,
    /// Arguments of the current array still to come; 0 between commands.
    args_left: i64,
    /// Length of the argument being received, once its `$` line was read.
    bulk_len: Option<usize>,
    /// Where to look on for the end of a line, so that slow senders do not cost quadratic time.
    searched: usize,
}

impl Parser {
    /// Offset of the first byte not yet consumed.
    #[must_use]
    pub fn position(&self) -> usize {
        self.pos
    }

    /// Whether no command is half received (bytes of one may still lie in the buffer unread).
    #[must_use]
    pub fn is_between_commands(&self) -> bool {
        self.args_left == 0
    }

    /// Bytes the buffer must still get for the argument being received; 0 if unknown.
    #[must_use]
    pub fn wanted(&self, buf: &[u8]) -> usize {
        self.bulk_len.map_or(0, |len| (self.pos + len + 2).saturating_sub(buf.len()))
    }

    /// Tells the parser that the first `count` bytes of the buffer were removed.
    ///
    /// # Panics
    /// If bytes not yet consumed would be removed.
    pub fn shift(&mut self, count: usize) {
        assert!(count <= self.pos, "only consumed bytes are removed");
        self.pos -= count;
        self.searched = self.searched.saturating_sub(count);
    }

    /// Receives the next command: pushes its arguments onto `args` (after those that are there)
    /// and returns `true`, or returns `false` when more bytes are needed; the arguments of a
    /// command half received are then on `args` and must be left there for the next call.
    ///
    /// An empty array or line is skipped, as Redis does.
    ///
    /// # Errors
    /// The bytes are not RESP, or a limit is passed: the connection must be closed.
    pub fn next(
        &mut self,
        buf: &mut [u8],
        limits: Limits,
        args: &mut Vec<Arg>,
    ) -> Result<bool, ProtocolError> {
        loop {
            if self.args_left > 0 {
                return self.bulks(buf, limits, args);
            }
            let Some(&first) = buf.get(self.pos) else { return Ok(false) };
            if first != b'*' {
                match self.inline(buf, args)? {
                    None => return Ok(false),
                    Some(0) => continue,
                    Some(_) => return Ok(true),
                }
            }
            let Some(count) = self.array_line(buf)? else { return Ok(false) };
            if count > ARGS_MAX_UNAUTHENTICATED && !limits.authenticated {
                return Err(ProtocolError::ArrayLengthUnauthenticated);
            }
            self.args_left = count.max(0);
        }
    }

    fn array_line(&mut self, buf: &[u8]) -> Result<Option<i64>, ProtocolError> {
        if let Some(count) = self.short_line(buf, b'*', ARGS_MAX) {
            return Ok(Some(count));
        }
        let Some(line) = self.line(buf, ProtocolError::ArrayLineTooLong)? else { return Ok(None) };
        let count = parse_len(&buf[line.0 + 1..line.1]).filter(|count| *count <= ARGS_MAX);
        count.ok_or(ProtocolError::ArrayLength).map(Some)
    }

    /// Receives the arguments of an array.
    fn bulks(
        &mut self,
        buf: &[u8],
        limits: Limits,
        args: &mut Vec<Arg>,
    ) -> Result<bool, ProtocolError> {
        while self.args_left > 0 {
            let len = match self.bulk_len {
                Some(len) => len,
                None => match self.bulk_line(buf, limits)? {
                    Some(len) => len,
                    None => return Ok(false),
                },
            };
            if buf.len() - self.pos < len + 2 {
                self.bulk_len = Some(len);
                return Ok(false);
            }
            args.push(arg(self.pos, len));
            self.pos += len + 2;
            self.bulk_len = None;
            self.args_left -= 1;
        }
        Ok(true)
    }

    fn bulk_line(&mut self, buf: &[u8], limits: Limits) -> Result<Option<usize>, ProtocolError> {
        if let Some(len) = self.short_line(buf, b'$', limits.bulk_max) {
            return Ok(Some(len as usize));
        }
        let Some(line) = self.line(buf, ProtocolError::BulkLineTooLong)? else { return Ok(None) };
        if buf[line.0] != b'$' {
            return Err(ProtocolError::ExpectedBulk(buf[line.0]));
        }
        let len = parse_len(&buf[line.0 + 1..line.1]).ok_or(ProtocolError::BulkLength)?;
        if len < 0 || len > limits.bulk_max {
            return Err(ProtocolError::BulkLength);
        }
        if len > BULK_MAX_UNAUTHENTICATED && !limits.authenticated {
            return Err(ProtocolError::BulkLengthUnauthenticated);
        }
        Ok(Some(len as usize))
    }

    /// Consumes one of the commonest lines, `marker` and one to three digits, without a search;
    /// returns the number if it is at most `most`.
    fn short_line(&mut self, buf: &[u8], marker: u8, most: i64) -> Option<i64> {
        let (digits, value) = short_number(&buf[self.pos..], marker)?;
        (value <= most).then(|| {
            self.pos += digits + 3;
            self.searched = self.pos;
            value
        })
    }

    /// Consumes a line that ends in CR and one more byte; returns its range without them.
    fn line(
        &mut self,
        buf: &[u8],
        too_long: ProtocolError,
    ) -> Result<Option<(usize, usize)>, ProtocolError> {
        let from = self.searched.max(self.pos);
        let end = match find_end(b'\r', buf, from) {
            Ok(end) => end,
            Err(searched) => {
                self.searched = searched;
                return if buf.len() - self.pos > INLINE_MAX { Err(too_long) } else { Ok(None) };
            }
        };
        if end + 2 > buf.len() {
            self.searched = end;
            return Ok(None);
        }
        let start = self.pos;
        self.pos = end + 2;
        self.searched = self.pos;
        Ok(Some((start, end)))
    }

    /// Receives an inline command. `Some(n)`: a line with `n` arguments was consumed.
    fn inline(
        &mut self,
        buf: &mut [u8],
        args: &mut Vec<Arg>,
    ) -> Result<Option<usize>, ProtocolError> {
        let from = self.searched.max(self.pos);
        let (start, mut end) = match find_end(b'\n', buf, from) {
            Ok(end) => (self.pos, end),
            Err(searched) => {
                self.searched = searched;
                let too_long = buf.len() - self.pos > INLINE_MAX;
                return if too_long { Err(ProtocolError::InlineTooLong) } else { Ok(None) };
            }
        };
        self.pos = end + 1;
        self.searched = self.pos;
        if end > start && buf[end - 1] == b'\r' {
            end -= 1;
        }
        split_line(buf, start, end, args).ok_or(ProtocolError::UnbalancedQuotes).map(Some)
    }
}

/// Finds the byte that ends a line, or tells where to look on when there are more bytes. As in
/// Redis, where a line is a C string, a line with a NUL byte in it never ends.
fn find_end(end: u8, buf: &[u8], from: usize) -> Result<usize, usize> {
    match memchr::memchr2(end, 0, &buf[from..]) {
        Some(at) if buf[from + at] == end => Ok(from + at),
        Some(nul) => Err(from + nul),
        None => Err(buf.len()),
    }
}

fn arg(start: usize, len: usize) -> Arg {
    // `INPUT_MAX` keeps both below 4 GiB.
    Arg { start: start as u32, len: len as u32 }
}

/// `marker`, one to three digits, CR and any byte: number of digits and value.
fn short_number(rest: &[u8], marker: u8) -> Option<(usize, i64)> {
    let line = rest.strip_prefix(&[marker])?;
    let (mut value, mut digits) = (0i64, 0);
    while digits < 3 && line.get(digits).is_some_and(u8::is_ascii_digit) {
        value = value * 10 + i64::from(line[digits] - b'0');
        digits += 1;
    }
    let leading_zero = digits > 1 && line[0] == b'0';
    let ends = digits > 0 && line.get(digits) == Some(&b'\r') && line.len() > digits + 1;
    (ends && !leading_zero).then_some((digits, value))
}

/// Parses a length as Redis's `string2ll` does: no plus, no spaces, no leading zeros.
fn parse_len(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] => {}
        _ => return None,
    }
    let mut value = 0i64;
    for byte in digits {
        let digit = byte.is_ascii_digit().then(|| i64::from(byte - b'0'))?;
        value = value.checked_mul(10)?.checked_sub(digit)?;
    }
    if negative { Some(value) } else { value.checked_neg() }
}

/// Splits an inline line into words, as redis-cli quotes them. Words are never longer than their
/// source, so they are written back over it and stay ranges of the buffer. `None`: unbalanced
/// quotes.
fn split_line(buf: &mut [u8], start: usize, end: usize, args: &mut Vec<Arg>) -> Option<usize> {
    let words = split_args(&buf[start..end]).ok()?;
    let mut at = start;
    for word in &words {
        buf[at..at + word.len()].copy_from_slice(word);
        args.push(arg(at, word.len()));
        at += word.len();
    }
    Some(words.len())
}

#[cfg(test)]
mod tests;
