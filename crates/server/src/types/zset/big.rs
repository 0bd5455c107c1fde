//! The big form of a sorted set: a tree in order, and an index from member to leaf.
//! Pure; any thread.

use super::index::{Index, Link};
use super::leaf::Leaf;
use super::node::Node;
use super::score::Score;
use super::tree::{Name, Path, Tree};
use super::{LexBound, LexRange, ScoreRange};
use crate::types::hashing::HashKey;
use crate::types::memory::heap_bytes;
use crate::types::slab::Slab;
use crate::types::table::Probe;
use std::ops::Range;

/// See the module documentation. Each entry of the tree has one link in the index.
#[derive(Clone, Debug)]
pub(super) struct Big {
    tree: Tree,
    index: Index,
    key: HashKey,
}

impl Big {
    /// An empty set that expects about so many members at first.
    pub(super) fn new(key: HashKey, expected: usize) -> Self {
        Self { tree: Tree::new(), index: Index::new(expected), key }
    }

    pub(super) const fn count(&self) -> usize {
        self.tree.count()
    }

    /// Bytes of the box around this and of all it owns.
    pub(super) fn heap_bytes(&self) -> usize {
        heap_bytes(size_of::<Self>()) + self.tree.heap_bytes() + self.index.heap_bytes()
    }

    pub(super) const fn tree(&self) -> &Tree {
        &self.tree
    }

    #[inline]
    fn hash(&self, member: &[u8]) -> u32 {
        (self.key.hash(member) >> 32) as u32
    }

    /// Leaf and slot of a member.
    #[inline]
    fn find(&self, hash: u32, member: &[u8]) -> Option<(u32, usize)> {
        let in_leaf =
            |leaf| self.tree.leaf(leaf).find(hash, member).map(|slot: usize| (leaf, slot));
        self.index.find(hash, in_leaf)
    }

    pub(super) fn score(&self, member: &[u8]) -> Option<Score> {
        let (leaf, slot) = self.find(self.hash(member), member)?;
        Some(self.tree.leaf(leaf).score(slot))
    }

    /// Gives `member` the score that `decide` makes of its old one, unless that is none or the
    /// same; returns the old score and the one it has now.
    pub(super) fn upsert(
        &mut self,
        member: &[u8],
        decide: impl FnOnce(Option<Score>) -> Option<Score>,
    ) -> (Option<Score>, Option<Score>) {
        let hash = self.hash(member);
        let found = self.find(hash, member);
        let old = found.map(|(leaf, slot)| self.tree.leaf(leaf).score(slot));
        let Some(new) = decide(old) else { return (old, old) };
        if old == Some(new) {
            return (old, old);
        }
        if let Some((leaf, slot)) = found {
            if self.tree.rescore(leaf, slot, new) {
                return (old, Some(new));
            }
            self.remove_found(hash, member, self.tree.leaf(leaf).score(slot));
        }
        self.insert(hash, member, new);
        (old, Some(new))
    }

    fn insert(&mut self, hash: u32, member: &[u8], score: Score) {
        let path = self.tree.locate(score, Name::new(member));
        let index = &mut self.index;
        let moved = |hash, from, to| index.relocate(hash, from, to);
        let leaf = self.tree.insert(&path, (score, hash, member), moved);
        self.index.insert(hash, leaf);
    }

    /// Adds a member that is known to be new.
    pub(super) fn insert_new(&mut self, member: &[u8], score: Score) {
        self.insert(self.hash(member), member, score);
    }

    pub(super) fn remove(&mut self, member: &[u8]) -> Option<Score> {
        let hash = self.hash(member);
        let (leaf, slot) = self.find(hash, member)?;
        let score = self.tree.leaf(leaf).score(slot);
        self.remove_found(hash, member, score);
        Some(score)
    }

    fn remove_found(&mut self, hash: u32, member: &[u8], score: Score) {
        let mut path = self.tree.locate(score, Name::new(member));
        path.slot -= 1;
        debug_assert_eq!(self.tree.leaf(path.leaf).member(path.slot), member);
        self.remove_at(hash, &path);
    }

    fn remove_at(&mut self, hash: u32, path: &Path) {
        self.index.remove(hash, path.leaf);
        let index = &mut self.index;
        self.tree.remove(path, |hash, from, to| index.relocate(hash, from, to));
    }

    /// Removes the members of these ranks one after the other.
    pub(super) fn remove_ranks(&mut self, ranks: Range<usize>) {
        for _ in ranks.clone() {
            let path = self.tree.path_of_rank(ranks.start);
            let hash = self.tree.leaf(path.leaf).hash(path.slot);
            self.remove_at(hash, &path);
        }
    }

    pub(super) fn rank(&self, member: &[u8]) -> Option<(usize, Score)> {
        let score = self.score(member)?;
        let path = self.tree.locate(score, Name::new(member));
        // The place after the member's own.
        Some((self.tree.rank(&path) - 1, score))
    }

    pub(super) fn by_rank(&self, rank: usize) -> Option<(&[u8], Score)> {
        if rank >= self.count() {
            return None;
        }
        let (leaf, slot) = self.tree.place_of_rank(rank);
        let leaf = self.tree.leaf(leaf);
        Some((leaf.member(slot), leaf.score(slot)))
    }

    pub(super) fn ranks_by_score(&self, range: &ScoreRange) -> Range<usize> {
        let start = self.tree.partition(|met| range.min.is_above(met.score()));
        let end = self.tree.partition(|met| range.max.admits_as_end(met.score()));
        self.tree.rank(&start)..self.tree.rank(&end)
    }

    pub(super) fn ranks_by_lex(&self, range: &LexRange<'_>) -> Range<usize> {
        let named = |bound: LexBound<'_>, start: bool| {
            let path = match bound {
                LexBound::Min => return 0,
                LexBound::Max => return self.count(),
                LexBound::Included(name) | LexBound::Excluded(name) => {
                    let name = Name::new(name);
                    self.tree.partition(|met| {
                        if start {
                            bound.is_above(|_| met.cmp_member(name))
                        } else {
                            bound.admits_as_end(|_| met.cmp_member(name))
                        }
                    })
                }
            };
            self.tree.rank(&path)
        };
        named(range.min, true)..named(range.max, false)
    }

    /// Shows at least `count` members in hash order from `cursor` on; the next cursor.
    pub(super) fn scan(
        &self,
        cursor: u64,
        count: usize,
        mut visit: impl FnMut(&[u8], Score),
    ) -> u64 {
        self.index.scan(cursor, count, |hash, leaf| {
            let leaf = self.tree.leaf(leaf);
            leaf.slots_of(hash).map(|slot| visit(leaf.member(slot), leaf.score(slot))).count()
        })
    }

    pub(super) fn into_parts(self) -> (Slab<Leaf>, Slab<Node>, Slab<Probe<Link>>) {
        let (leaves, nodes) = self.tree.into_parts();
        (leaves, nodes, self.index.into_segments())
    }

    /// Checks everything that the types do not.
    #[cfg(test)]
    pub(super) fn check(&self) {
        self.tree.check();
        self.index.check();
        let links = self.index.links().collect::<std::collections::HashMap<_, _>>();
        for (id, hash, member) in self.tree.entries() {
            assert_eq!(hash, self.hash(member));
            assert!(self.find(hash, member).is_some(), "the index leads to each member");
            assert!(links.contains_key(&hash), "{id}");
        }
        assert_eq!(self.index.links().count(), self.count());
    }
}
