//! What is asked in a story, and answered.

use std::fmt::Write as _;

use vedette_core::document::{self, Document};
use vedette_core::event::{Running, Stage as Step};
use vedette_core::group::{Group, GroupState};
use vedette_core::id::{NetworkNumber, NodeNumber};
use vedette_core::model::{Interface, Node};
use vedette_core::placement::{self, WhatIf};
use vedette_core::rules;
use vedette_core::trigger::StopMode;

use super::super::world::number_of;
use super::Stage;

impl Stage {
    /// The answer, if it is a question.
    pub(super) fn view(&mut self, words: &[&str], text: &str) -> Option<Result<String, String>> {
        Some(Ok(match words {
            ["status"] => self.status(),
            ["interfaces"] => self.interfaces(),
            ["scripts"] => self.scripts(),
            ["managers"] => self.managers(),
            ["groups"] => self.groups(),
            ["group", name] => match self.world.reference.groups.get(*name) {
                Some(group) => self.group(name, group, true),
                None => return Some(Err(format!("no group {name}"))),
            },
            ["events"] => self.events(),
            ["event"] => self.event(),
            ["rules"] => self.rules_in_force(),
            ["rules", "check", rest @ ..] => {
                let text = match super::texts::given(rest, text) {
                    Ok(text) => text,
                    Err(why) => return Some(Err(why)),
                };
                let programs = std::mem::take(&mut self.programs);
                let findings = rules::check("rules", &text, &programs);
                listed(&findings.to_string(), "nothing speaks against it")
            }
            ["config", "check"] => {
                let (_, findings) = document::read(text, &self.world.reference);
                let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
                listed(&lines.join("\n"), "nothing speaks against it")
            }
            ["config", "diff"] => {
                let state = &self.world.reference;
                let (new, _) = document::read(text, state);
                let lines = document::diff(&Document::of(state), &new, state).lines();
                listed(&lines.join("\n"), "nothing changes")
            }
            ["config", "show"] => {
                let text = document::print(&self.world.reference);
                text.lines().fold(String::new(), |all, line| {
                    all + format!("        | {line}").trim_end() + "\n"
                })
            }
            ["config", "history"] => self.config_history(),
            ["plan", "if", rest @ ..] => return Some(self.plan(rest)),
            _ => return None,
        }))
    }

    /// All is well: who is there, and where the groups are.
    pub(super) fn summary(&self) -> String {
        let state = &self.world.reference;
        let names: Vec<&str> = state
            .nodes
            .values()
            .filter(|node| state.manager.members.get(&node.number).is_some_and(|m| m.joined))
            .map(|node| node.name.as_str())
            .collect();
        let director = state.director.map(|node| state.node_name(node)).unwrap_or_default();
        let stable = names.join(", ");
        format!("        stable: {stable}; {director} is director\n{}", self.groups())
    }

    /// What each node can be reached over, and what is left of it.
    fn interfaces(&self) -> String {
        let state = &self.world.reference;
        let line = |node: &Node| {
            let one = |(network, own): (&NetworkNumber, &Interface)| {
                format!("{} {}", state.network_name(*network), own.status)
            };
            let all: Vec<String> = node.interfaces.iter().map(one).collect();
            let left = if state.in_jeopardy(node) { "; only one interface is left" } else { "" };
            format!("        {}: {}{left}\n", node.name, all.join(", "))
        };
        state.nodes.values().map(line).collect()
    }

    fn managers(&self) -> String {
        let state = &self.world.reference;
        let words = state.nodes.values().map(|node| {
            let Some(member) = state.manager.members.get(&node.number) else {
                return format!("{} was never seen", node.name);
            };
            let stopped = match member.stopped {
                Some(StopMode::Graceful) => " (stopped, with its groups)",
                Some(StopMode::Takeover) => " (stopped, others have its groups)",
                Some(StopMode::Forced) => " (stopped by force, its groups go on)",
                None => "",
            };
            let maintenance = if member.maintenance { " (in maintenance)" } else { "" };
            format!("{} {}{stopped}{maintenance}", node.name, member.state)
        });
        format!("        managers: {}\n", words.collect::<Vec<_>>().join(", "))
    }

    fn groups(&self) -> String {
        let groups = self.world.reference.groups.iter();
        groups.map(|(name, group)| self.group(name, group, false)).collect()
    }

    /// Where a group is, and everything that keeps it from being elsewhere.
    fn group(&self, name: &str, group: &Group, resources: bool) -> String {
        let state = &self.world.reference;
        let names = |nodes: &mut dyn Iterator<Item = NodeNumber>| -> String {
            nodes.map(|node| state.node_name(node)).collect::<Vec<_>>().join(", ")
        };
        let mut text = format!("        group {name} is {}", group.state());
        if !group.instances.is_empty() {
            write!(text, " on {}", names(&mut group.instances.keys().copied())).ok();
        }
        for (said, what) in [
            (group.maintenance, "in maintenance".to_owned()),
            (group.is_wanted_off(), "shall be off".into()),
            (group.stopped_for.is_some(), "is kept off by its policy".into()),
            (
                group.held_for.is_some(),
                format!("waits for {}", names(&mut group.held_for.into_iter())),
            ),
            (
                !group.avoid.is_empty(),
                format!("avoids {}", names(&mut group.avoid.iter().copied())),
            ),
        ] {
            if said {
                write!(text, "; {what}").ok();
            }
        }
        for fail in &group.fails {
            let place = state.node_name(fail.node);
            let times =
                if fail.count == 1 { "once".into() } else { format!("{} times", fail.count) };
            write!(text, "; {} failed on {place} {times}", fail.resource).ok();
        }
        if let Some(blocked) = group.blocked.as_ref().filter(|_| group.state() == GroupState::Error)
        {
            write!(text, "; blocked: {}", blocked.why).ok();
        }
        text.push('\n');
        for (node, instance) in group.instances.iter().filter(|_| resources) {
            for (resource, status) in &instance.resources {
                let place = state.node_name(*node);
                writeln!(text, "            {resource} is {} on {place}", status.state).ok();
            }
        }
        text
    }

    fn events(&self) -> String {
        let state = &self.world.reference;
        let running = state.manager.current.as_ref();
        let mut text = running.map_or(String::new(), |running| {
            let what = match running.stage {
                Step::Voting => "is voted on",
                Step::Running => "runs",
                Step::Error => "failed and waits for an operator",
            };
            format!("        {} {what}\n", state.event_label(&running.event))
        });
        for event in &state.manager.queue {
            writeln!(text, "        {} waits", state.event_label(event)).ok();
        }
        if text.is_empty() { "        nothing waits or runs\n".into() } else { text }
    }

    /// How far the event in progress is.
    fn event(&self) -> String {
        let state = &self.world.reference;
        let Some(running) = &state.manager.current else { return self.events() };
        let names = |nodes: Vec<NodeNumber>| -> String {
            let names: Vec<String> = nodes.into_iter().map(|node| state.node_name(node)).collect();
            if names.is_empty() { "nobody".into() } else { names.join(", ") }
        };
        let Running { participants, arrived, failed, phase, program, .. } = running;
        if running.stage == Step::Voting {
            let silent = participants.difference(&running.approvals).copied().collect();
            let by = running.approvals.iter().copied().collect();
            let (by, silent) = (names(by), names(silent));
            return format!("{}        approved by {by}, not yet {silent}\n", self.events());
        }
        let waited = participants.iter().filter(|n| !arrived.contains(n) && !failed.contains(n));
        let waited = names(waited.copied().collect());
        let (at, failed) = (arrived.iter().copied().collect(), failed.iter().copied().collect());
        let (phase, phases) = (phase + 1, program.phases.len());
        let failed: Vec<NodeNumber> = failed;
        let failed = if failed.is_empty() {
            String::new()
        } else {
            format!(", failed on {}", names(failed))
        };
        let at_barrier = names(at);
        format!(
            "{}        phase {phase} of {phases}: at the barrier {at_barrier}, not yet {waited}{failed}\n",
            self.events()
        )
    }

    fn rules_in_force(&self) -> String {
        let store = &self.world.reference.rules;
        let rules = store.rules();
        let own = rules.iter().filter(|rule| rule.is_user_defined());
        let own: Vec<&str> = own.map(|rule| rule.name.as_str()).collect();
        let own = if own.is_empty() { "none".into() } else { own.join(", ") };
        format!(
            "        version {} of the rules is in force: {} rules, user-defined: {own}\n",
            store.active,
            rules.len()
        )
    }

    fn config_history(&self) -> String {
        let documents = &self.world.reference.documents;
        let mut text = String::new();
        for (number, version) in &documents.versions {
            let force = if *number == documents.active { ", in force" } else { "" };
            let comment = if version.comment.is_empty() { "" } else { ": " };
            writeln!(
                text,
                "        version {number}{force}, by {}{comment}{}",
                version.author, version.comment
            )
            .ok();
        }
        if text.is_empty() { "        no configuration was ever applied\n".into() } else { text }
    }

    /// What would happen if nodes were down, up or stopped.
    fn plan(&self, words: &[&str]) -> Result<String, String> {
        let state = &self.world.reference;
        let mut supposed = WhatIf::default();
        let mut node = None;
        for word in words {
            match (word.trim_end_matches(','), node) {
                ("is", _) => {}
                ("down", Some(node)) => supposed.down.push(node),
                ("up", Some(node)) => supposed.up.push(node),
                ("stops", Some(node)) => supposed.stop.push((node, StopMode::Takeover)),
                (name, _) => node = Some(number_of(self.node(name)?)),
            }
        }
        let plan = placement::what_if(state, &supposed);
        let names = |nodes: &[NodeNumber]| -> String {
            nodes.iter().map(|node| state.node_name(*node)).collect::<Vec<_>>().join(", ")
        };
        let mut text = String::new();
        for planned in &plan.moves {
            let (from, to) = (names(&planned.release), names(&planned.acquire));
            let owner = state.groups.get(&planned.group).and_then(Group::owner);
            let owner = owner.map_or("off".into(), |node| state.node_name(node));
            let from = if from.is_empty() { owner } else { from };
            let to = if to.is_empty() { "off".into() } else { to };
            writeln!(text, "        {}: {from} -> {to}: {}", planned.group, planned.reason).ok();
        }
        for stay in &plan.stays {
            writeln!(text, "        {} stays: {}", stay.group, stay.reason).ok();
        }
        Ok(if text.is_empty() { "        nothing would move\n".into() } else { text })
    }

    /// The members with both statuses, and what the cluster waits for.
    fn status(&self) -> String {
        let state = &self.world.reference;
        let mut text = format!("        cluster is {}, {}\n", state.status, state.substate);
        for node in state.nodes.values() {
            let (name, host, agent) = (&node.name, node.host, node.agent);
            writeln!(text, "        {name} {host} {agent} ({})", node.host_cause).ok();
        }
        if !state.seeded {
            let missing: Vec<&str> =
                state.missing_nodes().iter().map(|node| node.name.as_str()).collect();
            writeln!(text, "        waits for {}", missing.join(", ")).ok();
        }
        text
    }

    /// Which node ran the script for what, since this was asked last.
    fn scripts(&mut self) -> String {
        let mut text = String::new();
        for (seq, node) in &self.world.script_runs[self.runs_told..] {
            let history = self.world.history.as_deref().unwrap_or_default();
            let message = history.iter().find(|record| record.seq == *seq).map(|r| &r.message);
            let message = message.map_or("?", String::as_str);
            writeln!(text, "        n{} ran the script: {message}", node + 1).ok();
        }
        self.runs_told = self.world.script_runs.len();
        if text.is_empty() { "        no script ran\n".into() } else { text }
    }
}

/// Findings, a line each.
fn listed(text: &str, nothing: &str) -> String {
    if text.trim().is_empty() {
        return format!("        {nothing}\n");
    }
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines.fold(String::new(), |all, line| all + "        " + line + "\n")
}
