//! Running one request: the checks that every command shares, then the command.
//!
//! Main thread. Called with the connection half of the client taken out, so replies go straight to
//! its output while the command may look at every client.

use std::time::Instant;

use crate::client::{ClientKey, Closing, Multi};
use crate::config::Fsync;
use crate::resp::encode::{Output, Reply};
use crate::server::Server;
use crate::tier::prepare::Ready;

use super::{Command, Ctx, Error, Flags, Request, transaction};

/// How the request ended.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
#[must_use]
pub(crate) enum Done {
    /// It was answered, or queued: take it off the input.
    Answered,
    /// The client waits and nothing happened yet: run the request again when it is woken.
    Waits,
}

/// Runs `request` for `client`; replies go to `out`.
pub(crate) fn run(
    server: &mut Server,
    client: ClientKey,
    request: &Request<'_>,
    out: &mut Output,
) -> Done {
    let done = run_once(server, client, request, out);
    if request.command.flags.has(Flags::BLOCKING) && done == Done::Answered {
        server.stop_waiting(client);
    }
    done
}

fn run_once(
    server: &mut Server,
    client: ClientKey,
    request: &Request<'_>,
    out: &mut Output,
) -> Done {
    let session = server.clients.session_mut(client);
    let proto = session.proto;
    let mut reply = Reply::new(out, proto);
    session.last_ms = server.now_ms;
    session.last_command = Some(request.command);
    let queues = session.multi.is_some() && !request.command.flags.has(Flags::UNQUEUED);
    server.evict();
    if let Err(error) = admit(server, client, request) {
        server.stats.per_command[usize::from(request.command.id)].rejected += 1;
        refuse_known(server, client, &error, &mut reply);
        return Done::Answered;
    }
    if let Some(blocked) = server.pauses(client, request) {
        server.clients.session_mut(client).blocked = Some(blocked);
        return Done::Waits;
    }
    if queues {
        queue(server, client, request, &mut reply);
        return Done::Answered;
    }
    // Without a store there is nothing that a request would have to wait for, unless it is an end.
    let needs_nothing = server.tier.is_none() && !request.command.flags.has(Flags::ENDS);
    let ready = if needs_nothing { Ok(Ready::Now(None)) } else { prepare(server, client, request) };
    let found = match ready {
        Ok(Ready::Now(found)) => found,
        Ok(Ready::After(blocked)) => {
            server.clients.session_mut(client).blocked = Some(blocked);
            return Done::Waits;
        }
        Err(error) => {
            refuse_known(server, client, &error, &mut reply);
            return Done::Answered;
        }
    };
    let (logged, mark) = (server.logged(), reply.output().mark());
    let expired = server.stats.expired_keys;
    let outcome = execute(&mut Ctx::knowing(server, client, found), request, &mut reply);
    if outcome != Outcome::Answered {
        // A look deletes a key whose time is over, which is no change of the command's.
        let changes = (server.logged() - logged) - (server.stats.expired_keys - expired);
        assert_eq!(changes, 0, "a command asks for more keys before it changes any");
    }
    match outcome {
        Outcome::Answered => {}
        Outcome::NeedsKeys => {
            let ready = server.prepare_keys(client, request);
            server.clients.session_mut(client).blocked = ready.blocked();
            return Done::Waits;
        }
        Outcome::FindsNothing => {
            let awaited = &mut server.clients.session_mut(client).awaited;
            if awaited.as_mut().is_some_and(|awaited| awaited.widen()) {
                // Others were faster. What came to its other keys meanwhile may be on disk by now.
                return run_once(server, client, request, out);
            }
            server.sleep(client);
            return Done::Waits;
        }
    }
    if server.tier.is_some() {
        server.unprepare(client);
        if server.logged() > logged && server.config.appendfsync == Fsync::Always {
            server.hold(client, mark);
        }
    }
    Done::Answered
}

/// Makes sure that the request can run to its end: that what it needs is there, or, for one that
/// ends the process, that nothing is left to do.
#[inline(never)]
fn prepare(server: &mut Server, client: ClientKey, request: &Request<'_>) -> Result<Ready, Error> {
    if request.command.flags.has(Flags::ENDS) {
        return server.prepare_end(request).map(Ready::from);
    }
    server.prepare(client, request)
}

/// One run of a command in so many is timed: two readings of the clock are a tenth of a short one.
const TIMED_EACH: u64 = 16;

/// How the run of a command ended.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
#[must_use]
pub(crate) enum Outcome {
    /// With a reply.
    Answered,
    /// It needs more keys, which are on disk only: it has changed and answered nothing.
    NeedsKeys,
    /// It waits for an element of one of its keys: it has changed and answered nothing.
    FindsNothing,
}

/// Runs a command that was admitted; also for the commands of a transaction and for replay.
pub(crate) fn execute(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Outcome {
    let id = usize::from(request.command.id);
    ctx.server.stats.commands += 1;
    let count = &mut ctx.server.stats.per_command[id];
    count.calls += 1;
    let is_sample = count.calls % TIMED_EACH == 1;
    let begun = (is_sample || ctx.server.slow_log.watches(request)).then(Instant::now);
    let mark = reply.output().mark();
    // A write of a transaction that began before the pause still finds its keys as they are.
    ctx.keeps_expired = ctx.server.is_paused() && !request.command.flags.has(Flags::WRITE);
    if let Err(error) = (request.command.run)(ctx, request, reply) {
        reply.output().truncate(mark);
        if error == Error::LATE_KEYS || error == Error::WAITS {
            ctx.server.stats.commands -= 1;
            ctx.server.stats.per_command[id].calls -= 1;
            let waits = error == Error::WAITS;
            return if waits { Outcome::FindsNothing } else { Outcome::NeedsKeys };
        }
        ctx.server.stats.per_command[id].failed += 1;
        ctx.server.stats.error(error.prefix());
        reply.error(error.as_bytes());
    }
    if let Some(begun) = begun {
        let took = begun.elapsed();
        if is_sample {
            ctx.server.stats.per_command[id].timed(took);
        }
        if ctx.server.slow_log.keeps(took) && !ctx.is_replay() {
            ctx.server.keep_slow(ctx.client, request, took);
        }
    }
    Outcome::Answered
}

/// Answers a request whose preparation failed.
pub(crate) fn fail(server: &mut Server, client: ClientKey, error: &Error, out: &mut Output) {
    let mut reply = Reply::new(out, server.clients.session(client).proto);
    server.unprepare(client);
    server.stop_waiting(client);
    refuse_known(server, client, error, &mut reply);
}

/// Answers a request whose command does not exist.
pub(crate) fn unknown<'a>(
    server: &mut Server,
    client: ClientKey,
    name: &[u8],
    args: impl Iterator<Item = &'a [u8]>,
    out: &mut Output,
) {
    if name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:") {
        // A browser was tricked into sending this: nothing behind it may be run.
        server.log.warning(format_args!(
            "Possible SECURITY ATTACK detected. It looks like somebody is sending POST or Host: \
             commands to Flintlock. This is likely due to an attacker attempting to use Cross \
             Protocol Scripting. Connection aborted."
        ));
        server.close_client(client, Closing::Now);
        return;
    }
    let mut reply = Reply::new(out, server.clients.session(client).proto);
    refuse(server, client, &Error::unknown_command(name, args), &mut reply);
}

/// Refuses the client's last request, of a command that exists. An EXEC that is refused ends its
/// transaction all the same: who sent it takes what follows for plain requests.
fn refuse_known(server: &mut Server, client: ClientKey, error: &Error, reply: &mut Reply<'_>) {
    let last = server.clients.session(client).last_command;
    if last.is_some_and(|command| command.flags.has(Flags::RUNS_QUEUE)) {
        transaction::abort(&mut Ctx::new(server, client));
        return refuse(server, client, &Error::exec_abort(error), reply);
    }
    refuse(server, client, error, reply);
}

/// Refuses a request before it ran; a transaction it was meant for will fail.
fn refuse(server: &mut Server, client: ClientKey, error: &Error, reply: &mut Reply<'_>) {
    server.stats.error(error.prefix());
    reply.error(error.as_bytes());
    if let Some(multi) = &mut server.clients.session_mut(client).multi {
        multi.failed = true;
    }
}

/// The checks in front of a command, in Redis's order.
fn admit(server: &Server, client: ClientKey, request: &Request<'_>) -> Result<(), Error> {
    let command = request.command;
    let session = server.clients.session(client);
    if let (true, Some(sub)) = (command.flags.has(Flags::CONTAINER), request.get(1)) {
        return Err(Error::unknown_subcommand(command.name, sub));
    }
    if !command.accepts(request.len()) {
        return Err(Error::arity(command.name));
    }
    if !session.authenticated && !command.flags.has(Flags::NO_AUTH) {
        return Err(Error::NO_AUTH);
    }
    if session.multi.is_some() && command.flags.has(Flags::NO_MULTI) {
        return Err(Error::text("ERR Command not allowed inside a transaction"));
    }
    if let Some(multi) = &session.multi {
        admit_within(server, multi, command)?;
    }
    if command.flags.has(Flags::WRITE) {
        server.may_write(command)?;
    }
    if session.only_subscribes() && !command.flags.has(Flags::SUBSCRIBER) {
        return Err(Error::only_subscribes(command.name));
    }
    Ok(())
}

/// The checks in front of a command inside MULTI. What is queued takes memory whatever it is; an
/// EXEC may run if each of its commands may.
fn admit_within(server: &Server, multi: &Multi, command: &Command) -> Result<(), Error> {
    if command.flags.has(Flags::RUNS_QUEUE) {
        let commands = multi.queue.iter().map(|request| request.get().command);
        let mut writes = commands.filter(|command| command.flags.has(Flags::WRITE));
        return writes.try_for_each(|command| server.may_write(command));
    }
    if !command.flags.has(Flags::ENDS_MULTI) && server.is_out_of_memory() {
        return Err(Error::OOM);
    }
    Ok(())
}

fn queue(server: &mut Server, client: ClientKey, request: &Request<'_>, reply: &mut Reply<'_>) {
    let max = server.config.client_query_buffer_limit_bytes;
    let session = server.clients.session_mut(client);
    let Some(multi) = &mut session.multi else { return };
    let owned = request.detach();
    if (multi.bytes + owned.memory_bytes()) as u64 > max {
        // The queue is input that was not run yet, and bounded as such.
        multi.failed = true;
        let error = Error::fixed("ERR transaction exceeds client-query-buffer-limit");
        server.stats.error(error.prefix());
        reply.error(error.as_bytes());
        return;
    }
    multi.bytes += owned.memory_bytes();
    multi.queue.push(owned);
    reply.simple("QUEUED");
}
