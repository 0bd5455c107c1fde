//! What a pool refuses, and what the world may deny it.
//!
//! Plain values; any thread.

use std::fmt;
use std::io;

use crate::stats::Refusal;

/// A job that was not taken; the pool is as before. Do it inline.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Full<J> {
    /// The job, untouched.
    pub job: J,
    /// Why.
    pub reason: Refusal,
}

impl<J> fmt::Debug for Full<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Full").field("reason", &self.reason).finish_non_exhaustive()
    }
}

impl<J> fmt::Display for Full<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the pool did not take the job ({:?})", self.reason)
    }
}

impl<J> std::error::Error for Full<J> {}

/// The system started fewer threads than wanted; those that run go on.
#[derive(Debug)]
pub struct SpawnError {
    /// Threads wanted.
    pub wanted: usize,
    /// Threads running.
    pub running: usize,
    /// What the system said.
    pub source: io::Error,
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "only {} of {} threads run: {}", self.running, self.wanted, self.source)
    }
}

impl std::error::Error for SpawnError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Jobs were still in flight when the time was over; nothing is lost, go on later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StillBusy {
    /// Jobs in flight.
    pub in_flight: usize,
    /// Answers drained before.
    pub drained: usize,
}

impl fmt::Display for StillBusy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} jobs are still in flight", self.in_flight)
    }
}

impl std::error::Error for StillBusy {}
