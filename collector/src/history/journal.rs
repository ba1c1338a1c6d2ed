//! The node's own journal: local records, in the same file as the history of everybody.
//!
//! An entry is told at once, from memory, and written with the next commit: it tells of moments in which
//! the disk may be the very thing that fails. Entries stay *pending* until the cluster has taken the
//! node's account of them ([`vedette_core::command::Account`]).
//!
//! Invariants:
//!
//! - Numbers grow from 1 within a journal, and each entry carries the hash of itself and the one before.
//! - A journal whose end is damaged or contradicts its chain is not continued: another one begins, with
//!   an id of its own, so that no number stands for two entries.
//! - One whose end is *missing*, because an older file was put back or a disk forgot what it had promised,
//!   looks whole. Where the [number beside it](super::tail) shows it, numbering goes on behind what was told,
//!   and the gap is what is missing. Where only the cluster knows, what this run wrote becomes a
//!   [branch](Journal::branch): another id, the same numbers.
//! - At most [`MOST_PENDING`] entries wait for an account, and as many for the disk; what is given up is
//!   counted.

use std::collections::VecDeque;
use std::sync::Arc;

use rusqlite::{CachedStatement, Connection, Row, params};
use vedette_core::id::{Hash, Session};
use vedette_core::local::{Draft, LocalRecord, Phase, Stamp};
use vedette_core::local_view::JournalHealth;
use vedette_core::model::Severity;
use vedette_core::record::{Code, Subject};
use vedette_core::time::WallTime;
use vedette_core::view::View;

use super::HistoryError;

/// How many entries may wait for an account, and for the disk.
pub const MOST_PENDING: usize = 1_000;

/// How many entries stay in the file once they are accounted for.
const KEPT: i64 = 10_000;

/// The name of the cursor that says up to where entries of a journal are accounted for.
fn cursor_of(journal: u64) -> String {
    format!("journal.accounted.{journal:016x}")
}

/// Entries of all journals of this node; the last one is continued.
pub(super) const TABLE: &str = "
CREATE TABLE local (
    place           INTEGER PRIMARY KEY AUTOINCREMENT,
    journal         INTEGER NOT NULL,
    number          INTEGER NOT NULL,
    at              INTEGER NOT NULL,
    uptime_us       INTEGER NOT NULL,
    boot            BLOB    NOT NULL,
    session         INTEGER NOT NULL,
    code            TEXT    NOT NULL,
    phase           INTEGER NOT NULL,
    severity        INTEGER NOT NULL,
    subject_kind    TEXT    NOT NULL,
    subject_node    INTEGER NOT NULL,
    subject_peer    INTEGER NOT NULL,
    subject_network INTEGER NOT NULL,
    subject_name    TEXT    NOT NULL,
    message         TEXT    NOT NULL,
    cause           TEXT    NOT NULL,
    duration_ms     INTEGER,
    times           INTEGER NOT NULL,
    alert           INTEGER NOT NULL,
    link            BLOB    NOT NULL,
    hash            BLOB    NOT NULL,
    UNIQUE (journal, number)
) STRICT;
";

const INSERT: &str = "INSERT INTO local (journal, number, at, uptime_us, boot, session, code, phase, \
     severity, subject_kind, subject_node, subject_peer, subject_network, subject_name, message, \
     cause, duration_ms, times, alert, link, hash) VALUES \
     (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17,?18,?19,?20,?21)";

const COLUMNS: &str = "number, at, uptime_us, boot, session, code, phase, severity, subject_kind, \
     subject_node, subject_peer, subject_network, subject_name, message, cause, duration_ms, times, \
     alert, link, hash";

/// An entry with the journal and the hash of the entry before.
#[derive(Clone, Debug)]
pub(super) struct Linked {
    journal: u64,
    link: Hash,
    record: Arc<LocalRecord>,
}

impl Linked {
    /// Its journal and number.
    pub(super) fn place(&self) -> (u64, u64) {
        (self.journal, self.record.number)
    }
}

/// The journal in memory.
#[derive(Debug, Default)]
pub(super) struct Journal {
    id: u64,
    head: Hash,
    /// Number and hash of the last entry that the file had when it was opened.
    opened: (u64, Hash),
    /// The number after which this journal begins.
    begins_after: u64,
    /// The journal of which this one became a branch.
    branch_of: Option<u64>,
    /// The entries of the journal before that nobody else has, if that cannot be continued.
    broken: Option<u64>,
    /// How many entries were told and are not in the file.
    cut: Option<u64>,
    /// What was raised in the file and not cleared.
    open: Vec<Arc<LocalRecord>>,
    health: JournalHealth,
    recent: VecDeque<Arc<LocalRecord>>,
    pending: VecDeque<Arc<LocalRecord>>,
    unwritten: VecDeque<Linked>,
}

impl Journal {
    /// The journal as the file has it, or a new one; `tail` is how far which journal was, as noted beside it.
    pub(super) fn open(
        connection: &Connection,
        tail: Option<(u64, u64)>,
    ) -> Result<Self, HistoryError> {
        let (id, rows) = last_rows(connection)?;
        let Some(entries) = rows.filter(|entries| chained(entries)) else {
            let mut journal = Self { id: new_id(), ..Self::default() };
            if id != 0 {
                let untold = untold(connection)?;
                (journal.broken, journal.health.dropped) = (Some(untold), untold);
            }
            return Ok(journal);
        };
        let accounted = accounted(connection, id)?;
        let mut journal = Self { id, begins_after: begin(connection, id)?, ..Self::default() };
        journal.health.accounted = accounted;
        for (_, record) in entries {
            let record = Arc::new(record);
            note_open(&mut journal.open, &record);
            (journal.head, journal.health.last) = (record.hash, record.number);
            if record.number > accounted {
                push(&mut journal.pending, record.clone(), MOST_PENDING);
            }
            push(&mut journal.recent, record, View::RECENT);
        }
        let noted = tail.filter(|(of, _)| *of == id).map_or(0, |(_, number)| number);
        journal.cut = noted.checked_sub(journal.health.last).filter(|lost| *lost > 0);
        journal.health.dropped = journal.cut.unwrap_or(0);
        journal.health.last += journal.health.dropped;
        journal.opened = (journal.health.last, journal.head);
        journal.health.opened = journal.health.last;
        Ok(journal)
    }

    /// The cluster has taken entries up to `number` of this journal, and this run has given none yet. If
    /// the file did not have that many, it had lost its end, and what this run wrote stands under numbers
    /// that are used: it becomes the beginning of another journal. Answers whether that was so.
    pub(super) fn branch(&mut self, number: u64) -> bool {
        let (opened, mut link) = self.opened;
        if number <= opened {
            return false;
        }
        self.branch_of = Some(self.id);
        (self.id, self.begins_after, self.health.accounted) = (new_id(), opened, opened);
        self.pending.retain(|record| record.number > opened);
        self.unwritten.clear();
        for record in &self.pending {
            let linked = Linked { journal: self.id, link, record: record.clone() };
            link = record.hash;
            self.unwritten.push_back(linked);
        }
        self.opened.0 = u64::MAX;
        true
    }

    /// Adds an entry.
    pub(super) fn append(&mut self, stamp: Stamp, content: Draft) -> Arc<LocalRecord> {
        let link = self.head;
        let code = content.code;
        let record = Arc::new(LocalRecord::new(self.health.last + 1, stamp, content, link));
        (self.head, self.health.last) = (record.hash, record.number);
        *self.health.counts.entry(code).or_default() += 1;
        let given_up = push(&mut self.pending, record.clone(), MOST_PENDING);
        let linked = Linked { journal: self.id, link, record: record.clone() };
        let lost = push(&mut self.unwritten, linked, MOST_PENDING);
        self.health.dropped += u64::from(given_up || lost);
        push(&mut self.recent, record.clone(), View::RECENT);
        record
    }

    pub(super) const fn id(&self) -> u64 {
        self.id
    }

    pub(super) const fn begins_after(&self) -> u64 {
        self.begins_after
    }

    pub(super) const fn branch_of(&self) -> Option<u64> {
        self.branch_of
    }

    pub(super) const fn cut(&self) -> Option<u64> {
        self.cut
    }

    pub(super) const fn broken(&self) -> Option<u64> {
        self.broken
    }

    /// What earlier runs raised and nobody cleared, oldest first.
    pub(super) fn open_conditions(&self) -> Vec<Arc<LocalRecord>> {
        self.open.clone()
    }

    pub(super) fn health(&self) -> JournalHealth {
        self.health.clone()
    }

    pub(super) fn recent(&self) -> Arc<[Arc<LocalRecord>]> {
        self.recent.iter().cloned().collect()
    }

    /// Entries that wait for an account, oldest first.
    pub(super) fn pending(&self, most: usize) -> Vec<Arc<LocalRecord>> {
        self.pending.iter().take(most).cloned().collect()
    }

    /// Entries up to `number` are in everybody's history. Answers the cursor to be written.
    pub(super) fn accounted(&mut self, number: u64) -> (String, u64) {
        self.pending.retain(|record| record.number > number);
        self.health.accounted = self.health.accounted.max(number);
        (cursor_of(self.id), self.health.accounted)
    }

    pub(super) fn unwritten(&self, most: usize) -> Vec<Linked> {
        self.unwritten.iter().take(most).cloned().collect()
    }

    /// What was taken by [`Self::unwritten`] is on disk. Entries may have been given up meanwhile.
    pub(super) fn written(&mut self, entries: &[Linked]) {
        let Some(last) = entries.last() else { return };
        let (journal, number) = (last.journal, last.record.number);
        self.unwritten.retain(|entry| entry.journal != journal || entry.record.number > number);
    }
}

/// Keeps what is raised until it is cleared. The end of a loss of quorum has a code of its own.
fn note_open(open: &mut Vec<Arc<LocalRecord>>, record: &Arc<LocalRecord>) {
    let code = match record.content.code {
        Code::QuorumRegained => Code::QuorumLost,
        other => other,
    };
    if record.content.phase == Phase::Happened {
        return;
    }
    open.retain(|it| (it.content.code, it.content.subject) != (code, record.content.subject));
    if record.content.phase == Phase::Raised {
        open.push(record.clone());
    }
}

/// Whether something had to be given up.
fn push<T>(queue: &mut VecDeque<T>, item: T, most: usize) -> bool {
    queue.push_back(item);
    let full = queue.len() > most;
    if full {
        queue.pop_front();
    }
    full
}

fn new_id() -> u64 {
    // SQLite's integers are signed.
    let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
    (high ^ low) >> 1
}

/// The id of the last journal, and its last entries; none if one of them cannot be read.
type LastRows = (u64, Option<Vec<(Hash, LocalRecord)>>);

fn last_rows(connection: &Connection) -> Result<LastRows, HistoryError> {
    let sql = "SELECT journal FROM local ORDER BY place DESC LIMIT 1";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    let Some(row) = rows.next()? else { return Ok((0, None)) };
    let id: i64 = row.get(0)?;
    let sql = format!("SELECT {COLUMNS} FROM local WHERE journal = ? ORDER BY number DESC LIMIT ?");
    let mut statement = connection.prepare(&sql)?;
    let most = (MOST_PENDING + View::RECENT) as i64;
    let mut rows = statement.query((id, most))?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        match read(row) {
            Ok(entry) => entries.push(entry),
            Err(why) => {
                tracing::error!(why, "the journal of this node cannot be read; another one begins");
                return Ok((id as u64, None));
            }
        }
    }
    entries.reverse();
    Ok((id as u64, Some(entries)))
}

/// Whether the entries follow each other.
fn chained(entries: &[(Hash, LocalRecord)]) -> bool {
    let whole = entries.iter().all(|(link, record)| record.chained(*link) == record.hash)
        && entries
            .windows(2)
            .all(|pair| pair[1].0 == pair[0].1.hash && pair[1].1.number > pair[0].1.number);
    if !whole {
        tracing::error!("the journal of this node was changed or cut; another one begins");
    }
    whole && !entries.is_empty()
}

/// Counts the entries of the last journal that are not accounted for.
pub(super) fn untold(connection: &Connection) -> Result<u64, HistoryError> {
    let sql = "SELECT journal, max(number) FROM local \
               WHERE journal = (SELECT journal FROM local ORDER BY place DESC LIMIT 1)";
    let (id, last): (Option<i64>, Option<i64>) =
        connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let (Some(id), Some(last)) = (id, last) else { return Ok(0) };
    Ok((last as u64).saturating_sub(accounted(connection, id as u64)?))
}

/// The number before the first that the file has of a journal.
fn begin(connection: &Connection, journal: u64) -> Result<u64, HistoryError> {
    let sql = "SELECT min(number) - 1 FROM local WHERE journal = ?";
    let begin: Option<i64> = connection.query_row(sql, [journal as i64], |row| row.get(0))?;
    Ok(begin.and_then(|begin| u64::try_from(begin).ok()).unwrap_or(0))
}

fn accounted(connection: &Connection, journal: u64) -> Result<u64, HistoryError> {
    let mut statement = connection.prepare("SELECT seq FROM cursor WHERE name = ?")?;
    let mut rows = statement.query([cursor_of(journal)])?;
    Ok(rows.next()?.map(|row| row.get::<_, i64>(0)).transpose()?.unwrap_or(0) as u64)
}

/// Writes entries, within the writer's transaction.
pub(super) fn insert(
    statement: &mut CachedStatement<'_>,
    entries: &[Linked],
) -> rusqlite::Result<()> {
    for Linked { journal, link, record } in entries {
        let (stamp, content) = (&record.stamp, &record.content);
        let (node, peer, network) = content.subject.numbers();
        statement.execute(params![
            *journal as i64,
            record.number as i64,
            stamp.at.0,
            stamp.uptime_us as i64,
            stamp.boot.0,
            stamp.session.0 as i64,
            content.code.name(),
            content.phase.code(),
            content.severity.code(),
            content.subject.kind(),
            node,
            peer,
            network,
            content.subject_name,
            content.message,
            content.cause,
            content.duration_ms.map(|length| length as i64),
            content.times as i64,
            content.alert,
            link.0,
            record.hash.0,
        ])?;
    }
    Ok(())
}

/// The statement for [`insert`].
pub(super) fn statement(connection: &Connection) -> rusqlite::Result<CachedStatement<'_>> {
    connection.prepare_cached(INSERT)
}

/// Deletes entries that are old and accounted for; called when the file is opened.
pub(super) fn prune(connection: &Connection) -> rusqlite::Result<usize> {
    connection
        .execute("DELETE FROM local WHERE place <= (SELECT max(place) FROM local) - ?1", [KEPT])
}

fn read(row: &Row<'_>) -> Result<(Hash, LocalRecord), String> {
    fn get<T: rusqlite::types::FromSql>(row: &Row<'_>, column: usize) -> Result<T, String> {
        row.get(column).map_err(|error| error.to_string())
    }
    let code: String = get(row, 5)?;
    let severity: u32 = get(row, 7)?;
    let kind: String = get(row, 8)?;
    let known = Severity::ALL.iter().find(|it| it.code() == severity);
    let content = Draft {
        code: Code::from_name(&code).ok_or_else(|| format!("`{code}` is not a code"))?,
        phase: Phase::from_code(get(row, 6)?).ok_or("an unknown phase")?,
        severity: *known.ok_or_else(|| format!("{severity} is not a severity"))?,
        subject: Subject::from_parts(&kind, (get(row, 9)?, get(row, 10)?, get(row, 11)?))
            .ok_or_else(|| format!("`{kind}` is not a kind of subject"))?,
        subject_name: get(row, 12)?,
        message: get(row, 13)?,
        cause: get(row, 14)?,
        duration_ms: get::<Option<i64>>(row, 15)?.map(|length| length as u64),
        times: get::<i64>(row, 16)? as u64,
        alert: get(row, 17)?,
    };
    let stamp = Stamp {
        at: WallTime(get(row, 1)?),
        uptime_us: get::<i64>(row, 2)? as u64,
        boot: Hash(get(row, 3)?),
        session: Session(get::<i64>(row, 4)? as u64),
    };
    let number = get::<i64>(row, 0)? as u64;
    Ok((Hash(get(row, 18)?), LocalRecord { number, stamp, content, hash: Hash(get(row, 19)?) }))
}

/// Entries after `number` of the journal in the file, oldest first.
pub(super) fn after(
    connection: &Connection,
    journal: u64,
    number: u64,
    most: usize,
) -> Result<Vec<LocalRecord>, HistoryError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM local WHERE journal = ? AND number > ? ORDER BY number LIMIT ?"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let number = i64::try_from(number).unwrap_or(i64::MAX);
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let mut rows = statement.query((journal as i64, number, most))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let (_, record) = read(row).map_err(|why| HistoryError::BadRow { seq: number, why })?;
        found.push(record);
    }
    Ok(found)
}
