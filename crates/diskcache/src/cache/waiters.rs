//! Who waits for what: operations begun and not completed, their keys, and the pins those hold.
//!
//! Main thread; no IO. A waiter is one `begin_*` call; the caller's `tag` says whose it is. A
//! waiter for keys is linked to each load it needs and wakes when the last has come. All keys it
//! named, loaded or resident before, are *pinned* until it has run: they are not evicted, so the
//! command that runs after the wake finds every one of them and nobody waits twice for the same
//! key.
//!
//! Waiters for keys also stand in one line, oldest first. Under memory pressure only the first in
//! line gets new reads, so clients whose pins together exceed the limit take turns instead of
//! waiting for each other.
//!
//! Source: Redis's diskstore cache (dscache.c, 2010 to 2011); KeyDB's two-phase storage calls
//! (async FLASH).

use std::collections::VecDeque;

use hashbrown::HashTable;

use super::job::Failure;
use super::loads::Loads;
use super::op::Output;
use crate::key::{KeyRef, Seq, Space};
use crate::token::{NONE, Slab, Token, TokenId};

/// A finished operation: find the owner by `tag` and complete its token.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Completion {
    /// What the owner gave to `begin_*`.
    pub tag: u64,
    /// The token to complete.
    pub token: TokenId,
}

#[derive(Debug)]
struct Waiter {
    tag: u64,
    stage: Stage,
    /// Loads that have not come.
    missing: u32,
    /// First of its links, [`NONE`] when it waits for something else than keys.
    links: u32,
    /// Neighbours in the line of those who wait for keys.
    older: u32,
    newer: u32,
    result: Result<Output, Failure>,
}

#[derive(Copy, Clone, Eq, PartialEq, Debug)]
enum Stage {
    Waiting,
    /// Its completion was posted.
    Finished,
    /// Completed; its keys stay pinned until it says that it has run.
    Running,
}

/// One key of one waiter.
#[derive(Debug)]
struct Link {
    waiter: TokenId,
    space: Space,
    hash: u64,
    /// The load it waits for; a stale name once that came.
    load: Option<TokenId>,
    next_of_waiter: u32,
    next_of_load: u32,
    /// The waiter's chain names it; freed when this and `in_load` are gone.
    held: bool,
    /// A load's chain names it.
    in_load: bool,
}

#[derive(Debug)]
struct Pin {
    space: Space,
    hash: u64,
    count: u32,
}

/// Those who wait for one thing that is not a key, oldest first, each with what it needs. Who left
/// before its turn is still named.
type Line<T> = VecDeque<(T, TokenId)>;

/// Names of those who left that a line may have beside as many as wait.
const LEFT_MAX: usize = 16;

/// All waiters.
#[derive(Debug)]
pub(super) struct Waiters {
    waiters: Slab<Waiter>,
    links: Slab<Link>,
    /// How many links pin a hash.
    pins: HashTable<Pin>,
    oldest: u32,
    newest: u32,
    posted: VecDeque<Completion>,
    for_room: Line<u64>,
    for_sync: Line<Seq>,
    for_mark: Line<Seq>,
    for_drain: Line<Seq>,
    blocked: usize,
    /// Stretches that came and were not taken.
    stretches: usize,
}

impl Default for Waiters {
    fn default() -> Self {
        Self {
            waiters: Slab::default(),
            links: Slab::default(),
            pins: HashTable::new(),
            oldest: NONE,
            newest: NONE,
            posted: VecDeque::new(),
            for_room: Line::new(),
            for_sync: Line::new(),
            for_mark: Line::new(),
            for_drain: Line::new(),
            blocked: 0,
            stretches: 0,
        }
    }
}

impl Waiters {
    /// A waiter for something that is not a key.
    pub(super) fn begin(&mut self, tag: u64) -> TokenId {
        self.blocked += 1;
        self.waiters.insert(Waiter {
            tag,
            stage: Stage::Waiting,
            missing: 0,
            links: NONE,
            older: NONE,
            newer: NONE,
            result: Ok(Output::Nothing),
        })
    }

    /// A waiter for keys, last in line.
    pub(super) fn begin_keys(&mut self, tag: u64) -> TokenId {
        let id = self.begin(tag);
        let older = std::mem::replace(&mut self.newest, id.index);
        match older {
            NONE => self.oldest = id.index,
            older => self.at(older).newer = id.index,
        }
        self.at(id.index).older = older;
        id
    }

    fn at(&mut self, index: u32) -> &mut Waiter {
        let id = self.waiters.id_at(index);
        self.waiters.get_mut(id).expect("indices in the line name waiters")
    }

    /// The token for a waiter just begun.
    pub(super) fn token<K>(&self, id: TokenId) -> Token<K> {
        self.waiters.token(id)
    }

    /// Pins `key` for `waiter`; with a load, the waiter also waits for it.
    pub(super) fn need(
        &mut self,
        waiter: TokenId,
        key: KeyRef<'_>,
        load: Option<(&mut Loads, TokenId)>,
    ) {
        let slot = self.waiters.get_mut(waiter).expect("just begun");
        let link = self.links.insert(Link {
            waiter,
            space: key.space,
            hash: key.hash,
            load: load.as_ref().map(|(_, id)| *id),
            next_of_waiter: slot.links,
            next_of_load: NONE,
            held: true,
            in_load: load.is_some(),
        });
        slot.links = link.index;
        let same = |pin: &Pin| (pin.space, pin.hash) == (key.space, key.hash);
        self.pins
            .entry(key.hash, same, |pin| pin.hash)
            .or_insert(Pin { space: key.space, hash: key.hash, count: 0 })
            .get_mut()
            .count += 1;
        if let Some((loads, id)) = load {
            slot.missing += 1;
            let load = loads.get_mut(id).expect("just joined");
            self.links.get_mut(link).expect("just made").next_of_load = load.links;
            load.links = link.index;
        }
    }

    /// Whether anybody needs an entry with this hash to stay.
    pub(super) fn pins(&self, space: Space, hash: u64) -> bool {
        let same = |pin: &Pin| (pin.space, pin.hash) == (space, hash);
        !self.pins.is_empty() && self.pins.find(hash, same).is_some()
    }

    /// Whether some waiter still wants the load with this chain.
    pub(super) fn wanted(&self, links: u32) -> bool {
        self.chain(links).any(|waiter| self.is_waiting(waiter))
    }

    /// Whether the first in line wants the load with this chain.
    pub(super) fn wanted_by_oldest(&self, links: u32) -> bool {
        self.oldest != NONE
            && self.chain(links).any(|w| w.index == self.oldest && self.is_waiting(w))
    }

    pub(super) fn is_waiting(&self, waiter: TokenId) -> bool {
        is_waiting(&self.waiters, waiter)
    }

    fn chain(&self, first: u32) -> impl Iterator<Item = TokenId> + '_ {
        let mut next = first;
        std::iter::from_fn(move || {
            let link = (next != NONE).then(|| self.links.get(self.links.id_at(next))).flatten()?;
            next = link.next_of_load;
            Some(link.waiter)
        })
    }

    /// A load came back: everybody in its chain has one key less to wait for.
    pub(super) fn load_came(&mut self, links: u32, failure: Option<Failure>) {
        let mut next = links;
        while next != NONE {
            let id = self.links.id_at(next);
            let link = self.links.get_mut(id).expect("a chain names links");
            next = std::mem::replace(&mut link.next_of_load, NONE);
            link.in_load = false;
            let waiter = link.waiter;
            if !link.held {
                self.links.remove(id);
                continue;
            }
            let slot = self.waiters.get_mut(waiter).expect("it holds the link");
            slot.missing -= 1;
            if let (Some(failure), Ok(_)) = (failure, &slot.result) {
                slot.result = Err(failure);
            }
            if slot.missing == 0 && slot.stage == Stage::Waiting {
                self.post(waiter);
            }
        }
    }

    fn post(&mut self, id: TokenId) {
        let slot = self.waiters.get_mut(id).expect("posted while it waits");
        slot.stage = Stage::Finished;
        self.blocked -= 1;
        self.posted.push_back(Completion { tag: slot.tag, token: id });
    }

    /// Finishes a waiter for something that is not a key; a stale name is ignored.
    pub(super) fn finish(&mut self, id: TokenId, result: Result<Output, Failure>) {
        if self.is_waiting(id) {
            self.stretches += is_stretch(&result);
            self.waiters.get_mut(id).expect("it waits").result = result;
            self.post(id);
        }
    }

    /// Moves completions to `out`; those of waiters that were abandoned are dropped.
    pub(super) fn poll(&mut self, out: &mut Vec<Completion>) {
        let waiters = &self.waiters;
        out.extend(self.posted.drain(..).filter(|c| waiters.get(c.token).is_some()));
    }

    /// Whether completions wait to be polled.
    pub(super) fn has_posted(&self) -> bool {
        !self.posted.is_empty()
    }

    /// Takes the result; pins stay when `keep` and the result is good.
    pub(super) fn complete(&mut self, id: TokenId, keep: bool) -> Result<Output, Failure> {
        let slot = self.waiters.get_mut(id).expect("a token names its waiter");
        assert_eq!(slot.stage, Stage::Finished, "completed before its completion");
        let result = std::mem::replace(&mut slot.result, Ok(Output::Nothing));
        self.stretches -= is_stretch(&result);
        if keep && result.is_ok() {
            slot.stage = Stage::Running;
        } else {
            self.leave(id);
        }
        result
    }

    /// Removes a waiter in any stage: pins are undone, and nothing more is posted for it.
    pub(super) fn leave(&mut self, id: TokenId) {
        let Some(waiter) = self.waiters.remove(id) else { return };
        self.blocked -= usize::from(waiter.stage == Stage::Waiting);
        self.stretches -= is_stretch(&waiter.result);
        let in_line = waiter.older != NONE || waiter.newer != NONE || self.oldest == id.index;
        if in_line {
            match waiter.older {
                NONE => self.oldest = waiter.newer,
                older => self.at(older).newer = waiter.newer,
            }
            match waiter.newer {
                NONE => self.newest = waiter.older,
                newer => self.at(newer).older = waiter.older,
            }
        }
        self.unlink(&waiter);
    }

    fn unlink(&mut self, waiter: &Waiter) {
        let mut next = waiter.links;
        while next != NONE {
            let id = self.links.id_at(next);
            let link = self.links.get_mut(id).expect("a waiter names its links");
            let (space, hash) = (link.space, link.hash);
            next = link.next_of_waiter;
            link.held = false;
            if !link.in_load {
                self.links.remove(id);
            }
            let same = |pin: &Pin| (pin.space, pin.hash) == (space, hash);
            let mut pin = self.pins.find_entry(hash, same).expect("pinned by this link");
            pin.get_mut().count -= 1;
            if pin.get().count == 0 {
                pin.remove();
            }
        }
    }

    /// Cancels a waiter: it completes with `Cancelled`, unless it had finished already.
    pub(super) fn cancel(&mut self, id: TokenId) {
        if self.is_waiting(id) {
            self.waiters.get_mut(id).expect("it waits").result = Err(Failure::CANCELLED);
            self.post(id);
        }
    }

    /// Waiters that have not finished.
    pub(super) fn blocked(&self) -> usize {
        self.blocked
    }

    /// Stretches that came and were not taken.
    pub(super) fn stretches(&self) -> usize {
        self.stretches
    }

    /// The loads that the first in line named; some may have come.
    pub(super) fn oldest_loads(&self) -> Vec<TokenId> {
        let oldest = (self.oldest != NONE).then(|| self.waiters.id_at(self.oldest));
        let mut next = oldest.and_then(|id| self.waiters.get(id)).map_or(NONE, |w| w.links);
        let mut loads = Vec::new();
        while next != NONE {
            let link = self.links.get(self.links.id_at(next)).expect("a waiter names its links");
            loads.extend(link.load);
            next = link.next_of_waiter;
        }
        loads
    }

    pub(super) fn wait_room(&mut self, id: TokenId, need_bytes: u64) {
        Self::stand(&self.waiters, self.blocked, &mut self.for_room, (need_bytes, id));
    }

    /// Adds to the end of a line. However long what it waits for does not come, and however many
    /// give up meanwhile, it is not much longer than they are who wait.
    fn stand<T>(waiters: &Slab<Waiter>, blocked: usize, line: &mut Line<T>, entry: (T, TokenId)) {
        if line.len() > 2 * blocked + LEFT_MAX {
            line.retain(|(_, id)| is_waiting(waiters, *id));
        }
        line.push_back(entry);
    }

    /// What the first writer in line needs.
    pub(super) fn first_for_room(&mut self) -> Option<u64> {
        while let Some((need, id)) = self.for_room.front().copied() {
            if self.is_waiting(id) {
                return Some(need);
            }
            self.for_room.pop_front();
        }
        None
    }

    /// Lets the first writer in line run.
    pub(super) fn grant_room(&mut self) {
        if let Some((_, id)) = self.for_room.pop_front() {
            self.finish(id, Ok(Output::Nothing));
        }
    }

    /// Ends the wait of every writer in line.
    pub(super) fn refuse_room(&mut self, failure: Failure) {
        while let Some((_, id)) = self.for_room.pop_front() {
            self.finish(id, Err(failure));
        }
    }

    pub(super) fn wait_sync(&mut self, id: TokenId, upto: Seq) {
        Self::stand(&self.waiters, self.blocked, &mut self.for_sync, (upto, id));
    }

    /// Finishes the syncs that `durable` covers.
    pub(super) fn wake_sync(&mut self, durable: Seq) {
        while let Some((_, id)) = self.for_sync.pop_front_if(|(upto, _)| *upto <= durable) {
            self.finish(id, Ok(Output::Nothing));
        }
    }

    pub(super) fn wait_mark(&mut self, id: TokenId, upto: Seq) {
        Self::stand(&self.waiters, self.blocked, &mut self.for_mark, (upto, id));
    }

    /// Finishes the ends that the watermark file covers.
    pub(super) fn wake_mark(&mut self, marked: Seq) {
        while let Some((_, id)) = self.for_mark.pop_front_if(|(upto, _)| *upto <= marked) {
            self.finish(id, Ok(Output::Nothing));
        }
    }

    pub(super) fn wait_drain(&mut self, id: TokenId, upto: Seq) {
        Self::stand(&self.waiters, self.blocked, &mut self.for_drain, (upto, id));
    }

    /// Finishes the drains that `drained` covers.
    pub(super) fn wake_drain(&mut self, drained: Seq) {
        while let Some((_, id)) = self.for_drain.pop_front_if(|(upto, _)| *upto <= drained) {
            self.finish(id, Ok(Output::Nothing));
        }
    }

    /// Ends every drain.
    pub(super) fn refuse_drains(&mut self, failure: Failure) {
        while let Some((_, id)) = self.for_drain.pop_front() {
            self.finish(id, Err(failure));
        }
    }

    /// Finishes everybody who waits, with `failure`.
    pub(super) fn fail_all(&mut self, failure: Failure) {
        for id in self.waiters.ids().collect::<Vec<_>>() {
            self.finish(id, Err(failure));
        }
    }

    /// Tokens dropped without being completed.
    pub(super) fn leaks(&self) -> u64 {
        self.waiters.leaks()
    }

    /// Bytes held.
    pub(super) fn memory_bytes(&self) -> u64 {
        let pins = self.pins.allocation_size() as u64;
        self.waiters.memory_bytes() + self.links.memory_bytes() + pins
    }
}

fn is_waiting(waiters: &Slab<Waiter>, waiter: TokenId) -> bool {
    waiters.get(waiter).is_some_and(|w| w.stage == Stage::Waiting)
}

/// 1 for a stretch of keys.
fn is_stretch(result: &Result<Output, Failure>) -> usize {
    usize::from(matches!(result, Ok(Output::Stretch(_))))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who gives up is named until its turn comes, which it may not for as long as an engine hangs.
    #[test]
    fn those_who_leave_a_line_do_not_pile_up_in_it() {
        let mut waiters = Waiters::default();
        let stand = |waiters: &mut Waiters, tag| {
            let ids = [(); 4].map(|()| waiters.begin(tag));
            waiters.wait_room(ids[0], 1);
            waiters.wait_sync(ids[1], Seq(tag));
            waiters.wait_mark(ids[2], Seq(tag));
            waiters.wait_drain(ids[3], Seq(tag));
            ids
        };
        for tag in 1..1000 {
            let ids = stand(&mut waiters, tag);
            // Every hundredth stays.
            if !tag.is_multiple_of(100) {
                ids.into_iter().for_each(|id| waiters.leave(id));
            }
        }
        assert_eq!(waiters.blocked(), 4 * 9);
        let lines = [&waiters.for_sync, &waiters.for_mark, &waiters.for_drain];
        let longest = lines.map(VecDeque::len).into_iter().max();
        let longest = longest.max(Some(waiters.for_room.len()));
        assert!(longest <= Some(2 * 40 + LEFT_MAX + 1), "{longest:?} for 9 who wait");
        waiters.grant_room();
        waiters.wake_sync(Seq(250));
        waiters.wake_mark(Seq(1000));
        waiters.wake_drain(Seq(899));
        let mut out = Vec::new();
        waiters.poll(&mut out);
        let tags: Vec<u64> = out.iter().map(|completion| completion.tag / 100).collect();
        assert_eq!(tags, [1, 1, 2, 1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7, 8]);
    }
}
