//! Union, intersection and difference of sets. Pure; any thread.
//!
//! Intersection and difference are lazy, so SINTERCARD with a limit and replies that stream stop
//! where they like; the union has to remember what it has shown and is therefore a set.

use super::{Iter, Member, Set};
use crate::types::rules::Rules;

/// The members that all of `sets` have, in the order of the smallest; none when there is no set.
/// Looks each member of the smallest set up in the others, the smaller ones first.
pub fn intersection<'a>(sets: &[&'a Set]) -> impl Iterator<Item = Member<'a>> + use<'a> {
    let mut sets = sets.to_vec();
    sets.sort_by_key(|set| set.len());
    let smallest = if sets.is_empty() { None } else { Some(sets.remove(0).iter()) };
    let keep = move |member: &Member<'_>| sets.iter().all(|set| set.contains_member(*member));
    smallest.into_iter().flatten().filter(keep)
}

/// The members of `first` that none of `others` has, in the order of `first`. Many others are
/// joined first, when that is less work than as many look-ups for each member.
pub fn difference<'a>(
    first: &'a Set,
    others: &[&'a Set],
    rules: &Rules,
) -> impl Iterator<Item = Member<'a>> + use<'a> {
    let mut others = others.to_vec();
    let members = others.iter().map(|set| set.len()).sum::<usize>();
    let lookups = first.len().saturating_mul(others.len());
    let joined = (others.len() > 1 && members < lookups / 2).then(|| union(&others, rules));
    if joined.is_some() {
        others.clear();
    }
    // The larger ones are the likelier to have a member and so to end its look-ups.
    others.sort_by_key(|set| std::cmp::Reverse(set.len()));
    let keep = move |member: &Member<'_>| {
        !joined.iter().chain(others.iter().copied()).any(|set| set.contains_member(*member))
    };
    Iter::filter(first.iter(), keep)
}

/// A new set of the members of all of `sets`.
#[must_use]
pub fn union(sets: &[&Set], rules: &Rules) -> Set {
    let mut all = Set::new();
    for set in sets {
        set.iter().for_each(|member| _ = all.add_member(member, rules));
    }
    all
}
