//! What the handles of every ring have in common: the words they answer to, and whether they may
//! go to other threads.
#![cfg(not(any(loom, shuttle)))]

use std::array;
use std::cell::Cell;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::rc::Rc;

use flintlock_queues::mpsc::{rings, shared};
use flintlock_queues::{Compact, Index, Layout, Padded, PopError, Words, spmc, spsc};

/// What the words mean, from empty to full and back.
macro_rules! check_words {
    ($producer:expr, $consumer:expr) => {{
        let (mut producer, mut consumer) = ($producer, $consumer);
        let capacity = producer.capacity();
        assert_eq!(consumer.capacity(), capacity);
        assert!(producer.is_empty() && !producer.is_full() && !producer.is_closed());
        assert!(consumer.is_empty() && consumer.len() == 0 && !consumer.is_closed());
        for number in 0..capacity {
            assert_eq!((producer.len(), producer.remaining()), (number, capacity - number));
            assert!(!producer.is_full());
            producer.push_deferred(Index::new(number)).expect("what remains is accepted");
            assert!(!producer.is_empty(), "what is deferred counts");
        }
        assert!(producer.is_full());
        producer.commit();
        assert_eq!((producer.len(), consumer.len()), (capacity, capacity));
        assert_eq!(consumer.pop(), Ok(Index::new(0)));
        assert!(!producer.is_full());
        let rest: Vec<usize> = consumer.drain().take(1).map(Index::value).collect();
        assert_eq!(rest, [1], "no more than was asked for");
        assert!(consumer.drain().map(Index::value).eq(2..capacity));
        assert_eq!(consumer.pop(), Err(PopError::Empty));
        assert!(producer.is_empty() && producer.remaining() == capacity);
        drop(consumer);
        assert!(producer.is_closed());
    }};
}

fn words_of_all<L: Layout<Index>>(capacity: usize, first: usize) {
    let (producer, consumer) = spsc::ring_at::<Index, L>(capacity, first);
    check_words!(producer, consumer);
    let (producer, consumer) = spmc::ring_at::<Index, L>(capacity, first);
    check_words!(producer, consumer);
    let mut consumer = rings::ring_at::<Index, L>(capacity, first);
    check_words!(consumer.add_producer(), consumer);
    let (producer, consumer) = shared::ring_at::<Index, L>(capacity, first);
    check_words!(producer, consumer);
}

#[test]
fn words_mean_the_same_on_every_ring() {
    for (capacity, first) in [(2, 0), (4, usize::MAX - 1), (16, 5)] {
        words_of_all::<Words>(capacity, first);
        words_of_all::<Compact>(capacity, first);
        words_of_all::<Padded>(capacity, first);
    }
}

#[test]
fn a_shared_producer_with_items_to_deliver_is_not_empty() {
    let (mut producer, mut consumer) = shared::ring::<u32>(2);
    for item in 0..3 {
        producer.push(item).expect("two in the ring, one in the list");
    }
    assert_eq!((producer.len(), producer.pending(), producer.remaining()), (3, 1, 1));
    assert_eq!(consumer.drain().count(), 2);
    assert!(!producer.is_empty(), "the last one is not even in the ring");
}

#[test]
fn consumers_are_counted() {
    let (producer, consumer) = spmc::ring::<u32>(2);
    let other = consumer.clone();
    assert_eq!((producer.consumers(), other.consumers()), (2, 2));
    drop(consumer);
    assert_eq!((producer.consumers(), other.consumers()), (1, 1));
    drop(other);
    assert_eq!(producer.consumers(), 0);
}

const fn crosses<T: Send + Sync + UnwindSafe + RefUnwindSafe>() {}

/// Two implementations fit a type that is `Send`, and which one is meant cannot be said.
macro_rules! assert_stays {
    ($($handle:ty),+ $(,)?) => {$(
        const _: fn() = || {
            trait Ambiguous<Which> {
                fn which() {}
            }
            struct Sends;
            impl<T: ?Sized> Ambiguous<()> for T {}
            impl<T: ?Sized + Send> Ambiguous<Sends> for T {}
            <$handle as Ambiguous<_>>::which();
        };
    )+};
}

// Handles go where their items may go, and out of a call that panics whatever their items are.
const _: () = {
    crosses::<spsc::Producer<Cell<u8>>>();
    crosses::<shared::CreditConsumer<Cell<u8>>>();
    crosses::<spsc::Producer<String>>();
    crosses::<spsc::Consumer<String>>();
    crosses::<spmc::Producer<String, Padded>>();
    crosses::<spmc::Consumer<String>>();
    crosses::<rings::Producer<Box<u64>, Words>>();
    crosses::<rings::Consumer<Box<u64>, Words>>();
    crosses::<shared::Producer<String>>();
    crosses::<shared::Consumer<String>>();
    crosses::<shared::CreditProducer<String>>();
    crosses::<shared::CreditConsumer<String>>();
    crosses::<shared::Credit>();
    crosses::<shared::Credits>();
};
assert_stays!(
    spsc::Producer<Rc<u8>>,
    spsc::Consumer<Rc<u8>>,
    spmc::Producer<Rc<u8>, Padded>,
    spmc::Consumer<Rc<u8>>,
    rings::Producer<Box<Rc<u8>>, Words>,
    rings::Consumer<Box<Rc<u8>>, Words>,
    shared::Producer<Rc<u8>>,
    shared::Consumer<Rc<u8>>,
    shared::CreditProducer<Rc<u8>>,
    shared::CreditConsumer<Rc<u8>>,
);

/// A producer takes the lines of slots ahead of its items: never such as hold items, wherever room
/// and buffer end, and whatever it pushes with.
#[test]
fn a_line_is_taken_only_where_there_is_room() {
    for capacity in [16, 64, 128, 256] {
        for run in 1..capacity {
            takes_lines::<Words>(capacity, run);
            takes_lines::<Compact>(capacity, run);
        }
    }
}

/// Fills a ring again and again after `run` items were taken, each time by another way of pushing.
fn takes_lines<L: Layout<Index>>(capacity: usize, run: usize) {
    let (mut producer, mut consumer) = spsc::ring_at::<Index, L>(capacity, capacity - run);
    let (mut next, mut expected) = (0, 0);
    for round in 0..8 {
        loop {
            let items: [Index; 16] = array::from_fn(|offset| Index::new(next + offset));
            let pushed = match round % 4 {
                0 => usize::from(producer.push(items[0]).is_ok()),
                1 => usize::from(producer.push_deferred(items[0]).is_ok()),
                2 => producer.push_slice(&items),
                _ => producer.push_batch(&mut items.into_iter().take(10)),
            };
            next += pushed;
            if pushed == 0 {
                break;
            }
        }
        for _ in 0..run {
            assert_eq!(consumer.pop(), Ok(Index::new(expected)), "{capacity} slots, {run} taken");
            expected += 1;
        }
    }
}
