//! What is not as it should be with groups and events. A group that needs an operator is worse than
//! anything; one in motion is told because nobody is served by it at this moment; maintenance is
//! told last, and always, because a cluster in which nothing fails over looks healthy.

use vedette_core::event::{Running, Stage};
use vedette_core::group::{Group, GroupState, ResourceState};
use vedette_core::id::NodeNumber;
use vedette_core::state::ClusterState;
use vedette_core::time::WallTime;

use super::super::group::{serving, standby_nodes, waits_for, waits_for_evidence};
use super::super::manager::maintenance;
use super::since;

/// Problems with their ranks, least worst.
pub(super) fn problems(state: &ClusterState, now: WallTime) -> Vec<(u8, String)> {
    let mut found: Vec<(u8, String)> = Vec::new();
    found.extend(state.groups.iter().filter_map(|(name, group)| of_group(state, name, group, now)));
    found.extend(state.groups.iter().flat_map(|(name, group)| twice(state, name, group, now)));
    found.extend(state.manager.begun().filter_map(|running| of_event(state, running, now)));
    found.extend(failures(state));
    found.extend(avoided(state));
    found.extend(stopped(state));
    found.extend(blind(state));
    found.extend(maintenance(state).into_iter().map(|sentence| (8, sentence)));
    found
}

fn of_group(
    state: &ClusterState,
    name: &str,
    group: &Group,
    now: WallTime,
) -> Option<(u8, String)> {
    let from = group.blocked.as_ref().map_or(group.since, |blocked| blocked.since);
    let since = since(from, now);
    let is = group.state();
    let on = group.owner().map(|node| format!(" on {}", state.node_name(node)));
    let on = on.unwrap_or_default();
    match (is, &group.blocked) {
        (GroupState::Online, Some(blocked)) => {
            let (why, then) = (&blocked.why, "nothing is done with it until that is over");
            Some((0, format!("group {name} is ONLINE{on} and blocked {since} ({why}): {then}")))
        }
        (_, Some(blocked)) => Some((0, format!("group {name} is ERROR {since} ({})", blocked.why))),
        (GroupState::Error, None) => Some((0, format!("group {name} is ERROR{on} {since}"))),
        (GroupState::Offline, None) if group.is_wanted_off() => None,
        (GroupState::Offline, None) if is_kept_off(group) => {
            let why = group.stopped_for.as_deref().unwrap_or_default();
            let then = format!("vedette group online {name}");
            Some((
                0,
                format!("group {name} is OFFLINE {since} ({why}); once that is mended: {then}"),
            ))
        }
        (GroupState::Offline, None) => match group.held_for {
            Some(node) => {
                let node = state.node_name(node);
                Some((6, format!("group {name} is OFFLINE {since} and waits for {node}")))
            }
            None => {
                Some((1, format!("group {name} is OFFLINE {since}{}", waits(state, name, group))))
            }
        },
        (GroupState::Online, None) => failing(state, name, group, now),
        (GroupState::Unmanaged, None) if is_left_to_nobody(state, group) => {
            let waits = waits(state, name, group);
            let what = format!("it was left running unwatched{on}, which is DOWN{waits}");
            Some((0, format!("{NOBODY} {name}: {what}")))
        }
        (GroupState::Unmanaged, None) if has_left(state, group) => Some((
            6,
            format!(
                "group {name} was left running{on} when its daemon ended {since}: nobody watches it, and \
                 whether it runs is not known"
            ),
        )),
        (GroupState::Unmanaged, None) => {
            Some((6, format!("group {name} is UNMANAGED{on} {since}: nobody watches it")))
        }
        _ => {
            let waits = waits(state, name, group);
            // Nobody serves it, and nobody will before an operator, or a fence agent, has done something.
            let rank = if waits_for_evidence(state, name, group).is_some() { 0 } else { 1 };
            Some((rank, format!("group {name} is {is}{on} {since}{waits}")))
        }
    }
}

/// A resource of a group in service that does not work: in maintenance it stays so, else it is started again in place.
fn failing(state: &ClusterState, name: &str, group: &Group, now: WallTime) -> Option<(u8, String)> {
    use ResourceState::{Failed, Offline, Starting, Stopping};
    let all = group.instances.iter().flat_map(|(node, it)| {
        let serves = it.state == GroupState::Online;
        it.resources.iter().map(move |(resource, status)| (node, serves, resource, status))
    });
    let (node, _, resource, status) = all.into_iter().find(|(_, serves, _, status)| {
        status.state == Failed || (*serves && matches!(status.state, Offline | Starting | Stopping))
    })?;
    let since = since(status.since, now);
    let why = match status.detail.as_str() {
        "" => String::new(),
        detail => format!(" ({})", detail.trim_end_matches('.')),
    };
    let then = if state.is_left_alone(name, *node) {
        ", and maintenance leaves it so"
    } else if status.state != Failed {
        ": it is started again in place"
    } else {
        ""
    };
    let (is, node) = (status.state, state.node_name(*node));
    Some((1, format!("{resource} of group {name} is {is} on {node} {since}{why}{then}")))
}

/// Whether its policy had the group stopped, and keeps it off until an operator says something.
pub(super) fn is_kept_off(group: &Group) -> bool {
    group.stopped_for.is_some() && group.state() == GroupState::Offline
}

/// Whether the node that has the group said that it leaves.
fn has_left(state: &ClusterState, group: &Group) -> bool {
    group.owner().and_then(|node| state.nodes.get(&node)).is_some_and(|node| node.left)
}

/// What runs of a group where it is not, or may: two nodes may write the same data.
fn twice(
    state: &ClusterState,
    name: &str,
    group: &Group,
    now: WallTime,
) -> impl Iterator<Item = (u8, String)> {
    group.also.iter().map(move |(node, seen)| {
        let resources: Vec<&str> = seen.resources.iter().map(String::as_str).collect();
        let resources = resources.join(", ");
        let (place, since) = (state.node_name(*node), since(seen.since, now));
        let Some(doubt) = state.doubt(*node, seen) else {
            return (0, format!("group {name} also runs on {place} {since} ({resources})"));
        };
        let then = state.make_certain(*node);
        (1, format!("group {name} may also run on {place} {since} ({resources}): {doubt}; {then}"))
    })
}

/// Beginning of the problem of a group that runs nowhere, as far as anybody knows, and that nobody will take.
pub(super) const NOBODY: &str = "nobody is known to serve";

/// A group that a forced stop left running on a node that is DOWN since: whether it runs is not known, and nobody
/// takes it before an operator says so.
pub(super) fn is_left_to_nobody(state: &ClusterState, group: &Group) -> bool {
    group.state() == GroupState::Unmanaged && serving(state, group).next().is_none()
}

fn waits(state: &ClusterState, name: &str, group: &Group) -> String {
    waits_for(state, name, group).map(|what| format!("; it waits for {what}")).unwrap_or_default()
}

/// Whether nothing is done about a group before an operator has continued a failed event.
pub(super) fn is_held_up(state: &ClusterState, name: &str, group: &Group) -> bool {
    let failed = state.manager.failed().any(|running| running.concerns(name));
    failed && waits_for(state, name, group).is_some()
}

/// A group that is in service on one node and that no other node would take now.
pub(super) fn alone(state: &ClusterState) -> Option<&str> {
    let mut groups = state.groups.iter().filter(|(name, group)| {
        group.state() == GroupState::Online
            && group.instances.len() == 1
            && standby_nodes(state, name, group).next().is_none()
    });
    groups.next().map(|(name, _)| name.as_str())
}

/// Managers that an operator stopped: their nodes look healthy and would take nothing over.
fn stopped(state: &ClusterState) -> impl Iterator<Item = (u8, String)> {
    state.manager.members.iter().filter_map(move |(node, member)| {
        let (how, node) = (member.stopped?, state.node_name(*node));
        let is = if member.joined { "is being stopped" } else { "is stopped" };
        Some((
            6,
            format!("the manager of {node} {is} ({how}): it takes no group until vedette start --node {node}"),
        ))
    })
}

/// What is to be watched and cannot be: its event would not happen.
fn blind(state: &ClusterState) -> impl Iterator<Item = (u8, String)> {
    state.manager.blind.iter().flat_map(move |(node, all)| {
        let node = state.node_name(*node);
        all.iter().map(move |(what, why)| {
            let how = match ClusterState::is_look(what) {
                true => "cannot be looked for",
                false => "sees nothing",
            };
            (7, format!("{what} {how} on {node} ({why})"))
        })
    })
}

fn of_event(state: &ClusterState, running: &Running, now: WallTime) -> Option<(u8, String)> {
    let what = state.trigger_label(&running.event.trigger);
    let failed = running.failed.iter().map(|node| state.node_name(*node)).collect::<Vec<_>>();
    match running.stage {
        Stage::Error => Some((
            0,
            format!(
                "event {what} failed on {} {} and waits for an operator: vedette recover show",
                failed.join(", "),
                since(running.since, now)
            ),
        )),
        _ if running.too_long => {
            Some((2, format!("event {what} runs too long, {}", since(running.began, now))))
        }
        _ => None,
    }
}

/// Nodes that would not get a group back though its failures there are forgotten.
fn avoided(state: &ClusterState) -> impl Iterator<Item = (u8, String)> {
    state.groups.iter().flat_map(move |(name, group)| {
        let told = |node: &NodeNumber| group.fails.iter().any(|fail| fail.node == *node);
        let why = group.avoid_why.iter();
        let why = why.filter(move |(node, _)| group.avoid.contains(node) && !told(node));
        why.map(move |(node, why)| {
            let (node, why) = (state.node_name(*node), why.trim_end_matches('.'));
            (7, format!("group {name} avoids {node} ({why}); vedette group clear {name}"))
        })
    })
}

/// Resources that failed and were brought back: served, but somebody should look.
fn failures(state: &ClusterState) -> impl Iterator<Item = (u8, String)> {
    state.groups.iter().flat_map(move |(name, group)| {
        group.fails.iter().map(move |fail| {
            let node = state.node_name(fail.node);
            let times =
                if fail.count == 1 { "once".into() } else { format!("{} times", fail.count) };
            (
                7,
                format!(
                    "{} of group {name} failed {times} on {node} ({}); vedette group clear {name}",
                    fail.resource, fail.why
                ),
            )
        })
    })
}
