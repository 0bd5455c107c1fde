//! A whole store on one thread, driven by a seed: clients, clock, completions, faults, crashes.

#![expect(clippy::unwrap_used, reason = "a test double: a failure here is the test's failure")]

mod actions;
mod check;
mod execute;
pub(crate) mod model;
mod steps;
pub(crate) mod store;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use flintlock_diskcache::cache::flags::KeyState;
use flintlock_diskcache::cache::home::{Home, Known};
use flintlock_diskcache::cache::job::{DecodeError, Done, Job, Lane, Worker};
use flintlock_diskcache::cache::map::{CodecDecode, MapHome};
use flintlock_diskcache::cache::recover::{RecoverError, Recovered};
use flintlock_diskcache::cache::{Cache, Completion, Now, Options, Room};
use flintlock_diskcache::journal::sim::SimDir;
use flintlock_diskcache::journal::{Accepted, EngineAt, StoreId, Writer, WriterOptions, scan};
use flintlock_diskcache::key::{KeyRef, Seq, Space};
use flintlock_diskcache::storage::Storage;
use flintlock_diskcache::{Token, op};

use actions::hash_of;
use model::Model;
use store::{Faults, SimStore};

pub(crate) use actions::{Action, Command, DBS, KEYS, LIMITS, draw, key_in, name_of};

pub(crate) const STORE: StoreId = StoreId([7; 16]);

enum Waiting {
    Idle,
    Load(Token<op::Load>, Command),
    Room(Token<op::Room>, Command),
}

pub(crate) struct World {
    pub(crate) cache: Cache,
    pub(crate) home: MapHome<Vec<u8>>,
    pub(crate) model: Model,
    pub(crate) store: Arc<SimStore>,
    pub(crate) dir: SimDir,
    options: Options,
    worker: Worker<CodecDecode<Vec<u8>>>,
    queued: VecDeque<Job>,
    finished: Vec<Done<Vec<u8>>>,
    clients: Vec<Waiting>,
    drains: Vec<(Token<op::Drain>, Seq)>,
    syncs: Vec<(Token<op::Sync>, Seq)>,
    scans: Vec<(Token<op::Scan>, Space, usize)>,
    now: Now,
    pub(crate) replies: u64,
    pub(crate) errors: u64,
    pub(crate) crashes: u64,
    /// Counters of all lives so far but this.
    past: BTreeMap<&'static str, u64>,
    loop_more: bool,
}

fn append(mut value: Vec<u8>, delta: &[u8]) -> Result<Option<Vec<u8>>, DecodeError> {
    value.extend_from_slice(delta);
    Ok(Some(value))
}

impl World {
    pub(crate) fn new(options: Options, seed: u64, clients: usize) -> Self {
        let store = Arc::new(SimStore::new(seed));
        let dir = SimDir::new();
        let now = Now { mono_ms: 1000, unix_ms: 1_000_000_000 };
        let (cache, home, worker, end) = open(&options, &dir, &store, now);
        assert_eq!(end, Seq(0));
        let clients = (0..clients).map(|_| Waiting::Idle).collect();
        Self {
            cache,
            home,
            model: Model::new(DBS),
            store,
            dir,
            options,
            worker,
            queued: VecDeque::new(),
            finished: Vec::new(),
            clients,
            drains: Vec::new(),
            syncs: Vec::new(),
            scans: Vec::new(),
            now,
            replies: 0,
            errors: 0,
            crashes: 0,
            past: BTreeMap::new(),
            loop_more: false,
        }
    }

    pub(crate) fn act(&mut self, action: Action) {
        match action {
            Action::Send(client, command) => {
                if matches!(self.clients[client], Waiting::Idle) {
                    self.advance(client, command, false);
                }
            }
            Action::Leave(client) => {
                match std::mem::replace(&mut self.clients[client], Waiting::Idle) {
                    Waiting::Idle => {}
                    Waiting::Load(token, _) => self.cache.abandon(token),
                    Waiting::Room(token, _) => self.cache.abandon(token),
                }
            }
            Action::Cancel(client) => match &self.clients[client] {
                Waiting::Idle => {}
                Waiting::Load(token, _) => self.cache.cancel(token),
                Waiting::Room(token, _) => self.cache.cancel(token),
            },
            Action::Preload(db, k) => {
                let name = name_of(k);
                let key = key_in(self.cache.space(db).unwrap(), k, &name);
                self.cache.preload(&self.home, key);
            }
            Action::Wait(ms) => {
                self.now.mono_ms += ms;
                self.now.unix_ms += ms;
            }
            Action::Turn => self.turn(),
            Action::Run(pick) => self.run_one(pick),
            Action::Deliver(pick) => self.deliver(pick),
            Action::Drain => {
                let upto = self.cache.last_seq();
                let token = self.cache.begin_drain(u64::MAX);
                self.drains.push((token, upto));
            }
            Action::Sync => {
                let upto = self.cache.last_seq();
                let token = self.cache.begin_sync(u64::MAX);
                self.syncs.push((token, upto));
            }
            Action::End => {
                let upto = self.cache.last_seq();
                let token = self.cache.begin_end(u64::MAX);
                self.syncs.push((token, upto));
            }
            Action::Scan(db, hash, limit) => {
                let space = self.cache.space(db).unwrap();
                let from = KeyRef { space, hash, key: b"" }.to_buf();
                let token = self.cache.begin_scan(from, limit, 1 << 20, u64::MAX);
                self.scans.push((token, space, limit));
            }
            Action::Limits(limit_bytes, flush_delay_ms) => {
                let options = self.cache.options().clone();
                self.cache.set_options(Options { limit_bytes, flush_delay_ms, ..options });
            }
            Action::Retry => self.cache.retry_now(),
            Action::Faults(read, commit, unclear) => {
                self.store.set_faults(Faults { read, commit, unclear });
            }
            Action::Capacity(bytes) => self.dir.set_capacity(bytes),
            Action::Low(is_low) => self.store.set_low(is_low),
            Action::JournalFault(after, full) => {
                use flintlock_diskcache::journal::sim::Fault;
                let fault = if full { Fault::NoSpace } else { Fault::Io };
                self.dir.plan(self.dir.ops() + after, fault);
            }
            Action::Crash(seed) => self.crash(seed),
        }
        // What a command writes may wake others.
        while self.wake() {}
        self.check();
    }

    fn turn(&mut self) {
        self.home.set_now(self.now);
        let turn = self.cache.turn(&mut self.home, self.now);
        self.loop_more = turn.more;
        if let Some(at) = turn.wake_ms {
            assert!(at < self.now.mono_ms + 1_000_000, "a sane wake-up: {at}");
        }
        let before = self.queued.len();
        while let Some(job) = self.cache.next_job() {
            self.queued.push_back(job);
        }
        let is_due = turn.wake_ms.is_some_and(|at| at <= self.now.mono_ms);
        assert!(!is_due || turn.more || self.queued.len() > before, "a loop that would spin");
        let gauges = self.cache.gauges();
        let has_work = gauges.saves_queued + gauges.saves_in_flight > 0;
        let is_asleep = !turn.more && self.queued.is_empty() && self.finished.is_empty();
        assert!(!(has_work && is_asleep) || turn.wake_ms.is_some(), "nothing would wake the loop");
    }

    /// Runs one queued job; the first of its lane where order matters.
    fn run_one(&mut self, pick: u64) {
        if self.queued.is_empty() {
            return;
        }
        let at = (pick % self.queued.len() as u64) as usize;
        let lane = self.queued[at].lane();
        let first = self.queued.iter().position(|job| job.lane() == lane).unwrap();
        let at = if lane == Lane::Any { at } else { first };
        let job = self.queued.remove(at).unwrap();
        let done = self.worker.run(job).took(pick % 1000);
        self.finished.push(done);
    }

    fn deliver(&mut self, pick: u64) {
        if self.finished.is_empty() {
            return;
        }
        let at = (pick % self.finished.len() as u64) as usize;
        let done = self.finished.remove(at);
        self.home.set_now(self.now);
        self.cache.complete_job(done, &mut self.home, self.now);
    }

    /// Runs a command as far as it goes: to its end, or until it waits.
    fn advance(&mut self, client: usize, command: Command, has_room: bool) {
        self.cache.set_now(self.now);
        self.home.set_now(self.now);
        if command.writes() && self.cache.refusing().is_some() {
            self.errors += 1;
            return;
        }
        if command.writes() && !has_room && self.cache.room(&mut self.home, 200) == Room::Wait {
            let token = self.cache.begin_room(200, client as u64);
            self.clients[client] = Waiting::Room(token, command);
            return;
        }
        let names: Vec<_> = command.keys().iter().map(|(_, k)| name_of(*k)).collect();
        let keys = command.keys();
        let refs: Vec<KeyRef<'_>> = keys
            .iter()
            .zip(&names)
            .map(|((db, k), name)| key_in(self.cache.space(*db).unwrap(), *k, name))
            .collect();
        match self.cache.begin_load(&self.home, refs.iter().copied(), client as u64) {
            Some(token) => self.clients[client] = Waiting::Load(token, command),
            None => self.execute(&command),
        }
    }

    fn wake(&mut self) -> bool {
        let mut completions = Vec::new();
        self.cache.poll_completions(&mut completions);
        let woken = !completions.is_empty();
        for completion in completions {
            if completion.tag == u64::MAX {
                self.wake_service(completion);
                continue;
            }
            let client = completion.tag as usize;
            match std::mem::replace(&mut self.clients[client], Waiting::Idle) {
                Waiting::Idle => panic!("a completion for a client that does not wait"),
                Waiting::Load(token, command) => {
                    assert_eq!(token.id(), completion.token, "each wakes its own");
                    match self.cache.complete_load(token) {
                        Ok(pinned) => {
                            self.execute_loaded(&command);
                            self.cache.unpin(pinned);
                        }
                        Err(_) => self.errors += 1,
                    }
                }
                Waiting::Room(token, command) => {
                    assert_eq!(token.id(), completion.token, "each wakes its own");
                    match self.cache.complete(token) {
                        Ok(()) => self.advance(client, command, true),
                        Err(_) => self.errors += 1,
                    }
                }
            }
        }
        woken
    }

    /// A woken command finds its keys, unless a flush or a swap changed what its names mean.
    fn execute_loaded(&mut self, command: &Command) {
        for (db, k) in command.keys() {
            let name = name_of(k);
            let key = key_in(self.cache.space(db).unwrap(), k, &name);
            if self.cache.known(&self.home, key) == Known::Unknown {
                return;
            }
        }
        self.execute(command);
    }

    fn wake_service(&mut self, completion: Completion) {
        if let Some(at) = self.drains.iter().position(|(t, _)| t.id() == completion.token) {
            let (token, upto) = self.drains.swap_remove(at);
            if self.cache.complete(token).is_err() {
                // Engine or journal failed twice.
                return;
            }
            let meta = self.store.meta();
            if let Ok(meta) = meta {
                assert!(meta.watermark >= upto || self.all_clean(), "drained to {upto:?}");
            }
            return;
        }
        if let Some(at) = self.scans.iter().position(|(t, ..)| t.id() == completion.token) {
            let (token, space, limit) = self.scans.swap_remove(at);
            // An error is no empty stretch.
            let Ok(stretch) = self.cache.complete(token) else { return };
            assert!(stretch.records.len() <= limit);
            assert!(!stretch.more || !stretch.records.is_empty(), "it ends");
            let keys: Vec<_> = stretch.records.iter().map(|one| one.key.as_ref()).collect();
            assert!(keys.iter().all(|key| key.space == space));
            assert!(keys.is_sorted_by(|a, b| a.hash <= b.hash && a != b));
            return;
        }
        let at = self.syncs.iter().position(|(t, _)| t.id() == completion.token).unwrap();
        let (token, upto) = self.syncs.swap_remove(at);
        self.cache.complete(token).unwrap();
        assert!(self.cache.durable() >= upto);
    }

    fn all_clean(&mut self) -> bool {
        self.states().iter().all(|s| s.is_clean())
    }

    fn states(&mut self) -> Vec<KeyState> {
        let mut states = Vec::new();
        for db in 0..DBS {
            let space = self.cache.space(db).unwrap();
            for k in 0..KEYS {
                let name = name_of(k);
                self.home.visit(space, hash_of(k), &mut |e| {
                    if e.key() == name {
                        states.push(e.state());
                    }
                });
            }
        }
        states
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.drop_everything();
    }
}

type Parts = (Cache, MapHome<Vec<u8>>, Worker<CodecDecode<Vec<u8>>>, Seq);

fn open(options: &Options, dir: &SimDir, store: &Arc<SimStore>, now: Now) -> Parts {
    try_open(options, dir, store, now).unwrap().0
}

type Opened = Result<(Parts, Recovered), RecoverError>;

/// As a start does it, after a crash that left `dir` and `store`.
pub(crate) fn try_open(options: &Options, dir: &SimDir, store: &Arc<SimStore>, now: Now) -> Opened {
    let meta = store.meta().unwrap();
    let at = EngineAt { watermark: meta.watermark, highest: meta.highest };
    let report = scan(dir, &STORE, at, flintlock_diskcache::journal::Depth::Needed).unwrap();
    let end = report.end;
    let accepted: Accepted = report.accept(false).expect("no crash makes a store unusable");
    let journal = WriterOptions { segment_bytes: 4 << 10, ..WriterOptions::default() };
    let opened = Writer::open(Arc::new(dir.clone()), STORE, journal, &accepted).unwrap();
    let engine: Arc<dyn Storage> = Arc::clone(store) as _;
    let worker = Worker::new(engine, CodecDecode::default());
    let mut home = MapHome::new(append);
    home.set_now(now);
    let opened = Cache::open(options.clone(), &meta, opened, &mut home, &worker, now);
    opened.map(|(cache, recovered)| ((cache, home, worker, end), recovered))
}
