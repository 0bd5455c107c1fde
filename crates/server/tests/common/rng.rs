//! A seeded generator (splitmix64): the same seed gives the same test on every machine.
//!
//! Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014.

/// One stream of pseudo-random numbers.
#[derive(Debug, Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    /// A stream that `seed` alone decides.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The seed named in `variable`, or one taken from the clock. The caller prints it, so that a
    /// failure can be run again.
    pub(crate) fn seed_from_env(variable: &str, default: u64) -> u64 {
        match std::env::var(variable) {
            Ok(text) => text.parse().expect("a seed is a decimal number"),
            Err(_) => default,
        }
    }

    /// The next 64 bits.
    pub(crate) fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number in `0..limit`; `limit` is at least 1. The bias of the remainder is of no
    /// consequence to a test.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit).expect("usize fits in 64 bits here");
        usize::try_from(self.next_u64() % limit).expect("below a usize")
    }

    /// True once in `n`.
    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One of `choices`, which is not empty.
    pub(crate) fn pick<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> &'a T {
        choices[self.below(choices.len())]
    }
}
