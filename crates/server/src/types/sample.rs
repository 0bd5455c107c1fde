//! Choosing several elements at once. Pure; any thread.

use super::rng::Rng;

/// `count` of the `total` items of `iter`, each subset with the same chance, in their order.
///
/// Selection sampling (Knuth, TAOCP 3.4.2, algorithm S): one pass, no memory but the answer.
pub(super) fn from_iter<T>(
    iter: impl Iterator<Item = T>,
    total: usize,
    count: usize,
    rng: &mut impl Rng,
) -> Vec<T> {
    let mut wanted = count.min(total);
    let mut left = total;
    let mut chosen = Vec::with_capacity(wanted);
    for item in iter {
        if wanted == 0 {
            break;
        }
        if rng.below(left) < wanted {
            chosen.push(item);
            wanted -= 1;
        }
        left -= 1;
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::rng::SplitMix64;

    #[test]
    fn every_item_has_the_same_chance() {
        let mut rng = SplitMix64::new(5);
        let mut seen = [0_u32; 10];
        for _ in 0..20_000 {
            let chosen = from_iter(0..10_usize, 10, 3, &mut rng);
            assert_eq!(chosen.len(), 3);
            assert!(chosen.is_sorted_by(|a, b| a < b), "distinct");
            chosen.into_iter().for_each(|i| seen[i] += 1);
        }
        assert!(seen.iter().all(|&n| (5_700..6_300).contains(&n)), "{seen:?}");
    }

    #[test]
    fn more_than_there_are_gives_all() {
        let mut rng = SplitMix64::new(5);
        assert_eq!(from_iter(0..4, 4, 9, &mut rng), [0, 1, 2, 3]);
        assert!(from_iter(0..4, 4, 0, &mut rng).is_empty());
    }
}
