//! Keys being read: at most one read of a key at a time, however many clients wait. Pure; main.
//!
//! | phase | meaning | leaves by |
//! |---|---|---|
//! | Queued (LOAD) | wanted, not handed to a worker | a free place (Loading), nobody waiting (gone) |
//! | Loading (LOADINPROG) | a worker reads it | its completion |
//!
//! LOAD and LOADINPROG are two phases of one entry, so they cannot be set together, and a
//! second client that wants the key joins whatever phase it is in.
//!
//! Why a loaded value is never outdated when it goes in: a key is loaded only while the home
//! knows nothing of it, and what a write makes resident stays resident at least until the load
//! returns, because a load in flight pins its hash against eviction. So "the home knows the key
//! now" is exactly "somebody wrote it meanwhile", and the loaded value is dropped.
//! The one way for entries to leave behind a load's back is the death of their space; loads of
//! that space are marked stale.
//!
//! Source: Redis's diskstore cache (dscache.c, 2010 to 2011),
//! whose two flags for one load could both be set.

use std::collections::VecDeque;

use hashbrown::HashTable;

use crate::key::{KeyBuf, KeyRef, Space};
use crate::token::{NONE, Slab, TokenId};

/// Where a load stands.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum LoadPhase {
    /// Wanted; no worker has it.
    Queued,
    /// A worker reads it.
    Loading,
}

/// One key on its way in.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) key: KeyBuf,
    pub(super) phase: LoadPhase,
    /// The space died: whatever comes is dropped.
    pub(super) stale: bool,
    /// Asked for ahead of need: it is read although nobody waits, if there is room at its turn.
    pub(super) ahead: bool,
    /// First link of the waiters' chain, see [`super::waiters`].
    pub(super) links: u32,
    pub(super) queued_ms: u64,
}

/// All loads, found by key.
#[derive(Debug, Default)]
pub(super) struct Loads {
    index: HashTable<TokenId>,
    loads: Slab<Load>,
    /// Loads in phase Queued that somebody waits for, or did, oldest first.
    queue: VecDeque<TokenId>,
    /// Those ahead of need, oldest first; with the names of some that have left it.
    ahead: VecDeque<TokenId>,
    loading: usize,
    key_bytes: u64,
}

impl Loads {
    /// The load of `key` for somebody who waits, made if there is none; true when it is new.
    pub(super) fn join(&mut self, key: KeyRef<'_>, now_ms: u64) -> (TokenId, bool) {
        if let Some(id) = self.find(key) {
            let load = self.loads.get_mut(id).expect("the index names loads");
            if std::mem::take(&mut load.ahead) && load.phase == LoadPhase::Queued {
                self.queue.push_back(id);
            }
            return (id, false);
        }
        let id = self.make(key, false, now_ms);
        self.queue.push_back(id);
        (id, true)
    }

    /// A load of `key` that nobody waits for yet, unless there is one; true when there was none.
    pub(super) fn wish(&mut self, key: KeyRef<'_>, now_ms: u64) -> bool {
        if self.find(key).is_some() {
            return false;
        }
        let id = self.make(key, true, now_ms);
        self.ahead.push_back(id);
        true
    }

    fn make(&mut self, key: KeyRef<'_>, ahead: bool, now_ms: u64) -> TokenId {
        let buf = key.to_buf();
        self.key_bytes += buf.as_disk().len() as u64;
        let id = self.loads.insert(Load {
            key: buf,
            phase: LoadPhase::Queued,
            stale: false,
            ahead,
            links: NONE,
            queued_ms: now_ms,
        });
        let loads = &self.loads;
        self.index.insert_unique(key.hash, id, |id| hash_of(loads, *id));
        id
    }

    /// The load of `key`, if there is one.
    pub(super) fn find(&self, key: KeyRef<'_>) -> Option<TokenId> {
        let same = |id: &TokenId| self.loads.get(*id).is_some_and(|l| l.key.as_ref() == key);
        self.index.find(key.hash, same).copied()
    }

    /// Whether a load for this space and hash exists in any phase.
    pub(super) fn pins(&self, space: Space, hash: u64) -> bool {
        let same = |id: &TokenId| {
            self.loads.get(*id).is_some_and(|l| {
                let key = l.key.as_ref();
                key.space == space && key.hash == hash
            })
        };
        !self.index.is_empty() && self.index.find(hash, same).is_some()
    }

    pub(super) fn get(&self, id: TokenId) -> Option<&Load> {
        self.loads.get(id)
    }

    pub(super) fn get_mut(&mut self, id: TokenId) -> Option<&mut Load> {
        self.loads.get_mut(id)
    }

    /// Takes the next queued load off the queue; the caller starts it or finishes it. What is
    /// ahead of need comes when nobody waits.
    pub(super) fn pop(&mut self) -> Option<TokenId> {
        self.queue.pop_front().or_else(|| {
            self.forget_granted();
            self.ahead.pop_front()
        })
    }

    /// Drops names from the front of the loads ahead of need that somebody came to need.
    fn forget_granted(&mut self) {
        let is_wish = |id: &TokenId| self.loads.get(*id).is_some_and(|load| load.ahead);
        while self.ahead.front().is_some_and(|id| !is_wish(id)) {
            self.ahead.pop_front();
        }
    }

    /// Puts a popped load back in front.
    pub(super) fn push_front(&mut self, id: TokenId) {
        self.queue.push_front(id);
    }

    /// Takes one queued load off the queue, wherever it stands; O(queue).
    pub(super) fn unqueue(&mut self, id: TokenId) -> bool {
        let at = self.queue.iter().position(|queued| *queued == id);
        at.is_some_and(|at| self.queue.remove(at).is_some())
    }

    /// A popped load goes to a worker; the key for the job.
    pub(super) fn start(&mut self, id: TokenId) -> Option<KeyBuf> {
        let load = self.loads.get_mut(id)?;
        assert_eq!(load.phase, LoadPhase::Queued, "one read at a time");
        load.phase = LoadPhase::Loading;
        self.loading += 1;
        Some(load.key.clone())
    }

    /// Removes a load that was popped or has come back.
    pub(super) fn finish(&mut self, id: TokenId) -> Option<Load> {
        let load = self.loads.remove(id)?;
        let found = self.index.find_entry(load.key.as_ref().hash, |other| *other == id);
        if let Ok(entry) = found {
            entry.remove();
        }
        self.key_bytes -= load.key.as_disk().len() as u64;
        self.loading -= usize::from(load.phase == LoadPhase::Loading);
        Some(load)
    }

    /// Marks every load of a dead space; what they bring is dropped. Shows `each` the chains of
    /// their waiters, which are no longer theirs.
    pub(super) fn outdate(&mut self, space: Space, each: &mut impl FnMut(u32)) {
        for id in &self.index {
            let load = self.loads.get_mut(*id).expect("the index names loads");
            if load.key.as_ref().space == space {
                load.stale = true;
                each(std::mem::replace(&mut load.links, NONE));
            }
        }
    }

    /// Places taken in the queue of loads ahead of need.
    pub(super) fn wishes(&mut self) -> usize {
        self.forget_granted();
        self.ahead.len()
    }

    /// Whether no key is on its way in.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Loads that no worker has yet.
    pub(super) fn queued(&self) -> usize {
        self.loads.len() - self.loading
    }

    /// Loads that workers have.
    pub(super) fn loading(&self) -> usize {
        self.loading
    }

    /// Bytes held, keys in jobs included.
    pub(super) fn memory_bytes(&self) -> u64 {
        // A key in flight exists twice: here and in its job.
        let index = self.index.allocation_size() as u64;
        self.loads.memory_bytes() + index + 2 * self.key_bytes
    }

    /// Each load that no worker has stands in the queue that it belongs to, once; the queue of
    /// those that somebody waits for names nothing else.
    #[cfg(test)]
    pub(super) fn assert_whole(&self) {
        for id in self.loads.ids() {
            let load = self.loads.get(id).expect("it was listed");
            let times = |queue: &VecDeque<TokenId>| queue.iter().filter(|at| **at == id).count();
            let is_queued = load.phase == LoadPhase::Queued;
            assert_eq!(times(&self.queue), usize::from(is_queued && !load.ahead), "{load:?}");
            let wished = times(&self.ahead);
            assert!(wished <= 1 && (wished == 1 || !(is_queued && load.ahead)), "{load:?}");
        }
        assert!(self.queue.iter().all(|id| self.loads.get(*id).is_some()));
        assert_eq!(self.index.len(), self.loads.len());
    }
}

fn hash_of(loads: &Slab<Load>, id: TokenId) -> u64 {
    loads.get(id).map_or(0, |load| load.key.as_ref().hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(space: u32, name: &[u8]) -> KeyRef<'_> {
        // One hash for all: the table must tell keys apart by their bytes.
        KeyRef { space: Space(space), hash: 7, key: name }
    }

    #[test]
    fn a_key_is_loaded_once_and_found_in_both_phases() {
        let mut loads = Loads::default();
        let (a, new) = loads.join(key(1, b"a"), 5);
        assert!(new);
        let (b, _) = loads.join(key(1, b"b"), 6);
        assert_eq!(loads.join(key(1, b"a"), 9), (a, false));
        assert_ne!(loads.join(key(2, b"a"), 9).0, a, "another space is another key");
        assert_eq!((loads.queued(), loads.loading()), (3, 0));

        assert_eq!(loads.pop(), Some(a));
        assert_eq!(loads.start(a).map(|k| k.as_ref().key.to_vec()), Some(b"a".to_vec()));
        assert_eq!(loads.join(key(1, b"a"), 9), (a, false));
        assert_eq!((loads.queued(), loads.loading()), (2, 1));
        assert!(loads.pins(Space(1), 7) && !loads.pins(Space(3), 7));

        assert!(loads.unqueue(b) && !loads.unqueue(b));
        assert!(loads.finish(b).is_some());
        assert!(loads.finish(a).is_some());
        assert_eq!((loads.finish(a).is_none(), loads.find(key(1, b"a"))), (true, None));
        let (again, new) = loads.join(key(1, b"a"), 10);
        assert!(new && again != a, "a new load has a new name");
    }

    #[test]
    fn a_dead_space_outdates_its_own_loads_only() {
        let mut loads = Loads::default();
        let (a, _) = loads.join(key(1, b"a"), 0);
        let (b, _) = loads.join(key(2, b"a"), 0);
        loads.outdate(Space(1), &mut |_| ());
        assert!(loads.get(a).is_some_and(|l| l.stale));
        assert!(loads.get(b).is_some_and(|l| !l.stale));
    }

    #[test]
    fn what_somebody_waits_for_comes_before_what_nobody_does() {
        let mut loads = Loads::default();
        assert!(loads.wish(key(1, b"a"), 0) && loads.wish(key(1, b"b"), 0));
        assert!(!loads.wish(key(1, b"a"), 0));
        let (waited, _) = loads.join(key(1, b"w"), 1);
        let (joined, new) = loads.join(key(1, b"b"), 2);
        assert!(!new, "the wish became the load of somebody");
        assert_eq!((loads.queued(), loads.wishes()), (3, 2));
        assert_eq!((loads.pop(), loads.pop()), (Some(waited), Some(joined)));
        let last = loads.pop().and_then(|id| loads.start(id)).map(|k| k.as_ref().key.to_vec());
        assert_eq!((last, loads.pop()), (Some(b"a".to_vec()), None));
        assert_eq!((loads.wishes(), loads.loading()), (0, 1), "nothing is named twice");
        assert!(loads.wish(key(1, b"c"), 3));
        loads.join(key(1, b"c"), 4);
        assert_eq!(loads.wishes(), 0, "a wish that was granted takes no place");
    }

    #[test]
    fn an_idle_table_holds_no_keys() {
        let mut loads = Loads::default();
        for n in 0..100_u32 {
            loads.join(key(n + 1, b"some key"), 0);
        }
        let busy = loads.memory_bytes();
        while let Some(id) = loads.pop() {
            loads.start(id);
            loads.finish(id);
        }
        assert_eq!((loads.queued(), loads.loading(), loads.key_bytes), (0, 0, 0));
        assert!(loads.memory_bytes() < busy);
    }
}
