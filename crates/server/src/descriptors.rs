//! How many files and sockets the process may have open, and how many of them clients get.
//!
//! Main thread, at the start and for CONFIG SET. A system that gives each process 1,024 descriptors
//! would leave the 10,000 clients of the default configuration waiting in the backlog for ever: the
//! server raises its limit, and where it may not, it lowers `maxclients` and says so, so that a
//! client too many gets an error. Source: `adjustOpenFilesLimit` and `updateMaxclients` of
//! redis-server 7.0.15. Two things differ: what is counted beside clients, since Redis has no store
//! open, and the hard limit, which Redis brings down to the new soft one and which stays here, so
//! that a later CONFIG SET can go up.

use std::fmt;
use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::{Config, StoreKind};
use crate::log::Log;
use crate::net::acceptor::BATCH_MAX;

/// Standard streams, listeners, pollers, signals, what the pools read of the system, a log file:
/// half of it at most. As many as Redis keeps back.
const PROCESS_FILES: u64 = 32;
/// Connections that are accepted and not admitted yet.
const ACCEPTED_FILES: u64 = BATCH_MAX as u64;
/// Beside the tables held open: two segments of the journal and its watermark, a merge (one table
/// of each of its runs and the new one), a backup, and what the engine writes before it is renamed.
const STORE_FILES: u64 = 64;
/// Tables of the engine held open, where there is room for them.
const ENGINE_FILES: u64 = 256;
/// Where there is little room the engine gets this part of it, but no less than the minimum: it
/// opens tables anew then, which costs a cold read two system calls.
const ENGINE_PART: u64 = 4;
const ENGINE_FILES_MIN: u64 = 16;

/// What the process keeps for itself; fixed at its start.
#[derive(Copy, Clone, Default, Debug)]
pub(crate) struct Descriptors {
    process: u64,
    engine: u64,
}

/// The limit does not even suffice for what the server opens itself.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) struct TooFew {
    limit: u64,
    needed: u64,
}

impl fmt::Display for TooFew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "The limit of open files, {}, is too low to start with: 'ulimit -n' has to be {} or \
             more",
            self.limit, self.needed
        )
    }
}

impl std::error::Error for TooFew {}

impl Descriptors {
    /// Raises the limit of the process to what `config` asks for, as far as the system lets it, and
    /// lowers `maxclients` to what is left for clients.
    ///
    /// # Errors
    /// Nothing is left for them.
    pub(crate) fn share_out(config: &mut Config, log: &Log) -> Result<Self, TooFew> {
        let wanted = u64::from(config.maxclients);
        let (limit, refusal) = raise_own_limit(wanted + Self::of(config, u64::MAX).kept(), log);
        let own = Self::of(config, limit);
        let clients = own.clients(limit);
        if clients == 0 {
            return Err(TooFew { limit, needed: own.kept() + 1 });
        }
        if clients < config.maxclients {
            log_fewer(log, config.maxclients, clients, limit, refusal);
            config.maxclients = clients;
        }
        Ok(own)
    }

    /// Raises the limit so that `maxclients` fit.
    ///
    /// # Errors
    /// So many fit at most.
    pub(crate) fn make_room(self, maxclients: u32, log: &Log) -> Result<(), u32> {
        let (limit, refusal) = raise_own_limit(u64::from(maxclients) + self.kept(), log);
        let clients = self.clients(limit);
        if clients < maxclients {
            log_fewer(log, maxclients, clients, limit, refusal);
            return Err(clients);
        }
        Ok(())
    }

    /// Tables that the engine may hold open.
    pub(crate) fn engine_files(self) -> usize {
        usize::try_from(self.engine).expect("ENGINE_FILES at most")
    }

    fn of(config: &Config, limit: u64) -> Self {
        let process = PROCESS_FILES + ACCEPTED_FILES;
        match config.store {
            StoreKind::Memory => Self { process, engine: 0 },
            StoreKind::Fjall => Self {
                // Each thread may read a table that is not among those held open any more.
                process: process + STORE_FILES + u64::from(config.storage_threads),
                engine: (limit / ENGINE_PART).clamp(ENGINE_FILES_MIN, ENGINE_FILES),
            },
        }
    }

    fn kept(self) -> u64 {
        self.process + self.engine
    }

    fn clients(self, limit: u64) -> u32 {
        u32::try_from(limit.saturating_sub(self.kept())).unwrap_or(u32::MAX)
    }
}

fn log_fewer(log: &Log, wanted: u32, clients: u32, limit: u64, refusal: Option<io::Error>) {
    let why = refusal.map(|error| format!(" ({error})")).unwrap_or_default();
    log.warning(format_args!(
        "maxclients is {clients} instead of {wanted}: the limit of open files is {limit} and \
         cannot be raised far enough{why}. Raise 'ulimit -n' for more clients"
    ));
}

/// Raises the soft limit of this process to `wanted`, or as near to it as the system allows; what
/// it is then, and why it is not more.
fn raise_own_limit(wanted: u64, log: &Log) -> (u64, Option<io::Error>) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let before = current.unwrap_or(u64::MAX);
    let (limit, refusal) = raise(before, wanted, |limit| {
        let maximum = maximum.map(|maximum| maximum.max(limit));
        setrlimit(Resource::Nofile, Rlimit { current: Some(limit), maximum })?;
        Ok(())
    });
    if limit > before {
        log.notice(format_args!("The limit of open files is {limit} now, it was {before}"));
    }
    (limit, refusal)
}

/// The largest limit up to `wanted` that `set` takes, found by halving; never below `before`.
fn raise(
    before: u64,
    wanted: u64,
    mut set: impl FnMut(u64) -> io::Result<()>,
) -> (u64, Option<io::Error>) {
    let (mut taken, mut refused, mut refusal) = (before, wanted.saturating_add(1), None);
    let mut next = wanted;
    while taken < next {
        match set(next) {
            Ok(()) => taken = next,
            Err(error) => (refused, refusal) = (next, Some(error)),
        }
        next = taken + (refused - taken) / 2;
    }
    (taken, refusal)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A system that allows `most`; the limit it ends with, and how often it was asked.
    fn raised(before: u64, wanted: u64, most: u64) -> (u64, bool, u32) {
        let (mut limit, mut calls) = (before, 0);
        let (told, refusal) = raise(before, wanted, |next| {
            calls += 1;
            if next > most {
                return Err(io::ErrorKind::PermissionDenied.into());
            }
            limit = next;
            Ok(())
        });
        assert_eq!(told, limit, "what is told is what was set");
        (limit, refusal.is_some(), calls)
    }

    #[test]
    fn the_limit_is_raised_as_far_as_wanted_and_allowed() {
        assert_eq!(raised(1024, 10_032, 1 << 20), (10_032, false, 1));
        assert_eq!(raised(1024, 1024, 1 << 20), (1024, false, 0));
        assert_eq!(raised(u64::MAX, 10_032, u64::MAX), (u64::MAX, false, 0), "unlimited");
        for most in [1024, 1025, 4096, 10_030, 10_031] {
            let (limit, is_refused, calls) = raised(1024, 10_032, most);
            assert_eq!((limit, is_refused), (most, true));
            assert!(calls < 16, "{calls} calls for {most}");
        }
        assert_eq!(raised(1024, u64::MAX, 5000).0, 5000);
    }

    #[test]
    fn what_the_store_needs_is_kept_from_clients() {
        let disk = Config::default();
        let mut memory = Config::default();
        memory.store = StoreKind::Memory;
        assert_eq!(Descriptors::of(&memory, 1024).clients(1024), 1024 - 96);
        let own = Descriptors::of(&disk, 1 << 20);
        assert_eq!((own.kept(), own.engine_files()), (96 + 64 + 8 + 256, 256));
        assert_eq!(own.clients(u64::MAX), u32::MAX);
        // Little room is shared.
        let own = Descriptors::of(&disk, 256);
        assert_eq!((own.engine_files(), own.clients(256)), (64, 256 - 96 - 72 - 64));
        assert_eq!(Descriptors::of(&disk, 32).clients(32), 0);
    }
}
