//! The example cluster that the tests of every surface show.
//!
//! One cluster, built by applying commands like any other, so that nothing in it can contradict
//! the rules: `prod`, its networks `neta` and `netb`, its nodes `n1`, `n2`, … [`one_down`] is what
//! the golden files of SNMP, HTTP, metrics and the terminal have in common: three nodes, of which
//! `n3` fell silent at 12:04:01, and one alert about it that the script was not run for yet. [`busy`]
//! adds all that the cluster manager may show, [`watched`] what rules watch; [`alone`] is a node of any of
//! them that has lost all others.
//!
//! It is part of the library because crates cannot share test code; a daemon never uses it.

mod alone;
mod busy;

pub use alone::{LOST_AT, alone};
pub use busy::{busy, busy_fixture};

mod events;
mod groups;
mod watched;

pub use events::{exited, succeeded};
pub use groups::definition;
pub use watched::{watched, watched_fixture};

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use crate::apply::Applied;
use crate::command::{Change, Command, NewNetwork, NewNode, Proposal};
use crate::group::{Group, GroupState};
use crate::id::{
    ClusterId, CommandId, Hash, NetworkNumber, NodeNumber, RaftId, Session, StorageId,
};
use crate::local_view::{JournalHealth, Local, LogView, MonitorView};
use crate::model::{
    AgentStatus, HostStatus, InterfaceStatus, LinkStatus, NetworkStatus, Priority, Role,
    RunOutcome, Settings,
};
use crate::observation::{LinkView, OwnInterface, PeerView, Report};
use crate::record::Record;
use crate::state::{ClusterState, Outcome};
use crate::time::WallTime;
use crate::view::View;

/// 2026-11-22T12:00:00Z, when the example cluster was formed.
pub const FORMED: WallTime = WallTime(1_795_348_800_000_000);

/// When `n3` was declared down in [`one_down`].
pub const DOWN_AT: WallTime = WallTime(FORMED.0 + 241_000_000);

/// A cluster in the making: its state, its records, and a clock of its own.
#[derive(Clone, Debug)]
pub struct Fixture {
    /// The state so far.
    pub state: ClusterState,
    /// Every record so far.
    pub records: Vec<Arc<Record>>,
    /// The time of the next command.
    pub clock: WallTime,
    /// What each node's resource monitors see; they are no part of the state.
    pub monitors: BTreeMap<NodeNumber, BTreeMap<String, MonitorView>>,
    index: u64,
}

/// The cluster of three nodes of which `n3` is down, as `n1` (the director) shows it.
pub fn one_down() -> View {
    let mut fixture = Fixture::settled(3);
    fixture.deliver_alerts(NodeNumber(1));
    fixture.clock = DOWN_AT;
    fixture.node_down(NodeNumber(3), "silent on neta and netb for 1.0 s, as n1 and n2 see it");
    fixture.view(NodeNumber(1))
}

impl Fixture {
    /// A cluster of `size` nodes where everything works.
    pub fn settled(size: u16) -> Self {
        let mut fixture = Self {
            state: ClusterState::default(),
            records: Vec::new(),
            clock: FORMED,
            monitors: BTreeMap::new(),
            index: 0,
        };
        fixture.form(size);
        for number in 2..=size {
            fixture.join(NodeNumber(number));
        }
        let voters = (1..=size.min(3)).map(NodeNumber).collect();
        fixture.apply(Command::Voters { voters });
        fixture.apply(Command::Observe { changes: all_up(size) });
        fixture
    }

    /// Applies a command; panics if it is refused, because a fixture that is must be corrected.
    pub fn apply(&mut self, command: Command) -> Applied {
        self.apply_by((NodeNumber(1), "director"), command)
    }

    /// Applies what the agent of a node says of itself.
    pub fn apply_of(&mut self, node: NodeNumber, command: Command) -> Applied {
        self.apply_by((node, "agent"), command)
    }

    fn apply_by(&mut self, (origin, actor): (NodeNumber, &str), command: Command) -> Applied {
        self.index += 1;
        self.clock = self.clock.plus(Duration::from_millis(10));
        let mut id = [0; 16];
        id[8..].copy_from_slice(&self.index.to_be_bytes());
        let proposal = Proposal {
            id: CommandId(id),
            at: self.clock,
            origin,
            actor: actor.into(),
            command,
            tick: None,
        };
        let applied = self.state.apply(self.index, &proposal);
        assert!(!matches!(applied.outcome, Outcome::Refused(_)), "{:?}", applied.outcome);
        self.records.extend(applied.records.iter().cloned().map(Arc::new));
        applied
    }

    /// A node's host is declared down.
    pub fn node_down(&mut self, node: NodeNumber, cause: &str) -> Applied {
        let change = Change::Host {
            node,
            to: HostStatus::Down,
            planned: false,
            cause: cause.into(),
            silent_ms: None,
        };
        self.apply(Command::Observe { changes: vec![change] })
    }

    /// The script ran, with success, for every alert that waits.
    pub fn deliver_alerts(&mut self, runner: NodeNumber) {
        self.run_alerts(runner, 0);
    }

    /// The script ran for every alert that waits, and ended with that exit status.
    pub fn run_alerts(&mut self, runner: NodeNumber, exit: i32) {
        let session = Session(1);
        let waiting: Vec<u64> = self.state.alerts.keys().copied().collect();
        for seq in waiting {
            self.apply(Command::ClaimAlert { seq, runner, session });
            let outcome = RunOutcome {
                exit: Some(exit),
                signal: None,
                timed_out: false,
                failure: None,
                output: if exit == 0 { "mail sent\n" } else { "no route to the mail server\n" }
                    .into(),
                output_dropped: 0,
                duration_ms: 42,
                version: 0,
                transcript: None,
            };
            self.apply(Command::FinishAlert { seq, runner, session, outcome });
        }
    }

    /// What `node` shows: part of a quorum, everything durable, its SNMP master connected.
    pub fn view(&self, node: NodeNumber) -> View {
        let from = self.records.len().saturating_sub(View::RECENT);
        View {
            state: Arc::new(self.state.clone()),
            recent: self.records[from..].into(),
            known: None,
            viewpoint: 0,
            local: Local {
                node,
                session: Session(7),
                lease: true,
                quorate: true,
                director: self.state.director == Some(node),
                role: self.state.nodes.get(&node).map_or(Role::Learner, |own| own.role),
                host: HostStatus::Up,
                agent: AgentStatus::Running,
                stage: "running",
                waiting_for: String::new(),
                report: Some(Arc::new(self.report(node))),
                clocks: Arc::default(),
                history_seq: self.state.seq,
                agentx: Some(true),
                monitors: Arc::new(self.monitors.get(&node).cloned().unwrap_or_default()),
                unknown_since: None,
                presented: true,
                groups: Arc::new(self.groups_on(node)),
                conditions: Arc::default(),
                journal: Arc::default(),
                journal_health: JournalHealth::default(),
                log: LogView { applied: self.index, ..LogView::default() },
            },
        }
    }

    fn form(&mut self, size: u16) {
        let network = |name: &str, priority| NewNetwork {
            name: name.into(),
            priority,
            beat_port: 7770,
            peer_port: 7771,
            ping: None,
        };
        self.apply(Command::Form {
            cluster: ClusterId([0x5a; 16]),
            name: "prod".into(),
            settings: Settings { seed_count: size.div_ceil(2), ..Settings::default() },
            networks: BTreeMap::from([
                (NetworkNumber(1), network("neta", Priority::High)),
                (NetworkNumber(2), network("netb", Priority::Low)),
            ]),
            first: new_node(NodeNumber(1)),
            raft_id: RaftId(1),
        });
        self.apply(Command::Office { director: NodeNumber(1), term: 1, continuity: false });
    }

    fn join(&mut self, number: NodeNumber) {
        let secret = Hash::of(&number.0.to_be_bytes());
        let node = new_node(number);
        self.apply(Command::IssueToken {
            hash: secret,
            name: node.name.clone(),
            number,
            expires_at: self.clock.plus(Duration::from_secs(600)),
        });
        self.apply(Command::AddNode { node, token: secret });
    }

    fn groups_on(&self, node: NodeNumber) -> BTreeMap<String, GroupState> {
        let own = |(name, group): (&String, &Group)| {
            group.instances.get(&node).map(|instance| (name.clone(), instance.state))
        };
        self.state.groups.iter().filter_map(own).collect()
    }

    fn report(&self, observer: NodeNumber) -> Report {
        let up = |peer: NodeNumber| {
            self.state.nodes.get(&peer).is_some_and(|node| node.host == HostStatus::Up)
        };
        let peers: Vec<NodeNumber> =
            self.state.nodes.keys().copied().filter(|peer| *peer != observer).collect();
        Report {
            observer,
            session: Session(3),
            sequence: 1_000,
            self_suspect: false,
            made_us: 9_000_000,
            lease: true,
            voters: self.state.voter_set().since,
            timing: None,
            directed: true,
            epoch: 1,
            released: false,
            continuity: true,
            agent: AgentStatus::Running,
            position: self.state.revision,
            peers: peers
                .iter()
                .map(|peer| peer_view(*peer, up(*peer), self.state.revision))
                .collect(),
            links: peers
                .iter()
                .flat_map(|peer| [1, 2].map(|net| link_view(*peer, NetworkNumber(net), up(*peer))))
                .collect(),
            interfaces: [1, 2]
                .map(|net| OwnInterface { network: NetworkNumber(net), usable: true, probe: None })
                .to_vec(),
        }
    }
}

fn new_node(number: NodeNumber) -> NewNode {
    let [high, low] = number.0.to_be_bytes();
    let address = |network: u8| IpAddr::V4(Ipv4Addr::new(10, 90 + network, high, low));
    NewNode {
        number,
        name: format!("n{number}"),
        storage: StorageId([low; 16]),
        version: "0.1.0".into(),
        addresses: BTreeMap::from([1, 2].map(|net| (NetworkNumber(net), address(net)))),
    }
}

fn all_up(size: u16) -> Vec<Change> {
    let cause = || "heard by its peers".to_owned();
    let mut changes = Vec::new();
    for node in (1..=size).map(NodeNumber) {
        changes.push(Change::Host {
            node,
            to: HostStatus::Up,
            planned: false,
            cause: cause(),
            silent_ms: None,
        });
        changes.push(Change::Agent { node, to: AgentStatus::Running, cause: cause() });
    }
    for network in [1, 2].map(NetworkNumber) {
        changes.push(Change::Network { network, to: NetworkStatus::Up, cause: cause() });
        for node in (1..=size).map(NodeNumber) {
            let to = InterfaceStatus::Up;
            changes.push(Change::Interface { node, network, to, cause: cause() });
            for high in (node.0 + 1..=size).map(NodeNumber) {
                let to = LinkStatus::Up;
                changes.push(Change::Link { low: node, high, network, to, cause: cause() });
            }
        }
    }
    changes
}

/// A peer that has applied everything, and whose clock is a little behind.
fn peer_view(peer: NodeNumber, up: bool, position: u64) -> PeerView {
    let heard = PeerView {
        session: Some(Session(u64::from(peer.0))),
        position_max: position,
        ..PeerView::unheard(peer)
    };
    if !up {
        return heard;
    }
    let clock_offset_us = Some(-400 * i64::from(peer.0));
    PeerView { agent: AgentStatus::Running, clock_offset_us, position, ..heard }
}

fn link_view(peer: NodeNumber, network: NetworkNumber, up: bool) -> LinkView {
    LinkView {
        peer,
        network,
        inbound: up,
        outbound: up,
        silent: Some(if up { Duration::from_millis(120) } else { Duration::from_secs(31) }),
        rtt_us: Some(180 + 10 * u32::from(peer.0) + u32::from(network.0)),
        lost: if up { 2 } else { 155 },
        received: 1_200,
        narrow: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_what_it_says() {
        let view = one_down();
        assert_eq!(view.state.nodes_up().count(), 2);
        assert_eq!(view.state.alerts.len(), 1);
        assert!(view.state.seeded && view.local.director);
    }
}
