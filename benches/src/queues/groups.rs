//! What is measured: loads and the queues they are put on, group by group.
//!
//! Owns nothing. A group is one table: its loads are the columns, its contenders the rows.

use super::Contender;
use super::contenders::{
    ArrayQueue, ConcurrentQueue, Deque, Disruptor, Kanal, OurCompact, OurPadded, OurWords, Ringbuf,
    Rings, Rtrb, Shared, Spmc, Spsc, SyncChannel, ThingBuf,
};
use super::load::{Stream, pairs, round_trip_ns};

/// One thing done with a queue.
#[derive(Clone, Copy, Debug)]
pub enum Load {
    /// Push and pop on one thread.
    Pairs,
    /// Items from thread to thread.
    Stream(Stream),
    /// One item there and back.
    RoundTrip,
}

/// Puts a load on a contender with so many items; nanoseconds an item.
pub type Run = fn(Load, usize) -> f64;

fn run<C: Contender>(load: Load, items: usize) -> f64 {
    match load {
        Load::Pairs => pairs::<C>(items, 1),
        Load::Stream(stream) => stream.run::<C>(items),
        Load::RoundTrip => round_trip_ns::<C>(items),
    }
}

/// A table.
#[derive(Debug)]
pub struct Group {
    /// What the command line calls it.
    pub name: &'static str,
    /// What the table says above it.
    pub title: &'static str,
    /// The columns.
    pub loads: Vec<(String, Load)>,
    /// The rows.
    pub contenders: Vec<(&'static str, Run)>,
}

impl Group {
    /// Whether figures are items in a time, where more is better; else they are times.
    #[must_use]
    pub fn is_rate(&self) -> bool {
        self.loads.iter().all(|(_, load)| matches!(load, Load::Stream(_)))
    }
}

macro_rules! contenders {
    ($($contender:ty),+ $(,)?) => {
        vec![$( (<$contender as Contender>::NAME, run::<$contender> as Run) ),+]
    };
}

fn stream(producers: usize, consumers: usize, push: usize, pop: usize, backoff: u32) -> Load {
    Load::Stream(Stream { producers, consumers, push, pop, backoff })
}

/// All groups, in the order of the tables.
#[must_use]
pub fn groups() -> Vec<Group> {
    vec![pair(), spsc(), trip(), spmc(), mpsc()]
}

fn pair() -> Group {
    Group {
        name: "pair",
        title: "push and pop on one thread, ns a pair",
        loads: vec![("1 item".to_owned(), Load::Pairs)],
        contenders: contenders![
            Spsc<OurWords>,
            Spsc<OurCompact>,
            Spsc<OurPadded>,
            Spmc<OurWords>,
            Spmc<OurCompact>,
            Rings<OurWords>,
            Shared<OurWords>,
            Shared<OurCompact>,
            Rtrb,
            Ringbuf,
            Disruptor,
            ArrayQueue,
            ConcurrentQueue,
            Deque,
            Kanal,
            ThingBuf,
            SyncChannel,
        ],
    }
}

fn spsc() -> Group {
    Group {
        name: "spsc",
        title: "SPSC stream, million items a second",
        loads: [1, 16, 64]
            .map(|batch| (format!("batch {batch}"), stream(1, 1, batch, batch, 0)))
            .to_vec(),
        contenders: contenders![
            Spsc<OurWords>,
            Spsc<OurCompact>,
            Spsc<OurPadded>,
            Rtrb,
            Ringbuf,
            Disruptor,
            ConcurrentQueue,
            SyncChannel,
            ArrayQueue,
            Kanal,
            ThingBuf,
        ],
    }
}

fn trip() -> Group {
    Group {
        name: "trip",
        title: "round trip of one item through two queues, ns",
        loads: vec![("round trip".to_owned(), Load::RoundTrip)],
        contenders: contenders![
            Spsc<OurWords>,
            Spsc<OurCompact>,
            Spsc<OurPadded>,
            Spmc<OurWords>,
            Spmc<OurCompact>,
            Rings<OurWords>,
            Shared<OurWords>,
            Rtrb,
            Ringbuf,
            Disruptor,
            ConcurrentQueue,
            SyncChannel,
            ArrayQueue,
            Kanal,
            ThingBuf,
            Deque,
        ],
    }
}

fn spmc() -> Group {
    let loads = [(1, 1, 1), (1, 1, 8), (2, 1, 8), (4, 1, 8), (4, 1, 32), (1, 16, 16)];
    Group {
        name: "spmc",
        title: "SPMC stream, million items a second (producer pauses when refused)",
        loads: loads
            .map(|(consumers, push, claim)| {
                let label = match push {
                    1 => format!("{consumers} cons, claim {claim}"),
                    _ => format!("{consumers} cons, batch {push}"),
                };
                (label, stream(1, consumers, push, claim, 32))
            })
            .to_vec(),
        contenders: contenders![
            Spmc<OurWords>,
            Spmc<OurCompact>,
            Spmc<OurPadded>,
            Deque,
            ConcurrentQueue,
            ArrayQueue,
            Kanal,
            ThingBuf,
        ],
    }
}

fn mpsc() -> Group {
    let loads = [(1, 1), (1, 16), (2, 1), (2, 16), (4, 1), (4, 16)];
    Group {
        name: "mpsc",
        title: "MPSC stream, million items a second",
        loads: loads
            .map(|(producers, batch)| {
                let label = format!("{producers} prod, batch {batch}");
                (label, stream(producers, 1, batch, batch, 0))
            })
            .to_vec(),
        contenders: contenders![
            Rings<OurWords>,
            Rings<OurCompact>,
            Shared<OurWords>,
            Shared<OurCompact>,
            ConcurrentQueue,
            SyncChannel,
            ArrayQueue,
            Kanal,
            ThingBuf,
        ],
    }
}
