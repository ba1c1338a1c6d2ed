//! Links, interfaces, networks: which piece of the wiring failed (spec H4).
//!
//! A link is judged from both its ends. An interface is judged from its links, where the network
//! carries others; where it does not, the network is at fault. With two nodes left these two cannot
//! be told apart from inside: then the node that can still reach the network's ping target is taken
//! for the healthy one, and where that does not decide, the network is blamed.
//!
//! An interface that nobody reaches although peers are there is DOWN, whosever fault that is: on a
//! network that is DOWN nothing is left to rely on. `ClusterState::apply` takes the interfaces along
//! when the network goes DOWN; here are those that join it later.

use std::collections::{BTreeMap, BTreeSet};

use crate::command::Change;
use crate::id::{NetworkNumber, NodeNumber};
use crate::model::{HostStatus, InterfaceStatus, LinkStatus, NetworkStatus};

use super::{Picture, Received, Sight};

type LinkKey = (NodeNumber, NodeNumber, NetworkNumber);

/// What one link does in each direction, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Directions {
    low_to_high: bool,
    high_to_low: bool,
}

impl Directions {
    fn status(self) -> LinkStatus {
        match (self.low_to_high, self.high_to_low) {
            (true, true) => LinkStatus::Up,
            (false, false) => LinkStatus::Down,
            _ => LinkStatus::OneWay,
        }
    }
}

/// What was found on one network.
struct Findings {
    /// Interfaces that work or do not, with the reason; those not mentioned stay as they are.
    interfaces: BTreeMap<NodeNumber, (InterfaceStatus, String)>,
    network: Option<(NetworkStatus, String)>,
}

impl Picture<'_> {
    /// Changes of networks, then of interfaces, then of links.
    pub(super) fn network_changes(&self, hosts: &BTreeMap<NodeNumber, HostStatus>) -> Vec<Change> {
        let there: BTreeSet<NodeNumber> = hosts
            .iter()
            .filter(|(node, host)| **host == HostStatus::Up && !self.in_doubt(**node))
            .map(|(node, _)| *node)
            .collect();
        let links = self.links(&there);
        let (mut networks, mut interfaces) = (Vec::new(), Vec::new());
        for &network in self.state.networks.keys() {
            let findings = self.findings(network, &there, &links);
            networks.extend(self.network_change(network, findings.network));
            interfaces.extend(findings.interfaces.into_iter().filter_map(|(node, (to, cause))| {
                let now = self.state.nodes.get(&node)?.interfaces.get(&network)?.status;
                (now != to).then_some(Change::Interface { node, network, to, cause })
            }));
        }
        networks.extend(interfaces);
        networks.extend(self.link_changes(&links));
        networks
    }

    fn network_change(
        &self,
        network: NetworkNumber,
        found: Option<(NetworkStatus, String)>,
    ) -> Option<Change> {
        let (to, cause) = found?;
        let now = self.state.networks.get(&network)?.status;
        (now != to).then_some(Change::Network { network, to, cause })
    }

    fn link_changes(&self, links: &BTreeMap<LinkKey, Directions>) -> Vec<Change> {
        let changed = links.iter().filter_map(|(&(low, high, network), &directions)| {
            let to = directions.status();
            let place = self
                .state
                .links
                .binary_search_by_key(&(low, high, network), crate::model::Link::key);
            let now = place.map_or(LinkStatus::Unknown, |at| self.state.links[at].status);
            (now != to).then(|| {
                let cause = self.link_cause(low, high, directions);
                Change::Link { low, high, network, to, cause }
            })
        });
        changed.collect()
    }

    fn link_cause(&self, low: NodeNumber, high: NodeNumber, found: Directions) -> String {
        let (low, high) = (self.state.node_name(low), self.state.node_name(high));
        match (found.low_to_high, found.high_to_low) {
            (true, true) => "both directions work".into(),
            (false, false) => format!("{low} and {high} do not hear each other"),
            (true, false) => format!("{high} hears {low}, {low} does not hear {high}"),
            (false, true) => format!("{low} hears {high}, {high} does not hear {low}"),
        }
    }

    /// Every link between two nodes that are there, as both its ends see it.
    fn links(&self, there: &BTreeSet<NodeNumber>) -> BTreeMap<LinkKey, Directions> {
        let mut ends: BTreeMap<LinkKey, (Option<&Sight>, Option<&Sight>)> = BTreeMap::new();
        for (&peer, sights) in self.sights.iter().filter(|(peer, _)| there.contains(peer)) {
            for sight in sights.iter().filter(|sight| there.contains(&sight.observer)) {
                let network = sight.view.network;
                if sight.observer < peer {
                    ends.entry((sight.observer, peer, network)).or_default().0 = Some(sight);
                } else {
                    ends.entry((peer, sight.observer, network)).or_default().1 = Some(sight);
                }
            }
        }
        ends.into_iter()
            .filter_map(|(key, (low, high))| Some((key, self.directions(low, high)?)))
            .collect()
    }

    /// What an end hears, it knows; what the other end hears, it knows from hearsay, and only its
    /// word counts if there is no other.
    fn directions(&self, low: Option<&Sight>, high: Option<&Sight>) -> Option<Directions> {
        let direct = |sight: Option<&Sight>| sight.and_then(|sight| self.hears(sight));
        let hearsay = |sight: Option<&Sight>| sight.map(|sight| sight.view.outbound);
        let high_to_low = direct(low).or_else(|| hearsay(high))?;
        let low_to_high = direct(high).or_else(|| hearsay(low))?;
        Some(Directions { low_to_high, high_to_low })
    }

    /// Whether an observer hears the peer; not known before it has listened long enough.
    fn hears(&self, sight: &Sight) -> Option<bool> {
        let known = sight.view.inbound || sight.since_heard() >= self.detect;
        known.then_some(sight.view.inbound)
    }

    fn findings(
        &self,
        network: NetworkNumber,
        there: &BTreeSet<NodeNumber>,
        links: &BTreeMap<LinkKey, Directions>,
    ) -> Findings {
        let here = self.with_interface(network, there);
        let on = || links.iter().filter(|((_, _, on), _)| *on == network);
        let up: BTreeSet<NodeNumber> = on()
            .filter(|(_, found)| found.status() == LinkStatus::Up)
            .flat_map(|((low, high, _), _)| [*low, *high])
            .collect();
        let tried: BTreeSet<NodeNumber> =
            on().flat_map(|((low, high, _), _)| [*low, *high]).collect();
        let mut interfaces = BTreeMap::new();
        for &node in &here {
            if let Some(found) = self.interface_verdict(network, node, &here, &up, &tried) {
                interfaces.insert(node, found);
            }
        }
        let failed = |node: &NodeNumber| {
            interfaces.get(node).is_some_and(|(status, _)| *status == InterfaceStatus::Down)
        };
        let left: BTreeSet<NodeNumber> = here.iter().copied().filter(|n| !failed(n)).collect();
        let found = self.network_verdict(network, &left, &up, &tried);
        self.undecided(network, &left, found.as_ref(), &mut interfaces);
        Findings { interfaces, network: found }
    }

    /// Interfaces that were not judged by themselves: the last one that can be used works as far as
    /// anybody knows, and on a network that is DOWN none does.
    fn undecided(
        &self,
        network: NetworkNumber,
        left: &BTreeSet<NodeNumber>,
        found: Option<&(NetworkStatus, String)>,
        interfaces: &mut BTreeMap<NodeNumber, (InterfaceStatus, String)>,
    ) {
        let now = self.state.networks.get(&network).map(|network| network.status);
        match (found.map(|(status, _)| *status), left.first()) {
            (Some(NetworkStatus::Up), Some(&alone)) if left.len() == 1 => {
                let cause = "its address can be used, and that of no peer can".to_owned();
                interfaces.entry(alone).or_insert((InterfaceStatus::Up, cause));
            }
            (Some(NetworkStatus::Down), _) if now == Some(NetworkStatus::Down) => {
                for &node in left {
                    let cause = self.state.unreached(network);
                    interfaces.entry(node).or_insert((InterfaceStatus::Down, cause));
                }
            }
            _ => {}
        }
    }

    fn with_interface(
        &self,
        network: NetworkNumber,
        there: &BTreeSet<NodeNumber>,
    ) -> BTreeSet<NodeNumber> {
        let has = |node: &&NodeNumber| {
            self.state.nodes.get(node).is_some_and(|node| node.interfaces.contains_key(&network))
        };
        there.iter().filter(has).copied().collect()
    }

    fn interface_verdict(
        &self,
        network: NetworkNumber,
        node: NodeNumber,
        here: &BTreeSet<NodeNumber>,
        up: &BTreeSet<NodeNumber>,
        tried: &BTreeSet<NodeNumber>,
    ) -> Option<(InterfaceStatus, String)> {
        let name = self.state.network_name(network);
        if self.usable(network, node) == Some(false) {
            return Some((InterfaceStatus::Down, "its address cannot be used on its host".into()));
        }
        if up.contains(&node) {
            return Some((InterfaceStatus::Up, format!("a peer reaches it over {name}")));
        }
        if here.len() == 1 && self.usable(network, node) == Some(true) {
            return Some((
                InterfaceStatus::Up,
                "its address can be used, and no peer is there".into(),
            ));
        }
        if !tried.contains(&node) {
            return None;
        }
        if !up.is_empty() {
            let others = self.names(up.iter().copied());
            let cause = format!("no peer reaches it over {name}, which carries {others}");
            return Some((InterfaceStatus::Down, cause));
        }
        self.alone_cut_off(network, node, here)
    }

    /// With two nodes left the ping target decides: the one that does not reach it is at fault, if
    /// the other one does.
    fn alone_cut_off(
        &self,
        network: NetworkNumber,
        node: NodeNumber,
        here: &BTreeSet<NodeNumber>,
    ) -> Option<(InterfaceStatus, String)> {
        let mut others = here.iter().copied().filter(|other| *other != node);
        let (Some(other), None) = (others.next(), others.next()) else { return None };
        let decided =
            self.probe(network, node) == Some(false) && self.probe(network, other) == Some(true);
        decided.then(|| {
            let name = self.state.node_name(other);
            let cause = format!("{name} reaches the ping target, it does not");
            (InterfaceStatus::Down, cause)
        })
    }

    fn network_verdict(
        &self,
        network: NetworkNumber,
        left: &BTreeSet<NodeNumber>,
        up: &BTreeSet<NodeNumber>,
        tried: &BTreeSet<NodeNumber>,
    ) -> Option<(NetworkStatus, String)> {
        let carried: Vec<NodeNumber> = left.intersection(up).copied().collect();
        if carried.len() >= 2 {
            let who = self.names(carried);
            return Some((NetworkStatus::Up, format!("{who} reach each other over it")));
        }
        if left.len() == 1 {
            let alone = *left.first()?;
            let name = self.state.node_name(alone);
            return (self.usable(network, alone) == Some(true))
                .then(|| (NetworkStatus::Up, format!("only {name} is there to use it")));
        }
        let silent = left.len() >= 2 && left.iter().all(|node| tried.contains(node));
        silent.then(|| {
            let who = self.names(left.iter().copied());
            (NetworkStatus::Down, format!("{who} do not reach each other over it"))
        })
    }

    fn own_interface<T>(
        &self,
        network: NetworkNumber,
        node: NodeNumber,
        get: impl Fn(&crate::observation::OwnInterface) -> T,
    ) -> Option<T> {
        let Received { report, .. } = self.fresh(node)?;
        report.interfaces.iter().find(|own| own.network == network).map(get)
    }

    fn usable(&self, network: NetworkNumber, node: NodeNumber) -> Option<bool> {
        self.own_interface(network, node, |own| own.usable)
    }

    fn probe(&self, network: NetworkNumber, node: NodeNumber) -> Option<bool> {
        self.own_interface(network, node, |own| own.probe).flatten()
    }
}
