//! A test binary that starts itself again, with its part in the environment: for processes that are
//! killed, limited or measured.
//!
//! The test named `other_process` of each binary looks for its part with [`part`] and returns at
//! once when there is none.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const PART: &str = "FLINTLOCK_TEST_PART";
const ROOT: &str = "FLINTLOCK_TEST_ROOT";
const SEED: &str = "FLINTLOCK_TEST_SEED";

/// The signal would end the process before it sees the error; what is ignored stays ignored.
pub(crate) const IGNORING_XFSZ: [&str; 3] = ["sh", "-c", "trap '' XFSZ; exec \"$0\" \"$@\""];

/// What this process is asked to do, where, and with which seed.
pub(crate) fn part() -> Option<(String, PathBuf, u64)> {
    let part = std::env::var(PART).ok()?;
    let root = std::env::var(ROOT).expect("the parent says where");
    let seed = std::env::var(SEED).expect("the parent says how").parse().expect("a number");
    Some((part, root.into(), seed))
}

/// This binary once more, playing `part`; under `wrapper` if that is not empty.
pub(crate) fn command(part: &str, root: &Path, seed: u64, wrapper: &[&str]) -> Command {
    let exe = std::env::current_exe().expect("the test runs from a file");
    let mut command = match wrapper {
        [] => Command::new(&exe),
        [program, args @ ..] => {
            let mut command = Command::new(program);
            command.args(args).arg(&exe);
            command
        }
    };
    command.args(["--exact", "other_process", "--nocapture", "--test-threads=1"]);
    command.env(PART, part).env(ROOT, root).env(SEED, seed.to_string());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// How many rounds of kill -9 to run.
pub(crate) fn kill_rounds() -> u64 {
    std::env::var("FLINTLOCK_KILL_ROUNDS").map_or(20, |n| n.parse().expect("a number"))
}

/// Limits the size of the files that this process writes, which the kernel reports much like a full
/// disk; `None` lifts the limit.
pub(crate) fn limit_file_size(bytes: Option<u64>) {
    let maximum = getrlimit(Resource::Fsize).maximum;
    setrlimit(Resource::Fsize, Rlimit { current: bytes, maximum }).expect("a lower limit");
}
