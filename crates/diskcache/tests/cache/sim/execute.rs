//! Commands, as a server runs them: on the cache, the values and the model.

use flintlock_diskcache::cache::home::{Home, Known};
use flintlock_diskcache::key::{KeyRef, Seq};

use super::model::Effect;
use super::{Command, World, key_in, name_of};

impl World {
    pub(super) fn execute(&mut self, command: &Command) {
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
}
