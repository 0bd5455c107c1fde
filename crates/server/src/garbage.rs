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
    /// Bytes of both: asked for before each command while memory is full.
    memory_bytes: usize,
}

impl Garbage {
    /// Bytes that wait.
    pub(crate) const fn memory_bytes(&self) -> usize {
        self.memory_bytes
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
        let Some(parts) = parts else { return };
        self.memory_bytes += parts.memory_bytes();
        self.parts.push_back(parts);
    }

    /// Frees a table with all its keys, in slices.
    pub(crate) fn push_table(&mut self, table: Table) {
        self.memory_bytes += table.memory_bytes();
        self.tables.push_back(table);
    }

    /// Frees until `deadline`; returns whether something is left.
    pub(crate) fn step(&mut self, deadline: Instant) -> bool {
        while self.len() > 0 {
            if Instant::now() >= deadline {
                return true;
            }
            self.free_slice();
        }
        false
    }

    /// Frees some pieces of the first value, or a segment of the first table if no value waits.
    fn free_slice(&mut self) {
        if let Some(parts) = self.parts.front_mut() {
            self.memory_bytes -= parts.memory_bytes();
            if parts.drop_slice(PIECES) {
                self.parts.pop_front();
            } else {
                self.memory_bytes += parts.memory_bytes();
            }
        } else if let Some(table) = self.tables.front_mut() {
            let mut objects = Vec::new();
            self.memory_bytes -= table.memory_bytes();
            if table.drop_slice(|object| objects.push(object)) {
                self.memory_bytes += table.memory_bytes();
            } else {
                self.tables.pop_front();
            }
            objects.into_iter().for_each(|object| self.push_parts(Self::take_apart(object)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::Hasher;
    use crate::keyspace::entry::NewValue;
    use crate::types::{HashKey, Rules, Set};

    fn large_set() -> Arc<Object> {
        let rules = Rules::new(HashKey::new([1; 16]));
        let mut set = Set::new();
        (0..20_000_u32).for_each(|n| _ = set.add(format!("member:{n}").as_bytes(), &rules));
        Arc::new(Object::from(set))
    }

    fn table(hasher: Hasher) -> Table {
        let mut table = Table::new(hasher);
        for n in 0..3_000_u32 {
            let name = n.to_be_bytes();
            let large = (n % 1_000 == 0).then(large_set);
            let value = large.map_or(NewValue::Str(b"value"), NewValue::Object);
            table.insert(hasher.key(&name), value, None);
        }
        table
    }

    #[test]
    fn what_waits_is_counted_until_it_is_gone() {
        let hasher = Hasher::new(&[7; 16]);
        let mut garbage = Garbage::default();
        let counted = |garbage: &Garbage| {
            let parts = garbage.parts.iter().map(Parts::memory_bytes).sum::<usize>();
            parts + garbage.tables.iter().map(Table::memory_bytes).sum::<usize>()
        };
        garbage.push_parts(None);
        garbage.push_parts(Garbage::take_apart(large_set()));
        garbage.push_table(table(hasher));
        garbage.push_table(Table::new(hasher));
        let (mut slices, mut at_most) = (0, 0);
        while garbage.len() > 0 {
            assert_eq!(garbage.memory_bytes(), counted(&garbage), "after {slices} slices");
            at_most = at_most.max(garbage.memory_bytes());
            garbage.free_slice();
            slices += 1;
        }
        assert!(slices > 10 && at_most > 1 << 20, "{slices} slices, {at_most} bytes");
        assert_eq!(garbage.memory_bytes(), 0);
    }
}
