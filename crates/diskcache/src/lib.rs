//! An object cache over a disk store (see README.md).
//!
//! | room | owns | thread |
//! |---|---|---|
//! | [`key`] | what a key is on disk | any |
//! | [`cache`] | the only public door: lookups, writes, loads, saves, evictions, waiters, tokens | main |
//! | [`journal`] | the only log: frames, group commit, watermark slots, replay | one worker |
//! | [`storage`] | the blocking engine trait, the engine, the model and the fault store | workers |

pub mod cache;
pub mod journal;
pub mod key;
pub mod storage;
mod token;

pub use cache::op;
pub use token::{Token, TokenId};
