//! What producers leave behind when they go with something pending.
//!
//! Owns a list that any producer appends to and the consumer takes as a whole. It must not be
//! touched on the way of an ordinary item: appending allocates.
#![expect(unsafe_code, reason = "nodes go from producers to the consumer through a raw pointer")]

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use core::marker::PhantomData;
use core::ptr;

use crate::sync::{AtomicPtr, Edge, Ordering};

/// Hand-over of an orphan.
const R3: Edge = Edge::new("R3");

/// Indices reserved and not filled: from the first up to, not including, the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    pub(super) next: usize,
    pub(super) end: usize,
}

impl Ticket {
    /// No index.
    pub(super) const NONE: Self = Self { next: 0, end: 0 };

    pub(super) fn is_used_up(self) -> bool {
        self.next == self.end
    }

    pub(super) fn len(self) -> usize {
        self.end.wrapping_sub(self.next)
    }
}

/// The rest of a producer: its ticket, what was pending, and when it is its turn.
#[derive(Debug)]
pub(super) struct Orphan<T> {
    /// Slots that nobody else will fill; the first items belong there.
    pub(super) ticket: Ticket,
    /// The tail when the producer went, past every index it ever reserved: what has no ticket
    /// comes when the head is there.
    pub(super) after: usize,
    pub(super) items: VecDeque<T>,
}

struct Node<T> {
    orphan: Orphan<T>,
    next: *mut Self,
}

/// A list of orphans, the newest first.
///
/// Invariant. `[orphan-owner]` Every node reachable from `first` is a leaked box that belongs to
/// the list; whoever takes the list by a swap owns its nodes.
pub(super) struct Orphans<T> {
    first: AtomicPtr<Node<T>>,
    _owns: PhantomData<Node<T>>,
}

impl<T> Orphans<T> {
    pub(super) fn new() -> Self {
        Self { first: AtomicPtr::new(ptr::null_mut()), _owns: PhantomData }
    }

    /// Whether nothing is there, at a glance.
    pub(super) fn is_empty(&self) -> bool {
        self.first.load(Ordering::Relaxed).is_null()
    }

    /// Appends; any producer.
    pub(super) fn append(&self, orphan: Orphan<T>) {
        let node = Box::into_raw(Box::new(Node { orphan, next: ptr::null_mut() }));
        let mut next = self.first.load(Ordering::Relaxed);
        loop {
            // SAFETY: [orphan-owner] not in the list yet, so it is this thread's.
            unsafe { (*node).next = next };
            // ORDERING: R3
            let swap = self.first.compare_exchange(next, node, R3.release(), Ordering::Relaxed);
            match swap {
                Ok(_) => return,
                Err(first) => next = first,
            }
        }
    }

    /// Takes all, the newest first.
    pub(super) fn take_all(&self) -> impl Iterator<Item = Orphan<T>> + use<T> {
        // ORDERING: R3
        Taken(self.first.swap(ptr::null_mut(), R3.acquire()))
    }
}

impl<T> Drop for Orphans<T> {
    fn drop(&mut self) {
        self.take_all().for_each(drop);
    }
}

// SAFETY: [orphan-owner] nodes are owned by the list or by whoever took them.
unsafe impl<T: Send> Send for Orphans<T> {}
// SAFETY: [orphan-owner] appending and taking are atomic, and items only move.
unsafe impl<T: Send> Sync for Orphans<T> {}

/// A list that was taken.
struct Taken<T>(*mut Node<T>);

impl<T> Iterator for Taken<T> {
    type Item = Orphan<T>;

    fn next(&mut self) -> Option<Orphan<T>> {
        if self.0.is_null() {
            return None;
        }
        // SAFETY: [orphan-owner] the list was taken by a swap, and each node is turned back once.
        let node = unsafe { Box::from_raw(self.0) };
        self.0 = node.next;
        Some(node.orphan)
    }
}

impl<T> Drop for Taken<T> {
    fn drop(&mut self) {
        self.for_each(drop);
    }
}
