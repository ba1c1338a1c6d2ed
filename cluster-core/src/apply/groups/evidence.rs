//! How it becomes certain that a node has let go ([`LetGo`]), and what is done until it is.
//!
//! An eviction is the only way in which an instance ends without its node's own word. It is
//! proposed by the director, which knows when it heard whom; here only what the state itself can
//! contradict is refused: a lease is not over while the host is up.

use std::collections::BTreeSet;

use crate::apply::manager::orders::unknown_node;
use crate::event::{Fencing, Waiting};
use crate::id::NodeNumber;
use crate::model::{HostStatus, RunOutcome, Severity};
use crate::record::{Code, Subject};
use crate::takeover::LetGo;

use super::{ClusterState, Entry, RecordDraft, Refusal};

impl ClusterState {
    /// All instances of a node end of which that is evidence. The end of a lease says nothing of what was left running
    /// without one, nor of what the node said that it could not stop: what ends with a lease had ended by then.
    pub(in crate::apply) fn evict(
        &mut self,
        entry: &mut Entry<'_>,
        node: NodeNumber,
        evidence: &LetGo,
    ) -> bool {
        if !self.is_evidence(node, evidence) {
            return false;
        }
        let all = matches!(evidence, LetGo::Fenced { .. } | LetGo::Confirmed);
        let ended: Vec<String> = self
            .groups
            .iter()
            .filter(|(_, group)| {
                let has = group.instances.contains_key(&node);
                has && (all || group.ends_with_lease(node))
            })
            .map(|(name, _)| name.clone())
            .filter(|name| self.is_proven(name, node, evidence))
            .filter(|name| self.programs_ended(name, evidence))
            .collect();
        // What was not proven still waits, and is what a fence agent is called for; a node that is back speaks for itself.
        let back = matches!(evidence, LetGo::Released);
        let more = self.groups.iter().any(|(name, group)| {
            let in_time = group.ends_with_lease(node) && self.lease_proves(name, node);
            group.instances.contains_key(&node) && !ended.contains(name) && !in_time && !back
        });
        let asked = !more && self.manager.fencing.remove(&node).is_some();
        if let Some(waiting) = self.manager.takeovers.get_mut(&node) {
            waiting.groups.retain(|name, _| more && !ended.contains(name));
        }
        self.manager.takeovers.retain(|_, waiting| !waiting.groups.is_empty());
        let off = if all { self.also_on(node) } else { Vec::new() };
        if ended.is_empty() && off.is_empty() {
            return asked;
        }
        // Two nodes may run these at this moment, and nobody can know.
        let (doubtful, proven): (Vec<String>, Vec<String>) = ended
            .into_iter()
            .partition(|name| !self.not_covered(node, name, evidence).0.is_empty());
        self.let_go(entry, node, &proven, evidence);
        self.let_go(entry, node, &doubtful, evidence);
        if all {
            self.nothing_runs(entry, node, &evidence.words());
        }
        true
    }

    /// Groups of a node are over there; of all of them something nothing proves, or of none.
    fn let_go(
        &mut self,
        entry: &mut Entry<'_>,
        node: NodeNumber,
        groups: &[String],
        evidence: &LetGo,
    ) {
        if groups.is_empty() {
            return;
        }
        let (place, names) = (self.node_name(node), groups.join(", "));
        let (mut processes, mut data) = (Vec::new(), Vec::new());
        for name in groups {
            let (of_processes, of_data) = self.not_covered(node, name, evidence);
            self.end_instance(name, node);
            self.unblock(name, node);
            self.may_run(entry, name, node, &of_processes);
            processes.extend(of_processes);
            data.extend(of_data);
        }
        let beyond: Vec<&str> = processes.iter().chain(&data).map(String::as_str).collect();
        let mut words = evidence.words();
        if !beyond.is_empty() {
            words = format!("{words}; nothing proves that {} ended there", beyond.join(", "));
        }
        for name in groups {
            entry.causes.insert(name.clone(), words.clone());
        }
        let doubtful = !processes.is_empty();
        let (severity, message) = if doubtful {
            let ran = processes.join(", ");
            let what = format!("takeover of {names} from {place}, where {ran} may still run");
            (Severity::Warning, what)
        } else {
            (Severity::Notice, format!("{place} has let go of {names}"))
        };
        let happening = RecordDraft::new(Code::LetGo, severity, Subject::Node(node), message);
        let happening = self.in_event(entry, happening.because(words), Some(node), None);
        self.record(entry, happening);
    }

    /// What blocked a group on a node is over with its instance there.
    pub(super) fn unblock(&mut self, name: &str, node: NodeNumber) {
        if let Some(group) = self.groups.get_mut(name) {
            group.blocked.take_if(|blocked| blocked.node == Some(node));
        }
    }

    /// An operator is certain that a node is off.
    pub(super) fn confirm_off(
        &mut self,
        entry: &mut Entry<'_>,
        node: NodeNumber,
    ) -> Result<bool, Refusal> {
        let Some(known) = self.nodes.get(&node) else { return Err(unknown_node(node)) };
        if self.is_there(node) {
            return Err(Refusal::new(
                "node_is_up",
                format!("{} is {}, so it is certainly not off", known.name, known.host),
                "Stop its manager if it shall release its groups: vedette stop.",
            ));
        }
        if known.host == HostStatus::Disconnected {
            return Err(Refusal::new(
                "node_is_heard",
                format!(
                    "{} is {}: its beats are heard, so it is certainly not off",
                    known.name, known.host
                ),
                "Switch it off. When nobody hears it any more it is DOWN, and can be confirmed to be off.",
            ));
        }
        let held = self.groups.values().any(|group| group.instances.contains_key(&node));
        if !held && self.also_on(node).is_empty() {
            let what = format!("{} holds nothing that anybody waits for", known.name);
            return Err(Refusal::met("nothing_to_do", what));
        }
        Ok(self.evict(entry, node, &LetGo::Confirmed))
    }

    /// The director says why a takeover has to wait: once for each group and incident.
    pub(super) fn takeover_waits(
        &mut self,
        entry: &mut Entry<'_>,
        node: NodeNumber,
        groups: &BTreeSet<String>,
        why: &str,
    ) -> bool {
        let Some(known) = self.nodes.get(&node) else { return false };
        let incident = known.incident.unwrap_or(0);
        let has = |name: &&String| {
            self.groups.get(*name).is_some_and(|group| group.instances.contains_key(&node))
        };
        let held: Vec<String> = groups.iter().filter(has).cloned().collect();
        let waiting = self.manager.takeovers.entry(node).or_default();
        if waiting.incident != incident {
            *waiting = Waiting { incident, ..Waiting::default() };
        }
        let mut news = Vec::new();
        for name in held {
            if waiting.groups.insert(name.clone(), why.to_owned()).is_none() {
                news.push(name);
            }
        }
        self.manager.takeovers.retain(|_, waiting| !waiting.groups.is_empty());
        if news.is_empty() {
            return false;
        }
        let message = format!("takeover of {} from {} has to wait", news.join(", "), known.name);
        let happening =
            RecordDraft::new(Code::TakeoverWaits, Severity::Error, Subject::Node(node), message);
        let happening =
            self.in_event(entry, happening.because(why).alerting(true), Some(node), None);
        self.record(entry, happening);
        true
    }

    /// A node shall be fenced.
    pub(super) fn fence(
        &mut self,
        entry: &mut Entry<'_>,
        node: NodeNumber,
        by: NodeNumber,
    ) -> Result<bool, Refusal> {
        for number in [node, by] {
            if !self.nodes.contains_key(&number) {
                return Err(unknown_node(number));
            }
        }
        if !self.definition.fencing.contains_key(&node) || node == by {
            return Err(Refusal::new(
                "cannot_fence",
                format!("{} cannot be fenced by {}", self.node_name(node), self.node_name(by)),
                "Configure a fence agent for it; no node fences itself.",
            ));
        }
        let known = self.manager.fencing.get(&node);
        if known.is_some_and(|known| known.by == by && known.failure.is_none()) {
            return Ok(false);
        }
        self.ask_to_fence(entry, node, by, "its groups are to be taken over");
        Ok(true)
    }

    pub(super) fn ask_to_fence(
        &mut self,
        entry: &mut Entry<'_>,
        node: NodeNumber,
        by: NodeNumber,
        why: &str,
    ) {
        let since = entry.proposal.at;
        let attempt = self.manager.fencing.get(&node).map_or(1, |known| known.attempt + 1);
        let fencing = Fencing { by, attempt, since, failure: None };
        self.manager.fencing.insert(node, fencing);
        let (name, caller) = (self.node_name(node), self.node_name(by));
        let message = format!("{name} is to be fenced by {caller}, attempt {attempt}");
        self.fencing_record(entry, node, (Severity::Warning, message, why.into()), false, None);
    }

    fn fencing_record(
        &mut self,
        entry: &mut Entry<'_>,
        node: NodeNumber,
        (severity, message, why): (Severity, String, String),
        alert: bool,
        took: Option<u64>,
    ) {
        let happening = RecordDraft::new(Code::Fencing, severity, Subject::Node(node), message);
        let happening = happening.because(why).alerting(alert);
        let happening = self.in_event(entry, happening, Some(node), took);
        self.record(entry, happening);
    }

    /// A fence agent was called. Its success is evidence.
    pub(super) fn fenced(
        &mut self,
        entry: &mut Entry<'_>,
        node: NodeNumber,
        (by, attempt): (NodeNumber, u32),
        outcome: &RunOutcome,
    ) -> bool {
        let Some(asked) = self.manager.fencing.get_mut(&node) else { return false };
        if (asked.by, asked.attempt) != (by, attempt) || asked.failure.is_some() {
            return false;
        }
        let (name, caller) = (self.node_name(node), self.node_name(by));
        let took = Some(outcome.duration_ms);
        let agent = self.definition.fencing.get(&node).map(|def| def.agent.clone());
        let agent = agent.unwrap_or_else(|| "a fence agent".into());
        if outcome.succeeded() {
            let message = format!("{name} was fenced by {caller} with {agent}");
            self.fencing_record(
                entry,
                node,
                (Severity::Warning, message, with_transcript(outcome.summary(), outcome)),
                true,
                took,
            );
            self.evict(entry, node, &LetGo::Fenced { agent, by });
            return true;
        }
        let why = outcome.summary();
        if let Some(asked) = self.manager.fencing.get_mut(&node) {
            asked.failure = Some(why.clone());
        }
        let printed: String = outcome.output.lines().take(3).collect::<Vec<_>>().join(" / ");
        let cause = if printed.is_empty() { why } else { format!("{why}: {printed}") };
        let cause = with_transcript(cause, outcome);
        let message = format!("{name} could not be fenced by {caller} with {agent}");
        self.fencing_record(entry, node, (Severity::Error, message, cause), true, took);
        true
    }
}

/// What is said of a run, and where all that it printed is kept.
fn with_transcript(said: String, outcome: &RunOutcome) -> String {
    match &outcome.transcript {
        Some(transcript) => format!("{said}; {}", transcript.words()),
        None => said,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::GroupCommand;
    use crate::fixture::Fixture;
    use crate::group::{Release, ResourceKind};
    use crate::record::Record;
    use crate::takeover::{Backing, Remains};

    /// The record of a takeover from a node that lost its lease, and the alerts of it.
    fn taken_over(lost_reaper: bool, group: &str) -> (Record, Vec<String>) {
        let mut fixture = Fixture::with_groups();
        let node = fixture.state.groups[group].owner().expect("an owner");
        if lost_reaper {
            let member = fixture.state.manager.members.get_mut(&node).expect("it");
            member.reaper = Some("it cannot be started".into());
        }
        fixture.node_down(node, "silent");
        fixture.lease_over(node);
        let told = fixture.records.iter().rfind(|it| it.code == Code::LetGo).expect("a record");
        (told.as_ref().clone(), doubts(&fixture))
    }

    /// Alerts that a group may run on two nodes.
    fn doubts(fixture: &Fixture) -> Vec<String> {
        let all = fixture.records.iter().filter(|it| it.code == Code::MultipleActive && it.alert);
        all.map(|it| format!("{}: {}", it.message, it.cause)).collect()
    }

    /// F2: where two processes that stand still are enough for two owners, the takeover itself says so, and alerts.
    #[test]
    fn f2_a_takeover_that_proves_less_alerts() {
        let (fine, nothing) = taken_over(false, "web");
        assert!(nothing.is_empty() && !fine.cause.contains("nothing proves"), "{}", fine.cause);
        let (doubtful, told) = taken_over(true, "web");
        let what = "; nothing proves that worker, httpd ended there";
        assert!(doubtful.cause.ends_with(what), "{}", doubtful.cause);
        let what = "group web may also run on n1: nothing proves that httpd ended there";
        assert!(told.iter().any(|it| it == what), "{told:?}");
        let what = "takeover of batch, web from n1, where worker, httpd may still run";
        assert_eq!((doubtful.message.as_str(), fine.message.contains("has let go")), (what, true));
    }

    /// R1: what nothing proved to have ended may run there, and that is said until the node has looked, or is
    /// certainly off; what it then sees is a sighting as any other one.
    #[test]
    fn r1_what_is_not_proven_is_in_doubt_until_somebody_looks() {
        let mut fixture = Fixture::with_groups();
        let node = fixture.state.groups["web"].owner().expect("an owner");
        fixture.state.manager.members.get_mut(&node).expect("it").reaper = Some("none".into());
        fixture.node_down(node, "silent");
        fixture.lease_over(node);
        let runs = |fixture: &Fixture| {
            fixture.state.runs_besides(&fixture.state.groups["web"], "httpd", node)
        };
        assert_eq!(runs(&fixture), None);
        let web = fixture.state.clone();
        fixture.group(GroupCommand::ConfirmOff { node });
        assert_eq!(runs(&fixture), Some(false));
        for seen in [true, false] {
            fixture.state = web.clone();
            fixture.returns(node);
            assert_eq!(runs(&fixture), None, "it has not looked yet");
            let resources = seen.then(|| "httpd".to_owned()).into_iter().collect();
            fixture.group(GroupCommand::Sighted { group: "web".into(), node, resources });
            assert_eq!(runs(&fixture), Some(seen));
            let told = fixture.records.iter().rfind(|it| it.code == Code::MultipleActive);
            let told = told.map(|it| it.message.as_str()).unwrap_or_default();
            assert!(
                told.contains(if seen { "web runs on n1" } else { "does not run on n1" }),
                "{told}"
            );
        }
    }

    /// Nobody but an agent unmounts, reaper or not. Data is taken over from a silent node where a watchdog ends that, or
    /// where the operator trusts guards; he knows what it stands on, and it pages nobody.
    #[test]
    fn f2_a_takeover_of_data_says_what_it_stands_on() {
        let mut fixture = Fixture::with_groups();
        let node = fixture.state.groups["db"].owner().expect("an owner");
        fixture.node_down(node, "silent");
        fixture.lease_over(node);
        assert_eq!(fixture.state.groups["db"].owner(), Some(node), "only an agent unmounts");
        fixture.state.definition.manager.trust_guard = true;
        fixture.lease_over(node);
        let data = fixture.records.iter().rfind(|it| it.code == Code::LetGo).expect("a record");
        assert!(
            doubts(&fixture).is_empty()
                && data.cause.contains("; nothing proves that vg_db, db_data ended"),
            "{}",
            data.cause
        );
    }

    /// Findings case 02: what a node found to run where no lease ends it is not said to be over.
    #[test]
    fn f2_what_runs_outside_is_named_and_alerts() {
        let mut fixture = Fixture::with_groups();
        let node = fixture.state.groups["web"].owner().expect("an owner");
        let token = fixture.token("web", node).expect("a token");
        let (group, resources) = ("web".to_owned(), ["httpd".to_owned()].into());
        fixture.group(GroupCommand::Outside { group, node, token, resources });
        let notes = crate::document::notes(&fixture.state);
        assert!(notes.iter().any(|it| it.contains("ends httpd of web on n1:")), "{notes:?}");
        fixture.node_down(node, "silent");
        fixture.lease_over(node);
        let told = fixture.records.iter().rfind(|it| it.code == Code::LetGo).expect("a record");
        assert!(told.cause.contains("nothing proves that httpd ended"), "{told:?}");
        assert_eq!(doubts(&fixture).len(), 1);
        assert!(fixture.state.groups["web"].outside.is_empty(), "it is over with the instance");
    }

    /// A strict configuration waits for the group whose release nothing proves, and for no other of its node.
    #[test]
    fn r7_strict_holds_up_its_own_group() {
        let mut fixture = Fixture::with_groups();
        fixture.state.definition.manager.strict = true;
        let node = fixture.state.groups["web"].owner().expect("an owner");
        fixture.group(GroupCommand::Outside {
            group: "web".into(),
            node,
            token: fixture.token("web", node).expect("a token"),
            resources: ["httpd".to_owned()].into(),
        });
        fixture.node_down(node, "silent");
        let why = "only processes end httpd".to_owned();
        let groups = ["web".to_owned()].into();
        fixture.group(GroupCommand::Waits { node, groups, why: why.clone() });
        let told = |fixture: &Fixture, code| {
            let of = fixture.records.iter().rfind(|it| it.code == code);
            of.map(|it| it.message.clone()).unwrap_or_default()
        };
        assert_eq!(told(&fixture, Code::TakeoverWaits), "takeover of web from n1 has to wait");
        fixture.lease_over(node);
        let has = |fixture: &Fixture, group: &str| {
            fixture.state.groups[group].instances.contains_key(&node)
        };
        assert!(has(&fixture, "web") && !has(&fixture, "batch"), "batch alone is over");
        let waits = |fixture: &Fixture, group: &str| {
            fixture.state.takeover_waits_for(group, node).map(str::to_owned)
        };
        assert_eq!((waits(&fixture, "web"), waits(&fixture, "batch")), (Some(why), None));
        fixture.group(GroupCommand::ConfirmOff { node });
        assert!(!has(&fixture, "web") && fixture.state.manager.takeovers.is_empty());
    }

    /// A node that could not stop a group goes away, and its lease is over for its other ones: what waits for evidence
    /// is shown until there is some, and its fencing goes on.
    #[test]
    fn r7_what_waits_is_shown_though_others_are_over() {
        let mut fixture = Fixture::with_groups();
        let node = fixture.state.groups["web"].owner().expect("an owner");
        fixture.state.groups.get_mut("web").expect("it").unreleased.insert(node);
        fixture.node_down(node, "silent");
        let groups = ["web".to_owned()].into();
        fixture.group(GroupCommand::Waits { node, groups, why: "it could not stop it".into() });
        let (by, since) = (NodeNumber(2), fixture.clock);
        let fencing = Fencing { by, attempt: 1, since, failure: None };
        fixture.state.manager.fencing.insert(node, fencing);
        fixture.lease_over(node);
        let has = |name: &str| fixture.state.groups[name].instances.contains_key(&node);
        assert!(has("web") && !has("batch"), "batch alone is over");
        assert!(fixture.state.manager.fencing.contains_key(&node));
        assert_eq!(fixture.state.takeover_waits_for("web", node), Some("it could not stop it"));
    }

    /// What a guard says it has not let go of yet is not over by its epoch; everything else is.
    #[test]
    fn r7_an_epoch_says_what_remains() {
        let mut fixture = Fixture::with_groups();
        let node = fixture.state.groups["web"].owner().expect("an owner");
        let remains = Remains::default().with(fixture.state.groups["web"].number);
        fixture.node_down(node, "it cannot be reached");
        let epoch = fixture.state.manager.members[&node].epoch + 1;
        let mut heard = |remains| {
            let evidence = LetGo::Epoch { epoch, remains };
            fixture.group(GroupCommand::Evict { node, evidence });
            let has = |group: &str| fixture.state.groups[group].instances.contains_key(&node);
            (has("web"), has("batch"))
        };
        assert_eq!(heard(remains), (true, false));
        assert_eq!(heard(Remains::default()), (false, false));
    }

    /// What a release program has to take away waits for that; nothing else of the node does.
    #[test]
    fn r7_release_programs_hold_up_their_own_group() {
        let mut fixture = Fixture::with_groups();
        let node = fixture.state.groups["web"].owner().expect("an owner");
        let release = Release { program: vec!["/bin/true".into()], within_ms: 8_000 };
        let web = fixture.state.definition.groups.iter_mut().find(|it| it.name == "web");
        for def in &mut web.expect("it").resources {
            if let ResourceKind::Application { release: of, .. } = &mut def.kind {
                *of = Some(release.clone());
            }
        }
        fixture.node_down(node, "silent");
        let mut over = |programs_ms| {
            let evidence = LetGo::LeaseOver { silent_ms: 9, backing: Backing::Kernel, programs_ms };
            fixture.group(GroupCommand::Evict { node, evidence });
            let has = |group: &str| fixture.state.groups[group].instances.contains_key(&node);
            (has("web"), has("batch"))
        };
        assert_eq!(over(7_999), (true, false));
        assert_eq!(over(8_000), (false, false));
    }
}
