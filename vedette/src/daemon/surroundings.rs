//! Whom this node has around it: what its guard and its connections are to know.
//!
//! Taken from the state as soon as that is up to date; before that, from what was known last, which
//! is kept on disk. A state that is still being replayed is a state of the past, with members that
//! were not there yet: a guard told of that would forget peers that it hears.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use vedette_core::command::{Command, Proposal};
use vedette_core::id::{NetworkNumber, NodeNumber};
use vedette_core::model::{HostStatus, Network, NetworkStatus};
use vedette_core::state::ClusterState;
use vedette_node::identity::{FORM, StateDir, StateDirError, WELCOME};
use vedette_node::join::Surroundings;
use vedette_node::log::Leadership;
use vedette_node::peers::{Peer, members};

/// What is known last: from the state, from joining, or from forming the cluster.
pub(crate) fn last_known(dir: &StateDir) -> Result<Option<Surroundings>, StateDirError> {
    if let Some(known) = dir.document::<Surroundings>(WELCOME)? {
        return Ok(Some(known));
    }
    let Some(form) = dir.document::<Proposal>(FORM)? else { return Ok(None) };
    Ok(of_form(&form))
}

/// What the forming of a cluster says.
fn of_form(form: &Proposal) -> Option<Surroundings> {
    let Command::Form { networks, first, settings, .. } = &form.command else { return None };
    let networks: BTreeMap<NetworkNumber, Network> = networks
        .iter()
        .map(|(number, new)| {
            let network = Network {
                name: new.name.clone(),
                priority: new.priority,
                beat_port: new.beat_port,
                peer_port: new.peer_port,
                ping: new.ping,
                status: NetworkStatus::Unknown,
                since: form.at,
            };
            (*number, network)
        })
        .collect();
    let addresses = first
        .addresses
        .iter()
        .filter_map(|(number, address)| {
            Some((*number, (*address, networks.get(number)?.peer_port).into()))
        })
        .collect();
    let first_peer = Peer { name: first.name.clone(), storage: first.storage, addresses };
    let members = BTreeMap::from([(first.number, first_peer)]);
    Some(Surroundings { networks, members, settings: settings.clone() })
}

/// What the state says, if it is of now and this node is a member.
pub(crate) fn of_state(
    me: NodeNumber,
    state: &ClusterState,
    leadership: &Leadership,
) -> Option<Surroundings> {
    let of_now = leadership.leader.is_some()
        && leadership.last_applied > 0
        && leadership.last_applied >= leadership.committed;
    if !of_now || !state.nodes.contains_key(&me) {
        return None;
    }
    Some(Surroundings {
        networks: state.networks.clone(),
        members: members(state),
        settings: state.settings.clone(),
    })
}

/// Where a member listens for the others, one address a network.
pub(crate) fn listens_at(known: &Surroundings, node: NodeNumber) -> Vec<SocketAddr> {
    known
        .members
        .get(&node)
        .map_or_else(Vec::new, |peer| peer.addresses.values().copied().collect())
}

/// What differs between two moments only by statuses is the same.
pub(crate) fn same(one: &Surroundings, other: &Surroundings) -> bool {
    let bare = |all: &Surroundings| {
        let mut all = all.clone();
        for network in all.networks.values_mut() {
            network.status = NetworkStatus::Unknown;
            network.since = Default::default();
        }
        all
    };
    bare(one) == bare(other)
}

/// Which members are live, for the guard: those whose host is not committed as gone.
pub(crate) fn is_live(state: &ClusterState, node: NodeNumber) -> bool {
    let away = [HostStatus::Down, HostStatus::Disconnected];
    state.nodes.get(&node).is_none_or(|node| !away.contains(&node.host))
}
