//! The threads of a pool: starting, closing, joining, and summing what they did.
//!
//! Owned by the pool, main thread. A thread is ended by closing its inbox, which it sees after its
//! last job, and is joined once it has ended; none is ever cancelled. Starting a thread whose
//! number is still held by one that is leaving waits for that one. Knows no job and no answer.
//!
//! Source: issue 4701 of Valkey (threads cancelled, or never joined).

use std::io;
use std::time::Duration;

use crossbeam_utils::CachePadded;
use flintlock_queues::spsc;

use crate::cpu::CpuList;
use crate::governor::Totals;
use crate::handler::{Handler, or_abort};
use crate::stats::{Block, Histogram, WorkerStats};
use crate::sync::{Arc, Builder, JoinHandle, Ordering, is_finished};
use crate::worker::{Ends, Shared, Worker};

/// A worker with a thread, seen from main.
pub(crate) struct Hand<H: Handler> {
    pub(crate) inbox: spsc::Producer<H::Job, H::Layout>,
    /// Jobs were pushed since the last commit.
    pub(crate) uncommitted: bool,
    /// Jobs in the inbox after each commit.
    depth: Histogram,
    thread: JoinHandle<()>,
    pub(crate) block: Arc<CachePadded<Block>>,
}

impl<H: Handler> Hand<H> {
    /// Makes what was pushed visible; whether there was anything.
    pub(crate) fn commit(&mut self) -> bool {
        let pushed = std::mem::take(&mut self.uncommitted);
        if pushed {
            self.inbox.commit();
            self.depth.note(self.inbox.len() as u64);
        }
        pushed
    }
}

/// A worker whose inbox is closed and whose thread is still finishing.
struct Leaver {
    index: usize,
    thread: JoinHandle<()>,
    block: Arc<CachePadded<Block>>,
}

/// What all workers have done, those that have left included.
#[derive(Clone, Copy, Default)]
pub(crate) struct Done {
    pub(crate) totals: Totals,
    pub(crate) parked: Duration,
    pub(crate) silent: u64,
    pub(crate) freed_bytes: u64,
    pub(crate) start_latency: Histogram,
}

impl Done {
    fn add(&mut self, block: &Block, now_ns: u64) {
        let times = block.times(now_ns);
        let counts = block.counts();
        self.totals.busy += times.useful;
        self.totals.spun += times.spun;
        self.totals.jobs += counts.jobs.iter().sum::<u64>();
        self.parked += times.parked;
        self.silent += block.silent();
        self.freed_bytes += counts.freed_bytes;
        self.start_latency.add(&block.start_latency());
    }
}

/// All threads of a pool.
pub(crate) struct Crew<H: Handler> {
    shared: Arc<Shared<H>>,
    thread_name: &'static str,
    pin_to: Option<CpuList>,
    /// What a worker without a list may use: main may be pinned by the time it is started.
    allowed: Option<CpuList>,
    pub(crate) hands: Vec<Hand<H>>,
    leavers: Vec<Leaver>,
    departed: Done,
    /// The system is to refuse threads.
    #[cfg(test)]
    pub(crate) refuses: bool,
}

impl<H: Handler> Crew<H> {
    pub(crate) fn new(
        shared: Arc<Shared<H>>,
        thread_name: &'static str,
        pin_to: Option<CpuList>,
    ) -> Self {
        Self {
            shared,
            thread_name,
            pin_to,
            allowed: CpuList::allowed(),
            hands: Vec::new(),
            leavers: Vec::new(),
            departed: Done::default(),
            #[cfg(test)]
            refuses: false,
        }
    }

    /// Threads that take jobs.
    pub(crate) fn len(&self) -> usize {
        self.hands.len()
    }

    /// Whether [`Crew::start`] would wait for nobody: the number of the next worker is free.
    pub(crate) fn is_next_free(&mut self, now_ns: u64) -> bool {
        self.reap(now_ns, |_| false);
        self.leavers.iter().all(|leaver| leaver.index != self.hands.len())
    }

    /// Starts one more worker with these ends of the queues. On an error the ends are dropped,
    /// which closes them, and nothing else has changed.
    pub(crate) fn start(
        &mut self,
        inbox: spsc::Producer<H::Job, H::Layout>,
        ends: Ends<H>,
        now_ns: u64,
    ) -> io::Result<()> {
        #[cfg(test)]
        if self.refuses {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let index = self.hands.len();
        self.reap(now_ns, |leaver| leaver == index);
        let block = Arc::new(CachePadded::new(Block::new()));
        block.store_start(now_ns);
        let shared = Arc::clone(&self.shared);
        let shown = Arc::clone(&block);
        let (pin_to, allowed) = (self.pin_to.clone(), self.allowed.clone());
        let thread =
            Builder::new().name(format!("{}-{index}", self.thread_name)).spawn(move || {
                let placed = match (pin_to, allowed) {
                    (Some(list), _) => list.pin_current(index),
                    (None, Some(list)) => list.allow_current(),
                    (None, None) => true,
                };
                if !placed {
                    shared.pin_failures.fetch_add(1, Ordering::Relaxed);
                }
                or_abort(|| Worker::new(index, shared, ends, shown).run());
            })?;
        let depth = Histogram::default();
        self.hands.push(Hand { inbox, uncommitted: false, depth, thread, block });
        Ok(())
    }

    /// Tells workers from number `keep` on to finish their inboxes and end; does not wait.
    pub(crate) fn close_from(&mut self, keep: usize) {
        while self.hands.len() > keep {
            let Some(Hand { inbox, thread, block, .. }) = self.hands.pop() else { return };
            let index = self.hands.len();
            drop(inbox);
            // The drop has executed the fence.
            self.shared.sleepers.wake(index);
            self.leavers.push(Leaver { index, thread, block });
        }
    }

    /// Joins the threads that have ended, and waits for those whose number `must` be free.
    pub(crate) fn reap(&mut self, now_ns: u64, must: impl Fn(usize) -> bool) {
        let mut place = 0;
        while let Some(leaver) = self.leavers.get(place) {
            if must(leaver.index) || is_finished(&leaver.thread) {
                let Leaver { thread, block, .. } = self.leavers.swap_remove(place);
                // A worker that panicked outside of a job has aborted the process already.
                let _ = thread.join();
                self.departed.add(&block, now_ns);
            } else {
                place += 1;
            }
        }
    }

    /// What all workers have done up to `now_ns`.
    pub(crate) fn done(&self, now_ns: u64) -> Done {
        let mut done = self.departed;
        self.blocks().for_each(|block| done.add(block, now_ns));
        done
    }

    /// Jobs finished that owed no answer.
    pub(crate) fn silent(&self) -> u64 {
        self.departed.silent + self.blocks().map(|block| block.silent()).sum::<u64>()
    }

    /// Figures of each worker with a thread.
    pub(crate) fn workers(&self, active: usize, now_ns: u64) -> Vec<WorkerStats> {
        let stats = |(index, hand): (usize, &Hand<H>)| {
            let counts = hand.block.counts();
            WorkerStats {
                index,
                active: index < active,
                times: hand.block.times(now_ns),
                inbox_depth: hand.depth,
                jobs: counts.jobs,
                again: counts.again,
                panics: counts.panics,
                parks: counts.parks,
                wakes: counts.wakes,
            }
        };
        self.hands.iter().enumerate().map(stats).collect()
    }

    fn blocks(&self) -> impl Iterator<Item = &Block> + '_ {
        let leaving = self.leavers.iter().map(|leaver| &**leaver.block);
        self.hands.iter().map(|hand| &**hand.block).chain(leaving)
    }
}

impl<H: Handler> Drop for Crew<H> {
    /// Tells all workers to leave after the job they run, and joins them.
    fn drop(&mut self) {
        self.shared.orders.quit.store(1, Ordering::Relaxed);
        self.close_from(0);
        let now_ns = crate::clock::nanos(self.shared.clock.now());
        self.reap(now_ns, |_| true);
    }
}
