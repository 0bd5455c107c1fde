//! Our queues in each of their layouts, and the least that a hand-over between threads can cost.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_utils::CachePadded;
use flintlock_queues::{
    Compact, Index, Layout, Padded, Words, mpsc::rings, mpsc::shared, spmc, spsc,
};

use crate::queues::{CAPACITY, Contender, Payload, Rx, Tx};

/// A layout together with the payload it is measured with and the names in the tables.
pub(super) trait Ours: 'static {
    /// What travels.
    type Payload: Payload + 'static;
    /// How.
    type Layout: Layout<Self::Payload>;
    /// Names of the rings: spsc, spmc, rings, shared.
    const NAMES: [&'static str; 4];
}

/// The word layout.
#[derive(Debug)]
pub(super) enum OurWords {}
/// Sequenced cells side by side.
#[derive(Debug)]
pub(super) enum OurCompact {}
/// Sequenced cells on lines of their own.
#[derive(Debug)]
pub(super) enum OurPadded {}

impl Ours for OurWords {
    type Payload = Index;
    type Layout = Words;
    const NAMES: [&'static str; 4] =
        ["spsc Words", "spmc Words", "mpsc::rings Words", "mpsc::shared Words"];
}

impl Ours for OurCompact {
    type Payload = usize;
    type Layout = Compact;
    const NAMES: [&'static str; 4] =
        ["spsc Compact", "spmc Compact", "mpsc::rings Compact", "mpsc::shared Compact"];
}

impl Ours for OurPadded {
    type Payload = usize;
    type Layout = Padded;
    const NAMES: [&'static str; 4] =
        ["spsc Padded", "spmc Padded", "mpsc::rings Padded", "mpsc::shared Padded"];
}

macro_rules! our_ends {
    ($($tx:path, $rx:path);+ $(;)?) => {$(
        impl<P: Payload, L: Layout<P>> Tx<P> for $tx {
            #[inline(always)]
            fn push(&mut self, item: P) -> bool {
                self.push(item).is_ok()
            }
            #[inline(always)]
            fn push_batch(&mut self, items: &[P]) -> usize {
                self.push_slice(items)
            }
        }
        impl<P: Payload, L: Layout<P>> Rx<P> for $rx {
            #[inline(always)]
            fn pop(&mut self) -> Option<P> {
                self.pop().ok()
            }
            #[inline(always)]
            fn pop_batch(&mut self, items: &mut [P]) -> usize {
                self.pop_slice(items)
            }
        }
    )+};
}

our_ends! {
    spsc::Producer<P, L>, spsc::Consumer<P, L>;
    spmc::Producer<P, L>, spmc::Consumer<P, L>;
    rings::Producer<P, L>, rings::Consumer<P, L>;
}

/// Our single-producer single-consumer ring.
#[derive(Debug)]
pub(super) struct Spsc<O>(O);

impl<O: Ours> Contender for Spsc<O> {
    type Item = O::Payload;
    type Tx = spsc::Producer<O::Payload, O::Layout>;
    type Rx = spsc::Consumer<O::Payload, O::Layout>;
    const NAME: &'static str = O::NAMES[0];
    const IS_RIVAL: bool = false;

    fn build(_: usize, _: usize) -> (Vec<Self::Tx>, Vec<Self::Rx>) {
        let (producer, consumer) = spsc::ring_in(CAPACITY);
        (vec![producer], vec![consumer])
    }
}

/// The same, with a commit after each batch: what the fence for a parker costs.
#[derive(Debug)]
pub(super) struct Committed<O>(O);

/// The producing end.
pub(super) struct CommittedTx<O: Ours>(spsc::Producer<O::Payload, O::Layout>);

impl<O: Ours> std::fmt::Debug for CommittedTx<O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl<O: Ours> Contender for Committed<O> {
    type Item = O::Payload;
    type Tx = CommittedTx<O>;
    type Rx = spsc::Consumer<O::Payload, O::Layout>;
    const NAME: &'static str = "spsc Words, commit each time";
    const IS_RIVAL: bool = false;

    fn build(_: usize, _: usize) -> (Vec<Self::Tx>, Vec<Self::Rx>) {
        let (producer, consumer) = spsc::ring_in(CAPACITY);
        (vec![CommittedTx(producer)], vec![consumer])
    }
}

impl<O: Ours> Tx<O::Payload> for CommittedTx<O> {
    #[inline(always)]
    fn push(&mut self, item: O::Payload) -> bool {
        let pushed = self.0.push(item).is_ok();
        self.0.commit();
        pushed
    }
    #[inline(always)]
    fn push_batch(&mut self, items: &[O::Payload]) -> usize {
        let pushed = self.0.push_slice(items);
        self.0.commit();
        pushed
    }
}

/// Our single-producer ring with several consumers.
#[derive(Debug)]
pub(super) struct Spmc<O>(O);

impl<O: Ours> Contender for Spmc<O> {
    type Item = O::Payload;
    type Tx = spmc::Producer<O::Payload, O::Layout>;
    type Rx = spmc::Consumer<O::Payload, O::Layout>;
    const NAME: &'static str = O::NAMES[1];
    const IS_RIVAL: bool = false;

    fn build(_: usize, consumers: usize) -> (Vec<Self::Tx>, Vec<Self::Rx>) {
        let (producer, consumer) = spmc::ring_in(CAPACITY);
        (vec![producer], vec![consumer; consumers])
    }
}

/// Our ring for each producer; they share the capacity.
#[derive(Debug)]
pub(super) struct Rings<O>(O);

impl<O: Ours> Contender for Rings<O> {
    type Item = O::Payload;
    type Tx = rings::Producer<O::Payload, O::Layout>;
    type Rx = rings::Consumer<O::Payload, O::Layout>;
    const NAME: &'static str = O::NAMES[2];
    const IS_RIVAL: bool = false;

    fn build(producers: usize, _: usize) -> (Vec<Self::Tx>, Vec<Self::Rx>) {
        let mut consumer = rings::ring_in(CAPACITY / producers);
        ((0..producers).map(|_| consumer.add_producer()).collect(), vec![consumer])
    }
}

/// Our one ring for all producers.
#[derive(Debug)]
pub(super) struct Shared<O>(O);

impl<O: Ours> Contender for Shared<O> {
    type Item = O::Payload;
    type Tx = shared::Producer<O::Payload, O::Layout>;
    type Rx = shared::Consumer<O::Payload, O::Layout>;
    const NAME: &'static str = O::NAMES[3];
    const IS_RIVAL: bool = false;

    fn build(producers: usize, _: usize) -> (Vec<Self::Tx>, Vec<Self::Rx>) {
        let (producer, consumer) = shared::ring_in(CAPACITY);
        (vec![producer; producers], vec![consumer])
    }
}

impl<P: Payload, L: Layout<P>> Tx<P> for shared::Producer<P, L> {
    #[inline(always)]
    fn push(&mut self, item: P) -> bool {
        self.push(item).is_ok()
    }
    #[inline(always)]
    fn push_batch(&mut self, items: &[P]) -> usize {
        self.push_slice(items)
    }
    fn finish(&mut self) -> bool {
        self.commit();
        self.pending() == 0
    }
}

impl<P: Payload, L: Layout<P>> Rx<P> for shared::Consumer<P, L> {
    #[inline(always)]
    fn pop(&mut self) -> Option<P> {
        self.pop().ok()
    }
    #[inline(always)]
    fn pop_batch(&mut self, items: &mut [P]) -> usize {
        self.pop_slice(items)
    }
}

/// No queue: one word that goes round, the least that a hand-over can cost.
#[derive(Debug)]
pub(super) enum BareWord {}

/// The word and the last value seen in it.
#[derive(Debug)]
pub(super) struct WordEnd {
    word: Arc<CachePadded<AtomicUsize>>,
    seen: usize,
}

impl Contender for BareWord {
    type Item = usize;
    type Tx = WordEnd;
    type Rx = WordEnd;
    const NAME: &'static str = "(a bare word each way)";
    const IS_RIVAL: bool = false;

    fn build(_: usize, _: usize) -> (Vec<WordEnd>, Vec<WordEnd>) {
        let word = Arc::default();
        let end = || vec![WordEnd { word: Arc::clone(&word), seen: 0 }];
        (end(), end())
    }
}

impl Tx<usize> for WordEnd {
    #[inline(always)]
    fn push(&mut self, item: usize) -> bool {
        self.word.store(item + 1, Ordering::Release);
        true
    }
}

impl Rx<usize> for WordEnd {
    #[inline(always)]
    fn pop(&mut self) -> Option<usize> {
        let word = self.word.load(Ordering::Acquire);
        let is_new = word != self.seen;
        self.seen = word;
        is_new.then(|| word - 1)
    }
}
