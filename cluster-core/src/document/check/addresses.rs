//! Addresses: of nodes, of standby adapters, of services; none may be in two places.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::group::{GroupDef, ResourceDef, ResourceKind};
use crate::id::{NetworkNumber, NodeNumber};
use crate::model::Priority;
use crate::reach;
use crate::state::ClusterState;

use super::super::groups::{longest, same_subnet};
use super::{Document, Finding, key};

/// Networks and addresses of nodes, and what of them the running topology can follow.
pub(super) fn topology(document: &Document, state: &ClusterState, found: &mut Vec<Finding>) {
    if document.networks.is_empty() {
        let what = "no network would be left";
        found.push(Finding::error("networks", what, "Keep at least one, better two."));
    }
    if document.networks.len() > 1
        && document.networks.values().all(|network| network.priority == Priority::Low)
    {
        let what = "every network has low priority, so none carries beats at the full rate";
        found.push(Finding::warning("networks", what, "Give at least one priority = \"high\"."));
    }
    for (number, network) in &document.networks {
        ports(document, state, *number, found);
        for (node, own) in &document.addresses {
            let node_key = format!("nodes.{}.addresses.{}", state.node_name(*node), network.name);
            match own.get(number) {
                None => {
                    let what =
                        format!("{} has no address on {}", state.node_name(*node), network.name);
                    let advice = format!(
                        "Write it: [{}] {} = \"…\".",
                        node_key_table(state, *node),
                        network.name
                    );
                    found.push(Finding::error(node_key, what, advice));
                }
                Some(ip) => reachable(*ip, state, node_key, found),
            }
        }
    }
    moved(document, state, found);
    followed_later(document, state, found);
    own_once(document, state, found);
}

fn node_key_table(state: &ClusterState, node: NodeNumber) -> String {
    format!("nodes.{}.addresses", state.node_name(node))
}

/// Sockets are opened when a daemon starts; a port that changes meanwhile would cut every link.
fn ports(
    document: &Document,
    state: &ClusterState,
    number: NetworkNumber,
    found: &mut Vec<Finding>,
) {
    let (Some(new), Some(old)) = (document.networks.get(&number), state.networks.get(&number))
    else {
        return;
    };
    if (new.beat_port, new.peer_port) != (old.beat_port, old.peer_port) {
        let what = format!(
            "the ports of {} cannot change while the cluster runs: {} and {} are in use",
            old.name, old.beat_port, old.peer_port
        );
        let advice = "Add a network with the new ports, then remove this one.";
        found.push(Finding::error(format!("networks.{}", old.name), what, advice));
    }
}

/// A node whose every address changes at once could not be told of it.
fn moved(document: &Document, state: &ClusterState, found: &mut Vec<Finding>) {
    for (number, node) in &state.nodes {
        let Some(new) = document.addresses.get(number) else { continue };
        let kept = node.interfaces.iter().filter(|(network, own)| {
            new.get(network) == Some(&own.address) && document.networks.contains_key(network)
        });
        if !node.interfaces.is_empty() && kept.count() == 0 {
            let what = format!(
                "{} would keep none of its addresses, and be cut off by the change",
                node.name
            );
            let advice = "Change one network at a time, and keep another one meanwhile.";
            found.push(Finding::error(node_key_table(state, *number), what, advice));
        }
    }
}

/// Guards follow at once; the sockets of the replicated log are opened when an agent starts.
fn followed_later(document: &Document, state: &ClusterState, found: &mut Vec<Finding>) {
    for (number, network) in &document.networks {
        let differs = |(node, own): (&NodeNumber, &BTreeMap<NetworkNumber, IpAddr>)| {
            let interfaces = state.nodes.get(node).map(|node| &node.interfaces);
            let before = interfaces.and_then(|all| all.get(number)).map(|own| own.address);
            before != own.get(number).copied()
        };
        if document.addresses.iter().any(differs) {
            let what = format!(
                "heartbeats use the addresses on {} at once, the replicated log when each agent \
                 starts the next time",
                network.name
            );
            let advice = "Restart the daemons, one after the other, when it suits.";
            found.push(Finding::warning(format!("networks.{}", network.name), what, advice));
        }
    }
}

/// An address of a node or of a standby adapter: other nodes must reach it.
fn reachable(ip: IpAddr, state: &ClusterState, at: String, found: &mut Vec<Finding>) {
    let local = ip.is_loopback() && state.is_on_one_machine();
    if let Some(why) = reach::unreachable(ip).filter(|_| !local) {
        let what = format!("other nodes cannot reach it by {ip}, which {why}");
        found.push(Finding::error(at, what, reach::instead(ip)));
    }
}

/// Nodes and standby adapters: every address is there once.
fn own_once(document: &Document, state: &ClusterState, found: &mut Vec<Finding>) {
    let mut seen: BTreeMap<IpAddr, String> = BTreeMap::new();
    let mut wrong = Vec::new();
    let mut claim = |ip: IpAddr, owner: String, at: String| {
        if let Some(first) = seen.insert(ip, owner.clone()) {
            let what = format!("{ip} is the address of {first} and of {owner}");
            found.push(Finding::error(at, what, "Every adapter needs an address of its own."));
        }
    };
    for (node, own) in &document.addresses {
        for (network, ip) in own {
            let (node, network) = (state.node_name(*node), document.network_name(*network));
            claim(*ip, format!("{node} on {network}"), format!("nodes.{node}.addresses.{network}"));
        }
    }
    let (mut adapters, mut second) = (BTreeMap::new(), Vec::new());
    for (place, standby) in document.definition.standbys.iter().enumerate() {
        if let Some(first) = adapters.insert((standby.node, standby.network), place) {
            let (node, network) =
                (state.node_name(standby.node), document.network_name(standby.network));
            let what = format!(
                "{node} has a second standby adapter on {network}, after standby[{}]",
                first + 1
            );
            let advice = "One takes over for the service adapter; leave the other out.";
            second.push(Finding::error(format!("standby[{}]", place + 1), what, advice));
        }
        let owner = format!("a standby adapter of {}", state.node_name(standby.node));
        reachable(standby.address, state, format!("standby[{}].address", place + 1), &mut wrong);
        claim(standby.address, owner, format!("standby[{}].address", place + 1));
    }
    found.append(&mut wrong);
    found.extend(second);
}

/// Service addresses: on their network, and nobody else's.
pub(super) fn service(document: &Document, state: &ClusterState, found: &mut Vec<Finding>) {
    let mut seen: BTreeMap<IpAddr, &str> = BTreeMap::new();
    for group in &document.definition.groups {
        for resource in &group.resources {
            let ResourceKind::Address { address, prefix, network, .. } = resource.kind else {
                continue;
            };
            fits(document, (group, resource), (address, prefix, network), found);
            foreign(document, state, (group, resource), address, found);
            if let Some(first) = seen.insert(address, &resource.name) {
                let what = format!("{address} is the address of {first} and of {}", resource.name);
                let advice = "Give each a different address; one address can be in one place only.";
                found.push(Finding::error(key(group, resource, "address"), what, advice));
            }
        }
    }
}

fn fits(
    document: &Document,
    (group, resource): (&GroupDef, &ResourceDef),
    (ip, prefix, network): (IpAddr, u8, NetworkNumber),
    found: &mut Vec<Finding>,
) {
    let at = key(group, resource, "address");
    if let Some(why) = reach::unreachable(ip) {
        let what = format!("clients cannot reach a service by {ip}, which {why}");
        found.push(Finding::error(&at, what, reach::instead(ip)));
        return;
    }
    if let Some(why) = reach::not_a_host(ip, prefix) {
        let what = format!("{ip}/{prefix} {why}, and no service can have it");
        found.push(Finding::error(&at, what, "Write a free address between the two ends of it."));
    }
    if prefix == 0 || prefix > longest(ip) {
        let what = format!("a prefix of {prefix} bits does not fit {ip}");
        found.push(Finding::error(&at, what, format!("Write 1 to {}.", longest(ip))));
    }
    let Some(name) = document.networks.get(&network).map(|network| &network.name) else {
        let what = format!("the network of {} would be gone", resource.name);
        let advice = "Name another network for it, or keep this one.";
        found.push(Finding::error(key(group, resource, "network"), what, advice));
        return;
    };
    let on_it = || document.addresses.values().filter_map(|own| own.get(&network));
    let alone = prefix == longest(ip);
    let near = |own: &IpAddr| {
        if alone { reach::is_near(*own, ip) } else { same_subnet(*own, ip, prefix) }
    };
    if on_it().next().is_some() && !on_it().any(near) {
        let what = format!("{ip}/{prefix} is in another subnet than the addresses of {name}");
        let advice = "That works only if routers know the way; usually address or prefix is wrong.";
        found.push(Finding::warning(&at, what, advice));
    }
}

/// A service address that something else has for good.
fn foreign(
    document: &Document,
    state: &ClusterState,
    (group, resource): (&GroupDef, &ResourceDef),
    ip: IpAddr,
    found: &mut Vec<Finding>,
) {
    let node = document.addresses.iter().find(|(_, own)| own.values().any(|known| *known == ip));
    let standby = document.definition.standbys.iter().find(|standby| standby.address == ip);
    let ping = document.networks.values().find(|network| network.ping == Some(ip));
    let owner = match (node, standby, ping) {
        (Some((node, _)), ..) => format!("{}'s own address", state.node_name(*node)),
        (_, Some(standby), _) => {
            format!("of a standby adapter of {}", state.node_name(standby.node))
        }
        (.., Some(network)) => format!("what {} is probed with (ping)", network.name),
        _ => return,
    };
    let what = format!("{ip} is {owner} and cannot move");
    let advice = "Choose an address that nothing has; it must be free on the network.";
    found.push(Finding::error(key(group, resource, "address"), what, advice));
}
