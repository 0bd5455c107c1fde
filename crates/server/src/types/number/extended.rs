//! Numbers of INCRBYFLOAT and HINCRBYFLOAT: the 80-bit floating point of x86, in software, since
//! redis-server computes with `long double` there and a double differs in the last digits it shows.
//! Pure; any thread.
//!
//! A mantissa of 64 bits and an exponent of 15, rounded to nearest, ties to even. Only what the two
//! commands do is here: read (`strtold`), add, and write (`%.17Lf` without trailing zeros).

use super::float::{exponent_end, is_space, mantissa_end};
use super::natural::Natural;

/// Exponent of the last bit of the smallest number; below, bits are lost.
const EXPONENT_MIN: i64 = -16_445;
/// Numbers from two to this power on are infinite.
const BITS_MAX: i64 = 16_384;
/// Numbers of more or fewer decimal digits in front of the point than these are infinite or zero.
const DIGITS_MAX: i64 = 4_940;
const DIGITS_MIN: i64 = -4_970;
/// redis-server reads no longer text as a number.
const TEXT_MAX: usize = 5 * 1024;
/// Digits behind the point that are shown.
const DECIMALS: u32 = 17;

/// `mantissa` times two to the `exponent`. The mantissa has its highest bit, unless the number is
/// zero or too small for that.
#[derive(Clone, Copy, Debug)]
pub struct Extended {
    negative: bool,
    mantissa: u64,
    exponent: i64,
    infinite: bool,
}

impl Extended {
    /// Zero.
    pub const ZERO: Self = Self { negative: false, mantissa: 0, exponent: 0, infinite: false };

    /// The number that the whole of `text` denotes, or `None` when it is not one or does not fit;
    /// infinities are numbers here. Takes what [`super::parse_f64`] takes, over a wider range.
    ///
    /// # Examples
    /// ```
    /// use flintlock_server::types::number::Extended;
    /// let sum = |a, b| Extended::parse(a)?.checked_add(Extended::parse(b)?);
    /// assert_eq!(sum(b"0.1", b"0.2").map(Extended::to_text), Some("0.3".to_owned()));
    /// assert!(Extended::parse(b"1 ").is_none() && sum(b"inf", b"1").is_none());
    /// ```
    ///
    /// Source: `string2ld` of Redis 7.0.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() >= TEXT_MAX || text.first().is_none_or(|byte| is_space(*byte)) {
            return None;
        }
        let (negative, text) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            rest => (false, rest),
        };
        if [&b"inf"[..], b"infinity"].iter().any(|word| text.eq_ignore_ascii_case(word)) {
            return Some(Self { negative, infinite: true, ..Self::ZERO });
        }
        let number = match text {
            [b'0', b'x' | b'X', digits @ ..] => hexadecimal(digits)?,
            digits => decimal(digits)?,
        };
        (!number.infinite).then_some(Self { negative, ..number })
    }

    /// Whether it is one of the two infinities.
    #[must_use]
    pub const fn is_infinite(self) -> bool {
        self.infinite
    }

    /// A thousand of it, rounded up; `None` when that does not fit.
    ///
    /// # Examples
    /// ```
    /// use flintlock_server::types::number::Extended;
    /// let ms = |text| Extended::parse(text)?.thousandfold();
    /// assert_eq!([ms(b"1.0001"), ms(b"-0.0001"), ms(b"1e-400")], [Some(1001), Some(0), Some(1)]);
    /// assert_eq!([ms(b"-1.5"), ms(b"1e16"), ms(b"-inf")], [Some(-1500), None, None]);
    /// ```
    #[must_use]
    pub fn thousandfold(self) -> Option<i64> {
        let bits = u128::from(self.mantissa) * 1000;
        let (whole, has_more) = match u32::try_from(self.exponent) {
            // A mantissa with its highest bit, or zero.
            Ok(up) => (if bits == 0 { 0 } else { bits.checked_shl(up.min(50))? }, false),
            Err(_) => {
                let down = u32::try_from(-self.exponent).ok()?;
                let whole = bits.checked_shr(down).unwrap_or(0);
                (whole, whole.checked_shl(down).unwrap_or(0) != bits)
            }
        };
        let whole = i64::try_from(whole).ok().filter(|_| !self.infinite)?;
        Some(if self.negative { -whole } else { whole + i64::from(has_more) })
    }

    /// The sum; `None` when it is infinite or not a number.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        /// Bits that stand free below the mantissa of the larger number: one that is smaller by
        /// more than these is only a little more or less, whatever it is.
        const FREE: i64 = 62;
        if self.infinite || other.infinite {
            return None;
        }
        if self.mantissa == 0 || other.mantissa == 0 {
            return Some(if self.mantissa == 0 { other } else { self });
        }
        let (a, b) = (self.aligned(), other.aligned());
        let (large, small) = if a.exponent >= b.exponent { (a, b) } else { (b, a) };
        let left = u128::from(large.mantissa) << FREE;
        let down = large.exponent - small.exponent;
        let whole = u128::from(small.mantissa) << FREE;
        let right = whole.checked_shr(u32::try_from(down).ok()?).unwrap_or(0);
        let sticky = down >= 128 || right << down != whole;
        let (bits, negative) = if large.negative == small.negative {
            (left + right, large.negative)
        } else if left >= right {
            (left - right - u128::from(sticky), large.negative)
        } else {
            (right - left, small.negative)
        };
        let sum = round(bits, sticky, large.exponent - FREE);
        (!sum.infinite).then_some(Self { negative, ..sum })
    }

    /// The same number with the highest bit of the mantissa set.
    fn aligned(self) -> Self {
        let up = self.mantissa.leading_zeros();
        Self { mantissa: self.mantissa << up, exponent: self.exponent - i64::from(up), ..self }
    }

    /// The text as redis-server stores it: up to 17 decimals, no exponent, no minus before zero.
    /// The number must be finite, as sums are.
    ///
    /// Source: `ld2string` of Redis 7.0.
    #[must_use]
    pub fn to_text(self) -> String {
        let text = match usize::try_from(self.exponent) {
            Ok(exponent) => {
                let mut whole = Natural::new(self.mantissa);
                whole.shift_left(exponent);
                whole.into_decimal()
            }
            Err(_) => self.fraction(),
        };
        if self.negative && text != "0" { format!("-{text}") } else { text }
    }

    /// The text of a number with bits below one, without its sign.
    fn fraction(self) -> String {
        let unit = 10_u128.pow(DECIMALS);
        let scaled = u128::from(self.mantissa) * unit;
        let down = self.exponent.unsigned_abs() as u32;
        let units = scaled.checked_shr(down).unwrap_or(0);
        // From 2^127 on half a unit is more than anything that is scaled.
        let rest = if down < 127 { (scaled - (units << down)) << 1 } else { 0 };
        let one = 1_u128.checked_shl(down).unwrap_or(u128::MAX);
        let units = units + u128::from(rest > one || rest == one && units & 1 == 1);
        let text = format!("{}.{:017}", units / unit, units % unit);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}

/// `bits` times two to the `exponent` and, if `sticky`, a little more, rounded.
fn round(bits: u128, sticky: bool, exponent: i64) -> Extended {
    let len = 128 - i64::from(bits.leading_zeros());
    let dropped = (len - 64).max(EXPONENT_MIN - exponent).max(0);
    // All of it and its half are below what is kept.
    if bits == 0 || dropped > len {
        return Extended::ZERO;
    }
    let kept = bits.checked_shr(dropped as u32).unwrap_or(0);
    let rest = bits - kept.checked_shl(dropped as u32).unwrap_or(0);
    let half = if dropped == 0 { u128::MAX } else { 1 << (dropped - 1) };
    let kept = kept + u128::from(rest > half || rest == half && (sticky || kept & 1 == 1));
    let carry = i64::from(kept >> 64 == 1);
    let (mantissa, exponent) = ((kept >> carry) as u64, exponent + dropped + carry);
    let infinite = exponent + 64 - i64::from(mantissa.leading_zeros()) > BITS_MAX;
    Extended { negative: false, mantissa, exponent, infinite }
}

/// `above` divided by `below`, times two to the `exponent`, rounded; `None` when it is not zero but
/// is rounded to it.
fn quotient(mut above: Natural, mut below: Natural, exponent: i64) -> Option<Extended> {
    /// Bits that are computed: those of a mantissa, and two that decide how it is rounded.
    const BITS: i64 = 67;
    if above.is_zero() {
        return Some(Extended::ZERO);
    }
    let up = above.bits() as i64 - below.bits() as i64;
    below.shift_left(usize::try_from(up).unwrap_or(0));
    above.shift_left(usize::try_from(-up).unwrap_or(0));
    let mut bits = 0_u128;
    for _ in 0..BITS {
        let goes = above >= below;
        bits = bits << 1 | u128::from(goes);
        if goes {
            above.subtract(&below);
        }
        above.shift_left(1);
    }
    let number = round(bits, !above.is_zero(), exponent + up - (BITS - 1));
    (number.mantissa != 0).then_some(number)
}

/// The digits of `mantissa`, and how many of them stand behind the point.
fn digits(mantissa: &[u8], base: u64) -> (Natural, i64) {
    let point = mantissa.iter().position(|byte| *byte == b'.');
    let behind = point.map_or(0, |point| mantissa.len() - point - 1);
    let value = |byte: &u8| char::from(*byte).to_digit(16).map(|digit| digit as u8);
    (Natural::of_digits(mantissa.iter().filter_map(value), base), behind as i64)
}

/// The exponent behind its mark.
fn exponent(text: &[u8]) -> i64 {
    let Some(digits) = text.get(1..) else { return 0 };
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| i64::from(byte - b'0'));
    let add = |sum: i64, digit| sum.saturating_mul(10).saturating_add(digit).min(1 << 40);
    let value = digits.iter().filter_map(digit).fold(0, add);
    if digits[0] == b'-' { -value } else { value }
}

fn decimal(text: &[u8]) -> Option<Extended> {
    let end = mantissa_end(text, 0, u8::is_ascii_digit)?;
    if exponent_end(text, end, b'e') != text.len() {
        return None;
    }
    let (mut above, behind) = digits(&text[..end], 10);
    let power = exponent(&text[end..]) - behind;
    // A bit is about 0.30103 digits; what is far out of range need not be computed.
    let size = above.bits() as i64 * 30_103 / 100_000 + power;
    let mut below = Natural::new(1);
    match usize::try_from(power) {
        _ if above.is_zero() => return Some(Extended::ZERO),
        _ if !(DIGITS_MIN..DIGITS_MAX).contains(&size) => return None,
        Ok(power) => above.multiply_ten(power),
        Err(_) => below.multiply_ten(power.unsigned_abs() as usize),
    }
    quotient(above, below, 0)
}

fn hexadecimal(text: &[u8]) -> Option<Extended> {
    let end = mantissa_end(text, 0, u8::is_ascii_hexdigit)?;
    if exponent_end(text, end, b'p') != text.len() {
        return None;
    }
    let (above, behind) = digits(&text[..end], 16);
    quotient(above, Natural::new(1), exponent(&text[end..]) - 4 * behind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sum(a: &str, b: &str) -> Option<String> {
        let sum = Extended::parse(a.as_bytes())?.checked_add(Extended::parse(b.as_bytes())?);
        sum.map(Extended::to_text)
    }

    /// The answers of redis-server 7.0.15.
    #[test]
    fn sums_are_those_of_80_bits() {
        let cases = [
            ("0", "0", "0"),
            ("-0", "-0", "0"),
            ("10.50", "0.1", "10.6"),
            ("0.1", "0.2", "0.3"),
            ("5.0e3", "2.0e2", "5200"),
            ("1", "-1.0", "0"),
            ("0", "-1e-20", "0"),
            ("0", "5e-18", "0"),
            ("0", "6e-18", "0.00000000000000001"),
            ("3", "0x1.8p1", "6"),
            ("0", "0x.8", "0.5"),
            ("9223372036854775807", "1", "9223372036854775808"),
            ("18446744073709551615", "1", "18446744073709551616"),
            ("18446744073709551616", "1", "18446744073709551616"),
            ("1e30", "1", "1000000000000000000024696061952"),
            ("1e15", "0.001", "1000000000000000.0009765625"),
        ];
        for (a, b, text) in cases {
            assert_eq!(sum(a, b).as_deref(), Some(text), "{a} + {b}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let refused = [
            "",
            " 1",
            "1 ",
            "nan",
            "-nan",
            "1e",
            "e5",
            ".",
            "0x",
            "0xg",
            "0x1p",
            "1e5000",
            "x",
            "-1e5000",
            "1e-5000",
            "0x1p16384",
            "0x1p-16446",
            "infinit",
            "1,5",
            "--1",
            "1\0",
            "1e99999999999999999999",
            "1e-99999999999999999999",
        ];
        for text in refused {
            assert!(Extended::parse(text.as_bytes()).is_none(), "{text}");
        }
        for text in ["1e4932", "-1e4932", "1e-4950", "0e99999999999999999999", "0x1p-16445"] {
            assert!(Extended::parse(text.as_bytes()).is_some(), "{text}");
        }
        for (a, b) in [("inf", "1"), ("inf", "-inf"), ("1e4932", "1e4932"), ("1", "-Infinity")] {
            assert_eq!(sum(a, b), None, "{a} + {b}");
        }
        assert!(Extended::parse(&[b'1'; TEXT_MAX]).is_none());
        assert!(Extended::parse(&[b'1'; 4_000]).is_some());
    }

    proptest! {
        #[test]
        fn whole_numbers_are_added_exactly(a in any::<i64>(), b in any::<i64>()) {
            let exact = (i128::from(a) + i128::from(b)).to_string();
            prop_assert_eq!(sum(&a.to_string(), &b.to_string()), Some(exact));
        }

        #[test]
        fn few_digits_are_shown_as_they_were_read(
            text in "-?[1-9][0-9]?(\\.[0-9]{0,16}[1-9])?",
        ) {
            prop_assert_eq!(sum(&text, "0"), Some(text.clone()));
        }

        /// Whole numbers of units of 2^-16, whose sums fit a mantissa.
        #[test]
        fn what_fits_is_added_exactly(
            a in -(1_i64 << 53)..1 << 53, b in -(1_i64 << 53)..1 << 53,
            (down_a, down_b) in (0_u32..17, 0_u32..17),
        ) {
            let text = |number: i64, down| {
                let sign = if number < 0 { "-" } else { "" };
                format!("{sign}0x{:x}p-{down}", number.unsigned_abs())
            };
            let units = (i128::from(a) << (16 - down_a)) + (i128::from(b) << (16 - down_b));
            prop_assume!(units.unsigned_abs() < 1 << 64);
            // Sixteen bits behind the point are sixteen digits behind it.
            let unit = 10_u128.pow(16);
            let scaled = (units.unsigned_abs() * unit) >> 16;
            let exact = format!("{}.{:016}", scaled / unit, scaled % unit);
            let exact = exact.trim_end_matches('0').trim_end_matches('.');
            let exact = if units < 0 { format!("-{exact}") } else { exact.to_owned() };
            prop_assert_eq!(sum(&text(a, down_a), &text(b, down_b)), Some(exact));
        }

        #[test]
        fn any_bytes_are_answered(text in prop::collection::vec(any::<u8>(), 0..40)) {
            let number = Extended::parse(&text);
            let is_shown = |number: Extended| number.infinite || !number.to_text().is_empty();
            prop_assert!(number.is_none_or(is_shown));
        }

        #[test]
        fn what_a_double_reads_it_reads(text in "[-+]?(0x)?[0-9.]{0,6}([eEpP][-+]?[0-9]{1,2})?") {
            let double = crate::types::number::parse_f64(text.as_bytes());
            prop_assert_eq!(Extended::parse(text.as_bytes()).is_some(), double.is_some());
        }
    }
}
