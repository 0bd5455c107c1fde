//! What becomes of the others when one thread of a queue is descheduled.
//!
//! The *victim* shares its core with a thread that only spins, so the kernel takes the core away
//! from it at whatever instruction it happens to be. The healthy thread, alone on the other core,
//! does both ends of the queue and notes when nothing moves although it runs itself. It keeps the
//! queue so that each operation of the victim succeeds (nearly empty for a producer, nearly full
//! for a consumer): the victim is then mostly stopped inside the queue, not beside it.
//!
//! Time is that for which the healthy thread itself has run: when it loses its own core, which it
//! does on a busy machine, that is no fault of the queue.

use std::fs;
use std::hint::spin_loop;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use flintlock_benches::queues::machine::pin;
use flintlock_benches::queues::{Contender, Payload, Rx, Tx};

/// A freeze: longer than anything a queue does, shorter than a time slice.
const FREEZE: Duration = Duration::from_micros(500);
/// Most operations of the healthy thread between two looks.
const IN_A_ROW: usize = 16;

/// What was seen.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stalls {
    /// How often the victim lost its core.
    pub(crate) count: u64,
    /// How often nothing moved for the healthy thread.
    pub(crate) freezes: u64,
    /// The longest time nothing moved.
    pub(crate) longest: Duration,
}

impl Stalls {
    /// Share of the stalls that froze the healthy thread, in percent.
    pub(crate) fn frozen_percent(&self) -> f64 {
        100.0 * self.freezes as f64 / self.count.max(1) as f64
    }
}

/// For how long this thread has run.
fn own_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("a thread has run for no negative time")
}

/// Notices when nothing moves although this thread runs.
struct Watch {
    moved: Duration,
    stalls: Stalls,
}

impl Watch {
    fn new() -> Self {
        Self { moved: own_time(), stalls: Stalls::default() }
    }

    /// One look; `has_moved` since the last one.
    fn look(&mut self, has_moved: bool) {
        if has_moved {
            let now = own_time();
            let still = now - mem::replace(&mut self.moved, now);
            if still > FREEZE {
                self.stalls.freezes += 1;
            }
            self.stalls.longest = self.stalls.longest.max(still);
        }
    }
}

/// How often the kernel took the core away from this thread.
fn times_descheduled() -> u64 {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let count = status.lines().find_map(|line| line.strip_prefix("nonvoluntary_ctxt_switches:"));
    count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

/// Runs `victim` again and again on the first core, beside a spinning thread, and `healthy` on the
/// second one, until `time` is over. `healthy` tells whether anything moved.
fn run(
    time: Duration,
    mut victim: impl FnMut() + Send,
    mut healthy: impl FnMut() -> bool,
) -> Stalls {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            pin(0);
            while !stop.load(Ordering::Relaxed) {
                spin_loop();
            }
        });
        let stopped = scope.spawn(|| {
            pin(0);
            let before = times_descheduled();
            while !stop.load(Ordering::Relaxed) {
                victim();
            }
            times_descheduled() - before
        });
        pin(1);
        let mut watch = Watch::new();
        let start = Instant::now();
        while start.elapsed() < time {
            watch.look(healthy());
        }
        stop.store(true, Ordering::Relaxed);
        let count = stopped.join().expect("the victim does not panic");
        Stalls { count, ..watch.stalls }
    })
}

/// A producer is stopped; the healthy thread is another producer and the consumer. Something has
/// moved when it could take an item, since it has always put one in.
///
/// # Panics
/// If the queue has no two producers.
pub(crate) fn producer_stopped<C: Contender>(time: Duration) -> Stalls {
    let (mut producers, mut consumers) = C::build(2, 1);
    let (mut own, mut victim) = (producers.remove(1), producers.remove(0));
    let consumer = &mut consumers[0];
    run(
        time,
        || {
            victim.push(C::Item::wrap(0));
        },
        || {
            own.push(C::Item::wrap(1));
            own.finish();
            let mut taken = 0;
            while taken < IN_A_ROW && consumer.pop().is_some() {
                taken += 1;
            }
            taken > 0
        },
    )
}

/// A consumer is stopped; the healthy thread is the producer and another consumer. Something has
/// moved when it could push or pop.
///
/// # Panics
/// If the queue has no two consumers.
pub(crate) fn consumer_stopped<C: Contender>(time: Duration) -> Stalls {
    let (mut producers, mut consumers) = C::build(1, 2);
    let (mut own, mut victim) = (consumers.remove(1), consumers.remove(0));
    let producer = &mut producers[0];
    run(
        time,
        || {
            victim.pop();
        },
        || {
            let mut pushed = 0;
            while pushed < IN_A_ROW && producer.push(C::Item::wrap(1)) {
                pushed += 1;
            }
            own.pop().is_some() || pushed > 0
        },
    )
}
