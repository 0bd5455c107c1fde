//! Keys and values in a directory, the most useful of them in memory.
#![doc = include_str!("../README.md")]
//!
//! # Modules
//!
//! | module | owns | thread |
//! |---|---|---|
//! | [`disk_cache`] | the library type: typed, synchronous, for any thread | any |
//! | [`key`] | what a key is on disk | any |
//! | [`cache`] | the state machine: writes, loads, saves, evictions, waiters; does no IO | main |
//! | [`exec`] | running its jobs on a pool of workers | main and workers |
//! | [`journal`] | the only log: frames, group commit, watermark slots, replay | one worker |
//! | [`token`] | the right and the duty to complete an operation | main |
//! | [`layout`] | the store's directory: identity, lock, parts | any |
//! | [`recovery`] | opening it all, and refusing when something acknowledged is missing | any |
//! | [`check`] | looking a closed store over, and repairing it | any |
//! | [`salvage`] | what is left of a store that is not opened, made a store | any |
//! | [`backup`] | a copy while the store is used, and a store made of a copy | workers |
//! | [`storage`] | the blocking engine trait, the engine, the model and the fault store | workers |

pub mod backup;
pub mod cache;
pub mod check;
pub mod disk_cache;
pub mod exec;
pub mod journal;
pub mod key;
pub mod layout;
pub mod recovery;
pub mod salvage;
pub mod storage;
pub mod token;

pub use cache::job::{Done, Job, Lane, Worker};
pub use cache::map::Codec;
pub use cache::{Cache, op};
pub use disk_cache::{DiskCache, Entries, Error, Options};
pub use token::{Token, TokenId};
