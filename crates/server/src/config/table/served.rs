//! Rows with a typed field. Data only.

use super::super::Config;
use super::super::row::{Directive, Store};
use super::super::syntax::{Layout, Syntax};
use super::super::types::{DebugCommand, EvictionPolicy, Fsync, StoreKind};
use super::super::value::{Typed, Value};
use super::super::words as read;
use super::{CPUS, INT_MAX, TEXT, TEXT_OR_EMPTY, int, memory, row, words};
use crate::log::Level;

const SHUTDOWN: Syntax = words(read::shutdown_options, Layout::Line);

/// The typed field of this name.
macro_rules! field {
    ($field:ident) => {
        Store::Field {
            read: |config| config.$field.to_value(),
            write: |config, value| {
                config.$field = Typed::from_value(value).expect("the row fits the field");
            },
        }
    };
}

/// A field of type `usize` whose value is written as an amount of memory.
macro_rules! bytes {
    ($field:ident) => {
        Store::Field {
            read: |config| Value::Bytes(config.$field.try_into().expect("usize has 64 bits")),
            write: |config, value| {
                let bytes = u64::from_value(value).expect("the row fits the field");
                config.$field = bytes.try_into().expect("usize has 64 bits");
            },
        }
    };
}

const LONG_MAX: u64 = i64::MAX.cast_unsigned();
const MIB: u64 = 1 << 20;

pub(super) static ROWS: &[Directive] = &[
    // Network.
    row("bind", words(read::bind, Layout::Line), field!(bind)).start_only(),
    row("port", int(0, 65_535), field!(port)).start_only(),
    row("tcp-backlog", int(0, INT_MAX), field!(tcp_backlog)).start_only(),
    row("tcp-keepalive", int(0, INT_MAX), field!(tcp_keepalive_s)),
    row("timeout", int(0, INT_MAX), field!(timeout_s)),
    row("maxclients", int(1, u32::MAX as i64), field!(maxclients)),
    row("protected-mode", Syntax::Bool, field!(protected_mode)),
    row("requirepass", TEXT, field!(requirepass)),
    row("proto-max-bulk-len", memory(MIB, LONG_MAX), field!(proto_max_bulk_len_bytes)),
    row(
        "client-query-buffer-limit",
        memory(MIB, LONG_MAX),
        field!(client_query_buffer_limit_bytes),
    ),
    row(
        "client-output-buffer-limit",
        words(read::output_limits, Layout::OutputLimits),
        field!(client_output_buffer_limit),
    ),
    // The process.
    row("daemonize", Syntax::Bool, Store::Passive("no")).start_only().only_default(
        "this server does not put itself into the background: use a supervisor, or '&'",
    ),
    row("pidfile", TEXT, field!(pidfile)).start_only(),
    row("loglevel", Syntax::Choice(Level::NAMES), field!(loglevel)),
    row("logfile", TEXT_OR_EMPTY, field!(logfile)).start_only(),
    row("always-show-logo", Syntax::Bool, field!(always_show_logo)).start_only().noted(),
    row("databases", int(1, 65_536), field!(databases)).start_only(),
    row("io-threads", Syntax::IntOrAuto { min: 1, max: 256 }, field!(io_threads)),
    row("nap-max-us", int(0, 1000), field!(nap_max_us)),
    row("server_cpulist", CPUS, field!(server_cpulist)).alias("server-cpulist").start_only(),
    row("io-threads-cpulist", CPUS, field!(io_threads_cpulist)).start_only(),
    // Of Valkey.
    row("io-threads-always-active", Syntax::Bool, field!(io_threads_always_active)),
    row("hz", int(0, INT_MAX), HZ).noted(),
    row("dir", Syntax::Directory, field!(dir)).protected(),
    // Memory.
    row("maxmemory", memory(0, u64::MAX), field!(maxmemory_bytes)),
    row("maxmemory-policy", Syntax::Choice(EvictionPolicy::NAMES), field!(maxmemory_policy)),
    row("maxmemory-clients", Syntax::MemoryOrPercent, field!(maxmemory_clients)),
    row("maxmemory-samples", int(1, INT_MAX), field!(maxmemory_samples)),
    row("lfu-log-factor", int(0, INT_MAX), field!(lfu_log_factor)),
    row("lfu-decay-time", int(0, INT_MAX), field!(lfu_decay_time_min)),
    row("disable-thp", Syntax::Bool, field!(disable_thp)).start_only(),
    row("active-expire-effort", int(1, 10), field!(active_expire_effort)).noted(),
    // Durability.
    row("store", Syntax::Choice(StoreKind::NAMES), field!(store)).start_only(),
    row("appendonly", Syntax::Bool, APPENDONLY),
    row("appendfsync", Syntax::Choice(Fsync::NAMES), field!(appendfsync)),
    row("journal-sync-ms", int(10, 60_000), field!(journal_sync_ms)),
    row("journal-size-max", memory(64 * MIB, LONG_MAX), field!(journal_size_max_bytes)),
    row("flush-delay-ms", int(0, 3_600_000), field!(flush_delay_ms)),
    row("disk-min-free", memory(0, LONG_MAX), field!(disk_min_free_bytes)),
    row("storage-threads", int(1, 64), field!(storage_threads)).start_only(),
    row("store-accept-loss", Syntax::Bool, field!(store_accept_loss)).one_start(),
    row("store-cache-size", memory(0, LONG_MAX), field!(store_cache_size_bytes)),
    // Encodings of small values.
    row("hash-max-listpack-entries", int(0, i64::MAX), field!(hash_max_listpack_entries))
        .alias("hash-max-ziplist-entries"),
    row("hash-max-listpack-value", memory(0, LONG_MAX), bytes!(hash_max_listpack_value_bytes))
        .alias("hash-max-ziplist-value"),
    row("list-max-listpack-size", int(i32::MIN as i64, INT_MAX), field!(list_max_listpack_size))
        .alias("list-max-ziplist-size"),
    row("set-max-intset-entries", int(0, i64::MAX), field!(set_max_intset_entries)),
    row("zset-max-listpack-entries", int(0, i64::MAX), field!(zset_max_listpack_entries))
        .alias("zset-max-ziplist-entries"),
    row("zset-max-listpack-value", memory(0, LONG_MAX), bytes!(zset_max_listpack_value_bytes))
        .alias("zset-max-ziplist-value"),
    row("slowlog-log-slower-than", int(-1, i64::MAX), field!(slowlog_log_slower_than_us)),
    row("slowlog-max-len", int(0, i64::MAX), field!(slowlog_max_len)),
    // Typed, and waiting for the part of the server that acts on them.
    row("notify-keyspace-events", Syntax::Notify, field!(notify_keyspace_events)).noted(),
    row("latency-tracking", Syntax::Bool, field!(latency_tracking)).noted(),
    row("latency-monitor-threshold", int(0, i64::MAX), field!(latency_monitor_threshold_ms))
        .noted(),
    row("busy-reply-threshold", int(0, i64::MAX), field!(busy_reply_threshold_ms))
        .alias("lua-time-limit")
        .noted(),
    row("shutdown-timeout", int(0, INT_MAX), field!(shutdown_timeout_s)),
    row("shutdown-on-sigint", SHUTDOWN, field!(shutdown_on_sigint)),
    row("shutdown-on-sigterm", SHUTDOWN, field!(shutdown_on_sigterm)),
    row("enable-debug-command", Syntax::Choice(DebugCommand::NAMES), field!(enable_debug_command))
        .start_only(),
];

/// Values out of range are a hint, not a mistake: Redis moves them into the range.
const HZ: Store = Store::Field {
    read: |config| config.hz.to_value(),
    write: |config, value| {
        let hz = u32::from_value(value).expect("the row fits the field");
        config.hz = hz.clamp(Config::HZ_MIN, Config::HZ_MAX);
    },
};

/// What was asked for is kept; what is reported is what the store does.
const APPENDONLY: Store = Store::Field {
    read: |config| Value::Bool(config.is_durable()),
    write: |config, value| config.appendonly_asked = bool::from_value(value),
};
