//! What operators order: stop and start of managers, maintenance, and how a failed event goes on.
//!
//! Each order is refused with what stands in its way. What an order leads to is not done here: a
//! stop marks the member, and `queue` makes an event of it.

use std::collections::BTreeSet;

use crate::command::Scope;
use crate::event::{Event, RecoverAction, Running, Stage};
use crate::id::NodeNumber;
use crate::model::Severity;
use crate::record::{Code, Subject};
use crate::trigger::{StopMode, Trigger};

use super::{ClusterState, Entry, RecordDraft, Refusal, step_of};

/// How an event ended that an operator ended.
const ABORTED: &str = "aborted";

impl ClusterState {
    /// An operator continues a failed event, or ends one for which others do not wait.
    pub(in crate::apply) fn recover(
        &mut self,
        entry: &mut Entry<'_>,
        event: u64,
        action: RecoverAction,
    ) -> Result<bool, Refusal> {
        if action == RecoverAction::Abort && self.end_early(entry, event) {
            return Ok(true);
        }
        self.check_recovery(event, action)?;
        self.bring_back(event);
        let (elapsed_ms, patience_ms) = (self.timeline.elapsed_ms(), self.patience_ms());
        let waited = self.manager.current.as_ref().map(|running| self.waited_in_vain(running));
        let Some(running) = &mut self.manager.current else { return Ok(false) };
        running.begin_anew(elapsed_ms, patience_ms);
        let failed: Vec<NodeNumber> = running.failed.iter().copied().collect();
        match action {
            RecoverAction::Retry => running.try_again(&waited.unwrap_or_default()),
            RecoverAction::Skip => {
                running.arrived.extend(std::mem::take(&mut running.failed));
                (running.skipped, running.stage) = (true, Stage::Running);
            }
            RecoverAction::Abort => {}
        }
        let event = running.event.clone();
        let what = match action {
            RecoverAction::Retry => "what failed is run again",
            RecoverAction::Skip => "what failed is skipped",
            RecoverAction::Abort => "it is aborted",
        };
        let message = format!("{}: {what}", self.event_label(&event));
        let step = step_of(&event, Code::EventRecovered, Severity::Notice, message)
            .change("error", action)
            .because(format!("it had failed on {}", self.names(&failed)));
        self.record(entry, step);
        if action == RecoverAction::Abort {
            self.end_event(entry, event.id, ABORTED);
        }
        Ok(true)
    }

    /// An event that stepped aside is the one in progress again; nobody waits for the other one either.
    fn bring_back(&mut self, event: u64) {
        let Some(place) = self.manager.aside.iter().position(|it| it.event.id == event) else {
            return;
        };
        let running = self.manager.aside.remove(place);
        self.set_aside_current();
        self.manager.current = Some(running);
    }

    /// A user-defined event is ended wherever it is, with its commands: it moves no groups, so nothing of it is
    /// left half done that anybody else relies on. So is any other one that goes on beside others: what it was acquiring
    /// is given back, and what it was releasing is released all the same. Answers whether it was such a one.
    fn end_early(&mut self, entry: &mut Entry<'_>, id: u64) -> bool {
        let is_it = |event: &Event| event.id == id && matches!(event.trigger, Trigger::User { .. });
        if let Some(place) = self.manager.queue.iter().position(is_it) {
            let event = self.manager.queue.remove(place);
            self.say_ended(entry, &event, ("waiting", "it waited and had not begun".into()));
            self.end_unbegun(entry, event, ABORTED);
            return true;
        }
        let may_end = |running: &&Running| {
            is_it(&running.event) || (running.event.id == id && running.may_run_aside())
        };
        let Some(running) = self.manager.begun().find(may_end) else { return false };
        let event = running.event.clone();
        let busy =
            |node: &&NodeNumber| !running.arrived.contains(node) && !running.failed.contains(node);
        let busy = self.names(running.participants.iter().filter(busy));
        let said = match running.stage {
            Stage::Voting => ("voting", "it had not begun".into()),
            Stage::Running => {
                ("running", format!("its commands still ran on {busy}, and are ended"))
            }
            Stage::Error => ("error", format!("it had failed on {}", self.names(&running.failed))),
        };
        self.say_ended(entry, &event, said);
        self.end_event(entry, id, ABORTED);
        true
    }

    fn say_ended(&mut self, entry: &mut Entry<'_>, event: &Event, (from, why): (&str, String)) {
        let message = format!("{}: it is aborted", self.event_label(event));
        let step = step_of(event, Code::EventRecovered, Severity::Notice, message)
            .change(from, RecoverAction::Abort)
            .because(why);
        self.record(entry, step);
    }

    pub(in crate::apply) fn check_recovery(
        &self,
        event: u64,
        action: RecoverAction,
    ) -> Result<(), Refusal> {
        let Some(running) = self.manager.begun().find(|it| it.event.id == event) else {
            return Err(self.no_such_event(event, action));
        };
        let other = self.manager.current.as_ref().filter(|it| it.event.id != event);
        if let Some(other) = other.filter(|_| !self.manager.is_open()) {
            return Err(Refusal::new(
                "another_event_runs",
                format!(
                    "{} has stepped aside for {}",
                    self.event_label(&running.event),
                    self.event_label(&other.event)
                ),
                "Wait until that is over: vedette event show.",
            ));
        }
        if running.stage != Stage::Error {
            let what = format!("{} has not failed", self.event_label(&running.event));
            let advice = "See what it waits for: vedette event show.";
            // It goes on, which is what whoever retries or skips wants.
            return Err(match action {
                RecoverAction::Abort => Refusal::new("not_failed", what, advice),
                RecoverAction::Retry | RecoverAction::Skip => Refusal::met("not_failed", what),
            });
        }
        let busy: Vec<NodeNumber> = running
            .participants
            .iter()
            .copied()
            .filter(|node| !running.arrived.contains(node) && !running.failed.contains(node))
            .collect();
        if action == RecoverAction::Retry && !busy.is_empty() {
            return Err(Refusal::new(
                "still_running",
                format!("commands of this phase still run on {}", self.names(&busy)),
                "Wait until they have ended, then retry.",
            ));
        }
        Ok(())
    }

    /// An event that is over needs no recovery; whoever wanted it aborted, or completed, has that.
    fn no_such_event(&self, event: u64, action: RecoverAction) -> Refusal {
        const SHOW: &str = "See what waits and runs: vedette event show.";
        let ended_as_wanted =
            |how: &str| action == RecoverAction::Abort || !how.starts_with("aborted");
        let mut recent = self.manager.recent.iter();
        if let Some(ended) = recent.find(|ended| ended.event.id == event) {
            let what = format!(
                "{} has ended ({}) at {}",
                self.event_label(&ended.event),
                ended.how,
                ended.ended
            );
            return if ended_as_wanted(&ended.how) {
                Refusal::met("event_ended", what)
            } else {
                Refusal::new("event_ended", what, SHOW)
            };
        }
        if let Some(waiting) = self.manager.queue.iter().find(|waiting| waiting.id == event) {
            return Refusal::new(
                "not_failed",
                format!("{} waits and has not begun", self.event_label(waiting)),
                "Continue the event that runs first: vedette event show.",
            );
        }
        if event <= self.manager.last_event && event > 0 {
            return Refusal::new("event_ended", format!("event {event} ended long ago"), SHOW);
        }
        let what = format!("there is no event {event}");
        Refusal::new("unknown_event", what, SHOW)
    }

    /// Managers are stopped (spec H21).
    pub(super) fn stop(
        &mut self,
        entry: &mut Entry<'_>,
        nodes: &[NodeNumber],
        how: StopMode,
    ) -> Result<bool, Refusal> {
        let nodes = self.check_stop(nodes, how)?;
        for node in nodes {
            let from = self.order_state(node);
            let Some(member) = self.manager.members.get_mut(&node) else { continue };
            member.stopped = Some(how);
            let name = self.node_name(node);
            let message = match how {
                StopMode::Graceful => format!("manager of {name} is to stop, with its groups"),
                StopMode::Takeover => {
                    format!("manager of {name} is to stop, its groups go to others")
                }
                StopMode::Forced => format!("manager of {name} is stopped, its groups go on"),
            };
            self.order_record(entry, node, message, (from, how.name()));
            let why = format!("{name} is being stopped");
            self.supersede(entry, &why, |waiting| {
                *waiting == Trigger::NodeUp(node)
                    || matches!(waiting, Trigger::NodeDown { node: n, stop: Some(_) } if *n == node)
            });
            if how == StopMode::Forced {
                self.leave_unmanaged(entry, node);
            }
        }
        Ok(true)
    }

    fn check_stop(
        &self,
        nodes: &[NodeNumber],
        how: StopMode,
    ) -> Result<BTreeSet<NodeNumber>, Refusal> {
        if nodes.is_empty() {
            let stoppable = |node: &NodeNumber| self.check_stop_of(*node, how).is_ok();
            let all: BTreeSet<NodeNumber> =
                self.manager.members.keys().copied().filter(stoppable).collect();
            let others = || self.manager.members.iter().find(|(_, it)| it.stopped != Some(how));
            return match (all.is_empty(), others()) {
                (false, _) => Ok(all),
                (true, None) => {
                    let what = format!("the managers of all nodes are stopped already ({how})");
                    Err(Refusal::met("already_stopped", what))
                }
                (true, Some(_)) => Err(Refusal::new(
                    "nothing_to_do",
                    "no node's manager runs that could be stopped",
                    "See what they do: vedette node list.",
                )),
            };
        }
        for node in nodes {
            self.check_stop_of(*node, how)?;
        }
        Ok(nodes.iter().copied().collect())
    }

    fn check_stop_of(&self, node: NodeNumber, how: StopMode) -> Result<(), Refusal> {
        let name = self.check_member(node)?;
        let refuse = |code: &str, what: String, advice: &str| Err(Refusal::new(code, what, advice));
        let Some(member) = self.manager.members.get(&node) else { return Ok(()) };
        match member.stopped {
            Some(mode) if mode == how => {
                let state = if member.joined { "being stopped" } else { "stopped" };
                let what = format!("the manager of {name} is {state} already ({mode})");
                Err(Refusal::met("already_stopped", what))
            }
            Some(mode) if !member.joined && how != StopMode::Forced => refuse(
                "stopped_otherwise",
                format!("the manager of {name} is stopped already, but otherwise ({mode})"),
                "Start it, then stop it as it shall be: vedette start, vedette stop.",
            ),
            None if !self.is_there(node) => Err(Refusal::new(
                "node_not_there",
                format!("{name} is not there, so its manager cannot be stopped"),
                format!("Start the node first, or delete it: vedette node delete {name}."),
            )),
            _ => Ok(()),
        }
    }

    /// The name of a node that has a manager.
    fn check_member(&self, node: NodeNumber) -> Result<String, Refusal> {
        let Some(known) = self.nodes.get(&node) else { return Err(unknown_node(node)) };
        if self.manager.members.contains_key(&node) {
            return Ok(known.name.clone());
        }
        Err(Refusal::new(
            "no_manager",
            format!("no manager was ever seen on {}", known.name),
            "Start its daemon first.",
        ))
    }

    fn order_state(&self, node: NodeNumber) -> String {
        self.manager.members.get(&node).map(|member| member.state.to_string()).unwrap_or_default()
    }

    fn order_record(
        &mut self,
        entry: &mut Entry<'_>,
        node: NodeNumber,
        message: String,
        (from, to): (String, &str),
    ) {
        let happening =
            RecordDraft::new(Code::NodeOrdered, Severity::Notice, Subject::Node(node), message);
        self.record(entry, happening.change(from, to));
    }

    /// A forced stop: no event; what runs goes on, watched by nobody.
    fn leave_unmanaged(&mut self, entry: &mut Entry<'_>, node: NodeNumber) {
        if let Some(member) = self.manager.members.get_mut(&node) {
            member.joined = false;
        }
        for running in self.manager.all_begun_mut() {
            running.participants.remove(&node);
        }
        let why = format!("the manager of {} was stopped by force", self.node_name(node));
        let all: Vec<String> = self.groups.keys().cloned().collect();
        all.iter().for_each(|name| self.leave_running(entry, name, node, &why));
    }

    /// Managers are started again.
    pub(super) fn start(
        &mut self,
        entry: &mut Entry<'_>,
        nodes: &[NodeNumber],
    ) -> Result<bool, Refusal> {
        for node in self.check_start(nodes)? {
            let from = self.order_state(node);
            let Some(member) = self.manager.members.get_mut(&node) else { continue };
            member.stopped = None;
            let name = self.node_name(node);
            let message = format!("manager of {name} is started");
            self.order_record(entry, node, message, (from, "start"));
            let why = format!("{name} is started again");
            self.supersede(
                entry,
                &why,
                |waiting| matches!(waiting, Trigger::NodeDown { node: n, stop: Some(_) } if *n == node),
            );
        }
        Ok(true)
    }

    fn check_start(&self, nodes: &[NodeNumber]) -> Result<Vec<NodeNumber>, Refusal> {
        let stopped =
            |node: &NodeNumber| self.manager.members.get(node).is_some_and(|m| m.stopped.is_some());
        if nodes.is_empty() {
            let all: Vec<NodeNumber> =
                self.manager.members.keys().copied().filter(stopped).collect();
            return if all.is_empty() {
                Err(Refusal::met("nothing_to_do", "no node's manager was stopped"))
            } else {
                Ok(all)
            };
        }
        for node in nodes {
            let name = self.check_member(*node)?;
            if !stopped(node) {
                let what = format!("the manager of {name} was not stopped");
                return Err(Refusal::met("not_stopped", what));
            }
        }
        let nodes: BTreeSet<NodeNumber> = nodes.iter().copied().collect();
        Ok(nodes.into_iter().collect())
    }

    /// Maintenance begins or ends.
    pub(super) fn maintain(
        &mut self,
        entry: &mut Entry<'_>,
        scope: &Scope,
        on: bool,
    ) -> Result<bool, Refusal> {
        let (what, subject) = self.check_scope(scope)?;
        let flag = match scope {
            Scope::Cluster => Some(&mut self.manager.maintenance),
            Scope::Node(node) => self.manager.members.get_mut(node).map(|m| &mut m.maintenance),
            Scope::Group(name) => self.groups.get_mut(name).map(|group| &mut group.maintenance),
        };
        let Some(flag) = flag else { return Ok(false) };
        if *flag == on {
            let state = if on { "in maintenance already" } else { "not in maintenance" };
            return Err(Refusal::met("nothing_to_do", format!("{what} is {state}")));
        }
        *flag = on;
        if on {
            self.uncover(entry.index, scope);
        }
        let (verb, severity) =
            if on { ("begins", Severity::Warning) } else { ("ends", Severity::Notice) };
        let words = |on| if on { "maintenance" } else { "" };
        let message = format!("maintenance of {what} {verb}");
        self.record(
            entry,
            RecordDraft::new(Code::Maintenance, severity, subject, message)
                .change(words(!on), words(on)),
        );
        Ok(true)
    }

    fn check_scope(&self, scope: &Scope) -> Result<(String, Subject), Refusal> {
        Ok(match scope {
            Scope::Cluster => (format!("cluster {}", self.name), Subject::Cluster),
            Scope::Node(node) => (self.check_member(*node)?, Subject::Node(*node)),
            Scope::Group(name) => {
                let group = self.check_group(name)?;
                (format!("group {name}"), Subject::Group(group.number))
            }
        })
    }
}

/// An order about a node that is no member.
pub(in crate::apply) fn unknown_node(node: NodeNumber) -> Refusal {
    Refusal::new(
        "unknown_node",
        format!("there is no node {node}"),
        "List the nodes: vedette node list.",
    )
}
