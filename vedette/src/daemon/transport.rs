//! Carries the log's messages over whichever network is alive.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use vedette_core::id::{NodeNumber, RaftId};
use vedette_node::log::{RaftReply, RaftRpc, Transport, TransportError};
use vedette_node::peers::{CallError, Peers, kinds};

use super::publisher::Publisher;

/// See the module.
pub(crate) struct OverPeers {
    pub(crate) peers: Peers,
    pub(crate) publisher: Arc<Publisher>,
}

impl OverPeers {
    /// Who has that log now. A log that no member has is that of a former member.
    fn node_of(&self, member: RaftId) -> Option<NodeNumber> {
        let state = self.publisher.state();
        state.nodes.values().find(|node| node.raft_id == member).map(|node| node.number)
    }
}

impl Transport for OverPeers {
    fn call(
        &self,
        to: RaftId,
        rpc: RaftRpc,
        ttl: Duration,
    ) -> BoxFuture<'_, Result<RaftReply, TransportError>> {
        Box::pin(async move {
            let node = self.node_of(to).ok_or(TransportError::Unreachable)?;
            let malformed = |error: serde_json::Error| TransportError::Refused(error.to_string());
            let body = serde_json::to_vec(&rpc).map_err(malformed)?;
            let answer = match rpc {
                // Long, and written by the peer before it answers.
                RaftRpc::Install(_) => self.peers.call(node, kinds::RAFT, body, ttl).await,
                _ => self.peers.call_promptly(node, kinds::RAFT, body, ttl).await,
            };
            match answer {
                Ok(reply) => serde_json::from_slice(&reply).map_err(malformed),
                Err(CallError::Unreachable { .. }) => Err(TransportError::Unreachable),
                Err(CallError::Timeout { .. }) => Err(TransportError::Timeout),
                Err(other) => Err(TransportError::Refused(other.to_string())),
            }
        })
    }
}
