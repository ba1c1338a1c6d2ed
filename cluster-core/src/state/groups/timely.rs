//! What ends by itself: failures of a resource that are long ago.
//!
//! Nothing here is scheduled. Whatever ends has its end in the state, every entry brings the time
//! along ([`Timeline`](crate::state::Timeline)), and the first entry behind an end is the one in which
//! it takes effect: the same one on every node. So that there is one, the director proposes
//! [`GroupCommand::Due`](crate::command::GroupCommand::Due) when [`ClusterState::next_due`] says so.
//!
//! What always holds: once an entry is applied, nothing in the state is overdue.

use std::time::Duration;

use crate::group::{FailCount, Group, ResourceDef};
use crate::model::Severity;
use crate::record::Code;
use crate::time::WallTime;

use super::{ClusterState, Entry, Happening};

impl ClusterState {
    /// Time from the last entry until something ends by itself.
    pub fn next_due(&self) -> Option<Duration> {
        let now = self.timeline.elapsed_ms();
        let dues = self.failures_due().into_iter().map(|(due, ..)| due.saturating_sub(now));
        dues.min().map(Duration::from_millis)
    }

    /// Whether something should have ended by now.
    pub(in crate::state) fn is_overdue(&self) -> bool {
        self.next_due().is_some_and(|left| left.is_zero())
    }

    /// Ends what ends by now.
    pub(in crate::state) fn settle_times(&mut self, entry: &mut Entry<'_>) {
        self.forget_failures(entry);
    }

    /// The definition of a resource by the one in force.
    fn resource_def(&self, group: &str, resource: &str) -> Option<&ResourceDef> {
        self.definition.group(group)?.resources.iter().find(|def| def.name == resource)
    }

    /// When failures of a resource are forgotten, on the timeline. What made a group leave its node is
    /// kept until an operator clears it, as is that the node is avoided: it is why.
    pub(super) fn failure_due(&self, group: &str, fail: &FailCount) -> Option<u64> {
        let avoided = self.groups.get(group).is_some_and(|it| it.avoid.contains(&fail.node));
        let def = self.resource_def(group, &fail.resource).filter(|_| !avoided)?;
        Some(fail.last_ms.saturating_add(def.failure_window_ms))
    }

    /// When failures of a resource are forgotten; none if an operator has to clear them.
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
}
