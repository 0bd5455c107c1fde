//! Our queues with jobs that are moved, by `push_batch` and `pop_batch`.
//!
//! The loads' items are numbers, which ours carry as slices. What a pool sends cannot be copied:
//! a box, which is one word and has a destructor. So is a job here, but for the allocator, whose
//! work would be most of what is measured.

use flintlock_queues::{
    Compact, Index, Layout, Tagged, Words, mpsc::rings, mpsc::shared, spmc, spsc,
};

use super::ours::{OurCompact, OurWords};
use crate::queues::{CAPACITY, Contender, Rx, Tx};

/// A word that is moved and dropped.
pub(super) type Job = Tagged<Index, 2>;

fn job(item: Index) -> Job {
    Job::new(1, item)
}

/// An end through which jobs go.
#[derive(Debug)]
pub(super) struct Jobs<E>(E);

macro_rules! job_ends {
    ($($module:ident $(, $finish:item)?;)+) => {$(
        impl<L: Layout<Job>> Tx<Index> for Jobs<$module::Producer<Job, L>> {
            #[inline(always)]
            fn push(&mut self, item: Index) -> bool {
                self.0.push(job(item)).is_ok()
            }
            #[inline(always)]
            fn push_batch(&mut self, items: &[Index]) -> usize {
                self.0.push_batch(&mut items.iter().copied().map(job))
            }
            $($finish)?
        }
        impl<L: Layout<Job>> Rx<Index> for Jobs<$module::Consumer<Job, L>> {
            #[inline(always)]
            fn pop(&mut self) -> Option<Index> {
                self.0.pop().ok().map(|job| job.into_parts().1)
            }
            #[inline(always)]
            fn pop_batch(&mut self, items: &mut [Index]) -> usize {
                let mut places = items.iter_mut();
                self.0.pop_batch(places.len(), |job| {
                    if let Some(place) = places.next() {
                        *place = job.into_parts().1;
                    }
                })
            }
        }
    )+};
}

job_ends! {
    spsc;
    spmc;
    rings;
    shared, fn finish(&mut self) -> bool {
        self.0.commit();
        self.0.pending() == 0
    };
}

/// A layout and the names of its rings in the tables: spsc, spmc, rings, shared.
pub(super) trait JobLayout: 'static {
    type Layout: Layout<Job>;
    const NAMES: [&'static str; 4];
}

impl JobLayout for OurWords {
    type Layout = Words;
    const NAMES: [&'static str; 4] = [
        "spsc Words, push_batch",
        "spmc Words, push_batch",
        "mpsc::rings Words, push_batch",
        "mpsc::shared Words, push_batch",
    ];
}

impl JobLayout for OurCompact {
    type Layout = Compact;
    const NAMES: [&'static str; 4] = [
        "spsc Compact, push_batch",
        "spmc Compact, push_batch",
        "mpsc::rings Compact, push_batch",
        "mpsc::shared Compact, push_batch",
    ];
}

/// Jobs in our single-producer single-consumer ring.
#[derive(Debug)]
pub(super) struct SpscJobs<O>(O);

impl<O: JobLayout> Contender for SpscJobs<O> {
    type Item = Index;
    type Tx = Jobs<spsc::Producer<Job, O::Layout>>;
    type Rx = Jobs<spsc::Consumer<Job, O::Layout>>;
    const NAME: &'static str = O::NAMES[0];
    const IS_RIVAL: bool = false;

    fn build(_: usize, _: usize) -> (Vec<Self::Tx>, Vec<Self::Rx>) {
        let (producer, consumer) = spsc::ring_in(CAPACITY);
        (vec![Jobs(producer)], vec![Jobs(consumer)])
    }
}

/// Jobs in our single-producer ring with several consumers.
#[derive(Debug)]
pub(super) struct SpmcJobs<O>(O);

impl<O: JobLayout> Contender for SpmcJobs<O> {
    type Item = Index;
    type Tx = Jobs<spmc::Producer<Job, O::Layout>>;
    type Rx = Jobs<spmc::Consumer<Job, O::Layout>>;
    const NAME: &'static str = O::NAMES[1];
    const IS_RIVAL: bool = false;

    fn build(_: usize, consumers: usize) -> (Vec<Self::Tx>, Vec<Self::Rx>) {
        let (producer, consumer) = spmc::ring_in(CAPACITY);
        (vec![Jobs(producer)], (0..consumers).map(|_| Jobs(consumer.clone())).collect())
    }
}

/// Jobs in our ring for each producer; they share the capacity.
#[derive(Debug)]
pub(super) struct RingsJobs<O>(O);

impl<O: JobLayout> Contender for RingsJobs<O> {
    type Item = Index;
    type Tx = Jobs<rings::Producer<Job, O::Layout>>;
    type Rx = Jobs<rings::Consumer<Job, O::Layout>>;
    const NAME: &'static str = O::NAMES[2];
    const IS_RIVAL: bool = false;

    fn build(producers: usize, _: usize) -> (Vec<Self::Tx>, Vec<Self::Rx>) {
        let mut consumer = rings::ring_in(CAPACITY / producers);
        ((0..producers).map(|_| Jobs(consumer.add_producer())).collect(), vec![Jobs(consumer)])
    }
}

/// Jobs in our one ring for all producers.
#[derive(Debug)]
pub(super) struct SharedJobs<O>(O);

impl<O: JobLayout> Contender for SharedJobs<O> {
    type Item = Index;
    type Tx = Jobs<shared::Producer<Job, O::Layout>>;
    type Rx = Jobs<shared::Consumer<Job, O::Layout>>;
    const NAME: &'static str = O::NAMES[3];
    const IS_RIVAL: bool = false;

    fn build(producers: usize, _: usize) -> (Vec<Self::Tx>, Vec<Self::Rx>) {
        let (producer, consumer) = shared::ring_in(CAPACITY);
        ((0..producers).map(|_| Jobs(producer.clone())).collect(), vec![Jobs(consumer)])
    }
}
