//! The way out: SHUTDOWN, SIGTERM, SIGINT.
//!
//! Clients are served no further, everything acknowledged is made durable, and the keys that are
//! dirty go to the engine for as long as there is time: what is left is in the journal.

use std::time::{Duration, Instant};

use crate::server::{Ending, Server};

use super::EventLoop;

impl EventLoop {
    /// Address that clients connect to.
    pub(crate) fn address(&self) -> Option<std::net::SocketAddr> {
        self.listeners.first().and_then(|l| l.local_addr().ok())
    }

    /// Whether the end has begun, so that clients are served no further.
    pub(super) fn is_ending(&self) -> bool {
        self.server.ending.is_some()
    }

    /// The exit status, once everything that must happen before the end has happened.
    pub(super) fn ended(&mut self) -> Option<u8> {
        let Some(ending) = self.server.ending else {
            // SHUTDOWN ABORT may have taken it back.
            self.end_by = None;
            return None;
        };
        let Some(tier) = &mut self.server.tier else { return Some(self.exit(0)) };
        let now = Instant::now();
        let Some(end_by) = self.end_by else {
            self.end_by = Some(now + self.begin_end(ending));
            return None;
        };
        if tier.is_at_rest() && tier.is_durable() {
            return Some(self.exit(0));
        }
        if now < end_by {
            return None;
        }
        if tier.is_durable() {
            let left = tier.cache.gauges().saves_queued;
            self.server.log.notice(format_args!(
                "{left} changed keys are in the journal only; the next start will replay them"
            ));
            return Some(self.exit(0));
        }
        self.server.log.warning(format_args!(
            "Error trying to make the last writes durable, they are lost with the process"
        ));
        Some(self.exit(if ending.force { 0 } else { 1 }))
    }

    /// Begins the end; returns how long it may take.
    fn begin_end(&mut self, ending: Ending) -> Duration {
        if let Some(tier) = &mut self.server.tier {
            tier.begin_end(ending.save);
        }
        self.storage_turn();
        if ending.now {
            return Duration::from_secs(1);
        }
        Duration::from_secs(u64::from(self.server.config.shutdown_timeout_s).max(1))
    }

    fn exit(&mut self, status: u8) -> u8 {
        self.server.release();
        self.server.log.warning(format_args!("Flintlock is now ready to exit, bye bye..."));
        status
    }
}

impl Server {
    /// Lets go of everything that waits; before the server is dropped.
    fn release(&mut self) {
        let keys: Vec<_> = self.clients.iter().map(|(key, _)| key).collect();
        for key in keys {
            if let Some(mut client) = self.clients.remove(key) {
                self.forget_blocked(&mut client);
            }
        }
        if let Some(tier) = &mut self.tier {
            if let Some(token) = self.saves.take_token() {
                tier.cache.abandon(token);
            }
            tier.release();
        }
    }
}
