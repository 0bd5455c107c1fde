//! An inner node of the tree. Pure; any thread.

use super::score::Score;
use crate::types::memory::{copy_of, heap_bytes};

/// Most children of a node.
pub(super) const CHILDREN_MAX: usize = 64;
/// Children by which a node grows.
const GROWTH: usize = 16;

/// A child and what its parent knows of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Child {
    /// Score of the first entry below.
    pub(super) score: Score,
    /// First bytes of that entry's member; see [`prefix_of`].
    pub(super) prefix: u64,
    /// Entries below.
    pub(super) count: usize,
    /// Number of the node, or, on the lowest level, of the leaf.
    pub(super) id: u32,
}

/// The first eight bytes, zeros after a shorter member: where two prefixes differ, they order
/// their members; where they do not, the members themselves have to be compared.
#[inline]
pub(super) fn prefix_of(member: &[u8]) -> u64 {
    if let Some(first) = member.first_chunk() {
        return u64::from_be_bytes(*first);
    }
    let mut bytes = [0; 8];
    bytes[..member.len()].copy_from_slice(member);
    u64::from_be_bytes(bytes)
}

/// Children in order.
#[derive(Debug)]
pub(in crate::types) struct Node {
    children: Vec<Child>,
}

impl Clone for Node {
    fn clone(&self) -> Self {
        Self { children: copy_of(&self.children) }
    }
}

impl Node {
    pub(super) fn new(children: &[Child]) -> Self {
        let mut node = Self { children: Vec::with_capacity(GROWTH) };
        node.children.extend_from_slice(children);
        node
    }

    pub(super) fn children(&self) -> &[Child] {
        &self.children
    }

    pub(super) fn child_mut(&mut self, index: usize) -> &mut Child {
        &mut self.children[index]
    }

    /// Entries below.
    pub(super) fn count(&self) -> usize {
        self.children.iter().map(|child| child.count).sum()
    }

    pub(in crate::types) fn heap_bytes(&self) -> usize {
        heap_bytes(self.children.capacity() * size_of::<Child>())
    }

    pub(super) fn insert(&mut self, index: usize, child: Child) {
        if self.children.len() == self.children.capacity() {
            self.children.reserve_exact(GROWTH);
        }
        self.children.insert(index, child);
    }

    pub(super) fn remove(&mut self, index: usize) -> Child {
        self.children.remove(index)
    }

    /// Cuts off the upper half.
    pub(super) fn split_off_half(&mut self) -> Self {
        let upper = self.children.split_off(self.children.len() / 2);
        self.children.shrink_to(self.children.len().next_multiple_of(GROWTH));
        Self { children: upper }
    }

    /// Takes over the children of the node that follows.
    pub(super) fn join(&mut self, next: &Self) {
        self.children.reserve_exact(next.children.len());
        self.children.extend_from_slice(&next.children);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn prefixes_order_members_or_are_equal(
            a in prop::collection::vec(0..3_u8, 0..12),
            b in prop::collection::vec(0..3_u8, 0..12),
        ) {
            let order = prefix_of(&a).cmp(&prefix_of(&b));
            prop_assert!(order.is_eq() || order == a.cmp(&b));
        }
    }
}
