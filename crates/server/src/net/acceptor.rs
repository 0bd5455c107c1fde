//! A listener with what was accepted at it, as one thing that can be sent to a worker.
//!
//! Runs on the thread that holds it. Knows no client and no limit: who is admitted is decided by
//! the main thread, which also tells those who are not. Never blocks; a batch is bounded.
//!
//! Source: pull request 1338 of Valkey (accepting in jobs, there for TLS only).

use std::io;
use std::net::SocketAddr;

use mio::net::{TcpListener, TcpStream};

use super::listen;

/// Connections of one batch.
pub(crate) const BATCH_MAX: usize = 64;

/// A connection with its settings made, and its addresses.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub stream: TcpStream,
    pub peer: SocketAddr,
    pub local: SocketAddr,
}

/// What accepting came to.
#[derive(Debug)]
pub(crate) enum End {
    /// Nobody waits any more: the next one is news.
    Drained,
    /// The batch is full, or its time over; others may wait.
    More,
    /// The listener takes nobody now: no descriptors are left, most likely.
    Failed(io::Error),
}

/// See the module doc. Its address has four spare bits for the packed jobs.
#[derive(Debug)]
#[repr(align(16))]
pub(crate) struct Acceptor {
    listener: TcpListener,
    /// The listener's number.
    pub index: usize,
    /// Seconds between probes of idle connections, 0 for none.
    pub keepalive_s: u64,
    /// The last batch: connections, and those that went before their settings were made.
    accepted: Vec<io::Result<Accepted>>,
    end: End,
}

impl Acceptor {
    /// Listener number `index`, with nothing accepted yet.
    pub(crate) fn new(listener: TcpListener, index: usize) -> Self {
        Self { listener, index, keepalive_s: 0, accepted: Vec::new(), end: End::Drained }
    }

    /// The socket, for registering it.
    pub(crate) fn listener_mut(&mut self) -> &mut TcpListener {
        &mut self.listener
    }

    /// Where clients connect to.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.listener.local_addr().ok()
    }

    /// Accepts a batch, as long as `may_go_on` allows.
    pub(crate) fn accept(&mut self, mut may_go_on: impl FnMut() -> bool) {
        self.end = End::More;
        while self.accepted.len() < BATCH_MAX {
            match self.listener.accept() {
                Ok((stream, peer)) => {
                    let keepalive_s = self.keepalive_s;
                    let ready = listen::set_up(&stream, keepalive_s).and_then(|()| {
                        let local = stream.local_addr()?;
                        Ok(Accepted { stream, peer, local })
                    });
                    self.accepted.push(ready);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.end = End::Drained;
                    return;
                }
                Err(error) if is_passing(&error) => {}
                Err(error) => {
                    self.end = End::Failed(error);
                    return;
                }
            }
            if !may_go_on() {
                return;
            }
        }
    }

    /// Takes the batch out, and how it ended; the room stays.
    pub(crate) fn take(&mut self) -> (impl Iterator<Item = io::Result<Accepted>> + '_, End) {
        let end = std::mem::replace(&mut self.end, End::Drained);
        (self.accepted.drain(..), end)
    }
}

/// Errors of one connection that went before it was accepted, not of the listener.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Interrupted
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}
