//! Running the cache's jobs: a small trait, and a pool of blocking workers behind it.
//!
//! Main thread and workers. Worker 0 appends to the journal, worker 1 commits batches, worker 2
//! merges and copies; reads go to whoever is free. So a merge of seconds holds up neither a sync
//! nor a commit, and order within a lane is the order of one inbox.
//!
//! Source: the two-phase storage calls of KeyDB's asynchronous FLASH tier, which ran reads, writes
//! and merges on one queue.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use flintlock_iothreads::{
    Bell, Context, Full, Handler, Options, Outcome, Panic, Pool, SpawnError,
};

use crate::cache::job::{Decode, Done, Job, Lane, Worker};

/// Where jobs run and outcomes come from. One thread.
pub trait Executor<V> {
    /// Takes a job; never refuses. Jobs of one ordered lane run in the order they came.
    fn submit(&mut self, job: Job);

    /// Pushes what has finished onto `out`; does not block.
    fn poll(&mut self, out: &mut Vec<Done<V>>);

    /// Waits until something has finished or somebody rang, for at most `limit`.
    fn wait(&mut self, limit: Duration);
}

/// Ends the sleep of whoever drives an executor. Any thread; rung before the sleep, it prevents it.
#[derive(Debug, Default)]
pub struct Signal {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Signal {
    /// Ends a sleep, or prevents the next one.
    pub fn ring(&self) {
        *self.lock() = true;
        self.changed.notify_one();
    }

    /// Sleeps until it rings, for at most `limit`.
    fn sleep(&self, limit: Duration) {
        let rung = self.lock();
        let slept = self.changed.wait_timeout_while(rung, limit, |rung| !*rung);
        *slept.unwrap_or_else(PoisonError::into_inner).0 = false;
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        // Nothing panics while it holds the lock; if it did, a flag cannot be half changed.
        self.rung.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Workers that are not for reads alone.
const ORDERED: usize = 3;

/// An [`Executor`] over a pool of `flintlock-iothreads`.
pub struct PoolExecutor<D: Decode> {
    pool: Pool<Jobs<D>>,
    signal: Arc<Signal>,
    /// Jobs that found no place, oldest first.
    backlog: VecDeque<Box<Job>>,
}

impl<D: Decode> fmt::Debug for PoolExecutor<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PoolExecutor({} waiting)", self.backlog.len())
    }
}

struct Jobs<D>(Worker<D>);

impl<D: Decode> Handler for Jobs<D> {
    type Job = Box<Job>;
    type Answer = Box<Done<D::Value>>;
    type Layout = flintlock_queues::Words;
    type Owner = ();
    type Local = ();

    fn local(&self, _: usize) {}

    fn owner(&self, _: &Box<Job>) {}

    fn run(
        &self,
        job: Box<Job>,
        _: &mut Context<'_, ()>,
    ) -> Outcome<Box<Job>, Box<Done<D::Value>>> {
        Outcome::Done(Box::new(timed(&self.0, *job)))
    }

    fn panicked(&self, (): (), panic: &Panic) -> Option<Box<Done<D::Value>>> {
        // Engine, decoder and journal are guarded in `Worker::run`. Whatever else panics takes a
        // job with it that somebody waits for, perhaps the journal itself: the process ends.
        panic!("a storage job panicked outside of its guards: {panic:?}")
    }
}

/// Runs a job and notes for how long.
pub(crate) fn timed<D: Decode>(worker: &Worker<D>, job: Job) -> Done<D::Value> {
    let start = Instant::now();
    let done = worker.run(job);
    done.took(u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX))
}

impl<D: Decode> PoolExecutor<D> {
    /// Starts `readers` workers, at least 1, beside the three that keep order. `signal` ends
    /// [`Executor::wait`], and rings when something has finished.
    ///
    /// # Errors
    /// A thread could not be started; none is left running.
    pub fn new(worker: Worker<D>, readers: usize, signal: Arc<Signal>) -> Result<Self, SpawnError> {
        let bell = Arc::clone(&signal);
        let options =
            Options { thread_name: "store", ..Options::blocking(ORDERED + readers.max(1)) };
        let pool = Pool::new(Jobs(worker), Bell::new(move || bell.ring()), options)?;
        Ok(Self { pool, signal, backlog: VecDeque::new() })
    }

    /// Behind a job that finds no place, others of its lane must wait; all do, it is rare.
    fn flush(&mut self) {
        while let Some(job) = self.backlog.pop_front() {
            if let Err(job) = self.try_submit(job) {
                self.backlog.push_front(job);
                break;
            }
        }
        self.pool.commit();
    }

    fn try_submit(&mut self, job: Box<Job>) -> Result<(), Box<Job>> {
        let submitted = match job.lane() {
            Lane::Any => self.pool.submit(job),
            Lane::Journal => self.pool.submit_to(0, job),
            Lane::Engine => self.pool.submit_to(1, job),
            Lane::Background => self.pool.submit_to(2, job),
        };
        submitted.map_err(|Full { job, .. }| job)
    }
}

impl<D: Decode> Executor<D::Value> for PoolExecutor<D> {
    fn submit(&mut self, job: Job) {
        self.backlog.push_back(Box::new(job));
        self.flush();
    }

    fn poll(&mut self, out: &mut Vec<Done<D::Value>>) {
        self.pool.drain(usize::MAX, |done| out.push(*done));
        self.flush();
    }

    fn wait(&mut self, limit: Duration) {
        if self.pool.before_sleep() {
            self.signal.sleep(limit);
            self.pool.after_sleep();
        }
    }
}
