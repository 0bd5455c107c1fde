//! The black-box harness: starts a server binary, speaks raw bytes to it, compares what comes back.
//!
//! Runs on the test thread, plus one thread per server that drains its standard output. It knows
//! nothing of Flintlock's crates: what it sees is what any client sees. Each test binary uses its
//! own part of it, so unused helpers are expected there.
//!
//! Environment:
//! - `FLINTLOCK_SUBJECT=redis` puts redis-server in our place, which shows that a test is sound;
//! - `FLINTLOCK_TEST_ARGS="--store memory ..."` is added to every start of our binary.

pub(crate) mod client;
pub(crate) mod corpus;
pub(crate) mod dump;
pub(crate) mod generator;
pub(crate) mod reply;
pub(crate) mod rng;
pub(crate) mod server;
pub(crate) mod words;
