//! SORT and SORT_RO: the elements of a collection in order, by their own value or by that of other
//! keys, whose names are made of the elements.
//!
//! Those other keys cannot be declared. What is on disk only is asked for by [`Ctx::need`] before
//! anything is changed; the request then waits and is run again from its start.
//!
//! Source: sort.c of Redis 7.0.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use crate::keyspace::entry::ValueRef;
use crate::resp::encode::Reply;
use crate::types::list::End;
use crate::types::number::{parse_f64_weight, parse_i64};
use crate::types::{List, Object};

use super::{Command, Ctx, Error, Flags, Keys, Request};

const WRITE: Flags = Flags::WRITE.or(Flags::DENYOOM);

/// The rows of this family.
pub(super) fn commands() -> Vec<Command> {
    vec![
        Command::new("sort", sort, -2, &[WRITE, Flags::DANGEROUS], Keys::ONE).needing(rehearse),
        Command::new("sort_ro", sort, -2, &[Flags::READONLY, Flags::DANGEROUS], Keys::ONE)
            .needing(rehearse),
    ]
}

/// What follows the key.
#[derive(Debug, Default)]
struct Options<'a> {
    descending: bool,
    alpha: bool,
    /// First element and how many; a negative count is all.
    limit: Option<(i64, i64)>,
    by: Option<&'a [u8]>,
    gets: Vec<&'a [u8]>,
    store: Option<&'a [u8]>,
}

impl<'a> Options<'a> {
    fn parse(request: &Request<'a>) -> Result<Self, Error> {
        let may_store = request.command.flags.has(Flags::WRITE);
        let mut options = Self::default();
        let mut i = 2;
        while let Some(word) = request.get(i) {
            let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
            let (one, two) = (request.get(i + 1), request.get(i + 2));
            i += match (one, two) {
                _ if is(b"asc") || is(b"desc") => {
                    options.descending = is(b"desc");
                    1
                }
                _ if is(b"alpha") => {
                    options.alpha = true;
                    1
                }
                (Some(skip), Some(count)) if is(b"limit") => {
                    let number = |text| parse_i64(text).ok_or(Error::NOT_INTEGER);
                    options.limit = Some((number(skip)?, number(count)?));
                    3
                }
                (Some(to), _) if is(b"store") && may_store => {
                    options.store = Some(to);
                    2
                }
                (Some(pattern), _) if is(b"by") => {
                    options.by = Some(pattern);
                    2
                }
                (Some(pattern), _) if is(b"get") => {
                    options.gets.push(pattern);
                    2
                }
                _ => return Err(Error::SYNTAX),
            };
        }
        Ok(options)
    }

    /// The part of `len` elements in order that is wanted.
    fn range(&self, len: usize) -> Range<usize> {
        let (skip, count) = self.limit.unwrap_or((0, -1));
        let start = usize::try_from(skip).unwrap_or(0).min(len);
        let count = usize::try_from(count).unwrap_or(len);
        start..start.saturating_add(count).min(len)
    }
}

/// Names of other keys, made of elements: the first `*` is the element, and what follows `->` is a
/// field of a hash.
#[derive(Copy, Clone, Debug)]
struct Pattern<'a> {
    before: &'a [u8],
    after: &'a [u8],
    field: Option<&'a [u8]>,
}

impl<'a> Pattern<'a> {
    /// `None` without a `*`: then it names no key.
    fn parse(text: &'a [u8]) -> Option<Self> {
        let star = text.iter().position(|byte| *byte == b'*')?;
        let (before, after) = (&text[..star], &text[star + 1..]);
        let arrow = after.windows(2).position(|two| two == b"->");
        Some(match arrow.filter(|at| at + 2 < after.len()) {
            Some(at) => Self { before, after: &after[..at], field: Some(&after[at + 2..]) },
            None => Self { before, after, field: None },
        })
    }

    fn name(&self, element: &[u8]) -> Vec<u8> {
        [self.before, element, self.after].concat()
    }
}

/// The value that `pattern` leads to from `element`: none if there is no such key or field, or it
/// is of another type.
fn follow(ctx: &mut Ctx<'_>, pattern: Pattern<'_>, element: &[u8]) -> Option<Vec<u8>> {
    let name = pattern.name(element);
    let loc = ctx.read(ctx.hasher().key(&name))?;
    match (pattern.field, ctx.entry(loc).value()) {
        (Some(field), ValueRef::Object(object)) => match &**object {
            Object::Hash(hash) => hash.get(field).map(<[u8]>::to_vec),
            _ => None,
        },
        (None, _) => ctx.string(loc, &mut itoa::Buffer::new()).ok().map(<[u8]>::to_vec),
        (Some(_), _) => None,
    }
}

/// The key that a SORT stores its result in.
pub(super) fn stored<'a>(request: &Request<'a>) -> Option<&'a [u8]> {
    Options::parse(request).ok()?.store
}

/// Has every key that `patterns` make of `elements` in memory.
fn need(ctx: &mut Ctx<'_>, patterns: &[Pattern<'_>], elements: &[Vec<u8>]) -> Result<(), Error> {
    let names = patterns.iter().flat_map(|p| elements.iter().map(|element| p.name(element)));
    ctx.need(names)
}

/// The collection to be sorted.
fn source(ctx: &mut Ctx<'_>, request: &Request<'_>) -> Result<Option<Arc<Object>>, Error> {
    let Some(loc) = ctx.read(ctx.key(request, 1)) else { return Ok(None) };
    match ctx.entry(loc).value() {
        ValueRef::Object(object) if !matches!(**object, Object::Hash(_)) => {
            Ok(Some(Arc::clone(object)))
        }
        _ => Err(Error::WRONG_TYPE),
    }
}

/// All elements, as the collection has them.
fn elements(source: &Object) -> Vec<Vec<u8>> {
    match source {
        Object::List(list) => list.iter().map(<[u8]>::to_vec).collect(),
        Object::Set(set) => set.iter().map(|member| member.to_vec()).collect(),
        Object::ZSet(zset) => zset.iter().map(|(member, _)| member.to_vec()).collect(),
        Object::Hash(_) => Vec::new(),
    }
}

/// What elements are compared by.
#[derive(PartialEq, PartialOrd, Debug)]
enum Weight {
    Number(f64),
    /// None is a key that is not there; it comes first.
    Text(Option<Vec<u8>>),
}

impl Weight {
    fn new(text: Option<Vec<u8>>, alpha: bool, stored: bool) -> Result<Self, Error> {
        if !alpha {
            let number = text.map_or(Some(0.0), |text| parse_f64_weight(&text));
            return number.map(Self::Number).ok_or(NOT_DOUBLE);
        }
        // What is only shown is compared as C does, up to a NUL; what is stored, as bytes.
        let end = text.iter().flatten().position(|byte| *byte == 0);
        let end = end.filter(|_| !stored).unwrap_or(usize::MAX);
        Ok(Self::Text(text.map(|mut text| {
            text.truncate(end);
            text
        })))
    }
}

const NOT_DOUBLE: Error = Error::fixed("ERR One or more scores can't be converted into double");

/// Puts `elements` in order.
fn order(
    ctx: &mut Ctx<'_>,
    options: &Options<'_>,
    alpha: bool,
    by: Option<Pattern<'_>>,
    elements: Vec<Vec<u8>>,
) -> Result<Vec<Vec<u8>>, Error> {
    let mut weighed = Vec::with_capacity(elements.len());
    for element in elements {
        let text = match by {
            Some(pattern) => follow(ctx, pattern, &element),
            None => Some(element.clone()),
        };
        weighed.push((Weight::new(text, alpha, options.store.is_some())?, element));
    }
    weighed.sort_by(|(a, x), (b, y)| {
        let by_weight = a.partial_cmp(b).unwrap_or(Ordering::Equal);
        // Equal numbers are told apart by the elements, so that replies do not vary.
        let ordering = if alpha { by_weight } else { by_weight.then_with(|| x.cmp(y)) };
        if options.descending { ordering.reverse() } else { ordering }
    });
    Ok(weighed.into_iter().map(|(_, element)| element).collect())
}

/// The wanted elements in order, when every other key that SORT will look at is in memory.
fn gather(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    options: &Options<'_>,
) -> Result<Vec<Vec<u8>>, Error> {
    let list = match source(ctx, request)? {
        Some(source) => gather_from(ctx, options, &source)?,
        None => Vec::new(),
    };
    // Nothing to store deletes the destination; anything else overwrites it unseen.
    ctx.need(options.store.filter(|_| list.is_empty()))?;
    Ok(list)
}

fn gather_from(
    ctx: &mut Ctx<'_>,
    options: &Options<'_>,
    source: &Object,
) -> Result<Vec<Vec<u8>>, Error> {
    let mut list = elements(source);
    let by = options.by.and_then(Pattern::parse);
    // A pattern that names no key asks for no order. But what is stored must not depend on how a
    // set happens to be kept.
    let as_it_is = options.by.is_some() && by.is_none();
    let fixed = as_it_is && options.store.is_some() && matches!(source, Object::Set(_));
    if fixed || !as_it_is {
        need(ctx, by.as_slice(), &list)?;
        list = order(ctx, options, options.alpha || fixed, by, list)?;
    } else if options.descending && !matches!(source, Object::Set(_)) {
        list.reverse();
    }
    let range = options.range(list.len());
    list.truncate(range.end);
    list.drain(..range.start);
    let gets = options.gets.iter().filter(|get| **get != b"#");
    let gets: Vec<_> = gets.filter_map(|get| Pattern::parse(get)).collect();
    need(ctx, &gets, &list)?;
    Ok(list)
}

/// The values to answer with or to store: the elements, or what GET makes of each.
fn values(ctx: &mut Ctx<'_>, gets: &[&[u8]], list: Vec<Vec<u8>>) -> Vec<Option<Vec<u8>>> {
    if gets.is_empty() {
        return list.into_iter().map(Some).collect();
    }
    let mut values = Vec::with_capacity(list.len() * gets.len());
    for element in list {
        for get in gets {
            values.push(match Pattern::parse(get) {
                _ if *get == b"#" => Some(element.clone()),
                Some(pattern) => follow(ctx, pattern, &element),
                None => None,
            });
        }
    }
    values
}

/// The part of SORT that reads, for what EXEC loads before it begins.
fn rehearse(ctx: &mut Ctx<'_>, request: &Request<'_>) -> Result<(), Error> {
    gather(ctx, request, &Options::parse(request)?).map(drop)
}

fn sort(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let options = Options::parse(request)?;
    let list = gather(ctx, request, &options)?;
    let values = values(ctx, &options.gets, list);
    if let Some(to) = options.store {
        let mut result = List::new();
        for value in &values {
            result.push(End::Back, value.as_deref().unwrap_or_default(), &ctx.server.rules);
        }
        return ctx.store(ctx.hasher().key(to), result, reply);
    }
    reply.array(values.len());
    for value in values {
        match value {
            Some(value) => reply.bulk(&value),
            None => reply.null(),
        }
    }
    Ok(())
}
