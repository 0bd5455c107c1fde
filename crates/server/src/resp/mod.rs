//! The wire protocol: RESP2, RESP3 and inline commands. Pure; any thread.
//!
//! `parse` turns bytes into arguments, `encode` turns replies into bytes. Neither does IO, nor
//! knows a command.

pub mod encode;
pub mod parse;
