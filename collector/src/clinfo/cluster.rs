//! The cluster as a whole: its state, its quorum, and how many more failures it survives.
//!
//! Redundancy is what a healthy-looking cluster loses silently. It is counted from two things: the
//! voters that are there against the majority that is needed, and the working interfaces of the
//! node that has the fewest.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use vedette_core::model::{
    AgentStatus, ClusterStatus, HostStatus, InterfaceStatus, NetworkStatus, Node, Role, Severity,
    Substate, Timing,
};
use vedette_core::state::ClusterState;
use vedette_core::view::View;

use super::known::as_of;

/// A cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ClusterDoc {
    /// Its id; `null` before it is formed.
    pub id: Option<String>,
    /// Its name.
    pub name: String,
    /// `unknown`, `up`, `down` or `notConfigured`; `unknown` where the answering node has no
    /// quorum.
    #[schema(value_type = String, example = "up")]
    pub status: ClusterStatus,
    /// Since when.
    pub status_since: String,
    /// `unknown`, `stable`, `unstable`, `error`, `reconfig` or `notSynced`.
    #[schema(value_type = String, example = "stable")]
    pub substate: Substate,
    /// Since when.
    pub substate_since: String,
    /// When it was formed.
    pub formed_at: String,
    /// The number by which all surfaces are compared.
    pub revision: u64,
    /// When the state last changed.
    pub changed_at: String,
    /// Whether enough nodes came together since it started (spec V10); `null` where that is not known.
    pub seeded: Option<bool>,
    /// How many are waited for at a start.
    pub seed_count: u16,
    /// Whether the answering node knows the present state. If not, everything that others would have to
    /// confirm is unknown, and counts of them are `null`.
    #[serde(default)]
    pub known: bool,
    /// When it knew that last; `null` while it does.
    #[serde(default)]
    pub as_of: Option<String>,
    /// Whether the answering node is part of a quorum.
    pub quorate: bool,
    /// The director's name, while there is one.
    pub director: Option<String>,
    /// Its number.
    pub director_number: Option<u16>,
    /// The term of its election.
    pub term: u64,
    /// How many members there are.
    pub nodes: usize,
    /// How many of them are up; `null` where that is not known.
    pub nodes_up: Option<usize>,
    /// How many networks there are.
    pub networks: usize,
    /// How many of them are up; `null` where that is not known.
    pub networks_up: Option<usize>,
    /// Votes, and what can still fail.
    pub redundancy: RedundancyDoc,
    /// Timers.
    pub timing: TimingDoc,
    /// `error`, `warning`, `notice` or `informational`.
    #[schema(value_type = String, example = "notice")]
    pub logging_level: Severity,
    /// Sequence number of the last event.
    pub seq: u64,
    /// Hash of the last event: equal on every node at equal `seq`.
    pub head: String,
    /// Alerts that the script was not run for yet; `null` where that is not known.
    pub alerts_pending: Option<usize>,
    /// Alerts that it was run for, however that ended.
    pub alerts_finished: u64,
    /// Those of them for which the script failed: nobody may have been told.
    #[serde(default)]
    pub alerts_failed: u64,
}

/// Votes, and how many more failures the cluster survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RedundancyDoc {
    /// How many nodes vote.
    pub voters: usize,
    /// How many of them are up with their agent running; `null` where that is not known.
    pub voters_up: Option<usize>,
    /// How many are needed for a quorum.
    pub quorum: usize,
    /// How many more voters may fail before the quorum is lost; `null` where that is not known.
    pub quorum_remaining: Option<usize>,
    /// How many more networks may fail before a node that is up is cut off; `null` where that is not
    /// known.
    pub network_remaining: Option<usize>,
}

/// The same, counted in a state that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Redundancy {
    pub(super) voters: usize,
    pub(super) voters_up: usize,
    pub(super) quorum: usize,
    pub(super) quorum_remaining: usize,
    pub(super) network_remaining: usize,
}

/// The timers that decide how fast a failure is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TimingDoc {
    /// Time between two beats.
    pub interval_ms: u64,
    /// Missed beats until a link is down.
    pub sensitivity: u64,
    /// The product of both: silence after which a link is down.
    pub detect_ms: u64,
    /// A node's lease.
    pub lease_ms: u64,
    /// Greatest election timeout.
    pub election_max_ms: u64,
}

impl ClusterDoc {
    /// The cluster of a view.
    pub fn new(view: &View) -> Self {
        let state = &*view.state;
        let known = view.local.knows();
        let director = state.director.filter(|_| known);
        Self {
            id: state.cluster.map(|id| id.to_string()),
            name: state.name.clone(),
            status: view.cluster_status(),
            status_since: state.status_since.to_string(),
            substate: if known { state.substate } else { Substate::Unknown },
            substate_since: state.substate_since.to_string(),
            formed_at: state.formed_at.to_string(),
            revision: state.revision,
            changed_at: state.changed_at.to_string(),
            seeded: known.then_some(state.seeded),
            seed_count: state.settings.seed_count,
            known,
            as_of: as_of(view).map(|at| at.to_string()),
            quorate: view.local.quorate,
            director: director.map(|node| state.node_name(node)),
            director_number: director.map(|node| node.0),
            term: state.term,
            nodes: state.nodes.len(),
            nodes_up: known.then(|| state.nodes_up().count()),
            networks: state.networks.len(),
            networks_up: known.then(|| networks_up(state)),
            redundancy: RedundancyDoc::new(view),
            timing: TimingDoc::new(&state.settings.timing),
            logging_level: state.settings.logging_level,
            seq: state.seq,
            head: state.head.to_string(),
            alerts_pending: known.then_some(state.alerts.len()),
            alerts_finished: state.alerts_finished,
            alerts_failed: state.alerts_failed,
        }
    }
}

impl RedundancyDoc {
    /// What the cluster of a view can still lose.
    pub fn new(view: &View) -> Self {
        let counted = Redundancy::new(&view.state);
        let known = |count: usize| view.local.knows().then_some(count);
        Self {
            voters: counted.voters,
            voters_up: known(counted.voters_up),
            quorum: counted.quorum,
            quorum_remaining: known(counted.quorum_remaining),
            network_remaining: known(counted.network_remaining),
        }
    }
}

impl Redundancy {
    pub(super) fn new(state: &ClusterState) -> Self {
        let voters = state.nodes.values().filter(|node| node.role == Role::Voter);
        let voters_up = voters.clone().filter(|node| votes(node)).count();
        let voters = voters.count();
        let quorum = voters / 2 + 1;
        Self {
            voters,
            voters_up,
            quorum,
            quorum_remaining: voters_up.saturating_sub(quorum),
            network_remaining: network_remaining(state),
        }
    }
}

impl TimingDoc {
    fn new(timing: &Timing) -> Self {
        Self {
            interval_ms: timing.interval_ms,
            sensitivity: timing.sensitivity,
            detect_ms: timing.interval_ms.saturating_mul(timing.sensitivity),
            lease_ms: timing.lease_ms,
            election_max_ms: timing.election_max_ms,
        }
    }
}

/// Whether a voter can be counted on for the next vote.
fn votes(node: &Node) -> bool {
    node.host == HostStatus::Up && node.agent == AgentStatus::Running
}

pub(super) fn networks_up(state: &ClusterState) -> usize {
    state.networks.values().filter(|network| network.status == NetworkStatus::Up).count()
}

/// The node with the fewest working interfaces decides; a node alone has nobody to lose.
fn network_remaining(state: &ClusterState) -> usize {
    let working = |node: &Node| {
        node.interfaces.values().filter(|own| own.status == InterfaceStatus::Up).count()
    };
    state.nodes_up().map(working).min().unwrap_or(0).saturating_sub(1)
}
