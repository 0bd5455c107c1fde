//! WATCH: who must be told when a key changes.
//!
//! Main thread. A change while the key is off memory counts, an eviction or a load does not: only
//! `Ctx::changed` calls `touch`.

use std::collections::{HashMap, HashSet};

use crate::client::{ClientKey, Clients};

/// A key under WATCH.
#[derive(Debug)]
pub(crate) struct Watched {
    /// Database number.
    pub db: usize,
    /// The key.
    pub key: Box<[u8]>,
    /// Whether there was such a key at WATCH. Flushing its database changes it only then.
    pub existed: bool,
    /// When it expires, in Unix milliseconds, as of WATCH: from then on it counts as changed.
    pub expires_at_ms: Option<u64>,
}

/// The keys that one client watches.
#[derive(Debug, Default)]
pub(crate) struct Watching {
    keys: Vec<Watched>,
    /// Bytes of their names.
    names_bytes: usize,
}

impl Watching {
    /// The keys.
    pub(crate) fn keys(&self) -> &[Watched] {
        &self.keys
    }

    /// Memory that they take here and in the book of watchers, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        let each = size_of::<Watched>() + size_of::<(Box<[u8]>, Vec<ClientKey>)>();
        2 * self.names_bytes + self.keys.len() * each
    }

    fn push(&mut self, watched: Watched) {
        self.names_bytes += watched.key.len();
        self.keys.push(watched);
    }
}

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
        let db = watched.db;
        if self.by_db.len() <= db {
            self.by_db.resize_with(db + 1, HashMap::new);
        }
        match self.by_db[db].get_mut(&watched.key) {
            // Its list of keys may be long, the list of a key's watchers seldom is.
            Some(watchers) if watchers.contains(&client) => return,
            Some(watchers) => watchers.push(client),
            None => {
                self.by_db[db].insert(watched.key.clone(), vec![client]);
                self.len += 1;
            }
        }
        clients.session_mut(client).watching.push(watched);
    }

    /// `client` watches nothing any more.
    pub(crate) fn forget(&mut self, client: ClientKey, watching: Watching) {
        for Watched { db, key, .. } in watching.keys {
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
        let watchers = self.by_db.get(db).into_iter().flat_map(HashMap::values).flatten();
        // Each once: who watches many keys is named by each of them.
        for watcher in watchers.copied().collect::<HashSet<_>>() {
            if let Some(client) = clients.get_mut(watcher) {
                let session = &mut client.session;
                session.cas_broken |=
                    session.watching.keys().iter().any(|w| w.db == db && w.existed);
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
