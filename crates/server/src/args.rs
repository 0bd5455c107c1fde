//! The command line of `flintlock`, in the form of redis-server. Pure; at start.
//!
//! ```text
//! flintlock [FILE | -] [--DIRECTIVE VALUE...]... [--restore DIR] [-]
//! ```
//!
//! The arguments become lines of a configuration file: `--port 7000` is the line `port "7000"`,
//! read after the file and after standard input (`-`, first or last). So everything a file can
//! say can be said here, and mistakes are reported in one form. `--restore` alone is no directive:
//! it is done once, so a file or CONFIG REWRITE must not repeat it.
//!
//! Source: behaviour of redis-server 7.0.15.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::config::Sources;
use crate::util::quote::{push_quoted, split_args};

/// What the command line asks for.
#[derive(Clone, Eq, PartialEq, Debug)]
pub enum Invocation {
    /// Serve, configured by these sources.
    Serve(Sources),
    /// Make the store out of a backup, then serve.
    Restore {
        /// As for [`Invocation::Serve`].
        sources: Sources,
        /// The backup's directory.
        backup: PathBuf,
    },
    /// Print [`version`] and exit with status 0.
    Version,
    /// Print [`USAGE`] and exit with status 0.
    Help,
}

/// What `--help` prints.
pub const USAGE: &str = "\
Usage: flintlock [FILE] [--DIRECTIVE VALUE ...] [--restore DIR] [-]
       flintlock - (read the configuration from standard input)
       flintlock -v or --version
       flintlock -h or --help

FILE has the syntax of redis.conf; directives given as arguments come after it. --restore makes
the store, which must be empty, out of a backup that BGSAVE wrote.

Examples:
       flintlock (run the server with the default configuration)
       flintlock /etc/flintlock.conf --loglevel verbose
       flintlock --port 7777 --maxmemory 2gb --maxmemory-policy allkeys-lru
       flintlock --port 0 (listen on a free port, which the log names)
       flintlock --restore /backups/monday (begin with what was saved there)
       flintlock --store memory (keep nothing on disk)
       echo 'maxmemory 128mb' | flintlock -";

/// The line that `--version` prints, in the form that tools read from redis-server.
#[must_use]
pub fn version() -> String {
    let version = env!("CARGO_PKG_VERSION");
    // Set by whoever packages a release; a build from a work tree does not know its commit.
    let sha = option_env!("FLINTLOCK_SHA").unwrap_or("00000000");
    let dirty = option_env!("FLINTLOCK_DIRTY").unwrap_or("0");
    let build = build_id(&[version, sha, dirty, std::env::consts::ARCH, std::env::consts::OS]);
    let bits = usize::BITS;
    format!(
        "Flintlock server v={version} sha={sha}:{dirty} malloc=libc bits={bits} build={build:x}"
    )
}

/// Reads the arguments behind the program's name; `base` is the working directory.
///
/// # Examples
/// ```
/// use flintlock_server::args::{Invocation, parse};
///
/// let arguments = ["--port", "7000", "--bind", "127.0.0.1", "-::1"].map(Into::into);
/// let Invocation::Serve(sources) = parse(&arguments, "/srv".as_ref()) else { unreachable!() };
/// assert_eq!(sources.options, b"port \"7000\" \nbind \"127.0.0.1\" \"-::1\" ");
/// ```
#[must_use]
pub fn parse(arguments: &[OsString], base: &Path) -> Invocation {
    let mut sources = Sources::default();
    let mut rest = arguments;
    match arguments.first().map(|first| first.as_bytes()) {
        Some(b"-v" | b"--version") => return Invocation::Version,
        Some(b"-h" | b"--help") => return Invocation::Help,
        Some([b'-', ..]) | None => {}
        Some(_) => {
            sources.file = Some(base.join(&arguments[0]));
            rest = &arguments[1..];
        }
    }
    let skipped = arguments.len() - rest.len();
    // A word that starts with `--` is a value where a directive still waits for its first one:
    // `--requirepass --secret`.
    let mut wants_value = false;
    let (mut backup, mut is_backup) = (None, false);
    for (index, argument) in rest.iter().enumerate() {
        let next = rest.get(index + 1).map(|next| next.as_bytes());
        if std::mem::take(&mut is_backup) {
            continue;
        }
        match argument.as_bytes() {
            b"--restore" if !wants_value && next.is_some_and(|next| !next.starts_with(b"--")) => {
                backup = Some(base.join(&rest[index + 1]));
                is_backup = true;
            }
            b"-" if index + skipped == 0 || next.is_none() => sources.stdin = true,
            [b'-', b'-', directive @ ..] if !wants_value => {
                wants_value = push_directive(&mut sources.options, directive, next);
            }
            value => {
                push_quoted(&mut sources.options, value);
                sources.options.push(b' ');
                wants_value = false;
            }
        }
    }
    match backup {
        Some(backup) => Invocation::Restore { sources, backup },
        None => Invocation::Serve(sources),
    }
}

/// Starts a line; returns whether the directive waits for a value.
fn push_directive(options: &mut Vec<u8>, directive: &[u8], next: Option<&[u8]>) -> bool {
    if !options.is_empty() {
        options.push(b'\n');
    }
    options.extend_from_slice(directive);
    options.push(b' ');
    // `"--port 7000"` as one argument brings its value along.
    if split_args(directive).map_or(true, |words| words.len() > 1) {
        return false;
    }
    // Generated command lines say `--save` alone and mean no save points.
    let ends = next.is_none_or(|next| next.starts_with(b"--"));
    if ends && directive.eq_ignore_ascii_case(b"save") {
        options.extend_from_slice(b"\"\"");
        return false;
    }
    true
}

/// A number that differs between builds that differ: FNV-1a over what tells them apart.
fn build_id(parts: &[&str]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(arguments: &[&str]) -> Sources {
        let arguments: Vec<OsString> = arguments.iter().map(Into::into).collect();
        match parse(&arguments, Path::new("/base")) {
            Invocation::Serve(sources) => sources,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn arguments_become_lines() {
        let cases: &[(&[&str], &str)] = &[
            (&[], ""),
            (&["--port", "7000"], r#"port "7000" "#),
            (&["--port 7000"], "port 7000 "),
            (&["--port", "1", "--hz", "5"], "port \"1\" \nhz \"5\" "),
            (&["--save", "--hz", "5"], "save \"\"\nhz \"5\" "),
            (&["--hz", "5", "--save"], "hz \"5\" \nsave \"\""),
            (&["--save", ""], r#"save "" "#),
            (&["--save", "900 1"], r#"save "900 1" "#),
            (&["--requirepass", "--x", "--hz", "5"], "requirepass \"--x\" \nhz \"5\" "),
            (&["--requirepass", "a\"b\n"], r#"requirepass "a\"b\n" "#),
            (&["-x"], r#""-x" "#),
            (&["--port"], "port "),
        ];
        for (arguments, expected) in cases {
            let sources = options(arguments);
            assert_eq!(String::from_utf8_lossy(&sources.options), *expected, "{arguments:?}");
            assert_eq!((sources.file, sources.stdin), (None, false), "{arguments:?}");
        }
    }

    #[test]
    fn a_file_comes_first_and_a_dash_first_or_last() {
        let file = |path: &str| Some(path.into());
        let cases: &[(&[&str], Option<PathBuf>, bool, &str)] = &[
            (&["a.conf"], file("/base/a.conf"), false, ""),
            (&["/etc/a.conf", "--hz", "5"], file("/etc/a.conf"), false, r#"hz "5" "#),
            (&["-"], None, true, ""),
            (&["-", "--hz", "5"], None, true, r#"hz "5" "#),
            (&["a.conf", "--hz", "5", "-"], file("/base/a.conf"), true, r#"hz "5" "#),
            (&["--hz", "-", "--port", "1"], None, false, "hz \"-\" \nport \"1\" "),
            (&["a.conf", "-", "--hz", "5"], file("/base/a.conf"), false, "\"-\" \nhz \"5\" "),
        ];
        for (arguments, file, stdin, expected) in cases {
            let sources = options(arguments);
            assert_eq!((&sources.file, sources.stdin), (file, *stdin), "{arguments:?}");
            assert_eq!(String::from_utf8_lossy(&sources.options), *expected, "{arguments:?}");
        }
    }

    #[test]
    fn a_restore_is_told_apart_from_directives() {
        let restore = |arguments: &[&str]| {
            let arguments: Vec<OsString> = arguments.iter().map(Into::into).collect();
            match parse(&arguments, Path::new("/base")) {
                Invocation::Restore { sources, backup } => Some((sources.options, backup)),
                _ => None,
            }
        };
        type Expected = Option<(&'static str, &'static str)>;
        let cases: &[(&[&str], Expected)] = &[
            (&["--restore", "b"], Some(("", "/base/b"))),
            (&["--restore", "/b", "--hz", "5"], Some(("hz \"5\" ", "/b"))),
            (&["--hz", "5", "--restore", "b"], Some(("hz \"5\" ", "/base/b"))),
            (&["a.conf", "--restore", "b", "-"], Some(("", "/base/b"))),
            // The value of a directive, and a directive without one, which is refused by name.
            (&["--requirepass", "--restore"], None),
            (&["--restore"], None),
            (&["--restore", "--hz", "5"], None),
        ];
        for (arguments, expected) in cases {
            let found = restore(arguments);
            let expected = expected.map(|(o, b)| (o.as_bytes().to_vec(), PathBuf::from(b)));
            assert_eq!(found, expected, "{arguments:?}");
        }
        assert_eq!(options(&["--restore"]).options, b"restore ");
    }

    #[test]
    fn version_and_help_are_asked_for_first() {
        for (argument, expected) in [
            ("-v", Invocation::Version),
            ("--version", Invocation::Version),
            ("-h", Invocation::Help),
            ("--help", Invocation::Help),
        ] {
            assert_eq!(parse(&[argument.into()], Path::new("/")), expected);
            assert_ne!(parse(&["--hz".into(), argument.into()], Path::new("/")), expected);
        }
        let line = version();
        let fields: Vec<_> = line.split(' ').collect();
        assert_eq!(fields[..2], ["Flintlock", "server"]);
        let names: Vec<_> = fields[2..].iter().filter_map(|field| field.split_once('=')).collect();
        let names: Vec<_> = names.into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["v", "sha", "malloc", "bits", "build"]);
    }
}
