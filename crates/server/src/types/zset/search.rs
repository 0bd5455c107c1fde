//! Binary search without unpredictable branches. Pure; any thread.

use std::hint::select_unpredictable;
use std::ops::Range;

/// The first index in `range` for which `before` does not hold, or its end; `before` holds for a
/// prefix. Halves a window of which only the lower end moves, by a conditional move: scores are
/// random, so a branch would be mispredicted every other time.
#[inline]
pub(super) fn partition(range: Range<usize>, before: impl Fn(usize) -> bool) -> usize {
    let mut low = range.start;
    let mut size = range.len();
    if size == 0 {
        return low;
    }
    while size > 1 {
        let half = size / 2;
        low = select_unpredictable(before(low + half), low + half, low);
        size -= half;
    }
    low + usize::from(before(low))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prefix_of_every_window_is_found() {
        for start in 0..3 {
            for end in start..70 {
                for border in start..=end {
                    assert_eq!(partition(start..end, |i| i < border), border);
                }
            }
        }
    }
}
