//! Keys that a request turns out to need while it runs, and that are on disk only: it gives up
//! before it has changed anything, waits for them, and begins anew. SORT is such a command.

#[expect(dead_code, reason = "each test binary uses its own part of the harness")]
mod common;

use common::client::Client;
use common::rng::Rng;
use common::server::Server;

const SETTING: &[&str] = &["--maxmemory", "4mb", "--appendfsync", "no"];
const ELEMENTS: usize = 100;

/// Writes other data until `key` is on disk only.
fn crowd_out(client: &mut Client, rng: &mut Rng, key: &str) {
    let value = vec![b'c'; 4_000];
    for _ in 0..100_000 {
        let explained = client.ok(&format!("FLINT.EXPLAIN {key}")).leaves();
        if explained.iter().any(|leaf| leaf == b"on disk or nowhere") {
            return;
        }
        let name = format!("crowd:{}", rng.below(2_000));
        let reply = client.try_command(&[b"SET".as_slice(), name.as_bytes(), &value]);
        assert_eq!(reply.expect("a reply").raw, b"+OK\r\n");
    }
    panic!("{key} stays in memory");
}

/// Elements `0..ELEMENTS` with weights that turn their order round, and hashes that name them.
fn fill(client: &mut Client) {
    for i in 0..ELEMENTS {
        client.ok(&format!("RPUSH elements {i}"));
        client.ok(&format!("SET weight:{i} {}", ELEMENTS - i));
        client.ok(&format!("HSET object:{i} name n{i}"));
    }
}

/// What SORT with `GET object:*->name` says of the elements of `fill`.
fn names() -> Vec<Vec<u8>> {
    (0..ELEMENTS).rev().map(|i| format!("n{i}").into_bytes()).collect()
}

const BY_WEIGHT: &str = "SORT elements BY weight:* GET object:*->name";

#[test]
fn sort_waits_for_what_it_could_not_declare() {
    let server = Server::subject(SETTING);
    let (mut client, mut rng) = (server.connect(), Rng::new(1));
    fill(&mut client);
    for round in 0..20 {
        crowd_out(&mut client, &mut rng, &format!("weight:{round}"));
        assert_eq!(client.ok(BY_WEIGHT).leaves(), names(), "round {round}");
        crowd_out(&mut client, &mut rng, &format!("object:{round}"));
        let stored = client.ok(&format!("{BY_WEIGHT} STORE out")).integer();
        assert_eq!(stored, Ok(ELEMENTS as i64));
        assert_eq!(client.ok("LRANGE out 0 -1").leaves(), names(), "round {round}");
    }
}

#[test]
fn a_destination_on_disk_is_deleted_by_an_empty_result() {
    let server = Server::subject(SETTING);
    let (mut client, mut rng) = (server.connect(), Rng::new(2));
    client.ok("SET out x");
    crowd_out(&mut client, &mut rng, "out");
    assert_eq!(client.ok("SORT missing STORE out").raw, b":0\r\n");
    assert_eq!(client.ok("GET out").raw, b"$-1\r\n");
    client.ok("SET out x");
    crowd_out(&mut client, &mut rng, "out");
    for line in ["MULTI", "INCR n", "SORT missing STORE out"] {
        client.ok(line);
    }
    assert_eq!(client.ok("EXEC").raw, b"*2\r\n:1\r\n:0\r\n");
}

/// A transaction begins anew as a whole or not at all: what stands before the SORT happens once.
#[test]
fn a_transaction_waits_before_its_first_command() {
    let server = Server::subject(SETTING);
    let (mut client, mut rng) = (server.connect(), Rng::new(3));
    fill(&mut client);
    for round in 1..=20 {
        crowd_out(&mut client, &mut rng, &format!("weight:{round}"));
        for line in ["MULTI", "INCR rounds", BY_WEIGHT, "LPUSH log x", "EXEC"] {
            let reply = client.ok(line);
            if line == "EXEC" {
                let mut want = names();
                want.insert(0, round.to_string().into_bytes());
                want.push(round.to_string().into_bytes());
                assert_eq!(reply.leaves(), want);
            }
        }
    }
}

/// Nothing can be taken back: a need that the transaction made itself is an error, and never a
/// wrong answer.
#[test]
fn a_need_that_the_transaction_made_itself_is_refused() {
    let server = Server::subject(SETTING);
    let (mut client, mut rng) = (server.connect(), Rng::new(4));
    client.ok("SET weight:a 1");
    client.ok("SET weight:b 0");
    crowd_out(&mut client, &mut rng, "weight:a");
    crowd_out(&mut client, &mut rng, "weight:b");
    let transaction = ["MULTI", "RPUSH new a b", "SORT new BY weight:* ALPHA", "EXEC"];
    let replies: Vec<_> = transaction.iter().map(|line| client.ok(line).raw).collect();
    let text = String::from_utf8_lossy(&replies[3]).into_owned();
    assert!(text.starts_with("*2\r\n:2\r\n-TRYAGAIN "), "{text}");
    assert_eq!(client.ok("SORT new BY weight:* ALPHA").leaves(), [b"b".to_vec(), b"a".to_vec()]);
}

#[test]
fn clients_that_ask_together_get_the_same() {
    let server = Server::subject(SETTING);
    let (mut client, mut rng) = (server.connect(), Rng::new(6));
    fill(&mut client);
    crowd_out(&mut client, &mut rng, "weight:50");
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let server = &server;
            scope.spawn(move || {
                let (mut client, mut rng) = (server.connect(), Rng::new(100 + seed));
                for _ in 0..20 {
                    let weight = format!("weight:{}", rng.below(ELEMENTS));
                    crowd_out(&mut client, &mut rng, &weight);
                    assert_eq!(client.ok(BY_WEIGHT).leaves(), names());
                }
            });
        }
    });
}
