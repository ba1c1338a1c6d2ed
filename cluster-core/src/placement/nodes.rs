//! Who may have a group: the one question that every policy asks, answered with a reason.

use crate::group::{Group, GroupDef, Policy, ResourceKind};
use crate::id::{NetworkNumber, NodeNumber};
use crate::model::{AgentStatus, HostStatus, InterfaceStatus, NetworkStatus};
use crate::state::ClusterState;
use crate::trigger::{StopMode, Trigger};

use super::Occasion;

/// Why a node may not have a group, in words that follow its name; none if it may.
///
/// A node whose join is being processed has to be joined in the state for this question; inside an
/// event [`super::for_event`] knows better.
pub fn obstacle(state: &ClusterState, group: &str, node: NodeNumber) -> Option<String> {
    let Some(def) = state.definition.group(group) else {
        return Some("has no such group in its configuration".into());
    };
    let none = Group::default();
    let run = state.groups.get(group).unwrap_or(&none);
    Nodes::new(state, Occasion::Reconcile).obstacle(def, run, node)
}

/// The reason for which a node takes no part at all, whatever the group, in words that follow its name.
pub fn absence(state: &ClusterState, node: NodeNumber) -> Option<String> {
    Nodes::new(state, Occasion::Reconcile).absence(node)
}

/// Whether a group is nowhere and wanted, and every node of its list that is there was tried in
/// vain: then only an operator can help, and this says what is the matter.
pub fn exhausted(state: &ClusterState, group: &str) -> Option<String> {
    let (def, run) = (state.definition.group(group)?, state.groups.get(group)?);
    let nodes = Nodes::new(state, Occasion::Reconcile);
    let idle = run.instances.is_empty() && !run.wanted_offline && run.blocked.is_none();
    let tried = def.nodes.iter().any(|node| run.avoid.contains(node) && nodes.serves(*node));
    let left = def.nodes.iter().any(|node| nodes.may_have(def, run, *node));
    (idle && tried && !left).then(|| nodes.nobody(def, run))
}

/// Whether the clients of a group do not reach it on its node, though they would on another one.
pub fn is_cut_off(state: &ClusterState, group: &str) -> bool {
    let (Some(def), Some(run)) = (state.definition.group(group), state.groups.get(group)) else {
        return false;
    };
    let nodes = Nodes::new(state, Occasion::Reconcile);
    run.owner().is_some_and(|owner| nodes.cut_off(def, run, owner).is_some())
}

/// The nodes as they count on an occasion.
pub(super) struct Nodes<'a> {
    pub(super) state: &'a ClusterState,
    joining: Option<NodeNumber>,
    leaving: Option<NodeNumber>,
}

/// What can be said of a node that has a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// It is there, and the group is its own.
    There,
    /// It is not, and the group is to be taken from it.
    Gone,
    /// Nothing is done with what it has, and why.
    LeftAlone(String),
}

impl<'a> Nodes<'a> {
    pub(super) fn new(state: &'a ClusterState, occasion: Occasion<'_>) -> Self {
        let (mut joining, mut leaving) = (None, None);
        match occasion {
            Occasion::Joins(node) => joining = Some(node),
            Occasion::Leaves(node, _) => leaving = Some(node),
            _ => {}
        }
        Self { state, joining, leaving }
    }

    pub(super) fn name(&self, node: NodeNumber) -> String {
        self.state.node_name(node)
    }

    pub(super) fn may_have(&self, def: &GroupDef, run: &Group, node: NodeNumber) -> bool {
        self.obstacle(def, run, node).is_none()
    }

    /// Whether a node takes part at all, whatever the group.
    pub(super) fn serves(&self, node: NodeNumber) -> bool {
        self.absence(node).is_none()
    }

    /// Why a node may not have a group: first what concerns the node, then what concerns both.
    pub(super) fn obstacle(&self, def: &GroupDef, run: &Group, node: NodeNumber) -> Option<String> {
        if !def.nodes.contains(&node) {
            return Some("is not in its list".into());
        }
        if let Some(absence) = self.absence(node) {
            return Some(absence);
        }
        if self.in_maintenance(node) {
            return Some("is in maintenance".into());
        }
        if let Some(why) = self.state.unreleased_on(&def.name, node) {
            return Some(why);
        }
        if run.avoid.contains(&node) {
            return Some("is avoided after failures".into());
        }
        if let Some(other) = self.state.runs_elsewhere(&def.name, Some(node)) {
            let other = self.name(other);
            return Some(format!(
                "does not get it while it runs on {other}, which does not have it"
            ));
        }
        if let Some(network) = self.cut_off(def, run, node) {
            return Some(format!("is not reached over {network}, and others are"));
        }
        let held = self.held_for(def, run).filter(|held| *held != node)?;
        let held = self.name(held);
        Some(format!("leaves it to {held}, which took it along when it was stopped"))
    }

    /// The network over which clients cannot reach the group on that node, although another node
    /// could have it that is reached: its adapter failed, and no standby adapter may take over. A
    /// network that is down everywhere, or adapters that failed on all nodes, are no reason to move
    /// anything.
    pub(super) fn cut_off(&self, def: &GroupDef, run: &Group, node: NodeNumber) -> Option<String> {
        let network = self.deaf_on(def, node)?;
        let other = def.nodes.iter().find(|other| {
            **other != node
                && self.serves(**other)
                && !self.in_maintenance(**other)
                && !run.avoid.contains(other)
                && self.state.unreleased_on(&def.name, **other).is_none()
                && self.deaf_on(def, **other).is_none()
        });
        other.map(|_| self.state.network_name(network))
    }

    /// A network of the group's addresses that works, but not on that node.
    fn deaf_on(&self, def: &GroupDef, node: NodeNumber) -> Option<NetworkNumber> {
        let networks = def.resources.iter().filter_map(|resource| match &resource.kind {
            ResourceKind::Address { network, .. } => Some(*network),
            _ => None,
        });
        networks.into_iter().find(|network| {
            let works = |known: &crate::model::Network| known.status == NetworkStatus::Up;
            let adapter = self.state.nodes.get(&node).and_then(|it| it.interfaces.get(network));
            adapter.is_some_and(|adapter| adapter.status == InterfaceStatus::Down)
                && self.state.networks.get(network).is_some_and(works)
                && !self.has_standby(node, *network)
        })
    }

    /// Whether a standby adapter may take over there.
    fn has_standby(&self, node: NodeNumber, network: NetworkNumber) -> bool {
        let mut standbys = self.state.definition.standbys.iter();
        standbys.any(|standby| (standby.node, standby.network) == (node, network))
            && self.state.manager.standby_fault(node, network).is_none()
    }

    /// For whom a group that nobody has is kept. A node that was deleted or taken out of the list
    /// keeps nothing, and of a concurrent group every node has its own. When the node is back a
    /// rotating group goes on there, unless an operator wished it elsewhere; a cascading one is
    /// placed like any other.
    pub(super) fn held_for(&self, def: &GroupDef, run: &Group) -> Option<NodeNumber> {
        let listed =
            |node: NodeNumber| def.nodes.contains(&node) && self.state.nodes.contains_key(&node);
        run.held_for.filter(|node| {
            listed(*node)
                && match def.policy {
                    Policy::Cascading => !self.serves(*node),
                    Policy::Rotating => {
                        !self.serves(*node) || run.preferred.is_none_or(|wish| wish == *node)
                    }
                    Policy::Concurrent => false,
                }
        })
    }

    /// The node to which a cascading group goes back: the first of its list that is a member.
    pub(super) fn home(&self, def: &GroupDef) -> Option<NodeNumber> {
        super::home(self.state, def)
    }

    /// Why a node does not take part.
    fn absence(&self, number: NodeNumber) -> Option<String> {
        let Some(node) = self.state.nodes.get(&number) else {
            return Some("is no member".into());
        };
        if self.leaving == Some(number) || self.is_leaving(number) {
            return Some("is leaving".into());
        }
        if node.host != HostStatus::Up {
            return Some(format!("is {}", node.host));
        }
        let member = self.state.manager.members.get(&number);
        if member.is_some_and(|member| member.stopped.is_some()) {
            return Some("is stopped".into());
        }
        if node.agent != AgentStatus::Running {
            return Some(format!("has an agent that is {}", node.agent));
        }
        if member.is_some_and(|member| member.absent) {
            return Some("has an agent that has just come back".into());
        }
        let joined = member.is_some_and(|member| member.joined) || self.joining == Some(number);
        (!joined).then(|| "has not joined".into())
    }

    /// Whether its failure or stop is being processed still, by an event that goes on beside others: it joins again
    /// afterwards, and what it had been given by then would be taken for something of before.
    fn is_leaving(&self, number: NodeNumber) -> bool {
        self.state.manager.begun().any(|running| {
            let about =
                matches!(running.event.trigger, Trigger::NodeDown { node, .. } if node == number);
            about && !running.settled && running.is_at_work()
        })
    }

    pub(super) fn in_maintenance(&self, node: NodeNumber) -> bool {
        self.state.manager.members.get(&node).is_some_and(|member| member.maintenance)
    }

    /// Why nothing is moved, if that is so: the cluster, the group, or the node that has it.
    pub(super) fn maintenance(&self, run: &Group) -> Option<String> {
        if self.state.manager.maintenance {
            return Some("the cluster is in maintenance".into());
        }
        if run.maintenance {
            return Some("it is in maintenance".into());
        }
        let ran_last = run.last.filter(|_| run.instances.is_empty());
        let held = run.instances.keys().copied().find(|node| self.in_maintenance(*node));
        if let Some(node) = held {
            return Some(format!("{}, which has it, is in maintenance", self.name(node)));
        }
        let node = ran_last.filter(|node| self.in_maintenance(*node))?;
        Some(format!("{}, which had it last, is in maintenance", self.name(node)))
    }

    /// Whether a node's join waits in the queue for nothing else, so that it will be there in a moment.
    pub(super) fn is_coming(&self, node: NodeNumber) -> bool {
        let manager = &self.state.manager;
        let queued = |wanted: &Trigger| {
            manager.queue.iter().any(|e| e.trigger == *wanted) && manager.is_free(wanted)
        };
        let up = self.state.nodes.get(&node).is_some_and(|node| node.host == HostStatus::Up);
        let stopped =
            self.state.manager.members.get(&node).is_some_and(|member| member.stopped.is_some());
        up && !stopped && self.joining != Some(node) && queued(&Trigger::NodeUp(node))
    }

    /// Whether a node may be starting: nobody knows anything of it yet, or its agent has come so
    /// far that it will join soon. It is none that failed, and none that was stopped.
    pub(super) fn may_be_starting(&self, number: NodeNumber) -> bool {
        let Some(node) = self.state.nodes.get(&number) else { return false };
        let member = self.state.manager.members.get(&number);
        if member.is_some_and(|member| member.joined || member.stopped.is_some()) {
            return false;
        }
        let starts = matches!(node.agent, AgentStatus::Initializing | AgentStatus::Running);
        node.host == HostStatus::Unknown || (node.host == HostStatus::Up && starts)
    }

    /// Whether the failure or stop of a node waits in the queue.
    fn departure_waits(&self, number: NodeNumber) -> bool {
        let departs = |trigger: &Trigger| {
            matches!(trigger, Trigger::NodeDown { node, stop }
                if *node == number && *stop != Some(StopMode::Forced))
        };
        self.leaving != Some(number)
            && self.state.manager.queue.iter().any(|event| departs(&event.trigger))
    }

    /// What can be said of a node that has a group.
    pub(super) fn holder(&self, number: NodeNumber) -> Holder {
        let name = self.name(number);
        if self.leaving == Some(number) {
            return Holder::Gone;
        }
        if self.departure_waits(number) {
            return Holder::LeftAlone(format!("{name} leaves: that is handled next"));
        }
        let Some(node) = self.state.nodes.get(&number) else { return Holder::Gone };
        match node.host {
            HostStatus::Down | HostStatus::Disconnected => Holder::Gone,
            HostStatus::Netpar => {
                Holder::LeftAlone(format!("{name} is cut off but alive, and keeps it"))
            }
            HostStatus::Unknown => Holder::LeftAlone(format!("nothing is known of {name} yet")),
            HostStatus::Up if self.is_coming(number) => {
                Holder::LeftAlone(format!("{name} is about to join again"))
            }
            HostStatus::Up => Holder::There,
        }
    }

    /// Why no node may have a group, node by node.
    pub(super) fn nobody(&self, def: &GroupDef, run: &Group) -> String {
        let why = |node: &NodeNumber| {
            let obstacle = self.obstacle(def, run, *node).unwrap_or_else(|| "could".into());
            format!("{} {obstacle}", self.name(*node))
        };
        let all: Vec<String> = def.nodes.iter().map(why).collect();
        if all.is_empty() { "its list is empty".into() } else { all.join("; ") }
    }
}
