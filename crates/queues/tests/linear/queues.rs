//! Histories of the shared queues; the caller brings the threads (real ones or shuttle's).

use std::any::Any;

use flintlock_queues::mpsc::{rings, shared};
use flintlock_queues::{Index, Layout, PushError, spmc};

use crate::linear::{Event, RING, Recorder, Spec};

/// A thread's part of a history; gives back its end of the queue, for nothing is to be closed while
/// others are at work.
pub(crate) type Part = Box<dyn FnOnce() -> Box<dyn Any + Send> + Send>;

fn item(index: Index) -> u32 {
    u32::try_from(index.value()).expect("small numbers")
}

/// Pushes `count` items of `ring`, and records each.
fn pushes(
    recorder: Recorder,
    ring: usize,
    count: u32,
    mut push: impl FnMut(Index) -> Result<(), PushError<Index>> + Send + 'static,
) -> Part {
    Box::new(move || {
        for number in 0..count {
            let item = ring as u32 * RING + number;
            recorder.record(|| match push(Index::new(item as usize)) {
                Ok(()) => (Event::Pushed { ring, item }, ()),
                Err(refused) => {
                    assert!(refused.is_full(), "nothing is closed");
                    (Event::Refused { ring }, ())
                }
            });
        }
        Box::new(push)
    })
}

/// Pops `count` times, and records each; `pop` adds what it takes to the list.
fn pops(
    recorder: Recorder,
    count: usize,
    mut pop: impl FnMut(&mut Vec<u32>) + Send + 'static,
) -> Part {
    Box::new(move || {
        for _ in 0..count {
            recorder.record(|| {
                let mut items = Vec::new();
                pop(&mut items);
                (if items.is_empty() { Event::Empty } else { Event::Popped(items) }, ())
            });
        }
        Box::new(pop)
    })
}

/// One producer goes twice round a ring of 2 while three consumers help themselves, one by claims
/// of two. Cells may refuse although there is room (the documented bound).
pub(crate) fn spmc_history<L: Layout<Index>>(full_is_exact: bool) -> (Vec<Part>, Recorder, Spec) {
    let recorder = Recorder::default();
    let (mut producer, mut first) = spmc::ring_at::<Index, L>(2, usize::MAX - 2);
    let (mut second, mut third) = (first.clone(), first.clone());
    let mut parts = vec![pushes(recorder.clone(), 0, 6, move |index| producer.push(index))];
    parts.push(pops(recorder.clone(), 3, move |items| items.extend(first.pop().ok().map(item))));
    parts.push(pops(recorder.clone(), 3, move |items| items.extend(second.pop().ok().map(item))));
    parts.push(pops(recorder.clone(), 3, move |items| {
        third.pop_batch(2, |index| items.push(item(index)));
    }));
    let spec = Spec { rings: 1, capacity: 2, full_is_exact, empty_is_exact: true };
    (parts, recorder, spec)
}

/// Three producers with rings of 2 and the consumer; one producer announces what it pushes.
pub(crate) fn rings_history<L: Layout<Index>>() -> (Vec<Part>, Recorder, Spec) {
    let recorder = Recorder::default();
    let mut consumer = rings::ring_at::<Index, L>(2, usize::MAX - 2);
    let mut parts: Vec<Part> = Vec::new();
    for ring in 0..3 {
        let mut producer = consumer.add_producer();
        parts.push(pushes(recorder.clone(), ring, 4, move |index| {
            let pushed = producer.push(index);
            if ring == 1 {
                producer.commit();
            }
            pushed
        }));
    }
    parts.push(pops(recorder.clone(), 8, move |items| {
        // Rings are served in turn, so a batch is not one moment; single pops are.
        items.extend(consumer.pop().ok().map(item));
    }));
    let spec = Spec { rings: 3, capacity: 2, full_is_exact: true, empty_is_exact: true };
    (parts, recorder, spec)
}

/// Three producers of one shared ring with room for all, and the consumer. A reservation that is
/// not filled yet may hide pushes that have ended.
pub(crate) fn shared_history<L: Layout<Index>>() -> (Vec<Part>, Recorder, Spec) {
    let recorder = Recorder::default();
    let (producer, mut consumer) = shared::ring_at::<Index, L>(16, usize::MAX - 2);
    let mut parts: Vec<Part> = Vec::new();
    for number in 0..3 {
        let mut producer = producer.clone();
        let recorder = recorder.clone();
        parts.push(Box::new(move || -> Box<dyn Any + Send> {
            for item in 4 * number..4 * number + 4 {
                recorder.record(|| {
                    producer.push(Index::new(item as usize)).expect("room for all");
                    (Event::Pushed { ring: 0, item }, ())
                });
            }
            Box::new(producer)
        }));
    }
    parts.push(pops(recorder.clone(), 8, move |items| {
        items.extend(consumer.pop().ok().map(item));
    }));
    let spec = Spec { rings: 1, capacity: 16, full_is_exact: true, empty_is_exact: false };
    (parts, recorder, spec)
}
