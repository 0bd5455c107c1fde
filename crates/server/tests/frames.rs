//! Malformed and odd frames: the same bytes and the same end as redis-server 7.0.15, and no effect.
//!
//! The frames are data, in tests/corpus/frames. All cases of a run are open at the same time on
//! connections of their own, because silence after a frame can only be seen by waiting.

#[expect(dead_code, reason = "each test binary uses its own part of the harness")]
mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use common::client::{Client, REPLY_DEADLINE};
use common::dump;
use common::server::Server;
use common::words::{self, Moment};

/// How long a server that has nothing to say is listened to.
const SILENCE: Duration = Duration::from_millis(400);
/// Between the pieces of one frame.
const PAUSE: Duration = Duration::from_millis(2);
/// A case with more bytes is not sent byte by byte.
const BYTEWISE_MAX: usize = 2_000;

struct Case {
    line: usize,
    pieces: Vec<Vec<u8>>,
    ours: Option<Outcome>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Outcome {
    bytes: Vec<u8>,
    closed: bool,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let end = if self.closed { "closed" } else { "open" };
        write!(out, "{end} after {:?}", words::show(&self.bytes))
    }
}

fn cases() -> Vec<Case> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/frames/protocol.txt");
    let text = std::fs::read_to_string(path).expect("the frames are there");
    let lines = text.lines().enumerate().map(|(number, line)| (number + 1, line.trim()));
    lines
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(line, text)| {
            let expanded = words::expand(text, Moment::now(), 0);
            let mut pieces = words::split(&expanded).expect("well quoted");
            let mut ours = None;
            if pieces[0] == b"@ours" {
                let rest = pieces.split_off(3);
                let closed = pieces[2] == b"close";
                ours = Some(Outcome { bytes: pieces.swap_remove(1), closed });
                pieces = rest;
            }
            Case { line, pieces, ours }
        })
        .collect()
}

/// How the bytes of a case are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    AsWritten,
    Whole,
    Bytewise,
}

fn send(client: &mut Client, case: &Case, cut: Cut) {
    let whole = case.pieces.concat();
    match cut {
        Cut::Whole => client.send(&whole),
        Cut::Bytewise if whole.len() <= BYTEWISE_MAX => client.send_bytewise(&whole),
        Cut::Bytewise | Cut::AsWritten => {
            for (number, piece) in case.pieces.iter().enumerate() {
                if number > 0 {
                    std::thread::sleep(PAUSE);
                }
                client.send(piece);
            }
        }
    }
}

/// Sends every case on a connection of its own, then collects what came back.
fn outcomes(server: &Server, cases: &[Case], cut: Cut, want: Option<&[Outcome]>) -> Vec<Outcome> {
    let mut clients: Vec<Client> = cases.iter().map(|_| server.connect()).collect();
    for (client, case) in clients.iter_mut().zip(cases) {
        send(client, case, cut);
    }
    // A round trip begun after the last frame: a loaded machine gets the time it needs.
    server.connect().ok("PING");
    // What is known to come is waited for; what is known not to come, for a short time only.
    let quiet_until = Instant::now() + SILENCE;
    let late_until = Instant::now() + REPLY_DEADLINE;
    let collect = |(number, client): (usize, &mut Client)| {
        let Some(want) = want.map(|want| &want[number]) else {
            let (bytes, closed) = client.read_to_close(quiet_until);
            return Outcome { bytes, closed };
        };
        if want.closed {
            let (bytes, closed) = client.read_to_close(late_until);
            return Outcome { bytes, closed };
        }
        let (mut bytes, mut closed) = client.read_at_least(want.bytes.len(), late_until);
        if !closed {
            let (more, ended) = client.read_to_close(quiet_until);
            bytes.extend(more);
            closed = ended;
        }
        Outcome { bytes, closed }
    };
    clients.iter_mut().enumerate().map(collect).collect()
}

fn check(cut: Cut) {
    let cases = cases();
    let (oracle, subject) = (Server::oracle(&[]), Server::subject(&["--store", "memory"]));
    let mut want = outcomes(&oracle, &cases, Cut::AsWritten, None);
    if subject.kind() == common::server::Kind::Flintlock {
        for (want, case) in want.iter_mut().zip(&cases) {
            if let Some(ours) = &case.ours {
                want.clone_from(ours);
            }
        }
    }
    let got = outcomes(&subject, &cases, cut, Some(&want));
    let differences: Vec<String> = cases
        .iter()
        .zip(want.iter().zip(&got))
        .filter(|(_, (want, got))| want != got)
        .map(|(case, (want, got))| {
            let sent = words::show(&case.pieces.concat());
            format!("line {}: {sent}\n    want {want}\n    got  {got}", case.line)
        })
        .collect();
    assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n"));
    assert_eq!(
        dump::dump(&mut oracle.connect(), 16),
        dump::dump(&mut subject.connect(), 16),
        "the frames left different data behind"
    );
}

#[test]
fn odd_frames_are_answered_as_redis_does() {
    check(Cut::AsWritten);
}

#[test]
fn odd_frames_in_one_write_are_answered_alike() {
    check(Cut::Whole);
}

#[test]
fn odd_frames_byte_by_byte_are_answered_alike() {
    check(Cut::Bytewise);
}
