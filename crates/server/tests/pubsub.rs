//! Publish and subscribe: what each client gets, byte for byte as from redis-server, and that no
//! message is lost, torn or out of order, wherever the half of a subscriber is.

#[expect(dead_code, reason = "each test binary uses its own part of the harness")]
mod common;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use common::client::Client;
use common::server::{Kind, Server};
use common::words;

const INLINE: [&str; 4] = ["--store", "memory", "--io-threads", "1"];
const WORKERS: [&str; 6] =
    ["--store", "memory", "--io-threads", "3", "--io-threads-always-active", "yes"];
const DEADLINE: Duration = Duration::from_secs(60);

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + DEADLINE;
    while !done() {
        assert!(Instant::now() < until, "{what}: not within {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Clients of one server, by name.
struct Scene<'a> {
    server: &'a Server,
    hello: &'static str,
    clients: BTreeMap<String, Client>,
    barriers: usize,
}

impl<'a> Scene<'a> {
    fn new(server: &'a Server, hello: &'static str) -> Self {
        Self { server, hello, clients: BTreeMap::new(), barriers: 0 }
    }

    /// Runs a step, `NAME: COMMAND; COMMAND ...`, sent as one write; what each client has got since
    /// the last one, as whole replies. A `~` in front of a step: in any order.
    fn step(&mut self, step: &str) -> BTreeMap<String, Vec<Vec<u8>>> {
        let (name, line) = step.trim_start_matches('~').split_once(": ").expect("NAME: COMMANDS");
        if !self.clients.contains_key(name) {
            let mut client = self.server.connect();
            client.ok(self.hello);
            self.clients.insert(name.to_owned(), client);
        }
        let requests = line.split("; ").map(|line| words::encode(&words::split(line).expect("ok")));
        let client = self.clients.get_mut(name).expect("it is there");
        client.send(&requests.collect::<Vec<_>>().concat());
        let mut got = BTreeMap::from([(name.to_owned(), self.all_of(name))]);
        let others: Vec<_> = self.clients.keys().filter(|other| *other != name).cloned().collect();
        for other in others {
            let replies = self.all_of(&other);
            got.insert(other, replies);
        }
        if step.starts_with('~') {
            got.values_mut().for_each(|replies| replies.sort());
        }
        got
    }

    /// All replies up to one that is asked for now: whatever was published before is in front.
    fn all_of(&mut self, name: &str) -> Vec<Vec<u8>> {
        self.barriers += 1;
        let tag = format!("barrier-{}", self.barriers);
        let client = self.clients.get_mut(name).expect("it is there");
        client.send(&words::encode(&["PING", &tag]));
        let mut replies = Vec::new();
        loop {
            let reply = client.read_reply().unwrap_or_else(|why| panic!("{name}: {why}"));
            if reply.leaves().last().is_some_and(|leaf| leaf == tag.as_bytes()) {
                // Its form says which mode the client is in.
                replies.push(reply.raw[..2].to_vec());
                return replies;
            }
            replies.push(reply.raw);
        }
    }
}

const SCRIPT: &[&str] = &[
    // Nothing to leave.
    "a: UNSUBSCRIBE",
    "a: PUNSUBSCRIBE",
    "a: SUNSUBSCRIBE",
    "a: UNSUBSCRIBE x y; PUNSUBSCRIBE x; SUNSUBSCRIBE x",
    "p: PUBLISH x nobody",
    "p: SPUBLISH x nobody",
    // Counts: channels and patterns together, shard channels apart.
    "a: SUBSCRIBE x y x",
    "a: PSUBSCRIBE x* x*",
    "a: SSUBSCRIBE x z",
    "a: PING; PING text; PING a b",
    "b: SUBSCRIBE x",
    "p: PUBLISH x hello",
    "p: PUBLISH y \"\\x00\\r\\n\"",
    "p: PUBLISH xx \"\"",
    "p: PUBLISH \"\" empty",
    "p: SPUBLISH x shard",
    "p: SPUBLISH y none",
    "p: PUBLISH x 1; PUBLISH x 2; PUBLISH y 3; SPUBLISH z 4; PUBLISH x 5",
    // What is there.
    "~p: PUBSUB NUMPAT",
    "p: PUBSUB NUMSUB; PUBSUB NUMSUB x y nosuch x",
    "p: PUBSUB SHARDNUMSUB; PUBSUB SHARDNUMSUB x y",
    "p: PUBSUB CHANNELS x*; PUBSUB CHANNELS nosuch; PUBSUB SHARDCHANNELS z",
    "p: PUBSUB CHANNELS a b; PUBSUB SHARDCHANNELS a b; PUBSUB NUMPAT x; PUBSUB NOSUCH; PUBSUB",
    "p: PUBLISH; PUBLISH x; PUBLISH x y z; SPUBLISH x; SUBSCRIBE; PSUBSCRIBE; SSUBSCRIBE",
    // What a subscriber may do.
    "a: GET k; CLIENT ID; CLIENT NOSUCH; NOSUCH; GET; EXEC; WATCH k; MULTI; DISCARD; HELLO 9",
    "a: PUBLISH x own; SPUBLISH x own; PUBLISH y own",
    // Leaving.
    "a: UNSUBSCRIBE nosuch x",
    "p: PUBLISH x left",
    "a: UNSUBSCRIBE",
    "a: PUNSUBSCRIBE nosuch",
    "a: PUNSUBSCRIBE",
    "p: PUBLISH x b-only; SPUBLISH x a-still",
    "a: SUNSUBSCRIBE z; SUNSUBSCRIBE",
    "a: PING; GET k",
    "~b: SUBSCRIBE y z; PSUBSCRIBE *z z*",
    "~p: PUBLISH z both; PUBLISH zz both; PUBLISH nosuch none",
    "b: UNSUBSCRIBE y z; UNSUBSCRIBE",
    "b: PUNSUBSCRIBE *z; PUNSUBSCRIBE z*; PING",
    // Transactions.
    "a: MULTI; SUBSCRIBE t u; PUBLISH t own; GET k; SSUBSCRIBE s; PING; PSUBSCRIBE t*; PUBLISH t \
     twice; EXEC",
    "p: PUBLISH t outside",
    "a: EXEC; SET k v",
    "a: UNSUBSCRIBE t; UNSUBSCRIBE; PUNSUBSCRIBE",
    "b: SUBSCRIBE t",
    "p: MULTI; PUBLISH t 1; SET k v; PUBLISH t 2; PUBLISH; EXEC",
    "p: MULTI; PUBLISH t 1; SET k v; PUBLISH t 2; EXEC",
    "a: MULTI; SUBSCRIBE t; UNSUBSCRIBE t; UNSUBSCRIBE; PING; EXEC; GET k",
    // Patterns of all kinds.
    "a: PSUBSCRIBE h?llo",
    "p: PUBLISH hello 1; PUBLISH hllo 2; PUBLISH hallo 3",
    "a: PUNSUBSCRIBE; PSUBSCRIBE h[ae]llo",
    "p: PUBLISH hello 1; PUBLISH hillo 2; PUBLISH hallo 3",
    "a: PUNSUBSCRIBE; PSUBSCRIBE *",
    "p: PUBLISH any 1; PUBLISH \"\" 2",
    // Leaving everything.
    "a: SUBSCRIBE r; SSUBSCRIBE r",
    "a: RESET",
    "p: PUBSUB NUMSUB r; PUBSUB NUMPAT; PUBSUB SHARDNUMSUB r; PUBLISH r none",
    "b: RESET; SUBSCRIBE again; GET k",
    "p: PUBLISH again yes",
];

/// Every client gets the same bytes from both.
fn compare(hello: &'static str, ours: &[&str]) {
    let (oracle, subject) = (Server::oracle(&[]), Server::subject(ours));
    let (mut one, mut other) = (Scene::new(&oracle, hello), Scene::new(&subject, hello));
    for (at, step) in SCRIPT.iter().enumerate() {
        let (want, got) = (one.step(step), other.step(step));
        for (name, want) in want {
            let show = |replies: &[Vec<u8>]| {
                replies.iter().map(|raw| words::show(raw)).collect::<Vec<_>>().join("\n      ")
            };
            // The number of a client is its server's.
            let same = want.len() == got[&name].len()
                && want.iter().zip(&got[&name]).all(|(want, got)| {
                    want == got || (step.contains("CLIENT ID") && want[0] == b':' && got[0] == b':')
                });
            let (want, got) = (show(&want), show(&got[&name]));
            assert!(same, "{at} {step}: {name}\n want {want}\n  got {got}");
        }
    }
}

#[test]
fn everybody_gets_what_redis_sends_in_resp2() {
    compare("HELLO 2", &INLINE);
    compare("HELLO 2", &WORKERS);
}

#[test]
fn everybody_gets_what_redis_sends_in_resp3() {
    compare("HELLO 3", &INLINE);
    compare("HELLO 3", &WORKERS);
    compare("HELLO 3", &["--appendfsync", "always"]);
}

/// The text of message `number`, short or long.
fn text(number: usize) -> Vec<u8> {
    let len = if number.is_multiple_of(16) { 40_000 } else { number % 300 };
    let mut text = format!("{number}:").into_bytes();
    text.resize(text.len() + len, b'a' + (number % 26) as u8);
    text
}

/// Reads `messages` messages of the one publisher and `pings` answers, in whatever order the two
/// kinds come.
fn read_all(client: &mut Client, messages: usize, pings: usize, publisher: &str) {
    let (mut seen, mut pongs) = (0, 0);
    while seen < messages || pongs < pings {
        let reply = client.read_reply().unwrap_or_else(|why| panic!("{seen} {pongs}: {why}"));
        let leaves = reply.leaves();
        match leaves.first().map(Vec::as_slice) {
            Some(b"message" | b"pmessage") => {
                assert_eq!(leaves[leaves.len() - 2], publisher.as_bytes());
                assert!(leaves[leaves.len() - 1] == text(seen), "message {seen} is the next one");
                seen += 1;
            }
            _ => {
                let tag = format!("ping-{pongs}");
                assert_eq!(leaves.last().map(Vec::as_slice), Some(tag.as_bytes()), "whole");
                pongs += 1;
            }
        }
    }
}

/// Subscribers ask all the time, so their halves are away all the time, for reading and writing,
/// while others publish.
#[test]
fn no_message_is_lost_or_torn_wherever_the_half_of_a_subscriber_is() {
    const MESSAGES: usize = 1500;
    const PINGS: usize = 3000;
    for ours in [&WORKERS[..], &INLINE] {
        let server = Server::subject(ours);
        let publishers = ["one", "two"];
        let subscribe = |client: &mut Client, at: usize| {
            let publisher = publishers[at % 2];
            client.ok(if at < 4 { "HELLO 2" } else { "HELLO 3" });
            client.ok(&if at % 4 < 2 {
                format!("SUBSCRIBE {publisher}")
            } else {
                format!("PSUBSCRIBE {}*", &publisher[..2])
            });
            publisher
        };
        let ready = std::sync::Barrier::new(10);
        std::thread::scope(|scope| {
            for at in 0..8 {
                let (server, ready, subscribe) = (&server, &ready, &subscribe);
                scope.spawn(move || {
                    let mut client = server.connect();
                    let publisher = subscribe(&mut client, at);
                    let mut sender = client.stream().try_clone().expect("a descriptor");
                    ready.wait();
                    std::thread::scope(|inner| {
                        inner.spawn(move || {
                            for number in 0..PINGS {
                                let ping = words::encode(&["PING", &format!("ping-{number}")]);
                                std::io::Write::write_all(&mut sender, &ping).expect("it reads");
                            }
                        });
                        read_all(&mut client, MESSAGES, PINGS, publisher);
                    });
                });
            }
            for publisher in publishers {
                let (server, ready) = (&server, &ready);
                scope.spawn(move || {
                    let mut client = server.connect();
                    ready.wait();
                    for number in 0..MESSAGES {
                        let publish = [b"PUBLISH", publisher.as_bytes(), &text(number)];
                        let reply = client.try_command(&publish).expect("a reply");
                        assert_eq!(reply.raw, b":4\r\n");
                    }
                });
            }
        });
        if ours == WORKERS && server.kind() == Kind::Flintlock {
            let client = &mut server.connect();
            assert!(client.info_number("stats", "io_threaded_writes_processed") > 0);
            assert!(client.info_number("stats", "io_threaded_reads_processed") > 0);
        }
    }
}

const NONE: &[u8] = b"*2\r\n$5\r\nother\r\n:0\r\n";

/// Publishes until only so many are subscribed, who read each message.
fn publish_until(client: &mut Client, message: &[u8], left: i64, mut read: impl FnMut()) {
    let until = Instant::now() + DEADLINE;
    loop {
        let reply = client.try_command(&[b"PUBLISH", &b"c"[..], message]).expect("a reply");
        read();
        if reply.integer() == Ok(left) {
            return;
        }
        assert!(Instant::now() < until, "the subscriber is there for ever");
    }
}

#[test]
fn a_subscriber_that_does_not_read_is_closed_at_its_own_limit() {
    let limits = ["--client-output-buffer-limit", "normal 0 0 0 pubsub 1mb 0 0"];
    for ours in [&INLINE[..], &WORKERS] {
        let server = Server::subject_or(&[ours, &limits].concat(), &limits);
        let mut publisher = server.connect();
        // One that reads is not closed for a reply that is as large, before it subscribes.
        let mut reader = server.connect();
        let value = vec![b'x'; 2 << 20];
        publisher.try_command(&[&b"SET"[..], b"large", &value]).expect("a reply");
        assert_eq!(reader.run("GET large").text().map(<[u8]>::len), Ok(2 << 20));
        // Two that read, one before and one behind the deaf one.
        let mut readers = [server.connect(), server.connect()];
        for bytes in [2_000, 100_000] {
            readers[0].ok("SUBSCRIBE c");
            let mut deaf = server.connect();
            deaf.send(&words::encode(&["SUBSCRIBE", "other", "c"]));
            deaf.send(&words::encode(&["PSUBSCRIBE", "other*"]));
            deaf.send(&words::encode(&["SSUBSCRIBE", "other"]));
            wait_until("it subscribes", || publisher.ok("PUBSUB SHARDNUMSUB other").raw != NONE);
            readers[1].ok("SUBSCRIBE c");
            let message = vec![b'x'; bytes];
            publish_until(&mut publisher, &message, 2, || {
                for reader in &mut readers {
                    assert!(reader.read_reply().expect("the message").raw.ends_with(b"x\r\n"));
                }
            });
            let (_, is_closed) = deaf.read_to_close(Instant::now() + DEADLINE);
            assert!(is_closed);
            // Nothing of it is left in the book.
            assert_eq!(publisher.ok("PUBSUB NUMSUB other").raw, NONE);
            assert_eq!(publisher.ok("PUBSUB SHARDNUMSUB other").raw, NONE);
            assert_eq!(publisher.ok("PUBSUB NUMPAT").raw, b":0\r\n");
            assert_eq!(publisher.ok("PUBSUB CHANNELS").leaves(), [b"c"]);
            readers.iter_mut().for_each(|reader| drop(reader.ok("UNSUBSCRIBE")));
        }
        // The limit is of those who have subscribed only.
        reader.ok("SUBSCRIBE c");
        reader.ok("UNSUBSCRIBE c");
        assert_eq!(reader.run("GET large").text().map(<[u8]>::len), Ok(2 << 20));
    }
}

#[test]
fn a_subscriber_goes_when_it_was_behind_for_too_long() {
    let limits = ["--client-output-buffer-limit", "pubsub 0 256kb 1"];
    let server = Server::subject_or(&[&INLINE[..], &limits].concat(), &limits);
    let (mut publisher, mut deaf) = (server.connect(), server.connect());
    deaf.ok("SUBSCRIBE c");
    let message = vec![b'x'; 24 << 20];
    let begin = Instant::now();
    let reply = publisher.try_command(&[b"PUBLISH", &b"c"[..], &message]).expect("a reply");
    assert_eq!(reply.raw, b":1\r\n");
    wait_until("it is closed", || publisher.ok("PUBSUB NUMSUB c").raw.ends_with(b":0\r\n"));
    assert!(begin.elapsed() >= Duration::from_secs(1), "it had its time");
}

/// The line of CLIENT LIST of a client with this name.
fn line_of(client: &mut Client, name: &str) -> BTreeMap<String, String> {
    let reply = client.ok("CLIENT LIST");
    let text = String::from_utf8_lossy(reply.text().expect("a text")).into_owned();
    let wanted = format!(" name={name} ");
    let line = text.lines().find(|line| line.contains(&wanted)).expect("its name is set");
    let fields = line.split(' ').filter_map(|field| field.split_once('='));
    fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[test]
fn subscriptions_are_seen_and_count_for_memory() {
    let server = Server::subject(&INLINE);
    let (mut admin, mut client) = (server.connect(), server.connect());
    client.ok("CLIENT SETNAME subscriber");
    let memory = |line: &BTreeMap<String, String>| line["tot-mem"].parse::<usize>().expect("bytes");
    let before = memory(&line_of(&mut admin, "subscriber"));
    client.ok("PSUBSCRIBE p*");
    client.ok("SSUBSCRIBE s");
    for number in 0..1000 {
        client.ok(&format!("SUBSCRIBE {number:01000}"));
    }
    let line = line_of(&mut admin, "subscriber");
    assert_eq!((&*line["sub"], &*line["psub"], &*line["ssub"]), ("1000", "1", "1"));
    assert_eq!(line["flags"], "P");
    let grown = memory(&line) - before;
    // redis-server counts the names of channels where they are, not with their subscribers.
    if server.kind() == Kind::Flintlock {
        assert!((1_000_000..2_000_000).contains(&grown), "{grown} bytes");
    }
    for (field, count) in
        [("pubsub_channels", 1000), ("pubsub_patterns", 1), ("pubsubshard_channels", 1)]
    {
        assert_eq!(admin.info_number("stats", field), count, "{field}");
    }
    let lines = |client: &mut Client, class: &str| {
        let list = client.ok(&format!("CLIENT LIST TYPE {class}"));
        String::from_utf8_lossy(list.text().expect("a text")).lines().count()
    };
    assert_eq!((lines(&mut admin, "pubsub"), lines(&mut admin, "normal")), (1, 1));
    assert_eq!(admin.ok("CLIENT KILL TYPE pubsub").raw, b":1\r\n");
    let (_, is_closed) = client.read_to_close(Instant::now() + DEADLINE);
    assert!(is_closed);
    wait_until("nothing is left", || {
        ["pubsub_channels", "pubsub_patterns", "pubsubshard_channels"]
            .iter()
            .all(|field| admin.info_number("stats", field) == 0)
    });
    assert_eq!(admin.ok("PUBSUB CHANNELS").raw, b"*0\r\n");
}

/// Some of the subscribers of a channel vanish while messages are on their way to all.
#[test]
fn subscribers_that_vanish_take_nothing_from_others() {
    for ours in [&INLINE[..], &WORKERS] {
        let server = Server::subject(ours);
        let (mut publisher, mut stays) = (server.connect(), server.connect());
        stays.ok("SUBSCRIBE c");
        for round in 0..20 {
            let mut leavers: Vec<_> = (0..10).map(|_| server.connect()).collect();
            leavers.iter_mut().for_each(|client| drop(client.ok("SUBSCRIBE c")));
            let publish = words::encode(&["PUBLISH", "c", "text"]);
            publisher.send(&publish.repeat(20));
            drop(leavers);
            publisher.send(&publish.repeat(20));
            for _ in 0..40 {
                let count = publisher.read_reply().expect("a reply").integer().expect("a number");
                assert!((1..=11).contains(&count), "{count} in round {round}");
                let message = stays.read_reply().expect("a message");
                assert!(message.raw.ends_with(b"text\r\n"));
            }
        }
        wait_until("all are gone", || publisher.ok("PUBSUB NUMSUB c").raw.ends_with(b":1\r\n"));
    }
}

#[test]
fn a_pause_of_writers_is_one_of_publishers() {
    let server = Server::subject(&INLINE);
    let (mut admin, mut publisher) = (server.connect(), server.connect());
    let mut subscriber = server.connect();
    subscriber.ok("SUBSCRIBE c");
    publisher.ok("CLIENT SETNAME publisher");
    admin.ok("CLIENT PAUSE 1000000 WRITE");
    publisher.send(&words::encode(&["PUBLISH", "c", "text"]));
    wait_until("it was sent", || line_of(&mut admin, "publisher")["cmd"] == "publish");
    assert!(subscriber.ok("PING").raw.starts_with(b"*2\r\n$4\r\npong"), "no message yet");
    admin.ok("CLIENT UNPAUSE");
    assert!(subscriber.read_reply().expect("the message").raw.ends_with(b"text\r\n"));
    assert_eq!(publisher.read_reply().expect("a reply").raw, b":1\r\n");
}

#[test]
fn a_subscriber_may_be_idle() {
    let server =
        Server::subject_or(&[&INLINE[..], &["--timeout", "1"]].concat(), &["--timeout", "1"]);
    let (mut subscriber, mut idle) = (server.connect(), server.connect());
    subscriber.ok("SUBSCRIBE c");
    idle.ok("PING");
    let (_, is_closed) = idle.read_to_close(Instant::now() + DEADLINE);
    assert!(is_closed, "others may not");
    assert_eq!(server.connect().ok("PUBLISH c text").raw, b":1\r\n");
    assert!(subscriber.read_reply().expect("the message").raw.ends_with(b"text\r\n"));
}

/// Messages come between the replies of a transaction, never inside of one, and are no changes.
#[test]
fn a_subscriber_is_in_a_transaction() {
    let play = |server: &Server| {
        let (mut publisher, mut client) = (server.connect(), server.connect());
        client.ok("HELLO 3");
        client.ok("SUBSCRIBE c");
        let mut got = Vec::new();
        for (request, replies) in [("WATCH k", 1), ("MULTI", 2), ("GET k", 2), ("EXEC", 2)] {
            client.send(&words::encode(&words::split(request).expect("plain")));
            got.extend((0..replies).map(|_| client.read_reply().expect("a reply").raw));
            publisher.ok("PUBLISH c text");
        }
        publisher.ok("PUBLISH c end");
        client.send(&words::encode(&["RESET"]));
        got.extend((0..3).map(|_| client.read_reply().expect("a reply").raw));
        client.ok("PING");
        got
    };
    let want = play(&Server::oracle(&[]));
    for ours in [&INLINE[..], &WORKERS] {
        assert_eq!(play(&Server::subject(ours)), want);
    }
    assert_eq!(want[want.len() - 1], b"+RESET\r\n");
}

/// With `appendfsync always` the replies of a subscriber wait for the journal while others publish
/// to it: each reply and each message comes whole, in order.
#[test]
fn messages_wait_behind_replies_that_are_held() {
    const MESSAGES: usize = 300;
    for threads in ["1", "3"] {
        let ours =
            ["--appendfsync", "always", "--io-threads", threads, "--io-threads-always-active"];
        let ours = [&ours[..], &[if threads == "1" { "no" } else { "yes" }]].concat();
        let server = Server::subject_or(&ours, &["--appendonly", "yes"]);
        let (mut publisher, mut client) = (server.connect(), server.connect());
        client.ok("HELLO 3");
        client.ok("SUBSCRIBE c");
        let mut sender = client.stream().try_clone().expect("a descriptor");
        let (mut seen, mut count) = (0, 0);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for _ in 0..MESSAGES {
                    let request = words::encode(&["INCR", "count"]).repeat(3);
                    std::io::Write::write_all(&mut sender, &request).expect("it reads");
                }
            });
            scope.spawn(move || {
                for number in 0..MESSAGES {
                    let reply = publisher.try_command(&[b"PUBLISH", &b"c"[..], &text(number)]);
                    assert_eq!(reply.expect("a reply").raw, b":1\r\n");
                }
            });
            while seen < MESSAGES || count < 3 * MESSAGES {
                let reply = client.read_reply().unwrap_or_else(|why| panic!("{why}"));
                if reply.raw[0] == b':' {
                    count += 1;
                    assert_eq!(reply.integer(), Ok(count as i64));
                } else {
                    assert!(reply.leaves()[2] == text(seen), "message {seen} is the next one");
                    seen += 1;
                }
            }
        });
    }
}

/// Messages that are not read count for `maxmemory-clients`, with a limit of their own or without.
#[test]
fn a_subscriber_that_does_not_read_is_evicted() {
    let limits = ["--client-output-buffer-limit", "pubsub 0 0 0", "--maxmemory-clients", "4mb"];
    for ours in [&INLINE[..], &WORKERS] {
        let server = Server::subject_or(&[ours, &limits].concat(), &limits);
        let (mut publisher, mut deaf) = (server.connect(), server.connect());
        publisher.ok("CLIENT NO-EVICT ON");
        deaf.ok("SUBSCRIBE c");
        publish_until(&mut publisher, &[b'x'; 100_000], 0, || ());
        let (_, is_closed) = deaf.read_to_close(Instant::now() + DEADLINE);
        assert!(is_closed);
        assert_eq!(publisher.info_number("stats", "evicted_clients"), 1);
        assert_eq!(publisher.info_number("stats", "pubsub_channels"), 0);
    }
}
