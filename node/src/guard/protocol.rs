//! What guard and agent say to each other: one JSON document a line, over a Unix socket.
//!
//! The agent sends [`Order`]s, the guard sends [`Notice`]s. A line has an end ([`LINE_MAX`]), and a
//! line that is no order closes the connection with a reason in the log: both ends come from the
//! same program, so there is nothing to be lenient about.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use vedette_core::id::{ClusterId, Hash, NetworkNumber, NodeNumber, Session, StorageId};
use vedette_core::model::{AgentStatus, Priority, Timing};
use vedette_core::observation::Report;

pub use vedette_core::holding::{Hold, Holding};

/// Name of the environment variable in which the agent finds the socket's path.
pub const SOCKET_VARIABLE: &str = "VEDETTE_GUARD_SOCKET";

/// The longest line, in bytes. A configuration of 999 nodes with eight networks fits.
pub const LINE_MAX: usize = 1 << 20;

/// What the agent wants of its guard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Order {
    /// Watch this cluster. Sent after connecting and whenever members, networks, timers or host
    /// statuses change. The guard goes on with the last one while it has no agent.
    Configure(Box<Configure>),
    /// How the agent is. To be sent at every change and at least once a second: an agent that is
    /// silent for five seconds is taken for hung and started anew.
    Status {
        /// Its status.
        status: AgentStatus,
        /// Set while it is director with a majority behind it.
        director: Option<Confirmed>,
        /// Whether it took part in the seeded cluster before this moment.
        continuity: bool,
        /// Index of the last log entry that it has applied; 0 if unknown. Rides along in every beat.
        #[serde(default)]
        position: u64,
        /// Its log stands still; said in a beat at once.
        #[serde(default)]
        log_stalled: bool,
    },
    /// What the node holds from now on; answered by [`Notice::Holding`]. To be sent before anything
    /// is acquired, and after anything was released. Nothing may be acquired before the answer says
    /// that it is accepted.
    Hold(Box<Hold>),
    /// The node is leaving on purpose: say so in every beat from now on.
    Leave,
    /// The agent will exit by itself, and the guard shall end after it.
    Shutdown,
}

/// A majority confirmed the agent's office as director.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confirmed {
    /// The term of the office.
    pub term: u64,
    /// How long ago, in microseconds, at the moment of sending.
    pub age_us: u64,
}

/// Everything the guard has to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Configure {
    /// This node.
    pub me: NodeNumber,
    /// Its storage: beats are sealed with it, so that an old copy of a node is a stranger.
    pub storage: StorageId,
    /// The cluster.
    pub cluster: ClusterId,
    /// The cluster's secret, 32 bytes in hexadecimal digits.
    pub key: Secret,
    /// Timers.
    pub timing: Timing,
    /// The networks on which this node has an address.
    pub networks: Vec<OwnNetwork>,
    /// The other members.
    pub peers: Vec<PeerNode>,
    /// Who votes: watched by everybody, and a lease comes from a majority of them.
    #[serde(default)]
    pub voters: Vec<NodeNumber>,
    /// Which set of voters that is ([`vedette_core::lease::VoterSet::since`]).
    #[serde(default)]
    pub voters_since: u64,
}

/// Thirty-two secret bytes; printed by nobody.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(Hash);

impl Secret {
    /// The secret with these bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Hash(bytes))
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// A network, and this node's place on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnNetwork {
    /// Its number.
    pub number: NetworkNumber,
    /// Its priority.
    pub priority: Priority,
    /// This node's address.
    pub address: IpAddr,
    /// UDP port of beats, the same on all nodes.
    pub port: u16,
    /// What to probe when a link is down (spec H4).
    pub ping: Option<IpAddr>,
}

/// Another member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerNode {
    /// Its number.
    pub number: NodeNumber,
    /// Its storage.
    pub storage: StorageId,
    /// Its committed host status is UP.
    pub live: bool,
    /// Its addresses, one a network.
    pub addresses: BTreeMap<NetworkNumber, IpAddr>,
}

/// What the guard tells its agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Notice {
    /// The first line of a connection.
    Welcome {
        /// The run of this guard.
        session: Session,
        /// The guard's version; it may be older than the agent's after an upgrade.
        version: String,
    },
    /// What the guard sees; at every change, and once a second.
    Report(Report),
    /// The answer to [`Order::Hold`], and what an agent that connects finds.
    Holding(Box<Holding>),
    /// The lease was granted again; said only while something is held. Whoever does not hear of it
    /// in time has to release ([`super::client::LeaseWatch`]).
    Lease {
        /// As in [`Holding`].
        until_us: u64,
    },
    /// The lease ended and the guard let go of everything, but for what it names.
    ReleasedAll {
        /// The new epoch.
        epoch: u64,
        /// When the lease had ended, in microseconds of `CLOCK_BOOTTIME`; 0 if it was none.
        #[serde(default)]
        ended_us: u64,
        /// When the last of what was held was gone.
        #[serde(default)]
        released_us: u64,
        /// The reaper had done it, as the guard stood still.
        #[serde(default)]
        reaper: bool,
        /// Groups of which release programs or the agent still take something away.
        #[serde(default)]
        left: Vec<String>,
    },
    /// How many packets did not count so far, by kind; sent when it changed.
    Rejected(BTreeMap<String, u64>),
    /// Something an operator should know, in two sentences: what and why, and what to do.
    Warning {
        /// The sentences.
        text: String,
    },
}

/// Why a line is not what was expected.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// It does not end.
    #[error("a line is longer than {LINE_MAX} bytes. Use the guard and the agent of one version")]
    TooLong,
    /// It cannot be understood.
    #[error("a line is not understood: {0}. Use the guard and the agent of one version")]
    Malformed(#[from] serde_json::Error),
}

/// Collects bytes until they make lines.
#[derive(Debug, Default)]
pub struct Lines {
    bytes: Vec<u8>,
    /// Up to here there is no line end.
    searched: usize,
}

impl Lines {
    /// Adds what was read.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next message, once a whole line is there.
    pub fn next_message<T: DeserializeOwned>(&mut self) -> Result<Option<T>, LineError> {
        let end = self.bytes[self.searched..].iter().position(|byte| *byte == b'\n');
        let length = end.map_or(self.bytes.len(), |end| self.searched + end);
        if length > LINE_MAX {
            return Err(LineError::TooLong);
        }
        if end.is_none() {
            self.searched = length;
            return Ok(None);
        }
        let message = serde_json::from_slice(&self.bytes[..length]);
        self.bytes.drain(..=length);
        self.searched = 0;
        Ok(Some(message?))
    }
}

/// The line for a message.
pub fn line(message: &impl Serialize) -> Vec<u8> {
    // These types have string keys only, so they always serialise; an empty line is refused there.
    let mut line = serde_json::to_vec(message).unwrap_or_default();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::hold::Held;

    fn configure() -> Order {
        let address = IpAddr::from([127, 0, 0, 1]);
        Order::Configure(Box::new(Configure {
            me: NodeNumber(1),
            storage: StorageId([1; 16]),
            cluster: ClusterId([1; 16]),
            key: Secret::new([0xab; 32]),
            timing: Timing::DEFAULT,
            networks: vec![OwnNetwork {
                number: NetworkNumber(1),
                priority: Priority::High,
                address,
                port: 7770,
                ping: Some(address),
            }],
            peers: vec![PeerNode {
                number: NodeNumber(2),
                storage: StorageId([2; 16]),
                live: true,
                addresses: BTreeMap::from([(NetworkNumber(1), address)]),
            }],
            voters: vec![NodeNumber(2)],
            voters_since: 7,
        }))
    }

    fn hold() -> Order {
        let address = IpAddr::from([10, 0, 0, 9]);
        let held = Held {
            addresses: BTreeSet::from([crate::hold::HeldAddress {
                address,
                prefix: 24,
                device: "eth0".into(),
            }]),
            groups: BTreeSet::from(["/sys/fs/cgroup/vedette/web".into()]),
            units: BTreeSet::from(["web.service".into()]),
            engines: BTreeSet::from(["web.slice".into()]),
            ..Held::default()
        };
        let (known, anew) = ([address].into(), [7].into());
        Order::Hold(Box::new(Hold { sequence: 1, epoch: 2, known, held, anew }))
    }

    fn orders() -> Vec<Order> {
        let director = Some(Confirmed { term: 3, age_us: 10 });
        vec![
            configure(),
            hold(),
            Order::Status {
                status: AgentStatus::Running,
                director,
                continuity: true,
                position: 4_711,
                log_stalled: true,
            },
            Order::Leave,
            Order::Shutdown,
        ]
    }

    #[test]
    fn the_key_travels_but_is_not_printed() {
        assert!(String::from_utf8(line(&configure())).unwrap().contains(&"ab".repeat(32)));
        let printed = format!("{:?}", configure());
        assert!(!printed.contains("abab") && !printed.contains("171"));
    }

    /// An agent of an earlier build says nothing of its log.
    #[test]
    fn a_status_without_a_log_is_understood() {
        let mut lines = Lines::default();
        lines.extend(br#"{"status":{"status":"RUNNING","director":null,"continuity":true}}"#);
        lines.extend(b"\n");
        let status = Order::Status {
            status: AgentStatus::Running,
            director: None,
            continuity: true,
            position: 0,
            log_stalled: false,
        };
        assert_eq!(lines.next_message().unwrap(), Some(status));
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut lines = Lines::default();
        lines.extend(&vec![b' '; LINE_MAX]);
        assert!(matches!(lines.next_message::<Order>(), Ok(None)));
        lines.extend(b"  ");
        assert!(matches!(lines.next_message::<Order>(), Err(LineError::TooLong)));
    }

    proptest! {
        /// However the bytes are cut into pieces, the same orders come out.
        #[test]
        fn orders_survive_any_cutting(pieces in proptest::collection::vec(1usize..200, 1..50)) {
            let bytes: Vec<u8> = orders().iter().flat_map(line).collect();
            let (mut lines, mut got, mut rest) = (Lines::default(), Vec::new(), &bytes[..]);
            for piece in pieces.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (now, later) = rest.split_at((*piece).min(rest.len()));
                lines.extend(now);
                rest = later;
                while let Some(order) = lines.next_message::<Order>().unwrap() {
                    got.push(order);
                }
            }
            prop_assert_eq!(got, orders());
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
            let mut lines = Lines::default();
            lines.extend(&bytes);
            while let Ok(Some(_)) = lines.next_message::<Order>() {}
        }

        #[test]
        fn a_line_of_rubbish_is_an_error(text in "[^\n]{0,200}") {
            let mut lines = Lines::default();
            lines.extend(text.as_bytes());
            lines.extend(b"\n");
            let known = matches!(text.trim(), "\"leave\"" | "\"shutdown\"");
            prop_assert_eq!(lines.next_message::<Order>().is_err(), !known);
        }
    }
}
