//! What a queue answers when it cannot do what was asked; the item always comes back.
//!
//! Pure values; any thread.

use core::error::Error;
use core::fmt;

/// Why an item was not taken; it is inside, untouched, and the queue is as it was.
///
/// # Examples
/// ```
/// use flintlock_queues::{PushError, spsc};
///
/// let (mut producer, _consumer) = spsc::ring::<u32>(2);
/// producer.push(1).expect("room for two");
/// producer.push(2).expect("room for two");
/// assert_eq!(producer.push(3), Err(PushError::Full(3)));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum PushError<T> {
    /// There is no room now. Run the item here, drop it, or try again later.
    Full(T),
    /// Nobody will ever take it: every consumer is gone.
    Closed(T),
}

impl<T> PushError<T> {
    /// The item that was not taken.
    #[must_use]
    pub fn into_inner(self) -> T {
        match self {
            Self::Full(item) | Self::Closed(item) => item,
        }
    }

    /// Whether this is [`PushError::Full`].
    #[must_use]
    pub const fn is_full(&self) -> bool {
        matches!(self, Self::Full(_))
    }

    /// Whether this is [`PushError::Closed`].
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        matches!(self, Self::Closed(_))
    }
}

impl<T> fmt::Debug for PushError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full(..)",
            Self::Closed(_) => "Closed(..)",
        })
    }
}

impl<T> fmt::Display for PushError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "the queue is full",
            Self::Closed(_) => "every consumer of the queue is gone",
        })
    }
}

impl<T> Error for PushError<T> {}

/// Why nothing was popped.
///
/// # Examples
/// ```
/// use flintlock_queues::{PopError, spsc};
///
/// let (producer, mut consumer) = spsc::ring::<u32>(2);
/// assert_eq!(consumer.pop(), Err(PopError::Empty));
/// drop(producer);
/// assert_eq!(consumer.pop(), Err(PopError::Closed));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PopError {
    /// Nothing is published now.
    Empty,
    /// Nothing is there and nothing will come: every producer is gone.
    Closed,
}

impl fmt::Display for PopError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the queue is empty",
            Self::Closed => "the queue is empty and every producer is gone",
        })
    }
}

impl Error for PopError {}
