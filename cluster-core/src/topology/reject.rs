//! Packets that do not count, by kind: nothing of what they say is believed, but operators can see them.

use std::fmt;

use crate::wire::WireError;

/// Why a packet does not count. Each kind is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reject {
    /// Shorter than a beat.
    Truncated,
    /// Longer than a beat.
    Oversized,
    /// Not a beat at all.
    Foreign,
    /// Another protocol version.
    Version,
    /// Another cluster on the same wire (spec H8).
    OtherCluster,
    /// Sealed with another key, or changed.
    Seal,
    /// A field has an unknown value.
    Malformed,
    /// For another node, or it arrived on another network than it was sent on.
    Misdirected,
    /// Sent by a node with this node's own number (spec V4).
    OwnNumber,
    /// From a node that is not a member, or has no address on this network.
    Stranger,
    /// Not proven to be of this time: no echo of this run. Normal at first contact.
    Unproven,
    /// A repeat, or overtaken by a newer one.
    Replayed,
    /// Too long on its way to say anything about now.
    Stale,
}

impl Reject {
    /// Every kind, in order.
    pub const ALL: [Self; 13] = [
        Self::Truncated,
        Self::Oversized,
        Self::Foreign,
        Self::Version,
        Self::OtherCluster,
        Self::Seal,
        Self::Malformed,
        Self::Misdirected,
        Self::OwnNumber,
        Self::Stranger,
        Self::Unproven,
        Self::Replayed,
        Self::Stale,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::Oversized => "oversized",
            Self::Foreign => "foreign",
            Self::Version => "version",
            Self::OtherCluster => "other_cluster",
            Self::Seal => "seal",
            Self::Malformed => "malformed",
            Self::Misdirected => "misdirected",
            Self::OwnNumber => "own_number",
            Self::Stranger => "stranger",
            Self::Unproven => "unproven",
            Self::Replayed => "replayed",
            Self::Stale => "stale",
        }
    }
}

impl From<WireError> for Reject {
    fn from(error: WireError) -> Self {
        match error {
            WireError::Truncated => Self::Truncated,
            WireError::Oversized => Self::Oversized,
            WireError::Foreign => Self::Foreign,
            WireError::Version(_) => Self::Version,
            WireError::OtherCluster => Self::OtherCluster,
            WireError::Seal => Self::Seal,
            WireError::Malformed => Self::Malformed,
            WireError::Stranger => Self::Stranger,
        }
    }
}

/// How many packets did not count, by kind.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Rejected([u64; Reject::ALL.len()]);

impl Rejected {
    /// How many of that kind.
    pub fn of(&self, kind: Reject) -> u64 {
        self.0[kind as usize]
    }

    /// Each kind with its number.
    pub fn iter(&self) -> impl Iterator<Item = (Reject, u64)> + '_ {
        Reject::ALL.into_iter().map(|kind| (kind, self.of(kind)))
    }

    pub(super) fn count(&mut self, kind: Reject) {
        self.0[kind as usize] += 1;
    }
}

impl fmt::Debug for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let some = self.iter().filter(|(_, n)| *n > 0);
        f.debug_map().entries(some.map(|(kind, n)| (kind.name(), n))).finish()
    }
}
