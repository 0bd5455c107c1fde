//! The slow log: the latest commands that took long, and who sent them. Main thread.
//!
//! Only the run of a command counts, as in Redis: not the time that it waits for the disk, nor that
//! of its reply on the way. Two readings of the clock are a tenth of a short command, so those are
//! looked at that may take long: see [`SlowLog::watches`]. The others are seen once in a while.

use std::collections::VecDeque;
use std::time::Duration;

use crate::command::{Flags, Request};

/// Most arguments that an entry keeps; the last says how many more there were.
const ARGS_MAX: usize = 32;
/// Most bytes of an argument that it keeps, and a word on the rest.
const ARG_BYTES_MAX: usize = 128;
/// More arguments than this may make a command long that is a short one otherwise.
const SHORT_ARGS: usize = 8;
/// Whoever wants to see commands that take less time than this wants to see each of them.
const SHORT_US: i64 = 1000;

/// A command that took long.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Slow {
    /// Counts up from the start of the server; SLOWLOG RESET leaves it.
    pub id: u64,
    /// Unix time when it was over, in seconds.
    pub unix_s: u64,
    /// What it took, in microseconds.
    pub took_us: u64,
    /// Its arguments, the name among them, shortened.
    pub args: Vec<Vec<u8>>,
    /// Where its client is, and what it calls itself.
    pub addr: String,
    pub client: Vec<u8>,
}

/// See the module doc. Keeps nothing until it is told limits.
#[derive(Debug, Default)]
pub(crate) struct SlowLog {
    /// The newest first.
    entries: VecDeque<Slow>,
    next_id: u64,
    /// `slowlog-log-slower-than`, in microseconds; negative: nothing is kept.
    threshold_us: i64,
    /// `slowlog-max-len`.
    entries_max: usize,
}

impl SlowLog {
    /// From now on keeps what takes `threshold_us` or more, the latest `entries_max`. What is there
    /// stays until the next entry.
    pub(crate) fn set_limits(&mut self, threshold_us: i64, entries_max: usize) {
        (self.threshold_us, self.entries_max) = (threshold_us, entries_max);
    }

    /// Whether the run of `request` is to be timed: it may take long, or short ones are wanted too.
    #[inline]
    pub(crate) fn watches(&self, request: &Request<'_>) -> bool {
        let flags = request.command.flags;
        let is_short = flags.has(Flags::FAST) || flags.has(Flags::SHORT);
        !is_short || request.len() > SHORT_ARGS || (0..SHORT_US).contains(&self.threshold_us)
    }

    /// Whether a run that took so long is kept.
    #[inline]
    pub(crate) fn keeps(&self, took: Duration) -> bool {
        u64::try_from(self.threshold_us)
            .is_ok_and(|threshold_us| took >= Duration::from_micros(threshold_us))
    }

    /// Keeps a run of `request`, by the client called `client` at `addr`.
    #[cold]
    pub(crate) fn keep(
        &mut self,
        request: &Request<'_>,
        took: Duration,
        unix_s: u64,
        (addr, client): (&str, &[u8]),
    ) {
        if request.command.flags.has(Flags::SKIP_SLOWLOG) {
            return;
        }
        self.entries.push_front(Slow {
            id: self.next_id,
            unix_s,
            took_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            args: shown(request),
            addr: addr.to_owned(),
            client: client.to_vec(),
        });
        self.next_id += 1;
        self.entries.truncate(self.entries_max);
    }

    /// The entries, the newest first.
    pub(crate) fn entries(&self) -> impl ExactSizeIterator<Item = &Slow> {
        self.entries.iter()
    }

    /// Forgets the entries.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
    }
}

/// The arguments as an entry keeps them.
fn shown(request: &Request<'_>) -> Vec<Vec<u8>> {
    let len = request.len();
    let whole = if len > ARGS_MAX { ARGS_MAX - 1 } else { len };
    let mut args: Vec<Vec<u8>> = (0..whole).map(|at| shown_arg(request, at)).collect();
    if whole < len {
        args.push(format!("... ({} more arguments)", len - whole).into_bytes());
    }
    args
}

fn shown_arg(request: &Request<'_>, at: usize) -> Vec<u8> {
    if is_secret(request, at) {
        return b"(redacted)".to_vec();
    }
    let arg = request.arg(at);
    let Some(rest) = arg.len().checked_sub(ARG_BYTES_MAX).filter(|rest| *rest > 0) else {
        return arg.to_vec();
    };
    let tail = format!("... ({rest} more bytes)");
    [&arg[..ARG_BYTES_MAX], tail.as_bytes()].concat()
}

/// Whether argument `at` is part of what proves the right to use the server.
fn is_secret(request: &Request<'_>, at: usize) -> bool {
    let is = |at: usize, word: &str| request.arg(at).eq_ignore_ascii_case(word.as_bytes());
    match request.command.name {
        "auth" => at >= 1,
        "hello" => (2..at).rev().take(2).any(|before| is(before, "auth")),
        "config|set" => at >= 3 && (is(at - 1, "requirepass") || is(at - 1, "masterauth")),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{OwnedRequest, lookup_request};

    fn log(threshold_us: i64, entries_max: usize) -> SlowLog {
        let mut log = SlowLog::default();
        log.set_limits(threshold_us, entries_max);
        log
    }

    fn request(words: &[&[u8]]) -> OwnedRequest {
        let command = lookup_request(words[0], words.get(1).copied()).expect("a command");
        OwnedRequest::new(command, words.iter().copied(), 0)
    }

    fn line(line: &str) -> OwnedRequest {
        request(&line.split(' ').map(str::as_bytes).collect::<Vec<_>>())
    }

    fn kept(log: &mut SlowLog, request: &OwnedRequest, us: u64) {
        let took = Duration::from_micros(us);
        if log.keeps(took) {
            log.keep(&request.get(), took, 7, ("1.2.3.4:5", b"me"));
        }
    }

    #[test]
    fn the_latest_that_took_long_are_kept() {
        let mut log = log(100, 2);
        for us in [99, 100, 5000, 300] {
            kept(&mut log, &line("sunion a b"), us);
        }
        let seen: Vec<_> = log.entries().map(|entry| (entry.id, entry.took_us)).collect();
        assert_eq!(seen, [(2, 300), (1, 5000)]);
        kept(&mut log, &line("exec"), 5000);
        assert_eq!(log.entries().len(), 2, "its commands are there, one by one");
        log.set_limits(-1, 2);
        kept(&mut log, &line("sunion a b"), 1 << 40);
        assert_eq!(log.entries().next().map(|entry| entry.id), Some(2));
        log.set_limits(0, 1);
        kept(&mut log, &line("sunion a b"), 0);
        assert_eq!(log.entries().map(|entry| entry.id).collect::<Vec<_>>(), [3]);
        log.clear();
        log.set_limits(0, 0);
        kept(&mut log, &line("sunion a b"), 0);
        assert_eq!(log.entries().len(), 0);
    }

    #[test]
    fn what_may_take_long_is_watched() {
        let long = log(10_000, 1);
        let many = "mget a b c d e f g h";
        for (text, watched) in
            [("get a", false), ("set a b", false), ("lrange a 0 -1", true), (many, true)]
        {
            assert_eq!(long.watches(&line(text).get()), watched, "{text}");
        }
        for (threshold_us, watched) in [(-1, false), (0, true), (999, true), (1000, false)] {
            let log = log(threshold_us, 1);
            assert_eq!(log.watches(&line("get a").get()), watched, "{threshold_us}");
        }
    }

    #[test]
    fn entries_are_bounded_and_tell_no_secrets() {
        let text = |request: &OwnedRequest| {
            let args = shown(&request.get());
            args.into_iter().map(|arg| String::from_utf8(arg).expect("text")).collect::<Vec<_>>()
        };
        let long = vec![b'x'; ARG_BYTES_MAX + 5];
        let args = text(&request(&[b"set", &long[..ARG_BYTES_MAX], &long]));
        assert_eq!(args[1].len(), ARG_BYTES_MAX);
        assert!(args[2].ends_with("x... (5 more bytes)"), "{}", args[2]);
        let most = text(&request(&[&b"del"[..]; ARGS_MAX]));
        assert_eq!((most.len(), &*most[ARGS_MAX - 1]), (ARGS_MAX, "del"));
        let more = text(&request(&[&b"del"[..]; ARGS_MAX + 3]));
        assert_eq!((more.len(), &*more[ARGS_MAX - 1]), (ARGS_MAX, "... (4 more arguments)"));
        for (given, shown) in [
            ("auth u p", "auth (redacted) (redacted)"),
            ("hello 3 auth u p setname n", "hello 3 auth (redacted) (redacted) setname n"),
            ("hello 3 setname n AUTH u p", "hello 3 setname n AUTH (redacted) (redacted)"),
            ("config set port 1 requirepass p", "config set port 1 requirepass (redacted)"),
            ("set auth p", "set auth p"),
        ] {
            assert_eq!(text(&line(given)).join(" "), shown);
        }
    }
}
