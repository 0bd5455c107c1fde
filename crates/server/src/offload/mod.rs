//! The network workers: reading with parsing, writing, and freeing big values, elsewhere than on
//! the main thread when that pays.
//!
//! Main thread. A connection's half moves into a job and comes back in an answer, so while it is
//! away nobody here can touch it, and it cannot be lent twice: one job for a connection at a time,
//! whichever direction. Commands, keys and decisions stay on the main thread. How many workers
//! there are is the pool's business: none at first, and none again if they did not pay. Whenever
//! the pool refuses a job, the half comes back at once and the caller does the work itself, as a
//! server without workers does. With `io-threads 1`, or one CPU, there are none; CONFIG SET, or
//! more CPUs, may change that.
//!
//! `job` is the other side, `report` what operators see.
//!
//! Source: the IO threads of Valkey 9, pull request 2909.

mod job;
mod report;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use flintlock_iothreads::{
    Bell, Change, IoThreads, Options, Pool, Scaling, SpawnError, StillBusy, Turn, UsableCpus,
};

use crate::config::{Config, Threads};
use crate::log::Log;
use crate::net::acceptor::Acceptor;
use crate::net::conn::ConnIo;
use crate::net::poller::Poller;
use crate::types::Parts;

use job::{Io, Job};

pub(crate) use job::Answer;

/// Jobs in flight at most, and places for their answers with each worker: enough for every client
/// of a busy turn, and the rest is done inline.
const CREDITS: usize = 1024;
/// How long workers that are always active spin before they sleep, if each has a CPU.
const SPIN: Duration = Duration::from_micros(20);
/// How long the end of the server waits for jobs: they are budgeted to microseconds.
const END_MAX: Duration = Duration::from_secs(1);

/// See the module doc.
#[derive(Debug)]
pub(crate) struct Offload {
    pool: Pool<Io>,
    /// Rung by the workers of all pools.
    bell: Arc<Bell>,
    threads: IoThreads,
    always_active: bool,
    /// What the pool was last told to be.
    scaling: Scaling,
    /// Halves that are away.
    lent: usize,
    /// Bytes of values on their way to be freed, as of this turn.
    freeing_bytes: u64,
    /// Jobs of turns that the pool was not asked about.
    skipped: u64,
    /// CPUs that the rest of the process needs, as of this turn.
    reserved_cpus: usize,
    /// When the pool last had a turn, in milliseconds of the loop's clock.
    turned_ms: u64,
    /// Unix time at which the pool's clock stood at zero.
    epoch: Duration,
}

impl Offload {
    /// The workers that the configuration asks for. An adaptive pool starts no thread yet.
    ///
    /// # Errors
    /// Threads that are to be always active could not be started.
    pub(crate) fn new(config: &Config, bell: Arc<Bell>) -> Result<Self, SpawnError> {
        let (threads, always_active) = (threads(config), config.io_threads_always_active);
        let cpus = UsableCpus::read();
        let scaling = scaling(threads, &cpus, always_active);
        let workers = scaling.workers_max();
        let spin = if workers < cpus.count() { SPIN } else { Duration::ZERO };
        let options = Options {
            scaling,
            credits: CREDITS,
            spin,
            thread_name: "io",
            worker_cpus: config.io_threads_cpulist.clone(),
            ..Options::adaptive(workers)
        };
        let pool = Pool::new(Io, Arc::clone(&bell), options)?;
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let epoch = unix.saturating_sub(pool.now());
        Ok(Self {
            pool,
            bell,
            threads,
            always_active,
            scaling,
            lent: 0,
            freeing_bytes: 0,
            skipped: 0,
            reserved_cpus: 0,
            turned_ms: 0,
            epoch,
        })
    }

    /// Tells operators if more threads are configured than CPUs are usable.
    pub(crate) fn warn_of_surplus(&self, log: &Log) {
        if self.threads.oversubscribes(self.pool.usable_cpus()) {
            log.warning(format_args!(
                "More io-threads are configured than CPUs are usable: the surplus will not be used \
                 unless io-threads-always-active says so"
            ));
        }
    }

    /// Takes a changed configuration over while jobs run: nothing in flight is lost. Threads that
    /// cannot be started are counted, and those that run are kept; the log tells of that.
    pub(crate) fn reconfigure(&mut self, config: &Config, log: &Log) {
        let before = std::mem::replace(&mut self.threads, threads(config));
        if self.threads != before {
            self.warn_of_surplus(log);
        }
        self.always_active = config.io_threads_always_active;
        if let Err(error) = self.rescale() {
            log.warning(format_args!("IO threads: {error}"));
        }
    }

    /// Has as many workers as the configuration and the usable CPUs want.
    fn rescale(&mut self) -> Result<(), SpawnError> {
        let wanted = scaling(self.threads, self.pool.usable_cpus(), self.always_active);
        if wanted == self.scaling {
            return Ok(());
        }
        self.scaling = wanted;
        self.pool.rescale(wanted)
    }

    /// Whether no worker is active, and nothing is away that can come back: the state of a server
    /// without load, or on a machine where workers do not pay, which must cost nothing. Threads
    /// that were started once may sleep meanwhile.
    fn is_quiet(&self) -> bool {
        self.pool.active() == 0 && self.lent == 0 && self.freeing_bytes == 0
    }

    /// The start of a turn that may submit `jobs` jobs, with so many requests run up to now: lets
    /// the pool decide how many workers take part, and whether this turn's jobs are taken.
    ///
    /// `now_ms` is any clock that never goes back. While the pool is quiet one turn in each
    /// millisecond is looked at: they are all alike, and looking takes a reading of the clock.
    pub(crate) fn turn(&mut self, now_ms: u64, turn: Turn) -> Option<Change> {
        self.skipped += turn.jobs as u64;
        if self.is_quiet() && self.turned_ms == now_ms {
            return None;
        }
        self.turned_ms = now_ms;
        self.reserved_cpus = turn.reserved_cpus;
        let change = self.pool.tick(&turn);
        self.pool.note_skipped(std::mem::take(&mut self.skipped));
        // `auto` follows the CPUs. Threads that cannot be started are counted.
        let _ = self.rescale();
        if self.freeing_bytes > 0 {
            // What sockets to be closed hold counts as used no more than it did before. To know it
            // is to ask each worker.
            self.freeing_bytes = self.freeing_bytes.min(self.pool.pending_free_bytes());
        }
        change
    }

    /// Counts a job that no worker can do.
    pub(crate) fn note_ineligible(&mut self) {
        self.pool.note_ineligible();
    }

    /// Whether this turn's jobs are taken, unless something runs out.
    pub(crate) fn is_accepting(&self) -> bool {
        self.pool.is_accepting()
    }

    /// Lends a half to be read from and parsed.
    ///
    /// # Errors
    /// The half, as it was, if the caller must do it.
    pub(crate) fn read(&mut self, io: Box<ConnIo>) -> Result<(), Box<ConnIo>> {
        self.lend(Job::Read(io))
    }

    /// Lends a half to be written to.
    ///
    /// # Errors
    /// The half, as it was, if the caller must do it.
    pub(crate) fn write(&mut self, io: Box<ConnIo>) -> Result<(), Box<ConnIo>> {
        self.lend(Job::Write(io))
    }

    /// Has the socket of a half closed and its buffers freed. Nobody is told when that is done; it
    /// counts against the credits until then, so no more sockets than those wait to be closed.
    /// Workers that are told to go close what was submitted first.
    ///
    /// # Errors
    /// The half, as it was, if the caller must do it.
    pub(crate) fn close(&mut self, io: Box<ConnIo>) -> Result<(), Box<ConnIo>> {
        if !self.pool.is_accepting() {
            return Err(io);
        }
        let bytes = io.memory_bytes() as u64;
        self.pool.submit_free(Job::Close(io), bytes).map_err(|full| half_of(full.job))
    }

    fn lend(&mut self, job: Job) -> Result<(), Box<ConnIo>> {
        self.pool.submit(job).map_err(|full| half_of(full.job))?;
        self.lent += 1;
        Ok(())
    }

    /// Lends the poller for one look without waiting, ahead of jobs if there are many workers.
    /// Afterwards [`Offload::wait`] instead of sleeping in it.
    ///
    /// # Errors
    /// The poller, if no half is away, so that nothing but its own look would be waited for, or if
    /// the caller must look.
    pub(crate) fn poll(&mut self, poller: Box<Poller>) -> Result<(), Box<Poller>> {
        if self.lent == 0 || !self.pool.is_accepting() {
            return Err(poller);
        }
        self.pool.submit_poll(Job::Poll(poller)).map_err(|full| match full.job {
            Job::Poll(poller) => poller,
            _ => unreachable!("a refused job is the one offered"),
        })?;
        self.lent += 1;
        Ok(())
    }

    /// Lends a listener, to have a batch of connections accepted.
    ///
    /// # Errors
    /// The listener, if the caller must accept; also if no half is away: then a worker would have
    /// to be woken, which costs more than to accept the one or two who are likely to be there.
    pub(crate) fn accept(&mut self, acceptor: Box<Acceptor>) -> Result<(), Box<Acceptor>> {
        if self.lent == 0 || !self.pool.is_accepting() {
            return Err(acceptor);
        }
        self.pool.submit(Job::Accept(acceptor)).map_err(|full| match full.job {
            Job::Accept(acceptor) => acceptor,
            _ => unreachable!("a refused job is the one offered"),
        })?;
        self.lent += 1;
        Ok(())
    }

    /// Publishes what was submitted and waits for an answer, for at most `limit`.
    pub(crate) fn wait(&mut self, limit: Duration) {
        if limit > Duration::ZERO {
            self.pool.wait(Some(limit));
        } else {
            self.pool.commit();
        }
    }

    /// Has a value freed. Its memory counts as used until it is gone.
    ///
    /// # Errors
    /// The value, if the caller must do it.
    pub(crate) fn free(&mut self, parts: Parts) -> Result<(), Parts> {
        if !self.pool.is_accepting() {
            return Err(parts);
        }
        let bytes = parts.memory_bytes() as u64;
        match self.pool.submit_free(Job::Free(Box::new(parts)), bytes) {
            Ok(()) => {
                self.freeing_bytes += bytes;
                Ok(())
            }
            Err(full) => match full.job {
                Job::Free(parts) => Err(*parts),
                _ => unreachable!("a refused job is the one offered"),
            },
        }
    }

    /// Bytes of values on their way to be freed.
    pub(crate) fn freeing_bytes(&self) -> usize {
        usize::try_from(self.freeing_bytes).unwrap_or(usize::MAX)
    }

    /// Takes up to `max` answers, and asks for their halves; returns how many.
    pub(crate) fn drain(&mut self, max: usize, answers: &mut Vec<Answer>) -> usize {
        if self.is_quiet() {
            return 0;
        }
        let count = self.pool.drain(max, |answer| {
            answer.prefetch();
            answers.push(answer);
        });
        self.lent -= count;
        count
    }

    /// Publishes what was submitted and announces that the loop is about to sleep; whether it may.
    pub(crate) fn before_sleep(&mut self) -> bool {
        self.is_quiet() || self.pool.before_sleep()
    }

    /// The loop has left its poll.
    pub(crate) fn after_sleep(&mut self) {
        self.pool.after_sleep();
    }

    /// When the pool wants its next turn at the latest; `None` while no worker is active.
    pub(crate) fn wake_by(&self, now: Instant) -> Option<Instant> {
        self.pool.timeout().map(|left| now + left)
    }

    /// Waits until every half is back, which takes as long as a job may take.
    ///
    /// # Errors
    /// A job did not end in a second.
    pub(crate) fn settle(&mut self, answers: &mut Vec<Answer>) -> Result<(), StillBusy> {
        let lent = &mut self.lent;
        let settled = self.pool.quiesce(Some(END_MAX), |answer| {
            *lent -= 1;
            answers.push(answer);
        });
        settled.map(|_| ())
    }
}

/// The half in a job that was refused.
#[cold]
fn half_of(job: Job) -> Box<ConnIo> {
    match job {
        Job::Read(io) | Job::Write(io) | Job::Close(io) => io,
        Job::Free(_) | Job::Poll(_) | Job::Accept(_) => {
            unreachable!("a refused job is the one offered")
        }
    }
}

fn threads(config: &Config) -> IoThreads {
    match config.io_threads {
        Threads::Auto => IoThreads::Auto,
        Threads::Fixed(count) => IoThreads::Count(count.into()),
    }
}

fn scaling(threads: IoThreads, cpus: &UsableCpus, always_active: bool) -> Scaling {
    let workers = threads.workers(cpus);
    if always_active { Scaling::Fixed(workers) } else { Scaling::Adaptive(workers) }
}
