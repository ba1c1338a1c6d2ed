//! The view: what every surface renders, and the only thing it may render.
//!
//! A [`View`] is an immutable snapshot: the replicated state at one revision, the latest records,
//! and what this node knows of itself ([`Local`]). Two nodes at the same revision show the same
//! `state`; `local` differs, and is labelled as such wherever it is shown.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clocks;
use crate::group::GroupState;
use crate::id::{NodeNumber, Session};
use crate::local::LocalRecord;
use crate::model::{AgentStatus, ClusterStatus, HostStatus, Role, Severity};
use crate::observation::Report;
use crate::record::{Code, Record, Subject};
use crate::state::ClusterState;
use crate::time::WallTime;
use crate::variable::Reading;

/// A snapshot of everything that may be shown.
#[derive(Clone, Debug)]
pub struct View {
    /// The cluster's state, as this node may show it: the replicated one, identical on every node at
    /// equal `state.revision`; without a quorum, what [`crate::knowledge::present`] leaves of it.
    pub state: Arc<ClusterState>,
    /// What was known last, where `state` is not that.
    pub known: Option<Arc<ClusterState>>,
    /// The latest records, oldest first, at most [`View::RECENT`]; the history holds all.
    pub recent: Arc<[Arc<Record>]>,
    /// What this node knows of itself.
    pub local: Local,
    /// See [`Change::viewpoint`].
    pub viewpoint: u64,
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
        if self.local.knows() { self.state.status } else { ClusterStatus::Unknown }
    }

    /// The view as surfaces may show it.
    pub fn shown(&self) -> Self {
        if self.known.is_some() || self.local.knows() {
            return self.clone();
        }
        let shown = crate::knowledge::present(&self.state, &self.local);
        Self { state: Arc::new(shown), known: Some(self.state.clone()), ..self.clone() }
    }

    /// The state that was replicated last, whether or not it may be shown as the present one.
    pub fn last_known(&self) -> &Arc<ClusterState> {
        self.known.as_ref().unwrap_or(&self.state)
    }
}

/// What a node knows of itself and did not get from the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Local {
    /// Which node this is.
    pub node: NodeNumber,
    /// The run of its agent.
    pub session: Session,
    /// Whether its guard holds the lease: a majority of the voters has heard it lately. What it has of groups stands
    /// on that.
    pub lease: bool,
    /// Whether it holds the lease and is in touch with a director whom a majority confirms. What it knows of the
    /// cluster stands on that.
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
    /// What its clock and those of its peers showed when they were measured last.
    pub clocks: Arc<Clocks>,
    /// Last durable record of the history on this node.
    pub history_seq: u64,
    /// Whether the master SNMP agent is connected; `None` if SNMP is off.
    pub agentx: Option<bool>,
    /// What its resource monitors see, by their names.
    pub monitors: Arc<BTreeMap<String, MonitorView>>,
    /// When it last knew the state of the cluster, by the clock that dates entries; `None` while it does.
    pub unknown_since: Option<WallTime>,
    /// The state is of the guard's present epoch: before that it may show as this node's what was released.
    pub presented: bool,
    /// State of each group that it has something of, as it is on this machine now.
    pub groups: Arc<BTreeMap<String, GroupState>>,
    /// Conditions of this node that hold, in the order of their codes ([`crate::local`]).
    pub conditions: Arc<[RaisedCondition]>,
    /// Its latest local records, oldest first, at most [`View::RECENT`].
    pub journal: Arc<[Arc<LocalRecord>]>,
    /// How its journal does.
    pub journal_health: JournalHealth,
    /// How its log does.
    pub log: LogView,
}

impl Local {
    /// Whether this node knows the present state of the cluster: it is part of a quorum, was adopted,
    /// its log is not behind, and the state knows of the last time that its guard let go of everything.
    pub fn knows(&self) -> bool {
        self.quorate && self.stage == "running" && self.log.behind.is_none() && self.presented
    }

    /// Dates its own moments as a clock does that was set by `set_us` microseconds: they are as long ago as
    /// they were.
    pub fn date_anew(&mut self, set_us: i64) {
        let later = |at: &WallTime| WallTime(at.0.saturating_add(set_us));
        self.unknown_since = self.unknown_since.as_ref().map(later);
        self.log.stalled_since = self.log.stalled_since.as_ref().map(later);
        let conditions = self.conditions.iter();
        self.conditions = conditions
            .map(|it| RaisedCondition { since: later(&it.since), ..it.clone() })
            .collect();
    }
}

/// A condition of a node, while it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaisedCondition {
    /// Its code, one of [`Code::CONDITIONS`].
    pub code: Code,
    /// About what.
    pub subject: Subject,
    /// The subject's name.
    pub subject_name: String,
    /// How bad.
    pub severity: Severity,
    /// One sentence without full stop.
    pub message: String,
    /// Why.
    pub cause: String,
    /// When it began, by the clock that dates entries.
    pub since: WallTime,
}

/// How a node's journal does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JournalHealth {
    /// Number of the last entry.
    pub last: u64,
    /// Number of the last entry that an earlier run of the agent left behind.
    pub opened: u64,
    /// Number of the last entry that is in everybody's history.
    pub accounted: u64,
    /// Entries that were given up because too many waited.
    pub dropped: u64,
    /// Entries by code, since the agent started.
    pub counts: BTreeMap<Code, u64>,
}

/// How a node's log does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogView {
    /// Index of the last entry applied here.
    pub applied: u64,
    /// Since when nothing is committed although something waits, by the node's clock.
    pub stalled_since: Option<WallTime>,
    /// Why this node does not know the present state though it has a quorum: how far its log is behind,
    /// in words.
    pub behind: Option<String>,
    /// Members whose log is shorter than what they had acknowledged: had, has.
    pub lost: BTreeMap<NodeNumber, (u64, u64)>,
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

/// What readers wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The revision of the latest view.
    pub revision: u64,
    /// Counts up when the node's own part changes in a way that a reader may wait for: quorum,
    /// director, stage, host, what it waits for, what it holds, its conditions.
    pub viewpoint: u64,
}

/// Where a surface gets what it shows. Implemented by the agent, and by fixtures in tests.
pub trait Source: Send + Sync + 'static {
    /// The latest view; cheap.
    fn view(&self) -> Arc<View>;

    /// Time since this node last knew itself to be part of a quorum; zero while it is.
    fn stale(&self) -> Duration;

    /// Records after `seq`, oldest first, at most `most`; only durable ones.
    fn records_after(&self, seq: u64, most: usize) -> Vec<Arc<Record>>;

    /// Local records after `number`, oldest first, at most `most`; told at once, durable or not.
    fn local_after(&self, number: u64, most: usize) -> Vec<Arc<LocalRecord>> {
        let view = self.view();
        view.local.journal.iter().filter(|it| it.number > number).take(most).cloned().collect()
    }
}
