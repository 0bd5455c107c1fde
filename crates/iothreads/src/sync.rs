//! The facade: the only file of this crate that names atomics, `Arc`, `Mutex`, threads or loom.
//! Owns nothing.
//!
//! Atomics and edges are those of `flintlock-queues`, so that one model checks the protocol of
//! this crate together with the rings. Built with `--cfg loom` everything here is loom's, and the
//! models in `tests/loom_*.rs` check the very code that ships. Every wait that is not a sleep goes
//! through [`pause`].
//!
//! Source: the facade habit of hawkw/thingbuf.

pub(crate) use flintlock_queues::sync::{
    Arc, AtomicU8, AtomicU64, AtomicUsize, Edge, Ordering, PlainArc, pause,
};

#[cfg(not(loom))]
mod imp {
    pub(crate) use std::sync::Mutex;
    pub(crate) use std::thread::{Builder, JoinHandle, Thread, current, park, park_timeout};

    /// Whether the thread behind `handle` has ended; joining it then does not block.
    pub(crate) fn is_finished<T>(handle: &JoinHandle<T>) -> bool {
        handle.is_finished()
    }

    /// A step of a wait whose end another thread brings about; loom must know of it.
    pub(crate) fn wait_step() {}
}

#[cfg(loom)]
mod imp {
    pub(crate) use loom::sync::Mutex;
    pub(crate) use loom::thread::{Builder, JoinHandle, Thread, current, park};

    /// Loom has no time: a park with a limit may end at once, which every caller must stand anyway.
    pub(crate) fn park_timeout(_limit: std::time::Duration) {
        loom::thread::yield_now();
    }

    /// Loom cannot tell, so the owner always waits.
    pub(crate) fn is_finished<T>(_handle: &JoinHandle<T>) -> bool {
        true
    }

    /// Makes loom run somebody else: a spinning thread would be explored for ever.
    pub(crate) fn wait_step() {
        loom::thread::yield_now();
    }
}

pub(crate) use imp::*;

/// Takes a lock whose holders never panic while they hold it; a poisoned one would only mean that
/// a thread was killed by its own abort guard.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> impl std::ops::DerefMut<Target = T> + '_ {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
