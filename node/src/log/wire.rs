//! What the members of the log say to each other, as values that can be sent.
//!
//! Five questions, each with its answer. They are our own types, not openraft's: what travels
//! between nodes of different versions is then changed on purpose only, and a transport needs to
//! know nothing of the consensus library. The encoding is JSON by serde; whoever carries them frames
//! them, authenticates the sender and limits their size.

use std::collections::BTreeMap;
use std::sync::Arc;

use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderError,
    TransferLeaderRequest, VoteRequest, VoteResponse,
};
use openraft::{AsyncRuntime, Snapshot as RaftSnapshot};
use serde::{Deserialize, Serialize};
use vedette_core::id::RaftId;
use vedette_core::log_memory::{Loss, Position, Told};
use vedette_core::state::ClusterState;

use super::types::{Entry, LogId, Snapshot, SnapshotMeta, Types, Vote};

/// A question of one member to another.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RaftRpc {
    /// The leader's heartbeat, with entries if there are any.
    Append(Append),
    /// A candidate asks for a vote.
    Vote(Ballot),
    /// A node asks whether it would get a vote, before it disturbs anybody with an election.
    PreVote(Ballot),
    /// The leader sends the whole state, because the entries are no longer there.
    Install(Install),
    /// The leader tells all voters who shall take over.
    Transfer(Transfer),
}

/// The answer to a [`RaftRpc`], of the same kind.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RaftReply {
    /// To [`RaftRpc::Append`].
    Append(Appended),
    /// To [`RaftRpc::Vote`].
    Vote(Voted),
    /// To [`RaftRpc::PreVote`].
    PreVote(Voted),
    /// To [`RaftRpc::Install`]: the receiver's vote afterwards.
    Install(Vote),
    /// To [`RaftRpc::Transfer`].
    Transfer(Transferred),
    /// To a ballot: the receiver takes no part in this election with the asker.
    Distrust(Distrust),
}

/// Why a member takes no part in an election: somebody's log is not what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Distrust {
    /// The asker had more in its log once.
    #[error("the log of the asker ends at entry {}, but it had {}", .0.has, .0.had)]
    AskerLost(Loss),
    /// The member that is asked had more in its log once.
    #[error("the log of the member that is asked ends at entry {}, but it had {}", .0.has, .0.had)]
    AnswererLost(Loss),
    /// The asker lacks an entry that is committed, and so must not lead.
    #[error("the log of the asker ends at entry {}, and entry {} is committed", .has.index, .committed.index)]
    AskerLacks {
        /// The last entry known to be committed.
        committed: Position,
        /// The asker's last entry.
        has: Position,
    },
}

/// Entries that follow `previous`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Append {
    /// The leader's vote.
    pub vote: Vote,
    /// The entry before the first of `entries`.
    pub previous: Option<LogId>,
    /// The entries.
    pub entries: Vec<Entry>,
    /// What the leader knows to be committed.
    pub committed: Option<LogId>,
    /// What the leader knows of the members' logs.
    #[serde(default)]
    pub members: BTreeMap<RaftId, Told>,
}

/// What became of an [`Append`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Appended {
    /// All entries are on disk.
    All,
    /// Entries up to this one are on disk.
    UpTo(Option<LogId>),
    /// The receiver does not have the entry before.
    Conflict {
        /// Index of its last entry, if it has any.
        last: Option<u64>,
    },
    /// The receiver follows a newer vote.
    NewerVote(Vote),
}

/// A candidate's request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ballot {
    /// The vote asked for.
    pub vote: Vote,
    /// The candidate's last entry.
    pub last: Option<LogId>,
    /// Whether the leader itself asked the candidate to stand.
    #[serde(default)]
    pub transfer: bool,
}

/// The answer to a [`Ballot`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Voted {
    /// The receiver's vote.
    pub vote: Vote,
    /// Whether it is given.
    pub granted: bool,
    /// The receiver's last entry.
    pub last: Option<LogId>,
}

/// The whole state at an entry.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Install {
    /// The leader's vote.
    pub vote: Vote,
    /// At which entry, with which membership.
    pub meta: SnapshotMeta,
    /// The state.
    pub state: Arc<ClusterState>,
}

/// A request to take over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// The present leader's vote.
    pub from: Vote,
    /// Who shall lead.
    pub to: u64,
    /// What it must have on disk first.
    pub last: Option<LogId>,
}

/// The answer to a [`Transfer`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transferred {
    /// The receiver lets go of the old leader, and stands for election if it was chosen.
    Accepted,
    /// The receiver follows another vote by now.
    VoteChanged {
        /// The asking leader's.
        expected: Vote,
        /// The receiver's.
        actual: Vote,
    },
    /// The receiver does not have everything on disk yet.
    NotFlushed {
        /// What it must have.
        expected: Option<LogId>,
        /// What it has.
        actual: Option<LogId>,
    },
}

impl<R: AsyncRuntime> From<AppendEntriesRequest<Types<R>>> for Append {
    fn from(rpc: AppendEntriesRequest<Types<R>>) -> Self {
        Self {
            vote: rpc.vote,
            previous: rpc.prev_log_id,
            entries: rpc.entries,
            committed: rpc.leader_commit,
            members: BTreeMap::new(),
        }
    }
}

impl<R: AsyncRuntime> From<Append> for AppendEntriesRequest<Types<R>> {
    fn from(rpc: Append) -> Self {
        Self {
            vote: rpc.vote,
            prev_log_id: rpc.previous,
            entries: rpc.entries,
            leader_commit: rpc.committed,
        }
    }
}

impl<R: AsyncRuntime> From<AppendEntriesResponse<Types<R>>> for Appended {
    fn from(reply: AppendEntriesResponse<Types<R>>) -> Self {
        match reply {
            AppendEntriesResponse::Success => Self::All,
            AppendEntriesResponse::PartialSuccess(last) => Self::UpTo(last),
            AppendEntriesResponse::Conflict => Self::Conflict { last: None },
            AppendEntriesResponse::HigherVote(vote) => Self::NewerVote(vote),
        }
    }
}

impl<R: AsyncRuntime> From<Appended> for AppendEntriesResponse<Types<R>> {
    fn from(reply: Appended) -> Self {
        match reply {
            Appended::All => Self::Success,
            Appended::UpTo(last) => Self::PartialSuccess(last),
            Appended::Conflict { .. } => Self::Conflict,
            Appended::NewerVote(vote) => Self::HigherVote(vote),
        }
    }
}

impl<R: AsyncRuntime> From<VoteRequest<Types<R>>> for Ballot {
    fn from(rpc: VoteRequest<Types<R>>) -> Self {
        Self { vote: rpc.vote, last: rpc.last_log_id, transfer: rpc.leadership_transfer }
    }
}

impl<R: AsyncRuntime> From<Ballot> for VoteRequest<Types<R>> {
    fn from(rpc: Ballot) -> Self {
        let mut request = Self::new(rpc.vote, rpc.last);
        request.leadership_transfer = rpc.transfer;
        request
    }
}

impl<R: AsyncRuntime> From<VoteResponse<Types<R>>> for Voted {
    fn from(reply: VoteResponse<Types<R>>) -> Self {
        Self { vote: reply.vote, granted: reply.vote_granted, last: reply.last_log_id }
    }
}

impl<R: AsyncRuntime> From<Voted> for VoteResponse<Types<R>> {
    fn from(reply: Voted) -> Self {
        Self { vote: reply.vote, vote_granted: reply.granted, last_log_id: reply.last }
    }
}

impl Install {
    /// The snapshot in it.
    pub fn snapshot(self) -> Snapshot {
        RaftSnapshot { meta: self.meta, snapshot: self.state }
    }
}

impl<R: AsyncRuntime> From<SnapshotResponse<Types<R>>> for RaftReply {
    fn from(reply: SnapshotResponse<Types<R>>) -> Self {
        Self::Install(reply.vote)
    }
}

impl<R: AsyncRuntime> From<TransferLeaderRequest<Types<R>>> for Transfer {
    fn from(rpc: TransferLeaderRequest<Types<R>>) -> Self {
        Self { from: *rpc.from_leader(), to: *rpc.to_node_id(), last: rpc.last_log_id().copied() }
    }
}

impl<R: AsyncRuntime> From<Transfer> for TransferLeaderRequest<Types<R>> {
    fn from(rpc: Transfer) -> Self {
        Self::new(rpc.from, rpc.to, rpc.last)
    }
}

impl<R: AsyncRuntime> From<Result<(), TransferLeaderError<Types<R>>>> for Transferred {
    fn from(reply: Result<(), TransferLeaderError<Types<R>>>) -> Self {
        match reply {
            Ok(()) => Self::Accepted,
            Err(TransferLeaderError::VoteChanged { expected, actual }) => {
                Self::VoteChanged { expected, actual }
            }
            Err(TransferLeaderError::LogNotFlushed { expected, actual }) => {
                Self::NotFlushed { expected, actual }
            }
        }
    }
}

impl<R: AsyncRuntime> From<Transferred> for Result<(), TransferLeaderError<Types<R>>> {
    fn from(reply: Transferred) -> Self {
        match reply {
            Transferred::Accepted => Ok(()),
            Transferred::VoteChanged { expected, actual } => {
                Err(TransferLeaderError::VoteChanged { expected, actual })
            }
            Transferred::NotFlushed { expected, actual } => {
                Err(TransferLeaderError::LogNotFlushed { expected, actual })
            }
        }
    }
}
