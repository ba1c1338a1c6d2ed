//! Verification: is this the history as it was written?
//!
//! Every row carries the hash of the row before (`link`) and its own, over all its content. Going
//! through the rows in order, three questions find every change that leaves any row as it was:
//! does the number follow, does the link equal the hash before, does the content give the hash.

use std::path::Path;

use rusqlite::Connection;
use serde::Serialize;
use vedette_core::id::Hash;

use super::row::Stored;
use super::{Head, HistoryError, read, schema};

/// Rows read at once, so that no reader holds back the clearing of the write-ahead log.
const PAGE: usize = 1_000;

/// What is wrong with a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// The content does not give the hash that stands beside it.
    ChangedContent,
    /// Rows before it, or at the end, are gone.
    MissingRows,
    /// It continues another row than the one that stands before it.
    WrongLink,
    /// It cannot be read at all.
    Unreadable,
}

/// The first row that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Its number (for missing rows: the first missing one).
    pub seq: u64,
    /// What is wrong.
    pub kind: FaultKind,
    /// The same as a sentence.
    pub detail: String,
}

/// What a verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// Rows that are good, up to the first fault.
    pub checked: u64,
    /// The last good row. Compare it with another node's to find a rewritten history.
    pub head: Head,
    /// The first fault.
    pub fault: Option<Fault>,
    /// Triggers against changes that are not in the file any more.
    pub unguarded: Vec<String>,
}

impl Verification {
    /// Whether every row is as it was written.
    pub fn intact(&self) -> bool {
        self.fault.is_none()
    }

    /// A `Verification` that begins after the row with that head.
    pub(super) fn starting_at(head: Head) -> Self {
        Self { head, ..Self::default() }
    }

    /// Looks at one more row; false at the first fault.
    pub(super) fn check(&mut self, stored: &Stored) -> bool {
        let Stored { record, link } = stored;
        let expected = self.head.seq.wrapping_add(1);
        if record.seq != expected {
            let detail = if record.seq > expected {
                format!("records {expected} to {} are missing", record.seq - 1)
            } else {
                format!("record {} stands where {expected} belongs", record.seq)
            };
            return self.find(expected, FaultKind::MissingRows, detail);
        }
        if record.chained(*link) != record.hash {
            let detail = format!(
                "the content of record {expected} does not give its hash: it was changed after \
                 it was written"
            );
            return self.find(expected, FaultKind::ChangedContent, detail);
        }
        if *link != self.head.hash {
            let detail = format!(
                "record {expected} continues hash {link}, but the record before has {}: the \
                 record before was replaced, or this one belongs to another history",
                self.head.hash
            );
            return self.find(expected, FaultKind::WrongLink, detail);
        }
        self.checked += 1;
        self.head = Head::of(record);
        true
    }

    /// Notes a fault; always false.
    pub(super) fn find(&mut self, seq: u64, kind: FaultKind, detail: String) -> bool {
        self.fault = Some(Fault { seq, kind, detail });
        false
    }

    /// The rows up to a head that is known from elsewhere must be there.
    pub(super) fn demand(&mut self, known: Head) {
        if self.fault.is_none() && self.head.seq < known.seq {
            let first = self.head.seq + 1;
            let detail = format!("records {first} to {} are missing at the end", known.seq);
            self.find(first, FaultKind::MissingRows, detail);
        }
    }
}

/// Goes through all rows of an open file.
pub(super) fn verify(connection: &Connection) -> Result<Verification, HistoryError> {
    let mut verification = Verification::starting_at(Head { seq: 0, hash: Hash::default() });
    verification.unguarded = schema::missing_guards(connection)?;
    let mut after = i64::MIN;
    loop {
        let rows = read::rows_after(connection, after, PAGE)?;
        let end = rows.len() < PAGE;
        for row in rows {
            if !check_row(&mut verification, row)? {
                return Ok(verification);
            }
        }
        if end {
            return Ok(verification);
        }
        after = verification.head.seq as i64;
    }
}

fn check_row(
    verification: &mut Verification,
    row: Result<Stored, HistoryError>,
) -> Result<bool, HistoryError> {
    match row {
        Ok(stored) => Ok(verification.check(&stored)),
        Err(HistoryError::BadRow { seq, why }) => {
            let detail = format!("record {seq} cannot be read: {why}");
            Ok(verification.find(seq as u64, FaultKind::Unreadable, detail))
        }
        Err(error) => Err(error),
    }
}

/// Verifies a history that no daemon has open, or a copy of one. Changes nothing.
pub fn verify_offline(path: impl AsRef<Path>) -> Result<Verification, HistoryError> {
    let path = path.as_ref();
    let connection = schema::open_reader(path)?;
    schema::identify(path, &connection)?;
    schema::quick_check(path, &connection)?;
    verify(&connection)
}
