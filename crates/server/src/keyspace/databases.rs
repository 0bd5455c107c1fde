//! The databases by their numbers, and what they hold together.
//!
//! Main thread. What all of them hold is asked for in every turn, for every write under a limit and
//! for every key that is forgotten, and there may be 65,536 of them, nearly all never used. So a
//! database counts from its first change on; the others are all alike.

use std::collections::BTreeMap;
use std::ops::{Index, IndexMut};

use flintlock_diskcache::key::Space;

use super::Hasher;
use super::table::Table;

/// One database.
#[derive(Debug)]
pub(crate) struct Db {
    /// The number that the database has on disk until it is flushed.
    pub space: Space,
    /// The keys.
    pub table: Table,
    /// Where the expiry walk goes on.
    pub expire_position: u64,
    /// It may have been changed since its table was made.
    is_used: bool,
}

impl Db {
    fn new(space: Space, hasher: Hasher) -> Self {
        Self { space, table: Table::new(hasher), expire_position: 0, is_used: false }
    }
}

/// See the module doc. Borrowing one to change it makes it a used one.
#[derive(Debug)]
pub(crate) struct Databases {
    all: Vec<Db>,
    /// The numbers of the used ones, in any order.
    used: Vec<usize>,
    hasher: Hasher,
    /// Memory of a table that was never changed.
    unused_bytes: usize,
}

impl Databases {
    /// `count` empty ones, in spaces of their own.
    pub(super) fn new(count: usize, hasher: Hasher) -> Self {
        let all = (1..).map(|number| Db::new(Space(number), hasher)).take(count).collect();
        let unused_bytes = Table::new(hasher).memory_bytes();
        Self { all, used: Vec::new(), hasher, unused_bytes }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// All of them, by number.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Db> {
        self.all.iter()
    }

    /// Those that may hold something, in any order.
    pub(crate) fn used(&self) -> impl Iterator<Item = &Db> {
        self.used.iter().map(|index| &self.all[*index])
    }

    /// Bytes of all keys and tables.
    pub(super) fn memory_bytes(&self) -> usize {
        let used: usize = self.used().map(|db| db.table.memory_bytes()).sum();
        used + (self.all.len() - self.used.len()) * self.unused_bytes
    }

    /// The spaces, by number.
    pub(super) fn spaces_mut(&mut self) -> impl Iterator<Item = &mut Space> {
        self.all.iter_mut().map(|db| &mut db.space)
    }

    /// Adds one; its number.
    pub(super) fn push(&mut self, space: Space) -> usize {
        self.all.push(Db::new(space, self.hasher));
        self.all.len() - 1
    }

    /// Gives one another space.
    pub(super) fn set_space(&mut self, index: usize, space: Space) {
        self.all[index].space = space;
    }

    /// Keeps those with these spaces and no others, numbered in this order; a space that none has
    /// gets an empty one.
    pub(super) fn order(&mut self, spaces: impl Iterator<Item = Space>) {
        let old = std::mem::take(&mut self.all).into_iter();
        let mut by_space: BTreeMap<Space, Db> = old.map(|db| (db.space, db)).collect();
        let place = |space| by_space.remove(&space).unwrap_or_else(|| Db::new(space, self.hasher));
        self.all = spaces.map(place).collect();
        let used = self.all.iter().enumerate().filter(|(_, db)| db.is_used);
        self.used = used.map(|(index, _)| index).collect();
    }

    /// Exchanges two.
    pub(super) fn swap(&mut self, a: usize, b: usize) {
        self.all.swap(a, b);
        for used in &mut self.used {
            *used = match *used {
                used if used == a => b,
                used if used == b => a,
                used => used,
            };
        }
    }

    /// Takes the table of one out, which is as good as new then.
    pub(super) fn take(&mut self, index: usize) -> Table {
        let fresh = Db::new(self.all[index].space, self.hasher);
        let old = std::mem::replace(&mut self.all[index], fresh);
        self.used.retain(|used| *used != index);
        old.table
    }
}

impl Index<usize> for Databases {
    type Output = Db;

    fn index(&self, index: usize) -> &Db {
        &self.all[index]
    }
}

impl IndexMut<usize> for Databases {
    fn index_mut(&mut self, index: usize) -> &mut Db {
        let db = &mut self.all[index];
        if !std::mem::replace(&mut db.is_used, true) {
            self.used.push(index);
        }
        db
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::entry::NewValue;

    /// What the sums are to be.
    fn assert_sums(dbs: &Databases) {
        let bytes = dbs.iter().map(|db| db.table.memory_bytes()).sum::<usize>();
        assert_eq!(dbs.memory_bytes(), bytes);
        let values = |db: &Db| db.table.counts().values;
        assert_eq!(dbs.used().map(values).sum::<usize>(), dbs.iter().map(values).sum());
    }

    #[test]
    fn a_database_counts_from_its_first_change_on() {
        let hasher = Hasher::new(&[3; 16]);
        let mut dbs = Databases::new(1000, hasher);
        assert_eq!(dbs.used().count(), 0);
        assert_sums(&dbs);
        for (index, name) in [(7, b"a"), (999, b"b"), (7, b"c")] {
            dbs[index].table.insert(hasher.key(name), NewValue::Int(1), None);
            assert_sums(&dbs);
        }
        assert_eq!(dbs.used().count(), 2);
        let spaces = [7, 5000, 8, 1000].map(Space);
        dbs.order(spaces.into_iter());
        assert_eq!(dbs.iter().map(|db| db.space).collect::<Vec<_>>(), spaces);
        let values = |dbs: &Databases, index: usize| dbs[index].table.counts().values;
        assert_eq!((values(&dbs, 2), values(&dbs, 3)), (2, 1), "of 7 and 999 before");
        assert_eq!(dbs.used().count(), 2);
        assert_sums(&dbs);
        dbs.swap(2, 0);
        assert_eq!((values(&dbs, 0), values(&dbs, 2)), (2, 0));
        assert_sums(&dbs);
        dbs.swap(3, 0);
        assert_eq!((values(&dbs, 0), values(&dbs, 3)), (1, 2));
        assert_sums(&dbs);
        dbs.swap(0, 3);
        dbs.swap(0, 2);
        assert_eq!(dbs.take(2).counts().values, 2);
        assert_eq!(dbs.used().count(), 1, "it is as good as new");
        assert_sums(&dbs);
        let last = dbs.push(Space(6000));
        dbs[last].table.insert(hasher.key(b"d"), NewValue::Int(1), None);
        assert_sums(&dbs);
    }
}
