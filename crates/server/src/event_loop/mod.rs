//! The event loop: one turn reads as a list of calls.
//!
//! Main thread, which owns the server's state, the sockets' readiness and every decision. `serve`
//! reads, runs and writes for clients; `accept` takes new ones; `cron` is the housekeeping.
//! Polling is edge-triggered: readiness that cannot be used at once is noted on the client and
//! used later, since no second event tells of it.

mod accept;
mod cron;
mod serve;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token};

use crate::client::ClientKey;
use crate::server::Server;
use crate::signals::{Shutdown, Signals};

/// Events taken from one poll: clients of a larger crowd are served in the next turn, so that
/// everybody's wait is bounded by the work of this many.
const EVENTS_MAX: usize = 256;
/// Tokens from here up are not clients.
const FIRST_LISTENER: usize = usize::MAX - 64;
const SIGNALS: Token = Token(usize::MAX - 65);

/// See the module doc.
#[derive(Debug)]
pub(crate) struct EventLoop {
    poll: Poll,
    events: Events,
    listeners: Vec<TcpListener>,
    signals: Signals,
    server: Server,
    /// Clients with readiness or requests left, in order.
    ready: VecDeque<ClientKey>,
    /// Clients with replies to send.
    writes: Vec<ClientKey>,
    cron: cron::Cron,
}

impl EventLoop {
    /// A loop that serves `listeners` from `server`'s state.
    ///
    /// # Errors
    /// The operating system refused a poll or a registration.
    pub(crate) fn new(
        server: Server,
        mut listeners: Vec<TcpListener>,
        mut signals: Signals,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        for (i, listener) in listeners.iter_mut().enumerate() {
            poll.registry().register(listener, Token(FIRST_LISTENER + i), Interest::READABLE)?;
        }
        poll.registry().register(&mut signals, SIGNALS, Interest::READABLE)?;
        let cron = cron::Cron::new(Instant::now());
        Ok(Self {
            poll,
            events: Events::with_capacity(EVENTS_MAX),
            listeners,
            signals,
            server,
            ready: VecDeque::new(),
            writes: Vec::new(),
            cron,
        })
    }

    /// Serves until SHUTDOWN or a signal; returns the exit status.
    ///
    /// # Errors
    /// Polling failed, which no client can cause.
    pub(crate) fn run(mut self) -> io::Result<u8> {
        loop {
            self.before_sleep();
            if let Some(status) = self.ended() {
                return Ok(status);
            }
            self.sleep()?;
            self.collect();
            self.serve_ready();
            self.run_cron();
        }
    }

    /// What must be out before the loop may sleep: replies, and clients that are to go.
    fn before_sleep(&mut self) {
        self.send_replies();
        self.close_marked();
        self.server.stats.cycles += 1;
    }

    fn sleep(&mut self) -> io::Result<()> {
        let timeout =
            if self.ready.is_empty() { self.cron.timeout(Instant::now()) } else { Duration::ZERO };
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        self.server.set_now(unix_ms());
        Ok(())
    }

    /// Turns events into entries of the lists that the turn works through.
    fn collect(&mut self) {
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            match event.token() {
                SIGNALS => self.note_signal(),
                Token(word) if word >= FIRST_LISTENER => self.accept(word - FIRST_LISTENER),
                Token(word) => self.note_readiness(ClientKey::from_word(word), event),
            }
        }
        self.events = events;
    }

    fn note_signal(&mut self) {
        let Some(signal) = self.signals.take() else { return };
        let name = match signal {
            Shutdown::Interrupt => "SIGINT",
            Shutdown::Terminate => "SIGTERM",
        };
        self.server.log.warning(format_args!("Received {name} scheduling shutdown..."));
        self.server.end_by_signal();
    }

    /// Address that clients connect to.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.listeners.first().and_then(|l| l.local_addr().ok())
    }

    /// The exit status, once everything that must happen before the end has happened.
    fn ended(&mut self) -> Option<u8> {
        self.server.ending?;
        self.server.log.warning(format_args!("Flintlock is now ready to exit, bye bye..."));
        Some(0)
    }
}

/// Milliseconds since the Unix epoch.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
