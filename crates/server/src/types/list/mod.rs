//! Lists: a deque of byte strings as a chain of packed chunks. Pure; any thread.
//!
//! Short lists are one chunk in the handle itself. Longer ones are chunks of at most 8 KiB
//! (`list-max-listpack-size`) linked by number in a `Slab`, so a push or pop touches one chunk
//! at that end, growth allocates a chunk and moves nothing, and an insertion in the middle moves
//! at most one chunk's bytes. An item longer than a chunk has one to itself. An item of 16 bytes
//! costs 18.1: two length bytes, and the chunk's share.

mod chain;
mod chunk;
mod edit;
mod iter;
#[cfg(test)]
mod tests;

pub use edit::Occurrences;
pub use iter::Iter;

pub(super) use chain::Node;

use super::memory::round_up;
use super::parts::{Parts, Pieces};
use super::rules::Rules;
use super::slab::NONE;
use chain::Chain;
use chunk::{Chunk, Limit, item_size};
use std::ops::Range;

/// Number under which a list of one chunk shows it.
const SINGLE: u32 = 0;
/// Chunks of a list that start at full size; shorter lists double theirs.
const CHUNKS_GROWN: usize = 4;

/// An end of a list.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// The head: LPUSH, LPOP.
    Front,
    /// The tail: RPUSH, RPOP.
    Back,
}

/// A list. Belongs to one thread at a time; no operation blocks.
///
/// # Examples
/// ```
/// use flintlock_server::types::{List, HashKey, Rules};
/// use flintlock_server::types::list::End;
/// let rules = Rules::new(HashKey::new([7; 16]));
/// let mut list = List::new();
/// list.push(End::Back, b"b", &rules);
/// list.push(End::Front, b"a", &rules);
/// assert_eq!(list.iter().collect::<Vec<_>>(), [b"a", b"b"]);
/// assert_eq!(list.peek(End::Back), Some(&b"b"[..]));
/// assert_eq!(list.pop(End::Front), Some(b"a".to_vec()));
/// ```
#[derive(Clone, Debug)]
pub struct List {
    form: Form,
}

#[derive(Clone, Debug)]
enum Form {
    Single(Chunk),
    Chain(Box<Chain>),
}

impl Default for List {
    fn default() -> Self {
        Self::new()
    }
}

impl List {
    /// An empty list, which owns no memory.
    #[must_use]
    pub fn new() -> Self {
        Self { form: Form::Single(Chunk::default()) }
    }

    /// Number of items.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.form {
            Form::Single(chunk) => chunk.count(),
            Form::Chain(chain) => chain.count(),
        }
    }

    /// Whether there is no item; Redis deletes such a key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds an item of any length up to 512 MiB, which is copied, at one end.
    #[inline]
    pub fn push(&mut self, end: End, item: &[u8], rules: &Rules) {
        let limit = Limit::new(rules);
        let done = match &mut self.form {
            Form::Single(chunk) => match end {
                End::Front => chunk.push_front(item, limit),
                End::Back => chunk.push_back(item, limit),
            },
            Form::Chain(chain) => chain.push(end, item, limit),
        };
        if !done {
            self.push_chunk_slow(end, item, limit);
        }
    }

    /// The chunk at the end is full, or the item has to be alone.
    #[cold]
    fn push_chunk_slow(&mut self, end: End, item: &[u8], limit: Limit) {
        let size = item_size(item.len());
        let chunk = if size > limit.bytes {
            Chunk::lone(item)
        } else {
            let chunks = match &self.form {
                Form::Single(_) => 1,
                Form::Chain(chain) => chain.chunks(),
            };
            let len = if chunks < CHUNKS_GROWN { limit.bytes / 8 } else { limit.bytes };
            let len = round_up(len.max(size)).min(limit.bytes);
            let mut chunk = Chunk::with_capacity(len, end == End::Front);
            let done = match end {
                End::Front => chunk.push_front(item, limit),
                End::Back => chunk.push_back(item, limit),
            };
            debug_assert!(done, "an empty chunk admits what is no longer than the limit");
            chunk
        };
        if self.is_empty() {
            self.form = Form::Single(chunk);
            return;
        }
        let chain = self.become_chain();
        match end {
            End::Front => chain.insert_before(chain.head(), chunk),
            End::Back => chain.insert_after(chain.tail(), chunk),
        };
    }

    /// The item at one end.
    #[must_use]
    pub fn peek(&self, end: End) -> Option<&[u8]> {
        let chunk = self.chunk(self.end_id(end));
        if chunk.count() == 0 {
            return None;
        }
        Some(match end {
            End::Front => chunk::first(chunk.items()).0,
            End::Back => chunk::last(chunk.items()).0,
        })
    }

    /// Removes the item at one end; false when the list is empty. With [`List::peek`] before it,
    /// a pop without a copy.
    #[inline]
    pub fn discard(&mut self, end: End) -> bool {
        match &mut self.form {
            Form::Single(chunk) if chunk.count() == 0 => return false,
            Form::Single(chunk) => match end {
                End::Front => chunk.drop_front(),
                End::Back => chunk.drop_back(),
            },
            Form::Chain(chain) => {
                chain.discard(end);
                self.settle();
            }
        }
        true
    }

    /// Removes the item at one end and returns it.
    pub fn pop(&mut self, end: End) -> Option<Vec<u8>> {
        let item = self.peek(end)?.to_vec();
        self.discard(end);
        Some(item)
    }

    /// The item at `index`, counted from the front; linear in the number of chunks.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        let (id, within) = self.seek(index)?;
        let chunk = self.chunk(id);
        Some(chunk::first(&chunk.items()[chunk.offset_of(within)..]).0)
    }

    /// All items from front to back; also from back to front.
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        self.range(0..self.len())
    }

    /// The items at `indexes`, as far as there are such; from either end.
    #[must_use]
    pub fn range(&self, indexes: Range<usize>) -> Iter<'_> {
        Iter::new(self, indexes)
    }

    /// What OBJECT ENCODING of redis-server 7.0.15 prints.
    #[must_use]
    pub const fn encoding_name(&self) -> &'static str {
        "quicklist"
    }

    /// Heap bytes owned, allocator overhead included, the handle not; constant time.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        match &self.form {
            Form::Single(chunk) => chunk.heap_bytes(),
            Form::Chain(chain) => chain.heap_bytes(),
        }
    }

    pub(super) fn into_parts(self) -> Parts {
        let bytes = self.memory_bytes();
        match self.form {
            Form::Single(_) => Parts::none(),
            Form::Chain(chain) => Parts::new(vec![Pieces::Chunks(chain.into_nodes())], bytes),
        }
    }

    /// Number of the chunk at one end.
    fn end_id(&self, end: End) -> u32 {
        match (&self.form, end) {
            (Form::Single(_), _) => SINGLE,
            (Form::Chain(chain), End::Front) => chain.head(),
            (Form::Chain(chain), End::Back) => chain.tail(),
        }
    }

    fn chunk(&self, id: u32) -> &Chunk {
        match &self.form {
            Form::Single(chunk) => chunk,
            Form::Chain(chain) => chain.chunk(id),
        }
    }

    /// The chunk after another, [`NONE`] after the last.
    fn next_id(&self, id: u32) -> u32 {
        match &self.form {
            Form::Single(_) => NONE,
            Form::Chain(chain) => chain.next(id),
        }
    }

    /// The chunk before another, [`NONE`] before the first.
    fn previous_id(&self, id: u32) -> u32 {
        match &self.form {
            Form::Single(_) => NONE,
            Form::Chain(chain) => chain.previous(id),
        }
    }

    /// Chunk and index within it of the item at `index`, walking from the nearer end.
    fn seek(&self, index: usize) -> Option<(u32, usize)> {
        let len = self.len();
        if index >= len {
            return None;
        }
        let mut left = index;
        if index <= len / 2 {
            let mut id = self.end_id(End::Front);
            while left >= self.chunk(id).count() {
                left -= self.chunk(id).count();
                id = self.next_id(id);
            }
            return Some((id, left));
        }
        let mut id = self.end_id(End::Back);
        let mut after = len - index;
        while after > self.chunk(id).count() {
            after -= self.chunk(id).count();
            id = self.previous_id(id);
        }
        Some((id, self.chunk(id).count() - after))
    }

    fn become_chain(&mut self) -> &mut Chain {
        if let Form::Single(chunk) = &mut self.form {
            self.form = Form::Chain(Box::new(Chain::new(std::mem::take(chunk))));
        }
        match &mut self.form {
            Form::Chain(chain) => chain,
            Form::Single(_) => unreachable!("a chain since the lines above"),
        }
    }

    /// After removals: a chain of one chunk, or none, goes back into the handle.
    fn settle(&mut self) {
        if let Form::Chain(chain) = &mut self.form
            && chain.chunks() <= 1
        {
            self.form = Form::Single(chain.take_last());
        }
    }
}
