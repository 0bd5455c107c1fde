//! Housekeeping: expiry, rates, idle clients, freeing. Main thread.
//!
//! Runs ten times a second while there is something to do and once a second otherwise, so an idle
//! server wakes once a second. Work that may be large is done in slices of about a millisecond
//! between turns.

use std::time::{Duration, Instant};

use crate::client::Closing;
use crate::command::Ctx;
use crate::keyspace::expire;

use super::EventLoop;

const BUSY: Duration = Duration::from_millis(100);
const IDLE: Duration = Duration::from_secs(1);
/// Longest slice of housekeeping in one turn.
const SLICE: Duration = Duration::from_millis(1);
/// Pause between slices while work is left: the loop serves clients in between.
const BETWEEN_SLICES: Duration = Duration::from_millis(3);

/// When housekeeping is due.
#[derive(Debug)]
pub(super) struct Cron {
    due: Instant,
    /// Listeners that could not be emptied.
    accept_again: Vec<usize>,
    commands_seen: u64,
    /// Where the round over databases goes on.
    expire_db: usize,
    last_clients: Instant,
}

impl Cron {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            due: now + BUSY,
            accept_again: Vec::new(),
            commands_seen: 0,
            expire_db: 0,
            last_clients: now,
        }
    }

    /// How long the loop may sleep.
    pub(super) fn timeout(&self, now: Instant) -> Duration {
        self.due.saturating_duration_since(now)
    }

    /// Notes that a listener has more connections than were accepted.
    pub(super) fn accept_again(&mut self, listener: usize) {
        self.accept_again.push(listener);
    }
}

impl EventLoop {
    /// Does what is due.
    pub(super) fn run_cron(&mut self) {
        let now = Instant::now();
        if now < self.cron.due {
            return;
        }
        for listener in std::mem::take(&mut self.cron.accept_again) {
            self.accept(listener);
        }
        self.server.stats.sample(self.server.now_ms);
        let used = self.server.used_memory();
        self.server.stats.peak_memory = self.server.stats.peak_memory.max(used);
        self.server.huge_pages.look(used, now);
        if now.duration_since(self.cron.last_clients) >= IDLE {
            self.cron.last_clients = now;
            self.check_clients();
        }
        let expires = !self.server.is_paused();
        let more = (expires && self.expire_slice(now)) | self.server.garbage.step(now + SLICE);
        let commands = self.server.stats.commands_ever();
        let busy = commands != self.cron.commands_seen;
        self.cron.commands_seen = commands;
        let volatile = self.server.keyspace.dbs.used().any(|db| db.table.counts().volatile > 0);
        self.cron.due = Instant::now()
            + if more {
                BETWEEN_SLICES
            } else if busy || volatile {
                BUSY
            } else {
                IDLE
            };
    }

    /// Deletes keys whose time is over. Returns whether many were, so that there may be more.
    fn expire_slice(&mut self, start: Instant) -> bool {
        let mut expired: Vec<Box<[u8]>> = Vec::new();
        let databases = self.server.keyspace.dbs.len();
        let (mut met, mut deleted, mut empty) = (0, 0, 0);
        while empty < databases && start.elapsed() < SLICE {
            let index = self.cron.expire_db % databases;
            if self.server.keyspace.dbs[index].table.counts().volatile == 0 {
                self.cron.expire_db = index + 1;
                empty += 1;
                continue;
            }
            let db = &mut self.server.keyspace.dbs[index];
            let now_ms = self.server.now_ms;
            let (volatile, end) = expire::walk(db, now_ms, |key| expired.push(key.into()));
            met += volatile;
            deleted += expired.len();
            self.server.expire(index, &mut expired);
            if end {
                self.cron.expire_db = index + 1;
                empty += 1;
            }
        }
        // A tenth of what was met: below that, waiting for the next round costs little memory.
        deleted * 10 > met
    }

    /// Once a second: clients that were idle or behind too long, and memory that bursts left.
    fn check_clients(&mut self) {
        for key in self.server.clients_behind() {
            self.server.close_for_output(key);
        }
        let now_ms = self.server.now_ms;
        let timeout_ms = u64::from(self.server.config.timeout_s) * 1000;
        let idle: Vec<_> = self
            .server
            .clients
            .iter()
            .filter(|(_, c)| now_ms.saturating_sub(c.session.last_ms) >= 2000)
            .map(|(key, c)| {
                let waits = c.session.blocked.is_some() || c.session.subscribes;
                (key, now_ms - c.session.last_ms, waits)
            })
            .collect();
        for (key, idle_ms, waits) in idle {
            if timeout_ms > 0 && idle_ms > timeout_ms && !waits {
                self.server.log.verbose(format_args!("Closing idle client"));
                self.server.close_client(key, Closing::Now);
            } else if let Some(io) = self.server.clients.get_mut(key).and_then(|c| c.io.as_mut()) {
                io.shrink();
                self.server.count_client(key);
            }
        }
    }
}

impl crate::server::Server {
    /// Deletes keys of database `db` that were found to be expired.
    fn expire(&mut self, db: usize, keys: &mut Vec<Box<[u8]>>) {
        let mut ctx = Ctx::new(self, crate::client::ClientKey::INTERNAL);
        ctx.db = db;
        for key in keys.drain(..) {
            // Looking an expired key up deletes it.
            let key = ctx.hasher().key(&key);
            ctx.find_untouched(key);
        }
    }
}
