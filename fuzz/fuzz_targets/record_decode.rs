//! Fuzz target: `cargo +nightly fuzz run record_decode`; without cargo-fuzz it runs the files named
//! as arguments through the body once.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| flintlock_fuzz::record_decode(data));

#[cfg(not(fuzzing))]
fn main() -> std::io::Result<()> {
    flintlock_fuzz::run_files(flintlock_fuzz::record_decode)
}
