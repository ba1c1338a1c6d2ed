//! From what the nodes see to what is the case: the director's judgement, as a pure function.
//!
//! Every node sees something else: its own cables, its own delays. [`diagnose`] lays the latest
//! reports of all nodes side by side and answers with the [`Change`]s that would make the
//! replicated state true, each with its evidence in words. It decides in the order in which faults
//! explain each other (spec H4): a node that is gone explains its silent links, a network that is
//! gone explains the interfaces on it, and only what is left over is an interface's own failure.
//!
//! What always holds:
//!
//! - Nobody is declared DOWN on the word of an observer that doubts itself, nor while any healthy
//!   observer hears the node, nor by one witness where a second could be asked.
//! - A node that is UP was reached in both directions, or its reports arrive and somebody hears it.
//! - What is not known changes nothing. No evidence is no change.
//! - Applying the changes and asking again yields none.
//!
//! Time that must pass before a change is believed is of two kinds. The detection time is in the
//! evidence itself (`silent`). Holding back what may be over in a moment is the director's business
//! ([`crate::director`]), because it needs a memory and this function has none.

mod agents;
mod hosts;
mod networks;
mod words;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::command::Change;
use crate::id::{NetworkNumber, NodeNumber};
use crate::model::{HostStatus, Node};
use crate::observation::{LinkView, PeerView, Report};
use crate::state::ClusterState;

/// How long a member that was never heard may stay UNKNOWN before it counts as DOWN.
pub const NEVER_HEARD_GRACE: Duration = Duration::from_secs(30);

/// A report as the director holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// What was reported.
    pub report: Arc<Report>,
    /// Time since it arrived.
    pub age: Duration,
    /// Time since the first report of the same run of that guard arrived: how long a peer that it
    /// never heard has been silent at least.
    pub observing: Duration,
}

/// Everything that a judgement rests on, apart from the state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// The latest report of each node.
    pub reports: BTreeMap<NodeNumber, Received>,
    /// How long the director has been in office. A director that has just been elected has not
    /// heard everybody yet.
    pub in_office: Duration,
    /// For how long each agent has had the status that the state gives it.
    pub agent_settled: BTreeMap<NodeNumber, Duration>,
    /// For how long each host that is UNKNOWN has been so.
    pub unknown_for: BTreeMap<NodeNumber, Duration>,
}

/// What has to change in `state` to make it agree with the evidence, as the node `me` (the
/// director) judges it: hosts, agents, networks, interfaces, links, in this order.
pub fn diagnose(state: &ClusterState, evidence: &Evidence, me: NodeNumber) -> Vec<Change> {
    let picture = Picture::new(state, evidence, me);
    let hosts = picture.host_changes();
    let after = picture.hosts_after(&hosts);
    let mut changes = hosts;
    changes.extend(picture.agent_changes(&after));
    changes.extend(picture.network_changes(&after));
    changes
}

/// One observer's view of one peer over one network.
struct Sight<'a> {
    observer: NodeNumber,
    view: &'a LinkView,
    age: Duration,
    observing: Duration,
}

impl Sight<'_> {
    fn both_ways(&self) -> bool {
        self.view.inbound && self.view.outbound
    }

    /// For how long nothing was heard, if the observer holds the direction for dead.
    fn silence(&self) -> Option<Duration> {
        (!self.view.inbound).then(|| self.since_heard())
    }

    /// Time since something was heard, at most as far as it is known.
    fn since_heard(&self) -> Duration {
        self.view.silent.map_or(self.observing, |silent| silent.saturating_add(self.age))
    }

    fn ever_heard(&self) -> bool {
        self.view.silent.is_some()
    }
}

/// The evidence, arranged by whom it is about.
struct Picture<'a> {
    state: &'a ClusterState,
    evidence: &'a Evidence,
    me: NodeNumber,
    detect: Duration,
    interval: Duration,
    /// Views of each node's links by observers that are fresh and do not doubt themselves.
    sights: BTreeMap<NodeNumber, Vec<Sight<'a>>>,
    /// What those observers say of each node as a whole.
    peers: BTreeMap<NodeNumber, Vec<(NodeNumber, Duration, &'a PeerView)>>,
}

impl<'a> Picture<'a> {
    fn new(state: &'a ClusterState, evidence: &'a Evidence, me: NodeNumber) -> Self {
        let mut picture = Self {
            state,
            evidence,
            me,
            detect: state.settings.timing.detect(),
            interval: state.settings.timing.interval(),
            sights: BTreeMap::new(),
            peers: BTreeMap::new(),
        };
        for (&observer, received) in &evidence.reports {
            if picture.fresh(observer).is_some() && !received.report.self_suspect {
                picture.admit(observer, received);
            }
        }
        picture
    }

    fn admit(&mut self, observer: NodeNumber, received: &'a Received) {
        let (age, observing) = (received.age, received.observing);
        for view in &received.report.links {
            let sight = Sight { observer, view, age, observing };
            self.sights.entry(view.peer).or_default().push(sight);
        }
        for peer in &received.report.peers {
            self.peers.entry(peer.peer).or_default().push((observer, age, peer));
        }
    }

    /// The report of a member, if it is younger than the detection time.
    fn fresh(&self, node: NodeNumber) -> Option<&'a Received> {
        if !self.state.nodes.contains_key(&node) {
            return None;
        }
        self.evidence.reports.get(&node).filter(|received| received.age < self.detect)
    }

    fn sights_of(&self, node: NodeNumber) -> &[Sight<'a>] {
        self.sights.get(&node).map_or(&[], Vec::as_slice)
    }

    fn peer_views_of(&self, node: NodeNumber) -> &[(NodeNumber, Duration, &'a PeerView)] {
        self.peers.get(&node).map_or(&[], Vec::as_slice)
    }

    /// Nobody has heard the node for so long that it may be dying, though it is too early to say:
    /// nothing is concluded about its links meanwhile, or every death would begin with the "failure"
    /// of the network on which the last beat happened to be the oldest.
    fn in_doubt(&self, node: NodeNumber) -> bool {
        let patience = self.interval * 5 / 2;
        let quiet = |sight: &Sight| sight.view.silent.is_none_or(|silent| silent > patience);
        let sights = self.sights_of(node);
        node != self.me && !sights.is_empty() && sights.iter().all(quiet)
    }

    /// Host statuses as they will be once `changes` are applied.
    fn hosts_after(&self, changes: &[Change]) -> BTreeMap<NodeNumber, HostStatus> {
        let now = |node: &Node| (node.number, node.host);
        let mut hosts: BTreeMap<_, _> = self.state.nodes.values().map(now).collect();
        for change in changes {
            if let Change::Host { node, to, .. } = change {
                hosts.insert(*node, *to);
            }
        }
        hosts
    }

    fn names(&self, nodes: impl IntoIterator<Item = NodeNumber>) -> String {
        let names: Vec<String> = nodes.into_iter().map(|n| self.state.node_name(n)).collect();
        words::list(&names)
    }

    fn network_names(&self, networks: impl IntoIterator<Item = NetworkNumber>) -> String {
        let names: Vec<String> = networks.into_iter().map(|n| self.state.network_name(n)).collect();
        words::list(&names)
    }
}

#[cfg(test)]
mod tests;
