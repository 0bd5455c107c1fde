//! Who waits for an element of which key: clients of BLPOP and its like, in the order in which they
//! began to wait.
//!
//! Main thread; no IO. While such a client sleeps none of its keys holds what it waits for. Each
//! change of a key that somebody waits for makes the key ready: when the command that changed it,
//! or its whole EXEC, is over, the clients of the ready keys are woken one by one, oldest first,
//! for as long as there is something to take. A client that is woken runs its request anew, through
//! the same checks, loads and journal as any other. It keeps its places in the queues until it is
//! answered: should the element be gone when its other keys have been read from disk, it goes on
//! waiting where it stood.
//!
//! While nobody waits a change of a key costs one comparison.
//!
//! Source: behaviour of redis-server 7.0.15; running the request anew is what Redis does since 7.2.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use crate::blocked::Blocked;
use crate::client::ClientKey;
use crate::keyspace::entry::{EntryRef, ValueRef};
use crate::server::Server;
use crate::types::Object;

/// Whether a value is of the type that is waited for.
pub(crate) type Fits = fn(&Object) -> bool;

/// What one client waits for.
#[derive(Debug)]
pub(crate) struct Awaited {
    db: usize,
    /// Names of keys, each once, sorted.
    names: Box<[Box<[u8]>]>,
    fits: Fits,
    /// The last millisecond of the wait, on the clock that never goes back.
    until_ms: Option<u64>,
    /// Place in the queues: who began to wait earlier has a lower number.
    place: Option<u64>,
    /// The key for which its request is run anew. It looks at this one alone: those who wait for
    /// the others may stand in front of it there.
    woken_by: Option<Box<[u8]>>,
}

impl Awaited {
    /// Any of these keys of a database.
    pub(crate) fn new<'a>(
        db: usize,
        names: impl Iterator<Item = &'a [u8]>,
        fits: Fits,
        until_ms: Option<u64>,
    ) -> Self {
        let names: BTreeSet<&[u8]> = names.collect();
        let names = names.into_iter().map(Box::from).collect();
        Self { db, names, fits, until_ms, place: None, woken_by: None }
    }

    /// Whether the request, as it is run now, looks at a key that it names.
    pub(crate) fn needs(&self, name: &[u8]) -> bool {
        let is_awaited = || self.names.binary_search_by(|own| (**own).cmp(name)).is_ok();
        self.woken_by.as_ref().is_none_or(|key| **key == *name || !is_awaited())
    }

    /// From now on the request looks at all of its keys. False if it does already.
    pub(crate) fn widen(&mut self) -> bool {
        self.woken_by.take().is_some()
    }

    /// Memory that it takes here and in the queues, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        let each = 2 * size_of::<Box<[u8]>>() + size_of::<Queue>();
        let names: usize = self.names.iter().map(|name| 2 * name.len() + each).sum();
        size_of::<Self>() + names
    }

    fn timeout(&self, client: ClientKey) -> Option<(u64, u64, ClientKey)> {
        Some((self.until_ms?, self.place?, client))
    }
}

/// The clients of one key.
#[derive(Debug, Default)]
struct Queue {
    /// By place.
    clients: BTreeMap<u64, ClientKey>,
    /// The key is among the ready ones, and nobody has looked at it yet.
    is_ready: bool,
}

/// A key that changed.
#[derive(Debug)]
struct Ready {
    db: usize,
    name: Box<[u8]>,
    /// Clients before this place were looked at.
    place: u64,
}

/// How a wait ends without an element.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum Unserved {
    /// The time is over, or somebody says so.
    TimedOut,
    /// CLIENT UNBLOCK with ERROR.
    Refused,
}

/// The book; agrees with the `awaited` of all clients.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    /// By database number; grown when a key of a database is first waited for.
    by_db: Vec<HashMap<Box<[u8]>, Queue>>,
    /// Clients in the queues.
    len: usize,
    /// Places given so far.
    places: u64,
    /// When sleeping clients go on without an element.
    timeouts: BTreeSet<(u64, u64, ClientKey)>,
    /// Keys that changed, in order.
    ready: VecDeque<Ready>,
    /// Clients in no queue any more that are to be told.
    unserved: VecDeque<(ClientKey, Unserved)>,
    /// The ready keys are being looked at.
    pub is_serving: bool,
}

impl Waiters {
    /// Whether nobody waits: the only check that most writes pay.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether somebody may have to be woken.
    pub(crate) fn has_news(&self) -> bool {
        !self.ready.is_empty() || !self.unserved.is_empty()
    }

    /// Clients that wait for a limited time only.
    pub(crate) fn timeouts(&self) -> usize {
        self.timeouts.len()
    }

    /// The last millisecond of the wait that ends first.
    pub(crate) fn until_ms(&self) -> Option<u64> {
        self.timeouts.first().map(|(until_ms, ..)| *until_ms)
    }

    /// The keys of `db` that somebody waits for.
    pub(crate) fn keys(&self, db: usize) -> impl Iterator<Item = &[u8]> {
        self.by_db.get(db).into_iter().flat_map(HashMap::keys).map(|key| &**key)
    }

    /// A key changed.
    pub(crate) fn touch(&mut self, db: usize, name: &[u8]) {
        let queue = self.by_db.get_mut(db).and_then(|keys| keys.get_mut(name));
        if let Some(queue) = queue.filter(|queue| !queue.is_ready) {
            queue.is_ready = true;
            self.ready.push_back(Ready { db, name: name.into(), place: 0 });
        }
    }

    /// `client` sleeps from now on: at the end of the queues, or where it stood.
    fn sleep(&mut self, client: ClientKey, awaited: &mut Awaited) {
        if awaited.place.is_none() {
            let place = self.places;
            self.places += 1;
            self.len += 1;
            awaited.place = Some(place);
            if self.by_db.len() <= awaited.db {
                self.by_db.resize_with(awaited.db + 1, HashMap::new);
            }
            let queues = &mut self.by_db[awaited.db];
            for name in &awaited.names {
                if let Some(queue) = queues.get_mut(name) {
                    queue.clients.insert(place, client);
                } else {
                    let clients = BTreeMap::from([(place, client)]);
                    queues.insert(name.clone(), Queue { clients, is_ready: false });
                }
            }
        }
        self.timeouts.extend(awaited.timeout(client));
    }

    /// `client` sleeps no more; it keeps its places.
    fn wake(&mut self, client: ClientKey, awaited: &Awaited) {
        if let Some(timeout) = awaited.timeout(client) {
            self.timeouts.remove(&timeout);
        }
    }

    /// `client` waits no more.
    pub(crate) fn leave(&mut self, client: ClientKey, awaited: &Awaited) {
        self.wake(client, awaited);
        let Some(place) = awaited.place else { return };
        self.len -= 1;
        for name in &awaited.names {
            let Some(queue) = self.by_db[awaited.db].get_mut(name) else { continue };
            queue.clients.remove(&place);
            if queue.clients.is_empty() {
                self.by_db[awaited.db].remove(name);
            }
        }
    }

    /// The next client that goes on without an element.
    pub(crate) fn next_unserved(&mut self) -> Option<(ClientKey, Unserved)> {
        self.unserved.pop_front()
    }

    /// The ready key in front. Further changes of it are news again.
    fn front(&mut self) -> Option<(&mut Ready, &BTreeMap<u64, ClientKey>)> {
        const NOBODY: &BTreeMap<u64, ClientKey> = &BTreeMap::new();
        let ready = self.ready.front_mut()?;
        let queue = self.by_db[ready.db].get_mut(&ready.name);
        let clients = queue.map_or(NOBODY, |queue| {
            queue.is_ready = false;
            &queue.clients
        });
        Some((ready, clients))
    }
}

impl Server {
    /// The request of `client` has found nothing: it sleeps until one of its keys is ready.
    pub(crate) fn sleep(&mut self, client: ClientKey) {
        let session = self.clients.session_mut(client);
        let awaited = session.awaited.as_mut().expect("a command that waits says what for");
        self.waiters.sleep(client, awaited);
        session.blocked = Some(Blocked::Keys);
        self.unprepare(client);
    }

    /// The request of `client` was answered: it waits no more.
    pub(crate) fn stop_waiting(&mut self, client: ClientKey) {
        if let Some(awaited) = self.clients.session_mut(client).awaited.take() {
            self.waiters.leave(client, &awaited);
        }
    }

    /// Has a sleeping client go on without an element. False if it does not sleep.
    pub(crate) fn unblock(&mut self, client: ClientKey, how: Unserved) -> bool {
        let Some(session) = self.clients.get_mut(client).map(|client| &mut client.session) else {
            return false;
        };
        let sleeps = matches!(session.blocked, Some(Blocked::Keys)) && session.closing.is_none();
        let Some(awaited) = session.awaited.take_if(|_| sleeps) else { return false };
        self.waiters.leave(client, &awaited);
        self.waiters.unserved.push_back((client, how));
        true
    }

    /// Ends the waits whose time is over.
    pub(crate) fn end_late_waits(&mut self) {
        while let Some((until_ms, _, client)) = self.waiters.timeouts.first().copied()
            && until_ms < self.mono_ms
        {
            if !self.unblock(client, Unserved::TimedOut) {
                // It is about to be closed.
                self.waiters.timeouts.pop_first();
            }
        }
    }

    /// Wakes the oldest client that waits for the first of the ready keys and finds something
    /// there: its request is to be run.
    pub(crate) fn wake_next(&mut self) -> Option<ClientKey> {
        let (hasher, now_ms) = (self.keyspace.hasher(), self.now_ms);
        loop {
            let (ready, queue) = self.waiters.front()?;
            let table = &self.keyspace.dbs[ready.db].table;
            let entry = table.find(hasher.key(&ready.name)).map(|loc| table.entry(loc));
            let object = entry.and_then(|entry| live_object(entry, now_ms));
            let waits = |client: &ClientKey| {
                let session = self.clients.get(*client).map(|client| &client.session);
                let asleep = session.filter(|session| {
                    session.closing.is_none() && matches!(session.blocked, Some(Blocked::Keys))
                });
                let awaited = asleep.and_then(|session| session.awaited.as_ref());
                awaited.zip(object).is_some_and(|(awaited, object)| (awaited.fits)(object))
            };
            let next = queue.range(ready.place..).find(|(_, client)| waits(client));
            let Some((place, client)) = next.map(|(place, client)| (*place, *client)) else {
                self.waiters.ready.pop_front();
                continue;
            };
            ready.place = place + 1;
            let name = ready.name.clone();
            let session = self.clients.session_mut(client);
            session.blocked = None;
            if let Some(awaited) = &mut session.awaited {
                awaited.woken_by = Some(name);
                self.waiters.wake(client, awaited);
            }
            return Some(client);
        }
    }
}

/// The collection of a key, unless its time is over.
fn live_object(entry: EntryRef<'_>, now_ms: u64) -> Option<&Object> {
    let is_over = entry.expires_at_ms().is_some_and(|at| at <= now_ms);
    match entry.value() {
        ValueRef::Object(object) if !is_over => Some(object),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use flintlock_diskcache::cache::Now;

    use super::*;
    use crate::command::dispatch::{Outcome, execute};
    use crate::command::{Ctx, OwnedRequest, lookup};
    use crate::config::Config;
    use crate::keyspace::Hasher;
    use crate::log::{Level, Log};
    use crate::offload::tests::pair;
    use crate::resp::encode::{Output, Proto, Reply};
    use crate::types::{Rng, SplitMix64};

    fn server(clients: usize) -> (Server, Vec<ClientKey>) {
        let log = Log::new(Level::Warning, None);
        let now = Now { mono_ms: 0, unix_ms: 1 };
        let mut server = Server::new(Config::default(), log, Hasher::new(&[7; 16]), now, [7; 16]);
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut connect = |place| server.clients.insert(pair(place).0, 0, nowhere, nowhere);
        let keys = (1..=clients).map(&mut connect).collect();
        (server, keys)
    }

    fn run(server: &mut Server, words: &[&[u8]]) {
        let command = lookup(words[0]).expect("a command");
        let hash = server.keyspace.hasher().hash(words[1]);
        let request = OwnedRequest::new(command, words.iter().copied(), hash);
        let mut out = Output::default();
        let mut ctx = Ctx::new(server, ClientKey::INTERNAL);
        let outcome = execute(&mut ctx, &request.get(), &mut Reply::new(&mut out, Proto::Resp2));
        assert_eq!(outcome, Outcome::Answered);
    }

    /// Each place in a queue is one of a client that waits for the key, and the other way round;
    /// the times are those of clients that sleep.
    fn check(server: &Server, keys: &[ClientKey]) {
        let (mut queued, mut waiting, mut times) = (0, 0, BTreeSet::new());
        for key in keys {
            let session = server.clients.session(*key);
            let sleeps = matches!(session.blocked, Some(Blocked::Keys));
            let Some(awaited) = &session.awaited else {
                assert!(!sleeps, "who sleeps waits for something");
                continue;
            };
            let place = awaited.place.expect("it has slept");
            for name in &awaited.names {
                let queue = &server.waiters.by_db[awaited.db][name];
                assert_eq!(queue.clients.get(&place), Some(key));
                queued += 1;
            }
            waiting += 1;
            times.extend(awaited.timeout(*key).filter(|_| sleeps));
        }
        let book = &server.waiters;
        let queues = || book.by_db.iter().flat_map(HashMap::values);
        assert_eq!(queues().map(|queue| queue.clients.len()).sum::<usize>(), queued);
        assert!(queues().all(|queue| !queue.clients.is_empty()), "nobody waits for such a key");
        assert_eq!((book.len, book.is_empty()), (waiting, waiting == 0));
        assert_eq!(book.timeouts, times);
    }

    /// As the loop answers them.
    fn tell_unserved(server: &mut Server) -> usize {
        let mut count = 0;
        while let Some((client, _)) = server.waiters.next_unserved() {
            server.clients.session_mut(client).blocked = None;
            count += 1;
        }
        count
    }

    #[test]
    fn the_book_agrees_with_those_who_wait_whatever_happens() {
        let (mut server, keys) = server(6);
        let mut rng = SplitMix64::new(1);
        let (mut woken, mut late, mut told) = (0, 0, 0);
        for step in 0..20_000 {
            server.mono_ms = step / 4;
            let key = keys[rng.below(6)];
            let name = [b'a' + rng.below(4) as u8];
            match rng.below(8) {
                0..=3 if server.clients.session(key).awaited.is_none() => {
                    let names = [&name[..], b"b", b"b"];
                    let until_ms = (rng.below(2) == 0).then(|| server.mono_ms + 1);
                    let fits = |object: &Object| matches!(object, Object::List(_));
                    let awaited = Awaited::new(0, names.into_iter(), fits, until_ms);
                    server.clients.session_mut(key).awaited = Some(Box::new(awaited));
                    server.sleep(key);
                }
                4 => {
                    server.unblock(key, Unserved::Refused);
                }
                5 => {
                    server.clients.session_mut(key).blocked = None;
                    server.stop_waiting(key);
                }
                6 => run(&mut server, &[b"SADD", &name, b"member"]),
                _ => run(&mut server, &[b"RPUSH", &name, b"item"]),
            }
            told += tell_unserved(&mut server);
            while let Some(client) = server.wake_next() {
                check(&server, &keys);
                woken += 1;
                if rng.below(3) == 0 {
                    server.sleep(client);
                } else {
                    server.stop_waiting(client);
                }
            }
            server.end_late_waits();
            late += tell_unserved(&mut server);
            check(&server, &keys);
            if rng.below(3) == 0 {
                run(&mut server, &[b"DEL", &name]);
            }
        }
        assert!(woken > 1000 && late > 100 && told > 100, "{woken} {late} {told}");
    }
}
