//! A lane: the way to one peer over one network, kept open.
//!
//! Each lane has a task that connects, works until the connection ends, and tries again: after a
//! growing pause, or at once when topology says that the link is back. When topology says that the
//! link went down the connection is dropped, so that whatever waits on it goes another way instead
//! of waiting for TCP to notice, and so that no connection sits in TCP's own long pauses when the
//! link comes back.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use vedette_core::id::{NetworkNumber, NodeNumber, StorageId};
use vedette_core::observation::LinkView;

use super::connection::{Connection, Ended};
use super::deletion::Deletion;
use super::dial::{Dial, DialError};
use super::hello::Hello;
use crate::pki::{self, Tls};

/// Longest time for TCP, TLS and hello together.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Longest pause: a peer that is back is found within this time even if nobody says so.
const LONGEST_PAUSE: Duration = Duration::from_millis(1_000);

/// What topology says of a link; the order is the order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LinkState {
    /// Both directions work.
    Alive,
    /// Nothing is known yet, or only one direction works, or long frames are lost.
    Unknown,
    /// The peer was heard and is not any more.
    Down,
}

impl LinkState {
    /// What a guard's view of a link means for connections.
    pub(crate) fn of(view: &LinkView) -> Self {
        match (view.inbound, view.outbound, view.silent) {
            (true, true, _) if !view.narrow => Self::Alive,
            (false, _, Some(_)) => Self::Down,
            _ => Self::Unknown,
        }
    }
}

/// How a lane stands.
#[derive(Clone, Debug)]
enum State {
    /// First attempt.
    Connecting,
    Open(Connection),
    /// The last attempt failed, or the connection ended; with the reason.
    Broken(String),
}

/// What topology knows of the link, as far as connections care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Link {
    state: LinkState,
    rtt_us: Option<u32>,
}

/// Where a lane leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Destination {
    pub(crate) peer: NodeNumber,
    pub(crate) storage: StorageId,
    pub(crate) network: NetworkNumber,
    pub(crate) from: Option<IpAddr>,
    pub(crate) to: SocketAddr,
}

/// The way to one peer over one network.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) destination: Destination,
    state: watch::Sender<State>,
    link: watch::Sender<Link>,
    deletion: Deletion,
}

/// A lane with its task; the task ends with it.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) lane: Arc<Lane>,
    task: AbortHandle,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.task.abort();
        self.lane.state.send_replace(State::Broken("the peer was removed".into()));
    }
}

impl Lane {
    /// A lane that is kept open from now on.
    pub(crate) fn keep(destination: Destination, tls: Tls, deletion: Deletion) -> Kept {
        let lane = Arc::new(Self {
            destination,
            deletion,
            state: watch::Sender::new(State::Connecting),
            link: watch::Sender::new(Link { state: LinkState::Unknown, rtt_us: None }),
        });
        let task = tokio::spawn(work(lane.clone(), tls)).abort_handle();
        Kept { lane, task }
    }

    /// What topology says of the link.
    pub(crate) fn set_link(&self, state: LinkState, rtt_us: Option<u32>) {
        let new = Link { state, rtt_us };
        self.link.send_if_modified(|link| {
            let changed = link.state != state;
            *link = new;
            changed
        });
    }

    /// What topology said of the link.
    pub(crate) fn link(&self) -> LinkState {
        self.link.borrow().state
    }

    /// How long a round trip takes, if beats have measured it.
    pub(crate) fn round_trip(&self) -> Option<Duration> {
        self.link.borrow().rtt_us.map(|us| Duration::from_micros(us.into()))
    }

    /// Lanes sort by this: what topology says, whether a request waits in vain, whether it is
    /// open, how long a round trip takes, the network's number.
    pub(crate) fn preference(&self) -> impl Ord + use<> {
        let link = *self.link.borrow();
        let (suspect, closed) = match &*self.state.borrow() {
            State::Open(connection) => (connection.suspect(), false),
            _ => (false, true),
        };
        let rtt = link.rtt_us.unwrap_or(u32::MAX);
        (link.state, suspect, closed, rtt, self.destination.network)
    }

    /// Why the lane is not open, if it is not.
    pub(crate) fn trouble(&self) -> Option<String> {
        match &*self.state.borrow() {
            State::Open(_) => None,
            State::Connecting => Some("connecting".into()),
            State::Broken(why) => Some(why.clone()),
        }
    }

    /// Sends a request over this lane. Waits while the first attempt to connect is under way; a
    /// broken lane fails at once.
    pub(crate) async fn request(&self, kind: u16, body: Arc<Vec<u8>>) -> Result<Vec<u8>, Ended> {
        let connection = self.settled().await;
        connection?.request(kind, body).await
    }

    /// The connection, once the first attempt is over. (A future of its own, so that no lock guard is
    /// part of a future that waits for an answer.)
    async fn settled(&self) -> Result<Connection, Ended> {
        let mut state = self.state.subscribe();
        let settled = state.wait_for(|state| !matches!(state, State::Connecting)).await;
        match settled.as_deref() {
            Ok(State::Open(connection)) => Ok(connection.clone()),
            Ok(State::Broken(why)) => Err(Ended::Lost(why.clone())),
            Ok(State::Connecting) | Err(_) => Err(Ended::Lost("it is not open".into())),
        }
    }

    /// Notes that a request waits too long here.
    pub(crate) fn doubt(&self) {
        if let State::Open(connection) = &*self.state.borrow() {
            connection.doubt();
        }
    }

    async fn dial(&self, tls: &Tls) -> Result<(Connection, impl Future<Output = String>), String> {
        let Destination { peer, storage, from, to, .. } = self.destination;
        let cluster = tls.own().cluster;
        let name = pki::server_name(cluster, peer).map_err(|why| why.to_string())?;
        let dial = Dial { from, to, tls: tls.client(), name, hello: Hello::ours(cluster) };
        let (stream, certified) = match timeout(CONNECT_WITHIN, dial.open()).await {
            Ok(Ok(opened)) => opened,
            Ok(Err(why)) => {
                if let DialError::Refused(refusal, by) = &why
                    && by.storage == storage
                {
                    self.deletion.refused(tokio::time::Instant::now(), peer, refusal);
                }
                return Err(why.to_string());
            }
            Err(_) => return Err(format!("no connection within {} s", CONNECT_WITHIN.as_secs())),
        };
        if certified.storage != storage {
            return Err(format!(
                "node {peer} has storage {}, but the member of that number has {storage}",
                certified.storage
            ));
        }
        let (connection, driver) = Connection::new(stream);
        Ok((connection, driver.run()))
    }
}

async fn work(lane: Arc<Lane>, tls: Tls) {
    let mut link = lane.link.subscribe();
    let mut pause = FIRST_PAUSE;
    loop {
        link.mark_unchanged();
        match lane.dial(&tls).await {
            Ok((connection, driver)) => {
                pause = FIRST_PAUSE;
                let _open = lane.deletion.opened();
                lane.state.send_replace(State::Open(connection));
                let why = tokio::select! {
                    why = driver => why,
                    () = becomes(&mut link, LinkState::Down) => "the link went down".into(),
                };
                lane.broken(why);
            }
            Err(why) => lane.broken(why),
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
            () = becomes(&mut link, LinkState::Alive) => pause = FIRST_PAUSE,
        }
    }
}

impl Lane {
    /// Notes why the lane is broken; logged when the reason is a new one.
    fn broken(&self, why: String) {
        let Destination { peer, network, to, .. } = &self.destination;
        if self.trouble().as_deref() != Some(&why) {
            tracing::info!(%peer, %network, %to, "peer not connected: {why}");
        }
        self.state.send_replace(State::Broken(why));
    }
}

/// Waits until topology's opinion changes to `wanted`.
async fn becomes(link: &mut watch::Receiver<Link>, wanted: LinkState) {
    loop {
        if link.changed().await.is_err() {
            // The lane is being dropped, and its task with it.
            return std::future::pending().await;
        }
        if link.borrow_and_update().state == wanted {
            return;
        }
    }
}
