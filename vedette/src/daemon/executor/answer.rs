//! What a script asks of the executor, and how it is answered.

use serde::{Deserialize, Serialize};

/// What can be done with a group on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verb {
    /// Start its resources in order.
    Acquire,
    /// Stop them in reverse.
    Release,
    /// Bring its addresses to an adapter that works (spec H26).
    Swap,
    /// Say how it is.
    Status,
}

/// It was done; a sentence for the script's output.
pub(crate) type Said = String;

/// It was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stop {
    /// One sentence of what and why.
    pub(crate) what: String,
    /// The exit status for the script: 0 if the group was left clean, because then the event goes on
    /// and the cluster tries another node; 2 if an operator is needed.
    pub(crate) exit: u8,
}

impl Stop {
    /// Nothing of the group is active here.
    pub(crate) fn clean(what: impl Into<String>) -> Self {
        Self { what: what.into(), exit: 0 }
    }

    /// Something may still be active, or it is not known.
    pub(crate) fn failed(what: impl Into<String>) -> Self {
        Self { what: what.into(), exit: 2 }
    }
}
