//! What workers do for connections.
//!
//! The handler runs on workers; it touches the half of the one connection that travels in its job
//! and nothing else: no keys, no clients, no configuration. It never blocks, and a job ends when
//! its budget of bytes or time is used up, so that a client with megabytes delays others by no
//! more than that, and one that is to be closed is back soon.
//!
//! Source: the packed jobs of Valkey 9; its pull request 3438 (unbounded writes in a job).

use flintlock_iothreads::{Context, Handler, Outcome, Panic};
use flintlock_queues::{Words, tagged};
use mio::Token;

use crate::net::conn::ConnIo;
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
        Lost(Box<Token>),
    }
}

/// Runs [`Job`]s; without state.
#[derive(Debug)]
pub(super) struct Io;

impl Handler for Io {
    type Job = Job;
    type Answer = Answer;
    type Layout = Words;
    type Owner = Option<Token>;
    type Local = ();

    fn local(&self, _worker: usize) {}

    fn owner(&self, job: &Job) -> Option<Token> {
        match job {
            Job::Read(io) | Job::Write(io) => Some(io.owner),
            Job::Free(_) => None,
        }
    }

    fn run(&self, job: Job, context: &mut Context<'_, ()>) -> Outcome<Job, Answer> {
        match job {
            Job::Read(mut io) => {
                #[cfg(test)]
                super::tests::fail_if_asked(&io);
                io.receive_job(|bytes| context.may_go_on(bytes));
                Outcome::Done(Answer::Read(io))
            }
            Job::Write(mut io) => {
                io.send_job(|bytes| context.may_go_on(bytes));
                Outcome::Done(Answer::Write(io))
            }
            Job::Free(parts) => free(parts, context),
        }
    }

    fn panicked(&self, owner: Option<Token>, panic: &Panic) -> Option<Answer> {
        eprintln!("a job of an io thread panicked: {panic:?}");
        owner.map(|token| Answer::Lost(Box::new(token)))
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
