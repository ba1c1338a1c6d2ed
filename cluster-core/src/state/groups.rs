//! Questions about groups: what they are called, what nobody moves, what runs besides, and what would help.

use crate::event::{Running, Stage};
use crate::group::{
    Group, GroupState, MultipleActive, Policy, ResourceDef, ResourceState, ResourceStatus, Sighting,
};
use crate::id::NodeNumber;
use crate::model::HostStatus;
use crate::record::Subject;

use super::ClusterState;

/// How looks for resources begin among what cannot be watched.
const LOOKED_FOR: &str = "resource ";

impl ClusterState {
    /// The name of the group with that number.
    pub fn group_name(&self, number: u16) -> String {
        let known = self.groups.iter().find(|(_, group)| group.number == number);
        known.map_or_else(|| format!("group {number}"), |(name, _)| name.clone())
    }

    /// The name of a resource, by the numbers of its group and itself.
    pub fn resource_name(&self, group: u16, resource: u16) -> String {
        let group = self.groups.values().find(|known| known.number == group);
        let name = group.and_then(|group| {
            group.resource_numbers.iter().find(|(_, number)| **number == resource)
        });
        name.map_or_else(|| format!("resource {resource}"), |(name, _)| name.clone())
    }

    /// Resources of a group in the order of the configuration; of one that is not configured any more, those that are
    /// still to be released.
    pub fn resources_of(&self, group: &str) -> &[ResourceDef] {
        let retired = || self.groups.get(group)?.retired.as_ref();
        let def = self.definition.group(group).or_else(retired);
        def.map_or(&[], |def| &def.resources)
    }

    pub(crate) fn resource_subject(&self, group: &str, resource: &str) -> Subject {
        let Some(known) = self.groups.get(group) else { return Subject::Cluster };
        match known.resource_numbers.get(resource) {
            Some(number) => Subject::Resource(known.number, *number),
            None => Subject::Group(known.number),
        }
    }

    /// A node, other than `besides`, that runs something of an exclusive group and does not have it: two would run it, if it
    /// were started elsewhere (finding R2).
    pub fn runs_elsewhere(&self, name: &str, besides: Option<NodeNumber>) -> Option<NodeNumber> {
        let def = self.definition.group(name).filter(|def| def.policy != Policy::Concurrent)?;
        let seen = &self.groups.get(&def.name)?.also;
        let certain = |(at, it): &(&NodeNumber, &Sighting)| {
            Some(**at) != besides && self.doubt(**at, it).is_none()
        };
        seen.iter().find(certain).map(|(at, _)| *at)
    }

    /// Whether maintenance leaves a group alone on a node.
    pub fn is_left_alone(&self, name: &str, node: NodeNumber) -> bool {
        self.manager.maintenance
            || self.manager.members.get(&node).is_some_and(|member| member.maintenance)
            || self.groups.get(name).is_some_and(|group| group.maintenance)
    }

    /// Whether an instance is in motion although no event in which its node takes part plans that: it is to
    /// be cleaned up. Nobody runs the commands of an event on a node that takes no part in it; who waits at a
    /// barrier releases nothing in that phase any more, nor does anybody what was skipped; and what was given to a
    /// node in an event that is stuck since is acquired by nobody: it is free for another event.
    pub(crate) fn is_stray(&self, name: &str, node: NodeNumber) -> bool {
        let state = self.groups.get(name).and_then(|group| group.instances.get(&node));
        let moving = |state| matches!(state, GroupState::Acquiring | GroupState::Releasing);
        let its = |running: &&Running| running.participants.contains(&node);
        let releasing = state.is_some_and(|it| it.state == GroupState::Releasing);
        let untouched = state.is_some_and(|it| {
            let off = |(_, known): (_, &ResourceStatus)| known.state == ResourceState::Offline;
            it.state == GroupState::Acquiring
                && it.uncovered.is_none()
                && it.resources.iter().all(off)
        });
        let over = |it: &Running| it.arrived.contains(&node) || it.skipped;
        let does = |it: &Running| {
            it.plans(name, node) && !(releasing && over(it)) && !(untouched && it.is_stuck())
        };
        let planned = || self.manager.begun().filter(its).any(does);
        state.is_some_and(|instance| moving(instance.state)) && !planned()
    }

    /// Whether a group fails over again and again, so that what happens to it was alerted already.
    pub(crate) fn is_flapping(&self, name: &str) -> bool {
        self.groups.get(name).is_some_and(|group| group.flapping.is_some())
    }

    /// Why a node may not have a group before it has let go of something, in words that follow its name.
    pub fn unreleased_on(&self, name: &str, node: NodeNumber) -> Option<String> {
        self.manager.members.get(&node)?.unreleased.obstacle(name)
    }

    /// Groups of which something runs on a node that does not have them, or may.
    pub(crate) fn also_on(&self, node: NodeNumber) -> Vec<String> {
        let there = self.groups.iter().filter(|(_, group)| group.also.contains_key(&node));
        there.map(|(name, _)| name.clone()).collect()
    }

    /// Why nobody knows whether what is said to run on a node besides runs there, as a clause; none if it was seen.
    pub fn doubt(&self, node: NodeNumber, seen: &Sighting) -> Option<String> {
        let place = self.node_name(node);
        match self.nodes.get(&node).map(|known| known.host) {
            _ if seen.unproven => Some("nothing proves that it ended there".into()),
            Some(HostStatus::Up | HostStatus::Netpar) | None => None,
            Some(host) => Some(format!("it was seen there before {place} was {host}")),
        }
    }

    /// What a resource is called among what cannot be watched, where its monitor gives no answer on a node that does not
    /// have its group.
    pub fn look_for(resource: &str) -> String {
        format!("{LOOKED_FOR}{resource}")
    }

    /// Whether what cannot be watched is such a resource.
    pub fn is_look(what: &str) -> bool {
        what.starts_with(LOOKED_FOR)
    }

    /// Whether nobody knows if a resource runs on a node that does not have its group: its monitor gives no answer there.
    pub fn is_unseen(&self, group: &Group, resource: &str, node: NodeNumber) -> bool {
        let blind = self.manager.blind.get(&node);
        !group.instances.contains_key(&node)
            && blind.is_some_and(|all| all.contains_key(&Self::look_for(resource)))
    }

    /// Whether a resource runs on a node that does not have its group; none if nobody knows.
    pub fn runs_besides(&self, group: &Group, resource: &str, node: NodeNumber) -> Option<bool> {
        let seen = group.also.get(&node);
        match seen.filter(|seen| seen.resources.contains(resource)) {
            Some(seen) => self.doubt(node, seen).is_none().then_some(true),
            None => (!self.is_unseen(group, resource, node)).then_some(false),
        }
    }

    /// What is done about more of a group than there should be.
    pub fn multiple_active(&self, name: &str) -> MultipleActive {
        self.definition.group(name).map_or(MultipleActive::Block, |group| group.multiple_active)
    }

    /// The command that goes on with a group once what blocks it is repaired: a release that belongs
    /// to an event is done again in that event, any other one by itself. None for what ends by itself when it is
    /// seen to be repaired.
    pub fn way_out(&self, name: &str) -> Option<String> {
        let group = self.groups.get(name)?;
        let node = group.blocked.as_ref().and_then(|blocked| blocked.node);
        if let Some(away) = node.filter(|node| !self.is_there(*node)) {
            return Some(self.confirmation(away));
        }
        if node.is_some_and(|node| group.also.contains_key(&node)) {
            return None;
        }
        let mut begun = self.manager.begun().filter(|it| it.stage != Stage::Voting);
        let planned = node.and_then(|node| begun.find(|running| running.plans(name, node)));
        Some(match planned {
            Some(running) => format!("vedette recover retry --event {}", running.event.id),
            None => format!("vedette group clear {name}"),
        })
    }

    /// What an operator can do about what blocks a group: one clause.
    pub fn advice(&self, name: &str) -> String {
        let group = self.groups.get(name);
        let node = group.and_then(|group| group.blocked.as_ref()?.node);
        let place = node.map(|node| self.node_name(node));
        if let Some(away) = node.filter(|node| !self.is_there(*node)) {
            return self.make_certain(away);
        }
        match (place, self.way_out(name)) {
            (Some(place), None) => format!("stop it on {place} by hand; that ends the block"),
            (Some(place), Some(command)) => format!("stop it on {place} by hand, then: {command}"),
            (None, command) => format!("repair that, then: {}", command.unwrap_or_default()),
        }
    }

    /// What ends what nobody knows of a node that is not there: one clause.
    pub fn make_certain(&self, node: NodeNumber) -> String {
        format!("make sure that {} is off, then: {}", self.node_name(node), self.confirmation(node))
    }

    fn confirmation(&self, node: NodeNumber) -> String {
        format!("vedette node confirm-off {}", self.node_name(node))
    }

    /// The same as a sentence of its own.
    pub fn advice_sentence(&self, name: &str) -> String {
        let clause = self.advice(name);
        let mut letters = clause.chars();
        let first = letters.next().map(char::to_uppercase).into_iter().flatten();
        format!("{}{}.", first.collect::<String>(), letters.as_str())
    }
}
