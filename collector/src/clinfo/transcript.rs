//! Transcripts: what programs printed on a node.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use vedette_node::transcript::Label;

/// A transcript without its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TranscriptDoc {
    /// By which records mean it.
    pub name: String,
    /// Kind of the program: a monitor, a command of an event, and so on.
    pub kind: String,
    /// The very program.
    pub what: String,
    /// The event that it was run for.
    pub event: Option<u64>,
    /// The incident.
    pub incident: Option<u64>,
    /// The group.
    pub group: Option<String>,
    /// The resource.
    pub resource: Option<String>,
    /// When it began.
    pub began: String,
    /// None while it runs, or if its agent was killed.
    pub ended: Option<String>,
    /// Its end, in words.
    pub how: Option<String>,
    /// Length of what it printed.
    pub printed_bytes: u64,
    /// In the middle, as the whole was too long.
    pub left_out_bytes: u64,
    /// Reason why something else is missing.
    pub missing: Option<String>,
}

/// A transcript.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TranscriptText {
    #[serde(flatten)]
    /// Everything but its text.
    pub about: TranscriptDoc,
    /// The text.
    pub text: String,
}

/// The transcripts of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TranscriptsDoc {
    /// Whose they are: what other nodes ran is on them.
    pub node: String,
    /// The newest ones, oldest first.
    pub transcripts: Vec<TranscriptDoc>,
    /// Names of those that records say are on other nodes, by node. Only who asks looks for them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub elsewhere: BTreeMap<String, Vec<String>>,
}

impl From<&Label> for TranscriptDoc {
    fn from(label: &Label) -> Self {
        let heading = label.heading.clone();
        Self {
            name: label.name(),
            kind: heading.kind.name().into(),
            what: heading.what,
            event: heading.event,
            incident: heading.incident,
            group: heading.group,
            resource: heading.resource,
            began: label.began.to_string(),
            ended: label.ended.map(|at| at.to_string()),
            how: label.how.clone(),
            printed_bytes: label.printed,
            left_out_bytes: label.left_out(),
            missing: label.missing.clone(),
        }
    }
}
