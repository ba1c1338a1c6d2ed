//! What a change would do to groups that run at this moment.

use crate::document::diff::continues;
use crate::group::{Group, GroupDef, GroupState, Instance, Policy};
use crate::id::NodeNumber;
use crate::model::HostStatus;
use crate::state::ClusterState;

use super::{Document, Finding};

/// Nodes where something of a group may be active.
fn places(group: &Group) -> Vec<NodeNumber> {
    group.instances.keys().copied().collect()
}

pub(super) fn check(document: &Document, state: &ClusterState, found: &mut Vec<Finding>) {
    for (name, group) in state.groups.iter().filter(|(_, group)| !group.instances.is_empty()) {
        match document.definition.group(name) {
            None => removed(state, name, group, found),
            Some(definition) => changed(state, definition, group, found),
        }
        left_running(document, state, (name, group), found);
    }
}

/// Refuses to release and acquire again, or to forget, a group that maintenance or a forced stop left running: it would
/// be off until that ends, or go on by a definition that is nowhere any more.
fn left_running(
    document: &Document,
    state: &ClusterState,
    (name, group): (&str, &Group),
    found: &mut Vec<Finding>,
) {
    let left = |(node, it): &(&NodeNumber, &Instance)| {
        state.is_left_alone(name, **node) || it.state == GroupState::Unmanaged
    };
    let left: Vec<String> =
        (group.instances.iter().filter(left)).map(|(node, _)| state.node_name(*node)).collect();
    let before = group.retired.as_ref().or_else(|| state.definition.group(name));
    let after = document.definition.group(name);
    let (Some(before), Some(after)) = (before, after) else { return };
    let there = group.instances.keys().all(|node| after.nodes.contains(node));
    if left.is_empty() || (there && continues(before, after)) {
        return;
    }
    let what = format!(
        "{name} is left running on {} (maintenance, or a forced stop), and this would release it",
        left.join(", ")
    );
    let advice = format!(
        "End that first (vedette maintenance off, or start its manager), or leave {name} as it is until then."
    );
    found.push(Finding::error(format!("groups.{name}"), what, advice));
}

fn removed(state: &ClusterState, name: &str, group: &Group, found: &mut Vec<Finding>) {
    if state.definition.group(name).is_none() {
        return; // It is on its way out already.
    }
    let nodes: Vec<String> = places(group).into_iter().map(|node| state.node_name(node)).collect();
    let what =
        format!("{name} would be removed although it is {} on {}", group.state(), nodes.join(", "));
    let advice = "It will be released there; take it offline first if that shall be seen to.";
    found.push(Finding::warning(format!("groups.{name}"), what, advice));
    if group.state() == GroupState::Unmanaged {
        let what = format!("{name} runs unmanaged since a forced stop, so nobody would release it");
        let advice = "Start the manager of its node first, then remove the group.";
        found.push(Finding::error(format!("groups.{name}"), what, advice));
    }
}

fn changed(state: &ClusterState, new: &GroupDef, group: &Group, found: &mut Vec<Finding>) {
    let key = format!("groups.{}.nodes", new.name);
    let there = |node: &NodeNumber| {
        state.nodes.get(node).is_some_and(|node| node.host == HostStatus::Up)
            && state.manager.members.get(node).is_none_or(|member| member.stopped.is_none())
    };
    if new.policy != Policy::Concurrent && group.instances.len() > 1 {
        let what = format!(
            "{} runs on {} nodes at once, which a {} group cannot",
            new.name,
            group.instances.len(),
            new.policy
        );
        let advice = format!("Take it offline first: vedette group offline {}.", new.name);
        found.push(Finding::error(format!("groups.{}.policy", new.name), what, advice));
    }
    for node in places(group).into_iter().filter(|node| !new.nodes.contains(node)) {
        let name = state.node_name(node);
        if new.nodes.iter().any(there) {
            let what = format!("{} runs on {name}, which is no longer in its list", new.name);
            found.push(Finding::warning(
                &key,
                what,
                "It will be moved to another node of its list.",
            ));
        } else {
            let what = format!(
                "{} runs on {name}, which is no longer in its list, and no other node of it is there",
                new.name
            );
            let advice = format!("Keep {name} in the list, or start one of the others first.");
            found.push(Finding::error(&key, what, advice));
        }
    }
}
