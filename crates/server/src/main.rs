//! The `flintlock` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    flintlock_server::main()
}
