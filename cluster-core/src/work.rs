//! "What in this state is my work?": the question that every node's runner asks of each new state.
//!
//! A pure function of the state and the node, so nothing is handed to anybody and nothing can be
//! lost on the way: a restarted agent asks again and finds the same tasks. A task that is done is
//! answered by a command that makes it disappear.

use serde::{Deserialize, Serialize};

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
pub fn tasks(_state: &ClusterState, _me: NodeNumber) -> Vec<Task> {
    Vec::new()
}
