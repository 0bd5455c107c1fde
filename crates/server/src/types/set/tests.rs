//! Sets against std's set, in all forms and across the borders between them.

use super::*;
use crate::types::hashing::HashKey;
use crate::types::rng::SplitMix64;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn rules() -> Rules {
    Rules::new(HashKey::new([4; 16]))
}

/// Integers mostly, some of which are not in canonical form, and strings around the limit.
fn member_of(seed: u16) -> Vec<u8> {
    match seed % 40 {
        0 => format!("0{}", seed / 40).into_bytes(),
        1 => format!("+{}", seed / 40).into_bytes(),
        2 => vec![b'x'; 60 + usize::from(seed / 40 % 10)],
        3 => (i64::from(seed) << 40).to_string().into_bytes(),
        4 => (-i64::from(seed)).to_string().into_bytes(),
        _ => (seed % 700).to_string().into_bytes(),
    }
}

fn bytes(set: &Set) -> BTreeSet<Vec<u8>> {
    set.iter().map(|m| m.to_vec()).collect()
}

fn set_of(members: &[u16], rules: &Rules) -> Set {
    let mut set = Set::new();
    members.iter().for_each(|m| _ = set.add(&member_of(*m), rules));
    set
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn behaves_like_a_set(
        ops in prop::collection::vec((0..5_u8, any::<u16>()), 1..400),
        ints in 0..300_usize, entries in 0..200_usize, only_ints in any::<bool>(),
    ) {
        let rules = Rules {
            set_max_intset_entries: ints,
            set_max_listpack_entries: entries,
            ..rules()
        };
        let (mut set, mut model) = (Set::new(), BTreeSet::new());
        let mut rng = SplitMix64::new(8);
        for (kind, seed) in ops {
            let member = member_of(if only_ints { seed / 40 * 40 + 7 } else { seed });
            prop_assert_eq!(set.contains(&member), model.contains(&member));
            match kind {
                0 => prop_assert_eq!(set.remove(&member), model.remove(&member)),
                1 => {
                    let popped = set.pop(&mut rng);
                    prop_assert_eq!(popped.is_some(), !model.is_empty());
                    prop_assert!(popped.is_none_or(|m| model.remove(&m)));
                }
                _ => prop_assert_eq!(set.add(&member, &rules), model.insert(member)),
            }
            prop_assert_eq!(set.len(), model.len());
            let expected = set.encoding_name() == "hashtable" || set.len() <= ints;
            prop_assert!(expected, "an intset has at most {} members", ints);
        }
        prop_assert_eq!(set.iter().len(), model.len());
        prop_assert_eq!(bytes(&set), model);
    }

    #[test]
    fn algebra_matches_std(
        lists in prop::collection::vec(prop::collection::vec(0..900_u16, 0..250), 0..5),
    ) {
        let rules = rules();
        let sets: Vec<Set> = lists.iter().map(|list| set_of(list, &rules)).collect();
        let models: Vec<BTreeSet<Vec<u8>>> = sets.iter().map(bytes).collect();
        let all: Vec<&Set> = sets.iter().collect();
        let got: Vec<Vec<u8>> = intersection(&all).map(|m| m.to_vec()).collect();
        let want = models.iter().cloned().reduce(|a, b| &a & &b).unwrap_or_default();
        prop_assert_eq!(got.len(), want.len());
        prop_assert_eq!(got.into_iter().collect::<BTreeSet<_>>(), want);
        let want = models.iter().cloned().reduce(|a, b| &a | &b).unwrap_or_default();
        prop_assert_eq!(bytes(&union(&all, &rules)), want);
        if let [first, others @ ..] = &all[..] {
            let got = difference(first, others, &rules);
            let got: BTreeSet<Vec<u8>> = got.map(|m| m.to_vec()).collect();
            let want = models.iter().cloned().reduce(|a, b| &a - &b).unwrap_or_default();
            prop_assert_eq!(got, want);
        }
    }
}

#[test]
fn encodings_change_where_redis_changes_them() {
    let rules = rules();
    let mut set = Set::new();
    (0..512).for_each(|n: i32| assert!(set.add(n.to_string().as_bytes(), &rules)));
    assert_eq!(set.encoding_name(), "intset");
    set.add(b"512", &rules);
    assert_eq!(set.encoding_name(), "hashtable");
    let mut set = Set::new();
    set.add(b"1", &rules);
    set.add(b"01", &rules);
    assert_eq!((set.encoding_name(), set.len()), ("hashtable", 2));
    assert!(set.remove(b"01") && set.contains(b"1"));
    assert_eq!(set.encoding_name(), "hashtable", "there is no way back");
}

#[test]
fn members_are_compact() {
    assert_eq!(size_of::<Set>(), 32);
    let rules = rules();
    let mut set = Set::new();
    assert_eq!(set.memory_bytes(), 0);
    (0..200_000_u128).for_each(|n| assert!(set.add(&(n << 64 | n).to_be_bytes(), &rules)));
    let each = set.memory_bytes() as f64 / 200_000.0;
    assert!(each < 27.0, "{each} bytes a member of 16");
}

#[test]
fn members_compare_by_their_text() {
    assert_eq!(Member::Int(-5), Member::Bytes(b"-5"));
    assert!(Member::Int(10) < Member::Bytes(b"9") && Member::Bytes(b"") < Member::Int(0));
    let mut out = b">".to_vec();
    Member::Int(7).push_to(&mut out);
    assert_eq!(out, b">7");
}

#[test]
fn random_scan_and_sample_see_every_member() {
    let rules = rules();
    for (size, prefix) in [(0_u16, ""), (90, ""), (90, "m"), (3_000, "m")] {
        let mut set = Set::new();
        (0..size).for_each(|n| assert!(set.add(format!("{prefix}{n}").as_bytes(), &rules)));
        let mut rng = SplitMix64::new(3);
        let picks = (0..usize::from(size) * 20).filter_map(|_| set.random(&mut rng));
        let seen: BTreeSet<Vec<u8>> = picks.map(|m| m.to_vec()).collect();
        assert_eq!(seen.len(), usize::from(size));
        let chosen: BTreeSet<_> = set.sample(40, &mut rng).into_iter().collect();
        assert_eq!(chosen.len(), usize::from(size.min(40)));
        let (mut cursor, mut seen) = (0, BTreeSet::new());
        loop {
            cursor = set.scan(cursor, 7, |m| _ = seen.insert(m.to_vec()));
            if cursor == 0 {
                break;
            }
        }
        assert_eq!(seen.len(), usize::from(size));
    }
}

#[test]
fn a_clone_is_independent() {
    let rules = rules();
    for prefix in ["", "m"] {
        let mut set = Set::new();
        (0..50).for_each(|n: i32| assert!(set.add(format!("{prefix}{n}").as_bytes(), &rules)));
        let copy = set.clone();
        while set.pop(&mut SplitMix64::new(1)).is_some() {}
        assert_eq!((set.memory_bytes(), set.len(), copy.len()), (0, 0, 50));
    }
}
