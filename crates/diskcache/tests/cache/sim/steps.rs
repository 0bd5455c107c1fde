//! Steps of a scenario: one thing on purpose, where a seed would draw it.

use flintlock_diskcache::cache::Options;
use flintlock_diskcache::cache::home::{Home, Known};
use flintlock_diskcache::cache::job::JobKind;

use super::actions::hash_of;
use super::{Action, Command, DBS, KEYS, Waiting, World, key_in, name_of};

impl World {
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

    /// Whether somebody waits for a drain.
    pub(crate) fn is_draining(&self) -> bool {
        !self.drains.is_empty()
    }

    /// Lets `ms` pass, and then everything happen that can without more of it.
    pub(crate) fn after(&mut self, ms: u64) {
        self.act(Action::Wait(ms));
        for _ in 0..10 {
            self.turn_while_more();
            self.run_all();
            self.deliver_all();
        }
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
}
