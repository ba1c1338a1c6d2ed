//! clinfo: the picture of a cluster, as JSON documents (spec H40, H41).
//!
//! Every document of the cluster is built from a [`View`], the present time and how stale the view is, and
//! from nothing else; those of files, orders and problems have a module each. The HTTP API, the terminal and `--output json` use these very types, so they
//! cannot disagree; and because they are separate from the core's types, a change inside does not
//! change what users see. Keys are snake_case, statuses are spelt as in the vocabulary (`"UP"`,
//! `"notSynced"`), times are RFC 3339 in UTC, durations end in `_ms` or `_s`.

pub mod availability;
mod chain;
mod cluster;
mod event;
pub mod finding;
mod group;
pub mod incident;
mod journal;
mod known;
mod local;
pub mod manager;
mod membership;
mod monitor;
mod network;
mod node;
pub mod plan;
pub mod problem;
mod route;
mod script;
pub mod settings;
pub mod told;
mod transcript;
mod verdict;
pub mod versions;

use serde::{Deserialize, Serialize};
use std::time::Duration;
use utoipa::ToSchema;
use vedette_core::model::Severity;
use vedette_core::time::WallTime;
use vedette_core::view::View;

pub use availability::{
    AvailabilityReportDoc, GroupAvailabilityDoc, Ledger, OutageCountsDoc, PeriodDoc, Wanted,
};
pub use chain::{ComparedDoc, ComparedNodeDoc, FaultDoc, HeadDoc, VerifiedDoc};
pub use cluster::{ClusterDoc, RedundancyDoc, TimingDoc};
pub use event::{EventDoc, SubjectDoc, ToldDoc};
pub use group::{
    AvoidedDoc, Balance, BlockedDoc, FailCountDoc, GoesBackDoc, GroupDoc, InstanceDoc, LocationDoc,
    ResourceDoc, ResourceStateDoc, ToleratedDoc, standby_nodes, standbys, waits_for_evidence,
};
pub use incident::{
    IncidentDoc, IncidentEventDoc, IncidentState, IncidentStepDoc, IncidentSummaryDoc, OutageDoc,
    OutageKind, StepKind,
};
pub use journal::{ConditionDoc, JournalDoc, LocalRecordDoc, LocalRecordsDoc};
pub use known::{LastKnownDoc, LastKnownGroupDoc, LastKnownNodeDoc};
pub use local::{
    LocalDoc, LogDoc, LogLostDoc, OwnGroupDoc, SeenInterfaceDoc, SeenPeerDoc, TAKE_IN_AGAIN,
    was_deleted,
};
pub use manager::{EndedDoc, ManagerDoc, MemberDoc, QueuedDoc, RunningDoc};
pub use membership::PortDoc;
pub use monitor::{
    BlindDoc, FiredDoc, MonitorDoc, MonitorsDoc, ValueDoc, WatchRuleDoc, watch_rules,
};
pub use network::{InterfaceDoc, LinkDoc, LinkSeenDoc, NetworkDoc, StandbyDoc};
pub use node::{NodeDoc, TokenDoc};
pub use problem::ProblemDoc;
pub use route::{AvailabilityDoc, NoRoute, RouteDoc};
pub use script::{AlertDoc, AlertTestDoc, AlertsDoc, ScriptDoc, ScriptVersionDoc, TestRunDoc};
pub use transcript::{TranscriptDoc, TranscriptText, TranscriptsDoc};
pub use verdict::{Level, Verdict};

/// How many of the last events a [`StatusDoc`] shows.
pub const STATUS_EVENTS: usize = 10;

/// What every document is built from.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The view.
    pub view: &'a View,
    /// The present time, on the answering node.
    pub now: WallTime,
    /// Time since the answering node last knew itself to be part of a quorum.
    pub stale: Duration,
}

/// The steps of one failover would push what it was about off the screen, so they are left out.
fn notable(view: &View) -> Vec<EventDoc> {
    let told = view.recent.iter().filter(|record| record.severity <= Severity::Notice);
    let skipped = told.clone().count().saturating_sub(STATUS_EVENTS);
    told.skip(skipped).map(|record| EventDoc::new(record)).collect()
}

/// Everything one screen shows: the verdict first, then what it rests on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StatusDoc {
    /// `fine`, `degraded`, `failed` or `unknown`.
    pub level: Level,
    /// One sentence for 3 a.m.
    #[schema(example = "prod is up: 3 of 3 nodes, 2 of 2 networks.")]
    pub verdict: String,
    /// Everything that is not as it should be, one sentence each; the worst first.
    pub problems: Vec<String>,
    /// When the answering node said so.
    pub now: String,
    /// Whether it knows the present state. If not, everything that others would have to confirm is
    /// unknown, and what was known of it last is beside it in `last_known`.
    #[serde(default)]
    pub known: bool,
    /// When it knew that last; `null` while it does.
    #[serde(default)]
    pub as_of: Option<String>,
    /// What the answering node, or the cluster, waits for; empty if for nothing.
    pub waiting_for: String,
    /// The cluster as a whole.
    pub cluster: ClusterDoc,
    /// The answering node.
    pub local: LocalDoc,
    /// Every member.
    pub nodes: Vec<NodeDoc>,
    /// Every network.
    pub networks: Vec<NetworkDoc>,
    /// Everything that is in maintenance, one sentence each: nothing is moved or restarted there; `null`
    /// where that is not known.
    pub maintenance: Option<Vec<String>>,
    /// What whoever looks should know though nothing is wrong, such as what would outlive a lease, one sentence
    /// each; `null` where that is not known. It changes neither the verdict nor its level.
    #[serde(default)]
    pub notes: Option<Vec<String>>,
    /// The cluster manager: the event in progress and what waits.
    pub manager: ManagerDoc,
    /// Every resource group.
    pub groups: Vec<GroupDoc>,
    /// Rules that have fired and are not armed again; `null` where that is not known.
    pub fired: Option<Vec<FiredDoc>>,
    /// The last events that somebody may want to know of, of severity `notice` or worse, oldest first.
    pub events: Vec<EventDoc>,
    /// The last records of the answering node's own journal, oldest first.
    #[serde(default)]
    pub local_records: Vec<LocalRecordDoc>,
}

impl StatusDoc {
    /// The status of the cluster.
    pub fn new(seen: Seen<'_>) -> Self {
        let Verdict { level, sentence, problems } = Verdict::new(seen);
        Self {
            level,
            verdict: sentence,
            problems,
            now: seen.now.to_string(),
            known: seen.view.local.knows(),
            as_of: known::as_of(seen.view).map(|at| at.to_string()),
            waiting_for: verdict::waiting_for(seen.view),
            cluster: ClusterDoc::new(seen.view),
            local: LocalDoc::new(seen),
            nodes: NodeDoc::all(seen.view),
            networks: NetworkDoc::all(seen.view),
            maintenance: known::if_known(seen.view, || manager::maintenance(&seen.view.state)),
            notes: known::if_known(seen.view, || vedette_core::document::notes(&seen.view.state)),
            manager: ManagerDoc::new(seen),
            groups: GroupDoc::all(seen.view),
            fired: monitor::fired(seen.view),
            events: notable(seen.view),
            local_records: journal::latest(seen.view, STATUS_EVENTS),
        }
    }
}
