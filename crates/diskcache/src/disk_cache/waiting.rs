//! Waiting under the lock of a `DiskCache`: for keys, for room, for durability. Any thread but the
//! driver's.
//!
//! Whoever needs a key that must be read takes the read itself, or waits for the thread that has
//! it: a read costs no hop to another thread, and as many run at once as threads ask.

use std::sync::TryLockError;
use std::time::{Duration, Instant};

use super::inner::Change;
use super::{DiskCache, Error, Guard};
use crate::cache::map::Codec;
use crate::cache::op::Kind;
use crate::cache::{Cache, Durability, Refusal, Room};
use crate::exec::timed;
use crate::key::{KeyRef, Seq};
use crate::op;
use crate::token::{Token, TokenId};

/// Whoever waits for the disk learns after so long that it does not take anything.
const PATIENCE: Duration = Duration::from_millis(100);

impl<K, V: Codec> DiskCache<K, V> {
    #[inline]
    pub(super) fn lock(&self) -> Result<Guard<'_, V>, Error> {
        match self.shared.inner.try_lock() {
            Ok(guard) => Ok(guard),
            Err(TryLockError::Poisoned(_)) => Err(Error::Poisoned),
            Err(TryLockError::WouldBlock) => self.lock_slow(),
        }
    }

    #[cold]
    fn lock_slow(&self) -> Result<Guard<'_, V>, Error> {
        self.shared.turnstile.come();
        let guard = self.shared.inner.lock();
        self.shared.turnstile.pass();
        guard.map_err(|_| Error::Poisoned)
    }

    /// Gives the lock up; wakes the driver if there is something for it to do.
    #[inline]
    pub(super) fn leave(&self, mut guard: Guard<'_, V>) {
        let must_ring = guard.must_ring();
        drop(guard);
        if must_ring {
            self.shared.signal.ring();
        }
    }

    /// Shows `read` what `key` is, after a read of the disk if it must.
    #[inline]
    pub(super) fn known<'a, R>(
        &'a self,
        mut guard: Guard<'a, V>,
        hash: u64,
        key: &[u8],
        mut read: impl FnMut(Option<&V>, Option<u64>) -> R,
    ) -> Result<(Guard<'a, V>, R), Error> {
        let at = KeyRef { space: guard.space(), hash, key };
        match guard.look(at, &mut read)? {
            Some(read) => Ok((guard, read)),
            None => self.brought(guard, hash, key, read),
        }
    }

    /// The same for a key that must be read. Apart, so that a hit does not pay for it.
    #[inline(never)]
    fn brought<'a, R>(
        &'a self,
        mut guard: Guard<'a, V>,
        hash: u64,
        key: &[u8],
        mut read: impl FnMut(Option<&V>, Option<u64>) -> R,
    ) -> Result<(Guard<'a, V>, R), Error> {
        loop {
            let pinned;
            (guard, pinned) = self.bring(guard, &[(hash, key)])?;
            let at = KeyRef { space: guard.space(), hash, key };
            let seen = guard.look(at, &mut read);
            guard.unpin(pinned);
            // Unknown only when the cache was cleared meanwhile: once more then, which finds the
            // space empty or reads what was written since.
            if let Some(read) = seen? {
                return Ok((guard, read));
            }
        }
    }

    /// Brings `keys` into memory and pins them there; `None` when all of them were known.
    pub(super) fn bring<'a, B: AsRef<[u8]>>(
        &'a self,
        mut guard: Guard<'a, V>,
        keys: &[(u64, B)],
    ) -> Result<(Guard<'a, V>, Option<TokenId>), Error> {
        guard.look_at_clock();
        let inner = &mut *guard;
        let (space, tag) = (inner.space(), inner.next_tag());
        let refs = keys.iter().map(|(hash, key)| KeyRef { space, hash: *hash, key: key.as_ref() });
        let Some(token) = inner.cache.begin_load(&inner.home, refs, tag) else {
            return Ok((guard, None));
        };
        let id = token.into_id();
        guard = self.read_or_wait(guard, tag)?;
        let token = guard.cache.retake::<op::Load>(id);
        let pinned = guard.cache.complete_load(token).map_err(Error::Store)?;
        Ok((guard, Some(pinned.into_id())))
    }

    /// Until the load with `tag` is done: reads whatever is to be read, or waits.
    pub(super) fn read_or_wait<'a>(
        &'a self,
        guard: Guard<'a, V>,
        tag: u64,
    ) -> Result<Guard<'a, V>, Error> {
        let mut guard = guard;
        guard.begin_wait(tag);
        while !guard.is_done(tag) {
            self.assert_may_wait();
            let job = guard.take_read();
            if guard.must_ring() {
                self.shared.signal.ring();
            }
            guard = match job {
                Some(job) => {
                    drop(guard);
                    let done = timed(&self.shared.worker, job);
                    let mut guard = self.lock()?;
                    guard.job_done(done);
                    guard
                }
                None => {
                    let sleeper = guard.sleeper(tag);
                    sleeper.wait(guard).map_err(|_| Error::Poisoned)?
                }
            };
        }
        Ok(guard)
    }

    /// Begins an operation and waits for its end.
    pub(super) fn wait_for<'a, O: Kind>(
        &'a self,
        mut guard: Guard<'a, V>,
        until: Option<Instant>,
        begin: impl FnOnce(&mut Cache, u64) -> Token<O>,
    ) -> Result<(Guard<'a, V>, O::Output), Error> {
        guard.look_at_clock();
        let tag = guard.next_tag();
        let token = begin(&mut guard.cache, tag);
        self.wait(guard, until, tag, token)
    }

    pub(super) fn wait<'a, O: Kind>(
        &'a self,
        mut guard: Guard<'a, V>,
        until: Option<Instant>,
        tag: u64,
        token: Token<O>,
    ) -> Result<(Guard<'a, V>, O::Output), Error> {
        let id = token.into_id();
        guard.begin_wait_for_turn(tag);
        while !guard.is_done(tag) {
            self.assert_may_wait();
            if guard.must_ring() {
                self.shared.signal.ring();
            }
            let slice = until.map_or(PATIENCE, |at| at.saturating_duration_since(Instant::now()));
            let slept = guard.sleeper(tag).wait_timeout(guard, slice.min(PATIENCE));
            let timed_out;
            (guard, timed_out) = slept.map_err(|_| Error::Poisoned)?;
            if !timed_out.timed_out() {
                continue;
            }
            let error = match guard.cache.trouble().filter(|trouble| O::is_held_up_by(*trouble)) {
                Some(trouble) => Error::Refused(trouble),
                None if until.is_some_and(|at| at <= Instant::now()) => Error::TimedOut,
                None => continue,
            };
            guard.leave(tag);
            let token = guard.cache.retake::<O>(id);
            guard.cache.abandon(token);
            return Err(error);
        }
        let token = guard.cache.retake::<O>(id);
        let output = guard.cache.complete(token).map_err(Error::Store)?;
        Ok((guard, output))
    }

    pub(super) fn assert_may_wait(&self) {
        let here = std::thread::current().id();
        assert_ne!(here, self.driver_id, "a callback must not wait for its own cache");
    }

    pub(super) fn write<'a>(
        &'a self,
        mut guard: Guard<'a, V>,
        hash: u64,
        key: &[u8],
        change: Option<Change<'_, V>>,
    ) -> Result<(), Error> {
        guard.look_at_clock();
        let at = KeyRef { space: guard.space(), hash, key };
        if guard.room(at, change.as_ref()) == Room::Wait {
            guard = self.wait_for_room(guard, at, change.as_ref())?;
        }
        // Cleared meanwhile, the space is another.
        let at = KeyRef { space: guard.space(), hash, key };
        self.finish_write(guard, at, change)
    }

    /// Waits until saving has made room for a change.
    pub(super) fn wait_for_room<'a>(
        &'a self,
        guard: Guard<'a, V>,
        key: KeyRef<'_>,
        change: Option<&Change<'_, V>>,
    ) -> Result<Guard<'a, V>, Error> {
        let need = change.map_or(0, Change::len_bytes) + key.key.len() as u64;
        let waited = self.wait_for(guard, None, |cache, tag| cache.begin_room(need, tag));
        waited.map(|(guard, ())| guard).map_err(|error| self.refused(error))
    }

    /// The error of a wait that journal or engine ended, with which of them it was.
    pub(super) fn refused(&self, error: Error) -> Error {
        let Error::Store(failure) = error else { return error };
        match self.lock() {
            Ok(guard) => Error::Refused(guard.cache.trouble().unwrap_or(Refusal::Engine(failure))),
            Err(error) => error,
        }
    }

    pub(super) fn finish_write(
        &self,
        mut guard: Guard<'_, V>,
        key: KeyRef<'_>,
        change: Option<Change<'_, V>>,
    ) -> Result<(), Error> {
        let (seq, old) = guard.write(key, change)?;
        self.acknowledge(guard, seq)?;
        // Freed without the lock.
        drop(old);
        Ok(())
    }

    /// Gives the lock up once operation `seq` is as durable as it has to be.
    pub(super) fn acknowledge(&self, guard: Guard<'_, V>, seq: Seq) -> Result<(), Error> {
        if self.durability == Durability::Always && guard.cache.durable() < seq {
            return self.wait_for(guard, None, Cache::begin_sync).map(|(guard, ())| drop(guard));
        }
        self.leave(guard);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;

    /// Loading new keys spent half of its time in waits of 100 ms for a driver that slept.
    #[test]
    fn a_writer_that_waits_for_room_wakes_the_driver() {
        let dir = tempfile::tempdir().unwrap();
        let cache = DiskCache::<u64, u64>::open(dir.path(), &Options::default()).unwrap();
        let start = Instant::now();
        // The driver sleeps, with nothing to do before it is due.
        let mut guard = loop {
            let mut guard = cache.lock().unwrap();
            guard.look_at_clock();
            if guard.sleeps_until_ms > 0 && !guard.must_ring() {
                break guard;
            }
            drop(guard);
            assert!(start.elapsed() < Duration::from_secs(60), "the driver never sleeps");
            std::thread::yield_now();
        };
        guard.look_at_clock();
        let tag = guard.next_tag();
        let token = guard.cache.begin_room(1, tag);
        guard.begin_wait_for_turn(tag);
        assert!(guard.must_ring(), "nobody else would see to it");
        guard.leave(tag);
        guard.cache.abandon(token);
    }

    /// Begins the load of a key that is on disk only; its tag.
    fn begin(guard: &mut Guard<'_, Vec<u8>>, hash: u64, key: &[u8]) -> (u64, TokenId) {
        guard.look_at_clock();
        let inner = &mut **guard;
        let (space, tag) = (inner.space(), inner.next_tag());
        let token = inner.cache.begin_load(&inner.home, [KeyRef { space, hash, key }], tag);
        let id = token.expect("the key was forgotten").into_id();
        guard.begin_wait(tag);
        (tag, id)
    }

    /// Each cold read made a call to the kernel to wake the very thread that had made it.
    #[test]
    fn who_reads_for_itself_is_not_called() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { memory_bytes: 1 << 20, ..Options::default() };
        let cache = DiskCache::<u64, Vec<u8>>::open(dir.path(), &options).unwrap();
        for key in 0..2000 {
            cache.insert(&key, vec![7; 1000]).unwrap();
        }
        cache.save().unwrap();
        for key in 1000..2000 {
            assert!(cache.get(&key).unwrap().is_some());
        }
        let shared = &cache.shared;
        for (hash, key) in (0..20).map(|key| cache.encoded(&key)) {
            let mut guard = cache.lock().unwrap();
            let (tag, id) = begin(&mut guard, hash, &key);
            let job = guard.take_read().expect("there is room, or it is made");
            drop(guard);
            let done = timed(&shared.worker, job);
            let mut guard = cache.lock().unwrap();
            guard.job_done(done);
            assert_eq!(shared.turnstile.standing(), 0, "it is here, and needs no call");
            assert!(guard.is_done(tag));
            let token = guard.cache.retake::<op::Load>(id);
            let pinned = guard.cache.complete_load(token).unwrap();
            guard.cache.unpin(pinned);
        }
    }

    #[test]
    fn a_hit_waits_for_a_short_slice_of_a_batch_at_most() {
        let dir = tempfile::tempdir().unwrap();
        let cache = DiskCache::<u64, Vec<u8>>::open(dir.path(), &Options::default()).unwrap();
        for key in 0..1000 {
            cache.insert(&key, vec![7; 100]).unwrap();
        }
        let mut guard = cache.lock().unwrap();
        let now = guard.look_at_clock();
        let tag = guard.next_tag();
        let token = guard.cache.begin_drain(tag);
        let mut last = 0;
        while last < 1000 {
            guard.turn(now);
            let saving = guard.cache.gauges().saves_in_flight;
            assert!((1..=128).contains(&(saving - last)), "{last} and then {saving} keys");
            last = saving;
        }
        guard.cache.abandon(token);
    }
}
