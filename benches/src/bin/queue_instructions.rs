//! Runs one single-thread load a given number of times, for callgrind to count.
//!
//! Usage: `queue_instructions LOAD PAIRS`, where `LOAD` is a name that `--list` prints. The count
//! of a pair is the difference between two runs of different length, divided by the difference.

use flintlock_benches::queues::Contender;
use flintlock_benches::queues::contenders::{
    ArrayQueue, ConcurrentQueue, Deque, Disruptor, Kanal, OurCompact, OurPadded, OurWords, Ringbuf,
    Rings, Rtrb, Spmc, Spsc, SyncChannel, ThingBuf,
};
use flintlock_benches::queues::load::{batch_pairs, pairs};

type Run = fn(usize);

fn loads() -> Vec<(String, Run)> {
    let mut loads: Vec<(String, Run)> = Vec::new();
    macro_rules! add {
        ($($contender:ty),+ $(,)?) => {$(
            let name = <$contender as Contender>::NAME;
            loads.push((format!("{name}: pair"), |count| {
                pairs::<$contender>(count, 1);
            }));
            loads.push((format!("{name}: batch 16"), |count| batch_pairs::<$contender>(count, 16)));
            loads.push((format!("{name}: batch 64"), |count| batch_pairs::<$contender>(count, 64)));
        )+};
    }
    add!(
        Spsc<OurWords>,
        Spsc<OurCompact>,
        Spsc<OurPadded>,
        Spmc<OurWords>,
        Spmc<OurCompact>,
        Spmc<OurPadded>,
        Rings<OurWords>,
        Rings<OurCompact>,
        Rtrb,
        Ringbuf,
        Disruptor,
        ArrayQueue,
        ConcurrentQueue,
        Deque,
        ThingBuf,
        Kanal,
        SyncChannel,
    );
    loads
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [list] if list == "--list" => loads().iter().for_each(|(name, _)| println!("{name}")),
        [wanted, count] => {
            let count = count.parse().expect("a number of pairs");
            let all = loads();
            let (_, run) = all.iter().find(|(name, _)| name == wanted).expect("a load of the list");
            run(count);
        }
        _ => panic!("usage: queue_instructions LOAD PAIRS | --list"),
    }
}
