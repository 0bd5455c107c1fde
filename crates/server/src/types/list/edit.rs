//! Changes and searches in the middle of a list: LSET, LINSERT, LREM, LTRIM, LPOS.
//! Pure; any thread.

use super::chunk::{Chunk, Limit, first, item_size};
use super::{End, Form, List};
use crate::types::rules::Rules;
use crate::types::slab::NONE;
use std::ops::Range;

/// Which of several equal items an operation means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Occurrences {
    /// Every one.
    All,
    /// At most so many, counted from an end.
    From(End, usize),
}

impl List {
    /// Replaces the item at `index`; false and unchanged when there is no such item.
    pub fn set(&mut self, index: usize, item: &[u8], rules: &Rules) -> bool {
        let Some((id, within)) = self.seek(index) else { return false };
        let limit = Limit::new(rules);
        let chunk = self.chunk(id);
        let at = chunk.offset_of(within);
        let old = first(&chunk.items()[at..]).1;
        if self.edit(id, |chunk| chunk.splice(at, (old, 1), Some(item), limit)) {
            if item_size(item.len()) < old {
                self.tidy(id, limit);
            }
            return true;
        }
        // The new item goes before the old one, which then goes.
        self.insert_at(id, within, item, limit);
        if let Some((id, within)) = self.seek(index + 1) {
            let at = self.chunk(id).offset_of(within);
            self.edit(id, |chunk| chunk.splice(at, (old, 1), None, limit));
            self.tidy(id, limit);
        }
        true
    }

    /// Inserts `item` so that it has `index`; false and unchanged when `index` exceeds the length.
    pub fn insert(&mut self, index: usize, item: &[u8], rules: &Rules) -> bool {
        let len = self.len();
        if index > len {
            return false;
        }
        match self.seek(index) {
            _ if index == 0 => self.push(End::Front, item, rules),
            None => self.push(End::Back, item, rules),
            Some((id, within)) => self.insert_at(id, within, item, Limit::new(rules)),
        }
        true
    }

    /// Inserts `item` before (`End::Front`) or after (`End::Back`) the first item equal to
    /// `pivot`; false and unchanged when there is none.
    pub fn insert_beside(&mut self, pivot: &[u8], side: End, item: &[u8], rules: &Rules) -> bool {
        let Some(index) = self.iter().position(|other| other == pivot) else { return false };
        self.insert(index + usize::from(side == End::Back), item, rules)
    }

    /// Removes items equal to `item`; returns how many.
    pub fn remove(&mut self, item: &[u8], which: Occurrences, rules: &Rules) -> usize {
        let limit = Limit::new(rules);
        let (end, mut quota) = match which {
            Occurrences::All => (End::Front, usize::MAX),
            Occurrences::From(end, count) => (end, count),
        };
        let mut removed = 0;
        let mut id = self.end_id(end);
        while id != NONE && quota > 0 {
            let after = match end {
                End::Front => self.next_id(id),
                End::Back => self.previous_id(id),
            };
            let taken = occurrences(self.chunk(id), item).min(quota);
            if taken > 0 {
                self.edit(id, |chunk| chunk.drop_occurrences(item, end, taken));
                quota -= taken;
                removed += taken;
                self.tidy_behind(id, end, limit);
            }
            id = after;
        }
        self.settle();
        removed
    }

    /// After removals from chunk `id` on a way through the list from `end`: joins it only with the
    /// chunk the way has passed, so the number of the one ahead stays valid.
    fn tidy_behind(&mut self, id: u32, end: End, limit: Limit) {
        if let Form::Chain(chain) = &mut self.form {
            if chain.chunk(id).count() == 0 {
                chain.remove(id);
            } else if end == End::Front {
                chain.join_small(chain.previous(id), id, limit);
            } else {
                chain.join_small(id, chain.next(id), limit);
            }
        }
    }

    /// Keeps the items at `indexes` and removes all others; returns how many those were.
    pub fn trim(&mut self, indexes: Range<usize>) -> usize {
        let len = self.len();
        let end = indexes.end.min(len);
        let start = indexes.start.min(end);
        self.remove_from(End::Front, start);
        self.remove_from(End::Back, len - end);
        self.settle();
        len - (end - start)
    }

    /// Indexes of items equal to `item` in the order they are met from `end`, leaving out the
    /// first `skip` of them, looking at no more than `items_max` items (LPOS with its RANK and
    /// MAXLEN; COUNT is the caller's `take`).
    pub fn positions<'a>(
        &'a self,
        item: &'a [u8],
        end: End,
        skip: usize,
        items_max: usize,
    ) -> impl Iterator<Item = usize> + 'a {
        let len = self.len();
        let (mut front, mut back) = (None, None);
        match end {
            End::Front => front = Some(self.iter().enumerate()),
            End::Back => {
                back = Some(self.iter().rev().enumerate().map(move |(i, x)| (len - 1 - i, x)));
            }
        }
        let met = front.into_iter().flatten().chain(back.into_iter().flatten());
        met.take(items_max).filter(move |(_, other)| *other == item).map(|(i, _)| i).skip(skip)
    }

    /// Removes `count` items at one end, whole chunks at a time.
    fn remove_from(&mut self, end: End, mut count: usize) {
        while count > 0 {
            let id = self.end_id(end);
            let there = self.chunk(id).count();
            if there <= count {
                count -= there;
                match &mut self.form {
                    Form::Single(chunk) => *chunk = Chunk::default(),
                    Form::Chain(chain) => drop(chain.remove(id)),
                }
                continue;
            }
            let (from, to) = match end {
                End::Front => (0, self.chunk(id).offset_of(count)),
                End::Back => {
                    (self.chunk(id).offset_of(there - count), self.chunk(id).items().len())
                }
            };
            let limit = Limit { bytes: 0, items: 0 };
            let done = self.edit(id, |chunk| chunk.splice(from, (to - from, count), None, limit));
            debug_assert!(done, "a removal needs no room");
            return;
        }
    }

    /// Puts an item before the one at `within` of chunk `id`.
    fn insert_at(&mut self, id: u32, within: usize, item: &[u8], limit: Limit) {
        let at = self.chunk(id).offset_of(within);
        if self.edit(id, |chunk| chunk.splice(at, (0, 0), Some(item), limit)) {
            return;
        }
        let lone = item_size(item.len()) > limit.bytes;
        let chain = self.become_chain();
        // The number of the only chunk of a single list is that of a chain's first.
        let id = if chain.chunks() == 1 { chain.head() } else { id };
        let before = if within == 0 {
            chain.previous(id)
        } else {
            let upper = chain.edit(id, |chunk| chunk.split_off(at, within));
            chain.insert_after(id, upper);
            id
        };
        let after = if before == NONE { chain.head() } else { chain.next(before) };
        let joined = !lone
            && (before != NONE && chain.edit(before, |chunk| chunk.push_back(item, limit))
                || chain.edit(after, |chunk| chunk.push_front(item, limit)));
        if !joined {
            let chunk = if lone { Chunk::lone(item) } else { Chunk::of(item) };
            chain.insert_before(after, chunk);
        }
    }

    fn edit<R>(&mut self, id: u32, change: impl FnOnce(&mut Chunk) -> R) -> R {
        match &mut self.form {
            Form::Single(chunk) => change(chunk),
            Form::Chain(chain) => chain.edit(id, change),
        }
    }

    /// After a change of chunk `id`: no empty chunk stays, nor two small ones side by side.
    fn tidy(&mut self, id: u32, limit: Limit) {
        if let Form::Chain(chain) = &mut self.form {
            if chain.chunk(id).count() == 0 {
                chain.remove(id);
            } else {
                chain.join_small(id, chain.next(id), limit);
                chain.join_small(chain.previous(id), id, limit);
            }
            self.settle();
        }
    }
}

fn occurrences(chunk: &Chunk, item: &[u8]) -> usize {
    let mut items = chunk.items();
    let mut count = 0;
    while !items.is_empty() {
        let (other, size) = first(items);
        count += usize::from(other == item);
        items = &items[size..];
    }
    count
}
