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

/// The hash that index and leaves know a member by.
#[inline]
fn hash_of(key: HashKey, member: &[u8]) -> u32 {
    (key.hash(member) >> 32) as u32
}

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
        hash_of(self.key, member)
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
        match (found, old) {
            (Some((leaf, slot)), Some(old)) => {
                if !self.tree.rescore(leaf, slot, new) {
                    let path = self.path_to(old, member);
                    self.remove_from_tree(&path);
                    // The member's link has stayed and names its old leaf, even if that is gone:
                    // links of equal hash and leaf are interchangeable, so it is found.
                    let now = self.insert_in_tree(hash, member, new);
                    if now != leaf {
                        self.index.relocate(hash, leaf, now);
                    }
                }
            }
            _ => self.insert(hash, member, new),
        }
        (old, Some(new))
    }

    /// Puts a member that is not in the tree there; its leaf.
    fn insert_in_tree(&mut self, hash: u32, member: &[u8], score: Score) -> u32 {
        let path = self.tree.locate(score, Name::new(member));
        let (index, key) = (&mut self.index, self.key);
        let moved = |member: &[u8], from, to| index.relocate(hash_of(key, member), from, to);
        self.tree.insert(&path, (score, hash, member), moved)
    }

    /// Removes the entry at a place from the tree; its link is the caller's.
    fn remove_from_tree(&mut self, path: &Path) {
        let (index, key) = (&mut self.index, self.key);
        let moved = |member: &[u8], from, to| index.relocate(hash_of(key, member), from, to);
        self.tree.remove(path, moved);
    }

    fn insert(&mut self, hash: u32, member: &[u8], score: Score) {
        let leaf = self.insert_in_tree(hash, member, score);
        self.index.insert(hash, leaf);
    }

    /// The way to a member that is there.
    fn path_to(&self, score: Score, member: &[u8]) -> Path {
        let mut path = self.tree.locate(score, Name::new(member));
        path.slot -= 1;
        debug_assert_eq!(self.tree.leaf(path.leaf).member(path.slot), member);
        path
    }

    /// Adds a member that is known to be new.
    pub(super) fn insert_new(&mut self, member: &[u8], score: Score) {
        self.insert(self.hash(member), member, score);
    }

    pub(super) fn remove(&mut self, member: &[u8]) -> Option<Score> {
        let hash = self.hash(member);
        let (leaf, slot) = self.find(hash, member)?;
        let score = self.tree.leaf(leaf).score(slot);
        let path = self.path_to(score, member);
        self.remove_at(hash, &path);
        Some(score)
    }

    fn remove_at(&mut self, hash: u32, path: &Path) {
        self.index.remove(hash, path.leaf);
        self.remove_from_tree(path);
    }

    /// Removes the members of these ranks one after the other.
    pub(super) fn remove_ranks(&mut self, ranks: Range<usize>) {
        for _ in ranks.clone() {
            let path = self.tree.path_of_rank(ranks.start);
            let hash = self.hash(self.tree.leaf(path.leaf).member(path.slot));
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
    pub(super) fn scan<'a>(
        &'a self,
        cursor: u64,
        count: usize,
        mut visit: impl FnMut(&'a [u8], Score),
    ) -> u64 {
        self.index.scan(cursor, count, |hash, leaf| {
            let leaf = self.tree.leaf(leaf);
            let slots = leaf.candidates(hash).filter(|slot| self.hash(leaf.member(*slot)) == hash);
            slots.map(|slot| visit(leaf.member(slot), leaf.score(slot))).count()
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
        for (id, member) in self.tree.entries() {
            let hash = self.hash(member);
            assert!(self.find(hash, member).is_some(), "the index leads to each member");
            assert!(links.contains_key(&hash), "{id}");
        }
        assert_eq!(self.index.links().count(), self.count());
    }
}
