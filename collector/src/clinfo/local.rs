//! The answering node itself: what it is, and what it sees. Differs from node to node.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use vedette_core::clock::greatest_offset;
use vedette_core::group::GroupState;
use vedette_core::id::NodeNumber;
use vedette_core::model::{AgentStatus, HostStatus, Role};
use vedette_core::observation::{OwnInterface, PeerView, Report};
use vedette_core::state::ClusterState;
use vedette_core::view::View;

use super::node::offset_ms;
use super::{ConditionDoc, JournalDoc, Seen};

/// The answering node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LocalDoc {
    /// Its name.
    pub node: String,
    /// Its number.
    pub number: u16,
    /// The run of its agent, in hexadecimal.
    pub session: String,
    /// Whether its guard holds the lease: a majority of the voters' guards heard it lately. What it has of groups
    /// stands on that, whether there is a director or not.
    #[serde(default)]
    pub lease: bool,
    /// Whether it is part of a quorum that has a director.
    pub quorate: bool,
    /// Whether it knows the present state of the cluster: it is part of a quorum, takes part, and its log
    /// is not behind.
    #[serde(default)]
    pub knows: bool,
    /// Since when it does not, by its own clock; `null` while it does.
    #[serde(default)]
    pub unknown_since: Option<String>,
    /// Whether it is the director; false while it does not know the present state.
    pub director: bool,
    /// `voter` or `learner`.
    #[schema(value_type = String, example = "voter")]
    pub role: Role,
    /// Its own opinion of its host.
    #[schema(value_type = String, example = "UP")]
    pub host_status: HostStatus,
    /// Status of its agent.
    #[schema(value_type = String, example = "RUNNING")]
    pub agent_status: AgentStatus,
    /// Its stage of starting: `topology`, `log`, `cluster`, `running` (spec H23).
    pub stage: String,
    /// What it waits for; empty if for nothing.
    pub waiting_for: String,
    /// Time since it last knew itself to be part of a quorum; 0 while it is.
    pub stale_ms: u64,
    /// Last durable event of its history.
    pub history_seq: u64,
    /// Whether its subagent is connected to an SNMP master; `null` if SNMP is off.
    pub agentx: Option<bool>,
    /// Whether its guard was late and doubts its own view.
    pub self_suspect: bool,
    /// By how many milliseconds the clock of a peer is ahead of its own, of the peer for which that is
    /// the most in either direction; `null` if none was measured.
    #[serde(default)]
    pub clock_offset_ms: Option<f64>,
    /// What it sees of its peers.
    pub peers: Vec<SeenPeerDoc>,
    /// What it sees of its own interfaces.
    pub interfaces: Vec<SeenInterfaceDoc>,
    /// Conditions of this node that hold.
    #[serde(default)]
    pub conditions: Vec<ConditionDoc>,
    /// How its journal does.
    #[serde(default)]
    pub journal: JournalDoc,
    /// Groups that it has something of, as they are on this machine now.
    #[serde(default)]
    pub groups: Vec<OwnGroupDoc>,
    /// How its log does.
    #[serde(default)]
    pub log: LogDoc,
}

/// A group on the answering node, as it is there now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OwnGroupDoc {
    /// Its name.
    pub group: String,
    /// Its state there.
    #[schema(value_type = String, example = "ONLINE")]
    pub state: GroupState,
}

/// How the answering node's copy of the replicated log does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogDoc {
    /// Index of the last entry that is applied.
    pub applied: u64,
    /// Since when nothing is committed although something waits; `null` if that is not so.
    pub stalled_since: Option<String>,
    /// How far it is behind, in words; `null` if it is not.
    pub behind: Option<String>,
    /// Members whose log is shorter than what they had acknowledged.
    pub lost: Vec<LogLostDoc>,
}

/// A member that lost the end of its log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogLostDoc {
    /// Its name.
    pub node: String,
    /// Its number.
    pub number: u16,
    /// Index of the last entry that it had acknowledged.
    pub had: u64,
    /// Index of the last entry that it has.
    pub has: u64,
}

/// What the answering node sees of a peer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SeenPeerDoc {
    /// Name of the peer.
    pub peer: String,
    /// Its number.
    pub number: u16,
    /// What the peer's guard says of its agent.
    #[schema(value_type = String, example = "RUNNING")]
    pub agent_status: AgentStatus,
    /// The peer said that it is leaving.
    pub leaving: bool,
    /// Networks over which it is heard.
    pub heard_on: Vec<String>,
    /// By how many milliseconds the peer's clock is ahead of that of the answering node, as far as
    /// the round trip lets it be known; `null` while it is not heard.
    #[serde(default)]
    pub clock_offset_ms: Option<f64>,
    /// Index of the last log entry that the peer says it has applied; `null` while that is not known.
    #[serde(default)]
    pub position: Option<u64>,
    /// Whether the peer says that its log stands still; `null` while it is not heard.
    #[serde(default)]
    pub log_stalled: Option<bool>,
    /// Smoothed round-trip time over the fastest network, once measured.
    #[serde(default)]
    pub round_trip_ms: Option<f64>,
}

/// What the answering node sees of one of its interfaces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SeenInterfaceDoc {
    /// Name of the network.
    pub network: String,
    /// The address is on this host and packets can be sent from it.
    pub usable: bool,
    /// Whether the ping target answered, where one was tried.
    pub probe: Option<bool>,
}

impl LocalDoc {
    /// The answering node of a view.
    pub fn new(seen: Seen<'_>) -> Self {
        let view = seen.view;
        let local = &view.local;
        let report = local.report.as_deref();
        Self {
            node: view.state.node_name(local.node),
            number: local.node.0,
            session: format!("{:016x}", local.session.0),
            lease: local.lease,
            quorate: local.quorate,
            knows: local.knows(),
            unknown_since: local.unknown_since.map(|at| at.to_string()),
            director: local.director && local.knows(),
            role: local.role,
            host_status: local.host,
            agent_status: local.agent,
            stage: local.stage.into(),
            waiting_for: local.waiting_for.clone(),
            stale_ms: millis(seen.stale),
            history_seq: local.history_seq,
            agentx: local.agentx,
            self_suspect: report.is_some_and(|report| report.self_suspect),
            clock_offset_ms: report.and_then(greatest_offset).map(offset_ms),
            peers: report.map_or_else(Vec::new, |report| peers(view, report)),
            interfaces: report.map_or_else(Vec::new, |report| interfaces(view, report)),
            conditions: local.conditions.iter().map(ConditionDoc::new).collect(),
            journal: JournalDoc::new(&local.journal_health),
            groups: own_groups(view),
            log: LogDoc::new(view),
        }
    }
}

fn own_groups(view: &View) -> Vec<OwnGroupDoc> {
    let doc =
        |(name, state): (&String, &GroupState)| OwnGroupDoc { group: name.clone(), state: *state };
    view.local.groups.iter().map(doc).collect()
}

/// How a node that was deleted becomes a member again.
pub const TAKE_IN_AGAIN: &str = "end this daemon, move its state directory away, vedette node add NODE on \
    a member, vedette join TOKEN here";

/// Whether a node is no member any more: members told it so, or its own state does not have it.
pub fn was_deleted(state: &ClusterState, node: NodeNumber, quorate: bool, stage: &str) -> bool {
    let left_out = stage == "running" && !state.nodes.contains_key(&node);
    !quorate && state.cluster.is_some() && (left_out || stage == "deleted")
}

impl LogDoc {
    fn new(view: &View) -> Self {
        let log = &view.local.log;
        let lost = |(node, (had, has)): (&NodeNumber, &(u64, u64))| LogLostDoc {
            node: view.state.node_name(*node),
            number: node.0,
            had: *had,
            has: *has,
        };
        Self {
            applied: log.applied,
            stalled_since: log.stalled_since.map(|at| at.to_string()),
            behind: log.behind.clone(),
            lost: log.lost.iter().map(lost).collect(),
        }
    }
}

fn peers(view: &View, report: &Report) -> Vec<SeenPeerDoc> {
    report.peers.iter().map(|peer| seen_peer(view, report, peer)).collect()
}

fn seen_peer(view: &View, report: &Report, peer: &PeerView) -> SeenPeerDoc {
    let heard = report.links.iter().filter(|link| link.peer == peer.peer && link.inbound);
    let is_heard = heard.clone().next().is_some();
    SeenPeerDoc {
        peer: view.state.node_name(peer.peer),
        number: peer.peer.0,
        agent_status: peer.agent,
        leaving: peer.leaving,
        heard_on: heard.map(|link| view.state.network_name(link.network)).collect(),
        clock_offset_ms: peer.clock_offset_us.map(offset_ms),
        position: report.position_of(peer.peer),
        log_stalled: is_heard.then_some(peer.log_stalled),
        round_trip_ms: report.round_trip_of(peer.peer).map(|us| f64::from(us) / 1_000.0),
    }
}

fn interfaces(view: &View, report: &Report) -> Vec<SeenInterfaceDoc> {
    let doc = |own: &OwnInterface| SeenInterfaceDoc {
        network: view.state.network_name(own.network),
        usable: own.usable,
        probe: own.probe,
    };
    report.interfaces.iter().map(doc).collect()
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
