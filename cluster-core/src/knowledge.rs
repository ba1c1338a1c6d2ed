//! What a node may show as the present state of the cluster.
//!
//! The replicated state is what the cluster agreed on last. A node that is not part of a quorum, or hears no director, does not
//! know whether that still holds: it knows what it does itself, what its guard sees, and nothing else.
//! [`present`] makes of the replicated state what may be shown: everything that others would have to
//! confirm is UNKNOWN, what the node can see for itself is as it is now, and configuration stays as it
//! is. Surfaces render that, all alike, so none of them can show the last known state as the present
//! one; what was known last is beside it in [`View::known`](crate::view::View::known).
//!
//! Applying it to a state that is shown already changes nothing.

use crate::event::ManagerState;
use crate::group::{GroupState, Instance, ResourceState};
use crate::id::{NetworkNumber, NodeNumber};
use crate::local_view::Local;
use crate::model::{
    AgentStatus, ClusterStatus, HostStatus, InterfaceStatus, LinkStatus, NetworkStatus, Substate,
};
use crate::observation::{LinkView, Report};
use crate::state::ClusterState;
use crate::time::WallTime;

/// The state as the node `local.node` may show it while it does not know the cluster's.
pub fn present(state: &ClusterState, local: &Local) -> ClusterState {
    let mut shown = state.clone();
    let since = local.unknown_since.unwrap_or(state.changed_at);
    if shown.status != ClusterStatus::NotConfigured {
        (shown.status, shown.status_since) = (ClusterStatus::Unknown, since);
    }
    (shown.substate, shown.substate_since) = (Substate::Unknown, since);
    shown.director = None;
    show_nodes(&mut shown, local, since);
    show_wiring(&mut shown, local, since);
    show_groups(&mut shown, local, since);
    show_manager(&mut shown, local.node, since);
    shown
}

/// Sees of the report of a node what concerns one network.
struct Sight<'a> {
    report: Option<&'a Report>,
}

impl Sight<'_> {
    fn links(&self, network: NetworkNumber) -> impl Iterator<Item = &LinkView> {
        let links = self.report.map_or(&[][..], |report| &report.links);
        links.iter().filter(move |link| link.network == network)
    }

    fn hears_on(&self, network: NetworkNumber) -> bool {
        self.links(network).any(|link| link.inbound)
    }

    fn usable(&self, network: NetworkNumber) -> Option<bool> {
        let own = self.report?.interfaces.iter().find(|own| own.network == network)?;
        Some(own.usable)
    }

    /// Nothing is heard over an adapter that can be used: whether it, the network or the others are at
    /// fault cannot be told from here.
    fn interface(&self, network: NetworkNumber) -> InterfaceStatus {
        match (self.usable(network), self.hears_on(network)) {
            (Some(false), _) => InterfaceStatus::Down,
            (_, true) => InterfaceStatus::Up,
            _ => InterfaceStatus::Unknown,
        }
    }

    fn link(&self, peer: NodeNumber, network: NetworkNumber) -> LinkStatus {
        match self.links(network).find(|link| link.peer == peer) {
            None => LinkStatus::Unknown,
            Some(link) => match (link.inbound, link.outbound) {
                (true, true) => LinkStatus::Up,
                (true, false) => LinkStatus::OneWay,
                (false, _) => LinkStatus::Down,
            },
        }
    }
}

/// Puts a status and, if it is another one, since when it is shown.
fn put<T: PartialEq>((status, since): (&mut T, &mut WallTime), to: T, at: WallTime) {
    if *status != to {
        (*status, *since) = (to, at);
    }
}

fn show_nodes(shown: &mut ClusterState, local: &Local, at: WallTime) {
    for node in shown.nodes.values_mut() {
        let own = node.number == local.node;
        let (host, agent) = if own {
            (local.host, local.agent)
        } else {
            (HostStatus::Unknown, AgentStatus::Unknown)
        };
        if !own {
            let lacks = if local.lease { "hears no director" } else { "has no quorum" };
            node.host_cause = format!("the answering node {lacks}");
        } else if node.host != host {
            node.host_cause = "as the node itself sees it".into();
        }
        put((&mut node.host, &mut node.host_since), host, at);
        put((&mut node.agent, &mut node.agent_since), agent, at);
    }
}

fn show_wiring(shown: &mut ClusterState, local: &Local, at: WallTime) {
    let sight = Sight { report: local.report.as_deref() };
    for (number, network) in &mut shown.networks {
        let status =
            if sight.hears_on(*number) { NetworkStatus::Up } else { NetworkStatus::Unknown };
        put((&mut network.status, &mut network.since), status, at);
    }
    for node in shown.nodes.values_mut() {
        let own = node.number == local.node;
        for (network, interface) in &mut node.interfaces {
            let to = if own { sight.interface(*network) } else { InterfaceStatus::Unknown };
            put((&mut interface.status, &mut interface.since), to, at);
        }
    }
    for link in &mut shown.links {
        let to = match local.node {
            own if own == link.low => sight.link(link.high, link.network),
            own if own == link.high => sight.link(link.low, link.network),
            _ => LinkStatus::Unknown,
        };
        put((&mut link.status, &mut link.since), to, at);
    }
    for port in shown.ports.values_mut() {
        port.members.retain(|member| *member == local.node);
    }
}

/// Own instances are as they are on this machine; of the others nothing is known, and so of each group
/// as a whole, unless it runs here.
fn show_groups(shown: &mut ClusterState, local: &Local, at: WallTime) {
    for (name, group) in &mut shown.groups {
        let own = local.groups.get(name).copied();
        let here = own.is_some_and(|state| state != GroupState::Offline);
        group.instances.retain(|node, _| *node == local.node && here);
        if let (Some(instance), Some(state)) = (group.instances.get_mut(&local.node), own) {
            show_instance(instance, state, at);
        }
        group.out_of_sight = true;
        group.since = at;
        group.blocked = None;
        group.also.clear();
    }
}

/// Where the group is not any more what it was reported to be, neither are its resources.
fn show_instance(instance: &mut Instance, state: GroupState, at: WallTime) {
    if instance.state != state {
        for resource in instance.resources.values_mut() {
            put((&mut resource.state, &mut resource.since), ResourceState::Unknown, at);
        }
    }
    put((&mut instance.state, &mut instance.since), state, at);
}

/// What is in progress is not known; what is over stays told.
fn show_manager(shown: &mut ClusterState, me: NodeNumber, at: WallTime) {
    let manager = &mut shown.manager;
    manager.queue.clear();
    manager.current = None;
    manager.aside.clear();
    manager.fencing.clear();
    manager.takeovers.clear();
    manager.fired.clear();
    manager.blind.retain(|node, _| *node == me);
    manager.standbys_down.retain(|node, _| *node == me);
    for member in manager.members.values_mut() {
        put((&mut member.state, &mut member.since), ManagerState::Unknown, at);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::fixture::Fixture;

    const N1: NodeNumber = NodeNumber(1);
    const LOST: WallTime = WallTime(1_795_348_900_000_000);

    fn alone(fixture: &Fixture) -> Local {
        let mut local = fixture.view(N1).local;
        local.quorate = false;
        local.host = HostStatus::Disconnected;
        local.unknown_since = Some(LOST);
        local.groups = Arc::default();
        let mut report = local.report.as_deref().expect("a report").clone();
        for link in &mut report.links {
            (link.inbound, link.outbound) = (false, false);
        }
        local.report = Some(Arc::new(report));
        local
    }

    /// T2: nothing that another node would have to confirm is shown as the present state.
    #[test]
    fn a_node_alone_shows_nothing_of_others() {
        let fixture = Fixture::with_groups();
        let shown = present(&fixture.state, &alone(&fixture));
        assert_eq!(shown.status, ClusterStatus::Unknown);
        assert_eq!((shown.substate, shown.director), (Substate::Unknown, None));
        assert_eq!(shown.nodes[&N1].host, HostStatus::Disconnected);
        let others = || shown.nodes.values().filter(|node| node.number != N1);
        assert!(others().count() >= 2);
        for node in others() {
            assert_eq!((node.host, node.agent), (HostStatus::Unknown, AgentStatus::Unknown));
            assert_eq!(node.host_since, LOST);
        }
        assert!(!shown.groups.is_empty());
        for (name, group) in &shown.groups {
            assert_eq!((group.state(), group.owner()), (GroupState::Unknown, None), "{name}");
        }
        assert!(shown.networks.values().all(|net| net.status == NetworkStatus::Unknown));
    }

    /// What runs here is as it is here: kept by a forced stop, or let go of.
    #[test]
    fn own_groups_are_as_they_are_now() {
        let fixture = Fixture::with_groups();
        let (name, group) = fixture.state.groups.iter().next().expect("a group");
        let owner = group.owner().expect("an owner");
        let mut local = alone(&fixture);
        local.node = owner;
        let shown = |state| {
            let groups = BTreeMap::from([(name.clone(), state)]);
            let local = Local { groups: Arc::new(groups), ..local.clone() };
            present(&fixture.state, &local).groups[name].state()
        };
        assert_eq!(shown(GroupState::Unmanaged), GroupState::Unmanaged);
        assert_eq!(shown(GroupState::Offline), GroupState::Unknown, "others may have it");
    }

    /// A minority hears each other: that network works, and nothing else follows from it.
    #[test]
    fn what_is_heard_is_shown_as_heard() {
        let fixture = Fixture::settled(5);
        let mut local = alone(&fixture);
        let mut report = local.report.as_deref().expect("a report").clone();
        for link in &mut report.links {
            let heard = link.peer == NodeNumber(2) && link.network == NetworkNumber(1);
            (link.inbound, link.outbound) = (heard, heard);
        }
        local.report = Some(Arc::new(report));
        let shown = present(&fixture.state, &local);
        assert_eq!(shown.networks[&NetworkNumber(1)].status, NetworkStatus::Up);
        assert_eq!(shown.networks[&NetworkNumber(2)].status, NetworkStatus::Unknown);
        assert_eq!(shown.nodes[&NodeNumber(2)].host, HostStatus::Unknown);
        let of = |peer| {
            let found = shown
                .links
                .iter()
                .find(|link| link.key() == (N1, NodeNumber(peer), NetworkNumber(1)));
            found.map(|link| link.status)
        };
        assert_eq!(of(2), Some(LinkStatus::Up));
        assert_eq!(of(3), Some(LinkStatus::Down));
    }

    #[test]
    fn showing_twice_changes_nothing() {
        let fixture = Fixture::with_groups();
        let local = alone(&fixture);
        let once = present(&fixture.state, &local);
        assert_eq!(present(&once, &local), once);
    }
}
