//! OBJECT: how a key is kept. What is asked for this way is not used by it.

use crate::config::EvictionPolicy;
use crate::keyspace::entry::ValueRef;
use crate::keyspace::table::Loc;
use crate::resp::encode::Reply;

use super::{Command, Ctx, Error, Flags, Keys, Request};

/// The rows of this family.
pub(super) fn commands() -> Vec<Command> {
    let read = &[Flags::READONLY];
    let help = &[Flags::LOADING, Flags::STALE];
    vec![
        Command::new("object", super::container, -2, &[Flags::CONTAINER], Keys::NONE),
        Command::new("object|encoding", encoding, 3, read, Keys::SECOND),
        Command::new("object|freq", freq, 3, read, Keys::SECOND),
        Command::new("object|idletime", idletime, 3, read, Keys::SECOND),
        Command::new("object|refcount", refcount, 3, read, Keys::SECOND),
        Command::new("object|help", super::help, 2, help, Keys::NONE),
    ]
}

/// Longest string that Redis puts behind its header instead of beside it.
const EMBEDDED_MAX: usize = 44;
/// Numbers below this are shared by all keys of Redis that have them, unless each key must have its
/// own time of use.
const SHARED_NUMBERS: i64 = 10_000;

/// What redis-server would call the encoding of a value. Of strings only what SET makes is known:
/// one that was changed in place is `raw` there, however short it is.
pub(super) fn encoding_name(value: ValueRef<'_>) -> &'static str {
    match value {
        ValueRef::Int(_) => "int",
        ValueRef::Str(s) if s.len() <= EMBEDDED_MAX => "embstr",
        ValueRef::Object(object) => object.encoding_name(),
        ValueRef::Str(_) | ValueRef::Big(_) | ValueRef::Absent => "raw",
    }
}

/// Answers about the key with what `tell` makes of it, or null if there is none.
fn about(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
    tell: impl FnOnce(&Ctx<'_>, Loc, &mut Reply<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    let Some(loc) = ctx.find_untouched(ctx.key(request, 2)) else {
        reply.null();
        return Ok(());
    };
    tell(ctx, loc, reply)
}

fn encoding(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    about(ctx, request, reply, |ctx, loc, reply| {
        reply.bulk(encoding_name(ctx.entry(loc).value()).as_bytes());
        Ok(())
    })
}

/// Whether uses are counted, instead of the last one being remembered.
fn is_lfu(ctx: &Ctx<'_>) -> bool {
    use EvictionPolicy::{AllkeysLfu, VolatileLfu};
    matches!(ctx.server.config.maxmemory_policy, AllkeysLfu | VolatileLfu)
}

fn freq(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    about(ctx, request, reply, |ctx, loc, reply| {
        if !is_lfu(ctx) {
            return Err(Error::fixed(
                "ERR An LFU maxmemory policy is not selected, access frequency not tracked. \
                 Please note that when switching between policies at runtime LRU and LFU data \
                 will take some time to adjust.",
            ));
        }
        reply.int(ctx.server.access.frequency(ctx.entry(loc).access()).into());
        Ok(())
    })
}

fn idletime(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    about(ctx, request, reply, |ctx, loc, reply| {
        if is_lfu(ctx) {
            return Err(Error::fixed(
                "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that \
                 when switching between policies at runtime LRU and LFU data will take some time \
                 to adjust.",
            ));
        }
        let idle_ms = ctx.server.access.idle_ms(ctx.entry(loc).access());
        reply.int((idle_ms / 1000).cast_signed());
        Ok(())
    })
}

fn refcount(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    use EvictionPolicy::{AllkeysLfu, AllkeysLru, VolatileLfu, VolatileLru};
    about(ctx, request, reply, |ctx, loc, reply| {
        let config = &ctx.server.config;
        let by_use =
            matches!(config.maxmemory_policy, AllkeysLfu | AllkeysLru | VolatileLfu | VolatileLru);
        let shares = config.maxmemory_bytes == 0 || !by_use;
        let is_shared = matches!(
            ctx.entry(loc).value(), ValueRef::Int(n) if (0..SHARED_NUMBERS).contains(&n)
        );
        reply.int(if shares && is_shared { i32::MAX.into() } else { 1 });
        Ok(())
    })
}
