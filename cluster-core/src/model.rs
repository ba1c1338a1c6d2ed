//! The nouns of a cluster: what a node, a network, an interface, a link and an alert script are.
//!
//! Statuses are spelt as in the vocabulary of `ARCHITECTURE.md`; each has a `name()` for JSON and
//! text, and a `code()` that the MIB and the `..._state_code` metrics share. Codes are a contract:
//! `unknown` is 1, values are dense, and none ever changes its meaning.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::{Hash, NetworkNumber, NodeNumber, RaftId, StorageId};
use crate::refusal::Refusal;
use crate::time::WallTime;

/// A status: an enum whose every value has a name (JSON, text) and a code (MIB, metrics).
macro_rules! status {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $code:literal $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $text)] $variant = $code),+
        }

        impl $name {
            /// Every value, in the order of the codes.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The spelling in JSON and text.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            /// The integer in the MIB and in `..._state_code` metrics.
            pub const fn code(self) -> u32 {
                self as u32
            }

            /// The value spelt so.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.name() == name)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }
    };
}

pub(crate) use status;

status! {
    /// Status of a node's host (spec A8).
    HostStatus {
        /// Not known yet: the node was added and never seen, or this cluster has just started.
        Unknown = 1 "UNKNOWN",
        /// Reachable over at least one network in both directions.
        Up = 2 "UP",
        /// Unreachable by every network.
        Down = 3 "DOWN",
        /// Alive, but cut off from all monitored networks (heard, yet not reachable).
        Disconnected = 4 "DISCONNECTED",
        /// Partitioned on the networks, still visible over a shared bus.
        Netpar = 5 "NETPAR",
    }
}

status! {
    /// Status of a node's agent (spec A9).
    AgentStatus {
        /// Nothing is known of the agent, as when its host is down.
        Unknown = 1 "UNKNOWN",
        /// The agent takes part in the cluster.
        Running = 2 "RUNNING",
        /// The host is there, the agent is not.
        Down = 3 "DOWN",
        /// The agent has started and is catching up.
        Initializing = 4 "INITIALIZING",
        /// The agent runs but does not belong: another version, cluster or storage.
        Invalid = 5 "INVALID",
    }
}

status! {
    /// Status of a network as a whole (spec H4).
    NetworkStatus {
        /// Not observed yet.
        Unknown = 1 "UNKNOWN",
        /// At least two nodes reach each other over it, or only one node is there to use it.
        Up = 2 "UP",
        /// No two nodes reach each other over it while they do over another one.
        Down = 3 "DOWN",
    }
}

status! {
    /// Status of one node's interface on one network (spec H4).
    InterfaceStatus {
        /// Not observed yet, or the host is not up.
        Unknown = 1 "UNKNOWN",
        /// At least one peer reaches it.
        Up = 2 "UP",
        /// No peer reaches it while the network carries others.
        Down = 3 "DOWN",
    }
}

status! {
    /// Status of a link: the path between two nodes over one network.
    LinkStatus {
        /// Not observed yet, or an end is down.
        Unknown = 1 "UNKNOWN",
        /// Both directions work.
        Up = 2 "UP",
        /// Neither direction works.
        Down = 3 "DOWN",
        /// One direction works and the other does not.
        OneWay = 4 "ONE_WAY",
    }
}

status! {
    /// Status of a network's adapter group (spec H5).
    GroupStatus {
        /// The network was not observed yet.
        Unknown = 1 "Unknown",
        /// Every node that is up is in the group.
        Stable = 2 "Stable",
        /// A node that is up is not in the group.
        Unstable = 3 "Unstable",
        /// The network is down, or nobody is in the group.
        Disabled = 4 "Disabled",
    }
}

status! {
    /// Cluster state, as clinfo knows it.
    ClusterStatus {
        /// Not known: the answering node has no quorum.
        Unknown = 1 "unknown",
        /// Seeded and led.
        Up = 2 "up",
        /// Waiting for its nodes.
        Down = 3 "down",
        /// No configuration.
        NotConfigured = 4 "notConfigured",
    }
}

status! {
    /// Cluster substate, as clinfo knows it.
    Substate {
        /// Not known.
        Unknown = 1 "unknown",
        /// Nothing is in progress.
        Stable = 2 "stable",
        /// Something is in progress: an agent is starting, being adopted or gone.
        Unstable = 3 "unstable",
        /// Needs an operator.
        Error = 4 "error",
        /// The configuration is being changed.
        Reconfig = 5 "reconfig",
        /// Nodes hold different configurations.
        NotSynced = 6 "notSynced",
    }
}

status! {
    /// How bad a record is; also the logging level (spec A13).
    Severity {
        /// Something failed and needs a person.
        Error = 1 "error",
        /// Something is worse than it should be.
        Warning = 2 "warning",
        /// A normal but significant change.
        Notice = 3 "notice",
        /// For the audit.
        Informational = 4 "informational",
    }
}

status! {
    /// A network's or link's priority (spec V1, V2).
    Priority {
        /// Carries cluster traffic and beats at the full rate.
        High = 1 "high",
        /// Beats at half the rate until every high network has failed.
        Low = 2 "low",
    }
}

status! {
    /// What a node is to the replicated log.
    Role {
        /// Receives the log, does not vote.
        Learner = 1 "learner",
        /// Votes.
        Voter = 2 "voter",
    }
}

/// A network that carries heartbeats. Defined once for the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// The name that operators use.
    pub name: String,
    /// Its priority.
    pub priority: Priority,
    /// UDP port of heartbeats.
    pub beat_port: u16,
    /// TCP port of peers.
    pub peer_port: u16,
    /// An address outside the cluster to probe when two nodes cannot tell whose fault it is (H4).
    pub ping: Option<IpAddr>,
    /// Its status.
    pub status: NetworkStatus,
    /// When the status was last changed.
    pub since: WallTime,
}

/// An address of a node on a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// The address.
    pub address: IpAddr,
    /// Its status.
    pub status: InterfaceStatus,
    /// When the status was last changed.
    pub since: WallTime,
    /// It is DOWN because its network carries nobody: no fault of its own, and told with the network.
    #[serde(default)]
    pub with_network: bool,
}

impl Interface {
    /// Nothing is known of it from now on.
    pub(crate) fn forget(&mut self, at: WallTime) {
        (self.status, self.since, self.with_network) = (InterfaceStatus::Unknown, at, false);
    }
}

/// A member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its number.
    pub number: NodeNumber,
    /// Its name; need not be what `uname -n` says (spec V14).
    pub name: String,
    /// Its log.
    pub raft_id: RaftId,
    /// Its storage.
    pub storage: StorageId,
    /// Version of the product it joined with.
    pub version: String,
    /// Its addresses, one a network.
    pub interfaces: BTreeMap<NetworkNumber, Interface>,
    /// Host status.
    pub host: HostStatus,
    /// When the host status last changed.
    pub host_since: WallTime,
    /// Why it has that status.
    pub host_cause: String,
    /// Set while it is away because its daemon said that it ends: the machine may well be there.
    #[serde(default)]
    pub left: bool,
    /// Agent status.
    pub agent: AgentStatus,
    /// When the agent status last changed.
    pub agent_since: WallTime,
    /// What it is to the log.
    pub role: Role,
    /// When it was added.
    pub added_at: WallTime,
    /// The open incident that concerns it: the log index of the record that began it.
    pub incident: Option<u64>,
    /// Which of its local records are in everybody's history ([`crate::local`]).
    #[serde(default)]
    pub accounted: Accounted,
}

/// How far a node has accounted for its local records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accounted {
    /// Which journal.
    pub journal: u64,
    /// Number of the last entry.
    pub number: u64,
}

/// The path between two nodes over one network; `low < high`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The node with the lower number.
    pub low: NodeNumber,
    /// The node with the higher number.
    pub high: NodeNumber,
    /// The network.
    pub network: NetworkNumber,
    /// Its status.
    pub status: LinkStatus,
    /// When the status was last changed.
    pub since: WallTime,
}

impl Link {
    /// Order and identity of links.
    pub fn key(&self) -> (NodeNumber, NodeNumber, NetworkNumber) {
        (self.low, self.high, self.network)
    }
}

/// A named membership with a generation (spec V7, H8). Port `a` is communication itself, port `h`
/// the cluster manager; every network has one more, named after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// The group's long name, such as `clstrmgr_<cluster id>`.
    pub group: String,
    /// The revision at which the membership last changed.
    pub generation: u64,
    /// Its members, in order.
    pub members: Vec<NodeNumber>,
}

impl Port {
    /// The members as `gabconfig -a` prints them (spec V8): the last digit of every member at its
    /// place; a ten that others follow is marked by `;`, or by a blank and `0` if it is a member.
    pub fn membership_text(&self) -> String {
        let mut text = String::new();
        let mut next = 0;
        for member in &self.members {
            while next < member.0 {
                text.push(if next > 0 && next % 10 == 0 { ';' } else { ' ' });
                next += 1;
            }
            if next > 0 && next % 10 == 0 {
                text.push(' ');
            }
            text.push(char::from(b'0' + (next % 10) as u8));
            next += 1;
        }
        text
    }
}

/// Cluster-wide settings; changed by command while running (spec H3, A13).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Timers.
    pub timing: Timing,
    /// What daemons log.
    pub logging_level: Severity,
    /// How many nodes must be there before a starting cluster goes on (spec V10).
    pub seed_count: u16,
    /// Greatest number of voters, 3 or 5; with fewer nodes the greatest odd number of them.
    pub voters: u8,
    /// How long an alert script may run.
    pub alert_timeout_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            timing: Timing::DEFAULT,
            logging_level: Severity::Notice,
            seed_count: 1,
            voters: 5,
            alert_timeout_ms: 30_000,
        }
    }
}

/// The timers that must fit together (architecture, invariant 4); all in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// Time between two beats.
    pub interval_ms: u64,
    /// Missed beats until a link is down.
    pub sensitivity: u64,
    /// Time between two heartbeats of the log's leader.
    pub raft_heartbeat_ms: u64,
    /// Least election timeout.
    pub election_min_ms: u64,
    /// Greatest election timeout, and the leader's lease.
    pub election_max_ms: u64,
    /// A node's lease.
    pub lease_ms: u64,
    /// Longest time the guard may need to release everything.
    pub release_max_ms: u64,
}

impl Timing {
    /// The default profile: a silent node is declared down after one second. For round trips of up to 60 ms.
    pub const DEFAULT: Self = Self {
        interval_ms: 200,
        sensitivity: 5,
        raft_heartbeat_ms: 100,
        election_min_ms: 250,
        election_max_ms: 400,
        lease_ms: 800,
        release_max_ms: 300,
    };

    /// The fast profile: a silent node is declared down after 0.2 s. For round trips of up to 8 ms.
    pub const FAST: Self = Self {
        interval_ms: 25,
        sensitivity: 8,
        raft_heartbeat_ms: 15,
        election_min_ms: 45,
        election_max_ms: 85,
        lease_ms: 200,
        release_max_ms: 100,
    };

    /// The profile for nodes that are far from each other: a silent one is declared down after four seconds. For
    /// round trips of up to 250 ms.
    pub const WIDE: Self = Self {
        interval_ms: 500,
        sensitivity: 8,
        raft_heartbeat_ms: 420,
        election_min_ms: 1_000,
        election_max_ms: 1_600,
        lease_ms: 3_200,
        release_max_ms: 1_000,
    };

    /// The profiles by name.
    pub const PROFILES: &[(&str, Self)] =
        &[("default", Self::DEFAULT), ("fast", Self::FAST), ("wide", Self::WIDE)];

    /// The name of the profile whose timers these are.
    pub fn profile(&self) -> Option<&'static str> {
        Self::PROFILES.iter().find(|(_, timing)| timing == self).map(|(name, _)| *name)
    }

    /// The longest round trip that they allow for. An answer to a heartbeat of the log counts until the next one is due,
    /// and one that takes longer than three quarters of that may come too late on a busy machine; an election takes a
    /// round trip besides its timeouts, and a lease is granted one after a beat.
    pub const fn round_trip_max(&self) -> Duration {
        let log = self.raft_heartbeat_ms * 3 / 4;
        let detect = self.interval_ms.saturating_mul(self.sensitivity);
        let election = detect.saturating_sub(self.election_max_ms.saturating_mul(2));
        let lease = self.lease_ms.saturating_sub(self.interval_ms);
        let least = if log < election { log } else { election };
        Duration::from_millis(if least < lease { least } else { lease })
    }

    /// Whether a round trip comes near to what they allow for; one that was found to stays so until it is clearly
    /// shorter.
    pub fn is_near_its_end(&self, round_trip: Duration, before: bool) -> bool {
        let most = self.round_trip_max();
        if before { round_trip * 3 > most * 2 } else { round_trip * 5 > most * 4 }
    }

    /// Silence after which a link is down.
    pub const fn detect(&self) -> Duration {
        Duration::from_millis(self.interval_ms * self.sensitivity)
    }

    /// Time between two beats.
    pub const fn interval(&self) -> Duration {
        Duration::from_millis(self.interval_ms)
    }

    /// What of it the log is opened with.
    pub const fn log(&self) -> LogTiming {
        LogTiming {
            heartbeat_ms: self.raft_heartbeat_ms,
            election_min_ms: self.election_min_ms,
            election_max_ms: self.election_max_ms,
        }
    }

    /// The timer contract (architecture, invariant 4), with 20 ms for a round trip and 20 ms of
    /// margin: an election must be over before a silent node is declared down, and a lease with its
    /// release before the same moment has passed twice.
    ///
    /// # Errors
    /// The first rule that does not hold, with the values.
    pub fn check(&self) -> Result<(), Refusal> {
        const ROUND_TRIP_MS: u64 = 20;
        const MARGIN_MS: u64 = 20;
        let refuse = |what: String, advice: &str| Err(Refusal::new("timer_contract", what, advice));
        if self.interval_ms < 5 || self.sensitivity < 3 || self.interval_ms > 60_000 {
            return refuse(
                format!(
                    "a beat every {} ms with sensitivity {} is out of range",
                    self.interval_ms, self.sensitivity
                ),
                "Use an interval of 5 to 60000 ms and a sensitivity of at least 3.",
            );
        }
        let detect = self.interval_ms.saturating_mul(self.sensitivity);
        if self.election_min_ms >= self.election_max_ms
            || self.raft_heartbeat_ms.saturating_mul(3) > self.election_max_ms
        {
            return refuse(
                format!(
                    "an election timeout of {} to {} ms does not fit a log heartbeat of {} ms",
                    self.election_min_ms, self.election_max_ms, self.raft_heartbeat_ms
                ),
                "Make the least timeout smaller than the greatest, and that at least three heartbeats.",
            );
        }
        if self.election_max_ms.saturating_mul(2) + ROUND_TRIP_MS >= detect {
            return refuse(
                format!(
                    "detection after {detect} ms does not leave time for an election of up to 2 x {} ms",
                    self.election_max_ms
                ),
                "Raise interval or sensitivity, or lower the election timeout.",
            );
        }
        if self.lease_ms + self.release_max_ms + MARGIN_MS >= detect.saturating_mul(2) {
            return refuse(
                format!(
                    "a lease of {} ms and a release of up to {} ms do not end before a takeover after {} ms",
                    self.lease_ms,
                    self.release_max_ms,
                    detect * 2
                ),
                "Lower the lease or the release time, or raise interval or sensitivity.",
            );
        }
        Ok(())
    }
}

/// The timers of the log, in milliseconds. They are given when it is opened, and a change of them
/// takes effect when it is opened again (see [`crate::work::Task::Renew`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LogTiming {
    /// Time between two heartbeats of the leader.
    pub heartbeat_ms: u64,
    /// Least election timeout.
    pub election_min_ms: u64,
    /// Greatest election timeout, and the leader's lease.
    pub election_max_ms: u64,
}

impl std::fmt::Display for LogTiming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { heartbeat_ms, election_min_ms, election_max_ms } = self;
        write!(f, "elections of {election_min_ms} to {election_max_ms} ms, ")?;
        write!(f, "a log heartbeat of {heartbeat_ms} ms")
    }
}

/// The error alert script: one text, the same on all members, every version kept (spec A14).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertScript {
    /// The version in force; 0 is the built-in script.
    pub active: u32,
    /// Every version that was ever saved, by number.
    pub versions: BTreeMap<u32, ScriptVersion>,
}

/// One version of the alert script.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScriptVersion {
    /// The whole text.
    pub text: String,
    /// SHA-256 of the text.
    pub sha256: Hash,
    /// Who saved it.
    pub author: String,
    /// Why.
    pub comment: String,
    /// When.
    pub at: WallTime,
}

/// How a run of the alert script ended (spec A14, A15).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunOutcome {
    /// The exit status, if it exited.
    pub exit: Option<i32>,
    /// The signal that ended it, if one did.
    pub signal: Option<i32>,
    /// Whether it was ended because it ran too long.
    pub timed_out: bool,
    /// Why it could not be started, if so.
    pub failure: Option<String>,
    /// The first part of what it printed, standard output and error together.
    pub output: String,
    /// Bytes of output that were thrown away.
    pub output_dropped: u64,
    /// How long it ran.
    pub duration_ms: u64,
    /// The version of the script.
    pub version: u32,
    /// What became of the transcript of all that it printed; none if it printed nothing, or none was wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transcript: Option<Transcript>,
}

/// What became of all that a program printed: kept on the node that ran it, and there alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transcript {
    /// It is kept under that name, such as `n2/12`.
    Kept(String),
    /// It is kept under that name as far as possible; the reason.
    Partly(String, String),
    /// It could not be kept; the reason.
    Lost(String),
}

impl Transcript {
    /// Its name, if there is one.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Kept(name) | Self::Partly(name, _) => Some(name),
            Self::Lost(_) => None,
        }
    }

    /// Where it is, or why there is none: the end of a sentence.
    pub fn words(&self) -> String {
        match self {
            Self::Kept(name) => format!("its whole output: vedette transcript show {name}"),
            Self::Partly(name, why) => {
                format!("part of its output ({why}): vedette transcript show {name}")
            }
            Self::Lost(why) => format!("its output was not kept: {why}"),
        }
    }
}

impl RunOutcome {
    /// Whether it exited with 0.
    pub fn succeeded(&self) -> bool {
        self.exit == Some(0) && !self.timed_out && self.failure.is_none()
    }

    /// The outcome in a few words: `exit status 0`, `timed out`, `killed by signal 9`, …
    pub fn summary(&self) -> String {
        match (&self.failure, self.timed_out, self.exit, self.signal) {
            (Some(why), ..) => format!("could not be started: {why}"),
            (None, true, ..) => "ended after it ran too long".into(),
            (None, false, Some(status), _) => format!("exit status {status}"),
            (None, false, None, Some(signal)) => format!("killed by signal {signal}"),
            (None, false, None, None) => "outcome not known".into(),
        }
    }
}

/// A test of the alert script that is under way (spec A15).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertTest {
    /// Log index of the request.
    pub id: u64,
    /// When it was asked for.
    pub at: WallTime,
    /// Who asked.
    pub actor: String,
    /// What the test alert says.
    pub message: String,
    /// Its severity.
    pub severity: Severity,
    /// Each chosen member, with its outcome once there is one.
    pub members: BTreeMap<NodeNumber, Option<RunOutcome>>,
}

/// A one-time permission to join (its secret is not stored, only the hash).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinToken {
    /// SHA-256 of the secret.
    pub hash: Hash,
    /// The number the node will have.
    pub number: NodeNumber,
    /// The name the node must have.
    pub name: String,
    /// When it stops being valid.
    pub expires_at: WallTime,
    /// Who issued it.
    pub actor: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// F4: each profile fulfils the contract of timers, and allows for the round trip that it is said to be for, with
    /// room before anything is told.
    #[test]
    fn f4_profiles_allow_for_their_round_trips() {
        for (name, round_trip_ms) in [("default", 60), ("fast", 8), ("wide", 250)] {
            let (_, timing) = Timing::PROFILES.iter().find(|(known, _)| *known == name).unwrap();
            timing.check().unwrap();
            assert_eq!(timing.profile(), Some(name));
            let said = Duration::from_millis(round_trip_ms);
            assert!(!timing.is_near_its_end(said, false), "{name}: {:?}", timing.round_trip_max());
            assert!(timing.is_near_its_end(timing.round_trip_max(), false));
        }
        assert_eq!(Timing { lease_ms: 801, ..Timing::DEFAULT }.profile(), None);
    }

    /// V8: the example of the specification, and a ten without members.
    #[test]
    fn membership_text_marks_tens() {
        let text = |members: &[u16]| {
            let members = members.iter().copied().map(NodeNumber).collect();
            Port { group: String::new(), generation: 1, members }.membership_text()
        };
        assert_eq!(text(&[0, 1, 12, 20, 21]), "01        ; 2        01");
        assert_eq!(text(&[0, 1, 11, 12]), "01        ;12");
        assert_eq!(text(&[1, 2, 3]), " 123");
        assert_eq!(text(&[]), "");
    }
}
