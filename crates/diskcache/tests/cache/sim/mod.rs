//! A whole store on one thread, driven by a seed: clients, clock, completions, faults, crashes.

#![expect(clippy::unwrap_used, reason = "a test double: a failure here is the test's failure")]

pub(crate) mod model;
pub(crate) mod store;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use flintlock_diskcache::cache::flags::KeyState;
use flintlock_diskcache::cache::home::{Home, Known};
use flintlock_diskcache::cache::job::{DecodeError, Done, Job, JobKind, Lane, Worker};
use flintlock_diskcache::cache::map::{CodecDecode, MapHome};
use flintlock_diskcache::cache::memory::Account;
use flintlock_diskcache::cache::rng::Rng;
use flintlock_diskcache::cache::{Cache, Completion, KeyCount, Now, Options, Room};
use flintlock_diskcache::journal::sim::{Kept, SimDir};
use flintlock_diskcache::journal::{Accepted, EngineAt, StoreId, Writer, WriterOptions, scan};
use flintlock_diskcache::key::{KeyRef, Seq, Space};
use flintlock_diskcache::storage::Storage;
use flintlock_diskcache::{Token, op};

use model::{Effect, Model};
use store::{Faults, SimStore};

pub(crate) const KEYS: u8 = 40;
pub(crate) const DBS: usize = 3;
/// The longest life of a key that has an expiry.
const EXPIRY_MAX_MS: u64 = 2000;
const STORE: StoreId = StoreId([7; 16]);

/// A command of a client.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Command {
    Get(usize, u8),
    MGet(usize, Vec<u8>),
    Set(usize, u8, Vec<u8>),
    SetExpiring(usize, u8, Vec<u8>, u64),
    Del(usize, u8),
    Append(usize, u8, Vec<u8>),
    /// Moves one unit from one counter to another: an EXEC.
    Transfer(usize, u8, u8),
    Rename(usize, u8, u8),
    Move(usize, usize, u8),
    Flush(usize),
    Swap(usize, usize),
}

/// What happens next.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// A client, if idle, sends a command.
    Send(usize, Command),
    /// A client goes away while it waits, and comes back as a new one.
    Leave(usize),
    /// A client's wait is cancelled.
    Cancel(usize),
    /// A key is asked for ahead of need.
    Preload(usize, u8),
    /// Time passes.
    Wait(u64),
    /// A turn of the loop.
    Turn,
    /// Some queued job runs.
    Run(u64),
    /// Some finished job comes back.
    Deliver(u64),
    /// Somebody asks for a drain.
    Drain,
    /// Somebody asks for a sync.
    Sync,
    /// Faults from now on.
    Faults(u64, u64, u64),
    /// The journal's disk has this many bytes from now on.
    Capacity(Option<u64>),
    /// The next operation but so many on the journal's disk fails.
    JournalFault(u64, bool),
    /// The process dies; what was not synced survives by chance.
    Crash(u64),
}

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

pub(crate) fn name_of(key: u8) -> [u8; 4] {
    [b'k', b'e', b'y', key]
}

fn hash_of(key: u8) -> u64 {
    // The first keys collide in pairs: a hash is not an identity.
    Rng::new(u64::from(if key < 8 { key / 2 } else { key })).next_u64()
}

pub(crate) fn key_in(space: Space, key: u8, name: &[u8; 4]) -> KeyRef<'_> {
    KeyRef { space, hash: hash_of(key), key: name }
}

impl Command {
    fn keys(&self) -> Vec<(usize, u8)> {
        match self {
            Self::Get(db, k) | Self::Del(db, k) | Self::Append(db, k, _) => vec![(*db, *k)],
            Self::MGet(db, ks) => ks.iter().map(|k| (*db, *k)).collect(),
            Self::Transfer(db, a, b) | Self::Rename(db, a, b) => vec![(*db, *a), (*db, *b)],
            Self::Move(from, to, k) => vec![(*from, *k), (*to, *k)],
            // Blind: these need no value.
            Self::Set(..) | Self::SetExpiring(..) | Self::Flush(_) | Self::Swap(..) => Vec::new(),
        }
    }

    fn writes(&self) -> bool {
        !matches!(self, Self::Get(..) | Self::MGet(..))
    }
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
            Action::Faults(read, commit, unclear) => {
                self.store.set_faults(Faults { read, commit, unclear });
            }
            Action::Capacity(bytes) => self.dir.set_capacity(bytes),
            Action::JournalFault(after, full) => {
                use flintlock_diskcache::journal::sim::Fault;
                let fault = if full { Fault::NoSpace } else { Fault::Io };
                self.dir.plan(self.dir.ops() + after, fault);
            }
            Action::Crash(seed) => self.crash(seed),
        }
        self.wake();
        self.check();
    }

    /// Sends one command and lets everything it needs happen.
    pub(crate) fn done(&mut self, command: Command) {
        self.act(Action::Send(0, command));
        self.settle();
    }

    /// Sends one command and leaves the jobs it needs queued.
    pub(crate) fn begin(&mut self, client: usize, command: Command) {
        self.act(Action::Send(client, command));
        self.act(Action::Turn);
    }

    /// Runs everything queued, and keeps the outcomes back.
    pub(crate) fn run_all(&mut self) {
        while !self.queued.is_empty() {
            self.act(Action::Run(0));
        }
    }

    /// Runs what is queued of one kind, and keeps the outcomes back.
    pub(crate) fn run_kind(&mut self, kind: JobKind) {
        while let Some(at) = self.queued.iter().position(|job| job.kind() == kind) {
            self.act(Action::Run(at as u64));
        }
    }

    /// Takes the turns that the cache asks for at once, with no job and no time in between.
    pub(crate) fn turn_while_more(&mut self) {
        self.act(Action::Turn);
        while self.loop_more {
            self.act(Action::Turn);
        }
    }

    /// Hands everything finished back, and takes a turn.
    pub(crate) fn deliver_all(&mut self) {
        while !self.finished.is_empty() {
            self.act(Action::Deliver(0));
        }
        self.act(Action::Turn);
    }

    /// Jobs of a kind that are queued.
    pub(crate) fn queued(&self, kind: JobKind) -> usize {
        self.queued.iter().filter(|job| job.kind() == kind).count()
    }

    /// Jobs of a kind whose outcome is kept back.
    pub(crate) fn finished(&self, kind: JobKind) -> usize {
        self.finished.iter().filter(|done| done.kind() == kind).count()
    }

    /// Takes turns and runs journal jobs until a commit is queued.
    pub(crate) fn until_commit(&mut self) {
        for _ in 0..100 {
            self.act(Action::Turn);
            if self.queued(JobKind::Commit) > 0 {
                return;
            }
            self.run_all();
            self.deliver_all();
        }
        panic!("no commit came: {:?}", self.cache.gauges());
    }

    /// Forgets every clean entry, as memory pressure would.
    pub(crate) fn evict_all(&mut self) {
        for db in 0..DBS {
            let space = self.cache.space(db).unwrap();
            for k in 0..KEYS {
                self.home.forget(space, hash_of(k));
            }
        }
    }

    /// Lets everything but loads come back.
    pub(crate) fn until_rest_but_loads(&mut self) {
        self.act(Action::Turn);
        self.run_all();
        while let Some(at) = self.finished.iter().position(|d| d.kind() != JobKind::Load) {
            self.act(Action::Deliver(at as u64));
        }
    }

    /// Evicts for a while, as under a limit far too small.
    pub(crate) fn squeeze(&mut self) {
        let options = self.cache.options().clone();
        self.cache.set_options(Options { limit_bytes: 1, ..options.clone() });
        for _ in 0..100 {
            self.act(Action::Turn);
        }
        self.cache.set_options(options);
    }

    /// Whether a client waits.
    pub(crate) fn waits(&self, client: usize) -> bool {
        !matches!(self.clients[client], Waiting::Idle)
    }

    /// What the engine holds of a key.
    pub(crate) fn in_engine(&self, db: usize, k: u8) -> Option<Vec<u8>> {
        let name = name_of(k);
        let key = key_in(self.cache.space(db).unwrap(), k, &name);
        self.store.record(key).map(|record| record.payload.to_vec())
    }

    /// What is known of a key without a read.
    pub(crate) fn known(&self, db: usize, k: u8) -> Known {
        let name = name_of(k);
        self.cache.known(&self.home, key_in(self.cache.space(db).unwrap(), k, &name))
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

    fn wake(&mut self) {
        let mut completions = Vec::new();
        self.cache.poll_completions(&mut completions);
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
            self.cache.complete(token).unwrap();
            let meta = self.store.meta();
            if let Ok(meta) = meta {
                assert!(meta.watermark >= upto || self.all_clean(), "drained to {upto:?}");
            }
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

    // ---- Commands, as a server runs them ------------------------------------------------

    fn execute(&mut self, command: &Command) {
        self.cache.set_now(self.now);
        let first = self.cache.last_seq().next();
        let mut effects = Vec::new();
        match command {
            Command::Get(db, k) => self.check_get(*db, *k, &mut effects),
            Command::MGet(db, ks) => {
                for k in ks {
                    self.check_get(*db, *k, &mut effects);
                }
            }
            Command::Set(db, k, v) => self.set(*db, *k, v.clone(), None, &mut effects),
            Command::SetExpiring(db, k, v, ms) => {
                let at = self.now.unix_ms + ms;
                self.set(*db, *k, v.clone(), Some(at), &mut effects);
            }
            Command::Del(db, k) => {
                if self.get(*db, *k, &mut effects).is_some() {
                    self.delete(*db, *k, &mut effects);
                }
            }
            Command::Append(db, k, bytes) => self.append(*db, *k, bytes, &mut effects),
            Command::Transfer(db, a, b) => {
                if a != b {
                    for (k, by) in [(*a, 255_u8), (*b, 1)] {
                        let old = self.get(*db, k, &mut effects).unwrap_or_else(|| vec![0]);
                        let mut new = old;
                        new[0] = new[0].wrapping_add(by);
                        self.set(*db, k, new, None, &mut effects);
                    }
                }
            }
            Command::Rename(db, a, b) => {
                if let (true, Some((v, at))) = (a != b, self.get_with(*db, *a, &mut effects)) {
                    self.delete(*db, *a, &mut effects);
                    self.set(*db, *b, v, at, &mut effects);
                }
            }
            Command::Move(from, to, k) => {
                let target = self.get(*to, *k, &mut effects);
                if let (true, None, Some((v, at))) =
                    (from != to, target, self.get_with(*from, *k, &mut effects))
                {
                    self.delete(*from, *k, &mut effects);
                    self.set(*to, *k, v, at, &mut effects);
                }
            }
            Command::Flush(db) => {
                let old = self.cache.flush(*db).unwrap();
                use flintlock_diskcache::cache::recover::Replayed;
                self.home.drop_space(old);
                effects.push(Effect::Flush(*db));
            }
            Command::Swap(a, b) => {
                self.cache.swap(*a, *b).unwrap();
                effects.push(Effect::Swap(*a, *b));
            }
        }
        let last = self.cache.last_seq();
        if !effects.is_empty() {
            self.model.run(first, last, effects);
        }
        self.replies += 1;
    }

    fn check_get(&mut self, db: usize, k: u8, effects: &mut Vec<Effect>) {
        let got = self.get(db, k, effects);
        let want = self.model.get(db, k, self.now.unix_ms);
        assert_eq!(got.as_deref(), want, "key {k} of database {db}");
    }

    fn get(&mut self, db: usize, k: u8, effects: &mut Vec<Effect>) -> Option<Vec<u8>> {
        self.get_with(db, k, effects).map(|(v, _)| v)
    }

    /// The value, deleting it first if its time is over.
    fn get_with(
        &mut self,
        db: usize,
        k: u8,
        effects: &mut Vec<Effect>,
    ) -> Option<(Vec<u8>, Option<u64>)> {
        let name = name_of(k);
        let key = key_in(self.cache.space(db).unwrap(), k, &name);
        assert_ne!(self.cache.known(&self.home, key), Known::Unknown, "loaded before it runs");
        self.home.value(key)?;
        let (value, at) = self.home.peek(key).unwrap();
        let value = value.clone();
        if at.is_some_and(|at| at <= self.now.unix_ms) {
            self.delete(db, k, effects);
            return None;
        }
        Some((value, at))
    }

    fn set(
        &mut self,
        db: usize,
        k: u8,
        value: Vec<u8>,
        at: Option<u64>,
        effects: &mut Vec<Effect>,
    ) {
        let name = name_of(k);
        let key = key_in(self.cache.space(db).unwrap(), k, &name);
        let seq = self.cache.put(key, at, |out| out.extend_from_slice(&value)).unwrap();
        self.change(key, Some(value.clone()), at, seq);
        effects.push(Effect::Set(db, k, (value, at)));
    }

    fn delete(&mut self, db: usize, k: u8, effects: &mut Vec<Effect>) {
        let name = name_of(k);
        let key = key_in(self.cache.space(db).unwrap(), k, &name);
        let seq = self.cache.delete(key).unwrap();
        self.change(key, None, None, seq);
        effects.push(Effect::Del(db, k));
    }

    fn append(&mut self, db: usize, k: u8, bytes: &[u8], effects: &mut Vec<Effect>) {
        let Some((mut value, at)) = self.get_with(db, k, effects) else {
            self.set(db, k, bytes.to_vec(), None, effects);
            return;
        };
        if value.len() > 200 {
            self.set(db, k, bytes.to_vec(), at, effects);
            return;
        }
        let name = name_of(k);
        let key = key_in(self.cache.space(db).unwrap(), k, &name);
        let seq = self.cache.delta(key, |out| out.extend_from_slice(bytes)).unwrap();
        value.extend_from_slice(bytes);
        self.change(key, Some(value.clone()), at, seq);
        effects.push(Effect::Set(db, k, (value, at)));
    }

    fn change(&mut self, key: KeyRef<'_>, value: Option<Vec<u8>>, at: Option<u64>, seq: Seq) {
        let was = self.home.known(key);
        let fresh = self.cache.fresh_state(key.space);
        let exists = value.is_some();
        let (_, state) = self.home.set(key, value, at, fresh);
        self.cache.changed(key, seq, was, exists, state);
    }

    // ---- Crashes and checks -------------------------------------------------------------

    fn crash(&mut self, seed: u64) {
        let mut rng = Rng::new(seed);
        // The workers got somewhere with what they had, and nobody heard of it.
        for _ in 0..rng.below(4) {
            self.run_one(rng.next_u64());
        }
        self.crashes += 1;
        self.past = self.counters();
        let acknowledged = self.cache.durable();
        self.drop_everything();
        let kept = match rng.below(4) {
            0 => Kept::Nothing,
            1 => Kept::All,
            _ => Kept::Some(rng.next_u64()),
        };
        self.dir = self.dir.crash(kept);
        self.dir.set_capacity(None);
        self.store.set_faults(Faults::default());
        let (cache, home, worker, end) = open(&self.options, &self.dir, &self.store, self.now);
        assert!(end >= acknowledged, "acknowledged up to {acknowledged:?}, recovered to {end:?}");
        self.cache = cache;
        self.home = home;
        self.worker = worker;
        self.model.crash(end);
    }

    /// Counters over all lives.
    pub(crate) fn counters(&self) -> BTreeMap<&'static str, u64> {
        let mut all = self.past.clone();
        for (name, count) in self.cache.stats().counters() {
            *all.entry(name).or_default() += count;
        }
        all
    }

    fn drop_everything(&mut self) {
        self.queued.clear();
        self.finished.clear();
        for client in &mut self.clients {
            match std::mem::replace(client, Waiting::Idle) {
                Waiting::Idle => {}
                Waiting::Load(token, _) => self.cache.abandon(token),
                Waiting::Room(token, _) => self.cache.abandon(token),
            }
        }
        for (token, _) in self.drains.drain(..) {
            self.cache.abandon(token);
        }
        for (token, _) in self.syncs.drain(..) {
            self.cache.abandon(token);
        }
    }

    fn check(&mut self) {
        let gauges = self.cache.gauges();
        assert_eq!(gauges.tokens_leaked, 0);
        assert!(gauges.watermark_seq <= gauges.durable_seq, "the engine is never ahead");
        assert!(gauges.durable_seq <= gauges.last_seq);
        let waiting = self.clients.iter().filter(|c| !matches!(c, Waiting::Idle)).count();
        assert_eq!(gauges.waiting as usize, waiting + self.drains.len() + self.syncs.len());
        self.model.durable(Seq(gauges.durable_seq));
    }

    /// Lets everything come to rest, without faults; then memory and engine agree with the model.
    pub(crate) fn settle(&mut self) {
        self.dir.mend();
        self.dir.set_capacity(None);
        self.store.set_faults(Faults::default());
        self.act(Action::Drain);
        for round in 0.. {
            assert!(round < 100_000, "comes to rest: {:?}", self.cache.gauges());
            self.act(Action::Wait(1 + round / 10));
            self.act(Action::Turn);
            while !self.queued.is_empty() {
                self.act(Action::Run(round));
            }
            while !self.finished.is_empty() {
                self.act(Action::Deliver(round));
            }
            let at_rest = self.drains.is_empty() && self.cache.is_idle() && !self.loop_more;
            if at_rest && self.clients.iter().all(|c| matches!(c, Waiting::Idle)) {
                break;
            }
        }
    }

    /// At rest: every key reads as the model says, counts are exact, and nothing is left over.
    pub(crate) fn verify(&mut self) {
        self.settle();
        // Whatever has an expiry outlives it now, and reading everything deletes it.
        self.act(Action::Wait(EXPIRY_MAX_MS));
        for db in 0..DBS {
            let keys: Vec<u8> = (0..KEYS).collect();
            self.act(Action::Send(0, Command::MGet(db, keys)));
            self.settle();
        }
        self.settle();
        self.model.expire(self.now.unix_ms);
        let mut in_engine = 0;
        for db in 0..DBS {
            let want = self.model.dbs[db].len() as u64;
            assert_eq!(self.cache.key_count(db), KeyCount::Exact(want), "count of {db}");
            in_engine += want;
        }
        assert!(self.all_clean(), "at rest nothing is dirty");
        assert_eq!(self.store.len() as u64, in_engine, "the engine has these and no others");
        let gauges = self.cache.gauges();
        let idle = [gauges.loads_queued, gauges.loads_in_flight, gauges.saves_in_flight];
        assert_eq!(idle, [0; 3]);
        assert_eq!((gauges.saves_queued, gauges.waiting), (0, 0));
        assert_eq!(self.cache.ledger().get(Account::Batch), 0);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.drop_everything();
    }
}

type Parts = (Cache, MapHome<Vec<u8>>, Worker<CodecDecode<Vec<u8>>>, Seq);

fn open(options: &Options, dir: &SimDir, store: &Arc<SimStore>, now: Now) -> Parts {
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
    let (cache, _) = Cache::open(options.clone(), &meta, opened, &mut home, &worker, now).unwrap();
    (cache, home, worker, end)
}

/// Draws the next action; the mix makes every state meet every other.
pub(crate) fn draw(rng: &mut Rng, clients: usize) -> Action {
    let client = rng.below(clients as u64) as usize;
    match rng.below(1000) {
        0..=399 => Action::Send(client, draw_command(rng)),
        400..=599 => Action::Turn,
        600..=749 => Action::Run(rng.next_u64()),
        750..=899 => Action::Deliver(rng.next_u64()),
        900..=969 => Action::Wait(rng.below(30)),
        970..=974 => Action::Leave(client),
        975..=978 => Action::Cancel(client),
        979..=980 => Action::Drain,
        981..=982 => Action::Preload(rng.below(DBS as u64) as usize, rng.below(KEYS.into()) as u8),
        983..=986 => Action::Sync,
        987..=989 => Action::Faults(rng.below(300), rng.below(500), rng.below(1000)),
        990..=993 => Action::Faults(0, 0, 0),
        994 => Action::JournalFault(rng.below(6), rng.below(2) == 0),
        995 => Action::Capacity(Some(rng.below(20_000))),
        996..=997 => Action::Capacity(None),
        998 => Action::Wait(500),
        // Rarely, so that lives are long enough for everything to meet everything.
        _ if rng.below(3) == 0 => Action::Crash(rng.next_u64()),
        _ => Action::Turn,
    }
}

pub(crate) fn draw_command(rng: &mut Rng) -> Command {
    // Some keys are hotter than others.
    let db = rng.below(DBS as u64) as usize;
    let span = u64::from(KEYS);
    let k = rng.below(1 + rng.clone().below(span)) as u8;
    let other = rng.below(span) as u8;
    let value: Vec<u8> = (0..=rng.below(100)).map(|_| rng.next_u64() as u8).collect();
    match rng.below(100) {
        0..=34 => Command::Get(db, other),
        35..=41 => Command::MGet(db, (0..5).map(|i| (other + i * 7) % KEYS).collect()),
        42..=59 => Command::Set(db, k, value),
        60..=64 => Command::SetExpiring(db, k, value, 1 + rng.below(EXPIRY_MAX_MS)),
        65..=76 => Command::Del(db, other),
        77..=84 => Command::Append(db, k, value[..value.len().min(9)].to_vec()),
        85..=90 => Command::Transfer(db, k, other),
        91..=93 => Command::Rename(db, k, other),
        94..=97 => Command::Move(db, (db + 1) % DBS, other),
        98 => Command::Flush(db),
        _ => Command::Swap(db, (db + 1) % DBS),
    }
}
