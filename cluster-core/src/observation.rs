//! What one node sees of the others: local, uncertain, and different from node to node.
//!
//! A guard makes a [`Report`]; its agent sends it to the director, whose [`crate::diagnosis`]
//! compares the reports of all nodes and proposes what shall be a fact.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::{NetworkNumber, NodeNumber, Session};
use crate::model::AgentStatus;

/// What one node sees of one peer over one network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkView {
    /// The peer.
    pub peer: NodeNumber,
    /// The network.
    pub network: NetworkNumber,
    /// Authentic, fresh packets of the peer arrive.
    pub inbound: bool,
    /// The peer says that ours arrive there.
    pub outbound: bool,
    /// Time since the last authentic packet of the peer; `None` if there never was one.
    pub silent: Option<Duration>,
    /// Smoothed round-trip time in microseconds, once measured.
    pub rtt_us: Option<u32>,
    /// Beats of the peer that never arrived, since this guard started.
    pub lost: u64,
    /// Beats of the peer that arrived.
    pub received: u64,
}

/// What one node sees of one peer over all networks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerView {
    /// The peer.
    pub peer: NodeNumber,
    /// The run of its guard, once known to be fresh.
    pub session: Option<Session>,
    /// What the peer's guard says of its agent.
    pub agent: AgentStatus,
    /// The peer said that it is leaving.
    pub leaving: bool,
    /// The epoch of the peer's guard, which grows each time that let go of everything; 0 if it said
    /// nothing yet.
    #[serde(default)]
    pub epoch: u64,
}

/// What one node knows of its own interface on one network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnInterface {
    /// The network.
    pub network: NetworkNumber,
    /// The address is on this host and packets can be sent from it.
    pub usable: bool,
    /// Whether the network's ping target answered, where one is configured and was tried (H4).
    pub probe: Option<bool>,
}

/// Everything one guard sees, at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Who sees it.
    pub observer: NodeNumber,
    /// The run of its guard.
    pub session: Session,
    /// Counts up with every report of that session.
    pub sequence: u64,
    /// The observer was late itself: it doubts its own view and may not testify against a peer.
    pub self_suspect: bool,
    /// The observer holds its lease: a director with a majority behind it heard it lately.
    pub lease: bool,
    /// The epoch of the observer's guard.
    #[serde(default)]
    pub epoch: u64,
    /// The observer's guard let go of everything when its lease ended, and took nothing since.
    #[serde(default)]
    pub released: bool,
    /// The observer's agent took part in the seeded cluster before this moment, in this run of its
    /// guard (see [`crate::command::Command::Office`]). It becomes true when the agent is RUNNING
    /// and has applied the office of the *present* leader to a state that is seeded; what the disk
    /// says of an earlier time does not count. It outlives the agent, not the guard.
    pub continuity: bool,
    /// Status of the observer's own agent.
    pub agent: AgentStatus,
    /// Every peer.
    pub peers: Vec<PeerView>,
    /// Every peer on every network it is watched on.
    pub links: Vec<LinkView>,
    /// Its own interfaces.
    pub interfaces: Vec<OwnInterface>,
}
