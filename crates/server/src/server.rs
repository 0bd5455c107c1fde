//! The server's state: what commands and the event loop share.
//!
//! Main thread; one owner, no locks. Does no IO: sockets are the event loop's, storage the tier's.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use flintlock_diskcache::cache::{KeyCount, Now};
use flintlock_diskcache::storage::ErrorKind;

use crate::client::{Client, ClientKey, Clients, Closing, Held};
use crate::client_memory::ClientMemory;
use crate::command::{self, Command, Error, Flags, Request};
use crate::config::{Config, DebugCommand, EvictionPolicy, SetError, Staged};
use crate::descriptors::Descriptors;
use crate::ending::End;
use crate::evict::Evictor;
use crate::garbage::Garbage;
use crate::huge_pages::HugePages;
use crate::keyspace::access::{Access, Counting};
use crate::keyspace::{Hasher, Keyspace};
use crate::log::Log;
use crate::net::conn::InputLimits;
use crate::offload::Offload;
use crate::pause::Pause;
use crate::pubsub::PubSub;
use crate::resp::encode::Mark;
use crate::slow_log::SlowLog;
use crate::stats::{Stats, StoreCounts};
use crate::tier::backup::Saves;
use crate::tier::{Tier, open};
use crate::types::{HashKey, Object, Parts, Rng, Rules, SplitMix64};
use crate::waiters::Waiters;
use crate::watch::Watch;

/// See the module doc.
#[derive(Debug)]
pub(crate) struct Server {
    /// The configuration.
    pub config: Config,
    /// The log; never written per request.
    pub log: Log,
    /// Every key in memory.
    pub keyspace: Keyspace,
    /// Every client.
    pub clients: Clients,
    /// Counters.
    pub stats: Stats,
    /// Commands that took long.
    pub slow_log: SlowLog,
    /// The disk tier; `None` with `store memory`.
    pub tier: Option<Tier>,
    /// Most bytes that a value may take; see [`crate::tier::VALUE_BYTES_MAX`].
    pub value_bytes_max: usize,
    /// The network workers; `None` without any.
    pub offload: Option<Offload>,
    /// WATCH.
    pub watch: Watch,
    /// Who waits for elements.
    pub waiters: Waiters,
    /// Limits at which values change their form.
    pub rules: Rules,
    /// Who goes next without a disk.
    pub evictor: Evictor,
    /// Uses of keys.
    pub access: Access,
    /// Values waiting to be freed in slices.
    pub garbage: Garbage,
    /// What keys and values lie in.
    pub huge_pages: HugePages,
    /// Unix time in milliseconds, read once a turn.
    pub now_ms: u64,
    /// Milliseconds on a clock that never goes back.
    pub mono_ms: u64,
    /// Unix time of the start, in milliseconds.
    pub started_ms: u64,
    /// Backups: the one under way and the last one.
    pub saves: Saves,
    /// The end that somebody asked for.
    pub end: End,
    /// CLIENT PAUSE.
    pub pause: Pause,
    /// What clients take, for `maxmemory-clients`.
    pub client_memory: ClientMemory,
    /// Publish and subscribe.
    pub pubsub: PubSub,
    /// Clients with replies to send.
    pub writes: Vec<ClientKey>,
    /// Clients that were told to close by others.
    pub closing: Vec<ClientKey>,
    /// The port served.
    pub port: u16,
    /// How the open files of the process are shared.
    pub descriptors: Descriptors,
    /// Forty random hexadecimal digits of this run.
    pub run_id: String,
    random: SplitMix64,
}

impl Server {
    /// A server without keys and clients.
    pub(crate) fn new(config: Config, log: Log, hasher: Hasher, now: Now, seed: [u8; 16]) -> Self {
        let databases = config.databases as usize;
        let mut server = Self {
            config,
            log,
            keyspace: Keyspace::new(databases, hasher),
            clients: Clients::new(),
            stats: Stats::new(command::all().len()),
            slow_log: SlowLog::default(),
            tier: None,
            value_bytes_max: usize::MAX,
            evictor: Evictor::default(),
            offload: None,
            watch: Watch::default(),
            waiters: Waiters::default(),
            rules: Rules::new(HashKey::new(seed)),
            access: Access::new(
                now.unix_ms,
                u64::from_le_bytes(*seed.first_chunk().expect("16 bytes")),
            ),
            garbage: Garbage::default(),
            huge_pages: HugePages::default(),
            now_ms: now.unix_ms,
            mono_ms: now.mono_ms,
            started_ms: now.unix_ms,
            saves: Saves::new(now.unix_ms / 1000),
            end: End::default(),
            pause: Pause::default(),
            client_memory: ClientMemory::default(),
            pubsub: PubSub::default(),
            writes: Vec::new(),
            closing: Vec::new(),
            port: 0,
            descriptors: Descriptors::default(),
            run_id: String::new(),
            random: SplitMix64::new(u64::from_le_bytes(*seed.last_chunk().expect("16 bytes"))),
        };
        server.run_id = (0..3).map(|_| format!("{:016x}", server.random())).collect();
        server.run_id.truncate(40);
        server.apply_config();
        server
    }

    /// A random number; not for secrets.
    pub(crate) fn random(&mut self) -> u64 {
        self.random.next_u64()
    }

    /// A generator of its own for a command that draws while it holds the keyspace.
    pub(crate) fn rng(&mut self) -> SplitMix64 {
        SplitMix64::new(self.random())
    }

    /// Moves the clocks.
    pub(crate) fn set_now(&mut self, now: Now) {
        self.now_ms = now.unix_ms;
        self.mono_ms = now.mono_ms;
        self.access.set_now(now.unix_ms);
        if let Some(tier) = &mut self.tier {
            tier.cache.set_now(now);
        }
    }

    /// The clocks as the disk tier takes them.
    pub(crate) fn now(&self) -> Now {
        Now { mono_ms: self.mono_ms, unix_ms: self.now_ms }
    }

    /// Puts a checked configuration in the place of the old one.
    ///
    /// # Errors
    /// A change that cannot take effect; the old configuration stays.
    pub(crate) fn reconfigure(&mut self, staged: Staged) -> Result<(), SetError> {
        let maxclients = staged.config().maxclients;
        if maxclients > self.config.maxclients {
            self.descriptors.make_room(maxclients, &self.log).map_err(|most| {
                let why = format!(
                    "The operating system is not able to handle the specified number of clients, \
                     try with {most}"
                );
                SetError::refused("maxclients", why)
            })?;
        }
        staged.commit(&mut self.config);
        self.report_unused();
        self.apply_config();
        Ok(())
    }

    /// Names in the log what was set to no effect since the last call.
    pub(crate) fn report_unused(&mut self) {
        for name in self.config.take_unused() {
            self.log.warning(format_args!(
                "The directive '{name}' is accepted but changes nothing here"
            ));
        }
    }

    /// Notes a command of `client` that took long.
    #[cold]
    pub(crate) fn keep_slow(&mut self, client: ClientKey, request: &Request<'_>, took: Duration) {
        let session = self.clients.session(client);
        let sender = (&*session.addr, &*session.name);
        self.slow_log.keep(request, took, self.now_ms / 1000, sender);
    }

    fn apply_config(&mut self) {
        use EvictionPolicy::{AllkeysLfu, VolatileLfu};
        self.log.set_level(self.config.loglevel);
        let Config { slowlog_log_slower_than_us, slowlog_max_len, .. } = self.config;
        self.slow_log.set_limits(slowlog_log_slower_than_us, slowlog_max_len);
        self.rules = Rules {
            hash_max_listpack_entries: self.config.hash_max_listpack_entries,
            hash_max_listpack_value: self.config.hash_max_listpack_value_bytes,
            set_max_intset_entries: self.config.set_max_intset_entries,
            zset_max_listpack_entries: self.config.zset_max_listpack_entries,
            zset_max_listpack_value: self.config.zset_max_listpack_value_bytes,
            list_max_listpack_size: self.config.list_max_listpack_size,
            ..self.rules.clone()
        };
        self.access.set_counting(Counting {
            lfu: matches!(self.config.maxmemory_policy, AllkeysLfu | VolatileLfu),
            log_factor: self.config.lfu_log_factor,
            decay_min: self.config.lfu_decay_time_min,
        });
        self.forget_candidates();
        self.limit_clients();
        self.count_clients();
        if let Some(tier) = &mut self.tier {
            // The seed is the one that the cache has.
            tier.cache.set_options(open::options(&self.config, 0));
        }
        if let Some(offload) = &mut self.offload {
            offload.reconfigure(&self.config, &self.log);
        }
    }

    /// Holds the clients to what is configured now: those that are at home at once, the others
    /// before they are parsed next here. Without a password nobody need authenticate.
    fn limit_clients(&mut self) {
        let is_open = self.config.requirepass.is_unset();
        for client in self.clients.iter_mut() {
            let session = &mut client.session;
            session.authenticate(session.authenticated | is_open);
            if let Some(io) = &mut client.io {
                io.limits = InputLimits::new(&self.config, session.authenticated);
            }
        }
    }

    /// Bytes that count against `maxmemory`.
    pub(crate) fn used_memory(&self) -> usize {
        let freeing = self.offload.as_ref().map_or(0, Offload::freeing_bytes);
        let own = self.keyspace.memory_bytes() + self.garbage.memory_bytes() + freeing;
        match &self.tier {
            // The cache's ledger has the keys too, as of the last turn.
            Some(tier) => (tier.cache.ledger().used() as usize).max(own),
            None => own,
        }
    }

    /// Whether a write may run now.
    ///
    /// # Errors
    /// The reason that the client is told.
    pub(crate) fn may_write(&self, command: &Command) -> Result<(), Error> {
        if let Some(tier) = &self.tier
            && let Some(refusal) = tier.refusing()
        {
            let failure = refusal.failure();
            // A full disk must not keep anybody from making room. What is logged meanwhile is kept
            // in memory; when that is full, a request that waits for room is refused.
            let full = failure.kind == ErrorKind::NoSpace;
            if !full || command.flags.has(Flags::DENYOOM) {
                return Err(Error::refused(&failure));
            }
        }
        if command.flags.has(Flags::DENYOOM) && self.is_out_of_memory() {
            return Err(Error::OOM);
        }
        Ok(())
    }

    /// Whether keys take more than they may although others were evicted. With a disk tier writers
    /// wait for room instead.
    pub(crate) fn is_out_of_memory(&self) -> bool {
        // Nobody is evicted during a pause: who waits for its end is looked at again then.
        self.tier.is_none() && self.is_full() && !self.is_paused()
    }

    /// What the disk cache has counted since the start.
    fn store_counts(&self) -> StoreCounts {
        self.tier.as_ref().map_or(StoreCounts::default(), |tier| {
            let store = tier.cache.stats();
            StoreCounts {
                evictions: store.evictions,
                loads_found: store.loads_found,
                loads_absent: store.loads_absent,
                loads_expired: store.loads_expired,
            }
        })
    }

    /// The same since CONFIG RESETSTAT.
    pub(crate) fn store_counts_since_reset(&self) -> StoreCounts {
        let (now, before) = (self.store_counts(), self.stats.store_before);
        StoreCounts {
            evictions: now.evictions - before.evictions,
            loads_found: now.loads_found - before.loads_found,
            loads_absent: now.loads_absent - before.loads_absent,
            loads_expired: now.loads_expired - before.loads_expired,
        }
    }

    /// CONFIG RESETSTAT.
    pub(crate) fn reset_stats(&mut self) {
        self.stats.reset(self.store_counts());
    }

    /// The journal position of the last change.
    pub(crate) fn logged(&self) -> u64 {
        self.tier.as_ref().map_or(0, |tier| tier.cache.last_seq().0)
    }

    /// Holds the replies of a client from `mark` on until everything logged so far is durable.
    pub(crate) fn hold(&mut self, client: ClientKey, mark: Mark) {
        let (until, durable) = (self.logged(), self.durable());
        let session = self.clients.session_mut(client);
        match &mut session.held {
            Some(held) if held.until > durable => held.until = until,
            _ if until > durable => session.held = Some(Held { until, mark, replies: 0 }),
            _ => session.held = None,
        }
    }

    /// Whether replies of a client wait for the journal.
    pub(crate) fn is_held(&self, client: &Client) -> bool {
        client.session.held.is_some_and(|held| held.until > self.durable())
    }

    /// The journal position up to which changes survive a crash.
    fn durable(&self) -> u64 {
        self.tier.as_ref().map_or(u64::MAX, |tier| tier.cache.durable().0)
    }

    /// Keys of a database, on disk and in memory; with blind writes on their way to the disk, at
    /// most so many.
    pub(crate) fn key_count(&self, db: usize) -> u64 {
        match &self.tier {
            Some(tier) => match tier.cache.key_count(db) {
                KeyCount::Exact(count) | KeyCount::AtMost { count, .. } => count,
            },
            None => self.keyspace.dbs[db].table.counts().values as u64,
        }
    }

    /// Deletes every key of some databases, in constant time: the old tables are freed in slices.
    pub(crate) fn flush(&mut self, dbs: Range<usize>) {
        for db in dbs.clone() {
            let counts = self.keyspace.dbs[db].table.counts();
            self.stats.changes += counts.values as u64;
            if !self.watch.is_empty() {
                self.watch.touch_db(&mut self.clients, db);
            }
            let table = self.keyspace.take_db(db);
            self.garbage.push_table(table);
        }
        if let Some(tier) = &mut self.tier {
            tier.cache.flush_all(dbs);
            self.keyspace.set_spaces(|db| tier.cache.space(db));
        }
    }

    /// Exchanges two databases, in constant time.
    pub(crate) fn swap(&mut self, a: usize, b: usize) {
        self.keyspace.swap_dbs(a, b);
        if let Some(tier) = &mut self.tier {
            tier.cache.swap(a, b).expect("the store has every database");
        }
    }

    /// Frees a value that was taken out; a big one on a worker, or in slices.
    pub(crate) fn free_later(&mut self, object: Option<Arc<Object>>) {
        if let Some(parts) = object.and_then(Garbage::take_apart) {
            self.free_parts(parts);
        }
    }

    /// Frees the large values that memory forgot, in the same way. Above the limit a slice is freed
    /// now: what is forgotten for others must not wait for longer than they do.
    pub(crate) fn free_evicted(&mut self) {
        if self.keyspace.evicted.is_empty() {
            return;
        }
        for parts in std::mem::take(&mut self.keyspace.evicted) {
            self.free_parts(parts);
        }
        self.free_above_limit();
    }

    fn free_parts(&mut self, parts: Parts) {
        let refused = match &mut self.offload {
            Some(offload) => offload.free(parts).err(),
            None => Some(parts),
        };
        self.garbage.push_parts(refused);
    }

    /// Marks a client to be closed; the event loop does it.
    pub(crate) fn close_client(&mut self, key: ClientKey, how: Closing) {
        if let Some(client) = self.clients.get_mut(key) {
            client.session.closing = Some(how);
            self.closing.push(key);
            if how == Closing::Now {
                // A worker may have the half for a while yet, but the memory is as good as free.
                self.client_memory.uncount(key, client);
            }
        }
    }

    /// Whether a client may use DEBUG.
    pub(crate) fn allows_debug(&self, key: ClientKey) -> bool {
        match self.config.enable_debug_command {
            DebugCommand::No => false,
            DebugCommand::Yes => true,
            DebugCommand::Local => {
                let addr = &self.clients.session(key).addr;
                addr.starts_with("127.") || addr.starts_with("[::1]")
            }
        }
    }
}
