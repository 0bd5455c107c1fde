//! Real threads, many items: nothing lost, nothing twice, each producer's order kept.
//!
//! Ignored by default, run by `make stress`; `STRESS_ITEMS` changes the size. More threads than
//! cores on purpose: a thread that is descheduled at a bad moment is part of the test.
#![cfg(not(any(loom, shuttle)))]

use std::thread;

use flintlock_queues::mpsc::{rings, shared};
use flintlock_queues::{Compact, Layout, Padded, PopError, PushError, Tagged, Words, spmc, spsc};

#[repr(align(32))]
#[derive(Debug)]
struct Payload(usize);

type Item = Tagged<Box<Payload>>;

fn item(number: usize) -> Item {
    Item::new((number % 16) as u8, Box::new(Payload(number)))
}

/// Unpacks, and checks the kind against the payload.
fn number(item: Item) -> usize {
    let (kind, payload) = item.into_parts();
    assert_eq!(usize::from(kind), payload.0 % 16, "kind and payload belong together");
    payload.0
}

fn items() -> usize {
    let wanted = std::env::var("STRESS_ITEMS").ok().and_then(|text| text.parse().ok());
    wanted.unwrap_or(2_000_000)
}

/// Repeats `push` until it takes the item.
fn insist(mut item: Item, mut push: impl FnMut(Item) -> Result<(), PushError<Item>>) {
    while let Err(refused) = push(item) {
        assert!(refused.is_full(), "the consumer is there");
        item = refused.into_inner();
        thread::yield_now();
    }
}

/// A small generator, so that each run mixes the ways of pushing and popping differently.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// Pushes `count` items from `first` on in every way there is; a macro, since each ring has its
/// own producer type with the same names.
macro_rules! push_all {
    ($producer:expr, $first:expr, $count:expr, $seed:expr) => {{
        let (mut dice, end) = (Dice($seed), $first + $count);
        let mut next = $first;
        while next < end {
            match dice.roll(4) {
                0 => {
                    insist(item(next), |item| $producer.push_deferred(item));
                    next += 1;
                }
                1 => {
                    let mut batch = (next..end.min(next + dice.roll(20) as usize)).map(item);
                    next += $producer.push_batch(&mut batch);
                }
                2 => $producer.commit(),
                _ => {
                    insist(item(next), |item| $producer.push(item));
                    next += 1;
                }
            }
        }
        $producer.commit();
    }};
}

/// Pops until closed, in every way there is.
macro_rules! pop_all {
    ($consumer:expr, $seed:expr, $got:expr) => {{
        let mut dice = Dice($seed);
        loop {
            if dice.roll(2) == 0 {
                $consumer.pop_batch(dice.roll(40) as usize, |item| $got(number(item)));
            }
            match $consumer.pop() {
                Ok(item) => $got(number(item)),
                Err(PopError::Empty) => thread::yield_now(),
                Err(PopError::Closed) => break,
            }
        }
    }};
}

fn spsc_all<L: Layout<Item>>(capacity: usize) {
    let count = items();
    let (mut producer, mut consumer) = spsc::ring_in::<Item, L>(capacity);
    thread::scope(|scope| {
        scope.spawn(move || push_all!(producer, 0, count, 7));
        let mut expected = 0;
        pop_all!(consumer, 11, |number| {
            assert_eq!(number, expected);
            expected += 1;
        });
        assert_eq!(expected, count);
    });
}

#[test]
#[ignore = "real threads take their time"]
fn stress_spsc() {
    for capacity in [2, 64, 4096] {
        spsc_all::<Words>(capacity);
        spsc_all::<Compact>(capacity);
        spsc_all::<Padded>(capacity);
    }
}

fn spmc_all<L: Layout<Item>>(capacity: usize) {
    let count = items();
    let (mut producer, consumer) = spmc::ring_in::<Item, L>(capacity);
    let mut seen = vec![0_u8; count];
    thread::scope(|scope| {
        scope.spawn(move || push_all!(producer, 0, count, 13));
        let takers: Vec<_> = (1..4)
            .map(|seed| {
                let mut consumer = consumer.clone();
                scope.spawn(move || {
                    let mut got = Vec::new();
                    pop_all!(consumer, seed, |number| got.push(number));
                    got
                })
            })
            .collect();
        drop(consumer);
        for taker in takers {
            let got = taker.join().expect("no consumer panics");
            assert!(got.is_sorted(), "one consumer sees items in order");
            got.into_iter().for_each(|number| seen[number] += 1);
        }
    });
    assert!(seen.into_iter().all(|count| count == 1), "each item exactly once");
}

#[test]
#[ignore = "real threads take their time"]
fn stress_spmc() {
    for capacity in [2, 64, 4096] {
        spmc_all::<Words>(capacity);
        spmc_all::<Compact>(capacity);
        spmc_all::<Padded>(capacity);
    }
}

/// Checks the order of each producer: numbers are `producer * count + n`.
struct Orders {
    count: usize,
    next: Vec<usize>,
}

impl Orders {
    fn new(producers: usize, count: usize) -> Self {
        Self { count, next: vec![0; producers] }
    }

    fn take(&mut self, number: usize) {
        let (producer, position) = (number / self.count, number % self.count);
        assert_eq!(position, self.next[producer], "in order of producer {producer}");
        self.next[producer] += 1;
    }

    fn assert_complete(&self) {
        assert!(self.next.iter().all(|next| *next == self.count), "{:?}", self.next);
    }
}

fn rings_all<L: Layout<Item>>(capacity: usize) {
    const PRODUCERS: usize = 6;
    let count = items() / PRODUCERS;
    let mut consumer = rings::ring_in::<Item, L>(capacity);
    let mut orders = Orders::new(PRODUCERS, count);
    thread::scope(|scope| {
        // Half of them come while the others are at work.
        let start = |consumer: &mut rings::Consumer<Item, L>, number: usize| {
            let mut producer = consumer.add_producer();
            scope.spawn(move || push_all!(producer, number * count, count, 17 + number as u64));
        };
        for number in 0..PRODUCERS / 2 {
            start(&mut consumer, number);
        }
        for number in PRODUCERS / 2..PRODUCERS {
            let mut wanted = count / 4;
            while wanted > 0 && !consumer.is_closed() {
                wanted -= consumer.pop_batch(wanted, |item| orders.take(self::number(item)));
                thread::yield_now();
            }
            start(&mut consumer, number);
        }
        pop_all!(consumer, 19, |number| orders.take(number));
        assert_eq!(consumer.producers(), 0);
    });
    orders.assert_complete();
}

#[test]
#[ignore = "real threads take their time"]
fn stress_rings() {
    for capacity in [2, 64, 4096] {
        rings_all::<Words>(capacity);
        rings_all::<Compact>(capacity);
    }
}

fn shared_all<L: Layout<Item>>(capacity: usize) {
    const PRODUCERS: usize = 4;
    let count = items() / PRODUCERS;
    let (producer, mut consumer) = shared::ring_in::<Item, L>(capacity);
    let mut orders = Orders::new(PRODUCERS, count);
    thread::scope(|scope| {
        for number in 0..PRODUCERS {
            let mut producer = producer.clone();
            scope.spawn(move || {
                // In parts, each by a producer of its own; the last leaves with something pending.
                for part in 0..10 {
                    let (first, last) = (count * part / 10, count * (part + 1) / 10);
                    let base = number * count + first;
                    push_all!(producer, base, last - first, 23 + (number + part) as u64);
                    // Order holds within one producer: what this one has pending comes first.
                    while producer.pending() > 0 && part < 9 {
                        producer.commit();
                        thread::yield_now();
                    }
                    producer = producer.clone();
                }
            });
        }
        drop(producer);
        pop_all!(consumer, 29, |number| orders.take(number));
    });
    orders.assert_complete();
}

#[test]
#[ignore = "real threads take their time"]
fn stress_shared() {
    for capacity in [2, 64, 4096] {
        shared_all::<Words>(capacity);
        shared_all::<Compact>(capacity);
        shared_all::<Padded>(capacity);
    }
}

/// Jobs with credits go round between main and workers, which answer one by one or in batches; no
/// push ever waits.
#[test]
#[ignore = "real threads take their time"]
fn stress_credits() {
    let count = items() / 4;
    let (mut jobs, job_end) = spmc::ring_in::<Box<(usize, shared::Credit)>, Words>(64);
    let (answer, mut answers) = shared::credited_in::<Item, Words>(64);
    thread::scope(|scope| {
        for more in [0, 3, 7] {
            let (mut job_end, mut answer) = (job_end.clone(), answer.clone());
            let (mut credits, mut batch) = (shared::Credits::default(), Vec::new());
            scope.spawn(move || {
                loop {
                    match job_end.pop() {
                        Ok(job) if more == 0 => answer.push(job.1, item(job.0)),
                        Ok(job) => {
                            let mut keep = |job: Box<(usize, shared::Credit)>| {
                                batch.push(item(job.0));
                                credits.add(job.1);
                            };
                            keep(job);
                            job_end.pop_batch(more, keep);
                            let count = batch.len();
                            let pushed = answer.push_batch(&mut credits, &mut batch.drain(..));
                            assert!(pushed == count && credits.is_empty());
                        }
                        Err(PopError::Empty) => thread::yield_now(),
                        Err(PopError::Closed) => break,
                    }
                }
            });
        }
        let (mut next, mut sum, mut answered) = (0, 0_usize, 0);
        while answered < count {
            if next < count
                && let Some(credit) = answers.credit()
            {
                match jobs.push(Box::new((next, credit))) {
                    Ok(()) => next += 1,
                    Err(refused) => answers.refund(refused.into_inner().1),
                }
            }
            let taken = answers.pop_batch(16, |answer| sum += number(answer));
            answered += taken;
            if taken == 0 {
                thread::yield_now();
            }
        }
        assert_eq!(sum, count * (count - 1) / 2);
        assert_eq!(answers.given(), 0);
        drop(jobs);
    });
}
