//! What one node sees of the others: local, uncertain, and different from node to node.
//!
//! A guard makes a [`Report`]; its agent sends it to the director, whose [`crate::diagnosis`]
//! compares the reports of all nodes and proposes what shall be a fact.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::{NetworkNumber, NodeNumber, Session};
use crate::model::{AgentStatus, Timing};
use crate::takeover::Remains;

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
    /// Its long beats do not arrive: frames of [`crate::wire::FRAME`] bytes are lost on the way.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub narrow: bool,
}

impl Report {
    /// The networks on which a peer is heard: those that lose its long beats, and the others.
    pub fn widths(&self, node: NodeNumber) -> (Vec<NetworkNumber>, Vec<NetworkNumber>) {
        let heard = self.links.iter().filter(|link| link.peer == node && link.inbound);
        let (narrow, wide): (Vec<_>, Vec<_>) = heard.partition(|link| link.narrow);
        let networks = |links: Vec<&LinkView>| links.iter().map(|link| link.network).collect();
        (networks(narrow), networks(wide))
    }
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
    /// Groups of earlier epochs of which something is still there, as the peer's guard says.
    #[serde(default, skip_serializing_if = "Remains::is_none")]
    pub remains: Remains,
    /// The peer's wall clock minus the own one, in microseconds; `None` while it is not heard, or
    /// was not measured lately.
    #[serde(default)]
    pub clock_offset_us: Option<i64>,
    /// Index of the last log entry that the peer's agent says it has applied; 0 while the peer is
    /// not heard or its agent does not say.
    #[serde(default)]
    pub position: u64,
    /// The peer says that its log stands still.
    #[serde(default)]
    pub log_stalled: bool,
    /// The highest position that this run of the observer's guard ever heard from that storage of
    /// the peer, whatever happened to agents meanwhile; 0 if none.
    #[serde(default)]
    pub position_max: u64,
    /// Microseconds since the last beat of that storage of the peer was accepted, on any network; since this run
    /// of the observer's guard began to listen for it, if none was.
    #[serde(default)]
    pub silent_us: u64,
    /// The clock of the peer's guard, in the run `session`, when it sent the newest beat that was accepted; 0 if none was.
    /// The report was made after that.
    #[serde(default)]
    pub sent_us: u64,
}

impl PeerView {
    /// Whether it says the same, how long ago and by whose clock aside.
    pub fn says_the_same(&self, other: &Self) -> bool {
        let (silent_us, sent_us) = (self.silent_us, self.sent_us);
        *self == Self { silent_us, sent_us, ..other.clone() }
    }

    /// A peer of which nothing was heard yet.
    pub const fn unheard(peer: NodeNumber) -> Self {
        Self {
            peer,
            session: None,
            agent: AgentStatus::Unknown,
            leaving: false,
            epoch: 0,
            remains: Remains(0),
            clock_offset_us: None,
            position: 0,
            log_stalled: false,
            position_max: 0,
            silent_us: 0,
            sent_us: 0,
        }
    }
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
    /// The clock of the observer's guard when it made the report, in microseconds.
    #[serde(default)]
    pub made_us: u64,
    /// The observer holds its lease: a majority of the voters heard it lately.
    pub lease: bool,
    /// The set of voters that its guard goes by ([`crate::lease::VoterSet::since`]).
    #[serde(default)]
    pub voters: u64,
    /// The timers that its guard goes by.
    #[serde(default)]
    pub timing: Option<Timing>,
    /// The observer is in touch with a director whom a majority confirms ([`crate::lease::Contact`]).
    #[serde(default)]
    pub directed: bool,
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
    /// Index of the last log entry that the observer's own agent has applied; 0 if unknown.
    #[serde(default)]
    pub position: u64,
    /// Every peer.
    pub peers: Vec<PeerView>,
    /// Every peer on every network it is watched on.
    pub links: Vec<LinkView>,
    /// Its own interfaces.
    pub interfaces: Vec<OwnInterface>,
}

impl Report {
    /// What the observer sees of a peer.
    pub fn peer(&self, node: NodeNumber) -> Option<&PeerView> {
        self.peers.iter().find(|view| view.peer == node)
    }

    /// The clock of a peer minus the observer's, in microseconds, where it is known now.
    pub fn clock_offset_of(&self, node: NodeNumber) -> Option<i64> {
        self.peer(node)?.clock_offset_us
    }

    /// How far the log of a node is, the observer itself included, where that is known now.
    pub fn position_of(&self, node: NodeNumber) -> Option<u64> {
        let own = (node == self.observer).then_some(self.position);
        own.or_else(|| Some(self.peer(node)?.position)).filter(|position| *position > 0)
    }

    /// The shortest of the round trips to a peer over the networks on which it is heard, in
    /// microseconds.
    pub fn round_trip_of(&self, node: NodeNumber) -> Option<u32> {
        let heard = self.links.iter().filter(|link| link.peer == node && link.inbound);
        heard.filter_map(|link| link.rtt_us).min()
    }
}
