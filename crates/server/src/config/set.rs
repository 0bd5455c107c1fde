//! CONFIG GET and CONFIG SET. Pure; main thread.
//!
//! Source: behaviour of redis-server 7.0.15, error texts included; the tests compare them.

use std::borrow::Cow;
use std::fmt;

use super::Config;
use super::row::{Context, Directive, Found, Mutability, Reason, rows};
use crate::util::glob;

/// A new configuration that has been checked and is not in force yet.
///
/// The caller compares it with the one in force, does what the differences call for, and commits
/// it; or drops it and nothing has happened.
#[derive(Clone, Debug)]
#[must_use = "a staged configuration changes nothing until it is committed"]
pub struct Staged {
    config: Config,
}

impl Staged {
    /// The configuration as it will be.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Puts it in force.
    pub fn commit(self, config: &mut Config) {
        *config = self.config;
    }
}

/// CONFIG SET was refused; the configuration is as it was.
#[derive(Clone, Eq, PartialEq, Debug)]
#[non_exhaustive]
pub enum SetError {
    /// Not a list of pairs.
    Syntax,
    /// There is no such directive.
    Unknown {
        /// The name as the client wrote it.
        name: Vec<u8>,
    },
    /// The directive cannot have this value, or cannot be changed.
    Refused {
        /// The directive.
        name: Vec<u8>,
        /// Why not.
        reason: Cow<'static, str>,
    },
}

impl SetError {
    /// A change that was valid but could not be carried out by the caller.
    #[must_use]
    pub fn refused(name: &str, reason: String) -> Self {
        Self::Refused { name: name.into(), reason: reason.into() }
    }

    /// The text of the error reply, without the leading `-ERR `. It may hold any byte that the
    /// client sent; whoever writes the reply keeps line ends out of it.
    #[must_use]
    pub fn message(&self) -> Vec<u8> {
        match self {
            Self::Syntax => b"syntax error".to_vec(),
            Self::Unknown { name } => {
                let head = b"Unknown option or number of arguments for CONFIG SET - '";
                [head.as_slice(), name, b"'"].concat()
            }
            Self::Refused { name, reason } => {
                let head = b"CONFIG SET failed (possibly related to argument '";
                [head.as_slice(), name, b"') - ", reason.as_bytes()].concat()
            }
        }
    }
}

impl fmt::Display for SetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.message()))
    }
}

impl std::error::Error for SetError {}

impl Config {
    /// CONFIG GET: names and values of every directive that one of `patterns` names, each once.
    ///
    /// A name without `*`, `?` and `[` is looked up and shown as the client wrote it, unknown
    /// ones are left out; anything else is a glob pattern, case ignored. Values are bytes: a
    /// password may be anything.
    #[must_use]
    pub fn get<'a>(&self, patterns: &[&'a [u8]]) -> Vec<(Cow<'a, [u8]>, Vec<u8>)> {
        let mut answer: Vec<(Cow<'a, [u8]>, Vec<u8>)> = Vec::new();
        let mut add = |name: Cow<'a, [u8]>, row: &Directive| {
            if !answer.iter().any(|(known, _)| known.eq_ignore_ascii_case(&name)) {
                answer.push((name, row.syntax.show(&row.value(self))));
            }
        };
        for &pattern in patterns {
            if !pattern.iter().any(|byte| b"*?[".contains(byte)) {
                if let Some(found) = Directive::find(pattern) {
                    add(Cow::Borrowed(pattern), found.row);
                }
                continue;
            }
            for row in rows() {
                for name in [Some(row.name), row.alias].into_iter().flatten() {
                    if glob::matches_nocase(pattern, name.as_bytes()) {
                        add(Cow::Borrowed(name.as_bytes()), row);
                    }
                }
            }
        }
        answer
    }

    /// CONFIG SET: the configuration that `arguments`, pairs of name and value, would make of
    /// this one. All pairs are good, or none is taken.
    ///
    /// # Errors
    /// See [`SetError`]; the first pair that is wrong decides, but names are looked at before any
    /// value is.
    pub fn stage(&self, arguments: &[&[u8]]) -> Result<Staged, SetError> {
        let (pairs, []) = arguments.as_chunks::<2>() else { return Err(SetError::Syntax) };
        if pairs.is_empty() {
            return Err(SetError::Syntax);
        }
        let mut found: Vec<Found> = Vec::with_capacity(pairs.len().min(64));
        for [name, _] in pairs {
            found.push(changeable(name, &found)?);
        }
        let mut config = self.clone();
        for (found, [_, value]) in found.iter().zip(pairs) {
            config.change(*found, value).map_err(|reason| refused(found, reason))?;
        }
        if let Some((row, reason)) = config.objection() {
            return Err(SetError::Refused { name: row.name.into(), reason });
        }
        Ok(Staged { config })
    }

    fn change(&mut self, found: Found, value: &[u8]) -> Result<(), Reason> {
        // Unlike in a file, quotes mean nothing here, and each single blank separates.
        let words: Vec<Vec<u8>> = match value {
            [] if found.row.syntax.takes_words() => Vec::new(),
            _ if found.row.syntax.takes_words() => {
                value.split(|&byte| byte == b' ').map(<[u8]>::to_vec).collect()
            }
            _ => vec![value.to_vec()],
        };
        let context = Context { current: &found.row.value(self), adds: false, base: &self.dir };
        let value = found.row.syntax.parse(&words, &context)?;
        found.row.assign(self, value);
        Ok(())
    }
}

/// Looks a name up for CONFIG SET: it must exist, be changeable, and not be there already.
fn changeable(name: &[u8], earlier: &[Found]) -> Result<Found, SetError> {
    let Some(found) = Directive::find(name) else {
        return Err(SetError::Unknown { name: name.to_vec() });
    };
    let reason = match found.row.mutability {
        Mutability::StartOnly | Mutability::OneStart => "can't set immutable config",
        Mutability::Protected => "can't set protected config",
        Mutability::RunTime if earlier.iter().any(|other| other.is(&found)) => {
            "duplicate parameter"
        }
        Mutability::RunTime => return Ok(found),
    };
    Err(SetError::Refused { name: name.to_vec(), reason: reason.into() })
}

fn refused(found: &Found, reason: Reason) -> SetError {
    SetError::Refused { name: found.name().into(), reason }
}

#[cfg(test)]
mod tests;
