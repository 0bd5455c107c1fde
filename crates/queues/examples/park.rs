//! A consumer that sleeps while there is nothing to do, and producers that wake it.
//!
//! The consumer announces that it is about to sleep and then looks once more; a producer publishes
//! and then looks for the announcement. With a `SeqCst` fence between the two steps on both sides
//! one of them sees the other. `commit` and the drop of a producer carry the producer's fence.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::thread::{self, Thread};

use flintlock_queues::{PopError, mpsc::rings};

/// Who sleeps, and whether it does.
struct Bed {
    sleeper: Thread,
    announced: AtomicBool,
}

impl Bed {
    /// For a producer, after a commit or after its drop.
    fn wake(&self) {
        if self.announced.load(Ordering::Relaxed) {
            self.announced.store(false, Ordering::Relaxed);
            self.sleeper.unpark();
        }
    }
}

fn next(main: &mut rings::Consumer<u64>, bed: &Bed) -> Result<u64, PopError> {
    loop {
        let popped = main.pop();
        if popped != Err(PopError::Empty) {
            return popped;
        }
        bed.announced.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        // Without the second question the close could come in between, and nothing after it.
        if main.is_empty() && !main.is_closed() {
            thread::park();
        }
        bed.announced.store(false, Ordering::Relaxed);
    }
}

fn main() {
    const ITEMS: u64 = 10_000;
    let mut main = rings::ring::<u64>(64);
    let bed = Arc::new(Bed { sleeper: thread::current(), announced: AtomicBool::new(false) });
    for number in 0..2 {
        let (mut worker, bed) = (main.add_producer(), Arc::clone(&bed));
        thread::spawn(move || {
            let mut items = number * ITEMS..(number + 1) * ITEMS;
            while !items.is_empty() {
                if worker.push_batch(&mut items.by_ref().take(16)) == 0 {
                    thread::yield_now();
                }
                worker.commit();
                bed.wake();
            }
            drop(worker);
            bed.wake();
        });
    }
    let mut sum = 0;
    while let Ok(item) = next(&mut main, &bed) {
        sum += item;
    }
    assert_eq!(sum, (0..2 * ITEMS).sum());
    println!("{} items, and the end was seen", 2 * ITEMS);
}
