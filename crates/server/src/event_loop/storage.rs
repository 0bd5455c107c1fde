//! What the disk tier has to say in a turn: finished jobs, clients to wake, replies to let go.

use std::time::{Duration, Instant};

use flintlock_diskcache::cache::Refusal;

use crate::client::{Client, ClientKey, Closing};
use crate::command::{Error, dispatch};
use crate::resp::encode::Reply;
use crate::server::Server;
use crate::tier::home::Resident;
use crate::tier::{BACKGROUND, Tier};

use super::EventLoop;

impl EventLoop {
    /// Gives the cache its turn: what was logged and what is due goes to the workers.
    pub(super) fn storage_turn(&mut self) {
        self.server.begin_scheduled_backup();
        let now = self.server.now();
        let Server { tier: Some(tier), keyspace, access, .. } = &mut self.server else { return };
        let turn = tier.turn(&mut Resident { keyspace, access }, now);
        self.storage_more = turn.more;
        self.storage_wake = turn
            .wake_ms
            .map(|at| Instant::now() + Duration::from_millis(at.saturating_sub(now.mono_ms)));
        self.server.free_evicted();
    }

    /// Takes finished jobs back and goes on with the requests that waited for them.
    pub(super) fn finish_storage(&mut self) {
        let (now, is_paused) = (self.server.now(), self.server.is_paused());
        let Server { tier: Some(tier), keyspace, access, log, .. } = &mut self.server else {
            return;
        };
        tier.cache.hold_expired(is_paused);
        tier.drain(&mut Resident { keyspace, access }, now);
        match tier.news_of_trouble(now.mono_ms) {
            Some(Some(trouble)) => {
                log.warning(format_args!("Errors writing to the store: {trouble}"));
            }
            Some(None) => log.notice(format_args!("The store is written again")),
            None => {}
        }
        let completions = tier.completions();
        for completion in &completions {
            let key = match completion.tag {
                BACKGROUND => self.server.background_done(*completion),
                tag => Some(ClientKey::from_word(tag as usize)),
            };
            let Some(key) = key else { continue };
            let Some(result) = self.server.wait_over(key, completion.token) else { continue };
            if let Err(error) = result {
                self.fail_front(key, &error);
            }
            // At once: its keys are in memory now.
            self.run_requests(key);
        }
        if let Some(tier) = &mut self.server.tier {
            tier.reuse(completions);
        }
    }

    /// Answers the request in front, which waited, with `error`.
    pub(super) fn fail_front(&mut self, key: ClientKey, error: &Error) {
        let Some(client) = self.server.clients.get_mut(key) else { return };
        let Some(mut io) = client.io.take() else { return };
        dispatch::fail(&mut self.server, key, error, &mut io.out);
        self.answered(key, &mut io);
        if let Some(client) = self.server.clients.get_mut(key) {
            client.io = Some(io);
        }
    }

    /// Lets replies go whose changes are durable by now. While the journal cannot be written,
    /// errors go in their place: what was changed is in memory, and will be in the journal if the
    /// store recovers, but nobody may be told that it is.
    pub(super) fn release_held(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let failure = match self.server.tier.as_ref().and_then(Tier::refusing) {
            Some(Refusal::Journal(failure)) => Some(failure),
            _ => None,
        };
        let mut held = std::mem::take(&mut self.held);
        held.retain(|key| {
            let Some(client) = self.server.clients.get_mut(*key) else { return false };
            if let Some(failure) = &failure {
                if client.session.subscribes && client.session.held.is_some() {
                    // Messages are among its replies, and nothing tells which.
                    self.server.close_client(*key, Closing::Now);
                    return false;
                }
                refuse_held(client, &Error::not_durable(failure));
            }
            let Some(client) = self.server.clients.get(*key) else { return false };
            if self.server.is_held(client) {
                return true;
            }
            self.server.writes.push(*key);
            false
        });
        self.held = held;
    }
}

/// Answers the requests whose replies are held with `error` instead.
fn refuse_held(client: &mut Client, error: &Error) {
    let Client { session, io: Some(io), .. } = client else { return };
    let Some(held) = session.held.take() else { return };
    io.out.truncate(held.mark);
    let mut reply = Reply::new(&mut io.out, session.proto);
    for _ in 0..held.replies {
        reply.error(error.as_bytes());
    }
}
