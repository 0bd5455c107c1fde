//! Changes of one key as the journal keeps them. Pure.
//!
//! ```text
//! 0 flag time     the expiry: flag 0 none, 1 and eight bytes of Unix milliseconds
//! 1 (len bytes)*  a request in its own words, the command's name first; lengths are varints
//! ```
//! A request is logged as it came, or rewritten, only if it changes nothing but its one key, and
//! depends on nothing but that key: not on time, chance, other keys or configuration.

use flintlock_diskcache::cache::job::DecodeError;

const EXPIRY: u8 = 0;
const WORDS: u8 = 1;

/// One change.
#[derive(Clone, Eq, PartialEq, Debug)]
pub(super) enum Delta<'a> {
    /// The key's expiry is this now.
    Expiry(Option<u64>),
    /// The request's words.
    Words(Vec<&'a [u8]>),
}

/// Appends a change of expiry.
pub(super) fn push_expiry(out: &mut Vec<u8>, expires_at_ms: Option<u64>) {
    out.extend_from_slice(&[EXPIRY, u8::from(expires_at_ms.is_some())]);
    if let Some(at) = expires_at_ms {
        out.extend_from_slice(&at.to_le_bytes());
    }
}

/// Appends a request.
pub(super) fn push_words<'a>(out: &mut Vec<u8>, words: impl Iterator<Item = &'a [u8]>) {
    out.push(WORDS);
    for word in words {
        push_varint(out, word.len());
        out.extend_from_slice(word);
    }
}

fn push_varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take_varint(bytes: &mut &[u8]) -> Option<usize> {
    let mut value = 0u64;
    for shift in (0..63).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return usize::try_from(value).ok();
        }
    }
    None
}

impl<'a> Delta<'a> {
    /// Reads one change.
    ///
    /// # Errors
    /// The bytes were not written by us.
    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        const BAD: DecodeError = DecodeError("the change does not decode");
        match bytes {
            [EXPIRY, 0] => Ok(Self::Expiry(None)),
            [EXPIRY, 1, time @ ..] => {
                let time = time.try_into().map_err(|_| BAD)?;
                Ok(Self::Expiry(Some(u64::from_le_bytes(time))))
            }
            [WORDS, rest @ ..] => {
                let (mut rest, mut words) = (rest, Vec::new());
                while !rest.is_empty() {
                    let len = take_varint(&mut rest).ok_or(BAD)?;
                    words.push(rest.split_off(..len).ok_or(BAD)?);
                }
                if words.is_empty() { Err(BAD) } else { Ok(Self::Words(words)) }
            }
            _ => Err(BAD),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(
            words in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..8),
            expiry in any::<Option<u64>>(),
        ) {
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            let mut out = Vec::new();
            push_words(&mut out, words.iter().copied());
            prop_assert_eq!(Delta::decode(&out), Ok(Delta::Words(words)));
            out.clear();
            push_expiry(&mut out, expiry);
            prop_assert_eq!(Delta::decode(&out), Ok(Delta::Expiry(expiry)));
        }

        #[test]
        fn garbage_is_refused_or_read_but_never_panics(
            bytes in prop::collection::vec(any::<u8>(), 0..64),
        ) {
            let _ = Delta::decode(&bytes);
        }
    }

    #[test]
    fn truncated_changes_are_refused() {
        let mut out = Vec::new();
        push_words(&mut out, [&b"lpush"[..], b"item"].into_iter());
        for len in [0, 1, 3, out.len() - 1] {
            assert!(Delta::decode(&out[..len]).is_err(), "{len}");
        }
    }
}
