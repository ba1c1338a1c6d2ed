//! What an operator configures besides nodes and networks: groups, monitors, programs around
//! events, fencing, and the manager's own limits. One document (TOML) holds all of it, and the
//! whole of it is replaced at once ([`crate::document`]).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::command::Command;
use crate::group::GroupDef;
use crate::id::{NetworkNumber, NodeNumber};
use crate::time::WallTime;

/// Everything that is configured besides nodes, networks and settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// Limits of the manager.
    pub manager: ManagerOptions,
    /// Groups, in the order in which they are placed.
    pub groups: Vec<GroupDef>,
    /// Standby adapters (spec H26, H27).
    pub standbys: Vec<Standby>,
    /// What runs around the scripts of an event, by the event's name (spec H19).
    pub hooks: BTreeMap<String, Hooks>,
    /// How nodes are fenced.
    pub fencing: BTreeMap<NodeNumber, FenceDef>,
    /// Monitors of the site, and how built-in ones are to run (spec H29).
    pub monitors: Vec<MonitorDef>,
}

impl Definition {
    /// The group of that name.
    pub fn group(&self, name: &str) -> Option<&GroupDef> {
        self.groups.iter().find(|group| group.name == name)
    }
}

/// Limits of the manager; all in milliseconds unless they say otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManagerOptions {
    /// How long the queue must be quiet before a vote; none: a quarter of the beat interval.
    pub settle_ms: Option<u64>,
    /// How long a command of a recovery program may run.
    pub command_timeout_ms: u64,
    /// When an event is reported as running too long (config_too_long).
    pub too_long_ms: u64,
    /// Interval at which each node looks for what runs on it and should not; 0: never.
    #[serde(default = "probe_interval_ms")]
    pub probe_interval_ms: u64,
    /// Failovers of a group within the window that make it flapping; 0: none ever do.
    #[serde(default = "flap_failovers")]
    pub flap_failovers: u32,
    /// The window, and how long a flapping group has to stay where it is to be steady again.
    #[serde(default = "flap_window_ms")]
    pub flap_window_ms: u64,
    /// `VERBOSE_LOGGING` is `high`, and scripts trace themselves.
    pub verbose: bool,
    /// A lease that is over is evidence enough, for data too, even if nothing stands behind the guard's release.
    pub trust_guard: bool,
    /// A node is fenced before its groups are taken over, even if its lease is over.
    pub fence_always: bool,
    /// A lease that is over is evidence only for what the kernel or a watchdog takes away without any process
    /// ([`Backing::covers`](crate::takeover::Backing::covers)).
    #[serde(default)]
    pub strict: bool,
}

const fn probe_interval_ms() -> u64 {
    60_000
}

/// Two failovers in an hour may be one fault and its repair; three are a pattern.
const fn flap_failovers() -> u32 {
    3
}

const fn flap_window_ms() -> u64 {
    3_600_000
}

impl Default for ManagerOptions {
    fn default() -> Self {
        Self {
            settle_ms: None,
            command_timeout_ms: 300_000,
            too_long_ms: 180_000,
            probe_interval_ms: probe_interval_ms(),
            flap_failovers: flap_failovers(),
            flap_window_ms: flap_window_ms(),
            verbose: false,
            trust_guard: false,
            fence_always: false,
            strict: false,
        }
    }
}

/// An adapter that waits to take over for the service adapter of its node and network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standby {
    /// The node.
    pub node: NodeNumber,
    /// The network.
    pub network: NetworkNumber,
    /// The adapter's own address, by which its device is found.
    pub address: IpAddr,
}

/// Programs around an event's script, each with arguments; empty if there is none. They get the
/// script's environment, and the outcome in `VEDETTE_EVENT_STATUS`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hooks {
    /// Told before and after; its status is ignored (spec H46).
    pub notify: Vec<String>,
    /// Runs before; if it fails the script does not run.
    pub pre: Vec<String>,
    /// Runs when the script failed, before it is tried again.
    pub recovery: Vec<String>,
    /// How many times the script is tried again.
    pub retries: u32,
    /// Runs after.
    pub post: Vec<String>,
    /// The fate of a user-defined event of which a command failed.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// Limit of a user-defined event as a whole; without one, its commands' own limits alone count.
    #[serde(default)]
    pub time_limit_ms: Option<u64>,
}

/// The fate of a user-defined event of which a command failed: what an operator would be asked, answered
/// beforehand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// The event waits for an operator, and steps aside for other events.
    #[default]
    Wait,
    /// The event goes on as if the command had succeeded.
    Skip,
    /// The event ends as failed.
    Abort,
}

impl OnFailure {
    /// Its spelling in documents.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Wait => "wait",
            Self::Skip => "skip",
            Self::Abort => "abort",
        }
    }
}

/// How a node is fenced: a fence agent and what it gets on standard input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FenceDef {
    /// Its program, such as `fence_ipmilan`.
    pub agent: String,
    /// Lines `key=value`; `action` is added.
    pub options: BTreeMap<String, String>,
    /// `off` or `reboot`.
    pub action: String,
    /// How long it may take.
    pub timeout_ms: u64,
}

/// How values of a resource variable are got: by an executable, or by the built-in monitor of that
/// name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MonitorDef {
    /// The variable.
    pub variable: String,
    /// The program and its arguments; prints lines `instance-vector value`. Empty for a built-in
    /// monitor.
    pub command: Vec<String>,
    /// Time between two runs.
    pub interval_ms: u64,
    /// How long it may run.
    pub timeout_ms: u64,
}

/// The configuration document: the version in force, every kept one, and one being considered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentStore {
    /// The version in force; 0: none was ever applied, there are no groups.
    pub active: u32,
    /// Kept versions, by number.
    pub versions: BTreeMap<u32, DocumentVersion>,
    /// What is being verified on every node.
    pub pending: Option<PendingDocument>,
    /// How the last verification ended.
    #[serde(default)]
    pub last: Option<VerificationOutcome>,
}

/// One version of the configuration document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentVersion {
    /// The text, as it was given.
    pub text: String,
    /// Who gave it.
    pub author: String,
    /// Why.
    pub comment: String,
    /// When it took effect.
    pub at: WallTime,
}

/// A document that is being verified (spec H35): it takes effect when every node that is there has
/// nothing against it, and never if one has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingDocument {
    /// Log index of the proposal.
    pub id: u64,
    /// The document.
    pub version: DocumentVersion,
    /// Who is asked.
    pub asked: BTreeSet<NodeNumber>,
    /// What each found; empty: nothing against it.
    pub findings: BTreeMap<NodeNumber, Vec<String>>,
    /// Warnings of each that had some.
    #[serde(default)]
    pub warnings: BTreeMap<NodeNumber, Vec<String>>,
    /// It is examined only and will not take effect.
    #[serde(default)]
    pub dry_run: bool,
    /// What takes effect with it, if it is part of a snapshot.
    #[serde(default)]
    pub parts: Vec<Command>,
}

/// How the verification of a document ended, for whoever asked for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerificationOutcome {
    /// Log index of the proposal.
    pub id: u64,
    /// The version as which it took effect, if it did.
    pub version: Option<u32>,
    /// It was examined only.
    pub dry_run: bool,
    /// Who was asked.
    pub asked: BTreeSet<NodeNumber>,
    /// What each found; who went away meanwhile is not in here.
    pub findings: BTreeMap<NodeNumber, Vec<String>>,
    /// Warnings of each that had some.
    #[serde(default)]
    pub warnings: BTreeMap<NodeNumber, Vec<String>>,
    /// What speaks against it without looking at a machine, or why it was withdrawn.
    pub against: Vec<String>,
    /// When.
    pub at: WallTime,
}
