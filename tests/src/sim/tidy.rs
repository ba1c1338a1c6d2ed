//! The operator who comes when the storm is over, and what is not well until he has done his work.

use vedette_core::command::{Command, GroupCommand, ManagerCommand, Scope};
use vedette_core::event::{RecoverAction, Stage};
use vedette_core::group::{Group, GroupState, MultipleActive};

use super::world::{Event, MS, World, index_of};

impl World {
    /// The operator looks twice a second and does what is left to do.
    pub(super) fn tidy(&mut self) {
        self.schedule(500 * MS, Event::TidyUp);
        self.end_by_hand();
        if let (Some(command), Some((by, term))) = (self.tidy_up(), self.log.leader) {
            let proposal = Box::new(self.proposal(by, "root@n1", command));
            self.schedule(5 * MS, Event::Commit { by, term, proposal, tries: 0 });
        }
    }

    /// What an operator does once the storm is over, until everything is well.
    pub(super) fn tidy_up(&mut self) -> Option<Command> {
        if let Some(scope) = self.in_maintenance() {
            let ends = ManagerCommand::Maintenance { scope, on: false };
            return Some(Command::Manager(ends));
        }
        let state = &self.reference;
        let manager = &state.manager;
        if let Some(running) = manager.current.as_ref().filter(|r| r.stage == Stage::Error) {
            let actions = RecoverAction::ALL;
            let action = actions[self.rng.below(actions.len())];
            let event = running.event.id;
            return Some(Command::Manager(ManagerCommand::Recover { event, action }));
        }
        if let Some(abort) = self.abort_slow(10) {
            return Some(abort);
        }
        let state = &self.reference;
        let manager = &state.manager;
        if manager.members.values().any(|member| member.stopped.is_some()) {
            return Some(Command::Manager(ManagerCommand::Start { nodes: Vec::new() }));
        }
        let failed = |group: &Group| {
            let stuck = group.instances.values().any(|it| it.state == GroupState::Error);
            stuck || group.blocked.is_some() || !group.avoid.is_empty()
        };
        let (name, group) =
            state.groups.iter().find(|(_, group)| group.wanted_offline || failed(group))?;
        let group_name = name.clone();
        Some(Command::Group(if failed(group) {
            GroupCommand::Clear { group: group_name, node: None }
        } else {
            GroupCommand::Online { group: group_name }
        }))
    }

    /// An operator ends what goes on beside others, in so many of a hundred cases.
    pub(super) fn abort_slow(&mut self, percent: u64) -> Option<Command> {
        let slow = self.reference.manager.begun().find(|it| it.slow && it.may_run_aside());
        let event = slow?.event.id;
        let action = RecoverAction::Abort;
        let abort = Command::Manager(ManagerCommand::Recover { event, action });
        self.rng.percent(percent).then_some(abort)
    }

    fn in_maintenance(&self) -> Option<Scope> {
        let state = &self.reference;
        let node = state.manager.members.iter().find(|(_, member)| member.maintenance);
        let group = state.groups.iter().find(|(_, group)| group.maintenance);
        let cluster = state.manager.maintenance.then_some(Scope::Cluster);
        cluster
            .or(node.map(|(node, _)| Scope::Node(*node)))
            .or(group.map(|(name, _)| Scope::Group(name.clone())))
    }

    /// What is not well with events and groups.
    pub(super) fn group_ailment(&self) -> Option<String> {
        let state = &self.reference;
        if let Some(running) = &state.manager.current {
            let name = running.event.trigger.name();
            return Some(format!("{name} runs, {:?} in phase {}", running.stage, running.phase));
        }
        if let Some(event) = state.manager.queue.first() {
            return Some(format!("{} waits", event.trigger.name()));
        }
        for node in state.nodes.keys() {
            if !state.manager.members.get(node).is_some_and(|member| member.joined) {
                return Some(format!("the manager of n{node} has not joined"));
            }
        }
        if let Some((name, _)) = state.groups.iter().find(|(_, group)| !group.also.is_empty()) {
            return Some(format!("{name} also runs elsewhere"));
        }
        if let Some(scope) = self.in_maintenance() {
            return Some(format!("maintenance of {scope:?}"));
        }
        let group = state.groups.iter().find(|(_, group)| group.state() != GroupState::Online)?;
        Some(format!("{} is {}", group.0, group.1.state()))
    }

    /// An operator ends what runs where its group shall not be touched by the cluster.
    fn end_by_hand(&mut self) {
        let blocks = |name: &str| self.reference.multiple_active(name) == MultipleActive::Block;
        let groups = self.reference.groups.iter().filter(|(name, _)| blocks(name));
        let seen: Vec<(usize, String)> = groups
            .flat_map(|(name, group)| group.also.keys().map(|node| (index_of(*node), name.clone())))
            .collect();
        for (node, group) in seen {
            self.machines[node].kernel.lives.retain(|(of, _), _| *of != group);
        }
    }
}
