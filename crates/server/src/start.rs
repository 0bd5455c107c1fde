//! From the command line to the ready line, and from the end of serving to the exit status.
//!
//! Main thread; the only room that may block, since nobody is served yet.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use flintlock_diskcache::backup;
use flintlock_diskcache::cache::recover::RecoverError;
use flintlock_diskcache::journal::Verdict;
use flintlock_diskcache::recovery::{OpenError, OpenStore};
use flintlock_diskcache::storage::ErrorKind;

use crate::args::{self, Invocation};
use crate::config::{Config, Sources, StoreKind};
use crate::descriptors::Descriptors;
use crate::event_loop::{EventLoop, now_since, poll_and_bell};
use crate::huge_pages::HugePages;
use crate::keyspace::Hasher;
use crate::log::{Level, Log};
use crate::net::listen;
use crate::offload::Offload;
use crate::server::Server;
use crate::signals::Signals;
use crate::tier::open::{attach, open_store};

/// Runs the program with the arguments of this process; returns its exit status.
#[must_use]
pub fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let base = match std::env::current_dir() {
        Ok(base) => base,
        Err(error) => {
            eprintln!("The working directory cannot be read: {error}");
            return ExitCode::FAILURE;
        }
    };
    match args::parse(&arguments, &base) {
        Invocation::Version => println!("{}", args::version()),
        Invocation::Help => println!("{}", args::USAGE),
        Invocation::Serve(sources) => return serve(&sources, &base, None),
        Invocation::Restore { sources, backup } => return serve(&sources, &base, Some(&backup)),
    }
    ExitCode::SUCCESS
}

fn serve(sources: &Sources, base: &Path, restored: Option<&Path>) -> ExitCode {
    let config = match Config::load(sources, base, &mut io::stdin()) {
        Ok(config) => config,
        Err(error) => {
            error.report(&Log::new(Level::Notice, None));
            return ExitCode::FAILURE;
        }
    };
    let log = Log::new(config.loglevel, config.log_path());
    let version = env!("CARGO_PKG_VERSION");
    log.notice(format_args!("Flintlock {version} started, pid={}", std::process::id()));
    let store = config.store_path();
    match run(config, &log, restored) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            log.warning(format_args!("{error}"));
            if !is_loss(&*error) {
                return ExitCode::FAILURE;
            }
            log.warning(format_args!(
                "Acknowledged changes are missing: 'flintlock-check {0}' tells which, with \
                 '--salvage' it reads out what is there; '--store-accept-loss yes' opens the \
                 store without them, for one start",
                store.display()
            ));
            ExitCode::from(REFUSED)
        }
    }
}

/// The file with the number of this process, which is removed when serving ends.
struct PidFile(PathBuf);

impl PidFile {
    /// Writes it, if one is configured. A server that cannot is a server all the same, as in Redis.
    fn write(config: &Config, log: &Log) -> Option<Self> {
        let path = config.pid_path()?;
        match std::fs::write(&path, format!("{}\n", std::process::id())) {
            Ok(()) => Some(Self(path)),
            Err(error) => {
                let path = path.display();
                log.warning(format_args!("The pid file {path} cannot be written: {error}"));
                None
            }
        }
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Somebody may have removed it already.
        drop(std::fs::remove_file(&self.0));
    }
}

/// Exit status when acknowledged changes are missing from the store: only an operator can say what
/// is to be done, so nothing is gained by starting again.
const REFUSED: u8 = 3;

/// Whether `error` says that acknowledged changes are missing. A disk that does not answer is
/// another matter: the next start may find that it does.
fn is_loss(error: &(dyn std::error::Error + 'static)) -> bool {
    match (error.downcast_ref(), error.downcast_ref()) {
        (Some(OpenError::Refused(_)), _) => true,
        (_, Some(RecoverError::BaseUnreadable { failure, .. })) => {
            failure.kind == ErrorKind::Corrupt
        }
        (_, Some(RecoverError::BaseMissing { .. } | RecoverError::Decode { .. })) => true,
        _ => false,
    }
}

/// Why the server could not start or go on; the text is for the operator.
type Fatal = Box<dyn std::error::Error>;

fn run(mut config: Config, log: &Log, restored: Option<&Path>) -> Result<u8, Fatal> {
    let descriptors = Descriptors::share_out(&mut config, log)?;
    let huge_pages = HugePages::new(config.disable_thp).unwrap_or_else(|error| {
        log.warning(format_args!("Huge pages cannot be disabled: {error}"));
        HugePages::default()
    });
    let signals = Signals::install()?;
    let backlog = i32::try_from(config.tcp_backlog).unwrap_or(i32::MAX);
    let listeners =
        listen::bind_all(&config.bind, config.port, backlog).map_err(|(address, error)| {
            format!("Could not create server TCP listening socket {address}: {error}")
        })?;
    let port = listeners.first().map(|l| l.local_addr()).transpose()?.map_or(0, |a| a.port());
    let _pid_file = PidFile::write(&config, log);
    let mut seed = [0; 16];
    random_bytes(&mut seed)?;
    let started = Instant::now();
    let (poll, bell) = poll_and_bell()?;
    if let Some(backup) = restored {
        restore(&config, backup, log)?;
    }
    let store = match config.store {
        StoreKind::Memory => None,
        StoreKind::Fjall => Some(open_store(&config, descriptors)?),
    };
    // The order of keys on disk rests on the hash, so its key belongs to the store.
    let secret = store.as_ref().map_or(seed, |store| store.dir.identity().hash_key);
    let now = now_since(started);
    let mut server = Server::new(config, log.clone(), Hasher::new(&secret), now, seed);
    server.port = port;
    server.descriptors = descriptors;
    server.huge_pages = huge_pages;
    server.report_unused();
    if let Some(store) = store {
        // Ours to remove: who has the store open makes its backups.
        backup::remove(&backup::unfinished(&server.config.backup_path()))?;
        report_tail(&store, log);
        let seed = server.random();
        let recovered = attach(&mut server, store, Arc::clone(&bell), seed)?;
        log.notice(format_args!(
            "Store opened in {:.3} seconds: {} operations replayed, {} of them saved before",
            started.elapsed().as_secs_f64(),
            recovered.operations,
            recovered.skipped,
        ));
        for key in &recovered.given_up {
            log.warning(format_args!(
                "A loss was accepted: the last changes of {key:?} (space/hash/name) are gone, and \
                 what it was before cannot be read"
            ));
        }
    }
    let offload = placed(&server.config, log, || Offload::new(&server.config, bell))?;
    offload.warn_of_surplus(log);
    server.offload = Some(offload);
    let event_loop = EventLoop::new(poll, server, started, listeners, signals)?;
    if let Some(address) = event_loop.address() {
        log.ready(address);
    }
    Ok(event_loop.run()?)
}

/// Puts this thread on its CPUs, and has the network workers made: before, so that they share its
/// list, as in Redis; behind, if they have their own, so that they are not kept to this one.
fn placed<T>(config: &Config, log: &Log, make: impl FnOnce() -> T) -> T {
    let place = || {
        if let Some(cpus) = &config.server_cpulist
            && !cpus.allow_current()
        {
            log.warning(format_args!("The main thread cannot be put on CPUs {cpus}"));
        }
    };
    if config.io_threads_cpulist.is_none() {
        place();
        return make();
    }
    let made = make();
    place();
    made
}

/// Makes the store out of a backup.
fn restore(config: &Config, from: &Path, log: &Log) -> Result<(), Fatal> {
    if config.store == StoreKind::Memory {
        return Err("--restore needs a store on disk, and 'store memory' has none".into());
    }
    let root = config.store_path();
    log.notice(format_args!("Restoring {} into {}", from.display(), root.display()));
    let started = Instant::now();
    backup::restore(from, &root)?;
    let seconds = started.elapsed().as_secs_f64();
    log.notice(format_args!("Restored and checked in {seconds:.3} seconds"));
    Ok(())
}

/// Tells the operator what the end of the journal looked like.
fn report_tail(store: &OpenStore, log: &Log) {
    match &store.report.verdict {
        Verdict::Clean => {}
        Verdict::TornTail { bytes, frames } => log.warning(format_args!(
            "The journal ended in {bytes} bytes that were never acknowledged ({frames} whole \
             frames among them): cut off"
        )),
        Verdict::Refused(refusal) => {
            log.warning(format_args!("Opened because of store-accept-loss, although: {refusal}"))
        }
    }
}

/// Fills `bytes` from the system's random source.
fn random_bytes(bytes: &mut [u8]) -> io::Result<()> {
    rustix::rand::getrandom(bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(())
}
