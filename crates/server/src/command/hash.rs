//! Hashes.

use flintlock_diskcache::cache::home::Known;

use crate::resp::encode::Reply;
use crate::tier::Effect;
use crate::types::Hash;
use crate::types::number::{Extended, format_i64, parse_i64};

use super::collection::{draw, walk};
use super::{Command, Ctx, Error, Flags, Keys, Request};

const ADD: Flags = Flags::WRITE.or(Flags::DENYOOM).or(Flags::FAST);
const READ: Flags = Flags::READONLY.or(Flags::FAST);
const READ_MANY: Flags = Flags::READONLY;

/// The rows of this family.
pub(super) fn commands() -> Vec<Command> {
    vec![
        Command::new("hset", hset, -4, &[ADD], Keys::ONE),
        Command::new("hmset", hmset, -4, &[ADD], Keys::ONE),
        Command::new("hsetnx", hsetnx, 4, &[ADD], Keys::ONE),
        Command::new("hincrby", hincrby, 4, &[ADD], Keys::ONE),
        Command::new("hincrbyfloat", hincrbyfloat, 4, &[ADD], Keys::ONE),
        Command::new("hget", hget, 3, &[READ], Keys::ONE),
        Command::new("hmget", hmget, -3, &[READ], Keys::ONE),
        Command::new("hexists", hexists, 3, &[READ], Keys::ONE),
        Command::new("hstrlen", hstrlen, 3, &[READ], Keys::ONE),
        Command::new("hdel", hdel, -3, &[Flags::WRITE, Flags::FAST], Keys::ONE),
        Command::new("hgetall", hgetall, 2, &[READ_MANY], Keys::ONE),
        Command::new("hkeys", hkeys, 2, &[READ_MANY], Keys::ONE),
        Command::new("hvals", hvals, 2, &[READ_MANY], Keys::ONE),
        Command::new("hlen", hlen, 2, &[READ], Keys::ONE),
        Command::new("hscan", hscan, -3, &[READ_MANY], Keys::ONE),
        Command::new("hrandfield", hrandfield, -2, &[READ_MANY], Keys::ONE),
    ]
}

/// Sets the pairs of HSET or HMSET; returns how many fields are new.
fn set_fields(ctx: &mut Ctx<'_>, request: &Request<'_>) -> Result<usize, Error> {
    if request.len() % 2 == 1 {
        return Err(Error::arity(request.command.name));
    }
    let key = ctx.key(request, 1);
    let at = ctx.find_or_create::<Hash>(key, request)?;
    let mut new = 0;
    ctx.change_as(key, at, Effect::Request(request), |hash: &mut Hash, rules| {
        let fields = (2..request.len()).step_by(2);
        new = fields.filter(|&i| hash.set(request.arg(i), request.arg(i + 1), rules)).count();
        request.len() / 2 - 1
    });
    Ok(new)
}

fn hset(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    reply.count(set_fields(ctx, request)?);
    Ok(())
}

fn hmset(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    set_fields(ctx, request)?;
    reply.ok();
    Ok(())
}

/// Sets the one field that the request names to what it was found to become.
fn set_field(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    value: &[u8],
    effect: Effect<'_>,
) -> Result<(), Error> {
    let key = ctx.key(request, 1);
    let at = ctx.find_or_create::<Hash>(key, request)?;
    ctx.change_as(key, at, effect, |hash: &mut Hash, rules| {
        hash.set(request.arg(2), value, rules);
        1
    });
    Ok(())
}

/// The field that the request names, looked at before it is set.
fn old_field<'a>(ctx: &'a mut Ctx<'_>, request: &Request<'_>) -> Result<Option<&'a [u8]>, Error> {
    let found = ctx.find_as::<Hash>(ctx.key(request, 1))?;
    Ok(found.and_then(|loc| ctx.view::<Hash>(loc).get(request.arg(2))))
}

fn hsetnx(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let is_there = old_field(ctx, request)?.is_some();
    if !is_there {
        set_field(ctx, request, request.arg(3), Effect::Request(request))?;
    }
    reply.int(i64::from(!is_there));
    Ok(())
}

fn hincrby(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    const NOT_INTEGER: Error = Error::fixed("ERR hash value is not an integer");
    let by = parse_i64(request.arg(3)).ok_or(Error::NOT_INTEGER)?;
    let old = old_field(ctx, request)?.map_or(Some(0), parse_i64).ok_or(NOT_INTEGER)?;
    let sum = old.checked_add(by).ok_or(Error::OVERFLOW)?;
    format_i64(sum, |text| set_field(ctx, request, text, Effect::Request(request)))?;
    reply.int(sum);
    Ok(())
}

fn hincrbyfloat(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Error> {
    const NOT_FLOAT: Error = Error::fixed("ERR hash value is not a float");
    const NOT_FINITE: Error = Error::fixed("ERR value is NaN or Infinity");
    let by = Extended::parse(request.arg(3)).ok_or(Error::NOT_FLOAT)?;
    if by.is_infinite() {
        return Err(NOT_FINITE);
    }
    let old = old_field(ctx, request)?.map_or(Some(Extended::ZERO), Extended::parse);
    let sum = old.ok_or(NOT_FLOAT)?.checked_add(by).ok_or(Error::NAN_SUM)?.to_text();
    // As INCRBYFLOAT: what was stored must not depend on how sums are made.
    let words = [&b"hset"[..], request.arg(1), request.arg(2), sum.as_bytes()];
    set_field(ctx, request, sum.as_bytes(), Effect::Words(&words))?;
    reply.bulk(sum.as_bytes());
    Ok(())
}

/// The field that a request to read names.
fn field<'a>(ctx: &'a mut Ctx<'_>, request: &Request<'_>) -> Result<Option<&'a [u8]>, Error> {
    let hash = ctx.read_as::<Hash>(ctx.key(request, 1))?;
    Ok(hash.and_then(|hash| hash.get(request.arg(2))))
}

fn reply_value(value: Option<&[u8]>, reply: &mut Reply<'_>) {
    match value {
        Some(value) => reply.bulk(value),
        None => reply.null(),
    }
}

fn hget(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    reply_value(field(ctx, request)?, reply);
    Ok(())
}

fn hmget(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let hash = ctx.read_as::<Hash>(ctx.key(request, 1))?;
    reply.array(request.len() - 2);
    let fields = request.from(2);
    fields.for_each(|field| reply_value(hash.and_then(|hash| hash.get(field)), reply));
    Ok(())
}

fn hexists(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    reply.int(i64::from(field(ctx, request)?.is_some()));
    Ok(())
}

fn hstrlen(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    reply.count(field(ctx, request)?.map_or(0, <[u8]>::len));
    Ok(())
}

fn hdel(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let key = ctx.key(request, 1);
    let Some(loc) = ctx.find_as::<Hash>(key)? else {
        reply.int(0);
        return Ok(());
    };
    let there =
        ctx.change_as(key, (loc, Known::Value), Effect::Request(request), |hash: &mut Hash, _| {
            request.from(2).filter(|field| hash.remove(field)).count()
        });
    reply.count(there);
    Ok(())
}

fn hgetall(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let hash = ctx.read_as::<Hash>(ctx.key(request, 1))?;
    reply.map(hash.map_or(0, Hash::len));
    for (field, value) in hash.into_iter().flat_map(Hash::iter) {
        reply.bulk(field);
        reply.bulk(value);
    }
    Ok(())
}

fn hkeys(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let hash = ctx.read_as::<Hash>(ctx.key(request, 1))?;
    reply.array(hash.map_or(0, Hash::len));
    hash.into_iter().flat_map(Hash::iter).for_each(|(field, _)| reply.bulk(field));
    Ok(())
}

fn hvals(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let hash = ctx.read_as::<Hash>(ctx.key(request, 1))?;
    reply.array(hash.map_or(0, Hash::len));
    hash.into_iter().flat_map(Hash::iter).for_each(|(_, value)| reply.bulk(value));
    Ok(())
}

fn hlen(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    reply.count(ctx.read_as::<Hash>(ctx.key(request, 1))?.map_or(0, Hash::len));
    Ok(())
}

fn hscan(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    walk::<Hash>(ctx, request, reply, |value, reply| reply.bulk(value))
}

fn hrandfield(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Error> {
    draw::<Hash>(ctx, request, reply, "withvalues", |value, reply| reply.bulk(value))
}
