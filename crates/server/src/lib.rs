//! Flintlock, a Redis-protocol server.

pub mod args;
pub mod config;
pub mod log;
pub mod signals;
pub mod types;
pub mod util;
