//! Sockets: listening, the half of a connection that reads, parses and writes, and the poller.
//!
//! `listen` belongs to the main thread; `conn` and `poller` run on whatever thread holds them.

pub(crate) mod conn;
pub(crate) mod listen;
pub(crate) mod poller;
