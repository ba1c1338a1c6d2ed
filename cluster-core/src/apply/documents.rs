//! The configuration document: proposed, verified by every node, in force; and rolled back.
//!
//! A proposal is checked here first ([`crate::document::read`]); what contradicts itself is refused
//! with every finding, and nothing happened. Then every node that is there is asked whether the
//! document fits its machine. It takes effect in the very entry that brings the last answer, if
//! nobody has anything against it; one finding is enough, and it never does. A node that goes away
//! meanwhile is not waited for. There is one proposal at a time, so there is nothing to merge.
//!
//! Nothing is touched that a document does not change: settings, networks and groups that are the same
//! before and after get no record and no event.

use crate::command::{Command, ConfigCommand};
use crate::definition::{DocumentVersion, PendingDocument, VerificationOutcome};
use crate::document::{self, Difference, Document, Finding};
use crate::id::{NetworkNumber, NodeNumber};
use crate::model::{
    AgentStatus, HostStatus, Interface, InterfaceStatus, Network, NetworkStatus, Severity,
};
use crate::record::{Code, Subject};
use crate::time::WallTime;
use crate::trigger::Trigger;

use super::{ClusterState, Entry, RecordDraft, Refusal};

#[cfg(test)]
mod tests;

mod parts;

/// How many versions are kept; the one in force is always among them.
const KEPT_VERSIONS: usize = 64;

/// After this time, in microseconds, a proposal that waits for an answer gives way to another.
const PATIENCE_US: i64 = 60_000_000;

/// How much of what a node found is kept: findings, and characters of each.
const MOST_FINDINGS: usize = 100;
const LONGEST_FINDING: usize = 500;

impl ClusterState {
    /// A command about the configuration document.
    pub(super) fn change_document(
        &mut self,
        entry: &mut Entry<'_>,
        command: &ConfigCommand,
    ) -> Result<bool, Refusal> {
        match command {
            ConfigCommand::Propose { text, comment, based_on } => {
                self.check_base(*based_on)?;
                self.propose_document(entry, text, comment, &[])
            }
            ConfigCommand::Restore { text, comment, based_on, parts } => {
                self.check_base(*based_on)?;
                self.propose_document(entry, text, comment, parts)
            }
            ConfigCommand::Examine { text } => {
                self.check_room(entry)?;
                refuse_errors(&document::read(text, self).1)?;
                self.make_room(entry);
                self.ask(entry, text, "", &[]).dry_run = true;
                Ok(true)
            }
            ConfigCommand::Verified { proposal, node, findings, warnings } => {
                Ok(self.verified(*proposal, *node, findings, warnings))
            }
            ConfigCommand::Withdraw { proposal, why } => self.withdraw(entry, *proposal, why),
            ConfigCommand::RollBack { to } => {
                let text = self.document_text(*to)?;
                self.propose_document(entry, &text, &format!("version {to} again"), &[])
            }
        }
    }

    /// The text of a version; version 0 is the cluster without groups.
    fn document_text(&self, version: u32) -> Result<String, Refusal> {
        if version == 0 {
            return Ok(String::new());
        }
        let known = self.documents.versions.get(&version);
        known.map(|known| known.text.clone()).ok_or_else(|| {
            Refusal::new(
                "unknown_version",
                format!("there is no version {version} of the configuration"),
                "List the versions: vedette config history.",
            )
        })
    }

    fn propose_document(
        &mut self,
        entry: &mut Entry<'_>,
        text: &str,
        comment: &str,
        parts: &[Command],
    ) -> Result<bool, Refusal> {
        self.check_room(entry)?;
        let (new, findings) = document::read(text, self);
        refuse_errors(&findings)?;
        let parts_change = self.try_parts(entry, parts)?;
        if self.is_in_force(text, &new, parts) && !parts_change {
            let active = self.documents.active;
            let what = format!("version {active} says the same and is in force already");
            return Err(Refusal::met("no_change", what));
        }
        self.make_room(entry);
        let comment: String = comment.chars().filter(|c| !c.is_control()).take(500).collect();
        self.ask(entry, text, &comment, parts);
        let message = format!("configuration version {} is being verified", self.next_version());
        self.document_record(entry, Code::ConfigProposed, Severity::Notice, message, comment);
        Ok(true)
    }

    /// Whether a document is in force. One that says the same in other words is not, as its author may
    /// want just that; unless it is only the companion of other changes.
    fn is_in_force(&self, text: &str, read: &Document, parts: &[Command]) -> bool {
        let present = self.documents.versions.get(&self.documents.active);
        let same_words = present.is_none_or(|present| present.text == text);
        *read == Document::of(self) && (same_words || !parts.is_empty())
    }

    /// One document at a time; one that was forgotten by whoever proposed it is in nobody's way.
    fn check_room(&self, entry: &Entry<'_>) -> Result<(), Refusal> {
        let Some(pending) = &self.documents.pending else { return Ok(()) };
        let age = entry.proposal.at.0.saturating_sub(pending.version.at.0);
        if age < PATIENCE_US {
            return Err(Refusal::new(
                "document_pending",
                format!(
                    "a document of {} is being verified at this moment",
                    pending.version.author
                ),
                "Wait until it is in force or refused; after a minute another one takes its place.",
            ));
        }
        Ok(())
    }

    fn make_room(&mut self, entry: &mut Entry<'_>) {
        if let Some(pending) = self.documents.pending.take() {
            self.give_up(entry, pending, "nobody answered for a minute");
        }
    }

    /// Has a document verified by every node that is there.
    fn ask(
        &mut self,
        entry: &Entry<'_>,
        text: &str,
        comment: &str,
        parts: &[Command],
    ) -> &mut PendingDocument {
        let (author, at) = (entry.proposal.actor.clone(), entry.proposal.at);
        let version = DocumentVersion { text: text.into(), author, comment: comment.into(), at };
        let asked = self.nodes.keys().copied().filter(|node| self.can_verify(*node)).collect();
        let (id, findings, warnings) = (entry.index, Default::default(), Default::default());
        let (dry_run, parts) = (false, parts.to_vec());
        let pending = PendingDocument { id, version, asked, findings, warnings, dry_run, parts };
        self.documents.pending.insert(pending)
    }

    /// Whether a node's agent is there to be asked.
    fn can_verify(&self, node: NodeNumber) -> bool {
        self.nodes
            .get(&node)
            .is_some_and(|node| node.host == HostStatus::Up && node.agent == AgentStatus::Running)
    }

    fn next_version(&self) -> u32 {
        self.documents.versions.keys().next_back().map_or(1, |last| last.saturating_add(1))
    }

    /// What a node found. An answer about another proposal, or from somebody who was not asked,
    /// changes nothing.
    fn verified(
        &mut self,
        proposal: u64,
        node: NodeNumber,
        findings: &[String],
        warnings: &[String],
    ) -> bool {
        let Some(pending) = self.documents.pending.as_mut().filter(|p| p.id == proposal) else {
            return false;
        };
        if !pending.asked.contains(&node) || pending.findings.contains_key(&node) {
            return false;
        }
        let clean = |finding: &String| finding.chars().take(LONGEST_FINDING).collect();
        let kept = |all: &[String]| all.iter().take(MOST_FINDINGS).map(clean).collect();
        pending.findings.insert(node, kept(findings));
        if !warnings.is_empty() {
            pending.warnings.insert(node, kept(warnings));
        }
        true
    }

    fn withdraw(
        &mut self,
        entry: &mut Entry<'_>,
        proposal: u64,
        why: &str,
    ) -> Result<bool, Refusal> {
        if self.documents.pending.as_ref().is_none_or(|pending| pending.id != proposal) {
            return Err(Refusal::new(
                "no_such_proposal",
                format!("the proposal {proposal} is not being verified"),
                "It took effect, was refused or withdrawn already: vedette config history.",
            ));
        }
        if let Some(pending) = self.documents.pending.take() {
            self.give_up(entry, pending, why);
        }
        Ok(true)
    }

    fn give_up(&mut self, entry: &mut Entry<'_>, pending: PendingDocument, why: &str) {
        let dry_run = pending.dry_run;
        self.conclude(entry, pending, vec![format!("it was withdrawn: {why}")], None);
        if !dry_run {
            let message = format!("configuration version {} was withdrawn", self.next_version());
            self.document_record(entry, Code::ConfigProposed, Severity::Notice, message, why);
        }
    }

    /// Remembers how it ended, for whoever asked.
    fn conclude(
        &mut self,
        entry: &Entry<'_>,
        pending: PendingDocument,
        against: Vec<String>,
        version: Option<u32>,
    ) {
        let PendingDocument { id, asked, findings, warnings, dry_run, .. } = pending;
        let at = entry.proposal.at;
        let outcome =
            VerificationOutcome { id, version, dry_run, asked, findings, warnings, against, at };
        self.documents.last = Some(outcome);
    }

    /// A document that everybody who is there has verified takes effect; one that somebody has
    /// something against is refused as soon as everybody has answered, so that all is told at once.
    pub(super) fn settle_documents(&mut self, entry: &mut Entry<'_>) {
        let Some(pending) = &self.documents.pending else { return };
        let gone = |node: &NodeNumber| {
            let host = self.nodes.get(node).map(|node| node.host);
            matches!(host, None | Some(HostStatus::Down | HostStatus::Disconnected))
        };
        let waits = |node: &NodeNumber| !pending.findings.contains_key(node) && !gone(node);
        if pending.asked.iter().any(waits) {
            return;
        }
        let Some(pending) = self.documents.pending.take() else { return };
        // What held when it was proposed may have changed while nodes looked at their machines.
        let (new, findings) = document::read(&pending.version.text, self);
        let errors = findings.iter().filter(|finding| finding.error).map(ToString::to_string);
        let parts = self.try_parts(entry, &pending.parts);
        let refused = parts.err().map(|refusal| refusal.to_string());
        let errors: Vec<String> = errors.chain(refused).collect();
        let named = |(node, all): (&NodeNumber, &Vec<String>)| -> Vec<String> {
            all.iter().map(|one| format!("{}: {one}", self.node_name(*node))).collect()
        };
        let found = pending.findings.iter().flat_map(named);
        let against: Vec<String> = errors.iter().cloned().chain(found).collect();
        let effective = against.is_empty() && !pending.dry_run;
        let changes = effective && !self.is_in_force(&pending.version.text, &new, &pending.parts);
        let version = changes.then(|| self.next_version());
        let (document, dry_run) = (pending.version.clone(), pending.dry_run);
        let (parts, author) = (pending.parts.clone(), pending.version.author.clone());
        self.conclude(entry, pending, errors, version);
        if changes {
            self.take_effect(entry, document, new);
        }
        if effective {
            self.carry_out_parts(entry, &parts, &author);
        } else if !dry_run {
            self.refuse_document(entry, &against);
        }
    }

    /// One record with everything that was found: it is what the operator is shown.
    fn refuse_document(&mut self, entry: &mut Entry<'_>, against: &[String]) {
        let count = against.len();
        let message = format!(
            "configuration version {} was refused: {count} finding{}",
            self.next_version(),
            if count == 1 { "" } else { "s" }
        );
        let cause = against.join("\n");
        self.document_record(entry, Code::ConfigProposed, Severity::Warning, message, cause);
    }

    fn take_effect(&mut self, entry: &mut Entry<'_>, version: DocumentVersion, new: Document) {
        let difference = document::diff(&Document::of(self), &new, self);
        let (from, number) = (self.documents.active, self.next_version());
        let comment = version.comment.clone();
        self.documents
            .versions
            .insert(number, DocumentVersion { at: entry.proposal.at, ..version });
        self.documents.active = number;
        while self.documents.versions.len() > KEPT_VERSIONS {
            self.documents.versions.pop_first();
        }
        let message = format!("configuration version {number} is in force");
        self.record(
            entry,
            RecordDraft::new(Code::ConfigApplied, Severity::Notice, Subject::Document, message)
                .change(from, number)
                .because(comment),
        );
        self.change_topology(entry, &new, &difference);
        self.define(entry, new.definition);
    }

    /// Settings, networks and addresses. Guards and connections follow the state by themselves; what
    /// they cannot follow was refused before.
    fn change_topology(&mut self, entry: &mut Entry<'_>, new: &Document, difference: &Difference) {
        for line in difference.settings.iter().chain(&difference.topology) {
            let line = line.trim_start_matches(['~', '+', '-', ' ']);
            let happening = |text| {
                RecordDraft::new(Code::SettingChanged, Severity::Notice, Subject::Cluster, text)
            };
            let by = format!("configuration version {}", self.documents.active);
            self.record(entry, happening(line.to_owned()).because(by));
        }
        self.settings = new.settings.clone();
        if difference.topology.is_empty() {
            return;
        }
        self.change_networks(new, entry.proposal.at);
        self.change_interfaces(new, entry.proposal.at);
        if self.manager.joined().next().is_some() {
            let trigger = Trigger::ReconfigTopology { version: self.documents.active };
            self.enqueue(entry, trigger, "networks were configured anew", None);
        }
    }

    fn change_networks(&mut self, new: &Document, since: WallTime) {
        let gone = |number: &NetworkNumber| !new.networks.contains_key(number);
        for network in self.networks.iter().filter(|(number, _)| gone(number)).map(|(_, n)| n) {
            self.ports.remove(&network.name);
        }
        self.networks.retain(|number, _| !gone(number));
        self.links.retain(|link| !gone(&link.network));
        for (number, network) in &new.networks {
            let known = self.networks.entry(*number).or_insert_with(|| Network {
                name: network.name.clone(),
                priority: network.priority,
                beat_port: network.beat_port,
                peer_port: network.peer_port,
                ping: network.ping,
                status: NetworkStatus::Unknown,
                since,
            });
            (known.priority, known.ping) = (network.priority, network.ping);
        }
    }

    fn change_interfaces(&mut self, new: &Document, since: WallTime) {
        for (number, node) in &mut self.nodes {
            let Some(own) = new.addresses.get(number) else { continue };
            node.interfaces.retain(|network, _| own.contains_key(network));
            for (network, address) in own {
                let status = InterfaceStatus::Unknown;
                let known = node.interfaces.entry(*network);
                let new = Interface { address: *address, status, since, with_network: false };
                known.or_insert(new).address = *address;
            }
        }
    }

    fn document_record(
        &mut self,
        entry: &mut Entry<'_>,
        code: Code,
        severity: Severity,
        message: String,
        cause: impl Into<String>,
    ) {
        let happening = RecordDraft::new(code, severity, Subject::Document, message).because(cause);
        self.record(entry, happening);
    }
}

/// Every error in one refusal: who corrects a document wants all of them at once.
fn refuse_errors(findings: &[Finding]) -> Result<(), Refusal> {
    let errors: Vec<String> =
        findings.iter().filter(|finding| finding.error).map(ToString::to_string).collect();
    if errors.is_empty() {
        return Ok(());
    }
    let count = errors.len();
    Err(Refusal::new(
        "bad_document",
        format!(
            "the document has {count} error{}:\n    {}",
            if count == 1 { "" } else { "s" },
            errors.join("\n    ").trim_end_matches('.')
        ),
        "Correct them; vedette config check FILE shows them as well.",
    ))
}
