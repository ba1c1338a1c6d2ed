//! The one thread that writes `cluster.db`.
//!
//! Changes wait in a queue; the thread takes all that are waiting, makes them in one transaction,
//! and reports each as done *after* the commit returned. So many changes share one `fsync`, their
//! order is the order in which they were queued, and a vote can never overtake an entry.
//!
//! A full disk holds everything up: the transaction is rolled back, so nothing is half applied, and the same
//! changes are made again until there is room. Any other failure is final: every change from then on fails
//! with the same error. Writing on after a failed write would leave a hole in the log.
//!
//! Whether the disk takes anything is published ([`Disk`]) from the start: the first thing the thread does is
//! to write. While nothing is to be written it looks whether there is room, and if there is as good as none it
//! tries, so that others learn of it before they count on this node, not when it does not do what it was given.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use nix::sys::statvfs::statvfs;
use rusqlite::{CachedStatement, Connection, ErrorCode, Transaction, params};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use vedette_core::self_status::Disk;

use super::schema::as_integer;
use super::types::Snapshot;

/// Changes that may wait. More than one batch, so that the thread never idles while a leader
/// appends; few enough that memory is bounded by some thousand entries.
const QUEUE: usize = 1_024;

/// Most changes in one transaction: keeps the longest wait for an `fsync` short.
const BATCH: usize = 256;

/// The commit mark is written with the next change, or after this time without one. It only spares
/// a restarted member from waiting for the leader, so it is not worth an `fsync` of its own.
const MARK_DELAY: Duration = Duration::from_millis(200);

/// How often it is tried to write to a disk that is full.
const TRY_AGAIN: Duration = Duration::from_millis(250);

/// Between two looks of an idle writer at the room on its disk.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// An input or output error on a disk with less room than this is one for want of room: what SQLite keeps
/// beside the database cannot grow either.
const NO_ROOM: u64 = 256 << 10;

/// One change of the database.
pub(super) enum Change {
    /// The vote, as JSON.
    Vote(String),
    /// Entries, as index and JSON.
    Append(Vec<(u64, String)>),
    /// All entries from this index on are gone.
    Truncate(u64),
    /// All entries up to this index are gone; the position of the last as JSON.
    Purge(u64, String),
    /// The commit mark, as JSON.
    Committed(String),
    /// The newest snapshot.
    Snapshot(Box<Snapshot>),
    /// The last change of all: close the database.
    Close,
}

/// Called when a change is on disk, or will never be.
pub(super) type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

struct Job {
    change: Change,
    done: Done,
    _place: OwnedSemaphorePermit,
}

/// The sending side of the queue.
#[derive(Clone)]
pub(super) struct Writer {
    jobs: Sender<Job>,
    places: Arc<Semaphore>,
    disk: watch::Receiver<Disk>,
}

impl Writer {
    /// Starts the thread; it ends when the last `Writer` is dropped or after [`Change::Close`].
    pub(super) fn start(connection: Connection, path: &Path) -> io::Result<Self> {
        let (jobs, queue) = channel();
        let places = Arc::new(Semaphore::new(QUEUE));
        let (tell, disk) = watch::channel(Disk::default());
        let senders = Arc::downgrade(&places);
        let worker = Worker { connection, path: path.into(), mark: None, disk: tell, senders };
        thread::Builder::new().name("cluster.db".into()).spawn(move || worker.run(&queue))?;
        Ok(Self { jobs, places, disk })
    }

    /// Whether the disk takes what is written, followed as that changes.
    pub(super) fn disk(&self) -> watch::Receiver<Disk> {
        self.disk.clone()
    }

    /// Has the thread try no more to write to a full disk: what waits fails.
    pub(super) fn give_up(&self) {
        self.places.close();
    }

    /// Queues a change, waiting for a place in the queue if it is full.
    pub(super) async fn queue(&self, change: Change, done: Done) -> io::Result<()> {
        let place = self.places.clone().acquire_owned().await.map_err(|_| closed())?;
        self.jobs.send(Job { change, done, _place: place }).map_err(|_| closed())
    }

    /// Queues a change and waits until it is on disk.
    pub(super) async fn write(&self, change: Change) -> io::Result<()> {
        let (sender, receiver) = oneshot::channel();
        let done: Done = Box::new(move |result| {
            let _ = sender.send(result);
        });
        self.queue(change, done).await?;
        receiver.await.map_err(|_| closed())?
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the log's database is closed")
}

struct Worker {
    connection: Connection,
    path: PathBuf,
    /// A commit mark that is not on disk yet.
    mark: Option<String>,
    disk: watch::Sender<Disk>,
    /// Whether anybody sends changes still.
    senders: Weak<Semaphore>,
}

impl Worker {
    fn run(mut self, queue: &Receiver<Job>) {
        let mut failure = self.insist(Self::probe).err();
        while let Some(batch) = self.next_batch(queue) {
            let closing = batch.iter().any(|job| matches!(job.change, Change::Close));
            let result = match &failure {
                Some(failure) => Err(failure.error()),
                None => self.insist(|worker| worker.commit(&batch)).map_err(|found| {
                    let error = found.error();
                    failure = Some(found);
                    error
                }),
            };
            if closing {
                // Closed before the closer is told, so that the file can be opened again at once.
                drop(self);
                report(batch, &result);
                return;
            }
            report(batch, &result);
        }
        if failure.is_none() && self.mark.is_some() && self.commit(&[]).is_err() {
            tracing::debug!("the last commit mark was not written");
        }
    }

    /// Writes until it is written, as long as nothing but room is missing.
    fn insist(
        &mut self,
        mut write: impl FnMut(&mut Self) -> rusqlite::Result<()>,
    ) -> Result<(), Failure> {
        loop {
            let Err(error) = write(self) else {
                if let Disk::Refuses(_) = self.disk.send_replace(Disk::Takes) {
                    tracing::info!("the disk takes entries of the log again");
                }
                return Ok(());
            };
            let found = Failure::new(&self.path, &error);
            let refuses = Disk::Refuses(found.text.clone());
            if self.disk.send_replace(refuses.clone()) != refuses {
                tracing::error!(error = %found.error(), "the log cannot be written");
            }
            let wanted = self.senders.upgrade().is_some_and(|places| !places.is_closed());
            if found.kind != io::ErrorKind::StorageFull || !wanted {
                return Err(found);
            }
            thread::sleep(TRY_AGAIN);
        }
    }

    /// Shows that the disk takes what is written.
    fn probe(&mut self) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        set_mark(&transaction, "opened", "")?;
        transaction.commit()
    }

    /// The jobs that wait now, or the next one to come; empty if none came, and the commit mark is to be written or
    /// the disk to be tried.
    fn next_batch(&self, queue: &Receiver<Job>) -> Option<Vec<Job>> {
        let patience = if self.mark.is_some() { MARK_DELAY } else { LOOK_EVERY };
        let first = loop {
            match queue.recv_timeout(patience) {
                Ok(job) => break job,
                Err(RecvTimeoutError::Timeout) if self.mark.is_none() && !is_full(&self.path) => {}
                Err(RecvTimeoutError::Timeout) => return Some(Vec::new()),
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        };
        let mut batch = vec![first];
        batch.extend(queue.try_iter().take(BATCH - 1));
        Some(batch)
    }

    /// All changes of a batch in one transaction. A batch of nothing but a commit mark waits.
    fn commit(&mut self, batch: &[Job]) -> rusqlite::Result<()> {
        for job in batch {
            if let Change::Committed(mark) = &job.change {
                self.mark = Some(mark.clone());
            }
        }
        let only_marks = batch.iter().all(|job| matches!(job.change, Change::Committed(_)));
        if only_marks && !batch.is_empty() {
            return Ok(());
        }
        if batch.is_empty() && self.mark.is_none() {
            return self.probe();
        }
        let transaction = self.connection.transaction()?;
        for job in batch {
            apply(&transaction, &job.change)?;
        }
        if let Some(mark) = &self.mark {
            set_mark(&transaction, "committed", mark)?;
        }
        transaction.commit()?;
        self.mark = None;
        Ok(())
    }
}

fn report(batch: Vec<Job>, result: &io::Result<()>) {
    for job in batch {
        (job.done)(match result {
            Ok(()) => Ok(()),
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        });
    }
}

fn apply(transaction: &Transaction<'_>, change: &Change) -> rusqlite::Result<()> {
    match change {
        Change::Vote(vote) => set_mark(transaction, "vote", vote),
        Change::Append(entries) => append(transaction, entries),
        Change::Truncate(from) => {
            cached(transaction, "DELETE FROM log WHERE at >= ?1")?.execute([as_integer(*from)])?;
            Ok(())
        }
        Change::Purge(upto, position) => {
            cached(transaction, "DELETE FROM log WHERE at <= ?1")?.execute([as_integer(*upto)])?;
            set_mark(transaction, "purged", position)
        }
        Change::Snapshot(snapshot) => save_snapshot(transaction, snapshot),
        Change::Committed(_) | Change::Close => Ok(()),
    }
}

fn cached<'a>(
    transaction: &'a Transaction<'_>,
    sql: &str,
) -> rusqlite::Result<CachedStatement<'a>> {
    transaction.prepare_cached(sql)
}

fn set_mark(transaction: &Transaction<'_>, name: &str, value: &str) -> rusqlite::Result<()> {
    cached(
        transaction,
        "INSERT INTO mark VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
    )?
    .execute([name, value])?;
    Ok(())
}

fn append(transaction: &Transaction<'_>, entries: &[(u64, String)]) -> rusqlite::Result<()> {
    let mut insert = cached(transaction, "INSERT OR REPLACE INTO log VALUES (?1, ?2)")?;
    for (at, entry) in entries {
        insert.execute(params![as_integer(*at), entry])?;
    }
    Ok(())
}

fn save_snapshot(transaction: &Transaction<'_>, snapshot: &Snapshot) -> rusqlite::Result<()> {
    let json = |error: serde_json::Error| rusqlite::Error::ToSqlConversionFailure(error.into());
    let meta = serde_json::to_string(&snapshot.meta).map_err(json)?;
    let state = serde_json::to_string(&*snapshot.snapshot).map_err(json)?;
    cached(transaction, "INSERT OR REPLACE INTO snapshot VALUES (1, ?1, ?2)")?
        .execute([meta, state])?;
    Ok(())
}

/// Why nothing is written any more.
struct Failure {
    kind: io::ErrorKind,
    text: String,
}

impl Failure {
    fn new(path: &Path, error: &rusqlite::Error) -> Self {
        let code = match error.sqlite_error_code() {
            Some(ErrorCode::SystemIoFailure) if is_full(path) => Some(ErrorCode::DiskFull),
            code => code,
        };
        let path = path.display();
        match code {
            Some(ErrorCode::DiskFull) => Self {
                kind: io::ErrorKind::StorageFull,
                text: format!(
                    "the disk with {path} is full. Free some space, and the log goes on; nothing that \
                     was acknowledged is lost."
                ),
            },
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self {
                kind: io::ErrorKind::InvalidData,
                text: format!(
                    "{path} is damaged: {error}. Delete this node on another member and join again."
                ),
            },
            _ => Self {
                kind: io::ErrorKind::Other,
                text: format!("{path} cannot be written: {error}. Check the disk, then restart."),
            },
        }
    }

    fn error(&self) -> io::Error {
        io::Error::new(self.kind, self.text.clone())
    }
}

/// Whether there is as good as no room for a file.
fn is_full(path: &Path) -> bool {
    let folder = path.parent().unwrap_or(path);
    statvfs(folder)
        .is_ok_and(|found| found.blocks_available().saturating_mul(found.fragment_size()) < NO_ROOM)
}
