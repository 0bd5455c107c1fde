//! Naps before the loop looks for readiness: one look then finds what several clients sent.
//!
//! Main thread; decides from counts alone, reads no clock. A client whose bytes arrive while the
//! loop sleeps in the poller pays for waking it, and so do we; bytes that arrive during a nap wake
//! nobody. Network cards do the same and call it interrupt moderation. What it gave is in the
//! table of departures in ARCHITECTURE.md.
//!
//! A nap must not be felt, so four things bound it. It lasts at most a [`SHARE`]th of the time in
//! which a client comes round (clients of the last window, over their rate of reads), which a
//! dozen clients that only wait for us do not reach. On a busy machine the round of a few is long
//! too, so that less than [`CROWD_MIN`] clients are never napped for. It follows only on a look
//! that found several clients, else there is no crowd. And it follows on no look that found a large
//! part of them: then they wait for the loop, not the loop for them.

use std::time::Duration;

/// Time over which clients and reads are counted.
const WINDOW_MS: u64 = 50;
/// Part of a client's round that a nap may take.
const SHARE: u64 = 8;
/// A shorter nap is not worth its timer.
const NAP_MIN_US: u64 = 20;
/// Fewer clients are no crowd, however slowly they come round.
const CROWD_MIN: usize = 8;
/// Clients that a look must have found.
const FOUND_MIN: usize = 2;
/// Part of the clients that a look must not have found.
const FOUND_PART: usize = 2;

/// See the module doc.
#[derive(Debug, Default)]
pub(super) struct Naps {
    /// When the window began, by the clock that never goes back and by the clients' clock.
    began_mono_ms: u64,
    began_ms: u64,
    /// Of this window so far.
    clients: usize,
    reads: u64,
    /// What the last window came to.
    crowd: usize,
    nap_us: u64,
}

impl Naps {
    /// Notes a read at `now_ms` from a client whose last request was at `last_ms`.
    #[inline]
    pub(super) fn note_read(&mut self, last_ms: u64, now_ms: u64) {
        self.reads += 1;
        // A whole crowd may come within the millisecond that the window began in; counting starts
        // with the next one, so that each is counted, and once.
        self.clients += usize::from(last_ms <= self.began_ms && self.began_ms < now_ms);
    }

    /// Ends the window if it is over. `now_ms` is the clock of [`Naps::note_read`].
    #[inline]
    pub(super) fn turn(&mut self, mono_ms: u64, now_ms: u64) {
        let length_ms = mono_ms.saturating_sub(self.began_mono_ms);
        if length_ms < WINDOW_MS {
            return;
        }
        let round_us = (length_ms * 1000 * self.clients as u64).checked_div(self.reads);
        self.nap_us = round_us.map_or(0, |round_us| round_us / SHARE);
        self.crowd = self.clients;
        (self.clients, self.reads) = (0, 0);
        (self.began_mono_ms, self.began_ms) = (mono_ms, now_ms);
    }

    /// How long to nap after a look that found `found` clients, at most `max_us`.
    #[inline]
    pub(super) fn nap(&self, found: usize, max_us: u32) -> Option<Duration> {
        let nap_us = self.nap_us.min(u64::from(max_us));
        let is_crowd =
            self.crowd >= CROWD_MIN && (FOUND_MIN..=self.crowd / FOUND_PART).contains(&found);
        (is_crowd && nap_us >= NAP_MIN_US).then(|| Duration::from_micros(nap_us))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_US: u32 = 100;

    /// A window from `begin_ms` on, in which so many clients come round every `round_us`.
    fn window(naps: &mut Naps, begin_ms: u64, clients: u64, round_us: u64) {
        let mut last = vec![begin_ms; usize::try_from(clients).expect("few")];
        for read in 0..WINDOW_MS * 1000 * clients / round_us {
            let now_ms = begin_ms + read * round_us / clients / 1000;
            let at = usize::try_from(read % clients).expect("few");
            naps.note_read(last[at], now_ms);
            last[at] = now_ms;
        }
        naps.turn(begin_ms + WINDOW_MS, begin_ms + WINDOW_MS);
    }

    fn after(clients: u64, round_us: u64) -> Naps {
        let mut naps = Naps::default();
        naps.turn(1000, 1000);
        window(&mut naps, 1000, clients, round_us);
        naps
    }

    #[test]
    fn a_crowd_lets_the_loop_nap_for_a_part_of_its_round() {
        let naps = after(50, 640);
        assert_eq!(naps.nap(3, MAX_US), Some(Duration::from_micros(80)));
        assert_eq!(naps.nap(3, 20), Some(Duration::from_micros(20)));
        assert_eq!(after(200, 2600).nap(3, MAX_US), Some(Duration::from_micros(100)));
        assert_eq!(naps.nap(3, 0), None, "switched off");
    }

    #[test]
    fn a_crowd_that_comes_round_within_a_millisecond_is_counted_in_each_window() {
        let mut naps = after(50, 640);
        for begin_ms in [1050, 1100, 1150] {
            window(&mut naps, begin_ms, 50, 640);
            assert_eq!((naps.crowd, naps.nap_us), (50, 80));
        }
    }

    #[test]
    fn few_clients_that_wait_for_us_are_not_kept_waiting() {
        assert_eq!(after(4, 55).nap(2, MAX_US), None);
        assert_eq!(after(10, 130).nap(2, MAX_US), None);
        // Not where the machine is busy either, and their round is long.
        assert_eq!(after(7, 5000).nap(2, MAX_US), None);
        assert!(after(8, 5000).nap(2, MAX_US).is_some());
    }

    #[test]
    fn only_a_look_that_found_some_but_not_many_is_followed_by_a_nap() {
        let naps = after(50, 640);
        let naps_after = |found| naps.nap(found, MAX_US).is_some();
        assert_eq!([0, 1, 2, 25, 26, 50].map(naps_after), [false, false, true, true, false, false]);
    }

    #[test]
    fn a_window_without_reads_ends_the_naps() {
        let mut naps = after(50, 640);
        naps.turn(5000, 5000);
        assert_eq!(naps.nap(3, MAX_US), None);
    }

    #[test]
    fn one_busy_client_is_no_crowd() {
        let naps = after(1, 500);
        assert_eq!(naps.nap(1, MAX_US), None);
        assert_eq!(naps.nap(2, MAX_US), None);
    }
}
