//! Setting a damaged history aside: a new file takes its place, and its records are fetched from the
//! other nodes.
//!
//! The intuition: every member holds the same records, so a damaged file is no loss as long as there
//! is another member, and no reason not to start. It is kept under another name for the audit. What
//! the others do not have is how far the readers of *this* node have come (the cursors): they are
//! read from the damaged file as far as possible. A reader whose cursor is lost goes on behind the
//! [`FLOOR`], the last record that the old file is known to have had, so that nobody is told again of
//! everything that ever happened.
//!
//! Only damage is set aside. A file of something else, of a newer version, or one that cannot be
//! opened is refused as ever: that is an operator's mistake, and not the disk's.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use vedette_core::time::WallTime;

use super::{History, HistoryError, journal, schema};

/// Name of the cursor of all readers that have none of their own. It is nobody's name.
pub(super) const FLOOR: &str = "";

/// Files of a database besides the one that has its name.
const COMPANIONS: [&str; 2] = ["-wal", "-shm"];

/// A damaged history that was set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    /// Where it is now; its `-wal` and `-shm` files are beside it.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: String,
    /// The last record that it is known to have had; 0 if none is known.
    pub last: u64,
    /// How far its readers had come, as far as that could be read.
    pub cursors: BTreeMap<String, u64>,
    /// Local records in it of which nobody else was told, if that could be read.
    pub untold: Option<u64>,
}

impl fmt::Display for SetAside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the history was damaged ({}) and is set aside as {}; its records are fetched from the \
             other nodes, {}. Check this node's disk, and remove that file when the audit needs it no \
             more",
            self.why,
            self.path.display(),
            match self.untold {
                Some(0) => "and nothing is in that file alone".to_owned(),
                Some(1) => "but 1 local record is in that file alone".to_owned(),
                Some(more) => format!("but {more} local records are in that file alone"),
                None => "but the latest local records may be in that file alone".to_owned(),
            }
        )
    }
}

impl History {
    /// Opens the history as [`History::open`] does. A damaged one is set aside, and a new one begins:
    /// only for a node whose records others have as well. `now` goes into the name of what is set
    /// aside; `told` is the last record of which this node is known to have told somebody, or 0.
    ///
    /// # Errors
    /// Anything but damage, or the damaged files cannot be renamed.
    pub fn open_or_set_aside(
        path: impl AsRef<Path>,
        now: WallTime,
        told: u64,
    ) -> Result<(Self, Option<SetAside>), HistoryError> {
        let path = path.as_ref();
        let why = match Self::open(path) {
            Err(HistoryError::Corrupt { why, .. }) => why,
            // Damage can also be met on the way, as when the last record is looked for.
            Err(HistoryError::Database(error)) if is_damage(&error) => error.to_string(),
            opened => return opened.map(|history| (history, None)),
        };
        let (last, cursors, untold) = salvage(path);
        let last = last.max(told);
        let set_aside = SetAside { path: rename(path, now)?, why, last, cursors, untold };
        begin(path, &set_aside)?;
        Ok((Self::open(path)?, Some(set_aside)))
    }

    /// The last record of a history that was set aside; 0 if none was. Records up to it are not
    /// news, although they come from other nodes now.
    pub fn floor(&self) -> u64 {
        self.shared.cursor(FLOOR)
    }
}

fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
}

/// Reads from a damaged file what can be read: its last record, its cursors, and how many local records
/// were not accounted for.
fn salvage(path: &Path) -> (u64, BTreeMap<String, u64>, Option<u64>) {
    let Ok(connection) = schema::open_reader(path) else { return (0, BTreeMap::new(), None) };
    let last: Option<i64> =
        connection.query_row("SELECT max(seq) FROM record", [], |row| row.get(0)).ok().flatten();
    let cursors = cursors(&connection);
    // A cursor stands at a record that was there.
    let of_records = cursors.iter().filter(|(name, _)| !name.starts_with("journal."));
    let furthest = of_records.map(|(_, seq)| *seq).max().unwrap_or(0);
    let last = last.and_then(|last| u64::try_from(last).ok()).unwrap_or(0);
    (last.max(furthest), cursors, journal::untold(&connection).ok())
}

/// The cursors up to the first that cannot be read.
fn cursors(connection: &Connection) -> BTreeMap<String, u64> {
    let Ok(mut statement) = connection.prepare("SELECT name, seq FROM cursor") else {
        return BTreeMap::new();
    };
    let Ok(rows) = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?))) else {
        return BTreeMap::new();
    };
    rows.map_while(Result::ok)
        .filter_map(|(name, seq)| Some((name, u64::try_from(seq).ok()?)))
        .collect()
}

/// Gives the files names that say what they are and since when: where the history is now.
fn rename(path: &Path, now: WallTime) -> Result<PathBuf, HistoryError> {
    let time: String = now.to_string().chars().filter(|c| !matches!(c, '-' | ':')).collect();
    let time = time.split('.').next().unwrap_or_default();
    let aside = (1..)
        .map(|n| match n {
            1 => with_suffix(path, &format!(".damaged-{time}Z")),
            n => with_suffix(path, &format!(".damaged-{time}Z-{n}")),
        })
        .find(|aside| !aside.exists())
        .unwrap_or_default();
    // The database last: without it, nobody would look for the others.
    for companion in COMPANIONS {
        let from = with_suffix(path, companion);
        if from.exists() {
            std::fs::rename(from, with_suffix(&aside, companion))?;
        }
    }
    std::fs::rename(path, &aside)?;
    Ok(aside)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Makes the new file, with the cursors in it before anybody reads.
fn begin(path: &Path, old: &SetAside) -> Result<(), HistoryError> {
    let connection = schema::open_writer(path)?;
    let mut insert = connection.prepare("INSERT OR REPLACE INTO cursor VALUES (?1, ?2)")?;
    let floor = std::iter::once((FLOOR, old.last));
    let cursors = old.cursors.iter().map(|(name, seq)| (name.as_str(), *seq));
    for (name, seq) in cursors.chain(floor) {
        insert.execute((name, i64::try_from(seq).unwrap_or(i64::MAX)))?;
    }
    Ok(())
}
