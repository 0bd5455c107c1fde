//! The loads: a stream of items, and a round trip. Each checks that all items arrived.

use std::hint::spin_loop;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::machine::pin;
use super::report::at_quantile;
use super::{Contender, Payload, Rx, Tx};

/// A stream through a queue.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    /// Producing threads; they are pinned from the first core on.
    pub producers: usize,
    /// Consuming threads; they are pinned from the second core on.
    pub consumers: usize,
    /// Items of one call on the producing side.
    pub push: usize,
    /// Items of one call on the consuming side.
    pub pop: usize,
    /// Processor pauses after a refused push; 0 means to try again at once.
    pub backoff: u32,
}

/// Largest batch of a load.
const BATCH_MAX: usize = 64;
/// Failed attempts after which a thread yields, where threads share cores.
const ATTEMPTS_MAX: u32 = 64;

/// Waits after an attempt that did nothing; yields where more threads run than cores.
struct Patience {
    shared_cores: bool,
    pauses: u32,
    attempts: u32,
}

impl Patience {
    fn wait(&mut self) {
        for _ in 0..self.pauses.max(1) {
            spin_loop();
        }
        self.attempts += 1;
        if self.shared_cores && self.attempts.is_multiple_of(ATTEMPTS_MAX) {
            thread::yield_now();
        }
    }
}

impl Stream {
    /// Sends `items` items through a queue of `C`; nanoseconds an item.
    ///
    /// # Panics
    /// If items are lost, doubled or changed.
    #[must_use]
    pub fn run<C: Contender>(self, items: usize) -> f64 {
        let (producers, consumers) = C::build(self.producers, self.consumers);
        let share = items.div_ceil(self.producers);
        let total = share * self.producers;
        let threads = self.producers + self.consumers;
        let barrier = Barrier::new(threads + 1);
        let (taken, sum) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let done = AtomicBool::new(false);
        let shared_cores = threads > 2;
        let elapsed_ns = thread::scope(|scope| {
            let mut handles = Vec::new();
            for (number, producer) in producers.into_iter().enumerate() {
                let barrier = &barrier;
                let patience = Patience { shared_cores, pauses: self.backoff, attempts: 0 };
                handles.push(scope.spawn(move || {
                    pin(number);
                    barrier.wait();
                    let start = Instant::now();
                    let first = number * share;
                    // The producer outlives the stream: closing is not measured.
                    let producer = produce(producer, first..first + share, self.push, patience);
                    (start, producer)
                }));
            }
            let mut takers = Vec::new();
            for (number, consumer) in consumers.into_iter().enumerate() {
                let (barrier, taken, sum, done) = (&barrier, &taken, &sum, &done);
                let patience = Patience { shared_cores, pauses: 0, attempts: 0 };
                takers.push(scope.spawn(move || {
                    pin(number + 1);
                    barrier.wait();
                    consume(consumer, total, self.pop, patience, (taken, sum, done))
                }));
            }
            barrier.wait();
            let starts = handles.into_iter().map(|handle| handle.join().expect("producer").0);
            let start = starts.min().expect("a stream has a producer");
            let ends = takers.into_iter().map(|taker| taker.join().expect("consumer"));
            let end = ends.max().expect("a stream has a consumer");
            end.duration_since(start).as_secs_f64() * 1e9
        });
        assert_eq!(taken.into_inner(), total, "{}: all items arrive", C::NAME);
        assert_eq!(sum.into_inner(), total * (total - 1) / 2, "{}: unchanged", C::NAME);
        elapsed_ns / total as f64
    }
}

fn produce<P: Payload, T: Tx<P>>(
    mut producer: T,
    items: std::ops::Range<usize>,
    batch: usize,
    mut patience: Patience,
) -> T {
    if batch == 1 {
        for item in items {
            while !producer.push(P::wrap(item)) {
                patience.wait();
            }
        }
        finish(&mut producer, patience);
        return producer;
    }
    let mut buffer = [P::wrap(0); BATCH_MAX];
    let mut next = items.start;
    while next < items.end {
        let count = batch.min(items.end - next);
        for (offset, place) in buffer[..count].iter_mut().enumerate() {
            *place = P::wrap(next + offset);
        }
        let mut sent = 0;
        while sent < count {
            let more = producer.push_batch(&buffer[sent..count]);
            sent += more;
            if more == 0 {
                patience.wait();
            }
        }
        next += count;
    }
    finish(&mut producer, patience);
    producer
}

fn finish<P: Payload, T: Tx<P>>(producer: &mut T, mut patience: Patience) {
    while !producer.finish() {
        patience.wait();
    }
}

/// Takes items until all consumers together have `total`; when this one took its last.
fn consume<P: Payload, R: Rx<P>>(
    mut consumer: R,
    total: usize,
    batch: usize,
    mut patience: Patience,
    (taken, sum, done): (&AtomicUsize, &AtomicUsize, &AtomicBool),
) -> Instant {
    let mut buffer = [P::wrap(0); BATCH_MAX];
    let (mut own_sum, mut own_count) = (0_usize, 0);
    // Consumers tell each other how far they are only when there is nothing to take.
    let mut told = 0;
    while !done.load(Ordering::Relaxed) {
        if batch == 1 {
            while let Some(item) = consumer.pop() {
                own_sum = own_sum.wrapping_add(item.unwrap());
                own_count += 1;
            }
        } else {
            loop {
                let count = consumer.pop_batch(&mut buffer[..batch]);
                if count == 0 {
                    break;
                }
                own_count += count;
                own_sum = buffer[..count]
                    .iter()
                    .fold(own_sum, |sum, item| sum.wrapping_add(item.unwrap()));
            }
        }
        if own_count > told {
            let all = taken.fetch_add(own_count - told, Ordering::Relaxed) + own_count - told;
            told = own_count;
            if all == total {
                done.store(true, Ordering::Relaxed);
                break;
            }
        }
        patience.wait();
    }
    sum.fetch_add(own_sum, Ordering::Relaxed);
    Instant::now()
}

/// Sends one item there and back `trips` times through two queues of `C`; nanoseconds a trip.
///
/// # Panics
/// If an item does not come back.
#[must_use]
pub fn round_trip_ns<C: Contender>(trips: usize) -> f64 {
    round_trips::<C>(trips, || ()).as_secs_f64() * 1e9 / trips as f64
}

/// As [`round_trip_ns`], the `quantile` (0 to 1) of trips that are timed one by one. The clock
/// that is looked at after each is part of what it shows.
///
/// # Panics
/// If an item does not come back, or for fewer than two trips.
#[must_use]
pub fn round_trip_ns_at<C: Contender>(trips: usize, quantile: f64) -> f64 {
    assert!(trips > 1, "a trip is timed from the end of the one before");
    // Written to beforehand: new pages would be among the slowest trips.
    let mut ends = vec![Instant::now(); trips];
    let mut places = ends.iter_mut();
    round_trips::<C>(trips, || {
        if let Some(place) = places.next() {
            *place = Instant::now();
        }
    });
    let times = ends.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64() * 1e9);
    at_quantile(times.collect(), quantile).expect("there is a trip")
}

/// Sends the items, and calls `after` after each trip.
fn round_trips<C: Contender>(trips: usize, mut after: impl FnMut()) -> Duration {
    let ((mut there, mut there_end), (mut back, mut back_end)) = (C::build(1, 1), C::build(1, 1));
    let (mut there, mut there_end) = (there.remove(0), there_end.remove(0));
    let (mut back, mut back_end) = (back.remove(0), back_end.remove(0));
    let barrier = Barrier::new(2);
    thread::scope(|scope| {
        let barrier = &barrier;
        scope.spawn(move || {
            pin(1);
            barrier.wait();
            for _ in 0..trips {
                let item = loop {
                    if let Some(item) = there_end.pop() {
                        break item;
                    }
                    spin_loop();
                };
                assert!(back.push(item), "an empty queue has room");
            }
            (there_end, back)
        });
        pin(0);
        barrier.wait();
        let start = Instant::now();
        for trip in 0..trips {
            assert!(there.push(C::Item::wrap(trip)), "an empty queue has room");
            let item = loop {
                if let Some(item) = back_end.pop() {
                    break item;
                }
                spin_loop();
            };
            assert_eq!(item.unwrap(), trip, "{}: the item comes back", C::NAME);
            after();
        }
        start.elapsed()
    })
}

/// Pushes an item and pops it again on one thread, `pairs` times; nanoseconds a pair.
///
/// Values are compared, not `Option`s, and the verdict is asked for once: an `assert_eq!` for each
/// item keeps both sides in memory, which cost 7 of the 40 instructions of the cheapest ring.
///
/// # Panics
/// If an item is refused or does not come out as it went in.
pub fn pairs<C: Contender>(pairs: usize) -> f64 {
    let (mut producers, mut consumers) = C::build(1, 1);
    let (producer, consumer) = (&mut producers[0], &mut consumers[0]);
    let mut intact = 0;
    let start = Instant::now();
    for item in 0..pairs {
        if !producer.push(C::Item::wrap(item)) {
            break;
        }
        if let Some(popped) = consumer.pop() {
            intact += usize::from(popped == C::Item::wrap(item));
        }
    }
    let elapsed = start.elapsed();
    let are_all = intact == pairs;
    assert!(are_all, "{}: each item comes back", C::NAME);
    elapsed.as_secs_f64() * 1e9 / pairs as f64
}

/// As [`pairs`], with runs of `run` items and the batch operations.
///
/// # Panics
/// If an item is refused or does not come out in order.
pub fn batch_pairs<C: Contender>(pairs: usize, run: usize) {
    let (mut producers, mut consumers) = C::build(1, 1);
    let (producer, consumer) = (&mut producers[0], &mut consumers[0]);
    let mut items = [C::Item::wrap(0); BATCH_MAX];
    for first in (0..pairs).step_by(run) {
        for (offset, item) in items[..run].iter_mut().enumerate() {
            *item = C::Item::wrap(first + offset);
        }
        assert_eq!(producer.push_batch(&items[..run]), run, "there is room");
        items[..run].fill(C::Item::wrap(0));
        let mut taken = 0;
        while taken < run {
            let more = consumer.pop_batch(&mut items[taken..run]);
            assert_ne!(more, 0, "{}: all come", C::NAME);
            taken += more;
        }
        assert_eq!(items[run - 1].unwrap(), first + run - 1, "{}: in order", C::NAME);
    }
}
