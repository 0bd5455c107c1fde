//! Lock-free rings for handing jobs between threads.
//!
#![doc = include_str!("../README.md")]
#![no_std]

// This file only names what is public.

extern crate alloc;
#[cfg(test)]
extern crate std;

mod error;
mod layout;
pub mod mpsc;
pub mod spmc;
pub mod spsc;
#[cfg(all(test, not(any(loom, shuttle))))]
mod stall_tests;
#[doc(hidden)]
pub mod sync;
mod tagged;

pub use error::{PopError, PushError};
pub use layout::{Compact, Layout, Padded, Words};
#[doc(hidden)]
pub use tagged::kind_mask;
pub use tagged::{Index, KINDS_MAX, Tagged, Word};
