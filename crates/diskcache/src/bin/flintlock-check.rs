//! Checks a store that no process has open, and repairs what can be repaired.
//!
//! Arguments by hand: two switches and a directory need no library.

use std::path::PathBuf;
use std::process::ExitCode;

use flintlock_diskcache::check::{CheckOptions, Outcome, check};

const USAGE: &str = "\
usage: flintlock-check [--repair] [--accept-loss] DIR

Checks the store in DIR: identity, journal, watermark, and the checksum of every
record. DIR must not be in use.

  --repair       cut a torn tail off, make the watermark anew, count anew
  --accept-loss  with --repair: also where acknowledged operations are missing;
                 what is cut off is kept in DIR/journal/lost-*

exit code: 0 good, 1 damaged, 2 wrong arguments, 3 repaired, 4 cannot be looked at";

fn main() -> ExitCode {
    let mut options = CheckOptions::default();
    let mut dir = None;
    for arg in std::env::args_os().skip(1) {
        match arg.to_str() {
            Some("--repair") => options.repair = true,
            Some("--accept-loss") => options.accept_loss = true,
            Some("--help" | "-h") => {
                println!("{USAGE}");
                return ExitCode::SUCCESS;
            }
            Some(other) if other.starts_with('-') => return wrong(&format!("unknown {other}")),
            _ if dir.is_none() => dir = Some(PathBuf::from(arg)),
            _ => return wrong("more than one directory"),
        }
    }
    let Some(dir) = dir else { return wrong("no directory") };
    if options.accept_loss && !options.repair {
        return wrong("--accept-loss says how to repair: add --repair");
    }
    match check(&dir, options, &mut std::io::stdout().lock()) {
        Ok(Outcome::Good) => ExitCode::SUCCESS,
        Ok(Outcome::Damaged) => ExitCode::from(1),
        Ok(Outcome::Repaired) => ExitCode::from(3),
        Err(e) => {
            eprintln!("flintlock-check: {e}");
            ExitCode::from(4)
        }
    }
}

fn wrong(what: &str) -> ExitCode {
    eprintln!("flintlock-check: {what}\n{USAGE}");
    ExitCode::from(2)
}
