//! Randomness as an argument: the trait that random picks take, and one generator that fits it.
//!
//! Pure; any thread. Nothing here reads a clock or the operating system: whoever owns the event
//! loop seeds a generator once and lends it to each call, so a run can be replayed from its seed.

/// A source of uniformly distributed words. Implementations need not be cryptographic: it decides
/// which element SRANDMEMBER shows, never where an element is stored.
pub trait Rng {
    /// The next 64 uniformly distributed bits.
    fn next_u64(&mut self) -> u64;

    /// A uniformly distributed number below `bound`, without modulo bias (Lemire's method).
    ///
    /// # Panics
    /// When `bound` is 0: there is no such number.
    fn below(&mut self, bound: usize) -> usize {
        assert!(bound > 0, "no number is below zero");
        let bound = bound as u64;
        let mut product = u128::from(self.next_u64()) * u128::from(bound);
        if (product as u64) < bound {
            let threshold = bound.wrapping_neg() % bound;
            while (product as u64) < threshold {
                product = u128::from(self.next_u64()) * u128::from(bound);
            }
        }
        (product >> 64) as usize
    }
}

impl<R: Rng + ?Sized> Rng for &mut R {
    fn next_u64(&mut self) -> u64 {
        (**self).next_u64()
    }
}

/// SplitMix64: 64 bits of state, full period, a handful of instructions.
///
/// # Examples
/// ```
/// use flintlock_server::types::{Rng, SplitMix64};
/// let mut rng = SplitMix64::new(7);
/// assert!((0..100).all(|_| rng.below(3) < 3));
/// ```
///
/// Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014).
#[derive(Clone, Debug)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// Starts the sequence that belongs to `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }
}

impl Rng for SplitMix64 {
    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_is_uniform_and_in_range() {
        let mut rng = SplitMix64::new(1);
        let mut seen = [0_u32; 7];
        for _ in 0..70_000 {
            seen[rng.below(7)] += 1;
        }
        assert!(seen.iter().all(|&n| (9_500..10_500).contains(&n)), "{seen:?}");
    }

    #[test]
    fn below_rejects_the_biased_tail() {
        // The first word would land in the uneven part of the range and must be drawn again.
        struct Fixed(Vec<u64>);
        impl Rng for Fixed {
            fn next_u64(&mut self) -> u64 {
                self.0.remove(0)
            }
        }
        let mut rng = Fixed(vec![0, u64::MAX]);
        assert_eq!(rng.below(3), 2);
        assert!(rng.0.is_empty());
    }
}
