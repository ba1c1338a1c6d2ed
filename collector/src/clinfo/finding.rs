//! Findings: what is wrong, or worth a thought, in what an operator wrote; and what came of looking.
//!
//! Keys are in the order of the alphabet, as they have been from the beginning.

use std::collections::BTreeMap;

use serde::Serialize;
use vedette_core::{config, document};

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum FindingDoc {
    /// In a text.
    Written {
        /// The advice.
        advice: String,
        /// The file, where there may be several.
        #[serde(skip_serializing_if = "Option::is_none")]
        file: Option<String>,
        /// The key, such as `groups.web.nodes`.
        key: String,
        /// `error` or `warning`.
        level: &'static str,
        /// The line, counted from 1, where there is one.
        line: Option<usize>,
        /// The fault.
        what: String,
    },
    /// On a machine, or in the cluster as it is.
    Met {
        /// `error` or `warning`.
        level: &'static str,
        /// The node that found it.
        #[serde(skip_serializing_if = "Option::is_none")]
        node: Option<String>,
        /// The fault.
        what: String,
    },
}

impl FindingDoc {
    /// The findings of a configuration file or of rules.
    pub fn all(findings: &config::Findings) -> Vec<Self> {
        findings.0.iter().map(Self::from).collect()
    }

    /// The findings of a document.
    pub fn of_document(findings: &[document::Finding]) -> Vec<Self> {
        findings.iter().map(Self::from).collect()
    }

    /// An error that a node found, or nobody in particular.
    pub fn met(node: Option<&str>, what: &str) -> Self {
        Self::Met { level: ERROR, node: node.map(str::to_owned), what: what.to_owned() }
    }
}

const ERROR: &str = "error";

impl From<&config::Finding> for FindingDoc {
    fn from(finding: &config::Finding) -> Self {
        Self::Written {
            advice: finding.advice.clone(),
            file: Some(finding.file.clone()),
            key: finding.key.clone(),
            level: finding.level.name(),
            line: finding.line,
            what: finding.what.clone(),
        }
    }
}

impl From<&document::Finding> for FindingDoc {
    fn from(finding: &document::Finding) -> Self {
        Self::Written {
            advice: finding.advice.clone(),
            file: None,
            key: finding.key.clone(),
            level: if finding.error { ERROR } else { "warning" },
            line: finding.line,
            what: finding.what.clone(),
        }
    }
}

/// Result of a look at a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckedDoc {
    /// Everything.
    pub findings: Vec<FindingDoc>,
    /// Whether it can be used.
    pub ok: bool,
}

/// Result of a look at the document in force and at every machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VerifiedClusterDoc {
    /// Nodes that were not asked.
    pub absent: Vec<String>,
    /// Objections to the document besides.
    pub against: Vec<String>,
    /// Findings in the document.
    pub findings: Vec<FindingDoc>,
    /// Findings of each node.
    pub nodes: BTreeMap<String, Vec<String>>,
    /// Whether nothing was found.
    pub ok: bool,
    /// Things of which there is one only, and on which a service depends.
    pub single_points_of_failure: Vec<FindingDoc>,
    /// Warnings of each node.
    pub warnings: BTreeMap<String, Vec<String>>,
}

#[cfg(test)]
mod tests {
    use vedette_core::config::Level;

    use super::*;

    /// The very text that scripts have been given.
    #[test]
    fn findings_are_told_as_ever() {
        let (what, advice) = ("it is not there".to_owned(), "Write it.".to_owned());
        let (file, key) = ("v.toml".to_owned(), "node.name".to_owned());
        let (level, line) = (Level::Error, None);
        let finding = config::Finding { level, file, line, key: key.clone(), what, advice };
        let document = document::Finding {
            line: Some(3),
            key,
            what: finding.what.clone(),
            advice: finding.advice.clone(),
            error: false,
        };
        let told = |finding: FindingDoc| serde_json::to_string(&finding).expect("JSON");
        assert_eq!(
            told((&finding).into()),
            r#"{"advice":"Write it.","file":"v.toml","key":"node.name","level":"error","line":null,"what":"it is not there"}"#
        );
        assert_eq!(
            told((&document).into()),
            r#"{"advice":"Write it.","key":"node.name","level":"warning","line":3,"what":"it is not there"}"#
        );
        let met = FindingDoc::met(Some("n2"), "no room");
        assert_eq!(told(met), r#"{"level":"error","node":"n2","what":"no room"}"#);
        let met = FindingDoc::met(None, "no room");
        assert_eq!(told(met), r#"{"level":"error","what":"no room"}"#);
    }
}
