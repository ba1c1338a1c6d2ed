//! The replicated log: the one order of commands on which all nodes agree.
//!
//! A [`Log`] is one member. It stores entries and its vote in `cluster.db`, applies committed
//! commands to the [`ClusterState`](vedette_core::state::ClusterState), and answers the other
//! members. Inside is the consensus library openraft; nothing outside this module names it, so that
//! another library could take its place.
//!
//! Voters decide, learners only follow; few members vote, all others learn. One member leads. What
//! is always true:
//!
//! - A proposal that was answered with an outcome is on the disks of a majority and applied here.
//! - Vote and entries are on disk before anybody is told of them; votes never overtake entries.
//! - At most one member leads in a term, and a leader whose majority fell silent accepts nothing.
//! - A member's name ([`RaftId`]) stands for one disk. A log that is missing or damaged is refused,
//!   never begun anew.
//! - A member whose log became shorter than what it acknowledged is recognised by what the others
//!   remember ([`Remembered`]), caught up like a new one, and counted for nothing meanwhile.
//! - A failed write stops the member for ever ([`Log::fatal`]); the process is to be restarted.

mod health;
mod machine;
mod network;
mod remembered;
mod replica;
mod schema;
mod store;
mod types;
mod wire;
mod writer;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use openraft::async_runtime::watch::WatchReceiver;
use openraft::{Instant as _, RaftMetrics};
use openraft_rt_tokio::TokioRuntime;
use tokio::sync::watch;
use tokio::time::Instant;
use vedette_core::command::Proposal;
use vedette_core::id::RaftId;
use vedette_core::model::Timing;
use vedette_core::state::Outcome;

use health::Proposals;
pub use health::{LogHealth, MemberHealth, Waiting};
pub use machine::{Applied, Machine, Photographer, Snapshots};
pub use network::{Client, Network, Transport, TransportError};
pub use remembered::{Remembered, Standings};
pub use replica::{
    FormError, MembershipError, ProposeError, Replica, ServeError, config as raft_config,
};
pub use schema::{Identity, LogError};
pub use store::Store;
pub use types::{Committed, Entry, LeaderId, LogId, Members, Payload, Snapshot, SnapshotMeta};
pub use types::{Types, Vote};
pub use vedette_core::self_status::Disk;
pub use wire::{
    Append, Appended, Ballot, Distrust, Install, RaftReply, RaftRpc, Transfer, Transferred, Voted,
};

/// What a member needs to know to start.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// The database, usually `cluster.db` in the state directory.
    pub path: PathBuf,
    /// Whose log it is; a database of anybody else is refused.
    pub identity: Identity,
    /// Heartbeat and election timeouts. A change takes effect when the log is opened again.
    pub timing: Timing,
    /// Whether the database may be made: true when a cluster is formed or joined, never later.
    pub create: bool,
}

/// Who leads, and how far the log is, as this member knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The leader.
    pub leader: Option<RaftId>,
    /// The term.
    pub term: u64,
    /// Whether this member leads.
    pub me: bool,
    /// Index of the last entry applied here; 0 if there is none.
    pub last_applied: u64,
    /// Index of the last entry known to be committed; 0 if there is none.
    pub committed: u64,
    /// Index of the last entry that only the snapshot has any more; 0 if there is none.
    pub purged: u64,
    /// When a majority last confirmed that this member leads.
    pub last_quorum_ack: Option<Instant>,
    /// Members that vote; in the middle of a change, those of both configurations.
    pub voters: BTreeSet<RaftId>,
    /// Members that only learn.
    pub learners: BTreeSet<RaftId>,
    /// Whether a change of the voters was left unfinished; [`Log::set_voters`] finishes it.
    pub joint: bool,
}

/// One member of the replicated log; clones share it.
#[derive(Clone)]
pub struct Log {
    replica: Arc<Replica<TokioRuntime>>,
    store: Store,
    leadership: watch::Receiver<Leadership>,
    fatal: watch::Receiver<Option<String>>,
    remembered: Remembered,
    health: watch::Receiver<LogHealth>,
    proposals: Proposals,
}

impl Log {
    /// Opens the log and starts the member. `applied` is told of the state again from the newest
    /// snapshot on.
    pub async fn open(
        config: LogConfig,
        transport: Arc<dyn Transport>,
        applied: Arc<dyn Applied>,
    ) -> Result<Self, LogError> {
        let LogConfig { path, identity, timing, create } = config;
        let settings = raft_config(&timing, &identity.cluster.to_string())?;
        let (store, remembered, memory) = tokio::task::spawn_blocking(move || {
            let store = Store::open(&path, identity, create)?;
            let memory = path.with_extension("memory.json");
            Ok::<_, LogError>((store, Remembered::read(&memory, identity), memory))
        })
        .await
        .map_err(|error| LogError::Core(error.to_string()))??;
        remembered.own_end(store.last());
        let me = identity.raft_id;
        let machine = Machine::open(applied, Arc::new(store.clone())).await;
        let network = Network::new(me, transport, remembered.clone(), &timing);
        let replica =
            Arc::new(Replica::start(me, settings, network, store.clone(), machine).await?);
        tokio::spawn(remembered.keep_written(memory, identity));
        tokio::spawn(compare_when_told(Arc::downgrade(&replica), remembered.clone()));
        let proposals = Proposals::default();
        let health = health::watch(&replica, &remembered, &proposals);
        let (leadership, fatal) = observe(&replica, &remembered);
        Ok(Self { replica, store, leadership, fatal, remembered, health, proposals })
    }

    /// Begins a new log with this member alone and applies the first command, which must be
    /// [`Command::Form`](vedette_core::command::Command::Form) with this member's id.
    pub async fn form(&self, proposal: Proposal) -> Result<Outcome, FormError> {
        self.replica.form(proposal).await
    }

    /// Proposes a command; the leader only. Answered when it is applied here.
    pub async fn propose(&self, proposal: Proposal) -> Result<Outcome, ProposeError> {
        let _waiting = self.waits();
        self.replica.propose(proposal).await
    }

    /// Counts as a proposal that waits until it is dropped: for whoever waits for a leader before
    /// it can propose.
    pub fn waits(&self) -> Waiting {
        self.proposals.waits()
    }

    /// Memory of what the members' logs had. Who hears of it in another way adds to it.
    pub fn remembered(&self) -> &Remembered {
        &self.remembered
    }

    /// Whose log is behind what it once was, followed as it changes: this node's own, and those of
    /// the members of which this node knows.
    pub fn standing(&self) -> watch::Receiver<Standings> {
        self.remembered.standings()
    }

    /// Progress of the log, followed as it changes; four times a second while something waits.
    pub fn health(&self) -> watch::Receiver<LogHealth> {
        self.health.clone()
    }

    /// Whether this node's disk takes entries, followed as that changes.
    pub fn disk(&self) -> watch::Receiver<Disk> {
        self.store.disk()
    }

    /// Who leads, followed as it changes.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    /// Answers a question of another member, whose identity the caller has checked.
    pub async fn serve(&self, rpc: RaftRpc) -> Result<RaftReply, ServeError> {
        self.replica.serve(rpc).await
    }

    /// Makes `member` a learner; done when it has nearly all of the log.
    pub async fn add_learner(&self, member: RaftId) -> Result<(), MembershipError> {
        self.replica.add_learner(member).await
    }

    /// Makes exactly `voters`, all of them learners or voters already, vote.
    pub async fn set_voters(&self, voters: BTreeSet<RaftId>) -> Result<(), MembershipError> {
        self.replica.set_voters(voters).await
    }

    /// Takes `member` out of the log for ever.
    pub async fn remove(&self, member: RaftId) -> Result<(), MembershipError> {
        self.replica.remove(member).await
    }

    /// Lets `member` lead; done when it does.
    pub async fn transfer_leader(&self, member: RaftId) -> Result<(), MembershipError> {
        self.replica.transfer_leader(member).await
    }

    /// Whether this member stands for election by itself. A transfer reaches it all the same.
    pub fn may_lead(&self, may: bool) {
        self.replica.may_lead(may);
    }

    /// Takes a snapshot now instead of after some thousand entries; done when it is on disk.
    pub async fn snapshot_now(&self) -> Result<(), ServeError> {
        self.replica.snapshot_now().await
    }

    /// Waits until this member stopped for ever, and says why. Then the process must end.
    pub async fn fatal(&self) -> String {
        let mut fatal = self.fatal.clone();
        let stopped = fatal.wait_for(Option::is_some).await;
        stopped.ok().and_then(|why| why.clone()).unwrap_or_else(|| "raft stopped".into())
    }

    /// Ends this member in good order: what is queued is written, the database is closed.
    pub async fn shutdown(&self) {
        self.replica.shutdown().await;
        if let Err(error) = self.store.close().await {
            tracing::warn!(%error, "the log's database was not closed in good order");
        }
    }
}

/// Compares the own log with what others say that it had, as long as the member runs.
async fn compare_when_told(replica: Weak<Replica<TokioRuntime>>, remembered: Remembered) {
    let mut grown = remembered.grown();
    drop(remembered);
    while grown.changed().await.is_ok() {
        let Some(replica) = replica.upgrade() else { return };
        replica.compare_own_end().await;
    }
}

/// Follows openraft's metrics as long as the member runs.
fn observe(
    replica: &Replica<TokioRuntime>,
    remembered: &Remembered,
) -> (watch::Receiver<Leadership>, watch::Receiver<Option<String>>) {
    let mut metrics = replica.raft().metrics();
    let (publish, leadership) = watch::channel(Leadership::of(&replica.metrics()));
    let (stop, fatal) = watch::channel(None);
    let remembered = remembered.clone();
    tokio::spawn(async move {
        loop {
            // Cloned at once: whoever holds the reference holds up the core.
            let now = metrics.borrow_watched().clone();
            if let Err(why) = &now.running_state {
                publish.send_replace(Leadership::default());
                stop.send_replace(Some(why.to_string()));
                return;
            }
            let new = Leadership::of(&now);
            let (applied, old) = (new.last_applied, publish.borrow().clone());
            if applied > old.last_applied {
                remembered.own_applied(applied);
            }
            let members = (&new.voters, &new.learners);
            if new.is_of_now() && (!old.is_of_now() || members != (&old.voters, &old.learners)) {
                remembered.members(&new.voters, &new.learners);
            }
            // A majority confirms the leader twenty times a second: kept, but no news.
            publish.send_if_modified(|old| {
                let acked = old.last_quorum_ack.filter(|_| new.last_quorum_ack.is_some());
                let same =
                    Leadership { last_quorum_ack: acked.or(new.last_quorum_ack), ..new.clone() };
                let news = same != *old;
                *old = new;
                news
            });
            if metrics.changed().await.is_err() {
                stop.send_replace(Some("raft stopped".into()));
                return;
            }
        }
    });
    (leadership, fatal)
}

impl Leadership {
    /// When a majority last confirmed that this member leads, if it does. An only voter is its own
    /// majority: nobody else is asked, so the log never hears of it, and it holds at every moment.
    pub fn confirmed_at(&self) -> Option<Instant> {
        let alone =
            self.me && !self.joint && self.leader.is_some_and(|me| self.voters == [me].into());
        if alone { Some(Instant::now()) } else { self.last_quorum_ack }
    }

    /// Whether everything that is known to be committed is applied, so that the members are those of
    /// now.
    fn is_of_now(&self) -> bool {
        self.leader.is_some() && self.last_applied > 0 && self.last_applied >= self.committed
    }

    fn of(metrics: &RaftMetrics<Types<TokioRuntime>>) -> Self {
        let members = metrics.membership_config.membership();
        let me = metrics.state.is_leader();
        let index = |position: Option<LogId>| position.map_or(0, |position| position.index);
        Self {
            leader: metrics.current_leader.map(RaftId),
            term: metrics.current_term,
            me,
            last_applied: index(metrics.last_applied),
            committed: index(metrics.local_committed.max(metrics.cluster_committed)),
            purged: index(metrics.purged),
            last_quorum_ack: metrics
                .last_quorum_acked
                .filter(|_| me)
                .and_then(|at| Instant::now().checked_sub(at.elapsed())),
            voters: members.voter_ids().map(RaftId).collect(),
            learners: members.learner_ids().map(RaftId).collect(),
            joint: members.get_joint_config().len() > 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A cluster of one, and one whose other nodes only learn, has a majority as long as it runs.
    #[test]
    fn an_only_voter_confirms_itself() {
        let long_ago = Instant::now().checked_sub(Duration::from_secs(1));
        let mut leadership = Leadership {
            leader: Some(RaftId(1)),
            me: true,
            last_quorum_ack: long_ago,
            voters: [RaftId(1)].into(),
            learners: [RaftId(7)].into(),
            ..Leadership::default()
        };
        assert!(leadership.confirmed_at() > long_ago);
        leadership.joint = true;
        assert_eq!(leadership.confirmed_at(), long_ago);
        leadership = Leadership { voters: [RaftId(1), RaftId(7)].into(), ..leadership };
        leadership.joint = false;
        assert_eq!(leadership.confirmed_at(), long_ago);
        let follower = Leadership { leader: Some(RaftId(7)), me: false, ..Leadership::default() };
        assert_eq!(follower.confirmed_at(), None);
    }
}
