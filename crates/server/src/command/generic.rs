//! Commands on keys of any type: existence, expiry, names.

use crate::keyspace::Key;
use crate::keyspace::entry::ValueRef;
use crate::resp::encode::Reply;
use crate::types::number::parse_i64;

use super::expiry::Unit;
use super::reach::database;
use super::{Command, Ctx, Error, Flags, Keys, Request};

const WRITE: Flags = Flags::WRITE;
const FREES: Flags = Flags::FREES;
const READ: Flags = Flags::READONLY;
const FAST: Flags = Flags::FAST;

/// The rows of this family.
pub(super) fn commands() -> Vec<Command> {
    vec![
        Command::new("del", del, -2, &[WRITE, FREES, Flags::UNSEEN, Flags::SHORT], Keys::ALL),
        Command::new("unlink", del, -2, &[WRITE, FAST, FREES, Flags::UNSEEN], Keys::ALL),
        Command::new("exists", exists, -2, &[READ, FAST], Keys::ALL),
        Command::new("type", type_of, 2, &[READ, FAST], Keys::ONE),
        Command::new("expire", expire, -3, &[WRITE, FAST], Keys::ONE),
        Command::new("pexpire", pexpire, -3, &[WRITE, FAST], Keys::ONE),
        Command::new("expireat", expireat, -3, &[WRITE, FAST], Keys::ONE),
        Command::new("pexpireat", pexpireat, -3, &[WRITE, FAST], Keys::ONE),
        Command::new("ttl", ttl, 2, &[READ, FAST], Keys::ONE),
        Command::new("pttl", pttl, 2, &[READ, FAST], Keys::ONE),
        Command::new("expiretime", expiretime, 2, &[READ, FAST], Keys::ONE),
        Command::new("pexpiretime", pexpiretime, 2, &[READ, FAST], Keys::ONE),
        Command::new("touch", touch, -2, &[READ, FAST], Keys::ALL),
        Command::new("persist", persist, 2, &[WRITE, FAST], Keys::ONE),
        Command::new("rename", rename, 3, &[WRITE], Keys::TWO),
        Command::new("renamenx", renamenx, 3, &[WRITE, FAST], Keys::TWO),
        Command::new("copy", copy, -3, &[WRITE, Flags::DENYOOM], Keys::TWO)
            .reaching(|request, databases| CopyWords::parse(request, databases).ok()?.db),
        Command::new("move", move_key, 3, &[WRITE, FAST], Keys::ONE)
            .reaching(|request, databases| database(request.get(2)?, databases).ok()),
        Command::new("swapdb", swapdb, 3, &[WRITE, FAST, Flags::DANGEROUS], Keys::NONE),
        Command::new("flushdb", flushdb, -1, &[WRITE, FREES, Flags::DANGEROUS], Keys::NONE),
        Command::new("flushall", flushall, -1, &[WRITE, FREES, Flags::DANGEROUS], Keys::NONE),
    ]
}

fn del(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let deleted = (1..request.len()).filter(|&i| ctx.delete_unseen(ctx.key(request, i))).count();
    reply.count(deleted);
    Ok(())
}

fn exists(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let there = |i: &usize| ctx.find_untouched(ctx.key(request, *i)).is_some();
    reply.count((1..request.len()).filter(there).count());
    Ok(())
}

fn touch(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let there = |i: &usize| ctx.read(ctx.key(request, *i)).is_some();
    reply.count((1..request.len()).filter(there).count());
    Ok(())
}

/// The name that TYPE gives.
pub(crate) fn type_name(value: ValueRef<'_>) -> &'static str {
    match value {
        ValueRef::Int(_) | ValueRef::Str(_) | ValueRef::Big(_) => "string",
        ValueRef::Object(object) => object.type_name(),
        ValueRef::Absent => "none",
    }
}

fn type_of(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let found = ctx.find_untouched(ctx.key(request, 1));
    reply.simple(found.map_or("none", |loc| type_name(ctx.entry(loc).value())));
    Ok(())
}

/// Conditions of EXPIRE.
#[derive(Default)]
struct Conditions {
    nx: bool,
    xx: bool,
    gt: bool,
    lt: bool,
}

impl Conditions {
    fn parse(request: &Request<'_>) -> Result<Self, Error> {
        let mut it = Self::default();
        for word in request.from(3) {
            match word.to_ascii_lowercase().as_slice() {
                b"nx" => it.nx = true,
                b"xx" => it.xx = true,
                b"gt" => it.gt = true,
                b"lt" => it.lt = true,
                _ => return Err(Error::text([b"ERR Unsupported option ", word].concat())),
            }
            if it.nx && (it.xx || it.gt || it.lt) {
                return Err(Error::fixed(
                    "ERR NX and XX, GT or LT options at the same time are not compatible",
                ));
            }
            if it.gt && it.lt {
                return Err(Error::fixed(
                    "ERR GT and LT options at the same time are not compatible",
                ));
            }
        }
        Ok(it)
    }

    /// Whether an expiry of `at` may take the place of `now`.
    fn allow(&self, now: Option<i64>, at: i64) -> bool {
        !(self.nx && now.is_some()
            || self.xx && now.is_none()
            || self.gt && now.is_none_or(|now| at <= now)
            || self.lt && now.is_some_and(|now| at >= now))
    }
}

fn expire_with(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
    unit: Unit,
) -> Result<(), Error> {
    let conditions = Conditions::parse(request)?;
    let time = parse_i64(request.arg(2)).ok_or(Error::NOT_INTEGER)?;
    let at = unit.unix_ms(time, ctx.now_ms());
    let at = at.ok_or_else(|| Error::expire_time(request.command.name))?;
    let key = ctx.key(request, 1);
    let Some(loc) = ctx.find(key) else {
        reply.int(0);
        return Ok(());
    };
    let now = ctx.entry(loc).expires_at_ms().and_then(|ms| i64::try_from(ms).ok());
    if !conditions.allow(now, at) {
        reply.int(0);
        return Ok(());
    }
    match u64::try_from(at) {
        Ok(at) if at > ctx.now_ms() => ctx.set_expiry(key, loc, Some(at)),
        _ => ctx.delete(key, loc),
    }
    reply.int(1);
    Ok(())
}

fn expire(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    expire_with(ctx, request, reply, Unit::Seconds)
}

fn pexpire(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    expire_with(ctx, request, reply, Unit::Millis)
}

fn expireat(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    expire_with(ctx, request, reply, Unit::AtSeconds)
}

fn pexpireat(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    expire_with(ctx, request, reply, Unit::AtMillis)
}

/// Unix milliseconds of the key's expiry, -1 without expiry, -2 without key.
fn expiry_ms(ctx: &mut Ctx<'_>, key: Key<'_>) -> i64 {
    let Some(loc) = ctx.find_untouched(key) else { return -2 };
    let at = ctx.entry(loc).expires_at_ms();
    at.map_or(-1, |at| i64::try_from(at).unwrap_or(i64::MAX))
}

/// Milliseconds left, or what [`expiry_ms`] says of a key that does not expire.
fn left_ms(ctx: &mut Ctx<'_>, key: Key<'_>) -> i64 {
    let at = expiry_ms(ctx, key);
    let now = i64::try_from(ctx.now_ms()).unwrap_or(i64::MAX);
    if at < 0 { at } else { at.saturating_sub(now).max(0) }
}

/// Seconds of milliseconds, rounded; negative numbers say what is not there.
fn seconds(ms: i64) -> i64 {
    if ms < 0 { ms } else { ms.saturating_add(500) / 1000 }
}

fn ttl(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    reply.int(seconds(left_ms(ctx, ctx.key(request, 1))));
    Ok(())
}

fn pttl(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    reply.int(left_ms(ctx, ctx.key(request, 1)));
    Ok(())
}

fn expiretime(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Error> {
    reply.int(seconds(expiry_ms(ctx, ctx.key(request, 1))));
    Ok(())
}

fn pexpiretime(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Error> {
    reply.int(expiry_ms(ctx, ctx.key(request, 1)));
    Ok(())
}

fn persist(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let key = ctx.key(request, 1);
    let found = ctx.find(key).filter(|loc| ctx.entry(*loc).expires_at_ms().is_some());
    if let Some(loc) = found {
        ctx.set_expiry(key, loc, None);
    }
    reply.int(i64::from(found.is_some()));
    Ok(())
}

fn rename(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let (from, to) = (ctx.key(request, 1), ctx.key(request, 2));
    let loc = ctx.find(from).ok_or(Error::NO_SUCH_KEY)?;
    if from.bytes != to.bytes {
        ctx.rename(from, loc, ctx.db, to);
    }
    reply.ok();
    Ok(())
}

fn renamenx(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let (from, to) = (ctx.key(request, 1), ctx.key(request, 2));
    // Before the look for the source: deleting a destination whose time is over moves entries.
    let is_taken = ctx.find(to).is_some();
    let loc = ctx.find(from).ok_or(Error::NO_SUCH_KEY)?;
    if !is_taken {
        ctx.rename(from, loc, ctx.db, to);
    }
    reply.int(i64::from(!is_taken));
    Ok(())
}

/// What stands behind the keys of COPY.
#[derive(Default)]
struct CopyWords {
    db: Option<usize>,
    replace: bool,
}

impl CopyWords {
    fn parse(request: &Request<'_>, databases: usize) -> Result<Self, Error> {
        let mut it = Self::default();
        let mut rest = request.from(3);
        while let Some(word) = rest.next() {
            match word.to_ascii_lowercase().as_slice() {
                b"replace" => it.replace = true,
                b"db" => it.db = Some(database(rest.next().ok_or(Error::SYNTAX)?, databases)?),
                _ => return Err(Error::SYNTAX),
            }
        }
        Ok(it)
    }
}

fn copy(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let words = CopyWords::parse(request, ctx.server.keyspace.dbs.len())?;
    let (from, to, db) = (ctx.key(request, 1), ctx.key(request, 2), words.db.unwrap_or(ctx.db));
    if db == ctx.db && from.bytes == to.bytes {
        return Err(Error::SAME_OBJECT);
    }
    // Before the look for the source: deleting a destination whose time is over moves entries.
    let is_taken = ctx.within(db, |ctx| ctx.find(to).is_some());
    let found = ctx.read(from).filter(|_| words.replace || !is_taken);
    if let Some(loc) = found {
        ctx.copy(loc, db, to);
    }
    reply.int(i64::from(found.is_some()));
    Ok(())
}

fn move_key(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let db = database(request.arg(2), ctx.server.keyspace.dbs.len())?;
    if db == ctx.db {
        return Err(Error::SAME_OBJECT);
    }
    let key = ctx.key(request, 1);
    let is_taken = ctx.within(db, |ctx| ctx.find(key).is_some());
    let found = ctx.find(key).filter(|_| !is_taken);
    if let Some(loc) = found {
        ctx.rename(key, loc, db, key);
    }
    reply.int(i64::from(found.is_some()));
    Ok(())
}

fn swapdb(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let number = |index, text| match database(request.arg(index), ctx.server.keyspace.dbs.len()) {
        Ok(db) => Ok(Some(db)),
        Err(error) if error == Error::DB_OUT_OF_RANGE => Ok(None),
        Err(_) => Err(Error::fixed(text)),
    };
    let a = number(1, "ERR invalid first DB index")?;
    let b = number(2, "ERR invalid second DB index")?;
    let (a, b) = a.zip(b).ok_or(Error::DB_OUT_OF_RANGE)?;
    ctx.swap_dbs(a, b);
    reply.ok();
    Ok(())
}

/// FLUSHDB and FLUSHALL free in the background either way; the word is only checked.
fn check_flush_option(request: &Request<'_>) -> Result<(), Error> {
    match (request.len(), request.get(1)) {
        (1, _) => Ok(()),
        (2, Some(word))
            if word.eq_ignore_ascii_case(b"async") || word.eq_ignore_ascii_case(b"sync") =>
        {
            Ok(())
        }
        _ => Err(Error::SYNTAX),
    }
}

fn flushdb(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    check_flush_option(request)?;
    let db = ctx.db;
    ctx.server.flush(db..db + 1);
    reply.ok();
    Ok(())
}

fn flushall(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    check_flush_option(request)?;
    let all = ctx.server.keyspace.dbs.len();
    ctx.server.flush(0..all);
    reply.ok();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_of_expire() {
        let allow = |nx, xx, gt, lt, now, at| Conditions { nx, xx, gt, lt }.allow(now, at);
        assert!(allow(false, false, false, false, None, 5));
        assert!(
            allow(true, false, false, false, None, 5)
                && !allow(true, false, false, false, Some(1), 5)
        );
        assert!(
            allow(false, true, false, false, Some(1), 5)
                && !allow(false, true, false, false, None, 5)
        );
        // Without expiry a key lives for ever: nothing is greater, everything is less.
        assert!(
            !allow(false, false, true, false, None, 5) && allow(false, false, false, true, None, 5)
        );
        assert!(
            allow(false, false, true, false, Some(4), 5)
                && !allow(false, false, true, false, Some(5), 5)
        );
        assert!(
            allow(false, false, false, true, Some(6), 5)
                && !allow(false, false, false, true, Some(5), 5)
        );
    }
}
