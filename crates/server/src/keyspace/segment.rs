//! A small hash table whose buckets lie in hash order: the unit in which the keyspace grows.
//!
//! Main thread. Holds the entries whose hashes share their first `depth` bits. A bucket is one
//! cache line of eight slots; the bucket of a hash is a monotone function of the hash, whatever
//! the number of buckets, so walking buckets walks hashes in order and SCAN needs no other index.
//! An entry whose bucket is full goes to the stash, a short list that only look-ups of marked
//! buckets visit. Rejected: probing into neighbour buckets, which loses the hash order that SCAN
//! and the merge with the disk rest on; chaining, which costs a pointer a key.
//!
//! Cost: growing or splitting touches at most 1,024 entries, so no insert pays for more.

use std::mem;

use super::entry::{Entry, EntryRef, Slot, prefetch, tag_of};

/// Slots of a bucket: one cache line.
const WIDTH: usize = 8;
/// Bucket counts a segment goes through before it splits; each step grows by at most half above
/// 64, so that slots stay between one half and three quarters full.
const SIZES: [u16; 7] = [1, 4, 16, 32, 64, 96, 128];
/// Index into `SIZES` of the two halves after a split.
pub(super) const AFTER_SPLIT: usize = 5;
/// Slots of a segment of the last size.
const SLOTS_MAX: usize = 128 * WIDTH;
/// Two neighbours with fewer entries than this in all become one.
pub(super) const MERGE_BELOW: usize = SLOTS_MAX / 3;

/// The slots of the hashes of one stretch.
#[repr(align(64))]
#[derive(Debug)]
pub(super) struct Bucket([Slot; WIDTH]);

const _: () = assert!(size_of::<Bucket>() == 64);

impl Bucket {
    const EMPTY: Self = Self([const { Slot::EMPTY }; WIDTH]);

    /// Asks for its line.
    pub(super) fn prefetch(&self) {
        prefetch(self);
    }

    /// The slot that a hash most likely belongs to, by its tag alone.
    pub(super) fn likely(&self, hash: u64) -> Option<&Slot> {
        let tag = tag_of(hash);
        self.0.iter().find(|slot| slot.matches(tag))
    }
}

/// Where an entry lies inside its segment. Valid until the next change of the segment; ordered as
/// a look through one bucket and the stash meets them.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Debug)]
pub(super) enum Place {
    /// Bucket and slot.
    Bucket(u8, u8),
    /// Index into the stash.
    Stash(u16),
}

/// See the module doc.
#[derive(Debug)]
pub(super) struct Segment {
    buckets: Box<[Bucket]>,
    /// Entries whose bucket is full, with their hashes: scanning them must not touch each key.
    stash: Vec<(u64, Slot)>,
    /// Entries, stash included.
    len: u16,
    /// Leading hash bits that all entries share.
    depth: u8,
    /// Index into `SIZES`.
    size: u8,
}

impl Segment {
    /// An empty segment for hashes that share `depth` bits.
    pub(super) fn new(depth: u8, size: usize) -> Self {
        let buckets = (0..SIZES[size]).map(|_| Bucket::EMPTY).collect();
        Self { buckets, stash: Vec::new(), len: 0, depth, size: size as u8 }
    }

    pub(super) fn depth(&self) -> u8 {
        self.depth
    }

    pub(super) fn len(&self) -> usize {
        usize::from(self.len)
    }

    pub(super) fn bucket_count(&self) -> usize {
        self.buckets.len()
    }

    /// Memory of the segment without its entries, in bytes.
    pub(super) fn structure_bytes(&self) -> usize {
        self.buckets.len() * size_of::<Bucket>() + self.stash.capacity() * size_of::<(u64, Slot)>()
    }

    /// The bucket of a hash: monotone in the hash for any number of buckets.
    pub(super) fn bucket_of(&self, hash: u64) -> usize {
        let next16 = (hash << self.depth) >> 48;
        ((next16 * self.buckets.len() as u64) >> 16) as usize
    }

    /// The first hash of bucket `index`, given any hash of this segment.
    pub(super) fn bucket_start(&self, any_hash: u64, index: usize) -> u64 {
        let next16 = ((index as u64) << 16).div_ceil(self.buckets.len() as u64);
        prefix_of(any_hash, self.depth) | (next16 << 48) >> self.depth
    }

    /// The bucket of a hash.
    pub(super) fn bucket(&self, hash: u64) -> &Bucket {
        &self.buckets[self.bucket_of(hash)]
    }

    /// Finds the entry of `key`.
    #[inline]
    pub(super) fn find(&self, hash: u64, key: &[u8]) -> Option<(Place, EntryRef<'_>)> {
        let tag = tag_of(hash);
        let index = self.bucket_of(hash);
        let bucket = &self.buckets[index].0;
        for (i, slot) in bucket.iter().enumerate() {
            if slot.matches(tag)
                && let Some(entry) = slot.entry().filter(|entry| entry.key() == key)
            {
                return Some((Place::Bucket(index as u8, i as u8), entry));
            }
        }
        if bucket[0].mark() { self.find_in_stash(hash, key) } else { None }
    }

    #[cold]
    fn find_in_stash(&self, hash: u64, key: &[u8]) -> Option<(Place, EntryRef<'_>)> {
        self.stash.iter().enumerate().filter(|(_, (h, _))| *h == hash).find_map(|(i, (_, slot))| {
            let entry = slot.entry().filter(|entry| entry.key() == key)?;
            Some((Place::Stash(i as u16), entry))
        })
    }

    /// The first entry behind `after` whose whole hash is `hash`; nearly always there is one at
    /// most.
    pub(super) fn next_of_hash(
        &self,
        hash: u64,
        after: Option<Place>,
        hash_of: impl Fn(&[u8]) -> u64,
    ) -> Option<Place> {
        let (tag, index) = (tag_of(hash), self.bucket_of(hash));
        let tagged = self.buckets[index].0.iter().enumerate().filter(|(_, s)| s.matches(tag));
        let inside = tagged.map(|(i, _)| Place::Bucket(index as u8, i as u8));
        let overflow = self.stash.iter().enumerate().filter(|(_, (h, _))| *h == hash);
        let mut places = inside.chain(overflow.map(|(i, _)| Place::Stash(i as u16)));
        places.find(|&place| {
            let is_it = || self.slot(place).entry().is_some_and(|e| hash_of(e.key()) == hash);
            after.is_none_or(|after| place > after) && is_it()
        })
    }

    /// The slot at `place`.
    pub(super) fn slot(&self, place: Place) -> &Slot {
        match place {
            Place::Bucket(b, s) => &self.buckets[usize::from(b)].0[usize::from(s)],
            Place::Stash(i) => &self.stash[usize::from(i)].1,
        }
    }

    /// The slot at `place`, for changing its entry.
    pub(super) fn slot_mut(&mut self, place: Place) -> &mut Slot {
        match place {
            Place::Bucket(b, s) => &mut self.buckets[usize::from(b)].0[usize::from(s)],
            Place::Stash(i) => &mut self.stash[usize::from(i)].1,
        }
    }

    /// Whether the next insert should first grow or split the segment.
    pub(super) fn is_crowded(&self) -> bool {
        let slots = self.buckets.len() * WIDTH;
        // One bucket alone may fill up: a small database must not pay for empty lines.
        self.len() >= if slots == WIDTH { WIDTH } else { slots / 4 * 3 }
    }

    /// Whether it has the last size, so that crowding means splitting.
    pub(super) fn is_full_size(&self) -> bool {
        usize::from(self.size) == SIZES.len() - 1
    }

    /// Whether so few entries are left that a smaller size, or a merge, would do.
    pub(super) fn is_sparse(&self) -> bool {
        self.size > 0 && self.len() < self.buckets.len() * WIDTH / 6
    }

    /// Adds an entry whose key is not there.
    pub(super) fn insert(&mut self, hash: u64, entry: Entry) -> Place {
        self.len += 1;
        let index = self.bucket_of(hash);
        let bucket = &mut self.buckets[index].0;
        if let Some(i) = bucket.iter().position(Slot::is_empty) {
            bucket[i].fill(entry, tag_of(hash));
            return Place::Bucket(index as u8, i as u8);
        }
        bucket[0].set_mark();
        let mut slot = Slot::EMPTY;
        slot.fill(entry, tag_of(hash));
        self.stash.push((hash, slot));
        Place::Stash((self.stash.len() - 1) as u16)
    }

    /// Takes the entry at `place` out.
    pub(super) fn remove(&mut self, place: Place) -> Entry {
        self.len -= 1;
        let taken = match place {
            Place::Bucket(..) => self.slot_mut(place).take(),
            Place::Stash(i) => self.stash.swap_remove(usize::from(i)).1.take(),
        };
        taken.expect("a place names an entry until the segment changes")
    }

    /// Rebuilds with the next larger (`grow`) or a fitting smaller size.
    pub(super) fn resize(&mut self, grow: bool, hash_of: impl Fn(&[u8]) -> u64) {
        let size = if grow {
            (usize::from(self.size) + 1).min(SIZES.len() - 1)
        } else {
            fitting_size(self.len())
        };
        let mut new = Self::new(self.depth, size);
        self.drain(|entry| {
            let hash = hash_of(entry.get().key());
            new.insert(hash, entry);
        });
        *self = new;
    }

    /// Moves every entry into one of two segments, by the first hash bit that was not shared.
    pub(super) fn split(&mut self, hash_of: impl Fn(&[u8]) -> u64) -> (Self, Self) {
        let bit = 63 - u32::from(self.depth);
        let mut low = Self::new(self.depth + 1, AFTER_SPLIT);
        let mut high = Self::new(self.depth + 1, AFTER_SPLIT);
        self.drain(|entry| {
            let hash = hash_of(entry.get().key());
            let half = if hash >> bit & 1 == 0 { &mut low } else { &mut high };
            half.insert(hash, entry);
        });
        (low, high)
    }

    /// Merges two neighbours that differ in the last shared bit.
    pub(super) fn merge(mut low: Self, mut high: Self, hash_of: impl Fn(&[u8]) -> u64) -> Self {
        let mut both = Self::new(low.depth - 1, fitting_size(low.len() + high.len()));
        for half in [&mut low, &mut high] {
            half.drain(|entry| {
                let hash = hash_of(entry.get().key());
                both.insert(hash, entry);
            });
        }
        both
    }

    /// Takes every entry out. Fetches ahead: most of the cost is waiting for cold keys.
    pub(super) fn drain(&mut self, mut f: impl FnMut(Entry)) {
        const AHEAD: usize = 2;
        for index in 0..self.buckets.len() {
            for ahead in self.buckets.get(index + AHEAD).map_or(&[][..], |b| &b.0) {
                ahead.prefetch();
            }
            self.buckets[index].0.iter_mut().filter_map(Slot::take).for_each(&mut f);
        }
        mem::take(&mut self.stash).into_iter().filter_map(|(_, mut s)| s.take()).for_each(&mut f);
        self.len = 0;
    }

    /// Every entry of one bucket, the stash's share included, in no particular order.
    pub(super) fn bucket_slots(&self, index: usize) -> impl Iterator<Item = &Slot> {
        let bucket = &self.buckets[index].0;
        let stash = if bucket[0].mark() { &self.stash[..] } else { &[] };
        let overflow = stash.iter().filter(move |(hash, _)| self.bucket_of(*hash) == index);
        bucket.iter().filter(|s| !s.is_empty()).chain(overflow.map(|(_, slot)| slot))
    }
}

/// The leading `depth` bits of a hash, the rest zero.
pub(super) const fn prefix_of(hash: u64, depth: u8) -> u64 {
    if depth == 0 { 0 } else { hash & !(u64::MAX >> depth) }
}

/// The smallest size that `len` entries fill to at most one half.
fn fitting_size(len: usize) -> usize {
    let fits = |buckets: u16| usize::from(buckets) * WIDTH >= len * 2;
    SIZES.iter().position(|&n| fits(n)).unwrap_or(SIZES.len() - 1)
}

#[cfg(test)]
mod tests {
    use super::super::entry::NewValue;
    use super::*;

    #[test]
    fn each_entry_of_a_hash_is_met_once() {
        const SAME: u64 = 0x1234_5678_9abc_def0;
        // Names that begin with an s have one hash, which the stash takes when its bucket is full.
        let hash_of = |key: &[u8]| if key[0] == b's' { SAME } else { SAME ^ 1 << 20 };
        let mut segment = Segment::new(0, 0);
        let mut names = Vec::new();
        for n in 0..3 * WIDTH {
            let name = format!("{}{n}", if n % 3 == 1 { 'o' } else { 's' });
            let entry = Entry::new(name.as_bytes(), NewValue::Int(0), None);
            segment.insert(hash_of(name.as_bytes()), entry);
            names.extend((n % 3 != 1).then_some(name));
        }
        let mut met = Vec::new();
        let mut last = None;
        while let Some(place) = segment.next_of_hash(SAME, last, hash_of) {
            let entry = segment.slot(place).entry().unwrap();
            met.push(String::from_utf8(entry.key().to_vec()).unwrap());
            last = Some(place);
        }
        assert!(matches!(last, Some(Place::Stash(_))), "the bucket is too small for all");
        met.sort();
        names.sort();
        assert_eq!(met, names);
    }
}
