//! The keyed hash of every table inside a value. Pure; any thread.
//!
//! The fields of a hash and the members of a set are chosen by clients, and HSCAN shows them in
//! hash order, so a client can observe the hash. A hash that is only seeded (foldhash, ahash's
//! fallback) makes no promise once its output is visible; SipHash-1-3 is a pseudo-random function
//! under a secret key, so seeing the order of any number of members says nothing about the next
//! one, and a flood of collisions cannot be prepared. It costs about 15 ns for a 16-byte member.
//!
//! The key is one per store and lasts as long as it, because a cursor is a position in hash order
//! and must stay valid when a value is evicted and read back in the middle of a scan.

use siphasher::sip::SipHasher13;
use std::fmt;

/// The secret of the store: 128 random bits drawn once, when the store is created.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct HashKey {
    low: u64,
    high: u64,
}

impl HashKey {
    /// Takes 16 bytes, which must come from a cryptographic source in a server that faces clients.
    #[must_use]
    pub const fn new(secret: [u8; 16]) -> Self {
        let both = u128::from_le_bytes(secret);
        Self { low: both as u64, high: (both >> 64) as u64 }
    }

    /// The 64-bit hash of `bytes` under this key.
    #[must_use]
    pub fn hash(&self, bytes: &[u8]) -> u64 {
        SipHasher13::new_with_keys(self.low, self.high).hash(bytes)
    }
}

impl fmt::Debug for HashKey {
    /// Shows nothing of the secret: a value's debug output ends up in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_siphash_1_3_and_depends_on_every_key_bit() {
        let key = HashKey::new(std::array::from_fn(|i| i as u8));
        // First and ninth vector of the reference SipHash-1-3 (key 00..0f, input 00..n).
        let input: [u8; 8] = std::array::from_fn(|i| i as u8);
        assert_eq!(key.hash(&[]), 0xabac_0158_050f_c4dc);
        for bit in 0..128 {
            let mut secret: [u8; 16] = std::array::from_fn(|i| i as u8);
            secret[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(HashKey::new(secret).hash(&input), key.hash(&input), "bit {bit}");
        }
    }

    #[test]
    fn debug_output_hides_the_secret() {
        assert_eq!(format!("{:?}", HashKey::new([7; 16])), "HashKey(..)");
    }
}
