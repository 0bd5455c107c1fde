//! A counted B+tree over (score, member). Pure; any thread.
//!
//! Leaves hold entries and are linked both ways; a node knows of each child the first entry (score
//! and eight bytes of the member, the rest is looked up below when both are equal) and how many
//! entries are below, so a rank is a sum along one path and an index is found along another.
//! Against a skiplist: one allocation of pointers a member less, a walk over 64 entries touches
//! some 16 cache lines in a row instead of 64 anywhere, and ranks need no span in each link.
//!
//! Entries change their leaf when leaves split and join; each such move is told to the caller,
//! who keeps an index from hash to leaf.

use super::leaf::{ENTRIES_MAX, Leaf};
use super::node::{CHILDREN_MAX, Child, Node, prefix_of};
use super::score::Score;
use super::search::partition;
use crate::types::slab::{NONE, Slab};
use std::cmp::Ordering;

/// Levels of nodes: 16 children each at the least, but for the root.
const HEIGHT_MAX: usize = 8;

/// See the module documentation.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    leaves: Slab<Leaf>,
    nodes: Slab<Node>,
    /// Number of the top node, or of the only leaf.
    root: u32,
    /// Levels of nodes above the leaves.
    height: usize,
    count: usize,
    /// Bytes that leaves and nodes own.
    owned_bytes: usize,
    last: u32,
}

/// Where an entry is or would go, and the way down to it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path {
    /// Node and index of the child taken, from the root down.
    steps: [(u32, usize); HEIGHT_MAX],
    pub(super) leaf: u32,
    pub(super) slot: usize,
}

/// A member to be compared with those in the tree.
#[derive(Clone, Copy, Debug)]
pub(super) struct Name<'a> {
    bytes: &'a [u8],
    prefix: u64,
}

impl<'a> Name<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, prefix: prefix_of(bytes) }
    }
}

/// An entry met on the way down: in a leaf, or the first below a child.
#[derive(Clone, Copy)]
pub(super) enum Met<'a> {
    Entry(&'a Leaf, usize),
    Child(&'a Tree, &'a Child, usize),
}

impl Met<'_> {
    #[inline]
    pub(super) fn score(&self) -> Score {
        match self {
            Self::Entry(leaf, slot) => leaf.score(*slot),
            Self::Child(_, child, _) => child.score,
        }
    }

    #[inline]
    pub(super) fn cmp_member(&self, name: Name<'_>) -> Ordering {
        match self {
            Self::Entry(leaf, slot) => leaf.member(*slot).cmp(name.bytes),
            Self::Child(tree, child, level) => child
                .prefix
                .cmp(&name.prefix)
                .then_with(|| tree.first_member(child.id, *level).cmp(name.bytes)),
        }
    }
}

impl Tree {
    pub(super) fn new() -> Self {
        let mut leaves = Slab::new();
        let root = leaves.insert(Leaf::new());
        let nodes = Slab::new();
        let (height, count, owned_bytes) = (0, 0, 0);
        Self { leaves, nodes, root, height, count, owned_bytes, last: root }
    }

    pub(super) const fn count(&self) -> usize {
        self.count
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.leaves.heap_bytes() + self.nodes.heap_bytes() + self.owned_bytes
    }

    #[inline]
    pub(super) fn leaf(&self, id: u32) -> &Leaf {
        self.leaves.get(id)
    }

    /// The member of the first entry below a child; `level` is that of the child, leaves being 0.
    fn first_member(&self, mut id: u32, level: usize) -> &[u8] {
        for _ in 0..level {
            id = self.nodes.get(id).children()[0].id;
        }
        self.leaves.get(id).member(0)
    }

    /// The way to the place after the last entry for which `before` holds. It must hold for a
    /// prefix of all entries.
    pub(super) fn partition(&self, before: impl Fn(Met<'_>) -> bool) -> Path {
        let mut path = Path { steps: [(NONE, 0); HEIGHT_MAX], leaf: self.root, slot: 0 };
        for depth in 0..self.height {
            let children = self.nodes.get(path.leaf).children();
            let level = self.height - 1 - depth;
            // The first child is taken even if `before` holds for none of its entries.
            let reached = |i: usize| before(Met::Child(self, &children[i], level));
            let index = partition(1..children.len(), reached) - 1;
            path.steps[depth] = (path.leaf, index);
            path.leaf = children[index].id;
        }
        let leaf = self.leaves.get(path.leaf);
        path.slot = partition(0..leaf.count(), |slot| before(Met::Entry(leaf, slot)));
        path
    }

    /// The way to the place after `(score, name)`, whether that is there or not: `partition` with
    /// scores compared first and names only where scores are equal.
    pub(super) fn locate(&self, score: Score, name: Name<'_>) -> Path {
        let mut path = Path { steps: [(NONE, 0); HEIGHT_MAX], leaf: self.root, slot: 0 };
        for depth in 0..self.height {
            let children = self.nodes.get(path.leaf).children();
            let mut next = partition(1..children.len(), |i| children[i].score < score);
            if children.get(next).is_some_and(|child| child.score == score) {
                let level = self.height - 1 - depth;
                next = partition(next..children.len(), |i| {
                    let child = &children[i];
                    child.score <= score && Met::Child(self, child, level).cmp_member(name).is_le()
                });
            }
            let index = next - 1;
            path.steps[depth] = (path.leaf, index);
            path.leaf = children[index].id;
        }
        path.slot = self.leaves.get(path.leaf).locate(score, name.bytes);
        path
    }

    /// Number of entries before a place.
    pub(super) fn rank(&self, path: &Path) -> usize {
        let steps = &path.steps[..self.height];
        let before = |(node, index): &(u32, usize)| -> usize {
            self.nodes.get(*node).children()[..*index].iter().map(|child| child.count).sum()
        };
        steps.iter().map(before).sum::<usize>() + path.slot
    }

    /// Leaf and slot of the entry with `rank` entries before it; the end of the last leaf when
    /// there is no such entry.
    pub(super) fn place_of_rank(&self, rank: usize) -> (u32, usize) {
        if rank >= self.count {
            return (self.last, self.leaf(self.last).count());
        }
        let path = self.path_of_rank(rank);
        (path.leaf, path.slot)
    }

    /// The way to the entry with `rank` entries before it, which must exist.
    pub(super) fn path_of_rank(&self, rank: usize) -> Path {
        debug_assert!(rank < self.count);
        let mut path = Path { steps: [(NONE, 0); HEIGHT_MAX], leaf: self.root, slot: rank };
        for depth in 0..self.height {
            let children = self.nodes.get(path.leaf).children();
            let mut index = 0;
            while path.slot >= children[index].count {
                path.slot -= children[index].count;
                index += 1;
            }
            path.steps[depth] = (path.leaf, index);
            path.leaf = children[index].id;
        }
        path
    }

    /// Gives the entry at a place another score if that keeps it between the first entry of its
    /// leaf and that of the next, so that nothing above notices; false and unchanged otherwise.
    pub(super) fn rescore(&mut self, leaf: u32, slot: usize, score: Score) -> bool {
        let there = self.leaf(leaf);
        let new = (score, there.member(slot));
        let follows = |leaf: &Leaf| new > (leaf.score(0), leaf.member(0));
        // The first entry of a leaf is known further up.
        let fits =
            slot > 0 && follows(there) && (there.next == NONE || !follows(self.leaf(there.next)));
        if fits {
            self.leaves.get_mut(leaf).set_score(slot, score);
        }
        fits
    }

    /// Puts a new entry at a place that [`Tree::locate`] gave; returns its leaf. `moved` is told
    /// member, old and new leaf of each entry that changes its leaf.
    pub(super) fn insert(
        &mut self,
        path: &Path,
        (score, hash, member): (Score, u32, &[u8]),
        mut moved: impl FnMut(&[u8], u32, u32),
    ) -> u32 {
        self.count += 1;
        for (node, index) in &path.steps[..self.height] {
            self.nodes.get_mut(*node).child_mut(*index).count += 1;
        }
        if self.leaf(path.leaf).count() < ENTRIES_MAX {
            self.edit_leaf(path.leaf, |leaf| leaf.insert(path.slot, score, hash, member));
            if path.slot == 0 {
                self.refresh_keys(path);
            }
            return path.leaf;
        }
        // Entries that come in order leave full leaves behind.
        let at_end = path.slot == ENTRIES_MAX && path.leaf == self.last;
        let cut = if at_end { ENTRIES_MAX } else { ENTRIES_MAX / 2 };
        let upper = self.edit_leaf(path.leaf, |leaf| leaf.split_off(cut));
        let upper_id = self.link_leaf(path.leaf, upper);
        let upper = self.leaf(upper_id);
        for slot in 0..upper.count() {
            moved(upper.member(slot), path.leaf, upper_id);
        }
        let (id, slot) = if at_end || path.slot > cut {
            (upper_id, path.slot - cut)
        } else {
            (path.leaf, path.slot)
        };
        self.edit_leaf(id, |leaf| leaf.insert(slot, score, hash, member));
        if path.slot == 0 {
            self.refresh_keys(path);
        }
        let child = self.describe(upper_id, 0);
        self.add_child(path, child);
        id
    }

    /// Removes the entry at a place: the slot itself, not the one after it.
    pub(super) fn remove(&mut self, path: &Path, mut moved: impl FnMut(&[u8], u32, u32)) {
        self.count -= 1;
        for (node, index) in &path.steps[..self.height] {
            self.nodes.get_mut(*node).child_mut(*index).count -= 1;
        }
        self.edit_leaf(path.leaf, |leaf| leaf.remove(path.slot));
        if self.height > 0 {
            self.rebalance(path, &mut moved);
        }
        if self.leaves.is_sparse() {
            let leaf = self.leaves.remove(self.root);
            let id = self.leaves.insert(leaf);
            for slot in 0..self.leaf(id).count() {
                moved(self.leaf(id).member(slot), self.root, id);
            }
            (self.root, self.last) = (id, id);
        }
    }

    /// After a removal from the leaf of a path.
    fn rebalance(&mut self, path: &Path, moved: &mut impl FnMut(&[u8], u32, u32)) {
        if self.leaf(path.leaf).count() == 0 {
            self.unlink_leaf(path.leaf);
            self.remove_child(path, self.height - 1);
            return;
        }
        if path.slot == 0 {
            self.refresh_keys(path);
        }
        if self.leaf(path.leaf).count() < ENTRIES_MAX / 4 {
            self.join_leaf(path, moved);
        }
    }

    /// Joins the leaf of a path with a neighbour under the same parent if both fit well.
    fn join_leaf(&mut self, path: &Path, moved: &mut impl FnMut(&[u8], u32, u32)) {
        let (parent, index) = path.steps[self.height - 1];
        let children = self.nodes.get(parent).children();
        let fits = |other: Option<&Child>| {
            other.is_some_and(|other| {
                other.count + self.leaf(path.leaf).count() <= ENTRIES_MAX * 3 / 4
            })
        };
        let lower = if fits(children.get(index + 1)) {
            index
        } else if index > 0 && fits(children.get(index - 1)) {
            index - 1
        } else {
            return;
        };
        let (lower_id, upper_id) = (children[lower].id, children[lower + 1].id);
        let upper = self.unlink_leaf(upper_id);
        for slot in 0..upper.count() {
            moved(upper.member(slot), upper_id, lower_id);
        }
        let joined = upper.count();
        self.edit_leaf(lower_id, |leaf| leaf.join(upper));
        self.nodes.get_mut(parent).child_mut(lower).count += joined;
        let mut path = *path;
        path.steps[self.height - 1].1 = lower + 1;
        self.remove_child(&path, self.height - 1);
    }

    /// Takes the child at `depth` of a path out of its node, which then joins a neighbour or goes,
    /// and so on up. Counts above are right already.
    fn remove_child(&mut self, path: &Path, depth: usize) {
        let (node, index) = path.steps[depth];
        self.edit_node(node, |node| node.remove(index));
        let left = self.nodes.get(node).children().len();
        if left == 0 && depth > 0 {
            self.free_node(node);
            return self.remove_child(path, depth - 1);
        }
        if left > 0 && index == 0 {
            self.refresh_keys_above(path, depth);
        }
        if depth > 0 && left < CHILDREN_MAX / 4 {
            return self.join_node(path, depth);
        }
        self.lower_root();
    }

    fn join_node(&mut self, path: &Path, depth: usize) {
        let (parent, index) = path.steps[depth - 1];
        let children = self.nodes.get(parent).children();
        let width = |index: usize| {
            children.get(index).map(|child| self.nodes.get(child.id).children().len())
        };
        let fits = |a: Option<usize>, b: Option<usize>| {
            a.zip(b).is_some_and(|(a, b)| a + b <= CHILDREN_MAX * 3 / 4)
        };
        let lower = if fits(width(index), width(index + 1)) {
            index
        } else if index > 0 && fits(width(index - 1), width(index)) {
            index - 1
        } else {
            return self.lower_root();
        };
        let (lower_id, upper) = (children[lower].id, children[lower + 1]);
        let next = self.free_node(upper.id);
        self.edit_node(lower_id, |node| node.join(&next));
        self.nodes.get_mut(parent).child_mut(lower).count += upper.count;
        let mut path = *path;
        path.steps[depth - 1].1 = lower + 1;
        self.remove_child(&path, depth - 1);
    }

    /// A root with one child gives way to it.
    fn lower_root(&mut self) {
        while self.height > 0 && self.nodes.get(self.root).children().len() == 1 {
            let root = self.free_node(self.root);
            self.root = root.children()[0].id;
            self.height -= 1;
        }
    }

    /// Adds the leaf that has split off to the right of a path's, splitting nodes as needed.
    fn add_child(&mut self, path: &Path, mut child: Child) {
        for depth in (0..self.height).rev() {
            let (id, index) = path.steps[depth];
            self.edit_node(id, |node| {
                node.child_mut(index).count -= child.count;
                node.insert(index + 1, child);
            });
            if self.nodes.get(id).children().len() <= CHILDREN_MAX {
                return;
            }
            let upper = self.edit_node(id, Node::split_off_half);
            self.owned_bytes += upper.heap_bytes();
            let upper = self.nodes.insert(upper);
            child = self.describe(upper, self.height - depth);
        }
        let old = self.describe(self.root, self.height);
        let root = Node::new(&[old, child]);
        self.owned_bytes += root.heap_bytes();
        self.root = self.nodes.insert(root);
        self.height += 1;
        assert!(self.height <= HEIGHT_MAX, "16^8 leaves do not fit in memory");
    }

    /// What a parent knows of a child of this level, leaves being 0.
    fn describe(&self, id: u32, level: usize) -> Child {
        if level == 0 {
            let leaf = self.leaf(id);
            let prefix = prefix_of(leaf.member(0));
            return Child { score: leaf.score(0), prefix, count: leaf.count(), id };
        }
        let node = self.nodes.get(id);
        Child { id, count: node.count(), ..node.children()[0] }
    }

    /// The first entry of a path's leaf has changed: tells all that know it.
    fn refresh_keys(&mut self, path: &Path) {
        if self.height > 0 {
            let (node, index) = path.steps[self.height - 1];
            let leaf = self.leaf(path.leaf);
            let (score, prefix) = (leaf.score(0), prefix_of(leaf.member(0)));
            let child = self.nodes.get_mut(node).child_mut(index);
            (child.score, child.prefix) = (score, prefix);
            if index == 0 {
                self.refresh_keys_above(path, self.height - 1);
            }
        }
    }

    /// The first child of the node at `depth` has changed.
    fn refresh_keys_above(&mut self, path: &Path, depth: usize) {
        for depth in (1..=depth).rev() {
            let first = self.nodes.get(path.steps[depth].0).children()[0];
            let (parent, index) = path.steps[depth - 1];
            let child = self.nodes.get_mut(parent).child_mut(index);
            (child.score, child.prefix) = (first.score, first.prefix);
            if index > 0 {
                return;
            }
        }
    }

    fn edit_leaf<R>(&mut self, id: u32, change: impl FnOnce(&mut Leaf) -> R) -> R {
        let leaf = self.leaves.get_mut(id);
        let before = leaf.heap_bytes();
        let result = change(leaf);
        self.owned_bytes = self.owned_bytes - before + leaf.heap_bytes();
        result
    }

    fn edit_node<R>(&mut self, id: u32, change: impl FnOnce(&mut Node) -> R) -> R {
        let node = self.nodes.get_mut(id);
        let before = node.heap_bytes();
        let result = change(node);
        self.owned_bytes = self.owned_bytes - before + node.heap_bytes();
        result
    }

    fn free_node(&mut self, id: u32) -> Node {
        let node = self.nodes.remove(id);
        self.owned_bytes -= node.heap_bytes();
        node
    }

    /// Links a new leaf in after another.
    fn link_leaf(&mut self, before: u32, mut leaf: Leaf) -> u32 {
        self.owned_bytes += leaf.heap_bytes();
        let next = self.leaf(before).next;
        (leaf.previous, leaf.next) = (before, next);
        let id = self.leaves.insert(leaf);
        self.leaves.get_mut(before).next = id;
        if next == NONE {
            self.last = id;
        } else {
            self.leaves.get_mut(next).previous = id;
        }
        id
    }

    fn unlink_leaf(&mut self, id: u32) -> Leaf {
        let leaf = self.leaves.remove(id);
        self.owned_bytes -= leaf.heap_bytes();
        if leaf.previous != NONE {
            self.leaves.get_mut(leaf.previous).next = leaf.next;
        }
        if leaf.next == NONE {
            self.last = leaf.previous;
        } else {
            self.leaves.get_mut(leaf.next).previous = leaf.previous;
        }
        leaf
    }

    pub(super) fn into_parts(self) -> (Slab<Leaf>, Slab<Node>) {
        (self.leaves, self.nodes)
    }
}

#[cfg(test)]
impl Tree {
    /// Leaf and member of every entry, in order.
    pub(super) fn entries(&self) -> impl Iterator<Item = (u32, &[u8])> {
        let mut id = self.place_of_rank(0).0;
        let ids = std::iter::from_fn(move || {
            let this = id;
            if this != NONE {
                id = self.leaf(this).next;
            }
            (this != NONE).then_some(this)
        });
        ids.flat_map(|id| {
            let leaf = self.leaf(id);
            (0..leaf.count()).map(move |slot| (id, leaf.member(slot)))
        })
    }

    pub(super) fn check(&self) {
        let owned = self.leaves.iter().map(Leaf::heap_bytes).sum::<usize>()
            + self.nodes.iter().map(Node::heap_bytes).sum::<usize>();
        assert_eq!(owned, self.owned_bytes);
        if self.height == 0 {
            assert_eq!((self.nodes.count(), self.leaf(self.root).count()), (0, self.count));
            return;
        }
        let mut leaves = Vec::new();
        let child = self.check_below(self.root, self.height, &mut leaves);
        assert_eq!(child.count, self.count);
        assert!(self.nodes.get(self.root).children().len() > 1);
        assert_eq!(leaves.len(), self.leaves.count(), "no leaf is lost");
        for pair in leaves.windows(2) {
            assert_eq!((self.leaf(pair[0]).next, self.leaf(pair[1]).previous), (pair[1], pair[0]));
        }
        assert_eq!((self.leaf(leaves[0]).previous, self.leaf(self.last).next), (NONE, NONE));
        assert_eq!(leaves.last(), Some(&self.last));
    }

    fn check_below(&self, id: u32, level: usize, leaves: &mut Vec<u32>) -> Child {
        if level == 0 {
            leaves.push(id);
            assert!((1..=ENTRIES_MAX).contains(&self.leaf(id).count()));
            return self.describe(id, 0);
        }
        let children = self.nodes.get(id).children();
        assert!((1..=CHILDREN_MAX).contains(&children.len()));
        for known in children {
            let real = self.check_below(known.id, level - 1, leaves);
            assert_eq!((known.count, known.prefix), (real.count, real.prefix));
            assert_eq!(known.score, real.score);
        }
        self.describe(id, level)
    }
}
