//! Reading, parsing and writing on workers: the same bytes in the same order as without, and no
//! client is lost, wedged or served twice, whatever happens while its connection is away.
//!
//! `--io-threads-always-active yes` makes workers take part whatever the machine and the load, so
//! nothing here depends on when a policy ignites. Names in brackets are faults that other servers
//! had in production.

#[expect(dead_code, reason = "each test binary uses its own part of the harness")]
mod common;

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::client::{Client, Missing};
use common::rng::Rng;
use common::server::{Kind, Server};
use common::words;
#[cfg(target_os = "linux")]
use flintlock_iothreads::CpuList;

const ALWAYS: [&str; 6] =
    ["--store", "memory", "--io-threads", "3", "--io-threads-always-active", "yes"];
const DEADLINE: Duration = Duration::from_secs(60);

fn start(args: &[&str]) -> Server {
    Server::start(Kind::Flintlock, args)
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + DEADLINE;
    while !done() {
        assert!(Instant::now() < until, "{what}: not within {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Of workers that still close what is gone, nobody waits for word.
fn no_job_is_left(client: &mut Client) {
    wait_until("no job is left", || {
        client.info_number("iothreads", "io_threads_jobs_in_flight") == 0
    });
}

/// Whoever comes is accepted by a worker if one is awake for others then: waits until one was.
fn workers_accept(server: &Server, client: &mut Client) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut talker, mut rng) = (server.connect(), Rng::new(50));
            // Far from the names of others, who go on for as long as they like.
            for name in (1_000_000..).take_while(|_| !over.load(Ordering::Relaxed)) {
                converse(&mut talker, &mut rng, name, 1);
            }
        });
        let _ends = Ends(&over);
        wait_until("a worker accepts", || {
            let mut guest = server.connect();
            guest.send(&words::encode(&["PING"]));
            // Too many may be there at a time.
            let _ = guest.read_reply();
            client.info_number("stats", "io_threaded_accept_processed") > 0
        });
    });
    wait_until("they are gone", || client.info_number("clients", "connected_clients") == 1);
}

/// Sets its flag when it goes, after a failure too: a scope waits for its threads.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs pipelines of random depth with values of random size; every reply must be the one due.
fn converse(client: &mut Client, rng: &mut Rng, name: usize, rounds: usize) {
    let key = format!("key:{name}");
    let mut count = 0_i64;
    for _ in 0..rounds {
        let bytes_max = if rng.one_in(8) { 100_000 } else { 600 };
        let value = vec![b'a' + rng.below(26) as u8; rng.below(bytes_max)];
        let depth_max = if rng.one_in(4) { 200 } else { 4 };
        let depth = 1 + rng.below(depth_max);
        let mut commands = vec![vec![b"SET".to_vec(), key.clone().into_bytes(), value.clone()]];
        for _ in 0..depth {
            commands.push(vec![b"INCR".to_vec(), format!("count:{name}").into_bytes()]);
        }
        commands.push(vec![b"GET".to_vec(), key.clone().into_bytes()]);
        let replies = client.pipeline(&commands);
        let replies: Vec<_> =
            replies.into_iter().map(|reply| reply.unwrap_or_else(|why| panic!("{why}"))).collect();
        assert_eq!(replies[0].raw, b"+OK\r\n");
        for reply in &replies[1..=depth] {
            count += 1;
            assert_eq!(reply.raw, format!(":{count}\r\n").as_bytes());
        }
        assert!(replies[depth + 1].text() == Ok(&value), "{} bytes are others", value.len());
    }
}

fn in_parallel(server: &Server, clients: usize, one: impl Fn(usize, &mut Client, &mut Rng) + Sync) {
    std::thread::scope(|scope| {
        for name in 0..clients {
            let one = &one;
            scope.spawn(move || one(name, &mut server.connect(), &mut Rng::new(name as u64 + 1)));
        }
    });
}

#[test]
fn every_reply_is_the_one_due_with_any_number_of_threads() {
    let auto = ["--store", "memory", "--io-threads", "auto"];
    let one = ["--store", "memory", "--io-threads", "1"];
    for args in [&ALWAYS[..], &auto, &one] {
        let server = start(args);
        in_parallel(&server, 8, |name, client, rng| converse(client, rng, name, 150));
        let client = &mut server.connect();
        let offloaded = client
            .info_number("stats", "io_threaded_reads_processed")
            .min(client.info_number("stats", "io_threaded_writes_processed"));
        if args == ALWAYS {
            assert!(offloaded > 8 * 150, "{offloaded}: the workers did it");
            assert_eq!(client.info("server", "io_threads_active"), "1");
        }
        if args == one {
            assert_eq!(offloaded, 0);
            assert_eq!(client.info("iothreads", "io_threads_max"), "1");
        }
    }
}

/// [valkey 4347, 997: a direction began while a worker had the other] Clients send all the time
/// while replies are on their way, so both directions of each connection are always wanted. Not
/// here: the one half of a connection travels, and what is wanted meanwhile is noted.
#[test]
fn both_directions_of_a_connection_are_wanted_all_the_time() {
    const ROUNDS: usize = 400;
    let server = start(&ALWAYS);
    in_parallel(&server, 4, |name, client, rng| {
        let value = vec![b'a' + rng.below(26) as u8; 20_000];
        let key = format!("key:{name}").into_bytes();
        let set = vec![b"SET".to_vec(), key.clone(), value.clone()];
        assert!(client.pipeline(&[set]).iter().all(Result::is_ok));
        let mut burst = words::encode(&["INCR", &format!("count:{name}")]);
        burst.extend(words::encode(&[&b"GET"[..], &key]));
        let mut sender = client.stream().try_clone().expect("a descriptor");
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for _ in 0..ROUNDS {
                    sender.write_all(&burst).expect("the server reads while it writes");
                }
            });
            for round in 1..=ROUNDS {
                let count = client.read_reply().unwrap_or_else(|why| panic!("{name}: {why}"));
                assert_eq!(count.raw, format!(":{round}\r\n").as_bytes());
                let text = client.read_reply().unwrap_or_else(|why| panic!("{name}: {why}"));
                assert!(text.text() == Ok(&value), "round {round} of client {name}");
            }
        });
    });
    let client = &mut server.connect();
    assert!(client.info_number("stats", "io_threaded_writes_processed") > 0, "workers wrote");
}

/// With edge-triggered readiness an event that comes while a worker has the connection comes only
/// once: each of these requests ends in a byte of its own that may do so.
#[test]
fn readiness_that_comes_while_a_connection_is_away_is_not_lost() {
    let server = start(&ALWAYS);
    in_parallel(&server, 4, |name, client, rng| {
        let ping = words::encode(&["PING"]);
        for _ in 0..300 {
            let cut = 1 + rng.below(ping.len() - 1);
            client.send(&ping[..cut]);
            if rng.one_in(3) {
                std::thread::sleep(Duration::from_micros(rng.below(200) as u64));
            }
            client.send(&ping[cut..]);
            let reply = client.read_reply().unwrap_or_else(|why| panic!("client {name}: {why}"));
            assert_eq!(reply.raw, b"+PONG\r\n");
        }
    });
}

/// [redis 14249, 6988, 12540: kills and time-outs of clients in flight] Clients are killed while
/// workers read from and write to them: each is closed once, and nobody else notices.
#[test]
fn clients_are_killed_while_their_jobs_run() {
    let server = start(&ALWAYS);
    #[cfg(target_os = "linux")]
    let before = server.sockets();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for name in 0..4 {
            let (server, over) = (&server, &over);
            scope.spawn(move || {
                let mut rng = Rng::new(name);
                let value = vec![b'v'; 30_000];
                while !over.load(Ordering::Relaxed) {
                    let client = &mut server.connect();
                    let set = vec![b"SET".to_vec(), b"victim".to_vec(), value.clone()];
                    let get = vec![b"GET".to_vec(), b"victim".to_vec()];
                    // Until it is killed.
                    loop {
                        let depth = 1 + rng.below(20);
                        let both = [set.clone(), get.clone()];
                        let commands: Vec<_> = both.iter().cycle().take(depth).cloned().collect();
                        match client.pipeline(&commands).into_iter().find_map(Result::err) {
                            None => {}
                            Some(Missing::Closed(_)) => break,
                            Some(other) => panic!("{other}"),
                        }
                        if over.load(Ordering::Relaxed) {
                            break;
                        }
                    }
                }
            });
        }
        let mut client = server.connect();
        client.ok("CLIENT SETNAME bystander");
        let bystander = scope.spawn(move || converse(&mut client, &mut Rng::new(99), 99, 60));
        let killer = &mut server.connect();
        let mut killed = 0;
        let until = Instant::now() + DEADLINE;
        while killed < 200 || !bystander.is_finished() {
            assert!(Instant::now() < until, "{killed} kills");
            let list = killer.ok("CLIENT LIST");
            let text = String::from_utf8_lossy(list.text().expect("a text")).into_owned();
            for line in text.lines().filter(|line| !line.contains("name=bystander")) {
                let id = line.strip_prefix("id=").and_then(|rest| rest.split(' ').next());
                let id = id.expect("an id");
                if line.contains("cmd=client") {
                    continue;
                }
                killed += killer.ok(&format!("CLIENT KILL ID {id}")).integer().unwrap_or(0);
            }
        }
        over.store(true, Ordering::Relaxed);
        bystander.join().expect("the bystander is served");
    });
    let client = &mut server.connect();
    wait_until("all are gone", || client.info_number("clients", "connected_clients") == 1);
    no_job_is_left(client);
    #[cfg(target_os = "linux")]
    wait_until("their sockets are closed", || server.sockets() == before + 1);
}

/// Clients connect, ask something that only they would ask, and go, in every way there is to go;
/// meanwhile others stay. Each gets the reply that is due to it although numbers of descriptors are
/// used again all the time, some of them while workers still close their last owners, and in the
/// end no descriptor is left.
#[cfg(target_os = "linux")]
#[test]
fn a_storm_of_connections_leaves_nothing_behind() {
    let one = ["--store", "memory", "--io-threads", "1"];
    for args in [&ALWAYS[..], &one] {
        let server = start(args);
        let client = &mut server.connect();
        client.ok("PING");
        let before = server.sockets();
        std::thread::scope(|scope| {
            for name in 0..4 {
                let server = &server;
                scope.spawn(move || storm(server, name));
            }
            scope.spawn(|| {
                in_parallel(&server, 2, |name, client, rng| converse(client, rng, name, 60));
            });
        });
        wait_until("all are gone", || client.info_number("clients", "connected_clients") == 1);
        wait_until("their sockets are closed", || server.sockets() == before);
        let closed = client.info_number("stats", "io_threaded_closes_processed");
        if args == ALWAYS {
            assert!(closed > 4 * 200 / 2, "{closed}: workers closed most of them");
            workers_accept(&server, client);
            no_job_is_left(client);
        } else {
            assert_eq!(closed, 0);
        }
    }
}

/// Whoever accepts, the main thread admits: never more than `maxclients`, whatever comes at once,
/// and who is refused is told why. Places that become free are given again.
#[test]
fn the_limit_of_clients_holds_whoever_accepts() {
    const LIMIT: u64 = 10;
    let limit = LIMIT.to_string();
    let server = start(&[&ALWAYS[..], &["--maxclients", &limit]].concat());
    let client = &mut server.connect();
    // Before the guests come, who would take its place.
    let mut talker = server.connect();
    talker.ok("PING");
    let busy = AtomicBool::new(true);
    let (admitted, refused) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        // Halves are away all the time, so that workers are awake to accept.
        scope.spawn(|| {
            let mut talker = talker;
            let mut rng = Rng::new(50);
            for name in (0..).take_while(|_| busy.load(Ordering::Relaxed)) {
                converse(&mut talker, &mut rng, name, 1);
            }
        });
        let guests: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..20 {
                        // Together they are too many, whatever the other threads do.
                        let mut guests: Vec<_> = (0..LIMIT).map(|_| server.connect()).collect();
                        for guest in &mut guests {
                            guest.send(&words::encode(&["PING"]));
                            match guest.read_reply() {
                                Ok(reply) if reply.raw == b"+PONG\r\n" => {
                                    admitted.fetch_add(1, Ordering::Relaxed);
                                }
                                Ok(reply) => {
                                    let text = b"-ERR max number of clients reached\r\n";
                                    assert_eq!(reply.raw, text);
                                    refused.fetch_add(1, Ordering::Relaxed);
                                }
                                // Its request met a closed socket before the reply was read.
                                Err(Missing::Closed(_)) => {
                                    refused.fetch_add(1, Ordering::Relaxed);
                                }
                                Err(other) => panic!("{other}"),
                            }
                        }
                    }
                })
            })
            .collect();
        while guests.iter().any(|guest| !guest.is_finished()) {
            let connected = client.info_number("clients", "connected_clients");
            assert!(connected <= LIMIT, "{connected}");
        }
        busy.store(false, Ordering::Relaxed);
    });
    wait_until("all are gone", || client.info_number("clients", "connected_clients") == 1);
    let (admitted, refused) = (admitted.into_inner(), refused.into_inner());
    assert!(admitted > LIMIT && refused > 0, "{admitted} and {refused}");
    assert_eq!(client.info_number("stats", "rejected_connections"), refused);
    assert_eq!(client.info_number("stats", "total_connections_received"), admitted + 2);
    workers_accept(&server, client);
    (1..LIMIT).map(|_| server.connect()).collect::<Vec<_>>().iter_mut().for_each(|client| {
        client.ok("PING");
    });
}

#[cfg(target_os = "linux")]
fn storm(server: &Server, name: u64) {
    let mut rng = Rng::new(name + 1);
    let mut kept = Vec::new();
    for round in 0..200 {
        let mut client = server.connect();
        let text = format!("{name}:{round}");
        client.send(&words::encode(&["ECHO", &text]));
        if rng.one_in(4) {
            // Gone with a reply on its way, and maybe reset for it.
            continue;
        }
        let reply = client.read_reply().unwrap_or_else(|why| panic!("{text}: {why}"));
        assert_eq!(reply.text(), Ok(text.as_bytes()));
        match rng.below(4) {
            0 => assert_eq!(client.ok("QUIT").raw, b"+OK\r\n"),
            1 => client.send(b"*1\r\n$4\r\nPI"),
            2 => kept.push(client),
            _ => {}
        }
        if kept.len() > 8 {
            let mut client = kept.swap_remove(rng.below(8));
            assert_eq!(client.ok("PING").raw, b"+PONG\r\n");
        }
    }
}

/// Who decides on the number of workers changes all the time under load: no request is lost, and
/// none is run twice.
#[test]
fn always_active_is_switched_under_load() {
    let server = start(&ALWAYS);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            in_parallel(&server, 6, |name, client, rng| converse(client, rng, name, 200));
        });
        scope.spawn(|| {
            let client = &mut server.connect();
            let mut rounds = 0;
            while rounds < 5 || !over.load(Ordering::Relaxed) {
                for word in ["no", "yes"] {
                    client.ok(&format!("CONFIG SET io-threads-always-active {word}"));
                }
                rounds += 1;
            }
        });
        let result = load.join();
        over.store(true, Ordering::Relaxed);
        result.expect("every reply was right");
    });
    let client = &mut server.connect();
    client.ok("CONFIG SET io-threads-always-active no");
    let log = client.ok("FLINT.IOTHREADS LOG 1");
    let entries = log.value.items();
    assert_eq!(entries.len(), 1, "at most as many as asked for");
    let all = client.ok("FLINT.IOTHREADS LOG");
    assert!((1..=128).contains(&all.value.items().len()), "the last 128");
    assert_eq!(client.ok("FLINT.IOTHREADS LOG 0").value.items().len(), 0);
    let names: Vec<_> = entries[0].items().iter().step_by(2).filter_map(|v| v.text()).collect();
    assert!(names.contains(&&b"reason"[..]) && names.contains(&&b"active-after"[..]), "{names:?}");
    for bad in ["LOG x", "LOG -1", "LOG 1 2", "NOSUCH"] {
        assert!(client.run(&format!("FLINT.IOTHREADS {bad}")).is_error(), "{bad}");
    }
}

/// The number of threads is changed all the time under load, up and down, by load and always
/// active: no request is lost, and none is run twice.
#[test]
fn the_number_of_threads_is_changed_under_load() {
    let server = start(&ALWAYS);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            in_parallel(&server, 6, |name, client, rng| converse(client, rng, name, 200));
        });
        scope.spawn(|| {
            let client = &mut server.connect();
            let mut rounds = 0;
            while rounds < 3 || !over.load(Ordering::Relaxed) {
                for threads in ["1", "8", "1", "3"] {
                    client.ok(&format!("CONFIG SET io-threads {threads}"));
                    assert_eq!(client.info("iothreads", "io_threads_configured"), threads);
                    assert_eq!(client.info("iothreads", "io_threads_running"), threads);
                }
                client.ok("CONFIG SET io-threads auto io-threads-always-active no");
                client.ok("CONFIG SET io-threads-always-active yes");
                rounds += 1;
            }
        });
        let result = load.join();
        over.store(true, Ordering::Relaxed);
        result.expect("every reply was right");
    });
    let client = &mut server.connect();
    client.ok("CONFIG SET io-threads 1");
    assert_eq!(client.ok("CONFIG GET io-threads").value.items()[1].text(), Some(&b"1"[..]));
    let inline = client.info_number("iothreads", "io_threads_inline_inactive");
    wait_until("work done inline is counted", || {
        client.info_number("iothreads", "io_threads_inline_inactive") > inline
    });
    assert!(client.run("CONFIG SET io-threads 0").is_error());
}

/// The name and the CPUs of each thread.
#[cfg(target_os = "linux")]
fn placed_threads(server: &Server) -> Vec<(String, String)> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", server.pid())).expect("it runs");
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).expect("all threads have it");
        line[name.len()..].trim().to_owned()
    };
    let statuses =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("status")).ok());
    statuses.map(|text| (field(&text, "Name:"), field(&text, "Cpus_allowed_list:"))).collect()
}

#[cfg(target_os = "linux")]
#[test]
fn threads_are_put_on_their_cpus() {
    let allowed = CpuList::allowed().expect("Linux has masks");
    let first = allowed.cpu_for(0).to_string();
    let last = allowed.cpu_for(allowed.len() - 1).to_string();
    let own = ["--server_cpulist", &first, "--io-threads-cpulist", &last];
    let shared = ["--server-cpulist", &last];
    for (args, of_main, of_workers) in [(&own[..], &first, &last), (&shared[..], &last, &last)] {
        let server = start(&[&ALWAYS[..], args].concat());
        let mut threads = Vec::new();
        wait_until("both workers on their CPUs", || {
            threads = placed_threads(&server);
            let workers: Vec<_> = threads.iter().filter(|t| t.0.starts_with("io-")).collect();
            workers.len() == 2 && workers.iter().all(|worker| worker.1 == *of_workers)
        });
        let main = threads.iter().find(|thread| !thread.0.starts_with("io-"));
        assert_eq!(main.map(|thread| &thread.1), Some(of_main), "{threads:?}");
        let client = &mut server.connect();
        assert_eq!(client.info_number("iothreads", "io_threads_pin_failures"), 0);
    }
}

/// Replies that workers are still sending go out before the process ends.
#[test]
fn the_end_waits_for_replies_that_are_being_sent() {
    for _ in 0..10 {
        let mut server = start(&ALWAYS);
        let mut client = server.connect();
        let value = "v".repeat(10_000);
        let mut bytes = words::encode(&["SET", "k", &value]);
        for _ in 0..20 {
            bytes.extend(words::encode(&["GET", "k"]));
        }
        bytes.extend(words::encode(&["SHUTDOWN", "NOSAVE"]));
        client.send(&bytes);
        let (got, closed) = client.read_to_close(Instant::now() + DEADLINE);
        assert!(closed, "the process ended");
        assert_eq!(got.len(), 5 + 20 * (8 + 10_000 + 2), "every reply came");
        assert!(server.wait().success());
    }
}

/// [valkey 3509: polling INFO woke the threads] Looking does not activate anything.
#[test]
fn looking_at_an_idle_server_activates_nothing() {
    let server = start(&["--store", "memory", "--io-threads", "8"]);
    let client = &mut server.connect();
    for _ in 0..300 {
        client.ok("INFO everything");
        client.ok("FLINT.IOTHREADS LOG");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(client.info("server", "io_threads_active"), "0");
    assert_eq!(client.info_number("iothreads", "io_threads_changes"), 0);
    assert_eq!(client.info_number("iothreads", "io_threads_running"), 1, "no thread was started");
    assert_eq!(client.ok("FLINT.IOTHREADS LOG").value.items().len(), 0);
}

/// While answers are owed a worker looks for readiness, and whoever comes, speaks or goes meanwhile
/// is noticed: the clients here speak all at once, and others come and go.
#[test]
fn clients_come_and_speak_while_a_worker_has_the_poller() {
    const CLIENTS: usize = 64;
    let server = start(&ALWAYS);
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| server.connect()).collect();
    let watcher = &mut server.connect();
    let ping = words::encode(&["PING"]);
    let until = Instant::now() + DEADLINE;
    let mut rounds = 0;
    while rounds < 50 || watcher.info_number("stats", "io_threaded_poll_processed") < 20 {
        assert!(
            Instant::now() < until,
            "{rounds} rounds, and the main thread always looked itself"
        );
        rounds += 1;
        for client in &mut clients {
            client.send(&ping);
        }
        clients[rounds % CLIENTS] = server.connect();
        for (name, client) in clients.iter_mut().enumerate() {
            if name == rounds % CLIENTS {
                client.send(&ping);
            }
            let reply = client.read_reply().unwrap_or_else(|why| panic!("client {name}: {why}"));
            assert_eq!(reply.raw, b"+PONG\r\n");
        }
    }
}

/// [redis 15311: a thread spun for ever after the load had gone] From 200 ms after the load on, the
/// process takes less than a hundredth of a core, whether workers are always active or come and go
/// by load. Beside busy neighbours it may get the CPU to finish its work only later: then the next
/// round counts.
#[cfg(target_os = "linux")]
#[test]
fn an_idle_server_sleeps_after_load() {
    let by_load = ["--store", "memory", "--io-threads", "3"];
    for args in [&ALWAYS[..], &by_load] {
        let server = start(args);
        let _kept: Vec<Client> = (0..4).map(|_| server.connect()).collect();
        let mut shares = Vec::new();
        let rests = (0..10).any(|round| {
            in_parallel(&server, 4, |name, client, rng| {
                converse(client, rng, 10 * round + name, 20);
            });
            std::thread::sleep(Duration::from_millis(200));
            let (from, before) = (Instant::now(), cpu_time(&server));
            std::thread::sleep(Duration::from_millis(500));
            let took = cpu_time(&server).saturating_sub(before);
            shares.push(took.as_secs_f64() / from.elapsed().as_secs_f64());
            shares.last().is_some_and(|share| *share < 0.01)
        });
        assert!(rests, "{args:?}: shares of a core {shares:?}");
    }
}

/// What all threads of the process together have run.
#[cfg(target_os = "linux")]
fn cpu_time(server: &Server) -> Duration {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", server.pid())).expect("it runs");
    let of_task = |path: std::path::PathBuf| -> Option<u64> {
        // A thread may end meanwhile.
        let text = std::fs::read_to_string(path.join("schedstat")).ok()?;
        text.split(' ').next()?.parse().ok()
    };
    let nanos = tasks.filter_map(|task| of_task(task.ok()?.path())).sum();
    Duration::from_nanos(nanos)
}
