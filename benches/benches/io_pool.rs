//! What the pool costs: one job there and back, seen from the main thread and from the clock.
//!
//! `cargo bench -p flintlock-benches --bench io_pool`. Main is pinned to the first allowed CPU, the
//! worker to the second; with fewer than two CPUs only the inline row means anything.
//!
//! Questions, one group each: what does a hand-over cost amortised (by the clock, pipelined); what
//! of it does the main thread pay (its own CPU time, no waiting); what is a round trip.
//!
//! Two spinning threads need two whole CPUs. Where others take one away for a slice, the mean tells
//! of them and not of the pool; so clock times are those of the fastest tenth of many short bursts,
//! each far shorter than a slice.

use std::hint::black_box;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use flintlock_iothreads::{
    Bell, Context, CpuList, Handler, Options, Outcome, Panic, Pool, thread_cpu_time,
};
use flintlock_queues::Words;

/// Adds one to a boxed number; the box is the word.
struct Adding;

#[repr(align(16))]
struct Number(u64);

impl Handler for Adding {
    type Job = Box<Number>;
    type Answer = Box<Number>;
    type Layout = Words;
    type Owner = ();
    type Local = ();

    fn local(&self, _worker: usize) {}

    fn owner(&self, _job: &Box<Number>) {}

    fn run(
        &self,
        mut job: Box<Number>,
        _context: &mut Context<'_, ()>,
    ) -> Outcome<Box<Number>, Box<Number>> {
        job.0 += 1;
        Outcome::Done(job)
    }

    fn panicked(&self, (): (), _panic: &Panic) -> Option<Box<Number>> {
        None
    }
}

/// A pool with one worker that spins long enough not to park within a sample.
fn pool(claim_max: usize) -> Pool<Adding> {
    // Once: afterwards main is pinned and would see its own CPU only.
    static ALLOWED: OnceLock<Option<CpuList>> = OnceLock::new();
    let allowed = ALLOWED.get_or_init(CpuList::allowed);
    let worker = allowed.as_ref().map(|list| list.cpu_for(1).to_string());
    let options = Options {
        claim_max,
        spin: Duration::from_millis(50),
        worker_cpus: worker.and_then(|cpu| cpu.parse().ok()),
        ..Options::blocking(1)
    };
    let pool = Pool::new(Adding, Bell::new(|| ()), options).expect("threads can be started");
    assert!(allowed.as_ref().is_none_or(|list| list.pin_current(0)), "main is pinned");
    pool
}

/// Jobs of one burst.
const BURST: usize = 512;

/// The jobs that go round; one word each, so the boxes are what is moved.
type Jobs = Vec<Box<Number>>;

fn jobs() -> Jobs {
    (0..BURST).map(|number| Box::new(Number(number as u64))).collect()
}

/// Sends all jobs round once, in batches, while answers are taken in batches too.
fn burst(pool: &mut Pool<Adding>, jobs: &mut Jobs, batch: usize) -> Duration {
    let mut out = std::mem::replace(jobs, Vec::with_capacity(BURST));
    let from = Instant::now();
    while jobs.len() < BURST {
        for job in out.drain(out.len() - out.len().min(batch)..) {
            pool.submit(job).expect("credits for all");
        }
        pool.commit();
        pool.drain(batch, |job| jobs.push(job));
    }
    from.elapsed()
}

/// `count` times what one of `each` took in the fastest tenth of the bursts.
fn quiet(count: u64, each: usize, mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    let fast = &times[..times.len().div_ceil(10)];
    let sum: Duration = fast.iter().sum();
    sum.mul_f64(count as f64 / (fast.len() * each) as f64)
}

fn hand_over(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hand_over");
    group.throughput(Throughput::Elements(1));
    for batch in [1, 16, 64] {
        group.bench_function(format!("batch_{batch}"), |bencher| {
            let (mut pool, mut jobs) = (pool(8), jobs());
            bencher.iter_custom(|count| {
                let bursts = count.div_ceil(BURST as u64).max(50);
                let times = (0..bursts).map(|_| burst(&mut pool, &mut jobs, batch)).collect();
                quiet(count, BURST, times)
            });
        });
    }
    group.bench_function("inline", |bencher| {
        let mut job = Box::new(Number(0));
        bencher.iter(|| black_box(&mut job).0 += 1);
    });
    group.finish();
}

fn main_thread(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("main_thread");
    group.throughput(Throughput::Elements(1));
    for batch in [1, 16, 64] {
        group.bench_function(format!("batch_{batch}"), |bencher| {
            let (mut pool, mut jobs) = (pool(8), jobs());
            bencher.iter_custom(|count| {
                // One round at a time: submit all, let the worker finish, then drain, so that no
                // part of the figure is a wait.
                let mut main = Duration::ZERO;
                let mut left = count;
                while left > 0 {
                    let round = usize::try_from(left.min(BURST as u64)).expect("small");
                    let cpu = thread_cpu_time().expect("the system tells CPU time");
                    for chunk in 0..round.div_ceil(batch) {
                        let size = batch.min(round - chunk * batch);
                        for job in jobs.drain(jobs.len() - size..) {
                            pool.submit(job).expect("credits for all");
                        }
                        pool.commit();
                    }
                    main += thread_cpu_time().expect("the system tells CPU time") - cpu;
                    std::thread::sleep(Duration::from_micros(100));
                    let cpu = thread_cpu_time().expect("the system tells CPU time");
                    while jobs.len() < BURST {
                        pool.drain(batch, |job| jobs.push(job));
                    }
                    main += thread_cpu_time().expect("the system tells CPU time") - cpu;
                    left -= round as u64;
                }
                main
            });
        });
    }
    group.finish();
}

fn round_trip(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("round_trip");
    // A worker that spins, and one that has parked.
    for (name, pause) in [("spinning", 0), ("parked", 60)] {
        group.bench_function(name, |bencher| {
            let mut pool = pool(1);
            let mut job = Some(Box::new(Number(0)));
            bencher.iter_custom(|count| {
                let trip = || {
                    std::thread::sleep(Duration::from_millis(pause));
                    let from = Instant::now();
                    pool.submit(job.take().expect("back")).expect("a credit");
                    pool.commit();
                    while job.is_none() {
                        pool.drain(1, |answer| job = Some(answer));
                    }
                    from.elapsed()
                };
                let trips = if pause == 0 { count.max(1000) } else { 10 };
                quiet(count, 1, std::iter::repeat_with(trip).take(trips as usize).collect())
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2));
    targets = hand_over, main_thread, round_trip
}
criterion_main!(benches);
