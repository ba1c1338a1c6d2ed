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
    use crate::command::ManagerCommand;
    use crate::definition::Standby;
    use crate::fixture::Fixture;
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
}
