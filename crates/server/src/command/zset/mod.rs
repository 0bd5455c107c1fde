//! Sorted sets.

use flintlock_diskcache::cache::home::Known;

use std::ops::Range;

use crate::resp::encode::{Proto, Reply};
use crate::tier::Effect;
use crate::types::number::{format_f64, parse_i64};
use crate::types::zset::{LexBound, LexRange, ScoreBound, ScoreRange};
use crate::types::{Score, ZSet};

use super::collection::{index_range, parse_count};
use super::{Command, Ctx, Error, Flags, Keys, Request};

const ADD: Flags = Flags::WRITE.or(Flags::DENYOOM).or(Flags::FAST);
const TAKE: Flags = Flags::WRITE.or(Flags::FAST);
const READ: Flags = Flags::READONLY.or(Flags::FAST);

/// The rows of this family.
pub(super) fn commands() -> Vec<Command> {
    vec![
        Command::new("zadd", zadd, -4, &[ADD], Keys::ONE),
        Command::new("zscore", zscore, 3, &[READ], Keys::ONE),
        Command::new("zrange", zrange, -4, &[Flags::READONLY], Keys::ONE),
        Command::new("zrem", zrem, -3, &[TAKE], Keys::ONE),
        Command::new("zcard", zcard, 2, &[READ], Keys::ONE),
        Command::new("zpopmin", zpopmin, -2, &[TAKE], Keys::ONE),
    ]
}

fn reply_score(score: Score, reply: &mut Reply<'_>) {
    reply.double(format_f64(score.get()).as_bytes());
}

/// Options of ZADD.
#[derive(Copy, Clone, Default)]
struct Add {
    nx: bool,
    xx: bool,
    gt: bool,
    lt: bool,
    ch: bool,
    incr: bool,
}

impl Add {
    /// Reads the options; returns them and where the first score is.
    fn parse(request: &Request<'_>) -> Result<(Self, usize), Error> {
        let mut add = Self::default();
        let mut at = 2;
        while let Some(word) = request.get(at) {
            match word.to_ascii_lowercase().as_slice() {
                b"nx" => add.nx = true,
                b"xx" => add.xx = true,
                b"gt" => add.gt = true,
                b"lt" => add.lt = true,
                b"ch" => add.ch = true,
                b"incr" => add.incr = true,
                _ => break,
            }
            at += 1;
        }
        let pairs = request.len() - at;
        if pairs == 0 || pairs % 2 == 1 {
            return Err(Error::SYNTAX);
        }
        if add.nx && add.xx {
            return Err(Error::fixed("ERR XX and NX options at the same time are not compatible"));
        }
        if (add.gt || add.lt) && add.nx || add.gt && add.lt {
            return Err(Error::fixed(
                "ERR GT, LT, and/or NX options at the same time are not compatible",
            ));
        }
        if add.incr && pairs > 2 {
            return Err(Error::fixed("ERR INCR option supports a single increment-element pair"));
        }
        Ok((add, at))
    }

    /// The score of a member that had `old` and is given `score`.
    fn decide(self, old: Option<Score>, score: Score) -> Result<Option<Score>, Error> {
        let Some(old) = old else { return Ok((!self.xx).then_some(score)) };
        if self.nx {
            return Ok(Some(old));
        }
        let new = if self.incr { old.checked_add(score).ok_or(Error::NAN_SCORE)? } else { score };
        let keep = self.gt && new <= old || self.lt && new >= old;
        Ok(Some(if keep { old } else { new }))
    }
}

fn zadd(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let (add, first) = Add::parse(request)?;
    // Every score is read before anything changes.
    for i in (first..request.len()).step_by(2) {
        Score::parse(request.arg(i)).ok_or(Error::NOT_FLOAT)?;
    }
    let key = ctx.key(request, 1);
    let found = ctx.find_as::<ZSet>(key)?;
    let member = request.arg(first + 1);
    if add.incr {
        let old = found.and_then(|loc| ctx.view::<ZSet>(loc).score(member));
        let by = Score::parse(request.arg(first)).ok_or(Error::NOT_FLOAT)?;
        let refused = add.nx && old.is_some() || add.xx && old.is_none();
        let new = add.decide(old, by)?;
        if refused || old.is_some() && new == old && (add.gt || add.lt) {
            reply.null();
            return Ok(());
        }
    } else if found.is_none() && add.xx {
        reply.int(0);
        return Ok(());
    }
    let at = ctx.find_or_create::<ZSet>(key, request)?;
    let (mut added, mut updated, mut last) = (0, 0, None);
    ctx.change_as(key, at, Effect::Request(request), |zset: &mut ZSet, rules| {
        for i in (first..request.len()).step_by(2) {
            let Some(score) = Score::parse(request.arg(i)) else { continue };
            // INCR was tried out above, so no sum fails here.
            let decide = |old| add.decide(old, score).unwrap_or(old);
            let done = zset.upsert(request.arg(i + 1), rules, decide);
            added += usize::from(done.is_added());
            updated += usize::from(done.is_updated());
            last = done.new;
        }
        added + updated
    });
    match last {
        Some(score) if add.incr => reply_score(score, reply),
        None if add.incr => reply.null(),
        _ => reply.count(if add.ch { added + updated } else { added }),
    }
    Ok(())
}

fn zscore(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let zset = ctx.read_as::<ZSet>(ctx.key(request, 1))?;
    match zset.and_then(|zset| zset.score(request.arg(2))) {
        Some(score) => reply_score(score, reply),
        None => reply.null(),
    }
    Ok(())
}

fn zrem(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let key = ctx.key(request, 1);
    let Some(loc) = ctx.find_as::<ZSet>(key)? else {
        reply.int(0);
        return Ok(());
    };
    let there =
        ctx.change_as(key, (loc, Known::Value), Effect::Request(request), |zset: &mut ZSet, _| {
            request.from(2).filter(|member| zset.remove(member).is_some()).count()
        });
    reply.count(there);
    Ok(())
}

fn zcard(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    reply.count(ctx.read_as::<ZSet>(ctx.key(request, 1))?.map_or(0, ZSet::len));
    Ok(())
}

fn zpopmin(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    if request.len() > 3 {
        return Err(Error::SYNTAX);
    }
    let count = request.get(2).map(parse_count).transpose()?;
    let key = ctx.key(request, 1);
    let Some(loc) = ctx.find_as::<ZSet>(key)? else {
        reply.array(0);
        return Ok(());
    };
    let take = count.unwrap_or(1).min(ctx.view::<ZSet>(loc).len());
    let nested = count.is_some() && reply.proto == Proto::Resp3;
    reply.array(if nested { take } else { 2 * take });
    ctx.change_as(key, (loc, Known::Value), Effect::Request(request), |zset: &mut ZSet, _| {
        for (member, score) in zset.range(0..take) {
            reply_member(member, Some(score), nested, reply);
        }
        zset.remove_ranks(0..take)
    });
    Ok(())
}

fn reply_member(member: &[u8], score: Option<Score>, nested: bool, reply: &mut Reply<'_>) {
    if nested {
        reply.array(2);
    }
    reply.bulk(member);
    if let Some(score) = score {
        reply_score(score, reply);
    }
}

/// What the ends of a ZRANGE are.
#[derive(Copy, Clone, Eq, PartialEq)]
enum By {
    Rank,
    Score,
    Lex,
}

/// Options of ZRANGE.
struct ZRange {
    by: By,
    rev: bool,
    with_scores: bool,
    limit: Option<(i64, i64)>,
}

impl ZRange {
    fn parse(request: &Request<'_>) -> Result<Self, Error> {
        let mut it = Self { by: By::Rank, rev: false, with_scores: false, limit: None };
        let mut rest = request.from(4);
        while let Some(word) = rest.next() {
            match word.to_ascii_lowercase().as_slice() {
                b"withscores" => it.with_scores = true,
                b"rev" if !it.rev => it.rev = true,
                b"byscore" if it.by == By::Rank => it.by = By::Score,
                b"bylex" if it.by == By::Rank => it.by = By::Lex,
                b"limit" if rest.len() >= 2 => {
                    let mut number = || rest.next().and_then(parse_i64).ok_or(Error::NOT_INTEGER);
                    it.limit = Some((number()?, number()?));
                }
                _ => return Err(Error::SYNTAX),
            }
        }
        if it.by == By::Rank {
            // A count of -1 is the default: Redis cannot tell it from none.
            it.limit = it.limit.filter(|(_, count)| *count != -1);
        }
        if it.limit.is_some() && it.by == By::Rank {
            return Err(Error::fixed(
                "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or \
                 BYLEX",
            ));
        }
        if it.with_scores && it.by == By::Lex {
            return Err(Error::fixed(
                "ERR syntax error, WITHSCORES not supported in combination with BYLEX",
            ));
        }
        Ok(it)
    }

    /// The ends, in ascending order; with REV they are given the other way round.
    fn ends<'a>(&self, request: &Request<'a>) -> (&'a [u8], &'a [u8]) {
        let (first, second) = (request.arg(2), request.arg(3));
        if self.rev && self.by != By::Rank { (second, first) } else { (first, second) }
    }

    /// Applies LIMIT to the ranks found.
    fn limited(&self, ranks: Range<usize>) -> Range<usize> {
        let Some((offset, count)) = self.limit else { return ranks };
        let Ok(offset) = usize::try_from(offset) else { return 0..0 };
        let offset = offset.min(ranks.len());
        let left = ranks.len() - offset;
        let count = usize::try_from(count).map_or(left, |count| count.min(left));
        if self.rev {
            ranks.end - offset - count..ranks.end - offset
        } else {
            ranks.start + offset..ranks.start + offset + count
        }
    }
}

/// The ends of a range, read.
enum Ends<'a> {
    Rank(i64, i64),
    Score(ScoreRange),
    Lex(LexRange<'a>),
}

impl<'a> Ends<'a> {
    fn parse(options: &ZRange, request: &Request<'a>) -> Result<Self, Error> {
        const NOT_LEX: Error = Error::fixed("ERR min or max not valid string range item");
        const NOT_SCORE: Error = Error::fixed("ERR min or max is not a float");
        let (low, high) = options.ends(request);
        Ok(match options.by {
            By::Rank => Self::Rank(
                parse_i64(low).ok_or(Error::NOT_INTEGER)?,
                parse_i64(high).ok_or(Error::NOT_INTEGER)?,
            ),
            By::Score => Self::Score(ScoreRange {
                min: ScoreBound::parse(low).ok_or(NOT_SCORE)?,
                max: ScoreBound::parse(high).ok_or(NOT_SCORE)?,
            }),
            By::Lex => Self::Lex(LexRange {
                min: LexBound::parse(low).ok_or(NOT_LEX)?,
                max: LexBound::parse(high).ok_or(NOT_LEX)?,
            }),
        })
    }

    fn ranks(&self, zset: &ZSet, rev: bool) -> Range<usize> {
        match self {
            Self::Rank(start, stop) => {
                let ranks = index_range(*start, *stop, zset.len());
                if rev { zset.len() - ranks.end..zset.len() - ranks.start } else { ranks }
            }
            Self::Score(range) => zset.ranks_by_score(range),
            Self::Lex(range) => zset.ranks_by_lex(range),
        }
    }
}

fn zrange(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let options = ZRange::parse(request)?;
    let ends = Ends::parse(&options, request)?;
    let Some(zset) = ctx.read_as::<ZSet>(ctx.key(request, 1))? else {
        reply.array(0);
        return Ok(());
    };
    let ranks = options.limited(ends.ranks(zset, options.rev));
    let nested = options.with_scores && reply.proto == Proto::Resp3;
    let per_member = if options.with_scores && !nested { 2 } else { 1 };
    reply.array(ranks.len() * per_member);
    let mut one = |(member, score): (&[u8], Score)| {
        reply_member(member, options.with_scores.then_some(score), nested, reply);
    };
    if options.rev {
        zset.range(ranks).rev().for_each(&mut one)
    } else {
        zset.range(ranks).for_each(one)
    }
    Ok(())
}
