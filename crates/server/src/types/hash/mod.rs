//! Hashes: fields with values. Pure; any thread.
//!
//! A small hash is one packed buffer of `field value` records in insertion order, which a look-up
//! walks. It becomes a table for good when it outgrows the limits in [`Rules`], as in Redis; a
//! hash of 10 fields of 8 bytes with values of 8 takes 192 bytes and its handle of 24.

#[cfg(test)]
mod tests;

use super::length;
use super::packed::{Code, Packed, RECORDS_MAX, read_string};
use super::parts::{Parts, Pieces};
use super::rng::Rng;
use super::rules::Rules;
use super::sample;
use super::table::{self, Table};

/// A hash. Belongs to one thread at a time; no operation blocks.
///
/// # Examples
/// ```
/// use flintlock_server::types::{Hash, HashKey, Rules};
/// let rules = Rules::new(HashKey::new([7; 16]));
/// let mut hash = Hash::new();
/// assert!(hash.set(b"name", b"flint", &rules));
/// assert!(!hash.set(b"name", b"lock", &rules));
/// assert_eq!(hash.iter().collect::<Vec<_>>(), [(&b"name"[..], &b"lock"[..])]);
/// assert_eq!(hash.encoding_name(), "listpack");
/// ```
#[derive(Clone, Debug)]
pub struct Hash {
    form: Form,
}

#[derive(Clone, Debug)]
enum Form {
    /// Records of two strings.
    Packed(Packed),
    Table(Box<Table<true>>),
}

impl Default for Hash {
    fn default() -> Self {
        Self::new()
    }
}

/// Where a field lies among packed records.
struct Found {
    /// Offset of the value with its code.
    value_at: usize,
    /// Bytes of the value with its code.
    value_size: usize,
    /// Offset of the record.
    at: usize,
}

fn find<'a>(packed: &'a Packed, field: &[u8]) -> Option<(Found, &'a [u8])> {
    let records = packed.records();
    let mut at = 0;
    while let Some(rest) = records.get(at..).filter(|rest| !rest.is_empty()) {
        let (len, code) = length::read(rest);
        let value_at = at + code + len;
        if len == field.len() && rest[code..code + len] == *field {
            let (value, value_size) = read_string(&records[value_at..]);
            return Some((Found { value_at, value_size, at }, value));
        }
        let (len, code) = length::read(&records[value_at..]);
        at = value_at + code + len;
    }
    None
}

/// Whether a packed hash may have `count` fields, this one among them.
fn fits(count: usize, field: &[u8], value: &[u8], rules: &Rules) -> bool {
    count <= rules.hash_max_listpack_entries.min(RECORDS_MAX)
        && field.len().max(value.len()) <= rules.hash_max_listpack_value
}

impl Hash {
    /// An empty hash, which owns no memory.
    #[must_use]
    pub const fn new() -> Self {
        Self { form: Form::Packed(Packed::new()) }
    }

    /// Number of fields.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.form {
            Form::Packed(packed) => packed.count(),
            Form::Table(table) => table.count(),
        }
    }

    /// Whether there is no field; Redis deletes such a key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of `field`.
    #[must_use]
    pub fn get(&self, field: &[u8]) -> Option<&[u8]> {
        match &self.form {
            Form::Packed(packed) => find(packed, field).map(|(_, value)| value),
            Form::Table(table) => table.get(field),
        }
    }

    /// Whether `field` is there.
    #[must_use]
    pub fn contains(&self, field: &[u8]) -> bool {
        self.get(field).is_some()
    }

    /// Sets `field` to `value`, both of any length up to 512 MiB and copied; true when the field
    /// is new. May turn the hash into a table.
    pub fn set(&mut self, field: &[u8], value: &[u8], rules: &Rules) -> bool {
        let packed = match &mut self.form {
            Form::Table(table) => return table.set(field, value),
            Form::Packed(packed) => packed,
        };
        if !fits(0, field, value, rules) {
            return self.become_table(rules).set(field, value);
        }
        let code = Code::of(value);
        if let Some((found, _)) = find(packed, field) {
            packed.splice(found.value_at, found.value_size, &[code.bytes(), value], 0);
            return false;
        }
        if !fits(packed.count() + 1, field, value, rules) {
            return self.become_table(rules).set(field, value);
        }
        packed.push(&[Code::of(field).bytes(), field, code.bytes(), value]);
        true
    }

    /// Removes `field`; true when it was there.
    pub fn remove(&mut self, field: &[u8]) -> bool {
        match &mut self.form {
            Form::Packed(packed) => {
                let Some((found, _)) = find(packed, field) else { return false };
                let size = found.value_at + found.value_size - found.at;
                packed.splice(found.at, size, &[], -1);
                true
            }
            Form::Table(table) => table.remove(field),
        }
    }

    /// An empty hash that is a table already, with room for about `expected` fields.
    pub(super) fn new_table(rules: &Rules, expected: usize) -> Self {
        Self { form: Form::Table(Box::new(Table::new(rules.hash_key, expected))) }
    }

    /// Whether this is the packed form.
    pub(super) const fn is_small(&self) -> bool {
        matches!(self.form, Form::Packed(_))
    }

    /// As [`Hash::set`] for a field that the caller knows, or will check, to be new: without the
    /// walk over a packed form.
    pub(super) fn append(&mut self, field: &[u8], value: &[u8], rules: &Rules) {
        match &mut self.form {
            Form::Packed(packed) if fits(packed.count() + 1, field, value, rules) => {
                packed.push(&[Code::of(field).bytes(), field, Code::of(value).bytes(), value]);
            }
            _ => _ = self.become_table(rules).set(field, value),
        }
    }

    pub(super) fn into_parts(self) -> Parts {
        let bytes = self.memory_bytes();
        match self.form {
            Form::Packed(_) => Parts::none(),
            Form::Table(table) => Parts::new(vec![Pieces::Pairs(table.into_segments())], bytes),
        }
    }

    fn become_table(&mut self, rules: &Rules) -> &mut Table<true> {
        if let Form::Packed(packed) = &self.form {
            let mut table = Box::new(Table::new(rules.hash_key, packed.count() + 1));
            for (field, value) in (Records { rest: packed.records() }) {
                table.set(field, value);
            }
            self.form = Form::Table(table);
        }
        match &mut self.form {
            Form::Table(table) => table,
            Form::Packed(_) => unreachable!("a table since the lines above"),
        }
    }

    /// All fields with their values: in insertion order while small, then in hash order.
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        let inner = match &self.form {
            Form::Packed(packed) => IterForm::Packed(Records { rest: packed.records() }),
            Form::Table(table) => IterForm::Table(table.iter()),
        };
        Iter { inner, left: self.len() }
    }

    /// Shows at least `count` fields from `cursor` on (0 to begin; any other number is taken as a
    /// place to go on from); returns the next cursor, 0 after the end. Fields that stay from the
    /// first call to the last are shown at least once, whatever is set and removed meanwhile. A
    /// small hash is shown whole.
    pub fn scan<'a>(
        &'a self,
        cursor: u64,
        count: usize,
        mut visit: impl FnMut(&'a [u8], &'a [u8]),
    ) -> u64 {
        match &self.form {
            Form::Packed(_) => {
                self.iter().for_each(|(field, value)| visit(field, value));
                0
            }
            Form::Table(table) => table.scan(cursor, count, visit),
        }
    }

    /// A uniformly chosen field with its value; `None` when empty.
    pub fn random(&self, rng: &mut impl Rng) -> Option<(&[u8], &[u8])> {
        match &self.form {
            Form::Packed(packed) if packed.count() == 0 => None,
            Form::Packed(packed) => self.iter().nth(rng.below(packed.count())),
            Form::Table(table) => table.random(rng),
        }
    }

    /// Fields chosen again and again, each time uniformly from all; ends only when there are none.
    pub fn draws<'a>(
        &'a self,
        rng: &'a mut impl Rng,
    ) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        // One of the packed records is reached by a walk, so all are noted at the first.
        let packed: Vec<_> = self.iter().take_while(|_| self.is_small()).collect();
        std::iter::from_fn(move || match &self.form {
            Form::Packed(_) if packed.is_empty() => None,
            Form::Packed(_) => Some(packed[rng.below(packed.len())]),
            Form::Table(table) => table.random(rng),
        })
    }

    /// `count` distinct fields, uniformly chosen; all of them when there are no more.
    pub fn sample(&self, count: usize, rng: &mut impl Rng) -> Vec<(&[u8], &[u8])> {
        match &self.form {
            Form::Packed(packed) => sample::from_iter(self.iter(), packed.count(), count, rng),
            Form::Table(table) => table.sample(count, rng),
        }
    }

    /// What OBJECT ENCODING of redis-server 7.0.15 prints.
    #[must_use]
    pub const fn encoding_name(&self) -> &'static str {
        match &self.form {
            Form::Packed(_) => "listpack",
            Form::Table(_) => "hashtable",
        }
    }

    /// Heap bytes owned, allocator overhead included, the handle not; constant time.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        match &self.form {
            Form::Packed(packed) => packed.heap_bytes(),
            Form::Table(table) => table.heap_bytes(),
        }
    }
}

/// The records of a packed hash.
#[derive(Clone, Debug)]
struct Records<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Records<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let (field, size) = read_string(self.rest);
        let (value, value_size) = read_string(&self.rest[size..]);
        self.rest = &self.rest[size + value_size..];
        Some((field, value))
    }
}

/// Iterator over a hash; see [`Hash::iter`].
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    inner: IterForm<'a>,
    left: usize,
}

#[derive(Clone, Debug)]
enum IterForm<'a> {
    Packed(Records<'a>),
    Table(table::Iter<'a, true>),
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let item = match &mut self.inner {
            IterForm::Packed(records) => records.next(),
            IterForm::Table(entries) => entries.next(),
        };
        self.left -= usize::from(item.is_some());
        item
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Iter<'_> {}
