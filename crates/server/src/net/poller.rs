//! The poller with what its last look found, as one thing that can be sent to a worker.
//!
//! Belongs to the main thread, which sleeps in it; while the main thread has answers to work on, a
//! worker takes the look for it ([`crate::offload`]). Sockets are registered through the registry
//! that the main thread keeps: epoll takes registrations while somebody looks. The worker that
//! looks knows no client, and an event of one that was closed meanwhile names a generation that is
//! gone.

use std::io;
use std::time::Duration;

use mio::{Events, Poll, Registry};

/// See the module doc. Its address has four spare bits for the packed jobs.
#[derive(Debug)]
#[repr(align(16))]
pub(crate) struct Poller {
    poll: Poll,
    events: Events,
    /// Why the last look failed.
    error: Option<io::Error>,
}

impl Poller {
    /// `poll`, with room for so many events of one look.
    pub(crate) fn new(poll: Poll, events_max: usize) -> Self {
        Self { poll, events: Events::with_capacity(events_max), error: None }
    }

    /// Where sockets are registered, whoever has the poller.
    ///
    /// # Errors
    /// The operating system has no descriptor left.
    pub(crate) fn registry(&self) -> io::Result<Registry> {
        self.poll.registry().try_clone()
    }

    /// Waits for readiness, for at most `limit`. A failure is kept for [`Poller::events`].
    pub(crate) fn look(&mut self, limit: Duration) {
        match self.poll.poll(&mut self.events, Some(limit)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => self.error = Some(error),
            _ => {}
        }
    }

    /// What the last look found.
    ///
    /// # Errors
    /// It failed, which no client can cause.
    pub(crate) fn events(&mut self) -> io::Result<&Events> {
        self.error.take().map_or(Ok(&self.events), Err)
    }
}
