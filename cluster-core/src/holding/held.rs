//! Service addresses, control groups, release programs and data, as values; and the orders about them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::takeover::Backing;

/// A group of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Of {
    /// Its number.
    pub number: u16,
    /// Its name.
    pub group: String,
}

/// A service address on this node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldAddress {
    /// The address.
    pub address: IpAddr,
    /// Length of its network prefix.
    pub prefix: u8,
    /// The device that is to have it. It is removed from whichever has it.
    pub device: String,
}

/// A program that takes away, without the agent, what no control group holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldProgram {
    /// The group that it belongs to.
    #[serde(default)]
    pub of: Of,
    /// The program with its arguments; no shell reads them.
    pub program: Vec<String>,
    /// Its environment.
    pub environment: BTreeMap<String, String>,
    /// The user as whom it runs; root if none.
    pub user: Option<String>,
    /// Its control group, if there are any.
    pub place: Option<PathBuf>,
    /// Longest time for it.
    pub within_ms: u64,
    /// The folder in which all that it prints is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transcripts: Option<PathBuf>,
}

impl HeldProgram {
    /// The program's own name, without arguments.
    pub fn name(&self) -> &str {
        self.program.first().map(String::as_str).unwrap_or_default()
    }
}

/// A file system or a volume group, or processes that do not end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldData {
    /// The group that it belongs to.
    pub of: Of,
    /// The thing itself.
    pub what: Data,
}

/// Things that can be written to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Data {
    /// A file system, mounted or being mounted.
    FileSystem {
        /// The argument of `mount`.
        device: String,
        /// The directory.
        mount_point: PathBuf,
    },
    /// A volume group whose volumes are active.
    VolumeGroup {
        /// Its name.
        name: String,
    },
    /// Processes that were killed when the lease ended and did not end, as those that wait for a disk that does not
    /// answer.
    Processes(Place),
}

impl Data {
    /// A name for people.
    pub fn name(&self) -> String {
        match self {
            Self::FileSystem { mount_point, .. } => mount_point.display().to_string(),
            Self::VolumeGroup { name } => format!("volume group {name}"),
            Self::Processes(Place::Own(group)) => group.display().to_string(),
            Self::Processes(Place::Unit(name) | Place::Engine(name)) => name.clone(),
        }
    }
}

/// A control group whose processes are killed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// A control group of ours, as a directory, which goes with them.
    Own(PathBuf),
    /// That of a unit of systemd.
    Unit(String),
    /// One that an engine fills, as a path below cgroup2.
    Engine(String),
}

/// Everything that a node holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Held {
    /// Service addresses.
    pub addresses: BTreeSet<HeldAddress>,
    /// Control groups of resource groups, as directories.
    pub groups: BTreeSet<PathBuf>,
    /// Units of systemd whose processes end, each in the control group that systemd made for it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub units: BTreeSet<String>,
    /// Control groups that engines fill, as paths below cgroup2: what is in them ends, they themselves stay.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub engines: BTreeSet<String>,
    /// Programs that take away what is in no control group.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub programs: BTreeSet<HeldProgram>,
    /// File systems and volume groups, which the agent takes away, and processes that could not be killed.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub data: BTreeSet<HeldData>,
    /// The group of each control group, by its name in `groups`, `units` or `engines`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub whose: BTreeMap<String, Of>,
}

impl Held {
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether all of it is in `other` as well.
    pub fn is_within(&self, other: &Self) -> bool {
        self.addresses.is_subset(&other.addresses)
            && self.groups.is_subset(&other.groups)
            && self.units.is_subset(&other.units)
            && self.engines.is_subset(&other.engines)
            && self.programs.is_subset(&other.programs)
            && self.data.is_subset(&other.data)
    }

    /// Adds everything of another one.
    pub fn add(&mut self, other: &Self) {
        self.addresses.extend(other.addresses.iter().cloned());
        self.groups.extend(other.groups.iter().cloned());
        self.units.extend(other.units.iter().cloned());
        self.engines.extend(other.engines.iter().cloned());
        self.programs.extend(other.programs.iter().cloned());
        self.data.extend(other.data.iter().cloned());
        self.whose.extend(other.whose.iter().map(|(name, of)| (name.clone(), of.clone())));
    }

    /// Names the group of the cluster that all its control groups are of.
    pub fn belongs_to(&mut self, of: &Of) {
        self.whose = self.places().into_iter().map(|(name, _)| (name, of.clone())).collect();
    }

    /// The control groups, each with its name in `whose`.
    pub fn places(&self) -> Vec<(String, Place)> {
        let own = self.groups.iter().map(|it| (it.display().to_string(), Place::Own(it.clone())));
        let units = self.units.iter().map(|it| (it.clone(), Place::Unit(it.clone())));
        let engines = self.engines.iter().map(|it| (it.clone(), Place::Engine(it.clone())));
        own.chain(units).chain(engines).collect()
    }

    /// Everything but what takes longer than a release: without programs and data.
    pub(super) fn without_the_slow(self) -> Self {
        Self { programs: BTreeSet::new(), data: BTreeSet::new(), ..self }
    }
}

/// Outcome of an attempt to let go of everything but programs and data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// One sentence for each thing that could not be let go of.
    pub failed: Vec<String>,
    /// Processes that were killed and have not ended, all of which are of groups that are known: the others need not
    /// wait for them.
    pub left: BTreeSet<HeldData>,
}

impl Released {
    /// Whether nothing is left.
    pub fn is_complete(&self) -> bool {
        self.failed.is_empty()
    }
}

/// Order of the agent about what the node holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    /// Comes back in the answer.
    pub sequence: u64,
    /// The guard's epoch, as it last said. In another one the guard let go of everything in between,
    /// and what the agent knows is of the past: it is refused.
    pub epoch: u64,
    /// All service addresses of the cluster on networks of this node, whoever has them.
    pub known: BTreeSet<IpAddr>,
    /// Everything that is held now, or is about to be.
    pub held: Held,
    /// Numbers of groups that this node has in this epoch: what remains of them, because they were left running, is
    /// held again as it is.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub anew: BTreeSet<u16>,
}

/// Answer of the guard about what the node holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Holding {
    /// That of the order; 0 in what is said without being asked.
    pub sequence: u64,
    /// Reason why the order was refused, in a sentence; then everything is as it was before.
    pub refused: Option<String>,
    /// Begins anew with each end of the lease and each start of the guard: what was given to this
    /// node in an earlier epoch it does not have.
    pub epoch: u64,
    /// Everything that is held.
    pub held: Held,
    /// The line behind the guard that ends it if the guard cannot.
    pub backing: Backing,
    /// Reason why the watchdog that is configured stands behind nothing, if it does not.
    #[serde(default)]
    pub watchdog: Option<String>,
    /// Reason why no third process would let go if guard and agent were stopped, if none would.
    #[serde(default)]
    pub reaper: Option<String>,
    /// Reason why what was held before is not let go of yet, if it is not: nothing else is held before it is.
    #[serde(default)]
    pub unreleased: Option<String>,
    /// Groups of earlier epochs that do not go, by what keeps them. Nothing else waits for that.
    #[serde(default)]
    pub stuck: BTreeMap<String, String>,
    /// Something else of earlier epochs is still let go of, and may be gone in a moment.
    #[serde(default)]
    pub goes_on: bool,
    /// End of the lease unless it is granted again, in microseconds of `CLOCK_BOOTTIME`; 0 if there is none.
    pub lease_until_us: u64,
    /// When the lease ended last in this run of the guard, and when everything was released then, on the
    /// same clock: an agent that starts was not there to be told. The end is 0 where no guard was there to see it, and
    /// this one found at its start what was left running.
    #[serde(default)]
    pub last_release_us: Option<(u64, u64)>,
}
