//! Whom `mpsc::rings` serves, and for how long in a row.

use flintlock_queues::mpsc::rings::{self, BURST};
use flintlock_queues::{Index, Padded, PopError, Words};

const CAPACITY: usize = 512;

/// Takes `count` items; the longest run of one producer while others held some.
///
/// Items of producer `n` are `n * CAPACITY` and up, in order.
fn longest_run(mut pop: impl FnMut() -> usize, producers: usize, count: usize) -> usize {
    let mut left = vec![count / producers; producers];
    let mut next: Vec<usize> = (0..producers).map(|number| number * CAPACITY).collect();
    let (mut run, mut longest, mut last) = (0, 0, usize::MAX);
    for _ in 0..count {
        let item = pop();
        let from = item / CAPACITY;
        assert_eq!(item, next[from], "each producer's items come in its order");
        next[from] += 1;
        left[from] -= 1;
        run = if from == last { run + 1 } else { 1 };
        last = from;
        let others: usize = left.iter().sum::<usize>() - left[from];
        if others > 0 {
            longest = longest.max(run);
        }
    }
    longest
}

fn filled(producers: usize, commits: bool) -> rings::Consumer<Index, Words> {
    let mut consumer = rings::ring_in::<Index, Words>(CAPACITY);
    for number in 0..producers {
        let mut producer = consumer.add_producer();
        for item in 0..CAPACITY {
            let index = Index::new(number * CAPACITY + item);
            producer.push(index).expect("a new ring has room");
        }
        if commits {
            producer.commit();
        }
    }
    consumer
}

#[test]
fn no_ring_is_served_for_longer_than_a_burst_while_others_wait() {
    for producers in [2, 3, 4] {
        for commits in [false, true] {
            let mut consumer = filled(producers, commits);
            let pop = || consumer.pop().expect("all are there").value();
            let longest = longest_run(pop, producers, producers * CAPACITY);
            assert_eq!(longest, BURST, "{producers} producers, {commits}");
            assert_eq!(consumer.pop(), Err(PopError::Closed));
            assert_eq!(consumer.producers(), 0, "what is closed and empty leaves the table");
        }
    }
}

#[test]
fn batches_are_no_way_round_a_burst() {
    let mut consumer = filled(3, true);
    let mut taken = Vec::new();
    while consumer.pop_batch(100, |item| taken.push(item.value())) > 0 {}
    let mut taken = taken.into_iter();
    let longest = longest_run(|| taken.next().expect("all came"), 3, 3 * CAPACITY);
    assert_eq!(longest, BURST);
}

#[test]
fn who_never_commits_is_served_beside_those_who_always_do() {
    let mut consumer = rings::ring_in::<usize, Padded>(4 * BURST);
    let mut busy = [consumer.add_producer(), consumer.add_producer()];
    let mut quiet = consumer.add_producer();
    quiet.push(7).expect("a new ring has room");
    for taken in 0.. {
        for producer in &mut busy {
            while producer.push(0).is_ok() {}
            producer.commit();
        }
        if consumer.pop() == Ok(7) {
            break;
        }
        assert!(taken <= 3 * BURST, "three changes of ring at most");
    }
}

#[test]
fn an_empty_ring_that_was_served_last_is_served_again() {
    let mut consumer = rings::ring_in::<Index, Words>(4);
    let mut producers = [consumer.add_producer(), consumer.add_producer()];
    for round in 0..40 {
        let number = round / 4 % 2;
        producers[number].push(Index::new(round)).expect("room");
        if round % 3 == 0 {
            producers[number].commit();
        }
        assert_eq!(consumer.pop(), Ok(Index::new(round)));
        assert_eq!(consumer.pop(), Err(PopError::Empty));
    }
}

#[test]
fn a_burst_that_is_over_goes_on_where_nobody_else_waits() {
    let mut consumer = rings::ring_in::<Index, Words>(CAPACITY);
    let mut producers = [consumer.add_producer(), consumer.add_producer()];
    for producer in &mut producers {
        for item in 0..CAPACITY {
            producer.push(Index::new(item)).expect("an empty ring has room");
        }
        for item in 0..CAPACITY {
            assert_eq!(consumer.pop(), Ok(Index::new(item)));
        }
        assert_eq!(consumer.pop(), Err(PopError::Empty));
    }
}
