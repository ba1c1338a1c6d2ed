//! Records: everything that happens, once, in one order, the same on every node.
//!
//! A record is made by [`crate::state::ClusterState::apply`] and nowhere else. Each carries the
//! hash of itself and the one before, so the histories of two nodes can be compared by one value
//! and a changed or missing row is found.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::id::{Hash, NetworkNumber, NodeNumber, Session};
use crate::model::Severity;
use crate::time::WallTime;

/// Codes of records: name (contract, never changed) and number (MIB).
macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $number:literal $name:literal),+ $(,)?) => {
        /// What kind of thing happened. Names and numbers are a contract.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Code { $($(#[$doc])* #[serde(rename = $name)] $variant = $number),+ }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Its name.
            pub const fn name(self) -> &'static str { match self { $(Self::$variant => $name),+ } }

            /// Its number in the MIB.
            pub const fn number(self) -> u32 { self as u32 }

            /// The code with that name.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|code| code.name() == name)
            }
        }
    };
}

codes! {
    /// The cluster was formed by its first member.
    ClusterFormed = 1 "CLUSTER_FORMED",
    /// The cluster's state changed.
    ClusterState = 2 "CLUSTER_STATE",
    /// The cluster's substate changed.
    ClusterSubstate = 3 "CLUSTER_SUBSTATE",
    /// A node became director.
    DirectorElected = 4 "DIRECTOR_ELECTED",
    /// The cluster has its nodes and goes on.
    ClusterSeeded = 5 "CLUSTER_SEEDED",
    /// The set of voters changed.
    VotersChanged = 6 "VOTERS_CHANGED",
    /// A setting was changed.
    SettingChanged = 7 "SETTING_CHANGED",
    /// A node was added.
    NodeAdded = 10 "NODE_ADDED",
    /// A node was deleted.
    NodeRemoved = 11 "NODE_REMOVED",
    /// A node's host status changed.
    NodeHost = 12 "NODE_HOST",
    /// A node's agent status changed.
    NodeAgent = 13 "NODE_AGENT",
    /// A network's status changed.
    Network = 20 "NETWORK",
    /// An interface's status changed.
    Interface = 21 "INTERFACE",
    /// A link's status changed.
    Link = 22 "LINK",
    /// A join token was issued.
    TokenIssued = 30 "TOKEN_ISSUED",
    /// The alert script was changed.
    AlertScriptSaved = 40 "ALERT_SCRIPT_SAVED",
    /// An earlier alert script was put in force again.
    AlertScriptRolledBack = 41 "ALERT_SCRIPT_ROLLED_BACK",
    /// The alert script ran for an alert.
    AlertDelivered = 42 "ALERT_DELIVERED",
    /// A test of the alert script was asked for.
    AlertTestRequested = 43 "ALERT_TEST_REQUESTED",
    /// The alert script ran for a test.
    AlertTested = 44 "ALERT_TESTED",
    /// Alerts were given up because too many were waiting.
    AlertsDropped = 45 "ALERTS_DROPPED",
    /// The managers of nodes changed their state (spec H11).
    Manager = 50 "MANAGER",
    /// An event was queued.
    EventQueued = 51 "EVENT_QUEUED",
    /// An event was taken out of the queue because a later one makes it needless.
    EventSuperseded = 52 "EVENT_SUPERSEDED",
    /// A vote began, was approved by all, or gave way to an event of higher priority.
    EventVote = 53 "EVENT_VOTE",
    /// A phase of a recovery program began.
    EventPhase = 54 "EVENT_PHASE",
    /// A command of a recovery program ended on a node.
    EventCommand = 55 "EVENT_COMMAND",
    /// A command failed, and the event waits for an operator (spec H18).
    EventFailed = 56 "EVENT_FAILED",
    /// An operator continued a failed event.
    EventRecovered = 57 "EVENT_RECOVERED",
    /// An event runs too long (config_too_long).
    EventTooLong = 58 "EVENT_TOO_LONG",
    /// An event is over.
    EventEnded = 59 "EVENT_ENDED",
    /// A group changed its state.
    Group = 60 "GROUP",
    /// A resource changed its state.
    Resource = 61 "RESOURCE",
    /// A resource failed.
    ResourceFailed = 62 "RESOURCE_FAILED",
    /// A node was seen to have let go of its groups.
    LetGo = 63 "LET_GO",
    /// A takeover has to wait, and why.
    TakeoverWaits = 64 "TAKEOVER_WAITS",
    /// A node is being fenced, was fenced, or could not be.
    Fencing = 65 "FENCING",
    /// Failures were cleared.
    FailuresCleared = 66 "FAILURES_CLEARED",
    /// An operator moved a group, or wants it on or off.
    GroupOrdered = 67 "GROUP_ORDERED",
    /// A node's manager was stopped or started by an operator.
    NodeOrdered = 68 "NODE_ORDERED",
    /// Maintenance began or ended.
    Maintenance = 69 "MAINTENANCE",
    /// Rules were loaded.
    RulesSaved = 70 "RULES_SAVED",
    /// Earlier rules were put in force again.
    RulesRolledBack = 71 "RULES_ROLLED_BACK",
    /// A configuration document is being verified, was withdrawn or refused.
    ConfigProposed = 72 "CONFIG_PROPOSED",
    /// A configuration document took effect.
    ConfigApplied = 73 "CONFIG_APPLIED",
    /// A rule about values may fire again (spec H31).
    RuleRearmed = 74 "RULE_REARMED",
    /// A resource monitor fails or works again, or a rule cannot be applied to its values.
    Monitor = 75 "MONITOR",
    /// A rule about values fired for an instance (spec H31).
    RuleFired = 76 "RULE_FIRED",
    /// Something of a group was seen to run on a node that does not have the group, or runs no more there.
    MultipleActive = 77 "MULTIPLE_ACTIVE",
    /// Another machine answers for a service address that a node was about to take.
    AddressConflict = 78 "ADDRESS_CONFLICT",
    /// A group fails over again and again, or is steady again.
    GroupFlapping = 79 "GROUP_FLAPPING",
    /// A node lost its quorum ([`crate::local`], as are all codes up to `DROPPED`, and from `NO_DIRECTOR` on).
    QuorumLost = 80 "QUORUM_LOST",
    /// A node is part of a quorum again.
    QuorumRegained = 81 "QUORUM_REGAINED",
    /// A node released a group because its lease ended.
    GroupReleased = 82 "GROUP_RELEASED",
    /// Something could not be released when a lease ended.
    ReleaseFailed = 83 "RELEASE_FAILED",
    /// A node's daemon started; how long it had been away.
    NodeStarted = 84 "NODE_STARTED",
    /// A node's agent was started again by its guard.
    AgentRestarted = 85 "AGENT_RESTARTED",
    /// A node was late itself: its view of the others is in doubt.
    NodeLate = 86 "NODE_LATE",
    /// A node's wall clock was set.
    ClockStepped = 87 "CLOCK_STEPPED",
    /// A node's wall clock differs from a peer's.
    ClockOff = 88 "CLOCK_OFF",
    /// A file system that a node needs is full.
    DiskFull = 89 "DISK_FULL",
    /// The log stands still: something waits, and nothing is committed.
    LogStalled = 90 "LOG_STALLED",
    /// A node's log is behind what the others have.
    LogBehind = 91 "LOG_BEHIND",
    /// A member's log is shorter than what it had acknowledged.
    LogLost = 92 "LOG_LOST",
    /// A node's history takes no records.
    HistoryStalled = 93 "HISTORY_STALLED",
    /// A node's damaged history was set aside, and is fetched from the others.
    HistorySetAside = 94 "HISTORY_SET_ASIDE",
    /// A node's master SNMP agent is not connected.
    SnmpAway = 95 "SNMP_AWAY",
    /// The alert script fails on a node.
    AlertScriptFailing = 96 "ALERT_SCRIPT_FAILING",
    /// A node dropped something that it should have told.
    Dropped = 97 "DROPPED",
    /// Local records of a node never reached the others.
    AccountIncomplete = 98 "ACCOUNT_INCOMPLETE",
    /// No node had a quorum for a time.
    QuorumAbsent = 99 "QUORUM_ABSENT",
    /// A node has a quorum and hears no director: nothing can be moved or taken over.
    NoDirector = 100 "NO_DIRECTOR",
    /// A node has no reaper, or has one again.
    ReaperLost = 101 "REAPER_LOST",
    /// Round trips between a node and a peer come near to what the timers allow for.
    RoundTrip = 102 "ROUND_TRIP",
    /// Long frames of a peer do not reach a node.
    FrameSize = 103 "FRAME_SIZE",
}

impl Code {
    /// Whether a node may write records of this code into its own journal.
    pub const fn is_local(self) -> bool {
        let number = self.number();
        (number >= Self::QuorumLost.number() && number <= Self::Dropped.number())
            || number >= Self::NoDirector.number()
    }

    /// Codes of conditions that are raised and cleared, in the order in which surfaces show them.
    pub const CONDITIONS: &'static [Self] = &[
        Self::QuorumLost,
        Self::NoDirector,
        Self::ReleaseFailed,
        Self::ReaperLost,
        Self::LogStalled,
        Self::LogBehind,
        Self::LogLost,
        Self::HistoryStalled,
        Self::DiskFull,
        Self::NodeLate,
        Self::ClockOff,
        Self::RoundTrip,
        Self::FrameSize,
        Self::SnmpAway,
        Self::AlertScriptFailing,
    ];
}

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// The cluster as a whole.
    Cluster,
    /// A node.
    Node(NodeNumber),
    /// A network.
    Network(NetworkNumber),
    /// A node's interface on a network.
    Interface(NodeNumber, NetworkNumber),
    /// A link.
    Link(NodeNumber, NodeNumber, NetworkNumber),
    /// The alert script.
    AlertScript,
    /// A resource group, by its number.
    Group(u16),
    /// A resource, by the numbers of its group and itself.
    Resource(u16, u16),
    /// An event; which one is in [`Record::event`].
    Event,
    /// Rules and recovery programs.
    Rules,
    /// The configuration document.
    Document,
}

impl Subject {
    /// The kind, as JSON and SQL have it.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Node(_) => "node",
            Self::Network(_) => "network",
            Self::Interface(..) => "interface",
            Self::Link(..) => "link",
            Self::AlertScript => "alert_script",
            Self::Group(_) => "group",
            Self::Resource(..) => "resource",
            Self::Event => "event",
            Self::Rules => "rules",
            Self::Document => "configuration",
        }
    }

    /// The kind's number in the MIB.
    pub const fn kind_code(&self) -> u32 {
        match self {
            Self::Cluster => 2,
            Self::Node(_) => 3,
            Self::Network(_) => 4,
            Self::Interface(..) => 5,
            Self::Link(..) => 6,
            Self::AlertScript => 7,
            Self::Group(_) => 8,
            Self::Resource(..) => 9,
            Self::Event => 10,
            Self::Rules => 11,
            Self::Document => 12,
        }
    }

    /// The numbers that identify the subject: two of nodes (or of a group and its resource), then
    /// the network.
    pub const fn numbers(&self) -> (u16, u16, u8) {
        match *self {
            Self::Cluster | Self::AlertScript | Self::Event | Self::Rules | Self::Document => {
                (0, 0, 0)
            }
            Self::Group(group) => (group, 0, 0),
            Self::Resource(group, resource) => (group, resource, 0),
            Self::Node(node) => (node.0, 0, 0),
            Self::Network(network) => (0, 0, network.0),
            Self::Interface(node, network) => (node.0, 0, network.0),
            Self::Link(low, high, network) => (low.0, high.0, network.0),
        }
    }

    /// The subject with that kind and those numbers.
    pub fn from_parts(kind: &str, (first, second, network): (u16, u16, u8)) -> Option<Self> {
        let (first, second, network) =
            (NodeNumber(first), NodeNumber(second), NetworkNumber(network));
        Some(match kind {
            "cluster" => Self::Cluster,
            "node" => Self::Node(first),
            "network" => Self::Network(network),
            "interface" => Self::Interface(first, network),
            "link" => Self::Link(first, second, network),
            "alert_script" => Self::AlertScript,
            "group" => Self::Group(first.0),
            "resource" => Self::Resource(first.0, second.0),
            "event" => Self::Event,
            "rules" => Self::Rules,
            "configuration" => Self::Document,
            _ => return None,
        })
    }
}

/// Where a record that was told afterwards comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Number of the local record in the journal of [`Record::origin`].
    pub number: u64,
    /// When it happened, by the wall clock of [`Record::origin`].
    pub happened_at: WallTime,
    /// How far that clock was ahead of the one by which the director dates records, where it was measured.
    pub clock_offset_ms: Option<i64>,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Counts from 1 without a gap, over the life of the cluster.
    pub seq: u64,
    /// Log index of the command that made it; the revision of the state it belongs to.
    pub index: u64,
    /// The proposer's wall clock.
    pub at: WallTime,
    /// What kind of thing.
    pub code: Code,
    /// How bad.
    pub severity: Severity,
    /// About what.
    pub subject: Subject,
    /// The subject's name at that time, such as `n2`, `neta`, `n2/neta`, `n1-n2/neta`.
    pub subject_name: String,
    /// The status before, or empty.
    pub previous: String,
    /// The status after, or empty.
    pub current: String,
    /// Why.
    pub cause: String,
    /// One sentence for people.
    pub message: String,
    /// The log index of the record that began the incident this belongs to.
    pub incident: Option<u64>,
    /// The node whose proposal made it.
    pub origin: NodeNumber,
    /// Who asked: `director`, `agent`, or an operator.
    pub actor: String,
    /// Whether the alert script is run for it.
    pub alert: bool,
    /// Whether it belongs to a test.
    pub test: bool,
    /// The event of the cluster manager that this is a step of.
    pub event: Option<u64>,
    /// The node on which the step was done.
    pub node: Option<NodeNumber>,
    /// How long it took.
    pub duration_ms: Option<u64>,
    /// Milliseconds on the cluster's own timeline ([`crate::state::Timeline`]) at which it happened;
    /// differences of it are lengths of time, whatever happened to wall clocks. 0 in records of
    /// versions that had no timeline.
    #[serde(default)]
    pub elapsed_ms: u64,
    /// Set if it was told afterwards: what its node wrote down at the time ([`crate::local`]).
    #[serde(default)]
    pub told: Option<Told>,
    /// SHA-256 over the hash of the record before and this one's content.
    pub hash: Hash,
}

impl Record {
    /// What stands between a predicate and the instance in a cause.
    pub(crate) const HOLDS_FOR: &str = " holds for ";

    /// What stands between a thing and its node in a message, where it cannot be watched.
    pub(crate) const CANNOT_BE_WATCHED: &str = " cannot be watched on ";

    /// The same, where it can be again.
    pub(crate) const IS_WATCHED: &str = " is watched on ";

    /// How the message of a [`Code::ResourceFailed`] ends if the resource works again.
    pub(crate) const RESTARTED: &'static str = "it was started again in place";

    /// The cause of the last record of a group that no configuration has any more.
    pub(crate) const NOT_CONFIGURED: &'static str = "it is not configured any more";

    /// The hash that this record must carry if `previous` is the hash of the one before. Every
    /// field but the hash itself goes in, each with its length, in a fixed order.
    pub fn chained(&self, previous: Hash) -> Hash {
        let mut hasher = Sha256::new();
        hasher.update(previous.0);
        let (first, second, network) = self.subject.numbers();
        for number in [
            self.seq,
            self.index,
            self.at.0 as u64,
            u64::from(self.code.number()),
            u64::from(self.severity.code()),
            u64::from(self.subject.kind_code()),
            u64::from(first),
            u64::from(second),
            u64::from(network),
            self.incident.unwrap_or(0),
            u64::from(self.origin.0),
            u64::from(self.alert),
            u64::from(self.test),
        ] {
            hasher.update(number.to_be_bytes());
        }
        for text in [
            &self.subject_name,
            &self.previous,
            &self.current,
            &self.cause,
            &self.message,
            &self.actor,
        ] {
            hasher.update((text.len() as u64).to_be_bytes());
            hasher.update(text.as_bytes());
        }
        self.hash_step(&mut hasher);
        self.hash_timeline(&mut hasher);
        Hash(hasher.finalize().into())
    }

    /// The rule and the instance that a [`Code::RuleFired`] or [`Code::RuleRearmed`] is about. They
    /// are read out of its sentences: the message begins with the rule, whose name has no blanks, and
    /// the cause ends with the instance, behind [`Self::HOLDS_FOR`].
    pub fn watched(&self) -> Option<(&str, &str)> {
        if !matches!(self.code, Code::RuleFired | Code::RuleRearmed) {
            return None;
        }
        let (rule, _) = self.message.split_once(' ')?;
        let (_, instance) = self.cause.split_once(Self::HOLDS_FOR)?;
        Some((rule, instance))
    }

    /// What a [`Code::Monitor`] says can or cannot be watched, as the state calls it.
    pub fn trouble(&self) -> Option<&str> {
        let spoken = [Self::CANNOT_BE_WATCHED, Self::IS_WATCHED].into_iter();
        let mut found = spoken.filter_map(|words| self.message.rsplit_once(words));
        found.next().filter(|_| self.code == Code::Monitor).map(|(what, _)| what)
    }

    /// Whether it says that a resource failed and works again already.
    pub fn is_restart(&self) -> bool {
        self.code == Code::ResourceFailed && self.message.ends_with(Self::RESTARTED)
    }

    /// Whether it is the last one of a group, which is configured no more.
    pub fn is_removal(&self) -> bool {
        self.code == Code::Group && self.cause == Self::NOT_CONFIGURED
    }

    /// Steps of events say more; records without these fields hash as they always did.
    fn hash_step(&self, hasher: &mut Sha256) {
        if self.event.is_none() && self.node.is_none() && self.duration_ms.is_none() {
            return;
        }
        for number in [self.event, self.node.map(|node| u64::from(node.0)), self.duration_ms] {
            hasher.update([u8::from(number.is_some())]);
            hasher.update(number.unwrap_or(0).to_be_bytes());
        }
    }
}

impl Record {
    /// Adds the timeline's fields; records without them hash as they always did.
    fn hash_timeline(&self, hasher: &mut Sha256) {
        if self.elapsed_ms == 0 && self.told.is_none() {
            return;
        }
        hasher.update(b"timeline");
        hasher.update(self.elapsed_ms.to_be_bytes());
        hasher.update([u8::from(self.told.is_some())]);
        let Some(told) = self.told else { return };
        hasher.update(told.number.to_be_bytes());
        hasher.update(told.happened_at.0.to_be_bytes());
        hasher.update([u8::from(told.clock_offset_ms.is_some())]);
        hasher.update(told.clock_offset_ms.unwrap_or(0).to_be_bytes());
    }
}

/// One line for a terminal: time, severity, message, cause.
impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:>6} {:13} {}", self.at, self.seq, self.severity, self.message)?;
        if !self.cause.is_empty() {
            write!(f, " ({})", self.cause)?;
        }
        Ok(())
    }
}

/// An alert that is waiting for the script, or being handled by it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingAlert {
    /// The record that raised it.
    pub record: Record,
    /// Who runs the script for it, and in which run of its agent.
    pub claim: Option<(NodeNumber, Session)>,
    /// How many times it was claimed.
    pub attempts: u32,
}
