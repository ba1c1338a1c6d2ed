//! What users see of an incident: the documents, without what makes them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use vedette_core::model::Severity;

use crate::clinfo::SubjectDoc;

/// One failure (or order of an operator) and everything that followed from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IncidentDoc {
    /// Log index of the record that began it.
    pub id: u64,
    /// `open`, `recovered` or `closed`.
    pub state: IncidentState,
    /// What began it, in one sentence.
    #[schema(example = "node n3 is DOWN")]
    pub title: String,
    /// About what that was.
    pub subject: SubjectDoc,
    /// Why: who saw what, since when.
    pub cause: String,
    /// The worst severity of its events.
    #[schema(value_type = String, example = "error")]
    pub severity: Severity,
    /// When it began: when what failed, failed, as far as the records know that. Everything in here
    /// is counted from then.
    pub began: String,
    /// When that was a fact of the cluster.
    pub noticed: String,
    /// How long the failure had lasted by then; `null` where there was nothing to detect, as with an
    /// order of an operator.
    pub detection_ms: Option<u64>,
    /// How long it took from then until a node could begin to acquire what was lost: the vote, and
    /// evidence that the node before has let go.
    pub decision_ms: Option<u64>,
    /// What was decided, and on what ground, in order.
    pub decisions: Vec<String>,
    /// When the last of its events was over and no group of it was in motion any more.
    pub recovered: Option<String>,
    /// From its beginning until then.
    pub recovery_ms: Option<u64>,
    /// When what had failed was back; the same as `recovered` where nothing was to come back.
    pub closed: Option<String>,
    /// The cluster manager's events in it.
    pub events: Vec<IncidentEventDoc>,
    /// Groups that were not in service for a time, or are not yet.
    pub outages: Vec<OutageDoc>,
    /// Everything that was done, in the order of the records.
    pub steps: Vec<IncidentStepDoc>,
}

/// An incident in a few lines, for a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IncidentSummaryDoc {
    /// Its number.
    pub id: u64,
    /// `open`, `recovered` or `closed`.
    pub state: IncidentState,
    /// What began it, in one sentence.
    pub title: String,
    /// Why.
    pub cause: String,
    /// The worst severity of its events.
    #[schema(value_type = String, example = "error")]
    pub severity: Severity,
    /// When it began: when what failed, failed.
    pub began: String,
    /// When that was a fact of the cluster.
    pub noticed: String,
    /// When everything had been done.
    pub recovered: Option<String>,
    /// From its beginning until then.
    pub recovery_ms: Option<u64>,
    /// When what had failed was back.
    pub closed: Option<String>,
    /// Groups that were not in service for a time, or are not yet.
    pub outages: Vec<OutageDoc>,
    /// How many steps it has.
    pub steps: usize,
}

impl IncidentSummaryDoc {
    /// The summary of an incident.
    pub fn new(incident: &IncidentDoc) -> Self {
        Self {
            id: incident.id,
            state: incident.state,
            title: incident.title.clone(),
            cause: incident.cause.clone(),
            severity: incident.severity,
            began: incident.began.clone(),
            noticed: incident.noticed.clone(),
            recovered: incident.recovered.clone(),
            recovery_ms: incident.recovery_ms,
            closed: incident.closed.clone(),
            outages: incident.outages.clone(),
            steps: incident.steps.len(),
        }
    }
}

/// How far an incident is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum IncidentState {
    /// Something of it is still being done, or waits for somebody.
    Open,
    /// Everything was done; what had failed is not back.
    Recovered,
    /// Over.
    Closed,
}

impl IncidentState {
    /// Its spelling.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Recovered => "recovered",
            Self::Closed => "closed",
        }
    }
}

/// An event of the cluster manager that belongs to an incident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IncidentEventDoc {
    /// Its id.
    pub id: u64,
    /// What the record that queued it says.
    pub what: String,
    /// How it ended; `null` while it waits or runs.
    pub ended: Option<String>,
    /// From when it was queued until it ended.
    pub duration_ms: Option<u64>,
}

/// A group that was not in service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OutageDoc {
    /// The group.
    pub group: String,
    /// Where it had been, if that is in the records.
    pub from: Option<String>,
    /// Where it is in service again.
    pub to: Option<String>,
    /// When clients could not be served any more.
    pub began: String,
    /// When it was ONLINE again, or was configured no more; `null` while it lasts.
    pub ended: Option<String>,
    /// How long it was; `null` while it lasts.
    pub outage_ms: Option<u64>,
    /// What it was: a failover, a move, a failback, a restart, a stop.
    pub kind: OutageKind,
    /// Somebody wanted it: an operator, a new configuration, or the policy of the group.
    pub planned: bool,
    /// When it began is not known; it was out of service at least since `began`.
    pub at_least: bool,
    /// Then it began between these two, as far as that is known: when it was last seen to work, and
    /// when it was seen not to.
    pub between: Option<[String; 2]>,
    /// Nothing had failed and nobody was to take it: it was taken off on purpose, and when it is brought
    /// online again is another incident.
    pub on_purpose: bool,
}

/// What kind of interruption an outage was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutageKind {
    /// Something failed, and another node took the group or is to take it.
    Failover,
    /// An operator or a new configuration took it to another node.
    Move,
    /// Its better place was there again.
    Failback,
    /// It came back where it was.
    Restart,
    /// It was taken off on purpose.
    Stop,
    /// The records do not say: they are of an earlier version.
    Unknown,
}

impl OutageKind {
    /// Every kind.
    pub const ALL: [Self; 6] =
        [Self::Failover, Self::Move, Self::Failback, Self::Restart, Self::Stop, Self::Unknown];

    /// Its spelling.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Failover => "failover",
            Self::Move => "move",
            Self::Failback => "failback",
            Self::Restart => "restart",
            Self::Stop => "stop",
            Self::Unknown => "unknown",
        }
    }
}

/// What a step is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// Something was found to be so.
    Detection,
    /// It was decided what to do, or that it is safe.
    Decision,
    /// A phase of a recovery program.
    Phase,
    /// A command on a node.
    Command,
    /// A group or resource changed its state.
    Resource,
    /// An operator did something.
    Operator,
    /// What else is in the history about it.
    Note,
}

impl StepKind {
    /// Its spelling.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Detection => "detection",
            Self::Decision => "decision",
            Self::Phase => "phase",
            Self::Command => "command",
            Self::Resource => "resource",
            Self::Operator => "operator",
            Self::Note => "note",
        }
    }
}

/// One thing that was done, for a waterfall: it begins `starts_ms` after the incident began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IncidentStepDoc {
    /// Sequence number of its event in the history.
    pub seq: u64,
    /// What it is for.
    pub kind: StepKind,
    /// Its code, such as `EVENT_COMMAND`.
    pub code: String,
    /// The event of the cluster manager that it is a step of.
    pub event: Option<u64>,
    /// The node on which it was done; `null` if on the cluster as a whole.
    pub node: Option<String>,
    /// The number of that node.
    pub node_number: Option<u16>,
    /// In one sentence.
    pub what: String,
    /// Why, or how it ended.
    pub cause: String,
    /// Whether it is bad.
    pub failed: bool,
    /// When it began, counted from the beginning of the incident.
    pub starts_ms: u64,
    /// How long it took; 0 for what has no length, `null` while it lasts.
    pub duration_ms: Option<u64>,
}

impl IncidentDoc {
    /// The time from its beginning to the end of its last step, for the scale of a waterfall.
    pub fn length_ms(&self) -> u64 {
        let ends = self.steps.iter().map(|step| step.starts_ms + step.duration_ms.unwrap_or(0));
        ends.max().unwrap_or(0)
    }
}
