//! Instructions of single-threaded loads, counted by callgrind, and the bounds they have to keep.
//!
//! Wall time on a shared virtual machine tells little about a few instructions more; their count
//! is the same in every run. Owns the bounds file's format and the counting; runs the given program
//! under valgrind, two counts at a time, and measures nothing itself.
//!
//! The count of a pair is the difference between two runs of different length, divided by the
//! difference: what starts and ends a program cancels out.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::{env, io};

/// Pairs of the shorter run; past the first lap of a ring, where everything is touched once.
const PAIRS_MIN: u64 = 8192;
/// Pairs that the longer run has more.
const PAIRS_MORE: u64 = 8192;
/// How far above its bound a count may be, in percent.
const SLACK_PERCENT: f64 = 3.0;
/// The same for another compiler than the bounds were taken with.
const SLACK_OTHER_PERCENT: f64 = 25.0;

/// Instructions of an item pushed and popped, by the name of the load.
pub type Counts = BTreeMap<String, f64>;

/// Whether there is a valgrind to count with.
#[must_use]
pub fn has_valgrind() -> bool {
    let version = Command::new("valgrind").arg("--version").stdout(Stdio::null()).status();
    version.is_ok_and(|status| status.success())
}

/// Where the committed bounds are.
#[must_use]
pub fn bounds_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("queue_instructions.txt")
}

/// Instructions that `program LOAD PAIRS` executes.
///
/// # Errors
/// Valgrind cannot be started, or it does not say how much it has collected.
fn collected(program: &Path, load: &str, pairs: u64) -> io::Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--"])
        .arg(program)
        .args([load, &pairs.to_string()])
        .output()?;
    let log = String::from_utf8_lossy(&output.stderr);
    let count = log.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
    count.filter(|_| output.status.success()).ok_or_else(|| io::Error::other(log.into_owned()))
}

/// Counts the instructions of a pair of each of `loads`, all of them loads of this very program.
///
/// # Errors
/// As soon as one load cannot be counted.
///
/// # Panics
/// If a thread of this function does.
pub fn count(loads: Vec<String>) -> io::Result<Counts> {
    let program = env::current_exe()?;
    let queue = Mutex::new(loads);
    let work = || -> io::Result<Counts> {
        let mut counts = Counts::new();
        loop {
            let next = queue.lock().expect("no holder panics").pop();
            let Some(load) = next else { return Ok(counts) };
            let short = collected(&program, &load, PAIRS_MIN)?;
            let long = collected(&program, &load, PAIRS_MIN + PAIRS_MORE)?;
            counts.insert(load, (long - short) as f64 / PAIRS_MORE as f64);
        }
    };
    thread::scope(|scope| {
        let other = scope.spawn(work);
        let mut counts = work()?;
        counts.extend(other.join().expect("counting does not panic")?);
        Ok(counts)
    })
}

/// The bounds file for `counts`.
#[must_use]
pub fn bounds_text(compiler: &str, counts: &Counts) -> String {
    let mut text = format!(
        "# Instructions of a push and a pop; `make instructions BLESS=1`.\n\
                            compiler = {compiler}\n"
    );
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
            Some(bound) if *count > bound * (1.0 + slack / 100.0) => {
                complaints.push(format!("{load}: {count:.1} instructions, were {bound:.1}"));
            }
            Some(_) => {}
        }
    }
    let gone = bounds.keys().filter(|load| !counts.contains_key(*load));
    complaints.extend(gone.map(|load| format!("{load}: has a bound and was not counted")));
    complaints
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
        let text = bounds_text("rustc 1.2.3", &written);
        assert_eq!(parse_bounds(&text), Some(("rustc 1.2.3".to_owned(), written)));
        assert_eq!(parse_bounds("compiler = x\nspsc\n"), None);
        assert_eq!(parse_bounds("spsc = 3\n"), None);
    }

    #[test]
    fn more_instructions_and_missing_loads_are_told() {
        let bounds = counts(&[("a", 100.0), ("b", 10.0)]);
        assert_eq!(complaints(&bounds, &counts(&[("a", 102.9), ("b", 1.0)]), true), [""; 0]);
        let told = complaints(&bounds, &counts(&[("a", 103.1), ("c", 1.0)]), true);
        assert_eq!(told.len(), 3, "{told:?}");
        assert_eq!(complaints(&bounds, &counts(&[("a", 124.0), ("b", 1.0)]), false), [""; 0]);
        assert_eq!(complaints(&bounds, &counts(&[("a", 126.0), ("b", 1.0)]), false).len(), 1);
    }

    #[test]
    fn the_committed_bounds_make_sense() {
        let text = std::fs::read_to_string(bounds_path()).expect("the bounds are committed");
        let (_, bounds) = parse_bounds(&text).expect("they can be read");
        assert!(bounds.len() >= 20 && bounds.values().all(|count| *count > 1.0));
    }
}
