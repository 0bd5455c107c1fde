//! MULTI, EXEC, DISCARD, WATCH, UNWATCH.
//!
//! The commands of one EXEC run in one turn of the loop, and their operations lie in one group of
//! the journal, so a transaction is atomic in memory and on disk.

use crate::client::Multi;
use crate::resp::encode::Reply;
use crate::watch::Watched;

use super::dispatch::{Outcome, execute};
use super::{Command, Ctx, Error, Flags, Keys, Reach, Request};

const ANY_TIME: Flags = Flags::NOSCRIPT.or(Flags::LOADING).or(Flags::STALE);
const ANY: Flags = ANY_TIME.or(Flags::FAST);
const UNQUEUED: Flags = Flags::UNQUEUED;

/// The rows of this family.
pub(super) fn commands() -> Vec<Command> {
    vec![
        Command::new("multi", multi, 1, &[ANY, UNQUEUED, Flags::ALLOW_BUSY], Keys::NONE),
        Command::new(
            "exec",
            exec,
            1,
            &[ANY_TIME, UNQUEUED, Flags::SKIP_SLOWLOG, Flags::RUNS_QUEUE],
            Keys::NONE,
        ),
        Command::new(
            "discard",
            discard,
            1,
            &[ANY, UNQUEUED, Flags::ALLOW_BUSY, Flags::ENDS_MULTI],
            Keys::NONE,
        ),
        Command::new("watch", watch, -2, &[ANY, UNQUEUED, Flags::ALLOW_BUSY], Keys::ALL),
        Command::new("unwatch", unwatch, 1, &[ANY, Flags::ALLOW_BUSY], Keys::NONE),
    ]
}

fn multi(ctx: &mut Ctx<'_>, _: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let session = ctx.session();
    if session.multi.is_some() {
        return Err(Error::NESTED_MULTI);
    }
    session.multi = Some(Multi::default());
    reply.ok();
    Ok(())
}

/// Ends the transaction and every WATCH; returns the queue and whether it may run.
fn end(ctx: &mut Ctx<'_>) -> (Multi, bool) {
    let session = ctx.session();
    let multi = session.multi.take().unwrap_or_default();
    let broken = std::mem::take(&mut session.cas_broken);
    unwatch_all(ctx);
    (multi, broken)
}

/// Stops watching.
pub(crate) fn unwatch_all(ctx: &mut Ctx<'_>) {
    let session = ctx.session();
    session.cas_broken = false;
    let watching = std::mem::take(&mut session.watching);
    ctx.server.watch.forget(ctx.client, watching);
}

fn exec(ctx: &mut Ctx<'_>, _: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let Some(multi) = &ctx.session().multi else {
        return Err(Error::EXEC_WITHOUT_MULTI);
    };
    let failed = multi.failed;
    rehearse(ctx)?;
    let expired = watched_key_expired(ctx);
    let (multi, broken) = end(ctx);
    if failed {
        return Err(Error::EXEC_ABORT);
    }
    if broken || expired {
        reply.null_array();
        return Ok(());
    }
    reply.array(multi.queue.len());
    ctx.in_transaction = true;
    for request in &multi.queue {
        // SELECT may be among them.
        ctx.db = ctx.session().db;
        // HELLO may be among them.
        reply.proto = ctx.session().proto;
        if execute(ctx, &request.get(), reply) != Outcome::Answered {
            // What ran before it has changed which keys it needs, and cannot be undone.
            ctx.server.stats.error(Error::LATE_KEYS.prefix());
            reply.error(Error::LATE_KEYS.as_bytes());
        }
    }
    ctx.in_transaction = false;
    ctx.db = ctx.session().db;
    Ok(())
}

/// Has the keys in memory that queued commands will turn out to need: once the first of them has
/// run, none can wait any more.
///
/// # Errors
/// [`Error::LATE_KEYS`]; the transaction is as it was.
fn rehearse(ctx: &mut Ctx<'_>) -> Result<(), Error> {
    let Some(multi) = ctx.session().multi.take() else { return Ok(()) };
    let db = ctx.db;
    let mut reach = Reach::new(db, ctx.server.keyspace.dbs.len());
    let result = multi.queue.iter().try_for_each(|request| {
        let request = request.get();
        reach.pass(&request);
        ctx.db = reach.db();
        let Some(rehearse) = request.command.rehearse else { return Ok(()) };
        // Other errors are those of the command itself, when it runs.
        rehearse(ctx, &request).or_else(|e| if e == Error::LATE_KEYS { Err(e) } else { Ok(()) })
    });
    ctx.db = db;
    ctx.session().multi = Some(multi);
    result
}

/// A watched key whose time ran out since WATCH counts as changed although nobody deleted it.
fn watched_key_expired(ctx: &Ctx<'_>) -> bool {
    let watching = &ctx.server.clients.session(ctx.client).watching;
    watching.keys().iter().any(|watched| watched.expires_at_ms.is_some_and(|at| at <= ctx.now_ms()))
}

fn discard(ctx: &mut Ctx<'_>, _: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    if ctx.session().multi.is_none() {
        return Err(Error::DISCARD_WITHOUT_MULTI);
    }
    abort(ctx);
    reply.ok();
    Ok(())
}

/// Forgets the transaction, if there is one, and every WATCH.
pub(super) fn abort(ctx: &mut Ctx<'_>) {
    end(ctx);
}

fn watch(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    if ctx.session().multi.is_some() {
        return Err(Error::WATCH_IN_MULTI);
    }
    if !ctx.session().cas_broken {
        for i in 1..request.len() {
            let found = ctx.find_untouched(ctx.key(request, i));
            let watched = Watched {
                db: ctx.db,
                key: request.arg(i).into(),
                existed: found.is_some(),
                expires_at_ms: found.and_then(|loc| ctx.entry(loc).expires_at_ms()),
            };
            let server = &mut *ctx.server;
            server.watch.add(&mut server.clients, ctx.client, watched);
        }
    }
    reply.ok();
    Ok(())
}

fn unwatch(ctx: &mut Ctx<'_>, _: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    unwatch_all(ctx);
    reply.ok();
    Ok(())
}
