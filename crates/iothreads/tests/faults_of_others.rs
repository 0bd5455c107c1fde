//! Faults that other servers with IO threads had in production, each shown not to happen here, with
//! a sentence why. Named after their reports.
#![cfg(not(loom))]

mod support;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use flintlock_iothreads::{
    Arrival, Bell, Berth, Context, Direction, Handler, Options, Outcome, Panic, Pool, Turn,
};
use flintlock_queues::{Compact, Words};
use support::{Answer, Counted, DEADLINE, Gate, Job, all, fixed, until, until_parked, with};

/// A connection half as a server would have it: what was sent, and a mark that the event loop's
/// registration is in use.
#[derive(Debug, Default)]
struct Half {
    sent: Vec<u8>,
    out: Vec<u8>,
    registered: bool,
}

/// Writes what it is given, after a while, and uses the registration meanwhile.
struct Writing(Arc<Gate>);

impl Handler for Writing {
    type Job = Box<Half>;
    type Answer = Box<Half>;
    type Layout = Compact;
    type Owner = ();
    type Local = ();

    fn local(&self, _worker: usize) {}

    fn owner(&self, _job: &Box<Half>) {}

    fn run(
        &self,
        mut half: Box<Half>,
        _context: &mut Context<'_, ()>,
    ) -> Outcome<Box<Half>, Box<Half>> {
        half.registered = true;
        self.0.stand();
        let out = std::mem::take(&mut half.out);
        half.sent.extend(out);
        half.registered = false;
        Outcome::Done(half)
    }

    fn panicked(&self, (): (), _panic: &Panic) -> Option<Box<Half>> {
        None
    }
}

/// Starts a write job that has come as far as the gate.
fn writing(gate: &Arc<Gate>, berth: &mut Berth<Box<Half>>) -> Pool<Writing> {
    let bell = Bell::new(|| ());
    let mut pool =
        Pool::new(Writing(Arc::clone(gate)), bell, Options::blocking(1)).expect("threads");
    berth.want(Direction::Write);
    let (_, half) = berth.depart().expect("at home and wanted");
    pool.submit(half).expect("credit");
    pool.commit();
    gate.wait_reached();
    pool
}

/// Valkey 4347 and 997: a worker touched the event loop since the flag that postponed that was
/// cleared by the other direction. Not here: the flag is the half itself, which is in the job; no
/// direction can start, and nothing can be cleared, while it travels.
#[test]
fn valkey_4347_no_direction_starts_while_the_other_is_in_flight() {
    let gate = Gate::new();
    let mut berth = Berth::new(Box::<Half>::default());
    let mut pool = writing(&gate, &mut berth);
    for _ in 0..100 {
        berth.want(Direction::Read);
        assert!(berth.depart().is_none(), "the half is with the worker");
        assert!(berth.half().is_none(), "main cannot even look at its registration");
    }
    gate.open();
    pool.quiesce(Some(DEADLINE), |half| assert_eq!(berth.arrive(half), Arrival::Home))
        .expect("in time");
    assert!(!berth.half().expect("back").registered, "the worker was done with it");
    // Both are wanted: that one departs clears nothing that is noted for the other.
    berth.want(Direction::Write);
    let (direction, half) = berth.depart().expect("the latched readiness");
    assert_eq!(direction, Direction::Read);
    assert!(berth.depart().is_none(), "the half is away again");
    assert_eq!(berth.arrive(half), Arrival::Home);
    let (direction, _half) = berth.depart().expect("still wanted");
    assert_eq!(direction, Direction::Write);
}

impl PartialEq for Half {
    fn eq(&self, other: &Self) -> bool {
        self.sent == other.sent
    }
}

/// Valkey 2769: main appended to the reply buffer of a subscriber while a worker was writing it.
/// Not here: the buffer that is being written travels in the job, and what main adds meanwhile has
/// its own; there is no third place.
#[test]
fn valkey_2769_replies_added_during_a_write_keep_out_of_its_way() {
    let gate = Gate::new();
    let mut berth = Berth::new(Box::new(Half { out: b"reply;".to_vec(), ..Half::default() }));
    let mut pool = writing(&gate, &mut berth);
    let mut pending = Vec::new();
    for message in 0..100_u8 {
        assert!(berth.half_mut().is_none());
        pending.push(message);
        berth.want(Direction::Write);
    }
    gate.open();
    let mut arrived = None;
    pool.quiesce(Some(DEADLINE), |half| arrived = Some(half)).expect("in time");
    assert_eq!(arrived.as_ref().expect("back").sent, b"reply;");
    assert_eq!(berth.arrive(arrived.take().expect("back")), Arrival::Home);
    let (_, mut half) = berth.depart().expect("the messages are wanted");
    half.out = std::mem::take(&mut pending);
    pool.submit(half).expect("credit");
    pool.quiesce(Some(DEADLINE), |half| arrived = Some(half)).expect("in time");
    let sent = &arrived.expect("back").sent;
    assert_eq!(sent[6..], (0..100).collect::<Vec<u8>>());
}

/// Boxes of a pattern that only its owner could have written.
struct Patterns;

#[repr(align(16))]
struct Pattern([u64; 8]);

impl Handler for Patterns {
    type Job = Box<Pattern>;
    type Answer = Box<Pattern>;
    type Layout = Words;
    type Owner = ();
    type Local = Vec<u64>;

    fn local(&self, _worker: usize) -> Vec<u64> {
        vec![0]
    }

    fn owner(&self, _job: &Box<Pattern>) {}

    fn run(
        &self,
        mut job: Box<Pattern>,
        context: &mut Context<'_, Vec<u64>>,
    ) -> Outcome<Box<Pattern>, Box<Pattern>> {
        let expected = context.local()[0];
        assert!(job.0.iter().all(|&word| word == expected), "a slot was seen before its content");
        context.local()[0] += 1;
        job.0 = [!expected; 8];
        Outcome::Done(job)
    }

    fn panicked(&self, (): (), panic: &Panic) -> Option<Box<Pattern>> {
        panic!("{:?}", panic.message());
    }
}

/// Valkey 3797: on ARM a producer saw the index move before the slot was empty. Not here: index and
/// slot are one word, published with release and taken with acquire; the loom models of the rings
/// fail if either is weakened, on every architecture at once.
#[test]
fn valkey_3797_a_slot_is_never_seen_before_its_content() {
    const JOBS: u64 = 20_000;
    let options = Options { inbox: 2, claim_max: 8, ..Options::blocking(1) };
    let mut pool = Pool::new(Patterns, Bell::new(|| ()), options).expect("threads");
    let (mut next, mut answered) = (0_u64, 0_u64);
    while answered < JOBS {
        let before = (next, answered);
        while next < JOBS && pool.submit_to(0, Box::new(Pattern([next; 8]))).is_ok() {
            next += 1;
        }
        pool.commit();
        pool.drain(64, |job| {
            assert!(job.0.iter().all(|&word| word == !answered));
            answered += 1;
        });
        // On one CPU the worker gets it only when main does not want it.
        let is_idle = (next, answered) == before;
        assert!(!is_idle || pool.wait(Some(DEADLINE)), "{next} jobs went, {answered} came back");
    }
}

/// Valkey 3611 and 4401: to serve one transport that completes synchronously, every completion took
/// a second pass over its client, and all others paid for it. Not here: an answer is handed over
/// once, and main cannot be re-entered from it, since the pool is borrowed while it drains.
#[test]
fn valkey_3611_each_completion_is_handled_in_one_pass() {
    let mut pool = fixed(2);
    let mut visits = vec![0_u32; 900];
    for job in 0..900 {
        pool.submit(Job::Echo(job)).expect("credit");
    }
    let mut calls = 0;
    let drained = pool
        .quiesce(Some(DEADLINE), |answer| {
            calls += 1;
            visits[usize::try_from(answer.number()).expect("small")] += 1;
        })
        .expect("in time");
    assert_eq!((drained, calls), (900, 900));
    assert!(visits.iter().all(|&count| count == 1));
    assert_eq!(pool.drain(1000, |_| ()), 0);
}

/// Valkey 4701: workers were not joined at exit, and what they had was never freed. Not here: the
/// pool owns its threads, and its drop closes their inboxes and joins them.
#[test]
fn valkey_4701_threads_are_joined_and_what_they_had_is_dropped() {
    struct Local(Arc<AtomicUsize>);
    impl Drop for Local {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }
    struct Counting(Arc<AtomicUsize>);
    impl Handler for Counting {
        type Job = u64;
        type Answer = u64;
        type Layout = Compact;
        type Owner = ();
        type Local = Local;

        fn local(&self, _worker: usize) -> Local {
            self.0.fetch_add(1, Ordering::SeqCst);
            Local(Arc::clone(&self.0))
        }

        fn owner(&self, _job: &u64) {}

        fn run(&self, job: u64, _context: &mut Context<'_, Local>) -> Outcome<u64, u64> {
            Outcome::Done(job)
        }

        fn panicked(&self, (): (), _panic: &Panic) -> Option<u64> {
            None
        }
    }
    let alive = Arc::new(AtomicUsize::new(0));
    let handler = Counting(Arc::clone(&alive));
    let pool = Pool::new(handler, Bell::new(|| ()), Options::blocking(4)).expect("threads");
    until("all threads run", || alive.load(Ordering::SeqCst) == 4);
    drop(pool);
    assert_eq!(alive.load(Ordering::SeqCst), 0, "each thread has ended by now");
}

/// Valkey 3438, review: main waited for workers and workers for room in the outbox. Not here: a job
/// is only taken if there is room for its answer, so a worker never waits for main; and draining
/// takes answers out while it waits.
#[test]
fn valkey_3438_draining_cannot_deadlock_on_a_full_outbox() {
    let mut pool = with(Options { credits: 2, ..Options::blocking(4) });
    let mut answers = 0;
    let mut waiting: VecDeque<Job> = (0..300).map(|job| Job::Steps(2, job)).collect();
    while answers < 300 {
        // Main fills up without looking at the answers, while workers make some; then it waits for
        // all. Room in the lane is none in an outbox, so it is refused all the same.
        let mut refusals = 0;
        while refusals < 8
            && let Some(job) = waiting.pop_front()
        {
            if let Err(full) = pool.submit(job) {
                waiting.push_front(full.job);
                refusals += 1;
            }
            assert!(pool.in_flight() <= 2, "more jobs than places for their answers");
            pool.commit();
            std::thread::yield_now();
        }
        // In time, or it fails.
        answers += all(&mut pool).len();
    }
}

/// Redis 15311: after saturation one IO thread kept spinning for ever. Not here: what a worker
/// looks at before it sleeps is emptied by its own pass, nothing stays armed, so it parks.
#[cfg(target_os = "linux")]
#[test]
fn redis_15311_no_worker_spins_after_saturation() {
    let mut pool =
        with(Options { spin: Duration::from_micros(20), claim_max: 8, ..Options::blocking(4) });
    for round in 0..50 {
        for job in 0..500 {
            pool.submit(Job::Steps(3, job + round)).expect("credit");
        }
        pool.submit_high(Job::Echo(0)).expect("credit");
        pool.submit_to(3, Job::Echo(0)).expect("credit");
        all(&mut pool);
    }
    let workers_cpu = |pool: &Pool<support::Deeds>| {
        let stats = pool.stats();
        let parks = stats.workers.iter().map(|worker| worker.parks).sum::<u64>();
        (stats.times.useful + stats.times.spun, parks)
    };
    until_parked(&pool);
    let before = workers_cpu(&pool);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(workers_cpu(&pool), before, "not a nanosecond, not a wake-up");
}

/// Valkey 3509: polling INFO re-activated the threads. Not here: reading copies counters and
/// touches neither queues nor states.
#[test]
fn valkey_3509_reading_figures_wakes_and_activates_nothing() {
    let mut pool = fixed(3);
    let mut adaptive = with(Options::adaptive(3));
    until("everybody parks", || pool.stats().workers.iter().all(|worker| worker.parks == 1));
    for _ in 0..1000 {
        let stats = pool.stats();
        assert!(stats.workers.iter().all(|worker| worker.parks == 1));
        assert_eq!(stats.wakes, 0);
        assert_eq!(pool.pending_free_bytes(), 0);
        assert_eq!(adaptive.stats().active, 0);
        assert_eq!(adaptive.decisions().len(), 0);
    }
    adaptive.tick(&Turn::default());
    assert_eq!((adaptive.threads(), adaptive.timeout()), (0, None));
    assert!(matches!(all(&mut pool)[..], []));
}

/// Valkey 2814, Redis 14249 and others: a client was freed while a worker had it. Not here: closing
/// gives the half out when it comes home, exactly once, and until then there is nothing to free.
#[test]
fn valkey_2814_a_client_closed_in_flight_is_freed_once_when_it_is_back() {
    let alive = Arc::new(AtomicUsize::new(0));
    let mut pool = fixed(2);
    let mut berths: Vec<Berth<Counted>> =
        (0..200).map(|_| Berth::new(Counted::new(&alive))).collect();
    for round in 0..20_usize {
        for (place, berth) in berths.iter_mut().enumerate() {
            berth.want(Direction::Read);
            if let Some((_, half)) = berth.depart() {
                pool.submit(Job::Hold(half, place as u64)).expect("credit");
            }
            if (place + round) % 17 == 0 && !berth.is_closing() {
                // At home it is dropped here; in flight, when it arrives.
                drop(berth.close());
            }
        }
        let mut closed = 0;
        pool.quiesce(Some(DEADLINE), |answer| {
            let Answer::Held(half, place) = answer else { panic!("{answer:?}") };
            let berth = &mut berths[usize::try_from(place).expect("small")];
            if let Arrival::Closed(half) = berth.arrive(half) {
                closed += 1;
                drop(half);
            }
        })
        .expect("in time");
        let open = berths.iter().filter(|berth| !berth.is_closing()).count();
        assert_eq!(alive.load(Ordering::SeqCst), open, "{closed} closed in flight");
    }
}
