//! The way out: what the loop does about SHUTDOWN, SIGTERM and SIGINT. Main thread.
//!
//! What they mean and when the end comes is decided in [`crate::ending`].

use crate::blocked::Blocked;
use crate::client::ClientKey;
use crate::ending;
use crate::server::Server;

use super::EventLoop;

impl EventLoop {
    /// Address that clients connect to.
    pub(crate) fn address(&self) -> Option<std::net::SocketAddr> {
        self.doors.first()?.acceptor.as_ref()?.address()
    }

    /// An end was called off: whoever asked for it gets an error. All clients are looked at, since
    /// this happens once in the life of a server.
    pub(super) fn tell_of_ends(&mut self) {
        if !self.server.end.has_news() {
            return;
        }
        self.server.end.all_told();
        self.signals.disarm();
        let keys: Vec<ClientKey> = self.server.clients.iter().map(|(key, _)| key).collect();
        for key in keys {
            let Server { clients, end, .. } = &mut self.server;
            let Some(client) = clients.get_mut(key) else { continue };
            let over = |blocked: &mut Blocked| match blocked {
                Blocked::End(number) => end.is_off(*number),
                _ => false,
            };
            if client.session.blocked.take_if(over).is_some() {
                self.fail_front(key, &ending::FAILED);
                self.run_requests(key);
            }
        }
    }

    /// A pause is over, or less strict: the requests that waited run, or begin to wait anew.
    pub(super) fn go_on_after_pause(&mut self) {
        if self.server.is_pause_over() {
            for key in self.server.take_paused() {
                self.run_requests(key);
            }
        }
    }

    /// The last thing that is done.
    pub(super) fn exit(&mut self) {
        self.settle_network();
        self.server.release();
        self.server.log.warning(format_args!("Flintlock is now ready to exit, bye bye..."));
    }
}

impl Server {
    /// Lets go of everything that waits; before the server is dropped.
    fn release(&mut self) {
        let keys: Vec<_> = self.clients.iter().map(|(key, _)| key).collect();
        for key in keys {
            if let Some(mut client) = self.clients.remove(key) {
                self.forget_blocked(&mut client);
            }
        }
        if let Some(tier) = &mut self.tier {
            if let Some(token) = self.saves.take_token() {
                tier.cache.abandon(token);
            }
            tier.release();
        }
    }
}
