//! Words of a command for a program: that something was done and what came of it, that it was not, and what
//! is said beside an answer.
//!
//! Keys are in the order of the alphabet, as they have been from the beginning.

use std::collections::BTreeMap;

use serde::Serialize;
use vedette_core::id::{ClusterId, NodeNumber};

use super::finding::FindingDoc;
use super::versions::DifferenceDoc;

/// An order that was carried out, or was so already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DoneDoc<T> {
    /// Whether anything had to be changed.
    pub changed: bool,
    /// The index of the change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    /// A sentence.
    pub message: String,
    /// Everything else that came of it.
    #[serde(flatten)]
    pub more: Option<T>,
}

/// A group after an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GroupAfterDoc {
    /// The group.
    pub group: String,
    /// Nodes that have something of it.
    pub on: Vec<String>,
    /// Its state; `null` if there is no such group any more.
    pub state: Option<String>,
}

/// A document that was put in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InForceDoc {
    /// Findings in it before anybody was asked.
    pub findings: Vec<FindingDoc>,
    /// Findings of each node.
    pub nodes: BTreeMap<String, Vec<String>>,
    /// Its version, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// Warnings of each node.
    pub warnings: BTreeMap<String, Vec<String>>,
}

/// A command that could not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FailureDoc {
    /// The advice.
    pub advice: String,
    /// The reason, without full stop.
    pub error: String,
    /// The exit status.
    pub exit: u8,
    /// Everything that was found.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<FindingDoc>,
}

/// A sentence beside an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AsideDoc {
    /// Something to know.
    Note(String),
    /// The step at which a command is.
    Progress(String),
}

/// A node that is a member now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JoinedDoc {
    /// The cluster.
    pub cluster: ClusterId,
    /// A sentence.
    pub message: String,
    /// The cluster's name.
    pub name: String,
    /// The node.
    pub node: String,
    /// The node's number.
    pub number: NodeNumber,
}

/// A node that would be taken in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WouldJoinDoc {
    /// A sentence.
    pub message: String,
    /// The node.
    pub node: String,
}

/// The text of a version of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TextDoc {
    /// The text.
    pub text: String,
    /// The version.
    pub version: u32,
}

/// A snapshot that was saved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SavedDoc {
    /// Its length.
    pub bytes: usize,
    /// The file.
    pub file: String,
}

/// The parts of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SnapshotDoc {
    /// Of which cluster, when and by whom.
    pub about: String,
    /// The alert script; `null` for the built-in one.
    pub alert_script: Option<String>,
    /// The configuration document.
    pub document: String,
    /// Paths of recovery programs; `null` where the rules are the built-in ones.
    pub programs: Option<Vec<String>>,
    /// The rules; `null` for the built-in ones.
    pub rules: Option<String>,
}

/// Changes that a snapshot would bring.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SnapshotChangesDoc {
    /// Whether the alert script changes.
    pub alert_script: bool,
    /// Changes of the document.
    pub document: DifferenceDoc,
    /// Whether the rules change.
    pub rules: bool,
    /// Whether nothing changes.
    pub same: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(document: &impl Serialize) -> String {
        serde_json::to_string(document).expect("JSON")
    }

    /// The very text that scripts have been given.
    #[test]
    fn words_are_told_as_ever() {
        let (error, advice) = ("there is no node n9".to_owned(), "List them.".to_owned());
        let mut failure = FailureDoc { advice, error, exit: 1, findings: Vec::new() };
        let start = r#"{"advice":"List them.","error":"there is no node n9","exit":1"#;
        assert_eq!(told(&failure), format!("{start}}}"));
        failure.findings.push(FindingDoc::met(None, "no"));
        let findings = r#""findings":[{"level":"error","what":"no"}]"#;
        assert_eq!(told(&failure), format!("{start},{findings}}}"));
        assert_eq!(told(&AsideDoc::Note("a".into())), r#"{"note":"a"}"#);
        assert_eq!(told(&AsideDoc::Progress("a".into())), r#"{"progress":"a"}"#);
    }

    /// What else came of an order stands beside what every order tells; a version only where there is one.
    #[test]
    fn an_order_tells_what_came_of_it() {
        let message = "web is on n2.".to_owned();
        let none = DoneDoc::<()> { changed: false, index: None, message, more: None };
        assert_eq!(told(&none), r#"{"changed":false,"message":"web is on n2."}"#);
        let (group, on) = ("web".to_owned(), vec!["n2".to_owned()]);
        let more = Some(GroupAfterDoc { group, on, state: None });
        let done = DoneDoc { changed: true, index: Some(7), message: "It is.".into(), more };
        assert_eq!(
            told(&done),
            r#"{"changed":true,"index":7,"message":"It is.","group":"web","on":["n2"],"state":null}"#
        );
        let (nodes, warnings) = (BTreeMap::new(), BTreeMap::new());
        let force = InForceDoc { findings: Vec::new(), nodes, version: None, warnings };
        assert_eq!(told(&force), r#"{"findings":[],"nodes":{},"warnings":{}}"#);
    }
}
