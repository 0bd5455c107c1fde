//! The table against std's map, its internal invariants, and the guarantee of scans.

use super::*;
use crate::types::rng::SplitMix64;
use proptest::prelude::*;
use std::collections::{BTreeSet, HashMap, HashSet};

fn key() -> HashKey {
    HashKey::new([3; 16])
}

impl<const PAIRS: bool> Table<PAIRS> {
    /// Checks everything that the types do not.
    fn check(&self) {
        let mut entry = 0;
        let (mut count, mut owned, mut ids) = (0, 0, HashSet::new());
        while entry < self.directory.entries() {
            let id = self.directory.entry(entry);
            let segment = self.segments.get(id);
            let run = self.directory.run(segment.depth());
            assert_eq!(entry % run, 0, "runs are aligned");
            assert!((entry..entry + run).all(|e| self.directory.entry(e) == id));
            assert!(ids.insert(id), "one run a segment");
            assert!(segment.places() <= self.places_max);
            count += segment.count();
            owned += segment.heap_bytes();
            entry += run;
        }
        assert_eq!(ids.len(), self.segments.count(), "no segment is lost");
        assert_eq!(count, self.count);
        assert_eq!(owned, self.owned_bytes);
        let hashes: Vec<u64> = self.iter().map(|(k, _)| self.key.hash(k)).collect();
        // A tag has 16 bits, which are the first 16 where no segment has split.
        assert!(hashes.is_sorted_by_key(|h| h >> 48), "iteration follows the hash");
    }

    fn scan_all(&self, count: usize) -> Vec<Vec<u8>> {
        let (mut cursor, mut seen) = (0, Vec::new());
        loop {
            cursor = self.scan(cursor, count, |k, _| seen.push(k.to_vec()));
            if cursor == 0 {
                return seen;
            }
        }
    }
}

/// Lengths around every boundary: empty, one and two byte codes, inline and outside.
fn value_of(seed: u16) -> Vec<u8> {
    let len = match seed % 16 {
        0 => 0,
        1 => 191,
        2 => 192,
        3 => INLINE,
        4 => INLINE + 1,
        5 => 3_000,
        n => usize::from(n) * 3,
    };
    vec![seed as u8; len]
}
const INLINE: usize = segment::INLINE_MAX;

#[derive(Clone, Debug)]
enum Op {
    Set(u16, u16),
    Remove(u16),
    Get(u16),
    RemoveMany(u16),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..600_u16, any::<u16>()).prop_map(|(k, v)| Op::Set(k, v)),
        3 => (0..600_u16).prop_map(Op::Remove),
        1 => (0..600_u16).prop_map(Op::Get),
        1 => (0..600_u16).prop_map(Op::RemoveMany),
    ]
}

/// A few keys are long, so that keys live outside too.
fn key_of(n: u16) -> Vec<u8> {
    if n.is_multiple_of(50) {
        vec![b'x'; 600 + usize::from(n)]
    } else {
        format!("field:{n}").into_bytes()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn pairs_behave_like_a_map(ops in prop::collection::vec(op(), 1..900)) {
        let mut table = Table::<true>::new(key(), 4);
        let mut model = HashMap::new();
        for op in ops {
            match op {
                Op::Set(k, v) => {
                    let (k, v) = (key_of(k), value_of(v));
                    prop_assert_eq!(table.set(&k, &v), model.insert(k, v).is_none());
                }
                Op::Remove(k) => {
                    let k = key_of(k);
                    prop_assert_eq!(table.remove(&k), model.remove(&k).is_some());
                }
                Op::Get(k) => {
                    let k = key_of(k);
                    prop_assert_eq!(table.get(&k), model.get(&k).map(Vec::as_slice));
                }
                Op::RemoveMany(from) => {
                    for k in (from..600).take(100).map(key_of) {
                        prop_assert_eq!(table.remove(&k), model.remove(&k).is_some());
                    }
                }
            }
        }
        table.check();
        let all: HashMap<_, _> = table.iter().map(|(k, v)| (k.to_vec(), v.to_vec())).collect();
        prop_assert_eq!(all, model);
    }

    #[test]
    fn a_scan_shows_all_that_stays(
        rounds in prop::collection::vec((0..4_000_u16, any::<bool>()), 1..60),
        count in 1..200_usize,
    ) {
        // Members 0..500 stay; 500..4500 come and go in blocks between the calls, so segments
        // split and merge under the cursor.
        let mut table = Table::<false>::new(key(), 4);
        let name = |n: u16| format!("member:{n}").into_bytes();
        (0..500).for_each(|n| _ = table.set(&name(n), &[]));
        let (mut cursor, mut seen) = (0, BTreeSet::new());
        let mut rounds = rounds.into_iter();
        loop {
            cursor = table.scan(cursor, count, |k, _| _ = seen.insert(k.to_vec()));
            if cursor == 0 {
                break;
            }
            if let Some((from, add)) = rounds.next() {
                for n in (500 + from..4_500).take(1_500) {
                    if add { table.set(&name(n), &[]); } else { table.remove(&name(n)); }
                }
            }
        }
        table.check();
        prop_assert!((0..500).all(|n| seen.contains(&name(n))));
    }

    #[test]
    fn any_cursor_is_answered(cursor in any::<u64>(), size in 0..3_000_u32) {
        let mut table = Table::<false>::new(key(), 4);
        (0..size).for_each(|n| _ = table.set(&n.to_le_bytes(), &[]));
        let mut shown = 0;
        let next = table.scan(cursor, 10, |_, _| shown += 1);
        prop_assert!(next < 1 << CURSOR_BITS);
        prop_assert!(shown <= size);
    }
}

#[test]
fn growth_and_shrinking_keep_the_invariants() {
    let mut table = Table::<true>::new(key(), 4);
    for n in 0..60_000_u32 {
        assert!(table.set(&n.to_le_bytes(), &n.to_be_bytes()));
    }
    table.check();
    assert!(table.segments.count() > 40);
    for n in 0..60_000_u32 {
        assert_eq!(table.get(&n.to_le_bytes()), Some(&n.to_be_bytes()[..]));
        if n % 1000 != 0 {
            assert!(table.remove(&n.to_le_bytes()));
        }
    }
    table.check();
    assert_eq!((table.count(), table.segments.count(), table.directory.entries()), (60, 1, 1));
    assert!(table.heap_bytes() < 4_000, "{}", table.heap_bytes());
}

#[test]
fn a_quiet_scan_shows_each_entry_once_in_small_steps() {
    let mut table = Table::<false>::new(key(), 4);
    (0..20_000_u32).for_each(|n| _ = table.set(&n.to_le_bytes(), &[]));
    let mut most = 0;
    let (mut cursor, mut seen) = (0, BTreeSet::new());
    loop {
        let mut shown = 0;
        cursor = table.scan(cursor, 10, |k, _| {
            shown += 1;
            assert!(seen.insert(k.to_vec()), "shown twice");
        });
        most = most.max(shown);
        if cursor == 0 {
            break;
        }
    }
    assert_eq!(seen.len(), 20_000);
    assert!(most <= 14, "a step stays near its count: {most}");
    assert_eq!(table.scan_all(usize::MAX).len(), 20_000);
}

#[test]
fn random_entries_are_uniform() {
    for size in [3_u32, 200, 5_000] {
        let mut table = Table::<false>::new(key(), 4);
        (0..size).for_each(|n| _ = table.set(&n.to_le_bytes(), &[]));
        let mut rng = SplitMix64::new(11);
        let mut seen = vec![0_u32; size as usize];
        for _ in 0..size * 100 {
            let (member, _) = table.random(&mut rng).unwrap();
            seen[u32::from_le_bytes(member.try_into().unwrap()) as usize] += 1;
        }
        // Chi-squared with size - 1 degrees of freedom stays within six standard deviations.
        let chi: f64 = seen.iter().map(|&n| (f64::from(n) - 100.0).powi(2) / 100.0).sum();
        let freedom = f64::from(size - 1);
        assert!((chi - freedom).abs() < 6.0 * (2.0 * freedom).sqrt(), "{size}: {chi}");
    }
}

#[test]
fn a_table_emptied_in_hash_order_still_picks_uniformly() {
    let mut table = Table::<false>::new(key(), 4);
    (0..50_000_u32).for_each(|n| _ = table.set(&n.to_le_bytes(), &[]));
    let order: Vec<Vec<u8>> = table.iter().map(|(k, _)| k.to_vec()).collect();
    order[..49_990].iter().for_each(|k| assert!(table.remove(k)));
    table.check();
    let mut rng = SplitMix64::new(1);
    let mut seen: HashMap<Vec<u8>, u32> = HashMap::new();
    for _ in 0..5_000 {
        *seen.entry(table.random(&mut rng).unwrap().0.to_vec()).or_default() += 1;
    }
    assert!(seen.len() == 10 && seen.values().all(|&n| (400..600).contains(&n)), "{seen:?}");
}

#[test]
fn samples_are_distinct_and_of_the_asked_size() {
    let mut table = Table::<false>::new(key(), 4);
    (0..3_000_u32).for_each(|n| _ = table.set(&n.to_le_bytes(), &[]));
    let mut rng = SplitMix64::new(2);
    for count in [0, 1, 10, 749, 750, 2_999, 3_000, 9_000] {
        let chosen = table.sample(count, &mut rng);
        let distinct: BTreeSet<&[u8]> = chosen.iter().map(|(k, _)| *k).collect();
        assert_eq!((chosen.len(), distinct.len()), (count.min(3_000), count.min(3_000)));
    }
}

#[test]
fn a_clone_is_independent() {
    let mut table = Table::<true>::new(key(), 4);
    (0..2_000_u16).for_each(|n| _ = table.set(&key_of(n), &value_of(n)));
    let copy = table.clone();
    (0..2_000_u16).for_each(|n| assert!(table.remove(&key_of(n))));
    copy.check();
    assert!((0..2_000_u16).all(|n| copy.get(&key_of(n)) == Some(&value_of(n)[..])));
}
