//! Which space each database is, which spaces are dead, and how many keys each holds. Pure; main.
//!
//! FLUSHDB gives the database a fresh space number and FLUSHALL does so for all, SWAPDB exchanges
//! two: one small record in the journal each, whatever the number of keys, and nothing queued or
//! in flight can bring a flushed key back, because it names a space that no database has. The
//! engine reclaims dead spaces in its own time.
//!
//! **Counts.** `live` is what DBSIZE answers. A write to a resident key knows whether the key
//! existed; a blind write to a key that is not in memory takes it for new and counts as
//! *unknown*. The engine looks unknown keys up as it commits them and returns exact counts; the
//! difference to what was expected corrects `live`. So the count is exact whenever no blind write
//! is waiting for its commit, and it is never computed by counting keys.
//!
//! A space that is empty on disk answers for all its non-resident keys at once: they are absent,
//! with no read and no negative entry.
//!
//! Source: KeyDB issue 627, a SWAPDB that was lost at a restart, as the case to pass.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::journal::SpaceMap;
use crate::key::{Seq, Space};
use crate::storage::Meta;

/// Keys of one space.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub(super) struct Count {
    /// Records in the engine, as of the last settled batch.
    disk: u64,
    /// Keys that exist, right when `unknown` is 0.
    live: i64,
    /// Blind writes taken for new keys that no commit has resolved.
    unknown: u64,
    /// A key of it was changed in this process.
    is_used: bool,
}

/// How many keys a space holds.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum KeyCount {
    /// Exactly this many.
    Exact(u64),
    /// At most this many, and at most `unknown` fewer: blind writes wait for their commit.
    AtMost {
        /// The count if every blind write made a new key.
        count: u64,
        /// Blind writes in it.
        unknown: u64,
    },
}

#[derive(Copy, Clone, Eq, PartialEq, Debug)]
struct Dead {
    space: Space,
    /// The first batch whose keys were chosen after the death; none of its keys is in the space.
    from_batch: u64,
}

/// The map from databases to spaces, with counts.
#[derive(Debug)]
pub(super) struct Spaces {
    of_db: Vec<Space>,
    next: u32,
    dead: Vec<Dead>,
    /// Sorted by space; living spaces only.
    counts: Vec<(Space, Count)>,
    /// Records of every space, dead ones too, as of the last settled batch.
    on_disk: BTreeMap<Space, u64>,
    /// The map changed since the last batch took it along.
    pub(super) is_changed: bool,
}

impl Spaces {
    /// The state after `meta`.
    pub(super) fn new(meta: &Meta) -> Self {
        let mut spaces = Self {
            of_db: meta.spaces.clone(),
            next: meta.next_space.max(1),
            dead: meta.dead.iter().map(|s| Dead { space: *s, from_batch: 0 }).collect(),
            counts: Vec::new(),
            on_disk: meta.counts.clone(),
            is_changed: false,
        };
        spaces.recount();
        spaces
    }

    /// Adds databases up to `databases`; true when there were fewer.
    pub(super) fn extend(&mut self, databases: usize) -> bool {
        let missing = databases.saturating_sub(self.of_db.len());
        for _ in 0..missing {
            let space = self.fresh();
            self.of_db.push(space);
        }
        self.is_changed |= missing > 0;
        self.recount();
        missing > 0
    }

    fn fresh(&mut self) -> Space {
        let space = Space(self.next);
        self.next = self.next.checked_add(1).expect("fewer than 2^32 flushes");
        space
    }

    /// Keeps the counts of the spaces that live on, and starts the others from what is on disk.
    fn recount(&mut self) {
        let old = std::mem::take(&mut self.counts);
        self.counts = self
            .of_db
            .iter()
            .map(|space| {
                let known = old.binary_search_by_key(space, |(s, _)| *s).ok().map(|at| old[at].1);
                let disk = self.on_disk.get(space).copied().unwrap_or(0);
                let live = i64::try_from(disk).unwrap_or(i64::MAX);
                (*space, known.unwrap_or(Count { disk, live, ..Count::default() }))
            })
            .collect();
        self.counts.sort_unstable_by_key(|(space, _)| *space);
    }

    /// Takes the map over from the journal, in replay. It may be older than the engine's; then a
    /// newer one follows. Returns the spaces that no database has any more.
    pub(super) fn adopt(&mut self, map: &SpaceMap) -> Vec<Space> {
        let gone: Vec<Space> =
            self.of_db.iter().filter(|s| !map.spaces.contains(s)).copied().collect();
        // What replay wrote into a space that was dead and purged in the life before is there
        // again, whatever the map of that life says of it: every space that ever died is kept,
        // until the engine has nothing of it.
        let known: Vec<Space> = self.dead.iter().map(|dead| dead.space).collect();
        let mut dead = [&known[..], &gone[..], &map.dead[..]].concat();
        dead.retain(|space| !map.spaces.contains(space));
        dead.sort_unstable();
        dead.dedup();
        self.dead = dead.into_iter().map(|space| Dead { space, from_batch: 0 }).collect();
        self.of_db.clone_from(&map.spaces);
        self.next = self.next.max(map.next_space);
        self.is_changed = true;
        self.recount();
        gone
    }

    /// The map as the journal keeps it.
    pub(super) fn to_map(&self) -> SpaceMap {
        SpaceMap {
            spaces: self.of_db.clone(),
            next_space: self.next,
            dead: self.dead.iter().map(|dead| dead.space).collect(),
        }
    }

    /// The state that a batch takes along.
    pub(super) fn to_meta(&self, watermark: Seq, highest: Seq) -> Meta {
        let SpaceMap { spaces, next_space, dead } = self.to_map();
        Meta { watermark, highest, spaces, next_space, dead, counts: BTreeMap::new() }
    }

    /// Databases.
    pub(super) fn len(&self) -> usize {
        self.of_db.len()
    }

    /// The space of database `db`.
    #[inline]
    pub(super) fn of_db(&self, db: usize) -> Option<Space> {
        self.of_db.get(db).copied()
    }

    /// Gives each database of `dbs` that there is, and that may hold something, a fresh space, and
    /// shows the old ones to `each`; true if there was one. `next_batch` is the number of the first
    /// batch that is not begun yet, and `is_in_batch` says of which spaces those before have keys.
    ///
    /// Only a space of which the engine has, or will have, records is *dead*: the map, which each
    /// flush logs whole, does not grow with the number of flushes.
    pub(super) fn flush_all(
        &mut self,
        dbs: Range<usize>,
        next_batch: u64,
        is_in_batch: impl Fn(Space) -> bool,
        mut each: impl FnMut(Space),
    ) -> bool {
        let mut is_any = false;
        for db in dbs.start..dbs.end.min(self.of_db.len()) {
            let space = self.of_db[db];
            if self.is_unused(space) {
                continue;
            }
            is_any = true;
            each(space);
            self.of_db[db] = self.fresh();
            if self.on_disk.get(&space).is_some_and(|n| *n > 0) || is_in_batch(space) {
                self.dead.push(Dead { space, from_batch: next_batch });
            }
        }
        self.is_changed |= is_any;
        if is_any {
            self.recount();
        }
        is_any
    }

    /// Exchanges the spaces of two databases.
    pub(super) fn swap(&mut self, a: usize, b: usize) -> Option<()> {
        if a.max(b) >= self.of_db.len() {
            return None;
        }
        self.of_db.swap(a, b);
        self.is_changed = true;
        Some(())
    }

    fn at(&self, space: Space) -> Option<usize> {
        self.counts.binary_search_by_key(&space, |(s, _)| *s).ok()
    }

    /// Whether some database has this space.
    pub(super) fn is_alive(&self, space: Space) -> bool {
        self.at(space).is_some()
    }

    /// Whether the engine holds no key of the space, so that only resident keys exist.
    pub(super) fn is_empty_on_disk(&self, space: Space) -> bool {
        self.at(space).is_none_or(|at| self.counts[at].1.disk == 0)
    }

    /// Whether neither the engine nor anything logged has a key of the space.
    fn is_unused(&self, space: Space) -> bool {
        self.at(space).is_some_and(|at| {
            let count = self.counts[at].1;
            count.disk == 0 && !count.is_used
        })
    }

    /// A key came to be (`by` 1) or ceased to be (-1).
    pub(super) fn count(&mut self, space: Space, by: i64) {
        if let Some(at) = self.at(space) {
            let count = &mut self.counts[at].1;
            count.live += by;
            count.is_used = true;
        }
    }

    /// A key was written of which it is not known whether it existed; taken for new when it
    /// `exists` now.
    pub(super) fn count_blind(&mut self, space: Space, exists: bool) {
        if let Some(at) = self.at(space) {
            let count = &mut self.counts[at].1;
            count.live += i64::from(exists);
            count.unknown += 1;
            count.is_used = true;
        }
    }

    /// A batch is durable: `expected` changes and unknown keys of each space against what the
    /// engine returned.
    pub(super) fn settle(
        &mut self,
        batch: u64,
        expected: &BTreeMap<Space, Expected>,
        returned: &BTreeMap<Space, u64>,
    ) {
        for (space, count) in &mut self.counts {
            let now = returned.get(space).copied().unwrap_or(0);
            let expected = expected.get(space).copied().unwrap_or_default();
            let foreseen = signed(count.disk) + expected.change;
            count.live += signed(now) - foreseen;
            count.unknown -= expected.unknown;
            count.disk = now;
        }
        self.on_disk.clone_from(returned);
        self.dead.retain(|dead| {
            batch < dead.from_batch || returned.get(&dead.space).is_some_and(|n| *n > 0)
        });
    }

    /// Keys of a living space; 0 for a dead one.
    pub(super) fn key_count(&self, space: Space) -> KeyCount {
        let Some(at) = self.at(space) else { return KeyCount::Exact(0) };
        let Count { live, unknown, .. } = self.counts[at].1;
        let count = u64::try_from(live).unwrap_or(0);
        if unknown == 0 { KeyCount::Exact(count) } else { KeyCount::AtMost { count, unknown } }
    }
}

/// What a batch should do to the count of a space.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub(super) struct Expected {
    /// Records gained, blind writes taken for new keys.
    pub(super) change: i64,
    /// Blind writes.
    pub(super) unknown: u64,
}

fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Spaces {
        let spaces = vec![Space(1), Space(2), Space(3)];
        let counts = BTreeMap::from([(Space(2), 5)]);
        Spaces::new(&Meta { spaces, next_space: 4, counts, ..Meta::default() })
    }

    fn flush(spaces: &mut Spaces, held: Option<Space>) -> Vec<Space> {
        let mut gone = Vec::new();
        let is_any = spaces.flush_all(0..9, 1, |at| Some(at) == held, |space| gone.push(space));
        assert_eq!(is_any, !gone.is_empty());
        gone
    }

    /// A client that flushes in a loop made the log grow with the square of the flushes: each map
    /// named every database that any flush before had left, empty ones too.
    #[test]
    fn a_flush_leaves_behind_what_the_engine_has_and_nothing_else() {
        let mut spaces = three();
        assert_eq!(flush(&mut spaces, None), [Space(2)], "the others are empty");
        assert_eq!(spaces.to_map().dead, [Space(2)]);
        assert_eq!(flush(&mut spaces, None), [], "nothing happened since");
        for n in 4..100 {
            assert_eq!(spaces.of_db(1), Some(Space(n)));
            spaces.count(Space(n), 1);
            assert_eq!(flush(&mut spaces, None), [Space(n)]);
        }
        assert_eq!(spaces.to_map().dead, [Space(2)], "no other was ever written");
        spaces.count_blind(Space(1), true);
        assert_eq!(flush(&mut spaces, Some(Space(1))), [Space(1)]);
        assert_eq!(spaces.to_map().dead, [Space(2), Space(1)], "a batch has keys of it");
    }

    #[test]
    fn a_database_whose_last_key_is_gone_again_is_flushed_all_the_same() {
        let mut spaces = three();
        spaces.count(Space(1), 1);
        spaces.count(Space(1), -1);
        // What was logged of it must not be replayed into it.
        assert_eq!(flush(&mut spaces, None), [Space(1), Space(2)]);
    }
}
