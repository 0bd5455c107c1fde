//! Sums over a stretch of time, and how two stretches compare.
//!
//! Owned by the policy. Pure integer arithmetic in thousandths and nanoseconds; decides nothing.
//!
//! Source: the policy of Valkey 9, simulated: samples kept across a change made it flip 53 times a
//! minute under constant load.

use std::time::Duration;

use crate::policy::Sample;

/// Sums over a stretch of time without any change.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub(crate) struct Window {
    pub(crate) span: Duration,
    pub(crate) completed: u64,
    /// `None` as soon as one sample did not know.
    pub(crate) main_busy: Option<Duration>,
    pub(crate) main_waited: Duration,
    pub(crate) workers_busy: Duration,
    pub(crate) saturated: bool,
}

impl Window {
    pub(crate) fn new() -> Self {
        Self { main_busy: Some(Duration::ZERO), ..Self::default() }
    }

    pub(crate) fn add(&mut self, span: Duration, completed: u64, sample: &Sample, saturated: bool) {
        let part = |permille: u32| span * permille / 1000;
        self.span += span;
        self.completed += completed;
        self.main_busy = match (self.main_busy, sample.main_busy_permille) {
            (Some(sum), Some(permille)) => Some(sum + part(permille)),
            _ => None,
        };
        self.main_waited += part(sample.main_waited_permille);
        self.workers_busy += part(sample.workers_busy_permille);
        self.saturated = saturated;
    }

    /// `part` in thousandths of the span.
    pub(crate) fn permille(&self, part: Duration) -> u128 {
        (part.as_nanos() * 1000).checked_div(self.span.as_nanos()).unwrap_or(0)
    }

    /// Completed work per time, in thousandths of that of `base`; `None` if `base` did nothing.
    pub(crate) fn rate_permille_of(&self, base: &Self) -> Option<u128> {
        let ours = u128::from(self.completed) * base.span.as_nanos();
        let theirs = u128::from(base.completed) * self.span.as_nanos();
        (ours * 1000).checked_div(theirs)
    }

    /// Main-thread time per unit of work, in thousandths of that of `base`.
    pub(crate) fn cost_permille_of(&self, base: &Self) -> Option<u128> {
        let ours = self.main_busy?.as_nanos() * u128::from(base.completed);
        let theirs = base.main_busy?.as_nanos() * u128::from(self.completed);
        (ours * 1000).checked_div(theirs)
    }

    /// Useful time of all threads, in thousandths of one CPU.
    pub(crate) fn load_permille(&self) -> u128 {
        self.permille(self.main_busy.unwrap_or(Duration::ZERO) + self.workers_busy)
    }

    /// The fall of completed work against `base` that chance explains, in thousandths: three
    /// standard deviations of two counts; everything if one of them is zero.
    pub(crate) fn noise_permille(&self, base: &Self) -> u128 {
        let (one, other) = (u128::from(self.completed), u128::from(base.completed));
        (9_000_000 * (one + other)).checked_div(one * other).map_or(1000, u128::isqrt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(span_ms: u64, completed: u64, main_busy_ms: u64) -> Window {
        Window {
            span: Duration::from_millis(span_ms),
            completed,
            main_busy: Some(Duration::from_millis(main_busy_ms)),
            ..Window::new()
        }
    }

    #[test]
    fn rates_and_costs_compare_windows_of_different_length() {
        let base = window(50, 1000, 40);
        let twice = window(25, 1000, 20);
        assert_eq!(twice.rate_permille_of(&base), Some(2000));
        assert_eq!(twice.cost_permille_of(&base), Some(500));
        assert_eq!(base.rate_permille_of(&window(50, 0, 0)), None);
        assert_eq!(window(50, 0, 10).cost_permille_of(&base), None);
    }

    #[test]
    fn an_unknown_share_makes_the_sum_unknown() {
        let mut sum = Window::new();
        let known = Sample { main_busy_permille: Some(500), ..Sample::default() };
        sum.add(Duration::from_millis(10), 1, &known, false);
        assert_eq!(sum.main_busy, Some(Duration::from_millis(5)));
        sum.add(Duration::from_millis(10), 1, &Sample::default(), false);
        sum.add(Duration::from_millis(10), 1, &known, false);
        assert_eq!(sum.main_busy, None);
    }

    #[test]
    fn noise_shrinks_with_the_counts() {
        assert_eq!(window(1, 0, 0).noise_permille(&window(1, 9, 0)), 1000);
        assert_eq!(window(1, 100, 0).noise_permille(&window(1, 100, 0)), 424);
        assert_eq!(window(1, 20_000, 0).noise_permille(&window(1, 20_000, 0)), 30);
    }

    #[test]
    fn an_empty_window_divides_by_nothing() {
        let empty = Window::new();
        assert_eq!(empty.load_permille(), 0);
        assert_eq!(empty.permille(Duration::from_secs(1)), 0);
    }
}
