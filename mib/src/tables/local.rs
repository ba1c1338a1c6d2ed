//! `vedetteLocalRecordTable` and `vedetteConditionTable`: what the answering node wrote into its own
//! journal, and which of its conditions hold now. They are local: another node answers with its own.

use std::sync::Arc;

use vedette_core::local::LocalRecord;
use vedette_core::local_view::RaisedCondition;

use super::TEXT;
use super::text_index::numbered;
use crate::table::{Block, Column, Facts, Table, column};
use crate::value::Value;

pub(crate) const RECORDS: &[u32] = &[1, 28, 1];
pub(crate) const CONDITIONS: &[u32] = &[1, 29, 1];

/// How many records have rows, the latest; the history has all.
const MOST: usize = 64;

/// Longest name of a subject.
pub(crate) const SUBJECT: usize = 200;

pub(crate) struct Records;

impl Table for Records {
    type Row<'a> = &'a LocalRecord;
}

pub(crate) const RECORD_COLUMNS: &[Column<Records>] = &[
    column(2, "vedetteLocalRecordNumber", "Unsigned32", |_, r| Value::Gauge32(wrapped(r.number))),
    column(3, "vedetteLocalRecordCode", "VedetteRecordCode", |_, r| {
        Value::code(r.content.code.number())
    }),
    column(4, "vedetteLocalRecordPhase", "VedettePhaseCode", |_, r| {
        Value::code(r.content.phase.code())
    }),
    column(5, "vedetteLocalRecordSeverity", "VedetteSeverityCode", |_, r| {
        Value::code(r.content.severity.code())
    }),
    column(6, "vedetteLocalRecordSubjectKind", "VedetteSubjectCode", |_, r| {
        Value::code(r.content.subject.kind_code())
    }),
    column(7, "vedetteLocalRecordSubjectName", "SnmpAdminString", |_, r| {
        Value::text(&r.content.subject_name, SUBJECT)
    }),
    column(8, "vedetteLocalRecordMessage", "VedetteText", |_, r| {
        Value::text(&r.content.message, TEXT)
    }),
    column(9, "vedetteLocalRecordCause", "VedetteText", |_, r| Value::text(&r.content.cause, TEXT)),
    column(10, "vedetteLocalRecordTime", "DateAndTime", |_, r| Value::date(r.stamp.at)),
    column(11, "vedetteLocalRecordDuration", "Unsigned32", |_, r| {
        let lasted = r.content.duration_ms;
        lasted.map_or(Value::NoSuchInstance, |ms| Value::Gauge32(limited(ms)))
    }),
    column(12, "vedetteLocalRecordTimes", "Unsigned32", |_, r| {
        Value::Gauge32(limited(r.content.times))
    }),
];

/// The number of a record as an index: 1 to 4294967295, and from there to 1 again.
pub(crate) fn wrapped(number: u64) -> u32 {
    (number.saturating_sub(1) % u64::from(u32::MAX)) as u32 + 1
}

/// As far as 32 bits hold it.
pub(crate) fn limited(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

pub(crate) fn build_records(facts: &Facts<'_>) -> Block {
    let journal = &facts.view.local.journal;
    let latest = journal[journal.len().saturating_sub(MOST)..].iter().map(Arc::as_ref);
    let mut rows: Vec<(Vec<u32>, <Records as Table>::Row<'_>)> =
        latest.map(|record| (vec![wrapped(record.number)], record)).collect();
    rows.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    rows.dedup_by(|a, b| a.0 == b.0);
    Block::build(facts, RECORDS, RECORD_COLUMNS, &rows)
}

pub(crate) struct Conditions;

impl Table for Conditions {
    type Row<'a> = &'a RaisedCondition;
}

pub(crate) const CONDITION_COLUMNS: &[Column<Conditions>] = &[
    column(2, "vedetteConditionCode", "VedetteRecordCode", |_, c| Value::code(c.code.number())),
    column(3, "vedetteConditionSubjectKind", "VedetteSubjectCode", |_, c| {
        Value::code(c.subject.kind_code())
    }),
    column(4, "vedetteConditionSubjectName", "SnmpAdminString", |_, c| {
        Value::text(&c.subject_name, SUBJECT)
    }),
    column(5, "vedetteConditionSeverity", "VedetteSeverityCode", |_, c| {
        Value::code(c.severity.code())
    }),
    column(6, "vedetteConditionSince", "DateAndTime", |_, c| Value::date(c.since)),
    column(7, "vedetteConditionMessage", "VedetteText", |_, c| Value::text(&c.message, TEXT)),
    column(8, "vedetteConditionCause", "VedetteText", |_, c| Value::text(&c.cause, TEXT)),
];

pub(crate) fn build_conditions(facts: &Facts<'_>) -> Block {
    let conditions = facts.view.local.conditions.iter();
    let text = |it: &RaisedCondition| format!("{} {}", it.code.name(), it.subject_name);
    let rows = numbered(conditions.map(|condition| (text(condition), condition)).collect());
    let rows: Vec<(Vec<u32>, <Conditions as Table>::Row<'_>)> =
        rows.into_iter().map(|(index, condition)| (vec![index], condition)).collect();
    Block::build(facts, CONDITIONS, CONDITION_COLUMNS, &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_do_not_fit_wrap_or_end() {
        assert_eq!((wrapped(1), limited(1)), (1, 1));
        assert_eq!(wrapped(u64::from(u32::MAX)), u32::MAX);
        assert_eq!(wrapped(u64::from(u32::MAX) + 1), 1);
        assert_eq!(limited(u64::MAX), u32::MAX);
    }
}
