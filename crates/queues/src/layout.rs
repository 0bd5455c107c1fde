//! The choice of slot layout, as a type parameter of every ring.
//!
//! Owns no state. It must not know the queues: a layout says how a slot is made, not who uses it.

use crossbeam_utils::CachePadded;

use crate::sync::slot::{Cell, LapSlot, Slot};
use crate::tagged::Word;

/// How a ring keeps its items: [`Compact`], [`Padded`] or [`Words`]. Sealed.
pub trait Layout<T>: sealed::Sealed + 'static {
    /// The slot.
    ///
    /// That it is of this very `T` makes every handle invariant in `T`. It is handed on as it is,
    /// ```
    /// use flintlock_queues::{mpsc::rings, mpsc::shared, spmc, spsc};
    /// type One<'a> = (spsc::Producer<&'a str>, spmc::Producer<&'a str>);
    /// type Many<'a> = (rings::Producer<&'a str>, shared::Producer<&'a str>);
    /// fn same<'a>(one: One<'a>, many: Many<'a>) -> (One<'a>, Many<'a>) {
    ///     (one, many)
    /// }
    /// ```
    /// but not for items that live shorter than the consumer was told. (Such an error has no code
    /// that could stand here; the lifetimes are all that is wrong.)
    /// ```compile_fail
    /// use flintlock_queues::spsc::Producer;
    /// fn shorter<'a>(long: Producer<&'static str>) -> Producer<&'a str> {
    ///     long
    /// }
    /// ```
    /// ```compile_fail
    /// use flintlock_queues::spmc::Producer;
    /// fn shorter<'a>(long: Producer<&'static str>) -> Producer<&'a str> {
    ///     long
    /// }
    /// ```
    /// ```compile_fail
    /// use flintlock_queues::mpsc::rings::Producer;
    /// fn shorter<'a>(long: Producer<&'static str>) -> Producer<&'a str> {
    ///     long
    /// }
    /// ```
    /// ```compile_fail
    /// use flintlock_queues::mpsc::shared::Producer;
    /// fn shorter<'a>(long: Producer<&'static str>) -> Producer<&'a str> {
    ///     long
    /// }
    /// ```
    #[doc(hidden)]
    type Slot: Slot<T>;
}

/// Sequenced cells side by side: for any type, `size_of::<T>()` and a sequence number a slot.
#[derive(Clone, Copy, Debug)]
pub enum Compact {}

/// Sequenced cells on cache lines of their own: for any type, 128 bytes a slot on x86-64.
///
/// # Examples
/// ```
/// use flintlock_queues::{Padded, spmc};
///
/// let (mut producer, mut consumer) = spmc::ring_in::<[u64; 4], Padded>(8);
/// producer.push([1, 2, 3, 4]).expect("room");
/// assert_eq!(consumer.pop(), Ok([1, 2, 3, 4]));
/// ```
#[derive(Clone, Copy, Debug)]
pub enum Padded {}

/// One word a slot with the lap in a spare bit: for [`Word`] types, 8 bytes a slot.
///
/// A word without a spare bit does not compile:
/// ```compile_fail,E0080
/// use flintlock_queues::{Words, spsc};
/// let (producer, consumer) = spsc::ring_in::<Box<u8>, Words>(8);
/// ```
#[derive(Clone, Copy, Debug)]
pub enum Words {}

impl<T> Layout<T> for Compact {
    type Slot = Cell<T>;
}

impl<T> Layout<T> for Padded {
    type Slot = CachePadded<Cell<T>>;
}

impl<T: Word> Layout<T> for Words {
    type Slot = LapSlot<T>;
}

mod sealed {
    #[expect(unnameable_types, reason = "a layout of others could break what the rings rely on")]
    pub trait Sealed {}
    impl Sealed for super::Compact {}
    impl Sealed for super::Padded {}
    impl Sealed for super::Words {}
}
