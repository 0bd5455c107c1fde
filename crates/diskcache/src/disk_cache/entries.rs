//! Going through all keys of a `DiskCache`: the engine's records, a stretch at a time, and what
//! memory knows better. Any thread but the driver's.
//!
//! What is in memory only is saved first, so that every key is among the records. Memory is asked
//! about each of them as its stretch comes: the key may be gone or have another value. Memory
//! knows whatever the engine did not have when the stretch was asked for, until a batch is saved;
//! if one was saved meanwhile, a key that memory does not know is read anew.

use std::fmt;

use super::{DiskCache, Error, Guard};
use crate::cache::home::Known;
use crate::cache::job::{DecodeError, Failure};
use crate::cache::map::Codec;
use crate::cache::op::Stretch;
use crate::key::{KeyBuf, KeyRef, Space};
use crate::storage::{ErrorKind, Record};

/// Keys and bytes of one stretch.
const STRETCH_KEYS: usize = 1000;
const STRETCH_BYTES: usize = 256 << 10;

/// All keys of a cache, with their values; see [`DiskCache::entries`].
///
/// Holds up to 256 KiB of records beside the limit, or one record if that is larger.
pub struct Entries<'a, K, V: Codec> {
    cache: &'a DiskCache<K, V>,
    /// [`DiskCache::clear`] leaves it.
    space: Space,
    read: std::vec::IntoIter<(KeyBuf, Found<V>)>,
    /// Where the next stretch begins; `None` at the end.
    from: Option<KeyBuf>,
}

/// What is known of a key whose record came.
enum Found<V> {
    Value(V),
    Record(Record),
    /// It may have changed since.
    Unsure,
}

impl<K, V: Codec> fmt::Debug for Entries<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entries").field("from", &self.from).finish_non_exhaustive()
    }
}

impl<K: Codec, V: Codec + Clone> DiskCache<K, V> {
    /// All keys with their values, in no particular order. Blocks until what is in memory only is
    /// saved, as [`DiskCache::save`] does; each step blocks for a read of the disk at times.
    ///
    /// A key that is there from the beginning to the end comes once, with a value that it had after
    /// the beginning; one that is put in or removed meanwhile may come or not. After an error there
    /// is no more: what lies behind a record that cannot be read is not reached.
    ///
    /// # Errors
    /// As [`DiskCache::save`].
    ///
    /// # Examples
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// use flintlock_diskcache::{DiskCache, Options};
    ///
    /// let ages: DiskCache<String, u32> = DiskCache::open(dir.path(), &Options::default())?;
    /// ages.insert(&"Ada".to_owned(), 36)?;
    /// ages.insert(&"Blaise".to_owned(), 39)?;
    /// let mut sum = 0;
    /// for entry in ages.entries()? {
    ///     let (_name, age) = entry?;
    ///     sum += age;
    /// }
    /// assert_eq!(sum, 75);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn entries(&self) -> Result<Entries<'_, K, V>, Error> {
        self.save()?;
        let space = self.lock()?.space();
        let from = Some(KeyRef { space, hash: 0, key: b"" }.to_buf());
        Ok(Entries { cache: self, space, read: Vec::new().into_iter(), from })
    }
}

impl<K: Codec, V: Codec + Clone> Entries<'_, K, V> {
    /// Reads the stretch that begins at `from`.
    fn read(&mut self, from: KeyBuf) -> Result<(), Error> {
        let cache = self.cache;
        let guard = cache.lock()?;
        let batches = guard.cache.stats().batches;
        let (guard, stretch) = cache.wait_for(guard, None, |cache, tag| {
            cache.begin_scan(from, STRETCH_KEYS, STRETCH_BYTES, tag)
        })?;
        if guard.space() == self.space {
            let is_sure = guard.cache.stats().batches == batches;
            self.take(&guard, stretch, is_sure);
        }
        cache.leave(guard);
        Ok(())
    }

    fn take(&mut self, guard: &Guard<'_, V>, stretch: Stretch, is_sure: bool) {
        let last = stretch.records.last().filter(|_| stretch.more);
        self.from = last.map(|last| {
            let last = last.key.as_ref();
            // The smallest that is larger.
            KeyRef { key: &[last.key, b"\0"].concat(), ..last }.to_buf()
        });
        let found = stretch.records.into_iter().filter_map(|scanned| {
            let key = scanned.key.as_ref();
            let found = match guard.cache.known(&guard.home, key) {
                Known::Absent => return None,
                Known::Value => {
                    let (value, expires_at_ms) = guard.home.peek(key)?;
                    guard.lives(expires_at_ms).then(|| Found::Value(value.clone()))?
                }
                Known::Unknown if !is_sure => Found::Unsure,
                Known::Unknown => {
                    let record = scanned.record;
                    guard.lives(record.expires_at_ms).then_some(Found::Record(record))?
                }
            };
            Some((scanned.key, found))
        });
        self.read = found.collect::<Vec<_>>().into_iter();
    }

    /// The entry of a key; `None` if it is gone.
    fn entry(&self, key: &KeyBuf, found: Found<V>) -> Option<Result<(K, V), Error>> {
        let corrupt = |DecodeError(what)| Error::Store(Failure { kind: ErrorKind::Corrupt, what });
        let key = match K::decode(key.as_ref().key) {
            Ok(key) => key,
            Err(error) => return Some(Err(corrupt(error))),
        };
        let value = match found {
            Found::Value(value) => Ok(value),
            Found::Record(record) => V::decode(&record.payload).map_err(corrupt),
            Found::Unsure => self.cache.get(&key).transpose()?,
        };
        Some(value.map(|value| (key, value)))
    }
}

impl<K: Codec, V: Codec + Clone> Iterator for Entries<'_, K, V> {
    type Item = Result<(K, V), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let entry = match self.read.next() {
                Some((key, found)) => self.entry(&key, found),
                None => {
                    let from = self.from.take()?;
                    self.read(from).err().map(Err)
                }
            };
            if matches!(entry, Some(Err(_))) {
                self.read = Vec::new().into_iter();
                self.from = None;
            }
            if entry.is_some() {
                return entry;
            }
        }
    }
}
