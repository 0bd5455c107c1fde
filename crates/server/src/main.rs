//! The `flintlock` binary.
fn main() {}
