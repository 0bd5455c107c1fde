//! Lists of operations on a queue and on its twin, a `VecDeque`, on one thread.
//!
//! The bodies are plain functions that panic when queue and twin differ: `model.rs` drives them
//! with proptest, and the fuzz workspace includes this file and drives them with bytes.

mod credits;
mod fifo;
mod many;

use std::cell::Cell;
use std::rc::Rc;

use flintlock_queues::mpsc::{rings, shared};
use flintlock_queues::{
    Compact, Index, Layout, Padded, PopError, PushError, Tagged, Words, spmc, spsc,
};

use credits::{Side, credited_ops};
use fifo::{spmc_ops, spsc_ops};
use many::{rings_ops, shared_ops};

/// One operation; `who` chooses among several handles, counted round.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    Push {
        who: u8,
    },
    PushDeferred {
        who: u8,
    },
    Commit {
        who: u8,
    },
    PushBatch {
        who: u8,
        count: u8,
    },
    Pop {
        who: u8,
    },
    PopBatch {
        who: u8,
        count: u8,
    },
    /// These two are batches where items cannot be copied.
    PushSlice {
        who: u8,
        count: u8,
    },
    PopSlice {
        who: u8,
        count: u8,
    },
    /// Another consumer (spmc) or producer (mpsc); nothing else has a second one.
    Add,
    DropProducer {
        who: u8,
    },
    DropConsumer {
        who: u8,
    },
}

impl Op {
    /// The operation that two bytes stand for; pushing and popping are likelier than leaving.
    pub(crate) fn decode(kind: u8, argument: u8) -> Self {
        let (who, count) = (argument & 3, argument >> 2);
        match kind {
            224..=239 => return Self::PushSlice { who, count },
            240..=255 => return Self::PopSlice { who, count },
            _ => {}
        }
        match kind % 32 {
            0..=7 => Self::Push { who },
            8..=12 => Self::PushDeferred { who },
            13..=15 => Self::Commit { who },
            16..=18 => Self::PushBatch { who, count: count % 12 },
            19..=24 => Self::Pop { who },
            25..=27 => Self::PopBatch { who, count: count % 40 },
            28..=29 => Self::Add,
            30 => Self::DropProducer { who },
            _ => Self::DropConsumer { who },
        }
    }

    /// A capacity, a first index and the operations that `bytes` stand for.
    pub(crate) fn decode_all(bytes: &[u8]) -> (usize, usize, Vec<Self>) {
        let (head, rest) = bytes.split_at(bytes.len().min(2));
        let capacity = 2 + usize::from(head.first().copied().unwrap_or(0) % 15);
        // Around 0 and around the wrap.
        let first = usize::from(head.get(1).copied().unwrap_or(0)).wrapping_sub(128);
        let ops = rest.chunks_exact(2).map(|pair| Self::decode(pair[0], pair[1]));
        (capacity, first, ops.collect())
    }
}

/// What travels: a number that can be told from others, counted while it lives.
pub(crate) trait Item: Sized {
    fn make(number: usize, live: &Rc<Cell<usize>>) -> Self;
    fn number(&self) -> usize;
    /// Whether items of this type are counted.
    const COUNTED: bool;
}

#[repr(align(32))]
#[derive(Debug)]
pub(crate) struct Tracked {
    number: usize,
    live: Rc<Cell<usize>>,
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.live.set(self.live.get().checked_sub(1).expect("no more drops than items"));
    }
}

impl Item for Box<Tracked> {
    const COUNTED: bool = true;

    fn make(number: usize, live: &Rc<Cell<usize>>) -> Self {
        live.set(live.get() + 1);
        Self::new(Tracked { number, live: Rc::clone(live) })
    }

    fn number(&self) -> usize {
        self.number
    }
}

impl Item for Tagged<Box<Tracked>> {
    const COUNTED: bool = true;

    fn make(number: usize, live: &Rc<Cell<usize>>) -> Self {
        Self::new((number % 16) as u8, Item::make(number, live))
    }

    fn number(&self) -> usize {
        usize::from(self.kind())
    }
}

/// What a slot of words cannot hold: plain data wider than a line, with an alignment of its own.
#[derive(Clone, Copy)]
#[repr(align(128))]
pub(crate) struct Wide([usize; 20]);

impl Item for Wide {
    const COUNTED: bool = false;

    fn make(number: usize, _live: &Rc<Cell<usize>>) -> Self {
        Self([number; 20])
    }

    fn number(&self) -> usize {
        assert!(self.0.iter().all(|part| *part == self.0[0]), "all of one item");
        assert!(std::ptr::from_ref(self).addr().is_multiple_of(128));
        self.0[0]
    }
}

impl Item for Index {
    const COUNTED: bool = false;

    fn make(number: usize, _live: &Rc<Cell<usize>>) -> Self {
        Self::new(number)
    }

    fn number(&self) -> usize {
        self.value()
    }
}

/// How slices go into and out of a queue of `T`.
struct Slices<P, C, T> {
    push: fn(&mut P, &[T]) -> usize,
    pop: fn(&mut C, &mut [T]) -> usize,
}

/// Nothing where items cannot be copied.
type MaySlice<P, C, T> = Option<Slices<P, C, T>>;

impl<P, C, T: Item> Slices<P, C, T> {
    /// Pushes `items`; how many were taken.
    fn push(&self, producer: &mut P, items: impl Iterator<Item = T>) -> usize {
        (self.push)(producer, &items.collect::<Vec<T>>())
    }

    /// Pops up to `max` items, and writes nothing but these.
    fn pop(&self, consumer: &mut C, max: usize) -> Vec<T> {
        const OTHER: usize = 1 << 20;
        let mut items: Vec<T> = (0..max).map(|_| T::make(OTHER, &Rc::default())).collect();
        let count = (self.pop)(consumer, &mut items);
        let rest = items.split_off(count);
        assert!(rest.iter().all(|item| item.number() == OTHER), "nothing else is touched");
        items
    }
}

/// The slices of a queue, if its items can be copied.
macro_rules! slices {
    ($module:ident) => {
        Some(Slices { push: $module::Producer::push_slice, pop: $module::Consumer::pop_slice })
    };
}

/// The producing ends' common vocabulary.
trait Tx<T> {
    fn push(&mut self, item: T) -> Result<(), PushError<T>>;
    fn push_deferred(&mut self, item: T) -> Result<(), PushError<T>>;
    fn commit(&mut self);
    fn push_batch(&mut self, items: &mut dyn Iterator<Item = T>) -> usize;
    fn len(&self) -> usize;
    fn is_closed(&self) -> bool;
}

/// The consuming ends' common vocabulary.
trait Rx<T> {
    fn pop(&mut self) -> Result<T, PopError>;
    fn pop_batch(&mut self, max: usize, each: &mut dyn FnMut(T)) -> usize;
    fn len(&self) -> usize;
    fn is_empty(&self) -> bool;
    fn is_closed(&self) -> bool;
}

macro_rules! vocabulary {
    ($($module:ident),+) => {$(
        impl<T, L: Layout<T>> Tx<T> for $module::Producer<T, L> {
            fn push(&mut self, item: T) -> Result<(), PushError<T>> {
                self.push(item)
            }
            fn push_deferred(&mut self, item: T) -> Result<(), PushError<T>> {
                self.push_deferred(item)
            }
            fn commit(&mut self) {
                self.commit();
            }
            fn push_batch(&mut self, mut items: &mut dyn Iterator<Item = T>) -> usize {
                self.push_batch(&mut items)
            }
            fn len(&self) -> usize {
                self.len()
            }
            fn is_closed(&self) -> bool {
                self.is_closed()
            }
        }
        impl<T, L: Layout<T>> Rx<T> for $module::Consumer<T, L> {
            fn pop(&mut self) -> Result<T, PopError> {
                self.pop()
            }
            fn pop_batch(&mut self, max: usize, each: &mut dyn FnMut(T)) -> usize {
                self.pop_batch(max, each)
            }
            fn len(&self) -> usize {
                self.len()
            }
            fn is_empty(&self) -> bool {
                self.is_empty()
            }
            fn is_closed(&self) -> bool {
                self.is_closed()
            }
        }
    )+};
}

vocabulary!(spsc, spmc, rings, shared);

/// The handle that `who` means.
fn choose<T>(handles: &mut [T], who: u8) -> Option<&mut T> {
    let count = handles.len();
    (count > 0).then(|| &mut handles[usize::from(who) % count])
}

/// The rings of a layout with items that are counted: slices are batches.
fn counted<L: Layout<Box<Tracked>>>(capacity: usize, first: usize, ops: &[Op]) {
    type Boxed = Box<Tracked>;
    spsc_ops::<Boxed, L>(capacity, first, ops, None);
    spmc_ops::<Boxed, L>(capacity, first, ops, None);
    rings_ops::<Boxed, L>(capacity, first, ops, None);
    shared_ops::<Boxed, L>(capacity, first, ops, None);
    credited_ops::<Boxed, L>(capacity, first, ops, None);
}

/// The rings of a layout with items that can be copied.
fn copied<T: Item + Copy, L: Layout<T>>(capacity: usize, first: usize, ops: &[Op]) {
    spsc_ops::<T, L>(capacity, first, ops, slices!(spsc));
    spmc_ops::<T, L>(capacity, first, ops, slices!(spmc));
    rings_ops::<T, L>(capacity, first, ops, slices!(rings));
    shared_ops::<T, L>(capacity, first, ops, slices!(shared));
    let credited = Slices {
        push: |side: &mut Side<T, L>, items| side.handle.push_slice(&mut side.purse, items),
        pop: shared::CreditConsumer::pop_slice,
    };
    credited_ops::<T, L>(capacity, first, ops, Some(credited));
}

/// All queues in all layouts on the same operations.
pub(crate) fn all_ops(capacity: usize, first: usize, ops: &[Op]) {
    type Kinds = Tagged<Box<Tracked>>;
    counted::<Words>(capacity, first, ops);
    counted::<Compact>(capacity, first, ops);
    counted::<Padded>(capacity, first, ops);
    copied::<Index, Words>(capacity, first, ops);
    copied::<Index, Compact>(capacity, first, ops);
    copied::<Wide, Compact>(capacity, first, ops);
    copied::<Wide, Padded>(capacity, first, ops);
    spsc_ops::<Kinds, Words>(capacity, first, ops, None);
    spmc_ops::<Kinds, Words>(capacity, first, ops, None);
    credited_ops::<Kinds, Words>(capacity, first, ops, None);
}
