//! Throughput, round trips and stalls of the queues against their rivals.
//!
//! The tables are not criterion's, because two things matter more here than its statistics:
//! contenders are alternated sample by sample, and a sample counts only for the regime of the
//! machine (near or far cores) that probes before and after it agree on. With `--criterion` the
//! same loads are criterion groups instead. Instructions are counted by callgrind
//! (src/bin/queue_instructions.rs).
//!
//! Usage: `cargo bench -p flintlock-benches --bench queues -- [GROUP...] [--samples N]
//! [--only NAME,...] [--readme FILE] [--criterion]`. With `--readme` the tables also replace what
//! stands between the two marks in that file.

mod gates;
mod groups;
mod stall;
mod statistics;

use std::process::{Command, ExitCode};
use std::time::Duration;
use std::{env, thread};

use flintlock_benches::queues::machine::{Regime, cores, description, go_first, in_regime};
use flintlock_benches::queues::report::{JOBS_NOTE, Samples, figure, markdown, publish};

use gates::{Verdict, judge};
use groups::{Group, Load, Row, StallGroup, groups, stall_groups};
use stall::Stalls;

/// One sample lasts about so long; short, to fit between moves of the cores.
const SAMPLE: Duration = Duration::from_millis(4);
/// A median is one of so many samples at least, unless fewer rounds are asked for.
const ENOUGH: usize = 12;
/// A load gets at most so many times the rounds asked for, while the host moves the cores so often
/// that in neither regime all of its contenders have enough samples.
const ROUNDS_FACTOR_MAX: usize = 4;
/// What other work of the machine gets after each sample.
const PAUSE: Duration = Duration::from_millis(6);
/// A stall measurement lasts so long for each row and round.
const STALLING: Duration = Duration::from_millis(500);

struct Arguments {
    groups: Vec<String>,
    only: Option<String>,
    readme: Option<String>,
    rounds: usize,
    criterion: bool,
}

impl Arguments {
    fn parse() -> Self {
        let mut parsed =
            Self { groups: Vec::new(), only: None, readme: None, rounds: 12, criterion: false };
        let mut rest = env::args().skip(1);
        while let Some(argument) = rest.next() {
            let mut value = || rest.next().expect("an option has a value");
            match argument.as_str() {
                "--bench" => {}
                "--criterion" => parsed.criterion = true,
                "--only" => parsed.only = Some(value()),
                "--readme" => parsed.readme = Some(value()),
                "--samples" => parsed.rounds = value().parse().expect("a number of samples"),
                _ => parsed.groups.push(argument),
            }
        }
        parsed
    }

    fn wants(&self, group: &str) -> bool {
        self.groups.is_empty() || self.groups.iter().any(|name| name == group)
    }

    /// The groups asked for, with the rows asked for.
    fn wanted(&self) -> Vec<Group> {
        let mut wanted: Vec<_> =
            groups().into_iter().filter(|group| self.wants(group.name)).collect();
        for group in &mut wanted {
            group.contenders.retain(|row| self.wants_row(row.name));
        }
        wanted
    }

    fn wants_row(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only.split(',').any(|part| name.contains(part)))
    }
}

/// How many items fill a sample.
fn calibrate(row: &Row, load: Load) -> usize {
    let mut items = 1 << 10;
    loop {
        // The faster of some: other work on the machine only adds.
        let ns =
            (0..3).map(|_| (row.run)(load, items)).fold(f64::INFINITY, f64::min) * items as f64;
        if ns > 1e6 || items >= 1 << 24 {
            let wanted = items as f64 * SAMPLE.as_secs_f64() * 1e9 / ns;
            return (wanted as usize).clamp(1 << 8, 1 << 24);
        }
        items *= 4;
    }
}

fn measure(group: &Group, rounds: usize) -> Samples {
    let mut samples = Samples::new(ENOUGH.min(rounds));
    for (load_number, (_, load)) in group.loads.iter().enumerate() {
        let sizes: Vec<usize> = group.contenders.iter().map(|row| calibrate(row, *load)).collect();
        for round in 0..rounds * ROUNDS_FACTOR_MAX {
            let are_enough = |regime| samples.are_enough(load_number, sizes.len(), regime);
            if round >= rounds && Regime::BOTH.into_iter().any(are_enough) {
                break;
            }
            for (number, row) in group.contenders.iter().enumerate() {
                thread::sleep(PAUSE);
                let sample = || (row.run)(*load, sizes[number]);
                let sampled = if group.has_threads() {
                    in_regime(sample)
                } else {
                    // One core is near itself.
                    Some((Regime::Near, sample()))
                };
                if let Some((regime, ns)) = sampled {
                    samples.add(load_number, number, regime, ns);
                }
            }
        }
    }
    samples
}

/// A group as a table: in each cell near cores / far cores.
fn table(group: &Group, samples: &Samples) -> String {
    let cell = |load, contender| {
        let one = |regime| match samples.median(load, contender, regime) {
            Some(ns) => figure(if group.is_rate() { 1e3 / ns } else { ns }),
            None => "-".to_owned(),
        };
        if group.has_threads() {
            format!("{} / {}", one(Regime::Near), one(Regime::Far))
        } else {
            one(Regime::Near)
        }
    };
    let mut head = vec![group.name.to_owned()];
    head.extend(group.loads.iter().map(|(label, _)| label.clone()));
    let rows: Vec<Vec<String>> = group
        .contenders
        .iter()
        .enumerate()
        .map(|(number, row)| {
            let cells = (0..group.loads.len()).map(|load| cell(load, number));
            [row.name.to_owned()].into_iter().chain(cells).collect()
        })
        .collect();
    format!("{}:\n\n{}\n", group.title, markdown(&head, &rows))
}

/// The table, and whether a queue froze that promises not to.
fn stall_table(group: &StallGroup, rounds: usize) -> (String, bool) {
    let mut all = vec![Stalls::default(); group.contenders.len()];
    for _ in 0..rounds {
        for ((_, run), sum) in group.contenders.iter().zip(&mut all) {
            let more = run(STALLING);
            sum.count += more.count;
            sum.freezes += more.freezes;
            sum.longest = sum.longest.max(more.longest);
        }
    }
    // Less than one in a hundred may be the host's doing, which takes cores away unseen.
    let broken = |name, sum: &Stalls| group.never.contains(&name) && sum.frozen_percent() > 1.0;
    let has_failed = group.contenders.iter().zip(&all).any(|((name, _), sum)| broken(*name, sum));
    let rows: Vec<Vec<String>> = group
        .contenders
        .iter()
        .zip(&all)
        .map(|((name, _), sum)| {
            vec![
                (*name).to_owned(),
                sum.count.to_string(),
                format!("{:.1} %", sum.frozen_percent()),
                format!("{:.1} ms", sum.longest.as_secs_f64() * 1e3),
            ]
        })
        .collect();
    let head = ["stalls", "stops of one thread", "froze the others", "nothing moved for"];
    let table = markdown(&head.map(str::to_owned), &rows);
    (format!("{}:\n\n{table}\n", group.title), has_failed)
}

fn verdict_table(verdicts: &[Verdict]) -> String {
    let rows: Vec<Vec<String>> = verdicts
        .iter()
        .map(|verdict| {
            vec![
                verdict.what.clone(),
                verdict.regime.name().to_owned(),
                format!("{:.2}", verdict.wanted),
                format!("{:.2}", verdict.measured),
                verdict.word().to_owned(),
            ]
        })
        .collect();
    let head = ["times as fast as", "cores", "wanted", "measured", ""].map(str::to_owned);
    format!("What we ask of ourselves:\n\n{}\n", markdown(&head, &rows))
}

/// Which commit the figures are of.
fn commit() -> String {
    let git = Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    let hash = git.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    hash.unwrap_or_else(|_| "unknown".to_owned())
}

fn main() -> ExitCode {
    // Before any thread is pinned.
    assert!(cores().len() >= 2, "the loads need two cores");
    let arguments = Arguments::parse();
    let is_first = go_first(true);
    let wanted = arguments.wanted();
    if arguments.criterion {
        statistics::time(&wanted);
        return ExitCode::SUCCESS;
    }
    let mut figures = format!(
        "{} Commit {}, medians of at least {} samples of {} ms, {}. \
         Cells: near cores / far cores. {JOBS_NOTE}\n\n",
        description(),
        commit(),
        ENOUGH.min(arguments.rounds),
        SAMPLE.as_millis(),
        if is_first { "before all other work" } else { "beside other work" },
    );
    let mut verdicts = Vec::new();
    for group in &wanted {
        let samples = measure(group, arguments.rounds);
        figures += &table(group, &samples);
        verdicts.extend(judge(group, &samples));
    }
    if !verdicts.is_empty() {
        figures += &verdict_table(&verdicts);
    }
    let mut has_failed = verdicts.iter().any(Verdict::has_failed);
    if arguments.wants("stall") {
        // Threads are to be descheduled as they usually are.
        go_first(false);
        for mut group in stall_groups() {
            group.contenders.retain(|(name, _)| arguments.wants_row(name));
            let (table, has_frozen) = stall_table(&group, arguments.rounds.min(6));
            figures += &table;
            has_failed |= has_frozen;
        }
    }
    println!("{figures}");
    if let Some(file) = &arguments.readme {
        publish(file, "figures", &figures);
    }
    ExitCode::from(u8::from(has_failed))
}
