//! The event loop: one turn reads as a list of calls.
//!
//! Main thread, which owns the server's state, the sockets' readiness and every decision. `serve`
//! reads, runs and writes for clients; `network` has workers do that; `accept` takes new ones;
//! `storage` is what the disk tier has to say; `waits` is
//! who waits for elements; `cron` is the housekeeping; `end` is the way out.
//! Polling is edge-triggered: readiness that cannot be used at once is noted on the client and
//! used later, since no second event tells of it.

mod accept;
mod cron;
mod end;
#[cfg(test)]
mod faults;
mod nap;
mod network;
#[cfg(test)]
mod orders;
mod serve;
mod storage;
mod waits;

use std::collections::VecDeque;
use std::io;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use flintlock_diskcache::cache::Now;
use flintlock_iothreads::{Bell, Wake};
use mio::net::TcpListener;
use mio::{Interest, Poll, Registry, Token, Waker};

use crate::client::{ClientKey, Look};
use crate::net::acceptor::Acceptor;
use crate::net::poller::Poller;
use crate::offload::{Answer, Offload};
use crate::server::Server;
use crate::signals::{Shutdown, Signals};

use accept::Door;

/// Events taken from one poll: clients of a larger crowd are served in the next turn, so that
/// everybody's wait is bounded by the work of this many.
const EVENTS_MAX: usize = 200;
/// Tokens from here up are not clients.
const FIRST_LISTENER: usize = usize::MAX - 64;
/// By how much timers of this thread may be late.
const TIMER_SLACK_NS: u64 = 1000;
const SIGNALS: Token = Token(usize::MAX - 65);
const BELL: Token = Token(usize::MAX - 66);

/// See the module doc.
#[derive(Debug)]
pub(crate) struct EventLoop {
    /// `None` while a worker looks.
    poller: Option<Box<Poller>>,
    registry: Registry,
    doors: Vec<Door>,
    signals: Signals,
    server: Server,
    /// Clients with readiness or requests left, in order.
    ready: VecDeque<ClientKey>,
    /// Clients whose replies wait for the journal (`appendfsync always`).
    held: Vec<ClientKey>,
    /// Room for answers of the network workers.
    answers: Vec<Answer>,
    /// How many came in the last turn.
    taken: usize,
    /// Clients that the last look found.
    found: usize,
    naps: nap::Naps,
    cron: cron::Cron,
    started: Instant,
    /// The process is to exit when the replies of this turn are out.
    exits: bool,
    /// The disk tier has more to do at once.
    storage_more: bool,
    /// When the disk tier wants its next turn.
    storage_wake: Option<Instant>,
}

/// Wakes the loop from the threads of the pools.
#[derive(Debug)]
pub(crate) struct LoopWaker(Waker);

impl Wake for LoopWaker {
    fn wake(&self) {
        if self.0.wake().is_err() {
            // A loop that cannot be woken would leave its clients waiting for ever.
            std::process::abort();
        }
    }
}

/// Makes the poll that a loop will sleep in, and what wakes it.
///
/// # Errors
/// The operating system refused one of them.
pub(crate) fn poll_and_bell() -> io::Result<(Poll, Arc<Bell>)> {
    let poll = Poll::new()?;
    let waker = Waker::new(poll.registry(), BELL)?;
    Ok((poll, Bell::new(LoopWaker(waker))))
}

impl EventLoop {
    /// A loop that serves `listeners` from `server`'s state.
    ///
    /// # Errors
    /// The operating system refused a poll or a registration.
    pub(crate) fn new(
        poll: Poll,
        server: Server,
        started: Instant,
        listeners: Vec<TcpListener>,
        mut signals: Signals,
    ) -> io::Result<Self> {
        let poller = Poller::new(poll, EVENTS_MAX);
        let registry = poller.registry()?;
        let mut doors = Vec::new();
        for (index, listener) in listeners.into_iter().enumerate() {
            let mut acceptor = Box::new(Acceptor::new(listener, index));
            let token = Token(FIRST_LISTENER + index);
            registry.register(acceptor.listener_mut(), token, Interest::READABLE)?;
            doors.push(Door { acceptor: Some(acceptor), knocked: false });
        }
        registry.register(&mut signals, SIGNALS, Interest::READABLE)?;
        let cron = cron::Cron::new(Instant::now());
        Ok(Self {
            poller: Some(Box::new(poller)),
            registry,
            doors,
            signals,
            server,
            ready: VecDeque::new(),
            held: Vec::new(),
            answers: Vec::new(),
            taken: 0,
            found: 0,
            naps: nap::Naps::default(),
            cron,
            started,
            exits: false,
            storage_more: false,
            storage_wake: None,
        })
    }

    /// Serves until SHUTDOWN or a signal; returns the exit status.
    ///
    /// # Errors
    /// Polling failed, which no client can cause.
    pub(crate) fn run(mut self) -> io::Result<u8> {
        // From here on nothing on this thread may wait for a disk.
        flintlock_diskcache::exec::forbid_jobs_here();
        // Naps are to last what they are meant to, not the 50 us more that is usual. Where that
        // cannot be had they last longer, which is all.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(TIMER_SLACK_NS));
        loop {
            self.before_sleep();
            if self.exits {
                self.exit();
                return Ok(0);
            }
            self.sleep();
            self.collect()?;
            self.steer_network();
            self.finish_storage();
            self.tell_of_ends();
            self.go_on_after_pause();
            self.end_late_waits();
            self.finish_network()?;
            self.serve_ready();
            self.run_cron();
        }
    }

    /// What must be out before the loop may sleep: replies, and clients that are to go.
    fn before_sleep(&mut self) {
        self.exits = self.server.end_turn();
        self.storage_turn();
        self.release_held();
        self.send_replies();
        self.close_marked();
        self.evict_clients();
        self.accept_knocked();
        self.server.stats.cycles += 1;
    }

    /// Sleeps in the poller; or, if a worker looks, until there is an answer.
    fn sleep(&mut self) {
        let limit = self.sleep_max(Instant::now());
        let poller = self.poller.take().and_then(|poller| self.lend_poller(poller));
        // Both share the bell, so either may forbid the sleep and one is told of its end.
        let stored = self.server.tier.as_mut().is_some_and(|tier| !tier.before_sleep());
        let limit = if stored { Duration::ZERO } else { limit };
        if let Some(mut poller) = poller {
            let moved = self.server.offload.as_mut().is_some_and(|offload| !offload.before_sleep());
            let limit = if moved { Duration::ZERO } else { limit };
            self.nap(limit);
            poller.look(limit);
            self.poller = Some(poller);
        } else if let Some(offload) = &mut self.server.offload {
            offload.wait(limit);
        }
        if let Some(tier) = &mut self.server.tier {
            tier.after_sleep();
        } else if let Some(offload) = &mut self.server.offload {
            offload.after_sleep();
        }
        self.server.set_now(now_since(self.started));
    }

    /// Lets clients arrive together, if a crowd comes and there is nothing to do until then.
    fn nap(&mut self, limit: Duration) {
        let server = &mut self.server;
        if server.offload.as_ref().is_some_and(Offload::is_accepting) {
            return;
        }
        self.naps.turn(server.mono_ms, server.now_ms);
        let nap = self.naps.nap(self.found, server.config.nap_max_us);
        if let Some(nap) = nap.filter(|nap| *nap < limit) {
            server.stats.naps += 1;
            thread::sleep(nap);
        }
    }

    /// How long the loop may sleep if nothing happens.
    fn sleep_max(&self, now: Instant) -> Duration {
        let has_more = !self.ready.is_empty()
            || self.storage_more
            || self.server.end.has_news()
            || self.server.is_pause_over()
            || self.server.client_to_evict().is_some();
        if has_more {
            return Duration::ZERO;
        }
        let storage = self.storage_wake.map(|at| at.saturating_duration_since(now));
        // A pause is over when its last millisecond is.
        let pause = self.server.pause.until_ms().map(|at| at.saturating_add(1));
        let wait = self.server.waiters.until_ms().map(|at| at.saturating_add(1));
        let end = self.server.end.by_ms().into_iter().chain(pause).chain(wait).min();
        let end = end.map(|at| Duration::from_millis(at.saturating_sub(self.server.mono_ms)));
        let network = self.network_wake(now).map(|at| at.saturating_duration_since(now));
        let wanted = [storage, end, network].into_iter().flatten().min();
        self.cron.timeout(now).min(wanted.unwrap_or(Duration::MAX))
    }

    /// Turns events into entries of the lists that the turn works through, if the poller is here.
    ///
    /// # Errors
    /// Polling failed.
    fn collect(&mut self) -> io::Result<()> {
        let Some(mut poller) = self.poller.take() else { return Ok(()) };
        let events = poller.events()?;
        self.found = 0;
        for event in events {
            // Other tokens are no client's, which a look at the table finds out.
            let key = ClientKey::from_word(event.token().0);
            self.server.clients.prefetch(key, Look::News);
        }
        for event in events {
            match event.token() {
                SIGNALS => self.note_signal(),
                // Whoever rang is asked anyway.
                BELL => {}
                Token(word) if word >= FIRST_LISTENER => self.accept(word - FIRST_LISTENER),
                Token(word) => {
                    self.found += 1;
                    self.note_readiness(ClientKey::from_word(word), event);
                }
            }
        }
        self.poller = Some(poller);
        Ok(())
    }

    fn note_signal(&mut self) {
        let Some(signal) = self.signals.take() else { return };
        let name = match signal {
            Shutdown::Interrupt => "SIGINT",
            Shutdown::Terminate => "SIGTERM",
        };
        self.server.log.warning(format_args!("Received {name} scheduling shutdown..."));
        self.server.end_by_signal(signal);
    }
}

/// Both clocks; the one that never goes back counts from `started`.
pub(crate) fn now_since(started: Instant) -> Now {
    let mono_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let unix_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    Now { mono_ms, unix_ms }
}
