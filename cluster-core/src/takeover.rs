//! What allows one node to have what another one had: evidence that it was let go.
//!
//! The lease ([`crate::lease`]) is a node's, not a group's: without it the node owns nothing, and its
//! guard (and its kernel) see to that within `release_max` of its end. Voters attest silence: "until this moment I
//! have accepted nothing of it for so long". Where a majority of the voters attests one common stretch of silence as long
//! as `lease × (1 + drift)`, the lease was over at its end: one at that moment would stand on a majority
//! that accepted something sent within the stretch, and two majorities share a voter. `release_max` later nothing of the node is
//! active any more, if the kernel or a watchdog stands behind the release ([`Backing`]). The kernel does for addresses
//! alone. Processes are ended by guard, agent and a third process that does nothing else, the reaper. File systems and
//! volume groups are taken away by the agent alone, so they outlive the lease if it stands still
//! (finding F2). That is said where a configuration is verified, and a takeover waits for more: for data always, for the rest if it is `strict`.
//!
//! A node that is still heard can say it itself. Its guard counts *epochs*: a new one begins when what guard and
//! kernel take away of the one before is gone, and every beat carries it. An instance belongs to the
//! epoch that its node last presented ([`crate::event::Member::epoch`]); a later one in a beat, however
//! old that beat is, shows that the instance is gone. A flag could not: it may be older than a grant.
//!
//! What takes longer holds up its own group alone: data, which the agent takes away while the guard looks, and what
//! release programs take away. Beats name those groups beside the epoch ([`Remains`]), until they are seen to be off.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::group::{GroupDef, ResourceKind};
use crate::id::NodeNumber;
use crate::model::{Timing, status};

status! {
    /// What ends a node's ownership when its processes cannot act.
    Backing {
        /// Nothing: a paused guard would keep its addresses. Needs fencing or an operator.
        None = 1 "none",
        /// The kernel drops traffic of service addresses when the lease is over.
        Kernel = 2 "kernel",
        /// A watchdog resets the machine.
        Watchdog = 3 "watchdog",
    }
}

impl Backing {
    /// Whether such a resource ends with the lease though guard and agent of the node are both stopped: the
    /// kernel's filter drops the traffic of addresses, a reaper ends processes, and nothing of either unmounts. What a
    /// release program takes away is taken away if that works, which nobody can know of a node that is silent.
    pub fn covers(self, kind: &ResourceKind, reaper: bool) -> bool {
        use ResourceKind::{Address, Application, FileSystem, Ocf, Systemd, VolumeGroup};
        match (self, kind) {
            (Self::None, _) | (Self::Kernel, FileSystem { .. } | VolumeGroup { .. }) => false,
            (Self::Watchdog, _) | (Self::Kernel, Address { .. }) => true,
            (Self::Kernel, Application { .. } | Ocf { .. } | Systemd { .. }) => {
                reaper && kind.release().is_none()
            }
        }
    }
}

/// Groups of earlier epochs of which something is still on a node, as its guard sees it: one bit each, by number.
/// Two groups may share a bit, and then wait for each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Remains(pub u64);

impl Remains {
    /// With the group of that number as well.
    #[must_use]
    pub fn with(self, group: u16) -> Self {
        Self(self.0 | 1 << (group % 64))
    }

    /// Whether something of that group may be there.
    pub fn has(self, group: u16) -> bool {
        self.0 & 1 << (group % 64) != 0
    }

    /// Whether nothing is there.
    pub const fn is_none(&self) -> bool {
        self.0 == 0
    }

    /// What both say: within an epoch nothing is added.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

/// What a guard says of what it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Word {
    /// Grows each time the lease ended and what it held was let go of.
    pub epoch: u64,
    /// Groups of earlier epochs of which something is still there.
    pub remains: Remains,
    /// What was held was let go of when the lease ended, and nothing was taken since.
    pub released: bool,
    /// It holds something by its lease, or lets go of it now.
    pub holds: bool,
}

/// Why it is certain that a node has nothing active any more (architecture, invariant 8).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LetGo {
    /// Its guard said that it released everything.
    Released,
    /// Its lease is over, and its guard had time to release.
    LeaseOver {
        /// How long the director has not heard it, in milliseconds.
        silent_ms: u64,
        /// What stands behind the release.
        backing: Backing,
        /// How long release programs had besides, in milliseconds: what needs longer is not over yet.
        #[serde(default = "ages")]
        programs_ms: u64,
    },
    /// Its guard's beats are of a later epoch than what it holds.
    Epoch {
        /// The later one.
        epoch: u64,
        /// Groups that are not over by it.
        #[serde(default, skip_serializing_if = "Remains::is_none")]
        remains: Remains,
    },
    /// A fence agent confirmed that it is off.
    Fenced {
        /// The agent.
        agent: String,
        /// Who called it.
        by: NodeNumber,
    },
    /// An administrator said so.
    Confirmed,
}

/// Entries of logs that did not tell it were made when all programs had had their time.
const fn ages() -> u64 {
    u64::MAX
}

impl LetGo {
    /// In words, for records.
    pub fn words(&self) -> String {
        match self {
            Self::Released => "it said that it has let go".into(),
            Self::LeaseOver { silent_ms, backing, .. } => {
                let kept = match backing {
                    Backing::None => "its guard is trusted to have released",
                    Backing::Kernel => {
                        "its guard, agent or reaper ends what it has unless none of the three can, and its \
                         kernel drops its addresses"
                    }
                    Backing::Watchdog => "release kept by its watchdog",
                };
                format!("its lease is over: not heard for {silent_ms} ms, {kept}")
            }
            Self::Epoch { .. } => "its guard let go of it when its lease ended".into(),
            Self::Fenced { agent, by } => format!("fenced by {agent}, called by node {by}"),
            Self::Confirmed => "an administrator confirmed that it is off".into(),
        }
    }
}

/// What a node could not let go of when its lease ended, as it says itself: for that reason it is no place for
/// what it could not stop, or for anything ([`crate::event::Member::unreleased`]).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unreleased {
    /// Why its guard could not take away what it held; it holds nothing else before it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guard: Option<String>,
    /// Groups that are still being stopped there, and what keeps them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<String, String>,
}

impl Unreleased {
    /// Whether everything was let go of.
    pub fn is_empty(&self) -> bool {
        self.guard.is_none() && self.groups.is_empty()
    }

    /// Why the node may not have a group, if it may not.
    pub fn obstacle(&self, group: &str) -> Option<String> {
        match (&self.guard, self.groups.get(group)) {
            (Some(why), _) => Some(format!("could not release what it had: {why}")),
            (None, Some(why)) => Some(format!("has not let go of it yet: {why}")),
            (None, None) => None,
        }
    }
}

/// When a lease is certainly over, the release not counted. Clocks may differ in rate by one percent.
pub(crate) const fn lease_lasts(timing: &Timing) -> Duration {
    Duration::from_millis(timing.lease_ms + timing.lease_ms / 100 + 1)
}

/// Silence after which a voter's attestation is worth something, with what clocks may be apart and packets on their way.
/// Reports come regularly; one that is made just then spares a takeover the wait for the next.
pub(crate) fn telling_silence(timing: &Timing) -> Duration {
    lease_lasts(timing) + Duration::from_millis(timing.lease_ms / 50 + 5)
}

/// How much longer the release of a group may take than that of what guard and kernel take away themselves:
/// as long as the longest of its release programs, which run side by side.
pub fn programs_last(group: &GroupDef) -> Duration {
    let all = group.resources.iter().filter_map(|resource| resource.kind.release());
    Duration::from_millis(all.map(|release| release.within_ms).max().unwrap_or(0))
}

/// Silence after which a lease is certainly over and the release done, programs not counted. Clocks may differ in rate by
/// one percent.
pub const fn let_go_after(timing: &Timing) -> Duration {
    Duration::from_millis(timing.lease_ms + timing.lease_ms / 100 + 1 + timing.release_max_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// F2: guard, agent and reaper end the control group of a unit, the kernel alone does not.
    #[test]
    fn f2_a_unit_is_covered_by_what_ends_processes() {
        let unit = ResourceKind::Systemd { unit: "web.service".into() };
        assert!(!Backing::None.covers(&unit, true) && !Backing::Kernel.covers(&unit, false));
        assert!(Backing::Kernel.covers(&unit, true) && Backing::Watchdog.covers(&unit, false));
    }

    /// F2: nobody but the agent unmounts.
    #[test]
    fn f2_data_is_covered_by_a_watchdog_alone() {
        let data = ResourceKind::VolumeGroup { name: "data".into() };
        assert!(!Backing::Kernel.covers(&data, true) && Backing::Watchdog.covers(&data, false));
    }
}
