//! Commands: what a row of the table is, and how one request is run.
//!
//! Main thread. One file a family; each begins with its rows (`COMMANDS`) and `table` joins them.
//! A command reads and changes the keyspace only through [`Ctx`], which expires, journals, touches
//! watchers and asks the disk tier; it never calls storage. A command that returns an error has
//! changed nothing.

mod bitfield;
mod bitmap;
mod blocking;
mod collection;
mod connection;
mod ctx;
mod cursor;
pub(crate) mod dispatch;
mod docs;
mod error;
mod expiry;
mod explain;
mod generic;
mod hash;
mod introspect;
mod iothreads;
mod lcs;
mod list;
mod memory;
mod object;
mod pops;
mod pubsub;
mod reach;
mod request;
mod scan;
mod server;
mod set;
mod slowlog;
mod sort;
mod string;
mod table;
mod transaction;
mod zset;

pub(crate) use ctx::{Ctx, Found};
pub(crate) use error::Error;
pub(crate) use generic::type_name;
pub(crate) use reach::Reach;
pub(crate) use request::{OwnedRequest, Request};
pub(crate) use scan::WalkPlan;
pub(crate) use table::{all, lookup, lookup_request};

use crate::resp::encode::Reply;

/// What a command function is: it answers through the reply or with an error.
pub(crate) type Run = fn(&mut Ctx<'_>, &Request<'_>, &mut Reply<'_>) -> Result<(), Error>;

/// The other database that a request names, if it is one of so many.
pub(crate) type Reaches = fn(&Request<'_>, usize) -> Option<usize>;

/// The part of a command that reads: it changes and answers nothing.
pub(crate) type Rehearse = fn(&mut Ctx<'_>, &Request<'_>) -> Result<(), Error>;

/// How many bytes a request may come to take besides its own: it may make a long string out of
/// few. It is told the length of the string that an argument names, 0 where memory has none.
pub(crate) type Growth = fn(&Request<'_>, &dyn Fn(usize) -> usize) -> usize;

/// Properties of a command, as COMMAND INFO lists them, and ours behind them.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) struct Flags(u32);

impl Flags {
    /// May change keys.
    pub(crate) const WRITE: Self = Self(1);
    /// Only reads keys.
    pub(crate) const READONLY: Self = Self(1 << 1);
    /// Refused when memory is full.
    pub(crate) const DENYOOM: Self = Self(1 << 2);
    /// For administrators.
    pub(crate) const ADMIN: Self = Self(1 << 3);
    /// Constant or logarithmic time.
    pub(crate) const FAST: Self = Self(1 << 4);
    /// Allowed before AUTH.
    pub(crate) const NO_AUTH: Self = Self(1 << 5);
    /// Not from scripts.
    pub(crate) const NOSCRIPT: Self = Self(1 << 6);
    /// Allowed while loading.
    pub(crate) const LOADING: Self = Self(1 << 7);
    /// Allowed on a stale replica.
    pub(crate) const STALE: Self = Self(1 << 8);
    /// Not inside MULTI.
    pub(crate) const NO_MULTI: Self = Self(1 << 9);
    /// Runs at once inside MULTI instead of being queued.
    pub(crate) const UNQUEUED: Self = Self(1 << 10);
    /// Looks at stretches of the database, on disk too; see [`WalkPlan`].
    pub(crate) const WALKS: Self = Self(1 << 11);
    /// May be allowed while a script runs too long.
    pub(crate) const ALLOW_BUSY: Self = Self(1 << 12);
    /// Not in the slow log: its parts are.
    pub(crate) const SKIP_SLOWLOG: Self = Self(1 << 13);
    /// Only a name in front of subcommands, which have rows of their own (`client|id`).
    pub(crate) const CONTAINER: Self = Self(1 << 14);
    /// In the ACL category of commands that can hurt, without being for administrators only.
    pub(crate) const DANGEROUS: Self = Self(1 << 15);
    /// Not while a replica loads in the background.
    pub(crate) const NO_ASYNC_LOADING: Self = Self(1 << 16);
    /// Answered when there is a backup of everything so far.
    pub(crate) const SAVES: Self = Self(1 << 17);
    /// Answered by the end of the process.
    pub(crate) const ENDS: Self = Self(1 << 18);
    /// Gives memory back, and so never waits until the journal has taken what was logged before.
    pub(crate) const FREES: Self = Self(1 << 19);
    /// Stands for the requests that its client has queued.
    pub(crate) const RUNS_QUEUE: Self = Self(1 << 20);
    /// Counts the keys of the database.
    pub(crate) const COUNTS: Self = Self(1 << 21);
    /// What follows it is about another database.
    pub(crate) const SELECTS: Self = Self(1 << 22);
    /// Wants the old values of its keys for its answer only, and does without those that cannot be
    /// read: else nobody could get rid of a damaged key.
    pub(crate) const UNSEEN: Self = Self(1 << 23);
    /// Gives up the transaction that it stands in, if any, and the memory of its queue.
    pub(crate) const ENDS_MULTI: Self = Self(1 << 24);
    /// Takes as long as its arguments are large, whatever its keys hold; also what is `FAST`.
    pub(crate) const SHORT: Self = Self(1 << 25);
    /// Waits where others find nothing.
    pub(crate) const BLOCKING: Self = Self(1 << 26);
    /// About publish and subscribe.
    pub(crate) const PUBSUB: Self = Self(1 << 27);
    /// Allowed to a subscriber that speaks RESP2.
    pub(crate) const SUBSCRIBER: Self = Self(1 << 28);
    /// Waits for the end of a pause of writers although it changes no key.
    pub(crate) const PUBLISHES: Self = Self(1 << 29);
    /// About shard channels, by which a cluster would find the node, as it does by keys.
    pub(crate) const SHARDED: Self = Self(1 << 30);

    /// All of both.
    pub(crate) const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` are there.
    pub(crate) const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Which arguments are keys: from `first` to `last` (negative counts from the end) by `step`.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) struct Keys {
    /// First key, 0 if there are none.
    pub first: u8,
    /// Last key.
    pub last: i8,
    /// Distance between keys.
    pub step: u8,
    /// Where the request says how many more keys follow there, 0 if it does not.
    pub count: u8,
}

impl Keys {
    /// No keys.
    pub(crate) const NONE: Self = Self { first: 0, last: 0, step: 0, count: 0 };
    /// The first argument.
    pub(crate) const ONE: Self = Self { first: 1, last: 1, step: 1, count: 0 };
    /// The first two arguments.
    pub(crate) const TWO: Self = Self { first: 1, last: 2, step: 1, count: 0 };
    /// Every argument.
    pub(crate) const ALL: Self = Self { first: 1, last: -1, step: 1, count: 0 };
    /// Every argument but the last.
    pub(crate) const BUT_LAST: Self = Self { first: 1, last: -2, step: 1, count: 0 };
    /// Every argument but the first.
    pub(crate) const BEHIND_FIRST: Self = Self { first: 2, last: -1, step: 1, count: 0 };
    /// The second argument.
    pub(crate) const SECOND: Self = Self { first: 2, last: 2, step: 1, count: 0 };
    /// Every other argument.
    pub(crate) const PAIRS: Self = Self { first: 1, last: -1, step: 2, count: 0 };

    /// As many as the first argument says, behind it.
    pub(crate) const COUNTED: Self = Self { count: 1, ..Self::NONE };

    /// As many as the second argument says, behind it.
    pub(crate) const COUNTED_SECOND: Self = Self { count: 2, ..Self::NONE };

    /// The first argument, and as many as the second says, behind it.
    pub(crate) const STORE_COUNTED: Self = Self { count: 2, ..Self::ONE };

    /// Positions of the keys of a request with `len` arguments, those not that are counted.
    pub(crate) fn positions(self, len: usize) -> impl Iterator<Item = usize> + Clone + use<> {
        let last = match usize::try_from(self.last) {
            Ok(last) => last.min(len.saturating_sub(1)),
            Err(_) => len.saturating_sub(usize::from(self.last.unsigned_abs())),
        };
        let end = if self.first == 0 { 0 } else { last + 1 };
        let (mut next, step) = (usize::from(self.first), usize::from(self.step.max(1)));
        // Not `step_by`, which divides: this is run for each request.
        std::iter::from_fn(move || {
            let at = next;
            next += step;
            (at < end).then_some(at)
        })
    }
}

/// One row of the command table.
#[derive(Debug)]
pub(crate) struct Command {
    /// In lower case.
    pub name: &'static str,
    /// Exact number of arguments, the name included; negative: at least that many.
    pub arity: i8,
    /// Properties.
    pub flags: Flags,
    /// Keys among the arguments.
    pub keys: Keys,
    /// For a command that may overwrite its keys unseen: whether this request needs the old
    /// values after all. Other commands always do.
    pub needs_old: Option<fn(&Request<'_>) -> bool>,
    /// For a command whose other keys show only while it runs: has them in memory as far as they
    /// show now, and changes nothing. See [`Ctx::need`].
    pub rehearse: Option<Rehearse>,
    /// For a command that reaches into another database: which one. See [`Reach::keys`].
    pub reaches: Option<Reaches>,
    /// For a command whose result may be longer than its request: by how much.
    pub growth: Option<Growth>,
    /// What it does.
    pub run: Run,
    /// Its number in the table, set when the table is built.
    pub id: u16,
}

impl Command {
    /// A row.
    pub(crate) const fn new(
        name: &'static str,
        run: Run,
        arity: i8,
        flags: &[Flags],
        keys: Keys,
    ) -> Self {
        let (mut all, mut i) = (0, 0);
        while i < flags.len() {
            all |= flags[i].0;
            i += 1;
        }
        let flags = Flags(all);
        let (needs_old, rehearse, reaches, growth) = (None, None, None, None);
        Self { name, arity, flags, keys, needs_old, rehearse, reaches, growth, run, id: 0 }
    }

    /// The row of a command that need not load the keys it overwrites.
    pub(crate) const fn blind(self, needs_old: fn(&Request<'_>) -> bool) -> Self {
        Self { needs_old: Some(needs_old), ..self }
    }

    /// The row of a command that needs more keys than it can declare.
    pub(crate) const fn needing(self, rehearse: Rehearse) -> Self {
        Self { rehearse: Some(rehearse), ..self }
    }

    /// The row of a command with a key in another database.
    pub(crate) const fn reaching(self, reaches: Reaches) -> Self {
        Self { reaches: Some(reaches), ..self }
    }

    /// The row of a command that may make a long string out of a short request.
    pub(crate) const fn growing(self, growth: Growth) -> Self {
        Self { growth: Some(growth), ..self }
    }

    /// Whether a request of `len` arguments fits.
    pub(crate) fn accepts(&self, len: usize) -> bool {
        let wanted = usize::from(self.arity.unsigned_abs());
        if self.arity >= 0 { len == wanted } else { len >= wanted }
    }
}

/// A container without a known subcommand never runs: dispatch refuses it.
fn container(_: &mut Ctx<'_>, request: &Request<'_>, _: &mut Reply<'_>) -> Result<(), Error> {
    Err(Error::arity(request.command.name))
}

/// HELP of a container: its subcommands by name.
fn help(_: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let name = request.command.name.split('|').next().unwrap_or_default();
    let rows: Vec<_> = lookup(name.as_bytes()).into_iter().flat_map(table::subcommands).collect();
    let upper = name.to_ascii_uppercase();
    reply.array(rows.len() + 1);
    reply.simple(&format!("{upper} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"));
    for row in rows {
        let sub = row.name.rsplit('|').next().unwrap_or_default();
        reply.simple(&sub.to_ascii_uppercase());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_positions() {
        let all = |keys: Keys, len| keys.positions(len).collect::<Vec<_>>();
        assert_eq!(all(Keys::NONE, 3), [0; 0]);
        assert_eq!(all(Keys::ONE, 3), [1]);
        assert_eq!(all(Keys::ALL, 4), [1, 2, 3]);
        assert_eq!(all(Keys::PAIRS, 5), [1, 3]);
        assert_eq!(all(Keys::TWO, 3), [1, 2]);
        assert_eq!(all(Keys::BUT_LAST, 4), [1, 2]);
        assert_eq!(all(Keys::BUT_LAST, 1), [0; 0]);
        assert_eq!(all(Keys::BEHIND_FIRST, 4), [2, 3]);
        assert_eq!(all(Keys::BEHIND_FIRST, 2), [0; 0]);
        assert_eq!(all(Keys::SECOND, 3), [2]);
    }
}
