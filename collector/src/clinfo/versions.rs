//! Versions of the configuration document and of the rules: which there are, and what a change changes.
//!
//! Keys are in the order of the alphabet, as they have been from the beginning.

use std::collections::BTreeMap;

use serde::Serialize;
use vedette_core::definition::DocumentStore;
use vedette_core::document::Difference;
use vedette_core::rules::{Rule, RuleSet, RuleStore};

use super::finding::FindingDoc;

/// The kept versions of the configuration document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DocumentHistoryDoc {
    /// The version in force.
    pub active: u32,
    /// The document that is being verified.
    pub pending: Option<PendingDocumentDoc>,
    /// Kept versions.
    pub versions: Vec<DocumentVersionDoc>,
}

/// A document that is being verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PendingDocumentDoc {
    /// When it was proposed.
    pub at: String,
    /// By whom.
    pub author: String,
    /// The reason.
    pub comment: String,
    /// Whether it will not take effect.
    pub dry_run: bool,
    /// The index of the proposal.
    pub id: u64,
}

/// A version of the document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DocumentVersionDoc {
    /// Whether it is in force.
    pub active: bool,
    /// When it was proposed.
    pub at: String,
    /// By whom.
    pub author: String,
    /// Its length.
    pub bytes: usize,
    /// The reason.
    pub comment: String,
    /// Its number.
    pub version: u32,
}

impl From<&DocumentStore> for DocumentHistoryDoc {
    fn from(store: &DocumentStore) -> Self {
        let versions = store.versions.iter().map(|(number, version)| DocumentVersionDoc {
            active: *number == store.active,
            at: version.at.to_string(),
            author: version.author.clone(),
            bytes: version.text.len(),
            comment: version.comment.clone(),
            version: *number,
        });
        let pending = store.pending.as_ref().map(|pending| PendingDocumentDoc {
            at: pending.version.at.to_string(),
            author: pending.version.author.clone(),
            comment: pending.version.comment.clone(),
            dry_run: pending.dry_run,
            id: pending.id,
        });
        Self { active: store.active, pending, versions: versions.collect() }
    }
}

/// Changes that a document brings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DifferenceDoc {
    /// Groups that stop for a moment or for good, with why.
    pub disturbed: BTreeMap<String, String>,
    /// Changes of what is neither a setting nor a network, a line each.
    pub resources: Vec<String>,
    /// Whether nothing changes.
    pub same: bool,
    /// Changes of settings, a line each.
    pub settings: Vec<String>,
    /// Changes of networks and addresses, a line each.
    pub topology: Vec<String>,
}

impl From<&Difference> for DifferenceDoc {
    fn from(difference: &Difference) -> Self {
        Self {
            disturbed: difference.disturbed.clone(),
            resources: difference.resources.clone(),
            same: difference.is_empty(),
            settings: difference.settings.clone(),
            topology: difference.topology.clone(),
        }
    }
}

/// A document that was examined and not put in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DryRunDoc {
    /// Changes that it would bring.
    pub changes: DifferenceDoc,
    /// Always true.
    pub dry_run: bool,
    /// Findings in it.
    pub findings: Vec<FindingDoc>,
    /// Findings of each node.
    pub nodes: BTreeMap<String, Vec<String>>,
    /// Warnings of each node.
    pub warnings: BTreeMap<String, Vec<String>>,
}

/// The rules in force, or of a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RulesDoc {
    /// The version in force; 0 is built in.
    pub active: u32,
    /// The rules.
    pub rules: Vec<RuleDoc>,
}

/// A rule: nine lines, and where its program comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleDoc {
    /// The recovery level.
    pub level: String,
    /// The event's name.
    pub name: String,
    /// The predicate.
    pub predicate: String,
    /// The path of the recovery program.
    pub program: String,
    /// `loaded` or `built in`.
    pub program_from: &'static str,
    /// The rearm predicate.
    pub rearm: String,
    /// The state.
    pub state: String,
    /// The recovery type.
    #[serde(rename = "type")]
    pub kind: String,
    /// The resource variable.
    pub variable: String,
    /// The instance vector.
    pub vector: String,
}

impl RulesDoc {
    /// The rules of a version.
    pub fn new(store: &RuleStore, set: &RuleSet) -> Self {
        let rules = set.rules().into_iter().map(|rule| RuleDoc {
            program_from: program_from(set, &rule),
            level: rule.level,
            name: rule.name,
            predicate: rule.predicate,
            program: rule.program,
            rearm: rule.rearm,
            state: rule.state,
            kind: rule.kind,
            variable: rule.variable,
            vector: rule.vector,
        });
        Self { active: store.active, rules: rules.collect() }
    }
}

/// Where the program of a rule comes from.
pub fn program_from(set: &RuleSet, rule: &Rule) -> &'static str {
    if set.programs.contains_key(&rule.program) { "loaded" } else { "built in" }
}

/// The versions of the rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleHistoryDoc {
    /// The version in force; 0 is built in.
    pub active: u32,
    /// Kept versions.
    pub versions: Vec<RuleVersionDoc>,
}

/// A version of the rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleVersionDoc {
    /// Whether it is in force.
    pub active: bool,
    /// When it was loaded.
    pub at: String,
    /// By whom.
    pub author: String,
    /// The reason.
    pub comment: String,
    /// Paths of its recovery programs.
    pub programs: Vec<String>,
    /// Its number.
    pub version: u32,
}

impl From<&RuleStore> for RuleHistoryDoc {
    fn from(store: &RuleStore) -> Self {
        let versions = store.versions.iter().map(|(number, set)| RuleVersionDoc {
            active: *number == store.active,
            at: set.at.to_string(),
            author: set.author.clone(),
            comment: set.comment.clone(),
            programs: set.programs.keys().cloned().collect(),
            version: *number,
        });
        Self { active: store.active, versions: versions.collect() }
    }
}

/// Differences between two versions of the rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleChangesDoc {
    /// Each text that differs.
    pub changes: Vec<RuleChangeDoc>,
}

/// A text that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleChangeDoc {
    /// Its lines.
    pub lines: Vec<LineDoc>,
    /// The rule, or the recovery program.
    pub name: String,
}

/// A line of two texts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LineDoc {
    /// In both.
    Same(String),
    /// In the old one only.
    Removed(String),
    /// In the new one only.
    Added(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares the text that serde makes with that of a map, whose keys are in order.
    fn assert_in_order(document: &impl Serialize) {
        let text = serde_json::to_string(document).expect("JSON");
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(text, value.to_string());
    }

    /// The very text that scripts have been given.
    #[test]
    fn versions_are_told_as_ever() {
        let fixture = vedette_core::fixture::busy_fixture();
        let documents = DocumentHistoryDoc::from(&fixture.state.documents);
        assert!(!documents.versions.is_empty());
        assert_in_order(&documents);
        let built_in = RuleSet::built_in();
        let programs = BTreeMap::from([("/x.rp".to_owned(), "all \"x\" 0 NULL".to_owned())]);
        let loaded = RuleSet { programs, ..built_in.clone() };
        let store = RuleStore { active: 1, versions: BTreeMap::from([(1, loaded)]) };
        let rules = RulesDoc::new(&store, &built_in);
        assert!(rules.rules.iter().all(|rule| rule.program_from == "built in"));
        assert_in_order(&rules);
        assert_in_order(&RuleHistoryDoc::from(&store));
        let lines = vec![LineDoc::Same("a".into()), LineDoc::Added("b".into())];
        let changes = RuleChangesDoc { changes: vec![RuleChangeDoc { lines, name: "x".into() }] };
        assert_in_order(&changes);
        let changes = DifferenceDoc::from(&Difference::default());
        let (findings, nodes, warnings) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        assert_in_order(&DryRunDoc { changes, dry_run: true, findings, nodes, warnings });
        let pending = PendingDocumentDoc {
            at: String::new(),
            author: String::new(),
            comment: String::new(),
            dry_run: false,
            id: 7,
        };
        assert_in_order(&pending);
    }
}
