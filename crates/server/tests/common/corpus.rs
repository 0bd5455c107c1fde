//! The corpus files: command lists that two servers answer alike.
//!
//! One command a line, redis-cli quoting, placeholders as in [`words::expand`]. `#` starts a
//! comment. `@section NAME` begins anew: fresh connections, all databases empty. Other `@` words
//! stand before a command and may be combined:
//!
//! | word | meaning |
//! |---|---|
//! | `@unordered` | items of the reply in any order |
//! | `@pairs` | items in any order of key-value pairs |
//! | `@approx N` | integers that differ by at most N |
//! | `@kind` | only the kind of reply and, for arrays, their length are compared |
//! | `@error` | both refuse; only the first word of the error is compared |
//! | `@subset "COMMAND"` | items are taken at random from what COMMAND says beforehand |
//! | `@scan` | a cursor loop: the union of all rounds is compared, as a set |
//! | `@on NAME` | on another connection, opened at first use |
//! | `@repeat N` | N times, `{i}` counts from 0 |
//! | `@resp2`, `@resp3` | only in that protocol |
//!
//! Lines of their own: `@sleep MS`, `@eof [NAME]` (the server has closed), `@close [NAME]` (we do).

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::time::{Duration, Instant};

use super::client::{Client, Missing, REPLY_DEADLINE};
use super::reply::{Reply, Value};
use super::server::Server;
use super::words::{self, Moment};

/// How two replies are compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Check {
    /// Byte for byte.
    Exact,
    /// Items in any order.
    Unordered,
    /// Key-value pairs in any order.
    Pairs,
    /// Integers, at most so far apart.
    Approx(i64),
    /// First byte and number of items.
    Kind,
    /// First word of two errors.
    ErrorWord,
    /// Items come from this command's reply.
    Subset(String),
    /// A cursor loop over everything.
    Scan,
}

impl Check {
    /// The check of the reply to `command` from servers of which one may have run it, or what it
    /// asks about, so much later than the other: times differ by that, too.
    pub(crate) fn after(&self, delay: Duration, command: &[Vec<u8>]) -> Self {
        let Self::Approx(distance) = self else { return self.clone() };
        let is_ms = command[0].first().is_some_and(|letter| letter.eq_ignore_ascii_case(&b'p'));
        let delay = if is_ms { delay.as_millis() } else { delay.as_secs().into() };
        Self::Approx(distance + i64::try_from(delay).expect("a test does not take as long"))
    }
}

/// The protocol of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// As the connection starts.
    Resp2,
    /// After `HELLO 3`.
    Resp3,
}

/// One line of a file.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    /// Where it stands, from 1.
    pub(crate) line: usize,
    /// What it asks for.
    pub(crate) action: Action,
}

/// What a line asks for.
#[derive(Debug, Clone)]
pub(crate) enum Action {
    /// Begin anew.
    Section(String),
    /// Wait.
    Sleep(Duration),
    /// The server closes this connection.
    Eof(String),
    /// We close this connection.
    Close(String),
    /// A command.
    Command {
        /// Name of the connection.
        on: String,
        /// The text, not yet expanded.
        text: String,
        /// How often.
        repeat: usize,
        /// How replies compare.
        check: Check,
        /// Left out in the other protocol.
        only: Option<Protocol>,
    },
}

const MAIN: &str = "main";

/// Reads a corpus file.
pub(crate) fn load(path: &Path) -> Vec<Step> {
    let text = std::fs::read_to_string(path)
        .unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
    let mut steps = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line_text = line.trim();
        if line_text.is_empty() || line_text.starts_with('#') {
            continue;
        }
        let action = parse_line(line_text)
            .unwrap_or_else(|why| panic!("{}:{}: {why}", path.display(), number + 1));
        steps.push(Step { line: number + 1, action });
    }
    steps
}

fn parse_line(line: &str) -> Result<Action, String> {
    let (mut on, mut repeat, mut check, mut only) = (MAIN.to_owned(), 1, Check::Exact, None);
    let mut rest = line;
    while let Some(word) = rest.strip_prefix('@') {
        let (name, tail) = word.split_once(' ').unwrap_or((word, ""));
        let tail = tail.trim_start();
        let number = |text: &str| text.parse::<u32>().map_err(|_| format!("{text}: no number"));
        match name {
            "section" => return Ok(Action::Section(tail.to_owned())),
            "sleep" => return Ok(Action::Sleep(Duration::from_millis(number(tail)?.into()))),
            "eof" | "close" => {
                let target = if tail.is_empty() { MAIN } else { tail }.to_owned();
                let closes = name == "close";
                return Ok(if closes { Action::Close(target) } else { Action::Eof(target) });
            }
            "unordered" => check = Check::Unordered,
            "pairs" => check = Check::Pairs,
            "kind" => check = Check::Kind,
            "error" => check = Check::ErrorWord,
            "scan" => check = Check::Scan,
            "resp2" => only = Some(Protocol::Resp2),
            "resp3" => only = Some(Protocol::Resp3),
            "approx" | "repeat" | "on" => {
                let (argument, after) = tail.split_once(' ').ok_or("a command is missing")?;
                match name {
                    "approx" => check = Check::Approx(number(argument)?.into()),
                    "repeat" => repeat = number(argument)? as usize,
                    _ => on = argument.to_owned(),
                }
                rest = after.trim_start();
                continue;
            }
            "subset" => {
                let body = tail.strip_prefix('"').ok_or("@subset wants \"COMMAND\"")?;
                let (command, after) = body.split_once('"').ok_or("a quote is never closed")?;
                check = Check::Subset(command.to_owned());
                rest = after.trim_start();
                continue;
            }
            other => return Err(format!("@{other} is not known")),
        }
        rest = tail;
    }
    if rest.is_empty() {
        return Err("a command is missing".to_owned());
    }
    words::split(&words::expand(rest, Moment::now(), 0))?;
    Ok(Action::Command { on, text: rest.to_owned(), repeat, check, only })
}

/// Runs the steps on both servers and gives the differences, one text each.
pub(crate) fn compare(
    oracle: &Server,
    subject: &Server,
    steps: &[Step],
    protocol: Protocol,
) -> Vec<String> {
    let mut sides = [Side::new(oracle, protocol), Side::new(subject, protocol)];
    let mut differences = Vec::new();
    let (mut section, mut begun) = (String::new(), Instant::now());
    for step in steps {
        let at = |what: &str| format!("line {} [{section}] {what}", step.line);
        match &step.action {
            Action::Section(name) => {
                section.clone_from(name);
                begun = Instant::now();
                for side in &mut sides {
                    side.begin_anew();
                }
            }
            Action::Sleep(time) => std::thread::sleep(*time),
            Action::Close(name) => {
                for side in &mut sides {
                    side.connections.remove(name);
                }
            }
            Action::Eof(name) => {
                let ends = sides.each_mut().map(|side| side.end_of(name));
                if ends[0] != ends[1] {
                    differences.push(at(&format!("end: want {} got {}", ends[0], ends[1])));
                }
            }
            Action::Command { on, text, repeat, check, only } => {
                if only.is_none_or(|only| only == protocol) {
                    let now = Moment::now();
                    for round in 0..*repeat {
                        let line = words::expand(text, now, round);
                        let command = words::split(&line).expect("checked when it was read");
                        if let Err(difference) = compare_one(&mut sides, on, &command, check, begun)
                        {
                            differences.push(at(&format!("{line}\n    {difference}")));
                        }
                    }
                }
            }
        }
    }
    differences
}

fn compare_one(
    sides: &mut [Side<'_>; 2],
    on: &str,
    command: &[Vec<u8>],
    check: &Check,
    begun: Instant,
) -> Result<(), String> {
    match check {
        Check::Scan => {
            let [want, got] = sides.each_mut().map(|side| side.scan(on, command));
            if want == got { Ok(()) } else { Err(format!("want {want:?}\n    got  {got:?}")) }
        }
        Check::Subset(from) => {
            let from = words::split(from).expect("a plain command");
            let pools = sides.each_mut().map(|side| side.pool(on, &from));
            let [want, got] = sides.each_mut().map(|side| side.command(on, command));
            for ((reply, pool), who) in [&want, &got].into_iter().zip(&pools).zip(["oracle", "us"])
            {
                let leaves = reply.as_ref().map(Reply::leaves).unwrap_or_default();
                if let Some(stray) = leaves.iter().find(|leaf| !pool.contains(*leaf)) {
                    let stray = words::show(stray);
                    return Err(format!("{who}: {stray:?} is not among {}", words::show_all(pool)));
                }
            }
            judge(&want, &got, &Check::Kind)
        }
        _ => {
            let [want, got] = sides.each_mut().map(|side| side.command(on, command));
            judge(&want, &got, &check.after(begun.elapsed(), command))
        }
    }
}

/// The sections that can be sent without waiting for a reply: the commands on the main connection
/// whose replies are exact, expanded. A section that waits or closes is left out.
pub(crate) fn streams(steps: &[Step], protocol: Protocol) -> Vec<(String, Vec<Vec<Vec<u8>>>)> {
    let now = Moment::now();
    let mut out: Vec<(String, Vec<_>, bool)> = Vec::new();
    for step in steps {
        match (&step.action, out.last_mut()) {
            (Action::Section(name), _) => out.push((name.clone(), Vec::new(), true)),
            (_, None) => panic!("line {}: a file begins with @section", step.line),
            (Action::Sleep(_) | Action::Eof(_) | Action::Close(_), Some(section)) => {
                section.2 = false;
            }
            (Action::Command { on, text, repeat, check, only }, Some(section)) => {
                let wanted = on == MAIN && only.is_none_or(|only| only == protocol);
                if wanted && *check == Check::Exact {
                    section.1.extend((0..*repeat).map(|round| {
                        words::split(&words::expand(text, now, round)).expect("checked when read")
                    }));
                }
            }
        }
    }
    out.into_iter().filter(|section| section.2).map(|(name, list, _)| (name, list)).collect()
}

/// Compares two replies.
///
/// # Errors
/// A text with both.
pub(crate) fn judge(
    want: &Result<Reply, Missing>,
    got: &Result<Reply, Missing>,
    check: &Check,
) -> Result<(), String> {
    let same = match (want, got) {
        (Ok(want), Ok(got)) => want.raw == got.raw || same_but_for(want, got, check),
        (Err(Missing::Closed(want)), Err(Missing::Closed(got))) => want == got,
        _ => false,
    };
    if same {
        return Ok(());
    }
    let text = |reply: &Result<Reply, Missing>| match reply {
        Ok(reply) => words::show(&reply.raw),
        Err(missing) => missing.to_string(),
    };
    Err(format!("want {}\n    got  {}", text(want), text(got)))
}

fn same_but_for(want: &Reply, got: &Reply, check: &Check) -> bool {
    match check {
        Check::Exact | Check::Scan | Check::Subset(_) => false,
        Check::Unordered | Check::Pairs => {
            let (mut want, mut got) = (want.value.clone(), got.value.clone());
            for value in [&mut want, &mut got] {
                if *check == Check::Pairs { value.sort_pairs() } else { value.sort_items() }
            }
            want == got
        }
        Check::Approx(distance) => match (want.integer(), got.integer()) {
            (Ok(want), Ok(got)) => want.abs_diff(got) <= distance.unsigned_abs(),
            _ => false,
        },
        Check::Kind => {
            let shape = |reply: &Reply| match &reply.value {
                Value::Line(line) => (line[0], 0),
                Value::Blob(kind, contents) => (*kind, usize::from(contents.is_some())),
                Value::Items(kind, items) => (*kind, items.as_ref().map_or(0, |i| i.len() + 1)),
                Value::Pairs(kind, pairs) => (*kind, pairs.len()),
            };
            shape(want) == shape(got)
        }
        Check::ErrorWord => {
            let word = |reply: &Reply| {
                reply.raw.split(|byte| byte.is_ascii_whitespace()).next().map(<[u8]>::to_vec)
            };
            want.is_error() && got.is_error() && word(want) == word(got)
        }
    }
}

/// One server with its named connections.
#[derive(Debug)]
struct Side<'a> {
    server: &'a Server,
    protocol: Protocol,
    connections: HashMap<String, Client>,
}

impl<'a> Side<'a> {
    fn new(server: &'a Server, protocol: Protocol) -> Self {
        Self { server, protocol, connections: HashMap::new() }
    }

    fn begin_anew(&mut self) {
        self.connections.clear();
        self.connection(MAIN).ok("FLUSHALL");
    }

    fn connection(&mut self, name: &str) -> &mut Client {
        let (server, protocol) = (self.server, self.protocol);
        self.connections.entry(name.to_owned()).or_insert_with(|| {
            let mut client = server.connect();
            if protocol == Protocol::Resp3 {
                client.ok("HELLO 3");
            }
            client
        })
    }

    fn command(&mut self, on: &str, command: &[Vec<u8>]) -> Result<Reply, Missing> {
        let reply = self.connection(on).try_command(command);
        if reply.is_err() {
            // The connection is out of step or gone; the next command gets a new one.
            self.connections.remove(on);
        }
        reply
    }

    fn end_of(&mut self, name: &str) -> String {
        let Some(mut client) = self.connections.remove(name) else {
            return "no such connection".to_owned();
        };
        let (rest, closed) = client.read_to_close(Instant::now() + REPLY_DEADLINE);
        format!("closed={closed} rest={}", words::show(&rest))
    }

    fn pool(&mut self, on: &str, command: &[Vec<u8>]) -> BTreeSet<Vec<u8>> {
        let reply = self.command(on, command);
        reply.map(|reply| reply.leaves().into_iter().collect()).unwrap_or_default()
    }

    /// Follows the cursor until it is 0 again; the union of what came, as texts.
    fn scan(&mut self, on: &str, command: &[Vec<u8>]) -> Result<BTreeSet<String>, String> {
        const ROUNDS_MAX: usize = 100_000;
        let (cursor_at, strings_each) = words::scan_shape(command);
        let mut command = command.to_vec();
        let mut seen = BTreeSet::new();
        for _ in 0..ROUNDS_MAX {
            let reply = self.command(on, &command).map_err(|missing| missing.to_string())?;
            let [cursor, found] = reply.value.items() else {
                return Err(words::show(&reply.raw));
            };
            let texts: Vec<Vec<u8>> =
                found.items().iter().filter_map(Value::text).map(<[u8]>::to_vec).collect();
            seen.extend(texts.chunks(strings_each).map(words::show_all));
            let cursor = cursor.text().unwrap_or_default();
            if cursor == b"0" {
                return Ok(seen);
            }
            command[cursor_at] = cursor.to_vec();
        }
        Err(format!("no end after {ROUNDS_MAX} rounds"))
    }
}
