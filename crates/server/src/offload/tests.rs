mod ignition;

use std::io::{Read, Write};
use std::net::TcpStream as Peer;
use std::num::NonZeroU16;

use mio::net::TcpListener;

use super::*;
use crate::keyspace::Hasher;
use crate::log::Level;
use crate::net::acceptor::{Accepted, BATCH_MAX, End};
use crate::net::conn::{InputLimits, Next, Received, Sent};
use crate::resp::encode::{Proto, Reply};
use crate::types::{HashKey, Object, Rules, Set};
use mio::{Interest, Poll, Registry, Token};

/// A half whose next job panics says so by this limit.
const PANIC: usize = 666;
const DEADLINE: Duration = Duration::from_secs(60);

/// Test hook of the handler.
pub(super) fn fail_if_asked(io: &ConnIo) {
    assert_ne!(io.limits.bytes_max, PANIC, "a job that panics");
}

fn config(threads: u16, always_active: bool) -> Config {
    let count = NonZeroU16::new(threads).expect("not zero");
    let mut config = Config::default();
    config.io_threads = Threads::Fixed(count);
    config.io_threads_always_active = always_active;
    config
}

fn log() -> Log {
    Log::new(Level::Warning, None)
}

fn offload(threads: u16, always_active: bool) -> Offload {
    let bell = Bell::new(|| {});
    Offload::new(&config(threads, always_active), bell).expect("threads")
}

/// Both ends of a connection.
pub(crate) fn pair(owner: usize) -> (Box<ConnIo>, Peer) {
    let listener = listener();
    let peer = peer_of(&listener);
    (half(&listener, owner), peer)
}

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0".parse().expect("an address")).expect("a port")
}

fn peer_of(listener: &TcpListener) -> Peer {
    let peer = Peer::connect(listener.local_addr().expect("bound")).expect("listening");
    peer.set_read_timeout(Some(DEADLINE)).expect("a socket");
    peer
}

/// Accepts one that has connected.
fn half(listener: &TcpListener, owner: usize) -> Box<ConnIo> {
    let until = Instant::now() + DEADLINE;
    let stream = loop {
        match listener.accept() {
            Ok((stream, _)) => break stream,
            Err(_) => assert!(Instant::now() < until, "nobody comes"),
        }
    };
    let limits = InputLimits::new(&Config::default(), true);
    let mut io = Box::new(ConnIo::new(stream, Hasher::new(&[7; 16]), limits));
    io.owner = Token(owner);
    io
}

/// Waits for one answer.
fn answer(offload: &mut Offload) -> Answer {
    let (mut answers, until) = (Vec::new(), Instant::now() + DEADLINE);
    while answers.is_empty() {
        assert!(Instant::now() < until, "no answer");
        let _ = offload.before_sleep();
        offload.after_sleep();
        offload.drain(1, &mut answers);
    }
    answers.pop().expect("one")
}

fn read_back(offload: &mut Offload, io: Box<ConnIo>) -> Box<ConnIo> {
    offload.read(io).expect("an active pool with credit takes it");
    match answer(offload) {
        Answer::Read(io) => io,
        other => panic!("{other:?}"),
    }
}

fn write_back(offload: &mut Offload, io: Box<ConnIo>) -> Box<ConnIo> {
    offload.write(io).expect("an active pool with credit takes it");
    match answer(offload) {
        Answer::Write(io) => io,
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_thread_means_no_worker() {
    for always_active in [false, true] {
        let mut offload = offload(1, always_active);
        assert_eq!(offload.turn(1, Turn { jobs: 50, ..Turn::default() }), None);
        assert_eq!((offload.pool.threads(), offload.is_accepting()), (0, false));
        assert!(offload.is_quiet() && offload.wake_by(Instant::now()).is_none());
    }
}

/// Whoever changes `io-threads` has as many workers at once, and `auto` follows the CPUs.
#[test]
fn the_number_of_workers_follows_the_configuration_and_the_cpus() {
    let mut offload = offload(1, true);
    for threads in [8, 1, 3, 3, 2] {
        offload.reconfigure(&config(threads, true), &log());
        assert_eq!(offload.pool.threads(), usize::from(threads) - 1);
    }
    let cpus = offload.pool.usable_cpus().count();
    let mut auto = config(1, true);
    auto.io_threads = Threads::Auto;
    offload.reconfigure(&auto, &log());
    assert_eq!(offload.pool.threads(), cpus - 1);
    // As if there had been others when it was last derived.
    offload.scaling = Scaling::Fixed(cpus + 3);
    offload.pool.rescale(offload.scaling).expect("threads");
    offload.turn(1, Turn::default());
    assert_eq!(offload.pool.threads(), cpus - 1);
}

/// As at the start, operators are told of threads that will not be used, once for each such number.
#[test]
fn a_surplus_of_threads_is_told_when_it_is_configured() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("log");
    let log = Log::new(Level::Warning, Some(path.clone()));
    let mut offload = offload(1, false);
    let most = u16::try_from(offload.pool.usable_cpus().count()).expect("few CPUs");
    let surplus = most + 1;
    let mut told = Vec::new();
    for threads in [surplus, surplus, most, surplus] {
        offload.reconfigure(&config(threads, false), &log);
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(text.lines().all(|line| line.contains("More io-threads are configured")), "{text}");
        told.push(text.lines().count());
    }
    assert_eq!(told, [1, 1, 1, 2]);
}

/// What a sleep costs, and the system call of who ends it, is to be seen.
#[test]
fn sleeps_that_workers_end_are_counted() {
    let bell = Bell::new(|| {});
    let mut offload = Offload::new(&config(2, true), Arc::clone(&bell)).expect("threads");
    let shown = |offload: &Offload| {
        let mut text = String::new();
        offload.write_info(&mut text);
        let line = text.lines().find_map(|line| line.strip_prefix("io_threads_main_wakes:"));
        line.map(str::to_owned).expect("the field")
    };
    assert_eq!(shown(&offload), "0");
    let (mut half, _peer) = pair(1);
    let until = Instant::now() + DEADLINE;
    loop {
        offload.read(half).expect("taken");
        if offload.before_sleep() {
            break;
        }
        // The answer was there before the sleep.
        offload.after_sleep();
        assert!(Instant::now() < until, "main never sleeps");
        half = match answer(&mut offload) {
            Answer::Read(half) => half,
            other => panic!("{other:?}"),
        };
    }
    while bell.wakes() == 0 {
        assert!(Instant::now() < until, "nobody ends the sleep");
    }
    offload.after_sleep();
    assert_eq!(shown(&offload), bell.wakes().to_string());
}

/// Work that is not even offered is counted, under the reason that the pool had for it.
#[test]
fn jobs_that_are_not_offered_are_counted() {
    let mut offload = offload(2, false);
    for turn in 0..10 {
        // Five of them within a millisecond in which the pool was looked at.
        offload.turn(turn / 2, Turn { jobs: 7, ..Turn::default() });
    }
    offload.note_ineligible();
    offload.turn(100, Turn::default());
    let refused = offload.pool.stats().refused;
    assert_eq!((refused.inactive, refused.ineligible), (70, 1));
}

#[test]
fn a_worker_reads_and_parses_what_came_and_leaves_the_rest() {
    let mut offload = offload(2, true);
    let (mut io, mut peer) = pair(7);
    io = read_back(&mut offload, io);
    assert_eq!((io.received, io.waiting()), (Received::Drained, 0), "nothing was sent");
    peer.write_all(b"*1\r\n$4\r\nPING\r\n*2\r\n$3\r\nGET\r\n$3\r\nab").expect("a socket");
    io = until_waiting(&mut offload, io, 1);
    assert_eq!((io.owner, io.waiting()), (Token(7), 1), "the second is not complete");
    io.pop();
    peer.write_all(b"c\r\n").expect("a socket");
    io = until_waiting(&mut offload, io, 1);
    match io.front() {
        Some((Next::Known(request), _)) => assert_eq!(request.arg(1), b"abc"),
        other => panic!("{other:?}"),
    }
    io.pop();
    drop(peer);
    while io.received != Received::Eof {
        io = read_back(&mut offload, io);
    }
}

/// Reads until `count` requests are there: the peer's bytes take their time.
fn until_waiting(offload: &mut Offload, mut io: Box<ConnIo>, count: usize) -> Box<ConnIo> {
    let until = Instant::now() + DEADLINE;
    while io.waiting() < count {
        assert!(Instant::now() < until, "{} of {count} requests", io.waiting());
        io = read_back(offload, io);
    }
    io
}

/// What a job may read or write at most.
const BUDGET: u64 = 64 << 10;

/// A reply of megabytes takes many jobs, not one, and arrives whole (valkey 3438: one job wrote
/// without bound). So do shared strings, of which one call could send 64, and bytes in one piece.
#[test]
fn a_job_writes_its_budget_and_no_more() {
    let part: Arc<Vec<u8>> = Arc::new((0..64 << 10).map(|n: u32| (n % 251) as u8).collect());
    let reply = [b"$65536\r\n", &part[..], b"\r\n"].concat().repeat(128);
    for shared in [true, false] {
        let mut offload = offload(2, true);
        let (mut io, mut peer) = pair(1);
        if shared {
            (0..128).for_each(|_| Reply::new(&mut io.out, Proto::Resp2).bulk_shared(&part));
        } else {
            io.out.raw(&reply);
        }
        let bytes = reply.len();
        let reader = std::thread::spawn(move || {
            let mut got = vec![0; bytes];
            peer.read_exact(&mut got).expect("the whole reply");
            got
        });
        let mut parts = 0;
        loop {
            io = write_back(&mut offload, io);
            let (_, sent) = io.take_traffic();
            assert!(sent <= BUDGET, "{sent}");
            match io.sent {
                Sent::All => break,
                // The socket would have taken more.
                Sent::Part => parts += 1,
                Sent::Blocked => {}
                Sent::Broken => panic!("the peer reads"),
            }
        }
        assert!(io.out.is_empty() && parts > 0, "{parts}");
        assert!(reader.join().expect("no panic") == reply);
    }
}

/// Room for a large argument grows with what came of it; a read does not.
#[test]
fn a_job_reads_its_budget_and_no_more() {
    let mut offload = offload(2, true);
    let (mut io, mut peer) = pair(1);
    let value = vec![7; 1 << 20];
    let request = [b"*2\r\n$4\r\nECHO\r\n$1048576\r\n", &value[..], b"\r\n"].concat();
    let writer = std::thread::spawn(move || peer.write_all(&request).map(|()| peer));
    let until = Instant::now() + DEADLINE;
    while io.waiting() == 0 {
        assert!(Instant::now() < until, "no request");
        io = read_back(&mut offload, io);
        let (received, _) = io.take_traffic();
        assert!(received <= BUDGET, "{received}");
    }
    match io.front() {
        Some((Next::Known(request), _)) => assert!(request.arg(1) == value),
        other => panic!("{other:?}"),
    }
    writer.join().expect("no panic").expect("all was read");
}

fn poller() -> (Box<Poller>, Registry) {
    let poller = Poller::new(Poll::new().expect("a descriptor"), 8);
    let registry = poller.registry().expect("a descriptor");
    (Box::new(poller), registry)
}

/// A worker finds what became ready, also what was registered while it had the poller.
#[test]
fn a_worker_looks_for_readiness_while_a_half_is_away() {
    let mut offload = offload(2, true);
    let (poller, registry) = poller();
    let mut poller =
        offload.poll(poller).expect_err("with no half away there is no answer to take");
    let (away, _other) = pair(1);
    let (mut io, mut peer) = pair(2);
    offload.read(away).expect("taken");
    offload.poll(poller).expect("taken");
    registry.register(io.stream_mut(), Token(2), Interest::READABLE).expect("a descriptor");
    peer.write_all(b"x").expect("a socket");
    let until = Instant::now() + DEADLINE;
    loop {
        assert!(Instant::now() < until, "nothing was found");
        match answer(&mut offload) {
            Answer::Poll(back) => poller = back,
            Answer::Read(away) => {
                offload.read(away).expect("taken");
                continue;
            }
            other => panic!("{other:?}"),
        }
        let found: Vec<_> = poller.events().expect("no error").iter().map(|e| e.token()).collect();
        if !found.is_empty() {
            assert_eq!(found, [Token(2)]);
            break;
        }
        // The other half is away or comes back next; either way it can be lent again.
        while let Err(refused) = offload.poll(poller) {
            poller = refused;
            match answer(&mut offload) {
                Answer::Read(away) => offload.read(away).expect("taken"),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn a_refused_job_leaves_everything_as_it_was() {
    // Adaptive, and nothing was ever sampled: no worker is active.
    let mut offload = offload(2, false);
    let (mut io, mut peer) = pair(3);
    io.out.raw(b"+OK\r\n");
    let io = offload.read(io).expect_err("nobody would do it");
    let io = offload.close(io).expect_err("nobody would do it");
    let mut io = offload.write(io).expect_err("nobody would do it");
    assert_eq!((io.owner, io.out.len(), io.waiting()), (Token(3), 5, 0));
    let (poller, registry) = poller();
    registry.register(io.stream_mut(), Token(3), Interest::WRITABLE).expect("a descriptor");
    let mut poller = offload.poll(poller).expect_err("nobody would do it");
    poller.look(DEADLINE);
    assert_eq!(poller.events().expect("no error").iter().count(), 1, "it is as it was");
    let parts = big_parts();
    let bytes = parts.memory_bytes();
    let parts = offload.free(parts).expect_err("nobody would do it");
    assert_eq!((parts.memory_bytes(), offload.freeing_bytes()), (bytes, 0));
    assert_eq!(io.send(), Sent::All);
    let mut got = [0; 5];
    peer.read_exact(&mut got).expect("the reply");
    assert_eq!(&got, b"+OK\r\n");
}

/// A panic in a job costs its client the connection and nobody else anything.
#[test]
fn a_panic_loses_one_connection_and_the_worker_goes_on() {
    let mut offload = offload(2, true);
    let (mut io, mut peer) = pair(9);
    io.limits.bytes_max = PANIC;
    offload.read(io).expect("taken");
    match answer(&mut offload) {
        Answer::Lost(whose) => assert_eq!(whose.0, Token(9)),
        other => panic!("{other:?}"),
    }
    assert_eq!(peer.read(&mut [0; 1]).expect("an orderly close"), 0, "the socket is closed");
    let (io, _peer) = pair(10);
    assert_eq!(read_back(&mut offload, io).owner, Token(10));
    let stats = offload.pool.stats();
    assert_eq!((stats.in_flight, stats.workers[0].panics), (0, 1));
}

fn big_parts() -> Parts {
    let rules = Rules::new(HashKey::new([1; 16]));
    let mut set = Set::new();
    (0..100_000_u32).for_each(|n| _ = set.add(format!("member:{n}").as_bytes(), &rules));
    Object::from(set).into_parts()
}

#[test]
fn memory_counts_as_used_until_a_worker_has_freed_it() {
    let mut offload = offload(2, true);
    let parts = big_parts();
    let bytes = parts.memory_bytes();
    offload.free(parts).expect("taken");
    assert_eq!(offload.freeing_bytes(), bytes);
    let until = Instant::now() + DEADLINE;
    while offload.freeing_bytes() > 0 {
        assert!(Instant::now() < until, "{} bytes are left", offload.freeing_bytes());
        let _ = offload.before_sleep();
        offload.after_sleep();
        // Slices that used up their budget come back through here.
        offload.drain(1, &mut Vec::new());
        offload.turn(0, Turn::default());
    }
    assert_eq!(offload.pool.in_flight(), 0);
}

/// The number of workers, and whether they are always active, change while jobs are out.
#[test]
fn reconfiguring_loses_no_half() {
    const HALVES: usize = 64;
    let mut offload = offload(3, true);
    let (mut halves, _peers): (Vec<_>, Vec<_>) = (0..HALVES).map(pair).unzip();
    for round in 0..100 {
        let refused: Vec<_> = halves.drain(..).filter_map(|io| offload.read(io).err()).collect();
        let threads = [3, 1, 9, 2][round / 2 % 4];
        offload.reconfigure(&config(threads, round % 2 == 1), &log());
        let mut answers = Vec::new();
        offload.settle(&mut answers).expect("jobs end");
        halves.extend(refused);
        halves.extend(answers.into_iter().map(|answer| match answer {
            Answer::Read(io) => io,
            other => panic!("{other:?}"),
        }));
        let mut owners: Vec<_> = halves.iter().map(|io| io.owner.0).collect();
        owners.sort_unstable();
        assert!(owners.into_iter().eq(0..HALVES), "round {round}");
    }
}

#[test]
fn the_report_has_a_line_for_each_worker_and_reading_it_wakes_nobody() {
    let mut offload = offload(3, true);
    let (io, _peer) = pair(1);
    drop(read_back(&mut offload, io));
    let parts = Object::from(Set::new()).into_parts();
    offload.pool.submit_to(1, Job::Free(Box::new(parts))).map_err(|_| ()).expect("room");
    offload.pool.commit();
    let parks =
        |offload: &Offload| -> u64 { offload.pool.stats().workers.iter().map(|w| w.parks).sum() };
    let wakes = |offload: &Offload| {
        let stats = offload.pool.stats();
        stats.wakes + stats.workers.iter().map(|worker| worker.wakes).sum::<u64>()
    };
    let until = Instant::now() + DEADLINE;
    // Both workers sleep once each wake-up has been slept off, and the first sleep of each.
    while parks(&offload) < 2 + wakes(&offload) {
        assert!(Instant::now() < until, "idle workers park");
    }
    let before = (wakes(&offload), parks(&offload));
    let mut text = String::new();
    for _ in 0..100 {
        text.clear();
        offload.write_info(&mut text);
        assert_eq!(offload.decisions().len(), 1, "the start of a fixed pool");
    }
    assert_eq!((wakes(&offload), parks(&offload)), before);
    for name in ["io_threads_configured:3", "io_threads_active_workers:2", "io_thread_1:active=1"] {
        assert!(text.contains(name), "{name} in {text}");
    }
    let second = text.lines().find(|line| line.starts_with("io_thread_2:")).expect("its line");
    assert!(second.contains(",jobs_high=0,jobs_private=1,"), "{second}");
    let done = |line: &str| line.contains(",jobs=1,jobs_high=0,");
    assert_eq!(text.lines().filter(|line| done(line)).count(), 1, "who has read: {text}");
    assert!(text.lines().all(|line| line.contains(':')) && text.ends_with("\r\n"));
}

/// Sockets that wait to be closed when the workers go are closed all the same, and the pool is as
/// quiet as one that never had a job.
#[test]
fn every_socket_is_closed_also_when_the_workers_go() {
    for workers_go in [false, true] {
        let mut offload = offload(3, true);
        // Not a multiple of sixteen: the last are not published when the workers are told to go.
        let (halves, peers): (Vec<_>, Vec<_>) = (0..70).map(pair).unzip();
        let mut bytes = 0;
        for io in halves {
            bytes += io.memory_bytes() as u64;
            offload.close(io).expect("taken");
        }
        if !workers_go {
            assert!((1..=bytes).contains(&offload.pool.pending_free_bytes()), "the last six wait");
        }
        if workers_go {
            offload.pool.rescale(Scaling::Fixed(0)).expect("no thread is started");
        }
        let _ = offload.before_sleep();
        offload.after_sleep();
        let until = Instant::now() + DEADLINE;
        let mut now_ms = 0;
        while offload.pool.in_flight() > 0 {
            assert!(Instant::now() < until, "{} are left", offload.pool.in_flight());
            now_ms += 1;
            offload.turn(now_ms, Turn::default());
            assert_eq!(offload.drain(1, &mut Vec::new()), 0, "nobody is told");
        }
        for mut peer in peers {
            assert_eq!(peer.read(&mut [0; 1]).expect("an orderly close"), 0);
        }
        assert_eq!((offload.is_quiet(), offload.lent), (workers_go, 0));
    }
}

/// What the event loop relies on when it closes sockets without deregistering them: the poller
/// forgets a socket that is closed, and its number, used again, belongs to its new owner alone.
#[test]
fn a_closed_socket_is_forgotten_by_the_poller() {
    const NEXT: usize = 32;
    let (mut poller, registry) = poller();
    let until = Instant::now() + DEADLINE;
    // Other tests may open descriptors meanwhile.
    while Instant::now() < until {
        let (mut old, mut peer) = pair(1);
        let listener = listener();
        let mut peers: Vec<_> = (0..NEXT).map(|_| peer_of(&listener)).collect();
        registry.register(old.stream_mut(), Token(1), Interest::READABLE).expect("a descriptor");
        peer.write_all(b"readiness that nobody has seen").expect("a socket");
        let number = old.fd();
        drop(old);
        // From here on only accepting takes numbers, the lowest that is free.
        let mut halves: Vec<_> = (0..NEXT).map(|_| half(&listener, 2)).collect();
        let Some(place) = halves.iter().position(|io| io.fd() == number) else { continue };
        let stream = halves[place].stream_mut();
        registry.register(stream, Token(2), Interest::READABLE).expect("it is not registered");
        peers[place].write_all(b"x").expect("a socket");
        poller.look(DEADLINE);
        let tokens: Vec<_> = poller.events().expect("no error").iter().map(|e| e.token()).collect();
        assert_eq!(tokens, [Token(2)]);
        return;
    }
    panic!("no number was used again");
}

/// A worker accepts in batches, in the order of the backlog, and tells whether others may wait; a
/// listener that is refused is as it was.
#[test]
fn a_worker_accepts_a_batch_of_connections() {
    const PEERS: usize = BATCH_MAX + 10;
    let mut offload = offload(2, true);
    let listener = listener();
    let peers: Vec<Peer> = (0..PEERS).map(|_| peer_of(&listener)).collect();
    let acceptor = Box::new(Acceptor::new(listener, 5));
    let mut acceptor = offload.accept(acceptor).expect_err("nobody is awake for it");
    let (away, _peer) = pair(1);
    let mut away = Some(away);
    let mut came = Vec::new();
    let until = Instant::now() + DEADLINE;
    loop {
        assert!(Instant::now() < until, "{} have come", came.len());
        offload.read(away.take().expect("back")).expect("taken");
        offload.accept(acceptor).expect("taken");
        let mut back = None;
        while back.is_none() || away.is_none() {
            match answer(&mut offload) {
                Answer::Accept(acceptor) => back = Some(acceptor),
                Answer::Read(io) => away = Some(io),
                other => panic!("{other:?}"),
            }
        }
        acceptor = back.expect("it came");
        assert_eq!(acceptor.index, 5);
        let (batch, end) = acceptor.take();
        let batch: Vec<Accepted> = batch.map(|one| one.expect("its peer is there")).collect();
        assert!(batch.len() <= BATCH_MAX, "{}", batch.len());
        came.extend(batch.iter().map(|one| (one.peer, one.local)));
        match end {
            End::Drained => break,
            End::More => {}
            End::Failed(error) => panic!("{error}"),
        }
    }
    let address = |peer: &Peer| {
        (peer.local_addr().expect("a socket"), peer.peer_addr().expect("a connected one"))
    };
    assert_eq!(came, peers.iter().map(address).collect::<Vec<_>>());
}
