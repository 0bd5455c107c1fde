//! What a request waits for before it runs: keys that are on disk only, stretches of keys, room in
//! memory. A command then runs at once and whole, and cannot fail for a slow disk half way.
//!
//! Main thread. The state of a request that waits is its client's [`Prepared`]; the request itself
//! stays in the client's input and is looked at again from its start whenever a wait is over. For
//! EXEC all of this is done for the whole queue before the first of its commands runs.
//!
//! Source: the preloading and blocking of Redis's diskstore (2010).

use std::cell::LazyCell;
use std::collections::VecDeque;

use flintlock_diskcache::cache::home::Known;
use flintlock_diskcache::cache::job::Failure;
use flintlock_diskcache::cache::{KeyCount, Room};
use flintlock_diskcache::key::KeyRef;
use flintlock_diskcache::storage::ErrorKind;
use flintlock_diskcache::{Token, TokenId, op};

use crate::blocked::Blocked;
use crate::client::{Client, ClientKey};
use crate::command::{Error, Flags, Found, Keys, OwnedRequest, Reach, Request};
use crate::keyspace::entry::ValueRef;
use crate::keyspace::table::Table;
use crate::keyspace::{Hasher, Key, Keyspace};
use crate::server::Server;
use crate::types::Rng;
use crate::waiters::Waiters;
use crate::watch::Watch;

use super::Tier;
use super::home::Resident;
use super::walk::{Stretch, Walk};

/// Whether a request may run.
#[derive(Debug)]
pub(crate) enum Ready {
    /// It may. Where its key was found, if it is a plain request with one: its own look need not
    /// search for it.
    Now(Option<Found>),
    /// Not before this is over.
    After(Blocked),
}

impl Ready {
    /// What the client waits for.
    pub(crate) fn blocked(self) -> Option<Blocked> {
        match self {
            Self::Now(_) => None,
            Self::After(blocked) => Some(blocked),
        }
    }
}

impl From<Option<Blocked>> for Ready {
    fn from(blocked: Option<Blocked>) -> Self {
        blocked.map_or(Self::Now(None), Self::After)
    }
}

/// What a request has gathered so far.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    /// Its keys stay in memory until it has run.
    pinned: Option<Token<op::Pinned>>,
    /// Keys that showed only while the request ran, with their databases.
    late: Vec<(usize, Box<[u8]>)>,
    /// Stretches that are read, in the order of the commands that asked for them.
    walks: VecDeque<Walk>,
    /// Those that are not, the one being read in front.
    walking: VecDeque<Walk>,
    is_planned: bool,
    has_room: bool,
    is_counted: bool,
    /// Some of its keys cannot be read, and it does without.
    is_blind: bool,
    pub(super) is_saved: bool,
}

impl Prepared {
    /// The next walk that a command asked for.
    pub(crate) fn take_walk(&mut self) -> Option<Walk> {
        self.walks.pop_front()
    }

    /// Bytes of memory of what was gathered, values not counted: those are the keyspace's.
    pub(crate) fn memory_bytes(&self) -> usize {
        let walks = self.walks.iter().chain(&self.walking).map(Walk::memory_bytes);
        let late = self.late.iter().map(|(_, name)| size_of::<(usize, Box<[u8]>)>() + name.len());
        walks.chain(late).sum()
    }

    /// Notes keys to be loaded before the request is run again.
    pub(crate) fn add_late(&mut self, keys: Vec<(usize, Box<[u8]>)>) {
        self.late.extend(keys);
    }
}

fn runs_queue(request: &Request<'_>) -> bool {
    request.command.flags.has(Flags::RUNS_QUEUE)
}

/// Whether `is_it` holds for one of the requests that `request` stands for: itself, or what EXEC
/// will run, each with what it reaches of `databases`. One that never holds is shown them all.
fn any_request<'a>(
    request: &Request<'a>,
    client: &'a Client,
    databases: usize,
    mut is_it: impl FnMut(&Reach, Request<'a>) -> bool,
) -> bool {
    let session = &client.session;
    let mut reach = Reach::new(session.db, databases);
    let Some(multi) = session.multi.as_ref().filter(|_| runs_queue(request)) else {
        return is_it(&reach, *request);
    };
    multi.queue.iter().map(OwnedRequest::get).any(|request| {
        is_it(&reach, request) || {
            reach.pass(&request);
            false
        }
    })
}

/// Whether `is_it` holds for one of the keys whose values must be in memory before the request
/// runs, or that it turned out to need while it ran; each with its database, one of `databases`.
/// One that never holds is shown them all.
fn any_key<'a>(
    request: &Request<'a>,
    client: &'a Client,
    (watch, waiters): (&'a Watch, &'a Waiters),
    databases: usize,
    hasher: Hasher,
    mut is_it: impl FnMut(usize, Key<'a>) -> bool,
) -> bool {
    // A transaction that counts keys must know which of its own writes make new ones.
    let is_count = |_: &Reach, request: Request<'_>| request.command.flags.has(Flags::COUNTS);
    let counts = LazyCell::new(|| any_request(request, client, databases, is_count));
    let awaited = client.session.awaited.as_ref();
    let declared = any_request(request, client, databases, |reach, request| {
        // What a swap changes for those who watch or wait depends on what the other database has.
        let swapped = reach.swaps(&request).is_some_and(|(a, b)| {
            [(a, b), (b, a)].into_iter().any(|(watched, other)| {
                let mut names = watch.keys(watched).chain(waiters.keys(watched));
                names.any(|name| is_it(reach.place(other), hasher.key(name)))
            })
        });
        swapped
            || (request.needs_old_values() || *counts)
                && reach.keys(&request).any(|(db, i)| {
                    awaited.is_none_or(|awaited| awaited.needs(request.arg(i)))
                        && is_it(db, request.key(i, hasher))
                })
    });
    let late = client.session.prepared.iter().flat_map(|prepared| &prepared.late);
    declared || late.into_iter().any(|(db, name)| is_it(*db, hasher.key(name)))
}

impl Server {
    /// Gathers what `request` needs; says what the client must wait for, if anything.
    ///
    /// # Errors
    /// The reply, when it cannot be had.
    pub(crate) fn prepare(
        &mut self,
        key: ClientKey,
        request: &Request<'_>,
    ) -> Result<Ready, Error> {
        if self.tier.is_none() {
            return Ok(Ready::Now(None));
        }
        if request.command.flags.has(Flags::SAVES) {
            return self.prepare_save(key).map(Ready::from);
        }
        // Room first: making it forgets keys, which may be keys of this very request. Nothing
        // after the look at the keys may forget any before the request has run.
        if let Some(blocked) = self.prepare_room(key, request) {
            return Ok(Ready::After(blocked));
        }
        let keys = self.prepare_keys(key, request);
        if matches!(keys, Ready::After(_)) {
            return Ok(keys);
        }
        Ok(self.prepare_walks(key, request).map_or(keys, Ready::After))
    }

    /// Makes sure that a write fits under the memory limit and into the journal, or waits until it
    /// does.
    fn prepare_room(&mut self, key: ClientKey, request: &Request<'_>) -> Option<Blocked> {
        let (tier, client) = (self.tier.as_mut()?, self.clients.get(key)?);
        if client.session.prepared.as_ref().is_some_and(|prepared| prepared.has_room) {
            return None;
        }
        let len_max = self.config.proto_max_bulk_len_bytes;
        let need = room_wanted(&self.keyspace, request, client, len_max)?;
        let mut home = Resident { keyspace: &mut self.keyspace, access: &self.access };
        match tier.cache.room(&mut home, need as u64) {
            Room::Now => None,
            Room::Wait => Some(Blocked::Room(tier.cache.begin_room(need as u64, tag_of(key)))),
        }
    }

    /// Whether the request, or one of those that it runs, has the flags.
    pub(crate) fn has_flag(&self, key: ClientKey, request: &Request<'_>, flags: Flags) -> bool {
        let Some(client) = self.clients.get(key) else { return false };
        any_request(request, client, self.keyspace.dbs.len(), |_, request| {
            request.command.flags.has(flags)
        })
    }

    /// Loads the keys of the request that are on disk only, those included that it turned out to
    /// need while it ran. With keys pinned already that is none, unless it was those, or a database
    /// was flushed meanwhile.
    pub(crate) fn prepare_keys(&mut self, key: ClientKey, request: &Request<'_>) -> Ready {
        let Some(client) = self.clients.get(key) else { return Ready::Now(None) };
        let (dbs, session) = (&self.keyspace.dbs, &client.session);
        // Nearly always it is one key, and it is there: then this is all that happens.
        let is_plain = session.multi.is_none() && session.prepared.is_none();
        let command = request.command;
        let has_one_key = command.keys == Keys::ONE && command.reaches.is_none();
        if is_plain && has_one_key && request.needs_old_values() {
            let name = request.first_key();
            if let Some(loc) = dbs[session.db].table.find(name) {
                return Ready::Now(Some(Found::new(session.db, name, loc)));
            }
        }
        if session.prepared.as_ref().is_some_and(|prepared| prepared.is_blind) {
            return Ready::Now(None);
        }
        let is_missing = |db: usize, key: Key<'_>| dbs[db].table.find(key).is_none();
        let hasher = self.keyspace.hasher();
        let books = (&self.watch, &self.waiters);
        let is_short = any_key(request, client, books, dbs.len(), hasher, is_missing);
        Ready::from(if is_short { self.load_keys(key, request) } else { None })
    }

    /// Begins to load the keys of the request, unless the missing ones do not exist.
    #[cold]
    fn load_keys(&mut self, key: ClientKey, request: &Request<'_>) -> Option<Blocked> {
        let (tier, client) = (self.tier.as_mut()?, self.clients.get(key)?);
        let (dbs, hasher) = (&self.keyspace.dbs, self.keyspace.hasher());
        let mut refs = Vec::new();
        let books = (&self.watch, &self.waiters);
        any_key(request, client, books, dbs.len(), hasher, |db, key| {
            refs.push(KeyRef { space: dbs[db].space, hash: key.hash, key: key.bytes });
            false
        });
        let home = Resident { keyspace: &mut self.keyspace, access: &self.access };
        let token = tier.cache.begin_load(&home, refs.iter().copied(), tag_of(key))?;
        // The new token pins all of its keys; the old one must not stand in line before it, since
        // after a flush it may hold keys that others wrote anew.
        let prepared = &mut self.clients.session_mut(key).prepared;
        if let Some(pinned) = prepared.as_mut().and_then(|prepared| prepared.pinned.take()) {
            tier.cache.unpin(pinned);
        }
        Some(Blocked::Load(token))
    }

    /// Whether memory says if the key exists; false for one that may be on disk only.
    pub(crate) fn is_known(&mut self, db: usize, name: &[u8]) -> bool {
        let Some(tier) = &self.tier else { return true };
        let (space, hash) = (self.keyspace.dbs[db].space, self.keyspace.hasher().hash(name));
        let home = Resident { keyspace: &mut self.keyspace, access: &self.access };
        tier.cache.known(&home, KeyRef { space, hash, key: name }) != Known::Unknown
    }

    /// A request of the client waits for its keys: has those of the requests behind it read too,
    /// so that a pipeline of cold keys waits for them together and not one by one.
    pub(crate) fn look_ahead<'r>(
        &mut self,
        key: ClientKey,
        behind: impl Iterator<Item = Request<'r>>,
    ) {
        let (Some(tier), Some(client)) = (self.tier.as_mut(), self.clients.get(key)) else {
            return;
        };
        if !matches!(client.session.blocked, Some(Blocked::Load(_))) {
            return;
        }
        let hasher = self.keyspace.hasher();
        let space = self.keyspace.dbs[client.session.db].space;
        let home = Resident { keyspace: &mut self.keyspace, access: &self.access };
        // Behind SELECT the keys are others.
        let here = behind.take_while(|request| !request.command.flags.has(Flags::SELECTS));
        // A wrong number of arguments is refused when it is run.
        let sound = here.filter(|request| request.command.accepts(request.len()));
        for request in sound.filter(Request::needs_old_values) {
            for i in request.key_positions().take(AHEAD_KEYS) {
                let key = request.key(i, hasher);
                tier.cache.preload(&home, KeyRef { space, hash: key.hash, key: key.bytes });
            }
        }
    }

    /// Reads the stretches of keys that the request wants to see; of a transaction, those of each
    /// of its commands, one after the other.
    fn prepare_walks(&mut self, key: ClientKey, request: &Request<'_>) -> Option<Blocked> {
        if !request.command.flags.has(Flags::WALKS) && !runs_queue(request) {
            return None;
        }
        self.plan_walks(key, request);
        loop {
            let prepared = self.clients.session_mut(key).prepared.as_mut()?;
            let walk = prepared.walking.front_mut()?;
            let tier = self.tier.as_mut()?;
            if walk.is_count() {
                let exact = matches!(tier.cache.key_count(walk.db()), KeyCount::Exact(_));
                if !exact && !prepared.is_counted {
                    prepared.is_counted = true;
                    return Some(Blocked::Count(tier.cache.begin_drain(tag_of(key))));
                }
            } else if let Some(Stretch { from, limit, limit_bytes }) = walk.begin(&self.keyspace) {
                let token = tier.cache.begin_scan(from, limit, limit_bytes, tag_of(key));
                return Some(Blocked::Scan(token));
            }
            prepared.walks.extend(prepared.walking.pop_front());
        }
    }

    /// Notes which walks the request asks for, once.
    fn plan_walks(&mut self, key: ClientKey, request: &Request<'_>) {
        let mut rng = self.rng();
        let Some(client) = self.clients.get(key) else { return };
        if client.session.prepared.as_ref().is_some_and(|prepared| {
            let mut walks = prepared.walks.iter().chain(&prepared.walking);
            // After a SWAPDB of somebody else the request means other databases.
            prepared.is_planned && !walks.any(|walk| walk.is_elsewhere(&self.keyspace))
        }) {
            return;
        }
        let mut walking = VecDeque::new();
        any_request(request, client, self.keyspace.dbs.len(), |reach, request| {
            let walk =
                Walk::plan(&self.keyspace, reach.db(), &request, self.now_ms, rng.next_u64());
            walking.extend(walk.map(|walk| walk.following(&self.keyspace)));
            false
        });
        if !walking.is_empty() {
            let prepared = self.clients.session_mut(key).prepared();
            prepared.walks.clear();
            (prepared.walking, prepared.is_planned, prepared.is_counted) = (walking, true, false);
        }
    }

    /// A wait of the client is over: notes what came of it. The client's request is to be looked
    /// at again, or to be answered with the error.
    ///
    /// Returns `None` if the client did not wait for this.
    pub(crate) fn wait_over(&mut self, key: ClientKey, id: TokenId) -> Option<Result<(), Error>> {
        let tier = self.tier.as_mut()?;
        let session = &mut self.clients.get_mut(key)?.session;
        let blocked = session.blocked.take_if(|blocked| blocked.id() == Some(id))?;
        let may_be_blind =
            session.last_command.is_some_and(|command| command.flags.has(Flags::UNSEEN));
        let prepared = session.prepared();
        let result = match blocked {
            Blocked::Load(token) => match tier.cache.complete_load(token) {
                Ok(pinned) => {
                    prepared.pinned = Some(pinned);
                    Ok(())
                }
                Err(Failure { kind: ErrorKind::Io | ErrorKind::Corrupt, .. }) if may_be_blind => {
                    prepared.is_blind = true;
                    Ok(())
                }
                Err(failure) => Err(failure),
            },
            Blocked::Room(token) => match tier.cache.complete(token) {
                Ok(()) => {
                    prepared.has_room = true;
                    Ok(())
                }
                // Room is made by writing.
                Err(failure) if !is_ending(&failure) => return Some(Err(Error::refused(&failure))),
                Err(failure) => Err(failure),
            },
            Blocked::Count(token) => match tier.cache.complete(token) {
                Err(failure) if failure.kind == ErrorKind::Closed => Err(failure),
                // The engine cannot be written: every blind write counts as a new key.
                Ok(()) | Err(_) => Ok(()),
            },
            Blocked::Save(_) => {
                prepared.is_saved = true;
                return Some(self.saves.result());
            }
            Blocked::End(_) | Blocked::Keys | Blocked::Paused(_) => {
                unreachable!("these wait for no token")
            }
            Blocked::Scan(token) => tier.cache.complete(token).map(|records| {
                if let Some(walk) = prepared.walking.front_mut() {
                    walk.merge(&records, &self.keyspace);
                }
            }),
        };
        Some(result.map_err(|failure| storage_error(&failure)))
    }

    /// The client's request has run, or will not: lets go of what was gathered for it.
    pub(crate) fn unprepare(&mut self, key: ClientKey) {
        let (Some(tier), Some(client)) = (self.tier.as_mut(), self.clients.get_mut(key)) else {
            return;
        };
        if client.session.prepared.is_some() {
            release(tier, client);
        }
    }

    /// A client is gone that may have waited for something.
    pub(crate) fn forget_blocked(&mut self, client: &mut Client) {
        if let Some(tier) = self.tier.as_mut() {
            if let Some(blocked) = client.session.blocked.take() {
                blocked.abandon(tier);
            }
            release(tier, client);
        }
    }
}

/// Keys of one request that are read ahead of need, at most.
const AHEAD_KEYS: usize = 64;
/// What a new key costs besides its bytes, about.
const ENTRY_OVERHEAD: usize = 64;

/// Bytes of memory that the request, or those that it runs, may come to take, where no string can
/// be longer than `len_max`; `None` if it needs no room in the journal either.
fn room_wanted(
    keyspace: &Keyspace,
    request: &Request<'_>,
    client: &Client,
    len_max: u64,
) -> Option<usize> {
    let (mut need, mut logs) = (0, false);
    let (dbs, hasher) = (&keyspace.dbs, keyspace.hasher());
    any_request(request, client, dbs.len(), |reach, request| {
        let flags = request.command.flags;
        if flags.has(Flags::DENYOOM) {
            need += request.len_bytes() + ENTRY_OVERHEAD;
        }
        if let Some(growth) = request.command.growth {
            let table = &dbs[reach.db()].table;
            let len = |i| string_len(table, request.key(i, hasher));
            // What would be longer than any string will be refused.
            need += Some(growth(&request, &len)).filter(|n| *n as u64 <= len_max).unwrap_or(0);
        }
        logs |= flags.has(Flags::WRITE) && !flags.has(Flags::FREES);
        false
    });
    logs.then_some(need)
}

/// Length of the string that memory has of a key; 0 for a number, which is short.
fn string_len(table: &Table, key: Key<'_>) -> usize {
    match table.find(key).map(|loc| table.entry(loc).value()) {
        Some(ValueRef::Str(s)) => s.len(),
        Some(ValueRef::Big(s)) => s.len(),
        _ => 0,
    }
}

fn tag_of(key: ClientKey) -> u64 {
    key.to_word() as u64
}

fn release(tier: &mut Tier, client: &mut Client) {
    let prepared = client.session.prepared.take();
    if let Some(pinned) = prepared.and_then(|prepared| prepared.pinned) {
        tier.cache.unpin(pinned);
    }
}

/// The reply to a request whose data could not be read: never a miss.
fn storage_error(failure: &Failure) -> Error {
    if is_ending(failure) {
        return Error::STORE_CLOSING;
    }
    Error::text(format!("IOERR the disk store cannot be read: {failure}"))
}

/// Whether somebody gave up, and nothing is wrong with the disk.
fn is_ending(failure: &Failure) -> bool {
    matches!(failure.kind, ErrorKind::Cancelled | ErrorKind::Closed)
}

#[cfg(test)]
mod tests {
    use flintlock_diskcache::cache::Now;

    use super::*;
    use crate::command::{Ctx, lookup};
    use crate::config::Config;
    use crate::keyspace::entry::NewValue;
    use crate::log::{Level, Log};

    fn owned(hasher: Hasher, line: &str) -> OwnedRequest {
        let words = || line.split(' ').map(str::as_bytes);
        let command =
            lookup(line.split(' ').next().expect("a name").as_bytes()).expect("a command");
        let name = words().nth(command.keys.first.into()).unwrap_or_default();
        OwnedRequest::new(command, words(), hasher.hash(name))
    }

    /// Bytes wanted beside those of the request and an entry; `long` has a thousand.
    #[test]
    fn a_write_asks_for_room_for_what_it_makes() {
        let (log, hasher) = (Log::new(Level::Warning, None), Hasher::new(&[7; 16]));
        let mut server = Server::new(Config::default(), log, hasher, Now::default(), [7; 16]);
        let mut ctx = Ctx::new(&mut server, ClientKey::INTERNAL);
        ctx.set(hasher.key(b"long"), NewValue::Str(&[b'x'; 1000]), None);
        let wanted = |server: &Server, line: &str| {
            let request = owned(hasher, line);
            let client = server.clients.get(ClientKey::INTERNAL).expect("it stays");
            let len_max = server.config.proto_max_bulk_len_bytes;
            room_wanted(&server.keyspace, &request.get(), client, len_max)
        };
        let cases = [
            ("SET new v", 0),
            ("SETRANGE new 2000 xy", 2002),
            ("SETRANGE long 2000 xy", 1002),
            ("SETRANGE long 998 xy", 0),
            ("SETRANGE new -1 x", 0),
            ("SETRANGE new 536870912 x", 0),
            ("SETBIT new 16000 1", 2001),
            ("SETBIT long 16000 1", 1001),
            ("SETBIT long 7999 1", 0),
            ("BITFIELD new GET u8 #9000 SET u8 #2000 7", 2001),
            ("BITFIELD long INCRBY i16 #1000 7", 1002),
            ("BITFIELD long SET u8 #999 7", 0),
            ("BITOP NOT new long", 1000),
            ("BITOP OR long new long", 1000),
            ("BITOP OR long new other", 0),
        ];
        for (line, more) in cases {
            let own = line.replace(' ', "").len() + ENTRY_OVERHEAD;
            assert_eq!(wanted(&server, line), Some(own + more), "{line}");
        }
        for (line, need) in [("GET long", None), ("DEL long", None), ("EXPIRE long 9", Some(0))] {
            assert_eq!(wanted(&server, line), need, "{line}");
        }
    }
}
