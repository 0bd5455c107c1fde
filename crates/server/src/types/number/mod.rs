//! Numbers as text, exactly as redis-server 7.0.15 reads and writes them. Pure; any thread.
//!
//! Integers are strict: what Redis does not print it does not read as one, so `+1`, `01` and ` 1`
//! are strings. Doubles are read as C's strtod does, hexadecimal ones and all, and written with
//! 17 significant digits (`%.17g`): version 7.2 prints the shortest form instead, and a client
//! that compares replies would notice.

mod extended;
mod float;
mod integer;
mod natural;

pub use extended::Extended;
pub use float::{FloatText, format_f64, parse_f64, parse_f64_bound, parse_f64_weight};
pub use integer::{format_i64, parse_i64, push_i64};
