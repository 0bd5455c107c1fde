//! Clients that wait for elements: who is served with what, in which order, and what ends a wait.
//!
//! Scenes are played by redis-server 7.0.15 and by us, and everybody must have got the same.

#[expect(dead_code, reason = "each test binary uses its own part of the harness")]
mod common;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use common::client::{Client, REPLY_DEADLINE};
use common::server::{Kind, Server};
use common::words;

/// What is done, a line a step, by clients that are named by a letter; `@scene NAME` begins anew:
///
/// | line | meaning |
/// |---|---|
/// | `a: COMMAND` | sends it and takes the reply |
/// | `a> COMMAND` | sends it, and one more client waits then; `\|` parts several commands |
/// | `a<` | takes a reply |
/// | `a.` | leaves, and one client fewer waits then |
///
/// `{a}` is the number of a client.
const SCENES: &str = include_str!("scenes/blocking.txt");

/// Each with its name in front.
fn scenes() -> impl Iterator<Item = Vec<&'static str>> {
    let lines = |scene: &'static str| scene.lines().filter(|line| !line.is_empty()).collect();
    SCENES.split("@scene ").skip(1).map(lines)
}

/// The clients of a scene, and what each got.
struct Stage<'a> {
    server: &'a Server,
    resp3: bool,
    clients: BTreeMap<char, Client>,
    ids: BTreeMap<char, i64>,
    heard: String,
}

impl<'a> Stage<'a> {
    fn new(server: &'a Server, resp3: bool) -> Self {
        let (clients, ids) = (BTreeMap::new(), BTreeMap::new());
        let mut stage = Self { server, resp3, clients, ids, heard: String::new() };
        stage.client('*').ok("FLUSHALL");
        wait_for_blocked(stage.client('*'), 0);
        stage
    }

    fn client(&mut self, name: char) -> &mut Client {
        self.clients.entry(name).or_insert_with(|| {
            let mut client = self.server.connect();
            let id = client.ok("CLIENT ID").integer().expect("a number");
            self.ids.insert(name, id);
            if self.resp3 {
                client.ok("HELLO 3");
            }
            client
        })
    }

    fn take(&mut self, name: char) {
        let reply = match self.client(name).read_reply() {
            Ok(reply) => words::show(&reply.raw),
            Err(missing) => missing.to_string(),
        };
        self.heard.push_str(&format!("{name}: {reply}\n"));
    }

    fn step(&mut self, line: &str) {
        let name = line.chars().next().expect("a line is not empty");
        let mut rest = line[2..].trim().to_owned();
        for (name, id) in &self.ids {
            rest = rest.replace(&format!("{{{name}}}"), &id.to_string());
        }
        let requests = rest.split('|').map(|text| words::split(text.trim()).expect("plain"));
        let bytes: Vec<u8> = requests.flat_map(|request| words::encode(&request)).collect();
        self.client(name);
        let before = self.client('*').info_number("clients", "blocked_clients");
        match &line[1..2] {
            ":" => {
                self.client(name).send(&bytes);
                self.take(name);
            }
            ">" => {
                self.client(name).send(&bytes);
                wait_for_blocked(self.client('*'), before + 1);
            }
            "<" => self.take(name),
            "." => {
                self.clients.remove(&name);
                wait_for_blocked(self.client('*'), before - 1);
            }
            _ => panic!("{line}: no such step"),
        }
    }

    /// What everybody has heard, and what is left in the end.
    fn play(mut self, lines: &[&str]) -> String {
        for line in lines {
            self.step(line);
        }
        for db in 0..2 {
            let client = self.client('*');
            client.ok(&format!("SELECT {db}"));
            let keys = client.ok("DBSIZE").raw;
            self.heard.push_str(&format!("{db}: {}\n", words::show(&keys)));
        }
        self.heard
    }
}

fn wait_for_blocked(client: &mut Client, count: u64) {
    let until = Instant::now() + REPLY_DEADLINE;
    while client.info_number("clients", "blocked_clients") != count {
        assert!(Instant::now() < until, "{count} clients wait in the end");
    }
}

fn play_all(ours: &[&str], resp3: bool) {
    let (oracle, subject) = (Server::oracle(&[]), Server::subject(ours));
    for scene in scenes() {
        let (name, lines) = scene.split_first().expect("a scene has a name");
        let want = Stage::new(&oracle, resp3).play(lines);
        let got = Stage::new(&subject, resp3).play(lines);
        assert_eq!(got, want, "{name}");
    }
}

#[test]
fn scenes_in_memory() {
    play_all(&["--store", "memory"], false);
}

#[test]
fn scenes_on_disk() {
    play_all(&[], true);
}

#[test]
fn scenes_with_replies_that_wait_for_the_journal() {
    play_all(&["--appendfsync", "always"], false);
}

#[test]
fn scenes_with_workers() {
    play_all(&["--io-threads", "3", "--io-threads-always-active", "yes"], false);
}

/// Keys that are on disk only: the one that is waited for, the one that is moved to, and those of a
/// database that is exchanged.
#[test]
fn cold_keys_are_served_from_and_moved_to() {
    let mut server = Server::subject_or(&[], &["--appendonly", "yes"]);
    let mut client = server.connect();
    for line in [
        "RPUSH list 1 2 3",
        "RPUSH target x",
        "ZADD zset 1 m 2 n",
        "SET string s",
        "SELECT 1",
        "RPUSH swapped 7",
    ] {
        client.ok(line);
    }
    assert!(server.terminate().success());
    server.restart();
    let (mut client, mut waiting) = (server.connect(), server.connect());
    for (request, reply) in [
        ("BLPOP none list 0", "*2 $4 list $1 1"),
        ("BZMPOP 0 2 none zset MAX", "*2 $4 zset *1 *2 $1 n $1 2"),
        (
            "BLPOP none string 0",
            "-WRONGTYPE Operation against a key holding the wrong kind of value",
        ),
    ] {
        assert_eq!(plain(&client.run(request).raw), reply, "{request}");
    }
    send(&mut waiting, "BLMOVE source target LEFT LEFT 0");
    wait_for_blocked(&mut client, 1);
    client.ok("RPUSH source y");
    assert_eq!(plain(&waiting.read_reply().expect("a reply").raw), "$1 y");
    assert_eq!(client.ok("LRANGE target 0 -1").leaves(), [b"y", b"x"]);
    send(&mut waiting, "BLPOP swapped 0");
    wait_for_blocked(&mut client, 1);
    client.ok("SWAPDB 0 1");
    assert_eq!(plain(&waiting.read_reply().expect("a reply").raw), "*2 $7 swapped $1 7");
}

/// While somebody waits, all that it does not wait for is crowded out of memory.
#[test]
fn keys_that_have_left_memory_meanwhile_are_read_again() {
    const FILL: usize = 500;
    const SERVED: usize = 20;
    if Kind::subject() == Kind::Redis {
        return;
    }
    let server = Server::subject(&["--maxmemory", "2mb", "--flush-delay-ms", "1"]);
    let (mut client, mut first, mut second) =
        (server.connect(), server.connect(), server.connect());
    client.ok("RPUSH target x");
    for round in 0..SERVED {
        send(&mut first, "BLMOVE source target LEFT RIGHT 0");
        wait_for_blocked(&mut client, 1);
        send(&mut second, "BLPOP a b c source 0");
        wait_for_blocked(&mut client, 2);
        let until = Instant::now() + REPLY_DEADLINE;
        for number in 0.. {
            assert!(Instant::now() < until, "the target leaves memory");
            let names = (0..FILL).map(|i| format!("k{number}:{i}"));
            let sets: Vec<_> =
                names.map(|name| ["SET".to_owned(), name, "x".repeat(500)].to_vec()).collect();
            assert!(client.pipeline(&sets).iter().all(|reply| reply.is_ok()));
            if client
                .ok("FLINT.EXPLAIN target")
                .leaves()
                .iter()
                .any(|word| word == b"on disk or nowhere")
            {
                break;
            }
        }
        client.ok(&format!("RPUSH source {round} other{round}"));
        let moved = first.read_reply().expect("a reply").text().map(<[u8]>::to_vec);
        let popped = second.read_reply().expect("a reply").leaves();
        // While the target is read, the second may take the first element.
        let (round, other) = (round.to_string().into_bytes(), format!("other{round}").into_bytes());
        let both = [moved.expect("a text"), popped[1].clone()];
        assert!(both == [round.clone(), other.clone()] || both == [other, round], "{both:?}");
        assert_eq!(client.ok("EXISTS source").integer(), Ok(0));
    }
    assert_eq!(client.ok("LLEN target").integer(), Ok(1 + SERVED as i64));
}

/// What was served is gone for good, and what was moved is where it went.
#[test]
fn what_was_served_is_served_after_a_crash_too() {
    if Kind::subject() == Kind::Redis {
        return;
    }
    let mut server = Server::subject(&["--appendfsync", "always"]);
    let (mut client, mut waiting) = (server.connect(), server.connect());
    for (request, push) in [
        ("BLPOP list 0", "RPUSH list 1 2 3"),
        ("BLMOVE list2 target LEFT RIGHT 0", "RPUSH list2 1 2"),
        ("BLMOVE ring ring LEFT RIGHT 0", "RPUSH ring 1 2"),
        ("BLMPOP 0 1 many RIGHT COUNT 2", "RPUSH many 1 2 3"),
        ("BZPOPMAX zset 0", "ZADD zset 1 m 2 n"),
        ("BZMPOP 0 1 zset2 MIN COUNT 2", "ZADD zset2 1 m 2 n 3 o"),
    ] {
        send(&mut waiting, request);
        wait_for_blocked(&mut client, 1);
        client.ok(push);
        assert!(!waiting.read_reply().expect("a reply").is_error());
    }
    server.kill_9();
    server.restart();
    let mut client = server.connect();
    for (request, reply) in [
        ("LRANGE list 0 -1", "*2 $1 2 $1 3"),
        ("LRANGE list2 0 -1", "*1 $1 2"),
        ("LRANGE target 0 -1", "*1 $1 1"),
        ("LRANGE ring 0 -1", "*2 $1 2 $1 1"),
        ("LRANGE many 0 -1", "*1 $1 1"),
        ("ZRANGE zset 0 -1", "*1 $1 m"),
        ("ZRANGE zset2 0 -1", "*1 $1 o"),
    ] {
        assert_eq!(plain(&client.ok(request).raw), reply, "{request}");
    }
}

/// What others see of a client that waits.
#[test]
fn a_client_that_waits_is_shown_and_its_time_counted() {
    for kind in [&["--store", "memory"][..], &[]] {
        let server = Server::subject(kind);
        let (mut client, mut waiting) = (server.connect(), server.connect());
        send(&mut waiting, "BLPOP k 1000");
        wait_for_blocked(&mut client, 1);
        let list = client.ok("CLIENT LIST");
        let list = String::from_utf8_lossy(list.text().expect("a text"));
        let line = list.lines().find(|line| line.contains(" cmd=blpop ")).expect("it is there");
        assert!(line.contains(" flags=b "), "{line}");
        assert_eq!(client.info_number("clients", "clients_in_timeout_table"), 1);
        // An idle client would be closed.
        client.ok("CONFIG SET timeout 1");
        std::thread::sleep(Duration::from_millis(3100));
        let mut client = server.connect();
        client.ok("RPUSH k v");
        assert_eq!(plain(&waiting.read_reply().expect("a reply").raw), "*2 $1 k $1 v");
        assert_eq!(client.info_number("clients", "clients_in_timeout_table"), 0);
        wait_for_blocked(&mut client, 0);
        send(&mut waiting, "BLPOP k 1000");
        wait_for_blocked(&mut client, 1);
        drop(waiting);
        wait_for_blocked(&mut client, 0);
        assert_eq!(client.info_number("clients", "clients_in_timeout_table"), 0);
        let stats = client.ok("INFO commandstats");
        let stats = String::from_utf8_lossy(stats.text().expect("a text"));
        assert!(stats.contains("cmdstat_blpop:calls=1,"), "{stats}");
    }
}

/// A pause holds what a served client is to do, and not the end of its time.
#[test]
fn a_pause_does_not_keep_a_wait_from_its_end() {
    for kind in [&["--store", "memory"][..], &[]] {
        let server = Server::subject(kind);
        let (mut client, mut waiting) = (server.connect(), server.connect());
        send(&mut waiting, "BLPOP k 0.3");
        wait_for_blocked(&mut client, 1);
        client.ok("CLIENT PAUSE 1000000 WRITE");
        assert_eq!(plain(&waiting.read_reply().expect("a reply").raw), "*-1");
        send(&mut waiting, "BLPOP k 0");
        wait_for_blocked(&mut client, 1);
        client.ok("CLIENT UNPAUSE");
        client.ok("RPUSH k v");
        assert_eq!(plain(&waiting.read_reply().expect("a reply").raw), "*2 $1 k $1 v");
    }
}

/// A crowd, one of whom is served for each element, in their order.
#[test]
fn a_crowd_is_served_in_its_order() {
    const CROWD: usize = 300;
    for kind in [&["--store", "memory"][..], &[]] {
        let server = Server::subject(kind);
        let mut client = server.connect();
        let mut crowd: Vec<Client> = (0..CROWD).map(|_| server.connect()).collect();
        for (number, waiting) in crowd.iter_mut().enumerate() {
            send(waiting, &format!("BLPOP own{number} k 100"));
            wait_for_blocked(&mut client, 1 + number as u64);
        }
        assert_eq!(client.info_number("clients", "clients_in_timeout_table"), CROWD as u64);
        let items: Vec<String> = (0..CROWD).map(|number| number.to_string()).collect();
        client.ok(&format!("RPUSH k {}", items.join(" ")));
        for (waiting, item) in crowd.iter_mut().zip(&items) {
            assert_eq!(waiting.read_reply().expect("a reply").leaves()[1], item.as_bytes());
        }
        assert_eq!(client.ok("EXISTS k").integer(), Ok(0));
    }
}

fn send(client: &mut Client, line: &str) {
    client.send(&words::encode(&words::split(line).expect("plain")));
}

fn plain(raw: &[u8]) -> String {
    String::from_utf8_lossy(raw).trim_end().replace("\r\n", " ")
}
