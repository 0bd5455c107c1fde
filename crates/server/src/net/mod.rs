//! Sockets: listening, and the half of a connection that reads, parses and writes.
//!
//! `listen` belongs to the main thread; `conn` runs on whatever thread holds the half.

pub(crate) mod conn;
pub(crate) mod listen;
