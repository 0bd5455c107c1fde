//! SLOWLOG: the latest commands that took long.

use crate::resp::encode::Reply;
use crate::slow_log::Slow;
use crate::types::number::parse_i64;

use super::{Command, Ctx, Error, Flags, Keys, Request};

/// Entries that are shown if nobody says how many.
const SHOWN: usize = 10;

/// The rows of this family.
pub(super) fn commands() -> Vec<Command> {
    let admin = &[Flags::ADMIN, Flags::LOADING, Flags::STALE];
    let help = &[Flags::LOADING, Flags::STALE];
    vec![
        Command::new("slowlog", super::container, -2, &[Flags::CONTAINER], Keys::NONE),
        Command::new("slowlog|get", get, -2, admin, Keys::NONE),
        Command::new("slowlog|len", len, 2, admin, Keys::NONE),
        Command::new("slowlog|reset", reset, 2, admin, Keys::NONE),
        Command::new("slowlog|help", super::help, 2, help, Keys::NONE),
    ]
}

fn get(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let most = match request.len() {
        2 => SHOWN,
        3 => match parse_i64(request.arg(2)) {
            Some(-1) => usize::MAX,
            Some(count) if count >= 0 => usize::try_from(count).unwrap_or(usize::MAX),
            _ => {
                let text = "ERR count should be greater than or equal to -1";
                return Err(Error::fixed(text));
            }
        },
        _ => return Err(Error::subcommand("SLOWLOG", request.arg(1))),
    };
    let entries = ctx.server.slow_log.entries();
    reply.array(entries.len().min(most));
    entries.take(most).for_each(|entry| describe(entry, reply));
    Ok(())
}

fn describe(entry: &Slow, reply: &mut Reply<'_>) {
    reply.array(6);
    for number in [entry.id, entry.unix_s, entry.took_us] {
        reply.int(number.cast_signed());
    }
    reply.array(entry.args.len());
    entry.args.iter().for_each(|arg| reply.bulk(arg));
    reply.bulk(entry.addr.as_bytes());
    reply.bulk(&entry.client);
}

fn len(ctx: &mut Ctx<'_>, _: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    reply.count(ctx.server.slow_log.entries().len());
    Ok(())
}

fn reset(ctx: &mut Ctx<'_>, _: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    ctx.server.slow_log.clear();
    reply.ok();
    Ok(())
}
