//! The bodies of the fuzz targets: plain functions that panic when a promise is broken.
//!
//! cargo-fuzz drives them on nightly; on stable, tests/corpora.rs runs them over the committed
//! corpora and over seeded mutations of these. A new target is a function here, a row in
//! [`TARGETS`], a file in fuzz_targets and a folder in corpora.

mod journal;
mod queues;
mod record;
mod resp;

pub use journal::journal_decode;
pub use queues::queue_ops;
pub use record::record_decode;
pub use resp::resp_parse;

/// A target's body.
pub type Body = fn(&[u8]);

/// All targets, by the name of their corpus.
pub const TARGETS: &[(&str, Body)] = &[
    ("journal_decode", journal_decode),
    ("queue_ops", queue_ops),
    ("record_decode", record_decode),
    ("resp_parse", resp_parse),
];

/// Runs `body` over the files named on the command line: how a crash of cargo-fuzz is looked at
/// with a stable compiler.
///
/// # Errors
/// A file that cannot be read.
pub fn run_files(body: Body) -> std::io::Result<()> {
    for path in std::env::args_os().skip(1) {
        body(&std::fs::read(path)?);
    }
    Ok(())
}
