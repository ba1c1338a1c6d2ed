//! `vedetteEventTable`: the latest records, so that a manager finds what a lost notification told.

use std::sync::Arc;

use vedette_core::record::Record;

use super::TEXT;
use super::local::wrapped;
use crate::table::{Block, Column, Facts, Table, column};
use crate::value::Value;

pub(crate) const ENTRY: &[u32] = &[1, 15, 1];

/// Longest name of a subject.
const SUBJECT: usize = 200;

/// Longest text of type `SnmpAdminString`.
const STATUS: usize = 255;

pub(crate) struct Events;

impl Table for Events {
    type Row<'a> = &'a Record;
}

pub(crate) const COLUMNS: &[Column<Events>] = &[
    column(2, "vedetteEventSequence", "VedetteLogIndex", |_, r| Value::Counter64(r.seq)),
    column(3, "vedetteEventTime", "DateAndTime", |_, r| Value::date(r.at)),
    column(4, "vedetteEventCode", "VedetteRecordCode", |_, r| Value::code(r.code.number())),
    column(5, "vedetteEventSeverity", "VedetteSeverityCode", |_, r| Value::code(r.severity.code())),
    column(6, "vedetteEventSubjectKind", "VedetteSubjectCode", |_, r| {
        Value::code(r.subject.kind_code())
    }),
    column(7, "vedetteEventSubjectName", "SnmpAdminString", |_, r| {
        Value::text(&r.subject_name, SUBJECT)
    }),
    column(8, "vedetteEventPrevious", "SnmpAdminString", |_, r| Value::text(&r.previous, STATUS)),
    column(9, "vedetteEventCurrent", "SnmpAdminString", |_, r| Value::text(&r.current, STATUS)),
    column(10, "vedetteEventCause", "VedetteText", |_, r| Value::text(&r.cause, TEXT)),
    column(11, "vedetteEventMessage", "VedetteText", |_, r| Value::text(&r.message, TEXT)),
    column(12, "vedetteEventIncident", "VedetteLogIndex", |_, r| {
        Value::Counter64(r.incident.unwrap_or(0))
    }),
    column(13, "vedetteEventRevision", "VedetteLogIndex", |_, r| Value::Counter64(r.index)),
    column(14, "vedetteEventAlert", "TruthValue", |_, r| Value::truth(r.alert)),
    column(15, "vedetteEventTest", "TruthValue", |_, r| Value::truth(r.test)),
    column(16, "vedetteEventOrigin", "VedetteNumberOrZero", |_, r| {
        Value::Gauge32(u32::from(r.origin.0))
    }),
    column(17, "vedetteEventActor", "SnmpAdminString", |_, r| Value::text(&r.actor, 128)),
];

pub(crate) fn build(facts: &Facts<'_>) -> Block {
    let records = facts.view.recent.iter().map(Arc::as_ref);
    let mut rows: Vec<(Vec<u32>, <Events as Table>::Row<'_>)> =
        records.map(|record| (vec![wrapped(record.seq)], record)).collect();
    rows.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    rows.dedup_by(|a, b| a.0 == b.0);
    Block::build(facts, ENTRY, COLUMNS, &rows)
}
