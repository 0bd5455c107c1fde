//! Running jobs, one by one and on a pool.

use std::time::Instant;

use flintlock_iothreads::Bell;

use super::*;
use crate::cache::map::CodecDecode;
use crate::exec::{JobPool, forbid_jobs_here};
use crate::storage::fault::{Call, Fault, FaultStore};
use crate::storage::memory::MemoryStore;

/// Readers waited for each other before the engine's locks, after each read.
#[test]
fn reads_ask_for_the_figures_of_the_engine_now_and_then() {
    let worker = Worker::new(Arc::new(MemoryStore::new()), CodecDecode::<Vec<u8>>::default());
    let key = |n: u64| KeyRef { space: Space(1), hash: n, key: b"key" }.to_buf();
    let load = |count: u64| {
        let id = TokenId { index: 0, generation: 0 };
        let loads = vec![id; usize::try_from(count).expect("a few")];
        Job(Work::Load(LoadJob { loads, keys: (0..count).map(key).collect() }))
    };
    let looks = (0..320).filter(|_| worker.run(load(1)).stats.is_some()).count();
    assert_eq!(looks, 10);
    assert!(worker.run(load(READS_PER_LOOK)).stats.is_some(), "many keys in one job");
    assert!(worker.run(Job(Work::Look)).stats.is_some(), "what is asked for is told");
}

/// Reads that hang and found no place any more held up whatever came behind them, the journal
/// included.
#[test]
fn any_number_of_reads_that_hang_holds_up_nothing_but_reads() {
    let faults = Arc::new(FaultStore::new(Arc::new(MemoryStore::new()), 1));
    faults.rate(Call::Get, Fault::Hang, 1);
    let storage: Arc<dyn Storage> = Arc::clone(&faults) as _;
    let worker = Worker::new(storage, CodecDecode::<Vec<u8>>::default());
    let mut pool = JobPool::new(worker, 0, Bell::new(|| {})).expect("threads");
    for n in 0..5000 {
        let keys = vec![KeyRef { space: Space(1), hash: n, key: b"key" }.to_buf()];
        let loads = vec![TokenId { index: 0, generation: 0 }];
        pool.push(Job(Work::Load(LoadJob { loads, keys })));
    }
    pool.push(Job(Work::Examine));
    let until = Instant::now() + Duration::from_secs(60);
    let (mut reads, mut others) = (0, 0);
    while reads < 5000 {
        if Instant::now() > until {
            faults.mend();
            panic!("{reads} reads and {others} others");
        }
        pool.commit();
        pool.drain(usize::MAX, |done| match done.kind() {
            JobKind::Load => reads += 1,
            _ => others += 1,
        });
        if others == 1 && faults.hanging() > 0 {
            assert_eq!(reads, 0, "they hang");
            faults.mend();
        }
        std::thread::yield_now();
    }
}

#[test]
fn a_job_is_run_by_workers_and_never_by_the_loop() {
    let store = Arc::new(MemoryStore::new());
    let worker = Worker::new(store, CodecDecode::<Vec<u8>>::default());
    let job = || Job(Work::Examine);
    assert_eq!(worker.run(job()).kind(), job().kind(), "anybody may, who is no loop");
    let forbidden = std::thread::scope(|scope| {
        let on_a_loop = scope.spawn(|| {
            forbid_jobs_here();
            worker.run(job());
        });
        on_a_loop.join()
    });
    assert_eq!(forbidden.is_err(), cfg!(debug_assertions));
    worker.run(job());
}

/// Nobody knew whether the batch was in, of which the engine had never heard, and that it had
/// panicked was what the log said.
#[test]
fn a_value_that_cannot_be_encoded_fails_its_batch_and_leaves_nothing_in_doubt() {
    let store = Arc::new(MemoryStore::new());
    let storage: Arc<dyn Storage> = Arc::clone(&store) as _;
    let worker = Worker::new(storage, CodecDecode::<Vec<u8>>::default());
    let encode: fn() -> Arc<[u8]> = || panic!("a value that is not what it should be");
    let payload = Payload::Later { len_bytes: 1, encode: Box::new(encode) };
    let key = KeyRef { space: Space(1), hash: 1, key: b"key" }.to_buf();
    let record = Some(OutgoingRecord { seq: Seq(1), expires_at_ms: None, payload });
    let writes = vec![Outgoing { key, before: Before::Unknown, record }];
    let done = worker.run(Job(Work::Commit(CommitJob { writes, meta: Meta::default() })));
    let Outcome::Commit(Err(failure)) = done.outcome else { panic!("{done:?}") };
    assert_eq!(failure, Failure { kind: ErrorKind::Corrupt, what: ENCODER_PANICKED });
}
