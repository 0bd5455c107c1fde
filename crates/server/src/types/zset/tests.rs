//! Sorted sets against a sorted model, the tree's invariants, sizes and order of every range.

use super::*;
use crate::types::hashing::HashKey;
use crate::types::rng::{Rng, SplitMix64};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

fn rules(entries: usize) -> Rules {
    Rules { zset_max_listpack_entries: entries, ..Rules::new(HashKey::new([6; 16])) }
}

fn score(value: f64) -> Score {
    Score::new(value).unwrap()
}

impl ZSet {
    fn check(&self) {
        if let Form::Big(big) = &self.form {
            big.check();
        }
        let all: Vec<(&[u8], Score)> = self.iter().collect();
        assert_eq!(all.len(), self.len());
        assert!(all.is_sorted_by(|a, b| (a.1, a.0) < (b.1, b.0)), "in order and distinct");
        let mut back: Vec<(&[u8], Score)> = self.iter().rev().collect();
        back.reverse();
        assert_eq!(all, back);
    }
}

/// The naive twin: a map, sorted when asked.
#[derive(Default)]
struct Model(BTreeMap<Vec<u8>, Score>);

impl Model {
    fn sorted(&self) -> Vec<(&[u8], Score)> {
        let mut all: Vec<_> = self.0.iter().map(|(m, s)| (m.as_slice(), *s)).collect();
        all.sort_by(|a, b| (a.1, a.0).cmp(&(b.1, b.0)));
        all
    }
}

#[derive(Clone, Debug)]
enum Op {
    Insert(u16, i8),
    Add(u16, i8),
    Remove(u16),
    PopMin,
    PopMax,
    RemoveRanks(u8, u8),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        10 => (any::<u16>(), any::<i8>()).prop_map(|(m, s)| Op::Insert(m, s)),
        4 => (any::<u16>(), any::<i8>()).prop_map(|(m, s)| Op::Add(m, s)),
        3 => any::<u16>().prop_map(Op::Remove),
        1 => Just(Op::PopMin),
        1 => Just(Op::PopMax),
        1 => (any::<u8>(), any::<u8>()).prop_map(|(a, b)| Op::RemoveRanks(a, b)),
    ]
}

/// Members share prefixes of more than eight bytes, and some are long enough to live outside.
fn member_of(seed: u16, spread: u16) -> Vec<u8> {
    let n = seed % spread;
    match n % 37 {
        0 => vec![b'm'; 600 + usize::from(n)],
        1 => vec![n as u8; usize::from(n % 9)],
        _ => format!("member:{n}").into_bytes(),
    }
}

fn score_of(seed: i8) -> Score {
    match seed {
        i8::MIN => score(f64::NEG_INFINITY),
        i8::MAX => score(f64::INFINITY),
        -1 => score(-0.0),
        n => score(f64::from(n / 8) / 4.0),
    }
}

fn apply(set: &mut ZSet, model: &mut Model, op: Op, spread: u16, rules: &Rules) {
    match op {
        Op::Insert(seed, s) => {
            let (member, s) = (member_of(seed, spread), score_of(s));
            let old = model.0.get(&member).copied();
            let kept = old.filter(|old| *old == s).unwrap_or(s);
            let got = set.insert(&member, s, rules);
            assert_eq!(got, Upsert { old, new: Some(s) });
            assert_eq!(
                (got.is_added(), got.is_updated()),
                (old.is_none(), old.is_some_and(|o| o != s))
            );
            model.0.insert(member, kept);
        }
        Op::Add(seed, by) => {
            // As ZINCRBY with XX: only if there, and only if the sum is a number.
            let member = member_of(seed, spread);
            let add = |old: Option<Score>| old.and_then(|old| old.checked_add(score_of(by)));
            let old = model.0.get(&member).copied();
            let new = add(old).or(old);
            assert_eq!(set.upsert(&member, rules, add), Upsert { old, new });
            if let Some(new) = new {
                model.0.insert(member, new);
            }
        }
        Op::Remove(seed) => {
            let member = member_of(seed, spread);
            assert_eq!(set.remove(&member), model.0.remove(&member));
        }
        Op::PopMin | Op::PopMax => {
            let sorted = model.sorted();
            let (want, got) = match op {
                Op::PopMin => (sorted.first(), set.pop_min()),
                _ => (sorted.last(), set.pop_max()),
            };
            let want = want.map(|(m, s)| (m.to_vec(), *s));
            assert_eq!(got, want);
            want.into_iter().for_each(|(m, _)| _ = model.0.remove(&m));
        }
        Op::RemoveRanks(start, len) => {
            let start = usize::from(start) * 4;
            let ranks = start..start + usize::from(len) / 4;
            let sorted = model.sorted();
            let gone: Vec<Vec<u8>> =
                sorted.iter().skip(start).take(ranks.len()).map(|(m, _)| m.to_vec()).collect();
            assert_eq!(set.remove_ranks(ranks), gone.len());
            gone.iter().for_each(|m| _ = model.0.remove(m));
        }
    }
}

fn compare_reads(set: &ZSet, model: &Model) {
    let sorted = model.sorted();
    assert_eq!(set.iter().collect::<Vec<_>>(), sorted);
    for (rank, (member, score)) in sorted.iter().enumerate() {
        assert_eq!(set.rank(member), Some((rank, *score)));
        assert_eq!(set.score(member), Some(*score));
        assert_eq!(set.by_rank(rank), Some((*member, *score)));
    }
    assert_eq!((set.by_rank(sorted.len()), set.rank(b"nobody")), (None, None));
    let (a, b) = (sorted.len() / 3, sorted.len() * 2 / 3);
    assert_eq!(set.range(a..b).collect::<Vec<_>>(), sorted[a..b]);
    assert!(set.range(a..b).rev().eq(sorted[a..b].iter().rev().copied()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn behaves_like_a_sorted_map(
        ops in prop::collection::vec(op(), 1..700),
        spread in prop_oneof![Just(30_u16), Just(400), Just(5_000)],
        entries in prop_oneof![Just(0_usize), Just(20), Just(128)],
    ) {
        let rules = rules(entries);
        let (mut set, mut model) = (ZSet::new(), Model::default());
        for op in ops {
            apply(&mut set, &mut model, op, spread, &rules);
            prop_assert_eq!(set.len(), model.0.len());
        }
        set.check();
        compare_reads(&set, &model);
    }

    #[test]
    fn ranges_by_score_and_name_match_a_filter(
        scores in prop::collection::vec(-20..20_i8, 0..400),
        (min, max) in (-22..22_i8, -22..22_i8), (min_open, max_open) in any::<(bool, bool)>(),
        entries in prop_oneof![Just(0_usize), Just(500)],
    ) {
        let rules = rules(entries);
        let (mut by_score, mut by_name) = (ZSet::new(), ZSet::new());
        for (n, s) in scores.iter().enumerate() {
            let name = format!("m{n}");
            by_score.insert(name.as_bytes(), score(f64::from(*s)), &rules);
            by_name.insert(&[b"prefix..", name.as_bytes()].concat(), Score::ZERO, &rules);
        }
        let bound = |value: i8, open| {
            let value = score(f64::from(value));
            if open { ScoreBound::Excluded(value) } else { ScoreBound::Included(value) }
        };
        let range = ScoreRange { min: bound(min, min_open), max: bound(max, max_open) };
        let got: Vec<_> = by_score.range(by_score.ranks_by_score(&range)).collect();
        let want: Vec<_> = by_score.iter().filter(|(_, s)| range.contains(*s)).collect();
        prop_assert_eq!(got, want);

        let (a, b) = (format!("prefix..m{}", min.unsigned_abs()), format!("prefix..m{max}"));
        let bound = |name, open| match open {
            true => LexBound::Excluded(name),
            false => LexBound::Included(name),
        };
        let range = LexRange {
            min: if min == 0 { LexBound::Min } else { bound(a.as_bytes(), min_open) },
            max: if max < 0 { LexBound::Max } else { bound(b.as_bytes(), max_open) },
        };
        let got: Vec<_> = by_name.range(by_name.ranks_by_lex(&range)).collect();
        let want: Vec<_> = by_name.iter().filter(|(m, _)| range.contains(m)).collect();
        prop_assert_eq!(got, want);
    }

    #[test]
    fn a_scan_shows_all_that_stays_whatever_their_scores(
        seed in any::<u64>(), count in 1..60_usize, churn in 0..400_usize,
    ) {
        let rules = rules(0);
        let mut set = ZSet::new();
        let mut rng = SplitMix64::new(seed);
        let name = |n: usize| format!("member:{n}").into_bytes();
        (0..400).for_each(|n| _ = set.insert(&name(n), Score::ZERO, &rules));
        let (mut cursor, mut seen) = (0, BTreeSet::new());
        loop {
            cursor = set.scan(cursor, count, |m, _| _ = seen.insert(m.to_vec()));
            if cursor == 0 {
                break;
            }
            for _ in 0..churn {
                let n = rng.below(3_000);
                let s = score(rng.below(50) as f64);
                if n < 400 || n.is_multiple_of(2) {
                    set.insert(&name(n), s, &rules);
                } else {
                    set.remove(&name(n));
                }
            }
        }
        set.check();
        prop_assert!((0..400).all(|n| seen.contains(&name(n))));
    }
}

/// Grows and shrinks a set in a given order of scores, through several levels of the tree.
fn grow_and_shrink(count: u32, score_at: impl Fn(u32) -> f64) {
    let rules = rules(0);
    let mut set = ZSet::new();
    for n in 0..count {
        assert!(set.insert(format!("m{n}").as_bytes(), score(score_at(n)), &rules).is_added());
    }
    set.check();
    let copy = set.clone();
    for n in 0..count {
        let was = set.remove(format!("m{n}").as_bytes());
        assert_eq!(was, Some(score(score_at(n))));
        if n % (count / 8) == 1 {
            set.check();
        }
    }
    assert!(set.is_empty() && set.memory_bytes() < 2_000, "{}", set.memory_bytes());
    copy.check();
    let mut popped = copy.clone();
    let mut last = score(f64::NEG_INFINITY);
    while let Some((_, s)) = popped.pop_min() {
        assert!(s >= last);
        last = s;
    }
    let mut popped = copy;
    assert_eq!(popped.remove_ranks(10..count as usize - 10), count as usize - 20);
    popped.check();
    assert_eq!(popped.len(), 20);
}

#[test]
fn trees_of_several_levels_hold_in_any_order() {
    grow_and_shrink(20_000, f64::from);
    grow_and_shrink(20_000, |n| -f64::from(n));
    grow_and_shrink(20_000, |_| 1.0);
    let shuffled = |n: u32| f64::from(n.wrapping_mul(2_654_435_761) >> 8);
    grow_and_shrink(20_000, shuffled);
    grow_and_shrink(150_000, shuffled);
}

#[test]
fn scores_move_members_about() {
    let rules = rules(0);
    let mut set = ZSet::new();
    let name = |n: usize| format!("player:{n}").into_bytes();
    (0..5_000).for_each(|n| _ = set.insert(&name(n), Score::ZERO, &rules));
    let mut model = vec![0.0; 5_000];
    let mut rng = SplitMix64::new(4);
    for _ in 0..60_000 {
        let n = rng.below(5_000);
        let by = [1.0, 100.0, -3.0, 0.5][rng.below(4)];
        model[n] += by;
        let got = set.upsert(&name(n), &rules, |old| old.unwrap().checked_add(score(by)));
        assert_eq!(got.new, Some(score(model[n])));
    }
    set.check();
    assert!((0..5_000).all(|n| set.score(&name(n)) == Some(score(model[n]))));
}

#[test]
fn encodings_change_where_redis_changes_them() {
    let rules = rules(128);
    let mut set = ZSet::new();
    let name = |n: i32| n.to_string().into_bytes();
    (0..128).for_each(|n| _ = set.insert(&name(n), Score::ZERO, &rules));
    set.insert(&name(5), score(9.0), &rules);
    assert_eq!(set.encoding_name(), "listpack");
    set.insert(&name(128), Score::ZERO, &rules);
    assert_eq!(set.encoding_name(), "skiplist");
    assert_eq!(set.remove_ranks(1..129), 128);
    assert_eq!((set.encoding_name(), set.len()), ("skiplist", 1));
    let mut set = ZSet::new();
    set.insert(&[b'x'; 64], Score::ZERO, &rules);
    assert_eq!(set.encoding_name(), "listpack");
    set.insert(&[b'x'; 65], Score::ZERO, &rules);
    assert_eq!(set.encoding_name(), "skiplist");
}

#[test]
fn a_member_of_16_bytes_costs_less_than_52() {
    assert_eq!(size_of::<ZSet>(), 24);
    for in_order in [true, false] {
        let rules = rules(128);
        let mut set = ZSet::new();
        for n in 0..300_000_u32 {
            let value = if in_order { n } else { n.wrapping_mul(2_654_435_761) };
            set.insert(format!("member:{n:09}").as_bytes(), score(f64::from(value)), &rules);
        }
        let each = set.memory_bytes() as f64 / 300_000.0;
        assert!(each < 52.0, "{each} bytes a member");
    }
}

#[test]
fn unchanged_scores_change_nothing() {
    for entries in [0, 128] {
        let rules = rules(entries);
        let mut set = ZSet::new();
        set.insert(b"a", score(-0.0), &rules);
        let same = set.insert(b"a", score(0.0), &rules);
        assert!(!same.is_added() && !same.is_updated());
        let sign = set.score(b"a").unwrap().get().is_sign_negative();
        assert_eq!(sign, entries == 0, "only the big form keeps the sign of zero");
        let refused = set.upsert(b"b", &rules, |old| old);
        assert_eq!((refused, set.len()), (Upsert { old: None, new: None }, 1));
    }
}

#[test]
fn random_and_sample_see_every_member() {
    for size in [0_usize, 1, 100, 2_000] {
        let rules = rules(128);
        let mut set = ZSet::new();
        (0..size).for_each(|n| _ = set.insert(&n.to_le_bytes(), Score::ZERO, &rules));
        let mut rng = SplitMix64::new(3);
        let picks = (0..size * 20).filter_map(|_| set.random(&mut rng));
        let seen: BTreeSet<Vec<u8>> = picks.map(|(m, _)| m.to_vec()).collect();
        assert_eq!(seen.len(), size);
        let chosen: BTreeSet<_> = set.sample(40, &mut rng).into_iter().collect();
        assert_eq!(chosen.len(), size.min(40));
    }
}
