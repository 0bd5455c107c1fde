//! The limits at which a value changes its encoding, as one argument. Pure; any thread.
//!
//! Redis keeps these as global configuration; here the caller passes them, so CONFIG SET acts on
//! the next write and two tests can disagree. Each field has the directive's name and default.

use super::hashing::HashKey;

/// Encoding limits and the hash key that a growing value copies when it first needs a table.
///
/// # Examples
/// ```
/// use flintlock_server::types::{Hash, HashKey, Rules};
/// let rules = Rules::new(HashKey::new([7; 16]));
/// let mut hash = Hash::new();
/// assert!(hash.set(b"field", b"value", &rules));
/// assert_eq!(hash.get(b"field"), Some(&b"value"[..]));
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rules {
    /// `hash-max-listpack-entries`: a hash with more fields is a table.
    pub hash_max_listpack_entries: usize,
    /// `hash-max-listpack-value`: a hash with a longer field or value (bytes) is a table.
    pub hash_max_listpack_value: usize,
    /// `set-max-intset-entries`: a set of integers with more members stops being an intset.
    pub set_max_intset_entries: usize,
    /// `set-max-listpack-entries` of Redis 7.2: a set with more members is a table.
    pub set_max_listpack_entries: usize,
    /// `set-max-listpack-value` of Redis 7.2: a set with a longer member (bytes) is a table.
    pub set_max_listpack_value: usize,
    /// `zset-max-listpack-entries`: a sorted set with more members is a tree.
    pub zset_max_listpack_entries: usize,
    /// `zset-max-listpack-value`: a sorted set with a longer member (bytes) is a tree.
    pub zset_max_listpack_value: usize,
    /// `list-max-listpack-size`: items a chunk when positive; -1 to -5 for 4 to 64 KiB a chunk.
    pub list_max_listpack_size: i32,
    /// The store's secret for the tables inside values.
    pub hash_key: HashKey,
}

impl Rules {
    /// The defaults of redis.conf under the given key.
    #[must_use]
    pub const fn new(hash_key: HashKey) -> Self {
        Self {
            hash_max_listpack_entries: 512,
            hash_max_listpack_value: 64,
            set_max_intset_entries: 512,
            set_max_listpack_entries: 128,
            set_max_listpack_value: 64,
            zset_max_listpack_entries: 128,
            zset_max_listpack_value: 64,
            list_max_listpack_size: -2,
            hash_key,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn the_defaults_are_those_of_the_directives() {
        let (rules, config) = (Rules::new(HashKey::new([0; 16])), Config::default());
        assert_eq!(rules.hash_max_listpack_entries, config.hash_max_listpack_entries);
        assert_eq!(rules.hash_max_listpack_value, config.hash_max_listpack_value_bytes);
        assert_eq!(rules.set_max_intset_entries, config.set_max_intset_entries);
        assert_eq!(rules.zset_max_listpack_entries, config.zset_max_listpack_entries);
        assert_eq!(rules.zset_max_listpack_value, config.zset_max_listpack_value_bytes);
        assert_eq!(rules.list_max_listpack_size, config.list_max_listpack_size);
    }
}
