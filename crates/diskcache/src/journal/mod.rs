//! The only log: operations in order, framed, checksummed and synced in groups.
//!
//! ```text
//! main    Group::push_put/delta/delete/meta   copies into one buffer; no checksum, no syscall
//!           | the whole group moves to a worker
//! worker  Writer::append(group)               frames, checksums, writes; not durable yet
//!         Writer::sync()                      fdatasync, then the watermark slot: durable
//!         Writer::trim(upto)                  drops segments that the engine has taken over
//! open    scan() -> verdict                   clean | torn tail, cut | refused: what is gone
//!         Writer::open() -> writer, replay    repairs; all that is whole is durable from here on
//!         Replay::next_group()                operations in order, to the last valid frame
//! ```
//!
//! One group is one frame, and a frame is taken whole or not at all: operations that must appear
//! together (an EXEC) are pushed into one group and are atomic by construction.
//!
//! | file | owns |
//! |---|---|
//! | [`record`] | bytes of segment headers, frames and operations; pure |
//! | [`group`] | the buffer the main thread fills |
//! | [`writer`] | segments being written, groups not yet durable |
//! | [`watermark`] | the two slots that say how far the journal was synced |
//! | [`scan`](mod@scan) | the scan at opening and its verdict |
//! | [`replay`] | the repair, and the operations to apply |
//! | `remains` | every good group of a damaged journal |
//! | [`files`] | the directory and file traits, and the real ones |
//! | [`sim`] | a directory in memory that loses what was not synced |
//!
//! The formats are in docs/format.md. Nothing here knows the cache, the engine or a clock.
//!
//! Source: fsync is never retried and directories are synced, see Rebello et al., "Can applications
//! recover from fsync failures?" (2020).

pub mod files;
pub mod group;
pub mod record;
pub(crate) mod remains;
pub mod replay;
pub mod scan;
mod search;
pub mod sim;
pub mod watermark;
pub mod writer;

pub use files::{Dir, DiskDir, File};
pub use group::{BODY_MAX, Encode, Group, TooLarge};
pub use record::{Op, OpKind, SpaceMap};
pub use replay::{Accepted, Ops, Replay};
pub use scan::{Damage, Depth, EngineAt, ProvenBy, Refusal, Report, Segment, Verdict, What, scan};
pub use search::Later;
pub(crate) use writer::ENCODER_PANICKED;
pub use writer::{Export, JournalStats, Writer, WriterOptions};

/// Random identity of one store: files of another store are refused, never mixed in.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub struct StoreId(pub [u8; 16]);
