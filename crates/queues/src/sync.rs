//! The facade over everything two threads can touch: atomics, cells, `Arc`, pauses.
//!
//! Normally this is `core` and `alloc`; under `--cfg loom` and `--cfg shuttle` the same names are
//! the model checkers' own, so that what they check is the code that ships. It runs on any thread
//! and must never block. No other file of the crate names `core::sync::atomic`, `UnsafeCell`,
//! `Arc` or a model checker.
//!
//! The module is public, but hidden and outside the version promise, for crates that check a
//! protocol of their own (parking, say) together with these queues.
//!
//! # Edges
//! A release and the acquire that reads from it are one *edge*. Each edge has an id, an [`Edge`]
//! constant, and a row in the table of its module; the ordering of an operation is asked from the
//! edge (`S1.release()`), never written out. That costs nothing in a normal build and gives the
//! mutation gate its handle: under loom the variable `FLINTLOCK_WEAKEN=S1.release` turns that one
//! end into `Relaxed`, and the gate wants a model to fail for it (tests/loom_support).

pub mod buffer;
mod edge;
pub mod slot;
#[cfg(all(test, not(any(loom, shuttle))))]
pub(crate) mod stop;

#[cfg(not(any(loom, shuttle)))]
mod imp {
    pub use super::PlainCell as UnsafeCell;
    pub use alloc::sync::Arc;
    pub use core::hint::spin_loop;
    #[cfg(target_has_atomic = "64")]
    pub use core::sync::atomic::AtomicU64;
    pub use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicUsize, fence};
}

#[cfg(loom)]
mod imp {
    pub use loom::cell::UnsafeCell;
    pub use loom::hint::spin_loop;
    pub use loom::sync::Arc;
    #[cfg(target_has_atomic = "64")]
    pub use loom::sync::atomic::AtomicU64;
    pub use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicUsize, fence};
}

#[cfg(shuttle)]
mod imp {
    pub use super::PlainCell as UnsafeCell;
    pub use shuttle::hint::spin_loop;
    pub use shuttle::sync::Arc;
    #[cfg(target_has_atomic = "64")]
    pub use shuttle::sync::atomic::AtomicU64;
    pub use shuttle::sync::atomic::{
        AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicUsize, fence,
    };
}

/// The plain `Arc`, also under a model checker: for payloads, which are none of its business.
pub use alloc::sync::Arc as PlainArc;
pub use core::sync::atomic::Ordering;
pub use edge::Edge;
/// Nothing here needs it; for those who have it, and use this facade.
#[cfg(target_has_atomic = "64")]
pub use imp::AtomicU64;
pub use imp::{
    Arc, AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicUsize, UnsafeCell, fence, spin_loop,
};

/// `UnsafeCell` with loom's interface, at no cost: the content is reached through closures, which
/// is where loom watches. What loom's cell cannot do, this one must not offer.
#[cfg(not(loom))]
#[derive(Debug)]
#[repr(transparent)]
pub struct PlainCell<T>(core::cell::UnsafeCell<T>);

#[cfg(not(loom))]
impl<T> PlainCell<T> {
    /// Wraps `value`.
    #[inline(always)]
    pub const fn new(value: T) -> Self {
        Self(core::cell::UnsafeCell::new(value))
    }

    /// Runs `read` with a pointer for reading; whoever dereferences it proves the access sound.
    #[inline(always)]
    pub fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
        read(self.0.get())
    }

    /// Runs `write` with a pointer for writing; whoever dereferences it proves the access sound.
    #[inline(always)]
    pub fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
        write(self.0.get())
    }
}

/// Pauses the processor `count` times; about 20 to 40 ns each on current x86-64.
///
/// Any thread; bounded, never sleeps and never yields. A model checker is not told: a pause moves
/// no data, and each reported one would multiply the executions to explore.
#[inline]
pub fn pause(count: u32) {
    if cfg!(any(loom, shuttle)) {
        return;
    }
    for _ in 0..count {
        spin_loop();
    }
}

/// A critical window: a place where a thread that is stopped might harm the others.
///
/// In unit tests of this crate a thread can be stopped there (`stop`, src/sync/stop.rs); in every
/// other build this is nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Window {
    /// The payload is in the slot, its stamp is not.
    Unstamped,
    /// A consumer has looked at slots it does not own yet.
    Peeked,
    /// A consumer owns slots and has not read or freed them.
    Claimed,
    /// A producer of the shared ring owns indices and has not filled their slots.
    Reserved,
    /// Items are published, the ready bit is not set.
    Unannounced,
    /// The one consumer has taken an item and not given back its room.
    Taken,
    /// The consumer has cleared a ready bit and not looked again.
    Settling,
    /// A producer goes; what it leaves is visible, and the ring is not closed yet.
    Leaving,
}

/// Marks a critical [`Window`] in the code.
#[inline(always)]
pub(crate) fn window(_window: Window) {
    #[cfg(all(test, not(any(loom, shuttle))))]
    stop::reached(_window);
}
