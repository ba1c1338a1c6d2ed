//! Standby adapters as the cluster knows them (spec H26, H27): whether each could take over.
//!
//! An adapter that carries nothing is seen by its own node alone, which tells when it fails and when
//! it works again. So one that was never told of works, and of a node that is not there, or takes no
//! part, nothing is known.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::event::StandbyFault;
use crate::id::{NetworkNumber, NodeNumber};
use crate::model::{HostStatus, InterfaceStatus};

use super::ClusterState;

/// A standby adapter, and how it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StandbyStatus<'a> {
    /// Its node.
    pub node: NodeNumber,
    /// The network on which it stands by.
    pub network: NetworkNumber,
    /// Its own address.
    pub address: IpAddr,
    /// Whether it could take over.
    pub status: InterfaceStatus,
    /// Why it could not.
    pub fault: Option<&'a StandbyFault>,
}

impl ClusterState {
    /// Every standby adapter that is configured, by node and network: one each, of two the last.
    pub fn standbys(&self) -> impl Iterator<Item = StandbyStatus<'_>> {
        let all = self.definition.standbys.iter();
        let by_place: BTreeMap<(NodeNumber, NetworkNumber), IpAddr> =
            all.map(|standby| ((standby.node, standby.network), standby.address)).collect();
        by_place.into_iter().map(|((node, network), address)| {
            let fault = self.manager.standby_fault(node, network);
            let fault = fault.filter(|_| self.looks_after_adapters(node));
            let status = match fault {
                _ if !self.looks_after_adapters(node) => InterfaceStatus::Unknown,
                Some(_) => InterfaceStatus::Down,
                None => InterfaceStatus::Up,
            };
            StandbyStatus { node, network, address, status, fault }
        })
    }

    /// Whether a node is there to see how its standby adapters are.
    fn looks_after_adapters(&self, node: NodeNumber) -> bool {
        let up = self.nodes.get(&node).is_some_and(|node| node.host == HostStatus::Up);
        up && self.manager.members.get(&node).is_some_and(|member| member.joined)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Change, Command, ManagerCommand};
    use crate::definition::Standby;
    use crate::fixture::Fixture;
    use crate::record::Record;
    use crate::trigger::Trigger;

    /// J4: what its node told of a standby adapter is known until it tells otherwise, with its reason;
    /// of a node that is gone nothing is known.
    #[test]
    fn a_failed_standby_is_known_until_it_works_or_its_node_is_gone() {
        let (node, network) = (NodeNumber(3), NetworkNumber(1));
        let mut fixture = Fixture::with_groups();
        let address = [10, 91, 1, 3].into();
        fixture.state.definition.standbys = vec![Standby { node, network, address }];
        let seen = |fixture: &Fixture| {
            let standby = fixture.state.standbys().next().expect("there is one");
            (standby.status, standby.fault.map(|fault| fault.cause.clone()))
        };
        assert_eq!(seen(&fixture), (InterfaceStatus::Up, None));
        let tell = |fixture: &mut Fixture, trigger, cause: &str| {
            fixture.manage(ManagerCommand::Queue { trigger, cause: cause.into() });
        };
        tell(&mut fixture, Trigger::FailStandby { node, network }, "eth3 has no link");
        assert_eq!(seen(&fixture), (InterfaceStatus::Down, Some("eth3 has no link".into())));
        tell(&mut fixture, Trigger::JoinStandby { node, network }, "its device has a link");
        assert_eq!(seen(&fixture), (InterfaceStatus::Up, None));
        assert!(fixture.state.manager.standbys_down.is_empty());
        tell(&mut fixture, Trigger::FailStandby { node, network }, "eth3 has no link");
        fixture.node_down(node, "silent");
        assert_eq!(seen(&fixture), (InterfaceStatus::Unknown, None));
    }

    fn interface(fixture: &mut Fixture, node: NodeNumber, to: InterfaceStatus) {
        let network = NetworkNumber(1);
        let change = Change::Interface { node, network, to, cause: "no carrier".into() };
        fixture.apply(Command::Observe { changes: vec![change] });
    }

    fn swaps(fixture: &Fixture) -> usize {
        let swap = |trigger: &Trigger| matches!(trigger, Trigger::SwapAdapter { .. });
        fixture.state.manager.queue.iter().filter(|event| swap(&event.trigger)).count()
    }

    /// Findings R4: both adapters failed, and the standby works first: it takes over.
    #[test]
    fn a_standby_that_works_again_takes_over_from_an_adapter_that_does_not() {
        let (node, network) = (NodeNumber(1), NetworkNumber(1));
        let mut fixture = Fixture::with_groups();
        let address = [10, 91, 1, 1].into();
        fixture.state.definition.standbys = vec![Standby { node, network, address }];
        let tell = |fixture: &mut Fixture, trigger| {
            fixture.manage(ManagerCommand::Queue { trigger, cause: "its link".into() });
        };
        tell(&mut fixture, Trigger::FailStandby { node, network });
        interface(&mut fixture, node, InterfaceStatus::Down);
        assert_eq!(swaps(&fixture), 0, "there is nothing to swap with");
        tell(&mut fixture, Trigger::JoinStandby { node, network });
        assert_eq!(swaps(&fixture), 1);
        interface(&mut fixture, node, InterfaceStatus::Up);
        tell(&mut fixture, Trigger::FailStandby { node, network });
        tell(&mut fixture, Trigger::JoinStandby { node, network });
        assert_eq!(swaps(&fixture), 1, "an adapter that works is not swapped");
    }

    /// Findings R4: a swap that failed because neither adapter worked holds up nothing once one of them does.
    #[test]
    fn a_failed_swap_is_over_when_an_adapter_works_again() {
        let (node, network) = (NodeNumber(1), NetworkNumber(1));
        for standby_first in [true, false] {
            let mut fixture = Fixture::with_groups();
            let address = [10, 91, 1, 1].into();
            fixture.state.definition.standbys = vec![Standby { node, network, address }];
            interface(&mut fixture, node, InterfaceStatus::Down);
            fixture.begin_event();
            fixture.fail_on(node, "neither has a link");
            let failed = |fixture: &Fixture| fixture.state.manager.failed().count();
            assert_eq!(failed(&fixture), 1);
            let again = Trigger::SwapAdapter { node, network };
            fixture.manage(ManagerCommand::Queue { trigger: again, cause: "no link".into() });
            assert_eq!((failed(&fixture), swaps(&fixture)), (1, 0), "it failed and is known");
            if standby_first {
                let joins = Trigger::JoinStandby { node, network };
                fixture.manage(ManagerCommand::Queue { trigger: joins, cause: "a link".into() });
            } else {
                interface(&mut fixture, node, InterfaceStatus::Up);
            }
            assert_eq!(failed(&fixture), 0);
            fixture.run_events();
            let ended = fixture.state.manager.recent.iter();
            let swaps =
                ended.filter(|it| it.event.trigger == Trigger::SwapAdapter { node, network });
            let how: Vec<&str> = swaps.map(|it| it.how.as_str()).collect();
            if standby_first {
                let over = "aborted: the standby adapter of n1 works again";
                assert_eq!(how, [over, "completed"]);
            } else {
                assert_eq!(how, ["aborted: n1/neta is UP"]);
            }
        }
    }

    /// Findings R4: a group comes to a node whose adapter failed before, as after a restart of the machine.
    #[test]
    fn a_group_that_comes_to_a_failed_adapter_has_it_swapped() {
        let (node, network) = (NodeNumber(2), NetworkNumber(1));
        let mut fixture = Fixture::with_groups();
        let address = [10, 91, 1, 2].into();
        fixture.state.definition.standbys = vec![Standby { node, network, address }];
        interface(&mut fixture, node, InterfaceStatus::Down);
        assert_eq!(swaps(&fixture), 0, "nothing is served over it");
        fixture.node_down(NodeNumber(1), "silent");
        fixture.lease_over(NodeNumber(1));
        let swapped = |fixture: &Fixture| {
            fixture.records.iter().any(|record| record.message.contains("swap_adapter n2/neta"))
        };
        assert!(!swapped(&fixture));
        fixture.run_events();
        assert!(swapped(&fixture), "{:#?}", fixture.state.groups["web"].instances);
    }

    /// The same where the node itself has just come, with the group in the event of its start.
    #[test]
    fn a_node_that_returns_with_a_failed_adapter_has_it_swapped() {
        let (node, network) = (NodeNumber(1), NetworkNumber(1));
        let mut fixture = Fixture::with_groups();
        let address = [10, 91, 1, 1].into();
        fixture.state.definition.standbys = vec![Standby { node, network, address }];
        fixture.node_down(node, "silent");
        fixture.lease_over(node);
        fixture.run_events();
        fixture.returns(node);
        interface(&mut fixture, node, InterfaceStatus::Down);
        let seen = fixture.records.len();
        fixture.run_events();
        assert_eq!(fixture.state.groups["web"].owner(), Some(node));
        let swapped = |record: &std::sync::Arc<Record>| {
            record.message.contains("swap_adapter n1/neta was queued")
        };
        assert!(fixture.records[seen..].iter().any(swapped));
    }
}
