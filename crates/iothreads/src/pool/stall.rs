//! Notices that no worker takes what waits in the shared lanes: each is stopped, or has no CPU.
//!
//! Owned by the pool, main thread; reads no clock and no queue itself. While it lasts main does
//! the jobs of the lanes and lets none in, so that only what a stopped worker has claimed waits for
//! it. It ends with the next answer of a worker. One that was stopped with empty hands will send
//! none, so main tries again by itself, less often each time.
//!
//! Two looks must find jobs and nothing taken between them: main may have been away for long
//! itself, between publishing and the first of them.

use std::time::Duration;

/// For so long main does without workers, the first time and at most.
const BACK_OFF_MIN: Duration = Duration::from_millis(2);
const BACK_OFF_MAX: Duration = Duration::from_millis(64);

/// See the module doc.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stall {
    /// How long nothing may be taken while jobs wait; `None` for ever.
    limit: Option<Duration>,
    /// The first look that found jobs waiting: how many had been taken by then, and when it was.
    stuck: Option<(u64, Duration)>,
    /// Main does without workers until then.
    until: Option<Duration>,
    back_off: Duration,
    count: u64,
}

impl Stall {
    pub(super) fn new(limit: Option<Duration>) -> Self {
        Self { limit, stuck: None, until: None, back_off: BACK_OFF_MIN, count: 0 }
    }

    /// One look: `taken` jobs have ever left the lanes, `depth` wait.
    pub(super) fn look(&mut self, taken: u64, depth: usize, now: Duration) {
        let Some(limit) = self.limit else { return };
        if self.until.is_some_and(|until| now < until) {
            return;
        }
        self.until = None;
        match self.stuck {
            _ if depth == 0 => self.stuck = None,
            Some((before, since)) if before == taken => {
                if now.saturating_sub(since) >= limit {
                    self.begin(now);
                }
            }
            _ => self.stuck = Some((taken, now)),
        }
    }

    fn begin(&mut self, now: Duration) {
        self.stuck = None;
        self.until = Some(now + self.back_off);
        self.back_off = (self.back_off * 2).min(BACK_OFF_MAX);
        self.count += 1;
    }

    /// A worker has answered.
    pub(super) fn end(&mut self) {
        self.stuck = None;
        self.until = None;
        self.back_off = BACK_OFF_MIN;
    }

    /// Whether main does the jobs of the lanes.
    pub(super) fn is_on(&self) -> bool {
        self.until.is_some()
    }

    /// How long main may sleep while jobs wait, so that it looks again in time.
    pub(super) fn look_within(&self) -> Option<Duration> {
        self.limit.filter(|_| !self.is_on())
    }

    /// How often it began.
    pub(super) fn count(&self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn only_jobs_that_wait_while_nothing_is_taken_are_a_stall() {
        let mut stall = Stall::new(Some(MS));
        stall.look(5, 3, 10 * MS);
        assert!(!stall.is_on(), "the first look, however old the jobs are");
        stall.look(6, 3, 20 * MS);
        stall.look(6, 0, 30 * MS);
        stall.look(6, 1, 40 * MS);
        assert!(!stall.is_on(), "taken, gone, and seen once");
        stall.look(6, 2, 40 * MS + MS / 2);
        assert_eq!((stall.is_on(), stall.look_within()), (false, Some(MS)), "not long enough");
        stall.look(6, 2, 41 * MS);
        assert_eq!((stall.is_on(), stall.look_within(), stall.count()), (true, None, 1));
    }

    #[test]
    fn main_tries_again_less_and_less_often_until_a_worker_answers() {
        let mut stall = Stall::new(Some(MS));
        let mut now = Duration::ZERO;
        let mut lengths = Vec::new();
        for _ in 0..7 {
            while !stall.is_on() {
                stall.look(0, 1, now);
                now += MS;
            }
            let begun = now - MS;
            while stall.is_on() {
                stall.look(0, 0, now);
                now += MS;
            }
            lengths.push((now - MS - begun).as_millis());
        }
        assert_eq!(lengths, [2, 4, 8, 16, 32, 64, 64]);
        stall.look(0, 1, now);
        stall.look(0, 1, now + MS);
        assert!(stall.is_on());
        stall.end();
        assert!(!stall.is_on(), "at once");
        stall.look(0, 1, now + 2 * MS);
        stall.look(0, 1, now + 3 * MS);
        stall.look(0, 1, now + 5 * MS);
        assert!(!stall.is_on(), "and the next is short");
    }

    #[test]
    fn without_a_limit_there_is_none() {
        let mut stall = Stall::new(None);
        stall.look(0, 1, Duration::ZERO);
        stall.look(0, 1, Duration::from_secs(100));
        assert_eq!((stall.is_on(), stall.look_within()), (false, None));
    }
}
