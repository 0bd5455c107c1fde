//! The configuration of the server: redis.conf, the command line, CONFIG. Main thread.
//!
//! [`Config`] is a plain struct that the rest of the server reads. Around it:
//! - `table` says what there is: one row for each directive;
//! - `row`, `syntax`, `words`, `value`, `types` turn words into fields and back;
//! - `load` reads files and the command line at start;
//! - `set` answers CONFIG GET and CONFIG SET, `rewrite` CONFIG REWRITE.
//!
//! Whoever runs redis-server with a file and arguments today can hand both to this server.
//! Directives fall into three classes: those that *act*; those that are *noted*, that is kept,
//! reported, and named once in the log because they change nothing here; and those of which only
//! the default is served, because anything else would promise what the server does not do
//! (replication, TLS, going into the background). The last and names that nobody knows are
//! refused at start, with exit status 1 and the four lines that Redis prints.
//!
//! A change at run time is staged first: [`Config::stage`] returns a whole new configuration, the
//! caller does what the change calls for, and only then puts it in the place of the old one. So a
//! CONFIG SET of several pairs is all or nothing without any undo.
//!
//! This module resolves paths and reads files while loading and rewriting; nothing else here does
//! I/O, and nothing logs. Source: behaviour of redis-server 7.0.15, which the tests run.

mod load;
#[cfg(test)]
mod reference;
mod rewrite;
mod row;
mod set;
mod syntax;
mod table;
mod types;
mod value;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use flintlock_iothreads::CpuList;

pub use load::{LoadError, Sources};
pub use rewrite::RewriteError;
pub use set::{SetError, Staged};
pub use types::{
    BindAddress, ClientMemoryLimit, DebugCommand, EndHow, EndSave, EvictionPolicy, Fsync,
    NotifyFlags, OutputLimit, OutputLimits, Secret, StoreKind, Threads,
};
use value::Value;

use crate::log::Level;

/// The configuration.
///
/// Owned by the main thread; workers are handed the values they need. Every field is within the
/// range of its directive, whatever way it came in. A directive's name is the field's with `-`
/// for `_` and without the unit, unless the field says otherwise.
///
/// # Examples
/// ```
/// use flintlock_server::config::Config;
///
/// let mut config = Config::default();
/// let staged = config.stage(&[b"maxmemory", b"64mb", b"timeout", b"30"]).expect("valid");
/// staged.commit(&mut config);
/// assert_eq!((config.maxmemory_bytes, config.timeout_s), (64 << 20, 30));
/// assert!(config.stage(&[b"maxmemory", b"64mb", b"port", b"1"]).is_err());
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// Addresses to listen on; none: no TCP at all.
    pub bind: Vec<BindAddress>,
    /// TCP port; 0: any free one.
    pub port: u16,
    /// Length of the queue of connections not yet accepted.
    pub tcp_backlog: u32,
    /// Idle time before the kernel probes a connection; 0: never.
    pub tcp_keepalive_s: u32,
    /// Idle time before a client is disconnected; 0: never.
    pub timeout_s: u32,
    /// Most clients at a time.
    pub maxclients: u32,
    /// Whether clients of other machines are refused while there is no password.
    pub protected_mode: bool,
    /// Password of the default user.
    pub requirepass: Secret,
    /// Longest bulk string of a request.
    pub proto_max_bulk_len_bytes: u64,
    /// Most bytes of one client's requests that wait to be parsed.
    pub client_query_buffer_limit_bytes: u64,
    /// Most bytes of answers that wait to be sent to one client.
    pub client_output_buffer_limit: OutputLimits,

    /// File that holds the process id while the server runs; empty: none. See
    /// [`Config::pid_path`].
    pub pidfile: PathBuf,
    /// Lowest level that is logged.
    pub loglevel: Level,
    /// File for the log; empty: standard output. See [`Config::log_path`].
    pub logfile: PathBuf,
    /// Whether the start-up banner is written even if nobody is at a terminal.
    pub always_show_logo: bool,
    /// Number of databases.
    pub databases: u32,
    /// Threads that serve the network, the main thread included.
    pub io_threads: Threads,
    /// CPUs of the main thread, and of the others if they have no list of their own.
    pub server_cpulist: Option<CpuList>,
    /// CPUs of the other ones, one each.
    pub io_threads_cpulist: Option<CpuList>,
    /// Whether all of them take part whatever the load and the machine: for tests.
    pub io_threads_always_active: bool,
    /// Rounds of housekeeping a second.
    pub hz: u32,
    /// Directory of everything the server writes; absolute once loaded.
    pub dir: PathBuf,

    /// Limit on all memory; 0: none.
    pub maxmemory_bytes: u64,
    /// Limit on the memory of clients.
    pub maxmemory_clients: ClientMemoryLimit,
    /// What gives way when memory is full.
    pub maxmemory_policy: EvictionPolicy,
    /// Keys looked at to choose one to evict.
    pub maxmemory_samples: u32,
    /// How slowly the LFU counter grows.
    pub lfu_log_factor: u32,
    /// Minutes for the LFU counter to fall by one.
    pub lfu_decay_time_min: u32,
    /// Whether the process goes without huge pages.
    pub disable_thp: bool,
    /// How hard expired keys are searched for, 1 to 10.
    pub active_expire_effort: u8,

    /// Longest nap before a look for clients of a crowd, in microseconds; 0 is never.
    pub nap_max_us: u32,

    /// Where the data lives.
    pub store: StoreKind,
    /// When an acknowledged write is on the disk.
    pub appendfsync: Fsync,
    /// Time between two syncs of the journal with `appendfsync everysec`.
    pub journal_sync_ms: u32,
    /// Length of the journal at which dirty keys are written to the store so that it can shrink.
    pub journal_size_max_bytes: u64,
    /// Longest time a changed key waits before it is written to the store.
    pub flush_delay_ms: u32,
    /// Writes are refused while less is free on the store's disk; 0 for no such bound.
    pub disk_min_free_bytes: u64,
    /// Threads that do the store's blocking work.
    pub storage_threads: u16,
    /// Start although acknowledged writes are missing from the store.
    pub store_accept_loss: bool,
    /// Memory for blocks of the store.
    pub store_cache_size_bytes: u64,

    /// Most fields of a small hash.
    pub hash_max_listpack_entries: usize,
    /// Longest field or value of a small hash.
    pub hash_max_listpack_value_bytes: usize,
    /// Size of a list's chunks: entries if positive, -1 to -5 for 4 to 64 KiB.
    pub list_max_listpack_size: i32,
    /// Most members of a set of integers.
    pub set_max_intset_entries: usize,
    /// Most members of a small sorted set.
    pub zset_max_listpack_entries: usize,
    /// Longest member of a small sorted set.
    pub zset_max_listpack_value_bytes: usize,

    /// Keyspace events that are published.
    pub notify_keyspace_events: NotifyFlags,
    /// Time from which a command is put in the slow log; negative: none is.
    pub slowlog_log_slower_than_us: i64,
    /// Entries of the slow log.
    pub slowlog_max_len: usize,
    /// Whether the latency of each command is tracked.
    pub latency_tracking: bool,
    /// Latency from which an event is recorded; 0: none is.
    pub latency_monitor_threshold_ms: i64,
    /// Time after which a script that still runs is reported to other clients.
    pub busy_reply_threshold_ms: i64,
    /// Time that a shutdown waits for its clients.
    pub shutdown_timeout_s: u32,
    /// How SIGINT ends the server.
    pub shutdown_on_sigint: EndHow,
    /// How SIGTERM ends the server.
    pub shutdown_on_sigterm: EndHow,
    /// Who may use DEBUG.
    pub enable_debug_command: DebugCommand,

    /// The configuration file, absolute; None: started without one. No directive.
    pub file: Option<PathBuf>,

    /// `appendonly` as asked for; what is reported follows from `store`.
    appendonly_asked: Option<bool>,
    /// Values that are only reported, by directive; absent: the default.
    passive: BTreeMap<&'static str, Value>,
    /// Directives that the log has been told of.
    warned: BTreeSet<&'static str>,
}

impl Default for Config {
    /// What the server does when it is told nothing.
    fn default() -> Self {
        let local = |host: &str, optional| BindAddress { optional, host: host.to_owned() };
        Self {
            bind: vec![local("127.0.0.1", false), local("::1", true)],
            port: 6379,
            tcp_backlog: 511,
            tcp_keepalive_s: 300,
            timeout_s: 0,
            maxclients: 10_000,
            protected_mode: true,
            requirepass: Secret::default(),
            proto_max_bulk_len_bytes: 512 << 20,
            client_query_buffer_limit_bytes: 1 << 30,
            client_output_buffer_limit: OutputLimits::default(),
            pidfile: PathBuf::new(),
            loglevel: Level::Notice,
            logfile: PathBuf::new(),
            always_show_logo: false,
            databases: 16,
            io_threads: Threads::Auto,
            server_cpulist: None,
            io_threads_cpulist: None,
            io_threads_always_active: false,
            hz: 10,
            dir: PathBuf::from("."),
            maxmemory_bytes: 0,
            maxmemory_clients: ClientMemoryLimit::Bytes(0),
            maxmemory_policy: EvictionPolicy::NoEviction,
            maxmemory_samples: 5,
            lfu_log_factor: 10,
            lfu_decay_time_min: 1,
            disable_thp: false,
            active_expire_effort: 1,
            nap_max_us: 100,
            store: StoreKind::Fjall,
            appendfsync: Fsync::EverySec,
            journal_sync_ms: 1000,
            journal_size_max_bytes: 512 << 20,
            flush_delay_ms: 5000,
            disk_min_free_bytes: 1 << 30,
            storage_threads: 8,
            store_accept_loss: false,
            store_cache_size_bytes: 32 << 20,
            hash_max_listpack_entries: 512,
            hash_max_listpack_value_bytes: 64,
            list_max_listpack_size: -2,
            set_max_intset_entries: 512,
            zset_max_listpack_entries: 128,
            zset_max_listpack_value_bytes: 64,
            notify_keyspace_events: NotifyFlags::default(),
            slowlog_log_slower_than_us: 10_000,
            slowlog_max_len: 128,
            latency_tracking: true,
            latency_monitor_threshold_ms: 0,
            busy_reply_threshold_ms: 5000,
            shutdown_timeout_s: 10,
            shutdown_on_sigint: EndHow::default(),
            shutdown_on_sigterm: EndHow::default(),
            enable_debug_command: DebugCommand::No,
            file: None,
            appendonly_asked: None,
            passive: BTreeMap::new(),
            warned: BTreeSet::new(),
        }
    }
}

impl Config {
    /// Fewest rounds of housekeeping a second.
    pub const HZ_MIN: u32 = 1;
    /// Most rounds of housekeeping a second.
    pub const HZ_MAX: u32 = 500;
    /// Directory inside `dir` that holds the disk store.
    pub const STORE_DIR: &'static str = "flintlock-data";
    /// Directory inside `dir` that SAVE and BGSAVE write.
    pub const BACKUP_DIR: &'static str = "flintlock-backup";

    /// Whether acknowledged writes outlive the process.
    #[must_use]
    pub const fn is_durable(&self) -> bool {
        matches!(self.store, StoreKind::Fjall)
    }

    /// Directory of the disk store.
    #[must_use]
    pub fn store_path(&self) -> PathBuf {
        self.dir.join(Self::STORE_DIR)
    }

    /// Directory of the last backup, in `dir`.
    #[must_use]
    pub fn backup_path(&self) -> PathBuf {
        self.dir.join(Self::BACKUP_DIR)
    }

    /// File for the log; None: standard output.
    #[must_use]
    pub fn log_path(&self) -> Option<PathBuf> {
        self.in_dir(&self.logfile)
    }

    /// File for the process id, if one is asked for.
    #[must_use]
    pub fn pid_path(&self) -> Option<PathBuf> {
        self.in_dir(&self.pidfile)
    }

    fn in_dir(&self, path: &std::path::Path) -> Option<PathBuf> {
        if path.as_os_str().is_empty() { None } else { Some(self.dir.join(path)) }
    }
}

#[cfg(test)]
mod tests;
