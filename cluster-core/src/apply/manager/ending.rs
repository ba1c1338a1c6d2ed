//! What an event is to do with groups, and what it leaves behind when it is over.
//!
//! The plan is [`placement::for_event`]'s, and what nobody can decide otherwise is added here: a
//! node that is stopped releases all it has, but for what maintenance leaves running; a manager takes
//! back what was left running when it ended, a group that changed is released as it was.

use crate::event::{Ended, Running};
use crate::group::{Group, GroupState, Instance, Policy};
use crate::id::NodeNumber;
use crate::model::Severity;
use crate::placement;
use crate::plan::{Move, Plan};
use crate::record::Code;
use crate::trigger::{StopMode, Trigger};

use super::{ClusterState, Entry, ms_between, step_of};

impl ClusterState {
    /// What has to hold before the plan is made: a node that is stopped without takeover takes its
    /// groups along (spec H21).
    pub(super) fn prepare(&mut self, trigger: &Trigger) {
        if matches!(trigger, Trigger::ReconfigResource { .. }) {
            self.postpone_what_is_in_hand();
        }
        let leaving: Vec<NodeNumber> = match trigger {
            Trigger::NodeDown { node, stop: Some(StopMode::Graceful) } => vec![*node],
            Trigger::GroupMove { .. } if self.all_stop() => {
                let graceful = |member: &crate::event::Member| {
                    member.joined && member.stopped == Some(StopMode::Graceful)
                };
                let members = self.manager.members.iter();
                members.filter(|(_, member)| graceful(member)).map(|(node, _)| *node).collect()
            }
            _ => return,
        };
        for (name, group) in &mut self.groups {
            let def = self.definition.group(name);
            let exclusive = def.is_some_and(|def| def.policy != Policy::Concurrent);
            let owner = group.owner().filter(|owner| leaving.contains(owner));
            let concerned = !matches!(trigger, Trigger::GroupMove { group } if group != name);
            let left = owner.and_then(|owner| group.instances.get(&owner));
            let left = left.is_some_and(|it| it.uncovered.is_some());
            if exclusive && concerned && !left && !group.wanted_offline && owner.is_some() {
                group.held_for = owner;
            }
        }
    }

    /// Groups that were defined anew and are in the hands of another event are changed when that is over.
    fn postpone_what_is_in_hand(&mut self) {
        let begun: Vec<&Running> = self.manager.begun().collect();
        for (name, group) in &mut self.groups {
            let in_hand = begun.iter().any(|running| running.has_in_hand(name));
            group.postponed = in_hand && group.retired.is_some();
        }
    }

    /// Changes what was postponed and is not in hand any more.
    pub(super) fn queue_postponed(&mut self, entry: &mut Entry<'_>) {
        let free = |name: &str| !self.manager.begun().any(|running| running.has_in_hand(name));
        let due = self.groups.iter().filter(|(name, group)| group.postponed && free(name));
        let due: Vec<String> = due.map(|(name, _)| name.clone()).collect();
        let mut left = Vec::new();
        for name in due {
            let Some(group) = self.groups.get_mut(&name) else { continue };
            group.postponed = false;
            if group.retired.is_some() {
                left.push(name);
            }
        }
        if !left.is_empty() {
            let trigger = Trigger::ReconfigResource { version: self.documents.active };
            let why = format!("{} could not be changed before", left.join(", "));
            self.enqueue(entry, trigger, &why, None);
        }
    }

    /// What the groups shall do in an event.
    pub(super) fn plan(&self, trigger: &Trigger) -> Plan {
        let mut plan = placement::for_event(self, trigger);
        match trigger {
            Trigger::GroupMove { group } if self.all_stop() => {
                plan = Plan::default();
                self.plan_release(&mut plan, group, "every node is being stopped");
            }
            Trigger::GroupMove { group } if self.is_unwanted(group) => {
                self.plan_release(&mut plan, group, "it shall be off");
            }
            Trigger::NodeDown { node, stop: None } => self.plan_orphans(&mut plan, *node),
            Trigger::NodeDown { node, stop: Some(_) } => self.plan_leave(&mut plan, *node),
            Trigger::NodeUp(node) => self.plan_return(&mut plan, *node),
            Trigger::ReconfigResource { .. } => self.plan_change(&mut plan),
            _ => {}
        }
        plan
    }

    fn is_unwanted(&self, group: &str) -> bool {
        self.definition.group(group).is_none()
            || self.groups.get(group).is_none_or(|group| group.wanted_offline)
    }

    fn plan_release(&self, plan: &mut Plan, name: &str, why: &str) {
        let Some(group) = self.groups.get(name) else { return };
        for (node, instance) in &group.instances {
            if instance.state != GroupState::Unmanaged {
                plan_one(plan, name, why).release(*node);
            }
        }
    }

    /// Groups of a node that failed and let go before the vote was over: without this they would
    /// have to wait for an event of their own.
    fn plan_orphans(&self, plan: &mut Plan, node: NodeNumber) {
        let orphan = |group: &Group| group.instances.is_empty() && group.last == Some(node);
        for (name, _) in self.groups.iter().filter(|(_, group)| orphan(group)) {
            if plan.moves.iter().all(|planned| planned.group != *name) {
                let alone = placement::for_event(self, &Trigger::GroupMove { group: name.clone() });
                plan.stays.retain(|stay| stay.group != *name);
                plan.moves.extend(alone.moves);
                plan.stays.extend(alone.stays);
            }
        }
    }

    fn plan_leave(&self, plan: &mut Plan, node: NodeNumber) {
        for (name, group) in &self.groups {
            let active = |instance: &Instance| instance.state != GroupState::Unmanaged;
            let ends = group.instances.get(&node).is_some_and(active);
            if ends && !self.is_left_alone(name, node) {
                plan_one(plan, name, "its node is being stopped").release(node);
            }
        }
    }

    fn plan_return(&self, plan: &mut Plan, node: NodeNumber) {
        for (name, group) in &self.groups {
            if group.instances.get(&node).is_some_and(Instance::is_left) {
                plan_one(plan, name, "it was left running there").acquire(node);
            }
        }
    }

    fn plan_change(&self, plan: &mut Plan) {
        for (name, group) in self.groups.iter().filter(|(_, group)| group.retired.is_some()) {
            let known = self.definition.group(name).is_some() && !group.wanted_offline;
            let why = if known { "its resources were changed" } else { "it is configured no more" };
            let in_hand = self.manager.begun().any(|running| running.has_in_hand(name));
            if in_hand || plan.moves.iter().any(|planned| planned.group == *name) {
                continue;
            }
            for node in group.instances.keys() {
                let planned = plan_one(plan, name, why);
                planned.release(*node);
                if known {
                    planned.acquire(*node);
                }
            }
        }
    }

    /// A plan in words, for the record of its approval.
    pub(super) fn plan_words(&self, plan: &Plan) -> String {
        let words = |planned: &Move| {
            let mut parts = Vec::new();
            if !planned.release.is_empty() {
                parts.push(format!("released by {}", self.names(&planned.release)));
            }
            if !planned.acquire.is_empty() {
                parts.push(format!("acquired by {}", self.names(&planned.acquire)));
            }
            format!("{} {}: {}", planned.group, parts.join(", "), planned.reason)
        };
        plan.moves.iter().map(words).collect::<Vec<String>>().join("; ")
    }

    /// An event that had begun is over.
    pub(super) fn end_event(&mut self, entry: &mut Entry<'_>, event: u64, how: &str) {
        self.record_groups(entry);
        let Some(mut running) = self.manager.take_begun(event) else { return };
        running.keep_steps();
        let (aborted, fine) = (how.starts_with("aborted"), how.starts_with("completed"));
        if aborted {
            self.take_back_order(&running.event.trigger);
        }
        self.settle_moves(entry, &running, fine);
        self.settle_trigger(entry, &running, aborted);
        let at = entry.proposal.at;
        let took = ms_between(running.began, at);
        let severity = if fine { Severity::Notice } else { Severity::Warning };
        let message = format!("{}: {how}", self.event_label(&running.event));
        let step = step_of(&running.event, Code::EventEnded, severity, message)
            .change("", how)
            .of_event(running.event.id, None, Some(took));
        self.record(entry, step);
        let Running { event, began, .. } = running;
        self.remember(Ended { event, how: how.into(), began, ended: at });
    }

    /// An operator ordered a move and aborts it before anything was released: then the group is where
    /// it shall be.
    fn take_back_order(&mut self, trigger: &Trigger) {
        let Trigger::GroupMove { group } = trigger else { return };
        let Some(group) = self.groups.get_mut(group) else { return };
        let works = |node: &NodeNumber| {
            group.instances.get(node).is_some_and(|it| it.state == GroupState::Online)
        };
        let stays = group.owner().filter(works).filter(|owner| !group.avoid.contains(owner));
        if stays.is_some() && group.preferred.is_some() {
            group.preferred = stays;
        }
    }

    /// What was planned and not done: a node that did not acquire is avoided (what it has begun is
    /// cleaned up), a group that was not released is blocked. Without this the same would be planned
    /// again at once, and for ever.
    fn settle_moves(&mut self, entry: &mut Entry<'_>, running: &Running, fine: bool) {
        for planned in &running.plan.moves {
            for node in &planned.acquire {
                if self.instance_state(&planned.group, *node) == Some(GroupState::Acquiring) {
                    if self.instance(&planned.group, *node).is_some_and(Instance::is_taken_up) {
                        self.settle_taken_up(entry, &planned.group, *node);
                        continue;
                    }
                    let all_well = fine && !running.skipped;
                    if all_well && self.is_first_pass(&planned.group, *node) {
                        self.pass_over(entry, &planned.group, *node);
                        continue;
                    }
                    self.avoid(entry, &planned.group, *node, "it was not acquired in its event");
                    if let Some(group) = self.groups.get_mut(&planned.group) {
                        group.passed_over.insert(*node);
                    }
                }
            }
            for node in planned.release.iter().filter(|node| !planned.acquire.contains(node)) {
                let state = self.instance_state(&planned.group, *node);
                let undone = state == Some(GroupState::Online) && self.is_there(*node);
                if undone && placement::is_astray(self, &planned.group) {
                    let why = format!(
                        "{} did not release it in {}",
                        self.node_name(*node),
                        self.event_label(&running.event)
                    );
                    self.block(entry, &planned.group, Some(*node), &why);
                }
            }
        }
    }

    /// What was left running, or given to a node just before maintenance began, and was not acquired in its event.
    /// Nothing of the latter was started, so it runs nowhere.
    fn settle_taken_up(&mut self, entry: &mut Entry<'_>, name: &str, node: NodeNumber) {
        let why = "it was not taken up again in its event";
        if self.is_untouched(name, node) {
            self.pass_over(entry, name, node);
        } else if self.manager.members.get(&node).is_some_and(|member| member.stopped.is_none()) {
            self.leave_to_look_at(entry, (name, node), why);
        } else {
            self.leave_running(entry, name, node, why);
        }
    }

    /// Whether a node has not touched what it was given, for the first time: it came too late for its commands.
    fn is_first_pass(&self, name: &str, node: NodeNumber) -> bool {
        let passed = self.groups.get(name).is_some_and(|group| group.passed_over.contains(&node));
        !passed && self.is_untouched(name, node)
    }

    /// It gives that back, and is blamed for nothing: another event may bring it there.
    fn pass_over(&mut self, entry: &mut Entry<'_>, name: &str, node: NodeNumber) {
        let Some(group) = self.groups.get_mut(name) else { return };
        group.passed_over.insert(node);
        if let Some(instance) = group.instances.get_mut(&node) {
            (instance.state, instance.since) = (GroupState::Releasing, entry.proposal.at);
        }
        entry.causes.insert(name.to_owned(), "it came too late for its event".into());
    }

    fn instance(&self, group: &str, node: NodeNumber) -> Option<&Instance> {
        self.groups.get(group)?.instances.get(&node)
    }

    pub(super) fn instance_state(&self, group: &str, node: NodeNumber) -> Option<GroupState> {
        self.instance(group, node).map(|instance| instance.state)
    }
}

/// The move of a group in a plan; made if there is none.
fn plan_one<'p>(plan: &'p mut Plan, group: &str, why: &str) -> &'p mut Move {
    let known = plan.moves.iter().position(|planned| planned.group == group);
    let place = known.unwrap_or_else(|| {
        plan.stays.retain(|stay| stay.group != group);
        plan.moves.push(Move {
            group: group.into(),
            release: Vec::new(),
            acquire: Vec::new(),
            reason: why.into(),
        });
        plan.moves.len() - 1
    });
    &mut plan.moves[place]
}

impl Move {
    fn release(&mut self, node: NodeNumber) {
        if !self.release.contains(&node) {
            self.release.push(node);
        }
    }

    fn acquire(&mut self, node: NodeNumber) {
        if !self.acquire.contains(&node) {
            self.acquire.push(node);
        }
    }
}
