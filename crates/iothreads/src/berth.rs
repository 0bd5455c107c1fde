//! Where the half of a connection lies while no worker has it: at most one job in flight for each
//! connection, whatever the direction.
//!
//! Owned by main; pure. It must not know sockets: [`Berth`] holds any value that travels in jobs.
//!
//! The problem: a connection becomes readable while a worker writes to it, or is closed while a
//! worker reads. Others keep a flag for each direction, and twice a flag was cleared by one
//! direction while the other was under way. Here the value itself is the token. While it travels
//! there is nothing on this side that could be touched, freed or handed out a second time; what is
//! wanted meanwhile is latched, and served when the value is back, in turns, so that neither
//! direction starves.
//!
//! Source: issues 997 and 4347 of Valkey.

/// What a connection is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Bytes may have come in.
    Read,
    /// Bytes should go out.
    Write,
}

impl Direction {
    const fn other(self) -> Self {
        match self {
            Self::Read => Self::Write,
            Self::Write => Self::Read,
        }
    }
}

/// A value that has come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival<T> {
    /// It lies in its berth; [`Berth::depart`] tells whether it is wanted again.
    Home,
    /// It was closed meanwhile: here it is, to be dropped; the berth is empty for good.
    Closed(T),
}

/// The berth of one value.
///
/// # Examples
/// ```
/// use flintlock_iothreads::{Arrival, Berth, Direction};
///
/// let mut berth = Berth::new("socket");
/// berth.want(Direction::Read);
/// let (direction, half) = berth.depart().expect("at home and wanted");
/// assert_eq!(direction, Direction::Read);
///
/// // It travels in a job: readiness is latched, nothing departs twice.
/// berth.want(Direction::Read);
/// assert!(berth.depart().is_none());
///
/// assert_eq!(berth.arrive(half), Arrival::Home);
/// assert!(berth.depart().is_some(), "the latched readiness");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Berth<T> {
    /// `None` while it travels, and after it was closed.
    half: Option<T>,
    read: bool,
    write: bool,
    /// Served last; the other direction goes first if both are wanted.
    last: Direction,
    closing: bool,
}

impl<T> Berth<T> {
    /// A value at home, wanted for nothing. Reading goes first.
    pub const fn new(half: T) -> Self {
        Self { half: Some(half), read: false, write: false, last: Direction::Write, closing: false }
    }

    /// Latches that the value is wanted for `direction`; idempotent, and without effect once it is
    /// being closed.
    pub const fn want(&mut self, direction: Direction) {
        if !self.closing {
            *self.wanted(direction) = true;
        }
    }

    /// Whether the value is wanted for `direction` and not on its way for it.
    #[must_use]
    pub const fn wants(&self, direction: Direction) -> bool {
        match direction {
            Direction::Read => self.read,
            Direction::Write => self.write,
        }
    }

    /// Takes the value out for a job, if it is at home and wanted. If both directions are, they
    /// take turns.
    pub fn depart(&mut self) -> Option<(Direction, T)> {
        let direction = match (self.read, self.write) {
            (false, false) => return None,
            (true, true) => self.last.other(),
            (true, false) => Direction::Read,
            (false, true) => Direction::Write,
        };
        let half = self.half.take()?;
        *self.wanted(direction) = false;
        self.last = direction;
        Some((direction, half))
    }

    /// Undoes the last [`Berth::depart`], when the pool did not take the job: the berth is as
    /// before, also whose turn it is.
    ///
    /// # Panics
    /// If a value is at home: it cannot have departed.
    pub fn cancel(&mut self, direction: Direction, half: T) {
        assert!(self.half.is_none(), "nothing has departed");
        self.half = Some(half);
        *self.wanted(direction) = true;
        self.last = direction.other();
    }

    /// Takes back the value from a finished job.
    ///
    /// # Panics
    /// If a value is at home: a connection has only one.
    pub fn arrive(&mut self, half: T) -> Arrival<T> {
        assert!(self.half.is_none(), "two values for one berth");
        if self.closing {
            return Arrival::Closed(half);
        }
        self.half = Some(half);
        Arrival::Home
    }

    /// Closes the connection: gives the value out if it is at home; otherwise [`Berth::arrive`]
    /// will. Either way it comes out exactly once, and nothing departs any more.
    pub fn close(&mut self) -> Option<T> {
        self.closing = true;
        (self.read, self.write) = (false, false);
        self.half.take()
    }

    /// Whether [`Berth::close`] was called.
    #[must_use]
    pub const fn is_closing(&self) -> bool {
        self.closing
    }

    /// The value, if it is at home.
    #[must_use]
    pub const fn half(&self) -> Option<&T> {
        self.half.as_ref()
    }

    /// The value, if it is at home.
    pub const fn half_mut(&mut self) -> Option<&mut T> {
        self.half.as_mut()
    }

    const fn wanted(&mut self, direction: Direction) -> &mut bool {
        match direction {
            Direction::Read => &mut self.read,
            Direction::Write => &mut self.write,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directions_take_turns_when_both_are_wanted() {
        let mut berth = Berth::new(());
        let mut served = Vec::new();
        for _ in 0..1000 {
            berth.want(Direction::Read);
            berth.want(Direction::Write);
            let (direction, half) = berth.depart().expect("at home and wanted");
            served.push(direction);
            assert_eq!(berth.arrive(half), Arrival::Home);
        }
        assert_eq!(served[0], Direction::Read);
        assert!(served.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn a_cancelled_departure_leaves_the_berth_as_it_was() {
        for wanted in
            [&[Direction::Read][..], &[Direction::Write], &[Direction::Read, Direction::Write]]
        {
            let mut berth = Berth::new(7);
            wanted.iter().for_each(|&direction| berth.want(direction));
            if wanted.len() == 1 {
                // The turn matters only if both are wanted.
                berth.last = wanted[0].other();
            }
            let before = berth.clone();
            let (direction, half) = berth.depart().expect("at home and wanted");
            berth.cancel(direction, half);
            assert_eq!(berth, before);
        }
    }

    #[test]
    fn closing_gives_the_value_out_once() {
        let mut home = Berth::new(1);
        assert_eq!(home.close(), Some(1));
        assert_eq!(home.close(), None);

        let mut away = Berth::new(2);
        away.want(Direction::Write);
        let (_, half) = away.depart().expect("at home and wanted");
        assert_eq!(away.close(), None);
        away.want(Direction::Read);
        assert!(!away.wants(Direction::Read));
        assert_eq!(away.arrive(half), Arrival::Closed(2));
        assert_eq!(away.close(), None);
        assert!(away.depart().is_none() && away.is_closing() && away.half().is_none());
    }
}
