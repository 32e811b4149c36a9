//! What is told, as a table of Markdown.

use std::fmt;

/// A number of one rival.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sample(f64);

impl Sample {
    pub(crate) const fn of(value: f64) -> Self {
        Self(value)
    }

    /// The median of `values`, which are not empty.
    pub(crate) fn median(values: Vec<f64>) -> Self {
        Self(quantile(values, 0.5))
    }

    /// The median of how many times `others` each of `own` is.
    pub(crate) fn ratios(own: &[f64], others: &[f64]) -> Self {
        Self::median(own.iter().zip(others).map(|(own, other)| own / other).collect())
    }
}

fn quantile(mut values: Vec<f64>, at: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * at) as usize]
}

/// A row for each thing that is measured, a column for each rival.
pub(crate) struct Table {
    rivals: Vec<String>,
    rows: Vec<(String, Vec<String>)>,
}

impl Table {
    pub(crate) fn new(rivals: impl Iterator<Item = String>) -> Self {
        Self { rivals: rivals.collect(), rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, what: &str, digits: usize, samples: Vec<Sample>) {
        let cells = samples.iter().map(|sample| format!("{:.digits$}", sample.0)).collect();
        self.rows.push((what.to_owned(), cells));
    }

    /// The medians of latencies, and what all but a hundredth are below.
    pub(crate) fn latencies(&mut self, what: &str, samples: Vec<Vec<f64>>) {
        for (name, at) in [("p50", 0.5), ("p99", 0.99)] {
            let values = samples.iter().map(|late| Sample(quantile(late.clone(), at))).collect();
            self.row(&format!("{what}, {name}"), 0, values);
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| | {} |", self.rivals.join(" | "))?;
        writeln!(f, "|---|{}", "---:|".repeat(self.rivals.len()))?;
        for (what, cells) in &self.rows {
            writeln!(f, "| {what} | {} |", cells.join(" | "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Sample, Table};

    #[test]
    fn medians_and_ratios() {
        assert_eq!(Sample::median(vec![3.0, 1.0, 2.0]), Sample(2.0));
        assert_eq!(Sample::ratios(&[2.0, 9.0, 8.0], &[1.0, 3.0, 1.0]), Sample(3.0));
    }

    #[test]
    fn a_table() {
        let mut table = Table::new(["a".to_owned(), "b".to_owned()].into_iter());
        table.row("size", 1, vec![Sample(1.04), Sample(2.0)]);
        table.latencies("time", vec![vec![1.0], vec![2.0, 3.0]]);
        let text = "| | a | b |\n|---|---:|---:|\n| size | 1.0 | 2.0 |\n| time, p50 | 1 | 2 |\n\
                    | time, p99 | 1 | 2 |\n";
        assert_eq!(table.to_string(), text);
    }
}
