//! `vedette verify`: everything that is wrong with the configuration in force, found by its text, by
//! every node on its own machine (spec H35), and what could fail alone (H47).

use clap::Args;
use vedette_collector::clinfo::finding::{FindingDoc, VerifiedClusterDoc};
use vedette_core::command::ConfigCommand;
use vedette_core::document::{self, Document, Finding};
use vedette_core::state::ClusterState;

use super::context::Context;
use super::document::{Ending, Patience, findings_text, verify};
use super::fail::{REFUSED, Result};
use super::text::{Cell, Style, Table, Tone};

/// `vedette verify`
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status 0 if nothing stands in the way of a takeover, even with single points \
    of failure, and 1 if something does.\n\n\
    Examples:\n  \
    vedette verify\n  \
    vedette verify --timeout 2m\n  \
    vedette verify -o json"
)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    patience: Patience,
}

/// What was found.
pub(crate) struct Verified {
    /// By the text alone.
    pub(crate) findings: Vec<Finding>,
    /// Single points of failure.
    pub(crate) single_points: Vec<Finding>,
    /// By the nodes.
    pub(crate) ending: Ending,
    /// Members that are not there and were not asked.
    pub(crate) absent: Vec<String>,
}

pub(crate) fn run(context: &Context, arguments: &VerifyArgs) -> Result<u8> {
    let state = context.state()?;
    let findings = document::examine(&state);
    let blocked = findings.iter().any(|finding| finding.error);
    // What contradicts itself is not worth a look at any machine.
    let ending = if blocked {
        Ending::default()
    } else {
        let text = document::print(&state);
        verify(context, ConfigCommand::Examine { text }, arguments.patience.timeout)?
    };
    let single_points = document::single_points(&Document::of(&state), &state);
    let absent = absent(&state, &ending);
    let verified = Verified { findings, single_points, ending, absent };
    context.render(&verified.document(), |_| verified.screen(context.style))?;
    Ok(if blocked || verified.ending.findings() > 0 { REFUSED } else { 0 })
}

fn absent(state: &ClusterState, ending: &Ending) -> Vec<String> {
    let names = state.nodes.values().map(|node| node.name.clone());
    names.filter(|name| !ending.nodes.contains_key(name)).collect()
}

impl Verified {
    fn document(&self) -> VerifiedClusterDoc {
        let fine = self.findings.iter().all(|finding| !finding.error);
        VerifiedClusterDoc {
            absent: self.absent.clone(),
            against: self.ending.against.clone(),
            findings: FindingDoc::of_document(&self.findings),
            nodes: self.ending.nodes.clone(),
            ok: fine && self.ending.findings() == 0,
            single_points_of_failure: FindingDoc::of_document(&self.single_points),
            warnings: self.ending.warnings.clone(),
        }
    }

    /// A line for each node, then everything that was found.
    pub(crate) fn screen(&self, style: Style) -> String {
        let mut table = Table::new(&["NODE", "VERIFIED", "FINDINGS"]);
        for (node, findings) in &self.ending.nodes {
            let (word, tone) =
                if findings.is_empty() { ("fine", Tone::Good) } else { ("failed", Tone::Bad) };
            table.row(vec![node.into(), Cell::toned(word, tone), findings.len().into()]);
        }
        for node in &self.absent {
            table.row(vec![node.into(), Cell::toned("not asked", Tone::Warn), "-".into()]);
        }
        let mut text = table.render(style, 0);
        for (title, part) in [
            ("Findings on machines", self.ending.screen()),
            ("Warnings of machines", self.ending.warned()),
            ("Findings in the configuration", findings_text(&self.findings, style)),
            ("Single points of failure", findings_text(&self.single_points, style)),
        ] {
            if !part.is_empty() {
                text.push_str(&format!("\n{title}\n{part}"));
            }
        }
        text
    }
}
