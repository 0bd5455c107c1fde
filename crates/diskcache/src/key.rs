//! What a key is on disk. Pure; any thread.
//!
//! A key on disk is `(space, hash, key)`, in that order and big-endian, so engine order is hash
//! order: SCAN and RANDOMKEY merge memory and disk in one pass and no index of all keys is needed
//! in memory. A *space* is a number that a database maps to: FLUSHDB maps the database to a fresh
//! space and leaves the old one to be purged, SWAPDB exchanges two mappings. Work that is queued
//! or in flight for a dead space therefore cannot resurrect anything.

use std::fmt;

/// Bytes of a [`KeyBuf`] before the user's key: space (4) and hash (8).
pub const KEY_PREFIX_LEN: usize = 12;

/// Number of one key space on disk; never reused within one store.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub struct Space(pub u32);

impl Space {
    /// The space of the store's own records; no database maps to it.
    pub const META: Self = Self(0);
}

/// Position in the journal: the number of one operation, from 1, never reused.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug, Default)]
pub struct Seq(pub u64);

impl Seq {
    /// The number after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Borrowed identity of one key.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct KeyRef<'a> {
    /// The space the key lives in.
    pub space: Space,
    /// The keyed hash of `key`; the same for the life of the store.
    pub hash: u64,
    /// The user's bytes, 0 to 512 MiB.
    pub key: &'a [u8],
}

impl KeyRef<'_> {
    /// Appends the on-disk form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.space.0.to_be_bytes());
        out.extend_from_slice(&self.hash.to_be_bytes());
        out.extend_from_slice(self.key);
    }

    /// Copies the identity into one allocation.
    #[must_use]
    pub fn to_buf(&self) -> KeyBuf {
        let mut out = Vec::with_capacity(KEY_PREFIX_LEN + self.key.len());
        self.encode(&mut out);
        KeyBuf(out.into_boxed_slice())
    }
}

/// Owned key in its on-disk form; `Ord` is engine order.
#[derive(Clone, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct KeyBuf(Box<[u8]>);

impl KeyBuf {
    /// Takes the on-disk form; `None` when it is shorter than the prefix.
    #[must_use]
    pub fn from_disk(bytes: &[u8]) -> Option<Self> {
        (bytes.len() >= KEY_PREFIX_LEN).then(|| Self(bytes.into()))
    }

    /// The on-disk form.
    #[must_use]
    pub fn as_disk(&self) -> &[u8] {
        &self.0
    }

    /// The parts.
    ///
    /// # Panics
    /// Never: every way to make a `KeyBuf` checks the length of its prefix.
    #[must_use]
    pub fn as_ref(&self) -> KeyRef<'_> {
        parse_disk_key(&self.0).expect("a KeyBuf is never shorter than its prefix")
    }
}

impl fmt::Debug for KeyBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let k = self.as_ref();
        write!(f, "{}/{:016x}/{}", k.space.0, k.hash, k.key.escape_ascii())
    }
}

/// Splits an on-disk key; `None` when it is shorter than the prefix.
#[must_use]
pub fn parse_disk_key(bytes: &[u8]) -> Option<KeyRef<'_>> {
    let (space, rest) = bytes.split_first_chunk::<4>()?;
    let (hash, key) = rest.split_first_chunk::<8>()?;
    Some(KeyRef { space: Space(u32::from_be_bytes(*space)), hash: u64::from_be_bytes(*hash), key })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disk_order_is_space_then_hash_then_key() {
        let k = |s, h, key: &'static [u8]| KeyRef { space: Space(s), hash: h, key }.to_buf();
        let sorted =
            [k(1, 0, b""), k(1, 1, b"b"), k(1, 1, b"ba"), k(1, 1 << 63, b"a"), k(2, 0, b"")];
        assert!(sorted.windows(2).all(|w| w[0] < w[1]));
        for key in &sorted {
            assert_eq!(key.as_ref().to_buf(), *key);
            assert_eq!(KeyBuf::from_disk(key.as_disk()).as_ref(), Some(key));
        }
        assert_eq!(KeyBuf::from_disk(b"short"), None);
    }
}
