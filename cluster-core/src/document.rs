//! The configuration document: one text (TOML) for settings, networks, addresses, and everything in
//! [`Definition`]: groups, standby adapters, programs around events, fencing, monitors, limits.
//!
//! ```toml
//! [groups.web]
//! policy = "cascading"
//! nodes = ["n1", "n2"]
//!
//! [[groups.web.resources]]
//! name = "web-ip"
//! kind = "address"
//! address = "10.91.0.50/24"
//! ```
//!
//! [`read`] makes a [`Document`] of a text and says *everything* that is wrong with it ([`Finding`]);
//! [`print()`] makes the text of what is in force, and reading that again yields the same; [`diff`]
//! says in sentences what a change does, and to which groups.
//!
//! What a text does not mention of settings, networks and addresses stays as it is; of groups and all
//! the rest, a text is the whole: a group that is not in it goes. Members come and go by `node add` and
//! `node delete` alone, since a text cannot prove that it knows a node's storage.

mod check;
mod diff;
mod groups;
mod notes;
mod print;
mod read;
mod reader;
mod spof;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use crate::command::NewNetwork;
use crate::definition::Definition;
use crate::id::{NetworkNumber, NodeNumber};
use crate::model::Settings;
use crate::rules;
use crate::state::ClusterState;

pub use diff::{Difference, diff};
pub use notes::notes;
pub use print::{print, print_document};
pub use reader::written as duration_text;
pub use spof::{outliving, single_points};

/// The longest text of a document, in bytes; kept versions are part of every snapshot.
pub const LONGEST: usize = 256 * 1_024;

/// Addresses of nodes, by network.
pub type Addresses = BTreeMap<NodeNumber, BTreeMap<NetworkNumber, IpAddr>>;

/// Everything that a document says, complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Settings.
    pub settings: Settings,
    /// Networks.
    pub networks: BTreeMap<NetworkNumber, NewNetwork>,
    /// Addresses of the members.
    pub addresses: Addresses,
    /// All the rest.
    pub definition: Definition,
}

impl Document {
    /// What is in force.
    pub fn of(state: &ClusterState) -> Self {
        let network = |network: &crate::model::Network| NewNetwork {
            name: network.name.clone(),
            priority: network.priority,
            beat_port: network.beat_port,
            peer_port: network.peer_port,
            ping: network.ping,
        };
        let addresses = |node: &crate::model::Node| {
            node.interfaces.iter().map(|(network, own)| (*network, own.address)).collect()
        };
        Self {
            settings: state.settings.clone(),
            networks: state
                .networks
                .iter()
                .map(|(number, known)| (*number, network(known)))
                .collect(),
            addresses: state.nodes.values().map(|node| (node.number, addresses(node))).collect(),
            definition: state.definition.clone(),
        }
    }

    /// A network's name, or its number.
    fn network_name(&self, number: NetworkNumber) -> String {
        let known = self.networks.get(&number);
        known.map_or_else(|| format!("network {number}"), |network| network.name.clone())
    }
}

/// How snapshots begin, which hold a document among other things.
pub const SNAPSHOT: &str = "# vedette snapshot";

/// One thing that is wrong with a document, or worth knowing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The line, counted from 1, where there is one.
    pub line: Option<usize>,
    /// The key, such as `groups.web.nodes`.
    pub key: String,
    /// What is wrong and why, without full stop.
    pub what: String,
    /// What to do.
    pub advice: String,
    /// Whether it stands in the way; if not, it is a warning.
    pub error: bool,
}

impl Finding {
    fn error(key: impl Into<String>, what: impl Into<String>, advice: impl Into<String>) -> Self {
        let (key, what, advice) = (key.into(), what.into(), advice.into());
        Self { line: None, key, what, advice, error: true }
    }

    fn warning(key: impl Into<String>, what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { error: false, ..Self::error(key, what, advice) }
    }
}

/// One line: where, how bad, what, and what to do.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        f.write_str(if self.error { "error: " } else { "warning: " })?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}. {}", self.what, self.advice)
    }
}

/// Reads a document for a cluster: what it says, and everything that speaks against it or is worth
/// knowing. Without errors among the findings the document is complete.
pub fn read(text: &str, state: &ClusterState) -> (Document, Vec<Finding>) {
    let mut notes = reader::Notes::new(text);
    if text.len() > LONGEST || text.contains('\0') {
        let what = format!("a text of {} bytes cannot be a document", text.len());
        notes.error("", what, format!("Give a text of at most {LONGEST} bytes without NUL."));
        return (Document::of(state), notes.finish());
    }
    if text.starts_with(SNAPSHOT) {
        let advice = "Use vedette snapshot apply; or take the document out of it, which stands below \
            === configuration ===.";
        notes.error("", "this is a snapshot and not a configuration document", advice);
        return (Document::of(state), notes.finish());
    }
    let document = read::read(text, state, &mut notes);
    // What could not be read is missing; that it is missing is not worth a warning of its own.
    let unread: Vec<String> = notes.found.iter().map(|finding| finding.key.clone()).collect();
    let follows = |finding: &Finding| {
        let inside =
            |key: &String| key.strip_prefix(&finding.key).is_some_and(|rest| rest.starts_with('.'));
        !finding.error && unread.iter().any(inside)
    };
    for finding in check::check(&document, state) {
        if !follows(&finding) {
            notes.add(finding);
        }
    }
    (document, notes.finish())
}

/// Reads a document for a cluster. Without errors among the findings the definition is complete.
pub fn parse(text: &str, state: &ClusterState) -> (Definition, Vec<Finding>) {
    let (document, findings) = read(text, state);
    (document.definition, findings)
}

/// What is wrong with what is in force, without reading a text.
pub fn examine(state: &ClusterState) -> Vec<Finding> {
    let mut found = check::check(&Document::of(state), state);
    // A deletion leaves the rules as their author wrote them.
    let text = state.rules.in_force().text;
    for missing in rules::missing_nodes("rules", &text, &state.node_names()).0 {
        let advice = format!(
            "{} Correct what `vedette rules show` prints, in a file, and put that in force: vedette rules load FILE",
            missing.advice
        );
        found.push(Finding::warning(format!("rules, {}", missing.key), missing.what, advice));
    }
    found
}

/// The text in force: as its author wrote it if it still says what holds, with all comments; else
/// (a setting was changed since by a command of its own, a node was added) printed anew.
pub fn in_force(state: &ClusterState) -> String {
    let written = state.documents.versions.get(&state.documents.active);
    match written {
        Some(version) if read(&version.text, state).0 == Document::of(state) => {
            version.text.clone()
        }
        _ => print(state),
    }
}
