//! Runs single-threaded loads for callgrind to count, and judges what it counted.
//!
//! Usage: `queue_instructions LOAD PAIRS` runs a load that `--list` prints; `--check` counts ours
//! and compares them with queue_instructions.txt, `--bless` writes that file; `--readme FILE`
//! counts all and publishes them between the two marks in that file.

use std::process::ExitCode;
use std::{env, fs};

use flintlock_benches::instructions::{
    self, Counts, Event, bounds_path, bounds_text, count, has_valgrind,
};
use flintlock_benches::queues::Contender;
use flintlock_benches::queues::contenders::{Visitor, one_thread, our_jobs};
use flintlock_benches::queues::load::{batch_pairs, pairs};
use flintlock_benches::queues::machine::compiler;
use flintlock_benches::queues::report::{JOBS_NOTE, figure, markdown, publish};

/// Whose bounds are kept.
const PROGRAM: &str = "queue_instructions";

/// A load.
struct Load {
    queue: &'static str,
    way: &'static str,
    is_ours: bool,
    run: fn(usize),
}

impl Load {
    fn name(&self) -> String {
        format!("{}: {}", self.queue, self.way)
    }
}

/// The ways of pushing and popping: the columns of the table.
const WAYS: [&str; 3] = ["1 item", "batch 16", "batch 64"];

/// Collects the loads of each contender.
struct Loads(Vec<Load>);

impl Visitor for Loads {
    fn visit<C: Contender>(&mut self) {
        let runs: [fn(usize); 3] = [
            |count| {
                pairs::<C>(count);
            },
            |count| batch_pairs::<C>(count, 16),
            |count| batch_pairs::<C>(count, 64),
        ];
        self.0.extend(WAYS.into_iter().zip(runs).map(|(way, run)| Load {
            queue: C::NAME,
            way,
            is_ours: !C::IS_RIVAL,
            run,
        }));
    }
}

fn loads() -> Vec<Load> {
    let mut loads = Loads(Vec::new());
    one_thread(&mut loads);
    our_jobs(&mut loads);
    loads.0
}

/// Counts `loads`; nothing, and a word about it, where there is no valgrind.
fn counted<'a>(loads: impl Iterator<Item = &'a Load>) -> Option<Counts> {
    if !has_valgrind() {
        println!("skipped: instructions are counted by valgrind, which is not here");
        return None;
    }
    Some(count(loads.map(Load::name).collect(), &[Event::Instructions]).expect("callgrind counts"))
}

/// The loads that have bounds: what a caller does with each item, and with a usual batch.
fn gated(loads: &[Load]) -> impl Iterator<Item = &Load> {
    loads.iter().filter(|load| load.is_ours && load.way != WAYS[2])
}

fn check() -> ExitCode {
    let Some(counts) = counted(gated(&loads())) else { return ExitCode::SUCCESS };
    ExitCode::from(u8::from(!instructions::check(PROGRAM, &counts)))
}

fn table() -> Option<String> {
    let loads = loads();
    let counts = counted(loads.iter())?;
    let mut head = vec!["instructions".to_owned()];
    head.extend(WAYS.map(str::to_owned));
    let row = |loads: &[Load]| {
        let figures = loads.iter().map(|load| figure(counts[&load.name()]));
        [loads[0].queue.to_owned()].into_iter().chain(figures).collect()
    };
    let rows: Vec<Vec<String>> = loads.chunks(WAYS.len()).map(row).collect();
    Some(format!(
        "Instructions of an item pushed and popped on one thread, {}. {JOBS_NOTE}\n\n{}",
        compiler(),
        markdown(&head, &rows)
    ))
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["--list"] => loads().iter().for_each(|load| println!("{}", load.name())),
        ["--check"] => return check(),
        ["--bless"] => {
            if let Some(counts) = counted(gated(&loads())) {
                let text = bounds_text("a push and a pop", &compiler(), &counts);
                fs::write(bounds_path(PROGRAM), text).expect("the bounds can be written");
            }
        }
        ["--readme", file] => {
            if let Some(table) = table() {
                println!("{table}");
                publish(file, "instructions", &table);
            }
        }
        [wanted, pairs] => {
            let pairs = pairs.parse().expect("a number of pairs");
            let all = loads();
            let load = all.iter().find(|load| load.name() == *wanted).expect("a load of the list");
            (load.run)(pairs);
        }
        _ => panic!("usage: queue_instructions LOAD PAIRS | --list | --check | --bless | --readme"),
    }
    ExitCode::SUCCESS
}
