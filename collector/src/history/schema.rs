//! The history's file: its tables, its triggers, and what is checked before it is used.
//!
//! The file says what it is (`application_id`) and which format it has (`user_version`), so a
//! wrong or a newer file is refused with a sentence instead of being misread.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::{HistoryError, journal};

/// The newest format that is known here.
pub(super) const VERSION: i64 = 3;

/// `VDTH`.
pub(super) const APPLICATION_ID: i64 = 0x5644_5448;

/// STRICT, so that a column holds what its type says. `link` is the hash of the record before: it
/// lets a verifier tell a changed row from a row whose predecessor was replaced.
const TABLES: &str = "
CREATE TABLE record (
    seq             INTEGER PRIMARY KEY,
    log_index       INTEGER NOT NULL,
    at              INTEGER NOT NULL,
    code            TEXT    NOT NULL,
    severity        INTEGER NOT NULL,
    subject_kind    TEXT    NOT NULL,
    subject_node    INTEGER NOT NULL,
    subject_peer    INTEGER NOT NULL,
    subject_network INTEGER NOT NULL,
    subject_name    TEXT    NOT NULL,
    previous        TEXT    NOT NULL,
    current         TEXT    NOT NULL,
    cause           TEXT    NOT NULL,
    message         TEXT    NOT NULL,
    incident        INTEGER,
    origin          INTEGER NOT NULL,
    actor           TEXT    NOT NULL,
    alert           INTEGER NOT NULL,
    test            INTEGER NOT NULL,
    link            BLOB    NOT NULL,
    hash            BLOB    NOT NULL,
    event           INTEGER,
    node            INTEGER,
    duration_ms     INTEGER,
    elapsed_ms      INTEGER NOT NULL DEFAULT 0,
    local_number    INTEGER,
    happened_at     INTEGER,
    clock_offset_ms INTEGER
) STRICT;
CREATE INDEX record_at ON record (at);
CREATE INDEX record_code ON record (code);
CREATE INDEX record_severity ON record (severity);
CREATE INDEX record_incident ON record (incident) WHERE incident IS NOT NULL;
CREATE TABLE cursor (name TEXT PRIMARY KEY, seq INTEGER NOT NULL) STRICT, WITHOUT ROWID;
";

/// From format 1, which knew no events.
const FROM_1: &str = "
ALTER TABLE record ADD COLUMN event INTEGER;
ALTER TABLE record ADD COLUMN node INTEGER;
ALTER TABLE record ADD COLUMN duration_ms INTEGER;
PRAGMA user_version = 2;
";

/// From format 2, which knew neither the timeline nor what is told afterwards.
const FROM_2: &str = "
ALTER TABLE record ADD COLUMN elapsed_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE record ADD COLUMN local_number INTEGER;
ALTER TABLE record ADD COLUMN happened_at INTEGER;
ALTER TABLE record ADD COLUMN clock_offset_ms INTEGER;
PRAGMA user_version = 3;
";

/// What brings a file of each older format one further.
const STEPS: [(i64, &str); 2] = [(1, FROM_1), (2, FROM_2)];

/// The triggers that refuse changes. The third one is there because `INSERT OR REPLACE` deletes
/// a row without asking a delete trigger.
pub(super) const GUARDS: [(&str, &str); 3] = [
    (
        "record_no_update",
        "CREATE TRIGGER record_no_update BEFORE UPDATE ON record
         BEGIN SELECT RAISE(ABORT, 'the history is append-only: a record cannot be changed'); END",
    ),
    (
        "record_no_delete",
        "CREATE TRIGGER record_no_delete BEFORE DELETE ON record
         BEGIN SELECT RAISE(ABORT, 'the history is append-only: a record cannot be deleted'); END",
    ),
    (
        "record_no_replace",
        "CREATE TRIGGER record_no_replace BEFORE INSERT ON record
         WHEN EXISTS (SELECT 1 FROM record WHERE seq = NEW.seq)
         BEGIN SELECT RAISE(ABORT, 'the history is append-only: the record is there'); END",
    ),
];

/// How long to wait for somebody who looks into the file with another program.
const BUSY: Duration = Duration::from_secs(5);

/// Opens the file for the one writer; makes and checks it.
pub(super) fn open_writer(path: &Path) -> Result<Connection, HistoryError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection =
        Connection::open_with_flags(path, flags).map_err(|error| problem(path, error))?;
    prepare(path, &mut connection)?;
    Ok(connection)
}

fn prepare(path: &Path, connection: &mut Connection) -> Result<(), HistoryError> {
    connection.busy_timeout(BUSY).map_err(|error| problem(path, error))?;
    let version = identify(path, connection)?;
    let explain = |error| problem(path, error);
    connection.pragma_update(None, "journal_mode", "WAL").map_err(explain)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(explain)?;
    // A checkpoint every 16 MiB instead of every 4: fewer syncs while many records come, and
    // still a small file to read again after a crash.
    connection.pragma_update(None, "wal_autocheckpoint", 4_096).map_err(explain)?;
    connection.pragma_update(None, "journal_size_limit", 64 << 20).map_err(explain)?;
    if version == 0 {
        create(connection).map_err(explain)?;
    } else {
        quick_check(path, connection)?;
        if version < VERSION {
            let transaction = connection.transaction().map_err(explain)?;
            for (_, step) in STEPS.iter().filter(|(from, _)| *from >= version) {
                transaction.execute_batch(step).map_err(explain)?;
            }
            transaction.execute_batch(journal::TABLE).map_err(explain)?;
            transaction.commit().map_err(explain)?;
        }
        restore_guards(path, connection).map_err(explain)?;
    }
    Ok(())
}

/// Opens the file for reading only.
pub(super) fn open_reader(path: &Path) -> Result<Connection, HistoryError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection =
        Connection::open_with_flags(path, flags).map_err(|error| problem(path, error))?;
    connection.busy_timeout(BUSY).map_err(|error| problem(path, error))?;
    connection.pragma_update(None, "query_only", true).map_err(|error| problem(path, error))?;
    Ok(connection)
}

/// The format of the file, 0 if it is new. Refuses what is not a history of a known format.
pub(super) fn identify(path: &Path, connection: &Connection) -> Result<i64, HistoryError> {
    let number = |sql: &str| -> Result<i64, HistoryError> {
        connection.query_row(sql, [], |row| row.get(0)).map_err(|error| problem(path, error))
    };
    let found = number("PRAGMA application_id")?;
    let version = number("PRAGMA user_version")?;
    let objects = number("SELECT count(*) FROM sqlite_schema")?;
    let path = path.to_owned();
    match (found, version, objects) {
        (0, 0, 0) => Ok(0),
        (APPLICATION_ID, 1..=VERSION, _) => Ok(version),
        (APPLICATION_ID, newer, _) => {
            Err(HistoryError::Newer { path, found: newer, known: VERSION })
        }
        _ => Err(HistoryError::NotHistory { path, found }),
    }
}

fn create(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    transaction.execute_batch(TABLES)?;
    transaction.execute_batch(journal::TABLE)?;
    for (_, sql) in GUARDS {
        transaction.execute_batch(sql)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}

pub(super) fn quick_check(path: &Path, connection: &Connection) -> Result<(), HistoryError> {
    let said: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(|error| problem(path, error))?;
    if said == "ok" {
        return Ok(());
    }
    Err(HistoryError::Corrupt { path: path.to_owned(), why: said })
}

/// Names of the guards that are not in the file as they should be.
pub(super) fn missing_guards(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare(
        "SELECT count(*) FROM sqlite_schema WHERE type = 'trigger' AND name = ? AND sql = ?",
    )?;
    let mut missing = Vec::new();
    for (name, sql) in GUARDS {
        let found: i64 = statement.query_row([name, sql], |row| row.get(0))?;
        if found == 0 {
            missing.push(name.to_owned());
        }
    }
    Ok(missing)
}

fn restore_guards(path: &Path, connection: &Connection) -> rusqlite::Result<()> {
    for name in missing_guards(connection)? {
        tracing::warn!(
            path = %path.display(), trigger = name,
            "somebody removed or changed a trigger that keeps the history from being changed; \
             it is put back. Run `vedette history verify`"
        );
        connection.execute_batch(&format!("DROP TRIGGER IF EXISTS {name}"))?;
        for (_, sql) in GUARDS.iter().filter(|(guard, _)| *guard == name) {
            connection.execute_batch(sql)?;
        }
    }
    Ok(())
}

/// Puts what SQLite says into the sentence that helps.
fn problem(path: &Path, error: rusqlite::Error) -> HistoryError {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    let path = path.to_owned();
    let why = error.to_string();
    match error.sqlite_error_code() {
        Some(DatabaseCorrupt | NotADatabase) => HistoryError::Corrupt { path, why },
        _ => HistoryError::Open { path, why },
    }
}
