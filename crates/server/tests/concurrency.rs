//! Many clients at once, on more data than memory and with IO threads: nothing is lost, nothing is
//! seen twice, and no reader ever goes back in time.
//!
//! Each test runs in the settings of [`SETTINGS`]; what it checks is independent of timing.

#[expect(dead_code, reason = "each test binary uses its own part of the harness")]
mod common;

use std::sync::atomic::{AtomicUsize, Ordering};

use common::client::Client;
use common::rng::Rng;
use common::server::Server;

const SETTINGS: &[&[&str]] = &[
    &["--store", "memory", "--io-threads", "4"],
    &["--maxmemory", "4mb", "--appendfsync", "no", "--io-threads", "1"],
    &["--maxmemory", "4mb", "--appendfsync", "everysec", "--io-threads", "4"],
];
const CLIENTS: usize = 6;
/// With this many keys of this size, most are on disk only.
const KEYS: usize = 2_000;
const PADDING_BYTES: usize = 4_000;

/// Fills the memory with other data, so that what is tested has to go to disk and come back.
fn crowd_out(client: &mut Client, rng: &mut Rng) {
    let key = format!("crowd:{}", rng.below(KEYS));
    let value = vec![b'c'; PADDING_BYTES];
    let reply = client.try_command(&[b"SET".as_slice(), key.as_bytes(), &value]);
    assert_eq!(reply.expect("a reply").raw, b"+OK\r\n");
}

fn number(client: &mut Client, line: &str) -> u64 {
    let reply = client.ok(line);
    if reply.is_null() {
        return 0;
    }
    let text = std::str::from_utf8(reply.text().expect("a text")).expect("digits");
    text.split('.').next().expect("a first part").parse().expect("a number")
}

/// Runs `one(client number, connection, generator)` in all clients at once.
fn together(server: &Server, seed: u64, one: impl Fn(usize, &mut Client, &mut Rng) + Sync) {
    std::thread::scope(|scope| {
        for client_number in 0..CLIENTS {
            let one = &one;
            scope.spawn(move || {
                let mut rng = Rng::new(seed.wrapping_mul(100).wrapping_add(client_number as u64));
                one(client_number, &mut server.connect(), &mut rng);
            });
        }
    });
}

/// Counts down when dropped, also by a panic: those who wait for it do not wait for ever.
struct Leaves<'a>(&'a AtomicUsize);

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

fn in_every_setting(test: impl Fn(&Server)) {
    for setting in SETTINGS {
        eprintln!("setting: {setting:?}");
        test(&Server::subject(setting));
    }
}

#[test]
fn increments_are_never_lost() {
    const COUNTERS: usize = 300;
    const EACH: usize = 1_500;
    in_every_setting(|server| {
        together(server, 1, |_, client, rng| {
            for _ in 0..EACH {
                client.ok(&format!("INCR counter:{}", rng.below(COUNTERS)));
                client.ok(&format!("RPUSH list:{} x", rng.below(COUNTERS)));
                crowd_out(client, rng);
            }
        });
        let mut client = server.connect();
        let total = |client: &mut Client, line: &dyn Fn(usize) -> String| -> u64 {
            (0..COUNTERS).map(|counter| number(client, &line(counter))).sum()
        };
        let counted = total(&mut client, &|counter| format!("GET counter:{counter}"));
        assert_eq!(counted, (CLIENTS * EACH) as u64);
        let pushed = total(&mut client, &|counter| format!("LLEN list:{counter}"));
        assert_eq!(pushed, (CLIENTS * EACH) as u64);
    });
}

/// A write that needs room may have keys forgotten for it, and must not lose sight of its own.
/// With a tenth of all that is in memory in one transaction, it would soon.
#[test]
fn a_write_does_not_push_out_what_it_needs() {
    const READ: usize = 100;
    in_every_setting(|server| {
        let (mut client, mut rng) = (server.connect(), Rng::new(3));
        let names: Vec<String> = (0..READ).map(|i| format!("read:{i}")).collect();
        for name in &names {
            client.ok(&format!("SET {name} x"));
        }
        for _ in 0..2 * KEYS {
            crowd_out(&mut client, &mut rng);
        }
        for round in 1..=1_000 {
            crowd_out(&mut client, &mut rng);
            client.ok("MULTI");
            client.ok(&format!("MGET {}", names.join(" ")));
            client.ok("INCR rounds");
            let leaves = client.ok("EXEC").leaves();
            assert_eq!(leaves.iter().filter(|leaf| *leaf == b"x").count(), READ, "{round}");
            assert_eq!(leaves[READ], round.to_string().into_bytes());
        }
    });
}

#[test]
fn transfers_keep_the_sum() {
    const ACCOUNTS: usize = 100;
    const START: u64 = 1_000;
    const EACH: usize = 300;
    in_every_setting(|server| {
        let mut client = server.connect();
        for account in 0..ACCOUNTS {
            client.ok(&format!("SET account:{account} {START}"));
        }
        let read_all = (0..ACCOUNTS).map(|account| format!("account:{account}"));
        let read_all = format!("MGET {}", read_all.collect::<Vec<_>>().join(" "));
        let sum = |client: &mut Client| -> u64 {
            let texts = client.ok(&read_all).leaves();
            assert_eq!(texts.len(), ACCOUNTS, "no account is missing");
            let value = |text: &Vec<u8>| std::str::from_utf8(text).ok()?.parse::<u64>().ok();
            texts.iter().map(|text| value(text).expect("a number")).sum()
        };
        let busy = AtomicUsize::new(CLIENTS - 1);
        together(server, 2, |client_number, client, rng| {
            if client_number == 0 {
                // One watcher: at every moment the money is all there.
                while busy.load(Ordering::Acquire) > 0 {
                    assert_eq!(sum(client), START * ACCOUNTS as u64);
                }
                return;
            }
            let _leaves = Leaves(&busy);
            for _ in 0..EACH {
                let (from, to) = (rng.below(ACCOUNTS), rng.below(ACCOUNTS));
                client.ok(&format!("WATCH account:{from}"));
                let held = number(client, &format!("GET account:{from}"));
                let amount = held.min(1 + rng.below(50) as u64);
                client.ok("MULTI");
                client.ok(&format!("DECRBY account:{from} {amount}"));
                client.ok(&format!("INCRBY account:{to} {amount}"));
                // Null when somebody else was faster: then nothing happened.
                let reply = client.ok("EXEC");
                assert!(reply.is_null() || reply.leaves().len() == 2);
                crowd_out(client, rng);
            }
        });
        assert_eq!(sum(&mut client), START * ACCOUNTS as u64);
    });
}

#[test]
fn no_reader_goes_back_in_time() {
    const CELLS: usize = 200;
    const ROUNDS: u64 = 12;
    in_every_setting(|server| {
        let writers = AtomicUsize::new(1);
        let padding = "p".repeat(PADDING_BYTES);
        together(server, 3, |client_number, client, rng| {
            if client_number == 0 {
                // The only writer: each cell holds the number of the round, rising.
                let _leaves = Leaves(&writers);
                for round in 1..=ROUNDS {
                    for cell in 0..CELLS {
                        client.ok(&format!("SET cell:{cell} {round}.{padding}"));
                    }
                    // What was acknowledged is seen by the next read, wherever the value is by now.
                    for cell in 0..CELLS {
                        assert_eq!(number(client, &format!("GET cell:{cell}")), round);
                    }
                }
                return;
            }
            let mut seen = vec![0; CELLS];
            while writers.load(Ordering::Acquire) > 0 {
                let cell = rng.below(CELLS);
                let now = number(client, &format!("GET cell:{cell}"));
                assert!(now >= seen[cell], "cell {cell} went from {} back to {now}", seen[cell]);
                seen[cell] = now;
                if client_number == 1 {
                    crowd_out(client, rng);
                }
            }
        });
    });
}

#[test]
fn deleted_keys_stay_deleted() {
    const CELLS: usize = 150;
    const ROUNDS: usize = 15;
    in_every_setting(|server| {
        // Each client owns its keys: whatever others do, it sees exactly its own last word.
        together(server, 4, |client_number, client, rng| {
            let padding = "p".repeat(PADDING_BYTES);
            let mut alive = vec![None; CELLS];
            for _ in 0..ROUNDS * CELLS {
                let cell = rng.below(CELLS);
                let key = format!("own:{client_number}:{cell}");
                match rng.below(4) {
                    0 => {
                        let reply = client.ok(&format!("DEL {key}")).integer();
                        assert_eq!(reply, Ok(i64::from(alive[cell].is_some())), "DEL {key}");
                        alive[cell] = None;
                    }
                    1 => {
                        let mark = rng.next_u64() >> 16;
                        client.ok(&format!("SET {key} {mark}.{padding}"));
                        alive[cell] = Some(mark);
                    }
                    2 => {
                        let there = client.ok(&format!("EXISTS {key}")).integer();
                        assert_eq!(there, Ok(i64::from(alive[cell].is_some())), "EXISTS {key}");
                    }
                    _ => {
                        let reply = client.ok(&format!("GET {key}"));
                        assert_eq!(reply.is_null(), alive[cell].is_none(), "GET {key}");
                        if let Some(mark) = alive[cell] {
                            let text = reply.text().expect("a text");
                            let start = format!("{mark}.");
                            assert!(text.starts_with(start.as_bytes()), "GET {key}");
                        }
                    }
                }
            }
        });
    });
}
