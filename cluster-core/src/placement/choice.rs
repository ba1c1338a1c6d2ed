//! The policies: which of the nodes that may have a group gets it.

use std::collections::{BTreeMap, BTreeSet};

use crate::group::{Group, GroupDef, Policy, ResourceKind};
use crate::id::{NetworkNumber, NodeNumber};
use crate::state::ClusterState;

use super::nodes::Nodes;

/// Who has what, as far as the plan has come: several groups that are placed in one event must not
/// all think that the same node is idle.
pub(super) struct Layout<'a> {
    state: &'a ClusterState,
    on: BTreeMap<String, BTreeSet<NodeNumber>>,
}

impl<'a> Layout<'a> {
    pub(super) fn new(state: &'a ClusterState) -> Self {
        let on = |(name, group): (&String, &Group)| {
            (name.clone(), group.instances.keys().copied().collect())
        };
        let mut layout = Self { state, on: state.groups.iter().map(on).collect() };
        // What events bring somewhere while they go on aside.
        for running in state.manager.begun().filter(|running| running.is_at_work()) {
            for planned in &running.plan.moves {
                layout.change(&planned.group, &planned.release, &planned.acquire);
            }
        }
        layout
    }

    pub(super) fn change(&mut self, group: &str, release: &[NodeNumber], acquire: &[NodeNumber]) {
        let on = self.on.entry(group.to_owned()).or_default();
        release.iter().for_each(|node| {
            on.remove(node);
        });
        on.extend(acquire);
    }

    /// What an exclusive group leaves behind on a node that is gone does not count any more.
    pub(super) fn moved(&mut self, group: &str, to: NodeNumber) {
        self.on.insert(group.to_owned(), BTreeSet::from([to]));
    }

    /// How many groups a node has besides one.
    fn load(&self, node: NodeNumber, but: &str) -> usize {
        self.on.iter().filter(|(name, on)| *name != but && on.contains(&node)).count()
    }

    /// A rotating group on a node whose service address is on the same network as that of `def`.
    pub(super) fn rival(&self, def: &GroupDef, node: NodeNumber) -> Option<&'a GroupDef> {
        let here = |name: &str| self.on.get(name).is_some_and(|on| on.contains(&node));
        self.state.definition.groups.iter().find(|other| {
            other.policy == Policy::Rotating
                && other.name != def.name
                && network(other) == network(def)
                && here(&other.name)
        })
    }
}

/// The network of a group's first service address. Groups without one are a class of their own, so
/// that they are spread too.
pub(super) fn network(def: &GroupDef) -> Option<NetworkNumber> {
    def.resources.iter().find_map(|resource| match &resource.kind {
        ResourceKind::Address { network, .. } => Some(*network),
        _ => None,
    })
}

/// The place of a node in a group's list.
pub(super) fn rank(def: &GroupDef, node: NodeNumber) -> usize {
    def.nodes.iter().position(|listed| *listed == node).unwrap_or(usize::MAX)
}

/// The node that gets an exclusive group that nobody has, and why it is that one.
pub(super) fn best(
    nodes: &Nodes<'_>,
    layout: &Layout<'_>,
    def: &GroupDef,
    run: &Group,
) -> Option<(NodeNumber, String)> {
    if let Some(node) = run.preferred.filter(|node| nodes.may_have(def, run, *node)) {
        return Some((node, format!("{} is where an operator wants it", nodes.name(node))));
    }
    match def.policy {
        Policy::Rotating => next_in_turn(nodes, layout, def, run),
        Policy::Cascading | Policy::Concurrent => first_in_list(nodes, def, run),
    }
}

fn first_in_list(nodes: &Nodes<'_>, def: &GroupDef, run: &Group) -> Option<(NodeNumber, String)> {
    let node = *def.nodes.iter().find(|node| nodes.may_have(def, run, **node))?;
    let name = nodes.name(node);
    let first = def.nodes.first() == Some(&node);
    let what = if first { "is the first" } else { "is the first that can" };
    Some((node, format!("{name} {what} in its list")))
}

/// The list is a circle that begins behind the node that had the group: the next one without a
/// rival, else the one with the least to do.
fn next_in_turn(
    nodes: &Nodes<'_>,
    layout: &Layout<'_>,
    def: &GroupDef,
    run: &Group,
) -> Option<(NodeNumber, String)> {
    let last = run.owner().or(run.last);
    let start = last.map_or(0, |node| rank(def, node).saturating_add(1)) % def.nodes.len().max(1);
    let circle = def.nodes.iter().cycle().skip(start).take(def.nodes.len());
    let able: Vec<NodeNumber> =
        circle.copied().filter(|node| nodes.may_have(def, run, *node)).collect();
    let free = able.iter().find(|node| layout.rival(def, **node).is_none());
    if let Some(node) = free {
        return Some((*node, format!("{} is the next in turn", nodes.name(*node))));
    }
    let least = *able.iter().min_by_key(|node| layout.load(**node, &def.name))?;
    let name = nodes.name(least);
    Some((least, format!("every node has another of its network, and {name} has the least to do")))
}
