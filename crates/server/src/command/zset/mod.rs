//! Sorted sets: members one by one; `range` has stretches of them, `algebra` several sets together.

mod algebra;
mod range;

use flintlock_diskcache::cache::home::Known;

use crate::keyspace::Key;
use crate::keyspace::table::Loc;
use crate::resp::encode::{Proto, Reply};
use crate::tier::Effect;
use crate::types::number::format_f64;
use crate::types::{Score, ZSet};

use super::collection::{Pairs, draw, parse_count, walk};
use super::pops::{ManyPop, first_of};
use super::{Command, Ctx, Error, Flags, Keys, Request};

const ADD: Flags = Flags::WRITE.or(Flags::DENYOOM).or(Flags::FAST);
const TAKE: Flags = Flags::WRITE.or(Flags::FAST);
const READ: Flags = Flags::READONLY.or(Flags::FAST);

/// The rows of this family.
pub(super) fn commands() -> Vec<Command> {
    let own = vec![
        Command::new("zadd", zadd, -4, &[ADD], Keys::ONE),
        Command::new("zincrby", zincrby, 4, &[ADD], Keys::ONE),
        Command::new("zscore", zscore, 3, &[READ], Keys::ONE),
        Command::new("zmscore", zmscore, -3, &[READ], Keys::ONE),
        Command::new("zrank", zrank, 3, &[READ], Keys::ONE),
        Command::new("zrevrank", zrevrank, 3, &[READ], Keys::ONE),
        Command::new("zrem", zrem, -3, &[TAKE], Keys::ONE),
        Command::new("zcard", zcard, 2, &[READ], Keys::ONE),
        Command::new("zpopmin", zpopmin, -2, &[TAKE], Keys::ONE),
        Command::new("zpopmax", zpopmax, -2, &[TAKE], Keys::ONE),
        Command::new("zmpop", zmpop, -4, &[Flags::WRITE], Keys::COUNTED),
        Command::new("zscan", zscan, -3, &[Flags::READONLY], Keys::ONE),
        Command::new("zrandmember", zrandmember, -2, &[Flags::READONLY], Keys::ONE),
    ];
    [own, range::commands(), algebra::commands()].into_iter().flatten().collect()
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
    add_members(ctx, request, reply, (add, first))
}

fn zincrby(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    add_members(ctx, request, reply, (Add { incr: true, ..Add::default() }, 2))
}

/// Adds the pairs of scores and members that begin at argument `first`.
fn add_members(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
    (add, first): (Add, usize),
) -> Result<(), Error> {
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

fn zmscore(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let zset = ctx.read_as::<ZSet>(ctx.key(request, 1))?;
    reply.array(request.len() - 2);
    for member in request.from(2) {
        match zset.and_then(|zset| zset.score(member)) {
            Some(score) => reply_score(score, reply),
            None => reply.null(),
        }
    }
    Ok(())
}

/// How many members come before the one that the request names, in ascending order.
fn rank_of(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
    rank: fn(&ZSet, usize) -> usize,
) -> Result<(), Error> {
    let zset = ctx.read_as::<ZSet>(ctx.key(request, 1))?;
    match zset.and_then(|zset| Some(rank(zset, zset.rank(request.arg(2))?.0))) {
        Some(rank) => reply.count(rank),
        None => reply.null(),
    }
    Ok(())
}

fn zrank(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    rank_of(ctx, request, reply, |_, rank| rank)
}

fn zrevrank(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    rank_of(ctx, request, reply, |zset, rank| zset.len() - 1 - rank)
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

/// From which end members are taken: those with the lowest scores, the lowest first, or with the
/// highest.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) enum End {
    Min,
    Max,
}

impl End {
    /// The end that a word names.
    pub(super) fn parse(word: &[u8]) -> Option<Self> {
        match word.to_ascii_lowercase().as_slice() {
            b"min" => Some(Self::Min),
            b"max" => Some(Self::Max),
            _ => None,
        }
    }

    /// The name of a pop from this end.
    const fn pop(self) -> &'static [u8] {
        match self {
            Self::Min => b"zpopmin",
            Self::Max => b"zpopmax",
        }
    }
}

/// Takes up to `count` members from an end of the sorted set at `loc`.
fn take(
    ctx: &mut Ctx<'_>,
    (key, loc): (Key<'_>, Loc),
    (end, count): (End, usize),
    effect: Effect<'_>,
    reply: &mut Reply<'_>,
    pairs: Pairs,
) {
    pairs.head(count.min(ctx.view::<ZSet>(loc).len()), reply);
    take_bare(ctx, (key, loc), (end, count), effect, reply, pairs);
}

/// As [`take`], behind a head that the caller has made.
fn take_bare(
    ctx: &mut Ctx<'_>,
    (key, loc): (Key<'_>, Loc),
    (end, count): (End, usize),
    effect: Effect<'_>,
    reply: &mut Reply<'_>,
    pairs: Pairs,
) {
    let len = ctx.view::<ZSet>(loc).len();
    let take = count.min(len);
    let ranks = if end == End::Max { len - take..len } else { 0..take };
    let mut show = |(member, score): (&[u8], Score)| {
        pairs.element(member, reply, |reply| reply_score(score, reply));
    };
    ctx.change_as(key, (loc, Known::Value), effect, |zset: &mut ZSet, _| {
        let members = zset.range(ranks.clone());
        if end == End::Max {
            members.rev().for_each(&mut show)
        } else {
            members.for_each(&mut show)
        }
        zset.remove_ranks(ranks)
    });
}

fn pop(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
    end: End,
) -> Result<(), Error> {
    if request.len() > 3 {
        return Err(Error::SYNTAX);
    }
    let count = request.get(2).map(parse_count).transpose()?;
    let key = ctx.key(request, 1);
    let Some(loc) = ctx.find_as::<ZSet>(key)? else {
        reply.array(0);
        return Ok(());
    };
    // Without a count the one pair stands alone, in RESP3 too.
    let pairs = Pairs::new(true, if count.is_some() { reply.proto } else { Proto::Resp2 });
    let what = (end, count.unwrap_or(1));
    take(ctx, (key, loc), what, Effect::Request(request), reply, pairs);
    Ok(())
}

fn zpopmin(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    pop(ctx, request, reply, End::Min)
}

fn zpopmax(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    pop(ctx, request, reply, End::Max)
}

fn zmpop(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let ManyPop { keys, end, count } = ManyPop::parse(ctx, request, 1, End::parse)?;
    match first_of::<ZSet>(ctx, &keys)? {
        Some(at) => take_many(ctx, at, (end, count), reply),
        None => reply.null_array(),
    }
    Ok(())
}

/// Takes the member at an end of the sorted set at `loc`, and says whose it is.
pub(super) fn take_one(
    ctx: &mut Ctx<'_>,
    (key, loc): (Key<'_>, Loc),
    end: End,
    reply: &mut Reply<'_>,
) {
    reply.array(3);
    reply.bulk(key.bytes);
    let words = [end.pop(), key.bytes];
    let pairs = Pairs::new(true, Proto::Resp2);
    take_bare(ctx, (key, loc), (end, 1), Effect::Words(&words), reply, pairs);
}

/// Takes up to `count` members from an end of the sorted set at `loc`, and says whose they are.
pub(super) fn take_many(
    ctx: &mut Ctx<'_>,
    (key, loc): (Key<'_>, Loc),
    (end, count): (End, usize),
    reply: &mut Reply<'_>,
) {
    reply.array(2);
    reply.bulk(key.bytes);
    let digits = &mut itoa::Buffer::new();
    let words = [end.pop(), key.bytes, digits.format(count).as_bytes()];
    // Each pair in an array of its own, in RESP2 too.
    let pairs = Pairs::new(true, Proto::Resp3);
    take(ctx, (key, loc), (end, count), Effect::Words(&words), reply, pairs);
}

fn zscan(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    // No double, not in RESP3 either.
    walk::<ZSet>(ctx, request, reply, |score, reply| {
        reply.bulk(format_f64(score.get()).as_bytes());
    })
}

fn zrandmember(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Error> {
    draw::<ZSet>(ctx, request, reply, "withscores", reply_score)
}
