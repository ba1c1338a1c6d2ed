//! Reading: connections of its own, so that a reader never holds up the writer.
//!
//! Pages are found by number (`seq > ?`), never by counting from the start, so the millionth page
//! costs what the first does.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params_from_iter};
use vedette_core::id::Hash;
use vedette_core::record::Record;

use super::inbox::{RecordOnDisk, same};
use super::row::{self, Stored};
use super::{Filter, Head, HistoryError, Page, schema};

/// How many idle connections are kept; more are opened when more read at once.
const KEPT: usize = 4;

/// Connections for readers.
pub(super) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), idle: Mutex::new(Vec::new()) }
    }

    /// Lends a connection. One that failed is closed, in case the file was the reason.
    pub(super) fn with<T>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, HistoryError>,
    ) -> Result<T, HistoryError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = idle.map_or_else(|| schema::open_reader(&self.path), Ok)?;
        let answer = read(&connection)?;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < KEPT {
            idle.push(connection);
        }
        Ok(answer)
    }
}

/// The last record's number and hash.
pub(super) fn head(connection: &Connection) -> Result<Head, HistoryError> {
    let last = connection
        .query_row("SELECT seq, hash FROM record ORDER BY seq DESC LIMIT 1", [], |row| {
            Ok(Head { seq: row.get::<_, i64>(0)? as u64, hash: Hash(row.get(1)?) })
        })
        .optional()?;
    Ok(last.unwrap_or_default())
}

/// All cursors.
pub(super) fn cursors(connection: &Connection) -> Result<BTreeMap<String, u64>, HistoryError> {
    let mut statement = connection.prepare("SELECT name, seq FROM cursor")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as u64)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The hash of one record.
pub(super) fn hash_at(connection: &Connection, seq: u64) -> Result<Option<Hash>, HistoryError> {
    let mut statement = connection.prepare_cached("SELECT hash FROM record WHERE seq = ?")?;
    Ok(statement.query_row([seq as i64], |row| row.get(0).map(Hash)).optional()?)
}

/// Whether records that were given are those on disk.
pub(super) fn compare(readers: &Readers, known: &[RecordOnDisk]) -> Result<(), HistoryError> {
    if known.is_empty() {
        return Ok(());
    }
    readers.with(|connection| {
        for (seq, theirs) in known {
            let ours = hash_at(connection, *seq)?.ok_or(HistoryError::Missing(*seq))?;
            same(*seq, ours, *theirs)?;
        }
        Ok(())
    })
}

/// Rows with a number above `after`, as the file has them, numbers included.
pub(super) fn rows_after(
    connection: &Connection,
    after: i64,
    most: usize,
) -> Result<Vec<Result<Stored, HistoryError>>, HistoryError> {
    let sql = format!("SELECT {} FROM record WHERE seq > ? ORDER BY seq LIMIT ?", row::COLUMNS);
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query((after, limit(most)))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(row::read(row));
    }
    Ok(found)
}

/// Records of a page that fulfil a filter.
pub(super) fn query(
    connection: &Connection,
    page: Page,
    most: usize,
    filter: &Filter,
) -> Result<Vec<Record>, HistoryError> {
    let (sql, values) = statement(page, most, filter);
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let mut records = Vec::new();
    while let Some(row) = rows.next()? {
        records.push(row::read(row)?.record);
    }
    Ok(records)
}

/// Incidents with a number below `before`, the latest first.
pub(super) fn incidents(
    connection: &Connection,
    before: u64,
    most: usize,
) -> Result<Vec<u64>, HistoryError> {
    let mut statement = connection.prepare_cached(
        "SELECT DISTINCT incident FROM record WHERE incident IS NOT NULL AND incident < ? \
         ORDER BY incident DESC LIMIT ?",
    )?;
    // A number above the largest of SQLite means no bound at all.
    let before = i64::try_from(before).unwrap_or(i64::MAX);
    let rows = statement.query_map((before, limit(most)), |row| row.get::<_, i64>(0))?;
    Ok(rows.map(|id| id.map(|id| id as u64)).collect::<Result<_, _>>()?)
}

/// The words of the statement are ours; what the reader gave goes in as values.
fn statement(page: Page, most: usize, filter: &Filter) -> (String, Vec<Value>) {
    let (side, order, seq) = match page {
        Page::After(seq) => (">", "ASC", seq),
        Page::Before(seq) => ("<", "DESC", seq),
    };
    let conditions = [
        filter.severity.map(|bad| ("severity <= ?", Value::from(i64::from(bad.code())))),
        filter.code.map(|code| ("code = ?", Value::from(code.name().to_owned()))),
        filter.kind.clone().map(|kind| ("subject_kind = ?", Value::from(kind))),
        filter.since.map(|since| ("at >= ?", Value::from(since.0))),
        filter.until.map(|until| ("at < ?", Value::from(until.0))),
        filter.incident.map(|index| ("incident = ?", Value::from(index as i64))),
    ];
    let mut sql = format!("SELECT {} FROM record WHERE seq {side} ?", row::COLUMNS);
    // A bound above the largest number of SQLite means no bound at all.
    let mut values = vec![Value::from(i64::try_from(seq).unwrap_or(i64::MAX))];
    for (condition, value) in conditions.into_iter().flatten() {
        sql.push_str(" AND ");
        sql.push_str(condition);
        values.push(value);
    }
    sql.push_str(&format!(" ORDER BY seq {order} LIMIT ?"));
    values.push(Value::from(limit(most)));
    (sql, values)
}

fn limit(most: usize) -> i64 {
    i64::try_from(most).unwrap_or(i64::MAX)
}
