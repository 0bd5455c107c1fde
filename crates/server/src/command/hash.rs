//! Hashes.

use flintlock_diskcache::cache::home::Known;

use crate::resp::encode::Reply;
use crate::tier::Effect;
use crate::types::Hash;

use super::{Command, Ctx, Error, Flags, Keys, Request};

const ADD: Flags = Flags::WRITE.or(Flags::DENYOOM).or(Flags::FAST);
const READ: Flags = Flags::READONLY.or(Flags::FAST);

/// The rows of this family.
pub(super) fn commands() -> Vec<Command> {
    vec![
        Command::new("hset", hset, -4, &[ADD], Keys::ONE),
        Command::new("hget", hget, 3, &[READ], Keys::ONE),
        Command::new("hdel", hdel, -3, &[Flags::WRITE, Flags::FAST], Keys::ONE),
        Command::new("hgetall", hgetall, 2, &[Flags::READONLY], Keys::ONE),
        Command::new("hlen", hlen, 2, &[READ], Keys::ONE),
    ]
}

fn hset(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    if request.len() % 2 == 1 {
        return Err(Error::arity(request.command.name));
    }
    let key = ctx.key(request, 1);
    let at = ctx.find_or_create::<Hash>(key, request)?;
    ctx.change_as(key, at, Effect::Request(request), |hash: &mut Hash, rules| {
        let fields = (2..request.len()).step_by(2);
        reply
            .count(fields.filter(|&i| hash.set(request.arg(i), request.arg(i + 1), rules)).count());
        request.len() / 2 - 1
    });
    Ok(())
}

fn hget(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let hash = ctx.read_as::<Hash>(ctx.key(request, 1))?;
    match hash.and_then(|hash| hash.get(request.arg(2))) {
        Some(value) => reply.bulk(value),
        None => reply.null(),
    }
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

fn hlen(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    reply.count(ctx.read_as::<Hash>(ctx.key(request, 1))?.map_or(0, Hash::len));
    Ok(())
}
