//! Commands that take an element or wait for one: BLPOP and its like.
//!
//! Main thread. Each does what its form without the B does; one that finds nothing says what it
//! waits for and ends without effect, and is run anew when there is something: see
//! [`crate::waiters`]. Inside EXEC none waits.

use crate::keyspace::Key;
use crate::keyspace::table::Loc;
use crate::resp::encode::Reply;
use crate::types::list::End;
use crate::types::number::Extended;
use crate::types::{List, Object, ZSet};
use crate::waiters::Awaited;

use super::collection::Collection;
use super::list::{self, move_item, parse_end};
use super::pops::{ManyPop, first_of};
use super::{Command, Ctx, Error, Flags, Keys, Request, zset};

const TAKE: Flags = Flags::WRITE.or(Flags::BLOCKING);
const ALONE: Flags = TAKE.or(Flags::NOSCRIPT);

/// The rows of this family.
pub(super) fn commands() -> Vec<Command> {
    vec![
        Command::new("blpop", blpop, -3, &[ALONE], Keys::BUT_LAST),
        Command::new("brpop", brpop, -3, &[ALONE], Keys::BUT_LAST),
        Command::new("blmove", blmove, 6, &[ALONE, Flags::DENYOOM], Keys::TWO),
        Command::new("brpoplpush", brpoplpush, 4, &[ALONE, Flags::DENYOOM], Keys::TWO),
        Command::new("blmpop", blmpop, -5, &[TAKE], Keys::COUNTED_SECOND),
        Command::new("bzpopmin", bzpopmin, -3, &[ALONE, Flags::FAST], Keys::BUT_LAST),
        Command::new("bzpopmax", bzpopmax, -3, &[ALONE, Flags::FAST], Keys::BUT_LAST),
        Command::new("bzmpop", bzmpop, -5, &[TAKE], Keys::COUNTED_SECOND),
    ]
}

/// The last millisecond to wait, on the clock that never goes back; none is for ever.
fn parse_until(ctx: &Ctx<'_>, text: &[u8]) -> Result<Option<u64>, Error> {
    let seconds = Extended::parse(text);
    let seconds = seconds.ok_or(Error::fixed("ERR timeout is not a float or out of range"))?;
    // In C what is too large is the lowest number.
    let ms = seconds.thousandfold().and_then(|ms| u64::try_from(ms).ok());
    let ms = ms.ok_or(Error::fixed("ERR timeout is negative"))?;
    Ok((ms > 0).then(|| ctx.server.mono_ms.saturating_add(ms)))
}

/// The first of `keys` that exists. Of a request that has waited, the first that it looks at now
/// and that holds what it waits for: what else its keys have become since is no error.
///
/// # Errors
/// [`Error::WRONG_TYPE`].
fn first<'r, T: Collection>(
    ctx: &mut Ctx<'_>,
    keys: &[Key<'r>],
) -> Result<Option<(Key<'r>, Loc)>, Error> {
    let Some(awaited) = ctx.session().awaited.take() else { return first_of::<T>(ctx, keys) };
    let mut found = None;
    for key in keys.iter().filter(|key| awaited.needs(key.bytes)) {
        if let Ok(Some(loc)) = ctx.find_as::<T>(*key) {
            found = Some((*key, loc));
            break;
        }
    }
    ctx.session().awaited = Some(awaited);
    Ok(found)
}

fn fits<T: Collection>(object: &Object) -> bool {
    T::of(object).is_some()
}

/// Nothing is there: the client waits for what it `asked` for; if it may not, it is told `nothing`.
///
/// # Errors
/// [`Error::WAITS`].
fn wait<'a, T: Collection>(
    ctx: &mut Ctx<'_>,
    (keys, until_ms): &Asked<'_>,
    reply: &mut Reply<'a>,
    nothing: fn(&mut Reply<'a>),
) -> Result<(), Error> {
    if ctx.in_transaction || ctx.is_replay() {
        nothing(reply);
        return Ok(());
    }
    let db = ctx.db;
    let names = keys.iter().map(|key| key.bytes);
    // One that has waited before does so until the time that it began with.
    ctx.session()
        .awaited
        .get_or_insert_with(|| Box::new(Awaited::new(db, names, fits::<T>, *until_ms)));
    Err(Error::WAITS)
}

/// The keys that the request waits for, and the last millisecond of its wait.
type Asked<'r> = (Vec<Key<'r>>, Option<u64>);

/// What a request is told whose keys are all but the last of its arguments.
fn parse<'r>(ctx: &Ctx<'_>, request: &Request<'r>) -> Result<Asked<'r>, Error> {
    let until_ms = parse_until(ctx, request.arg(request.len() - 1))?;
    Ok((request.key_positions().map(|i| ctx.key(request, i)).collect(), until_ms))
}

fn pop(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
    end: End,
) -> Result<(), Error> {
    let asked = parse(ctx, request)?;
    match first::<List>(ctx, &asked.0)? {
        Some(at) => list::take_one(ctx, at, end, reply),
        None => wait::<List>(ctx, &asked, reply, Reply::null_array)?,
    }
    Ok(())
}

fn blpop(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    pop(ctx, request, reply, End::Front)
}

fn brpop(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    pop(ctx, request, reply, End::Back)
}

/// Moves an element between the lists of the first two arguments, from one end to another.
fn move_or_wait(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
    ends: (End, End),
    timeout: &[u8],
) -> Result<(), Error> {
    let until_ms = parse_until(ctx, timeout)?;
    let asked = (vec![ctx.key(request, 1)], until_ms);
    if first::<List>(ctx, &asked.0)?.is_none() {
        return wait::<List>(ctx, &asked, reply, Reply::null);
    }
    move_item(ctx, request, reply, ends)
}

fn blmove(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let end = |index| parse_end(request.arg(index)).ok_or(Error::SYNTAX);
    let ends = (end(3)?, end(4)?);
    move_or_wait(ctx, request, reply, ends, request.arg(5))
}

fn brpoplpush(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Error> {
    move_or_wait(ctx, request, reply, (End::Back, End::Front), request.arg(3))
}

/// What BLMPOP or BZMPOP is told: which end and how many, and what it waits for.
fn parse_many<'r, E>(
    ctx: &Ctx<'_>,
    request: &Request<'r>,
    end: impl Fn(&[u8]) -> Option<E>,
) -> Result<((E, usize), Asked<'r>), Error> {
    let until_ms = parse_until(ctx, request.arg(1));
    let ManyPop { keys, end, count } = ManyPop::parse(ctx, request, 2, end)?;
    Ok(((end, count), (keys, until_ms?)))
}

fn blmpop(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let (what, asked) = parse_many(ctx, request, parse_end)?;
    match first::<List>(ctx, &asked.0)? {
        Some(at) => list::take_many(ctx, at, what, reply),
        None => wait::<List>(ctx, &asked, reply, Reply::null_array)?,
    }
    Ok(())
}

fn pop_member(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
    end: zset::End,
) -> Result<(), Error> {
    let asked = parse(ctx, request)?;
    match first::<ZSet>(ctx, &asked.0)? {
        Some(at) => zset::take_one(ctx, at, end, reply),
        None => wait::<ZSet>(ctx, &asked, reply, Reply::null_array)?,
    }
    Ok(())
}

fn bzpopmin(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    pop_member(ctx, request, reply, zset::End::Min)
}

fn bzpopmax(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    pop_member(ctx, request, reply, zset::End::Max)
}

fn bzmpop(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let (what, asked) = parse_many(ctx, request, zset::End::parse)?;
    match first::<ZSet>(ctx, &asked.0)? {
        Some(at) => zset::take_many(ctx, at, what, reply),
        None => wait::<ZSet>(ctx, &asked, reply, Reply::null_array)?,
    }
    Ok(())
}
