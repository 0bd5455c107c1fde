//! Times as commands name them: relative or absolute, in seconds or milliseconds. Pure.

use crate::types::number::parse_i64;

use super::{Ctx, Error};

/// How a command names a time.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) enum Unit {
    /// Seconds from now.
    Seconds,
    /// Milliseconds from now.
    Millis,
    /// Unix time in seconds.
    AtSeconds,
    /// Unix time in milliseconds.
    AtMillis,
}

impl Unit {
    /// The unit of an option of SET and GETEX, in lower case.
    pub(super) fn option(name: &[u8]) -> Option<Self> {
        match name {
            b"ex" => Some(Self::Seconds),
            b"px" => Some(Self::Millis),
            b"exat" => Some(Self::AtSeconds),
            b"pxat" => Some(Self::AtMillis),
            _ => None,
        }
    }

    /// Unix milliseconds of `time`, `None` if they do not fit 64 bits.
    pub(super) fn unix_ms(self, time: i64, now_ms: u64) -> Option<i64> {
        let ms = match self {
            Self::Seconds | Self::AtSeconds => time.checked_mul(1000)?,
            Self::Millis | Self::AtMillis => time,
        };
        match self {
            Self::Seconds | Self::Millis => ms.checked_add(i64::try_from(now_ms).ok()?),
            Self::AtSeconds | Self::AtMillis => Some(ms),
        }
    }
}

/// When a value that is set now expires: the time must be positive, as named.
pub(super) fn expires_at(
    ctx: &Ctx<'_>,
    command: &str,
    unit: Unit,
    time: &[u8],
) -> Result<u64, Error> {
    let time = parse_i64(time).ok_or(Error::NOT_INTEGER)?;
    let at = if time > 0 { unit.unix_ms(time, ctx.now_ms()) } else { None };
    at.and_then(|ms| u64::try_from(ms).ok()).ok_or_else(|| Error::expire_time(command))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_do_not_fit_are_refused() {
        assert_eq!(Unit::Seconds.unix_ms(2, 1000), Some(3000));
        assert_eq!(Unit::AtSeconds.unix_ms(-2, 1000), Some(-2000));
        assert_eq!(Unit::Seconds.unix_ms(i64::MAX / 1000 + 1, 0), None);
        assert_eq!(Unit::Millis.unix_ms(i64::MAX, 1), None);
        assert_eq!(Unit::AtMillis.unix_ms(i64::MAX, 1), Some(i64::MAX));
    }
}
