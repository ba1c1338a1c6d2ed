//! When a cascading group goes back home: not at once, if its definition asks for a delay or has a window.
//!
//! The delay counts from the moment at which the home joined, on the cluster's timeline: a home that comes
//! and goes is not gone back to. The window is a part of the day in UTC, which everybody's clock shows alike;
//! it matters for the beginning of the move only. Both are about going *back*: a group that has nowhere else
//! to be goes home at any time.

use std::time::Duration;

use crate::group::{GoesBack, GroupDef, Policy};
use crate::id::NodeNumber;
use crate::state::ClusterState;
use crate::time::WallTime;

use super::Occasion;
use super::nodes::Nodes;

/// The node to which a cascading group goes back: the first of its list that is a member.
pub(crate) fn home(state: &ClusterState, def: &GroupDef) -> Option<NodeNumber> {
    def.nodes.iter().copied().find(|node| state.nodes.contains_key(node))
}

/// When a group may go back to its home, if that is later than now; `joins`: home joins in this event.
pub(super) fn later(
    state: &ClusterState,
    def: &GroupDef,
    home: NodeNumber,
    joins: bool,
) -> Option<WallTime> {
    let (now, now_ms) = (state.timeline.wall(), state.timeline.elapsed_ms());
    let member = state.manager.members.get(&home).filter(|_| !joins);
    let (at, ms) = member.map_or((now, now_ms), |member| (member.joined_at, member.joined_ms));
    let delay = def.fallback_delay_ms;
    let rest = ms.saturating_add(delay).saturating_sub(now_ms);
    // The same moment in every entry, unless a clock was set meanwhile.
    let planned = at.plus(Duration::from_millis(delay));
    let earliest = match rest {
        0 => now,
        _ if planned > now => planned,
        _ => now.plus(Duration::from_millis(rest)),
    };
    let at = def.fallback_window.map_or(earliest, |window| window.next(earliest));
    (at > now).then_some(at)
}

/// Where a group goes back to later, and when, as things are.
pub fn goes_back(state: &ClusterState, name: &str) -> Option<GoesBack> {
    let (def, run) = (state.definition.group(name)?, state.groups.get(name)?);
    let delayed = def.fallback_delay_ms > 0 || def.fallback_window.is_some();
    if !delayed || !def.fallback || def.policy != Policy::Cascading || run.blocked.is_some() {
        return None;
    }
    let (nodes, home) = (Nodes::new(state, Occasion::Reconcile), home(state, def)?);
    let wished = run.preferred.is_some_and(|node| nodes.may_have(def, run, node));
    let owner = run.owner().filter(|owner| *owner != home && !wished && !run.wanted_offline)?;
    let stays = run.instances[&owner].is_left() || nodes.maintenance(run).is_some();
    if stays || !nodes.may_have(def, run, home) {
        return None;
    }
    later(state, def, home, false).map(|at| GoesBack { to: home, at })
}
