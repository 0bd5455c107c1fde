//! Publish and subscribe: SUBSCRIBE, PUBLISH and their variants for patterns and shard channels,
//! and PUBSUB.
//!
//! Channels are no keys: nothing is loaded or journalled for them.

use crate::pubsub::Kind;
use crate::resp::encode::Reply;
use crate::util::glob;

use super::{Command, Ctx, Error, Flags, Keys, Request};

const READ: &[Flags] = &[Flags::PUBSUB, Flags::LOADING, Flags::STALE];
const SEND: Flags = Flags::PUBSUB.or(Flags::LOADING).or(Flags::STALE).or(Flags::FAST);
const CHANGE: Flags =
    Flags::PUBSUB.or(Flags::NOSCRIPT).or(Flags::LOADING).or(Flags::STALE).or(Flags::SUBSCRIBER);
const NONE: Keys = Keys::NONE;

/// The rows of this family.
pub(super) fn commands() -> Vec<Command> {
    vec![
        Command::new("subscribe", subscribe, -2, &[CHANGE], NONE),
        Command::new("unsubscribe", unsubscribe, -1, &[CHANGE], NONE),
        Command::new("psubscribe", psubscribe, -2, &[CHANGE], NONE),
        Command::new("punsubscribe", punsubscribe, -1, &[CHANGE], NONE),
        Command::new("ssubscribe", ssubscribe, -2, &[CHANGE, Flags::SHARDED], NONE),
        Command::new("sunsubscribe", sunsubscribe, -1, &[CHANGE, Flags::SHARDED], NONE),
        Command::new("publish", publish, 3, &[SEND, Flags::PUBLISHES], NONE),
        Command::new("spublish", spublish, 3, &[SEND, Flags::PUBLISHES, Flags::SHARDED], NONE),
        Command::new("pubsub", super::container, -2, &[Flags::CONTAINER], NONE),
        Command::new("pubsub|channels", channels, -2, READ, NONE),
        Command::new("pubsub|numsub", numsub, -2, READ, NONE),
        Command::new("pubsub|numpat", numpat, 2, READ, NONE),
        Command::new("pubsub|shardchannels", channels, -2, READ, NONE),
        Command::new("pubsub|shardnumsub", numsub, -2, READ, NONE),
        Command::new("pubsub|help", super::help, 2, &[Flags::LOADING, Flags::STALE], NONE),
    ]
}

fn subscribe(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    add(ctx, request, reply, Kind::Channel)
}

fn psubscribe(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Error> {
    add(ctx, request, reply, Kind::Pattern)
}

fn ssubscribe(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Error> {
    if ctx.in_transaction {
        // The older commands are allowed there although they answer more than once.
        let text = "ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client";
        return Err(Error::fixed(text));
    }
    add(ctx, request, reply, Kind::Shard)
}

fn unsubscribe(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Error> {
    remove(ctx, request, reply, Kind::Channel)
}

fn punsubscribe(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Error> {
    remove(ctx, request, reply, Kind::Pattern)
}

fn sunsubscribe(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Error> {
    remove(ctx, request, reply, Kind::Shard)
}

/// Subscribes to each name, with a confirmation for each.
fn add(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
    kind: Kind,
) -> Result<(), Error> {
    for name in request.from(1) {
        ctx.server.subscribe(ctx.client, kind, name);
        confirm(ctx, request, reply, kind, Some(name));
    }
    Ok(())
}

/// Ends the subscriptions that are named, or all of a kind. Each name is confirmed, whether there
/// was a subscription or not, and that there was none at all.
fn remove(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
    kind: Kind,
) -> Result<(), Error> {
    for name in request.from(1) {
        ctx.server.unsubscribe(ctx.client, kind, name);
        confirm(ctx, request, reply, kind, Some(name));
    }
    if request.len() > 1 {
        return Ok(());
    }
    let names = ctx.session().subscribed_names(kind);
    for name in &names {
        ctx.server.unsubscribe(ctx.client, kind, name);
        confirm(ctx, request, reply, kind, Some(name));
    }
    if names.is_empty() {
        confirm(ctx, request, reply, kind, None);
    }
    Ok(())
}

/// Tells what became of a subscription: the command, the name and how many there are now.
fn confirm(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
    kind: Kind,
    name: Option<&[u8]>,
) {
    reply.push(3);
    reply.bulk(request.command.name.as_bytes());
    match name {
        Some(name) => reply.bulk(name),
        None => reply.null(),
    }
    reply.count(ctx.session().subscription_count(kind));
}

fn publish(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    send(ctx, request, reply, Kind::Channel)
}

fn spublish(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    send(ctx, request, reply, Kind::Shard)
}

fn send(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
    kind: Kind,
) -> Result<(), Error> {
    let own = (ctx.client, reply.output());
    let count = ctx.server.publish(own, kind, request.arg(1), request.arg(2));
    reply.count(count);
    Ok(())
}

/// What a subcommand of PUBSUB is about.
fn kind_of(request: &Request<'_>) -> Kind {
    let is_shard = request.command.name.starts_with("pubsub|shard");
    if is_shard { Kind::Shard } else { Kind::Channel }
}

fn channels(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    if request.len() > 3 {
        return Err(Error::subcommand("PUBSUB", request.arg(1)));
    }
    let pattern = request.get(2);
    let names = ctx.server.pubsub.names(kind_of(request));
    let found: Vec<_> =
        names.filter(|name| pattern.is_none_or(|p| glob::matches(p, name))).collect();
    reply.array(found.len());
    found.iter().for_each(|name| reply.bulk(name));
    Ok(())
}

fn numsub(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    reply.array(2 * (request.len() - 2));
    for name in request.from(2) {
        reply.bulk(name);
        reply.count(ctx.server.pubsub.subscribers(kind_of(request), name).len());
    }
    Ok(())
}

fn numpat(ctx: &mut Ctx<'_>, _: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    reply.count(ctx.server.pubsub.len(Kind::Pattern));
    Ok(())
}
