//! Cursors and options of SCAN, HSCAN, SSCAN and ZSCAN. Pure.

use crate::resp::encode::Reply;
use crate::types::number::parse_i64;
use crate::util::glob;

use super::{Error, Request};

/// Elements that one step looks at, whatever COUNT says: the reply and the turn stay bounded.
const COUNT_MAX: usize = 100_000;

/// A cursor as Redis reads it: what C's `strtoul` takes, all of it, so nothing is 0 and a negative
/// number wraps around.
///
/// # Errors
/// [`Error::INVALID_CURSOR`].
pub(super) fn parse_cursor(text: &[u8]) -> Result<u64, Error> {
    let (negative, digits) = match text {
        [] => return Ok(0),
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    // What `parse` takes besides is a second sign.
    let digits = std::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'));
    let number: u64 = digits.and_then(|d| d.parse().ok()).ok_or(Error::INVALID_CURSOR)?;
    Ok(if negative { number.wrapping_neg() } else { number })
}

/// What follows the cursor.
#[derive(Debug)]
pub(super) struct Options<'a> {
    /// How many elements to look at, at most [`COUNT_MAX`].
    pub count: usize,
    /// Only elements with such a name. The star alone is no pattern: it matches every name.
    pub pattern: Option<&'a [u8]>,
    /// Only keys of this type.
    pub type_name: Option<&'a [u8]>,
}

impl<'a> Options<'a> {
    /// Reads the options of SCAN.
    ///
    /// # Errors
    /// [`Error::SYNTAX`], [`Error::NOT_INTEGER`].
    pub(super) fn of_keys(request: &Request<'a>) -> Result<Self, Error> {
        Self::parse(request.from(2), true)
    }

    /// Reads those of a walk through one collection, which stand behind its key and the cursor.
    ///
    /// # Errors
    /// As [`Options::of_keys`].
    pub(super) fn of_elements(request: &Request<'a>) -> Result<Self, Error> {
        Self::parse(request.from(3), false)
    }

    fn parse(mut rest: impl Iterator<Item = &'a [u8]>, has_types: bool) -> Result<Self, Error> {
        let mut options = Self { count: 10, pattern: None, type_name: None };
        while let Some(word) = rest.next() {
            let value = rest.next().ok_or(Error::SYNTAX)?;
            match word.to_ascii_lowercase().as_slice() {
                b"count" => {
                    let number = parse_i64(value).ok_or(Error::NOT_INTEGER)?;
                    let count = usize::try_from(number).ok().filter(|count| *count > 0);
                    options.count = count.ok_or(Error::SYNTAX)?.min(COUNT_MAX);
                }
                b"match" => options.pattern = Some(value).filter(|pattern| *pattern != b"*"),
                b"type" if has_types => options.type_name = Some(value),
                _ => return Err(Error::SYNTAX),
            }
        }
        Ok(options)
    }

    /// Whether an element with this name is asked for.
    pub(super) fn admits(&self, name: &[u8]) -> bool {
        self.pattern.is_none_or(|pattern| glob::matches(pattern, name))
    }
}

/// The head of a reply: where to go on, 0 at the end, and how many strings follow.
pub(super) fn reply_head(next: u64, strings: usize, reply: &mut Reply<'_>) {
    reply.array(2);
    reply.bulk(itoa::Buffer::new().format(next).as_bytes());
    reply.array(strings);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors() {
        assert_eq!(parse_cursor(b"0"), Ok(0));
        assert_eq!(parse_cursor(b"18446744073709551615"), Ok(u64::MAX));
        assert_eq!(parse_cursor(b""), Ok(0));
        assert_eq!(parse_cursor(b"+7"), Ok(7));
        assert_eq!(parse_cursor(b"-1"), Ok(u64::MAX));
        for bad in [&b"x"[..], b"1x", b" 1", b"-", b"++1", b"18446744073709551616"] {
            assert_eq!(parse_cursor(bad), Err(Error::INVALID_CURSOR), "{}", bad.escape_ascii());
        }
    }
}
