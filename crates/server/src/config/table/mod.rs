//! The table of directives: every name of redis.conf that the server knows, one row each.
//! Data only.
//!
//! - [`served`]: rows with a typed field of [`super::Config`]; most of them act.
//! - [`accepted`]: rows that are kept and reported so that existing files and tools work.
//!
//! To add a directive: a field and its default in `super::Config`, and a row here. Names that are
//! in neither file are refused at start, as Redis refuses them.
//!
//! Source: names, ranges and defaults of redis-server 7.0.15; names of later Redis and Valkey
//! releases where they say so.

mod accepted;
mod served;

use flintlock_iothreads::CpuList;

use super::row::{Directive, Effect, Mutability, Reason, Store};
use super::syntax::{Empty, Layout, Syntax};
use super::words::ReadWords;

/// The parts of the table.
pub(super) static TABLE: &[&[Directive]] = &[served::ROWS, accepted::ROWS];

/// Largest value of what Redis keeps in an `int`.
const INT_MAX: i64 = i32::MAX as i64;

/// A row that acts and can be changed at run time.
const fn row(name: &'static str, syntax: Syntax, store: Store) -> Directive {
    Directive {
        name,
        alias: None,
        syntax,
        store,
        mutability: Mutability::RunTime,
        effect: Effect::Acts,
    }
}

/// A row that is only kept and reported.
const fn noted(name: &'static str, syntax: Syntax, default: &'static str) -> Directive {
    row(name, syntax, Store::Passive(default)).noted()
}

impl Directive {
    const fn alias(mut self, alias: &'static str) -> Self {
        self.alias = Some(alias);
        self
    }

    const fn start_only(mut self) -> Self {
        self.mutability = Mutability::StartOnly;
        self
    }

    const fn one_start(mut self) -> Self {
        self.mutability = Mutability::OneStart;
        self
    }

    const fn protected(mut self) -> Self {
        self.mutability = Mutability::Protected;
        self
    }

    const fn noted(mut self) -> Self {
        self.effect = Effect::Noted;
        self
    }

    const fn only_default(mut self, reason: &'static str) -> Self {
        self.effect = Effect::OnlyDefault(reason);
        self
    }
}

const fn int(min: i64, max: i64) -> Syntax {
    Syntax::Int { min, max }
}

const fn memory(min: u64, max: u64) -> Syntax {
    Syntax::Memory { min, max }
}

/// Text that is not set when it is empty.
const TEXT: Syntax = Syntax::Text { check: any, empty: Empty::Unset };

/// Text of which the empty one is a value.
const TEXT_OR_EMPTY: Syntax = Syntax::Text { check: any, empty: Empty::Value };

/// CPUs that threads are put on; empty: wherever they may run.
const CPUS: Syntax = Syntax::Text { check: cpus, empty: Empty::Unset };

const fn words(read: ReadWords, layout: Layout) -> Syntax {
    Syntax::Words { read, layout }
}

/// Lets through what [`CpuList`] takes.
fn cpus(word: &[u8]) -> Result<(), Reason> {
    match std::str::from_utf8(word).map(str::parse::<CpuList>) {
        _ if word.is_empty() => Ok(()),
        Ok(Ok(_)) => Ok(()),
        _ => Err("argument must be a list of CPUs such as 0-3,8 or 0-6:2".into()),
    }
}

/// Lets every text through.
#[expect(clippy::unnecessary_wraps, reason = "the signature of all checks")]
fn any(_: &[u8]) -> Result<(), Reason> {
    Ok(())
}
