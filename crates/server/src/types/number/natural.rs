//! Natural numbers of any length, for what conversions between binary and decimal have to be exact
//! about. Pure; any thread. Slow and short: numbers of users fit one or two limbs.

use std::cmp::Ordering;

/// The largest power of ten in a limb, and its exponent.
const LIMB_TEN: u64 = 10_000_000_000_000_000_000;
const LIMB_DIGITS: usize = 19;

/// Limbs in ascending order, the last one not zero.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Natural(Vec<u64>);

impl Natural {
    pub(super) fn new(value: u64) -> Self {
        let mut number = Self(vec![value]);
        number.trim();
        number
    }

    /// The number that `digits`, each below `base`, denote; `base` is at most 16.
    pub(super) fn of_digits(digits: impl Iterator<Item = u8>, base: u64) -> Self {
        let mut number = Self(Vec::new());
        let (mut chunk, mut weight) = (0, 1);
        for digit in digits {
            chunk = chunk * base + u64::from(digit);
            weight *= base;
            if weight > u64::MAX / 16 / 16 {
                number.multiply_add(weight, chunk);
                (chunk, weight) = (0, 1);
            }
        }
        number.multiply_add(weight, chunk);
        number
    }

    pub(super) fn is_zero(&self) -> bool {
        self.0.is_empty()
    }

    /// Length in bits.
    pub(super) fn bits(&self) -> usize {
        self.0.last().map_or(0, |last| self.0.len() * 64 - last.leading_zeros() as usize)
    }

    /// Multiplies by `factor` and adds `more`.
    pub(super) fn multiply_add(&mut self, factor: u64, more: u64) {
        let mut carry = more;
        for limb in &mut self.0 {
            let product = u128::from(*limb) * u128::from(factor) + u128::from(carry);
            *limb = product as u64;
            carry = (product >> 64) as u64;
        }
        self.0.push(carry);
        self.trim();
    }

    /// Multiplies by a power of ten.
    pub(super) fn multiply_ten(&mut self, exponent: usize) {
        for _ in 0..exponent / LIMB_DIGITS {
            self.multiply_add(LIMB_TEN, 0);
        }
        self.multiply_add(10_u64.pow((exponent % LIMB_DIGITS) as u32), 0);
    }

    /// Multiplies by a power of two.
    pub(super) fn shift_left(&mut self, bits: usize) {
        self.multiply_add(1 << (bits % 64), 0);
        if !self.is_zero() {
            self.0.splice(..0, std::iter::repeat_n(0, bits / 64));
        }
    }

    /// Takes `other` off; it must not be larger.
    pub(super) fn subtract(&mut self, other: &Self) {
        debug_assert!(*other <= *self, "a natural number is left");
        let mut borrow = false;
        for (i, limb) in self.0.iter_mut().enumerate() {
            let (rest, first) = limb.overflowing_sub(other.0.get(i).copied().unwrap_or(0));
            let (rest, second) = rest.overflowing_sub(u64::from(borrow));
            (*limb, borrow) = (rest, first || second);
        }
        self.trim();
    }

    /// Divides by `divisor`; returns the remainder.
    fn divide(&mut self, divisor: u64) -> u64 {
        let mut rest = 0;
        for limb in self.0.iter_mut().rev() {
            let value = u128::from(rest) << 64 | u128::from(*limb);
            *limb = (value / u128::from(divisor)) as u64;
            rest = (value % u128::from(divisor)) as u64;
        }
        self.trim();
        rest
    }

    /// The decimal text.
    pub(super) fn into_decimal(mut self) -> String {
        let mut chunks = Vec::new();
        while self.0.len() > 1 {
            chunks.push(self.divide(LIMB_TEN));
        }
        let mut text = self.0.first().unwrap_or(&0).to_string();
        chunks.iter().rev().for_each(|chunk| text.push_str(&format!("{chunk:019}")));
        text
    }

    fn trim(&mut self) {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }
}

impl PartialOrd for Natural {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Natural {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_length = self.0.len().cmp(&other.0.len());
        by_length.then_with(|| self.0.iter().rev().cmp(other.0.iter().rev()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(value: u128) -> Natural {
        let mut number = Natural::new((value >> 64) as u64);
        number.shift_left(64);
        number.0.resize(2, 0);
        number.0[0] = value as u64;
        number.trim();
        number
    }

    proptest! {
        #[test]
        fn it_counts_as_the_processor_does(
            a in any::<u128>(), b in any::<u128>(), by in any::<u64>(), bits in 0_usize..64,
        ) {
            let (small, large) = (a.min(b) >> 64, a.max(b));
            prop_assert_eq!(of(small).cmp(&of(large)), small.cmp(&large));
            let mut rest = of(large);
            rest.subtract(&of(small));
            prop_assert_eq!(rest, of(large - small));
            let mut product = of(small);
            product.multiply_add(by, 0);
            prop_assert_eq!(product, of(small * u128::from(by)));
            let mut shifted = of(small);
            shifted.shift_left(bits);
            prop_assert_eq!(&shifted, &of(small << bits));
            prop_assert_eq!(shifted.bits(), 128 - (small << bits).leading_zeros() as usize);
            prop_assert_eq!(of(large).into_decimal(), large.to_string());
        }

        #[test]
        fn digits_are_read_and_written(text in "[1-9][0-9]{0,200}", zeros in 0_usize..60) {
            let mut number = Natural::of_digits(text.bytes().map(|byte| byte - b'0'), 10);
            number.multiply_ten(zeros);
            prop_assert_eq!(number.into_decimal(), format!("{text}{}", "0".repeat(zeros)));
        }
    }
}
