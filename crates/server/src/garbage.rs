//! Values waiting to be freed: big ones go in slices, so that no command pays for their size.
//!
//! Main thread. What waits here counts as used memory until it is gone.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use crate::keyspace::table::Table;
use crate::types::{Object, Parts};

/// Collections up to this size are freed at once: it takes some microseconds.
const AT_ONCE_BYTES: usize = 16 * 1024;

/// Pieces of a collection freed between two looks at the clock: some tens of microseconds.
const PIECES: usize = 8;

/// See the module doc.
#[derive(Debug, Default)]
pub(crate) struct Garbage {
    parts: VecDeque<Parts>,
    tables: VecDeque<Table>,
}

impl Garbage {
    /// Bytes that wait.
    pub(crate) fn memory_bytes(&self) -> usize {
        let parts: usize = self.parts.iter().map(Parts::memory_bytes).sum();
        let tables: usize = self.tables.iter().map(Table::memory_bytes).sum();
        parts + tables
    }

    /// Values and tables that wait.
    pub(crate) fn len(&self) -> usize {
        self.parts.len() + self.tables.len()
    }

    /// Frees a small value; gives a big one back in the parts that are left to free.
    pub(crate) fn take_apart(object: Arc<Object>) -> Option<Parts> {
        // A value that a save still holds is freed there.
        let object = Arc::into_inner(object)?;
        (object.memory_bytes() > AT_ONCE_BYTES).then(|| object.into_parts())
    }

    /// Frees what is left of a value, in slices.
    pub(crate) fn push_parts(&mut self, parts: Option<Parts>) {
        self.parts.extend(parts);
    }

    /// Frees a table with all its keys, in slices.
    pub(crate) fn push_table(&mut self, table: Table) {
        self.tables.push_back(table);
    }

    /// Frees until `deadline`; returns whether something is left.
    pub(crate) fn step(&mut self, deadline: Instant) -> bool {
        while !(self.parts.is_empty() && self.tables.is_empty()) {
            if Instant::now() >= deadline {
                return true;
            }
            if let Some(parts) = self.parts.front_mut() {
                if parts.drop_slice(PIECES) {
                    self.parts.pop_front();
                }
            } else if let Some(table) = self.tables.front_mut() {
                let mut objects = Vec::new();
                let more = table.drop_slice(|object| objects.push(object));
                if !more {
                    self.tables.pop_front();
                }
                self.parts.extend(objects.into_iter().filter_map(Self::take_apart));
            }
        }
        false
    }
}
