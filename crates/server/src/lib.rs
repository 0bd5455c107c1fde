//! Flintlock, a Redis-protocol server.

pub mod log;
pub mod signals;
pub mod util;
