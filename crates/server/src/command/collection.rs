//! What the families of collections share: typed access to a key's value.
//!
//! A key that holds another type is an error before anything is changed. A collection that a
//! command creates is put in empty and filled by the same change that is journalled.

use std::marker::PhantomData;
use std::sync::Arc;

use flintlock_diskcache::cache::home::Known;

use crate::keyspace::Key;
use crate::keyspace::entry::{NewValue, ValueRef};
use crate::keyspace::table::Loc;
use crate::resp::encode::{Proto, Reply};
use crate::tier::Effect;
use crate::types::number::parse_i64;
use crate::types::{Hash, List, Object, Rules, Score, Set, SplitMix64, ZSet};

use super::cursor::{Options, parse_cursor, reply_head};
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

/// A collection of pairs: fields with values, members with scores.
pub(super) trait Paired: Collection + 'static {
    /// What an element brings along.
    type Other<'a>;

    /// Any pair.
    fn random(&self, rng: &mut SplitMix64) -> Option<(&[u8], Self::Other<'_>)>;
    /// So many different ones, as far as there are.
    fn sample(&self, count: usize, rng: &mut SplitMix64) -> Vec<(&[u8], Self::Other<'_>)>;
    /// One after the other, each drawn from all; ends only when there are none.
    fn draws<'a>(
        &'a self,
        rng: &'a mut SplitMix64,
    ) -> impl Iterator<Item = (&'a [u8], Self::Other<'a>)>;
    /// Visits about `count` pairs from a cursor on; returns where to go on, 0 at the end.
    fn scan<'a>(
        &'a self,
        cursor: u64,
        count: usize,
        visit: impl FnMut(&'a [u8], Self::Other<'a>),
    ) -> u64;
}

macro_rules! paired {
    ($($name:ident: $other:ty),*) => {$(
        impl Paired for $name {
            type Other<'a> = $other;

            fn random(&self, rng: &mut SplitMix64) -> Option<(&[u8], Self::Other<'_>)> {
                $name::random(self, rng)
            }

            fn sample(&self, count: usize, rng: &mut SplitMix64) -> Vec<(&[u8], Self::Other<'_>)> {
                $name::sample(self, count, rng)
            }

            fn draws<'a>(
                &'a self,
                rng: &'a mut SplitMix64,
            ) -> impl Iterator<Item = (&'a [u8], Self::Other<'a>)> {
                $name::draws(self, rng)
            }

            fn scan<'a>(
                &'a self,
                cursor: u64,
                count: usize,
                visit: impl FnMut(&'a [u8], Self::Other<'a>),
            ) -> u64 {
                $name::scan(self, cursor, count, visit)
            }
        }
    )*};
}

paired!(Hash: &'a [u8], ZSet: Score);

/// A collection that stays as it is while a command looks at it, whatever it changes; a missing one
/// is empty.
#[derive(Debug)]
pub(super) struct Shared<T> {
    object: Arc<Object>,
    kind: PhantomData<T>,
}

impl<T: Collection> Shared<T> {
    fn new(object: Arc<Object>) -> Self {
        Self { object, kind: PhantomData }
    }

    /// The collection.
    pub(super) fn get(&self) -> &T {
        T::of(&self.object).expect("the type was checked when the key was found")
    }
}

/// What an argument takes beside its bytes in a stored collection, at most.
pub(super) const ELEMENT_BYTES: usize = 16;

impl Ctx<'_> {
    /// Checks that what was found is a collection of this type.
    ///
    /// # Errors
    /// [`Error::WRONG_TYPE`].
    pub(super) fn check_type<T: Collection>(
        &self,
        found: Option<Loc>,
    ) -> Result<Option<Loc>, Error> {
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
        // Scores and lengths are stored longer than they may be written.
        self.find_or_create_for::<T>(key, request.len_bytes() + request.len() * ELEMENT_BYTES)
    }

    /// As [`Ctx::find_or_create`], for elements that take so many bytes at most.
    ///
    /// # Errors
    /// [`Error::WRONG_TYPE`], [`Error::VALUE_TOO_LARGE`].
    pub(super) fn find_or_create_for<T: Collection>(
        &mut self,
        key: Key<'_>,
        bytes: usize,
    ) -> Result<(Loc, Known), Error> {
        let found = self.find_as::<T>(key)?;
        let has = found.map_or(0, |loc| match self.entry(loc).value() {
            ValueRef::Object(object) => object.memory_bytes(),
            _ => 0,
        });
        self.check_size(has + bytes)?;
        match found {
            Some(loc) => Ok((loc, Known::Value)),
            None => Ok(self.create(key, NewValue::Object(Arc::new(T::default().wrap())))),
        }
    }

    /// Finds the objects of keys, all of them before any is used: a look deletes a key whose time
    /// is over, and that moves others.
    ///
    /// # Errors
    /// [`Error::WRONG_TYPE`] for one that does not fit, whatever the others are.
    pub(super) fn read_objects(
        &mut self,
        keys: &[Key<'_>],
        fits: impl Fn(&Object) -> bool,
    ) -> Result<Vec<Option<Arc<Object>>>, Error> {
        let all = keys.iter().map(|key| match self.read(*key).map(|loc| self.entry(loc).value()) {
            None => Ok(None),
            Some(ValueRef::Object(object)) if fits(object) => Ok(Some(Arc::clone(object))),
            Some(_) => Err(Error::WRONG_TYPE),
        });
        all.collect()
    }

    /// As [`Ctx::read_objects`], for collections of one type.
    ///
    /// # Errors
    /// [`Error::WRONG_TYPE`].
    pub(super) fn read_all<T: Collection>(
        &mut self,
        keys: &[Key<'_>],
    ) -> Result<Vec<Shared<T>>, Error> {
        let objects = self.read_objects(keys, |object| T::of(object).is_some())?;
        let or_empty = |object: Option<_>| object.unwrap_or_else(|| Arc::new(T::default().wrap()));
        Ok(objects.into_iter().map(|object| Shared::new(or_empty(object))).collect())
    }

    /// Gives `key` the result of a command with STORE, whatever it held: none if that is empty.
    /// Answers with its size.
    ///
    /// # Errors
    /// [`Error::VALUE_TOO_LARGE`].
    pub(super) fn store<T: Collection>(
        &mut self,
        key: Key<'_>,
        result: T,
        reply: &mut Reply<'_>,
    ) -> Result<(), Error> {
        let result = result.wrap();
        self.check_size(result.memory_bytes())?;
        reply.count(result.len());
        if result.is_empty() {
            self.delete_key(key);
        } else {
            self.set(key, NewValue::Object(Arc::new(result)), None);
        }
        Ok(())
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

/// How many random elements are asked for.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) enum Draw {
    /// So many different ones, as far as there are.
    Distinct(usize),
    /// So many, each drawn from all.
    Repeated(usize),
}

impl Draw {
    /// Reads a count: a negative one asks for repetition.
    ///
    /// # Errors
    /// [`Error::NOT_INTEGER`], and one for the number without an opposite.
    pub(super) fn parse(text: &[u8]) -> Result<Self, Error> {
        const NO_OPPOSITE: Error = Error::fixed(
            "ERR value is out of range, value must between -9223372036854775807 and \
             9223372036854775807",
        );
        let count = parse_i64(text).ok_or(Error::NOT_INTEGER)?;
        let size = usize::try_from(count.checked_abs().ok_or(NO_OPPOSITE)?);
        let size = size.expect("an absolute value fits");
        Ok(if count < 0 { Self::Repeated(size) } else { Self::Distinct(size) })
    }

    /// Reads the count of HRANDFIELD or ZRANDMEMBER, and whether `with` follows: then elements are
    /// answered in pairs with something else.
    ///
    /// # Errors
    /// As [`Draw::parse`], [`Error::SYNTAX`], and [`Error::OUT_OF_RANGE`] when there would be too
    /// many strings.
    pub(super) fn parse_pairs(request: &Request<'_>, with: &str) -> Result<(Self, bool), Error> {
        let draw = Self::parse(request.arg(2))?;
        let is_pair = request.get(3).is_some_and(|w| w.eq_ignore_ascii_case(with.as_bytes()));
        if request.len() > 4 || request.len() == 4 && !is_pair {
            return Err(Error::SYNTAX);
        }
        let (Self::Distinct(size) | Self::Repeated(size)) = draw;
        if is_pair && size > i64::MAX as usize / 2 {
            return Err(Error::OUT_OF_RANGE);
        }
        Ok((draw, is_pair))
    }
}

/// How elements are answered that may bring something of theirs along: a value, a score.
#[derive(Copy, Clone, Debug)]
pub(super) struct Pairs {
    is_pair: bool,
    /// RESP3 has each pair in an array of its own.
    is_nested: bool,
}

impl Pairs {
    /// Elements alone, or pairs.
    pub(super) fn new(is_pair: bool, proto: Proto) -> Self {
        Self { is_pair, is_nested: is_pair && proto == Proto::Resp3 }
    }

    /// The head of a reply of so many elements.
    pub(super) fn head(self, elements: usize, reply: &mut Reply<'_>) {
        let each = if self.is_pair && !self.is_nested { 2 } else { 1 };
        reply.array(elements.saturating_mul(each));
    }

    /// An element, and what it brings along if it was asked for.
    pub(super) fn element(
        self,
        element: &[u8],
        reply: &mut Reply<'_>,
        other: impl FnOnce(&mut Reply<'_>),
    ) {
        if self.is_nested {
            reply.array(2);
        }
        reply.bulk(element);
        if self.is_pair {
            other(reply);
        }
    }
}

/// HSCAN or ZSCAN; `show` answers what an element brings along.
///
/// # Errors
/// [`Error::INVALID_CURSOR`], [`Error::WRONG_TYPE`], and those of [`Options`] if there is a key.
pub(super) fn walk<T: Paired>(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
    show: impl Fn(T::Other<'_>, &mut Reply<'_>),
) -> Result<(), Error> {
    let cursor = parse_cursor(request.arg(2))?;
    let Some(pairs) = ctx.read_as::<T>(ctx.key(request, 1))? else {
        reply_head(0, 0, reply);
        return Ok(());
    };
    let options = Options::of_elements(request)?;
    let mut found = Vec::new();
    let next = pairs.scan(cursor, options.count, |element, other| {
        if options.admits(element) {
            found.push((element, other));
        }
    });
    reply_head(next, 2 * found.len(), reply);
    for (element, other) in found {
        reply.bulk(element);
        show(other, reply);
    }
    Ok(())
}

/// HRANDFIELD or ZRANDMEMBER; `with` is the option for pairs, `show` answers their second halves.
///
/// # Errors
/// [`Error::WRONG_TYPE`], and those of [`Draw::parse_pairs`] and [`reply_repeated`].
pub(super) fn draw<T: Paired>(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
    with: &str,
    show: impl Fn(T::Other<'_>, &mut Reply<'_>),
) -> Result<(), Error> {
    let mut rng = ctx.server.rng();
    if request.len() == 2 {
        let pairs = ctx.read_as::<T>(ctx.key(request, 1))?;
        match pairs.and_then(|pairs| pairs.random(&mut rng)) {
            Some((element, _)) => reply.bulk(element),
            None => reply.null(),
        }
        return Ok(());
    }
    let (draw, is_pair) = Draw::parse_pairs(request, with)?;
    let Some(pairs) = ctx.read_as::<T>(ctx.key(request, 1))? else {
        reply.array(0);
        return Ok(());
    };
    let form = Pairs::new(is_pair, reply.proto);
    let one = |(element, other), reply: &mut Reply<'_>| {
        form.element(element, reply, |reply| show(other, reply));
    };
    match draw {
        Draw::Distinct(count) => {
            let chosen = pairs.sample(count, &mut rng);
            form.head(chosen.len(), reply);
            chosen.into_iter().for_each(|pair| one(pair, reply));
            Ok(())
        }
        Draw::Repeated(count) => {
            let mut draws = pairs.draws(&mut rng);
            form.head(count, reply);
            reply_repeated(count, reply, |reply| {
                draws.next().into_iter().for_each(|pair| one(pair, reply));
            })
        }
    }
}

/// Most bytes of a reply to [`Draw::Repeated`], which can ask for any number of elements of the
/// smallest collection.
const REPEATED_BYTES_MAX: usize = 64 << 20;
/// What an element takes in a reply, at least.
const BULK_BYTES_MIN: usize = b"$0\r\n\r\n".len();

/// Answers with elements drawn again and again by `one`.
///
/// # Errors
/// [`Error::OUT_OF_RANGE`], when the reply would be longer than [`REPEATED_BYTES_MAX`].
pub(super) fn reply_repeated(
    count: usize,
    reply: &mut Reply<'_>,
    mut one: impl FnMut(&mut Reply<'_>),
) -> Result<(), Error> {
    if count > REPEATED_BYTES_MAX / BULK_BYTES_MIN {
        return Err(Error::OUT_OF_RANGE);
    }
    let before = reply.output().len();
    for _ in 0..count {
        one(reply);
        if reply.output().is_cut() {
            break;
        }
        if reply.output().len() - before > REPEATED_BYTES_MAX {
            return Err(Error::OUT_OF_RANGE);
        }
    }
    Ok(())
}

/// The `count` keys behind argument `at`, and where the arguments behind them begin; `None` if the
/// request is shorter.
pub(super) fn counted_keys<'r>(
    ctx: &Ctx<'_>,
    request: &Request<'r>,
    at: usize,
    count: i64,
) -> Option<(Vec<Key<'r>>, usize)> {
    let end = usize::try_from(count).ok()?.saturating_add(at + 1);
    (end <= request.len()).then(|| ((at + 1..end).map(|i| ctx.key(request, i)).collect(), end))
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
    use crate::resp::encode::Output;

    #[test]
    fn counts_of_draws() {
        assert_eq!(Draw::parse(b"3"), Ok(Draw::Distinct(3)));
        assert_eq!(Draw::parse(b"-3"), Ok(Draw::Repeated(3)));
        assert_eq!(Draw::parse(b"x"), Err(Error::NOT_INTEGER));
        assert!(Draw::parse(b"-9223372036854775808").is_err());
    }

    /// However many are asked for, and however long they are.
    #[test]
    fn replies_of_repeated_draws_are_bounded() {
        let long = vec![b'x'; REPEATED_BYTES_MAX / 8];
        for (count, element) in [(usize::MAX, &b""[..]), (9, &long)] {
            let mut out = Output::default();
            let mut reply = Reply::new(&mut out, Proto::Resp2);
            let done = reply_repeated(count, &mut reply, |reply| reply.bulk(element));
            assert_eq!(done, Err(Error::OUT_OF_RANGE), "{count}");
            assert!(out.len() <= REPEATED_BYTES_MAX * 5 / 4, "{} bytes", out.len());
        }
        let mut out = Output::default();
        out.set_limit(std::num::NonZeroUsize::new(1000));
        let mut drawn = 0;
        let mut reply = Reply::new(&mut out, Proto::Resp2);
        let done = reply_repeated(1_000_000, &mut reply, |reply| {
            drawn += 1;
            reply.bulk(b"element");
        });
        assert!(done.is_ok() && drawn < 100, "{drawn} draws for a reply that nobody gets");
    }

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
