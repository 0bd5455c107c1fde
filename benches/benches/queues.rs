//! Throughput and round trips of the queues against their rivals.
//!
//! Not a criterion group, because two things matter more here than its statistics: contenders are
//! alternated sample by sample, and a sample counts only for the regime of the machine (near or
//! far cores) that probes before and after it agree on. The single-thread costs are criterion's
//! (queues_pair.rs) and callgrind's (queue_instructions).
//!
//! Usage: `cargo bench -p flintlock-benches --bench queues -- [GROUP...] [--samples N]`

use std::time::Duration;

use flintlock_benches::queues::groups::{Group, Load, Run, groups};
use flintlock_benches::queues::machine::{Regime, cores, in_regime};
use flintlock_benches::queues::report::{Samples, figure, markdown};

/// One sample lasts about so long; short, to fit between moves of the cores.
const SAMPLE: Duration = Duration::from_millis(4);
const PAUSE: Duration = Duration::from_millis(2);

/// How many items fill a sample.
fn calibrate(run: Run, load: Load) -> usize {
    let mut items = 1 << 10;
    loop {
        // The faster of some: other work on the machine only adds.
        let ns = (0..3).map(|_| run(load, items)).fold(f64::INFINITY, f64::min) * items as f64;
        if ns > 1e6 || items >= 1 << 24 {
            let wanted = items as f64 * SAMPLE.as_secs_f64() * 1e9 / ns;
            return (wanted as usize).clamp(1 << 8, 1 << 24);
        }
        items *= 4;
    }
}

fn measure(group: &Group, rounds: usize) -> Samples {
    let mut samples = Samples::default();
    for (load_number, (_, load)) in group.loads.iter().enumerate() {
        let sizes: Vec<usize> =
            group.contenders.iter().map(|(_, run)| calibrate(*run, *load)).collect();
        for _ in 0..rounds {
            for (number, (_, run)) in group.contenders.iter().enumerate() {
                std::thread::sleep(PAUSE);
                if let Some((regime, ns)) = in_regime(|| run(*load, sizes[number])) {
                    samples.add(load_number, number, regime, ns);
                }
            }
        }
    }
    samples
}

fn cell(samples: &Samples, load: usize, contender: usize, is_rate: bool) -> String {
    let one = |regime| match samples.median(load, contender, regime) {
        Some(ns) => figure(if is_rate { 1e3 / ns } else { ns }),
        None => "-".to_owned(),
    };
    format!("{} / {}", one(Regime::Near), one(Regime::Far))
}

fn main() {
    // Before any thread is pinned.
    assert!(cores().len() >= 2, "the loads need two cores");
    let mut names: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let mut rounds = 12;
    let mut only = None;
    if let Some(at) = names.iter().position(|arg| arg == "--only") {
        only = Some(names[at + 1].clone());
        names.drain(at..at + 2);
    }
    if let Some(at) = names.iter().position(|arg| arg == "--samples") {
        rounds = names[at + 1].parse().expect("a number of samples");
        names.drain(at..at + 2);
    }
    for mut group in groups() {
        if let Some(only) = &only {
            group.contenders.retain(|(name, _)| only.split(',').any(|part| name.contains(part)));
        }
        if !names.is_empty() && !names.iter().any(|name| name == group.name) {
            continue;
        }
        let samples = measure(&group, rounds);
        let is_rate = group.is_rate();
        let mut head = vec![group.name.to_owned()];
        head.extend(group.loads.iter().map(|(label, _)| label.clone()));
        let rows: Vec<Vec<String>> = group
            .contenders
            .iter()
            .enumerate()
            .map(|(number, (name, _))| {
                let mut row = vec![(*name).to_owned()];
                row.extend((0..group.loads.len()).map(|l| cell(&samples, l, number, is_rate)));
                row
            })
            .collect();
        println!("{}", markdown(&head, &rows));
    }
}
