//! Records: everything that happens, once, in one order, the same on every node.
//!
//! A record is made by [`crate::state::ClusterState::apply`] and nowhere else. Each carries the
//! hash of itself and the one before, so the histories of two nodes can be compared by one value
//! and a changed or missing row is found.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::id::{Hash, NetworkNumber, NodeNumber};
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
        }
    }

    /// The nodes, as numbers, then the network: the numbers that identify the subject.
    pub const fn numbers(&self) -> (u16, u16, u8) {
        match *self {
            Self::Cluster | Self::AlertScript => (0, 0, 0),
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
            _ => return None,
        })
    }
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
    /// SHA-256 over the hash of the record before and this one's content.
    pub hash: Hash,
}

impl Record {
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
        Hash(hasher.finalize().into())
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
