//! Membership: which nodes have joined or are gone by an event, and from when on.
//!
//! An event about a node settles that as it ends. One for which nothing else waits any more, because it takes long or
//! failed, settles it before ([`Running::settled`]): a node whose failure others still recover from may join anew, one
//! that joins takes part in other events while its own goes on, one that is stopped and has done its part is gone, and
//! one that was started again before it could stop stays. What commands of the event have in hand remains theirs
//! ([`Running::has_in_hand`]).

use crate::event::Running;
use crate::id::NodeNumber;
use crate::model::Severity;
use crate::record::Code;
use crate::trigger::Trigger;

use super::{ClusterState, Entry, step_of};

/// Consequence of an event for its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Takes part in events.
    Joined,
    /// Went away while it joined.
    NotJoined,
    /// Failed, and may join anew.
    Lost,
    /// Stopped.
    Left,
    /// Was to stop, and is a member still.
    Stays,
}

impl ClusterState {
    /// Settles an event that is over, unless that was done before.
    pub(super) fn settle_trigger(
        &mut self,
        entry: &mut Entry<'_>,
        running: &Running,
        aborted: bool,
    ) {
        let takes_part = |node| running.participants.contains(node);
        let (node, outcome) = match &running.event.trigger {
            _ if running.settled => return,
            Trigger::NodeUp(node) if takes_part(node) => (node, Outcome::Joined),
            Trigger::NodeUp(node) => (node, Outcome::NotJoined),
            Trigger::NodeDown { node, stop: None } => (node, Outcome::Lost),
            Trigger::NodeDown { node, .. } if aborted && takes_part(node) => (node, Outcome::Stays),
            Trigger::NodeDown { node, .. } => (node, Outcome::Left),
            _ => return,
        };
        self.settle_membership(entry, *node, outcome);
    }

    /// Settles what can be said already of events for which nothing else waits.
    pub(super) fn settle_early(&mut self, entry: &mut Entry<'_>) {
        let open = self.manager.begun().filter(|running| running.is_beside() && !running.settled);
        let known = |running: &Running| {
            let (node, outcome) = self.early_outcome(running)?;
            Some((running.event.clone(), node, outcome))
        };
        let early: Vec<_> = open.filter_map(known).collect();
        for (event, node, outcome) in early {
            // The failure of a node ends its joins.
            let Some(running) = self.manager.begun_mut(event.id) else { continue };
            running.settled = true;
            let name = self.node_name(node);
            let message = match outcome {
                Outcome::Joined => format!("{name} takes part in events from now on"),
                Outcome::NotJoined | Outcome::Lost => format!("{name} may join again"),
                Outcome::Left => format!("the manager of {name} has left"),
                Outcome::Stays => format!("the manager of {name} stays: it was started again"),
            };
            let why = format!("{} goes on beside others", self.event_label(&event));
            let step = step_of(&event, Code::Manager, Severity::Informational, message);
            self.record(entry, step.because(why).of_event(event.id, Some(node), None));
            self.settle_membership(entry, node, outcome);
        }
    }

    fn early_outcome(&self, running: &Running) -> Option<(NodeNumber, Outcome)> {
        let holds = |node| self.groups.values().any(|group| group.instances.contains_key(&node));
        let takes_part = |node| running.participants.contains(node);
        let (node, outcome) = match &running.event.trigger {
            // Its own part failed, and it serves nothing: an operator decides.
            Trigger::NodeUp(node) if running.failed.contains(node) && !holds(*node) => return None,
            Trigger::NodeUp(node) if takes_part(node) => (node, Outcome::Joined),
            Trigger::NodeDown { node, stop: None } => (node, Outcome::Lost),
            Trigger::NodeDown { node, .. } if !takes_part(node) => (node, Outcome::Left),
            Trigger::NodeDown { node, .. } if self.is_wanted(*node) => (node, Outcome::Stays),
            Trigger::NodeDown { node, .. } if running.is_done(*node) => (node, Outcome::Left),
            _ => return None,
        };
        Some((*node, outcome))
    }

    fn is_wanted(&self, node: NodeNumber) -> bool {
        self.manager.members.get(&node).is_some_and(|member| member.stopped.is_none())
    }

    fn settle_membership(&mut self, entry: &mut Entry<'_>, node: NodeNumber, outcome: Outcome) {
        let (at, elapsed_ms) = (entry.proposal.at, self.timeline.elapsed_ms());
        let Some(member) = self.manager.members.get_mut(&node) else { return };
        match outcome {
            Outcome::Joined => {
                member.joined = true;
                (member.joined_at, member.joined_ms) = (at, elapsed_ms);
                self.home_is_back(entry, node);
                if self.is_giving_up(node).is_none() {
                    self.hold_no_longer(node);
                }
                self.swap_what_failed(entry, node);
            }
            Outcome::NotJoined => member.joined = false,
            Outcome::Lost => {
                member.joined = false;
                self.end_joins(entry, node);
            }
            Outcome::Left => {
                member.joined = false;
                self.leave_maintained(entry, node);
            }
            Outcome::Stays => {
                member.stopped = None;
                self.hold_no_longer(node);
            }
        }
    }

    /// Joins of a node whose failure was processed are over: it joins anew if it is back.
    fn end_joins(&mut self, entry: &mut Entry<'_>, node: NodeNumber) {
        let joins = |it: &&Running| it.event.trigger == Trigger::NodeUp(node);
        let joins: Vec<u64> = self.manager.begun().filter(joins).map(|it| it.event.id).collect();
        for event in joins {
            let how = format!("aborted: {} went away meanwhile", self.node_name(node));
            self.end_event(entry, event, &how);
        }
    }

    pub(super) fn hold_no_longer(&mut self, node: NodeNumber) {
        for group in self.groups.values_mut() {
            group.held_for.take_if(|held| *held == node);
        }
    }
}
