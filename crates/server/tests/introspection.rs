//! What clients and monitoring learn about the server: handshakes, INFO, CLIENT LIST, COMMAND.
//!
//! These replies differ from redis-server's in their values, so their form is checked: against the
//! oracle where both have the fact, against what the tools parse where only we have it.

#[expect(dead_code, reason = "each test binary uses its own part of the harness")]
mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::client::Client;
use common::reply::{Reply, Value};
use common::server::{Kind, Server};
use common::words;

/// Fields of INFO that redis_exporter, the dashboards and the clients read, and whose value must be
/// a number.
const NUMBERS: &str = "process_id tcp_port uptime_in_seconds uptime_in_days hz connected_clients \
    blocked_clients maxclients tracking_clients client_recent_max_input_buffer \
    client_recent_max_output_buffer used_memory used_memory_rss used_memory_peak \
    used_memory_overhead used_memory_startup used_memory_dataset maxmemory \
    mem_fragmentation_ratio allocator_active allocator_allocated allocator_resident \
    total_system_memory mem_not_counted_for_evict lazyfree_pending_objects loading async_loading \
    rdb_changes_since_last_save rdb_bgsave_in_progress rdb_last_save_time rdb_last_bgsave_time_sec \
    rdb_last_cow_size aof_enabled aof_rewrite_in_progress total_connections_received \
    total_commands_processed instantaneous_ops_per_sec total_net_input_bytes \
    total_net_output_bytes instantaneous_input_kbps instantaneous_output_kbps \
    rejected_connections expired_keys evicted_keys keyspace_hits keyspace_misses pubsub_channels \
    pubsub_patterns latest_fork_usec total_error_replies total_reads_processed \
    total_writes_processed io_threaded_reads_processed io_threaded_writes_processed \
    io_threads_active connected_slaves master_repl_offset repl_backlog_active repl_backlog_size \
    used_cpu_sys used_cpu_user used_cpu_sys_children used_cpu_user_children \
    used_cpu_sys_main_thread used_cpu_user_main_thread cluster_enabled";
const TEXTS: &str = "redis_version redis_mode os run_id executable used_memory_human \
    maxmemory_policy rdb_last_bgsave_status aof_last_write_status aof_last_bgrewrite_status role \
    master_replid";
const OUR_NUMBERS: &str = "cached_keys storage_provider_read_hits storage_provider_read_misses";
const OUR_TEXTS: &str = "server_name flintlock_version";
const SECTIONS: &str = "Server Clients Memory Persistence Stats Replication CPU Errorstats \
    Cluster Keyspace";

fn subject() -> Server {
    Server::subject(&["--appendfsync", "no"])
}

fn info(client: &mut Client, section: &str) -> (BTreeSet<String>, BTreeMap<String, String>) {
    let reply = client.ok(&format!("INFO {section}"));
    let text = String::from_utf8(reply.text().expect("a text").to_vec()).expect("INFO is text");
    let (mut sections, mut fields) = (BTreeSet::new(), BTreeMap::new());
    for line in text.split("\r\n").filter(|line| !line.is_empty()) {
        if let Some(name) = line.strip_prefix("# ") {
            sections.insert(name.to_owned());
        } else {
            let (name, value) = line.split_once(':').expect("name:value");
            let twice = fields.insert(name.to_owned(), value.to_owned());
            assert_eq!(twice, None, "{name} is there twice");
        }
    }
    (sections, fields)
}

#[test]
fn info_has_what_monitoring_parses() {
    let server = subject();
    let mut client = server.connect();
    client.ok("SET k v");
    client.ok("SET t v EX 1000");
    client.ok("GET k");
    client.ok("GET none");
    assert!(client.run("LPUSH k x").is_error());
    let (sections, fields) = info(&mut client, "everything");
    let ours = server.kind() == Kind::Flintlock;
    let missing: Vec<&str> =
        SECTIONS.split_whitespace().filter(|name| !sections.contains(*name)).collect();
    assert!(missing.is_empty(), "sections {missing:?} are missing of {sections:?}");
    let more = |list: &'static str| if ours { list } else { "" }.split_whitespace();
    let mut wrong = Vec::new();
    for name in NUMBERS.split_whitespace().chain(more(OUR_NUMBERS)) {
        match fields.get(name) {
            None => wrong.push(format!("{name} is missing")),
            Some(value) if value.parse::<f64>().is_err() => wrong.push(format!("{name}:{value}")),
            Some(_) => {}
        }
    }
    for name in TEXTS.split_whitespace().chain(more(OUR_TEXTS)) {
        if fields.get(name).is_none_or(String::is_empty) {
            wrong.push(format!("{name} is missing"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(fields["tcp_port"], server.port().to_string());
    assert_eq!(fields["process_id"], server.pid().to_string());
    assert_eq!(fields["role"], "master");
    assert_eq!(fields["redis_mode"], "standalone");
    assert_eq!((&*fields["keyspace_hits"], &*fields["keyspace_misses"]), ("1", "1"));
    assert_eq!(fields["total_error_replies"], "1");
    assert_eq!(fields["errorstat_WRONGTYPE"], "count=1");
    let db = &fields["db0"];
    assert!(db.starts_with("keys=2,expires=1,avg_ttl="), "{db}");
    if ours {
        let version: Vec<u32> =
            fields["redis_version"].split('.').map(|part| part.parse().expect("semver")).collect();
        assert!(version >= vec![7, 2, 0], "clients gate on the version: {version:?}");
    }
}

#[test]
fn info_sections_can_be_asked_for() {
    let server = subject();
    let mut client = server.connect();
    for (asked, want) in [
        ("server", &["Server"][..]),
        ("SERVER", &["Server"]),
        ("server clients", &["Clients", "Server"]),
        ("keyspace", &["Keyspace"]),
        ("nosuch", &[]),
        ("nosuch memory", &["Memory"]),
    ] {
        let (sections, _) = info(&mut client, asked);
        assert_eq!(sections.into_iter().collect::<Vec<_>>(), want, "INFO {asked}");
    }
    let (default, _) = info(&mut client, "");
    let (all, _) = info(&mut client, "all");
    assert!(default.contains("Replication") && !default.contains("Commandstats"), "{default:?}");
    assert!(all.is_superset(&default), "{all:?}");
}

#[test]
fn commandstats_say_how_long_runs_took() {
    for server in [Server::oracle(&["--enable-debug-command", "yes"]), subject()] {
        let mut client = server.connect();
        client.ok("CONFIG RESETSTAT");
        client.ok("DEBUG SLEEP 0.02");
        assert!(client.run("GET").is_error());
        let (_, fields) = info(&mut client, "commandstats");
        let value = |command: &str, name: &str| -> f64 {
            let counts = &fields[&format!("cmdstat_{command}")];
            let mut counts = counts.split(',').filter_map(|count| count.split_once('='));
            let (_, count) = counts.find(|(at, _)| *at == name).expect("a count");
            count.parse().expect("a number")
        };
        assert_eq!(value("debug", "calls"), 1.0, "{:?}", server.kind());
        assert!(value("debug", "usec") >= 20_000.0 && value("debug", "usec_per_call") >= 20_000.0);
        assert_eq!((value("get", "calls"), value("get", "rejected_calls")), (0.0, 1.0));
    }
}

#[test]
fn the_slow_log_tells_what_took_long_and_no_secrets() {
    let text = |value: &Value| {
        String::from_utf8(value.text().expect("a text").to_vec()).expect("printable")
    };
    for server in [Server::oracle(&["--enable-debug-command", "yes"]), subject()] {
        let mut client = server.connect();
        client.ok("CLIENT SETNAME me");
        client.ok("SLOWLOG RESET");
        client.ok("DEBUG SLEEP 0.02");
        client.ok("GET k");
        let info = client.ok("CLIENT INFO");
        let info = String::from_utf8(info.text().expect("a text").to_vec()).expect("printable");
        let addr = info.split(' ').find_map(|field| field.strip_prefix("addr=")).expect("addr");
        let log = client.ok("SLOWLOG GET");
        let entries = log.value.items();
        // GET may have been held up for as long as that.
        let sleep = entries.last().expect("an entry").items();
        let args: Vec<String> = sleep[3].items().iter().map(text).collect();
        assert_eq!(args, ["DEBUG", "SLEEP", "0.02"], "{:?}", server.kind());
        assert_eq!((&*text(&sleep[4]), &*text(&sleep[5])), (addr, "me"));
        let took_us: u64 = text(&sleep[2]).parse().expect("microseconds");
        assert!(took_us >= 20_000, "{took_us}");

        client.ok("CONFIG SET slowlog-log-slower-than 0");
        client.ok("SLOWLOG RESET");
        client.ok("CONFIG SET requirepass sesame");
        client.ok("AUTH sesame");
        client.ok("HELLO 2 AUTH default sesame SETNAME you");
        client.ok("GET k");
        client.ok("CONFIG SET requirepass ''");
        let log = client.ok("SLOWLOG GET -1");
        let lines =
            log.value.items().iter().rev().map(|entry| {
                entry.items()[3].items().iter().map(text).collect::<Vec<_>>().join(" ")
            });
        let want = [
            "SLOWLOG RESET",
            "CONFIG SET requirepass (redacted)",
            "AUTH (redacted)",
            "HELLO 2 AUTH (redacted) (redacted) SETNAME you",
            "GET k",
            "CONFIG SET requirepass (redacted)",
        ];
        assert_eq!(lines.collect::<Vec<_>>(), want, "{:?}", server.kind());
    }
}

/// What COMMAND INFO says of a command, as far as both servers must agree.
#[derive(Debug, PartialEq, Eq)]
struct Fact {
    name: String,
    arity: String,
    flags: BTreeSet<String>,
    /// First key, last key, step.
    keys: [String; 3],
    categories: BTreeSet<String>,
}

fn facts(reply: &Reply) -> Vec<Fact> {
    let leaf = |value: &Value| String::from_utf8_lossy(value.text().unwrap_or(b"nil")).into_owned();
    let fact = |command: &Value| {
        let items = command.items();
        assert!(items.len() >= 7, "COMMAND INFO gives at least 7 items: {command:?}");
        Fact {
            name: leaf(&items[0]),
            arity: leaf(&items[1]),
            flags: items[2].items().iter().map(leaf).collect(),
            keys: [leaf(&items[3]), leaf(&items[4]), leaf(&items[5])],
            categories: items[6].items().iter().map(leaf).collect(),
        }
    };
    reply.value.items().iter().map(fact).collect()
}

#[test]
fn the_command_table_is_redis_s() {
    let (oracle, server) = (Server::oracle(&[]), subject());
    let (mut one, mut other) = (oracle.connect(), server.connect());
    let mut wrong = Vec::new();
    let ours = facts(&other.ok("COMMAND")).into_iter().map(|fact| fact.name);
    let names = ours.filter(|name| !name.starts_with("flint."));
    for name in names.chain(["client|pause", "client|unpause"].map(str::to_owned)) {
        let ask = format!("COMMAND INFO {name}");
        let (want, got) = (facts(&one.ok(&ask)), facts(&other.ok(&ask)));
        if want != got {
            wrong.push(format!("{name}\n  want {want:?}\n  got  {got:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let count = other.ok("COMMAND COUNT").integer().expect("a number");
    let listed = other.ok("COMMAND").value.items().len();
    assert_eq!(usize::try_from(count), Ok(listed), "COMMAND lists what COMMAND COUNT counts");
    let docs = other.ok("COMMAND DOCS get set");
    for word in ["summary", "since", "group", "complexity"] {
        let found = docs.raw.windows(word.len()).any(|window| window == word.as_bytes());
        assert!(found, "COMMAND DOCS has no {word}: {}", words::show(&docs.raw));
    }
}

/// What the libraries send before the user's first command, in one write.
const HANDSHAKES: &[(&str, &[&str])] = &[
    (
        "redis-py 8",
        &[
            "HELLO 3",
            "CLIENT MAINT_NOTIFICATIONS ON moving-endpoint-type internal-fqdn",
            "CLIENT SETNAME x",
            "CLIENT SETINFO LIB-NAME redis-py",
            "CLIENT SETINFO LIB-VER 8.1.0",
            "SELECT 2",
        ],
    ),
    (
        "ioredis 6",
        &[
            "hello 3",
            "select 1",
            "client setname x",
            "client SETINFO LIB-VER 6.0.0",
            "client SETINFO LIB-NAME ioredis",
            "info",
        ],
    ),
    (
        "node-redis 6",
        &[
            "HELLO 3",
            "SELECT 1",
            "CLIENT SETINFO LIB-NAME node-redis",
            "CLIENT SETINFO LIB-VER 6.3.1",
            "CLIENT MAINT_NOTIFICATIONS ON moving-endpoint-type external-ip",
        ],
    ),
    ("redis-cli", &["COMMAND DOCS"]),
    ("redis-benchmark", &["CONFIG GET save", "CONFIG GET appendonly"]),
];

#[test]
fn handshakes_of_the_libraries_succeed() {
    let server = subject();
    for (library, lines) in HANDSHAKES {
        let mut client = server.connect();
        let commands: Vec<_> =
            lines.iter().map(|line| words::split(line).expect("well quoted")).collect();
        for (line, reply) in lines.iter().zip(client.pipeline(&commands)) {
            let reply = reply.unwrap_or_else(|missing| panic!("{library}: {line}: {missing}"));
            // SETINFO came with 7.2; the libraries take a plain refusal of either.
            let unknown = reply.raw.starts_with(b"-ERR unknown subcommand '");
            let tolerated = line.contains("MAINT_NOTIFICATIONS")
                || (line.contains("SETINFO") && server.kind() == Kind::Redis);
            assert_eq!(unknown, tolerated, "{library}: {line}: {}", words::show(&reply.raw));
            assert!(unknown || !reply.is_error(), "{library}: {line}");
        }
        client.ok("PING");
    }
}

#[test]
fn hello_gives_the_map_clients_read() {
    let server = subject();
    let mut client = server.connect();
    let reply = client.ok("HELLO 3 SETNAME me");
    let Value::Pairs(b'%', pairs) = &reply.value else {
        panic!("a map: {}", words::show(&reply.raw));
    };
    let names: Vec<&[u8]> = pairs.iter().filter_map(|(name, _)| name.text()).collect();
    let want: [&[u8]; 7] = [b"server", b"version", b"proto", b"id", b"mode", b"role", b"modules"];
    assert_eq!(names, want);
    let texts: Vec<Option<&[u8]>> = pairs.iter().map(|(_, value)| value.text()).collect();
    assert_eq!(
        (texts[2], texts[4], texts[5]),
        (Some(&b"3"[..]), Some(&b"standalone"[..]), Some(&b"master"[..]))
    );
    let id = client.ok("CLIENT ID").integer().expect("a number");
    assert_eq!(texts[3], Some(id.to_string().as_bytes()));
    let flat = client.ok("HELLO 2");
    assert_eq!(flat.value.items().len(), 14, "{}", words::show(&flat.raw));
}

#[test]
fn client_list_tells_each_connection() {
    let server = subject();
    let mut client = server.connect();
    client.ok("CLIENT SETNAME first");
    let mut other = server.connect();
    other.ok("SELECT 3");
    other.ok("CLIENT SETNAME second");
    other.ok("MULTI");
    other.ok("PING");
    let reply = client.ok("CLIENT LIST");
    let text = String::from_utf8(reply.text().expect("a text").to_vec()).expect("text");
    let rows: Vec<BTreeMap<&str, &str>> = text
        .trim_start_matches("txt:")
        .lines()
        .map(|line| line.split(' ').filter_map(|field| field.split_once('=')).collect())
        .collect();
    assert_eq!(rows.len(), 2, "{text}");
    for row in &rows {
        for name in
            ["id", "addr", "laddr", "fd", "name", "age", "idle", "flags", "db", "multi", "cmd"]
        {
            assert!(row.contains_key(name), "{name} is missing in {text}");
        }
    }
    let row = |name: &str| rows.iter().find(|row| row["name"] == name).expect("its name is set");
    assert_eq!((row("first")["cmd"], row("first")["flags"]), ("client|list", "N"));
    let second = row("second");
    assert_eq!((second["db"], second["multi"], second["flags"]), ("3", "1", "x"));
    assert!(second["laddr"].ends_with(&format!(":{}", server.port())), "{text}");
    let address = second["addr"];
    client.ok(&format!("CLIENT KILL {address}"));
    let (_, closed) =
        other.read_to_close(std::time::Instant::now() + common::client::REPLY_DEADLINE);
    assert!(closed, "the killed connection is closed");
    let id = rows[0]["id"];
    let one = client.ok(&format!("CLIENT LIST ID {id}"));
    assert_eq!(one.raw.windows(3).filter(|window| window == b"id=").count(), 1);
}

#[test]
fn explain_tells_where_a_key_is() {
    if Kind::subject() == Kind::Redis {
        return;
    }
    let place = |client: &mut Client, key: &str| {
        let leaves = client.ok(&format!("FLINT.EXPLAIN {key}")).leaves();
        assert_eq!(leaves[0], b"where");
        String::from_utf8(leaves[1].clone()).expect("a word")
    };
    let server = Server::start(Kind::Flintlock, &["--store", "memory"]);
    let mut client = server.connect();
    client.ok("SET k v");
    assert_eq!(place(&mut client, "k"), "memory");
    assert_eq!(place(&mut client, "none"), "nowhere");

    let mut server = Server::start(Kind::Flintlock, &["--flush-delay-ms", "3600000"]);
    let mut client = server.connect();
    client.ok("SET k v");
    assert_eq!(place(&mut client, "k"), "memory, not yet on disk");
    client.ok("DEL k");
    assert_eq!(place(&mut client, "k"), "deleted, not yet on disk");
    client.ok("SET k v");
    assert!(server.terminate().success());
    server.restart();
    let mut client = server.connect();
    assert_eq!(place(&mut client, "k"), "on disk or nowhere");
    assert_eq!(place(&mut client, "k"), "on disk or nowhere", "asking loads nothing");
    client.ok("GET k");
    client.ok("GET none");
    assert_eq!(place(&mut client, "k"), "memory and disk");
    assert_eq!(place(&mut client, "none"), "known to be absent");
    assert!(client.run("FLINT.EXPLAIN").is_error());
}

/// docs/info.md names each field that redis-server does not have, and no other.
#[test]
fn the_page_about_info_names_what_there_is() {
    let fields = |server: &Server| -> BTreeSet<String> {
        let reply = server.connect().ok("INFO everything");
        let text = String::from_utf8_lossy(reply.text().expect("a text")).into_owned();
        text.lines().filter_map(|line| Some(line.split_once(':')?.0.to_owned())).collect()
    };
    let args = ["--io-threads", "2", "--io-threads-always-active", "yes"];
    let server = Server::start(Kind::Flintlock, &args);
    // The size of the disk comes with the first job of the engine.
    server.connect().ok("SAVE");
    let ours = fields(&server);
    let theirs = fields(&Server::oracle(&["--appendonly", "yes"]));
    let is_own = |name: &&String| {
        !theirs.contains(*name) && !name.starts_with("cmdstat_") && !name.starts_with("db")
    };
    let page = include_str!("../../../docs/info.md");
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.filter_map(|row| row.split('|').nth(1));
    let named: BTreeSet<_> = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
    let missing: Vec<_> =
        ours.iter().filter(is_own).filter(|n| !named.contains(n.as_str())).collect();
    assert!(missing.is_empty(), "not named: {missing:?}");
    let untrue: Vec<_> = named.iter().filter(|name| !ours.contains(**name)).collect();
    assert!(untrue.is_empty(), "named, and not there: {untrue:?}");
}
