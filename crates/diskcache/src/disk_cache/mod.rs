//! The library type: typed keys and values over a directory, for any thread.
//!
//! A [`DiskCache`] is the state machine of [`crate::cache`] with a hash table for the values
//! ([`crate::cache::map`]), a lock around both, and a thread that drives them. Nothing waits for
//! the disk while it holds the lock:
//!
//! - A read of a key in memory, or known to be absent, is one look-up under the lock.
//! - A read of any other key joins the read that is under way, or makes one, on the thread that has
//!   to wait for it anyway. However many threads want the key, the disk is asked once.
//! - A write is logged and changed in memory. It waits when everything in memory is unsaved or the
//!   disk is behind with the log, and, with [`Durability::Always`], until the journal was synced,
//!   together with all other writers.
//! - Saving, syncing, merging and deleting old files happen on threads of the cache.
//!
//! | file | owns |
//! |---|---|
//! | `mod` | the handle: what callers do, and waiting |
//! | `options` | what the caller decides; why an operation failed |
//! | `inner` | what the lock guards |
//! | `turnstile` | who stands before the lock |
//! | `waiting` | waiting for keys, room and durability |
//! | `entries` | going through all keys |
//! | `driver` | the thread |

mod driver;
mod entries;
mod inner;
mod options;
mod turnstile;
mod waiting;

use std::fmt;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{JoinHandle, ThreadId};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use siphasher::sip::SipHasher13;

use crate::cache::backup::BackupPlan;
use crate::cache::codec::with_scratch;
use crate::cache::job::Worker;
use crate::cache::map::{Codec, CodecDecode, MapHome};
use crate::cache::stats::Metrics;
use crate::cache::{Cache, Durability, KeyCount, Room};
use crate::exec::{PoolExecutor, Signal};
use crate::journal::{Refusal, Verdict};
use crate::key::KeyRef;
use crate::layout::StoreDir;
use crate::recovery::{self, OpenStore};
use crate::storage::{BackupProgress, Storage};

pub use entries::Entries;
use inner::{Change, Inner, now_since, refused};
pub use options::{Closed, Error, OpenError, Options};
use turnstile::Turnstile;

/// A key-value cache over a directory: larger than its memory limit, durable, for any thread.
///
/// All of the data is on disk, the most useful part of it in memory too. Eviction only forgets
/// what the disk has; nothing is ever dropped. Methods block as their descriptions say; share a
/// cache between threads by reference or in an [`Arc`].
///
/// `Drop` syncs the journal; [`DiskCache::close`] does too, and says whether it worked.
///
/// # Examples
/// See the crate's first page.
pub struct DiskCache<K, V: Codec> {
    shared: Arc<Shared<V>>,
    hasher: SipHasher13,
    durability: Durability,
    /// Locks the directory until the driver has ended.
    dir: StoreDir,
    accepted_loss: Option<Refusal>,
    driver: Option<JoinHandle<()>>,
    driver_id: ThreadId,
    keys: PhantomData<fn(K)>,
}

/// What the handle and its driver share.
struct Shared<V> {
    inner: Mutex<Inner<V>>,
    turnstile: Arc<Turnstile>,
    signal: Arc<Signal>,
    worker: Worker<CodecDecode<V>>,
    storage: Arc<dyn Storage>,
}

type Guard<'a, V> = MutexGuard<'a, Inner<V>>;

impl<K, V: Codec> fmt::Debug for DiskCache<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskCache").field("dir", &self.dir.root()).finish_non_exhaustive()
    }
}

// ---- Opening and closing ----------------------------------------------------------------

impl<K: Codec, V: Codec> DiskCache<K, V> {
    /// Opens the cache in `dir`, creating it if `dir` is missing or empty. Blocks while it replays
    /// what the last process logged and did not save, at most about [`Options::journal_bytes`].
    ///
    /// # Errors
    /// [`OpenError`]: the directory is in use, of another format, damaged, or misses something
    /// that was durable. It is never opened as if it were empty.
    pub fn open(dir: impl AsRef<Path>, options: &Options) -> Result<Self, OpenError> {
        Self::over(recovery::open(dir.as_ref(), &options.for_store())?, options)
    }

    /// As [`DiskCache::open`], over an engine of the caller's: `engine` opens it in its directory,
    /// or creates it there if the store is not complete yet.
    ///
    /// # Errors
    /// As [`DiskCache::open`].
    pub fn open_with<S: Storage>(
        dir: impl AsRef<Path>,
        options: &Options,
        engine: impl FnOnce(&Path, bool) -> Result<S, recovery::OpenError>,
    ) -> Result<Self, OpenError> {
        Self::over(recovery::open_with(dir.as_ref(), &options.for_store(), engine)?, options)
    }

    fn over<S: Storage>(store: OpenStore<S>, options: &Options) -> Result<Self, OpenError> {
        let OpenStore { dir, engine, meta, writer, replay, report } = store;
        let accepted_loss = match report.verdict {
            Verdict::Refused(refusal) => Some(refusal),
            Verdict::Clean | Verdict::TornTail { .. } => None,
        };
        let storage: Arc<dyn Storage> = engine;
        let worker = || Worker::new(Arc::clone(&storage), CodecDecode::default());
        let start = Instant::now();
        let mut home = MapHome::default();
        let (cache, _) = Cache::open(
            options.for_cache(),
            &meta,
            (writer, replay),
            &mut home,
            &worker(),
            now_since(start),
        )?;
        let signal = Arc::default();
        let executor = PoolExecutor::new(worker(), options.readers, Arc::clone(&signal))?;
        let turnstile = Arc::default();
        let inner = Mutex::new(Inner::new(cache, home, start, Arc::clone(&turnstile)));
        let shared = Arc::new(Shared { inner, turnstile, signal, worker: worker(), storage });
        let driven = Arc::clone(&shared);
        let driver = std::thread::Builder::new()
            .name("store-main".to_owned())
            .spawn(move || driver::drive(&driven, executor))
            .map_err(OpenError::Thread)?;
        let hasher = SipHasher13::new_with_key(&dir.identity().hash_key);
        let (durability, driver_id) = (options.durability, driver.thread().id());
        Ok(Self {
            shared,
            hasher,
            durability,
            dir,
            accepted_loss,
            driver: Some(driver),
            driver_id,
            keys: PhantomData,
        })
    }

    /// What was missing of the store when it was opened, and was given up since
    /// [`Options::accept_loss`] says so; `None` if nothing was.
    #[must_use]
    pub const fn accepted_loss(&self) -> Option<&Refusal> {
        self.accepted_loss.as_ref()
    }

    /// Saves everything and ends the cache; after `limit` it stops saving. What was not saved is in
    /// the journal, which is synced in any case and replayed by the next [`DiskCache::open`].
    ///
    /// A call into the engine that is under way is waited for, however long it hangs: until it
    /// returns, it may still write into the directory, which stays locked. Callbacks do not wait
    /// for it: those whose keys have not come by `limit` are told that the cache is closed.
    ///
    /// # Errors
    /// What is in memory could not be made durable.
    pub fn close(self, limit: Duration) -> Result<Closed, Error> {
        let until = Instant::now() + limit;
        let saved = self.wait_for(self.lock()?, Some(until), Cache::begin_drain);
        match saved {
            Ok((guard, ())) => drop(guard),
            // What the engine does not take is in the journal.
            Err(
                Error::TimedOut
                | Error::Store(_)
                | Error::Refused(crate::cache::Refusal::Engine(_)),
            ) => {}
            Err(error) => return Err(error),
        }
        let (guard, ()) = self.wait_for(self.lock()?, None, Cache::begin_end)?;
        Ok(Closed { unsaved_keys: guard.cache.unsaved_keys() })
    }
}

impl<K, V: Codec> Drop for DiskCache<K, V> {
    fn drop(&mut self) {
        if let Ok(mut inner) = self.shared.inner.lock() {
            inner.is_ending = true;
        }
        self.shared.signal.ring();
        // A driver that panicked has left the lock poisoned, and everybody who waited knows.
        let _ = self.driver.take().map(JoinHandle::join);
    }
}

// ---- Reading and writing ----------------------------------------------------------------

impl<K: Codec, V: Codec> DiskCache<K, V> {
    /// The value of `key`. Blocks for a disk read when the key is not in memory.
    ///
    /// # Errors
    /// The read failed: a failure is never taken for an absent key.
    pub fn get(&self, key: &K) -> Result<Option<V>, Error>
    where
        V: Clone,
    {
        self.get_with(key, V::clone)
    }

    /// What `read` makes of the value of `key`; `None` when there is none. `read` runs under the
    /// cache's lock: it must be short, and must not use the cache. Blocks as [`DiskCache::get`].
    ///
    /// # Errors
    /// As [`DiskCache::get`].
    ///
    /// # Panics
    /// If `read` does; nothing changes then.
    pub fn get_with<R>(&self, key: &K, read: impl FnOnce(&V) -> R) -> Result<Option<R>, Error> {
        // Filled in where it is made: handed up through what each call returns, it would be copied
        // at each, which a hit feels.
        let mut result = None;
        let mut read = Some(read);
        key.encoded(|key| {
            let hash = self.hasher.hash(key);
            let (guard, ()) = self.known(self.lock()?, hash, key, |value, _| {
                if let (Some(value), Some(read)) = (value, read.take()) {
                    result = Some(catch_unwind(AssertUnwindSafe(|| read(value))));
                }
            })?;
            self.leave(guard);
            Ok(())
        })?;
        match result {
            Some(Ok(result)) => Ok(Some(result)),
            Some(Err(panic)) => resume_unwind(panic),
            None => Ok(None),
        }
    }

    /// The values of `keys`, in order, as of one moment. Keys that are not in memory are read
    /// together; blocks until all have come.
    ///
    /// # Errors
    /// As [`DiskCache::get`].
    pub fn get_many(&self, keys: &[K]) -> Result<Vec<Option<V>>, Error>
    where
        V: Clone,
    {
        let encoded: Vec<(u64, Vec<u8>)> = keys.iter().map(|key| self.encoded(key)).collect();
        let (mut guard, pinned) = self.bring(self.lock()?, &encoded)?;
        let space = guard.space();
        let values = encoded.iter().map(|(hash, key)| {
            // Unknown only when the cache was cleared meanwhile, and then there is nothing.
            let key = KeyRef { space, hash: *hash, key };
            guard.look(key, |value, _| value.cloned()).map(Option::flatten)
        });
        let values = values.collect();
        guard.unpin(pinned);
        self.leave(guard);
        values
    }

    /// Whether `key` exists. Blocks as [`DiskCache::get`].
    ///
    /// # Errors
    /// As [`DiskCache::get`].
    pub fn contains(&self, key: &K) -> Result<bool, Error> {
        Ok(self.get_with(key, |_| ())?.is_some())
    }

    /// Calls `call` with the value of `key`, exactly once: now, on this thread, if nothing has to
    /// be read, else later, on the driver's thread, where it must not wait for this cache. Does not
    /// block.
    ///
    /// # Errors
    /// The cache cannot be used; `call` is dropped.
    pub fn get_then(
        &self,
        key: &K,
        call: impl FnOnce(Result<Option<V>, Error>) + Send + 'static,
    ) -> Result<(), Error>
    where
        V: Clone,
    {
        let (hash, key) = self.encoded(key);
        let mut guard = self.lock()?;
        let key = KeyRef { space: guard.space(), hash, key: &key };
        match guard.look(key, |value, _| value.cloned())? {
            Some(value) => {
                drop(guard);
                call(Ok(value));
            }
            None => {
                guard.load_for(key, V::clone, Box::new(call));
                self.leave(guard);
            }
        }
        Ok(())
    }

    /// Puts `value` in. Blocks only while everything in memory is unsaved or the disk is behind
    /// with the log, and with [`Durability::Always`] until it is durable.
    ///
    /// # Errors
    /// Nothing was changed, unless the error comes from waiting with [`Durability::Always`]: then
    /// the change is made, and may or may not survive a crash.
    pub fn insert(&self, key: &K, value: V) -> Result<(), Error> {
        self.put(key, value, None)
    }

    /// As [`DiskCache::insert`], for `life` only; counted on the wall clock, in milliseconds.
    ///
    /// # Errors
    /// As [`DiskCache::insert`].
    pub fn insert_for(&self, key: &K, value: V, life: Duration) -> Result<(), Error> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at = now.saturating_add(life).as_millis();
        self.put(key, value, Some(u64::try_from(at).unwrap_or(u64::MAX)))
    }

    fn put(&self, key: &K, value: V, expires_at_ms: Option<u64>) -> Result<(), Error> {
        with_scratch(|scratch| {
            key.encode(scratch);
            let key_len = scratch.len();
            value.encode(scratch);
            let (key, body) = scratch.split_at(key_len);
            let hash = self.hasher.hash(key);
            let guard = self.lock()?;
            self.write(guard, hash, key, Some(Change { value, body, expires_at_ms }))
        })
    }

    /// Removes `key`, whether it exists or not; asks no disk. Blocks as [`DiskCache::insert`].
    ///
    /// # Errors
    /// As [`DiskCache::insert`].
    pub fn remove(&self, key: &K) -> Result<(), Error> {
        key.encoded(|key| self.write(self.lock()?, self.hasher.hash(key), key, None))
    }

    /// Replaces the value of `key` by what `change` makes of it, as one step: `None` stands for no
    /// value, before and after. An expiry stays as long as the key does. `change` runs under the
    /// cache's lock, perhaps more than once; see [`DiskCache::get_with`]. Blocks as
    /// [`DiskCache::get`] and [`DiskCache::insert`].
    ///
    /// # Errors
    /// As [`DiskCache::get`] and [`DiskCache::insert`].
    ///
    /// # Panics
    /// If `change` does; nothing changes then.
    pub fn update(
        &self,
        key: &K,
        mut change: impl FnMut(Option<&V>) -> Option<V>,
    ) -> Result<(), Error> {
        let (hash, key) = self.encoded(key);
        let mut body = Vec::new();
        let mut guard = self.lock()?;
        guard.look_at_clock();
        let mut has_room = false;
        loop {
            let made;
            (guard, made) = self.known(guard, hash, &key, |value, expires_at_ms| {
                let made = catch_unwind(AssertUnwindSafe(|| change(value)));
                made.map(|value| (value, expires_at_ms))
            })?;
            let (value, expires_at_ms) = match made {
                Ok(made) => made,
                Err(panic) => {
                    drop(guard);
                    resume_unwind(panic);
                }
            };
            body.clear();
            let change = value.map(|value| {
                value.encode(&mut body);
                Change { value, body: &body, expires_at_ms }
            });
            let at = KeyRef { space: guard.space(), hash, key: &key };
            if has_room || guard.room(at, change.as_ref()) == Room::Now {
                return self.finish_write(guard, at, change);
            }
            guard = self.wait_for_room(guard, at, change.as_ref())?;
            // The value may have changed meanwhile: once more, and then without a wait.
            has_room = true;
        }
    }

    /// Removes every key at once; disk space comes back in the background. Takes time in proportion
    /// to the keys in memory, under the lock.
    ///
    /// # Errors
    /// As [`DiskCache::insert`].
    pub fn clear(&self) -> Result<(), Error> {
        let mut guard = self.lock()?;
        let seq = guard.clear()?;
        self.acknowledge(guard, seq)
    }

    fn encoded(&self, key: &K) -> (u64, Vec<u8>) {
        key.encoded(|key| (self.hasher.hash(key), key.to_vec()))
    }
}

// ---- The store as a whole ---------------------------------------------------------------

impl<K: Codec, V: Codec> DiskCache<K, V> {
    /// Keys, in memory or on disk only; those whose life is over count until they are found.
    ///
    /// # Errors
    /// [`Error::Poisoned`].
    pub fn len(&self) -> Result<KeyCount, Error> {
        Ok(self.lock()?.cache.key_count(0))
    }

    /// Blocks until every write made before the call is durable.
    ///
    /// # Errors
    /// The journal could not be synced; the writes are still in memory, and it is tried again.
    pub fn sync(&self) -> Result<(), Error> {
        self.wait_for(self.lock()?, None, Cache::begin_sync).map(|(guard, ())| drop(guard))
    }

    /// Blocks until every write made before the call is in the engine and the journal is as good as
    /// empty: the next [`DiskCache::open`] has nothing to replay.
    ///
    /// # Errors
    /// The disk does not take it at the moment; it is tried again, whether anybody waits or not.
    pub fn save(&self) -> Result<(), Error> {
        let saved = self.wait_for(self.lock()?, None, Cache::begin_drain);
        saved.map(|(guard, ())| drop(guard)).map_err(|error| self.refused(error))
    }

    /// Copies the store as of some moment during the call into `target`, which is made; others go
    /// on reading and writing. Open the copy like any store.
    ///
    /// # Errors
    /// The copy is incomplete, and refused if it is opened: remove it. Or another backup is under
    /// way.
    pub fn backup(&self, target: impl AsRef<Path>) -> Result<BackupProgress, Error> {
        let plan = BackupPlan::new(&self.dir, target.as_ref());
        let mut guard = self.lock()?;
        let tag = guard.next_tag();
        let Some(token) = guard.cache.begin_backup(plan, tag) else {
            return Err(refused("another backup is under way"));
        };
        let (guard, copied) = self.wait(guard, None, tag, token)?;
        self.leave(guard);
        Ok(copied)
    }

    /// Takes every figure of cache, journal and engine to `metrics`, under the lock.
    ///
    /// # Errors
    /// [`Error::Poisoned`].
    pub fn report(&self, metrics: &mut dyn Metrics) -> Result<(), Error> {
        self.lock()?.cache.report(metrics);
        Ok(())
    }
}
