//! Lists.

use flintlock_diskcache::cache::home::Known;

use crate::keyspace::Key;
use crate::keyspace::table::Loc;
use crate::resp::encode::Reply;
use crate::tier::Effect;
use crate::types::List;
use crate::types::list::{End, Occurrences};
use crate::types::number::parse_i64;

use super::collection::{ELEMENT_BYTES, index_range, parse_count};
use super::pops::{ManyPop, first_of};
use super::{Command, Ctx, Error, Flags, Keys, Request};

const ADD: Flags = Flags::WRITE.or(Flags::DENYOOM).or(Flags::FAST);
const EDIT: Flags = Flags::WRITE.or(Flags::DENYOOM);
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
        Command::new("lpushx", lpushx, -3, &[ADD], Keys::ONE),
        Command::new("rpushx", rpushx, -3, &[ADD], Keys::ONE),
        Command::new("lindex", lindex, 3, &[Flags::READONLY], Keys::ONE),
        Command::new("lset", lset, 4, &[EDIT], Keys::ONE),
        Command::new("linsert", linsert, 5, &[EDIT], Keys::ONE),
        Command::new("lrem", lrem, 4, &[Flags::WRITE], Keys::ONE),
        Command::new("ltrim", ltrim, 4, &[Flags::WRITE], Keys::ONE),
        Command::new("lpos", lpos, -3, &[Flags::READONLY], Keys::ONE),
        Command::new("lmove", lmove, 5, &[EDIT], Keys::TWO),
        Command::new("rpoplpush", rpoplpush, 3, &[EDIT], Keys::TWO),
        Command::new("lmpop", lmpop, -4, &[Flags::WRITE], Keys::COUNTED),
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

/// A push to a list that must exist already.
fn push_to_old(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
    end: End,
) -> Result<(), Error> {
    if ctx.find_as::<List>(ctx.key(request, 1))?.is_none() {
        reply.int(0);
        return Ok(());
    }
    push(ctx, request, reply, end)
}

fn lpushx(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    push_to_old(ctx, request, reply, End::Front)
}

fn rpushx(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    push_to_old(ctx, request, reply, End::Back)
}

/// Takes up to `count` elements from an end of the list at `loc`; in an array, if it is asked for.
fn take(
    ctx: &mut Ctx<'_>,
    (key, loc): (Key<'_>, Loc),
    (end, count): (End, usize),
    effect: Effect<'_>,
    reply: &mut Reply<'_>,
    in_array: bool,
) {
    let take = count.min(ctx.view::<List>(loc).len());
    if in_array {
        reply.array(take);
    }
    ctx.change_as(key, (loc, Known::Value), effect, |list: &mut List, _| {
        for _ in 0..take {
            reply.bulk(list.peek(end).unwrap_or_default());
            list.discard(end);
        }
        take
    });
}

/// Takes the element at an end of the list at `loc`, and says whose it is.
pub(super) fn take_one(
    ctx: &mut Ctx<'_>,
    (key, loc): (Key<'_>, Loc),
    end: End,
    reply: &mut Reply<'_>,
) {
    reply.array(2);
    reply.bulk(key.bytes);
    let words = [names_of(end).0, key.bytes];
    take(ctx, (key, loc), (end, 1), Effect::Words(&words), reply, false);
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
    let what = (end, count.unwrap_or(1));
    take(ctx, (key, loc), what, Effect::Request(request), reply, count.is_some());
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

/// The place that an index names in `len` elements; a negative one counts from the end.
fn place(index: i64, len: usize) -> Option<usize> {
    let from_end = |back: u64| len.checked_sub(usize::try_from(back).ok()?);
    let place = usize::try_from(index).ok().or_else(|| from_end(index.unsigned_abs()));
    place.filter(|place| *place < len)
}

fn lindex(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let Some(list) = ctx.read_as::<List>(ctx.key(request, 1))? else {
        reply.null();
        return Ok(());
    };
    let index = parse_i64(request.arg(2)).ok_or(Error::NOT_INTEGER)?;
    match place(index, list.len()).and_then(|place| list.get(place)) {
        Some(item) => reply.bulk(item),
        None => reply.null(),
    }
    Ok(())
}

fn lset(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let key = ctx.key(request, 1);
    let loc = ctx.find_as::<List>(key)?.ok_or(Error::NO_SUCH_KEY)?;
    let index = parse_i64(request.arg(2)).ok_or(Error::NOT_INTEGER)?;
    let place = place(index, ctx.view::<List>(loc).len());
    let place = place.ok_or(Error::fixed("ERR index out of range"))?;
    let at = ctx.find_or_create::<List>(key, request)?;
    ctx.change_as(key, at, Effect::Request(request), |list: &mut List, rules| {
        usize::from(list.set(place, request.arg(3), rules))
    });
    reply.ok();
    Ok(())
}

fn linsert(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let side = match request.arg(2) {
        word if word.eq_ignore_ascii_case(b"before") => End::Front,
        word if word.eq_ignore_ascii_case(b"after") => End::Back,
        _ => return Err(Error::SYNTAX),
    };
    let key = ctx.key(request, 1);
    if ctx.find_as::<List>(key)?.is_none() {
        reply.int(0);
        return Ok(());
    }
    let at = ctx.find_or_create::<List>(key, request)?;
    ctx.change_as(key, at, Effect::Request(request), |list: &mut List, rules| {
        let done = list.insert_beside(request.arg(3), side, request.arg(4), rules);
        if done {
            reply.count(list.len())
        } else {
            reply.int(-1)
        }
        usize::from(done)
    });
    Ok(())
}

/// A count, and from which end: from the tail if it is negative.
fn parse_direction(text: &[u8]) -> Result<(End, usize), Error> {
    let count = parse_i64(text).ok_or(Error::NOT_INTEGER)?;
    let end = if count < 0 { End::Back } else { End::Front };
    Ok((end, usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX)))
}

fn lrem(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let (end, count) = parse_direction(request.arg(2))?;
    let which = if count == 0 { Occurrences::All } else { Occurrences::From(end, count) };
    let key = ctx.key(request, 1);
    let Some(loc) = ctx.find_as::<List>(key)? else {
        reply.int(0);
        return Ok(());
    };
    let at = (loc, Known::Value);
    let removed = ctx.change_as(key, at, Effect::Request(request), |list: &mut List, rules| {
        list.remove(request.arg(3), which, rules)
    });
    reply.count(removed);
    Ok(())
}

fn ltrim(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let start = parse_i64(request.arg(2)).ok_or(Error::NOT_INTEGER)?;
    let stop = parse_i64(request.arg(3)).ok_or(Error::NOT_INTEGER)?;
    let key = ctx.key(request, 1);
    reply.ok();
    let Some(loc) = ctx.find_as::<List>(key)? else { return Ok(()) };
    let at = (loc, Known::Value);
    let removed = ctx.change_as(key, at, Effect::Request(request), |list: &mut List, _| {
        list.trim(index_range(start, stop, list.len()))
    });
    if removed == 0 {
        // As in Redis: who watches the list is told even so.
        ctx.break_watches(key);
    }
    Ok(())
}

/// What follows the element of LPOS.
struct Sought {
    /// From which end, and which of the equal elements is the first that counts.
    end: End,
    rank: usize,
    /// How many places to tell, 0 for all; without it one place or null is told.
    count: Option<usize>,
    /// How many elements to look at, 0 for all.
    items_max: usize,
}

impl Sought {
    fn parse(request: &Request<'_>) -> Result<Self, Error> {
        const ZERO_RANK: Error = Error::fixed(
            "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or \
             use negative to start from the end of the list",
        );
        let mut sought = Self { end: End::Front, rank: 1, count: None, items_max: 0 };
        let mut rest = request.from(3);
        while let Some(word) = rest.next() {
            let value = rest.next().ok_or(Error::SYNTAX)?;
            match word.to_ascii_lowercase().as_slice() {
                b"rank" => {
                    (sought.end, sought.rank) = parse_direction(value)?;
                    if sought.rank == 0 {
                        return Err(ZERO_RANK);
                    }
                }
                b"count" => {
                    let negative = |_| Error::fixed("ERR COUNT can't be negative");
                    sought.count = Some(parse_count(value).map_err(negative)?);
                }
                b"maxlen" => {
                    let negative = |_| Error::fixed("ERR MAXLEN can't be negative");
                    sought.items_max = parse_count(value).map_err(negative)?;
                }
                _ => return Err(Error::SYNTAX),
            }
        }
        // In C this number is its own opposite: the first match is past it, and none is the last.
        if sought.rank == i64::MIN.unsigned_abs() as usize {
            (sought.rank, sought.count) = (1, sought.count.map(|_| 0));
        }
        Ok(sought)
    }

    fn places<'a>(&self, list: &'a List, item: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
        let unless_zero = |most: usize| if most == 0 { usize::MAX } else { most };
        let places = list.positions(item, self.end, self.rank - 1, unless_zero(self.items_max));
        places.take(unless_zero(self.count.unwrap_or(1)))
    }
}

fn lpos(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let sought = Sought::parse(request)?;
    let list = ctx.read_as::<List>(ctx.key(request, 1))?;
    let mut places = list.into_iter().flat_map(|list| sought.places(list, request.arg(2)));
    if sought.count.is_none() {
        match places.next() {
            Some(place) => reply.count(place),
            None => reply.null(),
        }
        return Ok(());
    }
    let places: Vec<usize> = places.collect();
    reply.array(places.len());
    places.into_iter().for_each(|place| reply.count(place));
    Ok(())
}

/// The names of a pop from and of a push to an end.
const fn names_of(end: End) -> (&'static [u8], &'static [u8]) {
    match end {
        End::Front => (b"lpop", b"lpush"),
        End::Back => (b"rpop", b"rpush"),
    }
}

/// Moves the element at an end of one list to an end of another, the ends in this order.
pub(super) fn move_item(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
    (taken, given): (End, End),
) -> Result<(), Error> {
    let (from, to) = (ctx.key(request, 1), ctx.key(request, 2));
    // Before the look for the source: deleting a destination whose time is over moves entries.
    let destination = ctx.find(to);
    let Some(loc) = ctx.find_as::<List>(from)? else {
        reply.null();
        return Ok(());
    };
    ctx.check_type::<List>(destination)?;
    let item = ctx.view::<List>(loc).peek(taken).unwrap_or_default().to_vec();
    if from.bytes == to.bytes {
        let at = (loc, Known::Value);
        ctx.change_as(from, at, Effect::Request(request), |list: &mut List, rules| {
            list.discard(taken);
            list.push(given, &item, rules);
            1
        });
        reply.bulk(&item);
        return Ok(());
    }
    let at = ctx.find_or_create_for::<List>(to, item.len() + ELEMENT_BYTES)?;
    let words = [names_of(given).1, to.bytes, &item];
    ctx.change_as(to, at, Effect::Words(&words), |list: &mut List, rules| {
        list.push(given, &item, rules);
        1
    });
    let loc = ctx.find_as::<List>(from)?.expect("it has the item");
    let words = [names_of(taken).0, from.bytes];
    ctx.change_as(from, (loc, Known::Value), Effect::Words(&words), |list: &mut List, _| {
        usize::from(list.discard(taken))
    });
    reply.bulk(&item);
    Ok(())
}

/// The end that a word names.
pub(super) fn parse_end(word: &[u8]) -> Option<End> {
    match word.to_ascii_lowercase().as_slice() {
        b"left" => Some(End::Front),
        b"right" => Some(End::Back),
        _ => None,
    }
}

fn lmove(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let end = |index| parse_end(request.arg(index)).ok_or(Error::SYNTAX);
    let ends = (end(3)?, end(4)?);
    move_item(ctx, request, reply, ends)
}

fn lmpop(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let ManyPop { keys, end, count } = ManyPop::parse(ctx, request, 1, parse_end)?;
    match first_of::<List>(ctx, &keys)? {
        Some(at) => take_many(ctx, at, (end, count), reply),
        None => reply.null_array(),
    }
    Ok(())
}

/// Takes up to `count` elements from an end of the list at `loc`, and says whose they are.
pub(super) fn take_many(
    ctx: &mut Ctx<'_>,
    (key, loc): (Key<'_>, Loc),
    (end, count): (End, usize),
    reply: &mut Reply<'_>,
) {
    reply.array(2);
    reply.bulk(key.bytes);
    let digits = &mut itoa::Buffer::new();
    let words = [names_of(end).0, key.bytes, digits.format(count).as_bytes()];
    take(ctx, (key, loc), (end, count), Effect::Words(&words), reply, true);
}

fn rpoplpush(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    move_item(ctx, request, reply, (End::Back, End::Front))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_indexes() {
        let cases = [
            ((0, 3), Some(0)),
            ((2, 3), Some(2)),
            ((3, 3), None),
            ((-1, 3), Some(2)),
            ((-3, 3), Some(0)),
            ((-4, 3), None),
            ((i64::MIN, 3), None),
            ((i64::MAX, 3), None),
            ((0, 0), None),
        ];
        for ((index, len), expected) in cases {
            assert_eq!(place(index, len), expected, "{index} of {len}");
        }
    }
}
