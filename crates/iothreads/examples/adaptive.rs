//! An event loop whose pool has no thread until one pays: jobs that it refuses are done inline.
//!
//! Three seconds: nothing to do, more than one thread can do, and nothing again.
//! `cargo run --release -p flintlock-iothreads --example adaptive`

use std::collections::hash_map::DefaultHasher;
use std::error::Error;
use std::hash::Hasher;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use flintlock_iothreads::{
    Bell, Compact, Context, Handler, IoThreads, Options, Outcome, Panic, Pool, Turn, UsableCpus,
};

/// What a client of the loop sent.
type Request = Arc<[u8]>;

fn work(request: &Request) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(request);
    hasher.finish()
}

struct Hashing;

impl Handler for Hashing {
    type Job = Request;
    type Answer = u64;
    type Layout = Compact;
    type Owner = ();
    type Local = ();

    fn local(&self, _worker: usize) {}

    fn owner(&self, _request: &Request) {}

    fn run(&self, request: Request, _: &mut Context<'_, ()>) -> Outcome<Request, u64> {
        Outcome::Done(work(&request))
    }

    fn panicked(&self, (): (), _panic: &Panic) -> Option<u64> {
        None
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let main_thread = thread::current();
    // A real loop would wake its poller here.
    let bell = Bell::new(move || main_thread.unpark());
    let workers = IoThreads::Auto.workers(&UsableCpus::read());
    let mut pool = Pool::new(Hashing, bell, Options::adaptive(workers))?;

    let request: Request = vec![7; 16 << 10].into();
    let (begun, mut inline, mut answered) = (Instant::now(), 0_u64, 0_u64);
    while begun.elapsed() < Duration::from_secs(3) {
        // What the poller found: here, 32 requests while there is load.
        let jobs = if begun.elapsed().as_secs() == 1 { 32 } else { 0 };
        let turn = Turn { jobs, completed: inline + answered, reserved_cpus: 0 };
        if let Some(change) = pool.tick(&turn) {
            println!("{} workers instead of {}: {}", change.to, change.from, change.reason);
        }
        for _ in 0..jobs {
            // Without a worker, with too few jobs or too many: whatever is refused is done here.
            if let Err(full) = pool.submit(Arc::clone(&request)) {
                std::hint::black_box(work(&full.job));
                inline += 1;
            }
        }
        if pool.before_sleep() && jobs == 0 {
            // The pool says when it wants its next turn; without workers it has no timer at all.
            let limit = pool.timeout().unwrap_or(Duration::MAX);
            thread::park_timeout(limit.min(Duration::from_millis(10)));
        }
        pool.after_sleep();
        answered += pool.drain(256, |hash| _ = std::hint::black_box(hash)) as u64;
    }
    answered += pool.quiesce(None, |_| ())? as u64;
    println!("{inline} requests were done here, {answered} by workers");
    pool.shutdown(|_| ());
    Ok(())
}
