//! Strict integers. Pure; any thread.

/// Digits and sign of the longest 64-bit integer.
const TEXT_MAX: usize = 20;

/// The number that `text` is the one way to write; `None` for anything else: an empty string, a
/// plus sign, a leading zero, a space, `-0`, or a number outside of 64 bits.
///
/// # Examples
/// ```
/// use flintlock_server::types::number::parse_i64;
/// assert_eq!(parse_i64(b"-17"), Some(-17));
/// assert_eq!(parse_i64(b"017"), None);
/// ```
///
/// Source: `string2ll` of Redis.
#[must_use]
#[inline]
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'0'] => return Some(0),
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if text.len() > TEXT_MAX || !matches!(digits.first(), Some(b'1'..=b'9')) {
        return None;
    }
    let mut value = 0_u64;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    if negative { 0_i64.checked_sub_unsigned(value) } else { i64::try_from(value).ok() }
}

/// Appends the decimal text of `value`.
pub fn push_i64(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Shows the decimal text of `value` to `show`, without an allocation.
pub fn format_i64<R>(value: i64, show: impl FnOnce(&[u8]) -> R) -> R {
    show(itoa::Buffer::new().format(value).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_the_canonical_text_is_an_integer() {
        for text in ["0", "1", "-1", "9223372036854775807", "-9223372036854775808"] {
            assert_eq!(parse_i64(text.as_bytes()), Some(text.parse().unwrap()), "{text}");
        }
        let refused = [
            "",
            "-",
            "+1",
            "01",
            "-0",
            "-01",
            " 1",
            "1 ",
            "1.0",
            "1e3",
            "0x1",
            "00",
            "--1",
            "1-",
            "9223372036854775808",
            "-9223372036854775809",
            "18446744073709551616",
            "99999999999999999999",
            "100000000000000000000",
            "\u{661}",
        ];
        for text in refused {
            assert_eq!(parse_i64(text.as_bytes()), None, "{text}");
        }
        assert_eq!(parse_i64(b"1\0"), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(value: i64) {
            prop_assert_eq!(format_i64(value, parse_i64), Some(value));
            let mut out = b"x".to_vec();
            push_i64(&mut out, value);
            prop_assert_eq!(out, format!("x{value}").into_bytes());
        }

        #[test]
        fn what_is_read_is_written_so(text in "[-+0-9 ]{0,21}") {
            if let Some(value) = parse_i64(text.as_bytes()) {
                prop_assert_eq!(value.to_string(), text);
            } else {
                prop_assert!(text.parse::<i64>().is_ok_and(|v| v.to_string() != text)
                    || text.parse::<i64>().is_err());
            }
        }
    }
}
