//! Loading: errors against redis-server, includes, classes of directives.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;

use super::*;
use crate::args::{self, Invocation};
use crate::config::{EvictionPolicy, Fsync, OutputLimit, StoreKind, Threads};
use crate::util::oracle;

/// Loads what the arguments say, in a fresh directory.
fn load(arguments: &[&str]) -> Result<Config, LoadError> {
    let dir = tempfile::tempdir().expect("temporary directory");
    load_in(dir.path(), arguments, "")
}

fn load_in(dir: &Path, arguments: &[&str], stdin: &str) -> Result<Config, LoadError> {
    let arguments: Vec<_> = arguments.iter().map(Into::into).collect();
    let Invocation::Serve(sources) = args::parse(&arguments, dir) else {
        panic!("not a start: {arguments:?}")
    };
    Config::load(&sources, dir, &mut stdin.as_bytes())
}

fn load_text(text: &str) -> Result<Config, LoadError> {
    let dir = tempfile::tempdir().expect("temporary directory");
    load_in(dir.path(), &["-"], text)
}

/// The reason and the line of a refusal.
fn refusal(result: Result<Config, LoadError>) -> (usize, String) {
    match result {
        Err(LoadError::Line { number, reason, .. }) => (number, reason),
        other => panic!("expected a refused line, got {other:?}"),
    }
}

/// What redis-server refuses, and why, byte for byte.
const REFUSED_ALIKE: &[&[&str]] = &[
    &["--port", "abc"],
    &["--port", "70000"],
    &["--port", "-1"],
    &["--port", " 1"],
    &["--port"],
    &["--port", "1", "2"],
    &["--PORT", "x"],
    &["--hz", "5", "--porrt", "1"],
    &["-x"],
    &["--no-such", "x", "--port"],
    &["--maxmemory", "1x"],
    &["--maxmemory", "10%"],
    &["--maxmemory", "-1"],
    &["--maxmemory", "1tb"],
    &["--maxmemory-clients", "200%"],
    &["--maxmemory-clients", "x"],
    &["--maxmemory-policy", "lru"],
    &["--maxmemory-samples", "0"],
    &["--appendonly", "maybe"],
    &["--appendfsync", "often"],
    &["--appendfilename", ""],
    &["--appendfilename", "a/b"],
    &["--appenddirname", ""],
    &["--appenddirname", "a/b"],
    &["--dbfilename", "../x"],
    &["--loglevel", "loud"],
    &["--save", "10"],
    &["--save", "0 10"],
    &["--save", "x", "y"],
    &["--save 900 1 300"],
    &[
        "--bind", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15",
        "16", "17",
    ],
    &["--client-output-buffer-limit", "normal", "1", "2"],
    &["--client-output-buffer-limit", "master", "1", "2", "3"],
    &["--client-output-buffer-limit", "normal", "x", "2", "3"],
    &["--client-output-buffer-limit", "normal 1kb 2 -3"],
    &["--dir", "/nonexistent"],
    &["--dir", "/etc/passwd"],
    &["--dir"],
    &["--hz", "abc"],
    &["--hz", "99999999999"],
    &["--proto-max-bulk-len", "1"],
    &["--client-query-buffer-limit", "1kb"],
    &["--tcp-keepalive", "-1"],
    &["--notify-keyspace-events", "Q"],
    &["--notify-keyspace-events", "A", "K"],
    &["--unixsocketperm", "999"],
    &["--unixsocketperm", "1000"],
    &["--oom-score-adj-values", "1 2"],
    &["--oom-score-adj-values", "1 2 3000"],
    &["--latency-tracking-info-percentiles", "50 x"],
    &["--latency-tracking-info-percentiles", "101"],
    &["--shutdown-on-sigterm", "save nosave"],
    &["--shutdown-on-sigterm", "quickly"],
    &["--replicaof", "host"],
    &["--replicaof", "host", "port"],
    &["--replicaof", "no", "70000"],
    &["--active-expire-effort", "11"],
    &["--list-max-listpack-size", "99999999999"],
    &["--requirepass", "a", "b"],
    &["--port", "a\nb"],
    &["--port", "a\"b"],
    &["--port 1\nhz x"],
    &["--port \"1"],
    &["--include"],
    &["--loadmodule"],
    &["--rename-command", "a"],
    &["--logfile", "/nonexistent/log"],
    &["--list-max-ziplist-value", "1", "2"],
];

#[test]
fn refusals_are_those_of_redis() {
    for arguments in REFUSED_ALIKE {
        let Some((status, theirs)) = oracle::refusal(arguments) else { return };
        assert_eq!(status, Some(1), "{arguments:?}: redis-server takes it");
        let ours = load(arguments).expect_err(&format!("{arguments:?}: {theirs}"));
        let ours = format!("{ours}\n");
        let product = format!("Flintlock {}", env!("CARGO_PKG_VERSION"));
        assert_eq!(ours.replace(&product, "Redis 7.0.15"), theirs, "{arguments:?}");
    }
}

#[test]
fn ranges_of_our_own_name_their_bounds() {
    let cases = [
        ("io-threads 0", "argument must be 'auto' or between 1 and 256 inclusive"),
        ("io-threads 257", "argument must be 'auto' or between 1 and 256 inclusive"),
        ("io-threads many", "argument must be 'auto' or between 1 and 256 inclusive"),
        ("databases 0", "argument must be between 1 and 65536 inclusive"),
        ("store disk", "argument(s) must be one of the following: fjall, memory"),
        ("journal-sync-ms 1", "argument must be between 10 and 60000 inclusive"),
        ("maxmemory kb", "argument must be a memory value"),
        ("maxmemory 99999999999gb", "argument must be a memory value"),
    ];
    for (line, reason) in cases {
        assert_eq!(refusal(load_text(&format!("\n# a\n{line}"))), (3, reason.to_owned()));
    }
}

#[test]
fn what_is_not_served_is_refused_with_a_reason() {
    let cases = [
        ("daemonize yes", "does not put itself into the background"),
        ("supervised systemd", "does not speak to a supervisor"),
        ("unixsocket /tmp/x.sock", "unix sockets are not served"),
        ("cluster-enabled yes", "cluster mode is not served"),
        ("replicaof 127.0.0.1 6380", "replication is not served"),
        ("slaveof 127.0.0.1 6380", "replication is not served"),
        ("min-replicas-to-write 1", "replication is not served"),
        ("tls-port 6380", "TLS is not served"),
        ("aclfile users.acl", "ACL files are not served"),
        ("enable-protected-configs yes", "stay as they are"),
        ("loadmodule /lib/x.so", "modules are not served"),
        ("rename-command FLUSHALL \"\"", "renaming commands is not served"),
        ("user alice on >x ~* +@all", "ACL rules are not served"),
        ("sentinel", "Sentinel mode is not served"),
        ("appendonly yes\nstore memory", "appendonly needs a store on disk"),
    ];
    for (line, reason) in cases {
        let (number, text) = refusal(load_text(line));
        assert!(number == 1 && text.contains(reason), "{line}: {text}");
    }
}

#[test]
fn a_promise_taken_back_later_is_fine() {
    let config = load(&["--daemonize", "yes", "--daemonize", "no"]).expect("the last one counts");
    assert_eq!(config, Config { dir: config.dir.clone(), ..config.clone() });
    let lines = "replicaof a 1\nreplicaof no one\ntls-port 1\ntls-port 0\nstore memory";
    assert_eq!(load_text(lines).expect("defaults in the end").store, StoreKind::Memory);
    let (number, _) = refusal(load_text("daemonize yes\nport 1\ndaemonize yes\nport 2"));
    assert_eq!(number, 3, "the line that counts is named");
}

#[test]
fn values_reach_their_fields() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let real = dir.path().canonicalize().expect("a path");
    fs::create_dir(real.join("data")).expect("directory");
    fs::write(real.join("c"), "port 1\n  MAXMEMORY  1gb \r\ndir data\n# port 3").expect("write");
    let arguments = [
        "c",
        "--port",
        "0",
        "--bind",
        "* -::*",
        "--requirepass",
        "--a b",
        "--hz",
        "9999",
        "--maxmemory-policy",
        "AllKeys-LFU",
        "--io-threads",
        "4",
        "--appendfsync",
        "always",
        "--client-output-buffer-limit",
        "replica",
        "1kb",
        "2",
        "3",
        "--logfile",
        "f.log",
        "-",
    ];
    let config = load_in(&real, &arguments, "timeout 7\nhz 20").expect("valid");
    assert_eq!((config.port, config.timeout_s, config.hz), (0, 7, Config::HZ_MAX));
    assert_eq!(config.maxmemory_bytes, 1 << 30);
    assert_eq!(config.maxmemory_policy, EvictionPolicy::AllkeysLfu);
    assert_eq!(config.appendfsync, Fsync::Always);
    assert_eq!(config.requirepass.expose(), b"--a b");
    assert_eq!(config.io_threads, Threads::Fixed(4.try_into().expect("not zero")));
    assert_eq!(config.file, Some(real.join("c")));
    assert_eq!(config.dir, real.join("data"));
    assert!(real.join("data/f.log").exists(), "a log file that is named is created");
    let bind: Vec<_> = config.bind.iter().map(ToString::to_string).collect();
    assert_eq!(bind, ["*", "-::*"]);
    let limits = config.client_output_buffer_limit;
    let replica = OutputLimit { hard_bytes: 1024, soft_bytes: 2, soft_seconds: 3 };
    assert_eq!(limits.replica, replica);
    assert_eq!(limits.pubsub, Config::default().client_output_buffer_limit.pubsub);
}

#[test]
fn save_lines_add_up_and_the_first_one_starts_anew() {
    let cases = [
        ("save 900 1\nsave 60 100", "900 1 60 100"),
        ("save \"900 1 60 100\"", "900 1 60 100"),
        ("save 900 1\nsave \"\"", ""),
        ("save 900 1\nsave \"\"\nsave 5 6", "5 6"),
        ("save", ""),
    ];
    for (text, expected) in cases {
        let config = load_text(text).expect(text);
        let answer = config.get(&[b"save"]);
        let shown = String::from_utf8_lossy(&answer[0].1);
        assert_eq!(shown, expected, "{text}");
    }
}

#[test]
fn unused_directives_are_named_once() {
    let text = "rdbcompression no\nrdbchecksum yes\nslave-priority 1\nappendonly no\nport 1";
    let mut config = load_text(text).expect("valid");
    assert_eq!(config.take_unused(), ["rdbcompression", "replica-priority", "appendonly"]);
    assert!(config.take_unused().is_empty());
    let staged = config.stage(&[b"replica-priority", b"2", b"repl-timeout", b"9"]).expect("valid");
    staged.commit(&mut config);
    assert_eq!(config.take_unused(), ["repl-timeout"]);
}

#[test]
fn a_stock_file_of_redis_is_taken() {
    let stock = include_str!("stock.conf");
    let mut config = load_text(stock).expect("the defaults of Redis are served");
    // Its defaults are ours, but for the append-only file: our store always has a journal.
    assert_eq!(config.take_unused(), ["appendonly"]);
}

#[test]
fn included_files_are_read_in_place() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("conf.d")).expect("directory");
    fs::write(at("conf.d/20.conf"), "hz 20\ntimeout 20").expect("write");
    fs::write(at("conf.d/10.conf"), "hz 10\nport 10").expect("write");
    fs::write(at("conf.d/.hidden.conf"), "hz 99").expect("write");
    fs::write(at("a.conf"), "include conf.d/*.conf\ninclude none/*.conf\ntimeout 1")
        .expect("write");
    let config = load_in(dir.path(), &["a.conf"], "").expect("valid");
    assert_eq!((config.hz, config.port, config.timeout_s), (20, 10, 1));

    fs::write(at("conf.d/20.conf"), "\nhz x").expect("write");
    let error = load_in(dir.path(), &["a.conf"], "").expect_err("the included line is wrong");
    assert!(matches!(&error, LoadError::Line { number: 2, text, .. } if text == b"hz x"));
    assert_eq!(fs::read(at("conf.d/20.conf")).expect("unchanged"), b"\nhz x");
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let expected = "Fatal error, can't open config file '/nonexistent': No such file or directory";
    for arguments in [["/nonexistent", "--hz"], ["--include", "/nonexistent"]] {
        let error = load_in(dir.path(), &arguments[..], "").expect_err("no such file");
        assert!(matches!(error, LoadError::Open { .. }));
        assert_eq!(error.to_string(), expected);
    }
    let error = load_in(dir.path(), &["."], "").expect_err("a directory");
    assert!(error.to_string().ends_with("Is a directory"), "{error}");
}

#[test]
fn including_is_bounded() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let at = |name: &str| dir.path().join(name);
    fs::write(at("self.conf"), "include self.conf").expect("write");
    let (_, reason) = refusal(load_in(dir.path(), &["self.conf"], ""));
    assert_eq!(reason, "Files are included more than 16 deep");

    // Each level includes the next one many times: without a bound, 200^16 files.
    for level in 0..15 {
        let next = format!("include {}.conf\n", level + 1).repeat(200);
        fs::write(at(&format!("{level}.conf")), next).expect("write");
    }
    fs::write(at("15.conf"), "").expect("write");
    let (_, reason) = refusal(load_in(dir.path(), &["0.conf"], ""));
    assert_eq!(reason, "More than 1024 files are included");

    let large = File::create(at("large.conf")).expect("create");
    large.set_len(TEXT_LEN_MAX + 1).expect("a sparse file");
    let error = load_in(dir.path(), &["large.conf"], "").expect_err("too large");
    assert!(error.to_string().ends_with("it is larger than 16 MiB"), "{error}");
}

#[test]
fn lines_may_hold_any_bytes() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let text = b"requirepass \xff\x00\xfe\nmasterauth \"\\x00\\xff\"";
    let sources = Sources { stdin: true, ..Sources::default() };
    let config = Config::load(&sources, dir.path(), &mut text.as_slice()).expect("valid");
    assert_eq!(config.requirepass.expose(), b"\xff\x00\xfe");
    assert_eq!(config.get(&[b"masterauth"])[0].1, b"\x00\xff");
    let path = config.dir.as_os_str().as_bytes();
    assert_eq!(config.get(&[b"dir"])[0].1, path);
}

/// In a file it would open every later start too, whatever is missing then.
#[test]
fn a_loss_is_accepted_for_one_start_only() {
    let (_, reason) = refusal(load_text("store-accept-loss yes"));
    assert!(reason.contains("as an argument"), "{reason}");
    assert!(load(&["--store-accept-loss", "yes"]).expect("an argument").store_accept_loss);
    let dir = tempfile::tempdir().expect("temporary directory");
    fs::write(dir.path().join("f.conf"), "port 1\n").expect("a file");
    let path = dir.path().join("f.conf").to_string_lossy().into_owned();
    let arguments = [path.as_str(), "--store-accept-loss", "yes"];
    assert!(load_in(dir.path(), &arguments, "").expect("a file besides").store_accept_loss);
    fs::write(dir.path().join("f.conf"), "port 1\nstore-accept-loss yes").expect("a file");
    assert_eq!(refusal(load_in(dir.path(), &arguments, "")).0, 2, "also when both say it");
}
