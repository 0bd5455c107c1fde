//! Doubles as strtod reads and `%.17g` writes them. Pure; any thread.

use std::fmt::{self, Write};

/// Digits that `%.17g` shows at most.
const DIGITS: usize = 17;

/// The double that the whole of `text` denotes, or `None` when it is not one, does not fit (an
/// overflow, or a number that is not zero but rounds to it) or is not a number. Accepts what
/// strtod does: `1.5e3`, `.5`, `5.`, `0x1.8p3`, `inf`, `+Infinity`; refuses leading space.
///
/// # Examples
/// ```
/// use flintlock_server::types::number::parse_f64;
/// assert_eq!(parse_f64(b"0x10"), Some(16.0));
/// assert_eq!(parse_f64(b"nan"), None);
/// assert_eq!(parse_f64(b"1e400"), None);
/// ```
///
/// Source: `getDoubleFromObject` of Redis.
#[must_use]
pub fn parse_f64(text: &[u8]) -> Option<f64> {
    if text.first().is_none_or(|byte| is_space(*byte)) {
        return None;
    }
    let parsed = strtod(text)?;
    (parsed.len == text.len() && !parsed.lost && !parsed.value.is_nan()).then_some(parsed.value)
}

/// As [`parse_f64`] for the ends of a range, where Redis is more lenient: leading space is skipped,
/// an overflow is an infinity, an underflow zero, an empty text zero, and a text ends at a NUL.
///
/// Source: `zslParseRange` of Redis.
#[must_use]
pub fn parse_f64_bound(text: &[u8]) -> Option<f64> {
    parse_c_text(text).map(|(value, _)| value)
}

/// As [`parse_f64_bound`] for the weights of SORT, which refuses an overflow and an underflow.
///
/// Source: `sortCommandGeneric` of Redis. It asks for `errno` without clearing it, so one text out
/// of range makes the sorts behind it fail, whatever they sort, until a command clears it; that is
/// not imitated.
#[must_use]
pub fn parse_f64_weight(text: &[u8]) -> Option<f64> {
    parse_c_text(text).and_then(|(value, lost)| (!lost).then_some(value))
}

/// What strtod makes of a C string, if it reads all of it: the number, and whether it was lost. An
/// empty one is zero.
fn parse_c_text(text: &[u8]) -> Option<(f64, bool)> {
    let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
    let text = &text[..end];
    if text.is_empty() {
        return Some((0.0, false));
    }
    let parsed = strtod(text)?;
    let whole = parsed.len == text.len() && !parsed.value.is_nan();
    whole.then_some((parsed.value, parsed.lost))
}

struct Parsed {
    value: f64,
    /// Bytes of the text that make up the number.
    len: usize,
    /// The number overflowed, or rounded to zero without being zero.
    lost: bool,
}

pub(super) const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// The longest number that `text` starts with; `None` when it starts with none.
fn strtod(text: &[u8]) -> Option<Parsed> {
    let space = text.iter().take_while(|byte| is_space(**byte)).count();
    let (negative, sign) = match text.get(space) {
        Some(b'-') => (true, 1),
        Some(b'+') => (false, 1),
        _ => (false, 0),
    };
    let start = space + sign;
    let mut parsed = unsigned(&text[start..])?;
    parsed.len += start;
    if negative {
        parsed.value = -parsed.value;
    }
    Some(parsed)
}

fn unsigned(text: &[u8]) -> Option<Parsed> {
    let starts =
        |word: &[u8]| text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
    let word = |value, len| Some(Parsed { value, len, lost: false });
    if starts(b"infinity") {
        return word(f64::INFINITY, 8);
    }
    if starts(b"inf") {
        return word(f64::INFINITY, 3);
    }
    if starts(b"nan") {
        return word(f64::NAN, 3);
    }
    if starts(b"0x")
        && let Some(parsed) = hexadecimal(text)
    {
        return Some(parsed);
    }
    decimal(text)
}

/// Length of the run of bytes at `at` that satisfy `is_digit`.
fn run(text: &[u8], at: usize, is_digit: impl Fn(&u8) -> bool) -> usize {
    text.get(at..).unwrap_or(&[]).iter().take_while(|byte| is_digit(byte)).count()
}

/// End of the mantissa that starts at `start`, if it has a digit: digits with at most one point.
pub(super) fn mantissa_end(text: &[u8], start: usize, is_digit: fn(&u8) -> bool) -> Option<usize> {
    let whole = run(text, start, is_digit);
    let mut end = start + whole;
    let mut digits = whole;
    if text.get(end) == Some(&b'.') {
        let fraction = run(text, end + 1, is_digit);
        digits += fraction;
        end += 1 + fraction;
    }
    (digits > 0).then_some(end)
}

/// End of the text with the exponent that starts at `at`, if there is a whole one.
pub(super) fn exponent_end(text: &[u8], at: usize, mark: u8) -> usize {
    if text.get(at).is_none_or(|byte| byte.to_ascii_lowercase() != mark) {
        return at;
    }
    let sign = usize::from(matches!(text.get(at + 1), Some(b'+' | b'-')));
    match run(text, at + 1 + sign, u8::is_ascii_digit) {
        0 => at,
        digits => at + 1 + sign + digits,
    }
}

fn decimal(text: &[u8]) -> Option<Parsed> {
    let mantissa = mantissa_end(text, 0, u8::is_ascii_digit)?;
    let len = exponent_end(text, mantissa, b'e');
    let value: f64 = std::str::from_utf8(&text[..len]).ok()?.parse().ok()?;
    let is_zero = text[..mantissa].iter().all(|byte| matches!(byte, b'0' | b'.'));
    Some(Parsed { value, len, lost: value.is_infinite() || (value == 0.0 && !is_zero) })
}

fn hexadecimal(text: &[u8]) -> Option<Parsed> {
    let mantissa = mantissa_end(text, 2, u8::is_ascii_hexdigit)?;
    let len = exponent_end(text, mantissa, b'p');
    let mut bits = 0_u64;
    // Set when a digit beyond the 64 bits kept is not zero.
    let mut sticky = false;
    let mut exponent = 0_i64;
    let mut after_point = false;
    for byte in &text[2..mantissa] {
        let Some(digit) = char::from(*byte).to_digit(16) else {
            after_point = true;
            continue;
        };
        if bits >> 60 == 0 {
            bits = bits << 4 | u64::from(digit);
            exponent -= if after_point { 4 } else { 0 };
        } else {
            sticky |= digit != 0;
            exponent += if after_point { 0 } else { 4 };
        }
    }
    if len > mantissa {
        let digits = &text[mantissa + 1..len];
        let negative = digits[0] == b'-';
        let value = digits
            .iter()
            .filter(|byte| byte.is_ascii_digit())
            .fold(0_i64, |sum, byte| sum.saturating_mul(10).saturating_add(i64::from(byte - b'0')));
        exponent = exponent.saturating_add(if negative { -value } else { value });
    }
    let value = scale(bits, sticky, exponent);
    Some(Parsed { value, len, lost: value.is_infinite() || (value == 0.0 && bits != 0) })
}

/// `bits` times two to the `exponent`, rounded to nearest, ties to even; `sticky` stands for a
/// little more.
fn scale(bits: u64, sticky: bool, exponent: i64) -> f64 {
    if bits == 0 {
        return 0.0;
    }
    let bits_up = bits << bits.leading_zeros();
    // The value is in [2^top, 2^(top + 1)).
    let top = exponent.saturating_sub(i64::from(bits.leading_zeros())).saturating_add(63);
    if top > 1023 {
        return f64::INFINITY;
    }
    // Below 2^-1022 a double loses one bit of precision for each power of two.
    let precision = 53 - (-1022 - top).max(0);
    if precision < 0 {
        return 0.0;
    }
    let dropped = 64 - precision as u32;
    let (kept, rest) =
        if dropped == 64 { (0, bits_up) } else { (bits_up >> dropped, bits_up << (64 - dropped)) };
    let half = 1 << 63;
    let up = rest > half || rest == half && (sticky || kept & 1 == 1);
    let kept = kept + u64::from(up);
    // A carry out of the mantissa moves into the exponent, which is what rounding up means; for a
    // normal number the leading one of `kept` adds the last unit of the exponent.
    let biased = if precision == 53 { (top + 1022) as u64 } else { 0 };
    f64::from_bits((biased << 52) + kept)
}

/// The text of a double, at most 24 bytes, without an allocation.
#[derive(Clone, Copy)]
pub struct FloatText {
    bytes: [u8; 32],
    len: usize,
}

impl FloatText {
    const fn new() -> Self {
        Self { bytes: [0; 32], len: 0 }
    }

    /// The text.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn push(&mut self, text: &[u8]) {
        self.bytes[self.len..self.len + text.len()].copy_from_slice(text);
        self.len += text.len();
    }

    fn drop_trailing_zeros(&mut self) {
        while self.bytes[self.len - 1] == b'0' {
            self.len -= 1;
        }
        if self.bytes[self.len - 1] == b'.' {
            self.len -= 1;
        }
    }
}

impl fmt::Debug for FloatText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.as_bytes().escape_ascii())
    }
}

impl Write for FloatText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
}

/// The text of `value` as a reply shows it: 17 significant digits without trailing zeros, whole
/// numbers without a point, `inf` and `-inf`.
///
/// # Examples
/// ```
/// use flintlock_server::types::number::format_f64;
/// assert_eq!(format_f64(3.0).as_bytes(), b"3");
/// assert_eq!(format_f64(0.1).as_bytes(), b"0.10000000000000001");
/// assert_eq!(format_f64(1e300).as_bytes(), b"1.0000000000000001e+300");
/// ```
///
/// Source: `addReplyDouble` of Redis 7.0.
#[must_use]
pub fn format_f64(value: f64) -> FloatText {
    let mut text = FloatText::new();
    if !value.is_finite() {
        text.push(if value.is_nan() {
            b"nan"
        } else if value > 0.0 {
            b"inf"
        } else {
            b"-inf"
        });
        return text;
    }
    // Whole numbers are by far the most common scores. Up to 2^53 the cast is exact.
    if value.abs() < 9e15 && value == value.trunc() && !(value == 0.0 && value.is_sign_negative()) {
        text.push(itoa::Buffer::new().format(value as i64).as_bytes());
        return text;
    }
    let (digits, exponent) = significant_digits(value.abs());
    if value.is_sign_negative() {
        text.push(b"-");
    }
    match exponent {
        _ if value == 0.0 => text.push(b"0"),
        0..17 => {
            let whole = exponent as usize + 1;
            text.push(&digits[..whole]);
            text.push(b".");
            text.push(&digits[whole..]);
            text.drop_trailing_zeros();
        }
        -4..0 => {
            text.push(b"0.");
            text.push(&b"000"[..(-1 - exponent) as usize]);
            text.push(&digits);
            text.drop_trailing_zeros();
        }
        _ => {
            text.push(&digits[..1]);
            text.push(b".");
            text.push(&digits[1..]);
            text.drop_trailing_zeros();
            text.push(if exponent < 0 { b"e-" } else { b"e+" });
            let size = exponent.unsigned_abs();
            if size < 10 {
                text.push(b"0");
            }
            text.push(itoa::Buffer::new().format(size).as_bytes());
        }
    }
    text
}

/// The first 17 decimal digits of a finite positive double, rounded, and the exponent of the first.
fn significant_digits(value: f64) -> ([u8; DIGITS], i32) {
    let mut text = FloatText::new();
    write!(text, "{value:.16e}").expect("at most 23 bytes");
    let bytes = text.as_bytes();
    let mut digits = [b'0'; DIGITS];
    digits[0] = bytes[0];
    digits[1..].copy_from_slice(&bytes[2..18]);
    let exponent = std::str::from_utf8(&bytes[19..]).ok().and_then(|e| e.parse().ok());
    (digits, exponent.expect("scientific notation ends in an exponent"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_strtod_reads() {
        let cases: [(&str, f64); 22] = [
            ("1", 1.0),
            ("-1.5", -1.5),
            ("+2", 2.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("1e3", 1e3),
            ("1E+3", 1e3),
            ("1e-3", 1e-3),
            ("inf", f64::INFINITY),
            ("-Inf", f64::NEG_INFINITY),
            ("+INFINITY", f64::INFINITY),
            ("0x10", 16.0),
            ("0X1.8p1", 3.0),
            ("0x.8", 0.5),
            ("0x1p-1074", 5e-324),
            ("4.9e-324", 5e-324),
            ("1.7976931348623157e308", f64::MAX),
            ("0e999999999999", 0.0),
            ("0x1.fffffffffffff7fp1023", f64::MAX),
            ("-0", -0.0),
            ("0x1.fffffffffffff8p0", 2.0),
            ("0x1.00000000000008p0", 1.0),
        ];
        for (text, value) in cases {
            assert_eq!(parse_f64(text.as_bytes()), Some(value), "{text}");
        }
        let refused = [
            "",
            " 1",
            "1 ",
            "nan",
            "-nan",
            "1e",
            "1e+",
            "e5",
            ".",
            "0x",
            "0xg",
            "0x1p",
            "1e400",
            "-1e400",
            "1e-400",
            "0x1p1024",
            "0x1p-1080",
            "infinit",
            "1,5",
            "1_000",
            "--1",
            "0x.p1",
            "nan(1)",
            "1\0",
        ];
        for text in refused {
            assert_eq!(parse_f64(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn bounds_are_read_leniently() {
        assert_eq!(parse_f64_bound(b" 1"), Some(1.0));
        assert_eq!(parse_f64_bound(b"1e400"), Some(f64::INFINITY));
        assert_eq!(parse_f64_bound(b"-1e400"), Some(f64::NEG_INFINITY));
        assert_eq!(parse_f64_bound(b"1e-400"), Some(0.0));
        assert_eq!(parse_f64_bound(b""), Some(0.0));
        assert_eq!(parse_f64_bound(b"3\0x"), Some(3.0));
        for text in [&b"1 "[..], b"nan", b"x", b"1x"] {
            assert_eq!(parse_f64_bound(text), None);
        }
    }

    #[test]
    fn weights_are_read_as_bounds_are_but_must_fit() {
        for (text, value) in [(&b""[..], 0.0), (b" 1", 1.0), (b"\t-2", -2.0), (b"3\0x", 3.0)] {
            assert_eq!(parse_f64_weight(text), Some(value));
        }
        for text in [&b"1e400"[..], b"1e-400", b"nan", b" ", b"1 ", b"x"] {
            assert_eq!(parse_f64_weight(text), None);
        }
    }

    #[test]
    fn writes_what_printf_writes() {
        let cases: [(f64, &str); 20] = [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-17.0, "-17"),
            (0.1, "0.10000000000000001"),
            (3.5, "3.5"),
            (1e15, "1000000000000000"),
            (1e16, "10000000000000000"),
            (1e17, "1e+17"),
            (123_456_789_012_345_680.0, "1.2345678901234568e+17"),
            (1e-4, "0.0001"),
            (1e-5, "1.0000000000000001e-05"),
            (0.25, "0.25"),
            (5e-324, "4.9406564584124654e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (9_007_199_254_740_993.0, "9007199254740992"),
            (1.5e300, "1.5000000000000001e+300"),
            (12.0e-7, "1.1999999999999999e-06"),
        ];
        for (value, text) in cases {
            let got = format_f64(value);
            assert_eq!(std::str::from_utf8(got.as_bytes()), Ok(text));
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(bits: u64) {
            let value = f64::from_bits(bits);
            prop_assume!(!value.is_nan());
            let text = format_f64(value);
            let read = parse_f64(text.as_bytes());
            prop_assert_eq!(read.map(f64::to_bits), Some(bits));
        }

        #[test]
        fn hexadecimal_reads_every_bit(bits: u64) {
            let value = f64::from_bits(bits >> 1);
            prop_assume!(value.is_finite() && value != 0.0);
            let (mantissa, exponent) = (bits >> 1 & ((1 << 52) - 1), bits >> 53);
            let text = if exponent == 0 {
                format!("0x0.{mantissa:013x}p-1022")
            } else {
                format!("0x1.{mantissa:013x}p{}", exponent as i64 - 1023)
            };
            prop_assert_eq!(parse_f64(text.as_bytes()), Some(value), "{}", text);
        }

        #[test]
        fn any_bytes_are_answered(text in prop::collection::vec(any::<u8>(), 0..40)) {
            let strict = parse_f64(&text);
            let lenient = parse_f64_bound(&text);
            prop_assert!(strict.is_none() || lenient == strict);
        }
    }
}
