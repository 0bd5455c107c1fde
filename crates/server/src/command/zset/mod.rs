//! Sorted sets: members one by one; `range` has stretches of them, `algebra` several sets together.

mod algebra;
mod range;

use flintlock_diskcache::cache::home::Known;

use crate::resp::encode::{Proto, Reply};
use crate::tier::Effect;
use crate::types::number::format_f64;
use crate::types::{Score, ZSet};

use super::collection::{Draw, Pairs, parse_count, reply_repeated};
use super::cursor::{Options, parse_cursor, reply_head};
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

/// Takes members with the lowest scores, the lowest first, or with the highest.
fn pop(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
    highest: bool,
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
    let len = ctx.view::<ZSet>(loc).len();
    let take = count.unwrap_or(1).min(len);
    let ranks = if highest { len - take..len } else { 0..take };
    // Without a count the one pair stands alone, in RESP3 too.
    let pairs = Pairs::new(true, if count.is_some() { reply.proto } else { Proto::Resp2 });
    pairs.head(take, reply);
    let mut show = |(member, score): (&[u8], Score)| {
        pairs.element(member, reply, |reply| reply_score(score, reply));
    };
    ctx.change_as(key, (loc, Known::Value), Effect::Request(request), |zset: &mut ZSet, _| {
        let members = zset.range(ranks.clone());
        if highest {
            members.rev().for_each(&mut show)
        } else {
            members.for_each(&mut show)
        }
        zset.remove_ranks(ranks)
    });
    Ok(())
}

fn zpopmin(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    pop(ctx, request, reply, false)
}

fn zpopmax(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    pop(ctx, request, reply, true)
}

fn zscan(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let cursor = parse_cursor(request.arg(2))?;
    let Some(zset) = ctx.read_as::<ZSet>(ctx.key(request, 1))? else {
        reply_head(0, 0, reply);
        return Ok(());
    };
    let options = Options::parse(request, 3)?;
    let mut found = Vec::new();
    let next = zset.scan(cursor, options.count, |member, score| {
        if options.admits(member) {
            found.push((member, score));
        }
    });
    reply_head(next, 2 * found.len(), reply);
    for (member, score) in found {
        reply.bulk(member);
        reply.bulk(format_f64(score.get()).as_bytes());
    }
    Ok(())
}

fn zrandmember(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Error> {
    let mut rng = ctx.server.rng();
    if request.len() == 2 {
        let zset = ctx.read_as::<ZSet>(ctx.key(request, 1))?;
        match zset.and_then(|zset| zset.random(&mut rng)) {
            Some((member, _)) => reply.bulk(member),
            None => reply.null(),
        }
        return Ok(());
    }
    let (draw, with_scores) = Draw::parse_pairs(request, "withscores")?;
    let Some(zset) = ctx.read_as::<ZSet>(ctx.key(request, 1))? else {
        reply.array(0);
        return Ok(());
    };
    let pairs = Pairs::new(with_scores, reply.proto);
    let show = |(member, score): (&[u8], Score), reply: &mut Reply<'_>| {
        pairs.element(member, reply, |reply| reply_score(score, reply));
    };
    match draw {
        Draw::Distinct(count) => {
            let chosen = zset.sample(count, &mut rng);
            pairs.head(chosen.len(), reply);
            chosen.into_iter().for_each(|pair| show(pair, reply));
            Ok(())
        }
        Draw::Repeated(count) => {
            let mut draws = zset.draws(&mut rng);
            pairs.head(count, reply);
            reply_repeated(count, reply, |reply| {
                draws.next().into_iter().for_each(|pair| show(pair, reply));
            })
        }
    }
}
