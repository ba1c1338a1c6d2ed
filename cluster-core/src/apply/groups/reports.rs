//! What nodes say about their instances. Each report carries the instance's token; with another one
//! it is about something that is over, and changes nothing.

use crate::group::{
    FailCount, GroupState, Instance, Policy, ResourceKind, ResourceState, Tolerated,
};
use crate::id::NodeNumber;
use crate::model::Severity;
use crate::plan::Move;
use crate::record::{Code, Record};
use crate::trigger::{Motive, StopMode, Trigger};

use super::{ClusterState, Entry, RecordDraft};

/// Group, node and token, by which an instance is meant.
pub(super) type Which<'a> = (&'a String, NodeNumber, u64);

impl ClusterState {
    pub(super) fn instance_mut(&mut self, (name, node, token): Which<'_>) -> Option<&mut Instance> {
        let instance = self.groups.get_mut(name)?.instances.get_mut(&node)?;
        (instance.token == token).then_some(instance)
    }

    pub(super) fn progress(
        &mut self,
        entry: &mut Entry<'_>,
        which: Which<'_>,
        state: Option<GroupState>,
        resources: &[(String, ResourceState, String)],
    ) -> bool {
        if self.instance_mut(which).is_none() {
            return false;
        }
        let mut changed = false;
        for (resource, to, detail) in resources {
            changed |= self.resource_changed(entry, which, resource, *to, detail);
        }
        if let Some(to) = state {
            changed |= self.instance_changed(entry, which, to);
        }
        changed
    }

    /// Takes a new state of an instance, where it can be one: what the cluster lost sight of, or
    /// what has no leave to be acquired, is not online because its node says so; but for what no lease
    /// ended.
    fn instance_changed(
        &mut self,
        entry: &mut Entry<'_>,
        which: Which<'_>,
        to: GroupState,
    ) -> bool {
        let (name, node, _) = which;
        let at = entry.proposal.at;
        let stray = self.is_stray(name, node);
        let Some(instance) = self.instance_mut(which) else { return false };
        let from = instance.state;
        let possible = match to {
            GroupState::Online if from == GroupState::Unknown => instance.uncovered.is_some(),
            GroupState::Online => {
                matches!(from, GroupState::Acquiring | GroupState::Releasing) && !stray
            }
            GroupState::Releasing | GroupState::Error => from != GroupState::Unmanaged,
            GroupState::Acquiring => from == GroupState::Online,
            GroupState::Unknown | GroupState::Offline | GroupState::Unmanaged => false,
        };
        if !possible || from == to {
            return false;
        }
        (instance.state, instance.since) = (to, at);
        match to {
            GroupState::Online => self.came_online(entry, name, node),
            GroupState::Error => {
                if let Some(group) = self.groups.get_mut(name) {
                    group.unreleased.insert(node);
                }
                self.not_released(entry, name, node);
            }
            _ => {}
        }
        true
    }

    fn came_online(&mut self, entry: &mut Entry<'_>, name: &str, node: NodeNumber) {
        let def = self.definition.group(name);
        let exclusive = def.is_some_and(|def| def.policy != Policy::Concurrent);
        let Some(group) = self.groups.get_mut(name) else { return };
        let before = group.failovers;
        if exclusive && group.last.is_some_and(|last| last != node) {
            match group.left {
                Some(Motive::Return) => group.failbacks += 1,
                Some(Motive::Operator | Motive::Configuration | Motive::Rule) => group.moves += 1,
                Some(Motive::Failure) | None => group.failovers += 1,
            }
        }
        if exclusive || group.last.is_none() {
            group.last = Some(node);
        }
        group.second_chance = true;
        group.passed_over = group.passed_over.intersection(&group.avoid).copied().collect();
        group.unreleased.remove(&node);
        if group.failovers > before {
            self.failed_over(entry, name);
        }
        self.swap_what_failed(entry, node);
    }

    /// A group that cannot be released: its node is fenced if that is configured; if not, an
    /// operator is needed.
    fn not_released(&mut self, entry: &mut Entry<'_>, name: &str, node: NodeNumber) {
        let why = self.why_not_released(name, node);
        entry.causes.insert(name.into(), why.clone());
        let by = self.manager.joined().find(|by| *by != node);
        if let Some(by) = by.filter(|_| self.definition.fencing.contains_key(&node)) {
            self.ask_to_fence(entry, node, by, &why);
            return;
        }
        self.block(entry, name, Some(node), &why);
        let advice = self.advice(name);
        entry.causes.insert(name.into(), format!("{why}; no other node starts it; {advice}"));
    }

    /// What could not be stopped, as far as its node has said it.
    fn why_not_released(&self, name: &str, node: NodeNumber) -> String {
        let place = self.node_name(node);
        let instance = self.groups.get(name).and_then(|group| group.instances.get(&node));
        let failed = instance.and_then(|instance| {
            instance.resources.iter().find(|(_, it)| it.state == ResourceState::Failed)
        });
        match failed {
            Some((resource, it)) if it.detail.is_empty() => {
                format!("{resource} could not be stopped on {place}")
            }
            Some((resource, it)) => {
                let detail = it.detail.trim_end_matches('.');
                format!("{resource} could not be stopped on {place}: {detail}")
            }
            None => format!("it could not be released on {place}"),
        }
    }

    fn resource_changed(
        &mut self,
        entry: &mut Entry<'_>,
        which: Which<'_>,
        resource: &str,
        to: ResourceState,
        detail: &str,
    ) -> bool {
        let at = entry.proposal.at;
        let Some(instance) = self.instance_mut(which) else { return false };
        let Some(status) = instance.resources.get_mut(resource) else { return false };
        if status.state == to {
            let changed = status.detail != detail;
            status.detail = detail.into();
            if changed && to == ResourceState::Online && self.is_address(which.0, resource) {
                self.resource_moved(entry, which, resource, detail);
            }
            return changed;
        }
        let from = std::mem::replace(&mut status.state, to);
        let took = u64::try_from(at.0.saturating_sub(status.since.0)).unwrap_or(0) / 1_000;
        (status.since, status.detail) = (at, detail.into());
        if let Some(tolerated) = &mut status.tolerated {
            tolerated.count = 0;
        }
        let (name, node, _) = which;
        let failed = to == ResourceState::Failed;
        let severity = if failed { Severity::Warning } else { Severity::Informational };
        let message = format!("resource {resource} is {to} on {}", self.node_name(node));
        let subject = self.resource_subject(name, resource);
        let happening = RecordDraft::new(Code::Resource, severity, subject, message)
            .change(from, to)
            .because(detail)
            // One that cannot be started or stopped is alerted by what becomes of its group.
            .alerting(failed && from == ResourceState::Online && !self.is_flapping(name));
        let happening = self.in_event(entry, happening, Some(node), Some(took));
        self.record(entry, happening);
        true
    }

    fn is_address(&self, group: &str, resource: &str) -> bool {
        let resources = self.definition.group(group).map(|def| def.resources.as_slice());
        let mut named = resources.unwrap_or_default().iter().filter(|it| it.name == resource);
        named.any(|it| matches!(it.kind, ResourceKind::Address { .. }))
    }

    /// A service address works on, and was moved to another adapter of its node.
    fn resource_moved(
        &mut self,
        entry: &mut Entry<'_>,
        which: Which<'_>,
        resource: &str,
        detail: &str,
    ) {
        let (name, node, _) = which;
        let subject = self.resource_subject(name, resource);
        let place = self.node_name(node);
        let message =
            format!("resource {resource} is still ONLINE on {place}, over another adapter");
        let online = ResourceState::Online;
        let happening = RecordDraft::new(Code::Resource, Severity::Informational, subject, message)
            .change(online, online)
            .because(detail);
        let happening = self.in_event(entry, happening, Some(node), None);
        self.record(entry, happening);
    }

    pub(super) fn released(
        &mut self,
        entry: &mut Entry<'_>,
        which: Which<'_>,
        why: &str,
        avoid: bool,
    ) -> bool {
        if self.instance_mut(which).is_none() {
            return false;
        }
        let (name, node, _) = which;
        if self.leaves_beside(name, node) {
            entry.begins = Some(self.incident_of_let_go(entry.index, node)).or(entry.begins);
        }
        let stopped = self.groups.get(name).and_then(|group| group.stopped_for.as_deref());
        let cause = format!("{} let go of it: {}", self.node_name(node), stopped.unwrap_or(why));
        entry.causes.insert(name.clone(), cause);
        if avoid {
            self.avoid(entry, name, node, why);
        }
        self.end_instance(name, node);
        self.unblock(name, node);
        if self.is_left_alone(name, node) {
            // Nothing of it was left running, and maintenance starts nothing: not in this event either.
            self.plan_no_more(name, node);
        }
        if let Some(how) = self.is_giving_up(node) {
            self.plan_no_more(name, node);
            self.take_along(name, node, how);
        }
        true
    }

    /// A node that is stopped without takeover keeps what it let go of before its event began, unless others are to have
    /// it (spec H21).
    fn take_along(&mut self, name: &str, node: NodeNumber, how: StopMode) {
        let goes = |planned: &Move| planned.group == name && !planned.acquire.is_empty();
        let goes = self.manager.begun().any(|running| running.plan.moves.iter().any(goes));
        let def = self.definition.group(name);
        let exclusive = def.is_some_and(|def| def.policy != Policy::Concurrent);
        let Some(group) = self.groups.get_mut(name).filter(|_| exclusive && !goes) else { return };
        if how == StopMode::Graceful && group.instances.is_empty() && !group.wanted_offline {
            group.held_for = Some(node);
        }
    }

    /// Whether a node lets go by itself of what it has of a group that others serve as well, and nobody has missed it
    /// yet: then nothing else says that this was a failure.
    fn leaves_beside(&self, name: &str, node: NodeNumber) -> bool {
        let Some(group) = self.groups.get(name) else { return false };
        let serves = group.instances.get(&node).is_some_and(|it| it.state == GroupState::Online);
        let missed = self.nodes.get(&node).is_some_and(|node| node.incident.is_some());
        let planned = self.manager.begun().any(|running| running.plans(name, node));
        serves && group.instances.len() > 1 && group.lost.is_none() && !missed && !planned
    }

    /// No event brings a group to a node any more.
    fn plan_no_more(&mut self, name: &str, node: NodeNumber) {
        let moves = self.manager.all_begun_mut().flat_map(|running| &mut running.plan.moves);
        for planned in moves.filter(|planned| planned.group == name) {
            planned.acquire.retain(|other| *other != node);
        }
    }

    /// A monitor found a resource failed. If it does not work again, its group leaves the node.
    pub(super) fn failed(
        &mut self,
        entry: &mut Entry<'_>,
        which: Which<'_>,
        (resource, why): (&str, &str),
        restarted: bool,
    ) -> bool {
        let (name, node, _) = which;
        let known = self.instance_mut(which).map(|i| i.resources.contains_key(resource));
        if known != Some(true) {
            return false;
        }
        // The failure is what its group's move follows from, so the incident begins here.
        if !restarted && !self.is_left_alone(name, node) {
            entry.begins = Some(entry.index);
        }
        let count = self.count_failure(entry, which, (resource, why));
        let end = if restarted { Record::RESTARTED } else { "its group is to move" };
        let message = format!(
            "resource {resource} failed on {}, failure {count}: {end}",
            self.node_name(node)
        );
        let subject = self.resource_subject(name, resource);
        let happening = RecordDraft::new(Code::ResourceFailed, Severity::Warning, subject, message)
            .because(why)
            // That it failed was alerted when it did ([`Self::resource_changed`]).
            .alerting(!restarted && !self.is_flapping(name));
        let happening = self.in_event(entry, happening, Some(node), None);
        self.record(entry, happening);
        if !restarted {
            self.resource_changed(entry, which, resource, ResourceState::Failed, why);
            self.leave_node(entry, name, node, (resource, why));
        }
        true
    }

    /// A monitor failed, but not often enough in a row to count; or works again after that.
    pub(super) fn tolerated(
        &mut self,
        entry: &Entry<'_>,
        which: Which<'_>,
        resource: &str,
        (count, limit, why): (u32, u32, &str),
    ) -> bool {
        let last = entry.proposal.at;
        let instance = self.instance_mut(which);
        let Some(status) = instance.and_then(|it| it.resources.get_mut(resource)) else {
            return false;
        };
        let total = status.tolerated.as_ref().map_or(0, |before| before.total);
        match &mut status.tolerated {
            Some(before) if count == 0 => {
                return std::mem::take(&mut before.count) > 0;
            }
            None if count == 0 => return false,
            now => *now = Some(Tolerated { count, limit, total: total + 1, last, why: why.into() }),
        }
        true
    }

    fn count_failure(
        &mut self,
        entry: &Entry<'_>,
        (name, node, _): Which<'_>,
        (resource, why): (&str, &str),
    ) -> u32 {
        let (last, last_ms) = (entry.proposal.at, self.timeline.elapsed_ms());
        let over =
            |fail: &FailCount| self.failure_due(name, fail).is_some_and(|due| due <= last_ms);
        let outdated = self.groups.get(name).is_some_and(|group| {
            let mut fails = group.fails.iter();
            fails.any(|fail| fail.node == node && fail.resource == resource && over(fail))
        });
        let Some(group) = self.groups.get_mut(name) else { return 0 };
        let same = |known: &&mut FailCount| known.node == node && known.resource == resource;
        if let Some(known) = group.fails.iter_mut().find(same) {
            let before = if outdated { 0 } else { known.count };
            known.count = before.saturating_add(1);
            (known.last, known.last_ms, known.why) = (last, last_ms, why.into());
            return known.count;
        }
        let resource = resource.to_owned();
        group.fails.push(FailCount { node, resource, count: 1, last, last_ms, why: why.into() });
        1
    }

    fn leave_node(
        &mut self,
        entry: &mut Entry<'_>,
        name: &str,
        node: NodeNumber,
        (resource, why): (&str, &str),
    ) {
        if self.is_left_alone(name, node) {
            return;
        }
        if let Some(group) = self.groups.get_mut(name) {
            group.avoid.insert(node);
            group.avoid_why.insert(node, format!("{resource} failed: {why}"));
        }
        let cause = format!("{resource} failed on {}: {why}", self.node_name(node));
        self.enqueue(entry, Trigger::GroupMove { group: name.into() }, &cause, None);
    }
}
