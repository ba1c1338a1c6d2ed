//! Refusals: why something is not done, and what would help.

use serde::{Deserialize, Serialize};

/// Why a command changed nothing: what was refused and why, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{what}. {advice}")]
pub struct Refusal {
    /// A stable name, such as `duplicate_number`.
    pub code: String,
    /// One sentence without its full stop: what was refused and why.
    pub what: String,
    /// One sentence: what to do.
    pub advice: String,
    /// What was wanted is so already: who repeats an order has nothing to mend.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub met: bool,
}

impl Refusal {
    /// A refusal.
    pub fn new(code: &str, what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { code: code.into(), what: what.into(), advice: advice.into(), met: false }
    }

    /// Nothing has to be done, because what was wanted is so already: an order that is repeated is no
    /// mistake, and whoever gave it is told that it is carried out.
    pub fn met(code: &str, what: impl Into<String>) -> Self {
        let advice = "Nothing has to be done.";
        Self { met: true, ..Self::new(code, what, advice) }
    }
}
