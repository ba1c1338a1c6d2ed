//! One metric family: its name, its help, and how its rows are read off a view.

use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

use super::Scrape;

/// What kind of number a family holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It goes up and down.
    Gauge,
    /// It only goes up, until the process starts anew.
    Counter,
}

/// A metric family.
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// What it means.
    pub help: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// Reads its rows.
    pub rows: fn(&Scrape<'_>, &mut Rows),
}

impl Family {
    /// A family that goes up and down.
    pub const fn gauge(
        name: &'static str,
        help: &'static str,
        rows: fn(&Scrape<'_>, &mut Rows),
    ) -> Self {
        Self { name, help, kind: Kind::Gauge, rows }
    }

    /// A family that only goes up.
    pub const fn counter(
        name: &'static str,
        help: &'static str,
        rows: fn(&Scrape<'_>, &mut Rows),
    ) -> Self {
        Self { name, help, kind: Kind::Counter, rows }
    }

    /// Its rows now; `None` if it has none.
    pub(super) fn read(&self, scrape: &Scrape<'_>) -> Option<MetricFamily> {
        let mut rows = Rows { kind: self.kind, metrics: Vec::new() };
        (self.rows)(scrape, &mut rows);
        if rows.metrics.is_empty() {
            return None;
        }
        let mut family = MetricFamily::default();
        family.set_name(self.name.into());
        family.set_help(self.help.into());
        family.set_field_type(match self.kind {
            Kind::Gauge => MetricType::GAUGE,
            Kind::Counter => MetricType::COUNTER,
        });
        family.set_metric(rows.metrics);
        Some(family)
    }
}

/// The rows of one family, while they are being read.
pub struct Rows {
    kind: Kind,
    metrics: Vec<Metric>,
}

impl Rows {
    /// Adds one row.
    pub fn add(&mut self, labels: &[(&str, &str)], value: f64) {
        let mut metric = Metric::from_label(labels.iter().map(|label| pair(*label)).collect());
        match self.kind {
            Kind::Gauge => {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
            Kind::Counter => {
                let mut counter = Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            }
        }
        self.metrics.push(metric);
    }

    /// Adds one row that is 1 or 0.
    pub fn flag(&mut self, labels: &[(&str, &str)], on: bool) {
        self.add(labels, f64::from(u8::from(on)));
    }

    /// Adds one row that is a count, or NaN where that is not known.
    pub fn count(&mut self, labels: &[(&str, &str)], count: Option<usize>) {
        self.add(labels, count.map_or(f64::NAN, |count| count as f64));
    }

    /// Adds one row that is 1 or 0, or NaN where that is not known.
    pub fn flag_if_known(&mut self, labels: &[(&str, &str)], on: Option<bool>) {
        self.add(labels, on.map_or(f64::NAN, |on| f64::from(u8::from(on))));
    }

    /// Adds a row for every state there is: 1 for the one that holds, 0 for the others.
    pub fn states(
        &mut self,
        labels: &[(&str, &str)],
        all: impl IntoIterator<Item = &'static str>,
        now: &str,
    ) {
        for state in all {
            let lower = state.to_lowercase();
            let row: Vec<_> = labels.iter().copied().chain([("state", lower.as_str())]).collect();
            self.flag(&row, state == now);
        }
    }
}

fn pair((name, value): (&str, &str)) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.into());
    pair.set_value(value.into());
    pair
}
