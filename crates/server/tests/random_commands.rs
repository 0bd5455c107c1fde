//! Seeded random commands, answered by redis-server 7.0.15 and by us: replies and final state.
//!
//! A failure prints the seed; `FLINTLOCK_SEED=... cargo nextest run -E 'test(TEST)'` runs it again,
//! `FLINTLOCK_COMMANDS` makes it longer.

#[expect(dead_code, reason = "each test binary uses its own part of the harness")]
mod common;

use std::time::{Duration, Instant};

use common::client::Client;
use common::corpus::{Check, judge};
use common::dump::dump;
use common::generator::{Command, Generator};
use common::reply::Value;
use common::rng::Rng;
use common::server::{Kind, Server};
use common::words;

const CONNECTIONS: usize = 3;
const BATCH_MAX: usize = 16;
const DATABASES: usize = 16;
/// Commands between two comparisons of everything the servers hold.
const DUMP_EVERY: usize = 5_000;

/// One of the situations in which the same commands must give the same answers.
struct Setting {
    name: &'static str,
    args: &'static [&'static str],
    keys: usize,
    value_bytes_max: usize,
    commands: usize,
}

/// A run of commands for one connection, sent without waiting; a SCAN is its last, because the next
/// round of a cursor needs the reply.
fn batch(generator: &mut Generator) -> Vec<Command> {
    let count = 1 + generator.below(BATCH_MAX);
    let mut commands = Vec::new();
    while commands.len() < count {
        commands.push(generator.next_command());
        if commands.last().is_some_and(|command| command.check == Check::Scan) {
            break;
        }
    }
    commands
}

/// Follows the cursor to its end; everything seen, sorted, each once.
fn scan(client: &mut Client, command: &Command) -> Vec<Vec<Vec<u8>>> {
    let (cursor_at, strings_each) = words::scan_shape(&command.words);
    let (mut words, mut seen) = (command.words.clone(), Vec::new());
    loop {
        let reply = client.try_command(&words).unwrap_or_else(|missing| panic!("{missing}"));
        let [cursor, found] = reply.value.items() else {
            return vec![vec![reply.raw]];
        };
        let texts: Vec<_> =
            found.items().iter().filter_map(Value::text).map(<[u8]>::to_vec).collect();
        seen.extend(texts.chunks(strings_each).map(<[Vec<u8>]>::to_vec));
        let cursor = cursor.text().unwrap_or_default();
        if cursor == b"0" {
            seen.sort();
            seen.dedup();
            return seen;
        }
        words[cursor_at] = cursor.to_vec();
    }
}

/// Sends a batch to both and compares; the text says what differs. `slowest` is the longest that
/// any batch took.
fn exchange(
    one: &mut Client,
    other: &mut Client,
    batch: &[Command],
    slowest: &mut Duration,
) -> Result<(), String> {
    let (plain, scans) = match batch.split_last() {
        Some((last, before)) if last.check == Check::Scan => (before, Some(last)),
        _ => (batch, None),
    };
    let words: Vec<_> = plain.iter().map(|command| command.words.clone()).collect();
    let begun = Instant::now();
    let (want, got) = (one.pipeline(&words), other.pipeline(&words));
    *slowest = begun.elapsed().max(*slowest);
    for ((command, want), got) in plain.iter().zip(&want).zip(&got) {
        judge(want, got, &command.check.after(*slowest, &command.words)).map_err(|difference| {
            format!("{}\n    {difference}", words::show_all(&command.words))
        })?;
    }
    let Some(command) = scans else { return Ok(()) };
    let (want, got) = (scan(one, command), scan(other, command));
    if want == got {
        return Ok(());
    }
    let [want, got] = [want, got].map(|seen| words::show_all(seen.iter().flatten()));
    let command = words::show_all(&command.words);
    Err(format!("{command}\n    want {want}\n    got  {got}"))
}

fn compare_all(oracle: &Server, subject: &Server, place: &str) {
    let (want, got) =
        (dump(&mut oracle.connect(), DATABASES), dump(&mut subject.connect(), DATABASES));
    let only = |left: &[String], right: &[String]| {
        left.iter().filter(|line| !right.contains(line)).take(10).cloned().collect::<Vec<_>>()
    };
    assert!(
        want == got,
        "{place}: different data\n  redis only: {:#?}\n  ours only: {:#?}",
        only(&want, &got),
        only(&got, &want)
    );
}

fn run(setting: &Setting) {
    let seed = Rng::seed_from_env("FLINTLOCK_SEED", 1);
    let count = std::env::var("FLINTLOCK_COMMANDS")
        .map_or(setting.commands, |text| text.parse().expect("a number of commands"));
    let (oracle, mut subject) = (Server::oracle(&[]), Server::subject(setting.args));
    // A generator of its own for each connection: whether one is inside MULTI is its own matter.
    let mut lanes: Vec<(Client, Client, Generator)> = (0..CONNECTIONS)
        .map(|lane| {
            let lane_seed = seed.wrapping_mul(1_000).wrapping_add(lane as u64);
            let generator = Generator::new(lane_seed, setting.keys, setting.value_bytes_max);
            (oracle.connect(), subject.connect(), generator)
        })
        .collect();
    let (mut turn, mut done, mut dumped) = (Rng::new(seed), 0, 0);
    let mut slowest = Duration::ZERO;
    while done < count {
        let (one, other, generator) = &mut lanes[turn.below(CONNECTIONS)];
        let commands = batch(generator);
        if let Err(difference) = exchange(one, other, &commands, &mut slowest) {
            panic!("{}: seed {seed}, after {done} commands:\n{difference}", setting.name);
        }
        done += commands.len();
        if done - dumped >= DUMP_EVERY {
            dumped = done;
            let place = format!("{}: seed {seed}, after {done} commands", setting.name);
            compare_all(&oracle, &subject, &place);
        }
    }
    drop(lanes);
    compare_all(&oracle, &subject, &format!("{}: seed {seed}, at the end", setting.name));
    let durable = subject.kind() == Kind::Flintlock && !setting.args.contains(&"memory");
    if durable {
        let status = subject.terminate();
        assert!(status.success(), "SIGTERM: {status}");
        subject.restart();
        compare_all(&oracle, &subject, &format!("{}: seed {seed}, restarted", setting.name));
        if setting.args.contains(&"always") {
            subject.kill_9();
            subject.restart();
            compare_all(&oracle, &subject, &format!("{}: seed {seed}, killed", setting.name));
        }
    }
}

#[test]
fn few_keys_in_memory() {
    run(&Setting {
        name: "few keys, memory",
        args: &["--store", "memory"],
        keys: 8,
        value_bytes_max: 200,
        commands: 40_000,
    });
}

#[test]
fn few_keys_on_disk() {
    run(&Setting {
        name: "few keys, disk",
        args: &["--appendfsync", "always"],
        keys: 12,
        value_bytes_max: 200,
        commands: 20_000,
    });
}

#[test]
fn more_data_than_memory() {
    run(&Setting {
        name: "more data than memory",
        args: &["--appendfsync", "no", "--maxmemory", "4mb"],
        keys: 3_000,
        value_bytes_max: 60_000,
        commands: 30_000,
    });
}
