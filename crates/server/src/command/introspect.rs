//! COMMAND: what the table says about itself.

use crate::resp::encode::Reply;
use crate::util::glob;

use super::docs::Group;
use super::table::{all, lookup, lookup_request, subcommands};
use super::{Command, Ctx, Error, Flags, Keys, OwnedRequest, Request, docs, sort};

const ANY: Flags = Flags::LOADING.or(Flags::STALE);

/// The rows of this family.
pub(super) fn commands() -> Vec<Command> {
    vec![
        Command::new("command", command, -1, &[ANY, Flags::CONTAINER], Keys::NONE),
        Command::new("command|count", count, 2, &[ANY], Keys::NONE),
        Command::new("command|info", info, -2, &[ANY], Keys::NONE),
        Command::new("command|docs", docs_of, -2, &[ANY], Keys::NONE),
        Command::new("command|list", list, -2, &[ANY], Keys::NONE),
        Command::new("command|getkeys", getkeys, -4, &[ANY], Keys::NONE),
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

/// What COMMAND LIST keeps.
enum Filter<'a> {
    Everything,
    /// Of a module; there are none.
    Module,
    Category(&'a [u8]),
    Pattern(&'a [u8]),
}

impl<'a> Filter<'a> {
    fn parse(request: &Request<'a>) -> Result<Self, Error> {
        if request.len() > 2 {
            let by = request.get(3).unwrap_or_default().to_ascii_lowercase();
            let is_filter = request.arg(2).eq_ignore_ascii_case(b"filterby");
            let value = request.get(4).filter(|_| is_filter && request.len() == 5);
            let value = value.ok_or(Error::SYNTAX)?;
            return match by.as_slice() {
                b"module" => Ok(Self::Module),
                b"aclcat" => Ok(Self::Category(value)),
                b"pattern" => Ok(Self::Pattern(value)),
                _ => Err(Error::SYNTAX),
            };
        }
        Ok(Self::Everything)
    }

    fn keeps(&self, row: &Command) -> bool {
        match self {
            Self::Everything => true,
            Self::Module => false,
            Self::Category(name) => {
                let is = |category: &&str| category.as_bytes()[1..].eq_ignore_ascii_case(name);
                categories(row).iter().any(is)
            }
            Self::Pattern(pattern) => glob::matches_nocase(pattern, row.name.as_bytes()),
        }
    }
}

fn list(_: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let filter = Filter::parse(request)?;
    let names: Vec<&str> =
        all().iter().filter(|row| filter.keeps(row)).map(|row| row.name).collect();
    reply.array(names.len());
    names.iter().for_each(|name| reply.bulk(name.as_bytes()));
    Ok(())
}

/// The keys of a request that is not run.
fn getkeys(_: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let row = lookup_request(request.arg(2), request.get(3));
    let row = row.filter(|row| !row.flags.has(Flags::CONTAINER));
    let row = row.ok_or(Error::fixed("ERR Invalid command specified"))?;
    if row.keys == Keys::NONE {
        return Err(Error::fixed("ERR The command has no key arguments"));
    }
    if !row.accepts(request.len() - 2) {
        return Err(Error::fixed("ERR Invalid number of arguments specified for command"));
    }
    let asked = OwnedRequest::new(row, request.from(2), 0);
    let asked = asked.get();
    if !asked.has_counted_keys() {
        return Err(Error::fixed("ERR Invalid arguments specified for command"));
    }
    // SORT is the one command with a key that stands nowhere in particular.
    let stored = row.rehearse.and_then(|_| sort::stored(&asked));
    let keys = asked.key_positions().map(|at| asked.arg(at)).chain(stored);
    let keys: Vec<&[u8]> = keys.collect();
    reply.array(keys.len());
    keys.iter().for_each(|key| reply.bulk(key));
    Ok(())
}

/// Names of flags, in the order in which Redis lists them.
const FLAG_NAMES: [(Flags, &str); 15] = [
    (Flags::WRITE, "write"),
    (Flags::READONLY, "readonly"),
    (Flags::DENYOOM, "denyoom"),
    (Flags::ADMIN, "admin"),
    (Flags::PUBSUB, "pubsub"),
    (Flags::NOSCRIPT, "noscript"),
    (Flags::BLOCKING, "blocking"),
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
    let keys = routed_by(row);
    reply.int(i64::from(keys.first));
    reply.int(i64::from(keys.last));
    reply.int(i64::from(keys.step));
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

/// The arguments by which a cluster would find the node: keys, or shard channels.
fn routed_by(row: &Command) -> Keys {
    match (row.flags.has(Flags::SHARDED), row.flags.has(Flags::PUBLISHES)) {
        (false, _) => row.keys,
        (true, true) => Keys::ONE,
        (true, false) => Keys::ALL,
    }
}

/// ACL categories: those that follow from the flags, and the family's.
fn categories(row: &Command) -> Vec<&'static str> {
    let flags = row.flags;
    let by_flag = [
        (flags.has(Flags::WRITE), "@write"),
        (flags.has(Flags::READONLY), "@read"),
        (flags.has(Flags::ADMIN) || ["lastsave", "role"].contains(&row.name), "@admin"),
        (flags.has(Flags::ADMIN) || flags.has(Flags::DANGEROUS), "@dangerous"),
        (flags.has(Flags::FAST), "@fast"),
        (!flags.has(Flags::FAST), "@slow"),
        (flags.has(Flags::BLOCKING), "@blocking"),
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
            let keys = !row.name.contains('|')
                && (row.flags.has(Flags::WRITE) || row.flags.has(Flags::READONLY));
            if keys { vec!["@keyspace"] } else { Vec::new() }
        }
        _ if row.flags.has(Flags::CONTAINER) || row.name == "pubsub|help" => Vec::new(),
        _ => group.category().into_iter().collect(),
    }
}

/// One key specification says what first, last and step say, another where keys are counted.
fn key_specs(row: &Command, reply: &mut Reply<'_>) {
    let keys = routed_by(row);
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
    let flags: &[&str] = match row.flags {
        flags if flags.has(Flags::SHARDED) => &["not_key"],
        flags if flags.has(Flags::READONLY) => &["RO", "access"],
        _ => &["RW", "access"],
    };
    reply.set(flags.len());
    flags.iter().for_each(|flag| reply.simple(flag));
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
