//! The judgement alone, on evidence made by hand. Whole stories are in `tests/scenarios`.

use std::sync::Arc;
use std::time::Duration;

use super::{Evidence, NEVER_HEARD_GRACE, Received, diagnose};
use crate::command::Change;
use crate::fixture::Fixture;
use crate::id::{NetworkNumber, NodeNumber, Session};
use crate::model::{AgentStatus, HostStatus, InterfaceStatus, Link, LinkStatus, NetworkStatus};
use crate::observation::{LinkView, OwnInterface, PeerView, Report};
use crate::state::ClusterState;
use crate::time::WallTime;

const ME: NodeNumber = NodeNumber(1);

/// A cluster in which everything is well, and evidence that says so.
fn well(size: u16) -> (ClusterState, Evidence) {
    let mut state = (*Fixture::settled(size).view(ME).state).clone();
    state.links.clear();
    for network in state.networks.values_mut() {
        network.status = NetworkStatus::Up;
    }
    for node in state.nodes.values_mut() {
        (node.host, node.agent) = (HostStatus::Up, AgentStatus::Running);
        for interface in node.interfaces.values_mut() {
            interface.status = InterfaceStatus::Up;
        }
    }
    for low in 1..size {
        for high in low + 1..=size {
            for network in state.networks.keys() {
                state.links.push(Link {
                    low: NodeNumber(low),
                    high: NodeNumber(high),
                    network: *network,
                    status: LinkStatus::Up,
                    since: WallTime(0),
                });
            }
        }
    }
    let mut evidence = Evidence { in_office: Duration::from_secs(60), ..Evidence::default() };
    for node in state.nodes.keys() {
        evidence.reports.insert(*node, all_well(&state, *node));
        evidence.agent_settled.insert(*node, Duration::from_secs(60));
    }
    (state, evidence)
}

fn all_well(state: &ClusterState, observer: NodeNumber) -> Received {
    let others = || state.nodes.keys().copied().filter(move |node| *node != observer);
    let link = |peer, network| LinkView {
        peer,
        network,
        inbound: true,
        outbound: true,
        silent: Some(Duration::from_millis(50)),
        rtt_us: Some(200),
        lost: 0,
        received: 100,
        narrow: false,
    };
    let links = others().flat_map(|peer| state.networks.keys().map(move |n| link(peer, *n)));
    let peer = |peer: NodeNumber| PeerView {
        session: Some(Session(u64::from(peer.0))),
        agent: AgentStatus::Running,
        ..PeerView::unheard(peer)
    };
    let own =
        |network: &NetworkNumber| OwnInterface { network: *network, usable: true, probe: None };
    let report = Report {
        observer,
        session: Session(u64::from(observer.0)),
        sequence: 1,
        self_suspect: false,
        made_us: 0,
        lease: true,
        voters: 0,
        timing: None,
        directed: true,
        epoch: 1,
        released: false,
        continuity: true,
        agent: AgentStatus::Running,
        position: 0,
        peers: others().map(peer).collect(),
        links: links.collect(),
        interfaces: state.networks.keys().map(own).collect(),
    };
    let (age, observing) = (Duration::from_millis(20), Duration::from_secs(60));
    Received { report: Arc::new(report), age, observing }
}

fn change(evidence: &mut Evidence, observer: u16, with: impl FnOnce(&mut Report)) {
    if let Some(received) = evidence.reports.get_mut(&NodeNumber(observer)) {
        with(Arc::make_mut(&mut received.report));
    }
}

/// The observer has heard nothing of a node, on all networks or on one.
fn deaf_to(evidence: &mut Evidence, observer: u16, node: u16, network: Option<u8>, millis: u64) {
    change(evidence, observer, |report| {
        for link in &mut report.links {
            let here = network.is_none_or(|network| link.network == NetworkNumber(network));
            if link.peer == NodeNumber(node) && here {
                (link.inbound, link.outbound) = (false, false);
                link.silent = Some(Duration::from_millis(millis));
            }
        }
    });
}

fn dies(evidence: &mut Evidence, node: u16, observers: &[u16]) {
    evidence.reports.remove(&NodeNumber(node));
    for observer in observers {
        deaf_to(evidence, *observer, node, None, 1_000);
    }
}

fn hosts(state: &ClusterState, evidence: &Evidence) -> Vec<(u16, HostStatus, bool)> {
    let host = |change: &Change| match change {
        Change::Host { node, to, planned, .. } => Some((node.0, *to, *planned)),
        _ => None,
    };
    diagnose(state, evidence, ME).iter().filter_map(host).collect()
}

#[test]
fn nothing_changes_where_all_is_well() {
    let (state, evidence) = well(5);
    assert_eq!(diagnose(&state, &evidence, ME), []);
}

#[test]
fn no_evidence_is_no_change() {
    let (state, _) = well(5);
    let evidence = Evidence { in_office: Duration::from_secs(60), ..Evidence::default() };
    assert_eq!(diagnose(&state, &evidence, ME), []);
}

/// Findings X13: a node whose beats nobody hears holds no lease, so it is no place for groups, though its reports arrive.
#[test]
fn a_node_that_nobody_hears_and_that_has_no_lease_is_disconnected() {
    let unheard = |millis, lease| {
        let (state, mut evidence) = well(3);
        for observer in [1, 2] {
            deaf_to(&mut evidence, observer, 3, None, millis);
        }
        change(&mut evidence, 3, |report| report.lease = lease);
        hosts(&state, &evidence)
    };
    assert_eq!(unheard(1_000, false), [(3, HostStatus::Disconnected, false)]);
    assert_eq!(unheard(1_000, true), [], "its lease says that somebody hears it");
    assert_eq!(unheard(900, false), []);
}

/// H4, A8: a dead node, and nothing else.
#[test]
fn a_dead_node_is_one_change_with_its_evidence() {
    let (state, mut evidence) = well(3);
    dies(&mut evidence, 3, &[1, 2]);
    let changes = diagnose(&state, &evidence, ME);
    let [Change::Host { node, to: HostStatus::Down, planned: false, cause, .. }] = &changes[..]
    else {
        panic!("{changes:?}");
    };
    assert_eq!(*node, NodeNumber(3));
    assert!(cause.starts_with("silent on ") && cause.ends_with("as n1 and n2 see it"), "{cause}");
}

#[test]
fn silence_must_last_for_the_detection_time() {
    let (state, mut evidence) = well(3);
    dies(&mut evidence, 3, &[1, 2]);
    deaf_to(&mut evidence, 2, 3, None, 900);
    assert_eq!(hosts(&state, &evidence), [], "one observer has not waited long enough");
}

#[test]
fn one_that_hears_it_is_enough_for_life() {
    let (state, mut evidence) = well(5);
    dies(&mut evidence, 5, &[1, 2, 3]);
    assert_eq!(hosts(&state, &evidence), []);
}

#[test]
fn one_witness_is_not_enough_where_another_can_be_asked() {
    let (state, mut evidence) = well(3);
    dies(&mut evidence, 3, &[1]);
    evidence.reports.remove(&NodeNumber(2));
    assert_eq!(hosts(&state, &evidence), [], "n2 has not reported");
    deaf_to(&mut evidence, 1, 3, None, 2_000);
    assert_eq!(hosts(&state, &evidence), [(3, HostStatus::Down, false)], "not for ever");
}

#[test]
fn the_only_survivor_suffices() {
    let (state, mut evidence) = well(2);
    dies(&mut evidence, 2, &[1]);
    assert_eq!(hosts(&state, &evidence), [(2, HostStatus::Down, false)]);
}

#[test]
fn an_observer_that_doubts_itself_is_no_witness() {
    let (state, mut evidence) = well(3);
    dies(&mut evidence, 3, &[2]);
    change(&mut evidence, 2, |report| report.self_suspect = true);
    assert_eq!(hosts(&state, &evidence), [], "n1 hears it");
    deaf_to(&mut evidence, 1, 3, None, 1_000);
    assert_eq!(hosts(&state, &evidence), [], "n2 could be asked in a moment");
    change(&mut evidence, 2, |report| report.self_suspect = false);
    assert_eq!(hosts(&state, &evidence), [(3, HostStatus::Down, false)]);
}

#[test]
fn a_new_director_waits_for_those_who_will_report() {
    let (state, mut evidence) = well(5);
    dies(&mut evidence, 5, &[1, 2]);
    evidence.reports.remove(&NodeNumber(3));
    evidence.reports.remove(&NodeNumber(4));
    evidence.in_office = Duration::from_millis(300);
    assert_eq!(hosts(&state, &evidence), []);
    evidence.in_office = Duration::from_millis(1_000);
    assert_eq!(hosts(&state, &evidence), [(5, HostStatus::Down, false)]);
}

/// A8: heard, and not reachable.
#[test]
fn who_is_heard_but_not_reached_is_disconnected() {
    let (state, mut evidence) = well(3);
    evidence.reports.remove(&NodeNumber(3));
    for observer in [1, 2] {
        change(&mut evidence, observer, |report| {
            let third = report.links.iter_mut().filter(|link| link.peer == NodeNumber(3));
            third.for_each(|link| link.outbound = false);
        });
    }
    assert_eq!(hosts(&state, &evidence), [(3, HostStatus::Disconnected, false)]);
}

/// A19: at once, and planned; not any more when the node is back in another run.
#[test]
fn who_said_goodbye_is_down_at_once() {
    let (state, mut evidence) = well(3);
    change(&mut evidence, 2, |report| report.peers[1].leaving = true);
    assert_eq!(hosts(&state, &evidence), [(3, HostStatus::Down, true)]);
    change(&mut evidence, 1, |report| report.peers[1].session = Some(Session(99)));
    assert_eq!(hosts(&state, &evidence), []);
}

#[test]
fn a_member_never_heard_is_unknown_for_a_while() {
    let (mut state, mut evidence) = well(3);
    state.nodes.get_mut(&NodeNumber(3)).expect("it is a member").host = HostStatus::Unknown;
    dies(&mut evidence, 3, &[1, 2]);
    for observer in [1, 2] {
        change(&mut evidence, observer, |report| {
            let third = report.links.iter_mut().filter(|link| link.peer == NodeNumber(3));
            third.for_each(|link| link.silent = None);
        });
    }
    assert_eq!(hosts(&state, &evidence), []);
    evidence.unknown_for.insert(NodeNumber(3), NEVER_HEARD_GRACE);
    assert_eq!(hosts(&state, &evidence), [(3, HostStatus::Down, false)]);
}

/// A9: a peer's newer word; not a stale one just after the agent came back.
#[test]
fn a_guard_says_that_its_agent_is_down() {
    let (state, mut evidence) = well(3);
    change(&mut evidence, 2, |report| report.peers[1].agent = AgentStatus::Down);
    let third = NodeNumber(3);
    assert_eq!(diagnose(&state, &evidence, ME), [], "its own report is as new");
    evidence.reports.get_mut(&third).expect("it reported").age = Duration::from_millis(100);
    let changes = diagnose(&state, &evidence, ME);
    assert!(
        matches!(changes[..], [Change::Agent { node, to: AgentStatus::Down, .. }] if node == third),
        "{changes:?}"
    );
    evidence.agent_settled.insert(third, Duration::from_millis(10));
    assert_eq!(diagnose(&state, &evidence, ME), [], "n2 may not have heard of the return");
}

/// A9: an agent that dies again right after it came back is seen, by those who heard it since.
#[test]
fn a_death_right_after_a_return_is_believed_by_a_word_that_is_younger() {
    let (state, mut evidence) = well(3);
    let third = NodeNumber(3);
    change(&mut evidence, 2, |report| {
        report.peers[1].agent = AgentStatus::Down;
        for link in &mut report.links {
            link.silent = Some(Duration::from_millis(30));
        }
    });
    evidence.reports.get_mut(&third).expect("it reported").age = Duration::from_millis(100);
    evidence.agent_settled.insert(third, Duration::from_millis(140));
    assert_eq!(diagnose(&state, &evidence, ME), [], "n2's word may be from before");
    evidence.agent_settled.insert(third, Duration::from_millis(160));
    let changes = diagnose(&state, &evidence, ME);
    assert!(
        matches!(changes[..], [Change::Agent { node, to: AgentStatus::Down, .. }] if node == third),
        "{changes:?}"
    );
}

fn kinds(changes: &[Change]) -> (usize, usize, usize) {
    let count = |what: fn(&Change) -> bool| changes.iter().filter(|c| what(c)).count();
    (
        count(|c| matches!(c, Change::Network { .. })),
        count(|c| matches!(c, Change::Interface { .. })),
        count(|c| matches!(c, Change::Link { .. })),
    )
}

/// H4: one network fails.
#[test]
fn a_cut_network_is_no_interface_failure() {
    let (state, mut evidence) = well(3);
    cut(&mut evidence, 1);
    assert_eq!(kinds(&diagnose(&state, &evidence, ME)), (1, 0, 3));
}

/// Every link on a network is silent, as all three see it.
fn cut(evidence: &mut Evidence, network: u8) {
    for (observer, node) in [(1, 2), (2, 1), (1, 3), (3, 1), (2, 3), (3, 2)] {
        deaf_to(evidence, observer, node, Some(network), 1_000);
    }
}

fn interfaces(changes: &[Change]) -> Vec<(u16, InterfaceStatus, &str)> {
    let mut found = Vec::new();
    for change in changes {
        if let Change::Interface { node, to, cause, .. } = change {
            found.push((node.0, *to, cause.as_str()));
        }
    }
    found
}

/// V13: who joins a network that is DOWN is reached by nobody either.
#[test]
fn on_a_dead_network_no_interface_is_redundancy() {
    let (mut state, mut evidence) = well(3);
    cut(&mut evidence, 1);
    state.networks.get_mut(&NetworkNumber(1)).expect("there is one").status = NetworkStatus::Down;
    let status = |state: &mut ClusterState, node, to| {
        let node = state.nodes.get_mut(&NodeNumber(node)).expect("a member");
        node.interfaces.get_mut(&NetworkNumber(1)).expect("it has one").status = to;
    };
    status(&mut state, 1, InterfaceStatus::Down);
    status(&mut state, 2, InterfaceStatus::Down);
    status(&mut state, 3, InterfaceStatus::Unknown);
    let changes = diagnose(&state, &evidence, ME);
    let cause = "no peer reaches it over neta, which carries nobody";
    assert_eq!(interfaces(&changes), [(3, InterfaceStatus::Down, cause)]);
}

/// H4: the last adapter that can be used is not at fault, whatever was thought of it before.
#[test]
fn the_last_adapter_that_can_be_used_is_up() {
    let (mut state, mut evidence) = well(3);
    cut(&mut evidence, 1);
    state.networks.get_mut(&NetworkNumber(1)).expect("there is one").status = NetworkStatus::Down;
    for node in state.nodes.values_mut() {
        node.interfaces.get_mut(&NetworkNumber(1)).expect("it has one").status =
            InterfaceStatus::Down;
    }
    assert_eq!(interfaces(&diagnose(&state, &evidence, ME)), []);
    for broken in [2, 3] {
        change(&mut evidence, broken, |report| report.interfaces[0].usable = false);
    }
    let changes = diagnose(&state, &evidence, ME);
    let cause = "its address can be used, and that of no peer can";
    assert_eq!(interfaces(&changes), [(1, InterfaceStatus::Up, cause)]);
    assert_eq!(kinds(&changes).0, 1, "and the network is not at fault");
}

/// H4: one adapter fails.
#[test]
fn a_failed_adapter_is_no_network_failure() {
    let (state, mut evidence) = well(3);
    let network = state.networks.keys().next().expect("there is one").0;
    for (observer, node) in [(1, 3), (3, 1), (2, 3), (3, 2)] {
        deaf_to(&mut evidence, observer, node, Some(network), 1_000);
    }
    let changes = diagnose(&state, &evidence, ME);
    assert_eq!(kinds(&changes), (0, 1, 2));
    assert!(changes.iter().any(|change| matches!(
        change,
        Change::Interface { node: NodeNumber(3), to: InterfaceStatus::Down, .. }
    )));
}

/// The first sign of a death is not the failure of a network.
#[test]
fn nothing_is_said_of_the_wiring_of_a_node_in_doubt() {
    let (state, mut evidence) = well(3);
    let network = state.networks.keys().next().expect("there is one").0;
    for observer in [1, 2] {
        change(&mut evidence, observer, |report| {
            for link in report.links.iter_mut().filter(|link| link.peer == NodeNumber(3)) {
                link.silent = Some(Duration::from_millis(850));
            }
        });
        deaf_to(&mut evidence, observer, 3, Some(network), 1_000);
    }
    assert_eq!(diagnose(&state, &evidence, ME), []);
}
