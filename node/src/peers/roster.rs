//! The roster: who is a member now, and at which addresses.
//!
//! Made from the replicated state by the agent, and shared by the side that calls and the side
//! that listens.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use serde::{Deserialize, Serialize};
use vedette_core::id::{NetworkNumber, NodeNumber, StorageId};
use vedette_core::state::ClusterState;

/// A member as others reach it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its name, for messages.
    pub name: String,
    /// Its storage: a certificate for another one is that of a former member.
    pub storage: StorageId,
    /// Where it listens, one address a network.
    pub addresses: BTreeMap<NetworkNumber, SocketAddr>,
}

/// All members of the state, the asking node included.
pub fn members(state: &ClusterState) -> BTreeMap<NodeNumber, Peer> {
    let address = |network: &NetworkNumber, address: IpAddr| {
        let port = state.networks.get(network)?.peer_port;
        Some((*network, SocketAddr::new(address, port)))
    };
    let peer = |node: &vedette_core::model::Node| Peer {
        name: node.name.clone(),
        storage: node.storage,
        addresses: node.interfaces.iter().filter_map(|(n, i)| address(n, i.address)).collect(),
    };
    state.nodes.values().map(|node| (node.number, peer(node))).collect()
}

/// Who is a member now. Clones share one table.
#[derive(Clone, Debug, Default)]
pub struct Roster {
    members: Arc<RwLock<Arc<BTreeMap<NodeNumber, Peer>>>>,
    outdated: Arc<AtomicBool>,
}

impl Roster {
    /// Who is a member from now on.
    pub fn update(&self, members: BTreeMap<NodeNumber, Peer>) {
        *self.members.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(members);
    }

    /// Says whether the members are those that were known last instead of those of now. Whoever is
    /// not among them may still be one then.
    pub fn set_outdated(&self, outdated: bool) {
        self.outdated.store(outdated, Ordering::Relaxed);
    }

    /// Whether the members may be those of the past.
    pub fn outdated(&self) -> bool {
        self.outdated.load(Ordering::Relaxed)
    }

    /// Who is a member.
    pub fn members(&self) -> Arc<BTreeMap<NodeNumber, Peer>> {
        self.members.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the node with that storage is a member.
    pub fn is_member(&self, number: NodeNumber, storage: StorageId) -> bool {
        self.members().get(&number).is_some_and(|peer| peer.storage == storage)
    }

    /// Whether a member has that address.
    pub fn has_address(&self, address: IpAddr) -> bool {
        self.members().values().any(|peer| peer.addresses.values().any(|a| a.ip() == address))
    }
}
