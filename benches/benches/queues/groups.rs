//! What is measured: loads and the queues they are put on, group by group.
//!
//! Owns nothing. A group is one table: its loads are the columns, its contenders the rows.

use std::time::Duration;

use super::stall::{Stalls, consumer_stopped, producer_stopped};
use flintlock_benches::queues::Contender;
use flintlock_benches::queues::contenders::{
    ArrayQueue, BareWord, Committed, ConcurrentQueue, Deque, Disruptor, Kanal, OurCompact,
    OurPadded, OurWords, Ringbuf, Rings, Rtrb, Shared, Spmc, Spsc, SyncChannel, ThingBuf,
};
use flintlock_benches::queues::load::{Stream, pairs, round_trip_ns};

/// One thing done with a queue.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Load {
    /// Push and pop on one thread.
    Pairs,
    /// Items from thread to thread.
    Stream(Stream),
    /// One item there and back.
    RoundTrip,
}

fn run<C: Contender>(load: Load, items: usize) -> f64 {
    match load {
        Load::Pairs => pairs::<C>(items, 1),
        Load::Stream(stream) => stream.run::<C>(items),
        Load::RoundTrip => round_trip_ns::<C>(items),
    }
}

/// A table.
#[derive(Debug)]
pub(crate) struct Group {
    /// What the command line calls it.
    pub(crate) name: &'static str,
    /// What the table says above it.
    pub(crate) title: &'static str,
    /// The columns.
    pub(crate) loads: Vec<(String, Load)>,
    /// The rows.
    pub(crate) contenders: Vec<Row>,
}

/// A row of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    /// What the tables call it.
    pub(crate) name: &'static str,
    /// Puts a load on it with so many items; nanoseconds an item.
    pub(crate) run: fn(Load, usize) -> f64,
    /// Whether it counts among those that ours are compared with.
    pub(crate) is_rival: bool,
}

impl Group {
    /// Whether items go from core to core, so that it matters how near those are.
    pub(crate) fn has_threads(&self) -> bool {
        self.loads.iter().any(|(_, load)| !matches!(load, Load::Pairs))
    }

    /// Whether figures are items in a time, where more is better; else they are times.
    pub(crate) fn is_rate(&self) -> bool {
        self.loads.iter().all(|(_, load)| matches!(load, Load::Stream(_)))
    }
}

macro_rules! contenders {
    ($($contender:ty),+ $(,)?) => {
        vec![$( Row {
            name: <$contender as Contender>::NAME,
            run: run::<$contender>,
            is_rival: <$contender as Contender>::IS_RIVAL,
        } ),+]
    };
}

fn stream(producers: usize, consumers: usize, push: usize, pop: usize, backoff: u32) -> Load {
    Load::Stream(Stream { producers, consumers, push, pop, backoff })
}

/// All groups, in the order of the tables.
pub(crate) fn groups() -> Vec<Group> {
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
            Committed<OurWords>,
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
            BareWord,
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

/// Stops one thread of a queue for so long, again and again.
pub(crate) type Stop = fn(Duration) -> Stalls;

/// A stall table: which side is stopped, and how to measure each queue.
#[derive(Debug)]
pub(crate) struct StallGroup {
    /// What the table says above it.
    pub(crate) title: &'static str,
    /// The rows: a name and its measurement.
    pub(crate) contenders: Vec<(&'static str, Stop)>,
    /// Rows that promise that nobody is ever frozen.
    pub(crate) never: &'static [&'static str],
}

macro_rules! stopped {
    ($way:ident; $($contender:ty),+ $(,)?) => {
        vec![$( (<$contender as Contender>::NAME, $way::<$contender> as Stop) ),+]
    };
}

/// Both stall tables.
pub(crate) fn stall_groups() -> [StallGroup; 2] {
    [
        StallGroup {
            title: "a producer is descheduled (MPSC)",
            contenders: stopped![producer_stopped;
                Rings<OurWords>, Rings<OurCompact>, Shared<OurWords>, Shared<OurCompact>,
                ArrayQueue, ConcurrentQueue, Kanal, SyncChannel, ThingBuf],
            never: &["mpsc::rings Words", "mpsc::rings Compact"],
        },
        StallGroup {
            title: "a consumer is descheduled (SPMC)",
            contenders: stopped![consumer_stopped;
                Spmc<OurWords>, Spmc<OurCompact>,
                ArrayQueue, ConcurrentQueue, Deque, Kanal, ThingBuf],
            never: &["spmc Words"],
        },
    ]
}
