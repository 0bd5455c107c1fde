//! The values behind keys and the numbers in them. Pure; any thread; no RESP, no IO, no unsafe.

pub mod number;
