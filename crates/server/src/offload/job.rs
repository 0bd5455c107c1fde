//! What workers do for connections.
//!
//! The handler runs on workers; it touches the half of the one connection that travels in its job
//! and nothing else: no keys, no clients, no configuration. It never blocks, and a job ends when
//! its budget of bytes or time is used up, so that a client with megabytes delays others by no
//! more than that, and one that is to be closed is back soon.
//!
//! Source: the packed jobs of Valkey 9; its pull request 3438 (unbounded writes in a job).

use std::time::Duration;

use flintlock_iothreads::{Context, Handler, Outcome, Panic};
use flintlock_queues::{Words, tagged};
use mio::Token;

use crate::net::acceptor::Acceptor;
use crate::net::conn::{Budgeted, ConnIo};
use crate::net::poller::Poller;
use crate::types::Parts;

tagged! {
    /// What a worker is asked to do.
    #[derive(Debug)]
    pub(crate) enum Job {
        /// Read what is there and parse it.
        Read(Box<ConnIo>),
        /// Send what is due.
        Write(Box<ConnIo>),
        /// Free a big value that nobody can see any more.
        Free(Box<Parts>),
        /// See which sockets are ready.
        Poll(Box<Poller>),
        /// Accept a batch of connections.
        Accept(Box<Acceptor>),
        /// Close the socket of a client that is gone, and free its buffers.
        Close(Box<ConnIo>),
    }
}

tagged! {
    /// What comes back.
    #[derive(Debug)]
    pub(crate) enum Answer {
        /// The half, with what was read.
        Read(Box<ConnIo>),
        /// The half, with what could not be sent.
        Write(Box<ConnIo>),
        /// The half was lost in a panic, and its socket is closed: whose it was.
        Lost(Box<Lost>),
        /// The poller, with what it found.
        Poll(Box<Poller>),
        /// The listener, with those who came.
        Accept(Box<Acceptor>),
    }
}

impl Answer {
    /// Asks for the half, which will be looked at soon: a worker wrote it last.
    #[inline]
    pub(super) fn prefetch(&self) {
        match self {
            Self::Read(io) => io.prefetch_back(true),
            Self::Write(io) => io.prefetch_back(false),
            Self::Lost(_) | Self::Poll(_) | Self::Accept(_) => {}
        }
    }
}

/// Whose half was lost. Its address has four spare bits for the packed answers.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
#[repr(align(16))]
pub(crate) struct Lost(pub Token);

/// Who is told of a panic.
#[derive(Copy, Clone, Debug)]
pub(super) enum Whose {
    /// The client with this token.
    Client(Token),
    /// Nobody.
    None,
    /// Nobody can be, since nobody is served without the poller, and nobody new without the
    /// listener.
    Loop,
}

/// Runs [`Job`]s; without state.
#[derive(Debug)]
pub(super) struct Io;

impl Handler for Io {
    type Job = Job;
    type Answer = Answer;
    type Layout = Words;
    type Owner = Whose;
    type Local = ();

    fn local(&self, _worker: usize) {}

    fn owner(&self, job: &Job) -> Whose {
        match job {
            Job::Read(io) | Job::Write(io) => Whose::Client(io.owner),
            Job::Free(_) | Job::Close(_) => Whose::None,
            Job::Poll(_) | Job::Accept(_) => Whose::Loop,
        }
    }

    fn run(&self, job: Job, context: &mut Context<'_, ()>) -> Outcome<Job, Answer> {
        match job {
            Job::Read(mut io) => {
                #[cfg(test)]
                super::tests::fail_if_asked(&io);
                io.receive_job(context);
                Outcome::Done(Answer::Read(io))
            }
            Job::Write(mut io) => {
                io.send_job(context);
                Outcome::Done(Answer::Write(io))
            }
            Job::Free(parts) => free(parts, context),
            Job::Accept(mut acceptor) => {
                acceptor.accept(|| context.may_go_on(0));
                Outcome::Done(Answer::Accept(acceptor))
            }
            Job::Close(io) => {
                let bytes = io.memory_bytes();
                drop(io);
                context.freed(bytes as u64);
                Outcome::Nothing
            }
            Job::Poll(mut poller) => {
                poller.look(Duration::ZERO);
                Outcome::Done(Answer::Poll(poller))
            }
        }
    }

    fn panicked(&self, owner: Whose, panic: &Panic) -> Option<Answer> {
        eprintln!("a job of an io thread panicked: {panic:?}");
        match owner {
            Whose::Client(token) => Some(Answer::Lost(Box::new(Lost(token)))),
            Whose::None => None,
            Whose::Loop => std::process::abort(),
        }
    }
}

impl Budgeted for Context<'_, ()> {
    fn bytes_left(&self) -> usize {
        Context::bytes_left(self)
    }

    fn may_go_on(&mut self, bytes: usize) -> bool {
        Context::may_go_on(self, bytes)
    }
}

/// Frees a slice and asks for more time: other jobs come in between.
fn free(mut parts: Box<Parts>, context: &mut Context<'_, ()>) -> Outcome<Job, Answer> {
    /// Pieces freed between two looks at the clock.
    const PIECES: usize = 8;
    loop {
        let before = parts.memory_bytes();
        let done = parts.drop_slice(PIECES);
        let freed = if done { before } else { before.saturating_sub(parts.memory_bytes()) };
        context.freed(freed as u64);
        if done {
            return Outcome::Nothing;
        }
        if !context.may_go_on(0) {
            return Outcome::Again(Job::Free(parts));
        }
    }
}
