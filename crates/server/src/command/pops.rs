//! What LMPOP and ZMPOP share: their words, and the choice of the key.

use crate::keyspace::Key;
use crate::keyspace::table::Loc;
use crate::types::number::parse_i64;

use super::collection::{Collection, counted_keys};
use super::{Ctx, Error, Request};

/// What LMPOP and ZMPOP are told.
#[derive(Debug)]
pub(super) struct ManyPop<'r, E> {
    /// The first of these that exists is popped from.
    pub keys: Vec<Key<'r>>,
    /// From which end.
    pub end: E,
    /// How many elements, at most.
    pub count: usize,
}

impl<'r, E> ManyPop<'r, E> {
    /// Reads what begins with the number of keys in argument `at`.
    ///
    /// # Errors
    /// [`Error::SYNTAX`], and two of its own.
    pub(super) fn parse(
        ctx: &Ctx<'_>,
        request: &Request<'r>,
        at: usize,
        end: impl Fn(&[u8]) -> Option<E>,
    ) -> Result<Self, Error> {
        const NO_KEYS: Error = Error::fixed("ERR numkeys should be greater than 0");
        const NO_COUNT: Error = Error::fixed("ERR count should be greater than 0");
        let number = |text, error| parse_i64(text).filter(|number| *number > 0).ok_or(error);
        let keys = number(request.arg(at), NO_KEYS)?;
        let (keys, next) = counted_keys(ctx, request, at, keys).ok_or(Error::SYNTAX)?;
        let mut rest = request.from(next);
        let end = rest.next().and_then(end).ok_or(Error::SYNTAX)?;
        let mut count = None;
        while let Some(word) = rest.next() {
            let is_count = count.is_none() && word.eq_ignore_ascii_case(b"count");
            let value = rest.next().filter(|_| is_count).ok_or(Error::SYNTAX)?;
            count = Some(number(value, NO_COUNT)?);
        }
        let count = count.map_or(1, |count| usize::try_from(count).unwrap_or(usize::MAX));
        Ok(Self { keys, end, count })
    }
}

/// The first of `keys` that exists.
///
/// # Errors
/// [`Error::WRONG_TYPE`], if it holds another type.
pub(super) fn first_of<'r, T: Collection>(
    ctx: &mut Ctx<'_>,
    keys: &[Key<'r>],
) -> Result<Option<(Key<'r>, Loc)>, Error> {
    for key in keys {
        if let Some(loc) = ctx.find_as::<T>(*key)? {
            return Ok(Some((*key, loc)));
        }
    }
    Ok(None)
}
