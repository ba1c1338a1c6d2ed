//! The state machine: what the log's entries are applied to.
//!
//! The state lives in memory. After a restart it is made again from the newest snapshot and the
//! entries up to the last one known to be committed; only the snapshot is ever written. What is
//! applied is reported to [`Applied`], entry by entry and in order, *again* after a restart: whoever
//! keeps the records recognises them by their sequence number.
//!
//! A state that was handed out is never changed: `apply` copies it first if somebody still holds
//! it. An index is applied once; the answer to the proposer is given after `applied` returned, so
//! that a proposer who looks at what was published finds its own change there.

use std::io;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::{Stream, StreamExt};
use openraft::entry::RaftEntry;
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{AsyncRuntime, EntryPayload, OptionalSend, RaftSnapshotBuilder};
use vedette_core::record::Record;
use vedette_core::state::{ClusterState, Outcome};

use super::types::{Entry, LogId, Members, Snapshot, SnapshotMeta, Types};

/// Told of everything that is applied.
pub trait Applied: Send + Sync + 'static {
    /// The entry at `index` was applied; `state` is the state after it. Called for every entry, in
    /// order, also for those that changed nothing. The next entry waits until this returns.
    fn applied<'a>(
        &'a self,
        state: &'a Arc<ClusterState>,
        index: u64,
        records: Vec<Record>,
    ) -> BoxFuture<'a, ()>;

    /// The leader replaced the whole state. Records between the last one applied and `state.seq`
    /// are not in this node's log; they are to be fetched from another member.
    fn installed<'a>(&'a self, state: &'a Arc<ClusterState>) -> BoxFuture<'a, ()>;
}

/// Where the newest snapshot is kept.
pub trait Snapshots: Send + Sync + 'static {
    /// Keeps `snapshot` instead of the one before; it is on disk when this returns.
    fn save(&self, snapshot: Snapshot) -> BoxFuture<'_, io::Result<()>>;

    /// The newest one, if there is any.
    fn newest(&self) -> Option<Snapshot>;
}

/// The state, and how far the log was applied to it.
pub struct Machine {
    state: Arc<ClusterState>,
    last: Option<LogId>,
    members: Members,
    applied: Arc<dyn Applied>,
    snapshots: Arc<dyn Snapshots>,
}

/// Makes a snapshot of the moment at which it was created.
pub struct Photographer {
    snapshot: Snapshot,
    snapshots: Arc<dyn Snapshots>,
}

impl Machine {
    /// The state of the newest snapshot, or an empty one; `applied` is told of a snapshot.
    pub async fn open(applied: Arc<dyn Applied>, snapshots: Arc<dyn Snapshots>) -> Self {
        let mut machine = Self {
            state: Arc::default(),
            last: None,
            members: Members::default(),
            applied,
            snapshots,
        };
        if let Some(snapshot) = machine.snapshots.newest() {
            machine.adopt(&snapshot.meta, snapshot.snapshot).await;
        }
        machine
    }

    /// The state.
    pub fn state(&self) -> &Arc<ClusterState> {
        &self.state
    }

    /// Position of the last entry applied.
    pub fn last(&self) -> Option<LogId> {
        self.last
    }

    async fn adopt(&mut self, meta: &SnapshotMeta, state: Arc<ClusterState>) {
        self.state = state;
        self.last = meta.last_log_id;
        self.members = meta.last_membership.clone();
        self.applied.installed(&self.state).await;
    }

    async fn apply_one(&mut self, entry: Entry) -> Outcome {
        let position = entry.log_id();
        let index = position.index;
        self.last = Some(position);
        let (outcome, records) = match entry.payload {
            EntryPayload::Blank => (Outcome::Applied { index }, Vec::new()),
            EntryPayload::Membership(members) => {
                self.members = Members::new(Some(position), members);
                (Outcome::Applied { index }, Vec::new())
            }
            EntryPayload::Normal(proposal) => {
                let applied = Arc::make_mut(&mut self.state).apply(index, &proposal);
                (applied.outcome, applied.records)
            }
        };
        self.applied.applied(&self.state, index, records).await;
        outcome
    }

    fn photographer(&self) -> Photographer {
        let meta = SnapshotMeta { last_log_id: self.last, last_membership: self.members.clone() };
        Photographer {
            snapshot: Snapshot { meta, snapshot: self.state.clone() },
            snapshots: self.snapshots.clone(),
        }
    }
}

impl<R: AsyncRuntime> RaftStateMachine<Types<R>> for Machine {
    type SnapshotData = Arc<ClusterState>;
    type SnapshotBuilder = Photographer;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, Members), io::Error> {
        Ok((self.last, self.members.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Types<R>>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            let outcome = self.apply_one(entry).await;
            if let Some(responder) = responder {
                responder.send(outcome);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Photographer {
        self.photographer()
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Arc<ClusterState>,
    ) -> Result<(), io::Error> {
        let copy = Snapshot { meta: meta.clone(), snapshot: snapshot.clone() };
        self.snapshots.save(copy).await?;
        self.adopt(meta, snapshot).await;
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        Ok(self.snapshots.newest())
    }
}

impl<R: AsyncRuntime> RaftSnapshotBuilder<Types<R>> for Photographer {
    type SnapshotData = Arc<ClusterState>;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        self.snapshots.save(self.snapshot.clone()).await?;
        Ok(self.snapshot.clone())
    }
}
