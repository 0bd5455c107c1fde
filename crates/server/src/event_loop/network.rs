//! Halves of connections on their way to the network workers and back.
//!
//! While a half is away, its client runs nothing and is not closed: readiness, a kill by another
//! client and everything else that concerns it is noted on the client, and looked at when the half
//! is back. A client whose request waits for the disk tier keeps its half at home, since the
//! request goes on from there.

use std::io;
use std::time::Instant;

use flintlock_iothreads::Turn;

use crate::client::{Client, ClientKey, Closing, Look};
use crate::net::conn::ConnIo;
use crate::net::poller::Poller;
use crate::offload::{Answer, Offload};

use super::EventLoop;
use super::serve::GROUP;

/// Answers taken in one turn: clients that are served here and the storage have their turn too.
const ANSWERS_MAX: usize = 200;
/// Answers of a turn from which on a worker looks for readiness.
const TAKEN_MIN: usize = 8;

impl EventLoop {
    /// Lets the pool decide how many workers take part in this turn.
    pub(super) fn steer_network(&mut self) {
        let Some(offload) = &mut self.server.offload else { return };
        let turn = Turn {
            jobs: self.ready.len(),
            completed: self.server.stats.commands_ever(),
            // A backup merges and copies all the time.
            reserved_cpus: usize::from(self.server.saves.is_running()),
        };
        if let Some(change) = offload.turn(self.server.mono_ms, turn) {
            self.server.log.debug(format_args!(
                "IO workers: {} active instead of {} ({})",
                change.to, change.from, change.reason
            ));
        }
    }

    /// Has a worker look for readiness, if the main thread has better things to do: this turn
    /// brought it so many answers that others will be there before a look of its own is over.
    /// Gives the poller back if it has not.
    pub(super) fn lend_poller(&mut self, poller: Box<Poller>) -> Option<Box<Poller>> {
        match &mut self.server.offload {
            Some(offload) if self.taken >= TAKEN_MIN => offload.poll(poller).err(),
            _ => Some(poller),
        }
    }

    /// Takes halves back that workers are done with, and goes on with their clients.
    ///
    /// # Errors
    /// The look of a worker failed.
    pub(super) fn finish_network(&mut self) -> io::Result<()> {
        let mut answers = std::mem::take(&mut self.answers);
        let mut left = ANSWERS_MAX;
        while let Some(offload) = &mut self.server.offload {
            let count = offload.drain(left.min(GROUP), &mut answers);
            if count == 0 {
                break;
            }
            left -= count;
            self.take_back(&mut answers)?;
        }
        self.answers = answers;
        self.taken = ANSWERS_MAX - left;
        Ok(())
    }

    /// Takes a group of halves back. Their requests run when all are here, so that the keys are
    /// fetched together.
    fn take_back(&mut self, answers: &mut Vec<Answer>) -> io::Result<()> {
        let mut group = [ClientKey::INTERNAL; GROUP];
        let (mut count, mut waiting) = (0, 0);
        self.prefetch_answers(answers);
        for answer in answers.drain(..) {
            match answer {
                Answer::Read(io) => {
                    let (key, requests) = self.back_from_read(io);
                    group[count] = key;
                    count += 1;
                    waiting += requests;
                }
                Answer::Write(io) => self.back_from_write(io),
                Answer::Poll(poller) => {
                    self.server.stats.offloaded_polls += 1;
                    self.poller = Some(poller);
                    self.collect()?;
                }
                Answer::Accept(acceptor) => self.back_from_accept(acceptor),
                Answer::Lost(whose) => self.lost(ClientKey::from_word(whose.0.0)),
            }
        }
        self.run_group(&group[..count], waiting);
        Ok(())
    }

    /// Asks for what else is looked at for a group of answers, whose halves were asked for before:
    /// a worker wrote much of it last, and one after the other that is a dozen waits for each.
    fn prefetch_answers(&self, answers: &[Answer]) {
        for answer in answers {
            match answer {
                Answer::Read(io) => {
                    self.server.clients.prefetch(ClientKey::from_word(io.owner.0), Look::Run);
                    io.prefetch_request();
                }
                Answer::Write(io) => {
                    self.server.clients.prefetch(ClientKey::from_word(io.owner.0), Look::Sent);
                }
                Answer::Lost(_) | Answer::Poll(_) | Answer::Accept(_) => {}
            }
        }
    }

    /// Puts a half into its place; what the job came to is still in it.
    fn put_back(&mut self, io: Box<ConnIo>) -> ClientKey {
        let key = ClientKey::from_word(io.owner.0);
        let client = self.server.clients.get_mut(key).expect("a client away is not closed");
        debug_assert!(client.away && client.io.is_none(), "one half, lent once");
        client.away = false;
        client.waiting = io.waiting() > 0;
        client.io = Some(io);
        if client.session.closing.is_some() {
            self.server.closing.push(key);
        }
        key
    }

    fn back_from_read(&mut self, io: Box<ConnIo>) -> (ClientKey, usize) {
        let (received, requests) = (io.received, io.waiting());
        let key = self.put_back(io);
        self.server.stats.offloaded_reads += 1;
        // What waits to be sent meanwhile is sent when its requests have run, if there are any.
        let go_on = self.note_received(key, received);
        self.take_mail(key);
        (key, if go_on { requests } else { 0 })
    }

    fn back_from_write(&mut self, io: Box<ConnIo>) {
        let sent = io.sent;
        let key = self.put_back(io);
        self.server.stats.offloaded_writes += 1;
        self.note_sent(key, sent);
        self.take_mail(key);
    }

    /// Puts what a subscriber was sent while its half was away behind what is in the half.
    fn take_mail(&mut self, key: ClientKey) {
        if self.server.clients.get(key).is_some_and(|client| client.session.subscribes) {
            self.server.take_mail(key);
        }
    }

    /// The half went with a panic in its job; its socket is closed already.
    fn lost(&mut self, key: ClientKey) {
        self.server.log.warning(format_args!("A client is closed because its job panicked"));
        if let Some(client) = self.server.clients.get_mut(key) {
            client.away = false;
            self.server.close_client(key, Closing::Now);
        }
    }

    /// Before the end: replies that are being sent go out, and nobody holds a half any more.
    pub(super) fn settle_network(&mut self) {
        let Some(offload) = &mut self.server.offload else { return };
        let mut answers = Vec::new();
        if let Err(busy) = offload.settle(&mut answers) {
            self.server.log.warning(format_args!("At the end of serving: {busy}"));
        }
        for answer in answers {
            if let Answer::Write(mut io) = answer {
                // As far as the socket takes it, as if it had been sent from here.
                io.send();
            }
        }
    }

    /// When the network workers want a turn.
    pub(super) fn network_wake(&self, now: Instant) -> Option<Instant> {
        self.server.offload.as_ref()?.wake_by(now)
    }
}

/// Lends the half of a client to a worker that reads and parses. Whether it is away.
pub(super) fn lend_to_read(offload: &mut Option<Offload>, client: &mut Client) -> bool {
    let Some(offload) = offload.as_mut().filter(|offload| offload.is_accepting()) else {
        return false;
    };
    let Some(io) = client.io.take() else { return false };
    match offload.read(io) {
        Ok(()) => {
            client.away = true;
            // What comes from now on is news.
            client.readable = false;
        }
        Err(io) => client.io = Some(io),
    }
    client.away
}

/// Lends the half of a client to a worker that writes. Whether it is away.
pub(super) fn lend_to_write(offload: &mut Option<Offload>, client: &mut Client) -> bool {
    let Some(offload) = offload.as_mut().filter(|offload| offload.is_accepting()) else {
        return false;
    };
    if client.session.blocked.is_some() {
        offload.note_ineligible();
        return false;
    }
    let Some(io) = client.io.take() else { return false };
    match offload.write(io) {
        Ok(()) => client.away = true,
        Err(io) => client.io = Some(io),
    }
    client.away
}
