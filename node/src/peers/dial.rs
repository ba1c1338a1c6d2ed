//! Opening a connection: TCP from this node's own address on that network, TLS, hello.
//!
//! The own address is given, because otherwise the routing table could carry what was meant for
//! one network over another, and a dead network would look alive.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use vedette_core::refusal::Refusal;

use super::frame::{Assembly, LARGEST_FROM_STRANGER, Outgoing, send};
use super::hello::Hello;
use super::kinds;
use crate::pki::{self, CertifiedNode};

/// Data that is not acknowledged for this long ends the connection.
const UNACKNOWLEDGED: Duration = Duration::from_secs(5);

/// Why a connection could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// Nobody there, or not who was expected.
    #[error("{0}")]
    Failed(String),
    /// The peer, whose certificate this is, refuses.
    #[error("the peer refuses: {0}")]
    Refused(Refusal, CertifiedNode),
}

impl From<io::Error> for DialError {
    fn from(error: io::Error) -> Self {
        Self::Failed(pki::explain(&error))
    }
}

/// What is needed to open a connection.
pub(crate) struct Dial {
    /// The own address to use, if one is given.
    pub(crate) from: Option<IpAddr>,
    /// Where to.
    pub(crate) to: SocketAddr,
    /// Keys.
    pub(crate) tls: Arc<ClientConfig>,
    /// The name that the certificate must have.
    pub(crate) name: ServerName<'static>,
    /// What to say first.
    pub(crate) hello: Hello,
}

impl Dial {
    /// Opens the connection: the stream after both hellos, and whose certificate it is.
    pub(crate) async fn open(self) -> Result<(TlsStream<TcpStream>, CertifiedNode), DialError> {
        let tcp = connect(self.from, self.to).await?;
        tune(&tcp)?;
        let mut stream = TlsConnector::from(self.tls).connect(self.name, tcp).await?;
        let peer = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let peer = peer.ok_or_else(|| DialError::Failed("the peer shows no certificate".into()))?;
        let peer = pki::certified_node(peer).map_err(|why| DialError::Failed(why.to_string()))?;
        exchange_hello(&mut stream, &self.hello)
            .await?
            .map_err(|refusal| DialError::Refused(refusal, peer))?;
        Ok((stream, peer))
    }
}

/// Answers with the peer's refusal, or ours, if the two shall not talk.
async fn exchange_hello(
    stream: &mut TlsStream<TcpStream>,
    hello: &Hello,
) -> Result<Result<(), Refusal>, DialError> {
    let body = serde_json::to_vec(hello).map_err(io::Error::from)?;
    send(stream, &Outgoing::new(0, kinds::HELLO, body)).await?;
    let answer = Assembly::new(LARGEST_FROM_STRANGER).read(stream).await?;
    match answer.kind {
        kinds::HELLO => {
            let theirs: Hello = serde_json::from_slice(&answer.body).map_err(io::Error::from)?;
            Ok(hello.check(&theirs))
        }
        kinds::REFUSED => Ok(Err(refusal(&answer.body))),
        other => Err(DialError::Failed(format!("the peer answers hello with kind {other}"))),
    }
}

/// The refusal that a peer sent; one of ours if it cannot be read.
pub(crate) fn refusal(body: &[u8]) -> Refusal {
    serde_json::from_slice(body).unwrap_or_else(|why| {
        Refusal::new(
            "unreadable_refusal",
            format!("a peer refused, but its reason cannot be read ({why})"),
            "Compare the versions of both nodes.",
        )
    })
}

async fn connect(from: Option<IpAddr>, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(from) = from {
        socket.bind(SocketAddr::new(from, 0)).map_err(|why| {
            io::Error::new(why.kind(), format!("own address {from} cannot be used: {why}"))
        })?;
    }
    socket.connect(to).await
}

/// Small messages go out at once, and a dead peer is noticed.
pub(crate) fn tune(tcp: &TcpStream) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    SockRef::from(tcp).set_tcp_user_timeout(Some(UNACKNOWLEDGED))
}

/// A listener on an address of ours, also if the address is not there yet: a node whose one
/// network is missing must still start, and be reachable over it as soon as it is there.
pub(crate) fn listen(address: SocketAddr) -> io::Result<tokio::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv4() {
        socket.set_freebind_v4(true)?;
    } else {
        socket.set_freebind_v6(true)?;
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(256)?;
    tokio::net::TcpListener::from_std(socket.into())
}
