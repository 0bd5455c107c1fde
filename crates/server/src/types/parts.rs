//! What is left of a value that is being freed. Pure; any thread.
//!
//! Dropping a list of a million items or a tree of ten million members takes milliseconds to
//! seconds, because every block has to be handed back. A value that is deleted is therefore taken
//! apart at once, which moves a few words, and its pieces are dropped a slice at a time by the
//! main thread between commands, or by a worker. Small values are dropped on the way.

use super::list::Node as Chunk;
use super::slab::Slab;
use super::table::{Probe, Segment};
use super::zset::{Leaf, Link, Node};

/// The pieces of a value, freed by [`Parts::drop_slice`] or, all at once, by dropping them.
///
/// # Examples
/// ```
/// use flintlock_server::types::{HashKey, Object, Rules, Set};
/// let rules = Rules::new(HashKey::new([7; 16]));
/// let mut set = Set::new();
/// (0..10_000_u32).for_each(|n| drop(set.add(format!("m{n}").as_bytes(), &rules)));
/// let mut parts = Object::from(set).into_parts();
/// let mut slices = 1;
/// while !parts.drop_slice(4) {
///     slices += 1;
/// }
/// assert!(slices > 1 && parts.memory_bytes() == 0);
/// ```
#[derive(Debug)]
// So that a pointer to it has four spare bits: it travels in the packed jobs of the IO threads.
#[repr(align(16))]
pub struct Parts {
    pieces: Vec<Pieces>,
    memory_bytes: usize,
}

/// Pieces of one kind.
#[derive(Debug)]
pub(super) enum Pieces {
    Chunks(Slab<Chunk>),
    Pairs(Slab<Segment<true>>),
    Members(Slab<Segment<false>>),
    Leaves(Slab<Leaf>),
    Nodes(Slab<Node>),
    Links(Slab<Probe<Link>>),
}

impl Pieces {
    /// Drops one piece; the bytes it owned.
    fn drop_one(&mut self) -> Option<usize> {
        Some(match self {
            Self::Chunks(slab) => slab.pop()?.heap_bytes(),
            Self::Pairs(slab) => slab.pop()?.heap_bytes(),
            Self::Members(slab) => slab.pop()?.heap_bytes(),
            Self::Leaves(slab) => slab.pop()?.heap_bytes(),
            Self::Nodes(slab) => slab.pop()?.heap_bytes(),
            Self::Links(slab) => slab.pop()?.heap_bytes(),
        })
    }
}

impl Parts {
    /// The pieces of a value that owned so much.
    pub(super) const fn new(pieces: Vec<Pieces>, memory_bytes: usize) -> Self {
        Self { pieces, memory_bytes }
    }

    /// Nothing is left of a small value.
    pub(super) const fn none() -> Self {
        Self::new(Vec::new(), 0)
    }

    /// Frees up to `steps` pieces: chunks of a list, segments of a table or leaves of a tree, each
    /// at most 64 KiB in a few blocks plus the blocks of its big strings. True when nothing is
    /// left; further calls do nothing.
    pub fn drop_slice(&mut self, steps: usize) -> bool {
        for _ in 0..steps {
            let Some(pieces) = self.pieces.last_mut() else { break };
            match pieces.drop_one() {
                Some(bytes) => self.memory_bytes = self.memory_bytes.saturating_sub(bytes),
                None => drop(self.pieces.pop()),
            }
        }
        if self.pieces.is_empty() {
            self.memory_bytes = 0;
        }
        self.pieces.is_empty()
    }

    /// Heap bytes not yet freed.
    #[must_use]
    pub const fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }
}

#[cfg(test)]
mod tests {
    use crate::types::list::End;
    use crate::types::{Hash, HashKey, List, Object, Rules, Score, Set, ZSet};

    fn big_objects() -> Vec<Object> {
        let rules = Rules::new(HashKey::new([1; 16]));
        let (mut list, mut hash) = (List::new(), Hash::new());
        let (mut set, mut zset) = (Set::new(), ZSet::new());
        for n in 0..20_000_u32 {
            let text = format!("member:{n}").into_bytes();
            list.push(End::Back, &text, &rules);
            hash.set(&text, &text.repeat(1 + n as usize % 50), &rules);
            set.add(&text, &rules);
            zset.insert(&text, Score::new(f64::from(n)).unwrap(), &rules);
        }
        vec![list.into(), hash.into(), set.into(), zset.into()]
    }

    #[test]
    fn slices_free_everything_little_by_little() {
        for object in big_objects() {
            let name = object.type_name();
            let before = object.memory_bytes();
            let mut parts = object.into_parts();
            assert_eq!(parts.memory_bytes(), before);
            let (mut slices, mut left) = (0, before);
            while !parts.drop_slice(3) {
                slices += 1;
                assert!(parts.memory_bytes() <= left, "{name}");
                assert!(left - parts.memory_bytes() < 3 * 64 * 1024, "{name}");
                left = parts.memory_bytes();
            }
            assert!(slices >= 5, "{name}: {slices}");
            assert!(left < before / 5, "{name}: {left} of {before} unaccounted");
            assert!(parts.drop_slice(1) && parts.memory_bytes() == 0);
        }
    }

    #[test]
    fn a_copy_owns_what_was_changed_in_it_and_little_more() {
        const PAGE: usize = 32;
        let rules = Rules::new(HashKey::new([1; 16]));
        for object in big_objects() {
            let (name, len, bytes) = (object.type_name(), object.len(), object.memory_bytes());
            let mut copy = object.clone();
            assert_eq!(copy.memory_bytes(), bytes, "{name}");
            match &mut copy {
                Object::List(list) => list.push(End::Back, b"new", &rules),
                Object::Hash(hash) => _ = hash.set(b"new", b"value", &rules),
                Object::Set(set) => _ = set.add(b"new", &rules),
                Object::ZSet(zset) => _ = zset.insert(b"new", Score::new(0.5).unwrap(), &rules),
            }
            assert_eq!((copy.len(), object.len()), (len + 1, len), "{name}");
            let mut parts = copy.into_parts();
            let owned = std::iter::from_fn(|| (!parts.drop_slice(1)).then_some(())).count();
            // A page for each kind of piece, or two; the last call of each kind finds nothing.
            assert!((1..=4 * (PAGE + 1)).contains(&owned), "{name}: {owned} pieces");
            assert_eq!((object.len(), object.memory_bytes()), (len, bytes), "{name}");
        }
    }

    #[test]
    fn small_values_are_gone_at_once() {
        let rules = Rules::new(HashKey::new([1; 16]));
        let mut hash = Hash::new();
        hash.set(b"a", b"b", &rules);
        let mut list = List::new();
        list.push(End::Back, b"a", &rules);
        for object in [Object::from(hash), list.into(), Set::new().into(), ZSet::new().into()] {
            assert!(object.into_parts().drop_slice(1));
        }
    }
}
