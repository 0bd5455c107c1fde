//! Command lists answered by redis-server 7.0.15 and by us, raw bytes compared.
//!
//! The lists are data, in tests/corpus; [`common::corpus`] tells how they are written. Each file
//! runs in RESP2 against the memory store, in RESP3 against the default disk store, and once more
//! as streams cut into pieces.

#[expect(dead_code, reason = "each test binary uses its own part of the harness")]
mod common;

use std::path::{Path, PathBuf};

use common::corpus::{self, Protocol};
use common::rng::Rng;
use common::server::Server;
use common::words;

const SHOWN: usize = 60;

fn corpus_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

fn check(family: &str, protocol: Protocol) {
    let steps = corpus::load(&corpus_dir().join(format!("{family}.txt")));
    let ours: &[&str] = match protocol {
        Protocol::Resp2 => &["--store", "memory"],
        Protocol::Resp3 => &["--appendfsync", "no"],
    };
    let (oracle, subject) = (Server::oracle(&[]), Server::subject(ours));
    let differences = corpus::compare(&oracle, &subject, &steps, protocol);
    let shown = differences.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("\n");
    assert!(
        differences.is_empty(),
        "{family}: {} differences from redis-server, the first:\n{shown}",
        differences.len()
    );
}

/// How a stream of commands is cut into writes.
#[derive(Debug, Clone, Copy)]
enum Cut {
    /// One write for all: deep pipelining.
    Whole,
    /// Pieces of 1 to 3,000 bytes, at random.
    Random(u64),
    /// Byte by byte.
    Bytewise,
}

impl Cut {
    fn pieces(self, bytes: &[u8]) -> Vec<&[u8]> {
        match self {
            Self::Whole => vec![bytes],
            Self::Bytewise => bytes.chunks(1).collect(),
            Self::Random(seed) => {
                let (mut rng, mut rest, mut pieces) = (Rng::new(seed), bytes, Vec::new());
                while !rest.is_empty() {
                    let most = if rng.one_in(2) { 10 } else { 3_000 };
                    let (piece, after) = rest.split_at((1 + rng.below(most)).min(rest.len()));
                    pieces.push(piece);
                    rest = after;
                }
                pieces
            }
        }
    }
}

/// A long command, or a long list of them, is not sent byte by byte.
const BYTEWISE_MAX: usize = 200;

/// The oracle answers one command at a time; the subject gets the same commands as one stream, cut
/// anywhere, and answers the same bytes.
fn check_stream(family: &str, cut: Cut) {
    let steps = corpus::load(&corpus_dir().join(format!("{family}.txt")));
    let (oracle, subject) = (Server::oracle(&[]), Server::subject(&["--store", "memory"]));
    for (section, mut commands) in corpus::streams(&steps, Protocol::Resp2) {
        if matches!(cut, Cut::Bytewise) {
            commands.retain(|words| words.iter().map(Vec::len).sum::<usize>() < BYTEWISE_MAX);
            commands.truncate(BYTEWISE_MAX);
        }
        let (mut one, mut other) = (oracle.connect(), subject.connect());
        one.ok("FLUSHALL");
        other.ok("FLUSHALL");
        let bytes: Vec<u8> = commands.iter().flat_map(|words| words::encode(words)).collect();
        let got = other.stream_pieces(&cut.pieces(&bytes), commands.len());
        for (number, command) in commands.iter().enumerate() {
            let want = one.try_command(command);
            let Some(got) = got.get(number) else {
                panic!("{family} [{section}]: no reply to {}", words::show_all(command));
            };
            if let Err(difference) = corpus::judge(&want, got, &corpus::Check::Exact) {
                let command = words::show_all(command);
                panic!("{family} [{section}] {cut:?}: {command}\n    {difference}");
            }
        }
    }
}

/// One test per family and protocol, and the list that `every_file_is_run` checks.
macro_rules! families {
    ($($family:ident),* $(,)?) => {
        const FAMILIES: &[&str] = &[$(stringify!($family)),*];
        mod resp2 {
            $(#[test] fn $family() { super::check(stringify!($family), super::Protocol::Resp2); })*
        }
        mod resp3 {
            $(#[test] fn $family() { super::check(stringify!($family), super::Protocol::Resp3); })*
        }
        mod streamed {
            $(#[test] fn $family() {
                for cut in [super::Cut::Whole, super::Cut::Random(7), super::Cut::Bytewise] {
                    super::check_stream(stringify!($family), cut);
                }
            })*
        }
    };
}

families!(
    connection,
    string,
    bitmap,
    keys,
    databases,
    list,
    hash,
    set,
    zset,
    sort,
    transaction,
    pubsub,
    server
);

/// A file that no test names would look like coverage.
#[test]
fn every_file_is_run() {
    let entries = std::fs::read_dir(corpus_dir()).expect("the corpus is there");
    let mut files: Vec<String> = entries
        .map(|entry| entry.expect("a readable directory").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned())
        .collect();
    files.sort();
    let mut families = FAMILIES.to_vec();
    families.sort_unstable();
    assert_eq!(files, families);
}
