//! Swaps of adapters: when one is queued, and when one that failed is over.

use crate::command::{Change, Command, ManagerCommand};
use crate::definition::Standby;
use crate::fixture::Fixture;
use crate::id::{NetworkNumber, NodeNumber};
use crate::model::InterfaceStatus;
use crate::record::Record;
use crate::trigger::Trigger;

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
        let swaps = ended.filter(|it| it.event.trigger == Trigger::SwapAdapter { node, network });
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
