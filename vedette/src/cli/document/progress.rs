//! Having a document verified by every node, and telling how far that is.
//!
//! The proposal is a command like any other; then the state is watched until it says how it ended.
//! Whoever gives up waiting withdraws the proposal, so that it is in nobody's way.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use vedette_collector::clinfo::finding::FindingDoc;
use vedette_collector::clinfo::told::InForceDoc;
use vedette_core::command::{Command, ConfigCommand};
use vedette_core::document::Finding;
use vedette_core::id::NodeNumber;
use vedette_core::state::ClusterState;

use super::super::aside;
use super::super::context::{Context, LOOK};
use super::super::fail::{Failure, Result};
use super::super::text::{clean, length};

/// How it ended.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Ending {
    /// The index of the proposal.
    pub(crate) id: u64,
    /// The version as which it took effect.
    pub(crate) version: Option<u32>,
    /// What each node found, by its name.
    pub(crate) nodes: BTreeMap<String, Vec<String>>,
    /// What each node warns of, by its name.
    #[serde(default)]
    pub(crate) warnings: BTreeMap<String, Vec<String>>,
    /// Nodes that went away before they answered.
    pub(crate) gone: Vec<String>,
    /// What speaks against it besides.
    pub(crate) against: Vec<String>,
}

impl Ending {
    /// How many findings there are.
    pub(crate) fn findings(&self) -> usize {
        self.nodes.values().map(Vec::len).sum::<usize>() + self.against.len()
    }

    /// Every finding, by node.
    pub(crate) fn screen(&self) -> String {
        let mut text = String::new();
        for line in &self.against {
            text.push_str(&format!("{}\n", clean(line)));
        }
        text + &by_node(&self.nodes)
    }

    /// Every warning, by node.
    pub(crate) fn warned(&self) -> String {
        by_node(&self.warnings)
    }

    /// What a program is told of it: what each node found, and what was found before any was asked.
    pub(crate) fn more(&self, found: &[Finding]) -> InForceDoc {
        InForceDoc {
            findings: FindingDoc::of_document(found),
            nodes: self.nodes.clone(),
            version: None,
            warnings: self.warnings.clone(),
        }
    }

    /// Everything that was found, for a program.
    fn found(&self) -> Vec<FindingDoc> {
        let against = self.against.iter().map(|what| FindingDoc::met(None, what));
        let on = |(node, all): (&String, &Vec<String>)| {
            all.iter().map(|what| FindingDoc::met(Some(node), what)).collect::<Vec<_>>()
        };
        against.chain(self.nodes.iter().flat_map(on)).collect()
    }

    /// # Errors
    /// If somebody has something against it: everything that was found.
    pub(crate) fn accepted(&self) -> Result<()> {
        let count = self.findings();
        if count == 0 {
            return Ok(());
        }
        let noun = if count == 1 { "finding" } else { "findings" };
        let indented: String = self.screen().lines().map(|line| format!("\n    {line}")).collect();
        Err(Failure::refused(
            format!("the document is not put in force because of {count} {noun}:{indented}"),
            "Nothing was changed. Correct the document or the machines, and apply it again.",
        )
        .with(self.found()))
    }
}

fn by_node(all: &BTreeMap<String, Vec<String>>) -> String {
    let of = |(node, found): (&String, &Vec<String>)| -> String {
        found.iter().map(|one| format!("{node}: {}\n", clean(one))).collect()
    };
    all.iter().map(of).collect()
}

/// Proposes a document and waits until it is in force, refused or examined.
pub(crate) fn verify(
    context: &Context,
    command: ConfigCommand,
    patience: Duration,
) -> Result<Ending> {
    let id = context.propose(&Command::Config(command))?;
    let deadline = Instant::now() + patience;
    let mut told = BTreeSet::new();
    let mut seen = Instant::now();
    loop {
        // What was ordered is in the log, and so is the answer.
        let state = context.state_again(&mut seen)?;
        if let Some(ending) = ended(&state, id) {
            tell(&state, &mut told, &ending.nodes);
            for warning in ending.warned().lines() {
                aside::note(&format!("warning of {warning}"));
            }
            return Ok(ending);
        }
        let pending = state.documents.pending.as_ref().filter(|pending| pending.id == id);
        if pending.is_none() && state.revision >= id {
            return Err(Failure::unknown(
                "how the verification ended was overtaken by another one",
                "See what is in force: vedette config history.",
            ));
        }
        // This node may not have the proposal yet; then nobody is known to have answered.
        let answered = pending.map(|pending| named(&state, &pending.findings)).unwrap_or_default();
        tell(&state, &mut told, &answered);
        if Instant::now() >= deadline {
            let asked = pending.into_iter().flat_map(|pending| &pending.asked);
            let names = asked.map(|node| state.node_name(*node));
            let silent: Vec<String> = names.filter(|name| !answered.contains_key(name)).collect();
            return Err(give_up(context, id, &silent.join(", "), patience));
        }
        std::thread::sleep(LOOK);
    }
}

fn give_up(context: &Context, id: u64, silent: &str, patience: Duration) -> Failure {
    let why = format!("no answer of {silent}");
    let withdrawn =
        context.propose(&Command::Config(ConfigCommand::Withdraw { proposal: id, why }));
    let what = format!("{silent} did not answer within {}", length(patience));
    let advice = match withdrawn {
        Ok(_) => {
            "Nothing was changed. See what is wrong there (vedette status), or wait longer: --timeout 5m."
        }
        Err(_) => "It may still take effect: vedette config history tells.",
    };
    Failure::unknown(what, advice)
}

fn named(
    state: &ClusterState,
    findings: &BTreeMap<NodeNumber, Vec<String>>,
) -> BTreeMap<String, Vec<String>> {
    findings.iter().map(|(node, found)| (state.node_name(*node), found.clone())).collect()
}

fn ended(state: &ClusterState, id: u64) -> Option<Ending> {
    let verdict = state.documents.last.as_ref().filter(|verdict| verdict.id == id)?;
    let gone = verdict.asked.iter().filter(|node| !verdict.findings.contains_key(node));
    Some(Ending {
        id,
        version: verdict.version,
        nodes: named(state, &verdict.findings),
        warnings: named(state, &verdict.warnings),
        gone: gone.map(|node| state.node_name(*node)).collect(),
        against: verdict.against.clone(),
    })
}

/// Tells of every node that answered meanwhile.
fn tell(state: &ClusterState, told: &mut BTreeSet<String>, nodes: &BTreeMap<String, Vec<String>>) {
    for (node, findings) in nodes {
        if !told.insert(node.clone()) {
            continue;
        }
        let all = state.nodes_up().count();
        match findings.len() {
            0 => aside::progress(&format!("{node} verified it ({} of {all})", told.len())),
            1 => aside::progress(&format!("{node} has 1 finding ({} of {all})", told.len())),
            count => {
                aside::progress(&format!("{node} has {count} findings ({} of {all})", told.len()))
            }
        }
    }
}
