//! Export: the history as lines that can be kept, read and verified anywhere.
//!
//! A [`Line`] holds one record with all that goes into its hash, in JSON (one object a line) or in
//! CSV (RFC 4180, with a heading; texts may contain line breaks within quotes). Either form can be
//! verified without the database, by [`verify_export`] or by a program of the auditor's own: the
//! hash is SHA-256 over
//!
//! - the 32 bytes of `previous_hash`; then
//! - `seq`, `log_index`, `at_microseconds`, the code's number, the severity's number, the subject
//!   kind's number, `subject_node`, `subject_peer`, `subject_network`, `incident` (0 if there is
//!   none), `origin`, `alert`, `test`, each as eight bytes, most significant first; then
//! - `subject_name`, `previous`, `current`, `cause`, `message`, `actor`, each as its length in
//!   eight bytes and its UTF-8 bytes; then
//! - only where at least one of `event`, `node` and `duration_ms` is there: for each of the three
//!   a byte 1 and its eight bytes, or a byte 0 and eight zero bytes if it is not there; then
//! - only where `elapsed_ms` is not 0 or `local_number` is there: the eight letters `timeline`,
//!   `elapsed_ms` in eight bytes, a byte 1 or 0 for whether it was told afterwards, and if so
//!   `local_number` and `happened_at_microseconds` in eight bytes each, a byte 1 or 0 for whether
//!   `clock_offset_ms` is there, and that in eight bytes (zero if it is not).
//!
//! The last two groups came later: they are left out of JSON where they are not there, and CSV files
//! that were written before them (with fewer columns) are still read.
//!
//! The numbers of codes, severities and kinds are those of the MIB. `at` repeats
//! `at_microseconds` for people, and the verification checks that it does.

use std::io::{BufRead, Write};

use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use vedette_core::id::{Hash, NodeNumber};
use vedette_core::model::Severity;
use vedette_core::record::{Code, Record, Subject, Told};
use vedette_core::time::WallTime;

use super::row::Stored;
use super::verify::{FaultKind, Verification};
use super::{Head, HistoryError, read};

mod csv;

/// Rows read at once.
const PAGE: usize = 1_000;

/// The longest line or CSV record that is read; ours are some hundred bytes.
const LONGEST: usize = 1 << 20;

/// The form of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Jsonl,
    /// Comma-separated values with a heading.
    Csv,
}

/// One record in an export. The order of the fields is the order of the CSV columns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// Sequence number.
    pub seq: u64,
    /// Log index of the command that made it.
    pub log_index: u64,
    /// When, in RFC 3339; for people.
    pub at: String,
    /// When, in microseconds since 1970.
    pub at_microseconds: i64,
    /// What kind of thing happened.
    pub code: String,
    /// How bad.
    pub severity: String,
    /// What kind of subject.
    pub subject_kind: String,
    /// The subject's node, or the lower of its nodes, or 0.
    pub subject_node: u16,
    /// The other node of a link, or 0.
    pub subject_peer: u16,
    /// The subject's network, or 0.
    pub subject_network: u8,
    /// The subject's name.
    pub subject_name: String,
    /// The status before.
    pub previous: String,
    /// The status after.
    pub current: String,
    /// Why.
    pub cause: String,
    /// One sentence.
    pub message: String,
    /// Log index of the record that began the incident.
    pub incident: Option<u64>,
    /// The node whose proposal made it.
    pub origin: u16,
    /// Who asked.
    pub actor: String,
    /// Whether the alert script is run for it.
    pub alert: bool,
    /// Whether it belongs to a test.
    pub test: bool,
    /// Hash of the record before.
    pub previous_hash: Hash,
    /// Hash of this record.
    pub hash: Hash,
    /// The event of the cluster manager that it is a step of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<u64>,
    /// The node on which the step was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<u16>,
    /// How long it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// When it happened on the cluster's timeline; 0 in records that have none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub elapsed_ms: u64,
    /// Number of the local record that it tells of afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_number: Option<u64>,
    /// When that happened by the clock of `origin`, in microseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub happened_at_microseconds: Option<i64>,
    /// How far that clock was ahead of the one by which the director dates records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_offset_ms: Option<i64>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Line {
    /// The line of a record after one with the hash `link`.
    pub fn new(record: &Record, link: Hash) -> Self {
        let (subject_node, subject_peer, subject_network) = record.subject.numbers();
        Self {
            seq: record.seq,
            log_index: record.index,
            at: record.at.to_string(),
            at_microseconds: record.at.0,
            code: record.code.name().into(),
            severity: record.severity.name().into(),
            subject_kind: record.subject.kind().into(),
            subject_node,
            subject_peer,
            subject_network,
            subject_name: record.subject_name.clone(),
            previous: record.previous.clone(),
            current: record.current.clone(),
            cause: record.cause.clone(),
            message: record.message.clone(),
            incident: record.incident,
            origin: record.origin.0,
            actor: record.actor.clone(),
            alert: record.alert,
            test: record.test,
            previous_hash: link,
            hash: record.hash,
            event: record.event,
            node: record.node.map(|node| node.0),
            duration_ms: record.duration_ms,
            elapsed_ms: record.elapsed_ms,
            local_number: record.told.map(|told| told.number),
            happened_at_microseconds: record.told.map(|told| told.happened_at.0),
            clock_offset_ms: record.told.and_then(|told| told.clock_offset_ms),
        }
    }

    fn stored(self) -> Result<Stored, String> {
        let numbers = (self.subject_node, self.subject_peer, self.subject_network);
        let record = Record {
            seq: self.seq,
            index: self.log_index,
            at: WallTime(self.at_microseconds),
            code: Code::from_name(&self.code)
                .ok_or_else(|| format!("`{}` is not a code", self.code))?,
            severity: Severity::from_name(&self.severity)
                .ok_or_else(|| format!("`{}` is not a severity", self.severity))?,
            subject: Subject::from_parts(&self.subject_kind, numbers)
                .ok_or_else(|| format!("`{}` is not a kind of subject", self.subject_kind))?,
            subject_name: self.subject_name,
            previous: self.previous,
            current: self.current,
            cause: self.cause,
            message: self.message,
            incident: self.incident,
            origin: NodeNumber(self.origin),
            actor: self.actor,
            alert: self.alert,
            test: self.test,
            event: self.event,
            node: self.node.map(NodeNumber),
            duration_ms: self.duration_ms,
            elapsed_ms: self.elapsed_ms,
            told: told(self.local_number, self.happened_at_microseconds, self.clock_offset_ms)?,
            hash: self.hash,
        };
        if record.at.to_string() != self.at || record.subject.numbers() != numbers {
            return Err("`at` or the subject's numbers do not fit the rest of the line".into());
        }
        Ok(Stored { record, link: self.previous_hash })
    }
}

/// Where a line that was told afterwards comes from: number and time stand together.
fn told(
    number: Option<u64>,
    happened_at: Option<i64>,
    clock_offset_ms: Option<i64>,
) -> Result<Option<Told>, String> {
    match (number, happened_at) {
        (Some(number), Some(at)) => {
            Ok(Some(Told { number, happened_at: WallTime(at), clock_offset_ms }))
        }
        (None, None) if clock_offset_ms.is_none() => Ok(None),
        _ => Err("`local_number` and `happened_at_microseconds` do not stand together".into()),
    }
}

/// Writes the records after `after`.
pub(super) fn export(
    connection: &Connection,
    after: u64,
    out: &mut dyn Write,
    format: Format,
) -> Result<Head, HistoryError> {
    let mut head = Head { seq: after, ..Head::default() };
    if format == Format::Csv {
        writeln!(out, "{}", csv::HEADING)?;
    }
    loop {
        let rows = read::rows_after(connection, head.seq as i64, PAGE)?;
        let end = rows.len() < PAGE;
        for row in rows {
            let Stored { record, link } = row?;
            let line = Line::new(&record, link);
            match format {
                Format::Jsonl => writeln!(out, "{}", json(&line)?)?,
                Format::Csv => writeln!(out, "{}", csv::write(&line))?,
            }
            head = Head::of(&record);
        }
        if end {
            out.flush()?;
            return Ok(head);
        }
    }
}

fn json(line: &Line) -> Result<String, std::io::Error> {
    Ok(serde_json::to_string(line)?)
}

/// Verifies an export of either form, whole or beginning at any record; what is wrong with the
/// text itself is a fault too, an error only means that the input could not be read.
pub fn verify_export(reader: impl BufRead) -> Result<Verification, HistoryError> {
    let mut input = csv::Input::new(reader, LONGEST);
    let mut verification = Verification::default();
    let Some(first) = input.line()? else { return Ok(verification) };
    let is_csv = csv::is_heading(first.trim_ascii_end());
    let mut text = if is_csv { input.record()? } else { Some(first) };
    let mut begun = false;
    while let Some(bytes) = text {
        let stored = if is_csv { csv::read(&bytes) } else { from_json(&bytes) };
        match stored.and_then(Line::stored) {
            Ok(stored) => {
                if !begun {
                    begin(&mut verification, &stored);
                    begun = true;
                }
                if !verification.check(&stored) {
                    break;
                }
            }
            Err(why) => {
                let detail = format!("line {}: {why}", input.begun_at());
                verification.find(verification.head.seq + 1, FaultKind::Unreadable, detail);
                break;
            }
        }
        text = if is_csv { input.record()? } else { input.line()? };
    }
    Ok(verification)
}

/// An export may begin anywhere; its first link is what it is anchored to. Record 1 has nothing
/// before it, which is why its link is not taken as given.
fn begin(verification: &mut Verification, first: &Stored) {
    if first.record.seq > 1 {
        let head = Head { seq: first.record.seq - 1, hash: first.link };
        *verification = Verification::starting_at(head);
    }
}

fn from_json(bytes: &[u8]) -> Result<Line, String> {
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}
