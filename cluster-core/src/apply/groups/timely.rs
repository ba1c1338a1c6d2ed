//! What ends by itself: failures of a resource that are long ago, an operator's wish where a group shall be,
//! the time that a group waits before it goes back home, that a group flaps, and that others wait for an event.
//!
//! Nothing here is scheduled. Whatever ends has its end in the state, every entry brings the time
//! along ([`Timeline`](crate::state::Timeline)), and the first entry behind an end is the one in which
//! it takes effect: the same one on every node. So that there is one, the director proposes
//! [`GroupCommand::Due`](crate::command::GroupCommand::Due) when [`ClusterState::next_due`] says so.
//!
//! What always holds: once an entry is applied, nothing in the state is overdue.

#[cfg(test)]
mod tests;

use crate::group::{GoesBack, Group, GroupState, Policy, Until};
use crate::id::NodeNumber;
use crate::model::Severity;
use crate::placement;
use crate::record::{Code, Subject};
use crate::state::wish_ends_at;

use super::{ClusterState, Entry, RecordDraft};

impl ClusterState {
    /// Ends what ends by now.
    pub(in crate::apply) fn settle_times(&mut self, entry: &mut Entry<'_>) {
        self.forget_failures(entry);
        self.end_wishes(entry);
        self.end_flapping(entry);
        self.end_overlong(entry);
        self.end_patience();
    }

    /// Plans when groups that wait for that go back home.
    pub(in crate::apply) fn plan_returns(&mut self) {
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
            let happening = RecordDraft::new(code, Severity::Informational, subject, message);
            let happening = RecordDraft { node: Some(node), ..happening.because(why) };
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
    pub(in crate::apply) fn home_is_back(&mut self, entry: &mut Entry<'_>, node: NodeNumber) {
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

    pub(super) fn end_wish(&mut self, entry: &mut Entry<'_>, name: &str, why: &str) {
        let Some(group) = self.groups.get_mut(name) else { return };
        group.preferred_until = None;
        let (number, node) = (group.number, group.preferred.take());
        let place = node.map_or_else(|| "its node".into(), |node| self.node_name(node));
        let message = format!("preference of group {name} for {place} has ended");
        let subject = Subject::Group(number);
        let (code, severity) = (Code::GroupOrdered, Severity::Informational);
        let happening = RecordDraft::new(code, severity, subject, message).because(why);
        self.record(entry, happening);
    }
}

fn is_online_on(group: &Group, node: NodeNumber) -> bool {
    group.instances.get(&node).is_some_and(|instance| instance.state == GroupState::Online)
}
