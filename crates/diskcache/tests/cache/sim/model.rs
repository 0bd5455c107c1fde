//! What the store should hold: plain maps, and the list of what was done to them.

use std::collections::BTreeMap;

use flintlock_diskcache::key::Seq;

pub(crate) type Value = (Vec<u8>, Option<u64>);

/// One database.
pub(crate) type Db = BTreeMap<u8, Value>;

/// What one operation of the journal does.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Effect {
    Set(usize, u8, Value),
    Del(usize, u8),
    Flush(usize),
    Swap(usize, usize),
}

/// One command: all of its effects or none survive.
#[derive(Clone, Debug)]
struct Done {
    first: Seq,
    last: Seq,
    effects: Vec<Effect>,
}

#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) dbs: Vec<Db>,
    /// State before everything in `log`.
    base: Vec<Db>,
    log: Vec<Done>,
}

fn apply(dbs: &mut [Db], effect: &Effect) {
    match effect {
        Effect::Set(db, key, value) => {
            dbs[*db].insert(*key, value.clone());
        }
        Effect::Del(db, key) => {
            dbs[*db].remove(key);
        }
        Effect::Flush(db) => dbs[*db].clear(),
        Effect::Swap(a, b) => dbs.swap(*a, *b),
    }
}

impl Model {
    pub(crate) fn new(databases: usize) -> Self {
        let dbs = vec![Db::new(); databases];
        Self { base: dbs.clone(), dbs, log: Vec::new() }
    }

    /// A command ran and logged `first` to `last`.
    pub(crate) fn run(&mut self, first: Seq, last: Seq, effects: Vec<Effect>) {
        for effect in &effects {
            apply(&mut self.dbs, effect);
        }
        self.log.push(Done { first, last, effects });
    }

    pub(crate) fn get(&self, db: usize, key: u8, unix_ms: u64) -> Option<&[u8]> {
        let (value, expiry) = self.dbs[db].get(&key)?;
        expiry.is_none_or(|at| at > unix_ms).then_some(&value[..])
    }

    /// Drops the keys whose time is over; a load deletes them without a command.
    pub(crate) fn expire(&mut self, unix_ms: u64) {
        for db in &mut self.dbs {
            db.retain(|_, (_, expiry)| expiry.is_none_or(|at| at > unix_ms));
        }
    }

    /// A crash kept everything up to `end`: commands are there as a whole or not at all.
    pub(crate) fn crash(&mut self, end: Seq) {
        let mut dbs = self.base.clone();
        for done in &self.log {
            assert!(
                done.last <= end || done.first > end,
                "a command of {:?} to {:?} was torn at {end:?}",
                done.first,
                done.last
            );
            if done.last <= end {
                for effect in &done.effects {
                    apply(&mut dbs, effect);
                }
            }
        }
        self.base = dbs.clone();
        self.dbs = dbs;
        self.log.clear();
    }

    /// Forgets what can no longer be lost, so that a long run stays small.
    pub(crate) fn durable(&mut self, upto: Seq) {
        let keep = self.log.partition_point(|done| done.last <= upto);
        for done in self.log.drain(..keep) {
            for effect in &done.effects {
                apply(&mut self.base, effect);
            }
        }
    }
}
