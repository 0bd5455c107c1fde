//! What the families of collections share: typed access to a key's value.
//!
//! A key that holds another type is an error before anything is changed. A collection that a
//! command creates is put in empty and filled by the same change that is journalled.

use std::sync::Arc;

use flintlock_diskcache::cache::home::Known;

use crate::keyspace::Key;
use crate::keyspace::entry::{NewValue, ValueRef};
use crate::keyspace::table::Loc;
use crate::tier::Effect;
use crate::types::number::parse_i64;
use crate::types::{Hash, List, Object, Rules, Set, ZSet};

use super::{Ctx, Error, Request};

/// One type of collection among the variants of [`Object`].
pub(super) trait Collection: Default {
    /// The collection, if the object is one.
    fn of(object: &Object) -> Option<&Self>;
    /// As [`Collection::of`], for changing it.
    fn of_mut(object: &mut Object) -> Option<&mut Self>;
    /// Wraps it.
    fn wrap(self) -> Object;
}

macro_rules! collection {
    ($($name:ident),*) => {$(
        impl Collection for $name {
            fn of(object: &Object) -> Option<&Self> {
                if let Object::$name(it) = object { Some(it) } else { None }
            }

            fn of_mut(object: &mut Object) -> Option<&mut Self> {
                if let Object::$name(it) = object { Some(it) } else { None }
            }

            fn wrap(self) -> Object {
                Object::$name(self)
            }
        }
    )*};
}

collection!(List, Hash, Set, ZSet);

/// What an argument takes beside its bytes in a stored collection, at most.
const ELEMENT_BYTES: usize = 16;

impl Ctx<'_> {
    fn check_type<T: Collection>(&self, found: Option<Loc>) -> Result<Option<Loc>, Error> {
        match found.map(|loc| self.entry(loc).value()) {
            None => Ok(None),
            Some(ValueRef::Object(object)) if T::of(object).is_some() => Ok(found),
            Some(_) => Err(Error::WRONG_TYPE),
        }
    }

    /// Finds the collection of `key` for reading; counts a hit or a miss.
    ///
    /// # Errors
    /// [`Error::WRONG_TYPE`].
    pub(super) fn read_as<T: Collection>(&mut self, key: Key<'_>) -> Result<Option<&T>, Error> {
        let found = self.read(key);
        let found = self.check_type::<T>(found)?;
        Ok(found.map(|loc| self.view(loc)))
    }

    /// Finds the collection of `key` for changing it.
    ///
    /// # Errors
    /// [`Error::WRONG_TYPE`].
    pub(super) fn find_as<T: Collection>(&mut self, key: Key<'_>) -> Result<Option<Loc>, Error> {
        let found = self.find(key);
        self.check_type::<T>(found)
    }

    /// Finds the collection of `key`, or puts in an empty one; the caller adds what `request` has.
    ///
    /// # Errors
    /// [`Error::WRONG_TYPE`], [`Error::VALUE_TOO_LARGE`].
    pub(super) fn find_or_create<T: Collection>(
        &mut self,
        key: Key<'_>,
        request: &Request<'_>,
    ) -> Result<(Loc, Known), Error> {
        let found = self.find_as::<T>(key)?;
        let has = found.map_or(0, |loc| match self.entry(loc).value() {
            ValueRef::Object(object) => object.memory_bytes(),
            _ => 0,
        });
        // Scores and lengths are stored longer than they may be written.
        self.check_size(has + request.len_bytes() + request.len() * ELEMENT_BYTES)?;
        match found {
            Some(loc) => Ok((loc, Known::Value)),
            None => Ok(self.create(key, NewValue::Object(Arc::new(T::default().wrap())))),
        }
    }

    /// The collection at `loc`.
    pub(super) fn view<T: Collection>(&self, loc: Loc) -> &T {
        let found = match self.entry(loc).value() {
            ValueRef::Object(object) => T::of(object),
            _ => None,
        };
        found.expect("the type was checked when the key was found")
    }

    /// Changes a collection; see [`Ctx::change`]. `f` returns how many elements it
    /// changed; none means that nothing happened.
    pub(super) fn change_as<T: Collection>(
        &mut self,
        key: Key<'_>,
        at: (Loc, Known),
        effect: Effect<'_>,
        f: impl FnOnce(&mut T, &Rules) -> usize,
    ) -> usize {
        let rules = self.server.rules.clone();
        self.change(key, at, effect, |object| {
            f(T::of_mut(object).expect("the type was checked when the key was found"), &rules)
        })
    }
}

/// A count that must not be negative.
///
/// # Errors
/// [`Error::NOT_POSITIVE`], also for what is no number.
pub(super) fn parse_count(text: &[u8]) -> Result<usize, Error> {
    let count = parse_i64(text).and_then(|count| usize::try_from(count).ok());
    count.ok_or(Error::NOT_POSITIVE)
}

/// The indexes that `start` and `stop` name in `len` elements; negative ones count from the end.
pub(super) fn index_range(start: i64, stop: i64, len: usize) -> std::ops::Range<usize> {
    let len = i64::try_from(len).unwrap_or(i64::MAX);
    let from_end = |i: i64| if i < 0 { i + len } else { i };
    let start = from_end(start).max(0);
    let end = from_end(stop).min(len - 1) + 1;
    // Both are in 0..=len now, if there is anything at all.
    if start >= end { 0..0 } else { start as usize..end as usize }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_indexes() {
        let cases = [
            ((0, -1, 3), 0..3),
            ((-2, -1, 3), 1..3),
            ((-100, 100, 3), 0..3),
            ((2, 1, 3), 0..0),
            ((3, 5, 3), 0..0),
            ((0, -4, 3), 0..0),
            ((0, -1, 0), 0..0),
            ((i64::MIN, i64::MAX, 3), 0..3),
        ];
        for ((start, stop, len), range) in cases {
            assert_eq!(index_range(start, stop, len), range, "{start} {stop} of {len}");
        }
    }
}
