//! The view: what every surface renders, and the only thing it may render.
//!
//! A [`View`] is an immutable snapshot: the replicated state at one revision, the latest records,
//! and what this node knows of itself ([`Local`]). Two nodes at the same revision show the same
//! `state`; `local` differs, and is labelled as such wherever it is shown.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::id::{NodeNumber, Session};
use crate::model::{AgentStatus, ClusterStatus, HostStatus, Role};
use crate::observation::Report;
use crate::record::Record;
use crate::state::ClusterState;
use crate::time::WallTime;
use crate::variable::Reading;

/// A snapshot of everything that may be shown.
#[derive(Clone, Debug)]
pub struct View {
    /// The replicated state. Identical on every node at equal `state.revision`.
    pub state: Arc<ClusterState>,
    /// The latest records, oldest first, at most [`View::RECENT`]; the history holds all.
    pub recent: Arc<[Arc<Record>]>,
    /// What this node knows of itself.
    pub local: Local,
}

impl View {
    /// How many records a view holds.
    pub const RECENT: usize = 256;

    /// The number by which surfaces are compared: the log index of the last command that changed
    /// the state.
    pub fn revision(&self) -> u64 {
        self.state.revision
    }

    /// Cluster state as this node may claim it: `unknown` without a quorum, whatever the last
    /// state it heard of was.
    pub fn cluster_status(&self) -> ClusterStatus {
        if self.local.quorate { self.state.status } else { ClusterStatus::Unknown }
    }
}

/// What a node knows of itself and did not get from the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Local {
    /// Which node this is.
    pub node: NodeNumber,
    /// The run of its agent.
    pub session: Session,
    /// Whether a director with a majority behind it was heard within the lease.
    pub quorate: bool,
    /// Whether this node is the director now.
    pub director: bool,
    /// Its role in the log.
    pub role: Role,
    /// Its own opinion of its host: DISCONNECTED where no peer at all can be reached.
    pub host: HostStatus,
    /// Status of its agent.
    pub agent: AgentStatus,
    /// Its stage of starting, in order: `topology`, `log`, `cluster`, `running` (spec H23).
    pub stage: &'static str,
    /// What it waits for, in words; empty if for nothing.
    pub waiting_for: String,
    /// What its guard saw last.
    pub report: Option<Arc<Report>>,
    /// Last durable record of the history on this node.
    pub history_seq: u64,
    /// Whether the master SNMP agent is connected; `None` if SNMP is off.
    pub agentx: Option<bool>,
    /// What its resource monitors see, by their names.
    pub monitors: Arc<BTreeMap<String, MonitorView>>,
}

/// What a resource monitor of this node sees (spec H29).
#[derive(Clone, Debug, PartialEq)]
pub struct MonitorView {
    /// Time between two looks.
    pub interval: Duration,
    /// When it looked last; `None` if it did not yet.
    pub at: Option<WallTime>,
    /// Why it sees not everything that is wanted; a sentence without its full stop.
    pub failure: Option<String>,
    /// What it saw last.
    pub readings: Vec<Reading>,
}

impl MonitorView {
    /// How many values of one monitor become rows and series: a rule that means every program would
    /// make thousands. Documents hold all of them.
    pub const MOST_SHOWN: usize = 100;

    /// The values that become rows and series.
    pub fn shown(&self) -> &[Reading] {
        &self.readings[..self.readings.len().min(Self::MOST_SHOWN)]
    }
}

/// Where a surface gets what it shows. Implemented by the agent, and by fixtures in tests.
pub trait Source: Send + Sync + 'static {
    /// The latest view; cheap.
    fn view(&self) -> Arc<View>;

    /// Time since this node last knew itself to be part of a quorum; zero while it is.
    fn stale(&self) -> Duration;

    /// Records after `seq`, oldest first, at most `most`; only durable ones.
    fn records_after(&self, seq: u64, most: usize) -> Vec<Arc<Record>>;
}
