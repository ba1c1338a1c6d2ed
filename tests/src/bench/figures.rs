//! Series of measurements and the tables made of them.
//!
//! A series keeps every value, so that the JSON file can be examined later; a table shows a few
//! quantiles. A quantile is a value that was really measured (nearest rank): of 30 trials the 99th
//! percentile is the greatest, and the table does not pretend otherwise.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::Value;

/// Values of one kind, in one unit.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Series(Vec<f64>);

impl Series {
    /// One more value.
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value below or at which that share of all values lies; `None` of an empty series.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (share.clamp(0.0, 1.0) * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.saturating_sub(1)).copied()
    }

    /// The one in the middle.
    pub fn median(&self) -> Option<f64> {
        self.quantile(0.5)
    }

    /// The arithmetic mean.
    pub fn mean(&self) -> Option<f64> {
        (!self.0.is_empty()).then(|| self.0.iter().sum::<f64>() / self.0.len() as f64)
    }

    /// `p50`, `p99`, least, greatest, count: the cells of [`SPREAD`].
    pub fn spread(&self) -> Vec<String> {
        let cell = |share| self.quantile(share).map_or("–".into(), number);
        vec![cell(0.5), cell(0.99), cell(0.0), cell(1.0), self.len().to_string()]
    }
}

impl Extend<f64> for Series {
    fn extend<I: IntoIterator<Item = f64>>(&mut self, values: I) {
        self.0.extend(values);
    }
}

impl FromIterator<f64> for Series {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

/// The columns of [`Series::spread`].
pub(super) const SPREAD: [&str; 5] = ["p50", "p99", "least", "most", "trials"];

/// A number with as many digits as say something.
pub(super) fn number(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{value:.digits$}");
    if text.trim_start_matches('-').chars().all(|c| c == '0' || c == '.') {
        "0".into()
    } else {
        text
    }
}

/// How many times `theirs` is `ours`; empty where either is missing.
pub(super) fn times(ours: Option<f64>, theirs: Option<f64>) -> String {
    match (ours, theirs) {
        (Some(ours), Some(theirs)) if ours > 0.0 => format!("{}×", number(theirs / ours)),
        _ => String::new(),
    }
}

/// One section of the report.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Section {
    /// The heading.
    pub title: String,
    /// What was done and how it is to be read.
    pub notes: Vec<String>,
    /// Names of the columns; no table if empty.
    pub columns: Vec<String>,
    /// The rows.
    pub rows: Vec<Vec<String>>,
    /// What a program printed, as it is.
    pub printed: Option<String>,
    /// Every single value, for the JSON file.
    pub values: Value,
}

impl Section {
    /// A section with a table.
    pub fn table(title: &str, columns: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            title: title.into(),
            columns: columns.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }

    /// One more note.
    #[must_use]
    pub fn note(mut self, text: impl Into<String>) -> Self {
        self.notes.push(text.into());
        self
    }

    /// One more row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// The section in Markdown.
    pub fn markdown(&self) -> String {
        let mut text = format!("## {}\n\n", self.title);
        for note in &self.notes {
            let _ = writeln!(text, "{note}\n");
        }
        if !self.columns.is_empty() {
            let rule: Vec<&str> = self.columns.iter().map(|_| "---").collect();
            let _ = writeln!(text, "| {} |\n|{}|", self.columns.join(" | "), rule.join("|"));
            for row in &self.rows {
                let _ = writeln!(text, "| {} |", row.join(" | "));
            }
            text.push('\n');
        }
        if let Some(printed) = &self.printed {
            let _ = writeln!(text, "```text\n{}\n```\n", printed.trim_end());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_a_measured_value() {
        let series: Series = (1..=30).map(f64::from).collect();
        assert_eq!(series.median(), Some(15.0));
        assert_eq!(series.quantile(0.99), Some(30.0));
        assert_eq!(series.quantile(0.0), Some(1.0));
        assert_eq!(series.spread(), ["15.0", "30.0", "1.00", "30.0", "30"]);
        assert_eq!(Series::default().median(), None);
        assert_eq!(Series::default().spread(), ["–", "–", "–", "–", "0"]);
    }

    #[test]
    fn numbers_have_the_digits_that_say_something() {
        assert_eq!(number(1234.56), "1235");
        assert_eq!(number(12.34), "12.3");
        assert_eq!(number(1.234), "1.23");
        assert_eq!(number(0.0001), "0");
        assert_eq!(number(-0.5), "-0.50");
        assert_eq!(times(Some(2.0), Some(5.0)), "2.50×");
        assert_eq!(times(Some(0.0), Some(5.0)), "");
        assert_eq!(times(None, Some(5.0)), "");
    }

    #[test]
    fn a_section_is_markdown() {
        let mut section = Section::table("A", ["x", "y"]).note("Why.");
        section.row(["1", "2"]);
        assert_eq!(section.markdown(), "## A\n\nWhy.\n\n| x | y |\n|---|---|\n| 1 | 2 |\n\n");
    }
}
