//! One row of the table of directives, and how a configuration is read and written through it.
//! Pure but for [`Context::directory`]; any thread.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

use super::Config;
use super::syntax::Syntax;
use super::table::TABLE;
use super::value::Value;
use crate::util::os_text;

/// Why a value was refused, in the words that the operator or client sees.
pub(super) type Reason = Cow<'static, str>;

/// A directive: everything the server knows about one name of redis.conf.
#[derive(Copy, Clone, Debug)]
pub(super) struct Directive {
    /// The name, in lower case.
    pub(super) name: &'static str,
    /// An older name that means the same.
    pub(super) alias: Option<&'static str>,
    /// How its value is written.
    pub(super) syntax: Syntax,
    /// Where its value is kept.
    pub(super) store: Store,
    /// When it may be changed.
    pub(super) mutability: Mutability,
    /// What it does.
    pub(super) effect: Effect,
}

/// Where a value is kept.
#[derive(Copy, Clone, Debug)]
pub(super) enum Store {
    /// In a typed field of [`Config`].
    Field {
        /// Reads the field.
        read: fn(&Config) -> Value,
        /// Writes a value that the row's syntax has let through.
        write: fn(&mut Config, Value),
    },
    /// Only kept to be reported; this is the default, as in a file.
    Passive(&'static str),
}

/// When a value may be changed.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) enum Mutability {
    /// At start and by CONFIG SET.
    RunTime,
    /// At start only.
    StartOnly,
    /// At start only, because a client could reach other files through it.
    Protected,
    /// As an argument of a start, for which alone it holds; never in a file.
    OneStart,
}

/// What a directive does.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) enum Effect {
    /// It acts.
    Acts,
    /// It is accepted, kept and reported, and changes nothing; said once when it is set.
    Noted,
    /// Anything but the default would promise what the server does not do: refused, with this
    /// reason.
    OnlyDefault(&'static str),
}

/// A name that was looked up: the row, and whether by its alias. Redis treats the two names as
/// two directives in CONFIG GET and in its check for duplicates, and clients see that.
#[derive(Copy, Clone, Debug)]
pub(super) struct Found {
    pub(super) row: &'static Directive,
    pub(super) by_alias: bool,
}

/// What a value is read in the light of.
#[derive(Debug)]
pub(super) struct Context<'a> {
    /// The value so far.
    pub(super) current: &'a Value,
    /// Whether an earlier line of the same source has set this directive, so that lists add up.
    pub(super) adds: bool,
    /// The directory that relative paths start from.
    pub(super) base: &'a Path,
}

impl Directive {
    /// The row of `name`, whatever its case.
    pub(super) fn find(name: &[u8]) -> Option<Found> {
        rows().find_map(|row| {
            let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
            match row.alias {
                _ if is(row.name) => Some(Found { row, by_alias: false }),
                Some(alias) if is(alias) => Some(Found { row, by_alias: true }),
                _ => None,
            }
        })
    }

    /// The value that `config` has for this row.
    pub(super) fn value(&self, config: &Config) -> Value {
        match self.store {
            Store::Field { read, .. } => read(config),
            Store::Passive(default) => config
                .passive
                .get(self.name)
                .cloned()
                .unwrap_or_else(|| self.parse_default(default)),
        }
    }

    /// Puts a value into `config` that this row's syntax has let through.
    pub(super) fn assign(&self, config: &mut Config, value: Value) {
        match self.store {
            Store::Field { write, .. } => write(config, value),
            Store::Passive(_) => {
                config.passive.insert(self.name, value);
            }
        }
    }

    /// Whether `value` is what the server has without being told.
    pub(super) fn is_default(&self, value: &Value) -> bool {
        self.value(&Config::default()) == *value
    }

    /// Reads a default of the table; the words of a list stand there in their canonical form.
    fn parse_default(&self, text: &str) -> Value {
        if self.syntax.takes_words() {
            let words = text.split(' ').filter(|word| !word.is_empty());
            return Value::Words(words.map(Into::into).collect());
        }
        let context = Context { current: &Value::Auto, adds: false, base: Path::new(".") };
        let value = self.syntax.parse(&[text.into()], &context);
        value.expect("a test reads every default of the table")
    }
}

impl Found {
    /// The name it was found by, in its canonical case.
    pub(super) fn name(&self) -> &'static str {
        match self.row.alias {
            Some(alias) if self.by_alias => alias,
            _ => self.row.name,
        }
    }

    /// Whether this is the same name of the same row.
    pub(super) fn is(&self, other: &Self) -> bool {
        std::ptr::eq(self.row, other.row) && self.by_alias == other.by_alias
    }
}

impl Context<'_> {
    /// Reads an existing directory; the value is its absolute path, links resolved.
    pub(super) fn directory(&self, word: &[u8]) -> Result<Value, Reason> {
        let path = self.base.join(OsStr::from_bytes(word));
        // Asking for "." inside also asks for the right to enter.
        let resolved = path.canonicalize().and_then(|path| {
            path.join(".").metadata()?;
            Ok(path)
        });
        let resolved = resolved.map_err(|error| Cow::Owned(os_text(&error)))?;
        Ok(Value::Text(resolved.into_os_string().into_vec()))
    }
}

/// All rows, in the order in which CONFIG GET shows them.
pub(super) fn rows() -> impl Iterator<Item = &'static Directive> {
    TABLE.iter().flat_map(|part| part.iter())
}
