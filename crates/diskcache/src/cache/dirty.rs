//! The queue of dirty keys, oldest first. Pure; main thread.
//!
//! A node names a key by space and hash and carries no key bytes: the home finds the entry. It is
//! chunked, so a million dirty keys cost 24 bytes each and growth never copies the whole. The
//! first sequence numbers rise from front to back (failed batches go back to the front with their
//! old ones), so the front alone says how far the journal can be trimmed.
//!
//! Source: Redis's diskstore cache (dscache.c, 2010 to 2011), whose queue rotated busy keys.

use std::collections::VecDeque;

use super::home::Home;
use crate::key::{Seq, Space};

/// Nodes in one chunk: 4 KiB, little beside any sensible memory limit.
const CHUNK: usize = 170;

/// Keys asked for together before they are visited: most were written a while ago, and are in no
/// near cache any more.
pub(super) const AHEAD: usize = 16;

/// One dirty key.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) struct Node {
    /// The hash of the key.
    pub(super) hash: u64,
    /// The first operation that the engine lacks.
    pub(super) first_seq: Seq,
    /// The space of the key.
    pub(super) space: Space,
    /// When it became dirty, in milliseconds since the cache was made, wrapping.
    pub(super) since_ms: u32,
}

/// Asks for up to `AHEAD` keys.
pub(super) fn prefetch<'a>(home: &impl Home, nodes: impl IntoIterator<Item = &'a Node>) {
    let mut keys = [(Space(0), 0); AHEAD];
    let mut count = 0;
    for (key, node) in keys.iter_mut().zip(nodes) {
        *key = (node.space, node.hash);
        count += 1;
    }
    home.prefetch(&keys[..count]);
}

/// FIFO of [`Node`]s.
#[derive(Debug, Default)]
pub(super) struct DirtyQueue {
    /// Only the last may be empty: it is kept, so that a queue around empty does not allocate.
    chunks: VecDeque<VecDeque<Node>>,
    len: usize,
    /// Nodes that the chunks have room for.
    capacity: usize,
}

impl DirtyQueue {
    /// Nodes, those of dead spaces included.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The oldest node.
    pub(super) fn front(&self) -> Option<&Node> {
        self.chunks.front().and_then(VecDeque::front)
    }

    /// The nodes from the oldest on.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Node> {
        self.chunks.iter().flatten()
    }

    /// Adds the youngest node.
    #[inline]
    pub(super) fn push(&mut self, node: Node) {
        debug_assert!(
            self.chunks
                .back()
                .and_then(VecDeque::back)
                .is_none_or(|b| b.first_seq <= node.first_seq),
            "sequence numbers rise"
        );
        match self.chunks.back_mut() {
            Some(chunk) if chunk.len() < chunk.capacity() => chunk.push_back(node),
            _ => self.push_slow(node),
        }
        self.len += 1;
    }

    #[cold]
    fn push_slow(&mut self, node: Node) {
        let mut chunk = VecDeque::with_capacity(CHUNK);
        chunk.push_back(node);
        self.capacity += chunk.capacity();
        self.chunks.push_back(chunk);
    }

    /// Takes the oldest node.
    pub(super) fn pop(&mut self) -> Option<Node> {
        let chunks = self.chunks.len();
        let chunk = self.chunks.front_mut()?;
        let node = chunk.pop_front();
        if chunk.is_empty() && chunks > 1 {
            self.capacity -= chunk.capacity();
            self.chunks.pop_front();
        }
        self.len -= usize::from(node.is_some());
        node
    }

    /// Puts nodes back in front, in their old order.
    pub(super) fn put_back(&mut self, nodes: Vec<Node>) {
        let ends = nodes.last().zip(self.front());
        debug_assert!(
            ends.is_none_or(|(back, front)| back.first_seq <= front.first_seq),
            "sequence numbers rise"
        );
        self.len += nodes.len();
        if !nodes.is_empty() {
            let chunk = VecDeque::from(nodes);
            self.capacity += chunk.capacity();
            self.chunks.push_front(chunk);
        }
    }

    /// Bytes held.
    pub(super) fn memory_bytes(&self) -> u64 {
        let nodes = self.capacity * size_of::<Node>();
        (nodes + self.chunks.capacity() * size_of::<VecDeque<Node>>()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(seq: u64) -> Node {
        Node { space: Space(1), hash: !seq, first_seq: Seq(seq), since_ms: 0 }
    }

    #[test]
    fn a_node_is_24_bytes_and_order_survives_chunks_and_returns() {
        assert_eq!(size_of::<Node>(), 24);
        let mut queue = DirtyQueue::default();
        for seq in 0..3000 {
            queue.push(node(seq));
        }
        assert_eq!(queue.len(), 3000);
        assert!(queue.memory_bytes() >= 3000 * 24);
        let taken: Vec<Node> = (0..1500).map(|_| queue.pop().unwrap()).collect();
        queue.push(node(3000));
        queue.put_back(taken);
        queue.put_back(Vec::new());
        assert_eq!(queue.len(), 3001);
        assert_eq!(queue.front(), Some(&node(0)));
        for seq in 0..=3000 {
            assert_eq!(queue.pop(), Some(node(seq)));
        }
        assert_eq!((queue.pop(), queue.len()), (None, 0));
        assert!(queue.memory_bytes() <= (CHUNK * 24 + 4096) as u64, "chunks are given back");
    }
}
