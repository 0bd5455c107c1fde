//! Fuzz target: `cargo +nightly fuzz run queue_ops`; without cargo-fuzz it runs the files named
//! as arguments through the body once.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| flintlock_fuzz::queue_ops(data));

#[cfg(not(fuzzing))]
fn main() -> std::io::Result<()> {
    flintlock_fuzz::run_files(flintlock_fuzz::queue_ops)
}
