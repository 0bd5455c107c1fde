//! Samples, medians, and the table as Markdown.

use std::collections::BTreeMap;
use std::fs;

use super::machine::Regime;

/// What the tables say of the two ways of batches.
pub const JOBS_NOTE: &str = "Batches of ours are copied slices, but for the rows called \
                             push_batch, where jobs come out of an iterator and are moved.";

/// All samples of a run: load, contender, regime.
#[derive(Debug)]
pub struct Samples {
    all: BTreeMap<(usize, usize, Regime), Vec<f64>>,
    enough: usize,
}

impl Samples {
    /// None yet; a median is one of `enough` samples at least.
    #[must_use]
    pub fn new(enough: usize) -> Self {
        Self { all: BTreeMap::new(), enough }
    }

    /// Adds a sample of contender number `contender` under load number `load`.
    pub fn add(&mut self, load: usize, contender: usize, regime: Regime, value: f64) {
        self.all.entry((load, contender, regime)).or_default().push(value);
    }

    /// The samples, if there are enough for a median: of a few, one is as good as another.
    fn enough(&self, load: usize, contender: usize, regime: Regime) -> Option<&[f64]> {
        let samples = self.all.get(&(load, contender, regime))?;
        (samples.len() >= self.enough).then_some(samples)
    }

    /// Whether each of the first `contenders` has enough samples for a median.
    #[must_use]
    pub fn are_enough(&self, load: usize, contenders: usize, regime: Regime) -> bool {
        (0..contenders).all(|contender| self.enough(load, contender, regime).is_some())
    }

    /// The median, if there are enough samples for one.
    #[must_use]
    pub fn median(&self, load: usize, contender: usize, regime: Regime) -> Option<f64> {
        at_quantile(self.enough(load, contender, regime)?.to_vec(), 0.5)
    }
}

/// The `quantile`, 0 to 1, of `values`, if there are any.
#[must_use]
pub fn at_quantile(mut values: Vec<f64>, quantile: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    values.get((last as f64 * quantile).round() as usize).copied()
}

/// A Markdown table.
#[must_use]
pub fn markdown(head: &[String], rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let rule = line(&vec!["---".to_owned(); head.len()]);
    line(head) + &rule + &rows.iter().map(|row| line(row)).collect::<String>()
}

/// A figure with as many digits as it is worth.
#[must_use]
pub fn figure(value: f64) -> String {
    if value < 10.0 { format!("{value:.2}") } else { format!("{value:.0}") }
}

/// Puts `text` between the begin and the end mark of `part` in `file`.
///
/// # Panics
/// If the file cannot be read or written, or has no such marks.
pub fn publish(file: &str, part: &str, text: &str) {
    let page = fs::read_to_string(file).expect("the file can be read");
    let page = replaced(&page, part, text).expect("the file has both marks, in order");
    fs::write(file, page).expect("the file can be written");
}

/// `page` with `text` between the marks of `part`; nothing if a mark is missing.
fn replaced(page: &str, part: &str, text: &str) -> Option<String> {
    let (begin, end) = (format!("<!-- {part}: begin -->\n"), format!("<!-- {part}: end -->"));
    let (before, rest) = page.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}{text}{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::{Regime, Samples, at_quantile, replaced};

    #[test]
    fn a_median_is_one_of_enough_samples() {
        let mut samples = Samples::new(3);
        for (contender, value) in [(0, 2.0), (1, 5.0), (0, 1.0), (1, 5.0), (0, 9.0)] {
            samples.add(0, contender, Regime::Far, value);
        }
        assert_eq!(samples.median(0, 0, Regime::Far), Some(2.0));
        assert_eq!(samples.median(0, 0, Regime::Near), None);
        assert_eq!(samples.median(0, 1, Regime::Far), None, "two are too few");
        assert!(samples.are_enough(0, 1, Regime::Far) && !samples.are_enough(0, 2, Regime::Far));
    }

    #[test]
    fn quantiles_are_values_that_were_there() {
        let values: Vec<f64> = (0..=100).rev().map(f64::from).collect();
        let at = |quantile| at_quantile(values.clone(), quantile);
        assert_eq!([at(0.0), at(0.5), at(0.99), at(1.0)], [0.0, 50.0, 99.0, 100.0].map(Some));
        assert_eq!(at_quantile(Vec::new(), 0.5), None);
    }

    #[test]
    fn only_what_stands_between_the_marks_is_replaced() {
        let page = "a\n<!-- x: begin -->\nold\n<!-- x: end -->\nb\n";
        let new = "a\n<!-- x: begin -->\nnew\n<!-- x: end -->\nb\n";
        assert_eq!(replaced(page, "x", "new\n").as_deref(), Some(new));
        assert_eq!(replaced(page, "y", "new\n"), None);
        assert_eq!(replaced("<!-- x: begin -->\n", "x", ""), None);
    }
}
