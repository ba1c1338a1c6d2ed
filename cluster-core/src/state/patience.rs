//! Questions about events that take long: how long others wait for one, and what of its plan it keeps.
//!
//! What follows from the answers is done in `apply::manager::aside`.

use crate::event::Running;
use crate::group::{GroupState, ResourceState, ResourceStatus};
use crate::id::NodeNumber;
use crate::plan::Move;

use super::ClusterState;

/// How much longer than others its own groups wait for an event, in times that others wait: what is released behind a
/// neighbour that takes its time goes where it was to go, with one interruption.
const OWN_PATIENCE: u64 = 9;

impl ClusterState {
    /// How long others wait for an event.
    pub(crate) fn patience_ms(&self) -> u64 {
        u64::try_from(self.settings.timing.detect().as_millis()).unwrap_or(u64::MAX)
    }

    /// When others wait no longer for the event in progress, or for what a slow one does not come to; on the timeline.
    pub(crate) fn patience_due(&self) -> Option<u64> {
        let awaited = |running: &&Running| running.is_at_work() && !running.may_run_aside();
        let current = self.manager.current.as_ref().filter(awaited).and_then(|it| it.awaited_ms);
        let slow = self.manager.begun().filter(|running| running.slow && running.is_at_work());
        let slow = slow.filter(|running| !self.kept(running, false).is_complete());
        let slow = slow.filter_map(|running| self.keeps_until(running));
        current.into_iter().chain(slow).min()
    }

    /// Until when a slow event keeps what it has planned and not come to, on the timeline.
    pub(crate) fn keeps_until(&self, running: &Running) -> Option<u64> {
        Some(running.awaited_ms?.saturating_add(OWN_PATIENCE * self.patience_ms()))
    }

    /// The part of its plan that an event keeps: when it may keep what it has not come to, all but what is done, or
    /// nobody in it will do.
    pub(crate) fn kept(&self, running: &Running, patient: bool) -> Kept {
        let (of, left) = (running.plan.moves.len(), |it: &Move| self.is_left(running, it));
        let all: Vec<&Move> = running.plan.moves.iter().filter(|planned| !left(planned)).collect();
        let kept = |keeps: &dyn Fn(&Move) -> bool| {
            let moves = all.iter().filter(|planned| keeps(planned));
            Kept { moves: moves.map(|planned| (*planned).clone()).collect(), of }
        };
        let behind = |planned: &Move| running.slow && self.is_behind(running, planned);
        let in_hand = |planned: &Move| {
            running.is_at_work() && self.is_about(running, planned) && !behind(planned)
        };
        let any_in_hand = all.iter().any(|planned| in_hand(planned));
        if patient {
            let over = |planned: &Move| self.is_done(planned) || (any_in_hand && behind(planned));
            return kept(&|planned| !over(planned));
        }
        if running.is_at_work() && !any_in_hand {
            return kept(&|_| true);
        }
        kept(&|planned| self.is_blocked(&planned.group) || in_hand(planned))
    }

    /// Whether a group was let go of and given to nodes that have not begun with it, as commands that start it are behind
    /// a barrier: it need not wait there for what another group's command has in hand.
    fn is_behind(&self, running: &Running, planned: &Move) -> bool {
        let Some(group) = self.groups.get(&planned.group) else { return false };
        let ahead = |node: &NodeNumber| {
            (running.phase + 1..running.program.phases.len()).any(|phase| {
                running.commands(phase, *node).iter().any(|(_, line)| line.expected.is_some())
            })
        };
        let given = |node: &NodeNumber| {
            let state = group.instances.get(node).map(|it| it.state);
            state == Some(GroupState::Acquiring)
                && self.is_untouched(&planned.group, *node)
                && ahead(node)
        };
        let let_go = planned
            .release
            .iter()
            .all(|node| planned.acquire.contains(node) || !group.instances.contains_key(node));
        !planned.acquire.is_empty() && let_go && planned.acquire.iter().all(given)
    }

    fn is_blocked(&self, group: &str) -> bool {
        self.groups.get(group).is_some_and(|group| group.blocked.is_some())
    }

    /// Whether a command of an event that runs may be about a move. Who has the group and is to release it may do so until
    /// it has arrived at the barrier, and who is to acquire it may still be about to begin until then. What is in motion
    /// there is in any case; what was given to a node that waits at a barrier is given back ([`ClusterState::is_stray`]).
    fn is_about(&self, running: &Running, planned: &Move) -> bool {
        let group = self.groups.get(&planned.group);
        let state =
            |node: &NodeNumber| group.and_then(|group| Some(group.instances.get(node)?.state));
        let moves = |state| {
            matches!(state, GroupState::Acquiring | GroupState::Releasing | GroupState::Error)
        };
        let takes_part = |node: &&NodeNumber| running.participants.contains(node);
        let busy = |node: &NodeNumber| !running.arrived.contains(node);
        let releases = |node: &NodeNumber| state(node).is_some_and(|it| busy(node) || moves(it));
        let acquires = |node: &NodeNumber| match state(node) {
            Some(GroupState::Online) => false,
            Some(it) if moves(it) && !self.is_untouched(&planned.group, *node) => true,
            _ => busy(node),
        };
        planned.release.iter().filter(takes_part).any(releases)
            || planned.acquire.iter().filter(takes_part).any(acquires)
    }

    /// Whether nobody has a group, and who was to acquire it has done its part of an event that runs without it.
    fn is_left(&self, running: &Running, planned: &Move) -> bool {
        if !running.is_at_work() || planned.acquire.is_empty() {
            return false;
        }
        let free = self.groups.get(&planned.group).is_some_and(|it| it.instances.is_empty());
        let part =
            |node: &NodeNumber| running.participants.contains(node) && !running.is_done(*node);
        free && !planned.acquire.iter().any(part)
    }

    /// Whether a group is where a move was to bring it. What is to be started anew where it is never counts as that.
    fn is_done(&self, planned: &Move) -> bool {
        let group = self.groups.get(&planned.group);
        let state = |node| group.and_then(|group| Some(group.instances.get(node)?.state));
        let Move { acquire, release, .. } = planned;
        acquire.iter().all(|node| state(node) == Some(GroupState::Online))
            && release.iter().all(|node| state(node).is_none())
    }

    /// Whether a node has not begun with what it was given.
    pub(crate) fn is_untouched(&self, name: &str, node: NodeNumber) -> bool {
        let off = |known: &ResourceStatus| known.state == ResourceState::Offline;
        let group = self.groups.get(name).and_then(|group| group.instances.get(&node));
        group.is_some_and(|instance| instance.resources.values().all(off))
    }
}

/// What is kept of a plan.
pub(crate) struct Kept {
    pub(crate) moves: Vec<Move>,
    /// How much there was.
    of: usize,
}

impl Kept {
    const fn is_complete(&self) -> bool {
        self.moves.len() == self.of
    }
}
