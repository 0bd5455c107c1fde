//! Strings: values that are bytes or a number.

use std::ops::Range;
use std::sync::Arc;

use crate::keyspace::Key;
use crate::keyspace::entry::{INLINE_MAX, NewValue, ValueRef};
use crate::keyspace::table::Loc;
use crate::resp::encode::Reply;
use crate::tier::Effect;
use crate::types::number::{Extended, parse_i64};

use super::expiry::{Unit, expires_at};
use super::{Command, Ctx, Error, Flags, Keys, Request};

const WRITE: Flags = Flags::WRITE.or(Flags::DENYOOM);
const FAST: Flags = Flags::FAST;
const READ: Flags = Flags::READONLY;

/// The rows of this family.
pub(super) fn commands() -> Vec<Command> {
    vec![
        Command::new("get", get, 2, &[READ, FAST], Keys::ONE),
        Command::new("set", set, -3, &[WRITE, Flags::SHORT], Keys::ONE).blind(set_needs_old),
        Command::new("setnx", setnx, 3, &[WRITE, FAST], Keys::ONE),
        Command::new("getdel", getdel, 2, &[Flags::WRITE, FAST], Keys::ONE),
        Command::new("getex", getex, -2, &[Flags::WRITE, FAST], Keys::ONE),
        Command::new("mget", mget, -2, &[READ, FAST], Keys::ALL),
        Command::new("mset", mset, -3, &[WRITE], Keys::PAIRS).blind(|_| false),
        Command::new("append", append, 3, &[WRITE, FAST], Keys::ONE),
        Command::new("strlen", strlen, 2, &[READ, FAST], Keys::ONE),
        Command::new("incr", incr, 2, &[WRITE, FAST], Keys::ONE),
        Command::new("decr", decr, 2, &[WRITE, FAST], Keys::ONE),
        Command::new("incrby", incrby, 3, &[WRITE, FAST], Keys::ONE),
        Command::new("decrby", decrby, 3, &[WRITE, FAST], Keys::ONE),
        Command::new("incrbyfloat", incrbyfloat, 3, &[WRITE, FAST], Keys::ONE),
        Command::new("getrange", getrange, 4, &[READ], Keys::ONE),
        Command::new("substr", getrange, 4, &[READ], Keys::ONE),
        Command::new("setrange", setrange, 4, &[WRITE], Keys::ONE).growing(|request, len| {
            let offset = parse_i64(request.arg(2)).and_then(|offset| usize::try_from(offset).ok());
            let end = offset.map_or(0, |offset| offset.saturating_add(request.arg(3).len()));
            end.saturating_sub(len(1))
        }),
        Command::new("getset", getset, 3, &[WRITE, FAST], Keys::ONE),
        Command::new("setex", setex, 4, &[WRITE, Flags::SHORT], Keys::ONE).blind(|_| false),
        Command::new("psetex", psetex, 4, &[WRITE, Flags::SHORT], Keys::ONE).blind(|_| false),
        Command::new("msetnx", msetnx, -3, &[WRITE], Keys::PAIRS),
    ]
}

/// A string as the keyspace stores it: a number if its digits are the ones we would print.
pub(super) fn encoded(bytes: &[u8]) -> NewValue<'_> {
    // Twenty bytes hold every 64-bit number; most values are ruled out by their first byte.
    let digit = bytes.first().is_some_and(|b| b.is_ascii_digit() || *b == b'-');
    match if digit && bytes.len() <= 20 { parse_i64(bytes) } else { None } {
        Some(number) => NewValue::Int(number),
        None => NewValue::Str(bytes),
    }
}

/// Replies with the string at `loc`.
fn reply_string(ctx: &Ctx<'_>, loc: Loc, reply: &mut Reply<'_>) -> Result<(), Error> {
    match ctx.entry(loc).value() {
        ValueRef::Int(n) => reply.bulk_int(n),
        ValueRef::Str(s) => reply.bulk(s),
        ValueRef::Big(s) => reply.bulk_shared(s),
        ValueRef::Object(_) | ValueRef::Absent => return Err(Error::WRONG_TYPE),
    }
    Ok(())
}

/// Replies with the string of `key` or null.
fn reply_found(ctx: &Ctx<'_>, found: Option<Loc>, reply: &mut Reply<'_>) -> Result<(), Error> {
    match found {
        Some(loc) => reply_string(ctx, loc, reply),
        None => {
            reply.null();
            Ok(())
        }
    }
}

fn get(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let found = ctx.read(ctx.key(request, 1));
    reply_found(ctx, found, reply)
}

/// What SET was told to do.
#[derive(Default)]
struct SetOptions<'a> {
    nx: bool,
    xx: bool,
    get: bool,
    keep_ttl: bool,
    expire: Option<(Unit, &'a [u8])>,
}

impl<'a> SetOptions<'a> {
    fn parse(request: &Request<'a>) -> Result<Self, Error> {
        let mut options = Self::default();
        let mut rest = request.from(3);
        while let Some(word) = rest.next() {
            match word.to_ascii_lowercase().as_slice() {
                b"nx" if !options.xx => options.nx = true,
                b"xx" if !options.nx => options.xx = true,
                b"get" => options.get = true,
                b"keepttl" if options.expire.is_none() => options.keep_ttl = true,
                name => {
                    let unit = Unit::option(name).ok_or(Error::SYNTAX)?;
                    let other = options.expire.is_some_and(|(before, _)| before != unit);
                    if options.keep_ttl || other {
                        return Err(Error::SYNTAX);
                    }
                    options.expire = Some((unit, rest.next().ok_or(Error::SYNTAX)?));
                }
            }
        }
        Ok(options)
    }
}

/// Whether a SET looks at what the key held.
fn set_needs_old(request: &Request<'_>) -> bool {
    let looks = [&b"nx"[..], b"xx", b"get", b"keepttl"];
    request.from(3).any(|word| looks.iter().any(|option| word.eq_ignore_ascii_case(option)))
}

fn set(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let key = ctx.key(request, 1);
    let value = encoded(request.arg(2));
    if request.len() == 3 {
        ctx.set(key, value, None);
        reply.ok();
        return Ok(());
    }
    let options = SetOptions::parse(request)?;
    let time = match options.expire {
        Some((unit, time)) => Some(expires_at(ctx, "set", unit, time)?),
        None => None,
    };
    let found = match options.get {
        true => ctx.read(key),
        false if set_needs_old(request) => ctx.find(key),
        false => ctx.find_resident(key),
    };
    if options.get {
        reply_found(ctx, found, reply)?;
    }
    if options.nx && found.is_some() || options.xx && found.is_none() {
        if !options.get {
            reply.null();
        }
        return Ok(());
    }
    if !options.get {
        reply.ok();
    }
    if let (Some(loc), true) = (found, time.is_some_and(|at| at <= ctx.now_ms())) {
        // The new value's time is over already: it would be gone at the first look.
        ctx.delete(key, loc);
        return Ok(());
    }
    let kept = found.and_then(|loc| ctx.entry(loc).expires_at_ms());
    ctx.set(key, value, if options.keep_ttl { kept } else { time });
    Ok(())
}

fn setnx(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let key = ctx.key(request, 1);
    let absent = ctx.find(key).is_none();
    if absent {
        ctx.set(key, encoded(request.arg(2)), None);
    }
    reply.int(i64::from(absent));
    Ok(())
}

fn getdel(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let key = ctx.key(request, 1);
    let found = ctx.read(key);
    reply_found(ctx, found, reply)?;
    if let Some(loc) = found {
        ctx.delete(key, loc);
    }
    Ok(())
}

fn getex(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let mut persist = false;
    let mut expire = None;
    let mut rest = request.from(2);
    while let Some(word) = rest.next() {
        let name = word.to_ascii_lowercase();
        match Unit::option(&name) {
            None if name == b"persist" && expire.is_none() => persist = true,
            Some(unit) if !persist && expire.is_none_or(|(before, _)| before == unit) => {
                expire = Some((unit, rest.next().ok_or(Error::SYNTAX)?));
            }
            _ => return Err(Error::SYNTAX),
        }
    }
    let key = ctx.key(request, 1);
    let found = ctx.read(key);
    reply_found(ctx, found, reply)?;
    let Some(loc) = found else { return Ok(()) };
    let at = match expire {
        Some((unit, time)) => Some(expires_at(ctx, "getex", unit, time)?),
        None => None,
    };
    match at {
        Some(at) if at <= ctx.now_ms() => ctx.delete(key, loc),
        Some(at) => ctx.set_expiry(key, loc, Some(at)),
        None if persist && ctx.entry(loc).expires_at_ms().is_some() => {
            ctx.set_expiry(key, loc, None);
        }
        None => {}
    }
    Ok(())
}

fn mget(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    reply.array(request.len() - 1);
    for i in 1..request.len() {
        let found = ctx.read(ctx.key(request, i));
        // A key of another type reads as null here, by design of the command.
        if reply_found(ctx, found, reply).is_err() {
            reply.null();
        }
    }
    Ok(())
}

/// Sets every pair of MSET or MSETNX.
fn set_pairs(ctx: &mut Ctx<'_>, request: &Request<'_>) {
    for i in (1..request.len()).step_by(2) {
        ctx.set(ctx.key(request, i), encoded(request.arg(i + 1)), None);
    }
}

fn mset(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    if request.len().is_multiple_of(2) {
        return Err(Error::arity(request.command.name));
    }
    set_pairs(ctx, request);
    reply.ok();
    Ok(())
}

fn msetnx(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    if request.len().is_multiple_of(2) {
        return Err(Error::arity(request.command.name));
    }
    let is_there = |i| ctx.find(ctx.key(request, i)).is_some();
    let free = !(1..request.len()).step_by(2).any(is_there);
    if free {
        set_pairs(ctx, request);
    }
    reply.int(i64::from(free));
    Ok(())
}

fn getset(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let key = ctx.key(request, 1);
    let found = ctx.read(key);
    reply_found(ctx, found, reply)?;
    ctx.set(key, encoded(request.arg(2)), None);
    Ok(())
}

fn set_for(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
    unit: Unit,
) -> Result<(), Error> {
    let at = expires_at(ctx, request.command.name, unit, request.arg(2))?;
    ctx.set(ctx.key(request, 1), encoded(request.arg(3)), Some(at));
    reply.ok();
    Ok(())
}

fn setex(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    set_for(ctx, request, reply, Unit::Seconds)
}

fn psetex(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    set_for(ctx, request, reply, Unit::Millis)
}

/// The length of a string that has `more` bytes behind its first `len`.
fn grown(ctx: &Ctx<'_>, len: usize, more: usize) -> Result<usize, Error> {
    let len = len.saturating_add(more);
    if len as u64 > ctx.server.config.proto_max_bulk_len_bytes && !ctx.is_replay() {
        return Err(Error::STRING_TOO_LONG);
    }
    ctx.check_size(len)?;
    Ok(len)
}

fn append(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let (key, tail) = (ctx.key(request, 1), request.arg(2));
    let Some(loc) = ctx.find(key) else {
        ctx.set(key, encoded(tail), None);
        reply.count(tail.len());
        return Ok(());
    };
    let digits = &mut itoa::Buffer::new();
    let head = ctx.string(loc, digits)?;
    let len = grown(ctx, head.len(), tail.len())?;
    if let ValueRef::Big(_) = ctx.entry(loc).value() {
        ctx.change_string(key, loc, Effect::Request(request), |entry| {
            entry.big_mut().expect("just seen to be big").extend_from_slice(tail);
            true
        });
    } else {
        let whole = [head, tail].concat();
        let expires_at_ms = ctx.entry(loc).expires_at_ms();
        ctx.set(key, NewValue::Str(&whole), expires_at_ms);
    }
    reply.count(len);
    Ok(())
}

/// By how much a string is made longer at a time, at most, if it had to grow: it may well grow
/// again.
const SLACK_MAX: usize = 1 << 20;

/// Gives `key` a string that was made for it.
pub(super) fn set_string(
    ctx: &mut Ctx<'_>,
    key: Key<'_>,
    string: Vec<u8>,
    expires_at_ms: Option<u64>,
) {
    let value = if string.len() > INLINE_MAX {
        NewValue::Big(Arc::new(string))
    } else {
        NewValue::Str(&string)
    };
    ctx.set(key, value, expires_at_ms);
}

/// Changes bytes of the string of `key`, which is where it was `found`, as `request` asks, after it
/// was filled up to `len` bytes with zeros. `f` returns whether it changed any.
///
/// # Errors
/// [`Error::WRONG_TYPE`], [`Error::VALUE_TOO_LARGE`].
pub(super) fn patch(
    ctx: &mut Ctx<'_>,
    key: Key<'_>,
    found: Option<Loc>,
    request: &Request<'_>,
    len: usize,
    f: impl FnOnce(&mut [u8]) -> bool,
) -> Result<(), Error> {
    let digits = &mut itoa::Buffer::new();
    let old = found.map_or(Ok(&b""[..]), |loc| ctx.string(loc, digits))?;
    let old_len = old.len();
    ctx.check_size(old_len.max(len))?;
    if let Some(loc) = found {
        let is_big = matches!(ctx.entry(loc).value(), ValueRef::Big(_));
        if is_big || matches!(ctx.entry(loc).value(), ValueRef::Str(_)) && len <= old_len {
            ctx.change_string(key, loc, Effect::Request(request), |entry| match entry.big_mut() {
                Some(big) => {
                    fill_up(big, len);
                    f(big) || len > old_len
                }
                None => f(entry.inline_mut().expect("just seen to be a string")),
            });
            return Ok(());
        }
    }
    let mut whole = Vec::with_capacity(len.max(old_len));
    whole.extend_from_slice(old);
    whole.resize(len.max(old_len), 0);
    if f(&mut whole) || found.is_none() || len > old_len {
        let expires_at_ms = found.and_then(|loc| ctx.entry(loc).expires_at_ms());
        set_string(ctx, key, whole, expires_at_ms);
    }
    Ok(())
}

/// Makes a string `len` bytes long, if it is shorter. A vector's own way would take twice as much.
fn fill_up(string: &mut Vec<u8>, len: usize) {
    if len > string.capacity() {
        let more = len - string.len();
        string.reserve_exact(more + more.min(SLACK_MAX));
    }
    if len > string.len() {
        string.resize(len, 0);
    }
}

fn setrange(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let offset = parse_i64(request.arg(2)).ok_or(Error::NOT_INTEGER)?;
    let offset = usize::try_from(offset).map_err(|_| Error::fixed("ERR offset is out of range"))?;
    let (key, part) = (ctx.key(request, 1), request.arg(3));
    let found = ctx.find(key);
    let digits = &mut itoa::Buffer::new();
    let old = found.map_or(Ok(&b""[..]), |loc| ctx.string(loc, digits))?;
    if part.is_empty() {
        reply.count(old.len());
        return Ok(());
    }
    let end = grown(ctx, offset, part.len())?;
    let len = old.len().max(end);
    patch(ctx, key, found, request, end, |string| {
        string[offset..end].copy_from_slice(part);
        true
    })?;
    reply.count(len);
    Ok(())
}

/// The bytes that GETRANGE means. Unlike a range of a list, one that ends in front of the first
/// byte ends with it, unless it also begins there, behind its end.
fn byte_range(start: i64, end: i64, len: usize) -> Range<usize> {
    if start < 0 && end < start {
        return 0..0;
    }
    let len = i64::try_from(len).unwrap_or(i64::MAX);
    let place = |i: i64| if i < 0 { (i + len).max(0) } else { i };
    let (start, end) = (place(start), place(end).min(len - 1) + 1);
    // Both are in 0..=len now, if there is anything at all.
    if start >= end { 0..0 } else { start as usize..end as usize }
}

fn getrange(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let start = parse_i64(request.arg(2)).ok_or(Error::NOT_INTEGER)?;
    let end = parse_i64(request.arg(3)).ok_or(Error::NOT_INTEGER)?;
    let Some(loc) = ctx.read(ctx.key(request, 1)) else {
        reply.bulk(b"");
        return Ok(());
    };
    let digits = &mut itoa::Buffer::new();
    let string = ctx.string(loc, digits)?;
    reply.bulk(&string[byte_range(start, end, string.len())]);
    Ok(())
}

fn strlen(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let Some(loc) = ctx.read(ctx.key(request, 1)) else {
        reply.int(0);
        return Ok(());
    };
    let digits = &mut itoa::Buffer::new();
    reply.count(ctx.string(loc, digits)?.len());
    Ok(())
}

/// The number at `loc`.
fn number(ctx: &Ctx<'_>, loc: Loc) -> Result<i64, Error> {
    match ctx.entry(loc).value() {
        ValueRef::Int(n) => Ok(n),
        ValueRef::Str(s) => parse_i64(s).ok_or(Error::NOT_INTEGER),
        ValueRef::Big(_) => Err(Error::NOT_INTEGER),
        ValueRef::Object(_) | ValueRef::Absent => Err(Error::WRONG_TYPE),
    }
}

fn add(ctx: &mut Ctx<'_>, key: Key<'_>, by: i64, reply: &mut Reply<'_>) -> Result<(), Error> {
    let sum = if let Some(loc) = ctx.find(key) {
        let sum = number(ctx, loc)?.checked_add(by).ok_or(Error::OVERFLOW)?;
        ctx.set_int(key, loc, sum);
        sum
    } else {
        ctx.set(key, NewValue::Int(by), None);
        by
    };
    reply.int(sum);
    Ok(())
}

fn incr(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    add(ctx, ctx.key(request, 1), 1, reply)
}

fn decr(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    add(ctx, ctx.key(request, 1), -1, reply)
}

fn incrby(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let by = parse_i64(request.arg(2)).ok_or(Error::NOT_INTEGER)?;
    add(ctx, ctx.key(request, 1), by, reply)
}

fn decrby(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let by = parse_i64(request.arg(2)).ok_or(Error::NOT_INTEGER)?;
    add(ctx, ctx.key(request, 1), by.checked_neg().ok_or(Error::DECREMENT_OVERFLOW)?, reply)
}

fn incrbyfloat(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Error> {
    let key = ctx.key(request, 1);
    let found = ctx.find(key);
    let digits = &mut itoa::Buffer::new();
    let old = found.map_or(Ok(&b"0"[..]), |loc| ctx.string(loc, digits))?;
    let terms = Extended::parse(old).zip(Extended::parse(request.arg(2)));
    let (old, by) = terms.ok_or(Error::NOT_FLOAT)?;
    let sum = old.checked_add(by).ok_or(Error::NAN_SUM)?.to_text();
    let expires_at_ms = found.and_then(|loc| ctx.entry(loc).expires_at_ms());
    ctx.set(key, encoded(sum.as_bytes()), expires_at_ms);
    reply.bulk(sum.as_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_bytes() {
        let cases = [
            ((0, -1, 3), 0..3),
            ((1, 1, 3), 1..2),
            ((-2, 100, 3), 1..3),
            ((0, -4, 3), 0..1),
            ((-5, -4, 3), 0..1),
            ((-4, -5, 3), 0..0),
            ((2, 1, 3), 0..0),
            ((3, 3, 3), 0..0),
            ((0, -1, 0), 0..0),
            ((i64::MIN, i64::MAX, 3), 0..3),
            ((i64::MAX, i64::MIN, 3), 0..0),
        ];
        for ((start, end, len), range) in cases {
            assert_eq!(byte_range(start, end, len), range, "{start} {end} of {len}");
        }
    }
}
