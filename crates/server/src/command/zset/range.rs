//! Ranges of sorted sets, by rank, score or name: ZRANGE and all that reads, counts, deletes or
//! stores such a range.

use std::ops::Range;

use flintlock_diskcache::cache::home::Known;

use crate::command::collection::{Pairs, index_range};
use crate::command::{Command, Ctx, Error, Flags, Keys, Request};
use crate::resp::encode::Reply;
use crate::tier::Effect;
use crate::types::number::parse_i64;
use crate::types::zset::{LexBound, LexRange, ScoreBound, ScoreRange};
use crate::types::{Score, ZSet};

use super::reply_score;

const READ: Flags = Flags::READONLY;
const COUNT: Flags = Flags::READONLY.or(Flags::FAST);
const WRITE: Flags = Flags::WRITE;
const STORE: Flags = Flags::WRITE.or(Flags::DENYOOM);

/// The rows of this part of the family.
pub(super) fn commands() -> Vec<Command> {
    vec![
        Command::new("zrange", zrange, -4, &[READ], Keys::ONE),
        Command::new("zrevrange", zrevrange, -4, &[READ], Keys::ONE),
        Command::new("zrangebyscore", zrangebyscore, -4, &[READ], Keys::ONE),
        Command::new("zrevrangebyscore", zrevrangebyscore, -4, &[READ], Keys::ONE),
        Command::new("zrangebylex", zrangebylex, -4, &[READ], Keys::ONE),
        Command::new("zrevrangebylex", zrevrangebylex, -4, &[READ], Keys::ONE),
        Command::new("zrangestore", zrangestore, -5, &[STORE], Keys::TWO),
        Command::new("zcount", zcount, 4, &[COUNT], Keys::ONE),
        Command::new("zlexcount", zlexcount, 4, &[COUNT], Keys::ONE),
        Command::new("zremrangebyrank", zremrangebyrank, 4, &[WRITE], Keys::ONE),
        Command::new("zremrangebyscore", zremrangebyscore, 4, &[WRITE], Keys::ONE),
        Command::new("zremrangebylex", zremrangebylex, 4, &[WRITE], Keys::ONE),
    ]
}

/// What the ends of a range are.
#[derive(Copy, Clone, Eq, PartialEq)]
enum By {
    Rank,
    Score,
    Lex,
}

/// What a command's name says of its range; the rest is said by options.
#[derive(Copy, Clone, Default)]
struct Form {
    by: Option<By>,
    rev: Option<bool>,
    stores: bool,
}

impl Form {
    const fn of(by: By, rev: bool) -> Self {
        Self { by: Some(by), rev: Some(rev), stores: false }
    }
}

/// A request for a range.
struct ZRange {
    by: By,
    rev: bool,
    with_scores: bool,
    limit: Option<(i64, i64)>,
}

impl ZRange {
    /// Reads the options that stand behind the ends, which begin at argument `at`.
    fn parse(request: &Request<'_>, at: usize, form: Form) -> Result<Self, Error> {
        let Form { mut by, mut rev, stores } = form;
        let (mut with_scores, mut limit) = (false, None);
        let mut rest = request.from(at + 2);
        while let Some(word) = rest.next() {
            match word.to_ascii_lowercase().as_slice() {
                b"withscores" if !stores => with_scores = true,
                b"rev" if rev.is_none() => rev = Some(true),
                b"byscore" if by.is_none() => by = Some(By::Score),
                b"bylex" if by.is_none() => by = Some(By::Lex),
                b"limit" if rest.len() >= 2 => {
                    let mut number = || rest.next().and_then(parse_i64).ok_or(Error::NOT_INTEGER);
                    limit = Some((number()?, number()?));
                }
                _ => return Err(Error::SYNTAX),
            }
        }
        let (by, rev) = (by.unwrap_or(By::Rank), rev.unwrap_or(false));
        if by == By::Rank {
            // A count of -1 is the default: Redis cannot tell it from none.
            limit = limit.filter(|(_, count)| *count != -1);
        }
        if limit.is_some() && by == By::Rank {
            return Err(Error::fixed(
                "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or \
                 BYLEX",
            ));
        }
        if with_scores && by == By::Lex {
            return Err(Error::fixed(
                "ERR syntax error, WITHSCORES not supported in combination with BYLEX",
            ));
        }
        Ok(Self { by, rev, with_scores, limit })
    }

    /// The ends, which begin at argument `at`: in ascending order, or with REV the other way round.
    fn ends<'a>(&self, request: &Request<'a>, at: usize) -> Result<Ends<'a>, Error> {
        let (first, second) = (request.arg(at), request.arg(at + 1));
        let is_turned = self.rev && self.by != By::Rank;
        let (low, high) = if is_turned { (second, first) } else { (first, second) };
        Ends::parse(self.by, low, high)
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
    fn parse(by: By, low: &'a [u8], high: &'a [u8]) -> Result<Self, Error> {
        const NOT_LEX: Error = Error::fixed("ERR min or max not valid string range item");
        const NOT_SCORE: Error = Error::fixed("ERR min or max is not a float");
        Ok(match by {
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

fn read_range(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
    form: Form,
) -> Result<(), Error> {
    let options = ZRange::parse(request, 2, form)?;
    let ends = options.ends(request, 2)?;
    let Some(zset) = ctx.read_as::<ZSet>(ctx.key(request, 1))? else {
        reply.array(0);
        return Ok(());
    };
    let ranks = options.limited(ends.ranks(zset, options.rev));
    let pairs = Pairs::new(options.with_scores, reply.proto);
    pairs.head(ranks.len(), reply);
    let mut one = |(member, score): (&[u8], Score)| {
        pairs.element(member, reply, |reply| reply_score(score, reply));
    };
    if options.rev {
        zset.range(ranks).rev().for_each(&mut one)
    } else {
        zset.range(ranks).for_each(one)
    }
    Ok(())
}

fn zrange(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    read_range(ctx, request, reply, Form::default())
}

fn zrevrange(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    read_range(ctx, request, reply, Form::of(By::Rank, true))
}

fn zrangebyscore(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Error> {
    read_range(ctx, request, reply, Form::of(By::Score, false))
}

fn zrevrangebyscore(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Error> {
    read_range(ctx, request, reply, Form::of(By::Score, true))
}

fn zrangebylex(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Error> {
    read_range(ctx, request, reply, Form::of(By::Lex, false))
}

fn zrevrangebylex(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Error> {
    read_range(ctx, request, reply, Form::of(By::Lex, true))
}

fn zrangestore(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Error> {
    let options = ZRange::parse(request, 3, Form { stores: true, ..Form::default() })?;
    let ends = options.ends(request, 3)?;
    let sources = ctx.read_all::<ZSet>(&[ctx.key(request, 2)])?;
    let mut result = ZSet::new();
    for source in sources {
        let ranks = options.limited(ends.ranks(source.get(), options.rev));
        for (member, score) in source.get().range(ranks) {
            result.insert(member, score, &ctx.server.rules);
        }
    }
    ctx.store(ctx.key(request, 1), result, reply)
}

fn count_range(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
    by: By,
) -> Result<(), Error> {
    let ends = Ends::parse(by, request.arg(2), request.arg(3))?;
    let zset = ctx.read_as::<ZSet>(ctx.key(request, 1))?;
    reply.count(zset.map_or(0, |zset| ends.ranks(zset, false).len()));
    Ok(())
}

fn zcount(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    count_range(ctx, request, reply, By::Score)
}

fn zlexcount(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    count_range(ctx, request, reply, By::Lex)
}

fn remove_range(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
    by: By,
) -> Result<(), Error> {
    let ends = Ends::parse(by, request.arg(2), request.arg(3))?;
    let key = ctx.key(request, 1);
    let Some(loc) = ctx.find_as::<ZSet>(key)? else {
        reply.int(0);
        return Ok(());
    };
    let at = (loc, Known::Value);
    let removed = ctx.change_as(key, at, Effect::Request(request), |zset: &mut ZSet, _| {
        zset.remove_ranks(ends.ranks(zset, false))
    });
    reply.count(removed);
    Ok(())
}

fn zremrangebyrank(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Error> {
    remove_range(ctx, request, reply, By::Rank)
}

fn zremrangebyscore(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Error> {
    remove_range(ctx, request, reply, By::Score)
}

fn zremrangebylex(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Error> {
    remove_range(ctx, request, reply, By::Lex)
}
