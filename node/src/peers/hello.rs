//! The first message of each side: which protocol, which release, which cluster.
//!
//! Who the peer is stands in its certificate; this is only about whether the two can understand
//! each other. A mismatch is refused with both values, so that the log of either side tells which
//! node has to be upgraded.

use serde::{Deserialize, Serialize};
use vedette_core::id::ClusterId;
use vedette_core::refusal::Refusal;

use crate::identity::VERSION;

/// Version of the protocol between peers; counts up with every change that old nodes would
/// misunderstand.
pub const PROTOCOL: u16 = 1;

/// What both sides say first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Version of the protocol.
    pub protocol: u16,
    /// Version of the product.
    pub version: String,
    /// The cluster.
    pub cluster: ClusterId,
}

impl Hello {
    /// What this program says.
    pub fn ours(cluster: ClusterId) -> Self {
        Self { protocol: PROTOCOL, version: VERSION.into(), cluster }
    }

    /// Refuses a peer that cannot be understood.
    ///
    /// # Errors
    /// What differs, with both values.
    pub fn check(&self, theirs: &Self) -> Result<(), Refusal> {
        check_version((self.protocol, &self.version), (theirs.protocol, &theirs.version))?;
        if self.cluster != theirs.cluster {
            return Err(Refusal::new(
                "other_cluster",
                format!("this is cluster {}, not {}", self.cluster, theirs.cluster),
                "Compare the addresses in the two clusters' configurations.",
            ));
        }
        Ok(())
    }
}

/// Refuses another protocol or another release; releases are equal if major and minor version are,
/// so that a correction can be rolled out node by node (spec A4).
///
/// # Errors
/// Both versions.
pub fn check_version(ours: (u16, &str), theirs: (u16, &str)) -> Result<(), Refusal> {
    if ours.0 == theirs.0 && release(ours.1) == release(theirs.1) {
        return Ok(());
    }
    Err(Refusal::new(
        "version_mismatch",
        format!(
            "this node runs vedette {} (protocol {}), the other one {} (protocol {})",
            ours.1, ours.0, theirs.1, theirs.0
        ),
        "Install the same release on both.",
    ))
}

/// Major and minor version.
fn release(version: &str) -> (&str, &str) {
    let mut parts = version.splitn(3, '.');
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A4: releases must match, corrections need not.
    #[test]
    fn releases_are_compared() {
        assert_eq!(check_version((1, "1.2.3"), (1, "1.2.9")), Ok(()));
        for theirs in [(1, "1.3.0"), (1, "2.2.3"), (2, "1.2.3"), (1, "")] {
            let refused = check_version((1, "1.2.3"), theirs).expect_err("another release");
            assert!(refused.what.contains(theirs.1), "{refused}");
        }
    }
}
