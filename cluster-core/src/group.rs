//! Resource groups: what an operator defines ([`GroupDef`]), and what is known of it while it runs
//! ([`Group`]).
//!
//! A group is a list of resources that belong together on one node (cascading, rotating) or on many
//! (concurrent). Wherever something of a group may be active there is an [`Instance`]; it is made
//! before the first action and removed only when there is evidence that nothing is left
//! ([`crate::takeover::LetGo`]). For a group that is not concurrent there is never a second one:
//! `ClusterState::apply` refuses it. That is what "one owner" rests on.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::id::{NetworkNumber, NodeNumber};
use crate::model::status;
use crate::time::{DayWindow, WallTime};
use crate::trigger::Motive;

status! {
    /// Where a group runs, and when it moves (spec H24).
    Policy {
        /// On the first node of its list that is there; goes back when its home, the first, returns.
        Cascading = 1 "cascading",
        /// On any node of its list; stays where it is.
        Rotating = 2 "rotating",
        /// On every node of its list at once.
        Concurrent = 3 "concurrent",
    }
}

status! {
    /// Policy for a resource that runs where its group is not (the field's "multiple active").
    MultipleActive {
        /// Stopped where it should not run; the group stays where it is.
        StopExtra = 1 "stop_extra",
        /// Nothing is stopped and nothing started until an operator says so.
        Block = 2 "block",
        /// Everything is stopped everywhere, and the group stays off until an operator wants it on.
        StopAll = 3 "stop_all",
    }
}

status! {
    /// State of a group as a whole, or of one instance of it.
    GroupState {
        /// Not known, as when its node is not there and nothing proves that it has let go.
        Unknown = 1 "UNKNOWN",
        /// Everything in it works.
        Online = 2 "ONLINE",
        /// Nothing in it is active anywhere.
        Offline = 3 "OFFLINE",
        /// It is being acquired.
        Acquiring = 4 "ACQUIRING",
        /// It is being released.
        Releasing = 5 "RELEASING",
        /// Needs an operator: it could not be released, or no node could acquire it.
        Error = 6 "ERROR",
        /// Left running by a forced stop, watched by nobody (spec H21).
        Unmanaged = 7 "UNMANAGED",
    }
}

status! {
    /// State of one resource on one node.
    ResourceState {
        /// Not known.
        Unknown = 1 "UNKNOWN",
        /// It works.
        Online = 2 "ONLINE",
        /// It is off.
        Offline = 3 "OFFLINE",
        /// It is being started.
        Starting = 4 "STARTING",
        /// It is being stopped.
        Stopping = 5 "STOPPING",
        /// It failed, or could not be started or stopped.
        Failed = 6 "FAILED",
    }
}

status! {
    /// How an address is brought to a node (spec H26).
    AddressMode {
        /// As one more address of the interface in use.
        Alias = 1 "alias",
        /// On a standby adapter of the node, where there is one; else as an alias.
        Swap = 2 "swap",
    }
}

status! {
    /// Policy for a service address that a machine outside the cluster answers for.
    OnConflict {
        /// It is not acquired there, as if it could not be started.
        Fail = 1 "fail",
        /// It is taken all the same, and its clients are told where it is now.
        Take = 2 "take",
    }
}

/// A resource, as it is configured. Its name is unique in the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceDef {
    /// The name that operators use.
    pub name: String,
    /// What it is.
    pub kind: ResourceKind,
    /// Time between two looks at it; 0 for none.
    pub monitor_interval_ms: u64,
    /// Longest time to start it.
    pub start_timeout_ms: u64,
    /// Longest time to stop it.
    pub stop_timeout_ms: u64,
    /// Longest time to look at it.
    pub monitor_timeout_ms: u64,
    /// Failures in a row, by the word of its monitor, that make it failed.
    #[serde(default = "once")]
    pub fall: u32,
    /// The same for a monitor that does not answer in time ([`crate::tolerance`]).
    #[serde(default = "twice")]
    pub timeout_fall: u32,
    /// Successes in a row that make it well again.
    #[serde(default = "once")]
    pub rise: u32,
    /// How many times it is restarted in place before its group moves.
    pub restarts: u32,
    /// Time without another failure after which its failures on a node are forgotten.
    #[serde(default = "failure_window_ms")]
    pub failure_window_ms: u64,
}

/// The monitor's own word needs no second one.
const fn once() -> u32 {
    1
}

/// One time-out may be a busy machine's; a resource that hangs still fails after twice its monitor's time.
const fn twice() -> u32 {
    2
}

/// An hour: what fails more often than it may be restarted in an hour is not well on its node, and
/// what fails once a day is better restarted than moved for ever after the third day.
const fn failure_window_ms() -> u64 {
    3_600_000
}

impl ResourceDef {
    /// A resource with the usual intervals.
    pub fn new(name: impl Into<String>, kind: ResourceKind) -> Self {
        Self {
            name: name.into(),
            kind,
            monitor_interval_ms: 1_000,
            start_timeout_ms: 60_000,
            stop_timeout_ms: 60_000,
            monitor_timeout_ms: 10_000,
            fall: once(),
            timeout_fall: twice(),
            rise: once(),
            restarts: 2,
            failure_window_ms: failure_window_ms(),
        }
    }
}

/// What a resource is (spec H25).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResourceKind {
    /// A service address.
    Address {
        /// The address.
        address: IpAddr,
        /// Length of its network prefix.
        prefix: u8,
        /// The network it belongs to.
        network: NetworkNumber,
        /// How it is brought to a node.
        mode: AddressMode,
        /// Policy for another machine that has it.
        #[serde(default = "fail")]
        on_conflict: OnConflict,
    },
    /// A file system.
    FileSystem {
        /// The block device, or what else `mount` takes.
        device: String,
        /// Where it is mounted.
        mount_point: String,
        /// Its type, such as `ext4`.
        fs_type: String,
        /// Options of `mount -o`; may be empty.
        options: String,
        /// Whether it is checked (`fsck -p`) before it is mounted.
        check: bool,
    },
    /// An LVM2 volume group.
    VolumeGroup {
        /// Its name.
        name: String,
    },
    /// An application server: programs with their arguments; nothing is read by a shell.
    Application {
        /// Starts it; ends when it runs. What it leaves behind lives in the group's control group.
        start: Vec<String>,
        /// Stops it.
        stop: Vec<String>,
        /// Says by exit status 0 that it works; if empty, that any of its processes lives.
        monitor: Vec<String>,
        /// The user as whom they run; root if none.
        user: Option<String>,
        /// A control group below cgroup2 in which an engine (of containers) runs what the start program asks it
        /// for, such as `vedette-web.slice`. All in it is the resource's, and the guard ends it with the lease.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        control_group: Option<String>,
        /// Takes away what no control group holds of it, when the lease ends.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        release: Option<Release>,
    },
    /// An OCF agent, as installed: `ocf:provider:type`.
    Ocf {
        /// The provider, such as `heartbeat`.
        provider: String,
        /// The type, such as `Dummy`.
        agent: String,
        /// Its parameters.
        parameters: BTreeMap<String, String>,
        /// Takes away what no control group holds of it, when the lease ends.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        release: Option<Release>,
    },
    /// A service that systemd starts. Its processes live in the unit's own control group, which the guard
    /// ends with the lease.
    Systemd {
        /// The unit, such as `nginx.service`.
        unit: String,
    },
}

/// A program that a node's guard runs when its lease ends, for what no control group holds. Nothing is taken
/// over from a silent node before it had its time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// The program with its arguments; status 0 says that nothing is left.
    pub program: Vec<String>,
    /// Longest time for it.
    pub within_ms: u64,
}

impl Release {
    /// The time that one has unless its resource says otherwise.
    pub const USUAL_MS: u64 = 5_000;
}

/// Where systemd puts a slice of that name, if not at the top: `a-b.slice` lies in `a.slice`. Engines that leave
/// their control groups to systemd do as it does.
pub fn nested_slice(path: &str) -> Option<String> {
    let stem = path.strip_suffix(".slice").filter(|stem| stem.contains('-'))?;
    let dashes = stem.match_indices('-').map(|(at, _)| at).filter(|at| *at > 0);
    let parts: Vec<String> = dashes.map(|at| format!("{}.slice", &stem[..at])).collect();
    let is_plain = !path.contains('/') && !parts.is_empty();
    is_plain.then(|| format!("{}/{path}", parts.join("/")))
}

impl ResourceKind {
    /// The program that takes it away without the agent, if it needs one.
    pub const fn release(&self) -> Option<&Release> {
        match self {
            Self::Application { release, .. } | Self::Ocf { release, .. } => release.as_ref(),
            _ => None,
        }
    }

    /// Whether two nodes that have it at a time destroy what is on it.
    pub const fn is_data(&self) -> bool {
        matches!(self, Self::FileSystem { .. } | Self::VolumeGroup { .. })
    }

    /// The control group that an engine fills for it, below cgroup2.
    pub fn control_group(&self) -> Option<&str> {
        match self {
            Self::Application { control_group, .. } => control_group.as_deref(),
            _ => None,
        }
    }

    /// The kind in a word, as JSON and text have it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Address { .. } => "address",
            Self::FileSystem { .. } => "file_system",
            Self::VolumeGroup { .. } => "volume_group",
            Self::Application { .. } => "application",
            Self::Ocf { .. } => "ocf",
            Self::Systemd { .. } => "systemd",
        }
    }

    /// The kind's number in the MIB.
    pub const fn code(&self) -> u32 {
        match self {
            Self::Address { .. } => 2,
            Self::FileSystem { .. } => 3,
            Self::VolumeGroup { .. } => 4,
            Self::Application { .. } => 5,
            Self::Ocf { .. } => 6,
            Self::Systemd { .. } => 7,
        }
    }
}

/// A resource group, as it is configured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupDef {
    /// The name that operators use.
    pub name: String,
    /// Where it runs.
    pub policy: Policy,
    /// The nodes it may run on, best first.
    pub nodes: Vec<NodeNumber>,
    /// Whether a cascading group goes back to its home, the first of its list, when that returns.
    pub fallback: bool,
    /// How long its home has to be back before it goes there.
    #[serde(default)]
    pub fallback_delay_ms: u64,
    /// The time of day in which it goes back; none: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback_window: Option<DayWindow>,
    /// Policy for what is seen to run of it where it should not.
    #[serde(default = "stop_extra")]
    pub multiple_active: MultipleActive,
    /// Its resources, in the order in which they are acquired; released in reverse.
    pub resources: Vec<ResourceDef>,
}

const fn stop_extra() -> MultipleActive {
    MultipleActive::StopExtra
}

const fn fail() -> OnConflict {
    OnConflict::Fail
}

/// A group while the cluster runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its number in the MIB and in records; never used again.
    pub number: u16,
    /// Numbers of its resources, by name.
    pub resource_numbers: BTreeMap<String, u16>,
    /// Where something of it may be active. At most one unless the group is concurrent.
    pub instances: BTreeMap<NodeNumber, Instance>,
    /// An operator wants it to be off (spec A17: what was offline stays offline).
    pub wanted_offline: bool,
    /// Why it is to be off if no operator wants that: its policy had it stopped, and it stays off until an operator
    /// says something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped_for: Option<String>,
    /// An operator moved it here; it stays as long as that node is there, and that has not ended.
    pub preferred: Option<NodeNumber>,
    /// When that ends by itself; it also does when the group is on its home.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_until: Option<Until>,
    /// Where it goes back to, and when, if that is home and not yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goes_back: Option<GoesBack>,
    /// A node that was stopped without takeover took it along; it waits for that node (H21).
    pub held_for: Option<NodeNumber>,
    /// Where it ran last.
    pub last: Option<NodeNumber>,
    /// The incident that began when its node let go of it by itself, until it is ONLINE again. If that
    /// node turns out to be DOWN, it is the same incident.
    #[serde(default)]
    pub lost: Option<u64>,
    /// Where something of it was seen to run although the group is not there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub also: BTreeMap<NodeNumber, Sighting>,
    /// Nodes that said that they could not stop what they have of it. No lease ends what its node could not,
    /// so only their own later word, fencing or an operator is evidence that it is over.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub unreleased: BTreeSet<NodeNumber>,
    /// Resources that run where the end of their node's lease does not end them, as it found when it started them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outside: BTreeMap<NodeNumber, BTreeSet<String>>,
    /// Why nothing is done with it until an operator says so.
    pub blocked: Option<Blocked>,
    /// Nothing is moved and nothing restarted.
    pub maintenance: bool,
    /// Failures, until they are cleared.
    pub fails: Vec<FailCount>,
    /// Nodes that could not acquire it, or where its resources failed too often.
    pub avoid: BTreeSet<NodeNumber>,
    /// Why, of those of them for which it was said; entries of nodes that are avoided no more say nothing.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub avoid_why: BTreeMap<NodeNumber, String>,
    /// Those of them that only did not come to it: nothing failed there, but the event was over, for
    /// example because a lease was lost meanwhile.
    #[serde(default)]
    pub passed_over: BTreeSet<NodeNumber>,
    /// It was online since those were tried last, so they may be tried again before it is blocked.
    #[serde(default)]
    pub second_chance: bool,
    /// When its state (the worst of its instances) last changed.
    pub since: WallTime,
    /// How many times it was brought online on a node other than the last after a failure.
    pub failovers: u64,
    /// The same, because an operator or a new configuration wanted that.
    #[serde(default)]
    pub moves: u64,
    /// The same, because its better place was there again.
    #[serde(default)]
    pub failbacks: u64,
    /// Its latest failovers, on the cluster's timeline, as many as make it flapping.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed_over_ms: Vec<u64>,
    /// Since when it fails over again and again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flapping: Option<WallTime>,
    /// Why it went out of service last.
    #[serde(default)]
    pub left: Option<Motive>,
    /// What it was when its instances were made, if the definition in force says something else or
    /// has it no more: by this it is released.
    #[serde(default)]
    pub retired: Option<GroupDef>,
    /// A new definition was to change what is active, and another event had that in hand: it is done afterwards.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub postponed: bool,
    /// The incident in which it went out of service last; a local record that is told afterwards
    /// belongs to it.
    #[serde(default)]
    pub outage: Option<u64>,
    /// Set only in what a node shows that does not know the present state ([`crate::knowledge`]).
    #[serde(skip)]
    pub out_of_sight: bool,
}

/// The end of an operator's wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Until {
    /// When the group's home joins again.
    Home,
    /// At a time.
    At(WallTime),
}

/// A move that is planned: a group goes back home.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoesBack {
    /// Its home.
    pub to: NodeNumber,
    /// Not before this.
    pub at: WallTime,
}

/// Resources of a group that run on a node which does not have the group, or may.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sighting {
    /// The resources, by name.
    pub resources: BTreeSet<String>,
    /// When the first of them was seen, or since when they may run.
    pub since: WallTime,
    /// Nobody saw them: the group was taken over from there, and nothing proved that they had ended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unproven: bool,
}

/// What blocks a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocked {
    /// On which node, if on one.
    pub node: Option<NodeNumber>,
    /// Why, in a sentence without full stop.
    pub why: String,
    /// Since when.
    pub since: WallTime,
}

/// Failures of one resource on one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailCount {
    /// The node.
    pub node: NodeNumber,
    /// The resource.
    pub resource: String,
    /// How many since it was cleared or forgotten.
    pub count: u32,
    /// When it failed last.
    pub last: WallTime,
    /// Where that is on the cluster's timeline ([`crate::state::Timeline`]).
    #[serde(default)]
    pub last_ms: u64,
    /// Reason, as the look at it gave it.
    pub why: String,
}

/// A group on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Its state. ERROR: it could not be released.
    pub state: GroupState,
    /// The log index that allowed it: the fencing token of everything done for it.
    pub token: u64,
    /// When its state last changed.
    pub since: WallTime,
    /// Its resources, by name.
    pub resources: BTreeMap<String, ResourceStatus>,
    /// Set while the end of the node's lease says nothing about it: maintenance, or a forced stop, leaves it
    /// running whatever happens to daemon and guard. The log index that began it, until the node says that
    /// its guard covers it again ([`crate::command::GroupCommand::Covered`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uncovered: Option<u64>,
}

impl Instance {
    /// Whether it ends with its node's lease.
    pub fn is_covered(&self) -> bool {
        self.uncovered.is_none() && self.state != GroupState::Unmanaged
    }

    /// Whether it ran already when maintenance or a forced stop left it: then it is taken up as it is.
    pub fn is_taken_up(&self) -> bool {
        self.uncovered.is_some_and(|since| since != self.token)
    }

    /// Whether it was left running and nobody looks after it: its node takes it up again as it is.
    pub fn is_left(&self) -> bool {
        let unseen = self.state == GroupState::Unknown && self.uncovered.is_some();
        unseen || self.state == GroupState::Unmanaged
    }
}

/// A resource on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceStatus {
    /// Its state.
    pub state: ResourceState,
    /// When its state last changed.
    pub since: WallTime,
    /// What is to be said about it, such as the device that has an address, or why it failed.
    pub detail: String,
    /// Failures of its monitor that were tolerated, if any was since it is here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerated: Option<Tolerated>,
}

/// Failures of a monitor that are no failure of its resource ([`crate::tolerance`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tolerated {
    /// How many in a row now; 0: the latest look was a success, or it has failed.
    pub count: u32,
    /// As many in a row as would make it failed.
    pub limit: u32,
    /// How many since it is here.
    pub total: u64,
    /// When the last one was.
    pub last: WallTime,
    /// Reason, as that look gave it.
    pub why: String,
}

impl ResourceStatus {
    /// A state, with what is to be said about it.
    pub fn new(state: ResourceState, since: WallTime, detail: impl Into<String>) -> Self {
        Self { state, since, detail: detail.into(), tolerated: None }
    }

    /// The failure that is being tolerated now.
    pub fn tolerates(&self) -> Option<&Tolerated> {
        self.tolerated.as_ref().filter(|it| it.count > 0)
    }
}

impl Group {
    /// Whether an operator wants it to be off.
    pub fn is_wanted_off(&self) -> bool {
        self.wanted_offline && self.stopped_for.is_none()
    }

    /// Whether it is blocked because something of it also runs elsewhere, which takes it from nobody.
    fn is_blocked_beside(&self) -> bool {
        let beside = |node| self.also.contains_key(&node);
        self.blocked.as_ref().is_some_and(|blocked| blocked.node.is_some_and(beside))
    }

    /// Whether something of it has failed where it is.
    fn has_failed(&self) -> bool {
        let failed = |it: &ResourceStatus| it.state == ResourceState::Failed;
        self.instances.values().any(|instance| instance.resources.values().any(failed))
    }

    /// The state of the group as a whole, for [`GroupDef::policy`] alike: the worst of its
    /// instances, where ERROR is worse than being in motion, and that worse than ONLINE. A group that is blocked
    /// is in ERROR, unless it serves all the same.
    pub fn state(&self) -> GroupState {
        let state = self.state_of_instances();
        let serves = state == GroupState::Online && self.is_blocked_beside() && !self.has_failed();
        if self.blocked.is_some() && !serves { GroupState::Error } else { state }
    }

    fn state_of_instances(&self) -> GroupState {
        let off = |instance: &Instance| instance.state == GroupState::Offline;
        if self.out_of_sight && self.instances.values().all(off) {
            return GroupState::Unknown;
        }
        let has = |state| self.instances.values().any(|instance| instance.state == state);
        [
            GroupState::Error,
            GroupState::Unknown,
            GroupState::Releasing,
            GroupState::Acquiring,
            GroupState::Unmanaged,
            GroupState::Online,
        ]
        .into_iter()
        .find(|state| has(*state))
        .unwrap_or(GroupState::Offline)
    }

    /// Whether a resource was seen to run where the end of its node's lease does not end it.
    pub fn is_outside(&self, resource: &str, node: NodeNumber) -> bool {
        self.outside.get(&node).is_some_and(|all| all.contains(resource))
    }

    /// Whether what a node has of it ends with that node's lease.
    pub fn ends_with_lease(&self, node: NodeNumber) -> bool {
        let covered = self.instances.get(&node).is_some_and(Instance::is_covered);
        covered && !self.unreleased.contains(&node)
    }

    /// The only node that has it; of a concurrent group the first.
    pub fn owner(&self) -> Option<NodeNumber> {
        self.instances.keys().next().copied()
    }
}
