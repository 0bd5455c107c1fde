//! WATCH: who must be told when a key changes.
//!
//! Main thread. A change while the key is off memory counts, an eviction or a load does not: only
//! `Ctx::changed` calls `touch`.

use std::collections::HashMap;

use crate::client::{ClientKey, Clients, Watched};

/// Watchers by database and key.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// By database number; grown when a database is first watched.
    by_db: Vec<HashMap<Box<[u8]>, Vec<ClientKey>>>,
    /// Watched keys in all.
    len: usize,
}

impl Watch {
    /// Whether nobody watches anything: the only check that most writes pay.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// `client` watches a key from now on.
    pub(crate) fn add(&mut self, clients: &mut Clients, client: ClientKey, watched: Watched) {
        let session = clients.session_mut(client);
        let (db, key) = (watched.db, watched.key.clone());
        if session.watching.iter().any(|w| w.db == db && w.key == key) {
            return;
        }
        session.watching.push(watched);
        if self.by_db.len() <= db {
            self.by_db.resize_with(db + 1, HashMap::new);
        }
        self.len += usize::from(!self.by_db[db].contains_key(&key));
        self.by_db[db].entry(key).or_default().push(client);
    }

    /// `client` watches nothing any more.
    pub(crate) fn forget(&mut self, client: ClientKey, watching: Vec<Watched>) {
        for Watched { db, key, .. } in watching {
            if let Some(watchers) = self.by_db[db].get_mut(&key) {
                watchers.retain(|c| *c != client);
                if watchers.is_empty() {
                    self.by_db[db].remove(&key);
                    self.len -= 1;
                }
            }
        }
    }

    /// `key` changed: the transactions of its watchers will fail.
    pub(crate) fn touch(&self, clients: &mut Clients, db: usize, key: &[u8]) {
        if let Some(watchers) = self.by_db.get(db).and_then(|keys| keys.get(key)) {
            Self::break_all(clients, watchers);
        }
    }

    /// The keys of `db` that somebody watches.
    pub(crate) fn keys(&self, db: usize) -> impl Iterator<Item = &[u8]> {
        self.by_db.get(db).into_iter().flat_map(HashMap::keys).map(|key| &**key)
    }

    /// Every key of `db` was deleted (FLUSHDB). Whether a watched key was there is asked of WATCH,
    /// not of the keyspace: the key may be on disk only by now, and one that was made since has
    /// told its watchers already.
    pub(crate) fn touch_db(&self, clients: &mut Clients, db: usize) {
        for watcher in self.by_db.get(db).into_iter().flat_map(HashMap::values).flatten() {
            if let Some(client) = clients.get_mut(*watcher) {
                let session = &mut client.session;
                session.cas_broken |= session.watching.iter().any(|w| w.db == db && w.existed);
            }
        }
    }

    fn break_all(clients: &mut Clients, watchers: &[ClientKey]) {
        for watcher in watchers {
            if let Some(client) = clients.get_mut(*watcher) {
                client.session.cas_broken = true;
            }
        }
    }
}
