//! The event in progress: the vote, phases, barriers (spec H12, H17, H18).
//!
//! Whoever has nothing to run in a phase waits at its barrier from the start. Whoever dies is not
//! waited for any more. So a phase is over when everybody who still takes part has arrived, and
//! that is looked at after every command, not only after an arrival.

use std::collections::{BTreeMap, BTreeSet};

use crate::definition::OnFailure;
use crate::event::{CommandOutcome, Event, Running, Stage, Step};
use crate::group::GroupState;
use crate::id::NodeNumber;
use crate::model::{RunOutcome, Severity};
use crate::plan::{Move, Plan};
use crate::record::Code;
use crate::rules::{Program, ProgramLine};
use crate::trigger::Trigger;

use super::policy::policy_words;
use super::{ClusterState, Entry, ms_between, step_of};

/// How many steps of an event are kept in the state; the history has all.
const MOST_STEPS: usize = 256;

/// Key of an attempt, by which an answer is known to be one of now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AttemptKey {
    pub(super) event: u64,
    pub(super) phase: usize,
    pub(super) attempt: u32,
}

impl AttemptKey {
    fn of(running: &Running) -> Self {
        Self { event: running.event.id, phase: running.phase, attempt: running.attempt }
    }
}

impl ClusterState {
    /// The queue has settled.
    pub(super) fn begin_vote(&mut self, entry: &mut Entry<'_>, event: u64) -> bool {
        let Some(next) = self.manager.next().filter(|next| next.id == event) else { return false };
        let label = self.event_label(next);
        self.step_aside(entry, &label);
        self.start_vote(entry);
        true
    }

    fn start_vote(&mut self, entry: &mut Entry<'_>) {
        let Some(id) = self.manager.next().map(|next| next.id) else { return };
        let Some(place) = self.manager.queue.iter().position(|event| event.id == id) else {
            return;
        };
        let event = self.manager.queue.remove(place);
        let at = entry.proposal.at;
        let participants = self.participants(&event.trigger);
        let message =
            format!("vote on {} by {}", self.event_label(&event), self.names(&participants));
        self.record(entry, step_of(&event, Code::EventVote, Severity::Informational, message));
        self.manager.current = Some(Running {
            event,
            stage: Stage::Voting,
            since: at,
            began: at,
            participants,
            approvals: BTreeSet::new(),
            silent: BTreeSet::new(),
            program: Program::default(),
            plan: Plan::default(),
            phase: 0,
            attempt: 0,
            outcomes: BTreeMap::new(),
            arrived: BTreeSet::new(),
            failed: BTreeSet::new(),
            too_long: false,
            time_limit_ms: None,
            ends_ms: None,
            overran: false,
            skipped: false,
            awaited_ms: None,
            slow: false,
            settled: false,
            steps: Vec::new(),
        });
    }

    /// Who takes part: joined managers whose hosts are there; who joins is among them, who failed
    /// is not, even if its host is there again.
    fn participants(&self, trigger: &Trigger) -> BTreeSet<NodeNumber> {
        let takes_part = |node: NodeNumber, joined: bool| match trigger {
            Trigger::NodeUp(joining) if *joining == node => true,
            Trigger::NodeDown { node: failed, stop: None } if *failed == node => false,
            _ => joined,
        };
        self.manager
            .members
            .iter()
            .filter(|(node, member)| takes_part(**node, member.joined) && self.can_answer(**node))
            .map(|(node, _)| *node)
            .collect()
    }

    /// Nodes that are gone, or whose agents are, are waited for no longer; if they were all that failed,
    /// nothing has.
    pub(super) fn drop_participants(&mut self) {
        self.forget_the_absent();
        let waited_for = |running: &Running| {
            let nodes = running.participants.iter().copied();
            let nodes = nodes.filter(|node| self.is_waited_for(running, *node));
            (running.event.id, nodes.collect())
        };
        let kept: Vec<(u64, BTreeSet<NodeNumber>)> = self.manager.begun().map(waited_for).collect();
        for (event, nodes) in kept {
            if let Some(running) = self.manager.begun_mut(event) {
                running.participants = nodes;
                running.keep_participants();
            }
        }
    }

    /// A vote on an event gives way to one of a higher rank.
    pub(super) fn give_way(&mut self, entry: &mut Entry<'_>) {
        let free =
            |event: &&Event| self.manager.aside.iter().all(|it| !it.holds_up(&event.trigger));
        let Some(first) = self.manager.queue.iter().find(free) else { return };
        let (rank, label) = (first.trigger.rank(), self.event_label(first));
        let outranked = |running: &mut Running| {
            running.stage == Stage::Voting && rank < running.event.trigger.rank()
        };
        let Some(running) = self.manager.current.take_if(outranked) else { return };
        let given_up = self.event_label(&running.event);
        let message = format!("vote on {given_up} gives way to {label}");
        let step = step_of(&running.event, Code::EventVote, Severity::Informational, message);
        self.record(entry, step);
        self.insert_event(running.event);
        self.start_vote(entry);
    }

    pub(super) fn approve(&mut self, event: u64, node: NodeNumber) -> bool {
        let Some(running) = &mut self.manager.current else { return false };
        running.event.id == event
            && running.stage == Stage::Voting
            && running.participants.contains(&node)
            && running.approvals.insert(node)
    }

    /// Events go on as far as they can without anybody's answer: the one in progress, and those that do so aside.
    pub(super) fn proceed(&mut self, entry: &mut Entry<'_>) {
        self.conclude_vote(entry);
        let begun: Vec<u64> = self.manager.begun().map(|running| running.event.id).collect();
        for event in begun {
            loop {
                self.grant(entry, event);
                self.follow_policy(entry, event);
                if !self.pass_barrier(entry, event) {
                    break;
                }
            }
        }
        // What is released for another node is recorded as that, before it is left to another event.
        self.record_groups(entry);
        self.give_up_the_rest();
    }

    fn conclude_vote(&mut self, entry: &mut Entry<'_>) {
        self.approve_for_the_absent();
        let Some(running) = &self.manager.current else { return };
        if running.stage != Stage::Voting || !running.participants.is_subset(&running.approvals) {
            return;
        }
        let event = running.event.clone();
        let took = ms_between(running.since, entry.proposal.at);
        let by = self.names(running.participants.difference(&running.silent));
        self.prepare(&event.trigger);
        let plan = self.plan(&event.trigger);
        let message = format!("{} was approved by {by}", self.event_label(&event));
        let step = step_of(&event, Code::EventVote, Severity::Informational, message)
            .because(self.plan_words(&plan))
            .of_event(event.id, None, Some(took));
        self.record(entry, step);
        let Some(program) = self.rules.program(&event.trigger) else {
            self.end_event(entry, event.id, "no rule");
            return;
        };
        let (elapsed_ms, limit) = (self.timeline.elapsed_ms(), self.time_limit_of(&event.trigger));
        let patience_ms = self.patience_ms();
        if let Some(running) = &mut self.manager.current {
            let needs = |node: &NodeNumber| {
                event.trigger.node() == Some(*node) || plan.moves.iter().any(|it| it.is_for(*node))
            };
            let silent = &running.silent;
            running.participants.retain(|node| !silent.contains(node) || needs(node));
            running.keep_participants();
            (running.stage, running.plan, running.program) = (Stage::Running, plan, program);
            running.time_limit_ms = limit;
            running.begin_anew(elapsed_ms, patience_ms);
        }
        self.begin_phase(entry, event.id, 0);
    }

    fn begin_phase(&mut self, entry: &mut Entry<'_>, event: u64, phase: usize) {
        let at = entry.proposal.at;
        let Some(running) = self.manager.begun_mut(event) else { return };
        let count = running.program.phases.len();
        if phase >= count {
            let how = if running.skipped { "completed after skip" } else { "completed" };
            self.end_event(entry, event, how);
            return;
        }
        (running.phase, running.attempt, running.since) = (phase, 0, at);
        running.stage = Stage::Running;
        running.outcomes.clear();
        running.failed.clear();
        let idle = |node: &NodeNumber| running.commands(phase, *node).is_empty();
        running.arrived = running.participants.iter().copied().filter(idle).collect();
        if running.arrived == running.participants {
            return;
        }
        let running = running.clone();
        let (event, words) = (&running.event, self.phase_words(&running));
        let message = format!("phase {} of {count} of {}", phase + 1, self.event_label(event));
        let step = step_of(event, Code::EventPhase, Severity::Informational, message);
        self.record(entry, step.because(words));
    }

    /// Commands of its phase and their nodes, such as `node_down on n2, n3`.
    fn phase_words(&self, running: &Running) -> String {
        let mut nodes: BTreeMap<usize, (&ProgramLine, Vec<NodeNumber>)> = BTreeMap::new();
        for node in &running.participants {
            for (place, line) in running.commands(running.phase, *node) {
                nodes.entry(place).or_insert((line, Vec::new())).1.push(*node);
            }
        }
        let words = |(line, nodes): &(&ProgramLine, Vec<NodeNumber>)| {
            format!("{} on {}", line.command, self.names(nodes))
        };
        nodes.values().map(words).collect::<Vec<String>>().join("; ")
    }

    /// Goes to the next phase if everybody has arrived.
    fn pass_barrier(&mut self, entry: &mut Entry<'_>, event: u64) -> bool {
        let Some(running) = self.manager.begun_mut(event) else { return false };
        if !running.is_complete() {
            return false;
        }
        running.keep_steps();
        let next = running.phase + 1;
        self.begin_phase(entry, event, next);
        true
    }

    /// The running event, if an answer of `node` for that moment means anything now: the node takes
    /// part, and has neither arrived nor failed yet.
    fn awaits(&self, attempt: AttemptKey, node: NodeNumber) -> Option<&Running> {
        self.manager.begun().find(|running| {
            AttemptKey::of(running) == attempt
                && running.stage != Stage::Voting
                && running.participants.contains(&node)
                && !running.arrived.contains(&node)
                && !running.failed.contains(&node)
        })
    }

    pub(super) fn ran(
        &mut self,
        entry: &mut Entry<'_>,
        attempt: AttemptKey,
        node: NodeNumber,
        outcomes: &[CommandOutcome],
    ) -> bool {
        let Some(running) = self.awaits(attempt, node) else { return false };
        let pending: BTreeSet<usize> = running.pending(node).iter().map(|(at, _)| *at).collect();
        let event = running.event.clone();
        let mut answers: Vec<CommandOutcome> =
            outcomes.iter().filter(|outcome| pending.contains(&outcome.index)).cloned().collect();
        answers.sort_by_key(|outcome| outcome.index);
        answers.dedup_by_key(|outcome| outcome.index);
        for outcome in &answers {
            self.record_command(entry, &event, node, outcome);
        }
        let Some(running) = self.manager.begun_mut(event.id) else { return false };
        running.outcomes.entry(node).or_default().extend(answers.iter().cloned());
        if running.pending(node).is_empty() {
            running.arrived.insert(node);
        } else {
            running.failed.insert(node);
            running.stage = Stage::Error;
            self.record_failure(entry, &event, node, &answers);
        }
        true
    }

    fn record_command(
        &mut self,
        entry: &mut Entry<'_>,
        event: &Event,
        node: NodeNumber,
        outcome: &CommandOutcome,
    ) {
        let ended = outcome.ended();
        let again =
            if outcome.runs > 1 { format!(", run {} times", outcome.runs) } else { "".into() };
        let message = format!("{} on {}: {ended}{again}", outcome.command, self.node_name(node));
        let severity = if outcome.expected { Severity::Informational } else { Severity::Warning };
        let step = step_of(event, Code::EventCommand, severity, message).of_event(
            event.id,
            Some(node),
            Some(outcome.outcome.duration_ms),
        );
        self.record(entry, step.because(outcome.told_with_transcript()));
    }

    /// The alert that says which command on which node printed what.
    fn record_failure(
        &mut self,
        entry: &mut Entry<'_>,
        event: &Event,
        node: NodeNumber,
        answers: &[CommandOutcome],
    ) {
        let (label, name) = (self.event_label(event), self.node_name(node));
        let failed = answers.iter().find(|outcome| !outcome.expected);
        let (what, said) = failed.map_or_else(
            || ("it did not say how its commands ended".to_owned(), String::new()),
            |outcome| {
                let what = format!("{}: {}", outcome.command, outcome.ended());
                (what, outcome.told_with_transcript())
            },
        );
        let said = if said.is_empty() { "it printed nothing".into() } else { said };
        let policy = self.on_failure(&event.trigger);
        let (advice, cause) = match self.stuck(event.id, node).as_slice() {
            [] => (policy_words(policy, event.id), said),
            stuck => {
                let names: Vec<&str> = stuck.iter().map(|(group, _)| *group).collect();
                let whys: Vec<&str> = stuck.iter().map(|(_, why)| *why).collect();
                let advice = format!(
                    "stop by hand on {name} what is left of {}, then: vedette recover retry --event {}",
                    names.join(", "),
                    event.id
                );
                let rest = "skip or abort leave it there, and no other node starts it";
                (advice, format!("{}; {rest}", whys.join("; ")))
            }
        };
        let message = format!("{label} failed on {name}, {what}; {advice}");
        let severity = if policy == OnFailure::Wait { Severity::Error } else { Severity::Warning };
        let step = step_of(event, Code::EventFailed, severity, message);
        self.record(entry, step.because(cause).of_event(event.id, Some(node), None).alerting(true));
    }

    /// Nodes that have arrived without groups that nodes which failed were to release.
    pub(super) fn waited_in_vain(&self, running: &Running) -> BTreeSet<NodeNumber> {
        let held_up =
            |planned: &&Move| planned.release.iter().any(|it| running.failed.contains(it));
        let moves = running.plan.moves.iter().filter(held_up);
        let acquirers =
            moves.flat_map(|it| it.acquire.iter().map(move |node| (it.group.as_str(), *node)));
        acquirers
            .filter(|(_, node)| running.arrived.contains(node))
            .filter(|(group, node)| self.instance_state(group, *node) != Some(GroupState::Online))
            .filter(|(_, node)| !running.commands(running.phase, *node).is_empty())
            .map(|(_, node)| node)
            .collect()
    }

    /// Groups that a node is to release in an event and could not, and why.
    fn stuck(&self, event: u64, node: NodeNumber) -> Vec<(&str, &str)> {
        let mut begun = self.manager.begun();
        let Some(running) = begun.find(|it| it.event.id == event) else { return Vec::new() };
        let blocked = |name: &str| {
            let blocked = self.groups.get(name)?.blocked.as_ref()?;
            (blocked.node == Some(node)).then_some(blocked.why.as_str())
        };
        let releases = running.plan.releases(node);
        releases.filter_map(|name| Some((name, blocked(name)?))).collect()
    }

    /// A participant gives no answer: in a vote it cannot object, in a phase it has failed.
    pub(super) fn expire(
        &mut self,
        entry: &mut Entry<'_>,
        attempt: AttemptKey,
        node: NodeNumber,
    ) -> bool {
        let name = self.node_name(node);
        let voting = |it: &&Running| it.event.id == attempt.event && it.stage == Stage::Voting;
        if let Some(running) = self.manager.current.as_ref().filter(voting) {
            let event = running.event.clone();
            if !self.approve(attempt.event, node) {
                return false;
            }
            if let Some(running) = &mut self.manager.current {
                running.silent.insert(node);
            }
            let message =
                format!("{name} gives no answer to the vote on {}", self.event_label(&event));
            let step = step_of(&event, Code::EventVote, Severity::Warning, message).of_event(
                event.id,
                Some(node),
                None,
            );
            self.record(entry, step.because("the event goes on without its approval"));
            return true;
        }
        let Some(running) = self.awaits(attempt, node) else { return false };
        let took = ms_between(running.since, entry.proposal.at);
        let silent = |(index, line): &(usize, &ProgramLine)| CommandOutcome {
            index: *index,
            command: line.command.clone(),
            expected: false,
            runs: 1,
            outcome: no_answer(took),
        };
        let outcomes: Vec<CommandOutcome> = running.pending(node).iter().map(silent).collect();
        self.ran(entry, attempt, node, &outcomes)
    }

    pub(super) fn too_long(&mut self, entry: &mut Entry<'_>, event: u64) -> bool {
        let running = self.manager.begun_mut(event).filter(|running| !running.too_long);
        let Some(running) = running else { return false };
        running.too_long = true;
        let took = ms_between(running.began, entry.proposal.at);
        let failed: Vec<NodeNumber> = running.failed.iter().copied().collect();
        let waited: Vec<NodeNumber> =
            running.participants.difference(&running.arrived).copied().collect();
        let event = running.event.clone();
        let why = if failed.is_empty() {
            format!("waiting for {}", self.names(&waited))
        } else {
            format!(
                "it failed on {} and waits for an operator: vedette recover show",
                self.names(&failed)
            )
        };
        let message = format!("{} has been running for {took} ms", self.event_label(&event));
        let step = step_of(&event, Code::EventTooLong, Severity::Warning, message)
            .because(why)
            .of_event(event.id, None, Some(took));
        self.record(entry, step.alerting(true));
        true
    }
}

impl Running {
    fn keep_participants(&mut self) {
        let Self { participants, approvals, arrived, failed, .. } = self;
        for nodes in [approvals, arrived, failed] {
            nodes.retain(|node| participants.contains(node));
        }
        if self.stage == Stage::Error && self.failed.is_empty() {
            self.stage = Stage::Running;
        }
    }

    /// Keeps what ran in the phase for those who look back.
    pub(super) fn keep_steps(&mut self) {
        for (node, outcomes) in std::mem::take(&mut self.outcomes) {
            self.steps.extend(outcomes.into_iter().map(|ran| step(self.phase, node, &ran)));
        }
        self.bound_steps();
    }

    /// The failed nodes try again, and those that waited in vain for what they were to release: what did not end as
    /// it should becomes a step of the past.
    pub(super) fn try_again(&mut self, waited: &BTreeSet<NodeNumber>) {
        let phase = self.phase;
        for (node, outcomes) in &mut self.outcomes {
            for over in outcomes.extract_if(.., |it| !it.expected || waited.contains(node)) {
                self.steps.push(step(phase, *node, &over));
            }
        }
        self.arrived.retain(|node| !waited.contains(node));
        self.failed.clear();
        self.attempt += 1;
        self.stage = Stage::Running;
        self.bound_steps();
    }

    fn bound_steps(&mut self) {
        let surplus = self.steps.len().saturating_sub(MOST_STEPS);
        self.steps.drain(..surplus);
    }
}

fn step(phase: usize, node: NodeNumber, ran: &CommandOutcome) -> Step {
    Step {
        phase,
        node,
        command: ran.command.clone(),
        result: ran.result(),
        duration_ms: ran.outcome.duration_ms,
    }
}

fn no_answer(duration_ms: u64) -> RunOutcome {
    RunOutcome {
        exit: None,
        signal: None,
        timed_out: true,
        failure: None,
        output: String::new(),
        output_dropped: 0,
        duration_ms,
        version: 0,
        transcript: None,
    }
}
