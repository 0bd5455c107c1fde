//! A thread is stopped in each critical window; the others must go on.
//!
//! Unit tests only, since the hooks exist in no other build (`sync::stop`).

use std::boxed::Box;
use std::thread;
use std::vec::Vec;

use crate::mpsc::{rings, shared};
use crate::sync::Window;
use crate::sync::stop::Gate;
use crate::{Compact, Layout, Padded, PopError, Words, spmc, spsc};

/// Something with room for a lap in its address.
type Item = Box<u64>;

const CAPACITY: usize = 4;

/// Runs `stopped` on another thread up to `window`, then `others` here, then lets it go on; the
/// results of both.
fn with_stopped<S: Send, O>(
    window: Window,
    stopped: impl FnOnce() -> S + Send,
    others: impl FnOnce() -> O,
) -> (S, O) {
    let gate = Gate::new();
    thread::scope(|scope| {
        let arm = gate.clone();
        let handle = scope.spawn(move || {
            arm.arm(window);
            stopped()
        });
        gate.wait_reached();
        // Even if `others` panics the stopped thread goes on and the scope ends.
        let release = ReleaseOnDrop(&gate);
        let result = others();
        drop(release);
        (handle.join().expect("the stopped thread does not panic"), result)
    })
}

struct ReleaseOnDrop<'a>(&'a Gate);

impl Drop for ReleaseOnDrop<'_> {
    fn drop(&mut self) {
        self.0.release();
    }
}

fn pop_all<L: Layout<Item>>(consumer: &mut spmc::Consumer<Item, L>) -> Vec<u64> {
    let mut all = Vec::new();
    while consumer.pop_batch(CAPACITY, |item| all.push(*item)) > 0 {}
    all
}

fn spsc_producer_stopped<L: Layout<Item>>() {
    let (mut producer, mut consumer) = spsc::ring_in::<Item, L>(CAPACITY);
    producer.push(Box::new(1)).expect("room");
    let (_producer, ()) = with_stopped(
        Window::Unstamped,
        move || {
            producer.push(Box::new(2)).expect("room");
            producer
        },
        || {
            assert_eq!(consumer.pop(), Ok(Box::new(1)));
            assert_eq!(consumer.pop(), Err(PopError::Empty), "not published, not seen");
            assert_eq!(consumer.len(), 0);
        },
    );
    assert_eq!(consumer.pop(), Ok(Box::new(2)));
}

#[test]
fn stopped_spsc_producer_leaves_the_consumer_free() {
    spsc_producer_stopped::<Words>();
    spsc_producer_stopped::<Compact>();
    spsc_producer_stopped::<Padded>();
}

/// A consumer stopped after looking: the rest goes round the ring, and it wakes up to nothing.
fn spmc_consumer_stopped_peeking<L: Layout<Item>>() {
    let (mut producer, mut consumer) = spmc::ring_in::<Item, L>(CAPACITY);
    let mut stopped = consumer.clone();
    producer.push(Box::new(0)).expect("room");
    let (late, all) = with_stopped(
        Window::Peeked,
        move || stopped.pop(),
        || {
            let mut all = pop_all(&mut consumer);
            for number in 1..=10 * CAPACITY as u64 {
                producer.push(Box::new(number)).expect("nothing is held");
                all.extend(pop_all(&mut consumer));
            }
            all
        },
    );
    assert_eq!(late, Err(PopError::Empty), "what it saw was taken by others");
    assert!(all.into_iter().eq(0..=10 * CAPACITY as u64));
}

#[test]
fn consumer_stopped_between_look_and_claim_holds_up_nobody() {
    spmc_consumer_stopped_peeking::<Words>();
    spmc_consumer_stopped_peeking::<Compact>();
    spmc_consumer_stopped_peeking::<Padded>();
}

/// Words: a consumer stopped with a claim keeps what it claimed, and that is all it does.
#[test]
fn consumer_stopped_with_claimed_words_holds_up_nobody() {
    let (mut producer, mut consumer) = spmc::ring_in::<Item, Words>(CAPACITY);
    let mut stopped = consumer.clone();
    assert_eq!(producer.push_batch(&mut (0..3).map(Box::new)), 3);
    let (late, all) = with_stopped(
        Window::Claimed,
        move || {
            let mut late = Vec::new();
            stopped.pop_batch(2, |item| late.push(*item));
            late
        },
        || {
            let mut all = pop_all(&mut consumer);
            for number in 3..10 * CAPACITY as u64 {
                producer.push(Box::new(number)).expect("claimed slots are free");
                all.extend(pop_all(&mut consumer));
            }
            all
        },
    );
    assert_eq!(late, [0, 1]);
    assert!(all.into_iter().eq(2..10 * CAPACITY as u64));
}

/// Cells: the documented bound. Other consumers go on; the producer is refused when it comes
/// round to the claimed cells, after capacity minus claimed further pushes.
fn spmc_consumer_stopped_with_cells<L: Layout<Item>>() {
    let (mut producer, mut consumer) = spmc::ring_in::<Item, L>(CAPACITY);
    let mut stopped = consumer.clone();
    assert_eq!(producer.push_batch(&mut (0..3).map(Box::new)), 3);
    let (late, all) = with_stopped(
        Window::Claimed,
        move || {
            let mut late = Vec::new();
            stopped.pop_batch(2, |item| late.push(*item));
            late
        },
        || {
            let mut all = pop_all(&mut consumer);
            producer.push(Box::new(3)).expect("the fourth cell was never used");
            all.extend(pop_all(&mut consumer));
            let refused = producer.push(Box::new(4)).expect_err("the first cell is claimed");
            assert!(refused.is_full());
            assert_eq!(consumer.pop(), Err(PopError::Empty), "consumers are not held up");
            all
        },
    );
    assert_eq!(late, [0, 1]);
    assert_eq!(all, [2, 3]);
    producer.push(Box::new(4)).expect("the cells are marked now");
    assert_eq!(consumer.pop(), Ok(Box::new(4)));
}

#[test]
fn consumer_stopped_with_claimed_cells_keeps_to_the_bound() {
    spmc_consumer_stopped_with_cells::<Compact>();
    spmc_consumer_stopped_with_cells::<Padded>();
}

fn spmc_producer_stopped<L: Layout<Item>>() {
    let (mut producer, mut consumer) = spmc::ring_in::<Item, L>(CAPACITY);
    producer.push(Box::new(1)).expect("room");
    let (_producer, ()) = with_stopped(
        Window::Unstamped,
        move || {
            producer.push(Box::new(2)).expect("room");
            producer
        },
        || {
            assert_eq!(pop_all(&mut consumer), [1]);
            assert!(consumer.is_empty());
        },
    );
    assert_eq!(pop_all(&mut consumer), [2]);
}

#[test]
fn stopped_spmc_producer_leaves_the_consumers_free() {
    spmc_producer_stopped::<Words>();
    spmc_producer_stopped::<Compact>();
    spmc_producer_stopped::<Padded>();
}

/// A producer stopped in `window` hides nothing of another one, for many laps of its ring.
fn rings_producer_stopped<L: Layout<Item>>(window: Window, expected_late: usize) {
    let mut consumer = rings::ring_in::<Item, L>(CAPACITY);
    let (mut stopped, mut other) = (consumer.add_producer(), consumer.add_producer());
    let (_stopped, seen) = with_stopped(
        window,
        move || {
            stopped.push(Box::new(1000)).expect("room");
            stopped.commit();
            stopped
        },
        || {
            let mut seen = Vec::new();
            for number in 0..10 * CAPACITY as u64 {
                other.push(Box::new(number)).expect("room");
                consumer.pop_batch(CAPACITY, |item| seen.push(*item));
            }
            seen
        },
    );
    let others = seen.iter().copied().filter(|number| *number < 1000);
    assert!(others.eq(0..10 * CAPACITY as u64), "nothing of the other producer is late");
    let mut late = Vec::new();
    consumer.pop_batch(CAPACITY, |item| late.push(*item));
    assert_eq!(late.len(), expected_late, "seen {seen:?}, then {late:?}");
}

#[test]
fn stopped_answer_producer_hides_nobody() {
    // Not published yet: it arrives when the producer goes on.
    rings_producer_stopped::<Words>(Window::Unstamped, 1);
    rings_producer_stopped::<Compact>(Window::Unstamped, 1);
    // Published but not announced: it is found without its ready bit.
    rings_producer_stopped::<Words>(Window::Unannounced, 0);
    rings_producer_stopped::<Compact>(Window::Unannounced, 0);
}

/// The shared ring, and why the answers do not go through it: what lies behind a reservation is
/// hidden until its producer goes on. Pushes go on meanwhile, and nothing is lost.
fn shared_producer_stopped<L: Layout<Item>>(window: Window) {
    let (mut stopped, mut consumer) = shared::ring_in::<Item, L>(CAPACITY);
    let mut other = stopped.clone();
    let count = 2 * CAPACITY as u64 - 1;
    let (_stopped, ()) = with_stopped(
        window,
        move || {
            stopped.push(Box::new(1000)).expect("room");
            stopped
        },
        || {
            for number in 0..count {
                other.push(Box::new(number)).expect("ring or list");
            }
            assert_eq!(consumer.pop(), Err(PopError::Empty), "hidden behind the reservation");
            let refused = other.push(Box::new(count)).expect_err("ring and list are full");
            assert!(refused.is_full() && other.pending() == CAPACITY);
        },
    );
    let mut seen = Vec::new();
    for _ in 0..4 {
        other.commit();
        consumer.pop_batch(CAPACITY, |item| seen.push(*item));
    }
    assert_eq!(seen.remove(0), 1000, "the reservation was first");
    assert!(seen.into_iter().eq(0..count), "all, in order");
}

#[test]
fn stopped_reservation_hides_what_is_behind_it_and_loses_nothing() {
    for window in [Window::Reserved, Window::Unstamped] {
        shared_producer_stopped::<Words>(window);
        shared_producer_stopped::<Compact>(window);
        shared_producer_stopped::<Padded>(window);
    }
}

/// A producer that finds the ring full waits outside of it: it has reserved nothing, so it can
/// stop for as long as it likes.
#[test]
fn producer_waiting_for_room_reserves_nothing() {
    let (mut waiting, mut consumer) = shared::ring_in::<Item, Words>(CAPACITY);
    let mut other = waiting.clone();
    for number in 0..CAPACITY as u64 {
        waiting.push(Box::new(number)).expect("room");
    }
    waiting.push(Box::new(1000)).expect("the list takes it");
    assert_eq!(waiting.pending(), 1);
    // It does nothing from here on, and the others go round the ring.
    let mut seen = Vec::new();
    for number in CAPACITY as u64..10 * CAPACITY as u64 {
        seen.extend(consumer.pop().ok().map(|item| *item));
        other.push(Box::new(number)).expect("room");
        assert_eq!(other.pending(), 0);
    }
    assert!(seen.into_iter().eq(0..9 * CAPACITY as u64));
    waiting.commit();
    assert_eq!(waiting.pending(), 1, "still full");
}

/// A producer that has not looked at the ring while others filled it reserves nothing either: what
/// it accepts waits outside, and when room is there the others do not wait for it.
#[test]
fn producer_that_looks_at_a_full_ring_again_reserves_nothing() {
    let (mut idle, mut consumer) = shared::ring_in::<Item, Words>(CAPACITY);
    let mut other = idle.clone();
    idle.push(Box::new(0)).expect("room");
    for number in 1..CAPACITY as u64 {
        other.push(Box::new(number)).expect("room");
    }
    idle.push(Box::new(1000)).expect("the list takes it");
    assert_eq!(idle.pending(), 1);
    let mut seen = Vec::new();
    consumer.pop_batch(CAPACITY, |item| seen.push(*item));
    assert!(seen.into_iter().eq(0..CAPACITY as u64));
    other.push(Box::new(CAPACITY as u64)).expect("room");
    assert_eq!(consumer.pop(), Ok(Box::new(CAPACITY as u64)), "hidden by nobody");
    idle.commit();
    assert_eq!(consumer.pop(), Ok(Box::new(1000)));
}

/// A commit stopped in the middle of its run: what it has published is there, in order.
fn commit_stopped<L: Layout<Item>>() {
    let (mut producer, mut consumer) = spsc::ring_in::<Item, L>(CAPACITY);
    for number in 0..3 {
        producer.push_deferred(Box::new(number)).expect("room");
    }
    let (_producer, ()) = with_stopped(
        Window::Unstamped,
        move || {
            producer.commit();
            producer
        },
        || assert_eq!(consumer.pop(), Err(PopError::Empty), "before the first one"),
    );
    assert!(consumer.drain().map(|item| *item).eq(0..3));
}

#[test]
fn stopped_commit_shows_what_it_has_published() {
    commit_stopped::<Words>();
    commit_stopped::<Compact>();
}

/// The consumer of a ring stopped before it gives back the room of what it took: the producer has
/// the rest of the ring, and is refused then.
#[test]
fn consumer_stopped_before_it_gives_back_room_keeps_one_slot() {
    let (mut producer, mut consumer) = spsc::ring_in::<Item, Words>(CAPACITY);
    producer.push(Box::new(0)).expect("room");
    let (mut consumer, ()) = with_stopped(
        Window::Taken,
        move || {
            assert_eq!(consumer.pop(), Ok(Box::new(0)));
            consumer
        },
        || {
            for number in 1..CAPACITY as u64 {
                producer.push(Box::new(number)).expect("the other slots");
            }
            assert!(producer.push(Box::new(9)).is_err_and(|refused| refused.is_full()));
        },
    );
    producer.push(Box::new(CAPACITY as u64)).expect("given back");
    assert!(consumer.drain().map(|item| *item).eq(1..=CAPACITY as u64));
}

/// A commit between the clearing of its ready bit and the consumer's second look.
#[test]
fn consumer_stopped_with_a_cleared_bit_finds_what_came_meanwhile() {
    let mut consumer = rings::ring_in::<Item, Words>(CAPACITY);
    let (mut one, _two) = (consumer.add_producer(), consumer.add_producer());
    one.push(Box::new(0)).expect("room");
    one.commit();
    assert_eq!(consumer.pop(), Ok(Box::new(0)));
    let (popped, ()) = with_stopped(
        Window::Settling,
        move || consumer.pop(),
        || {
            one.push(Box::new(1)).expect("room");
            one.commit();
        },
    );
    assert_eq!(popped, Ok(Box::new(1)));
}

/// A producer stopped on its way out: what it leaves is there, and nobody is told of the end.
#[test]
fn producer_stopped_while_it_goes_has_left_its_items() {
    let (mut producer, mut consumer) = spsc::ring_in::<Item, Words>(CAPACITY);
    producer.push_deferred(Box::new(1)).expect("room");
    with_stopped(
        Window::Leaving,
        move || drop(producer),
        || {
            assert_eq!(consumer.pop(), Ok(Box::new(1)));
            assert_eq!(consumer.pop(), Err(PopError::Empty));
        },
    );
    assert_eq!(consumer.pop(), Err(PopError::Closed));

    let (mut producer, mut consumer) = shared::ring_in::<Item, Words>(CAPACITY);
    for number in 0..=CAPACITY as u64 {
        producer.push(Box::new(number)).expect("ring or list");
    }
    with_stopped(
        Window::Leaving,
        move || drop(producer),
        || {
            assert!(consumer.drain().map(|item| *item).eq(0..=CAPACITY as u64));
            assert_eq!(consumer.pop(), Err(PopError::Empty));
        },
    );
    assert_eq!(consumer.pop(), Err(PopError::Closed));
}

/// A producer stopped while it moves its list on: what it has reserved hides what is behind it, as
/// with any reservation, and nothing is lost.
#[test]
fn producer_stopped_while_it_moves_its_list_on_loses_nothing() {
    let (mut stopped, mut consumer) = shared::ring_in::<Item, Words>(CAPACITY);
    let mut other = stopped.clone();
    for number in 0..CAPACITY as u64 + 2 {
        stopped.push(Box::new(number)).expect("ring or list");
    }
    assert_eq!((stopped.pending(), consumer.drain().count()), (2, CAPACITY));
    let (_stopped, ()) = with_stopped(
        Window::Reserved,
        move || {
            stopped.commit();
            stopped
        },
        || {
            other.push(Box::new(1000)).expect("room");
            assert_eq!(consumer.pop(), Err(PopError::Empty), "hidden behind the reservation");
        },
    );
    let last = CAPACITY as u64;
    assert!(consumer.drain().map(|item| *item).eq([last, last + 1, 1000]));
}
