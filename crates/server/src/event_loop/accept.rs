//! Taking new connections, and letting clients go.

use std::io::{self, Write};

use mio::{Interest, Token};

use crate::client::{ClientKey, Closing};
use crate::net::acceptor::{Accepted, Acceptor, BATCH_MAX, End};
use crate::net::conn::{ConnIo, InputLimits};

use super::EventLoop;

/// Batches that the main thread accepts in one turn; more wait in the backlog for a later one.
const BATCHES_MAX: usize = 1000 / BATCH_MAX;

/// Clients evicted in one turn: closing one frees its buffers, which may be large.
const EVICTIONS_MAX: usize = 32;

const TOO_MANY: &[u8] = b"-ERR max number of clients reached\r\n";
const PROTECTED: &[u8] =
    b"-DENIED Flintlock is running in protected mode because protected mode is \
enabled and no password is set for the default user. In this mode connections are only accepted \
from the loopback interface. Set a password with 'requirepass', or disable protected mode with \
'protected-mode no' if the network is trusted.\r\n";

/// A listener as the event loop sees it.
#[derive(Debug)]
pub(super) struct Door {
    /// `None` while a worker accepts.
    pub(super) acceptor: Option<Box<Acceptor>>,
    /// Somebody may wait whom the next event does not tell of.
    pub(super) knocked: bool,
}

impl EventLoop {
    /// Accepts what waits at a listener, or has it accepted. Edge-triggered: until there is nothing
    /// left, or the rest is noted for later.
    pub(super) fn accept(&mut self, listener: usize) {
        let door = &mut self.doors[listener];
        let Some(mut acceptor) = door.acceptor.take() else {
            // A worker is about it, and may have seen that nobody waits before this one came.
            door.knocked = true;
            return;
        };
        door.knocked = false;
        acceptor.keepalive_s = u64::from(self.server.config.tcp_keepalive_s);
        let acceptor = match &mut self.server.offload {
            Some(offload) => match offload.accept(acceptor) {
                Ok(()) => return,
                Err(acceptor) => acceptor,
            },
            None => acceptor,
        };
        self.accept_here(acceptor);
    }

    fn accept_here(&mut self, mut acceptor: Box<Acceptor>) {
        let mut end = End::More;
        for _ in 0..BATCHES_MAX {
            acceptor.accept(|| true);
            end = self.admit_batch(&mut acceptor);
            if !matches!(end, End::More) {
                break;
            }
        }
        if !matches!(end, End::Drained) {
            self.cron.accept_again(acceptor.index);
        }
        self.put_back_acceptor(acceptor);
    }

    /// A worker has accepted a batch. More are for the next turn, so that a storm of connections
    /// takes no more than a batch of each.
    pub(super) fn back_from_accept(&mut self, mut acceptor: Box<Acceptor>) {
        let before = self.server.stats.connections + self.server.stats.rejected_connections;
        match self.admit_batch(&mut acceptor) {
            End::Drained => {}
            End::More => self.doors[acceptor.index].knocked = true,
            End::Failed(_) => self.cron.accept_again(acceptor.index),
        }
        let after = self.server.stats.connections + self.server.stats.rejected_connections;
        self.server.stats.offloaded_accepts += after - before;
        self.put_back_acceptor(acceptor);
    }

    fn put_back_acceptor(&mut self, acceptor: Box<Acceptor>) {
        let index = acceptor.index;
        self.doors[index].acceptor = Some(acceptor);
    }

    /// Listeners at home that were knocked at while a worker had them, or had more than a batch.
    pub(super) fn accept_knocked(&mut self) {
        for index in 0..self.doors.len() {
            if self.doors[index].knocked && self.doors[index].acceptor.is_some() {
                self.accept(index);
            }
        }
    }

    /// Admits or refuses those of a batch in the order they came in; how the batch ended.
    fn admit_batch(&mut self, acceptor: &mut Acceptor) -> End {
        let (batch, end) = acceptor.take();
        for accepted in batch {
            if let Err(error) = accepted.and_then(|accepted| self.admit(accepted)) {
                self.server.log.verbose(format_args!("Accepting a client: {error}"));
            }
        }
        if let End::Failed(error) = &end {
            // Clients wait in the backlog until some close.
            self.server.log.warning(format_args!("Accepting client connection: {error}"));
        }
        end
    }

    fn admit(&mut self, accepted: Accepted) -> io::Result<()> {
        let Accepted { mut stream, peer, local } = accepted;
        let config = &self.server.config;
        let refusal = if self.server.clients.len() >= config.maxclients as usize {
            self.server.stats.rejected_connections += 1;
            Some(TOO_MANY)
        } else if config.protected_mode && config.requirepass.is_unset() && !is_local(peer.ip()) {
            self.server.stats.rejected_connections += 1;
            Some(PROTECTED)
        } else {
            None
        };
        if let Some(text) = refusal {
            // A new socket takes these bytes; if not, the peer learns by the close.
            return stream.write_all(text);
        }
        let authenticated = config.requirepass.is_unset();
        let limits = InputLimits::new(config, authenticated);
        let io = Box::new(ConnIo::new(stream, self.server.keyspace.hasher(), limits));
        let key = self.server.clients.insert(io, self.server.now_ms, peer, local);
        self.server.clients.session_mut(key).authenticated = authenticated;
        self.server.stats.connections += 1;
        self.register(key)?;
        self.server.count_client(key);
        Ok(())
    }

    fn register(&mut self, key: ClientKey) -> io::Result<()> {
        let client = self.server.clients.get_mut(key);
        let Some(io) = client.and_then(|c| c.io.as_mut()) else { return Ok(()) };
        let token = Token(key.to_word());
        io.owner = token;
        let result = self.registry.register(io.stream_mut(), token, Interest::READABLE);
        if result.is_err() {
            self.server.clients.remove(key);
        }
        result
    }

    /// Closes the clients that were told to go, if nothing of theirs is left to send.
    pub(super) fn close_marked(&mut self) {
        for key in std::mem::take(&mut self.server.closing) {
            let Some(client) = self.server.clients.get_mut(key) else { continue };
            if client.away {
                // Its return marks it again.
                continue;
            }
            let unsent = client.io.as_ref().is_some_and(|io| !io.out.is_empty());
            if client.session.closing == Some(Closing::AfterReply) && unsent {
                // The write that empties the buffer marks it again.
                continue;
            }
            self.close(key);
        }
    }

    /// Closes the largest clients while all together take more than `maxmemory-clients`; in one
    /// turn a few of them. Each that is at home goes at once; one that is away goes when it is
    /// back, and counts no more.
    pub(super) fn evict_clients(&mut self) {
        for _ in 0..EVICTIONS_MAX {
            let Some(key) = self.server.client_to_evict() else { return };
            self.server.evict_client(key);
            if self.server.clients.get(key).is_some_and(|client| !client.away) {
                self.close(key);
            }
        }
    }

    /// Forgets a client and everything that refers to it.
    pub(super) fn close(&mut self, key: ClientKey) {
        let Some(mut client) = self.server.clients.remove(key) else { return };
        self.server.client_memory.uncount(key, &mut client);
        let watching = std::mem::take(&mut client.session.watching);
        self.server.watch.forget(key, watching);
        self.server.pubsub.forget(key, &mut client.session);
        if let Some(awaited) = client.session.awaited.take() {
            self.server.waiters.leave(key, &awaited);
        }
        self.server.forget_blocked(&mut client);
        if let Some(io) = client.io.take() {
            self.close_socket(io);
        }
    }

    /// Closes the socket of a client that is forgotten, or has it closed.
    ///
    /// It stays registered until then, and closing is what takes it out: epoll and kqueue forget a
    /// socket with its last descriptor, and none of ours has a second one. A call to deregister
    /// would only add to what closing costs. In between, readiness may be reported under the token
    /// of the client that is gone; so may what a look found before. Neither finds anybody: the
    /// token holds the generation of the client's place, which has moved on, whoever is there now.
    /// The number of the descriptor may be used again as soon as it is closed, which confuses
    /// nobody: clients are never looked for by it, and its registration then is a new one, with the
    /// token of its new owner.
    fn close_socket(&mut self, io: Box<ConnIo>) {
        let Some(offload) = &mut self.server.offload else { return };
        match offload.close(io) {
            Ok(()) => self.server.stats.offloaded_closes += 1,
            Err(io) => drop(io),
        }
    }
}

fn is_local(ip: std::net::IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}
