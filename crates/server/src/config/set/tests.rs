//! CONFIG GET and CONFIG SET, beside redis-server.

use std::collections::BTreeSet;

use super::*;
use crate::config::{EvictionPolicy, Fsync, NotifyFlags};
use crate::util::oracle::{Answer, Oracle};

/// CONFIG SET with these words, as the reply a client would see.
fn set(config: &mut Config, arguments: &[&str]) -> Answer {
    let arguments: Vec<_> = arguments.iter().map(|argument| argument.as_bytes()).collect();
    match config.stage(&arguments) {
        Ok(staged) => {
            staged.commit(config);
            Answer::Status("OK".to_owned())
        }
        Err(error) => Answer::Error(format!("ERR {error}")),
    }
}

fn set_there(redis: &mut Oracle, arguments: &[&str]) -> Answer {
    let head = [b"CONFIG".as_slice(), b"SET"].into_iter();
    redis.command(&head.chain(arguments.iter().map(|word| word.as_bytes())).collect::<Vec<_>>())
}

/// Answered alike, and afterwards CONFIG GET shows the same for every name concerned.
const ALIKE: &[&[&str]] = &[
    &["maxmemory", "1kb"],
    &["MAXMEMORY", "2G"],
    &["maxmemory", "x"],
    &["maxmemory", "-1"],
    &["maxmemory", "10%"],
    &["maxmemory-clients", "10%"],
    &["maxmemory-clients", "101%"],
    &["maxmemory-clients", "5mb"],
    &["maxmemory-policy", "allkeys-LRU"],
    &["maxmemory-policy", "none"],
    &["maxmemory-samples", "0"],
    &["maxmemory-samples", "10"],
    &["hz", "100"],
    &["hz", "100000"],
    &["hz", "0"],
    &["hz", "-1"],
    &["timeout", "10", "tcp-keepalive", "20"],
    &["timeout", "11", "tcp-keepalive", "x"],
    &["timeout", "12", "nosuch", "1", "databases", "x"],
    &["databases", "1", "nosuch", "1"],
    &["nosuch", "1", "databases", "1"],
    &["timeout", "13", "TimeOut", "14"],
    &["timeout", "15", "databases", "1"],
    &["slave-priority", "5", "replica-priority", "6"],
    &["slave-priority", "x"],
    &["timeout", "1", "timeout"],
    &["dir", "/tmp"],
    &["dbfilename", "x.rdb"],
    &["daemonize", "yes"],
    &["logfile", "x"],
    &["requirepass", ""],
    &["protected-mode", "maybe"],
    &["protected-mode", "NO"],
    &["save", "900 1 60 100"],
    &["save", "900 1 60"],
    &["save", "900  1"],
    &["save", " 900 1"],
    &["save", "'900' 1"],
    &["save", ""],
    &["client-output-buffer-limit", "normal 1mb 2kb 3"],
    &["client-output-buffer-limit", "slave 1 2 3 pubsub 4 5 6"],
    &["client-output-buffer-limit", "normal 1 2 3 nobody 1 2 3"],
    &["client-output-buffer-limit", "normal 1 2"],
    &["client-output-buffer-limit", "normal 1 2 -3"],
    &["client-output-buffer-limit", ""],
    &["notify-keyspace-events", "KEA"],
    &["notify-keyspace-events", "gxE$"],
    &["notify-keyspace-events", "?"],
    &["notify-keyspace-events", ""],
    &["oom-score-adj-values", "1 2 3"],
    &["oom-score-adj-values", "1 2"],
    &["latency-tracking-info-percentiles", "50 99.99 100"],
    &["latency-tracking-info-percentiles", "50 101"],
    &["latency-tracking-info-percentiles", "x"],
    &["latency-tracking-info-percentiles", ""],
    &["shutdown-on-sigterm", "now force"],
    &["shutdown-on-sigterm", "save nosave"],
    &["shutdown-on-sigterm", "default now"],
    &["shutdown-on-sigterm", ""],
    &["appendfsync", "always"],
    &["appendfsync", "sometimes"],
    &["loglevel", "verbose"],
    &["proto-max-bulk-len", "1mb"],
    &["proto-max-bulk-len", "1048575"],
    &["hash-max-ziplist-entries", "7"],
    &["hash-max-listpack-value", "1kb"],
    &["list-max-ziplist-size", "-5"],
    &["zset-max-listpack-entries", "-1"],
    &["set-max-intset-entries", "1000"],
    &["lua-time-limit", "100"],
    &["slowlog-log-slower-than", "-1"],
    &["slowlog-log-slower-than", "-2"],
    &["latency-tracking", "no"],
    &["maxclients", "0"],
    &["active-expire-effort", "0"],
    &["lfu-log-factor", "1", "lfu-decay-time", "2"],
    &["repl-backlog-size", "0"],
    &["tls-session-caching", "2"],
    &["nosuch", "1"],
    &["no'such\r\n", "1"],
];

#[test]
fn answers_are_those_of_redis() {
    let Some(mut redis) = Oracle::start(&[]) else { return };
    let mut config = Config::default();
    for arguments in ALIKE {
        let before = config.clone();
        let (ours, theirs) = (set(&mut config, arguments), set_there(&mut redis, arguments));
        let ours = match ours {
            // Line ends are taken out by whoever writes the reply.
            Answer::Error(text) => Answer::Error(text.replace(['\r', '\n'], " ")),
            other => other,
        };
        assert_eq!(ours, theirs, "{arguments:?}");
        if matches!(ours, Answer::Error(_)) {
            assert_eq!(config, before, "{arguments:?}: refused and yet changed");
        }
        for name in arguments.iter().step_by(2).filter(|name| **name != "dir") {
            let ours = config.get(&[name.as_bytes()]);
            let ours: Vec<_> = ours.into_iter().flat_map(|(n, v)| [n.into_owned(), v]).collect();
            let theirs = redis.command(&[b"CONFIG", b"GET", name.as_bytes()]).into_array();
            assert_eq!(ours, theirs, "{arguments:?}");
        }
    }
}

#[test]
fn names_shown_are_those_of_redis() {
    let Some(mut redis) = Oracle::start(&[]) else { return };
    let config = Config::default();
    let names = |pairs: &[Vec<u8>]| -> BTreeSet<String> {
        pairs.iter().step_by(2).map(|name| String::from_utf8_lossy(name).into_owned()).collect()
    };
    // What only we have: later releases of Redis, and our own.
    let ours_only = [
        "set-max-listpack-",
        "io-threads-always",
        "io-threads-cpulist",
        "server-cpulist",
        "events-per",
        "store",
        "journal",
        "flush-delay",
        "disk-min",
        "storage-",
        "nap-max",
    ];
    let cases: &[&[&str]] = &[
        &["maxmemory"],
        &["MaxMemory", "maxmemory", "max*"],
        &["*max-*-entries"],
        &["*slave*", "replica-priority"],
        &["s[al]*e?"],
        &["SAVE", "appendonly"],
        &["nosuch", "nosuch*"],
        &["*[*"],
        &["\\save"],
        &["\\sav?"],
        &["*"],
        &[""],
    ];
    for patterns in cases {
        let patterns: Vec<_> = patterns.iter().map(|pattern| pattern.as_bytes()).collect();
        let words = [[b"CONFIG".as_slice(), b"GET"].as_slice(), &patterns].concat();
        let theirs = names(&redis.command(&words).into_array());
        let ours = config.get(&patterns).into_iter().flat_map(|(n, v)| [n.into_owned(), v]);
        let mut ours = names(&ours.collect::<Vec<_>>());
        ours.retain(|name| !ours_only.iter().any(|known| name.starts_with(known)));
        assert_eq!(ours, theirs, "{patterns:?}");
    }
}

#[test]
fn a_refused_pair_leaves_the_others_undone() {
    let mut config = Config::default();
    let before = config.clone();
    let answer = set(&mut config, &["maxmemory", "1gb", "hz", "50", "appendfsync", "x"]);
    assert!(matches!(answer, Answer::Error(_)));
    assert_eq!(config, before);

    let staged = config.stage(&[b"maxmemory", b"1gb", b"hz", b"50"]).expect("valid");
    assert_eq!(config, before, "staging changes nothing");
    assert_eq!((staged.config().maxmemory_bytes, staged.config().hz), (1 << 30, 50));
    drop(staged);
    assert_eq!(config, before);
}

#[test]
fn what_is_not_served_is_refused_at_run_time_too() {
    let mut config = Config::default();
    let before = config.clone();
    let failed = |name: &str, reason: &str| {
        let head = "ERR CONFIG SET failed (possibly related to argument";
        Answer::Error(format!("{head} '{name}') - {reason}"))
    };
    let answer = set(&mut config, &["timeout", "9", "tls-port", "1"]);
    assert_eq!(answer, failed("tls-port", "TLS is not served"));
    let answer = set(&mut config, &["min-slaves-to-write", "1"]);
    assert_eq!(answer, failed("min-replicas-to-write", "replication is not served"));
    assert_eq!(config, before);
    assert_eq!(set(&mut config, &["tls-port", "0"]), Answer::Status("OK".to_owned()));
}

#[test]
fn appendonly_reports_what_the_store_does() {
    let shown = |config: &Config| config.get(&[b"appendonly"])[0].1.clone();
    let mut config = Config::default();
    assert_eq!(shown(&config), b"yes");
    assert_eq!(set(&mut config, &["appendonly", "no"]), Answer::Status("OK".to_owned()));
    assert_eq!(shown(&config), b"yes", "the journal of the store stays");
    config = Config { store: crate::config::StoreKind::Memory, ..Config::default() };
    assert_eq!(shown(&config), b"no");
    assert!(matches!(set(&mut config, &["appendonly", "yes"]), Answer::Error(_)));
    assert_eq!(set(&mut config, &["appendonly", "no"]), Answer::Status("OK".to_owned()));
}

#[test]
fn changed_values_reach_their_fields() {
    let mut config = Config::default();
    let pairs = [
        "maxmemory-policy",
        "volatile-ttl",
        "appendfsync",
        "no",
        "requirepass",
        "p w",
        "notify-keyspace-events",
        "Kx",
        "slowlog-max-len",
        "5",
    ];
    assert_eq!(set(&mut config, &pairs), Answer::Status("OK".to_owned()));
    assert_eq!(config.maxmemory_policy, EvictionPolicy::VolatileTtl);
    assert_eq!((config.appendfsync, config.slowlog_max_len), (Fsync::No, 5));
    assert_eq!(config.requirepass.expose(), b"p w");
    assert!(config.notify_keyspace_events.intersects(NotifyFlags::EXPIRED));
}

#[test]
fn the_error_of_a_caller_has_the_same_form() {
    let error = SetError::refused("maxclients", "try with 10".to_owned());
    let expected = "CONFIG SET failed (possibly related to argument 'maxclients') - try with 10";
    assert_eq!(error.to_string(), expected);
    assert_eq!(
        SetError::Unknown { name: b"\xff".to_vec() }.message().last_chunk(),
        Some(b"'\xff'")
    );
}
