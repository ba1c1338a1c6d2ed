//! Rules and recovery programs: versions, and which is in force (spec H15, H16).
//!
//! Rules with errors are refused here, by every node in the same way, so that no surface has to be
//! trusted to have checked them; the rules in force stay in force.

use std::collections::BTreeMap;

use crate::config::{Findings, Level};
use crate::model::Severity;
use crate::record::{Code, Subject};
use crate::rules::{RuleSet, has_errors, missing_nodes};

use super::{ClusterState, Entry, RecordDraft, Refusal};

/// How many versions are kept.
const KEPT_VERSIONS: usize = 50;

/// Rules and programs together, in bytes: they are part of every snapshot.
const LONGEST_RULES: usize = 512 * 1_024;

/// How many errors a refusal lists.
const MOST_ERRORS: usize = 20;

impl ClusterState {
    /// A new version of rules and programs.
    pub(super) fn save_rules(
        &mut self,
        entry: &mut Entry<'_>,
        text: &str,
        programs: &BTreeMap<String, String>,
        comment: &str,
        based_on: u32,
    ) -> Result<bool, Refusal> {
        let from = self.rules.active;
        if based_on != from {
            return Err(Refusal::new(
                "stale_rules",
                format!(
                    "the rules were made from version {based_on}, but version {from} is in force now"
                ),
                "See what changed: vedette rules diff; then load them again.",
            ));
        }
        let set = RuleSet {
            text: text.into(),
            programs: programs.clone(),
            author: entry.actor.clone(),
            comment: comment.into(),
            at: entry.proposal.at,
        };
        self.check_rules(&set)?;
        let before = self.rules.rules();
        let last = self.rules.versions.keys().next_back().copied().unwrap_or(0);
        let version = last.saturating_add(1);
        self.rules.versions.insert(version, set);
        self.rules.active = version;
        while self.rules.versions.len() > KEPT_VERSIONS {
            self.rules.versions.pop_first();
        }
        self.rearm_changed(&before);
        self.rules_changed(entry, Code::RulesSaved, from, comment);
        Ok(true)
    }

    /// Refuses what must not come into force.
    fn check_rules(&self, set: &RuleSet) -> Result<(), Refusal> {
        let bytes = set.text.len() + set.programs.values().map(String::len).sum::<usize>();
        if bytes > LONGEST_RULES {
            return Err(Refusal::new(
                "bad_rules",
                format!("rules and programs have {bytes} bytes, more than {LONGEST_RULES}"),
                "Move what is long into scripts.",
            ));
        }
        let mut findings = set.check("rules");
        findings.0.extend(missing_nodes("rules", &set.text, &self.node_names()).0);
        if has_errors(&findings) {
            return Err(Refusal::new(
                "bad_rules",
                listed(&findings),
                "Correct them, and check them before: vedette rules check FILE.",
            ));
        }
        let present = self.rules.in_force();
        if present.text == set.text && present.programs == set.programs {
            let what =
                format!("these rules are in force already, as version {}", self.rules.active);
            return Err(Refusal::met("same_rules", what));
        }
        Ok(())
    }

    /// An earlier version is put in force again.
    pub(super) fn roll_back_rules(
        &mut self,
        entry: &mut Entry<'_>,
        to: u32,
    ) -> Result<bool, Refusal> {
        if to != 0 && !self.rules.versions.contains_key(&to) {
            return Err(Refusal::new(
                "unknown_version",
                format!("there is no version {to} of the rules"),
                "List the versions: vedette rules history.",
            ));
        }
        let from = self.rules.active;
        if from == to {
            return Ok(false);
        }
        let before = self.rules.rules();
        self.rules.active = to;
        self.rearm_changed(&before);
        self.rules_changed(entry, Code::RulesRolledBack, from, "");
        Ok(true)
    }

    fn rules_changed(&mut self, entry: &mut Entry<'_>, code: Code, from: u32, comment: &str) {
        let to = self.rules.active;
        let message = format!("version {to} of the rules is in force");
        self.record(
            entry,
            RecordDraft::new(code, Severity::Notice, Subject::Rules, message)
                .change(from, to)
                .because(comment),
        );
    }
}

/// All errors in one sentence.
fn listed(findings: &Findings) -> String {
    let errors: Vec<String> = findings
        .0
        .iter()
        .filter(|finding| finding.level == Level::Error)
        .map(|finding| {
            let line = finding.line.map_or(String::new(), |line| format!(" line {line}"));
            let key =
                if finding.key.is_empty() { String::new() } else { format!(" ({})", finding.key) };
            format!("{}{line}{key}: {}", finding.file, finding.what)
        })
        .collect();
    let noun = if errors.len() == 1 { "error" } else { "errors" };
    let more = errors.len().saturating_sub(MOST_ERRORS);
    let tail = if more > 0 { format!("; and {more} more") } else { String::new() };
    let shown = errors[..errors.len() - more].join("; ");
    format!("the rules have {} {noun}: {shown}{tail}", errors.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Command, Proposal};
    use crate::fixture::Fixture;
    use crate::id::{CommandId, NodeNumber};
    use crate::rules::built_in;
    use crate::state::Outcome;

    const TEXT: &str = "UE_FULL\n0\n/site/full.rp\n2\n0\nfs.used_percent\nNodeNum=*\nX>90\nX<80\n";

    fn command(text: &str, program: &str, based_on: u32) -> Command {
        let programs = BTreeMap::from([("/site/full.rp".to_owned(), program.to_owned())]);
        Command::SaveRules { text: text.into(), programs, comment: "why".into(), based_on }
    }

    fn save(fixture: &mut Fixture, text: &str, program: &str, based_on: u32) {
        fixture.apply(command(text, program, based_on));
    }

    fn refused(fixture: &mut Fixture, command: Command) -> Refusal {
        let proposal = Proposal {
            id: CommandId([0xee; 16]),
            at: fixture.clock,
            origin: NodeNumber(1),
            actor: "root@n1".into(),
            command,
            tick: None,
        };
        let index = fixture.state.revision + 1;
        match fixture.state.apply(index, &proposal).outcome {
            Outcome::Refused(refusal) => refusal,
            other => panic!("{other:?}"),
        }
    }

    /// H16: rules are loaded and rolled back without a restart, each with a record.
    #[test]
    fn rules_are_versions_of_which_one_is_in_force() {
        let mut fixture = Fixture::settled(3);
        assert_eq!(fixture.state.rules.rules().len(), built_in::EVENTS.len());
        save(&mut fixture, TEXT, "all \"a\" X NULL\n", 0);
        assert_eq!(fixture.state.rules.active, 1);
        assert_eq!(fixture.state.rules.rules().len(), built_in::EVENTS.len() + 1);
        let record = fixture.records.last().unwrap().clone();
        assert_eq!((record.code, record.cause.as_str()), (Code::RulesSaved, "why"));
        assert_eq!(record.message, "version 1 of the rules is in force");
        fixture.apply(Command::RollBackRules { to: 0 });
        assert_eq!(fixture.state.rules.active, 0);
        assert_eq!(fixture.records.last().unwrap().code, Code::RulesRolledBack);
        save(&mut fixture, TEXT, "event \"b\" X NULL\n", 0);
        assert_eq!(fixture.state.rules.active, 2, "a number is never used again");
        let missing = refused(&mut fixture, Command::RollBackRules { to: 9 });
        assert_eq!(missing.what, "there is no version 9 of the rules");
    }

    /// H15, H16: what has errors, is stale or the same is refused, and nothing changes.
    #[test]
    fn the_rules_in_force_stay_in_force() {
        let mut fixture = Fixture::settled(3);
        save(&mut fixture, TEXT, "all \"a\" X NULL\n", 0);
        let before = fixture.state.rules.clone();
        let bad = TEXT.replace("X>90", "X>>90").replace("NodeNum=*", "NodeNum");
        let refusal = refused(&mut fixture, command(&bad, "alle \"a X NULL\n", 1));
        assert_eq!(
            refusal.what,
            "the rules have 3 errors: rules line 7 (UE_FULL, instance vector): element 1 of the \
             instance vector, `NodeNum`, has no =; rules line 8 (UE_FULL, predicate): column 3: \
             something is missing before `>`; /site/full.rp line 1: `alle` is no node set"
        );
        let stale =
            refused(&mut fixture, command(&TEXT.replace("90", "95"), "all \"a\" X NULL\n", 0));
        assert_eq!(stale.code, "stale_rules");
        let again = refused(&mut fixture, command(TEXT, "all \"a\" X NULL\n", 1));
        assert_eq!(again.code, "same_rules");
        let huge = refused(&mut fixture, command(TEXT, &"#\n".repeat(LONGEST_RULES), 1));
        assert!(huge.what.contains("more than"), "{huge}");
        assert_eq!(fixture.state.rules, before);
    }

    /// H15: a file of nothing but errors makes a bounded refusal.
    #[test]
    fn a_refusal_is_bounded() {
        let mut fixture = Fixture::settled(1);
        let lines = "nobody \"a\" 0 NULL\n".repeat(3_000);
        let refusal = refused(&mut fixture, command(TEXT, &lines, 0));
        assert!(refusal.what.ends_with("; and 2980 more") && refusal.what.len() < 4_000);
    }
}
