//! The server behind the binary `flintlock`.
#![doc = include_str!("../README.md")]
#![deny(unsafe_code)]

pub mod args;
mod blocked;
mod client;
mod client_memory;
mod command;
pub mod config;
mod descriptors;
mod ending;
mod event_loop;
mod evict;
mod garbage;
mod huge_pages;
mod info;
mod keyspace;
pub mod log;
mod net;
mod offload;
mod pause;
mod process;
mod pubsub;
pub mod resp;
mod server;
pub mod signals;
mod slow_log;
mod start;
mod stats;
mod tier;
pub mod types;
pub mod util;
mod waiters;
mod watch;

pub use start::main;

/// The version of Redis whose behaviour clients may expect; they decide by it what they send.
const REDIS_VERSION: &str = "7.2.4";
