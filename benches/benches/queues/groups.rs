//! What is measured: loads and the queues they are put on, group by group.
//!
//! Owns nothing. A group is one table: its loads are the columns, its contenders the rows.

use std::time::Duration;

use super::stall::{Stalls, consumer_stopped, producer_stopped};
use flintlock_benches::queues::Contender;
use flintlock_benches::queues::contenders::{
    Visitor, many_to_one, many_to_one_stalled, one_thread, one_to_many, one_to_many_stalled,
    one_to_one, round_trip,
};
use flintlock_benches::queues::load::{Stream, pairs, round_trip_ns, round_trip_ns_at};

/// One thing done with a queue.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Load {
    /// Push and pop on one thread.
    Pairs,
    /// Items from thread to thread.
    Stream(Stream),
    /// One item there and back, on average.
    RoundTrip,
    /// This quantile, 0 to 1, of trips timed one by one.
    RoundTripAt(f64),
}

fn run<C: Contender>(load: Load, items: usize) -> f64 {
    match load {
        Load::Pairs => pairs::<C>(items),
        Load::Stream(stream) => stream.run::<C>(items),
        Load::RoundTrip => round_trip_ns::<C>(items),
        Load::RoundTripAt(quantile) => round_trip_ns_at::<C>(items, quantile),
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

/// Collects the rows of a table.
struct Rows(Vec<Row>);

impl Visitor for Rows {
    fn visit<C: Contender>(&mut self) {
        self.0.push(Row { name: C::NAME, run: run::<C>, is_rival: C::IS_RIVAL });
    }
}

fn rows(list: impl FnOnce(&mut Rows)) -> Vec<Row> {
    let mut rows = Rows(Vec::new());
    list(&mut rows);
    rows.0
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
        contenders: rows(one_thread),
    }
}

fn spsc() -> Group {
    Group {
        name: "spsc",
        title: "SPSC stream, million items a second",
        loads: [1, 16, 64]
            .map(|batch| (format!("batch {batch}"), stream(1, 1, batch, batch, 0)))
            .to_vec(),
        contenders: rows(one_to_one),
    }
}

fn trip() -> Group {
    Group {
        name: "trip",
        title: "round trip of one item through two queues, ns (p50 and p99 of trips timed one by \
                one, with a look at the clock in each)",
        loads: [
            ("mean", Load::RoundTrip),
            ("p50", Load::RoundTripAt(0.5)),
            ("p99", Load::RoundTripAt(0.99)),
        ]
        .map(|(label, load)| (label.to_owned(), load))
        .to_vec(),
        contenders: rows(round_trip),
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
        contenders: rows(one_to_many),
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
        contenders: rows(many_to_one),
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

/// Collects the rows of both stall tables: the name, the producer stopped, the consumer stopped.
struct Stops(Vec<(&'static str, Stop, Stop)>);

impl Visitor for Stops {
    fn visit<C: Contender>(&mut self) {
        self.0.push((C::NAME, producer_stopped::<C>, consumer_stopped::<C>));
    }
}

/// Both stall tables.
pub(crate) fn stall_groups() -> [StallGroup; 2] {
    let (mut many_producers, mut many_consumers) = (Stops(Vec::new()), Stops(Vec::new()));
    many_to_one_stalled(&mut many_producers);
    one_to_many_stalled(&mut many_consumers);
    [
        StallGroup {
            title: "a producer is descheduled (MPSC)",
            contenders: many_producers.0.iter().map(|row| (row.0, row.1)).collect(),
            never: &["mpsc::rings Words", "mpsc::rings Compact", "mpsc::rings Padded"],
        },
        StallGroup {
            title: "a consumer is descheduled (SPMC)",
            contenders: many_consumers.0.iter().map(|row| (row.0, row.2)).collect(),
            never: &["spmc Words"],
        },
    ]
}
