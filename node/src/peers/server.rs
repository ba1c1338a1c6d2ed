//! The listening side: who may connect, and what they may ask.
//!
//! A connection passes three gates. TLS: a certificate, if one is shown, must be valid and of this
//! cluster. Roster: the node and storage it names must be a member now; a deleted node is refused
//! although its certificate is still valid. Hello: protocol, release and cluster must match.
//! Somebody without a certificate may ask one thing, to join, in a short message.
//!
//! Everything is bounded: handshakes in time and number (with places of their own for the
//! addresses of members, so that strangers cannot keep members out), connections, requests at a
//! time, message sizes, idle time. What is turned away is counted.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{fmt, io};

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use vedette_core::id::NodeNumber;
use vedette_core::refusal::Refusal;

use super::deletion::{NOT_A_MEMBER, NOT_KNOWN_YET};
use super::dial::{listen, tune};
use super::frame::{Assembly, LARGEST, LARGEST_FROM_STRANGER, Message, Outgoing, send, send_all};
use super::hello::Hello;
use super::kinds;
use super::roster::Roster;
use crate::pki::{self, CertifiedNode, Tls};

/// Who sent a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The member that its certificate names; `None` for somebody without a certificate.
    pub node: Option<NodeNumber>,
    /// From where the connection came.
    pub address: SocketAddr,
}

/// What answers requests.
pub trait Service: Send + Sync + 'static {
    /// Answers one request. Requests of one peer are answered side by side, and the same request
    /// may arrive twice (see [`super::Peers::call`]).
    fn call(
        &self,
        from: PeerIdentity,
        kind: u16,
        body: Vec<u8>,
    ) -> BoxFuture<'_, Result<Vec<u8>, Refusal>>;
}

/// Bounds of a server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest time for TLS and hello together.
    pub handshake: Duration,
    /// Members ask for a sign of life every second; a connection without is closed after this.
    pub idle: Duration,
    /// Connections of members; each uses one a network, two for a moment after a reconnect.
    pub members: usize,
    /// Connections of others, and handshakes under way from addresses that are no member's.
    pub strangers: usize,
    /// Longest time for a connection of somebody without a certificate, however busy.
    pub visit: Duration,
    /// Requests answered at a time, a connection.
    pub requests: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(5),
            idle: Duration::from_secs(30),
            members: 512,
            strangers: 16,
            visit: Duration::from_secs(60),
            requests: 64,
        }
    }
}

/// What a server did, since it started.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections that were accepted from TCP.
    pub connections: AtomicU64,
    /// Connections closed at once because there were too many.
    pub too_many: AtomicU64,
    /// Connections that failed in TLS or hello, or were refused there.
    pub turned_away: AtomicU64,
    /// Requests that were answered.
    pub requests: AtomicU64,
}

/// Why a server cannot listen.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen on {address} for peers: {why}. See who uses the port (`ss -ltnp`), or set \
     another peer_port for the network."
)]
pub struct ListenError {
    /// The address.
    pub address: SocketAddr,
    /// Why; said in the sentence already, so it is no `source` that would be said again.
    pub why: io::Error,
}

/// Listens on the node's own addresses until it is dropped.
#[derive(Debug)]
pub struct Server {
    gate: Arc<Gate>,
    /// By the address that is listened at.
    listeners: Mutex<BTreeMap<SocketAddr, Listener>>,
}

/// A port that is open; its connections end with it.
#[derive(Debug)]
struct Listener(JoinHandle<()>);

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Server {
    /// Listens on every one of `addresses`: those of this node, one a network.
    ///
    /// # Errors
    /// A port is taken, or this is not a tokio runtime with I/O.
    pub fn start(
        addresses: &[SocketAddr],
        tls: Tls,
        roster: Roster,
        service: Arc<dyn Service>,
        limits: Limits,
    ) -> Result<Self, ListenError> {
        let gate = Arc::new(Gate {
            tls,
            roster,
            service,
            limits,
            counters: Arc::default(),
            members: Arc::new(Semaphore::new(limits.members)),
            strangers: Arc::new(Semaphore::new(limits.strangers)),
        });
        let server = Self { gate, listeners: Mutex::default() };
        match server.listen_on(addresses).pop() {
            None => Ok(server),
            Some(error) => Err(error),
        }
    }

    /// Listens on exactly these addresses from now on. What stays is not disturbed; connections to an
    /// address that goes end with it. Answers what could not be opened; asking again tries again.
    pub fn listen_on(&self, addresses: &[SocketAddr]) -> Vec<ListenError> {
        let mut wanted: BTreeSet<SocketAddr> = addresses.iter().copied().collect();
        let mut listeners = self.listeners();
        listeners.retain(|address, _| wanted.contains(address));
        wanted.retain(|address| !listeners.contains_key(address));
        let mut errors = Vec::new();
        for address in wanted {
            match self.open(address) {
                Ok((bound, listener)) => drop(listeners.insert(bound, listener)),
                Err(why) => errors.push(ListenError { address, why }),
            }
        }
        errors
    }

    fn open(&self, address: SocketAddr) -> io::Result<(SocketAddr, Listener)> {
        let listener = listen(address)?;
        let bound = listener.local_addr()?;
        Ok((bound, Listener(tokio::spawn(self.gate.clone().accept(listener)))))
    }

    /// Where it listens.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners().keys().copied().collect()
    }

    /// What it did so far.
    pub fn counters(&self) -> &Counters {
        &self.gate.counters
    }

    fn listeners(&self) -> MutexGuard<'_, BTreeMap<SocketAddr, Listener>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What every connection passes.
struct Gate {
    tls: Tls,
    roster: Roster,
    service: Arc<dyn Service>,
    limits: Limits,
    counters: Arc<Counters>,
    members: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Gate {
    async fn accept(self: Arc<Self>, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                Some(_) = connections.join_next() => continue,
            };
            match accepted {
                Ok((tcp, address)) => {
                    self.counters.connections.fetch_add(1, Ordering::Relaxed);
                    let Some(place) = self.place(address.ip()) else { continue };
                    connections.spawn(self.clone().admit(tcp, address, place));
                }
                // As when there are no file descriptors left: pause, so as not to spin.
                Err(error) => {
                    tracing::warn!("cannot accept connections of peers: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// A place for a connection from there, if one is left.
    fn place(&self, address: IpAddr) -> Option<OwnedSemaphorePermit> {
        let places = if self.roster.has_address(address) { &self.members } else { &self.strangers };
        let place = places.clone().try_acquire_owned().ok();
        if place.is_none() {
            self.counters.too_many.fetch_add(1, Ordering::Relaxed);
        }
        place
    }

    async fn admit(
        self: Arc<Self>,
        tcp: TcpStream,
        address: SocketAddr,
        place: OwnedSemaphorePermit,
    ) {
        let entered = timeout(self.limits.handshake, self.handshake(tcp, address)).await;
        let why = match entered {
            Ok(Ok((stream, certified))) => {
                self.serve(stream, address, certified).await;
                drop(place);
                return;
            }
            Ok(Err(why)) => why,
            Err(_) => "no hello in time".into(),
        };
        self.counters.turned_away.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(%address, "connection turned away: {why}");
    }

    async fn handshake(
        &self,
        tcp: TcpStream,
        address: SocketAddr,
    ) -> Result<(TlsStream<TcpStream>, Option<CertifiedNode>), String> {
        let explain = |error: io::Error| pki::explain(&error);
        tune(&tcp).map_err(explain)?;
        let acceptor = TlsAcceptor::from(self.tls.server());
        let mut stream = acceptor.accept(tcp).await.map_err(explain)?;
        let checked = self.check(&mut stream, address).await.map_err(explain)?;
        let answer = match &checked {
            Ok(_) => serde_json::to_vec(&self.hello()).map(|body| (kinds::HELLO, body)),
            Err(refusal) => serde_json::to_vec(refusal).map(|body| (kinds::REFUSED, body)),
        };
        let (kind, body) = answer.map_err(|error| error.to_string())?;
        send(&mut stream, &Outgoing::new(0, kind, body)).await.map_err(explain)?;
        match checked {
            Ok(certified) => Ok((stream, certified)),
            Err(refusal) => {
                say_goodbye(&mut stream).await;
                Err(refusal.to_string())
            }
        }
    }

    fn hello(&self) -> Hello {
        Hello::ours(self.tls.own().cluster)
    }

    /// Reads the peer's hello: whose certificate it shows, or why it is refused.
    async fn check(
        &self,
        stream: &mut TlsStream<TcpStream>,
        address: SocketAddr,
    ) -> io::Result<Result<Option<CertifiedNode>, Refusal>> {
        let message = Assembly::new(LARGEST_FROM_STRANGER).read(stream).await?;
        let theirs: Hello = serde_json::from_slice(&message.body)?;
        if message.kind != kinds::HELLO {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "no hello"));
        }
        if let Err(refusal) = self.hello().check(&theirs) {
            return Ok(Err(refusal));
        }
        let chain = stream.get_ref().1.peer_certificates();
        let Some(cert) = chain.and_then(|chain| chain.first()) else { return Ok(Ok(None)) };
        let admitted = pki::certified_node(cert)
            .map_err(|why| Refusal::new("not_a_node", why.to_string(), "Join this cluster first."))
            .and_then(|certified| self.check_member(certified, address).map(|()| Some(certified)));
        Ok(admitted)
    }

    fn check_member(&self, certified: CertifiedNode, address: SocketAddr) -> Result<(), Refusal> {
        if certified.cluster == self.tls.own().cluster
            && self.roster.is_member(certified.number, certified.storage)
        {
            return Ok(());
        }
        let CertifiedNode { number, storage, .. } = certified;
        let whom = format!("node {number} at {} with storage {storage}", address.ip());
        if self.roster.outdated() {
            return Err(Refusal::new(
                NOT_KNOWN_YET,
                format!("{whom} is not known here, but this node may not know all members yet"),
                "The asking node repeats it by itself.",
            ));
        }
        Err(Refusal::new(
            NOT_A_MEMBER,
            format!("{whom} is not a member of this cluster (any more)"),
            "If it shall be one, add it again: vedette node add NODE.",
        ))
    }

    /// Answers requests until the connection ends.
    async fn serve(
        &self,
        stream: TlsStream<TcpStream>,
        address: SocketAddr,
        certified: Option<CertifiedNode>,
    ) {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let (answers, queue) = mpsc::channel(self.limits.requests * 2);
        let visit_over = async {
            match certified {
                Some(_) => std::future::pending().await,
                None => tokio::time::sleep(self.limits.visit).await,
            }
        };
        let end = tokio::select! {
            end = self.receive(&mut reader, answers, address, certified) => end,
            end = send_all(&mut writer, queue) => end,
            () = visit_over => Err(io::Error::other("the visit was over")),
        };
        if let Err(why) = end {
            tracing::debug!(%address, "connection of a peer ended: {}", pki::explain(&why));
        }
    }

    async fn receive(
        &self,
        reader: &mut (impl AsyncRead + Unpin),
        answers: mpsc::Sender<Outgoing>,
        address: SocketAddr,
        certified: Option<CertifiedNode>,
    ) -> io::Result<()> {
        let limit = if certified.is_some() { LARGEST } else { LARGEST_FROM_STRANGER };
        let from = PeerIdentity { node: certified.map(|certified| certified.number), address };
        let mut assembly = Assembly::new(limit);
        let requests = if certified.is_some() { self.limits.requests } else { 1 };
        let places = Arc::new(Semaphore::new(requests));
        loop {
            let message = timeout(self.limits.idle, assembly.read(reader)).await??;
            if let Some(certified) = certified
                && let Err(refusal) = self.check_member(certified, address)
            {
                return self.refuse(&answers, 0, &refusal).await;
            }
            if let Err(refusal) = check_kind(from, message.kind) {
                self.refuse(&answers, message.id, &refusal).await?;
            } else if message.kind == kinds::PING {
                queue(&answers, Outgoing::new(message.id, kinds::ANSWER, Vec::new())).await?;
            } else {
                let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
                self.answer(from, message, answers.clone(), place);
            }
        }
    }

    /// Answers a request on the side. It is finished even if the connection ends meanwhile: half
    /// of a join would be worse than one whose answer is lost.
    fn answer(
        &self,
        from: PeerIdentity,
        request: Message,
        answers: mpsc::Sender<Outgoing>,
        place: OwnedSemaphorePermit,
    ) {
        let (service, counters) = (self.service.clone(), self.counters.clone());
        tokio::spawn(async move {
            let Message { id, kind, body } = request;
            let answer = match service.call(from, kind, body).await {
                Ok(body) if body.len() <= LARGEST => Outgoing::new(id, kinds::ANSWER, body),
                Ok(body) => refused(id, &too_long(body.len())),
                Err(refusal) => refused(id, &refusal),
            };
            counters.requests.fetch_add(1, Ordering::Relaxed);
            // The asker may be gone.
            let _ = answers.send(answer).await;
            drop(place);
        });
    }

    async fn refuse(
        &self,
        answers: &mpsc::Sender<Outgoing>,
        id: u64,
        refusal: &Refusal,
    ) -> io::Result<()> {
        queue(answers, refused(id, refusal)).await
    }
}

async fn queue(answers: &mpsc::Sender<Outgoing>, message: Outgoing) -> io::Result<()> {
    answers.send(message).await.map_err(io::Error::other)
}

fn refused(id: u64, refusal: &Refusal) -> Outgoing {
    Outgoing::new(id, kinds::REFUSED, serde_json::to_vec(refusal).unwrap_or_default())
}

fn too_long(length: usize) -> Refusal {
    Refusal::new(
        "answer_too_long",
        format!("the answer has {length} bytes, and at most {LARGEST} can be sent"),
        "Ask for less at a time.",
    )
}

/// Whether somebody may ask this at all.
fn check_kind(from: PeerIdentity, kind: u16) -> Result<(), Refusal> {
    if from.node.is_none() && !matches!(kind, kinds::JOIN | kinds::PING) {
        return Err(Refusal::new(
            "certificate_required",
            format!(
                "{} has no certificate of this cluster, and may only ask to join",
                from.address
            ),
            "Join this cluster first: vedette join TOKEN.",
        ));
    }
    if kind >= kinds::RESERVED && kind != kinds::PING {
        return Err(Refusal::new(
            "unknown_kind",
            format!("there is no request of kind {kind}"),
            "Compare the versions of both nodes.",
        ));
    }
    Ok(())
}

/// Lets a refusal arrive: closing a socket with unread data in it would discard what was sent.
async fn say_goodbye(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    if stream.shutdown().await.is_ok() {
        let _ = stream.read(&mut [0; 64]).await;
    }
}
