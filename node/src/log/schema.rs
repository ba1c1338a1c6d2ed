//! The file `cluster.db`: its tables, the checks before it is trusted, and loading it.
//!
//! One SQLite database holds vote, log and newest snapshot of one member. It is opened with
//! `synchronous=FULL`, because in WAL mode anything less forgets commits on a power failure, and a
//! forgotten vote can make two leaders; and with an exclusive lock, because two agents on one log
//! would be two members with one name.
//!
//! A database is refused, with a sentence of what to do, when it is missing, damaged, of a newer
//! version, or not this member's. Nothing in it is ever repaired: the other members have the log.
//! That a database in good order ends earlier than it did cannot be seen here; `Remembered` does.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, params};
use serde::de::DeserializeOwned;
use vedette_core::id::{ClusterId, RaftId, StorageId};

use super::types::{Entry, LogId, Snapshot, Vote};

/// Version of the tables; a file with a greater one was written by a newer Vedette.
const VERSION: i64 = 1;

/// How long an agent that is just ending may still hold the lock.
const LOCK_WAIT: Duration = Duration::from_secs(5);

const TABLES: &str = "
    CREATE TABLE identity (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        cluster TEXT NOT NULL, raft_id INTEGER NOT NULL, storage TEXT NOT NULL
    ) STRICT;
    CREATE TABLE log (at INTEGER PRIMARY KEY, entry TEXT NOT NULL) STRICT;
    -- vote, committed, purged: one value each
    CREATE TABLE mark (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE snapshot (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        meta TEXT NOT NULL, state TEXT NOT NULL
    ) STRICT;
";

/// Whose log this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The member of the log.
    pub raft_id: RaftId,
    /// The storage it was given.
    pub storage: StorageId,
}

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The database should be there and is not.
    #[error(
        "{} is not there, although this node already belongs to a cluster. Never let it start \
         with an empty log: delete the node on another member and join again with a new token \
         (`vedette join TOKEN`).", .path.display()
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The database is not readable as what it should be.
    #[error(
        "{} is damaged: {detail}. The other members have the log: move the file away, delete this \
         node on another member and join again with a new token (`vedette join TOKEN`).",
        .path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The database was written by a newer Vedette.
    #[error(
        "{} has format version {found}, and this Vedette knows versions up to {known}. Install \
         the newer Vedette that this node ran before.", .path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// The database belongs to another member or cluster.
    #[error(
        "{} belongs to {found}, but this node is {expected}. Put back the file that belongs here, \
         or delete this node on another member and join again with a new token (`vedette join TOKEN`).",
        .path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Whose it should be.
        expected: String,
    },
    /// Another process has it open.
    #[error(
        "{} is in use by another process. Stop the other agent of this node first \
         (`systemctl stop vedette`).", .path.display()
    )]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// Any other failure of the database.
    #[error("{}: {source}. Check that the directory is writable and has free space.", .path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// The timing cannot be used.
    #[error(
        "the timing cannot be used: {0}. Give the log an election timeout of several heartbeats."
    )]
    Timing(String),
    /// The consensus core did not start.
    #[error("the replicated log did not start: {0}. Restart the agent; its log has the details.")]
    Core(String),
}

/// Everything the log needs to remember, as it was on disk.
#[derive(Default)]
pub(super) struct Contents {
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogId>,
    pub(super) purged: Option<LogId>,
    pub(super) entries: BTreeMap<u64, Entry>,
    pub(super) snapshot: Option<Snapshot>,
}

/// Opens the database at `path`, checks it and loads it. Makes it if it is not there and `create`.
pub(super) fn open(
    path: &Path,
    identity: Identity,
    create: bool,
) -> Result<(Connection, Contents), LogError> {
    if !create && !path.exists() {
        return Err(LogError::Missing { path: path.into() });
    }
    let file = File { path };
    let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    flags.set(OpenFlags::SQLITE_OPEN_CREATE, create);
    let mut connection = file.check(Connection::open_with_flags(path, flags))?;
    file.configure(&connection)?;
    match file.version(&connection)? {
        0 => file.make(&mut connection, identity)?,
        VERSION => {}
        found => return Err(LogError::Newer { path: path.into(), found, known: VERSION }),
    }
    file.check_pages(&connection)?;
    file.check_identity(&connection, identity)?;
    let contents = file.load(&connection)?;
    Ok((connection, contents))
}

/// The file under examination; turns SQLite's errors into ours.
struct File<'a> {
    path: &'a Path,
}

impl File<'_> {
    fn check<T>(&self, result: rusqlite::Result<T>) -> Result<T, LogError> {
        let path = self.path.into();
        result.map_err(|source| match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                LogError::Damaged { path, detail: source.to_string() }
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => LogError::InUse { path },
            _ => LogError::Database { path, source },
        })
    }

    fn damaged<T>(&self, detail: impl Into<String>) -> Result<T, LogError> {
        Err(LogError::Damaged { path: self.path.into(), detail: detail.into() })
    }

    fn configure(&self, connection: &Connection) -> Result<(), LogError> {
        self.check(connection.busy_timeout(LOCK_WAIT))?;
        for (pragma, value) in
            [("locking_mode", "EXCLUSIVE"), ("journal_mode", "WAL"), ("synchronous", "FULL")]
        {
            self.check(connection.pragma_update(None, pragma, value))?;
        }
        Ok(())
    }

    fn version(&self, connection: &Connection) -> Result<i64, LogError> {
        self.check(connection.pragma_query_value(None, "user_version", |row| row.get(0)))
    }

    /// Tables, identity and version in one transaction: a file is either empty or complete.
    fn make(&self, connection: &mut Connection, identity: Identity) -> Result<(), LogError> {
        let transaction = self.check(connection.transaction())?;
        self.check(transaction.execute_batch(TABLES))?;
        self.check(transaction.execute(
            "INSERT INTO identity VALUES (1, ?1, ?2, ?3)",
            params![
                identity.cluster.to_string(),
                as_integer(identity.raft_id.0),
                identity.storage.to_string()
            ],
        ))?;
        self.check(transaction.pragma_update(None, "user_version", VERSION))?;
        self.check(transaction.commit())
    }

    fn check_pages(&self, connection: &Connection) -> Result<(), LogError> {
        let verdict: String =
            self.check(connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)))?;
        if verdict == "ok" { Ok(()) } else { self.damaged(verdict.replace('\n', " ")) }
    }

    fn check_identity(&self, connection: &Connection, ours: Identity) -> Result<(), LogError> {
        let row = connection
            .query_row("SELECT cluster, raft_id, storage FROM identity", [], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?, row.get::<_, String>(2)?))
            })
            .optional();
        let Some((cluster, raft_id, storage)) = self.check(row)? else {
            return self.damaged("it does not say whose it is");
        };
        let found = describe(&cluster, raft_id, &storage);
        let expected = describe(
            &ours.cluster.to_string(),
            as_integer(ours.raft_id.0),
            &ours.storage.to_string(),
        );
        if found == expected {
            return Ok(());
        }
        Err(LogError::Foreign { path: self.path.into(), found, expected })
    }

    fn load(&self, connection: &Connection) -> Result<Contents, LogError> {
        Ok(Contents {
            vote: self.mark(connection, "vote")?,
            committed: self.mark::<Option<LogId>>(connection, "committed")?.flatten(),
            purged: self.mark(connection, "purged")?,
            entries: self.entries(connection)?,
            snapshot: self.snapshot(connection)?,
        })
    }

    fn parse<T: DeserializeOwned>(&self, what: &str, text: &str) -> Result<T, LogError> {
        serde_json::from_str(text)
            .or_else(|error| self.damaged(format!("its {what} cannot be read: {error}")))
    }

    fn mark<T: DeserializeOwned>(
        &self,
        connection: &Connection,
        name: &str,
    ) -> Result<Option<T>, LogError> {
        let value = connection
            .query_row("SELECT value FROM mark WHERE name = ?1", [name], |row| {
                row.get::<_, String>(0)
            })
            .optional();
        self.check(value)?.map(|text| self.parse(name, &text)).transpose()
    }

    fn entries(&self, connection: &Connection) -> Result<BTreeMap<u64, Entry>, LogError> {
        let mut statement = self.check(connection.prepare("SELECT at, entry FROM log"))?;
        let rows = statement.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get(1)?)));
        let mut entries = BTreeMap::new();
        for row in self.check(rows)? {
            let (at, text): (i64, String) = self.check(row)?;
            let entry: Entry = self.parse(&format!("entry {at}"), &text)?;
            if as_integer(entry.log_id.index) != at {
                return self.damaged(format!("entry {at} says it is {}", entry.log_id.index));
            }
            entries.insert(entry.log_id.index, entry);
        }
        self.check_consecutive(&entries)?;
        Ok(entries)
    }

    /// A hole would mean that part of the log is lost.
    fn check_consecutive(&self, entries: &BTreeMap<u64, Entry>) -> Result<(), LogError> {
        let mut before: Option<u64> = None;
        for &at in entries.keys() {
            if before.is_some_and(|before| before + 1 != at) {
                return self.damaged(format!("entries are missing before entry {at}"));
            }
            before = Some(at);
        }
        Ok(())
    }

    fn snapshot(&self, connection: &Connection) -> Result<Option<Snapshot>, LogError> {
        let row = connection
            .query_row("SELECT meta, state FROM snapshot", [], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
            })
            .optional();
        let Some((meta, state)) = self.check(row)? else { return Ok(None) };
        Ok(Some(Snapshot {
            meta: self.parse("snapshot", &meta)?,
            snapshot: self.parse("snapshot", &state)?,
        }))
    }
}

fn describe(cluster: &str, raft_id: i64, storage: &str) -> String {
    format!("member {raft_id} of cluster {cluster} on storage {storage}")
}

/// SQLite's integers are signed; the numbers keep their order and their identity.
pub(super) fn as_integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
