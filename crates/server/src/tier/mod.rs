//! The disk tier.

use crate::command::Request;

/// How a change goes into the journal.
#[derive(Copy, Clone, Debug)]
pub(crate) enum Effect<'a> {
    /// The whole value of the key, as it is now.
    Put,
    /// The key is gone.
    Delete,
    /// Only the expiry changed.
    Expiry(Option<u64>),
    /// The request itself: it changes this key alone and does not depend on time or chance.
    Request(&'a Request<'a>),
    /// Another command that has the same effect, for one that does depend on them.
    Words(&'a [&'a [u8]]),
}

/// The disk tier.
#[derive(Debug)]
pub(crate) enum Tier {}
