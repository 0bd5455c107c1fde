//! One chunk of a list: items packed in a buffer with room on both sides.
//! Pure; any thread.
//!
//! An item is its length code, its bytes, and the code again written backwards, so a chunk is read
//! from either end. The items lie somewhere inside the buffer: a chunk that is filled by pushes at
//! the front fills from the end of the buffer towards its start, and a queue that is pushed at one
//! end and popped at the other slides through it; bytes move only when the room at one side is
//! used up and at least a quarter of the buffer is free.

use super::End;
use crate::types::length;
use crate::types::memory::{heap_bytes, round_up};
use crate::types::rules::Rules;

/// Longest buffer of several items: offsets have 16 bits.
const BUFFER_MAX: usize = u16::MAX as usize - 7;
/// Most items of a chunk.
const ITEMS_MAX: usize = u16::MAX as usize;

/// When a chunk is full.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    pub(super) bytes: usize,
    pub(super) items: usize,
}

impl Limit {
    /// The meaning of `list-max-listpack-size`: -1 to -5 for 4 to 64 KiB, positive for that many
    /// items in at most 8 KiB. Anything else is read as its nearest neighbour.
    pub(super) fn new(rules: &Rules) -> Self {
        let size = rules.list_max_listpack_size;
        let (bytes, items) = match size {
            ..=-5 => (64 << 10, ITEMS_MAX),
            -4..=-1 => (4096 << (-1 - size), ITEMS_MAX),
            _ => (8 << 10, size.max(1) as usize),
        };
        // The allocator's header is part of the size, so that the block is a round one.
        Self { bytes: (bytes - 8).min(BUFFER_MAX), items: items.min(ITEMS_MAX) }
    }
}

/// See the module documentation. An empty one owns no memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Chunk {
    buffer: Box<[u8]>,
    /// The items are at `start..end` of the buffer. A lone chunk ignores `end`.
    start: u16,
    end: u16,
    count: u16,
    /// One item too long for a shared chunk, filling the buffer.
    lone: bool,
}

/// Bytes that an item of this length takes.
pub(super) const fn item_size(len: usize) -> usize {
    len + 2 * length::size(len)
}

/// The item at the start of `items` and the bytes it takes.
#[inline]
pub(super) fn first(items: &[u8]) -> (&[u8], usize) {
    let (len, code) = length::read(items);
    (&items[code..code + len], len + 2 * code)
}

/// The item at the end of `items` and the bytes it takes.
#[inline]
pub(super) fn last(items: &[u8]) -> (&[u8], usize) {
    let (len, code) = length::read_reversed(items);
    let end = items.len() - code;
    (&items[end - len..end], len + 2 * code)
}

/// Writes an item over `place`, which has exactly its size.
#[inline]
fn write(place: &mut [u8], item: &[u8]) {
    let code = length::write(place, item.len());
    place[code..code + item.len()].copy_from_slice(item);
    length::write_reversed(place, item.len());
}

impl Chunk {
    /// A chunk of one item that exceeds the limit by itself.
    pub(super) fn lone(item: &[u8]) -> Self {
        let mut buffer = vec![0; item_size(item.len())].into_boxed_slice();
        write(&mut buffer, item);
        Self { buffer, start: 0, end: 0, count: 1, lone: true }
    }

    /// A chunk of one item that does not exceed the limit.
    pub(super) fn of(item: &[u8]) -> Self {
        let size = item_size(item.len());
        let mut chunk = Self::with_capacity(round_up(size), false);
        write(&mut chunk.buffer[..size], item);
        (chunk.end, chunk.count) = (size as u16, 1);
        chunk
    }

    /// An empty chunk with room for `len_bytes`; `from_end` when it will be filled from the end.
    pub(super) fn with_capacity(len_bytes: usize, from_end: bool) -> Self {
        let buffer = vec![0; len_bytes].into_boxed_slice();
        let start = if from_end { len_bytes as u16 } else { 0 };
        Self { buffer, start, end: start, count: 0, lone: false }
    }

    pub(super) const fn count(&self) -> usize {
        self.count as usize
    }

    /// Bytes of the buffer, used or not.
    #[inline]
    pub(super) const fn buffer_len(&self) -> usize {
        self.buffer.len()
    }

    pub(super) fn heap_bytes(&self) -> usize {
        heap_bytes(self.buffer.len())
    }

    /// The items, back to back.
    #[inline]
    pub(super) fn items(&self) -> &[u8] {
        if self.lone {
            &self.buffer
        } else {
            &self.buffer[usize::from(self.start)..usize::from(self.end)]
        }
    }

    /// Whether an item of this size may join.
    fn admits(&self, size: usize, limit: Limit) -> bool {
        !self.lone && self.count() < limit.items && self.items().len() + size <= limit.bytes
    }

    /// Adds an item at the end; false when it does not fit.
    #[inline]
    pub(super) fn push_back(&mut self, item: &[u8], limit: Limit) -> bool {
        let size = item_size(item.len());
        if !self.admits(size, limit) {
            return false;
        }
        let end = usize::from(self.end);
        if end + size > self.buffer.len() && !self.make_room(size, limit, false) {
            return false;
        }
        let end = usize::from(self.end);
        write(&mut self.buffer[end..end + size], item);
        self.end = (end + size) as u16;
        self.count += 1;
        true
    }

    /// Adds an item at the start; false when it does not fit.
    #[inline]
    pub(super) fn push_front(&mut self, item: &[u8], limit: Limit) -> bool {
        let size = item_size(item.len());
        if !self.admits(size, limit) {
            return false;
        }
        if usize::from(self.start) < size && !self.make_room(size, limit, true) {
            return false;
        }
        let start = usize::from(self.start);
        write(&mut self.buffer[start - size..start], item);
        self.start = (start - size) as u16;
        self.count += 1;
        true
    }

    /// Slides the items inside the buffer or moves them to a larger one, so that `size` more bytes
    /// fit at the front or the end; false when the room is not worth it and a new chunk is due.
    fn make_room(&mut self, size: usize, limit: Limit, front: bool) -> bool {
        let used = self.items().len();
        let capacity = self.buffer.len();
        let free = capacity - used;
        if free / 2 >= size && free >= capacity / 4 {
            // Half of the room on each side: pushes at alternating ends do not slide each time.
            let start = if front { free - free / 2 } else { free / 2 };
            self.slide(start);
            return true;
        }
        let wanted = round_up((capacity * 2).max(used + size)).min(limit.bytes);
        if wanted < used + size || wanted <= capacity {
            return false;
        }
        let mut fresh = vec![0; wanted].into_boxed_slice();
        let start = if front { wanted - used } else { 0 };
        fresh[start..start + used].copy_from_slice(self.items());
        self.buffer = fresh;
        self.start = start as u16;
        self.end = (start + used) as u16;
        true
    }

    fn slide(&mut self, start: usize) {
        let used = usize::from(self.start)..usize::from(self.end);
        self.end = (start + used.len()) as u16;
        self.buffer.copy_within(used, start);
        self.start = start as u16;
    }

    /// Removes the first item.
    #[inline]
    pub(super) fn drop_front(&mut self) {
        let size = first(self.items()).1;
        self.count -= 1;
        if self.count == 0 {
            *self = Self::default();
        } else {
            self.start += size as u16;
            self.fit();
        }
    }

    /// Removes the last item.
    #[inline]
    pub(super) fn drop_back(&mut self) {
        let size = last(self.items()).1;
        self.count -= 1;
        if self.count == 0 {
            *self = Self::default();
        } else {
            self.end -= size as u16;
            self.fit();
        }
    }

    /// Offset among the items of the one at `index`, from the nearer end.
    pub(super) fn offset_of(&self, index: usize) -> usize {
        let items = self.items();
        if index <= self.count() / 2 {
            (0..index).fold(0, |at, _| at + first(&items[at..]).1)
        } else {
            (index..self.count()).fold(items.len(), |at, _| at - last(&items[..at]).1)
        }
    }

    /// Replaces `removed` bytes (`items_removed` items) at offset `at` by an item, if given one;
    /// false and unchanged when the result does not fit.
    pub(super) fn splice(
        &mut self,
        at: usize,
        removed: (usize, usize),
        item: Option<&[u8]>,
        limit: Limit,
    ) -> bool {
        let (removed_bytes, removed_items) = removed;
        let size = item.map_or(0, |item| item_size(item.len()));
        let used = self.items().len() - removed_bytes + size;
        let count = self.count() - removed_items + usize::from(item.is_some());
        if item.is_some() && (self.lone || used > limit.bytes || count > limit.items) {
            return false;
        }
        if count == 0 {
            *self = Self::default();
            return true;
        }
        let old = self.items().len();
        if used > old && used - old > self.buffer.len() - usize::from(self.end) {
            let grown = used - old;
            if self.buffer.len() >= used {
                self.slide((self.buffer.len() - used) / 2);
            } else if !self.make_room(grown, limit, false) {
                return false;
            }
        }
        let at = usize::from(self.start) + at;
        let tail = at + removed_bytes..usize::from(self.end);
        self.end = (at + size + tail.len()) as u16;
        self.buffer.copy_within(tail, at + size);
        if let Some(item) = item {
            write(&mut self.buffer[at..at + size], item);
        }
        self.count = count as u16;
        self.fit();
        true
    }

    /// Cuts off the items from offset `at` on, `kept` being the number of those before.
    pub(super) fn split_off(&mut self, at: usize, kept: usize) -> Self {
        debug_assert!(!self.lone && kept > 0 && kept < self.count());
        let tail = &self.items()[at..];
        let upper = Self {
            buffer: padded(tail),
            start: 0,
            end: tail.len() as u16,
            count: self.count - kept as u16,
            lone: false,
        };
        self.end = self.start + at as u16;
        self.count = kept as u16;
        self.fit();
        upper
    }

    /// Whether the items of this one and of the next fit in one chunk.
    pub(super) fn can_join(&self, next: &Self, limit: Limit) -> bool {
        !self.lone
            && !next.lone
            && self.items().len() + next.items().len() <= limit.bytes
            && self.count() + next.count() <= limit.items
    }

    /// Takes over the items of the chunk that follows, which must fit.
    pub(super) fn join(&mut self, next: &Self) {
        let used = self.items().len() + next.items().len();
        let mut buffer = vec![0; round_up(used)].into_boxed_slice();
        let (front, back) = buffer[..used].split_at_mut(self.items().len());
        front.copy_from_slice(self.items());
        back.copy_from_slice(next.items());
        let count = self.count + next.count;
        *self = Self { buffer, start: 0, end: used as u16, count, lone: false };
    }

    /// Removes `taken` items equal to `item`, those nearest to `end`; there are as many.
    pub(super) fn drop_occurrences(&mut self, item: &[u8], end: End, taken: usize) {
        if taken == self.count() {
            *self = Self::default();
            return;
        }
        let len = self.items().len();
        let base = usize::from(self.start);
        let (mut from, mut to, mut left) = (len, len, taken);
        if end == End::Back {
            // Backwards: items that stay move up against the end.
            while left > 0 {
                let (other, size) = last(&self.items()[..from]);
                if other == item {
                    left -= 1;
                } else {
                    to -= size;
                    self.buffer.copy_within(base + from - size..base + from, base + to);
                }
                from -= size;
            }
            self.buffer.copy_within(base..base + from, base + to - from);
            self.start += (to - from) as u16;
        } else {
            (from, to) = (0, 0);
            while left > 0 {
                let (other, size) = first(&self.items()[from..]);
                if other == item {
                    left -= 1;
                } else {
                    self.buffer.copy_within(base + from..base + from + size, base + to);
                    to += size;
                }
                from += size;
            }
            self.buffer.copy_within(base + from..base + len, base + to);
            self.end -= (from - to) as u16;
        }
        self.count -= taken as u16;
        self.fit();
    }

    /// Gives the room back when less than an eighth of the buffer is used.
    #[inline]
    fn fit(&mut self) {
        let used = self.items().len();
        if used * 8 < self.buffer.len() {
            let buffer = padded(self.items());
            *self = Self { buffer, start: 0, end: used as u16, count: self.count, lone: false };
        }
    }
}

/// A copy of `items` in a buffer that fills its block.
fn padded(items: &[u8]) -> Box<[u8]> {
    let mut buffer = vec![0; round_up(items.len())];
    buffer[..items.len()].copy_from_slice(items);
    buffer.into_boxed_slice()
}
