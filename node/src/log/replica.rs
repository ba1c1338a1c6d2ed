//! One member of the log on any runtime: proposing, serving the others, changing the membership.
//!
//! What can be done to the log's membership is one method each, and changes are made one at a time:
//! openraft would interleave two of them. A leader that dies in the middle leaves a *joint*
//! configuration, in which two majorities are needed; [`Replica::set_voters`] finishes it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{
    ChangeMembershipError, ClientWriteError, Fatal, ForwardToLeader, InitializeError, RaftError,
};
use openraft::storage::RaftLogStorage;
use openraft::{
    AsyncRuntime, ChangeMembers, Config, EmptyNode, Instant as _, Raft, RaftMetrics, SnapshotPolicy,
};
use tokio::sync::Mutex;
use vedette_core::command::{Command, Proposal};
use vedette_core::id::RaftId;
use vedette_core::model::Timing;
use vedette_core::state::{ClusterState, Outcome};

use super::machine::Machine;
use super::network::Network;
use super::remembered::{LeadersWord, Remembered};
use super::schema::LogError;
use super::types::{Committed, Types};
use super::wire::{Append, Appended, Ballot, Distrust, RaftReply, RaftRpc};

/// Entries between two snapshots.
const SNAPSHOT_EVERY: u64 = 5_000;

/// Entries kept behind a snapshot, so that a member that was away for a moment needs none.
const KEPT_ENTRIES: u64 = 1_000;

/// Time for sending and installing a whole state over a slow link.
const INSTALL_MS: u64 = 10_000;

/// Why a proposal was not answered with an outcome.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// This member does not lead, or lost its majority; nothing was done. Ask the leader.
    #[error("this node does not lead the log")]
    NotLeader {
        /// Who leads, if that is known.
        leader: Option<RaftId>,
    },
    /// It may or may not have been applied, or may be later. Propose it again with the same id.
    #[error("the outcome is not known yet")]
    Unknown,
    /// This member's log stopped for ever.
    #[error("the log of this node stopped: {0}")]
    Stopped(String),
}

/// Why a log was not formed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// The first proposal does not form a cluster with this member.
    #[error("the first command must form the cluster with member {0} of the log")]
    NotForming(RaftId),
    /// This log already has members or a cluster.
    #[error("this node already belongs to a cluster")]
    AlreadyFormed,
    /// The first proposal was not applied.
    #[error(transparent)]
    Propose(#[from] ProposeError),
}

/// Why the log's membership was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// This member does not lead.
    #[error("this node does not lead the log")]
    NotLeader {
        /// Who leads, if that is known.
        leader: Option<RaftId>,
    },
    /// Another change is under way; try again.
    #[error("the log's membership is just being changed")]
    Busy,
    /// A voter must have been a learner first.
    #[error("member {0} must learn the log before it can vote")]
    NotALearner(RaftId),
    /// The leader cannot remove itself: let another one lead first.
    #[error("member {0} leads; let another one lead first")]
    Leads(RaftId),
    /// Nobody would be left to vote.
    #[error("the log needs at least one voter")]
    NoVoters,
    /// It takes longer than it should; it may still succeed. Try again.
    #[error("the change did not finish in time")]
    Unknown,
    /// This member's log stopped for ever.
    #[error("the log of this node stopped: {0}")]
    Stopped(String),
}

/// Why a question of another member was not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServeError {
    /// This member's log stopped for ever.
    #[error("the log of this node stopped: {0}")]
    Stopped(String),
}

/// What openraft says when it does not write an entry.
type WriteError<R> = RaftError<Types<R>, ClientWriteError<Types<R>>>;

/// openraft's settings for our timers.
pub fn config(timing: &Timing, cluster: &str) -> Result<Arc<Config>, LogError> {
    let config = Config {
        cluster_name: cluster.into(),
        heartbeat_interval: timing.raft_heartbeat_ms,
        election_timeout_min: timing.election_min_ms,
        election_timeout_max: timing.election_max_ms,
        install_snapshot_timeout: INSTALL_MS,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(SNAPSHOT_EVERY),
        max_in_snapshot_log_to_keep: KEPT_ENTRIES,
        purge_batch_size: 256,
        // A peer that was away must be heard again before it starts an election.
        backoff: format!("{}ms", timing.raft_heartbeat_ms.max(1)),
        // A node that comes back does not disturb a leader that is well.
        enable_pre_vote: Some(true),
        // The state is in memory: a leader that restarts must learn what is committed first.
        enable_leader_restore: Some(false),
        // A member whose disk lost the end of its log is caught up like a new one, instead of being
        // asked for ever to go on from where it no longer is. What it had counts for nothing then;
        // see `Remembered`.
        allow_log_reversion: Some(true),
        // A cluster decides tens of things a second, not tens of thousands: short queues, so that
        // a disk that is too slow is felt by whoever proposes.
        api_channel_size: Some(CHANNEL),
        notification_channel_size: Some(CHANNEL),
        api_batch_capacity: 256,
        log_stage_capacity: Some(16),
        ..Config::default()
    };
    config.validate().map(Arc::new).map_err(|error| LogError::Timing(error.to_string()))
}

/// Messages that may wait inside openraft; a full channel makes the sender wait.
const CHANNEL: u64 = 4_096;

/// A member of the log.
pub struct Replica<R: AsyncRuntime> {
    raft: Raft<Types<R>, Machine>,
    me: RaftId,
    /// How long a proposal or a change may take before its outcome counts as unknown.
    patience: Duration,
    changes: Mutex<()>,
    remembered: Remembered,
}

impl<R: AsyncRuntime> Replica<R> {
    /// Starts the member `me` on its store and state machine.
    pub async fn start<S: RaftLogStorage<Types<R>>>(
        me: RaftId,
        config: Arc<Config>,
        network: Network,
        store: S,
        machine: Machine,
    ) -> Result<Self, LogError> {
        let remembered = network.remembered().clone();
        // Long enough for an election to end, and for a commit on a slow disk.
        let patience = Duration::from_millis(config.election_timeout_max * 4).max(MIN_PATIENCE);
        let raft = Raft::new(me.0, config, network, store, machine)
            .await
            .map_err(|fatal| LogError::Core(fatal.to_string()))?;
        Ok(Self { raft, me, patience, changes: Mutex::new(()), remembered })
    }

    /// openraft's own handle.
    pub fn raft(&self) -> &Raft<Types<R>, Machine> {
        &self.raft
    }

    /// What openraft says of itself now.
    pub fn metrics(&self) -> RaftMetrics<Types<R>> {
        self.raft.metrics().borrow_watched().clone()
    }

    /// Makes this member the only one of a new log and applies the first command. May be repeated
    /// after a crash in between.
    pub async fn form(&self, proposal: Proposal) -> Result<Outcome, FormError> {
        if !matches!(proposal.command, Command::Form { raft_id, .. } if raft_id == self.me) {
            return Err(FormError::NotForming(self.me));
        }
        let alone = BTreeMap::from([(self.me.0, EmptyNode::new())]);
        match self.raft.initialize(alone).await {
            Ok(()) => {}
            Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {
                self.check_unformed().await?
            }
            Err(RaftError::APIError(InitializeError::NotInMembers(_))) => {
                return Err(FormError::NotForming(self.me));
            }
            Err(RaftError::Fatal(fatal)) => return Err(stopped(&fatal).into()),
        }
        let _ = self
            .raft
            .wait(Some(self.patience))
            .metrics(|metrics| metrics.state.is_leader(), "the only member leads")
            .await;
        Ok(self.propose(proposal).await?)
    }

    /// An initialised log may be formed if nobody else is in it and no cluster was formed yet.
    async fn check_unformed(&self) -> Result<(), FormError> {
        let alone = self.raft.voter_ids().eq([self.me.0]);
        let state = self.state().await.map_err(ProposeError::Stopped)?;
        if alone && state.cluster.is_none() { Ok(()) } else { Err(FormError::AlreadyFormed) }
    }

    /// The state as applied here.
    pub async fn state(&self) -> Result<Arc<ClusterState>, String> {
        self.raft
            .with_state_machine(|machine| {
                let state = machine.state().clone();
                Box::pin(async move { state })
            })
            .await
            .map_err(|fatal| fatal.to_string())
    }

    /// Proposes a command and waits until it is applied here.
    pub async fn propose(&self, proposal: Proposal) -> Result<Outcome, ProposeError> {
        match R::timeout(self.patience, self.raft.client_write(proposal)).await {
            Ok(Ok(response)) => Ok(response.data),
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to)))) => {
                Err(ProposeError::NotLeader { leader: leader_of(&to, self.me) })
            }
            // Cut off by another leader: it may have been committed all the same.
            Ok(Err(RaftError::APIError(_))) | Err(_) => Err(ProposeError::Unknown),
            Ok(Err(RaftError::Fatal(fatal))) => Err(stopped(&fatal)),
        }
    }

    /// Answers a question of another member.
    pub async fn serve(&self, rpc: RaftRpc) -> Result<RaftReply, ServeError> {
        let failed = |error: RaftError<Types<R>>| ServeError::Stopped(error.to_string());
        let fatal = |error: Fatal<Types<R>>| ServeError::Stopped(error.to_string());
        Ok(match rpc {
            RaftRpc::Append(rpc) => RaftReply::Append(self.append(rpc).await.map_err(failed)?),
            RaftRpc::Vote(rpc) => match self.trusts(&rpc).await {
                Ok(()) => RaftReply::Vote(self.raft.vote(rpc.into()).await.map_err(failed)?.into()),
                Err(why) => RaftReply::Distrust(why),
            },
            RaftRpc::PreVote(rpc) => match self.trusts(&rpc).await {
                Ok(()) => {
                    RaftReply::PreVote(self.raft.pre_vote(rpc.into()).await.map_err(failed)?.into())
                }
                Err(why) => RaftReply::Distrust(why),
            },
            RaftRpc::Install(rpc) => {
                let (vote, snapshot) = (rpc.vote, rpc.snapshot());
                self.raft.install_full_snapshot(vote, snapshot).await.map_err(fatal)?.into()
            }
            RaftRpc::Transfer(rpc) => {
                let reply = self.raft.handle_transfer_leader(rpc.into()).await.map_err(fatal)?;
                RaftReply::Transfer(reply.into())
            }
        })
    }

    /// Takes entries of the leader, and its word about the members' logs.
    async fn append(&self, mut rpc: Append) -> Result<Appended, RaftError<Types<R>>> {
        let word = LeadersWord::of(&mut rpc);
        let mut reply = Appended::from(self.raft.append_entries(rpc.into()).await?);
        if matches!(reply, Appended::NewerVote(_)) {
            return Ok(reply);
        }
        self.remembered.told(word);
        let own = self.compare_own_end().await;
        if let Appended::Conflict { last } = &mut reply {
            *last = own;
        }
        Ok(reply)
    }

    /// Whether this member takes part in an election with the asker.
    async fn trusts(&self, ballot: &Ballot) -> Result<(), Distrust> {
        self.compare_own_end().await;
        let led = self.is_led().await;
        let trusted = self.remembered.may_answer(ballot, led);
        if let Err(why) = &trusted {
            tracing::info!(asker = ballot.vote.leader_id.voted_for, "no vote: {why}");
        }
        trusted
    }

    /// Whether a leader was heard, or this member led, lately.
    async fn is_led(&self) -> bool {
        if self.raft.is_leader() {
            return true;
        }
        let lately = Duration::from_millis(self.raft.config().election_timeout_max);
        let heard = self.raft.with_raft_state(|state| state.vote_last_modified()).await;
        heard.ok().flatten().is_some_and(|at| at.elapsed() < lately)
    }

    /// Compares this member's log with what it once had: index of its last entry.
    pub async fn compare_own_end(&self) -> Option<u64> {
        let mut last = self.raft.metrics().borrow_watched().last_log_index;
        if self.remembered.own_is_less(last.unwrap_or(0)) {
            // What is published may be behind what is there.
            let exact = self.raft.with_raft_state(|state| state.log_ids.last().map(|id| id.index));
            last = exact.await.unwrap_or(last);
        }
        self.remembered.own_end(last.unwrap_or(0));
        last
    }

    /// Makes `member` a learner; done when it has nearly all of the log.
    pub async fn add_learner(&self, member: RaftId) -> Result<(), MembershipError> {
        let _turn = self.changes.lock().await;
        let added = self.raft.add_learner(member.0, EmptyNode::new(), true);
        self.changed(R::timeout(self.patience, added).await)
    }

    /// Makes exactly `voters` vote; former voters learn from then on. Also finishes a change that
    /// an earlier leader left in the middle.
    pub async fn set_voters(&self, voters: BTreeSet<RaftId>) -> Result<(), MembershipError> {
        if voters.is_empty() {
            return Err(MembershipError::NoVoters);
        }
        let voters: BTreeSet<u64> = voters.into_iter().map(|member| member.0).collect();
        let _turn = self.changes.lock().await;
        let metrics = self.metrics();
        if metrics.state.is_leader()
            && metrics.membership_config.get_joint_config() == &vec![voters.clone()]
            && metrics.committed_membership_config == metrics.membership_config
        {
            return Ok(());
        }
        let change = ChangeMembers::ReplaceAllVoters(voters);
        self.changed(R::timeout(self.patience, self.raft.change_membership(change, true)).await)
    }

    /// Takes `member` out of the log for ever. The leader cannot take itself out.
    pub async fn remove(&self, member: RaftId) -> Result<(), MembershipError> {
        let metrics = self.metrics();
        let leads = metrics.state.is_leader();
        if leads && member == self.me {
            return Err(MembershipError::Leads(member));
        }
        let mut voters: BTreeSet<u64> = metrics.membership_config.voter_ids().collect();
        if leads && voters.remove(&member.0) {
            self.set_voters(voters.into_iter().map(RaftId).collect()).await?;
        }
        let _turn = self.changes.lock().await;
        if leads && self.metrics().membership_config.get_node(&member.0).is_none() {
            return Ok(());
        }
        let change = ChangeMembers::RemoveNodes([member.0].into());
        self.changed(R::timeout(self.patience, self.raft.change_membership(change, false)).await)
    }

    /// Lets `member`, a voter, lead; done when it does.
    pub async fn transfer_leader(&self, member: RaftId) -> Result<(), MembershipError> {
        let metrics = self.metrics();
        if metrics.current_leader == Some(member.0) {
            return Ok(());
        }
        if !metrics.state.is_leader() {
            return Err(MembershipError::NotLeader { leader: metrics.current_leader.map(RaftId) });
        }
        if !metrics.membership_config.voter_ids().any(|voter| voter == member.0) {
            return Err(MembershipError::NotALearner(member));
        }
        let asked = self.raft.trigger().transfer_leader(member.0).await;
        asked.map_err(|fatal| MembershipError::Stopped(fatal.to_string()))?;
        self.raft
            .wait(Some(self.patience))
            .metrics(|metrics| metrics.current_leader == Some(member.0), "the other one leads")
            .await
            .map(drop)
            .map_err(|_| MembershipError::Unknown)
    }

    /// Whether this member stands for election by itself.
    pub fn may_lead(&self, may: bool) {
        self.raft.runtime_config().elect(may);
    }

    /// Takes a snapshot of what is applied now.
    pub async fn snapshot_now(&self) -> Result<(), ServeError> {
        let stopped = |why: String| ServeError::Stopped(why);
        let upto = self.metrics().last_applied;
        let asked = self.raft.trigger().snapshot().await;
        asked.map_err(|fatal| stopped(fatal.to_string()))?;
        self.raft
            .wait(Some(self.patience))
            .metrics(|metrics| metrics.snapshot >= upto, "the snapshot is on disk")
            .await
            .map(drop)
            .map_err(|error| stopped(error.to_string()))
    }

    /// Ends this member in good order.
    pub async fn shutdown(&self) {
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(%error, "the log did not end in good order");
        }
    }

    /// The result of a change of the membership in our words.
    fn changed<T, E>(
        &self,
        result: Result<Result<T, WriteError<R>>, E>,
    ) -> Result<(), MembershipError> {
        match result {
            Ok(Ok(_)) => Ok(()),
            Err(_) => Err(MembershipError::Unknown),
            Ok(Err(RaftError::Fatal(fatal))) => Err(MembershipError::Stopped(fatal.to_string())),
            Ok(Err(RaftError::APIError(error))) => Err(self.refused(error)),
        }
    }

    fn refused(&self, error: ClientWriteError<Types<R>>) -> MembershipError {
        type Change = ChangeMembershipError<Committed, u64>;
        match error {
            ClientWriteError::ForwardToLeader(to) => {
                MembershipError::NotLeader { leader: leader_of(&to, self.me) }
            }
            ClientWriteError::ChangeMembershipError(Change::LearnerNotFound(missing)) => {
                MembershipError::NotALearner(RaftId(missing.node_id))
            }
            ClientWriteError::ChangeMembershipError(Change::EmptyMembership(_)) => {
                MembershipError::NoVoters
            }
            ClientWriteError::ChangeMembershipError(_) => MembershipError::Busy,
            _ => MembershipError::Unknown,
        }
    }
}

/// A disk that is slower than this is no disk for a log.
const MIN_PATIENCE: Duration = Duration::from_secs(3);

/// Whom to ask instead; not ourselves, which openraft names when the majority was lost.
fn leader_of<R: AsyncRuntime>(to: &ForwardToLeader<Types<R>>, me: RaftId) -> Option<RaftId> {
    to.leader_id.map(RaftId).filter(|leader| *leader != me)
}

fn stopped<R: AsyncRuntime>(fatal: &Fatal<Types<R>>) -> ProposeError {
    ProposeError::Stopped(fatal.to_string())
}
