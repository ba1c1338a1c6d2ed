//! Plans: what the groups shall do in an event, and why.
//!
//! [`crate::placement`] makes them, an event holds one while it runs, and apply carries it out: the data that
//! all three have in common.

use serde::{Deserialize, Serialize};

use crate::id::NodeNumber;

/// What the groups shall do in an event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// What shall be done; mere releases before acquisitions, groups in the order of the
    /// configuration.
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

impl Move {
    /// Whether `node` is to do something in it.
    pub fn is_for(&self, node: NodeNumber) -> bool {
        self.release.contains(&node) || self.acquire.contains(&node)
    }
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

    /// Whether nothing is to be done.
    pub fn is_idle(&self) -> bool {
        self.moves.is_empty()
    }
}
