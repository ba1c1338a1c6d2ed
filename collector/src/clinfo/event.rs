//! Events: what the history's records look like to people and programs.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use vedette_core::model::Severity;
use vedette_core::record::{Record, Subject, Told};

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventDoc {
    /// Counts from 1 without a gap; the `id` in the event stream.
    pub seq: u64,
    /// The revision it belongs to.
    pub revision: u64,
    /// When.
    pub at: String,
    /// What kind of thing, such as `NODE_HOST`.
    pub code: String,
    /// `error`, `warning`, `notice` or `informational`.
    #[schema(value_type = String, example = "notice")]
    pub severity: Severity,
    /// About what.
    pub subject: SubjectDoc,
    /// The status before, or empty.
    pub previous: String,
    /// The status after, or empty.
    pub current: String,
    /// Why.
    pub cause: String,
    /// One sentence.
    pub message: String,
    /// The incident it belongs to.
    pub incident: Option<u64>,
    /// The event of the cluster manager that it is a step of.
    #[serde(default)]
    pub event: Option<u64>,
    /// Number of the node on which the step was done.
    #[serde(default)]
    pub node: Option<u16>,
    /// How long it took.
    #[serde(default)]
    pub duration_ms: Option<u64>,
    /// When it happened on the cluster's timeline: differences are lengths of time, whatever wall
    /// clocks say.
    #[serde(default)]
    pub elapsed_ms: u64,
    /// Set if the node told it afterwards, because it had no quorum when it happened.
    #[serde(default)]
    pub told: Option<ToldDoc>,
    /// Number of the node whose proposal made it.
    pub origin: u16,
    /// Who asked: `director`, `agent`, or an operator.
    pub actor: String,
    /// Whether the alert script is run for it.
    pub alert: bool,
    /// Whether it belongs to a test.
    pub test: bool,
    /// Hash of this and all earlier events.
    pub hash: String,
}

/// Where an event that was told afterwards comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ToldDoc {
    /// Number of the entry in that node's own journal.
    pub number: u64,
    /// When it happened, by that node's clock.
    pub happened_at: String,
    /// How far that clock was ahead of the one by which the director dates records, where it was measured.
    pub clock_offset_ms: Option<i64>,
}

impl ToldDoc {
    fn new(told: Told) -> Self {
        Self {
            number: told.number,
            happened_at: told.happened_at.to_string(),
            clock_offset_ms: told.clock_offset_ms,
        }
    }
}

/// What an event is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SubjectDoc {
    /// `cluster`, `node`, `network`, `interface`, `link`, `alert_script`, `group`, `resource`,
    /// `event`, `rules` or `configuration`.
    pub kind: String,
    /// Its name at that time: `n2`, `neta`, `n2/neta`, `n1-n2/neta`.
    pub name: String,
    /// Number of the node, where there is one; of a link, the lower.
    pub node: Option<u16>,
    /// Number of the node at the other end of a link.
    pub peer: Option<u16>,
    /// Number of the network, where there is one.
    pub network: Option<u8>,
    /// Number of the group, where there is one.
    #[serde(default)]
    pub group: Option<u16>,
    /// Number of the resource, where there is one.
    #[serde(default)]
    pub resource: Option<u16>,
}

impl EventDoc {
    /// A record as a document.
    pub fn new(record: &Record) -> Self {
        Self {
            seq: record.seq,
            revision: record.index,
            at: record.at.to_string(),
            code: record.code.name().into(),
            severity: record.severity,
            subject: SubjectDoc::new(record),
            previous: record.previous.clone(),
            current: record.current.clone(),
            cause: record.cause.clone(),
            message: record.message.clone(),
            incident: record.incident,
            event: record.event,
            node: record.node.map(|node| node.0),
            duration_ms: record.duration_ms,
            elapsed_ms: record.elapsed_ms,
            told: record.told.map(ToldDoc::new),
            origin: record.origin.0,
            actor: record.actor.clone(),
            alert: record.alert,
            test: record.test,
            hash: record.hash.to_string(),
        }
    }
}

impl SubjectDoc {
    pub(super) fn new(record: &Record) -> Self {
        Self::of(record.subject, &record.subject_name)
    }

    /// A subject with the name that it had.
    pub(super) fn of(subject: Subject, name: &str) -> Self {
        let (first, second, network) = subject.numbers();
        let (first, second) = ((first != 0).then_some(first), (second != 0).then_some(second));
        let of_group = matches!(subject, Subject::Group(_) | Subject::Resource(..));
        Self {
            kind: subject.kind().into(),
            name: name.into(),
            node: first.filter(|_| !of_group),
            peer: second.filter(|_| !of_group),
            network: (network != 0).then_some(network),
            group: first.filter(|_| of_group),
            resource: second.filter(|_| of_group),
        }
    }
}
