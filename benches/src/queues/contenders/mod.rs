//! Our queues and their rivals, and who is compared in what: each list is here once.
//!
//! A list calls a [`Visitor`] with each of its contenders, ours first. Rivals are listed by what
//! they can do: one that takes several producers also takes one.

mod ours;
mod rivals;

use super::Contender;
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
    each!(visitor: Spmc<OurWords>, Spmc<OurCompact>, Spmc<OurPadded>);
    our_mpsc(visitor);
    one_to_one_rivals(visitor);
    each!(visitor: Deque);
}

/// Streams from one thread to another.
pub fn one_to_one(visitor: &mut impl Visitor) {
    each!(visitor: Spsc<OurWords>, Spsc<OurCompact>, Spsc<OurPadded>, Committed<OurWords>);
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

/// One producer and several consumers.
pub fn one_to_many(visitor: &mut impl Visitor) {
    each!(visitor: Spmc<OurWords>, Spmc<OurCompact>, Spmc<OurPadded>, Deque);
    many_to_many_rivals(visitor);
}

/// Several producers and one consumer.
pub fn many_to_one(visitor: &mut impl Visitor) {
    our_mpsc(visitor);
    many_to_one_rivals(visitor);
}

fn our_mpsc(visitor: &mut impl Visitor) {
    each!(visitor: Rings<OurWords>, Rings<OurCompact>, Shared<OurWords>, Shared<OurCompact>);
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
