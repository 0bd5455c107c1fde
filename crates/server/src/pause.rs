//! CLIENT PAUSE, and the pause of writers that a pending end makes: whose requests wait, and until
//! when. The keys stay as they are meanwhile: none expires and none is evicted.
//!
//! Main thread; no IO. A request that waits stays in front of its client's input and is looked at
//! again when the pause ends or becomes less strict, in the order in which requests began to wait.
//!
//! Source: behaviour of redis-server 7.0.15.

use crate::blocked::Blocked;
use crate::client::ClientKey;
use crate::command::{Flags, Request};
use crate::server::Server;

/// Whose requests wait; the later one is the stricter.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Debug)]
pub(crate) enum Mode {
    /// Those that may change keys, and those that publish.
    Writes,
    /// All.
    All,
}

/// See the module doc.
#[derive(Debug, Default)]
pub(crate) struct Pause {
    /// What CLIENT PAUSE asked for, and the last millisecond of it on the clock that never goes
    /// back.
    asked: Option<(Mode, u64)>,
    /// Of the pauses for which clients wait, the strictest.
    waited_for: Option<Mode>,
    /// Requests that were made to wait.
    count: u64,
}

impl Pause {
    /// Begins a pause, or makes the one under way longer or stricter.
    pub(crate) fn begin(&mut self, mode: Mode, until_ms: u64, now_ms: u64) {
        let (old_mode, old_ms) = self.asked(now_ms).unwrap_or((mode, until_ms));
        self.asked = Some((mode.max(old_mode), until_ms.max(old_ms)));
    }

    /// Ends what CLIENT PAUSE began.
    pub(crate) fn end(&mut self) {
        self.asked = None;
    }

    /// The last millisecond of a pause for which clients wait.
    pub(crate) fn until_ms(&self) -> Option<u64> {
        self.asked.filter(|_| self.waited_for.is_some()).map(|(_, until_ms)| until_ms)
    }

    fn asked(&self, now_ms: u64) -> Option<(Mode, u64)> {
        self.asked.filter(|(_, until_ms)| *until_ms >= now_ms)
    }
}

impl Server {
    fn pause_mode(&self) -> Option<Mode> {
        // Without a store there is nothing that an end waits for.
        let ends = self.end.is_pending() && self.tier.is_some();
        let asked = self.pause.asked(self.mono_ms).map(|(mode, _)| mode);
        asked.max(ends.then_some(Mode::Writes))
    }

    /// Whether the keys are to stay as they are.
    pub(crate) fn is_paused(&self) -> bool {
        self.pause_mode().is_some()
    }

    /// What the client of a request waits for, if it has to.
    pub(crate) fn pauses(&mut self, key: ClientKey, request: &Request<'_>) -> Option<Blocked> {
        let mode = self.pause_mode()?;
        let waits = |flag| self.has_flag(key, request, flag);
        if mode < Mode::All && !waits(Flags::WRITE) && !waits(Flags::PUBLISHES) {
            return None;
        }
        self.pause.waited_for = Some(mode).max(self.pause.waited_for);
        self.pause.count += 1;
        Some(Blocked::Paused(self.pause.count))
    }

    /// Whether requests wait that may not have to any more.
    pub(crate) fn is_pause_over(&self) -> bool {
        self.pause_mode() < self.pause.waited_for
    }

    /// Has the requests that wait looked at again: returns their clients, in order.
    pub(crate) fn take_paused(&mut self) -> Vec<ClientKey> {
        self.pause.waited_for = None;
        let waits =
            |(key, client): (ClientKey, &crate::client::Client)| match client.session.blocked {
                Some(Blocked::Paused(number)) => Some((number, key)),
                _ => None,
            };
        let mut waiting: Vec<_> = self.clients.iter().filter_map(waits).collect();
        waiting.sort_unstable();
        for (_, key) in &waiting {
            self.clients.session_mut(*key).blocked = None;
        }
        waiting.into_iter().map(|(_, key)| key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_grows_and_never_shrinks_until_it_ends() {
        let mut pause = Pause::default();
        pause.begin(Mode::Writes, 100, 50);
        pause.begin(Mode::All, 60, 50);
        assert_eq!(pause.asked(100), Some((Mode::All, 100)));
        assert_eq!(pause.asked(101), None);
        pause.begin(Mode::Writes, 150, 101);
        assert_eq!(pause.asked(101), Some((Mode::Writes, 150)), "the old one was over");
        pause.end();
        assert_eq!(pause.asked(101), None);
    }
}
