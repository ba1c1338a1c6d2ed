//! What ends by itself: failures of a resource that are long ago, an operator's wish where a group shall be,
//! the time that a group waits before it goes back home, and that a group flaps.
//!
//! Nothing here is scheduled. Whatever ends has its end in the state, every entry brings the time
//! along ([`Timeline`](crate::state::Timeline)), and the first entry behind an end is the one in which
//! it takes effect: the same one on every node. So that there is one, the director proposes
//! [`GroupCommand::Due`](crate::command::GroupCommand::Due) when [`ClusterState::next_due`] says so.
//!
//! What always holds: once an entry is applied, nothing in the state is overdue.

#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::group::{FailCount, GoesBack, Group, GroupState, Policy, ResourceDef, Until};
use crate::id::NodeNumber;
use crate::model::Severity;
use crate::placement;
use crate::record::{Code, Subject};
use crate::time::WallTime;

use super::{ClusterState, Entry, Happening};

impl ClusterState {
    /// Time from the last entry until something ends by itself.
    pub fn next_due(&self) -> Option<Duration> {
        let (now, wall) = (self.timeline.elapsed_ms(), self.timeline.wall());
        let forgotten = self.failures_due().into_iter();
        let forgotten = forgotten.map(|(due, ..)| Duration::from_millis(due.saturating_sub(now)));
        let times = self.groups.values().flat_map(|group| {
            let back = group.goes_back.map(|planned| planned.at);
            wish_ends_at(group).into_iter().chain(back)
        });
        let left = |at: WallTime| u64::try_from(at.0.saturating_sub(wall.0)).unwrap_or(0);
        let steady = self.groups.values().filter_map(|group| self.steady_due(group));
        let steady = steady.map(|due| Duration::from_millis(due.saturating_sub(now)));
        let over = self.limits_due().map(|due| Duration::from_millis(due.saturating_sub(now)));
        forgotten
            .chain(steady)
            .chain(over)
            .chain(times.map(|at| Duration::from_micros(left(at))))
            .min()
    }

    /// Whether something should have ended by now.
    pub(in crate::state) fn is_overdue(&self) -> bool {
        self.next_due().is_some_and(|left| left.is_zero())
    }

    /// Ends what ends by now.
    pub(in crate::state) fn settle_times(&mut self, entry: &mut Entry<'_>) {
        self.forget_failures(entry);
        self.end_wishes(entry);
        self.end_flapping(entry);
        self.end_overlong(entry);
    }

    /// Plans when groups that wait for that go back home.
    pub(in crate::state) fn plan_returns(&mut self) {
        let names = self.groups.keys().cloned();
        let planned: Vec<(String, Option<GoesBack>)> = names
            .map(|name| {
                let planned = placement::goes_back(self, &name);
                (name, planned)
            })
            .collect();
        for (name, planned) in planned {
            if let Some(group) = self.groups.get_mut(&name) {
                group.goes_back = planned;
            }
        }
    }

    /// The definition of a resource by the one in force.
    fn resource_def(&self, group: &str, resource: &str) -> Option<&ResourceDef> {
        self.definition.group(group)?.resources.iter().find(|def| def.name == resource)
    }

    /// When failures of a resource are forgotten, on the timeline, wherever its group is. That a node is avoided
    /// is another thing: an operator clears that, and why is kept with it.
    pub(super) fn failure_due(&self, group: &str, fail: &FailCount) -> Option<u64> {
        let def = self.resource_def(group, &fail.resource)?;
        Some(fail.last_ms.saturating_add(def.failure_window_ms))
    }

    /// When failures of a resource are forgotten; none if it is configured no more.
    pub fn failures_end(&self, group: &str, fail: &FailCount) -> Option<WallTime> {
        self.failure_due(group, fail)?;
        let def = self.resource_def(group, &fail.resource)?;
        Some(fail.last.plus(Duration::from_millis(def.failure_window_ms)))
    }

    /// How many times a resource that failed would still be restarted in place on that node.
    pub fn restarts_left(&self, group: &str, fail: &FailCount) -> u32 {
        let def = self.resource_def(group, &fail.resource);
        def.map_or(0, |def| def.restarts.saturating_sub(fail.count))
    }

    /// Failures that end by themselves: when on the timeline, and whose.
    fn failures_due(&self) -> Vec<(u64, String, FailCount)> {
        let of_group = |(name, group): (&String, &Group)| {
            let due = |fail: &FailCount| {
                Some((self.failure_due(name, fail)?, name.clone(), fail.clone()))
            };
            group.fails.iter().filter_map(due).collect::<Vec<_>>()
        };
        self.groups.iter().flat_map(of_group).collect()
    }

    fn forget_failures(&mut self, entry: &mut Entry<'_>) {
        let now = self.timeline.elapsed_ms();
        for (_, name, old) in self.failures_due().into_iter().filter(|(due, ..)| *due <= now) {
            let window = self.resource_def(&name, &old.resource).map_or(0, |d| d.failure_window_ms);
            if let Some(group) = self.groups.get_mut(&name) {
                group.fails.retain(|fail| *fail != old);
            }
            let (resource, node) = (&old.resource, old.node);
            let message =
                format!("failures of {resource} on {} are forgotten", self.node_name(node));
            let why = format!("none for {}", crate::document::duration_text(window));
            let subject = self.resource_subject(&name, resource);
            let code = Code::FailuresCleared;
            let happening = Happening::new(code, Severity::Informational, subject, message);
            let happening = Happening { node: Some(node), ..happening.because(why) };
            self.record(entry, happening);
        }
    }

    /// Wishes whose time is over, and those that are of no use any more because the group is home.
    fn end_wishes(&mut self, entry: &mut Entry<'_>) {
        let wall = self.timeline.wall();
        let over = |(name, group): (&String, &Group)| {
            let node = group.preferred?;
            let why = if wish_ends_at(group).is_some_and(|at| at <= wall) {
                "the time that was set for it is over"
            } else if self.home_of(name) == Some(node) && is_online_on(group, node) {
                "the group is home"
            } else {
                return None;
            };
            Some((name.clone(), why.to_owned()))
        };
        let over: Vec<(String, String)> = self.groups.iter().filter_map(over).collect();
        for (name, why) in over {
            self.end_wish(entry, &name, &why);
        }
    }

    /// A node joined: wishes that were to last until then are over.
    pub(in crate::state) fn home_is_back(&mut self, entry: &mut Entry<'_>, node: NodeNumber) {
        let over = |(name, group): &(&String, &Group)| {
            group.preferred.is_some()
                && group.preferred_until == Some(Until::Home)
                && self.home_of(name) == Some(node)
        };
        let over: Vec<String> =
            self.groups.iter().filter(over).map(|(name, _)| name.clone()).collect();
        for name in over {
            let why = format!("its home {} is back", self.node_name(node));
            self.end_wish(entry, &name, &why);
        }
    }

    /// The home of a cascading group.
    fn home_of(&self, name: &str) -> Option<NodeNumber> {
        let def = self.definition.group(name)?;
        if def.policy == Policy::Cascading { placement::home(self, def) } else { None }
    }

    fn end_wish(&mut self, entry: &mut Entry<'_>, name: &str, why: &str) {
        let Some(group) = self.groups.get_mut(name) else { return };
        group.preferred_until = None;
        let (number, node) = (group.number, group.preferred.take());
        let place = node.map_or_else(|| "its node".into(), |node| self.node_name(node));
        let message = format!("preference of group {name} for {place} has ended");
        let subject = Subject::Group(number);
        let (code, severity) = (Code::GroupOrdered, Severity::Informational);
        let happening = Happening::new(code, severity, subject, message).because(why);
        self.record(entry, happening);
    }
}

/// When an operator's wish ends, if at a time.
fn wish_ends_at(group: &Group) -> Option<WallTime> {
    match (group.preferred, group.preferred_until) {
        (Some(_), Some(Until::At(at))) => Some(at),
        _ => None,
    }
}

fn is_online_on(group: &Group, node: NodeNumber) -> bool {
    group.instances.get(&node).is_some_and(|instance| instance.state == GroupState::Online)
}
