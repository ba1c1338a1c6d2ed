//! "What in this state is my work?": the question that every node's runner asks of each new state.
//!
//! A pure function of the state and the node, so nothing is handed to anybody and nothing can be
//! lost on the way: a restarted agent asks again and finds the same tasks. A task that is done is
//! answered by a command that makes it disappear.

use serde::{Deserialize, Serialize};

use crate::event::{Fencing, Running, Stage};
use crate::group::GroupState;
use crate::id::NodeNumber;
use crate::state::ClusterState;

/// Something that a node has to do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Approve an event; answer with [`crate::command::ManagerCommand::Approve`].
    Approve {
        /// Its id.
        event: u64,
    },
    /// Run this node's commands of a phase, in parallel; answer with
    /// [`crate::command::ManagerCommand::Ran`]. There may be none: then the answer is all there is
    /// to do.
    Run {
        /// The event's id.
        event: u64,
        /// The phase.
        phase: usize,
        /// The attempt.
        attempt: u32,
        /// Places in the phase and command lines. In a retry, only what failed.
        commands: Vec<(usize, String)>,
    },
    /// Something of a group may be active here without leave: an acquisition whose event is over,
    /// or a group that was taken off this node. Release it; answer with
    /// [`crate::command::GroupCommand::Released`] or a progress with state ERROR.
    CleanUp {
        /// Which group.
        group: String,
        /// The instance's token.
        token: u64,
    },
    /// Verify a document on this machine; answer with
    /// [`crate::command::ConfigCommand::Verified`].
    Verify {
        /// The proposal's id.
        proposal: u64,
    },
    /// Call the fence agent for a node; answer with [`crate::command::GroupCommand::Fenced`].
    Fence {
        /// Whom.
        node: NodeNumber,
        /// Which attempt.
        attempt: u32,
    },
}

/// What `me` has to do, in an order that says nothing.
pub fn tasks(state: &ClusterState, me: NodeNumber) -> Vec<Task> {
    let mut tasks = Vec::new();
    tasks.extend(state.manager.current.as_ref().and_then(|running| of_event(running, me)));
    tasks.extend(clean_ups(state, me));
    tasks.extend(verification(state, me));
    tasks.extend(fencing(state, me));
    tasks
}

/// Approve the event that is voted on, or run what has not ended well yet.
fn of_event(running: &Running, me: NodeNumber) -> Option<Task> {
    if !running.participants.contains(&me) {
        return None;
    }
    let event = running.event.id;
    if running.stage == Stage::Voting {
        return (!running.approvals.contains(&me)).then_some(Task::Approve { event });
    }
    if running.arrived.contains(&me) || running.failed.contains(&me) {
        return None;
    }
    let pending = running.pending(me);
    let commands = pending.into_iter().map(|(place, line)| (place, line.command.clone())).collect();
    Some(Task::Run { event, phase: running.phase, attempt: running.attempt, commands })
}

/// What is here without leave: in motion although no event plans that, or something that the
/// cluster lost sight of while this node was away.
fn clean_ups(state: &ClusterState, me: NodeNumber) -> impl Iterator<Item = Task> {
    state.groups.iter().filter_map(move |(name, group)| {
        let instance = group.instances.get(&me)?;
        let here = instance.state == GroupState::Unknown || state.is_stray(name, me);
        here.then(|| Task::CleanUp { group: name.clone(), token: instance.token })
    })
}

fn verification(state: &ClusterState, me: NodeNumber) -> Option<Task> {
    let pending = state.documents.pending.as_ref()?;
    let asked = pending.asked.contains(&me) && !pending.findings.contains_key(&me);
    asked.then_some(Task::Verify { proposal: pending.id })
}

fn fencing(state: &ClusterState, me: NodeNumber) -> impl Iterator<Item = Task> {
    let mine = move |fencing: &&Fencing| fencing.by == me && fencing.failure.is_none();
    state.manager.fencing.iter().filter_map(move |(node, fencing)| {
        Some(fencing).filter(mine).map(|f| Task::Fence { node: *node, attempt: f.attempt })
    })
}
