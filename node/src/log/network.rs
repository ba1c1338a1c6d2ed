//! The bridge between openraft, which wants one network client a peer, and our [`Transport`], which
//! knows how to reach any member over whichever network is alive.
//!
//! Every call has a deadline: without one, a replication stream that waits for a dead peer would
//! still wait after the peer is back.

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
use vedette_core::state::ClusterState;

use super::types::{Snapshot, Types, Vote};
use super::wire::{Install, RaftReply, RaftRpc};

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
}

/// The client for one peer.
#[derive(Clone)]
pub struct Client {
    me: RaftId,
    to: RaftId,
    transport: Arc<dyn Transport>,
}

impl Network {
    /// The network as seen by `me`.
    pub fn new(me: RaftId, transport: Arc<dyn Transport>) -> Self {
        Self { me, transport }
    }
}

impl<R: AsyncRuntime> RaftNetworkFactory<Types<R>> for Network {
    type Network = Client;

    async fn new_client(&mut self, target: u64, _node: &EmptyNode) -> Client {
        Client { me: self.me, to: RaftId(target), transport: self.transport.clone() }
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
        };
        write!(f, "asked for {}, was answered {got}", self.asked)
    }
}

impl<R: AsyncRuntime> RaftNetworkV2<Types<R>> for Client {
    type SnapshotData = Arc<ClusterState>;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types<R>>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types<R>>, RPCError<Types<R>>> {
        let rpc = RaftRpc::Append(rpc.into());
        match self.ask(RPCTypes::AppendEntries, rpc, option.soft_ttl()).await? {
            RaftReply::Append(reply) => Ok(reply.into()),
            other => Err(mismatch("append", &other)),
        }
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types<R>>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types<R>>, RPCError<Types<R>>> {
        match self.ask(RPCTypes::Vote, RaftRpc::Vote(rpc.into()), option.soft_ttl()).await? {
            RaftReply::Vote(reply) => Ok(reply.into()),
            other => Err(mismatch("vote", &other)),
        }
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types<R>>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types<R>>, RPCError<Types<R>>> {
        match self.ask(RPCTypes::Vote, RaftRpc::PreVote(rpc.into()), option.soft_ttl()).await? {
            RaftReply::PreVote(reply) => Ok(reply.into()),
            other => Err(mismatch("pre_vote", &other)),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<Types<R>>, StreamingError<Types<R>>> {
        let install = Install { vote, meta: snapshot.meta, state: snapshot.snapshot };
        let call =
            self.ask(RPCTypes::InstallSnapshot, RaftRpc::Install(install), option.soft_ttl());
        match R::select2(call, cancel).await {
            openraft::async_runtime::Select2::First(reply) => match reply? {
                RaftReply::Install(vote) => Ok(SnapshotResponse::new(vote)),
                other => Err(mismatch("install", &other).into()),
            },
            openraft::async_runtime::Select2::Second(closed) => Err(closed.into()),
        }
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<Types<R>>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types<R>>, RPCError<Types<R>>> {
        let rpc = RaftRpc::Transfer(req.into());
        match self.ask(RPCTypes::TransferLeader, rpc, option.soft_ttl()).await? {
            RaftReply::Transfer(reply) => Ok(reply.into()),
            other => Err(mismatch("transfer", &other)),
        }
    }
}
