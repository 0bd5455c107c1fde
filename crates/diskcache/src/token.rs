//! Tokens of the two-phase storage calls. Main thread; the type system keeps them there.
//!
//! `begin_*` gives a [`Token`], a completion names it, `complete` takes it back with the outcome:
//! exactly once each, also on an error, on cancel and at shutdown. A token is an index and a
//! generation into a slab, so beginning costs no heap block and a stale id can never reach the
//! next owner of a slot. It is bound to the cache that began it and to its thread (`!Send`), as
//! KeyDB binds a `StorageToken` to its event loop. A token dropped without `complete` or
//! `cancel` is a fault of the caller: it panics in debug builds and is counted in release builds.
//!
//! ```compile_fail,E0277
//! fn on_another_thread<T: Send>() {}
//! on_another_thread::<flintlock_diskcache::Token<flintlock_diskcache::op::Load>>();
//! ```
//!
//! Source: KeyDB's two-phase storage calls (async FLASH).

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Names a token in a completion; may be copied and kept, and says nothing once completed.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub struct TokenId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

/// The right, and the duty, to complete one operation of kind `K`; see [`crate::op`].
#[must_use = "every token must be completed or cancelled"]
pub struct Token<K> {
    id: TokenId,
    /// Cleared when the token is given back; a drop before that is a leak.
    armed: bool,
    /// Shared with the slab; only ever counted.
    leaks: Arc<AtomicU64>,
    /// Never crosses threads, although the cache itself may.
    kind: PhantomData<(K, *const ())>,
}

impl<K> Token<K> {
    /// The name that the completion will carry.
    #[must_use]
    pub fn id(&self) -> TokenId {
        self.id
    }

    /// Gives the token up to the slab, or to an owner that keeps the name under a lock of its own
    /// ([`crate::Cache`] makes a token of it again).
    pub(crate) fn into_id(mut self) -> TokenId {
        self.armed = false;
        self.id
    }
}

impl<K> fmt::Debug for Token<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({}.{})", self.id.index, self.id.generation)
    }
}

impl<K> Drop for Token<K> {
    fn drop(&mut self) {
        if self.armed {
            self.leaks.fetch_add(1, Ordering::Relaxed);
            debug_assert!(std::thread::panicking(), "{self:?} dropped without complete or cancel");
        }
    }
}

/// Slots for operations in flight; grows to the most that were ever in flight at once.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    slots: Vec<Slot<T>>,
    /// Head of the free list, [`NONE`] when empty.
    free: u32,
    len: usize,
    leaks: Arc<AtomicU64>,
}

/// No index.
pub(crate) const NONE: u32 = u32::MAX;

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    content: Content<T>,
}

#[derive(Debug)]
enum Content<T> {
    Free { next: u32 },
    Used(T),
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: NONE, len: 0, leaks: Arc::default() }
    }
}

impl<T> Slab<T> {
    /// Puts `value` into a free slot.
    pub(crate) fn insert(&mut self, value: T) -> TokenId {
        self.len += 1;
        if self.free == NONE {
            let index = u32::try_from(self.slots.len()).expect("fewer than 2^32 in flight");
            self.slots.push(Slot { generation: 0, content: Content::Used(value) });
            return TokenId { index, generation: 0 };
        }
        let index = self.free;
        let slot = &mut self.slots[index as usize];
        if let Content::Free { next } = slot.content {
            self.free = next;
        }
        slot.content = Content::Used(value);
        TokenId { index, generation: slot.generation }
    }

    /// A token for what is in the slot of `id`.
    pub(crate) fn token<K>(&self, id: TokenId) -> Token<K> {
        debug_assert!(self.get(id).is_some(), "a token for a free slot");
        Token { id, armed: true, leaks: Arc::clone(&self.leaks), kind: PhantomData }
    }

    /// What is in the slot, unless it was taken meanwhile.
    pub(crate) fn get(&self, id: TokenId) -> Option<&T> {
        match self.slots.get(id.index as usize) {
            Some(Slot { generation, content: Content::Used(value) })
                if *generation == id.generation =>
            {
                Some(value)
            }
            _ => None,
        }
    }

    /// What is in the slot, unless it was taken meanwhile.
    pub(crate) fn get_mut(&mut self, id: TokenId) -> Option<&mut T> {
        match self.slots.get_mut(id.index as usize) {
            Some(Slot { generation, content: Content::Used(value) })
                if *generation == id.generation =>
            {
                Some(value)
            }
            _ => None,
        }
    }

    /// Empties the slot.
    pub(crate) fn remove(&mut self, id: TokenId) -> Option<T> {
        self.get(id)?;
        let slot = &mut self.slots[id.index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        let content = std::mem::replace(&mut slot.content, Content::Free { next: self.free });
        self.free = id.index;
        self.len -= 1;
        match content {
            Content::Used(value) => Some(value),
            Content::Free { .. } => None,
        }
    }

    /// The name of whatever is in slot `index` now.
    pub(crate) fn id_at(&self, index: u32) -> TokenId {
        TokenId { index, generation: self.slots[index as usize].generation }
    }

    /// The names of all slots in use.
    pub(crate) fn ids(&self) -> impl Iterator<Item = TokenId> + '_ {
        self.slots.iter().enumerate().filter_map(|(index, slot)| {
            let index = u32::try_from(index).expect("slots are numbered in 32 bits");
            let is_used = matches!(slot.content, Content::Used(_));
            is_used.then_some(TokenId { index, generation: slot.generation })
        })
    }

    /// Slots in use.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Tokens dropped without being completed.
    pub(crate) fn leaks(&self) -> u64 {
        self.leaks.load(Ordering::Relaxed)
    }

    /// Bytes held.
    pub(crate) fn memory_bytes(&self) -> u64 {
        (self.slots.capacity() * size_of::<Slot<T>>()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Kind;

    #[test]
    fn a_stale_id_never_reaches_the_next_owner() {
        let mut slab = Slab::default();
        let a = slab.insert("a");
        let b = slab.insert("b");
        assert_eq!(slab.remove(a), Some("a"));
        let c = slab.insert("c");
        assert_eq!((c.index, slab.len()), (a.index, 2));
        assert_eq!(slab.remove(a), None);
        assert_eq!(slab.get(a), None);
        assert_eq!((slab.get(b), slab.get(c)), (Some(&"b"), Some(&"c")));
        assert_eq!(slab.id_at(c.index), c);
    }

    #[test]
    fn the_slab_does_not_grow_past_the_most_in_flight() {
        let mut slab = Slab::default();
        for round in 0..100 {
            let ids: Vec<TokenId> = (0..8).map(|i| slab.insert(round * 8 + i)).collect();
            for id in ids {
                assert!(slab.remove(id).is_some());
            }
        }
        assert_eq!(slab.slots.len(), 8);
    }

    #[test]
    fn a_dropped_token_is_counted_and_a_returned_one_is_not() {
        let mut slab = Slab::default();
        let id = slab.insert(());
        let token: Token<Kind> = slab.token(id);
        assert_eq!(token.into_id(), id);
        assert_eq!(slab.leaks(), 0);
        let dropped = slab.token::<Kind>(id);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(dropped)));
        assert_eq!(outcome.is_err(), cfg!(debug_assertions));
        assert_eq!(slab.leaks(), 1);
    }
}
