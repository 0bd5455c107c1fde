//! `maxmemory-clients`: who is closed, who stays, and that no more go than must.
//!
//! Sizes are those that CLIENT LIST shows, since how large a buffer is for so many bytes is the
//! server's business. Each test runs with and without workers that have the halves of clients.

#[expect(dead_code, reason = "each test binary uses its own part of the harness")]
mod common;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use common::client::Client;
use common::server::{Kind, Server};

const INLINE: [&str; 4] = ["--store", "memory", "--io-threads", "1"];
const WORKERS: [&str; 6] =
    ["--store", "memory", "--io-threads", "3", "--io-threads-always-active", "yes"];
const DEADLINE: Duration = Duration::from_secs(60);
const VALUE_BYTES: usize = 100_000;

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + DEADLINE;
    while !done() {
        assert!(Instant::now() < until, "{what}: not within {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Bytes of each client that has a name, as CLIENT LIST shows them.
fn sizes(client: &mut Client) -> BTreeMap<String, u64> {
    let list = client.ok("CLIENT LIST");
    let text = String::from_utf8_lossy(list.text().expect("a text")).into_owned();
    text.lines()
        .filter_map(|line| {
            let word = |key: &str| line.split(' ').find_map(|word| word.strip_prefix(key));
            let name = word("name=").filter(|name| !name.is_empty())?;
            Some((name.to_owned(), word("tot-mem=")?.parse().ok()?))
        })
        .collect()
}

fn named(server: &Server, name: &str) -> Client {
    let mut client = server.connect();
    client.ok(&format!("CLIENT SETNAME {name}"));
    client
}

/// Sends the beginning of a request: so many bytes that the server must keep.
fn burden(client: &mut Client, bytes: usize) {
    client.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100000000\r\n");
    client.send(&vec![b'x'; bytes]);
}

/// Waits until the sizes no longer change: everything sent has arrived, no half is away.
fn settled(client: &mut Client, at_least: &BTreeMap<String, usize>) -> BTreeMap<String, u64> {
    let mut now = BTreeMap::new();
    wait_until("everything arrives", || {
        now = sizes(client);
        at_least.iter().all(|(name, bytes)| now.get(name).is_some_and(|n| *n >= *bytes as u64))
    });
    now
}

/// The largest go first, and as few as make the limit hold.
#[test]
fn the_largest_go_and_no_more_than_must() {
    for args in [&INLINE[..], &WORKERS] {
        let server = Server::start(Kind::Flintlock, args);
        let asking = &mut server.connect();
        let mut at_least = BTreeMap::new();
        let mut clients = Vec::new();
        for number in 1..=10_usize {
            let name = format!("c{number:02}");
            let mut client = named(&server, &name);
            burden(&mut client, number * VALUE_BYTES);
            at_least.insert(name, number * VALUE_BYTES);
            clients.push(client);
        }
        let sizes_before = settled(asking, &at_least);
        let mut order: Vec<(u64, String)> =
            sizes_before.iter().map(|(name, size)| (*size, name.clone())).collect();
        order.sort();
        let total: u64 = order.iter().map(|(size, _)| size).sum();
        let limit = total / 2;
        let mut left = total;
        let mut fewest = 0;
        while left > limit {
            left -= order.pop().expect("the limit holds for nobody").0;
            fewest += 1;
        }
        asking.ok(&format!("CONFIG SET maxmemory-clients {limit}"));
        // Who is away with a worker goes when it is back.
        let mut evicted = 0;
        wait_until("the limit holds", || {
            evicted = asking.info_number("stats", "evicted_clients");
            let is_gone = asking.info_number("clients", "connected_clients") == 11 - evicted;
            is_gone && evicted >= fewest
        });
        // The client that asks counts too.
        assert!((fewest..=fewest + 1).contains(&evicted), "{evicted} went, {fewest} had to");
        let stayed: Vec<String> = sizes(asking).into_keys().collect();
        let smallest: Vec<String> =
            sizes_before.into_keys().take(10 - usize::try_from(evicted).expect("few")).collect();
        assert_eq!(stayed, smallest, "the largest went");
        assert!(asking.info_number("memory", "mem_clients_normal") <= limit + 200_000);
    }
}

/// CLIENT NO-EVICT saves a client however much it takes; somebody smaller goes.
#[test]
fn a_client_that_may_not_go_stays() {
    for args in [&INLINE[..], &WORKERS] {
        let server = Server::start(Kind::Flintlock, args);
        let asking = &mut server.connect();
        asking.ok("CLIENT NO-EVICT ON");
        let mut large = named(&server, "large");
        large.ok("CLIENT NO-EVICT on");
        burden(&mut large, 20 * VALUE_BYTES);
        let mut small = named(&server, "small");
        burden(&mut small, VALUE_BYTES);
        let at_least = BTreeMap::from([
            ("large".to_owned(), 20 * VALUE_BYTES),
            ("small".to_owned(), VALUE_BYTES),
        ]);
        settled(asking, &at_least);
        asking.ok("CONFIG SET maxmemory-clients 1mb");
        wait_until("the small one goes", || !sizes(asking).contains_key("small"));
        assert!(sizes(asking).contains_key("large"));
        assert_eq!(asking.info_number("stats", "evicted_clients"), 1);
        // Nobody is left who may go, and the server serves.
        assert_eq!(asking.ok("PING").raw, b"+PONG\r\n");
        asking.ok("CONFIG SET maxmemory-clients 0");
        named(&server, "newcomer").ok("PING");
    }
}

/// Clients grow beyond the limit again and again, also while workers have them, and each is closed
/// once; a bystander is served all the time.
#[test]
fn clients_that_grow_are_closed_and_others_are_served() {
    for args in [&INLINE[..], &WORKERS] {
        let server = Server::start(Kind::Flintlock, args);
        let bystander = &mut server.connect();
        bystander.ok("CONFIG SET maxmemory 1gb");
        bystander.ok("CONFIG SET maxmemory-clients 4mb");
        bystander.ok(&format!("SET big {}", "v".repeat(50_000)));
        let get = common::words::encode(&["GET", "big"]);
        for round in 1..=5_u64 {
            // Nobody reads: replies pile up here, half a request there.
            let mut crowd: Vec<Client> = (0..12).map(|_| server.connect()).collect();
            for (place, client) in crowd.iter_mut().enumerate() {
                if place % 2 == 0 {
                    client.send(&get.repeat(100));
                } else {
                    client.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100000000\r\n");
                    // The server may close it before all is sent.
                    let _ = std::io::Write::write_all(&mut client.stream(), &vec![b'x'; 1 << 20]);
                }
                assert_eq!(bystander.ok("PING").raw, b"+PONG\r\n");
            }
            wait_until("some are closed in each round", || {
                bystander.info_number("stats", "evicted_clients") >= round
            });
            wait_until("the rest fits", || {
                bystander.info_number("memory", "mem_clients_normal") <= 4 << 20
            });
            drop(crowd);
            wait_until("all are gone", || {
                bystander.info_number("clients", "connected_clients") == 1
            });
        }
        assert!(bystander.info_number("stats", "evicted_clients") <= 5 * 12, "each once");
        // Zero would be a bystander that does not count: nothing leaks out of the book or into it.
        assert!(bystander.info_number("memory", "mem_clients_normal") < 1 << 20);
    }
}

/// Many go, but a few in a turn: the others are served in between.
#[test]
fn a_crowd_goes_in_several_turns() {
    const CROWD: usize = 200;
    const EACH_TURN: u64 = 32;
    let server = Server::start(Kind::Flintlock, &INLINE);
    let asking = &mut server.connect();
    asking.ok("CLIENT NO-EVICT on");
    let mut crowd: Vec<Client> = (0..CROWD).map(|_| server.connect()).collect();
    for client in &mut crowd {
        burden(client, 10_000);
    }
    wait_until("everything arrives", || {
        asking.info_number("memory", "mem_clients_normal") > CROWD as u64 * 10_000
    });
    let cycles = asking.info_number("stats", "eventloop_cycles");
    asking.ok("CONFIG SET maxmemory-clients 100kb");
    let mut gone = 0;
    wait_until("most of them go", || {
        let text = String::from_utf8(asking.ok("INFO stats").raw).expect("INFO is text");
        let of = |name: &str| -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|n| n.trim().parse().ok()).unwrap_or_else(|| panic!("{name} in {text}"))
        };
        gone = of("evicted_clients");
        let turns = of("eventloop_cycles") - cycles;
        assert!(gone <= turns * EACH_TURN, "{gone} in {turns} turns");
        gone > CROWD as u64 / 2
    });
}

/// What KEYS finds on disk is gathered before the transaction runs, and counts meanwhile.
#[test]
fn names_that_are_gathered_count() {
    const NAMES: usize = 2000;
    let server = Server::start(Kind::Flintlock, &["--maxmemory-clients", "6mb"]);
    let asking = &mut server.connect();
    let name = "n".repeat(1000);
    for number in 0..NAMES {
        asking.ok(&format!("SET {name}{number} v"));
    }
    for (walks, stays) in [(1, true), (8, false)] {
        let mut client = server.connect();
        client.ok("MULTI");
        // Nothing is left of what was found when its reply is made.
        client.ok("FLUSHDB");
        (0..walks).for_each(|_| drop(client.ok("KEYS nn*")));
        if stays {
            client.ok("DISCARD");
            client.ok("MULTI");
            client.ok("KEYS nn*");
        }
        client.send(b"EXEC\r\n");
        let reply = client.read_reply();
        assert_eq!(reply.is_ok(), stays, "{walks} walks");
        assert_eq!(asking.info_number("stats", "evicted_clients"), u64::from(!stays));
        assert_eq!(asking.ok("DBSIZE").integer(), Ok(NAMES as i64), "nothing has run");
    }
}
