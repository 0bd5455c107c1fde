//! From the store's directory to a served keyspace: identity, engine, journal, replay.
//!
//! Main thread, before anybody is served; blocks for as long as the disk takes. A store that
//! cannot be opened whole is never served empty: the error says what is wrong and what the
//! operator can do.

use std::sync::Arc;

use flintlock_diskcache::cache::flags::KeyState;
use flintlock_diskcache::cache::home::{self, Candidate, Forgot, Home, Known, Loaded};
use flintlock_diskcache::cache::job::{DecodeError, Worker};
use flintlock_diskcache::cache::recover::{Change, Recovered, Replayed};
use flintlock_diskcache::cache::{Cache, Durability, Now, Options};
use flintlock_diskcache::exec::{JobPool, readers_of};
use flintlock_diskcache::journal::WriterOptions;
use flintlock_diskcache::key::{KeyRef, Space};
use flintlock_diskcache::recovery::{self, OpenError, OpenOptions, OpenStore};
use flintlock_diskcache::storage::Storage;
use flintlock_diskcache::storage::fjall::FjallOptions;
use flintlock_iothreads::Bell;

use crate::client::ClientKey;
use crate::command::{self, Ctx, OwnedRequest, dispatch, lookup};
use crate::config::{Config, Fsync};
use crate::descriptors::Descriptors;
use crate::evict::policy_of;
use crate::keyspace::Key;
use crate::keyspace::entry::{NewValue, Value};
use crate::resp::encode::{Output, Proto, Reply};
use crate::server::Server;
use crate::stats::Stats;

use super::delta::Delta;
use super::home::{Resident, ServerDecode, known, prefetch, value_of};
use super::{Tier, VALUE_BYTES_MAX};

/// Opens the store that the configuration names. Its identity has the hash key that the keyspace
/// must be made with.
///
/// # Errors
/// Why not.
pub(crate) fn open_store(
    config: &Config,
    descriptors: Descriptors,
) -> Result<OpenStore, OpenError> {
    let options = OpenOptions {
        engine: FjallOptions {
            cache_bytes: engine_cache_bytes(config),
            open_files: descriptors.engine_files(),
            ..FjallOptions::default()
        },
        journal: WriterOptions::for_journal(config.journal_size_max_bytes),
        accept_loss: config.store_accept_loss,
    };
    recovery::open(&config.store_path(), &options)
}

/// Replays the journal into `server`'s empty keyspace and attaches the tier.
///
/// # Errors
/// The journal or the engine cannot be read, or hold what does not decode.
pub(crate) fn attach<S: Storage + 'static>(
    server: &mut Server,
    store: OpenStore<S>,
    bell: Arc<Bell>,
    seed: u64,
) -> Result<Recovered, Box<dyn std::error::Error>> {
    let OpenStore { dir, engine, meta, writer, replay, .. } = store;
    let decode = ServerDecode { rules: server.rules.clone() };
    let storage: Arc<dyn Storage> = engine;
    let worker = Worker::new(storage, decode);
    let mut options = options(&server.config, seed);
    // A store made with more databases keeps them.
    options.databases = options.databases.max(meta.spaces.len());
    let databases = options.databases;
    let now = server.now();
    // Time stands still: what ran out of time before the stop was deleted by an operation of its
    // own, the rest is found expired when it is met.
    server.set_now(Now::default());
    server.keyspace.clear_places();
    let opened =
        Cache::open(options, &meta, (writer, replay), &mut Replaying(server), &worker, now);
    server.set_now(now);
    server.stats = Stats::new(command::all().len());
    let (cache, recovered) = opened?;
    server.keyspace.order_places(databases, |db| cache.space(db));
    let jobs = JobPool::new(worker, server.config.storage_threads.into(), bell)?;
    server.tier = Some(Tier::new(cache, jobs, dir));
    // Not before replay: what was accepted is there.
    server.value_bytes_max = VALUE_BYTES_MAX;
    Ok(recovered)
}

/// The block cache of the engine: as configured, but never so much that the memory limit is used
/// up by it. What is cached there is compressed blocks of keys that are not resident; the keys
/// themselves are worth more.
fn engine_cache_bytes(config: &Config) -> u64 {
    match config.maxmemory_bytes {
        0 => config.store_cache_size_bytes,
        limit => config.store_cache_size_bytes.min(limit / 8),
    }
}

/// Options of the cache that follow from the configuration.
pub(crate) fn options(config: &Config, seed: u64) -> Options {
    Options {
        limit_bytes: config.maxmemory_bytes,
        engine_cache_bytes: Some(engine_cache_bytes(config)),
        durability: match config.appendfsync {
            Fsync::Always => Durability::Always,
            Fsync::EverySec => Durability::EveryMs(u64::from(config.journal_sync_ms)),
            Fsync::No => Durability::Never,
        },
        policy: policy_of(config.maxmemory_policy),
        samples: config.maxmemory_samples as usize,
        flush_delay_ms: u64::from(config.flush_delay_ms),
        journal_bytes_max: config.journal_size_max_bytes,
        free_bytes_min: config.disk_min_free_bytes,
        accept_loss: config.store_accept_loss,
        databases: config.databases as usize,
        load_workers: readers_of(config.storage_threads.into()),
        seed,
        ..Options::default()
    }
}

/// The server during replay: its keyspace is the home, and logged requests run as commands.
struct Replaying<'a>(&'a mut Server);

impl Replaying<'_> {
    fn resident(&mut self) -> Resident<'_> {
        Resident { keyspace: &mut self.0.keyspace, access: &self.0.access }
    }

    /// Runs a logged request.
    fn run(&mut self, db: usize, words: &[&[u8]]) -> Result<(), DecodeError> {
        let command = lookup(words[0]).ok_or(DecodeError("a logged command is not known"))?;
        if !command.accepts(words.len()) || command.keys.first != 1 {
            return Err(DecodeError("a logged command has the wrong form"));
        }
        let hash = self.0.keyspace.hasher().hash(words[1]);
        let request = OwnedRequest::new(command, words.iter().copied(), hash);
        self.0.clients.session_mut(ClientKey::INTERNAL).db = db;
        let failed = self.0.stats.error_replies;
        let mut out = Output::default();
        let mut reply = Reply::new(&mut out, Proto::Resp2);
        let outcome = dispatch::execute(
            &mut Ctx::new(self.0, ClientKey::INTERNAL),
            &request.get(),
            &mut reply,
        );
        assert_eq!(
            outcome,
            dispatch::Outcome::Answered,
            "what is journalled needs no key but its own"
        );
        if self.0.stats.error_replies > failed {
            return Err(DecodeError("a logged command does not fit the value"));
        }
        Ok(())
    }
}

impl Home for Replaying<'_> {
    type Value = Value;

    fn known(&self, key: KeyRef<'_>) -> Known {
        known(&self.0.keyspace, key)
    }

    fn prefetch(&self, keys: &[(Space, u64)]) {
        prefetch(&self.0.keyspace, keys);
    }

    fn visit(&mut self, space: Space, hash: u64, each: &mut dyn FnMut(&mut dyn home::Entry)) {
        self.resident().visit(space, hash, each);
    }

    fn insert(&mut self, key: KeyRef<'_>, loaded: Option<Loaded<Value>>, state: KeyState) {
        self.0.keyspace.place_of(key.space);
        self.resident().insert(key, loaded, state);
    }

    fn forget(&mut self, space: Space, hash: u64) -> Forgot {
        self.resident().forget(space, hash)
    }

    fn sample(&mut self, random: u64, want: usize, out: &mut Vec<Candidate>) {
        self.resident().sample(random, want, out);
    }

    fn candidate(&mut self, space: Space, hash: u64) -> Option<Candidate> {
        self.resident().candidate(space, hash)
    }

    fn memory_bytes(&self) -> u64 {
        self.0.keyspace.memory_bytes() as u64
    }

    fn entry_count(&self) -> u64 {
        self.0.keyspace.entry_count() as u64
    }

    fn absent_count(&self) -> Option<u64> {
        Some(self.0.keyspace.absent_count() as u64)
    }
}

impl Replayed for Replaying<'_> {
    fn replay(
        &mut self,
        key: KeyRef<'_>,
        change: Change<'_>,
        state: KeyState,
    ) -> Result<(), DecodeError> {
        let db = self.0.keyspace.place_of(key.space);
        let at = Key { bytes: key.key, hash: key.hash };
        let (mut value, expires_at_ms) = match change {
            Change::Put { expires_at_ms, payload } => {
                (value_of(payload, &self.0.rules)?, expires_at_ms)
            }
            Change::Delete => (Value::Absent, None),
            Change::Delta(bytes) => {
                self.change(db, at, bytes)?;
                // A change may have left nothing of the key.
                let table = &mut self.0.keyspace.dbs[db].table;
                let found = table.find(at);
                let loc = found.unwrap_or_else(|| table.insert(at, NewValue::Absent, None));
                table.touch(loc, |entry| entry.set_state(state.to_bits()));
                return Ok(());
            }
        };
        let table = &mut self.0.keyspace.dbs[db].table;
        let loc = match table.find(at) {
            Some(loc) => {
                table.update(loc, |entry| entry.replace(value.lend(), expires_at_ms));
                loc
            }
            None => table.insert(at, value.lend(), expires_at_ms),
        };
        table.touch(loc, |entry| entry.set_state(state.to_bits()));
        Ok(())
    }

    fn drop_space(&mut self, space: Space) {
        self.0.keyspace.clear_place(space);
    }
}

impl Replaying<'_> {
    fn change(&mut self, db: usize, key: Key<'_>, bytes: &[u8]) -> Result<(), DecodeError> {
        match Delta::decode(bytes)? {
            Delta::Words(words) => self.run(db, &words),
            Delta::Expiry(expires_at_ms) => {
                let table = &mut self.0.keyspace.dbs[db].table;
                let found = table.find(key).filter(|loc| !table.entry(*loc).is_absent());
                let loc = found.ok_or(DecodeError("an expiry without a key"))?;
                table.update(loc, |entry| entry.set_expiry(expires_at_ms));
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use flintlock_diskcache::cache::conformance;

    use super::*;
    use crate::keyspace::Hasher;
    use crate::log::{Level, Log};
    use crate::types::codec;

    /// A number, a short string or a long one, as it is stored.
    fn payload(n: u64) -> Vec<u8> {
        if n == 1 {
            return codec::encode_to_vec(codec::Value::Integer(-5));
        }
        let text = format!("value {n} ").repeat(if n < 1000 { 20 } else { 2000 });
        codec::encode_to_vec(codec::Value::String(text.as_bytes()))
    }

    #[test]
    fn the_keyspace_is_a_home_as_the_cache_wants_it() {
        let secret = [7; 16];
        let server = || {
            let log = Log::new(Level::Warning, None);
            let hasher = Hasher::new(&secret);
            Server::new(Config::default(), log, hasher, Now::default(), secret)
        };
        let decode = ServerDecode { rules: server().rules.clone() };
        let hasher = Hasher::new(&secret);
        let own_hash = |name: &[u8]| hasher.hash(name);
        // A home borrows its server for as long as the checks run: to the end of the test.
        let home = || Replaying(Box::leak(Box::new(server())));
        conformance::check(home, payload, &decode, Some(&own_hash));
    }
}
