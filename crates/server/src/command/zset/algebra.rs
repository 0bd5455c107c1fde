//! ZUNION, ZINTER and ZDIFF of sorted sets and sets, whose members all count 1.
//!
//! Source: `zunionInterDiffGenericCommand` of Redis 7.0, of which also the order matters in which
//! scores are added up: from the smallest operand to the largest.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use crate::command::collection::{Pairs, counted_keys};
use crate::command::set::card_limit;
use crate::command::{Command, Ctx, Error, Flags, Keys, Request};
use crate::resp::encode::Reply;
use crate::types::number::{parse_f64, parse_i64};
use crate::types::{Member, Object, Score, Set, ZSet};

use super::reply_score;

const READ: Flags = Flags::READONLY;
const STORE: Flags = Flags::WRITE.or(Flags::DENYOOM);

/// The rows of this part of the family.
pub(super) fn commands() -> Vec<Command> {
    vec![
        Command::new("zunion", zunion, -3, &[READ], Keys::COUNTED),
        Command::new("zinter", zinter, -3, &[READ], Keys::COUNTED),
        Command::new("zdiff", zdiff, -3, &[READ], Keys::COUNTED),
        Command::new("zintercard", zintercard, -3, &[READ], Keys::COUNTED),
        Command::new("zunionstore", zunionstore, -4, &[STORE], Keys::STORE_COUNTED),
        Command::new("zinterstore", zinterstore, -4, &[STORE], Keys::STORE_COUNTED),
        Command::new("zdiffstore", zdiffstore, -4, &[STORE], Keys::STORE_COUNTED),
    ]
}

/// What is made of the operands.
#[derive(Copy, Clone, Eq, PartialEq)]
enum Operation {
    Union,
    Inter,
    Diff,
}

/// What is made of the scores of a member that several operands have.
#[derive(Copy, Clone)]
enum Aggregate {
    Sum,
    Min,
    Max,
}

impl Aggregate {
    fn parse(word: &[u8]) -> Option<Self> {
        match word.to_ascii_lowercase().as_slice() {
            b"sum" => Some(Self::Sum),
            b"min" => Some(Self::Min),
            b"max" => Some(Self::Max),
            _ => None,
        }
    }

    /// `score`, a number, with `other`, which need not be one.
    fn of(self, score: f64, other: f64) -> f64 {
        match self {
            Self::Sum => number(score + other),
            Self::Min if other < score => other,
            Self::Max if other > score => other,
            Self::Min | Self::Max => score,
        }
    }
}

/// Infinity minus infinity, and zero times infinity, count as zero.
fn number(value: f64) -> f64 {
    if value.is_nan() { 0.0 } else { value }
}

/// A set or sorted set, or nothing, and what its scores are multiplied by.
struct Operand {
    object: Option<Arc<Object>>,
    weight: f64,
}

impl Operand {
    fn set(&self) -> Option<&Set> {
        if let Some(Object::Set(set)) = self.object.as_deref() { Some(set) } else { None }
    }

    fn zset(&self) -> Option<&ZSet> {
        if let Some(Object::ZSet(zset)) = self.object.as_deref() { Some(zset) } else { None }
    }

    fn len(&self) -> usize {
        self.object.as_ref().map_or(0, |object| object.len())
    }

    /// The weighted score of `member`, which need not be a number.
    fn score(&self, member: &[u8]) -> Option<f64> {
        let plain = match self.zset() {
            Some(zset) => zset.score(member).map(Score::get),
            None => self.set().is_some_and(|set| set.contains(member)).then_some(1.0),
        };
        plain.map(|score| score * self.weight)
    }

    /// Every member with its weighted score.
    fn members(&self) -> impl Iterator<Item = (Cow<'_, [u8]>, f64)> {
        let of_set = self.set().into_iter().flat_map(Set::iter).map(|member| match member {
            Member::Bytes(bytes) => (Cow::Borrowed(bytes), 1.0),
            Member::Int(_) => (Cow::Owned(member.to_vec()), 1.0),
        });
        let of_zset = self.zset().into_iter().flat_map(ZSet::iter);
        let of_zset = of_zset.map(|(member, score)| (Cow::Borrowed(member), score.get()));
        of_set.chain(of_zset).map(|(member, score)| (member, number(score * self.weight)))
    }
}

/// What a request asks for.
struct Asked {
    operands: Vec<Operand>,
    aggregate: Aggregate,
    with_scores: bool,
}

/// The members of a result with their scores, in no order.
type Members<'a> = Vec<(Cow<'a, [u8]>, f64)>;

/// The operands that the request counts in argument `at`, and where what follows them begins.
fn operands(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    at: usize,
) -> Result<(Vec<Operand>, usize), Error> {
    let count = parse_i64(request.arg(at)).ok_or(Error::NOT_INTEGER)?;
    if count < 1 {
        let name = request.command.name;
        let text = format!("ERR at least 1 input key is needed for '{name}' command");
        return Err(Error::text(text));
    }
    let (keys, end) = counted_keys(ctx, request, at, count).ok_or(Error::SYNTAX)?;
    let is_operand = |object: &Object| matches!(object, Object::Set(_) | Object::ZSet(_));
    let objects = ctx.read_objects(&keys, is_operand)?;
    let operands = objects.into_iter().map(|object| Operand { object, weight: 1.0 });
    Ok((operands.collect(), end))
}

impl Asked {
    fn parse(
        ctx: &mut Ctx<'_>,
        request: &Request<'_>,
        operation: Operation,
        stores: bool,
    ) -> Result<Self, Error> {
        const NOT_WEIGHT: Error = Error::fixed("ERR weight value is not a float");
        let (operands, end) = operands(ctx, request, if stores { 2 } else { 1 })?;
        let mut asked = Self { operands, aggregate: Aggregate::Sum, with_scores: false };
        let has_scores = operation != Operation::Diff;
        let mut rest = request.from(end);
        while let Some(word) = rest.next() {
            match word.to_ascii_lowercase().as_slice() {
                b"weights" if has_scores && rest.len() >= asked.operands.len() => {
                    for (operand, weight) in asked.operands.iter_mut().zip(rest.by_ref()) {
                        operand.weight = parse_f64(weight).ok_or(NOT_WEIGHT)?;
                    }
                }
                b"aggregate" if has_scores => {
                    let aggregate = rest.next().and_then(Aggregate::parse);
                    asked.aggregate = aggregate.ok_or(Error::SYNTAX)?;
                }
                b"withscores" if !stores => asked.with_scores = true,
                _ => return Err(Error::SYNTAX),
            }
        }
        if has_scores {
            asked.operands.sort_by_key(Operand::len);
        }
        Ok(asked)
    }

    fn result(&self, operation: Operation) -> Members<'_> {
        match operation {
            Operation::Union => self.union(),
            Operation::Inter => self.inter().collect(),
            Operation::Diff => self.diff(),
        }
    }

    fn union(&self) -> Members<'_> {
        let mut all = HashMap::new();
        for (member, score) in self.operands.iter().flat_map(Operand::members) {
            let known = all.entry(member).and_modify(|old| *old = self.aggregate.of(*old, score));
            known.or_insert(score);
        }
        all.into_iter().collect()
    }

    fn inter(&self) -> impl Iterator<Item = (Cow<'_, [u8]>, f64)> {
        let (smallest, others) = self.operands.split_first().expect("at least one");
        smallest.members().filter_map(|(member, score)| {
            let add = |sum, other: &Operand| Some(self.aggregate.of(sum, other.score(&member)?));
            let score = others.iter().try_fold(score, add)?;
            Some((member, score))
        })
    }

    fn diff(&self) -> Members<'_> {
        let (first, others) = self.operands.split_first().expect("at least one");
        let lookups = first.len().saturating_mul(others.len());
        let members = others.iter().map(Operand::len).sum::<usize>();
        if others.len() < 2 || lookups / 2 < members {
            let is_left = |member: &[u8]| others.iter().all(|set| set.score(member).is_none());
            return first.members().filter(|(member, _)| is_left(member)).collect();
        }
        // Many others: to go through them all is less work.
        let mut left: HashMap<_, _> = first.members().collect();
        others.iter().flat_map(Operand::members).for_each(|(member, _)| _ = left.remove(&member));
        left.into_iter().collect()
    }
}

/// Scores of results are numbers.
fn score(value: f64) -> Score {
    Score::new(value).expect("`number` leaves no other")
}

fn combine(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
    operation: Operation,
) -> Result<(), Error> {
    let asked = Asked::parse(ctx, request, operation, false)?;
    let mut members = asked.result(operation);
    members.sort_by(|(a, x), (b, y)| score(*x).cmp(&score(*y)).then_with(|| a.cmp(b)));
    let pairs = Pairs::new(asked.with_scores, reply.proto);
    pairs.head(members.len(), reply);
    for (member, value) in members {
        pairs.element(&member, reply, |reply| reply_score(score(value), reply));
    }
    Ok(())
}

fn combine_and_store(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
    operation: Operation,
) -> Result<(), Error> {
    let asked = Asked::parse(ctx, request, operation, true)?;
    let mut result = ZSet::new();
    for (member, value) in asked.result(operation) {
        result.insert(&member, score(value), &ctx.server.rules);
    }
    // The destination may be one of them: what is overwritten is freed in parts only if nobody
    // shares it.
    drop(asked);
    ctx.store(ctx.key(request, 1), result, reply)
}

fn zunion(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    combine(ctx, request, reply, Operation::Union)
}

fn zinter(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    combine(ctx, request, reply, Operation::Inter)
}

fn zdiff(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    combine(ctx, request, reply, Operation::Diff)
}

fn zunionstore(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Error> {
    combine_and_store(ctx, request, reply, Operation::Union)
}

fn zinterstore(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Error> {
    combine_and_store(ctx, request, reply, Operation::Inter)
}

fn zdiffstore(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Error> {
    combine_and_store(ctx, request, reply, Operation::Diff)
}

fn zintercard(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Error> {
    let (mut operands, end) = operands(ctx, request, 1)?;
    let limit = card_limit(request, end)?;
    operands.sort_by_key(Operand::len);
    let asked = Asked { operands, aggregate: Aggregate::Sum, with_scores: false };
    let members = asked.inter();
    reply.count(if limit == 0 { members.count() } else { members.take(limit).count() });
    Ok(())
}
