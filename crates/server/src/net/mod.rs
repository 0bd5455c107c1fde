//! Sockets: listening, accepting, the half of a connection that reads, parses and writes, and the
//! poller.
//!
//! `listen` belongs to the main thread; the others run on whatever thread holds them.

pub(crate) mod acceptor;
pub(crate) mod conn;
pub(crate) mod listen;
pub(crate) mod poller;
