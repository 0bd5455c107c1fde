//! A member of a set as it is stored. Pure; any thread.

use crate::types::number::format_i64;
use std::cmp::Ordering;

/// A borrowed member: bytes, or an integer that stands for its decimal text.
#[derive(Clone, Copy, Debug)]
pub enum Member<'a> {
    /// The bytes.
    Bytes(&'a [u8]),
    /// The integer whose text is the member.
    Int(i64),
}

impl Member<'_> {
    /// Shows the bytes of the member to `show`, without an allocation.
    pub fn with_bytes<R>(&self, show: impl FnOnce(&[u8]) -> R) -> R {
        match self {
            Self::Bytes(bytes) => show(bytes),
            Self::Int(value) => format_i64(*value, show),
        }
    }

    /// Appends the bytes of the member.
    pub fn push_to(&self, out: &mut Vec<u8>) {
        self.with_bytes(|bytes| out.extend_from_slice(bytes));
    }

    /// The bytes of the member.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        self.with_bytes(<[u8]>::to_vec)
    }
}

impl PartialEq for Member<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Member<'_> {}

impl PartialOrd for Member<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Member<'_> {
    /// The order of the bytes, whichever way they are stored.
    fn cmp(&self, other: &Self) -> Ordering {
        self.with_bytes(|bytes| other.with_bytes(|others| bytes.cmp(others)))
    }
}
