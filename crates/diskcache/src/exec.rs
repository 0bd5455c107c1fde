//! Running the cache's jobs: a small trait, and a pool of blocking workers behind it.
//!
//! Main thread and workers. Three keep order: one appends to the journal, one commits batches, one
//! merges and copies. So a merge of seconds holds up neither a sync nor a commit, and order within
//! a lane is the order of one inbox. Reads go to whichever of the others is free, and never to
//! those three: a read that hangs would take the journal with it.
//!
//! Source: the two-phase storage calls of KeyDB's asynchronous FLASH tier, which ran reads, writes
//! and merges on one queue.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use flintlock_iothreads::{
    Bell, Context, Full, Handler, Options, Outcome, Panic, Pool, SpawnError,
};

use crate::cache::job::{Decode, Done, Job, Lane, Worker};

thread_local! {
    static IS_LOOP: Cell<bool> = const { Cell::new(false) };
}

/// This thread is an event loop from now on, which must not wait for a disk: a job that is run on
/// it is a bug, and panics in builds with debug assertions.
pub fn forbid_jobs_here() {
    IS_LOOP.set(true);
}

/// Whether jobs may run on this thread.
pub(crate) fn may_run_jobs() -> bool {
    !IS_LOOP.get()
}

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
/// Workers that there are at least: those three may block, and reads must not wait for them.
pub const WORKERS_MIN: usize = ORDERED + 1;

/// How many of `workers` read.
#[must_use]
pub fn readers_of(workers: usize) -> usize {
    workers.max(WORKERS_MIN) - ORDERED
}

/// Blocking workers for the jobs of a [`Cache`](crate::cache::Cache), for whoever has a loop of
/// its own. One thread owns it.
pub struct JobPool<D: Decode> {
    ordered: Pool<Jobs<D>>,
    readers: Pool<Jobs<D>>,
    /// Jobs that have no place yet, oldest first.
    ordered_backlog: VecDeque<Box<Job>>,
    /// Reads apart: while those that are out hang, others wait, and nothing else does.
    read_backlog: VecDeque<Box<Job>>,
}

impl<D: Decode> fmt::Debug for JobPool<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ordered, reads) = (self.ordered_backlog.len(), self.read_backlog.len());
        write!(f, "JobPool({ordered} and {reads} waiting)")
    }
}

struct Jobs<D>(Arc<Worker<D>>);

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

impl<D: Decode> JobPool<D> {
    /// Starts `workers` workers, at least [`WORKERS_MIN`]: three keep order, the others read.
    /// `bell` rings when something has finished.
    ///
    /// # Errors
    /// A thread could not be started; none is left running.
    pub fn new(worker: Worker<D>, workers: usize, bell: Arc<Bell>) -> Result<Self, SpawnError> {
        let worker = Arc::new(worker);
        let jobs = || Jobs(Arc::clone(&worker));
        let options = |threads, thread_name| Options { thread_name, ..Options::blocking(threads) };
        let ordered = Pool::new(jobs(), Arc::clone(&bell), options(ORDERED, "store"))?;
        let readers = Pool::new(jobs(), bell, options(readers_of(workers), "read"))?;
        let (ordered_backlog, read_backlog) = (VecDeque::new(), VecDeque::new());
        Ok(Self { ordered, readers, ordered_backlog, read_backlog })
    }

    /// Takes a job, which begins at the next [`JobPool::commit`]. Jobs of one ordered lane run in
    /// the order they came.
    pub fn push(&mut self, job: Job) {
        let backlog = match job.lane() {
            Lane::Any => &mut self.read_backlog,
            Lane::Journal | Lane::Engine | Lane::Background => &mut self.ordered_backlog,
        };
        backlog.push_back(Box::new(job));
    }

    /// Hands out what was taken, as far as there is place.
    pub fn commit(&mut self) {
        // Behind a job that finds no place, others of its lane must wait; all do.
        while let Some(job) = self.ordered_backlog.pop_front() {
            let worker = match job.lane() {
                Lane::Journal => 0,
                Lane::Engine => 1,
                Lane::Background | Lane::Any => 2,
            };
            if let Err(Full { job, .. }) = self.ordered.submit_to(worker, job) {
                self.ordered_backlog.push_front(job);
                break;
            }
        }
        while let Some(job) = self.read_backlog.pop_front() {
            if let Err(Full { job, .. }) = self.readers.submit(job) {
                self.read_backlog.push_front(job);
                break;
            }
        }
        self.ordered.commit();
        self.readers.commit();
    }

    /// Gives up to `max` outcomes to `f`; does not block.
    pub fn drain(&mut self, max: usize, mut f: impl FnMut(Done<D::Value>)) {
        let drained = self.ordered.drain(max, |done| f(*done));
        self.readers.drain(max - drained, |done| f(*done));
    }

    /// Announces that the owner will sleep until the bell rings; `false` if outcomes are there.
    pub fn before_sleep(&mut self) -> bool {
        // Either forbids the sleep when it has an answer, and takes the announcement back.
        self.ordered.before_sleep() && self.readers.before_sleep()
    }

    /// The owner woke up.
    pub fn after_sleep(&mut self) {
        self.ordered.after_sleep();
    }
}

/// An [`Executor`] over a [`JobPool`].
#[derive(Debug)]
pub struct PoolExecutor<D: Decode> {
    jobs: JobPool<D>,
    signal: Arc<Signal>,
}

impl<D: Decode> PoolExecutor<D> {
    /// Starts `readers` workers, at least 1, beside the three that keep order. `signal` ends
    /// [`Executor::wait`], and rings when something has finished.
    ///
    /// # Errors
    /// A thread could not be started; none is left running.
    pub fn new(worker: Worker<D>, readers: usize, signal: Arc<Signal>) -> Result<Self, SpawnError> {
        let bell = Arc::clone(&signal);
        let jobs = JobPool::new(worker, ORDERED + readers, Bell::new(move || bell.ring()))?;
        Ok(Self { jobs, signal })
    }
}

impl<D: Decode> Executor<D::Value> for PoolExecutor<D> {
    fn submit(&mut self, job: Job) {
        self.jobs.push(job);
        self.jobs.commit();
    }

    fn poll(&mut self, out: &mut Vec<Done<D::Value>>) {
        self.jobs.drain(usize::MAX, |done| out.push(done));
        self.jobs.commit();
    }

    fn wait(&mut self, limit: Duration) {
        if self.jobs.before_sleep() {
            self.signal.sleep(limit);
            self.jobs.after_sleep();
        }
    }
}
