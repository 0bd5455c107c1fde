//! The queues and their rivals behind one pair of traits, and the loads that are put on them.
//!
//! Bench code only. Every load checks that what was pushed arrived, each item once.

use flintlock_queues::Index;

pub mod contenders;
pub mod load;
pub mod machine;
pub mod report;

/// Items a ring holds in every load.
pub const CAPACITY: usize = 4096;

/// What travels: a number, in whatever form the queue takes it.
pub trait Payload: Copy + Send + PartialEq + std::fmt::Debug {
    /// Wraps.
    fn wrap(value: usize) -> Self;
    /// Unwraps.
    fn unwrap(self) -> usize;
}

impl Payload for usize {
    #[inline(always)]
    fn wrap(value: usize) -> Self {
        value
    }
    #[inline(always)]
    fn unwrap(self) -> usize {
        self
    }
}

impl Payload for Index {
    #[inline(always)]
    fn wrap(value: usize) -> Self {
        Self::new(value)
    }
    #[inline(always)]
    fn unwrap(self) -> usize {
        self.value()
    }
}

/// A producing end.
pub trait Tx<P: Payload>: Send {
    /// Pushes one item; false if it was refused.
    fn push(&mut self, item: P) -> bool;

    /// Pushes from the front of `items`; how many were taken. Without a batch operation of its
    /// own a queue is pushed to item by item.
    fn push_batch(&mut self, items: &[P]) -> usize {
        items.iter().take_while(|item| self.push(**item)).count()
    }

    /// Moves on what was accepted and kept back; false while something is left.
    fn finish(&mut self) -> bool {
        true
    }
}

/// A consuming end.
pub trait Rx<P: Payload>: Send {
    /// Pops one item.
    fn pop(&mut self) -> Option<P>;

    /// Fills the front of `items`; how many. Item by item if the queue has no batch operation.
    fn pop_batch(&mut self, items: &mut [P]) -> usize {
        let mut count = 0;
        while count < items.len() {
            let Some(item) = self.pop() else { break };
            items[count] = item;
            count += 1;
        }
        count
    }
}

/// A queue under test.
pub trait Contender {
    /// What travels.
    type Item: Payload;
    /// The producing end.
    type Tx: Tx<Self::Item>;
    /// The consuming end.
    type Rx: Rx<Self::Item>;
    /// What the tables call it.
    const NAME: &'static str;
    /// Whether it counts among those that ours are compared with.
    const IS_RIVAL: bool = true;

    /// A queue of [`CAPACITY`] with so many ends.
    fn build(producers: usize, consumers: usize) -> (Vec<Self::Tx>, Vec<Self::Rx>);
}
