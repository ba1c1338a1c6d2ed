//! One stuck group is one stuck group: what an event that failed, or of which a program does not end, holds up.
//!
//! **Bound**: a group that nobody has, and that a node which is there could have, is begun with within twice the
//! detection time, whatever other events failed or run a program that hangs, its own event included; looked at while
//! a director has been in office for that long. Time in which another event is voted on does
//! not count, nor does the detection time that
//! the others wait for one that goes on. Not meant is a group whose own event failed (an operator was asked about that
//! one), or whose last node's death is what failed, or that waits until all that was reconfigured is off, or that is seen
//! to run where it should not: that is stopped first.
//!
//! Within the same bound a node that is there, and that nobody has stopped, is a member, unless its own join failed.

use std::collections::BTreeMap;

use vedette_core::event::{Running, Stage};
use vedette_core::group::{Group, GroupDef, GroupState, Instance, Policy, ResourceState};
use vedette_core::id::NodeNumber;
use vedette_core::model::{AgentStatus, HostStatus};
use vedette_core::trigger::Trigger;

use super::world::{World, index_of};

/// Since when groups wait though only what failed, or hangs, is in the way.
#[derive(Debug, Default)]
pub(super) struct Delays {
    since: BTreeMap<String, u64>,
    /// The event that has been in progress, in that stage, since when.
    stage: (Option<(u64, Stage)>, u64),
}

impl World {
    pub(super) fn check_delays(&mut self) {
        if self.conduct.in_detail {
            return;
        }
        let now = self.now;
        let bound = 2 * self.reference.settings.timing.detect().as_micros() as u64;
        let steady = self.log.leader.is_some_and(|(director, _)| {
            let since = self.log.leader_since.max(self.machines[director].testifies_since());
            since.checked_add(bound).is_some_and(|until| until <= now) && self.commits(director)
        });
        let current = self.reference.manager.current.as_ref();
        let stage = current.map(|running| (running.event.id, running.stage));
        if self.delays.stage.0 != stage {
            self.delays.stage = (stage, now);
        }
        let patience = bound / 2;
        let lasts = now - self.delays.stage.1 > patience;
        let open = |it: &Running| it.is_stuck() || it.may_run_aside() || (lasts && it.is_at_work());
        let idle = current.is_none_or(open);
        let waiting: Vec<String> = if steady && idle {
            let groups = self.reference.definition.groups.iter();
            let groups = groups.filter(|def| self.waits_in_vain(def)).map(|def| def.name.clone());
            let nodes = self.reference.nodes.keys().filter(|node| self.waits_to_join(**node));
            let nodes =
                nodes.map(|node| format!("{} to be a member", self.reference.node_name(*node)));
            groups.chain(nodes).collect()
        } else {
            Vec::new()
        };
        let before = std::mem::take(&mut self.delays.since);
        let since = |name: &String| before.get(name).copied().unwrap_or(now);
        self.delays.since = waiting.iter().map(|name| (name.clone(), since(name))).collect();
        let late = self.delays.since.iter().find(|(_, since)| now - **since > bound);
        if let Some((name, _)) = late {
            let why = match current {
                Some(running) => format!("behind {}", self.reference.event_label(&running.event)),
                None => "behind nothing".into(),
            };
            let what = format!("{name} waits {why} for longer than the bound");
            self.checks.fail(now, what);
        }
    }

    /// Nobody has it, somebody could, and no event is about it.
    fn waits_in_vain(&self, def: &GroupDef) -> bool {
        let state = &self.reference;
        let Some(group) = state.groups.get(&def.name) else { return false };
        let begun = |(node, given): (&NodeNumber, &Instance)| {
            let untouched = given.resources.values().all(|it| it.state == ResourceState::Offline);
            given.state != GroupState::Acquiring || !untouched || !self.can_begin(*node)
        };
        let wanted = !group.instances.iter().any(begun)
            && !group.wanted_offline
            && group.blocked.is_none()
            && group.held_for.is_none()
            && group.last.is_some();
        // What maintenance of its last node would have left running waits for that node.
        let member = group.last.and_then(|last| state.manager.members.get(&last));
        let kept = member.is_some_and(|member| member.maintenance);
        // A rotating group never moves to who comes later, so it waits for nodes that are about to join.
        let starts = |node| {
            let host = state.nodes.get(node).map(|it| it.host);
            let up = matches!(host, Some(HostStatus::Up | HostStatus::Unknown));
            let joined = state.manager.members.get(node);
            up && joined.is_none_or(|it| !it.joined && it.stopped.is_none())
        };
        let starting = def.policy == Policy::Rotating && def.nodes.iter().any(starts);
        let voted_on = |running: &Running| running.stage == Stage::Voting;
        let about = |running: &Running| match &running.event.trigger {
            Trigger::GroupMove { group } => *group == def.name,
            Trigger::NodeDown { node, stop: None } => group.last == Some(*node),
            _ => false,
        };
        let concerns = |running: &Running| {
            let failed = running.is_stuck() && (running.concerns(&def.name) || about(running));
            let reconfigured = matches!(running.event.trigger, Trigger::ReconfigResource { .. })
                && running.has_in_hand(&def.name);
            failed || reconfigured || voted_on(running)
        };
        let concerned = state.manager.begun().any(concerns);
        wanted
            && def.policy != Policy::Concurrent
            && !concerned
            && !state.manager.maintenance
            && !group.maintenance
            && !kept
            && !starting
            && (!group.instances.is_empty() || self.has_a_place(def, group))
    }

    /// A node that is there takes no part, and no event about it failed, or is voted on.
    fn waits_to_join(&self, node: NodeNumber) -> bool {
        let state = &self.reference;
        let there = state
            .nodes
            .get(&node)
            .is_some_and(|it| it.host == HostStatus::Up && it.agent == AgentStatus::Running);
        let member = state.manager.members.get(&node);
        let outside = member.is_some_and(|it| !it.joined && it.stopped.is_none());
        let asked = |running: &Running| {
            let own = running.event.trigger == Trigger::NodeUp(node);
            running.stage == Stage::Voting || (own && running.failed.contains(&node))
        };
        state.seeded
            && there
            && outside
            && self.can_begin(node)
            && !state.manager.begun().any(asked)
    }

    /// Whether nothing keeps a node from beginning with what it is given.
    fn can_begin(&self, node: NodeNumber) -> bool {
        let awake = self.machines[index_of(node)].testifies_since() < u64::MAX;
        awake && self.holds_lease(index_of(node))
    }

    fn has_a_place(&self, def: &GroupDef, group: &Group) -> bool {
        let state = &self.reference;
        let up = |node: &NodeNumber| {
            let host = state.nodes.get(node);
            host.is_some_and(|it| it.host == HostStatus::Up && it.agent == AgentStatus::Running)
        };
        let takes_part = |node: &NodeNumber| {
            state.manager.members.get(node).is_some_and(|it| {
                it.joined && it.stopped.is_none() && !it.maintenance && !it.absent
            })
        };
        // What runs there and does not stop comes first, and what runs elsewhere.
        let is_free = |node: &NodeNumber| {
            !group.avoid.contains(node)
                && state.unreleased_on(&def.name, *node).is_none()
                && state.runs_elsewhere(&def.name, Some(*node)).is_none()
        };
        def.nodes.iter().any(|node| {
            up(node) && takes_part(node) && is_free(node) && self.holds_lease(index_of(*node))
        })
    }
}
