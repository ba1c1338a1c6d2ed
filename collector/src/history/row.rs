//! A record as a row and back.
//!
//! Numbers that do not fit SQLite's signed integers keep their bits, so that every record comes
//! back as it was.

use rusqlite::{CachedStatement, Row, params};
use vedette_core::id::{Hash, NodeNumber};
use vedette_core::model::Severity;
use vedette_core::record::{Code, Record, Subject, Told};
use vedette_core::time::WallTime;

use super::HistoryError;

/// The columns, in the order in which [`read`] takes them.
pub(super) const COLUMNS: &str = "seq, log_index, at, code, severity, subject_kind, subject_node, \
     subject_peer, subject_network, subject_name, previous, current, cause, message, incident, \
     origin, actor, alert, test, link, hash, event, node, duration_ms, elapsed_ms, local_number, \
     happened_at, clock_offset_ms";

/// Inserts one row.
pub(super) const INSERT: &str = "INSERT INTO record VALUES \
     (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17,?18,?19,?20,?21,?22,?23,?24,?25,?26,?27,\
     ?28)";

/// A record with the hash of the one before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) record: Record,
    pub(super) link: Hash,
}

/// Writes one row.
pub(super) fn insert(
    statement: &mut CachedStatement<'_>,
    record: &Record,
    link: Hash,
) -> rusqlite::Result<()> {
    let (node, peer, network) = record.subject.numbers();
    statement.execute(params![
        record.seq as i64,
        record.index as i64,
        record.at.0,
        record.code.name(),
        record.severity.code(),
        record.subject.kind(),
        node,
        peer,
        network,
        record.subject_name,
        record.previous,
        record.current,
        record.cause,
        record.message,
        record.incident.map(|index| index as i64),
        record.origin.0,
        record.actor,
        record.alert,
        record.test,
        link.0,
        record.hash.0,
        record.event.map(|event| event as i64),
        record.node.map(|node| node.0),
        record.duration_ms.map(|length| length as i64),
        record.elapsed_ms as i64,
        record.told.map(|told| told.number as i64),
        record.told.map(|told| told.happened_at.0),
        record.told.and_then(|told| told.clock_offset_ms),
    ])?;
    Ok(())
}

/// Reads one row of [`COLUMNS`].
pub(super) fn read(row: &Row<'_>) -> Result<Stored, HistoryError> {
    let seq: i64 = row.get(0)?;
    fields(row, seq).map_err(|why| HistoryError::BadRow { seq, why })
}

fn fields(row: &Row<'_>, seq: i64) -> Result<Stored, String> {
    let kind: String = get(row, 5)?;
    let record = Record {
        seq: seq as u64,
        index: get::<i64>(row, 1)? as u64,
        at: WallTime(get(row, 2)?),
        code: code(row)?,
        severity: severity(row)?,
        subject: Subject::from_parts(&kind, (get(row, 6)?, get(row, 7)?, get(row, 8)?))
            .ok_or_else(|| format!("`{kind}` is not a kind of subject"))?,
        subject_name: get(row, 9)?,
        previous: get(row, 10)?,
        current: get(row, 11)?,
        cause: get(row, 12)?,
        message: get(row, 13)?,
        incident: get::<Option<i64>>(row, 14)?.map(|index| index as u64),
        origin: NodeNumber(get(row, 15)?),
        actor: get(row, 16)?,
        alert: get(row, 17)?,
        test: get(row, 18)?,
        event: get::<Option<i64>>(row, 21)?.map(|event| event as u64),
        node: get::<Option<u16>>(row, 22)?.map(NodeNumber),
        duration_ms: get::<Option<i64>>(row, 23)?.map(|length| length as u64),
        elapsed_ms: get::<i64>(row, 24)? as u64,
        told: told(row)?,
        hash: Hash(get(row, 20)?),
    };
    Ok(Stored { record, link: Hash(get(row, 19)?) })
}

fn told(row: &Row<'_>) -> Result<Option<Told>, String> {
    let Some(number) = get::<Option<i64>>(row, 25)? else { return Ok(None) };
    Ok(Some(Told {
        number: number as u64,
        happened_at: WallTime(get(row, 26)?),
        clock_offset_ms: get(row, 27)?,
    }))
}

fn get<T: rusqlite::types::FromSql>(row: &Row<'_>, column: usize) -> Result<T, String> {
    row.get(column).map_err(|error| error.to_string())
}

fn code(row: &Row<'_>) -> Result<Code, String> {
    let name: String = get(row, 3)?;
    Code::from_name(&name).ok_or_else(|| format!("`{name}` is not a code"))
}

fn severity(row: &Row<'_>) -> Result<Severity, String> {
    let number: u32 = get(row, 4)?;
    let found = Severity::ALL.iter().find(|severity| severity.code() == number);
    found.copied().ok_or_else(|| format!("{number} is not a severity"))
}
