//! Events that make room for others: those that failed, and those whose commands others have waited for long enough.
//!
//! One event is in progress at a time, and what happens meanwhile waits for it, as almost every event is over within
//! a moment. One program that hangs would hold up everything else until its time is over: so others wait no longer than the
//! detection time. From then on the event is *slow*, and any other may begin beside it that does not have to come after
//! it ([`Running::holds_up`]). Its commands run on, and it passes its barriers; what they have in hand nobody else
//! touches ([`Running::has_in_hand`]), and if that takes ten times as long the rest of its plan is given up: another
//! event moves that.
//!
//! Nothing waits for time here: the end of the patience is in the state, and takes effect in the first entry behind
//! it, which the director proposes ([`ClusterState::patience_due`]).

use crate::event::Running;
use crate::model::Severity;
use crate::plan::Move;
use crate::record::Code;
use crate::trigger::Trigger;

use super::{ClusterState, Entry, step_of};

impl ClusterState {
    /// Events for which others have waited long enough are slow from now on.
    pub(in crate::apply) fn end_patience(&mut self) {
        let now = self.timeline.elapsed_ms();
        for running in self.manager.all_begun_mut() {
            running.slow |= running.awaited_ms.is_some_and(|until| until <= now);
        }
    }

    /// An event that failed steps aside for another one, and so does one whose commands others have waited for long
    /// enough: neither what needs an operator nor one program that does not end holds up anything else.
    pub(super) fn step_aside(&mut self, entry: &mut Entry<'_>, for_whom: &str) {
        let Some(running) = self.manager.current.take() else { return };
        let message = format!("{} steps aside for {for_whom}", self.event_label(&running.event));
        let step = step_of(&running.event, Code::EventPhase, Severity::Informational, message);
        let why = if running.may_run_aside() {
            "its commands run on: nothing else waits for them"
        } else {
            "it failed and waits for an operator: vedette recover show"
        };
        self.record(entry, step.because(why));
        self.set_aside(running);
    }

    /// With nothing else to do, the first event that stepped aside is in progress again. What a later event made
    /// needless is over.
    pub(super) fn take_up_again(&mut self, entry: &mut Entry<'_>) {
        while self.manager.current.is_none()
            && self.manager.next().is_none()
            && !self.manager.aside.is_empty()
        {
            let running = self.manager.aside.remove(0);
            let (event, needless) = (running.event.id, self.made_needless(&running));
            self.manager.current = Some(running);
            if let Some(why) = needless {
                self.end_event(entry, event, &format!("aborted: {why}"));
                self.queue_what_follows(entry);
                self.queue_astray(entry);
            }
        }
    }

    /// The event in progress makes room without a word: it is in progress again in a moment.
    pub(super) fn set_aside_current(&mut self) {
        if let Some(running) = self.manager.current.take() {
            self.set_aside(running);
        }
    }

    fn set_aside(&mut self, running: Running) {
        self.manager.aside.push(running);
        self.manager.aside.sort_by_key(|it| it.event.id);
    }

    /// The reason for which an event that had stepped aside has no purpose any more. One whose commands run ends by
    /// itself.
    fn made_needless(&self, running: &Running) -> Option<String> {
        let node = match &running.event.trigger {
            _ if !running.is_stuck() => return None,
            Trigger::NodeUp(node) | Trigger::NodeDown { node, stop: Some(_) } => *node,
            Trigger::SwapAdapter { node, .. } | Trigger::JoinStandby { node, .. } => *node,
            _ => return None,
        };
        self.is_away(node).then(|| format!("{} went away meanwhile", self.node_name(node)))
    }

    /// Events keep of their plans what nobody else could do now. Of one that stepped aside because it failed that is what
    /// is blocked, of one that has been slow for long what its commands have in hand: other groups that are not where they
    /// should be are moved by events of their own, which takes them longer than a neighbour that stops a little late.
    /// One of which nothing is in hand keeps everything: a barrier is between two commands,
    /// and what stands before it in a program is waited for, be it about a group or not.
    pub(super) fn give_up_the_rest(&mut self) {
        let now = self.timeline.elapsed_ms();
        let aside = self.manager.aside.iter().filter(|running| running.is_stuck());
        let slow = self.manager.begun().filter(|running| running.slow && running.is_at_work());
        let patient =
            |it: &Running| it.is_at_work() && self.keeps_until(it).is_some_and(|until| now < until);
        let trimmed: Vec<(u64, Vec<Move>)> = (aside.chain(slow))
            .map(|running| (running.event.id, self.kept(running, patient(running)).moves))
            .collect();
        for (event, moves) in trimmed {
            if let Some(running) = self.manager.begun_mut(event) {
                running.plan.moves = moves;
            }
        }
    }
}

#[cfg(test)]
mod tests;
