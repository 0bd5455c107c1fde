//! What a client waits for while its request stays where it is. Main thread.
//!
//! Whoever makes a client wait notes it in its session; whoever ends the wait takes it out and has
//! the request looked at again from its start.

use flintlock_diskcache::{Token, TokenId, op};

use crate::tier::Tier;

/// What a client waits for.
#[derive(Debug)]
pub(crate) enum Blocked {
    /// Keys that are being loaded.
    Load(Token<op::Load>),
    /// Room in memory for its write.
    Room(Token<op::Room>),
    /// A stretch of keys.
    Scan(Token<op::Scan>),
    /// Blind writes to reach the engine, so that keys can be counted.
    Count(Token<op::Drain>),
    /// The backup of this name, whose token the server has.
    Save(TokenId),
    /// The end that it asked for, as the one after so many that were called off.
    End(u64),
    /// An element of one of the keys that its session names; see [`crate::waiters`].
    Keys,
    /// The end of a pause, as the request that was made to wait as the one of this number.
    Paused(u64),
}

impl Blocked {
    /// Of what the disk tier will say that it is over.
    pub(crate) fn id(&self) -> Option<TokenId> {
        match self {
            Self::Load(token) => Some(token.id()),
            Self::Room(token) => Some(token.id()),
            Self::Scan(token) => Some(token.id()),
            Self::Count(token) => Some(token.id()),
            Self::Save(id) => Some(*id),
            Self::End(_) | Self::Keys | Self::Paused(_) => None,
        }
    }

    /// Gives the wait up: its client is gone.
    pub(crate) fn abandon(self, tier: &mut Tier) {
        match self {
            Self::Load(token) => tier.cache.abandon(token),
            Self::Room(token) => tier.cache.abandon(token),
            Self::Scan(token) => tier.cache.abandon(token),
            Self::Count(token) => tier.cache.abandon(token),
            // Others see what came of it, in INFO.
            Self::Save(_) => {}
            Self::End(_) | Self::Keys | Self::Paused(_) => {}
        }
    }
}
