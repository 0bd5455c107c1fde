//! Tests: the whole server over a socket while its engine fails or hangs.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use flintlock_diskcache::recovery::{OpenOptions, open_with};
use flintlock_diskcache::storage::fault::{Call, Fault, FaultStore};
use flintlock_diskcache::storage::memory::MemoryStore;
use flintlock_diskcache::storage::{DiskSpace, ErrorKind};
use mio::net::TcpListener;

use super::{EventLoop, now_since, poll_and_bell};
use crate::config::Config;
use crate::keyspace::Hasher;
use crate::log::{Level, Log};
use crate::offload::Offload;
use crate::server::Server;
use crate::signals::Signals;
use crate::tier::open::attach;

const DEADLINE: Duration = Duration::from_secs(60);

/// A server on a thread of its own; ends when it is dropped.
struct Served {
    address: SocketAddr,
    faults: Arc<FaultStore>,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    /// Serves the store in `dir`, whose engine is `engine`.
    fn start(dir: &Path, engine: &MemoryStore, config: Config) -> Self {
        Self::adjusted(dir, engine, config, |_| ())
    }

    /// The same, with other limits than usual.
    fn adjusted(
        dir: &Path,
        engine: &MemoryStore,
        config: Config,
        adjust: impl FnOnce(&mut Server) + Send + 'static,
    ) -> Self {
        let (root, engine) = (dir.join("store"), engine.clone());
        let (sender, started) = channel();
        let thread = std::thread::spawn(move || {
            let store = open_with(&root, &OpenOptions::default(), |_, _| {
                Ok(FaultStore::new(Arc::new(engine), 1))
            });
            let store = store.expect("the store can be opened");
            let hasher = Hasher::new(&store.dir.identity().hash_key);
            let faults = Arc::clone(&store.engine);
            let (poll, bell) = poll_and_bell().expect("a poll");
            let begun = Instant::now();
            let log = Log::new(Level::Warning, None);
            let mut server = Server::new(config, log, hasher, now_since(begun), [3; 16]);
            if server.config.io_threads_always_active {
                let offload = Offload::new(&server.config, Arc::clone(&bell));
                server.offload = Some(offload.expect("threads"));
            }
            attach(&mut server, store, bell, 5).expect("the journal is whole");
            adjust(&mut server);
            let any = "127.0.0.1:0".parse().expect("an address");
            let listener = TcpListener::bind(any).expect("a free port");
            let address = listener.local_addr().expect("a bound address");
            let signals = Signals::install().expect("handlers");
            let event_loop = EventLoop::new(poll, server, begun, vec![listener], signals);
            sender.send((address, faults)).expect("the test waits");
            event_loop.expect("a loop").run().expect("polling works");
        });
        let (address, faults) = started.recv_timeout(DEADLINE).expect("the server starts");
        Self { address, faults, thread: Some(thread) }
    }

    fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.address).expect("it listens");
        stream.set_read_timeout(Some(DEADLINE)).expect("above zero");
        Client(BufReader::new(stream))
    }

    /// Faults of this kind at every such call.
    fn always(&self, call: Call, fault: Fault) {
        self.faults.rate(call, fault, 1);
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.faults.mend();
        self.connect().send("SHUTDOWN");
        let ended = self.thread.take().expect("only dropped once").join();
        assert!(ended.is_ok() || std::thread::panicking(), "the server panicked");
    }
}

struct Client(BufReader<TcpStream>);

impl Client {
    fn send(&mut self, line: &str) {
        self.0.get_mut().write_all(format!("{line}\r\n").as_bytes()).expect("it is connected");
    }

    /// One reply that is no array; empty at the end of the connection.
    fn receive(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("a line in time");
        let Some(len) = line.strip_prefix('$').and_then(|len| len.trim().parse().ok()) else {
            return line.trim_end().to_owned();
        };
        let mut bytes: Vec<u8> = vec![0; len];
        self.0.read_exact(&mut bytes).expect("the bytes");
        self.0.read_line(&mut line).expect("the end of them");
        String::from_utf8(bytes).expect("text")
    }

    fn ask(&mut self, line: &str) -> String {
        self.send(line);
        self.receive()
    }

    fn wait_for(&mut self, line: &str, text: &str) {
        let until = Instant::now() + DEADLINE;
        loop {
            let reply = self.ask(line);
            if reply.contains(text) {
                return;
            }
            assert!(Instant::now() < until, "no {text} in {reply}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// A store with `k`, `n` and `gone`, and `one` in database 1, in its engine and not in memory.
fn cold(dir: &Path, config: Config) -> Served {
    let engine = MemoryStore::new();
    let first = Served::start(dir, &engine, Config::default());
    let mut client = first.connect();
    for line in ["SET k v", "SET n 5", "SET gone 1", "SELECT 1", "SET one 1"] {
        assert_eq!(client.ask(line), "+OK");
    }
    drop(first);
    Served::start(dir, &engine, config)
}

#[test]
fn a_key_that_cannot_be_read_is_an_error_and_no_miss() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let served = cold(dir.path(), Config::default());
    let mut client = served.connect();
    served.always(Call::Get, Fault::Fail(ErrorKind::Io));
    for line in ["GET k", "MGET none k", "EXISTS k", "INCR n", "TTL k", "COPY k copy", "MOVE k 1"] {
        let reply = client.ask(line);
        assert!(reply.starts_with("-IOERR "), "{line}: {reply}");
    }
    assert_eq!(client.ask("MULTI"), "+OK");
    assert_eq!(client.ask("INCR n"), "+QUEUED");
    let reply = client.ask("EXEC");
    let aborted = "-EXECABORT Transaction discarded because of: IOERR ";
    assert!(reply.starts_with(aborted), "{reply}");
    assert_eq!(client.ask("SET new 1"), "+OK", "the transaction is over");
    assert_eq!(client.ask("GET new"), "1");
    served.faults.mend();
    assert_eq!(client.ask("GET k"), "v");
    assert_eq!(client.ask("INCR n"), ":6");
}

/// Whose wait ends with an error waits for nothing more, and what it was woken for stays.
#[test]
fn a_wait_that_ends_with_an_unreadable_key_is_over() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let served = cold(dir.path(), Config::default());
    let (mut waiting, mut client) = (served.connect(), served.connect());
    // Known to be absent, so that whoever is blocked from here on waits for an element.
    assert_eq!(client.ask("EXISTS source one"), ":0");
    waiting.send("BLMOVE source one LEFT RIGHT 0");
    client.wait_for("INFO clients", "blocked_clients:1\r\n");
    // Now there is a key of that name, and it is on disk only.
    assert_eq!(client.ask("SWAPDB 0 1"), "+OK");
    served.always(Call::Get, Fault::Fail(ErrorKind::Io));
    assert_eq!(client.ask("RPUSH source item"), ":1");
    let reply = waiting.receive();
    assert!(reply.starts_with("-IOERR "), "{reply}");
    client.wait_for("INFO clients", "blocked_clients:0\r\n");
    served.faults.mend();
    waiting.send("BLPOP other 0");
    client.wait_for("INFO clients", "blocked_clients:1\r\n");
    assert_eq!(client.ask("RPUSH other item"), ":1");
    assert_eq!(waiting.receive(), "*2");
    assert_eq!(client.ask("LLEN source"), ":1");
}

#[test]
fn who_waits_for_a_hanging_disk_is_seen_and_can_be_killed_and_others_are_served() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let served = cold(dir.path(), Config::default());
    let (mut waiting, mut paused, mut admin) =
        (served.connect(), served.connect(), served.connect());
    let id = waiting.ask("CLIENT ID");
    served.always(Call::Get, Fault::Hang);
    waiting.send("GET k");
    admin.wait_for("INFO clients", "blocked_clients:1\r\n");
    assert!(admin.ask("CLIENT LIST").contains(" flags=b "));
    assert_eq!((admin.ask("SET hot 1"), admin.ask("INCR hot")), ("+OK".into(), ":2".into()));
    assert_eq!(admin.ask(&format!("CLIENT KILL ID {}", &id[1..])), ":1");
    assert_eq!(waiting.receive(), "", "closed without a reply");
    admin.wait_for("INFO clients", "blocked_clients:0\r\n");

    // Who waits for the disk when a pause begins waits for its end then.
    paused.send("INCR n");
    admin.wait_for("INFO clients", "blocked_clients:1\r\n");
    assert_eq!(admin.ask("CLIENT PAUSE 1000000 WRITE"), "+OK");
    served.faults.mend();
    assert_eq!(admin.ask("GET n"), "5");
    assert!(admin.ask("INFO clients").contains("blocked_clients:1\r\n"));
    assert_eq!(admin.ask("CLIENT UNPAUSE"), "+OK");
    assert_eq!(paused.receive(), ":6");
}

#[test]
fn a_walk_begins_anew_when_databases_are_swapped_meanwhile() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let served = cold(dir.path(), Config::default());
    let (mut waiting, mut admin) = (served.connect(), served.connect());
    served.always(Call::Scan, Fault::Hang);
    waiting.send("RANDOMKEY");
    admin.wait_for("INFO clients", "blocked_clients:1\r\n");
    assert_eq!(admin.ask("SWAPDB 0 1"), "+OK");
    served.faults.mend();
    assert_eq!(waiting.receive(), "one");
}

#[test]
fn an_engine_that_cannot_be_written_shows_at_once_and_refuses_when_memory_is_full() {
    for (kind, error) in [(ErrorKind::NoSpace, "-DISKFULL "), (ErrorKind::Io, "-MISCONF ")] {
        let dir = tempfile::tempdir().expect("temporary directory");
        let mut config = Config::default();
        (config.maxmemory_bytes, config.flush_delay_ms) = (2 << 20, 1);
        let served = cold(dir.path(), config);
        let mut client = served.connect();
        served.always(Call::Commit, Fault::Fail(kind));
        assert_eq!(client.ask("SET first 1"), "+OK");
        client.wait_for("INFO persistence", "rdb_last_bgsave_status:err");
        assert!(client.ask("INFO persistence").contains("aof_last_write_status:ok"));
        assert_eq!(client.ask("SET second 1"), "+OK", "refused only when memory is used up");
        let value = "x".repeat(4000);
        let refused = (0..5000)
            .map(|i| client.ask(&format!("SET key:{i} {value}")))
            .find(|reply| reply != "+OK");
        let refused = refused.expect("two megabytes do not take twenty");
        assert!(refused.starts_with(error), "{refused}");
        assert_eq!(client.ask("GET first"), "1");
        served.faults.mend();
        // The pause between attempts has grown to seconds by now: once is enough to see its end.
        if kind == ErrorKind::Io {
            client.wait_for("SET second 2", "+OK");
            client.wait_for("INFO persistence", "rdb_last_bgsave_status:ok");
        }
    }
}

#[test]
fn a_value_that_no_record_could_hold_is_refused_before_anything_changes() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let engine = MemoryStore::new();
    let mut config = Config::default();
    let max = 10_000;
    (config.flush_delay_ms, config.databases) = (1, 1);
    let served =
        Served::adjusted(dir.path(), &engine, config, move |server| server.value_bytes_max = max);
    let mut client = served.connect();
    let too_large = "-ERR value exceeds maximum allowed size (3 GiB with a store on disk)";
    let word = "w".repeat(900);
    for (add, count) in [
        ("RPUSH list", "LLEN list"),
        ("HSET hash", "HLEN hash"),
        ("SADD set", "SCARD set"),
        ("ZADD zset", "ZCARD zset"),
        ("APPEND string", "STRLEN string"),
    ] {
        let words = |i: usize| match add.split(' ').next() {
            Some("HSET") => format!("{i} {word}"),
            Some("ZADD") => format!("{i} {i}{word}"),
            _ => format!("{i}{word}"),
        };
        let mut counts = Vec::new();
        let refused = (10..100).map(|i| {
            counts.push(client.ask(count));
            client.ask(&format!("{add} {}", words(i)))
        });
        let refused = refused.into_iter().find(|reply| !reply.starts_with(':'));
        assert_eq!(refused.as_deref(), Some(too_large), "{add}");
        assert_eq!(Some(&client.ask(count)), counts.last(), "nothing was changed");
        assert!((4..=12).contains(&counts.len()), "{add}: {} words", counts.len());
    }
    assert_eq!(client.ask(&format!("RPUSH new {}", "1 ".repeat(1000))), too_large);
    assert_eq!(client.ask("EXISTS new"), ":0");
    assert_eq!(client.ask("SORT list BY nosort GET # GET # STORE sorted"), too_large);
    assert_eq!(client.ask("EXISTS sorted"), ":0");
    // What there is can be moved about, is saved, and goes on to be changed.
    for line in ["RENAME list renamed", "RENAME string other"] {
        assert_eq!(client.ask(line), "+OK");
    }
    assert_eq!(client.ask("COPY hash copy"), ":1");
    assert_eq!(client.ask("SREM set 10none"), ":0");
    client.wait_for("INFO persistence", "rdb_last_bgsave_status:ok");
    client.wait_for("INFO store", "store_saves_queued:0\r\n");
}

/// While a backup runs, the workers of the network leave a CPU to it.
#[test]
fn a_background_save_takes_a_cpu() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut config = Config::default();
    config.dir = dir.path().into();
    config.io_threads_always_active = true;
    let served = cold(dir.path(), config);
    let mut client = served.connect();
    let reserved = |cpus: usize| format!("io_threads_reserved_cpus:{cpus}\r\n");
    client.wait_for("INFO iothreads", &reserved(0));
    served.always(Call::Backup, Fault::Hang);
    assert_eq!(client.ask("BGSAVE"), "+Background saving started");
    client.wait_for("INFO iothreads", &reserved(1));
    served.faults.mend();
    client.wait_for("INFO iothreads", &reserved(0));
    assert!(client.ask("INFO persistence").contains("rdb_last_bgsave_status:ok\r\n"));
}

#[test]
fn a_disk_that_is_low_refuses_what_needs_room_and_takes_deletes() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let served = cold(dir.path(), Config::default());
    let mut client = served.connect();
    assert_eq!(client.ask("SET more 1"), "+OK");
    served.faults.set_space(DiskSpace { free: 100 << 20, total: 1 << 40 });
    client.wait_for("SET more 1", "-DISKFULL ");
    assert_eq!(client.ask("GET k"), "v");
    assert_eq!(client.ask("DEL gone more"), ":2");
    assert_eq!(client.ask("EXPIRE k 1000"), ":1");
    assert!(client.ask("INFO store").contains("store_disk_free_bytes:104857600\r\n"));
    assert!(client.ask("INFO persistence").contains("aof_last_write_status:ok"), "nothing failed");
    assert_eq!(client.ask("CONFIG SET disk-min-free 50mb"), "+OK");
    assert_eq!(client.ask("INCR n"), ":6");
    assert_eq!(client.ask("CONFIG SET disk-min-free 1gb"), "+OK");
    assert!(client.ask("INCR n").starts_with("-DISKFULL "));
    served.faults.mend();
    client.wait_for("INCR n", ":7");
}

/// One list, so that memory never fills: what grows is the journal.
#[test]
fn while_the_engine_hangs_the_journal_has_an_end_and_memory_is_served() {
    const PUSHES: usize = 300;
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut config = Config::default();
    (config.flush_delay_ms, config.journal_size_max_bytes) = (1, 100_000);
    let served = cold(dir.path(), config);
    let (mut writer, mut admin) = (served.connect(), served.connect());
    assert_eq!(admin.ask("RPUSH list first"), ":1");
    admin.wait_for("INFO store", "store_saves_queued:0\r\n");
    served.always(Call::Commit, Fault::Hang);
    let mut stream = writer.0.get_ref().try_clone().expect("a second handle");
    let pushes = format!("RPUSH list {}\r\n", "x".repeat(4000)).repeat(PUSHES);
    let sender = std::thread::spawn(move || stream.write_all(pushes.as_bytes()));
    admin.wait_for("INFO clients", "blocked_clients:1\r\n");
    let pushed: usize = admin.ask("LLEN list")[1..].parse().expect("a number");
    assert!((90..120).contains(&pushed), "{pushed}: four times the journal's size");
    assert_eq!((admin.ask("GET k"), admin.ask("DEL gone")), ("v".into(), ":1".into()));
    served.faults.mend();
    let replies = (0..PUSHES).map(|_| writer.receive());
    assert_eq!(replies.last(), Some(format!(":{}", PUSHES + 1)), "they only had to wait");
    sender.join().expect("no panic").expect("it is connected");
}
