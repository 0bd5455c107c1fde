//! Reading the configuration at start: file, standard input, command line, in this order; the
//! last word on a directive counts. Main thread, before anything is served; blocks on files.
//!
//! As in Redis, the three sources are one text, so that line numbers in errors count through it;
//! an included file counts its own lines. Included files are limited in size, number and depth:
//! a file that includes itself is a mistake with an error message, not a crash.
//!
//! What a value promises is checked when everything is read, not line by line: the files of
//! distributions say `daemonize yes`, and their services add `--daemonize no`.
//!
//! Source: behaviour of redis-server 7.0.15.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::Config;
use super::row::{Context, Directive, Effect, Found, Mutability, Reason, rows};
use crate::log::Log;
use crate::util::os_text;
use crate::util::quote::split_args;

/// Largest configuration file, and largest text on standard input.
const TEXT_LEN_MAX: u64 = 16 << 20;
/// Deepest nesting of included files.
const INCLUDE_DEPTH_MAX: usize = 16;
/// Most files included in all.
const INCLUDE_COUNT_MAX: usize = 1024;

/// Directives of old versions that mean nothing any more; ignored with one argument.
const GONE: [&[u8]; 3] =
    [b"list-max-ziplist-entries", b"list-max-ziplist-value", b"lua-replicate-commands"];

/// Where the configuration comes from.
#[derive(Clone, Eq, PartialEq, Default, Debug)]
pub struct Sources {
    /// A configuration file.
    pub file: Option<PathBuf>,
    /// Whether more lines come from standard input.
    pub stdin: bool,
    /// Lines from the command line.
    pub options: Vec<u8>,
}

/// The configuration could not be loaded; the server must not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum LoadError {
    /// A line is wrong.
    Line {
        /// Its number, from 1.
        number: usize,
        /// The line, without blanks at its ends.
        text: Vec<u8>,
        /// What is wrong with it.
        reason: String,
    },
    /// The whole of it cannot be served.
    Whole {
        /// Why not.
        reason: String,
    },
    /// A file could not be read.
    Open {
        /// The file as it was named.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

impl LoadError {
    /// Tells the operator where Redis would: mistakes on standard error, a file that cannot be
    /// read in the log.
    pub fn report(&self, log: &Log) {
        match self {
            Self::Open { .. } => log.warning(format_args!("{self}")),
            _ => eprintln!("{self}"),
        }
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Open { path, source } = self {
            let (path, source) = (path.display(), os_text(source));
            return write!(f, "Fatal error, can't open config file '{path}': {source}");
        }
        writeln!(f, "\n*** FATAL CONFIG FILE ERROR (Flintlock {}) ***", env!("CARGO_PKG_VERSION"))?;
        match self {
            Self::Line { number, text, reason } => {
                writeln!(f, "Reading the configuration file, at line {number}")?;
                writeln!(f, ">>> '{}'", String::from_utf8_lossy(text))?;
                f.write_str(reason)
            }
            Self::Whole { reason } => f.write_str(reason),
            Self::Open { .. } => unreachable!("written above"),
        }
    }
}

impl std::error::Error for LoadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Open { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl Config {
    /// Loads the configuration; relative paths start from `base`, the working directory.
    ///
    /// Main thread, at start; blocks on files and on `stdin`, which is read to its end if the
    /// sources say so. A log file that is named is created if it does not exist.
    ///
    /// # Errors
    /// See [`LoadError`]; nothing is left of what was read.
    pub fn load(sources: &Sources, base: &Path, stdin: &mut dyn Read) -> Result<Self, LoadError> {
        let mut text = Vec::new();
        if let Some(path) = &sources.file {
            text = read_file(path)?;
            // A last line without an end must not run into what follows.
            if !text.is_empty() && !text.ends_with(b"\n") {
                text.push(b'\n');
            }
        }
        if sources.stdin {
            let more = read_limited(stdin);
            text.extend(more.map_err(|source| LoadError::Open { path: "-".into(), source })?);
        }
        text.push(b'\n');
        let arguments_from = text.iter().filter(|&&byte| byte == b'\n').count() + 1;
        text.extend_from_slice(&sources.options);

        let mut config = Self { file: sources.file.clone(), ..Self::default() };
        config.dir = base.to_owned();
        let mut loader =
            Loader { config, origins: BTreeMap::new(), included_count: 0, arguments_from };
        loader.read_text(&text, 0)?;
        loader.check()?;
        Ok(loader.config)
    }

    /// Why this configuration as a whole cannot be served, and the directive that says so.
    pub(super) fn objection(&self) -> Option<(&'static Directive, Reason)> {
        let appendonly = self.appendonly_asked == Some(true) && !self.is_durable();
        rows().find_map(|row| match row.effect {
            Effect::OnlyDefault(reason) if !row.is_default(&row.value(self)) => {
                Some((row, reason.into()))
            }
            _ if appendonly && row.name == "appendonly" => {
                Some((row, "appendonly needs a store on disk: see 'store'".into()))
            }
            _ => None,
        })
    }

    /// Directives that were set and that change nothing, for the log; each is named once in the
    /// life of the process, so the next call returns only what has come since.
    ///
    /// Not for the request path: call it after loading and after CONFIG SET.
    pub fn take_unused(&mut self) -> Vec<&'static str> {
        let mut unused: Vec<_> = rows()
            .filter(|row| row.effect == Effect::Noted && !row.is_default(&row.value(self)))
            .map(|row| row.name)
            .collect();
        if self.appendonly_asked == Some(false) && self.is_durable() {
            unused.push("appendonly");
        }
        unused.retain(|name| self.warned.insert(name));
        unused
    }
}

/// A configuration while it is read.
struct Loader {
    config: Config,
    /// For each directive that was set: the last line that did.
    origins: BTreeMap<&'static str, Origin>,
    included_count: usize,
    /// The number of the first line that comes from the command line.
    arguments_from: usize,
}

struct Origin {
    number: usize,
    text: Vec<u8>,
}

/// Why a line was refused: by itself, or by a file that it includes.
enum Refusal {
    Reason(Reason),
    Included(LoadError),
}

impl<T: Into<Reason>> From<T> for Refusal {
    fn from(reason: T) -> Self {
        Self::Reason(reason.into())
    }
}

impl Loader {
    fn read_text(&mut self, text: &[u8], depth: usize) -> Result<(), LoadError> {
        for (index, line) in text.split(|&byte| byte == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let origin = Origin { number: index + 1, text: line.to_vec() };
            self.read_line(origin, depth).map_err(|refusal| match refusal {
                Refusal::Included(error) => error,
                Refusal::Reason(reason) => LoadError::Line {
                    number: index + 1,
                    text: line.to_vec(),
                    reason: reason.into_owned(),
                },
            })?;
        }
        Ok(())
    }

    fn read_line(&mut self, origin: Origin, depth: usize) -> Result<(), Refusal> {
        let unbalanced = |_| "Unbalanced quotes in configuration line";
        let mut words = split_args(&origin.text).map_err(unbalanced)?;
        if words.is_empty() {
            return Ok(());
        }
        let name = words.remove(0);
        let Some(found) = Directive::find(&name) else {
            return self.read_other(&name.to_ascii_lowercase(), &words, depth);
        };
        // `--save "900 1 300 10"`: one word that holds all of them.
        match words.as_slice() {
            [only] if found.row.syntax.takes_words() && !only.is_empty() => {
                words = split_args(only).map_err(unbalanced)?;
            }
            _ => {}
        }
        let is_argument = depth == 0 && origin.number >= self.arguments_from;
        if found.row.mutability == Mutability::OneStart && !is_argument {
            return Err("This holds for one start: give it as an argument, not in a file".into());
        }
        self.assign(found, &words)?;
        self.origins.insert(found.row.name, origin);
        Ok(())
    }

    fn assign(&mut self, found: Found, words: &[Vec<u8>]) -> Result<(), Reason> {
        let context = Context {
            current: &found.row.value(&self.config),
            adds: self.origins.contains_key(found.row.name),
            base: &self.config.dir,
        };
        let value = found.row.syntax.parse(words, &context)?;
        found.row.assign(&mut self.config, value);
        Ok(())
    }

    /// Directives that are no settings.
    fn read_other(&mut self, name: &[u8], words: &[Vec<u8>], depth: usize) -> Result<(), Refusal> {
        match (name, words) {
            (_, [_]) if GONE.contains(&name) => Ok(()),
            (b"include", [pattern]) => self.include(pattern, depth),
            (b"rename-command", [_, _]) => Err("renaming commands is not served".into()),
            (b"user", [_, ..]) => Err("users and ACL rules are not served".into()),
            (b"loadmodule", [_, ..]) => Err("modules are not served".into()),
            (b"sentinel", []) => Err("Sentinel mode is not served".into()),
            (b"sentinel", _) => Err("sentinel directive while not in sentinel mode".into()),
            _ => Err("Bad directive or wrong number of arguments".into()),
        }
    }

    /// `include PATH`. A pattern that matches nothing is fine, so that directories for snippets
    /// may be empty; a plain path that does not exist is an error.
    fn include(&mut self, pattern: &[u8], depth: usize) -> Result<(), Refusal> {
        if depth == INCLUDE_DEPTH_MAX {
            let reason = format!("Files are included more than {INCLUDE_DEPTH_MAX} deep");
            return Err(reason.into());
        }
        let Ok(pattern) = std::str::from_utf8(pattern) else {
            return Err("The path of an included file must be plain text".into());
        };
        for path in self.included_paths(pattern)? {
            self.included_count += 1;
            if self.included_count > INCLUDE_COUNT_MAX {
                let reason = format!("More than {INCLUDE_COUNT_MAX} files are included");
                return Err(reason.into());
            }
            let text = read_file(&path).map_err(Refusal::Included)?;
            self.read_text(&text, depth + 1).map_err(Refusal::Included)?;
        }
        Ok(())
    }

    fn included_paths(&self, pattern: &str) -> Result<Vec<PathBuf>, Refusal> {
        if !pattern.contains(['*', '?', '[']) {
            return Ok(vec![self.config.dir.join(pattern)]);
        }
        let base = glob::Pattern::escape(&self.config.dir.to_string_lossy());
        let whole = Path::new(&base).join(pattern);
        let options =
            glob::MatchOptions { require_literal_leading_dot: true, ..Default::default() };
        let paths = glob::glob_with(&whole.to_string_lossy(), options)
            .map_err(|error| format!("Bad pattern of included files: {error}"))?;
        // A directory on the way that cannot be read holds nothing that could be included.
        Ok(paths.filter_map(Result::ok).collect())
    }

    /// What can only be judged when everything is read.
    fn check(&self) -> Result<(), LoadError> {
        if let Some((row, reason)) = self.config.objection() {
            let reason = reason.into_owned();
            return Err(match self.origins.get(row.name) {
                Some(Origin { number, text }) => {
                    LoadError::Line { number: *number, text: text.clone(), reason }
                }
                None => LoadError::Whole { reason },
            });
        }
        if let Some(path) = self.config.log_path() {
            let opened = OpenOptions::new().append(true).create(true).open(path);
            opened.map_err(|error| LoadError::Whole {
                reason: format!("Can't open the log file: {}", os_text(&error)),
            })?;
        }
        Ok(())
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, LoadError> {
    let text = File::open(path).and_then(|mut file| read_limited(&mut file));
    text.map_err(|source| LoadError::Open { path: path.to_owned(), source })
}

fn read_limited(from: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    from.take(TEXT_LEN_MAX + 1).read_to_end(&mut text)?;
    if text.len() as u64 > TEXT_LEN_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 16 MiB"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
