//! `vedetteMonitorTable` and `vedetteMonitorValueTable`: the resource monitors of the answering node
//! and what they see (spec H29). They are local: another node answers with its own.

use vedette_core::local_view::MonitorView;
use vedette_core::variable::Reading;

use super::TEXT;
use super::text_index::numbered;
use crate::table::{Block, Column, Facts, Table, column};
use crate::value::Value;

pub(crate) const ENTRY: &[u32] = &[1, 22, 1];
pub(crate) const VALUES: &[u32] = &[1, 23, 1];

pub(crate) struct Monitors;

/// Its name and what it sees.
impl Table for Monitors {
    type Row<'a> = (&'a str, &'a MonitorView);
}

pub(crate) const COLUMNS: &[Column<Monitors>] = &[
    column(2, "vedetteMonitorName", "VedetteText", |_, (name, _)| Value::text(name, TEXT)),
    column(3, "vedetteMonitorInterval", "Gauge32", |_, (_, m)| {
        Value::gauge(usize::try_from(m.interval.as_millis()).unwrap_or(usize::MAX))
    }),
    column(4, "vedetteMonitorLastLook", "DateAndTime", |_, (_, m)| {
        Value::date(m.at.unwrap_or_default())
    }),
    column(5, "vedetteMonitorWorks", "TruthValue", |_, (_, m)| Value::truth(m.failure.is_none())),
    column(6, "vedetteMonitorFailure", "VedetteText", |_, (_, m)| {
        Value::text(m.failure.as_deref().unwrap_or_default(), TEXT)
    }),
    column(7, "vedetteMonitorValues", "Gauge32", |_, (_, m)| Value::gauge(m.readings.len())),
];

pub(crate) struct Values;

impl Table for Values {
    type Row<'a> = &'a Reading;
}

pub(crate) const VALUE_COLUMNS: &[Column<Values>] = &[
    column(2, "vedetteMonitorValueVariable", "VedetteText", |_, r| Value::text(&r.variable, TEXT)),
    column(3, "vedetteMonitorValueInstance", "VedetteText", |_, r| {
        Value::text(&r.instance.to_string(), TEXT)
    }),
    column(4, "vedetteMonitorValueText", "VedetteText", |_, r| {
        Value::text(&r.value.to_string(), TEXT)
    }),
    column(5, "vedetteMonitorValueNumeric", "TruthValue", |_, r| {
        Value::truth(r.value.number().is_some())
    }),
    column(6, "vedetteMonitorValueNumber", "Integer32", |_, r| Value::Integer(times(r, 1.0))),
    column(7, "vedetteMonitorValueThousandths", "Integer32", |_, r| {
        Value::Integer(times(r, 1_000.0))
    }),
];

/// So many times the number, rounded; what does not fit is the end of the range, a text is 0.
fn times(reading: &Reading, factor: f64) -> i32 {
    (reading.value.number().unwrap_or(0.0) * factor).round() as i32
}

/// The monitors by their indexes.
fn in_order<'a>(facts: &Facts<'a>) -> impl Iterator<Item = (u32, <Monitors as Table>::Row<'a>)> {
    let all = facts.view.local.monitors.iter();
    numbered(all.map(|(name, view)| (name.clone(), (name.as_str(), view))).collect()).into_iter()
}

pub(crate) fn build(facts: &Facts<'_>) -> Block {
    let rows: Vec<(Vec<u32>, <Monitors as Table>::Row<'_>)> =
        in_order(facts).map(|(index, row)| (vec![index], row)).collect();
    Block::build(facts, ENTRY, COLUMNS, &rows)
}

pub(crate) fn build_values(facts: &Facts<'_>) -> Block {
    let mut rows: Vec<(Vec<u32>, &Reading)> = Vec::new();
    for (monitor, (_, view)) in in_order(facts) {
        let text = |reading: &Reading| format!("{} {}", reading.variable, reading.instance);
        let readings = view.shown().iter().map(|reading| (text(reading), reading)).collect();
        let readings = numbered(readings).into_iter();
        rows.extend(readings.map(|(index, reading)| (vec![monitor, index], reading)));
    }
    Block::build(facts, VALUES, VALUE_COLUMNS, &rows)
}

#[cfg(test)]
mod tests {
    use vedette_core::fixture::FORMED;
    use vedette_core::id::NodeNumber;
    use vedette_core::variable::{self, Instance};

    use super::*;

    /// H29: a value is a number as far as 32 bits hold it; the text has all of it.
    #[test]
    fn h29_numbers_are_rounded_and_end_where_the_range_does() {
        let numbers = |text: &str| {
            let reading = Reading {
                variable: "site.x".into(),
                instance: Instance::on(NodeNumber(1), &[]),
                value: variable::Value::parse(text),
                at: FORMED,
            };
            (times(&reading, 1.0), times(&reading, 1_000.0))
        };
        assert_eq!(numbers("41.5"), (42, 41_500));
        assert_eq!(numbers("-0.0004"), (0, 0));
        assert_eq!(numbers("3,1,\"7218\""), (3, 3_000));
        assert_eq!(numbers("-3000000"), (-3_000_000, i32::MIN));
        assert_eq!(numbers("1e300"), (i32::MAX, i32::MAX));
        assert_eq!(numbers("\"standby\""), (0, 0));
    }
}
