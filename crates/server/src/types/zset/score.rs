//! Scores and ranges of them. Pure; any thread.

use crate::types::number::{parse_f64, parse_f64_bound};
use std::cmp::Ordering;

/// A double that is a number: infinities are scores, NaN is not, so scores have a total order.
/// Minus zero equals zero; a big sorted set keeps its sign, a small one does not, as in Redis.
#[derive(Clone, Copy, Debug)]
pub struct Score(f64);

impl Score {
    /// The score of a whole sorted set whose members are ordered by name alone.
    pub const ZERO: Self = Self(0.0);

    /// Takes a number; `None` for NaN.
    #[must_use]
    pub const fn new(value: f64) -> Option<Self> {
        if value.is_nan() { None } else { Some(Self(value)) }
    }

    /// Reads a score as ZADD does; see [`parse_f64`].
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        parse_f64(text).map(Self)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> f64 {
        self.0
    }

    /// The sum; `None` when it is not a number (infinity minus infinity).
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        Self::new(self.0 + other.0)
    }
}

impl PartialEq for Score {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Score {}

impl PartialOrd for Score {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }

    // The processor's own comparisons, which the tree's binary searches live on.
    #[inline]
    fn lt(&self, other: &Self) -> bool {
        self.0 < other.0
    }

    #[inline]
    fn le(&self, other: &Self) -> bool {
        self.0 <= other.0
    }

    #[inline]
    fn gt(&self, other: &Self) -> bool {
        self.0 > other.0
    }

    #[inline]
    fn ge(&self, other: &Self) -> bool {
        self.0 >= other.0
    }
}

impl Ord for Score {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        // No NaN, so exactly one of the three holds.
        if self.0 < other.0 {
            Ordering::Less
        } else if self.0 > other.0 {
            Ordering::Greater
        } else {
            Ordering::Equal
        }
    }
}

/// One end of a range of scores.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ScoreBound {
    /// The score itself belongs to the range.
    Included(Score),
    /// It does not: `(1.5`.
    Excluded(Score),
}

impl ScoreBound {
    /// Reads `1.5`, `(1.5`, `-inf`, as ZRANGEBYSCORE does; `None` when it is not a number.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        match text {
            [b'(', rest @ ..] => parse_f64_bound(rest).map(|value| Self::Excluded(Score(value))),
            all => parse_f64_bound(all).map(|value| Self::Included(Score(value))),
        }
    }

    /// Whether `score` lies below a range that begins here.
    pub(super) fn is_above(self, score: Score) -> bool {
        match self {
            Self::Included(bound) => score < bound,
            Self::Excluded(bound) => score <= bound,
        }
    }

    /// Whether `score` lies below the end of a range that ends here, or in it.
    pub(super) fn admits_as_end(self, score: Score) -> bool {
        match self {
            Self::Included(bound) => score <= bound,
            Self::Excluded(bound) => score < bound,
        }
    }
}

/// A range of scores; empty when its ends cross.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ScoreRange {
    /// Where it begins.
    pub min: ScoreBound,
    /// Where it ends.
    pub max: ScoreBound,
}

impl ScoreRange {
    /// Whether `score` lies in the range.
    #[must_use]
    pub fn contains(&self, score: Score) -> bool {
        !self.min.is_above(score) && self.max.admits_as_end(score)
    }
}

/// One end of a range of members, for sets whose scores are all equal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LexBound<'a> {
    /// Before every member: `-`.
    Min,
    /// After every member: `+`.
    Max,
    /// The member itself belongs to the range: `[name`.
    Included(&'a [u8]),
    /// It does not: `(name`.
    Excluded(&'a [u8]),
}

impl<'a> LexBound<'a> {
    /// Reads `-`, `+`, `[name` or `(name`; `None` for anything else.
    #[must_use]
    pub const fn parse(text: &'a [u8]) -> Option<Self> {
        match text {
            [b'-'] => Some(Self::Min),
            [b'+'] => Some(Self::Max),
            [b'[', name @ ..] => Some(Self::Included(name)),
            [b'(', name @ ..] => Some(Self::Excluded(name)),
            _ => None,
        }
    }

    /// Given how a member compares with the bound's, whether it lies below a range from here.
    pub(super) fn is_above(self, compare: impl FnOnce(&'a [u8]) -> Ordering) -> bool {
        match self {
            Self::Min => false,
            Self::Max => true,
            Self::Included(bound) => compare(bound).is_lt(),
            Self::Excluded(bound) => compare(bound).is_le(),
        }
    }

    /// The same for the end of a range: whether the member lies below it, or in it.
    pub(super) fn admits_as_end(self, compare: impl FnOnce(&'a [u8]) -> Ordering) -> bool {
        match self {
            Self::Min => false,
            Self::Max => true,
            Self::Included(bound) => compare(bound).is_le(),
            Self::Excluded(bound) => compare(bound).is_lt(),
        }
    }
}

/// A range of members; empty when its ends cross.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LexRange<'a> {
    /// Where it begins.
    pub min: LexBound<'a>,
    /// Where it ends.
    pub max: LexBound<'a>,
}

impl LexRange<'_> {
    /// Whether `member` lies in the range.
    #[must_use]
    pub fn contains(&self, member: &[u8]) -> bool {
        !self.min.is_above(|bound| member.cmp(bound))
            && self.max.admits_as_end(|bound| member.cmp(bound))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(value: f64) -> Score {
        Score::new(value).unwrap()
    }

    #[test]
    fn nan_is_no_score_and_zeros_are_equal() {
        assert!(Score::new(f64::NAN).is_none() && Score::parse(b"nan").is_none());
        assert_eq!(score(0.0), score(-0.0));
        assert!(score(f64::NEG_INFINITY) < score(-1.0) && score(1.0) < score(f64::INFINITY));
        assert_eq!(score(f64::INFINITY).checked_add(score(f64::NEG_INFINITY)), None);
        assert_eq!(score(1.0).checked_add(score(2.0)), Some(score(3.0)));
    }

    #[test]
    fn bounds_are_parsed_and_contain() {
        let range = |min: &[u8], max: &[u8]| ScoreRange {
            min: ScoreBound::parse(min).unwrap(),
            max: ScoreBound::parse(max).unwrap(),
        };
        let inside = |r: ScoreRange| [0.0, 1.0, 2.0, 3.0].map(|s| r.contains(score(s)));
        assert_eq!(inside(range(b"1", b"2")), [false, true, true, false]);
        assert_eq!(inside(range(b"(1", b"(3")), [false, false, true, false]);
        assert_eq!(inside(range(b"-inf", b"+inf")), [true; 4]);
        assert_eq!(inside(range(b"2", b"1")), [false; 4]);
        assert_eq!(ScoreBound::parse(b"x"), None);
        let range = |min, max| LexRange {
            min: LexBound::parse(min).unwrap(),
            max: LexBound::parse(max).unwrap(),
        };
        let inside = |r: LexRange<'_>| [&b""[..], b"a", b"b", b"c"].map(|m| r.contains(m));
        assert_eq!(inside(range(b"[a", b"(c")), [false, true, true, false]);
        assert_eq!(inside(range(b"(a", b"[c")), [false, false, true, true]);
        assert_eq!(inside(range(b"-", b"+")), [true; 4]);
        assert_eq!(inside(range(b"+", b"-")), [false; 4]);
        assert_eq!((LexBound::parse(b""), LexBound::parse(b"a")), (None, None));
    }
}
