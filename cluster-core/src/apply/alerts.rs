//! The alert script and the queue of alerts (spec A14, A15).
//!
//! A record that alerts is queued by the same command that made it. Somebody *claims* it (in the
//! log, so that no second node does), runs the script, and *finishes* it. A claim by a run of an
//! agent that is over may be taken by another: the script then runs again, at least once in all.

use crate::id::{Hash, NodeNumber, Session};
use crate::model::{AlertTest, RunOutcome, ScriptVersion, Severity};
use crate::record::{Code, Subject};

use super::{ClusterState, Entry, RecordDraft, Refusal};

/// The longest alert script, in bytes; it is part of every snapshot.
const LONGEST_SCRIPT: usize = 64 * 1_024;

/// How many versions of the script are kept.
const KEPT_VERSIONS: usize = 50;

/// How many alerts may wait; the oldest are given up, with a record that says so.
const MOST_ALERTS: usize = 1_000;

impl ClusterState {
    pub(super) fn save_script(
        &mut self,
        entry: &mut Entry<'_>,
        text: &str,
        comment: &str,
        based_on: u32,
    ) -> Result<bool, Refusal> {
        if based_on != self.script.active {
            return Err(Refusal::new(
                "stale_script",
                format!(
                    "the text was made from version {based_on}, but version {} is in force now",
                    self.script.active
                ),
                "Edit again: vedette alert edit.",
            ));
        }
        if text.is_empty() || text.len() > LONGEST_SCRIPT || text.contains('\0') {
            return Err(Refusal::new(
                "bad_script",
                format!("a script of {} bytes cannot be an alert script", text.len()),
                format!("Give a text of 1 to {LONGEST_SCRIPT} bytes without NUL."),
            ));
        }
        if !text.starts_with("#!") {
            return Err(Refusal::new(
                "bad_script",
                "the script does not begin with `#!` and an interpreter",
                "Begin it with a line such as `#!/bin/sh`.",
            ));
        }
        let version = self.script.versions.keys().next_back().map_or(1, |last| last + 1);
        let from = self.script.active;
        self.script.versions.insert(
            version,
            ScriptVersion {
                text: text.into(),
                sha256: Hash::of(text.as_bytes()),
                author: entry.actor.clone(),
                comment: comment.into(),
                at: entry.proposal.at,
            },
        );
        self.script.active = version;
        while self.script.versions.len() > KEPT_VERSIONS {
            self.script.versions.pop_first();
        }
        self.script_changed(entry, Code::AlertScriptSaved, from, version, comment);
        Ok(true)
    }

    pub(super) fn roll_back_script(
        &mut self,
        entry: &mut Entry<'_>,
        to: u32,
    ) -> Result<bool, Refusal> {
        if to != 0 && !self.script.versions.contains_key(&to) {
            return Err(Refusal::new(
                "unknown_version",
                format!("there is no version {to} of the alert script"),
                "List the versions: vedette alert versions.",
            ));
        }
        let from = self.script.active;
        if from == to {
            return Ok(false);
        }
        self.script.active = to;
        self.script_changed(entry, Code::AlertScriptRolledBack, from, to, "");
        Ok(true)
    }

    fn script_changed(
        &mut self,
        entry: &mut Entry<'_>,
        code: Code,
        from: u32,
        to: u32,
        comment: &str,
    ) {
        let message = format!("alert script version {to} is in force");
        self.record(
            entry,
            RecordDraft::new(code, Severity::Notice, Subject::AlertScript, message)
                .change(from, to)
                .because(comment),
        );
    }

    pub(super) fn claim_alert(&mut self, seq: u64, runner: NodeNumber, session: Session) -> bool {
        let Some(pending) = self.alerts.get_mut(&seq) else { return false };
        if pending.claim == Some((runner, session)) {
            return false;
        }
        pending.claim = Some((runner, session));
        pending.attempts += 1;
        true
    }

    /// An answer to an older attempt is ignored (architecture, invariant 5).
    pub(super) fn finish_alert(
        &mut self,
        entry: &mut Entry<'_>,
        seq: u64,
        runner: NodeNumber,
        session: Session,
        outcome: &RunOutcome,
    ) -> bool {
        let claimed = |alert: &crate::record::PendingAlert| alert.claim == Some((runner, session));
        if !self.alerts.get(&seq).is_some_and(claimed) {
            return false;
        }
        let Some(pending) = self.alerts.remove(&seq) else { return false };
        self.alerts_finished += 1;
        self.alerts_failed += u64::from(!outcome.succeeded());
        let severity =
            if outcome.succeeded() { Severity::Informational } else { Severity::Warning };
        let message = format!(
            "alert script on {} for record {seq}: {}",
            self.node_name(runner),
            outcome.summary()
        );
        let mut happening =
            RecordDraft::new(Code::AlertDelivered, severity, Subject::AlertScript, message)
                .because(outcome_cause(outcome))
                .of_incident(pending.record.incident);
        happening.current = outcome.summary();
        self.record(entry, happening);
        self.give_up_oldest(entry);
        true
    }

    fn give_up_oldest(&mut self, entry: &mut Entry<'_>) {
        let too_many = self.alerts.len().saturating_sub(MOST_ALERTS);
        if too_many == 0 {
            return;
        }
        for _ in 0..too_many {
            self.alerts.pop_first();
        }
        let message = format!("{too_many} alerts were given up: more than {MOST_ALERTS} waited");
        self.record(
            entry,
            RecordDraft::new(Code::AlertsDropped, Severity::Error, Subject::AlertScript, message),
        );
    }

    pub(super) fn test_alert(
        &mut self,
        entry: &mut Entry<'_>,
        members: &[NodeNumber],
        severity: Severity,
        message: &str,
    ) -> Result<bool, Refusal> {
        if let Some(unknown) = members.iter().find(|node| !self.nodes.contains_key(node)) {
            return Err(Refusal::new(
                "unknown_node",
                format!("there is no node {unknown}"),
                "List the nodes: vedette node list.",
            ));
        }
        let chosen: Vec<NodeNumber> = if members.is_empty() {
            self.nodes.keys().copied().collect()
        } else {
            members.to_vec()
        };
        let names: Vec<String> = chosen.iter().map(|node| self.node_name(*node)).collect();
        let mut happening = RecordDraft::new(
            Code::AlertTestRequested,
            Severity::Informational,
            Subject::AlertScript,
            format!("test of the alert script on {}", names.join(", ")),
        );
        happening.test = true;
        self.record(entry, happening);
        self.tests.insert(
            entry.index,
            AlertTest {
                id: entry.index,
                at: entry.proposal.at,
                actor: entry.actor.clone(),
                message: message.into(),
                severity,
                members: chosen.into_iter().map(|node| (node, None)).collect(),
            },
        );
        // A test whose member never answers must not stay for ever.
        while self.tests.len() > 16 {
            self.tests.pop_first();
        }
        Ok(true)
    }

    pub(super) fn finish_alert_test(
        &mut self,
        entry: &mut Entry<'_>,
        id: u64,
        node: NodeNumber,
        outcome: &RunOutcome,
    ) -> bool {
        let Some(place) = self.tests.get_mut(&id).and_then(|test| test.members.get_mut(&node))
        else {
            return false;
        };
        if place.is_some() {
            return false;
        }
        *place = Some(outcome.clone());
        let severity =
            if outcome.succeeded() { Severity::Informational } else { Severity::Warning };
        let message =
            format!("test of the alert script on {}: {}", self.node_name(node), outcome.summary());
        let mut happening =
            RecordDraft::new(Code::AlertTested, severity, Subject::AlertScript, message)
                .because(outcome_cause(outcome));
        happening.test = true;
        happening.current = outcome.summary();
        self.record(entry, happening);
        true
    }
}

/// Duration, version and the first line of the output, for the history.
fn outcome_cause(outcome: &RunOutcome) -> String {
    let first = outcome.output.lines().next().unwrap_or_default();
    let words =
        outcome.transcript.as_ref().map(|it| format!("; {}", it.words())).unwrap_or_default();
    format!("version {}, {} ms; {first}{words}", outcome.version, outcome.duration_ms)
}
