//! Sorted sets: members with scores, ordered by (score, member). Pure; any thread.
//!
//! A small one is one packed buffer in order. A big one is a counted B+tree (`tree`) with an
//! index from member to leaf (`index`): a member of 16 bytes costs about 46 bytes. Every range,
//! by score or by name, is first turned into a range of ranks; then one iterator, which runs both
//! ways, serves ZRANGE in all its shapes, and counting needs no iteration.

mod big;
mod index;
mod iter;
mod leaf;
mod node;
mod score;
mod search;
mod small;
#[cfg(test)]
mod tests;
mod tree;

pub(super) use index::Link;
pub use iter::Iter;
pub(super) use leaf::Leaf;
pub(super) use node::Node;
pub use score::{LexBound, LexRange, Score, ScoreBound, ScoreRange};

use super::packed::RECORDS_MAX;
use super::parts::{Parts, Pieces};
use super::rng::Rng;
use super::rules::Rules;
use super::sample;
use big::Big;
use small::Small;
use std::collections::BTreeSet;
use std::ops::Range;

/// What [`ZSet::upsert`] found and left.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Upsert {
    /// The score before; `None` when the member was not there.
    pub old: Option<Score>,
    /// The score now; `None` when the member is not there.
    pub new: Option<Score>,
}

impl Upsert {
    /// Whether the member has been added.
    #[must_use]
    pub const fn is_added(&self) -> bool {
        self.old.is_none() && self.new.is_some()
    }

    /// Whether the member was there and has another score now.
    #[must_use]
    pub fn is_updated(&self) -> bool {
        self.old.is_some() && self.old != self.new
    }
}

/// A sorted set. Belongs to one thread at a time; no operation blocks.
///
/// # Examples
/// ```
/// use flintlock_server::types::{HashKey, Rules, Score, ZSet};
/// use flintlock_server::types::zset::{ScoreBound, ScoreRange};
/// let rules = Rules::new(HashKey::new([7; 16]));
/// let score = |x| Score::new(x).unwrap();
/// let mut board = ZSet::new();
/// for (name, points) in [(&b"ann"[..], 3.0), (b"bob", 1.0), (b"cid", 2.0)] {
///     assert!(board.insert(name, score(points), &rules).is_added());
/// }
/// assert_eq!(board.rank(b"cid"), Some((1, score(2.0))));
/// let (min, max) = (ScoreBound::parse(b"(1").unwrap(), ScoreBound::parse(b"+inf").unwrap());
/// let range = ScoreRange { min, max };
/// let ranks = board.ranks_by_score(&range);
/// let names: Vec<&[u8]> = board.range(ranks).rev().map(|(name, _)| name).collect();
/// assert_eq!(names, [b"ann", b"cid"]);
/// ```
#[derive(Clone, Debug)]
pub struct ZSet {
    form: Form,
}

#[derive(Clone, Debug)]
enum Form {
    Small(Small),
    Big(Box<Big>),
}

impl Default for ZSet {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether a packed sorted set may have `count` members, this one among them.
fn fits(count: usize, member: &[u8], rules: &Rules) -> bool {
    count <= rules.zset_max_listpack_entries.min(RECORDS_MAX)
        && member.len() <= rules.zset_max_listpack_value
}

impl ZSet {
    /// An empty sorted set, which owns no memory.
    #[must_use]
    pub const fn new() -> Self {
        Self { form: Form::Small(Small::new()) }
    }

    /// Number of members.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.form {
            Form::Small(small) => small.count(),
            Form::Big(big) => big.count(),
        }
    }

    /// Whether there is no member; Redis deletes such a key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The score of `member`.
    #[must_use]
    pub fn score(&self, member: &[u8]) -> Option<Score> {
        match &self.form {
            Form::Small(small) => small.find(member).map(|(_, _, record)| record.score),
            Form::Big(big) => big.score(member),
        }
    }

    /// Gives `member`, of any length up to 512 MiB and copied, the score that `decide` makes of
    /// its present one (`None`: not a member). When `decide` says `None`, or the score it had,
    /// nothing changes. One look-up serves ZADD with all its options and ZINCRBY. May change the
    /// set's form.
    pub fn upsert(
        &mut self,
        member: &[u8],
        rules: &Rules,
        decide: impl FnOnce(Option<Score>) -> Option<Score>,
    ) -> Upsert {
        let small = match &mut self.form {
            Form::Big(big) => {
                let (old, new) = big.upsert(member, decide);
                return Upsert { old, new };
            }
            Form::Small(small) => small,
        };
        let old = small.find(member).map(|(_, _, record)| record.score);
        let Some(new) = decide(old) else { return Upsert { old, new: old } };
        if old == Some(new) {
            return Upsert { old, new: old };
        }
        if old.is_some() {
            small.rescore(member, new);
        } else if fits(small.count() + 1, member, rules) {
            small.insert(member, new);
        } else {
            self.become_big(rules).insert_new(member, new);
        }
        Upsert { old, new: Some(new) }
    }

    /// Gives `member` this score, whether it was there or not.
    pub fn insert(&mut self, member: &[u8], score: Score, rules: &Rules) -> Upsert {
        self.upsert(member, rules, |_| Some(score))
    }

    /// Removes `member`; the score it had.
    pub fn remove(&mut self, member: &[u8]) -> Option<Score> {
        match &mut self.form {
            Form::Small(small) => small.remove(member),
            Form::Big(big) => big.remove(member),
        }
    }

    /// The number of members before `member`, and its score.
    #[must_use]
    pub fn rank(&self, member: &[u8]) -> Option<(usize, Score)> {
        match &self.form {
            Form::Small(small) => small.find(member).map(|(rank, _, record)| (rank, record.score)),
            Form::Big(big) => big.rank(member),
        }
    }

    /// The member with `rank` members before it.
    #[must_use]
    pub fn by_rank(&self, rank: usize) -> Option<(&[u8], Score)> {
        match &self.form {
            Form::Small(small) => small.records().nth(rank).map(|r| (r.member, r.score)),
            Form::Big(big) => big.by_rank(rank),
        }
    }

    /// All members in order, from either end.
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        self.range(0..self.len())
    }

    /// The members of these ranks, as far as there are such, from either end.
    #[must_use]
    pub fn range(&self, ranks: Range<usize>) -> Iter<'_> {
        let ranks = self.clamp(ranks);
        match &self.form {
            Form::Small(small) => Iter::of_records(small.records(), ranks),
            Form::Big(big) => Iter::of_tree(big.tree(), ranks),
        }
    }

    fn clamp(&self, ranks: Range<usize>) -> Range<usize> {
        let end = ranks.end.min(self.len());
        ranks.start.min(end)..end
    }

    /// The ranks of the members whose scores lie in `range`; empty where they would be if none do.
    #[must_use]
    pub fn ranks_by_score(&self, range: &ScoreRange) -> Range<usize> {
        let ranks = match &self.form {
            Form::Small(small) => {
                let before =
                    |f: &dyn Fn(Score) -> bool| small.records().filter(|r| f(r.score)).count();
                before(&|score| range.min.is_above(score))..before(&|score| {
                    range.max.admits_as_end(score)
                })
            }
            Form::Big(big) => big.ranks_by_score(range),
        };
        ranks.start..ranks.end.max(ranks.start)
    }

    /// The ranks of the members that lie in `range`, in a set whose scores are all equal; with
    /// others the answer is some range of ranks.
    #[must_use]
    pub fn ranks_by_lex(&self, range: &LexRange<'_>) -> Range<usize> {
        let start = |m: &[u8]| range.min.is_above(|bound| m.cmp(bound));
        let end = |m: &[u8]| range.max.admits_as_end(|bound| m.cmp(bound));
        let first_and_last = self.by_rank(0).zip(self.by_rank(self.len().wrapping_sub(1)));
        // As in Redis these two are looked at first, whatever the scores are.
        if first_and_last.is_none_or(|((first, _), (last, _))| !end(first) || start(last)) {
            return 0..0;
        }
        let ranks = match &self.form {
            Form::Small(small) => {
                let start = small.records().take_while(|r| start(r.member)).count();
                start..small.records().take_while(|r| end(r.member)).count()
            }
            Form::Big(big) => big.ranks_by_lex(range),
        };
        ranks.start..ranks.end.max(ranks.start)
    }

    /// Removes the members of these ranks, as far as there are such; returns how many.
    pub fn remove_ranks(&mut self, ranks: Range<usize>) -> usize {
        let ranks = self.clamp(ranks);
        let count = ranks.len();
        match &mut self.form {
            Form::Small(_) if count == 0 => {}
            Form::Small(small) => small.remove_ranks(ranks.start, count),
            Form::Big(big) => big.remove_ranks(ranks),
        }
        count
    }

    /// Removes the first member and returns it.
    pub fn pop_min(&mut self) -> Option<(Vec<u8>, Score)> {
        self.pop(0)
    }

    /// Removes the last member and returns it.
    pub fn pop_max(&mut self) -> Option<(Vec<u8>, Score)> {
        self.pop(self.len().checked_sub(1)?)
    }

    fn pop(&mut self, rank: usize) -> Option<(Vec<u8>, Score)> {
        let (member, score) = self.by_rank(rank)?;
        let member = member.to_vec();
        self.remove_ranks(rank..rank + 1);
        Some((member, score))
    }

    /// A uniformly chosen member; `None` when empty.
    pub fn random(&self, rng: &mut impl Rng) -> Option<(&[u8], Score)> {
        if self.is_empty() { None } else { self.by_rank(rng.below(self.len())) }
    }

    /// Members chosen again and again, each time uniformly from all; ends only when there are none.
    pub fn draws<'a>(&'a self, rng: &'a mut impl Rng) -> impl Iterator<Item = (&'a [u8], Score)> {
        // One of the packed records is reached by a walk, so all are noted at the first.
        let packed: Vec<_> = self.iter().take_while(|_| self.is_small()).collect();
        std::iter::from_fn(move || match &self.form {
            Form::Small(_) if packed.is_empty() => None,
            Form::Small(_) => Some(packed[rng.below(packed.len())]),
            Form::Big(_) => self.random(rng),
        })
    }

    /// `count` distinct members, uniformly chosen; all of them when there are no more.
    pub fn sample(&self, count: usize, rng: &mut impl Rng) -> Vec<(&[u8], Score)> {
        if count.saturating_mul(4) >= self.len() {
            return sample::from_iter(self.iter(), self.len(), count, rng);
        }
        let mut ranks = BTreeSet::new();
        while ranks.len() < count {
            ranks.insert(rng.below(self.len()));
        }
        ranks.into_iter().filter_map(|rank| self.by_rank(rank)).collect()
    }

    /// Shows at least `count` members from `cursor` on (0 to begin; any other number is taken as a
    /// place to go on from); returns the next cursor, 0 after the end. Members that stay from the
    /// first call to the last are shown at least once, whatever happens to their scores. A small
    /// set is shown whole.
    pub fn scan<'a>(
        &'a self,
        cursor: u64,
        count: usize,
        mut visit: impl FnMut(&'a [u8], Score),
    ) -> u64 {
        match &self.form {
            Form::Small(small) => {
                small.records().for_each(|record| visit(record.member, record.score));
                0
            }
            Form::Big(big) => big.scan(cursor, count, visit),
        }
    }

    /// What OBJECT ENCODING of redis-server 7.0.15 prints.
    #[must_use]
    pub const fn encoding_name(&self) -> &'static str {
        match &self.form {
            Form::Small(_) => "listpack",
            Form::Big(_) => "skiplist",
        }
    }

    /// Heap bytes owned, allocator overhead included, the handle not; constant time.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        match &self.form {
            Form::Small(small) => small.packed.heap_bytes(),
            Form::Big(big) => big.heap_bytes(),
        }
    }

    /// An empty sorted set in the big form, which expects about so many members.
    pub(super) fn new_big(rules: &Rules, expected: usize) -> Self {
        Self { form: Form::Big(Box::new(Big::new(rules.hash_key, expected))) }
    }

    /// Whether this is the packed form.
    pub(super) const fn is_small(&self) -> bool {
        matches!(self.form, Form::Small(_))
    }

    /// As [`ZSet::insert`] for a member that the caller knows, or will check, to be new and the
    /// last in order: without the walk over a packed form.
    pub(super) fn append(&mut self, member: &[u8], score: Score, rules: &Rules) {
        match &mut self.form {
            Form::Small(small) if fits(small.count() + 1, member, rules) => {
                small.append(member, score);
            }
            _ => _ = self.become_big(rules).upsert(member, |_| Some(score)),
        }
    }

    pub(super) fn into_parts(self) -> Parts {
        let bytes = self.memory_bytes();
        let Form::Big(big) = self.form else { return Parts::none() };
        let (leaves, nodes, links) = big.into_parts();
        let pieces = vec![Pieces::Nodes(nodes), Pieces::Links(links), Pieces::Leaves(leaves)];
        Parts::new(pieces, bytes)
    }

    fn become_big(&mut self, rules: &Rules) -> &mut Big {
        if let Form::Small(small) = &self.form {
            let mut big = Box::new(Big::new(rules.hash_key, small.count() + 1));
            small.records().for_each(|record| big.insert_new(record.member, record.score));
            self.form = Form::Big(big);
        }
        match &mut self.form {
            Form::Big(big) => big,
            Form::Small(_) => unreachable!("big since the lines above"),
        }
    }
}
