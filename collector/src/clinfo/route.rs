//! How to reach a node, and whether an address answers: clinfo's `cl_bestroute` and
//! `cl_isaddravail` (spec H41).
//!
//! The rule of the original: list the working interfaces here and those of the target; networks of
//! the preferred kind first; a pair on the same network wins; otherwise the first here with the
//! first there. What was *private before public* there is *priority high before low* here.
//!
//! Without a quorum a node goes by what it sees: its own interfaces that can be used, and those of peers
//! with a link to it that works both ways. Of anything else it says that it does not know.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use vedette_core::group::{Group, Instance, ResourceKind, ResourceState};
use vedette_core::id::{NetworkNumber, NodeNumber};
use vedette_core::model::{HostStatus, InterfaceStatus, Node, Priority};
use vedette_core::view::View;

use super::node::find_node;

/// The best way from one node to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RouteDoc {
    /// Where it begins.
    pub from: String,
    /// Where it ends.
    pub to: String,
    /// The address to send from.
    pub local_address: String,
    /// The network of that address.
    pub local_network: String,
    /// The address to send to.
    pub remote_address: String,
    /// The network of that address.
    pub remote_network: String,
    /// Whether both are on the same network.
    pub same_network: bool,
}

/// Why there is no route.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRoute {
    /// No such member.
    #[error("there is no node {0}")]
    UnknownNode(String),
    /// An end has no working interface.
    #[error("no interface of {0} works")]
    NoInterface(String),
    /// Nobody knows whether an interface of an end works.
    #[error("whether an interface of {0} works is not known")]
    NotKnown(String),
}

/// Whether an address of the cluster answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AvailabilityDoc {
    /// The address.
    pub address: String,
    /// Whether it answers; `null` where that is not known.
    pub available: Option<bool>,
    /// Whose it is; of a service address who has it, empty if nobody does.
    pub node: String,
    /// On which network.
    pub network: String,
    /// Status of the interface.
    #[schema(value_type = String, example = "UP")]
    pub interface_status: InterfaceStatus,
    /// Status of the host.
    #[schema(value_type = String, example = "UP")]
    pub host_status: HostStatus,
    /// The resource group, if it is a service address.
    pub group: Option<String>,
    /// Its resource of that group.
    pub resource: Option<String>,
}

/// An interface that works.
struct Working {
    network: NetworkNumber,
    address: IpAddr,
}

impl RouteDoc {
    /// The best route between two members, each given by number or name.
    ///
    /// # Errors
    /// An end is no member, or has no interface that is known to work.
    pub fn new(view: &View, from: &str, to: &str) -> Result<Self, NoRoute> {
        let member =
            |name: &str| find_node(view, name).ok_or_else(|| NoRoute::UnknownNode(name.into()));
        let (from, to) = (member(from)?, member(to)?);
        let (here, there) = (working(view, from), working(view, to));
        let same = here
            .iter()
            .find_map(|own| Some((own, there.iter().find(|o| o.network == own.network)?)));
        let (local, remote) = match (same, here.first(), there.first()) {
            (Some(pair), ..) => pair,
            (None, Some(local), Some(remote)) => (local, remote),
            (None, None, _) => return Err(none_of(view, from)),
            (None, _, None) => return Err(none_of(view, to)),
        };
        Ok(Self {
            from: from.name.clone(),
            to: to.name.clone(),
            local_address: local.address.to_string(),
            local_network: view.state.network_name(local.network),
            remote_address: remote.address.to_string(),
            remote_network: view.state.network_name(remote.network),
            same_network: local.network == remote.network,
        })
    }
}

/// The working interfaces of a node; those on networks of high priority first.
fn working(view: &View, node: &Node) -> Vec<Working> {
    let mut list: Vec<(Priority, Working)> = node
        .interfaces
        .iter()
        .filter(|(network, _)| works(view, node, **network) == Some(true))
        .map(|(number, own)| {
            let network = view.state.networks.get(number);
            let priority = network.map_or(Priority::Low, |network| network.priority);
            (priority, Working { network: *number, address: own.address })
        })
        .collect();
    list.sort_by_key(|(priority, own)| (*priority, own.network));
    list.into_iter().map(|(_, own)| own).collect()
}

/// Whether the interface of a node on a network works, as far as that is known.
fn works(view: &View, node: &Node, network: NetworkNumber) -> Option<bool> {
    if !view.local.knows() {
        return seen_to_work(view, node.number, network);
    }
    let status = node.interfaces.get(&network).map(|own| own.status);
    match (node.host, status) {
        (HostStatus::Unknown, _) | (HostStatus::Up, Some(InterfaceStatus::Unknown)) => None,
        (host, status) => Some(host == HostStatus::Up && status == Some(InterfaceStatus::Up)),
    }
}

/// What the answering node sees by itself. That it does not hear a peer says nothing of the peer's
/// interface: the fault may be anywhere between.
fn seen_to_work(view: &View, node: NodeNumber, network: NetworkNumber) -> Option<bool> {
    let report = view.local.report.as_deref()?;
    if node == view.local.node {
        let own = report.interfaces.iter().find(|own| own.network == network)?;
        return Some(own.usable);
    }
    let mut links = report.links.iter().filter(|link| (link.peer, link.network) == (node, network));
    links.any(|link| link.inbound && link.outbound).then_some(true)
}

/// Why there is no route to or from a node of which no interface is known to work.
fn none_of(view: &View, node: &Node) -> NoRoute {
    let failed = |network: &NetworkNumber| works(view, node, *network) == Some(false);
    let name = node.name.clone();
    if node.interfaces.keys().all(failed) {
        NoRoute::NoInterface(name)
    } else {
        NoRoute::NotKnown(name)
    }
}

impl AvailabilityDoc {
    /// Whether `address` answers: one of a node's own, or a service address (spec H26). `None` if
    /// the cluster does not have it.
    pub fn new(view: &View, address: IpAddr) -> Option<Self> {
        Self::of_node(view, address).or_else(|| Self::of_group(view, address))
    }

    fn of_node(view: &View, address: IpAddr) -> Option<Self> {
        view.state.nodes.values().find_map(|node| {
            let (network, own) = node.interfaces.iter().find(|(_, own)| own.address == address)?;
            Some(Self {
                address: address.to_string(),
                available: answers(view, node.host, own.status),
                node: node.name.clone(),
                network: view.state.network_name(*network),
                interface_status: own.status,
                host_status: node.host,
                group: None,
                resource: None,
            })
        })
    }

    fn of_group(view: &View, address: IpAddr) -> Option<Self> {
        let state = &*view.state;
        let (def, resource, network) = state.definition.groups.iter().find_map(|def| {
            def.resources.iter().find_map(|resource| match resource.kind {
                ResourceKind::Address { address: own, network, .. } if own == address => {
                    Some((def, resource, network))
                }
                _ => None,
            })
        })?;
        let holder = state.groups.get(&def.name).and_then(|group| has(group, &resource.name));
        let node = holder.and_then(|number| state.nodes.get(&number));
        let interface_status = node
            .and_then(|node| node.interfaces.get(&network))
            .map_or(InterfaceStatus::Unknown, |own| own.status);
        let host_status = node.map_or(HostStatus::Unknown, |node| node.host);
        Some(Self {
            address: address.to_string(),
            available: answers(view, host_status, interface_status),
            node: node.map_or_else(String::new, |node| node.name.clone()),
            network: state.network_name(network),
            interface_status,
            host_status,
            group: Some(def.name.clone()),
            resource: Some(resource.name.clone()),
        })
    }
}

/// Whether an address with these statuses answers, as far as that is known.
fn answers(view: &View, host: HostStatus, interface: InterfaceStatus) -> Option<bool> {
    let answers = host == HostStatus::Up && interface == InterfaceStatus::Up;
    view.local.knows().then_some(answers)
}

/// The node on which a resource works.
fn has(group: &Group, resource: &str) -> Option<NodeNumber> {
    let works = |instance: &Instance| {
        instance.resources.get(resource).is_some_and(|own| own.state == ResourceState::Online)
    };
    group.instances.iter().find(|(_, instance)| works(instance)).map(|(node, _)| *node)
}
