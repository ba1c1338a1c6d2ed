//! What a joining node and a member say to each other, in JSON over the peers' protocol.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use vedette_core::id::{ClusterId, NetworkNumber, NodeNumber, RaftId, StorageId};
use vedette_core::model::{Network, Settings};
use vedette_core::time::WallTime;

use crate::peers::Peer;

/// One network as the joining node's configuration has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferedNetwork {
    /// The node's address on it.
    pub address: IpAddr,
    /// UDP port of heartbeats.
    pub beat_port: u16,
    /// TCP port of peers.
    pub peer_port: u16,
}

/// What the joining node says.
#[derive(Clone, Serialize, Deserialize)]
pub struct JoinHello {
    /// Version of the protocol between peers.
    pub protocol: u16,
    /// Version of the product.
    pub version: String,
    /// The cluster it wants to join.
    pub cluster: ClusterId,
    /// Its name.
    pub name: String,
    /// Its number.
    pub number: NodeNumber,
    /// Its storage; the same in a repeat, so that a lost answer can be given again.
    pub storage: StorageId,
    /// Its networks, by name.
    pub networks: BTreeMap<String, OfferedNetwork>,
    /// Its wall clock, at the moment of sending.
    pub wall_clock: WallTime,
    /// Its request for a certificate, PEM.
    pub csr: String,
    /// The token's secret, in hexadecimal digits.
    pub secret: String,
    /// Only check; change nothing.
    pub dry_run: bool,
}

/// Shows everything but the secret.
impl std::fmt::Debug for JoinHello {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinHello")
            .field("name", &self.name)
            .field("number", &self.number)
            .field("version", &self.version)
            .field("storage", &self.storage)
            .field("networks", &self.networks)
            .finish_non_exhaustive()
    }
}

/// What the member answers.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JoinAnswer {
    /// The node would be taken in (dry run).
    WouldJoin,
    /// The node is a member now.
    Welcome(Box<JoinWelcome>),
}

/// Everything that makes the node a member, but for its own key.
#[derive(Clone, Serialize, Deserialize)]
pub struct JoinWelcome {
    /// The cluster.
    pub cluster: ClusterId,
    /// The cluster's name.
    pub cluster_name: String,
    /// The node's log.
    pub raft_id: RaftId,
    /// Certificate of the cluster's authority, PEM.
    pub ca_cert: String,
    /// Key of the cluster's authority, PEM.
    pub ca_key: String,
    /// The node's certificate, PEM.
    pub node_cert: String,
    /// Key of heartbeats, in hexadecimal digits.
    pub cluster_key: String,
    /// Whom to talk to.
    pub peer_set: PeerSet,
}

/// The cluster as the new member needs it until its own log knows (A5): left in the state
/// directory as `welcome.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerSet {
    /// The networks.
    pub networks: BTreeMap<NetworkNumber, Network>,
    /// All members, the new one included.
    pub members: BTreeMap<NodeNumber, Peer>,
    /// The settings.
    pub settings: Settings,
}
