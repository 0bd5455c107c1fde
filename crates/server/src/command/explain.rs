//! FLINT.EXPLAIN: where a key stands between memory and disk, without moving it.
//!
//! Main thread. Not a command of Redis. It names its key outside of the key positions, so nothing
//! is loaded for it and no use is counted; it says what is known anyway. What is not remembered
//! for each key is not said: only the latest evictions are kept, found by hash, and no history.

use flintlock_diskcache::cache::home::Known;
use flintlock_diskcache::cache::{Explained, LoadPhase};
use flintlock_diskcache::key::KeyRef;

use crate::resp::encode::Reply;
use crate::server::Server;
use crate::tier::home::Resident;

use super::{Command, Ctx, Error, Flags, Keys, Request};

const FLAGS: [Flags; 2] = [Flags::ADMIN, Flags::NOSCRIPT];

/// The rows of this family.
pub(super) fn commands() -> Vec<Command> {
    vec![Command::new("flint.explain", explain, 2, &FLAGS, Keys::NONE)]
}

fn explain(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let (db, now_ms) = (ctx.db, ctx.server.mono_ms);
    let key = ctx.hasher().key(request.arg(1));
    let is_resident = ctx.table().find(key).is_some();
    let Server { tier, keyspace, access, .. } = &mut *ctx.server;
    let Some(tier) = tier else {
        reply.map(1);
        reply.bulk(b"where");
        reply.bulk(if is_resident { b"memory" } else { b"nowhere" });
        return Ok(());
    };
    let at = KeyRef { space: keyspace.dbs[db].space, hash: key.hash, key: key.bytes };
    let found = tier.cache.explain(&mut Resident { keyspace, access }, at);
    let (load, waited_ms) = match found.load {
        None => ("none", -1),
        Some((LoadPhase::Queued, ms)) => ("queued", ms.cast_signed()),
        Some((LoadPhase::Loading, ms)) => ("reading", ms.cast_signed()),
    };
    // Minus one: not among the latest evictions.
    let evicted = |figure: fn(&flintlock_diskcache::cache::stats::Eviction) -> u64| {
        found.evicted.as_ref().map_or(-1, |eviction| figure(eviction).cast_signed())
    };
    let evicted_at = evicted(|eviction| eviction.at_ms);
    let ago_ms = if evicted_at < 0 { -1 } else { now_ms.cast_signed() - evicted_at };
    reply.map(10);
    for (name, word) in [("where", place(&found)), ("save", save(&found)), ("load", load)] {
        reply.bulk(name.as_bytes());
        reply.bulk(word.as_bytes());
    }
    for (name, number) in [
        // FLUSHDB begins the next one: what is read for an older one is dropped.
        ("generation", i64::from(at.space.0)),
        ("load-waited-ms", waited_ms),
        ("pinned", i64::from(found.is_pinned)),
        ("evicted-ms-ago", ago_ms),
        ("evicted-after-idle-ms", evicted(|eviction| eviction.idle_ms)),
        ("evicted-use-counter", evicted(|eviction| u64::from(eviction.frequency))),
        ("evicted-over-limit-bytes", evicted(|eviction| eviction.excess_bytes)),
    ] {
        reply.bulk(name.as_bytes());
        reply.int(number);
    }
    Ok(())
}

fn place(found: &Explained) -> &'static str {
    let is_clean = found.state.is_none_or(|state| state.is_clean());
    match (found.known, is_clean) {
        (Known::Value, true) => "memory and disk",
        (Known::Value, false) => "memory, not yet on disk",
        (Known::Absent, true) => "known to be absent",
        (Known::Absent, false) => "deleted, not yet on disk",
        (Known::Unknown, _) => "on disk or nowhere",
    }
}

fn save(found: &Explained) -> &'static str {
    let bits = found.state.map(|state| (state.is_save(), state.is_saving()));
    match bits {
        Some((true, true)) => "saving, changed since",
        Some((true, false)) => "queued",
        Some((false, true)) => "saving",
        Some((false, false)) | None => "none",
    }
}
