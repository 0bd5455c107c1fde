//! Filters over the keys of new tables, so that most lookups do not look into them.
//!
//! Worker threads. Each batch becomes a sorted run of its own, and some twenty of them lie in the
//! first level before a merge takes them away. A lookup that finds nothing asks the filter of each,
//! which the tree keeps in pieces in its block cache (an ingestion pins none): measured while
//! loading new keys, that was nearly half of what committing them cost. Here each run has one small
//! filter in memory for as long as it is in the first level. What it lets through, the tree's own
//! filter is asked about.
//!
//! Tables that were there when the tree was opened get theirs by maintenance, which reads them
//! ([`super::tree::Tree::filter_one`]); until then they are asked as they would be without.
//!
//! Source: Putze, Sanders and Singler, "Cache-, Hash- and Space-Efficient Bloom Filters", 2007.

use crate::key::KEY_PREFIX_LEN;

/// Bits of a filter for each key.
const BITS_PER_KEY: usize = 10;
/// Bits that one key sets in its word; six bits of its hash choose each.
const BITS_SET: u32 = 4;

/// A key, reduced to what a filter looks at. A key begins with its space and its keyed hash, so
/// little more is needed to spread the keys.
pub(super) fn hash_of(engine_key: &[u8]) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let (space, hash) = match engine_key.first_chunk::<KEY_PREFIX_LEN>() {
        Some([a, b, c, d, hash @ ..]) => {
            (u32::from_be_bytes([*a, *b, *c, *d]), u64::from_be_bytes(*hash))
        }
        None => (0, engine_key.len() as u64),
    };
    let mixed = (hash ^ u64::from(space).wrapping_mul(ODD)).wrapping_mul(ODD);
    mixed ^ (mixed >> 32)
}

/// Says of a key that it is not in a run, or that it may be. Immutable.
#[derive(Debug)]
pub(super) struct Filter {
    words: Box<[u64]>,
}

impl Filter {
    /// The filter of the keys with these hashes; there is at least one.
    pub(super) fn of(hashes: &[u64]) -> Self {
        let words = (hashes.len() * BITS_PER_KEY).div_ceil(64).max(1);
        let mut filter = Self { words: vec![0; words].into() };
        for &hash in hashes {
            let at = filter.word_of(hash);
            filter.words[at] |= bits_of(hash);
        }
        filter
    }

    /// The filter of a run that may hold any key.
    pub(super) fn of_all() -> Self {
        Self { words: [u64::MAX].into() }
    }

    /// Whether a key with this hash may be there.
    #[inline]
    pub(super) fn may_hold(&self, hash: u64) -> bool {
        let bits = bits_of(hash);
        self.words[self.word_of(hash)] & bits == bits
    }

    /// The upper half of the hash chooses the word.
    fn word_of(&self, hash: u64) -> usize {
        let scaled = (hash >> 32) * self.words.len() as u64;
        usize::try_from(scaled >> 32).expect("below the number of words")
    }

    pub(super) fn len_bytes(&self) -> u64 {
        size_of_val(&*self.words) as u64
    }
}

/// The lower half of the hash chooses the bits.
fn bits_of(hash: u64) -> u64 {
    (0..BITS_SET).fold(0, |bits, n| bits | 1 << ((hash >> (6 * n)) & 63))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::sim::Draw;
    use crate::key::{KeyRef, Space};

    fn hash(space: u32, hash: u64) -> u64 {
        hash_of(KeyRef { space: Space(space), hash, key: b"key" }.to_buf().as_disk())
    }

    #[test]
    fn a_filter_holds_its_keys_and_few_others() {
        let mut draw = Draw(1);
        for count in [1, 2, 100, 20_000] {
            let keys: Vec<u64> = (0..count).map(|_| hash(1, draw.next())).collect();
            let filter = Filter::of(&keys);
            assert!(keys.iter().all(|&key| filter.may_hold(key)), "no key is ever denied");
            let others = (0..10_000).filter(|_| filter.may_hold(hash(1, draw.next()))).count();
            assert!(others < 600 || count == 1, "{others} of 10,000 at {count} keys");
            assert!(filter.len_bytes() <= count as u64 * 10 / 8 + 8);
        }
    }

    #[test]
    fn spaces_and_keys_of_any_length_are_told_apart() {
        assert_ne!(hash(1, 7), hash(2, 7));
        assert_ne!(hash(1, 7), hash(1, 8));
        let short = Filter::of(&[hash_of(b"")]);
        assert!(short.may_hold(hash_of(b"")) && !short.may_hold(hash_of(b"abc")));
    }
}
