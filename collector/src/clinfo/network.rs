//! Networks, interfaces and links (spec H4, H5, V6).
//!
//! A network's document holds what `lssrc -ls topsvcs` shows: how many nodes are defined and how
//! many are in its group, the group's state and leader, interval and sensitivity.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use vedette_core::id::{NetworkNumber, NodeNumber};
use vedette_core::model::{
    GroupStatus, Interface, InterfaceStatus, Link, LinkStatus, Network, NetworkStatus, Node,
    Priority,
};
use vedette_core::observation::LinkView;
use vedette_core::state::StandbyStatus;
use vedette_core::view::View;

use super::LastKnownDoc;
use super::known::last_status;

/// A network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NetworkDoc {
    /// Its number.
    pub number: u8,
    /// Its name.
    pub name: String,
    /// `high` or `low`.
    #[schema(value_type = String, example = "high")]
    pub priority: Priority,
    /// `UNKNOWN`, `UP` or `DOWN`.
    #[schema(value_type = String, example = "UP")]
    pub status: NetworkStatus,
    /// Since when.
    pub since: String,
    /// UDP port of heartbeats.
    pub beat_port: u16,
    /// TCP port of peers.
    pub peer_port: u16,
    /// What is probed when two nodes cannot tell whose fault it is.
    pub ping: Option<String>,
    /// Name of its membership group.
    pub group: String,
    /// The revision at which the group last changed.
    pub group_generation: u64,
    /// `Unknown`, `Stable`, `Unstable` or `Disabled`.
    #[schema(value_type = String, example = "Stable")]
    pub group_status: GroupStatus,
    /// How many nodes have an interface on it.
    pub nodes_defined: usize,
    /// How many are in its group; `null` where that is not known.
    pub nodes_in_group: Option<usize>,
    /// Their names, as far as they are known.
    pub members: Vec<String>,
    /// The member with the highest address (spec H2).
    pub leader: Option<String>,
    /// Standby adapters on it, by node.
    pub standbys: Vec<StandbyDoc>,
    /// Time between two beats on it: twice as long at low priority, until every network of high
    /// priority has failed (spec V2, V3).
    pub interval_ms: u64,
    /// Missed beats until a link is down.
    pub sensitivity: u64,
    /// What was known of it last, where its present status is not known.
    #[serde(default)]
    pub last_known: Option<LastKnownDoc>,
}

/// An address of a node on a network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct InterfaceDoc {
    /// Name of the node.
    pub node: String,
    /// Its number.
    pub node_number: u16,
    /// Name of the network.
    pub network: String,
    /// Its number.
    pub network_number: u8,
    /// The address.
    pub address: String,
    /// `UNKNOWN`, `UP` or `DOWN`.
    #[schema(value_type = String, example = "UP")]
    pub status: InterfaceStatus,
    /// Since when.
    pub since: String,
    /// What was known of it last, where its present status is not known.
    #[serde(default)]
    pub last_known: Option<LastKnownDoc>,
}

/// A standby adapter: it takes over if the adapter of its node on that network fails (spec H27).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StandbyDoc {
    /// Name of the node.
    pub node: String,
    /// Its number.
    pub node_number: u16,
    /// Name of the network.
    pub network: String,
    /// Its number.
    pub network_number: u8,
    /// Its own address.
    pub address: String,
    /// `UP`: it could take over; `DOWN`: it could not; `UNKNOWN` while nobody looks after it.
    #[schema(value_type = String, example = "UP")]
    pub status: InterfaceStatus,
    /// Since when it is DOWN; `null` if it is not.
    pub since: Option<String>,
    /// Why it is DOWN, such as `eth3 has no link`; empty if it is not.
    pub cause: String,
}

/// The path between two nodes over one network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LinkDoc {
    /// The node with the lower number.
    pub low: String,
    /// Its number.
    pub low_number: u16,
    /// The node with the higher number.
    pub high: String,
    /// Its number.
    pub high_number: u16,
    /// Name of the network.
    pub network: String,
    /// Its number.
    pub network_number: u8,
    /// `high` or `low`.
    #[schema(value_type = String, example = "high")]
    pub priority: Priority,
    /// `UNKNOWN`, `UP`, `DOWN` or `ONE_WAY`.
    #[schema(value_type = String, example = "UP")]
    pub status: LinkStatus,
    /// Since when.
    pub since: String,
    /// What was known of it last, where its present status is not known.
    #[serde(default)]
    pub last_known: Option<LastKnownDoc>,
    /// What the answering node itself sees, if the link is one of its own.
    pub seen: Option<LinkSeenDoc>,
}

/// What the answering node sees of a link of its own: an observation, not a fact of the cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LinkSeenDoc {
    /// Name of the peer.
    pub peer: String,
    /// The peer's packets arrive here.
    pub inbound: bool,
    /// Ours arrive there, as the peer says.
    pub outbound: bool,
    /// Time since the last authentic packet; `null` if there never was one.
    pub silent_ms: Option<u64>,
    /// Smoothed round-trip time.
    pub rtt_ms: Option<f64>,
    /// Beats that arrived.
    pub received: u64,
    /// Beats that did not.
    pub lost: u64,
}

impl NetworkDoc {
    /// One network of a view.
    pub fn new(view: &View, number: NetworkNumber, network: &Network) -> Self {
        let state = &*view.state;
        let port = state.ports.get(&network.name);
        let members: Vec<NodeNumber> = port.map_or_else(Vec::new, |port| port.members.clone());
        let timing = &state.settings.timing;
        Self {
            number: number.0,
            name: network.name.clone(),
            priority: network.priority,
            status: network.status,
            since: network.since.to_string(),
            beat_port: network.beat_port,
            peer_port: network.peer_port,
            ping: network.ping.map(|address| address.to_string()),
            group: port.map_or_else(String::new, |port| port.group.clone()),
            group_generation: port.map_or(0, |port| port.generation),
            group_status: state.group_status(number),
            nodes_defined: interfaces_on(view, number).count(),
            nodes_in_group: view.local.knows().then_some(members.len()),
            leader: view.local.knows().then(|| leader(view, number, &members)).flatten(),
            standbys: StandbyDoc::on_network(view, number),
            members: members.iter().map(|node| state.node_name(*node)).collect(),
            interval_ms: timing.interval_ms * rate_divisor(view, network),
            sensitivity: timing.sensitivity,
            last_known: last_status(view, network.status == NetworkStatus::Unknown, |known| {
                let last = known.networks.get(&number)?;
                Some((last.status.to_string(), last.since))
            }),
        }
    }

    /// Every network, by number.
    pub fn all(view: &View) -> Vec<Self> {
        view.state.networks.iter().map(|(number, net)| Self::new(view, *number, net)).collect()
    }

    /// The network with that number or name.
    pub fn find(view: &View, number_or_name: &str) -> Option<Self> {
        let number = number_or_name.parse().ok().map(NetworkNumber);
        let named = |(own, net): &(&NetworkNumber, &Network)| {
            Some(**own) == number || net.name == number_or_name
        };
        view.state.networks.iter().find(named).map(|(own, net)| Self::new(view, *own, net))
    }
}

/// Everybody's interface on a network.
fn interfaces_on(view: &View, network: NetworkNumber) -> impl Iterator<Item = (&Node, &Interface)> {
    view.state
        .nodes
        .values()
        .filter_map(move |node| node.interfaces.get(&network).map(|own| (node, own)))
}

fn leader(view: &View, network: NetworkNumber, members: &[NodeNumber]) -> Option<String> {
    interfaces_on(view, network)
        .filter(|(node, _)| members.contains(&node.number))
        .max_by_key(|(_, own)| own.address)
        .map(|(node, _)| node.name.clone())
}

/// Low priority beats at half the rate while a network of high priority works.
fn rate_divisor(view: &View, network: &Network) -> u64 {
    let high_works = view
        .state
        .networks
        .values()
        .any(|other| other.priority == Priority::High && other.status != NetworkStatus::Down);
    if network.priority == Priority::Low && high_works { 2 } else { 1 }
}

impl InterfaceDoc {
    /// One interface of a view.
    pub fn new(view: &View, node: &Node, network: NetworkNumber, interface: &Interface) -> Self {
        Self {
            node: node.name.clone(),
            node_number: node.number.0,
            network: view.state.network_name(network),
            network_number: network.0,
            address: interface.address.to_string(),
            status: interface.status,
            since: interface.since.to_string(),
            last_known: last_status(view, interface.status == InterfaceStatus::Unknown, |known| {
                let last = known.nodes.get(&node.number)?.interfaces.get(&network)?;
                Some((last.status.to_string(), last.since))
            }),
        }
    }

    /// The interfaces of a node.
    pub fn of_node(view: &View, node: &Node) -> Vec<Self> {
        let doc = |(network, interface): (&NetworkNumber, &Interface)| {
            Self::new(view, node, *network, interface)
        };
        node.interfaces.iter().map(doc).collect()
    }

    /// Every interface, by node and network.
    pub fn all(view: &View) -> Vec<Self> {
        view.state.nodes.values().flat_map(|node| Self::of_node(view, node)).collect()
    }
}

impl StandbyDoc {
    /// The standby adapters of a node.
    pub fn of_node(view: &View, node: &Node) -> Vec<Self> {
        let own = view.state.standbys().filter(|standby| standby.node == node.number);
        own.map(|standby| Self::new(view, &standby)).collect()
    }

    /// The standby adapters on a network.
    pub fn on_network(view: &View, network: NetworkNumber) -> Vec<Self> {
        let own = view.state.standbys().filter(|standby| standby.network == network);
        own.map(|standby| Self::new(view, &standby)).collect()
    }

    fn new(view: &View, standby: &StandbyStatus<'_>) -> Self {
        Self {
            node: view.state.node_name(standby.node),
            node_number: standby.node.0,
            network: view.state.network_name(standby.network),
            network_number: standby.network.0,
            address: standby.address.to_string(),
            status: standby.status,
            since: standby.fault.map(|fault| fault.since.to_string()),
            cause: standby.fault.map_or_else(String::new, |fault| fault.cause.clone()),
        }
    }
}

impl LinkDoc {
    /// One link of a view.
    pub fn new(view: &View, link: &Link) -> Self {
        let state = &*view.state;
        let network = state.networks.get(&link.network);
        Self {
            low: state.node_name(link.low),
            low_number: link.low.0,
            high: state.node_name(link.high),
            high_number: link.high.0,
            network: state.network_name(link.network),
            network_number: link.network.0,
            priority: network.map_or(Priority::High, |network| network.priority),
            status: link.status,
            since: link.since.to_string(),
            last_known: last_status(view, link.status == LinkStatus::Unknown, |known| {
                let last = known.links.iter().find(|last| last.key() == link.key())?;
                Some((last.status.to_string(), last.since))
            }),
            seen: seen_of(view, link).map(|seen| LinkSeenDoc::new(view, seen)),
        }
    }

    /// Every link, ordered by its ends and network.
    pub fn all(view: &View) -> Vec<Self> {
        view.state.links.iter().map(|link| Self::new(view, link)).collect()
    }
}

/// The answering node's own observation of a link, if it is at one end.
fn seen_of<'a>(view: &'a View, link: &Link) -> Option<&'a LinkView> {
    let peer = match view.local.node {
        own if own == link.low => link.high,
        own if own == link.high => link.low,
        _ => return None,
    };
    let report = view.local.report.as_ref()?;
    report.links.iter().find(|seen| seen.peer == peer && seen.network == link.network)
}

impl LinkSeenDoc {
    fn new(view: &View, seen: &LinkView) -> Self {
        Self {
            peer: view.state.node_name(seen.peer),
            inbound: seen.inbound,
            outbound: seen.outbound,
            silent_ms: seen.silent.map(super::local::millis),
            rtt_ms: seen.rtt_us.map(|micros| f64::from(micros) / 1_000.0),
            received: seen.received,
            lost: seen.lost,
        }
    }
}
