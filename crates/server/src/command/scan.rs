//! Commands that look at a whole database: SCAN, KEYS, RANDOMKEY, DBSIZE.
//!
//! They cover memory and disk. What is on disk has been read by the time the command runs: its
//! [`WalkPlan`] says beforehand what it will look at, and `tier::walk` does it.

use std::collections::HashSet;

use crate::resp::encode::Reply;
use crate::tier::walk::{Goal, POSITION_BITS, Walk};
use crate::types::Rng;

use super::cursor::{Options, parse_cursor, reply_head};
use super::{Command, Ctx, Error, Flags, Keys, Request};

const READ: Flags = Flags::READONLY.or(Flags::WALKS);

/// The rows of this family.
pub(super) fn commands() -> Vec<Command> {
    vec![
        Command::new("keys", keys, 2, &[READ, Flags::DANGEROUS], Keys::NONE),
        Command::new("scan", scan, -2, &[READ], Keys::NONE),
        Command::new("randomkey", randomkey, 1, &[READ], Keys::NONE),
        Command::new("dbsize", dbsize, 1, &[READ, Flags::FAST, Flags::COUNTS], Keys::NONE),
    ]
}

/// What a request will look at.
#[derive(Debug)]
pub(crate) struct WalkPlan {
    /// How far.
    pub goal: Goal,
    /// From which position in hash order.
    pub position: u64,
    /// Only keys with such a name.
    pub pattern: Option<Vec<u8>>,
    /// Only keys of this type, in lower case.
    pub type_name: Option<Vec<u8>>,
}

impl WalkPlan {
    fn new(goal: Goal, position: u64) -> Self {
        Self { goal, position, pattern: None, type_name: None }
    }

    /// The plan of a request; `None` for other commands, and for requests that are refused.
    pub(crate) fn of(request: &Request<'_>, random: u64) -> Option<Self> {
        if !request.command.accepts(request.len()) {
            return None;
        }
        match request.command.name {
            "keys" => Some(Self { pattern: pattern(request.arg(1)), ..Self::new(Goal::All, 0) }),
            "scan" => Self::of_scan(request).ok(),
            "randomkey" => Some(Self::new(Goal::Any, random >> POSITION_BITS << POSITION_BITS)),
            "dbsize" => Some(Self::new(Goal::Count, 0)),
            _ => None,
        }
    }

    fn of_scan(request: &Request<'_>) -> Result<Self, Error> {
        let cursor = parse_cursor(request.arg(1))?;
        let options = Options::of_keys(request)?;
        Ok(Self {
            pattern: options.pattern.map(<[u8]>::to_vec),
            type_name: options.type_name.map(<[u8]>::to_ascii_lowercase),
            ..Self::new(Goal::Stretch(options.count), position_of(cursor))
        })
    }
}

/// The star alone is no pattern: it matches the empty key too.
fn pattern(text: &[u8]) -> Option<Vec<u8>> {
    Some(text.to_vec()).filter(|p| p != b"*")
}

/// The position of a cursor; cursors that were never given out are past the end.
fn position_of(cursor: u64) -> u64 {
    if cursor.leading_zeros() >= POSITION_BITS { cursor << POSITION_BITS } else { u64::MAX }
}

/// The walk that was made for this command, or one over memory if there is no disk.
fn walk(ctx: &mut Ctx<'_>, request: &Request<'_>) -> Option<Walk> {
    if ctx.server.tier.is_some() {
        let mut walk = ctx.session().prepared.as_mut()?.take_walk()?;
        walk.catch_up(&ctx.server.keyspace, ctx.db);
        return Some(walk);
    }
    let random = ctx.server.random();
    let mut walk = Walk::plan(&ctx.server.keyspace, ctx.db, request, ctx.now_ms(), random)?;
    walk.run_in_memory(&ctx.server.keyspace);
    Some(walk)
}

/// The keys that the request's walk found, and where to go on.
fn found(ctx: &mut Ctx<'_>, request: &Request<'_>) -> (HashSet<Box<[u8]>>, Option<u64>) {
    walk(ctx, request).map(Walk::into_found).unwrap_or_default()
}

fn keys(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let (keys, _) = found(ctx, request);
    reply.array(keys.len());
    keys.iter().for_each(|key| reply.bulk(key));
    Ok(())
}

fn scan(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    WalkPlan::of_scan(request)?;
    let (keys, next) = found(ctx, request);
    reply_head(next.map_or(0, |position| position >> POSITION_BITS), keys.len(), reply);
    keys.iter().for_each(|key| reply.bulk(key));
    Ok(())
}

fn randomkey(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let (keys, _) = found(ctx, request);
    let pick = ctx.server.rng().next_u64() as usize % keys.len().max(1);
    match keys.iter().nth(pick) {
        Some(key) => reply.bulk(key),
        None => reply.null(),
    }
    Ok(())
}

fn dbsize(ctx: &mut Ctx<'_>, _: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    if ctx.server.tier.is_some() {
        // It was waited for: the number is exact, but for blind writes that came since.
        ctx.session().prepared.as_mut().and_then(|prepared| prepared.take_walk());
    }
    let count = ctx.server.key_count(ctx.db);
    reply.int(count.cast_signed());
    Ok(())
}
