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

/// A batch that fills its ring is announced, however it was pushed: among many rings that are
/// silent it has its turn after those that are busy, not after all.
#[test]
fn a_ring_that_a_batch_has_filled_is_served_in_turn() {
    type Push = fn(&mut rings::Producer<Index, Words>, &[Index]) -> usize;
    let ways: [Push; 2] = [
        |producer, items| producer.push_batch(&mut items.iter().copied()),
        |producer, items| producer.push_slice(items),
    ];
    for push in ways {
        let mut consumer = rings::ring_in::<Index, Words>(4);
        let mut producers: Vec<_> = (0..60).map(|_| consumer.add_producer()).collect();
        assert_eq!(push(&mut producers[40], &[Index::new(7); 5]), 4, "filled to the brim");
        producers[40].commit();
        for round in 0.. {
            for producer in &mut producers[..2] {
                while producer.push(Index::new(0)).is_ok() {}
                producer.commit();
            }
            let mut is_found = false;
            consumer.pop_batch(4, |item| is_found |= item == Index::new(7));
            if is_found {
                break;
            }
            assert!(4 * round <= 3 * BURST, "two busy rings have had their turns");
        }
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
