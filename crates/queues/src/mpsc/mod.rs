//! Many producers, one consumer: the way answers come back.
//!
//! Owns nothing itself; the two forms do.
//!
//! Source: Valkey pull request 3324, src/io_queues.h, for `shared`.

pub mod rings;
pub mod shared;
