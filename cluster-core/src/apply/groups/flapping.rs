//! Flapping: a group that fails over again and again is one trouble, and one alert.
//!
//! A group flaps from its nth failover within a window ([`ManagerOptions::flap_failovers`],
//! [`ManagerOptions::flap_window_ms`]) until none came for that window, or an operator clears it. Its beginning and its end are on record,
//! with an alert each; in between, what happens to the group is on record as ever, and alerts nobody, but that it
//! needs an operator.
//!
//! [`ManagerOptions::flap_failovers`]: crate::definition::ManagerOptions::flap_failovers
//! [`ManagerOptions::flap_window_ms`]: crate::definition::ManagerOptions::flap_window_ms

use crate::document::duration_text;
use crate::group::Group;
use crate::model::Severity;
use crate::record::{Code, Subject};

use super::{ClusterState, Entry, RecordDraft};

impl ClusterState {
    /// A group came online on another node after a failure.
    pub(super) fn failed_over(&mut self, entry: &mut Entry<'_>, name: &str) {
        let (now, at) = (self.timeline.elapsed_ms(), entry.proposal.at);
        let options = &self.definition.manager;
        let (most, window) = (options.flap_failovers as usize, options.flap_window_ms);
        let Some(group) = self.groups.get_mut(name).filter(|_| most > 0) else { return };
        group.failed_over_ms.retain(|earlier| earlier.saturating_add(window) > now);
        group.failed_over_ms.push(now);
        let (number, count) = (group.number, group.failed_over_ms.len());
        // Older ones than those that count need not be kept.
        group.failed_over_ms.drain(..count.saturating_sub(most));
        if count < most || group.flapping.is_some() {
            return;
        }
        group.flapping = Some(at);
        let message = format!("group {name} fails over again and again");
        let why = format!(
            "{count} failovers within {}; its next ones alert nobody until it is steady",
            duration_text(window)
        );
        self.say_flapping(entry, number, Severity::Error, message, why, ("steady", "flapping"));
    }

    /// Ends what ends by now.
    pub(super) fn end_flapping(&mut self, entry: &mut Entry<'_>) {
        let now = self.timeline.elapsed_ms();
        let over = |group: &Group| self.steady_due(group).is_some_and(|due| due <= now);
        let over: Vec<String> = self
            .groups
            .iter()
            .filter(|(_, group)| over(group))
            .map(|(name, _)| name.clone())
            .collect();
        let why =
            format!("no failover for {}", duration_text(self.definition.manager.flap_window_ms));
        for name in over {
            self.steady_again(entry, &name, why.clone());
        }
    }

    /// A group flaps no more, and its failovers count anew.
    pub(super) fn steady_again(&mut self, entry: &mut Entry<'_>, name: &str, why: String) {
        let Some(group) = self.groups.get_mut(name) else { return };
        group.flapping = None;
        group.failed_over_ms.clear();
        let (number, message) = (group.number, format!("group {name} is steady again"));
        self.say_flapping(entry, number, Severity::Notice, message, why, ("flapping", "steady"));
    }

    fn say_flapping(
        &mut self,
        entry: &mut Entry<'_>,
        number: u16,
        severity: Severity,
        message: String,
        why: String,
        (from, to): (&str, &str),
    ) {
        let happening =
            RecordDraft::new(Code::GroupFlapping, severity, Subject::Group(number), message);
        let happening = happening.change(from, to).because(why).alerting(true);
        let happening = self.in_event(entry, happening, None, None);
        self.record(entry, happening);
    }
}
