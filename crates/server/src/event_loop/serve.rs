//! Serving clients: read, parse, prefetch, run, write.
//!
//! Clients are served in groups. Every request of a group is parsed before any of them runs, and
//! the keys they will look up are fetched into the cache together, so that the misses of one
//! overlap with those of the others instead of being waited for one by one.

use mio::event::Event;
use mio::{Interest, Token};

use crate::blocked::Blocked;
use crate::client::{Client, ClientKey, Closing, Session};
use crate::client_memory::{OUTPUT_FREE, is_output_too_much};
use crate::command::dispatch::{self, Done};
use crate::keyspace::fetch::Fetch;
use crate::net::conn::{ConnIo, InputLimits, Next, OUTPUT_HIGH, Received, Sent};
use crate::resp::encode::Reply;

use super::EventLoop;
use super::network::{lend_to_read, lend_to_write};

/// Clients read and prefetched together.
pub(super) const GROUP: usize = 16;
/// Requests of one client prefetched together.
const PREFETCH: usize = 16;
/// Requests of one client run in one turn; the others come before the rest.
const RUN_MAX: usize = 512;

impl EventLoop {
    /// Notes what an event says about a client.
    pub(super) fn note_readiness(&mut self, key: ClientKey, event: &Event) {
        let Some(client) = self.server.clients.get_mut(key) else { return };
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            client.readable = true;
            // The end of the stream may lie behind data that a short read seems to exhaust.
            client.read_to_end |= event.is_read_closed() || event.is_error();
            enlist(&mut self.ready, key, client);
            if is_left(client) {
                self.server.close_client(key, Closing::AfterReply);
                return;
            }
        }
        if event.is_writable() && client.write_blocked {
            client.write_blocked = false;
            client.enlist_write(key, &mut self.server.writes);
        }
    }

    /// Serves the clients that were ready when the turn began.
    pub(super) fn serve_ready(&mut self) {
        let mut left = self.ready.len();
        // A half that is lent to be read from is not looked at.
        let reads_here = self.server.offload.as_ref().is_none_or(|offload| !offload.is_accepting());
        let mut group = [ClientKey::INTERNAL; GROUP];
        while left > 0 {
            let count = left.min(GROUP);
            left -= count;
            for slot in &mut group[..count] {
                *slot = self.ready.pop_front().expect("as many as were counted");
                if reads_here {
                    self.server.clients.prefetch_half(*slot);
                }
            }
            let (mut home, mut waiting) = (0, 0);
            for place in 0..count {
                // Whoever has no half here has its turn when that is back.
                if let Some(requests) = self.receive(group[place]) {
                    group[home] = group[place];
                    home += 1;
                    waiting += requests;
                }
            }
            self.run_group(&group[..home], waiting);
        }
    }

    /// Runs what clients have sent: so many requests, or a few less.
    pub(super) fn run_group(&mut self, group: &[ClientKey], waiting: usize) {
        if waiting > 1 {
            self.prefetch(group);
        }
        for key in group {
            self.run_requests(*key);
        }
    }

    /// Reads once and parses, or has it done; returns the number of requests to run, if the half
    /// is here.
    fn receive(&mut self, key: ClientKey) -> Option<usize> {
        let client = self.server.clients.get_mut(key)?;
        client.in_ready = false;
        let io = client.io.as_ref()?;
        debug_assert_eq!(client.waiting, io.waiting() > 0, "as it was left");
        // Errors in place of held replies make it less in the meantime.
        debug_assert!(client.full || io.out.len() <= OUTPUT_HIGH, "no more than it was left with");
        if client.session.closing.is_some() || client.session.blocked.is_some() {
            return Some(0);
        }
        if client.readable && !client.waiting && !client.full {
            if lend_to_read(&mut self.server.offload, client) {
                return None;
            }
            let Client { io: Some(io), readable, session, .. } = client else { return None };
            *readable = false;
            self.server.stats.reads += 1;
            self.naps.note_read(session.last_ms, self.server.now_ms);
            let received = io.receive();
            if !self.note_received(key, received) {
                return Some(0);
            }
        }
        let io = self.server.clients.get_mut(key)?.io.as_mut()?;
        io.parse();
        Some(io.waiting())
    }

    /// Notes what a read came to; whether the client goes on.
    pub(super) fn note_received(&mut self, key: ClientKey, received: Received) -> bool {
        let Some(client) = self.server.clients.get_mut(key) else { return false };
        client.session.last_ms = self.server.now_ms;
        match received {
            // Readiness that arrived since the read began stays noted.
            Received::Drained => client.readable |= client.read_to_end,
            Received::More => client.readable = true,
            Received::Eof | Received::Broken => {
                client.readable = true;
                client.peer_gone = true;
            }
            Received::TooMuch => {
                let session = &client.session;
                self.server.log.warning(format_args!(
                    "Closing client {} ({}) that reached max query buffer length",
                    session.id, session.addr
                ));
                self.server.close_client(key, Closing::Now);
                return false;
            }
        }
        true
    }

    /// Asks for what the first keys of a group's requests will be looked up in.
    fn prefetch(&self, group: &[ClientKey]) {
        let mut fetch = Fetch::new();
        for key in group {
            let Some(client) = self.server.clients.get(*key) else { continue };
            let Some(io) = &client.io else { continue };
            let table = &self.server.keyspace.dbs[client.session.db].table;
            io.first_hashes(PREFETCH).for_each(|hash| fetch.add(table, hash));
        }
        fetch.values();
    }

    /// The same for the next requests of one client, in its database.
    #[inline(never)]
    fn prefetch_next(&self, db: usize, io: &ConnIo) {
        let mut fetch = Fetch::new();
        let table = &self.server.keyspace.dbs[db].table;
        io.first_hashes(PREFETCH).for_each(|hash| fetch.add(table, hash));
        fetch.values();
    }

    /// Runs the requests of one client.
    pub(super) fn run_requests(&mut self, key: ClientKey) {
        self.run_some(key, RUN_MAX);
    }

    /// Runs so many requests of one client at most; the others have their turn.
    pub(super) fn run_some(&mut self, key: ClientKey, count_max: usize) {
        let Some(client) = self.server.clients.get_mut(key) else { return };
        let Some(mut io) = client.io.take() else { return };
        let subscribes = client.session.subscribes;
        let is_limited = self.server.limits_output(subscribes);
        let ran_all = self.run_from(key, &mut io, count_max, is_limited);
        let Some(client) = self.server.clients.get_mut(key) else { return };
        if let (Some(fault), None) = (io.fault(), client.session.closing) {
            let text = format!("ERR {fault}");
            Reply::new(&mut io.out, client.session.proto).error(text.as_bytes());
            client.session.closing = Some(Closing::AfterReply);
        }
        let idle = io.waiting() == 0;
        // It may have shut down only its own side, and wait for what it asked for. Requests may be
        // left that were not even parsed. If it is gone altogether, the write finds out.
        if client.peer_gone && ran_all && idle && client.session.closing.is_none() {
            client.session.closing = Some(Closing::AfterReply);
        }
        if is_left(client) && client.session.closing.is_none() {
            client.session.closing = Some(Closing::AfterReply);
        }
        if client.session.closing.is_some() {
            self.server.closing.push(key);
        }
        let stuck = client.session.closing.is_some() || client.session.blocked.is_some();
        let (waiting, is_cut) = (io.out.len(), io.out.is_cut());
        let full = waiting > OUTPUT_HIGH;
        if waiting > 0 {
            client.enlist_write(key, &mut self.server.writes);
        }
        client.io = Some(io);
        client.unfinished = !ran_all;
        client.waiting = !idle;
        client.full = full;
        if !stuck && !full && (!ran_all || client.readable) {
            enlist(&mut self.ready, key, client);
        }
        let subscribes = client.session.subscribes;
        if is_cut {
            self.server.close_for_cut(key);
        } else if waiting > OUTPUT_FREE {
            let limits = &self.server.config.client_output_buffer_limit;
            if is_output_too_much(waiting, limits.of_client(subscribes).hard_bytes) {
                self.server.close_for_output(key);
            }
        }
        self.server.count_client(key);
    }

    /// Runs requests until there are none, the client must wait, or its turn is over, after so many
    /// at most. Returns whether all were run.
    fn run_from(
        &mut self,
        key: ClientKey,
        io: &mut ConnIo,
        count_max: usize,
        is_limited: bool,
    ) -> bool {
        io.out.set_limit(None);
        for count in 0..count_max {
            if io.out.is_cut() {
                return true;
            }
            if is_limited {
                io.out.set_limit(self.server.output_limit(key));
            }
            let session = self.server.clients.session(key);
            if session.closing.is_some() || session.blocked.is_some() {
                return true;
            }
            if io.out.len() > OUTPUT_HIGH {
                return false;
            }
            if count > 0 && count % PREFETCH == 0 {
                let db = session.db;
                self.prefetch_next(db, io);
            }
            if io.waiting() == 0 {
                let session = self.server.clients.session_mut(key);
                if std::mem::take(&mut session.limits_changed) {
                    io.limits = InputLimits::new(&self.server.config, session.authenticated);
                }
                if !io.parse() {
                    return true;
                }
            }
            let done = match io.front() {
                Some((Next::Known(request), out)) => {
                    dispatch::run(&mut self.server, key, &request, out)
                }
                Some((Next::Unknown(buf, args), out)) => {
                    let words = args[1..].iter().map(|arg| arg.of(buf));
                    dispatch::unknown(&mut self.server, key, args[0].of(buf), words, out);
                    Done::Answered
                }
                None => return true,
            };
            match done {
                Done::Answered => {
                    let session = self.answered(key, io);
                    let is_spent = io.is_spent() && !session.limits_changed;
                    self.serve_waiters();
                    if is_spent {
                        return true;
                    }
                }
                Done::Waits => {
                    self.server.look_ahead(key, io.behind());
                    return true;
                }
            }
        }
        false
    }

    /// The request in front was answered; returns the session of its client.
    #[inline(always)]
    pub(super) fn answered(&mut self, key: ClientKey, io: &mut ConnIo) -> &Session {
        io.pop();
        let session = self.server.clients.session_mut(key);
        if let Some(held) = &mut session.held {
            held.replies += 1;
        }
        session
    }

    /// Sends the replies of this turn.
    pub(super) fn send_replies(&mut self) {
        let mut writes = std::mem::take(&mut self.server.writes);
        for key in writes.drain(..) {
            self.send_reply(key);
        }
        // What came short is in the new list; the old one keeps its room for it and for later.
        writes.append(&mut self.server.writes);
        self.server.writes = writes;
    }

    fn send_reply(&mut self, key: ClientKey) {
        if self.server.clients.get(key).is_some_and(|client| self.server.is_held(client)) {
            self.held.push(key);
            return;
        }
        let Some(client) = self.server.clients.get_mut(key) else { return };
        client.in_writes = false;
        if client.session.closing == Some(Closing::Now) {
            // Its replies are dropped; lent to be sent, its half could not be closed.
            return;
        }
        if client.write_blocked || client.io.as_ref().is_none_or(|io| io.out.is_empty()) {
            return;
        }
        if lend_to_write(&mut self.server.offload, client) {
            return;
        }
        let Some(io) = client.io.as_mut() else { return };
        self.server.stats.writes += 1;
        let sent = io.send();
        self.note_sent(key, sent);
    }

    /// Notes what a write came to.
    pub(super) fn note_sent(&mut self, key: ClientKey, sent: Sent) {
        let Some(client) = self.server.clients.get_mut(key) else { return };
        let Some(io) = client.io.as_mut() else { return };
        let (received, written) = io.take_traffic();
        self.server.stats.net_input_bytes += received;
        self.server.stats.net_output_bytes += written;
        let waiting = io.out.len();
        client.full = sent != Sent::All && waiting > OUTPUT_HIGH;
        if sent != Sent::All && written > 0 {
            // Who takes a long reply bit by bit is not idle; of others its request has told.
            client.session.last_ms = self.server.now_ms;
        }
        let limits = &self.server.config.client_output_buffer_limit;
        let soft_bytes = limits.of_client(client.session.subscribes).soft_bytes;
        if soft_bytes > 0 && !is_output_too_much(waiting, soft_bytes) {
            client.session.behind_since_ms = None;
        }
        match sent {
            Sent::All => {
                if client.session.closing.is_some() {
                    self.server.closing.push(key);
                } else if client.unfinished || client.readable {
                    enlist(&mut self.ready, key, client);
                }
            }
            Sent::Part => client.enlist_write(key, &mut self.server.writes),
            Sent::Blocked => self.await_writable(key),
            Sent::Broken => self.server.close_client(key, Closing::Now),
        }
        self.server.count_client(key);
    }

    /// The socket is full: from now on writable readiness is of interest. A client that never
    /// reads keeps what it asked for, up to `OUTPUT_HIGH` and one reply, and is run no further.
    fn await_writable(&mut self, key: ClientKey) {
        let Some(client) = self.server.clients.get_mut(key) else { return };
        client.write_blocked = true;
        let Some(io) = client.io.as_mut() else { return };
        let interest = Interest::READABLE | Interest::WRITABLE;
        let token = Token(key.to_word());
        if self.registry.reregister(io.stream_mut(), token, interest).is_err() {
            client.session.closing = Some(Closing::Now);
            self.server.closing.push(key);
        }
    }
}

/// Whether nobody is there to be answered. A pause or a wait for an element may last for days, and
/// its client is not read from. Whether it would still take a reply cannot be seen, so it goes, as
/// in Redis.
fn is_left(client: &Client) -> bool {
    let is_long = matches!(client.session.blocked, Some(Blocked::Keys | Blocked::Paused(_)));
    is_long && (client.read_to_end || client.peer_gone)
}

/// Puts a client into the list of those to serve, once.
fn enlist(ready: &mut std::collections::VecDeque<ClientKey>, key: ClientKey, client: &mut Client) {
    if !client.in_ready {
        client.in_ready = true;
        ready.push_back(key);
    }
}
