//! Lists.

use flintlock_diskcache::cache::home::Known;

use crate::resp::encode::Reply;
use crate::tier::Effect;
use crate::types::List;
use crate::types::list::End;
use crate::types::number::parse_i64;

use super::collection::{index_range, parse_count};
use super::{Command, Ctx, Error, Flags, Keys, Request};

const ADD: Flags = Flags::WRITE.or(Flags::DENYOOM).or(Flags::FAST);
const TAKE: Flags = Flags::WRITE.or(Flags::FAST);

/// The rows of this family.
pub(super) fn commands() -> Vec<Command> {
    vec![
        Command::new("lpush", lpush, -3, &[ADD], Keys::ONE),
        Command::new("rpush", rpush, -3, &[ADD], Keys::ONE),
        Command::new("lpop", lpop, -2, &[TAKE], Keys::ONE),
        Command::new("rpop", rpop, -2, &[TAKE], Keys::ONE),
        Command::new("llen", llen, 2, &[Flags::READONLY, Flags::FAST], Keys::ONE),
        Command::new("lrange", lrange, 4, &[Flags::READONLY], Keys::ONE),
    ]
}

fn push(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
    end: End,
) -> Result<(), Error> {
    let key = ctx.key(request, 1);
    let at = ctx.find_or_create::<List>(key, request)?;
    ctx.change_as(key, at, Effect::Request(request), |list: &mut List, rules| {
        request.from(2).for_each(|item| list.push(end, item, rules));
        reply.count(list.len());
        request.len() - 2
    });
    Ok(())
}

fn lpush(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    push(ctx, request, reply, End::Front)
}

fn rpush(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    push(ctx, request, reply, End::Back)
}

fn pop(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
    end: End,
) -> Result<(), Error> {
    if request.len() > 3 {
        return Err(Error::arity(request.command.name));
    }
    let count = request.get(2).map(parse_count).transpose()?;
    let key = ctx.key(request, 1);
    let Some(loc) = ctx.find_as::<List>(key)? else {
        if count.is_some() {
            reply.null_array()
        } else {
            reply.null()
        }
        return Ok(());
    };
    let take = count.unwrap_or(1).min(ctx.view::<List>(loc).len());
    if count.is_some() {
        reply.array(take);
    }
    ctx.change_as(key, (loc, Known::Value), Effect::Request(request), |list: &mut List, _| {
        for _ in 0..take {
            reply.bulk(list.peek(end).unwrap_or_default());
            list.discard(end);
        }
        take
    });
    Ok(())
}

fn lpop(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    pop(ctx, request, reply, End::Front)
}

fn rpop(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    pop(ctx, request, reply, End::Back)
}

fn llen(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    reply.count(ctx.read_as::<List>(ctx.key(request, 1))?.map_or(0, List::len));
    Ok(())
}

fn lrange(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let start = parse_i64(request.arg(2)).ok_or(Error::NOT_INTEGER)?;
    let stop = parse_i64(request.arg(3)).ok_or(Error::NOT_INTEGER)?;
    let Some(list) = ctx.read_as::<List>(ctx.key(request, 1))? else {
        reply.array(0);
        return Ok(());
    };
    let range = index_range(start, stop, list.len());
    reply.array(range.len());
    list.range(range).for_each(|item| reply.bulk(item));
    Ok(())
}
