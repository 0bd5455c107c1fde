//! What a command may do: look keys up, change them, and everything that a change entails.
//!
//! Main thread. Every read and write of the keyspace by a command goes through here, so the rules
//! that hold for all of them are written once: a key whose time is over is deleted when met, a
//! change is counted, journalled and breaks the WATCH of others, and values are charged to memory.

use std::sync::Arc;

use flintlock_diskcache::cache::home::Known;

use crate::client::{ClientKey, Session};
use crate::keyspace::entry::{Entry, EntryRef, NewValue, Value, ValueRef};
use crate::keyspace::table::{Loc, Table};
use crate::keyspace::{Hasher, Key};
use crate::server::Server;
use crate::tier::Effect;
use crate::types::Object;

use super::{Error, Request};

/// The surroundings of one running command.
#[derive(Debug)]
pub(crate) struct Ctx<'a> {
    /// Everything the server owns.
    pub server: &'a mut Server,
    /// The client that sent the command.
    pub client: ClientKey,
    /// The client's database.
    pub db: usize,
    /// A key whose time is over is as good as absent, but stays: keys do not change in a pause.
    pub keeps_expired: bool,
    /// It is one of those that EXEC runs.
    pub in_transaction: bool,
    /// Those who watch a key are not told that it changes.
    is_quiet: bool,
    /// The first key of the request, if it was looked for already and no table changed since.
    found: Option<Found>,
}

/// Where a key was found: good until its table changes.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Found {
    db: usize,
    /// Where the name lies in the request, which stays there while it runs.
    name: (usize, usize),
    loc: Loc,
}

impl Found {
    /// `key` is at `loc` of the table of `db`.
    pub(crate) fn new(db: usize, key: Key<'_>, loc: Loc) -> Self {
        Self { db, name: place_of(key), loc }
    }
}

fn place_of(key: Key<'_>) -> (usize, usize) {
    (key.bytes.as_ptr().addr(), key.bytes.len())
}

impl<'a> Ctx<'a> {
    /// The surroundings of a command of `client`.
    pub(crate) fn new(server: &'a mut Server, client: ClientKey) -> Self {
        Self::knowing(server, client, None)
    }

    /// The same, with a key that was found a moment ago.
    pub(crate) fn knowing(server: &'a mut Server, client: ClientKey, found: Option<Found>) -> Self {
        let db = server.clients.session(client).db;
        let (keeps_expired, in_transaction, is_quiet) = (false, false, false);
        Self { server, client, db, keeps_expired, in_transaction, is_quiet, found }
    }

    /// Whether this is replay: what the journal holds was accepted, whatever the limits are now.
    pub(crate) fn is_replay(&self) -> bool {
        self.client == ClientKey::INTERNAL
    }

    /// The session of the client that sent the command.
    pub(crate) fn session(&mut self) -> &mut Session {
        self.server.clients.session_mut(self.client)
    }

    /// Milliseconds since the Unix epoch, the same for a whole transaction.
    pub(crate) fn now_ms(&self) -> u64 {
        self.server.now_ms
    }

    /// The store's hash.
    pub(crate) fn hasher(&self) -> Hasher {
        self.server.keyspace.hasher()
    }

    /// Argument `index` of the request as a key.
    #[inline(always)]
    pub(crate) fn key<'r>(&self, request: &Request<'r>, index: usize) -> Key<'r> {
        request.key(index, self.hasher())
    }

    /// The table of the client's database.
    pub(crate) fn table(&self) -> &Table {
        &self.server.keyspace.dbs[self.db].table
    }

    fn table_mut(&mut self) -> &mut Table {
        self.found = None;
        &mut self.server.keyspace.dbs[self.db].table
    }

    /// Finds the live value of `key`; deletes it first if its time is over. Counts as a use of the
    /// key.
    pub(crate) fn find(&mut self, key: Key<'_>) -> Option<Loc> {
        let (loc, access) = self.live_if_known(key)?;
        self.touch(loc, access);
        Some(loc)
    }

    /// As [`Ctx::find`], without counting as a use: for TYPE, TTL, OBJECT and the like.
    pub(crate) fn find_untouched(&mut self, key: Key<'_>) -> Option<Loc> {
        self.live_if_known(key).map(|(loc, _)| loc)
    }

    /// As [`Ctx::find_untouched`], for a command that may overwrite the key unseen: none may also
    /// mean that the key is on disk only.
    pub(super) fn find_resident(&mut self, key: Key<'_>) -> Option<Loc> {
        self.live(key).map(|(loc, _)| loc)
    }

    /// As [`Ctx::live`], where none means that there is no such key.
    fn live_if_known(&mut self, key: Key<'_>) -> Option<(Loc, u32)> {
        let live = self.live(key);
        // Whoever asks has declared the key or said that it needs it.
        debug_assert!(
            live.is_some() || self.server.is_known(self.db, key.bytes),
            "on disk only is not absent"
        );
        live
    }

    /// The place of a live value and its access word. Deletes it first if its time is over.
    #[inline]
    fn live(&mut self, key: Key<'_>) -> Option<(Loc, u32)> {
        let found = self.found.take();
        let table = self.table();
        let (loc, entry) = match found {
            Some(Found { db, name, loc }) if (db, name) == (self.db, place_of(key)) => {
                debug_assert_eq!(table.find(key), Some(loc), "no table has changed");
                (loc, table.entry(loc))
            }
            _ => table.find_entry(key)?,
        };
        if entry.is_absent() {
            return None;
        }
        let access = entry.access();
        if entry.expires_at_ms().is_some_and(|at| at <= self.server.now_ms) {
            if !self.keeps_expired {
                self.server.stats.expired_keys += 1;
                self.delete(key, loc);
            }
            return None;
        }
        Some((loc, access))
    }

    /// [`Ctx::find`] for a command that reads: counts hits and misses.
    pub(crate) fn read(&mut self, key: Key<'_>) -> Option<Loc> {
        let found = self.find(key);
        match found {
            Some(_) => self.server.stats.keyspace_hits += 1,
            None => self.server.stats.keyspace_misses += 1,
        }
        found
    }

    /// Has keys in memory that the request could not declare, because their names showed only
    /// while it ran.
    ///
    /// # Errors
    /// [`Error::LATE_KEYS`], when some are on disk only. The command must not have changed
    /// anything, and ends with this error; its request waits for the keys and begins anew.
    pub(crate) fn need<N: AsRef<[u8]>>(
        &mut self,
        names: impl IntoIterator<Item = N>,
    ) -> Result<(), Error> {
        if self.server.tier.is_none() {
            return Ok(());
        }
        let missing = |name: &N| !self.server.is_known(self.db, name.as_ref());
        let late: Vec<_> =
            names.into_iter().filter(missing).map(|n| (self.db, n.as_ref().into())).collect();
        if late.is_empty() {
            return Ok(());
        }
        self.session().prepared().add_late(late);
        Err(Error::LATE_KEYS)
    }

    /// The entry at `loc`.
    pub(crate) fn entry(&self, loc: Loc) -> EntryRef<'_> {
        self.table().entry(loc)
    }

    /// Gives `key` a whole value, old or new, and journals it.
    pub(crate) fn set(&mut self, key: Key<'_>, value: NewValue<'_>, expires_at_ms: Option<u64>) {
        let (loc, was) = match self.table().find_entry(key) {
            Some((loc, entry)) => {
                let (was, access) = (known(entry), entry.access());
                self.overwrite(loc, value, expires_at_ms);
                self.touch(loc, access);
                (loc, was)
            }
            None => (self.insert(key, value, expires_at_ms), Known::Unknown),
        };
        self.changed(key, was, Some(loc), Effect::Put);
    }

    /// Puts in an empty collection that the caller fills and journals by [`Ctx::change`] at once.
    pub(super) fn create(&mut self, key: Key<'_>, value: NewValue<'_>) -> (Loc, Known) {
        match self.table().find_entry(key) {
            Some((loc, entry)) => {
                let was = known(entry);
                self.overwrite(loc, value, None);
                (loc, was)
            }
            None => (self.insert(key, value, None), Known::Unknown),
        }
    }

    fn insert(&mut self, key: Key<'_>, value: NewValue<'_>, expires_at_ms: Option<u64>) -> Loc {
        let fresh = self.server.access.fresh();
        let loc = self.table_mut().insert(key, value, expires_at_ms);
        self.table_mut().touch(loc, |entry| entry.set_access(fresh));
        loc
    }

    /// Notes a use of the entry at `loc`, whose access word is `access`.
    #[inline(always)]
    fn touch(&mut self, loc: Loc, access: u32) {
        if let Some(renewed) = self.server.access.renewed(access) {
            let table = &mut self.server.keyspace.dbs[self.db].table;
            table.touch(loc, |entry| entry.set_access(renewed));
        }
    }

    fn overwrite(&mut self, loc: Loc, value: NewValue<'_>, expires_at_ms: Option<u64>) {
        // The commonest overwrite, same length and no expiry, costs one copy.
        if let NewValue::Str(s) = value
            && expires_at_ms.is_none()
            && self
                .table_mut()
                .touch(loc, |entry| entry.get().expires_at_ms().is_none() && entry.overwrite_str(s))
        {
            return;
        }
        let old = self.table_mut().update(loc, |entry| {
            let old = entry.take_object();
            entry.replace(value, expires_at_ms);
            old
        });
        self.server.free_later(old);
    }

    /// Changes the number at `loc`.
    pub(crate) fn set_int(&mut self, key: Key<'_>, loc: Loc, number: i64) {
        let in_place = self
            .table_mut()
            .touch(loc, |entry| entry.int_mut().map(|value| *value = number).is_some());
        if !in_place {
            let expires_at_ms = self.entry(loc).expires_at_ms();
            self.overwrite(loc, NewValue::Int(number), expires_at_ms);
        }
        self.changed(key, Known::Value, Some(loc), Effect::Put);
    }

    /// Changes the expiry at `loc`.
    pub(crate) fn set_expiry(&mut self, key: Key<'_>, loc: Loc, expires_at_ms: Option<u64>) {
        self.table_mut().update(loc, |entry| entry.set_expiry(expires_at_ms));
        self.changed(key, Known::Value, Some(loc), Effect::Expiry(expires_at_ms));
    }

    /// Deletes the key at `loc`, which has a value.
    pub(crate) fn delete(&mut self, key: Key<'_>, loc: Loc) {
        let left = self.remove(loc);
        self.changed(key, Known::Value, left, Effect::Delete);
    }

    /// Deletes `key` if it is there; returns whether it was.
    pub(crate) fn delete_key(&mut self, key: Key<'_>) -> bool {
        let found = self.find_untouched(key);
        if let Some(loc) = found {
            self.delete(key, loc);
        }
        found.is_some()
    }

    /// As [`Ctx::delete_key`]; a key of which it could not be read whether it was there is taken to
    /// have been.
    pub(crate) fn delete_unseen(&mut self, key: Key<'_>) -> bool {
        let found = self.find_resident(key);
        match found {
            Some(loc) => self.delete(key, loc),
            None if self.server.is_known(self.db, key.bytes) => return false,
            None => {
                let loc = self.insert(key, NewValue::Absent, None);
                self.changed(key, Known::Unknown, Some(loc), Effect::Delete);
            }
        }
        true
    }

    /// Takes the value out of the keyspace. With a disk tier an absent entry is left behind: the
    /// disk may still have the key.
    fn remove(&mut self, loc: Loc) -> Option<Loc> {
        let on_disk = self.server.tier.is_some();
        let (old, left) = if on_disk {
            let old = self.table_mut().update(loc, |entry| {
                let old = entry.take_object();
                entry.replace(NewValue::Absent, None);
                old
            });
            (old, Some(loc))
        } else {
            (self.table_mut().remove(loc).take_object(), None)
        };
        self.server.free_later(old);
        left
    }

    /// Changes the collection at `loc` in place; `was` is what memory knew of the key before the
    /// command. `f` returns how many elements it changed: if none, nothing is journalled and
    /// nobody's WATCH breaks. A collection left empty is deleted.
    pub(crate) fn change(
        &mut self,
        key: Key<'_>,
        (loc, was): (Loc, Known),
        effect: Effect<'_>,
        f: impl FnOnce(&mut Object) -> usize,
    ) -> usize {
        let (count, empty) = self.table_mut().update(loc, |entry| {
            let object = entry.object_mut().expect("the caller checked the type");
            (f(object), object.is_empty())
        });
        if empty {
            self.delete(key, loc);
        } else if count > 0 {
            self.changed(key, was, Some(loc), effect);
        }
        count
    }

    /// Checks a value that would take about so many bytes, of memory or in a record.
    ///
    /// # Errors
    /// [`Error::VALUE_TOO_LARGE`].
    pub(crate) fn check_size(&self, bytes: usize) -> Result<(), Error> {
        if bytes > self.server.value_bytes_max { Err(Error::VALUE_TOO_LARGE) } else { Ok(()) }
    }

    /// Changes the string at `loc` without rebuilding it. `f` returns whether it did; if not,
    /// nothing is journalled and nobody's WATCH breaks.
    pub(crate) fn change_string(
        &mut self,
        key: Key<'_>,
        loc: Loc,
        effect: Effect<'_>,
        f: impl FnOnce(&mut Entry) -> bool,
    ) {
        if self.table_mut().update(loc, f) {
            self.changed(key, Known::Value, Some(loc), effect);
        }
    }

    /// Gives the value and expiry at `loc` the name `to` in database `db`, whatever that held.
    pub(crate) fn rename(&mut self, from: Key<'_>, loc: Loc, db: usize, to: Key<'_>) {
        let expires_at_ms = self.entry(loc).expires_at_ms();
        let mut value = self.table_mut().update(loc, Entry::take_value);
        self.delete(from, loc);
        self.within(db, |ctx| ctx.set(to, value.lend(), expires_at_ms));
    }

    /// As [`Ctx::rename`], with the value and expiry at `loc` left there too.
    pub(crate) fn copy(&mut self, loc: Loc, db: usize, to: Key<'_>) {
        let entry = self.entry(loc);
        let (mut value, expires_at_ms) = (shared(entry.value()), entry.expires_at_ms());
        self.within(db, |ctx| ctx.set(to, value.lend(), expires_at_ms));
    }

    /// Exchanges two databases, which changes every key that somebody watches or waits for and that
    /// either of them has.
    pub(crate) fn swap_dbs(&mut self, a: usize, b: usize) {
        let server = &mut *self.server;
        server.stats.changes += 1;
        if a == b {
            return;
        }
        for (watched, other) in [(a, b), (b, a)] {
            let names: Vec<Box<[u8]>> = self.server.watch.keys(watched).map(Box::from).collect();
            let hasher = self.hasher();
            for name in names {
                let is_there = |ctx: &mut Self| ctx.find_untouched(hasher.key(&name)).is_some();
                if self.within(other, is_there) {
                    let Server { watch, clients, .. } = &mut *self.server;
                    watch.touch(clients, watched, &name);
                }
            }
            let Server { watch, clients, .. } = &mut *self.server;
            watch.touch_db(clients, watched);
        }
        self.found = None;
        self.server.swap(a, b);
        for db in [a, b] {
            let waiters = &mut self.server.waiters;
            let names: Vec<Box<[u8]>> = waiters.keys(db).map(Box::from).collect();
            names.iter().for_each(|name| waiters.touch(db, name));
        }
    }

    /// Does something in another database.
    pub(crate) fn within<R>(&mut self, db: usize, f: impl FnOnce(&mut Self) -> R) -> R {
        let own = std::mem::replace(&mut self.db, db);
        let result = f(self);
        self.db = own;
        result
    }

    /// Changes something of which those who watch it are not told.
    pub(super) fn quietly<R>(&mut self, f: impl FnOnce(&mut Self) -> R) -> R {
        self.is_quiet = true;
        let result = f(self);
        self.is_quiet = false;
        result
    }

    /// Tells those who watch `key` that it changed, although nothing did.
    pub(super) fn break_watches(&mut self, key: Key<'_>) {
        let Server { watch, clients, .. } = &mut *self.server;
        watch.touch(clients, self.db, key.bytes);
    }

    /// What every change entails. `was` is what memory knew of the key before; `loc` is where its
    /// entry is now, if there is one.
    fn changed(&mut self, key: Key<'_>, was: Known, loc: Option<Loc>, effect: Effect<'_>) {
        let Server { stats, watch, waiters, clients, tier, keyspace, .. } = &mut *self.server;
        stats.changes += 1;
        if !watch.is_empty() && !self.is_quiet {
            watch.touch(clients, self.db, key.bytes);
        }
        if !waiters.is_empty() {
            waiters.touch(self.db, key.bytes);
        }
        if let (Some(tier), Some(loc)) = (tier, loc) {
            tier.log(keyspace, self.db, key, was, loc, effect);
        }
    }

    /// Checks that `loc` holds a string; the bytes of an integer are put into `digits`.
    ///
    /// # Errors
    /// [`Error::WRONG_TYPE`].
    pub(crate) fn string<'e>(
        &'e self,
        loc: Loc,
        digits: &'e mut itoa::Buffer,
    ) -> Result<&'e [u8], Error> {
        match self.entry(loc).value() {
            ValueRef::Int(n) => Ok(digits.format(n).as_bytes()),
            ValueRef::Str(s) => Ok(s),
            ValueRef::Big(s) => Ok(s),
            ValueRef::Object(_) | ValueRef::Absent => Err(Error::WRONG_TYPE),
        }
    }
}

/// What memory knows of a key that has this entry.
fn known(entry: EntryRef<'_>) -> Known {
    if entry.is_absent() { Known::Absent } else { Known::Value }
}

/// The same value for another entry: what is large is shared until one of the two changes it.
fn shared(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Absent => Value::Absent,
        ValueRef::Int(n) => Value::Int(n),
        ValueRef::Str(s) => Value::Str(s.to_vec()),
        ValueRef::Big(big) => Value::Big(Arc::clone(big)),
        ValueRef::Object(object) => Value::Object(Arc::clone(object)),
    }
}
