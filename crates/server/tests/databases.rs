//! COPY, MOVE and SWAPDB where values are on disk only, on their way there, or being read; and what
//! a crash leaves of them. tests/corpus/databases.txt compares their replies with redis-server's.

#[expect(dead_code, reason = "each test binary uses its own part of the harness")]
mod common;

use common::client::Client;
use common::dump::dump;
use common::server::{Kind, Server};
use common::words;

const DATABASES: usize = 16;
/// How soon a written key goes to the engine, and so where keys are when the next command comes:
/// still to be saved, being saved, saved.
const FLUSH_DELAYS: [&str; 3] = ["3600000", "1", "20"];

fn durable(flush_delay_ms: &str) -> Server {
    Server::subject_or(
        &["--appendfsync", "always", "--flush-delay-ms", flush_delay_ms],
        &["--appendonly", "yes", "--appendfsync", "always"],
    )
}

/// A value of every kind, two with expiry, one too large to be encoded at once; in databases 0, 1
/// and 2.
fn fill(client: &mut Client) {
    for db in 0..3 {
        client.ok(&format!("SELECT {db}"));
        for line in [
            format!("SET str in{db} PX 50000000"),
            format!("SET only{db} {db}"),
            format!("RPUSH list a b {db}"),
            format!("HSET hash f {db}"),
            format!("SADD set 1 2 {db}9"),
            format!("ZADD zset {db} m"),
            "PEXPIRE list 60000000".to_owned(),
        ] {
            client.ok(&line);
        }
        let members = (0..3000).map(|i| format!("{i} member:{db}:{i}")).collect::<Vec<_>>();
        client.ok(&format!("ZADD big {}", members.join(" ")));
    }
    client.ok("SELECT 0");
}

const LINES: &[&str] = &[
    "COPY str str DB 1 REPLACE",
    "COPY only0 copied DB 2",
    "COPY big big2",
    "ZREM big member:0:7",
    "COPY big big2 DB 1",
    "COPY str only0",
    "MOVE only0 1",
    "MOVE list 2",
    "COPY list list3 DB 3",
    "SWAPDB 0 1",
    "MOVE only0 5",
    "MOVE only1 5",
    "SET only1 again",
    "SWAPDB 2 5",
    "SWAPDB 7 8",
    "COPY hash hash DB 7",
    "SWAPDB 7 0",
    "DBSIZE",
    "MOVE hash 0",
    "ZCARD big",
    "SWAPDB 3 3",
    "SELECT 1",
    "DBSIZE",
    "ZREM big member:0:8",
    "MOVE zset 9",
    "SELECT 0",
];

fn answers(client: &mut Client, lines: &[&str]) -> Vec<String> {
    lines.iter().map(|line| format!("{line}: {}", words::show(&client.run(line).raw))).collect()
}

/// The same on redis-server, whose answers and keys ours must be.
fn oracle(lines: &[&str]) -> (Vec<String>, Vec<String>) {
    let server = Server::oracle(&[]);
    let mut client = server.connect();
    fill(&mut client);
    (answers(&mut client, lines), dump(&mut client, DATABASES))
}

#[test]
fn keys_on_disk_only_are_copied_moved_and_swapped() {
    let want = oracle(LINES);
    for delay in FLUSH_DELAYS {
        let mut server = durable(delay);
        fill(&mut server.connect());
        assert!(server.terminate().success());
        server.restart();
        let mut client = server.connect();
        assert_eq!(answers(&mut client, LINES), want.0, "flush delay {delay}");
        // In the journal, and perhaps in the engine too.
        for end in ["killed", "killed once more"] {
            server.kill_9();
            server.restart();
            assert_eq!(dump(&mut server.connect(), DATABASES), want.1, "{delay}: {end}");
        }
    }
}

/// The same while what was written is still to be saved, being saved, or just saved; and each
/// command by itself is followed by a crash.
#[test]
fn keys_that_are_being_saved_are_copied_moved_and_swapped() {
    for delay in FLUSH_DELAYS {
        let mut server = durable(delay);
        let redis = Server::oracle(&[]);
        let (mut one, mut other) = (redis.connect(), server.connect());
        fill(&mut one);
        fill(&mut other);
        for (round, part) in LINES.chunks(5).enumerate() {
            assert_eq!(answers(&mut other, part), answers(&mut one, part), "flush delay {delay}");
            if round == 1 {
                other.ok("BGSAVE");
            }
        }
        let want = dump(&mut one, DATABASES);
        server.kill_9();
        server.restart();
        assert_eq!(dump(&mut server.connect(), DATABASES), want, "flush delay {delay}");
        assert!(server.terminate().success());
        server.restart();
        assert_eq!(dump(&mut server.connect(), DATABASES), want, "flush delay {delay}");
    }
}

/// What a transaction reads behind its own SWAPDB, MOVE and SELECT is where they put it, in memory
/// before the first of its commands runs.
#[test]
fn a_transaction_finds_cold_keys_where_its_own_commands_put_them() {
    const LINES: &[&str] = &[
        "MULTI",
        "GET only0",
        "SWAPDB 0 1",
        "GET only1",
        "DBSIZE",
        "KEYS only*",
        "SELECT 1",
        "GET only0",
        "MOVE only0 2",
        "COPY zset z2 DB 2",
        "SWAPDB 1 2",
        "KEYS only2",
        "GET only0",
        "INCR only2",
        "ZSCORE z2 m",
        "SORT_RO zset",
        "SORT list BY nosort GET only*",
        "SWAPDB 1 99",
        "SELECT 2",
        "DBSIZE",
        "EXEC",
    ];
    let want = oracle(LINES);
    let mut server = durable("3600000");
    fill(&mut server.connect());
    assert!(server.terminate().success());
    server.restart();
    let mut client = server.connect();
    assert_eq!(answers(&mut client, LINES), want.0);
    server.kill_9();
    server.restart();
    assert_eq!(dump(&mut server.connect(), DATABASES), want.1);
}

/// Whether a swap changes a watched key is known only when both databases were asked, on disk too.
#[test]
fn a_swap_breaks_the_watch_of_keys_that_either_database_has() {
    let mut server = durable("1");
    fill(&mut server.connect());
    assert!(server.terminate().success());
    server.restart();
    for (key, breaks) in [("only0", true), ("only1", true), ("only2", false)] {
        let (mut client, mut other) = (server.connect(), server.connect());
        client.ok(&format!("WATCH {key}"));
        other.ok("SWAPDB 0 1");
        client.ok("MULTI");
        client.ok("PING");
        let reply = client.ok("EXEC").raw;
        assert_eq!(reply == b"*-1\r\n", breaks, "{key}: {}", words::show(&reply));
        other.ok("SWAPDB 0 1");
        assert!(server.terminate().success());
        server.restart();
    }
}

/// A request that waits for its keys, for a walk or for a count finds them in the database that has
/// its number when it runs, and not in the one that had it when it came.
#[test]
fn who_waits_while_databases_are_swapped_reads_one_of_them_whole() {
    const KEYS: usize = 3000;
    let mut server = durable("1");
    let mut client = server.connect();
    for (db, count) in [(0, KEYS), (1, KEYS / 2)] {
        client.ok(&format!("SELECT {db}"));
        let pairs = (0..count).map(|i| format!("k{i} {db}")).collect::<Vec<_>>();
        client.ok(&format!("MSET {}", pairs.join(" ")));
    }
    for round in 0..8 {
        assert!(server.terminate().success());
        server.restart();
        let (mut waiting, mut other) = (server.connect(), server.connect());
        let lines = ["GET k1", "KEYS k*", "DBSIZE", "MGET k2 k1400 k3"];
        let bytes: Vec<u8> = lines
            .iter()
            .flat_map(|line| words::encode(&words::split(line).expect("plain")))
            .collect();
        waiting.send(&bytes);
        other.ok("SWAPDB 0 1");
        let replies: Vec<_> =
            lines.iter().map(|_| waiting.read_reply().expect("a reply")).collect();
        let mget = replies[3].leaves();
        assert!(mget.iter().all(|value| *value == mget[0]), "round {round}: of two databases");
        let keys = replies[1].leaves().len();
        assert!(keys == KEYS || keys == KEYS / 2, "round {round}: {keys} keys");
        let size = replies[2].integer().expect("a number");
        assert!(size == KEYS as i64 || size == KEYS as i64 / 2, "round {round}: {size}");
        assert_eq!(replies[0].leaves()[0].len(), 1, "there in both");
    }
}

#[test]
fn explain_follows_a_key() {
    if Kind::subject() == Kind::Redis {
        return;
    }
    let place = |client: &mut Client, db: usize, key: &str| {
        client.ok(&format!("SELECT {db}"));
        let leaves = client.ok(&format!("FLINT.EXPLAIN {key}")).leaves();
        String::from_utf8(leaves[1].clone()).expect("a word")
    };
    let mut server = durable("3600000");
    let mut client = server.connect();
    client.ok("SET k v");
    client.ok("SET m v");
    assert!(server.terminate().success());
    server.restart();
    let mut client = server.connect();
    let generation = |client: &mut Client, db: usize| {
        client.ok(&format!("SELECT {db}"));
        let leaves = client.ok("FLINT.EXPLAIN k").leaves();
        let at = leaves.iter().position(|leaf| leaf == b"generation").expect("a field");
        leaves[at + 1].clone()
    };
    let before = [generation(&mut client, 0), generation(&mut client, 3)];
    client.ok("SWAPDB 0 3");
    let after = [generation(&mut client, 3), generation(&mut client, 0)];
    assert_eq!(before, after, "it goes with the keys");
    client.ok("SET gone v");
    client.ok("FLUSHDB");
    let flushed = generation(&mut client, 0);
    assert!(!before.contains(&flushed), "what is read for the old one is dropped");
    assert_eq!(place(&mut client, 3, "k"), "on disk or nowhere", "nothing is loaded for a swap");
    client.ok("COPY k k DB 4");
    assert_eq!(place(&mut client, 3, "k"), "memory and disk");
    assert_eq!(place(&mut client, 4, "k"), "memory, not yet on disk");
    client.ok("SELECT 3");
    client.ok("MOVE m 4");
    assert_eq!(place(&mut client, 3, "m"), "deleted, not yet on disk");
    assert_eq!(place(&mut client, 4, "m"), "memory, not yet on disk");
}
