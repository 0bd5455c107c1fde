//! Checks a store that no process has open, repairs what can be repaired, saves what can be read.
//!
//! Arguments by hand: three switches and a directory need no library.

use std::path::PathBuf;
use std::process::ExitCode;

use flintlock_diskcache::check::{CheckOptions, Outcome, check};
use flintlock_diskcache::salvage::salvage;

const USAGE: &str = "\
usage: flintlock-check [--repair] [--accept-loss] DIR
       flintlock-check --salvage OUT DIR

Checks the store in DIR: identity, journal, watermark, and the checksum of every
record. DIR must not be in use.

  --repair       cut a torn tail off, make the watermark anew, count anew
  --accept-loss  with --repair: also where acknowledged operations are missing;
                 what is cut off is kept in DIR/journal/lost-*
  --salvage OUT  for a store that is not opened: make OUT, which is missing or
                 empty, a store of all that can be read of DIR; nothing is
                 written to DIR. What was saved and what was given up is listed

exit code: 0 good, 1 damaged, 2 wrong arguments, 3 repaired, 4 cannot be looked at;
with --salvage 0 all was saved, 1 something was given up, 4 there is no OUT";

fn main() -> ExitCode {
    let mut options = CheckOptions::default();
    let (mut dir, mut target) = (None, None);
    let mut args = std::env::args_os().skip(1);
    while let Some(arg) = args.next() {
        match arg.to_str() {
            Some("--repair") => options.repair = true,
            Some("--accept-loss") => options.accept_loss = true,
            Some("--salvage") => match args.next() {
                Some(out) => target = Some(PathBuf::from(out)),
                None => return wrong("--salvage says where to"),
            },
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
    if target.is_some() && options.repair {
        return wrong("--salvage writes nothing to the store: leave --repair out");
    }
    let out = &mut std::io::stdout().lock();
    let done = match target {
        Some(target) => salvage(&dir, &target, out),
        None => check(&dir, options, out),
    };
    match done {
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
