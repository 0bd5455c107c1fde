//! Instructions of small loads, counted by callgrind, and the bounds they have to keep.
//!
//! Wall time on a shared virtual machine tells little about a few instructions more; their count
//! is the same in every run. Owns the bounds file's format and the counting; runs the given program
//! under valgrind, two counts at a time, and measures nothing itself.
//!
//! The count of a step of a load (of a queue, a pair: an item pushed and popped) is the difference
//! between two runs of different length, divided by the difference: what starts and ends a program
//! cancels out.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::{env, io};

use crate::queues::machine::compiler;

/// Steps of the shorter run; past the first lap of a ring, where everything is touched once.
const STEPS_MIN: u64 = 8192;
/// Steps that the longer run has more.
const STEPS_MORE: u64 = 8192;
/// How far above its bound a count may be, in percent.
const SLACK_PERCENT: f64 = 3.0;
/// The same for another compiler than the bounds were taken with.
const SLACK_OTHER_PERCENT: f64 = 25.0;
/// How far above its bound a count that should be nothing may be: what the end of a wait adds.
const SLACK_COUNT: f64 = 0.1;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Instructions.
    Instructions,
    /// Instructions that write to memory, the stack included.
    Writes,
    /// Instructions that are atomic: locks are made of them, and so are shared counters.
    Atomics,
}

impl Event {
    /// What callgrind calls it.
    fn column(self) -> &'static str {
        match self {
            Self::Instructions => "Ir",
            Self::Writes => "Dw",
            Self::Atomics => "Ge",
        }
    }

    /// The name of the count of `load`.
    fn name(self, load: &str) -> String {
        match self {
            Self::Instructions => load.to_owned(),
            Self::Writes => format!("{load}, writes"),
            Self::Atomics => format!("{load}, atomic"),
        }
    }
}

/// Counts of one step, by the name of the load and what was counted.
pub type Counts = BTreeMap<String, f64>;

/// Whether there is a valgrind to count with.
#[must_use]
pub fn has_valgrind() -> bool {
    let version = Command::new("valgrind").arg("--version").stdout(Stdio::null()).status();
    version.is_ok_and(|status| status.success())
}

/// Where the committed bounds of a program are.
#[must_use]
pub fn bounds_path(program: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("{program}.txt"))
}

/// What `program LOAD STEPS` executes of each of `events`.
///
/// # Errors
/// Valgrind cannot be started, or it does not say how much it has collected.
fn collected(program: &Path, load: &str, steps: u64, events: &[Event]) -> io::Result<Vec<u64>> {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    if events != [Event::Instructions] {
        valgrind.args(["--cache-sim=yes", "--collect-bus=yes"]);
    }
    let output = valgrind.arg("--").arg(program).args([load, &steps.to_string()]).output()?;
    let log = String::from_utf8_lossy(&output.stderr);
    let words = |mark: &str| -> Vec<String> {
        let line = log.lines().find_map(|line| Some(line.split_once(mark)?.1)).unwrap_or("");
        line.split_whitespace().map(str::to_owned).collect()
    };
    let (columns, counts) = (words("Events    : "), words("Collected : "));
    let count = |event: &Event| -> Option<u64> {
        let place = columns.iter().position(|column| column == event.column())?;
        counts.get(place)?.parse().ok()
    };
    let counts: Option<Vec<u64>> = events.iter().map(count).collect();
    counts
        .filter(|_| output.status.success())
        .ok_or_else(|| io::Error::other(log.clone().into_owned()))
}

/// Counts `events` of a step of each of `loads`, all of them loads of this very program.
///
/// # Errors
/// As soon as one load cannot be counted.
///
/// # Panics
/// If a thread of this function does.
pub fn count(loads: Vec<String>, events: &[Event]) -> io::Result<Counts> {
    let program = env::current_exe()?;
    let queue = Mutex::new(loads);
    let work = || -> io::Result<Counts> {
        let mut counts = Counts::new();
        loop {
            let next = queue.lock().expect("no holder panics").pop();
            let Some(load) = next else { return Ok(counts) };
            let short = collected(&program, &load, STEPS_MIN, events)?;
            let long = collected(&program, &load, STEPS_MIN + STEPS_MORE, events)?;
            for ((event, short), long) in events.iter().zip(short).zip(long) {
                let more = long.saturating_sub(short) as f64;
                counts.insert(event.name(&load), more / STEPS_MORE as f64);
            }
        }
    };
    thread::scope(|scope| {
        let other = scope.spawn(work);
        let mut counts = work()?;
        counts.extend(other.join().expect("counting does not panic")?);
        Ok(counts)
    })
}

/// The bounds file for `counts`, each of them of one `step`.
#[must_use]
pub fn bounds_text(step: &str, compiler: &str, counts: &Counts) -> String {
    let mut text =
        format!("# Instructions of {step}; `make instructions BLESS=1`.\ncompiler = {compiler}\n");
    for (load, count) in counts {
        writeln!(text, "{load} = {count:.1}").expect("a string takes everything");
    }
    text
}

/// The compiler that a bounds file is for, and its counts; nothing if a line makes no sense.
#[must_use]
pub fn parse_bounds(text: &str) -> Option<(String, Counts)> {
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    let compiler = lines.next()?.strip_prefix("compiler = ")?.to_owned();
    let counts = lines.map(|line| {
        let (load, count) = line.split_once(" = ")?;
        Some((load.to_owned(), count.parse().ok()?))
    });
    Some((compiler, counts.collect::<Option<Counts>>()?))
}

/// What is wrong with `counts`: loads above their bounds, and loads without one or without count.
#[must_use]
pub fn complaints(bounds: &Counts, counts: &Counts, same_compiler: bool) -> Vec<String> {
    let mut complaints = Vec::new();
    let slack = if same_compiler { SLACK_PERCENT } else { SLACK_OTHER_PERCENT };
    for (load, count) in counts {
        match bounds.get(load) {
            None => complaints.push(format!("{load}: has no bound")),
            Some(bound) if *count > bound * (1.0 + slack / 100.0) + SLACK_COUNT => {
                complaints.push(format!("{load}: {count:.1} instructions, were {bound:.1}"));
            }
            Some(_) => {}
        }
    }
    let gone = bounds.keys().filter(|load| !counts.contains_key(*load));
    complaints.extend(gone.map(|load| format!("{load}: has a bound and was not counted")));
    complaints
}

/// Prints `counts`, compares them with the bounds of `program`, and says what is wrong. Whether
/// nothing is.
///
/// # Panics
/// If there are no bounds, or they make no sense.
#[must_use]
pub fn check(program: &str, counts: &Counts) -> bool {
    let text = std::fs::read_to_string(bounds_path(program)).expect("the bounds can be read");
    let (bounds_compiler, bounds) = parse_bounds(&text).expect("the bounds make sense");
    let is_same = bounds_compiler == compiler();
    for (load, count) in counts {
        println!("{count:6.1}  {load}");
    }
    if !is_same {
        println!("the bounds are those of {bounds_compiler}: more is allowed");
    }
    let complaints = complaints(&bounds, counts, is_same);
    complaints.iter().for_each(|complaint| println!("FAILED {complaint}"));
    complaints.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(rows: &[(&str, f64)]) -> Counts {
        rows.iter().map(|(load, count)| ((*load).to_owned(), *count)).collect()
    }

    #[test]
    fn bounds_survive_being_written() {
        let written = counts(&[("spsc Words: pair", 31.5), ("spmc Words: batch 16", 12.0)]);
        let text = bounds_text("a pair", "rustc 1.2.3", &written);
        assert_eq!(parse_bounds(&text), Some(("rustc 1.2.3".to_owned(), written)));
        assert_eq!(parse_bounds("compiler = x\nspsc\n"), None);
        assert_eq!(parse_bounds("spsc = 3\n"), None);
    }

    #[test]
    fn more_instructions_and_missing_loads_are_told() {
        let bounds = counts(&[("a", 100.0), ("b", 10.0)]);
        assert_eq!(complaints(&bounds, &counts(&[("a", 102.9), ("b", 1.0)]), true), [""; 0]);
        let told = complaints(&bounds, &counts(&[("a", 103.2), ("c", 1.0)]), true);
        assert_eq!(told.len(), 3, "{told:?}");
        assert_eq!(complaints(&bounds, &counts(&[("a", 124.0), ("b", 1.0)]), false), [""; 0]);
        assert_eq!(complaints(&bounds, &counts(&[("a", 125.2), ("b", 1.0)]), false).len(), 1);
    }

    #[test]
    fn what_should_be_nothing_may_not_become_something() {
        let bounds = counts(&[("a, atomic", 0.0)]);
        assert_eq!(complaints(&bounds, &counts(&[("a, atomic", 0.05)]), true), [""; 0]);
        assert_eq!(complaints(&bounds, &counts(&[("a, atomic", 1.0)]), false).len(), 1);
    }

    #[test]
    fn the_committed_bounds_make_sense() {
        for (program, at_least) in [("queue_instructions", 20), ("pool_instructions", 3)] {
            let text = std::fs::read_to_string(bounds_path(program)).expect("they are committed");
            let (_, bounds) = parse_bounds(&text).expect("they can be read");
            assert!(bounds.len() >= at_least && bounds.values().all(|count| *count >= 0.0));
        }
    }
}
