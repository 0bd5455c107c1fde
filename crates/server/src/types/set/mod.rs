//! Sets of byte strings. Pure; any thread.
//!
//! A set of integers in their one way of writing is a sorted array (`intset`); a small set of
//! anything else is one packed buffer; the rest is a table. The packed form is Redis 7.2's, but
//! [`Set::encoding_name`] says what 7.0.15 says, for which it is a hashtable. The moves go one
//! way, as in Redis: a set that has held a string never becomes an array of integers again.

mod algebra;
mod intset;
mod member;
#[cfg(test)]
mod tests;

pub use algebra::{difference, intersection, union};
pub use member::Member;

use super::number::parse_i64;
use super::packed::{Code, Packed, RECORDS_MAX, read_string};
use super::parts::{Parts, Pieces};
use super::rng::Rng;
use super::rules::Rules;
use super::sample;
use super::table::{self, Table};
use intset::IntSet;

/// Most integers of an array, whatever the configuration says: an insertion moves half of them.
const INTS_MAX: usize = 1 << 16;

/// A set. Belongs to one thread at a time; no operation blocks.
///
/// # Examples
/// ```
/// use flintlock_server::types::{HashKey, Rules, Set};
/// let rules = Rules::new(HashKey::new([7; 16]));
/// let mut set = Set::new();
/// assert!(set.add(b"12", &rules) && !set.add(b"12", &rules));
/// assert_eq!(set.encoding_name(), "intset");
/// assert!(set.add(b"flint", &rules));
/// assert_eq!(set.encoding_name(), "hashtable");
/// assert!(set.contains(b"12"));
/// ```
#[derive(Clone, Debug)]
pub struct Set {
    form: Form,
}

#[derive(Clone, Debug)]
enum Form {
    Ints(IntSet),
    /// Records of one string.
    Packed(Packed),
    Table(Box<Table<false>>),
}

/// What the codec has to know of a set's form.
#[derive(Clone, Copy, Debug)]
pub(super) enum SetForm<'a> {
    /// Width and integers; see [`intset`].
    Ints(&'a [u8]),
    Small,
    Table,
}

impl Default for Set {
    fn default() -> Self {
        Self::new()
    }
}

impl Set {
    /// An empty set, which owns no memory.
    #[must_use]
    pub const fn new() -> Self {
        Self { form: Form::Ints(IntSet::new()) }
    }

    /// Number of members.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.form {
            Form::Ints(ints) => ints.count(),
            Form::Packed(packed) => packed.count(),
            Form::Table(table) => table.count(),
        }
    }

    /// Whether there is no member; Redis deletes such a key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether `member` is in the set.
    #[must_use]
    pub fn contains(&self, member: &[u8]) -> bool {
        match &self.form {
            Form::Ints(ints) => parse_i64(member).is_some_and(|value| ints.contains(value)),
            Form::Packed(packed) => find(packed, member).is_some(),
            Form::Table(table) => table.get(member).is_some(),
        }
    }

    /// As [`Set::contains`] for a member of another set, which may be an integer already.
    #[must_use]
    pub fn contains_member(&self, member: Member<'_>) -> bool {
        match (&self.form, member) {
            (Form::Ints(ints), Member::Int(value)) => ints.contains(value),
            (_, member) => member.with_bytes(|bytes| self.contains(bytes)),
        }
    }

    /// Adds `member`, of any length up to 512 MiB and copied; true when it is new. May change the
    /// set's form.
    pub fn add(&mut self, member: &[u8], rules: &Rules) -> bool {
        if let Form::Ints(ints) = &mut self.form {
            if let Some(value) = parse_i64(member) {
                let new = ints.insert(value);
                if ints.count() > rules.set_max_intset_entries.min(INTS_MAX) {
                    self.leave_ints(0, rules);
                }
                return new;
            }
            self.leave_ints(member.len(), rules);
        }
        if let Form::Packed(packed) = &mut self.form {
            if find(packed, member).is_some() {
                return false;
            }
            if fits(packed.count() + 1, member.len(), rules) {
                packed.push(&[Code::of(member).bytes(), member]);
                return true;
            }
            self.become_table(rules);
        }
        match &mut self.form {
            Form::Table(table) => table.set(member, &[]),
            Form::Ints(_) | Form::Packed(_) => unreachable!("a table since the lines above"),
        }
    }

    /// As [`Set::add`] for a member of another set.
    pub fn add_member(&mut self, member: Member<'_>, rules: &Rules) -> bool {
        member.with_bytes(|bytes| self.add(bytes, rules))
    }

    /// Removes `member`; true when it was there.
    pub fn remove(&mut self, member: &[u8]) -> bool {
        match &mut self.form {
            Form::Ints(ints) => parse_i64(member).is_some_and(|value| ints.remove(value)),
            Form::Packed(packed) => {
                let Some((at, size)) = find(packed, member) else { return false };
                packed.splice(at, size, &[], -1);
                true
            }
            Form::Table(table) => table.remove(member),
        }
    }

    /// All members: integers in ascending order, small sets in insertion order, tables in hash
    /// order.
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        let form = match &self.form {
            Form::Ints(ints) => IterForm::Ints { ints, next: 0 },
            Form::Packed(packed) => IterForm::Packed { rest: packed.records() },
            Form::Table(table) => IterForm::Table(table.iter()),
        };
        Iter { form, left: self.len() }
    }

    /// Shows at least `count` members from `cursor` on (0 to begin; any other number is taken as a
    /// place to go on from); returns the next cursor, 0 after the end. Members that stay from the
    /// first call to the last are shown at least once. A set that is no table is shown whole.
    pub fn scan<'a>(&'a self, cursor: u64, count: usize, mut visit: impl FnMut(Member<'a>)) -> u64 {
        match &self.form {
            Form::Ints(_) | Form::Packed(_) => {
                self.iter().for_each(visit);
                0
            }
            Form::Table(table) => table.scan(cursor, count, |key, _| visit(Member::Bytes(key))),
        }
    }

    /// A uniformly chosen member; `None` when empty.
    pub fn random(&self, rng: &mut impl Rng) -> Option<Member<'_>> {
        match &self.form {
            _ if self.is_empty() => None,
            Form::Ints(ints) => Some(Member::Int(ints.get(rng.below(ints.count())))),
            Form::Packed(packed) => self.iter().nth(rng.below(packed.count())),
            Form::Table(table) => table.random(rng).map(|(key, _)| Member::Bytes(key)),
        }
    }

    /// Members chosen again and again, each time uniformly from all; ends only when there are none.
    pub fn draws<'a>(&'a self, rng: &'a mut impl Rng) -> impl Iterator<Item = Member<'a>> {
        // One of the packed records is reached by a walk, so all are noted at the first.
        let is_packed = matches!(self.form, Form::Packed(_));
        let packed: Vec<_> = self.iter().take_while(|_| is_packed).collect();
        std::iter::from_fn(move || match &self.form {
            Form::Packed(_) if packed.is_empty() => None,
            Form::Packed(_) => Some(packed[rng.below(packed.len())]),
            Form::Ints(_) | Form::Table(_) => self.random(rng),
        })
    }

    /// Removes a uniformly chosen member and returns it.
    pub fn pop(&mut self, rng: &mut impl Rng) -> Option<Vec<u8>> {
        let member = self.random(rng)?.to_vec();
        self.remove(&member);
        Some(member)
    }

    /// `count` distinct members, uniformly chosen; all of them when there are no more.
    pub fn sample(&self, count: usize, rng: &mut impl Rng) -> Vec<Member<'_>> {
        match &self.form {
            Form::Ints(_) | Form::Packed(_) => {
                sample::from_iter(self.iter(), self.len(), count, rng)
            }
            Form::Table(table) => {
                table.sample(count, rng).into_iter().map(|(key, _)| Member::Bytes(key)).collect()
            }
        }
    }

    /// What OBJECT ENCODING of redis-server 7.0.15 prints.
    #[must_use]
    pub const fn encoding_name(&self) -> &'static str {
        match &self.form {
            Form::Ints(_) => "intset",
            Form::Packed(_) | Form::Table(_) => "hashtable",
        }
    }

    /// Heap bytes owned, allocator overhead included, the handle not; constant time.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        match &self.form {
            Form::Ints(ints) => ints.heap_bytes(),
            Form::Packed(packed) => packed.heap_bytes(),
            Form::Table(table) => table.heap_bytes(),
        }
    }

    /// Turns an array of integers into the next form that also takes a member of `len` bytes.
    fn leave_ints(&mut self, len: usize, rules: &Rules) {
        let Form::Ints(ints) = &self.form else { return };
        // An integer has at most 20 bytes.
        let longest = if ints.count() == 0 { len } else { len.max(20) };
        if fits(ints.count() + usize::from(len > 0), longest, rules) {
            let mut packed = Packed::new();
            for value in ints.iter() {
                Member::Int(value)
                    .with_bytes(|bytes| packed.push(&[Code::of(bytes).bytes(), bytes]));
            }
            self.form = Form::Packed(packed);
        } else {
            self.become_table(rules);
        }
    }

    /// An empty set in the packed form.
    pub(super) const fn new_small() -> Self {
        Self { form: Form::Packed(Packed::new()) }
    }

    /// An empty set that is a table already, with room for about `expected` members.
    pub(super) fn new_table(rules: &Rules, expected: usize) -> Self {
        Self { form: Form::Table(Box::new(Table::new(rules.hash_key, expected))) }
    }

    /// The set of integers that [`SetForm::Ints`] shows; `None` when they are not in ascending
    /// order. The caller has checked width and length.
    pub(super) fn from_int_bytes(bytes: &[u8], rules: &Rules) -> Option<Self> {
        let ints = IntSet::from_bytes(bytes)?;
        let too_many = ints.count() > rules.set_max_intset_entries.min(INTS_MAX);
        let mut set = Self { form: Form::Ints(ints) };
        if too_many {
            set.leave_ints(0, rules);
        }
        Some(set)
    }

    /// The form, for the codec.
    pub(super) fn form(&self) -> SetForm<'_> {
        match &self.form {
            Form::Ints(ints) => SetForm::Ints(ints.as_bytes()),
            Form::Packed(_) => SetForm::Small,
            Form::Table(_) => SetForm::Table,
        }
    }

    /// As [`Set::add`], in a set that is not of integers, for a member that the caller knows, or
    /// will check, to be new: without the walk over a packed form.
    pub(super) fn append(&mut self, member: &[u8], rules: &Rules) {
        match &mut self.form {
            Form::Packed(packed) if fits(packed.count() + 1, member.len(), rules) => {
                packed.push(&[Code::of(member).bytes(), member]);
            }
            _ => {
                if !matches!(self.form, Form::Table(_)) {
                    self.become_table(rules);
                }
                self.add(member, rules);
            }
        }
    }

    pub(super) fn into_parts(self) -> Parts {
        let bytes = self.memory_bytes();
        match self.form {
            Form::Ints(_) | Form::Packed(_) => Parts::none(),
            Form::Table(table) => Parts::new(vec![Pieces::Members(table.into_segments())], bytes),
        }
    }

    fn become_table(&mut self, rules: &Rules) {
        let mut table = Box::new(Table::new(rules.hash_key, self.len() + 1));
        for member in self.iter() {
            member.with_bytes(|bytes| table.set(bytes, &[]));
        }
        self.form = Form::Table(table);
    }
}

/// Whether a packed set may have `count` members, the longest of `len` bytes.
fn fits(count: usize, len: usize, rules: &Rules) -> bool {
    count <= rules.set_max_listpack_entries.min(RECORDS_MAX) && len <= rules.set_max_listpack_value
}

/// Offset and size of a packed member.
fn find(packed: &Packed, member: &[u8]) -> Option<(usize, usize)> {
    let records = packed.records();
    let mut at = 0;
    while at < records.len() {
        let (other, size) = read_string(&records[at..]);
        if other == member {
            return Some((at, size));
        }
        at += size;
    }
    None
}

/// Iterator over a set; see [`Set::iter`].
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    form: IterForm<'a>,
    left: usize,
}

#[derive(Clone, Debug)]
enum IterForm<'a> {
    Ints { ints: &'a IntSet, next: usize },
    Packed { rest: &'a [u8] },
    Table(table::Iter<'a, false>),
}

impl<'a> Iterator for Iter<'a> {
    type Item = Member<'a>;

    fn next(&mut self) -> Option<Member<'a>> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        Some(match &mut self.form {
            IterForm::Ints { ints, next } => {
                *next += 1;
                Member::Int(ints.get(*next - 1))
            }
            IterForm::Packed { rest } => {
                let (member, size) = read_string(rest);
                *rest = &rest[size..];
                Member::Bytes(member)
            }
            IterForm::Table(entries) => Member::Bytes(entries.next()?.0),
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Iter<'_> {}
