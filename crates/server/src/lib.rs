//! Flintlock, a Redis-protocol server.

pub mod util;
