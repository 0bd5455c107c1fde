//! Stretches of keys being read: no more at a time than there are readers. Main thread; no IO.
//!
//! A stretch holds whole records, values included, from its read until its owner takes it, and any
//! number of clients may walk the keys at once. So each gets a part of the bytes that reads may
//! hold, and whoever comes while all parts are taken stands in line.

use std::collections::VecDeque;

use super::Cache;
use super::job::{Failure, Job, Work};
use super::op::{Output, Scan, Stretch};
use crate::key::KeyBuf;
use crate::token::{Token, TokenId};

/// Who reads, and who stands in line.
#[derive(Debug, Default)]
pub(super) struct Scans {
    /// Some may have left.
    line: VecDeque<Wanted>,
    /// Jobs that are out.
    pub(super) reading: usize,
}

#[derive(Debug)]
struct Wanted {
    token: TokenId,
    from: KeyBuf,
    limit: usize,
    limit_bytes: usize,
}

impl Cache {
    /// Reads a stretch of keys from the engine, at most `limit` and about `limit_bytes`, or as much
    /// as a reader may hold if that is less.
    ///
    /// What the home knows of a key overrides what comes. To see every key that exists
    /// throughout, collect the resident keys of the stretch *before* this call: a key saved and
    /// evicted between this call and its completion is in neither otherwise.
    pub fn begin_scan(
        &mut self,
        from: KeyBuf,
        limit: usize,
        limit_bytes: usize,
        tag: u64,
    ) -> Token<Scan> {
        let token = self.begin(tag);
        if !self.closed {
            // While the engine hangs, clients may come and go.
            if self.scans.line.len() > 2 * self.waiters.blocked() {
                self.scans.line.retain(|wanted| self.waiters.is_waiting(wanted.token));
            }
            self.scans.line.push_back(Wanted { token, from, limit, limit_bytes });
            self.start_scans();
        }
        self.waiters.token(token)
    }

    /// Hands out the next stretches in line, if there is a place.
    pub(super) fn start_scans(&mut self) {
        while self.scans_held() < self.options.load_workers.max(1)
            && let Some(wanted) = self.scans.line.pop_front()
        {
            let Wanted { token, from, limit, limit_bytes } = wanted;
            if self.waiters.is_waiting(token) {
                let limit_bytes = limit_bytes.min(self.scan_bytes());
                self.scans.reading += 1;
                self.outbox.push_back(Job(Work::Scan { token, from, limit, limit_bytes }));
            }
        }
    }

    pub(super) fn scan_done(&mut self, token: TokenId, result: Result<Stretch, Failure>) {
        self.scans.reading -= 1;
        self.stats.read_failures += u64::from(result.is_err());
        self.waiters.finish(token, result.map(Output::Stretch));
        self.start_scans();
    }

    /// Stretches being read, or read and not taken yet.
    fn scans_held(&self) -> usize {
        self.scans.reading + self.waiters.stretches()
    }

    /// A stretch's part of the bytes that reads may hold.
    fn scan_bytes(&self) -> usize {
        let part = self.options.load_bytes() / self.options.load_workers.max(1) as u64;
        usize::try_from(part).unwrap_or(usize::MAX)
    }

    /// Bytes that stretches hold, or may.
    pub(super) fn scan_memory_bytes(&self) -> u64 {
        let line = self.scans.line.capacity() * size_of::<Wanted>();
        (self.scans_held() * self.scan_bytes() + line) as u64
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::Options;
    use super::super::map::MapHome;
    use super::super::memory::Account;
    use super::super::{Completion, Now};
    use super::*;
    use crate::cache::job::{Decode, Worker};
    use crate::cache::map::CodecDecode;
    use crate::journal::sim::SimDir;
    use crate::journal::{Depth, EngineAt, StoreId, Writer, WriterOptions, scan};
    use crate::key::{KeyRef, Space};
    use crate::storage::Meta;
    use crate::storage::memory::MemoryStore;

    const READERS: usize = 3;
    const LIMIT: u64 = 3 << 20;

    fn cache() -> Cache {
        let (dir, store) = (SimDir::new(), StoreId([7; 16]));
        let report = scan(&dir, &store, EngineAt::default(), Depth::Needed).unwrap();
        let accepted = report.accept(false).unwrap();
        let opened = Writer::open(Arc::new(dir), store, WriterOptions::default(), &accepted);
        let meta = Meta { spaces: vec![Space(1)], next_space: 2, ..Meta::default() };
        let (load_workers, limit_bytes) = (READERS, LIMIT);
        let options = Options { databases: 1, load_workers, limit_bytes, ..Options::default() };
        Cache::new(options, &meta, opened.unwrap().0, Now::default())
    }

    fn begin(cache: &mut Cache, tag: u64) -> Token<Scan> {
        let from = KeyRef { space: Space(1), hash: 0, key: b"" }.to_buf();
        cache.begin_scan(from, 1000, 1 << 20, tag)
    }

    fn worker() -> Worker<impl Decode<Value = Vec<u8>>> {
        Worker::new(Arc::new(MemoryStore::new()), CodecDecode::<Vec<u8>>::default())
    }

    fn jobs(cache: &mut Cache) -> Vec<Job> {
        std::iter::from_fn(|| cache.next_job()).collect()
    }

    /// A hundred clients that walk the keys together had a hundred stretches in memory, which
    /// counted nowhere.
    #[test]
    fn walkers_take_turns_and_what_they_hold_is_counted() {
        let (mut cache, mut home, worker) = (cache(), MapHome::<Vec<u8>>::default(), worker());
        let mut tokens: Vec<_> = (0..100).map(|tag| Some(begin(&mut cache, tag))).collect();
        // One leaves while it stands in line.
        cache.abandon(tokens[50].take().unwrap());
        let mut served = Vec::new();
        loop {
            let jobs = jobs(&mut cache);
            assert!(jobs.len() <= READERS, "{} at once", jobs.len());
            if jobs.is_empty() {
                break;
            }
            for job in &jobs {
                let Work::Scan { limit_bytes, .. } = &job.0 else { panic!("{job:?}") };
                assert!((READERS * limit_bytes) as u64 <= LIMIT / 20, "{limit_bytes} bytes");
            }
            cache.refresh_ledger(&home);
            let counted = cache.ledger.get(Account::Loads);
            assert!(counted > LIMIT / 20 - 100, "{counted} bytes");
            for job in jobs {
                cache.complete_job(worker.run(job), &mut home, Now::default());
            }
            assert!(cache.next_job().is_none(), "what came holds its place until it is taken");
            let mut told = Vec::new();
            cache.poll_completions(&mut told);
            for Completion { tag, .. } in told {
                let token = tokens[usize::try_from(tag).unwrap()].take().unwrap();
                cache.complete(token).unwrap();
                served.push(tag);
            }
        }
        assert!(served.iter().copied().eq((0..100).filter(|tag| *tag != 50)), "{served:?}");
        assert!(cache.is_idle());
    }

    #[test]
    fn clients_that_come_and_go_while_the_engine_hangs_leave_nothing_behind() {
        let mut cache = cache();
        let held: Vec<_> = (0..READERS).map(|tag| begin(&mut cache, tag as u64)).collect();
        for tag in 10..1000 {
            let token = begin(&mut cache, tag);
            cache.abandon(token);
        }
        assert!(cache.scans.line.len() < 20, "{} in line", cache.scans.line.len());
        held.into_iter().for_each(|token| cache.abandon(token));
    }
}
