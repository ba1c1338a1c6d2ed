//! Whom this node has around it: what its guard and its connections are to know.
//!
//! Taken from the state as soon as that is up to date; before that, from what was known last, which
//! is kept on disk. A state that is still being replayed is a state of the past, with members that
//! were not there yet: a guard told of that would forget peers that it hears.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use vedette_core::command::{Command, Proposal};
use vedette_core::config::{Address, Config};
use vedette_core::id::{NetworkNumber, NodeNumber};
use vedette_core::model::{HostStatus, Network, NetworkStatus};
use vedette_core::state::ClusterState;
use vedette_node::identity::{FORM, StateDir, StateDirError, WELCOME};
use vedette_node::join::PeerSet;
use vedette_node::log::Leadership;
use vedette_node::peers::{Peer, members};

/// What is known last: from the state, from joining, or from forming the cluster.
pub(crate) fn last_known(dir: &StateDir) -> Result<Option<PeerSet>, StateDirError> {
    if let Some(known) = dir.document::<PeerSet>(WELCOME)? {
        return Ok(Some(known));
    }
    let Some(form) = dir.document::<Proposal>(FORM)? else { return Ok(None) };
    Ok(of_form(&form))
}

/// What the forming of a cluster says.
fn of_form(form: &Proposal) -> Option<PeerSet> {
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
    Some(PeerSet { networks, members, settings: settings.clone() })
}

/// What the state says, if it is of now and this node is a member.
pub(crate) fn of_state(
    me: NodeNumber,
    state: &ClusterState,
    leadership: &Leadership,
) -> Option<PeerSet> {
    let of_now = leadership.leader.is_some()
        && leadership.last_applied > 0
        && leadership.last_applied >= leadership.committed;
    if !of_now || !state.nodes.contains_key(&me) {
        return None;
    }
    Some(PeerSet {
        networks: state.networks.clone(),
        members: members(state),
        settings: state.settings.clone(),
    })
}

/// Whether an address is on this machine.
pub(crate) fn is_here(address: IpAddr) -> bool {
    let bound = UdpSocket::bind(SocketAddr::new(address, 0));
    bound.is_ok_and(|_| !address.is_unspecified())
}

/// A node whose last known address is not on this machine takes the one that its own configuration names for that
/// network, if that is here: whoever corrects the file corrects the node, even if nobody can be reached. What the
/// cluster's document says holds again as soon as it is known. Answers what was done, a sentence each.
pub(crate) fn corrected(known: &mut PeerSet, me: NodeNumber, config: &Config) -> Vec<String> {
    let mut said = Vec::new();
    let Some(own) = known.members.get_mut(&me) else { return said };
    for (number, place) in &mut own.addresses {
        let Some(network) = known.networks.get(number) else { continue };
        let mut written = config.networks.values();
        let written = written.find(|written| written.name == network.name);
        let Some(Address::Ip(address)) = written.map(|written| &written.address) else { continue };
        if *address == place.ip() || is_here(place.ip()) || !is_here(*address) {
            continue;
        }
        said.push(format!(
            "network {}: {} is not on this host; {address} is taken from this node's own configuration until \
             the cluster's document is known. Correct that, too: [nodes.{}.addresses] of vedette config edit",
            network.name,
            place.ip(),
            own.name
        ));
        place.set_ip(*address);
    }
    said
}

/// Where a member listens for the others, one address a network.
pub(crate) fn listens_at(known: &PeerSet, node: NodeNumber) -> Vec<SocketAddr> {
    known
        .members
        .get(&node)
        .map_or_else(Vec::new, |peer| peer.addresses.values().copied().collect())
}

/// What differs between two moments only by statuses is the same.
pub(crate) fn same(one: &PeerSet, other: &PeerSet) -> bool {
    let bare = |all: &PeerSet| {
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

#[cfg(test)]
mod tests {
    use vedette_core::config;

    use super::*;

    fn peer_set(address: [u8; 4]) -> PeerSet {
        let fixture = vedette_core::fixture::Fixture::settled(2);
        let mut all = PeerSet {
            networks: fixture.state.networks.clone(),
            members: members(&fixture.state),
            settings: fixture.state.settings.clone(),
        };
        for peer in all.members.values_mut() {
            peer.addresses.values_mut().for_each(|place| place.set_ip(address.into()));
        }
        all
    }

    fn config(address: &str) -> Config {
        let text = format!(
            "[node]\nname = \"n1\"\n[cluster]\nname = \"demo\"\none_machine = true\n[[network]]\nname = \"neta\"\naddress = \"{address}\"\n"
        );
        config::parse("vedette.toml", &text, "n1").expect("a configuration").config
    }

    /// J2: a wrong address on the disk gives way to the one in the node's own file, if that is here.
    #[test]
    fn j2_a_corrected_file_corrects_the_node() {
        let (me, first) = (NodeNumber(1), NetworkNumber(1));
        let address = |known: &PeerSet, node: u16| {
            known.members[&NodeNumber(node)].addresses[&first].ip().to_string()
        };
        let mut known = peer_set([192, 0, 2, 7]);
        let said = corrected(&mut known, me, &config("127.0.0.1"));
        assert!(
            said.len() == 1 && said[0].starts_with("network neta: 192.0.2.7 is not"),
            "{said:?}"
        );
        assert_eq!(
            (address(&known, 1), address(&known, 2)),
            ("127.0.0.1".into(), "192.0.2.7".into())
        );
        // One that is here stays, whatever the file says; and one that is nowhere helps nobody.
        let mut right = peer_set([127, 0, 0, 1]);
        assert_eq!(corrected(&mut right, me, &config("127.0.0.2")), Vec::<String>::new());
        let mut wrong = peer_set([192, 0, 2, 7]);
        assert_eq!(corrected(&mut wrong, me, &config("192.0.2.9")), Vec::<String>::new());
    }
}
