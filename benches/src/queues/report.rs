//! Samples, medians, and the table as Markdown.

use std::collections::BTreeMap;

use super::machine::Regime;

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
        let mut sorted = self.0.get(&(load, contender, regime))?.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len() - 1;
        sorted.get((last as f64 * quantile).round() as usize).copied()
    }
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
