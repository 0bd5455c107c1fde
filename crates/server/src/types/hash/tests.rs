//! Hashes against std's map, in both forms and across the border between them.

use super::*;
use crate::types::hashing::HashKey;
use crate::types::memory::heap_bytes;
use crate::types::rng::SplitMix64;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

fn rules() -> Rules {
    Rules::new(HashKey::new([9; 16]))
}

fn field(n: u8) -> Vec<u8> {
    // One field in 16 is too long for the packed form.
    vec![b'a' + n % 26; if n.is_multiple_of(16) { 65 } else { 1 + usize::from(n) / 26 }]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn behaves_like_a_map(
        ops in prop::collection::vec((any::<bool>(), any::<u8>(), 0..90_usize), 1..400),
        entries in 0..200_usize,
        long_fields in any::<bool>(),
    ) {
        let rules = Rules { hash_max_listpack_entries: entries, ..rules() };
        let mut hash = Hash::new();
        let mut model = BTreeMap::new();
        for (set, n, len) in ops {
            let n = if long_fields { n } else { n | 1 };
            let len = if long_fields { len } else { len % 65 };
            let (name, value) = (field(n), vec![n; len]);
            if set {
                let new = hash.set(&name, &value, &rules);
                prop_assert_eq!(new, model.insert(name, value).is_none());
            } else {
                prop_assert_eq!(hash.get(&name), model.get(&name).map(Vec::as_slice));
                prop_assert_eq!(hash.remove(&name), model.remove(&name).is_some());
            }
            prop_assert_eq!(hash.len(), model.len());
            prop_assert!(hash.encoding_name() == "hashtable" || hash.len() <= entries);
        }
        prop_assert_eq!(hash.iter().len(), model.len());
        let all: BTreeMap<_, _> = hash.iter().map(|(k, v)| (k.to_vec(), v.to_vec())).collect();
        prop_assert_eq!(all, model);
    }
}

#[test]
fn encodings_change_where_redis_changes_them() {
    let rules = rules();
    let mut hash = Hash::new();
    for n in 0..512_u32 {
        hash.set(n.to_string().as_bytes(), b"v", &rules);
    }
    assert_eq!(hash.encoding_name(), "listpack");
    // Overwriting at the limit does not convert, one more field does, and there is no way back.
    hash.set(b"5", &[b'x'; 64], &rules);
    assert_eq!(hash.encoding_name(), "listpack");
    hash.set(b"512", b"v", &rules);
    assert_eq!(hash.encoding_name(), "hashtable");
    (0..512_u32).for_each(|n| assert!(hash.remove(n.to_string().as_bytes())));
    assert_eq!((hash.encoding_name(), hash.len()), ("hashtable", 1));
    for (name, value) in [([b'x'; 65].as_slice(), &b"v"[..]), (b"f", &[b'x'; 65])] {
        let mut hash = Hash::new();
        assert!(hash.set(name, value, &rules));
        assert_eq!(hash.encoding_name(), "hashtable");
    }
}

#[test]
fn small_hashes_keep_insertion_order_and_size() {
    let rules = rules();
    let mut hash = Hash::new();
    assert_eq!(hash.memory_bytes(), 0);
    for n in (0..10_u8).rev() {
        hash.set(&[b'f', b'i', b'e', b'l', b'd', b':', b'0', b'0' + n], b"12345678", &rules);
    }
    let order: Vec<u8> = hash.iter().map(|(k, _)| k[7] - b'0').collect();
    assert_eq!(order, [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]);
    assert!(hash.memory_bytes() + size_of::<Hash>() <= 225, "{}", hash.memory_bytes());
    assert_eq!(size_of::<Hash>(), 24);
}

#[test]
fn big_hashes_are_compact() {
    let rules = rules();
    let mut hash = Hash::new();
    for n in 0..200_000_u64 {
        hash.set(&n.to_le_bytes(), &n.to_be_bytes(), &rules);
    }
    let each = hash.memory_bytes() as f64 / 200_000.0;
    assert!(each < 28.0, "{each} bytes for a field and a value of 8");
    (0..200_000_u64).for_each(|n| assert!(hash.remove(&n.to_le_bytes())));
    assert!(hash.is_empty());
    assert!(hash.memory_bytes() < 1_000, "{}", hash.memory_bytes());
}

#[test]
fn random_and_sample_see_every_field() {
    let rules = rules();
    for size in [0_u16, 1, 100, 1_000] {
        let mut hash = Hash::new();
        (0..size).for_each(|n| assert!(hash.set(&n.to_le_bytes(), b"v", &rules)));
        let mut rng = SplitMix64::new(3);
        let picks = (0..usize::from(size) * 20).filter_map(|_| hash.random(&mut rng));
        let seen: BTreeSet<Vec<u8>> = picks.map(|(k, _)| k.to_vec()).collect();
        assert_eq!(seen.len(), usize::from(size), "all of {size} come up");
        assert_eq!(hash.sample(10, &mut rng).len(), usize::from(size.min(10)));
        assert_eq!(hash.random(&mut rng).is_none(), size == 0);
        assert_eq!(hash.sample(usize::MAX, &mut rng).len(), usize::from(size));
        let drawn: BTreeSet<_> = hash.draws(&mut rng).take(usize::from(size) * 20).collect();
        assert_eq!(drawn.len(), usize::from(size), "all of {size} are drawn");
    }
}

#[test]
fn scans_show_everything_in_both_forms() {
    let rules = rules();
    for size in [0_u16, 50, 5_000] {
        let mut hash = Hash::new();
        (0..size).for_each(|n| assert!(hash.set(&n.to_le_bytes(), b"v", &rules)));
        let (mut cursor, mut seen) = (0, BTreeSet::new());
        loop {
            cursor = hash.scan(cursor, 7, |k, v| {
                assert_eq!(v, b"v");
                seen.insert(k.to_vec());
            });
            if cursor == 0 {
                break;
            }
        }
        assert_eq!(seen.len(), usize::from(size));
    }
}

#[test]
fn a_clone_is_independent_and_an_emptied_hash_owns_nothing() {
    let rules = rules();
    let mut hash = Hash::new();
    hash.set(b"a", b"1", &rules);
    let copy = hash.clone();
    assert!(hash.remove(b"a") && !hash.remove(b"a"));
    assert_eq!((hash.memory_bytes(), copy.get(b"a")), (0, Some(&b"1"[..])));
    assert_eq!(copy.memory_bytes(), heap_bytes(6));
}
