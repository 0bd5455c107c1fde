//! Commands about the server: INFO, CONFIG, saving, ending, DEBUG.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::config::SetError;
use crate::info;
use crate::resp::encode::Reply;
use crate::types::number::parse_f64;

use super::object::encoding_name;
use super::{Command, Ctx, Error, Flags, Keys, Request};

const ADMIN: Flags = Flags::ADMIN.or(Flags::NOSCRIPT).or(Flags::LOADING).or(Flags::STALE);
const SAVE: Flags = Flags::ADMIN.or(Flags::NOSCRIPT).or(Flags::NO_ASYNC_LOADING);
const ENDS: &[Flags] = &[ADMIN, Flags::NO_MULTI, Flags::ALLOW_BUSY, Flags::ENDS];
const ANY: Flags = Flags::LOADING.or(Flags::STALE);
const NONE: Keys = Keys::NONE;

/// The rows of this family.
pub(super) fn commands() -> Vec<Command> {
    let admin = &[ADMIN];
    vec![
        Command::new("info", info_text, -1, &[ANY, Flags::DANGEROUS], NONE),
        Command::new("config", super::container, -2, &[Flags::CONTAINER], NONE),
        Command::new("config|get", config_get, -3, admin, NONE),
        Command::new("config|set", config_set, -4, admin, NONE),
        Command::new("config|resetstat", config_resetstat, 2, admin, NONE),
        Command::new("config|rewrite", config_rewrite, 2, admin, NONE),
        Command::new("config|help", super::help, 2, &[ANY], NONE),
        Command::new("save", save, 1, &[SAVE, Flags::NO_MULTI, Flags::SAVES], NONE),
        Command::new("bgsave", bgsave, -1, &[SAVE], NONE),
        Command::new("time", time, 1, &[ANY, Flags::FAST], NONE),
        Command::new("role", role, 1, &[ANY, Flags::NOSCRIPT, Flags::FAST, Flags::DANGEROUS], NONE),
        Command::new("lastsave", lastsave, 1, &[ANY, Flags::FAST, Flags::DANGEROUS], NONE),
        Command::new("shutdown", shutdown, -1, ENDS, NONE),
        Command::new("debug", debug, -2, admin, NONE),
    ]
}

fn info_text(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let text = info::text(ctx.server, request.from(1));
    reply.verbatim(text.as_bytes());
    Ok(())
}

/// The moment itself, not that of the turn: whoever measures with it wants microseconds.
fn time(_: &mut Ctx<'_>, _: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    reply.array(2);
    reply.bulk(itoa::Buffer::new().format(unix.as_secs()).as_bytes());
    reply.bulk(itoa::Buffer::new().format(unix.subsec_micros()).as_bytes());
    Ok(())
}

fn config_get(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Error> {
    let patterns: Vec<&[u8]> = request.from(2).collect();
    let pairs = ctx.server.config.get(&patterns);
    reply.map(pairs.len());
    for (name, value) in pairs {
        reply.bulk(&name);
        reply.bulk(&value);
    }
    Ok(())
}

fn refusal(error: SetError) -> Error {
    Error::text([b"ERR ", error.message().as_slice()].concat())
}

fn config_set(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Error> {
    let words: Vec<&[u8]> = request.from(2).collect();
    let staged = ctx.server.config.stage(&words).map_err(refusal)?;
    ctx.server.reconfigure(staged).map_err(refusal)?;
    reply.ok();
    Ok(())
}

fn config_resetstat(
    ctx: &mut Ctx<'_>,
    _: &Request<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Error> {
    ctx.server.reset_stats();
    reply.ok();
    Ok(())
}

fn config_rewrite(ctx: &mut Ctx<'_>, _: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    ctx.server.config.rewrite_file().map_err(|e| Error::text(format!("ERR {e}")))?;
    reply.ok();
    Ok(())
}

/// SAVE runs when its backup is whole: its client was made to wait for that.
fn save(ctx: &mut Ctx<'_>, _: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    ctx.server.has_store()?;
    reply.ok();
    Ok(())
}

fn bgsave(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    match (request.len(), request.get(1)) {
        (1, _) => {}
        (2, Some(word)) if word.eq_ignore_ascii_case(b"schedule") => {}
        _ => return Err(Error::SYNTAX),
    }
    if ctx.in_transaction {
        ctx.server.schedule_backup()?;
        reply.simple("Background saving scheduled");
        return Ok(());
    }
    ctx.server.begin_backup()?;
    reply.simple("Background saving started");
    Ok(())
}

/// A server that follows nobody and is followed by nobody, in Redis's words.
fn role(_: &mut Ctx<'_>, _: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    reply.array(3);
    reply.bulk(b"master");
    reply.int(0);
    reply.array(0);
    Ok(())
}

fn lastsave(ctx: &mut Ctx<'_>, _: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    reply.int(ctx.server.saves.last_s.cast_signed());
    Ok(())
}

/// Only ABORT comes to run: every other SHUTDOWN waits for the end of the process, which is its
/// answer, or for an error.
fn shutdown(ctx: &mut Ctx<'_>, _: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    ctx.server.abort_end()?;
    reply.ok();
    Ok(())
}

/// DEBUG has no rows for its subcommands: in Redis it is one command that looks at its words.
fn debug(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    allow_debug(ctx)?;
    let sub = request.arg(1);
    match (sub.to_ascii_lowercase().as_slice(), request.len()) {
        (b"sleep", 3) => debug_sleep(request, reply),
        (b"object", 3) => return debug_object(ctx, request, reply),
        (b"help", 2) => {
            reply.array(3);
            for line in
                ["DEBUG <subcommand> [<arg>]. Subcommands are:", "OBJECT <key>", "SLEEP <seconds>"]
            {
                reply.simple(line);
            }
        }
        _ => return Err(Error::subcommand("DEBUG", sub)),
    }
    Ok(())
}

fn debug_sleep(request: &Request<'_>, reply: &mut Reply<'_>) {
    let seconds = parse_f64(request.arg(2)).unwrap_or(0.0).clamp(0.0, 3600.0);
    std::thread::sleep(std::time::Duration::from_secs_f64(seconds));
    reply.ok();
}

/// DEBUG follows `enable-debug-command`, as in Redis.
fn allow_debug(ctx: &mut Ctx<'_>) -> Result<(), Error> {
    if ctx.server.allows_debug(ctx.client) {
        return Ok(());
    }
    Err(Error::fixed(
        "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", \
         you can run it from a local connection, otherwise you need to set this option in the \
         configuration file, and then restart the server.",
    ))
}

fn debug_object(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Error> {
    let name = request.arg(2);
    // The row of DEBUG declares no keys, since most of its subcommands have none.
    ctx.need([name])?;
    let loc = ctx.find_untouched(ctx.hasher().key(name)).ok_or(Error::NO_SUCH_KEY)?;
    let entry = ctx.entry(loc);
    let encoding = encoding_name(entry.value());
    let idle = ctx.server.access.idle_ms(entry.access()) / 1000;
    reply.simple(&format!(
        "Value at:{:p} refcount:1 encoding:{encoding} serializedlength:{} lru:{} \
         lru_seconds_idle:{idle}",
        entry.key().as_ptr(),
        entry.memory_bytes(),
        entry.access(),
    ));
    Ok(())
}
