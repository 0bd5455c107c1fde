//! Sets.

use flintlock_diskcache::cache::home::Known;

use crate::resp::encode::Reply;
use crate::tier::Effect;
use crate::types::Set;

use super::collection::parse_count;
use super::{Command, Ctx, Error, Flags, Keys, Request};

const ADD: Flags = Flags::WRITE.or(Flags::DENYOOM).or(Flags::FAST);
const TAKE: Flags = Flags::WRITE.or(Flags::FAST);

/// The rows of this family.
pub(super) fn commands() -> Vec<Command> {
    vec![
        Command::new("sadd", sadd, -3, &[ADD], Keys::ONE),
        Command::new("srem", srem, -3, &[TAKE], Keys::ONE),
        Command::new("smembers", smembers, 2, &[Flags::READONLY], Keys::ONE),
        Command::new("scard", scard, 2, &[Flags::READONLY, Flags::FAST], Keys::ONE),
        Command::new("spop", spop, -2, &[TAKE], Keys::ONE),
    ]
}

fn sadd(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let key = ctx.key(request, 1);
    let at = ctx.find_or_create::<Set>(key, request)?;
    let added = ctx.change_as(key, at, Effect::Request(request), |set: &mut Set, rules| {
        request.from(2).filter(|member| set.add(member, rules)).count()
    });
    reply.count(added);
    Ok(())
}

fn srem(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let key = ctx.key(request, 1);
    let Some(loc) = ctx.find_as::<Set>(key)? else {
        reply.int(0);
        return Ok(());
    };
    let there =
        ctx.change_as(key, (loc, Known::Value), Effect::Request(request), |set: &mut Set, _| {
            request.from(2).filter(|member| set.remove(member)).count()
        });
    reply.count(there);
    Ok(())
}

fn smembers(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let set = ctx.read_as::<Set>(ctx.key(request, 1))?;
    reply.set(set.map_or(0, Set::len));
    set.into_iter().flat_map(Set::iter).for_each(|member| member.with_bytes(|m| reply.bulk(m)));
    Ok(())
}

fn scard(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    reply.count(ctx.read_as::<Set>(ctx.key(request, 1))?.map_or(0, Set::len));
    Ok(())
}

fn spop(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    if request.len() > 3 {
        return Err(Error::SYNTAX);
    }
    let count = request.get(2).map(parse_count).transpose()?;
    let key = ctx.key(request, 1);
    let Some(loc) = ctx.find_as::<Set>(key)? else {
        if count.is_some() {
            reply.set(0)
        } else {
            reply.null()
        }
        return Ok(());
    };
    let set = ctx.view::<Set>(loc);
    let take = count.unwrap_or(1).min(set.len());
    if count.is_some() {
        reply.set(take);
    }
    if take == set.len() {
        // All of them: nothing is left to chance.
        set.iter().for_each(|member| member.with_bytes(|m| reply.bulk(m)));
        ctx.delete(key, loc);
        return Ok(());
    }
    let mut rng = ctx.server.rng();
    let chosen: Vec<Vec<u8>> =
        ctx.view::<Set>(loc).sample(take, &mut rng).iter().map(|member| member.to_vec()).collect();
    // The journal must not draw again: it gets the removal of what was drawn.
    let words: Vec<&[u8]> =
        [&b"srem"[..], key.bytes].into_iter().chain(chosen.iter().map(Vec::as_slice)).collect();
    ctx.change_as(key, (loc, Known::Value), Effect::Words(&words), |set: &mut Set, _| {
        for member in &chosen {
            set.remove(member);
            reply.bulk(member);
        }
        take
    });
    Ok(())
}
