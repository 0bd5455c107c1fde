//! Samples, medians, and the table as Markdown.

use std::collections::BTreeMap;
use std::fs;

use super::machine::Regime;

/// What the tables say of the two ways of batches.
pub const JOBS_NOTE: &str = "Batches of ours are copied slices, but for the rows called \
                             push_batch, where jobs come out of an iterator and are moved.";

/// All samples of a run: load, contender, regime.
#[derive(Debug, Default)]
pub struct Samples(BTreeMap<(usize, usize, Regime), Vec<f64>>);

impl Samples {
    /// Adds a sample of contender number `contender` under load number `load`.
    pub fn add(&mut self, load: usize, contender: usize, regime: Regime, value: f64) {
        self.0.entry((load, contender, regime)).or_default().push(value);
    }

    /// Number of samples.
    #[must_use]
    pub fn count(&self, load: usize, contender: usize, regime: Regime) -> usize {
        self.0.get(&(load, contender, regime)).map_or(0, Vec::len)
    }

    /// The median, if there are samples.
    #[must_use]
    pub fn median(&self, load: usize, contender: usize, regime: Regime) -> Option<f64> {
        self.quantile(load, contender, regime, 0.5)
    }

    /// The `quantile`, 0 to 1, if there are samples.
    #[must_use]
    pub fn quantile(
        &self,
        load: usize,
        contender: usize,
        regime: Regime,
        quantile: f64,
    ) -> Option<f64> {
        at_quantile(self.0.get(&(load, contender, regime))?.clone(), quantile)
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
    use super::{at_quantile, replaced};

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
