//! What a site has said beforehand about its own events (`[events.UE_…]` of the document): what becomes of one of
//! which a command failed, and how long one may run altogether.
//!
//! Built-in events have neither: what they leave undone is for an operator to see. Nothing waits for time here:
//! the end of a limit is in the state, and the first entry behind it is where it takes effect
//! ([`timely`](crate::apply::groups)).

use std::collections::BTreeSet;

use crate::definition::OnFailure;
use crate::document::duration_text;
use crate::event::{RecoverAction, Running, Stage};
use crate::id::NodeNumber;
use crate::model::Severity;
use crate::record::Code;

use super::{ClusterState, Entry, step_of};

/// What is said of a failure: what happens now, or what an operator can do.
pub(super) fn policy_words(policy: OnFailure, event: u64) -> String {
    match policy {
        OnFailure::Wait => format!("vedette recover retry, skip or abort --event {event}"),
        OnFailure::Skip => "the event goes on without it, as its on_failure says".into(),
        OnFailure::Abort => "the event ends, as its on_failure says".into(),
    }
}

impl ClusterState {
    /// Ends commands of events whose time is over: who has not arrived has failed.
    pub(in crate::apply) fn end_overlong(&mut self, entry: &mut Entry<'_>) {
        let now = self.timeline.elapsed_ms();
        let over = |running: &&Running| {
            running.stage == Stage::Running
                && !running.overran
                && running.ends_ms.is_some_and(|ends| ends <= now)
        };
        let over: Vec<u64> = self.manager.begun().filter(over).map(|it| it.event.id).collect();
        for event in over {
            self.overran(entry, event);
        }
    }

    fn overran(&mut self, entry: &mut Entry<'_>, event: u64) {
        let Some(running) = self.manager.begun_mut(event) else { return };
        let late: BTreeSet<NodeNumber> =
            running.participants.difference(&running.arrived).copied().collect();
        running.failed.extend(&late);
        running.stage = Stage::Error;
        running.overran = true;
        let limit = running.time_limit_ms.unwrap_or_default();
        let event = running.event.clone();
        let policy = self.on_failure(&event.trigger);
        let advice = match policy {
            OnFailure::Wait => policy_words(policy, event.id),
            OnFailure::Skip | OnFailure::Abort => "it ends, as its on_failure says".into(),
        };
        let (label, limit) = (self.event_label(&event), duration_text(limit));
        let message =
            format!("{label} has run for longer than its time limit of {limit}; {advice}");
        let severity = if policy == OnFailure::Wait { Severity::Error } else { Severity::Warning };
        let why =
            format!("its commands on {} have not ended, and are ended now", self.names(&late));
        let step = step_of(&event, Code::EventFailed, severity, message).because(why);
        self.record(entry, step.of_event(event.id, None, None).alerting(true));
    }

    /// An event that failed goes on by itself, if that was said beforehand. Commands that still run on other
    /// nodes are waited for.
    pub(super) fn follow_policy(&mut self, entry: &mut Entry<'_>, id: u64) {
        let stuck = |running: &&Running| running.event.id == id && running.is_stuck();
        let Some(running) = self.manager.begun().find(stuck) else { return };
        let (event, overran) = (running.event.clone(), running.overran);
        let failed = self.names(&running.failed);
        let (action, what) = match (self.on_failure(&event.trigger), overran) {
            (OnFailure::Wait, _) => return,
            (OnFailure::Skip, false) => (RecoverAction::Skip, "what failed is skipped"),
            (OnFailure::Skip | OnFailure::Abort, _) => (RecoverAction::Abort, "it is aborted"),
        };
        let message = format!("{}: {what}", self.event_label(&event));
        let why = match overran {
            true => format!("its time limit is over, and it had failed on {failed}"),
            false => format!("it had failed on {failed}, and its on_failure says so"),
        };
        let step = step_of(&event, Code::EventRecovered, Severity::Notice, message)
            .change("error", action)
            .because(why);
        self.record(entry, step);
        if action == RecoverAction::Abort {
            let how = if overran { "its time limit is over" } else { "a command failed" };
            self.end_event(entry, id, &format!("aborted: {how}"));
        } else if let Some(running) = self.manager.begun_mut(id) {
            running.arrived.extend(std::mem::take(&mut running.failed));
            (running.skipped, running.stage) = (true, Stage::Running);
        }
    }
}

#[cfg(test)]
mod tests;
