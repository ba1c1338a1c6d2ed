//! The answering node's own journal: what it lived through, also while nobody could be told, and the
//! conditions that hold now ([`vedette_core::local`]). Differs from node to node.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use vedette_core::local::LocalRecord;
use vedette_core::local_view::{JournalHealth, RaisedCondition};
use vedette_core::model::Severity;
use vedette_core::view::View;

use super::SubjectDoc;

/// An entry of the answering node's journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LocalRecordDoc {
    /// Counts from 1 without a gap, over the life of the journal.
    pub number: u64,
    /// When, by the node's clock.
    pub at: String,
    /// Microseconds since its machine started.
    pub uptime_us: u64,
    /// The run of its agent, in hexadecimal.
    pub session: String,
    /// What kind of thing, such as `QUORUM_LOST`.
    #[schema(example = "QUORUM_LOST")]
    pub code: String,
    /// `raised`, `cleared`, or `happened` for what lasts no time.
    #[schema(example = "raised")]
    pub phase: String,
    /// `error`, `warning`, `notice` or `informational`.
    #[schema(value_type = String, example = "error")]
    pub severity: Severity,
    /// About what.
    pub subject: SubjectDoc,
    /// One sentence.
    pub message: String,
    /// Why.
    pub cause: String,
    /// How long what it tells of had lasted.
    pub duration_ms: Option<u64>,
    /// How many times it happened; more than 1 in a summary.
    pub times: u64,
    /// Whether the alert script is run for it on this node.
    pub alert: bool,
    /// Whether it is in everybody's history by now.
    pub accounted: bool,
    /// Hash of this and all earlier entries.
    pub hash: String,
}

/// A page of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LocalRecordsDoc {
    /// Name of the answering node; the journal is its own.
    pub node: String,
    /// The entries, oldest first.
    pub records: Vec<LocalRecordDoc>,
    /// Ask for the next page with `after` so.
    pub next_after: u64,
    /// Number of the last entry there is.
    pub last: u64,
}

/// A condition of the answering node that holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConditionDoc {
    /// Its code.
    #[schema(example = "QUORUM_LOST")]
    pub code: String,
    /// `error`, `warning`, `notice` or `informational`.
    #[schema(value_type = String, example = "error")]
    pub severity: Severity,
    /// About what.
    pub subject: SubjectDoc,
    /// One sentence without full stop.
    pub message: String,
    /// Why.
    pub cause: String,
    /// Since when, by the node's clock.
    pub since: String,
}

/// How the journal does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JournalDoc {
    /// Number of the last entry.
    pub last: u64,
    /// Number of the last entry that is in everybody's history.
    pub accounted: u64,
    /// Entries that were given up because too many waited.
    pub dropped: u64,
}

impl LocalRecordDoc {
    /// An entry of the journal of a view's node.
    pub fn new(view: &View, record: &LocalRecord) -> Self {
        let (stamp, content) = (&record.stamp, &record.content);
        Self {
            number: record.number,
            at: stamp.at.to_string(),
            uptime_us: stamp.uptime_us,
            session: format!("{:016x}", stamp.session.0),
            code: content.code.name().into(),
            phase: content.phase.name().into(),
            severity: content.severity,
            subject: SubjectDoc::of(content.subject, &content.subject_name),
            message: content.message.clone(),
            cause: content.cause.clone(),
            duration_ms: content.duration_ms,
            times: content.times,
            alert: content.alert,
            accounted: record.number <= view.local.journal_health.accounted,
            hash: record.hash.to_string(),
        }
    }
}

impl ConditionDoc {
    pub(super) fn new(raised: &RaisedCondition) -> Self {
        Self {
            code: raised.code.name().into(),
            severity: raised.severity,
            subject: SubjectDoc::of(raised.subject, &raised.subject_name),
            message: raised.message.clone(),
            cause: raised.cause.clone(),
            since: raised.since.to_string(),
        }
    }
}

impl JournalDoc {
    pub(super) fn new(health: &JournalHealth) -> Self {
        Self { last: health.last, accounted: health.accounted, dropped: health.dropped }
    }
}

/// The latest entries, at most `most`, oldest first.
pub(super) fn latest(view: &View, most: usize) -> Vec<LocalRecordDoc> {
    let journal = &view.local.journal;
    let from = journal.len().saturating_sub(most);
    journal[from..].iter().map(|record| LocalRecordDoc::new(view, record)).collect()
}
