//! CONFIG REWRITE: whole files beside redis-server, and what happens when writing fails.

use std::os::unix::fs::PermissionsExt as _;

use proptest::prelude::*;

use super::*;
use crate::args::{self, Invocation};
use crate::config::Sources;
use crate::util::oracle::{Answer, Oracle};

/// A file that both servers read; comments and order matter.
const FILE: &str = "\
# my server


port 0
  MaxMemory   100mb
maxmemory-policy allkeys-lru # not a comment
timeout 30
timeout 40
# in between
slave-priority 50
save 900 1
save 60 10
client-output-buffer-limit normal 1kb 2mb 3
client-output-buffer-limit replica 256mb 64mb 60
requirepass \"a b\\x01\"
loglevel notice
notify-keyspace-events \"KEA\"
hz 10
include more.conf
logfile ''
bind 127.0.0.1 -::1
latency-tracking-info-percentiles 50
oom-score-adj-values 0 200 800
tcp-keepalive 300
";

fn load(path: &Path) -> Config {
    let base = path.parent().expect("a directory");
    let Invocation::Serve(sources) = args::parse(&[path.into()], base) else {
        unreachable!("a file is a start")
    };
    Config::load(&sources, base, &mut io::empty()).expect("a valid file")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

/// The lines of `file`, without those that only one of the two servers writes.
fn comparable(file: &str, ignored: &[&str]) -> (Vec<String>, Vec<String>) {
    let kept = file.lines().filter(|line| !ignored.iter().any(|name| line.starts_with(name)));
    let lines: Vec<String> = kept.map(str::to_owned).collect();
    let signature = lines.iter().position(|line| line.as_bytes() == SIGNATURE);
    let (old, added) = lines.split_at(signature.unwrap_or(lines.len()));
    let mut added = added.to_vec();
    // What is appended has no order in Redis.
    added.sort();
    (old.to_vec(), added)
}

#[test]
fn files_are_rewritten_as_redis_rewrites_them() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().canonicalize().expect("a path").join("c.conf");
    let file = FILE.replace(" # not a comment", "");
    fs::write(path.with_file_name("more.conf"), "lfu-log-factor 7\n").expect("write");
    fs::write(&path, &file).expect("write");
    let included = path.with_file_name("more.conf");
    fs::write(&path, file.replace("more.conf", text(included.as_os_str().as_encoded_bytes())))
        .expect("write");
    let mut config = load(&path);
    let old = fs::read(&path).expect("the file");

    let changes = [
        "maxmemory",
        "200mb",
        "timeout",
        "0",
        "replica-priority",
        "60",
        "save",
        "1 2",
        "client-output-buffer-limit",
        "pubsub 1mb 0 0",
        "hash-max-listpack-entries",
        "7",
        "notify-keyspace-events",
        "",
        "appendfsync",
        "always",
        "proto-max-bulk-len",
        "1100000",
        "masterauth",
        "",
        "latency-tracking-info-percentiles",
        "",
        "maxmemory-clients",
        "5%",
        "shutdown-on-sigterm",
        "now force",
        "activerehashing",
        "no",
        "requirepass",
        "new \"pass\"",
    ];
    let Some(mut redis) = Oracle::start(&[text(path.as_os_str().as_encoded_bytes())]) else {
        return;
    };
    assert!(matches!(redis.command(&[b"AUTH", b"a b\x01"]), Answer::Status(_)));
    let pairs: Vec<_> = changes.iter().map(|word| word.as_bytes()).collect();
    let set = [[b"CONFIG".as_slice(), b"SET"].as_slice(), &pairs].concat();
    assert_eq!(redis.command(&set), Answer::Status("OK".to_owned()));
    config.stage(&pairs).expect("valid").commit(&mut config);

    let ours = config.rewrite(&old);
    assert_eq!(redis.command(&[b"CONFIG", b"REWRITE"]), Answer::Status("OK".to_owned()));
    let theirs = fs::read(&path).expect("the file of redis-server");
    // The oracle's own arguments, its users, and what we keep elsewhere.
    let ignored = ["user ", "unixsocket", "dir ", "appendonly", "save "];
    let (ours, theirs) = (text(&ours), text(&theirs));
    assert_eq!(comparable(ours, &ignored), comparable(theirs, &ignored));
    let saves = |file: &str| file.lines().filter(|line| line.starts_with("save ")).count();
    assert_eq!((saves(ours), saves(theirs)), (1, 1));
}

#[test]
fn a_rewritten_file_says_what_was_in_force() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().canonicalize().expect("a path").join("c.conf");
    fs::write(&path, FILE.replace(" # not a comment", "").replace("include more.conf", ""))
        .expect("write");
    let config = load(&path);
    config.rewrite_file().expect("the file can be replaced");
    let again = load(&path);
    assert_eq!(again.get(&[b"*"]), config.get(&[b"*"]));
    let once = fs::read(&path).expect("the file");
    again.rewrite_file().expect("the file can be replaced");
    assert_eq!(fs::read(&path).expect("the file"), once, "rewriting twice changes nothing more");
}

#[test]
fn comments_and_strange_lines_stay() {
    let config = Config { dir: "/data".into(), ..Config::default() };
    let old = "# a\n\n\n\nport 1\n\n\nport 2\nuser x on\nfrom-the-future 1\nhz \"1\n# b";
    let expected = "# a\n\nport 6379\n\nuser x on\n# ??? from-the-future 1\n# ??? hz \"1\n# b\n\n\
        # Generated by CONFIG REWRITE\ndir \"/data\"\nsave \"\"\n\
        latency-tracking-info-percentiles 50 99 99.9\n";
    let new = config.rewrite(old.as_bytes());
    assert_eq!(text(&new), expected);
    assert_eq!(text(&config.rewrite(&new)), expected);
    assert!(text(&config.rewrite(b"")).starts_with("\n# Generated by CONFIG REWRITE\ndir "));
}

#[test]
fn a_file_that_cannot_be_replaced_stays() {
    let config = Config::default();
    let error = config.rewrite_file().expect_err("there is no file");
    assert_eq!(error.to_string(), "The server is running without a config file");

    let dir = tempfile::tempdir().expect("temporary directory");
    let file = dir.path().join("missing/c.conf");
    let config = Config { file: Some(file), ..Config::default() };
    let error = config.rewrite_file().expect_err("the directory does not exist");
    assert_eq!(error.to_string(), "Rewriting config file: No such file or directory");

    // A directory in the place of the file: the new text is written, but cannot be renamed.
    let path = dir.path().join("d");
    fs::create_dir(&path).expect("directory");
    let error = replace_file(&path, b"text").expect_err("a directory is no file");
    assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
    let left: Vec<_> = fs::read_dir(dir.path()).expect("directory").collect();
    assert_eq!(left.len(), 1, "nothing is left behind");
}

#[test]
fn a_file_that_nobody_else_reads_stays_so() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("c.conf");
    fs::write(&path, "old").expect("write");
    for mode in [0o600, 0o640, 0o666] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("permissions");
        // What a crash left in the way.
        let stale = dir.path().join(format!("c.conf.{}", std::process::id()));
        fs::write(&stale, "longer than the new text").expect("write");
        replace_file(&path, b"new").expect("replaced");
        assert_eq!(fs::read(&path).expect("the file"), b"new");
        let metadata = fs::metadata(&path).expect("the file");
        assert_eq!(metadata.permissions().mode() & 0o777, mode);
        assert!(!stale.exists());
    }
}

/// Lines that are right, wrong, or nonsense.
fn any_line() -> impl Strategy<Value = String> {
    let names: Vec<_> = rows().flat_map(|row| [Some(row.name), row.alias]).flatten().collect();
    let values = [
        "yes",
        "no",
        "0",
        "1",
        "5",
        "100",
        "1kb",
        "64mb",
        "10%",
        "auto",
        "900 1",
        "AKE",
        "\"\"",
        "\"a b\\x00\\\"\"",
        "'x'",
        "normal 1kb 2 3",
        "allkeys-lru",
        "always",
        "50 99.9",
        "1 2 3",
        "now force",
        "notice",
        "host 1",
        "no one",
        "fjall",
        "-1",
        "\"",
        "#",
    ];
    let setting = (prop::sample::select(names), prop::sample::select(values.to_vec()));
    prop_oneof![
        8 => setting.prop_map(|(name, value)| format!("{name} {value}")),
        1 => "[ -~]{0,12}",
        1 => Just("# comment".to_owned()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]
    #[test]
    fn whatever_is_loaded_survives_a_rewrite(lines in prop::collection::vec(any_line(), 1..8)) {
        // A log file that is named is created.
        let dir = tempfile::tempdir().expect("temporary directory");
        let base = dir.path().canonicalize().expect("a path");
        // One line at a time, so that a wrong one does not hide the others.
        let mut text = String::new();
        for line in lines {
            let longer = format!("{text}{line}\n");
            let sources = Sources { options: longer.clone().into_bytes(), ..Sources::default() };
            if Config::load(&sources, &base, &mut io::empty()).is_ok() {
                text = longer;
            }
        }
        let load = |text: &[u8]| {
            let sources = Sources { options: text.to_vec(), ..Sources::default() };
            Config::load(&sources, &base, &mut io::empty()).expect("it was loaded before")
        };
        let config = load(text.as_bytes());
        let rewritten = config.rewrite(text.as_bytes());
        let again = load(&rewritten);
        prop_assert_eq!(again.get(&[b"*"]), config.get(&[b"*"]), "from {:?}", text);
        let twice = again.rewrite(&rewritten);
        prop_assert_eq!(String::from_utf8_lossy(&twice), String::from_utf8_lossy(&rewritten));
    }
}
