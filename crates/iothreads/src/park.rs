//! The sleep and wake protocol of workers and main, with its proof.
//!
//! Owns the table of worker states and the bell. [`Sleepers`] is used by main and by all workers,
//! [`Bell`] likewise. Neither knows what a job is: what to look at before sleeping is a closure.
//! No lock is held over a queue operation or a system call; the handle locks are taken only by
//! whoever has just won a wake-up.
//!
//! | edge | sites | publishes |
//! |---|---|---|
//! | P1 | `sleeper`: [`Sleepers::sleep`]; `finder`: [`Sleepers::work`]; `orders`: [`Sleepers::order`]; against F1 of the queues (`commit`, and `drop` of an inbox) | the state byte, or the jobs and the order to leave |
//! | P2 | `main`: [`Bell::announce`]; `silent`: [`Bell::ring_for_silent`]; against F1 of the queues | the bell, or the answers |
//!
//! Source: rayon-core's sleep module (announce, fence, last look).
#![doc = include_str!("park.md")]

use std::fmt;
use std::time::Duration;

use crossbeam_utils::CachePadded;

use crate::clock::Clock;
use crate::sync::{
    Arc, AtomicU8, AtomicU64, Edge, Mutex, Ordering, Thread, current, lock, park, park_timeout,
};

/// Sleeping workers.
const P1: Edge = Edge::new("P1");
/// The sleeping main thread.
const P2: Edge = Edge::new("P2");

/// No thread has this index.
const VACANT: u8 = 0;
/// Runs jobs, or is about to look for some without spinning.
const BUSY: u8 = 1;
/// Has nothing and looks, or was just woken.
const SEARCHING: u8 = 2;
/// Announced that it parks.
const ASLEEP: u8 = 3;

/// State bytes that share a line. Loom is given few: it keeps books on each of them.
const STATES_PER_LINE: usize = if cfg!(loom) { 2 } else { 64 };

/// What each worker is doing, and how to wake it.
#[derive(Debug)]
pub(crate) struct Sleepers {
    /// Written by plain stores of the owner, except for `ASLEEP` to `SEARCHING`.
    states: Box<[CachePadded<[AtomicU8; STATES_PER_LINE]>]>,
    handles: Box<[Mutex<Option<Thread>>]>,
}

impl Sleepers {
    /// A table for workers with indices below `capacity`.
    pub(crate) fn new(capacity: usize) -> Self {
        let line = || CachePadded::new(std::array::from_fn(|_| AtomicU8::new(VACANT)));
        Self {
            states: (0..capacity.div_ceil(STATES_PER_LINE)).map(|_| line()).collect(),
            handles: (0..capacity).map(|_| Mutex::new(None)).collect(),
        }
    }

    /// Most workers the table has room for.
    pub(crate) fn capacity(&self) -> usize {
        self.handles.len()
    }

    fn state(&self, index: usize) -> &AtomicU8 {
        &self.states[index / STATES_PER_LINE][index % STATES_PER_LINE]
    }

    /// Worker `index`, on its own thread, before anything else.
    pub(crate) fn enter(&self, index: usize) {
        *lock(&self.handles[index]) = Some(current());
        self.state(index).store(BUSY, Ordering::Relaxed);
    }

    /// Worker `index` will never sleep here again.
    pub(crate) fn leave(&self, index: usize) {
        self.state(index).store(VACANT, Ordering::Relaxed);
        *lock(&self.handles[index]) = None;
    }

    /// Worker `index` starts to spin for work.
    pub(crate) fn search(&self, index: usize) {
        self.state(index).store(SEARCHING, Ordering::Relaxed);
    }

    /// Worker `index` has found work after searching or sleeping. Afterwards it must look whether
    /// it leaves jobs behind, and wake another one if nobody searches.
    pub(crate) fn work(&self, index: usize) {
        self.state(index).store(BUSY, Ordering::Relaxed);
        P1.fence("finder");
    }

    /// Main has told who is active: each worker either sees that in its last look before it sleeps,
    /// or main sees it asleep.
    pub(crate) fn order(&self) {
        P1.fence("orders");
    }

    /// Parks worker `index` until somebody wakes it, unless `work_is_there` after the
    /// announcement. Returns whether it slept.
    pub(crate) fn sleep(&self, index: usize, work_is_there: impl FnOnce() -> bool) -> bool {
        let state = self.state(index);
        state.store(ASLEEP, Ordering::Relaxed);
        P1.fence("sleeper");
        if work_is_there() {
            // Somebody may have won the wake-up meanwhile; the token it leaves ends one later park
            // early, which the loop below stands.
            state.store(SEARCHING, Ordering::Relaxed);
            return false;
        }
        while state.load(Ordering::Relaxed) == ASLEEP {
            park();
        }
        true
    }

    /// Wakes worker `index` if it sleeps; returns whether this call did it. The caller has
    /// executed a `SeqCst` fence since it published what the worker should see.
    pub(crate) fn wake(&self, index: usize) -> bool {
        let state = self.state(index);
        let won = state.load(Ordering::Relaxed) == ASLEEP
            && state
                .compare_exchange(ASLEEP, SEARCHING, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if won {
            let handle = lock(&self.handles[index]).clone();
            // None: the worker saw by itself that it should leave, so it is awake.
            if let Some(thread) = handle {
                thread.unpark();
            }
        }
        won
    }

    /// Wakes the first sleeper among the workers below `active`, unless one of them searches;
    /// returns whether it woke one. The caller has found work itself, and leaves some behind.
    pub(crate) fn relieve(&self, active: usize) -> bool {
        self.searching(active) == 0 && self.wake_one(active)
    }

    /// Wakes the first sleeper among the workers below `active`; returns whether there was one.
    pub(crate) fn wake_one(&self, active: usize) -> bool {
        (0..active.min(self.capacity())).any(|index| self.wake(index))
    }

    /// Workers below `active` that look for work right now.
    pub(crate) fn searching(&self, active: usize) -> usize {
        (0..active.min(self.capacity()))
            .filter(|&index| self.state(index).load(Ordering::Relaxed) == SEARCHING)
            .count()
    }
}

/// Ends the sleep of an event loop in its poller, from another thread. For mio that is
/// `mio::Waker::wake`.
pub trait Wake: Send + Sync + 'static {
    /// Makes the poller return soon; any worker; called at most once per announced sleep. It may
    /// cost a system call, must not block, and has no way to fail: an event loop that cannot be
    /// woken is lost, so the implementor aborts or retries.
    fn wake(&self);
}

impl<F: Fn() + Send + Sync + 'static> Wake for F {
    fn wake(&self) {
        self();
    }
}

/// The main thread runs.
const AWAKE: u8 = 0;
/// The main thread sleeps in its poller, or is about to.
const POLLING: u8 = 1;
/// The main thread is parked, or is about to be.
const PARKED: u8 = 2;

/// Where workers ring for the main thread. One for each event loop: all its pools share it, so that
/// a sleep ends for whichever of them answers first.
///
/// ```
/// use flintlock_iothreads::Bell;
///
/// let bell = Bell::new(|| eprintln!("the poller should return now"));
/// assert_eq!(bell.wakes(), 0);
/// ```
pub struct Bell {
    /// Written by main, and by the worker that wins a wake-up. Read by each worker after each
    /// batch of answers.
    state: CachePadded<AtomicU8>,
    /// Who is parked; written by main before it announces that.
    main: Mutex<Option<Thread>>,
    wake: Box<dyn Wake>,
    wakes: AtomicU64,
}

impl Bell {
    /// A bell for an event loop that `wake` can wake.
    #[must_use]
    pub fn new(wake: impl Wake) -> Arc<Self> {
        Arc::new(Self {
            state: CachePadded::new(AtomicU8::new(AWAKE)),
            main: Mutex::new(None),
            wake: Box::new(wake),
            wakes: AtomicU64::new(0),
        })
    }

    /// How often the poller was woken through [`Wake`], each a system call of some worker. Any
    /// thread; a hint.
    #[must_use]
    pub fn wakes(&self) -> u64 {
        self.wakes.load(Ordering::Relaxed)
    }

    /// Main is about to sleep in its poller. It must look for answers once more, and
    /// [`Bell::rise`] instead of sleeping if there are some.
    pub(crate) fn announce(&self) {
        self.state.store(POLLING, Ordering::Relaxed);
        P2.fence("main");
    }

    /// Main is awake.
    pub(crate) fn rise(&self) {
        self.state.store(AWAKE, Ordering::Relaxed);
    }

    /// Parks main until a worker rings or `until` is past, unless `answers_are_there`. Returns
    /// whether it parked.
    pub(crate) fn park(
        &self,
        until: Option<Duration>,
        clock: &dyn Clock,
        answers_are_there: impl FnOnce() -> bool,
    ) -> bool {
        *lock(&self.main) = Some(current());
        self.state.store(PARKED, Ordering::Relaxed);
        P2.fence("main");
        if answers_are_there() {
            self.rise();
            return false;
        }
        while self.state.load(Ordering::Relaxed) == PARKED {
            match until.map(|until| until.saturating_sub(clock.now())) {
                None => park(),
                Some(Duration::ZERO) => break,
                Some(left) => park_timeout(left),
            }
        }
        self.rise();
        true
    }

    /// Whether main sleeps, or is about to. `false`, read after a commit (with its fence), means
    /// that main will see what was committed without being woken.
    pub(crate) fn is_asleep(&self) -> bool {
        self.state.load(Ordering::Relaxed) != AWAKE
    }

    /// A worker has committed answers (with the fence of `commit`): wakes main if it sleeps.
    pub(crate) fn ring(&self) {
        let state = self.state.load(Ordering::Relaxed);
        if state != AWAKE {
            self.ring_slow(state);
        }
    }

    /// A worker has finished jobs that owe no answer: wakes main only if it is parked, for then it
    /// waits for just that.
    pub(crate) fn ring_for_silent(&self) {
        P2.fence("silent");
        if self.state.load(Ordering::Relaxed) == PARKED {
            self.ring_slow(PARKED);
        }
    }

    #[cold]
    fn ring_slow(&self, state: u8) {
        let won =
            self.state.compare_exchange(state, AWAKE, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if !won {
            return;
        }
        if state == POLLING {
            self.wakes.fetch_add(1, Ordering::Relaxed);
            self.wake.wake();
        } else {
            let main = lock(&self.main).clone();
            main.expect("main leaves its handle before it announces that it parks").unpark();
        }
    }
}

impl fmt::Debug for Bell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bell").field("wakes", &self.wakes()).finish_non_exhaustive()
    }
}

#[cfg(all(test, loom))]
mod tests;
