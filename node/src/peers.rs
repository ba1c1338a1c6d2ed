//! How nodes talk to each other: requests and answers over mutual TLS, on every network at once.
//!
//! The intuition: a call goes to a *node*, not to an address. For each peer there is a [`Lane`] per
//! network, connected beforehand. A call takes the best one (alive, shortest round trip); if the
//! answer is not there after a short while, the same request goes out over the next one as well,
//! and the first answer wins. A network that is cut therefore costs a call some milliseconds until
//! topology has noticed, and nothing afterwards; it never costs the log an election.
//!
//! Invariants:
//!
//! - Who a peer is, comes from its verified certificate. Who may talk, comes from the roster, which
//!   follows the replicated state: a deleted node is refused although its certificate is valid.
//! - A request may arrive more than once, over two networks. Every kind of request must be
//!   harmless when repeated (log messages are; proposals carry a command id).
//! - Everything is bounded: sizes, queues, connections, times.

pub(crate) mod connection;
mod deletion;
pub(crate) mod dial;
pub mod frame;
pub mod hello;
pub mod kinds;
mod lane;
mod roster;
mod server;

pub use deletion::Deleted;
pub use roster::{Peer, Roster, members};
pub use server::{Counters, Limits, ListenError, PeerIdentity, Server, Service};

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use vedette_core::id::{NetworkNumber, NodeNumber};
use vedette_core::observation::LinkView;
use vedette_core::refusal::Refusal;

use connection::Ended;
use deletion::Deletion;
use lane::{Destination, Kept, Lane, LinkState};

use crate::pki::Tls;

/// A second network is tried after this time at the earliest.
const HEDGE_AFTER: Duration = Duration::from_millis(10);

/// Why a call brought no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// There is no way to the peer now; the request did not arrive, or it is not known whether.
    #[error("node {node} cannot be reached: {why}. See the links: vedette link list.")]
    Unreachable {
        /// The peer.
        node: NodeNumber,
        /// Why, for each network.
        why: String,
    },
    /// No answer in time; whether the request arrived is not known.
    #[error("node {node} did not answer within {} ms. See its log.", ttl.as_millis())]
    Timeout {
        /// The peer.
        node: NodeNumber,
        /// The time that was given.
        ttl: Duration,
    },
    /// The peer refused the request.
    #[error("{0}")]
    Refused(Refusal),
}

/// How the way to one peer over one network stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneStatus {
    /// The peer.
    pub peer: NodeNumber,
    /// The network.
    pub network: NetworkNumber,
    /// Why there is no connection, if there is none.
    pub trouble: Option<String>,
}

type Lanes = BTreeMap<(NodeNumber, NetworkNumber), Kept>;

/// The ways to all other members. Clones share them; they end with the last one.
#[derive(Clone, Debug)]
pub struct Peers {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    own: NodeNumber,
    tls: Tls,
    roster: Roster,
    lanes: Mutex<Lanes>,
    deletion: Deletion,
}

impl Peers {
    /// Knows nobody until [`Peers::update`]. To be used within a tokio runtime.
    pub fn new(tls: Tls) -> Self {
        let own = tls.own().number;
        let (roster, lanes, deletion) = (Roster::default(), Mutex::default(), Deletion::default());
        Self { shared: Arc::new(Shared { own, tls, roster, lanes, deletion }) }
    }

    /// Who is a member; to be given to the [`Server`].
    pub fn roster(&self) -> Roster {
        self.shared.roster.clone()
    }

    /// Who is a member from now on, this node included, which connects on each network from the
    /// address that it has there: connections to new members and addresses are opened, those to
    /// former ones end.
    pub fn update(&self, members: BTreeMap<NodeNumber, Peer>) {
        let own = members.get(&self.shared.own).map(|own| own.addresses.clone());
        let own = own.unwrap_or_default();
        let mut wanted: BTreeMap<_, Destination> = members
            .iter()
            .filter(|(number, _)| **number != self.shared.own)
            .flat_map(|(number, peer)| destinations(&own, *number, peer))
            .map(|destination| ((destination.peer, destination.network), destination))
            .collect();
        self.shared.roster.update(members);
        let mut lanes = self.lanes();
        lanes.retain(|key, kept| wanted.get(key) == Some(&kept.lane.destination));
        wanted.retain(|key, _| !lanes.contains_key(key));
        for (key, destination) in wanted {
            let (tls, deletion) = (self.shared.tls.clone(), self.shared.deletion.clone());
            lanes.insert(key, Lane::keep(destination, tls, deletion));
        }
    }

    /// What topology sees of the links now. A link that is not listed counts as unknown.
    pub fn set_links(&self, links: &[LinkView]) {
        let views: BTreeMap<_, _> = links.iter().map(|l| ((l.peer, l.network), l)).collect();
        for (key, kept) in self.lanes().iter() {
            match views.get(key) {
                Some(view) => kept.lane.set_link(LinkState::of(view), view.rtt_us),
                None => kept.lane.set_link(LinkState::Unknown, None),
            }
        }
    }

    /// Whether this node was deleted from the cluster, as the other members say; followed as it
    /// changes. `None` as long as any of them takes it in.
    pub fn deleted(&self) -> watch::Receiver<Option<Deleted>> {
        self.shared.deletion.subscribe()
    }

    /// How the ways to all peers stand.
    pub fn lane_statuses(&self) -> Vec<LaneStatus> {
        let status = |(key, kept): (&(NodeNumber, NetworkNumber), &Kept)| LaneStatus {
            peer: key.0,
            network: key.1,
            trouble: kept.lane.trouble(),
        };
        self.lanes().iter().map(status).collect()
    }

    /// Asks a peer and waits for the answer, at most `ttl`. The same request may reach the peer
    /// twice, over two networks.
    ///
    /// # Errors
    /// The peer is no member, cannot be reached, does not answer in time or refuses.
    pub async fn call(
        &self,
        to: NodeNumber,
        kind: u16,
        body: Vec<u8>,
        ttl: Duration,
    ) -> Result<Vec<u8>, CallError> {
        self.ask(to, (kind, body), ttl, |_| ttl / 4).await
    }

    /// The same for what a peer answers without delay: another network is tried as soon as an answer should
    /// be there by the round trips that beats have measured.
    ///
    /// # Errors
    /// As of [`Peers::call`].
    pub async fn call_promptly(
        &self,
        to: NodeNumber,
        kind: u16,
        body: Vec<u8>,
        ttl: Duration,
    ) -> Result<Vec<u8>, CallError> {
        self.ask(to, (kind, body), ttl, |best| best.round_trip().unwrap_or_default() * 2).await
    }

    /// Asks over the best lane, and over the next one too when `hedge` has passed.
    async fn ask(
        &self,
        to: NodeNumber,
        (kind, body): (u16, Vec<u8>),
        ttl: Duration,
        hedge: impl Fn(&Lane) -> Duration,
    ) -> Result<Vec<u8>, CallError> {
        let lanes = self.lanes_to(to)?;
        let hedge = lanes.first().map_or(HEDGE_AFTER, |best| HEDGE_AFTER.max(hedge(best)));
        match timeout(ttl, race(lanes, kind, Arc::new(body), hedge)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(Ended::Refused(refusal))) => Err(CallError::Refused(refusal)),
            Ok(Err(Ended::Lost(why))) => Err(CallError::Unreachable { node: to, why }),
            Err(_) => Err(CallError::Timeout { node: to, ttl }),
        }
    }

    /// The lanes to a peer that may work, best first.
    fn lanes_to(&self, to: NodeNumber) -> Result<Vec<Arc<Lane>>, CallError> {
        let all = (to, NetworkNumber(0))..=(to, NetworkNumber(u8::MAX));
        let mut lanes: Vec<Arc<Lane>> =
            self.lanes().range(all).map(|(_, kept)| kept.lane.clone()).collect();
        let unreachable = |why: &str| Err(CallError::Unreachable { node: to, why: why.into() });
        if lanes.is_empty() {
            let own = to == self.shared.own;
            return unreachable(if own { "it is this node itself" } else { "it is no member" });
        }
        lanes.retain(|lane| lane.link() != LinkState::Down);
        if lanes.is_empty() {
            return unreachable("all its links are down");
        }
        lanes.sort_by_cached_key(|lane| lane.preference());
        Ok(lanes)
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.shared.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The ways to a peer, each from this node's own address on that network.
fn destinations(
    own: &BTreeMap<NetworkNumber, SocketAddr>,
    number: NodeNumber,
    peer: &Peer,
) -> Vec<Destination> {
    let destination = |(network, address): (&NetworkNumber, &SocketAddr)| Destination {
        peer: number,
        storage: peer.storage,
        network: *network,
        from: own.get(network).map(SocketAddr::ip),
        to: *address,
    };
    peer.addresses.iter().map(destination).collect()
}

/// Sends over the first lane, over the next one too whenever `hedge` has passed or all before have
/// failed, and takes the first answer.
async fn race(
    lanes: Vec<Arc<Lane>>,
    kind: u16,
    body: Arc<Vec<u8>>,
    hedge: Duration,
) -> Result<Vec<u8>, Ended> {
    let mut untried = lanes.iter();
    let mut running = FuturesUnordered::new();
    let mut lost: Vec<String> = Vec::new();
    let attempt = |lane: &Arc<Lane>| {
        let (lane, body) = (lane.clone(), body.clone());
        async move {
            let network = lane.destination.network;
            let ended = lane.request(kind, body).await;
            ended.map_err(|end| (network, end))
        }
    };
    let mut last: Option<&Arc<Lane>> = None;
    loop {
        if running.is_empty() {
            let Some(lane) = untried.next() else { return Err(Ended::Lost(lost.join("; "))) };
            last = Some(lane);
            running.push(attempt(lane));
        }
        tokio::select! {
            biased;
            Some(ended) = running.next() => match ended {
                Ok(answer) => return Ok(answer),
                Err((_, Ended::Refused(refusal))) => return Err(Ended::Refused(refusal)),
                Err((network, Ended::Lost(why))) => lost.push(format!("network {network}: {why}")),
            },
            () = sleep(hedge), if untried.len() > 0 => {
                if let Some(slow) = last {
                    slow.doubt();
                }
                last = untried.next();
                running.extend(last.map(&attempt));
            }
        }
    }
}
