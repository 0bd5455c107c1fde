//! What the disk cache costs, beside the raw engine and a plain table in the same run.
//!
//! `make bench-cache`, or `cargo bench -p flintlock-benches --bench cache -- [--small] [part ...]`.
//!
//! | part | question | contender |
//! |---|---|---|
//! | `hits` | what does a warm hit cost, and the answer that a key is absent | a table behind a lock |
//! | `cold` | what does a key cost that is on disk only | the engine alone, 1 and 8 threads |
//! | `load` | what do new keys cost | the engine alone, in batches |
//! | `writes` | how much is spared when a few keys are written often | none |
//! | `disk` | how much disk does the data take, and how soon is it given back | the live bytes |
//! | `stall` | what do hits notice of an engine that hangs for 5 s | a table behind a lock |
//!
//! Contenders take turns, round by round, in alternating order; a ratio is the median of the
//! rounds' ratios. Every line says what it must reach and whether it did. Wall times of a loaded
//! machine are no claim; where one thread is measured, its own CPU time is what counts.

mod cold;
mod disk;
mod hits;
mod measure;
mod stall;
mod writes;

use measure::Scale;

type Part = (&'static str, fn(&Scale));

const PARTS: [Part; 6] = [
    ("hits", hits::run),
    ("cold", cold::run),
    ("load", writes::load),
    ("writes", writes::overwrite),
    ("disk", disk::run),
    ("stall", stall::run),
];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let (options, wanted): (Vec<_>, Vec<_>) = args.iter().partition(|arg| arg.starts_with("--"));
    let scale =
        if options.iter().any(|arg| *arg == "--small") { Scale::SMALL } else { Scale::FULL };
    for name in &wanted {
        assert!(PARTS.iter().any(|(part, _)| part == name), "no part {name}");
    }
    measure::machine(&scale);
    for (name, part) in PARTS {
        if wanted.is_empty() || wanted.iter().any(|wanted| *wanted == name) {
            part(&scale);
        }
    }
}
