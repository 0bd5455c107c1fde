//! Compact entries: one allocation holds header, key and short value; a slot points to it.
//!
//! Owns the memory layout of one key. Main thread, except that a detached [`Entry`] may be dropped
//! on a worker. Knows nothing of tables, time or commands. This is the only file of the crate with
//! `unsafe`, because no safe layout puts key, expiry and value into one allocation behind one
//! 8-byte slot; two boxes and an enum cost 40 bytes a key more.
//!
//! ```text
//! slot   | tag 15 | overflow 1 | address 48 |                      8 bytes, null address = empty
//! entry  | header 8 | expiry 8 ? | long key length 8 ? | word 8 ? | key | short string |
//! header | access 24 | kind 3 | expiry 1 | state 5 | key length 16 | string length 15 |
//! ```
//! `expiry` is there when its flag is set, the long key length when the 16 bits hold `LONG_KEY`,
//! the word when the kind is an integer (the number itself) or a big string or object (a pointer).

#![expect(unsafe_code, reason = "one allocation for header, key and value; see the module doc")]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::fmt;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use crate::types::Object;

/// Strings up to this many bytes live inside the entry, longer ones behind a reference count, so
/// that a reply or a save can share them without copying.
pub(crate) const INLINE_MAX: usize = 16 * 1024;

const ACCESS_MASK: u64 = 0xff_ffff;
const KIND_SHIFT: u32 = 24;
const KIND_MASK: u64 = 0b111;
const EXPIRY_BIT: u64 = 1 << 27;
const STATE_SHIFT: u32 = 28;
const STATE_MASK: u64 = 0b1_1111;
const KEY_SHIFT: u32 = 33;
const STR_SHIFT: u32 = 49;
const LONG_KEY: u64 = 0xffff;
const LEN_MASK: u64 = 0xffff;

const _: () = assert!(INLINE_MAX < 1 << (64 - STR_SHIFT), "an inline length fits its bits");

const KIND_ABSENT: u64 = 0;
const KIND_INT: u64 = 1;
const KIND_STR: u64 = 2;
const KIND_BIG: u64 = 3;
const KIND_OBJECT: u64 = 4;

/// What a key holds.
#[derive(Debug)]
pub(crate) enum Value {
    /// Known to be absent: a pending delete or a negative entry.
    Absent,
    /// A string that is the decimal form of this number.
    Int(i64),
    /// A string of at most [`INLINE_MAX`] bytes.
    Str(Vec<u8>),
    /// A longer string; immutable while shared.
    Big(Arc<Vec<u8>>),
    /// A list, hash, set or sorted set; copied on write while a save or another key holds it.
    Object(Arc<Object>),
}

/// A borrowed view of what a key holds.
#[derive(Copy, Clone, Debug)]
pub(crate) enum ValueRef<'a> {
    /// See [`Value::Absent`].
    Absent,
    /// See [`Value::Int`].
    Int(i64),
    /// See [`Value::Str`].
    Str(&'a [u8]),
    /// See [`Value::Big`].
    Big(&'a Arc<Vec<u8>>),
    /// See [`Value::Object`].
    Object(&'a Arc<Object>),
}

/// The value of a new entry, borrowed where copying into the entry is all that happens to it.
#[derive(Debug)]
pub(crate) enum NewValue<'a> {
    /// See [`Value::Absent`].
    Absent,
    /// See [`Value::Int`].
    Int(i64),
    /// Bytes to copy: inline or big, by length.
    Str(&'a [u8]),
    /// See [`Value::Big`].
    Big(Arc<Vec<u8>>),
    /// See [`Value::Object`].
    Object(Arc<Object>),
}

impl Value {
    /// The value for a new entry: copied from here, or moved and `Absent` left behind.
    pub(crate) fn lend(&mut self) -> NewValue<'_> {
        match self {
            Self::Absent => NewValue::Absent,
            Self::Int(n) => NewValue::Int(*n),
            Self::Str(s) => NewValue::Str(s),
            Self::Big(_) | Self::Object(_) => match std::mem::replace(self, Self::Absent) {
                Self::Big(big) => NewValue::Big(big),
                Self::Object(object) => NewValue::Object(object),
                _ => unreachable!("one of the two was just matched"),
            },
        }
    }
}

/// One key with its value. Owns the allocation.
///
/// Invariants:
/// [entry-live] the pointer is a live allocation laid out as the module doc says, owned by exactly
/// one `Entry` or [`Slot`].
/// [entry-word] the word of a `KIND_BIG` entry is an `Arc<Vec<u8>>`, of a `KIND_OBJECT` entry a
/// `Arc<Object>`; both are one pointer wide and owned by the entry.
pub(crate) struct Entry(NonNull<u8>);

// SAFETY: [entry-live] an Entry owns its allocation and what its word points to; `Arc<Vec<u8>>`
// and `Arc<Object>` are Send.
unsafe impl Send for Entry {}

/// A shared view of a live entry.
#[derive(Copy, Clone)]
pub(crate) struct EntryRef<'a> {
    at: NonNull<u8>,
    /// [entry-live] the owner is borrowed for `'a`.
    owner: PhantomData<&'a Entry>,
}

/// Bytes in front of the key; computed without branches, since each look at a key does it.
const fn fixed_len(header: u64) -> usize {
    /// A bit for each kind that has a word.
    const WITH_WORD: u64 = 1 << KIND_INT | 1 << KIND_BIG | 1 << KIND_OBJECT;
    let kind = (header >> KIND_SHIFT) & KIND_MASK;
    let expiry = (header / EXPIRY_BIT) & 1;
    let long = ((header >> KEY_SHIFT) & LEN_MASK == LONG_KEY) as u64;
    let fields = 1 + expiry + long + ((WITH_WORD >> kind) & 1);
    fields as usize * 8
}

fn layout(len: usize) -> Layout {
    // Lengths come from buffers that exist, so the sum cannot overflow.
    Layout::from_size_align(len.next_multiple_of(8), 8).expect("an entry is smaller than isize")
}

/// What the allocator takes for `len` bytes: its header and its 16-byte grain.
pub(crate) const fn allocated(len: usize) -> usize {
    (len + 8).next_multiple_of(16)
}

impl Entry {
    /// Allocates an entry with access and state 0.
    pub(crate) fn new(key: &[u8], value: NewValue<'_>, expires_at_ms: Option<u64>) -> Self {
        let value = match value {
            NewValue::Str(s) if s.len() > INLINE_MAX => NewValue::Big(Arc::new(s.to_vec())),
            other => other,
        };
        let (kind, inline): (u64, &[u8]) = match &value {
            NewValue::Absent => (KIND_ABSENT, &[]),
            NewValue::Int(_) => (KIND_INT, &[]),
            NewValue::Str(s) => (KIND_STR, s),
            NewValue::Big(_) => (KIND_BIG, &[]),
            NewValue::Object(_) => (KIND_OBJECT, &[]),
        };
        let short_key = key.len() < usize::from(u16::MAX);
        let key_len = if short_key { key.len() as u64 } else { LONG_KEY };
        let mut header =
            kind << KIND_SHIFT | key_len << KEY_SHIFT | (inline.len() as u64) << STR_SHIFT;
        if expires_at_ms.is_some() {
            header |= EXPIRY_BIT;
        }
        let fixed = fixed_len(header);
        let layout = layout(fixed + key.len() + inline.len());
        // SAFETY: [entry-live] the layout has at least the 8 bytes of the header.
        let raw = unsafe { alloc(layout) };
        let Some(at) = NonNull::new(raw) else { handle_alloc_error(layout) };
        let entry = Self(at);
        // SAFETY: [entry-live] all offsets below lie inside the layout: `fixed` counts exactly the
        // 8-byte fields written, then key and inline bytes follow; the allocation is 8-aligned.
        unsafe {
            let mut field = at.cast::<u64>();
            field.write(header);
            if let Some(ms) = expires_at_ms {
                field = field.add(1);
                field.write(ms);
            }
            if !short_key {
                field = field.add(1);
                field.write(key.len() as u64);
            }
            let word = field.add(1);
            match value {
                NewValue::Absent | NewValue::Str(_) => {}
                NewValue::Int(n) => word.cast::<i64>().write(n),
                NewValue::Big(big) => word.cast::<Arc<Vec<u8>>>().write(big),
                NewValue::Object(object) => word.cast::<Arc<Object>>().write(object),
            }
            let text = at.add(fixed).as_ptr();
            ptr::copy_nonoverlapping(key.as_ptr(), text, key.len());
            ptr::copy_nonoverlapping(inline.as_ptr(), text.add(key.len()), inline.len());
        }
        entry
    }

    /// Borrows the entry.
    pub(crate) fn get(&self) -> EntryRef<'_> {
        EntryRef { at: self.0, owner: PhantomData }
    }

    fn header_mut(&mut self) -> &mut u64 {
        // SAFETY: [entry-live] the first 8 bytes are the header, 8-aligned, and `self` is unique.
        unsafe { self.0.cast::<u64>().as_mut() }
    }

    fn word(&self) -> NonNull<u64> {
        let fields = fixed_len(self.get().header()) / 8;
        // SAFETY: [entry-live] the word is the last 8-byte field in front of the key.
        unsafe { self.0.cast::<u64>().add(fields - 1) }
    }

    /// Sets the 24-bit access word (LRU clock or LFU counter).
    pub(crate) fn set_access(&mut self, access: u32) {
        let header = self.header_mut();
        *header = *header & !ACCESS_MASK | u64::from(access) & ACCESS_MASK;
    }

    /// Sets the five bits that the disk tier keeps with each key.
    pub(crate) fn set_state(&mut self, state: u8) {
        debug_assert!(u64::from(state) <= STATE_MASK, "there are five bits of state");
        let header = self.header_mut();
        *header =
            *header & !(STATE_MASK << STATE_SHIFT) | (u64::from(state) & STATE_MASK) << STATE_SHIFT;
    }

    /// The object, for changing it in place; copied first if a save holds it.
    pub(crate) fn object_mut(&mut self) -> Option<&mut Object> {
        if self.get().kind() != KIND_OBJECT {
            return None;
        }
        // SAFETY: [entry-word] the word is the Arc, and `self` is borrowed uniquely for as long as
        // the result lives.
        unsafe { Some(Arc::make_mut(self.word().cast::<Arc<Object>>().as_mut())) }
    }

    /// The number, for changing it in place.
    pub(crate) fn int_mut(&mut self) -> Option<&mut i64> {
        if self.get().kind() != KIND_INT {
            return None;
        }
        // SAFETY: [entry-live] the word of an integer entry holds the number itself.
        unsafe { Some(self.word().cast::<i64>().as_mut()) }
    }

    /// The big string, for appending in place while nobody else holds it.
    pub(crate) fn big_mut(&mut self) -> Option<&mut Vec<u8>> {
        if self.get().kind() != KIND_BIG {
            return None;
        }
        // SAFETY: [entry-word] the word is the Arc, and `self` is borrowed uniquely for as long as
        // the result lives.
        unsafe { Some(Arc::make_mut(self.word().cast::<Arc<Vec<u8>>>().as_mut())) }
    }

    /// The inline string, for changing it in place.
    pub(crate) fn inline_mut(&mut self) -> Option<&mut [u8]> {
        let view = self.get();
        if view.kind() != KIND_STR {
            return None;
        }
        let (offset, len) = (fixed_len(view.header()) + view.key_len(), view.str_len());
        // SAFETY: [entry-live] the inline string of this length starts at `offset`, and `self` is
        // borrowed uniquely for as long as the result lives.
        unsafe { Some(std::slice::from_raw_parts_mut(self.0.add(offset).as_ptr(), len)) }
    }

    /// Overwrites the inline string in place if the new one has the same length, so that the
    /// commonest overwrite costs no allocation. Returns whether it did; if not nothing changed.
    pub(crate) fn overwrite_str(&mut self, value: &[u8]) -> bool {
        let old = self.inline_mut().filter(|old| old.len() == value.len());
        old.map(|old| old.copy_from_slice(value)).is_some()
    }

    /// Overwrites the expiry in place if there is one. Returns whether it did.
    pub(crate) fn overwrite_expiry(&mut self, expires_at_ms: u64) -> bool {
        if self.get().header() & EXPIRY_BIT == 0 {
            return false;
        }
        // SAFETY: [entry-live] with the flag set the expiry is the second 8-byte field.
        unsafe { self.0.cast::<u64>().add(1).write(expires_at_ms) };
        true
    }

    /// Gives the entry another value and expiry; its other words stay.
    pub(crate) fn replace(&mut self, value: NewValue<'_>, expires_at_ms: Option<u64>) {
        let old = self.get();
        let mut new = Self::new(old.key(), value, expires_at_ms);
        new.set_access(old.access());
        new.set_state(old.state());
        *self = new;
    }

    /// Gives the entry another expiry, moving the value.
    pub(crate) fn set_expiry(&mut self, expires_at_ms: Option<u64>) {
        if expires_at_ms.is_some_and(|ms| self.overwrite_expiry(ms)) {
            return;
        }
        let mut value = self.take_value();
        self.replace(value.lend(), expires_at_ms);
    }

    /// Moves a collection out, so that it can be freed elsewhere; `None` for anything else.
    pub(crate) fn take_object(&mut self) -> Option<Arc<Object>> {
        if self.get().kind() != KIND_OBJECT {
            return None;
        }
        match self.take_value() {
            Value::Object(object) => Some(object),
            _ => None,
        }
    }

    /// Moves the value out, leaving an absent one behind. Inline strings are copied.
    pub(crate) fn take_value(&mut self) -> Value {
        let kind = self.get().kind();
        let value = match kind {
            KIND_INT => Value::Int(*self.int_mut().expect("the kind says integer")),
            KIND_STR => match self.get().value() {
                ValueRef::Str(s) => return Value::Str(s.to_vec()),
                _ => unreachable!("the kind says inline string"),
            },
            // SAFETY: [entry-word] the Arc moves to the result; the kind changes below, so the word
            // is never taken for one again.
            KIND_BIG => unsafe { Value::Big(self.word().cast::<Arc<Vec<u8>>>().read()) },
            // SAFETY: [entry-word] as above, for the other Arc.
            KIND_OBJECT => unsafe { Value::Object(self.word().cast::<Arc<Object>>().read()) },
            _ => return Value::Absent,
        };
        // An integer owns nothing, so the word may stay: the layout must not change under the key.
        let header = self.header_mut();
        *header = *header & !(KIND_MASK << KIND_SHIFT) | KIND_INT << KIND_SHIFT;
        value
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let view = self.get();
        let layout = layout(view.len_bytes());
        match view.kind() {
            // SAFETY: [entry-word] the entry owns the Arc and dies here.
            KIND_BIG => unsafe { self.word().cast::<Arc<Vec<u8>>>().drop_in_place() },
            // SAFETY: [entry-word] the entry owns the Arc and dies here.
            KIND_OBJECT => unsafe { self.word().cast::<Arc<Object>>().drop_in_place() },
            _ => {}
        }
        // SAFETY: [entry-live] allocated in `new` with this very layout: no operation changes a
        // field that the length depends on without rebuilding the entry.
        unsafe { dealloc(self.0.as_ptr(), layout) };
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

impl fmt::Debug for EntryRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("key", &self.key().escape_ascii().to_string())
            .field("value", &self.value())
            .field("expires_at_ms", &self.expires_at_ms())
            .finish()
    }
}

impl<'a> EntryRef<'a> {
    fn header(self) -> u64 {
        // SAFETY: [entry-live] the owner is borrowed for 'a.
        unsafe { self.at.cast::<u64>().read() }
    }

    fn kind(self) -> u64 {
        (self.header() >> KIND_SHIFT) & KIND_MASK
    }

    fn str_len(self) -> usize {
        (self.header() >> STR_SHIFT) as usize
    }

    fn field(self, index: usize) -> u64 {
        debug_assert!(index * 8 < fixed_len(self.header()), "field inside the fixed part");
        // SAFETY: [entry-live] callers ask only for fields that the header says are there.
        unsafe { self.at.cast::<u64>().add(index).read() }
    }

    fn key_len(self) -> usize {
        let header = self.header();
        match (header >> KEY_SHIFT) & LEN_MASK {
            LONG_KEY => self.field(1 + usize::from(header & EXPIRY_BIT != 0)) as usize,
            short => short as usize,
        }
    }

    fn len_bytes(self) -> usize {
        fixed_len(self.header()) + self.key_len() + self.str_len()
    }

    /// The key.
    pub(crate) fn key(self) -> &'a [u8] {
        // SAFETY: [entry-live] the key of this length follows the fixed part.
        unsafe {
            let start = self.at.add(fixed_len(self.header())).as_ptr();
            std::slice::from_raw_parts(start, self.key_len())
        }
    }

    /// The value.
    pub(crate) fn value(self) -> ValueRef<'a> {
        let header = self.header();
        let word = fixed_len(header) / 8 - 1;
        match self.kind() {
            KIND_INT => ValueRef::Int(self.field(word).cast_signed()),
            // SAFETY: [entry-live] the inline string follows the key.
            KIND_STR => unsafe {
                let start = self.at.add(fixed_len(header) + self.key_len()).as_ptr();
                ValueRef::Str(std::slice::from_raw_parts(start, self.str_len()))
            },
            // SAFETY: [entry-word] the Arc lives as long as the entry, which is borrowed for 'a.
            KIND_BIG => unsafe {
                ValueRef::Big(self.at.cast::<u64>().add(word).cast::<Arc<Vec<u8>>>().as_ref())
            },
            // SAFETY: [entry-word] as above, for the other Arc.
            KIND_OBJECT => unsafe {
                ValueRef::Object(self.at.cast::<u64>().add(word).cast::<Arc<Object>>().as_ref())
            },
            _ => ValueRef::Absent,
        }
    }

    /// Whether the key is known to be absent.
    pub(crate) fn is_absent(self) -> bool {
        self.kind() == KIND_ABSENT
    }

    /// When the key expires, in milliseconds since the Unix epoch.
    pub(crate) fn expires_at_ms(self) -> Option<u64> {
        (self.header() & EXPIRY_BIT != 0).then(|| self.field(1))
    }

    /// The 24-bit access word.
    pub(crate) fn access(self) -> u32 {
        (self.header() & ACCESS_MASK) as u32
    }

    /// The five bits that the disk tier keeps with each key.
    pub(crate) fn state(self) -> u8 {
        (self.header() >> STATE_SHIFT & STATE_MASK) as u8
    }

    /// Bytes of memory the key takes, its slot not counted.
    pub(crate) fn memory_bytes(self) -> usize {
        let own = allocated(self.len_bytes().next_multiple_of(8));
        own + match self.value() {
            ValueRef::Big(big) => allocated(big.capacity()) + allocated(40),
            ValueRef::Object(object) => object.memory_bytes(),
            _ => 0,
        }
    }
}

/// A word of a bucket: an owned entry with 15 bits of its hash, or nothing; and one bit that
/// belongs to the bucket rather than to the entry.
///
/// Invariant [slot-owner]: a non-null address is an entry owned by this slot. Addresses of user
/// space fit 48 bits on the systems we build for; `fill` asserts it.
pub(crate) struct Slot(*mut u8);

const ADDRESS_BITS: u32 = 48;
const ADDRESS_MASK: usize = (1 << ADDRESS_BITS) - 1;
const MARK_BIT: usize = 1 << ADDRESS_BITS;
const TAG_SHIFT: u32 = ADDRESS_BITS + 1;

/// The part of a hash that a slot keeps: 15 bits that no directory or bucket index uses.
pub(crate) const fn tag_of(hash: u64) -> u16 {
    (hash & 0x7fff) as u16
}

const _: () = assert!(size_of::<Slot>() == 8 && size_of::<usize>() == 8);

impl Slot {
    /// A slot without entry and mark.
    pub(crate) const EMPTY: Self = Self(ptr::null_mut());

    /// Whether there is no entry.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.addr() & ADDRESS_MASK == 0
    }

    /// Whether there is an entry with this tag.
    pub(crate) fn matches(&self, tag: u16) -> bool {
        // The mark bit is shifted out; an empty slot has tag 0 and is told apart by its address.
        self.0.addr() >> TAG_SHIFT == usize::from(tag) && !self.is_empty()
    }

    /// The bit that the bucket keeps in this slot.
    pub(crate) fn mark(&self) -> bool {
        self.0.addr() & MARK_BIT != 0
    }

    /// Sets the bucket's bit.
    pub(crate) fn set_mark(&mut self) {
        self.0 = self.0.map_addr(|a| a | MARK_BIT);
    }

    /// The entry.
    pub(crate) fn entry(&self) -> Option<EntryRef<'_>> {
        let at = NonNull::new(self.0.map_addr(|a| a & ADDRESS_MASK))?;
        Some(EntryRef { at, owner: PhantomData })
    }

    /// Puts an entry in; the slot must be empty. The mark stays.
    ///
    /// # Panics
    /// If the slot is taken or the address does not fit: both would lose an entry.
    pub(crate) fn fill(&mut self, entry: Entry, tag: u16) {
        assert!(self.is_empty(), "a slot holds one entry");
        let raw = entry.0.as_ptr();
        std::mem::forget(entry);
        assert!(raw.addr() & !ADDRESS_MASK == 0, "user addresses have 48 bits");
        let mark = self.0.addr() & MARK_BIT;
        self.0 = raw.map_addr(|a| a | mark | usize::from(tag) << TAG_SHIFT);
    }

    /// Takes the entry out. The mark stays.
    pub(crate) fn take(&mut self) -> Option<Entry> {
        let at = NonNull::new(self.0.map_addr(|a| a & ADDRESS_MASK))?;
        self.0 = ptr::without_provenance_mut(self.0.addr() & MARK_BIT);
        Some(Entry(at))
    }

    /// Runs `f` on the entry, which it may rebuild; the tag stays.
    pub(crate) fn update<R>(&mut self, f: impl FnOnce(&mut Entry) -> R) -> Option<R> {
        let at = NonNull::new(self.0.map_addr(|a| a & ADDRESS_MASK))?;
        let rest = self.0.addr() & !ADDRESS_MASK;
        /// Puts the entry back also when `f` unwinds.
        struct Back<'s>(&'s mut Slot, std::mem::ManuallyDrop<Entry>, usize);
        impl Drop for Back<'_> {
            fn drop(&mut self) {
                let (raw, rest) = (self.1.0.as_ptr(), self.2);
                self.0.0 = raw.map_addr(|a| a | rest);
            }
        }
        let mut back = Back(self, std::mem::ManuallyDrop::new(Entry(at)), rest);
        Some(f(&mut back.1))
    }

    /// Asks the processor to fetch the entry's first lines.
    pub(crate) fn prefetch(&self) {
        prefetch(self.0.map_addr(|a| a & ADDRESS_MASK).cast_const());
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        drop(self.take());
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Slot").field(&self.entry()).finish()
    }
}

/// Asks the processor to fetch the line at `at`; any address is allowed, none is read
/// ([entry-prefetch]).
pub(crate) fn prefetch<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: [entry-prefetch] a prefetch reads nothing architecturally, whatever the address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

#[cfg(test)]
mod tests;
