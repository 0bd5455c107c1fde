//! Kinds of two-phase operations and what each yields. Main thread.
//!
//! A kind is a type without values, the parameter of a [`Token`](crate::Token); it makes handing
//! a token of one kind to the completion of another a compile error, where KeyDB casts.
//!
//! Source: KeyDB's two-phase storage calls (async FLASH), which casts tokens.

use super::Refusal;
use crate::storage::{BackupProgress, Scanned};

/// Keys being brought into memory; completed by `complete_load`.
#[derive(Debug)]
pub enum Load {}

/// Keys that stay in memory until the command that needed them has run; given back by `unpin`.
#[derive(Debug)]
pub enum Pinned {}

/// Room under the memory limit for one write.
#[derive(Debug)]
pub enum Room {}

/// All operations logged before the call are durable in the journal.
#[derive(Debug)]
pub enum Sync {}

/// All keys dirty at the call are durable in the engine.
#[derive(Debug)]
pub enum Drain {}

/// A stretch of keys in hash order from the engine.
#[derive(Debug)]
pub enum Scan {}

/// A copy of the store in another directory.
#[derive(Debug)]
pub enum Backup {}

/// What an operation yields, before its kind gives it a type.
#[derive(Debug)]
pub enum Output {
    /// Only that it is done.
    Nothing,
    /// Records in key order.
    Stretch(Stretch),
    /// What was copied.
    Backup(BackupProgress),
}

/// What a scan read.
#[derive(Debug, Default)]
pub struct Stretch {
    /// Records in key order, which is hash order.
    pub records: Vec<Scanned>,
    /// Whether the space has more behind them.
    pub more: bool,
}

/// A kind that the generic `complete` takes.
pub trait Kind: sealed::Sealed {
    /// What completing yields.
    type Output;

    /// Unpacks the output of an operation of this kind.
    fn unpack(output: Output) -> Self::Output;

    /// Whether `trouble` with the disk keeps an operation of this kind from its end.
    fn is_held_up_by(trouble: Refusal) -> bool;
}

mod sealed {
    #[expect(unnameable_types, reason = "so that nobody else can implement Kind")]
    pub trait Sealed {}
}

macro_rules! plain_kind {
    ($($kind:ty: $trouble:pat),*) => {$(
        impl sealed::Sealed for $kind {}
        impl Kind for $kind {
            type Output = ();
            fn unpack(_: Output) {}
            fn is_held_up_by(trouble: Refusal) -> bool {
                matches!(trouble, $trouble)
            }
        }
    )*};
}
plain_kind!(Room: _, Sync: Refusal::Journal(_), Drain: _);

impl sealed::Sealed for Scan {}
impl Kind for Scan {
    type Output = Stretch;

    fn unpack(output: Output) -> Self::Output {
        match output {
            Output::Stretch(stretch) => stretch,
            Output::Nothing | Output::Backup(_) => Stretch::default(),
        }
    }

    fn is_held_up_by(_: Refusal) -> bool {
        false
    }
}

impl sealed::Sealed for Backup {}
impl Kind for Backup {
    type Output = BackupProgress;

    fn unpack(output: Output) -> Self::Output {
        match output {
            Output::Backup(progress) => progress,
            Output::Nothing | Output::Stretch(_) => BackupProgress::default(),
        }
    }

    /// It fails by itself if the journal does.
    fn is_held_up_by(_: Refusal) -> bool {
        false
    }
}
