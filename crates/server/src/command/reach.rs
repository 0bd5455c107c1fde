//! Which databases and keys requests reach, told before any of them has run.
//!
//! Main thread; pure. What a request needs is gathered for a whole transaction at once, and SELECT
//! and SWAPDB inside it change what the requests behind them mean.

use std::collections::BTreeMap;

use crate::types::number::parse_i64;

use super::{Error, Flags, Keys, Request};

/// The database that an argument names, one of `databases`.
///
/// # Errors
/// It names none.
pub(super) fn database(text: &[u8], databases: usize) -> Result<usize, Error> {
    let number = parse_i64(text).ok_or(Error::NOT_INTEGER)?;
    let number = i32::try_from(number).map_err(|_| Error::NOT_INT)?;
    let index = usize::try_from(number).ok().filter(|index| *index < databases);
    index.ok_or(Error::DB_OUT_OF_RANGE)
}

/// Where in a transaction, or in front of a single request, one stands.
#[derive(Debug)]
pub(crate) struct Reach {
    /// The database selected here.
    db: usize,
    databases: usize,
    /// Where databases were before the first SWAPDB; those in their own place are left out.
    swapped: BTreeMap<usize, usize>,
}

impl Reach {
    /// In front of the first request of a client of `db`, one of `databases`.
    pub(crate) fn new(db: usize, databases: usize) -> Self {
        Self { db, databases, swapped: BTreeMap::new() }
    }

    /// The number that the database which is `db` here has now, before anything has run.
    pub(crate) fn place(&self, db: usize) -> usize {
        self.swapped.get(&db).copied().unwrap_or(db)
    }

    /// The selected database, by the number it has now.
    pub(crate) fn db(&self) -> usize {
        self.place(self.db)
    }

    /// The positions of the keys of a request made here, each with its database as it is numbered
    /// now.
    pub(crate) fn keys(
        &self,
        request: &Request<'_>,
    ) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (here, command) = (self.db(), request.command);
        let other = command.reaches.and_then(|reaches| reaches(request, self.databases));
        let other = other.map(|db| self.place(db));
        // COPY has its second key there, and MOVE its only one in both.
        let twice = other.filter(|_| command.keys == Keys::ONE).map(|db| (db, 1));
        let there = other.unwrap_or(here);
        let positions = request.key_positions();
        positions.map(move |i| (if i == 1 { here } else { there }, i)).chain(twice)
    }

    /// The databases that the request exchanges, as they are numbered here.
    pub(crate) fn swaps(&self, request: &Request<'_>) -> Option<(usize, usize)> {
        let number = |index| database(request.arg(index), self.databases).ok();
        let is_swap = request.command.name == "swapdb" && request.len() == 3;
        is_swap.then(|| Some((number(1)?, number(2)?))).flatten()
    }

    /// Goes on behind `request`. One that will be refused leaves everything where it is.
    pub(crate) fn pass(&mut self, request: &Request<'_>) {
        if request.command.flags.has(Flags::SELECTS) && request.len() == 2 {
            self.db = database(request.arg(1), self.databases).unwrap_or(self.db);
        } else if let Some((a, b)) = self.swaps(request) {
            let (was_a, was_b) = (self.place(a), self.place(b));
            self.swapped.insert(a, was_b);
            self.swapped.insert(b, was_a);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{OwnedRequest, lookup};
    use super::*;

    fn request(line: &str) -> OwnedRequest {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let command = lookup(words[0]).expect("a command");
        OwnedRequest::new(command, words.into_iter(), 0)
    }

    fn keys(reach: &Reach, line: &str) -> Vec<(usize, usize)> {
        reach.keys(&request(line).get()).collect()
    }

    #[test]
    fn keys_are_looked_for_where_they_will_be() {
        let mut reach = Reach::new(0, 4);
        assert_eq!(keys(&reach, "mget a b"), [(0, 1), (0, 2)]);
        assert_eq!(keys(&reach, "move a 2"), [(0, 1), (2, 1)]);
        assert_eq!(keys(&reach, "copy a b replace db 3"), [(0, 1), (3, 2)]);
        assert_eq!(keys(&reach, "sintercard 2 a b limit 1"), [(0, 2), (0, 3)]);
        assert_eq!(keys(&reach, "sintercard 9 a b"), [(0, 2), (0, 3)]);
        for none in ["sintercard -1 a", "sintercard x a", "sintercard 0 a"] {
            assert_eq!(keys(&reach, none), []);
        }
        for refused in ["copy a b db 4", "copy a b db", "copy a b db x", "copy a b"] {
            assert_eq!(keys(&reach, refused), [(0, 1), (0, 2)]);
        }
        let behind = [
            ("select 9", 0, [(0, 1), (1, 1)]),
            ("swapdb 0 1", 1, [(1, 1), (0, 1)]),
            ("swapdb 0 4", 1, [(1, 1), (0, 1)]),
            ("swapdb 1 2", 1, [(1, 1), (2, 1)]),
            ("select 2", 0, [(0, 1), (2, 1)]),
            ("swapdb 2 2", 0, [(0, 1), (2, 1)]),
            ("swapdb 1 0", 0, [(0, 1), (1, 1)]),
        ];
        for (line, db, moved) in behind {
            reach.pass(&request(line).get());
            assert_eq!((reach.db(), keys(&reach, "move a 1")), (db, moved.to_vec()), "{line}");
        }
    }
}
