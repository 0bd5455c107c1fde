//! Load through the whole server starts a worker by itself, and with the load it goes again.
//!
//! The policy is tuned so that neither the speed of the machine nor its other load decides: a main
//! thread that gets the CPU at all is busy enough, a CPU need not be idle, and a worker is neither
//! regretted nor taken away because the main thread has to wait for a CPU.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread::JoinHandle;

use flintlock_diskcache::cache::Now;
use flintlock_iothreads::policy::Tuning;

use super::*;
use crate::config::StoreKind;
use crate::event_loop::{EventLoop, now_since, poll_and_bell};
use crate::log::{Level, Log};
use crate::server::Server;
use crate::signals::Signals;

const CLIENTS: usize = 8;
/// Requests of a client at a time: enough that reading and running them pays for a hand-over on
/// any machine.
const PIPELINE: usize = 1000;

fn tuning() -> Tuning {
    Tuning {
        ignite_permille: 1,
        spare_permille_min: 0,
        period_inactive: Duration::from_millis(10),
        // Whatever the worker does to the rate and the cost, it is kept.
        loss_permille: 1000,
        cost_permille: u32::MAX,
        starved_permille: u32::MAX,
        patience_min: Duration::from_millis(20),
        patience_max: Duration::from_millis(20),
        ..Tuning::default()
    }
}

/// A server in this process; ends when it is dropped.
struct Served {
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    fn start() -> Self {
        let (sender, started) = channel();
        let thread = std::thread::spawn(move || {
            let mut config = config(2, false);
            config.store = StoreKind::Memory;
            let (poll, bell) = poll_and_bell().expect("a poll");
            let mut offload = Offload::new(&config, Arc::clone(&bell)).expect("no thread");
            let options = Options { tuning: tuning(), ..Options::adaptive(1) };
            offload.pool = Pool::new(Io, bell, options).expect("no thread");
            let begun = Instant::now();
            let log = Log::new(Level::Warning, None);
            let now: Now = now_since(begun);
            let mut server = Server::new(config, log, Hasher::new(&[7; 16]), now, [3; 16]);
            server.offload = Some(offload);
            let listener = listener();
            let address = listener.local_addr().expect("bound");
            let signals = Signals::install().expect("handlers");
            let event_loop = EventLoop::new(poll, server, begun, vec![listener], signals);
            sender.send(address).expect("the test waits");
            event_loop.expect("a loop").run().expect("polling works");
        });
        let address = started.recv_timeout(DEADLINE).expect("the server starts");
        Self { address, thread: Some(thread) }
    }

    fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.address).expect("it listens");
        stream.set_read_timeout(Some(DEADLINE)).expect("above zero");
        Client(BufReader::new(stream))
    }

    /// All clients speak at the same time, until `over`.
    fn load(&self, over: &AtomicBool) {
        let mut clients: Vec<Client> = (0..CLIENTS).map(|_| self.connect()).collect();
        let requests = "INCR n\r\n".repeat(PIPELINE);
        while !over.load(Ordering::Relaxed) {
            for client in &mut clients {
                client.0.get_mut().write_all(requests.as_bytes()).expect("connected");
            }
            for client in &mut clients {
                for _ in 0..PIPELINE {
                    assert!(client.line().starts_with(':'));
                }
            }
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.connect().0.get_mut().write_all(b"SHUTDOWN\r\n").expect("connected");
        let ended = self.thread.take().expect("only dropped once").join();
        assert!(ended.is_ok() || std::thread::panicking(), "the server panicked");
    }
}

struct Client(BufReader<TcpStream>);

impl Client {
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("a line in time");
        assert!(line.ends_with("\r\n"), "closed: {line}");
        line.trim_end().to_owned()
    }

    fn ask(&mut self, line: &str) -> Vec<String> {
        self.0.get_mut().write_all(format!("{line}\r\n").as_bytes()).expect("connected");
        let mut leaves = Vec::new();
        self.reply(&mut leaves);
        leaves
    }

    /// The texts and numbers of a reply, in order.
    fn reply(&mut self, leaves: &mut Vec<String>) {
        let line = self.line();
        let (kind, rest) = line.split_at(1);
        match kind {
            "*" => (0..rest.parse().expect("a count")).for_each(|_: usize| self.reply(leaves)),
            "$" => {
                let mut bytes = vec![0; rest.parse::<usize>().expect("a length") + 2];
                self.0.read_exact(&mut bytes).expect("the bytes");
                leaves.push(String::from_utf8(bytes).expect("text").trim_end().to_owned());
            }
            _ => leaves.push(rest.to_owned()),
        }
    }

    /// A number of INFO.
    fn info(&mut self, section: &str, name: &str) -> u64 {
        self.infos(section, [name])[0]
    }

    /// Numbers of INFO at one time: each request to this server is load, which may change them.
    fn infos<const N: usize>(&mut self, sections: &str, names: [&str; N]) -> [u64; N] {
        let text = self.ask(&format!("INFO {sections}")).concat();
        names.map(|name| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{name} in {text}"))
        })
    }

    /// Reason, workers before and after of the decisions, oldest first.
    fn decisions(&mut self) -> Vec<(String, usize, usize)> {
        let leaves = self.ask("FLINT.IOTHREADS LOG");
        let starts = (0..leaves.len()).filter(|at| leaves[*at] == "reason").rev();
        let decision = |at: usize| {
            let entry = &leaves[at..];
            let number = |name: &str| {
                let place = entry.iter().position(|leaf| leaf == name).expect("in each entry");
                entry[place + 1].parse().expect("a number")
            };
            (entry[1].clone(), number("active-before"), number("active-after"))
        };
        starts.map(decision).collect()
    }

    fn wait_until(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        let until = Instant::now() + DEADLINE;
        while !is_so(self) {
            assert!(Instant::now() < until, "{what}: {:?}", self.decisions());
            // Asking must stay far below what ignites, in builds without optimisation too.
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Ends the load, also when the test fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A thread that was started once and rests keeps no turn from costing nothing.
#[test]
fn a_pool_whose_workers_rest_is_quiet() {
    let bell = Bell::new(|| {});
    let mut offload = Offload::new(&config(2, false), Arc::clone(&bell)).expect("no thread");
    let options = Options { tuning: tuning(), ..Options::adaptive(1) };
    offload.pool = Pool::new(Io, bell, options).expect("no thread");
    let (begun, mut completed) = (Instant::now(), 0);
    let mut until_active_is = |active: usize, jobs: usize| {
        while offload.pool.active() != active {
            assert!(begun.elapsed() < DEADLINE, "{active} active");
            completed += jobs as u64;
            let turn = Turn { jobs, completed, ..Turn::default() };
            offload.turn(begun.elapsed().as_millis() as u64, turn);
            // Some use of the CPU, or none.
            let pause = Instant::now() + Duration::from_micros(100);
            while jobs > 0 && Instant::now() < pause {}
        }
        (offload.pool.threads(), offload.is_quiet())
    };
    assert_eq!(until_active_is(0, 0), (0, true));
    assert_eq!(until_active_is(1, 1000), (1, false));
    assert_eq!(until_active_is(0, 0), (1, true));
}

#[test]
fn load_starts_a_worker_that_leaves_with_it() {
    if UsableCpus::read().count() < 2 {
        // There a worker is never started.
        return;
    }
    let served = Served::start();
    let client = &mut served.connect();
    assert_eq!(client.info("iothreads", "io_threads_running"), 1);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let load = scope.spawn(|| served.load(&over));
        let _end = End(&over);
        client.wait_until("a worker reads", |client| {
            assert!(!load.is_finished(), "the load is served");
            client.info("stats", "io_threaded_reads_processed") > 0
        });
    });
    assert_eq!(client.decisions().first(), Some(&("ignition".to_owned(), 0, 1)));
    // Its thread stays, asleep, for the next load.
    client.wait_until("the worker leaves", |client| {
        const NAMES: [&str; 3] =
            ["io_threads_active_workers", "io_threads_jobs_in_flight", "io_threads_active"];
        client.infos("server iothreads", NAMES) == [0, 0, 0]
    });
    // That was asked for; the asking may be load enough for another.
    let left = ("idle".to_owned(), 1, 0);
    assert!(client.decisions().contains(&left), "{:?}", client.decisions());
}
