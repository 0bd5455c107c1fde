//! The end of the server as somebody asked for it: the words of SHUTDOWN, who waits for it, and
//! when it may come.
//!
//! Main thread; no IO. Everybody is served until the process exits, so that SHUTDOWN ABORT can be
//! heard; only requests that change keys wait, or there would always be something new to save. An
//! end that is called off, by ABORT or because the store cannot be flushed, leaves a server that
//! serves as before: whoever sent SHUTDOWN is told, and the requests that waited run.
//!
//! Source: words, errors and log lines of redis-server 7.0.15, which pauses writes in the same way
//! while it waits for its replicas, and answers the same when it cannot write its snapshot.

use crate::blocked::Blocked;
use crate::command::{Error, Request};
use crate::config::{EndHow as How, EndSave as Save};
use crate::server::Server;
use crate::signals::Shutdown;

/// What SHUTDOWN asks for.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
enum Asked {
    End(How),
    Abort,
}

/// The end that is pending, and those that were called off.
#[derive(Debug, Default)]
pub(crate) struct End {
    pending: Option<Pending>,
    /// Ends that were called off since the start.
    called_off: u64,
    /// Of those, the ones whose clients know.
    told: u64,
}

#[derive(Copy, Clone, Debug)]
struct Pending {
    how: How,
    begun: Option<Begun>,
}

/// The store was told.
#[derive(Copy, Clone, Debug)]
struct Begun {
    /// On the clock that never goes back.
    by_ms: u64,
    journal_failures: u64,
    batch_failures: u64,
}

/// What is known of the store while an end is pending.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
struct Seen {
    /// Everything acknowledged survives the process.
    durable: bool,
    /// Nothing that was asked for at the beginning is left to do.
    at_rest: bool,
    /// The journal, or a batch for the engine, failed since the beginning.
    journal_failed: bool,
    engine_failed: bool,
    /// The time is over.
    late: bool,
}

/// What is to be done about a pending end.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
enum Verdict {
    Wait,
    Exit,
    /// Exit with the loss of what is not durable.
    ExitAnyway,
    /// Call it off.
    Refuse,
}

impl How {
    fn drains(self) -> bool {
        self.save == Save::All || (self.save == Save::Usual && !self.now)
    }

    fn judge(self, seen: Seen) -> Verdict {
        if !seen.durable {
            return match (seen.journal_failed || seen.late, self.save, self.force) {
                (false, _, _) => Verdict::Wait,
                (true, Save::No, _) | (true, _, true) => Verdict::ExitAnyway,
                (true, _, false) => Verdict::Refuse,
            };
        }
        let gives_up = seen.engine_failed || seen.late;
        match (seen.at_rest, gives_up, self.save, self.force) {
            (true, _, _, _) => Verdict::Exit,
            (false, false, _, _) => Verdict::Wait,
            (false, true, Save::All, false) => Verdict::Refuse,
            // What is left is in the journal.
            (false, true, _, _) => Verdict::Exit,
        }
    }
}

fn parse(request: &Request<'_>) -> Result<Asked, Error> {
    let mut how = How::default();
    let (mut save, mut nosave, mut abort) = (false, false, false);
    for word in request.from(1) {
        match word.to_ascii_lowercase().as_slice() {
            b"save" => save = true,
            b"nosave" => nosave = true,
            b"now" => how.now = true,
            b"force" => how.force = true,
            b"abort" => abort = true,
            _ => return Err(Error::SYNTAX),
        }
    }
    how.save = Save::of(save, nosave).ok_or(Error::SYNTAX)?;
    match (abort, how == How::default()) {
        (true, true) => Ok(Asked::Abort),
        (true, false) => Err(Error::SYNTAX),
        (false, _) => Ok(Asked::End(how)),
    }
}

/// What a client is told whose SHUTDOWN was called off.
pub(crate) const FAILED: Error = Error::fixed("ERR Errors trying to SHUTDOWN. Check logs.");
const NONE_PENDING: Error = Error::fixed("ERR No shutdown in progress.");

impl End {
    /// Whether an end is pending.
    pub(crate) fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Whether clients wait that do not know yet that their end was called off.
    pub(crate) fn has_news(&self) -> bool {
        self.told < self.called_off
    }

    /// Notes that everybody knows.
    pub(crate) fn all_told(&mut self) {
        self.told = self.called_off;
    }

    /// Whether the end that a client asked for, as the `number`th, was called off.
    pub(crate) fn is_off(&self, number: u64) -> bool {
        number < self.called_off
    }

    /// When the pending end is over one way or the other.
    pub(crate) fn by_ms(&self) -> Option<u64> {
        self.pending?.begun.map(|begun| begun.by_ms)
    }

    fn call_off(&mut self) {
        self.pending = None;
        self.called_off += 1;
    }
}

impl Server {
    /// SHUTDOWN: its client waits for the end, or for its failure. With ABORT it runs at once.
    ///
    /// # Errors
    /// The words make no sense.
    pub(crate) fn prepare_end(&mut self, request: &Request<'_>) -> Result<Option<Blocked>, Error> {
        let Asked::End(how) = parse(request)? else { return Ok(None) };
        self.ask_end(how);
        Ok(Some(Blocked::End(self.end.called_off)))
    }

    /// A signal came; how it ends the server is a matter of its directive.
    pub(crate) fn end_by_signal(&mut self, signal: Shutdown) {
        self.ask_end(match signal {
            Shutdown::Interrupt => self.config.shutdown_on_sigint,
            Shutdown::Terminate => self.config.shutdown_on_sigterm,
        });
    }

    /// Ends as soon as may be; an end that is pending goes on as it was asked for.
    fn ask_end(&mut self, how: How) {
        if self.end.pending.is_none() {
            self.log.warning(format_args!("User requested shutdown..."));
            self.end.pending = Some(Pending { how, begun: None });
        }
    }

    /// Takes the pending end back.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn abort_end(&mut self) -> Result<(), Error> {
        if !self.end.is_pending() {
            return Err(NONE_PENDING);
        }
        self.log.notice(format_args!("Shutdown manually aborted."));
        self.call_off_end();
        Ok(())
    }

    fn call_off_end(&mut self) {
        self.end.call_off();
        if let Some(tier) = &mut self.tier {
            // What they asked for goes on; nobody waits for it.
            tier.release();
        }
    }

    /// One look at the pending end; whether the process is to exit now.
    pub(crate) fn end_turn(&mut self) -> bool {
        let Some(Pending { how, begun }) = self.end.pending else { return false };
        let Some(tier) = &mut self.tier else { return true };
        let Some(begun) = begun else {
            let timeout_s = u64::from(self.config.shutdown_timeout_s).max(1);
            let begun = Begun {
                by_ms: self.mono_ms + timeout_s * 1000,
                journal_failures: tier.cache.stats().journal_failures,
                batch_failures: tier.cache.stats().batch_failures,
            };
            self.end.pending = Some(Pending { how, begun: Some(begun) });
            tier.cache.retry_now();
            tier.begin_end(how.drains());
            return false;
        };
        let stats = tier.cache.stats();
        let seen = Seen {
            durable: tier.is_durable(),
            at_rest: tier.is_at_rest(),
            journal_failed: stats.journal_failures > begun.journal_failures,
            engine_failed: stats.batch_failures > begun.batch_failures,
            late: self.mono_ms >= begun.by_ms,
        };
        match how.judge(seen) {
            Verdict::Wait if seen.at_rest => {
                // A read that met an expired key has logged its deletion since.
                tier.begin_end(false);
                false
            }
            Verdict::Wait => false,
            Verdict::Exit => {
                let left = tier.cache.unsaved_keys();
                if left > 0 {
                    self.log.notice(format_args!(
                        "{left} changed keys are in the journal only; the next start will replay \
                         them"
                    ));
                }
                true
            }
            Verdict::ExitAnyway => {
                self.log_end_error("Exit anyway: what is not durable is lost.");
                true
            }
            Verdict::Refuse => {
                self.log_end_error("Can't exit.");
                self.log.warning(format_args!(
                    "Errors trying to shut down the server. Check the logs for more information."
                ));
                self.call_off_end();
                false
            }
        }
    }

    /// Logs why the store could not be flushed, and what comes of it.
    fn log_end_error(&mut self, so: &str) {
        match self.tier.as_ref().and_then(|tier| tier.cache.trouble()) {
            Some(trouble) => {
                self.log.warning(format_args!("Error trying to flush the store: {trouble}. {so}"))
            }
            None => self.log.warning(format_args!(
                "Error trying to flush the store: it took longer than shutdown-timeout. {so}"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every way to end, with everything that can be seen of the store.
    fn cases() -> impl Iterator<Item = (How, Seen)> {
        (0..3 * 4 * 32_u16).map(|case| {
            let (bits, rest) = (case % 32, case / 32);
            let is = |bit: u16| bits & (1 << bit) != 0;
            let seen = Seen {
                durable: is(0),
                at_rest: is(1),
                journal_failed: is(2),
                engine_failed: is(3),
                late: is(4),
            };
            let save = [Save::Usual, Save::All, Save::No][usize::from(rest / 4)];
            (How { save, now: rest & 1 != 0, force: rest & 2 != 0 }, seen)
        })
    }

    #[test]
    fn every_verdict_has_its_reason() {
        let mut counts = [0; 4];
        for (how, seen) in cases() {
            let verdict = how.judge(seen);
            counts[verdict as usize] += 1;
            let case = format!("{how:?} {seen:?}: {verdict:?}");
            let trouble = seen.late || seen.journal_failed || seen.engine_failed;
            let loses = how.force || how.save == Save::No;
            match verdict {
                Verdict::Exit => assert!(seen.durable, "nothing is lost: {case}"),
                Verdict::ExitAnyway => assert!(loses && !seen.durable && trouble, "{case}"),
                Verdict::Refuse => assert!(trouble && !how.force, "{case}"),
                Verdict::Wait => assert!(!seen.late, "no end is pending for ever: {case}"),
            }
            // What is durable and asked for no more than that is refused by nobody.
            if seen.durable && how.save != Save::All {
                assert_ne!(verdict, Verdict::Refuse, "{case}");
            }
            if !seen.durable && seen.journal_failed {
                assert_ne!(verdict, Verdict::Wait, "one attempt decides: {case}");
            }
            if seen.durable && seen.at_rest {
                assert_eq!(verdict, Verdict::Exit, "{case}");
            }
        }
        assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    }

    #[test]
    fn only_an_end_that_was_asked_for_before_is_called_off() {
        let mut end = End::default();
        let first = end.called_off;
        end.call_off();
        let second = end.called_off;
        assert!(end.has_news() && end.is_off(first) && !end.is_off(second));
        end.all_told();
        assert!(!end.has_news());
    }
}
