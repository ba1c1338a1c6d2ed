//! The bridge between openraft, which wants one network client a peer, and our [`Transport`], which
//! knows how to reach any member over whichever network is alive.
//!
//! What passes is shown to [`Remembered`], which also decides whether a vote counts.
//!
//! Every call has a deadline: without one, a replication stream that waits for a dead peer would
//! still wait after the peer is back. It is an election timeout, after which the peer would look for another leader:
//! openraft's own, three quarters of a heartbeat, would make round trips of that length impossible.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use openraft::errors::{
    NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable,
};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{
    AsyncRuntime, EmptyNode, OptionalSend, RPCTypes, RaftNetworkFactory, RaftNetworkV2,
};
use vedette_core::id::RaftId;
use vedette_core::model::Timing;
use vedette_core::state::ClusterState;

use super::remembered::{Remembered, Sent, position};
use super::types::{Snapshot, Types, Vote};
use super::wire::{Append, Ballot, Distrust, Install, RaftReply, RaftRpc, Voted};

/// Carries questions to other members and their answers back.
pub trait Transport: Send + Sync + 'static {
    /// Asks `to`, and waits for the answer no longer than `ttl`. The receiver answers with what its
    /// [`Log::serve`](super::Log::serve) gave.
    fn call(
        &self,
        to: RaftId,
        rpc: RaftRpc,
        ttl: Duration,
    ) -> BoxFuture<'_, Result<RaftReply, TransportError>>;
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// The peer is known to be dead or has no address; asking again at once is pointless.
    #[error("the peer cannot be reached")]
    Unreachable,
    /// No answer in time; the question may have been heard.
    #[error("the peer did not answer in time")]
    Timeout,
    /// The peer answered, but not with what was asked for.
    #[error("the peer refused: {0}")]
    Refused(String),
}

/// Makes the clients.
#[derive(Clone)]
pub struct Network {
    me: RaftId,
    transport: Arc<dyn Transport>,
    remembered: Remembered,
    /// Longest wait for an answer.
    patience: Duration,
}

/// The client for one peer.
#[derive(Clone)]
pub struct Client {
    me: RaftId,
    to: RaftId,
    transport: Arc<dyn Transport>,
    remembered: Remembered,
    patience: Duration,
}

impl Network {
    /// The network as seen by `me`, which remembers what passes through it, in a log with these timers.
    pub fn new(
        me: RaftId,
        transport: Arc<dyn Transport>,
        remembered: Remembered,
        timing: &Timing,
    ) -> Self {
        let patience = Duration::from_millis(timing.election_max_ms);
        Self { me, transport, remembered, patience }
    }

    /// What passed through it.
    pub(super) fn remembered(&self) -> &Remembered {
        &self.remembered
    }
}

impl<R: AsyncRuntime> RaftNetworkFactory<Types<R>> for Network {
    type Network = Client;

    async fn new_client(&mut self, target: u64, _node: &EmptyNode) -> Client {
        let Self { me, transport, remembered, patience } = self.clone();
        Client { me, to: RaftId(target), transport, remembered, patience }
    }
}

impl Client {
    /// Asks the peer, with a deadline of our own besides the transport's.
    async fn ask<R: AsyncRuntime>(
        &self,
        action: RPCTypes,
        rpc: RaftRpc,
        ttl: Duration,
    ) -> Result<RaftReply, RPCError<Types<R>>> {
        let timeout = || {
            RPCError::Timeout(Timeout { action, id: self.me.0, target: self.to.0, timeout: ttl })
        };
        match R::timeout(ttl, self.transport.call(self.to, rpc, ttl)).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(error @ TransportError::Unreachable)) => {
                Err(RPCError::Unreachable(Unreachable::new(&error)))
            }
            Ok(Err(TransportError::Timeout)) | Err(_) => Err(timeout()),
            Ok(Err(error @ TransportError::Refused(_))) => {
                Err(RPCError::Network(NetworkError::new(&error)))
            }
        }
    }

    /// Puts a ballot to the peer, if its vote counts at all, and hands on an answer that does.
    async fn ballot<R: AsyncRuntime>(
        &self,
        ballot: Ballot,
        in_earnest: bool,
    ) -> Result<Voted, RPCError<Types<R>>> {
        let last = ballot.last;
        self.remembered.may_ask(self.to, last, in_earnest).map_err(distrust)?;
        let had = self.remembered.had(self.to);
        let rpc = if in_earnest { RaftRpc::Vote(ballot) } else { RaftRpc::PreVote(ballot) };
        let asked = if in_earnest { "vote" } else { "pre_vote" };
        match self.ask(RPCTypes::Vote, rpc, self.patience).await? {
            RaftReply::Vote(reply) | RaftReply::PreVote(reply) => {
                self.remembered.may_count(self.to, had, reply.last).map_err(distrust)?;
                Ok(reply)
            }
            RaftReply::Distrust(why) => {
                self.remembered.distrusted(self.to, &why);
                Err(distrust(why))
            }
            other => Err(mismatch(asked, &other)),
        }
    }
}

/// No vote, for a reason that consensus does not know.
fn distrust<R: AsyncRuntime>(why: Distrust) -> RPCError<Types<R>> {
    RPCError::Network(NetworkError::new(&why))
}

/// The peer answered another question than the one that was put.
fn mismatch<R: AsyncRuntime>(asked: &str, got: &RaftReply) -> RPCError<Types<R>> {
    RPCError::Network(NetworkError::from_string(Mismatch { asked, got }))
}

struct Mismatch<'a> {
    asked: &'a str,
    got: &'a RaftReply,
}

impl fmt::Display for Mismatch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let got = match self.got {
            RaftReply::Append(_) => "append",
            RaftReply::Vote(_) => "vote",
            RaftReply::PreVote(_) => "pre_vote",
            RaftReply::Install(_) => "install",
            RaftReply::Transfer(_) => "transfer",
            RaftReply::Distrust(_) => "distrust",
        };
        write!(f, "asked for {}, was answered {got}", self.asked)
    }
}

impl<R: AsyncRuntime> RaftNetworkV2<Types<R>> for Client {
    type SnapshotData = Arc<ClusterState>;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types<R>>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<Types<R>>, RPCError<Types<R>>> {
        let mut append = Append::from(rpc);
        let (had, sent) = (self.remembered.had(self.to), Sent::of(&append));
        self.remembered.tell(self.to, &mut append);
        let rpc = RaftRpc::Append(append);
        match self.ask(RPCTypes::AppendEntries, rpc, self.patience).await? {
            RaftReply::Append(reply) => {
                self.remembered.appended(self.to, had, &sent, &reply);
                Ok(reply.into())
            }
            other => Err(mismatch("append", &other)),
        }
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types<R>>,
        _: RPCOption,
    ) -> Result<VoteResponse<Types<R>>, RPCError<Types<R>>> {
        let voted = self.ballot(rpc.into(), true).await?;
        Ok(voted.into())
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types<R>>,
        _: RPCOption,
    ) -> Result<VoteResponse<Types<R>>, RPCError<Types<R>>> {
        let voted = self.ballot(rpc.into(), false).await?;
        Ok(voted.into())
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<Types<R>>, StreamingError<Types<R>>> {
        let (term, last) = (vote.leader_id.term, position(snapshot.meta.last_log_id).index);
        let install = Install { vote, meta: snapshot.meta, state: snapshot.snapshot };
        let call =
            self.ask(RPCTypes::InstallSnapshot, RaftRpc::Install(install), option.soft_ttl());
        match R::select2(call, cancel).await {
            openraft::async_runtime::Select2::First(reply) => match reply? {
                RaftReply::Install(now) => {
                    // A newer vote means that it was not installed.
                    if now == vote {
                        self.remembered.installed(self.to, term, last);
                    }
                    Ok(SnapshotResponse::new(now))
                }
                other => Err(mismatch("install", &other).into()),
            },
            openraft::async_runtime::Select2::Second(closed) => Err(closed.into()),
        }
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<Types<R>>,
        _: RPCOption,
    ) -> Result<TransferLeaderResponse<Types<R>>, RPCError<Types<R>>> {
        let rpc = RaftRpc::Transfer(req.into());
        match self.ask(RPCTypes::TransferLeader, rpc, self.patience).await? {
            RaftReply::Transfer(reply) => Ok(reply.into()),
            other => Err(mismatch("transfer", &other)),
        }
    }
}
