//! A new definition takes effect: groups come and go, and what is active by an old definition is
//! released by that one.

use std::collections::BTreeSet;

use crate::definition::Definition;
use crate::group::{Group, GroupDef, Policy, ResourceKind};
use crate::time::WallTime;
use crate::trigger::Trigger;

use super::{ClusterState, Entry};

impl ClusterState {
    /// Puts a definition in force: numbers for what is new, and events for what has to change.
    /// Groups that are gone stay until nothing of them is active.
    pub(in crate::apply) fn define(&mut self, entry: &mut Entry<'_>, definition: Definition) {
        let old = self.install(definition, entry.proposal.at);
        let groups_changed = old.groups != self.definition.groups;
        let adapters_changed = old.standbys != self.definition.standbys;
        let version = self.documents.active;
        self.follow_sightings(entry, &old);
        if self.manager.joined().next().is_none() {
            return;
        }
        if adapters_changed {
            let trigger = Trigger::ReconfigTopology { version };
            self.enqueue(entry, trigger, "standby adapters were configured anew", None);
        }
        if groups_changed {
            let trigger = Trigger::ReconfigResource { version };
            self.enqueue(entry, trigger, "groups were configured anew", None);
        }
    }

    /// Takes a definition for the present one; answers that.
    pub(crate) fn install(&mut self, definition: Definition, at: WallTime) -> Definition {
        let old = std::mem::replace(&mut self.definition, definition);
        for def in &old.groups {
            self.retire(def);
        }
        for def in self.definition.groups.clone() {
            self.number_group(&def, at);
        }
        self.forget_standbys();
        old
    }

    /// A group whose resources are not what they were: failures of before mean nothing any more,
    /// and what is active is released by the definition that it was started by.
    fn retire(&mut self, old: &GroupDef) {
        let now = self.definition.group(&old.name);
        let same = |now: &GroupDef| substance(now) == substance(old);
        let nodes: BTreeSet<_> =
            now.map(|now| now.nodes.iter().copied().collect()).unwrap_or_default();
        let Some(group) = self.groups.get_mut(&old.name) else { return };
        group.preferred.take_if(|node| !nodes.contains(node));
        group.held_for.take_if(|node| !nodes.contains(node));
        if now.is_some_and(same) {
            return;
        }
        group.fails.clear();
        group.avoid.clear();
        group.blocked.take_if(|blocked| blocked.node.is_none());
        if !group.instances.is_empty() && group.retired.is_none() {
            group.retired = Some(old.clone());
        }
    }

    fn number_group(&mut self, def: &GroupDef, since: WallTime) {
        let last = &mut self.last_group_number;
        let group = self.groups.entry(def.name.clone()).or_insert_with(|| {
            *last = last.saturating_add(1);
            Group { number: *last, since, ..Group::default() }
        });
        for resource in &def.resources {
            group.resource_numbers.entry(resource.name.clone()).or_insert_with(|| {
                *last = last.saturating_add(1);
                *last
            });
        }
    }

    fn forget_standbys(&mut self) {
        let standbys = &self.definition.standbys;
        self.manager.standbys_down.retain(|node, faults| {
            faults.retain(|network, _| {
                standbys.iter().any(|known| (known.node, known.network) == (*node, *network))
            });
            !faults.is_empty()
        });
    }
}

/// What is active, as far as a definition says it: how often one looks at a resource, or how long
/// one waits for it, is no reason to disturb it.
fn substance(def: &GroupDef) -> (bool, Vec<(&String, &ResourceKind)>) {
    let resources = def.resources.iter().map(|resource| (&resource.name, &resource.kind));
    (def.policy == Policy::Concurrent, resources.collect())
}
