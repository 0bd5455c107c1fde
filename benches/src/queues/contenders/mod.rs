//! Our queues and their rivals, and who is compared in what: each list is here once.
//!
//! A list calls a [`Visitor`] with each of its contenders, ours first. Rivals are listed by what
//! they can do: one that takes several producers also takes one.

mod jobs;
mod ours;
mod rivals;

use super::Contender;
use jobs::{RingsJobs, SharedJobs, SpmcJobs, SpscJobs};
use ours::{BareWord, Committed, OurCompact, OurPadded, OurWords, Rings, Shared, Spmc, Spsc};
use rivals::{
    ArrayQueue, ConcurrentQueue, Deque, Disruptor, Kanal, Ringbuf, Rtrb, SyncChannel, ThingBuf,
};

/// What is done with each contender of a list.
pub trait Visitor {
    /// One contender.
    fn visit<C: Contender>(&mut self);
}

macro_rules! each {
    ($visitor:ident: $($contender:ty),+ $(,)?) => {$( $visitor.visit::<$contender>(); )+};
}

/// Whoever can push and pop on one thread.
pub fn one_thread(visitor: &mut impl Visitor) {
    each!(visitor: Spsc<OurWords>, Spsc<OurCompact>, Spsc<OurPadded>);
    our_spmc(visitor);
    our_mpsc(visitor);
    one_to_one_rivals(visitor);
    each!(visitor: Deque);
}

/// Streams from one thread to another.
pub fn one_to_one(visitor: &mut impl Visitor) {
    each!(visitor: Spsc<OurWords>, Spsc<OurCompact>, Spsc<OurPadded>, Committed<OurWords>);
    each!(visitor: SpscJobs<OurWords>, SpscJobs<OurCompact>);
    one_to_one_rivals(visitor);
}

/// One item from one thread to another and back.
pub fn round_trip(visitor: &mut impl Visitor) {
    each!(visitor: BareWord);
    each!(visitor: Spsc<OurWords>, Spsc<OurCompact>, Spsc<OurPadded>);
    each!(visitor: Spmc<OurWords>, Spmc<OurCompact>, Rings<OurWords>, Shared<OurWords>);
    one_to_one_rivals(visitor);
    each!(visitor: Deque);
}

/// Ours with jobs that are moved, on one thread.
pub fn our_jobs(visitor: &mut impl Visitor) {
    each!(visitor: SpscJobs<OurWords>, SpscJobs<OurCompact>, SpmcJobs<OurWords>);
    our_mpsc_jobs(visitor);
}

/// Streams from one producer to several consumers.
pub fn one_to_many(visitor: &mut impl Visitor) {
    our_spmc(visitor);
    each!(visitor: SpmcJobs<OurWords>);
    one_to_many_rivals(visitor);
}

/// Queues of which one of several consumers may be stopped.
pub fn one_to_many_stalled(visitor: &mut impl Visitor) {
    our_spmc(visitor);
    one_to_many_rivals(visitor);
}

/// Streams from several producers to one consumer.
pub fn many_to_one(visitor: &mut impl Visitor) {
    our_mpsc(visitor);
    our_mpsc_jobs(visitor);
    many_to_one_rivals(visitor);
}

/// Queues of which one of several producers may be stopped.
pub fn many_to_one_stalled(visitor: &mut impl Visitor) {
    our_mpsc(visitor);
    many_to_one_rivals(visitor);
}

fn our_spmc(visitor: &mut impl Visitor) {
    each!(visitor: Spmc<OurWords>, Spmc<OurCompact>, Spmc<OurPadded>);
}

fn our_mpsc(visitor: &mut impl Visitor) {
    each!(visitor: Rings<OurWords>, Rings<OurCompact>, Rings<OurPadded>);
    each!(visitor: Shared<OurWords>, Shared<OurCompact>, Shared<OurPadded>);
}

fn our_mpsc_jobs(visitor: &mut impl Visitor) {
    each!(visitor: RingsJobs<OurWords>, SharedJobs<OurWords>);
}

fn one_to_many_rivals(visitor: &mut impl Visitor) {
    each!(visitor: Deque);
    many_to_many_rivals(visitor);
}

fn one_to_one_rivals(visitor: &mut impl Visitor) {
    each!(visitor: Rtrb, Ringbuf, Disruptor);
    many_to_one_rivals(visitor);
}

fn many_to_one_rivals(visitor: &mut impl Visitor) {
    each!(visitor: SyncChannel);
    many_to_many_rivals(visitor);
}

fn many_to_many_rivals(visitor: &mut impl Visitor) {
    each!(visitor: ConcurrentQueue, ArrayQueue, Kanal, ThingBuf);
}
