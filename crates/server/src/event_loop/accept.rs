//! Taking new connections, and letting clients go.

use std::io::{self, Write};

use mio::net::TcpStream;
use mio::{Interest, Token};

use crate::client::{ClientKey, Closing};
use crate::net::conn::ConnIo;
use crate::net::listen;
use crate::resp::parse::Limits;

use super::EventLoop;

/// Connections accepted in one turn; more wait in the backlog for the next.
const ACCEPT_MAX: usize = 1000;

/// Clients evicted in one turn: closing one frees its buffers, which may be large.
const EVICTIONS_MAX: usize = 32;

const TOO_MANY: &[u8] = b"-ERR max number of clients reached\r\n";
const PROTECTED: &[u8] =
    b"-DENIED Flintlock is running in protected mode because protected mode is \
enabled and no password is set for the default user. In this mode connections are only accepted \
from the loopback interface. Set a password with 'requirepass', or disable protected mode with \
'protected-mode no' if the network is trusted.\r\n";

impl EventLoop {
    /// Accepts what waits at a listener. Edge-triggered: until there is nothing left, or the rest
    /// is noted for the next turn.
    pub(super) fn accept(&mut self, listener: usize) {
        for _ in 0..ACCEPT_MAX {
            match self.listeners[listener].accept() {
                Ok((stream, _)) => {
                    if let Err(error) = self.admit(stream) {
                        self.server.log.verbose(format_args!("Accepting a client: {error}"));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if is_passing(&error) => {}
                Err(error) => {
                    // No descriptors, most likely: clients wait in the backlog until some close.
                    self.server.log.warning(format_args!("Accepting client connection: {error}"));
                    self.cron.accept_again(listener);
                    return;
                }
            }
        }
        self.cron.accept_again(listener);
    }

    fn admit(&mut self, mut stream: TcpStream) -> io::Result<()> {
        let config = &self.server.config;
        let peer = stream.peer_addr()?;
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
        listen::set_up(&stream, u64::from(config.tcp_keepalive_s))?;
        let local = stream.local_addr()?;
        let authenticated = config.requirepass.is_unset();
        let limits = Limits {
            bulk_max: i64::try_from(config.proto_max_bulk_len_bytes).unwrap_or(i64::MAX),
            authenticated,
        };
        let input_max = config.client_query_buffer_limit_bytes as usize;
        let hasher = self.server.keyspace.hasher();
        let io = Box::new(ConnIo::new(stream, hasher, limits, input_max));
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
            let total = self.server.client_memory.total_bytes();
            let Some(client) = self.server.clients.get(key) else { return };
            self.server.stats.evicted_clients += 1;
            self.server.log.verbose(format_args!(
                "Evicting client {} ({}): all together take {total} bytes",
                client.session.id, client.session.addr
            ));
            let is_away = client.away;
            self.server.close_client(key, Closing::Now);
            if !is_away {
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

/// Errors of one connection that went before it was accepted, not of the listener.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Interrupted
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}
