//! Iteration over ranks of a sorted set, from either end. Pure; any thread.

use super::score::Score;
use super::small::{Record, Records};
use super::tree::Tree;
use std::ops::Range;

/// Iterator over members with their scores; see [`super::ZSet::range`].
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    form: Form<'a>,
    left: usize,
}

#[derive(Clone, Debug)]
enum Form<'a> {
    Small {
        records: Records<'a>,
        /// The records not yet shown, once the iterator was asked for its back: a packed record
        /// can be found from the front only.
        reversed: Option<Vec<Record<'a>>>,
    },
    Big {
        tree: &'a Tree,
        /// Leaf and slot of the next entry from the front.
        front: (u32, usize),
        /// Leaf and slot after the next entry from the back.
        back: (u32, usize),
    },
}

impl<'a> Iter<'a> {
    pub(super) fn of_records(mut records: Records<'a>, ranks: Range<usize>) -> Self {
        if ranks.start > 0 {
            records.nth(ranks.start - 1);
        }
        Self { form: Form::Small { records, reversed: None }, left: ranks.len() }
    }

    pub(super) fn of_tree(tree: &'a Tree, ranks: Range<usize>) -> Self {
        let front = tree.place_of_rank(ranks.start);
        let (leaf, slot) = tree.place_of_rank(ranks.end.max(1) - 1);
        let left = ranks.len();
        Self { form: Form::Big { tree, front, back: (leaf, slot + 1) }, left }
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a [u8], Score);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        match &mut self.form {
            Form::Small { records, .. } => records.next().map(|r| (r.member, r.score)),
            Form::Big { tree, front, .. } => {
                let mut leaf = tree.leaf(front.0);
                if front.1 == leaf.count() {
                    *front = (leaf.next, 0);
                    leaf = tree.leaf(front.0);
                }
                front.1 += 1;
                Some((leaf.member(front.1 - 1), leaf.score(front.1 - 1)))
            }
        }
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
        match &mut self.form {
            Form::Small { records, reversed } => {
                let reversed =
                    reversed.get_or_insert_with(|| records.clone().take(self.left).collect());
                self.left -= 1;
                reversed.pop().map(|r| (r.member, r.score))
            }
            Form::Big { tree, back, .. } => {
                self.left -= 1;
                if back.1 == 0 {
                    let previous = tree.leaf(back.0).previous;
                    *back = (previous, tree.leaf(previous).count());
                }
                back.1 -= 1;
                let leaf = tree.leaf(back.0);
                Some((leaf.member(back.1), leaf.score(back.1)))
            }
        }
    }
}

impl ExactSizeIterator for Iter<'_> {}
