//! Publish and subscribe: who has subscribed to what, and messages on their way to subscribers.
//!
//! Main thread; no IO. The book has the subscribers of each name; a session has the names of its
//! client, so that both directions are found without a search. Commands that do not publish look
//! at nothing here but one flag of their session.
//!
//! A message is encoded once, copied or shared into the output of each subscriber and sent with the
//! other replies of the turn. A command runs whole, so no message comes inside of another client's
//! reply; the publisher's own go into its reply, in front of the count, as in Redis. While a worker
//! has the half of a subscriber, messages wait in its session (`mail`) and are put behind what the
//! half has when it is back, before a request of the client runs: a client gets no message behind
//! the word that it has unsubscribed.
//!
//! Messages are bounded by `client-output-buffer-limit`, class `pubsub`; there is nothing else to
//! hold up who publishes more than is read. What waits in the half and in the mail of a client that
//! is away is each below the limit, and together when it is back. A client that reaches the limit
//! is only marked: it leaves the book at the end of the turn, so nobody goes while a message is on
//! its way to all.
//!
//! With `appendfsync always` messages do not wait until what their publisher wrote before them is
//! durable, as little as its changes wait to be read by others. They do wait behind replies to
//! their own subscriber that are held.
//!
//! Source: behaviour of redis-server 7.0.15.

use std::collections::HashMap;
use std::sync::Arc;

use crate::client::{Client, ClientKey, Session};
use crate::client_memory::is_output_too_much;
use crate::net::conn::OUTPUT_HIGH;
use crate::resp::encode::{Message, Output, Proto};
use crate::server::Server;
use crate::util::glob;

/// What a subscription is to.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum Kind {
    /// One channel.
    Channel,
    /// Every channel that matches a pattern.
    Pattern,
    /// One shard channel; those are names of their own, which no pattern matches.
    Shard,
}

/// All subscriptions, by kind and name.
#[derive(Debug, Default)]
pub(crate) struct PubSub {
    subscribers: [HashMap<Arc<[u8]>, Vec<ClientKey>>; 3],
}

/// The subscriptions of one client, of which it has at least one.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    /// By kind and name, numbered in the order in which they were made.
    names: [HashMap<Arc<[u8]>, u64>; 3],
    /// Subscriptions ever made.
    made: u64,
    names_bytes: usize,
    /// Messages that came while the half of the client was away.
    mail: Output,
}

impl Subscriptions {
    /// How many of a kind there are.
    pub(crate) fn len(&self, kind: Kind) -> usize {
        self.names[kind as usize].len()
    }

    fn is_empty(&self) -> bool {
        self.names.iter().all(HashMap::is_empty)
    }

    /// The names of a kind, in the order of their subscription.
    fn names(&self, kind: Kind) -> Vec<Arc<[u8]>> {
        let mut numbered: Vec<_> =
            self.names[kind as usize].iter().map(|(name, number)| (*number, name)).collect();
        numbered.sort_unstable();
        numbered.into_iter().map(|(_, name)| Arc::clone(name)).collect()
    }

    /// Memory that they take here and in the book, in bytes. A name that others have too counts for
    /// each.
    pub(crate) fn memory_bytes(&self) -> usize {
        let each = 2 * size_of::<(Arc<[u8]>, u64)>() + size_of::<ClientKey>();
        let count: usize = self.names.iter().map(HashMap::len).sum();
        size_of::<Self>() + self.names_bytes + count * each + self.mail.memory_bytes()
    }
}

impl PubSub {
    /// Whether nobody has subscribed to anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.subscribers.iter().all(HashMap::is_empty)
    }

    /// How many names of a kind have subscribers.
    pub(crate) fn len(&self, kind: Kind) -> usize {
        self.subscribers[kind as usize].len()
    }

    /// The names of a kind that have subscribers.
    pub(crate) fn names(&self, kind: Kind) -> impl Iterator<Item = &[u8]> {
        self.subscribers[kind as usize].keys().map(|name| &**name)
    }

    /// Who has subscribed to a name.
    pub(crate) fn subscribers(&self, kind: Kind, name: &[u8]) -> &[ClientKey] {
        self.subscribers[kind as usize].get(name).map_or(&[], Vec::as_slice)
    }

    fn add(&mut self, client: ClientKey, session: &mut Session, kind: Kind, name: &[u8]) {
        session.subscribes = true;
        let own = session.subscriptions.get_or_insert_default();
        if own.names[kind as usize].contains_key(name) {
            return;
        }
        let book = &mut self.subscribers[kind as usize];
        let name = book.get_key_value(name).map_or_else(|| name.into(), |(n, _)| Arc::clone(n));
        own.names_bytes += name.len();
        own.names[kind as usize].insert(Arc::clone(&name), own.made);
        own.made += 1;
        book.entry(name).or_default().push(client);
    }

    fn remove(&mut self, client: ClientKey, session: &mut Session, kind: Kind, name: &[u8]) {
        let Some(own) = &mut session.subscriptions else { return };
        if own.names[kind as usize].remove(name).is_none() {
            return;
        }
        own.names_bytes -= name.len();
        give_back(&mut own.names[kind as usize]);
        if own.is_empty() {
            // Its command runs, so the half is at home and has taken the mail.
            debug_assert!(own.mail.is_empty(), "no mail is lost");
            session.subscriptions = None;
            session.subscribes = false;
        }
        self.strike(client, kind, name);
    }

    /// Takes a client out of the subscribers of a name. They keep their order, in which they get
    /// messages, so this is a search, as in Redis: 5 us among 10,000.
    fn strike(&mut self, client: ClientKey, kind: Kind, name: &[u8]) {
        let book = &mut self.subscribers[kind as usize];
        let Some(subscribers) = book.get_mut(name) else { return };
        let at = subscribers.iter().position(|subscriber| *subscriber == client);
        subscribers.remove(at.expect("a name of a client has it as a subscriber"));
        if subscribers.is_empty() {
            book.remove(name);
            give_back(book);
        }
    }

    /// `client` has subscribed to nothing any more, and gets no more of its mail.
    pub(crate) fn forget(&mut self, client: ClientKey, session: &mut Session) {
        session.subscribes = false;
        let Some(own) = session.subscriptions.take() else { return };
        for kind in [Kind::Channel, Kind::Pattern, Kind::Shard] {
            for name in own.names[kind as usize].keys() {
                self.strike(client, kind, name);
            }
        }
    }
}

/// Gives back the room of a table that was much larger once: looking at all that is in it, as each
/// message does for patterns, would take as long as ever.
fn give_back<V>(table: &mut HashMap<Arc<[u8]>, V>) {
    const ROOM_MIN: usize = 64;
    if table.capacity() > ROOM_MIN && table.len() < table.capacity() / 8 {
        table.shrink_to(2 * table.len());
    }
}

impl Session {
    /// How many subscriptions it has, as a client that changes one of `kind` is told.
    pub(crate) fn subscription_count(&self, kind: Kind) -> usize {
        self.subscriptions.as_ref().map_or(0, |own| match kind {
            Kind::Channel | Kind::Pattern => own.len(Kind::Channel) + own.len(Kind::Pattern),
            Kind::Shard => own.len(Kind::Shard),
        })
    }

    /// The names that it has subscribed to, in the order of their subscription.
    pub(crate) fn subscribed_names(&self, kind: Kind) -> Vec<Arc<[u8]>> {
        self.subscriptions.as_ref().map_or_else(Vec::new, |own| own.names(kind))
    }

    /// Whether it may only change its subscriptions: in RESP2 a message is not told from a reply.
    #[inline]
    pub(crate) fn only_subscribes(&self) -> bool {
        self.subscribes && self.proto == Proto::Resp2
    }
}

impl Server {
    /// Subscribes a client whose command runs; nothing changes if it has already.
    pub(crate) fn subscribe(&mut self, client: ClientKey, kind: Kind, name: &[u8]) {
        self.pubsub.add(client, self.clients.session_mut(client), kind, name);
    }

    /// Ends a subscription of a client whose command runs, if there is one.
    pub(crate) fn unsubscribe(&mut self, client: ClientKey, kind: Kind, name: &[u8]) {
        self.pubsub.remove(client, self.clients.session_mut(client), kind, name);
    }

    /// Sends `text` to all subscribers of a channel, in their order, and then, unless it is a shard
    /// channel, to those of patterns; how many times in all. What the publisher itself gets goes
    /// to `own`.
    pub(crate) fn publish(
        &mut self,
        (publisher, own): (ClientKey, &mut Output),
        kind: Kind,
        channel: &[u8],
        text: &[u8],
    ) -> usize {
        // Nobody subscribes while clients are looked at, so the book may be out of its place.
        let book = std::mem::take(&mut self.pubsub);
        let mut count = 0;
        let mut send = |words: &[&[u8]], subscribers: &[ClientKey]| {
            let message = Message::new(words);
            for key in subscribers {
                self.deliver(*key, &message, (*key == publisher).then_some(&mut *own));
            }
            count += subscribers.len();
        };
        let subscribers = book.subscribers(kind, channel);
        if !subscribers.is_empty() {
            let word: &[u8] = if kind == Kind::Shard { b"smessage" } else { b"message" };
            send(&[word, channel, text], subscribers);
        }
        if kind == Kind::Channel {
            let patterns = &book.subscribers[Kind::Pattern as usize];
            for (pattern, subscribers) in patterns.iter().filter(|p| glob::matches(p.0, channel)) {
                send(&[b"pmessage", pattern, channel, text], subscribers);
            }
        }
        self.pubsub = book;
        count
    }

    /// Puts a message behind what a client is to get: into `own` if its command runs.
    fn deliver(&mut self, key: ClientKey, message: &Message, own: Option<&mut Output>) {
        let Some(client) = self.clients.get_mut(key) else { return };
        if client.session.closing.is_some() {
            return;
        }
        let Client { io, session, .. } = &mut *client;
        let (is_home, proto) = (io.is_some(), session.proto);
        let out = match (own, io, &mut session.subscriptions) {
            (Some(own), ..) => own,
            (None, Some(io), _) => &mut io.out,
            (None, None, Some(subscriptions)) => &mut subscriptions.mail,
            (None, None, None) => return,
        };
        out.message(message, proto);
        let waiting = out.len();
        if is_home {
            client.full = waiting > OUTPUT_HIGH;
            client.enlist_write(key, &mut self.writes);
        }
        self.check_subscriber(key, waiting);
    }

    /// Puts the messages that came while its half was away behind what the half has.
    pub(crate) fn take_mail(&mut self, key: ClientKey) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let Client { io: Some(io), session, full, .. } = &mut *client else { return };
        let Some(own) = &mut session.subscriptions else { return };
        if own.mail.is_empty() {
            return;
        }
        io.out.append(&mut own.mail);
        let waiting = io.out.len();
        *full = waiting > OUTPUT_HIGH;
        client.enlist_write(key, &mut self.writes);
        self.check_subscriber(key, waiting);
    }

    /// Holds a subscriber of which so much waits to its limits. Messages behind replies that wait
    /// for the journal count too: others go on to publish meanwhile.
    fn check_subscriber(&mut self, key: ClientKey, waiting: usize) {
        let hard_bytes = self.config.client_output_buffer_limit.pubsub.hard_bytes;
        if is_output_too_much(waiting, hard_bytes) {
            self.end_for_output(key);
        } else {
            self.count_client(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use flintlock_diskcache::cache::Now;

    use super::*;
    use crate::config::Config;
    use crate::keyspace::Hasher;
    use crate::log::{Level, Log};
    use crate::offload::tests::pair;
    use crate::types::{Rng, SplitMix64};

    const KINDS: [Kind; 3] = [Kind::Channel, Kind::Pattern, Kind::Shard];

    fn server(clients: usize) -> (Server, Vec<ClientKey>) {
        let log = Log::new(Level::Warning, None);
        let now = Now { mono_ms: 0, unix_ms: 1 };
        let mut server = Server::new(Config::default(), log, Hasher::new(&[7; 16]), now, [7; 16]);
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut connect = |place| server.clients.insert(pair(place).0, 0, nowhere, nowhere);
        let keys = (1..=clients).map(&mut connect).collect();
        (server, keys)
    }

    /// Each name of a client has it as a subscriber, once, and the other way round.
    fn check(server: &Server, keys: &[ClientKey]) {
        let mut count = 0;
        for key in keys {
            let session = server.clients.session(*key);
            assert_eq!(session.subscribes, session.subscriptions.is_some());
            let Some(own) = &session.subscriptions else { continue };
            assert!(!own.is_empty());
            let mut bytes = 0;
            for kind in KINDS {
                for name in own.names(kind) {
                    let found = server.pubsub.subscribers(kind, &name);
                    assert_eq!(found.iter().filter(|found| *found == key).count(), 1);
                    (bytes, count) = (bytes + name.len(), count + 1);
                }
            }
            assert_eq!(bytes, own.names_bytes);
        }
        let books = server.pubsub.subscribers.iter().flat_map(HashMap::values);
        assert_eq!(books.map(Vec::len).sum::<usize>(), count);
        assert!(KINDS.iter().all(|kind| {
            server
                .pubsub
                .names(*kind)
                .all(|name| !server.pubsub.subscribers(*kind, name).is_empty())
        }));
    }

    #[test]
    fn both_directions_agree_whatever_is_asked_for() {
        let (mut server, keys) = server(4);
        let mut rng = SplitMix64::new(1);
        let mut most = 0;
        for _ in 0..5000 {
            let key = keys[rng.below(4)];
            let kind = KINDS[rng.below(3)];
            let name = rng.below(6).to_string().repeat(3);
            match rng.below(20) {
                0 => server.pubsub.forget(key, server.clients.session_mut(key)),
                1..12 => server.subscribe(key, kind, name.as_bytes()),
                _ => server.unsubscribe(key, kind, name.as_bytes()),
            }
            check(&server, &keys);
            most = most.max(server.pubsub.len(kind));
        }
        assert_eq!(most, 6, "all names were used");
    }

    /// Each message looks at all patterns, so a table must not stay as large as it ever was.
    #[test]
    fn tables_give_back_room_when_most_names_are_gone() {
        let (mut server, keys) = server(2);
        let name = |number: usize| number.to_string().into_bytes();
        let room = |server: &Server| {
            let own = server.clients.session(keys[0]).subscriptions.as_ref();
            let own = own.map_or(0, |own| own.names[Kind::Pattern as usize].capacity());
            (server.pubsub.subscribers[Kind::Pattern as usize].capacity(), own)
        };
        for number in 0..10_000 {
            server.subscribe(keys[0], Kind::Pattern, &name(number));
        }
        assert!(room(&server) >= (10_000, 10_000));
        for number in 1..10_000 {
            server.unsubscribe(keys[0], Kind::Pattern, &name(number));
        }
        let (book, own) = room(&server);
        assert!(book <= 64 && own <= 64, "{book} {own}");
        for number in 0..10_000 {
            server.subscribe(keys[1], Kind::Pattern, &name(number));
        }
        server.pubsub.forget(keys[1], server.clients.session_mut(keys[1]));
        check(&server, &keys);
        assert!(room(&server).0 <= 64);
    }

    /// A client that reaches its limit in the midst of a message leaves the book when it is closed,
    /// at home or away; others get the message.
    #[test]
    fn who_reaches_the_limit_gets_no_more_and_is_forgotten() {
        let (mut server, keys) = server(4);
        server.config.client_output_buffer_limit.pubsub.hard_bytes = 500_000;
        let publisher = keys[3];
        for key in &keys[..3] {
            server.subscribe(*key, Kind::Channel, b"c");
            server.subscribe(*key, Kind::Pattern, b"c*");
        }
        let half = server.clients.get_mut(keys[0]).expect("it is there").io.take();
        let text = vec![b'x'; 100_000];
        for _ in 0..20 {
            let mut own = Output::default();
            server.publish((publisher, &mut own), Kind::Channel, b"c", &text);
            for key in &keys[..2] {
                let memory = server.clients.get(*key).expect("it is there").memory_bytes();
                assert!(memory < 800_000, "{memory} bytes for {key:?}");
            }
            // This one reads.
            let client = server.clients.get_mut(keys[2]).expect("it is there");
            let out = &mut client.io.as_mut().expect("at home").out;
            assert_eq!(bytes(out).len(), 200_000 + 35 + 44, "both messages");
        }
        assert_eq!(server.closing, [keys[0], keys[1]], "each once");
        assert_eq!(server.pubsub.subscribers(Kind::Channel, b"c").len(), 3, "until it is closed");
        drop(half);
        for key in &keys[..2] {
            let mut client = server.clients.remove(*key).expect("it is there");
            server.pubsub.forget(*key, &mut client.session);
        }
        assert_eq!(server.pubsub.subscribers(Kind::Channel, b"c"), [keys[2]]);
        check(&server, &keys[2..]);
    }

    /// The mail of a client and what its half came back with are held to the limit together.
    #[test]
    fn mail_counts_with_what_waits_in_the_half() {
        let (mut server, keys) = server(2);
        server.config.client_output_buffer_limit.pubsub.hard_bytes = 500_000;
        server.subscribe(keys[0], Kind::Channel, b"c");
        let text = vec![b'x'; 300_000];
        let publish = |server: &mut Server| {
            let own = &mut Output::default();
            server.publish((keys[1], own), Kind::Channel, b"c", &text)
        };
        publish(&mut server);
        let half = server.clients.get_mut(keys[0]).expect("it is there").io.take();
        publish(&mut server);
        assert!(server.closing.is_empty(), "each is below the limit");
        server.clients.get_mut(keys[0]).expect("it is there").io = half;
        server.take_mail(keys[0]);
        assert_eq!(server.closing, [keys[0]]);
    }

    /// Messages that come while the half is away are behind what is in it, once, in order.
    #[test]
    fn mail_of_a_client_that_is_away_is_in_its_output_when_it_is_back() {
        let (mut server, keys) = server(2);
        let publish = |server: &mut Server, text: &[u8]| {
            let mut own = Output::default();
            let count = server.publish((keys[1], &mut own), Kind::Channel, b"c", text);
            assert!(count == 1 && own.is_empty());
        };
        server.subscribe(keys[0], Kind::Channel, b"c");
        let (mut want, long) = (Output::default(), vec![b'l'; 100_000]);
        let texts = [b"at home", &long[..], b"away", &long, b"", b"at home again"];
        for (at, text) in texts.iter().enumerate() {
            let client = server.clients.get_mut(keys[0]).expect("it is there");
            if at == 2 {
                let half = client.io.take();
                publish(&mut server, b"away");
                publish(&mut server, &long);
                publish(&mut server, b"");
                let client = server.clients.get_mut(keys[0]).expect("it is there");
                assert!(client.session.memory_bytes() > 100_000, "mail counts");
                client.io = half;
                server.take_mail(keys[0]);
                server.take_mail(keys[0]);
            } else if at == 0 || at == 1 || at == 5 {
                publish(&mut server, text);
            }
            want.message(&Message::new(&[b"message", b"c", text]), Proto::Resp2);
        }
        assert_eq!(server.writes, [keys[0]], "it is to be written to, once");
        let client = server.clients.get_mut(keys[0]).expect("it is there");
        let out = &mut client.io.as_mut().expect("at home").out;
        assert_eq!(bytes(out), bytes(&mut want));
    }

    fn bytes(out: &mut Output) -> Vec<u8> {
        let mut bytes = Vec::new();
        while !out.is_empty() {
            let mut slices = [std::io::IoSlice::new(&[]); 4];
            let count = out.gather(7000, &mut slices);
            let part: Vec<u8> = slices[..count].iter().flat_map(|part| part.to_vec()).collect();
            out.consume(part.len());
            bytes.extend(part);
        }
        bytes
    }
}
