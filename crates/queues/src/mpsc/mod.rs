//! Many producers, one consumer: the way answers come back.
//!
//! Owns nothing itself; the two forms do.
//!
//! Source: seed 004, "IO > Main: the response channel".

pub mod rings;
pub mod shared;
