//! Placement: where each group shall be, decided by a pure function that gives its reasons.

use serde::{Deserialize, Serialize};

use crate::event::Trigger;
use crate::id::NodeNumber;
use crate::state::ClusterState;

/// What the groups shall do in an event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// What shall be done; releases before acquisitions, groups in the order of the configuration.
    pub moves: Vec<Move>,
    /// Groups that stay as they are although one might wonder, and why.
    pub stays: Vec<Stay>,
}

/// A group that is released, acquired, or both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// Which group.
    pub group: String,
    /// Nodes that release it.
    pub release: Vec<NodeNumber>,
    /// Nodes that acquire it.
    pub acquire: Vec<NodeNumber>,
    /// Why, in a sentence without full stop.
    pub reason: String,
}

/// A group of which nothing is changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stay {
    /// Which group.
    pub group: String,
    /// Why, in a sentence without full stop.
    pub reason: String,
}

impl Plan {
    /// Groups that `node` releases.
    pub fn releases(&self, node: NodeNumber) -> impl Iterator<Item = &str> {
        self.moves.iter().filter(move |m| m.release.contains(&node)).map(|m| m.group.as_str())
    }

    /// Groups that `node` acquires.
    pub fn acquires(&self, node: NodeNumber) -> impl Iterator<Item = &str> {
        self.moves.iter().filter(move |m| m.acquire.contains(&node)).map(|m| m.group.as_str())
    }
}

/// What the groups shall do because of an event, with the state as it is when its vote has ended
/// (`state.manager.current` is that event). Nodes whose joins still wait in the queue count as
/// about to be there: nothing is placed elsewhere only to be moved to them a moment later.
pub fn for_event(_state: &ClusterState, _trigger: &Trigger) -> Plan {
    Plan::default()
}

/// The first group that is not where it should be although nothing stands in its way; asked when
/// no event waits or runs.
pub fn astray(_state: &ClusterState) -> Option<(String, String)> {
    None
}
