//! How much memory clients take, and which of them go when it is too much: `maxmemory-clients` for
//! all of them together, `client-output-buffer-limit` for the replies that one does not read.
//!
//! Main thread. For `maxmemory-clients` a client is counted with its buffers, its queue of MULTI,
//! the names of keys that its request gathers from the disk and its place, after each run of its
//! requests and each write; one whose half is with a worker counts as it did before. One that is
//! about to be closed counts no more, although its memory is free only when its half is back:
//! otherwise others would go for what is free in a moment. The largest goes first.
//!
//! Without a limit nothing is counted, and a request pays for one comparison.
//!
//! Output is bounded without a limit too: while more than `OUTPUT_HIGH` waits, the client's further
//! requests do. The limit is for single replies that are larger, and for who never reads them. A
//! reply that reaches a limit is not built on: what its client is closed for need not be there.
//!
//! Source: client eviction of redis-server 7.0.15; what closing clients still hold is what Valkey
//! pull request 3544 forgot and 3938 brought back.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;

use crate::client::{Client, ClientKey, Closing};
use crate::config::{ClientMemoryLimit, OutputLimit};
use crate::server::Server;

/// Replies that no limit is about: Redis has a fixed buffer for as many, and counts what is beyond.
pub(crate) const OUTPUT_FREE: usize = 16 << 10;

/// What one client counts for.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) struct Counted {
    bytes: usize,
    /// Whether it may go: it did not ask for CLIENT NO-EVICT.
    evictable: bool,
}

/// The book; agrees with the `counted` of all clients.
#[derive(Debug, Default)]
pub(crate) struct ClientMemory {
    total_bytes: usize,
    /// Clients that may go, by size.
    by_size: BTreeSet<(usize, ClientKey)>,
}

impl ClientMemory {
    /// Bytes of all counted clients; 0 without a limit.
    pub(crate) fn total_bytes(&self) -> usize {
        self.total_bytes
    }

    /// The largest client that may go.
    pub(crate) fn largest(&self) -> Option<ClientKey> {
        self.by_size.last().map(|&(_, key)| key)
    }

    /// Notes what `client` takes now.
    fn count(&mut self, key: ClientKey, client: &mut Client) {
        let bytes = client.memory_bytes();
        let new = Counted { bytes, evictable: !client.session.no_evict };
        if client.counted == Some(new) {
            return;
        }
        self.uncount(key, client);
        self.total_bytes += bytes;
        if new.evictable {
            self.by_size.insert((bytes, key));
        }
        client.counted = Some(new);
    }

    /// From now on `client` counts no more, until it is counted again.
    pub(crate) fn uncount(&mut self, key: ClientKey, client: &mut Client) {
        if let Some(old) = client.counted.take() {
            self.total_bytes -= old.bytes;
            if old.evictable {
                let found = self.by_size.remove(&(old.bytes, key));
                debug_assert!(found, "the book has each client that may go");
            }
        }
    }
}

/// Whether so many bytes of replies that wait reach a limit; 0 is none.
#[inline]
pub(crate) fn is_output_too_much(waiting: usize, limit_bytes: u64) -> bool {
    limit_bytes > 0 && waiting.saturating_sub(OUTPUT_FREE) as u64 >= limit_bytes
}

impl Server {
    /// The limit in force, in bytes.
    fn client_memory_max(&self) -> Option<usize> {
        let limit = self.config.maxmemory_clients.bytes(self.config.maxmemory_bytes)?;
        Some(usize::try_from(limit).unwrap_or(usize::MAX))
    }

    /// Counts a client anew, if there is a limit, its half is at home and it is to stay.
    #[inline]
    pub(crate) fn count_client(&mut self, key: ClientKey) {
        if self.config.maxmemory_clients != ClientMemoryLimit::Bytes(0) {
            self.count_client_slow(key);
        }
    }

    fn count_client_slow(&mut self, key: ClientKey) {
        if self.client_memory_max().is_none() {
            return;
        }
        let Some(client) = self.clients.get_mut(key) else { return };
        if client.io.is_some() && client.session.closing != Some(Closing::Now) {
            self.client_memory.count(key, client);
        }
    }

    /// Counts everybody, or nobody if there is no limit: the configuration has changed.
    pub(crate) fn count_clients(&mut self) {
        let limited = self.client_memory_max().is_some();
        if !limited && self.client_memory.total_bytes() == 0 {
            return;
        }
        let keys: Vec<_> = self.clients.iter().map(|(key, _)| key).collect();
        for key in keys {
            if limited {
                self.count_client(key);
            } else if let Some(client) = self.clients.get_mut(key) {
                self.client_memory.uncount(key, client);
            }
        }
    }

    /// The clients of which too many replies wait now, or more than the soft limit have waited for
    /// too long. To be asked once a second. Only what the socket did not take counts: other replies
    /// have not been sent yet, which is not the client's fault. Of one whose half is away nothing
    /// new is known.
    pub(crate) fn clients_behind(&mut self) -> Vec<ClientKey> {
        let limits = self.config.client_output_buffer_limit;
        let is_none = |limit: OutputLimit| limit.hard_bytes == 0 && limit.soft_bytes == 0;
        if is_none(limits.normal) && (self.pubsub.is_empty() || is_none(limits.pubsub)) {
            return Vec::new();
        }
        let keys: Vec<_> = self.clients.iter().map(|(key, _)| key).collect();
        let is_behind = |key: &ClientKey| {
            let Some(client) = self.clients.get_mut(*key) else { return false };
            let Client { io: Some(io), session, write_blocked, .. } = client else { return false };
            let waiting = if *write_blocked { io.out.len() } else { 0 };
            let limit = limits.of_client(session.subscribes);
            let patience_ms = u64::from(limit.soft_seconds) * 1000;
            if !is_output_too_much(waiting, limit.soft_bytes) {
                session.behind_since_ms = None;
                return is_output_too_much(waiting, limit.hard_bytes);
            }
            let since_ms = *session.behind_since_ms.get_or_insert(self.mono_ms);
            self.mono_ms.saturating_sub(since_ms) > patience_ms
                || is_output_too_much(waiting, limit.hard_bytes)
        };
        keys.into_iter().filter(is_behind).collect()
    }

    /// With how many bytes of replies a client is closed, so that no more need be made: by the hard
    /// limit, unless it is the server that holds replies back, or since they alone are more than
    /// all clients may take.
    pub(crate) fn output_limit(&self, key: ClientKey) -> Option<NonZeroUsize> {
        let session = self.clients.session(key);
        let hard_bytes = self.hard_bytes(key);
        let hard = (hard_bytes > 0 && session.held.is_none())
            .then(|| usize::try_from(hard_bytes).unwrap_or(usize::MAX).saturating_add(OUTPUT_FREE));
        let all = self.client_memory_max().filter(|_| !session.no_evict);
        NonZeroUsize::new(hard.into_iter().chain(all).min()?)
    }

    /// The hard limit of a client whose command runs.
    fn hard_bytes(&self, key: ClientKey) -> u64 {
        let subscribes = self.clients.session(key).subscribes;
        self.config.client_output_buffer_limit.of_client(subscribes).hard_bytes
    }

    /// Whether the replies of a client, with a subscription or without, have a limit at all.
    #[inline]
    pub(crate) fn limits_output(&self, subscribes: bool) -> bool {
        self.config.client_output_buffer_limit.of_client(subscribes).hard_bytes > 0
            || self.config.maxmemory_clients != ClientMemoryLimit::Bytes(0)
    }

    /// Ends a client for the replies it does not read, which are dropped; unless it is the server
    /// that holds them back until the journal is durable.
    pub(crate) fn close_for_output(&mut self, key: ClientKey) {
        if self.clients.get(key).is_some_and(|client| !self.is_held(client)) {
            self.end_for_output(key);
        }
    }

    /// The same, whoever holds them back.
    pub(crate) fn end_for_output(&mut self, key: ClientKey) {
        let Some(client) = self.clients.get(key) else { return };
        if client.session.closing == Some(Closing::Now) {
            return;
        }
        self.log.warning(format_args!(
            "Client {} ({}) is closed for overcoming its output buffer limit",
            client.session.id, client.session.addr
        ));
        self.close_client(key, Closing::Now);
    }

    /// Ends a client whose reply was cut short at a limit.
    #[cold]
    pub(crate) fn close_for_cut(&mut self, key: ClientKey) {
        let all = self.client_memory_max().filter(|_| !self.clients.session(key).no_evict);
        let hard_bytes = self.hard_bytes(key);
        if all.is_some_and(|all| hard_bytes == 0 || all as u64 <= hard_bytes) {
            self.evict_client(key);
        } else {
            self.end_for_output(key);
        }
    }

    /// Ends a client for the memory that it or all of them take.
    pub(crate) fn evict_client(&mut self, key: ClientKey) {
        let Some(client) = self.clients.get(key) else { return };
        self.stats.evicted_clients += 1;
        self.log.verbose(format_args!(
            "Evicting client {} ({}): all together take {} bytes",
            client.session.id,
            client.session.addr,
            self.client_memory.total_bytes()
        ));
        self.close_client(key, Closing::Now);
    }

    /// The client that must go for the limit to hold: the largest of those that may.
    pub(crate) fn client_to_evict(&self) -> Option<ClientKey> {
        let max = self.client_memory_max()?;
        (self.client_memory.total_bytes() > max).then(|| self.client_memory.largest()).flatten()
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
    use crate::resp::encode::{Proto, Reply};

    const CLIENTS: usize = 4;

    /// A server with as many clients, each with a name of 100 KB per place, and no room for one of
    /// the last.
    fn crowded() -> (Server, Vec<ClientKey>) {
        let mut config = Config::default();
        config.maxmemory_clients = ClientMemoryLimit::Bytes(900_000);
        let log = Log::new(Level::Warning, None);
        let now = Now { mono_ms: 0, unix_ms: 1 };
        let mut server = Server::new(config, log, Hasher::new(&[7; 16]), now, [7; 16]);
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let keys = (1..=CLIENTS)
            .map(|place| {
                let (io, _peer) = pair(place);
                let key = server.clients.insert(io, 0, nowhere, nowhere);
                server.clients.session_mut(key).name = vec![b'n'; place * 100_000];
                server.count_client(key);
                key
            })
            .collect();
        (server, keys)
    }

    /// Valkey 3544: what clients in flight still hold was forgotten, so everybody went.
    #[test]
    fn a_client_that_is_closed_while_away_counts_no_more_but_is_there() {
        let (mut server, keys) = crowded();
        let largest = server.client_to_evict().expect("a megabyte is too much");
        assert_eq!(largest, keys[3]);
        let client = server.clients.get_mut(largest).expect("connected");
        let half = client.io.take();
        client.away = true;
        server.close_client(largest, Closing::Now);
        assert_eq!(server.client_to_evict(), None, "one was enough");
        // It comes back, with whatever it read meanwhile, and is closed.
        server.clients.get_mut(largest).expect("still there").io = half;
        server.count_client(largest);
        assert_eq!(server.client_to_evict(), None);
        server.close_client(largest, Closing::Now);
        let before = server.client_memory.total_bytes();
        let mut client = server.clients.remove(largest).expect("still there");
        server.client_memory.uncount(largest, &mut client);
        assert_eq!(server.client_memory.total_bytes(), before, "uncounted once");
    }

    /// The fewest go, as many as would if what they hold were free at once, whether their halves
    /// are at home or with workers for as long as it takes.
    #[test]
    fn no_more_are_chosen_than_must_go_while_nothing_is_free_yet() {
        for away in [false, true] {
            let (mut server, keys) = crowded();
            server.config.maxmemory_clients = ClientMemoryLimit::Bytes(450_000);
            for key in keys.iter().filter(|_| away) {
                let client = server.clients.get_mut(*key).expect("connected");
                (client.away, client.io) = (true, None);
            }
            let mut chosen = Vec::new();
            while let Some(key) = server.client_to_evict() {
                assert!(!chosen.contains(&key), "nobody goes twice");
                server.close_client(key, Closing::Now);
                chosen.push(key);
                // News of those who are still there changes nothing.
                keys.iter().for_each(|key| server.count_client(*key));
            }
            assert_eq!(chosen, [keys[3], keys[2]], "away: {away}");
            assert_eq!(server.clients.len(), CLIENTS, "nobody has left");
        }
    }

    #[test]
    fn the_book_follows_sizes_exemptions_and_the_limit() {
        let (mut server, keys) = crowded();
        server.clients.session_mut(keys[3]).no_evict = true;
        server.count_client(keys[3]);
        assert_eq!(server.client_to_evict(), Some(keys[2]), "the largest that may go");
        server.clients.session_mut(keys[0]).name = vec![b'n'; 350_000];
        server.count_client(keys[0]);
        assert_eq!(server.client_to_evict(), Some(keys[0]), "it has grown");
        for key in &keys {
            server.clients.session_mut(*key).no_evict = true;
            server.count_client(*key);
        }
        assert_eq!(server.client_to_evict(), None, "nobody may go");
        assert!(server.client_memory.total_bytes() > 900_000);
        server.config.maxmemory_clients = ClientMemoryLimit::Bytes(0);
        server.count_clients();
        assert_eq!(server.client_memory.total_bytes(), 0, "without a limit nothing is counted");
        server.config.maxmemory_clients = ClientMemoryLimit::Percent(10);
        server.config.maxmemory_bytes = 5_000_000;
        server.clients.session_mut(keys[1]).no_evict = false;
        server.count_clients();
        assert_eq!(server.client_to_evict(), Some(keys[1]));
    }

    #[test]
    fn behind_is_who_does_not_take_what_was_sent_for_too_long() {
        let (mut server, keys) = crowded();
        let key = keys[0];
        let normal = &mut server.config.client_output_buffer_limit.normal;
        (normal.soft_bytes, normal.soft_seconds) = (50_000, 2);
        let io = server.clients.get_mut(key).and_then(|client| client.io.as_mut());
        Reply::new(&mut io.expect("at home").out, Proto::Resp2).error(&[b'e'; 100_000]);
        let behind_at = |server: &mut Server, seconds: u64, blocked: bool| {
            server.set_now(Now { mono_ms: 1000 * seconds, unix_ms: 1 });
            server.clients.get_mut(key).expect("connected").write_blocked = blocked;
            server.clients_behind()
        };
        assert_eq!(behind_at(&mut server, 0, false), [], "it was not sent yet");
        assert_eq!(behind_at(&mut server, 5, true), []);
        assert_eq!(behind_at(&mut server, 7, true), [], "it has its time");
        assert_eq!(behind_at(&mut server, 8, true), [key]);
        assert_eq!(behind_at(&mut server, 9, false), [], "it goes on reading");
        assert_eq!(behind_at(&mut server, 10, true), [], "and its time begins anew");
        server.config.client_output_buffer_limit.normal.hard_bytes = 90_000;
        assert_eq!(behind_at(&mut server, 11, true), [], "less than that, but for what is free");
        server.config.client_output_buffer_limit.normal.hard_bytes = 80_000;
        assert_eq!(behind_at(&mut server, 11, true), [key], "a limit that was set meanwhile");
    }
}
