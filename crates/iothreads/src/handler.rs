//! What the user of a pool supplies: the types of jobs and answers, and what to do with a job.
//!
//! [`Handler`] is shared by all workers; [`Context`] belongs to one worker and lives for one job.
//! Nothing here touches a queue.
//!
//! Source: the packed jobs of pull request 2909 of Valkey, instead of a function pointer each.

use std::any::Any;
use std::fmt;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use flintlock_queues::Layout;

use crate::clock::{Clock, nanos};

/// Jobs, answers, and how the one becomes the other.
///
/// A job is moved to a worker and back: whatever it owns (half a connection, a buffer) is out of
/// reach of every other thread meanwhile, so the type system, not a flag, keeps two threads off
/// one client.
///
/// # Examples
/// ```
/// use flintlock_iothreads::{Compact, Context, Handler, Outcome, Panic};
///
/// struct Squares;
///
/// impl Handler for Squares {
///     type Job = u64;
///     type Answer = u64;
///     type Layout = Compact;
///     type Owner = u64;
///     type Local = ();
///
///     fn local(&self, _worker: usize) {}
///
///     fn owner(&self, job: &u64) -> u64 {
///         *job
///     }
///
///     fn run(&self, job: u64, _context: &mut Context<'_, ()>) -> Outcome<u64, u64> {
///         Outcome::Done(job * job)
///     }
///
///     fn panicked(&self, _owner: u64, _panic: &Panic) -> Option<u64> {
///         Some(0)
///     }
/// }
/// ```
pub trait Handler: Send + Sync + Sized + 'static {
    /// What a worker is asked to do. Moved, never shared.
    type Job: Send + 'static;
    /// What the main thread gets back.
    type Answer: Send + 'static;
    /// How the rings keep both: [`Words`](crate::Words) if they are one word each (8 bytes a slot,
    /// and a stopped worker holds up nobody), else [`Compact`](crate::Compact).
    type Layout: Layout<Self::Job> + Layout<Self::Answer>;
    /// Who is told if a job panics; read from each job before it runs, so keep it cheap.
    type Owner: Copy;
    /// State of one worker, such as a read buffer. Made, used and dropped on its thread.
    type Local;

    /// The state of worker number `worker`. Worker thread, before its first job, and again after
    /// each job that panicked, which may have left the old one half changed; for jobs that the main
    /// thread has to finish itself also main, with [`WORKERS_MAX`](crate::WORKERS_MAX) as `worker`,
    /// which is no worker's number. Must not panic (the process is aborted), nor may its drop.
    fn local(&self, worker: usize) -> Self::Local;

    /// Who owns `job`. Worker; must not panic (the process is aborted).
    fn owner(&self, job: &Self::Job) -> Self::Owner;

    /// Does `job`, or a part of it. Worker; may block if the pool is there for that. A long job
    /// asks [`Context::may_go_on`] after each step and returns [`Outcome::Again`] when told to.
    ///
    /// It may panic, with anything: the job is dropped by the unwinding, its owner gets what
    /// [`Handler::panicked`] makes, and the worker goes on.
    fn run(
        &self,
        job: Self::Job,
        context: &mut Context<'_, Self::Local>,
    ) -> Outcome<Self::Job, Self::Answer>;

    /// The answer for the owner of a job that panicked; `None` if that job owed none. Worker; must
    /// not panic (the process is aborted).
    fn panicked(&self, owner: Self::Owner, panic: &Panic) -> Option<Self::Answer>;
}

/// What became of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome<J, A> {
    /// Finished; the answer goes to the main thread.
    Done(A),
    /// The budget is used up: to be queued again behind the others.
    Again(J),
    /// Finished, and nobody waits for it.
    Nothing,
}

/// Why a job panicked.
pub struct Panic {
    payload: Box<dyn Any + Send>,
}

impl Panic {
    pub(crate) fn new(payload: Box<dyn Any + Send>) -> Self {
        Self { payload }
    }

    /// The message, if it was a text.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        self.payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| self.payload.downcast_ref::<String>().map(String::as_str))
    }

    /// Whatever was thrown.
    #[must_use]
    pub fn payload(&self) -> &(dyn Any + Send) {
        &*self.payload
    }

    /// Drops what was thrown. If that panics too, what it throws is left alone: it could go on so
    /// for ever.
    fn discard(self) {
        if let Err(another) = catch_unwind(AssertUnwindSafe(|| drop(self))) {
            mem::forget(another);
        }
    }
}

impl fmt::Debug for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Panic").field(&self.message().unwrap_or("not a text")).finish()
    }
}

/// What came of running a job once.
pub(crate) struct Ran<J, A> {
    pub(crate) outcome: Outcome<J, A>,
    /// The job panicked: local state may be half changed, and must be made anew.
    pub(crate) panicked: bool,
}

/// Runs `job` once; a panic becomes the answer for its owner.
pub(crate) fn run_caught<H: Handler>(
    handler: &H,
    job: H::Job,
    context: &mut Context<'_, H::Local>,
) -> Ran<H::Job, H::Answer> {
    let owner = or_abort(|| handler.owner(&job));
    let caught = catch_unwind(AssertUnwindSafe(|| handler.run(job, context)));
    let panicked = caught.is_err();
    let outcome = caught.unwrap_or_else(|payload| {
        let panic = Panic::new(payload);
        let answer = or_abort(|| handler.panicked(owner, &panic));
        panic.discard();
        answer.map_or(Outcome::Nothing, Outcome::Done)
    });
    Ran { outcome, panicked }
}

/// Calls `body`, and ends the process if it panics: outside of a job there is nobody to tell, and
/// the jobs that the thread holds would never be answered.
pub(crate) fn or_abort<T>(body: impl FnOnce() -> T) -> T {
    let guard = AbortOnUnwind;
    let value = body();
    mem::forget(guard);
    value
}

/// Ends the process when dropped.
struct AbortOnUnwind;

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        eprintln!("a worker panicked outside of its jobs; aborting");
        std::process::abort();
    }
}

/// How much of a worker one job may take before others get their turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Bytes, as told by the job.
    pub bytes: usize,
    /// Time, looked at only when the job asks.
    pub time: Duration,
}

impl Default for Budget {
    /// 64 KiB and 200 us: what a fast network card takes meanwhile, and a fifth of the millisecond
    /// by which one client may delay another.
    fn default() -> Self {
        Self { bytes: 64 * 1024, time: Duration::from_micros(200) }
    }
}

/// What a job can use while it runs. Worker; for one job.
pub struct Context<'a, L> {
    worker: usize,
    local: &'a mut L,
    budget: Budget,
    bytes: usize,
    freed_bytes: &'a mut u64,
    clock: &'a dyn Clock,
    /// When the job started, as far as the worker knows without asking the clock for each job.
    started_ns: u64,
    /// The last time read, for the worker to go on with.
    now_ns: u64,
}

impl<'a, L> Context<'a, L> {
    pub(crate) fn new(
        worker: usize,
        local: &'a mut L,
        freed_bytes: &'a mut u64,
        budget: Budget,
        clock: &'a dyn Clock,
        now_ns: u64,
    ) -> Self {
        let bytes = 0;
        Self { worker, local, budget, bytes, freed_bytes, clock, started_ns: now_ns, now_ns }
    }

    /// The number of the worker, from 0; on the main thread [`WORKERS_MAX`](crate::WORKERS_MAX).
    #[must_use]
    pub fn worker(&self) -> usize {
        self.worker
    }

    /// The state of this worker.
    pub fn local(&mut self) -> &mut L {
        self.local
    }

    /// Tells that the job has done `bytes` more and would go on; returns whether it may. If not,
    /// the job should return [`Outcome::Again`]. Reads the clock only while bytes are left; by that
    /// the worker knows, too, that answers made before wait for long.
    pub fn may_go_on(&mut self, bytes: usize) -> bool {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes >= self.budget.bytes {
            return false;
        }
        self.now_ns = nanos(self.clock.now());
        self.now_ns.saturating_sub(self.started_ns) < nanos(self.budget.time)
    }

    /// Bytes that the job may still do: no single step should take more.
    #[must_use]
    pub fn bytes_left(&self) -> usize {
        self.budget.bytes.saturating_sub(self.bytes)
    }

    /// Tells that `bytes` of those announced with `Pool::submit_free` are free now.
    pub fn freed(&mut self, bytes: u64) {
        *self.freed_bytes += bytes;
    }

    /// The last time the worker knows.
    pub(crate) fn now_ns(&self) -> u64 {
        self.now_ns
    }
}

impl<L> fmt::Debug for Context<'_, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("worker", &self.worker)
            .field("budget", &self.budget)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::panic::resume_unwind;

    use super::*;
    use crate::clock::Manual;

    #[test]
    fn a_budget_ends_by_bytes_or_by_time() {
        let clock = Manual::new();
        let (mut local, mut freed) = ((), 0);
        let budget = Budget { bytes: 100, time: Duration::from_micros(10) };
        let mut context = Context::new(0, &mut local, &mut freed, budget, &clock, 0);
        assert!(context.may_go_on(60));
        assert_eq!(context.bytes_left(), 40);
        assert!(!context.may_go_on(60), "bytes");
        assert_eq!(context.bytes_left(), 0);
        let mut context = Context::new(0, &mut local, &mut freed, budget, &clock, 0);
        clock.advance(Duration::from_micros(9));
        assert!(context.may_go_on(1));
        clock.advance(Duration::from_micros(1));
        assert!(!context.may_go_on(1), "time");
        assert_eq!(context.now_ns(), 10_000);
        context.freed(7);
        assert_eq!(freed, 7);
    }

    /// Throws what panics when it is dropped.
    struct Bombs;

    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            resume_unwind(Box::new(Self));
        }
    }

    impl Handler for Bombs {
        type Job = u64;
        type Answer = u64;
        type Layout = flintlock_queues::Compact;
        type Owner = u64;
        type Local = ();

        fn local(&self, _worker: usize) {}

        fn owner(&self, job: &u64) -> u64 {
            *job
        }

        fn run(&self, _job: u64, _context: &mut Context<'_, ()>) -> Outcome<u64, u64> {
            resume_unwind(Box::new(Bomb))
        }

        fn panicked(&self, owner: u64, panic: &Panic) -> Option<u64> {
            panic.payload().is::<Bomb>().then_some(owner)
        }
    }

    /// On a worker the process would end.
    #[test]
    fn what_was_thrown_may_panic_when_it_is_dropped() {
        let clock = Manual::new();
        let (mut local, mut freed) = ((), 0);
        let budget = Budget::default();
        let mut context = Context::new(0, &mut local, &mut freed, budget, &clock, 0);
        let caught = catch_unwind(AssertUnwindSafe(|| run_caught(&Bombs, 7, &mut context)));
        // The test itself must not drop it.
        let Ok(ran) = caught.map_err(mem::forget) else { panic!("it went on") };
        assert_eq!((ran.outcome, ran.panicked), (Outcome::Done(7), true));
    }

    #[test]
    fn panics_show_their_text() {
        for payload in [Box::new("text") as Box<dyn Any + Send>, Box::new("text".to_owned())] {
            assert_eq!(Panic::new(payload).message(), Some("text"));
        }
        let odd = Panic::new(Box::new(5_u8));
        assert_eq!(odd.message(), None);
        assert!(odd.payload().is::<u8>());
        assert_eq!(format!("{odd:?}"), "Panic(\"not a text\")");
    }
}
