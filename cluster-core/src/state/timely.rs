//! What ends by itself, and when: failures that are long ago, wishes of operators, waits before a group goes home,
//! flapping, time limits of events.
//!
//! All of it is compared with the [`Timeline`](super::Timeline); [`ClusterState::apply`] ends what is due.

use std::time::Duration;

use crate::event::{Running, Stage};
use crate::group::{FailCount, Group, ResourceDef, Until};
use crate::time::WallTime;

use super::ClusterState;

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
        let over = self.limits_due().chain(self.patience_due());
        let over = over.map(|due| Duration::from_millis(due.saturating_sub(now)));
        forgotten
            .chain(steady)
            .chain(over)
            .chain(times.map(|at| Duration::from_micros(left(at))))
            .min()
    }

    /// Whether something should have ended by now.
    pub(crate) fn is_overdue(&self) -> bool {
        self.next_due().is_some_and(|left| left.is_zero())
    }

    /// When failures of a resource are forgotten, on the timeline, wherever its group is. That a node is avoided
    /// is another thing: an operator clears that, and why is kept with it.
    pub(crate) fn failure_due(&self, group: &str, fail: &FailCount) -> Option<u64> {
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
    pub(crate) fn failures_due(&self) -> Vec<(u64, String, FailCount)> {
        let of_group = |(name, group): (&String, &Group)| {
            let due = |fail: &FailCount| {
                Some((self.failure_due(name, fail)?, name.clone(), fail.clone()))
            };
            group.fails.iter().filter_map(due).collect::<Vec<_>>()
        };
        self.groups.iter().flat_map(of_group).collect()
    }

    /// The definition of a resource by the one in force.
    pub(crate) fn resource_def(&self, group: &str, resource: &str) -> Option<&ResourceDef> {
        self.definition.group(group)?.resources.iter().find(|def| def.name == resource)
    }

    /// When a group that flaps is steady again, on the timeline.
    pub(crate) fn steady_due(&self, group: &Group) -> Option<u64> {
        group.flapping?;
        let last = group.failed_over_ms.last().copied().unwrap_or(0);
        Some(last.saturating_add(self.definition.manager.flap_window_ms))
    }

    /// When the time of events that run is over, on the timeline.
    fn limits_due(&self) -> impl Iterator<Item = u64> {
        let runs = |running: &&Running| running.stage == Stage::Running && !running.overran;
        self.manager.begun().filter(runs).filter_map(|running| running.ends_ms)
    }
}

/// When an operator's wish ends, if at a time.
pub(crate) fn wish_ends_at(group: &Group) -> Option<WallTime> {
    match (group.preferred, group.preferred_until) {
        (Some(_), Some(Until::At(at))) => Some(at),
        _ => None,
    }
}
