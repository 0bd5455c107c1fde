//! Lists against std's deque, the chain's invariants, sizes and stalls.

use super::*;
use crate::types::hashing::HashKey;
use proptest::prelude::*;
use std::collections::VecDeque;

fn rules(size: i32) -> Rules {
    Rules { list_max_listpack_size: size, ..Rules::new(HashKey::new([1; 16])) }
}

impl List {
    /// Checks everything that the types do not.
    fn check(&self) {
        let (mut count, mut bytes) = (0, 0);
        let (mut id, mut previous) = (self.end_id(End::Front), NONE);
        while id != NONE {
            let chunk = self.chunk(id);
            let mut items = chunk.items();
            for _ in 0..chunk.count() {
                items = &items[chunk::first(items).1..];
            }
            assert!(items.is_empty(), "the count is the number of items");
            assert_eq!(self.previous_id(id), previous);
            count += chunk.count();
            bytes += chunk.heap_bytes();
            (previous, id) = (id, self.next_id(id));
        }
        assert_eq!((count, previous), (self.len(), self.end_id(End::Back)));
        assert!(self.memory_bytes() >= bytes);
        if let Form::Chain(chain) = &self.form {
            assert!(chain.chunks() > 1, "one chunk lives in the handle");
            assert_eq!(chain.owned(), bytes);
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
    Push(bool, u16),
    Pop(bool),
    Set(u16, u16),
    Insert(u16, u16),
    Remove(u8, bool, u8),
    Trim(u16, u16),
    Get(u16),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (any::<bool>(), any::<u16>()).prop_map(|(e, i)| Op::Push(e, i)),
        3 => any::<bool>().prop_map(Op::Pop),
        3 => (any::<u16>(), any::<u16>()).prop_map(|(n, i)| Op::Set(n, i)),
        5 => (any::<u16>(), any::<u16>()).prop_map(|(n, i)| Op::Insert(n, i)),
        1 => (any::<u8>(), any::<bool>(), any::<u8>()).prop_map(|(i, e, c)| Op::Remove(i, e, c)),
        1 => (0..40_u16, 0..40_u16).prop_map(|(a, b)| Op::Trim(a, b)),
        2 => any::<u16>().prop_map(Op::Get),
    ]
}

/// Many equal short items, some of each length class, some alone in a chunk.
fn item_of(seed: u16) -> Vec<u8> {
    match seed % 64 {
        0 => vec![b'x'; 9_000],
        1 => vec![b'y'; 20_000],
        2 => vec![b'z'; 191],
        3 => vec![b'z'; 192],
        4 => vec![b'w'; 3_000],
        5 => vec![],
        _ => format!("item:{}", seed % 11).into_bytes(),
    }
}

fn end_of(front: bool) -> End {
    if front { End::Front } else { End::Back }
}

fn apply(list: &mut List, model: &mut VecDeque<Vec<u8>>, op: Op, rules: &Rules) {
    let len = model.len();
    match op {
        Op::Push(front, seed) => {
            let item = item_of(seed);
            list.push(end_of(front), &item, rules);
            if front { model.push_front(item) } else { model.push_back(item) }
        }
        Op::Pop(front) => {
            let there = if front { model.pop_front() } else { model.pop_back() };
            assert_eq!(list.peek(end_of(front)), there.as_deref());
            assert_eq!(list.pop(end_of(front)), there);
        }
        Op::Set(n, seed) => {
            let index = usize::from(n) % (len + 1);
            let there = model.get_mut(index);
            assert_eq!(list.set(index, &item_of(seed), rules), there.is_some());
            there.into_iter().for_each(|item| *item = item_of(seed));
        }
        Op::Insert(n, seed) => {
            let index = usize::from(n) % (len + 2);
            assert_eq!(list.insert(index, &item_of(seed), rules), index <= len);
            if index <= len {
                model.insert(index, item_of(seed));
            }
        }
        Op::Remove(seed, front, count) => {
            let item = item_of(u16::from(seed));
            let which = match count % 4 {
                0 => Occurrences::All,
                n => Occurrences::From(end_of(front), usize::from(n)),
            };
            let quota = if count % 4 == 0 { len } else { usize::from(count % 4) };
            let at = |i: &usize| model[*i] == item;
            let mut hits: Vec<usize> = (0..len).filter(at).collect();
            if !front && count % 4 != 0 {
                hits.reverse();
            }
            hits.truncate(quota);
            hits.sort_unstable();
            assert_eq!(list.remove(&item, which, rules), hits.len());
            hits.iter().rev().for_each(|&i| drop(model.remove(i)));
        }
        Op::Trim(front, back) => {
            let (start, end) = (usize::from(front), len.saturating_sub(usize::from(back)));
            let kept: VecDeque<_> = model.range(start.min(end)..end).cloned().collect();
            assert_eq!(list.trim(start..end), len - kept.len());
            *model = kept;
        }
        Op::Get(n) => {
            let index = usize::from(n) % (len + 1);
            assert_eq!(list.get(index), model.get(index).map(Vec::as_slice));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(160))]

    #[test]
    fn behaves_like_a_deque(
        ops in prop::collection::vec(op(), 1..500),
        size in prop_oneof![Just(-2), Just(-1), Just(-5), Just(1), Just(3), Just(100)],
    ) {
        let rules = rules(size);
        let (mut list, mut model) = (List::new(), VecDeque::new());
        for op in ops {
            apply(&mut list, &mut model, op, &rules);
            prop_assert_eq!(list.len(), model.len());
        }
        list.check();
        prop_assert!(list.iter().eq(model.iter()));
        prop_assert!(list.iter().rev().eq(model.iter().rev()));
        let mid = model.len() / 2;
        prop_assert!(list.range(mid..usize::MAX).eq(model.range(mid..)));
        prop_assert!(list.range(1..mid).rev().eq(model.range(1.min(mid)..mid).rev()));
        let mut both = list.iter();
        for n in 0..model.len() {
            let one = if n % 3 == 0 { both.next_back() } else { both.next() };
            prop_assert!(one.is_some());
        }
        prop_assert_eq!((both.next(), both.next_back()), (None, None));
    }

    #[test]
    fn positions_match_a_walk(
        items in prop::collection::vec(0..3_u8, 0..60),
        skip in 0..4_usize, max in 0..70_usize, front in any::<bool>(),
    ) {
        let rules = rules(5);
        let mut list = List::new();
        items.iter().for_each(|i| list.push(End::Back, &[*i], &rules));
        let mut order: Vec<usize> = (0..items.len()).collect();
        if !front {
            order.reverse();
        }
        let want: Vec<usize> =
            order.into_iter().take(max).filter(|i| items[*i] == 1).skip(skip).collect();
        let got: Vec<usize> = list.positions(&[1], end_of(front), skip, max).collect();
        prop_assert_eq!(got, want);
    }
}

#[test]
fn an_item_of_16_bytes_costs_18() {
    for end in [End::Front, End::Back] {
        let mut list = List::new();
        let rules = rules(-2);
        (0..500_000_u128).for_each(|n| list.push(end, &n.to_be_bytes(), &rules));
        let each = list.memory_bytes() as f64 / 500_000.0;
        assert!(each <= 18.2, "{each} bytes an item");
    }
}

#[test]
fn a_queue_stays_small_while_it_turns_over() {
    let rules = rules(-2);
    let mut list = List::new();
    let mut peak = 0;
    for n in 0..300_000_u64 {
        list.push(End::Back, &n.to_be_bytes(), &rules);
        if n >= 1_000 {
            assert_eq!(list.pop(End::Front), Some((n - 1_000).to_be_bytes().to_vec()));
        }
        peak = peak.max(list.memory_bytes());
    }
    list.check();
    assert!(peak < 40_000, "{peak} bytes for 1,000 items of 8");
}

#[test]
fn alternating_ends_do_not_slide_each_time() {
    let rules = rules(-2);
    let mut list = List::new();
    for n in 0..100_u8 {
        list.push(End::Back, &[n], &rules);
        list.push(End::Front, &[n], &rules);
    }
    list.check();
    assert_eq!((list.peek(End::Front), list.peek(End::Back)), (Some(&[99][..]), Some(&[99][..])));
    assert!(list.memory_bytes() < 1_100, "{}", list.memory_bytes());
}

#[test]
fn removals_leave_no_crumbs() {
    let rules = rules(-2);
    let mut list = List::new();
    for n in 0..20_000_u32 {
        list.push(End::Back, if n % 50 == 0 { b"stays" } else { b"goes." }, &rules);
    }
    assert_eq!(list.remove(b"goes.", Occurrences::All, &rules), 19_600);
    list.check();
    assert!(list.memory_bytes() < 400 * 7 * 4, "{}", list.memory_bytes());
}

#[test]
fn handles_are_small_and_empty_lists_own_nothing() {
    let rules = rules(-2);
    let mut list = List::new();
    assert_eq!(
        (size_of::<List>(), list.memory_bytes(), list.encoding_name()),
        (24, 0, "quicklist")
    );
    list.push(End::Back, b"0123456789abcdef", &rules);
    assert_eq!(list.memory_bytes(), 32);
    let copy = list.clone();
    assert!(list.discard(End::Back) && !list.discard(End::Back));
    assert_eq!((list.memory_bytes(), copy.len()), (0, 1));
    (0..5_000).for_each(|_| list.push(End::Front, b"0123456789abcdef", &rules));
    assert_eq!(list.trim(3..3), 5_000);
    assert_eq!(list.memory_bytes(), 0);
}

#[test]
fn refused_changes_change_nothing() {
    let rules = rules(-2);
    let mut list = List::new();
    (0..3_u8).for_each(|n| list.push(End::Back, &[n], &rules));
    assert!(!list.set(3, b"x", &rules) && !list.insert(4, b"x", &rules));
    assert!(!list.insert_beside(b"x", End::Back, b"y", &rules));
    assert_eq!(list.remove(b"x", Occurrences::All, &rules), 0);
    assert_eq!(list.iter().collect::<Vec<_>>(), [[0], [1], [2]]);
    assert!(list.insert_beside(&[1], End::Back, b"b", &rules));
    assert!(list.insert_beside(&[0], End::Front, b"a", &rules));
    let want: [&[u8]; 5] = [b"a", &[0], &[1], b"b", &[2]];
    assert_eq!(list.iter().collect::<Vec<_>>(), want);
}
