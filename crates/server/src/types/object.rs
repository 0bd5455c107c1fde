//! A collection of any type. Pure; any thread.
//!
//! Strings and integers are not here: they live in the keyspace's entries themselves.

use super::parts::Parts;
use super::{Hash, List, Set, ZSet};

/// A collection, 32 bytes with its handle. Belongs to one thread at a time; sending it to another
/// to be encoded or dropped there is a move.
///
/// # Examples
/// ```
/// use flintlock_server::types::{HashKey, List, Object, Rules, list::End};
/// let mut list = List::new();
/// list.push(End::Back, b"item", &Rules::new(HashKey::new([7; 16])));
/// let object = Object::from(list);
/// assert_eq!((object.type_name(), object.encoding_name()), ("list", "quicklist"));
/// assert_eq!(object.len(), 1);
/// ```
#[derive(Clone, Debug)]
pub enum Object {
    /// LPUSH and its family.
    List(List),
    /// HSET and its family.
    Hash(Hash),
    /// SADD and its family.
    Set(Set),
    /// ZADD and its family.
    ZSet(ZSet),
}

const _: () = assert!(size_of::<Object>() <= 32, "an entry of the keyspace holds one");

impl Object {
    /// What TYPE prints.
    #[must_use]
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::List(_) => "list",
            Self::Hash(_) => "hash",
            Self::Set(_) => "set",
            Self::ZSet(_) => "zset",
        }
    }

    /// What OBJECT ENCODING of redis-server 7.0.15 prints.
    #[must_use]
    pub const fn encoding_name(&self) -> &'static str {
        match self {
            Self::List(list) => list.encoding_name(),
            Self::Hash(hash) => hash.encoding_name(),
            Self::Set(set) => set.encoding_name(),
            Self::ZSet(zset) => zset.encoding_name(),
        }
    }

    /// Number of items, fields or members.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::List(list) => list.len(),
            Self::Hash(hash) => hash.len(),
            Self::Set(set) => set.len(),
            Self::ZSet(zset) => zset.len(),
        }
    }

    /// Whether there is nothing in it; Redis deletes such a key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Heap bytes owned, allocator overhead included, this handle not; constant time.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        match self {
            Self::List(list) => list.memory_bytes(),
            Self::Hash(hash) => hash.memory_bytes(),
            Self::Set(set) => set.memory_bytes(),
            Self::ZSet(zset) => zset.memory_bytes(),
        }
    }

    /// Takes the collection apart, to be freed in bounded steps.
    #[must_use]
    pub fn into_parts(self) -> Parts {
        match self {
            Self::List(list) => list.into_parts(),
            Self::Hash(hash) => hash.into_parts(),
            Self::Set(set) => set.into_parts(),
            Self::ZSet(zset) => zset.into_parts(),
        }
    }
}

impl From<List> for Object {
    fn from(list: List) -> Self {
        Self::List(list)
    }
}

impl From<Hash> for Object {
    fn from(hash: Hash) -> Self {
        Self::Hash(hash)
    }
}

impl From<Set> for Object {
    fn from(set: Set) -> Self {
        Self::Set(set)
    }
}

impl From<ZSet> for Object {
    fn from(zset: ZSet) -> Self {
        Self::ZSet(zset)
    }
}
