//! The log of the server: one line an event, in the form Redis writes. Any thread.
//!
//! ```text
//! 4711:M 21 Nov 2026 09:11:39.369 * Ready to accept connections tcp 127.0.0.1:6379
//! ```
//!
//! Process id, role (`M`: there are no children and no replicas), local time, level (`.` debug,
//! `-` verbose, `*` notice, `#` warning), message. People grep for these forms, and scripts wait
//! for `Ready to accept connections`.
//!
//! The log file is opened, appended to and closed for every line. That costs some microseconds on
//! events that happen a few times a minute, and buys that log rotation needs no signal: rename
//! the file, and the next line starts a new one. Nothing logs per request. A line is written by
//! one call, so lines of several threads never mix; a message cannot start a line of its own,
//! because control characters are replaced.
//!
//! A line that cannot be written is lost: the server has no better place to complain, and must
//! not stop for it. Source: `serverLogRaw` of redis-server 7.0.15.

use std::fmt::{self, Write as _};
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

/// Longest message that is written, in bytes; the rest is cut off. As in Redis.
const MESSAGE_LEN_MAX: usize = 1024;

/// How important a line is, least first.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Debug)]
pub enum Level {
    /// For developers.
    Debug,
    /// Rarely useful, but not a mess.
    Verbose,
    /// What an operator wants to know in production.
    Notice,
    /// What an operator must know.
    Warning,
}

impl Level {
    /// All levels in their order.
    pub(crate) const ALL: [Self; 4] = [Self::Debug, Self::Verbose, Self::Notice, Self::Warning];

    /// The names of [`Self::ALL`] in `loglevel`.
    pub(crate) const NAMES: &[&str] = &["debug", "verbose", "notice", "warning"];

    const fn mark(self) -> char {
        match self {
            Self::Debug => '.',
            Self::Verbose => '-',
            Self::Notice => '*',
            Self::Warning => '#',
        }
    }

    const fn rank(self) -> u8 {
        match self {
            Self::Debug => 0,
            Self::Verbose => 1,
            Self::Notice => 2,
            Self::Warning => 3,
        }
    }
}

/// Handle of the log; clones write to the same place and share the level.
///
/// Any thread; a line that is written may block on the file system, a line below the level costs
/// one relaxed load.
///
/// # Examples
/// ```
/// use flintlock_server::log::{Level, Log};
///
/// let log = Log::new(Level::Notice, None);
/// log.debug(format_args!("not written, and not even formatted"));
/// log.set_level(Level::Debug);
/// assert!(log.is_enabled(Level::Debug));
/// ```
#[derive(Clone, Debug)]
pub struct Log(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Rank of the lowest level that is written.
    level: AtomicU8,
    /// None: standard output.
    file: Option<PathBuf>,
    /// Looked up once, like the time zone of a C program: no file access for the clock later.
    zone: TimeZone,
    process_id: u32,
}

impl Log {
    /// A log that writes lines of `level` and above to `file`, or to standard output.
    ///
    /// The file is not touched before the first line; whether it can be written is found out
    /// when the configuration is loaded.
    #[must_use]
    pub fn new(level: Level, file: Option<PathBuf>) -> Self {
        Self(Arc::new(Shared {
            level: AtomicU8::new(level.rank()),
            file,
            zone: TimeZone::system(),
            process_id: std::process::id(),
        }))
    }

    /// Changes the level for all clones.
    pub fn set_level(&self, level: Level) {
        self.0.level.store(level.rank(), Ordering::Relaxed);
    }

    /// Whether lines of `level` are written: ask before work that only serves a line.
    #[must_use]
    pub fn is_enabled(&self, level: Level) -> bool {
        level.rank() >= self.0.level.load(Ordering::Relaxed)
    }

    /// Writes a line for developers.
    pub fn debug(&self, message: fmt::Arguments<'_>) {
        self.write(Level::Debug, message);
    }

    /// Writes a line that is rarely useful.
    pub fn verbose(&self, message: fmt::Arguments<'_>) {
        self.write(Level::Verbose, message);
    }

    /// Writes a line that an operator wants to see.
    pub fn notice(&self, message: fmt::Arguments<'_>) {
        self.write(Level::Notice, message);
    }

    /// Writes a line that an operator must see.
    pub fn warning(&self, message: fmt::Arguments<'_>) {
        self.write(Level::Warning, message);
    }

    /// Writes the line that says that `address` is served: scripts wait for its first words, and
    /// read the port from it when they asked for a free one.
    pub fn ready(&self, address: SocketAddr) {
        self.notice(format_args!("Ready to accept connections tcp {address}"));
    }

    fn write(&self, level: Level, message: fmt::Arguments<'_>) {
        if !self.is_enabled(level) {
            return;
        }
        let now = Timestamp::now().to_zoned(self.0.zone.clone());
        let line = line(self.0.process_id, &now, level, &message.to_string());
        // See the module head: a line that cannot be written is lost.
        let _ = self.append(line.as_bytes());
    }

    fn append(&self, line: &[u8]) -> io::Result<()> {
        match &self.0.file {
            Some(path) => OpenOptions::new().append(true).create(true).open(path)?.write_all(line),
            None => {
                let mut out = io::stdout().lock();
                out.write_all(line)?;
                out.flush()
            }
        }
    }
}

/// One whole line, its end included.
fn line(process_id: u32, now: &Zoned, level: Level, message: &str) -> String {
    let mut out = String::with_capacity(64 + message.len().min(MESSAGE_LEN_MAX));
    let time = now.strftime("%d %b %Y %H:%M:%S.%3f");
    write!(out, "{process_id}:M {time} {} ", level.mark()).expect("a String takes everything");
    let end = message.floor_char_boundary(MESSAGE_LEN_MAX);
    out.extend(message[..end].chars().map(|c| if c.is_control() { ' ' } else { c }));
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn at(millis: i64, zone: &str) -> Zoned {
        let zone = TimeZone::posix(zone).expect("a POSIX time zone");
        Timestamp::from_millisecond(millis).expect("a time").to_zoned(zone)
    }

    #[test]
    fn a_line_has_the_form_of_redis() {
        let cases = [
            (0, "UTC0", Level::Warning, "x", "7:M 01 Jan 1970 00:00:00.000 # x\n"),
            (
                1_795_252_299_369,
                "UTC0",
                Level::Notice,
                "Ready",
                "7:M 21 Nov 2026 09:11:39.369 * Ready\n",
            ),
            (
                1_795_252_299_369,
                "EST5EDT,M3.2.0,M11.1.0",
                Level::Verbose,
                "two\nlines\r\x1b[1m",
                "7:M 21 Nov 2026 04:11:39.369 - two lines  [1m\n",
            ),
            (
                1_782_000_000_007,
                "EST5EDT,M3.2.0,M11.1.0",
                Level::Debug,
                "",
                "7:M 20 Jun 2026 20:00:00.007 . \n",
            ),
        ];
        for (millis, zone, level, message, expected) in cases {
            assert_eq!(line(7, &at(millis, zone), level, message), expected);
        }
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let message = format!("a{}", "\u{e9}".repeat(2000));
        let line = line(7, &at(0, "UTC0"), Level::Notice, &message);
        let text = line.strip_prefix("7:M 01 Jan 1970 00:00:00.000 * ").expect("the head");
        assert_eq!(text.trim_end().len(), MESSAGE_LEN_MAX - 1);
    }

    #[test]
    fn lines_below_the_level_are_not_written() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("log");
        let log = Log::new(Level::Notice, Some(path.clone()));
        for level in Level::ALL {
            log.set_level(level);
            let enabled: Vec<_> = Level::ALL.into_iter().filter(|l| log.is_enabled(*l)).collect();
            assert_eq!(enabled, &Level::ALL[usize::from(level.rank())..]);
        }
        log.set_level(Level::Verbose);
        log.debug(format_args!("one"));
        assert!(!path.exists(), "the file is not touched for a line that is not written");
        log.clone().verbose(format_args!("two"));
        log.notice(format_args!("three"));
        log.warning(format_args!("four"));
        let written = fs::read_to_string(&path).expect("the log");
        let marks: Vec<_> = written.lines().map(|l| l.rsplit_once(' ').expect("words")).collect();
        assert_eq!(
            marks.iter().map(|(_, word)| *word).collect::<Vec<_>>(),
            ["two", "three", "four"]
        );
        assert!(marks.iter().zip(["-", "*", "#"]).all(|((head, _), mark)| head.ends_with(mark)));
    }

    #[test]
    fn a_renamed_log_is_started_anew() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let (path, moved) = (dir.path().join("log"), dir.path().join("log.1"));
        let log = Log::new(Level::Notice, Some(path.clone()));
        log.notice(format_args!("before"));
        fs::rename(&path, &moved).expect("rename");
        log.ready("127.0.0.1:6379".parse().expect("an address"));
        assert!(fs::read_to_string(moved).expect("old log").ends_with("* before\n"));
        let new = fs::read_to_string(path).expect("new log");
        assert!(new.ends_with("* Ready to accept connections tcp 127.0.0.1:6379\n"), "{new}");
    }

    #[test]
    fn a_log_that_cannot_be_written_stops_nobody() {
        let log = Log::new(Level::Debug, Some(PathBuf::from("/nonexistent/log")));
        log.warning(format_args!("lost"));
        assert!(!PathBuf::from("/nonexistent").exists());
    }
}
