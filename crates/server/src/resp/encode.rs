//! Reply encoder for RESP2 and RESP3, and the buffer that replies are collected in.
//!
//! Pure; the buffer belongs to the connection half and travels with it. Long strings are shared,
//! not copied: the buffer notes where in the stream they belong and the writer gathers them.
//! Knows no error texts: those are the commands'.
//!
//! Source: the RESP3 specification; RESP2 forms as redis-server 7.0.15 sends them.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::num::NonZeroUsize;
use std::sync::Arc;

use crate::util::prefetch::prefetch_first;

/// Protocol version of a connection.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Debug, Default)]
pub enum Proto {
    /// RESP2, until HELLO says otherwise.
    #[default]
    Resp2,
    /// RESP3.
    Resp3,
}

/// Strings at least this long are shared with the writer instead of copied into the buffer.
pub const SHARE_MIN: usize = 16 * 1024;

/// Less than this of what was sent is not worth moving the rest for.
const DROP_MIN: usize = 64 * 1024;

/// Bytes waiting to be sent to one client, in order.
///
/// With a limit, strings that would exceed it are left out and noted as such: who has replies
/// that large is to be closed, so they need not be built.
#[derive(Debug, Default)]
pub struct Output {
    /// Copied bytes.
    bytes: Vec<u8>,
    /// Bytes of `bytes` already sent.
    sent: usize,
    /// Shared strings and the offset in `bytes` that each goes in front of, ascending.
    shared: VecDeque<(usize, Arc<Vec<u8>>)>,
    /// Bytes of the first shared string already sent.
    shared_sent: usize,
    /// Bytes of all shared strings not yet sent.
    shared_len: usize,
    /// With this many bytes waiting there are too many.
    limit: Option<NonZeroUsize>,
    is_cut: bool,
}

/// A place in an [`Output`]; good until something is sent.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Mark {
    bytes: usize,
    shared: usize,
}

impl Output {
    /// Bytes still to be sent.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len() - self.sent + self.shared_len
    }

    /// Whether everything was sent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.len() == self.sent && self.shared.is_empty()
    }

    /// Bytes of memory held, sent or not, shared strings counted in full.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.bytes.capacity() + self.shared_len
    }

    /// The bytes, if none are shared: what nearly every reply is.
    #[must_use]
    pub fn plain(&self) -> Option<&[u8]> {
        self.shared.is_empty().then(|| &self.bytes[self.sent..])
    }

    /// Fills `slices` with what comes next, of up to `bytes_max` bytes; returns how many were set.
    pub fn gather<'a>(&'a self, bytes_max: usize, slices: &mut [IoSlice<'a>]) -> usize {
        let (mut count, mut left) = (0, bytes_max);
        let mut at = self.sent;
        let mut skip = self.shared_sent;
        let mut push = |part: &'a [u8]| {
            let part = &part[..part.len().min(left)];
            if !part.is_empty() && count < slices.len() {
                left -= part.len();
                slices[count] = IoSlice::new(part);
                count += 1;
            }
        };
        for (offset, string) in &self.shared {
            push(&self.bytes[at..*offset]);
            push(&string[skip..]);
            at = *offset;
            skip = 0;
        }
        push(&self.bytes[at..]);
        count
    }

    /// Notes that `count` bytes were sent.
    ///
    /// # Panics
    /// If more is noted than was there.
    pub fn consume(&mut self, mut count: usize) {
        assert!(count <= self.len(), "no more can be sent than there is");
        while let Some((offset, string)) = self.shared.front() {
            let plain = (*offset - self.sent).min(count);
            self.sent += plain;
            count -= plain;
            if count == 0 {
                break;
            }
            let part = (string.len() - self.shared_sent).min(count);
            count -= part;
            self.shared_sent += part;
            self.shared_len -= part;
            if self.shared_sent == string.len() {
                self.shared_sent = 0;
                self.shared.pop_front();
            }
        }
        self.sent += count;
        self.drop_sent();
    }

    /// Gives up what was sent, once that is at least as much as what is left and so pays for moving
    /// it: the buffer of a peer that never quite catches up has an end, too.
    fn drop_sent(&mut self) {
        if self.is_empty() {
            self.bytes.clear();
            self.sent = 0;
            return;
        }
        let left = self.bytes.len() - self.sent;
        if self.sent < DROP_MIN || self.sent < left {
            return;
        }
        self.bytes.drain(..self.sent);
        for (offset, _) in &mut self.shared {
            *offset -= self.sent;
        }
        self.sent = 0;
    }

    /// Asks for the line that the next reply goes to.
    pub(crate) fn prefetch(&self) {
        prefetch_first(&self.bytes);
    }

    /// Drops what was sent and gives back memory that a burst took.
    pub fn shrink(&mut self, keep: usize) {
        if self.is_empty() && self.bytes.capacity() > keep {
            self.bytes = Vec::new();
        }
    }

    /// A mark to return to with [`Output::truncate`].
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark { bytes: self.bytes.len(), shared: self.shared.len() }
    }

    /// Takes back what was added since `mark`; nothing of it may have been sent.
    pub fn truncate(&mut self, Mark { bytes, shared }: Mark) {
        debug_assert!(bytes >= self.sent, "what was sent cannot be taken back");
        self.bytes.truncate(bytes);
        for (_, string) in self.shared.drain(shared..) {
            self.shared_len -= string.len();
        }
    }

    /// From now on strings with which so many bytes or more would wait are left out.
    #[inline]
    pub fn set_limit(&mut self, limit: Option<NonZeroUsize>) {
        self.limit = limit;
    }

    /// Whether a string was left out: what is in here must not be sent.
    #[must_use]
    #[inline]
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Whether a string of so many bytes may be added; notes it if not.
    #[inline]
    fn admits(&mut self, len_bytes: usize) -> bool {
        let Some(limit) = self.limit else { return true };
        self.is_cut |= self.len().saturating_add(len_bytes) >= limit.get();
        !self.is_cut
    }

    /// Adds bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Adds a message, in the form of the version.
    pub fn message(&mut self, message: &Message, proto: Proto) {
        self.bytes.push(if proto == Proto::Resp3 { b'>' } else { b'*' });
        if message.0.len() < SHARE_MIN {
            self.bytes.extend_from_slice(&message.0);
        } else {
            self.share(Arc::clone(&message.0));
        }
    }

    /// Moves everything here from another buffer, of which nothing was sent.
    pub fn append(&mut self, other: &mut Self) {
        debug_assert!(other.sent == 0 && other.shared_sent == 0, "nothing of it was sent");
        let offset = self.bytes.len();
        self.bytes.append(&mut other.bytes);
        self.shared.extend(other.shared.drain(..).map(|(at, string)| (offset + at, string)));
        self.shared_len += std::mem::take(&mut other.shared_len);
    }

    fn share(&mut self, string: Arc<Vec<u8>>) {
        self.shared_len += string.len();
        self.shared.push_back((self.bytes.len(), string));
    }
}

/// A message to any number of clients, encoded once: all but its first byte, which tells the
/// versions apart. What is long is shared by their buffers.
#[derive(Debug)]
pub struct Message(Arc<Vec<u8>>);

impl Message {
    /// A message of these strings.
    #[must_use]
    pub fn new(words: &[&[u8]]) -> Self {
        const HEAD_MAX: usize = 24;
        let bytes: usize = words.iter().map(|word| word.len() + HEAD_MAX).sum();
        let mut out = Output { bytes: Vec::with_capacity(HEAD_MAX + bytes), ..Output::default() };
        out.raw(itoa::Buffer::new().format(words.len()).as_bytes());
        out.raw(b"\r\n");
        let mut reply = Reply::new(&mut out, Proto::Resp3);
        words.iter().for_each(|word| reply.bulk(word));
        Self(Arc::new(out.bytes))
    }
}

/// Writes one reply; the protocol version decides the form.
#[derive(Debug)]
pub struct Reply<'a> {
    out: &'a mut Output,
    /// The version of the connection the reply goes to.
    pub proto: Proto,
}

impl<'a> Reply<'a> {
    /// A writer at the end of `out`.
    pub fn new(out: &'a mut Output, proto: Proto) -> Self {
        Self { out, proto }
    }

    /// The buffer.
    pub fn output(&mut self) -> &mut Output {
        self.out
    }

    fn resp3(&self) -> bool {
        self.proto == Proto::Resp3
    }

    #[inline(always)]
    fn line(&mut self, kind: u8, number: i64) {
        // Most numbers are small. Bytes of a known length are stored, those of another cost a call.
        let Some(small) = u16::try_from(number).ok().filter(|small| *small < 1000) else {
            return self.long_line(kind, number);
        };
        let bytes = &mut self.out.bytes;
        let [c, d, u] = [small / 100, small / 10 % 10, small % 10].map(|digit| b'0' + digit as u8);
        match small {
            0..10 => bytes.extend_from_slice(&[kind, u, b'\r', b'\n']),
            10..100 => bytes.extend_from_slice(&[kind, d, u, b'\r', b'\n']),
            _ => bytes.extend_from_slice(&[kind, c, d, u, b'\r', b'\n']),
        }
    }

    #[cold]
    fn long_line(&mut self, kind: u8, number: i64) {
        let mut digits = itoa::Buffer::new();
        let bytes = &mut self.out.bytes;
        bytes.push(kind);
        bytes.extend_from_slice(digits.format(number).as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }

    fn text(&mut self, kind: u8, text: &[u8]) {
        let bytes = &mut self.out.bytes;
        bytes.push(kind);
        bytes.extend_from_slice(text);
        bytes.extend_from_slice(b"\r\n");
    }

    /// `+OK`.
    pub fn ok(&mut self) {
        self.out.bytes.extend_from_slice(b"+OK\r\n");
    }

    /// A status; must not contain line ends.
    pub fn simple(&mut self, text: &str) {
        debug_assert!(!text.contains(['\r', '\n']), "a status is one line");
        self.text(b'+', text.as_bytes());
    }

    /// An error line without its `-`. Line ends become spaces: they would desynchronise a client.
    pub fn error(&mut self, text: &[u8]) {
        let start = self.out.bytes.len() + 1;
        self.text(b'-', text);
        let end = self.out.bytes.len() - 2;
        for byte in &mut self.out.bytes[start..end] {
            if matches!(byte, b'\r' | b'\n') {
                *byte = b' ';
            }
        }
    }

    /// A number.
    pub fn int(&mut self, number: i64) {
        self.line(b':', number);
    }

    /// A count.
    ///
    /// # Panics
    /// Never: nothing in memory counts past `i64::MAX`.
    pub fn count(&mut self, count: usize) {
        self.int(i64::try_from(count).expect("a count of things in memory"));
    }

    /// A string.
    pub fn bulk(&mut self, string: &[u8]) {
        if !self.out.admits(string.len()) {
            return;
        }
        self.line(b'$', string.len() as i64);
        self.out.bytes.extend_from_slice(string);
        self.out.bytes.extend_from_slice(b"\r\n");
    }

    /// A string that the writer may share instead of copying.
    pub fn bulk_shared(&mut self, string: &Arc<Vec<u8>>) {
        if string.len() < SHARE_MIN {
            return self.bulk(string);
        }
        if !self.out.admits(string.len()) {
            return;
        }
        self.line(b'$', string.len() as i64);
        self.out.share(Arc::clone(string));
        self.out.bytes.extend_from_slice(b"\r\n");
    }

    /// A number as a string.
    pub fn bulk_int(&mut self, number: i64) {
        let mut digits = itoa::Buffer::new();
        self.bulk(digits.format(number).as_bytes());
    }

    /// No value: `_` or the null string of RESP2.
    pub fn null(&mut self) {
        self.out.bytes.extend_from_slice(if self.resp3() { b"_\r\n" } else { b"$-1\r\n" });
    }

    /// No array: `_` or the null array of RESP2.
    pub fn null_array(&mut self) {
        self.out.bytes.extend_from_slice(if self.resp3() { b"_\r\n" } else { b"*-1\r\n" });
    }

    /// The head of an array of `len` replies.
    pub fn array(&mut self, len: usize) {
        self.line(b'*', len as i64);
    }

    /// The head of a map of `len` pairs; in RESP2 an array of twice as many.
    pub fn map(&mut self, len: usize) {
        if self.resp3() { self.line(b'%', len as i64) } else { self.line(b'*', 2 * len as i64) }
    }

    /// The head of a set.
    pub fn set(&mut self, len: usize) {
        self.line(if self.resp3() { b'~' } else { b'*' }, len as i64);
    }

    /// The head of an out-of-band message.
    pub fn push(&mut self, len: usize) {
        self.line(if self.resp3() { b'>' } else { b'*' }, len as i64);
    }

    /// A truth value; 1 or 0 in RESP2.
    pub fn bool(&mut self, value: bool) {
        if self.resp3() {
            self.out.bytes.extend_from_slice(if value { b"#t\r\n" } else { b"#f\r\n" });
        } else {
            self.int(i64::from(value));
        }
    }

    /// A floating-point number, formatted by the caller; a string in RESP2.
    pub fn double(&mut self, text: &[u8]) {
        if self.resp3() { self.text(b',', text) } else { self.bulk(text) }
    }

    /// A text for people; a plain string in RESP2.
    pub fn verbatim(&mut self, text: &[u8]) {
        if !self.resp3() {
            return self.bulk(text);
        }
        self.line(b'=', text.len() as i64 + 4);
        self.out.bytes.extend_from_slice(b"txt:");
        self.out.bytes.extend_from_slice(text);
        self.out.bytes.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(proto: Proto, f: impl Fn(&mut Reply<'_>)) -> String {
        let mut out = Output::default();
        f(&mut Reply::new(&mut out, proto));
        String::from_utf8(out.plain().expect("nothing shared").to_vec()).expect("ASCII")
    }

    #[test]
    fn forms_of_both_versions() {
        type Case = (fn(&mut Reply<'_>), &'static str, &'static str);
        let cases: &[Case] = &[
            (|r| r.ok(), "+OK\r\n", "+OK\r\n"),
            (|r| r.int(i64::MIN), ":-9223372036854775808\r\n", ":-9223372036854775808\r\n"),
            (|r| r.int(-7), ":-7\r\n", ":-7\r\n"),
            (|r| r.int(9), ":9\r\n", ":9\r\n"),
            (|r| r.int(10), ":10\r\n", ":10\r\n"),
            (|r| r.int(99), ":99\r\n", ":99\r\n"),
            (|r| r.int(105), ":105\r\n", ":105\r\n"),
            (|r| r.int(999), ":999\r\n", ":999\r\n"),
            (|r| r.int(1000), ":1000\r\n", ":1000\r\n"),
            (|r| r.int(65_546), ":65546\r\n", ":65546\r\n"),
            (|r| r.bulk(b""), "$0\r\n\r\n", "$0\r\n\r\n"),
            (|r| r.null(), "$-1\r\n", "_\r\n"),
            (|r| r.null_array(), "*-1\r\n", "_\r\n"),
            (|r| r.map(2), "*4\r\n", "%2\r\n"),
            (|r| r.set(2), "*2\r\n", "~2\r\n"),
            (|r| r.push(2), "*2\r\n", ">2\r\n"),
            (|r| r.bool(true), ":1\r\n", "#t\r\n"),
            (|r| r.double(b"1.5"), "$3\r\n1.5\r\n", ",1.5\r\n"),
            (|r| r.verbatim(b"hi"), "$2\r\nhi\r\n", "=6\r\ntxt:hi\r\n"),
            (|r| r.error(b"ERR a\r\nb"), "-ERR a  b\r\n", "-ERR a  b\r\n"),
        ];
        for (f, two, three) in cases {
            assert_eq!(written(Proto::Resp2, f), *two);
            assert_eq!(written(Proto::Resp3, f), *three);
        }
    }

    /// A message is what a reply of the same strings would be, short or long, and so is what was
    /// moved from another buffer behind it.
    #[test]
    fn a_message_is_encoded_once_for_both_versions_and_any_buffer() {
        for len in [0, 10, SHARE_MIN, 3 * SHARE_MIN] {
            let text = vec![b'x'; len];
            let message = Message::new(&[b"message", b"channel", &text]);
            for proto in [Proto::Resp2, Proto::Resp3] {
                let (mut out, mut other) = (Output::default(), Output::default());
                let mut want = Vec::new();
                for part in 0..4 {
                    let to = if part < 2 { &mut out } else { &mut other };
                    to.message(&message, proto);
                    to.raw(b"+between\r\n");
                    let mut reply = Output::default();
                    let mut writer = Reply::new(&mut reply, proto);
                    writer.push(3);
                    [&b"message"[..], b"channel", &text].iter().for_each(|word| writer.bulk(word));
                    want.extend(reply.plain().expect("copied"));
                    want.extend(b"+between\r\n");
                }
                out.append(&mut other);
                assert_eq!((other.len(), other.is_empty()), (0, true));
                assert_eq!(out.len(), want.len());
                let mut slices = [IoSlice::new(&[]); 16];
                let count = out.gather(usize::MAX, &mut slices);
                assert!(
                    slices[..count].iter().flat_map(|part| part.to_vec()).eq(want.iter().copied()),
                    "{len} bytes"
                );
                out.consume(want.len());
                assert_eq!((out.len(), out.is_empty()), (0, true));
            }
        }
    }

    /// What is left out would have exceeded the limit, and nothing follows it.
    #[test]
    fn too_long_a_reply_is_not_built() {
        let limit = 3 * SHARE_MIN;
        for len in [10, 1000, SHARE_MIN, 2 * limit] {
            let string = Arc::new(vec![b'x'; len]);
            let (mut out, mut free) = (Output::default(), Output::default());
            out.set_limit(NonZeroUsize::new(limit));
            while free.len() < limit {
                assert!(!out.is_cut() && out.len() == free.len(), "{} bytes are few", out.len());
                for out in [&mut out, &mut free] {
                    Reply::new(out, Proto::Resp2).bulk_shared(&string);
                }
            }
            for _ in 0..10 {
                Reply::new(&mut out, Proto::Resp2).bulk(b"");
                Reply::new(&mut out, Proto::Resp2).bulk_shared(&string);
            }
            assert!(out.is_cut() && out.len() <= limit, "{len}: {} bytes", out.len());
        }
    }

    /// A peer that reads all the time, but never all there is, costs what waits for it and no more.
    #[test]
    fn what_was_sent_takes_no_memory() {
        const WAITING: usize = 100_000;
        let string = vec![b'x'; 10_000];
        let mut out = Output::default();
        for _ in 0..10_000 {
            while out.len() < WAITING {
                Reply::new(&mut out, Proto::Resp2).bulk(&string);
            }
            out.consume(WAITING - 1);
        }
        let most = 4 * (WAITING + DROP_MIN);
        assert!(out.memory_bytes() < most, "{} bytes", out.memory_bytes());
    }

    proptest! {
        #[test]
        fn shared_strings_come_out_in_order_whatever_the_writes(
            sizes in prop::collection::vec(
                prop_oneof![0usize..50, SHARE_MIN - 50..SHARE_MIN, SHARE_MIN..SHARE_MIN + 50],
                0..20,
            ),
            writes in prop::collection::vec(1usize..40_000, 0..40),
        ) {
            let (mut out, mut expected) = (Output::default(), Vec::new());
            for (i, size) in sizes.iter().enumerate() {
                let string = Arc::new(vec![i as u8; *size]);
                Reply::new(&mut out, Proto::Resp2).bulk_shared(&string);
                expected.extend_from_slice(format!("${size}\r\n").as_bytes());
                expected.extend_from_slice(&string);
                expected.extend_from_slice(b"\r\n");
            }
            let mark = out.mark();
            Reply::new(&mut out, Proto::Resp2).bulk_shared(&Arc::new(vec![9; SHARE_MIN]));
            out.truncate(mark);
            let mut got = Vec::new();
            let mut writes = writes.into_iter();
            while !out.is_empty() {
                prop_assert_eq!(out.len(), expected.len() - got.len());
                let mut slices = [IoSlice::new(&[]); 3];
                let bytes_max = writes.next().unwrap_or(usize::MAX);
                let count = out.gather(bytes_max, &mut slices);
                let all: Vec<u8> = slices[..count].iter().flat_map(|s| s.to_vec()).collect();
                prop_assert!(!all.is_empty() && all.len() <= bytes_max);
                let n = writes.next().unwrap_or(usize::MAX).min(all.len());
                got.extend_from_slice(&all[..n]);
                out.consume(n);
            }
            prop_assert_eq!(got, expected);
        }
    }
}
