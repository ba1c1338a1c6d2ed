//! The log as openraft sees it: entries and vote, readable at once and on disk soon.
//!
//! All entries that were not purged are also in memory. They are few (a snapshot is taken every few
//! thousand) and it makes reading independent of the disk: replication never waits behind an
//! `fsync`, and an entry that is queued but not written yet can already be read, as openraft
//! demands. The database is read once, when it is opened.
//!
//! Memory changes first and the queue second, under no common lock: openraft makes one change at a
//! time, and readers only ever see more than the disk has, never less.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::BoxFuture;
use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use openraft_rt_tokio::TokioRuntime;
use serde::Serialize;
use tokio::sync::watch;
use vedette_core::self_status::Disk;

use super::machine::Snapshots;
use super::schema::{self, Contents, Identity, LogError};
use super::types::{Entry, LogId, Snapshot, Types, Vote};
use super::writer::{Change, Writer};

type Raft = Types<TokioRuntime>;

/// The log in `cluster.db`; clones share it.
#[derive(Clone)]
pub struct Store {
    memory: Arc<Mutex<Contents>>,
    writer: Writer,
}

impl Store {
    /// Opens the database (see [`LogError`] for what is refused). Blocks on the disk.
    pub fn open(path: &Path, identity: Identity, create: bool) -> Result<Self, LogError> {
        let (connection, contents) = schema::open(path, identity, create)?;
        let writer = Writer::start(connection, path)
            .map_err(|error| LogError::Core(format!("no thread for the database: {error}")))?;
        Ok(Self { memory: Arc::new(Mutex::new(contents)), writer })
    }

    /// Index of the last entry, if there is any, counting those that only the snapshot has.
    pub(super) fn last(&self) -> u64 {
        let memory = self.memory();
        let entry = memory.entries.keys().next_back().copied();
        let snapshot = memory.snapshot.as_ref().and_then(|snapshot| snapshot.meta.last_log_id);
        let purged = memory.purged.max(snapshot).map_or(0, |id| id.index);
        entry.unwrap_or(0).max(purged)
    }

    /// Writes what is queued and closes the database. What a full disk does not take is given up.
    pub async fn close(&self) -> io::Result<()> {
        let close = self.writer.write(Change::Close);
        let refused = async {
            let mut disk = self.writer.disk();
            let _ = disk.wait_for(|disk| matches!(disk, Disk::Refuses(_))).await;
        };
        tokio::pin!(close);
        tokio::select! {
            biased;
            closed = &mut close => closed,
            () = refused => {
                self.writer.give_up();
                close.await
            }
        }
    }

    /// Whether the disk takes changes, followed as that changes.
    pub(super) fn disk(&self) -> watch::Receiver<Disk> {
        self.writer.disk()
    }

    /// Memory stays consistent even if a holder of the lock panicked: every change is one call.
    fn memory(&self) -> MutexGuard<'_, Contents> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn json(value: &impl Serialize) -> io::Result<String> {
    serde_json::to_string(value).map_err(io::Error::other)
}

impl RaftLogReader<Raft> for Store {
    async fn try_get_log_entries<B: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: B,
    ) -> Result<Vec<Entry>, io::Error> {
        Ok(self.memory().entries.range(range).map(|(_, entry)| entry.clone()).collect())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.memory().vote)
    }
}

impl RaftLogStorage<Raft> for Store {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Raft>, io::Error> {
        let memory = self.memory();
        let last = memory.entries.values().next_back().map(RaftEntry::log_id);
        Ok(LogState { last_purged_log_id: memory.purged, last_log_id: last.or(memory.purged) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.memory().vote = Some(*vote);
        self.writer.write(Change::Vote(json(vote)?)).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.memory().committed = committed;
        self.writer.queue(Change::Committed(json(&committed)?), Box::new(|_| ())).await
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.memory().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Raft>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: BTreeMap<u64, Entry> =
            entries.into_iter().map(|entry| (entry.index(), entry)).collect();
        let rows = entries
            .iter()
            .map(|(&at, entry)| Ok((at, json(entry)?)))
            .collect::<io::Result<Vec<_>>>()?;
        self.memory().entries.extend(entries);
        let done = Box::new(move |result| callback.io_completed(result));
        self.writer.queue(Change::Append(rows), done).await
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let from = last.map_or(0, |last| last.index + 1);
        self.memory().entries.split_off(&from);
        self.writer.write(Change::Truncate(from)).await
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        {
            let mut memory = self.memory();
            memory.entries = memory.entries.split_off(&(upto.index + 1));
            memory.purged = Some(upto);
        }
        // Not waited for: a crash before it is written leaves some entries too many.
        self.writer.queue(Change::Purge(upto.index, json(&upto)?), Box::new(|_| ())).await
    }
}

impl Snapshots for Store {
    fn save(&self, snapshot: Snapshot) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move {
            self.writer.write(Change::Snapshot(Box::new(snapshot.clone()))).await?;
            self.memory().snapshot = Some(snapshot);
            Ok(())
        })
    }

    fn newest(&self) -> Option<Snapshot> {
        self.memory().snapshot.clone()
    }
}
