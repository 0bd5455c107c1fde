//! Sets.

use flintlock_diskcache::cache::home::Known;

use crate::keyspace::Key;
use crate::resp::encode::Reply;
use crate::tier::Effect;
use crate::types::number::parse_i64;
use crate::types::set::{difference, intersection, union};
use crate::types::{Member, Rules, Set};

use super::collection::{Draw, Shared, counted_keys, parse_count, reply_repeated};
use super::cursor::{Options, parse_cursor, reply_head};
use super::{Command, Ctx, Error, Flags, Keys, Request};

const ADD: Flags = Flags::WRITE.or(Flags::DENYOOM).or(Flags::FAST);
const TAKE: Flags = Flags::WRITE.or(Flags::FAST);

const READ: Flags = Flags::READONLY.or(Flags::FAST);
const STORE: Flags = Flags::WRITE.or(Flags::DENYOOM);

/// The rows of this family.
pub(super) fn commands() -> Vec<Command> {
    vec![
        Command::new("sadd", sadd, -3, &[ADD], Keys::ONE),
        Command::new("srem", srem, -3, &[TAKE], Keys::ONE),
        Command::new("smembers", smembers, 2, &[Flags::READONLY], Keys::ONE),
        Command::new("scard", scard, 2, &[READ], Keys::ONE),
        Command::new("spop", spop, -2, &[TAKE], Keys::ONE),
        Command::new("sismember", sismember, 3, &[READ], Keys::ONE),
        Command::new("smismember", smismember, -3, &[READ], Keys::ONE),
        Command::new("smove", smove, 4, &[TAKE], Keys::TWO),
        Command::new("srandmember", srandmember, -2, &[Flags::READONLY], Keys::ONE),
        Command::new("sscan", sscan, -3, &[Flags::READONLY], Keys::ONE),
        Command::new("sinter", sinter, -2, &[Flags::READONLY], Keys::ALL),
        Command::new("sunion", sunion, -2, &[Flags::READONLY], Keys::ALL),
        Command::new("sdiff", sdiff, -2, &[Flags::READONLY], Keys::ALL),
        Command::new("sinterstore", sinterstore, -3, &[STORE], Keys::ALL),
        Command::new("sunionstore", sunionstore, -3, &[STORE], Keys::ALL),
        Command::new("sdiffstore", sdiffstore, -3, &[STORE], Keys::ALL),
        Command::new("sintercard", sintercard, -3, &[Flags::READONLY], Keys::COUNTED),
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

fn sismember(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let set = ctx.read_as::<Set>(ctx.key(request, 1))?;
    reply.int(i64::from(set.is_some_and(|set| set.contains(request.arg(2)))));
    Ok(())
}

fn smismember(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Error> {
    let set = ctx.read_as::<Set>(ctx.key(request, 1))?;
    reply.array(request.len() - 2);
    for member in request.from(2) {
        reply.int(i64::from(set.is_some_and(|set| set.contains(member))));
    }
    Ok(())
}

fn smove(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let (from, to, member) = (ctx.key(request, 1), ctx.key(request, 2), request.arg(3));
    // Before the look for the source: deleting a destination whose time is over moves entries.
    let destination = ctx.find(to);
    let Some(loc) = ctx.find_as::<Set>(from)? else {
        reply.int(0);
        return Ok(());
    };
    ctx.check_type::<Set>(destination)?;
    let is_there = ctx.view::<Set>(loc).contains(member);
    if is_there && from.bytes != to.bytes {
        let at = ctx.find_or_create::<Set>(to, request)?;
        let add = [&b"sadd"[..], to.bytes, member];
        ctx.change_as(to, at, Effect::Words(&add), |set: &mut Set, rules| {
            usize::from(set.add(member, rules))
        });
        let loc = ctx.find_as::<Set>(from)?.expect("it has the member");
        let remove = [&b"srem"[..], from.bytes, member];
        let at = (loc, Known::Value);
        ctx.change_as(from, at, Effect::Words(&remove), |set: &mut Set, _| {
            usize::from(set.remove(member))
        });
    }
    reply.int(i64::from(is_there));
    Ok(())
}

fn reply_member(member: Member<'_>, reply: &mut Reply<'_>) {
    member.with_bytes(|bytes| reply.bulk(bytes));
}

fn srandmember(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Error> {
    if request.len() > 3 {
        return Err(Error::SYNTAX);
    }
    let draw = request.get(2).map(Draw::parse).transpose()?;
    let mut rng = ctx.server.rng();
    let set = ctx.read_as::<Set>(ctx.key(request, 1))?;
    match (draw, set) {
        (None, None) => reply.null(),
        (None, Some(set)) => {
            set.random(&mut rng).into_iter().for_each(|member| reply_member(member, reply));
        }
        (Some(_), None) => reply.array(0),
        (Some(Draw::Distinct(count)), Some(set)) => {
            let chosen = set.sample(count, &mut rng);
            reply.array(chosen.len());
            chosen.into_iter().for_each(|member| reply_member(member, reply));
        }
        (Some(Draw::Repeated(count)), Some(set)) => {
            let mut draws = set.draws(&mut rng);
            reply.array(count);
            reply_repeated(count, reply, |reply| {
                draws.next().into_iter().for_each(|member| reply_member(member, reply));
            })?;
        }
    }
    Ok(())
}

fn sscan(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let cursor = parse_cursor(request.arg(2))?;
    let Some(set) = ctx.read_as::<Set>(ctx.key(request, 1))? else {
        reply_head(0, 0, reply);
        return Ok(());
    };
    let options = Options::of_elements(request)?;
    let mut found = Vec::new();
    let next = set.scan(cursor, options.count, |member| {
        if member.with_bytes(|bytes| options.admits(bytes)) {
            found.push(member);
        }
    });
    reply_head(next, found.len(), reply);
    found.into_iter().for_each(|member| reply_member(member, reply));
    Ok(())
}

/// What SINTER and its kin make of sets: shows the members of the result, each once.
type Algebra = fn(&[&Set], &Rules, &mut dyn FnMut(Member<'_>));

fn inter_of(sets: &[&Set], _: &Rules, show: &mut dyn FnMut(Member<'_>)) {
    intersection(sets).for_each(show);
}

fn union_of(sets: &[&Set], rules: &Rules, show: &mut dyn FnMut(Member<'_>)) {
    union(sets, rules).iter().for_each(show);
}

fn diff_of(sets: &[&Set], rules: &Rules, show: &mut dyn FnMut(Member<'_>)) {
    if let [first, others @ ..] = sets {
        difference(first, others, rules).for_each(show);
    }
}

/// The sets of the request's keys from argument `first` on.
fn read_sets(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    first: usize,
) -> Result<Vec<Shared<Set>>, Error> {
    let keys: Vec<Key<'_>> = (first..request.len()).map(|i| ctx.key(request, i)).collect();
    ctx.read_all(&keys)
}

fn combine(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
    algebra: Algebra,
) -> Result<(), Error> {
    let sets = read_sets(ctx, request, 1)?;
    let sets: Vec<&Set> = sets.iter().map(Shared::get).collect();
    // A reply begins with its length, so all members are noted first.
    let (mut bytes, mut ends) = (Vec::new(), Vec::new());
    algebra(&sets, &ctx.server.rules, &mut |member| {
        member.push_to(&mut bytes);
        ends.push(bytes.len());
    });
    reply.set(ends.len());
    let mut start = 0;
    for end in ends {
        reply.bulk(&bytes[start..end]);
        start = end;
    }
    Ok(())
}

fn combine_and_store(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
    algebra: Algebra,
) -> Result<(), Error> {
    let sets = read_sets(ctx, request, 2)?;
    let mut result = Set::new();
    let rules = &ctx.server.rules;
    let operands: Vec<&Set> = sets.iter().map(Shared::get).collect();
    algebra(&operands, rules, &mut |member| _ = result.add_member(member, rules));
    // The destination may be one of them: what is overwritten is freed in parts only if nobody
    // shares it.
    drop(sets);
    ctx.store(ctx.key(request, 1), result, reply)
}

fn sinter(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    combine(ctx, request, reply, inter_of)
}

fn sunion(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    combine(ctx, request, reply, union_of)
}

fn sdiff(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    combine(ctx, request, reply, diff_of)
}

fn sinterstore(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Error> {
    combine_and_store(ctx, request, reply, inter_of)
}

fn sunionstore(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Error> {
    combine_and_store(ctx, request, reply, union_of)
}

fn sdiffstore(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Error> {
    combine_and_store(ctx, request, reply, diff_of)
}

/// The LIMIT of SINTERCARD or ZINTERCARD, which begins at argument `at`; 0 is none.
pub(super) fn card_limit(request: &Request<'_>, at: usize) -> Result<usize, Error> {
    const NEGATIVE: Error = Error::fixed("ERR LIMIT can't be negative");
    let mut limit = 0;
    let mut rest = request.from(at);
    while let Some(word) = rest.next() {
        let value = rest.next().filter(|_| word.eq_ignore_ascii_case(b"limit"));
        let value = parse_i64(value.ok_or(Error::SYNTAX)?);
        limit = value.and_then(|value| usize::try_from(value).ok()).ok_or(NEGATIVE)?;
    }
    Ok(limit)
}

fn sintercard(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Error> {
    const NONE: Error = Error::fixed("ERR numkeys should be greater than 0");
    const MORE: Error = Error::fixed("ERR Number of keys can't be greater than number of args");
    let count = parse_i64(request.arg(1)).filter(|count| *count > 0).ok_or(NONE)?;
    let (keys, end) = counted_keys(ctx, request, 1, count).ok_or(MORE)?;
    let limit = card_limit(request, end)?;
    let sets = ctx.read_all::<Set>(&keys)?;
    let sets: Vec<&Set> = sets.iter().map(Shared::get).collect();
    let members = intersection(&sets);
    reply.count(if limit == 0 { members.count() } else { members.take(limit).count() });
    Ok(())
}
