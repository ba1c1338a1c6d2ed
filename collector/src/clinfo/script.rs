//! The alert script, the alerts that wait for it, and tests of it (spec A14, A15).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use vedette_core::model::{AlertScript, AlertTest, RunOutcome, ScriptVersion, Severity};
use vedette_core::record::PendingAlert;
use vedette_core::view::View;

use super::EventDoc;
use super::known::if_known;

/// Alerts and tests of the alert script.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AlertsDoc {
    /// Alerts that the script was not run for yet, oldest first; `null` where that is not known.
    pub pending: Option<Vec<AlertDoc>>,
    /// How many it was run for, however that ended.
    pub finished: u64,
    /// For how many of them it failed: nobody may have been told.
    #[serde(default)]
    pub failed: u64,
    /// Tests, oldest first.
    pub tests: Vec<AlertTestDoc>,
}

/// An alert that waits for the script.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AlertDoc {
    /// What raised it.
    pub event: EventDoc,
    /// The node that is running the script for it.
    pub runner: Option<String>,
    /// How many times that was begun.
    pub attempts: u32,
}

/// A test of the alert script.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AlertTestDoc {
    /// Its id.
    pub id: u64,
    /// When it was asked for.
    pub at: String,
    /// By whom.
    pub actor: String,
    /// What the test alert says.
    pub message: String,
    /// Its severity.
    #[schema(value_type = String, example = "informational")]
    pub severity: Severity,
    /// Whether every member has answered.
    pub finished: bool,
    /// The run on each chosen member.
    pub runs: Vec<TestRunDoc>,
}

/// The run of a test on one member.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TestRunDoc {
    /// Name of the member.
    pub node: String,
    /// Its number.
    pub number: u16,
    /// Whether it is over.
    pub finished: bool,
    /// Whether it exited with 0.
    pub succeeded: bool,
    /// In a few words.
    pub summary: String,
    /// The exit status, if it exited.
    pub exit: Option<i32>,
    /// The signal that ended it, if one did.
    pub signal: Option<i32>,
    /// The first part of what it printed.
    pub output: String,
    /// Bytes of output that were thrown away.
    pub output_dropped: u64,
    /// How long it ran.
    pub duration_ms: Option<u64>,
    /// The version of the script.
    pub version: Option<u32>,
    /// Where all that it printed is kept, on the node that ran it: `vedette transcript show`.
    #[serde(default)]
    pub transcript: Option<String>,
}

/// The alert script.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ScriptDoc {
    /// The version in force; 0 is the built-in script.
    pub active: u32,
    /// Its text; `null` while the built-in script is in force.
    pub text: Option<String>,
    /// Every version that is kept, oldest first.
    pub versions: Vec<ScriptVersionDoc>,
}

/// One version of the alert script.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ScriptVersionDoc {
    /// Its number.
    pub version: u32,
    /// Whether it is in force.
    pub active: bool,
    /// SHA-256 of its text.
    pub sha256: String,
    /// Length of its text.
    pub bytes: usize,
    /// Who saved it.
    pub author: String,
    /// Why.
    pub comment: String,
    /// When.
    pub at: String,
}

impl AlertsDoc {
    /// The alerts of a view.
    pub fn new(view: &View) -> Self {
        Self {
            pending: if_known(view, || {
                view.state.alerts.values().map(|alert| AlertDoc::new(view, alert)).collect()
            }),
            finished: view.state.alerts_finished,
            failed: view.state.alerts_failed,
            tests: view.state.tests.values().map(|test| AlertTestDoc::new(view, test)).collect(),
        }
    }
}

impl AlertDoc {
    fn new(view: &View, alert: &PendingAlert) -> Self {
        Self {
            event: EventDoc::new(&alert.record),
            runner: alert.claim.map(|(node, _)| view.state.node_name(node)),
            attempts: alert.attempts,
        }
    }
}

impl AlertTestDoc {
    /// One test of a view.
    pub fn new(view: &View, test: &AlertTest) -> Self {
        let run = |(node, outcome): (&vedette_core::id::NodeNumber, &Option<RunOutcome>)| {
            TestRunDoc::new(view.state.node_name(*node), node.0, outcome.as_ref())
        };
        Self {
            id: test.id,
            at: test.at.to_string(),
            actor: test.actor.clone(),
            message: test.message.clone(),
            severity: test.severity,
            finished: test.members.values().all(Option::is_some),
            runs: test.members.iter().map(run).collect(),
        }
    }
}

impl TestRunDoc {
    fn new(node: String, number: u16, outcome: Option<&RunOutcome>) -> Self {
        Self {
            node,
            number,
            finished: outcome.is_some(),
            succeeded: outcome.is_some_and(RunOutcome::succeeded),
            summary: outcome.map_or_else(|| "not answered yet".into(), RunOutcome::summary),
            exit: outcome.and_then(|outcome| outcome.exit),
            signal: outcome.and_then(|outcome| outcome.signal),
            output: outcome.map_or_else(String::new, |outcome| outcome.output.clone()),
            output_dropped: outcome.map_or(0, |outcome| outcome.output_dropped),
            duration_ms: outcome.map(|outcome| outcome.duration_ms),
            version: outcome.map(|outcome| outcome.version),
            transcript: outcome
                .and_then(|outcome| outcome.transcript.as_ref()?.name())
                .map(Into::into),
        }
    }
}

impl ScriptDoc {
    /// The script of a view.
    pub fn new(view: &View) -> Self {
        Self::from(&view.state.script)
    }
}

impl From<&AlertScript> for ScriptDoc {
    fn from(script: &AlertScript) -> Self {
        let doc = |(number, version): (&u32, &ScriptVersion)| {
            ScriptVersionDoc::new(*number, *number == script.active, version)
        };
        Self {
            active: script.active,
            text: script.versions.get(&script.active).map(|version| version.text.clone()),
            versions: script.versions.iter().map(doc).collect(),
        }
    }
}

impl ScriptVersionDoc {
    fn new(number: u32, active: bool, version: &ScriptVersion) -> Self {
        Self {
            version: number,
            active,
            sha256: version.sha256.to_string(),
            bytes: version.text.len(),
            author: version.author.clone(),
            comment: version.comment.clone(),
            at: version.at.to_string(),
        }
    }
}
