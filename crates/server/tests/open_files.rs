//! The limit of open files: raised where the system allows it, shared out where it does not, so
//! that a client too many is told so and the store never lacks a descriptor.

#[expect(dead_code, reason = "each test binary uses its own part of the harness")]
mod common;

use std::net::TcpListener;

use common::client::Client;
use common::server::{Kind, OpenFiles, Server};
use common::words;

const MEMORY: &[&str] = &["--store", "memory"];
const TOO_MANY: &[u8] = b"-ERR max number of clients reached\r\n";

fn start(open_files: OpenFiles, args: &[&str]) -> Server {
    Server::start_limited(open_files, Kind::Flintlock, args).unwrap_or_else(|why| panic!("{why}"))
}

fn maxclients(client: &mut Client) -> usize {
    let reply = client.ok("CONFIG GET maxclients");
    let text = String::from_utf8(reply.leaves()[1].to_vec()).expect("a number");
    text.parse().expect("a number")
}

/// The soft limit of a running process.
fn soft_limit(server: &Server) -> u64 {
    let path = format!("/proc/{}/limits", server.pid());
    let text = std::fs::read_to_string(path).expect("the server runs");
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files")).expect("a line");
    line.split_whitespace().next().expect("three columns").parse().expect("a number")
}

/// As many more clients as there may be, each of them served; the next one is refused in words.
fn fill(server: &Server, count: usize) -> Vec<Client> {
    let clients: Vec<Client> = (0..count)
        .map(|n| {
            let mut client = server.connect();
            let reply = client.try_command(&["PING"]);
            let reply = reply.unwrap_or_else(|why| panic!("client {n} of {count}: {why}"));
            assert_eq!(words::show(&reply.raw), words::show(b"+PONG\r\n"), "{n} of {count}");
            client
        })
        .collect();
    let refused = server.connect().read_reply().unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(words::show(&refused.raw), words::show(TOO_MANY));
    clients
}

#[test]
fn a_low_limit_is_raised_for_all_clients() {
    let server = start(OpenFiles::Soft(128), &[MEMORY, &["--maxclients", "300"]].concat());
    assert!(soft_limit(&server) >= 332, "{}", soft_limit(&server));
    let mut clients = fill(&server, 300);
    assert_eq!(maxclients(&mut clients[0]), 300);
    // Later too.
    clients[0].ok("CONFIG SET maxclients 400");
    clients.append(&mut fill(&server, 100));
    assert!(soft_limit(&server) >= 432, "{}", soft_limit(&server));
}

#[test]
fn a_limit_that_cannot_be_raised_lowers_maxclients_and_the_log_says_so() {
    let server = start(OpenFiles::Hard(300), MEMORY);
    let mut client = server.connect();
    let most = maxclients(&mut client);
    assert!((150..=268).contains(&most), "{most}");
    let clients = fill(&server, most - 1);
    // A crowd beyond it is refused in words too.
    let crowd: Vec<Client> = (0..60).map(|_| server.connect()).collect();
    for mut refused in crowd {
        assert_eq!(refused.read_reply().expect("a reply").raw, TOO_MANY);
    }
    drop(clients);
    let refused = |client: &mut Client, line: &str| {
        let reply = client.run(line);
        let want = format!(
            "-ERR CONFIG SET failed (possibly related to argument 'maxclients') - The operating \
             system is not able to handle the specified number of clients, try with {most}\r\n"
        );
        assert_eq!(words::show(&reply.raw), words::show(want.as_bytes()));
        assert_eq!(maxclients(client), most);
    };
    refused(&mut client, &format!("CONFIG SET maxclients {}", most + 1));
    refused(&mut client, "CONFIG SET timeout 77 maxclients 4000000000");
    assert_eq!(client.ok("CONFIG GET timeout").leaves()[1], b"0", "all or nothing");
    server.wait_for_line(&format!("maxclients is {most} instead of 4000000000"));
    client.ok("CONFIG SET maxclients 10");
    client.ok(&format!("CONFIG SET maxclients {most}"));
    assert_eq!(maxclients(&mut client), most);
}

/// A port that is taken ends the start behind the line, so all that was said is to be had.
#[test]
fn the_log_says_at_the_start_that_fewer_clients_are_served() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let port = taken.local_addr().expect("a bound address").port().to_string();
    let args = ["--store", "memory", "--port", &port];
    let said = Server::start_limited(OpenFiles::Hard(300), Kind::Flintlock, &args)
        .expect_err("the port is taken");
    assert!(said.contains(" # maxclients is 204 instead of 10000"), "{said}");
    let said = Server::start_limited(OpenFiles::Soft(300), Kind::Flintlock, &args)
        .expect_err("the port is taken");
    assert!(said.contains(" * The limit of open files is ") && !said.contains("instead"), "{said}");
}

/// Every descriptor that clients may have is taken, and the store still opens what it needs.
#[test]
fn clients_leave_the_store_the_descriptors_that_it_needs() {
    const KEYS: usize = 6000;
    let args = ["--maxmemory", "2mb", "--journal-size-max", "64mb", "--flush-delay-ms", "1"];
    let server = start(OpenFiles::Hard(256), &args);
    let mut client = server.connect();
    let most = maxclients(&mut client);
    assert!(most >= 10, "{most}");
    let _clients = fill(&server, most - 1);
    let value = "v".repeat(2000);
    for from in (0..KEYS).step_by(100) {
        let sets: Vec<Vec<String>> = (from..from + 100)
            .map(|n| vec!["SET".to_owned(), format!("key:{n}"), format!("{n}{value}")])
            .collect();
        for reply in client.pipeline(&sets) {
            assert_eq!(words::show(&reply.expect("a reply").raw), words::show(b"+OK\r\n"));
        }
    }
    client.ok("SAVE");
    for n in (0..KEYS).step_by(7) {
        let got = client.ok(&format!("GET key:{n}"));
        assert_eq!(got.text().expect("a text"), format!("{n}{value}").as_bytes());
    }
}

#[test]
fn a_limit_too_low_for_the_server_itself_ends_the_start() {
    let refused = Server::start_limited(OpenFiles::Hard(64), Kind::Flintlock, MEMORY);
    let said = refused.expect_err("64 files are too few");
    assert!(said.contains("ulimit -n") && said.contains("(and ended)"), "{said}");
}
