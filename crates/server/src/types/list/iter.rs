//! Iteration over a list from either end. Pure; any thread.

use super::chunk;
use super::{End, List};
use std::ops::Range;

/// Iterator over a list; see [`List::range`].
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    list: &'a List,
    /// Items not yet shown, from either side.
    left: usize,
    /// Chunk of the next item from the front and its bytes from that item on.
    front_id: u32,
    front: &'a [u8],
    /// Chunk of the next item from the back and its bytes up to that item's end.
    back_id: u32,
    back: &'a [u8],
}

impl<'a> Iter<'a> {
    pub(super) fn new(list: &'a List, indexes: Range<usize>) -> Self {
        let end = indexes.end.min(list.len());
        let start = indexes.start.min(end);
        let mut iter = Self {
            list,
            left: end - start,
            front_id: list.end_id(End::Front),
            front: &[],
            back_id: list.end_id(End::Back),
            back: &[],
        };
        if let Some((id, within)) = list.seek(start)
            && end > start
        {
            let chunk = list.chunk(id);
            (iter.front_id, iter.front) = (id, &chunk.items()[chunk.offset_of(within)..]);
        }
        if end > start
            && let Some((id, within)) = list.seek(end - 1)
        {
            let chunk = list.chunk(id);
            (iter.back_id, iter.back) = (id, &chunk.items()[..chunk.offset_of(within + 1)]);
        }
        iter
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        if self.front.is_empty() {
            self.front_id = self.list.next_id(self.front_id);
            self.front = self.list.chunk(self.front_id).items();
        }
        let (item, size) = chunk::first(self.front);
        self.front = &self.front[size..];
        Some(item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl DoubleEndedIterator for Iter<'_> {
    #[inline]
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        if self.back.is_empty() {
            self.back_id = self.list.previous_id(self.back_id);
            self.back = self.list.chunk(self.back_id).items();
        }
        let (item, size) = chunk::last(self.back);
        self.back = &self.back[..self.back.len() - size];
        Some(item)
    }
}

impl ExactSizeIterator for Iter<'_> {}

impl<'a> IntoIterator for &'a List {
    type Item = &'a [u8];
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}
