//! The values behind keys: lists, hashes, sets and sorted sets, their encodings, and the numbers
//! in them. Pure data structures; any thread; no RESP, no IO, no clock, no unsafe, no globals.
//!
//! # A map for newcomers
//! | looking for | file |
//! |---|---|
//! | LPUSH, LINSERT, LREM, ... | [`list`]: `chunk` packs items, `chain` links chunks, `edit` is the middle |
//! | HSET, HSCAN, ... | [`hash`]: a packed buffer, then `table` |
//! | SADD, SINTER, SPOP, ... | [`set`]: `intset`, a packed buffer, then `table`; `algebra` |
//! | ZADD, ZRANGE, ZRANK, ... | [`zset`]: `small`, then `tree` (with `leaf`, `node`) and `index` |
//! | any of them as one type | [`Object`]; freeing a huge one: [`Parts`] |
//! | bytes for the store and back | [`codec`] |
//! | integers and doubles as text | [`number`] |
//! | when an encoding gives way to the next | [`Rules`], one field a directive |
//!
//! Underneath, for all of them:
//! - `packed`: records in one buffer, the small form of hashes, sets and sorted sets;
//! - `table`: extendible hashing over segments whose entries lie in one arena; `probe` is the
//!   array of slots in hash order, `directory` says which segment covers which hashes. Sets and
//!   hashes keep their strings there, the index of a sorted set only its links;
//! - `slab`: pages of numbered slots, so that nothing big ever moves when something grows;
//! - `length`: the length code of packed buffers; `memory`: what an allocation costs;
//! - `sample`, [`Rng`]: random choices; [`HashKey`]: the keyed hash.
//!
//! # Rules of the house
//! - *Bounded steps.* Adding or removing one element moves at most one chunk, segment or leaf
//!   (64 KiB), whatever the size of the value.
//! - *Bytes are counted.* Each operation keeps `memory_bytes` right: whoever changes a piece asks
//!   its `heap_bytes` before and after. Tests compare with a counting allocator.
//! - *One way only.* A value that has outgrown a form stays in the larger one, as in Redis, also
//!   through the store; `encoding_name` is what redis-server 7.0.15 prints.
//! - *Arguments, not globals.* Limits, the hash key and randomness come with the call.
//! - *A new encoding* is one more variant of the type's private `Form`; the compiler then lists
//!   what is missing, and the type's proptest against std runs over it once a strategy makes it.

pub mod codec;
pub mod hash;
mod hashing;
mod length;
pub mod list;
mod memory;
pub mod number;
mod object;
mod packed;
mod parts;
mod rng;
mod rules;
mod sample;
pub mod set;
mod slab;
mod table;
pub mod zset;

pub use hash::Hash;
pub use hashing::HashKey;
pub use list::List;
pub use memory::heap_bytes;
pub use object::Object;
pub use parts::Parts;
pub use rng::{Rng, SplitMix64};
pub use rules::Rules;
pub use set::{Member, Set};
pub use zset::{Score, ZSet};
