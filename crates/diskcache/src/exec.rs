//! Running the cache's jobs: a small trait, and a pool of blocking workers behind it.
//!
//! Main thread and workers. Worker 0 appends to the journal, worker 1 commits batches, worker 2
//! merges and copies; reads go to whoever is free. So a merge of seconds holds up neither a sync
//! nor a commit, and order within a lane is the order of one inbox.
//!
//! Source: the two-phase storage API of KeyDB (async FLASH); figures in the README.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use flintlock_iothreads::{
    Bell, Context, Full, Handler, Options, Outcome, Panic, Pool, SpawnError, Wake,
};

use crate::cache::job::{Decode, Done, Job, Lane, Worker};

/// Where jobs run and outcomes come from. Main thread.
pub trait Executor<V> {
    /// Takes a job; never refuses. Jobs of one ordered lane run in the order they came.
    fn submit(&mut self, job: Job);

    /// Pushes what has finished onto `out`; does not block.
    fn poll(&mut self, out: &mut Vec<Done<V>>);

    /// Waits until something has finished, for at most `limit`.
    fn wait(&mut self, limit: Duration);
}

/// Workers that are not for reads alone.
const ORDERED: usize = 3;

/// An [`Executor`] over a pool of `flintlock-iothreads`.
pub struct PoolExecutor<D: Decode> {
    pool: Pool<Jobs<D>>,
    /// Jobs that found no place, oldest first.
    backlog: VecDeque<Box<Job>>,
}

impl<D: Decode> fmt::Debug for PoolExecutor<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PoolExecutor({} waiting)", self.backlog.len())
    }
}

/// Nothing has to be woken: the main thread waits in the pool itself.
struct NoPoller;

impl Wake for NoPoller {
    fn wake(&self) {}
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
        let start = Instant::now();
        let done = self.0.run(*job);
        let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        Outcome::Done(Box::new(done.took(micros)))
    }

    fn panicked(&self, (): (), panic: &Panic) -> Option<Box<Done<D::Value>>> {
        // Engine, decoder and journal are guarded in `Worker::run`. Whatever else panics takes a
        // job with it that somebody waits for, perhaps the journal itself: the process ends.
        panic!("a storage job panicked outside of its guards: {panic:?}")
    }
}

impl<D: Decode> PoolExecutor<D> {
    /// Starts `readers` workers, at least 1, beside the three that keep order.
    ///
    /// # Errors
    /// A thread could not be started; none is left running.
    pub fn new(worker: Worker<D>, readers: usize) -> Result<Self, SpawnError> {
        let options = Options::blocking(ORDERED + readers.max(1));
        let pool = Pool::new(Jobs(worker), Bell::new(NoPoller), options)?;
        Ok(Self { pool, backlog: VecDeque::new() })
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
        self.pool.wait(Some(limit));
    }
}
