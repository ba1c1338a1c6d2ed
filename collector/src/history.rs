//! The event history: every record of the cluster in one SQLite file, durable before announced.
//!
//! Intuition: the replicated log decides *what* happened, and every node makes the same records
//! from it. The history is where a node keeps them for good, in order, so that months later
//! somebody can ask what happened and be sure that the answer was not touched up.
//!
//! ```text
//!  append ──▶ Inbox (memory, bounded) ──▶ writer thread ──▶ SQLite ──▶ durable() announces
//!               │ checks the chain            ≤ 1,000 rows a commit       │
//!               └ aside: after a gap                       readers ◀──────┘ own connections
//! ```
//!
//! Invariants:
//!
//! - Nothing is announced by [`History::durable`] that a loss of power could take back
//!   (WAL with `synchronous=FULL`, announced after the commit).
//! - Sequence numbers in the file have no gap, and each row's hash covers the row and the hash
//!   before it. A record that does not continue the chain is never written.
//! - Rows are never updated or deleted; triggers refuse it. Somebody who drops the triggers is
//!   found by [`History::verify`]; somebody who rewrites everything from some row on is found by
//!   comparing heads with another node ([`History::agrees_with`]). Tamper-evident, not -proof.
//! - An appender never waits for the disk. When the disk is full or broken, records wait in
//!   memory (at most [`MOST_WAITING`]); past that they are refused, which later shows as a
//!   [`Gap`] that is filled from a peer with [`History::import`].

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use serde::Serialize;
use tokio::sync::watch;
use vedette_core::id::Hash;
use vedette_core::local::{Draft, LocalRecord, Stamp};
use vedette_core::local_view::JournalHealth;
use vedette_core::model::Severity;
use vedette_core::record::{Code, Record};
use vedette_core::time::WallTime;

mod export;
mod inbox;
mod journal;
mod read;
mod row;
mod schema;
mod set_aside;
mod tail;
mod verify;
mod writer;

pub use export::{Format, Line, verify_export};
pub use inbox::{MOST_ASIDE, MOST_WAITING};
pub use journal::MOST_PENDING;
pub use set_aside::SetAside;
pub use verify::{Fault, FaultKind, Verification, verify_offline};
pub use writer::MOST_IN_A_COMMIT;

/// Why the history could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The file could not be opened or made.
    #[error("the history {path} cannot be opened: {why}. Check that the directory exists and \
             that this user may write there", path = path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// The file is a SQLite database of something else.
    #[error("{path} is not an event history (application id {found:#x}). Give another file",
            path = path.display())]
    NotHistory {
        /// The file.
        path: PathBuf,
        /// Its application id.
        found: i64,
    },
    /// A newer version of the product wrote the file.
    #[error("the history {path} has format {found}, and this version knows formats up to {known}. \
             Install the version that wrote it, or a newer one", path = path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// The newest format that is known here.
        known: i64,
    },
    /// The file is damaged.
    #[error("the history {path} is damaged: {why}. Stop the daemon, keep a copy of the file for \
             the audit, move it and its -wal and -shm files away, and start again: the records \
             are then fetched from the other nodes", path = path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What was found.
        why: String,
    },
    /// A record that is there already came again with other content.
    #[error(
        "record {seq} here has hash {ours}, but {theirs} was given: this node's history and \
             the cluster's have parted. Run `vedette history verify` here and on another node, \
             and rebuild the history of the node that fails"
    )]
    Diverged {
        /// Which record.
        seq: u64,
        /// The hash in this history.
        ours: Hash,
        /// The hash that was given.
        theirs: Hash,
    },
    /// A new record does not continue the chain.
    #[error(
        "record {seq} carries hash {found}, but its content after the record before gives \
             {expected}: it was altered, or belongs to another history. Fetch it again from \
             another node"
    )]
    BrokenChain {
        /// Which record.
        seq: u64,
        /// The hash that it would have to carry.
        expected: Hash,
        /// The hash that it carries.
        found: Hash,
    },
    /// A row that must be there is not.
    #[error(
        "record {0} is missing from the history's file although it was written. Run \
             `vedette history verify`, then rebuild this node's history"
    )]
    Missing(u64),
    /// A row cannot be understood.
    #[error(
        "record {seq} in the history's file cannot be read: {why}. Run `vedette history \
             verify`, then rebuild this node's history"
    )]
    BadRow {
        /// Which row.
        seq: i64,
        /// What is wrong with it.
        why: String,
    },
    /// SQLite refused.
    #[error("the history's database says: {0}")]
    Database(#[from] rusqlite::Error),
    /// Reading or writing something else than the database failed.
    #[error("reading or writing failed: {0}")]
    Io(#[from] std::io::Error),
}

/// The end of a chain: the last record's number and hash. Two histories with equal heads hold the
/// same records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Head {
    /// Sequence number of the last record, 0 if there is none.
    pub seq: u64,
    /// Its hash, all zero if there is none.
    pub hash: Hash,
}

impl Head {
    /// The head after `record`.
    pub fn of(record: &Record) -> Self {
        Self { seq: record.seq, hash: record.hash }
    }
}

/// Records are missing between `have` and `got`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// The last record before the gap.
    pub have: u64,
    /// The first known record after it.
    pub got: u64,
}

/// What became of the records given to [`History::append`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Appended {
    /// Records that continue the chain, with those that had waited aside for them.
    pub accepted: usize,
    /// Records that were there already, and are the same.
    pub duplicates: usize,
    /// Records that wait until a gap before them is filled.
    pub aside: usize,
    /// Records for which there was no room. They count as missing.
    pub refused: usize,
    /// What is missing now, if anything is.
    pub gap: Option<Gap>,
}

/// The disk does not take records; they wait in memory, and writing is tried every second.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stalled {
    /// Since when, microseconds since 1970.
    pub since: WallTime,
    /// What the database said.
    pub why: String,
    /// Records that wait.
    pub waiting: usize,
}

/// The state of the history, for surfaces and alarms.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Health {
    /// The disk does not take records.
    pub stalled: Option<Stalled>,
    /// Records are missing, and must be fetched from a peer.
    pub gap: Option<Gap>,
    /// Sentence about records that contradict this history. It stays until a restart.
    pub diverged: Option<String>,
    /// Records refused for want of room since the start.
    pub refused: u64,
}

impl Health {
    /// Whether nothing is wrong.
    pub fn good(&self) -> bool {
        self.stalled.is_none() && self.gap.is_none() && self.diverged.is_none()
    }
}

/// How a peer's head compares with this history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Agreement {
    /// The peer's last record is here, with the same hash: all up to it is the same.
    Same,
    /// The peer has records that are not here; nothing can be said before they come.
    PeerIsAhead,
    /// The record with that number is another one here.
    Diverged {
        /// The hash here.
        ours: Hash,
    },
}

/// Which records to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// Those after this sequence number, oldest first.
    After(u64),
    /// Those before this sequence number, newest first.
    Before(u64),
}

/// What the records must be like; all conditions that are given hold together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// At least as bad as this.
    pub severity: Option<Severity>,
    /// With this code.
    pub code: Option<Code>,
    /// About a subject of this kind, spelt as `Subject::kind`.
    pub kind: Option<String>,
    /// Not earlier than this.
    pub since: Option<WallTime>,
    /// Earlier than this.
    pub until: Option<WallTime>,
    /// Of the incident that began at this log index.
    pub incident: Option<u64>,
}

/// An open history: one writer thread, and connections for readers.
pub struct History {
    shared: Arc<inbox::Shared>,
    readers: read::Readers,
    writer: Option<JoinHandle<()>>,
}

impl History {
    /// Opens the history in the file `path`, which is made if it is not there. Checks the file,
    /// which takes about a second for each million records; call it from a blocking context.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, HistoryError> {
        let path = path.as_ref();
        let connection = schema::open_writer(path)?;
        let head = read::head(&connection)?;
        let cursors = read::cursors(&connection)?;
        journal::prune(&connection)?;
        let journal = journal::Journal::open(&connection, tail::Tail::read(path))?;
        let tail = tail::Tail::beside(path);
        tail.write(journal.id(), journal.health().last);
        let shared = Arc::new(inbox::Shared::new(head, cursors, journal));
        let readers = read::Readers::new(path);
        let for_writer = Arc::clone(&shared);
        let writer = std::thread::Builder::new()
            .name("history".into())
            .spawn(move || writer::run(connection, &tail, &for_writer))?;
        Ok(Self { shared, readers, writer: Some(writer) })
    }

    /// Hands records over; returns before they are durable. Records that are there already are
    /// ignored if they are the same. After a gap they wait aside until the missing ones come.
    ///
    /// An error concerns the first record that contradicts the chain; those before it are kept.
    pub fn append<R: Into<Arc<Record>>>(
        &self,
        records: impl IntoIterator<Item = R>,
    ) -> Result<Appended, HistoryError> {
        self.take(records, true)
    }

    /// Hands over records fetched from a peer to fill a gap. As [`append`](Self::append), but
    /// what does not continue this history is refused instead of waiting: a peer's answer is
    /// checked by its hashes and trusted no further.
    pub fn import<R: Into<Arc<Record>>>(
        &self,
        records: impl IntoIterator<Item = R>,
    ) -> Result<Appended, HistoryError> {
        self.take(records, false)
    }

    fn take<R: Into<Arc<Record>>>(
        &self,
        records: impl IntoIterator<Item = R>,
        aside: bool,
    ) -> Result<Appended, HistoryError> {
        let records = records.into_iter().map(Into::into);
        let (appended, known, error) = self.shared.accept(records, aside);
        let compared = read::compare(&self.readers, &known);
        if let Err(error) = error.map_or(compared, Err) {
            self.shared.complain(&error);
            return Err(error);
        }
        Ok(appended)
    }

    /// Announces the last record that is safe on disk, each time it moves.
    pub fn durable(&self) -> watch::Receiver<Head> {
        self.shared.durable.subscribe()
    }

    /// The last record that is safe on disk.
    pub fn head(&self) -> Head {
        *self.shared.durable.borrow()
    }

    /// Announces whether the history is well.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.shared.health.subscribe()
    }

    /// Writes a local record into this node's own journal. It is told at once and written with the next
    /// commit; a disk that takes nothing does not keep it from being told.
    pub fn note(&self, stamp: Stamp, content: Draft) -> Arc<LocalRecord> {
        self.shared.note(stamp, content)
    }

    /// Announces the number of the last local record.
    pub fn told(&self) -> watch::Receiver<u64> {
        self.shared.told.subscribe()
    }

    /// The id of this node's journal: numbers of entries count within it.
    pub fn journal_id(&self) -> u64 {
        self.shared.journal(journal::Journal::id)
    }

    /// The journal of which this node's journal became a branch in this run.
    pub fn journal_branch_of(&self) -> Option<u64> {
        self.shared.journal(journal::Journal::branch_of)
    }

    /// Set if the journal that the file had was changed or cut, so that this one began: how many of its
    /// entries nobody else has.
    pub fn journal_broken(&self) -> Option<u64> {
        self.shared.journal(journal::Journal::broken)
    }

    /// How many entries were told and are not in the file any more, if its end was missing when it was opened.
    pub fn journal_cut(&self) -> Option<u64> {
        self.shared.journal(journal::Journal::cut)
    }

    /// Conditions that earlier runs raised in this node's journal and that nobody cleared, oldest first.
    pub fn local_open(&self) -> Vec<Arc<LocalRecord>> {
        self.shared.journal(journal::Journal::open_conditions)
    }

    /// The number after which this node's journal begins.
    pub fn journal_begins_after(&self) -> u64 {
        self.shared.journal(journal::Journal::begins_after)
    }

    /// The cluster has taken entries up to `number` of this node's journal, and this run has given none yet.
    /// Answers whether the journal had lost its end, and goes on under another id.
    pub fn journal_branch(&self, number: u64) -> bool {
        self.shared.branch(number)
    }

    /// How this node's journal does.
    pub fn journal_health(&self) -> JournalHealth {
        self.shared.journal(journal::Journal::health)
    }

    /// The latest local records, oldest first, at most [`View::RECENT`](vedette_core::view::View::RECENT).
    pub fn local_recent(&self) -> Arc<[Arc<LocalRecord>]> {
        self.shared.journal(journal::Journal::recent)
    }

    /// Local records that are not in everybody's history yet, oldest first.
    pub fn local_pending(&self, most: usize) -> Vec<Arc<LocalRecord>> {
        self.shared.journal(|journal| journal.pending(most))
    }

    /// Local records up to `number` are in everybody's history.
    pub fn local_accounted(&self, number: u64) {
        self.shared.accounted(number);
    }

    /// Local records after `number` that are on disk, oldest first, at most `most`.
    pub fn local_after(&self, number: u64, most: usize) -> Result<Vec<LocalRecord>, HistoryError> {
        let id = self.journal_id();
        self.readers.with(|connection| journal::after(connection, id, number, most))
    }

    /// Durable records after `seq`, oldest first, at most `most`.
    pub fn after(&self, seq: u64, most: usize) -> Result<Vec<Record>, HistoryError> {
        self.query(Page::After(seq), most, &Filter::default())
    }

    /// Durable records before `seq`, newest first, at most `most`.
    pub fn before(&self, seq: u64, most: usize) -> Result<Vec<Record>, HistoryError> {
        self.query(Page::Before(seq), most, &Filter::default())
    }

    /// Durable records of one page that fulfil the filter.
    pub fn query(
        &self,
        page: Page,
        most: usize,
        filter: &Filter,
    ) -> Result<Vec<Record>, HistoryError> {
        self.readers.with(|connection| read::query(connection, page, most, filter))
    }

    /// Incidents with a number below `before`, the latest first, at most `most`.
    pub fn incidents(&self, before: u64, most: usize) -> Result<Vec<u64>, HistoryError> {
        self.readers.with(|connection| read::incidents(connection, before, most))
    }

    /// The hash of record `seq`, if it is here.
    pub fn hash_at(&self, seq: u64) -> Result<Option<Hash>, HistoryError> {
        if seq == 0 {
            return Ok(Some(Hash::default()));
        }
        self.readers.with(|connection| read::hash_at(connection, seq))
    }

    /// Compares a peer's head with this history: one value tells about all records up to it.
    pub fn agrees_with(&self, peer: Head) -> Result<Agreement, HistoryError> {
        Ok(match self.hash_at(peer.seq)? {
            None => Agreement::PeerIsAhead,
            Some(ours) if ours == peer.hash => Agreement::Same,
            Some(ours) => Agreement::Diverged { ours },
        })
    }

    /// Computes every hash anew and names the first row that is wrong, or a missing end.
    pub fn verify(&self) -> Result<Verification, HistoryError> {
        let announced = self.head();
        let mut verification = self.readers.with(verify::verify)?;
        verification.demand(announced);
        Ok(verification)
    }

    /// Writes the records after `after` (0 for all) to `out`; the lines are described at
    /// [`Line`]. Returns the head of what was written, or a head with seq `after` if nothing was.
    pub fn export(
        &self,
        after: u64,
        out: &mut dyn Write,
        format: Format,
    ) -> Result<Head, HistoryError> {
        self.readers.with(|connection| export::export(connection, after, out, format))
    }

    /// How far the reader called `name` has come, if it ever said.
    pub fn known_cursor(&self, name: &str) -> Option<u64> {
        self.shared.known_cursor(name)
    }

    /// How far the reader called `name` has come; 0 if it never said.
    pub fn cursor(&self, name: &str) -> u64 {
        self.shared.cursor(name)
    }

    /// Remembers how far the reader called `name` has come. It is on disk with the next commit; a
    /// crash before that makes the reader repeat a little, which is why deliveries are "at least
    /// once".
    pub fn set_cursor(&self, name: &str, seq: u64) {
        self.shared.set_cursor(name, seq);
    }
}

/// Writes what waits, if the disk takes it, and ends the writer.
impl Drop for History {
    fn drop(&mut self) {
        self.shared.stop();
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the history's writer ended in an unexpected way");
        }
    }
}
