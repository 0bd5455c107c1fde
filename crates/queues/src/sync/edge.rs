//! Named release/acquire edges, and under loom the switch that weakens one end of one of them.
//!
//! Owns no state in a normal build; any thread. It must not be used to choose an ordering at run
//! time outside loom.

use super::{Ordering, fence};

/// One release/acquire pair of a queue, by the id it has in its module's edge table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge(&'static str);

impl Edge {
    /// Names an edge; the id is unique in the crate and stands in an edge table.
    pub const fn new(id: &'static str) -> Self {
        Self(id)
    }

    /// The id given to [`Edge::new`].
    pub const fn id(self) -> &'static str {
        self.0
    }

    /// The ordering of the storing end.
    #[inline(always)]
    pub fn release(self) -> Ordering {
        // ORDERING: the edge, as named where it is used.
        if self.weakened("release") { Ordering::Relaxed } else { Ordering::Release }
    }

    /// The ordering of the loading end.
    #[inline(always)]
    pub fn acquire(self) -> Ordering {
        // ORDERING: the edge, as named where it is used.
        if self.weakened("acquire") { Ordering::Relaxed } else { Ordering::Acquire }
    }

    /// The ordering of a read-modify-write that is both ends: it acquires what the one before
    /// released, and hands it on.
    #[inline(always)]
    pub fn acquire_release(self) -> Ordering {
        // ORDERING: the edge, as named where it is used.
        if self.weakened("release") {
            self.acquire()
        } else if self.weakened("acquire") {
            self.release()
        } else {
            Ordering::AcqRel
        }
    }

    /// The `SeqCst` fence of this edge; `side` tells its two or more sites apart.
    ///
    /// Fences, not `SeqCst` accesses: loom models only the former as they are.
    #[inline(always)]
    pub fn fence(self, side: &'static str) {
        if !self.weakened(side) {
            // ORDERING: the edge, as named where it is used.
            fence(Ordering::SeqCst);
        }
    }

    #[cfg(not(loom))]
    #[inline(always)]
    fn weakened(self, _end: &'static str) -> bool {
        false
    }

    /// Whether the variable `FLINTLOCK_WEAKEN` names this end; read once a process.
    #[cfg(loom)]
    fn weakened(self, end: &'static str) -> bool {
        extern crate std;
        use std::{env, string::String, sync::OnceLock};
        static WEAKENED: OnceLock<Option<(String, String)>> = OnceLock::new();
        WEAKENED
            .get_or_init(|| {
                let named = env::var("FLINTLOCK_WEAKEN").ok()?;
                let (id, end) = named.split_once('.').expect("FLINTLOCK_WEAKEN is edge.end");
                Some((id.into(), end.into()))
            })
            .as_ref()
            .is_some_and(|(id, weak_end)| id == self.0 && weak_end == end)
    }
}
