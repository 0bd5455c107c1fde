//! Signals of the process, turned into readiness of a file descriptor. Main thread.
//!
//! A handler may do next to nothing, so it does two things: it notes which signal came, and
//! writes one byte into a socket pair whose other end the event loop polls. SIGTERM and SIGINT
//! ask for an orderly shutdown. A SIGINT after either of them means that somebody at a terminal
//! insists: the process exits at once with status 1, from the handler, whatever main is stuck in.
//! SIGHUP is ignored (log rotation needs no signal, see [`crate::log`]); SIGPIPE is ignored by
//! Rust's start-up code, so writing to a closed socket is an error and not the end. SIGXFSZ is
//! ignored for the same reason: a file at its size limit is a full disk, which writes report.
//!
//! This file decides nothing: what a shutdown saves and whom it answers belongs to the event
//! loop. Source: behaviour of redis-server 7.0.15; technique: the self-pipe of D. J. Bernstein.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use mio::event::Source;
use mio::net::UnixStream;
use mio::{Interest, Registry, Token};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::{flag, low_level};

/// Exit status when somebody insists: not a clean shutdown.
const INSISTED_STATUS: i32 = 1;

/// A request to end the process in an orderly way.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Shutdown {
    /// SIGINT: Ctrl-C at a terminal.
    Interrupt,
    /// SIGTERM: a supervisor.
    Terminate,
}

/// The signal handlers and the readable end of their socket pair.
///
/// Main thread. Register it with the poll for readable interest; when it is ready, call
/// [`Signals::take`]. One per process: handlers are process-wide, and stay when it is dropped.
#[derive(Debug)]
pub struct Signals {
    receiver: UnixStream,
    /// The last signal that asked for a shutdown; 0 before the first.
    asked: Arc<AtomicUsize>,
    /// A SIGINT ends the process at once.
    armed: Arc<AtomicBool>,
}

impl Signals {
    /// Installs the handlers.
    ///
    /// # Errors
    /// The operating system refused a socket pair or a handler. Handlers installed before the
    /// refusal stay; the caller is expected to give up.
    pub fn install() -> io::Result<Self> {
        let (receiver, sender) = UnixStream::pair()?;
        let sender = std::os::fd::OwnedFd::from(sender);
        let asked = Arc::new(AtomicUsize::new(0));
        let armed = Arc::new(AtomicBool::new(false));
        // Handlers of one signal run in the order of registration: this one must see what the
        // *previous* signal left, so it comes before the one that arms it.
        flag::register_conditional_shutdown(SIGINT, INSISTED_STATUS, Arc::clone(&armed))?;
        for (signal, number) in [(SIGINT, 2), (SIGTERM, 15)] {
            flag::register(signal, Arc::clone(&armed))?;
            flag::register_usize(signal, Arc::clone(&asked), number)?;
            low_level::pipe::register(signal, sender.try_clone()?)?;
        }
        for ignored in [SIGHUP, SIGXFSZ] {
            flag::register(ignored, Arc::new(AtomicBool::new(false)))?;
        }
        Ok(Self { receiver, asked, armed })
    }

    /// The shutdown asked for since the last call, if any; the last signal wins.
    ///
    /// Empties the socket, so that edge-triggered readiness comes again. Never blocks.
    pub fn take(&mut self) -> Option<Shutdown> {
        let mut bytes = [0; 64];
        // The number is read after the bytes: a signal that comes in between is seen now and
        // leaves a byte that wakes the loop once in vain, and none is ever missed.
        while matches!(self.receiver.read(&mut bytes), Ok(count) if count > 0) {}
        // ORDERING: a single word, and the byte in the socket orders it against the wake-up.
        match self.asked.swap(0, Ordering::Relaxed) {
            2 => Some(Shutdown::Interrupt),
            15 => Some(Shutdown::Terminate),
            _ => None,
        }
    }

    /// The shutdown that was asked for will not come: the next SIGINT asks for another one.
    pub fn disarm(&self) {
        // ORDERING: a single word; whoever sends the next signal has seen the shutdown called off.
        self.armed.store(false, Ordering::Relaxed);
    }
}

impl Source for Signals {
    fn register(&mut self, to: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.receiver.register(to, token, interests)
    }

    fn reregister(&mut self, to: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.receiver.reregister(to, token, interests)
    }

    fn deregister(&mut self, from: &Registry) -> io::Result<()> {
        self.receiver.deregister(from)
    }
}

#[cfg(test)]
mod tests;
