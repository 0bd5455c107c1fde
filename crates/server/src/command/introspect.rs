//! COMMAND: what the table says about itself.

use crate::resp::encode::Reply;

use super::docs::Group;
use super::table::{all, lookup, subcommands};
use super::{Command, Ctx, Error, Flags, Keys, Request, docs};

const ANY: Flags = Flags::LOADING.or(Flags::STALE);

/// The rows of this family.
pub(super) fn commands() -> Vec<Command> {
    vec![
        Command::new("command", command, -1, &[ANY, Flags::CONTAINER], Keys::NONE),
        Command::new("command|count", count, 2, &[ANY], Keys::NONE),
        Command::new("command|info", info, -2, &[ANY], Keys::NONE),
        Command::new("command|docs", docs_of, -2, &[ANY], Keys::NONE),
        Command::new("command|help", super::help, 2, &[ANY], Keys::NONE),
    ]
}

/// Rows that are commands, not subcommands.
fn top_level() -> impl Iterator<Item = &'static Command> {
    all().iter().filter(|row| !row.name.contains('|'))
}

fn command(_: &mut Ctx<'_>, _: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    reply.array(top_level().count());
    top_level().for_each(|row| describe(row, reply));
    Ok(())
}

fn count(_: &mut Ctx<'_>, _: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    reply.count(top_level().count());
    Ok(())
}

fn info(_: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    if request.len() == 2 {
        reply.array(top_level().count());
        top_level().for_each(|row| describe(row, reply));
        return Ok(());
    }
    reply.array(request.len() - 2);
    for name in request.from(2) {
        match lookup(name) {
            Some(row) => describe(row, reply),
            None => reply.null(),
        }
    }
    Ok(())
}

/// Names of flags, in the order in which Redis lists them.
const FLAG_NAMES: [(Flags, &str); 13] = [
    (Flags::WRITE, "write"),
    (Flags::READONLY, "readonly"),
    (Flags::DENYOOM, "denyoom"),
    (Flags::ADMIN, "admin"),
    (Flags::NOSCRIPT, "noscript"),
    (Flags::LOADING, "loading"),
    (Flags::STALE, "stale"),
    (Flags::NO_ASYNC_LOADING, "no_async_loading"),
    (Flags::SKIP_SLOWLOG, "skip_slowlog"),
    (Flags::FAST, "fast"),
    (Flags::NO_AUTH, "no_auth"),
    (Flags::NO_MULTI, "no_multi"),
    (Flags::ALLOW_BUSY, "allow_busy"),
];

/// The ten fields of COMMAND INFO.
fn describe(row: &Command, reply: &mut Reply<'_>) {
    reply.array(10);
    reply.bulk(row.name.as_bytes());
    reply.int(i64::from(row.arity));
    let named = FLAG_NAMES.iter().filter(|(f, _)| row.flags.has(*f)).map(|(_, name)| *name);
    let movable = row.rehearse.is_some() || row.keys.count != 0;
    let flags: Vec<&str> = named.chain(movable.then_some("movablekeys")).collect();
    reply.set(flags.len());
    flags.iter().for_each(|name| reply.simple(name));
    reply.int(i64::from(row.keys.first));
    reply.int(i64::from(row.keys.last));
    reply.int(i64::from(row.keys.step));
    let categories = categories(row);
    reply.set(categories.len());
    categories.iter().for_each(|name| reply.simple(name));
    // Tips are for proxies that split commands over a cluster.
    reply.array(0);
    key_specs(row, reply);
    let subs: Vec<&Command> = subcommands(row).collect();
    reply.array(subs.len());
    subs.iter().for_each(|sub| describe(sub, reply));
}

/// ACL categories: those that follow from the flags, and the family's.
fn categories(row: &Command) -> Vec<&'static str> {
    let flags = row.flags;
    let by_flag = [
        (flags.has(Flags::WRITE), "@write"),
        (flags.has(Flags::READONLY), "@read"),
        (flags.has(Flags::ADMIN) || row.name == "lastsave", "@admin"),
        (flags.has(Flags::ADMIN) || flags.has(Flags::DANGEROUS), "@dangerous"),
        (flags.has(Flags::FAST), "@fast"),
        (!flags.has(Flags::FAST), "@slow"),
    ];
    let by_flag = by_flag.iter().filter(|(set, _)| *set).map(|(_, name)| *name);
    family(row).into_iter().chain(by_flag).collect()
}

/// The categories of the family; irregular for commands about the server and for SORT.
fn family(row: &Command) -> Vec<&'static str> {
    let group = docs::of(row).group;
    match group {
        _ if row.name.starts_with("sort") => vec!["@set", "@sortedset", "@list"],
        Group::Server if row.name.starts_with("command") => vec!["@connection"],
        Group::Server => {
            let keys = row.flags.has(Flags::WRITE) || row.flags.has(Flags::READONLY);
            if keys { vec!["@keyspace"] } else { Vec::new() }
        }
        _ if row.flags.has(Flags::CONTAINER) => Vec::new(),
        _ => group.category().into_iter().collect(),
    }
}

/// One key specification says what first, last and step say, another where keys are counted.
fn key_specs(row: &Command, reply: &mut Reply<'_>) {
    let keys = row.keys;
    reply.array(usize::from(keys.first != 0) + usize::from(keys.count != 0));
    if keys.first != 0 {
        key_spec(row, keys.first.into(), "range", reply);
        // Counted from the first key here, from the first argument in the fields before.
        let last = i64::from(keys.last);
        let last = if last < 0 { last } else { last - i64::from(keys.first) };
        numbers(&[("lastkey", last), ("keystep", keys.step.into()), ("limit", 0)], reply);
    }
    if keys.count != 0 {
        key_spec(row, keys.count.into(), "keynum", reply);
        numbers(&[("keynumidx", 0), ("firstkey", 1), ("keystep", 1)], reply);
    }
}

/// A key specification up to what finds the keys behind argument `at`.
fn key_spec(row: &Command, at: i64, find_keys: &str, reply: &mut Reply<'_>) {
    reply.map(3);
    reply.bulk(b"flags");
    let access = if row.flags.has(Flags::READONLY) { "RO" } else { "RW" };
    reply.set(2);
    reply.simple(access);
    reply.simple("access");
    reply.bulk(b"begin_search");
    reply.map(2);
    reply.bulk(b"type");
    reply.bulk(b"index");
    reply.bulk(b"spec");
    numbers(&[("index", at)], reply);
    reply.bulk(b"find_keys");
    reply.map(2);
    reply.bulk(b"type");
    reply.bulk(find_keys.as_bytes());
    reply.bulk(b"spec");
}

fn numbers(pairs: &[(&str, i64)], reply: &mut Reply<'_>) {
    reply.map(pairs.len());
    for (name, number) in pairs {
        reply.bulk(name.as_bytes());
        reply.int(*number);
    }
}

fn docs_of(_: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let rows: Vec<&Command> = if request.len() == 2 {
        top_level().collect()
    } else {
        request.from(2).filter_map(lookup).collect()
    };
    reply.map(rows.len());
    rows.iter().for_each(|row| document(row, reply));
    Ok(())
}

fn document(row: &Command, reply: &mut Reply<'_>) {
    let docs = docs::of(row);
    let subs: Vec<&Command> = subcommands(row).collect();
    reply.bulk(row.name.as_bytes());
    reply.map(4 + usize::from(!subs.is_empty()));
    for (field, text) in [
        ("summary", docs.summary),
        ("since", docs.since),
        ("group", docs.group.name()),
        ("complexity", docs.complexity),
    ] {
        reply.bulk(field.as_bytes());
        reply.bulk(text.as_bytes());
    }
    if !subs.is_empty() {
        reply.bulk(b"subcommands");
        reply.map(subs.len());
        subs.iter().for_each(|sub| document(sub, reply));
    }
}
