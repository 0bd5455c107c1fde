//! Rows that are kept and reported but change nothing, and rows of which only the default is
//! served. Data only.

use super::super::row::{Directive, Reason, Store};
use super::super::syntax::{Empty, Layout, Syntax};
use super::super::words as read;
use super::{INT_MAX, TEXT, TEXT_OR_EMPTY, int, memory, noted, row, words};

const NO_CLUSTER: &str = "cluster mode is not served";
const NO_REPLICATION: &str = "replication is not served";
const NO_TLS: &str = "TLS is not served";

const LONG_MAX: u64 = i64::MAX.cast_unsigned();
const YES_NO: Syntax = Syntax::Bool;
const COUNT: Syntax = int(0, INT_MAX);
const GUARD: Syntax = Syntax::Choice(&["no", "yes", "local"]);

/// A name of which only the default is served.
const fn refused(
    name: &'static str,
    syntax: Syntax,
    default: &'static str,
    reason: &'static str,
) -> Directive {
    row(name, syntax, Store::Passive(default)).only_default(reason)
}

pub(super) static ROWS: &[Directive] = &[
    // Snapshots of Redis; what is kept here is what tools read.
    noted("save", words(read::save, Layout::Pairs), ""),
    noted("stop-writes-on-bgsave-error", YES_NO, "yes"),
    noted("rdbcompression", YES_NO, "yes"),
    noted("rdbchecksum", YES_NO, "yes").start_only(),
    noted("rdb-del-sync-files", YES_NO, "no"),
    noted("rdb-save-incremental-fsync", YES_NO, "yes"),
    noted("dbfilename", file(dump_file), "dump.rdb").protected(),
    noted("sanitize-dump-payload", Syntax::Choice(&["no", "yes", "clients"]), "no"),
    // The append-only file of Redis: ours is the journal.
    noted("appendfilename", file(append_file), "appendonly.aof").start_only(),
    noted("appenddirname", file(append_dir), "appendonlydir").start_only(),
    noted("no-appendfsync-on-rewrite", YES_NO, "no"),
    noted("auto-aof-rewrite-percentage", COUNT, "100"),
    noted("auto-aof-rewrite-min-size", memory(0, LONG_MAX), "64mb"),
    noted("aof-load-truncated", YES_NO, "yes"),
    noted("aof-use-rdb-preamble", YES_NO, "yes"),
    noted("aof-timestamp-enabled", YES_NO, "no"),
    noted("aof-rewrite-incremental-fsync", YES_NO, "yes"),
    noted("aof-disable-auto-gc", YES_NO, "no"),
    // Freeing and defragmentation: values are always freed without blocking clients.
    noted("lazyfree-lazy-eviction", YES_NO, "no"),
    noted("lazyfree-lazy-expire", YES_NO, "no"),
    noted("lazyfree-lazy-server-del", YES_NO, "no"),
    noted("lazyfree-lazy-user-del", YES_NO, "no"),
    noted("lazyfree-lazy-user-flush", YES_NO, "no"),
    noted("activerehashing", YES_NO, "yes"),
    noted("activedefrag", YES_NO, "no"),
    noted("active-defrag-cycle-min", int(1, 99), "1"),
    noted("active-defrag-cycle-max", int(1, 99), "25"),
    noted("active-defrag-threshold-lower", int(0, 1000), "10"),
    noted("active-defrag-threshold-upper", int(0, 1000), "100"),
    noted("active-defrag-max-scan-fields", int(1, i64::MAX), "1000"),
    noted("active-defrag-ignore-bytes", memory(1, LONG_MAX), "100mb"),
    noted("jemalloc-bg-thread", YES_NO, "yes"),
    noted("maxmemory-eviction-tenacity", int(0, 100), "10"),
    // Encodings that this server does not have, or that need no limit here. The entries and
    // value of small sets are of Redis 7.2.
    noted("set-max-listpack-entries", int(0, i64::MAX), "128"),
    noted("set-max-listpack-value", memory(0, LONG_MAX), "64"),
    noted("list-compress-depth", COUNT, "0"),
    noted("hll-sparse-max-bytes", memory(0, LONG_MAX), "3000"),
    noted("stream-node-max-bytes", memory(0, LONG_MAX), "4096"),
    noted("stream-node-max-entries", int(0, i64::MAX), "100"),
    noted("tracking-table-max-keys", int(0, i64::MAX), "1000000"),
    // Threads. `events-per-io-thread` is of Valkey.
    noted("io-threads-do-reads", YES_NO, "no").start_only(),
    noted("events-per-io-thread", COUNT, "2"),
    noted("dynamic-hz", YES_NO, "yes"),
    noted("bio_cpulist", TEXT, "").start_only(),
    noted("aof_rewrite_cpulist", TEXT, "").start_only(),
    noted("bgsave_cpulist", TEXT, "").start_only(),
    // The process.
    refused(
        "supervised",
        Syntax::Choice(&["upstart", "systemd", "auto", "no"]),
        "no",
        "the server does not speak to a supervisor yet: use 'supervised no' and a service of \
         type simple",
    )
    .start_only(),
    noted("set-proc-title", YES_NO, "yes").start_only(),
    noted("proc-title-template", TEXT_OR_EMPTY, "{title} {listen-addr} {server-mode}"),
    noted("syslog-enabled", YES_NO, "no").start_only(),
    noted("syslog-ident", TEXT_OR_EMPTY, "redis").start_only(),
    noted(
        "syslog-facility",
        Syntax::Choice(&[
            "user", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
        ]),
        "local0",
    )
    .start_only(),
    noted("crash-log-enabled", YES_NO, "yes"),
    noted("crash-memcheck-enabled", YES_NO, "yes"),
    noted("ignore-warnings", TEXT_OR_EMPTY, ""),
    noted("oom-score-adj", Syntax::Choice(&["no", "yes", "relative", "absolute"]), "no"),
    noted("oom-score-adj-values", words(read::oom_scores, Layout::Line), "0 200 800"),
    noted(
        "latency-tracking-info-percentiles",
        words(read::percentiles, Layout::ForcedLine),
        "50 99 99.9",
    ),
    noted("propagation-error-behavior", PROPAGATION, "ignore"),
    // Network.
    refused("unixsocket", TEXT, "", "unix sockets are not served").start_only(),
    noted("unixsocketperm", Syntax::Octal { max: 0o777 }, "0").start_only(),
    noted("socket-mark-id", int(0, u32::MAX as i64), "0").start_only(),
    noted("bind-source-addr", TEXT, ""),
    // Users.
    refused("aclfile", TEXT_OR_EMPTY, "", "users and ACL files are not served").start_only(),
    noted("acllog-max-len", int(0, i64::MAX), "128"),
    noted("acl-pubsub-default", Syntax::Choice(&["allchannels", "resetchannels"]), "resetchannels"),
    refused("enable-protected-configs", GUARD, "no", "'dir' and 'dbfilename' stay as they are")
        .start_only(),
    refused("enable-module-command", GUARD, "no", "modules are not served").start_only(),
    // Replication.
    refused("replicaof", words(read::replica_of, Layout::UnlessDefault), "", NO_REPLICATION)
        .alias("slaveof")
        .start_only(),
    refused("min-replicas-to-write", COUNT, "0", NO_REPLICATION).alias("min-slaves-to-write"),
    noted("min-replicas-max-lag", COUNT, "10").alias("min-slaves-max-lag"),
    noted("masterauth", TEXT, ""),
    noted("masteruser", TEXT, ""),
    noted("replica-announced", YES_NO, "yes"),
    noted("replica-announce-ip", TEXT, "").alias("slave-announce-ip"),
    noted("replica-announce-port", int(0, 65_535), "0").alias("slave-announce-port"),
    noted("replica-ignore-disk-write-errors", YES_NO, "no"),
    noted("replica-ignore-maxmemory", YES_NO, "yes").alias("slave-ignore-maxmemory"),
    noted("replica-lazy-flush", YES_NO, "no").alias("slave-lazy-flush"),
    noted("replica-priority", COUNT, "100").alias("slave-priority"),
    noted("replica-read-only", YES_NO, "yes").alias("slave-read-only"),
    noted("replica-serve-stale-data", YES_NO, "yes").alias("slave-serve-stale-data"),
    noted("repl-backlog-size", memory(1, LONG_MAX), "1mb"),
    noted("repl-backlog-ttl", int(0, i64::MAX), "3600"),
    noted("repl-disable-tcp-nodelay", YES_NO, "no"),
    noted("repl-diskless-load", Syntax::Choice(&["disabled", "on-empty-db", "swapdb"]), "disabled"),
    noted("repl-diskless-sync", YES_NO, "yes"),
    noted("repl-diskless-sync-delay", COUNT, "5"),
    noted("repl-diskless-sync-max-replicas", COUNT, "0"),
    noted("repl-ping-replica-period", int(1, INT_MAX), "10").alias("repl-ping-slave-period"),
    noted("repl-timeout", int(1, INT_MAX), "60"),
    // Cluster.
    refused("cluster-enabled", YES_NO, "no", NO_CLUSTER).start_only(),
    noted("cluster-config-file", TEXT_OR_EMPTY, "nodes.conf").start_only(),
    noted("cluster-port", int(0, 65_535), "0").start_only(),
    noted("cluster-announce-ip", TEXT, ""),
    noted("cluster-announce-hostname", TEXT, ""),
    noted("cluster-announce-port", int(0, 65_535), "0"),
    noted("cluster-announce-bus-port", int(0, 65_535), "0"),
    noted("cluster-announce-tls-port", int(0, 65_535), "0"),
    noted("cluster-node-timeout", int(0, i64::MAX), "15000"),
    noted("cluster-migration-barrier", COUNT, "1"),
    noted("cluster-replica-validity-factor", COUNT, "10").alias("cluster-slave-validity-factor"),
    noted("cluster-replica-no-failover", YES_NO, "no").alias("cluster-slave-no-failover"),
    noted("cluster-require-full-coverage", YES_NO, "yes"),
    noted("cluster-allow-reads-when-down", YES_NO, "no"),
    noted("cluster-allow-pubsubshard-when-down", YES_NO, "yes"),
    noted("cluster-allow-replica-migration", YES_NO, "yes"),
    noted("cluster-link-sendbuf-limit", memory(0, u64::MAX), "0"),
    noted("cluster-preferred-endpoint-type", ENDPOINT, "ip"),
    // TLS.
    refused("tls-port", int(0, 65_535), "0", NO_TLS),
    refused("tls-cluster", YES_NO, "no", NO_TLS),
    refused("tls-replication", YES_NO, "no", NO_TLS),
    noted("tls-auth-clients", Syntax::Choice(&["no", "yes", "optional"]), "yes"),
    noted("tls-cert-file", TEXT, ""),
    noted("tls-key-file", TEXT, ""),
    noted("tls-key-file-pass", TEXT, ""),
    noted("tls-client-cert-file", TEXT, ""),
    noted("tls-client-key-file", TEXT, ""),
    noted("tls-client-key-file-pass", TEXT, ""),
    noted("tls-dh-params-file", TEXT, ""),
    noted("tls-ca-cert-file", TEXT, ""),
    noted("tls-ca-cert-dir", TEXT, ""),
    noted("tls-protocols", TEXT, ""),
    noted("tls-ciphers", TEXT, ""),
    noted("tls-ciphersuites", TEXT, ""),
    noted("tls-prefer-server-ciphers", YES_NO, "no"),
    noted("tls-session-caching", YES_NO, "yes"),
    noted("tls-session-cache-size", COUNT, "20480"),
    noted("tls-session-cache-timeout", COUNT, "300"),
];

const PROPAGATION: Syntax = Syntax::Choice(&["ignore", "panic", "panic-on-replicas"]);
const ENDPOINT: Syntax = Syntax::Choice(&["ip", "hostname", "unknown-endpoint"]);

const fn file(check: fn(&[u8]) -> Result<(), Reason>) -> Syntax {
    Syntax::Text { check, empty: Empty::Value }
}

fn dump_file(text: &[u8]) -> Result<(), Reason> {
    base_name(text, "dbfilename can't be a path, just a filename")
}

fn append_file(text: &[u8]) -> Result<(), Reason> {
    not_empty(text, "appendfilename can't be empty")?;
    base_name(text, "appendfilename can't be a path, just a filename")
}

fn append_dir(text: &[u8]) -> Result<(), Reason> {
    not_empty(text, "appenddirname can't be empty")?;
    base_name(text, "appenddirname can't be a path, just a dirname")
}

fn base_name(text: &[u8], reason: &'static str) -> Result<(), Reason> {
    if text.contains(&b'/') || text.contains(&b'\\') { Err(reason.into()) } else { Ok(()) }
}

fn not_empty(text: &[u8], reason: &'static str) -> Result<(), Reason> {
    if text.is_empty() { Err(reason.into()) } else { Ok(()) }
}
