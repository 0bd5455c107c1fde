//! The chunks of a long list, linked by number. Pure; any thread.

use super::End;
use super::chunk::{Chunk, Limit};
use crate::types::memory::heap_bytes;
use crate::types::slab::{NONE, Slab};

#[derive(Clone, Debug)]
pub(in crate::types) struct Node {
    chunk: Chunk,
    previous: u32,
    next: u32,
}

impl Node {
    pub(in crate::types) fn heap_bytes(&self) -> usize {
        self.chunk.heap_bytes()
    }
}

/// See the module documentation. No chunk is empty.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    nodes: Slab<Node>,
    head: u32,
    tail: u32,
    /// Items of all chunks.
    count: usize,
    /// Bytes that the chunks own.
    owned_bytes: usize,
}

impl Chain {
    /// A chain of one chunk.
    pub(super) fn new(chunk: Chunk) -> Self {
        let mut nodes = Slab::new();
        let (count, owned_bytes) = (chunk.count(), chunk.heap_bytes());
        let head = nodes.insert(Node { chunk, previous: NONE, next: NONE });
        Self { nodes, head, tail: head, count, owned_bytes }
    }

    pub(super) const fn count(&self) -> usize {
        self.count
    }

    pub(super) const fn chunks(&self) -> usize {
        self.nodes.count()
    }

    pub(super) const fn head(&self) -> u32 {
        self.head
    }

    pub(super) const fn tail(&self) -> u32 {
        self.tail
    }

    pub(super) fn next(&self, id: u32) -> u32 {
        self.nodes.get(id).next
    }

    pub(super) fn previous(&self, id: u32) -> u32 {
        self.nodes.get(id).previous
    }

    pub(super) fn chunk(&self, id: u32) -> &Chunk {
        &self.nodes.get(id).chunk
    }

    /// Bytes of the box around this and of all it owns.
    pub(super) fn heap_bytes(&self) -> usize {
        heap_bytes(size_of::<Self>()) + self.nodes.heap_bytes() + self.owned_bytes
    }

    /// Changes a chunk and keeps the sums; a chunk left empty is the caller's to remove.
    pub(super) fn edit<R>(&mut self, id: u32, change: impl FnOnce(&mut Chunk) -> R) -> R {
        let chunk = &mut self.nodes.get_mut(id).chunk;
        let (count, len) = (chunk.count(), chunk.buffer_len());
        let result = change(chunk);
        self.count = self.count - count + chunk.count();
        if chunk.buffer_len() != len {
            self.owned_bytes = self.owned_bytes - heap_bytes(len) + chunk.heap_bytes();
        }
        result
    }

    /// Adds an item to the chunk at one end; false when that is full.
    #[inline]
    pub(super) fn push(&mut self, end: End, item: &[u8], limit: Limit) -> bool {
        match end {
            End::Front => self.edit(self.head, |chunk| chunk.push_front(item, limit)),
            End::Back => self.edit(self.tail, |chunk| chunk.push_back(item, limit)),
        }
    }

    /// Removes the item at one end.
    #[inline]
    pub(super) fn discard(&mut self, end: End) {
        let id = match end {
            End::Front => self.head,
            End::Back => self.tail,
        };
        let left = self.edit(id, |chunk| {
            match end {
                End::Front => chunk.drop_front(),
                End::Back => chunk.drop_back(),
            }
            chunk.count()
        });
        if left == 0 {
            self.remove(id);
        }
    }

    pub(super) fn insert_after(&mut self, id: u32, chunk: Chunk) -> u32 {
        let next = self.next(id);
        self.link(id, chunk, next)
    }

    pub(super) fn insert_before(&mut self, id: u32, chunk: Chunk) -> u32 {
        let previous = self.previous(id);
        self.link(previous, chunk, id)
    }

    fn link(&mut self, previous: u32, chunk: Chunk, next: u32) -> u32 {
        self.count += chunk.count();
        self.owned_bytes += chunk.heap_bytes();
        let id = self.nodes.insert(Node { chunk, previous, next });
        self.point(previous, next, id, id);
        id
    }

    /// Unlinks a chunk and returns it.
    pub(super) fn remove(&mut self, id: u32) -> Chunk {
        let Node { chunk, previous, next } = self.nodes.remove(id);
        self.count -= chunk.count();
        self.owned_bytes -= chunk.heap_bytes();
        self.point(previous, next, next, previous);
        chunk
    }

    /// Sets what follows `previous` and what precedes `next`; the ends of the chain stand in for
    /// missing neighbours.
    fn point(&mut self, previous: u32, next: u32, follows: u32, precedes: u32) {
        if previous == NONE {
            self.head = follows;
        } else {
            self.nodes.get_mut(previous).next = follows;
        }
        if next == NONE {
            self.tail = precedes;
        } else {
            self.nodes.get_mut(next).previous = precedes;
        }
    }

    /// The chunk of a chain that has at most one.
    pub(super) fn take_last(&mut self) -> Chunk {
        if self.chunks() == 0 { Chunk::default() } else { self.remove(self.head) }
    }

    /// Joins two neighbours (either may be [`NONE`]) when both together are at most half full, so
    /// that removals and insertions in the middle leave no trail of crumbs. `lower` stays.
    pub(super) fn join_small(&mut self, lower: u32, upper: u32, limit: Limit) {
        if lower == NONE || upper == NONE {
            return;
        }
        let half = Limit { bytes: limit.bytes / 2, items: limit.items };
        if self.chunk(lower).can_join(self.chunk(upper), half) {
            let next = self.remove(upper);
            self.edit(lower, |chunk| chunk.join(&next));
        }
    }

    /// Bytes that the chunks own.
    #[cfg(test)]
    pub(super) const fn owned(&self) -> usize {
        self.owned_bytes
    }

    pub(super) fn into_nodes(self) -> Slab<Node> {
        self.nodes
    }
}
